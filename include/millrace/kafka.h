/*
 * Direct Kafka streams (features D15; Spark's kafka-0-10 direct stream).
 *
 *     struct mr_kafka_direct spec = {.brokers = "localhost:9092", .topics = "clicks",
 *                                    .group_id = "counts"};
 *     struct mr_dstream *records = mr_kafka_direct_stream(ctx, &spec);
 *     ...
 *     static enum mr_status save(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg, ...)
 *     {
 *         mr_kafka_offset_ranges(records, &ranges, &count, err);
 *         ... store the results, and the ranges in the same transaction ...
 *         mr_kafka_commit_async(records, ranges, count, NULL, NULL);
 *     }
 *
 * There is no receiver: each batch reads the offset ranges that its plan wrote into the checkpoint,
 * so a batch that runs again reads the same records: exactly-once into an idempotent or
 * transactional output, as long as the brokers keep them (KD-10). Partition i of the stream's
 * dataset is range i, in order, until a shuffle (KD-1); a batch in which nothing is new has ranges
 * of no records and no partitions.
 *
 * Elements: topic VARCHAR, partition INTEGER, "offset" BIGINT, timestamp TIMESTAMP, key, value,
 * headers STRUCT(key VARCHAR, value BLOB)[]; key and value are VARCHAR (a record that is not UTF-8
 * is an error, or skipped with the option on_error = 'skip'), or BLOB when the spec says binary.
 * Map before keeping or windowing what is not needed of them.
 *
 * Partitions that a subscribed topic gets while the program runs are picked up, from their first
 * record; one that disappears is an error (KD-6). Compacted topics and those with transactions are
 * read like any other: a range is its positions, not a number of records (KD-12).
 *
 * In a build without Kafka the building call is an error of the context.
 */
#ifndef MILLRACE_KAFKA_H
#define MILLRACE_KAFKA_H

#include <millrace/dstream.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ConsumerStrategies (KD-2). */
enum mr_kafka_strategy {
    MR_KAFKA_SUBSCRIBE, /* topics: names with ',' between */
    MR_KAFKA_PATTERN,   /* topics: an extended regular expression of whole names */
    MR_KAFKA_ASSIGN,    /* partitions */
};
/* Where a partition begins that `offsets` does not name and the group has not committed
 * (auto.offset.reset). */
enum mr_kafka_reset { MR_KAFKA_LATEST, MR_KAFKA_EARLIEST, MR_KAFKA_RESET_NONE };
/* LocationStrategies (KD-3): accepted, and without meaning in one process. */
enum mr_kafka_location {
    MR_KAFKA_PREFER_CONSISTENT,
    MR_KAFKA_PREFER_BROKERS,
    MR_KAFKA_PREFER_FIXED,
};

struct mr_kafka_partition {
    const char *topic;
    int32_t partition;
    int64_t value; /* an offset, or records a second: see below */
};

struct mr_kafka_direct {
    const char *brokers; /* host:port, with ',' between */
    enum mr_kafka_strategy strategy;
    const char *topics;
    const struct mr_kafka_partition *partitions; /* MR_KAFKA_ASSIGN; the value means nothing */
    size_t partition_count;
    /* Where a new program begins: partitions and offsets; -2 earliest, -1 latest. Others begin at
     * the committed offset of the group, else as reset says. A program that has a checkpoint goes
     * on where it was. */
    const struct mr_kafka_partition *offsets;
    size_t offset_count;
    enum mr_kafka_reset reset;
    const char *group_id; /* of committed offsets; NULL = none. Use one a stream (KD-4) */
    /* PerPartitionConfig: at most so many records a second; of partitions not named, the option
     * max_rate_per_partition. */
    const struct mr_kafka_partition *rates;
    size_t rate_count;
    enum mr_kafka_location location;
    bool binary; /* key and value are BLOB */
    /* Pairs key, value, ..., NULL: options of the Kafka source (`millrace options kafka`), such as
     * max_rate_per_partition, poll_timeout, on_error, kafka.security.protocol. */
    const char *const *options;
};
/* Copies spec. */
MR_API struct mr_dstream *mr_kafka_direct_stream(struct mr_context *ctx,
                                                 const struct mr_kafka_direct *spec);

/* Offsets [from, until) of a partition. */
struct mr_kafka_range {
    const char *topic;
    int32_t partition;
    int64_t from;
    int64_t until;
};
/*
 * The ranges of the batch that runs, in the order of its partitions. Inside a function of
 * foreach_rdd of any stream that comes from this one, on the driver; MR_STATE elsewhere.
 * *ret_ranges is freed with mr_kafka_ranges_free.
 */
MR_API enum mr_status mr_kafka_offset_ranges(struct mr_dstream *stream,
                                             struct mr_kafka_range **ret_ranges, size_t *ret_count,
                                             struct mr_error *err);
MR_API void mr_kafka_ranges_free(struct mr_kafka_range *ranges); /* NULL allowed */
/* "OffsetRange(topic: 't', partition: 0, range: [3 -> 9])" (KD-5); like snprintf. */
MR_API size_t mr_kafka_range_print(const struct mr_kafka_range *range, char *text, size_t size);

/* The answer to a commit: status, and why it failed. ranges: `until` of each is what was committed,
 * `from` is 0. Driver, in a later batch or at the stop. */
typedef void (*mr_kafka_commit_fn)(void *arg, const struct mr_kafka_range *ranges, size_t count,
                                   enum mr_status status, const char *text);
/*
 * Enqueues `until` of the ranges for the group (KD-8). What was enqueued is sent with the planning
 * of the next batch, the largest offset of a partition, and what is left at the stop is sent then;
 * the callback that was set last is called with the answer. It is a hint for other tools and for a
 * new program, at least once: the checkpoint does not need it. A failure to enqueue (no group, no
 * memory) is returned. Any thread.
 */
MR_API enum mr_status mr_kafka_commit_async(struct mr_dstream *stream,
                                            const struct mr_kafka_range *ranges, size_t count,
                                            mr_kafka_commit_fn callback, void *arg,
                                            struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
