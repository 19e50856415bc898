/*
 * What an implementer of a source needs (architecture: "every input is a replayable source with
 * offsets").
 *
 * An offset is opaque to the kernel: a text that the source makes, is stored in PLAN records and
 * handed back. The same range must always give the same rows, or the error MR_DATA_LOSS /
 * MR_SOURCE_CHANGED.
 *
 * Life:  open -> (start_at) -> { latest/plan -> split -> read... -> committed }* -> stop
 */
#ifndef MILLRACE_EXT_SOURCE_H
#define MILLRACE_EXT_SOURCE_H

#include <millrace/batch.h>
#include <millrace/ext/env.h>
#include <millrace/ext/format.h>
#include <millrace/ext/options.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A small key/value store of the source's own, versioned with the batches (a file source's
 * seen-set). Driver thread. */
struct mr_kv;
/* borrowed until next put */
MR_API bool mr_kv_get(struct mr_kv *kv, struct mr_slice key, struct mr_slice *ret_value);
MR_API enum mr_status mr_kv_put(struct mr_kv *kv, struct mr_slice key, struct mr_slice value,
                                struct mr_error *err);
MR_API enum mr_status mr_kv_delete(struct mr_kv *kv, struct mr_slice key, struct mr_error *err);
/* Visits all pairs in no order; return false to stop. The store must not change meanwhile. */
MR_API void mr_kv_scan(struct mr_kv *kv,
                       bool (*visit)(struct mr_slice key, struct mr_slice value, void *arg),
                       void *arg);

/* A log line with the plug-in's name: level 'E', 'W', 'I' or 'D'. Any thread. */
MR_API void mr_ext_log(char level, const char *who, const char *format, ...) MR_PRINTF(3, 4);

struct mr_source_args {
    struct mr_env *env;
    const char *name;                 /* table name: identity of the source in the checkpoint */
    const struct mr_schema *declared; /* columns of CREATE TABLE; NULL when none were declared */
    /* columns to produce: subset of the full schema in its order */
    const struct mr_schema *schema;
    const struct mr_options *options; /* parsed against the connector's and the format's tables */
    const struct mr_format *format;   /* NULL when the connector takes none */
    enum mr_on_error on_error;
    struct mr_kv *kv;     /* its store; NULL when the query has no state (check only) */
    uint64_t seed;        /* per checkpoint, for generators */
    bool until_caught_up; /* freeze the end at start (Trigger.AvailableNow) */
    void *user;           /* for sources that a front end makes itself (queue stream) */
};

/* Limits of one batch; 0 = none. once: ignore the source's own limits (Trigger.Once). */
struct mr_plan_limits {
    bool ignore;
    /* of the batch being planned: sources that choose by time (DStream files) */
    int64_t batch_time_us;
    /* records a second that the source should not exceed (backpressure); 0 = none */
    int64_t records_max_rate;
    /* about how many bytes of input the memory has room for in a batch; 0 = enough. A source stops
     * before it when it knows its sizes (a first unit that is larger goes alone), else by a guess
     * of its records. */
    uint64_t bytes_max;
};

/* Numbers for progress. */
struct mr_source_stats {
    char *latest_offset; /* text, or NULL; freed with mr_text_free by the kernel */
    int64_t rows_behind; /* -1 = unknown */
    /* Time of the newest record up to end, microseconds since the epoch; the kernel sets INT64_MIN
     * = unknown before it asks. */
    int64_t newest_us;
};

struct mr_source; /* the implementer's object */
struct mr_reader; /* one partition of one range being read */

