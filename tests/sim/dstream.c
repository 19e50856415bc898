/*
 * DStream programs of the simulation: a table in memory, a TCP server or a queue that wants
 * acknowledgements, through the operators of src/dstream, into the database.
 *
 *     input (key, id) -> raw                                        what each batch was given
 *                     -> sums       reduceByKey
 *                     -> totals     updateStateByKey
 *                     -> windows    reduceByKeyAndWindow, with and without the inverse
 *
 * The output operation writes a batch in one transaction with its time; the database knows batches
 * by (program, time). The oracle is a model over `raw`: each batch of the other tables must be what
 * loops over raw give; and raw against the input:
 *
 *     memory    everything once, in order
 *     socket    nothing twice; what is missing was delivered last in a life that did not end well
 *     queue     what was acknowledged is there; what comes twice was not acknowledged before
 *
 * Thread: fibers; one program at a time.
 */
#include "sim/peers.h"
#include "sim/run.h"

#include "base/check.h"
#include "dstream/streams.h"
#include "env/thread.h"
#include "sim/fibers.h"

#include <millrace/ext/memory.h>
#include <millrace/receiver.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum input_kind { INPUT_MEMORY, INPUT_SOCKET, INPUT_QUEUE };
enum { OUT_RAW, OUT_SUMS, OUT_TOTALS, OUT_WINDOWS, OUTPUTS };

static const char *const output_names[OUTPUTS] = {"raw", "sums", "totals", "windowed"};
static const char query_name[] = "program";

struct item {
    int64_t key;
    int64_t id;
    int64_t due_ns;
    unsigned puts; /* queue: how often it was handed over */
};

struct target {
    struct program *program;
    struct db_table *table;
};

struct program {
    struct world *world;
    struct database *db;
    enum input_kind input;
    struct item *items;
    size_t item_count;
    size_t fed;   /* memory */
    size_t acked; /* queue */
    struct peer *peer;
    unsigned step_rows;
    bool has[OUTPUTS];
    bool inverse;
    int64_t interval_ms;
    int64_t window_ms;
    int64_t slide_ms;
    int64_t block_interval_ms;
    unsigned workers;
    uint64_t small_batch_bytes;
    uint64_t segment_bytes;
    uint64_t queue_bytes;
    uint32_t snapshot_every;
    uint32_t retain_batches;
    uint64_t life;
    bool gentle[64]; /* lives that ended by a graceful stop */
    bool graceful;   /* asked for in this life */
    struct mr_schema *schema;
    struct target targets[OUTPUTS];
    struct mr_context *ctx;
    /* the receiver of the queue */
    struct mr_receiver_handle *handle;
    struct mr_thread *thread;
    bool thread_stops;
};

/* ---------------------------------------------------------------- input */

static void make_items(struct program *program)
{
    struct world *world = program->world;
    int64_t at_ns = world_now_ns(world);
    uint64_t keys = 1 + world_random(world, 8);
    uint64_t step_ms = 20 + world_random(world, 900);

    program->item_count = 30 + world_random(world, 250);
    program->items = calloc(program->item_count, sizeof(struct item));
    MR_ASSERT(program->items != NULL);
    for (size_t i = 0; i < program->item_count; i++) {
        at_ns += (int64_t)world_random(world, step_ms * 2) * 1000000;
        program->items[i] =
            (struct item){(int64_t)world_random(world, keys), (int64_t)i + 1, at_ns, 0};
    }
    if (program->input != INPUT_SOCKET)
        return;
    program->peer = peer_new(world, "9999");
    program->peer->lines = calloc(program->item_count, sizeof(struct peer_line));
    MR_ASSERT(program->peer->lines != NULL);
    program->peer->line_count = program->item_count;
    for (size_t i = 0; i < program->item_count; i++)
        program->peer->lines[i] = (struct peer_line){program->items[i].key, program->items[i].id,
                                                     program->items[i].due_ns, LINE_WAITS, 0};
}

static struct mr_batch *make_rows(const struct program *program, size_t from, size_t to)
{
    struct mr_batch_builder *builder;
    struct mr_batch *batch;

