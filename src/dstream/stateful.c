/*
 * Building calls of streams that keep something between batches: windows and state per key.
 *
 *     window                              the batches of the last window_ms, again at each slide
 *     reduce_by_key_and_window            reduce_by_key -> window -> reduce_by_key (WIN-9)
 *       with an inverse                   reduce_by_key -> one operator that adds and takes out
 *       sums and counts                   one operator that adds and takes out (window_sum.c)
 *
 * Thread: the building one.
 */
#include "dstream/window_sums.h"

#include <string.h>

/* WIN-1: both are positive multiples of the stream's slide; a slide of 0 is the stream's. */
static enum mr_status check_window(const struct mr_dstream *stream, int64_t window_ms,
                                   int64_t *slide_ms, struct mr_error *err)
{
    if (*slide_ms == 0)
        *slide_ms = stream->slide_ms;
    if (window_ms <= 0 || window_ms % stream->slide_ms != 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot use a window of %lld ms; it must be a multiple of the stream's slide of %lld "
            "ms",
            (long long)window_ms, (long long)stream->slide_ms);
    if (*slide_ms < 0 || *slide_ms % stream->slide_ms != 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot use a slide of %lld ms; it must be a multiple of the stream's slide of %lld ms",
            (long long)*slide_ms, (long long)stream->slide_ms);
    return MR_OK;
}

static struct mr_dstream *window_of(struct mr_dstream *stream, const char *operation,
                                    mr__lower_fn lower, int64_t window_ms, int64_t slide_ms)
{
    struct mr_dstream *window = mr__stream_new(stream->ctx, lower, operation, &stream, 1);

    if (window == NULL)
        return NULL;
    window->schema = mr_schema_ref(stream->schema);
    window->window_ms = window_ms;
    window->slide_ms = slide_ms;
    return window;
}

struct mr_dstream *mr_window(struct mr_dstream *stream, int64_t window_ms, int64_t slide_ms)
{
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "window"))
        return NULL;
    if (check_window(stream, window_ms, &slide_ms, &err) != MR_OK) {
        mr__context_blame(stream->ctx, "window", &err);
        return NULL;
    }
    return window_of(stream, "window", mr__lower_window, window_ms, slide_ms);
}

/* ---- reduce_by_key_and_window ---- */

static const char reduce_window[] = "reduce_by_key_and_window";

/* How counts of batches become the count of a window. */
static struct mr_fn over_batches(const struct mr_fn *reduce)
{
    struct mr_fn fn = *reduce;

    if (fn.kind == MR_FN_KIND_BUILTIN && fn.builtin == MR_BUILTIN_COUNT) {
        fn.builtin = MR_BUILTIN_SUM;
        fn.name = "sum";
    }
    return fn;
}

/* A built-in is its own inverse: sums and counts can be taken out again, minima cannot. */
static enum mr_status check_inverse(const struct mr_fn *reduce, const struct mr_fn *inverse,
                                    struct mr_error *err)
{
    if (inverse->kind != MR_FN_KIND_BUILTIN)
        return MR_OK;
    if (reduce->kind != MR_FN_KIND_BUILTIN || reduce->builtin != inverse->builtin ||
        (inverse->builtin != MR_BUILTIN_SUM && inverse->builtin != MR_BUILTIN_COUNT))
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot use the built-in '%s' as the inverse of '%s'; MR_SUM and MR_COUNT are their "
            "own inverses, others need MR_SQL(\"a - b\"), a reduce function or MR_NO_FN",
            inverse->name, reduce->name != NULL ? reduce->name : "");
    return MR_OK;
}

static struct mr__function *compile_kept(struct mr_context *ctx, const struct mr_fn *fn,
                                         const struct mr_schema *pairs, bool is_filter)
{
    struct mr__function *function;
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    if (is_filter)
        status = mr__compile_filter(&ctx->engines, reduce_window, fn, pairs, &function, &err);
    else
        status = mr__compile_reduce(&ctx->engines, reduce_window, fn, pairs, &function, &err);
    if (status != MR_OK) {
        mr__blame(ctx, fn, reduce_window, &err);
        return NULL;
    }
    return mr__context_keep(ctx, function) ? function : NULL;
}

static struct mr_dstream *incremental(struct mr_dstream *reduced, const struct mr_fn *reduce,
                                      const struct mr_fn *inverse, int64_t window_ms,
                                      int64_t slide_ms, const struct mr_fn *filter)
{
    struct mr_fn over = over_batches(reduce), out = over_batches(inverse);
    struct mr_dstream *window;

    window = window_of(reduced, reduce_window, mr__lower_inverse, window_ms, slide_ms);
    if (window == NULL)
        return NULL;
    window->default_checkpoint = MR__CHECKPOINT_TEN_SECONDS;
    window->function = compile_kept(window->ctx, &over, reduced->schema, false);
    window->inverse =
        window->function != NULL ? compile_kept(window->ctx, &out, reduced->schema, false) : NULL;
    if (window->inverse == NULL)
        return NULL;
    if (filter->kind == MR_FN_KIND_NONE)
        return window;
    window->filter = compile_kept(window->ctx, filter, reduced->schema, true);
    return window->filter != NULL ? window : NULL;
}

static struct mr_dstream *summed(struct mr_dstream *pairs, const struct mr_fn *reduce,
                                 int64_t window_ms, int64_t slide_ms, const struct mr_fn *filter)
{
    struct mr_dstream *window = mr__sum_window(pairs, reduce, window_ms, slide_ms);

    if (window == NULL || filter->kind == MR_FN_KIND_NONE)
        return window;
    window->filter = compile_kept(window->ctx, filter, window->schema, true);
    return window->filter != NULL ? window : NULL;
}

struct mr_dstream *mr_reduce_by_key_and_window(struct mr_dstream *pairs, struct mr_fn reduce,
                                               struct mr_fn inverse, int64_t window_ms,
                                               int64_t slide_ms, struct mr_fn filter)
{
    struct mr_dstream *reduced, *window, *result;
    struct mr_fn over = over_batches(&reduce);
    struct mr_error err;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, reduce_window))
        return NULL;
    if (check_window(pairs, window_ms, &slide_ms, &err) != MR_OK ||
        check_inverse(&reduce, &inverse, &err) != MR_OK) {
        mr__blame(pairs->ctx, &reduce, reduce_window, &err);
        return NULL;
    }
    if (inverse.kind == MR_FN_KIND_NONE && filter.kind != MR_FN_KIND_NONE) {
        MR_FAIL(&err, MR_CONFIG,
                "a filter belongs to a window with an inverse; use mr_filter on the result");
        mr__blame(pairs->ctx, &filter, reduce_window, &err);
        return NULL;
    }
    if (mr__has_sum_window(pairs, &reduce, &inverse))
        return summed(pairs, &reduce, window_ms, slide_ms, &filter);
    reduced = mr__reduce(pairs, &reduce, "reduce_by_key_and_window.batch");
    if (reduced == NULL)
        return NULL;
    if (inverse.kind != MR_FN_KIND_NONE)
        return incremental(reduced, &reduce, &inverse, window_ms, slide_ms, &filter);
    window = window_of(reduced, reduce_window, mr__lower_window, window_ms, slide_ms);
    if (window == NULL)
        return NULL;
    result = mr__reduce(window, &over, "reduce_by_key_and_window.window");
    if (result != NULL)
        result->named = window;
    return result;
}
