/*
 * The log of received blocks, as a course of appends, flushes, purges and deaths drawn from the
 * input, then with damaged files. Blocks that were flushed are there after a death, byte for byte;
 * a log whose files were damaged opens with blocks that were written, or not at all; the check that
 * only reads changes nothing.
 */
#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "wal/block_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "/received/r"
enum { STEPS_MAX = 40, BLOCK_BYTES_MAX = 1500, FILES_MAX = 16 };

struct blocks {
    struct mr_sim *sim;
    struct mr_block_log *log;
    struct mr_block_log_config config;
    uint64_t appended; /* number of the newest */
    uint64_t synced;
    bool damaged;
};

/* Block n. */
static struct mr_block_data block_of(uint64_t n, char *data)
{
    size_t size = 1 + (size_t)(n * 397 % BLOCK_BYTES_MAX);

    memset(data, 'a' + (int)(n % 26), size);
    return (struct mr_block_data){data, size, n, (int64_t)n * 1000, n % 3 == 0 ? "third" : NULL};
}

static void check_block(struct blocks *blocks, uint64_t n)
{
    char data[BLOCK_BYTES_MAX + 1];
    struct mr_block_data want = block_of(n, data);
    struct mr_buf have = MR_BUF_INIT, metadata = MR_BUF_INIT;
    struct mr_block_info info;
    struct mr_error err = {0};

    if (mr_block_log_read(blocks->log, n, &have, &err) == MR_OK &&
        mr_block_log_info(blocks->log, n, &info, &err) == MR_OK &&
        mr_block_log_metadata(blocks->log, n, &metadata, &err) == MR_OK) {
        if (blocks->damaged && have.size == 0 && n == mr_block_log_last(blocks->log)) {
            /* A segment that lost all its blocks looks like one that a crash left empty behind a
             * rotation: an empty block takes its number. */
            FUZZ_CHECK(info.record_count == 0 && metadata.size == 0);
            goto done;
        }
        FUZZ_CHECK(have.size == want.size_bytes && memcmp(have.data, data, have.size) == 0);
        FUZZ_CHECK(info.number == n && info.record_count == n &&
                   info.received_us == want.received_us);
        FUZZ_CHECK((metadata.size > 0) == (want.metadata != NULL));
    } else {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_IO, MR_DATA_LOSS);
        FUZZ_CHECK(err.status != MR_DATA_LOSS);
    }
done:
    mr_buf_release(&have);
    mr_buf_release(&metadata);
}

/* False: it cannot be opened, which err tells. */
static bool open_log(struct blocks *blocks, uint64_t least, struct mr_error *err)
{
    uint64_t last;

    if (mr_durable_mkdirs(mr_sim_env(blocks->sim), DIR, err) != MR_OK ||
        mr_block_log_open(mr_sim_env(blocks->sim), DIR, &blocks->config, &blocks->log, err) !=
            MR_OK) {
        blocks->log = NULL;
        return false;
    }
    last = mr_block_log_last(blocks->log);
    FUZZ_CHECK(last >= least && last <= blocks->appended);
    for (uint64_t n = MR_MAX(mr_block_log_first(blocks->log), (uint64_t)1); n <= last; n++)
        check_block(blocks, n);
    blocks->appended = blocks->synced = last;
    return true;
}

static void close_log(struct blocks *blocks)
{
    if (blocks->log != NULL)
        mr_block_log_close(blocks->log);
    blocks->log = NULL;
}

static void die(struct blocks *blocks, struct mr_sim *after)
{
    close_log(blocks);
    mr_sim_free(blocks->sim);
    blocks->sim = after;
}

