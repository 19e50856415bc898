/*
 * What must have happened before what (faults.md 4.0, INV2 to INV4): a batch runs behind its
 * durable PLAN, is told to be committed behind its durable COMMIT, a sink is asked once for a batch
 * it has and gives up an attempt before the next; and what a start refuses before it touches
 * anything.
 */
#include "support/flow.h"
#include "support/script.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "wal/checkpoint.h"

enum { SECOND_US = 1000000 };

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

/* ---- A sink that writes down how it is called: "b0 p0 b1 a b1 p1". ---- */

struct calls {
    char text[512];
    int64_t last_published;
    unsigned failures; /* so many calls of stage fail, as those of a function do */
    char sums[128];    /* what was written: v of the first row of each batch */
};

struct mr_sink {
    struct calls *calls;
};

static void note(struct calls *calls, const char *what, int64_t batch)
{
    size_t at = strlen(calls->text);

    if (batch < 0)
        snprintf(calls->text + at, sizeof(calls->text) - at, "%s ", what);
    else
        snprintf(calls->text + at, sizeof(calls->text) - at, "%s%d ", what, (int)batch);
}

static enum mr_status noting_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                  struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    sink->calls = args->user;
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status noting_last(struct mr_sink *sink, int64_t *ret_batch, struct mr_error *err)
{
    (void)err;
    *ret_batch = sink->calls->last_published;
    return MR_OK;
}

static enum mr_status noting_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                   struct mr_error *err)
{
    (void)err;
    note(sink->calls, "b", (int64_t)info->batch_id);
    return MR_OK;
}

static enum mr_status noting_write(struct mr_sink *sink, uint32_t partition,
                                   const struct mr_batch *batch, struct mr_error *err)
{
    size_t at = strlen(sink->calls->sums);

    (void)partition, (void)err;
    if (mr_batch_row_count(batch) > 0)
        snprintf(sink->calls->sums + at, sizeof(sink->calls->sums) - at, "%d ",
                 (int)mr_column_int(mr_batch_column(batch, 1), 0));
    return MR_OK;
}

static enum mr_status noting_stage(struct mr_sink *sink, struct mr_error *err)
{
    if (sink->calls->failures == 0)
        return MR_OK;
    sink->calls->failures--;
    return MR_FAIL(err, MR_USER, "the test says so");
}

static enum mr_status noting_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                     struct mr_error *err)
{
    (void)ret_receipt, (void)err;
    sink->calls->last_published = (int64_t)batch_id;
    note(sink->calls, "p", (int64_t)batch_id);
    return MR_OK;
}

static void noting_abort(struct mr_sink *sink)
{
    note(sink->calls, "a", -1);
}

static void noting_close(struct mr_sink *sink)
{
    mr_free(sink);
}

static const struct mr_sink_ops noting_ops = {.struct_size = sizeof(struct mr_sink_ops),
                                              .last_published = noting_last,
                                              .begin = noting_begin,
                                              .write = noting_write,
                                              .stage = noting_stage,
                                              .publish = noting_publish,
                                              .abort = noting_abort,
                                              .close = noting_close};
static const struct mr_sink_connector noting_connector = {.struct_size =
                                                              sizeof(struct mr_sink_connector),
                                                          .name = "noting",
                                                          .guarantee = MR_EXACTLY_ONCE,
                                                          .modes = 1u << MR_MODE_APPEND,
                                                          .open = noting_open,
                                                          .ops = &noting_ops};

struct scene {
    struct mr_sim *sim;
    struct calls calls;
    const char *die_at; /* at this point of batch 1 */
    int64_t tick_us;
    uint64_t batches;
    bool looks; /* at what is durable, at each point */
    bool sums;  /* by key, with state */
    unsigned looked;
};

/* What a power loss would leave now must have the PLAN, or the COMMIT, of that batch. */
static void look(struct scene *scene, const char *point, uint64_t batch)
{
    struct mr_sim *after = mr_sim_power_loss(scene->sim, mr_sim_op_count(scene->sim));
    struct mr_recovered recovered = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_peek(mr_sim_env(after), "/cp/log", 100, &recovered, &err), &err);
    CHECK(recovered.has_plan && recovered.last_plan.batch_id >= batch);
    if (strcmp(point, "committed") == 0)
        CHECK(recovered.has_commit && recovered.last_commit.batch_id == batch);
    scene->looked++;
    mr_recovered_release(&recovered);
    mr_sim_free(after);
}

static enum mr_status at_point(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct scene *scene = arg;

    if (scene->looks)
        look(scene, point, batch_id);
    if (scene->die_at != NULL && batch_id == 1 && strcmp(point, scene->die_at) == 0)
        return MR_FAIL(err, MR_INTERNAL, "died");
    return MR_OK;
}

