/*
 * DStreams of pairs: groupByKey, combineByKey, cogroup and the joins; reduceByKey in partitions.
 *
 * Vectors with two inputs have them in one text, the second behind ';'.
 */
#include "support/dstream.h"

#include <millrace/rdd.h>

#include <stdlib.h>

typedef struct mr_dstream *(*build_two_fn)(struct mr_dstream *a, struct mr_dstream *b,
                                           unsigned form);

/* Runs a vector of two inputs in that many partitions, shuffled into as many. */
static void run_two(struct test *t, const char *id, unsigned partitions, uint64_t batches,
                    build_two_fn build, unsigned form)
{
    const struct ds_vector *vector = ds_vector(id);
    const char *second = strchr(vector->input, ';');
    struct ds *d = ds_new(t, vector->columns), *other = ds_new(t, vector->columns);
    struct mr_dstream *a, *b;
    char first[512];

    CHECK_NOT_NULL(second);
    snprintf(first, sizeof(first), "%.*s", (int)(second - vector->input), vector->input);
    ds_partitions(d, partitions);
    ds_partitions(other, partitions);
    ds_input(d, first);
    ds_input(other, second + 1);
    ds_begin(d, MR_SECONDS(1), NULL);
    a = ds_stream(d);
    b = ds_stream_of(d, other);
    mr__context_config(ds_context(d))->workers = partitions;
    ds_collect(d, build(a, b, form));
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, !vector->ordered), ds_tidy(d, vector->expected, !vector->ordered));
    ds_free(other);
    ds_free(d);
}

typedef struct mr_dstream *(*build_one_fn)(struct mr_dstream *input, unsigned form);

static void expect(struct test *t, unsigned partitions, const char *columns, const char *input,
                   uint64_t batches, const char *expected, bool sorted, build_one_fn build,
                   unsigned form)
{
    struct ds *d = ds_new(t, columns);

    ds_partitions(d, partitions);
    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), NULL);
    mr__context_config(ds_context(d))->workers = partitions;
    ds_collect(d, build(ds_stream(d), form));
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, sorted), ds_tidy(d, expected, sorted));
    ds_free(d);
}

static void run_one(struct test *t, const char *id, unsigned forms, uint64_t batches,
                    build_one_fn build)
{
    const struct ds_vector *vector = ds_vector(id);

    for (unsigned partitions = 1; partitions <= 3; partitions++) {
        for (unsigned form = 0; form < forms; form++)
            expect(t, partitions, vector->columns, vector->input, batches, vector->expected,
                   !vector->ordered, build, form);
    }
}

/* ---- functions in C ---- */

static void with_one(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    (void)arg;
    mr_emit_pair_str_int(out, text.data, text.size_bytes, 1);
}

static void with_x(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    (void)arg;
    mr_emit_str(out, text.data, text.size_bytes);
    mr_emit_str(out, "x", 1);
    mr_emit_end(out);
}

static void same(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0));
}

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

/* ---- vectors ---- */

static struct mr_dstream *ones(struct mr_dstream *texts, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("value, 1"), MR_FN(with_one), MR_COUNT};
    return mr_map_to_pair(texts, forms[form]);
}

static struct mr_dstream *crosses(struct mr_dstream *texts, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("value, 'x'"),
                                  MR_FN_AS(with_x, "key VARCHAR, value VARCHAR")};
    return mr_map_to_pair(texts, forms[form % 2]);
}

static struct mr_dstream *grouped_ones(struct mr_dstream *texts, unsigned form)
{
    return mr_group_by_key(ones(texts, form));
}

TEST(V16_group_by_key_lists_the_values_of_each_key)
{
    run_one(t, "V16", 3, 3, grouped_ones);
}

static struct mr_dstream *grouped(struct mr_dstream *pairs, unsigned form)
{
    (void)form;
    return mr_group_by_key(pairs);
}

TEST(V44_group_by_key_of_texts)
{
    run_one(t, "V44", 1, 2, grouped);
}

static struct mr_dstream *combined(struct mr_dstream *pairs, unsigned form)
{
    const struct mr_fn creates[] = {MR_SQL("value"), MR_FN(same)};
    const struct mr_fn merges[] = {MR_SQL("a + b"), MR_FN(add), MR_SUM};

    return mr_combine_by_key(pairs, creates[form % 2], merges[form], merges[(form + 1) % 3]);
}

TEST(V43_combine_by_key_adds_as_reduce_by_key_does)
{
    run_one(t, "V43", 3, 2, combined);
}

static struct mr_dstream *joined(struct mr_dstream *a, struct mr_dstream *b, unsigned form)
{
    return mr_join(ones(a, form), crosses(b, form));
}

static struct mr_rdd *join(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                           void *arg)
{
    (void)input_count;
    (void)time_ms;
    (void)arg;
    return mr_rdd_join(inputs[0], inputs[1]);
}

#define JOINED "key VARCHAR, value STRUCT(\"left\" BIGINT, \"right\" VARCHAR)"

