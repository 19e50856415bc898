/*
 * See broker.h.
 *
 * The first half is the cluster, the second what librdkafka's functions make of it: enough of them
 * for src/sources/kafka, with the errors that a real client gives: a transport error or a timeout
 * while the brokers are away, NOT_LEADER while a leader moves, OFFSET_OUT_OF_RANGE as
 * _AUTO_OFFSET_RESET (auto.offset.reset = error), an EOF event at the end of what is stable.
 */
#include "sim/broker.h"

#include "base/check.h"

#ifdef MR_WITH_KAFKA

#include "sim/fibers.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

enum { TOPICS_MAX = 4, POLL_NS = 50 * 1000000, LATENCY_US = 800 };

enum record_state { RECORD_VISIBLE, RECORD_OPEN, RECORD_ABORTED, RECORD_MARKER };

struct record {
    int64_t offset;
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
};

static struct broker *the_broker;

/* ---------------------------------------------------------------- the cluster */

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

static struct topic *find_topic(const struct broker *broker, const char *name)
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
    return find_topic(broker, name)->partition_count;
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

static void settle(struct broker *broker, int64_t now_ns)
{
    for (size_t i = 0; i < broker->topic_count; i++) {
        for (int p = 0; p < broker->topics[i].partition_count; p++)
            settle_partition(&broker->topics[i].partitions[p], now_ns);
    }
}

void broker_settle(struct broker *broker)
{
    settle(broker, INT64_MAX);
    broker->down_until_ns = 0;
}

void broker_produce(struct broker *broker, const char *name, int partition,
                    const char *const *payloads, const size_t *tags, size_t count,
                    enum broker_transaction transaction, int64_t ends_ns)
{
    struct topic *topic = find_topic(broker, name);

    settle(broker, world_now_ns(broker->world));
    for (size_t i = 0; i < count; i++) {
        struct record *record = append(&topic->partitions[partition]);

        record->payload = strdup(payloads[i]);
        record->tag = tags[i];
        record->state = transaction == TRANSACTION_NONE ? RECORD_VISIBLE : RECORD_OPEN;
        record->commits = transaction == TRANSACTION_COMMITTED;
        record->ends_ns = ends_ns;
    }
    settle(broker, world_now_ns(broker->world));
}

void broker_retain(struct broker *broker, const char *name, bool (*may_go)(void *arg, size_t tag),
                   bool force, void (*gone)(void *arg, size_t tag), void *arg)
{
    struct topic *topic = find_topic(broker, name);

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
    struct topic *topic = find_topic(broker, name);

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
    struct partition *of = &find_topic(broker, name)->partitions[partition];

    for (; count > 0 && of->count > 0; count--) {
        struct record *record = &of->records[--of->count];

        of->end = record->offset;
        if (record->payload != NULL && record->tag != SIZE_MAX)
            cut(arg, record->tag);
        free(record->payload);
    }
    world_note(broker->world, "truncated: %s/%d ends at %" PRId64, name, partition, of->end);
}

void broker_grow(struct broker *broker, const char *name)
{
    struct topic *topic = find_topic(broker, name);

    if (topic->partition_count < BROKER_PARTITIONS_MAX)
        topic->partition_count++;
}

/* First offset that read_committed does not show yet. */
static int64_t stable_end(const struct partition *partition)
{
    for (size_t i = 0; i < partition->count; i++) {
        if (partition->records[i].state == RECORD_OPEN)
            return partition->records[i].offset;
    }
    return partition->end;
}

static struct partition *find_partition(const char *name, int32_t number)
{
    struct topic *topic = find_topic(the_broker, name);

    return topic != NULL && number >= 0 && number < topic->partition_count
               ? &topic->partitions[number]
               : NULL;
}

