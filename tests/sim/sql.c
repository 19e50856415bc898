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
#include "sim/sql_program.h"

#include "base/buf.h"
#include "base/check.h"
#include "core/query.h"
#include "sql/plan.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const shape_names[SHAPE_KINDS] = {"stateless", "update", "complete", "windows",
                                                     "sliding",   "dedup",  "sessions", "pairs"};

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
    if (program->broker != NULL) {
        broker_manners(program->broker)->no_epochs = world_chance(world, 200);
        broker_manners(program->broker)->no_validation = world_chance(world, 512);
    }
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
        sql_make_events(program, source, disorder_us);
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
