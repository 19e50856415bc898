/*
 * LIKE, ILIKE and GLOB in bounded time.
 *
 * DuckDB tries a pattern again from every place for each of its %, one inside the other: a text of
 * some thousand bytes against '%a%a%a%a_b' takes longer than anybody waits. The operators of an
 * instance are therefore macros over its own ones:
 *
 *     s LIKE p  ->  CASE WHEN mr__fast_like(p) THEN DuckDB's LIKE ELSE mr__like(s, p) END
 *
 * The CASE over a constant pattern is folded when the statement is planned. Patterns that DuckDB
 * answers in linear time (one % inside, or none; constants without '_' also with many) so keep its
 * fast ways, down to prefix() and contains(). The others come here: the matcher
 * goes back only to the last % that it passed, so it takes at most the product of both lengths. It
 * gives what DuckDB gives, also for its oddities (a pattern that ends with its escape character is
 * an error only when the matching gets there).
 *
 * Called by stmt.c before the first statement of an instance that needs it. Thread: the instance's.
 */
#include "base/check.h"
#include "duck/internal.h"

#include <ctype.h>
#include <string.h>

/* ---- the matcher ---- */

struct pattern {
    const char *text;
    size_t size;
    bool glob; /* * ? [...] and \ in place of % _ and an escape character */
    bool escapes;
    char escape;
};

enum step { STEP_MISS, STEP_NEXT, STEP_BROKEN };

/* [abc], [a-c], [!abc]: is c one of them? *ret_end is behind it. An open one is a miss. */
static enum step match_bracket(const struct pattern *p, size_t at, char c, size_t *ret_end)
{
    bool inverted = at < p->size && p->text[at] == '!';
    bool found = false;
    size_t first;

    at += inverted;
    for (first = at; at < p->size;) {
        bool range = at + 1 < p->size && p->text[at + 1] == '-';

        if (p->text[at] == ']' && at > first) {
            *ret_end = at + 1;
            return found != inverted ? STEP_NEXT : STEP_MISS;
        }
        if (at + 1 == p->size || (range && at + 2 == p->size))
            break;
        if (range ? c >= p->text[at] && c <= p->text[at + 2] : c == p->text[at])
            found = true;
        at += range ? 3 : 1;
    }
    return STEP_MISS;
}

/* What is at *at of a pattern against the bytes from *from of a text; both move on. */
static enum step step_glob(const struct pattern *p, size_t *at, const char *text, size_t *from)
{
    size_t next = *at + 1;
    char c = p->text[*at];

    if (c == '[') {
        if (match_bracket(p, next, text[*from], &next) == STEP_MISS)
            return STEP_MISS;
    } else if (c == '\\') {
        if (next == p->size || p->text[next] != text[*from])
            return STEP_MISS;
        next++;
    } else if (c != '?' && c != text[*from]) {
        return STEP_MISS;
    }
    *at = next;
    (*from)++;
    return STEP_NEXT;
}

static enum step step_like(const struct pattern *p, size_t *at, const char *text, size_t size,
                           size_t *from)
{
    char c = p->text[*at];

    if (p->escapes && c == p->escape) {
        if (*at + 1 == p->size)
            return STEP_BROKEN;
        if (p->text[*at + 1] != text[*from])
            return STEP_MISS;
        (*at)++;
        (*from)++;
    } else if (c == '_') { /* a character, whatever its number of bytes */
        do
            (*from)++;
        while (*from < size && ((unsigned char)text[*from] & 0xC0) == 0x80);
    } else if (c == text[*from]) {
        (*from)++;
    } else {
        return STEP_MISS;
    }
    (*at)++;
    return STEP_NEXT;
}

static bool is_any(const struct pattern *p, size_t at)
{
    char any = p->glob ? '*' : '%';

    return at < p->size && p->text[at] == any && !(p->escapes && p->escape == any);
}

