/*
 * The received-block log: what it keeps, where it reads from, which damage it notices (faults.md
 * A18-A21, B1-B9).
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "env/sim.h"
#include "env/thread.h"
#include "support/test.h"
#include "wal/block_files.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define DIR "/received"

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static struct mr_block_log *open_blocks(struct mr_env *env, uint64_t segment_bytes,
                                        uint64_t memory_bytes, uint64_t min_last)
{
    struct mr_block_log_config config = {
        .segment_bytes = segment_bytes, .memory_bytes = memory_bytes, .min_last = min_last};
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
    const struct mr_block_data block = {
        .data = data,
        .size_bytes = (size_t)(n * 37 % sizeof(data)),
        .record_count = n,
        .received_us = (int64_t)n * 1000,
        .metadata = n % 5 == 0 ? "a block of five" : NULL,
    };
    struct mr_error err = {0};
    uint64_t number = 0;

    memset(data, 'a' + (int)(n % 26), sizeof(data));
    CHECK_OK(mr_block_log_append(log, &block, &number, &err), &err);
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

TEST(A20_V241_blocks_are_the_same_after_a_restart_and_numbers_go_on)
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

TEST(V221_V223_old_blocks_are_read_from_the_disk_when_memory_is_short)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 3000, 0);

    append_blocks(log, 1, 60, 4);
    for (uint64_t n = 1; n <= 60; n++)
        check_block(log, n);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(V220_V244_purge_removes_whole_segments_and_keeps_what_is_needed)
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

TEST(V256_without_files_everything_stays_until_it_is_purged)
{
    struct mr_block_log_config config = {
        .segment_bytes = 8192, .memory_bytes = 100, .volatile_only = true};
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
    struct mr_block_log_config config = {
        .segment_bytes = 8192, .memory_bytes = 1 << 20, .min_last = 11};
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

TEST(B2_B3_V245_V250_every_cut_and_every_flipped_bit_of_a_block_file_is_noticed)
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

TEST(B9_V251_a_missing_block_file_is_noticed)
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

/* ---------------------------------------------------------------- metadata */

TEST(a_block_keeps_its_metadata_through_a_restart)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 0, 0);
    struct mr_buf text = MR_BUF_INIT;
    struct mr_error err = {0};

    append_blocks(log, 1, 12, 2);
    for (int i = 0; i < 2; i++) {
        mr_buf_clear(&text);
        for (uint64_t n = 1; n <= 12; n++) {
            CHECK_OK(mr_block_log_metadata(log, n, &text, &err), &err);
            check_block(log, n);
        }
        CHECK_EQ_STR(text.data, "a block of five\na block of five\n");
        mr_block_log_close(log);
        log = open_blocks(mr_sim_env(sim), 8192, 0, 0);
    }
    mr_buf_release(&text);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- spare files */

static uint64_t count_files(struct mr_env *env, const char *dir, const char *suffix)
{
    struct mr_segment_list list = {0};
    struct mr_error err = {0};
    uint64_t count;

    CHECK_OK(mr__segment_list(env, dir, suffix, &list, &err), &err);
    count = list.count;
    mr__segment_list_release(&list);
    return count;
}

TEST(purged_segments_become_new_ones_and_old_blocks_do_not_come_back)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 8192, 0, 0);
    struct mr_error err = {0};
    uint64_t first;

    for (uint64_t n = 1; n <= 300; n++) {
        append_blocks(log, n, n, 1);
        if (n % 10 == 0)
            CHECK_OK(mr_block_log_purge(log, n - 5, &err), &err);
        if (n % 70 == 0) {
            first = mr_block_log_first(log);
            mr_block_log_close(log);
            log = open_blocks(mr_sim_env(sim), 8192, 0, n);
            CHECK_EQ_UINT(mr_block_log_first(log), first);
            CHECK_EQ_UINT(mr_block_log_last(log), n);
        }
        for (uint64_t k = mr_block_log_first(log); k <= n; k++)
            check_block(log, k);
    }
    CHECK(count_files(mr_sim_env(sim), DIR, ".spare") >= 1);
    CHECK(count_files(mr_sim_env(sim), DIR, ".spare") <= MR_BLOCK_SPARES_MAX);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(segments_made_ahead_hold_blocks_like_others)
{
    struct mr_block_log_config config = {.segment_bytes = 8192, .prepares = true};
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_open(mr_sim_env(sim), DIR, &config, &log, &err), &err);
    append_blocks(log, 1, 100, 3);
    while (count_files(mr_sim_env(sim), DIR, ".spare") == 0)
        ; /* the preparer is on its way */
    append_blocks(log, 101, 200, 3);
    mr_block_log_close(log);
    log = open_blocks(mr_sim_env(sim), 8192, 0, 200);
    for (uint64_t n = 1; n <= 200; n++)
        check_block(log, n);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- two copies */

