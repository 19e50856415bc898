/*
 * map_values and flat_map_values: a function of the value; the key stays.
 *
 *     SQL         SELECT "key", expression (or unnest(expression)) FROM the pairs; it may name key
 *     C by row    sees a row of one column, the value; each result gets the row's key
 *     C by batch  map_values only, as many results as rows: which row a result of flat_map_values
 *                 belongs to could not be told
 *
 * Called by the building calls (compile) and by the operators of streams and datasets (apply).
 *
 * Thread: compiling in the building one; evaluating in any worker.
 */
#include "fn/compile.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- compiling ---- */

/* The declared result has one column, whatever its name. */
static enum mr_status declared_value(const struct mr_fn *fn, struct mr_schema **ret_schema,
                                     struct mr_error *err)
{
    MR_TRY(mr_schema_parse(fn->type, strlen(fn->type), ret_schema, err));
    if (mr_schema_field_count(*ret_schema) == 1)
        return MR_OK;
    *ret_schema = mr_schema_unref(*ret_schema);
    return MR_FAIL(
        err, MR_CONFIG,
        "the result is the new value, one column; declare it as \"value TYPE\" (a STRUCT "
        "for several)");
}

static enum mr_status pairs_with(const struct mr_schema *pairs, const struct mr_type *value,
                                 struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr__column_of columns[] = {{"key", mr__column_type(pairs, 0)}, {"value", value}};

    return mr__schema_of(columns, 2, ret_schema, err);
}

/* The type of the value that an expression gives: declared, or found; narrow integers count in
 * BIGINT as those of map_to_pair do. */
static enum mr_status value_of_expression(struct mr__engines *engines, bool is_flat,
                                          const struct mr_fn *fn, const struct mr_schema *pairs,
                                          struct mr_schema **ret_output, struct mr_error *err)
{
    struct mr_schema *found = NULL;
    const struct mr_type *type;
    char *sql;
    enum mr_status status;

    if (fn->type != NULL) {
        MR_TRY(declared_value(fn, &found, err));
    } else {
        sql = mr_asprintf("SELECT %s\n%s\n) FROM %s", is_flat ? "unnest(" : "(", fn->name,
                          mr__sql_table(fn->name, pairs));
        status = mr__sql_describe(engines, sql, pairs, &found, err);
        mr_free(sql);
        MR_TRY(status);
    }
    type = mr__column_type(found, 0);
    status = pairs_with(pairs, mr__is_narrow_integer(type) && fn->type == NULL ? &mr__bigint : type,
                        ret_output, err);
    mr_schema_unref(found);
    return status;
}

static enum mr_status compile_expression(struct mr__engines *engines, const char *operation,
                                         bool is_flat, const struct mr_fn *fn,
                                         const struct mr_schema *pairs,
                                         struct mr__function **ret_function, struct mr_error *err)
{
    struct mr_schema *output = NULL;
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    MR_TRY(value_of_expression(engines, is_flat, fn, pairs, &output, err));
    mr_buf_printf(&sql, "SELECT \"key\", CAST(c1 AS ");
    mr__add_type(&sql, mr__column_type(output, 1));
    mr_buf_printf(&sql, ") AS \"value\" FROM (SELECT \"key\", %s\n%s\n) FROM %s) AS t(\"key\", c1)",
                  is_flat ? "unnest(" : "(", fn->name, mr__sql_table(fn->name, pairs));
    if (sql.failed)
        status = no_memory(err);
    else
        status =
            mr__function_new(engines, fn, operation, pairs, output, sql.data, ret_function, err);
    mr_buf_release(&sql);
    mr_schema_unref(output);
    return status;
}

static enum mr_status compile_c(struct mr__engines *engines, const char *operation,
                                const struct mr_fn *fn, const struct mr_schema *pairs,
                                struct mr__function **ret_function, struct mr_error *err)
{
    struct mr__column_of columns[] = {{"value", mr__column_type(pairs, 1)}};
    struct mr_schema *input = NULL, *value = NULL, *output = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__schema_of(columns, 1, &input, err));
    if (fn->type != NULL)
        MR_TRY_GOTO(declared_value(fn, &value, err));
    else
        value = mr_schema_ref(input);
    MR_TRY_GOTO(pairs_with(pairs, mr__column_type(value, 0), &output, err));
    MR_TRY_GOTO(mr__function_new(engines, fn, operation, input, output, NULL, ret_function, err));
    (*ret_function)->value = mr_schema_ref(value);
done:
    mr_schema_unref(input);
    mr_schema_unref(value);
    mr_schema_unref(output);
    return status;
}

