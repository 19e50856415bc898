/*
 * A checkpoint directory as a whole. Bytes make a good one by the protocol, closed or killed, then
 * damage its files: flipped, cut, grown, zeroed, removed, copied over each other, put there from
 * the input. Opening it must give a version that was committed, or an error that names a file,
 * never anything else; the checks that only read must not change the disk, and must see what
 * opening sees.
 */
#include "fuzz/protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MAX = 64, PATH_BYTES = 300, FILE_BYTES_MAX = 2 << 20, DAMAGES_MAX = 3 };

struct files {
    char paths[FILES_MAX][PATH_BYTES];
    size_t count;
    struct mr_env *env;
    const char *dir;
};

static bool note_file(const char *name, enum mr_file_kind kind, void *arg)
{
    struct files *files = arg;
    struct files below = {.env = files->env};
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/%s", files->dir, name);
    if (kind == MR_KIND_FILE && files->count < FILES_MAX)
        memcpy(files->paths[files->count++], path, sizeof path);
    below.dir = path;
    if (kind == MR_KIND_DIRECTORY &&
        mr_env_list(files->env, path, note_file, &below, NULL) == MR_OK)
        for (size_t i = 0; i < below.count && files->count < FILES_MAX; i++)
            memcpy(files->paths[files->count++], below.paths[i], PATH_BYTES);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void list_files(struct mr_sim *sim, struct files *files)
{
    files->count = 0;
    files->env = mr_sim_env(sim);
    files->dir = PROTOCOL_DIR;
    (void)mr_env_list(files->env, PROTOCOL_DIR, note_file, files, NULL);
    qsort(files->paths, files->count, PATH_BYTES, by_name);
}

/* Of the simulated disk; freed with free. */
static uint8_t *read_file(struct mr_sim *sim, const char *path, size_t *ret_size)
{
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file *file = NULL;
    struct mr_file_info info;
    uint8_t *data = NULL;
    size_t got = 0;

    *ret_size = 0;
    if (mr_env_open(env, path, MR_FILE_READ, &file, NULL) != MR_OK)
        return NULL;
    if (mr_env_file_info(env, file, &info, NULL) == MR_OK && info.size_bytes <= FILE_BYTES_MAX) {
        data = calloc(1, (size_t)info.size_bytes + 600);
        if (data != NULL)
            (void)mr_env_pread(env, file, data, (size_t)info.size_bytes, 0, &got, NULL);
        *ret_size = got;
    }
    mr_env_close(env, file);
    return data;
}

/* What may have happened: only bytes of files changed; or whole files came, went, changed places.
 * */
enum damage { DAMAGE_NONE, DAMAGE_BYTES, DAMAGE_FILES };

static enum damage damage_one(struct mr_sim *sim, const struct files *files,
                              struct fuzz_input *input)
{
    const char *path = files->paths[fuzz_below(input, (uint32_t)files->count)];
    const char *other = files->paths[fuzz_below(input, (uint32_t)files->count)];
    uint8_t how = fuzz_byte(input);
    enum damage damage = DAMAGE_BYTES;
    size_t size, at, other_size;
    uint8_t *data = read_file(sim, path, &size);
    uint8_t *other_data = NULL;

    if (data == NULL)
        return DAMAGE_NONE;
    at = size == 0 ? 0 : (fuzz_below(input, 65536) * (size_t)(how >= 128 ? 16 : 1)) % size;
    switch (how % 8) {
    case 0: /* flip */
    case 1:
        data[at] ^= (uint8_t)(1U << how / 8 % 8);
        break;
    case 2: /* cut */
        size = at;
        break;
    case 3: /* zeros over a sector, or to the end */
        memset(data + at, 0, (how & 8) != 0 ? size - at : MR_MIN(size - at, (size_t)512));
        break;
    case 4: /* grown */
        size += 1U + how;
        break;
    case 5: /* gone */
        damage = DAMAGE_FILES;
        (void)mr_env_unlink(mr_sim_env(sim), path, NULL);
        break;
    case 6: /* another file in its place */
        damage = DAMAGE_FILES;
        other_data = read_file(sim, other, &other_size);
        if (other_data != NULL)
            fuzz_put_file(sim, path, other_data, other_size);
        break;
    default: /* bytes of the input */
        size = MR_MIN((size_t)(input->end - input->at), (size_t)400);
        memcpy(data, input->at, size);
        break;
    }
    if (damage == DAMAGE_BYTES)
        fuzz_put_file(sim, path, data, size);
    free(data);
    free(other_data);
    return damage;
}

static void count_line(const char *line, void *arg)
{
    FUZZ_CHECK(line[0] != '\0');
    ++*(uint64_t *)arg;
}

static bool visit_entry(const struct mr_log_entry *entry, void *arg)
{
    FUZZ_CHECK(entry->file != NULL);
    ++*(uint64_t *)arg;
    return true;
}

/* Every batch that is said to be retained can be read, as heads and whole. */
static void read_retained(struct mr_env *env)
{
    uint64_t oldest = 0, newest = 0;
    struct mr_error err = {0};

    if (mr_state_retained(env, PROTOCOL_DIR, &oldest, &newest, &err) != MR_OK)
        return;
    FUZZ_CHECK(oldest <= newest);
    for (uint64_t batch = oldest; batch <= newest + 1 && batch < oldest + 8; batch++) {
        struct mr_state_reader_options options = {
            .at_batch = true, .batch_id = batch, .heads = batch % 2 == 0};
        struct mr_state *reader = NULL;
        struct mr_store_info info;

        if (mr_state_open_reader_at(env, PROTOCOL_DIR, &options, &reader, &err) != MR_OK) {
            fuzz_refused(__FILE__, __LINE__, &err, MR_NOT_FOUND, MR_CORRUPT, MR_VERSION);
            continue;
        }
        FUZZ_CHECK(mr_state_reader_batch(reader) == batch && batch <= newest);
        for (size_t i = 0; mr_state_info(reader, i, &info); i++)
            FUZZ_CHECK(info.name != NULL);
        mr_state_close(reader);
    }
}

/* A copy as of an older batch, elsewhere on the same disk. */
static void rewind_copy(struct mr_env *env)
{
    uint64_t oldest = 0, newest = 0;
    struct mr_error err = {0};
    char id[37];

    if (mr_state_retained(env, PROTOCOL_DIR, &oldest, &newest, &err) == MR_OK &&
        mr_state_rewind(env, PROTOCOL_DIR, oldest, "/copy", id, &err) != MR_OK)
        fuzz_refused(__FILE__, __LINE__, &err, MR_CORRUPT, MR_NOT_FOUND, MR_VERSION);
}

/* What an inspector asks for: the bytes that a batch left in the log for a store. */
static void read_delta(struct mr_env *env, const char *log_dir, uint64_t batch, bool is_snapshot)
{
    struct mr_error err = {0};
    size_t size = 0;
    char *data = NULL;

    if (mr_batch_log_read_delta(env, log_dir, batch, "counts", is_snapshot, &data, &size, &err) ==
        MR_OK)
        FUZZ_CHECK(size > 0);
    else
        fuzz_refused(__FILE__, __LINE__, &err, MR_NOT_FOUND, MR_CORRUPT, MR_VERSION);
    mr_free(data);
}

/* What `millrace checkpoint verify` does: reads only. */
static enum mr_status verify(struct mr_sim *sim, struct mr_error *err)
{
    uint64_t records = 0, torn = 0, bad = 0, lines = 0, before = mr_sim_disk_hash(sim);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_checkpoint checkpoint = {0};
    struct mr_state *reader = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_checkpoint_peek(env, PROTOCOL_DIR, &checkpoint, err));
    MR_TRY_GOTO(mr_batch_log_walk(env, checkpoint.log_dir, visit_entry, &records, &torn, err));
    read_delta(env, checkpoint.log_dir, records % 3, false);
    read_delta(env, checkpoint.log_dir, records % 3, true);
    MR_TRY_GOTO(mr_state_verify(env, PROTOCOL_DIR, count_line, &lines, &bad, err));
    FUZZ_CHECK(lines == bad);
    if (mr_state_open_reader(env, PROTOCOL_DIR, &reader, NULL) == MR_OK)
        mr_state_close(reader);
    read_retained(env);
    if (bad > 0)
        status = MR_FAIL(err, MR_CORRUPT, "'%s' has damaged files", PROTOCOL_DIR);
done:
    mr_checkpoint_release(&checkpoint);
    FUZZ_CHECK(mr_sim_disk_hash(sim) == before);
    return status;
}

