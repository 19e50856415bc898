/*
 * The cluster of broker.h; what clients see of it is in librdkafka.c.
 *
 * Thread: fibers.
 */
#include "sim/cluster.h"

#include "base/check.h"

#ifdef MR_WITH_KAFKA

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct broker *the_broker;

struct broker *broker_new(struct world *world)
{
    struct broker *broker = calloc(1, sizeof(*broker));

    MR_ASSERT(broker != NULL && the_broker == NULL);
    broker->world = world;
    the_broker = broker;
    return broker;
}

static void clear_partition(struct partition *partition)
{
    for (size_t i = 0; i < partition->count; i++)
        free(partition->records[i].payload);
    free(partition->records);
    memset(partition, 0, sizeof(*partition));
}

void broker_free(struct broker *broker)
{
    if (broker == NULL)
        return;
    for (size_t i = 0; i < broker->topic_count; i++) {
        for (int p = 0; p < BROKER_PARTITIONS_MAX; p++)
            clear_partition(&broker->topics[i].partitions[p]);
    }
    free(broker);
    the_broker = NULL;
}

struct topic *cluster_topic(const struct broker *broker, const char *name)
{
    for (size_t i = 0; broker != NULL && i < broker->topic_count; i++) {
        if (strcmp(broker->topics[i].name, name) == 0)
            return (struct topic *)&broker->topics[i];
    }
    return NULL;
}

static void new_id(struct broker *broker, struct topic *topic)
{
    topic->generation++;
    snprintf(topic->id, sizeof(topic->id), "%08" PRIx64 "-%u",
             world_random(broker->world, UINT32_MAX), topic->generation);
}

void broker_make_topic(struct broker *broker, const char *name, int partitions)
{
    struct topic *topic = &broker->topics[broker->topic_count++];

    MR_ASSERT(broker->topic_count <= TOPICS_MAX && partitions <= BROKER_PARTITIONS_MAX);
    snprintf(topic->name, sizeof(topic->name), "%s", name);
    topic->partition_count = partitions;
    new_id(broker, topic);
}

int broker_partitions(const struct broker *broker, const char *name)
{
    return cluster_topic(broker, name)->partition_count;
}

static struct record *append(struct partition *partition)
{
    struct record *record;

    if (partition->count == partition->room) {
        partition->room = partition->room == 0 ? 64 : 2 * partition->room;
        partition->records =
            realloc(partition->records, partition->room * sizeof(*partition->records));
        MR_ASSERT(partition->records != NULL);
    }
    record = &partition->records[partition->count++];
    memset(record, 0, sizeof(*record));
    record->offset = partition->end++;
    record->epoch = partition->epoch;
    return record;
}

/* Transactions whose time has come end: their records are decided, their markers are written. */
static void settle_partition(struct partition *partition, int64_t now_ns)
{
    size_t count = partition->count;
    bool marked = false;

    for (size_t i = 0; i < count; i++) {
        struct record *record = &partition->records[i];

        if (record->state != RECORD_OPEN || record->ends_ns > now_ns)
            continue;
        record->state = record->commits ? RECORD_VISIBLE : RECORD_ABORTED;
        marked = true;
    }
    if (marked)
        append(partition)->state = RECORD_MARKER;
}

void cluster_settle(struct broker *broker, int64_t now_ns)
{
    for (size_t i = 0; i < broker->topic_count; i++) {
        for (int p = 0; p < broker->topics[i].partition_count; p++)
            settle_partition(&broker->topics[i].partitions[p], now_ns);
    }
}

void broker_settle(struct broker *broker)
{
    cluster_settle(broker, INT64_MAX);
    broker->down_until_ns = 0;
}

void broker_produce(struct broker *broker, const char *name, int partition,
                    const char *const *payloads, const size_t *tags, size_t count,
                    enum broker_transaction transaction, int64_t ends_ns)
{
    struct topic *topic = cluster_topic(broker, name);

    cluster_settle(broker, world_now_ns(broker->world));
    for (size_t i = 0; i < count; i++) {
        struct record *record = append(&topic->partitions[partition]);

        record->payload = strdup(payloads[i]);
        record->tag = tags[i];
        record->state = transaction == TRANSACTION_NONE ? RECORD_VISIBLE : RECORD_OPEN;
        record->commits = transaction == TRANSACTION_COMMITTED;
        record->ends_ns = ends_ns;
    }
    cluster_settle(broker, world_now_ns(broker->world));
}

void broker_retain(struct broker *broker, const char *name, bool (*may_go)(void *arg, size_t tag),
                   bool force, void (*gone)(void *arg, size_t tag), void *arg)
{
    struct topic *topic = cluster_topic(broker, name);

    for (int p = 0; p < topic->partition_count; p++) {
        struct partition *partition = &topic->partitions[p];
        size_t kept = 0; /* up to a record that was read: what is behind it may not have been */

        for (size_t at = 0; at < partition->count; at++) {
            struct record *record = &partition->records[at];

            if (record->state == RECORD_OPEN)
                break;
            if (record->state == RECORD_VISIBLE && !may_go(arg, record->tag)) {
                if (!force)
                    break;
                force = false;
                gone(arg, record->tag);
            }
            if (record->state == RECORD_VISIBLE)
                kept = at + 1;
        }
        for (size_t i = 0; i < kept; i++)
            free(partition->records[i].payload);
        if (kept == 0)
            continue;
        partition->log_start = partition->records[kept - 1].offset + 1;
        memmove(partition->records, partition->records + kept,
                (partition->count - kept) * sizeof(*partition->records));
        partition->count -= kept;
        world_note(broker->world, "retention: %s/%d begins at %" PRId64, name, p,
                   partition->log_start);
    }
}

