/*
 * Reads one range [from, until) of one topic partition, by a stream (stream.c).
 *
 * The end of a range is a position, not a record: the last offsets of a range may be markers of
 * transactions, aborted records, or gaps of compaction, which are never delivered. So the range
 * ends at a message >= until, or at an end-of-partition event whose offset is >= until.
 *
 * A record whose leader epoch is later than that of the leader who told the end of its range is not
 * the record that was planned: the log was cut and has grown again (history.c). So that this is
 * noticed behind what was read, too, a stream that begins anew begins LOOK_BACK offsets early and
 * looks at the epochs of what it passes over.
 *
 * Offsets that are gone (retention, truncation, a deleted topic) are MR_DATA_LOSS with the exact
 * range; with fail_on_data_loss = false they are skipped and logged.
 *
 * Values are decoded one by one, or in runs of neighbours joined by line ends when every row comes
 * from the value alone.
 *
 * Thread: a reader belongs to one.
 */
#include "sources/kafka/kafka_source.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

enum {
    BATCH_ROWS = 65536,
    BATCH_BYTES = 1 << 20,
    RUN_BYTES = 1 << 19,
    LOOK_BACK = 256, /* offsets before a range whose records must still be those that were read */
    CHECK_END_AFTER_MS = 3000, /* the partition ends before the range does: look again after that */
};

struct mr_reader {
    struct mr_ksrc_reading *reading;
    struct mr_ksrc_stream *stream;
    int64_t from;
    int64_t until;
    int64_t epoch_before; /* the latest that a record before from may have; < 0 = any */
    int64_t epoch;        /* before until */
    bool finished;
    int64_t progress_ns; /* when something last came */
    int64_t
        short_end_ns; /* since when the partition is known to end before until; 0 = it does not */
    char *place;      /* "topic clicks/0 offset" */
    struct mr_decoder *decoder;
    struct mr_batch_builder *decoded;
    struct mr_batch_builder
        *metadata; /* columns that are not decoded: all of them (plain), or some (mixed) */
    struct mr_bad_records *bad;
    struct mr_buf run; /* values of neighbours, each with '\n' */
    int64_t run_first;
    int64_t run_next;
    struct mr_buf scratch;
};

/* ---- a reader's life ---- */

/* A range without records has no stream. */
static struct mr_ksrc_client *client_of(const struct mr_reader *reader)
{
    return reader->stream != NULL ? reader->stream->client : &reader->reading->client;
}

void mr_ksrc_reader_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->stream != NULL) {
        /* An unfinished range will be read again from its beginning: what was fetched is in the
         * wrong place. */
        if (!reader->finished)
            mr_ksrc_stream_stop(reader->stream);
        mr_ksrc_stream_give(reader->reading, reader->stream);
    }
    if (reader->decoder != NULL)
        reader->reading->format->decoder_free(reader->decoder);
    mr_batch_builder_free(reader->decoded);
    mr_batch_builder_free(reader->metadata);
    mr_bad_records_free(reader->bad);
    mr_buf_release(&reader->run);
    mr_buf_release(&reader->scratch);
    mr_free(reader->place);
    mr_free(reader);
}

static enum mr_status make_builders(struct mr_reader *reader, struct mr_error *err)
{
    struct mr_ksrc_reading *reading = reader->reading;
    const struct mr_ksrc_columns *columns = &reading->columns;
    struct mr_decoder_args args = {columns->decoded_declared, columns->decoded, reading->options,
                                   reading->on_error};

    MR_TRY(mr_bad_records_new(reading->client.name, reading->on_error, &reader->bad, err));
    if (columns->plain)
        return mr_batch_builder_new(columns->schema, &reader->metadata, err);
    MR_TRY(reading->format->decoder_new(&args, &reader->decoder, err));
    MR_TRY(mr_batch_builder_new(columns->decoded, &reader->decoded, err));
    return columns->mixed ? mr_batch_builder_new(columns->metadata, &reader->metadata, err) : MR_OK;
}

