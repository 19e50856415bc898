/*
 * Statements planned and described: a description, the same one twice, or an error with a place.
 * Nothing is read. Where they come from:
 *
 *     "--..."        the input itself, behind fixed tables
 *     "#!..."        the input itself, alone
 *     other bytes    drawn from them by a grammar that knows the dialect, over the fixed tables
 *
 * The planner asks DuckDB, so allocations fail in ours only.
 */
#include "fuzz/fuzz.h"

#include "base/hash.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "sql/plan.h"

#include <string.h>

enum { DEPTH_MAX = 4, SQL_BYTES_MAX = 6000, TEXT_BYTES_MAX = 2048, CHOICES_MAX = 400 };

static const char tables[] =
    "CREATE TABLE a (n BIGINT, k VARCHAR, d DOUBLE, b BOOLEAN, ts TIMESTAMP, l BIGINT[], "
    "s STRUCT(x BIGINT, y VARCHAR), WATERMARK FOR ts AS ts - INTERVAL '10 seconds') "
    "WITH (connector = 'memory', table = 'a');\n"
    "CREATE TABLE c (n BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 "
    "seconds') WITH (connector = 'memory', table = 'c');\n"
    "CREATE TABLE names (k VARCHAR, title VARCHAR) "
    "WITH (connector = 'memory', table = 'names', static = 'true');\n"
    "CREATE TABLE late WITH (connector = 'memory', table = 'late');\n";

struct maker {
    struct fuzz_input input;
    struct mr_buf out;
};