/* A byte that only itself matches. */
static bool is_plain(const struct pattern *p, char c)
{
    return p->glob ? strchr("*?[\\", c) == NULL
                   : c != '%' && c != '_' && !(p->escapes && c == p->escape);
}

/* STEP_NEXT: it matches. */
static enum step match(const struct pattern *p, const char *text, size_t size)
{
    size_t at = 0, from = 0;
    size_t again_at = SIZE_MAX, again_from = 0; /* behind the last % and what it has swallowed */

    while (from < size) {
        enum step step = STEP_MISS;

        if (is_any(p, at)) {
            while (is_any(p, at))
                at++;
            if (at == p->size)
                return STEP_NEXT;
            again_at = at;
            again_from = from;
        }
        if (at < p->size)
            step = p->glob ? step_glob(p, &at, text, &from) : step_like(p, &at, text, size, &from);
        if (step == STEP_BROKEN)
            return step;
        if (step == STEP_NEXT)
            continue;
        if (again_at == SIZE_MAX)
            return STEP_MISS;
        again_from++;
        if (is_plain(p, p->text[again_at])) {
            const char *found = memchr(text + again_from, p->text[again_at], size - again_from);

            if (found == NULL)
                return STEP_MISS;
            again_from = (size_t)(found - text);
        }
        at = again_at;
        from = again_from;
    }
    while (at < p->size && p->text[at] == (p->glob ? '*' : '%'))
        at++;
    return at == p->size ? STEP_NEXT : STEP_MISS;
}

/* ---- scalar functions ---- */

/* What one of the functions below is for. */
struct like_function {
    const char *name;
    unsigned arguments;
    bool glob, escapes;
};

static const struct like_function match_functions[] = {
    {"mr__like", 2, false, false},
    {"mr__like_escape", 3, false, true},
    {"mr__glob", 2, true, false},
};
/* Of the pattern alone. escapes: a constant without '_' is no exception. */
static const struct like_function fast_functions[] = {
    {"mr__fast_like", 1, false, false},
    {"mr__fast_anyhow", 1, false, true},
    {"mr__fast_glob", 1, true, true},
};

struct texts {
    const duckdb_string_t *data;
    const uint64_t *validity;
};

static struct texts texts_of(const struct mr_duck_api *api, duckdb_data_chunk chunk,
                             unsigned column)
{
    duckdb_vector vector = api->duckdb_data_chunk_get_vector(chunk, column);
    struct texts texts = {api->duckdb_vector_get_data(vector),
                          api->duckdb_vector_get_validity(vector)};

    return texts;
}

static bool text_at(const struct texts *texts, idx_t row, const char **ret_text, size_t *ret_size)
{
    const duckdb_string_t *text = &texts->data[row];
    uint32_t size;

    MR_ASSERT(texts->data != NULL);
    size = text->value.inlined.length;
    if (texts->validity != NULL && ((texts->validity[row >> 6] >> (row & 63)) & 1) == 0)
        return false;
    *ret_size = size;
    *ret_text = size <= sizeof(text->value.inlined.inlined) ? text->value.inlined.inlined
                                                            : text->value.pointer.ptr;
    return true;
}

/* The value of one row; false: NULL. *ret_error is left alone unless there is one. */
static bool match_row(const struct like_function *function, const struct texts *columns, idx_t row,
                      bool *ret_value, const char **ret_error)
{
    struct pattern pattern = {.glob = function->glob, .escapes = function->escapes};
    const char *text, *escape = NULL;
    size_t size, escape_size = 0;
    enum step step;

    if (!text_at(&columns[0], row, &text, &size) ||
        !text_at(&columns[1], row, &pattern.text, &pattern.size) ||
        (function->escapes && !text_at(&columns[2], row, &escape, &escape_size)))
        return false;
    if (escape_size > 1) {
        *ret_error = "Invalid escape string. Escape string must be empty or one character.";
        return false;
    }
    pattern.escape = escape_size == 1 ? escape[0] : '\0';
    step = match(&pattern, text, size);
    if (step == STEP_BROKEN)
        *ret_error = "Like pattern must not end with escape character!";
    *ret_value = step == STEP_NEXT;
    return true;
}