    MR_ASSERT(mr_batch_builder_new(program->schema, &builder, NULL) == MR_OK);
    for (size_t i = from; i < to; i++) {
        mr_batch_builder_int(builder, 0, program->items[i].key);
        mr_batch_builder_int(builder, 1, program->items[i].id);
        mr_batch_builder_end_row(builder);
    }
    MR_ASSERT(mr_batch_builder_finish(builder, &batch, NULL) == MR_OK);
    mr_batch_builder_free(builder);
    return batch;
}

static size_t due_until(const struct program *program, size_t from, size_t most, bool all)
{
    int64_t at_ns = world_now_ns(program->world);
    size_t to = from;

    while (to < program->item_count && to - from < most &&
           (all || program->items[to].due_ns <= at_ns))
        to++;
    return to;
}

static void ds_feed(struct program *program, bool all)
{
    size_t to;

    if (program->input != INPUT_MEMORY)
        return;
    while ((to = due_until(program, program->fed, program->step_rows, all)) > program->fed) {
        struct mr_batch *batch = make_rows(program, program->fed, to);

        fibers_alone_begin();
        MR_ASSERT(mr_memory_add(mr_memory_table("sim-ds"), batch, NULL) == MR_OK);
        fibers_alone_end();
        mr_batch_unref(batch);
        program->fed = to;
    }
}

/* The reliable receiver: hands rows over, and acknowledges them when that returns. */
static void queue_main(void *arg)
{
    struct program *program = arg;
    struct world *world = program->world;
    size_t at = program->acked;

    while (!program->thread_stops && !world->dead) {
        size_t to = due_until(program, at, 1 + world_random(world, 6), false);
        struct mr_batch *rows;
        enum mr_status status;

        if (to == at) {
            fibers_sleep_ns(100 * 1000000);
            continue;
        }
        rows = make_rows(program, at, to);
        for (size_t i = at; i < to; i++)
            program->items[i].puts++;
        status = mr_receiver_put_batch(program->handle, rows, NULL, NULL);
        mr_batch_unref(rows);
        if (status == MR_STOPPED || status == MR_IO)
            break;
        if (status != MR_OK)
            continue;
        at = to;
        if (world->dead)
            break;
        program->acked = to;
        world_note(world, "acknowledged up to %zu", to);
        if (world_strikes(world, FAULT_REFUSED, 30)) {
            mr_receiver_restart(program->handle, "the queue went away", 200);
            break;
        }
    }
}

static enum mr_status queue_start(struct mr_receiver_handle *receiver, void *arg,
                                  struct mr_error *err)
{
    struct program *program = arg;

    program->handle = receiver;
    program->thread_stops = false;
    return mr_thread_start("queue", queue_main, program, &program->thread, err);
}

static void queue_stop(struct mr_receiver_handle *receiver, void *arg)
{
    struct program *program = arg;

    (void)receiver;
    program->thread_stops = true;
    mr_thread_join(program->thread);
    program->thread = NULL;
}

static void subtract(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                     void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) - mr_row_int(b, 0));
}

static void parse_line(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice line = mr_row_text(row, 0);
    char text[64], *colon, *end;
    long long key, id;

    (void)arg;
    snprintf(text, sizeof(text), "%.*s", (int)line.size_bytes, (const char *)line.data);
    key = strtoll(text, &colon, 10);
    id = *colon == ':' ? strtoll(colon + 1, &end, 10) : 0;
    if (colon > text && *colon == ':' && end > colon + 1 && *end == ';')
        mr_emit_pair_int_int(out, key, id);
    else
        mr_emit_pair_int_int(out, -2, 0); /* it ended inside the line */
}

/* ---------------------------------------------------------------- output */

