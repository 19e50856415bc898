/*
 * librdkafka's names over the simulated cluster (cluster.h): enough of them for src/sources/kafka,
 * with the errors that a real client gives: a transport error or a timeout while the brokers are
 * away, NOT_LEADER while a leader moves, OFFSET_OUT_OF_RANGE as _AUTO_OFFSET_RESET
 * (auto.offset.reset = error), an EOF event at the end of what is stable.
 *
 * A program that is linked with this takes these functions from here, not from the shared library.
 *
 * Thread: fibers.
 */
#include "sim/cluster.h"

#include "base/check.h"

#ifdef MR_WITH_KAFKA

#include "sim/fibers.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- clients */

typedef int resolve_function(const char *node, const char *service, const struct addrinfo *hints,
                             struct addrinfo **res, void *opaque);
struct callbacks {
    void *opaque;
    resolve_function *resolve;
    void (*throttle)(rd_kafka_t *rk, const char *broker_name, int32_t broker_id,
                     int throttle_time_ms, void *opaque);
};
struct rd_kafka_conf_s {
    struct callbacks callbacks;
};
struct rd_kafka_s {
    struct callbacks callbacks;
    int64_t told_ns; /* the end of being throttled that it was told of */
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
    int32_t epoch;  /* of the record before position; -1 = not known */
    bool failed;
    struct rd_kafka_op_s *answers[4];
    size_t answer_count;
};
const char *rd_kafka_version_str(void)
{
    return "simulated";
}

enum { ANSWER_ITEMS = 64 };
struct rd_kafka_TopicDescription_s {
    char name[40];
    char id[32];
};
struct rd_kafka_ListOffsetsResultInfo_s {
    rd_kafka_topic_partition_t item; /* first: an answer is one of these */
    int32_t epoch;
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

/* What a broker names in its answer is connected to, when the program has nothing against it. */
static bool is_connected(const rd_kafka_t *rk)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_flags = AI_NUMERICHOST};
    const char *host = the_broker->manners.names;
    struct addrinfo *found = NULL;

    if (host == NULL || rk->callbacks.resolve == NULL)
        return true;
    if (rk->callbacks.resolve(host, "9092", &hints, &found, rk->callbacks.opaque) != 0)
        return false;
    rk->callbacks.resolve(NULL, NULL, NULL, &found, rk->callbacks.opaque);
    return true;
}

/* Every question passes here: an answer takes time, and may be that there is none. */
static rd_kafka_resp_err_t ask(rd_kafka_t *rk, int timeout_ms)
{
    struct world *world = the_broker->world;

    fibers_pause();
    if (world->dead) {
        fibers_sleep_ns((int64_t)timeout_ms * 1000000);
        return RD_KAFKA_RESP_ERR__TRANSPORT;
    }
    the_broker->requests++;
    fibers_sleep_ns((int64_t)(200 + world_random(world, LATENCY_US)) * 1000);
    cluster_settle(the_broker, world_now_ns(world));
    if (the_broker->manners.is_old)
        return RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
    if (!is_connected(rk)) {
        fibers_sleep_ns((int64_t)timeout_ms * 1000000);
        return RD_KAFKA_RESP_ERR__TRANSPORT;
    }
    if (world->faults_on && the_broker->down_until_ns == 0 &&
        world_strikes(world, FAULT_BROKER_DOWN, 12))
        the_broker->down_until_ns =
            world_now_ns(world) + (int64_t)(1 + world_random(world, 15000)) * 1000000;
    if (world_strikes(world, FAULT_THROTTLED, 12))
        broker_throttle(the_broker, (int64_t)(1 + world_random(world, 40000)) * 1000000);
    if (world_now_ns(world) < the_broker->down_until_ns) {
        fibers_sleep_ns((int64_t)timeout_ms * 1000000);
        return world_chance(world, 700) ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                        : RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    }
    the_broker->down_until_ns = 0;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
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
    conf->callbacks.opaque = opaque;
}

void rd_kafka_conf_set_error_cb(rd_kafka_conf_t *conf,
                                void (*error_cb)(rd_kafka_t *rk, int err, const char *reason,
                                                 void *opaque))
{
    (void)conf, (void)error_cb; /* errors come as answers only */
}

