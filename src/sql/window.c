/*
 * Event-time windows in SQL: the spellings of Spark and Flink become one struct mr_sql_window.
 *
 *     in expressions   mr_window(ts, size [, slide [, start]])     (window() after the token pass)
 *                      tumble(ts, size)   hop(ts, slide, size)
 *                      tumble_start(...)   tumble_end(...)   hop_start(...)   hop_end(...)
 *                      session_window(ts, gap)   session(ts, gap)   session_start(...)
 *                      session_end(...)
 *     in FROM          tumble(t, descriptor(ts), size [, offset])
 *                      hop(t, descriptor(ts), slide, size [, offset])
 *                      cumulate(t, descriptor(ts), step, size [, offset])
 *                      also with names: data =>, timecol =>, size =>, slide =>, offset =>
 *
 * Lengths are texts ('10 minutes'), intervals, or whole numbers of microseconds; months have no
 * fixed length and are refused. The gap of sessions may be an expression of each row.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

static const struct window_function {
    const char *name;
    bool hop; /* (time, slide, size): Flink's order */
    enum mr_sql_window_part part;
    bool session;
} functions[] = {
    {"mr_window", false, MR_SQL_WINDOW_WHOLE, false},
    {"tumble", false, MR_SQL_WINDOW_WHOLE, false},
    {"tumble_start", false, MR_SQL_WINDOW_START, false},
    {"tumble_end", false, MR_SQL_WINDOW_END, false},
    {"hop", true, MR_SQL_WINDOW_WHOLE, false},
    {"hop_start", true, MR_SQL_WINDOW_START, false},
    {"hop_end", true, MR_SQL_WINDOW_END, false},
    {"session_window", false, MR_SQL_WINDOW_WHOLE, true},
    {"session", false, MR_SQL_WINDOW_WHOLE, true},
    {"session_start", false, MR_SQL_WINDOW_START, true},
    {"session_end", false, MR_SQL_WINDOW_END, true},
};

static const struct window_function *find_function(const struct mr_json *node)
{
    const char *name = mr_sql__function(node);

    for (size_t i = 0; name != NULL && i < MR_ARRAY_SIZE(functions); i++) {
        if (mr_sql__same_name(functions[i].name, name))
            return &functions[i];
    }
    return NULL;
}

bool mr_sql__is_window_call(const struct mr_json *node)
{
    return find_function(node) != NULL;
}

bool mr_sql__window_equal(const struct mr_sql_window *a, const struct mr_sql_window *b)
{
    return a->size_us == b->size_us && a->slide_us == b->slide_us && a->offset_us == b->offset_us &&
           a->session == b->session && (a->gap == NULL) == (b->gap == NULL) &&
           (a->gap == NULL || mr_sql__equal(a->gap, b->gap)) && mr_sql__equal(a->time, b->time);
}

bool mr_sql__find_session(const struct mr_json *node)
{
    const struct window_function *function = node != NULL ? find_function(node) : NULL;

    if (node == NULL || (function != NULL && function->session))
        return node != NULL;
    for (const struct mr_json *child = node->first; child != NULL; child = child->next) {
        if (mr_sql__find_session(child))
            return true;
    }
    return false;
}

/* ---- Lengths ---- */

static enum mr_status keep_numbers(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    int64_t *numbers = arg;

    MR_UNUSED(err);
    for (uint32_t i = 0; i < 2 && mr_batch_row_count(batch) == 1; i++) {
        if (!mr_column_is_null(mr_batch_column(batch, i), 0))
            numbers[i] = mr_column_int(mr_batch_column(batch, i), 0);
    }
    return MR_OK;
}

/* Any constant expression of an interval, through DuckDB. */
static enum mr_status evaluate(struct mr_sql_planner *p, const struct mr_sql_query *query,
                               const struct mr_json *node, int64_t *ret_us)
{
    int64_t numbers[2] = {0, INT64_MIN}; /* months, microseconds */
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_error ignored = {0};
    const char *text;
    enum mr_status status;

    MR_TRY(mr_sql__expression_text(p, node, &text));
    mr_buf_printf(&sql,
                  "SELECT datepart('year', i) * 12 + datepart('month', i) AS m, epoch_us(i) AS us "
                  "FROM (SELECT "
                  "CAST(%s AS INTERVAL) AS i)",
                  text);
    status =
        sql.failed ? MR_NOMEM : mr_duck_exec(p->duck, sql.data, keep_numbers, numbers, &ignored);
    mr_buf_release(&sql);
    if (status != MR_OK || numbers[1] == INT64_MIN)
        return mr_sql__fail(
            p, query, node,
            "this is no length of time; write '10 minutes' or INTERVAL '10 minutes'");
    if (numbers[0] != 0)
        return mr_sql__fail(p, query, node, "months and years have no fixed length; use days");
    *ret_us = numbers[1];
    return MR_OK;
}

