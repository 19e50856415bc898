/*
 * Power loss under the batch log and the state alone, with a model of what must be there (faults.md
 * 5.4; rows A1-A17, A21, A22).
 *
 * A workload of batches runs on the simulated disk: puts and deletes in two stores, small deltas in
 * the log, larger ones in files, snapshots, rotations, purges, one failed attempt.  The model keeps
 * the content after every batch.  Then every state that a power loss can leave after any operation
 * is recovered and must be the model's content of some batch: not older than what was synced, not
 * newer than what was begun.  Recovery goes on with a batch, and is itself crashed in the middle,
 * twice.  Leaving out any flush of the workload must be noticed by this.
 */
#include "base/alloc.h"
#include "env/sim.h"
#include "state/state.h"
#include "support/evidence.h"
#include "support/test.h"
#include "wal/checkpoint.h"

#include <stdlib.h>

#define DIR "/cp"

enum { KEYS = 24, BATCHES = 12, STORES = 2, HISTORY = 128 };

struct content {
    uint32_t values[STORES]
                   [KEYS]; /* 0 = the key is not there; else value and length follow from it */
};

struct known {
    uint64_t op_count;  /* when so many operations were done ... */
    uint64_t committed; /* ... this many batches were durably committed */
    uint64_t planned;   /* ... and planned */
};

struct model {
    struct content after[BATCHES + 8]; /* content after n batches */
    struct known known[HISTORY];
    size_t known_count;
    uint64_t batches; /* begun */
    unsigned depth;
    uint64_t states;
};

struct parts {
    struct mr_checkpoint checkpoint;
    struct mr_batch_log *log;
    struct mr_recovered recovered;
    struct mr_state *state;
    struct mr_store *stores[STORES];
};

static void close_parts(struct parts *parts)
{
    mr_state_close(parts->state);
    mr_batch_log_close(parts->log);
    mr_recovered_release(&parts->recovered);
    mr_checkpoint_release(&parts->checkpoint);
}

static enum mr_status open_parts(struct mr_env *env, struct parts *parts, struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 6144, .retain_batches = 4};
    struct mr_state_config state_config = {.inline_bytes_max = 900,
                                           .snapshot_min_bytes = 1500,
                                           .snapshot_ratio = 1.0,
                                           .snapshot_every = 3,
                                           .retain_batches = 4};

    *parts = (struct parts){0};
    MR_TRY(mr_checkpoint_open(env, DIR, &parts->checkpoint, err));
    memcpy(log_config.query_id, parts->checkpoint.query_id, 16);
    memcpy(state_config.query_id, parts->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(env, parts->checkpoint.log_dir, &log_config, &parts->log,
                             &parts->recovered, err));
    state_config.epoch = parts->recovered.epoch;
    MR_TRY(mr_state_open(env, parts->checkpoint.state_dir, parts->checkpoint.log_dir, &state_config,
                         &parts->recovered, &parts->state, err));
    MR_TRY(mr_state_store(parts->state, "a", "test", "key", "value", &parts->stores[0], err));
    return mr_state_store(parts->state, "b/%", "test", "key", "value", &parts->stores[1], err);
}

/* ---------------------------------------------------------------- content */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* What batch n does to the content; the same every time it is asked. */
static void apply_batch(struct content *content, uint64_t n)
{
    uint32_t seed = (uint32_t)n * 2654435761u + 1;
    unsigned changes = 1 + next_random(&seed) % 20;

    for (unsigned i = 0; i < changes; i++) {
        unsigned store = next_random(&seed) % 3 == 0;
        unsigned key = next_random(&seed) % KEYS;

        content->values[store][key] =
            next_random(&seed) % 4 == 0 ? 0 : 1 + next_random(&seed) % 1000;
    }
}

static size_t key_of(unsigned key, char text[16])
{
    return (size_t)snprintf(text, 16, "key-%u", key);
}

/* Makes the stores what `to` says, as an operator would: only the differences. */
static void change_stores(struct parts *parts, const struct content *from, const struct content *to)
{
    for (unsigned s = 0; s < STORES; s++) {
        for (unsigned k = 0; k < KEYS; k++) {
            char key[16], value[200];
            size_t key_bytes = key_of(k, key);
            uint32_t now = to->values[s][k];
            struct mr_error err = {0};

            if (now == from->values[s][k])
                continue;
            memset(value, (int)('a' + now % 26), sizeof(value));
            if (now == 0)
                CHECK_OK(mr_store_delete(parts->stores[s], key, key_bytes, &err), &err);
            else
                CHECK_OK(mr_store_put(parts->stores[s], key, key_bytes, value, now % 180 + 1, &err),
                         &err);
        }
    }
}

