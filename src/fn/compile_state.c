/*
 * What functions of stateful operators mean: the types of state and result, and the statements of
 * expressions.
 *
 *     update_state_by_key   (key, "values", state) -> new state; NULL or nothing removes the key
 *       all keys at once    rows of a partition -> (key, state) rows
 *     map_with_state        (key, value, state) -> new state, and the mapped row
 *
 * Called by the building calls (update_calls.c, map_with_state.c of src/dstream) in the building
 * thread.
 */
#include "fn/compile.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- update_state_by_key ---- */

/* (key, values, state): what an update expression may name. */
static enum mr_status update_input(const struct mr_schema *pairs, const struct mr_type *state,
                                   struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr_field item = {"item", *mr__column_type(pairs, 1)};
    struct mr_type list = {.id = MR_TYPE_LIST, .field_count = 1, .fields = &item};
    struct mr__column_of columns[] = {
        {"key", mr__column_type(pairs, 0)}, {"values", &list}, {"state", state}};

    return mr__schema_of(columns, 3, ret_schema, err);
}

/*
 * The type of the state of an expression: what it gives when the state has that type. First guess:
 * the type of the values; what comes out is the second.
 */
static enum mr_status find_state_type(struct mr__engines *engines, const struct mr_fn *fn,
                                      const struct mr_schema *pairs, struct mr_schema **ret_state,
                                      struct mr_error *err)
{
    struct mr_type guess = mr__wide_type(mr__column_type(pairs, 1));
    struct mr_schema *held = NULL; /* keeps the fields of a nested guess */

    for (int round = 0; round < 3; round++) {
        struct mr_schema *input = NULL, *found = NULL;
        enum mr_status status = update_input(pairs, &guess, &input, err);
        char *sql = NULL;
        struct mr_type next;
        bool same;

        if (status == MR_OK) {
            sql = mr_asprintf("SELECT (\n%s\n) AS \"value\" FROM %s", fn->name,
                              mr__sql_table(fn->name, input));
            status = mr__sql_describe(engines, sql, input, &found, err);
        }
        mr_free(sql);
        mr_schema_unref(input);
        if (status != MR_OK) {
            mr_schema_unref(held);
            return status;
        }
        next = mr__wide_type(mr__column_type(found, 0));
        same = mr_type_equal(&next, &guess);
        mr_schema_unref(held);
        held = found;
        guess = next;
        if (same) {
            struct mr__column_of columns[] = {{"value", &guess}};
            status = mr__schema_of(columns, 1, ret_state, err);
            mr_schema_unref(held);
            return status;
        }
    }
    mr_schema_unref(held);
    return MR_FAIL(
        err, MR_CONFIG,
        "cannot find the type of the state; cast the expression to it: CAST(... AS TYPE)");
}

/* The state's type: declared, found, or the usual one. *ret_state has one column. */
static enum mr_status update_state(struct mr__engines *engines, const struct mr_fn *fn,
                                   const struct mr_schema *pairs, struct mr_schema **ret_state,
                                   struct mr_error *err)
{
    const struct mr_type *value = mr__column_type(pairs, 1);
    struct mr_type sum = mr__wide_type(value);
    struct mr__column_of columns[] = {{"value", value}};

    if (fn->type != NULL) {
        MR_TRY(mr_schema_parse(fn->type, strlen(fn->type), ret_state, err));
        if (mr_schema_field_count(*ret_state) == 1)
            return MR_OK;
        *ret_state = mr_schema_unref(*ret_state);
        return MR_FAIL(
            err, MR_CONFIG,
            "the state has one column; declare it as \"state TYPE\" (a STRUCT for several "
            "values)");
    }
    if (fn->kind == MR_FN_KIND_SQL)
        return find_state_type(engines, fn, pairs, ret_state, err);
    if (fn->kind == MR_FN_KIND_BUILTIN && fn->builtin == MR_BUILTIN_COUNT)
        columns[0].type = &mr__bigint;
    else if (fn->kind == MR_FN_KIND_BUILTIN && fn->builtin == MR_BUILTIN_SUM)
        columns[0].type = &sum;
    return mr__schema_of(columns, 1, ret_state, err);
}

