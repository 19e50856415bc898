/*
 * Receiver hosts: storing what a receiver takes in, running it, starting it again (dstream.md 8).
 *
 *     mr_receiver_store*  -- rate --> room --> current block (block_generator.c) --> block log
 *     own blocks          ----------> room -------------------------------------->
 *
 * A store that fails ends the receiver's run: it must not read on over a hole. A receiver whose
 * runs fail without storing anything waits longer each time, up to RESTART_DELAYS_MAX delays.
 *
 * Called by receivers through <millrace/ext/source.h>, by receiver.c for the driver.
 *
 * Threads: `run` in a thread of its own; stores from any thread of the receiver.
 */
#include "core/receiver_host.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { RESTART_DELAYS_MAX = 8 };

static bool host_is_stopping(struct mr_receiver_host *host)
{
    bool stopping;

    mr_mutex_lock(&host->lock);
    stopping = host->stopping;
    mr_mutex_unlock(&host->lock);
    return stopping;
}

bool mr_receiver_stopping(const struct mr_receiver_host *host)
{
    return host_is_stopping((struct mr_receiver_host *)host);
}

/* ---------------------------------------------------------------- storing */

static enum mr_status write_block(void *arg, const struct mr_generated *block, struct mr_error *err)
{
    struct mr_receiver_host *host = arg;
    struct mr_metrics *metrics = &host->query->metrics;
    const struct mr_block_data data = {
        .data = block->data,
        .size_bytes = block->size_bytes,
        .record_count = block->record_count,
        .received_us = mr_env_wall_us(host->query->env),
        .metadata = block->metadata,
    };
    enum mr_status status;
    uint64_t number;

    /* Before a batch can read the block and give its room back. */
    mr_mutex_lock(&host->lock);
    host->backlog_bytes += block->size_bytes;
    mr_mutex_unlock(&host->lock);
    status = mr_block_log_put(host->log, &data, &number, err);
    if (status != MR_OK) {
        mr__receiver_host_give_room(host, block->size_bytes);
        return status;
    }
    mr_metric_add(metrics, MR_METRIC_RECEIVED_BLOCKS, 1);
    mr_metric_add(metrics, MR_METRIC_RECEIVED_BYTES, (int64_t)block->size_bytes);
    mr_mutex_lock(&host->lock);
    host->state.record_count += block->record_count;
    host->state.byte_count += block->size_bytes;
    mr_mutex_unlock(&host->lock);
    if (host->wake != NULL)
        host->wake(host->wake_arg);
    return MR_OK;
}

/* Waits while the backlog is full; a stop or a failed log ends the wait. Returns true when a stop
 * was asked for. */
static bool wait_for_room(struct mr_receiver_host *host)
{
    const struct mr_query_config *config = &host->query->config;
    bool stopping;

    mr_mutex_lock(&host->lock);
    while (!host->stopping && config->trigger != MR_TRIGGER_ONCE && /* one batch has to hold all */
           host->backlog_bytes >= config->receiver_queue_bytes)
        mr_cond_wait(&host->changed, &host->lock);
    stopping = host->stopping;
    mr_mutex_unlock(&host->lock);
    return stopping;
}

static uint64_t count_lines(const char *data, size_t size_bytes)
{
    uint64_t lines = 0;
    const char *end = data + size_bytes;

    for (const char *at = data; at < end; lines++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline == NULL ? end : newline + 1;
    }
    return lines;
}

static enum mr_status asked_to_stop(struct mr_error *err)
{
    return MR_FAIL(err, MR_STOPPED, "the receiver was asked to stop");
}

/* Lines: what was received is kept when a stop is asked for, and only then the receiver leaves. */
static enum mr_status store_lines(struct mr_receiver_host *host, const char *data,
                                  size_t size_bytes, bool durably, struct mr_error *err)
{
    const struct mr_generated lines = {data, size_bytes, count_lines(data, size_bytes), NULL};
    bool stopping;

    mr__generator_acquire(&host->generator, lines.record_count);
    stopping = wait_for_room(host);
    MR_TRY(mr__generator_add(&host->generator, &lines, err));
    if (durably)
        MR_TRY(mr__generator_cut(&host->generator, err));
    return stopping ? asked_to_stop(err) : MR_OK;
}

enum mr_status mr_receiver_store(struct mr_receiver_host *host, const char *data, size_t size_bytes,
                                 struct mr_error *err)
{
    return store_lines(host, data, size_bytes, false, err);
}

