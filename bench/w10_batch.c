/*
 * Workload W10: what one durable, stateful batch costs. A count per 1-minute window and key (1,000
 * keys) with a real checkpoint in a directory of the disk that is to be measured.
 *
 *     w10_batch sync  DIR COUNT [RATE]     fdatasync of 4 KB into a preallocated, zero-filled file:
 *                                          the unit of the other numbers; with RATE only so many a
 *                                          second, which finds the disk and the core asleep
 *     w10_batch burst DIR COUNT            batches of one row, one behind the other: microseconds
 *                                          from commit to commit
 *     w10_batch paced DIR COUNT RATE       RATE rows a second: microseconds of each batch, from its
 *                                          trigger to its durable commit, and of each row, from the
 *                                          time it is due to its durable commit
 *     w10_batch start DIR                  one batch; prints the monotonic clock at its commit
 *     w10_batch idle  DIR                  one batch, then nothing until it is killed (its memory
 *                                          is looked at)
 *
 * Prints JSON: a list of the measured times in order, which bench/run reads.
 *
 *     source (this file) -> watermark -> window 1 min -> partial count -> fold, update -> sink null
 *
 * Threads: the driver of the query; in paced mode a thread that wakes it when a row is due.
 */
#include "base/alloc.h"
#include "base/number_text.h"
#include "core/query.h"
#include "ops/ops.h"
#include "plugins/plugins.h"

#include <millrace/ext/env.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 1000, SYNC_BYTES = 4096, FIRST_DUE_NS = 20000000 };

static int64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void fail(const char *what, const struct mr_error *err)
{
    fprintf(stderr, "w10_batch: %s: %s\n", what, err != NULL ? err->text : strerror(errno));
    exit(1);
}

/* One member of the object that main prints. */
static void print_times(const char *name, const int64_t *times_ns, size_t count)
{
    printf("\"%s_us\": [", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%.1f", i == 0 ? "" : ",", (double)times_ns[i] / 1000);
    printf("]");
}

/* ---- the source ---- */

/* Row i has event time i milliseconds after the first; its offset is i + 1. */
struct mr_source {
    uint64_t total;
    int64_t first_due_ns; /* paced: when row 0 is due; 0 = all rows are there */
    int64_t period_ns;
    bool idles; /* the last row never comes */
    const struct mr_schema *schema;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_t waker;
    bool has_waker;
    atomic_bool stopping;
    uint64_t done;     /* rows whose commit is durable */
    int64_t *times_ns; /* burst: of batches; paced: of rows */
    size_t time_count;
    int64_t *batch_times_ns; /* paced */
    size_t batch_count;
    int64_t last_commit_ns;
};

struct mr_reader {
    const struct mr_source *source;
    uint64_t from;
    uint64_t end;
};

static struct mr_source the_source; /* one a process */

static uint64_t parse_offset(const char *text)
{
    uint64_t offset = 0;

    if (text != NULL && !mr_uint_parse(text, strlen(text), &offset))
        fail("bad offset", NULL);
    return offset;
}

static enum mr_status source_plan(struct mr_source *source, const char *start,
                                  const struct mr_plan_limits *limits, char **ret_end,
                                  struct mr_error *err)
{
    uint64_t from = parse_offset(start);
    uint64_t end = from + 1;

    (void)limits;
    if (source->first_due_ns != 0) {
        int64_t since_ns = now_ns() - source->first_due_ns;
        end = since_ns < 0 ? 0 : (uint64_t)(since_ns / source->period_ns) + 1;
    }
    end = end < source->total ? end : source->total;
    if (source->idles && end == source->total)
        end = source->total - 1;
    *ret_end = NULL;
    if (end <= from)
        return MR_OK;
    *ret_end = mr_asprintf("%" PRIu64, end);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static enum mr_status source_split(struct mr_source *source, const char *start, const char *end,
                                   uint32_t *ret_partitions, uint64_t *ret_bytes,
                                   struct mr_error *err)
{
    (void)source;
    (void)err;
    *ret_partitions = 1;
    *ret_bytes = 16 * (parse_offset(end) - parse_offset(start));
    return MR_OK;
}

static enum mr_status source_read(struct mr_source *source, const char *start, const char *end,
                                  uint32_t partition, struct mr_reader **ret_reader,
                                  struct mr_error *err)
{
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));

    (void)partition;
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    *reader = (struct mr_reader){source, parse_offset(start), parse_offset(end)};
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status source_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;

    *ret_batch = NULL;
    if (reader->from == reader->end)
        return MR_OK;
    MR_TRY(mr_batch_builder_new(reader->source->schema, &builder, err));
    for (; reader->from < reader->end; reader->from++) {
        mr_batch_builder_int(builder, 0, (int64_t)reader->from * 1000);
        mr_batch_builder_int(builder, 1, (int64_t)(reader->from * 7919 % KEYS));
        mr_batch_builder_end_row(builder);
    }
    enum mr_status status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static void source_close(struct mr_reader *reader)
{
    mr_free(reader);
}

static void source_set_wakeup(struct mr_source *source, void (*wake)(void *arg), void *arg)
{
    source->wake = wake;
    source->wake_arg = arg;
}

/* Sleeps most of the way, then looks at the clock: sleeping alone would be late by 100 us. */
static void sleep_until(int64_t due_ns)
{
    int64_t left_ns = due_ns - now_ns() - 200000;

    if (left_ns > 0) {
        struct timespec pause = {left_ns / 1000000000, left_ns % 1000000000};
        nanosleep(&pause, NULL);
    }
    while (now_ns() < due_ns)
        ;
}

/* Wakes the driver when the next row is due. */
static void *waker_main(void *arg)
{
    struct mr_source *source = arg;

    for (uint64_t row = 0; row < source->total && !atomic_load(&source->stopping); row++) {
        sleep_until(source->first_due_ns + (int64_t)row * source->period_ns);
        source->wake(source->wake_arg);
    }
    return NULL;
}

static enum mr_status source_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                  struct mr_error *err)
{
    (void)args;
    (void)err;
    *ret_source = &the_source;
    return MR_OK;
}

