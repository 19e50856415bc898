/*
 * Datasets: life, lineage, looking.
 *
 * A dataset refers to its inputs and to its session; whoever made it (a scope) refers to it, and
 * whoever called mr_rdd_ref. Freeing is not recursive, so a long lineage needs no stack.
 *
 * A mistake sticks: the dataset has no schema, and its error says where the function was given and
 * what is wrong. What is made from it takes the mistake over; every action returns it.
 *
 * Thread: any; a dataset does not change once it was made, but for its storage level.
 */
#include "rdd/task.h"

#include <stdio.h>
#include <string.h>

/* ---- making ---- */

static struct mr_rdd *take_over(struct mr_rdd *rdd)
{
    for (uint32_t i = 0; i < rdd->input_count; i++) {
        if (rdd->error.status == MR_OK && rdd->inputs[i]->schema == NULL)
            rdd->error = rdd->inputs[i]->error;
        if (rdd->inputs[i]->depth >= rdd->depth)
            rdd->depth = rdd->inputs[i]->depth + 1;
        if (rdd->error.status == MR_OK && rdd->inputs[i]->session != rdd->session)
            MR_FAIL(&rdd->error, MR_CONFIG,
                    "cannot put datasets of two sessions together; make both with one");
    }
    if (rdd->error.status == MR_OK && rdd->depth > MR_RDD_DEPTH_MAX)
        MR_FAIL(&rdd->error, MR_LIMIT,
                "cannot make a dataset of more than %d steps; collect one on the way and go on "
                "from its rows",
                MR_RDD_DEPTH_MAX);
    return rdd;
}

struct mr_rdd *mr__rdd_new(struct mr_session *session, const struct mr__rdd_kind *kind,
                           struct mr_rdd *const *inputs, uint32_t input_count)
{
    struct mr__scope *scope;
    struct mr_rdd *rdd;

    for (uint32_t i = 0; i < input_count; i++) {
        if (inputs[i] == NULL)
            return NULL;
    }
    rdd = mr_alloc_zero(NULL, sizeof(*rdd));
    if (rdd != NULL)
        rdd->inputs = mr_alloc(NULL, (input_count + (size_t)1) * sizeof(struct mr_rdd *));
    if (rdd == NULL || rdd->inputs == NULL) {
        mr_free(rdd);
        return NULL;
    }
    atomic_init(&rdd->references, 1);
    atomic_init(&rdd->level, MR_STORAGE_NONE);
    atomic_init(&rdd->was_kept, false);
    rdd->session = mr__session_ref(input_count > 0 ? inputs[0]->session : session);
    rdd->kind = kind;
    rdd->id = atomic_fetch_add(&rdd->session->next_id, 1) + 1;
    for (uint32_t i = 0; i < input_count; i++)
        rdd->inputs[rdd->input_count++] = mr_rdd_ref(inputs[i]);
    scope = mr__scope_of(rdd->session);
    if (input_count > 0 && inputs[0]->in_batch) {
        rdd->in_batch = true;
        rdd->batch_id = inputs[0]->batch_id;
        rdd->time_us = inputs[0]->time_us;
    } else {
        rdd->in_batch = scope->in_batch;
        rdd->batch_id = scope->batch_id;
        rdd->time_us = scope->in_batch ? scope->batch_time_us : mr_env_wall_us(rdd->session->env);
    }
    mr__scope_own(scope, rdd);
    return take_over(rdd);
}

struct mr_rdd *mr__rdd_blame(struct mr_rdd *rdd, const struct mr_fn *fn, enum mr_status status,
                             struct mr_error *err)
{
    const char *slash = fn != NULL && fn->file != NULL ? strrchr(fn->file, '/') : NULL;

    if (status == MR_OK || rdd->error.status != MR_OK)
        return rdd;
    mr__tell_position(err);
    if (fn != NULL && fn->file != NULL)
        mr_error_prefix(err, "%s:%d: %s", slash != NULL ? slash + 1 : fn->file, fn->line,
                        rdd->kind->name);
    else
        mr_error_prefix(err, "%s", rdd->kind->name);
    rdd->error = *err;
    return rdd;
}

struct mr_rdd *mr__rdd_ready(struct mr_rdd *rdd, struct mr_schema *schema, uint32_t partition_count)
{
    struct mr_error err;

    if (partition_count > MR_RDD_PARTITIONS_MAX) {
        MR_FAIL(&err, MR_LIMIT, "cannot make %u partitions; at most %d", partition_count,
                MR_RDD_PARTITIONS_MAX);
        mr_schema_unref(schema);
        return mr__rdd_blame(rdd, NULL, err.status, &err);
    }
    rdd->schema = schema;
    rdd->partition_count = partition_count;
    return rdd;
}

