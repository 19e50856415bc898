/*
 * What streams remember: durations, datasets kept and forgotten, checkpoint intervals, slices.
 */
#include "support/dstream.h"

#include "dstream/remember.h"

static const char ten[] = "1|2|3|4|5|6|7|8|9|10";

/* Runs that many batches and leaves the context for looking at; ds_free frees it. */
static void run_kept(struct ds *d, uint64_t batches)
{
    struct mr_context *ctx = ds_context(d);
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    mr__context_config(ctx)->batches_max = batches;
    status = mr__context_run_here(ctx, &err);
    CHECK_OK(status, &err);
}

/* Times are counted from the zero time here, as in the vectors. */
static bool has(struct mr_dstream *stream, int64_t time_ms)
{
    int64_t time_us = stream->ctx->zero_time_us + time_ms * 1000;
    bool found;

    if (stream->kept == NULL)
        return false;
    mr_mutex_lock(&stream->kept->lock);
    found = mr__kept_find(stream->kept, time_us) != NULL;
    mr_mutex_unlock(&stream->kept->lock);
    return found;
}

/* ---- durations ---- */

TEST(V79_windows_remember_for_what_stands_on_them)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_context *ctx;
    struct mr_dstream *mapped, *inner, *outer;

    ds_input(d, ten);
    ctx = ds_begin(d, MR_SECONDS(1), NULL);
    mr_context_remember(ctx, MR_SECONDS(3));
    mapped = mr_map(ds_stream(d), MR_SQL("value + 0"));
    inner = mr_window(mapped, MR_SECONDS(2), MR_SECONDS(1));
    outer = mr_window(inner, MR_SECONDS(4), MR_SECONDS(2));
    ds_collect(d, outer);
    run_kept(d, 10);
    CHECK_EQ_STR(ds_output(d, false),
                 "1,1,2 | 1,1,2,2,3,3,4 | 2,3,3,4,4,5,5,6 | 4,5,5,6,6,7,7,8 | 6,7,7,8,8,9,9,10");
    CHECK_EQ_INT(outer->remember_ms, MR_SECONDS(3));
    CHECK_EQ_INT(inner->remember_ms, MR_SECONDS(7));
    CHECK_EQ_INT(mapped->remember_ms, MR_SECONDS(9));
    CHECK(has(outer, 10000) && has(outer, 8000) && !has(outer, 6000));
    CHECK(has(inner, 10000) && has(inner, 4000) && !has(inner, 3000));
    CHECK(has(mapped, 10000) && has(mapped, 2000) && !has(mapped, 1000));
    ds_free(d);
}

TEST(V80_a_checkpoint_interval_is_remembered_twice)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_dstream *state;

    ds_input(d, "a:1|a:1|a:1|a:1|a:1|a:1|a:1|a:1|a:1|a:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    state = mr_update_state_by_key(ds_stream(d), NULL, MR_SUM);
    mr_dstream_checkpoint(state, MR_SECONDS(3));
    mr_dstream_cache(state);
    ds_collect(d, state);
    run_kept(d, 10);
    CHECK_EQ_INT(state->remember_ms, MR_SECONDS(6));
    CHECK(has(state, 10000) && has(state, 5000) && !has(state, 4000));
    ds_free(d);
}

TEST(default_checkpoint_intervals_are_ten_seconds_in_whole_slides)
{
    const struct {
        int64_t slide_ms, interval_ms;
    } cases[] = {{100, 10000},  {1000, 10000}, {3000, 12000},
                 {4000, 12000}, {7000, 14000}, {15000, 15000}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_dstream stream = {.slide_ms = cases[i].slide_ms};

        CHECK_EQ_INT(mr__checkpoint_ms(&stream), 0);
        stream.default_checkpoint = MR__CHECKPOINT_TEN_SECONDS;
        CHECK_EQ_INT(mr__checkpoint_ms(&stream), cases[i].interval_ms);
        stream.default_checkpoint = MR__CHECKPOINT_TEN_SLIDES;
        CHECK_EQ_INT(mr__checkpoint_ms(&stream), 10 * cases[i].slide_ms);
        stream.checkpoint_ms = 5 * cases[i].slide_ms;
        CHECK_EQ_INT(mr__checkpoint_ms(&stream), 5 * cases[i].slide_ms);
    }
}

TEST(state_remembers_twice_its_default_interval)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_dstream *state, *inverse;

    ds_begin(d, MR_SECONDS(1), NULL);
    state = mr_update_state_by_key(ds_stream(d), NULL, MR_SUM);
    inverse =
        mr_reduce_by_key_and_window(state, MR_SUM, MR_SUM, MR_SECONDS(6), MR_SECONDS(3), MR_NO_FN);
    ds_collect(d, inverse);
    run_kept(d, 1);
    CHECK_EQ_INT(inverse->remember_ms, MR_SECONDS(24));
    /* 24 + 6 of the window on it */
    CHECK_EQ_INT(state->remember_ms, MR_SECONDS(30));
    ds_free(d);
}

TEST(nothing_is_kept_that_was_not_asked_for)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *input, *cached;

    ds_input(d, "1|2|3");
    ds_begin(d, MR_SECONDS(1), NULL);
    input = ds_stream(d);
    cached = mr_window(input, MR_SECONDS(2), 0);
    mr_dstream_cache(cached);
    ds_collect(d, cached);
    run_kept(d, 3);
    CHECK(!has(input, 3000));
    CHECK(has(cached, 3000) && !has(cached, 2000));
    ds_free(d);
}

/* ---- mistakes ---- */

static void check_refused(struct ds *d, const char *text)
{
    struct mr_context *ctx = ds_context(d);
    struct mr_error err;

    mr_error_clear(&err);
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, text);
    ds_free(d);
}

TEST(remembering_is_said_once)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);

    mr_context_remember(ctx, MR_SECONDS(3));
    mr_context_remember(ctx, MR_SECONDS(5));
    check_refused(d, "3000 ms were said before");
}

TEST(remembering_takes_a_positive_duration)
{
    struct ds *d = ds_new(t, "value BIGINT");

    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), 0);
    check_refused(d, "cannot remember 0 ms");
}

TEST(a_checkpoint_interval_is_positive)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_begin(d, MR_SECONDS(1), NULL);
    mr_dstream_checkpoint(ds_stream(d), -1);
    check_refused(d, "interval of -1 ms");
}

static void start_is_refused(struct test *t, int64_t interval_ms, const char *text)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_dstream *state;
    struct mr_error err;

    ds_begin(d, MR_SECONDS(2), "/cp");
    state = mr_update_state_by_key(ds_stream(d), "counts", MR_SUM);
    mr_dstream_checkpoint(state, interval_ms);
    ds_collect(d, state);
    mr_error_clear(&err);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, text);
    ds_free(d);
}

TEST(start_refuses_a_checkpoint_interval_below_the_slide)
{
    start_is_refused(t, MR_SECONDS(1), "of counts is 1000 ms, less than its slide of 2000 ms");
}

TEST(start_refuses_a_checkpoint_interval_between_two_slides)
{
    start_is_refused(t, MR_SECONDS(3), "of counts is 3000 ms, which is not a multiple");
}