static bool source_exhausted(struct mr_source *source, const char *end)
{
    return parse_offset(end) >= source->total;
}

static void source_stop(struct mr_source *source)
{
    atomic_store(&source->stopping, true);
    if (source->has_waker)
        pthread_join(source->waker, NULL);
    source->has_waker = false;
}

static const struct mr_source_ops source_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = source_plan,
    .split = source_split,
    .read = source_read,
    .next = source_next,
    .close = source_close,
    .set_wakeup = source_set_wakeup,
    .exhausted = source_exhausted,
    .stop = source_stop,
};

static const struct mr_source_connector connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "w10",
    .summary = "Rows of the benchmark.",
    .guarantee = "replayable",
    .open = source_open,
    .ops = &source_ops,
};

/* ---- the query ---- */

static struct mr_options *no_options(const char *owner)
{
    const struct mr_option_table table = {owner, NULL, 0};
    const struct mr_option_table *tables[] = {&table};
    struct mr_options *options = NULL;
    struct mr_error err = {0};

    if (mr_options_parse(tables, 1, NULL, 0, 0, &options, &err) != MR_OK)
        fail("options", &err);
    return options;
}

static struct mr_node *add_map(struct mr_graph *graph, const char *name, struct mr_node *input,
                               struct mr_map_op op)
{
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    if (mr_graph_map(graph, name, &input, 1, op.schema, op.ops, op.op, &node, &err) != MR_OK)
        fail(name, &err);
    mr_schema_unref(op.schema);
    return node;
}

static void add_aggregate(struct mr_graph *graph, struct mr_node *input)
{
    static const uint32_t keys[] = {0, 3};
    static const char *const names[] = {"window_start", "id"};
    static const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    const struct mr_aggregate_spec spec = {
        .input = mr_node_schema(input),
        .keys = keys,
        .key_names = names,
        .key_count = 2,
        .aggs = &agg,
        .agg_count = 1,
        .mode = MR_MODE_UPDATE,
        .state_name = "counts",
        .event_time_key = 0,
        .event_time_add_us = INT64_C(60000000),
    };
    struct mr_map_op partial = {0};
    struct mr_fold_op fold = {0};
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    if (mr_op_aggregate_partial(&spec, &partial, &err) != MR_OK ||
        mr_op_aggregate_fold(&spec, &fold, &err) != MR_OK)
        fail("aggregate", &err);
    node = add_map(graph, "partial", input, partial);
    if (mr_graph_fold(graph, "counts", &node, 1, fold.schema, fold.ops, fold.op, &node, &err) !=
        MR_OK)
        fail("fold", &err);
    mr_schema_unref(fold.schema);
    struct mr_sink_spec sink = {
        .name = "out",
        .connector = mr_sink_find("null"),
        .options = no_options("connector 'null'"),
        .mode = MR_MODE_UPDATE,
    };
    if (sink.connector == NULL)
        fail("there is no sink 'null' in this build", NULL);
    if (mr_graph_sink(graph, &sink, &node, 1, &err) != MR_OK)
        fail("sink", &err);
}

static struct mr_graph *make_graph(void)
{
    static const char columns[] = "ts TIMESTAMP, id BIGINT";
    const struct mr_window_spec window = {
        .column = 0,
        .size_us = INT64_C(60000000),
        .slide_us = INT64_C(60000000),
        .start_name = "window_start",
        .end_name = "window_end",
    };
    struct mr_graph *graph = mr_graph_new();
    struct mr_schema *schema = NULL;
    struct mr_map_op op = {0};
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    if (graph == NULL || mr_schema_parse(columns, strlen(columns), &schema, &err) != MR_OK)
        fail("graph", &err);
    the_source.schema = schema;
    struct mr_source_spec source = {
        .name = "rows", .connector = &connector, .options = no_options("w10"), .schema = schema};
    if (mr_graph_source(graph, &source, &node, &err) != MR_OK)
        fail("source", &err);
    if (mr_op_watermark(schema, 0, &op, &err) != MR_OK)
        fail("watermark", &err);
    node = add_map(graph, "watermark", node, op);
    mr_node_set_watermark(node, 0);
    if (mr_op_window(mr_node_schema(node), &window, &op, &err) != MR_OK)
        fail("window", &err);
    add_aggregate(graph, add_map(graph, "window", node, op));
    return graph;
}

