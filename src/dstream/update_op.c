/*
 * update_state_by_key as a fold: the state of every key lives in the kernel's state store under the
 * operator's name.
 *
 *     batch's pairs --keys of my shards, by key--> (key, values) --\
 *                                                                   walk --> (values?, state?)
 *     shards of the store ------------------------> (key, state) --/             |
 *                                                        none: the key goes <-- state --> output
 *
 * Every key of either side is updated in every batch (UPD-3), up to 16,384 of them in one call of
 * an expression; all states are emitted. A partition is a range of shards of the store, so
 * partitions run on different workers. The rows of a small partition are sorted by key; those of a
 * larger one are in the order of the walk (state_rows.h). Built-ins over numbers: state_builtin.c.
 *
 *     update_op.c    the operator, and what becomes of new states
 *     update_eval.c  new states of a chunk of keys, by expressions and C functions
 *     update_all.c   functions of all keys of a partition
 *
 * Thread: the driver opens and begins, workers run partitions.
 */
#include "dstream/update.h"

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <stdlib.h>
#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot update state: out of memory");
}

static void update_free(void *pointer)
{
    struct update_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->pairs);
    mr_schema_unref(op->output);
    mr_schema_unref(op->values);
    mr_schema_unref(op->keys);
    mr_schema_unref(op->states);
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status update_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct update_op *op = pointer;

    return mr__values_open(state, op->name, "update", op->output, &op->store, err);
}

/* ---- from new states to output and store ---- */

/* Keys that had a state: changed where the walk found them. */
static enum mr_status change_old(struct chunk *chunk, const struct mr_column *states,
                                 struct mr_error *err)
{
    struct mr_store *store = chunk->op->store;

    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct mr__state_item *item = &chunk->items[i];

        if (!item->has_state)
            continue;
        if (mr_column_is_null(states, i)) {
            MR_TRY(mr_store_delete_at(store, &item->entry, err));
            continue;
        }
        mr_buf_clear(&chunk->bytes);
        mr__value_put(&chunk->bytes, states, i);
        if (chunk->bytes.failed)
            return no_memory(err);
        if (chunk->bytes.size == item->entry.value_bytes &&
            memcmp(chunk->bytes.data, item->entry.value, chunk->bytes.size) == 0)
            continue;
        MR_TRY(mr__state_check_size(chunk->op->name, chunk->keys, i, chunk->bytes.size,
                                    chunk->call->info->batch_time_us, err));
        MR_TRY(mr_store_put_at(store, &item->entry, chunk->bytes.data, chunk->bytes.size, err));
    }
    return MR_OK;
}

/* The others: they move the slots of their shard, which is through by now. */
static enum mr_status add_new(struct chunk *chunk, const struct mr_column *states,
                              struct mr_error *err)
{
    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct mr__state_item *item = &chunk->items[i];

        if (item->has_state || mr_column_is_null(states, i))
            continue;
        mr_buf_clear(&chunk->bytes);
        mr__value_put(&chunk->bytes, states, i);
        if (chunk->bytes.failed)
            return no_memory(err);
        MR_TRY(mr__state_check_size(chunk->op->name, chunk->keys, i, chunk->bytes.size,
                                    chunk->call->info->batch_time_us, err));
        MR_TRY(mr_store_put(chunk->op->store, item->key, item->key_bytes, chunk->bytes.data,
                            chunk->bytes.size, err));
    }
    return MR_OK;
}

/* Keys that have a state. */
static enum mr_status emit_states(struct chunk *chunk, const struct mr_batch *states,
                                  struct mr_error *err)
{
    const struct mr_column *key = mr_batch_column(chunk->keys, 0);
    const struct mr_column *state = mr_batch_column(states, 0);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (state->null_count == 0) {
        MR_TRY(mr__side_by_side(chunk->op->output, chunk->keys, 0, states, 0, &result, err));
    } else {
        MR_TRY(mr_batch_builder_new(chunk->op->output, &builder, err));
        for (uint32_t i = 0; i < chunk->count; i++) {
            if (mr_column_is_null(state, i))
                continue;
            mr_batch_builder_copy(builder, 0, key, i);
            mr_batch_builder_copy(builder, 1, state, i);
            mr_batch_builder_end_row(builder);
        }
        status = mr_batch_builder_finish(builder, &result, err);
        mr_batch_builder_free(builder);
        MR_TRY(status);
    }
    status = mr_output_emit(chunk->call->out, result, err);
    mr_batch_unref(result);
    return status;
}