enum mr_status mr_receiver_store_durably(struct mr_receiver_host *host, const char *data,
                                         size_t size_bytes, struct mr_error *err)
{
    return store_lines(host, data, size_bytes, true, err);
}

enum mr_status mr_receiver_store_records(struct mr_receiver_host *host,
                                         const struct mr_received *received, struct mr_error *err)
{
    const struct mr_generated records = {received->data, received->size_bytes,
                                         received->record_count, received->metadata};

    if (host_is_stopping(host))
        return asked_to_stop(err);
    if (!received->own_block)
        mr__generator_acquire(&host->generator, records.record_count);
    if (wait_for_room(host))
        return asked_to_stop(err);
    if (!received->own_block)
        return mr__generator_add(&host->generator, &records, err);
    MR_TRY(mr__generator_failure(&host->generator, err));
    return write_block(host, &records, err);
}

/* ---------------------------------------------------------------- life */

static void tell(struct mr_receiver_host *host, enum mr_query_event_kind kind)
{
    struct mr_receiver_state state;

    mr_mutex_lock(&host->lock);
    state = host->state;
    mr_mutex_unlock(&host->lock);
    state.rate_limit = mr__generator_rate(&host->generator);
    mr__event_receiver(host->query, kind, host->name, &state);
}

void mr_receiver_set_restart_delay(struct mr_receiver_host *host, int64_t delay_us)
{
    mr_mutex_lock(&host->lock);
    host->restart_delay_us = delay_us;
    mr_mutex_unlock(&host->lock);
}

void mr_receiver_note_error(struct mr_receiver_host *host, const char *message)
{
    mr_log(MR_LOG_WARNING, "receiver", host->query->name, -1, "source '%s': %s", host->name,
           message);
    mr_mutex_lock(&host->lock);
    (void)snprintf(host->state.last_error, sizeof(host->state.last_error), "%s", message);
    host->state.last_error_us = mr_env_wall_us(host->query->env);
    host->state.error_count++;
    mr_mutex_unlock(&host->lock);
    tell(host, MR_QUERY_RECEIVER_ERROR);
}

void mr_receiver_note_dropped(struct mr_receiver_host *host, uint64_t records)
{
    mr_metric_add(&host->query->metrics, MR_METRIC_RECEIVER_DROPPED, (int64_t)records);
}

/* How long until the next run. *ret_failures: so many runs in a row, this one too, have failed and
 * stored nothing. */
static int64_t restart_delay(struct mr_receiver_host *host, enum mr_status status,
                             uint32_t *ret_failures)
{
    int64_t delay_us;

    mr_mutex_lock(&host->lock);
    if (status == MR_OK || host->state.record_count != host->records_at_run)
        host->fruitless_runs = 0;
    else
        host->fruitless_runs++;
    *ret_failures = host->fruitless_runs;
    delay_us = host->query->config.restart_delay_us;
    for (uint32_t i = 1; i < host->fruitless_runs && (1 << i) <= RESTART_DELAYS_MAX; i++)
        delay_us *= 2;
    if (host->restart_delay_us >= 0)
        delay_us = host->restart_delay_us;
    host->restart_delay_us = -1;
    host->state.restart_count++;
    mr_mutex_unlock(&host->lock);
    return delay_us;
}

/* Waits between two runs of the receiver. False: stop. */
static bool pause_before_restart(struct mr_receiver_host *host, int64_t delay_us)
{
    struct mr_env *env = host->query->env;
    int64_t until_ns = mr_env_monotonic_ns(env) + delay_us * 1000;
    bool go_on;

    mr_mutex_lock(&host->lock);
    while (!host->stopping) {
        int64_t left_ns = until_ns - mr_env_monotonic_ns(env);
        if (left_ns <= 0)
            break;
        mr_cond_wait_for(&host->changed, &host->lock, left_ns);
    }
    go_on = !host->stopping;
    mr_mutex_unlock(&host->lock);
    return go_on && mr__generator_failure(&host->generator, NULL) == MR_OK;
}

static void set_active(struct mr_receiver_host *host, bool active)
{
    mr_mutex_lock(&host->lock);
    host->state.active = active;
    host->records_at_run = host->state.record_count;
    mr_mutex_unlock(&host->lock);
}

