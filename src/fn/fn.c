/*
 * Functions of a program (struct mr_fn) made ready for operators, and evaluated.
 *
 * Every operator takes SQL, C functions or built-ins; what a kind means to an operator is decided
 * here, when the operator is built: so a mistake has the file and line of the call. An SQL
 * expression becomes one statement over a table "input", the expression on lines of its own from
 * line 2 on, so that DuckDB's positions are the user's:
 *
 *     map          SELECT CAST(c0 AS T) AS "value" FROM (SELECT ¶ expression ¶ FROM "input") AS
 *                  t(c0)
 *     flat_map     the same with SELECT unnest( ¶ expression ¶ )
 *     filter       SELECT "value" FROM "input" WHERE ( ¶ expression ¶ )
 *     reduce       SELECT CAST(( ¶ expression ¶ ) AS T) AS "value" FROM "input" columns a and b
 *     update       the same, columns key, values (a list) and state
 *
 * Thread: compiling in the building thread with the engine of worker 0; evaluating in any worker,
 * each with an engine and a statement of its own, both made when first needed.
 */
#include "fn/fn.h"

#include "base/text.h"
#include "data/codec.h"

#include <stdio.h>
#include <string.h>

_Thread_local unsigned mr__inside_user_code;

const struct mr_type mr__bigint = {.id = MR_TYPE_INT64};
const struct mr_type mr__double = {.id = MR_TYPE_DOUBLE};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- lists and schemas ---- */

