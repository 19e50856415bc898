/*
 * What streams remember: durations, datasets kept and forgotten, checkpoint intervals, slices.
 */
#include "support/dstream.h"

#include "dstream/remember.h"

#include <millrace/rdd.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

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

/* ---- slices ---- */

/* The first columns of all rows, datasets separated by '|'; or the error's text. Times are counted
 * from the zero time. */
static const char *slice_of(struct mr_dstream *stream, int64_t from_ms, int64_t to_ms)
{
    static char text[1024];
    int64_t zero_ms = stream->ctx->zero_time_us / 1000;
    struct mr_rdd **rdds;
    struct mr_error err;
    size_t count, used = 0;

    mr_error_clear(&err);
    if (mr_dstream_slice(stream, zero_ms + from_ms, zero_ms + to_ms, &rdds, &count, &err) !=
        MR_OK) {
        snprintf(text, sizeof(text), "%s", err.text);
        return text;
    }
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        struct mr_batch *rows;

        CHECK_OK(mr_rdd_collect(rdds[i], &rows, &err), &err);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", i > 0 ? "|" : "");
        for (struct mr_row row = {rows, 0}; row.index < mr_batch_row_count(rows); row.index++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRId64,
                                     row.index > 0 ? "," : "", mr_row_int(&row, 0));
        mr_batch_unref(rows);
    }
    mr_rdds_free(rdds, count);
    return text;
}

TEST(V77_slices_have_both_ends)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream;

    ds_input(d, "1|2|3|4");
    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), MR_SECONDS(10));
    stream = ds_stream(d);
    ds_collect(d, stream);
    run_kept(d, 4);
    CHECK_EQ_STR(slice_of(stream, 0, 1000), "1");
    CHECK_EQ_STR(slice_of(stream, 0, 2000), "1|2");
    CHECK_EQ_STR(slice_of(stream, 1000, 2000), "1|2");
    CHECK_EQ_STR(slice_of(stream, 2000, 4000), "2|3|4");
    /* before the zero time, behind the last batch, and the wrong way round */
    CHECK_EQ_STR(slice_of(stream, -5000, 1000), "1");
    CHECK_EQ_STR(slice_of(stream, 4000, 9000), "4");
    CHECK_EQ_STR(slice_of(stream, 3000, 2000), "");
    ds_free(d);
}

TEST(slices_are_floored_to_the_slide)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream;

    ds_input(d, "1|2|3|4|5|6");
    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), MR_SECONDS(10));
    stream = mr_window(ds_stream(d), MR_SECONDS(2), MR_SECONDS(2));
    ds_collect(d, stream);
    run_kept(d, 6);
    CHECK_EQ_STR(slice_of(stream, 2999, 5500), "1,2|3,4");
    ds_free(d);
}

static const char *in_foreach;
static struct mr_dstream *slice_in_foreach;

static enum mr_status take_slice(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                 struct mr_error *err)
{
    int64_t time_ms = batch_time_ms - slice_in_foreach->ctx->zero_time_us / 1000;

    (void)rdd;
    (void)arg;
    (void)err;
    in_foreach = slice_of(slice_in_foreach, time_ms - 1000, time_ms);
    return MR_OK;
}

TEST(foreach_rdd_finds_its_own_batch_in_a_slice)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_input(d, "1|2|3");
    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), MR_SECONDS(10));
    slice_in_foreach = ds_stream(d);
    mr_foreach_rdd(slice_in_foreach, take_slice, NULL);
    run_kept(d, 3);
    CHECK_EQ_STR(in_foreach, "2|3");
    ds_free(d);
}

TEST(a_batch_without_a_dataset_is_left_out_of_a_slice)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream;
    const int64_t one = 1, three = 3;

    mr_queue_push_ints(queue, &one, 1);
    mr_queue_push_absent(queue);
    mr_queue_push_ints(queue, &three, 1);
    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), MR_SECONDS(10));
    stream = mr_queue_stream(ds_context(d), queue, true);
    ds_collect(d, stream);
    run_kept(d, 3);
    CHECK_EQ_STR(slice_of(stream, 0, 3000), "1|3");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(slices_of_what_is_forgotten_or_not_kept_are_errors)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream, *plain;

    ds_input(d, "1|2|3|4|5");
    ds_begin(d, MR_SECONDS(1), NULL);
    plain = ds_stream(d);
    stream = mr_window(plain, MR_SECONDS(2), 0);
    mr_dstream_cache(stream);
    ds_collect(d, stream);
    CHECK_EQ_STR(slice_of(stream, 0, 1000), "cannot slice window-0 before mr_context_start");
    run_kept(d, 5);
    CHECK_EQ_STR(slice_of(stream, 5000, 5000), "4,5");
    CHECK_EQ_INT(strncmp(slice_of(stream, 4000, 5000), "cannot slice window-0 at ", 25), 0);
    CHECK_NOT_NULL(
        strstr(slice_of(stream, 4000, 5000), "remember longer with mr_context_remember"));
    CHECK_NOT_NULL(strstr(slice_of(plain, 4000, 5000), "call mr_context_remember"));
    ds_free(d);
}

