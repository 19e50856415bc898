/*
 * The checkpoint directory; see checkpoint.h for its layout.
 *
 * Called when a query opens (before the batch log and the state) and by the inspectors (peek).
 *  Steps of open, in order:
 *
 *     1. make the directory, durably                 crash: an empty directory
 *     2. take the lock; it is the kernel's and ends with the process (D9, D11)
 *     3. look: no entry may be a link, FIFO, device  (B18)
 *     4. read `query`; when there is none:
 *          logs, state or blocks without it: MR_CORRUPT, no new identity is made (B12)
 *        when there is one: state or blocks without any log: MR_CORRUPT (B13)
 *     5. make log/, state/, received/                crash: the next start makes what is missing
 *        and the identity when there is none, atomically: none, or the one used from then on (A14)
 *     6. remove the temporaries of dead processes    (A2, B24)
 *
 * `query` is one framed record (record.h): 16 query id, u32 format, u64 created at (us), u64 seed.
 *
 * Threads: the opener's.
 */
#include "wal/checkpoint.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/mutant.h"
#include "wal/record.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

enum {
    FORMAT = 1,
    QUERY_VERSION = 1,
    QUERY_BYTES_MAX = 4096,
    SUBDIRS_MAX = MR_LIMIT_CHECKPOINT_SUBDIRECTORIES
};

static enum mr_status no_memory(const char *dir, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot open checkpoint '%s': out of memory", dir);
}

/* ---------------------------------------------------------------- looking */

static enum mr_status check_kind(struct mr_env *env, const char *dir, const char *name,
                                 enum mr_file_kind wanted, bool *ret_there, struct mr_error *err)
{
    char *path = mr_asprintf("%s/%s", dir, name);
    struct mr_file_info info;
    enum mr_status status;

    if (path == NULL)
        return no_memory(dir, err);
    *ret_there = false;
    status = mr_env_path_info(env, path, false, &info, err);
    if (status == MR_NOT_FOUND) {
        status = MR_OK;
    } else if (status == MR_OK && info.kind != wanted && !MR_MUTANT("checkpoint.check-kind.kind")) {
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot open checkpoint '%s': '%s' is not a %s; put the original back",
                         dir, name, wanted == MR_KIND_FILE ? "regular file" : "directory");
    } else if (status == MR_OK) {
        *ret_there = true;
    }
    mr_free(path);
    return status;
}

static bool is_temporary(const char *name)
{
    return strncmp(name, ".tmp-", 5) == 0;
}

static bool visit_any(const char *name, enum mr_file_kind kind, void *arg)
{
    bool *found = arg;

    MR_UNUSED(kind);
    *found = !is_temporary(name);
    return !*found;
}

static enum mr_status has_entries(struct mr_env *env, const char *dir, bool there, bool *ret_found,
                                  struct mr_error *err)
{
    *ret_found = false;
    return there ? mr_env_list(env, dir, visit_any, ret_found, err) : MR_OK;
}

static bool visit_log(const char *name, enum mr_file_kind kind, void *arg)
{
    bool *found = arg;
    size_t size = strlen(name);

    MR_UNUSED(kind);
    *found = !is_temporary(name) && size > 4 && strcmp(name + size - 4, ".log") == 0;
    return !*found;
}

/* What must not be there without the identity, and what must not be without a log. */
static enum mr_status check_entries(const struct mr_checkpoint *checkpoint, bool *ret_has_query,
                                    bool *ret_has_log, struct mr_error *err)
{
    struct mr_env *env = checkpoint->env;
    const char *dir = checkpoint->dir;
    bool there = false, has_log = false, has_state = false, has_blocks = false;

    MR_TRY(check_kind(env, dir, "lock", MR_KIND_FILE, &there, err));
    MR_TRY(check_kind(env, dir, "query", MR_KIND_FILE, ret_has_query, err));
    MR_TRY(check_kind(env, dir, "log", MR_KIND_DIRECTORY, &there, err));
    if (there)
        MR_TRY(mr_env_list(env, checkpoint->log_dir, visit_log, &has_log, err));
    MR_TRY(check_kind(env, dir, "state", MR_KIND_DIRECTORY, &there, err));
    MR_TRY(has_entries(env, checkpoint->state_dir, there, &has_state, err));
    MR_TRY(check_kind(env, dir, "received", MR_KIND_DIRECTORY, &there, err));
    MR_TRY(has_entries(env, checkpoint->received_dir, there, &has_blocks, err));
    if ((!*ret_has_query && (has_log || has_state || has_blocks)) &&
        !MR_MUTANT("checkpoint.entries.no-query"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot open checkpoint '%s': the file 'query' is missing, but there is %s; "
                       "restore the checkpoint "
                       "from a copy, or use a new directory",
                       dir,
                       has_log     ? "a log"
                       : has_state ? "state"
                                   : "received data");
    if ((!has_log && (has_state || has_blocks)) && !MR_MUTANT("checkpoint.entries.no-log"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot open checkpoint '%s': there is %s but no log; restore the "
                       "checkpoint from a copy, or use a "
                       "new directory",
                       dir, has_state ? "state" : "received data");
    *ret_has_log = has_log;
    return MR_OK;
}

/* ---------------------------------------------------------------- identity */

static void print_id(const uint8_t id[16], char text[37])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = digits[id[i] >> 4];
        text[at++] = digits[id[i] & 15];
    }
    text[at] = '\0';
}

