/*
 * Prepared statements over named inputs: prepare, describe, run.
 *
 *     prepare   rewrite (time, what cannot repeat) -> DuckDB binds names and types -> our schema
 *               and readers
 *     run       inputs' batches set -> batch time bound -> execute, streaming -> chunks -> batches
 *               of about a megabyte
 *
 * A statement is bound once: nothing in the catalog changes afterwards, so a run over a small batch
 * costs what DuckDB needs to start a plan and no more. Streaming keeps one chunk in memory instead
 * of the whole result.
 *
 * Thread: the instance's.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"
#include "base/number_text.h"
#include "duck/internal.h"
#include "duck/lex.h"

#include <string.h>

/* ---- Errors ---- */

/* DuckDB's kinds of errors that are not mistakes in the text. */
static const struct error_kind {
    const char *name;
    enum mr_status status;
} error_kinds[] = {
    {"Conversion", MR_BAD_DATA},     {"Out of Range", MR_BAD_DATA},
    {"Invalid Input", MR_BAD_DATA},  {"Decimal", MR_BAD_DATA},
    {"Divide by Zero", MR_BAD_DATA}, {"Mismatch Type", MR_BAD_DATA},
    {"Constraint", MR_BAD_DATA},     {"IO", MR_IO},
    {"Permission", MR_PERMISSION},   {"Out of Memory", MR_NOMEM},
    {"INTERNAL", MR_INTERNAL},       {"FATAL", MR_INTERNAL},
    {"Interrupt", MR_STOPPED},       {"Serialization", MR_INTERNAL},
};

static enum mr_status status_of_kind(const char *kind)
{
    for (size_t i = 0; kind != NULL && i < MR_ARRAY_SIZE(error_kinds); i++) {
        if (strcmp(error_kinds[i].name, kind) == 0)
            return error_kinds[i].status;
    }
    return MR_SQL_ERROR;
}

/* One line: blanks for line breaks, and the excerpt DuckDB draws under its text is left out. */
static void flatten(char *text)
{
    char *excerpt = strstr(text, "\n\nLINE ");

    if (excerpt != NULL)
        *excerpt = '\0';
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\r' || *at == '\t')
            *at = ' ';
    }
}

static char lower_first(const char *text)
{
    bool word = text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z';

    return word ? (char)(text[0] + ('a' - 'A')) : text[0];
}

enum mr_status mr_duck__fail(struct mr_error *err, const char *message,
                             const struct mr_duck_text *text, const char *sql)
{
    struct mr_arena arena = MR_ARENA_INIT;
    const char *json = message != NULL ? strchr(message, '{') : NULL;
    struct mr_json *tree = NULL;
    const char *said = NULL;
    const char *position;
    enum mr_status status;
    int64_t at;
    char *line;

    if (json != NULL && mr_json_parse(json, strlen(json), &arena, &tree, NULL) == MR_OK)
        said = mr_json_text(tree, "exception_message");
    if (said == NULL)
        said = message != NULL && message[0] != '\0' ? message : "unknown error";
    status = status_of_kind(mr_json_text(tree, "exception_type"));
    line = mr_strdup(said);
    if (line == NULL) {
        mr_arena_release(&arena);
        return MR_FAIL(err, MR_NOMEM, "cannot report an error of the SQL engine: out of memory");
    }
    flatten(line);
    status = MR_FAIL(err, status, "%c%s", lower_first(line), line[0] != '\0' ? line + 1 : "");
    position = mr_json_text(tree, "position");
    if (sql != NULL && position != NULL && mr_int_parse(position, strlen(position), &at) &&
        at >= 0) {
        size_t offset = text != NULL ? mr_edits_old_position(&text->edits, (size_t)at) : (size_t)at;

        mr_error_place(err, sql, MR_MIN(offset, strlen(sql)), status);
    }
    mr_free(line);
    mr_arena_release(&arena);
    return status;
}

/* ---- Prepare ---- */

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot prepare a statement: out of memory");
}

