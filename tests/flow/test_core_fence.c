/*
 * A query that was paused while another one took over its checkpoint (faults.md D10): the lock was
 * lost, as on a file system that forgets locks. The successor works on the files under the paused
 * one's feet.
 */
#include "support/script.h"
#include "support/test.h"
#include "support/wal_log.h"

#include "base/log.h"
#include "wal/checkpoint.h"

enum { SECOND_US = 1000000 };

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

struct takeover {
    struct mr_env *env;
    const char *point; /* where the query pauses, in batch 1 */
    struct mr_batch_log *successor;
};

static enum mr_status take_over(void *arg, const char *point, uint64_t batch_id,
                                struct mr_error *err)
{
    struct takeover *takeover = arg;
    struct mr_batch_log_config config = log_config(1 << 20, 100);
    struct mr_checkpoint seen;
    struct mr_recovered recovered;

    if (batch_id != 1 || strcmp(point, takeover->point) != 0)
        return MR_OK;
    MR_TRY(mr_checkpoint_peek(takeover->env, "/cp", &seen, err));
    memcpy(config.query_id, seen.query_id, sizeof(config.query_id));
    CHECK_OK(
        mr_batch_log_open(takeover->env, "/cp/log", &config, &takeover->successor, &recovered, err),
        err);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&seen);
    return MR_OK;
}

static void run_paused_at(const char *point, const char *published)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct takeover takeover = {mr_sim_env(sim), point, NULL};
    struct mr_graph *graph = mr_graph_new();
    struct script_notes notes;
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_error err = {0};
    struct mr_node *node = script_source(graph, "in", "1|2|3");

    mr_log_set_sink(quiet, NULL);
    script_notes_init(&notes, false);
    script_sink(graph, "out", &notes, &node, 1);
    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = SECOND_US;
    config.workers = 1;
    config.batches_max = 3;
    config.failpoint = take_over;
    config.failpoint_arg = &takeover;
    CHECK_OK(mr_query_new(mr_sim_env(sim), graph, &config, &query, &err), &err);
    CHECK_EQ_INT(mr_query_run(query, &err), MR_BUSY);
    CHECK_NOT_NULL(strstr(err.text, "another process has taken it over"));
    CHECK_EQ_STR(notes.text, published);
    mr_query_free(query);
    mr_batch_log_close(takeover.successor);
    mr_sim_free(sim);
}

TEST(D10_a_query_that_comes_back_publishes_nothing_when_another_one_has_taken_over)
{
    run_paused_at("planned", "0:1|");
    run_paused_at("staged", "0:1|");
}

TEST(D10_a_query_that_comes_back_commits_nothing_when_another_one_has_taken_over)
{
    run_paused_at("published", "0:1|1:2|");
}

TEST(D10_the_log_of_the_successor_is_whole)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *paused, *successor;
    struct mr_error err = {0};

    make_dir(env, LOG_DIR);
    paused = open_log(env, 1 << 20, &recovered);
    mr_recovered_release(&recovered);
    log_batches(paused, 0, 2, 100);
    successor = open_log(env, 1 << 20, &recovered);
    mr_recovered_release(&recovered);
    log_commit(paused, 2, 0);
    CHECK_EQ_INT(mr_batch_log_sync(paused, &err), MR_BUSY);
    mr_batch_log_close(paused);
    mr_batch_log_close(successor);
    successor = open_log(env, 1 << 20, &recovered);
    CHECK_EQ_UINT(recovered.epoch, 3);
    CHECK_EQ_UINT(recovered.last_plan.batch_id, 2);
    mr_recovered_release(&recovered);
    mr_batch_log_close(successor);
    mr_sim_free(sim);
}