static enum mr_status bad_identity(const char *path, const char *reason, struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT, "cannot read '%s': %s; restore the checkpoint from a copy",
                   path, reason);
}

static enum mr_status parse_identity(struct mr_checkpoint *checkpoint, const char *path,
                                     const char *data, size_t size, struct mr_error *err)
{
    struct mr_record record = {0};
    struct mr_bytes bytes;
    size_t record_bytes = 0;
    enum mr_record_result result = mr_record_read(data, size, 0, &record, &record_bytes);
    const char *id;
    uint32_t format;

    if (result == MR_RECORD_WRONG_ENDIAN && !MR_MUTANT("checkpoint.identity.byte-order"))
        return MR_FAIL(err, MR_VERSION, "cannot read '%s': it was written with another byte order",
                       path);
    /* redundant: what is no record has neither the length nor the kind; here it says why */
    if (result != MR_RECORD_OK && !MR_MUTANT("checkpoint.identity.record"))
        return bad_identity(path, size == 0 ? "the file is empty" : mr_record_result_text(result),
                            err);
    if (record_bytes != size && !MR_MUTANT("checkpoint.identity.behind"))
        return bad_identity(path, "foreign bytes follow its record", err);
    if (record.kind != MR_RECORD_QUERY && !MR_MUTANT("checkpoint.identity.kind"))
        return bad_identity(path, "it is not the identity of a query", err);
    bytes = mr_bytes_of(record.payload.data, record.payload.size_bytes);
    id = mr_bytes_take(&bytes, 16);
    format = mr_bytes_u32(&bytes);
    if ((record.version != QUERY_VERSION || (!bytes.failed && format > FORMAT)) &&
        !MR_MUTANT("checkpoint.identity.version"))
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s': the checkpoint has format %" PRIu32
                       "; run a newer millrace",
                       path, format);
    checkpoint->created_us = (int64_t)mr_bytes_u64(&bytes);
    checkpoint->seed = mr_bytes_u64(&bytes);
    if ((bytes.failed || mr_bytes_left(&bytes) != 0) && !MR_MUTANT("checkpoint.identity.decode"))
        return bad_identity(path, "its record does not decode", err);
    memcpy(checkpoint->query_id, id, 16);
    print_id(checkpoint->query_id, checkpoint->query_id_text);
    return MR_OK;
}

static enum mr_status read_identity(struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    char *path = mr_asprintf("%s/query", checkpoint->dir);
    char *data = NULL;
    size_t size = 0;
    enum mr_status status;

    if (path == NULL)
        return no_memory(checkpoint->dir, err);
    status = mr_durable_get(checkpoint->env, path, QUERY_BYTES_MAX, &data, &size, err);
    if (status == MR_LIMIT)
        status = bad_identity(path, "it is too long", err);
    if (status == MR_OK)
        status = parse_identity(checkpoint, path, data, size, err);
    mr_free(data);
    mr_free(path);
    return status;
}