/* How much of the log before an offset is worth a look. */
static int64_t look_back(const struct mr_reader *reader, int64_t offset, int64_t low)
{
    if (reader->epoch_before < 0 && (reader->epoch < 0 || offset <= reader->from))
        return 0;
    return MR_MIN((int64_t)LOOK_BACK, MR_MAX(offset - low, INT64_C(0)));
}

static enum mr_status begin_range(struct mr_reader *reader, const struct mr_ksrc_range *range,
                                  struct mr_error *err)
{
    struct mr_ksrc_stream *stream;

    mr_ksrc_reading_epochs(reader->reading, range, &reader->epoch_before, &reader->epoch);
    MR_TRY(mr_ksrc_stream_take(reader->reading, range, &reader->stream, err));
    stream = reader->stream;
    /* Where the leader changed since, what was read is looked at again. */
    if (!stream->started || stream->position != range->from ||
        (reader->epoch != reader->epoch_before && reader->epoch_before >= 0))
        MR_TRY(mr_ksrc_stream_seek(stream, range->from, look_back(reader, range->from, 0), err));
    reader->finished = range->until <= stream->empty_until;
    if (reader->finished)
        stream->position = range->until;
    return MR_OK;
}

enum mr_status mr_ksrc_reader_new(struct mr_ksrc_reading *reading,
                                  const struct mr_ksrc_range *range, struct mr_reader **ret_reader,
                                  struct mr_error *err)
{
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    enum mr_status status;

    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read topic '%s': out of memory", range->topic);
    reader->reading = reading;
    reader->from = range->from;
    reader->until = range->until;
    reader->progress_ns = mr_env_monotonic_ns(reading->client.env);
    reader->place = mr_asprintf("topic %s/%" PRId32 " offset", range->topic, range->partition);
    if (reader->place == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot read topic '%s': out of memory", range->topic);
        goto done;
    }
    MR_TRY_GOTO(make_builders(reader, err));
    reader->finished = range->from >= range->until; /* nothing was asked for */
    if (!reader->finished)
        MR_TRY_GOTO(begin_range(reader, range, err));
    *ret_reader = reader;
    reader = NULL;
done:
    mr_ksrc_reader_close(reader);
    return status;
}

/* ---- decoding ---- */

static enum mr_status decode(struct mr_reader *reader, const char *data, size_t size_bytes,
                             int64_t offset, struct mr_error *err)
{
    struct mr_ksrc_reading *reading = reader->reading;
    /* A byte offset of 0 would mean the header line of a file. */
    struct mr_position position = {reader->place, (uint64_t)offset, 1};

    return reading->format->decode(reader->decoder, (struct mr_slice){data, size_bytes}, &position,
                                   reader->decoded, mr_bad_records_add, reader->bad, err);
}

static enum mr_status flush_run(struct mr_reader *reader, struct mr_error *err)
{
    enum mr_status status;

    if (reader->run.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", reader->place);
    if (reader->run.size == 0)
        return MR_OK;
    status = decode(reader, reader->run.data, reader->run.size, reader->run_first, err);
    mr_buf_clear(&reader->run);
    return status;
}

/* JSON may be laid out over several lines, but a record is a line to the format: line ends become
 * blanks. */
static const char *one_line(struct mr_reader *reader, const rd_kafka_message_t *message,
                            struct mr_error *err)
{
    const char *value = message->payload;
    char *copy;

    if (memchr(value, '\n', message->len) == NULL ||
        strcmp(reader->reading->format->name, "json") != 0)
        return value;
    mr_buf_clear(&reader->scratch);
    mr_buf_add(&reader->scratch, value, message->len);
    if (reader->scratch.failed) {
        (void)MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", reader->place);
        return NULL;
    }
    copy = reader->scratch.data;
    for (char *at = copy; (at = memchr(at, '\n', message->len - (size_t)(at - copy))) != NULL;)
        *at = ' ';
    return copy;
}

static enum mr_status bad_text(struct mr_reader *reader, const rd_kafka_message_t *message,
                               struct mr_error *err)
{
    struct mr_position position = {reader->place, (uint64_t)message->offset, 0};
    struct mr_slice raw = {message->payload != NULL ? message->payload : "",
                           message->payload != NULL ? message->len : 0};

