/*
 * C functions of map_with_state: called for each record in order of arrival, 16,384 records between
 * two looks at the store.
 *
 *     records of a slice --their keys, once each--> states out of the store
 *            |                                          |
 *            +--> call --> mapped rows      new states of the slice --> the store
 *
 * A record sees what the ones before it made of its key. Thread: the partition's worker.
 */
#include "dstream/map_with_state.h"

#include "base/check.h"

#include <millrace/ext/builder.h>

#include <string.h>

/* What a key of the slice has become. */
struct key_now {
    uint32_t group;
    bool was_stored;
    bool exists;
    bool changed; /* since the store was read */
    bool touched; /* a record came and a timeout is configured */
    int64_t news; /* number of its new state; -1: the one out of the store */
};

struct slice {
    struct map_op *op;
    const struct mr__state_rows *rows;
    struct mr_fold_call *call;
    uint32_t *group_of; /* of each record of the partition */
    uint32_t *place_of; /* of each group: its key in this slice, when keys[place].group is it */
    struct key_now *keys;
    uint32_t key_count;
    struct mr_batch **key_views, **value_views; /* one column of each input batch */
    struct mr_batch *states;                    /* of the keys, as they were stored */
    struct mr__new_states news;
    struct mr_emitter out;
    struct mr_buf bytes;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot map with state: out of memory");
}

/* ---- one call ---- */

static enum mr_status call_one(struct map_op *op, const struct mr_state_call *call,
                               struct mr_emitter *out, int64_t *ret_news, struct mr_error *err)
{
    mr_state_fn function = (mr_state_fn)op->function->fn.call;

    mr__inside_user_code++;
    function(call, out, op->function->fn.arg);
    mr__inside_user_code--;
    MR_TRY(mr__emitter_check(out, err));
    return mr__key_state_end(call->state, call->key, ret_news, err);
}

static enum mr_status state_now(struct slice *slice, uint32_t place, struct mr_row *ret_row,
                                struct mr_error *err)
{
    const struct key_now *key = &slice->keys[place];

    if (key->news >= 0)
        return mr__new_states_row(&slice->news, key->news, ret_row, err);
    *ret_row = (struct mr_row){slice->states, place};
    return MR_OK;
}

static enum mr_status call_record(struct slice *slice, uint32_t number, struct mr_error *err)
{
    struct mr__row_at at = slice->rows->at[number];
    uint32_t place = slice->place_of[slice->group_of[number]];
    struct key_now *now = &slice->keys[place];
    struct mr_row key = {slice->key_views[at.batch], at.row};
    struct mr_row value = {slice->value_views[at.batch], at.row}, old = {0};
    struct mr_key_state state = {.news = &slice->news};
    struct mr_state_call call = {.key = &key,
                                 .value = &value,
                                 .state = &state,
                                 .batch_time_ms = slice->call->info->batch_time_us / 1000};
    int64_t news = -1;

    if (now->exists) {
        MR_TRY(state_now(slice, place, &old, err));
        state.old = &old;
    }
    MR_TRY(call_one(slice->op, &call, &slice->out, &news, err));
    if (state.is_removed) {
        now->changed |= now->exists;
        now->exists = false;
        now->news = -1;
    } else if (state.is_updated) {
        now->changed = now->exists = true;
        now->news = news;
    } else if (now->exists && slice->op->timeout_us > 0) {
        now->touched = true; /* MWS-2: a record refreshes its key */
    }
    return MR_OK;
}

/* ---- a slice ---- */

/* The keys of records [from, end), each once. */
static void find_keys(struct slice *slice, uint32_t from, uint32_t end)
{
    slice->key_count = 0;
    for (uint32_t number = from; number < end; number++) {
        uint32_t group = slice->group_of[number], place = slice->place_of[group];

        if (place < slice->key_count && slice->keys[place].group == group)
            continue;
        slice->place_of[group] = slice->key_count;
        slice->keys[slice->key_count++] = (struct key_now){.group = group, .news = -1};
    }
}

static const char *key_of(const struct slice *slice, uint32_t group, size_t *ret_bytes,
                          uint64_t *ret_hash)
{
    uint32_t number = slice->rows->sorted[slice->rows->starts[group]].number;

    *ret_hash = slice->rows->hashes[number];
    return mr__state_row_key(slice->rows, number, ret_bytes);
}

