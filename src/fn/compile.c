/*
 * What a function means to each operator: which kinds it takes, the columns of its result, the
 * statement of an expression. fn.c draws the statements. Called by the building calls (stream.c,
 * stateful.c) in the building thread.
 */
#include "fn/compile.h"
#include "data/codec.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

static const char *kind_name(const struct mr_fn *fn)
{
    static const char *const names[] = {
        [MR_FN_KIND_SQL] = "an SQL expression",
        [MR_FN_KIND_BUILTIN] = "a built-in",
        [MR_FN_KIND_ROW] = "a function of one row",
        [MR_FN_KIND_BATCH] = "a function of a batch",
        [MR_FN_KIND_TEST] = "a test of a row",
        [MR_FN_KIND_REDUCE] = "a reduce function",
        [MR_FN_KIND_UPDATE] = "an update function",
        [MR_FN_KIND_PARTITION] = "a function of a partition",
        [MR_FN_KIND_UPDATE_ALL] = "an update function of all keys",
        [MR_FN_KIND_STATE] = "a state function",
        [MR_FN_KIND_TRANSFORM] = "a transform function",
        [MR_FN_KIND_NONE] = "no function",
    };
    return names[fn->kind];
}

/* The refusal names what was given and what the operator takes. */
enum mr_status mr__refuse(const struct mr_fn *fn, const char *takes, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG, "cannot use %s%s%s%s; use %s", kind_name(fn),
                   fn->name != NULL ? " '" : "", fn->name != NULL ? fn->name : "",
                   fn->name != NULL ? "'" : "", takes);
}

void mr__add_name(struct mr_buf *out, const char *name)
{
    mr_buf_add_char(out, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            mr_buf_add_char(out, '"');
        mr_buf_add_char(out, *name);
    }
    mr_buf_add_char(out, '"');
}

void mr__add_type(struct mr_buf *out, const struct mr_type *type)
{
    size_t need = mr__type_print_sql(type, NULL, 0);

    if (!mr_buf_reserve(out, need + 1))
        return;
    mr__type_print_sql(type, out->data + out->size, need + 1);
    out->size += need;
}

bool mr__is_narrow_integer(const struct mr_type *type)
{
    return type->id >= MR_TYPE_INT8 && type->id <= MR_TYPE_UINT32 && type->id != MR_TYPE_INT64;
}

/* The columns a C function's result has: declared, or the operator's usual ones. */
enum mr_status mr__declared_or(const struct mr_fn *fn, const struct mr_schema *usual,
                               struct mr_schema **ret_schema, struct mr_error *err)
{
    if (fn->type != NULL)
        return mr_schema_parse(fn->type, strlen(fn->type), ret_schema, err);
    *ret_schema = mr_schema_ref(usual);
    return MR_OK;
}

static enum mr_status check_pairs(const struct mr_schema *schema, struct mr_error *err)
{
    if (mr__is_pairs(schema))
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG,
                   "the result of a pair function has the columns key and value; declare it as "
                   "\"key TYPE, value TYPE\"");
}

/* (type of `value`, BIGINT): the usual result of map_to_pair. */
static enum mr_status usual_pairs(const struct mr_schema *input, struct mr_schema **ret_schema,
                                  struct mr_error *err)
{
    int32_t value = mr_schema_find(input, "value", 5);

    if (value < 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "the input has no column 'value' to make the key of; declare the result with "
            "MR_FN_AS(function, \"key TYPE, value TYPE\")");
    struct mr__column_of columns[] = {{"key", mr__column_type(input, (uint32_t)value)},
                                      {"value", &mr__bigint}};
    return mr__schema_of(columns, 2, ret_schema, err);
}

