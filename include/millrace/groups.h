/*
 * State of your own: C functions over the rows of one key of a stream, with state that is kept
 * between batches, timeouts and timers.
 *
 *     map_groups_with_state       one row out of each call
 *     flat_map_groups_with_state  any number
 *     transform_with_state        named variables (value, list, map), lifetimes, many timers a key
 *
 * A function is called once for each key that has rows in the batch, with all of them, and once
 * more when a timeout or timer of a key is due. What it changes becomes part of the batch: after a
 * crash the batch runs again from the state before it.
 *
 * Columns of state and output are declared as text, as in CREATE TABLE: "count BIGINT, last
 * TIMESTAMP". Times are milliseconds since the epoch. The time of a batch is the batch's own, the
 * same when it runs again; functions must not look at the clock.
 *
 * Mistakes (a timeout of the wrong kind, half a row) stick: the call fails, and the batch with it
 * (MR_USER, with the key and what to do). mr_emit_fail fails a call on purpose.
 *
 * Thread: functions run on several threads at once, for different keys: they must not change what
 * arg points to without a lock of their own.
 */
#ifndef MILLRACE_GROUPS_H
#define MILLRACE_GROUPS_H

#include <millrace/ext/sink.h>
#include <millrace/fn.h>
#include <millrace/sql.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- map_groups_with_state, flat_map_groups_with_state ---- */

enum mr_group_timeout {
    MR_TIMEOUT_NONE,
    MR_TIMEOUT_PROCESSING_TIME, /* after a duration of batch time */
    MR_TIMEOUT_EVENT_TIME       /* when the watermark has passed a time */
};

struct mr_group_state; /* of the key at hand; valid during the call */

struct mr_group_call {
    const struct mr_row *key; /* the key columns */
    /* its rows in this batch, all columns (mr_rows_next); none when it timed out, or when it only
     * has an initial state */
    struct mr_rows *values;
    struct mr_group_state *state;
};
/* Emits rows of the output columns; map: exactly one. */
typedef void (*mr_group_fn)(const struct mr_group_call *call, struct mr_emitter *out, void *arg);

struct mr_groups_spec {
    const char *name; /* of the state in the checkpoint; NULL: made from that of the input */
    mr_group_fn call;
    void *arg;
    const char *state;  /* columns of one key's state: "count BIGINT, last TIMESTAMP" */
    const char *output; /* columns of the result */
    enum mr_group_timeout timeout;
    /* flat_map: what its rows mean. MR_MODE_APPEND: final rows; MR_MODE_UPDATE: newer rows of a
     * key replace older ones. map: always update. */
    enum mr_output_mode mode;
    /*
     * State from before the first batch: key columns, then state columns, one row a key; NULL:
     * none. Used in the first batch of a checkpoint only; each of its keys is then called once,
     * with or without rows. Shared until the frame is freed.
     */
    const struct mr_batch *initial_state;
};

MR_API bool mr_group_exists(const struct mr_group_state *state);
/* The state, one row. A mistake when there is none: NULL. Valid until it is changed. */
MR_API const struct mr_row *mr_group_get(struct mr_group_state *state);
/* The same; NULL when there is none. */
MR_API const struct mr_row *mr_group_find(struct mr_group_state *state);
/* Emit the new state, one row, into the result before the next call on this state. A row of nothing
 * but nulls is a mistake: remove the state. */
MR_API struct mr_emitter *mr_group_update(struct mr_group_state *state);
MR_API void mr_group_update_int(struct mr_group_state *state, int64_t value);
MR_API void mr_group_remove(
    struct mr_group_state *state); /* again, or updating after it: allowed */
MR_API bool mr_group_timed_out(const struct mr_group_state *state);

/*
 * Timeouts are forgotten by each call and must be set again to go on. A key without state may have
 * one. It fires in the first batch whose time (or watermark) is later than it, once, and never in a
 * batch in which the key has rows. False: refused, which is a mistake.
 *
 * duration: processing time only, above 0; text: "90 seconds", "1 hour 30 minutes" (a month has 31
 * days). timestamp: event time only, above 0 and not before the watermark; the second form adds a
 * duration of at least 0.
 */
MR_API bool mr_group_set_timeout_duration(struct mr_group_state *state, int64_t duration_ms);
MR_API bool mr_group_set_timeout_duration_text(struct mr_group_state *state, const char *duration);
MR_API bool mr_group_set_timeout_timestamp(struct mr_group_state *state, int64_t timestamp_ms);
MR_API bool mr_group_set_timeout_timestamp_text(struct mr_group_state *state, int64_t timestamp_ms,
                                                const char *duration);
