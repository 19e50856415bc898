/*
 * Receivers as replayable sources (dstream.md 8, 9; architecture section 1).
 *
 *     receiver thread --store--> current block --cut--> block log (append, sync) --> plan() sees it
 *                                    ^ block timer, every block interval
 *     The offset is the number of the last block.
 *
 * Nothing that a batch may see is not in the log first, and what the log has is kept until the
 * batch that read it is committed: an allocation is nothing but the block range in PLAN(N). A store
 * that fails ends the receiver's run: it must not read on over a hole.
 *
 * Threads: `run` in the receiver's thread; the block timer in its own; everything else is the
 * driver's. Fields below `lock` are shared. Cutting a block (append + sync) happens under cut_lock,
 * so blocks are in the order of their bytes.
 */
#include "core/internal.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/number_text.h"

#include <stdatomic.h>
#include <string.h>

enum {
    BLOCK_BYTES_MAX = 4 << 20, /* a block is cut at once when it is that large */
    /* blocks are put together into partitions of at least this size */
    PARTITION_BYTES = 1 << 20,
    BATCH_BYTES = 1 << 20, /* rows are handed on in batches of about this size */
    PARTITIONS_MAX = 4096,
};

struct mr_receiver_host {
    struct mr_query *query;
    const char *name;
    struct mr_block_log *log;
    struct mr_receiver *receiver;
    const struct mr_receiver_ops *ops;
    struct mr_thread *run_thread;
    struct mr_thread *timer_thread;
    void (*wake)(void *arg);
    void *wake_arg;
    int64_t block_interval_us;

    struct mr_mutex cut_lock; /* taken before lock */
    struct mr_mutex lock;     /* guards: */
    struct mr_cond changed;
    struct mr_buf current;
    uint64_t current_records;
    uint64_t backlog_bytes; /* durable, not yet in a committed batch */
    double permits;         /* rate limit: records that may come now */
    int64_t permits_at_ns;
    bool stopping;
    bool run_ended;        /* for good: an `ends` receiver at its end, or stopped */
    enum mr_status failed; /* of the block log: sticks */
    struct mr_error failure;
};

struct mr_source {
    struct mr_receiver_host host;
    struct mr_source_run *run;
    uint64_t committed_block;
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

/* Blocks. */

static bool host_is_stopping(struct mr_receiver_host *host)
{
    bool stopping;

    mr_mutex_lock(&host->lock);
    stopping = host->stopping;
    mr_mutex_unlock(&host->lock);
    return stopping;
}

bool mr_receiver_stopping(const struct mr_receiver_host *host)
{
    return host_is_stopping((struct mr_receiver_host *)host);
}

/* Writes a block that was taken out of the buffer; the caller holds cut_lock. */
static enum mr_status write_block(struct mr_receiver_host *host, const struct mr_buf *block,
                                  uint64_t records, struct mr_error *err)
{
    uint64_t number;

    MR_TRY(mr_block_log_append(host->log, block->data, block->size, records,
                               mr_env_wall_us(host->query->env), &number, err));
    MR_TRY(mr_block_log_sync(host->log, err));
    mr_metric_add(&host->query->metrics, MR_METRIC_RECEIVED_BLOCKS, 1);
    mr_metric_add(&host->query->metrics, MR_METRIC_RECEIVED_BYTES, (int64_t)block->size);
    return MR_OK;
}

/* Makes what was stored so far durable as one block. Any thread. */
static enum mr_status cut_block(struct mr_receiver_host *host, struct mr_error *err)
{
    struct mr_buf block;
    uint64_t records;
    enum mr_status status;

