/*
 * SQL pipelines of the simulation: text through src/sql, tables in memory or files as sources,
 * the database or files as sinks, and a model of what must come out.
 *
 *     events (id, k, v, ts) of one or two sources -> 1 to 3 INSERTs of SHAPES -> tables
 *
 * The model shares nothing with the engine: it looks at all events at once, with loops. Times are
 * such that no row is late (the watermark's delay is greater than the disorder), except in runs
 * with "late", whose windows route late rows to a table: then what is in the windows and what is in
 * that table must together be everything, once.
 *
 * A last event far in the future closes all windows.
 *
 * Thread: fibers; one program at a time.
 */
#include "sim/broker.h"
#include "sim/run.h"

#include "base/buf.h"
#include "base/check.h"
#include "core/query.h"
#include "sim/fibers.h"
#include "sql/plan.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCES_MAX = 2, SHAPES_PER_RUN = 3, END_KEY = -1 };

static const int64_t january_us = INT64_C(1767225600000000); /* 2026-01-01 */
static const int64_t begin_us = INT64_C(1767225600000000) + INT64_C(86400000000);

enum shape {
    SHAPE_STATELESS,
    SHAPE_UPDATE,
    SHAPE_COMPLETE,
    SHAPE_WINDOWS,
    SHAPE_SLIDING,
    SHAPE_DEDUP,
    SHAPE_SESSIONS,
    SHAPE_JOIN,
    SHAPE_KINDS
};
static const char *const shape_names[SHAPE_KINDS] = {"stateless", "update", "complete", "windows",
                                                     "sliding",   "dedup",  "sessions", "pairs"};

struct event {
    int64_t id;
    int64_t k;
    int64_t v;
    int64_t ts_us;
    int64_t due_us; /* when it comes, after the run's begin */
    int partition;  /* Kafka: where it is */
    bool exposed;   /* Kafka: it went before everybody had to have read it */
};

enum source_kind { SOURCE_MEMORY, SOURCE_FILES, SOURCE_KAFKA };

struct source {
    const char *name;
    enum source_kind kind;
    char table[60];
    struct event *events;
    size_t count;
    size_t fed;
    unsigned step_rows;
    unsigned partitions;
    unsigned file_number;
};

struct output {
    enum shape shape;
    const char *name;
    bool files;
    struct db_table *table;
    struct rows rows;   /* scratch */
    int64_t high_water; /* rows seen before: output never shrinks */
};

struct program {
    struct world *world;
    struct database *db;
    struct source sources[SOURCES_MAX];
    size_t source_count;
    struct output outputs[SHAPES_PER_RUN];
    size_t output_count;
    struct db_table *late;
    bool has_late;
    int64_t window_us;
    int64_t slide_us;
    int64_t gap_us;
    int64_t bound_us;
    int64_t delay_us;
    int64_t start_us; /* monotonic */
    char *text;
    struct broker *broker; /* NULL: no Kafka in this run */
    bool loses;            /* what was not read may go: only the stateless shape is used then */
    bool fails_on_loss;
    bool recreated;
    bool truncated; /* the topic's log was cut: nothing comes after that */
    bool cut_what_was_read;
    bool exposed; /* some event is */
    const char *trigger;
    unsigned workers;
    uint64_t small_batch_bytes;
    uint64_t segment_bytes;
    uint32_t snapshot_every;
    uint32_t retain_batches;
    unsigned concurrent_outputs;
    uint32_t retries;
    struct mr_schema *schema;
    /* of one life */
    struct mr_sql_script *script;
    struct mr_sql_plan *plan;
    struct mr_query *query;
};

/* ---------------------------------------------------------------- input */