void rd_kafka_conf_set_resolve_cb(rd_kafka_conf_t *conf, resolve_function *resolve_cb)
{
    conf->callbacks.resolve = resolve_cb;
}

void rd_kafka_conf_set_throttle_cb(rd_kafka_conf_t *conf,
                                   void (*throttle_cb)(rd_kafka_t *rk, const char *broker_name,
                                                       int32_t broker_id, int throttle_time_ms,
                                                       void *opaque))
{
    conf->callbacks.throttle = throttle_cb;
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
    rk->callbacks = conf->callbacks;
    free(conf);
    return rk;
}

void rd_kafka_destroy(rd_kafka_t *rk)
{
    free(rk);
}

int rd_kafka_poll(rd_kafka_t *rk, int timeout_ms)
{
    int64_t left_ns = the_broker->throttled_until_ns - world_now_ns(the_broker->world);

    (void)timeout_ms;
    if (left_ns > 0 && rk->told_ns != the_broker->throttled_until_ns &&
        rk->callbacks.throttle != NULL)
        rk->callbacks.throttle(rk, "sim:9092/1", 1, (int)(left_ns / 1000000), rk->callbacks.opaque);
    rk->told_ns = the_broker->throttled_until_ns;
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
    rd_kafka_resp_err_t code = ask(rk, timeout_ms);
    struct rd_kafka_metadata *metadata;
    struct rd_kafka_metadata_topic *answer;
    const struct topic *topic;

    (void)all_topics;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    MR_ASSERT(only_rkt != NULL); /* patterns are not simulated */
    metadata = make(sizeof(*metadata));
    answer = make(sizeof(*answer));
    metadata->topic_cnt = 1;
    metadata->topics = answer;
    answer->topic = strdup(only_rkt->name);
    topic = cluster_topic(the_broker, only_rkt->name);
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
    rd_kafka_resp_err_t code = ask(rk, timeout_ms);
    const struct partition *found;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    found = cluster_partition(topic, partition);
    if (found == NULL)
        return RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *low = found->log_start;
    *high = cluster_stable_end(found);
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

static rd_kafka_event_t *answer_to(rd_kafka_t *rk, rd_kafka_queue_t *queue,
                                   const rd_kafka_AdminOptions_t *options)
{
    rd_kafka_event_t *event = make(sizeof(*event));

    MR_ASSERT(queue->answer_count < MR_ARRAY_SIZE(queue->answers));
    event->err = ask(rk, options->timeout_ms);
    event->opaque = options->opaque;
    queue->answers[queue->answer_count++] = event;
    return event;
}

void rd_kafka_ListOffsets(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *topic_partitions,
                          const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
{
    rd_kafka_event_t *event = answer_to(rk, rkqu, options);

    for (int i = 0; event->err == RD_KAFKA_RESP_ERR_NO_ERROR && i < topic_partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *asked = &topic_partitions->elems[i];
        const struct topic *topic = cluster_topic(the_broker, asked->topic);
        const struct partition *partition = cluster_partition(asked->topic, asked->partition);
        rd_kafka_topic_partition_t *item = &event->infos[event->count].item;

        event->info_list[event->count] = &event->infos[event->count];
        event->count++;
        *item = *asked;
        event->infos[event->count - 1].epoch =
            partition != NULL && !the_broker->manners.no_epochs ? partition->epoch : -1;
        item->topic = topic != NULL ? (char *)(uintptr_t)topic->name : (char *)(uintptr_t) "";
        item->err = partition != NULL ? RD_KAFKA_RESP_ERR_NO_ERROR
                                      : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        if (partition != NULL)
            item->offset = asked->offset == RD_KAFKA_OFFSET_SPEC_EARLIEST
                               ? partition->log_start
                               : cluster_stable_end(partition);
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

/* Of an answer to ListOffsets only. */
int32_t rd_kafka_topic_partition_get_leader_epoch(const rd_kafka_topic_partition_t *rktpar)
{
    return ((const rd_kafka_ListOffsetsResultInfo_t *)(const void *)rktpar)->epoch;
}

void rd_kafka_DescribeTopics(rd_kafka_t *rk, const rd_kafka_TopicCollection_t *topics,
                             const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *rkqu)
{
    rd_kafka_event_t *event = answer_to(rk, rkqu, options);

    if (the_broker->manners.no_topic_ids)
        event->err = RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
    for (size_t i = 0; event->err == RD_KAFKA_RESP_ERR_NO_ERROR && i < topics->count; i++) {
        const struct topic *topic = cluster_topic(the_broker, topics->names[i]);

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
    const struct topic *topic = cluster_topic(the_broker, rkt->name);

    rkqu->reads = true;
    world_note(the_broker->world, "kafka: reading %s/%d from %" PRId64, rkt->name, (int)partition,
               offset);
    snprintf(rkqu->topic, sizeof(rkqu->topic), "%s", rkt->name);
    rkqu->partition = partition;
    rkqu->generation = topic != NULL ? topic->generation : 0;
    rkqu->position = offset;
    rkqu->eof_at = -1;
    rkqu->epoch = -1;
    rkqu->failed = false;
    return 0;
}

int rd_kafka_consume_stop(rd_kafka_topic_t *rkt, int32_t partition)
{
    (void)rkt, (void)partition;
    return 0;
}

struct told {
    rd_kafka_message_t message; /* first */
    int32_t epoch;
    bool truncated;
};

static rd_kafka_message_t *new_message(const rd_kafka_queue_t *queue, rd_kafka_resp_err_t err,
                                       int64_t offset, const char *payload)
{
    struct told *told = make(sizeof(*told));
    rd_kafka_message_t *message = &told->message;

    told->epoch = queue->epoch;

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

/* Was the log cut before what was read? Newer clients ask, when there is another leader. */
static bool is_truncated(const rd_kafka_queue_t *queue, const struct partition *partition)
{
    if (the_broker->manners.no_epochs || the_broker->manners.no_validation || queue->epoch < 0 ||
        queue->epoch == partition->epoch)
        return false;
    for (size_t i = 0; i < partition->count; i++) {
        if (partition->records[i].epoch > queue->epoch)
            return partition->records[i].offset < queue->position;
    }
    return partition->end < queue->position;
}

/* The error that the client reports instead of a record. */
static rd_kafka_message_t *spoiled(rd_kafka_queue_t *queue, const struct partition *partition)
{
    queue->position = partition->spoiled_at + 1; /* as librdkafka does after most of them */
    return new_message(queue, (rd_kafka_resp_err_t)partition->spoiled, partition->spoiled_at, NULL);
}

/* What the stream gives next, NULL = nothing now. */
static rd_kafka_message_t *next_message(rd_kafka_queue_t *queue)
{
    const struct partition *partition = cluster_partition(queue->topic, queue->partition);
    int64_t stable;

    if (partition == NULL)
        return fail_once(queue, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    if (partition->denied)
        return fail_once(queue, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    if (queue->position < partition->log_start || queue->position > partition->end)
        return fail_once(queue, RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET);
    if (is_truncated(queue, partition)) {
        rd_kafka_message_t *event = fail_once(queue, RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET);

        if (event != NULL)
            ((struct told *)event)->truncated = true;
        return event;
    }
    stable = cluster_stable_end(partition);
    for (size_t i = 0; i < partition->count; i++) {
        const struct record *record = &partition->records[i];

        if (record->offset < queue->position)
            continue;
        if (record->offset >= stable)
            break;
        if (partition->spoiled != 0 && record->offset == partition->spoiled_at)
            return spoiled(queue, partition);
        queue->position = record->offset + 1;
        queue->epoch = the_broker->manners.no_epochs ? -1 : record->epoch;
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

    cluster_settle(the_broker, world_now_ns(world));
    return !world->dead && world_now_ns(world) >= the_broker->down_until_ns &&
           world_now_ns(world) >= the_broker->throttled_until_ns && !the_broker->manners.is_old;
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
    return ((const struct told *)(const void *)rkmessage)->truncated
               ? "Partition log truncation detected"
               : rd_kafka_err2str(rkmessage->err);
}

int32_t rd_kafka_message_leader_epoch(const rd_kafka_message_t *rkmessage)
{
    return ((const struct told *)(const void *)rkmessage)->epoch;
}

int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *rkmessage,
                                   rd_kafka_timestamp_type_t *tstype)
{
    (void)rkmessage;
    *tstype = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    return -1;
}

#endif
