/*
 * What functions of map_with_state see of a key's state (mr_key_state_*), and the keys that a
 * function of all keys goes through (mr_updates_next).
 *
 *     exists --update--> exists --remove--> gone: no update, no second removal (MWS-3)
 *     timing out: may be read only
 *
 * A mistake sticks and comes out of mr__key_state_end, so no call of the program needs a check. New
 * states of many calls are gathered in one builder; asking for a state that this call has set ends
 * that builder, so that there is a row to look at.
 *
 * Thread: the evaluating worker's.
 */
#include "fn/fn.h"

#include <millrace/ext/builder.h>

enum { KEY_TEXT_BYTES = 48 };

/* ---- new states ---- */

enum mr_status mr__new_states_init(struct mr__new_states *states, const struct mr_schema *schema,
                                   struct mr_error *err)
{
    *states = (struct mr__new_states){0};
    return mr__emitter_init(&states->out, schema, err);
}

void mr__new_states_release(struct mr__new_states *states)
{
    mr__emitter_release(&states->out);
    mr__batches_release(&states->done);
    mr_free(states->starts);
    states->starts = NULL;
}

static int64_t rows_of(const struct mr__new_states *states)
{
    return states->done_rows + mr__emitter_rows(&states->out);
}

static bool room_for_start(struct mr__new_states *states)
{
    size_t capacity = states->starts_capacity == 0 ? 16 : states->starts_capacity * 2;
    int64_t *grown;

    if (states->done.count < states->starts_capacity)
        return true;
    grown = mr_realloc(NULL, states->starts, capacity * sizeof(*grown));
    if (grown == NULL)
        return false;
    states->starts = grown;
    states->starts_capacity = capacity;
    return true;
}

/* The rows in the builder become a batch. */
static enum mr_status end_builder(struct mr__new_states *states, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (!room_for_start(states))
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    MR_TRY(mr__emitter_finish(&states->out, &batch, err));
    states->starts[states->done.count] = states->done_rows;
    states->done_rows += mr_batch_row_count(batch);
    status = mr__batches_add(&states->done, batch, err);
    mr_batch_unref(batch);
    return status;
}

enum mr_status mr__new_states_row(struct mr__new_states *states, int64_t number,
                                  struct mr_row *ret_row, struct mr_error *err)
{
    size_t low = 0, high;

    MR_ASSERT(number >= 0 && number < rows_of(states));
    if (number >= states->done_rows)
        MR_TRY(end_builder(states, err));
    high = states->done.count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (states->starts[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    *ret_row = (struct mr_row){states->done.items[low], number - states->starts[low]};
    return MR_OK;
}

/* ---- the handle ---- */

static void blame(struct mr_key_state *state, const char *mistake)
{
    if (state->mistake == NULL)
        state->mistake = mistake;
}

/* Did the update that is under way emit its one row? */
static void check_update(struct mr_key_state *state)
{
    if (state->is_updated && rows_of(state->news) != state->before + 1)
        blame(state, "must emit exactly one row into mr_key_state_update");
}

bool mr_key_state_exists(const struct mr_key_state *state)
{
    return !state->is_removed && (state->is_updated || state->old != NULL);
}

bool mr_key_state_timing_out(const struct mr_key_state *state)
{
    return state->is_timing_out;
}

/* The handle is the program's view: what it asks for changes nothing that it can see. */
const struct mr_row *mr_key_state_get(const struct mr_key_state *handle)
{
    struct mr_key_state *state = (struct mr_key_state *)(uintptr_t)handle;

    if (!mr_key_state_exists(state))
        return NULL;
    if (!state->is_updated)
        return state->old;
    if (state->newest.batch == NULL) {
        check_update(state);
        if (state->mistake != NULL ||
            mr__new_states_row(state->news, state->before, &state->newest, NULL) != MR_OK) {
            blame(state, "asks for a state that could not be set");
            return NULL;
        }
    }
    return &state->newest;
}

struct mr_emitter *mr_key_state_update(struct mr_key_state *state)
{
    if (state->is_removed)
        blame(state, "updates a state after removing it");
    if (state->is_timing_out)
        blame(state, "updates a state that is timing out");
    check_update(state);
    state->is_updated = true;
    state->before = rows_of(state->news);
    state->newest.batch = NULL;
    return &state->news->out;
}

void mr_key_state_update_int(struct mr_key_state *state, int64_t value)
{
    mr_emit_int(mr_key_state_update(state), value);
}

void mr_key_state_remove(struct mr_key_state *state)
{
    if (state->is_removed)
        blame(state, "removes a state twice");
    if (state->is_timing_out)
        blame(state, "removes a state that is timing out: it goes anyway");
    check_update(state);
    state->is_removed = true;
}

enum mr_status mr__key_state_end(struct mr_key_state *state, const struct mr_row *key,
                                 int64_t *ret_row, struct mr_error *err)
{
    char text[KEY_TEXT_BYTES];

    MR_TRY(mr__emitter_check(&state->news->out, err));
    if (!state->is_removed)
        check_update(state);
    if (state->mistake != NULL) {
        size_t need = mr_row_print(key, 0, text, sizeof(text));
        return MR_FAIL(err, MR_USER, "the function %s (key '%s%s')", state->mistake, text,
                       need >= sizeof(text) ? "..." : "");
    }
    *ret_row = rows_of(state->news) - 1;
    return MR_OK;
}

/* ---- all keys of a partition ---- */

bool mr_updates_next(struct mr_updates *updates, struct mr_update *ret_update)
{
    return updates->next(updates, ret_update);
}