    mr_mutex_lock(&host->cut_lock);
    mr_mutex_lock(&host->lock);
    block = host->current;
    records = host->current_records;
    host->current = (struct mr_buf)MR_BUF_INIT;
    host->current_records = 0;
    status = host->failed;
    if (status != MR_OK && err != NULL)
        *err = host->failure;
    mr_mutex_unlock(&host->lock);
    if (status == MR_OK && block.size > 0) {
        struct mr_error local;

        mr_error_clear(&local);
        status = write_block(host, &block, records, &local);
        mr_mutex_lock(&host->lock);
        host->failed = status;
        host->failure = local;
        host->backlog_bytes += status == MR_OK ? block.size : 0;
        mr_cond_broadcast(&host->changed);
        mr_mutex_unlock(&host->lock);
        if (status != MR_OK && err != NULL)
            *err = local;
        if (host->wake != NULL)
            host->wake(host->wake_arg);
    }
    mr_mutex_unlock(&host->cut_lock);
    mr_buf_release(&block);
    return status;
}

static uint64_t count_lines(const char *data, size_t size_bytes)
{
    uint64_t lines = 0;
    const char *end = data + size_bytes;

    for (const char *at = data; at < end; lines++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline == NULL ? end : newline + 1;
    }
    return lines;
}

/* Token bucket (RL-1): at most one second of unused permits is saved. Returns how long to wait; the
 * caller holds lock. */
static int64_t take_permits(struct mr_receiver_host *host, uint64_t records)
{
    int64_t rate = host->query->config.receiver_rate_max;
    int64_t now_ns = mr_env_monotonic_ns(host->query->env);

    if (rate <= 0)
        return 0;
    if (host->permits_at_ns != 0)
        host->permits += (double)(now_ns - host->permits_at_ns) / 1e9 * (double)rate;
    host->permits_at_ns = now_ns;
    host->permits = MR_MIN(host->permits, (double)rate);
    host->permits -= (double)records; /* may go below zero: the next call waits for it */
    return host->permits >= 0 ? 0 : (int64_t)(-host->permits / (double)rate * 1e9) + 1;
}

/* Waits for the rate limit and for room in the backlog; a stop ends the wait. The caller holds
 * lock. */
static void wait_for_room(struct mr_receiver_host *host, uint64_t records)
{
    int64_t pause_ns = take_permits(host, records);
    int64_t until_ns = mr_env_monotonic_ns(host->query->env) + pause_ns;

    while (!host->stopping && host->failed == MR_OK) {
        int64_t left_ns = until_ns - mr_env_monotonic_ns(host->query->env);

        if (left_ns > 0)
            mr_cond_wait_for(&host->changed, &host->lock, left_ns);
        else if (host->query->config.trigger !=
                     MR_TRIGGER_ONCE && /* one batch has to hold it all */
                 host->backlog_bytes >= host->query->config.receiver_queue_bytes)
            mr_cond_wait(&host->changed, &host->lock);
        else
            break;
    }
}

static enum mr_status store(struct mr_receiver_host *host, const char *data, size_t size_bytes,
                            bool durably, struct mr_error *err)
{
    uint64_t records = count_lines(data, size_bytes);
    enum mr_status status;
    bool full, out_of_memory, stopping;

    mr_mutex_lock(&host->lock);
    wait_for_room(host, records);
    status = host->failed;
    if (status != MR_OK) {
        if (err != NULL)
            *err = host->failure;
        mr_mutex_unlock(&host->lock);
        return status;
    }
    stopping = host->stopping; /* what was received is still kept: only then the receiver leaves */
    mr_buf_add(&host->current, data, size_bytes);
    host->current_records += host->current.failed ? 0 : records;
    out_of_memory = host->current.failed;
    host->current.failed = false; /* what is in it stays good */
    full = durably || host->block_interval_us == 0 || host->current.size >= BLOCK_BYTES_MAX;
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
    if (out_of_memory)
        return MR_FAIL(err, MR_NOMEM, "cannot store %zu received bytes: out of memory", size_bytes);
    if (full)
        MR_TRY(cut_block(host, err));
    return stopping ? MR_FAIL(err, MR_STOPPED, "the receiver was asked to stop") : MR_OK;
}

enum mr_status mr_receiver_store(struct mr_receiver_host *host, const char *data, size_t size_bytes,
                                 struct mr_error *err)
{
    return store(host, data, size_bytes, false, err);
}

enum mr_status mr_receiver_store_durably(struct mr_receiver_host *host, const char *data,
                                         size_t size_bytes, struct mr_error *err)
{
    return store(host, data, size_bytes, true, err);
}

/* Threads. */

/* Cuts a block one interval after its first bytes came. */
static void timer_main(void *arg)
{
    struct mr_receiver_host *host = arg;

    for (;;) {
        mr_mutex_lock(&host->lock);
        while (!host->stopping && host->current.size == 0)
            mr_cond_wait(&host->changed, &host->lock);
        int64_t until_ns = mr_env_monotonic_ns(host->query->env) + host->block_interval_us * 1000;
        while (!host->stopping) {
            int64_t left_ns = until_ns - mr_env_monotonic_ns(host->query->env);
            if (left_ns <= 0)
                break;
            mr_cond_wait_for(&host->changed, &host->lock, left_ns);
        }
        bool stopping = host->stopping;
        mr_mutex_unlock(&host->lock);
        if (cut_block(host, NULL) != MR_OK || stopping)
            return;
    }
}

/* Waits between two runs of the receiver. False: stop. */
static bool pause_before_restart(struct mr_receiver_host *host)
{
    int64_t until_ns =
        mr_env_monotonic_ns(host->query->env) + host->query->config.restart_delay_us * 1000;
    bool go_on;

    mr_mutex_lock(&host->lock);
    while (!host->stopping) {
        int64_t left_ns = until_ns - mr_env_monotonic_ns(host->query->env);
        if (left_ns <= 0)
            break;
        mr_cond_wait_for(&host->changed, &host->lock, left_ns);
    }
    go_on = !host->stopping && host->failed == MR_OK;
    mr_mutex_unlock(&host->lock);
    return go_on;
}

static void run_main(void *arg)
{
    struct mr_receiver_host *host = arg;
    struct mr_error err;

    for (;;) {
        mr_error_clear(&err);
        enum mr_status status = host->ops->run(host->receiver, host, &err);

        if (status == MR_STOPPED || host_is_stopping(host) || (status == MR_OK && host->ops->ends))
            break;
        mr_log(status == MR_OK ? MR_LOG_INFO : MR_LOG_WARNING, "receiver", host->query->name, -1,
               "source '%s': %s; starting again in %lld ms", host->name,
               status == MR_OK ? "no more data" : err.text,
               (long long)(host->query->config.restart_delay_us / 1000));
        mr_metric_add(&host->query->metrics, MR_METRIC_RECEIVER_RESTARTS, 1);
        if (!pause_before_restart(host))
            break;
    }
    /* the rest; a failure sticks in the host and reaches the driver through plan */
    cut_block(host, NULL);
    mr_mutex_lock(&host->lock);
    host->run_ended = true;
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
    if (host->wake != NULL)
        host->wake(host->wake_arg);
}

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

/* A directory of the source's name, whatever is in it: what is not plain is percent-encoded, so
 * that no name leads out of the checkpoint. NULL without memory. */
static char *blocks_dir(const char *received_dir, const char *name)
{
    struct mr_buf path = MR_BUF_INIT;

    mr_buf_printf(&path, "%s/", received_dir);
    for (const char *at = name; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '_' || c == '-' || (c == '.' && at != name))
            mr_buf_add_char(&path, *at);
        else
            mr_buf_printf(&path, "%%%02X", c);
    }
    return mr_buf_take(&path);
}

