/*
 * Which batch gets which received block (dstream.md 9, 11.3), on the virtual clock. The receiver
 * stores when the test says so, every store is a block.
 */
#include "support/script.h"
#include "support/test.h"

#include "base/log.h"
#include "env/sim.h"

enum { SECOND_US = 1000000 };

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

struct scene {
    struct mr_sim *sim;
    struct mr_env *env;
    struct script_clock clock;
    struct script_feed feed;
    struct script_notes notes;
    struct mr_query_config config;
    struct mr_query *query;
    /* what happens in the callback behind a batch */
    void (*act)(struct scene *scene, uint64_t batch_id);
};

static void on_progress(void *arg, const struct mr_progress *progress)
{
    struct scene *scene = arg;

    if (!progress->idle && scene->act != NULL)
        scene->act(scene, progress->batch_id);
}

static void scene_init(struct scene *scene, void (*act)(struct scene *scene, uint64_t batch_id))
{
    mr_log_set_sink(quiet, NULL);
    *scene = (struct scene){.sim = mr_sim_new(1), .act = act};
    scene->env = mr_sim_env(scene->sim);
    script_feed_init(&scene->feed);
    script_notes_init(&scene->notes, false);
    mr_query_config_init(&scene->config);
    scene->config.trigger = MR_TRIGGER_TICK;
    scene->config.interval_us = SECOND_US;
    scene->config.workers = 1;
    scene->config.block_interval_us = 0;
    scene->config.on_progress = on_progress;
    scene->config.on_progress_arg = scene;
}

/* Uses a wall clock that the test can set. */
static void scene_set_clock(struct scene *scene)
{
    script_clock_init(&scene->clock, mr_sim_env(scene->sim));
    scene->env = &scene->clock.env;
}

static void scene_run(struct scene *scene, uint64_t batches)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_feed_source(graph, "in", &scene->feed);
    struct mr_error err = {0};

    scene->feed.is_interrupted = false;
    scene->config.batches_max = batches;
    script_sink(graph, "out", &scene->notes, &node, 1);
    CHECK_OK(mr_query_new(scene->env, graph, &scene->config, &scene->query, &err), &err);
    CHECK_OK(mr_query_run(scene->query, &err), &err);
    mr_query_free(scene->query);
    scene->query = NULL;
}

/* A block, so many tenths of a second later. */
static void store_after(struct scene *scene, int tenths, const char *values)
{
    mr_sim_advance_ns(scene->sim, tenths * INT64_C(100000000));
    script_feed_store(&scene->feed, values);
}

/* Behind batch 0, at second 1: blocks until second 4.5, before batch 1 can run. */
static void fall_behind(struct scene *scene, uint64_t batch_id)
{
    if (batch_id != 0)
        return;
    store_after(scene, 1, "1");    /* 1.1 */
    store_after(scene, 8, "2");    /* 1.9 */
    store_after(scene, 1, "3");    /* 2.0: belongs to the batch of second 2 */
    store_after(scene, 1, "4");    /* 2.1 */
    store_after(scene, 14, "5 6"); /* 3.5 */
    store_after(scene, 10, "7");   /* 4.5 */
}

TEST(RBT_4_late_batches_have_the_blocks_of_their_own_interval)
{
    struct scene scene;

    scene_init(&scene, fall_behind);
    scene_run(&scene, 6);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3|2:4|3:5 6|4:7|5:|");
    mr_sim_free(scene.sim);
}

static void fall_behind_and_stop(struct scene *scene, uint64_t batch_id)
{
    fall_behind(scene, batch_id);
    if (batch_id == 1)
        mr_query_stop(scene->query, true);
}

TEST(JG_9_a_graceful_stop_takes_everything_that_was_received)
{
    struct scene scene;

    scene_init(&scene, fall_behind_and_stop);
    scene_run(&scene, 0);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3|2:4 5 6 7|");
    mr_sim_free(scene.sim);
}

static void fall_behind_and_end(struct scene *scene, uint64_t batch_id)
{
    fall_behind(scene, batch_id);
    if (batch_id == 1)
        mr_query_stop(scene->query, false);
}

TEST(CP_14_a_planned_batch_keeps_its_blocks_and_the_first_new_one_takes_what_is_left)
{
    struct scene scene;

    scene_init(&scene, fall_behind_and_end);
    scene.config.checkpoint_dir = "/cp";
    scene_run(&scene, 0);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3|");
    scene.act = NULL;
    scene_run(&scene, 3);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3|2:4|3:5 6 7|4:|");
    mr_sim_free(scene.sim);
}

/* Behind batch 0 the clock is an hour ahead for a block, then it is set right again. */
static void store_in_the_future(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 0) {
        store_after(scene, 5, "1");
        scene->clock.wall_offset_us += INT64_C(3600) * SECOND_US;
        store_after(scene, 1, "2");
        scene->clock.wall_offset_us -= INT64_C(3600) * SECOND_US;
        store_after(scene, 1, "3");
    }
    if (batch_id == 1)
        store_after(scene, 5, "4");
}

TEST(D5_a_block_stamped_before_the_clock_was_set_back_is_not_stuck)
{
    struct scene scene;

    scene_init(&scene, store_in_the_future);
    scene_set_clock(&scene);
    scene_run(&scene, 3);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3|2:4|");
    mr_sim_free(scene.sim);
}

static void set_back(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 0) {
        store_after(scene, 5, "1");
        scene->clock.wall_offset_us -= INT64_C(3600) * SECOND_US;
        store_after(scene, 1, "2");
    }
    if (batch_id == 1 || batch_id == 2)
        store_after(scene, 5, batch_id == 1 ? "3" : "4");
}

TEST(D5_blocks_go_on_to_batches_when_the_clock_was_set_back)
{
    struct scene scene;

    scene_init(&scene, set_back);
    scene_set_clock(&scene);
    scene_run(&scene, 4);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2|2:3|3:4|");
    mr_sim_free(scene.sim);
}

static void set_forward(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 0) {
        store_after(scene, 5, "1");
        scene->clock.wall_offset_us += INT64_C(3) * SECOND_US;
        store_after(scene, 1, "2"); /* 4.6 by the new clock */
    }
}

TEST(D5_when_the_clock_was_set_forward_the_missed_batches_are_made_up_and_blocks_keep_their_time)
{
    struct scene scene;

    scene_init(&scene, set_forward);
    scene_set_clock(&scene);
    scene_run(&scene, 6);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1|2:|3:|4:2|5:|");
    mr_sim_free(scene.sim);
}
