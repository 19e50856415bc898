/*
 * A WHERE and a list of columns, drawn from the input, over rows at the edges of their types: what
 * a query of ours gives (which compares columns with literals without DuckDB where it can) must be
 * what DuckDB gives for the same SELECT over the same rows, in the same order; and when DuckDB
 * cannot evaluate it, neither can we.
 *
 * Also the operator behind that alone, with any literal for any column, in a graph of its own: rows
 * that it keeps are those that DuckDB keeps with the literal cast to the column's type.
 *
 * DuckDB's memory is not ours to fail; a query is tens of milliseconds.
 */
#include "fuzz/fuzz.h"

#include "core/graph.h"
#include "core/query.h"
#include "duck/duck.h"
#include "env/sim.h"
#include "ops/ops.h"
#include "plugins/plugins.h"
#include "sql/plan.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 12, TERMS_MAX = 3 };

static const char columns[] = "n BIGINT, i TINYINT, u UBIGINT, d DOUBLE, f FLOAT, m DECIMAL(10,2), "
                              "b BOOLEAN, k VARCHAR, dt DATE, ts TIMESTAMP";
static const char *const names[] = {"n", "i", "u", "d", "f", "m", "b", "k", "dt", "ts"};
/* By column: values that a row may have, and literals that it is compared with. */
static const char *const values[][8] = {
    {"0", "1", "-1", "42", "9223372036854775807", "-9223372036854775808", "NULL", "100"},
    {"0", "1", "-1", "42", "127", "-128", "NULL", "100"},
    {"0", "1", "255", "42", "18446744073709551615", "9223372036854775808", "NULL", "100"},
    {"0", "-0.0::DOUBLE", "'NaN'::DOUBLE", "'Infinity'::DOUBLE", "1.5", "-1e300::DOUBLE", "NULL",
     "0.1::DOUBLE"},
    {"0", "-0.0::FLOAT", "'NaN'::FLOAT", "'-Infinity'::FLOAT", "1.5", "0.1::FLOAT", "NULL",
     "16777217"},
    {"0", "0.01", "-0.01", "1.50", "99999999.99", "-99999999.99", "NULL", "42"},
    {"TRUE", "FALSE", "NULL", "TRUE", "FALSE", "NULL", "TRUE", "FALSE"},
    {"''", "'a'", "'A'", "'ab'", "'\xc3\xa4'", "'42'", "NULL", "'a '"},
    {"DATE '1970-01-01'", "DATE '2026-11-21'", "DATE '0001-01-01'", "DATE '9999-12-31'", "NULL",
     "DATE '1969-12-31'", "NULL", "DATE '2024-02-29'"},
    {"TIMESTAMP '1970-01-01 00:00:00'", "TIMESTAMP '2026-11-21 10:00:00.5'",
     "TIMESTAMP '1969-12-31 23:59:59.999999'", "TIMESTAMP '2026-11-21'", "NULL",
     "TIMESTAMP '9999-12-31 23:59:59'", "NULL", "TIMESTAMP '0001-01-01'"},
};
static const char *const literals[] = {
    "0",
    "1",
    "-1",
    "42",
    "127",
    "128",
    "-129",
    "2.5",
    "1.50",
    "0.1",
    "1e2",
    "NULL",
    "TRUE",
    "FALSE",
    "'a'",
    "'42'",
    "''",
    "'2026-11-21'",
    "'1970-01-01 00:00:00'",
    "DATE '2026-11-21'",
    "TIMESTAMP '2026-11-21 10:00:00.5'",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
    "-0.0",
    "'NaN'",
    "'Infinity'",
    "CAST('NaN' AS DOUBLE)",
    "'true'",
    "100000000",
    "0.015",
    "'2026-11-21 10:00:00.5'",
};
enum { COLUMNS = sizeof names / sizeof names[0], LITERALS = sizeof literals / sizeof literals[0] };

