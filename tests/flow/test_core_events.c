/*
 * What a query tells while it runs, and how it is looked at and steered from outside (dstream.md 8,
 * 13, 14), on the virtual clock.
 */
#include "support/script.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "core/block_generator.h"
#include "env/sim.h"

#include <stdatomic.h>

enum { SECOND_US = 1000000, TEXT_BYTES = 4096 };

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

struct scene {
    struct mr_sim *sim;
    struct mr_query_config config;
    struct mr_query *query;
    char text[TEXT_BYTES]; /* of the events, one after the other */
    int64_t zero_us;
    bool tells_times;
    void (*act)(struct scene *scene, const struct mr_query_event *event);
    struct script_feed feed;
    uint64_t waiting[16];
    size_t waiting_count;
};

static void add(struct scene *scene, const char *format, ...) MR_PRINTF(2, 3);
static void add(struct scene *scene, const char *format, ...)
{
    size_t at = strlen(scene->text);
    va_list args;

    va_start(args, format);
    vsnprintf(scene->text + at, sizeof(scene->text) - at, format, args);
    va_end(args);
}

static void add_time(struct scene *scene, const char *name, int64_t us)
{
    if (us < 0)
        add(scene, " %s -", name);
    else
        add(scene, " %s %.1f", name, (double)(us - scene->zero_us) / 1e6);
}

static void add_batch(struct scene *scene, const char *name, const struct mr_query_event *event)
{
    add(scene, "%s %llu", name, (unsigned long long)event->batch_id);
    if (event->attempt > 0)
        add(scene, " again %u", event->attempt);
    for (size_t i = 0; i < event->source_count; i++) {
        const struct mr_query_event_source *source = &event->sources[i];

        add(scene, " %s(%s,%s]", source->name, source->start != NULL ? source->start : "",
            source->end != NULL ? source->end : "");
        if (source->is_absent)
            add(scene, "-");
        else if (source->rows_known)
            add(scene, "=%llu", (unsigned long long)source->rows);
    }
    if (event->failure != NULL)
        add(scene, " '%s'", event->failure);
    if (scene->tells_times) {
        add_time(scene, "due", event->batch_time_us);
        add_time(scene, "submitted", event->submitted_us);
        add_time(scene, "started", event->started_us);
        add_time(scene, "ended", event->ended_us);
    }
    add(scene, "; ");
}

static void add_output(struct scene *scene, const struct mr_query_event *event)
{
    bool is_start = event->kind == MR_QUERY_OUTPUT_STARTED;

    CHECK_EQ_INT(event->output_ended_us == -1, is_start);
    CHECK(is_start || event->output_ended_us >= event->output_started_us);
    add(scene, "%s %u %s", is_start ? "out" : "end", event->output, event->output_name);
    if (event->failure != NULL)
        add(scene, " '%s'", event->failure);
    add(scene, "; ");
}

static void note_event(void *arg, const struct mr_query_event *event)
{
    struct scene *scene = arg;

    switch (event->kind) {
    case MR_QUERY_BATCH_SUBMITTED:
        add_batch(scene, "submitted", event);
        break;
    case MR_QUERY_BATCH_STARTED:
        add_batch(scene, "started", event);
        break;
    case MR_QUERY_BATCH_FAILED:
        add_batch(scene, "failed", event);
        break;
    case MR_QUERY_BATCH_COMPLETED:
        add_batch(scene, "completed", event);
        break;
    case MR_QUERY_OUTPUT_STARTED:
    case MR_QUERY_OUTPUT_COMPLETED:
        add_output(scene, event);
        break;
    default: /* receivers: their thread comes when it likes */
        break;
    }
    if (scene->act != NULL)
        scene->act(scene, event);
}

static void scene_init(struct scene *scene)
{
    mr_log_set_sink(quiet, NULL);
    *scene = (struct scene){.sim = mr_sim_new(1)};
    scene->zero_us = mr_env_wall_us(mr_sim_env(scene->sim));
    script_feed_init(&scene->feed);
    mr_query_config_init(&scene->config);
    scene->config.trigger = MR_TRIGGER_TICK;
    scene->config.interval_us = SECOND_US;
    scene->config.workers = 1;
    scene->config.block_interval_us = 0;
    scene->config.on_event = note_event;
    scene->config.on_event_arg = scene;
}