    if (reader->reading->on_error == MR_ON_ERROR_FAIL)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot decode '%s' %" PRId64
                       ": key or value is not UTF-8; declare the column as BLOB, or set "
                       "on_error = 'skip' or 'into TABLE'",
                       reader->place, message->offset);
    mr_bad_records_add(reader->bad, &position, raw, "key or value is not UTF-8");
    return MR_OK;
}

/* A row whose decoded columns are all null. */
static void add_null_row(struct mr_reader *reader)
{
    mr_batch_builder_end_row(reader->decoded); /* fills what is missing with null */
}

/* Nothing but white space: a line of a file that is no record, but here it is one. */
static bool is_blank(const rd_kafka_message_t *message)
{
    const char *value = message->payload;

    for (size_t i = 0; i < message->len; i++) {
        if (value[i] != ' ' && value[i] != '\t' && value[i] != '\r' && value[i] != '\n')
            return false;
    }
    return true;
}

/* A record of which no row came, and nobody said why. */
static enum mr_status bad_blank(struct mr_reader *reader, const rd_kafka_message_t *message,
                                struct mr_error *err)
{
    struct mr_position position = {reader->place, (uint64_t)message->offset, 0};

    if (reader->reading->on_error == MR_ON_ERROR_FAIL)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot decode '%s' %" PRId64
                       ": the value is empty; send null for no value, or set on_error = 'skip' or "
                       "'into TABLE'",
                       reader->place, message->offset);
    mr_bad_records_add(reader->bad, &position, (struct mr_slice){"", 0}, "the value is empty");
    return MR_OK;
}

/* One record by itself: its decoded rows and, for each of them, its metadata. */
static enum mr_status take_single(struct mr_reader *reader, const rd_kafka_message_t *message,
                                  struct mr_error *err)
{
    const struct mr_ksrc_columns *columns = &reader->reading->columns;
    int64_t before = mr_batch_builder_row_count(reader->decoded);

    if (message->payload == NULL) {
        add_null_row(reader);
    } else {
        const char *value = one_line(reader, message, err);

        if (value == NULL)
            return MR_NOMEM;
        if (message->len == 0) /* to some formats an empty line is a row */
            MR_TRY(decode(reader, "\n", 1, message->offset, err));
        else
            MR_TRY(decode(reader, value, message->len, message->offset, err));
        if (mr_batch_builder_row_count(reader->decoded) == before && is_blank(message) &&
            (message->len == 0 || strcmp(reader->reading->format->name, "json") == 0))
            MR_TRY(bad_blank(reader, message, err));
    }
    if (!columns->mixed)
        return MR_OK;
    for (int64_t rows = mr_batch_builder_row_count(reader->decoded) - before; rows > 0; rows--)
        if (!mr_ksrc_columns_append(columns->metadata, message, reader->stream->topic,
                                    reader->metadata)) {
            /* The key is no text: the rows that came from the value cannot be taken back one by
             * one. */
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot decode '%s' %" PRId64
                           ": the key is not UTF-8; declare column 'key' as BLOB",
                           reader->place, message->offset);
        }
    return MR_OK;
}

static enum mr_status take_message(struct mr_reader *reader, const rd_kafka_message_t *message,
                                   struct mr_error *err)
{
    const struct mr_ksrc_columns *columns = &reader->reading->columns;

    if (columns->plain) {
        if (mr_ksrc_columns_append(columns->schema, message, reader->stream->topic,
                                   reader->metadata))
            return MR_OK;
        return bad_text(reader, message, err);
    }
    /* In a run, record number i is offset run_first + i: only for neighbours that are one line
     * each. */
    if (columns->mixed || message->payload == NULL || is_blank(message) ||
        memchr(message->payload, '\n', message->len) != NULL) {
        MR_TRY(flush_run(reader, err));
        return take_single(reader, message, err);
    }
    if (reader->run.size > 0 &&
        (message->offset != reader->run_next || reader->run.size >= RUN_BYTES))
        MR_TRY(flush_run(reader, err));
    if (reader->run.size == 0)
        reader->run_first = message->offset;
    mr_buf_add(&reader->run, message->payload, message->len);
    mr_buf_add_char(&reader->run, '\n');
    reader->run_next = message->offset + 1;
    return MR_OK;
}