static void open_damaged(struct protocol *protocol, enum damage damage, bool closed)
{
    struct mr_error err = {0}, verify_err = {0};
    uint64_t synced = protocol->synced;
    enum mr_status verified = verify(protocol->sim, &verify_err);
    enum mr_status status;

    if (verified != MR_OK)
        fuzz_refused(__FILE__, __LINE__, &verify_err,
                     verified == MR_NOT_FOUND ? MR_NOT_FOUND : MR_CORRUPT, MR_VERSION, MR_IO);
    /* Damage of bytes behind a clean end never passes for a torn tail; whole files that are gone
     * may be a checkpoint that never got further. */
    status = protocol_open(protocol, damage != DAMAGE_FILES && closed ? synced : 0, &err);
    if (status == MR_OK) {
        FUZZ_CHECK(damage != DAMAGE_NONE || verified == MR_OK);
        protocol_close(protocol);
        rewind_copy(mr_sim_env(protocol->sim));
        return;
    }
    FUZZ_CHECK(damage != DAMAGE_NONE);
    fuzz_refused(__FILE__, __LINE__, &err, MR_CORRUPT, MR_VERSION,
                 status == MR_CONFIG || status == MR_NOT_FOUND || status == MR_IO ? status
                                                                                  : MR_CORRUPT);
    FUZZ_CHECK(strstr(err.text, PROTOCOL_DIR) != NULL);
}

static void one(const uint8_t *data, size_t size)
{
    static struct files files;
    struct fuzz_input input = fuzz_input_of(data, size);
    struct protocol protocol;
    struct mr_error err = {0};
    enum damage damage = DAMAGE_NONE;
    enum mr_status status;
    bool closed;

    if (size < 4)
        return;
    protocol_init(&protocol, &input);
    closed = (fuzz_byte(&input) & 1) == 0;
    status = protocol_open(&protocol, 0, &err);
    for (uint32_t count = fuzz_below(&input, 7); count > 0 && status == MR_OK; count--)
        status = protocol_batch(&protocol, &input, &err);
    if (status == MR_OK) {
        if (closed)
            protocol_close(&protocol);
        else
            protocol_die(&protocol, mr_sim_kill(protocol.sim, mr_sim_op_count(protocol.sim)));
        list_files(protocol.sim, &files);
        for (uint32_t count = fuzz_below(&input, DAMAGES_MAX + 1); count > 0; count--) {
            enum damage done = damage_one(protocol.sim, &files, &input);
            damage = MR_MAX(damage, done);
        }
        open_damaged(&protocol, damage, closed);
    } else {
        FUZZ_REFUSED(&err, MR_NOMEM);
    }
    protocol_release(&protocol);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