static const char *const types[COLUMNS] = {"BIGINT", "TINYINT",       "UBIGINT", "DOUBLE",
                                           "FLOAT",  "DECIMAL(10,2)", "BOOLEAN", "VARCHAR",
                                           "DATE",   "TIMESTAMP"};

static struct mr_duck *duck;

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_batch **kept = arg;

    MR_UNUSED(err);
    if (*kept == NULL)
        *kept = mr_batch_ref(batch);
    return MR_OK;
}

static enum mr_status print(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));

    MR_UNUSED(err);
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        for (uint32_t k = 0; k < count; k++) {
            char text[256];

            (void)mr_row_print(&(struct mr_row){batch, i}, k, text, sizeof text);
            mr_buf_printf(arg, "%s%c", text, k + 1 < count ? '|' : '\n');
        }
    }
    return MR_OK;
}

/* ---- from the input ---- */

static void make_rows(struct fuzz_input *input, struct mr_buf *sql)
{
    mr_buf_add_str(sql, "SELECT ");
    for (unsigned c = 0; c < COLUMNS; c++) {
        mr_buf_printf(sql, "%sCAST(c%u AS %s) AS %s", c > 0 ? ", " : "", c, types[c], names[c]);
    }
    mr_buf_add_str(sql, " FROM (VALUES ");
    for (uint32_t row = 0, count = 1 + fuzz_below(input, ROWS_MAX); row < count; row++) {
        mr_buf_add_str(sql, row > 0 ? ", (" : "(");
        for (unsigned c = 0; c < COLUMNS; c++)
            mr_buf_printf(sql, "%s%s", c > 0 ? ", " : "", values[c][fuzz_below(input, 8)]);
        mr_buf_add_str(sql, ")");
    }
    mr_buf_add_str(sql, ") AS t(");
    for (unsigned c = 0; c < COLUMNS; c++)
        mr_buf_printf(sql, "%sc%u", c > 0 ? ", " : "", c);
    mr_buf_add_str(sql, ")");
}

static void term(struct fuzz_input *input, struct mr_buf *sql)
{
    static const char *const operators[] = {" = ", " <> ", " < ", " <= ", " > ", " >= "};
    static const char *const whole[] = {"0",
                                        "1",
                                        "-1",
                                        "42",
                                        "127",
                                        "128",
                                        "-128",
                                        "-129",
                                        "255",
                                        "256",
                                        "100",
                                        "300",
                                        "2147483648",
                                        "9223372036854775807",
                                        "-9223372036854775808"};
    static const char *const texts[] = {"''", "'a'", "'A'", "'ab'", "'42'", "'a '", "'\xc3\xa4'"};
    const char *name = names[fuzz_below(input, COLUMNS)];
    const char *literal = literals[fuzz_below(input, LITERALS)];
    uint32_t kind = fuzz_below(input, 4);
    const char *operator= operators[fuzz_below(input, 6)];

    if (kind == 0) { /* of the kinds that we compare ourselves */
        name = names[fuzz_below(input, 3)];
        literal = whole[fuzz_below(input, MR_ARRAY_SIZE(whole))];
    } else if (kind == 1) {
        name = "k";
        literal = texts[fuzz_below(input, MR_ARRAY_SIZE(texts))];
    }
    switch (fuzz_below(input, 8)) {
    case 0:
        mr_buf_printf(sql, "%s IS NULL", name);
        break;
    case 1:
        mr_buf_printf(sql, "%s IS NOT NULL", name);
        break;
    case 2:
        mr_buf_printf(sql, "%s%s%s", literal, operator, name);
        break;
    case 3:
        mr_buf_printf(sql, "NOT (%s%s%s)", name, operator, literal);
        break;
    case 4:
        mr_buf_printf(sql, "(%s%s%s OR %s IS NULL)", name, operator, literal, name);
        break;
    default:
        mr_buf_printf(sql, "%s%s%s", name, operator, literal);
        break;
    }
}