static enum mr_status run(struct scene *scene, struct mr_error *err)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_node *source = script_source(graph, "in", scene->sums ? "1|1|1" : "1|2|3");
    struct mr_sink_spec spec = {.name = "out",
                                .connector = &noting_connector,
                                .mode = MR_MODE_APPEND,
                                .user = &scene->calls};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    enum mr_status status;

    mr_log_set_sink(quiet, NULL);
    if (scene->sums)
        source = flow_add_sum(graph, source, "sum");
    CHECK_OK(mr_graph_sink(graph, &spec, &source, 1, err), err);
    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = scene->tick_us;
    config.workers = 1;
    config.batches_max = scene->batches;
    config.failpoint = at_point;
    config.failpoint_arg = scene;
    status = mr_query_new(mr_sim_env(scene->sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

static struct scene new_scene(void)
{
    return (struct scene){
        .sim = mr_sim_new(1), .calls = {.last_published = -1}, .tick_us = SECOND_US, .batches = 3};
}

TEST(A1_A11_a_batch_runs_behind_its_durable_plan_and_is_committed_behind_its_durable_commit)
{
    struct scene scene = new_scene();
    struct mr_error err = {0};

    scene.looks = true;
    CHECK_OK(run(&scene, &err), &err);
    CHECK_EQ_UINT(scene.looked, 15); /* planned, ran, staged, published, committed; 3 batches */
    CHECK_EQ_STR(scene.calls.text, "b0 p0 b1 p1 b2 p2 ");
    mr_sim_free(scene.sim);
}

TEST(A10_a_sink_that_has_the_batch_is_not_asked_for_it_again)
{
    struct scene scene = new_scene();
    struct mr_error err = {0};

    scene.die_at = "published";
    CHECK_EQ_INT(run(&scene, &err), MR_INTERNAL);
    scene.die_at = NULL;
    scene.batches = 2;
    mr_error_clear(&err);
    CHECK_OK(run(&scene, &err), &err);
    CHECK_EQ_STR(scene.calls.text, "b0 p0 b1 p1 b2 p2 ");
    mr_sim_free(scene.sim);
}

TEST(A8_an_attempt_that_failed_is_given_up_before_the_next_one)
{
    struct scene scene = new_scene();
    struct mr_error err = {0};

    scene.calls.failures = 2;
    CHECK_OK(run(&scene, &err), &err);
    CHECK_EQ_STR(scene.calls.text, "b0 a b0 a b0 p0 b1 p1 b2 p2 ");
    mr_sim_free(scene.sim);
}

TEST(A6_an_attempt_that_failed_leaves_nothing_in_the_state)
{
    struct scene scene = new_scene();
    struct mr_error err = {0};

    scene.sums = true;
    scene.calls.failures = 2;
    CHECK_OK(run(&scene, &err), &err);
    CHECK_EQ_STR(scene.calls.sums, "1 1 1 2 3 ");
    mr_sim_free(scene.sim);
}

TEST(J2_another_batch_interval_than_the_checkpoint_s_is_refused)
{
    struct scene scene = new_scene();
    struct mr_error err = {0};

    CHECK_OK(run(&scene, &err), &err);
    scene.tick_us = 2 * SECOND_US;
    CHECK_FAILS(run(&scene, &err), &err, MR_CONFIG, "its batch interval is 1000 ms");
    mr_sim_free(scene.sim);
}

/* ---- Directories. ---- */

static enum mr_status open_places(struct mr_env *env, const char *in, const char *out,
                                  struct mr_error *err)
{
    char source_options[64], sink_options[64];
    const struct flow_end source = {"in", "file", source_options, NULL};
    const struct flow_end sink = {"out", "file", sink_options, NULL};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    enum mr_status status;

    snprintf(source_options, sizeof(source_options), "path=%s", in);
    snprintf(sink_options, sizeof(sink_options), "path=%s", out);
    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    status = mr_query_new(env, flow_sum_graph(&source, &sink, "sum"), &config, &query, err);
    mr_query_free(query);
    return status;
}

TEST(J9_nothing_is_written_into_the_checkpoint_or_where_the_query_reads)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};

    mr_log_set_sink(quiet, NULL);
    CHECK_OK(mr_env_mkdir(env, "/in", &err), &err);
    CHECK_OK(mr_env_mkdir(env, "/cp", &err), &err);
    CHECK_FAILS(open_places(env, "/in", "/cp/out", &err), &err, MR_CONFIG,
                "belongs to the checkpoint");
    CHECK_FAILS(open_places(env, "/in", "/cp", &err), &err, MR_CONFIG, "belongs to the checkpoint");
    CHECK_FAILS(open_places(env, "/in", "/in", &err), &err, MR_CONFIG, "would read what the query");
    CHECK_OK(open_places(env, "/in", "/out", &err), &err);
    mr_sim_free(sim);
}