enum mr_status mr__compile_values(struct mr__engines *engines, const char *operation, bool is_flat,
                                  const struct mr_fn *fn, const struct mr_schema *pairs,
                                  struct mr__function **ret_function, struct mr_error *err)
{
    if (fn->kind == MR_FN_KIND_SQL)
        return compile_expression(engines, operation, is_flat, fn, pairs, ret_function, err);
    if (fn->kind != MR_FN_KIND_ROW && (fn->kind != MR_FN_KIND_BATCH || is_flat))
        return mr__refuse(fn,
                          is_flat ? "MR_SQL with a list, or MR_FN of a row function"
                                  : "MR_SQL or MR_FN of a row or batch function",
                          err);
    return compile_c(engines, operation, fn, pairs, ret_function, err);
}

/* ---- evaluating ---- */

/* Calls the function for each value; rows[i]: which row the i-th result belongs to. */
static enum mr_status call_rows(const struct mr__function *function, bool is_flat,
                                const struct mr_batch *values, struct mr_emitter *out,
                                struct mr_buf *rows, struct mr_error *err)
{
    mr_row_fn call = (mr_row_fn)function->fn.call;
    int64_t count = mr_batch_row_count(values), known = 0;

    for (struct mr_row row = {values, 0}; row.index < count; row.index++) {
        call(&row, out, function->fn.arg);
        MR_TRY(mr__emitter_check(out, err));
        if (!is_flat && mr__emitter_rows(out) != row.index + 1)
            return mr__emitter_count_is_wrong(
                out, function->fn.name,
                "exactly one value per element; flat_map_values takes any number", err);
        for (; is_flat && known < mr__emitter_rows(out); known++) {
            uint32_t index = (uint32_t)row.index;
            mr_buf_add(rows, &index, sizeof(index));
        }
    }
    return rows->failed ? no_memory(err) : MR_OK;
}

/* New values of a batch; rows as in call_rows. */
static enum mr_status new_values(const struct mr__function *function, bool is_flat,
                                 const struct mr_batch *values, struct mr_buf *rows,
                                 struct mr_batch **ret_values, struct mr_error *err)
{
    struct mr_emitter emitter;
    enum mr_status status;

    MR_TRY(mr__emitter_init(&emitter, function->value, err));
    mr__inside_user_code++;
    if (function->fn.kind == MR_FN_KIND_BATCH)
        status = ((mr_batch_fn)function->fn.call)(values, emitter.builder, function->fn.arg, err);
    else
        status = call_rows(function, is_flat, values, &emitter, rows, err);
    mr__inside_user_code--;
    if (status == MR_OK)
        status = mr__emitter_finish(&emitter, ret_values, err);
    mr__emitter_release(&emitter);
    if (status == MR_OK && !is_flat &&
        mr_batch_row_count(*ret_values) != mr_batch_row_count(values)) {
        *ret_values = mr_batch_unref(*ret_values);
        return MR_FAIL(err, MR_USER, "'%s' must append exactly one value per element",
                       function->fn.name);
    }
    return status;
}

static enum mr_status apply_c(const struct mr__function *function, bool is_flat,
                              const struct mr_batch *batch, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    const uint32_t value_column = 1;
    struct mr_batch *values = NULL, *results = NULL, *taken = NULL;
    struct mr_buf rows = MR_BUF_INIT;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_select(batch, function->input, &value_column, &values, err));
    MR_TRY_GOTO(new_values(function, is_flat, values, &rows, &results, err));
    if (is_flat)
        MR_TRY_GOTO(mr_batch_take(batch, (const uint32_t *)(const void *)rows.data,
                                  mr_batch_row_count(results), &taken, err));
    status =
        mr__side_by_side(function->output, is_flat ? taken : batch, 0, results, 0, ret_batch, err);
done:
    mr_batch_unref(values);
    mr_batch_unref(results);
    mr_batch_unref(taken);
    mr_buf_release(&rows);
    return status;
}

enum mr_status mr__apply_values(struct mr__function *function, bool is_flat, struct mr__when when,
                                const struct mr_batch *batch, struct mr__batches *ret_results,
                                struct mr_error *err)
{
    struct mr_batch *input = (struct mr_batch *)(uintptr_t)batch;
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (function->fn.kind == MR_FN_KIND_SQL) {
        status = mr__function_run_sql(function, when, &input, 1, ret_results, err);
    } else {
        status = apply_c(function, is_flat, batch, &result, err);
        if (status == MR_OK)
            status = mr__batches_add(ret_results, result, err);
        mr_batch_unref(result);
    }
    return mr__function_blame(function, status, err);
}
