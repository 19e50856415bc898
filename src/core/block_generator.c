/*
 * The block generator: buffer, timer, rate limit. block_generator.h says what it promises.
 *
 * Called by the receiver host (receiver.c): the receiver's threads acquire and add, the timer cuts.
 *
 *     add --> [ current block ] --swap--> write (append to the log, sync)
 *
 * Threads: fields below `lock` are shared. A block is swapped and written under cut_lock, so blocks
 * are in the order of their records; nothing is written under `lock`.
 */
#include "core/block_generator.h"

#include "base/check.h"
#include "base/limits.h"
#include "base/memory.h"

#include <string.h>

/*
 * A block of this size does not wait for its interval: the timer cuts it at once, while the
 * receiver goes on with the next one. When the disk does not keep up, the receiver waits at twice
 * the size.
 */
enum { BLOCK_BYTES_MAX = MR_LIMIT_RECEIVER_BLOCK, BLOCK_BYTES_LEAST = 64 << 10 };

/* A batch takes whole blocks, so little memory needs small ones. */
static size_t block_bytes_max(void)
{
    return (size_t)MR_MAX(mr_memory_part(256, BLOCK_BYTES_MAX), (uint64_t)BLOCK_BYTES_LEAST);
}

void mr__generator_init(struct mr_generator *generator, const struct mr_generator_config *config)
{
    *generator = (struct mr_generator){.config = *config};
    generator->config.rate_max = MR_MAX(config->rate_max, INT64_C(0));
    generator->rate = generator->config.rate_max;
    mr_mutex_init(&generator->cut_lock);
    mr_mutex_init(&generator->lock);
    mr_cond_init(&generator->changed);
}

void mr__generator_release(struct mr_generator *generator)
{
    MR_ASSERT(generator->timer == NULL);
    mr_buf_release(&generator->current);
    mr_buf_release(&generator->metadata);
    mr_cond_release(&generator->changed);
    mr_mutex_release(&generator->lock);
    mr_mutex_release(&generator->cut_lock);
}

enum mr_status mr__generator_failure(struct mr_generator *generator, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&generator->lock);
    status = generator->failed;
    if (status != MR_OK && err != NULL)
        *err = generator->failure;
    mr_mutex_unlock(&generator->lock);
    return status;
}

void mr__generator_fail(struct mr_generator *generator, enum mr_status status,
                        const struct mr_error *failure)
{
    mr_mutex_lock(&generator->lock);
    if (generator->failed == MR_OK) {
        generator->failed = status;
        generator->failure = *failure;
    }
    mr_cond_broadcast(&generator->changed);
    mr_mutex_unlock(&generator->lock);
}

/* ---------------------------------------------------------------- rate */

/* Token bucket (RL-1): permits come at the rate in force; at most one second of unused ones is
 * saved, at first there are none. Returns the time; the caller holds lock. */
static int64_t earn_permits(struct mr_generator *generator)
{
    double rate = (double)generator->rate;
    int64_t now_ns = mr_env_monotonic_ns(generator->config.env);

    if (generator->permits_at_ns != 0)
        generator->permits += (double)(now_ns - generator->permits_at_ns) / 1e9 * rate;
    generator->permits_at_ns = now_ns;
    generator->permits = MR_MIN(generator->permits, rate);
    return now_ns;
}

/* Takes its permits at once, below zero if need be, and waits until those it had to borrow have
 * come; they come faster or slower when the rate changes meanwhile. */
void mr__generator_acquire(struct mr_generator *generator, uint64_t records)
{
    int64_t at_ns;
    double owed;

    mr_mutex_lock(&generator->lock);
    if (generator->rate > 0) {
        at_ns = earn_permits(generator);
        generator->permits -= (double)records;
        owed = -generator->permits;
        while (owed > 0 && !generator->hurry && generator->failed == MR_OK) {
            double rate = (double)generator->rate;
            int64_t now_ns;

            mr_cond_wait_for(&generator->changed, &generator->lock,
                             (int64_t)MR_MIN(owed / rate * 1e9, 1e15) + 1);
            now_ns = mr_env_monotonic_ns(generator->config.env);
            owed -= (double)(now_ns - at_ns) / 1e9 * rate;
            at_ns = now_ns;
        }
    }
    mr_mutex_unlock(&generator->lock);
}

void mr__generator_set_rate(struct mr_generator *generator, int64_t rate)
{
    if (rate <= 0)
        return;
    mr_mutex_lock(&generator->lock);
    if (generator->rate > 0)
        earn_permits(generator); /* until now, at the rate until now */
    generator->rate =
        generator->config.rate_max > 0 ? MR_MIN(rate, generator->config.rate_max) : rate;
    mr_cond_broadcast(&generator->changed);
    mr_mutex_unlock(&generator->lock);
}

int64_t mr__generator_rate(struct mr_generator *generator)
{
    int64_t rate;

    mr_mutex_lock(&generator->lock);
    rate = generator->rate;
    mr_mutex_unlock(&generator->lock);
    return rate;
}

/* ---------------------------------------------------------------- blocks */

enum mr_status mr__generator_cut(struct mr_generator *generator, struct mr_error *err)
{
    struct mr_buf data, metadata;
    struct mr_generated block;
    enum mr_status status;

