/*
 * Instances of DuckDB: open, close, plain statements, syntax trees.
 *
 * An instance is an in-memory database with one connection and threads=1, without extensions from
 * outside: what the library itself brings (core functions, JSON, Parquet, ICU) is all there is, so
 * results do not depend on the machine. It never writes to disk (no temporary directory).
 *
 * Thread: an instance belongs to one thread at a time.
 */
#include "duck/duck.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/number_text.h"
#include "duck/internal.h"
#include "duck/lex.h"
#include "env/thread.h"

#include <stdio.h>
#include <string.h>

static const char *const settings[][2] = {
    {"threads", "1"},
    {"autoinstall_known_extensions", "false"},
    {"autoload_known_extensions", "false"},
    {"temp_directory", ""},
};

/* Of the session, so not known before the connection. */
static const char session_settings[] =
    "SET errors_as_json=true; SET TimeZone='UTC'; SET default_collation='';";

static enum mr_status open_database(struct mr_duck *duck, struct mr_error *err)
{
    const struct mr_duck_api *api = duck->api;
    duckdb_config config = NULL;
    enum mr_status status = MR_OK;
    /* The instances of a query share a quarter of the process's memory: one for each worker, one
     * that plans. */
    uint64_t bytes = mr_memory_engine(mr_cpu_count() + 1);
    char memory[32];
    char *message = NULL;

    if (api->duckdb_create_config(&config) != DuckDBSuccess)
        return MR_FAIL(err, MR_NOMEM, "cannot open the SQL engine: out of memory");
    if (bytes > 0)
        snprintf(memory, sizeof(memory), "%lluKiB", (unsigned long long)(bytes >> 10));
    if (bytes > 0 && api->duckdb_set_config(config, "memory_limit", memory) != DuckDBSuccess)
        status = MR_FAIL(err, MR_CONFIG, "cannot give the SQL engine %s of memory", memory);
    for (size_t i = 0; i < MR_ARRAY_SIZE(settings); i++) {
        if (api->duckdb_set_config(config, settings[i][0], settings[i][1]) != DuckDBSuccess)
            status = MR_FAIL(err, MR_CONFIG,
                             "cannot open the SQL engine: version %s refuses setting '%s'",
                             api->duckdb_library_version(), settings[i][0]);
    }
    if (status == MR_OK &&
        api->duckdb_open_ext(NULL, &duck->database, config, &message) != DuckDBSuccess)
        status = MR_FAIL(err, MR_INTERNAL, "cannot open the SQL engine: %s",
                         message != NULL ? message : "no reason");
    api->duckdb_free(message);
    api->duckdb_destroy_config(&config);
    return status;
}

enum mr_status mr_duck_open(struct mr_duck **ret_duck, struct mr_error *err)
{
    struct mr_duck *duck = mr_alloc_zero(NULL, sizeof(*duck));
    enum mr_status status;

    if (duck == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the SQL engine: out of memory");
    status = mr_duck_api_load(&duck->api, err);
    if (status != MR_OK) {
        mr_free(duck);
        return status;
    }
    MR_TRY_GOTO(open_database(duck, err));
    if (duck->api->duckdb_connect(duck->database, &duck->connection) != DuckDBSuccess) {
        status = MR_FAIL(err, MR_INTERNAL, "cannot connect to the SQL engine");
        goto done;
    }
    MR_TRY_GOTO(mr_duck_exec(duck, session_settings, NULL, NULL, err));
    MR_TRY_GOTO(mr_duck__register_scan(duck, err));
    *ret_duck = duck;
    return MR_OK;
done:
    mr_duck_close(duck);
    return status;
}

void mr_duck_close(struct mr_duck *duck)
{
    if (duck == NULL)
        return;
    duck->api->duckdb_disconnect(&duck->connection);
    duck->api->duckdb_close(&duck->database);
    mr_free(duck);
}

bool mr_duck_loaded(void)
{
    return mr_duck_api_loaded() != NULL;
}

enum mr_status mr_duck_version(const char **ret_version, struct mr_error *err)
{
    const struct mr_duck_api *api;

    MR_TRY(mr_duck_api_load(&api, err));
    *ret_version = api->duckdb_library_version();
    return MR_OK;
}

/* ---- Plain statements ---- */

static enum mr_status describe_result(const struct mr_duck_api *api, duckdb_result *result,
                                      struct mr_arena *arena, struct mr_duck_reader **ret_readers,
                                      struct mr_schema **ret_schema, struct mr_error *err)
{
    idx_t count = api->duckdb_column_count(result);
    struct mr_field *fields = mr_arena_alloc(arena, (size_t)count * sizeof(*fields));
    struct mr_duck_reader *readers = mr_arena_alloc(arena, (size_t)count * sizeof(*readers));

