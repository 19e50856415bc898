/*
 * Streams: how long they remember, whether their datasets are kept, how often state is written
 * whole (dstream.md 4.1, 4.4, 4.5).
 *
 *     output --remember--> stream --remember [+ window]--> its input --> ...
 *
 *     own minimum   the slide; with a checkpoint interval of at least that, twice the interval
 *     told          by each stream on it: what that one remembers, and its window
 *
 * Building calls in the building thread; mr__remember_plan in the starting one.
 */
#include "dstream/remember.h"

#include "base/log.h"

#include <string.h>

/* ---- building calls ---- */

void mr_context_remember(struct mr_context *ctx, int64_t duration_ms)
{
    static const char operation[] = "mr_context_remember";
    struct mr_error err;

    if (!mr__context_is_open(ctx, operation))
        return;
    mr_error_clear(&err);
    if (ctx->remember_ms != 0)
        MR_FAIL(&err, MR_CONFIG,
                "cannot remember %lld ms: %lld ms were said before; call it once, with the longest",
                (long long)duration_ms, (long long)ctx->remember_ms);
    else if (duration_ms <= 0)
        MR_FAIL(&err, MR_CONFIG, "cannot remember %lld ms; use a positive duration",
                (long long)duration_ms);
    if (err.status != MR_OK)
        mr__context_blame(ctx, operation, &err);
    else
        ctx->remember_ms = duration_ms;
}

void mr_dstream_persist(struct mr_dstream *stream, enum mr_storage_level level)
{
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "mr_dstream_persist"))
        return;
    if (level < MR_STORAGE_NONE || level > MR_STORAGE_OFF_HEAP) {
        MR_FAIL(&err, MR_CONFIG, "there is no storage level %d", (int)level);
        mr__context_blame(stream->ctx, "mr_dstream_persist", &err);
        return;
    }
    stream->storage = level;
}

void mr_dstream_cache(struct mr_dstream *stream)
{
    mr_dstream_persist(stream, MR_STORAGE_MEMORY_ONLY_SER);
}

void mr_dstream_checkpoint(struct mr_dstream *stream, int64_t interval_ms)
{
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "mr_dstream_checkpoint"))
        return;
    if (interval_ms <= 0) {
        MR_FAIL(&err, MR_CONFIG, "cannot use a checkpoint interval of %lld ms for %s",
                (long long)interval_ms, stream->name);
        mr__context_blame(stream->ctx, "mr_dstream_checkpoint", &err);
        return;
    }
    stream->named->checkpoint_ms = interval_ms;
}

/* ---- intervals ---- */

int64_t mr__checkpoint_ms(const struct mr_dstream *stream)
{
    int64_t slide_ms = stream->slide_ms;

    if (stream->checkpoint_ms != 0)
        return stream->checkpoint_ms;
    switch (stream->default_checkpoint) {
    case MR__CHECKPOINT_TEN_SECONDS:
        return slide_ms * ((MR_SECONDS(10) + slide_ms - 1) / slide_ms);
    case MR__CHECKPOINT_TEN_SLIDES:
        return 10 * slide_ms;
    case MR__CHECKPOINT_NONE:
        break;
    }
    return 0;
}

/* The rules of 4.5 that a program can break; docs/decisions/0014 tells of the others. */
static enum mr_status check_interval(const struct mr_dstream *stream, struct mr_error *err)
{
    int64_t interval_ms = stream->checkpoint_ms;

    if (interval_ms == 0)
        return MR_OK;
    if (interval_ms < stream->slide_ms)
        return MR_FAIL(err, MR_CONFIG,
                       "the checkpoint interval of %s is %lld ms, less than its slide of %lld ms; "
                       "use at least that",
                       stream->name, (long long)interval_ms, (long long)stream->slide_ms);
    if (interval_ms % stream->slide_ms != 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "the checkpoint interval of %s is %lld ms, which is not a multiple of its slide of "
            "%lld ms; use %lld ms",
            stream->name, (long long)interval_ms, (long long)stream->slide_ms,
            (long long)(interval_ms / stream->slide_ms * stream->slide_ms));
    if (stream->ctx->checkpoint_dir == NULL)
        mr_log(MR_LOG_WARNING, "dstream", stream->ctx->name, -1,
               "%s has a checkpoint interval, but nothing is written: there is no checkpoint "
               "directory (mr_context_checkpoint)",
               stream->name);
    return MR_OK;
}

static void remember_at_least(struct mr_dstream *stream, int64_t duration_ms)
{
    if (stream->remember_ms < duration_ms)
        stream->remember_ms = duration_ms;
}

/* DS-4: the least that a stream remembers by itself. */
static int64_t own_minimum(const struct mr_dstream *stream)
{
    int64_t interval_ms = mr__checkpoint_ms(stream);

    return interval_ms >= stream->slide_ms && interval_ms > 0 ? 2 * interval_ms : stream->slide_ms;
}

enum mr_status mr__remember_plan(struct mr_context *ctx, struct mr_error *err)
{
    for (size_t i = 0; i < ctx->output_count; i++) {
        struct mr_dstream *stream = ctx->outputs[i]->stream;

        if (stream != NULL)
            remember_at_least(stream, MR_MAX(ctx->remember_ms, stream->slide_ms));
    }
    /* A stream was built behind its inputs: each has been told everything when its turn comes. */
    for (size_t i = ctx->stream_count; i-- > 0;) {
        struct mr_dstream *stream = ctx->streams[i];

        if (!stream->wanted)
            continue;
        MR_TRY(check_interval(stream, err));
        remember_at_least(stream, own_minimum(stream));
        for (size_t k = 0; k < stream->input_count; k++)
            remember_at_least(stream->inputs[k], stream->remember_ms + stream->window_ms);
    }
    return MR_OK;
}

bool mr__is_remembered(const struct mr_dstream *stream)
{
    return stream->ctx->remember_ms > 0 || stream->storage != MR_STORAGE_NONE;
}
