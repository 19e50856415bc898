/*
 * The file sink on the simulated disk: killed and cut off from power at every operation, failing at
 * every call.
 *
 * The claim: whatever happens, going on as the kernel does (batches that were published are
 * skipped, the first one that was not committed runs again) ends with exactly the files of an
 * undisturbed run.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"
#include "env/sim.h"

#include <millrace/ext/durable.h>

#include <errno.h>

enum { BATCHES = 4, STATES_MAX = 48 };

static const char *const rows_of[BATCHES][3] = {
    {"1|a;2|b", "3|c", NULL}, {NULL, NULL, "4|d"}, {NULL, NULL, NULL}, {"5|e", NULL, "6|f"}};

static struct plug_sink_spec spec_in(struct mr_env *env)
{
    return (struct plug_sink_spec){.connector = "file",
                                   .columns = "a BIGINT, b VARCHAR",
                                   .format = "json",
                                   .options = "path=/data/out",
                                   .env = env};
}

/* Runs batches from `first` on. marks[b] is the number of operations when batch b was published. */
static enum mr_status run_from(struct mr_env *env, int64_t first, struct mr_sim *sim,
                               uint64_t *marks, struct mr_error *err)
{
    struct plug_sink_spec spec = spec_in(env);
    struct plug_sink sink;
    enum mr_status status;
    int64_t last;

    status = plug_sink_try(&sink, &spec, err);
    if (status != MR_OK)
        goto done;
    MR_TRY_GOTO(sink.connector->ops->last_published(sink.object, &last, err));
    for (int64_t batch = first; batch < BATCHES; batch++) {
        char *receipt = NULL;

        if (batch <= last)
            continue;
        status = plug_stage(&sink, (uint64_t)batch, rows_of[batch], 3, err);
        if (status == MR_OK)
            status = sink.connector->ops->publish(sink.object, (uint64_t)batch, &receipt, err);
        mr_text_free(receipt);
        if (status != MR_OK) {
            sink.connector->ops->abort(sink.object);
            goto done;
        }
        if (marks != NULL)
            marks[batch] = mr_sim_op_count(sim);
    }
done:
    plug_sink_close(&sink);
    return status;
}

static bool collect(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    if (kind == MR_KIND_FILE)
        mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

/* Every file of the directory must be one of the expected ones with its bytes, and all of them must
 * be there. */
static void check_output(struct mr_env *env, const char *when)
{
    static const struct {
        const char *name;
        const char *text;
    } expected[] = {
        {"part-0000000000-00000.json", "{\"a\":1,\"b\":\"a\"}\n{\"a\":2,\"b\":\"b\"}\n"},
        {"part-0000000000-00001.json", "{\"a\":3,\"b\":\"c\"}\n"},
        {"part-0000000001-00002.json", "{\"a\":4,\"b\":\"d\"}\n"},
        {"part-0000000003-00000.json", "{\"a\":5,\"b\":\"e\"}\n"},
        {"part-0000000003-00002.json", "{\"a\":6,\"b\":\"f\"}\n"},
    };
    struct mr_buf names = MR_BUF_INIT;
    struct mr_error err = {0};
    size_t count = 0;

    CHECK_OK(mr_env_list(env, "/data/out", collect, &names, &err), &err);
    for (size_t at = 0; at < names.size; at += strlen(names.data + at) + 1)
        count++;
    if (count != sizeof(expected) / sizeof(expected[0]))
        FAIL("%s: %zu files", when, count);
    for (size_t i = 0; i < count; i++) {
        char *path = mr_asprintf("/data/out/%s", expected[i].name);
        char *text = NULL;
        size_t size;

        CHECK_OK(mr_durable_get(env, path, 1 << 20, &text, &size, &err), &err);
        if (strcmp(text, expected[i].text) != 0)
            FAIL("%s: '%s' has '%s'", when, path, text);
        mr_text_free(text);
        mr_free(path);
    }
    mr_buf_release(&names);
}

struct scenario {
    uint64_t marks[BATCHES];
    uint64_t states;
};

/* The first batch that the kernel would run again after dying at that operation. */
static int64_t first_uncommitted(const struct scenario *scenario, uint64_t op_count)
{
    int64_t batch = 0;

    while (batch < BATCHES && scenario->marks[batch] <= op_count)
        batch++;
    return batch;
}

static void recover(struct mr_sim *after, const struct scenario *scenario, uint64_t op_count,
                    const char *when)
{
    struct mr_env *env = mr_sim_env(after);
    struct mr_error err = {0};
    enum mr_status status = run_from(env, first_uncommitted(scenario, op_count), after, NULL, &err);

    if (status != MR_OK)
        FAIL("%s: %s", when, err.text);
    check_output(env, when);
}

static void after_power_loss(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct scenario *scenario = arg;

    recover(after, scenario, crash->op_count, crash->text);
    scenario->states++;
}

static struct mr_sim *undisturbed(struct scenario *scenario)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_error err = {0};

    memset(scenario, 0, sizeof(*scenario));
    CHECK_OK(run_from(mr_sim_env(sim), 0, sim, scenario->marks, &err), &err);
    check_output(mr_sim_env(sim), "undisturbed");
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    return sim;
}

