/*
 * DStreams without memory: map, flatMap, filter, mapToPair, reduceByKey, countByValue, union.
 *
 * Each vector (vectors_dstream.inc) runs with every form its function can be said in: SQL, C,
 * built-in; all must agree.
 */
#include "support/dstream.h"

#include <millrace/rdd.h>

#include <ctype.h>

/* ---- functions in C ---- */

static void one_and_double(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0));
    mr_emit_int(out, 2 * mr_row_int(row, 0));
}

static enum mr_status one_and_double_batch(const struct mr_batch *in, struct mr_batch_builder *out,
                                           void *arg, struct mr_error *err)
{
    (void)arg;
    (void)err;
    for (int64_t row = 0; row < mr_batch_row_count(in); row++) {
        int64_t value = mr_column_int(mr_batch_column(in, 0), row);
        mr_batch_builder_int(out, 0, value);
        mr_batch_builder_end_row(out);
        mr_batch_builder_int(out, 0, 2 * value);
        mr_batch_builder_end_row(out);
    }
    return MR_OK;
}

static bool is_even(const struct mr_row *row, void *arg)
{
    (void)arg;
    return mr_row_int(row, 0) % 2 == 0;
}

static void with_one(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    (void)arg;
    mr_emit_pair_str_int(out, text.data, text.size_bytes, 1);
}

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

static void plus(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    mr_emit_int(out, mr_row_int(row, 0) + *(const int64_t *)arg);
}

static void length_of(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, (int64_t)mr_row_text(row, 0).size_bytes);
}

static void sum_rows(struct mr_rows *rows, struct mr_emitter *out, void *arg)
{
    struct mr_row row;
    int64_t sum = 0;

    (void)arg;
    while (mr_rows_next(rows, &row))
        sum += mr_row_int(&row, 0);
    mr_emit_int(out, sum);
}

static enum mr_status sum_batch(const struct mr_batch *in, struct mr_batch_builder *out, void *arg,
                                struct mr_error *err)
{
    int64_t sum = 0;

    (void)arg;
    (void)err;
    for (int64_t row = 0; row < mr_batch_row_count(in); row++)
        sum += mr_column_int(mr_batch_column(in, 0), row);
    mr_batch_builder_int(out, 0, sum);
    mr_batch_builder_end_row(out);
    return MR_OK;
}

static void upper_rows(struct mr_rows *rows, struct mr_emitter *out, void *arg)
{
    char text[64] = "";
    struct mr_row row;
    size_t used = 0;

    (void)arg;
    while (mr_rows_next(rows, &row)) {
        struct mr_slice word = mr_row_text(&row, 0);
        for (size_t i = 0; i < word.size_bytes && used < sizeof(text); i++)
            text[used++] = (char)toupper((unsigned char)word.data[i]);
    }
    mr_emit_str(out, text, used);
}

static void and_ten_more(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0));
    mr_emit_int(out, mr_row_int(row, 0) + 10);
}

/* ---- vectors ---- */

typedef struct mr_dstream *(*build_fn)(struct mr_dstream *input, unsigned form);

static void run_form(struct test *t, const struct ds_vector *vector, unsigned partitions,
                     uint64_t batches, build_fn build, unsigned form)
{
    struct ds *d = ds_new(t, vector->columns);

    ds_partitions(d, partitions);
    ds_input(d, vector->input);
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, build(ds_stream(d), form));
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, !vector->ordered), ds_tidy(d, vector->expected, !vector->ordered));
    ds_free(d);
}

/* Runs a vector with the forms 0 .. forms - 1 of its operation. */
static void run_vector(struct test *t, const char *id, unsigned forms, uint64_t batches,
                       build_fn build)
{
    const struct ds_vector *vector = ds_vector(id);

    for (unsigned form = 0; form < forms; form++)
        run_form(t, vector, 1, batches, build, form);
}

static struct mr_dstream *flat_mapped(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("[value, 2 * value]"), MR_FN(one_and_double),
                                  MR_FN(one_and_double_batch)};
    return mr_flat_map(input, forms[form]);
}

TEST(V10_flat_map_keeps_the_order)
{
    run_vector(t, "V10", 3, 3, flat_mapped);
}