static enum mr_status scene_run(struct scene *scene, struct mr_graph *graph, uint64_t batches,
                                struct mr_error *err)
{
    enum mr_status status;

    scene->config.batches_max = batches;
    status = mr_query_new(mr_sim_env(scene->sim), graph, &scene->config, &scene->query, err);
    if (status == MR_OK)
        status = mr_query_run(scene->query, err);
    mr_query_free(scene->query);
    scene->query = NULL;
    return status;
}

TEST(LS_1_a_batch_is_submitted_started_its_outputs_run_and_it_is_completed)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes[2];
    struct mr_error err = {0};

    scene_init(&scene);
    struct mr_node *a = script_source(graph, "a", "1 2/3|-");
    struct mr_node *b = script_source(graph, "b", "4||5");
    for (int i = 0; i < 2; i++) {
        script_notes_init(&notes[i], false);
        script_sink(graph, i == 0 ? "first" : "second", &notes[i], i == 0 ? &b : &a, 1);
    }
    scene.config.checkpoint_dir = "/cp";
    CHECK_OK(scene_run(&scene, graph, 3, &err), &err);
    CHECK_EQ_STR(scene.text,
                 "submitted 0 a(,1] b(,1]; started 0 a(,1] b(,1]; out 0 first; end 0 first; "
                 "out 1 second; end 1 second; completed 0 a(,1]=3 b(,1]=1; "
                 "submitted 1 a(1,2]- b(1,2]; started 1 a(1,2]- b(1,2]; out 0 first; end 0 first; "
                 "completed 1 a(1,2]- b(1,2]=0; "
                 "submitted 2 a(2,2]=0 b(2,3]; started 2 a(2,2]=0 b(2,3]; out 0 first; "
                 "end 0 first; out 1 second; end 1 second; completed 2 a(2,2]=0 b(2,3]=1; ");
    mr_sim_free(scene.sim);
}

TEST(LS_1_an_output_that_fails_ends_with_its_reason_and_the_batch_is_tried_again)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    script_notes_init(&notes, false);
    notes.fail = MR_USER;
    struct mr_node *a = script_source(graph, "a", "1");
    script_sink(graph, "out", &notes, &a, 1);
    CHECK_OK(scene_run(&scene, graph, 1, &err), &err);
    CHECK_EQ_STR(scene.text, "submitted 0 a(,1]; started 0 a(,1]; out 0 out; "
                             "end 0 out 'the test says so'; "
                             "failed 0 a(,1] 'sink 'out': the test says so'; out 0 out; "
                             "end 0 out; completed 0 again 1 a(,1]=1; ");
    CHECK_EQ_STR(notes.text, "0:1|");
    mr_sim_free(scene.sim);
}

/* ---- Times, and batches that wait. ---- */

static enum mr_status take_long(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;

    (void)err;
    if (batch_id == 0)
        mr_sim_advance_ns(scene->sim, INT64_C(3500000000));
    scene->waiting[scene->waiting_count++] = mr_query_waiting_batches(scene->query);
    return MR_OK;
}

TEST(JG_8_batches_that_wait_were_submitted_when_they_were_due)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    script_notes_init(&notes, false);
    notes.on_publish = take_long;
    notes.arg = &scene;
    scene.tells_times = true;
    struct mr_node *a = script_source(graph, "a", "");
    script_sink(graph, "out", &notes, &a, 1);
    CHECK_OK(scene_run(&scene, graph, 6, &err), &err);
    CHECK_NOT_NULL(
        strstr(scene.text, "started 1 a(1,1]=0 due 2.0 submitted 2.0 started 4.5 ended -"));
    CHECK_NOT_NULL(
        strstr(scene.text, "completed 2 a(1,1]=0 due 3.0 submitted 3.0 started 4.5 ended 4.5"));
    CHECK_NOT_NULL(
        strstr(scene.text, "completed 4 a(1,1]=0 due 5.0 submitted 5.0 started 5.0 ended 5.0"));
    CHECK_EQ_UINT(scene.waiting_count, 6);
    CHECK_EQ_UINT(scene.waiting[0], 3);
    CHECK_EQ_UINT(scene.waiting[1], 2);
    CHECK_EQ_UINT(scene.waiting[2], 1);
    CHECK_EQ_UINT(scene.waiting[3], 0);
    CHECK_EQ_UINT(scene.waiting[5], 0);
    mr_sim_free(scene.sim);
}

