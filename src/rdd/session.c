/*
 * Sessions: the workers, engines and stored partitions that datasets share, and the scopes that own
 * datasets.
 *
 *     session --root scope--> datasets made outside of a batch, until the session is freed
 *     foreach_rdd, transform --scope--> datasets made inside the call, until it returns
 *
 * A session is freed when its owner has freed it and no dataset refers to it any more; a dataset
 * that somebody holds past mr_session_free still computes, on the thread that asks.
 *
 * Slots: an SQL engine belongs to one thread at a time, so whoever evaluates takes a slot: slot 0
 * compiles, under build_lock; the others run tasks, lowest first, so that few engines are opened.
 * A thread takes one slot for an action and keeps it for what that action needs: waiting for a slot
 * never happens with one in hand.
 *
 * Threads: any.
 */
#include "rdd/rdd.h"
#include "rdd/task.h"

#include "plugins/plugins.h"

#include <stdlib.h>

enum { SLOT_FIRST = 1 };

#define MEMORY_BYTES_DEFAULT (UINT64_C(256) << 20)

static _Thread_local struct mr__scope *current_scope;

/* ---- making and freeing ---- */

static const char *spill_dir_of(const struct mr_session_options *options)
{
    const char *dir = options->spill_dir;

    if (dir == NULL)
        dir = getenv("TMPDIR");
    return dir != NULL && dir[0] != '\0' ? dir : "/tmp";
}

enum mr_status mr__session_new_on(struct mr_env *env, const struct mr_session_options *options,
                                  struct mr_session **ret_session, struct mr_error *err)
{
    const struct mr_session_options none = {0};
    const struct mr_session_options *given = options != NULL ? options : &none;
    struct mr_session *session;
    enum mr_status status;

    if (given->workers >= MR_FN_WORKERS_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot make a session with %u workers; use at most %d",
                       given->workers, MR_FN_WORKERS_MAX - 1);
    session = mr_alloc_zero(NULL, sizeof(*session));
    if (session == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a session: out of memory");
    mr_plugins_register(); /* Parquet */
    session->env = env;
    atomic_init(&session->references, 1);
    session->worker_count = given->workers != 0 ? given->workers : mr_cpu_count();
    session->worker_count = MR_MIN(session->worker_count, (unsigned)MR_FN_WORKERS_MAX - 1);
    session->task_tries = given->task_tries != 0 ? given->task_tries : 4;
    status =
        mr__block_store_new(env, spill_dir_of(given),
                            given->memory_bytes != 0 ? given->memory_bytes : MEMORY_BYTES_DEFAULT,
                            &session->blocks, err);
    if (status != MR_OK) {
        mr_free(session);
        return status;
    }
    mr_mutex_init(&session->build_lock);
    mr_mutex_init(&session->lock);
    mr_cond_init(&session->changed);
    mr_mutex_init(&session->root.lock);
    *ret_session = session;
    return MR_OK;
}

enum mr_status mr_session_new(const struct mr_session_options *options,
                              struct mr_session **ret_session, struct mr_error *err)
{
    return mr__session_new_on(mr_env_posix(), options, ret_session, err);
}

static void scope_clear(struct mr__scope *scope)
{
    struct mr_rdd *rdd;

    mr_mutex_lock(&scope->lock);
    rdd = scope->first;
    scope->first = NULL;
    mr_mutex_unlock(&scope->lock);
    while (rdd != NULL) {
        struct mr_rdd *next = rdd->next;
        mr_rdd_unref(rdd);
        rdd = next;
    }
}

void mr_session_free(struct mr_session *session)
{
    if (session == NULL)
        return;
    mr__workers_stop(session);
    scope_clear(&session->root);
    mr__views_release(session);
    mr__session_unref(session);
}

struct mr_session *mr__session_ref(struct mr_session *session)
{
    atomic_fetch_add_explicit(&session->references, 1, memory_order_relaxed);
    return session;
}

void mr__session_unref(struct mr_session *session)
{
    if (session == NULL ||
        atomic_fetch_sub_explicit(&session->references, 1, memory_order_acq_rel) != 1)
        return;
    mr__compiled_release_all(session);
    mr__engines_release(&session->engines);
    mr__block_store_free(session->blocks);
    mr_mutex_release(&session->root.lock);
    mr_cond_release(&session->changed);
    mr_mutex_release(&session->lock);
    mr_mutex_release(&session->build_lock);
    mr_free(session);
}

/* ---- slots ---- */

unsigned mr__slot_take(struct mr_session *session)
{
    unsigned slot;

    mr_mutex_lock(&session->lock);
    for (;;) {
        for (slot = SLOT_FIRST; slot < MR_FN_WORKERS_MAX; slot++) {
            if ((session->slots >> slot & 1) == 0)
                break;
        }
        if (slot < MR_FN_WORKERS_MAX)
            break;
        mr_cond_wait(&session->changed, &session->lock);
    }
    session->slots |= UINT64_C(1) << slot;
    mr_mutex_unlock(&session->lock);
    return slot;
}

void mr__slot_give(struct mr_session *session, unsigned slot)
{
    mr_mutex_lock(&session->lock);
    session->slots &= ~(UINT64_C(1) << slot);
    mr_cond_broadcast(&session->changed);
    mr_mutex_unlock(&session->lock);
}

/* ---- scopes ---- */

void mr__scope_enter(struct mr__scope *scope, uint64_t batch_id, int64_t batch_time_us)
{
    *scope = (struct mr__scope){
        .outer = current_scope,
        .in_batch = true,
        .batch_id = batch_id,
        .batch_time_us = batch_time_us,
    };
    mr_mutex_init(&scope->lock);
    current_scope = scope;
}

void mr__scope_leave(struct mr__scope *scope)
{
    MR_ASSERT(current_scope == scope);
    current_scope = scope->outer;
    scope_clear(scope);
    mr_mutex_release(&scope->lock);
}

enum mr_status mr_session_enter(struct mr_session *session, struct mr_error *err)
{
    struct mr__scope *scope;

    if (session == NULL)
        return MR_FAIL(err, MR_CONFIG, "there is no session");
    scope = mr_alloc_zero(NULL, sizeof(*scope));
    if (scope == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr__scope_enter(scope, 0, 0);
    scope->in_batch = false;
    scope->entered = session;
    return MR_OK;
}

void mr_session_leave(struct mr_session *session)
{
    struct mr__scope *scope = current_scope;

    MR_ASSERT(scope != NULL && scope->entered == session); /* the two are a pair */
    mr__scope_leave(scope);
    mr_free(scope);
}

struct mr__scope *mr__scope_swap(struct mr__scope *scope)
{
    struct mr__scope *before = current_scope;

    current_scope = scope;
    return before;
}

struct mr__scope *mr__scope_of(struct mr_session *session)
{
    return current_scope != NULL ? current_scope : &session->root;
}

void mr__scope_own(struct mr__scope *scope, struct mr_rdd *rdd)
{
    mr_mutex_lock(&scope->lock);
    rdd->next = scope->first;
    scope->first = rdd;
    mr_mutex_unlock(&scope->lock);
}
