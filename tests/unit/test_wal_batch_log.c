/*
 * The batch log: what it keeps, what it refuses, and which damage it notices (faults.md B1-B11,
 * B16, B18-B21).
 */
#include "support/wal_log.h"

enum { SEGMENT_BYTES = 8192, DELTA_BYTES = 700 };

/* A closed log of several segments; the caller frees the sim. */
static struct mr_sim *make_log(uint64_t batches)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    mr_recovered_release(&recovered);
    log_batches(log, 0, batches, DELTA_BYTES);
    mr_batch_log_close(log);
    return sim;
}

static struct mr_replay replay_of(struct mr_env *env)
{
    struct mr_replay_options options = {0};
    struct mr_replay replay;
    struct mr_error err = {0};

    CHECK_OK(mr__replay_run(env, LOG_DIR, &options, &replay, &err), &err);
    return replay;
}

TEST(a_new_log_starts_empty_with_epoch_one)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    make_dir(mr_sim_env(sim), LOG_DIR);
    log = open_log(mr_sim_env(sim), SEGMENT_BYTES, &recovered);
    CHECK(!recovered.has_plan && !recovered.has_commit);
    CHECK_EQ_UINT(recovered.epoch, 1);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(A10_a_plan_without_commit_comes_back_with_its_ranges)
{
    struct mr_sim *sim = make_log(3);
    struct mr_recovered recovered;
    struct mr_batch_log *log = open_log(mr_sim_env(sim), SEGMENT_BYTES, &recovered);

    CHECK(recovered.has_plan && recovered.has_commit);
    CHECK_EQ_UINT(recovered.last_plan.batch_id, 3);
    CHECK_EQ_STR(recovered.last_plan.sources[0].start, "30");
    CHECK_EQ_STR(recovered.last_plan.sources[0].end, "40");
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 2);
    CHECK_EQ_UINT(recovered.committed_plan.batch_id, 2);
    CHECK_EQ_STR(recovered.last_commit.receipts[0], "out=done");
    CHECK_EQ_UINT(recovered.part_count, 3);
    CHECK_EQ_UINT(recovered.parts[2].version, 2);
    CHECK_NOT_NULL(recovered.parts[2].data);
    CHECK_EQ_UINT((unsigned char)recovered.parts[2].data[DELTA_BYTES - 1], 'c');
    CHECK_EQ_UINT(recovered.epoch, 2);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(A11_after_a_commit_the_next_plan_continues)
{
    struct mr_sim *sim = make_log(2);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log = open_log(env, SEGMENT_BYTES, &recovered);

    mr_recovered_release(&recovered);
    log_commit(log, 2, 0);
    log_sync(log);
    mr_batch_log_close(log);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    CHECK_EQ_UINT(recovered.last_plan.batch_id, 2);
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 2);
    CHECK_EQ_UINT(recovered.committed_plan.batch_id, 2);
    CHECK_EQ_UINT(recovered.epoch, 3);
    mr_recovered_release(&recovered);
    log_plan(log, 3);
    log_sync(log);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(a_steady_stream_needs_one_flush_a_batch)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    uint64_t syncs, ops;

    make_dir(env, LOG_DIR);
    log = open_log(env, 1 << 20, &recovered);
    log_plan(log, 0);
    log_sync(log);
    syncs = mr_sim_sync_count(sim);
    ops = mr_sim_op_count(sim);
    for (uint64_t n = 0; n < 10; n++) {
        log_commit(log, n, DELTA_BYTES);
        log_plan(log, n + 1);
        log_sync(log);
    }
    CHECK_EQ_UINT(mr_sim_sync_count(sim) - syncs, 10);
    CHECK_EQ_UINT(mr_sim_op_count(sim) - ops, 20); /* a write and a sync each */
    CHECK_EQ_UINT(mr_batch_log_sync_count(log), 11);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(A21_appending_past_the_segment_end_rotates)
{
    struct mr_sim *sim = make_log(40);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_replay replay = replay_of(env);

    CHECK(replay.segment > 3);
    CHECK_EQ_UINT(replay.position.plan_batch, 40);
    CHECK_EQ_UINT(replay.position.commit_batch, 39);
    CHECK_EQ_UINT(replay.parts.count, 40);
    CHECK_EQ_UINT(replay.torn_bytes, 0);
    mr__replay_release(&replay);
    mr_sim_free(sim);
}

