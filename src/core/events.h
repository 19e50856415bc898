/*
 * What a query tells while it runs (dstream.md 14).
 *
 *     SUBMITTED -> STARTED -> { OUTPUT_STARTED -> OUTPUT_COMPLETED }* -> COMPLETED
 *                                      [ -> FAILED, and the outputs again ]
 *
 * for one batch after the other; a batch that a stop or a failure ends has no COMPLETED. An output
 * that had the batch before a crash has no events when it runs again.
 *
 * Thread: the driver; an output's from the thread that publishes it; a receiver's from its own.
 * Never two at once. Everything that an event points to is valid during the call. The listener may
 * call mr_query_stop, mr_query_set_rate and what else is for any thread.
 */
#ifndef MR_CORE_EVENTS_H
#define MR_CORE_EVENTS_H

#include "core/receiver.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_query_event_kind {
    MR_QUERY_BATCH_SUBMITTED, /* its ranges are chosen and in the log */
    MR_QUERY_BATCH_STARTED,
    MR_QUERY_OUTPUT_STARTED, /* of publishing, where functions of programs run */
    MR_QUERY_OUTPUT_COMPLETED,
    MR_QUERY_BATCH_FAILED,    /* this attempt; it is tried again, or the query ends */
    MR_QUERY_BATCH_COMPLETED, /* its commit is durable */
    MR_QUERY_RECEIVER_STARTED,
    MR_QUERY_RECEIVER_ERROR,
    MR_QUERY_RECEIVER_STOPPED, /* this run of it: it may be started again */
};

struct mr_query_event_source {
    const char *name;
    const char *start; /* offsets; NULL = none yet */
    const char *end;
    const char *description; /* "" = nothing to say (LS-3) */
    bool is_absent;          /* no dataset in this batch (DS-2) */
    bool rows_known;         /* before the tasks: only of sources that know without reading */
    uint64_t rows;
    uint64_t bad_rows;
};

struct mr_query_receiver {
    const char *source_name; /* borrowed; lives as long as the query */
    struct mr_receiver_state state;
};

struct mr_query_event {
    enum mr_query_event_kind kind;
    int64_t time_us; /* wall clock */
    /* Of a batch or an output; times by the wall clock, -1 = not yet. */
    uint64_t batch_id;
    uint32_t attempt;
    int64_t batch_time_us;
    /* TICK: when the batch was due, but not before the query ran; else when it was planned */
    int64_t submitted_us;
    int64_t started_us; /* of the first attempt */
    int64_t ended_us;
    uint64_t input_rows;                         /* of the sources that know */
    const struct mr_query_event_source *sources; /* NULL of outputs and receivers */
    size_t source_count;
    /* Of an output. */
    uint32_t output; /* among all outputs, in the order in which they were added */
    const char *output_name;
    int64_t output_started_us;
    int64_t output_ended_us;
    const char *failure; /* of a batch or an output; NULL = none */
    /* Of a receiver. */
    const struct mr_query_receiver *receiver;
};

typedef void (*mr_query_event_fn)(void *arg, const struct mr_query_event *event);

#endif