static void make_query(struct fuzz_input *input, struct mr_buf *sql)
{
    mr_buf_add_str(sql, "SELECT ");
    for (uint32_t i = 0, count = 1 + fuzz_below(input, 4); i < count; i++)
        mr_buf_printf(sql, "%s%s AS x%u", i > 0 ? ", " : "", names[fuzz_below(input, COLUMNS)], i);
    mr_buf_add_str(sql, " FROM t WHERE ");
    for (uint32_t i = 0, count = 1 + fuzz_below(input, TERMS_MAX); i < count; i++) {
        if (i > 0)
            mr_buf_add_str(sql, " AND ");
        term(input, sql);
    }
}

/* ---- both ways ---- */

static enum mr_status by_duck(const char *select, struct mr_batch *rows, struct mr_buf *out,
                              struct mr_error *err)
{
    struct mr_duck_input input = {"t", mr_batch_schema(rows)};
    struct mr_duck_stmt *stmt = NULL;
    struct mr_batch *const batches[] = {rows};
    struct mr_batch *const *lists[] = {batches};
    size_t count = 1;
    enum mr_status status = mr_duck_prepare(duck, select, &input, 1, &stmt, err);

    if (status == MR_OK)
        status = mr_duck_run(stmt, lists, &count, 0, print, out, err);
    mr_duck_stmt_free(stmt);
    return status;
}

static enum mr_status run_script(const struct mr_buf *text, struct mr_env *env,
                                 struct mr_error *err)
{
    struct mr_sql_args args = {.env = env};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_sql_script_parse("fuzz", text->data, text->size, &script, err));
    MR_TRY_GOTO(mr_sql_plan(script, &args, &plan, err));
    plan->config.workers = 1;
    plan->config.retries = 0;
    status = mr_query_new(env, plan->graph, &plan->config, &query, err);
    plan->graph = NULL;
    if (status == MR_OK)
        status = mr_query_run(query, err);
done:
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    return status;
}

static enum mr_status by_us(const char *select, struct mr_batch *rows, struct mr_buf *out,
                            struct mr_error *err)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_buf text = MR_BUF_INIT;
    struct mr_batch *result = NULL;
    enum mr_status status;

    mr_buf_printf(&text,
                  "CREATE TABLE t (%s) WITH (connector = 'memory', table = 'fuzz_t');\n"
                  "CREATE TABLE o WITH (connector = 'memory', table = 'fuzz_o');\n"
                  "SET trigger = 'until caught up';\nINSERT INTO o %s;\n",
                  columns, select);
    MR_TRY_GOTO(mr_memory_add(mr_memory_table("fuzz_t"), rows, err));
    MR_TRY_GOTO(run_script(&text, mr_sim_env(sim), err));
    if (mr_memory_row_count(mr_memory_table("fuzz_o")) > 0)
        MR_TRY_GOTO(mr_memory_rows(mr_memory_table("fuzz_o"), &result, err));
    if (result != NULL)
        status = print(out, result, err);
done:
    mr_batch_unref(result);
    mr_memory_drop("fuzz_t");
    mr_memory_drop("fuzz_o");
    mr_buf_release(&text);
    mr_sim_free(sim);
    return status;
}

/* ---- the operator alone ---- */

static enum mr_status memory_options(const char *owner, const struct mr_option *options,
                                     size_t count, const char *table, unsigned side,
                                     struct mr_options **ret_options, struct mr_error *err)
{
    const struct mr_option_table own = {owner, options, count};
    const struct mr_option_table *tables[] = {&own};
    const struct mr_option_pair pair = {"table", table};

    return mr_options_parse(tables, 1, &pair, 1, side, ret_options, err);
}

/* Memory table -> filter -> memory table. */
static enum mr_status filter_graph(const struct mr_schema *schema,
                                   const struct mr_predicate *predicates, uint32_t count,
                                   struct mr_graph *graph, struct mr_error *err)
{
    struct mr_source_spec source = {
        .name = "t", .connector = mr_source_find("memory"), .declared = schema, .schema = schema};
    struct mr_sink_spec sink = {.name = "o", .connector = mr_sink_find("memory")};
    struct mr_node *node = NULL;
    struct mr_map_op op;
    enum mr_status status;

