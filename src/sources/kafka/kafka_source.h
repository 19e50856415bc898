/*
 * Inside of the Kafka source.
 *
 *     kafka.c     options, ranges of a batch, progress
 *     plan.c      which offsets belong to the next batch
 *     topics.c    which topics
 *     begin.c     where a new query begins
 *     clamp.c     rates -> records of a batch
 *     divide.c    offset ranges -> what tasks read
 *     commits.c   offsets for the consumer group
 *     offsets.c   offset text <-> sorted table
 *     client.c    one librdkafka client: configuration, metadata, watermarks, causes of failures
 *     stream.c    partitions that librdkafka fetches for us
 *     reader.c    one range of one partition -> batches
 *     topic_ids.c a topic that was made again under the same name
 *     history.c   is the log still the one that was planned
 *     columns.c   which column comes from the record's value and which from its metadata
 */
#ifndef MR_SOURCES_KAFKA_KAFKA_SOURCE_H
#define MR_SOURCES_KAFKA_KAFKA_SOURCE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include "sources/kafka/clamp.h"
#include "sources/kafka/divide.h"
#include "sources/kafka/librdkafka_rules.h"

#include <millrace/ext/bad_records.h>
#include <millrace/ext/kafka_link.h>
#include <millrace/ext/source.h>

#include <librdkafka/rdkafka.h>

#include <stdatomic.h>

/* ---- offsets ---- */

/* Instead of the epoch of a leader: */
enum { KSRC_EPOCH_UNKNOWN = -1, KSRC_EPOCH_SAME = -2 /* as remembered */ };

/* One partition in an offset: everything before `offset` was planned. */
struct mr_ksrc_offset {
    char *topic;
    int32_t partition;
    int64_t offset;
    int64_t
        /* where a partition that the start offset does not have begins; -1 = the start has it */
        from;
    int64_t epoch; /* of the leader that told the end; KSRC_EPOCH_ */
};

struct mr_ksrc_topic_id {
    char *topic;
    char *id;
};

struct mr_ksrc_topic_ids {
    struct mr_ksrc_topic_id *items;
    size_t count;
};

/* Sorted by topic, then partition; topics are owned. */
struct mr_ksrc_offsets {
    struct mr_ksrc_offset *items;
    size_t count;
    size_t capacity;
    struct mr_ksrc_topic_ids ids; /* that are not remembered yet */
};

void mr_ksrc_offsets_release(struct mr_ksrc_offsets *offsets);
/* Inserts in order; an entry that is there already gets the new values and keeps its epoch, a new
 * one has KSRC_EPOCH_SAME. Copies topic. */
enum mr_status mr_ksrc_offsets_put(struct mr_ksrc_offsets *offsets, const char *topic,
                                   int32_t partition, int64_t offset, int64_t from,
                                   struct mr_error *err);
const struct mr_ksrc_offset *mr_ksrc_offsets_find(const struct mr_ksrc_offsets *offsets,
                                                  const char *topic,
                                                  int32_t partition); /* NULL = not there */
bool mr_ksrc_offsets_have_topic(const struct mr_ksrc_offsets *offsets, const char *topic);
/* {"clicks":{"0":23,"1":345}}, "@from":{...} and "@epoch":{...} of the same form for partitions
 * with a from or an epoch, "@id":{"clicks":"..."}. mr_text_free. NULL = no memory. */
char *mr_ksrc_offsets_print(const struct mr_ksrc_offsets *offsets);
/* text NULL = empty. MR_CORRUPT when it is not an offset. */
enum mr_status mr_ksrc_offsets_parse(const char *text, struct mr_ksrc_offsets *ret_offsets,
                                     struct mr_error *err);
/* The same for what a plan has: no offset is negative. */
enum mr_status mr_ksrc_positions_parse(const char *text, struct mr_ksrc_offsets *ret_positions,
                                       struct mr_error *err);

/* What is to be read of one partition: [from, until). */
struct mr_ksrc_range {
    const char *topic; /* borrowed from the end offset */
    int32_t partition;
    int64_t from;
    int64_t until;
    bool is_later; /* a piece of a range that begins earlier */
};
/* The index-th range of (start, end], of those that are not empty unless empty ones count too;
 * false past the last one. */