void broker_recreate(struct broker *broker, const char *name, void (*gone)(void *arg, size_t tag),
                     void *arg)
{
    struct topic *topic = cluster_topic(broker, name);

    for (int p = 0; p < topic->partition_count; p++) {
        struct partition *partition = &topic->partitions[p];

        for (size_t i = 0; i < partition->count; i++) {
            if (partition->records[i].state != RECORD_ABORTED &&
                partition->records[i].state != RECORD_MARKER)
                gone(arg, partition->records[i].tag);
        }
        clear_partition(partition);
    }
    new_id(broker, topic);
}

void broker_truncate(struct broker *broker, const char *name, int partition, size_t count,
                     void (*cut)(void *arg, size_t tag), void *arg)
{
    struct partition *of = &cluster_topic(broker, name)->partitions[partition];

    for (; count > 0 && of->count > 0; count--) {
        struct record *record = &of->records[--of->count];

        of->end = record->offset;
        if (record->payload != NULL && record->tag != SIZE_MAX)
            cut(arg, record->tag);
        free(record->payload);
    }
    of->epoch++;
    world_note(broker->world, "truncated: %s/%d ends at %" PRId64, name, partition, of->end);
}

void broker_grow(struct broker *broker, const char *name)
{
    struct topic *topic = cluster_topic(broker, name);

    if (topic->partition_count < BROKER_PARTITIONS_MAX)
        topic->partition_count++;
}

void broker_elect(struct broker *broker, const char *name, int partition)
{
    struct partition *of = &cluster_topic(broker, name)->partitions[partition];

    of->epoch++;
    world_note(broker->world, "%s/%d has leader epoch %d", name, partition, (int)of->epoch);
}

int64_t broker_end(const struct broker *broker, const char *name, int partition)
{
    return cluster_topic(broker, name)->partitions[partition].end;
}

struct broker_manners *broker_manners(struct broker *broker)
{
    return &broker->manners;
}

void broker_deny(struct broker *broker, const char *name, int partition, bool denied)
{
    cluster_topic(broker, name)->partitions[partition].denied = denied;
}

void broker_spoil(struct broker *broker, const char *name, int partition, int64_t offset, int error)
{
    struct partition *of = &cluster_topic(broker, name)->partitions[partition];

    of->spoiled = error;
    of->spoiled_at = offset;
}

void broker_throttle(struct broker *broker, int64_t duration_ns)
{
    broker->throttled_until_ns = world_now_ns(broker->world) + duration_ns;
}

void broker_forget(struct broker *broker, int64_t duration_ns)
{
    broker->forgetful_until_ns = world_now_ns(broker->world) + duration_ns;
}

uint64_t broker_requests(const struct broker *broker)
{
    return broker->requests;
}

/* First offset that read_committed does not show yet. */
int64_t cluster_stable_end(const struct partition *partition)
{
    for (size_t i = 0; i < partition->count; i++) {
        if (partition->records[i].state == RECORD_OPEN)
            return partition->records[i].offset;
    }
    return partition->end;
}

struct partition *cluster_partition(const char *name, int32_t number)
{
    struct topic *topic = cluster_topic(the_broker, name);

    if (number > 0 && world_now_ns(the_broker->world) < the_broker->forgetful_until_ns)
        return NULL;
    return topic != NULL && number >= 0 && number < topic->partition_count
               ? &topic->partitions[number]
               : NULL;
}

#else

struct broker *broker_new(struct world *world)
{
    MR_UNUSED(world);
    return NULL;
}

void broker_free(struct broker *broker)
{
    MR_UNUSED(broker);
}

void broker_make_topic(struct broker *broker, const char *name, int partitions)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(partitions);
}

int broker_partitions(const struct broker *broker, const char *name)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    return 0;
}

void broker_produce(struct broker *broker, const char *name, int partition,
                    const char *const *payloads, const size_t *tags, size_t count,
                    enum broker_transaction transaction, int64_t ends_ns)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(partition);
    MR_UNUSED(payloads);
    MR_UNUSED(tags);
    MR_UNUSED(count);
    MR_UNUSED(transaction);
    MR_UNUSED(ends_ns);
}

void broker_settle(struct broker *broker)
{
    MR_UNUSED(broker);
}

void broker_retain(struct broker *broker, const char *name, bool (*may_go)(void *arg, size_t tag),
                   bool force, void (*gone)(void *arg, size_t tag), void *arg)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(may_go);
    MR_UNUSED(force);
    MR_UNUSED(gone);
    MR_UNUSED(arg);
}

void broker_recreate(struct broker *broker, const char *name, void (*gone)(void *arg, size_t tag),
                     void *arg)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(gone);
    MR_UNUSED(arg);
}

void broker_truncate(struct broker *broker, const char *name, int partition, size_t count,
                     void (*cut)(void *arg, size_t tag), void *arg)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(partition);
    MR_UNUSED(count);
    MR_UNUSED(cut);
    MR_UNUSED(arg);
}

void broker_grow(struct broker *broker, const char *name)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
}

void broker_elect(struct broker *broker, const char *name, int partition)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(partition);
}

int64_t broker_end(const struct broker *broker, const char *name, int partition)
{
    MR_UNUSED(broker);
    MR_UNUSED(name);
    MR_UNUSED(partition);
    return 0;
}

struct broker_manners *broker_manners(struct broker *broker)
{
    MR_UNUSED(broker);
    return NULL;
}

void broker_throttle(struct broker *broker, int64_t duration_ns)
{
    MR_UNUSED(broker);
    MR_UNUSED(duration_ns);
}

void broker_forget(struct broker *broker, int64_t duration_ns)
{
    MR_UNUSED(broker);
    MR_UNUSED(duration_ns);
}

#endif
