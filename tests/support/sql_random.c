/*
 * The generator (sql_random.h). What is written for both engines is written by one call, so that
 * they differ only where their words do: windows, sessions.
 */
#include "support/sql_random.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 3, KEYS_MAX = 2 };

struct maker {
    uint64_t *state;
    struct random_query *query;
    const char *prefix; /* of columns of the left stream: "l." in joins */
    bool joined;        /* columns of the right stream are there, too */
};

uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

uint32_t random_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(random_next(state) >> 16) % limit;
}

static uint32_t below(struct maker *m, uint32_t limit)
{
    return random_below(m->state, limit);
}

/* The same words for both. */
static void both(struct maker *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void both(struct maker *m, const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    mr_buf_add_str(&m->query->stream, text);
    mr_buf_add_str(&m->query->oracle, text);
}

/* ---- Expressions ---- */

static void add_bool(struct maker *m, struct mr_buf *out, unsigned depth);

static const char *int_column(struct maker *m)
{
    if (m->joined && below(m, 2) == 0)
        return "r.j";
    return m->prefix[0] != '\0' ? "l.i" : "i";
}

static const char *text_column(struct maker *m)
{
    static const char *const joined[] = {"l.k", "l.s", "r.k"};
    static const char *const plain[] = {"k", "s"};

    return m->prefix[0] != '\0' ? joined[below(m, m->joined ? 3 : 2)] : plain[below(m, 2)];
}

static void add_text(struct maker *m, struct mr_buf *out, unsigned depth);

static void add_int(struct maker *m, struct mr_buf *out, unsigned depth)
{
    static const char *const operators[] = {"+", "-", "*"};

    switch (depth >= DEPTH_MAX ? below(m, 2) : below(m, 8)) {
    case 0:
        mr_buf_printf(out, "%d", (int)below(m, 21) - 10);
        return;
    case 1:
        mr_buf_add_str(out, int_column(m));
        return;
    case 2:
    case 3:
        mr_buf_add_char(out, '(');
        add_int(m, out, depth + 1);
        mr_buf_printf(out, " %s ", operators[below(m, 3)]);
        add_int(m, out, depth + 1);
        mr_buf_add_char(out, ')');
        return;
    case 4:
        mr_buf_add_str(out, "coalesce(");
        add_int(m, out, depth + 1);
        mr_buf_printf(out, ", %d)", (int)below(m, 5));
        return;
    case 5:
        mr_buf_add_str(out, "CASE WHEN ");
        add_bool(m, out, depth + 1);
        mr_buf_add_str(out, " THEN ");
        add_int(m, out, depth + 1);
        mr_buf_add_str(out, " ELSE ");
        add_int(m, out, depth + 1);
        mr_buf_add_str(out, " END");
        return;
    case 6:
        mr_buf_add_str(out, "length(");
        add_text(m, out, depth + 1);
        mr_buf_add_char(out, ')');
        return;
    default:
        mr_buf_add_str(out, "abs(");
        add_int(m, out, depth + 1);
        mr_buf_printf(out, ") %% %d", (int)below(m, 5) + 2);
        return;
    }
}

static void add_text(struct maker *m, struct mr_buf *out, unsigned depth)
{
    switch (depth >= DEPTH_MAX ? below(m, 2) : below(m, 6)) {
    case 0:
    case 1:
        mr_buf_add_str(out, text_column(m));
        return;
    case 2:
        mr_buf_add_str(out, "upper(");
        break;
    case 3:
        mr_buf_add_str(out, "reverse(");
        break;
    case 4:
        mr_buf_add_str(out, "(");
        add_text(m, out, depth + 1);
        mr_buf_printf(out, " || '%c'", 'a' + (char)below(m, 3));
        mr_buf_add_char(out, ')');
        return;
    default:
        mr_buf_add_str(out, "substr(");
        add_text(m, out, depth + 1);
        mr_buf_printf(out, ", 1, %u)", below(m, 3) + 1);
        return;
    }
    add_text(m, out, depth + 1);
    mr_buf_add_char(out, ')');
}

static void add_bool(struct maker *m, struct mr_buf *out, unsigned depth)
{
    static const char *const comparisons[] = {"<", "<=", "=", "<>", ">", ">="};

    switch (depth >= DEPTH_MAX ? below(m, 2) : below(m, 7)) {
    case 0:
    case 1:
        mr_buf_add_char(out, '(');
        add_int(m, out, depth + 1);
        mr_buf_printf(out, " %s ", comparisons[below(m, 6)]);
        add_int(m, out, depth + 1);
        mr_buf_add_char(out, ')');
        return;
    case 2:
        mr_buf_add_char(out, '(');
        add_text(m, out, depth + 1);
        mr_buf_printf(out, " %s '%c')", comparisons[below(m, 6)], 'a' + (char)below(m, 5));
        return;
    case 3:
        mr_buf_add_char(out, '(');
        add_bool(m, out, depth + 1);
        mr_buf_add_str(out, below(m, 2) == 0 ? " AND " : " OR ");
        add_bool(m, out, depth + 1);
        mr_buf_add_char(out, ')');
        return;
    case 4:
        mr_buf_add_str(out, "(NOT ");
        add_bool(m, out, depth + 1);
        mr_buf_add_char(out, ')');
        return;
    case 5:
        mr_buf_printf(out, "(%s IS %sNULL)", text_column(m), below(m, 2) == 0 ? "" : "NOT ");
        return;
    default:
        mr_buf_printf(out, "(%s IN ('a', 'b', 'xx'))", text_column(m));
        return;
    }
}

/* One expression into both texts. */
static void both_of(struct maker *m, void (*add)(struct maker *, struct mr_buf *, unsigned))
{
    size_t at = m->query->stream.size;

    add(m, &m->query->stream, 0);
    mr_buf_add(&m->query->oracle, m->query->stream.data + at, m->query->stream.size - at);
}

/* ---- Aggregates ---- */

/* Those whose result does not depend on the order of rows. */
static void add_aggregate(struct maker *m)
{
    static const char *const ints[] = {"sum",         "min",     "max",
                                       "avg",         "count",   "bit_and",
                                       "bit_or",      "bit_xor", "count_distinct",
                                       "sum_distinct"};
    uint32_t choice = below(m, 14);

    if (choice == 0) {
        both(m, "count(*)");
    } else if (choice <= 10) {
        const char *name = ints[choice - 1];
        bool distinct = strstr(name, "_distinct") != NULL;

        both(m, "%.*s(%s", distinct ? (int)(strchr(name, '_') - name) : (int)strlen(name), name,
             distinct ? "DISTINCT " : "");
        both_of(m, add_int);
        both(m, ")");
    } else if (choice == 11) {
        both(m, "%s(", below(m, 2) == 0 ? "min" : "max");
        both_of(m, add_text);
        both(m, ")");
    } else if (choice == 12) {
        both(m, "%s(", below(m, 2) == 0 ? "bool_and" : "bool_or");
        both_of(m, add_bool);
        both(m, ")");
    } else {
        both(m, "round(stddev_samp(");
        both_of(m, add_int);
        both(m, ")");
    }
    if (below(m, 4) == 0) {
        both(m, " FILTER (WHERE ");
        both_of(m, add_bool);
        both(m, ")");
    }
    if (choice == 13)
        both(m, ", 6)");
}

static void add_aggregates(struct maker *m)
{
    uint32_t count = 1 + below(m, 3);

    for (uint32_t i = 0; i < count; i++) {
        both(m, ", ");
        add_aggregate(m);
        both(m, " AS a%u", i);
    }
}

/* ---- FROM ---- */

/* A stream without its last row, under its own name or another. */
static void add_stream(struct maker *m, const char *table, const char *alias)
{
    both(m, "(SELECT * FROM %s WHERE k IS DISTINCT FROM 'flush') AS %s", table, alias);
}

static void add_where(struct maker *m)
{
    if (below(m, 2) == 0)
        return;
    both(m, " WHERE ");
    both_of(m, add_bool);
}

/* Keys k0, k1 as expressions: into texts of their own, to be said twice. */
static uint32_t make_keys(struct maker *m, struct mr_buf *keys)
{
    uint32_t count = 1 + below(m, KEYS_MAX);

    for (uint32_t i = 0; i < count; i++) {
        mr_buf_clear(&keys[i]);
        if (below(m, 2) == 0)
            mr_buf_add_str(&keys[i], text_column(m));
        else if (below(m, 2) == 0)
            mr_buf_printf(&keys[i], "%s %% 3", int_column(m));
        else
            add_text(m, &keys[i], DEPTH_MAX - 1);
    }
    return count;
}

static void add_join(struct maker *m, const char *type, bool bounded)
{
    uint32_t before = below(m, 20);
    uint32_t after = below(m, 20);

    add_stream(m, "lefts", "l");
    both(m, " %s JOIN ", type);
    add_stream(m, "rights", "r");
    both(m, " ON l.k = r.k");
    if (bounded)
        both(m,
             " AND l.ts >= r.ts - INTERVAL '%u seconds' AND l.ts <= r.ts + INTERVAL '%u seconds'",
             before, after);
    if (below(m, 3) == 0)
        both(m, " AND l.i < r.j");
}

/* ---- Shapes ---- */

static void make_stateless(struct maker *m)
{
    uint32_t sides = 1 + (below(m, 3) == 0);

    m->query->mode = "append";
    for (uint32_t side = 0; side < sides; side++) {
        both(m, "%sSELECT n, ", side > 0 ? " UNION ALL " : "");
        both_of(m, add_int);
        both(m, " AS x, ");
        both_of(m, add_text);
        both(m, " AS y FROM ");
        add_stream(m, "lefts", "l");
        add_where(m);
    }
}

static void make_static_join(struct maker *m)
{
    static const char *const types[] = {"JOIN", "LEFT JOIN", "SEMI JOIN", "ANTI JOIN"};
    uint32_t type = below(m, 4);

    m->query->mode = "append";
    m->prefix = "l.";
    both(m, "SELECT l.n, %s, ", type < 2 ? "t.title" : "l.s");
    both_of(m, add_int);
    both(m, " AS x FROM ");
    add_stream(m, "lefts", "l");
    both(m, " %s names AS t ON l.k = t.k", types[type]);
}

static void make_grouped(struct maker *m, const char *mode)
{
    struct mr_buf keys[KEYS_MAX] = {MR_BUF_INIT, MR_BUF_INIT};
    uint32_t count = make_keys(m, keys);

    m->query->mode = mode;
    m->query->key_columns = count;
    both(m, "SELECT ");
    for (uint32_t i = 0; i < count; i++)
        both(m, "%s%s AS k%u", i > 0 ? ", " : "", keys[i].data, i);
    add_aggregates(m);
    both(m, " FROM ");
    add_stream(m, "lefts", "l");
    add_where(m);
    both(m, " GROUP BY ");
    for (uint32_t i = 0; i < count; i++)
        both(m, "%s%s", i > 0 ? ", " : "", keys[i].data);
    if (strcmp(mode, "complete") == 0 && below(m, 2) == 0)
        both(m, " HAVING count(*) > %u", below(m, 6));
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        mr_buf_release(&keys[i]);
}

static void make_sets(struct maker *m)
{
    static const char *const sets[] = {"ROLLUP (k, s)", "CUBE (k, s)",
                                       "GROUPING SETS ((k), (s), ())"};

    m->query->mode = "complete";
    both(m, "SELECT k, s, grouping(k, s) AS g");
    add_aggregates(m);
    both(m, " FROM ");
    add_stream(m, "lefts", "l");
    add_where(m);
    both(m, " GROUP BY %s", sets[below(m, 3)]);
}

/* FROM (...) with the start of each window as w, for DuckDB. */
static void oracle_windows(struct maker *m, const char *from, uint32_t size, uint32_t slide)
{
    mr_buf_printf(&m->query->oracle,
                  "(SELECT *, unnest([time_bucket(INTERVAL '%u seconds', ts, TIMESTAMP 'epoch') - "
                  "to_seconds(%u * i) "
                  "FOR i IN range(%u) IF time_bucket(INTERVAL '%u seconds', ts, TIMESTAMP 'epoch') "
                  "- to_seconds(%u * "
                  "i) + INTERVAL '%u seconds' > ts]) AS w FROM %s)",
                  slide, slide, (size + slide - 1) / slide, slide, slide, size, from);
}

static void make_window(struct maker *m)
{
    uint32_t slide = 1 + below(m, 12);
    uint32_t size = slide * (1 + below(m, 3)) + (below(m, 3) == 0 ? below(m, slide) : 0);

    m->query->mode = "append";
    both(m, "SELECT epoch(");
    mr_buf_add_str(&m->query->stream, "window_start");
    mr_buf_add_str(&m->query->oracle, "w");
    both(m, ")::BIGINT AS started, k");
    add_aggregates(m);
    both(m, " FROM ");
    mr_buf_add_str(&m->query->stream,
                   "(SELECT * FROM lefts WHERE k IS DISTINCT FROM 'flush') AS l");
    oracle_windows(m, "(SELECT * FROM lefts WHERE k IS DISTINCT FROM 'flush')", size, slide);
    add_where(m);
    mr_buf_printf(&m->query->stream, " GROUP BY window(ts, '%u seconds', '%u seconds'), k", size,
                  slide);
    mr_buf_add_str(&m->query->oracle, " GROUP BY w, k");
}

static void make_session(struct maker *m)
{
    uint32_t gap = 1 + below(m, 8);

    m->query->mode = "append";
    mr_buf_printf(&m->query->stream,
                  "SELECT epoch_us(session_start) AS b, epoch_us(session_end) AS e, k");
    mr_buf_printf(
        &m->query->oracle,
        "SELECT epoch_us(min(ts)) AS b, epoch_us(max(ts) + INTERVAL '%u seconds') AS e, k", gap);
    add_aggregates(m);
    mr_buf_printf(&m->query->stream,
                  " FROM (SELECT * FROM lefts WHERE k IS DISTINCT FROM 'flush') AS l GROUP BY k, "
                  "session(ts, INTERVAL '%u seconds')",
                  gap);
    mr_buf_printf(
        &m->query->oracle,
        " FROM (SELECT *, sum(new) OVER (PARTITION BY k ORDER BY ts, n ROWS UNBOUNDED PRECEDING) "
        "AS g FROM (SELECT *, coalesce(ts > lag(ts) OVER (PARTITION BY k ORDER BY ts, n) + "
        "INTERVAL '%u seconds', true)::INT AS new FROM lefts WHERE k IS DISTINCT FROM 'flush')) "
        "GROUP BY k, g",
        gap);
}

static void make_distinct(struct maker *m)
{
    m->query->mode = "append";
    if (below(m, 2) ==
        0) { /* all columns that come out are keys: which row is first is no matter */
        both(m, "SELECT DISTINCT ON (k, i) k, i FROM ");
        add_stream(m, "lefts", "l");
        add_where(m);
        return;
    }
    both(m, "SELECT DISTINCT ts, k FROM ");
    add_stream(m, "lefts", "l");
    add_where(m);
}

static void make_join(struct maker *m)
{
    m->query->mode = "append";
    m->prefix = "l.";
    m->joined = true;
    both(m, "SELECT l.n AS ln, r.n AS rn, ");
    both_of(m, add_int);
    both(m, " AS x FROM ");
    add_join(m, "INNER", below(m, 2) == 0);
    add_where(m);
}

static void make_outer_join(struct maker *m)
{
    static const char *const types[] = {"LEFT", "RIGHT", "FULL", "SEMI"};
    uint32_t type = below(m, 4);

    m->query->mode = "append";
    both(m, "SELECT l.n AS ln%s FROM ", type < 3 ? ", r.n AS rn, r.j" : "");
    add_join(m, types[type], true);
}

static void make_join_window(struct maker *m)
{
    uint32_t size = 5 + below(m, 15);

    m->query->mode = "append";
    mr_buf_add_str(&m->query->stream, "SELECT epoch(window_start)::BIGINT AS started, k");
    mr_buf_printf(&m->query->oracle,
                  "SELECT epoch(time_bucket(INTERVAL '%u seconds', ts, TIMESTAMP 'epoch'))::BIGINT "
                  "AS started, k",
                  size);
    both(m, ", count(*) AS c, sum(j) AS total FROM (SELECT l.ts, l.k, r.j FROM ");
    add_join(m, "INNER", true);
    both(m, ") AS pairs GROUP BY ");
    mr_buf_printf(&m->query->stream, "window(ts, '%u seconds'), k", size);
    mr_buf_printf(&m->query->oracle, "time_bucket(INTERVAL '%u seconds', ts, TIMESTAMP 'epoch'), k",
                  size);
}

/* Windows of windows. */
static void make_chain(struct maker *m)
{
    uint32_t size = 2 + below(m, 6);
    uint32_t outer = size * (2 + below(m, 3));

    m->query->mode = "append";
    mr_buf_printf(&m->query->stream,
                  "SELECT epoch(window_start)::BIGINT AS started, count(*) AS c, sum(m) AS total, "
                  "max(m) AS most FROM (SELECT window_start AS u, k, count(*) AS m FROM (SELECT * "
                  "FROM lefts WHERE k IS DISTINCT FROM 'flush') AS l GROUP BY window(ts, '%u "
                  "seconds'), k) AS inner_windows GROUP BY window(u, '%u seconds')",
                  size, outer);
    mr_buf_printf(
        &m->query->oracle,
        "SELECT epoch(time_bucket(INTERVAL '%u seconds', u, TIMESTAMP 'epoch'))::BIGINT AS "
        "started, count(*) AS c, sum(m) AS total, max(m) AS most FROM (SELECT "
        "time_bucket(INTERVAL '%u seconds', ts, TIMESTAMP 'epoch') AS u, k, count(*) AS m "
        "FROM lefts WHERE k IS DISTINCT FROM 'flush' GROUP BY u, k) GROUP BY started",
        outer, size);
}

void random_query_make(struct random_query *query, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 88172645463325252u;
    struct maker m = {.state = &state, .query = query, .prefix = ""};

    mr_buf_clear(&query->stream);
    mr_buf_clear(&query->oracle);
    query->key_columns = 0;
    query->shape = (enum random_shape)(seed % RANDOM_SHAPES);
    for (int i = 0; i < 4; i++)
        (void)random_next(&state);
    switch (query->shape) {
    case RANDOM_STATELESS:
        make_stateless(&m);
        break;
    case RANDOM_STATIC_JOIN:
        make_static_join(&m);
        break;
    case RANDOM_UPDATE:
        make_grouped(&m, "update");
        break;
    case RANDOM_COMPLETE:
        make_grouped(&m, "complete");
        break;
    case RANDOM_SETS:
        make_sets(&m);
        break;
    case RANDOM_WINDOW:
        make_window(&m);
        break;
    case RANDOM_SESSION:
        make_session(&m);
        break;
    case RANDOM_DISTINCT:
        make_distinct(&m);
        break;
    case RANDOM_JOIN:
        make_join(&m);
        break;
    case RANDOM_OUTER_JOIN:
        make_outer_join(&m);
        break;
    case RANDOM_JOIN_WINDOW:
        make_join_window(&m);
        break;
    case RANDOM_CHAIN:
    default:
        make_chain(&m);
        break;
    }
}

void random_query_release(struct random_query *query)
{
    mr_buf_release(&query->stream);
    mr_buf_release(&query->oracle);
}

/* ---- Rows ---- */

static void add_key(struct mr_buf *out, uint64_t *state)
{
    uint32_t key = random_below(state, 6);

    if (key == 0)
        mr_buf_add_str(out, "NULL");
    else
        mr_buf_printf(out, "'%c'", 'a' + (char)key - 1);
}

void random_rows(struct mr_buf *out, bool right, uint64_t *state, int from, int count)
{
    for (int n = from; n < from + count; n++) {
        /* a second a row, up to 12 s out of order */
        int64_t time_us =
            (int64_t)n * 1000000 + (int64_t)random_below(state, 48) * 250000 + INT64_C(100000000);

        mr_buf_printf(out, "%s(%d, ", n > from ? ", " : "", n);
        add_key(out, state);
        if (random_below(state, 9) == 0)
            mr_buf_add_str(out, ", NULL");
        else
            mr_buf_printf(out, ", %d", (int)random_below(state, 12) - 4);
        if (!right)
            mr_buf_printf(out, ", %s",
                          random_below(state, 4) == 0
                              ? "'xx'"
                              : (random_below(state, 5) == 0 ? "NULL" : "'a'"));
        mr_buf_printf(out, ", make_timestamp(%lld))", (long long)time_us);
    }
}

void random_flush_row(struct mr_buf *out, bool right, int number)
{
    mr_buf_printf(out, "(%d, 'flush', 0%s, make_timestamp(1000000000000000))", number,
                  right ? "" : ", 'z'");
}