MR_API int64_t mr_group_batch_time_ms(const struct mr_group_state *state);
/* In force in this batch; 0 while no row has moved it. A mistake (-1) when the stream has none. */
MR_API int64_t mr_group_watermark_ms(struct mr_group_state *state);

/*
 * Frames of the results. keys: names of columns with commas, "city" or "city, user_id". The spec is
 * copied, texts too. Queries that read them: map_groups and MR_MODE_UPDATE need output mode update,
 * MR_MODE_APPEND needs append (docs/structured.md has the rules). Mistakes stick to the frame.
 */
#define mr_frame_map_groups_with_state(frame, keys, spec)                                          \
    mr_frame_map_groups_with_state_at((frame), (keys), (spec), MR_HERE)
MR_API struct mr_frame *mr_frame_map_groups_with_state_at(struct mr_frame *frame, const char *keys,
                                                          const struct mr_groups_spec *spec,
                                                          const char *file, int line);
#define mr_frame_flat_map_groups_with_state(frame, keys, spec)                                     \
    mr_frame_flat_map_groups_with_state_at((frame), (keys), (spec), MR_HERE)
MR_API struct mr_frame *mr_frame_flat_map_groups_with_state_at(struct mr_frame *frame,
                                                               const char *keys,
                                                               const struct mr_groups_spec *spec,
                                                               const char *file, int line);

/* ---- transform_with_state ---- */

enum mr_time_mode { MR_TIME_MODE_NONE, MR_TIME_MODE_PROCESSING, MR_TIME_MODE_EVENT };
enum mr_state_kind { MR_STATE_VALUE, MR_STATE_LIST, MR_STATE_MAP };

/*
 * A variable of each key. Functions name it by its index in the list; in the checkpoint it is found
 * by its name: variables may be added, left out (its state is deleted then) and put in another
 * order; other columns or another kind are refused. A list or map of one key is one record of the
 * state (at most 16 MiB).
 */
struct mr_state_variable {
    const char *name; /* letters, digits, '_' */
    enum mr_state_kind kind;
    const char *columns;    /* of a value, an element, an entry: "count BIGINT" */
    const char *key_column; /* MR_STATE_MAP: type of its keys, "VARCHAR"; else NULL */
    /* A value (element, entry) is gone that long after it was written, by batch time; 0 = never.
     * MR_TIME_MODE_PROCESSING only. */
    int64_t ttl_ms;
};

struct mr_transform; /* what a call may use; valid during the call */

/* All but rows may be NULL. Each emits any number of rows of the output columns. */
struct mr_processor {
    /* On the driver: before the first batch, and when the query ends. */
    enum mr_status (*init)(void *arg, struct mr_error *err);
    void (*close)(void *arg);
    /* all rows of a key in this batch */
    void (*rows)(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                 struct mr_emitter *out, void *arg);
    /* expiry_ms: the timer that is due; it is deleted after the call */
    void (*timer)(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                  struct mr_emitter *out, void *arg);
    /* before anything else of the first batch, for each row of the initial state; emits nothing */
    void (*initial)(struct mr_transform *at, const struct mr_row *key, const struct mr_row *row,
                    void *arg);
};

struct mr_transform_spec {
    const char *name; /* of the state in the checkpoint; NULL: made from that of the input */
    const struct mr_processor *processor; /* shared until the frame is freed */
    void *arg;
    const struct mr_state_variable *variables;
    size_t variable_count;
    const char *output; /* columns of the result */
    enum mr_time_mode time_mode;
    enum mr_output_mode mode;             /* of the query that reads it */
    const struct mr_batch *initial_state; /* key columns first; NULL: none; shared */
    /* MR_TIME_MODE_EVENT: output column that is the event time of what comes behind; emitting rows
     * at or before the late watermark is a mistake. NULL: none. */
    const char *event_time;
};

/* The frame of the results; see mr_frame_map_groups_with_state. The processor is not copied. Its
 * output mode must be the query's. */
#define mr_frame_transform_with_state(frame, keys, spec)                                           \
    mr_frame_transform_with_state_at((frame), (keys), (spec), MR_HERE)
