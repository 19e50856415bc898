/*
 * Which batch gets which block, through failures and restarts (dstream.md 9), and when ticks come
 * (3), on the virtual clock. The receiver stores when the test says so, every store is a block.
 */
#include "support/script.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"

#include <errno.h>

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

struct scene {
    struct mr_sim *sim;
    struct script_feed feed;
    struct script_notes notes;
    struct mr_query_config config;
    struct mr_query *query;
    void (*act)(struct scene *scene, uint64_t batch_id); /* behind a batch */
    uint64_t fail_batch;                                 /* at fail_point */
    const char *fail_point;
    char json[8192]; /* the newest progress document */
    int64_t times_us[16];
    size_t time_count;
};

static void on_progress(void *arg, const struct mr_progress *progress)
{
    struct scene *scene = arg;

    if (progress->idle)
        return;
    snprintf(scene->json, sizeof(scene->json), "%s", progress->json);
    if (scene->time_count < 16)
        scene->times_us[scene->time_count++] = progress->batch_time_us;
    if (scene->act != NULL)
        scene->act(scene, progress->batch_id);
}

static enum mr_status failpoint(void *arg, const char *point, uint64_t batch_id,
                                struct mr_error *err)
{
    const struct scene *scene = arg;

    if (scene->fail_point == NULL || batch_id != scene->fail_batch ||
        strcmp(point, scene->fail_point) != 0)
        return MR_OK;
    return MR_FAIL(err, MR_INTERNAL, "died");
}

static void begin(struct scene *scene, const char *checkpoint)
{
    mr_log_set_sink(quiet, NULL);
    *scene = (struct scene){.sim = mr_sim_new(1)};
    script_feed_init(&scene->feed);
    script_notes_init(&scene->notes, false);
    mr_query_config_init(&scene->config);
    scene->config.trigger = MR_TRIGGER_TICK;
    scene->config.interval_us = 1000000;
    scene->config.workers = 1;
    scene->config.block_interval_us = 0;
    scene->config.checkpoint_dir = checkpoint;
    scene->config.on_progress = on_progress;
    scene->config.on_progress_arg = scene;
    scene->config.failpoint = failpoint;
    scene->config.failpoint_arg = scene;
}

static enum mr_status run(struct scene *scene, uint64_t batches, struct mr_error *err)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *node = script_feed_source(graph, "in", &scene->feed);
    enum mr_status status;

    scene->feed.is_interrupted = false;
    scene->config.batches_max = batches;
    script_sink(graph, "out", &scene->notes, &node, 1);
    CHECK_OK(mr_query_new(mr_sim_env(scene->sim), graph, &scene->config, &scene->query, err), err);
    status = mr_query_run(scene->query, err);
    mr_query_free(scene->query);
    scene->query = NULL;
    return status;
}

static void store_five(struct scene *scene, int first)
{
    for (int i = first; i < first + 5; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        script_feed_store(&scene->feed, text);
    }
}

static void wait_tenths(struct scene *scene, int tenths)
{
    mr_sim_advance_ns(scene->sim, tenths * INT64_C(100000000));
}

static void store_five_behind_0(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 0)
        store_five(scene, 1);
}

TEST(V227_V229_without_a_checkpoint_nothing_is_written_and_a_batch_may_be_empty)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, NULL);
    scene.act = store_five_behind_0;
    CHECK_OK(run(&scene, 3, &err), &err);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|2:|");
    CHECK_EQ_UINT(mr_sim_op_count(scene.sim), 0);
    mr_sim_free(scene.sim);
}

/* The publish of batch 1 fails once, and five more blocks have come by then. */
static enum mr_status fail_once(void *arg, uint64_t batch_id, struct mr_error *err)
{
    struct scene *scene = arg;

    if (batch_id != 1 || scene->fail_batch == 1)
        return MR_OK;
    scene->fail_batch = 1;
    wait_tenths(scene, 5);
    store_five(scene, 6);
    return MR_FAIL(err, MR_UNAVAILABLE, "not now");
}

TEST(V230_a_batch_that_runs_again_has_the_same_blocks)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, NULL);
    scene.act = store_five_behind_0;
    scene.notes.on_publish = fail_once;
    scene.notes.arg = &scene;
    CHECK_OK(run(&scene, 3, &err), &err);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|2:6 7 8 9 10|");
    mr_sim_free(scene.sim);
}

/* Ten blocks; the first five are of batch 1. */
static void store_ten_behind_0(struct scene *scene, uint64_t batch_id)
{
    if (batch_id != 0)
        return;
    store_five(scene, 1);
    wait_tenths(scene, 15);
    store_five(scene, 6);
}

TEST(V232_what_was_allocated_when_the_process_died_is_the_batch_and_the_rest_is_left)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, "/cp");
    scene.act = store_ten_behind_0;
    scene.fail_point = "planned";
    scene.fail_batch = 1;
    CHECK_STATUS(run(&scene, 3, &err), MR_INTERNAL);
    scene.act = NULL;
    scene.fail_point = NULL;
    CHECK_OK(run(&scene, 2, &err), &err);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|2:6 7 8 9 10|");
    mr_sim_free(scene.sim);
}