static enum mr_status parse_length(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   const struct mr_json *node, int64_t *ret_us)
{
    const struct mr_json *constant =
        mr_sql__class_is(node, "CAST") ? mr_json_get(node, "child") : node;
    const struct mr_json *value = mr_json_get(mr_json_get(constant, "value"), "value");

    if (mr_sql__class_is(constant, "CONSTANT") && value != NULL && value->kind == MR_JSON_STRING &&
        mr_parse_duration_us(value->text, ret_us))
        return MR_OK;
    if (mr_sql__class_is(node, "CONSTANT") && value != NULL && value->kind == MR_JSON_NUMBER &&
        mr_json_int(value, ret_us))
        return MR_OK; /* microseconds, as Spark takes it */
    return evaluate(p, query, node, ret_us);
}

static enum mr_status check(struct mr_sql_planner *p, const struct mr_sql_query *query,
                            const struct mr_json *node, const struct mr_sql_window *window)
{
    if (window->size_us <= 0 || window->slide_us <= 0)
        return mr_sql__fail(p, query, node, "a window's length and slide must be more than zero");
    if (window->slide_us > window->size_us)
        return mr_sql__fail(
            p, query, node,
            "a window's slide must not be longer than the window: rows would be lost");
    if (window->offset_us >= window->slide_us || window->offset_us <= -window->slide_us)
        return mr_sql__fail(p, query, node, "a window's start must be less than its slide");
    return MR_OK;
}

static bool is_column(const struct mr_json *node)
{
    return mr_sql__class_is(node, "COLUMN_REF");
}

static enum mr_status parse_session(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    struct mr_json *node, struct mr_sql_window *window)
{
    struct mr_json *children = mr_json_get(node, "children");

    if (children == NULL || children->count != 2)
        return mr_sql__fail(p, query, node,
                            "a session is session_window(time, gap): its rows are less than the "
                            "gap apart");
    window->session = true;
    window->time = children->first;
    if (mr_sql__find(children->last, is_column) != NULL) {
        window->gap = children->last;
        return MR_OK;
    }
    MR_TRY(parse_length(p, query, children->last, &window->size_us));
    if (window->size_us <= 0)
        return mr_sql__fail(p, query, children->last, "a session's gap must be more than zero");
    return MR_OK;
}

enum mr_status mr_sql__window_parse(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, struct mr_sql_window *ret_window)
{
    const struct window_function *function = find_function(node);
    struct mr_json *children = mr_json_get(node, "children");
    struct mr_sql_window window = {.part = function->part};
    size_t count = children != NULL ? children->count : 0;
    int64_t lengths[3] = {0, 0, 0};

    if (function->session) {
        MR_TRY(parse_session(p, query, node, &window));
        *ret_window = window;
        return MR_OK;
    }
    if (count < (function->hop ? 3u : 2u) || count > 4 ||
        (!function->hop && function->name[0] == 't' && count > 3))
        return mr_sql__fail(
            p, query, node,
            "a window is window(time, size[, slide[, start]]), tumble(time, size[, start]) or "
            "hop(time, slide, size[, start])");
    window.time = children->first;
    for (size_t i = 1; i < count; i++)
        MR_TRY(parse_length(p, query, mr_json_at(children, i), &lengths[i - 1]));
    if (function->hop) {
        window.slide_us = lengths[0];
        window.size_us = lengths[1];
        window.offset_us = lengths[2];
    } else if (function->name[0] == 't') {
        window.size_us = window.slide_us = lengths[0];
        window.offset_us = lengths[1];
    } else {
        window.size_us = lengths[0];
        window.slide_us = count > 2 ? lengths[1] : lengths[0];
        window.offset_us = lengths[2];
    }
    MR_TRY(check(p, query, node, &window));
    *ret_window = window;
    return MR_OK;
}

/* ---- In FROM ---- */

bool mr_sql__is_window_table(const struct mr_json *function)
{
    const char *name = mr_sql__function(function);

    return name != NULL && (mr_sql__same_name(name, "tumble") || mr_sql__same_name(name, "hop") ||
                            mr_sql__same_name(name, "cumulate"));
}

/* Argument by name (name => value), else by position among those without a name. */
static struct mr_json *argument(struct mr_json *function, const char *name, size_t position)
{
    struct mr_json *children = mr_json_get(function, "children");

    for (struct mr_json *child = children->first; child != NULL; child = child->next) {
        if (mr_sql__same_name(mr_sql__alias(child), name))
            return child;
    }
    for (struct mr_json *child = children->first; child != NULL; child = child->next) {
        if (mr_sql__alias(child)[0] == '\0' && position-- == 0)
            return child;
    }
    return NULL;
}

