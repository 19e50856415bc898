/*
 * Receivers as replayable sources (dstream.md 8, 9; architecture section 1).
 *
 *     receiver --store--> current block --cut--> block log (append, sync) --> plan() sees it
 *     The offset is the number of the last block.
 *
 * Nothing that a batch may see is not in the log first, and what the log has is kept until the
 * batch that read it is committed: an allocation is nothing but the block range in PLAN(N).
 *
 * Called by the driver as any other source; storing and the receiver's life are receiver_host.c and
 * block_generator.c.
 *
 * Threads: readers belong to workers; everything else is the driver's.
 */
#include "base/limits.h"
#include "core/receiver_host.h"

#include "base/log.h"
#include "base/mutant.h"
#include "base/number_text.h"

#include <string.h>

enum {
    /* blocks are put together into partitions of at least this size */
    PARTITION_BYTES = 1 << 20,
    BATCH_BYTES = 1 << 20, /* rows are handed on in batches of about this size */
    PARTITIONS_MAX = MR_LIMIT_RECEIVER_PARTITIONS,
    DESCRIPTION_BYTES = 4096, /* of a batch's blocks, about */
};

struct mr_source {
    struct mr_receiver_host host;
    struct mr_source_run *run;
    uint64_t committed_block;
    uint64_t leftover_block; /* newest of an earlier run: the first batch takes them all (CP-14) */
};

struct mr_reader {
    struct mr_source *source;
    struct mr_decoder *decoder;
    struct mr_batch_builder *builder;
    struct mr_batch_builder *bad;
    struct mr_buf block;
    uint64_t next_block;
    uint64_t last_block;
    uint64_t bad_count;
};

/* Source operations: driver. */

static uint64_t block_of(const char *offset)
{
    int64_t block = 0;

    if (offset == NULL)
        return 0;
    return mr_int_parse(offset, strlen(offset), &block) && block > 0 ? (uint64_t)block : 0;
}

/* Bytes of the blocks (after, last] that the log still has. */
static uint64_t bytes_of_blocks(struct mr_source *source, uint64_t after, uint64_t last)
{
    struct mr_block_log *log = source->host.log;
    uint64_t bytes = 0;

    for (uint64_t block = MR_MAX(after + 1, mr_block_log_first(log)); block <= last; block++) {
        struct mr_block_info info;
        if (mr_block_log_info(log, block, &info, NULL) == MR_OK)
            bytes += info.size_bytes;
    }
    return bytes;
}

/* The offsets of a plan are numbers of blocks that do not go back: a batch of no block would be
 * followed by one of blocks that were processed. */
static enum mr_status check_offsets(const struct mr_source_run *run, struct mr_error *err)
{
    uint64_t start = 0, end = UINT64_MAX;

    if (((run->start != NULL && !mr_uint_parse(run->start, strlen(run->start), &start)) ||
         (run->end != NULL && !mr_uint_parse(run->end, strlen(run->end), &end)) || start > end) &&
        !MR_MUTANT("receiver.open.offsets"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot start a receiver: its plan is of blocks behind '%.40s' up to "
                       "'%.40s'; restore the checkpoint from a copy",
                       run->start != NULL ? run->start : "", run->end != NULL ? run->end : "");
    return MR_OK;
}

enum mr_status mr__receiver_source_open(struct mr_query *query, struct mr_source_run *run,
                                        uint64_t min_last, struct mr_source **ret_source,
                                        struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));
    struct mr_receiver_args args = {query->env, run->spec.name, run->spec.options, run->spec.user};
    enum mr_status status;

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    source->run = run;
    source->host.query = query;
    source->host.name = run->spec.name;
    source->host.ops = run->spec.connector->receiver_ops;
    mr__receiver_host_init(&source->host);
    MR_TRY_GOTO(check_offsets(run, err));
    MR_TRY_GOTO(mr__receiver_open_log(query, &run->spec, min_last, &source->host.log, err));
    source->committed_block = block_of(run->start);
    source->leftover_block = mr_block_log_last(source->host.log);
    MR_TRY_GOTO(mr__receiver_check_columns(query, &run->spec, source->committed_block,
                                           source->leftover_block, err));
    source->host.backlog_bytes =
        bytes_of_blocks(source, source->committed_block, mr_block_log_last(source->host.log));
    status = run->spec.connector->receiver_open(&args, &source->host.receiver, err);