TEST(a_record_larger_than_a_segment_gets_one_of_its_own)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    log_batches(log, 0, 2, 100000);
    mr_batch_log_close(log);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    CHECK_EQ_UINT(recovered.part_count, 2);
    CHECK_EQ_UINT(recovered.parts[1].size_bytes, 100000);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(discarded_deltas_leave_no_trace)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    log_plan(log, 0);
    log_sync(log);
    CHECK_OK(mr_batch_log_delta(log, 0, "counts", false, "half", 4, &err), &err);
    mr_batch_log_discard_deltas(log);
    log_commit(log, 0, DELTA_BYTES);
    log_sync(log);
    mr_batch_log_close(log);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    CHECK_EQ_UINT(recovered.part_count, 1);
    CHECK_EQ_UINT(recovered.parts[0].size_bytes, DELTA_BYTES);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(TR_07_purge_keeps_the_retained_batches_and_needed_deltas)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_batch_log_config config = log_config(SEGMENT_BYTES, 10);
    struct mr_error err = {0};
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct mr_segment_list before, after;

    make_dir(env, LOG_DIR);
    CHECK_OK(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err);
    log_batches(log, 0, 60, 0);
    CHECK_OK(mr__segment_list(env, LOG_DIR, ".log", &before, &err), &err);
    CHECK_OK(mr_batch_log_purge(log, 0, &err),
             &err); /* something of batch 0 is needed: nothing goes */
    CHECK_OK(mr__segment_list(env, LOG_DIR, ".log", &after, &err), &err);
    CHECK_EQ_UINT(after.count, before.count);
    mr__segment_list_release(&after);
    CHECK_OK(mr_batch_log_purge(log, UINT64_MAX, &err), &err);
    CHECK_OK(mr__segment_list(env, LOG_DIR, ".log", &after, &err), &err);
    CHECK(after.count < before.count);
    mr__segment_list_release(&after);
    mr__segment_list_release(&before);
    mr_batch_log_close(log);
    struct mr_replay replay = replay_of(env);
    CHECK(replay.has_last_plan && replay.last_commit.batch_id == 59);
    CHECK(replay.uses[0].last_batch >= 49); /* 59 - 10 */
    mr__replay_release(&replay);
    CHECK_OK(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err);
    CHECK_EQ_UINT(recovered.last_plan.batch_id, 60);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(a_part_that_was_purged_with_its_segment_stops_recovery)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_batch_log_config config = log_config(SEGMENT_BYTES, 5);
    struct mr_error err = {0};
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    make_dir(env, LOG_DIR);
    CHECK_OK(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err);
    log_batches(log, 0, 60, DELTA_BYTES);
    CHECK_OK(mr_batch_log_purge(log, UINT64_MAX, &err),
             &err); /* a lie: the deltas are still needed */
    mr_batch_log_close(log);
    CHECK_FAILS(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err, MR_CORRUPT,
                "state 'counts'");
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- damage */

TEST(B2_a_segment_cut_at_any_length_is_refused)
{
    struct mr_sim *sim = make_log(14);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_replay replay = replay_of(env);
    uint64_t segments = replay.segment;

    mr__replay_release(&replay);
    CHECK(segments >= 3);
    for (uint64_t number = 1; number <= segments; number++) {
        struct bytes whole = read_bytes(env, segment_file(number));

        for (size_t size = 0; size < whole.size; size += size < 1024 ? 1 : 37) {
            char text[200];
            struct mr_error err = {0};

            write_bytes(env, segment_file(number), whole.data, size);
            if (log_summary(env, text, sizeof(text), &err) != MR_CORRUPT)
                FAIL("segment %" PRIu64 " cut to %zu bytes is taken as '%s'", number, size, text);
            CHECK_CONTAINS(err.text, segment_file(number));
        }
        write_bytes(env, segment_file(number), whole.data, whole.size);
        free(whole.data);
    }
    mr_sim_free(sim);
}

