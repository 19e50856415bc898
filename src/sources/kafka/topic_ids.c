/*
 * Which topic a name means: Kafka gives every topic an id when it is made, so a topic that was
 * deleted and made again under the same name has another one, even when it has grown past the
 * offsets that we remember. history.c says what becomes of it.
 *
 * Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include <string.h>

enum { CALL_TIMEOUT_MS = 2000 };

void mr_ksrc_topic_ids_release(struct mr_ksrc_topic_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        mr_free(ids->items[i].topic);
        mr_free(ids->items[i].id);
    }
    mr_free(ids->items);
    memset(ids, 0, sizeof(*ids));
}

enum mr_status mr_ksrc_topic_ids_put(struct mr_ksrc_topic_ids *ids, const char *topic,
                                     const char *id, struct mr_error *err)
{
    struct mr_ksrc_topic_id *items =
        mr_realloc(NULL, ids->items, (ids->count + 1) * sizeof(*ids->items));

    if (items == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    ids->items = items;
    items[ids->count].topic = mr_strdup(topic);
    items[ids->count].id = mr_strdup(id);
    ids->count++;
    if (items[ids->count - 1].topic == NULL || items[ids->count - 1].id == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    return MR_OK;
}

const char *mr_ksrc_topic_ids_find(const struct mr_ksrc_topic_ids *ids, const char *topic)
{
    for (size_t i = 0; i < ids->count; i++)
        if (strcmp(ids->items[i].topic, topic) == 0)
            return ids->items[i].id;
    return NULL;
}

#if RD_KAFKA_VERSION >= 0x020300ff
static enum mr_status take_descriptions(rd_kafka_event_t *event, struct mr_ksrc_topic_ids *ids,
                                        struct mr_error *err)
{
    size_t count = 0;
    const rd_kafka_TopicDescription_t **topics =
        rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &count);

    for (size_t i = 0; i < count; i++) {
        const rd_kafka_error_t *error = rd_kafka_TopicDescription_error(topics[i]);

        if (error == NULL || rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_NO_ERROR)
            MR_TRY(mr_ksrc_topic_ids_put(
                ids, rd_kafka_TopicDescription_name(topics[i]),
                rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(topics[i])), err));
    }
    return MR_OK;
}

static enum mr_status describe(struct mr_ksrc_client *client, const char **names, size_t count,
                               struct mr_ksrc_topic_ids *ids, bool *ret_answered,
                               struct mr_error *err)
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
    *ret_answered = event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (*ret_answered)
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
                                     struct mr_ksrc_topic_ids *ret_ids, bool *ret_answered,
                                     struct mr_error *err)
{
    const char **names = mr_alloc(NULL, (partitions->count + 1) * sizeof(*names));
    struct mr_ksrc_topic_ids ids = {NULL, 0};
    size_t count = 0;
    enum mr_status status = MR_OK;

    *ret_answered = false;
    if (names == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at the ids of topics: out of memory");
    for (size_t i = 0; i < partitions->count; i++)
        if (count == 0 || strcmp(names[count - 1], partitions->items[i].topic) != 0)
            names[count++] = partitions->items[i].topic;
    if (count > 0)
        status = describe(client, names, count, &ids, ret_answered, err);
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
                                     struct mr_ksrc_topic_ids *ret_ids, bool *ret_answered,
                                     struct mr_error *err)
{
    MR_UNUSED(client);
    MR_UNUSED(partitions);
    MR_UNUSED(err);
    *ret_answered = false;
    memset(ret_ids, 0, sizeof(*ret_ids));
    return MR_OK;
}
#endif
