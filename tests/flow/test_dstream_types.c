/*
 * Types of DStreams: numbers, texts, bytes, pairs, lists, and structs of the program with a codec.
 * Wrong types and wrong kinds of functions are mistakes of the building call, with the place where
 * the function was given; functions that go wrong later fail their batch, with the same place.
 */
#include "support/dstream.h"

#include <millrace/codec.h>
#include <millrace/rdd.h>

#include <stdlib.h>

/* ---- a struct of the program ---- */

struct click {
    int64_t user;
    double seconds;
};

static size_t print_click(const void *object, char *text, size_t size)
{
    const struct click *click = object;

    return (size_t)snprintf(text, size, "user %d after %g s", (int)click->user, click->seconds);
}

/* The quickest first: not the order of the bytes. */
static int compare_clicks(const void *a_pointer, const void *b_pointer)
{
    const struct click *a = a_pointer, *b = b_pointer;

    return (a->seconds > b->seconds) - (a->seconds < b->seconds);
}

static const struct mr_codec click_codec = {
    .struct_size = sizeof(struct mr_codec),
    .name = "click",
    .size_bytes = sizeof(struct click),
    .compare = compare_clicks,
    .print = print_click,
};

static const struct mr_codec other_codec = {
    .struct_size = sizeof(struct mr_codec),
    .name = "knock",
    .size_bytes = sizeof(struct click),
};

/* "user:seconds" */
static void parse_click(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct click click = {.user = mr_row_int(row, 0), .seconds = mr_row_double(row, 1)};

    (void)arg;
    mr_emit_object(out, &click);
}

static void parse_keyed_click(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct click click = {.user = mr_row_int(row, 0), .seconds = mr_row_double(row, 1)};

    (void)arg;
    mr_emit_int(out, click.user % 2);
    mr_emit_object(out, &click);
    mr_emit_end(out);
}

static void seconds_of(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct click click;

    (void)arg;
    if (mr_row_object(row, 0, &click))
        mr_emit_double(out, click.seconds);
    else
        mr_emit_null(out);
}

static bool is_quick(const struct mr_row *row, void *arg)
{
    struct click click;

    (void)arg;
    return mr_row_object(row, 0, &click) && click.seconds < 2;
}

static void quicker(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                    void *arg)
{
    struct click left, right;

    (void)arg;
    if (mr_row_object(a, 0, &left) && mr_row_object(b, 0, &right))
        mr_emit_object(out, left.seconds <= right.seconds ? &left : &right);
}

#define CLICKS "user BIGINT, seconds DOUBLE"
#define SOME_CLICKS "1:2.5,2:0.5,3:1.5,4:8,1:2.5"

static struct ds *begin(struct test *t, const char *columns, const char *input)
{
    struct ds *d = ds_new(t, columns);
    struct mr_error err;

    mr_error_clear(&err);
    CHECK_OK(mr_codec_register(&click_codec, &err), &err);
    CHECK_OK(mr_codec_register(&other_codec, &err), &err);
    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), NULL);
    return d;
}

static void expect(struct ds *d, struct mr_dstream *stream, uint64_t batches, const char *expected)
{
    ds_collect(d, stream);
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, expected, false));
    ds_free(d);
}

static struct mr_dstream *clicks(struct ds *d)
{
    return mr_map(ds_stream(d), MR_FN_AS(parse_click, "value click"));
}

static struct mr_dstream *keyed_clicks(struct ds *d)
{
    return mr_map_to_pair(ds_stream(d), MR_FN_AS(parse_keyed_click, "key BIGINT, value click"));
}

TEST(a_struct_with_a_codec_is_an_element)
{
    struct ds *d = begin(t, CLICKS, SOME_CLICKS);

    expect(d, mr_filter(clicks(d), MR_FN(is_quick)), 1, "user 2 after 0.5 s,user 3 after 1.5 s");
    d = begin(t, CLICKS, SOME_CLICKS);
    expect(d, mr_map(clicks(d), MR_FN_AS(seconds_of, "value DOUBLE")), 1, "2.5,0.5,1.5,8.0,2.5");
}

