/*
 * What watches a context: listeners and their bus, statistics (dstream.md 14, 15.1).
 *
 *     driver, receivers --post--> queue (EVENTS_MAX) --bus thread--> callbacks, one at a time
 *
 * Nothing is dropped: when the queue is full, who posts waits, so a listener that blocks for ever
 * makes the batches wait behind it in the end.  A stop ends that wait (docs/decisions/0016).
 */
#ifndef MR_DSTREAM_MONITOR_H
#define MR_DSTREAM_MONITOR_H

#include "base/limits.h"
#include "dstream/allocation.h"
#include "dstream/rate.h"
#include "env/thread.h"

#include <millrace/listener.h>

#include <stdatomic.h>

enum { MR_LISTENERS_MAX = MR_LIMIT_DSTREAM_LISTENERS, MR_BUS_EVENTS_MAX = MR_LIMIT_DSTREAM_EVENTS };

/* ---- the bus (listener.c) ---- */

struct mr__bus;
enum mr__event_kind {
    MR_EVENT_STREAMING_STARTED,
    MR_EVENT_BATCH_SUBMITTED,
    MR_EVENT_BATCH_STARTED,
    MR_EVENT_BATCH_COMPLETED,
    MR_EVENT_OUTPUT_STARTED,
    MR_EVENT_OUTPUT_COMPLETED,
    MR_EVENT_RECEIVER_STARTED,
    MR_EVENT_RECEIVER_ERROR,
    MR_EVENT_RECEIVER_STOPPED,
};

struct mr__bus *mr__bus_new(void);      /* NULL without memory */
void mr__bus_free(struct mr__bus *bus); /* closes; NULL allowed */
enum mr_status mr__bus_add(struct mr__bus *bus, const struct mr_listener *listener,
                           struct mr_error *err);
/* From now on events are delivered; starts the thread when there is a listener. */
enum mr_status mr__bus_open(struct mr__bus *bus, struct mr_error *err);
/* Waits for the callback that runs and, unless discard, for all events posted before; afterwards
 * nothing is delivered any more. Not from a callback. */
void mr__bus_close(struct mr__bus *bus, bool discard);
/* Wakes those who wait for room; what they post is discarded, and what waits. Any thread. */
void mr__bus_give_up(struct mr__bus *bus);
/* Has it anybody to tell? Else posting does nothing. */
bool mr__bus_has_listeners(struct mr__bus *bus);
/* All copy what they are given. */
void mr__bus_post_started(struct mr__bus *bus, int64_t time_ms);
void mr__bus_post_batch(struct mr__bus *bus, enum mr__event_kind kind,
                        const struct mr_batch_report *report);
void mr__bus_post_output(struct mr__bus *bus, enum mr__event_kind kind, int64_t batch_time_ms,
                         const struct mr_output_info *output);
void mr__bus_post_receiver(struct mr__bus *bus, enum mr__event_kind kind,
                           const struct mr_receiver_report *receiver);
/* Is the calling thread inside a callback? */
bool mr__inside_listener(void);

/* ---- statistics (statistics.c) ---- */

/* The state of things, batch by batch. No lock of its own. */
void mr__statistics_init(struct mr_statistics *statistics, int64_t interval_ms);
void mr__statistics_submitted(struct mr_statistics *statistics,
                              const struct mr_batch_report *report);
void mr__statistics_started(struct mr_statistics *statistics, const struct mr_batch_report *report);
/* The batch was committed. */
void mr__statistics_completed(struct mr_statistics *statistics,
                              const struct mr_batch_report *report);
/* It failed for good. */
void mr__statistics_failed(struct mr_statistics *statistics);

/* The figures behind mr_context_add_stats_report; add is a callback of a listener. */
struct mr__stats_report;
struct mr__stats_report *mr__stats_report_new(uint32_t batch_count); /* NULL without memory */
void mr__stats_report_free(struct mr__stats_report *stats);
void mr__stats_report_add(void *arg, const struct mr_batch_report *batch);

/* ---- all of it (watch.c, events.c, control.c) ---- */

struct mr_context;
struct mr_query_event;
struct mr_query_receiver;

/* An input as it is watched. */
struct mr__watched_input {
    const char *source; /* of the kernel; NULL = no output needs it */
    char *name;         /* "Socket stream [0]" */
    bool is_receiver;
    char *receiver_name; /* "SocketReceiver-0" */
    bool is_controlled;  /* backpressure limits it */
    struct mr__pid pid;
};

struct mr__watch {
    struct mr__bus *bus;
    struct mr__stats_report *stats_reports[MR_LISTENERS_MAX];
    size_t stats_report_count;
    atomic_bool stop_at_once; /* the setting stop_gracefully is off */
    atomic_int stop_soon;     /* mr_context_stop_soon: 0 = not asked, 1 = gracefully, 2 = at once */

    /* Made at start, then read-only. */
    struct mr__watched_input *inputs; /* by stream id */
    size_t input_count;
    bool is_backpressure_on;
    bool is_allocation_on;

    /* Of the batch that runs; belongs to the kernel's events, which come one at a time. */
    struct mr_batch_report batch;
    struct mr_input_info *input_infos;
    struct mr_output_info *output_infos; /* by registration */
    uint64_t counted_records;            /* added to received_records so far */
    bool is_running;                     /* started, and neither committed nor given up */
    char *failure;                       /* of its last attempt */
    struct mr__allocation allocation;
    bool are_rates_new; /* since they were saved, at rates_saved_ms */
    int64_t rates_saved_ms;

    struct mr_mutex lock; /* guards: */
    struct mr_statistics statistics;
};
struct mr__watch *mr__watch_new(void); /* NULL without memory */
void mr__watch_free(struct mr__watch *watch);
/* Before the query opens: what is watched of it. After it opened: events flow. When it is closed:
 * nothing is delivered any more. */
enum mr_status mr__watch_prepare(struct mr_context *ctx, struct mr_error *err);
enum mr_status mr__watch_open(struct mr_context *ctx, struct mr_error *err);
void mr__watch_close(struct mr_context *ctx);

/* What the kernel knows of a receiver, for programs. */
void mr__watch_receiver(const struct mr__watch *watch, const struct mr_query_receiver *receiver,
                        struct mr_receiver_report *ret_report);

/* events.c: what the kernel tells (mr_query_config.on_event); arg is the context. */
void mr__watch_event(void *arg, const struct mr_query_event *event);
/* The batch that runs will not be done: its end is told. */
void mr__watch_give_up(struct mr_context *ctx);

/* control.c: settings of backpressure and allocation; the first limits; a batch was committed.
 * is_smooth: no attempt of it failed. */
enum mr_status mr__control_prepare(struct mr_context *ctx, struct mr_error *err);
void mr__control_open(struct mr_context *ctx);
void mr__control_close(struct mr_context *ctx); /* while the query is still open */
void mr__control_batch(struct mr_context *ctx, const struct mr_batch_report *batch, bool is_smooth);
/* rates.c: beside the checkpoint, for the next run. */
void mr__rates_save(struct mr_context *ctx);
void mr__rates_load(struct mr_context *ctx);

#endif
