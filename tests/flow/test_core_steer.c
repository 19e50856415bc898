/*
 * A running query is steered: workers come and go, outputs run side by side, a stop interrupts a
 * batch, missed batches are made up.
 */
#include "support/script.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "core/internal.h"
#include "env/sim.h"

enum { SECOND_US = 1000000, LOG_BYTES = 4096 };

struct scene {
    struct mr_sim *sim;
    struct mr_env *env;
    struct script_clock clock;
    struct mr_query_config config;
    struct mr_query *query;
    char log[LOG_BYTES];
    void (*act)(struct scene *scene, uint64_t batch_id); /* behind a batch */
    uint64_t batches;
    /* Where threads wait for each other. */
    struct mr_mutex lock;
    struct mr_cond changed;
    unsigned meeting; /* so many; 0 = nobody waits */
    unsigned met;
    bool missed;
    bool failed; /* an output has */
    unsigned threads[8];
};

static void keep_log(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    struct scene *scene = arg;
    size_t at = strlen(scene->log);

    if (level <= MR_LOG_WARNING)
        snprintf(scene->log + at, sizeof(scene->log) - at, "%.*s\n", (int)size_bytes, line);
}

static void on_event(void *arg, const struct mr_query_event *event)
{
    struct scene *scene = arg;

    if (event->kind != MR_QUERY_BATCH_COMPLETED)
        return;
    scene->batches++;
    if (scene->act != NULL)
        scene->act(scene, event->batch_id);
}

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.sim = mr_sim_new(1)};
    mr_log_set_sink(keep_log, scene);
    scene->env = mr_sim_env(scene->sim);
    mr_mutex_init(&scene->lock);
    mr_cond_init(&scene->changed);
    mr_query_config_init(&scene->config);
    scene->config.trigger = MR_TRIGGER_TICK;
    scene->config.interval_us = SECOND_US;
    scene->config.workers = 1;
    scene->config.parallel_min_bytes = 0;
    scene->config.on_event = on_event;
    scene->config.on_event_arg = scene;
}

static enum mr_status scene_run(struct scene *scene, struct mr_graph *graph, uint64_t batches,
                                struct mr_error *err)
{
    enum mr_status status;

    scene->config.batches_max = batches;
    status = mr_query_new(scene->env, graph, &scene->config, &scene->query, err);
    if (status == MR_OK)
        status = mr_query_run(scene->query, err);
    mr_query_free(scene->query);
    scene->query = NULL;
    return status;
}

static void scene_release(struct scene *scene)
{
    mr_log_set_sink(NULL, NULL);
    mr_mutex_release(&scene->lock);
    mr_cond_release(&scene->changed);
    mr_sim_free(scene->sim);
}

/* Waits until so many are inside at the same time. */
static void meet(struct scene *scene)
{
    mr_mutex_lock(&scene->lock);
    scene->met++;
    mr_cond_broadcast(&scene->changed);
    while (scene->met < scene->meeting && !scene->missed)
        scene->missed = !mr_cond_wait_for(&scene->changed, &scene->lock, INT64_C(10000000000));
    mr_mutex_unlock(&scene->lock);
}

/* ---- A fold of three partitions without output. ---- */

enum { PARTITIONS = 3 };

struct busy {
    struct scene *scene;
    int64_t stops_at; /* partition that asks for a stop; -1 = none */
    uint32_t runs;
};

static uint32_t busy_partition_count(void *op)
{
    (void)op;
    return PARTITIONS;
}

static enum mr_status busy_run(void *op, uint32_t partition, struct mr_fold_call *call,
                               struct mr_error *err)
{
    struct busy *busy = op;

    (void)call, (void)err;
    mr_mutex_lock(&busy->scene->lock);
    busy->runs++;
    mr_mutex_unlock(&busy->scene->lock);
    if (busy->scene->meeting > 0)
        meet(busy->scene);
    if (partition == busy->stops_at)
        mr_query_stop(busy->scene->query, false);
    return MR_OK;
}

static const struct mr_fold_ops busy_ops = {.struct_size = sizeof(struct mr_fold_ops),
                                            .kind = "busy",
                                            .partition_count = busy_partition_count,
                                            .run_partition = busy_run};

static struct mr_graph *busy_graph(struct busy *busy, struct script_notes *notes)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_source(graph, "in", "1"), *fold = NULL;
    struct mr_error err = {0};

    CHECK_OK(
        mr_graph_fold(graph, "busy", &node, 1, mr_node_schema(node), &busy_ops, busy, &fold, &err),
        &err);
    script_sink(graph, "out", notes, &node, 1);
    return graph;
}

