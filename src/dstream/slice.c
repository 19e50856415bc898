/*
 * mr_dstream_slice: what a stream remembers, as datasets (WIN-5).
 *
 *     from, to --floored to the stream's slide, from the zero time--> kept datasets of [from, to]
 *
 * A batch without a dataset has none here. Spark computes a time again that it has forgotten, or
 * not come to; here that is an error, or nothing (docs/decisions/0014).
 *
 * Thread: any, once the context was started. The datasets share the memory of the batches, so they
 * stay whole when the stream forgets them.
 */
#include "dstream/remember.h"

#include "base/log.h"
#include "rdd/rdd.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot slice a stream: out of memory");
}

static enum mr_status check(const struct mr_dstream *stream, struct mr_error *err)
{
    if (stream == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot slice: there is no stream");
    if (mr_context_state(stream->ctx) == MR_CONTEXT_INITIALIZED)
        return MR_FAIL(err, MR_STATE, "cannot slice %s before mr_context_start", stream->name);
    return MR_OK;
}

/* The lock is held. */
static enum mr_status check_kept(const struct mr_dstream *stream, struct mr_error *err)
{
    if (!stream->kept->is_open)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot slice %s: its datasets are not kept; call mr_context_remember, or "
                       "mr_dstream_cache on it, before mr_context_start, and let an output need it",
                       stream->name);
    return MR_OK;
}

/* Down to a multiple of the slide behind the zero time (TIME-2). What is beyond all times is as
 * good as the last of them. */
static int64_t aligned(const struct mr_dstream *stream, int64_t time_ms)
{
    const int64_t most_ms = INT64_MAX / 4000;
    int64_t zero_ms = stream->kept->zero_time_us / 1000;
    int64_t near_ms = MR_MIN(MR_MAX(time_ms, -most_ms), most_ms);
    int64_t at = (near_ms - zero_ms) / stream->slide_ms * stream->slide_ms + zero_ms;

    if (at != time_ms && near_ms == time_ms)
        mr_log(MR_LOG_WARNING, "dstream", stream->ctx->name, -1,
               "%s has batches every %lld ms: the slice at %lld ms is that at %lld ms",
               stream->name, (long long)stream->slide_ms, (long long)time_ms, (long long)at);
    return at;
}

/* A dataset that only its caller owns, whatever this thread is doing. */
static enum mr_status dataset_of(const struct mr_dstream *stream, const struct mr__dataset *kept,
                                 struct mr_rdd **ret_rdd, struct mr_error *err)
{
    struct mr_session *session = mr_context_session(stream->ctx);
    struct mr__batches *partitions = NULL;
    struct mr__scope scope;
    enum mr_status status;

    if (session == NULL)
        return no_memory(err);
    MR_TRY(mr__dataset_share(kept, &partitions, err));
    mr__scope_enter(&scope, kept->batch_id, kept->time_us);
    *ret_rdd = mr_rdd_ref(mr__rdd_of_batches(session, stream->schema, partitions,
                                             kept->partition_count, kept->batch_id, kept->time_us));
    mr__scope_leave(&scope);
    status = *ret_rdd != NULL ? mr_rdd_error(*ret_rdd, err) : no_memory(err);
    if (status != MR_OK)
        mr_rdd_unref(*ret_rdd);
    return status;
}

/* Those of [from, to]; the lock is held. */
static enum mr_status collect(const struct mr_dstream *stream, int64_t from_ms, int64_t to_ms,
                              struct mr_rdd **rdds, size_t *count, struct mr_error *err)
{
    const struct mr__kept *kept = stream->kept;
    int64_t from_us = aligned(stream, from_ms) * 1000, to_us = aligned(stream, to_ms) * 1000;
    int64_t first_us = MR_MAX(from_us, kept->zero_time_us + stream->slide_ms * 1000);

    if (kept->any_forgotten && first_us <= to_us && first_us <= kept->forgotten_us)
        return MR_FAIL(err, MR_NOT_FOUND,
                       "cannot slice %s at %lld ms: what is older than %lld ms is forgotten; "
                       "remember longer with mr_context_remember",
                       stream->name, (long long)(first_us / 1000),
                       (long long)(kept->forgotten_us / 1000 + stream->slide_ms));
    for (size_t i = 0; i < kept->count; i++) {
        if (kept->items[i].time_us < first_us || kept->items[i].time_us > to_us)
            continue;
        MR_TRY(dataset_of(stream, &kept->items[i], &rdds[*count], err));
        ++*count;
    }
    return MR_OK;
}

enum mr_status mr_dstream_slice(struct mr_dstream *stream, int64_t from_ms, int64_t to_ms,
                                struct mr_rdd ***ret_rdds, size_t *ret_count, struct mr_error *err)
{
    struct mr_rdd **rdds = NULL;
    size_t count = 0;
    enum mr_status status;

    MR_TRY(check(stream, err));
    mr_mutex_lock(&stream->kept->lock);
    MR_TRY_GOTO(check_kept(stream, err));
    rdds = mr_alloc_zero(NULL, (stream->kept->count + 1) * sizeof(struct mr_rdd *));
    if (rdds == NULL)
        status = no_memory(err);
    else if (stream->kept->count > 0)
        status = collect(stream, from_ms, to_ms, rdds, &count, err);
done:
    mr_mutex_unlock(&stream->kept->lock);
    if (status != MR_OK) {
        mr_rdds_free(rdds, count);
        return status;
    }
    *ret_rdds = rdds;
    *ret_count = count;
    return MR_OK;
}

void mr_rdds_free(struct mr_rdd **rdds, size_t count)
{
    for (size_t i = 0; rdds != NULL && i < count; i++)
        mr_rdd_unref(rdds[i]);
    mr_free((void *)rdds);
}