TEST(a_power_loss_at_any_operation_loses_and_doubles_nothing)
{
    struct scenario scenario;
    struct mr_sim *sim = undisturbed(&scenario);

    mr_sim_crash_everywhere(sim, 0, test_quick() ? 8 : STATES_MAX, test_seed(1), after_power_loss,
                            &scenario);
    CHECK(scenario.states > 50);
    mr_sim_free(sim);
}

TEST(a_kill_at_any_operation_loses_and_doubles_nothing)
{
    struct scenario scenario;
    struct mr_sim *sim = undisturbed(&scenario);

    for (uint64_t op = 0; op <= mr_sim_op_count(sim); op++) {
        struct mr_sim *after = mr_sim_kill(sim, op);
        char when[64];

        snprintf(when, sizeof(when), "killed after %" PRIu64 " operations", op);
        recover(after, &scenario, op, when);
        mr_sim_free(after);
    }
    mr_sim_free(sim);
}

TEST(a_second_kill_inside_the_recovery_loses_and_doubles_nothing)
{
    struct scenario scenario;
    struct mr_sim *sim = undisturbed(&scenario);

    for (uint64_t op = 0; op <= mr_sim_op_count(sim); op += test_quick() ? 5 : 1) {
        struct mr_sim *first = mr_sim_kill(sim, op);
        uint64_t before = mr_sim_op_count(first);
        struct mr_error err = {0};

        CHECK_OK(run_from(mr_sim_env(first), first_uncommitted(&scenario, op), first, NULL, &err),
                 &err);
        for (uint64_t second = before; second <= mr_sim_op_count(first); second += 3) {
            struct mr_sim *after = mr_sim_kill(first, second);
            char when[96];

            snprintf(when, sizeof(when), "killed after %" PRIu64 " operations, then after %" PRIu64,
                     op, second);
            recover(after, &scenario, op, when);
            mr_sim_free(after);
        }
        mr_sim_free(first);
    }
    mr_sim_free(sim);
}

TEST(a_call_that_fails_once_can_be_tried_again)
{
    struct scenario scenario;
    struct mr_sim *clean = undisturbed(&scenario);
    uint64_t calls = mr_sim_call_count(clean);
    uint64_t failures = 0;

    mr_sim_free(clean);
    for (uint64_t nth = 1; nth <= calls; nth++) {
        struct mr_sim *sim = mr_sim_new(1);
        struct mr_env *env = mr_sim_env(sim);
        uint64_t marks[BATCHES] = {0};
        struct mr_error err = {0};
        int64_t first = 0;
        char when[64];

        mr_sim_fail_at(sim, nth, EIO, false);
        if (run_from(env, 0, sim, marks, &err) != MR_OK) {
            failures++;
            while (first < BATCHES && marks[first] != 0)
                first++;
        }
        mr_sim_fail_at(sim, 0, 0, false);
        snprintf(when, sizeof(when), "call %" PRIu64 " failed", nth);
        mr_error_clear(&err);
        if (run_from(env, first, sim, NULL, &err) != MR_OK)
            FAIL("%s: %s", when, err.text);
        check_output(env, when);
        CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
        mr_sim_free(sim);
    }
    CHECK(failures > 10);
}