/* seed: NULL = a random one. */
static enum mr_status make_identity(struct mr_checkpoint *checkpoint, const uint64_t *seed,
                                    struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT, record = MR_BUF_INIT;
    enum mr_status status;

    mr_env_random(checkpoint->env, checkpoint->query_id, sizeof(checkpoint->query_id));
    checkpoint->query_id[6] =
        (uint8_t)((checkpoint->query_id[6] & 0x0f) | 0x40); /* a random UUID */
    checkpoint->query_id[8] = (uint8_t)((checkpoint->query_id[8] & 0x3f) | 0x80);
    mr_env_random(checkpoint->env, &checkpoint->seed, sizeof(checkpoint->seed));
    if (seed != NULL)
        checkpoint->seed = *seed;
    checkpoint->created_us = mr_env_wall_us(checkpoint->env);
    print_id(checkpoint->query_id, checkpoint->query_id_text);
    mr_buf_add(&payload, checkpoint->query_id, 16);
    mr_buf_add_u32(&payload, FORMAT);
    mr_buf_add_u64(&payload, (uint64_t)checkpoint->created_us);
    mr_buf_add_u64(&payload, checkpoint->seed);
    if (!payload.failed)
        mr_record_append(&record, MR_RECORD_QUERY, QUERY_VERSION, 0, payload.data, payload.size,
                         NULL);
    if (payload.failed || record.failed)
        status = no_memory(checkpoint->dir, err);
    else /* no_replace is redundant: nobody else makes one while we hold the lock */
        status = mr_durable_put(checkpoint->env, checkpoint->dir, "query", record.data, record.size,
                                !MR_MUTANT("checkpoint.make-identity.no-replace"), err);
    mr_buf_release(&payload);
    mr_buf_release(&record);
    checkpoint->is_new = status == MR_OK;
    return status;
}

/* ---------------------------------------------------------------- temporaries */

struct subdirs {
    char **names;
    size_t count, capacity;
    bool failed;
};

static bool visit_subdir(const char *name, enum mr_file_kind kind, void *arg)
{
    struct subdirs *subdirs = arg;

    if (kind != MR_KIND_DIRECTORY || subdirs->count >= SUBDIRS_MAX)
        return true;
    if (subdirs->count == subdirs->capacity) {
        size_t capacity = MR_MAX(subdirs->capacity * 2, (size_t)16);
        char **grown = mr_realloc(NULL, subdirs->names, capacity * sizeof(*grown));

        subdirs->failed = grown == NULL;
        if (subdirs->failed)
            return false;
        subdirs->names = grown;
        subdirs->capacity = capacity;
    }
    subdirs->names[subdirs->count] = mr_strdup(name);
    subdirs->failed = subdirs->names[subdirs->count] == NULL;
    subdirs->count += subdirs->failed ? 0 : 1;
    return !subdirs->failed;
}

static enum mr_status sweep(struct mr_checkpoint *checkpoint, const char *dir, struct mr_error *err)
{
    uint64_t removed = 0;

    if (!MR_MUTANT("checkpoint.sweep.remove"))
        MR_TRY(mr_durable_sweep(checkpoint->env, dir, &removed, err));
    checkpoint->temp_files_removed += removed;
    return MR_OK;
}

static enum mr_status sweep_below(struct mr_checkpoint *checkpoint, const char *dir,
                                  struct mr_error *err)
{
    struct subdirs subdirs = {0};
    enum mr_status status = mr_env_list(checkpoint->env, dir, visit_subdir, &subdirs, err);

    if (status == MR_OK && subdirs.failed)
        status = no_memory(dir, err);
    for (size_t i = 0; i < subdirs.count; i++) {
        char *path = status == MR_OK ? mr_asprintf("%s/%s", dir, subdirs.names[i]) : NULL;

        if (status == MR_OK)
            status = path == NULL ? no_memory(dir, err) : sweep(checkpoint, path, err);
        mr_free(path);
        mr_free(subdirs.names[i]);
    }
    mr_free(subdirs.names);
    return status;
}

static enum mr_status sweep_all(struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    MR_TRY(sweep(checkpoint, checkpoint->dir, err));
    MR_TRY(sweep(checkpoint, checkpoint->log_dir, err));
    MR_TRY(sweep_below(checkpoint, checkpoint->state_dir, err));
    return sweep_below(checkpoint, checkpoint->received_dir, err);
}

/* ---------------------------------------------------------------- open, peek */

static enum mr_status name_parts(struct mr_checkpoint *checkpoint, struct mr_env *env,
                                 const char *dir, struct mr_error *err)
{
    *checkpoint = (struct mr_checkpoint){.env = env};
    checkpoint->dir = mr_strdup(dir);
    checkpoint->log_dir = mr_asprintf("%s/log", dir);
    checkpoint->state_dir = mr_asprintf("%s/state", dir);
    checkpoint->received_dir = mr_asprintf("%s/received", dir);
    if (checkpoint->dir == NULL || checkpoint->log_dir == NULL || checkpoint->state_dir == NULL ||
        checkpoint->received_dir == NULL)
        return no_memory(dir, err);
    return MR_OK;
}

