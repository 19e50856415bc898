/*
 * Offsets that the program commits to its consumer group (KD-8): hints for other tools and for a
 * new query that begins at them. Our own truth is the checkpoint.
 *
 *     program --enqueue--> link --take--> one request under way --answer--> done
 *
 * One request at a time: what is enqueued meanwhile waits, and the largest offset of a partition
 * wins. Answers are served at the next turn, so callbacks run on the driver. At the stop what is
 * still enqueued is sent and waited for a moment.
 *
 * Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include <string.h>

enum { END_WAIT_MS = 2000 };

/* The answer; librdkafka calls it inside rd_kafka_queue_poll_callback. */
static void on_answer(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                      rd_kafka_topic_partition_list_t *offsets, void *opaque)
{
    struct mr_ksrc_commits *commits = opaque;
    char *text = commits->under_way;

    MR_UNUSED(rk);
    for (int i = 0; offsets != NULL && i < offsets->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        code = offsets->elems[i].err;
    commits->under_way = NULL;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        mr_ext_log('W', commits->client->name, "cannot commit offsets to group '%s': %s",
                   commits->client->group_id, rd_kafka_err2str(code));
    if (text != NULL)
        commits->link->done(commits->link->arg, text,
                            code == RD_KAFKA_RESP_ERR_NO_ERROR ? MR_OK : MR_UNAVAILABLE,
                            code == RD_KAFKA_RESP_ERR_NO_ERROR ? "" : rd_kafka_err2str(code));
    mr_text_free(text);
}

static rd_kafka_topic_partition_list_t *list_of(const struct mr_ksrc_offsets *offsets)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)offsets->count);

    for (size_t i = 0; i < offsets->count; i++)
        rd_kafka_topic_partition_list_add(list, offsets->items[i].topic,
                                          offsets->items[i].partition)
            ->offset = offsets->items[i].offset;
    return list;
}

static void send_request(struct mr_ksrc_commits *commits, const struct mr_ksrc_offsets *offsets)
{
    rd_kafka_topic_partition_list_t *list = list_of(offsets);
    rd_kafka_resp_err_t code;

    if (commits->queue == NULL)
        commits->queue = rd_kafka_queue_new(commits->client->rk);
    code = rd_kafka_commit_queue(commits->client->rk, list, commits->queue, on_answer, commits);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        on_answer(commits->client->rk, code, NULL, commits);
}

void mr_ksrc_commits_turn(struct mr_ksrc_commits *commits)
{
    struct mr_ksrc_offsets offsets = {0};

    if (commits->link == NULL)
        return;
    if (commits->queue != NULL)
        rd_kafka_queue_poll_callback(commits->queue, 0);
    if (commits->under_way != NULL)
        return;
    commits->under_way = commits->link->take(commits->link->arg);
    if (commits->under_way == NULL)
        return;
    if (mr_ksrc_offsets_parse(commits->under_way, &offsets, NULL) == MR_OK)
        send_request(commits, &offsets);
    else
        on_answer(NULL, RD_KAFKA_RESP_ERR__INVALID_ARG, NULL, commits);
    mr_ksrc_offsets_release(&offsets);
}

void mr_ksrc_commits_end(struct mr_ksrc_commits *commits)
{
    int64_t deadline_ns;

    if (commits->link == NULL || commits->client == NULL || commits->client->rk == NULL)
        return;
    deadline_ns = mr_env_monotonic_ns(commits->client->env) + (int64_t)END_WAIT_MS * 1000000;
    do {
        mr_ksrc_commits_turn(commits);
        if (commits->under_way != NULL)
            rd_kafka_queue_poll_callback(commits->queue, 50);
    } while (commits->under_way != NULL && mr_env_monotonic_ns(commits->client->env) < deadline_ns);
    if (commits->under_way != NULL)
        mr_ext_log('W', commits->client->name, "stopped before offsets were committed: %s",
                   commits->under_way);
    mr_text_free(commits->under_way);
    commits->under_way = NULL;
    if (commits->queue != NULL)
        rd_kafka_queue_destroy(commits->queue);
    commits->queue = NULL;
}
