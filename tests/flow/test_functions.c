/*
 * Functions of a program in SQL (<millrace/function.h>): scalar, giving rows, aggregates; kept
 * between runs, on several workers, with nulls and mistakes.
 */
#include "support/sql_flow.h"
#include "support/test.h"

#include "base/check.h"
#include "fn/functions.h"
#include "sql/plan.h"

#include <millrace/ext/builder.h>

/* ---- functions ---- */

static void shout(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);
    char loud[200];
    size_t used = 0;

    (void)arg;
    for (size_t i = 0; i < text.size_bytes && used + 1 < sizeof(loud); i++) {
        char c = text.data[i];
        loud[used++] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    for (int64_t i = 0; i < mr_row_int(row, 1) && used + 1 < sizeof(loud); i++)
        loud[used++] = '!';
    mr_emit_str(out, loud, used);
}

/* Whole columns: a * 2, null stays null. */
static enum mr_status twice(const struct mr_batch *in, struct mr_batch_builder *out, void *arg,
                            struct mr_error *err)
{
    const struct mr_column *values = mr_batch_column(in, 0);

    (void)arg, (void)err;
    for (int64_t i = 0; i < mr_batch_row_count(in); i++) {
        if (mr_column_is_null(values, i))
            mr_batch_builder_null(out, 0);
        else
            mr_batch_builder_int(out, 0, 2 * mr_column_int(values, i));
        mr_batch_builder_end_row(out);
    }
    return MR_OK;
}

static void words(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);
    size_t from = 0;
    int64_t position = 0;

    (void)arg;
    for (size_t i = 0; i <= text.size_bytes; i++) {
        if (i < text.size_bytes && text.data[i] != ' ')
            continue;
        if (i > from) {
            mr_emit_str(out, text.data + from, i - from);
            mr_emit_int(out, ++position);
            mr_emit_end(out);
        }
        from = i + 1;
    }
}

static void is_null(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_is_null(row, 0));
}

static void fail_on_seven(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    if (mr_row_int(row, 0) == 7)
        mr_emit_fail(out, "seven is too many");
    else
        mr_emit_int(out, mr_row_int(row, 0));
}

/* Sum of squares, and weighted mean: buffers of a fixed size. */
static void squares_update(struct mr_group_bytes *bytes, const struct mr_row *row, void *arg)
{
    size_t size;
    int64_t *sum = mr_group_bytes_data(bytes, &size);

    (void)arg;
    CHECK_EQ_INT(size, sizeof(*sum));
    *sum += mr_row_int(row, 0) * mr_row_int(row, 0);
}

static void squares_merge(struct mr_group_bytes *bytes, const void *other, size_t size, void *arg)
{
    int64_t *sum = mr_group_bytes_data(bytes, &size), more;

    (void)arg;
    memcpy(&more, other, sizeof(more));
    *sum += more;
}

static void squares_finish(const void *data, size_t size, struct mr_emitter *out, void *arg)
{
    int64_t sum;

    (void)size, (void)arg;
    memcpy(&sum, data, sizeof(sum));
    mr_emit_int(out, sum);
}

/* The longest text, of at least as many bytes as said: a buffer that grows. */
static void longest_merge(struct mr_group_bytes *bytes, const void *other, size_t other_size,
                          void *arg)
{
    size_t size;
    const char *have = mr_group_bytes_data(bytes, &size);
    char *to;

    (void)arg;
    if (other_size < size || (other_size == size && size > 0 && memcmp(other, have, size) <= 0))
        return;
    to = mr_group_bytes_resize(bytes, other_size);
    if (to != NULL && other_size > 0)
        memcpy(to, other, other_size);
}

static void longest_update(struct mr_group_bytes *bytes, const struct mr_row *row, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    if ((int64_t)text.size_bytes >= mr_row_int(row, 1))
        longest_merge(bytes, text.data, text.size_bytes, arg);
}

static void longest_finish(const void *data, size_t size, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_str(out, data, size);
}

/* ---- the list ---- */

static enum mr_status add_to(void *arg, struct mr_duck *duck, struct mr_error *err)
{
    return mr_functions_add_to(arg, duck, err);
}

static const struct mr_agg_user *aggregate(void *arg, const char *name)
{
    return mr_functions_aggregate(arg, name);
}

struct set {
    struct mr_functions *list;
    struct mr_sql_functions sql;
};

