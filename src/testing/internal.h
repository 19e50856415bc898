/*
 * Shared between the files of the test runner (testing.h shows how they follow each other).
 *
 * Thread: one.
 */
#ifndef MR_TESTING_INTERNAL_H
#define MR_TESTING_INTERNAL_H

#include "base/alloc.h"
#include "base/limits.h"
#include "duck/duck.h"
#include "sql/plan.h"
#include "testing/testing.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

enum {
    MR_TESTING_FILES_MAX = MR_LIMIT_TEST_FILES,
    MR_TESTING_STEPS_MAX = MR_LIMIT_TEST_STEPS,
    MR_TESTING_KEYS_MAX = MR_LIMIT_TEST_COLUMNS
};

/* ---- parse.c: one block as steps ---- */

enum mr_test_step_kind {
    MR_STEP_GIVEN,
    MR_STEP_INSERT,
    MR_STEP_RUN,
    MR_STEP_TIME_BY,
    MR_STEP_TIME_TO,
    MR_STEP_WATERMARK,
    MR_STEP_EVENT_TIME,
    MR_STEP_CRASH,
    MR_STEP_RESTART,
    MR_STEP_ASSERT_ROWS,
    MR_STEP_ASSERT_ERROR,
    MR_STEP_ASSERT_STATE,
    MR_STEP_ASSERT_WATERMARK,
    MR_STEP_ASSERT_LATE,
    MR_STEP_ASSERT_BATCHES,
    MR_STEP_ASSERT_BAD,
};

/* What of a table an ASSERT is about. */
enum mr_test_part { MR_PART_ALL, MR_PART_NEW, MR_PART_LAST };

/* Texts are ranges of the script or copies in its arena. */
struct mr_test_text {
    size_t at;
    size_t size; /* 0: none */
};

struct mr_test_step {
    enum mr_test_step_kind kind;
    size_t at;         /* of its first word */
    const char *table; /* name, or NULL */
    const char *text;  /* ASSERT ERROR, STATE: what is expected */
    int64_t value;     /* time, duration (us); INT64_MIN: none; rows, batches */
    /* INSERT, ASSERT: the rows; GIVEN: the statement */
    struct mr_test_text query;
    const char *records; /* INSERT ... RECORDS: lines instead of rows; NULL: rows */
    const char *columns[MR_TESTING_KEYS_MAX]; /* INSERT INTO t (a, b); ASSERT t KEY (a, b) */
    size_t column_count;
    /* CRASH */
    const char *point; /* name of the failpoint; NULL: between batches */
    int64_t batch_id;  /* -1: the next one to come there */
    bool kill;         /* the process dies, the machine lives */
    /* ASSERT */
    enum mr_test_part part;
    bool ordered;
    bool is_empty;            /* no rows are expected */
    struct mr_test_text left; /* a query instead of a table */
};

struct mr_test_block {
    const char *title;
    size_t at;
    struct mr_test_step *steps;
    size_t count;
};

/* The block of a TEST statement. Lives in the script's arena. MR_SQL_ERROR with line and column. */
enum mr_status mr_testing__parse(struct mr_sql_script *script,
                                 const struct mr_sql_statement *statement,
                                 struct mr_test_block *ret_block, struct mr_error *err);

/* ---- tables.c: every table of the pipeline, in memory ---- */

struct mr_test_rows {
    struct mr_batch **batches;
    size_t count;
};
/* Shares batch. */
enum mr_status mr_testing__rows_add(struct mr_test_rows *rows, const struct mr_batch *batch,
                                    struct mr_error *err);
void mr_testing__rows_release(struct mr_test_rows *rows);

/* What one INSERT or ADVANCE adds. */
struct mr_test_input {
    struct mr_batch *batch; /* NULL: no rows */
    char *records;          /* lines to be decoded; NULL: none */
    int64_t event_us;       /* INT64_MIN: none */
};

/* What one batch of the query wrote. */
struct mr_test_output {
    int64_t batch_id;
    struct mr_test_rows rows;
};