done:
    if (status != MR_OK) {
        mr__receiver_source_ops.stop(source);
        return status;
    }
    *ret_source = source;
    return MR_OK;
}

/* The last block up to which (after, last] has at most that many bytes; one is always taken. */
static uint64_t within(struct mr_source *source, uint64_t after, uint64_t last, uint64_t bytes_max)
{
    uint64_t bytes = 0;

    for (uint64_t block = after + 1; block <= last; block++) {
        struct mr_block_info info;

        if (mr_block_log_info(source->host.log, block, &info, NULL) != MR_OK)
            continue;
        bytes += info.size_bytes;
        if (bytes > bytes_max && block > after + 1)
            return block - 1;
    }
    return last;
}

/*
 * The newest block that belongs to the batch. A tick takes what came until its time, so that
 * batches that are late have the data of their own interval (RBT-4); a drain takes everything. A
 * block from the future was stamped before the clock was set back: its stamp says nothing.
 */
static enum mr_status last_of_batch(struct mr_source *source, const char *start,
                                    const struct mr_plan_limits *limits, uint64_t *ret_last,
                                    struct mr_error *err)
{
    const struct mr_query *query = source->host.query;
    uint64_t newest = mr_block_log_last(source->host.log);
    uint64_t last = MR_MAX(block_of(start), MR_MIN(source->leftover_block, newest));
    int64_t now_us = 0;

    if (query->config.trigger != MR_TRIGGER_TICK || query->draining)
        last = newest;
    if (last < newest)
        now_us = mr_env_wall_us(query->env);
    while (last < newest) {
        struct mr_block_info info;

        MR_TRY(mr_block_log_info(source->host.log, last + 1, &info, err));
        if (info.received_us > limits->batch_time_us && info.received_us <= now_us)
            break;
        last++;
    }
    if (!limits->ignore && query->config.trigger != MR_TRIGGER_TICK && limits->bytes_max > 0)
        last = within(source, block_of(start), last, limits->bytes_max);
    *ret_last = last;
    return MR_OK;
}

enum mr_status mr__receiver_source_start(struct mr_source *source, struct mr_error *err)
{
    return mr__receiver_host_start(&source->host, err);
}

static enum mr_status receiver_plan(struct mr_source *source, const char *start,
                                    const struct mr_plan_limits *limits, char **ret_end,
                                    struct mr_error *err)
{
    struct mr_receiver_host *host = &source->host;
    uint64_t last = 0;

    /* The threads start with the first plan, when the driver has set the wake-up and everything
     * else is open. */
    MR_TRY(mr__receiver_host_start(host, err));
    MR_TRY(mr__generator_failure(&host->generator, err));
    MR_TRY(last_of_batch(source, start, limits, &last, err));
    if (last <= block_of(start)) {
        *ret_end = NULL;
        return MR_OK;
    }
    *ret_end = mr_asprintf("%llu", (unsigned long long)last);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "cannot plan a batch: out of memory");
}

/*
 * Walks the blocks of (start, end] and puts neighbours together until a partition has
 * PARTITION_BYTES. With wanted < PARTITIONS_MAX stops at that partition and gives its first and
 * last block.
 */
static enum mr_status walk_partitions(struct mr_source *source, const char *start, const char *end,
                                      uint32_t wanted, uint32_t *ret_count, uint64_t *ret_bytes,
                                      uint64_t *ret_first, uint64_t *ret_last, struct mr_error *err)
{
    uint64_t first = block_of(start) + 1, last = block_of(end), in_partition = 0;
    uint32_t count = 0;

    *ret_bytes = 0;
    *ret_first = first;
    for (uint64_t block = first; block <= last; block++) {
        struct mr_block_info info;

        MR_TRY(mr_block_log_info(source->host.log, block, &info, err));
        *ret_bytes += info.size_bytes;
        in_partition += info.size_bytes;
        *ret_last = block;
        if ((in_partition >= PARTITION_BYTES && count + 1 < PARTITIONS_MAX) || block == last) {
            if (count == wanted)
                return MR_OK;
            count++;
            in_partition = 0;
            *ret_first = block + 1;
        }
    }
    *ret_count = count;
    return MR_OK;
}

static enum mr_status receiver_split(struct mr_source *source, const char *start, const char *end,
                                     uint32_t *ret_partitions, uint64_t *ret_bytes,
                                     struct mr_error *err)
{
    uint64_t first, last = 0;