/* Result columns of an expression: names and types to cast to, or what DuckDB found. */
static enum mr_status shape_of(const struct mr_fn *fn, bool pairs, const struct mr_schema *found,
                               struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(found);

    if (pairs && count != 2)
        return MR_FAIL(
            err, MR_SQL_ERROR,
            "a pair needs two expressions with a comma between, as in \"value, 1\"; this "
            "has %u",
            count);
    if (fn->type != NULL) {
        MR_TRY(mr_schema_parse(fn->type, strlen(fn->type), ret_schema, err));
        if (mr_schema_field_count(*ret_schema) == count)
            return MR_OK;
        *ret_schema = mr_schema_unref(*ret_schema);
        return MR_FAIL(err, MR_CONFIG,
                       "the declared result '%s' does not have the %u columns of the expression",
                       fn->type, count);
    }
    if (count == 1) {
        struct mr__column_of columns[] = {{"value", mr__column_type(found, 0)}};
        return mr__schema_of(columns, 1, ret_schema, err);
    }
    if (pairs) {
        /* A literal 1 is an INTEGER to SQL; sums of them must not end at 2^31. */
        const struct mr_type *value = mr__column_type(found, 1);
        struct mr__column_of columns[] = {
            {"key", mr__column_type(found, 0)},
            {"value", mr__is_narrow_integer(value) ? &mr__bigint : value}};
        return mr__schema_of(columns, 2, ret_schema, err);
    }
    *ret_schema = mr_schema_ref(found);
    return MR_OK;
}

char *mr__cast_statement(const struct mr_schema *shape, const char *head, const char *expression,
                         const char *tail, const char *table)
{
    struct mr_buf sql = MR_BUF_INIT;
    uint32_t count = mr_schema_field_count(shape);

    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(&sql, "%sCAST(c%u AS ", i > 0 ? ", " : "", i);
        mr__add_type(&sql, mr__column_type(shape, i));
        mr_buf_add_str(&sql, ") AS ");
        mr__add_name(&sql, mr_schema_field(shape, i)->name);
    }
    mr_buf_printf(&sql, " FROM (%s\n%s\n%s FROM %s) AS t(", head, expression, tail, table);
    for (uint32_t i = 0; i < count; i++)
        mr_buf_printf(&sql, "%sc%u", i > 0 ? ", " : "", i);
    mr_buf_add_char(&sql, ')');
    return mr_buf_take(&sql);
}

/* The columns of an expression before they are shaped. Those of a pair may have the same name
 * ("value, value"). */
static enum mr_status describe_expression(struct mr__engines *engines, const char *select,
                                          bool pairs, const struct mr_schema *input,
                                          struct mr_schema **ret_schema, struct mr_error *err)
{
    char *renamed;
    enum mr_status status;

    if (!pairs || select == NULL)
        return mr__sql_describe(engines, select, input, ret_schema, err);
    renamed = mr_asprintf("SELECT * FROM (%s) AS t(key, value)", select);
    status = mr__sql_describe(engines, renamed, input, ret_schema, NULL);
    mr_free(renamed);
    /* With fewer than two expressions, or a mistake: the plain form says what is wrong. */
    return status == MR_OK ? MR_OK : mr__sql_describe(engines, select, input, ret_schema, err);
}

/* SQL's sum of integers is wider than any integer of ours: it counts as BIGINT, as in C. */
static enum mr_status sums_to_bigint(struct mr_schema **schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(*schema);
    struct mr_field *fields = mr_alloc(NULL, ((size_t)count + 1) * sizeof(*fields));
    struct mr_schema *changed = NULL;
    enum mr_status status;

    if (fields == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = *mr_schema_field(*schema, i);
        if (fields[i].type.id == MR_TYPE_DECIMAL)
            fields[i].type = mr__wide_type(&fields[i].type);
    }
    status = mr_schema_new(fields, count, &changed, err);
    mr_free(fields);
    MR_TRY(status);
    mr_schema_unref(*schema);
    *schema = changed;
    return MR_OK;
}

/* map, map_to_pair, flat_map, map_partitions of an expression: the same but for what stands around
 * it. */
static enum mr_status compile_projection(struct mr__engines *engines, const char *operation,
                                         const struct mr_fn *fn, bool pairs, const char *head,
                                         const char *tail, const struct mr_schema *input,
                                         struct mr__function **ret_function, struct mr_error *err)
{
    const char *table = mr__sql_table(fn->name, input);
    char *sql = mr_asprintf("%s\n%s\n%s FROM %s", head, fn->name, tail, table);
    struct mr_schema *found = NULL, *shape = NULL;
    enum mr_status status;

    MR_TRY_GOTO(describe_expression(engines, sql, pairs, input, &found, err));
    if (strcmp(operation, "map_partitions") == 0)
        MR_TRY_GOTO(sums_to_bigint(&found, err));
    MR_TRY_GOTO(shape_of(fn, pairs, found, &shape, err));
    mr_free(sql);
    sql = mr__cast_statement(shape, head, fn->name, tail, table);
    if (sql == NULL) {
        status = no_memory(err);
        goto done;
    }
    status = mr__function_new(engines, fn, operation, input, shape, sql, ret_function, err);
done:
    mr_schema_unref(found);
    mr_schema_unref(shape);
    mr_free(sql);
    return status;
}