static void store_five_on_a_bad_disk(struct scene *scene, uint64_t batch_id)
{
    if (batch_id != 0)
        return;
    store_five(scene, 1);
    mr_sim_fail_at(scene->sim, 1, EIO, true);
}

TEST(V233_V235_an_allocation_that_could_not_be_written_leaves_the_blocks_to_the_next_batch)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, "/cp");
    scene.act = store_five_on_a_bad_disk;
    CHECK_STATUS(run(&scene, 3, &err), MR_IO);
    mr_sim_fail_at(scene.sim, 0, 0, false);
    scene.act = NULL;
    CHECK_OK(run(&scene, 1, &err), &err);
    CHECK_CONTAINS(scene.notes.text, ":1 2 3 4 5|");
    mr_sim_free(scene.sim);
}

static void store_five_and_five(struct scene *scene, uint64_t batch_id)
{
    if (batch_id < 2)
        store_five(scene, 1 + 5 * (int)batch_id);
    if (batch_id == 1)
        CHECK_CONTAINS(scene->json, "\"endOffset\":5,");
}

TEST(V236_V238_each_plan_names_its_range_of_blocks_and_recovery_keeps_to_it)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, "/cp");
    scene.act = store_five_and_five;
    scene.fail_point = "ran";
    scene.fail_batch = 2;
    CHECK_STATUS(run(&scene, 3, &err), MR_INTERNAL);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|");
    scene.fail_point = NULL;
    scene.act = NULL;
    CHECK_OK(run(&scene, 1, &err), &err);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|2:6 7 8 9 10|");
    CHECK_CONTAINS(scene.json, "\"startOffset\":5,");
    CHECK_CONTAINS(scene.json, "\"endOffset\":10,");
    CHECK_OK(run(&scene, 1, &err), &err);
    CHECK_EQ_STR(scene.notes.text, "0:|1:1 2 3 4 5|2:6 7 8 9 10|3:|");
    mr_sim_free(scene.sim);
}

/* ---------------------------------------------------------------- ticks */

static void jump_behind_0(struct scene *scene, uint64_t batch_id)
{
    if (batch_id == 0)
        mr_sim_advance_ns(scene->sim, 300000000);
}

TEST(V209_a_late_clock_gives_every_tick_its_own_time)
{
    struct scene scene;
    struct mr_error err = {0};

    begin(&scene, NULL);
    scene.config.interval_us = 100000;
    scene.act = jump_behind_0;
    CHECK_OK(run(&scene, 4, &err), &err);
    CHECK_EQ_UINT(scene.time_count, 4);
    for (size_t i = 1; i < 4; i++)
        CHECK_EQ_INT(scene.times_us[i] - scene.times_us[i - 1], 100000);
    mr_sim_free(scene.sim);
}

TEST(V211_the_first_batch_is_the_next_multiple_of_the_interval)
{
    static const struct {
        int64_t now_ms, interval_ms, first_ms;
    } cases[] = {{0, 1000, 1000}, {999, 1000, 1000}, {1000, 1000, 2000}, {13000, 2000, 14000}};

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        struct scene scene;
        struct mr_error err = {0};
        int64_t zero_ms;

        begin(&scene, NULL);
        zero_ms = mr_env_wall_us(mr_sim_env(scene.sim)) / 1000;
        CHECK_EQ_INT(zero_ms % 2000, 0);
        mr_sim_advance_ns(scene.sim, cases[i].now_ms * 1000000);
        scene.config.interval_us = cases[i].interval_ms * 1000;
        CHECK_OK(run(&scene, 1, &err), &err);
        CHECK_EQ_INT(scene.times_us[0] / 1000 - zero_ms, cases[i].first_ms);
        mr_sim_free(scene.sim);
    }
}

TEST(V212_after_a_restart_batches_go_on_in_the_grid_behind_the_missed_ones)
{
    static const int64_t nows_ms[] = {15000, 16000};

    for (size_t i = 0; i < MR_ARRAY_SIZE(nows_ms); i++) {
        struct scene scene;
        struct mr_error err = {0};
        int64_t zero_ms;

        begin(&scene, "/cp");
        scene.config.interval_us = 2000000;
        zero_ms = mr_env_wall_us(mr_sim_env(scene.sim)) / 1000;
        CHECK_OK(run(&scene, 1, &err), &err); /* at 2000 */
        mr_sim_advance_ns(scene.sim, (nows_ms[i] - 2000) * 1000000);
        scene.time_count = 0;
        CHECK_OK(run(&scene, 8, &err), &err);
        for (size_t k = 0; k < 8; k++)
            CHECK_EQ_INT(scene.times_us[k] / 1000 - zero_ms, 4000 + 2000 * (int64_t)k);
        mr_sim_free(scene.sim);
    }
}
