/*
 * What goes into the SQL programs of the simulation: events into tables in memory, files and Kafka
 * topics, in steps and when they are due; and what happens to a Kafka cluster meanwhile.
 *
 * Thread: fibers.
 */
#include "sim/sql_program.h"

#include "base/buf.h"
#include "base/check.h"
#include "sim/fibers.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void sql_make_events(struct program *program, struct source *source, int64_t disorder_us)
{
    struct world *world = program->world;
    size_t count = 20 + world_random(world, 180);
    int64_t step_ms = 50 + (int64_t)world_random(world, 1500);
    uint64_t keys = 1 + world_random(world, 12);
    bool repeats = world_chance(world, 300);
    int64_t at_us = 0;

    source->events = calloc(count + 1, sizeof(struct event));
    MR_ASSERT(source->events != NULL);
    for (size_t i = 0; i < count; i++) {
        struct event *event = &source->events[i];

        at_us += (int64_t)world_random(world, (uint64_t)step_ms * 2) * 1000;
        event->id = (int64_t)i + 1;
        event->k = (int64_t)world_random(world, keys);
        event->v = (int64_t)world_random(world, 100);
        event->ts_us =
            SQL_BEGIN_US + at_us - (int64_t)world_random(world, (uint64_t)disorder_us + 1);
        event->due_us = at_us;
        if (repeats && i > 0 && world_chance(world, 200)) { /* somebody sends it again */
            const struct event *before = &source->events[world_random(world, i)];

            if (before->ts_us >= SQL_BEGIN_US + at_us - disorder_us) {
                *event = *before;
                event->due_us = at_us;
            }
        }
    }
    source->events[count] = (struct event){.id = (int64_t)count + 1,
                                           .k = END_KEY,
                                           .ts_us = SQL_BEGIN_US + at_us + INT64_C(3600000000),
                                           .due_us = INT64_MAX};
    source->count = count + 1;
}

static void feed_step(struct program *program, struct source *source, size_t from, size_t to)
{
    struct mr_batch_builder *builder;
    struct mr_batch *batch;

    MR_ASSERT(mr_batch_builder_new(program->schema, &builder, NULL) == MR_OK);
    for (size_t i = from; i < to; i++) {
        const struct event *event = &source->events[i];

        mr_batch_builder_int(builder, 0, event->id);
        mr_batch_builder_int(builder, 1, event->k);
        mr_batch_builder_int(builder, 2, event->v);
        mr_batch_builder_int(builder, 3, event->ts_us);
        mr_batch_builder_end_row(builder);
    }
    MR_ASSERT(mr_batch_builder_finish(builder, &batch, NULL) == MR_OK);
    mr_batch_builder_free(builder);
    fibers_alone_begin();
    MR_ASSERT(mr_memory_add(mr_memory_table(source->table), batch, NULL) == MR_OK);
    fibers_alone_end();
    mr_batch_unref(batch);
}

static void print_event(const struct event *event, char *text, size_t size)
{
    int64_t us = event->ts_us - SQL_JANUARY_US;
    int64_t seconds = us / 1000000;

    snprintf(text, size,
             "{\"id\":%" PRId64 ",\"k\":%" PRId64 ",\"v\":%" PRId64
             ",\"ts\":\"2026-01-%02dT%02d:%02d:"
             "%02d.%06dZ\"}",
             event->id, event->k, event->v, (int)(1 + seconds / 86400), (int)(seconds / 3600 % 24),
             (int)(seconds / 60 % 60), (int)(seconds % 60), (int)(us % 1000000));
}

static void feed_file(struct program *program, struct source *source, size_t from, size_t to)
{
    struct mr_env *env = world_outside(program->world);
    struct mr_buf text = MR_BUF_INIT;
    char name[40], dir[40];

    for (size_t i = from; i < to; i++) {
        char line[160];

        print_event(&source->events[i], line, sizeof(line));
        mr_buf_printf(&text, "%s\n", line);
    }
    snprintf(dir, sizeof(dir), "/in-%s", source->name);
    snprintf(name, sizeof(name), "f%05u.json", source->file_number++);
    MR_ASSERT(mr_durable_put(env, dir, name, text.data, text.size, true, NULL) == MR_OK);
    mr_env_sleep_ns(env, 1000000); /* files differ in age */
    mr_buf_release(&text);
}

/* ---- Kafka ---- */

static const struct output *stateless_of(const struct program *program)
{
    for (size_t i = 0; i < program->output_count; i++) {
        if (program->outputs[i].shape == SHAPE_STATELESS && !program->outputs[i].files)
            return &program->outputs[i];
    }
    return NULL;
}

/* Was it read by a batch that is committed? The newest one may have to run again. Of an event that
 * was sent again both: rows do not say which is which. */
static bool was_read(void *arg, size_t tag)
{
    const struct program *program = arg;
    const struct output *output = stateless_of(program);
    const struct source *source = &program->sources[0];
    int64_t newest = -1, id = source->events[tag].id;
    size_t wanted = 0, found = 0;
    const struct rows *rows;

    if (output == NULL)
        return false;
    rows = &output->table->rows;
    for (size_t i = 0; i < output->table->mark_count; i++)
        newest = MR_MAX(newest, output->table->marks[i].batch);
    for (size_t i = 0; i < rows->count; i++)
        found += rows->rows[i].batch < newest && rows->rows[i].values[0] == id;
    for (size_t i = 0; i < source->fed; i++)
        wanted += source->events[i].id == id;
    return found >= wanted && found > 0;
}

