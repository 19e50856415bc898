/*
 * DuckDB as the evaluator of stateless SQL over batches.
 *
 * The library is loaded with dlopen when the first instance is opened, so programs that need no SQL
 * start without it. One instance per worker, each with threads=1: parallelism is ours, over
 * partitions, and results do not depend on scheduling.
 *
 * Thread: an instance and its statements belong to one thread at a time.
 */
#ifndef MR_DUCK_DUCK_H
#define MR_DUCK_DUCK_H

#include <millrace/batch.h>

struct mr_duck;      /* an instance: in-memory database, one connection */
struct mr_duck_stmt; /* a prepared SELECT over named inputs */

/* MR_CONFIG when the library cannot be loaded: text says where it was looked for and
 * MILLRACE_DUCKDB. */
enum mr_status mr_duck_open(struct mr_duck **ret_duck, struct mr_error *err);
void mr_duck_close(struct mr_duck *duck); /* NULL allowed */
bool mr_duck_loaded(void);
/* "v1.5.6"; loads the library. */
enum mr_status mr_duck_version(const char **ret_version, struct mr_error *err);

typedef enum mr_status (*mr_duck_emit_fn)(void *arg, const struct mr_batch *batch,
                                          struct mr_error *err);

/* Runs one statement without inputs; rows go to emit (may be NULL). */
enum mr_status mr_duck_exec(struct mr_duck *duck, const char *sql, mr_duck_emit_fn emit, void *arg,
                            struct mr_error *err);

/*
 * Prepares a SELECT whose tables may be named inputs (quoted identifiers); types and errors are
 * known at once. Positions of errors are 1-based line and column of sql, in err->sql_line and
 * sql_column. Result types that millrace does not have are MR_SQL_ERROR naming the column and a
 * cast to use; HUGEINT becomes DECIMAL(38,0), TIMESTAMPTZ becomes TIMESTAMP.
 */
struct mr_duck_input {
    const char *name;
    const struct mr_schema *schema;
};
enum mr_status mr_duck_prepare(struct mr_duck *duck, const char *sql,
                               const struct mr_duck_input *inputs, size_t input_count,
                               struct mr_duck_stmt **ret_stmt, struct mr_error *err);
/* The same, with about how many rows each input will bring (0 = many): DuckDB hashes the smaller
 * side of a join. */
enum mr_status mr_duck_prepare_sized(struct mr_duck *duck, const char *sql,
                                     const struct mr_duck_input *inputs, const int64_t *rows_hints,
                                     size_t input_count, struct mr_duck_stmt **ret_stmt,
                                     struct mr_error *err);
void mr_duck_stmt_free(struct mr_duck_stmt *stmt);
const struct mr_schema *mr_duck_stmt_schema(
    const struct mr_duck_stmt *stmt); /* of the result; borrowed */

/*
 * Runs it over the batches given for each input (input k: batches[k], batch_counts[k] of them). Row
 * order is kept for plain projections and filters. Emitted batches have the statement's schema.
 * batch_time_us is what now(), current_timestamp and current_date mean. Errors of evaluation (cast,
 * overflow, division) are MR_BAD_DATA with DuckDB's text. emit must not use the instance: its
 * result is still open.
 */
enum mr_status mr_duck_run(struct mr_duck_stmt *stmt, struct mr_batch *const *const *batches,
                           const size_t *batch_counts, int64_t batch_time_us, mr_duck_emit_fn emit,
                           void *arg, struct mr_error *err);

/* Syntax trees: text -> JSON of json_serialize_sql, and back. MR_SQL_ERROR with line and column.
 * Freed with mr_text_free. */
enum mr_status mr_duck_parse(struct mr_duck *duck, const char *sql, char **ret_json,
                             struct mr_error *err);
enum mr_status mr_duck_print(struct mr_duck *duck, const char *json, char **ret_sql,
                             struct mr_error *err);

/* Registers the parquet format (whole files, read and written by DuckDB) with
 * mr_format_register. */
void mr_duck_register_parquet(void);

#endif
