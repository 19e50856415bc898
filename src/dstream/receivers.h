/*
 * Receivers of programs: how their rows travel, and what their files share.
 *
 *   receiver_stream.c   mr_receiver_*: a receiver of the program
 *   receiver_socket.c   mr_socket_stream, mr_raw_socket_stream
 *   receiver_rows.c     rows as bytes: the format of their blocks
 */
#ifndef MR_DSTREAM_RECEIVERS_H
#define MR_DSTREAM_RECEIVERS_H

#include "dstream/streams.h"

#include <millrace/receiver.h>

/* Rows in the value form of the row codec, one behind the other. */
extern const struct mr_format mr__rows_format;

/* Appends all rows of a batch. MR_LIMIT: a row is larger than MR_ELEMENT_BYTES_MAX; MR_CONFIG: its
 * columns are not the stream's. */
enum mr_status mr__rows_encode(struct mr_buf *out, const struct mr_batch *batch,
                               const struct mr_schema *schema, struct mr_error *err);
/* Are these bytes whole rows, and how many? */
enum mr_status mr__rows_check(const struct mr_schema *schema, struct mr_slice data,
                              uint64_t *ret_rows, struct mr_error *err);

/*
 * Frames that a peer sends (RAW-1): u32 big-endian length | rows. Cuts the whole ones off the front
 * of what was received and gives each that is not empty to `store`, checked; *ret_used: their
 * bytes. What they are is the same however the bytes came. Errors name the peer: MR_LIMIT (a frame
 * that is larger than any block), those of mr__rows_check, and store's.
 */
enum { MR_FRAME_HEAD_BYTES = 4 };
typedef enum mr_status (*mr__frame_fn)(void *arg, struct mr_slice rows, uint64_t row_count,
                                       struct mr_error *err);
enum mr_status mr__frames_cut(const struct mr_schema *schema, struct mr_slice received,
                              const char *peer, mr__frame_fn store, void *arg, size_t *ret_used,
                              struct mr_error *err);

/*
 * A stream of rows that a receiver of ours stores. own: found by receiver_open in the stream
 * (args->user); taken, freed with own_free, also on failure.
 */
struct mr_dstream *mr__receiver_stream(struct mr_context *ctx, const char *operation,
                                       const struct mr_source_connector *connector,
                                       const char *columns, void *own, void (*own_free)(void *own));
/* Number among the input streams, in the order in which they were made (CTX-7). */
uint32_t mr__input_id(const struct mr_dstream *stream);

#endif