/*
 * Also false when a part was missing and there was a way round it: a crash must not cost even that.
 */
static bool same_content(struct parts *parts, const struct content *content)
{
    struct mr_state_totals totals;

    mr_state_totals(parts->state, &totals);
    if (totals.snapshots_rebuilt != 0)
        return false;
    for (unsigned s = 0; s < STORES; s++) {
        uint64_t count = 0;

        for (unsigned k = 0; k < KEYS; k++) {
            char key[16];
            const char *value = NULL;
            size_t key_bytes = key_of(k, key), size = 0;
            uint32_t wanted = content->values[s][k];
            bool found = mr_store_get(parts->stores[s], key, key_bytes, &value, &size);

            count += wanted != 0;
            if (found != (wanted != 0) || (found && (size != wanted % 180 + 1 ||
                                                     value[size - 1] != (char)('a' + wanted % 26))))
                return false;
        }
        if (mr_store_count(parts->stores[s]) != count)
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- the protocol */

static enum mr_status plan_batch(struct parts *parts, uint64_t n, struct mr_error *err)
{
    char name[] = "in", end[24];
    struct mr_plan_source source = {name, NULL, end};
    struct mr_plan plan = {
        .batch_id = n, .epoch = parts->recovered.epoch, .sources = &source, .source_count = 1};

    snprintf(end, sizeof(end), "%llu", (unsigned long long)n);
    return mr_batch_log_plan(parts->log, &plan, err);
}

static void know(struct model *model, struct mr_sim *sim, uint64_t committed, uint64_t planned)
{
    CHECK(model->known_count < HISTORY);
    model->known[model->known_count++] = (struct known){mr_sim_op_count(sim), committed, planned};
}

static void commit_batch(struct parts *parts, const struct model *model, uint64_t n,
                         uint32_t attempt)
{
    struct mr_commit commit = {.batch_id = n, .epoch = parts->recovered.epoch, .attempt = attempt};
    struct mr_error err = {0};

    change_stores(parts, &model->after[n], &model->after[n + 1]);
    CHECK_OK(mr_state_prepare(parts->state, n, attempt, parts->log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_commit(parts->log, &commit, &err), &err);
    mr_state_applied(parts->state, n);
    mr_commit_release(&commit);
}

/* An attempt that fails after its state was written. */
static void fail_attempt(struct parts *parts, const struct model *model, uint64_t n)
{
    struct mr_commit commit = {.batch_id = n, .epoch = parts->recovered.epoch};
    struct mr_error err = {0};

    change_stores(parts, &model->after[n], &model->after[n + 1]);
    CHECK_OK(mr_state_prepare(parts->state, n, 0, parts->log, &commit, &err), &err);
    mr_state_rollback(parts->state);
    mr_batch_log_discard_deltas(parts->log);
    mr_commit_release(&commit);
    CHECK(same_content(parts, &model->after[n]));
}

static void purge(struct parts *parts, uint64_t n)
{
    uint64_t needed_from = UINT64_MAX;
    struct mr_error err = {0};

    CHECK_OK(mr_state_purge(parts->state, n, &needed_from, &err), &err);
    CHECK_OK(mr_batch_log_purge(parts->log, needed_from, &err), &err);
}

/*
 * Runs batches [from, to): one flush for COMMIT(n) and PLAN(n + 1). PLAN(from) may be in the log
 * already.
 */
static void run_batches(struct mr_sim *sim, struct parts *parts, struct model *model, uint64_t from,
                        uint64_t to, bool planned)
{
    struct mr_error err = {0};

    if (!planned) {
        CHECK_OK(plan_batch(parts, from, &err), &err);
        CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
        know(model, sim, from, from + 1);
    }
    for (uint64_t n = from; n < to; n++) {
        model->batches = n + 1;
        if (n == 5)
            fail_attempt(parts, model, n);
        commit_batch(parts, model, n, n == 5);
        CHECK_OK(plan_batch(parts, n + 1, &err), &err);
        CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
        know(model, sim, n + 1, n + 2);
        if (n % 2 == 1)
            purge(parts, n);
    }
}

/* ---------------------------------------------------------------- crashes */

static struct known least_known(const struct model *model, uint64_t op_count)
{
    struct known least = {0};

    for (size_t i = 0; i < model->known_count && model->known[i].op_count <= op_count; i++)
        least = model->known[i];
    return least;
}

static void recover(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct model *model = arg;
    struct known least = least_known(model, crash->op_count);
    struct mr_error err = {0};
    struct parts parts;
    struct model next;
    uint64_t committed;
    bool planned;

    model->states++;
    if (open_parts(mr_sim_env(after), &parts, &err) != MR_OK)
        FAIL("depth %u, %s: %s", model->depth, crash->text, err.text);
    committed = parts.recovered.has_commit ? parts.recovered.last_commit.batch_id + 1 : 0;
    planned = parts.recovered.has_plan && parts.recovered.last_plan.batch_id == committed;
    if (committed < least.committed || committed > model->batches ||
        (parts.recovered.has_plan ? parts.recovered.last_plan.batch_id + 1 : 0) < least.planned)
        FAIL("depth %u, %s: %llu batches are committed, %llu were durable and %llu begun",
             model->depth, crash->text, (unsigned long long)committed,
             (unsigned long long)least.committed, (unsigned long long)model->batches);
    if (!same_content(&parts, &model->after[committed]))
        FAIL("depth %u, %s: the state is not that of %llu batches", model->depth, crash->text,
             (unsigned long long)committed);
    /* Go on, one batch further, and crash in that, too. */
    next = *model;
    next.depth++;
    next.states = next.known_count = 0;
    next.known[next.known_count++] =
        (struct known){0, committed, planned ? committed + 1 : committed};
    run_batches(after, &parts, &next, committed, committed + 1, planned);
    next.batches = model->batches > committed + 1 ? model->batches : committed + 1;
    CHECK(same_content(&parts, &model->after[committed + 1]));
    close_parts(&parts);
    if (model->depth == 1 && crash->number % 32 == 1) {
        mr_sim_crash_everywhere(after, 0, 4, crash->number, recover, &next);
        model->states += next.states;
    } else if (model->depth == 2 && crash->op_count % 32 == 7 && crash->number == 1) {
        mr_sim_crash_everywhere(after, 0, 2, crash->number, recover, &next);
        model->states += next.states;
    }
}

static void prepare_model(struct model *model)
{
    *model = (struct model){.depth = 1};
    for (uint64_t n = 0; n + 1 < sizeof(model->after) / sizeof(*model->after); n++) {
        model->after[n + 1] = model->after[n];
        apply_batch(&model->after[n + 1], n);
    }
}

TEST(A1_to_A17_A21_A22_every_power_loss_leaves_a_state_between_durable_and_begun)
{
    struct mr_sim *sim = mr_sim_new(11);
    struct model *model = malloc(sizeof(*model));
    struct mr_error err = {0};
    struct parts parts;

    prepare_model(model);
    CHECK_OK(open_parts(mr_sim_env(sim), &parts, &err), &err);
    run_batches(sim, &parts, model, 0, BATCHES, false);
    close_parts(&parts);
    mr_sim_crash_everywhere(sim, 0, test_quick() ? 8 : 24, 5, recover, model);
    printf("# %llu crash states over %llu operations\n", (unsigned long long)model->states,
           (unsigned long long)mr_sim_op_count(sim));
    CHECK(model->states > 1000);
    evidence_add("power-loss", "log-and-state-states", model->states);
    free(model);
    mr_sim_free(sim);
}

TEST(A3_A5_a_process_that_dies_and_then_loses_power_loses_nothing_it_relied_on)
{
    struct mr_sim *sim = mr_sim_new(12);
    struct model *model = malloc(sizeof(*model));
    struct mr_error err = {0};
    struct parts parts;

    prepare_model(model);
    CHECK_OK(open_parts(mr_sim_env(sim), &parts, &err), &err);
    run_batches(sim, &parts, model, 0, 3, false);
    close_parts(&parts);
    /*
     * Killed at every point: what the next start sees may be in the cache only, and it must sync it
     * before it goes on.
     */
    for (uint64_t op = 0; op <= mr_sim_op_count(sim); op++) {
        struct mr_sim *killed = mr_sim_kill(sim, op);
        struct model *next = malloc(sizeof(*next));
        uint64_t committed;

        *next = *model;
        next->depth = 2;
        next->known_count = 0;
        CHECK_OK(open_parts(mr_sim_env(killed), &parts, &err), &err);
        committed = parts.recovered.has_commit ? parts.recovered.last_commit.batch_id + 1 : 0;
        CHECK(same_content(&parts, &model->after[committed]));
        /* From here on the recovered batches are relied upon. */
        know(next, killed, committed,
             parts.recovered.has_plan ? parts.recovered.last_plan.batch_id + 1 : 0);
        run_batches(killed, &parts, next, committed, committed + 1,
                    parts.recovered.has_plan && parts.recovered.last_plan.batch_id == committed);
        close_parts(&parts);
        mr_sim_crash_everywhere(killed, next->known[0].op_count, 4, op, recover, next);
        free(next);
        mr_sim_free(killed);
    }
    free(model);
    mr_sim_free(sim);
}

/*
 * A test that cannot fail proves nothing: a disk that lies about one sync in the workload must be
 * caught somewhere.
 */
struct lied {
    bool caught;
    struct model *model;
};

static void look(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct lied *lied = arg;
    struct known least = least_known(lied->model, crash->op_count);
    struct mr_error err = {0};
    struct parts parts;
    uint64_t committed;

    if (lied->caught)
        return;
    if (open_parts(mr_sim_env(after), &parts, &err) == MR_OK) {
        committed = parts.recovered.has_commit ? parts.recovered.last_commit.batch_id + 1 : 0;
        lied->caught =
            committed < least.committed || !same_content(&parts, &lied->model->after[committed]) ||
            (parts.recovered.has_plan ? parts.recovered.last_plan.batch_id + 1 : 0) < least.planned;
    } else {
        lied->caught = true;
    }
    close_parts(&parts);
}

/* The text of the nth flush after operation `from` of an undisturbed run. */
static void flush_text(struct mr_sim *sim, uint64_t from, uint64_t nth, char *text, size_t size)
{
    for (uint64_t op = from; op < mr_sim_op_count(sim); op++) {
        mr_sim_op_text(sim, op, text, size);
        if (strncmp(text, "sync", 4) == 0 && --nth == 0)
            return;
    }
    text[0] = '\0';
}

/* Making the directory of a store flushes its parents too, which are durable already. */
static bool is_redundant(const char *text)
{
    return strcmp(text, "sync directory /") == 0 || strcmp(text, "sync directory /cp") == 0;
}

/* Runs five batches, the nth flush of them left out (0 = none). Returns the disk. */
static struct mr_sim *run_without_flush(uint64_t nth, struct model *model, uint64_t *ret_from,
                                        uint64_t *ret_syncs)
{
    struct mr_sim *sim = mr_sim_new(13);
    struct mr_error err = {0};
    struct parts parts;

    prepare_model(model);
    CHECK_OK(open_parts(mr_sim_env(sim), &parts, &err), &err);
    *ret_from = mr_sim_op_count(sim);
    *ret_syncs = mr_sim_sync_count(sim);
    mr_sim_ignore_sync(sim, nth);
    run_batches(sim, &parts, model, 0, 5, false);
    *ret_syncs = mr_sim_sync_count(sim) - *ret_syncs;
    mr_sim_ignore_sync(sim, 0);
    close_parts(&parts);
    return sim;
}

TEST(each_flush_that_is_left_out_is_noticed_by_these_tests)
{
    struct lied lied = {.model = malloc(sizeof(struct model))};
    uint64_t from, syncs, ignored;
    struct mr_sim *undisturbed = run_without_flush(0, lied.model, &from, &syncs);
    unsigned noticed = 0;

    for (uint64_t nth = 1; nth <= syncs; nth++) {
        struct mr_sim *sim = run_without_flush(nth, lied.model, &from, &ignored);
        char text[200];

        lied.caught = false;
        mr_sim_crash_everywhere(sim, 0, 24, nth, look, &lied);
        flush_text(undisturbed, from, nth, text, sizeof(text));
        if (!lied.caught && !is_redundant(text))
            FAIL("flush %llu, '%s', can be left out and nothing is noticed",
                 (unsigned long long)nth, text);
        noticed += lied.caught;
        mr_sim_free(sim);
    }
    printf("# %u of %llu left-out flushes noticed; the others are redundant\n", noticed,
           (unsigned long long)syncs);
    free(lied.model);
    mr_sim_free(undisturbed);
}