static void put_null(const struct mr_duck_api *api, duckdb_vector output, idx_t row)
{
    api->duckdb_vector_ensure_validity_writable(output);
    api->duckdb_vector_get_validity(output)[row >> 6] &= ~(UINT64_C(1) << (row & 63));
}

static void call_match(duckdb_function_info info, duckdb_data_chunk chunk, duckdb_vector output)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    const struct like_function *function = api->duckdb_scalar_function_get_extra_info(info);
    bool *values = api->duckdb_vector_get_data(output);
    struct texts columns[3] = {{NULL, NULL}};
    const char *error = NULL;
    idx_t rows = api->duckdb_data_chunk_get_size(chunk);

    for (unsigned i = 0; i < function->arguments; i++)
        columns[i] = texts_of(api, chunk, i);
    for (idx_t row = 0; row < rows && error == NULL; row++) {
        bool value = false;

        if (!match_row(function, columns, row, &value, &error))
            put_null(api, output, row);
        values[row] = value;
    }
    if (error != NULL)
        api->duckdb_scalar_function_set_error(info, error);
}

/* ---- which patterns are fast ---- */

/* Is the pattern the same for all rows? Told by which of the two the bind data points to. */
static const char constant_mark, variable_mark;

static void *same_mark(void *mark)
{
    return mark;
}

static void bind_fast(duckdb_bind_info info)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    duckdb_expression pattern = api->duckdb_scalar_function_bind_get_argument(info, 0);
    bool constant = api->duckdb_expression_is_foldable(pattern);

    api->duckdb_destroy_expression(&pattern);
    api->duckdb_scalar_function_set_bind_data(
        info, (void *)(uintptr_t)(constant ? &constant_mark : &variable_mark), NULL);
    api->duckdb_scalar_function_set_bind_data_copy(info, same_mark);
}

/* A % that something follows is a place to go back to. One is harmless, from two on DuckDB is slow;
 * but a constant without '_' it splits at its % first. */
static bool is_fast(const struct like_function *function, bool constant, const char *pattern,
                    size_t size)
{
    char any = function->glob ? '*' : '%';
    unsigned places = 0;

    for (size_t i = 0; i + 1 < size; i++)
        places += pattern[i] == any && pattern[i + 1] != any;
    return places < 2 || (!function->escapes && constant && memchr(pattern, '_', size) == NULL);
}

static void call_fast(duckdb_function_info info, duckdb_data_chunk chunk, duckdb_vector output)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    const struct like_function *function = api->duckdb_scalar_function_get_extra_info(info);
    bool constant = api->duckdb_scalar_function_get_bind_data(info) == &constant_mark;
    struct texts patterns = texts_of(api, chunk, 0);
    bool *values = api->duckdb_vector_get_data(output);
    idx_t rows = api->duckdb_data_chunk_get_size(chunk);

    for (idx_t row = 0; row < rows; row++) {
        const char *text;
        size_t size;

        values[row] =
            !text_at(&patterns, row, &text, &size) || is_fast(function, constant, text, size);
    }
}

/* ---- registering ---- */