TEST(CP_14_batches_made_again_after_downtime_were_submitted_at_the_start)
{
    struct scene scene;
    struct mr_error err = {0};

    scene_init(&scene);
    scene.tells_times = true;
    scene.config.checkpoint_dir = "/cp";
    for (int run = 0; run < 2; run++) {
        struct mr_graph *graph = mr_graph_new();
        struct script_notes notes;

        script_notes_init(&notes, false);
        struct mr_node *a = script_source(graph, "a", "");
        script_sink(graph, "out", &notes, &a, 1);
        scene.text[0] = '\0';
        CHECK_OK(scene_run(&scene, graph, 1, &err), &err);
        mr_sim_advance_ns(scene.sim, INT64_C(10000000000));
    }
    CHECK_NOT_NULL(strstr(scene.text, "due 2.0 submitted 11.0 started 11.0 ended 11.0"));
    mr_sim_free(scene.sim);
}

/* ---- Offsets, rates, receivers. ---- */

static enum mr_status read_offsets(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;
    const char *start = "x", *end = "x";

    (void)err;
    CHECK(!mr_query_source_offsets(scene->query, "b", &start, &end));
    CHECK(mr_query_source_offsets(scene->query, "a", &start, &end));
    add(scene, "%llu(%s,%s] ", (unsigned long long)batch_id, start != NULL ? start : "", end);
    return MR_OK;
}

TEST(an_output_can_ask_for_the_offsets_of_the_batch_it_has)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    scene.config.on_event = NULL;
    scene.config.checkpoint_dir = "/cp";
    script_notes_init(&notes, false);
    notes.on_publish = read_offsets;
    notes.arg = &scene;
    struct mr_node *a = script_source(graph, "a", "1|2");
    script_sink(graph, "out", &notes, &a, 1);
    CHECK_OK(scene_run(&scene, graph, 2, &err), &err);
    CHECK_EQ_STR(scene.text, "0(,1] 1(1,2] ");
    mr_sim_free(scene.sim);
}

static void limit_rate(struct scene *scene, const struct mr_query_event *event)
{
    struct mr_error err = {0};

    if (event->kind != MR_QUERY_BATCH_COMPLETED)
        return;
    add(scene, "rate %lld; ", (long long)script_plan_rate);
    CHECK_EQ_INT(mr_query_set_rate(scene->query, "b", 5, &err), MR_NOT_FOUND);
    CHECK_OK(mr_query_set_rate(scene->query, "a", event->batch_id == 0 ? 250 : 0, &err), &err);
}

TEST(RL_2_a_rate_reaches_the_next_plan_and_one_that_is_not_positive_is_ignored)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    scene.act = limit_rate;
    script_notes_init(&notes, false);
    struct mr_node *a = script_source(graph, "a", "");
    script_sink(graph, "out", &notes, &a, 1);
    CHECK_OK(scene_run(&scene, graph, 3, &err), &err);
    CHECK_NOT_NULL(strstr(scene.text, "completed 0 a(,1]=0; rate 0; "));
    CHECK_NOT_NULL(strstr(scene.text, "completed 1 a(1,1]=0; rate 250; "));
    CHECK_NOT_NULL(strstr(scene.text, "completed 2 a(1,1]=0; rate 250; "));
    mr_sim_free(scene.sim);
}

/* What the receiver tells, on its own thread; the driver's events are not noted. */
static void note_receiver(struct scene *scene, const struct mr_query_event *event)
{
    scene->text[0] = '\0';
    if (event->receiver == NULL)
        return;
    scene->waiting[scene->waiting_count++] = (uint64_t)event->kind;
    MR_ASSERT(scene->waiting_count < MR_ARRAY_SIZE(scene->waiting));
    CHECK_EQ_STR(event->receiver->source_name, "in");
    CHECK_EQ_INT(event->receiver->state.active, event->kind == MR_QUERY_RECEIVER_STARTED);
}

