/*
 * The received-block log: what it keeps, where it reads from, which damage it notices (faults.md
 * A18-A21, B1-B9).
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "env/sim.h"
#include "env/thread.h"
#include "support/test.h"
#include "wal/block_replay.h"

#include <stdlib.h>

#define DIR "/received"

static struct mr_block_log *open_blocks(struct mr_env *env, uint64_t segment_bytes,
                                        uint64_t memory_bytes, uint64_t min_last)
{
    struct mr_block_log_config config = {segment_bytes, memory_bytes, min_last, false};
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_open(env, DIR, &config, &log, &err), &err);
    return log;
}

static struct mr_sim *new_disk(void)
{
    struct mr_sim *sim = mr_sim_new(3);
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), DIR, &err), &err);
    return sim;
}

/* Block n holds n * 37 % 2000 bytes of the same letter. */
static void append_block(struct mr_block_log *log, uint64_t n)
{
    char data[2000];
    size_t size = (size_t)(n * 37 % sizeof(data));
    struct mr_error err = {0};
    uint64_t number = 0;

    memset(data, 'a' + (int)(n % 26), sizeof(data));
    CHECK_OK(mr_block_log_append(log, data, size, n, (int64_t)n * 1000, &number, &err), &err);
    CHECK_EQ_UINT(number, n);
}

static void append_blocks(struct mr_block_log *log, uint64_t from, uint64_t to, unsigned per_sync)
{
    struct mr_error err = {0};

    for (uint64_t n = from; n <= to; n++) {
        append_block(log, n);
        if (n % per_sync == 0 || n == to)
            CHECK_OK(mr_block_log_sync(log, &err), &err);
    }
}

static void check_block(struct mr_block_log *log, uint64_t n)
{
    struct mr_buf data = MR_BUF_INIT;
    struct mr_block_info info;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_info(log, n, &info, &err), &err);
    CHECK_EQ_UINT(info.record_count, n);
    CHECK_EQ_INT(info.received_us, (int64_t)n * 1000);
    CHECK_OK(mr_block_log_read(log, n, &data, &err), &err);
    CHECK_EQ_UINT(data.size, n * 37 % 2000);
    for (size_t i = 0; i < data.size; i++)
        CHECK_EQ_INT(data.data[i], 'a' + (int)(n % 26));
    mr_buf_release(&data);
}