#define COPY "/other/received"

struct copies {
    struct mr_sim *sim;
    struct mr_env *env;
    struct mr_block_log *log;
    int lost, repaired;
};

static void note_event(void *arg, enum mr_block_event event)
{
    struct copies *copies = arg;

    copies->lost += event == MR_BLOCK_COPY_LOST;
    copies->repaired += event == MR_BLOCK_COPY_REPAIRED;
}

static enum mr_status open_copies(struct copies *copies, uint64_t min_last, struct mr_error *err)
{
    struct mr_block_log_config config = {
        .segment_bytes = 8192,
        .min_last = min_last,
        .copy_dir = COPY,
        .event = note_event,
        .event_arg = copies,
    };

    return mr_block_log_open(copies->env, DIR, &config, &copies->log, err);
}

static void new_copies(struct copies *copies, uint64_t blocks)
{
    struct mr_error err = {0};

    mr_log_set_sink(quiet, NULL);
    *copies = (struct copies){.sim = new_disk()};
    copies->env = mr_sim_env(copies->sim);
    CHECK_OK(open_copies(copies, 0, &err), &err);
    append_blocks(copies->log, 1, blocks, 3);
}

static void check_all(struct copies *copies, uint64_t last)
{
    CHECK_EQ_UINT(mr_block_log_last(copies->log), last);
    for (uint64_t n = mr_block_log_first(copies->log); n <= last; n++)
        check_block(copies->log, n);
}

static void free_copies(struct copies *copies)
{
    mr_block_log_close(copies->log);
    mr_sim_free(copies->sim);
}

/* Both directories hold the same blocks, whole. */
static void check_same(struct copies *copies, uint64_t last)
{
    const char *const dirs[] = {DIR, COPY};

    for (size_t i = 0; i < 2; i++) {
        struct mr_error err = {0};
        uint64_t first = 0, found = 0;

        CHECK_OK(mr_block_log_verify(copies->env, dirs[i], &first, &found, &err), &err);
        CHECK_EQ_UINT(found, last);
    }
}

static bool remove_one(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    (void)kind;
    mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

static void remove_files(struct mr_env *env, const char *dir)
{
    struct mr_buf names = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(env, dir, remove_one, &names, &err), &err);
    for (size_t at = 0; at < names.size; at += strlen(names.data + at) + 1) {
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", dir, names.data + at);
        CHECK_OK(mr_env_unlink(env, path, &err), &err);
    }
    mr_buf_release(&names);
}

TEST(the_files_of_one_copy_go_while_blocks_come_and_nothing_is_lost)
{
    const char *const dirs[] = {DIR, COPY};

    for (size_t i = 0; i < 2; i++) {
        struct copies copies;

        new_copies(&copies, 40);
        remove_files(copies.env, dirs[i]);
        append_blocks(copies.log, 41, 60, 2);
        CHECK_EQ_INT(copies.lost, 1);
        CHECK_EQ_INT(copies.repaired, 1);
        check_all(&copies, 60);
        mr_block_log_close(copies.log);
        copies.log = NULL;
        check_same(&copies, 60);
        free_copies(&copies);
    }
}