enum mr_status mr__compile_map(struct mr__engines *engines, const char *operation,
                               const struct mr_fn *fn, const struct mr_schema *input,
                               struct mr__function **ret_function, struct mr_error *err)
{
    bool pairs = strcmp(operation, "map_to_pair") == 0;
    bool counts = pairs && fn->kind == MR_FN_KIND_BUILTIN && fn->builtin == MR_BUILTIN_COUNT;
    struct mr_schema *output = NULL;
    struct mr_schema *usual = NULL;
    enum mr_status status;

    if (fn->kind == MR_FN_KIND_SQL)
        return compile_projection(engines, operation, fn, pairs, "SELECT", "", input, ret_function,
                                  err);
    if (fn->kind != MR_FN_KIND_ROW && fn->kind != MR_FN_KIND_BATCH && !counts)
        return mr__refuse(
            fn,
            pairs ? "MR_SQL, MR_FN of a row or batch function, or MR_COUNT (each element with 1)"
                  : "MR_SQL or MR_FN of a row or batch function",
            err);
    if (pairs && fn->type == NULL)
        MR_TRY_GOTO(usual_pairs(input, &usual, err));
    MR_TRY_GOTO(mr__declared_or(fn, pairs ? usual : input, &output, err));
    if (pairs)
        MR_TRY_GOTO(check_pairs(output, err));
    status = mr__function_new(engines, fn, operation, input, output, NULL, ret_function, err);
done:
    mr_schema_unref(usual);
    mr_schema_unref(output);
    return status;
}

enum mr_status mr__compile_flat_map(struct mr__engines *engines, const char *operation,
                                    const struct mr_fn *fn, const struct mr_schema *input,
                                    struct mr__function **ret_function, struct mr_error *err)
{
    bool words = fn->kind == MR_FN_KIND_BUILTIN && fn->builtin == MR_BUILTIN_WORDS;
    struct mr_schema *output = NULL;
    enum mr_status status;

    if (fn->kind == MR_FN_KIND_SQL)
        return compile_projection(engines, operation, fn, false, "SELECT unnest(", ")", input,
                                  ret_function, err);
    if (fn->kind != MR_FN_KIND_ROW && fn->kind != MR_FN_KIND_BATCH && !words)
        return mr__refuse(fn, "MR_SQL with a list, MR_FN of a row or batch function, or MR_WORDS",
                          err);
    if (words &&
        (mr_schema_field_count(input) != 1 || mr__column_type(input, 0)->id != MR_TYPE_TEXT))
        return MR_FAIL(err, MR_CONFIG,
                       "MR_WORDS takes a stream of texts; map it to its text first");
    MR_TRY_GOTO(mr__declared_or(fn, input, &output, err));
    status = mr__function_new(engines, fn, operation, input, output, NULL, ret_function, err);
done:
    mr_schema_unref(output);
    return status;
}

enum mr_status mr__compile_map_partitions(struct mr__engines *engines, const char *operation,
                                          const struct mr_fn *fn, const struct mr_schema *input,
                                          struct mr__function **ret_function, struct mr_error *err)
{
    struct mr_schema *output = NULL;
    enum mr_status status;

    if (fn->kind == MR_FN_KIND_SQL)
        return compile_projection(engines, operation, fn, false, "SELECT", "", input, ret_function,
                                  err);
    if (fn->kind != MR_FN_KIND_PARTITION && fn->kind != MR_FN_KIND_BATCH)
        return mr__refuse(fn,
                          "MR_SQL with aggregates, or MR_FN of a partition function (void f(struct "
                          "mr_rows *, struct mr_emitter *, void *)) or of a batch function",
                          err);
    MR_TRY(mr__declared_or(fn, input, &output, err));
    status = mr__function_new(engines, fn, operation, input, output, NULL, ret_function, err);
    mr_schema_unref(output);
    return status;
}