    MR_TRY(memory_options("connector 'memory'", source.connector->options,
                          source.connector->option_count, "fuzz_t", MR_OPTION_SOURCE,
                          &source.options, err));
    MR_TRY(mr_graph_source(graph, &source, &node, err));
    MR_TRY(mr_op_filter(schema, predicates, count, &op, err));
    status = mr_graph_map(graph, "filter", &node, 1, op.schema, op.ops, op.op, &node, err);
    mr_schema_unref(op.schema);
    MR_TRY(status);
    MR_TRY(memory_options("connector 'memory'", sink.connector->options,
                          sink.connector->option_count, "fuzz_o", MR_OPTION_SINK, &sink.options,
                          err));
    return mr_graph_sink(graph, &sink, &node, 1, err);
}

static enum mr_status by_operator(const struct mr_predicate *predicates, uint32_t count,
                                  struct mr_batch *rows, struct mr_buf *out, struct mr_error *err)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_graph *graph = mr_graph_new();
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    mr_query_config_init(&config);
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    config.retries = 0;
    MR_TRY_GOTO(mr_memory_add(mr_memory_table("fuzz_t"), rows, err));
    MR_TRY_GOTO(filter_graph(mr_batch_schema(rows), predicates, count, graph, err));
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    graph = NULL;
    MR_TRY_GOTO(status);
    MR_TRY_GOTO(mr_query_run(query, err));
    if (mr_memory_row_count(mr_memory_table("fuzz_o")) > 0)
        MR_TRY_GOTO(mr_memory_rows(mr_memory_table("fuzz_o"), &result, err));
    if (result != NULL)
        status = print(out, result, err);
done:
    mr_query_free(query);
    mr_graph_free(graph);
    mr_batch_unref(result);
    mr_memory_drop("fuzz_t");
    mr_memory_drop("fuzz_o");
    mr_sim_free(sim);
    return status;
}

static void quote(struct mr_buf *sql, const char *text, size_t size)
{
    mr_buf_add_char(sql, '\'');
    for (size_t i = 0; i < size; i++) {
        mr_buf_add_str(sql, text[i] == '\'' ? "'" : "");
        mr_buf_add_char(sql, text[i]);
    }
    mr_buf_add_char(sql, '\'');
}

/* A comparison of a column with one of its values, or with any literal, without quotes. */
static void make_predicate(struct fuzz_input *input, struct mr_predicate *ret_predicate,
                           struct mr_buf *literal, struct mr_buf *where)
{
    static const char *const words[] = {
        "=", "<>", "<", "<=", ">", ">=", " IS NULL", " IS NOT NULL"};
    uint32_t column = fuzz_below(input, COLUMNS);
    uint8_t how = fuzz_byte(input);
    const char *text = fuzz_below(input, 2) == 0 ? values[column][fuzz_below(input, 8)]
                                                 : literals[fuzz_below(input, LITERALS)];
    const char *from = strchr(text, '\''), *to = from != NULL ? strchr(from + 1, '\'') : NULL;

    mr_buf_clear(literal);
    if (to != NULL)
        mr_buf_add(literal, from + 1, (size_t)(to - from) - 1);
    else
        mr_buf_add(literal, text, strcspn(text, ":"));
    mr_buf_add_char(literal, '\0');
    *ret_predicate = (struct mr_predicate){column, (enum mr_compare)(how % 8), NULL, 0};
    mr_buf_printf(where, "%s%s", names[column], words[how % 8]);
    if (how % 8 < MR_IS_NULL) {
        ret_predicate->literal = literal->data;
        ret_predicate->literal_bytes = literal->size - 1;
        mr_buf_add_str(where, "CAST(");
        quote(where, literal->data, literal->size - 1);
        mr_buf_printf(where, " AS %s)", types[column]);
    }
    if (how >= 250) /* what no planner asks for */
        *ret_predicate = (struct mr_predicate){how % 2 == 0 ? 77 : column, MR_EQ, NULL, 0};
}