static const char *pick(struct maker *maker, const char *const *texts, uint32_t count)
{
    return texts[fuzz_below(&maker->input, count)];
}
#define PICK(maker, ...)                                                                           \
    pick((maker), (const char *const[]){__VA_ARGS__},                                              \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void add(struct maker *maker, const char *text)
{
    mr_buf_add_str(&maker->out, text);
}

static void expression(struct maker *maker, unsigned depth);

static void column(struct maker *maker)
{
    add(maker, PICK(maker, "n", "k", "d", "b", "ts", "l", "s", "s.x", "a.n", "a.k", "c.n", "title",
                    "window_start", "window_end", "l[1]", "x", "*"));
}

static void literal(struct maker *maker)
{
    add(maker, PICK(maker, "0", "1", "-7", "2.5", "'x'", "NULL", "TRUE", "1e300",
                    "9223372036854775807", "TIMESTAMP '2026-11-21 10:00:00'", "INTERVAL '1 minute'",
                    "DATE '2026-11-21'", "[1, 2]", "{'x': 1}", "now()", "current_date"));
}

static void arguments(struct maker *maker, unsigned depth)
{
    for (uint32_t i = fuzz_below(&maker->input, 3); i > 0; i--) {
        expression(maker, depth);
        add(maker, ", ");
    }
    expression(maker, depth);
}

static void call(struct maker *maker, unsigned depth)
{
    add(maker, PICK(maker, "count", "sum", "avg", "min", "max", "approx_count_distinct", "stddev",
                    "list", "string_agg", "first", "last", "any_value", "bool_and", "arg_max",
                    "quantile_cont", "upper", "length", "coalesce", "abs", "concat", "date_trunc",
                    "grouping", "row_number", "unnest", "random", "hash"));
    add(maker, PICK(maker, "(", "(", "(", "(DISTINCT "));
    arguments(maker, depth);
    add(maker, ")");
    add(maker, PICK(maker, "", "", "", "", " FILTER (WHERE n > 1)", " OVER ()"));
}

static void expression(struct maker *maker, unsigned depth)
{
    if (depth >= DEPTH_MAX || maker->out.size > SQL_BYTES_MAX) {
        column(maker);
        return;
    }
    switch (fuzz_below(&maker->input, 10)) {
    case 0:
    case 1:
    case 2:
        column(maker);
        break;
    case 3:
        literal(maker);
        break;
    case 4:
    case 5:
        call(maker, depth + 1);
        break;
    case 6:
        add(maker, "CASE WHEN ");
        expression(maker, depth + 1);
        add(maker, " THEN ");
        expression(maker, depth + 1);
        add(maker, " END");
        break;
    case 7:
        add(maker, "CAST(");
        expression(maker, depth + 1);
        add(maker, PICK(maker, " AS BIGINT)", " AS VARCHAR)", " AS TIMESTAMP)", " AS DOUBLE)"));
        break;
    default:
        add(maker, "(");
        expression(maker, depth + 1);
        add(maker, PICK(maker, " + ", " * ", " = ", " < ", " >= ", " <> ", " AND ", " OR ", " || ",
                        " LIKE ", " IS NOT DISTINCT FROM ", " IN (1, 2) AND ", " BETWEEN 1 AND "));
        expression(maker, depth + 1);
        add(maker, ")");
        break;
    }
}

static void select_query(struct maker *maker, unsigned depth);

static void from(struct maker *maker, unsigned depth)
{
    switch (fuzz_below(&maker->input, 9)) {
    case 0:
        add(maker, "c");
        break;
    case 1:
        add(maker, "a JOIN names USING (k)");
        break;
    case 2:
        add(maker, "a ");
        add(maker, PICK(maker, "", "LEFT ", "FULL ", "RIGHT ", "SEMI ", "ANTI "));
        add(maker, "JOIN c ON a.k = c.k AND c.ts BETWEEN a.ts - INTERVAL '1 minute' AND a.ts");
        break;
    case 3:
        add(maker, "a, c WHERE a.k = c.k AND ");
        expression(maker, DEPTH_MAX - 1);
        break;
    case 4:
        add(maker, depth < 2 ? "(" : "a");
        if (depth < 2) {
            select_query(maker, depth + 1);
            add(maker, ") AS q");
        }
        break;
    case 5:
        add(maker, PICK(maker, "TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '1 minute')",
                        "HOP(TABLE a, DESCRIPTOR(ts), INTERVAL '10 seconds', INTERVAL '1 minute')",
                        "SESSION(TABLE a, DESCRIPTOR(ts), INTERVAL '30 seconds')"));
        break;
    default:
        add(maker, "a");
        break;
    }
}

static void group_by(struct maker *maker)
{
    static const char *const windows[] = {"window(ts, '1 minute')",
                                          "window(ts, '1 minute', '10 seconds')",
                                          "session_window(ts, '30 seconds')",
                                          "window_start, window_end",
                                          "k",
                                          "1",
                                          "ALL",
                                          "ROLLUP (k, n)",
                                          "GROUPING SETS ((k), ())"};

    add(maker, " GROUP BY ");
    add(maker, pick(maker, windows, MR_ARRAY_SIZE(windows)));
    if (fuzz_below(&maker->input, 2) == 0) {
        add(maker, ", ");
        expression(maker, DEPTH_MAX - 1);
    }
    if (fuzz_below(&maker->input, 3) == 0) {
        add(maker, " HAVING ");
        expression(maker, 1);
    }
}

static void select_query(struct maker *maker, unsigned depth)
{
    add(maker, PICK(maker, "SELECT ", "SELECT ", "SELECT DISTINCT ", "SELECT DISTINCT ON (k) "));
    arguments(maker, 1);
    add(maker, PICK(maker, "", " AS n", " AS k"));
    add(maker, " FROM ");
    from(maker, depth);
    if (fuzz_below(&maker->input, 3) == 0) {
        add(maker, " WHERE ");
        expression(maker, 1);
    }
    if (fuzz_below(&maker->input, 2) == 0)
        group_by(maker);
    add(maker, PICK(maker, "", "", "", " LIMIT 5", " ORDER BY 1", " LATE TO late",
                    " QUALIFY row_number() OVER () = 1", " LIMIT 5 OFFSET 2"));
    if (depth < 2 && fuzz_below(&maker->input, 6) == 0) {
        add(maker, PICK(maker, " UNION ALL ", " UNION ", " INTERSECT ", " EXCEPT "));
        select_query(maker, depth + 1);
    }
}

/* What people write: keys, aggregates of columns that fit, a window or none. */
static void sensible_query(struct maker *maker)
{
    const char *key = PICK(maker, "k", "k, n % 10", "b", "upper(k)", "s.y");
    const char *window =
        PICK(maker, "", "window(ts, '1 minute')", "window(ts, '1 minute', '20 seconds')",
             "session_window(ts, '30 seconds')", "");
    const char *source =
        PICK(maker, "a", "a", "a", "a JOIN names USING (k)", "(SELECT * FROM a WHERE n > 3) AS a");

    add(maker, "SELECT ");
    add(maker, window[0] == 's'    ? "window_start, "
               : window[0] != '\0' ? "window_start, window_end, "
                                   : "");
    add(maker, key);
    for (uint32_t i = 1 + fuzz_below(&maker->input, 4); i > 0; i--) {
        add(maker, ", ");
        add(maker, PICK(maker, "count(*)", "count(d)", "sum(n)", "sum(d)", "avg(d)", "min(ts)",
                        "max(k)", "count(DISTINCT n)", "approx_count_distinct(k)", "stddev(d)",
                        "var_pop(n)", "list(n)", "string_agg(k, ',')", "first(n)", "last(k)",
                        "bool_and(b)", "arg_max(k, d)", "sum(n * 2 + 1)", "sum(n) + count(*)",
                        "max(n) - min(n)", "any_value(b)", "median(d)", "quantile_cont(d, 0.9)"));
        add(maker, PICK(maker, "", "", "", " FILTER (WHERE n > 1)", " FILTER (WHERE k LIKE 'a%')"));
    }
    add(maker, " FROM ");
    add(maker, source);
    add(maker, PICK(maker, "", "", " WHERE n > 3", " WHERE k = 'x' AND d < 2.5", " WHERE b"));
    add(maker, " GROUP BY ");
    add(maker, window);
    add(maker, window[0] != '\0' ? ", " : "");
    add(maker, key);
    add(maker, PICK(maker, "", "", " HAVING count(*) > 2", " HAVING max(n) > min(n)"));
}

static void script(struct maker *maker)
{
    add(maker, tables);
    if (fuzz_below(&maker->input, 3) == 0) {
        add(maker, "CREATE VIEW v AS ");
        select_query(maker, 1);
        add(maker, ";\n");
    }
    add(maker, "CREATE TABLE o WITH (connector = 'memory', table = 'o', output_mode = '");
    add(maker, PICK(maker, "append", "update", "complete"));
    add(maker, "');\nINSERT INTO o ");
    if (fuzz_below(&maker->input, 2) == 0)
        sensible_query(maker);
    else if (fuzz_below(&maker->input, 4) == 0)
        add(maker, "SELECT * FROM v");
    else
        select_query(maker, 0);
    add(maker, ";\n");
}

static enum mr_status describe(const struct mr_buf *text, char **ret_text, struct mr_error *err)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_sql_args args = {.env = mr_sim_env(sim), .check_only = true};
    struct mr_sql_script *parsed = NULL;
    enum mr_status status = mr_sql_script_parse("fuzz", text->data, text->size, &parsed, err);

    if (status == MR_OK)
        status = mr_sql_check(parsed, &args, ret_text, err);
    mr_sql_script_free(parsed);
    mr_sim_free(sim);
    return status;
}

