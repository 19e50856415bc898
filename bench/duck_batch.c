/*
 * DuckDB's side of a comparison: runs the statements of a file in one in-memory database, as a
 * batch engine would be used.
 *
 *     duck_batch THREADS SCRIPT.sql [NAME=VALUE...]
 *
 * ${NAME} in the script becomes VALUE. Prints the seconds of opening the library and of the
 * statements; the caller measures the whole process. The library is the one millrace uses, found
 * the same way.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "duck/lib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void fail(const char *what, const char *text)
{
    fprintf(stderr, "duck_batch: %s: %s\n", what, text == NULL ? "failed" : text);
    exit(1);
}

static void read_file(const char *path, struct mr_buf *out)
{
    char piece[4096];
    size_t size;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        fail("cannot open", path);
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0)
        mr_buf_add(out, piece, size);
    fclose(file);
    if (out->data == NULL)
        fail("nothing in", path);
}

/* Value of NAME among "NAME=VALUE" arguments, or NULL. */
static const char *value_of(char **pairs, int count, const char *name, size_t name_bytes)
{
    for (int i = 0; i < count; i++)
        if (strncmp(pairs[i], name, name_bytes) == 0 && pairs[i][name_bytes] == '=')
            return pairs[i] + name_bytes + 1;
    return NULL;
}

static void replace_names(const char *text, char **pairs, int count, struct mr_buf *out)
{
    for (const char *at = text; *at != '\0';) {
        const char *start = strstr(at, "${");
        const char *end = start == NULL ? NULL : strchr(start, '}');
        if (end == NULL) {
            mr_buf_add_str(out, at);
            return;
        }
        const char *value = value_of(pairs, count, start + 2, (size_t)(end - start - 2));
        if (value == NULL)
            fail("no value for", start);
        mr_buf_add(out, at, (size_t)(start - at));
        mr_buf_add_str(out, value);
        at = end + 1;
    }
}

int main(int argc, char **argv)
{
    const struct mr_duck_api *api = NULL;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_error err = {0};
    duckdb_database database = NULL;
    duckdb_connection connection = NULL;
    duckdb_config config = NULL;
    duckdb_result result;
    char *problem = NULL;

    if (argc < 3) {
        fprintf(stderr, "usage: duck_batch THREADS SCRIPT.sql [NAME=VALUE...]\n");
        return 64;
    }
    read_file(argv[2], &text);
    replace_names(text.data, argv + 3, argc - 3, &sql);
    double start = now();
    if (mr_duck_api_load(&api, &err) != MR_OK)
        fail("cannot load DuckDB", err.text);
    if (api->duckdb_create_config(&config) != DuckDBSuccess ||
        api->duckdb_set_config(config, "threads", argv[1]) != DuckDBSuccess ||
        api->duckdb_open_ext(NULL, &database, config, &problem) != DuckDBSuccess ||
        api->duckdb_connect(database, &connection) != DuckDBSuccess)
        fail("cannot open a database", problem);
    double opened = now();
    if (api->duckdb_query(connection, sql.data, &result) != DuckDBSuccess)
        fail("cannot run the query", api->duckdb_result_error(&result));
    double done = now();
    printf("{\"open_s\": %.6f, \"query_s\": %.6f}\n", opened - start, done - opened);
    api->duckdb_destroy_result(&result);
    api->duckdb_disconnect(&connection);
    api->duckdb_close(&database);
    api->duckdb_destroy_config(&config);
    mr_buf_release(&text);
    mr_buf_release(&sql);
    return 0;
}