static struct mr_dstream *filtered(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("value % 2 = 0"), MR_FN(is_even)};
    return mr_filter(input, forms[form]);
}

TEST(V11_filter_keeps_what_passes)
{
    run_vector(t, "V11", 2, 3, filtered);
}

static struct mr_dstream *counted(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn pairs[] = {MR_SQL("value, 1"), MR_FN(with_one), MR_COUNT, MR_SQL("value, 1"),
                                  MR_COUNT};
    const struct mr_fn sums[] = {MR_SQL("a + b"), MR_FN(add), MR_SUM, MR_COUNT, MR_FN(add)};

    return mr_reduce_by_key(mr_map_to_pair(input, pairs[form]), sums[form]);
}

TEST(V17_reduce_by_key_counts_with_sql_c_and_built_ins)
{
    run_vector(t, "V17", 5, 3, counted);
}

static struct mr_dstream *counted_values(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_count_by_value(input);
}

static struct mr_dstream *summed_partitions(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("sum(value)"), MR_FN(sum_rows), MR_FN(sum_batch)};
    return mr_map_partitions(input, forms[form]);
}

TEST(V13_map_partitions_calls_its_function_once_a_partition)
{
    for (unsigned form = 0; form < 3; form++)
        run_form(t, ds_vector("V13"), 2, 3, summed_partitions, form);
}

static struct mr_dstream *counted_batch(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_count(input);
}

TEST(V19_V37_count_gives_one_number_a_batch)
{
    run_form(t, ds_vector("V19"), 1, 5, counted_batch, 0);
    run_form(t, ds_vector("V19"), 2, 5, counted_batch, 0);
    run_form(t, ds_vector("V37"), 2, 3, counted_batch, 0);
}

static struct mr_dstream *counted_and_ten(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("[value, value + 10]"), MR_FN(and_ten_more)};
    return mr_flat_map_values(counted(input, form), forms[form]);
}

TEST(V22_flat_map_values_keeps_the_key)
{
    run_vector(t, "V22", 2, 3, counted_and_ten);
}

static struct mr_dstream *upper_partitions(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("string_agg(upper(value), '')"), MR_FN(upper_rows)};
    return mr_map_partitions(input, forms[form]);
}

TEST(V40_map_partitions_joins_the_texts_of_a_partition)
{
    run_vector(t, "V40", 2, 2, upper_partitions);
}

static struct mr_dstream *reduced_batch(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("a + b"), MR_FN(add), MR_SUM};
    return mr_reduce(input, forms[form]);
}

TEST(V41_reduce_gives_one_value_a_batch)
{
    for (unsigned form = 0; form < 3; form++)
        run_form(t, ds_vector("V41"), 1 + form % 2, 3, reduced_batch, form);
}

TEST(V20_count_by_value)
{
    run_vector(t, "V20", 1, 4, counted_values);
}

static struct mr_dstream *united(struct mr_dstream *input, unsigned form)
{
    static int64_t four = 4;
    const struct mr_fn forms[] = {MR_SQL("value + 4"), MR_FN_FULL(plus, NULL, &four)};
    return mr_union(input, mr_map(input, forms[form]));
}

TEST(V23_union_is_the_first_stream_then_the_second)
{
    run_vector(t, "V23", 2, 3, united);
}

static struct mr_dstream *lengths(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("length(value)"), MR_FN_AS(length_of, "value BIGINT")};
    return mr_map(input, forms[form]);
}

TEST(V38_map_gives_one_result_per_element)
{
    run_vector(t, "V38", 2, 2, lengths);
}

static struct mr_dstream *reduced(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn sums[] = {MR_SQL("a + b"), MR_FN(add), MR_SUM};
    return mr_reduce_by_key(input, sums[form]);
}

TEST(V43_reduce_by_key_of_pairs)
{
    run_vector(t, "V43", 3, 2, reduced);
}

/* ---- partitions, empty and absent batches ---- */

struct partitions_seen {
    uint32_t partitions;
    int64_t sum;
    int64_t rows;
};

static enum mr_status see_partitions(struct mr_rdd *rdd, int64_t time_ms, void *arg,
                                     struct mr_error *err)
{
    struct partitions_seen *seen = arg;

    struct mr_batch *rows;