enum mr_status mr_sql__window_table(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *function, struct mr_json **ret_table,
                                    const char **ret_column, struct mr_sql_window *ret_window)
{
    bool cumulates = mr_sql__same_name(mr_sql__function(function), "cumulate");
    bool hop = cumulates || mr_sql__same_name(mr_sql__function(function), "hop");
    struct mr_json *table = argument(function, "data", 0);
    struct mr_json *time = argument(function, "timecol", 1);
    struct mr_json *slide = hop ? argument(function, cumulates ? "step" : "slide", 2) : NULL;
    struct mr_json *size = argument(function, "size", hop ? 3 : 2);
    struct mr_json *offset = argument(function, "offset", hop ? 4 : 3);
    struct mr_json *column;
    struct mr_sql_window window = {0};

    if (table == NULL || time == NULL || size == NULL || (hop && slide == NULL) ||
        !mr_sql__class_is(table, "COLUMN_REF") || mr_sql__function(time) == NULL ||
        !mr_sql__same_name(mr_sql__function(time), "descriptor") ||
        mr_json_get(time, "children")->count != 1 ||
        !mr_sql__class_is(mr_json_get(time, "children")->first, "COLUMN_REF"))
        return mr_sql__fail(p, query, function,
                            "write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 minute') or "
                            "HOP(TABLE t, DESCRIPTOR(ts), slide, "
                            "size)");
    column = mr_json_get(mr_json_get(time, "children")->first, "column_names");
    MR_TRY(parse_length(p, query, size, &window.size_us));
    window.slide_us = window.size_us;
    if (hop)
        MR_TRY(parse_length(p, query, slide, &window.slide_us));
    if (cumulates) {
        window.step_us = window.slide_us;
        window.slide_us = window.size_us;
        if (window.step_us <= 0 || window.size_us % window.step_us != 0)
            return mr_sql__fail(p, query, slide,
                                "the size of CUMULATE must be a multiple of its "
                                "step");
    }
    if (offset != NULL)
        MR_TRY(parse_length(p, query, offset, &window.offset_us));
    MR_TRY(check(p, query, function, &window));
    *ret_table = table;
    *ret_column = column->last->text;
    *ret_window = window;
    return MR_OK;
}

/* ---- The operator ---- */

static void add_mark(struct mr_sql_rel *rel, struct mr_sql_mark mark)
{
    if (rel->mark_count < MR_SQL_MARKS_MAX)
        rel->marks[rel->mark_count++] = mark;
}

/* Other windows are other groups: state of the old ones cannot be gone on with. */
static void tell_window(const struct mr_sql_window *window, struct mr_node *node)
{
    struct mr_buf text = MR_BUF_INIT;

    mr_buf_printf(&text, "windows of %lld ms", (long long)(window->size_us / 1000));
    if (window->slide_us != window->size_us)
        mr_buf_printf(&text, " every %lld ms", (long long)(window->slide_us / 1000));
    if (window->step_us != 0)
        mr_buf_printf(&text, " in steps of %lld ms", (long long)(window->step_us / 1000));
    if (window->offset_us != 0)
        mr_buf_printf(&text, " from %lld ms on", (long long)(window->offset_us / 1000));
    mr_node_set_identity(node, text.failed ? NULL : text.data);
    mr_buf_release(&text);
}

enum mr_status mr_sql__add_window(struct mr_sql_planner *p, const char *owner,
                                  const struct mr_sql_rel *input, uint32_t column,
                                  const struct mr_sql_window *window, const char *start_name,
                                  const char *end_name, struct mr_sql_rel *ret_rel)
{
    struct mr_window_spec spec = {.column = column,
                                  .size_us = window->size_us,
                                  .slide_us = window->slide_us,
                                  .offset_us = window->offset_us,
                                  .step_us = window->step_us,
                                  .start_name = start_name,
                                  .end_name = end_name};
    const struct mr_sql_mark *time = mr_sql__mark_of(input, column);
    bool watermarked = time != NULL && time->watermarked;
    int64_t delay_us = watermarked ? time->delay_us : 0;
    struct mr_sql_rel rel = {.aggregated = input->aggregated};
    struct mr_node *node = input->node;
    struct mr_map_op op;

    MR_TRY(mr_op_window(input->schema, &spec, &op, p->err));
    MR_TRY(mr_sql__add_map(p, owner, "window", &op, &node, 1, &rel));
    tell_window(window, rel.node);
    rel.aggregated = input->aggregated;
    if (window->step_us == 0) /* else the windows of one start close one after the other */
        add_mark(&rel, (struct mr_sql_mark){0, MR_SQL_MARK_START, window->size_us, watermarked,
                                            delay_us});
    add_mark(&rel,
             (struct mr_sql_mark){1, MR_SQL_MARK_END, window->size_us, watermarked, delay_us});
    for (uint32_t i = 0; i < input->mark_count; i++) {
        struct mr_sql_mark mark = input->marks[i];

        mark.column += 2;
        add_mark(&rel, mark);
    }
    *ret_rel = rel;
    return MR_OK;
}
