/*
 * A PLAN whose checksum, chain and number are right and whose fields are wrong (faults.md H20), as
 * only another program can have written it: a start refuses it before anything of it is used.
 */
#include "support/flow.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/log.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "wal/checkpoint.h"

#include <millrace/ext/memory.h>

#define DIR "/cp"

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void add_pair(int64_t k, int64_t v)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_int(builder, 0, k);
    mr_batch_builder_int(builder, 1, v);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table("in"), batch, &err), &err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static int64_t output_rows(void)
{
    struct mr_batch *batch = NULL;
    int64_t count;

    CHECK_OK(mr_memory_rows(mr_memory_table("out"), &batch, NULL), NULL);
    count = mr_batch_row_count(batch);
    mr_batch_unref(batch);
    return count;
}

static enum mr_on_change on_change = MR_ON_CHANGE_KEEP;

/* Sums of v by k; one step of the table in memory is a batch. */
static enum mr_status run(struct mr_env *env, struct mr_error *err)
{
    const struct flow_end source = {"in", "memory", "max_steps_per_trigger=1",
                                    mr_memory_table("in")};
    const struct flow_end sink = {"out", "memory", "", mr_memory_table("out")};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    enum mr_status status;

    mr_query_config_init(&config);
    config.name = "forged";
    config.checkpoint_dir = DIR;
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    config.on_change = on_change;
    status = mr_query_new(env, flow_sum_graph(&source, &sink, "sum"), &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

/* What is wrong with the plan; the zeros are right. */
struct forgery {
    const char *start, *end, *name, *settings; /* of the source, and the pinned settings */
    int64_t time_us, watermark_us, late_us;    /* added */
    uint32_t epoch;                            /* added */
    unsigned times;                            /* the source is named: 0 = once, 1 = never, 2 */
    bool no_end;
    bool is_committed;     /* with nothing for the state */
    uint32_t commit_epoch; /* added */
    int64_t commit_watermark_us;
};

/* Behind two committed batches: the plan of a third one, as the kernel writes it but for that. */
static void forge_plan(struct mr_batch_log *log, const struct mr_recovered *recovered,
                       const struct forgery *is)
{
    const struct mr_plan *last = &recovered->last_plan;
    struct mr_plan_source sources[2];
    struct mr_plan plan = {.batch_id = last->batch_id + 1,
                           .graph_fingerprint = last->graph_fingerprint};
    struct mr_error err = {0};

    sources[0] = (struct mr_plan_source){(char *)(uintptr_t)(is->name != NULL ? is->name : "in"),
                                         (char *)(uintptr_t)(is->start != NULL ? is->start : "2"),
                                         (char *)(uintptr_t)(is->end != NULL ? is->end : "3")};
    if (is->no_end)
        sources[0].end = NULL;
    sources[1] = sources[0];
    plan.epoch = recovered->epoch + is->epoch;
    plan.batch_time_us = last->batch_time_us + 1000 + is->time_us;
    plan.watermark_us = recovered->last_commit.next_watermark_us + is->watermark_us;
    plan.late_watermark_us = recovered->committed_plan.watermark_us + is->late_us;
    plan.settings = is->settings != NULL ? (char *)(uintptr_t)is->settings : last->settings;
    plan.sources = sources;
    plan.source_count = is->times == 1 ? 0 : is->times == 2 ? 2 : 1;
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
}

static void forge_commit(struct mr_batch_log *log, const struct mr_recovered *recovered,
                         const struct forgery *is)
{
    const struct mr_commit commit = {.batch_id = recovered->last_plan.batch_id + 1,
                                     .epoch = recovered->epoch + is->commit_epoch,
                                     .next_watermark_us = is->commit_watermark_us};
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_commit(log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
}

static void add_forged(struct mr_env *env, const struct forgery *is)
{
    struct mr_batch_log_config config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_checkpoint checkpoint = {0};
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_checkpoint_open(env, DIR, &checkpoint, &err), &err);
    memcpy(config.query_id, checkpoint.query_id, 16);
    CHECK_OK(mr_batch_log_open(env, checkpoint.log_dir, &config, &log, &recovered, &err), &err);
    forge_plan(log, &recovered, is);
    if (is->is_committed)
        forge_commit(log, &recovered, is);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
}

/* wanted NULL: it is run. */
static void check_forged(const struct forgery *is, const char *wanted)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};

    mr_log_set_sink(quiet, NULL);
    add_pair(1, 1);
    add_pair(2, 1);
    CHECK_OK(run(env, &err), &err);
    CHECK_EQ_INT(output_rows(), 2);
    add_forged(env, is);
    add_pair(1, 4);
    if (wanted == NULL) {
        CHECK_OK(run(env, &err), &err);
        CHECK_EQ_INT(output_rows(), 3);
    } else {
        CHECK_FAILS(run(env, &err), &err, MR_CORRUPT, wanted);
        CHECK_EQ_INT(output_rows(), 2);
        mr_error_clear(&err);
        CHECK_FAILS(run(env, &err), &err, MR_CORRUPT, wanted); /* and again: it stays as it is */
        CHECK_EQ_INT(output_rows(), 2);
    }
    mr_memory_drop("in");
    mr_memory_drop("out");
    mr_sim_free(sim);
}