TEST(blocks_become_visible_with_the_sync)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 1 << 20, 1 << 20, 0);
    struct mr_error err = {0};
    struct mr_block_info info;

    append_block(log, 1);
    append_block(log, 2);
    CHECK_EQ_UINT(mr_block_log_last(log), 0);
    CHECK_STATUS(mr_block_log_info(log, 1, &info, &err), MR_NOT_FOUND);
    CHECK_OK(mr_block_log_sync(log, &err), &err);
    CHECK_EQ_UINT(mr_block_log_last(log), 2);
    check_block(log, 1);
    check_block(log, 2);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(several_blocks_share_one_flush)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 1 << 20, 1 << 20, 0);
    uint64_t syncs;

    append_blocks(log, 1, 10, 10);
    syncs = mr_sim_sync_count(sim);
    append_blocks(log, 11, 40, 10);
    CHECK_EQ_UINT(mr_sim_sync_count(sim) - syncs, 3);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(A20_blocks_are_the_same_after_a_restart_and_numbers_go_on)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 1 << 20, 0);

    append_blocks(log, 1, 60, 3);
    mr_block_log_close(log);
    log = open_blocks(mr_sim_env(sim), 8192, 1 << 20, 60);
    CHECK_EQ_UINT(mr_block_log_first(log), 1);
    CHECK_EQ_UINT(mr_block_log_last(log), 60);
    for (uint64_t n = 1; n <= 60; n++)
        check_block(log, n);
    append_blocks(log, 61, 80, 1);
    for (uint64_t n = 50; n <= 80; n++)
        check_block(log, n);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(old_blocks_are_read_from_the_disk_when_memory_is_short)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 3000, 0);

    append_blocks(log, 1, 60, 4);
    for (uint64_t n = 1; n <= 60; n++)
        check_block(log, n);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(purge_removes_whole_segments_and_keeps_what_is_needed)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 1 << 20, 0);
    struct mr_buf data = MR_BUF_INIT;
    struct mr_error err = {0};
    uint64_t first;

    append_blocks(log, 1, 60, 3);
    CHECK_OK(mr_block_log_purge(log, 40, &err), &err);
    first = mr_block_log_first(log);
    CHECK(first > 1 && first <= 40);
    for (uint64_t n = first; n <= 60; n++)
        check_block(log, n);
    CHECK_STATUS(mr_block_log_read(log, first - 1, &data, &err), MR_DATA_LOSS);
    mr_block_log_close(log);
    log = open_blocks(mr_sim_env(sim), 8192, 1 << 20, 60);
    CHECK_EQ_UINT(mr_block_log_first(log), first);
    check_block(log, first);
    CHECK_OK(mr_block_log_purge(log, 1000, &err), &err); /* the newest segment stays */
    append_blocks(log, 61, 61, 1);
    check_block(log, 61);
    mr_buf_release(&data);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(without_files_everything_stays_until_it_is_purged)
{
    struct mr_block_log_config config = {8192, 100, 0, true};
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_block_log *log = NULL;
    struct mr_buf data = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_open(mr_sim_env(sim), NULL, &config, &log, &err), &err);
    append_blocks(log, 1, 60, 3);
    for (uint64_t n = 1; n <= 60; n++)
        check_block(log, n);
    CHECK_OK(mr_block_log_purge(log, 31, &err), &err);
    CHECK_STATUS(mr_block_log_read(log, 30, &data, &err), MR_DATA_LOSS);
    check_block(log, 31);
    CHECK_EQ_UINT(mr_sim_op_count(sim), 0);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(A19_a_planned_block_that_is_missing_stops_the_start)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log_config config = {8192, 1 << 20, 11, false};
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 1 << 20, 0);
    struct mr_error err = {0};

    append_blocks(log, 1, 10, 1);
    mr_block_log_close(log);
    CHECK_FAILS(mr_block_log_open(mr_sim_env(sim), DIR, &config, &log, &err), &err, MR_CORRUPT,
                "needs block 11");
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- damage */

static enum mr_status summary(struct mr_env *env, uint64_t *ret_last, struct mr_error *err)
{
    uint64_t first = 0;

    *ret_last = 0;
    return mr_block_log_verify(env, DIR, &first, ret_last, err);
}

struct file_bytes {
    uint8_t data[65536];
    size_t size;
};

static void read_file(struct mr_env *env, const char *path, struct file_bytes *bytes)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_READ, &file, &err), &err);
    CHECK_OK(mr_env_pread(env, file, bytes->data, sizeof(bytes->data), 0, &bytes->size, &err),
             &err);
    mr_env_close(env, file);
}

static void write_file(struct mr_env *env, const char *path, const uint8_t *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, &err),
             &err);
    CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    CHECK_OK(mr_env_sync(env, file, &err), &err);
    mr_env_close(env, file);
}

static const char *segment_path(uint64_t number)
{
    static char path[64];

    snprintf(path, sizeof(path), DIR "/%020" PRIu64 ".blk", number);
    return path;
}

/* A closed log of several segments of 4 KiB. */
static struct mr_sim *make_blocks(struct mr_segment_list *segments)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 4096, 1 << 20, 0);
    struct mr_error err = {0};

    append_blocks(log, 1, 12, 2);
    mr_block_log_close(log);
    CHECK_OK(mr__segment_list(mr_sim_env(sim), DIR, MR_BLOCK_LOG_SUFFIX, segments, &err), &err);
    CHECK(segments->count >= 2);
    return sim;
}

