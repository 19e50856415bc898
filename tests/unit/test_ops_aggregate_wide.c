/*
 * Aggregates that keep values and sketches: what they merge to however rows are cut, their error,
 * their limits, layouts as text, and buffers under another version of a query.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/aggregate.h"

#include <math.h>
#include <stdlib.h>

enum { TEXT_BYTES = 4096 };

/* Aggregates over columns of a batch, without keys. */
struct set {
    const char *schema;
    struct mr_agg aggs[48];
    uint32_t count;
};

static struct mr_agg_layout *layout_of(const struct set *set, struct mr_schema *input)
{
    struct mr_aggregate_spec spec = {.input = input,
                                     .aggs = set->aggs,
                                     .agg_count = set->count,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_agg_layout *layout = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_agg_layout_new(&spec, &layout, &err), &err);
    return layout;
}

/* Buffers of rows [from, to) of a batch. */
static struct mr_buf buffers_of(const struct set *set, const struct mr_batch *rows, int64_t from,
                                int64_t to)
{
    struct mr_aggregate_spec spec = {.input = mr_batch_schema(rows),
                                     .aggs = set->aggs,
                                     .agg_count = set->count,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_buf buffers = MR_BUF_INIT;
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op;
    struct mr_batch *part = NULL;
    struct mr_error err = {0};
    void *task = NULL;

    CHECK_OK(mr_batch_slice(rows, from, to - from, &part, &err), &err);
    CHECK_OK(mr_op_aggregate_partial(&spec, &op, &err), &err);
    CHECK_OK(op.ops->begin(op.op, &info, &task, &err), &err);
    CHECK_OK(op.ops->apply(op.op, task, &info, part, &out, &err), &err);
    CHECK_OK(op.ops->finish(op.op, task, &info, &out, &err), &err);
    op.ops->end(op.op, task);
    CHECK_EQ_INT(out.rows, 1);
    struct mr_slice value = mr_column_text(mr_batch_column(out.batches[0], 1), 0);
    mr_buf_add(&buffers, value.data, value.size_bytes);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(part);
    return buffers;
}

/* The results as text. */
static const char *emit(const struct mr_agg_layout *layout, struct mr_slice buffers)
{
    static char text[TEXT_BYTES];
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(mr_agg_layout_output(layout), &builder, &err), &err);
    CHECK_OK(mr_agg_emit(layout, (struct mr_slice){"", 0}, buffers, builder, &err), &err);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    ops_print(&out, batch);
    snprintf(text, sizeof(text), "%s", out.data);
    mr_buf_release(&out);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    return text;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Merges the rows in random cuts. */
static struct mr_buf merge_cuts(const struct set *set, const struct mr_agg_layout *layout,
                                const struct mr_batch *rows, uint64_t seed)
{
    struct mr_buf merged = MR_BUF_INIT;
    int64_t count = mr_batch_row_count(rows);
    struct mr_error err = {0};

    for (int64_t at = 0; at < count;) {
        int64_t step = 1 + (int64_t)(next_random(&seed) % 700);

        step = MR_MIN(step, count - at);
        struct mr_buf part = buffers_of(set, rows, at, at + step);

        CHECK_OK(mr_agg_merge(layout, &merged, part.data, part.size, &err), &err);
        mr_buf_release(&part);
        at += step;
    }
    return merged;
}

/* One column of numbers: n rows of value(i). */
static struct mr_batch *numbers(int64_t count, double (*value)(int64_t i))
{
    struct mr_schema *schema = ops_schema("x DOUBLE");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t i = 0; i < count; i++) {
        mr_batch_builder_double(builder, 0, value(i));
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

static double own_number(int64_t i)
{
    return (double)i;
}

static double shuffled(int64_t i)
{
    uint64_t hash = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15);

    return (double)((hash ^ hash >> 29) % 1000003);
}

TEST(approx_count_distinct_keeps_its_error_and_does_not_depend_on_the_cut)
{
    static const int64_t counts[] = {1, 100, 512, 513, 3000, 40000};
    struct set set = {
        "x DOUBLE", {{.kind = MR_AGG_APPROX_COUNT_DISTINCT, .column = 0, .name = "n"}}, 1};

    for (size_t i = 0; i < MR_ARRAY_SIZE(counts); i++) {
        struct mr_batch *rows = numbers(counts[i], own_number);
        struct mr_agg_layout *layout = layout_of(&set, (struct mr_schema *)mr_batch_schema(rows));
        struct mr_buf whole = buffers_of(&set, rows, 0, counts[i]);
        struct mr_buf cut = merge_cuts(&set, layout, rows, 77 + i);
        double estimate = strtod(emit(layout, (struct mr_slice){whole.data, whole.size}), NULL);

        CHECK_EQ_UINT(whole.size, cut.size);
        CHECK_EQ_MEM(whole.data, cut.data, cut.size);
        CHECK(fabs(estimate - (double)counts[i]) <=
              (counts[i] <= 512 ? 0 : 0.05 * (double)counts[i]));
        mr_buf_release(&whole);
        mr_buf_release(&cut);
        mr_agg_layout_free(layout);
        mr_batch_unref(rows);
    }
}

/* Columns of several widths: n rows, many of them alike, some null. */
static struct mr_batch *mixed_numbers(int64_t count)
{
    struct mr_schema *schema = ops_schema("a BIGINT, b TINYINT, c DOUBLE, d DATE");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    uint64_t state = 4711;

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t i = 0; i < count; i++) {
        int64_t value = (int64_t)(next_random(&state) % 5000) - 2500;

        mr_batch_builder_int(builder, 0, value * INT64_C(100000000000));
        if (value % 7 == 0)
            mr_batch_builder_null(builder, 1);
        else
            mr_batch_builder_int(builder, 1, value % 100);
        mr_batch_builder_double(builder, 2, value == 0 ? -0.0 : (double)(value % 1000) / 4);
        mr_batch_builder_int(builder, 3, value);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

/* Entries of a set: their sizes are those of a key, and they ascend. */
static size_t check_set(const char *data, size_t size_bytes)
{
    struct mr_bytes bytes = mr_bytes_of(data, size_bytes);
    const char *before = NULL;
    size_t before_bytes = 0;
    size_t count = 0;

    while (mr_bytes_left(&bytes) > 0) {
        size_t key_bytes = 0;
        const char *key = mr_bytes_block(&bytes, &key_bytes);

        CHECK(key != NULL && key_bytes > 0);
        if (key == NULL)
            return count;
        CHECK(before == NULL || before_bytes == 1 || memcmp(before, key, key_bytes) < 0);
        before = key;
        before_bytes = key_bytes;
        count++;
    }
    return count;
}

TEST(sets_of_numbers_and_the_best_do_not_depend_on_the_cut)
{
    static const int64_t counts[] = {1, 20, 600, 9000};
    struct set set = {"a BIGINT, b TINYINT, c DOUBLE, d DATE",
                      {{.kind = MR_AGG_COUNT_DISTINCT, .column = 0, .name = "a"},
                       {.kind = MR_AGG_COUNT_DISTINCT, .column = 1, .name = "b"},
                       {.kind = MR_AGG_COUNT_DISTINCT, .column = 2, .name = "c"},
                       {.kind = MR_AGG_COUNT_DISTINCT, .column = 3, .name = "d"},
                       {.kind = MR_AGG_TOP_MAX, .column = 1, .other = 0, .limit = 5, .name = "e"},
                       {.kind = MR_AGG_TOP_MIN, .column = 2, .other = 3, .limit = 50, .name = "f"}},
                      6};

    for (size_t i = 0; i < MR_ARRAY_SIZE(counts); i++) {
        struct mr_batch *rows = mixed_numbers(counts[i]);
        struct mr_agg_layout *layout = layout_of(&set, (struct mr_schema *)mr_batch_schema(rows));
        struct mr_buf whole = buffers_of(&set, rows, 0, counts[i]);
        struct mr_buf cut = merge_cuts(&set, layout, rows, 77 + i);
        const char *at = whole.data + layout->fixed_bytes;
        size_t sizes[6];
        char want[100];

        CHECK_EQ_UINT(whole.size, cut.size);
        CHECK_EQ_MEM(whole.data, cut.data, cut.size);
        for (int s = 0; s < 6; s++) {
            size_t size = mr_load_u32(whole.data + layout->slots[s].offset + 1);

            sizes[s] = s < 4 ? check_set(at, size) : 0;
            at += size;
        }
        if (counts[i] == 9000)
            CHECK_EQ_UINT(sizes[1], 200); /* -99 to 99 and null */
        snprintf(want, sizeof(want), "%zu|%zu|%zu|%zu|", sizes[0],
                 sizes[1] - (counts[i] > 20 ? 1 : 0), sizes[2], sizes[3]);
        if (counts[i] > 20)
            CHECK(strncmp(emit(layout, (struct mr_slice){whole.data, whole.size}), want,
                          strlen(want)) == 0);
        mr_buf_release(&whole);
        mr_buf_release(&cut);
        mr_agg_layout_free(layout);
        mr_batch_unref(rows);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

TEST(approx_quantile_is_within_one_percent_of_the_rank)
{
    static const double fractions[] = {0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1};
    enum { COUNT = 20000 };
    struct mr_batch *rows = numbers(COUNT, shuffled);
    double *sorted = mr_alloc(NULL, COUNT * sizeof(*sorted));

    for (int64_t i = 0; i < COUNT; i++)
        sorted[i] = shuffled(i);
    qsort(sorted, COUNT, sizeof(*sorted), compare_doubles);
    for (size_t i = 0; i < MR_ARRAY_SIZE(fractions); i++) {
        struct set set = {
            "x DOUBLE",
            {{.kind = MR_AGG_APPROX_QUANTILE, .column = 0, .name = "q", .fraction = fractions[i]}},
            1};
        struct mr_agg_layout *layout = layout_of(&set, (struct mr_schema *)mr_batch_schema(rows));
        struct mr_buf cut = merge_cuts(&set, layout, rows, 5 + i);
        double value = strtod(emit(layout, (struct mr_slice){cut.data, cut.size}), NULL);
        int64_t low = (int64_t)((fractions[i] - 0.01) * COUNT);
        int64_t high = (int64_t)((fractions[i] + 0.01) * COUNT);

        CHECK(value >= sorted[MR_MAX(low, (int64_t)0)]);
        CHECK(value <= sorted[MR_MIN(high, (int64_t)COUNT - 1)]);
        CHECK(cut.size < 8 + 5 + 16 * 300);
        mr_buf_release(&cut);
        mr_agg_layout_free(layout);
    }
    mr_free(sorted);
    mr_batch_unref(rows);
}

TEST(quantiles_of_infinities_and_nan_are_values_that_were_there)
{
    struct set set = {"x DOUBLE", {{0}}, 3};
    struct mr_batch *rows = ops_batch("x DOUBLE", "Infinity;1;NaN;-Infinity;2");

    for (uint32_t i = 0; i < 3; i++)
        set.aggs[i] = (struct mr_agg){.kind = MR_AGG_APPROX_QUANTILE,
                                      .name = i == 0   ? "a"
                                              : i == 1 ? "b"
                                                       : "c",
                                      .fraction = i / 2.0};
    struct mr_agg_layout *layout = layout_of(&set, (struct mr_schema *)mr_batch_schema(rows));
    struct mr_buf whole = buffers_of(&set, rows, 0, 5);

    CHECK_EQ_UINT(layout->slot_count, 1); /* one digest gives all fractions */
    CHECK_EQ_STR(emit(layout, (struct mr_slice){whole.data, whole.size}), "-Infinity|2.0|NaN");
    mr_buf_release(&whole);
    mr_agg_layout_free(layout);
    mr_batch_unref(rows);
}

TEST(deviations_do_not_lose_small_differences_of_large_numbers)
{
    struct set set = {
        "x DOUBLE",
        {{.kind = MR_AGG_VAR_POP, .name = "v"}, {.kind = MR_AGG_STDDEV_SAMP, .name = "s"}},
        2};
    struct mr_batch *rows = ops_batch("x DOUBLE", "1e9;1000000001;1000000002");
    struct mr_agg_layout *layout = layout_of(&set, (struct mr_schema *)mr_batch_schema(rows));
    struct mr_buf cut = MR_BUF_INIT;
    struct mr_error err = {0};

    for (int64_t i = 0; i < 3; i++) {
        struct mr_buf one = buffers_of(&set, rows, i, i + 1);

        CHECK_OK(mr_agg_merge(layout, &cut, one.data, one.size, &err), &err);
        mr_buf_release(&one);
    }
    CHECK_EQ_STR(emit(layout, (struct mr_slice){cut.data, cut.size}), "0.6666666666666666|1.0");
    mr_buf_release(&cut);
    mr_agg_layout_free(layout);
    mr_batch_unref(rows);
}

/* ---- layouts as text ---- */

static const struct mr_agg_order by_city = {.column = 1, .descending = true};

static const struct set all = {
    "a INTEGER, b VARCHAR, c DOUBLE, d DECIMAL(10,2), e BOOLEAN",
    {
        {.kind = MR_AGG_COUNT_ALL, .name = "r0"},
        {.kind = MR_AGG_COUNT, .column = 1, .name = "r1"},
        {.kind = MR_AGG_SUM, .column = 0, .name = "r2"},
        {.kind = MR_AGG_AVG, .column = 2, .name = "r3"},
        {.kind = MR_AGG_MIN, .column = 1, .name = "r4"},
        {.kind = MR_AGG_MAX, .column = 3, .name = "r5"},
        {.kind = MR_AGG_STDDEV_SAMP, .column = 2, .name = "r6", .identity = "c * \"2\""},
        {.kind = MR_AGG_CORR, .column = 2, .other = 0, .name = "r7"},
        {.kind = MR_AGG_BIT_XOR, .column = 0, .name = "r8"},
        {.kind = MR_AGG_PRODUCT, .column = 0, .name = "r9"},
        {.kind = MR_AGG_FIRST, .column = 1, .name = "r10"},
        {.kind = MR_AGG_LAST, .column = 3, .name = "r11"},
        {.kind = MR_AGG_ANY_VALUE, .column = 4, .name = "r12"},
        {.kind = MR_AGG_ARG_MIN, .column = 1, .other = 3, .name = "r13", .identity = "b, d"},
        {.kind = MR_AGG_LIST, .column = 0, .name = "r14", .orders = &by_city, .order_count = 1},
        {.kind = MR_AGG_COUNT_DISTINCT, .column = 1, .name = "r15"},
        {.kind = MR_AGG_SUM_DISTINCT, .column = 3, .name = "r16"},
        {.kind = MR_AGG_APPROX_COUNT_DISTINCT, .column = 1, .name = "r17"},
        {.kind = MR_AGG_APPROX_QUANTILE, .column = 0, .name = "r18", .fraction = 0.5},
        {.kind = MR_AGG_BOOL_AND, .column = 4, .name = "r19"},
        {.kind = MR_AGG_LIST, .column = 1, .name = "r20", .has_filter = true, .filter = 4},
    },
    21};

static const char rows_of_all[] = "1|x|1.5|2.25|true;2|null|2.5|1.00|false;null|y|null|null|null;"
                                  "3|z|-1|9.75|true;2|x|0|1.00|true";

TEST(every_kind_of_slot_gives_its_result_in_halves_as_in_whole)
{
    struct mr_batch *rows = ops_batch(all.schema, rows_of_all);
    struct mr_agg_layout *layout = layout_of(&all, (struct mr_schema *)mr_batch_schema(rows));
    struct mr_buf whole = buffers_of(&all, rows, 0, 5);

    CHECK_EQ_STR(emit(layout, (struct mr_slice){whole.data, whole.size}),
                 "5|4|8|0.75|x|9.75|1.5545631755148024|-0.6565321642986127|2|12.0|x|1.00|true|x|"
                 "[3, null, 1, 2, 2]|3|13.00|3|2.0|false|[x, z, x]");
    for (int64_t cut = 1; cut < 5; cut++) {
        struct mr_buf a = buffers_of(&all, rows, 0, cut);
        struct mr_buf b = buffers_of(&all, rows, cut, 5);
        char text[TEXT_BYTES];
        struct mr_error err = {0};

        CHECK_OK(mr_agg_merge(layout, &a, b.data, b.size, &err), &err);
        snprintf(text, sizeof(text), "%s", emit(layout, (struct mr_slice){whole.data, whole.size}));
        CHECK_EQ_STR(emit(layout, (struct mr_slice){a.data, a.size}), text);
        mr_buf_release(&a);
        mr_buf_release(&b);
    }
    mr_buf_release(&whole);
    mr_agg_layout_free(layout);
    mr_batch_unref(rows);
}

TEST(a_layout_is_read_back_from_its_text)
{
    struct mr_schema *input = ops_schema(all.schema);
    struct mr_agg_layout *layout = layout_of(&all, input);
    struct mr_agg_layout *again = NULL;
    char *values = NULL, *more = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_agg_value_schema(layout, &values, &err), &err);
    CHECK_EQ_STR(
        values,
        "rows, count(b VARCHAR), sum(a INTEGER), sum(c DOUBLE), min(b VARCHAR), max(d "
        "DECIMAL(10,2)), moments(\"c * \"\"2\"\"\" DOUBLE), comoments(c DOUBLE, INTEGER), "
        "bit_xor(a "
        "INTEGER), product(a INTEGER), first(b VARCHAR), last(d DECIMAL(10,2)), any_value(e "
        "BOOLEAN), arg_min(\"b, d\" VARCHAR, DECIMAL(10,2)), list(a INTEGER, VARCHAR), set(b "
        "VARCHAR), set(d DECIMAL(10,2)), hll(b VARCHAR), digest(a INTEGER), min(e BOOLEAN), list(b "
        "VARCHAR)");
    CHECK_OK(mr_agg_layout_parse("k VARCHAR, \"ts + 1\" TIMESTAMP", values, &again, &err), &err);
    CHECK_OK(mr_agg_value_schema(again, &more, &err), &err);
    CHECK_EQ_STR(more, values);
    CHECK_EQ_UINT(again->fixed_bytes, layout->fixed_bytes);
    CHECK_EQ_UINT(again->slot_count, layout->slot_count);
    for (uint32_t i = 0; i < layout->slot_count; i++)
        CHECK_EQ_UINT(again->slots[i].offset, layout->slots[i].offset);
    mr_text_free(more);
    CHECK_OK(mr_agg_key_schema(again, &more, &err), &err);
    CHECK_EQ_STR(more, "k VARCHAR, \"ts + 1\" TIMESTAMP");
    mr_text_free(more);
    mr_text_free(values);
    mr_agg_layout_free(again);
    mr_agg_layout_free(layout);
    mr_schema_unref(input);
}

TEST(texts_that_are_no_layouts_are_refused)
{
    static const char *const texts[] = {"",
                                        "rows,",
                                        "rows, sum",
                                        "rows, sum(a",
                                        "rows, sum(a)",
                                        "rows, sum(a INTEGER",
                                        "rows, sum(a INTEGER), ",
                                        "rows, nothing(a INTEGER)",
                                        "rows, sum(\"a INTEGER)",
                                        "rows, sum(a WORDS)",
                                        "count(a INTEGER)"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(texts); i++) {
        struct mr_agg_layout *layout = NULL;
        struct mr_error err = {0};

        CHECK_FAILS(mr_agg_layout_parse("", texts[i], &layout, &err), &err, MR_CONFIG, NULL);
    }
}

TEST(bytes_that_are_no_values_are_damage)
{
    struct mr_batch *rows = ops_batch(all.schema, rows_of_all);
    struct mr_agg_layout *layout = layout_of(&all, (struct mr_schema *)mr_batch_schema(rows));
    struct mr_buf good = buffers_of(&all, rows, 0, 5);
    uint64_t state = 99;

    for (int round = 0; round < 3000; round++) { /* any answer, but nothing is read outside */
        struct mr_buf bad = MR_BUF_INIT, sum = MR_BUF_INIT;
        struct mr_batch_builder *builder = NULL;
        struct mr_error err = {0};

        mr_buf_add(&bad, good.data, good.size);
        for (int i = 0; i < 3; i++)
            bad.data[next_random(&state) % bad.size] = (char)next_random(&state);
        mr_buf_add(&sum, good.data, good.size);
        (void)mr_agg_merge(layout, &sum, bad.data, bad.size, &err);
        CHECK_OK(mr_batch_builder_new(mr_agg_layout_output(layout), &builder, &err), &err);
        (void)mr_agg_emit(layout, (struct mr_slice){"", 0}, (struct mr_slice){bad.data, bad.size},
                          builder, &err);
        mr_batch_builder_free(builder);
        mr_buf_release(&bad);
        mr_buf_release(&sum);
    }
    mr_buf_release(&good);
    mr_agg_layout_free(layout);
    mr_batch_unref(rows);
}

/* ---- other versions of a query ---- */

static struct mr_store_adaption adapt(const char *old_keys, const char *old_values,
                                      const char *keys, const char *values)
{
    struct mr_store_change change = {.store = "out.agg",
                                     .old_kind = "aggregate",
                                     .old_key_schema = old_keys,
                                     .old_value_schema = old_values,
                                     .kind = "aggregate",
                                     .key_schema = keys,
                                     .value_schema = values,
                                     .key_count = 1};
    struct mr_store_adaption adaption = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_agg_adapt_store(&change, &adaption, &err), &err);
    return adaption;
}

static void check_change(const char *old_keys, const char *old_values, const char *keys,
                         const char *values, enum mr_change_class wanted, const char *reason)
{
    struct mr_store_adaption adaption = adapt(old_keys, old_values, keys, values);

    CHECK_EQ_INT(adaption.change, wanted);
    CHECK_EQ_STR(adaption.reason, reason);
    CHECK(adaption.convert != NULL || wanted != MR_CHANGE_EXTEND);
    if (adaption.free != NULL)
        adaption.free(adaption.arg);
}

TEST(edits_of_an_aggregation_are_told_apart)
{
    check_change("k VARCHAR", "rows, sum(a INTEGER)", "k VARCHAR", "rows, sum(a INTEGER)",
                 MR_CHANGE_SAME, "");
    check_change("k VARCHAR", "rows, sum(a INTEGER)", "k VARCHAR", "rows, sum(a BIGINT)",
                 MR_CHANGE_SAME, "");
    check_change("k VARCHAR", "rows, sum(a INTEGER)", "k VARCHAR",
                 "rows, max(b DOUBLE), sum(a INTEGER)", MR_CHANGE_EXTEND,
                 "new, counting from now on: max of 'b'");
    check_change("k VARCHAR", "rows, sum(a INTEGER), min(b VARCHAR)", "k VARCHAR", "rows",
                 MR_CHANGE_EXTEND, "no longer kept, for good: sum of 'a', min of 'b'");
    check_change("k VARCHAR", "rows, sum(a INTEGER), min(b VARCHAR)", "k VARCHAR",
                 "rows, min(b VARCHAR), sum(a INTEGER)", MR_CHANGE_SAME, "");
    check_change("k VARCHAR", "rows, set(a INTEGER)", "k VARCHAR", "rows, set(a BIGINT)",
                 MR_CHANGE_REBUILD,
                 "set of 'a' is of INTEGER in the state and of BIGINT in the query");
    check_change("k VARCHAR", "rows", "k VARCHAR, l DATE", "rows", MR_CHANGE_REBUILD,
                 "the state has 1 keys, the query groups by 2");
    check_change("k VARCHAR", "rows", "k DATE", "rows", MR_CHANGE_REBUILD,
                 "key 'k' is VARCHAR in the state and DATE in the query");
    check_change("k VARCHAR", "rows", "city VARCHAR", "rows", MR_CHANGE_REBUILD,
                 "key 1 of the state is 'k', the query groups by 'city'");
    check_change("mr_k0 VARCHAR", "rows, sum(mr_a0 INTEGER)", "\"upper(k)\" VARCHAR",
                 "rows, sum(\"a + 1\" INTEGER)", MR_CHANGE_SAME, "");
    check_change("k VARCHAR", "rows, sum(a INTEGER), sum(a INTEGER)", "k VARCHAR",
                 "rows, sum(a INTEGER)", MR_CHANGE_EXTEND, "no longer kept, for good: sum of 'a'");
    check_change("k VARCHAR", "some other form", "k VARCHAR", "rows", MR_CHANGE_REBUILD,
                 "its state was written in a form that is not known: 'some other form'");
}

TEST(buffers_go_on_under_another_layout)
{
    struct set before = {"a INTEGER, b VARCHAR",
                         {{.kind = MR_AGG_MIN, .column = 1, .name = "m"},
                          {.kind = MR_AGG_SUM, .column = 0, .name = "s"},
                          {.kind = MR_AGG_LIST, .column = 1, .name = "l"}},
                         3};
    struct set after = {"b VARCHAR, a BIGINT",
                        {{.kind = MR_AGG_COUNT_DISTINCT, .column = 0, .name = "n"},
                         {.kind = MR_AGG_LIST, .column = 0, .name = "l"},
                         {.kind = MR_AGG_AVG, .column = 1, .name = "s"},
                         {.kind = MR_AGG_COUNT_ALL, .name = "r"}},
                        4};
    struct mr_batch *rows = ops_batch(before.schema, "1|x;5|a");
    struct mr_schema *input = ops_schema(after.schema);
    struct mr_agg_layout *from = layout_of(&before, (struct mr_schema *)mr_batch_schema(rows));
    struct mr_agg_layout *to = layout_of(&after, input);
    struct mr_buf old = buffers_of(&before, rows, 0, 2);
    struct mr_buf key = MR_BUF_INIT, value = MR_BUF_INIT;
    char *texts[2] = {NULL, NULL};
    struct mr_error err = {0};

    CHECK_OK(mr_agg_value_schema(from, &texts[0], &err), &err);
    CHECK_OK(mr_agg_value_schema(to, &texts[1], &err), &err);
    struct mr_store_adaption adaption = adapt("", texts[0], "", texts[1]);
    CHECK_EQ_INT(adaption.change, MR_CHANGE_EXTEND);
    CHECK_OK(adaption.convert(adaption.arg, (struct mr_slice){"", 0},
                              (struct mr_slice){old.data, old.size}, &key, &value, &err),
             &err);
    CHECK_EQ_STR(emit(to, (struct mr_slice){value.data, value.size}), "0|[x, a]|3.0|2");
    CHECK_EQ_UINT(key.size, 0);
    CHECK_FAILS(adaption.convert(adaption.arg, (struct mr_slice){"", 0},
                                 (struct mr_slice){old.data, old.size - 1}, &key, &value, &err),
                &err, MR_CORRUPT, NULL);
    adaption.free(adaption.arg);
    mr_text_free(texts[0]);
    mr_text_free(texts[1]);
    mr_buf_release(&old);
    mr_buf_release(&key);
    mr_buf_release(&value);
    mr_agg_layout_free(from);
    mr_agg_layout_free(to);
    mr_schema_unref(input);
    mr_batch_unref(rows);
}
