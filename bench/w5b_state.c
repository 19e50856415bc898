/*
 * Workload W5: state of many keys. Keys are BIGINT, values 1.
 *
 *     w5b_state update KEYS BATCHES RECORDS [CHECKPOINT]   update_state_by_key(sum): every batch
 *                                                          updates and puts out all keys
 *     w5b_state map    KEYS BATCHES RECORDS [CHECKPOINT]   map_with_state(sum): every batch touches
 *                                                          the keys of its records
 *
 * First all keys are put in, a million in each batch; then BATCHES batches of RECORDS uniformly
 * random keys. A batch is timed from the moment its records are handed over until its result is in
 * the hands of the output. Prints one JSON line: the milliseconds of each batch, and checksums of
 * the first and the last result beside what they must be. The checksum is a sum over (key, value)
 * of mix(key) * value, so what it must be is known without a second state.
 */
#include <millrace/dstream.h>
#include <millrace/ext/memory.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOAD_RECORDS = 1000000, BATCHES_MAX = 10000 };

static struct {
    int64_t keys, batches, records, loads;
    bool maps;
    struct mr_schema *schema;
    struct mr_memory *table; /* with a checkpoint */
    struct mr_queue *queue;  /* without: it forgets what was read */
    uint64_t random;
    uint32_t *counts; /* of each key, for the running values of `map` */
    int64_t next;     /* batch to hand over */
    int64_t done;     /* results seen */
    int64_t handed_ns;
    int64_t times_ns[BATCHES_MAX];
    uint64_t wanted_sum; /* of the state, or of the mapped records of the batch */
    int64_t wanted_rows;
    bool wrong;
} run = {.random = UINT64_C(88172645463325252)};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t next_random(void)
{
    run.random ^= run.random << 13;
    run.random ^= run.random >> 7;
    run.random ^= run.random << 17;
    return run.random;
}

static uint64_t mix(int64_t key)
{
    return ((uint64_t)key + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* ---- records ---- */

static void add_record(struct mr_batch_builder *builder, int64_t key)
{
    mr_batch_builder_int(builder, 0, key);
    mr_batch_builder_int(builder, 1, 1);
    mr_batch_builder_end_row(builder);
    if (!run.maps) {
        run.wanted_sum += mix(key);
        return;
    }
    run.wanted_sum += mix(key) * ++run.counts[key];
    run.wanted_rows++;
}

/* Keys in an order that is not theirs: an odd step through all of them. */
static int64_t load_key(int64_t number)
{
    return (int64_t)(((uint64_t)number * UINT64_C(7368787)) % (uint64_t)run.keys);
}

static void hand_over(void)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    int64_t from = run.next * LOAD_RECORDS;

    if (run.next == run.loads + run.batches)
        return;
    mr_batch_builder_new(run.schema, &builder, NULL);
    if (run.maps)
        run.wanted_sum = 0, run.wanted_rows = 0;
    if (run.next < run.loads) {
        for (int64_t i = from; i < from + LOAD_RECORDS && i < run.keys; i++)
            add_record(builder, load_key(i));
        if (!run.maps)
            run.wanted_rows = from + LOAD_RECORDS < run.keys ? from + LOAD_RECORDS : run.keys;
    } else {
        for (int64_t i = 0; i < run.records; i++)
            add_record(builder, (int64_t)(next_random() % (uint64_t)run.keys));
    }
    run.next++;
    mr_batch_builder_finish(builder, &batch, NULL);
    mr_batch_builder_free(builder);
    run.handed_ns = now_ns();
    if (run.table != NULL)
        mr_memory_add(run.table, batch, NULL);
    else
        mr_queue_push(run.queue, batch);
    mr_batch_unref(batch);
}

/* ---- the program ---- */

/* One row for each batch of rows: how many, and their checksum. */
static enum mr_status sum_rows(const struct mr_batch *in, struct mr_batch_builder *out, void *arg,
                               struct mr_error *err)
{
    const int64_t *keys = mr_batch_column(in, 0)->values;
    const int64_t *values = mr_batch_column(in, 1)->values;
    int64_t count = mr_batch_row_count(in);
    uint64_t sum = 0;

    (void)arg;
    (void)err;
    for (int64_t i = 0; i < count; i++)
        sum += mix(keys[i]) * (uint64_t)values[i];
    mr_batch_builder_int(out, 0, count);
    mr_batch_builder_int(out, 1, (int64_t)sum);
    mr_batch_builder_end_row(out);
    return MR_OK;
}

static enum mr_status result(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    int64_t now = now_ns(), rows = 0;
    struct mr_batch *parts = NULL;
    uint64_t sum = 0;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &parts, err));
    for (struct mr_row row = {parts, 0}; row.index < mr_batch_row_count(parts); row.index++) {
        rows += mr_row_int(&row, 0);
        sum += (uint64_t)mr_row_int(&row, 1);
    }
    mr_batch_unref(parts);
    if (rows == 0) /* a batch before the records were there */
        return MR_OK;
    if (run.done < BATCHES_MAX)
        run.times_ns[run.done] = now - run.handed_ns;
    run.done++;
    if (rows != run.wanted_rows || sum != run.wanted_sum) {
        run.wrong = true;
        fprintf(stderr,
                "w5b_state: batch %" PRId64 ": %" PRId64 " rows, sum %016" PRIx64 "; want %" PRId64
                ", %016" PRIx64 "\n",
                run.done, rows, sum, run.wanted_rows, run.wanted_sum);
    }
    hand_over();
    if (run.done == run.loads + run.batches)
        mr_context_stop(arg, false);
    return MR_OK;
}