TEST(B3_every_flipped_bit_of_every_record_is_noticed)
{
    struct mr_sim *sim = make_log(7);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_replay replay = replay_of(env);
    char intact[200], text[200];
    struct mr_error err = {0};
    unsigned step = test_quick() ? 7 : 1;

    CHECK_OK(log_summary(env, intact, sizeof(intact), &err), &err);
    for (size_t k = 0; k < replay.use_count; k++) {
        uint64_t number = replay.uses[k].number;
        struct bytes bytes = read_bytes(env, segment_file(number));
        struct mr_file *file = NULL;
        size_t used = bytes.size;

        while (bytes.data[used - 1] == 0)
            used--;
        CHECK_EQ_UINT(used % 512, 0); /* groups end with a tag */
        CHECK_OK(mr_env_open(env, segment_file(number), MR_FILE_WRITE, &file, &err), &err);
        for (size_t bit = k; bit < bytes.size * 8; bit += bit < used * 8 ? step : 997) {
            uint8_t flipped = (uint8_t)(bytes.data[bit / 8] ^ 1u << bit % 8);
            enum mr_status status;

            CHECK_OK(mr_env_pwrite(env, file, &flipped, 1, bit / 8, &err), &err);
            status = log_summary(env, text, sizeof(text), &err);
            if (bit < used * 8 ? status != MR_CORRUPT && status != MR_VERSION
                               : status != MR_CORRUPT && strcmp(text, intact) != 0)
                FAIL("segment %" PRIu64 ": bit %zu flipped gives %d '%s'", number, bit, (int)status,
                     text);
            CHECK_OK(mr_env_pwrite(env, file, &bytes.data[bit / 8], 1, bit / 8, &err), &err);
        }
        mr_env_close(env, file);
        free(bytes.data);
    }
    CHECK_OK(log_summary(env, text, sizeof(text), &err), &err);
    CHECK_EQ_STR(text, intact);
    mr__replay_release(&replay);
    mr_sim_free(sim);
}

TEST(B4_garbage_behind_the_file_is_refused)
{
    struct mr_sim *sim = make_log(3);
    struct mr_env *env = mr_sim_env(sim);
    struct bytes bytes = read_bytes(env, segment_file(1));
    char text[200];
    struct mr_error err = {0};

    bytes.data[bytes.size] = 'x';
    write_bytes(env, segment_file(1), bytes.data, bytes.size + 1);
    CHECK_FAILS(log_summary(env, text, sizeof(text), &err), &err, MR_CORRUPT,
                "bytes and was made with");
    free(bytes.data);
    mr_sim_free(sim);
}

TEST(B5_a_hole_anywhere_in_a_cleanly_closed_log_loses_nothing_unnoticed)
{
    struct mr_sim *sim = make_log(14);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_replay replay = replay_of(env);
    char intact[200], text[200];
    struct mr_error err = {0};
    static const uint8_t zeros[4096];

    CHECK_OK(log_summary(env, intact, sizeof(intact), &err), &err);
    for (size_t k = 0; k < replay.use_count; k++) {
        struct bytes bytes = read_bytes(env, segment_file(replay.uses[k].number));

        for (size_t hole = 512; hole <= 4096; hole *= 8) {
            for (size_t at = 0; at + hole <= bytes.size; at += hole) {
                uint8_t *copy = malloc(bytes.size);
                enum mr_status status;

                memcpy(copy, bytes.data, bytes.size);
                memcpy(copy + at, zeros, hole);
                write_bytes(env, segment_file(replay.uses[k].number), copy, bytes.size);
                status = log_summary(env, text, sizeof(text), &err);
                /* The one that may go is the CLOSE itself. */
                if (status != MR_CORRUPT && strcmp(text, intact) != 0)
                    FAIL("a hole of %zu at %zu in segment %" PRIu64 " gives %d '%s'", hole, at,
                         replay.uses[k].number, (int)status, text);
                free(copy);
            }
        }
        write_bytes(env, segment_file(replay.uses[k].number), bytes.data, bytes.size);
        free(bytes.data);
    }
    mr__replay_release(&replay);
    mr_sim_free(sim);
}