static struct mr_dstream *joined_by_transform(struct mr_dstream *a, struct mr_dstream *b,
                                              unsigned form)
{
    const struct mr_fn forms[] = {
        MR_FN_AS(join, JOINED),
        MR_SQL("SELECT a.key, {'left': a.value, 'right': b.value} AS value FROM a JOIN b "
               "ON a.key = b.key")};
    return mr_transform_with(ones(a, form), crosses(b, form), forms[form % 2]);
}

static struct mr_dstream *cogrouped(struct mr_dstream *a, struct mr_dstream *b, unsigned form)
{
    return mr_cogroup(ones(a, form), crosses(b, form));
}

static struct mr_dstream *left_joined(struct mr_dstream *a, struct mr_dstream *b, unsigned form)
{
    return mr_left_outer_join(ones(a, form), crosses(b, form));
}

static struct mr_dstream *right_joined(struct mr_dstream *a, struct mr_dstream *b, unsigned form)
{
    return mr_right_outer_join(ones(a, form), crosses(b, form));
}

static struct mr_dstream *counted_left_join(struct mr_dstream *a, struct mr_dstream *b,
                                            unsigned form)
{
    (void)form;
    return mr_count(mr_left_outer_join(a, b));
}

static void run_two_forms(struct test *t, const char *id, uint64_t batches, build_two_fn build)
{
    for (unsigned partitions = 1; partitions <= 3; partitions++) {
        for (unsigned form = 0; form < 3; form++)
            run_two(t, id, partitions, batches, build, form);
    }
}

TEST(V29_join_pairs_every_left_value_with_every_right_one)
{
    run_two_forms(t, "V29", 4, joined);
    run_two_forms(t, "V29", 4, joined_by_transform);
}

TEST(V32_cogroup_lists_both_sides_of_every_key)
{
    run_two_forms(t, "V32", 4, cogrouped);
}

TEST(V34_left_outer_join_keeps_every_left_row)
{
    run_two_forms(t, "V34", 4, left_joined);
}

TEST(V35_right_outer_join_keeps_every_right_row)
{
    run_two_forms(t, "V35", 4, right_joined);
}

TEST(V47_left_outer_join_then_count)
{
    run_two_forms(t, "V47", 2, counted_left_join);
}

/* ---- rules ---- */

static struct mr_dstream *full_joined(struct mr_dstream *pairs, unsigned form)
{
    (void)form;
    return mr_full_outer_join(mr_filter(pairs, MR_SQL("value < 10")),
                              mr_filter(pairs, MR_SQL("value >= 10")));
}

TEST(full_outer_join_keeps_every_row_of_both)
{
    for (unsigned partitions = 1; partitions <= 3; partitions++)
        expect(t, partitions, "key VARCHAR, value BIGINT", "a:1,b:2,b:20,b:30,c:40", 1,
               "a:{left: 1, right: null},b:{left: 2, right: 20},b:{left: 2, right: 30},"
               "c:{left: null, right: 40}",
               true, full_joined, 0);
}

/* A combiner of another type than the values: sum and count. */
static struct mr_dstream *averages(struct mr_dstream *pairs, unsigned form)
{
    (void)form;
    return mr_map_values(mr_combine_by_key(pairs, MR_SQL("{'sum': value, 'n': CAST(1 AS BIGINT)}"),
                                           MR_SQL("{'sum': a.sum + b, 'n': a.n + 1}"),
                                           MR_SQL("{'sum': a.sum + b.sum, 'n': a.n + b.n}")),
                         MR_SQL("value.sum / value.n"));
}

TEST(a_combiner_may_be_of_another_type)
{
    for (unsigned partitions = 1; partitions <= 3; partitions++)
        expect(t, partitions, "key VARCHAR, value BIGINT", "a:1,b:10,a:3,a:8,b:20", 1,
               "a:4.0,b:15.0", true, averages, 0);
}

static struct mr_dstream *summed(struct mr_dstream *pairs, unsigned form)
{
    const struct mr_fn sums[] = {MR_SUM, MR_FN(add), MR_SQL("a + b")};
    struct mr_dstream *stream = mr_reduce_by_key(pairs, sums[form]);

    mr_dstream_set_partitions(stream, 4);
    return stream;
}

static struct mr_dstream *summed_keys(struct mr_dstream *pairs, unsigned form)
{
    return mr_glom(mr_map(summed(pairs, form), MR_SQL("key")));
}

/* The partition of a key depends on the key and the number of partitions alone. */
TEST(a_key_is_in_the_same_partition_whoever_reduces_it)
{
    char input[2048] = "", first[8192] = "";

    for (int i = 0; i < 120; i++)
        snprintf(input + strlen(input), sizeof(input) - strlen(input), "%sk%d:%d", i > 0 ? "," : "",
                 i % 40, i);
    for (unsigned i = 0; i < 9; i++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

        ds_partitions(d, 1 + i / 3);
        ds_input(d, input);
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 1 + i % 2;
        mr__context_config(ds_context(d))->parallel_min_bytes = 0;
        ds_collect(d, summed_keys(ds_stream(d), i % 3));
        ds_must_run(d, 1);
        if (i == 0)
            snprintf(first, sizeof(first), "%s", ds_output(d, false));
        CHECK_EQ_STR(ds_output(d, false), first);
        ds_free(d);
    }
}

