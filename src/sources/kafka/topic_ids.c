/*
 * Which topic a name means: Kafka gives every topic an id when it is made, so a topic that was
 * deleted and made again under the same name has another one, even when it has grown past the
 * offsets that we remember.
 *
 *     source's store    key "topic-id/<name>"    value "<id, base64>"
 *
 * The id is put into the store with the first batch that reads the topic, and compared at each
 * discovery. Brokers and librdkafkas that have no topic ids are fine: then only offsets past the
 * end tell that a topic was made again.
 *
 * Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include "base/mutant.h"

#include <string.h>

enum { CALL_TIMEOUT_MS = 2000, KEY_BYTES_MAX = 300 };

#define KEY_PREFIX "topic-id/"

void mr_ksrc_topic_ids_release(struct mr_ksrc_topic_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        mr_free(ids->items[i].topic);
        mr_free(ids->items[i].id);
    }
    mr_free(ids->items);
    memset(ids, 0, sizeof(*ids));
}

/* The key of a topic in the store; false when the name is longer than Kafka allows. */
static bool make_key(const char *topic, char *key, struct mr_slice *ret_key)
{
    size_t size = strlen(topic);

    if (size + strlen(KEY_PREFIX) > KEY_BYTES_MAX)
        return false;
    memcpy(key, KEY_PREFIX, strlen(KEY_PREFIX));
    memcpy(key + strlen(KEY_PREFIX), topic, size);
    *ret_key = (struct mr_slice){key, strlen(KEY_PREFIX) + size};
    return true;
}

#if RD_KAFKA_VERSION >= 0x020300ff
static enum mr_status take_descriptions(rd_kafka_event_t *event, struct mr_ksrc_topic_ids *ids,
                                        struct mr_error *err)
{
    size_t count = 0;
    const rd_kafka_TopicDescription_t **topics =
        rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &count);

    ids->items = mr_alloc_zero(NULL, (count + 1) * sizeof(*ids->items));
    if (ids->items == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_error_t *error = rd_kafka_TopicDescription_error(topics[i]);
        struct mr_ksrc_topic_id *item = &ids->items[ids->count];

        if (error != NULL && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        item->topic = mr_strdup(rd_kafka_TopicDescription_name(topics[i]));
        item->id =
            mr_strdup(rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(topics[i])));
        ids->count++;
        if (item->topic == NULL || item->id == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    }
    return MR_OK;
}

static enum mr_status describe(struct mr_ksrc_client *client, const char **names, size_t count,
                               struct mr_ksrc_topic_ids *ids, struct mr_error *err)
{
    rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(names, count);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(client->rk, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client->rk);
    rd_kafka_event_t *event;
    char text[128];
    enum mr_status status = MR_OK;

    rd_kafka_AdminOptions_set_request_timeout(options, CALL_TIMEOUT_MS, text, sizeof(text));
    rd_kafka_DescribeTopics(client->rk, topics, options, queue);
    event = rd_kafka_queue_poll(queue, 2 * CALL_TIMEOUT_MS);
    if (event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
        status = take_descriptions(event, ids, err);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_TopicCollection_destroy(topics);
    return status;
}

enum mr_status mr_ksrc_topic_ids_ask(struct mr_ksrc_client *client,
                                     const struct mr_ksrc_offsets *partitions,
                                     struct mr_ksrc_topic_ids *ret_ids, struct mr_error *err)
{
    const char **names = mr_alloc(NULL, (partitions->count + 1) * sizeof(*names));
    struct mr_ksrc_topic_ids ids = {NULL, 0};
    size_t count = 0;
    enum mr_status status = MR_OK;

    if (names == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    for (size_t i = 0; i < partitions->count; i++)
        if (count == 0 || strcmp(names[count - 1], partitions->items[i].topic) != 0)
            names[count++] = partitions->items[i].topic;
    if (count > 0)
        status = describe(client, names, count, &ids, err);
    mr_free(names);
    if (status == MR_OK)
        *ret_ids = ids;
    else
        mr_ksrc_topic_ids_release(&ids);
    return status;
}
#else
enum mr_status mr_ksrc_topic_ids_ask(struct mr_ksrc_client *client,
                                     const struct mr_ksrc_offsets *partitions,
                                     struct mr_ksrc_topic_ids *ret_ids, struct mr_error *err)
{
    MR_UNUSED(client);
    MR_UNUSED(partitions);
    MR_UNUSED(err);
    memset(ret_ids, 0, sizeof(*ret_ids));
    return MR_OK;
}
#endif

const char *mr_ksrc_topic_ids_changed(const struct mr_ksrc_topic_ids *ids, struct mr_kv *kv)
{
    for (size_t i = 0; i < ids->count; i++) {
        char bytes[KEY_BYTES_MAX];
        struct mr_slice key;
        struct mr_slice value;

        if (make_key(ids->items[i].topic, bytes, &key) && mr_kv_get(kv, key, &value) &&
            (value.size_bytes != strlen(ids->items[i].id) ||
             memcmp(value.data, ids->items[i].id, value.size_bytes) != 0) &&
            !MR_MUTANT("kafka-source.ids.changed"))
            return ids->items[i].topic;
    }
    return NULL;
}

enum mr_status mr_ksrc_topic_ids_remember(const struct mr_ksrc_topic_ids *ids,
                                          const struct mr_ksrc_offsets *end, bool replace,
                                          struct mr_kv *kv, struct mr_error *err)
{
    for (size_t i = 0; i < ids->count; i++) {
        struct mr_slice id = {ids->items[i].id, strlen(ids->items[i].id)};
        char bytes[KEY_BYTES_MAX];
        struct mr_slice key;
        struct mr_slice value;
        bool known;

        if (!mr_ksrc_offsets_have_topic(end, ids->items[i].topic) ||
            !make_key(ids->items[i].topic, bytes, &key))
            continue;
        known = mr_kv_get(kv, key, &value);
        if (known && value.size_bytes == id.size_bytes &&
            memcmp(value.data, id.data, id.size_bytes) == 0)
            continue;
        if (!known || replace)
            MR_TRY(mr_kv_put(kv, key, id, err));
    }
    return MR_OK;
}