TEST(a_torn_last_flush_is_cut_and_counted)
{
    struct mr_sim *sim = mr_sim_new(1), *after;
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct bytes bytes;
    uint64_t tail;

    make_dir(env, LOG_DIR);
    log = open_log(env, 1 << 20, &recovered);
    log_batches(log, 0, 2, DELTA_BYTES);
    after = mr_sim_kill(
        sim, mr_sim_op_count(sim)); /* no clean end: COMMIT(1) PLAN(2) is the last group */
    mr_batch_log_close(log);
    mr_sim_free(sim);
    env = mr_sim_env(after);
    struct mr_replay replay = replay_of(env);
    tail = replay.tail;
    mr__replay_release(&replay);
    bytes = read_bytes(env, segment_file(1));
    memset(bytes.data + tail - 1024, 0, 512); /* one of its sectors never arrived */
    write_bytes(env, segment_file(1), bytes.data, bytes.size);
    free(bytes.data);
    log = open_log(env, 1 << 20, &recovered);
    CHECK_EQ_UINT(recovered.last_plan.batch_id, 1);
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 0);
    CHECK(recovered.tail_dropped_bytes > 512);
    mr_recovered_release(&recovered);
    log_commit(log, 1, DELTA_BYTES);
    log_sync(log);
    mr_batch_log_close(log);
    log = open_log(env, 1 << 20, &recovered);
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 1);
    CHECK_EQ_UINT(recovered.tail_dropped_bytes, 0);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(after);
}

TEST(B6_a_segment_copied_under_another_name_is_refused)
{
    struct mr_sim *sim = make_log(14);
    struct mr_env *env = mr_sim_env(sim);
    struct bytes first = read_bytes(env, segment_file(1)),
                 second = read_bytes(env, segment_file(2));
    struct mr_error err = {0};
    char text[200];

    write_bytes(env, segment_file(2), first.data, first.size);
    CHECK_STATUS(log_summary(env, text, sizeof(text), &err), MR_CORRUPT);
    write_bytes(env, segment_file(2), second.data, second.size);
    write_bytes(env, segment_file(1), second.data, second.size);
    CHECK_STATUS(log_summary(env, text, sizeof(text), &err), MR_CORRUPT);
    free(first.data);
    free(second.data);
    mr_sim_free(sim);
}

TEST(B7_a_sector_with_what_another_run_wrote_there_is_refused)
{
    struct mr_sim *a = make_log(5), *b = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(b);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct bytes ours, theirs;
    struct mr_error err = {0};
    char text[200];

    /* The same shape, other content: every tag is right, only sums and chain can tell. */
    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    log_batches(log, 100, 105, DELTA_BYTES);
    mr_batch_log_close(log);
    ours = read_bytes(env, segment_file(1));
    theirs = read_bytes(mr_sim_env(a), segment_file(1));
    CHECK_EQ_UINT(ours.size, theirs.size);
    for (size_t at = 512; at < ours.size; at += 512) {
        uint8_t *copy = malloc(ours.size);

        if (memcmp(ours.data + at, theirs.data + at, 512) == 0) {
            free(copy);
            continue;
        }
        memcpy(copy, ours.data, ours.size);
        memcpy(copy + at, theirs.data + at, 512);
        write_bytes(env, segment_file(1), copy, ours.size);
        CHECK_STATUS(log_summary(env, text, sizeof(text), &err), MR_CORRUPT);
        free(copy);
    }
    free(ours.data);
    free(theirs.data);
    mr_sim_free(a);
    mr_sim_free(b);
}

TEST(B7_an_older_copy_of_an_older_segment_is_refused)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct bytes older;
    struct mr_error err = {0};
    char text[200];

    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    log_batches(log, 0, 2, DELTA_BYTES);
    older = read_bytes(env, segment_file(1));
    for (uint64_t n = 2; n < 14; n++) {
        log_commit(log, n, DELTA_BYTES);
        log_plan(log, n + 1);
        log_sync(log);
    }
    mr_batch_log_close(log);
    write_bytes(env, segment_file(1), older.data, older.size);
    CHECK_STATUS(log_summary(env, text, sizeof(text), &err), MR_CORRUPT);
    free(older.data);
    mr_sim_free(sim);
}

TEST(B9_a_missing_segment_names_both_neighbours)
{
    struct mr_sim *sim = make_log(20);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    char text[200];

    CHECK_OK(mr_env_unlink(env, segment_file(2), &err), &err);
    CHECK_FAILS(log_summary(env, text, sizeof(text), &err), &err, MR_CORRUPT,
                "segment 2 is missing between 1 and 3");
    mr_sim_free(sim);
}