static enum mr_status write_out(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct target *target = arg;
    struct world *world = target->program->world;
    struct rows rows = {0};
    enum mr_status status = MR_OK;

    if (world_strikes(world, FAULT_USER, 10))
        return MR_FAIL(err, MR_USER, "the output operation failed");
    if (world_strikes(world, FAULT_USER_KILL, 6))
        world_die(world, false);
    for (uint32_t p = 0; p < mr_rdd_partition_count(rdd) && status == MR_OK; p++) {
        struct mr_batch *batch = NULL;

        status = mr_rdd_partition(rdd, p, &batch, err);
        for (struct mr_row at = {batch, 0}; status == MR_OK && at.index < mr_batch_row_count(batch);
             at.index++) {
            struct row row = {.values = {mr_row_int(&at, 0), mr_row_int(&at, 1)},
                              .batch = batch_time_ms};

            rows_add(&rows, &row);
        }
        if (status == MR_OK)
            mr_batch_unref(batch);
    }
    if (status == MR_OK)
        status = database_write(target->program->db, target->table, query_name, batch_time_ms,
                                &rows, err);
    rows_release(&rows);
    return status;
}

static void write_stream(struct program *program, int output, struct mr_dstream *stream)
{
    mr_foreach_rdd(stream, write_out, &program->targets[output]);
}

/* ---------------------------------------------------------------- making */

static void describe(struct program *program)
{
    static const char *const inputs[] = {"memory", "socket", "queue"};
    char text[300];
    size_t used = (size_t)snprintf(text, sizeof(text), "dstream %s", inputs[program->input]);

    for (int i = 0; i < OUTPUTS; i++) {
        if (program->has[i])
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", output_names[i]);
    }
    snprintf(text + used, sizeof(text) - used,
             "%s, interval %" PRId64 " ms, window %" PRId64 "/%" PRId64 " ms, block %" PRId64
             " ms, workers %u, small %u, segment %u, snapshot %u, retain %u",
             program->inverse ? " inverse" : "", program->interval_ms, program->window_ms,
             program->slide_ms, program->block_interval_ms, program->workers,
             (unsigned)program->small_batch_bytes, (unsigned)program->segment_bytes,
             program->snapshot_every, program->retain_batches);
    program_describe(program->world, text);
}

static struct program *ds_make(struct world *world, struct database *db)
{
    static const int64_t intervals[] = {1000, 500, 2000, 5000};
    static const int64_t blocks[] = {0, 100, 200};
    struct program *program = calloc(1, sizeof(*program));

    MR_ASSERT(program != NULL);
    program->world = world;
    program->db = db;
    program->input = (enum input_kind)world_random(world, 3);
    program->has[OUT_RAW] = true;
    for (int i = OUT_SUMS; i < OUTPUTS; i++)
        program->has[i] = world_chance(world, 512);
    program->inverse = world_chance(world, 512);
    program->interval_ms = intervals[world_random(world, MR_ARRAY_SIZE(intervals))];
    program->slide_ms = program->interval_ms * (int64_t)(1 + world_random(world, 3));
    program->window_ms = program->slide_ms * (int64_t)(1 + world_random(world, 3));
    program->block_interval_ms = blocks[world_random(world, MR_ARRAY_SIZE(blocks))];
    program->workers = 1 + (unsigned)world_random(world, 3);
    program->small_batch_bytes = world_chance(world, 512) ? 0 : 1 << 20;
    program->segment_bytes = UINT64_C(16384) << world_random(world, 3);
    program->queue_bytes = world_chance(world, 256) ? 64 : 1 << 20;
    program->snapshot_every = (uint32_t)world_random(world, 4);
    program->retain_batches = world_chance(world, 700) ? 1 + (uint32_t)world_random(world, 3) : 100;
    program->step_rows = 1 + (unsigned)world_random(world, 8);
    MR_ASSERT(mr_schema_parse("key BIGINT, value BIGINT", 24, &program->schema, NULL) == MR_OK);
    for (int i = 0; i < OUTPUTS; i++) {
        program->targets[i] = (struct target){program, NULL};
        if (program->has[i]) {
            program->targets[i].table = database_table(db, output_names[i]);
            program->targets[i].table->by_time = true;
        }
    }
    make_items(program);
    describe(program);
    return program;
}