/* ---- the end of a range, and what can go wrong ---- */

/* Of the leader who wrote the record; -1 = not told. */
static int64_t message_epoch(const rd_kafka_message_t *message)
{
#if RD_KAFKA_VERSION >= 0x020100ff
    return rd_kafka_message_leader_epoch(message);
#else
    MR_UNUSED(message);
    return KSRC_EPOCH_UNKNOWN;
#endif
}

static enum mr_status lost(struct mr_reader *reader, int64_t from, int64_t to, const char *why,
                           struct mr_error *err)
{
    const struct mr_ksrc_stream *stream = reader->stream;

    if (reader->reading->fail_on_data_loss && !MR_MUTANT("kafka-reader.lost.fail"))
        return MR_FAIL(err, MR_DATA_LOSS,
                       "topic '%s' partition %" PRId32 ": offsets %" PRId64 " to %" PRId64
                       " are gone (%s); set fail_on_data_loss = false to go on without them",
                       stream->topic, stream->partition, from, to - 1, why);
    mr_ext_log('W', reader->reading->client.name,
               "topic '%s' partition %" PRId32 ": skipped offsets %" PRId64 " to %" PRId64
               ", which are gone (%s)",
               stream->topic, stream->partition, from, to - 1, why);
    return MR_OK;
}

/* Finds out what is missing of [position, until) and goes on behind it, when that is allowed. */
static enum mr_status check_loss(struct mr_reader *reader, struct mr_error *err)
{
    struct mr_ksrc_stream *stream = reader->stream;
    int64_t position = stream->position;
    int64_t low;
    int64_t high;
    enum mr_status status;

    status = mr_ksrc_client_watermarks(&reader->reading->planner, stream->topic, stream->partition,
                                       &low, &high, err);
    if (status == MR_NOT_FOUND) {
        MR_TRY(lost(reader, position, reader->until, "the partition was deleted", err));
        reader->finished = true;
        mr_ksrc_stream_stop(stream);
        return MR_OK;
    }
    MR_TRY(status);
    if (high < reader->until && !MR_MUTANT("kafka-reader.loss.end")) {
        int64_t from = MR_MAX(position, high);

        MR_TRY(lost(reader, from, reader->until,
                    "the log ends before them; was the topic made again?", err));
        reader->until = high;
    }
    if (low > position && !MR_MUTANT("kafka-reader.loss.begin")) {
        MR_TRY(lost(reader, position, MR_MIN(low, MR_MAX(reader->until, position + 1)),
                    "the log begins behind them", err));
        position = low;
    }
    if (position >= reader->until) {
        reader->finished = true;
        mr_ksrc_stream_stop(stream);
        return MR_OK;
    }
    if (position != stream->position || !stream->started)
        MR_TRY(mr_ksrc_stream_seek(stream, position, look_back(reader, position, low), err));
    reader->short_end_ns = 0;
    reader->progress_ns = mr_env_monotonic_ns(reader->reading->client.env);
    return MR_OK;
}

/* Is the record one that the leader of the plan can have known? */
static enum mr_status check_epoch(struct mr_reader *reader, const rd_kafka_message_t *message,
                                  struct mr_error *err)
{
    bool is_before = message->offset < reader->from;
    int64_t bound = is_before ? reader->epoch_before : reader->epoch;
    int64_t epoch = message_epoch(message);

    if (bound < 0 || epoch <= bound || MR_MUTANT("kafka-reader.epoch.check"))
        return MR_OK;
    reader->epoch_before = reader->epoch = KSRC_EPOCH_UNKNOWN; /* said once */
    return lost(reader, message->offset, is_before ? reader->from : reader->until,
                is_before
                    ? "they were read, but the log was cut before them and has grown again"
                    : "they were planned, but the log was cut before them and has grown again",
                err);
}