static void check_operator(struct fuzz_input *input)
{
    struct mr_buf rows_sql = MR_BUF_INIT, select = MR_BUF_INIT, texts[2] = {MR_BUF_INIT};
    struct mr_buf want = MR_BUF_INIT, have = MR_BUF_INIT;
    struct mr_predicate predicates[2];
    uint32_t count = 1 + fuzz_below(input, 2);
    struct mr_batch *rows = NULL;
    struct mr_error err = {0};

    mr_buf_add_str(&select, "SELECT * FROM t WHERE ");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_add_str(&select, i > 0 ? " AND " : "");
        make_predicate(input, &predicates[i], &texts[i], &select);
    }
    make_rows(input, &rows_sql);
    if (mr_duck_exec(duck, rows_sql.data, keep, &rows, &err) != MR_OK || rows == NULL)
        fuzz_fail(__FILE__, __LINE__, err.text);
    if (by_operator(predicates, count, rows, &have, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_CONFIG); /* no literal of that type, to us: DuckDB casts */
    } else if (by_duck(select.data, rows, &want, &err) == MR_OK &&
               (want.size != have.size ||
                (want.size > 0 && memcmp(want.data, have.data, want.size) != 0))) {
        mr_buf_printf(&select, "\n%s\nDuckDB:\n%sours:\n%s", rows_sql.data,
                      want.size > 0 ? want.data : "", have.size > 0 ? have.data : "");
        fuzz_fail(__FILE__, __LINE__, select.data);
    }
    mr_batch_unref(rows);
    mr_buf_release(&rows_sql);
    mr_buf_release(&select);
    mr_buf_release(&texts[0]);
    mr_buf_release(&texts[1]);
    mr_buf_release(&want);
    mr_buf_release(&have);
}

/* ---- the whole query ---- */

static void check_query(struct fuzz_input *input)
{
    struct mr_buf rows_sql = MR_BUF_INIT, select = MR_BUF_INIT;
    struct mr_buf want = MR_BUF_INIT, have = MR_BUF_INIT;
    struct mr_batch *rows = NULL;
    struct mr_error err = {0}, our_err = {0};
    enum mr_status status, our_status;

    make_query(input, &select);
    make_rows(input, &rows_sql);
    if (mr_duck_exec(duck, rows_sql.data, keep, &rows, &err) != MR_OK || rows == NULL)
        fuzz_fail(__FILE__, __LINE__, err.text);
    status = by_duck(select.data, rows, &want, &err);
    our_status = by_us(select.data, rows, &have, &our_err);
    if ((status == MR_OK) != (our_status == MR_OK)) {
        mr_buf_printf(&select, "\n%s\n%s\n", err.text, our_err.text);
        fuzz_fail(__FILE__, __LINE__, select.data);
    }
    if (status == MR_OK && (want.size != have.size ||
                            (want.size > 0 && memcmp(want.data, have.data, want.size) != 0))) {
        mr_buf_printf(&select, "\n%s\n", rows_sql.data);
        mr_buf_printf(&select, "DuckDB:\n%sours:\n%s", want.size > 0 ? want.data : "",
                      have.size > 0 ? have.data : "");
        fuzz_fail(__FILE__, __LINE__, select.data);
    }
    mr_batch_unref(rows);
    mr_buf_release(&rows_sql);
    mr_buf_release(&select);
    mr_buf_release(&want);
    mr_buf_release(&have);
}

static void one(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_of(data, size);

    if (size > 0 && data[0] >= 192)
        check_operator(&input);
    else
        check_query(&input);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    mr_plugins_register();
    if (duck == NULL && mr_duck_open(&duck, NULL) != MR_OK)
        abort();
    return size > 300 ? 0 : fuzz_run_fed(one, data, size);
}