/* SQL sees bytes, and gives back what it does not change. */
TEST(an_sql_filter_keeps_the_codec)
{
    struct ds *d = begin(t, CLICKS, SOME_CLICKS);

    expect(d, mr_filter(clicks(d), MR_SQL("octet_length(value) = 16")), 1,
           "user 1 after 2.5 s,user 2 after 0.5 s,user 3 after 1.5 s,user 4 after 8 s,user 1 after "
           "2.5 s");
    d = begin(t, CLICKS, SOME_CLICKS);
    expect(d, mr_reduce_by_key(keyed_clicks(d), MR_SQL("least(a, b)")), 1,
           "0:user 2 after 0.5 s,1:user 1 after 2.5 s");
}

TEST(minima_are_those_of_the_codec)
{
    const struct mr_fn forms[] = {MR_MIN_OF, MR_FN(quicker)};

    for (unsigned form = 0; form < 2; form++) {
        struct ds *d = begin(t, CLICKS, SOME_CLICKS);

        expect(d, mr_reduce_by_key(keyed_clicks(d), forms[form]), 1,
               "0:user 2 after 0.5 s,1:user 3 after 1.5 s");
        d = begin(t, CLICKS, SOME_CLICKS);
        expect(d, mr_reduce(clicks(d), forms[form]), 1, "user 2 after 0.5 s");
    }
}

static struct mr_rdd *sort(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                           void *arg)
{
    (void)input_count;
    (void)time_ms;
    (void)arg;
    return mr_rdd_sort_by(inputs[0], MR_SQL("value"), false);
}

static void the_click(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_value(out, mr_row_value(row, 0));
}

static struct mr_rdd *sort_in_c(struct mr_rdd *const *inputs, size_t input_count, int64_t time_ms,
                                void *arg)
{
    (void)input_count;
    (void)time_ms;
    (void)arg;
    return mr_rdd_sort_by(inputs[0], MR_FN_AS(the_click, "value click"), true);
}

/* An SQL key is bytes again: it sorts by those. */
TEST(sorting_is_in_the_order_of_the_codec)
{
    struct ds *d = begin(t, CLICKS, "1:2.5,2:0.5,3:1.5");

    expect(d, mr_transform(clicks(d), MR_FN(sort_in_c)), 1,
           "user 2 after 0.5 s,user 3 after 1.5 s,user 1 after 2.5 s");
    d = begin(t, CLICKS, "1:2.5,2:0.5,3:1.5");
    expect(d, mr_transform(clicks(d), MR_FN(sort)), 1,
           "user 3 after 1.5 s,user 2 after 0.5 s,user 1 after 2.5 s");
}

TEST(equal_bytes_are_one_key)
{
    struct ds *d = begin(t, CLICKS, SOME_CLICKS);

    ds_collect(d, mr_count_by_value(clicks(d)));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, true), "user 1 after 2.5 s:2,user 2 after 0.5 s:1,"
                                     "user 3 after 1.5 s:1,user 4 after 8 s:1");
    ds_free(d);
    d = begin(t, CLICKS, SOME_CLICKS);
    expect(d, mr_group_by_key(keyed_clicks(d)), 1,
           "0:[user 2 after 0.5 s, user 4 after 8 s],"
           "1:[user 1 after 2.5 s, user 3 after 1.5 s, user 1 after 2.5 s]");
}

static void same_click(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_value(out, mr_row_value(row, 0));
}

TEST(another_codec_is_another_type)
{
    struct ds *d = begin(t, CLICKS, SOME_CLICKS);
    struct mr_error err;

    mr_union(clicks(d), mr_map(clicks(d), MR_FN_AS(same_click, "value knock")));
    CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
    CHECK_NOT_NULL(strstr(err.text, "'value BLOB(click)' and 'value BLOB(knock)'"));
    ds_free(d);
}

