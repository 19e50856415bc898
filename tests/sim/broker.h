/*
 * A Kafka cluster in memory, behind the names of librdkafka: librdkafka.c has every function of it
 * that the Kafka source calls, so a program linked with it reads from here.
 *
 *     partition    0 .. log_start .. stable .. end
 *                      gone          what read_committed shows   what open transactions hold back
 *
 * Records of a transaction become visible, or never do, when it ends; its marker takes an offset.
 *
 * Thread: fibers.
 */
#ifndef MR_TESTS_SIM_BROKER_H
#define MR_TESTS_SIM_BROKER_H

#include "sim/world.h"

enum { BROKER_PARTITIONS_MAX = 8 };

struct broker; /* there is one at a time */

struct broker *broker_new(struct world *world); /* NULL: a build without Kafka */
void broker_free(struct broker *broker);

void broker_make_topic(struct broker *broker, const char *name, int partitions);
int broker_partitions(const struct broker *broker, const char *name);
enum broker_transaction { TRANSACTION_NONE, TRANSACTION_COMMITTED, TRANSACTION_ABORTED };
/* Records to one partition, in one transaction that ends at ends_ns; tags are the caller's. */
void broker_produce(struct broker *broker, const char *name, int partition,
                    const char *const *payloads, const size_t *tags, size_t count,
                    enum broker_transaction transaction, int64_t ends_ns);
/* All transactions end now. */
void broker_settle(struct broker *broker);
/* Retention: removes records from the front while may_go(tag) says so; `lost` gets those that go
 * although it says no (force: one more). */
void broker_retain(struct broker *broker, const char *name, bool (*may_go)(void *arg, size_t tag),
                   bool force, void (*gone)(void *arg, size_t tag), void *arg);
/* Deleted and made again: another id, empty. gone: every record it had. */
void broker_recreate(struct broker *broker, const char *name, void (*gone)(void *arg, size_t tag),
                     void *arg);
/* An unclean election: the last `count` offsets of a partition never were, and a later leader
 * writes what comes. cut: what they held. */
void broker_truncate(struct broker *broker, const char *name, int partition, size_t count,
                     void (*cut)(void *arg, size_t tag), void *arg);
void broker_grow(struct broker *broker, const char *name);
/* Another leader, who has everything. */
void broker_elect(struct broker *broker, const char *name, int partition);
int64_t broker_end(const struct broker *broker, const char *name, int partition);

/* How the brokers and the client library behave; all zero: as those of today do. */
struct broker_manners {
    bool no_epochs;     /* leaders' epochs are not told */
    bool no_validation; /* the library does not compare epochs by itself */
    bool no_topic_ids;  /* questions for descriptions of topics fail */
    bool is_old;        /* the library wants what the brokers do not have */
    const char *names;  /* the brokers name this address instead of their own; NULL = their own */
    unsigned requests_a_second; /* more are throttled; 0 = no limit */
};
struct broker_manners *broker_manners(struct broker *broker);
/* Nobody may read the partition any more; or everybody again. */
void broker_deny(struct broker *broker, const char *name, int partition, bool denied);
/* Instead of the record at `offset` the client reports an error (rd_kafka_resp_err_t) and goes on
 * behind it; 0: it does not. */
void broker_spoil(struct broker *broker, const char *name, int partition, int64_t offset,
                  int error);
/* For so long nobody gets anything, and clients are told so. */
void broker_throttle(struct broker *broker, int64_t duration_ns);
/* For so long every partition but the first of a topic is unknown, as to a broker that starts. */
void broker_forget(struct broker *broker, int64_t duration_ns);
uint64_t broker_requests(const struct broker *broker);

#endif
