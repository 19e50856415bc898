/*
 * The partial aggregation alone: rows a second and core of its kernels, by kind of key, over
 * batches in memory.
 *
 *     bench_ops [ROWS]
 *
 * Each line is one GROUP BY over a batch of ROWS rows (1,000,000) with uniform keys, the best of
 * ten rounds; "a batch of one row" says what a task costs when there is next to nothing to do.
 * Program of developers: `make bench` measures whole pipelines.
 */
#include "generate.h"

#include "base/alloc.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <time.h>

enum { ROUNDS = 10, TEXT_MAX = 64 };

/* Operators of this program emit into nothing. */
struct mr_output {
    int64_t rows;
};

enum mr_status mr_output_emit(struct mr_output *out, const struct mr_batch *batch,
                              struct mr_error *err)
{
    (void)err;
    out->rows += mr_batch_row_count(batch);
    return MR_OK;
}

void mr_output_event_times(struct mr_output *out, int64_t min_us, int64_t max_us, double sum_us,
                           uint64_t count)
{
    (void)out;
    (void)min_us;
    (void)max_us;
    (void)sum_us;
    (void)count;
}

void mr_output_late_rows(struct mr_output *out, uint64_t count)
{
    (void)out;
    (void)count;
}

struct shape {
    const char *name;
    const char *schema; /* an optional TIMESTAMP w, the key k, optional values v */
    unsigned text_bytes;
    unsigned distinct;
    bool windows; /* the first column is a window start; 50,000 rows a window */
    bool values;  /* the last column is summed, and its maximum taken */
};

static const struct shape shapes[] = {
    {"text of 7 bytes, 5,000 keys", "k VARCHAR", 7, 5000, false, false},
    {"text of 7 bytes, 500,000 keys", "k VARCHAR", 7, 500000, false, false},
    {"text of 12 bytes, 5,000 keys", "k VARCHAR", 12, 5000, false, false},
    {"text of 36 bytes, 1,000 keys", "k VARCHAR", 36, 1000, false, false},
    {"BIGINT, 5,000 keys", "k BIGINT", 0, 5000, false, false},
    {"BIGINT, 1,000,000 keys", "k BIGINT", 0, 1000000, false, false},
    {"BIGINT, 1,000 keys: count, sum, max", "k BIGINT, v BIGINT", 0, 1000, false, true},
    {"window and text of 7 bytes, 1,000 keys", "w TIMESTAMP, k VARCHAR", 7, 1000, true, false},
    {"window and BIGINT: count, sum, max of DOUBLE", "w TIMESTAMP, k BIGINT, v DOUBLE", 0, 1000,
     true, true},
};

static void check(enum mr_status status, const struct mr_error *err)
{
    if (status == MR_OK)
        return;
    fprintf(stderr, "bench_ops: %s\n", err->text);
    exit(1);
}

static double now_s(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* The text of a key: letters that its number decides. */
static void key_text(unsigned number, unsigned text_bytes, char out[TEXT_MAX])
{
    struct random random = {number * UINT64_C(0x9e3779b97f4a7c15) + 1};

    for (unsigned i = 0; i < text_bytes; i++)
        out[i] = (char)('a' + random_below(&random, 26));
}

static struct mr_batch *make_batch(const struct shape *shape, uint64_t rows)
{
    struct random random = {RANDOM_SEED};
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    char text[TEXT_MAX];

    check(mr_schema_parse(shape->schema, strlen(shape->schema), &schema, &err), &err);
    check(mr_batch_builder_new(schema, &builder, &err), &err);
    for (uint64_t i = 0; i < rows; i++) {
        unsigned number = random_below(&random, shape->distinct);
        uint32_t column = 0;
        if (shape->windows)
            mr_batch_builder_int(builder, column++, (int64_t)(i / 50000) * 60000000);
        if (shape->text_bytes > 0) {
            key_text(number, shape->text_bytes, text);
            mr_batch_builder_text(builder, column++, text, shape->text_bytes);
        } else {
            mr_batch_builder_int(builder, column++, (int64_t)number * 977);
        }
        if (shape->values && mr_schema_field(schema, column)->type.id == MR_TYPE_DOUBLE)
            mr_batch_builder_double(builder, column, number / 2.0);
        else if (shape->values)
            mr_batch_builder_int(builder, column, number);
        mr_batch_builder_end_row(builder);
    }
    check(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

static void run_once(const struct mr_map_op *op, const struct mr_batch *batch,
                     struct mr_output *out)
{
    struct mr_batch_info info = {0};
    struct mr_error err = {0};
    void *task = NULL;

    check(op->ops->begin(op->op, &info, &task, &err), &err);
    check(op->ops->apply(op->op, task, &info, batch, out, &err), &err);
    check(op->ops->finish(op->op, task, &info, out, &err), &err);
    op->ops->end(op->op, task);
}

/* Seconds of the best round, and the groups one round emits. */
static double measure(const struct shape *shape, uint64_t rows, int rounds, int64_t *ret_groups)
{
    static const uint32_t keys[] = {0, 1};
    static const char *const names[] = {"a", "b"};
    struct mr_batch *batch = make_batch(shape, rows);
    uint32_t value = shape->windows ? 2 : 1;
    const struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
                                  {.kind = MR_AGG_SUM, .column = value, .name = "s"},
                                  {.kind = MR_AGG_MAX, .column = value, .name = "m"}};
    struct mr_aggregate_spec spec = {.input = mr_batch_schema(batch),
                                     .keys = keys,
                                     .key_names = names,
                                     .key_count = shape->windows ? 2 : 1,
                                     .aggs = aggs,
                                     .agg_count = shape->values ? 3 : 1,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_map_op op = {0};
    struct mr_error err = {0};
    double best = 1e9;

    check(mr_op_aggregate_partial(&spec, &op, &err), &err);
    for (int round = 0; round < rounds; round++) {
        struct mr_output out = {0};
        double start = now_s();
        run_once(&op, batch, &out);
        double elapsed = now_s() - start;
        best = elapsed < best ? elapsed : best;
        *ret_groups = out.rows;
    }
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
    return best;
}

int main(int argc, char **argv)
{
    uint64_t rows = argc > 1 ? count_argument(argv[1]) : 1000000;
    int64_t groups = 0;

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        double seconds = measure(&shapes[i], rows, ROUNDS, &groups);
        printf("%-46s %7.1f M rows/s  %9" PRId64 " groups\n", shapes[i].name,
               (double)rows / seconds / 1e6, groups);
    }
    printf("%-46s %7.2f us\n", "a batch of one row", measure(&shapes[7], 1, 1000, &groups) * 1e6);
    return 0;
}