/* ---- Workers. ---- */

static void grow_and_shrink(struct scene *scene, uint64_t batch_id)
{
    scene->threads[batch_id] = mr__workers_threads(scene->query->workers);
    scene->met = 0;
    if (batch_id == 0) { /* the next batch has three */
        mr_query_set_workers(scene->query, 100);
        CHECK_EQ_UINT(mr_query_workers(scene->query), 3);
        scene->meeting = 3;
    } else {
        mr_query_set_workers(scene->query, batch_id == 1 ? 2 : 0);
        scene->meeting = batch_id == 1 ? 2 : 0;
    }
}

TEST(D24_workers_come_and_go_between_batches)
{
    struct scene scene;
    struct busy busy = {&scene, -1, 0};
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    script_notes_init(&notes, false);
    scene.act = grow_and_shrink;
    scene.config.workers_max = 3;
    CHECK_OK(scene_run(&scene, busy_graph(&busy, &notes), 4, &err), &err);
    CHECK(!scene.missed);
    CHECK_EQ_UINT(busy.runs, 4 * PARTITIONS);
    CHECK_EQ_UINT(scene.threads[0], 0);
    CHECK_EQ_UINT(scene.threads[1], 2);
    CHECK_EQ_UINT(scene.threads[2], 1);
    CHECK_EQ_UINT(scene.threads[3], 0);
    scene_release(&scene);
}

TEST(without_a_maximum_the_workers_at_the_start_are_it)
{
    struct scene scene;
    struct busy busy = {&scene, -1, 0};
    struct script_notes notes;
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    scene_init(&scene);
    script_notes_init(&notes, false);
    scene.config.workers = 2;
    CHECK_OK(mr_query_new(scene.env, busy_graph(&busy, &notes), &scene.config, &query, &err), &err);
    mr_query_set_workers(query, 5);
    CHECK_EQ_UINT(mr_query_workers(query), 2);
    mr_query_free(query);
    scene_release(&scene);
}

/* ---- Outputs side by side. ---- */

static enum mr_status meet_others(void *arg, uint64_t batch_id, struct mr_error *err)
{
    (void)batch_id, (void)err;
    meet(arg);
    return MR_OK;
}

TEST(concurrent_outputs_publish_at_the_same_time_each_batch_after_batch)
{
    struct scene scene;
    struct script_notes notes[3];
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_source(graph, "in", "1|2|3");
    struct mr_error err = {0};
    static const char *const names[] = {"a", "b", "c"};

    scene_init(&scene);
    scene.config.concurrent_outputs = 3;
    scene.meeting = 3;
    for (int i = 0; i < 3; i++) {
        script_notes_init(&notes[i], false);
        notes[i].on_publish = meet_others;
        notes[i].arg = &scene;
        script_sink(graph, names[i], &notes[i], &node, 1);
    }
    CHECK_OK(scene_run(&scene, graph, 3, &err), &err);
    CHECK(!scene.missed);
    for (int i = 0; i < 3; i++)
        CHECK_EQ_STR(notes[i].text, "0:1|1:2|2:3|");
    scene_release(&scene);
}

/* `a` waits for the failure of `b`, then fails as well. */
static enum mr_status fail_second(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;

    (void)batch_id;
    mr_mutex_lock(&scene->lock);
    while (!scene->failed)
        mr_cond_wait(&scene->changed, &scene->lock);
    mr_mutex_unlock(&scene->lock);
    return MR_FAIL(err, MR_CONFIG, "a has enough");
}

static enum mr_status fail_first(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;

    (void)batch_id;
    mr_mutex_lock(&scene->lock);
    scene->failed = true;
    mr_cond_broadcast(&scene->changed);
    mr_mutex_unlock(&scene->lock);
    return MR_FAIL(err, MR_CONFIG, "b has enough");
}

TEST(of_several_outputs_that_fail_the_first_one_is_told)
{
    struct scene scene;
    struct script_notes notes[2];
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_source(graph, "in", "1");
    struct mr_error err = {0};

    scene_init(&scene);
    scene.config.concurrent_outputs = 2;
    for (int i = 0; i < 2; i++) {
        script_notes_init(&notes[i], false);
        notes[i].on_publish = i == 0 ? fail_second : fail_first;
        notes[i].arg = &scene;
        script_sink(graph, i == 0 ? "a" : "b", &notes[i], &node, 1);
    }
    CHECK_EQ_INT(scene_run(&scene, graph, 1, &err), MR_CONFIG);
    CHECK_NOT_NULL(strstr(err.text, "sink 'a': a has enough"));
    scene_release(&scene);
}