static bool is_text(const uint8_t *data, size_t size)
{
    return size >= 2 && (memcmp(data, "--", 2) == 0 || memcmp(data, "#!", 2) == 0);
}

static void one(const uint8_t *data, size_t size)
{
    struct maker maker = {.input = fuzz_input_of(data, size)};
    struct mr_error err = {0}, err_again = {0};
    char *text = NULL, *text_again = NULL;
    enum mr_status status;

    if (is_text(data, size)) {
        add(&maker, data[0] == '-' ? tables : "");
        mr_buf_add(&maker.out, data, size);
    } else {
        script(&maker);
    }
    if (!maker.out.failed) {
        status = describe(&maker.out, &text, &err);
        if (status != MR_OK) {
            FUZZ_REFUSED3(&err, MR_SQL_ERROR, MR_CONFIG, MR_LIMIT);
            if (status == MR_SQL_ERROR && strstr(err.text, "has nothing to run") == NULL)
                FUZZ_CHECK(err.sql_line > 0 && err.sql_column > 0);
        }
        /* It takes as long again, and differs for all when it does for one. */
        if (!fuzz_starved() && mr_hash(data, size, 2) % 4 == 0) {
            FUZZ_CHECK(describe(&maker.out, &text_again, &err_again) == status);
            if (status == MR_OK)
                FUZZ_CHECK(text != NULL && text_again != NULL && strcmp(text, text_again) == 0);
            else
                FUZZ_CHECK(strcmp(err.text, err_again.text) == 0);
        }
    }
    mr_text_free(text);
    mr_text_free(text_again);
    mr_buf_release(&maker.out);
}

/* Columns that connectors and formats bring along live for ever: all are there before memory is
 * counted. */
static void warm_up(void)
{
    static const char *const with[] = {
        ("connector = 'file', path = '/in', format = 'text', on_error = 'into y'); "
         "CREATE TABLE y WITH (connector = 'null'"),
        "connector = 'rate'",
        "connector = 'rate-micro-batch'",
        "connector = 'nexmark', table = 'person'",
        "connector = 'nexmark', table = 'auction'",
        "connector = 'nexmark', table = 'bid'",
        "connector = 'template'",
        "connector = 'kafka', brokers = 'b:1', topic = 't'",
        "connector = 'kafka', brokers = 'b:1', topic = 't', include_headers = 'true'",
        "connector = 'file', path = '/in', format = 'text'",
        "connector = 'file', path = '/in', format = 'raw'",
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(with); i++) {
        struct mr_buf sql = MR_BUF_INIT;
        char *text = NULL;

        mr_buf_printf(&sql, "CREATE TABLE x WITH (%s); SELECT * FROM x;", with[i]);
        (void)describe(&sql, &text, NULL);
        mr_text_free(text);
        mr_buf_release(&sql);
    }
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    static bool warm;

    mr_plugins_register();
    if (!warm)
        warm_up();
    warm = true;
    return size > (is_text(data, size) ? TEXT_BYTES_MAX : CHOICES_MAX) ? 0
                                                                       : fuzz_run(one, data, size);
}