static bool add_function(const struct mr_duck *duck, const struct like_function *function,
                         duckdb_scalar_function_t call, duckdb_scalar_function_bind_t bind)
{
    const struct mr_duck_api *api = duck->api;
    duckdb_scalar_function target = api->duckdb_create_scalar_function();
    duckdb_logical_type text = api->duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type truth = api->duckdb_create_logical_type(DUCKDB_TYPE_BOOLEAN);
    duckdb_state state;

    api->duckdb_scalar_function_set_name(target, function->name);
    for (unsigned i = 0; i < function->arguments; i++)
        api->duckdb_scalar_function_add_parameter(target, text);
    api->duckdb_scalar_function_set_return_type(target, truth);
    api->duckdb_scalar_function_set_special_handling(target);
    api->duckdb_scalar_function_set_extra_info(target, (void *)(uintptr_t)function, NULL);
    api->duckdb_scalar_function_set_function(target, call);
    if (bind != NULL)
        api->duckdb_scalar_function_set_bind(target, bind);
    state = api->duckdb_register_scalar_function(duck->connection, target);
    api->duckdb_destroy_logical_type(&text);
    api->duckdb_destroy_logical_type(&truth);
    api->duckdb_destroy_scalar_function(&target);
    return state == DuckDBSuccess;
}

/* Under a collation texts are other texts than their bytes say: those stay with DuckDB. */
#define COLLATED                                                                                   \
    "concat(left(s, 0), left(p, 0), 'A') = 'a' OR concat(left(s, 0), left(p, 0), 'a') = '\u00e1'"

#define MACRO(name, arguments, fast, ours)                                                         \
    "CREATE OR REPLACE TEMP MACRO \"" name "\"(" arguments ") AS CASE WHEN " fast                  \
    "(p) OR " COLLATED " THEN system.main.\"" name "\"(" arguments ") ELSE " ours " END;"

/* clang-format off */
static const char macros[] =
    MACRO("~~", "s, p", "mr__fast_like", "mr__like(s, p)")
    MACRO("!~~", "s, p", "mr__fast_like", "NOT mr__like(s, p)")
    MACRO("~~*", "s, p", "mr__fast_anyhow", "mr__like(lower(s), lower(p))")
    MACRO("!~~*", "s, p", "mr__fast_anyhow", "NOT mr__like(lower(s), lower(p))")
    MACRO("~~~", "s, p", "mr__fast_glob", "mr__glob(s, p)")
    MACRO("like_escape", "s, p, e", "mr__fast_anyhow", "mr__like_escape(s, p, e)")
    MACRO("not_like_escape", "s, p, e", "mr__fast_anyhow", "NOT mr__like_escape(s, p, e)")
    MACRO("ilike_escape", "s, p, e", "mr__fast_anyhow", "mr__like_escape(lower(s), lower(p), e)")
    MACRO("not_ilike_escape", "s, p, e", "mr__fast_anyhow",
          "NOT mr__like_escape(lower(s), lower(p), e)");
/* clang-format on */

static bool has_like(const char *sql)
{
    static const char *const words[] = {"like", "glob", "~~"};

    for (const char *at = sql; *at != '\0'; at++) {
        for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
            size_t k = 0;

            while (words[i][k] != '\0' && tolower((unsigned char)at[k]) == words[i][k])
                k++;
            if (words[i][k] == '\0')
                return true;
        }
    }
    return false;
}

enum mr_status mr_duck__bound_patterns(struct mr_duck *duck, const char *sql, struct mr_error *err)
{
    duckdb_result result;
    bool ok = true;

    if (duck->patterns_bound || !has_like(sql))
        return MR_OK;
    for (size_t i = 0; i < MR_ARRAY_SIZE(match_functions); i++)
        ok = ok && add_function(duck, &match_functions[i], call_match, NULL);
    for (size_t i = 0; i < MR_ARRAY_SIZE(fast_functions); i++)
        ok = ok && add_function(duck, &fast_functions[i], call_fast, bind_fast);
    memset(&result, 0, sizeof(result));
    if (ok) {
        ok = duck->api->duckdb_query(duck->connection, macros, &result) == DuckDBSuccess;
        duck->api->duckdb_destroy_result(&result);
    }
    if (!ok)
        return MR_FAIL(err, MR_INTERNAL, "cannot bound the patterns of LIKE in the SQL engine");
    duck->patterns_bound = true;
    return MR_OK;
}