    mr_mutex_lock(&generator->cut_lock);
    mr_mutex_lock(&generator->lock);
    data = generator->current;
    metadata = generator->metadata;
    block = (struct mr_generated){data.data, data.size, generator->current_records,
                                  metadata.size > 0 ? metadata.data : NULL};
    generator->current = (struct mr_buf)MR_BUF_INIT;
    generator->metadata = (struct mr_buf)MR_BUF_INIT;
    generator->current_records = 0;
    status = generator->failed;
    if (status != MR_OK && err != NULL)
        *err = generator->failure;
    mr_mutex_unlock(&generator->lock);
    if (status == MR_OK && block.size_bytes > 0) {
        struct mr_error failure;

        mr_error_clear(&failure);
        status = generator->config.write(generator->config.arg, &block, &failure);
        if (status != MR_OK) {
            mr_mutex_lock(&generator->lock);
            generator->failed = status;
            generator->failure = failure;
            mr_cond_broadcast(&generator->changed);
            mr_mutex_unlock(&generator->lock);
            if (err != NULL)
                *err = failure;
        }
    }
    mr_mutex_unlock(&generator->cut_lock);
    mr_buf_release(&data);
    mr_buf_release(&metadata);
    return status;
}

/* Under the lock: appends, or leaves everything as it was. */
static enum mr_status append(struct mr_generator *generator, const struct mr_generated *records,
                             struct mr_error *err)
{
    size_t data_size = generator->current.size, metadata_size = generator->metadata.size;

    mr_buf_add(&generator->current, records->data, records->size_bytes);
    if (records->metadata != NULL) {
        if (metadata_size > 0)
            mr_buf_add_char(&generator->metadata, '\n');
        mr_buf_add_str(&generator->metadata, records->metadata);
    }
    if (generator->current.failed || generator->metadata.failed) {
        generator->current.failed = generator->metadata.failed = false;
        generator->current.size = data_size;
        generator->metadata.size = metadata_size;
        return MR_FAIL(err, MR_NOMEM, "cannot store %zu received bytes: out of memory",
                       records->size_bytes);
    }
    generator->current_records += records->record_count;
    return MR_OK;
}

enum mr_status mr__generator_add(struct mr_generator *generator, const struct mr_generated *records,
                                 struct mr_error *err)
{
    enum mr_status status;
    bool full = false;

    mr_mutex_lock(&generator->lock);
    status = generator->failed;
    if (status != MR_OK && err != NULL)
        *err = generator->failure;
    if (status == MR_OK && generator->state != MR_GENERATOR_ACTIVE)
        status = MR_FAIL(err, MR_STOPPED, "cannot store received data: the receiver is stopped");
    if (status == MR_OK)
        status = append(generator, records, err);
    if (status == MR_OK) {
        full =
            generator->config.interval_us == 0 || generator->current.size >= 2 * block_bytes_max();
        mr_cond_broadcast(&generator->changed);
    }
    mr_mutex_unlock(&generator->lock);
    return full ? mr__generator_cut(generator, err) : status;
}

/* ---------------------------------------------------------------- life */

/* Cuts a block one interval after its first bytes came, or when it is large. */
static void timer_main(void *arg)
{
    struct mr_generator *generator = arg;
    struct mr_env *env = generator->config.env;

    for (;;) {
        mr_mutex_lock(&generator->lock);
        while (!generator->hurry && generator->current.size == 0)
            mr_cond_wait(&generator->changed, &generator->lock);
        int64_t until_ns = mr_env_monotonic_ns(env) + generator->config.interval_us * 1000;
        while (!generator->hurry && generator->current.size < block_bytes_max()) {
            int64_t left_ns = until_ns - mr_env_monotonic_ns(env);
            if (left_ns <= 0)
                break;
            mr_cond_wait_for(&generator->changed, &generator->lock, left_ns);
        }
        bool ends = generator->hurry;
        mr_mutex_unlock(&generator->lock);
        if (ends || mr__generator_cut(generator, NULL) != MR_OK)
            return; /* the stop writes the rest; a failure sticks */
    }
}

enum mr_status mr__generator_start(struct mr_generator *generator, struct mr_error *err)
{
    bool again;

    mr_mutex_lock(&generator->lock);
    again = generator->state != MR_GENERATOR_INITIALIZED;
    generator->state = again ? generator->state : MR_GENERATOR_ACTIVE;
    mr_mutex_unlock(&generator->lock);
    if (again)
        return MR_FAIL(err, MR_STATE, "cannot start a block generator twice");
    if (generator->config.interval_us == 0)
        return MR_OK;
    return mr_thread_start("mr-blocks", timer_main, generator, &generator->timer, err);
}

void mr__generator_hurry(struct mr_generator *generator)
{
    mr_mutex_lock(&generator->lock);
    generator->hurry = true;
    mr_cond_broadcast(&generator->changed);
    mr_mutex_unlock(&generator->lock);
}

void mr__generator_stop(struct mr_generator *generator)
{
    mr__generator_hurry(generator);
    mr_thread_join(generator->timer);
    generator->timer = NULL;
    mr_mutex_lock(&generator->lock);
    generator->state = MR_GENERATOR_STOPPED;
    mr_mutex_unlock(&generator->lock);
    (void)mr__generator_cut(generator, NULL); /* a failure sticks and reaches the driver */
}
