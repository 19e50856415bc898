/*
 * Timers of the key at hand (mr_timer_*).
 *
 *     store   key --> expiry i64, milliseconds, ascending ...
 *
 * The first eight bytes are the earliest one, which is what the index over the store (due.h) wants.
 * Called by programs and by transform_call.c. Thread: the partition's worker.
 */
#include "base/limits.h"
#include "streams/transform.h"

#include "base/check.h"

#include <string.h>

enum { TIMERS_MAX = MR_LIMIT_STATE_TIMERS }; /* of one key */

void mr_transform_load_timers(struct mr_transform *at)
{
    const char *value = NULL;
    size_t value_bytes = 0, count;

    if (at->timers_loaded)
        return;
    at->timers_loaded = true;
    at->timer_count = 0;
    if (!mr_store_get(at->op->timers, at->key, at->key_bytes, &value, &value_bytes))
        return;
    count = value_bytes / sizeof(int64_t);
    if (count > at->timer_capacity) {
        int64_t *grown = mr_realloc(NULL, at->timers, (count + 4) * sizeof(*grown));

        if (grown == NULL) {
            (void)MR_FAIL(&at->error, MR_NOMEM, "cannot read timers: out of memory");
            return;
        }
        at->timers = grown;
        at->timer_capacity = count + 4;
    }
    memcpy(at->timers, value, count * sizeof(int64_t));
    at->timer_count = count;
}

/* Where a timer is, or would be. */
static size_t find(const struct mr_transform *at, int64_t expiry_ms)
{
    size_t low = 0, high = at->timer_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (at->timers[middle] < expiry_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool mr_transform_has_timer(struct mr_transform *at, int64_t expiry_ms)
{
    size_t index;

    mr_transform_load_timers(at);
    index = find(at, expiry_ms);
    return index < at->timer_count && at->timers[index] == expiry_ms;
}

void mr_transform_drop_timer(struct mr_transform *at, int64_t expiry_ms)
{
    size_t index;

    if (!mr_transform_has_timer(at, expiry_ms))
        return;
    index = find(at, expiry_ms);
    at->timer_count--;
    memmove(&at->timers[index], &at->timers[index + 1],
            (at->timer_count - index) * sizeof(*at->timers));
    at->timers_changed = true;
}

static bool add(struct mr_transform *at, int64_t expiry_ms)
{
    size_t index = find(at, expiry_ms);

    if (at->timer_count == at->timer_capacity) {
        size_t capacity = at->timer_capacity * 2 + 4;
        int64_t *grown = mr_realloc(NULL, at->timers, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        at->timers = grown;
        at->timer_capacity = capacity;
    }
    memmove(&at->timers[index + 1], &at->timers[index],
            (at->timer_count - index) * sizeof(*at->timers));
    at->timers[index] = expiry_ms;
    at->timer_count++;
    at->timers_changed = true;
    return true;
}

enum mr_status mr_transform_write_timers(struct mr_transform *at, struct mr_error *err)
{
    struct mr_store *store = at->op->timers;
    int64_t old;

    if (!at->timers_changed)
        return MR_OK;
    at->timers_changed = false;
    old = mr_due_time(store, at->key, at->key_bytes);
    if (at->timer_count == 0)
        return old != MR_DUE_NEVER ? mr_store_delete(store, at->key, at->key_bytes, err) : MR_OK;
    if (at->timers[0] < old)
        MR_TRY(mr_due_note(&at->op->timers_due, at->shard, at->timers[0], at->key, at->key_bytes,
                           err));
    return mr_store_put(store, at->key, at->key_bytes, at->timers,
                        at->timer_count * sizeof(*at->timers), err);
}

/* ---- what programs call ---- */

static bool may_use(struct mr_transform *at)
{
    if (!at->is_active)
        mr_transform_blame(at, "uses a timer outside of a call");
    else if (at->op->timers == NULL)
        mr_transform_blame(at, "uses a timer, which needs time_mode = MR_TIME_MODE_PROCESSING or "
                               "MR_TIME_MODE_EVENT");
    if (at->error.status != MR_OK)
        return false;
    mr_transform_load_timers(at);
    return at->error.status == MR_OK;
}

bool mr_timer_register(struct mr_transform *at, int64_t expiry_ms)
{
    if (!may_use(at))
        return false;
    if (expiry_ms == MR_DUE_NEVER || expiry_ms < 0) {
        mr_transform_blame(at, "registers a timer before the epoch");
        return false;
    }
    if (mr_transform_has_timer(at, expiry_ms))
        return true;
    if (at->timer_count == TIMERS_MAX) {
        mr_transform_blame(at, "registers more than %d timers for one key", TIMERS_MAX);
        return false;
    }
    if (!add(at, expiry_ms)) {
        (void)MR_FAIL(&at->error, MR_NOMEM, "cannot register a timer: out of memory");
        return false;
    }
    at->counts.registered++;
    return true;
}

bool mr_timer_delete(struct mr_transform *at, int64_t expiry_ms)
{
    if (!may_use(at) || !mr_transform_has_timer(at, expiry_ms))
        return false;
    mr_transform_drop_timer(at, expiry_ms);
    at->counts.deleted++;
    return true;
}

size_t mr_timer_count(struct mr_transform *at)
{
    return may_use(at) ? at->timer_count : 0;
}

int64_t mr_timer_at(struct mr_transform *at, size_t index)
{
    return may_use(at) && index < at->timer_count ? at->timers[index] : -1;
}
