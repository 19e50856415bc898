/*
 * `millrace test`: the TEST blocks of a pipeline, run without services.
 *
 *     q.sql, q.test.sql --load--> blocks --parse--> steps --run--> verdicts --> TAP, JUnit XML
 *
 * Each test has a pipeline of its own: every table is one in memory, the disk and the clock are
 * simulated (env/sim.h), the checkpoint is real. docs/testing.md is the guide.
 *
 * Thread: one.
 */
#ifndef MR_TESTING_TESTING_H
#define MR_TESTING_TESTING_H

#include "base/buf.h"
#include "sql/script.h"

struct mr_testing_verdict {
    const char *file;
    const char *title;
    uint32_t line; /* of the test; of the step that failed */
    bool passed;
    char *message; /* NULL when passed: what was wrong, one line */
    char *details; /* more lines, or NULL: the difference of two tables */
    char *note;    /* of a test that passed: what a crash changes all the same; or NULL */
    int64_t duration_us;
};

struct mr_testing_report {
    struct mr_testing_verdict *verdicts;
    size_t count;
    size_t failed_count;
};

/* A mistake in a file: where it is. */
struct mr_testing_place {
    char file[400];
    char line_text[400]; /* the line itself, cut when long */
};

struct mr_testing_choice {
    const char *filter; /* only tests whose title holds it; NULL: all */
    /* run each test again for every step of every batch, with a crash there */
    bool crash_everywhere;
};

/*
 * Runs the tests of `path` and of the file beside it (q.sql: q.test.sql), and adds their verdicts
 * to the report. A test that fails is a verdict; an error is a file that cannot be read or
 * understood: MR_USAGE, MR_SQL_ERROR with its place.
 */
enum mr_status mr_testing_run(const char *path, const struct mr_testing_choice *choice,
                              struct mr_testing_report *report, struct mr_testing_place *ret_place,
                              struct mr_error *err);
void mr_testing_report_release(struct mr_testing_report *report);

/* TAP version 14 and JUnit XML of a report. */
void mr_testing_tap(const struct mr_testing_report *report, struct mr_buf *out);
void mr_testing_junit(const struct mr_testing_report *report, struct mr_buf *out);

/* Are the TEST blocks of a script well formed? MR_SQL_ERROR with line and column. */
enum mr_status mr_testing_check(struct mr_sql_script *script, struct mr_error *err);

#endif