static enum mr_status copy_inputs(struct mr_duck_stmt *stmt, const struct mr_duck_input *inputs,
                                  const int64_t *rows_hints, size_t count, struct mr_error *err)
{
    if (count > MR_DUCK_INPUTS_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot prepare a statement over %zu tables; at most %d",
                       count, MR_DUCK_INPUTS_MAX);
    stmt->slots = mr_alloc_zero(NULL, count * sizeof(*stmt->slots));
    if (stmt->slots == NULL)
        return no_memory(err);
    stmt->slot_count = count;
    for (size_t i = 0; i < count; i++) {
        stmt->slots[i].api = stmt->duck->api;
        stmt->slots[i].name = mr_strdup(inputs[i].name);
        stmt->slots[i].schema = mr_schema_ref(inputs[i].schema);
        stmt->slots[i].rows_hint = rows_hints != NULL ? rows_hints[i] : 0;
        if (stmt->slots[i].name == NULL)
            return no_memory(err);
    }
    return MR_OK;
}

static enum mr_status describe_column(struct mr_duck_stmt *stmt, idx_t index,
                                      struct mr_field *field, struct mr_error *err)
{
    const struct mr_duck_api *api = stmt->duck->api;
    const char *name = api->duckdb_prepared_statement_column_name(stmt->prepared, index);
    duckdb_logical_type type =
        api->duckdb_prepared_statement_column_logical_type(stmt->prepared, index);
    enum mr_status status = MR_OK;

    field->name = mr_duck__column_name(stmt->arena, name);
    api->duckdb_free((void *)(uintptr_t)name);
    if (field->name == NULL)
        status = no_memory(err);
    if (status == MR_OK)
        status = mr_duck__type_from(api, type, field->name, stmt->arena, &field->type, err);
    if (status == MR_OK)
        status = mr_duck__reader_init(api, type, stmt->arena, &stmt->readers[index], err);
    api->duckdb_destroy_logical_type(&type);
    return status;
}

static enum mr_status describe(struct mr_duck_stmt *stmt, struct mr_error *err)
{
    const struct mr_duck_api *api = stmt->duck->api;
    idx_t count = api->duckdb_prepared_statement_column_count(stmt->prepared);
    struct mr_field *fields;

    stmt->arena = mr_alloc_zero(NULL, sizeof(*stmt->arena));
    if (stmt->arena == NULL)
        return no_memory(err);
    fields = mr_arena_alloc(stmt->arena, (size_t)count * sizeof(*fields));
    stmt->readers = mr_arena_alloc(stmt->arena, (size_t)count * sizeof(*stmt->readers));
    if (fields == NULL || stmt->readers == NULL)
        return no_memory(err);
    for (idx_t i = 0; i < count; i++)
        MR_TRY(describe_column(stmt, i, &fields[i], err));
    for (idx_t i = 0; i < count; i++) {
        for (idx_t k = 0; k < i; k++) {
            if (strcmp(fields[i].name, fields[k].name) == 0)
                return MR_FAIL(err, MR_SQL_ERROR,
                               "two columns are named '%s'; give one another name with AS",
                               fields[i].name);
        }
    }
    MR_TRY(mr_schema_new(fields, (uint32_t)count, &stmt->schema, err));
    return mr_batch_builder_new(stmt->schema, &stmt->builder, err);
}

static enum mr_status prepare(struct mr_duck_stmt *stmt, struct mr_error *err)
{
    struct mr_duck *duck = stmt->duck;
    const struct mr_duck_api *api = duck->api;
    duckdb_state state;

    duck->current = stmt;
    state = api->duckdb_prepare(duck->connection, stmt->text->sql, &stmt->prepared);
    duck->current = NULL;
    if (state != DuckDBSuccess) {
        enum mr_status status =
            mr_duck__fail(err, api->duckdb_prepare_error(stmt->prepared), stmt->text, stmt->sql);

        /* A constant that cannot be cast is a mistake in the text: no data was seen yet. */
        if (status == MR_BAD_DATA && err != NULL)
            err->status = MR_SQL_ERROR;
        return status == MR_BAD_DATA ? MR_SQL_ERROR : status;
    }
    if (api->duckdb_prepared_statement_type(stmt->prepared) != DUCKDB_STATEMENT_TYPE_SELECT)
        return mr_error_place(err, stmt->sql, 0,
                              MR_FAIL(err, MR_SQL_ERROR, "only a SELECT can be used here"));
    return describe(stmt, err);
}