struct mr_source_ops {
    size_t struct_size;
    /*
     * Chooses the end offset of the next batch. start: offset text of the last planned batch's end,
     * NULL for the very first. *ret_end NULL = nothing new (and start stays). It may return an end
     * equal to start. *ret_end is freed with mr_text_free. Thread: driver. Must not wait for data
     * longer than a few ms once connected. Errors: retriable (MR_UNAVAILABLE) are tried again by
     * the driver with backoff.
     */
    enum mr_status (*plan)(struct mr_source *source, const char *start,
                           const struct mr_plan_limits *limits, char **ret_end,
                           struct mr_error *err);
    /*
     * Number of partitions of the range (start, end], and an estimate of its work in bytes (0 =
     * unknown). Must depend on the range alone, never on the number of workers: output bytes depend
     * on it. Thread: driver.
     */
    enum mr_status (*split)(struct mr_source *source, const char *start, const char *end,
                            uint32_t *ret_partitions, uint64_t *ret_bytes, struct mr_error *err);
    /* Opens one partition of the range. Thread: any worker; different partitions at the same
     * time. */
    enum mr_status (*read)(struct mr_source *source, const char *start, const char *end,
                           uint32_t partition, struct mr_reader **ret_reader, struct mr_error *err);
    /* Next batch (up to about a megabyte), or *ret_batch NULL at the end of the partition. Thread:
     * the opener's. */
    enum mr_status (*next)(struct mr_reader *reader, struct mr_batch **ret_batch,
                           struct mr_error *err);
    /* Bad records met since the last call as a batch of mr_bad_schema(), or NULL; and their number.
     * Same thread. */
    enum mr_status (*take_bad)(struct mr_reader *reader, struct mr_batch **ret_bad,
                               uint64_t *ret_count, struct mr_error *err); /* may be NULL */
    void (*close)(struct mr_reader *reader);                               /* NULL allowed */
    /*
     * The batch is being committed: put into kv what must be remembered of (start, end] (becomes
     * durable with the batch). Thread: driver. May be NULL.
     */
    enum mr_status (*remember)(struct mr_source *source, const char *start, const char *end,
                               struct mr_kv *kv, struct mr_error *err);
    /* Everything up to end is durable downstream: advisory (acknowledge, publish offsets, clean).
     * Driver. May be NULL. */
    void (*committed)(struct mr_source *source, const char *end);
    /* may be NULL */
    void (*stats)(struct mr_source *source, const char *end, struct mr_source_stats *ret_stats);
    /* Wakes the driver when data may have come: called from any thread of the source. Set by the
     * kernel; may be ignored. */
    /* may be NULL */
    void (*set_wakeup)(struct mr_source *source, void (*wake)(void *arg), void *arg);
    /* True when no more data will ever come (stdin at its end, frozen end reached): the query may
     * finish. May be NULL. */
    bool (*exhausted)(struct mr_source *source, const char *end);
    void (*stop)(struct mr_source *source); /* ends threads, frees; NULL allowed */
    /*
     * True: the batch of that range has no dataset, which is not the same as an empty one
     * (DStreams, DS-2): nothing behind the source runs in it. By the range alone. Driver. May be
     * NULL.
     */
    bool (*absent)(struct mr_source *source, const char *start, const char *end);
    /*
     * What the range (start, end] is, for people: files, offset ranges, one a line (DStreams,
     * IN-2); NULL or "" = nothing to say. Freed with mr_text_free. Driver. May be NULL.
     */
    char *(*describe)(struct mr_source *source, const char *start, const char *end);
    /* How many rows the range has, when that can be said without reading it; false: not known.
     * Driver. May be NULL. */
    bool (*row_count)(struct mr_source *source, const char *start, const char *end,
                      uint64_t *ret_rows);
    /*
     * An event time that the range brings without a row that has it (a heartbeat): the watermark of
     * the source's table follows it as it would follow a row's; false: none. By the range alone.
     * Driver. May be NULL.
     */
    bool (*event_time)(struct mr_source *source, const char *start, const char *end,
                       int64_t *ret_event_us);
};

/* Does a source have an operation that was added later? */
#define MR_SOURCE_HAS(ops, name)                                                                   \
    ((ops)->struct_size >= offsetof(struct mr_source_ops, name) + sizeof((ops)->name) &&           \
     (ops)->name != NULL)

/* Columns of routed bad records: source VARCHAR, position VARCHAR, reason VARCHAR, raw BLOB.
 * Static, borrowed. */
MR_API const struct mr_schema *mr_bad_schema(void);

/*
 * A receiver pushes bytes instead of being asked; the kernel's receiver host makes it replayable by
 * writing its blocks to the received-block log before a batch may see them (docs: life of a
 * record). Records are lines; the format decodes on read.
 */
