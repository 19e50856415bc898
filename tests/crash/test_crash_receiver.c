/*
 * Power loss under a receiver: its log of received blocks, the batches that read it, and the files
 * they write (faults.md 5.4; rows A18 to A22).
 *
 *     feed --block--> received/in, durable --PLAN names blocks--> sum by key --> /out
 *
 * Every value is stored once, as a block of its own. After a power loss at any operation, with any
 * part of what was not synced, a start without new data must bring the output to: all values that
 * were stored before the loss, none twice, none that was never handed over.
 */
#include "support/disk_flow.h"
#include "support/evidence.h"
#include "support/flow.h"
#include "support/script.h"
#include "support/test.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "plugins/plugins.h"

#include <millrace/types.h>

enum { VALUES = 5, SECOND_US = 1000000 };

struct scene {
    struct script_feed feed;
    struct mr_sim *sim;
    unsigned stored;                /* values that were handed over */
    uint64_t stored_at[VALUES + 1]; /* operations when value n was durable */
    bool stores;                    /* a value behind each batch */
    uint64_t states, second_states, seed;
    unsigned depth;
};

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void store_one(void *arg, const struct mr_progress *progress)
{
    struct scene *scene = arg;
    char text[16];

    if (!scene->stores || progress->idle || scene->stored == VALUES)
        return;
    snprintf(text, sizeof(text), "%u", ++scene->stored);
    script_feed_store(&scene->feed, text);
    scene->stored_at[scene->stored] = mr_sim_op_count(scene->sim);
}

static enum mr_status run(struct scene *scene, struct mr_sim *sim, uint64_t batches,
                          struct mr_error *err)
{
    const struct mr_format *json = mr_format_find("json");
    struct mr_graph *graph = mr_graph_new();
    struct mr_sink_spec sink = {
        .name = "out", .connector = mr_sink_find("file"), .format = json, .mode = MR_MODE_UPDATE};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_node *node;
    enum mr_status status;

    script_feed_init(&scene->feed);
    node = flow_add_sum(graph, script_feed_source(graph, "in", &scene->feed), "sum");
    sink.options = flow_options("file", sink.connector->options, sink.connector->option_count, json,
                                "path=/out");
    CHECK_OK(mr_graph_sink(graph, &sink, &node, 1, err), err);
    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = SECOND_US;
    config.workers = 1;
    config.block_interval_us = 0;
    config.batches_max = batches;
    config.on_progress = store_one;
    config.on_progress_arg = scene;
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

/* Which values are in the output, each with the sum 1 and once. */
static unsigned values_of(struct mr_sim *sim, const struct mr_sim_crash *crash)
{
    char *text = disk_flow_output(mr_sim_env(sim));
    unsigned found = 0, count = 0;

    for (unsigned k = 1; k <= VALUES; k++) {
        char row[40];
        const char *at;

        snprintf(row, sizeof(row), "{\"k\":%u,\"v\":", k);
        at = strstr(text, row);
        if (at == NULL)
            continue;
        if (at[strlen(row)] != '1' || at[strlen(row) + 1] != '}' || strstr(at + 1, row) != NULL)
            FAIL("%s: value %u is there twice:\n%s", crash->text, k, text);
        found |= 1u << k;
        count++;
    }
    if (found != (1u << (count + 1)) - 2) /* without a gap: blocks are in order */
        FAIL("%s: a value is missing before another:\n%s", crash->text, text);
    mr_text_free(text);
    return count;
}

static void visit(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct scene *all = arg;
    struct scene quiet_scene = {.sim = after};
    uint64_t before = mr_sim_op_count(after);
    struct mr_error err = {0};
    unsigned durable = 0, found;

    for (unsigned n = 1; n <= all->stored; n++)
        durable += all->depth == 0 && all->stored_at[n] <= crash->op_count;
    if (run(&quiet_scene, after, 2, &err) != MR_OK)
        FAIL("%s: %s", crash->text, err.text);
    found = values_of(after, crash);
    if (found < durable)
        FAIL("%s: %u values were durable, %u are there", crash->text, durable, found);
    CHECK_EQ_UINT(mr_sim_open_count(after), 0);
    if (all->depth > 0) {
        all->second_states++;
        return;
    }
    all->states++;
    if (all->states % (test_quick() ? 8 : 2) != 0)
        return;
    all->depth = 1;
    mr_sim_crash_states(
        after, before + mr_hash(&all->states, 8, all->seed) % (mr_sim_op_count(after) - before + 1),
        test_quick() ? 2 : 6, all->seed, visit, all);
    all->depth = 0;
}

TEST(A18_to_A22_a_power_loss_at_any_point_takes_no_block_that_was_stored_and_doubles_none)
{
    struct scene scene = {.sim = mr_sim_new(71), .stores = true, .seed = test_seed(71)};
    struct mr_error err = {0};

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    CHECK_OK(run(&scene, scene.sim, VALUES + 2, &err), &err);
    scene.stores = false;
    CHECK_EQ_UINT(scene.stored, VALUES);
    CHECK_EQ_UINT(values_of(scene.sim, &(struct mr_sim_crash){.text = "undisturbed"}), VALUES);
    mr_sim_crash_everywhere(scene.sim, 0, test_quick() ? 2 : 24, scene.seed, visit, &scene);
    printf("# %llu states, %llu with a second loss inside the recovery, seed %llu\n",
           (unsigned long long)scene.states, (unsigned long long)scene.second_states,
           (unsigned long long)scene.seed);
    CHECK(scene.states > 50);
    evidence_add("power-loss", "states", scene.states);
    evidence_add("power-loss", "depth2-states", scene.second_states);
    mr_sim_free(scene.sim);
}