TEST(an_output_that_was_published_is_not_published_again_when_another_one_failed)
{
    for (unsigned at_once = 1; at_once <= 2; at_once++) {
        struct scene scene;
        struct script_notes notes[2];
        struct mr_graph *graph = mr_graph_new();
        struct mr_node *node = script_source(graph, "in", "1|2");
        struct mr_error err = {0};

        scene_init(&scene);
        scene.config.concurrent_outputs = at_once;
        for (int i = 0; i < 2; i++) {
            script_notes_init(&notes[i], false);
            script_sink(graph, i == 0 ? "a" : "b", &notes[i], &node, 1);
        }
        notes[1].fail = MR_USER;
        CHECK_OK(scene_run(&scene, graph, 2, &err), &err);
        CHECK_EQ_STR(notes[0].text, "0:1|1:2|");
        CHECK_EQ_STR(notes[1].text, "0:1|1:2|");
        scene_release(&scene);
    }
}

/* ---- Stops that do not wait for the batch. ---- */

TEST(D2_a_stop_at_once_ends_between_partitions_and_the_next_start_runs_the_batch)
{
    struct scene scene;
    struct busy busy = {&scene, 0, 0};
    struct script_notes notes;
    struct mr_error err = {0};

    scene_init(&scene);
    script_notes_init(&notes, false);
    scene.config.checkpoint_dir = "/cp";
    CHECK_OK(scene_run(&scene, busy_graph(&busy, &notes), 0, &err), &err);
    CHECK_EQ_UINT(busy.runs, 1);
    CHECK_EQ_STR(notes.text, "");
    CHECK_NOT_NULL(
        strstr(scene.log, "stopping in the middle of this batch; the next start runs it"));
    busy.stops_at = -1;
    CHECK_OK(scene_run(&scene, busy_graph(&busy, &notes), 1, &err), &err);
    CHECK_EQ_UINT(busy.runs, 1 + PARTITIONS);
    CHECK_EQ_STR(notes.text, "0:1|");
    scene_release(&scene);
}

static enum mr_status stop_and_take_long(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;

    (void)batch_id, (void)err;
    mr_query_stop(scene->query, true);
    mr_sim_advance_ns(scene->sim, INT64_C(3000000000));
    return MR_OK;
}

static void run_with_timeout(int64_t timeout_us, const char *second)
{
    struct scene scene;
    struct script_notes notes[2];
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_source(graph, "in", "1");
    struct mr_error err = {0};

    scene_init(&scene);
    scene.config.stop_timeout_us = timeout_us;
    for (int i = 0; i < 2; i++) {
        script_notes_init(&notes[i], false);
        script_sink(graph, i == 0 ? "a" : "b", &notes[i], &node, 1);
    }
    notes[0].on_publish = stop_and_take_long;
    notes[0].arg = &scene;
    CHECK_OK(scene_run(&scene, graph, 0, &err), &err);
    CHECK_EQ_STR(notes[0].text, "0:1|");
    CHECK_EQ_STR(notes[1].text, second);
    scene_release(&scene);
}

TEST(JG_9_a_graceful_stop_finishes_the_batch_unless_its_time_runs_out)
{
    run_with_timeout(0, "0:1|");
    run_with_timeout(4 * SECOND_US, "0:1|");
    run_with_timeout(2 * SECOND_US, "");
}

/* ---- Batches that were missed. ---- */

static void jump_and_stop(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 1)
        scene->clock.wall_offset_us += INT64_C(1000000000) * SECOND_US; /* 32 years */
    if (batch_id == 2000)
        mr_query_stop(scene->query, false);
}

TEST(D5_a_clock_set_far_forward_is_told_once_and_making_up_can_be_stopped)
{
    struct scene scene;
    struct script_notes notes;
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_source(graph, "in", "1");
    struct mr_error err = {0};
    const char *line;

    scene_init(&scene);
    script_clock_init(&scene.clock, scene.env);
    scene.env = &scene.clock.env;
    scene.act = jump_and_stop;
    script_notes_init(&notes, false);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_OK(scene_run(&scene, graph, 0, &err), &err);
    CHECK_EQ_UINT(scene.batches, 2001);
    line = strstr(scene.log, "999999999 batches are due and wait for this one");
    CHECK_NOT_NULL(line);
    CHECK_EQ_STR(strchr(line, '\n'), "\n");
    scene_release(&scene);
}