enum mr_status mr__receiver_source_open(struct mr_query *query, struct mr_source_run *run,
                                        uint64_t min_last, struct mr_source **ret_source,
                                        struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));
    struct mr_receiver_args args = {query->env, run->spec.name, run->spec.options, run->spec.user};
    struct mr_block_log_config config = {
        .segment_bytes = 16u << 20,
        .memory_bytes = 64u << 20,
        .min_last = min_last,
        .volatile_only = !query->durable,
    };
    char *dir = NULL;
    enum mr_status status;

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    source->run = run;
    source->host.query = query;
    source->host.name = run->spec.name;
    source->host.ops = run->spec.connector->receiver_ops;
    source->host.block_interval_us = query->config.block_interval_us;
    mr_mutex_init(&source->host.cut_lock);
    mr_mutex_init(&source->host.lock);
    mr_cond_init(&source->host.changed);
    if (query->durable) {
        dir = blocks_dir(query->checkpoint.received_dir, run->spec.name);
        if (dir == NULL) {
            status = MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
            goto done;
        }
        MR_TRY_GOTO(mr_durable_mkdirs(query->env, dir, err));
    }
    MR_TRY_GOTO(mr_block_log_open(query->env, dir, &config, &source->host.log, err));
    source->committed_block = block_of(run->start);
    source->host.backlog_bytes =
        bytes_of_blocks(source, source->committed_block, mr_block_log_last(source->host.log));
    status = run->spec.connector->receiver_open(&args, &source->host.receiver, err);