static enum mr_status take_event(struct mr_reader *reader, const rd_kafka_message_t *event,
                                 struct mr_error *err)
{
    struct mr_ksrc_stream *stream = reader->stream;

    int64_t until = reader->until;

    switch (event->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (event->offset >= reader->until) {
            stream->empty_until = event->offset;
            stream->position = reader->until;
            reader->finished = true;
        } else if (reader->short_end_ns == 0) {
            reader->short_end_ns = mr_env_monotonic_ns(reader->reading->client.env);
        }
        return MR_OK;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        /* librdkafka stopped fetching: it starts again where check_loss says */
        mr_ksrc_stream_stop(stream);
        MR_TRY(check_loss(reader, err));
        /* It compares epochs, too, and says so in words only; ours are better, where there are
         * any. */
        if (reader->epoch < 0 && !reader->finished && reader->until == until &&
            strstr(rd_kafka_message_errstr(event), "truncat") != NULL)
            return lost(reader, stream->position, until, "the log was cut before them", err);
        return MR_OK;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return MR_FAIL(err, MR_PERMISSION, "cannot read topic '%s' for source '%s': %s",
                       stream->topic, reader->reading->client.name, rd_kafka_err2str(event->err));
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
        return MR_FAIL(err, MR_BAD_DATA, "cannot read '%s' %" PRId64 ": %s", reader->place,
                       event->offset, rd_kafka_message_errstr(event));
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED: /* a codec or a version of records; it skips them */
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s' %" PRId64
                       ": librdkafka %s does not understand what the brokers have: %s",
                       reader->place, event->offset, rd_kafka_version_str(),
                       rd_kafka_message_errstr(event));
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot read '%s' %" PRId64
                       ": the record is too large; raise kafka.receive.message.max.bytes",
                       reader->place, event->offset);
    default:
        /* connections come and go: librdkafka tries again, take_nothing watches the clock */
        return MR_OK;
    }
}

/* Nothing came for a moment: are we still waiting for something that can come? */
static enum mr_status take_nothing(struct mr_reader *reader, struct mr_error *err)
{
    struct mr_ksrc_client *client = client_of(reader);
    int64_t now_ns = mr_env_monotonic_ns(client->env);

    MR_TRY(mr_ksrc_client_check(client, err));
    if (now_ns < atomic_load(&client->throttled_until_ns))
        reader->progress_ns = now_ns;
    if (reader->short_end_ns != 0 &&
        now_ns - reader->short_end_ns > (int64_t)CHECK_END_AFTER_MS * 1000000)
        return check_loss(reader, err);
    if (now_ns - reader->progress_ns > reader->reading->stall_timeout_us * 1000) {
        int64_t position = reader->stream->position, until = reader->until;

        MR_TRY(check_loss(reader, err));
        /* Nothing was lost, and it does not come: a stream that begins anew may do better. */
        if (!reader->finished && reader->stream->position == position && reader->until == until)
            return mr_ksrc_client_fail(client, "read", RD_KAFKA_RESP_ERR__TIMED_OUT, err);
    }
    return MR_OK;
}

/* The last record of a range tells how old the newest is that was read (lag in seconds). */
static void note_time(struct mr_ksrc_reading *reading, const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    int64_t time_ms = rd_kafka_message_timestamp(message, &type);
    int64_t newest_ms = atomic_load(&reading->newest_ms);

    while (time_ms > newest_ms &&
           !atomic_compare_exchange_weak(&reading->newest_ms, &newest_ms, time_ms))
        ;
}

/* Handles one message; true when it belongs to the next range and was kept. */
static bool keep_for_later(struct mr_reader *reader, rd_kafka_message_t *message)
{
    struct mr_ksrc_stream *stream = reader->stream;

    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset < reader->until)
        return false;
    stream->position = reader->until;
    reader->finished = true;
    if (stream->held_at > 0)
        stream->held_at--; /* it came from the array and is still in it */
    else {
        stream->held[0] = message;
        stream->held_count = 1;
    }
    return true;
}

