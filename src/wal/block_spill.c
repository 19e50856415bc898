/*
 * Spill files of the block log: received blocks without a checkpoint that find no room in memory
 * (storage levels with disk, dstream.md STO-4).
 *
 *     <spill_dir>/<number, 10 digits>.spill      blocks one behind the other, at least
 *                                                SPILL_FILE_BYTES of them
 *
 * Called by block_log.c. Nothing is synced and nothing is found again: the files go with their last
 * block and at close; the directory belongs to one log of one process. What is read back is checked
 * against its sum.
 *
 * Threads: one writer; readers and forget any.
 */
#include "wal/block_log_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mutant.h"

#include <inttypes.h>

#include "base/banned.h"

enum { SPILL_FILE_BYTES = 16 << 20 };

void mr__spill_init(struct mr_block_spill *spill, struct mr_env *env, const char *dir)
{
    *spill = (struct mr_block_spill){.env = env, .dir = dir};
    mr_mutex_init(&spill->lock);
}

static char *spill_path(const struct mr_block_spill *spill, uint32_t number)
{
    return mr_asprintf("%s/%010" PRIu32 ".spill", spill->dir, number);
}

static void remove_file(struct mr_block_spill *spill, uint32_t number)
{
    char *path = spill_path(spill, number);

    if (path != NULL)
        (void)mr_env_unlink(spill->env, path, NULL);
    mr_free(path);
}

void mr__spill_release(struct mr_block_spill *spill)
{
    mr_env_close(spill->env, spill->file);
    for (uint32_t i = 0; i < MR_SPILL_FILES_MAX && spill->number > i; i++) {
        uint32_t number = spill->number - i;

        if (spill->uses[number % MR_SPILL_FILES_MAX] > 0 || number == spill->number)
            remove_file(spill, number);
    }
    if (spill->dir != NULL)
        (void)mr_env_rmdir(spill->env, spill->dir, NULL);
    mr_mutex_release(&spill->lock);
}

static enum mr_status no_memory(const struct mr_block_spill *spill, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep received blocks in '%s': out of memory", spill->dir);
}

static enum mr_status next_file(struct mr_block_spill *spill, struct mr_error *err)
{
    const unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE;
    uint32_t number = spill->number + 1;
    struct mr_file *file = NULL;
    char *path;
    uint64_t uses;
    enum mr_status status;

    mr_mutex_lock(&spill->lock);
    uses = spill->uses[number % MR_SPILL_FILES_MAX];
    mr_mutex_unlock(&spill->lock);
    if (uses > 0 && !MR_MUTANT("block-spill.next-file.in-use"))
        return MR_FAIL(err, MR_LIMIT,
                       "cannot keep received blocks in '%s': %d files are in use; batches are too "
                       "far behind",
                       spill->dir, MR_SPILL_FILES_MAX);
    path = spill_path(spill, number);
    if (path == NULL)
        return no_memory(spill, err);
    status = mr_durable_mkdirs(spill->env, spill->dir, err);
    if (status == MR_OK)
        status = mr_env_open(spill->env, path, flags, &file, err);
    mr_free(path);
    MR_TRY(status);
    mr_env_close(spill->env, spill->file);
    mr_mutex_lock(&spill->lock);
    if (spill->number != 0 && spill->uses[spill->number % MR_SPILL_FILES_MAX] == 0)
        remove_file(spill, spill->number);
    spill->number = number;
    mr_mutex_unlock(&spill->lock);
    spill->file = file;
    spill->at = 0;
    return MR_OK;
}

enum mr_status mr__spill_write(struct mr_block_spill *spill, struct mr_block_place *place,
                               struct mr_error *err)
{
    size_t size = (size_t)place->info.size_bytes;

    if (spill->file == NULL || spill->at >= SPILL_FILE_BYTES)
        MR_TRY(next_file(spill, err));
    MR_TRY(mr_env_pwrite(spill->env, spill->file, place->data, size, spill->at, err));
    place->spill = spill->number;
    place->offset = spill->at;
    place->chain = mr_checksum(place->data, size);
    spill->at += size;
    mr_mutex_lock(&spill->lock);
    spill->uses[spill->number % MR_SPILL_FILES_MAX]++;
    mr_mutex_unlock(&spill->lock);
    return MR_OK;
}

enum mr_status mr__spill_read(struct mr_block_spill *spill, const struct mr_block_place *place,
                              struct mr_buf *out, struct mr_error *err)
{
    size_t size = (size_t)place->info.size_bytes, got = 0;
    char *path = spill_path(spill, place->spill);
    struct mr_file *file = NULL;
    enum mr_status status = MR_OK;

    if (path == NULL || !mr_buf_reserve(out, size + 1)) {
        status = no_memory(spill, err);
        goto done;
    }
    MR_TRY_GOTO(mr_env_open(spill->env, path, MR_FILE_READ, &file, err));
    MR_TRY_GOTO(mr_env_pread(spill->env, file, out->data, size, place->offset, &got, err));
    if ((got != size || mr_checksum(out->data, size) != place->chain) &&
        !MR_MUTANT("block-spill.read.sum")) {
        status = MR_FAIL(err, MR_DATA_LOSS, "cannot read block %" PRIu64 " in '%s': it was changed",
                         place->info.number, path);
        goto done;
    }
    out->size = size;
done:
    mr_env_close(spill->env, file);
    mr_free(path);
    return status;
}

void mr__spill_forget(struct mr_block_spill *spill, const struct mr_block_place *place)
{
    if (place->spill == 0)
        return;
    mr_mutex_lock(&spill->lock);
    if (--spill->uses[place->spill % MR_SPILL_FILES_MAX] == 0 && place->spill != spill->number)
        remove_file(spill, place->spill);
    mr_mutex_unlock(&spill->lock);
}