static struct mr_dstream *input_stream(struct program *program)
{
    static const char *const options[] = {
        "table", "sim-ds", "max_steps_per_trigger", "3", "partitions", "2", NULL};
    const struct mr_receiver_spec queue = {"Queue", "key BIGINT, value BIGINT", queue_start,
                                           queue_stop, program};

    if (program->input == INPUT_MEMORY)
        return mr_connector_stream(program->ctx, "memory", "key BIGINT, value BIGINT", options);
    if (program->input == INPUT_QUEUE)
        return mr_receiver_stream(program->ctx, &queue);
    return mr_map_to_pair(mr_socket_text_stream(program->ctx, "localhost", 9999),
                          MR_FN_AS(parse_line, "key BIGINT, value BIGINT"));
}

static enum mr_status fail_point(void *arg, const char *point, uint64_t batch_id,
                                 struct mr_error *err)
{
    struct program *program = arg;

    (void)err;
    world_note(program->world, "batch %" PRIu64 " %s", batch_id, point);
    return MR_OK;
}

static void set_int(struct program *program, const char *key, int64_t value, const char *unit)
{
    char text[40];

    snprintf(text, sizeof(text), "%" PRId64 "%s", value, unit);
    mr_context_set(program->ctx, key, text);
}

static enum mr_status ds_open(struct program *program, bool last, struct mr_error *err)
{
    struct mr_query_config *config;
    struct mr_dstream *raw;

    (void)last;
    program->life++;
    program->graceful = false;
    if (program->peer != NULL)
        program->peer->life = program->life;
    program->ctx = mr_context_new("sim", program->interval_ms);
    mr__context_use(program->ctx, &program->world->env);
    mr_context_checkpoint(program->ctx, "/cp");
    set_int(program, "block_interval", program->block_interval_ms, "ms");
    config = mr__context_config(program->ctx);
    config->workers = program->workers;
    config->parallel_min_bytes = 0;
    config->small_batch_bytes = program->small_batch_bytes;
    config->segment_bytes = program->segment_bytes;
    config->snapshot_every = program->snapshot_every;
    config->retain_batches = program->retain_batches;
    config->receiver_queue_bytes = program->queue_bytes;
    config->failpoint = fail_point;
    config->failpoint_arg = program;
    raw = input_stream(program);
    write_stream(program, OUT_RAW, raw);
    if (program->has[OUT_SUMS])
        write_stream(program, OUT_SUMS, mr_reduce_by_key(raw, MR_SUM));
    if (program->has[OUT_TOTALS])
        write_stream(program, OUT_TOTALS, mr_update_state_by_key(raw, "totals", MR_SUM));
    if (program->has[OUT_WINDOWS])
        write_stream(program, OUT_WINDOWS,
                     mr_reduce_by_key_and_window(raw, MR_SUM,
                                                 program->inverse ? MR_FN(subtract) : MR_NO_FN,
                                                 program->window_ms, program->slide_ms, MR_NO_FN));
    return mr_context_error(program->ctx, err);
}

static enum mr_status ds_drive(struct program *program, struct mr_error *err)
{
    enum mr_status status = mr__context_run_here(program->ctx, err);

    if (status == MR_OK && program->graceful && !program->world->dead && program->life < 64)
        program->gentle[program->life] = true;
    return status;
}

static void ds_stop(struct program *program, bool graceful)
{
    program->graceful = graceful;
    mr_context_stop(program->ctx, graceful);
}

static void ds_close(struct program *program)
{
    mr_context_free(program->ctx);
    program->ctx = NULL;
}

/* ---------------------------------------------------------------- the model */

static bool is_raw(const struct program *program, int64_t id)
{
    const struct rows *raw = &program->targets[OUT_RAW].table->rows;

    for (size_t i = raw->count; i > 0; i--) {
        if (raw->rows[i - 1].values[1] == id)
            return true;
    }
    return false;
}

static int64_t newest_batch(const struct db_table *table)
{
    return database_last(table, query_name);
}

static bool input_is_done(const struct program *program)
{
    if (program->input == INPUT_SOCKET)
        return peer_done(program->peer);
    if (program->input == INPUT_QUEUE)
        return program->acked == program->item_count;
    return is_raw(program, (int64_t)program->item_count);
}