/* The states of one codec are not those of another. */
TEST(a_checkpoint_with_another_codec_is_refused)
{
    struct ds *d = begin(t, CLICKS, SOME_CLICKS "|" SOME_CLICKS);
    const char *types[] = {"key BIGINT, value click", "key BIGINT, value knock"};
    struct mr_error err;

    ds_run(d, 0, NULL);
    for (int i = 0; i < 2; i++) {
        ds_begin(d, MR_SECONDS(1), "/checkpoint");
        ds_collect(d, mr_update_state_by_key(
                          mr_map_to_pair(ds_stream(d), MR_FN_AS(parse_keyed_click, types[i])),
                          "best", MR_MIN_OF));
        mr_error_clear(&err);
        CHECK_EQ_INT(ds_run(d, 1, &err) == MR_OK, i == 0);
    }
    CHECK_NOT_NULL(strstr(err.text, "click"));
    ds_free(d);
}

TEST(states_with_a_codec_survive_a_restart)
{
    struct ds *d = begin(t, CLICKS, "1:2.5,2:0.5|3:1.5,4:8");

    ds_run(d, 0, NULL);
    for (int run = 0; run < 2; run++) {
        ds_begin(d, MR_SECONDS(1), "/checkpoint");
        ds_collect(d, mr_update_state_by_key(keyed_clicks(d), "best", MR_MIN_OF));
        ds_must_run(d, 1);
    }
    CHECK_EQ_STR(ds_output(d, true), "0:user 2 after 0.5 s,1:user 1 after 2.5 s | "
                                     "0:user 2 after 0.5 s,1:user 3 after 1.5 s");
    ds_free(d);
}

/* What a dataset writes is read back with the codec, or its name where there is none. */
TEST(object_files_keep_the_codec)
{
    const struct click click = {.user = 5, .seconds = 0.25};
    struct mr_session *session = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL, *back = NULL;
    struct mr_row row = {0};
    struct mr_error err;
    char text[64];

    ds_free(begin(t, CLICKS, ""));
    mr_error_clear(&err);
    CHECK_OK(mr_schema_parse("value click", 11, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_object(builder, 0, &click);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    CHECK_OK(mr_session_new(NULL, &session, &err), &err);
    CHECK_OK(mr_rdd_save_as_object_file(mr_rdd_parallelize(session, batch, 1),
                                        test_path(t, "clicks"), &err),
             &err);
    CHECK_OK(mr_rdd_collect(mr_rdd_object_file(session, test_path(t, "clicks")), &back, &err),
             &err);
    CHECK(mr_schema_equal(mr_batch_schema(back), schema));
    row.batch = back;
    mr_row_print(&row, 0, text, sizeof(text));
    CHECK_EQ_STR(text, "user 5 after 0.25 s");
    mr_batch_unref(back);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    mr_session_free(session);
}

/* ---- values inside values, from C ---- */

/* key: left value times the sum of the right list */
static void times_sum(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_value sides = mr_row_value(row, 1), right = mr_value_field(sides, 1);
    int64_t sum = 0;

    (void)arg;
    for (int64_t i = 0; i < mr_value_count(right); i++)
        sum += mr_value_int(mr_value_item(right, i));
    mr_emit_value(out, mr_row_value(row, 0));
    mr_emit_int(out, mr_value_count(mr_value_named(sides, "left")) * sum);
    mr_emit_end(out);
}

TEST(a_c_function_reads_the_lists_of_a_cogroup)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT", "a:1,a:2,b:3");
    struct mr_dstream *pairs = ds_stream(d);

    expect(d, mr_map(mr_cogroup(pairs, pairs), MR_FN_AS(times_sum, "key VARCHAR, value BIGINT")), 1,
           "a:6,b:3");
}

static void swapped(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_value sides = mr_row_value(row, 1);

    (void)arg;
    mr_emit_value(out, mr_value_field(sides, 1));
    mr_emit_value(out, mr_value_field(sides, 0));
    mr_emit_end(out);
}

TEST(a_c_function_emits_the_sides_of_a_join)
{
    struct ds *d = begin(t, "key VARCHAR, value BIGINT", "a:1,b:3");
    struct mr_dstream *pairs = ds_stream(d);
    struct mr_dstream *odd = mr_filter(pairs, MR_SQL("key = 'a'"));

    expect(d,
           mr_map(mr_left_outer_join(pairs, mr_map_values(odd, MR_SQL("value + 10"))),
                  MR_FN_AS(swapped, "key BIGINT, value BIGINT")),
           1, "11:1,null:3");
}

/* ---- mistakes of building calls ---- */

static void nothing(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)row;
    (void)out;
    (void)arg;
}