bool mr_ksrc_range_at(const struct mr_ksrc_offsets *start, const struct mr_ksrc_offsets *end,
                      bool empty_too, size_t index, struct mr_ksrc_range *ret_range);

/*
 * What the tasks of the batch (start, end] read: its ranges, cut as the division says; NULL: all of
 * them whole, empty ones too. Freed with mr_free; topics are those of `end`.
 */
enum mr_status mr_ksrc_pieces(const struct mr_ksrc_offsets *start,
                              const struct mr_ksrc_offsets *end,
                              const struct mr_ksrc_division *division,
                              struct mr_ksrc_range **ret_ranges, size_t *ret_count,
                              struct mr_error *err);

/* ---- the client ---- */

struct mr_ksrc_client {
    struct mr_env *env;
    const char *name; /* of the table */
    const char *brokers;
    const char *group_id; /* NULL = none: nothing is committed to it or read of it */
    rd_kafka_t *rk;
    int64_t connect_timeout_us;
    bool read_committed;
    atomic_flag lock;
    struct mr_kafka_causes causes;      /* guarded by lock */
    _Atomic int64_t throttled_until_ns; /* brokers hold answers back until then */
    struct mr_host_list *hosts;         /* that may be connected to; NULL = any */
};

/* Options of the table: brokers and kafka.*; in_group: also group_id. The client does not connect
 * yet. */
enum mr_status mr_ksrc_client_open(struct mr_ksrc_client *client, const struct mr_source_args *args,
                                   bool in_group, struct mr_error *err);
void mr_ksrc_client_release(struct mr_ksrc_client *client);
/* Serves callbacks; MR_PERMISSION once the brokers have refused us. Any thread. */
enum mr_status mr_ksrc_client_check(struct mr_ksrc_client *client, struct mr_error *err);
/* MR_UNAVAILABLE, or MR_PERMISSION, with the causes collected: "cannot <what> ...". */
enum mr_status mr_ksrc_client_fail(struct mr_ksrc_client *client, const char *what,
                                   rd_kafka_resp_err_t code, struct mr_error *err);
void mr_ksrc_client_succeeded(struct mr_ksrc_client *client);

/* Which topics: exactly one of the two. */
struct mr_ksrc_topics {
    const char *source; /* its name, borrowed */
    char **names;       /* owned */
    size_t name_count;
    void *pattern;                   /* regex_t */
    struct mr_ksrc_offsets assigned; /* partitions of `assign`, empty = all */
};

/* Options topic, topic_pattern, assign. */
enum mr_status mr_ksrc_topics_parse(struct mr_ksrc_topics *topics, const struct mr_options *options,
                                    struct mr_error *err);
void mr_ksrc_topics_release(struct mr_ksrc_topics *topics);

/* All partitions of the topics as they are now (offsets are 0). MR_NOT_FOUND names a topic that
 * does not exist. */
enum mr_status mr_ksrc_client_partitions(struct mr_ksrc_client *client,
                                         const struct mr_ksrc_topics *topics,
                                         struct mr_ksrc_offsets *ret_partitions,
                                         struct mr_error *err);
/*
 * The same for all partitions at once, in two questions instead of two for each: lows[i], highs[i]
 * belong to partitions->items[i]; -1 = not answered, ask for that one alone. epochs[i]: of the
 * leader that told highs[i], or KSRC_EPOCH_UNKNOWN.
 */
void mr_ksrc_client_all_watermarks(struct mr_ksrc_client *client,
                                   const struct mr_ksrc_offsets *partitions, int64_t *lows,
                                   int64_t *highs, int64_t *epochs);
/* First offset, and the end: with read_committed the last stable one. */
enum mr_status mr_ksrc_client_watermarks(struct mr_ksrc_client *client, const char *topic,
                                         int32_t partition, int64_t *ret_low, int64_t *ret_high,
                                         struct mr_error *err);

/* What the group has committed, and the first offsets that are not older than a time: partitions
 * without an answer are left out. */