TEST(B9_a_missing_newest_segment_is_noticed)
{
    struct mr_sim *sim = make_log(20);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_replay replay = replay_of(env);
    struct mr_error err = {0};
    char text[200];

    CHECK_OK(mr_env_unlink(env, segment_file(replay.segment), &err), &err);
    CHECK_FAILS(log_summary(env, text, sizeof(text), &err), &err, MR_CORRUPT, "is missing");
    mr__replay_release(&replay);
    mr_sim_free(sim);
}

TEST(B8_B21_other_names_are_not_segments)
{
    struct mr_sim *sim = make_log(3);
    struct mr_env *env = mr_sim_env(sim);
    struct bytes bytes = read_bytes(env, segment_file(1));
    char before[200], after[200];
    struct mr_error err = {0};

    CHECK_OK(log_summary(env, before, sizeof(before), &err), &err);
    write_bytes(env, LOG_DIR "/1.log", bytes.data, bytes.size);
    write_bytes(env, LOG_DIR "/00000000000000000002.log.bak", bytes.data, bytes.size);
    write_bytes(env, LOG_DIR "/0000000000000000000002.log", bytes.data, bytes.size);
    write_bytes(env, LOG_DIR "/.nfs0001", "x", 1);
    CHECK_OK(log_summary(env, after, sizeof(after), &err), &err);
    CHECK_EQ_STR(after, before);
    free(bytes.data);
    mr_sim_free(sim);
}

TEST(B18_a_directory_in_the_place_of_a_segment_is_refused)
{
    struct mr_sim *sim = make_log(3);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    char text[200];

    CHECK_OK(mr_env_mkdir(env, segment_file(2), &err), &err);
    CHECK_FAILS(log_summary(env, text, sizeof(text), &err), &err, MR_CORRUPT, "not a regular file");
    mr_sim_free(sim);
}

TEST(another_query_s_log_is_refused)
{
    struct mr_sim *sim = make_log(3);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_batch_log_config config = log_config(SEGMENT_BYTES, 100);
    struct mr_error err = {0};
    struct mr_recovered recovered;
    struct mr_batch_log *log;

    config.query_id[0] ^= 1;
    CHECK_FAILS(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err, MR_CORRUPT,
                "another query");
    mr_sim_free(sim);
}

/*
 * Writes one group of hand-made records into a fresh log, as a program with another protocol would.
 */
static struct mr_sim *log_with_records(const struct mr_buf *records)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct mr_buf sectors = MR_BUF_INIT;
    struct mr_file *file = NULL;
    struct mr_error err = {0};
    struct mr_replay replay;

    make_dir(env, LOG_DIR);
    log = open_log(env, SEGMENT_BYTES, &recovered);
    mr_batch_log_close(log);
    replay = replay_of(env); /* a head and a CLOSE */
    mr__group_encode(&sectors, mr__segment_key(MR_SEGMENT_BATCH_LOG, 1), replay.ordinal,
                     records->data, records->size);
    CHECK_OK(mr_env_open(env, segment_file(1), MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, sectors.data, sectors.size, replay.tail, &err), &err);
    mr_env_close(env, file);
    mr_buf_release(&sectors);
    mr__replay_release(&replay);
    return sim;
}

/* The chain value that the first of such records needs. */
static uint64_t chain_of_fresh_log(void)
{
    struct mr_buf nothing = MR_BUF_INIT, payload = MR_BUF_INIT;
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_replay replay;
    uint64_t chain;

    make_dir(env, LOG_DIR);
    mr_batch_log_close(open_log(env, SEGMENT_BYTES, &recovered));
    replay = replay_of(env);
    chain = replay.chain;
    mr__replay_release(&replay);
    mr_sim_free(sim);
    mr_buf_release(&nothing);
    mr_buf_release(&payload);
    return chain;
}

static uint64_t add_plan(struct mr_buf *records, uint64_t chain, uint64_t n)
{
    struct mr_buf payload = MR_BUF_INIT;
    struct mr_plan plan = {.batch_id = n};
    uint64_t sum = 0;

    mr__plan_encode(&payload, &plan);
    mr_record_append(records, MR_RECORD_PLAN, MR_PLAN_VERSION, chain, payload.data, payload.size,
                     &sum);
    mr_buf_release(&payload);
    return sum;
}