static void make_events(struct program *program, struct source *source, int64_t disorder_us)
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
        event->ts_us = begin_us + at_us - (int64_t)world_random(world, (uint64_t)disorder_us + 1);
        event->due_us = at_us;
        if (repeats && i > 0 && world_chance(world, 200)) { /* somebody sends it again */
            const struct event *before = &source->events[world_random(world, i)];

            if (before->ts_us >= begin_us + at_us - disorder_us) {
                *event = *before;
                event->due_us = at_us;
            }
        }
    }
    source->events[count] = (struct event){.id = (int64_t)count + 1,
                                           .k = END_KEY,
                                           .ts_us = begin_us + at_us + INT64_C(3600000000),
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
    int64_t us = event->ts_us - january_us;
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

/* Was it read by a batch that is committed? The newest one may have to run again. */
static bool was_read(void *arg, size_t tag)
{
    const struct program *program = arg;
    const struct output *output = stateless_of(program);
    int64_t newest = -1;
    const struct rows *rows;

    if (output == NULL)
        return false;
    rows = &output->table->rows;
    for (size_t i = 0; i < output->table->mark_count; i++)
        newest = MR_MAX(newest, output->table->marks[i].batch);
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->rows[i].batch < newest &&
            rows->rows[i].values[0] == program->sources[0].events[tag].id)
            return true;
    }
    return false;
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