    if (fields == NULL || readers == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read results: out of memory");
    for (idx_t i = 0; i < count; i++) {
        duckdb_logical_type type = api->duckdb_column_logical_type(result, i);
        enum mr_status status;

        fields[i].name = mr_duck__column_name(arena, api->duckdb_column_name(result, i));
        if (fields[i].name == NULL) {
            api->duckdb_destroy_logical_type(&type);
            return MR_FAIL(err, MR_NOMEM, "cannot read results: out of memory");
        }
        status = mr_duck__type_from(api, type, fields[i].name, arena, &fields[i].type, err);
        if (status == MR_OK)
            status = mr_duck__reader_init(api, type, arena, &readers[i], err);
        api->duckdb_destroy_logical_type(&type);
        if (status != MR_OK)
            return status;
    }
    MR_TRY(mr_schema_new(fields, (uint32_t)count, ret_schema, err));
    *ret_readers = readers;
    return MR_OK;
}

enum mr_status mr_duck_exec(struct mr_duck *duck, const char *sql, mr_duck_emit_fn emit, void *arg,
                            struct mr_error *err)
{
    const struct mr_duck_api *api = duck->api;
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_duck_reader *readers = NULL;
    duckdb_result result;
    enum mr_status status = MR_OK;

    memset(&result, 0, sizeof(result));
    if (api->duckdb_query(duck->connection, sql, &result) != DuckDBSuccess) {
        status = mr_duck__fail(err, api->duckdb_result_error(&result), NULL, sql);
        goto done;
    }
    if (emit == NULL || api->duckdb_column_count(&result) == 0)
        goto done;
    MR_TRY_GOTO(describe_result(api, &result, &arena, &readers, &schema, err));
    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, err));
    status = mr_duck__drain(duck, &result, readers, builder, emit, arg, NULL, sql, err);
done:
    api->duckdb_destroy_result(&result);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    mr_arena_release(&arena);
    return status;
}

/* ---- Syntax trees ---- */

static enum mr_status keep_text(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(batch, 0);
    char **ret_text = arg;
    struct mr_slice text;

    if (mr_batch_row_count(batch) != 1 || mr_column_is_null(column, 0) || *ret_text != NULL)
        return MR_FAIL(err, MR_INTERNAL, "the SQL engine gave no syntax tree");
    text = mr_column_text(column, 0);
    *ret_text = mr_strndup(text.data, text.size_bytes);
    return *ret_text != NULL ? MR_OK
                             : MR_FAIL(err, MR_NOMEM, "cannot keep a syntax tree: out of memory");
}

/* Runs "SELECT function('text')" and keeps the one text that comes back. */
static enum mr_status call_on_text(struct mr_duck *duck, const char *function, const char *text,
                                   char **ret_text, struct mr_error *err)
{
    struct mr_buf sql = MR_BUF_INIT;
    char *result = NULL;
    enum mr_status status;

    mr_buf_printf(&sql, "SELECT CAST(%s('", function);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'')
            mr_buf_add_char(&sql, '\'');
        mr_buf_add_char(&sql, *at);
    }
    mr_buf_add_str(&sql, "') AS VARCHAR) AS result");
    if (sql.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot parse a statement: out of memory");
    else
        status = mr_duck_exec(duck, sql.data, keep_text, &result, err);
    mr_buf_release(&sql);
    if (status == MR_OK && result == NULL)
        status = MR_FAIL(err, MR_INTERNAL, "the SQL engine gave no syntax tree");
    if (status == MR_OK)
        *ret_text = result;
    else
        mr_free(result);
    return status;
}

/* The answer of json_serialize_sql for a text that does not parse: {"error":true,
 * "error_message":..., "position":"13"}. */
static enum mr_status check_parsed(const char *json, const char *sql, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    enum mr_status status = MR_OK;
    struct mr_json *tree;
    struct mr_json *failed;
    const char *position;
    int64_t at;

    if (strncmp(json, "{\"error\":false", 14) == 0)
        return MR_OK;
    MR_TRY_GOTO(mr_json_parse(json, strlen(json), &arena, &tree, err));
    failed = mr_json_get(tree, "error");
    if (failed == NULL || !failed->boolean)
        goto done;
    status =
        MR_FAIL(err, MR_SQL_ERROR, "%s",
                mr_json_text(tree, "error_message") != NULL ? mr_json_text(tree, "error_message")
                                                            : "cannot parse this statement");
    position = mr_json_text(tree, "position");
    if (position != NULL && mr_int_parse(position, strlen(position), &at) && at >= 0)
        mr_error_place(err, sql, MR_MIN((size_t)at, strlen(sql)), status);
done:
    mr_arena_release(&arena);
    return status;
}

enum mr_status mr_duck_parse(struct mr_duck *duck, const char *sql, char **ret_json,
                             struct mr_error *err)
{
    char *json;
    enum mr_status status;

    MR_TRY(call_on_text(duck, "json_serialize_sql", sql, &json, err));
    status = check_parsed(json, sql, err);
    if (status == MR_OK)
        *ret_json = json;
    else
        mr_free(json);
    return status;
}

enum mr_status mr_duck_print(struct mr_duck *duck, const char *json, char **ret_sql,
                             struct mr_error *err)
{
    return call_on_text(duck, "json_deserialize_sql", json, ret_sql, err);
}