/* False: the receiver has ended. */
static bool run_once(struct mr_receiver_host *host)
{
    struct mr_error err;
    enum mr_status status;
    int64_t delay_us;
    uint32_t failures;

    mr_error_clear(&err);
    set_active(host, true);
    tell(host, MR_QUERY_RECEIVER_STARTED);
    status = host->ops->run(host->receiver, host, &err);
    set_active(host, false);
    if (status == MR_STOPPED || host_is_stopping(host) || (status == MR_OK && host->ops->ends)) {
        tell(host, MR_QUERY_RECEIVER_STOPPED);
        return false;
    }
    /* What can be read once only will not get better by being read again. */
    if (status != MR_OK && host->ops->ends && !mr_status_retriable(status)) {
        (void)mr__generator_cut(&host->generator, NULL);
        mr__generator_fail(&host->generator, status, &err);
        mr_receiver_note_error(host, err.text);
        tell(host, MR_QUERY_RECEIVER_STOPPED);
        return false;
    }
    /* What the last run took in is a block before anything of the next one is. */
    delay_us = restart_delay(host, status, &failures);
    if (status != MR_OK) {
        char text[MR_RECEIVER_ERROR_BYTES + 160], in_a_row[48] = "";

        if (failures > 1)
            (void)snprintf(in_a_row, sizeof(in_a_row), "failure %u in a row, ", failures);
        (void)snprintf(text, sizeof(text), "%s; %sstarting again in %lld ms", err.text, in_a_row,
                       (long long)(delay_us / 1000));
        mr_receiver_note_error(host, text);
    } else {
        mr_log(MR_LOG_INFO, "receiver", host->query->name, -1,
               "source '%s': no more data; starting again in %lld ms", host->name,
               (long long)(delay_us / 1000));
    }
    mr_metric_add(&host->query->metrics, MR_METRIC_RECEIVER_RESTARTS, 1);
    tell(host, MR_QUERY_RECEIVER_STOPPED);
    return pause_before_restart(host, delay_us);
}

static void run_main(void *arg)
{
    struct mr_receiver_host *host = arg;

    while (run_once(host))
        ;
    /* the rest; a failure sticks in the generator and reaches the driver through plan */
    (void)mr__generator_cut(&host->generator, NULL);
    mr_mutex_lock(&host->lock);
    host->run_ended = true;
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
    if (host->wake != NULL)
        host->wake(host->wake_arg);
}

void mr__receiver_host_init(struct mr_receiver_host *host)
{
    const struct mr_query_config *config = &host->query->config;
    const struct mr_generator_config generator = {
        .env = host->query->env,
        .interval_us = config->block_interval_us,
        .rate_max = config->receiver_rate_max,
        .write = write_block,
        .arg = host,
    };

    mr__generator_init(&host->generator, &generator);
    mr_mutex_init(&host->lock);
    mr_cond_init(&host->changed);
    host->restart_delay_us = -1;
    host->state.last_error_us = -1;
}

void mr__receiver_host_release(struct mr_receiver_host *host)
{
    mr__generator_release(&host->generator);
    mr_cond_release(&host->changed);
    mr_mutex_release(&host->lock);
}

enum mr_status mr__receiver_host_start(struct mr_receiver_host *host, struct mr_error *err)
{
    if (host->thread != NULL || mr__receiver_host_ended(host))
        return MR_OK;
    if (host->generator.state == MR_GENERATOR_INITIALIZED)
        MR_TRY(mr__generator_start(&host->generator, err));
    return mr_thread_start("mr-receiver", run_main, host, &host->thread, err);
}

void mr__receiver_host_drain(struct mr_receiver_host *host)
{
    mr_mutex_lock(&host->lock);
    host->stopping = true;
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
    mr__generator_hurry(&host->generator);
    if (host->receiver != NULL && host->thread != NULL && host->ops->interrupt != NULL)
        host->ops->interrupt(host->receiver);
    mr_thread_join(host->thread);
    host->thread = NULL;
    mr__generator_stop(&host->generator); /* flushed before the log is closed (hazard 1) */
    mr_mutex_lock(&host->lock);
    host->run_ended = true;
    mr_mutex_unlock(&host->lock);
}

bool mr__receiver_host_ended(struct mr_receiver_host *host)
{
    bool ended;

    mr_mutex_lock(&host->lock);
    ended = host->run_ended;
    mr_mutex_unlock(&host->lock);
    return ended;
}

void mr__receiver_host_give_room(struct mr_receiver_host *host, uint64_t bytes)
{
    mr_mutex_lock(&host->lock);
    host->backlog_bytes -= MR_MIN(bytes, host->backlog_bytes);
    mr_cond_broadcast(&host->changed);
    mr_mutex_unlock(&host->lock);
}