/* (key, state): what the iterator form emits. */
static enum mr_status compile_update_all(struct mr__engines *engines, const struct mr_fn *fn,
                                         const struct mr_schema *input,
                                         const struct mr_schema *pairs,
                                         const struct mr_schema *state,
                                         struct mr__function **ret_function, struct mr_error *err)
{
    struct mr__column_of columns[] = {{"key", mr__column_type(pairs, 0)},
                                      {"value", mr__column_type(state, 0)}};
    struct mr_schema *output = NULL;
    enum mr_status status;

    MR_TRY(mr__schema_of(columns, 2, &output, err));
    status = mr__function_new(engines, fn, "update_state_by_key", input, output, NULL, ret_function,
                              err);
    mr_schema_unref(output);
    return status;
}

enum mr_status mr__compile_update(struct mr__engines *engines, const struct mr_fn *fn,
                                  const struct mr_schema *pairs, struct mr__function **ret_function,
                                  struct mr_error *err)
{
    struct mr_schema *state = NULL, *input = NULL;
    bool is_builtin = fn->kind == MR_FN_KIND_BUILTIN && fn->builtin != MR_BUILTIN_WORDS;
    enum mr_status status;

    if (fn->kind != MR_FN_KIND_SQL && fn->kind != MR_FN_KIND_UPDATE &&
        fn->kind != MR_FN_KIND_UPDATE_ALL && !is_builtin)
        return mr__refuse(fn,
                          "MR_SQL over \"values\" and state, MR_FN of an update function (of one "
                          "key or of all), MR_SUM, MR_MIN_OF, MR_MAX_OF or MR_COUNT",
                          err);
    MR_TRY_GOTO(update_state(engines, fn, pairs, &state, err));
    if (is_builtin && fn->builtin == MR_BUILTIN_SUM &&
        !mr__can_be_added(mr__column_type(state, 0))) {
        status =
            MR_FAIL(err, MR_CONFIG,
                    "cannot add values of this type; the value must be BIGINT, DOUBLE or DECIMAL");
        goto done;
    }
    MR_TRY_GOTO(update_input(pairs, mr__column_type(state, 0), &input, err));
    if (fn->kind == MR_FN_KIND_UPDATE_ALL)
        status = compile_update_all(engines, fn, input, pairs, state, ret_function, err);
    else
        status = mr__compile_value(engines, "update_state_by_key", fn, mr__column_type(state, 0),
                                   input, ret_function, err);
done:
    mr_schema_unref(state);
    mr_schema_unref(input);
    return status;
}

/* ---- map_with_state ---- */

static const char operation[] = "map_with_state";

/* One column: of what "state BIGINT" says. */
static enum mr_status state_column(const char *text, struct mr_schema **ret_schema,
                                   struct mr_error *err)
{
    struct mr_schema *parsed = NULL;
    enum mr_status status;

    if (text == NULL) {
        struct mr__column_of columns[] = {{"state", &mr__bigint}};
        return mr__schema_of(columns, 1, ret_schema, err);
    }
    MR_TRY(mr_schema_parse(text, strlen(text), &parsed, err));
    if (mr_schema_field_count(parsed) == 1) {
        struct mr__column_of columns[] = {{"state", mr__column_type(parsed, 0)}};
        status = mr__schema_of(columns, 1, ret_schema, err);
    } else {
        status = MR_FAIL(err, MR_CONFIG,
                         "the state has one column, '%s' has %u; declare it as \"state TYPE\" (a "
                         "STRUCT for several values)",
                         text, mr_schema_field_count(parsed));
    }
    mr_schema_unref(parsed);
    return status;
}