/* Every question passes here: an answer takes time, and may be that there is none. */
static rd_kafka_resp_err_t ask(int timeout_ms)
{
    struct world *world = the_broker->world;

    fibers_pause();
    if (world->dead) {
        fibers_sleep_ns((int64_t)timeout_ms * 1000000);
        return RD_KAFKA_RESP_ERR__TRANSPORT;
    }
    fibers_sleep_ns((int64_t)(200 + world_random(world, LATENCY_US)) * 1000);
    settle(the_broker, world_now_ns(world));
    if (world->faults_on && the_broker->down_until_ns == 0 &&
        world_strikes(world, FAULT_BROKER_DOWN, 12))
        the_broker->down_until_ns =
            world_now_ns(world) + (int64_t)(1 + world_random(world, 15000)) * 1000000;
    if (world_now_ns(world) < the_broker->down_until_ns) {
        fibers_sleep_ns((int64_t)timeout_ms * 1000000);
        return world_chance(world, 700) ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                        : RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    }
    the_broker->down_until_ns = 0;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* ---------------------------------------------------------------- clients */

struct rd_kafka_conf_s {
    void *opaque;
};
struct rd_kafka_s {
    void *opaque;
};
struct rd_kafka_topic_s {
    char name[40];
};
/* A queue of a stream, or of answers. */
struct rd_kafka_queue_s {
    bool reads;
    char topic[40];
    int32_t partition;
    unsigned generation;
    int64_t position;
    int64_t eof_at; /* where the last EOF was told */
    bool failed;
    struct rd_kafka_op_s *answers[4];
    size_t answer_count;
};
enum { ANSWER_ITEMS = 64 };
struct rd_kafka_TopicDescription_s {
    char name[40];
    char id[32];
};
struct rd_kafka_ListOffsetsResultInfo_s {
    rd_kafka_topic_partition_t item;
};
struct rd_kafka_op_s {
    rd_kafka_resp_err_t err;
    void *opaque;
    size_t count;
    rd_kafka_TopicDescription_t topics[TOPICS_MAX];
    const rd_kafka_TopicDescription_t *topic_list[TOPICS_MAX];
    rd_kafka_ListOffsetsResultInfo_t infos[ANSWER_ITEMS];
    const rd_kafka_ListOffsetsResultInfo_t *info_list[ANSWER_ITEMS];
};
struct rd_kafka_AdminOptions_s {
    void *opaque;
    int timeout_ms;
};
struct rd_kafka_TopicCollection_s {
    size_t count;
    char names[TOPICS_MAX][40];
};

static void *make(size_t size)
{
    void *memory = calloc(1, size);

    MR_ASSERT(memory != NULL);
    return memory;
}

rd_kafka_conf_t *rd_kafka_conf_new(void)
{
    return make(sizeof(rd_kafka_conf_t));
}

void rd_kafka_conf_destroy(rd_kafka_conf_t *conf)
{
    free(conf);
}

rd_kafka_conf_res_t rd_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value,
                                      char *errstr, size_t errstr_size)
{
    (void)conf, (void)name, (void)value, (void)errstr, (void)errstr_size;
    return RD_KAFKA_CONF_OK;
}

rd_kafka_conf_res_t rd_kafka_conf_get(const rd_kafka_conf_t *conf, const char *name, char *dest,
                                      size_t *dest_size)
{
    (void)conf;
    if (strcmp(name, "isolation.level") != 0)
        return RD_KAFKA_CONF_UNKNOWN;
    *dest_size = (size_t)snprintf(dest, *dest_size, "read_committed") + 1;
    return RD_KAFKA_CONF_OK;
}

void rd_kafka_conf_set_opaque(rd_kafka_conf_t *conf, void *opaque)
{
    conf->opaque = opaque;
}

void rd_kafka_conf_set_error_cb(rd_kafka_conf_t *conf,
                                void (*error_cb)(rd_kafka_t *rk, int err, const char *reason,
                                                 void *opaque))
{
    (void)conf, (void)error_cb; /* errors come as answers only */
}

void rd_kafka_conf_set_log_cb(rd_kafka_conf_t *conf,
                              void (*log_cb)(const rd_kafka_t *rk, int level, const char *fac,
                                             const char *buf))
{
    (void)conf, (void)log_cb;
}