/* Things that happen to a cluster. */
static void trouble(struct program *program, struct source *source)
{
    struct world *world = program->world;

    if (source->partitions > 1 && world_strikes(world, FAULT_GROWN, 4))
        broker_grow(program->broker, source->name);
    if (!has_begun(program))
        return;
    if (world_strikes(world, FAULT_RETENTION, 20))
        broker_retain(program->broker, source->name, was_read,
                      program->loses && world_chance(world, 200), expose, program);
    if (program->loses && !program->truncated && !program->recreated &&
        world_strikes(world, FAULT_TRUNCATED, 12)) {
        /* What grows again behind the cut could not be told from what was read: nothing does. */
        program->truncated = true;
        source->count = source->fed;
        broker_truncate(
            program->broker, source->name,
            (int)world_random(world, (uint64_t)broker_partitions(program->broker, source->name)),
            1 + world_random(world, 6), cut_off, program);
    }
    if (program->loses && !program->recreated && !program->truncated &&
        world_strikes(world, FAULT_RECREATED, 12)) {
        program->recreated = program->exposed = true;
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
    char lines[16][160];
    const char *payloads[16];
    size_t tags[16];

    MR_ASSERT(to - from <= 16);
    for (size_t i = from; i < to; i++) {
        struct event *event = &source->events[i];

        event->partition = partition;
        event->exposed = program->recreated;
        print_event(event, lines[i - from], sizeof(lines[0]));
        payloads[i - from] = lines[i - from];
        tags[i - from] = i;
    }
    if (world_strikes(world, FAULT_ABORTED, 200)) {
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

static void sql_feed(struct program *program, bool all)
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

static bool sql_fed(const struct program *program)
{
    for (size_t s = 0; s < program->source_count; s++) {
        if (program->sources[s].fed < program->sources[s].count)
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- text */

static void write_source(struct program *program, struct mr_buf *text, struct source *source)
{
    struct world *world = program->world;
    long long delay_ms = (long long)program->delay_us / 1000;

    if (source->kind == SOURCE_KAFKA) {
        mr_buf_printf(text,
                      "CREATE TABLE %s (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, "
                      "WATERMARK FOR ts AS ts - INTERVAL '%lld "
                      "milliseconds') WITH (connector = 'kafka', brokers = 'sim:9092', topic = "
                      "'%s', format = 'json', start = 'earliest', fail_on_data_loss = '%s', "
                      "max_offsets_per_trigger = %u, min_partitions = %u);\n",
                      source->name, delay_ms, source->name,
                      program->fails_on_loss ? "true" : "false",
                      world_chance(world, 512) ? 0 : 1 + (unsigned)world_random(world, 20),
                      (unsigned)world_random(world, 5));
        return;
    }
    if (source->kind == SOURCE_FILES) {
        mr_buf_printf(text,
                      "CREATE TABLE %s (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, "
                      "WATERMARK FOR ts AS ts - INTERVAL '%lld "
                      "milliseconds') WITH (connector = 'file', path = '/in-%s', format = 'json', "
                      "max_files_per_trigger = %u);\n",
                      source->name, delay_ms, source->name,
                      1 + (unsigned)world_random(program->world, 4));
        return;
    }
    mr_buf_printf(text,
                  "CREATE TABLE %s (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts "
                  "AS ts - INTERVAL '%lld milliseconds') WITH (connector = 'memory', table = '%s', "
                  "partitions = %u, max_steps_per_trigger = %u);\n",
                  source->name, delay_ms, source->table, source->partitions,
                  (unsigned)world_random(program->world, 4));
}

static void write_query(struct program *program, struct mr_buf *text, const struct output *output)
{
    const char *late = program->has_late ? " ON LATE INTO late" : "";
    long long window_ms = (long long)program->window_us / 1000;
    long long slide_ms = (long long)program->slide_us / 1000;

    mr_buf_printf(text, "INSERT INTO %s ", output->name);
    switch (output->shape) {
    case SHAPE_STATELESS:
        mr_buf_add_str(text, "SELECT id, k, v * 3 - 1 AS w FROM a WHERE v % 3 <> 1;\n");
        break;
    case SHAPE_UPDATE:
    case SHAPE_COMPLETE:
        mr_buf_add_str(text, "SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM a GROUP BY "
                             "k;\n");
        break;
    case SHAPE_WINDOWS:
        mr_buf_printf(text,
                      "SELECT epoch_us(window_start) AS s, k, count(*) AS n, sum(v) AS t FROM a "
                      "GROUP BY window(ts, '%lld milliseconds'), k%s;\n",
                      window_ms, late);
        break;
    case SHAPE_SLIDING:
        mr_buf_printf(text,
                      "SELECT epoch_us(window_start) AS s, k, count(*) AS n, sum(v) AS t FROM a "
                      "GROUP BY window(ts, '%lld milliseconds', '%lld milliseconds'), k;\n",
                      window_ms, slide_ms);
        break;
    case SHAPE_DEDUP:
        mr_buf_add_str(text, "SELECT DISTINCT ON (id, ts) id, k, v FROM a;\n");
        break;
    case SHAPE_SESSIONS:
        mr_buf_printf(text,
                      "SELECT k, epoch_us(session_window.start) AS s, epoch_us(session_window.end) "
                      "AS e, count(*) AS n, sum(v) AS t FROM a GROUP BY session_window(ts, '%lld "
                      "milliseconds'), k;\n",
                      (long long)program->gap_us / 1000);
        break;
    default:
        mr_buf_printf(text,
                      "SELECT a.id AS i, b.id AS j, a.k AS k FROM a JOIN b ON a.k = b.k AND b.ts "
                      "BETWEEN a.ts AND a.ts + INTERVAL '%lld milliseconds';\n",
                      (long long)program->bound_us / 1000);
    }
}

static const char *mode_of(enum shape shape)
{
    return shape == SHAPE_UPDATE ? "update" : shape == SHAPE_COMPLETE ? "complete" : "append";
}

static void write_text(struct program *program)
{
    struct mr_buf text = MR_BUF_INIT;

    for (size_t i = 0; i < program->source_count; i++)
        write_source(program, &text, &program->sources[i]);
    for (size_t i = 0; i < program->output_count; i++) {
        const struct output *output = &program->outputs[i];

        if (output->files)
            mr_buf_printf(&text,
                          "CREATE TABLE %s WITH (connector = 'file', path = '/out-%s', format = "
                          "'json', output_mode = '%s');\n",
                          output->name, output->name, mode_of(output->shape));
        else
            mr_buf_printf(&text,
                          "CREATE TABLE %s WITH (connector = 'simdb', table = '%s', output_mode = "
                          "'%s');\n",
                          output->name, output->name, mode_of(output->shape));
    }
    if (program->has_late)
        mr_buf_add_str(&text, "CREATE TABLE late (id BIGINT, k BIGINT, v BIGINT) WITH (connector = "
                              "'simdb', table = 'late');\n");
    for (size_t i = 0; i < program->output_count; i++)
        write_query(program, &text, &program->outputs[i]);
    program->text = mr_buf_take(&text);
}

/* ---------------------------------------------------------------- making */

static void choose_shapes(struct program *program)
{
    struct world *world = program->world;
    size_t count = 1 + world_random(world, SHAPES_PER_RUN);

    for (size_t i = 0; i < count; i++) {
        enum shape shape = (enum shape)world_random(world, SHAPE_KINDS);
        struct output *output = &program->outputs[program->output_count];
        bool again = false;

        if (program->has_late)
            shape = SHAPE_WINDOWS;
        if (program->loses)
            shape = SHAPE_STATELESS;
        else if (program->sources[0].kind == SOURCE_KAFKA && program->sources[0].partitions > 1)
            shape = (enum shape)world_random(world, SHAPE_WINDOWS); /* no order of times */
        for (size_t k = 0; k < program->output_count; k++)
            again |= program->outputs[k].shape == shape;
        if (again)
            continue;
        program->output_count++;
        output->shape = shape;
        output->name = shape_names[shape];
        output->files = shape != SHAPE_COMPLETE && !program->has_late && !program->loses &&
                        world_chance(world, 300);
        if (!output->files)
            output->table = database_table(program->db, output->name);
        if (shape == SHAPE_JOIN)
            program->source_count = 2;
    }
}

static void choose_options(struct program *program)
{
    static const char *const triggers[] = {"asap", "1 second", "10 seconds", "300 milliseconds"};
    static const uint64_t small[] = {0, 0, 1000, 1 << 20};
    struct world *world = program->world;

    program->trigger = triggers[world_random(world, MR_ARRAY_SIZE(triggers))];
    program->workers = 1 + (unsigned)world_random(world, 4);
    program->small_batch_bytes = small[world_random(world, MR_ARRAY_SIZE(small))];
    program->segment_bytes = UINT64_C(16384) << world_random(world, 3);
    program->snapshot_every = (uint32_t)world_random(world, 4);
    program->retain_batches = world_chance(world, 700) ? 1 + (uint32_t)world_random(world, 3) : 100;
    program->concurrent_outputs = (unsigned)world_random(world, 3);
    program->retries = (uint32_t)world_random(world, 4);
}

static void describe(struct program *program)
{
    static const char *const kinds[] = {"memory ", "files ", "kafka "};
    char text[300];
    size_t used = (size_t)snprintf(
        text, sizeof(text), "sql%s",
        program->loses ? program->fails_on_loss ? " loses" : " loses, goes on" : "");

    for (size_t i = 0; i < program->output_count; i++)
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, " %s->%s", program->outputs[i].name,
                             program->outputs[i].files ? "files" : "db");
    snprintf(text + used, sizeof(text) - used,
             "%s, %s%u, trigger %s, workers %u, small %u, segment %u, snapshot %u, retain %u",
             program->has_late ? " late" : "", kinds[program->sources[0].kind],
             program->sources[0].partitions, program->trigger, program->workers,
             (unsigned)program->small_batch_bytes, (unsigned)program->segment_bytes,
             program->snapshot_every, program->retain_batches);
    program_describe(program->world, text);
}

static void choose_sources(struct program *program)
{
    struct world *world = program->world;

    if (world_chance(world, 340))
        program->broker = broker_new(world);
    program->fails_on_loss = world_chance(world, 700);
    program->loses = program->broker != NULL && world_chance(world, 256);
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        struct source *source = &program->sources[i];

        source->name = i == 0 ? "a" : "b";
        source->partitions = 1 + (unsigned)world_random(world, 3);
        source->kind = program->broker != NULL    ? SOURCE_KAFKA
                       : world_chance(world, 300) ? SOURCE_FILES
                                                  : SOURCE_MEMORY;
        if (i > 0 && program->broker != NULL)
            source->partitions = 1;
        if (program->broker != NULL)
            broker_make_topic(program->broker, source->name, (int)source->partitions);
    }
}

static struct program *sql_make(struct world *world, struct database *db)
{
    struct program *program = calloc(1, sizeof(*program));
    int64_t disorder_us;

    MR_ASSERT(program != NULL);
    program->world = world;
    program->db = db;
    program->source_count = 1;
    choose_sources(program);
    program->has_late = !program->loses && program->broker == NULL && world_chance(world, 150);
    choose_shapes(program);
    choose_options(program);
    disorder_us = (int64_t)world_random(world, 8000) * 1000;
    program->delay_us = program->has_late ? disorder_us / 8 : disorder_us + 1000;
    program->delay_us -= program->delay_us % 1000;
    program->window_us = (int64_t)(1 + world_random(world, 20)) * 1000000;
    program->slide_us = program->window_us / (int64_t)(1 + world_random(world, 3));
    program->slide_us -= program->slide_us % 1000;
    program->gap_us = (int64_t)(1 + world_random(world, 10)) * 1000000;
    program->bound_us = (int64_t)world_random(world, 10000) * 1000;
    MR_ASSERT(mr_schema_parse("id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP", 43, &program->schema,
                              NULL) == MR_OK);
    for (size_t i = 0; i < program->source_count; i++) {
        struct source *source = &program->sources[i];

        source->step_rows = 1 + (unsigned)world_random(world, 12);
        snprintf(source->table, sizeof(source->table), "sim-%s", source->name);
        make_events(program, source, disorder_us);
        if (source->kind == SOURCE_FILES) {
            char dir[40];

            snprintf(dir, sizeof(dir), "/in-%s", source->name);
            MR_ASSERT(mr_durable_mkdirs(mr_sim_env(world->sim), dir, NULL) == MR_OK);
        }
    }
    if (program->has_late)
        program->late = database_table(db, "late");
    write_text(program);
    describe(program);
    world_note(world, "%s", program->text);
    program->start_us = world_now_ns(world) / 1000;
    return program;
}

/* ---------------------------------------------------------------- lives */

static enum mr_status plan_text(struct program *program, bool last, struct mr_error *err)
{
    struct mr_sql_args args = {.env = &program->world->env};
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_printf(&text, "SET trigger = '%s';\nSET checkpoint = '/cp';\n%s",
                  last ? "until caught up" : program->trigger, program->text);
    status = mr_sql_script_parse("sim.sql", text.data, text.size, &program->script, err);
    mr_buf_release(&text);
    MR_TRY(status);
    return mr_sql_plan(program->script, &args, &program->plan, err);
}

static enum mr_status user_point(void *arg, const char *point, uint64_t batch_id,
                                 struct mr_error *err)
{
    struct program *program = arg;
    struct world *world = program->world;

    world_note(world, "batch %" PRIu64 " %s", batch_id, point);
    if (world->dead || strcmp(point, "ran") != 0)
        return MR_OK;
    if (world_strikes(world, FAULT_USER, 20))
        return MR_FAIL(err, MR_USER, "a function of the program failed");
    return MR_OK;
}

static enum mr_status sql_open(struct program *program, bool last, struct mr_error *err)
{
    struct mr_query_config *config;
    struct mr_graph *graph;

    MR_TRY(plan_text(program, last, err));
    config = &program->plan->config;
    config->workers = program->workers;
    config->parallel_min_bytes = 0;
    config->small_batch_bytes = program->small_batch_bytes;
    config->segment_bytes = program->segment_bytes;
    config->snapshot_every = program->snapshot_every;
    config->retain_batches = program->retain_batches;
    config->concurrent_outputs = program->concurrent_outputs;
    config->retries = program->retries;
    config->failpoint = user_point;
    config->failpoint_arg = program;
    graph = program->plan->graph;
    program->plan->graph = NULL;
    return mr_query_new(&program->world->env, graph, config, &program->query, err);
}

static enum mr_status sql_drive(struct program *program, struct mr_error *err)
{
    return mr_query_run(program->query, err);
}

static void sql_stop(struct program *program, bool graceful)
{
    mr_query_stop(program->query, graceful);
}

static void sql_close(struct program *program)
{
    mr_query_free(program->query);
    mr_sql_plan_free(program->plan);
    mr_sql_script_free(program->script);
    program->query = NULL;
    program->plan = NULL;
    program->script = NULL;
}

static bool sql_drained(struct program *program)
{
    MR_UNUSED(program);
    return false; /* "until caught up" ends by itself */
}

static bool sql_expects(struct program *program, enum mr_status status, const char *text)
{
    MR_UNUSED(text);
    if (status == MR_DATA_LOSS)
        return program->fails_on_loss && program->exposed;
    if (status == MR_UNAVAILABLE && program->world->faults[FAULT_BROKER_DOWN] > 0)
        return program->world->faults_on;
    return status == MR_USER && program->world->faults_on && program->world->faults[FAULT_USER] > 0;
}

/* ---------------------------------------------------------------- the model */

static int64_t floor_to(int64_t value, int64_t step)
{
    return value - ((value % step) + step) % step;
}

/* Adds an event to its group of `want`: values[0] and [1] are the key, [2] counts, [3] sums. */
static void add_to_group(struct rows *want, int64_t first, int64_t second, int64_t v,
                         int64_t max_at)
{
    struct row row = {.values = {first, second, 1, v}};

    for (size_t i = 0; i < want->count; i++) {
        struct row *group = &want->rows[i];

        if (group->values[0] != first || group->values[1] != second)
            continue;
        group->values[2]++;
        group->values[3] += v;
        if (max_at > 0)
            group->values[max_at] = MR_MAX(group->values[max_at], v);
        return;
    }
    if (max_at > 0)
        row.values[max_at] = v;
    rows_add(want, &row);
}

static void model_groups(const struct source *source, struct rows *want)
{
    for (size_t i = 0; i < source->count; i++)
        add_to_group(want, source->events[i].k, 0, source->events[i].v, 4);
    for (size_t i = 0; i < want->count; i++) {
        struct row *row = &want->rows[i];

        *row = (struct row){
            .values = {row->values[0], row->values[2], row->values[3], row->values[4]}};
    }
}

static void model_windows(const struct source *source, int64_t size_us, int64_t slide_us,
                          struct rows *want)
{
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &source->events[i];

        if (event->k == END_KEY)
            continue;
        for (int64_t start = floor_to(event->ts_us, slide_us); start > event->ts_us - size_us;
             start -= slide_us)
            add_to_group(want, start, event->k, event->v, 0);
    }
}

static int compare_times(const void *a, const void *b)
{
    const struct event *left = a, *right = b;

    if (left->k != right->k)
        return left->k < right->k ? -1 : 1;
    if (left->ts_us != right->ts_us)
        return left->ts_us < right->ts_us ? -1 : 1;
    return 0;
}

static void model_sessions(const struct source *source, int64_t gap_us, struct rows *want)
{
    struct event *sorted = calloc(source->count, sizeof(*sorted));
    struct row *open = NULL;

    MR_ASSERT(sorted != NULL);
    memcpy(sorted, source->events, source->count * sizeof(*sorted));
    qsort(sorted, source->count, sizeof(*sorted), compare_times);
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &sorted[i];

        if (event->k == END_KEY)
            continue;
        if (open == NULL || open->values[0] != event->k || event->ts_us > open->values[2]) {
            struct row row = {.values = {event->k, event->ts_us, event->ts_us + gap_us, 0, 0}};

            rows_add(want, &row);
            open = &want->rows[want->count - 1];
        }
        open->values[2] = event->ts_us + gap_us;
        open->values[3]++;
        open->values[4] += event->v;
    }
    free(sorted);
}

static void model_pairs(const struct program *program, struct rows *want)
{
    const struct source *a = &program->sources[0], *b = &program->sources[1];

    for (size_t i = 0; i < a->count; i++) {
        for (size_t k = 0; k < b->count; k++) {
            const struct event *left = &a->events[i], *right = &b->events[k];
            struct row row = {.values = {left->id, right->id, left->k}};

            if (left->k == right->k && right->ts_us >= left->ts_us &&
                right->ts_us <= left->ts_us + program->bound_us)
                rows_add(want, &row);
        }
    }
}

static void model_rows(const struct source *source, enum shape shape, struct rows *want)
{
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &source->events[i];
        struct row row = {
            .values = {event->id, event->k, shape == SHAPE_DEDUP ? event->v : event->v * 3 - 1}};
        bool seen = false;

        if (shape == SHAPE_STATELESS && event->v % 3 == 1)
            continue;
        for (size_t k = 0; shape == SHAPE_DEDUP && k < i; k++)
            seen |= source->events[k].id == event->id;
        if (!seen)
            rows_add(want, &row);
    }
}

