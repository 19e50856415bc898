/*
 * Shared between the files of src/duck.
 *
 *     text --rewrite--> statement --run: scan (input.c) --> DuckDB --> chunks (output.c)--> batches
 *
 * Thread: an instance, its statements and everything below belong to one thread at a time.
 */
#ifndef MR_DUCK_INTERNAL_H
#define MR_DUCK_INTERNAL_H

#include "base/buf.h"
#include "base/limits.h"
#include "duck/duck.h"
#include "duck/lex.h"
#include "duck/lib.h"

#include <millrace/ext/builder.h>

enum { MR_DUCK_INPUTS_MAX = MR_LIMIT_SQL_ENGINE_INPUTS, MR_DUCK_EMIT_BYTES = 1024 * 1024 };

struct mr_duck {
    const struct mr_duck_api *api;
    duckdb_database database;
    duckdb_connection connection;
    bool patterns_bound; /* like.c has put its operators in */
    struct mr_duck_stmt
        *current; /* whose inputs the names of tables mean, while it is prepared or run */
};

struct mr_arena;
struct mr_duck_text;
struct mr_duck_reader;

/* One named input: what the table function scans. Stays where it is as long as the statement
 * lives. */
struct mr_duck_slot {
    const struct mr_duck_api *api;
    char *name;
    struct mr_schema *schema;
    struct mr_batch *const *batches; /* of the run at hand, borrowed */
    size_t batch_count;
    int64_t rows_hint;
};

struct mr_duck_stmt {
    struct mr_duck *duck;
    char *sql;                 /* as the caller wrote it: error positions refer to it */
    struct mr_duck_text *text; /* as DuckDB got it */
    duckdb_prepared_statement prepared;
    struct mr_duck_slot *slots;
    size_t slot_count;
    struct mr_schema *schema;
    struct mr_arena *arena; /* of readers */
    struct mr_duck_reader *readers;
    struct mr_batch_builder *builder;
};

/* rewrite.c */
struct mr_duck_text {
    char *sql; /* the text DuckDB gets */
    struct mr_edits edits;
    bool uses_time;
};

enum mr_status mr_duck__rewrite(const char *sql, struct mr_duck_text *ret_text,
                                struct mr_error *err);
void mr_duck__text_release(struct mr_duck_text *text);

/* like.c: puts operators for LIKE, ILIKE and GLOB that take bounded time into an instance, when a
 * statement needs them for the first time. */
enum mr_status mr_duck__bound_patterns(struct mr_duck *duck, const char *sql, struct mr_error *err);

/* types.c */
duckdb_logical_type mr_duck__type_to(const struct mr_duck_api *api, const struct mr_type *type);
/* A column without AS is named after its whole expression: cut to what a schema allows. NULL
 * without memory. */
const char *mr_duck__column_name(struct mr_arena *arena, const char *name);
/* Type of a result column as one of ours; nested fields live in arena. MR_SQL_ERROR names the
 * column and a cast. */
enum mr_status mr_duck__type_from(const struct mr_duck_api *api, duckdb_logical_type type,
                                  const char *column, struct mr_arena *arena,
                                  struct mr_type *ret_type, struct mr_error *err);

/* input.c: registers the table function and the lookup of names with an instance. */
enum mr_status mr_duck__register_scan(struct mr_duck *duck, struct mr_error *err);

/* Rows [from, from + count) of a column into the front of a vector; texts stay in the column's
 * memory. False without memory. */
bool mr_duck__fill(const struct mr_duck_api *api, duckdb_vector vector,
                   const struct mr_column *column, int64_t from, int64_t count);

/* output.c: appends a chunk of results to a builder of the statement's schema. */
struct mr_duck_reader {
    enum mr_type_id id;
    duckdb_type from; /* storage of the vector's values */
    uint32_t child_count;
    struct mr_duck_reader *children;
};
enum mr_status mr_duck__reader_init(const struct mr_duck_api *api, duckdb_logical_type type,
                                    struct mr_arena *arena, struct mr_duck_reader *ret_reader,
                                    struct mr_error *err);
enum mr_status mr_duck__append_chunk(const struct mr_duck_api *api, duckdb_data_chunk chunk,
                                     const struct mr_duck_reader *readers,
                                     struct mr_batch_builder *builder, struct mr_error *err);

/* stmt.c: chunks into the builder until it holds about a megabyte or the result ends. */
enum mr_status mr_duck__fetch(struct mr_duck *duck, duckdb_result *result,
                              const struct mr_duck_reader *readers,
                              struct mr_batch_builder *builder, const struct mr_duck_text *text,
                              const char *sql, bool *ret_end, struct mr_error *err);
/* Hands all rows of a result on in batches of about a megabyte. */
enum mr_status mr_duck__drain(struct mr_duck *duck, duckdb_result *result,
                              const struct mr_duck_reader *readers,
                              struct mr_batch_builder *builder, mr_duck_emit_fn emit, void *arg,
                              const struct mr_duck_text *text, const char *sql,
                              struct mr_error *err);
/* Runs a statement without results over one input named "rows": COPY. */
enum mr_status mr_duck__run_over(struct mr_duck *duck, const char *sql,
                                 const struct mr_schema *schema, struct mr_batch *const *batches,
                                 size_t batch_count, struct mr_error *err);

/*
 * Turns DuckDB's error (JSON, errors_as_json is on) into ours. sql and text may be NULL. Errors of
 * evaluation become MR_BAD_DATA, errors of files MR_IO, of memory MR_NOMEM, all others MR_SQL_ERROR
 * with their place.
 */
enum mr_status mr_duck__fail(struct mr_error *err, const char *message,
                             const struct mr_duck_text *text, const char *sql);

#endif
