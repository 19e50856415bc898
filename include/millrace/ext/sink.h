/*
 * What an implementer of a sink needs.
 *
 * Per batch: begin(N) -> write(partition, batch)... -> stage -> publish(N) (abort instead, when the
 * batch fails)
 *
 * After stage everything written is durable but invisible; publish makes batch N visible in one
 * step (or in steps that a second publish of the same N completes: same names, same bytes) and is
 * asked again after a crash. A sink that cannot recognise (query, N) is labelled at-least-once and
 * the log says so when it is opened.
 */
#ifndef MILLRACE_EXT_SINK_H
#define MILLRACE_EXT_SINK_H

#include <millrace/batch.h>
#include <millrace/ext/env.h>
#include <millrace/ext/format.h>
#include <millrace/ext/options.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mr_output_mode { MR_MODE_APPEND, MR_MODE_UPDATE, MR_MODE_COMPLETE };
enum mr_guarantee { MR_AT_LEAST_ONCE, MR_EXACTLY_ONCE };

struct mr_sink_args {
    struct mr_env *env;
    const char *name;               /* table name */
    const char *query_id;           /* UUID text of the checkpoint: identity for (query, N) */
    const struct mr_schema *schema; /* rows that will be written */
    const struct mr_options *options;
    const struct mr_format *format; /* NULL when the connector takes none */
    enum mr_output_mode mode;
    bool ephemeral; /* no durable checkpoint: query_id is new each run */
    /* for sinks that a front end makes itself (print, foreach_rdd) */
    void *user;
};

struct mr_sink; /* the implementer's object */

struct mr_sink_batch {
    uint64_t batch_id;
    uint32_t attempt;
    int64_t batch_time_us;
    /* of the sink's input in this batch, those without rows too; write is called with
     * 0 .. partition_count - 1 */
    uint32_t partition_count;
};

struct mr_sink_ops {
    size_t struct_size;
    /* Highest batch that is known to be published by this query, or -1. Thread: driver, once after
     * open. */
    enum mr_status (*last_published)(struct mr_sink *sink, int64_t *ret_batch_id,
                                     struct mr_error *err);
    enum mr_status (*begin)(struct mr_sink *sink, const struct mr_sink_batch *info,
                            struct mr_error *err);
    /*
     * Rows of one partition, in order. Thread: when concurrent, any worker, one thread per
     * partition at a time; else the driver, partition after partition.
     */
    enum mr_status (*write)(struct mr_sink *sink, uint32_t partition, const struct mr_batch *batch,
                            struct mr_error *err);
    enum mr_status (*stage)(struct mr_sink *sink, struct mr_error *err);
    /* Thread: the driver, or one that it waits for (mr_query_config.concurrent_outputs).
     * *ret_receipt (may stay NULL): small text for the COMMIT record; freed with mr_text_free. */
    enum mr_status (*publish)(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                              struct mr_error *err);
    void (*abort)(struct mr_sink *sink); /* drops what begin .. stage made */
    void (*close)(struct mr_sink *sink); /* NULL allowed */
    bool concurrent;
};

struct mr_sink_connector {
    size_t struct_size;
    const char *name;
    const char *summary;
    enum mr_guarantee guarantee;
    const struct mr_option *options;
    size_t option_count;
    bool takes_format;
    const char *default_format;
    unsigned modes; /* bit 1 << mode for each enum mr_output_mode it takes */
    enum mr_status (*open)(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                           struct mr_error *err);
    const struct mr_sink_ops *ops;
    /* the format carries only some of the columns: open asks format->check, not the front end */
    bool checks_columns;
};

MR_API void mr_sink_register(const struct mr_sink_connector *connector);
MR_API const struct mr_sink_connector *mr_sink_find(const char *name);
MR_API const struct mr_sink_connector *mr_sink_at(size_t index);

#ifdef __cplusplus
}
#endif
#endif