static void nothing_of_two(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                           void *arg)
{
    (void)a;
    (void)b;
    (void)out;
    (void)arg;
}

struct mistake {
    const char *columns;
    const char *says; /* behind the place */
    const char *operation;
    struct mr_dstream *(*build)(struct mr_dstream *s, struct mr_fn fn);
    struct mr_fn fn;
};

static struct mr_dstream *call_map(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_map(s, fn);
}
static struct mr_dstream *call_flat_map(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_flat_map(s, fn);
}
static struct mr_dstream *call_filter(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_filter(s, fn);
}
static struct mr_dstream *call_map_to_pair(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_map_to_pair(s, fn);
}
static struct mr_dstream *call_map_partitions(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_map_partitions(s, fn);
}
static struct mr_dstream *call_reduce(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_reduce(s, fn);
}
static struct mr_dstream *call_reduce_by_key(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_reduce_by_key(s, fn);
}
static struct mr_dstream *call_map_values(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_map_values(s, fn);
}
static struct mr_dstream *call_flat_map_values(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_flat_map_values(s, fn);
}
static struct mr_dstream *call_combine(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_combine_by_key(s, fn, MR_SQL("a + b"), MR_SUM);
}

#define PAIR_COLUMNS "key VARCHAR, value BIGINT"
#define TEXT_PAIRS "key VARCHAR, value VARCHAR"

TEST(a_wrong_function_or_type_is_told_with_its_place)
{
    const struct mistake mistakes[] = {
        {CLICKS, "cannot use a test of a row 'is_quick'", "map", call_map, MR_FN(is_quick)},
        {CLICKS, "cannot use a built-in 'sum'", "map", call_map, MR_SUM},
        {CLICKS, "bad_column", "map", call_map, MR_SQL("bad_column + 1")},
        {CLICKS, "unknown type 'clack'", "map", call_map, MR_FN_AS(nothing, "value clack")},
        {CLICKS, "MR_WORDS takes a stream of texts", "flat_map", call_flat_map, MR_WORDS},
        {CLICKS, "cannot use a reduce function", "flat_map", call_flat_map, MR_FN(nothing_of_two)},
        {CLICKS, "UNNEST", "flat_map", call_flat_map, MR_SQL("user")},
        {CLICKS, "cannot use a function of one row 'nothing'", "filter", call_filter,
         MR_FN(nothing)},
        {CLICKS, "", "filter", call_filter, MR_SQL("user +")},
        {CLICKS, "a pair needs two expressions", "map_to_pair", call_map_to_pair, MR_SQL("user")},
        {CLICKS, "the input has no column 'value'", "map_to_pair", call_map_to_pair,
         MR_FN(nothing)},
        {CLICKS, "declare it as \"key TYPE, value TYPE\"", "map_to_pair", call_map_to_pair,
         MR_FN_AS(nothing, "a BIGINT, b BIGINT")},
        {CLICKS, "MR_SQL with aggregates", "map_partitions", call_map_partitions, MR_FN(nothing)},
        {CLICKS, "the elements have 2 columns", "reduce", call_reduce, MR_SUM},
        {"value VARCHAR", "sum", "reduce", call_reduce, MR_SUM},
        {"value BIGINT", "cannot use a function of one row", "reduce", call_reduce, MR_FN(nothing)},
        {"value BIGINT", "cannot use a built-in 'words'", "reduce", call_reduce, MR_WORDS},
        {TEXT_PAIRS, "sum", "reduce_by_key", call_reduce_by_key, MR_SUM},
        {PAIR_COLUMNS, "", "reduce_by_key", call_reduce_by_key, MR_SQL("a || {")},
        {"value BIGINT", "not key and value", "reduce_by_key", call_reduce_by_key, MR_SUM},
        {PAIR_COLUMNS, "cannot use a test of a row", "map_values", call_map_values,
         MR_FN(is_quick)},
        {PAIR_COLUMNS, "the result is the new value, one column", "map_values", call_map_values,
         MR_FN_AS(nothing, PAIR_COLUMNS)},
        {PAIR_COLUMNS, "nobody", "map_values", call_map_values, MR_SQL("nobody")},
        {PAIR_COLUMNS, "cannot use a built-in 'words'", "flat_map_values", call_flat_map_values,
         MR_WORDS},
        {TEXT_PAIRS, "UNNEST", "flat_map_values", call_flat_map_values, MR_SQL("value")},
        {PAIR_COLUMNS, "cannot use a test of a row", "combine_by_key", call_combine,
         MR_FN(is_quick)},
    };

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *mistake = &mistakes[i];
        struct ds *d = begin(t, mistake->columns, "");
        struct mr_error err;
        char place[128];

        mistake->build(ds_stream(d), mistake->fn);
        CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
        snprintf(place, sizeof(place), "test_dstream_types.c:%d: %s: ", mistake->fn.line,
                 mistake->operation);
        if (strncmp(err.text, place, strlen(place)) != 0)
            CHECK_EQ_STR(err.text, place);
        if (strstr(err.text, mistake->says) == NULL)
            CHECK_EQ_STR(err.text, mistake->says);
        ds_free(d);
    }
}