struct mr_test_table {
    const char *name;
    const struct mr_sql_statement *statement; /* NULL: console */
    /* As a source. */
    struct mr_schema *schema; /* of the rows inserted: all columns; NULL: not known yet */
    struct mr_test_input *inputs;
    size_t input_count;
    /* As a sink. */
    struct mr_sink_connector sink; /* with the modes of the connector it stands for */
    struct mr_schema *written;     /* columns; NULL: no query writes it */
    enum mr_output_mode mode;
    struct mr_test_output *outputs;
    size_t output_count;
    size_t asserted_count; /* outputs before the last ASSERT */
    char query_id[64];
    int64_t last_batch_id; /* -1: none */
    char *changed;         /* a batch that was published again had other rows: both; or NULL */
};

extern const struct mr_source_connector mr_testing__source;
void mr_testing__table_init(struct mr_test_table *table, const char *name,
                            const struct mr_sql_statement *statement);
void mr_testing__table_release(struct mr_test_table *table);
/* A step of input; shares batch, copies records. */
enum mr_status mr_testing__table_add(struct mr_test_table *table, const struct mr_test_input *input,
                                     struct mr_error *err);

/* ---- records.c: lines as a table's format reads them ---- */

struct mr_bad_records;
/* bad: what cannot be decoded goes there, unless on_error says that it fails. Returns new. */
enum mr_status mr_testing__decode(const struct mr_test_table *table, const char *records,
                                  const struct mr_schema *schema, enum mr_on_error on_error,
                                  struct mr_bad_records *bad, struct mr_batch **ret_batch,
                                  struct mr_error *err);

/* columns.c: makes the columns known. MR_SQL_ERROR when nothing declares them. */
enum mr_status mr_testing__table_learn(struct mr_test_table *table, struct mr_error *err);
/* Is the key the name of one of the options, or another spelling of it? */
bool mr_testing__option_is_of(const struct mr_option *options, size_t count, const char *key);

/* ---- compare.c: two tables and what tells them apart ---- */

struct mr_test_lines; /* rows as texts, in order */
enum mr_status mr_testing__lines_of(const struct mr_test_rows *rows,
                                    struct mr_test_lines **ret_lines, struct mr_error *err);
void mr_testing__lines_free(struct mr_test_lines *lines); /* NULL allowed */
/* NULL: equal. Else the difference, for people; freed with mr_text_free. */
char *mr_testing__difference(const struct mr_test_lines *have, const struct mr_test_lines *want,
                             bool ordered);
/* The rows of a batch that is published twice. *ret_text NULL: the same; else both tables and their
 * difference, freed with mr_text_free. */
enum mr_status mr_testing__compare_again(const struct mr_test_rows *first,
                                         const struct mr_test_rows *again, char **ret_text,
                                         struct mr_error *err);
/* The newest row of each key, in the order in which they were written. Returns new. */
enum mr_status mr_testing__fold(const struct mr_test_rows *rows, const uint32_t *keys,
                                size_t key_count, struct mr_test_rows *ret_rows,
                                struct mr_error *err);

/* ---- pipeline.c: the life of the query under test ---- */

struct mr_test_pipeline;
struct mr_test_counts {
    int64_t total;
    int64_t updated;
    int64_t dropped;
    int64_t removed;
};
enum { MR_TESTING_OPERATORS_MAX = 32 };

/* script: with the statements that are given; borrowed. */
enum mr_status mr_testing__pipeline_new(const struct mr_sql_script *script,
                                        struct mr_test_pipeline **ret_pipeline,
                                        struct mr_error *err);
void mr_testing__pipeline_free(struct mr_test_pipeline *pipeline); /* NULL allowed */
struct mr_test_table *mr_testing__pipeline_table(struct mr_test_pipeline *pipeline,
                                                 const char *name);
struct mr_test_table *mr_testing__pipeline_table_at(struct mr_test_pipeline *pipeline,
                                                    size_t index); /* NULL past the end */
/* The table whose rows were others when a batch was published again, or NULL. */
struct mr_test_table *mr_testing__pipeline_changed(struct mr_test_pipeline *pipeline);
/* Starts it when it does not run, and processes all there is. */
enum mr_status mr_testing__pipeline_run(struct mr_test_pipeline *pipeline, struct mr_error *err);
/* Runs to the point of a batch and dies there; point NULL: dies now. *ret_reached: it came
 * there. */