/* Columns of the mapped rows of an expression: what follows the state. */
static enum mr_status mapped_columns(const struct mr_fn *fn, const struct mr_schema *found,
                                     struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(found);
    struct mr_type types[2];

    if (fn->type != NULL) {
        MR_TRY(mr_schema_parse(fn->type, strlen(fn->type), ret_schema, err));
        if (mr_schema_field_count(*ret_schema) + 1 == count)
            return MR_OK;
        *ret_schema = mr_schema_unref(*ret_schema);
    }
    if (count < 2 || count > 3 || fn->type != NULL)
        return MR_FAIL(err, fn->type != NULL ? MR_CONFIG : MR_SQL_ERROR,
                       "map_with_state needs the new state, then %s, as in \"coalesce(state, 0) + "
                       "value, key\"; this has %u expressions",
                       fn->type != NULL ? "the declared columns of the mapped rows"
                                        : "one mapped value or a key and a value",
                       count);
    for (uint32_t i = 1; i < count; i++)
        types[i - 1] = mr__wide_type(mr__column_type(found, i));
    struct mr__column_of columns[] = {{count == 2 ? "value" : "key", &types[0]},
                                      {"value", &types[1]}};
    return mr__schema_of(columns, count - 1, ret_schema, err);
}

/* (state, mapped columns): what the statement gives. Names may repeat among mapped columns and the
 * state, so the state's is one that nothing else has. */
static enum mr_status state_shape(const struct mr_schema *state, const struct mr_schema *mapped,
                                  struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(mapped);
    struct mr__column_of *columns = mr_alloc(NULL, (count + 1u) * sizeof(*columns));
    enum mr_status status;

    if (columns == NULL)
        return no_memory(err);
    columns[0] = (struct mr__column_of){"new state of the key", mr__column_type(state, 0)};
    for (uint32_t i = 0; i < count; i++)
        columns[i + 1] =
            (struct mr__column_of){mr_schema_field(mapped, i)->name, mr__column_type(mapped, i)};
    status = mr__schema_of(columns, count + 1, ret_schema, err);
    mr_free(columns);
    return status;
}

/* The columns of the expressions under names of their own: two may be the same text. */
static enum mr_status describe_renamed(struct mr__engines *engines, const char *sql, uint32_t count,
                                       const struct mr_schema *input, struct mr_schema **ret_found,
                                       struct mr_error *err)
{
    struct mr_buf renamed = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_printf(&renamed, "SELECT * FROM (%s) AS t(", sql);
    for (uint32_t i = 0; i < count; i++)
        mr_buf_printf(&renamed, "%sc%u", i > 0 ? ", " : "", i);
    mr_buf_add_char(&renamed, ')');
    status = renamed.failed ? no_memory(err)
                            : mr__sql_describe(engines, renamed.data, input, ret_found, err);
    mr_buf_release(&renamed);
    if (status == MR_OK && mr_schema_field_count(*ret_found) != count) {
        *ret_found = mr_schema_unref(*ret_found);
        status = MR_SQL_ERROR; /* fewer names than columns are no mistake to SQL */
    }
    return status;
}

/* Two or three expressions; with any other number, or a mistake, the plain form says what is wrong.
 */
static enum mr_status describe_state(struct mr__engines *engines, const struct mr_fn *fn,
                                     const char *sql, const struct mr_schema *input,
                                     struct mr_schema **ret_found, struct mr_error *err)
{
    for (uint32_t count = 2; count <= 3 && fn->type == NULL; count++) {
        if (describe_renamed(engines, sql, count, input, ret_found, NULL) == MR_OK)
            return MR_OK;
    }
    return mr__sql_describe(engines, sql, input, ret_found, err);
}

static enum mr_status compile_state_sql(struct mr__engines *engines, const struct mr_fn *fn,
                                        const struct mr_schema *input,
                                        const struct mr_schema *state,
                                        struct mr__function **ret_function,
                                        struct mr_schema **ret_mapped, struct mr_error *err)
{
    struct mr_schema *found = NULL, *mapped = NULL, *shape = NULL;
    char *sql = mr_asprintf("SELECT\n%s\n FROM %s", fn->name, mr__sql_table(fn->name, input));
    enum mr_status status;