rd_kafka_t *rd_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *errstr,
                         size_t errstr_size)
{
    rd_kafka_t *rk = make(sizeof(*rk));

    (void)errstr, (void)errstr_size;
    MR_ASSERT(type == RD_KAFKA_CONSUMER && the_broker != NULL);
    rk->opaque = conf->opaque;
    free(conf);
    return rk;
}

void rd_kafka_destroy(rd_kafka_t *rk)
{
    free(rk);
}

int rd_kafka_poll(rd_kafka_t *rk, int timeout_ms)
{
    (void)rk, (void)timeout_ms;
    return 0;
}

const char *rd_kafka_err2str(rd_kafka_resp_err_t err)
{
    static char text[40];

    snprintf(text, sizeof(text), "Kafka error %d", (int)err);
    return text;
}

rd_kafka_resp_err_t rd_kafka_last_error(void)
{
    return RD_KAFKA_RESP_ERR__TRANSPORT;
}

rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *rk, const char *topic, rd_kafka_topic_conf_t *conf)
{
    rd_kafka_topic_t *handle = make(sizeof(*handle));

    (void)rk, (void)conf;
    snprintf(handle->name, sizeof(handle->name), "%s", topic);
    return handle;
}

void rd_kafka_topic_destroy(rd_kafka_topic_t *rkt)
{
    free(rkt);
}

/* ---------------------------------------------------------------- questions */

