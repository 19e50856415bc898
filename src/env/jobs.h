/*
 * Work in numbered jobs, for whoever has threads: a module that could use several takes a struct
 * mr_jobs from its caller, and does without when there is none.
 */
#ifndef MR_ENV_JOBS_H
#define MR_ENV_JOBS_H

#include <millrace/error.h>

#include <stddef.h>

/* worker: which thread runs it; 0 is the caller's. */
typedef enum mr_status (*mr_job_fn)(void *arg, size_t index, unsigned worker, struct mr_error *err);

struct mr_jobs {
    /*
     * Runs fn(arg, 0 .. count - 1), begun in that order, and returns when all that were begun have
     * ended. After a failure none is begun; the failure with the lowest index is returned.
     */
    enum mr_status (*run)(void *pool, mr_job_fn fn, void *arg, size_t count, struct mr_error *err);
    void *pool;
};

/* Are there threads for it? */
static inline bool mr_jobs_any(const struct mr_jobs *jobs)
{
    return jobs->run != NULL;
}

static inline enum mr_status mr_jobs_run(const struct mr_jobs *jobs, mr_job_fn fn, void *arg,
                                         size_t count, struct mr_error *err)
{
    if (jobs->run != NULL)
        return jobs->run(jobs->pool, fn, arg, count, err);
    for (size_t i = 0; i < count; i++)
        MR_TRY(fn(arg, i, 0, err));
    return MR_OK;
}

#endif