TEST(B2_B3_every_cut_and_every_flipped_bit_of_a_block_file_is_noticed)
{
    struct mr_segment_list segments;
    struct mr_sim *sim = make_blocks(&segments);
    struct mr_env *env = mr_sim_env(sim);
    struct file_bytes bytes;
    struct mr_error err = {0};
    unsigned step = test_quick() ? 7 : 1;
    uint64_t last;

    for (size_t k = 0; k < segments.count; k++) {
        const char *path = segment_path(segments.numbers[k]);
        struct mr_file *file = NULL;
        size_t used;

        read_file(env, path, &bytes);
        for (used = bytes.size; bytes.data[used - 1] == 0;)
            used--;
        for (size_t size = 0; size < bytes.size; size += 13) {
            write_file(env, path, bytes.data, size);
            CHECK_STATUS(summary(env, &last, &err), MR_CORRUPT);
        }
        write_file(env, path, bytes.data, bytes.size);
        CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE, &file, &err), &err);
        for (size_t bit = 0; bit < used * 8; bit += step) {
            uint8_t flipped = (uint8_t)(bytes.data[bit / 8] ^ 1u << bit % 8);
            enum mr_status status;

            CHECK_OK(mr_env_pwrite(env, file, &flipped, 1, bit / 8, &err), &err);
            status = summary(env, &last, &err);
            if (status != MR_CORRUPT && status != MR_VERSION)
                FAIL("'%s': bit %zu flipped gives %d, last block %" PRIu64, path, bit, (int)status,
                     last);
            CHECK_OK(mr_env_pwrite(env, file, &bytes.data[bit / 8], 1, bit / 8, &err), &err);
        }
        mr_env_close(env, file);
    }
    CHECK_OK(summary(env, &last, &err), &err);
    CHECK_EQ_UINT(last, 12);
    mr__segment_list_release(&segments);
    mr_sim_free(sim);
}

TEST(B5_a_hole_in_a_closed_block_file_loses_no_block_unnoticed)
{
    struct mr_segment_list segments;
    struct mr_sim *sim = make_blocks(&segments);
    struct mr_env *env = mr_sim_env(sim);
    struct file_bytes bytes, copy;
    struct mr_error err = {0};
    uint64_t last;

    for (size_t k = 0; k < segments.count; k++) {
        const char *path = segment_path(segments.numbers[k]);

        read_file(env, path, &bytes);
        for (size_t at = 0; at + 512 <= bytes.size; at += 512) {
            copy = bytes;
            memset(copy.data + at, 0, 512);
            write_file(env, path, copy.data, copy.size);
            if (summary(env, &last, &err) != MR_CORRUPT && last != 12)
                FAIL("'%s': a hole at %zu leaves last block %" PRIu64, path, at, last);
        }
        write_file(env, path, bytes.data, bytes.size);
    }
    mr__segment_list_release(&segments);
    mr_sim_free(sim);
}

TEST(B9_a_missing_block_file_is_noticed)
{
    struct mr_segment_list segments;
    struct mr_sim *sim = make_blocks(&segments);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    uint64_t last;

    CHECK(segments.count >= 2);
    for (size_t k = 1; k < segments.count; k++) {
        const char *path = segment_path(segments.numbers[k]);
        struct file_bytes bytes;

        read_file(env, path, &bytes);
        CHECK_OK(mr_env_unlink(env, path, &err), &err);
        CHECK_FAILS(summary(env, &last, &err), &err, MR_CORRUPT, "missing");
        write_file(env, path, bytes.data, bytes.size);
    }
    mr__segment_list_release(&segments);
    mr_sim_free(sim);
}