enum mr_status mr_testing__pipeline_crash(struct mr_test_pipeline *pipeline, const char *point,
                                          int64_t batch_id, bool kill, bool *ret_reached,
                                          struct mr_error *err);
void mr_testing__pipeline_stop(struct mr_test_pipeline *pipeline); /* the next run starts it */
/* A crash of its own at the nth point that batches come to (from 1 on; 0: none): the run recovers
 * and goes on. How many points there were, and what the crash was: "after 'ran' of batch 3". */
void mr_testing__pipeline_inject(struct mr_test_pipeline *pipeline, uint64_t nth);
uint64_t mr_testing__pipeline_points(const struct mr_test_pipeline *pipeline);
const char *mr_testing__pipeline_injected(const struct mr_test_pipeline *pipeline);
/* From the next start on, restarts keep each source's own watermark (docs/decisions/0044). */
void mr_testing__pipeline_remember(struct mr_test_pipeline *pipeline);
bool mr_testing__pipeline_forgets(const struct mr_test_pipeline *pipeline);
int64_t mr_testing__pipeline_now_us(struct mr_test_pipeline *pipeline);
void mr_testing__pipeline_advance(struct mr_test_pipeline *pipeline, int64_t duration_us);

/* What the batches reported; the sums are taken: they begin again at 0. INT64_MIN: no watermark. */
int64_t mr_testing__pipeline_watermark(const struct mr_test_pipeline *pipeline, bool last_batch);
uint64_t mr_testing__pipeline_take_late(struct mr_test_pipeline *pipeline);
uint64_t mr_testing__pipeline_take_bad(struct mr_test_pipeline *pipeline);
uint64_t mr_testing__pipeline_take_batches(struct mr_test_pipeline *pipeline);
/* Downstream first; returns their number. */
size_t mr_testing__pipeline_take_state(struct mr_test_pipeline *pipeline,
                                       struct mr_test_counts *counts);

/* ---- evaluate.c: rows of a query over the tables of a test, by DuckDB ---- */

/*
 * The rows of a query (VALUES, SELECT) whose tables may be those of the pipeline. columns: what
 * they are cast to, NULL = as they are; names: the columns of `columns` that are given, NULL = all.
 */
struct mr_test_evaluation {
    struct mr_test_pipeline *pipeline;
    struct mr_duck *duck;
    const char *sql;
    size_t sql_size;
    const struct mr_schema *columns;
    const char *const *names;
    size_t name_count;
};
enum mr_status mr_testing__evaluate(const struct mr_test_evaluation *evaluation,
                                    struct mr_schema **ret_schema, struct mr_test_rows *ret_rows,
                                    struct mr_error *err);
/* What a reader of the table sees; keys: only the newest row of each; none: by the PRIMARY KEY of a
 * table that is updated. */
enum mr_status mr_testing__content(const struct mr_test_table *table, enum mr_test_part part,
                                   const char *const *keys, size_t key_count,
                                   struct mr_test_rows *ret_rows, struct mr_error *err);

/* ---- steps.c: one test from its first step to its verdict ---- */

struct mr_test_trial {
    const struct mr_sql_script *script; /* the statements around the tests, with what is given */
    const char *text;                   /* of the files */
    const struct mr_test_block *block;
    struct mr_duck *duck;
    /* A crash of its own at the nth point; counts are not asserted then. 0: none. */
    uint64_t crash_at;
    bool remembers; /* restarts keep each source's own watermark */
};
struct mr_test_result {
    const struct mr_test_step *step; /* the one that failed */
    char *details;                   /* more lines about it, or NULL; freed with mr_text_free */
    uint64_t points;                 /* that batches came to */
    char injected[64];               /* where the crash was */
    bool forgets;                    /* a restart forgets each source's own watermark */
};
/* MR_OK: passed. */
enum mr_status mr_testing__try(const struct mr_test_trial *trial, struct mr_test_result *ret_result,
                               struct mr_error *err);

#endif