TEST(streams_of_other_columns_are_refused)
{
    struct ds *d = begin(t, PAIR_COLUMNS, "");
    struct mr_error err;

    mr_count_by_value(ds_stream(d));
    CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
    CHECK_EQ_STR(err.text, "count_by_value: the elements have 2 columns; map them to the one to "
                           "count first");
    ds_free(d);
    d = begin(t, PAIR_COLUMNS, "");
    mr_union(ds_stream(d), mr_map(ds_stream(d), MR_SQL("value")));
    CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
    CHECK_EQ_STR(err.text, "union: the streams have different columns ('key VARCHAR, value BIGINT' "
                           "and 'value BIGINT'); map one to the other's");
    ds_free(d);
}

TEST(only_the_first_mistake_is_kept)
{
    struct ds *d = begin(t, CLICKS, "");
    struct mr_dstream *bad = mr_map(ds_stream(d), MR_SQL("first_mistake"));
    struct mr_error err;

    CHECK(bad == NULL);
    mr_map_values(mr_glom(mr_repartition(mr_count(bad), 2)), MR_SQL("second"));
    mr_union_all((struct mr_dstream *const[]){bad, ds_stream(d)}, 2);
    mr_join(bad, bad);
    mr_map(ds_stream(d), MR_SQL("second_mistake"));
    CHECK(mr_context_error(ds_context(d), &err) != MR_OK);
    CHECK_NOT_NULL(strstr(err.text, "first_mistake"));
    CHECK(mr_context_start(ds_context(d), &err) != MR_OK);
    CHECK_NOT_NULL(strstr(err.text, "first_mistake"));
    ds_free(d);
}

/* ---- functions that go wrong ---- */

static void fails_at_three(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    if (mr_row_int(row, 0) == 3)
        mr_emit_fail(out, "three is too much");
    mr_emit_int(out, mr_row_int(row, 0));
}

static void emits_twice(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < mr_row_int(row, 0); i++)
        mr_emit_int(out, i);
}

static void emits_a_text(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)row;
    (void)arg;
    mr_emit_str(out, "text", 4);
}

static void leaves_half_a_row(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0));
}

static void emits_too_many_columns(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        mr_emit_int(out, mr_row_int(row, 0));
    mr_emit_end(out);
}

static void emits_half_a_pair(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0));
    mr_emit_pair_int_int(out, 1, 2);
}