    if (sql == NULL)
        return no_memory(err);
    MR_TRY_GOTO(describe_state(engines, fn, sql, input, &found, err));
    MR_TRY_GOTO(mapped_columns(fn, found, &mapped, err));
    MR_TRY_GOTO(state_shape(state, mapped, &shape, err));
    mr_free(sql);
    sql = mr__cast_statement(shape, "SELECT", fn->name, "", mr__sql_table(fn->name, input));
    if (sql == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(mr__function_new(engines, fn, operation, input, shape, sql, ret_function, err));
    *ret_mapped = mapped;
    mapped = NULL;
done:
    mr_schema_unref(found);
    mr_schema_unref(mapped);
    mr_schema_unref(shape);
    mr_free(sql);
    return status;
}

static enum mr_status check_running(const struct mr_fn *fn, const struct mr_schema *pairs,
                                    const struct mr_schema *state, struct mr_error *err)
{
    const struct mr_type *type = mr__column_type(state, 0);
    struct mr_type wide = mr__wide_type(mr__column_type(pairs, 1));

    if (fn->builtin == MR_BUILTIN_COUNT && type->id == MR_TYPE_INT64)
        return MR_OK;
    if (fn->builtin == MR_BUILTIN_SUM &&
        (type->id == MR_TYPE_INT64 || type->id == MR_TYPE_DOUBLE) && mr_type_equal(type, &wide))
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG,
                   "cannot keep a running '%s' of these values in this state; the state of a count "
                   "is BIGINT, that of a sum the BIGINT or DOUBLE of its values",
                   fn->name);
}

enum mr_status mr__compile_state(struct mr__engines *engines, const struct mr_fn *fn,
                                 const char *state_columns, const struct mr_schema *pairs,
                                 struct mr__function **ret_function, struct mr_schema **ret_state,
                                 struct mr_schema **ret_mapped, struct mr_error *err)
{
    bool is_builtin = fn->kind == MR_FN_KIND_BUILTIN &&
                      (fn->builtin == MR_BUILTIN_SUM || fn->builtin == MR_BUILTIN_COUNT);
    struct mr_schema *state = NULL, *input = NULL, *mapped = NULL;
    enum mr_status status;

    if (fn->kind != MR_FN_KIND_SQL && fn->kind != MR_FN_KIND_STATE && !is_builtin)
        return mr__refuse(fn,
                          "MR_SQL(\"new state, mapped value\"), MR_FN of a state function, MR_SUM "
                          "or MR_COUNT",
                          err);
    MR_TRY_GOTO(state_column(state_columns, &state, err));
    struct mr__column_of rows[] = {{"key", mr__column_type(pairs, 0)},
                                   {"value", mr__column_type(pairs, 1)},
                                   {"state", mr__column_type(state, 0)}};
    struct mr__column_of running[] = {{"key", mr__column_type(pairs, 0)},
                                      {"value", mr__column_type(state, 0)}};
    MR_TRY_GOTO(mr__schema_of(rows, 3, &input, err));
    if (fn->kind == MR_FN_KIND_SQL) {
        MR_TRY_GOTO(compile_state_sql(engines, fn, input, state, ret_function, &mapped, err));
    } else {
        if (is_builtin)
            MR_TRY_GOTO(check_running(fn, pairs, state, err));
        if (is_builtin || fn->type != NULL)
            MR_TRY_GOTO(is_builtin ? mr__schema_of(running, 2, &mapped, err)
                                   : mr_schema_parse(fn->type, strlen(fn->type), &mapped, err));
        else
            mapped = mr_schema_ref(pairs);
        MR_TRY_GOTO(
            mr__function_new(engines, fn, operation, input, mapped, NULL, ret_function, err));
    }
    *ret_state = state;
    *ret_mapped = mapped;
    state = mapped = NULL;
done:
    mr_schema_unref(state);
    mr_schema_unref(input);
    mr_schema_unref(mapped);
    return status;
}