TEST(a_plan_that_is_made_like_ours_is_run)
{
    check_forged(&(struct forgery){0}, NULL);
}

TEST(H20_a_plan_whose_sources_are_not_those_of_its_query_is_refused)
{
    check_forged(&(struct forgery){.name = "other"}, "does not have");
    check_forged(&(struct forgery){.times = 1}, "does not have all sources");
    check_forged(&(struct forgery){.times = 2}, "names a source twice");
}

TEST(H20_a_plan_whose_offsets_do_not_follow_is_refused)
{
    check_forged(&(struct forgery){.start = "1"}, "does not begin where");
    check_forged(&(struct forgery){.start = "3", .end = "3"}, "does not begin where");
    check_forged(&(struct forgery){.no_end = true}, "has no end");
    check_forged(&(struct forgery){.end = "1"}, "ends before it starts");
    check_forged(&(struct forgery){.end = "x"}, "not a number");
}

TEST(H20_a_plan_whose_times_do_not_follow_is_refused)
{
    check_forged(&(struct forgery){.time_us = -1001}, "earlier time");
    check_forged(&(struct forgery){.watermark_us = 1}, "another watermark than the commit");
    check_forged(&(struct forgery){.late_us = 1}, "watermark of late rows");
    check_forged(&(struct forgery){.epoch = 1000}, "a plan is of an epoch that has not begun");
    check_forged(&(struct forgery){.is_committed = true, .commit_epoch = 1000},
                 "a commit is of an epoch that has not begun");
    check_forged(&(struct forgery){.is_committed = true,
                                   .watermark_us = 7,
                                   .commit_watermark_us = INT64_MIN},
                 "a later watermark than its commit");
}

TEST(H20_a_first_plan_with_a_watermark_is_refused)
{
    struct mr_plan plan = {.watermark_us = 5, .late_watermark_us = INT64_MIN};
    struct mr_batch_log_config config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered = {0};
    struct mr_checkpoint checkpoint = {0};
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_checkpoint_open(env, DIR, &checkpoint, &err), &err);
    memcpy(config.query_id, checkpoint.query_id, 16);
    CHECK_OK(mr_batch_log_open(env, checkpoint.log_dir, &config, &log, &recovered, &err), &err);
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
    CHECK_FAILS(run(env, &err), &err, MR_CORRUPT, "is the first one and has a watermark");
    mr_memory_drop("in");
    mr_memory_drop("out");
    mr_sim_free(sim);
}

/* A committed batch of nothing but a manifest of another format. */
static void forge_manifest(struct mr_env *env)
{
    struct mr_batch_log_config config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_state_config state_config = {.inline_bytes_max = 1 << 20, .retain_batches = 100};
    struct mr_manifest_entry entry = {"format", "2"};
    struct forgery is = {.end = "2"};
    struct mr_recovered recovered = {0};
    struct mr_checkpoint checkpoint = {0};
    struct mr_batch_log *log = NULL;
    struct mr_state *state = NULL;
    struct mr_commit commit = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_checkpoint_open(env, DIR, &checkpoint, &err), &err);
    memcpy(config.query_id, checkpoint.query_id, 16);
    memcpy(state_config.query_id, checkpoint.query_id, 16);
    CHECK_OK(mr_batch_log_open(env, checkpoint.log_dir, &config, &log, &recovered, &err), &err);
    state_config.epoch = recovered.epoch;
    CHECK_OK(mr_state_open(env, checkpoint.state_dir, checkpoint.log_dir, &state_config, &recovered,
                           &state, &err),
             &err);
    forge_plan(log, &recovered, &is);
    CHECK_OK(mr_state_manifest_set(state, &entry, 1, &err), &err);
    commit.batch_id = recovered.last_plan.batch_id + 1;
    commit.epoch = recovered.epoch;
    commit.next_watermark_us = recovered.last_commit.next_watermark_us;
    CHECK_OK(mr_state_prepare(state, commit.batch_id, 0, log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_commit(log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    mr_commit_release(&commit);
    mr_state_close(state);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
}

TEST(J5_a_manifest_of_a_later_format_is_refused)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};

    mr_log_set_sink(quiet, NULL);
    add_pair(1, 1);
    add_pair(2, 1);
    CHECK_OK(run(env, &err), &err);
    forge_manifest(env);
    on_change = MR_ON_CHANGE_ASK; /* only then it is read */
    CHECK_FAILS(run(env, &err), &err, MR_VERSION, "it has format '2'");
    on_change = MR_ON_CHANGE_KEEP;
    mr_memory_drop("in");
    mr_memory_drop("out");
    mr_sim_free(sim);
}

TEST(H20_a_plan_whose_settings_are_none_is_refused)
{
    check_forged(&(struct forgery){.settings = "{}"}, "pinned settings");
    check_forged(&(struct forgery){.settings = "{"}, "pinned settings");
    check_forged(&(struct forgery){.settings = "{\"zero_time_us\":0,\"tick_us\":-5}"},
                 "pinned settings");
}
