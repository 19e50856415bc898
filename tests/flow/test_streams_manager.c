/*
 * The manager of queries and its listeners (structured.md 1.1, 22.4, 22.5; vectors 16).
 */
#include "support/streams.h"

#include <stdlib.h>

static struct mr_stream_writer *noop(struct mr_frame *frame)
{
    return mr_write_format(mr_write_stream(frame), "noop");
}

static struct mr_stream_writer *failing(struct st *s)
{
    return noop(mr_frame_select(st_source(s, "bad", "v VARCHAR"), "CAST(v AS INTEGER) AS n"));
}

TEST(PR_04_await_any_tells_ends_until_it_is_reset)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    bool terminated = true;

    CHECK_OK(mr_streams_await_any(st_session(s), 1, &terminated, &err), &err);
    CHECK(!terminated);
    query = st_start(noop(st_source(s, "a", "v BIGINT")));
    CHECK_OK(mr_streams_await_any(st_session(s), 1, &terminated, &err), &err);
    CHECK(!terminated);
    st_stop(query);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(mr_streams_await_any(st_session(s), -1, &terminated, &err), &err);
        CHECK(terminated);
    }
    mr_streams_reset_terminated(st_session(s));
    CHECK_OK(mr_streams_await_any(st_session(s), 1, &terminated, &err), &err);
    CHECK(!terminated);

    query = st_start(failing(s));
    st_rows(s, "bad", "('x')");
    for (int i = 0; i < 2; i++) {
        CHECK(mr_streams_await_any(st_session(s), -1, &terminated, &err) != MR_OK);
        CHECK(terminated);
        CHECK_CONTAINS(err.text, "'x'");
    }
    mr_streaming_query_unref(query);
    mr_streams_reset_terminated(st_session(s));
    CHECK_OK(mr_streams_await_any(st_session(s), 1, &terminated, NULL), NULL);
    CHECK(!terminated);
    st_free(s);
}

TEST(PR_04_a_failure_after_a_normal_end_is_told)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *failed;
    struct mr_error err = {0};

    st_stop(st_start(noop(st_source(s, "a", "v BIGINT"))));
    failed = st_start(failing(s));
    st_rows(s, "bad", "('x')");
    CHECK(mr_streaming_query_await(failed, -1, NULL, &err) != MR_OK);
    CHECK(mr_streams_await_any(st_session(s), -1, NULL, &err) != MR_OK);
    mr_streaming_query_unref(failed);
    st_free(s);
}

TEST(PR_05_a_name_is_active_once_in_a_session)
{
    struct st *s = st_new(t);
    struct mr_streams *other = mr_streams_new();
    struct mr_stream_writer *writer;
    struct mr_streaming_query *first, *second = NULL;
    struct mr_error err = {0};

    first = st_start(mr_write_query_name(noop(st_source(s, "a", "v BIGINT")), "counts"));
    writer = mr_write_query_name(noop(mr_streams_table(st_session(s), "a")), "counts");
    CHECK_FAILS(mr_write_start(writer, NULL, &second, &err), &err, MR_CONFIG,
                "a query called 'counts' is active already");
    /* in another session it is free */
    writer = mr_write_stream(mr_read_load(mr_read_format(mr_read_stream(other), "rate"), NULL));
    mr_write_query_name(mr_write_format(writer, "noop"), "counts");
    CHECK_OK(mr_write_start(writer, NULL, &second, &err), &err);
    mr_streaming_query_unref(second);
    mr_streams_free(other);
    st_stop(first);
    /* and free again when it has ended */
    st_stop(st_start(mr_write_query_name(noop(mr_streams_table(st_session(s), "a")), "counts")));
    st_free(s);
}

