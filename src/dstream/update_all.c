/*
 * Functions of all keys of a partition (UPD-1 c): the program goes through the keys itself and
 * emits (key, state) rows, as many as it likes.
 *
 *     walk --chunks--> mr_updates_next --> the program --> rows --> output
 *                                                          |
 *                       first row of each key: its state <-/   keys without a row go (UPD-4)
 *
 * The keys that come out belong to this partition, too: with more than one partition a function
 * that makes other keys is told so. Thread: the partition's worker.
 */
#include "dstream/update.h"

#include "data/batch_internal.h"

#include <string.h>

/* The keys as the program asks for them, a chunk at a time. */
struct all {
    struct mr_updates updates; /* first: the program's view */
    struct chunk *chunk;
    struct mr_batch *states;
    struct mr_batch *values; /* of the key it has now */
    struct mr_batch *none;
    uint32_t next;
    bool is_later; /* than the first chunk */
    struct mr_row key_row, state_row;
    enum mr_status status;
    struct mr_error *err;
};

static void drop_chunk(struct all *all)
{
    all->chunk->keys = mr_batch_unref(all->chunk->keys);
    all->states = mr_batch_unref(all->states);
    all->values = mr_batch_unref(all->values);
    all->chunk->count = all->next = 0;
}

static enum mr_status next_chunk(struct all *all)
{
    struct chunk *chunk = all->chunk;

    drop_chunk(all);
    while (chunk->count < MR__UPDATE_CHUNK &&
           mr__state_walk_next(&chunk->walk, &chunk->items[chunk->count]))
        chunk->count++;
    if (!all->is_later && chunk->count < MR__UPDATE_CHUNK)
        mr__update_sort(chunk); /* as the other forms do with a small partition */
    all->is_later = true;
    MR_TRY(mr__update_keys(chunk, &chunk->keys, all->err));
    return mr__update_states(chunk, &all->states, all->err);
}

static bool next_update(struct mr_updates *updates, struct mr_update *ret_update)
{
    struct all *all = (struct all *)(void *)updates;
    const struct mr__state_item *item;

    if (all->status != MR_OK)
        return false;
    if (all->next == all->chunk->count)
        all->status = next_chunk(all);
    if (all->status != MR_OK || all->chunk->count == 0)
        return false;
    item = &all->chunk->items[all->next];
    all->values = mr_batch_unref(all->values);
    all->status = mr__update_values(all->chunk, item, all->none, &all->values, all->err);
    if (all->status != MR_OK)
        return false;
    all->key_row = (struct mr_row){all->chunk->keys, all->next};
    all->state_row = (struct mr_row){all->states, all->next};
    all->next++;
    *ret_update = (struct mr_update){
        .key = &all->key_row,
        .values = all->values,
        .value_count = mr_batch_row_count(all->values),
        .state = item->has_state ? &all->state_row : NULL,
        .batch_time_ms = all->chunk->call->info->batch_time_us / 1000,
    };
    return true;
}

static enum mr_status call_all(struct chunk *chunk, struct mr_batch **ret_rows,
                               struct mr_error *err)
{
    const struct mr__function *function = chunk->op->update;
    mr_update_all_fn call = (mr_update_all_fn)function->fn.call;
    struct all all = {.updates.next = next_update, .chunk = chunk, .err = err};
    struct mr_emitter out = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__emitter_init(&out, function->output, err));
    MR_TRY_GOTO(mr_batch_empty(chunk->op->values, &all.none, err));
    mr__inside_user_code++;
    call(&all.updates, &out, function->fn.arg);
    mr__inside_user_code--;
    status = all.status;
    if (status == MR_OK)
        status = mr__emitter_finish(&out, ret_rows, err);
done:
    drop_chunk(&all);
    mr_batch_unref(all.none);
    mr__emitter_release(&out);
    return status;
}

/* ---- what came out ---- */

/* The state that a key's first row gives it, in chunk->bytes; false: it is null. */
static bool first_state(struct chunk *chunk, const struct mr__state_rows *rows, uint32_t group,
                        struct mr__row_at *ret_at)
{
    const struct mr_column *state;

    *ret_at = mr__state_group_row(rows, group, 0);
    state = mr_batch_column(rows->batches[ret_at->batch], 1);
    if (mr_column_is_null(state, ret_at->row))
        return false;
    mr_buf_clear(&chunk->bytes);
    mr__value_put(&chunk->bytes, state, ret_at->row);
    return true;
}

static enum mr_status keep_one(struct chunk *chunk, const struct mr__state_rows *rows,
                               const struct mr__state_item *item, struct mr_error *err)
{
    struct mr_store *store = chunk->op->store;
    struct mr__row_at at = {0};

    if (item->group == UINT32_MAX || !first_state(chunk, rows, item->group, &at))
        return item->has_state ? mr_store_delete_at(store, &item->entry, err) : MR_OK;
    if (chunk->bytes.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot update state: out of memory");
    if (item->has_state && chunk->bytes.size == item->entry.value_bytes &&
        memcmp(chunk->bytes.data, item->entry.value, chunk->bytes.size) == 0)
        return MR_OK;
    MR_TRY(mr__state_check_size(chunk->op->name, rows->batches[at.batch], at.row, chunk->bytes.size,
                                chunk->call->info->batch_time_us, err));
    if (item->has_state)
        return mr_store_put_at(store, &item->entry, chunk->bytes.data, chunk->bytes.size, err);
    return mr_store_put(store, item->key, item->key_bytes, chunk->bytes.data, chunk->bytes.size,
                        err);
}

static enum mr_status keep_states(struct chunk *chunk, struct mr__shards shards,
                                  struct mr_batch *result, struct mr_error *err)
{
    struct mr__state_rows rows = {0};
    struct mr__state_walk *walk = &chunk->walk;
    struct mr__state_item item;
    enum mr_status status;

    mr__state_walk_release(walk);
    MR_TRY_GOTO(mr__state_rows_take(&rows, chunk->op->store, shards, &result, 1, err));
    if (rows.foreign > 0) {
        status = MR_FAIL(err, MR_USER,
                         "the function emits keys of another partition; emit the keys it is given, "
                         "or call mr_dstream_set_partitions(stream, 1)");
        goto done;
    }
    MR_TRY_GOTO(mr__state_rows_group(&rows, err));
    MR_TRY_GOTO(mr__state_walk_init(walk, chunk->op->store, &rows, shards, err));
    while (status == MR_OK && mr__state_walk_next(walk, &item))
        status = keep_one(chunk, &rows, &item, err);
done:
    mr__state_walk_release(walk);
    mr__state_rows_release(&rows);
    return status;
}

enum mr_status mr__update_all(struct chunk *chunk, struct mr__shards shards, struct mr_error *err)
{
    struct mr_batch *result = NULL;
    enum mr_status status = call_all(chunk, &result, err);

    if (status == MR_OK)
        status = keep_states(chunk, shards, result, err);
    if (mr__function_blame(chunk->op->update, status, err) == MR_OK)
        status = mr_output_emit(chunk->call->out, result, err);
    mr_batch_unref(result);
    return status;
}
