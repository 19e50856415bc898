/*
 * Workload W4: the 100 most frequent keys of the last 30 seconds, every second.
 *
 *     w4_topk DIR CHECKPOINT SECOND_MS BATCHES
 *
 * A second of records is a file of DIR. SECOND_MS is what counts as a second: 1000 runs at the
 * clock's pace, 1 as fast as it goes, with the same batches and windows. Prints one JSON line: the
 * checksum of all results, and for each batch its milliseconds and those of its slide, from the
 * last record read until the result is in the hands of the output.
 */
#include <millrace/dstream.h>
#include <millrace/rdd.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES_MAX = 100000, TOP = 100 };

static struct {
    _Atomic int64_t last_record_ns;
    uint64_t sum;
    int64_t count;
    int64_t done_ns[BATCHES_MAX];
    int64_t slide_ns[BATCHES_MAX];
} run;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- the program ---- */

static void key_of(const struct mr_row *line, struct mr_emitter *out, void *arg)
{
    static _Thread_local unsigned calls;
    struct mr_slice text = mr_row_text(line, 0);

    (void)arg;
    mr_emit_pair_str_int(out, text.data, text.size_bytes < 8 ? text.size_bytes : 8, 1);
    if (++calls % 1024 == 0)
        atomic_store_explicit(&run.last_record_ns, now_ns(), memory_order_relaxed);
}

static void sum_row(const struct mr_batch *rows, int64_t row)
{
    struct mr_row at = {rows, row};
    struct mr_slice key = mr_row_text(&at, 0);
    char line[64];
    int size = snprintf(line, sizeof(line), "%" PRId64 " %.*s %" PRId64 "\n", run.count,
                        (int)key.size_bytes, key.data, mr_row_int(&at, 1));

    for (int i = 0; i < size; i++)
        run.sum = (run.sum ^ (unsigned char)line[i]) * UINT64_C(1099511628211);
}

static enum mr_status result(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    int64_t now = now_ns();
    struct mr_batch *rows;
    enum mr_status status = mr_rdd_collect(rdd, &rows, err);

    (void)batch_time_ms;
    (void)arg;
    if (status != MR_OK)
        return status;
    for (int64_t row = 0; row < mr_batch_row_count(rows); row++)
        sum_row(rows, row);
    mr_batch_unref(rows);
    if (run.count < BATCHES_MAX) {
        run.done_ns[run.count] = now;
        run.slide_ns[run.count] = now - atomic_load(&run.last_record_ns);
    }
    run.count++;
    return MR_OK;
}

static struct mr_context *build(const char *dir, int64_t second)
{
    const char *files[] = {"path", dir, "format", "text", "max_files_per_trigger", "1", NULL};
    struct mr_context *ctx = mr_context_new("sliding-top-k", second);
    struct mr_dstream *lines = mr_connector_stream(ctx, "file", NULL, files);
    struct mr_dstream *pairs = mr_map_to_pair(lines, MR_FN_AS(key_of, "key VARCHAR, value BIGINT"));
    struct mr_dstream *counts =
        mr_reduce_by_key_and_window(pairs, MR_COUNT, MR_COUNT, 30 * second, second, MR_NO_FN);

    mr_foreach_rdd(mr_top(counts, TOP, "value"), result, NULL);
    return ctx;
}

/* ---- what it prints ---- */

static void print_times(const char *name, int64_t from)
{
    printf(", \"%s\": [", name);
    for (int64_t i = from; i < run.count && i < BATCHES_MAX; i++) {
        int64_t ns = run.slide_ns[i];

        if (strcmp(name, "slide_ms") != 0)
            ns = i > 0 ? run.done_ns[i] - run.done_ns[i - 1] : 0;
        printf("%s%.3f", i > from ? ", " : "", (double)ns / 1e6);
    }
    printf("]");
}

int main(int argc, char **argv)
{
    struct mr_error err = {0};

    if (argc != 5) {
        fprintf(stderr, "usage: w4_topk DIR CHECKPOINT SECOND_MS BATCHES\n");
        return 64;
    }
    struct mr_context *ctx = build(argv[1], strtol(argv[3], NULL, 10));
    mr_context_checkpoint(ctx, argv[2]);
    mr_context_set(ctx, "batches_max", argv[4]);
    enum mr_status status = mr_context_start(ctx, &err);
    if (status == MR_OK)
        status = mr_context_await(ctx, &err);
    if (status != MR_OK)
        fprintf(stderr, "w4_topk: %s\n", err.text);
    printf("{\"batches\": %" PRId64 ", \"sum\": \"%016" PRIx64 "\"", run.count, run.sum);
    print_times("batch_ms", 1);
    print_times("slide_ms", 0);
    printf("}\n");
    mr_context_free(ctx);
    return status == MR_OK ? 0 : 1;
}