    (void)time_ms;
    seen->partitions = mr_rdd_partition_count(rdd);
    MR_TRY(mr_rdd_collect(rdd, &rows, err));
    seen->rows += mr_batch_row_count(rows);
    for (int64_t row = 0; row < mr_batch_row_count(rows); row++)
        seen->sum += mr_column_int(mr_batch_column(rows, 0), row);
    mr_batch_unref(rows);
    return MR_OK;
}

TEST(V14_repartition_deals_a_batch_out_to_exactly_that_many_partitions)
{
    for (int first = 1; first <= 201; first += 100) {
        struct partitions_seen seen = {0};
        struct ds *d = ds_new(t, "value BIGINT");
        char input[1024] = "";

        for (int i = first; i < first + 100; i++)
            snprintf(input + strlen(input), sizeof(input) - strlen(input), "%s%d",
                     i > first ? "," : "", i);
        ds_partitions(d, 2);
        ds_input(d, input);
        ds_begin(d, MR_SECONDS(1), NULL);
        mr_foreach_rdd(mr_repartition(ds_stream(d), 5), see_partitions, &seen);
        ds_must_run(d, 1);
        CHECK_EQ_INT(seen.partitions, 5);
        CHECK_EQ_INT(seen.rows, 100);
        CHECK_EQ_INT(seen.sum, 100 * first + 4950);
        ds_free(d);
    }
}

static void expect_in(struct test *t, unsigned partitions, const char *columns, const char *input,
                      uint64_t batches, const char *expected, build_fn build, unsigned form)
{
    const struct ds_vector vector = {"", "", columns, input, expected, true};

    run_form(t, &vector, partitions, batches, build, form);
}

static struct mr_dstream *dealt_lists(struct mr_dstream *input, unsigned form)
{
    return mr_glom(mr_repartition(input, form));
}

TEST(repartition_deals_rows_in_turn_and_glom_shows_every_partition)
{
    expect_in(t, 2, "value BIGINT", "1,2,3,4,5 | 6 |", 3,
              "[1, 4],[2, 5],[3] | [6],[],[] | [],[],[]", dealt_lists, 3);
    expect_in(t, 3, "value VARCHAR", "a,b,c,d", 1, "[a, b, c, d]", dealt_lists, 1);
}

static struct mr_dstream *lists(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_glom(input);
}

TEST(glom_of_pairs_gives_lists_of_structs)
{
    expect_in(t, 2, "key VARCHAR, value BIGINT", "a:1,b:2,c:3 |", 2,
              "[{key: a, value: 1}],[{key: b, value: 2}, {key: c, value: 3}] | [],[]", lists, 0);
}

TEST(V49_of_an_empty_batch_reduce_gives_nothing_and_count_a_zero)
{
    for (unsigned form = 0; form < 3; form++)
        expect_in(t, 2, "value BIGINT", " | 1", 2, " | 1", reduced_batch, form);
    expect_in(t, 1, "value BIGINT", " ", 1, "0", counted_batch, 0);
}

TEST(map_partitions_sees_partitions_without_rows)
{
    expect_in(t, 2, "value BIGINT", " | 7", 2, "0,0 | 0,7", summed_partitions, 1);
    expect_in(t, 2, "value BIGINT", " | 7", 2, "0,0 | 0,7", summed_partitions, 2);
    /* SQL's sum of nothing. */
    expect_in(t, 2, "value BIGINT", " | 7", 2, "null,null | null,7", summed_partitions, 0);
}

/* The last batch of the input has no dataset: the run ends with an error that says so. */
static void expect_no_dataset(struct test *t, build_fn build)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    ds_input(d, "1,2 | 3 | null");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, build(ds_stream(d), 0));
    CHECK(ds_run(d, 3, &err) != MR_OK);
    CHECK(strstr(err.text, "could not generate") != NULL);
    ds_free(d);
}

static struct mr_dstream *with_an_absent_input(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_union(input, input);
}

static struct mr_rdd *to_texts(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                               void *arg)
{
    (void)input_count;
    (void)time_ms;
    (void)arg;
    return mr_rdd_map(inputs[0], MR_SQL("CAST(value AS VARCHAR)"));
}