enum mr_status mr_ksrc_client_committed(struct mr_ksrc_client *client,
                                        const struct mr_ksrc_offsets *partitions,
                                        struct mr_ksrc_offsets *ret_found, struct mr_error *err);
enum mr_status mr_ksrc_client_at_time(struct mr_ksrc_client *client,
                                      const struct mr_ksrc_offsets *partitions,
                                      int64_t timestamp_ms, struct mr_ksrc_offsets *ret_found,
                                      struct mr_error *err);

/* ---- where a new query begins ---- */

/* Instead of an offset: */
enum {
    KSRC_LATEST = -1,
    KSRC_EARLIEST = -2,
    KSRC_COMMITTED = -3,
    KSRC_AT_TIME = -4,
    KSRC_NONE = -5, /* an error */
};

struct mr_ksrc_begin {
    const char *source; /* its name, borrowed */
    int64_t start;      /* when nothing is given */
    struct mr_ksrc_offsets given;
    int64_t others; /* of partitions that are not among those given */
    int64_t reset;  /* of partitions without a committed offset */
    int64_t timestamp_ms;
    struct mr_ksrc_offsets found; /* what the brokers said of committed offsets or times */
};

enum mr_status mr_ksrc_begin_parse(struct mr_ksrc_begin *begin, const struct mr_options *options,
                                   struct mr_error *err);
void mr_ksrc_begin_release(struct mr_ksrc_begin *begin);
/* Asks the brokers what begin_at needs. */
enum mr_status mr_ksrc_begin_ask(struct mr_ksrc_begin *begin, struct mr_ksrc_client *client,
                                 const struct mr_ksrc_offsets *partitions, struct mr_error *err);
/* Where a partition of [low, high) begins. *ret_loss: why it is not *ret_wanted, or NULL. */
enum mr_status mr_ksrc_begin_at(const struct mr_ksrc_begin *begin,
                                const struct mr_ksrc_offset *item, int64_t low, int64_t high,
                                const char **ret_loss, int64_t *ret_wanted, int64_t *ret_from,
                                struct mr_error *err);

/* ---- commits to a consumer group ---- */

struct mr_ksrc_commits {
    const struct mr_kafka_link *link; /* NULL = nobody commits */
    struct mr_ksrc_client *client;
    rd_kafka_queue_t *queue; /* of answers */
    char *under_way;         /* offsets of the request that is not answered; NULL = none */
};

/* Serves an answer, sends what was enqueued. */
void mr_ksrc_commits_turn(struct mr_ksrc_commits *commits);
/* Sends the rest, waits a moment for its answer; before the client goes. */
void mr_ksrc_commits_end(struct mr_ksrc_commits *commits);

/* ---- topic ids ---- */

void mr_ksrc_topic_ids_release(struct mr_ksrc_topic_ids *ids);
/* Adds one; copies both. */
enum mr_status mr_ksrc_topic_ids_put(struct mr_ksrc_topic_ids *ids, const char *topic,
                                     const char *id, struct mr_error *err);
const char *mr_ksrc_topic_ids_find(const struct mr_ksrc_topic_ids *ids, const char *topic);
/* The ids of the topics of these partitions now; those that the broker does not tell are left
 * out. *ret_answered: it answered at all. */
enum mr_status mr_ksrc_topic_ids_ask(struct mr_ksrc_client *client,
                                     const struct mr_ksrc_offsets *partitions,
                                     struct mr_ksrc_topic_ids *ret_ids, bool *ret_answered,
                                     struct mr_error *err);

/* ---- is the log still the one that was planned? (history.c) ---- */

/* A topic whose id is not the one in the store (it was made again), or NULL. */
const char *mr_ksrc_history_changed(const struct mr_ksrc_topic_ids *ids, struct mr_kv *kv);
/* Puts into `end` what a batch must know of its logs and the store does not: ids of topics, epochs
 * of leaders. Epochs that are as remembered become KSRC_EPOCH_SAME. */
enum mr_status mr_ksrc_history_note(const struct mr_ksrc_topic_ids *ids, struct mr_kv *kv,
                                    struct mr_ksrc_offsets *end, struct mr_error *err);