done:
    mr_free(dir);
    if (status != MR_OK) {
        mr__receiver_source_ops.stop(source);
        return status;
    }
    *ret_source = source;
    return MR_OK;
}

/* The threads start with the first plan, when the driver has set the wake-up and everything else is
 * open. */
static enum mr_status start_threads(struct mr_receiver_host *host, struct mr_error *err)
{
    if (host->run_thread != NULL || host->run_ended)
        return MR_OK;
    if (host->block_interval_us > 0 && host->timer_thread == NULL)
        MR_TRY(mr_thread_start("mr-blocks", timer_main, host, &host->timer_thread, err));
    return mr_thread_start("mr-receiver", run_main, host, &host->run_thread, err);
}

static enum mr_status receiver_plan(struct mr_source *source, const char *start,
                                    const struct mr_plan_limits *limits, char **ret_end,
                                    struct mr_error *err)
{
    struct mr_receiver_host *host = &source->host;
    uint64_t last = mr_block_log_last(host->log);
    enum mr_status failed;

    MR_UNUSED(limits);
    MR_TRY(start_threads(host, err));
    mr_mutex_lock(&host->lock);
    failed = host->failed;
    if (failed != MR_OK && err != NULL)
        *err = host->failure;
    mr_mutex_unlock(&host->lock);
    if (failed != MR_OK)
        return failed;
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
    position.byte_offset = reader->next_block == 1 ? 0 : 1;
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
    mr_mutex_lock(&host->lock);
    host->backlog_bytes -= MR_MIN(bytes, host->backlog_bytes);
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
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

static void receiver_set_wakeup(struct mr_source *source, void (*wake)(void *arg), void *arg)
{
    source->host.wake = wake;
    source->host.wake_arg = arg;
}

static bool receiver_exhausted(struct mr_source *source, const char *end)
{
    bool ended;

    mr_mutex_lock(&source->host.lock);
    ended = source->host.run_ended && source->host.ops->ends;
    mr_mutex_unlock(&source->host.lock);
    return ended && mr_block_log_last(source->host.log) <= block_of(end);
}

bool mr__receiver_source_unended(struct mr_source *source)
{
    bool unended;

    mr_mutex_lock(&source->host.lock);
    unended = source->host.ops->ends && !source->host.run_ended;
    mr_mutex_unlock(&source->host.lock);
    return unended;
}

void mr__receiver_source_drain(struct mr_source *source)
{
    struct mr_receiver_host *host = &source->host;

    mr_mutex_lock(&host->lock);
    host->stopping = true;
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
    if (host->receiver != NULL && host->run_thread != NULL && host->ops->interrupt != NULL)
        host->ops->interrupt(host->receiver);
    mr_thread_join(host->run_thread);
    mr_thread_join(host->timer_thread);
    host->run_thread = NULL;
    host->timer_thread = NULL;
    host->run_ended = true;
}

static void receiver_stop(struct mr_source *source)
{
    struct mr_receiver_host *host;

    if (source == NULL)
        return;
    host = &source->host;
    mr__receiver_source_drain(source);
    if (host->receiver != NULL)
        host->ops->free(host->receiver);
    mr_block_log_close(host->log);
    mr_buf_release(&host->current);
    mr_cond_release(&host->changed);
    mr_mutex_release(&host->lock);
    mr_mutex_release(&host->cut_lock);
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
};