enum mr_status mr_duck_prepare(struct mr_duck *duck, const char *sql,
                               const struct mr_duck_input *inputs, size_t input_count,
                               struct mr_duck_stmt **ret_stmt, struct mr_error *err)
{
    return mr_duck_prepare_sized(duck, sql, inputs, NULL, input_count, ret_stmt, err);
}

enum mr_status mr_duck_prepare_sized(struct mr_duck *duck, const char *sql,
                                     const struct mr_duck_input *inputs, const int64_t *rows_hints,
                                     size_t input_count, struct mr_duck_stmt **ret_stmt,
                                     struct mr_error *err)
{
    struct mr_duck_stmt *stmt = mr_alloc_zero(NULL, sizeof(*stmt));
    enum mr_status status = MR_OK;

    if (stmt == NULL)
        return no_memory(err);
    stmt->duck = duck;
    stmt->sql = mr_strdup(sql);
    stmt->text = mr_alloc_zero(NULL, sizeof(*stmt->text));
    if (stmt->sql == NULL || stmt->text == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(mr_duck__rewrite(sql, stmt->text, err));
    MR_TRY_GOTO(mr_duck__bound_patterns(duck, sql, err));
    MR_TRY_GOTO(copy_inputs(stmt, inputs, rows_hints, input_count, err));
    MR_TRY_GOTO(prepare(stmt, err));
    *ret_stmt = stmt;
    stmt = NULL;
done:
    mr_duck_stmt_free(stmt);
    return status;
}

void mr_duck_stmt_free(struct mr_duck_stmt *stmt)
{
    if (stmt == NULL)
        return;
    stmt->duck->api->duckdb_destroy_prepare(&stmt->prepared);
    for (size_t i = 0; i < stmt->slot_count; i++) {
        mr_free(stmt->slots[i].name);
        mr_schema_unref(stmt->slots[i].schema);
    }
    mr_free(stmt->slots);
    mr_batch_builder_free(stmt->builder);
    mr_schema_unref(stmt->schema);
    if (stmt->arena != NULL)
        mr_arena_release(stmt->arena);
    mr_free(stmt->arena);
    if (stmt->text != NULL)
        mr_duck__text_release(stmt->text);
    mr_free(stmt->text);
    mr_free(stmt->sql);
    mr_free(stmt);
}

const struct mr_schema *mr_duck_stmt_schema(const struct mr_duck_stmt *stmt)
{
    return stmt->schema;
}

/* ---- Run ---- */

static enum mr_status flush(struct mr_batch_builder *builder, mr_duck_emit_fn emit, void *arg,
                            struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status = MR_OK;

    if (mr_batch_builder_row_count(builder) == 0)
        return MR_OK;
    status = mr_batch_builder_finish(builder, &batch, err);
    if (status == MR_OK && emit != NULL)
        status = emit(arg, batch, err);
    mr_batch_unref(batch);
    return status;
}

/* Leaves nothing of a failed run in the builder. */
static void discard(struct mr_batch_builder *builder)
{
    struct mr_batch *batch = NULL;

    if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK)
        mr_batch_unref(batch);
}