    return walk_partitions(source, start, end, UINT32_MAX, ret_partitions, ret_bytes, &first, &last,
                           err);
}

static void receiver_close(struct mr_reader *reader)
{
    const struct mr_format *format;

    if (reader == NULL)
        return;
    format = reader->source->run->spec.format;
    if (reader->decoder != NULL)
        format->decoder_free(reader->decoder);
    mr_batch_builder_free(reader->builder);
    mr_batch_builder_free(reader->bad);
    mr_buf_release(&reader->block);
    mr_free(reader);
}

static enum mr_status receiver_read(struct mr_source *source, const char *start, const char *end,
                                    uint32_t partition, struct mr_reader **ret_reader,
                                    struct mr_error *err)
{
    struct mr_source_run *run = source->run;
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    struct mr_decoder_args args = {run->spec.declared != NULL ? run->spec.declared : run->schema,
                                   run->schema, run->spec.options, run->spec.on_error};
    uint32_t count = 0;
    uint64_t bytes = 0;
    enum mr_status status;

    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read received blocks: out of memory");
    reader->source = source;
    MR_TRY_GOTO(walk_partitions(source, start, end, partition, &count, &bytes, &reader->next_block,
                                &reader->last_block, err));
    MR_TRY_GOTO(run->spec.format->decoder_new(&args, &reader->decoder, err));
    MR_TRY_GOTO(mr_batch_builder_new(run->schema, &reader->builder, err));
    status = mr_batch_builder_new(mr_bad_schema(), &reader->bad, err);
done:
    if (status != MR_OK) {
        receiver_close(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

static void keep_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                     const char *reason)
{
    struct mr_reader *reader = arg;
    char *where;

    reader->bad_count++;
    if (reader->source->run->bad == NULL)
        return;
    where = mr_asprintf("%s:%llu", position->name, (unsigned long long)position->record);
    mr_batch_builder_text(reader->bad, 0, reader->source->run->spec.name,
                          strlen(reader->source->run->spec.name));
    mr_batch_builder_text(reader->bad, 1, where != NULL ? where : "",
                          where != NULL ? strlen(where) : 0);
    mr_batch_builder_text(reader->bad, 2, reason, strlen(reason));
    mr_batch_builder_text(reader->bad, 3, raw.data,
                          MR_MIN(raw.size_bytes, (size_t)MR_BAD_RAW_BYTES_MAX));
    mr_batch_builder_end_row(reader->bad);
    mr_free(where);
}

/* Is this the first block with data? The very first one may be the empty one that a restart puts
 * into a segment without blocks (block_log.c). */
static bool begins_stream(const struct mr_reader *reader)
{
    struct mr_block_info info;

    return reader->next_block == 1 ||
           (reader->next_block == 2 &&
            mr_block_log_info(reader->source->host.log, 1, &info, NULL) == MR_OK &&
            info.size_bytes == 0);
}

static enum mr_status decode_block(struct mr_reader *reader, struct mr_error *err)
{
    char name[MR_NAME_BYTES_MAX + 64];
    struct mr_buf text = MR_BUF_INIT;
    struct mr_position position = {name, 1, 0};
    enum mr_status status;

    mr_buf_printf(&text, "%.*s block %llu", MR_NAME_BYTES_MAX, reader->source->run->spec.name,
                  (unsigned long long)reader->next_block);
    if (text.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot read a received block: out of memory");
    memcpy(name, text.data, text.size + 1);
    mr_buf_release(&text);
    MR_TRY(mr_block_log_read(reader->source->host.log, reader->next_block, &reader->block, err));
    /* A header line belongs to files, not to blocks: only the stream's very first block may begin
     * with one. */
    position.byte_offset = begins_stream(reader) ? 0 : 1;
    status = reader->source->run->spec.format->decode(
        reader->decoder, (struct mr_slice){reader->block.data, reader->block.size}, &position,
        reader->builder, keep_bad, reader, err);
    reader->next_block++;
    return status;
}

static enum mr_status receiver_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    *ret_batch = NULL;
    while (reader->next_block <= reader->last_block &&
           mr_batch_builder_bytes(reader->builder) < BATCH_BYTES)
        MR_TRY(decode_block(reader, err));
    if (mr_batch_builder_row_count(reader->builder) == 0)
        return MR_OK;
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static enum mr_status receiver_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                        uint64_t *ret_count, struct mr_error *err)
{
    *ret_count = reader->bad_count;
    reader->bad_count = 0;
    *ret_bad = NULL;
    if (mr_batch_builder_row_count(reader->bad) == 0)
        return MR_OK;
    return mr_batch_builder_finish(reader->bad, ret_bad, err);
}

/* The batch is committed: its blocks are not needed any more, and the receiver gets room again. */
static void receiver_committed(struct mr_source *source, const char *end)
{
    struct mr_receiver_host *host = &source->host;
    uint64_t last = block_of(end);
    uint64_t bytes = bytes_of_blocks(source, source->committed_block, last);
    struct mr_error err;

    source->committed_block = MR_MAX(source->committed_block, last);
    mr__receiver_host_give_room(host, bytes);
    mr_error_clear(&err);
    if (mr_block_log_purge(host->log, last + 1, &err) != MR_OK)
        mr_log(MR_LOG_WARNING, "receiver", host->query->name, -1,
               "cannot remove old received blocks: %s", err.text);
}

static void receiver_stats(struct mr_source *source, const char *end,
                           struct mr_source_stats *ret_stats)
{
    MR_UNUSED(end);
    ret_stats->latest_offset =
        mr_asprintf("%llu", (unsigned long long)mr_block_log_last(source->host.log));
}

static bool receiver_row_count(struct mr_source *source, const char *start, const char *end,
                               uint64_t *ret_rows)
{
    uint64_t rows = 0;

    for (uint64_t block = block_of(start) + 1; block <= block_of(end); block++) {
        struct mr_block_info info;

        if (mr_block_log_info(source->host.log, block, &info, NULL) != MR_OK)
            return false;
        rows += info.record_count;
    }
    *ret_rows = rows;
    return true;
}

static void receiver_set_wakeup(struct mr_source *source, void (*wake)(void *arg), void *arg)
{
    source->host.wake = wake;
    source->host.wake_arg = arg;
}

static bool receiver_exhausted(struct mr_source *source, const char *end)
{
    return source->host.ops->ends && mr__receiver_host_ended(&source->host) &&
           mr_block_log_last(source->host.log) <= block_of(end);
}

bool mr__receiver_source_unended(struct mr_source *source)
{
    return source->host.ops->ends && !mr__receiver_host_ended(&source->host);
}

void mr__receiver_source_drain(struct mr_source *source)
{
    mr__receiver_host_drain(&source->host);
}

void mr__receiver_source_set_rate(struct mr_source *source, int64_t rate)
{
    mr__generator_set_rate(&source->host.generator, rate);
}

void mr__receiver_source_state(struct mr_source *source, struct mr_receiver_state *ret_state)
{
    mr_mutex_lock(&source->host.lock);
    *ret_state = source->host.state;
    mr_mutex_unlock(&source->host.lock);
    ret_state->rate_limit = mr__generator_rate(&source->host.generator);
}

/* What the receiver said about the blocks of the range, a line each. */
static char *receiver_describe(struct mr_source *source, const char *start, const char *end)
{
    struct mr_buf text = MR_BUF_INIT;
    uint64_t last = block_of(end);

    for (uint64_t block = block_of(start) + 1; block <= last; block++) {
        if (text.size > DESCRIPTION_BYTES) {
            mr_buf_add_str(&text, "...\n");
            break;
        }
        (void)mr_block_log_metadata(source->host.log, block, &text, NULL);
    }
    if (text.size == 0) {
        mr_buf_release(&text);
        return NULL;
    }
    text.size--; /* the last line end */
    text.data[text.size] = '\0';
    return mr_buf_take(&text);
}

static void receiver_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr__receiver_source_drain(source);
    if (source->host.receiver != NULL)
        source->host.ops->free(source->host.receiver);
    mr_block_log_close(source->host.log);
    mr__receiver_host_release(&source->host);
    mr_free(source);
}

const struct mr_source_ops mr__receiver_source_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = receiver_plan,
    .split = receiver_split,
    .read = receiver_read,
    .next = receiver_next,
    .take_bad = receiver_take_bad,
    .close = receiver_close,
    .committed = receiver_committed,
    .stats = receiver_stats,
    .set_wakeup = receiver_set_wakeup,
    .exhausted = receiver_exhausted,
    .stop = receiver_stop,
    .describe = receiver_describe,
    .row_count = receiver_row_count,
};