TEST(a_copy_whose_file_was_replaced_is_lost_and_repaired)
{
    struct copies copies;
    struct mr_error err = {0};
    char name[64], *data = NULL;
    size_t size = 0;

    new_copies(&copies, 1);
    snprintf(name, sizeof(name), "%s", strrchr(segment_path(1), '/') + 1);
    CHECK_OK(mr_durable_get(copies.env, segment_path(1), 1 << 20, &data, &size, &err), &err);
    CHECK_OK(mr_durable_put(copies.env, COPY, name, data, size, false, &err), &err);
    append_blocks(copies.log, 2, 3, 1);
    CHECK_EQ_INT(copies.lost, 1);
    CHECK_EQ_INT(copies.repaired, 1);
    mr_text_free(data);
    free_copies(&copies);
}

TEST(a_copy_that_is_damaged_itself_is_no_copy_to_repair_from)
{
    struct copies copies;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    new_copies(&copies, 40);
    CHECK_OK(mr_env_open(copies.env, segment_path(1), MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(copies.env, file, "!", 1, 512 + 60, &err), &err);
    mr_env_close(copies.env, file);
    remove_files(copies.env, COPY);
    append_blocks(copies.log, 41, 42, 1);
    CHECK_EQ_INT(copies.lost, 1);
    CHECK_EQ_INT(copies.repaired, 0);
    free_copies(&copies);
}

TEST(a_block_that_is_damaged_in_one_copy_is_read_from_the_other_and_repaired)
{
    struct copies copies;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    new_copies(&copies, 40);
    CHECK_OK(mr_env_open(copies.env, segment_path(1), MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(copies.env, file, "!", 1, 512 + 60, &err), &err);
    mr_env_close(copies.env, file);
    check_all(&copies, 40);
    CHECK_EQ_INT(copies.lost, 1);
    append_blocks(copies.log, 41, 41, 1);
    CHECK_EQ_INT(copies.repaired, 1);
    mr_block_log_close(copies.log);
    copies.log = NULL;
    check_same(&copies, 41);
    free_copies(&copies);
}

TEST(a_copy_that_is_damaged_empty_or_behind_is_made_again_at_the_start)
{
    enum { DAMAGED, EMPTY, BEHIND, CASES };

    for (int i = 0; i < CASES; i++) {
        struct copies copies;
        struct mr_error err = {0};

        new_copies(&copies, 40);
        mr_block_log_close(copies.log);
        if (i == DAMAGED) {
            struct mr_file *file = NULL;

            CHECK_OK(mr_env_open(copies.env, segment_path(1), MR_FILE_WRITE, &file, &err), &err);
            CHECK_OK(mr_env_pwrite(copies.env, file, "!", 1, 512 + 60, &err), &err);
            mr_env_close(copies.env, file);
        } else if (i == EMPTY) {
            remove_files(copies.env, DIR);
        } else { /* a run without the copy */
            copies.log = open_blocks(copies.env, 8192, 0, 0);
            append_blocks(copies.log, 41, 45, 1);
            mr_block_log_close(copies.log);
        }
        CHECK_OK(open_copies(&copies, 40, &err), &err);
        CHECK_EQ_INT(copies.lost, 1);
        CHECK_EQ_INT(copies.repaired, 1);
        append_blocks(copies.log, i == BEHIND ? 46 : 41, 50, 1);
        check_all(&copies, 50);
        mr_block_log_close(copies.log);
        copies.log = NULL;
        check_same(&copies, 50);
        free_copies(&copies);
    }
}

TEST(copies_of_two_histories_and_two_damaged_ones_are_refused)
{
    struct copies copies;
    struct mr_block_log_config config = {.segment_bytes = 8192};
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    new_copies(&copies, 40);
    mr_block_log_close(copies.log);
    remove_files(copies.env, COPY);
    CHECK_OK(mr_block_log_open(copies.env, COPY, &config, &copies.log, &err), &err);
    append_blocks(copies.log, 1, 1, 1);
    mr_block_log_close(copies.log); /* its CLOSE is part of the history */
    CHECK_OK(mr_block_log_open(copies.env, COPY, &config, &copies.log, &err), &err);
    append_blocks(copies.log, 2, 39, 7);
    mr_block_log_close(copies.log);
    CHECK_FAILS(open_copies(&copies, 0, &err), &err, MR_CONFIG, "hold different ones");
    remove_files(copies.env, COPY);
    CHECK_OK(mr_env_open(copies.env, segment_path(1), MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(copies.env, file, "!", 1, 512 + 60, &err), &err);
    mr_env_close(copies.env, file);
    CHECK_FAILS(open_copies(&copies, 0, &err), &err, MR_CORRUPT, "restore");
    mr_sim_free(copies.sim);
}

TEST(a_disk_that_fails_under_one_copy_does_not_stop_the_log)
{
    struct copies copies;
    struct mr_error err = {0};

    new_copies(&copies, 10);
    for (uint64_t n = 11; n <= 40; n++) {
        mr_sim_fail_at(copies.sim, 1 + n % 4, EIO, false);
        append_blocks(copies.log, n, n, 1);
        mr_sim_fail_at(copies.sim, 0, 0, false);
    }
    CHECK(copies.lost > 5);
    check_all(&copies, 40);
    append_blocks(copies.log, 41, 60, 1); /* a rotation tries to repair what could not be */
    mr_block_log_close(copies.log);
    CHECK_OK(open_copies(&copies, 60, &err), &err);
    check_all(&copies, 60);
    mr_block_log_close(copies.log);
    copies.log = NULL;
    check_same(&copies, 60);
    free_copies(&copies);
}

/* ---------------------------------------------------------------- spilling */

TEST(without_files_what_finds_no_room_in_memory_goes_to_files_and_they_go_with_it)
{
    struct mr_block_log_config config = {
        .memory_bytes = 5000, .volatile_only = true, .spill_dir = "/spill/in"};
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};
    uint64_t syncs;

    CHECK_OK(mr_block_log_open(mr_sim_env(sim), NULL, &config, &log, &err), &err);
    CHECK_EQ_UINT(mr_sim_op_count(sim), 0);
    append_blocks(log, 1, 30, 1);
    syncs = mr_sim_sync_count(sim);
    append_blocks(log, 31, 60, 3);
    CHECK_EQ_UINT(mr_sim_sync_count(sim), syncs); /* nothing is durable */
    for (uint64_t n = 1; n <= 60; n++)
        check_block(log, n);
    CHECK_OK(mr_block_log_purge(log, 50, &err), &err);
    append_blocks(log, 61, 62, 1);
    for (uint64_t n = 50; n <= 62; n++)
        check_block(log, n);
    mr_block_log_close(log);
    CHECK_STATUS(mr_env_list(mr_sim_env(sim), "/spill/in", remove_one, NULL, &err), MR_NOT_FOUND);
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

enum { PUTTERS = 8, PUTS = 40 };

struct putter {
    struct mr_block_log *log;
    atomic_uint_fast64_t seen[PUTTERS * PUTS + 1];
};

/* Each put returns when its block can be read. */
static void put_in_thread(void *arg)
{
    struct putter *putter = arg;
    const struct mr_block_data block = {.data = "block", .size_bytes = 5, .record_count = 1};

    for (int i = 0; i < PUTS; i++) {
        struct mr_buf data = MR_BUF_INIT;
        struct mr_error err = {0};
        uint64_t number = 0;

        CHECK_OK(mr_block_log_put(putter->log, &block, &number, &err), &err);
        CHECK(mr_block_log_last(putter->log) >= number);
        CHECK_OK(mr_block_log_read(putter->log, number, &data, &err), &err);
        atomic_fetch_add(&putter->seen[number], 1);
        mr_buf_release(&data);
    }
}

TEST(many_threads_put_and_each_block_is_there_once)
{
    struct mr_sim *sim = new_disk();
    struct putter putter = {.log = open_blocks(mr_sim_env(sim), 8192, 4000, 0)};
    struct mr_thread *threads[PUTTERS];
    struct mr_error err = {0};

    for (int i = 0; i < PUTTERS; i++)
        CHECK_OK(mr_thread_start("putter", put_in_thread, &putter, &threads[i], &err), &err);
    for (int i = 0; i < PUTTERS; i++)
        mr_thread_join(threads[i]);
    CHECK_EQ_UINT(mr_block_log_last(putter.log), PUTTERS * PUTS);
    for (int i = 1; i <= PUTTERS * PUTS; i++)
        CHECK_EQ_UINT(atomic_load(&putter.seen[i]), 1);
    mr_block_log_close(putter.log);
    mr_sim_free(sim);
}

/*
 * A disk whose flushes wait for the test: what comes meanwhile must share the next one. Everything
 * else is the simulated disk's.
 */
struct gate {
    struct mr_env env;
    struct mr_env_ops ops;
    struct mr_env *inner;
    struct mr_mutex lock;
    struct mr_cond changed;
    int waiting; /* flushes that have come */
    int allowed;
    bool fails;
};

static struct mr_env *inner_of(struct mr_env *env)
{
    return ((struct gate *)env)->inner;
}

static enum mr_status gate_open(struct mr_env *env, const char *path, unsigned flags,
                                struct mr_file **ret_file, struct mr_error *err)
{
    return mr_env_open(inner_of(env), path, flags, ret_file, err);
}
static void gate_close(struct mr_env *env, struct mr_file *file)
{
    mr_env_close(inner_of(env), file);
}
static enum mr_status gate_pread(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                                 uint64_t offset, size_t *ret_read, struct mr_error *err)
{
    return mr_env_pread(inner_of(env), file, data, size, offset, ret_read, err);
}
static enum mr_status gate_pwrite(struct mr_env *env, struct mr_file *file, const void *data,
                                  size_t size, uint64_t offset, struct mr_error *err)
{
    return mr_env_pwrite(inner_of(env), file, data, size, offset, err);
}
static enum mr_status gate_sync(struct mr_env *env, struct mr_file *file, struct mr_error *err)
{
    struct gate *gate = (struct gate *)env;
    bool fails;

    mr_mutex_lock(&gate->lock);
    gate->waiting++;
    mr_cond_broadcast(&gate->changed);
    while (gate->allowed == 0)
        mr_cond_wait(&gate->changed, &gate->lock);
    gate->allowed--;
    fails = gate->fails;
    mr_mutex_unlock(&gate->lock);
    if (fails)
        return MR_FAIL(err, MR_IO, "the disk is gone");
    return mr_env_sync(inner_of(env), file, err);
}
static enum mr_status gate_file_info(struct mr_env *env, struct mr_file *file,
                                     struct mr_file_info *ret_info, struct mr_error *err)
{
    return mr_env_file_info(inner_of(env), file, ret_info, err);
}
static enum mr_status gate_path_info(struct mr_env *env, const char *path, bool follow,
                                     struct mr_file_info *ret_info, struct mr_error *err)
{
    return mr_env_path_info(inner_of(env), path, follow, ret_info, err);
}
static enum mr_status gate_rename(struct mr_env *env, const char *from, const char *to,
                                  bool no_replace, struct mr_error *err)
{
    return mr_env_rename(inner_of(env), from, to, no_replace, err);
}
static enum mr_status gate_unlink(struct mr_env *env, const char *path, struct mr_error *err)
{
    return mr_env_unlink(inner_of(env), path, err);
}
static enum mr_status gate_mkdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    return mr_env_mkdir(inner_of(env), path, err);
}
static enum mr_status gate_list(struct mr_env *env, const char *path, mr_dir_visit_fn visit,
                                void *arg, struct mr_error *err)
{
    return mr_env_list(inner_of(env), path, visit, arg, err);
}
static enum mr_status gate_sync_dir(struct mr_env *env, const char *path, struct mr_error *err)
{
    return mr_env_sync_dir(inner_of(env), path, err);
}
static void gate_random(struct mr_env *env, void *data, size_t size)
{
    mr_env_random(inner_of(env), data, size);
}

static void gate_init(struct gate *gate, struct mr_env *inner)
{
    *gate = (struct gate){.inner = inner, .allowed = 1000};
    gate->ops = (struct mr_env_ops){
        .struct_size = sizeof(gate->ops),
        .open = gate_open,
        .close = gate_close,
        .pread = gate_pread,
        .pwrite = gate_pwrite,
        .sync = gate_sync,
        .file_info = gate_file_info,
        .path_info = gate_path_info,
        .rename = gate_rename,
        .unlink = gate_unlink,
        .mkdir = gate_mkdir,
        .list = gate_list,
        .sync_dir = gate_sync_dir,
        .random = gate_random,
    };
    gate->env.ops = &gate->ops;
    mr_mutex_init(&gate->lock);
    mr_cond_init(&gate->changed);
}

static void gate_allow(struct gate *gate, int flushes, bool fails)
{
    mr_mutex_lock(&gate->lock);
    gate->allowed = flushes;
    gate->fails = fails;
    mr_cond_broadcast(&gate->changed);
    mr_mutex_unlock(&gate->lock);
}

static void gate_wait(struct gate *gate, int flushes)
{
    mr_mutex_lock(&gate->lock);
    while (gate->waiting < flushes)
        mr_cond_wait(&gate->changed, &gate->lock);
    mr_mutex_unlock(&gate->lock);
}

struct late {
    struct mr_block_log *log;
    atomic_int appended;
    enum mr_status status;
    struct mr_error err;
};

/* Appends, says so, and waits for the flush. */
static void append_and_sync(void *arg)
{
    struct late *late = arg;
    const struct mr_block_data block = {.data = "late", .size_bytes = 4, .record_count = 1};
    uint64_t number = 0;

    late->status = mr_block_log_append(late->log, &block, &number, &late->err);
    atomic_fetch_add(&late->appended, 1);
    if (late->status == MR_OK)
        late->status = mr_block_log_sync(late->log, &late->err);
}

enum { LATE = 4 };

/* One flush is on its way, four more blocks have come: then the disk answers. */
static void run_late(struct gate *gate, struct mr_block_log *log, struct late *lates, bool fails)
{
    struct late first = {.log = log};
    struct mr_thread *threads[LATE + 1];
    struct mr_error err = {0};
    int before = gate->waiting;

    gate_allow(gate, 0, fails);
    CHECK_OK(mr_thread_start("first", append_and_sync, &first, &threads[LATE], &err), &err);
    gate_wait(gate, before + 1);
    for (int i = 0; i < LATE; i++) {
        lates[i] = (struct late){.log = log};
        CHECK_OK(mr_thread_start("late", append_and_sync, &lates[i], &threads[i], &err), &err);
    }
    for (int i = 0; i < LATE; i++) {
        while (atomic_load(&lates[i].appended) == 0)
            ;
    }
    gate_allow(gate, 2, fails);
    for (int i = 0; i <= LATE; i++)
        mr_thread_join(threads[i]);
    CHECK_EQ_INT(gate->waiting - before, fails ? 1 : 2);
    CHECK_EQ_INT(first.status, fails ? MR_IO : MR_OK);
}

TEST(V253_V254_blocks_that_come_while_a_flush_is_on_its_way_share_the_next_and_its_failure)
{
    struct mr_block_log_config config = {.segment_bytes = 1 << 20, .memory_bytes = 1 << 20};
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = NULL;
    struct late lates[LATE];
    struct mr_error err = {0};
    struct gate gate;

    gate_init(&gate, mr_sim_env(sim));
    CHECK_OK(mr_block_log_open(&gate.env, DIR, &config, &log, &err), &err);
    append_blocks(log, 1, 1, 1);
    run_late(&gate, log, lates, false);
    CHECK_EQ_UINT(mr_block_log_last(log), 1 + 1 + LATE);
    run_late(&gate, log, lates, true);
    for (int i = 0; i < LATE; i++)
        CHECK_CONTAINS(lates[i].err.text, "the disk is gone");
    CHECK_EQ_UINT(mr_block_log_last(log), 1 + 1 + LATE);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(V239_an_old_segment_that_is_put_back_changes_nothing_or_is_refused)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_block_log *log = open_blocks(env, 8192, 1 << 20, 0);
    struct mr_segment_list all = {0};
    struct file_bytes oldest, newer;
    struct mr_error err = {0};
    uint64_t last = 0;

    append_blocks(log, 1, 60, 3);
    CHECK_OK(mr__segment_list(env, DIR, MR_BLOCK_LOG_SUFFIX, &all, &err), &err);
    CHECK(all.count >= 4);
    read_file(env, segment_path(all.numbers[0]), &oldest);
    read_file(env, segment_path(all.numbers[1]), &newer);
    CHECK_OK(mr_block_log_purge(log, all.numbers[2], &err), &err);
    CHECK_EQ_UINT(mr_block_log_first(log), all.numbers[2]);
    mr_block_log_close(log);
    write_file(env, segment_path(all.numbers[1]), newer.data, newer.size);
    CHECK_OK(summary(env, &last, &err), &err);
    CHECK_EQ_UINT(last, 60);
    CHECK_OK(mr_env_unlink(env, segment_path(all.numbers[1]), &err), &err);
    write_file(env, segment_path(all.numbers[0]), oldest.data, oldest.size);
    CHECK_FAILS(summary(env, &last, &err), &err, MR_CORRUPT, "missing");
    mr__segment_list_release(&all);
    mr_sim_free(sim);
}

TEST(V254_after_a_failed_flush_everything_is_refused)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 1 << 20, 1 << 20, 0);
    const struct mr_block_data block = {.data = "block", .size_bytes = 5, .record_count = 1};
    struct mr_error err = {0};
    uint64_t number = 0;

    append_blocks(log, 1, 3, 1);
    mr_sim_fail_at(sim, 1, EIO, true);
    CHECK_STATUS(mr_block_log_put(log, &block, &number, &err), MR_IO);
    mr_sim_fail_at(sim, 0, 0, false);
    CHECK_FAILS(mr_block_log_put(log, &block, &number, &err), &err, MR_IO, "an earlier write");
    CHECK_EQ_UINT(mr_block_log_last(log), 3);
    mr_block_log_close(log);
    log = open_blocks(mr_sim_env(sim), 1 << 20, 1 << 20, 3);
    append_blocks(log, mr_block_log_last(log) + 1, 6, 1);
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

/* The empty block that a restart puts into a segment without blocks. */
static bool is_filler(struct mr_block_log *log, uint64_t n)
{
    struct mr_block_info info;

    CHECK_OK(mr_block_log_info(log, n, &info, NULL), NULL);
    return info.size_bytes == 0 && info.record_count == 0;
}

/* All blocks are there; those that were not durable may be such fillers. Returns their number. */
static uint64_t check_blocks(struct mr_block_log *log, uint64_t durable, uint64_t last)
{
    uint64_t fillers = 0;

    for (uint64_t n = mr_block_log_first(log); n <= last; n++) {
        if (n > durable && is_filler(log, n))
            fillers++;
        else
            check_block(log, n);
    }
    return fillers;
}

static void run_recovery(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct crash_run *run = arg;
    struct mr_block_log_config config = {.segment_bytes = 4096, .memory_bytes = 2000};
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
    if (last < least || last - check_blocks(log, least, last) > run->appended)
        FAIL("%s: last block %" PRIu64 ", %" PRIu64 " were durable", crash->text, last, least);
    append_blocks(log, last + 1, last + 1, 1);
    check_block(log, last + 1);
    mr_block_log_close(log);
    if (run->depth == 1 && crash->number % 16 == 0) { /* a second crash inside that recovery */
        struct crash_run second = {.history_count = 1, .appended = last + 1, .depth = 2};

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

TEST(A18_A21_no_power_loss_takes_a_block_of_a_segment_that_was_one_before)
{
    struct mr_sim *sim = new_disk();
    struct mr_block_log *log = open_blocks(mr_sim_env(sim), 4096, 0, 0);
    struct crash_run run = {.depth = 1};
    struct mr_error err = {0};
    uint64_t from, n = 1;

    for (; n <= 40; n++) { /* until purged segments are used again */
        append_blocks(log, n, n, 1);
        if (n % 4 == 0)
            CHECK_OK(mr_block_log_purge(log, n - 1, &err), &err);
    }
    from = mr_sim_op_count(sim);
    run.history[run.history_count++] = (struct durable){from, n - 1};
    for (; n <= 52; n++) {
        append_blocks(log, n, n, 1);
        run.history[run.history_count++] = (struct durable){mr_sim_op_count(sim), n};
        if (n % 4 == 0)
            CHECK_OK(mr_block_log_purge(log, n - 1, &err), &err);
    }
    run.appended = n - 1;
    mr_block_log_close(log);
    mr_sim_crash_everywhere(sim, from, test_quick() ? 8 : 32, 1, run_recovery, &run);
    CHECK(run.states > 100);
    printf("# %" PRIu64 " crash states\n", run.states);
    mr_sim_free(sim);
}
