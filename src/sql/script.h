/*
 * A pipeline's text as statements: CREATE TABLE, CREATE VIEW, SET, INSERT INTO, SELECT, TEST, and
 * the words of other dialects for them (script.c lists them).
 *
 * Only what stands around a SELECT is parsed here; the SELECT itself stays text with its place, for
 * DuckDB's parser. Thread: any; a script is immutable once parsed.
 */
#ifndef MR_SQL_SCRIPT_H
#define MR_SQL_SCRIPT_H

#include "base/alloc.h"
#include "base/limits.h"

#include <millrace/ext/options.h>
#include <millrace/types.h>

enum mr_sql_kind {
    MR_SQL_TABLE,
    MR_SQL_VIEW,
    MR_SQL_SET,
    MR_SQL_INSERT,
    MR_SQL_SELECT,
    MR_SQL_TEST /* TEST 'name' [AS] BEGIN ... END: no part of the pipeline */
};

enum {
    MR_SQL_STATEMENTS_MAX = MR_LIMIT_SQL_STATEMENTS,
    MR_SQL_OPTIONS_MAX = MR_LIMIT_SQL_OPTIONS,
    MR_SQL_BYTES_MAX = MR_LIMIT_SQL_BYTES
};

struct mr_sql_option {
    const char *key;
    const char *value; /* ${NAME} filled in */
    size_t at;         /* offset of the key in the script */
};

/* A column that is made of the others: name AS expression. */
struct mr_sql_computed {
    const char *name;
    size_t at;   /* of the expression in the script */
    size_t size; /* bytes */
};

struct mr_sql_statement {
    enum mr_sql_kind kind;
    size_t at;        /* of its first word */
    const char *name; /* table, view, sink or test; NULL for SET and a bare SELECT */
    size_t name_at;
    bool explain;      /* INSERT, SELECT: EXPLAIN before it; its plan is shown instead of run */
    bool materialized; /* VIEW: CREATE MATERIALIZED VIEW */
    bool appends;      /* VIEW: WITH (output_mode = 'append') and nothing else */
    struct mr_schema *columns; /* TABLE: NULL when none are declared; without computed ones */
    struct mr_sql_computed *computed; /* TABLE: in the order written */
    size_t computed_count;
    const char **required; /* TABLE: names of the columns that are NOT NULL, or NULL */
    size_t required_count;
    const char *watermark; /* TABLE: column, or NULL */
    size_t watermark_at;
    int64_t watermark_delay_us;
    struct mr_sql_option *options; /* TABLE: WITH; SET: the one pair */
    size_t option_count;
    const char **insert_columns; /* INSERT INTO t (a, b): names, or NULL */
    size_t insert_column_count;  /* VIEW v (a, b), a table's PRIMARY KEY (a, b): here, too */
    bool by_name;                /* INSERT ... BY NAME */
    /* INSERT: made of CREATE ... AS, it writes all rows of the view of its own name; no text. */
    bool whole_view;
    size_t select_at; /* VIEW, INSERT, SELECT: the query's text; TEST: what BEGIN and END enclose */
    size_t select_size;
};

struct mr_sql_script {
    struct mr_arena arena;
    const char *name; /* file name for errors */
    const char *text;
    size_t size;
    struct mr_sql_statement *statements;
    size_t count;
};

/* Parses text; name is shown in errors ("q.sql", "-e"). MR_SQL_ERROR with line and column. Returns
 * new. */
enum mr_status mr_sql_script_parse(const char *name, const char *text, size_t size,
                                   struct mr_sql_script **ret_script, struct mr_error *err);
void mr_sql_script_free(struct mr_sql_script *script); /* NULL allowed */

/* Fills ${NAME} in `text` from the environment. MR_CONFIG when one is unset. Result in arena. */
enum mr_status mr_sql_expand(struct mr_arena *arena, const char *text, size_t size,
                             const char **ret_text, struct mr_error *err);

#endif
