/*
 * A checkpoint that cannot be read any more (CTX-14): with the setting create_on_error it is put
 * aside, and the context begins anew.
 *
 *     <dir>  --rename-->  <dir>.damaged-<n>, n the first number that is free
 *
 * Only damage counts: a checkpoint of a newer version, one in use or one that may not be read is an
 * error as ever.  Nothing is deleted, so what is in it may still be looked at and repaired.
 *
 * Thread: the starting one.
 */
#include "base/limits.h"
#include "dstream/streams.h"

#include "base/log.h"
#include "wal/batch_log.h"
#include "wal/checkpoint.h"

#include <string.h>

enum { ASIDE_MAX = MR_LIMIT_SET_ASIDE };

static bool go_on(const struct mr_log_entry *entry, void *arg)
{
    (void)entry;
    (void)arg;
    return true;
}

static void keep_first(const char *line, void *arg)
{
    struct mr_error *err = arg;

    if (err->status == MR_OK)
        MR_FAIL(err, MR_CORRUPT, "%s", line);
}

/* MR_CORRUPT, with what is wrong; MR_NOT_FOUND when there is no checkpoint. */
static enum mr_status read_all(struct mr_env *env, const char *dir, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    struct mr_error problem;
    uint64_t torn_bytes = 0, bad = 0;
    enum mr_status status;

    mr_error_clear(&problem);
    MR_TRY(mr_checkpoint_peek(env, dir, &checkpoint, err));
    status = mr_batch_log_walk(env, checkpoint.log_dir, go_on, NULL, &torn_bytes, err);
    if (status == MR_OK)
        status = mr_state_verify(env, dir, keep_first, &problem, &bad, err);
    mr_checkpoint_release(&checkpoint);
    if (status == MR_OK && bad > 0) {
        if (err != NULL)
            *err = problem;
        status = MR_CORRUPT;
    }
    return status;
}

static enum mr_status put_aside(struct mr_context *ctx, const struct mr_error *problem,
                                struct mr_error *err)
{
    for (unsigned i = 1; i <= ASIDE_MAX; i++) {
        char *aside = mr_asprintf("%s.damaged-%u", ctx->checkpoint_dir, i);
        struct mr_file_info info;
        enum mr_status status;

        if (aside == NULL)
            return MR_FAIL(err, MR_NOMEM, "out of memory");
        if (mr_env_path_info(ctx->env, aside, false, &info, NULL) == MR_OK) {
            mr_free(aside);
            continue;
        }
        status = mr_env_rename(ctx->env, ctx->checkpoint_dir, aside, true, err);
        if (status == MR_OK)
            mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1,
                   "the checkpoint is damaged and is now '%s': %s", aside, problem->text);
        mr_free(aside);
        return status;
    }
    return MR_FAIL(err, MR_LIMIT,
                   "cannot put the damaged checkpoint '%s' aside: there are %d such directories; "
                   "remove some",
                   ctx->checkpoint_dir, ASIDE_MAX);
}

enum mr_status mr__checkpoint_put_aside(struct mr_context *ctx, struct mr_error *err)
{
    char *path = mr_asprintf("%s/lock", ctx->checkpoint_dir);
    struct mr_lock *lock = NULL;
    struct mr_error problem;
    enum mr_status status = MR_OK;

    mr_error_clear(&problem);
    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    /* In use by another process, or not there: opening it says so. */
    if (mr_env_lock(ctx->env, path, &lock, NULL) == MR_OK &&
        read_all(ctx->env, ctx->checkpoint_dir, &problem) == MR_CORRUPT)
        status = put_aside(ctx, &problem, err);
    if (lock != NULL)
        mr_env_unlock(ctx->env, lock);
    mr_free(path);
    return status;
}