TEST(every_form_of_reduce_by_key_gives_the_same_partitions)
{
    for (unsigned form = 0; form < 3; form++) {
        static char built_in[1024];
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

        ds_input(d, "a:1,b:2,c:3,d:4,e:5,f:6,g:7,a:10,b:20,h:8,i:9 | x:1 |");
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_glom(summed(ds_stream(d), form)));
        ds_must_run(d, 3);
        if (form == 0)
            snprintf(built_in, sizeof(built_in), "%s", ds_output(d, false));
        CHECK_EQ_STR(ds_output(d, false), built_in);
        ds_free(d);
    }
}

/* Keys that are equal as values are one key, wherever their rows are. */
static struct mr_dstream *joined_doubles(struct mr_dstream *pairs, unsigned form)
{
    struct mr_dstream *keyed = mr_map_to_pair(pairs, MR_SQL("CAST(key AS DOUBLE), value"));

    (void)form;
    return mr_count(mr_join(keyed, keyed));
}

TEST(minus_zero_and_zero_are_one_key)
{
    expect(t, 2, "key VARCHAR, value BIGINT", "0.0:1,-0.0:2", 1, "4", true, joined_doubles, 0);
}

/* ---- mistakes ---- */

static void expect_mistake(struct test *t, struct ds *d, const char *says)
{
    struct mr_error err;

    (void)t;
    CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
    if (strstr(err.text, says) == NULL)
        CHECK_EQ_STR(err.text, says);
    ds_free(d);
}

static struct ds *begin(struct test *t, const char *columns)
{
    struct ds *d = ds_new(t, columns);

    ds_begin(d, MR_SECONDS(1), NULL);
    return d;
}

TEST(pair_operators_refuse_streams_that_are_no_pairs)
{
    for (unsigned i = 0; i < 9; i++) {
        struct ds *d = begin(t, "value BIGINT");
        struct mr_dstream *s = ds_stream(d);

        switch (i) {
        case 0:
            mr_group_by_key(s);
            break;
        case 1:
            mr_reduce_by_key(s, MR_SUM);
            break;
        case 2:
            mr_combine_by_key(s, MR_SQL("value"), MR_SUM, MR_SUM);
            break;
        case 3:
            mr_map_values(s, MR_SQL("value"));
            break;
        case 4:
            mr_flat_map_values(s, MR_SQL("[value]"));
            break;
        case 5:
            mr_join(s, s);
            break;
        case 6:
            mr_cogroup(s, s);
            break;
        case 7:
            mr_left_outer_join(s, s);
            break;
        default:
            mr_full_outer_join(s, s);
            break;
        }
        expect_mistake(t, d, "not key and value; use mr_map_to_pair first");
    }
}

TEST(a_join_needs_keys_of_one_type)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT");
    struct mr_dstream *pairs = ds_stream(d);

    mr_join(pairs, mr_map_to_pair(pairs, MR_SQL("value, key")));
    expect_mistake(t, d, "join");
}

TEST(a_join_needs_one_slide)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT");
    struct mr_dstream *pairs = ds_stream(d);

    mr_join(pairs, mr_window(pairs, MR_SECONDS(2), MR_SECONDS(2)));
    expect_mistake(t, d, "join: the streams have different slides (1000 ms and 2000 ms)");
}

TEST(a_join_needs_one_context)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT");
    struct ds *other = begin(t, "key VARCHAR, value BIGINT");

    mr_cogroup(ds_stream(d), ds_stream(other));
    expect_mistake(t, d, "cogroup: the streams belong to different contexts");
    ds_free(other);
}

TEST(a_join_without_a_dataset_fails_the_batch)
{
    for (int both = 0; both < 2; both++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct ds *other = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_dstream *a, *b;
        struct mr_error err;

        ds_input(d, "a:1 | null");
        ds_input(other, both != 0 ? "a:1 | null" : "a:1 | b:2");
        ds_begin(d, MR_SECONDS(1), NULL);
        a = ds_stream(d);
        b = ds_stream_of(d, other);
        ds_collect(d, mr_join(a, b));
        CHECK(ds_run(d, 2, &err) != MR_OK);
        CHECK(strstr(err.text, "could not generate") != NULL);
        ds_free(other);
        ds_free(d);
    }
}

TEST(partitions_are_from_1_to_1024)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT");

    mr_dstream_set_partitions(mr_reduce_by_key(ds_stream(d), MR_SUM), 0);
    expect_mistake(t, d, "mr_dstream_set_partitions: cannot make 0 partitions; use 1 to 1024");
    d = begin(t, "key VARCHAR, value BIGINT");
    mr_repartition(ds_stream(d), 1025);
    expect_mistake(t, d, "repartition: cannot make 1025 partitions; use 1 to 1024");
}