static void set_init(struct set *set)
{
    static const struct mr_scalar_function scalars[] = {
        {.name = "shout",
         .arguments = "text VARCHAR, marks BIGINT",
         .result = "VARCHAR",
         .row = shout},
        {.name = "twice_of", .arguments = "n BIGINT", .result = "BIGINT", .batch = twice},
        {.name = "asks_null",
         .arguments = "n BIGINT",
         .result = "BIGINT",
         .row = is_null,
         .keeps_nulls = true},
        {.name = "not_seven", .arguments = "n BIGINT", .result = "BIGINT", .row = fail_on_seven},
    };
    static const struct mr_table_function table = {.name = "split_words",
                                                   .arguments = "line VARCHAR",
                                                   .columns = "word VARCHAR, position BIGINT",
                                                   .row = words};
    static const struct mr_aggregate_function aggregates[] = {
        {.name = "sum_of_squares",
         .arguments = "n BIGINT",
         .result = "BIGINT",
         .start_bytes = 8,
         .update = squares_update,
         .merge = squares_merge,
         .finish = squares_finish},
        {.name = "longest",
         .arguments = "text VARCHAR, least BIGINT",
         .result = "VARCHAR",
         .update = longest_update,
         .merge = longest_merge,
         .finish = longest_finish},
    };
    struct mr_error err = {0};

    CHECK_OK(mr_functions_new(&set->list, &err), &err);
    for (size_t i = 0; i < MR_ARRAY_SIZE(scalars); i++)
        CHECK_OK(mr_functions_add_scalar(set->list, &scalars[i], &err), &err);
    CHECK_OK(mr_functions_add_table(set->list, &table, &err), &err);
    for (size_t i = 0; i < MR_ARRAY_SIZE(aggregates); i++)
        CHECK_OK(mr_functions_add_aggregate(set->list, &aggregates[i], &err), &err);
    set->sql = (struct mr_sql_functions){.add = add_to, .arg = set->list, .aggregate = aggregate};
}

static struct sql_flow *flow_of(struct test *t, struct set *set, const char *mode,
                                const char *insert)
{
    struct sql_flow *f = sql_flow_new(t);

    set_init(set);
    sql_flow_functions(f, &set->sql);
    sql_flow_source(f, "a", "k VARCHAR, v BIGINT", "");
    sql_flow_sink(f, "out", "", mode);
    sql_flow_text(f, insert);
    return f;
}

static void end(struct sql_flow *f, struct set *set)
{
    sql_flow_free(f);
    mr_functions_free(set->list);
}

TEST(a_function_by_row_is_called_with_what_sql_gives_it)
{
    struct set set;
    struct sql_flow *f =
        flow_of(t, &set, "append",
                "INSERT INTO out SELECT Shout(k, v) AS s, shout('constant ' || k, 1) AS c FROM a;");

    sql_flow_step(f, "a", "('to be or not to be, a long text', 2), ('x', NULL), (NULL, 1)");
    CHECK_EQ_STR(sql_flow_run(f, "out"),
                 "TO BE OR NOT TO BE, A LONG TEXT!!|CONSTANT TO BE OR NOT TO BE, A LONG TEXT!\n"
                 "null|CONSTANT X!\nnull|null\n");
    end(f, &set);
}