TEST(PR_05_a_checkpoint_that_is_started_again_stops_the_older_run)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *older, *newer;
    struct mr_stream_writer *writer = noop(st_source(s, "a", "v BIGINT"));
    char dotted[2000];

    mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
    older = st_start(writer);
    snprintf(dotted, sizeof(dotted), "%s/../checkpoint", st_path(s, "checkpoint"));
    newer = st_start(mr_write_option(writer, "checkpointLocation", dotted));
    CHECK(!mr_streaming_query_is_active(older));
    CHECK(mr_streaming_query_is_active(newer));
    CHECK_EQ_STR(mr_streaming_query_id(newer), mr_streaming_query_id(older));
    CHECK(strcmp(mr_streaming_query_run_id(newer), mr_streaming_query_run_id(older)) != 0);
    CHECK_OK(mr_streaming_query_await(older, -1, NULL, NULL), NULL);
    mr_streaming_query_unref(older);
    st_stop(newer);
    st_free(s);
}

TEST(PR_05_or_is_refused_when_the_session_says_so)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *older, *newer = NULL;
    struct mr_stream_writer *writer = noop(st_source(s, "a", "v BIGINT"));
    struct mr_error err = {0};

    mr_streams_set(st_session(s), "spark.sql.streaming.stopActiveRunOnRestart", "false");
    mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
    older = st_start(writer);
    CHECK_FAILS(mr_write_start(writer, NULL, &newer, &err), &err, MR_BUSY, "which is active");
    CHECK(mr_streaming_query_is_active(older));
    st_stop(older);
    st_free(s);
}

TEST(active_queries_are_found_by_id_and_by_name)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *first, *second, *found[4];

    first = st_start(mr_write_query_name(noop(st_source(s, "a", "v BIGINT")), "first"));
    second = st_start(noop(mr_streams_table(st_session(s), "a")));
    CHECK_EQ_INT(mr_streams_active(st_session(s), found, 4), 2);
    mr_streaming_query_unref(found[0]);
    mr_streaming_query_unref(found[1]);
    found[0] = mr_streams_get(st_session(s), "first");
    CHECK(found[0] == first);
    mr_streaming_query_unref(found[0]);
    found[0] = mr_streams_get(st_session(s), mr_streaming_query_id(second));
    CHECK(found[0] == second);
    mr_streaming_query_unref(found[0]);
    st_stop(first);
    CHECK_NULL(mr_streams_get(st_session(s), "first"));
    CHECK_EQ_INT(mr_streams_active(st_session(s), found, 0), 1);
    st_stop(second);
    st_free(s);
}

/* ---- listeners ---- */

struct heard {
    struct mr_mutex lock;
    struct mr_buf text;
    unsigned terminated;
    struct mr_cond changed;
};

static void note(struct heard *heard, const char *what, const struct mr_streaming_event *event)
{
    mr_mutex_lock(&heard->lock);
    mr_buf_printf(&heard->text, "%s(%s%s%s) ", what, event->name != NULL ? event->name : "-",
                  event->exception != NULL ? ", " : "",
                  event->error_class != NULL ? event->error_class : "");
    heard->terminated += strcmp(what, "terminated") == 0;
    mr_cond_broadcast(&heard->changed);
    mr_mutex_unlock(&heard->lock);
}

static void on_started(void *arg, const struct mr_streaming_event *event)
{
    CHECK_CONTAINS(event->json, "{\"id\":\"");
    CHECK_CONTAINS(event->json, "\"jobTags\":[]}");
    note(arg, "started", event);
}

static void on_progress(void *arg, const struct mr_streaming_event *event)
{
    CHECK_CONTAINS(event->json, "{\"progress\":{\"id\":");
    CHECK_CONTAINS(event->progress, "\"numInputRows\":1,");
    note(arg, "progress", event);
}

static void on_idle(void *arg, const struct mr_streaming_event *event)
{
    note(arg, "idle", event);
}

static void on_terminated(void *arg, const struct mr_streaming_event *event)
{
    CHECK_CONTAINS(event->json, "\"errorClassOnException\":");
    note(arg, "terminated", event);
}

static struct mr_streaming_listener listener_of(struct heard *heard)
{
    memset(heard, 0, sizeof(*heard));
    mr_mutex_init(&heard->lock);
    mr_cond_init(&heard->changed);
    return (struct mr_streaming_listener){.struct_size = sizeof(struct mr_streaming_listener),
                                          .started = on_started,
                                          .progress = on_progress,
                                          .idle = on_idle,
                                          .terminated = on_terminated,
                                          .arg = heard};
}