static int compare_items(const void *a_pointer, const void *b_pointer)
{
    const struct mr__state_item *a = a_pointer, *b = b_pointer;
    int order = memcmp(a->key, b->key, MR_MIN(a->key_bytes, b->key_bytes));

    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

void mr__update_sort(struct chunk *chunk)
{
    if (chunk->count > 1)
        qsort(chunk->items, chunk->count, sizeof(*chunk->items), compare_items);
}

static enum mr_status run_chunk(struct chunk *chunk, struct mr_error *err)
{
    struct mr_batch *states = NULL;
    enum mr_status status;

    if (chunk->count == 0)
        return MR_OK;
    MR_TRY_GOTO(mr__update_eval(chunk, &states, err));
    MR_TRY_GOTO(change_old(chunk, mr_batch_column(states, 0), err));
    MR_TRY_GOTO(add_new(chunk, mr_batch_column(states, 0), err));
    status = emit_states(chunk, states, err);
done:
    chunk->keys = mr_batch_unref(chunk->keys);
    mr_batch_unref(states);
    chunk->count = 0;
    return status;
}

static enum mr_status update_chunks(struct chunk *chunk, struct mr_error *err)
{
    bool is_first = true;

    while (mr__state_walk_next(&chunk->walk, &chunk->items[chunk->count])) {
        if (++chunk->count < MR__UPDATE_CHUNK)
            continue;
        MR_TRY(run_chunk(chunk, err));
        is_first = false;
    }
    /* A partition of one chunk comes out sorted: that costs little and reads well. */
    if (is_first)
        mr__update_sort(chunk);
    return run_chunk(chunk, err);
}

/* ---- the operator ---- */

/* The first batch with a dataset: the states that the program brings (UPD-5); of several rows of a
 * key, the first (UPD-4). */
static enum mr_status begin(struct update_op *op, struct mr_error *err)
{
    struct mr_batch *initial = NULL;
    enum mr_status status;

    MR_TRY(op->initial->read(op->initial->source, &initial, err));
    status = mr__initial_put(op->store, op->name, initial, NULL, err);
    mr_batch_unref(initial);
    MR_TRY(status);
    return mr__state_begin(op->store, err);
}

static enum mr_status update_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct update_op *op = pointer;

    if (!call->fires || op->initial == NULL || mr__state_has_begun(op->store))
        return MR_OK;
    return call->inputs[0].present ? begin(op, err) : MR_OK;
}

static enum mr_status update_general(struct update_op *op, struct mr__shards shards,
                                     struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];
    struct mr__state_rows rows = {0};
    struct chunk chunk = {.op = op, .call = call, .rows = &rows};
    enum mr_status status;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        mr_store_tidy_shard(op->store, shard);
    chunk.items = mr_alloc(NULL, MR__UPDATE_CHUNK * sizeof(*chunk.items));
    status = chunk.items != NULL ? MR_OK : no_memory(err);
    if (status == MR_OK)
        status =
            mr__state_rows_take(&rows, op->store, shards, input->batches, input->batch_count, err);
    if (status == MR_OK)
        status = mr__state_rows_group(&rows, err);
    if (status == MR_OK)
        status = mr__state_walk_init(&chunk.walk, op->store, &rows, shards, err);
    if (status == MR_OK)
        status = op->update->fn.kind == MR_FN_KIND_UPDATE_ALL ? mr__update_all(&chunk, shards, err)
                                                              : update_chunks(&chunk, err);
    mr__state_walk_release(&chunk.walk);
    mr__state_rows_release(&rows);
    mr_buf_release(&chunk.bytes);
    mr_free(chunk.items);
    return status;
}

static enum mr_status update_partition(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                       struct mr_error *err)
{
    struct update_op *op = pointer;
    struct mr__shards shards = mr__shards_of(partition, op->partition_count);

    if (!call->fires)
        return MR_OK;
    if (op->is_native)
        return mr__function_blame(
            op->update,
            mr__native_update(op->store, op->update->fn.builtin, op->output, shards, call, err),
            err);
    return update_general(op, shards, call, err);
}

static uint32_t update_partitions(void *pointer)
{
    return ((const struct update_op *)pointer)->partition_count;
}

static struct mr_store *update_store(void *pointer)
{
    return ((const struct update_op *)pointer)->store;
}

static const struct mr_fold_ops update_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "update",
    .open = update_open,
    .run = update_run,
    .free = update_free,
    .store = update_store,
    .partition_count = update_partitions,
    .run_partition = update_partition,
};

static enum mr_status make_schemas(struct update_op *op, struct mr_error *err)
{
    struct mr__column_of key = {"key", mr__column_type(op->pairs, 0)},
                         value = {"value", mr__column_type(op->pairs, 1)},
                         state = {"value", mr__column_type(op->output, 1)};

    MR_TRY(mr__schema_of(&key, 1, &op->keys, err));
    MR_TRY(mr__schema_of(&value, 1, &op->values, err));
    return mr__schema_of(&state, 1, &op->states, err);
}

enum mr_status mr__update_op(const struct mr__update_spec *spec, struct mr_fold_op *ret_op,
                             struct mr_error *err)
{
    struct update_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status;

    if (op == NULL)
        return no_memory(err);
    op->update = spec->update;
    op->initial = spec->initial;
    op->partition_count = spec->partition_count;
    op->pairs = mr_schema_ref(spec->pairs);
    op->output = mr_schema_ref(spec->output);
    op->name = mr_strdup(spec->name);
    op->is_native = spec->update->fn.kind == MR_FN_KIND_BUILTIN &&
                    mr__native_can(mr__column_type(spec->pairs, 1),
                                   mr__column_type(spec->output, 1), spec->update->fn.builtin);
    status = op->name != NULL ? make_schemas(op, err) : no_memory(err);
    if (status != MR_OK) {
        update_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){.ops = &update_ops, .op = op};
    return MR_OK;
}