TEST(a_function_by_batch_gets_whole_columns)
{
    struct set set;
    struct sql_flow *f =
        flow_of(t, &set, "append",
                "INSERT INTO out SELECT twice_of(v) AS d, asks_null(v) AS n FROM a WHERE "
                "twice_of(v) IS NULL OR twice_of(v) > 2;");

    sql_flow_step(f, "a", "('x', 1), ('x', 2), ('x', 3), ('x', NULL)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "4|0\n6|0\nnull|1\n");
    end(f, &set);
}

TEST(a_function_that_gives_rows_is_unnested)
{
    struct set set;
    struct sql_flow *f =
        flow_of(t, &set, "append",
                "INSERT INTO out SELECT v, unnest(split_words(k), recursive := true) FROM a;");

    sql_flow_step(f, "a",
                  "('to be', 1), ('', 2), ('a sentence of words that are longwordlongword', "
                  "3), (NULL, 4)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "1|be|2\n1|to|1\n3|are|6\n3|a|1\n3|longwordlongword|7\n"
                                         "3|of|3\n3|sentence|2\n3|that|5\n3|words|4\n");
    end(f, &set);
}

TEST(an_aggregate_goes_on_after_a_restart)
{
    struct set set;
    struct sql_flow *f = flow_of(t, &set, "update",
                                 "INSERT INTO out SELECT k, sum_of_squares(v) AS s, longest(k || "
                                 "repeat('y', v), 4) AS l, count(*) AS n FROM a GROUP BY k;");

    sql_flow_step(f, "a", "('x', 1), ('x', 2), ('y', NULL)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|5||2\ny|null|null|1\n");
    sql_flow_step(f, "a", "('x', 3), ('y', 4)");
    sql_flow_step(f, "a", "('x', 5)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|39|xyyyyy|4\ny|16|yyyyy|2\n");
    end(f, &set);
}

TEST(an_aggregate_may_have_a_filter_and_stand_in_having)
{
    struct set set;
    struct sql_flow *f =
        flow_of(t, &set, "complete",
                "INSERT INTO out SELECT k, sum_of_squares(v) FILTER (WHERE v > 1) + 0 AS s FROM a "
                "GROUP BY k HAVING sum_of_squares(v) > 3;");

    sql_flow_step(f, "a", "('x', 1), ('x', 2), ('y', 1)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|4\n");
    end(f, &set);
}

TEST(what_a_function_says_when_it_fails_is_the_error)
{
    struct set set;
    struct sql_flow *f = flow_of(
        t, &set, "append", "SET retries = 0; INSERT INTO out SELECT not_seven(v) AS n FROM a;");
    struct mr_error err;

    sql_flow_step(f, "a", "('x', 7)");
    CHECK_STATUS(sql_flow_fail(f, &err), MR_BAD_DATA);
    CHECK_CONTAINS(err.text, "function 'not_seven': seven is too many");
    end(f, &set);
}

TEST(wrong_calls_are_refused_when_the_query_is_planned)
{
    static const struct {
        const char *insert;
        const char *text;
    } cases[] = {
        {"INSERT INTO out SELECT shout(k) AS s FROM a;", "shout"},
        {"INSERT INTO out SELECT shouts(k, 1) AS s FROM a;", "shouts"},
        {"INSERT INTO out SELECT longest(k) AS s FROM a GROUP BY k;",
         "longest() takes 2 arguments"},
        {"INSERT INTO out SELECT longest(DISTINCT k, 1) AS s FROM a GROUP BY k;", "DISTINCT"},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        struct set set;
        struct sql_flow *f = flow_of(t, &set, "update", cases[i].insert);
        struct mr_error err;

        CHECK_FAILS(sql_flow_check(f, &err), &err, MR_SQL_ERROR, cases[i].text);
        end(f, &set);
    }
}

TEST(declarations_are_checked)
{
    static const struct mr_scalar_function twice_given = {
        .name = "SHOUT", .result = "BIGINT", .row = shout};
    static const struct mr_scalar_function bad_name = {
        .name = "a b", .result = "BIGINT", .row = shout};
    static const struct mr_scalar_function bad_type = {
        .name = "c", .result = "BIGGISH", .row = shout};
    static const struct mr_scalar_function no_call = {.name = "d", .result = "BIGINT"};
    static const struct mr_aggregate_function no_merge = {.name = "e",
                                                          .arguments = "n BIGINT",
                                                          .result = "BIGINT",
                                                          .update = squares_update,
                                                          .finish = squares_finish};
    struct mr_error err = {0};
    struct set set;

    set_init(&set);
    CHECK_FAILS(mr_functions_add_scalar(set.list, &twice_given, &err), &err, MR_CONFIG, "twice");
    CHECK_FAILS(mr_functions_add_scalar(set.list, &bad_name, &err), &err, MR_CONFIG, "letters");
    CHECK_FAILS(mr_functions_add_scalar(set.list, &bad_type, &err), &err, MR_CONFIG, "BIGGISH");
    CHECK_FAILS(mr_functions_add_scalar(set.list, &no_call, &err), &err, MR_CONFIG,
                "row and batch");
    CHECK_FAILS(mr_functions_add_aggregate(set.list, &no_merge, &err), &err, MR_CONFIG, "merge");
    mr_functions_free(set.list);
}

TEST(a_name_that_sql_has_is_refused)
{
    static const struct mr_scalar_function lower = {
        .name = "lower", .arguments = "text VARCHAR", .result = "VARCHAR", .row = shout};
    struct set set;
    struct sql_flow *f = flow_of(t, &set, "append", "INSERT INTO out SELECT lower(k) AS s FROM a;");
    struct mr_error err;

    CHECK_OK(mr_functions_add_scalar(set.list, &lower, &err), &err);
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_CONFIG, "function 'lower'");
    end(f, &set);
}