static void feed_and_break(void *arg, const struct mr_progress *progress)
{
    struct scene *scene = arg;
    struct mr_query_receiver receiver;
    struct mr_error err = {0};

    if (progress->idle)
        return;
    CHECK(!mr_query_receiver(scene->query, 1, &receiver));
    if (progress->batch_id == 0) {
        script_feed_store(&scene->feed, "1 2 3");
        CHECK(mr_query_receiver(scene->query, 0, &receiver));
        CHECK_EQ_STR(receiver.source_name, "in");
        CHECK(receiver.state.active);
        CHECK_EQ_UINT(receiver.state.record_count, 3);
        CHECK(receiver.state.byte_count > 0);
        CHECK_EQ_INT(receiver.state.last_error_us, -1);
        CHECK_EQ_INT(receiver.state.rate_limit, 0);
        CHECK_OK(mr_query_set_rate(scene->query, "in", 200, &err), &err);
        CHECK(mr_query_receiver(scene->query, 0, &receiver));
        CHECK_EQ_INT(receiver.state.rate_limit, 200);
        script_feed_break(&scene->feed);
        do /* until its thread has said so */
            CHECK(mr_query_receiver(scene->query, 0, &receiver));
        while (receiver.state.error_count == 0);
        CHECK_NOT_NULL(strstr(receiver.state.last_error, "the test breaks it"));
        CHECK(receiver.state.last_error_us >= scene->zero_us);
    }
    if (progress->batch_id == 1)
        CHECK_EQ_UINT(progress->input_rows, 3);
}

TEST(LS_receivers_tell_when_they_start_fail_and_stop_and_have_numbers)
{
    struct mr_graph *graph = mr_graph_new();
    struct scene scene;
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    scene.act = note_receiver;
    scene.config.on_progress = feed_and_break;
    scene.config.on_progress_arg = &scene;
    scene.config.restart_delay_us = INT64_C(3600) * SECOND_US;
    script_notes_init(&notes, false);
    struct mr_node *in = script_feed_source(graph, "in", &scene.feed);
    script_sink(graph, "out", &notes, &in, 1);
    CHECK_OK(scene_run(&scene, graph, 2, &err), &err);
    CHECK_EQ_STR(notes.text, "0:|1:1 2 3|");
    CHECK_EQ_UINT(scene.waiting_count, 3);
    CHECK_EQ_UINT(scene.waiting[0], MR_QUERY_RECEIVER_STARTED);
    CHECK_EQ_UINT(scene.waiting[1], MR_QUERY_RECEIVER_ERROR);
    CHECK_EQ_UINT(scene.waiting[2], MR_QUERY_RECEIVER_STOPPED);
    mr_sim_free(scene.sim);
}

static enum mr_status keep_nothing(void *arg, const struct mr_generated *block,
                                   struct mr_error *err)
{
    (void)arg, (void)block, (void)err;
    return MR_OK;
}

static void acquire_many(void *arg)
{
    mr__generator_acquire(arg, 1000000);
}

/* At one record a second the wait would be eleven days. */
TEST(RL_2_a_new_rate_counts_for_who_is_waiting_already)
{
    const struct mr_generator_config config = {
        .env = mr_env_posix(), .rate_max = 0, .write = keep_nothing};
    struct mr_generator generator;
    struct mr_thread *thread = NULL;
    struct mr_error err = {0};
    bool waits = false;

    mr__generator_init(&generator, &config);
    mr__generator_set_rate(&generator, 1);
    CHECK_OK(mr_thread_start("test", acquire_many, &generator, &thread, &err), &err);
    while (!waits) {
        mr_mutex_lock(&generator.lock);
        waits = generator.permits < 0;
        mr_mutex_unlock(&generator.lock);
    }
    mr__generator_set_rate(&generator, INT64_C(1000000000));
    mr_thread_join(thread);
    CHECK_EQ_INT(mr__generator_rate(&generator), INT64_C(1000000000));
    mr__generator_release(&generator);
}

TEST(RL_3_a_rate_stays_below_a_maximum_that_is_positive)
{
    struct mr_generator_config config = {
        .env = mr_env_posix(), .rate_max = 1000, .write = keep_nothing};
    struct mr_generator generator;

    mr__generator_init(&generator, &config);
    CHECK_EQ_INT(mr__generator_rate(&generator), 1000);
    mr__generator_set_rate(&generator, 5000);
    CHECK_EQ_INT(mr__generator_rate(&generator), 1000);
    mr__generator_set_rate(&generator, 200);
    mr__generator_set_rate(&generator, 0);
    CHECK_EQ_INT(mr__generator_rate(&generator), 200);
    mr__generator_release(&generator);
    config.rate_max = -1;
    mr__generator_init(&generator, &config);
    CHECK_EQ_INT(mr__generator_rate(&generator), 0);
    mr__generator_release(&generator);
}