static enum mr_status step(struct mr_reader *reader, struct mr_error *err)
{
    struct mr_ksrc_stream *stream = reader->stream;
    rd_kafka_message_t *message = mr_ksrc_stream_next(stream);
    enum mr_status status;

    if (message == NULL)
        return take_nothing(reader, err);
    if (keep_for_later(reader, message))
        return MR_OK;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        status = check_epoch(reader, message, err);
        if (status != MR_OK) {
            rd_kafka_message_destroy(message);
            return status;
        }
    }
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        status = take_event(reader, message, err);
        /* Fetching begins earlier, to look at what was read: those are not ours. */
    } else if (message->offset < stream->position && !MR_MUTANT("kafka-reader.step.before")) {
        status = MR_OK;
    } else {
        status = take_message(reader, message, err);
        stream->position = message->offset + 1;
        if (stream->position == reader->until)
            note_time(reader->reading, message);
        reader->short_end_ns = 0;
        reader->finished = stream->position >= reader->until;
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        reader->progress_ns = mr_env_monotonic_ns(reader->reading->client.env);
    rd_kafka_message_destroy(message);
    return status;
}

/* ---- batches ---- */

static size_t built_bytes(const struct mr_reader *reader)
{
    return (reader->decoded != NULL ? mr_batch_builder_bytes(reader->decoded) : 0) +
           (reader->metadata != NULL ? mr_batch_builder_bytes(reader->metadata) : 0);
}

static int64_t built_rows(const struct mr_reader *reader)
{
    return mr_batch_builder_row_count(reader->decoded != NULL ? reader->decoded : reader->metadata);
}

static bool is_full(const struct mr_reader *reader)
{
    int64_t rows = built_rows(reader);

    return rows >= BATCH_ROWS || (rows > 0 && built_bytes(reader) >= BATCH_BYTES);
}

/* Decoded and metadata columns side by side, in the table's order. */
static enum mr_status merge(struct mr_reader *reader, struct mr_batch **ret_batch,
                            struct mr_error *err)
{
    const struct mr_ksrc_columns *columns = &reader->reading->columns;
    struct mr_batch *decoded = NULL;
    struct mr_batch *metadata = NULL;
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_finish(reader->decoded, &decoded, err));
    MR_TRY_GOTO(mr_batch_builder_finish(reader->metadata, &metadata, err));
    MR_ASSERT(mr_batch_row_count(decoded) == mr_batch_row_count(metadata));
    MR_TRY_GOTO(mr_batch_builder_new(columns->schema, &builder, err));
    for (int64_t row = 0; row < mr_batch_row_count(decoded); row++) {
        uint32_t next[2] = {0, 0};

        for (uint32_t i = 0; i < mr_schema_field_count(columns->schema); i++) {
            bool from_format = columns->from[i] == KSRC_FROM_FORMAT;
            const struct mr_batch *side = from_format ? decoded : metadata;

            mr_batch_builder_copy(builder, i, mr_batch_column(side, next[from_format]++), row);
        }
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_builder_free(builder);
    mr_batch_unref(decoded);
    mr_batch_unref(metadata);
    return status;
}

enum mr_status mr_ksrc_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    *ret_batch = NULL;
    while (!reader->finished && !is_full(reader))
        MR_TRY(step(reader, err));
    if (!reader->reading->columns.plain)
        MR_TRY(flush_run(reader, err));
    if (reader->finished)
        mr_ksrc_client_succeeded(client_of(reader));
    if (built_rows(reader) == 0)
        return MR_OK; /* the end: a batch that is full has rows */
    if (reader->reading->columns.mixed)
        return merge(reader, ret_batch, err);
    return mr_batch_builder_finish(reader->decoded != NULL ? reader->decoded : reader->metadata,
                                   ret_batch, err);
}

enum mr_status mr_ksrc_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                       uint64_t *ret_count, struct mr_error *err)
{
    return mr_bad_records_take(reader->bad, ret_bad, ret_count, err);
}