static bool ds_fed(const struct program *program)
{
    return input_is_done(program);
}

/* All there, and enough batches behind it for every window to have slid past it. */
static bool ds_drained(struct program *program)
{
    const struct db_table *raw = program->targets[OUT_RAW].table;
    int64_t last_ms = 0;

    if (!input_is_done(program))
        return false;
    if (program->input == INPUT_QUEUE && !is_raw(program, (int64_t)program->item_count))
        return false;
    if (raw->rows.count > 0)
        last_ms = raw->rows.rows[raw->rows.count - 1].batch;
    return newest_batch(raw) >= last_ms + program->window_ms + program->slide_ms + 3000 &&
           newest_batch(raw) >=
               world_now_us(program->world) / 1000 - 2 * program->interval_ms - 3000;
}

static bool ds_expects(struct program *program, enum mr_status status, const char *text)
{
    const struct world *world = program->world;

    (void)text;
    return (status == MR_USER || status == MR_UNAVAILABLE) &&
           (world->faults[FAULT_USER] > 0 || world->faults[FAULT_DB_DOWN] > 0 ||
            world->faults[FAULT_DB_ABORT] > 0 || world->faults[FAULT_DB_UNKNOWN] > 0);
}

/* Sums by key over the raw rows of batches in (after_ms, until_ms]. */
static void model_sums(const struct program *program, int64_t after_ms, int64_t until_ms,
                       struct rows *want)
{
    const struct rows *raw = &program->targets[OUT_RAW].table->rows;

    for (size_t i = 0; i < raw->count; i++) {
        const struct row *row = &raw->rows[i];
        size_t k = 0;

        if (row->batch <= after_ms || row->batch > until_ms)
            continue;
        while (k < want->count && want->rows[k].values[0] != row->values[0])
            k++;
        if (k == want->count) {
            struct row first = {.values = {row->values[0], 0}, .batch = until_ms};

            rows_add(want, &first);
        }
        want->rows[k].values[1] += row->values[1];
    }
}

static void check_batches(struct program *program, int output)
{
    const struct db_table *table = program->targets[output].table;
    int64_t raw_newest = newest_batch(program->targets[OUT_RAW].table);

    for (size_t m = 0; m < table->mark_count && program->world->anomaly[0] == '\0'; m++) {
        int64_t at_ms = table->marks[m].batch;
        int64_t after_ms = output == OUT_SUMS     ? at_ms - 1
                           : output == OUT_TOTALS ? INT64_MIN
                                                  : at_ms - program->window_ms;
        struct rows want = {0}, have = {0};
        char what[80];

        if (at_ms > raw_newest) /* raw of the batch is not written yet: it runs again */
            continue;
        model_sums(program, after_ms, at_ms, &want);
        for (size_t i = 0; i < table->rows.count; i++) {
            const struct row *row = &table->rows.rows[i];

            /* a key whose values have all left the window may stay with 0 */
            if (row->batch == at_ms &&
                (output != OUT_WINDOWS || row->values[1] != 0 || row->values[0] == -2))
                rows_add(&have, row);
        }
        if (output == OUT_WINDOWS) { /* of lines that were not whole nothing is known but 0 */
            for (struct rows *rows = &want;; rows = &have) {
                size_t kept = 0;

                for (size_t i = 0; i < rows->count; i++) {
                    if (rows->rows[i].values[0] != -2)
                        rows->rows[kept++] = rows->rows[i];
                }
                rows->count = kept;
                if (rows == &have)
                    break;
            }
        }
        snprintf(what, sizeof(what), "%s at %" PRId64, table->name, at_ms);
        rows_check(program->world, what, &have, &want);
        rows_release(&want);
        rows_release(&have);
    }
}

