/*
 * Power loss under a whole query: every state that a loss after any operation can leave on the
 * simulated disk, recovery on each of them, and a second loss inside that recovery (faults.md 5.4;
 * rows A1 to A17, C5 by the model of syncs).
 *
 *     /in --file source, one file a batch--> sum by key --> file sink --> /out
 *
 * The oracle is the output of the same query that was never disturbed: the same files with the same
 * bytes, no more, no fewer.
 */
#include "support/evidence.h"
#include "support/flow.h"
#include "support/test.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "env/sim.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>

enum { FILES = 4 };

static void put_inputs(struct mr_env *env)
{
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(env, "/in", &err), &err);
    for (int i = 0; i < FILES; i++) {
        char name[32], text[128];
        int size = snprintf(text, sizeof(text), "{\"k\": 1, \"v\": %d}\n{\"k\": %d, \"v\": 100}\n",
                            i + 1, i + 10);

        snprintf(name, sizeof(name), "f%d.json", i);
        CHECK_OK(mr_durable_put(env, "/in", name, text, (size_t)size, true, &err), &err);
        mr_env_sleep_ns(env, 1000000); /* so that the files differ in age */
    }
}

static enum mr_status run_query(struct mr_sim *sim, struct mr_error *err)
{
    const struct flow_end source = {"in", "file", "path=/in max_files_per_trigger=1", NULL};
    const struct flow_end sink = {"out", "file", "path=/out", NULL};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    enum mr_status status;