/* A topic of `end` that has another id now than when the batch was planned, or NULL. */
const char *mr_ksrc_history_recreated(const struct mr_ksrc_offsets *end,
                                      const struct mr_ksrc_topic_ids *now, struct mr_kv *kv);
/* Is the id of any topic of `end` known? */
bool mr_ksrc_history_has_ids(const struct mr_ksrc_offsets *end, struct mr_kv *kv);
/* What the leaders of the batch (start, end] may have written, for its readers: for each partition
 * of `end` its epoch, and as `offset` the epoch before the batch. */
enum mr_status mr_ksrc_history_epochs(const struct mr_ksrc_offsets *start,
                                      const struct mr_ksrc_offsets *end, struct mr_kv *kv,
                                      struct mr_ksrc_offsets *ret_epochs, struct mr_error *err);
/* The batch is committed: what was noted in `end` goes into the store. A known id is only changed
 * with replace. */
enum mr_status mr_ksrc_history_remember(const struct mr_ksrc_topic_ids *ids,
                                        const struct mr_ksrc_offsets *end, bool replace,
                                        struct mr_kv *kv, struct mr_error *err);

/* ---- columns ---- */

enum mr_ksrc_from {
    KSRC_FROM_FORMAT,
    KSRC_FROM_KEY,
    KSRC_FROM_VALUE, /* the bytes as they are: formats raw and text */
    KSRC_FROM_TOPIC,
    KSRC_FROM_PARTITION,
    KSRC_FROM_OFFSET,
    KSRC_FROM_TIMESTAMP,
    KSRC_FROM_TIMESTAMP_TYPE,
    KSRC_FROM_HEADERS,
};

struct mr_ksrc_columns {
    struct mr_schema *schema;           /* what is produced */
    enum mr_ksrc_from *from;            /* one a column of schema */
    bool plain;                         /* raw, text: nothing is decoded */
    bool mixed;                         /* some columns decoded, others not */
    struct mr_schema *decoded_declared; /* NULL when plain */
    struct mr_schema *decoded;
    struct mr_schema *metadata; /* mixed: the others */
};

enum mr_status mr_ksrc_columns_init(struct mr_ksrc_columns *columns,
                                    const struct mr_source_args *args, struct mr_error *err);
void mr_ksrc_columns_release(struct mr_ksrc_columns *columns);
/* key, value, topic, partition, offset, timestamp, timestamp_type. */
const struct mr_schema *mr_ksrc_fixed_schema(const struct mr_options *options);
/* Appends the metadata (or plain) columns of one record; false: a text column got bytes that are
 * not UTF-8 (nothing added). */
bool mr_ksrc_columns_append(const struct mr_schema *schema, const rd_kafka_message_t *message,
                            const char *topic, struct mr_batch_builder *builder);

/* ---- reading ---- */

enum { KSRC_FETCH_MESSAGES = 2000 };

/* A partition that is being consumed; it stays positioned between batches. */
struct mr_ksrc_stream {
    struct mr_ksrc_stream *next;
    char *topic;
    int32_t partition;
    bool busy;     /* guarded by reading->lock */
    bool is_first; /* of its partition: it uses the source's client */
    /* The reader's while busy: */
    struct mr_ksrc_client *client; /* the source's, or `own` */
    struct mr_ksrc_client own;     /* librdkafka fetches a partition once for a client */
    rd_kafka_topic_t *handle;
    rd_kafka_queue_t *queue;
    bool started;
    int64_t position; /* next offset that will be handed out */
    /* librdkafka tells the end of a partition once: between position and here is nothing to read */
    int64_t empty_until;
    rd_kafka_message_t *held[KSRC_FETCH_MESSAGES];
    size_t held_at;
    size_t held_count;
};

