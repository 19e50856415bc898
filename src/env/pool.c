/*
 * Connections that outputs share (millrace/pool.h).
 *
 * Idle connections form a stack: the one used last is used next, so what is too much sinks to the
 * bottom and expires there. They expire when somebody takes or gives; there is no thread for it, as
 * a stream calls at least once a batch.
 *
 * Thread: fields below `lock` are shared; the program's open, close and check run without it.
 */
#include "env/pool.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "env/thread.h"

#include <string.h>

enum { CONNECTIONS_DEFAULT = 16, CONNECTIONS_MAX = MR_LIMIT_CONNECTIONS, IDLE_DEFAULT_MS = 60000 };

struct idle {
    void *connection;
    int64_t since_ns;
};

struct mr_pool {
    struct mr_env *env;
    struct mr_pool_options options;
    struct mr_mutex lock;
    struct mr_cond given;
    struct idle *idle; /* [0] was used longest ago; room for connections_max */
    unsigned idle_count;
    unsigned used_count;
    uint64_t opened;
    uint64_t closed;
};

enum mr_status mr__pool_new_on(struct mr_env *env, const struct mr_pool_options *options,
                               struct mr_pool **ret_pool, struct mr_error *err)
{
    struct mr_pool *pool;

    if (options->open == NULL || options->close == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot make a pool; it needs both 'open' and 'close'");
    if (options->connections_max > CONNECTIONS_MAX || options->idle_ms < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make a pool; 'connections_max' is at most %d and 'idle_ms' not "
                       "negative",
                       CONNECTIONS_MAX);
    pool = mr_alloc_zero(NULL, sizeof(*pool));
    if (pool == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a pool: out of memory");
    pool->env = env;
    pool->options = *options;
    if (pool->options.connections_max == 0)
        pool->options.connections_max = CONNECTIONS_DEFAULT;
    if (pool->options.idle_ms == 0)
        pool->options.idle_ms = IDLE_DEFAULT_MS;
    pool->idle = mr_alloc_zero(NULL, pool->options.connections_max * sizeof(*pool->idle));
    if (pool->idle == NULL) {
        mr_free(pool);
        return MR_FAIL(err, MR_NOMEM, "cannot make a pool: out of memory");
    }
    mr_mutex_init(&pool->lock);
    mr_cond_init(&pool->given);
    *ret_pool = pool;
    return MR_OK;
}

enum mr_status mr_pool_new(const struct mr_pool_options *options, struct mr_pool **ret_pool,
                           struct mr_error *err)
{
    return mr__pool_new_on(mr_env_posix(), options, ret_pool, err);
}

void mr_pool_free(struct mr_pool *pool)
{
    if (pool == NULL)
        return;
    MR_ASSERT(pool->used_count == 0);
    for (unsigned i = 0; i < pool->idle_count; i++)
        pool->options.close(pool->options.arg, pool->idle[i].connection);
    mr_cond_release(&pool->given);
    mr_mutex_release(&pool->lock);
    mr_free(pool->idle);
    mr_free(pool);
}

/* Takes the oldest idle connection when it expired; the caller holds lock and closes it later. */
static void *take_expired(struct mr_pool *pool)
{
    int64_t limit_ns = mr_env_monotonic_ns(pool->env) - pool->options.idle_ms * 1000000;
    void *connection;

    if (pool->idle_count == 0 || pool->idle[0].since_ns > limit_ns)
        return NULL;
    connection = pool->idle[0].connection;
    pool->idle_count--;
    pool->closed++;
    memmove(pool->idle, pool->idle + 1, pool->idle_count * sizeof(*pool->idle));
    return connection;
}

static void close_expired(struct mr_pool *pool)
{
    void *connection;

    do {
        mr_mutex_lock(&pool->lock);
        connection = take_expired(pool);
        mr_mutex_unlock(&pool->lock);
        if (connection != NULL)
            pool->options.close(pool->options.arg, connection);
    } while (connection != NULL);
}

/* The connection used last, counted as used; NULL: the caller may open one, which is counted. */
static void *take_idle(struct mr_pool *pool)
{
    void *connection = NULL;

    mr_mutex_lock(&pool->lock);
    while (pool->idle_count == 0 && pool->used_count >= pool->options.connections_max)
        mr_cond_wait(&pool->given, &pool->lock);
    if (pool->idle_count > 0)
        connection = pool->idle[--pool->idle_count].connection;
    pool->used_count++;
    mr_mutex_unlock(&pool->lock);
    return connection;
}

/* One that was counted as used is gone. */
static void forget_used(struct mr_pool *pool, bool was_open)
{
    mr_mutex_lock(&pool->lock);
    pool->used_count--;
    pool->closed += was_open;
    mr_cond_signal(&pool->given);
    mr_mutex_unlock(&pool->lock);
}

enum mr_status mr_pool_take(struct mr_pool *pool, void **ret_connection, struct mr_error *err)
{
    const struct mr_pool_options *options = &pool->options;
    enum mr_status status;
    void *connection;

    close_expired(pool);
    for (;;) {
        connection = take_idle(pool);
        if (connection == NULL)
            break;
        if (options->check == NULL || options->check(options->arg, connection)) {
            *ret_connection = connection;
            return MR_OK;
        }
        options->close(options->arg, connection);
        forget_used(pool, true);
    }
    status = options->open(options->arg, &connection, err);
    if (status != MR_OK) {
        forget_used(pool, false);
        return status;
    }
    mr_mutex_lock(&pool->lock);
    pool->opened++;
    mr_mutex_unlock(&pool->lock);
    *ret_connection = connection;
    return MR_OK;
}

void mr_pool_give(struct mr_pool *pool, void *connection, bool is_broken)
{
    if (is_broken) {
        pool->options.close(pool->options.arg, connection);
        forget_used(pool, true);
    } else {
        mr_mutex_lock(&pool->lock);
        MR_ASSERT(pool->used_count > 0);
        pool->used_count--;
        pool->idle[pool->idle_count++] = (struct idle){connection, mr_env_monotonic_ns(pool->env)};
        mr_cond_signal(&pool->given);
        mr_mutex_unlock(&pool->lock);
    }
    close_expired(pool);
}

void mr_pool_counts(struct mr_pool *pool, struct mr_pool_counts *ret_counts)
{
    mr_mutex_lock(&pool->lock);
    *ret_counts =
        (struct mr_pool_counts){pool->idle_count, pool->used_count, pool->opened, pool->closed};
    mr_mutex_unlock(&pool->lock);
}
