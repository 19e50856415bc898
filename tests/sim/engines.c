/*
 * See engines.h.
 *
 * The product calls DuckDB through a table of functions (src/duck/lib.h). Some of them are ours
 * here:
 *
 *     open      a kept instance, or a new one
 *     close     the instance is kept
 *     connect   connections are the product's: settings and temporary things die with them; what
 *               the product makes for good, the macro window_time, is dropped
 *     the table function mr_scan and the look-up of names point to the product's struct mr_duck:
 *     they are registered once for an instance, and lead to the one that has it now
 *
 * An instance that got functions of a user's, or of LIKE, is not kept.
 *
 * Thread: the only one.
 */
#include "sim/engines.h"

#include "base/check.h"
#include "duck/internal.h"
#include "duck/lib.h"

#include <string.h>

enum { ENGINES_MAX = 16 };

struct engine {
    duckdb_database database; /* NULL = unused */
    duckdb_connection connection;
    void *duck; /* who has it now */
    duckdb_replacement_callback_t find;
    bool in_use;
    bool has_scan;
    bool is_spoiled;
};

static struct engine engines[ENGINES_MAX];
static struct engine *newest; /* opened last: who opens registers next */
static struct mr_duck_api real;

static struct engine *engine_of(const void *pointer)
{
    for (size_t i = 0; i < ENGINES_MAX; i++) {
        if (&engines[i] == pointer)
            return &engines[i];
    }
    return NULL;
}

static duckdb_state open_kept(const char *path, duckdb_database *ret_database, duckdb_config config,
                              char **ret_error)
{
    struct engine *unused = NULL;

    for (size_t i = 0; i < ENGINES_MAX; i++) {
        struct engine *engine = &engines[i];

        if (engine->database != NULL && !engine->in_use) {
            engine->in_use = true;
            newest = engine;
            *ret_database = engine->database;
            return DuckDBSuccess;
        }
        if (engine->database == NULL && unused == NULL)
            unused = engine;
    }
    if (real.duckdb_open_ext(path, ret_database, config, ret_error) != DuckDBSuccess)
        return DuckDBError;
    newest = unused;
    if (unused != NULL)
        *unused = (struct engine){.database = *ret_database, .in_use = true};
    return DuckDBSuccess;
}

static void close_kept(duckdb_database *database)
{
    for (size_t i = 0; i < ENGINES_MAX; i++) {
        struct engine *engine = &engines[i];
        duckdb_connection connection = NULL;

        if (engine->database == NULL || engine->database != *database)
            continue;
        engine->duck = NULL;
        engine->in_use = false;
        if (!engine->is_spoiled && engine->has_scan &&
            real.duckdb_connect(engine->database, &connection) == DuckDBSuccess) {
            MR_ASSERT(real.duckdb_query(connection, "DROP MACRO IF EXISTS window_time", NULL) ==
                      DuckDBSuccess);
            real.duckdb_disconnect(&connection);
            *database = NULL;
            return;
        }
        memset(engine, 0, sizeof(*engine));
    }
    real.duckdb_close(database);
}

static duckdb_state connect_kept(duckdb_database database, duckdb_connection *ret_connection)
{
    duckdb_state state = real.duckdb_connect(database, ret_connection);

    if (newest != NULL && newest->database == database)
        newest->connection = *ret_connection;
    return state;
}

static void set_extra(duckdb_table_function function, void *extra, duckdb_delete_callback_t free)
{
    if (newest == NULL || free != NULL) {
        real.duckdb_table_function_set_extra_info(function, extra, free);
        return;
    }
    newest->duck = extra;
    real.duckdb_table_function_set_extra_info(function, newest, NULL);
}

static void *get_extra(duckdb_bind_info info)
{
    void *extra = real.duckdb_bind_get_extra_info(info);
    const struct engine *engine = engine_of(extra);

    return engine != NULL ? engine->duck : extra;
}

static duckdb_state register_table(duckdb_connection connection, duckdb_table_function function)
{
    if (newest != NULL && newest->connection == connection && newest->has_scan)
        return DuckDBSuccess;
    return real.duckdb_register_table_function(connection, function);
}

static void find(duckdb_replacement_scan_info info, const char *name, void *data)
{
    const struct engine *engine = data;

    if (engine->duck != NULL)
        engine->find(info, name, engine->duck);
}

static void add_replacement(duckdb_database database, duckdb_replacement_callback_t callback,
                            void *extra, duckdb_delete_callback_t free)
{
    if (newest == NULL || newest->database != database) {
        real.duckdb_add_replacement_scan(database, callback, extra, free);
        return;
    }
    newest->duck = extra;
    if (newest->has_scan)
        return;
    newest->has_scan = true;
    newest->find = callback;
    real.duckdb_add_replacement_scan(database, find, newest, NULL);
}

static duckdb_state register_scalar(duckdb_connection connection, duckdb_scalar_function function)
{
    for (size_t i = 0; i < ENGINES_MAX; i++)
        engines[i].is_spoiled |= engines[i].in_use && engines[i].connection == connection;
    return real.duckdb_register_scalar_function(connection, function);
}

void engines_keep(void)
{
    const struct mr_duck_api *loaded = NULL;
    struct mr_duck_api *api;

    MR_ASSERT(mr_duck_api_load(&loaded, NULL) == MR_OK);
    api = (struct mr_duck_api *)(uintptr_t)loaded; /* it is a variable of lib.c */
    real = *api;
    api->duckdb_open_ext = open_kept;
    api->duckdb_close = close_kept;
    api->duckdb_connect = connect_kept;
    api->duckdb_table_function_set_extra_info = set_extra;
    api->duckdb_bind_get_extra_info = get_extra;
    api->duckdb_register_table_function = register_table;
    api->duckdb_add_replacement_scan = add_replacement;
    api->duckdb_register_scalar_function = register_scalar;
}
