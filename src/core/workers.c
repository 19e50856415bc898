/*
 * The worker pool: threads that run the jobs of a batch - its tasks, the partitions of its folds.
 *
 * The owner calls mr__workers_run and helps as worker 0. Jobs are taken in index order through one
 * atomic counter; there is no other shared state between workers. A small
 * batch never wakes anybody: waking a sleeping thread costs more than most small batches
 * (workloads: 35 us against 0.12 us). Threads start when they are first needed, and end when the
 * pool is made smaller.
 *
 * Thread: run, resize and free: the owner's. The rest of the state is guarded by lock.
 */
#include "core/internal.h"

#include <stdatomic.h>
#include <string.h>

struct mr_workers {
    unsigned count;   /* threads besides the driver */
    unsigned max;     /* room for so many */
    unsigned started; /* that many there are: the first ones */
    struct mr_thread **threads;
    struct worker_arg {
        struct mr_workers *workers;
        unsigned index;
        uint64_t seen; /* generation when it was started */
        bool leaves;   /* guarded by lock */
    } * args;

    mr__job_fn fn; /* of the run in progress: set before generation moves */
    void *arg;
    size_t job_count;
    enum mr_status *statuses;
    struct mr_error *errors;
    _Atomic size_t next;
    _Atomic bool failed;

    struct mr_mutex lock;
    struct mr_cond start;
    struct mr_cond done;
    uint64_t generation; /* guarded by lock, like the two below */
    unsigned busy;
};

/*
 * Takes jobs until there are none, or one has failed: the batch is lost then anyway. A job that was
 * taken is run, so all below a failed one are, and the lowest failure is the same whatever the
 * threads do.
 */
static void work(struct mr_workers *workers, unsigned worker)
{
    while (!atomic_load(&workers->failed)) {
        size_t index = atomic_fetch_add(&workers->next, 1);

        if (index >= workers->job_count)
            return;
        workers->statuses[index] =
            workers->fn(workers->arg, index, worker, &workers->errors[index]);
        if (workers->statuses[index] != MR_OK)
            atomic_store(&workers->failed, true);
    }
}

static void worker_main(void *arg)
{
    struct worker_arg *self = arg;
    struct mr_workers *workers = self->workers;
    uint64_t seen = self->seen;

    mr_mutex_lock(&workers->lock);
    for (;;) {
        while (!self->leaves && workers->generation == seen)
            mr_cond_wait(&workers->start, &workers->lock);
        if (self->leaves)
            break;
        seen = workers->generation;
        mr_mutex_unlock(&workers->lock);
        work(workers, self->index);
        mr_mutex_lock(&workers->lock);
        if (--workers->busy == 0)
            mr_cond_signal(&workers->done);
    }
    mr_mutex_unlock(&workers->lock);
}

enum mr_status mr__workers_new(unsigned count, unsigned max, struct mr_workers **ret_workers,
                               struct mr_error *err)
{
    struct mr_workers *workers = mr_alloc_zero(NULL, sizeof(*workers));

    MR_ASSERT(count >= 1 && max >= count);
    if (workers == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start workers: out of memory");
    workers->count = count - 1;
    workers->max = max - 1;
    mr_mutex_init(&workers->lock);
    mr_cond_init(&workers->start);
    mr_cond_init(&workers->done);
    *ret_workers = workers;
    return MR_OK;
}

/* Threads are started when the first batch needs them: most small pipelines never do. A batch that
 * failed here may be run again, so what there is already is kept. */
static enum mr_status start_threads(struct mr_workers *workers, struct mr_error *err)
{
    if (workers->threads == NULL)
        workers->threads = mr_alloc_zero(NULL, workers->max * sizeof(*workers->threads));
    if (workers->args == NULL)
        workers->args = mr_alloc_zero(NULL, workers->max * sizeof(*workers->args));
    if (workers->threads == NULL || workers->args == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start workers: out of memory");
    for (; workers->started < workers->count; workers->started++) {
        unsigned i = workers->started;

        workers->args[i] = (struct worker_arg){workers, i + 1, workers->generation, false};
        MR_TRY(mr_thread_start("mr-worker", worker_main, &workers->args[i], &workers->threads[i],
                               err));
    }
    return MR_OK;
}

/* Ends all threads but the first ones; nothing runs. */
static void end_threads(struct mr_workers *workers, unsigned keep)
{
    mr_mutex_lock(&workers->lock);
    for (unsigned i = keep; i < workers->started; i++)
        workers->args[i].leaves = true;
    mr_cond_broadcast(&workers->start);
    mr_mutex_unlock(&workers->lock);
    for (; workers->started > keep; workers->started--)
        mr_thread_join(workers->threads[workers->started - 1]);
}

void mr__workers_resize(struct mr_workers *workers, unsigned count)
{
    MR_ASSERT(count >= 1 && count - 1 <= workers->max);
    workers->count = count - 1;
    if (workers->started > workers->count)
        end_threads(workers, workers->count);
}

unsigned mr__workers_count(const struct mr_workers *workers)
{
    return workers->count + 1;
}

unsigned mr__workers_threads(const struct mr_workers *workers)
{
    return workers->started;
}

void mr__workers_free(struct mr_workers *workers)
{
    if (workers == NULL)
        return;
    end_threads(workers, 0);
    mr_cond_release(&workers->start);
    mr_cond_release(&workers->done);
    mr_mutex_release(&workers->lock);
    mr_free(workers->threads);
    mr_free(workers->args);
    mr_free(workers);
}

static void wake_all(struct mr_workers *workers)
{
    mr_mutex_lock(&workers->lock);
    workers->busy = workers->count;
    workers->generation++;
    mr_cond_broadcast(&workers->start);
    mr_mutex_unlock(&workers->lock);
}

static void wait_all(struct mr_workers *workers)
{
    mr_mutex_lock(&workers->lock);
    while (workers->busy > 0)
        mr_cond_wait(&workers->done, &workers->lock);
    mr_mutex_unlock(&workers->lock);
}

enum mr_status mr__workers_run(struct mr_workers *workers, mr__job_fn fn, void *arg, size_t count,
                               bool wake, struct mr_error *err)
{
    enum mr_status status = MR_OK;
    bool help = wake && count > 1 && workers->count > 0;

    if (count == 0)
        return MR_OK;
    workers->statuses = mr_alloc_zero(NULL, count * sizeof(*workers->statuses));
    workers->errors = mr_alloc_zero(NULL, count * sizeof(*workers->errors));
    if (workers->statuses == NULL || workers->errors == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot run a batch of %zu tasks: out of memory", count);
        goto done;
    }
    if (help)
        MR_TRY_GOTO(start_threads(workers, err));
    workers->fn = fn;
    workers->arg = arg;
    workers->job_count = count;
    atomic_store(&workers->next, 0);
    atomic_store(&workers->failed, false);
    if (help)
        wake_all(workers);
    work(workers, 0);
    if (help)
        wait_all(workers);
    for (size_t i = 0; i < count; i++) {
        if (workers->statuses[i] != MR_OK) {
            status = workers->statuses[i];
            if (err != NULL)
                *err = workers->errors[i];
            break;
        }
    }
done:
    mr_free(workers->statuses);
    mr_free(workers->errors);
    workers->statuses = NULL;
    workers->errors = NULL;
    return status;
}