static bool step(struct blocks *blocks, struct fuzz_input *input, struct mr_error *err)
{
    char data[BLOCK_BYTES_MAX + 1];
    struct mr_block_data block = block_of(blocks->appended + 1, data);
    uint8_t what = fuzz_byte(input);
    uint64_t number = 0;

    switch (what % 8) {
    case 4:
        if (mr_block_log_sync(blocks->log, err) != MR_OK)
            return false;
        blocks->synced = blocks->appended;
        return true;
    case 5:
        return mr_block_log_purge(blocks->log, blocks->synced / 2, err) == MR_OK;
    case 6:
        close_log(blocks);
        return open_log(blocks, blocks->synced, err);
    case 7:
        die(blocks, (what & 8) != 0 ? mr_sim_kill(blocks->sim, mr_sim_op_count(blocks->sim))
                                    : mr_sim_power_loss(blocks->sim, mr_sim_op_count(blocks->sim)));
        return open_log(blocks, blocks->synced, err);
    default:
        if (mr_block_log_append(blocks->log, &block, &number, err) != MR_OK)
            return false;
        blocks->appended++;
        FUZZ_CHECK(number == blocks->appended);
        return true;
    }
}

/* ---- damage ---- */

struct names {
    char items[FILES_MAX][64];
    size_t count;
};

static bool note_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct names *names = arg;

    if (kind == MR_KIND_FILE && names->count < FILES_MAX && strlen(name) < 40)
        (void)snprintf(names->items[names->count++], 64, DIR "/%s", name);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void damage(struct mr_sim *sim, struct fuzz_input *input)
{
    struct mr_env *env = mr_sim_env(sim);
    struct names names = {.count = 0};
    struct mr_file *file = NULL;
    struct mr_file_info info;
    const char *path;
    uint8_t bytes[64], how = fuzz_byte(input);
    uint64_t at;

    (void)mr_env_list(env, DIR, note_name, &names, NULL);
    if (names.count == 0)
        return;
    qsort(names.items, names.count, sizeof names.items[0], by_name);
    path = names.items[fuzz_below(input, (uint32_t)names.count)];
    if (mr_env_open(env, path, MR_FILE_WRITE, &file, NULL) != MR_OK)
        return;
    (void)mr_env_file_info(env, file, &info, NULL);
    at = info.size_bytes == 0 ? 0 : fuzz_below(input, 65536) % info.size_bytes;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (how & 4) != 0 ? fuzz_byte(input) : 0;
    if (how % 4 == 0)
        (void)mr_env_truncate(env, file, at, NULL);
    else
        (void)mr_env_pwrite(env, file, bytes, 1U << how % 7, at, NULL);
    mr_env_close(env, file);
    if (how % 32 == 31)
        (void)mr_env_unlink(env, path, NULL);
}

static void check_damaged(struct blocks *blocks, struct fuzz_input *input)
{
    uint64_t first = 0, last = 0, hash;
    struct mr_error err = {0};
    enum mr_status verified;

    for (uint32_t count = 1 + fuzz_below(input, 2); count > 0; count--)
        damage(blocks->sim, input);
    blocks->damaged = true;
    hash = mr_sim_disk_hash(blocks->sim);
    verified = mr_block_log_verify(mr_sim_env(blocks->sim), DIR, &first, &last, &err);
    if (verified != MR_OK)
        fuzz_refused(__FILE__, __LINE__, &err, MR_CORRUPT, MR_VERSION, MR_IO);
    FUZZ_CHECK(mr_sim_disk_hash(blocks->sim) == hash);
    if (!open_log(blocks, 0, &err)) {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_VERSION, MR_DATA_LOSS);
        FUZZ_CHECK(strstr(err.text, DIR) != NULL);
    }
}

static void one(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_of(data, size);
    struct blocks blocks = {.sim = mr_sim_new(1)};
    struct mr_error err = {0};
    uint8_t choice = fuzz_byte(&input);
    bool alive;

    blocks.config = (struct mr_block_log_config){
        .segment_bytes = (choice & 1) != 0 ? 4096 : 65536,
        .memory_bytes = (choice & 2) != 0 ? 0 : 1 << 20,
    };
    alive = open_log(&blocks, 0, &err);
    for (int i = 0; i < STEPS_MAX && alive && !fuzz_is_empty(&input); i++)
        alive = step(&blocks, &input, &err);
    if (!alive)
        FUZZ_REFUSED(&err, MR_NOMEM);
    close_log(&blocks);
    if (alive && (choice & 4) != 0)
        check_damaged(&blocks, &input);
    close_log(&blocks);
    mr_sim_free(blocks.sim);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
