/*
 * What a function of map_groups sees of its key (mr_group_*), and what is written back.
 *
 *     update: there is a state; remove: there is none; each as often as it likes, the last counts
 *     timeouts: forgotten when the call begins, refused when they are of the wrong kind or past
 *
 * A mistake sticks and comes out of mr_group_end, so no call of the program needs a check. New
 * states of many calls are gathered in one builder (fn/key_state.c).
 *
 * Called by programs, and by groups_calls.c. Thread: the partition's worker.
 */
#include "streams/groups.h"

#include "streams/interval.h"

static void blame(struct mr_group_state *state, const char *mistake)
{
    if (state->mistake == NULL)
        state->mistake = mistake;
}

static int64_t rows_of(const struct mr__new_states *news)
{
    return news->done_rows + mr__emitter_rows(&news->out);
}

/* Did the update that is under way emit its one row, and is there anything in it? */
static void check_update(struct mr_group_state *state)
{
    if (!state->is_updated || state->newest.batch != NULL)
        return;
    if (rows_of(state->news) != state->before + 1)
        blame(state, "must emit exactly one row into mr_group_update");
    else if (state->before >= state->news->done_rows &&
             !mr_keyed_any_value(&state->news->out, state->before - state->news->done_rows))
        blame(state, "updates a state to nothing but nulls; call mr_group_remove");
}

bool mr_group_exists(const struct mr_group_state *state)
{
    return !state->is_removed && (state->is_updated || state->old != NULL);
}

bool mr_group_timed_out(const struct mr_group_state *state)
{
    return state->timed_out;
}

const struct mr_row *mr_group_find(struct mr_group_state *state)
{
    if (!mr_group_exists(state))
        return NULL;
    if (!state->is_updated)
        return state->old;
    check_update(state);
    if (state->mistake != NULL)
        return NULL;
    if (state->newest.batch == NULL &&
        mr__new_states_row(state->news, state->before, &state->newest, NULL) != MR_OK) {
        blame(state, "asks for a state that could not be set");
        return NULL;
    }
    return &state->newest;
}

const struct mr_row *mr_group_get(struct mr_group_state *state)
{
    const struct mr_row *row = mr_group_find(state);

    if (row == NULL)
        blame(state, "gets a state that does not exist; ask mr_group_exists first, or call "
                     "mr_group_find");
    return row;
}

struct mr_emitter *mr_group_update(struct mr_group_state *state)
{
    check_update(state);
    state->is_updated = true;
    state->is_removed = false;
    state->before = rows_of(state->news);
    state->newest.batch = NULL;
    return &state->news->out;
}

void mr_group_update_int(struct mr_group_state *state, int64_t value)
{
    mr_emit_int(mr_group_update(state), value);
}

void mr_group_remove(struct mr_group_state *state)
{
    check_update(state);
    state->is_updated = false;
    state->is_removed = true;
}

/* ---- timeouts ---- */

static bool refuse(struct mr_group_state *state, const char *mistake)
{
    blame(state, mistake);
    return false;
}

bool mr_group_set_timeout_duration(struct mr_group_state *state, int64_t duration_ms)
{
    if (state->kind != MR_TIMEOUT_PROCESSING_TIME)
        return refuse(state, "sets a timeout duration, which needs timeout = "
                             "MR_TIMEOUT_PROCESSING_TIME");
    if (duration_ms <= 0)
        return refuse(state, "sets a timeout duration that is not above 0");
    if (__builtin_add_overflow(state->batch_time_ms, duration_ms, &state->timeout_ms))
        return refuse(state, "sets a timeout duration that is too long");
    return true;
}

bool mr_group_set_timeout_duration_text(struct mr_group_state *state, const char *duration)
{
    int64_t ms = 0;

    if (!mr_interval_ms(duration, &ms))
        return refuse(state, "sets a timeout duration that is none; write '90 seconds' or "
                             "'1 hour 30 minutes'");
    return mr_group_set_timeout_duration(state, ms);
}

bool mr_group_set_timeout_timestamp(struct mr_group_state *state, int64_t timestamp_ms)
{
    if (state->kind != MR_TIMEOUT_EVENT_TIME)
        return refuse(state, "sets a timeout timestamp, which needs timeout = "
                             "MR_TIMEOUT_EVENT_TIME");
    if (timestamp_ms <= 0)
        return refuse(state, "sets a timeout timestamp that is not above 0");
    if (timestamp_ms < state->watermark_ms)
        return refuse(state, "sets a timeout timestamp before the watermark; set it at or after "
                             "mr_group_watermark_ms");
    state->timeout_ms = timestamp_ms;
    return true;
}

bool mr_group_set_timeout_timestamp_text(struct mr_group_state *state, int64_t timestamp_ms,
                                         const char *duration)
{
    int64_t ms = 0;

    if (state->kind == MR_TIMEOUT_EVENT_TIME && !mr_interval_ms(duration, &ms))
        return refuse(state, "adds to a timeout timestamp what is no duration; write '90 seconds' "
                             "or '1 hour 30 minutes'");
    if (state->kind == MR_TIMEOUT_EVENT_TIME &&
        (ms < 0 || __builtin_add_overflow(timestamp_ms, ms, &timestamp_ms)))
        return refuse(state, "adds a duration below 0, or too long, to a timeout timestamp");
    return mr_group_set_timeout_timestamp(state, timestamp_ms);
}

int64_t mr_group_batch_time_ms(const struct mr_group_state *state)
{
    return state->batch_time_ms;
}

int64_t mr_group_watermark_ms(struct mr_group_state *state)
{
    if (state->has_watermark)
        return state->watermark_ms;
    blame(state, "asks for the watermark of a stream that has none; declare WATERMARK FOR, or "
                 "mr_frame_with_watermark");
    return -1;
}

/* ---- after the call ---- */

enum mr_status mr_group_end(struct mr_group_state *state, int64_t *ret_news, struct mr_error *err)
{
    MR_TRY(mr__emitter_check(&state->news->out, err));
    check_update(state);
    if (state->mistake != NULL)
        return MR_FAIL(err, MR_USER, "the function %s", state->mistake);
    *ret_news = state->before;
    return MR_OK;
}

enum mr_group_write mr_group_writes(const struct mr_group_state *state, bool had_entry,
                                    int64_t old_timeout_ms, bool *ret_has_state)
{
    *ret_has_state = mr_group_exists(state);
    if (!*ret_has_state && state->timeout_ms == MR_DUE_NEVER)
        return had_entry ? MR_GROUP_DELETE : MR_GROUP_KEEP;
    if (state->is_updated || state->is_removed || state->timeout_ms != old_timeout_ms)
        return MR_GROUP_PUT;
    return MR_GROUP_KEEP;
}
