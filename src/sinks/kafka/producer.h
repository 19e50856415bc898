/*
 * Inside of the Kafka sink: a librdkafka producer that remembers what went wrong.
 *
 *     kafka.c     rows -> keys, values, topics; the life of a batch
 *     producer.c  configuration, delivery, causes of failures
 */
#ifndef MR_SINKS_KAFKA_PRODUCER_H
#define MR_SINKS_KAFKA_PRODUCER_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "sources/kafka/librdkafka_rules.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <librdkafka/rdkafka.h>

#include <stdatomic.h>

enum { KSINK_TOPICS_MAX = MR_LIMIT_KAFKA_SINK_TOPICS };

struct mr_ksink_producer {
    struct mr_env *env;
    char *name; /* of the table */
    const struct mr_options *options;
    rd_kafka_t *rk;
    int64_t timeout_us;
    struct mr_host_list *hosts; /* that may be connected to; NULL = any */
    _Atomic uintptr_t attempt;  /* reports of earlier attempts are not ours */
    atomic_flag lock;
    /* Guarded by lock: */
    rd_kafka_resp_err_t failed; /* first record of this attempt that was not delivered */
    struct mr_kafka_causes causes;
    char *topics[KSINK_TOPICS_MAX]; /* known to exist */
    size_t topic_count;
};

/* Options brokers, delivery_timeout and kafka.*; does not connect yet. */
enum mr_status mr_ksink_producer_open(struct mr_ksink_producer *producer,
                                      const struct mr_sink_args *args, struct mr_error *err);
void mr_ksink_producer_release(struct mr_ksink_producer *producer);
/* A new attempt: earlier failures are forgotten, and a client that broke for good is made again. */
enum mr_status mr_ksink_producer_begin(struct mr_ksink_producer *producer, struct mr_error *err);

struct mr_ksink_record {
    const char *topic;
    int32_t partition;     /* RD_KAFKA_PARTITION_UA: by key */
    struct mr_slice key;   /* data NULL = none */
    struct mr_slice value; /* data NULL = null */
};

/* Copies the record and queues it; waits while the queue is full. Any thread. */
enum mr_status mr_ksink_producer_send(struct mr_ksink_producer *producer,
                                      const struct mr_ksink_record *record, struct mr_error *err);
/* Returns when every record of the attempt is acknowledged by the brokers, or says why it is
 * not. */
enum mr_status mr_ksink_producer_flush(struct mr_ksink_producer *producer, struct mr_error *err);
void mr_ksink_producer_abort(struct mr_ksink_producer *producer);

#endif
