/*
 * Events of a stream context (dstream.md 14).
 *
 * Delivered one at a time on a thread of their own, in order: for each batch submitted < started <
 * (output started i < output completed i) ... < completed, batches in the order of their times. An
 * output that fails runs again with its batch, and starts again then. A batch that is submitted
 * late, because the one before took longer than the interval, has the time at which it was due as
 * its submission.
 *
 * Nothing is dropped: a callback that takes its time lets up to 1000 events wait, then the batches.
 * Nothing is delivered after the stop, and an immediate stop discards what waits.
 * mr_context_stop inside a callback is refused with an error in the log (LS, CTX-10): it would wait
 * for itself; mr_context_stop_soon is not.
 *
 * Texts and arrays are valid during the call. Times are milliseconds since the epoch; -1 = not yet.
 */
#ifndef MILLRACE_LISTENER_H
#define MILLRACE_LISTENER_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_context;

struct mr_input_info {
    uint32_t stream_id;      /* of input streams, in the order in which they were made (CTX-7) */
    const char *stream_name; /* "Socket stream [0]" */
    uint64_t record_count;   /* before the batch is done: 0 when only reading tells (files) */
    const char *description; /* files, offset ranges; "" = none (LS-3) */
};

struct mr_output_info {
    uint32_t id; /* registration order; stable over batches (hazard 20) */
    const char *name;
    const char *description; /* its stream: "words.c:7: map 'x'", or the name */
    int64_t started_ms;
    int64_t ended_ms;
    const char *failure; /* NULL: none */
};

struct mr_batch_report {
    int64_t batch_time_ms;
    uint64_t batch_id;
    int64_t submitted_ms;
    int64_t processing_started_ms;
    int64_t processing_ended_ms;
    int64_t scheduling_delay_ms; /* started - submitted; -1 = not yet */
    int64_t processing_delay_ms;
    int64_t total_delay_ms; /* ended - submitted, everywhere (hazard 17) */
    uint64_t record_count;
    const struct mr_input_info *inputs;
    size_t input_count;
    const struct mr_output_info *outputs; /* those of this batch */
    size_t output_count;
    /* Completed only: the batch failed for good, nothing of it is committed, and the context stops
     * (docs/decisions/0006); NULL: it is committed. */
    const char *failure;
};

enum { MR_RECEIVER_MESSAGE_BYTES = 480 };
struct mr_receiver_report {
    uint32_t stream_id;
    const char *name; /* "SocketReceiver-0"; lives as long as the context */
    bool active;
    char last_error_message[MR_RECEIVER_MESSAGE_BYTES]; /* "" = none */
    int64_t last_error_ms;                              /* -1 = none */
    uint64_t record_count;                              /* received so far */
    uint64_t byte_count;
    uint64_t restart_count;
    int64_t rate_limit; /* records a second now; 0 = none */
};

/* Any callback may be NULL. */
struct mr_listener {
    size_t struct_size;
    void (*streaming_started)(void *arg, int64_t time_ms);
    void (*batch_submitted)(void *arg, const struct mr_batch_report *batch);
    void (*batch_started)(void *arg, const struct mr_batch_report *batch);
    void (*batch_completed)(void *arg, const struct mr_batch_report *batch);
    void (*output_started)(void *arg, int64_t batch_time_ms, const struct mr_output_info *output);
    void (*output_completed)(void *arg, int64_t batch_time_ms, const struct mr_output_info *output);
    void (*receiver_started)(void *arg, const struct mr_receiver_report *receiver);
    void (*receiver_error)(void *arg, const struct mr_receiver_report *receiver);
    void (*receiver_stopped)(void *arg, const struct mr_receiver_report *receiver);
    void *arg;
};
/* Copies listener. Before or after start; any thread. */
MR_API void mr_context_add_listener(struct mr_context *ctx, const struct mr_listener *listener);
/* LS-4: after each batch, on standard error, the distributions of delays over the last batches. */
MR_API void mr_context_add_stats_report(struct mr_context *ctx, uint32_t batch_count);

/* The state of things (15.1). Any thread. */
struct mr_statistics {
    int64_t started_ms; /* -1 = not started */
    int64_t interval_ms;
    uint32_t waiting_batches;
    uint32_t running_batches;
    uint64_t completed_batches;
    uint64_t received_records;  /* of batches that started */
    uint64_t processed_records; /* of batches that completed */
    uint32_t receiver_count;
    uint32_t active_receivers;
    int64_t last_scheduling_delay_ms; /* -1 = no batch yet */
    int64_t last_processing_delay_ms;
    int64_t last_total_delay_ms;
};
MR_API void mr_context_statistics(struct mr_context *ctx, struct mr_statistics *ret_statistics);
/* False past the end, and while the context is not active. */
MR_API bool mr_context_receiver(struct mr_context *ctx, uint32_t index,
                                struct mr_receiver_report *ret_report);

#ifdef __cplusplus
}
#endif
#endif