struct mr_ksrc_reading {
    /* Two connections: a broker answers one after another, and a fetch that waits for data would
     * hold questions up. */
    struct mr_ksrc_client client;  /* fetches */
    struct mr_ksrc_client planner; /* metadata and offsets */
    struct mr_ksrc_columns columns;
    const struct mr_format *format;
    const struct mr_options *options;
    enum mr_on_error on_error;
    bool fail_on_data_loss;
    int64_t stall_timeout_us;
    _Atomic int64_t newest_ms; /* time of the newest record that was read; 0 = none */
    atomic_flag lock;
    struct mr_ksrc_offsets epochs;  /* of the running batch (history.c); guarded by lock */
    struct mr_ksrc_stream *streams; /* guarded by lock */
};

void mr_ksrc_streams_free(struct mr_ksrc_reading *reading);
/* An idle stream of the partition, which is busy now; its client is open. */
enum mr_status mr_ksrc_stream_take(struct mr_ksrc_reading *reading,
                                   const struct mr_ksrc_range *range,
                                   struct mr_ksrc_stream **ret_stream, struct mr_error *err);
void mr_ksrc_stream_give(struct mr_ksrc_reading *reading, struct mr_ksrc_stream *stream);
/* Begins anew: the next offset that is handed out is `offset`; fetching begins `before` offsets
 * earlier. */
enum mr_status mr_ksrc_stream_seek(struct mr_ksrc_stream *stream, int64_t offset, int64_t before,
                                   struct mr_error *err);
void mr_ksrc_stream_stop(struct mr_ksrc_stream *stream);
/* Next message or event, or NULL when nothing came for a moment. The caller destroys it. */
rd_kafka_message_t *mr_ksrc_stream_next(struct mr_ksrc_stream *stream);
/* For the readers of the next batch; takes over what epochs has. */
void mr_ksrc_reading_set_epochs(struct mr_ksrc_reading *reading, struct mr_ksrc_offsets *epochs);
/* The latest epochs that records before the range, and in it, may have; KSRC_EPOCH_UNKNOWN =
 * any. */
void mr_ksrc_reading_epochs(struct mr_ksrc_reading *reading, const struct mr_ksrc_range *range,
                            int64_t *ret_before, int64_t *ret_until);
enum mr_status mr_ksrc_reader_new(struct mr_ksrc_reading *reading,
                                  const struct mr_ksrc_range *range, struct mr_reader **ret_reader,
                                  struct mr_error *err);
enum mr_status mr_ksrc_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err);
enum mr_status mr_ksrc_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                       uint64_t *ret_count, struct mr_error *err);
void mr_ksrc_reader_close(struct mr_reader *reader);

/* ---- the source ---- */

struct mr_source {
    char *name;
    struct mr_ksrc_reading reading;
    struct mr_ksrc_topics topics;
    struct mr_ksrc_begin begin;
    struct mr_ksrc_commits commits;
    int64_t offsets_max;              /* per batch, 0 = no limit */
    int64_t offsets_min;              /* a batch waits for so many, 0 = it does not */
    int64_t delay_max_us;             /* but not longer than that */
    int64_t planned_ns;               /* when there last was something to read */
    int64_t partition_rate_max;       /* records a second of a partition, 0 = no limit */
    struct mr_ksrc_offsets rates_max; /* the same for some partitions, as `offset` */
    struct mr_ksrc_rates rates;
    bool empty_partitions;             /* a range without records is a partition too */
    struct mr_ksrc_division division;  /* of ranges into tasks */
    struct mr_ksrc_offsets partitions; /* as last discovered */
    int64_t discovered_ns;             /* 0 = never */
    struct mr_ksrc_topic_ids ids;      /* of their topics */
    struct mr_kv *kv;                  /* NULL: a static table */
    char *planned;                     /* end of the newest plan that was not split yet, or NULL */
    struct mr_ksrc_offsets latest;     /* end of every partition, as last seen */
    bool frozen;
    bool have_frozen;
    struct mr_ksrc_offsets frozen_end;
};

/* Operation `plan`. */
enum mr_status mr_ksrc_plan(struct mr_source *source, const char *start,
                            const struct mr_plan_limits *limits, char **ret_end,
                            struct mr_error *err);
/* A topic was made again, NULL = none: an error, or a line in the log. */
enum mr_status mr_ksrc_made_again(struct mr_source *source, const char *topic,
                                  struct mr_error *err);

#endif