static void returns_a_garbage_length(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)row;
    (void)arg;
    mr_emit_str(out, "x", (size_t)-3);
}

static void emits_an_object(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct click click = {1, 1};

    (void)row;
    (void)arg;
    mr_emit_object(out, &click);
}

static void emits_a_value_of_another_type(const struct mr_row *row, struct mr_emitter *out,
                                          void *arg)
{
    (void)arg;
    mr_emit_value(out, mr_row_value(row, 0));
}

static enum mr_status fails_by_batch(const struct mr_batch *in, struct mr_batch_builder *out,
                                     void *arg, struct mr_error *err)
{
    (void)in;
    (void)out;
    (void)arg;
    return MR_FAIL(err, MR_USER, "the whole batch is bad");
}

static enum mr_status appends_half_a_row(const struct mr_batch *in, struct mr_batch_builder *out,
                                         void *arg, struct mr_error *err)
{
    (void)in;
    (void)arg;
    (void)err;
    mr_batch_builder_int(out, 0, 1);
    mr_batch_builder_end_row(out);
    mr_batch_builder_int(out, 0, 2);
    return MR_OK;
}

static enum mr_status appends_nothing(const struct mr_batch *in, struct mr_batch_builder *out,
                                      void *arg, struct mr_error *err)
{
    (void)in;
    (void)out;
    (void)arg;
    (void)err;
    return MR_OK;
}

static void emits_two_sums(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                           void *arg)
{
    (void)b;
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0));
    mr_emit_int(out, mr_row_int(a, 0));
}

static void partition_fails(struct mr_rows *rows, struct mr_emitter *out, void *arg)
{
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(rows, &row))
        if (mr_row_int(&row, 0) == 3)
            mr_emit_fail(out, "the partition has a three");
}

static struct mr_dstream *call_reduce_pairs(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_reduce_by_key(mr_map_to_pair(s, MR_SQL("1, value")), fn);
}

static struct mr_dstream *call_combine_pairs(struct mr_dstream *s, struct mr_fn fn)
{
    return mr_combine_by_key(mr_map_to_pair(s, MR_SQL("1, value")), MR_SQL("value"), fn, MR_SUM);
}

/* The first batch is fine, the second is not: the run ends in it, the output of the first stays. */
TEST(a_function_that_goes_wrong_fails_its_batch_with_its_place)
{
    const struct mistake mistakes[] = {
        {"", "three is too much", "map", call_map, MR_FN(fails_at_three)},
        {"", "three is too much", "flat_map", call_flat_map, MR_FN(fails_at_three)},
        {"", "'emits_twice' must emit exactly one result per element", "map", call_map,
         MR_FN(emits_twice)},
        {"", "column 'value'", "map", call_map, MR_FN(emits_a_text)},
        {"", "left a row without mr_emit_end", "flat_map", call_flat_map,
         MR_FN_AS(leaves_half_a_row, "a BIGINT, b BIGINT")},
        {"", "more values than the row has columns", "flat_map", call_flat_map,
         MR_FN_AS(emits_too_many_columns, "a BIGINT, b BIGINT")},
        {"", "half of one was emitted", "map_to_pair", call_map_to_pair,
         MR_FN_AS(emits_half_a_pair, "key BIGINT, value BIGINT")},
        {"", "2 GiB", "map", call_map, MR_FN_AS(returns_a_garbage_length, "value VARCHAR")},
        {"", "has no codec", "map", call_map, MR_FN_AS(emits_an_object, "value BLOB")},
        {"", "another type", "map", call_map,
         MR_FN_AS(emits_a_value_of_another_type, "value DOUBLE")},
        {"", "the whole batch is bad", "map", call_map, MR_FN(fails_by_batch)},
        {"", "value", "flat_map", call_flat_map, MR_FN(appends_half_a_row)},
        {"", "must append exactly one result", "map", call_map, MR_FN(appends_nothing)},
        {"", "must emit exactly one value", "reduce", call_reduce, MR_FN(emits_two_sums)},
        {"", "must emit exactly one value", "reduce_by_key", call_reduce_pairs,
         MR_FN(emits_two_sums)},
        {"", "must emit exactly one value", "combine_by_key", call_combine_pairs,
         MR_FN(emits_two_sums)},
        {"", "the partition has a three", "map_partitions", call_map_partitions,
         MR_FN(partition_fails)},
        {"", "could not convert string", "map", call_map, MR_SQL("CAST('x' || value AS BIGINT)")},
    };

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *mistake = &mistakes[i];
        struct ds *d = begin(t, "value BIGINT", "| 1,3,3");
        struct mr_dstream *input = ds_stream(d);
        struct mr_error err;
        char place[128];

        ds_collect(d, mistake->build(input, mistake->fn));
        mr_context_set(ds_context(d), "retries", "0");
        CHECK(ds_run(d, 2, &err) != MR_OK);
        CHECK(strncmp(err.text, "batch 1: ", 9) == 0);
        snprintf(place, sizeof(place), "test_dstream_types.c:%d: %s '%s-0': ", mistake->fn.line,
                 mistake->operation, mistake->operation);
        if (strstr(err.text, place) == NULL)
            CHECK_EQ_STR(err.text, place);
        if (strstr(err.text, mistake->says) == NULL)
            CHECK_EQ_STR(err.text, mistake->says);
        ds_free(d);
    }
}