enum mr_status mr__batches_add(struct mr__batches *list, const struct mr_batch *batch,
                               struct mr_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        struct mr_batch **grown = mr_realloc(NULL, list->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(err);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = mr_batch_ref(batch);
    return MR_OK;
}

void mr__batches_release(struct mr__batches *list)
{
    for (size_t i = 0; i < list->count; i++)
        mr_batch_unref(list->items[i]);
    mr_free(list->items);
    *list = (struct mr__batches){0};
}

enum mr_status mr__schema_of(const struct mr__column_of *columns, uint32_t count,
                             struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr_field fields[3];

    MR_ASSERT(count <= MR_ARRAY_SIZE(fields));
    for (uint32_t i = 0; i < count; i++)
        fields[i] = (struct mr_field){columns[i].name, *columns[i].type};
    return mr_schema_new(fields, count, ret_schema, err);
}

const struct mr_type *mr__column_type(const struct mr_schema *schema, uint32_t column)
{
    return &mr_schema_field(schema, column)->type;
}

bool mr__is_pairs(const struct mr_schema *schema)
{
    return mr_schema_field_count(schema) == 2 &&
           strcmp(mr_schema_field(schema, 0)->name, "key") == 0 &&
           strcmp(mr_schema_field(schema, 1)->name, "value") == 0;
}

/* ---- engines and statements ---- */

void mr__engines_release(struct mr__engines *engines)
{
    for (unsigned i = 0; i < MR_FN_WORKERS_MAX; i++) {
        mr_duck_close(engines->ducks[i]);
        engines->ducks[i] = NULL;
    }
}

static enum mr_status engine_of(struct mr__engines *engines, unsigned worker,
                                struct mr_duck **ret_duck, struct mr_error *err)
{
    MR_ASSERT(worker < MR_FN_WORKERS_MAX);
    if (engines->ducks[worker] == NULL)
        MR_TRY(mr_duck_open(&engines->ducks[worker], err));
    *ret_duck = engines->ducks[worker];
    return MR_OK;
}

static enum mr_status prepare(struct mr__engines *engines, unsigned worker, const char *sql,
                              const struct mr_schema *input, struct mr_duck_stmt **ret_stmt,
                              struct mr_error *err)
{
    struct mr_duck_input table = {"input", input};
    struct mr_duck *duck;

    MR_TRY(engine_of(engines, worker, &duck, err));
    return mr_duck_prepare(duck, sql, &table, 1, ret_stmt, err);
}

enum mr_status mr__sql_describe(struct mr__engines *engines, const char *sql,
                                const struct mr_schema *input, struct mr_schema **ret_schema,
                                struct mr_error *err)
{
    struct mr_duck_stmt *stmt;

    if (sql == NULL)
        return no_memory(err);
    MR_TRY(prepare(engines, 0, sql, input, &stmt, err));
    *ret_schema = mr_schema_ref(mr_duck_stmt_schema(stmt));
    mr_duck_stmt_free(stmt);
    return MR_OK;
}

const char *mr__sql_table(const char *expression, const struct mr_schema *input)
{
    static const char word[] = "batch_time";
    size_t size = strlen(expression);

    if (mr_schema_find(input, word, sizeof(word) - 1) >= 0)
        return "\"input\"";
    for (size_t i = 0; i + sizeof(word) - 1 <= size; i++) {
        if (mr_text_equal_nocase(expression + i, sizeof(word) - 1, word, sizeof(word) - 1))
            return "(SELECT *, now() AS batch_time FROM \"input\")";
    }
    return "\"input\"";
}

void mr__function_free(struct mr__function *function)
{
    if (function == NULL)
        return;
    for (unsigned i = 0; i < MR_FN_WORKERS_MAX; i++)
        mr_duck_stmt_free(function->stmts[i]);
    mr_schema_unref(function->input);
    mr_schema_unref(function->output);
    mr_schema_unref(function->value);
    mr_free((void *)(uintptr_t)function->fn.name);
    mr_free((void *)(uintptr_t)function->fn.type);
    mr_free(function->place);
    mr_free(function->sql);
    mr_free(function);
}

/* The place in a message: the file's own name is enough. */
static char *place_of(const struct mr_fn *fn, const char *operation)
{
    const char *slash = fn->file != NULL ? strrchr(fn->file, '/') : NULL;

    if (fn->file == NULL)
        return mr_strdup(operation);
    return mr_asprintf("%s:%d: %s", slash != NULL ? slash + 1 : fn->file, fn->line, operation);
}

/* Does the statement give what the function promises, but for the names of codecs? */
static enum mr_status compare_results(struct mr__function *function, struct mr_error *err)
{
    const struct mr_schema *found = mr_duck_stmt_schema(function->stmts[0]);
    uint32_t count = mr_schema_field_count(found);
    bool alike = count == mr_schema_field_count(function->output);

    function->renames = !mr_schema_equal(function->output, found);
    if (!function->renames)
        return MR_OK;
    for (uint32_t i = 0; i < count && alike; i++)
        alike =
            mr__type_stored_alike(mr__column_type(function->output, i), mr__column_type(found, i));
    if (!alike)
        return MR_FAIL(err, MR_INTERNAL, "the statement gives other columns than it was made for");
    if (count > MR_FN_RENAMED_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "an expression over columns with codecs gives at most %d columns",
                       MR_FN_RENAMED_MAX);
    return MR_OK;
}

enum mr_status mr__function_new(struct mr__engines *engines, const struct mr_fn *fn,
                                const char *operation, const struct mr_schema *input,
                                const struct mr_schema *output, const char *sql,
                                struct mr__function **ret_function, struct mr_error *err)
{
    struct mr__function *function = mr_alloc_zero(NULL, sizeof(*function));
    enum mr_status status = MR_OK;

    if (function == NULL)
        return no_memory(err);
    function->engines = engines;
    function->fn = *fn;
    function->fn.name = fn->name != NULL ? mr_strdup(fn->name) : NULL;
    function->fn.type = fn->type != NULL ? mr_strdup(fn->type) : NULL;
    function->place = place_of(fn, operation);
    function->input = mr_schema_ref(input);
    function->output = output != NULL ? mr_schema_ref(output) : NULL;
    function->sql = sql != NULL ? mr_strdup(sql) : NULL;
    if (function->place == NULL || (sql != NULL && function->sql == NULL) ||
        (fn->name != NULL && function->fn.name == NULL) ||
        (fn->type != NULL && function->fn.type == NULL))
        status = no_memory(err);
    if (status == MR_OK && sql != NULL) {
        status = prepare(engines, 0, sql, input, &function->stmts[0], err);
        if (status == MR_OK && output == NULL)
            function->output = mr_schema_ref(mr_duck_stmt_schema(function->stmts[0]));
        else if (status == MR_OK)
            status = compare_results(function, err);
    }
    if (status != MR_OK) {
        mr__function_free(function);
        return status;
    }
    *ret_function = function;
    return MR_OK;
}

/* An SQL position becomes part of the text: the expression starts on line 2 of its statement. */
void mr__tell_position(struct mr_error *err)
{
    size_t used;

    if (err == NULL || err->sql_line < 2)
        return;
    used = strlen(err->text);
    if (err->sql_line > 2)
        snprintf(err->text + used, sizeof(err->text) - used,
                 " (line %u, column %u of the expression)", err->sql_line - 1, err->sql_column);
    else
        snprintf(err->text + used, sizeof(err->text) - used, " (column %u of the expression)",
                 err->sql_column);
    err->sql_line = 0;
    err->sql_column = 0;
}

enum mr_status mr__function_set_name(struct mr__function *function, const char *name,
                                     struct mr_error *err)
{
    char *place = mr_asprintf("%s '%s'", function->place, name);

    if (place == NULL)
        return no_memory(err);
    mr_free(function->place);
    function->place = place;
    return MR_OK;
}

enum mr_status mr__function_blame(const struct mr__function *function, enum mr_status status,
                                  struct mr_error *err)
{
    if (status != MR_OK && err != NULL) {
        mr__tell_position(err);
        mr_error_prefix(err, "%s", function->place);
    }
    return status;
}

struct keeping {
    const struct mr__function *function;
    struct mr__batches *results;
};

/* Results are columns of what SQL knows; a codec's name comes back here. */
static enum mr_status keep_result(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    const struct keeping *keeping = arg;
    struct mr_batch *renamed = NULL;
    uint32_t indexes[MR_FN_RENAMED_MAX];
    enum mr_status status;

    if (!keeping->function->renames)
        return mr__batches_add(keeping->results, batch, err);
    for (uint32_t i = 0; i < MR_FN_RENAMED_MAX; i++)
        indexes[i] = i;
    MR_TRY(mr_batch_select(batch, keeping->function->output, indexes, &renamed, err));
    status = mr__batches_add(keeping->results, renamed, err);
    mr_batch_unref(renamed);
    return status;
}

enum mr_status mr__function_run_sql(struct mr__function *function, struct mr__when when,
                                    struct mr_batch *const *batches, size_t batch_count,
                                    struct mr__batches *ret_results, struct mr_error *err)
{
    struct mr_batch *const *const inputs[1] = {batches};
    struct keeping keeping = {function, ret_results};

    MR_ASSERT(when.worker < MR_FN_WORKERS_MAX && function->sql != NULL);
    if (function->stmts[when.worker] == NULL)
        MR_TRY(prepare(function->engines, when.worker, function->sql, function->input,
                       &function->stmts[when.worker], err));
    /* Results are kept and handed on later: an operator behind this one may need the same
     * engine. */
    return mr_duck_run(function->stmts[when.worker], inputs, &batch_count, when.batch_time_us,
                       keep_result, &keeping, err);
}
