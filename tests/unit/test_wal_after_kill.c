/*
 * Logs after a kill and then a power loss, after purges that failed, and with copies that went
 * apart: what the first restart relied on must be on the disk too.
 */
#include "support/test.h"

#include "base/check.h"
#include "env/sim.h"
#include "wal/batch_log.h"
#include "wal/block_log.h"

#include <errno.h>
#include <stdlib.h>

#define DIR "/received"
#define COPY_DIR "/copy"

enum { SEGMENT_BYTES = 256 << 10, LARGE_BYTES = 300 << 10, STATES_MAX = 40 };

static struct mr_error err;

static struct mr_block_log *open_log(struct mr_sim *sim, const char *copy_dir)
{
    struct mr_block_log_config config = {.segment_bytes = SEGMENT_BYTES, .copy_dir = copy_dir};
    struct mr_block_log *log = NULL;

    mr_error_clear(&err);
    CHECK_OK(mr_block_log_open(mr_sim_env(sim), DIR, &config, &log, &err), &err);
    return log;
}

static void put_text(struct mr_block_log *log, const char *text, size_t size_bytes)
{
    const struct mr_block_data block = {
        .data = text, .size_bytes = size_bytes, .record_count = 1, .received_us = 1};
    uint64_t number;

    CHECK_OK(mr_block_log_put(log, &block, &number, &err), &err);
}

static void put_zeros(struct mr_block_log *log, size_t size_bytes)
{
    char *data = calloc(1, size_bytes);

    CHECK_NOT_NULL(data);
    put_text(log, data, size_bytes);
    free(data);
}

/* Four blocks that need three segments. */
static struct mr_sim *rotated_log(void)
{
    struct mr_sim *sim = mr_sim_new(3);
    struct mr_block_log *log = open_log(sim, NULL);

    for (int i = 0; i < 4; i++)
        put_zeros(log, 100 << 10);
    mr_block_log_close(log);
    return sim;
}

static void still_has(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    const uint64_t *last = arg;
    struct mr_block_log *log = open_log(after, NULL);

    MR_UNUSED(crash);
    CHECK(mr_block_log_last(log) >= *last);
    mr_block_log_close(log);
}

TEST(A18_A21_a_kill_and_then_a_power_loss_take_no_block_that_was_stored_between_them)
{
    struct mr_sim *sim = rotated_log();
    uint64_t ops = mr_sim_op_count(sim);

    for (uint64_t op = 0; op <= ops; op++) {
        struct mr_sim *killed = mr_sim_kill(sim, op);
        struct mr_block_log *log = open_log(killed, NULL);
        uint64_t last;

        put_zeros(log, 1000);
        last = mr_block_log_last(log);
        mr_block_log_close(log);
        mr_sim_crash_states(killed, mr_sim_op_count(killed), STATES_MAX, op, still_has, &last);
        mr_sim_free(killed);
    }
    mr_sim_free(sim);
}

TEST(a_block_larger_than_the_segment_that_a_kill_left_empty_is_stored)
{
    struct mr_sim *sim = rotated_log();
    uint64_t ops = mr_sim_op_count(sim);

    for (uint64_t op = 0; op <= ops; op++) {
        struct mr_sim *killed = mr_sim_kill(sim, op);
        struct mr_block_log *log = open_log(killed, NULL);

        put_zeros(log, LARGE_BYTES);
        mr_block_log_close(log);
        log = open_log(killed, NULL);
        mr_block_log_close(log);
        mr_sim_free(killed);
    }
    mr_sim_free(sim);
}

