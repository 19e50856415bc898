/*
 * DStreams without memory: map, flatMap, filter, mapToPair, reduceByKey, countByValue, union.
 *
 * Each vector (vectors_dstream.inc) runs with every form its function can be said in: SQL, C,
 * built-in; all must agree.
 */
#include "support/dstream.h"

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

/* ---- vectors ---- */

typedef struct mr_dstream *(*build_fn)(struct mr_dstream *input, unsigned form);

/* Runs a vector with the forms 0 .. forms - 1 of its operation. */
static void run_vector(struct test *t, const char *id, unsigned forms, uint64_t batches,
                       build_fn build)
{
    const struct ds_vector *vector = ds_vector(id);

    for (unsigned form = 0; form < forms; form++) {
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, build(ds_stream(d), form));
        ds_must_run(d, batches);
        CHECK_EQ_STR(ds_output(d, !vector->ordered),
                     ds_tidy(d, vector->expected, !vector->ordered));
        ds_free(d);
    }
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