TEST(after_a_restart_what_was_before_is_not_there)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream;

    ds_input(d, "1|2|3|4");
    for (int run = 0; run < 2; run++) {
        mr_context_remember(ds_begin(d, MR_SECONDS(1), "/cp"), MR_SECONDS(10));
        stream = ds_stream(d);
        ds_collect(d, stream);
        if (run == 0)
            ds_must_run(d, 2);
    }
    run_kept(d, 2);
    CHECK_EQ_STR(slice_of(stream, 3000, 4000), "3|4");
    CHECK_NOT_NULL(strstr(slice_of(stream, 2000, 4000), "is forgotten"));
    ds_free(d);
}

struct slicing {
    struct mr_dstream *stream;
    atomic_bool over;
    size_t most; /* datasets of one slice */
};

/* Asks until there is something, and as long as batches run. */
static void keep_slicing(void *arg)
{
    struct slicing *slicing = arg;

    do {
        struct mr_rdd **rdds;
        size_t count;

        if (mr_dstream_slice(slicing->stream, INT64_MIN, INT64_MAX, &rdds, &count, NULL) != MR_OK)
            continue;
        slicing->most = count > slicing->most ? count : slicing->most;
        for (size_t i = 0; i < count; i++) {
            int64_t rows;

            if (mr_rdd_count(rdds[i], &rows, NULL) != MR_OK || rows != 1)
                slicing->most = SIZE_MAX;
        }
        mr_rdds_free(rdds, count);
    } while (slicing->most == 0 || !atomic_load(&slicing->over));
}

TEST(another_thread_slices_while_batches_run)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct slicing slicing = {0};
    struct mr_thread *thread;
    struct mr_error err;

    for (int i = 0; i < 5; i++)
        ds_input(d, ten);
    mr_context_remember(ds_begin(d, MR_SECONDS(1), NULL), MR_SECONDS(100));
    slicing.stream = ds_stream(d);
    ds_collect(d, slicing.stream);
    CHECK_OK(mr_thread_start("slicer", keep_slicing, &slicing, &thread, &err), &err);
    run_kept(d, 50);
    atomic_store(&slicing.over, true);
    mr_thread_join(thread);
    CHECK(slicing.most > 0 && slicing.most <= 50);
    ds_free(d);
}

/* ---- a day ---- */

enum { MINUTES_OF_A_DAY = 24 * 60, SETTLED = 200 };

struct day {
    uint64_t batches;
    size_t settled_bytes; /* memory once windows and datasets are as many as they get */
    size_t most_bytes;    /* later */
};

static enum mr_status look_at_memory(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                     struct mr_error *err)
{
    struct day *day = arg;
    size_t used = mr_budget_used(NULL);

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    day->batches++;
    if (day->batches <= SETTLED)
        day->settled_bytes = used > day->settled_bytes ? used : day->settled_bytes;
    else
        day->most_bytes = used > day->most_bytes ? used : day->most_bytes;
    return MR_OK;
}

TEST(memory_is_flat_over_a_day_of_windows_and_remembered_datasets)
{
    static char input[MINUTES_OF_A_DAY * 16];
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct day day = {0};
    struct mr_dstream *pairs, *inverse, *plain;
    size_t used = 0;

    for (int i = 0; i < MINUTES_OF_A_DAY; i++)
        used += (size_t)snprintf(input + used, sizeof(input) - used, "%sk%d:%d,a:1",
                                 i > 0 ? "|" : "", i % 100, i % 10);
    ds_input(d, input);
    mr_context_remember(ds_begin(d, MR_MINUTES(1), NULL), MR_MINUTES(30));
    pairs = ds_stream(d);
    plain = mr_reduce_by_key_and_window(pairs, MR_SUM, MR_NO_FN, MR_MINUTES(20), 0, MR_NO_FN);
    inverse = mr_reduce_by_key_and_window(pairs, MR_SUM, MR_SUM, MR_MINUTES(20), 0, MR_NO_FN);
    mr_foreach_rdd(mr_union(plain, inverse), look_at_memory, &day);
    run_kept(d, MINUTES_OF_A_DAY);
    CHECK_EQ_INT(day.batches, MINUTES_OF_A_DAY);
    CHECK(day.most_bytes <= day.settled_bytes + day.settled_bytes / 50);
    CHECK_EQ_INT(pairs->kept->count, 50);
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
