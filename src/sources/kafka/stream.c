/*
 * Streams of the Kafka source, for its readers (reader.c).
 *
 * A stream is a partition that librdkafka fetches ahead for us. It stays positioned between
 * batches: the next range normally begins where the last one ended, and then nothing has to be
 * fetched twice.
 *
 *     stream   idle -- reader_new: position is from --> busy -- end of the range --> idle, messages
 *              >= until are held
 *                   \- position is elsewhere: stop, drop what was fetched, start at from
 *
 * Pieces of one range that are read at the same time have a stream each; all but the first one
 * bring a client of their own, because librdkafka fetches a partition once for a client.
 *
 * Thread: a stream belongs to the reader that took it; streams are handed out under reading->lock.
 */
#include "sources/kafka/kafka_source.h"

#include <string.h>

enum { WAIT_MS = 50 };

static void lock(struct mr_ksrc_reading *reading)
{
    while (atomic_flag_test_and_set_explicit(&reading->lock, memory_order_acquire))
        ;
}

static void unlock(struct mr_ksrc_reading *reading)
{
    atomic_flag_clear_explicit(&reading->lock, memory_order_release);
}

/* ---- streams ---- */

static void drop_held(struct mr_ksrc_stream *stream)
{
    while (stream->held_at < stream->held_count)
        rd_kafka_message_destroy(stream->held[stream->held_at++]);
    stream->held_at = 0;
    stream->held_count = 0;
}

void mr_ksrc_stream_stop(struct mr_ksrc_stream *stream)
{
    drop_held(stream);
    if (stream->started)
        rd_kafka_consume_stop(stream->handle, stream->partition);
    stream->started = false;
    stream->empty_until = 0;
    if (stream->queue != NULL)
        rd_kafka_queue_destroy(stream->queue);
    stream->queue = NULL;
}

static void stream_free(struct mr_ksrc_stream *stream)
{
    if (stream == NULL)
        return;
    mr_ksrc_stream_stop(stream);
    if (stream->handle != NULL)
        rd_kafka_topic_destroy(stream->handle);
    mr_ksrc_client_release(&stream->own);
    mr_free(stream->topic);
    mr_free(stream);
}

void mr_ksrc_streams_free(struct mr_ksrc_reading *reading)
{
    while (reading->streams != NULL) {
        struct mr_ksrc_stream *stream = reading->streams;

        reading->streams = stream->next;
        stream_free(stream);
    }
}

static struct mr_ksrc_stream *stream_new(const struct mr_ksrc_range *range)
{
    struct mr_ksrc_stream *stream = mr_alloc_zero(NULL, sizeof(*stream));

    if (stream == NULL)
        return NULL;
    stream->topic = mr_strdup(range->topic);
    stream->partition = range->partition;
    stream->busy = true;
    if (stream->topic == NULL) {
        stream_free(stream);
        return NULL;
    }
    return stream;
}

/* Makes its handle, and its client when it is not the first of its partition. */
static enum mr_status stream_open(struct mr_ksrc_reading *reading, struct mr_ksrc_stream *stream,
                                  struct mr_error *err)
{
    const struct mr_source_args args = {
        .env = reading->client.env, .name = reading->client.name, .options = reading->options};

    stream->client = stream->is_first ? &reading->client : &stream->own;
    if (stream->client->rk == NULL)
        MR_TRY(mr_ksrc_client_open(stream->client, &args, false, err));
    stream->handle = rd_kafka_topic_new(stream->client->rk, stream->topic, NULL);
    if (stream->handle == NULL)
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot read topic '%s': %s", stream->topic,
                       rd_kafka_err2str(rd_kafka_last_error()));
    return MR_OK;
}

void mr_ksrc_stream_give(struct mr_ksrc_reading *reading, struct mr_ksrc_stream *stream)
{
    lock(reading);
    stream->busy = false;
    unlock(reading);
}