static void expose(void *arg, size_t tag)
{
    struct program *program = arg;

    program->exposed = true;
    if (tag < program->sources[0].count)
        program->sources[0].events[tag].exposed = true;
}

static void cut_off(void *arg, size_t tag)
{
    struct program *program = arg;

    program->cut_what_was_read |= was_read(program, tag);
    expose(program, tag);
}

static bool has_begun(const struct program *program)
{
    const struct output *output = stateless_of(program);

    return output != NULL && output->table->mark_count >= 2;
}

/*
 * A leader wins that had not everything. Where nobody tells epochs, what grows behind the cut could
 * not be told from what was read: nothing does.
 */
static void cut_log(struct program *program, struct source *source)
{
    struct world *world = program->world;
    int partition =
        (int)world_random(world, (uint64_t)broker_partitions(program->broker, source->name));

    program->truncated = true;
    program->regrows = !broker_manners(program->broker)->no_epochs;
    if (!program->regrows)
        source->count = source->fed;
    program->cut_partition = partition;
    program->regrown_at = broker_end(program->broker, source->name, partition);
    broker_truncate(program->broker, source->name, partition, 1 + world_random(world, 6), cut_off,
                    program);
}

/* Is the partition still where the cut log had been? */
static bool is_regrowing(const struct program *program, const struct source *source, int partition)
{
    return program->truncated && partition == program->cut_partition &&
           broker_end(program->broker, source->name, partition) < program->regrown_at;
}

/* Things that happen to a cluster. */
static void trouble(struct program *program, struct source *source)
{
    struct world *world = program->world;

    if (source->partitions > 1 && world_strikes(world, FAULT_GROWN, 4))
        broker_grow(program->broker, source->name);
    if (world_strikes(world, FAULT_ELECTED, 8))
        broker_elect(
            program->broker, source->name,
            (int)world_random(world, (uint64_t)broker_partitions(program->broker, source->name)));
    if (!has_begun(program))
        return;
    if (world_strikes(world, FAULT_RETENTION, 20))
        broker_retain(program->broker, source->name, was_read,
                      program->loses && world_chance(world, 200), expose, program);
    if (program->loses && !program->truncated && !program->recreated &&
        world_strikes(world, FAULT_TRUNCATED, 12)) {
        cut_log(program, source);
    }
    if (program->loses && !program->recreated && !program->truncated &&
        world_strikes(world, FAULT_RECREATED, 12)) {
        program->recreated = program->exposed = true;
        program->read_before_recreation = true;
        broker_recreate(program->broker, source->name, expose, program);
    }
}

static void feed_kafka(struct program *program, struct source *source, size_t from, size_t to)
{
    struct world *world = program->world;
    int partition =
        (int)world_random(world, (uint64_t)broker_partitions(program->broker, source->name));
    enum broker_transaction transaction =
        world_chance(world, 512) ? TRANSACTION_NONE : TRANSACTION_COMMITTED;
    int64_t ends_ns = world_now_ns(world);
    bool regrows = is_regrowing(program, source, partition);
    char lines[16][160];
    const char *payloads[16];
    size_t tags[16];

    MR_ASSERT(to - from <= 16);
    for (size_t i = from; i < to; i++) {
        struct event *event = &source->events[i];

        event->partition = partition;
        /* Who goes on behind a cut does not see what has taken the place of what was read. */
        event->exposed = program->recreated || regrows;
        program->exposed |= regrows;
        print_event(event, lines[i - from], sizeof(lines[0]));
        payloads[i - from] = lines[i - from];
        tags[i - from] = i;
    }
    if (regrows) /* what nobody can see, nobody can compare */
        transaction = TRANSACTION_NONE;
    else if (world_strikes(world, FAULT_ABORTED, 200)) {
        static const char aborted[] =
            "{\"id\":-77,\"k\":77,\"v\":77,\"ts\":\"2026-01-01T00:00:00Z\"}";
        const char *const bad[] = {aborted, aborted};
        const size_t bad_tags[] = {SIZE_MAX, SIZE_MAX};

        broker_produce(program->broker, source->name, partition, bad, bad_tags, 2,
                       TRANSACTION_ABORTED, ends_ns + (int64_t)world_random(world, 3000) * 1000000);
    }
    if (transaction != TRANSACTION_NONE && world_strikes(world, FAULT_HANGING, 100))
        ends_ns += (int64_t)world_random(world, 20000) * 1000000;
    broker_produce(program->broker, source->name, partition, payloads, tags, to - from, transaction,
                   ends_ns);
}

void sql_feed(struct program *program, bool all)
{
    int64_t at_us = world_now_ns(program->world) / 1000 - program->start_us;

    if (program->broker != NULL && program->world->faults_on)
        trouble(program, &program->sources[0]);
    for (size_t s = 0; s < program->source_count; s++) {
        struct source *source = &program->sources[s];

        while (source->fed < source->count &&
               (all || source->events[source->fed].due_us <= at_us)) {
            size_t to = source->fed;

            while (to < source->count && to - source->fed < source->step_rows &&
                   (all || source->events[to].due_us <= at_us))
                to++;
            if (source->kind == SOURCE_KAFKA)
                feed_kafka(program, source, source->fed, to);
            else if (source->kind == SOURCE_FILES)
                feed_file(program, source, source->fed, to);
            else
                feed_step(program, source, source->fed, to);
            source->fed = to;
        }
    }
    if (program->broker != NULL && !program->world->faults_on)
        broker_settle(program->broker);
}

bool sql_fed(const struct program *program)
{
    for (size_t s = 0; s < program->source_count; s++) {
        if (program->sources[s].fed < program->sources[s].count)
            return false;
    }
    return true;
}