    mr_query_config_init(&config);
    config.name = "crash";
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    config.segment_bytes = 16384; /* so that segments rotate within the test */
    config.snapshot_every = 2;
    status =
        mr_query_new(mr_sim_env(sim), flow_sum_graph(&source, &sink, "sum"), &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

/* Names and contents of all visible output files, sorted: what `ls` and `cat` would show. */
struct listing {
    struct mr_env *env;
    char *names[64];
    size_t count;
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct listing *listing = arg;

    if (kind != MR_KIND_FILE || name[0] == '.' || listing->count == 64)
        return true;
    listing->names[listing->count++] = strdup(name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *read_output(struct mr_sim *sim)
{
    struct listing listing = {.env = mr_sim_env(sim)};
    struct mr_buf text = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(listing.env, "/out", add_name, &listing, &err), &err);
    qsort(listing.names, listing.count, sizeof(char *), compare_names);
    for (size_t i = 0; i < listing.count; i++) {
        char path[128], *data = NULL;
        size_t size = 0;

        snprintf(path, sizeof(path), "/out/%s", listing.names[i]);
        CHECK_OK(mr_durable_get(listing.env, path, 1 << 20, &data, &size, &err), &err);
        mr_buf_printf(&text, "%s:\n", listing.names[i]);
        mr_buf_add(&text, data, size);
        mr_text_free(data);
        free(listing.names[i]);
    }
    return mr_buf_take(&text);
}

struct enumeration {
    char *expected;
    uint64_t states;
    uint64_t second_states;
    uint64_t seed;
    bool depth_two;
    uint64_t second_max;
    bool canary; /* something is broken on purpose: count what is found instead of failing */
    uint64_t found;
};

static void check_state(struct mr_sim *after, const struct mr_sim_crash *crash,
                        struct enumeration *all)
{
    struct mr_error err = {0};
    enum mr_status status = run_query(after, &err);
    char *output;

    if (status != MR_OK && all->canary) {
        all->found++;
        return;
    }
    if (status != MR_OK)
        FAIL("recovery failed %s: %s", crash->text, err.text);
    output = read_output(after);
    if (strcmp(output, all->expected) != 0 && all->canary)
        all->found++;
    else if (strcmp(output, all->expected) != 0)
        FAIL("wrong output %s:\n%s", crash->text, output);
    mr_text_free(output);
    CHECK_EQ_UINT(mr_sim_open_count(after), 0);
}

static void visit_second(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct enumeration *all = arg;

    all->second_states++;
    check_state(after, crash, all);
}

static void visit_first(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct enumeration *all = arg;
    uint64_t ops_before = mr_sim_op_count(after);

    all->states++;
    check_state(after, crash, all);
    /* A second loss inside the recovery: a few states, at one point of it that moves along. */
    if (all->depth_two) {
        uint64_t ops = mr_sim_op_count(after) - ops_before;
        uint64_t at = ops_before + (ops > 0 ? mr_hash(&all->states, 8, all->seed) % ops : 0);
        mr_sim_crash_states(after, at, all->second_max, all->seed + all->states, visit_second, all);
    }
}

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static uint64_t prepare(struct mr_sim *sim, struct enumeration *all)
{
    struct mr_error err = {0};
    uint64_t from;

    mr_log_set_sink(quiet, NULL);
    put_inputs(mr_sim_env(sim));
    from = mr_sim_op_count(sim);
    CHECK_OK(run_query(sim, &err), &err);
    all->expected = read_output(sim);
    CHECK_CONTAINS(all->expected, "{\"k\":1,\"v\":10}");
    return from;
}

TEST(A1_to_A17_a_power_loss_at_any_point_leaves_a_query_that_goes_on_exactly_once)
{
    struct enumeration all = {
        .seed = test_seed(1), .depth_two = true, .second_max = test_quick() ? 1 : 4};
    struct mr_sim *sim = mr_sim_new(all.seed);
    uint64_t from = prepare(sim, &all);

    mr_sim_crash_everywhere(sim, from, test_quick() ? 3 : 24, all.seed, visit_first, &all);
    printf("# %llu states, %llu with a second loss inside the recovery, seed %llu\n",
           (unsigned long long)all.states, (unsigned long long)all.second_states,
           (unsigned long long)all.seed);
    CHECK(all.states > 100);
    evidence_add("power-loss", "states", all.states);
    evidence_add("power-loss", "depth2-states", all.second_states);
    mr_text_free(all.expected);
    mr_sim_free(sim);
}

/* A test of this test: a flush that says it worked and did nothing must show. */
TEST(a_flush_that_lies_is_found_by_the_enumeration)
{
    uint64_t flushes, found = 0;
    struct enumeration all = {.seed = test_seed(4), .canary = true};
    struct mr_sim *sim = mr_sim_new(all.seed);

    prepare(sim, &all);
    flushes = mr_sim_sync_count(sim);
    mr_sim_free(sim);
    for (uint64_t nth = FILES * 2 + 6; nth < flushes; nth += test_quick() ? 7 : 1) {
        struct mr_sim *lying = mr_sim_new(all.seed);
        struct mr_error err = {0};
        uint64_t from;

        put_inputs(mr_sim_env(lying));
        from = mr_sim_op_count(lying);
        if (nth <= mr_sim_sync_count(lying)) {
            mr_sim_free(lying);
            continue;
        }
        mr_sim_ignore_sync(lying, nth - mr_sim_sync_count(lying));
        CHECK_OK(run_query(lying, &err), &err);
        all.found = 0;
        mr_sim_crash_everywhere(lying, from, 6, all.seed, visit_first, &all);
        found += all.found > 0;
        if (all.found == 0)
            printf("# flush %llu of %llu is not missed\n", (unsigned long long)nth,
                   (unsigned long long)flushes);
        mr_sim_free(lying);
    }
    printf("# %llu lying flushes were found\n", (unsigned long long)found);
    CHECK(found > 0);
    mr_text_free(all.expected);
}

TEST(A1_to_A17_a_process_that_dies_after_any_operation_goes_on_exactly_once)
{
    struct enumeration all = {.seed = test_seed(2)};
    struct mr_sim *sim = mr_sim_new(all.seed);
    uint64_t from = prepare(sim, &all);

    for (uint64_t op = from; op <= mr_sim_op_count(sim); op++) {
        struct mr_sim *after = mr_sim_kill(sim, op);
        char text[64];
        const struct mr_sim_crash crash = {op, 0, text};

        snprintf(text, sizeof(text), "after %llu operations", (unsigned long long)op);
        check_state(after, &crash, &all);
        mr_sim_free(after);
    }
    mr_text_free(all.expected);
    mr_sim_free(sim);
}

TEST(C1_a_full_disk_at_any_write_ends_the_query_and_the_next_start_goes_on)
{
    struct enumeration all = {.seed = test_seed(3)};
    struct mr_sim *sim = mr_sim_new(all.seed);
    uint64_t failures = 0;

    prepare(sim, &all);
    for (uint64_t nth = 1;; nth++) {
        struct mr_sim *fresh = mr_sim_new(all.seed);
        const struct mr_sim_crash crash = {nth, 0, "after a full disk"};
        struct mr_error err = {0};
        enum mr_status status;

        put_inputs(mr_sim_env(fresh));
        mr_sim_fail_at(fresh, nth, 28 /* ENOSPC */, true);
        status = run_query(fresh, &err);
        mr_sim_fail_at(fresh, 0, 0, false);
        failures += status != MR_OK;
        if (status != MR_OK) {
            CHECK_EQ_INT(mr_status_exit_code(status), 74);
            check_state(fresh, &crash, &all);
        }
        mr_sim_free(fresh);
        if (status == MR_OK)
            break;
    }
    CHECK(failures > 20);
    mr_text_free(all.expected);
    mr_sim_free(sim);
}