static enum mr_status lock_dir(struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    char *path = mr_asprintf("%s/lock", checkpoint->dir);
    enum mr_status status;

    if (path == NULL)
        return no_memory(checkpoint->dir, err);
    status = MR_MUTANT("checkpoint.lock.take")
                 ? MR_OK
                 : mr_env_lock(checkpoint->env, path, &checkpoint->lock, err);
    mr_free(path);
    return status;
}

static enum mr_status make_dirs(struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    const char *const dirs[] = {checkpoint->log_dir, checkpoint->state_dir,
                                checkpoint->received_dir};

    for (unsigned i = 0; i < MR_ARRAY_SIZE(dirs); i++)
        MR_TRY(mr_env_mkdir(checkpoint->env, dirs[i], err));
    return MR_OK;
}

/*
 * The directories, and the identity when there is none yet. All of them are durable in the
 * checkpoint's directory afterwards, with one sync: that of the identity comes last.
 */
static enum mr_status make_entries(struct mr_checkpoint *checkpoint, bool has_query,
                                   const uint64_t *seed, struct mr_error *err)
{
    if (has_query)
        MR_TRY(read_identity(checkpoint, err));
    MR_TRY(make_dirs(checkpoint, err));
    if (!has_query)
        return make_identity(checkpoint, seed, err);
    return MR_MUTANT("checkpoint.make-dirs.sync-dir")
               ? MR_OK
               : mr_env_sync_dir(checkpoint->env, checkpoint->dir, err);
}

enum mr_status mr_checkpoint_open(struct mr_env *env, const char *dir,
                                  struct mr_checkpoint *ret_checkpoint, struct mr_error *err)
{
    struct mr_checkpoint checkpoint;
    bool has_query = false, has_log = false;
    enum mr_status status;

    MR_TRY_GOTO(name_parts(&checkpoint, env, dir, err));
    MR_TRY_GOTO(mr_durable_mkdirs(env, dir, err));
    MR_TRY_GOTO(lock_dir(&checkpoint, err));
    MR_TRY_GOTO(check_entries(&checkpoint, &has_query, &has_log, err));
    MR_TRY_GOTO(make_entries(&checkpoint, has_query, NULL, err));
    status = sweep_all(&checkpoint, err);
done:
    if (status == MR_OK)
        *ret_checkpoint = checkpoint;
    else
        mr_checkpoint_release(&checkpoint);
    return status;
}

enum mr_status mr_checkpoint_create(struct mr_env *env, const char *dir, uint64_t seed,
                                    struct mr_checkpoint *ret_checkpoint, struct mr_error *err)
{
    struct mr_checkpoint checkpoint;
    bool has_query = false, has_log = false;
    enum mr_status status;

    MR_TRY_GOTO(name_parts(&checkpoint, env, dir, err));
    MR_TRY_GOTO(mr_durable_mkdirs(env, dir, err));
    MR_TRY_GOTO(lock_dir(&checkpoint, err));
    MR_TRY_GOTO(check_entries(&checkpoint, &has_query, &has_log, err));
    if ((has_query || has_log) && !MR_MUTANT("checkpoint.create.there"))
        MR_TRY_GOTO(
            MR_FAIL(err, MR_CONFIG,
                    "cannot make a checkpoint in '%s': there is one; name another directory", dir));
    status = make_entries(&checkpoint, false, &seed, err);
done:
    if (status == MR_OK)
        *ret_checkpoint = checkpoint;
    else
        mr_checkpoint_release(&checkpoint);
    return status;
}

enum mr_status mr_checkpoint_peek(struct mr_env *env, const char *dir,
                                  struct mr_checkpoint *ret_checkpoint, struct mr_error *err)
{
    struct mr_checkpoint checkpoint;
    bool has_query = false, has_log = false;
    enum mr_status status;

    MR_TRY_GOTO(name_parts(&checkpoint, env, dir, err));
    MR_TRY_GOTO(check_entries(&checkpoint, &has_query, &has_log, err));
    if (has_query)
        status = read_identity(&checkpoint, err);
    else
        status = MR_FAIL(err, MR_NOT_FOUND, "cannot find a checkpoint in '%s'", dir);
done:
    if (status == MR_OK)
        *ret_checkpoint = checkpoint;
    else
        mr_checkpoint_release(&checkpoint);
    return status;
}

void mr_checkpoint_release(struct mr_checkpoint *checkpoint)
{
    if (checkpoint->env != NULL)
        mr_env_unlock(checkpoint->env, checkpoint->lock);
    mr_free(checkpoint->dir);
    mr_free(checkpoint->log_dir);
    mr_free(checkpoint->state_dir);
    mr_free(checkpoint->received_dir);
    *checkpoint = (struct mr_checkpoint){0};
}