/* ---- much out of little ---- */

static void emits_a_long_text(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    static char text[128 << 10];

    (void)row;
    (void)arg;
    for (int i = 0; i < 2; i++)
        mr_emit_str(out, text, sizeof(text));
}

/* More than a batch of results holds: it goes on in several. */
TEST(flat_map_may_emit_far_more_than_it_takes)
{
    char input[2048] = "1";
    struct ds *d;

    for (int i = 1; i < 600; i++)
        strcat(input, ",1");
    d = begin(t, "value BIGINT", input);
    expect(d, mr_count(mr_flat_map(ds_stream(d), MR_FN_AS(emits_a_long_text, "value VARCHAR"))), 1,
           "1200");
}

/* Mixed ways of emitting give rows in the order of the calls. */
static void emits_in_every_way(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    int64_t value = mr_row_int(row, 0);
    struct mr_batch_builder *builder;

    (void)arg;
    mr_emit_pair_int_int(out, value, 1);
    mr_emit_int(out, value);
    mr_emit_int(out, 2);
    mr_emit_end(out);
    builder = mr_emit_builder(out);
    mr_batch_builder_int(builder, 0, value);
    mr_batch_builder_int(builder, 1, 3);
    mr_emit_end(out);
    mr_emit_value(out, mr_row_value(row, 0));
    mr_emit_null(out);
    mr_emit_end(out);
    mr_emit_pair_int_int(out, value, 5);
}

TEST(ways_of_emitting_may_be_mixed)
{
    struct ds *d = begin(t, "value BIGINT", "7,8");

    expect(d, mr_flat_map(ds_stream(d), MR_FN_AS(emits_in_every_way, "key BIGINT, value BIGINT")),
           1, "7:1,7:2,7:3,7:null,7:5,8:1,8:2,8:3,8:null,8:5");
}

static void emits_bytes(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    const unsigned char bytes[] = {0, (unsigned char)mr_row_int(row, 0), 255};

    (void)arg;
    mr_emit_bytes(out, bytes, sizeof(bytes));
}

static void emits_pair_of_texts(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)row;
    (void)arg;
    mr_emit_pair_str_str(out, "k", 1, "v", 1);
}

TEST(bytes_and_pairs_of_texts_are_elements)
{
    struct ds *d = begin(t, "value BIGINT", "7,8");

    expect(d, mr_map(ds_stream(d), MR_FN_AS(emits_bytes, "value BLOB")), 1, "\\x0007ff,\\x0008ff");
    d = begin(t, "value BIGINT", "7");
    expect(d, mr_map_to_pair(ds_stream(d), MR_FN_AS(emits_pair_of_texts, TEXT_PAIRS)), 1, "k:v");
}