struct mr_rdd *mr_rdd_ref(struct mr_rdd *rdd)
{
    if (rdd != NULL)
        atomic_fetch_add_explicit(&rdd->references, 1, memory_order_relaxed);
    return rdd;
}

static bool is_last(struct mr_rdd *rdd)
{
    return rdd != NULL && atomic_fetch_sub_explicit(&rdd->references, 1, memory_order_acq_rel) == 1;
}

static void release(struct mr_rdd *rdd)
{
    struct mr_session *session = rdd->session;

    if (atomic_load(&rdd->was_kept))
        mr__block_drop_owner(session->blocks, rdd->id);
    if (rdd->kind->free != NULL && rdd->own != NULL)
        rdd->kind->free(rdd);
    mr__compiled_unref(session, rdd->compiled);
    mr_schema_unref(rdd->schema);
    mr_free(rdd->inputs);
    mr_free(rdd);
    mr__session_unref(session);
}

void mr_rdd_unref(struct mr_rdd *rdd)
{
    struct mr_rdd *dead = is_last(rdd) ? rdd : NULL;

    if (dead != NULL)
        dead->next = NULL; /* no scope has it any more: the link makes a list of the dead */
    while (dead != NULL) {
        struct mr_rdd *one = dead;

        dead = one->next;
        for (uint32_t i = 0; i < one->input_count; i++) {
            if (!is_last(one->inputs[i]))
                continue;
            one->inputs[i]->next = dead;
            dead = one->inputs[i];
        }
        release(one);
    }
}

/* ---- looking ---- */

struct mr_session *mr_rdd_session(const struct mr_rdd *rdd)
{
    return rdd != NULL ? rdd->session : NULL;
}

const struct mr_schema *mr_rdd_schema(const struct mr_rdd *rdd)
{
    return rdd != NULL ? rdd->schema : NULL;
}

uint32_t mr_rdd_partition_count(const struct mr_rdd *rdd)
{
    return rdd != NULL ? rdd->partition_count : 0;
}

enum mr_status mr_rdd_error(const struct mr_rdd *rdd, struct mr_error *err)
{
    if (rdd == NULL)
        return MR_FAIL(err, MR_NOMEM, "there is no dataset: it could not be made, or is NULL");
    if (rdd->schema != NULL)
        return MR_OK;
    if (err != NULL)
        *err = rdd->error;
    return rdd->error.status;
}

uint64_t mr_rdd_batch_id(const struct mr_rdd *rdd)
{
    return rdd != NULL ? rdd->batch_id : 0;
}

/* ---- lineage ---- */

enum mr_status mr__rdd_prepare(struct mr_rdd *rdd, struct mr_error *err)
{
    if ((rdd->kind->is_prepared != NULL && rdd->kind->is_prepared(rdd)) || mr__rdd_is_kept(rdd))
        return MR_OK;
    for (uint32_t i = 0; i < rdd->input_count; i++)
        MR_TRY(mr__rdd_prepare(rdd->inputs[i], err));
    return rdd->kind->prepare != NULL ? rdd->kind->prepare(rdd, err) : MR_OK;
}

/* ---- once ---- */

void mr__once_init(struct mr__once *once)
{
    *once = (struct mr__once){.state = MR__ONCE_NEW};
    mr_mutex_init(&once->lock);
    mr_cond_init(&once->changed);
}

void mr__once_release(struct mr__once *once)
{
    mr_cond_release(&once->changed);
    mr_mutex_release(&once->lock);
}

bool mr__once_is_done(struct mr__once *once)
{
    bool is_done;

    mr_mutex_lock(&once->lock);
    is_done = once->state == MR__ONCE_DONE;
    mr_mutex_unlock(&once->lock);
    return is_done;
}

enum mr_status mr__once_run(struct mr__once *once, struct mr_rdd *rdd,
                            enum mr_status (*run)(struct mr_rdd *rdd, struct mr_error *err),
                            struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&once->lock);
    while (once->state == MR__ONCE_RUNNING)
        mr_cond_wait(&once->changed, &once->lock);
    if (once->state == MR__ONCE_DONE) {
        mr_mutex_unlock(&once->lock);
        return MR_OK;
    }
    once->state = MR__ONCE_RUNNING;
    mr_mutex_unlock(&once->lock);
    status = run(rdd, err);
    mr_mutex_lock(&once->lock);
    once->state = status == MR_OK ? MR__ONCE_DONE : MR__ONCE_NEW;
    mr_cond_broadcast(&once->changed);
    mr_mutex_unlock(&once->lock);
    return status;
}