TEST(a_damaged_block_is_noticed_when_it_is_read)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_block_log *log = open_blocks(env, 1 << 20, 0, 0); /* nothing stays in memory */
    struct mr_buf data = MR_BUF_INIT;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    append_blocks(log, 1, 3, 1);
    check_block(log, 3);
    CHECK_OK(mr_env_open(env, segment_path(1), MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, "!", 1, 512 + 60, &err), &err);
    mr_env_close(env, file);
    CHECK_FAILS(mr_block_log_read(log, 1, &data, &err), &err, MR_CORRUPT, "block 1");
    mr_buf_release(&data);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- threads */

enum { THREAD_BLOCKS = 400 };

static void append_in_thread(void *arg)
{
    append_blocks(arg, 1, THREAD_BLOCKS, 3);
}

TEST(readers_and_a_purge_run_beside_the_appender)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 4000, 0);
    struct mr_thread *thread = NULL;
    struct mr_error err = {0};
    uint64_t next = 1;

    CHECK_OK(mr_thread_start("appender", append_in_thread, log, &thread, &err), &err);
    while (next <= THREAD_BLOCKS) {
        uint64_t last = mr_block_log_last(log);

        for (; next <= last; next++)
            check_block(log, next);
        CHECK(mr_block_log_first(log) <= next);
        CHECK_OK(mr_block_log_purge(log, next > 20 ? next - 20 : 1, &err), &err);
    }
    mr_thread_join(thread);
    CHECK_EQ_UINT(mr_block_log_last(log), THREAD_BLOCKS);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- power loss */

struct durable {
    uint64_t op_count; /* from here on ... */
    uint64_t last;     /* ... so many blocks are durable */
};

struct crash_run {
    struct durable history[64];
    size_t history_count;
    uint64_t appended;
    uint64_t states;
    unsigned depth;
};

static void run_recovery(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct crash_run *run = arg;
    struct mr_block_log_config config = {4096, 2000, 0, false};
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};
    uint64_t least = 0, last;

    for (size_t i = 0; i < run->history_count && run->depth == 1; i++) {
        if (run->history[i].op_count <= crash->op_count)
            least = run->history[i].last;
    }
    if (run->depth == 2)
        least = run->history[0].last;
    config.min_last = least;
    run->states++;
    if (mr_durable_mkdirs(mr_sim_env(after), DIR, NULL) != MR_OK ||
        mr_block_log_open(mr_sim_env(after), DIR, &config, &log, &err) != MR_OK)
        FAIL("%s: %s", crash->text, err.text);
    last = mr_block_log_last(log);
    if (last < least || last > run->appended)
        FAIL("%s: last block %" PRIu64 ", %" PRIu64 " were durable", crash->text, last, least);
    for (uint64_t n = mr_block_log_first(log); n <= last; n++)
        check_block(log, n);
    append_blocks(log, last + 1, last + 1, 1);
    check_block(log, last + 1);
    mr_block_log_close(log);
    if (run->depth == 1 && crash->number % 16 == 0) { /* a second crash inside that recovery */
        struct crash_run second = {.history_count = 1, .appended = run->appended + 1, .depth = 2};

        second.history[0].last = least;
        mr_sim_crash_everywhere(after, 0, 6, crash->number, run_recovery, &second);
        run->states += second.states;
    }
}

TEST(A18_A21_no_power_loss_takes_a_durable_block)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 4096, 1 << 20, 0);
    struct crash_run run = {.depth = 1, .appended = 14};
    struct mr_error err = {0};

    for (uint64_t n = 1; n <= 14; n += 2) {
        append_block(log, n);
        append_block(log, n + 1);
        CHECK_OK(mr_block_log_sync(log, &err), &err);
        run.history[run.history_count++] = (struct durable){mr_sim_op_count(sim), n + 1};
    }
    mr_block_log_close(log);
    mr_sim_crash_everywhere(sim, 0, test_quick() ? 16 : 64, 1, run_recovery, &run);
    CHECK(run.states > 100);
    printf("# %" PRIu64 " crash states\n", run.states);
    mr_sim_free(sim);
}