static uint64_t add_commit(struct mr_buf *records, uint64_t chain, uint64_t n, uint64_t plan_sum)
{
    struct mr_buf payload = MR_BUF_INIT;
    struct mr_commit commit = {.batch_id = n};
    struct mr_log_position position = {.plan_sum = plan_sum};
    uint64_t sum = 0;

    mr__commit_encode(&payload, &commit, &position);
    mr_record_append(records, MR_RECORD_COMMIT, MR_COMMIT_VERSION, chain, payload.data,
                     payload.size, &sum);
    mr_buf_release(&payload);
    return sum;
}

static void check_refused(struct mr_buf *records, const char *reason)
{
    struct mr_sim *sim = log_with_records(records);
    struct mr_error err = {0};
    char text[200];

    CHECK_FAILS(log_summary(mr_sim_env(sim), text, sizeof(text), &err), &err, MR_CORRUPT, reason);
    mr_buf_release(records);
    mr_sim_free(sim);
}

TEST(B9_TR_08_a_gap_between_plans_is_refused)
{
    struct mr_buf records = MR_BUF_INIT;
    uint64_t chain = chain_of_fresh_log(), plan_sum;

    plan_sum = chain = add_plan(&records, chain, 5);
    chain = add_commit(&records, chain, 5, plan_sum);
    add_plan(&records, chain, 7);
    check_refused(&records, "plan 7 follows plan 5");
}

TEST(B10_a_commit_without_plan_is_refused)
{
    struct mr_buf records = MR_BUF_INIT;

    add_commit(&records, chain_of_fresh_log(), 0, 0);
    check_refused(&records, "belongs to no plan");
}

TEST(B10_a_commit_of_another_batch_than_the_last_plan_is_refused)
{
    struct mr_buf records = MR_BUF_INIT;
    uint64_t chain = add_plan(&records, chain_of_fresh_log(), 3);

    add_commit(&records, chain, 4, chain);
    check_refused(&records, "belongs to no plan");
}

TEST(B7_a_commit_of_another_plan_of_its_batch_is_refused)
{
    struct mr_buf records = MR_BUF_INIT;
    uint64_t chain = add_plan(&records, chain_of_fresh_log(), 3);

    add_commit(&records, chain, 3, chain ^ 1);
    check_refused(&records, "another plan");
}

TEST(B11_two_plans_ahead_of_the_commits_are_refused)
{
    struct mr_buf records = MR_BUF_INIT;
    uint64_t chain = add_plan(&records, chain_of_fresh_log(), 0);

    add_plan(&records, chain, 1);
    check_refused(&records, "before the one before it was committed");
}

TEST(deltas_without_their_commit_are_refused)
{
    struct mr_buf records = MR_BUF_INIT, payload = MR_BUF_INIT;
    uint64_t chain = add_plan(&records, chain_of_fresh_log(), 0);

    mr__delta_encode(&payload, 0, "s", false, "x", 1);
    mr_record_append(&records, MR_RECORD_DELTA, MR_DELTA_VERSION, chain, payload.data, payload.size,
                     NULL);
    mr_buf_release(&payload);
    check_refused(&records, "deltas without their commit");
}

TEST(a_newer_record_version_says_so)
{
    struct mr_buf records = MR_BUF_INIT, payload = MR_BUF_INIT;
    struct mr_plan plan = {0};
    struct mr_error err = {0};
    struct mr_sim *sim;
    char text[200];

    mr__plan_encode(&payload, &plan);
    mr_record_append(&records, MR_RECORD_PLAN, 2, chain_of_fresh_log(), payload.data, payload.size,
                     NULL);
    mr_buf_release(&payload);
    sim = log_with_records(&records);
    CHECK_FAILS(log_summary(mr_sim_env(sim), text, sizeof(text), &err), &err, MR_VERSION,
                "newer millrace");
    mr_buf_release(&records);
    mr_sim_free(sim);
}

TEST(B16_impossible_lengths_are_refused_before_anything_is_allocated)
{
    static const uint32_t lengths[] = {0, 1u << 30 | 1, 0x80000000u, 0xffffffffu};
    uint8_t data[64] = {0};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        struct mr_record record;
        size_t size;

        memcpy(data, &lengths[i], 4);
        data[4] = 0x52;
        data[5] = 0x4d;
        data[6] = MR_RECORD_PLAN;
        CHECK_EQ_INT(mr_record_read(data, sizeof(data), 0, &record, &size), MR_RECORD_BAD_LENGTH);
    }
}