/*
 * An idle stream of the partition, marked busy: best one that is where the range begins; else a new
 * one. Pieces of a range are read at the same time, each by a stream of its own; there are as many
 * as workers at most.
 */
enum mr_status mr_ksrc_stream_take(struct mr_ksrc_reading *reading,
                                   const struct mr_ksrc_range *range,
                                   struct mr_ksrc_stream **ret_stream, struct mr_error *err)
{
    struct mr_ksrc_stream *spare = stream_new(range);
    struct mr_ksrc_stream *stream = NULL;
    enum mr_status status;

    if (spare == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read topic '%s': out of memory", range->topic);
    spare->is_first = true;
    lock(reading);
    for (struct mr_ksrc_stream *one = reading->streams; one != NULL; one = one->next) {
        if (one->partition != range->partition || strcmp(one->topic, range->topic) != 0)
            continue;
        spare->is_first = false;
        if (!one->busy && (stream == NULL || (one->started && one->position == range->from)))
            stream = one;
    }
    if (stream == NULL) {
        stream = spare;
        stream->next = reading->streams;
        reading->streams = stream;
    }
    stream->busy = true;
    unlock(reading);
    if (stream != spare)
        stream_free(spare);
    if (stream->handle == NULL) {
        status = stream_open(reading, stream, err);
        if (status != MR_OK) {
            mr_ksrc_stream_give(reading, stream);
            return status;
        }
    }
    *ret_stream = stream;
    return MR_OK;
}

/* The next offset that is handed out is `offset`; fetching begins `before` offsets earlier. */
enum mr_status mr_ksrc_stream_seek(struct mr_ksrc_stream *stream, int64_t offset, int64_t before,
                                   struct mr_error *err)
{
    mr_ksrc_stream_stop(stream);
    stream->queue = rd_kafka_queue_new(stream->client->rk);
    if (stream->queue == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read topic '%s': out of memory", stream->topic);
    if (rd_kafka_consume_start_queue(stream->handle, stream->partition, offset - before,
                                     stream->queue) != 0)
        return mr_ksrc_client_fail(stream->client, "start to read", rd_kafka_last_error(), err);
    stream->started = true;
    stream->position = offset;
    return MR_OK;
}

/* Next message or event, or NULL when nothing came for WAIT_MS. The caller destroys it. */
rd_kafka_message_t *mr_ksrc_stream_next(struct mr_ksrc_stream *stream)
{
    ssize_t count;

    if (stream->held_at < stream->held_count)
        return stream->held[stream->held_at++];
    stream->held_at = 0;
    stream->held_count = 0;
    /* The batch call waits for a full array, so it is only asked for what is there; the single call
     * waits. */
    count = rd_kafka_consume_batch_queue(stream->queue, 0, stream->held, KSRC_FETCH_MESSAGES);
    if (count <= 0)
        return rd_kafka_consume_queue(stream->queue, WAIT_MS);
    stream->held_count = (size_t)count;
    return stream->held[stream->held_at++];
}

/* ---- which logs the batch may see ---- */

void mr_ksrc_reading_set_epochs(struct mr_ksrc_reading *reading, struct mr_ksrc_offsets *epochs)
{
    struct mr_ksrc_offsets before;

    lock(reading);
    before = reading->epochs;
    reading->epochs = *epochs;
    unlock(reading);
    mr_ksrc_offsets_release(&before);
}

/* What records of the range, and before it, may be. */
void mr_ksrc_reading_epochs(struct mr_ksrc_reading *reading, const struct mr_ksrc_range *range,
                            int64_t *ret_before, int64_t *ret_until)
{
    const struct mr_ksrc_offset *found;

    *ret_before = *ret_until = KSRC_EPOCH_UNKNOWN;
    lock(reading);
    found = mr_ksrc_offsets_find(&reading->epochs, range->topic, range->partition);
    if (found != NULL) {
        *ret_until = found->epoch;
        /* What is before a later piece of a range is of this batch. */
        *ret_before = range->is_later ? found->epoch : found->offset;
    }
    unlock(reading);
}