enum mr_status mr__compile_filter(struct mr__engines *engines, const char *operation,
                                  const struct mr_fn *fn, const struct mr_schema *input,
                                  struct mr__function **ret_function, struct mr_error *err)
{
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    if (fn->kind == MR_FN_KIND_TEST)
        return mr__function_new(engines, fn, operation, input, input, NULL, ret_function, err);
    if (fn->kind != MR_FN_KIND_SQL)
        return mr__refuse(
            fn, "MR_SQL or MR_FN of a test function (bool f(const struct mr_row *, void *))", err);
    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(input); i++) {
        mr_buf_add_str(&sql, i > 0 ? ", " : "");
        mr__add_name(&sql, mr_schema_field(input, i)->name);
    }
    mr_buf_printf(&sql, " FROM %s WHERE (\n%s\n)", mr__sql_table(fn->name, input), fn->name);
    if (sql.failed)
        status = no_memory(err);
    else
        status =
            mr__function_new(engines, fn, operation, input, input, sql.data, ret_function, err);
    mr_buf_release(&sql);
    return status;
}

/* SELECT CAST((expression) AS T) AS "value" */
static char *value_statement(const struct mr_fn *fn, const struct mr_type *type,
                             const struct mr_schema *input)
{
    struct mr_buf sql = MR_BUF_INIT;

    mr_buf_printf(&sql, "SELECT CAST((\n%s\n) AS ", fn->name);
    mr__add_type(&sql, type);
    mr_buf_printf(&sql, ") AS \"value\" FROM %s", mr__sql_table(fn->name, input));
    return mr_buf_take(&sql);
}

enum mr_status mr__compile_value(struct mr__engines *engines, const char *operation,
                                 const struct mr_fn *fn, const struct mr_type *type,
                                 const struct mr_schema *input, struct mr__function **ret_function,
                                 struct mr_error *err)
{
    struct mr__column_of columns[] = {{"value", type}};
    struct mr_schema *output = NULL;
    char *sql = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__schema_of(columns, 1, &output, err));
    if (fn->kind == MR_FN_KIND_SQL) {
        sql = value_statement(fn, type, input);
        if (sql == NULL) {
            status = no_memory(err);
            goto done;
        }
    }
    status = mr__function_new(engines, fn, operation, input, output, sql, ret_function, err);
done:
    mr_schema_unref(output);
    mr_free(sql);
    return status;
}

bool mr__can_be_added(const struct mr_type *type)
{
    return type->id == MR_TYPE_INT64 || type->id == MR_TYPE_DOUBLE || type->id == MR_TYPE_DECIMAL;
}

enum mr_status mr__compile_reduce_of(struct mr__engines *engines, const char *operation,
                                     const struct mr_fn *fn, const struct mr_type *type,
                                     struct mr__function **ret_function, struct mr_error *err)
{
    struct mr__column_of columns[] = {{"a", type}, {"b", type}};
    struct mr_schema *input = NULL;
    enum mr_status status;

    if (fn->kind == MR_FN_KIND_BUILTIN && fn->builtin != MR_BUILTIN_WORDS) {
        bool adds = fn->builtin == MR_BUILTIN_SUM || fn->builtin == MR_BUILTIN_COUNT;
        if (adds && !mr__can_be_added(type))
            return MR_FAIL(
                err, MR_CONFIG,
                "cannot add values of this type; the value must be BIGINT, DOUBLE or DECIMAL");
    } else if (fn->kind != MR_FN_KIND_SQL && fn->kind != MR_FN_KIND_REDUCE) {
        return mr__refuse(fn,
                          "MR_SQL over a and b, MR_FN of a reduce function, MR_SUM, MR_MIN_OF, "
                          "MR_MAX_OF or MR_COUNT",
                          err);
    }
    MR_TRY(mr__schema_of(columns, 2, &input, err));
    status = mr__compile_value(engines, operation, fn, type, input, ret_function, err);
    mr_schema_unref(input);
    return status;
}

enum mr_status mr__compile_reduce(struct mr__engines *engines, const char *operation,
                                  const struct mr_fn *fn, const struct mr_schema *pairs,
                                  struct mr__function **ret_function, struct mr_error *err)
{
    return mr__compile_reduce_of(engines, operation, fn, mr__column_type(pairs, 1), ret_function,
                                 err);
}

/* Integers count in BIGINT (SQL's sum of them is wider), floats in DOUBLE; other results stay what
 * they are. */
struct mr_type mr__wide_type(const struct mr_type *found)
{
    bool is_hugeint = found->id == MR_TYPE_DECIMAL && found->precision == 38 && found->scale == 0;

    if (mr__is_narrow_integer(found) || is_hugeint)
        return mr__bigint;
    return found->id == MR_TYPE_FLOAT ? mr__double : *found;
}
