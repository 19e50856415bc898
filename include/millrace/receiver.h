/*
 * Receivers of a program: data that comes by itself (dstream.md 8; Spark's custom receivers).
 *
 * on_start starts what receives - usually a thread of its own - and returns; on_stop ends it and
 * returns, when nothing of it uses the handle any more. Both are called again when the receiver
 * restarts (RCV-1). An on_start that fails leaves nothing running: on_stop is not called then, and
 * it is tried again after a delay, which grows while nothing is received (8 times the setting at
 * most).
 *
 *     mr_receiver_put_*      one record; unreliable: it joins the current block (RCV-2, BG-*)
 *     mr_receiver_put_batch  one block; returns when it is stored and, with a checkpoint, in the
 *                            write-ahead log: acknowledge the source then (reliable, RCV-3).
 *                            Threads that do so at the same time share a flush.
 *
 * A put that fails has stored nothing. MR_STOPPED: the context stops, leave; what was stored before
 * is processed by a graceful stop. MR_IO, the log cannot be written, also ends the context.
 *
 * Thread: the store calls and the controls from any thread of the receiver.
 */
#ifndef MILLRACE_RECEIVER_H
#define MILLRACE_RECEIVER_H

#include <millrace/fn.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_context;
struct mr_dstream;
struct mr_receiver_handle;

enum {
    MR_ELEMENT_BYTES_MAX = 64 << 20, /* of one record as it is stored; MR_LIMIT above */
    MR_BLOCK_BYTES_MAX = 512 << 20,  /* of what one put stores; MR_LIMIT above */
};

struct mr_receiver_spec {
    const char *name;    /* "SocketReceiver": with the stream's number in statistics and logs */
    const char *columns; /* "value VARCHAR" */
    enum mr_status (*on_start)(struct mr_receiver_handle *receiver, void *arg,
                               struct mr_error *err);
    void (*on_stop)(struct mr_receiver_handle *receiver, void *arg);
    void *arg;
};
MR_API struct mr_dstream *mr_receiver_stream(struct mr_context *ctx,
                                             const struct mr_receiver_spec *spec);

/* One record, of a stream with one text or integer column. Waits for the rate limit and for
 * room. */
MR_API enum mr_status mr_receiver_put_str(struct mr_receiver_handle *receiver, const char *data,
                                          size_t size_bytes, struct mr_error *err);
MR_API enum mr_status mr_receiver_put_int(struct mr_receiver_handle *receiver, int64_t value,
                                          struct mr_error *err);
/* Any rows of the stream's columns, as above; all of them are in one block (BG-5). */
MR_API enum mr_status mr_receiver_put_rows(struct mr_receiver_handle *receiver,
                                           const struct mr_batch *rows, struct mr_error *err);
/* One block, not rate limited (RCV-2). metadata may be NULL; it goes to the block's information. */
MR_API enum mr_status mr_receiver_put_batch(struct mr_receiver_handle *receiver,
                                            const struct mr_batch *rows, const char *metadata,
                                            struct mr_error *err);

/* RCV-4. restart returns at once; delay_ms below 0 = the setting receiver_restart_delay. stop ends
 * the receiver for good, unlike Spark's (hazard 11). */
MR_API void mr_receiver_report_error(struct mr_receiver_handle *receiver, const char *message);
MR_API void mr_receiver_restart(struct mr_receiver_handle *receiver, const char *message,
                                int64_t delay_ms);
MR_API void mr_receiver_stop(struct mr_receiver_handle *receiver, const char *message);
MR_API bool mr_receiver_is_started(const struct mr_receiver_handle *receiver);
MR_API bool mr_receiver_is_stopped(const struct mr_receiver_handle *receiver);
MR_API uint32_t mr_receiver_stream_id(const struct mr_receiver_handle *receiver);

/* SOCK-2: a TCP client whose bytes a function cuts into records. The function takes whole records
 * from data and says how many bytes they were, 0 = it needs more; is_end: nothing follows. It is
 * called again with what it left. A record that is not whole after MR_ELEMENT_BYTES_MAX bytes ends
 * the connection with an error; a new one is made. */
typedef enum mr_status (*mr_bytes_fn)(const char *data, size_t size_bytes, bool is_end,
                                      size_t *ret_used_bytes, struct mr_emitter *out, void *arg,
                                      struct mr_error *err);
MR_API struct mr_dstream *mr_socket_stream(struct mr_context *ctx, const char *host, int port,
                                           const char *columns, mr_bytes_fn fn, void *arg);
/* RAW-1: frames of a 4-byte big-endian length and that many bytes, each a block of rows as
 * mr_raw_frame makes it. A frame that is no such rows ends the connection with an error. */
MR_API struct mr_dstream *mr_raw_socket_stream(struct mr_context *ctx, const char *host, int port,
                                               const char *columns);
/* The frame of a batch, length included; freed with mr_text_free. NULL without memory. */
MR_API char *mr_raw_frame(const struct mr_batch *batch, size_t *ret_size_bytes);

#ifdef __cplusplus
}
#endif
#endif