TEST(a_purge_that_failed_leaves_no_gap_whatever_the_next_one_does)
{
    for (uint64_t nth = 1; nth <= 6; nth++) {
        struct mr_sim *sim = mr_sim_new(9);
        struct mr_block_log *log = open_log(sim, NULL);

        for (int i = 0; i < 10; i++)
            put_zeros(log, 100 << 10);
        mr_sim_fail_at(sim, nth, EIO, false);
        (void)mr_block_log_purge(log, 5, NULL);
        mr_sim_fail_at(sim, 0, 0, false);
        CHECK_OK(mr_block_log_purge(log, 7, &err), &err);
        mr_block_log_close(log);
        log = open_log(sim, NULL);
        CHECK(mr_block_log_first(log) <= 7);
        CHECK_EQ_UINT(mr_block_log_last(log), 10);
        mr_block_log_close(log);
        mr_sim_free(sim);
    }
}

/* Block 2 reached one copy only, which is then away while the other goes on with another one. */
TEST(copies_that_differ_in_their_last_block_are_refused)
{
    struct mr_block_log_config config = {.segment_bytes = SEGMENT_BYTES, .copy_dir = COPY_DIR};
    struct mr_sim *sim = mr_sim_new(1), *first, *second;
    struct mr_block_log *log = open_log(sim, COPY_DIR);
    struct mr_env *env;
    uint64_t before;

    put_text(log, "old", 3);
    before = mr_sim_op_count(sim);
    put_text(log, "one", 3);
    mr_block_log_close(log);
    first = mr_sim_kill(sim, before + 1);
    env = mr_sim_env(first);
    CHECK_OK(mr_env_rename(env, DIR, "/away", false, &err), &err);
    log = open_log(first, COPY_DIR);
    put_text(log, "two", 3);
    second = mr_sim_kill(first, mr_sim_op_count(first));
    mr_block_log_close(log);
    env = mr_sim_env(second);
    CHECK_OK(mr_env_rename(env, DIR, "/empty", false, &err), &err);
    CHECK_OK(mr_env_rename(env, "/away", DIR, false, &err), &err);
    CHECK_FAILS(mr_block_log_open(env, DIR, &config, &log, &err), &err, MR_CONFIG, "different");
    mr_sim_free(second);
    mr_sim_free(first);
    mr_sim_free(sim);
}

/* ---- the batch log ---- */

static struct mr_batch_log *open_batches(struct mr_sim *sim, struct mr_recovered *ret_recovered)
{
    struct mr_batch_log_config config = {.segment_bytes = 8192, .retain_batches = 4};
    struct mr_batch_log *log = NULL;

    mr_error_clear(&err);
    *ret_recovered = (struct mr_recovered){0};
    CHECK_OK(mr_batch_log_open(mr_sim_env(sim), "/log", &config, &log, ret_recovered, &err), &err);
    return log;
}

static void write_batch(struct mr_batch_log *log, uint64_t number, uint32_t epoch)
{
    char settings[] = "{}";
    struct mr_plan plan = {.batch_id = number,
                           .epoch = epoch,
                           .batch_time_us = (int64_t)number * 1000000,
                           .settings = settings};
    struct mr_commit commit = {.batch_id = number, .epoch = epoch};

    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    CHECK_OK(mr_batch_log_commit(log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
}

static void opens(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct mr_recovered recovered;

    MR_UNUSED(crash);
    MR_UNUSED(arg);
    mr_batch_log_close(open_batches(after, &recovered));
    mr_recovered_release(&recovered);
}

TEST(A3_A5_a_batch_log_opens_after_a_kill_a_start_and_a_power_loss)
{
    struct mr_sim *sim = mr_sim_new(3);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    uint64_t first;

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "/log", &err), &err);
    first = mr_sim_op_count(sim);
    log = open_batches(sim, &recovered);
    for (uint64_t batch = 0; batch < 12; batch++)
        write_batch(log, batch, recovered.epoch);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    for (uint64_t op = first, ops = mr_sim_op_count(sim); op <= ops; op++) {
        struct mr_sim *killed = mr_sim_kill(sim, op);

        mr_batch_log_close(open_batches(killed, &recovered));
        mr_recovered_release(&recovered);
        mr_sim_crash_states(killed, mr_sim_op_count(killed), STATES_MAX, op, opens, NULL);
        mr_sim_free(killed);
    }
    mr_sim_free(sim);
}