rd_kafka_resp_err_t rd_kafka_metadata(rd_kafka_t *rk, int all_topics, rd_kafka_topic_t *only_rkt,
                                      const struct rd_kafka_metadata **metadatap, int timeout_ms)
{
    rd_kafka_resp_err_t code = ask(timeout_ms);
    struct rd_kafka_metadata *metadata;
    struct rd_kafka_metadata_topic *answer;
    const struct topic *topic;

    (void)rk, (void)all_topics;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    MR_ASSERT(only_rkt != NULL); /* patterns are not simulated */
    metadata = make(sizeof(*metadata));
    answer = make(sizeof(*answer));
    metadata->topic_cnt = 1;
    metadata->topics = answer;
    answer->topic = strdup(only_rkt->name);
    topic = find_topic(the_broker, only_rkt->name);
    answer->err =
        topic != NULL ? RD_KAFKA_RESP_ERR_NO_ERROR : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    answer->partition_cnt = topic != NULL ? topic->partition_count : 0;
    answer->partitions = make(sizeof(*answer->partitions) * BROKER_PARTITIONS_MAX);
    for (int i = 0; i < answer->partition_cnt; i++)
        answer->partitions[i].id = i;
    *metadatap = metadata;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

void rd_kafka_metadata_destroy(const struct rd_kafka_metadata *metadata)
{
    free(metadata->topics[0].topic);
    free(metadata->topics[0].partitions);
    free(metadata->topics);
    free((void *)(uintptr_t)metadata);
}

rd_kafka_resp_err_t rd_kafka_query_watermark_offsets(rd_kafka_t *rk, const char *topic,
                                                     int32_t partition, int64_t *low, int64_t *high,
                                                     int timeout_ms)
{
    rd_kafka_resp_err_t code = ask(timeout_ms);
    const struct partition *found;

    (void)rk;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    found = find_partition(topic, partition);
    if (found == NULL)
        return RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *low = found->log_start;
    *high = stable_end(found);
    world_note(the_broker->world, "kafka: %s/%d has %" PRId64 " to %" PRId64, topic, (int)partition,
               *low, *high);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_new(int size)
{
    rd_kafka_topic_partition_list_t *list = make(sizeof(*list));

    list->size = MR_MAX(size, 1);
    list->elems = make(sizeof(*list->elems) * (size_t)list->size);
    return list;
}

rd_kafka_topic_partition_t *rd_kafka_topic_partition_list_add(rd_kafka_topic_partition_list_t *list,
                                                              const char *topic, int32_t partition)
{
    rd_kafka_topic_partition_t *item = &list->elems[list->cnt++];

    MR_ASSERT(list->cnt <= list->size);
    item->topic = strdup(topic);
    item->partition = partition;
    return item;
}

void rd_kafka_topic_partition_list_destroy(rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++)
        free(list->elems[i].topic);
    free(list->elems);
    free(list);
}

rd_kafka_AdminOptions_t *rd_kafka_AdminOptions_new(rd_kafka_t *rk, rd_kafka_admin_op_t for_api)
{
    (void)rk, (void)for_api;
    return make(sizeof(rd_kafka_AdminOptions_t));
}

void rd_kafka_AdminOptions_destroy(rd_kafka_AdminOptions_t *options)
{
    free(options);
}

rd_kafka_resp_err_t rd_kafka_AdminOptions_set_request_timeout(rd_kafka_AdminOptions_t *options,
                                                              int timeout_ms, char *errstr,
                                                              size_t errstr_size)
{
    (void)errstr, (void)errstr_size;
    options->timeout_ms = timeout_ms;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_error_t *rd_kafka_AdminOptions_set_isolation_level(rd_kafka_AdminOptions_t *options,
                                                            rd_kafka_IsolationLevel_t value)
{
    (void)options, (void)value;
    return NULL;
}

void rd_kafka_AdminOptions_set_opaque(rd_kafka_AdminOptions_t *options, void *ev_opaque)
{
    options->opaque = ev_opaque;
}

void rd_kafka_error_destroy(rd_kafka_error_t *error)
{
    (void)error;
}

rd_kafka_resp_err_t rd_kafka_error_code(const rd_kafka_error_t *error)
{
    (void)error;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *rk)
{
    (void)rk;
    return make(sizeof(rd_kafka_queue_t));
}

void rd_kafka_queue_destroy(rd_kafka_queue_t *rkqu)
{
    for (size_t i = 0; i < rkqu->answer_count; i++)
        free(rkqu->answers[i]);
    free(rkqu);
}

static rd_kafka_event_t *answer_to(rd_kafka_queue_t *queue, const rd_kafka_AdminOptions_t *options)
{
    rd_kafka_event_t *event = make(sizeof(*event));

    MR_ASSERT(queue->answer_count < MR_ARRAY_SIZE(queue->answers));
    event->err = ask(options->timeout_ms);
    event->opaque = options->opaque;
    queue->answers[queue->answer_count++] = event;
    return event;
}

void rd_kafka_ListOffsets(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *topic_partitions,
                          const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
{
    rd_kafka_event_t *event = answer_to(rkqu, options);

    (void)rk;
    for (int i = 0; event->err == RD_KAFKA_RESP_ERR_NO_ERROR && i < topic_partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *asked = &topic_partitions->elems[i];
        const struct topic *topic = find_topic(the_broker, asked->topic);
        const struct partition *partition = find_partition(asked->topic, asked->partition);
        rd_kafka_topic_partition_t *item = &event->infos[event->count].item;

        event->info_list[event->count] = &event->infos[event->count];
        event->count++;
        *item = *asked;
        item->topic = topic != NULL ? (char *)(uintptr_t)topic->name : (char *)(uintptr_t) "";
        item->err = partition != NULL ? RD_KAFKA_RESP_ERR_NO_ERROR
                                      : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        if (partition != NULL)
            item->offset = asked->offset == RD_KAFKA_OFFSET_SPEC_EARLIEST ? partition->log_start
                                                                          : stable_end(partition);
    }
}

rd_kafka_TopicCollection_t *rd_kafka_TopicCollection_of_topic_names(const char **topics,
                                                                    size_t topics_cnt)
{
    rd_kafka_TopicCollection_t *collection = make(sizeof(*collection));

    MR_ASSERT(topics_cnt <= TOPICS_MAX);
    collection->count = topics_cnt;
    for (size_t i = 0; i < topics_cnt; i++)
        snprintf(collection->names[i], sizeof(collection->names[i]), "%s", topics[i]);
    return collection;
}

void rd_kafka_TopicCollection_destroy(rd_kafka_TopicCollection_t *topics)
{
    free(topics);
}

void rd_kafka_DescribeTopics(rd_kafka_t *rk, const rd_kafka_TopicCollection_t *topics,
                             const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
{
    rd_kafka_event_t *event = answer_to(rkqu, options);

    (void)rk;
    for (size_t i = 0; event->err == RD_KAFKA_RESP_ERR_NO_ERROR && i < topics->count; i++) {
        const struct topic *topic = find_topic(the_broker, topics->names[i]);

        if (topic == NULL)
            continue;
        memcpy(event->topics[event->count].name, topic->name, sizeof(topic->name));
        memcpy(event->topics[event->count].id, topic->id, sizeof(topic->id));
        event->topic_list[event->count] = &event->topics[event->count];
        event->count++;
    }
}

rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *rkqu, int timeout_ms)
{
    rd_kafka_event_t *event;

    (void)timeout_ms;
    if (rkqu->answer_count == 0)
        return NULL;
    event = rkqu->answers[0];
    rkqu->answer_count--;
    memmove(rkqu->answers, rkqu->answers + 1, rkqu->answer_count * sizeof(rkqu->answers[0]));
    return event;
}

rd_kafka_resp_err_t rd_kafka_event_error(rd_kafka_event_t *rkev)
{
    return rkev->err;
}

void *rd_kafka_event_opaque(rd_kafka_event_t *rkev)
{
    return rkev->opaque;
}

void rd_kafka_event_destroy(rd_kafka_event_t *rkev)
{
    free(rkev);
}

const rd_kafka_ListOffsets_result_t *rd_kafka_event_ListOffsets_result(rd_kafka_event_t *rkev)
{
    return rkev;
}

const rd_kafka_ListOffsetsResultInfo_t **rd_kafka_ListOffsets_result_infos(
    const rd_kafka_ListOffsets_result_t *result, size_t *cntp)
{
    *cntp = result->count;
    return (const rd_kafka_ListOffsetsResultInfo_t **)(uintptr_t)result->info_list;
}

const rd_kafka_topic_partition_t *rd_kafka_ListOffsetsResultInfo_topic_partition(
    const rd_kafka_ListOffsetsResultInfo_t *result_info)
{
    return &result_info->item;
}

const rd_kafka_DescribeTopics_result_t *rd_kafka_event_DescribeTopics_result(rd_kafka_event_t *rkev)
{
    return rkev;
}

const rd_kafka_TopicDescription_t **rd_kafka_DescribeTopics_result_topics(
    const rd_kafka_DescribeTopics_result_t *result, size_t *cntp)
{
    *cntp = result->count;
    return (const rd_kafka_TopicDescription_t **)(uintptr_t)result->topic_list;
}

const rd_kafka_error_t *rd_kafka_TopicDescription_error(
    const rd_kafka_TopicDescription_t *topicdesc)
{
    (void)topicdesc;
    return NULL;
}

const char *rd_kafka_TopicDescription_name(const rd_kafka_TopicDescription_t *topicdesc)
{
    return topicdesc->name;
}

const rd_kafka_Uuid_t *rd_kafka_TopicDescription_topic_id(
    const rd_kafka_TopicDescription_t *topicdesc)
{
    return (const rd_kafka_Uuid_t *)(const void *)topicdesc->id;
}

const char *rd_kafka_Uuid_base64str(const rd_kafka_Uuid_t *uuid)
{
    return (const char *)uuid;
}

/* ---------------------------------------------------------------- reading */

int rd_kafka_consume_start_queue(rd_kafka_topic_t *rkt, int32_t partition, int64_t offset,
                                 rd_kafka_queue_t *rkqu)
{
    const struct topic *topic = find_topic(the_broker, rkt->name);

    rkqu->reads = true;
    world_note(the_broker->world, "kafka: reading %s/%d from %" PRId64, rkt->name, (int)partition,
               offset);
    snprintf(rkqu->topic, sizeof(rkqu->topic), "%s", rkt->name);
    rkqu->partition = partition;
    rkqu->generation = topic != NULL ? topic->generation : 0;
    rkqu->position = offset;
    rkqu->eof_at = -1;
    rkqu->failed = false;
    return 0;
}

int rd_kafka_consume_stop(rd_kafka_topic_t *rkt, int32_t partition)
{
    (void)rkt, (void)partition;
    return 0;
}

static rd_kafka_message_t *new_message(const rd_kafka_queue_t *queue, rd_kafka_resp_err_t err,
                                       int64_t offset, const char *payload)
{
    rd_kafka_message_t *message = make(sizeof(*message));

    message->err = err;
    message->partition = queue->partition;
    message->offset = offset;
    if (payload != NULL) {
        message->payload = strdup(payload);
        message->len = strlen(payload);
    }
    world_note(the_broker->world, "kafka: %s/%d gives %d at %" PRId64, queue->topic,
               (int)queue->partition, (int)err, offset);
    return message;
}

void rd_kafka_message_destroy(rd_kafka_message_t *rkmessage)
{
    free(rkmessage->payload);
    free(rkmessage);
}

static rd_kafka_message_t *fail_once(rd_kafka_queue_t *queue, rd_kafka_resp_err_t err)
{
    if (queue->failed)
        return NULL;
    queue->failed = true;
    return new_message(queue, err, queue->position, NULL);
}

/* What the stream gives next, NULL = nothing now. */
static rd_kafka_message_t *next_message(rd_kafka_queue_t *queue)
{
    const struct partition *partition = find_partition(queue->topic, queue->partition);
    int64_t stable;

    if (partition == NULL)
        return fail_once(queue, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    if (queue->position < partition->log_start || queue->position > partition->end)
        return fail_once(queue, RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET);
    stable = stable_end(partition);
    for (size_t i = 0; i < partition->count; i++) {
        const struct record *record = &partition->records[i];

        if (record->offset < queue->position)
            continue;
        if (record->offset >= stable)
            break;
        queue->position = record->offset + 1;
        if (record->state == RECORD_VISIBLE)
            return new_message(queue, RD_KAFKA_RESP_ERR_NO_ERROR, record->offset, record->payload);
    }
    if (queue->eof_at == queue->position)
        return NULL;
    queue->eof_at = queue->position;
    return new_message(queue, RD_KAFKA_RESP_ERR__PARTITION_EOF, queue->position, NULL);
}

static bool can_fetch(void)
{
    struct world *world = the_broker->world;

    settle(the_broker, world_now_ns(world));
    return !world->dead && world_now_ns(world) >= the_broker->down_until_ns;
}

ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *rkqu, int timeout_ms,
                                     rd_kafka_message_t **rkmessages, size_t rkmessages_size)
{
    size_t most = MR_MIN(rkmessages_size, 1 + world_random(the_broker->world, 20));
    size_t count = 0;

    (void)timeout_ms;
    fibers_pause();
    while (can_fetch() && count < most) {
        rkmessages[count] = next_message(rkqu);
        if (rkmessages[count] == NULL)
            break;
        count++;
    }
    return (ssize_t)count;
}

rd_kafka_message_t *rd_kafka_consume_queue(rd_kafka_queue_t *rkqu, int timeout_ms)
{
    struct world *world = the_broker->world;
    int64_t until_ns = world_now_ns(world) + (int64_t)timeout_ms * 1000000;

    for (;;) {
        rd_kafka_message_t *message = can_fetch() ? next_message(rkqu) : NULL;

        if (message != NULL || world_now_ns(world) >= until_ns)
            return message;
        fibers_sleep_ns(POLL_NS);
    }
}

const char *rd_kafka_message_errstr(const rd_kafka_message_t *rkmessage)
{
    return rd_kafka_err2str(rkmessage->err);
}

int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *rkmessage,
                                   rd_kafka_timestamp_type_t *tstype)
{
    (void)rkmessage;
    *tstype = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    return -1;
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

#endif
