/*
 * Inside of the simulated Kafka cluster: broker.c is the cluster, librdkafka.c what clients see of
 * it.
 *
 * Thread: fibers.
 */
#ifndef MR_TESTS_SIM_CLUSTER_H
#define MR_TESTS_SIM_CLUSTER_H

#include "sim/broker.h"

enum { TOPICS_MAX = 4, POLL_NS = 50 * 1000000, LATENCY_US = 800 };

enum record_state { RECORD_VISIBLE, RECORD_OPEN, RECORD_ABORTED, RECORD_MARKER };

struct record {
    int64_t offset;
    int32_t epoch; /* of the leader who took it */
    char *payload; /* NULL: a marker */
    size_t tag;
    enum record_state state;
    int64_t ends_ns; /* OPEN: when its transaction ends */
    bool commits;
};

struct partition {
    struct record *records; /* by offset; records[0] is at or behind log_start */
    size_t count;
    size_t room;
    int64_t log_start;
    int64_t end;
    int32_t epoch; /* of its leader */
    bool denied;   /* nobody may read it */
    int spoiled;   /* what a client says of a record instead of giving it; 0 = none */
    int64_t spoiled_at;
};

struct topic {
    char name[40];
    char id[32];
    unsigned generation;
    struct partition partitions[BROKER_PARTITIONS_MAX];
    int partition_count;
};

struct broker {
    struct world *world;
    struct topic topics[TOPICS_MAX];
    size_t topic_count;
    int64_t down_until_ns;
    int64_t throttled_until_ns;
    int64_t forgetful_until_ns;
    struct broker_manners manners;
    uint64_t requests;
};

extern struct broker *the_broker;

struct topic *cluster_topic(const struct broker *broker, const char *name);
struct partition *cluster_partition(const char *name, int32_t number); /* of the_broker */
/* Transactions whose time has come end. */
void cluster_settle(struct broker *broker, int64_t now_ns);
/* First offset that read_committed does not show yet. */
int64_t cluster_stable_end(const struct partition *partition);

#endif