/* Batches come at every interval (or slide), none is left out. */
static void check_times(struct program *program, int output)
{
    const struct db_table *table = program->targets[output].table;
    int64_t step_ms = output == OUT_WINDOWS ? program->slide_ms : program->interval_ms;

    for (size_t m = 1; m < table->mark_count; m++) {
        if (table->marks[m].batch != table->marks[m - 1].batch + step_ms) {
            world_anomaly(program->world, "skipped batch",
                          "%s: batch at %" PRId64 " after %" PRId64, table->name,
                          table->marks[m].batch, table->marks[m - 1].batch);
            return;
        }
    }
}

static unsigned *count_ids(struct program *program)
{
    const struct rows *raw = &program->targets[OUT_RAW].table->rows;
    unsigned *counts = calloc(program->item_count + 2, sizeof(*counts));

    MR_ASSERT(counts != NULL);
    for (size_t i = 0; i < raw->count; i++) {
        const struct row *row = &raw->rows[i];
        int64_t id = row->values[1];

        if (row->values[0] == -2)
            continue;
        if (id < 1 || (size_t)id > program->item_count ||
            program->items[id - 1].key != row->values[0])
            world_anomaly(program->world, "phantom", "raw: key %" PRId64 ", id %" PRId64,
                          row->values[0], id);
        else
            counts[id]++;
    }
    return counts;
}

/* What is missing of a life was delivered last in it, and only when it did not end well. */
static void check_socket(struct program *program, const unsigned *counts, bool whole)
{
    bool missing = false;
    uint64_t life = 0;

    for (size_t i = 0; i < program->item_count; i++) {
        const struct peer_line *line = &program->peer->lines[i];

        if (counts[line->id] > 1)
            world_anomaly(program->world, "duplicate", "line %" PRId64 " came %u times", line->id,
                          counts[line->id]);
        if (counts[line->id] > 0 && line->state != LINE_DELIVERED && line->state != LINE_CUT)
            world_anomaly(program->world, "phantom", "line %" PRId64 " was never sent", line->id);
        if (line->state != LINE_DELIVERED || !whole)
            continue;
        if (line->life != life) {
            life = line->life;
            missing = false;
        }
        if (counts[line->id] == 0 && life < 64 && program->gentle[life])
            world_anomaly(program->world, "lost",
                          "line %" PRId64 " of life %" PRIu64 ", which ended gracefully", line->id,
                          life);
        if (counts[line->id] > 0 && missing)
            world_anomaly(program->world, "lost",
                          "lines before %" PRId64 ", which came later in life %" PRIu64, line->id,
                          life);
        missing |= counts[line->id] == 0;
    }
}

static void check_input(struct program *program, bool whole)
{
    unsigned *counts = count_ids(program);

    if (program->input == INPUT_SOCKET)
        check_socket(program, counts, whole);
    for (size_t i = 0; i < program->item_count && program->input != INPUT_SOCKET; i++) {
        const struct item *item = &program->items[i];
        unsigned most = program->input == INPUT_QUEUE ? MR_MAX(item->puts, 1u) : 1;

        if (counts[item->id] > most)
            world_anomaly(program->world, "duplicate", "id %" PRId64 " came %u times, sent %u",
                          item->id, counts[item->id], most);
        if (whole && counts[item->id] == 0)
            world_anomaly(program->world, program->input == INPUT_QUEUE ? "premature ack" : "lost",
                          "id %" PRId64 " never came", item->id);
    }
    free(counts);
}

static void ds_check(struct program *program, bool whole)
{
    check_input(program, whole);
    for (int i = 0; i < OUTPUTS; i++) {
        if (!program->has[i])
            continue;
        check_times(program, i);
        if (i != OUT_RAW)
            check_batches(program, i);
    }
}

static void ds_free(struct program *program)
{
    peer_free(program->peer);
    mr_memory_drop("sim-ds");
    mr_schema_unref(program->schema);
    free(program->items);
    free(program);
}

const struct program_ops dstream_program = {
    .name = "dstream",
    .by_wall_clock = true,
    .make = ds_make,
    .open = ds_open,
    .drive = ds_drive,
    .stop = ds_stop,
    .close = ds_close,
    .feed = ds_feed,
    .fed = ds_fed,
    .drained = ds_drained,
    .expects = ds_expects,
    .check = ds_check,
    .free = ds_free,
};