static void hint(const struct slice *slice, uint32_t place, unsigned step)
{
    size_t key_bytes;
    uint64_t hash;

    if (place >= slice->key_count)
        return;
    (void)key_of(slice, slice->keys[place].group, &key_bytes, &hash);
    mr_store_hint(slice->op->store, hash, step);
}

static enum mr_status read_states(struct slice *slice, struct mr_error *err)
{
    enum { FAR = 32, NEAR = 16 };
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(slice->op->states, &builder, err));
    for (uint32_t i = 0; i < slice->key_count; i++) {
        struct key_now *now = &slice->keys[i];
        size_t key_bytes;
        uint64_t hash;
        const char *key = key_of(slice, now->group, &key_bytes, &hash);

        hint(slice, i + FAR, 0);
        hint(slice, i + NEAR, 1);
        MR_TRY_GOTO(
            mr__map_get(slice->op, hash, key, key_bytes, builder, 0, &now->was_stored, err));
        now->exists = now->was_stored;
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, slice->key_count, err));
    status = mr_batch_builder_finish(builder, &slice->states, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status write_state(struct slice *slice, uint32_t place, struct mr_error *err)
{
    const struct key_now *now = &slice->keys[place];
    int64_t time_us = slice->call->info->batch_time_us;
    struct mr_row state = {0};
    size_t key_bytes;
    uint64_t hash;
    const char *key = key_of(slice, now->group, &key_bytes, &hash);

    if (!now->exists)
        return now->was_stored ? mr_store_delete(slice->op->store, key, key_bytes, err) : MR_OK;
    if (!now->changed && !now->touched)
        return MR_OK;
    MR_TRY(state_now(slice, place, &state, err));
    MR_TRY(mr__map_put(slice->op, key, key_bytes, time_us, mr_batch_column(state.batch, 0),
                       state.index, &slice->bytes, err));
    if (slice->bytes.size > MR_STATE_RECORD_BYTES_MAX) {
        struct mr__row_at at =
            slice->rows->at[slice->rows->sorted[slice->rows->starts[now->group]].number];
        return mr__state_check_size(slice->op->name, slice->key_views[at.batch], at.row,
                                    slice->bytes.size, time_us, err);
    }
    return MR_OK;
}

static enum mr_status emit(struct slice *slice, struct mr_error *err)
{
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr__emitter_finish(&slice->out, &result, err));
    status = mr_output_emit(slice->call->out, result, err);
    mr_batch_unref(result);
    return status;
}

static enum mr_status run_slice(struct slice *slice, uint32_t from, uint32_t end,
                                struct mr_error *err)
{
    enum mr_status status;

    find_keys(slice, from, end);
    MR_TRY_GOTO(read_states(slice, err));
    MR_TRY_GOTO(mr__new_states_init(&slice->news, slice->op->states, err));
    for (uint32_t number = from; number < end && status == MR_OK; number++)
        status = call_record(slice, number, err);
    for (uint32_t place = 0; place < slice->key_count && status == MR_OK; place++)
        status = write_state(slice, place, err);
    if (status == MR_OK)
        status = emit(slice, err);
    mr__new_states_release(&slice->news);
done:
    slice->states = mr_batch_unref(slice->states);
    return status;
}

/* ---- all records ---- */

static void slice_release(struct slice *slice, size_t batch_count)
{
    for (size_t i = 0; i < batch_count; i++) {
        if (slice->key_views != NULL)
            mr_batch_unref(slice->key_views[i]);
        if (slice->value_views != NULL)
            mr_batch_unref(slice->value_views[i]);
    }
    mr_free(slice->key_views);
    mr_free(slice->value_views);
    mr_free(slice->group_of);
    mr_free(slice->place_of);
    mr_free(slice->keys);
    mr_buf_release(&slice->bytes);
    mr__emitter_release(&slice->out);
}

static enum mr_status make_views(struct slice *slice, struct mr_batch *const *batches, size_t count,
                                 struct mr_error *err)
{
    const uint32_t key = 0, value = 1;

    for (size_t i = 0; i < count; i++) {
        MR_TRY(mr_batch_select(batches[i], slice->op->keys, &key, &slice->key_views[i], err));
        MR_TRY(mr_batch_select(batches[i], slice->op->values, &value, &slice->value_views[i], err));
    }
    return MR_OK;
}