TEST(B20_another_byte_order_is_recognised)
{
    struct mr_sim *sim = make_log(1);
    struct mr_env *env = mr_sim_env(sim);
    struct bytes bytes = read_bytes(env, segment_file(1));
    struct mr_error err = {0};
    char text[200];

    bytes.data[4] = 0x4d;
    bytes.data[5] = 0x52;
    write_bytes(env, segment_file(1), bytes.data, bytes.size);
    CHECK_FAILS(log_summary(env, text, sizeof(text), &err), &err, MR_VERSION, "byte order");
    free(bytes.data);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- failures */

TEST(C5_after_a_failed_flush_the_log_refuses_everything)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct mr_error err = {0};
    struct mr_plan plan = {.batch_id = 1};

    make_dir(env, LOG_DIR);
    log = open_log(env, 1 << 20, &recovered);
    log_plan(log, 0);
    mr_sim_fail_at(sim, 3, 5 /* EIO */, false); /* look, write, sync */
    CHECK_STATUS(mr_batch_log_sync(log, &err), MR_IO);
    CHECK_STATUS(mr_batch_log_sync(log, &err), MR_IO);
    mr_batch_log_close(log);
    log = open_log(env, 1 << 20, &recovered); /* and a new start finds the plan or not, whole */
    CHECK(!recovered.has_plan || recovered.last_plan.batch_id == 0);
    if (!recovered.has_plan)
        log_plan(log, 0);
    mr_recovered_release(&recovered);
    log_sync(log);
    log_commit(log, 0, 0);
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    log_sync(log);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(D12_a_log_that_was_removed_under_the_query_is_noticed_at_the_next_flush)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered;
    struct mr_batch_log *log;
    struct mr_error err = {0};

    make_dir(env, LOG_DIR);
    log = open_log(env, 1 << 20, &recovered);
    log_plan(log, 0);
    CHECK_OK(mr_env_unlink(env, segment_file(1), &err), &err);
    CHECK_FAILS(mr_batch_log_sync(log, &err), &err, MR_IO, "removed or replaced");
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(every_failing_allocation_is_an_error_and_nothing_leaks)
{
    for (uint64_t nth = 1;; nth++) {
        struct mr_sim *sim = make_log(4);
        struct mr_env *env = mr_sim_env(sim);
        struct mr_batch_log_config config = log_config(SEGMENT_BYTES, 100);
        struct mr_batch_log *log = NULL;
        struct mr_recovered recovered = {0};
        struct mr_error err = {0};
        size_t used = mr_budget_used(NULL);
        enum mr_status status;

        mr_alloc_fail_at(nth, false);
        status = mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err);
        mr_alloc_fail_at(0, false);
        if (status == MR_OK) {
            mr_recovered_release(&recovered);
            mr_batch_log_close(log);
        } else {
            CHECK_EQ_INT(status, MR_NOMEM);
        }
        CHECK_EQ_UINT(mr_budget_used(NULL), used);
        CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
        mr_sim_free(sim);
        if (status == MR_OK && nth > 20)
            break;
        CHECK(nth < 2000);
    }
}

TEST(the_walk_shows_every_record_in_order)
{
    struct mr_sim *sim = make_log(3);
    struct mr_error err = {0};
    uint64_t torn = 1;
    char *data = NULL;
    size_t size = 0;

    CHECK_OK(mr_batch_log_walk(mr_sim_env(sim), LOG_DIR, NULL, NULL, &torn, &err), &err);
    CHECK_EQ_UINT(torn, 0);
    CHECK_OK(
        mr_batch_log_read_delta(mr_sim_env(sim), LOG_DIR, 1, "counts", false, &data, &size, &err),
        &err);
    CHECK_EQ_UINT(size, DELTA_BYTES);
    CHECK_EQ_INT(data[0], 'b');
    mr_free(data);
    CHECK_STATUS(
        mr_batch_log_read_delta(mr_sim_env(sim), LOG_DIR, 9, "counts", false, &data, &size, &err),
        MR_NOT_FOUND);
    mr_sim_free(sim);
}