static void wait_terminated(struct heard *heard, unsigned count)
{
    mr_mutex_lock(&heard->lock);
    while (heard->terminated < count)
        mr_cond_wait(&heard->changed, &heard->lock);
    mr_mutex_unlock(&heard->lock);
}

TEST(listeners_hear_of_start_progress_and_end_in_order)
{
    struct st *s = st_new(t);
    struct mr_streaming_listener listener;
    struct mr_streaming_query *query;
    struct heard heard;
    uint32_t number;

    listener = listener_of(&heard);
    number = mr_streams_add_listener(st_session(s), &listener);
    query = st_start(mr_write_query_name(noop(st_source(s, "a", "v BIGINT")), "q"));
    CHECK_CONTAINS(heard.text.data, "started(q)"); /* inside the start */
    st_rows(s, "a", "(1)");
    st_drain(query);
    st_stop(query);
    wait_terminated(&heard, 1);
    CHECK_EQ_STR(heard.text.data, "started(q) progress(q) terminated(q) ");

    mr_buf_clear(&heard.text);
    query = st_start(mr_write_query_name(failing(s), "f"));
    st_rows(s, "bad", "('x')");
    CHECK(mr_streaming_query_await(query, -1, NULL, NULL) != MR_OK);
    wait_terminated(&heard, 2);
    CHECK_EQ_STR(heard.text.data, "started(f) terminated(f, STREAM_FAILED) ");
    mr_streaming_query_unref(query);

    mr_streams_remove_listener(st_session(s), number);
    mr_buf_clear(&heard.text);
    st_stop(st_start(noop(mr_streams_table(st_session(s), "a"))));
    CHECK_EQ_INT(heard.text.size, 0);
    st_free(s);
    mr_buf_release(&heard.text);
    mr_cond_release(&heard.changed);
    mr_mutex_release(&heard.lock);
}

TEST(an_idle_query_tells_its_listeners)
{
    struct st *s = st_new(t);
    struct mr_streaming_listener listener;
    struct mr_streaming_query *query;
    struct heard heard;

    listener = listener_of(&heard);
    mr_streams_set(st_session(s), "noDataProgressEventInterval", "1 ms");
    mr_streams_add_listener(st_session(s), &listener);
    query = st_start(noop(st_source(s, "a", "v BIGINT")));
    for (int i = 0; i < 3; i++)
        st_drain(query);
    st_stop(query);
    st_free(s); /* delivers what waits */
    CHECK_CONTAINS(heard.text.data, "idle(-)");
    mr_buf_release(&heard.text);
    mr_cond_release(&heard.changed);
    mr_mutex_release(&heard.lock);
}

static void stop_in_listener(void *arg, const struct mr_streaming_event *event)
{
    struct mr_streams *streams = arg;
    struct mr_streaming_query *query = mr_streams_get(streams, event->id);
    struct mr_error err = {0};

    if (query == NULL) /* it has ended meanwhile */
        return;
    CHECK_FAILS(mr_streaming_query_await(query, -1, NULL, &err), &err, MR_STATE, "a listener");
    CHECK_FAILS(mr_streams_await_any(streams, -1, NULL, &err), &err, MR_STATE, "a listener");
    mr_streams_free(streams); /* refused */
    mr_streaming_query_stop(query, true);
    mr_streaming_query_unref(query);
}

TEST(a_listener_may_stop_a_query_at_its_start_and_at_its_progress)
{
    struct st *s = st_new(t);
    struct mr_streaming_listener listener = {
        .struct_size = sizeof(listener), .started = stop_in_listener, .arg = st_session(s)};
    struct mr_streaming_query *query;
    uint32_t number = mr_streams_add_listener(st_session(s), &listener);

    query = st_start(noop(st_source(s, "a", "v BIGINT")));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, NULL), NULL);
    mr_streaming_query_unref(query);
    mr_streams_remove_listener(st_session(s), number);
    listener.started = NULL;
    listener.progress = stop_in_listener;
    mr_streams_add_listener(st_session(s), &listener);
    st_rows(s, "a", "(1)");
    query = st_start(noop(mr_streams_table(st_session(s), "a")));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, NULL), NULL);
    mr_streaming_query_unref(query);
    st_free(s);
}