static enum mr_status slice_init(struct slice *slice, const struct mr_fold_input *input,
                                 struct mr_error *err)
{
    const struct mr__state_rows *rows = slice->rows;

    slice->key_views = mr_alloc_zero(NULL, (input->batch_count + 1) * sizeof(struct mr_batch *));
    slice->value_views = mr_alloc_zero(NULL, (input->batch_count + 1) * sizeof(struct mr_batch *));
    slice->group_of = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*slice->group_of));
    slice->place_of =
        mr_alloc_zero(NULL, ((size_t)rows->group_count + 1) * sizeof(*slice->place_of));
    slice->keys = mr_alloc(NULL, MR__STATE_CALLS * sizeof(*slice->keys));
    if (slice->key_views == NULL || slice->value_views == NULL || slice->group_of == NULL ||
        slice->place_of == NULL || slice->keys == NULL)
        return no_memory(err);
    for (uint32_t group = 0; group < rows->group_count; group++) {
        for (uint32_t i = rows->starts[group]; i < rows->starts[group + 1]; i++)
            slice->group_of[rows->sorted[i].number] = group;
    }
    MR_TRY(make_views(slice, input->batches, input->batch_count, err));
    return mr__emitter_init(&slice->out, slice->op->mapped, err);
}

enum mr_status mr__map_calls(struct map_op *op, const struct mr__state_rows *rows,
                             struct mr_fold_call *call, struct mr_error *err)
{
    struct slice slice = {.op = op, .rows = rows, .call = call};
    enum mr_status status = slice_init(&slice, &call->inputs[0], err);

    for (uint32_t from = 0; from < rows->count && status == MR_OK; from += MR__STATE_CALLS)
        status = run_slice(
            &slice, from, (uint32_t)MR_MIN((uint64_t)from + MR__STATE_CALLS, (uint64_t)rows->count),
            err);
    slice_release(&slice, call->inputs[0].batch_count);
    return status;
}

/* ---- timeouts ---- */

/* Keys and states of entries, as batches. */
static enum mr_status make_expired(const struct map_op *op, const struct mr_store_entry *entries,
                                   uint32_t count, struct mr_batch **ret_keys,
                                   struct mr_batch **ret_states, struct mr_error *err)
{
    struct mr_batch_builder *keys = NULL, *states = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(op->keys, &keys, err));
    MR_TRY_GOTO(mr_batch_builder_new(op->states, &states, err));
    for (uint32_t i = 0; i < count; i++) {
        MR_TRY_GOTO(mr__key_get(entries[i].key, entries[i].key_bytes, keys, 0, err));
        MR_TRY_GOTO(mr__value_get(entries[i].value + MR__TOUCHED_BYTES,
                                  entries[i].value_bytes - MR__TOUCHED_BYTES, states, 0, err));
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(keys, count, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(states, count, err));
    MR_TRY_GOTO(mr_batch_builder_finish(keys, ret_keys, err));
    status = mr_batch_builder_finish(states, ret_states, err);
done:
    mr_batch_builder_free(keys);
    mr_batch_builder_free(states);
    return status;
}

enum mr_status mr__map_expire_calls(struct map_op *op, const struct mr_store_entry *entries,
                                    uint32_t count, struct mr_fold_call *call, struct mr_error *err)
{
    struct slice slice = {.op = op, .call = call};
    struct mr_batch *keys = NULL, *states = NULL;
    enum mr_status status;

    MR_TRY_GOTO(make_expired(op, entries, count, &keys, &states, err));
    MR_TRY_GOTO(mr__emitter_init(&slice.out, op->mapped, err));
    MR_TRY_GOTO(mr__new_states_init(&slice.news, op->states, err));
    for (uint32_t i = 0; i < count && status == MR_OK; i++) {
        struct mr_row key = {keys, i}, old = {states, i};
        struct mr_key_state state = {.news = &slice.news, .old = &old, .is_timing_out = true};
        struct mr_state_call one = {
            .key = &key, .state = &state, .batch_time_ms = call->info->batch_time_us / 1000};
        int64_t news;

        status = call_one(op, &one, &slice.out, &news, err);
    }
    if (status == MR_OK)
        status = emit(&slice, err);
done:
    mr__new_states_release(&slice.news);
    mr__emitter_release(&slice.out);
    mr_batch_unref(keys);
    mr_batch_unref(states);
    return status;
}