MR_API struct mr_frame *mr_frame_transform_with_state_at(struct mr_frame *frame, const char *keys,
                                                         const struct mr_transform_spec *spec,
                                                         const char *file, int line);

/*
 * Value. get: one row, NULL when there is none; valid until the variable is changed. update: emit
 * one row into the result before the next call on this variable, not nothing but nulls.
 */
MR_API bool mr_value_state_exists(struct mr_transform *at, size_t variable);
MR_API const struct mr_row *mr_value_state_get(struct mr_transform *at, size_t variable);
MR_API struct mr_emitter *mr_value_state_update(struct mr_transform *at, size_t variable);
MR_API void mr_value_state_update_int(struct mr_transform *at, size_t variable, int64_t value);
MR_API void mr_value_state_clear(struct mr_transform *at, size_t variable);

/* List. put replaces it; put and append: emit at least one row into the result before the next call
 * on this variable. item: NULL past the end. */
MR_API int64_t mr_list_state_count(struct mr_transform *at, size_t variable);
MR_API const struct mr_row *mr_list_state_item(struct mr_transform *at, size_t variable,
                                               int64_t item);
MR_API struct mr_emitter *mr_list_state_put(struct mr_transform *at, size_t variable);
MR_API struct mr_emitter *mr_list_state_append(struct mr_transform *at, size_t variable);
MR_API void mr_list_state_clear(struct mr_transform *at, size_t variable);

/* A key of a map: any integer, date or timestamp; text or bytes; or a value of the key's type.
 * Nulls are a mistake. */
enum mr_map_key_kind { MR_MAP_KEY_INT, MR_MAP_KEY_TEXT, MR_MAP_KEY_VALUE };
struct mr_map_key {
    enum mr_map_key_kind kind;
    int64_t number;
    const char *data; /* borrowed */
    size_t size_bytes;
    struct mr_value value;
};
static inline struct mr_map_key mr_map_key_int(int64_t number)
{
    struct mr_map_key key = {MR_MAP_KEY_INT, number, NULL, 0, {NULL, 0}};
    return key;
}
static inline struct mr_map_key mr_map_key_text(const char *data, size_t size_bytes)
{
    struct mr_map_key key = {MR_MAP_KEY_TEXT, 0, data, size_bytes, {NULL, 0}};
    return key;
}
static inline struct mr_map_key mr_map_key_value(struct mr_value value)
{
    struct mr_map_key key = {MR_MAP_KEY_VALUE, 0, NULL, 0, value};
    return key;
}

/* Map. Entries are in the order of their keys; key_at and value_at: NULL past the end. */
MR_API bool mr_map_state_contains(struct mr_transform *at, size_t variable, struct mr_map_key key);
MR_API const struct mr_row *mr_map_state_get(struct mr_transform *at, size_t variable,
                                             struct mr_map_key key);
MR_API struct mr_emitter *mr_map_state_update(struct mr_transform *at, size_t variable,
                                              struct mr_map_key key);
MR_API void mr_map_state_remove(struct mr_transform *at, size_t variable, struct mr_map_key key);
MR_API int64_t mr_map_state_count(struct mr_transform *at, size_t variable);
MR_API const struct mr_row *mr_map_state_key_at(struct mr_transform *at, size_t variable,
                                                int64_t entry);
MR_API const struct mr_row *mr_map_state_value_at(struct mr_transform *at, size_t variable,
                                                  int64_t entry);
MR_API void mr_map_state_clear(struct mr_transform *at, size_t variable);

/*
 * Timers of the key at hand, any number; the same time twice is one timer. One is due when the time
 * of the batch (or the watermark) has reached it; all rows of the batch come first, then timers in
 * the order of their times. What a call registers fires in a later batch.
 */
MR_API bool mr_timer_register(struct mr_transform *at, int64_t expiry_ms);
MR_API bool mr_timer_delete(struct mr_transform *at, int64_t expiry_ms);
MR_API size_t mr_timer_count(struct mr_transform *at);
MR_API int64_t mr_timer_at(struct mr_transform *at, size_t index); /* ascending; -1 past the end */

MR_API int64_t mr_transform_batch_time_ms(const struct mr_transform *at);
/* In force in this batch; 0 while no row has moved it. -1: MR_TIME_MODE_EVENT is not on. */
MR_API int64_t mr_transform_watermark_ms(const struct mr_transform *at);
MR_API uint64_t mr_transform_batch_id(const struct mr_transform *at);

#ifdef __cplusplus
}
#endif
#endif