static struct mr_dstream *texts(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_FN_AS(to_texts, "value VARCHAR"),
                                  MR_SQL("SELECT CAST(value AS VARCHAR) FROM input")};
    return mr_transform(input, forms[form]);
}

TEST(V26_transform_makes_a_dataset_of_a_dataset)
{
    for (unsigned form = 0; form < 2; form++) {
        run_form(t, ds_vector("V26"), 1, 3, texts, form);
        run_form(t, ds_vector("V26"), 2, 3, texts, form);
    }
}

TEST(V28_transform_without_a_dataset_fails_the_batch)
{
    expect_no_dataset(t, texts);
}

static struct mr_rdd *unite(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                            void *arg)
{
    (void)time_ms;
    (void)arg;
    CHECK_EQ_INT(input_count, 3);
    return mr_rdd_union(mr_rdd_union(inputs[0], inputs[1]), inputs[2]);
}

static struct mr_dstream *three_united(struct mr_dstream *input, unsigned form)
{
    struct mr_dstream *const inputs[] = {input, mr_map(input, MR_SQL("value + 4")),
                                         mr_map(input, MR_SQL("value + 8"))};
    const struct mr_fn forms[] = {MR_FN(unite),
                                  MR_SQL("SELECT * FROM input_0 UNION ALL SELECT * FROM input_1 "
                                         "UNION ALL SELECT * FROM input_2")};

    if (form == 2)
        return mr_union_all(inputs, 3);
    return mr_transform_all(inputs, 3, forms[form]);
}

TEST(V31_transform_all_sees_all_datasets_of_a_batch)
{
    for (unsigned form = 0; form < 3; form++)
        run_form(t, ds_vector("V31"), 2, 3, three_united, form);
    expect_no_dataset(t, three_united);
}

static struct mr_rdd *sort(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                           void *arg)
{
    (void)input_count;
    (void)time_ms;
    (void)arg;
    return mr_rdd_sort_by_key(inputs[0], true);
}

static struct mr_dstream *sorted(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_FN(sort), MR_SQL("SELECT * FROM input ORDER BY key")};
    return mr_transform(input, forms[form]);
}

TEST(V46_transform_sorts_by_key)
{
    for (unsigned form = 0; form < 2; form++) {
        run_form(t, ds_vector("V46"), 1, 2, sorted, form);
        run_form(t, ds_vector("V46"), 2, 2, sorted, form);
    }
}

TEST(V25_a_union_without_a_dataset_fails_the_batch)
{
    expect_no_dataset(t, united);
    expect_no_dataset(t, with_an_absent_input);
}

static struct mr_dstream *repartitioned(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_repartition(input, 2);
}

TEST(count_and_repartition_need_a_dataset)
{
    expect_no_dataset(t, counted_batch);
    expect_no_dataset(t, repartitioned);
}

TEST(an_absent_batch_gives_nothing_to_map_and_reduce_by_key)
{
    expect_in(t, 1, "value VARCHAR", "a,b | null | c", 3, "a:1,b:1 | c:1", counted, 2);
    expect_in(t, 1, "value BIGINT", "1,2 | null | 3", 3, "3 | 3", reduced_batch, 2);
    expect_in(t, 2, "value BIGINT", "1,2 | null | 3", 3, "1,2 | 0,3", summed_partitions, 1);
}

/* Two inputs one after the other: no task of the second is before one of the first. */
TEST(a_union_of_two_inputs_keeps_all_their_partitions)
{
    struct ds *d = ds_new(t, "value BIGINT"), *other = ds_new(t, "value BIGINT");
    struct mr_dstream *a, *b;

    ds_partitions(d, 2);
    ds_input(d, "1,2,3,4");
    ds_input(other, "5,6");
    ds_begin(d, MR_SECONDS(1), NULL);
    a = ds_stream(d);
    b = ds_stream_of(d, other);
    ds_collect(d,
               mr_glom(mr_union_all((struct mr_dstream *const[]){a, b, mr_reduce(a, MR_SUM)}, 3)));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, "[1, 2],[3, 4],[5, 6],[10]", false));
    ds_free(other);
    ds_free(d);
}