struct mr_receiver;      /* the implementer's object */
struct mr_receiver_host; /* the kernel's side */

/* Appends bytes that end with a whole record ('\n'). Blocks while the rate limit or a full queue
 * says so. MR_STOPPED: leave run. Thread: the receiver's own. */
MR_API enum mr_status mr_receiver_store(struct mr_receiver_host *host, const char *data,
                                        size_t size_bytes, struct mr_error *err);
/* Like store, and returns when the bytes are durable (reliable receivers acknowledge their peer
 * after it). */
MR_API enum mr_status mr_receiver_store_durably(struct mr_receiver_host *host, const char *data,
                                                size_t size_bytes, struct mr_error *err);
MR_API bool mr_receiver_stopping(const struct mr_receiver_host *host);

/* Records in whatever form the receiver's format reads, with their number. */
struct mr_received {
    const char *data;
    size_t size_bytes;
    uint64_t record_count;
    const char *metadata; /* goes to the information of the block; NULL = none */
    /* One block, not rate limited; durable, when there is a checkpoint, on return. Else it joins
     * the current block (RCV-2). */
    bool own_block;
};
/* MR_STOPPED: a stop was asked for, nothing was stored. Thread: any of the receiver's. */
MR_API enum mr_status mr_receiver_store_records(struct mr_receiver_host *host,
                                                const struct mr_received *records,
                                                struct mr_error *err);
/* How long to wait when this run ends; the setting again after that. Thread: any. */
MR_API void mr_receiver_set_restart_delay(struct mr_receiver_host *host, int64_t delay_us);
/* Logged, counted, shown as the receiver's last error; it goes on (RCV-4). Thread: any. */
MR_API void mr_receiver_note_error(struct mr_receiver_host *host, const char *message);
/* So many records were left out (too long, cut by the end of a connection): counted; the receiver
 * logs why. Thread: any. */
MR_API void mr_receiver_note_dropped(struct mr_receiver_host *host, uint64_t records);

struct mr_receiver_ops {
    size_t struct_size;
    /*
     * Runs until the peer ends (MR_OK), fails (the host logs, waits restart_delay and calls run
     * again) or stop is asked. Thread: its own.
     */
    enum mr_status (*run)(struct mr_receiver *receiver, struct mr_receiver_host *host,
                          struct mr_error *err);
    void (*interrupt)(struct mr_receiver *receiver); /* any thread: makes run return soon */
    void (*free)(struct mr_receiver *receiver);
    /* MR_OK from run means no more data ever, an error that is not retriable ends the query
     * (stdin); false: run again (socket) */
    bool ends;
};

struct mr_receiver_args {
    struct mr_env *env;
    const char *name;
    const struct mr_options *options;
    void *user; /* for receivers that a front end makes itself */
};

/* A connector: one name in CREATE TABLE ... WITH (connector = 'name'). */
struct mr_source_connector {
    size_t struct_size;
    const char *name;
    const char *summary;
    const char *guarantee; /* "replayable" or what to know */
    const struct mr_option *options;
    size_t option_count;
    bool takes_format;
    const char *default_format; /* NULL = must be given */
    /* schema when none is declared, or NULL */
    const struct mr_schema *(*fixed_schema)(const struct mr_options *options);
    enum mr_status (*open)(const struct mr_source_args *args, struct mr_source **ret_source,
                           struct mr_error *err);
    const struct mr_source_ops *ops;
    /* Receivers set these two instead of open and ops. */
    enum mr_status (*receiver_open)(const struct mr_receiver_args *args,
                                    struct mr_receiver **ret_receiver, struct mr_error *err);
    const struct mr_receiver_ops *receiver_ops;
    /* The format carries only some of the columns (kafka: the rest is metadata): open asks
     * format->check, not the front end. */
    bool checks_columns;
};

MR_API void mr_source_register(const struct mr_source_connector *connector);
MR_API const struct mr_source_connector *mr_source_find(const char *name);
MR_API const struct mr_source_connector *mr_source_at(size_t index);

#ifdef __cplusplus
}
#endif
#endif