enum mr_status mr_duck__fetch(struct mr_duck *duck, duckdb_result *result,
                              const struct mr_duck_reader *readers,
                              struct mr_batch_builder *builder, const struct mr_duck_text *text,
                              const char *sql, bool *ret_end, struct mr_error *err)
{
    const struct mr_duck_api *api = duck->api;
    bool end = false;

    while (!end && mr_batch_builder_bytes(builder) < MR_DUCK_EMIT_BYTES) {
        duckdb_data_chunk chunk = api->duckdb_fetch_chunk(*result);
        enum mr_status status = MR_OK;

        if (chunk == NULL) {
            const char *failure = api->duckdb_result_error(result);
            if (failure != NULL && failure[0] != '\0')
                return mr_duck__fail(err, failure, text, sql);
            break;
        }
        end = api->duckdb_data_chunk_get_size(chunk) == 0;
        if (!end)
            status = mr_duck__append_chunk(api, chunk, readers, builder, err);
        api->duckdb_destroy_data_chunk(&chunk);
        MR_TRY(status);
    }
    *ret_end = mr_batch_builder_bytes(builder) < MR_DUCK_EMIT_BYTES;
    return MR_OK;
}

enum mr_status mr_duck__drain(struct mr_duck *duck, duckdb_result *result,
                              const struct mr_duck_reader *readers,
                              struct mr_batch_builder *builder, mr_duck_emit_fn emit, void *arg,
                              const struct mr_duck_text *text, const char *sql,
                              struct mr_error *err)
{
    enum mr_status status = MR_OK;
    bool end = false;

    while (status == MR_OK && !end) {
        status = mr_duck__fetch(duck, result, readers, builder, text, sql, &end, err);
        if (status == MR_OK)
            status = flush(builder, emit, arg, err);
    }
    if (status != MR_OK)
        discard(builder);
    return status;
}

static void set_inputs(struct mr_duck_stmt *stmt, struct mr_batch *const *const *batches,
                       const size_t *batch_counts)
{
    for (size_t i = 0; i < stmt->slot_count; i++) {
        stmt->slots[i].batches = batches != NULL ? batches[i] : NULL;
        stmt->slots[i].batch_count = batches != NULL ? batch_counts[i] : 0;
    }
}

enum mr_status mr_duck_run(struct mr_duck_stmt *stmt, struct mr_batch *const *const *batches,
                           const size_t *batch_counts, int64_t batch_time_us, mr_duck_emit_fn emit,
                           void *arg, struct mr_error *err)
{
    struct mr_duck *duck = stmt->duck;
    const struct mr_duck_api *api = duck->api;
    duckdb_timestamp now = {batch_time_us};
    duckdb_result result;
    enum mr_status status;

    MR_ASSERT(duck->current == NULL); /* no run inside a run: emit must not use the instance */
    memset(&result, 0, sizeof(result));
    set_inputs(stmt, batches, batch_counts);
    duck->current = stmt;
    if (stmt->text->uses_time &&
        api->duckdb_bind_timestamp(stmt->prepared, 1, now) != DuckDBSuccess)
        status = MR_FAIL(err, MR_INTERNAL, "cannot bind the batch time of a statement");
    else if (api->duckdb_execute_prepared_streaming(stmt->prepared, &result) != DuckDBSuccess)
        status = mr_duck__fail(err, api->duckdb_result_error(&result), stmt->text, stmt->sql);
    else
        status = mr_duck__drain(duck, &result, stmt->readers, stmt->builder, emit, arg, stmt->text,
                                stmt->sql, err);
    api->duckdb_destroy_result(&result);
    duck->current = NULL;
    set_inputs(stmt, NULL, NULL);
    return status;
}

enum mr_status mr_duck__run_over(struct mr_duck *duck, const char *sql,
                                 const struct mr_schema *schema, struct mr_batch *const *batches,
                                 size_t batch_count, struct mr_error *err)
{
    char name[] = "rows";
    struct mr_duck_slot slot = {duck->api, name, mr_schema_ref(schema), batches, batch_count, 0};
    struct mr_duck_stmt stmt = {.duck = duck, .slots = &slot, .slot_count = 1};
    enum mr_status status;

    MR_ASSERT(duck->current == NULL);
    duck->current = &stmt;
    status = mr_duck_exec(duck, sql, NULL, NULL, err);
    duck->current = NULL;
    mr_schema_unref(slot.schema);
    return status;
}