TEST(a_union_against_the_order_of_the_inputs_is_in_its_own_order)
{
    struct ds *d = ds_new(t, "value BIGINT"), *other = ds_new(t, "value BIGINT");
    struct mr_dstream *a, *b;

    ds_input(d, "1,2");
    ds_input(other, "5,6");
    ds_begin(d, MR_SECONDS(1), NULL);
    a = ds_stream(d);
    b = ds_stream_of(d, other);
    ds_collect(d, mr_union(b, a));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "5,6,1,2");
    ds_free(other);
    ds_free(d);
}

/* ---- rules ---- */

static void expect(struct test *t, const char *columns, const char *input, const char *expected,
                   build_fn build, unsigned form)
{
    struct ds *d = ds_new(t, columns);

    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, build(ds_stream(d), form));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, expected, false));
    ds_free(d);
}

static struct mr_dstream *least(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("least(a, b)"), MR_MIN_OF};
    return mr_reduce_by_key(input, forms[form]);
}

static struct mr_dstream *greatest(struct mr_dstream *input, unsigned form)
{
    const struct mr_fn forms[] = {MR_SQL("greatest(a, b)"), MR_MAX_OF};
    return mr_reduce_by_key(input, forms[form]);
}

TEST(reduce_by_key_takes_minima_and_maxima_of_any_type)
{
    for (unsigned form = 0; form < 2; form++) {
        expect(t, "key VARCHAR, value BIGINT", "b:3,a:-5,b:-7,a:2,b:0", "a:-5,b:-7", least, form);
        expect(t, "key VARCHAR, value BIGINT", "b:3,a:-5,b:-7,a:2,b:0", "a:2,b:3", greatest, form);
        expect(t, "key BIGINT, value VARCHAR", "2:pear,1:fig,2:apple,1:kiwi", "1:fig,2:apple",
               least, form);
    }
}

static struct mr_dstream *letters_to_pairs(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_reduce_by_key(mr_map_to_pair(mr_flat_map(input, MR_WORDS), MR_COUNT), MR_COUNT);
}

TEST(pairs_come_out_in_the_order_of_their_keys)
{
    expect(t, "value VARCHAR", "the quick fox, jumps over the, lazy the dog",
           "dog:1,fox:1,jumps:1,lazy:1,over:1,quick:1,the:3", letters_to_pairs, 0);
}

static struct mr_dstream *concatenated(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_reduce_by_key(input, MR_SQL("a || b"));
}

TEST(an_associative_function_sees_neighbours_in_order)
{
    /* Not commutative, so only a single partition promises this order. */
    expect(t, "key VARCHAR, value VARCHAR", "x:1,y:a,x:2,x:3,y:b,x:4,x:5", "x:12345,y:ab",
           concatenated, 0);
}

static struct mr_dstream *timed(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_map(mr_filter(input, MR_SQL("batch_time > TIMESTAMP '2000-01-01'")),
                  MR_SQL("CAST(epoch_ms(batch_time) % 1000 AS BIGINT) + value"));
}

TEST(batch_time_is_known_in_every_expression)
{
    expect(t, "value BIGINT", "1,2", "1,2", timed, 0);
}

static struct mr_dstream *columns_by_name(struct mr_dstream *input, unsigned form)
{
    (void)form;
    return mr_map_to_pair(mr_map(input, MR_SQL("city, n * 2 AS doubled, n")),
                          MR_SQL("city, doubled - n"));
}

TEST(elements_may_have_any_named_columns)
{
    expect(t, "city VARCHAR, n BIGINT", "rome:3,oslo:5", "rome:3,oslo:5", columns_by_name, 0);
}

TEST(a_stream_with_many_keys_is_reduced_the_same_by_every_form)
{
    char input[8192] = "", sql[8192], c[8192];
    struct ds *d;

    for (int i = 0; i < 600; i++)
        snprintf(input + strlen(input), sizeof(input) - strlen(input), "%sk%d:%d", i > 0 ? "," : "",
                 i * 7 % 41, i);
    for (unsigned form = 0; form < 3; form++) {
        d = ds_new(t, "key VARCHAR, value BIGINT");
        ds_input(d, input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, reduced(ds_stream(d), form));
        ds_must_run(d, 1);
        snprintf(form == 0 ? sql : c, sizeof(sql), "%s", ds_output(d, false));
        if (form > 0)
            CHECK_EQ_STR(c, sql);
        ds_free(d);
    }
}