static void model(const struct program *program, enum shape shape, struct rows *want)
{
    const struct source *source = &program->sources[0];

    if (shape == SHAPE_STATELESS || shape == SHAPE_DEDUP)
        model_rows(source, shape, want);
    else if (shape == SHAPE_UPDATE || shape == SHAPE_COMPLETE)
        model_groups(source, want);
    else if (shape == SHAPE_WINDOWS)
        model_windows(source, program->window_us, program->window_us, want);
    else if (shape == SHAPE_SLIDING)
        model_windows(source, program->window_us, program->slide_us, want);
    else if (shape == SHAPE_SESSIONS)
        model_sessions(source, program->gap_us, want);
    else
        model_pairs(program, want);
}

/* ---------------------------------------------------------------- output */

struct listing {
    char *names[2048];
    size_t count;
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct listing *listing = arg;

    if (kind == MR_KIND_FILE && strncmp(name, "part-", 5) == 0 && listing->count < 2048)
        listing->names[listing->count++] = strdup(name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What `cat` would show, in the order of batches. */
static void read_files(struct program *program, struct output *output)
{
    struct mr_env *env = world_outside(program->world);
    struct listing *listing = calloc(1, sizeof(*listing));
    char dir[60], path[200];

    MR_ASSERT(listing != NULL);
    rows_clear(&output->rows);
    snprintf(dir, sizeof(dir), "/out-%s", output->name);
    (void)mr_env_list(env, dir, add_name, listing, NULL);
    qsort(listing->names, listing->count, sizeof(char *), compare_names);
    for (size_t i = 0; i < listing->count; i++) {
        int64_t batch = strtoll(listing->names[i] + 5, NULL, 10);
        char *data = NULL;
        size_t size;

        snprintf(path, sizeof(path), "%s/%s", dir, listing->names[i]);
        MR_ASSERT(mr_durable_get(env, path, 1 << 22, &data, &size, NULL) == MR_OK);
        for (char *at = data; at < data + size; at = strchr(at, '\n') + 1) {
            struct row row = row_parse(at, batch);

            rows_add(&output->rows, &row);
            if (strchr(at, '\n') == NULL) {
                world_anomaly(program->world, "torn batch", "%s: '%s' does not end with a line",
                              output->name, path);
                break;
            }
        }
        mr_text_free(data);
        free(listing->names[i]);
    }
    free(listing);
}

static const struct rows *rows_of(struct program *program, struct output *output)
{
    if (!output->files)
        return &output->table->rows;
    read_files(program, output);
    return &output->rows;
}

static void copy_rows(struct rows *to, const struct rows *from)
{
    for (size_t i = 0; i < from->count; i++)
        rows_add(to, &from->rows[i]);
}

/* Update mode: a key's counts only grow, once a batch; its last row is the result. */
static void check_updates(struct program *program, const struct rows *have, struct rows *ret_last)
{
    for (size_t i = 0; i < have->count; i++) {
        const struct row *row = &have->rows[i];
        size_t k = 0;

        while (k < ret_last->count && ret_last->rows[k].values[0] != row->values[0])
            k++;
        if (k == ret_last->count) {
            rows_add(ret_last, row);
            continue;
        }
        if (row->batch == ret_last->rows[k].batch)
            world_anomaly(program->world, "duplicate",
                          "update: key %" PRId64 " twice in batch %" PRId64, row->values[0],
                          row->batch);
        if (row->values[1] <= ret_last->rows[k].values[1])
            world_anomaly(program->world, "stale state",
                          "update: key %" PRId64 " has count %" PRId64 " in batch %" PRId64
                          " and %" PRId64 " in batch %" PRId64,
                          row->values[0], ret_last->rows[k].values[1], ret_last->rows[k].batch,
                          row->values[1], row->batch);
        ret_last->rows[k] = *row;
    }
}

/* With one partition rows keep their order. */
static void check_order(struct program *program, const struct output *output,
                        const struct rows *have)
{
    const struct source *source = &program->sources[0];
    size_t at = 0;

    if (source->kind != SOURCE_MEMORY || source->partitions > 1 || output->files)
        return;
    for (size_t i = 0; i < have->count && program->world->anomaly[0] == '\0'; i++) {
        while (at < source->count && source->events[at].id != have->rows[i].values[0])
            at++;
        if (at == source->count)
            world_anomaly(program->world, "reordered", "%s: id %" PRId64 " of batch %" PRId64,
                          output->name, have->rows[i].values[0], have->rows[i].batch);
        at++;
    }
}

/* Late rows are added to the groups that missed them; then nothing is missing. */
static void add_late(struct program *program, struct rows *have)
{
    for (size_t i = 0; i < program->late->rows.count; i++) {
        const struct row *late = &program->late->rows.rows[i];

        for (size_t k = 0; k < program->sources[0].count; k++) {
            const struct event *event = &program->sources[0].events[k];

            if (event->id == late->values[0]) {
                add_to_group(have, floor_to(event->ts_us, program->window_us), event->k, event->v,
                             0);
                break;
            }
        }
    }
}

/* Going on without what was lost is what was asked for: what was exposed need not be there. */
static void forgive_lost(const struct program *program, const struct rows *have, struct rows *want)
{
    const struct source *source = &program->sources[0];
    size_t kept = 0;

    for (size_t i = 0; i < want->count; i++) {
        bool there = false, exposed = false;

        for (size_t k = 0; k < have->count && !there; k++)
            there = rows_compare(&have->rows[k], &want->rows[i]) == 0;
        for (size_t k = 0; k < source->count; k++)
            exposed |= source->events[k].exposed && source->events[k].id == want->rows[i].values[0];
        if (there || !exposed)
            want->rows[kept++] = want->rows[i];
    }
    want->count = kept;
}

static void check_output(struct program *program, struct output *output, bool whole)
{
    const struct rows *out = rows_of(program, output);
    struct rows want = {0}, have = {0};

    model(program, output->shape, &want);
    if (output->shape == SHAPE_UPDATE)
        check_updates(program, out, &have);
    else
        copy_rows(&have, out);
    if (output->shape == SHAPE_STATELESS)
        check_order(program, output, &have);
    if (!output->table || !output->table->replaces) {
        if ((int64_t)out->count < output->high_water)
            world_anomaly(program->world, "lost", "%s: %" PRId64 " rows became %zu", output->name,
                          output->high_water, out->count);
        output->high_water = (int64_t)out->count;
    }
    if (program->has_late)
        add_late(program, &have);
    if (whole && program->cut_what_was_read && program->fails_on_loss)
        world_anomaly(program->world, "silent skip",
                      "%s: read records were cut off, and that was "
                      "not noticed",
                      output->name);
    if (whole && program->exposed && (!program->fails_on_loss || program->truncated))
        forgive_lost(program, &have, &want);
    if (whole)
        rows_check(program->world, output->name, &have, &want);
    rows_release(&want);
    rows_release(&have);
}

static void sql_check(struct program *program, bool whole)
{
    for (size_t i = 0; i < program->output_count; i++)
        check_output(program, &program->outputs[i], whole);
}

static void sql_free(struct program *program)
{
    for (size_t i = 0; i < program->source_count; i++) {
        mr_memory_drop(program->sources[i].table);
        free(program->sources[i].events);
    }
    for (size_t i = 0; i < program->output_count; i++)
        rows_release(&program->outputs[i].rows);
    broker_free(program->broker);
    mr_schema_unref(program->schema);
    mr_text_free(program->text);
    free(program);
}

const struct program_ops sql_program = {
    .name = "sql",
    .make = sql_make,
    .open = sql_open,
    .drive = sql_drive,
    .stop = sql_stop,
    .close = sql_close,
    .feed = sql_feed,
    .fed = sql_fed,
    .drained = sql_drained,
    .expects = sql_expects,
    .check = sql_check,
    .free = sql_free,
};
