/*
 * Connectors without a query: a source that is planned and read by hand, a sink that is taken
 * through its batches by hand.
 *
 *     rows are written with ';' between rows and '|' between fields:   "1|a;2|null"
 *     options as they stand in WITH, '\n' between pairs:   "path=/tmp/in\nmax_files_per_trigger=1"
 *
 * Failures of the harness itself fail the test. Everything is freed by plug_source_stop and
 * plug_sink_close.
 */
#ifndef MR_TESTS_SUPPORT_PLUGIN_HARNESS_H
#define MR_TESTS_SUPPORT_PLUGIN_HARNESS_H

#include "base/buf.h"
#include "state/state.h"
#include "support/test.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

struct plug_source {
    const struct mr_source_connector *connector;
    const struct mr_format *format;
    struct mr_options *options;
    struct mr_schema *declared;
    struct mr_state *state;
    struct mr_kv *kv;
    struct mr_source *object;
    struct mr_source_args args;
    struct mr_buf rows; /* of the last plug_read */
    uint32_t partitions;
    uint64_t bad_count;
    char *bad_position; /* of the last bad record, or NULL */
};

/* What may differ from a plain source; zeros are the standard. */
struct plug_source_spec {
    const char *connector;
    const char *options;
    const char *columns; /* NULL: the connector's or the format's own */
    const char *produce; /* columns to produce, NULL: all */
    const char *format;  /* NULL: the connector's standard one, if it takes a format */
    enum mr_on_error on_error;
    bool until_caught_up;
    struct mr_env *env; /* NULL: POSIX */
    struct mr_kv *kv;   /* NULL: one of its own */
    void *user;
};

/* The status of open; the source is usable when MR_OK. */
enum mr_status plug_source_try(struct plug_source *src, const struct plug_source_spec *spec,
                               struct mr_error *err);
/* Fails the test when it cannot be opened. */
void plug_source_open(struct plug_source *src, const struct plug_source_spec *spec);
void plug_source_stop(struct plug_source *src);

/* The end offset, or NULL = nothing new; freed with mr_text_free. Limits apply. */
char *plug_plan(struct plug_source *src, const char *start);
/* All rows of the range, partition after partition; lives until the next read. */
const char *plug_read(struct plug_source *src, const char *start, const char *end);
enum mr_status plug_read_try(struct plug_source *src, const char *start, const char *end,
                             struct mr_error *err);
void plug_remember(struct plug_source *src, const char *start, const char *end);

/* Appends the rows of a batch to out, in the form above. */
void plug_print(struct mr_buf *out, const struct mr_batch *batch);
/* A batch of BIGINT, DOUBLE, BOOLEAN and VARCHAR columns from the form above. */
struct mr_batch *plug_batch(const char *columns, const char *rows);

struct plug_sink {
    const struct mr_sink_connector *connector;
    const struct mr_format *format;
    struct mr_options *options;
    struct mr_schema *schema;
    struct mr_sink *object;
};

struct plug_sink_spec {
    const char *connector;
    const char *options;
    const char *columns;
    const char *format;
    const char *name;     /* NULL: "out" */
    const char *query_id; /* NULL: "q1" */
    enum mr_output_mode mode;
    bool ephemeral;
    struct mr_env *env;
    void *user;
};

enum mr_status plug_sink_try(struct plug_sink *sink, const struct plug_sink_spec *spec,
                             struct mr_error *err);
void plug_sink_open(struct plug_sink *sink, const struct plug_sink_spec *spec);
void plug_sink_close(struct plug_sink *sink);
int64_t plug_last_published(struct plug_sink *sink);

/* begin, write (rows[i] is partition i; NULL or "" writes nothing), stage. */
enum mr_status plug_stage(struct plug_sink *sink, uint64_t batch_id, const char *const *rows,
                          uint32_t partition_count, struct mr_error *err);
/* All of a batch; fails the test when a step fails. */
void plug_batch_out(struct plug_sink *sink, uint64_t batch_id, const char *const *rows,
                    uint32_t partition_count);

/* Small files for the tests: whole, and their content. */
void plug_write_file(const char *path, const char *text);
char *plug_read_file(const char *path); /* freed with mr_text_free; NULL = no such file */
/* Names in a directory that do not begin with '.', sorted, ' ' between; freed with mr_text_free. */
char *plug_ls(const char *path);

#endif