/* Right after the flush that made a batch's commit durable. */
static void on_progress(void *arg, const struct mr_progress *progress)
{
    struct mr_source *source = arg;
    int64_t now = now_ns();

    if (progress->idle)
        return;
    if (source->first_due_ns == 0) {
        if (source->last_commit_ns != 0)
            source->times_ns[source->time_count++] = now - source->last_commit_ns;
        source->last_commit_ns = now;
        source->done += progress->input_rows;
        return;
    }
    source->batch_times_ns[source->batch_count++] = progress->duration_us * 1000;
    for (uint64_t i = 0; i < progress->input_rows; i++, source->done++)
        source->times_ns[source->time_count++] =
            now - (source->first_due_ns + (int64_t)source->done * source->period_ns);
}

static void run(const char *dir, uint64_t rows, int64_t rate)
{
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    the_source.total = rows;
    the_source.times_ns = calloc(rows + 1, sizeof(*the_source.times_ns));
    the_source.batch_times_ns = calloc(rows + 1, sizeof(*the_source.batch_times_ns));
    if (the_source.times_ns == NULL || the_source.batch_times_ns == NULL)
        fail("times", NULL);
    mr_plugins_register();
    mr_query_config_init(&config);
    config.name = "w10";
    config.checkpoint_dir = dir;
    config.trigger = MR_TRIGGER_ASAP;
    config.no_data_batches = false;
    config.on_progress = on_progress;
    config.on_progress_arg = &the_source;
    if (mr_query_new(mr_env_posix(), make_graph(), &config, &query, &err) != MR_OK)
        fail("cannot open the query", &err);
    if (rate > 0) {
        the_source.period_ns = INT64_C(1000000000) / rate;
        the_source.first_due_ns = now_ns() + FIRST_DUE_NS;
        if (pthread_create(&the_source.waker, NULL, waker_main, &the_source) != 0)
            fail("cannot start a thread", NULL);
        the_source.has_waker = true;
    }
    if (mr_query_run(query, &err) != MR_OK)
        fail("cannot run the query", &err);
    mr_query_free(query);
}

/* ---- modes ---- */

static void run_sync(const char *dir, size_t count, int64_t rate)
{
    int64_t *times_ns = calloc(count, sizeof(*times_ns));
    static char block[SYNC_BYTES];
    char path[4096];

    snprintf(path, sizeof(path), "%s/sync-probe", dir);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0)
        fail(path, NULL);
    for (size_t i = 0; i < count; i++)
        if (write(file, block, sizeof(block)) != (ssize_t)sizeof(block))
            fail(path, NULL);
    if (fsync(file) != 0)
        fail(path, NULL);
    memset(block, 'x', sizeof(block));
    int64_t first_ns = now_ns();
    for (size_t i = 0; i < count; i++) {
        if (rate > 0)
            sleep_until(first_ns + (int64_t)i * (INT64_C(1000000000) / rate));
        int64_t start = now_ns();
        if (pwrite(file, block, sizeof(block), (off_t)(i * SYNC_BYTES)) != (ssize_t)sizeof(block) ||
            fdatasync(file) != 0)
            fail(path, NULL);
        times_ns[i] = now_ns() - start;
    }
    close(file);
    unlink(path);
    printf("{");
    print_times("sync", times_ns, count);
    printf("}\n");
    free(times_ns);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    int64_t rate = argc > 4 ? strtoll(argv[4], NULL, 10) : 0;

    if (strcmp(mode, "sync") == 0 && argc >= 4) {
        run_sync(argv[2], count, rate);
    } else if (strcmp(mode, "burst") == 0 && argc == 4) {
        run(argv[2], count, 0);
        printf("{");
        print_times("batch", the_source.times_ns, the_source.time_count);
        printf("}\n");
    } else if (strcmp(mode, "paced") == 0 && argc == 5) {
        run(argv[2], count, rate);
        printf("{");
        print_times("batch", the_source.batch_times_ns, the_source.batch_count);
        printf(", ");
        print_times("row", the_source.times_ns, the_source.time_count);
        printf("}\n");
    } else if (strcmp(mode, "start") == 0 && argc == 3) {
        run(argv[2], 1, 0);
        printf("{\"commit_ns\": %" PRId64 "}\n", the_source.last_commit_ns);
    } else if (strcmp(mode, "idle") == 0 && argc == 3) {
        the_source.idles = true;
        run(argv[2], 2, 0);
    } else {
        fprintf(stderr, "usage: w10_batch sync|burst|paced|start|idle DIR [COUNT [RATE]]\n");
        return 64;
    }
    return 0;
}