static struct mr_context *build(const char *checkpoint)
{
    const char *options[] = {"table", "w5b", "max_steps_per_trigger", "1", NULL};
    const char *columns = "key BIGINT, value BIGINT";
    struct mr_context *ctx = mr_context_new("state", MR_MILLISECONDS(1));
    struct mr_dstream *pairs, *rows;

    mr_schema_parse(columns, strlen(columns), &run.schema, NULL);
    if (checkpoint != NULL) {
        mr_context_checkpoint(ctx, checkpoint);
        run.table = mr_memory_table("w5b");
        pairs = mr_connector_stream(ctx, "memory", columns, options);
    } else {
        run.queue = mr_queue_new(columns);
        pairs = mr_queue_stream(ctx, run.queue, true);
    }
    if (run.maps) {
        struct mr_state_spec spec = {.name = "sums", .function = MR_SUM};
        rows = mr_map_with_state(pairs, &spec);
    } else {
        rows = mr_update_state_by_key(pairs, "sums", MR_SUM);
    }
    mr_foreach_rdd(mr_flat_map(rows, MR_FN_AS(sum_rows, "rows BIGINT, sum BIGINT")), result, ctx);
    return ctx;
}

static void print_times(const char *name, int64_t from, int64_t end)
{
    printf(", \"%s\": [", name);
    for (int64_t i = from; i < end && i < BATCHES_MAX; i++)
        printf("%s%.3f", i > from ? ", " : "", (double)run.times_ns[i] / 1e6);
    printf("]");
}

int main(int argc, char **argv)
{
    struct mr_error err = {0};

    if (argc < 5 || argc > 6 || (strcmp(argv[1], "update") != 0 && strcmp(argv[1], "map") != 0)) {
        fprintf(stderr, "usage: w5b_state update|map KEYS BATCHES RECORDS [CHECKPOINT]\n");
        return 64;
    }
    run.maps = strcmp(argv[1], "map") == 0;
    run.keys = strtol(argv[2], NULL, 10);
    run.batches = strtol(argv[3], NULL, 10);
    run.records = strtol(argv[4], NULL, 10);
    run.loads = (run.keys + LOAD_RECORDS - 1) / LOAD_RECORDS;
    run.counts = run.maps ? calloc((size_t)run.keys, sizeof(*run.counts)) : NULL;
    struct mr_context *ctx = build(argc == 6 ? argv[5] : NULL);
    hand_over();
    enum mr_status status = mr_context_start(ctx, &err);
    if (status == MR_OK)
        status = mr_context_await(ctx, &err);
    if (status != MR_OK)
        fprintf(stderr, "w5b_state: %s\n", err.text);
    printf("{\"keys\": %" PRId64 ", \"records\": %" PRId64 ", \"batches\": %" PRId64
           ", \"sum\": \"%016" PRIx64 "\", \"wrong\": %s",
           run.keys, run.records, run.done - run.loads, run.wanted_sum,
           run.wrong || run.done != run.loads + run.batches ? "true" : "false");
    print_times("load_ms", 0, run.loads);
    print_times("batch_ms", run.loads, run.done);
    printf("}\n");
    mr_context_free(ctx);
    free(run.counts);
    mr_schema_unref(run.schema);
    return status == MR_OK && !run.wrong ? 0 : 1;
}
