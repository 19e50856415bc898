/*
 * update_state_by_key as a fold: the state of every key lives in the kernel's state store under the
 * operator's name.
 *
 *     batch's pairs --group by key--> (key, values) --\
 *                                                      merge by key --> (values?, state?) --> state
 *     store, in key order ---------> (key, state) ----/                none: the key goes (UPD-4)
 *
 * Every key of either side is updated in every batch (UPD-3); all states are emitted, in key order.
 * Built-ins add the new values to the state without calling anything for keys that have none.
 *
 * Thread: driver.
 */
#include "dstream/streams.h"

#include "data/batch_internal.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { CALLS_MAX = 64 * 1024 }; /* keys that are updated at once */

struct update_op {
    struct mr__function *update; /* borrowed from the context */
    char *name;
    struct mr_schema *pairs;
    struct mr_schema *output; /* key, value = state */
    struct mr_schema *values; /* one column: a key's values, as C functions see them */
    struct mr_schema *keys;   /* one column: the key */
    struct mr_store *store;
};

/* What will be written to the store when all keys are through: it must not change while it is
 * scanned. */
struct changes {
    struct mr_buf bytes; /* key block, removed u8, value block */
    size_t count;
};

/* Keys that are collected for one call of the function. */
struct chunk {
    struct update_op *op;
    struct mr_fold_call *call;
    struct mr__grouping *grouping;
    struct mr_batch_builder *rows; /* key, values, state: the function's input */
    uint32_t *groups;              /* of each row: index in the grouping, UINT32_MAX = no values */
    struct mr_buf keys;            /* encoded, one block a row */
    int64_t count;
    uint32_t next_group; /* of the grouping: all before are done */
    struct changes changes;
    struct mr_error *err;
    enum mr_status status;
};

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
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status update_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct update_op *op = pointer;

    return mr__values_open(state, op->name, "update", op->output, &op->store, err);
}

/* ---- new states of one chunk ---- */

static enum mr_status states_of_sql(struct chunk *chunk, struct mr_batch *rows,
                                    struct mr_batch **ret_states, struct mr_error *err)
{
    struct mr__when when = {chunk->call->info->worker, chunk->call->info->batch_time_us};
    struct mr__function *update = chunk->op->update;
    struct mr__batches results = {0};
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__function_run_sql(update, when, &rows, 1, &results, err));
    MR_TRY_GOTO(mr_batch_builder_new(update->output, &builder, err));
    for (size_t i = 0; i < results.count; i++)
        mr_batch_builder_append(builder, results.items[i]);
    MR_TRY_GOTO(mr_batch_builder_finish(builder, ret_states, err));
    if (mr_batch_row_count(*ret_states) != mr_batch_row_count(rows)) {
        *ret_states = mr_batch_unref(*ret_states);
        status = MR_FAIL(
            err, MR_USER,
            "the expression must give one state per key; aggregate over \"values\" with list_sum "
            "and the like");
    }
done:
    mr_batch_builder_free(builder);
    mr__batches_release(&results);
    return status;
}

/* The values of one row as a batch of their own. */
static enum mr_status values_of(struct chunk *chunk, int64_t row, const struct mr_batch *all,
                                const struct mr_batch *none, struct mr_batch **ret_values,
                                struct mr_error *err)
{
    uint32_t group = chunk->groups[row];
    const struct mr__grouping *grouping = chunk->grouping;

    if (group == UINT32_MAX) {
        *ret_values = mr_batch_ref(none);
        return MR_OK;
    }
    return mr_batch_take(all, grouping->order + grouping->starts[group],
                         (int64_t)(grouping->starts[group + 1] - grouping->starts[group]),
                         ret_values, err);
}

/* Calls the program for one key. */
static enum mr_status call_one(struct chunk *chunk, int64_t index, const struct mr_batch *keys,
                               const struct mr_batch *states, const struct mr_batch *values,
                               struct mr_emitter *out, struct mr_error *err)
{
    struct mr__function *function = chunk->op->update;
    mr_update_fn call = (mr_update_fn)function->fn.call;
    struct mr_row key = {keys, index}, state = {states, index};
    struct mr_update update = {
        .key = &key,
        .values = values,
        .value_count = mr_batch_row_count(values),
        .state = mr_row_is_null(&state, 0) ? NULL : &state,
        .batch_time_ms = chunk->call->info->batch_time_us / 1000,
    };
    int64_t before = mr__emitter_rows(out);

    call(&update, out, function->fn.arg);
    MR_TRY(mr__emitter_check(out, err));
    if (mr__emitter_rows(out) == before) {
        mr__emitter_null(out);
        return MR_OK;
    }
    if (mr__emitter_rows(out) != before + 1)
        return mr__emitter_count_is_wrong(out, function->fn.name,
                                          "one state, or nothing to remove the key", err);
    return MR_OK;
}

static enum mr_status states_of_c(struct chunk *chunk, struct mr_batch *rows,
                                  struct mr_batch **ret_states, struct mr_error *err)
{
    const uint32_t key_column = 0, value_column = 1, state_column = 2;
    struct update_op *op = chunk->op;
    struct mr_batch *keys = NULL, *states = NULL, *all = NULL, *none = NULL;
    struct mr_emitter out = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__emitter_init(&out, op->update->output, err));
    MR_TRY_GOTO(mr_batch_select(rows, op->keys, &key_column, &keys, err));
    MR_TRY_GOTO(mr_batch_select(rows, op->update->output, &state_column, &states, err));
    MR_TRY_GOTO(mr_batch_empty(op->values, &none, err));
    if (chunk->grouping->batch != NULL)
        MR_TRY_GOTO(mr_batch_select(chunk->grouping->batch, op->values, &value_column, &all, err));
    for (int64_t row = 0; row < chunk->count; row++) {
        struct mr_batch *values = NULL;

        MR_TRY_GOTO(values_of(chunk, row, all, none, &values, err));
        status = call_one(chunk, row, keys, states, values, &out, err);
        mr_batch_unref(values);
        if (status != MR_OK)
            goto done;
    }
    status = mr__emitter_finish(&out, ret_states, err);
done:
    mr__emitter_release(&out);
    mr_batch_unref(keys);
    mr_batch_unref(states);
    mr_batch_unref(all);
    mr_batch_unref(none);
    return status;
}

/* ---- from new states to output and store ---- */

/* Remembers one change; the key's bytes are taken from the chunk. */
static void note_change(struct chunk *chunk, const char *key, size_t key_bytes,
                        const struct mr_column *state, int64_t row)
{
    struct mr_buf value = MR_BUF_INIT;

    mr_buf_add_block(&chunk->changes.bytes, key, key_bytes);
    mr_buf_add_u8(&chunk->changes.bytes, state == NULL);
    if (state != NULL)
        mr__value_put(&value, state, row);
    mr_buf_add_block(&chunk->changes.bytes, value.data != NULL ? value.data : "", value.size);
    chunk->changes.bytes.failed |= value.failed;
    chunk->changes.count++;
    mr_buf_release(&value);
}

/* Emits the keys that have a state, and notes what changed. */
static enum mr_status take_states(struct chunk *chunk, const struct mr_batch *rows,
                                  const struct mr_batch *states, struct mr_error *err)
{
    const struct mr_column *state = mr_batch_column(states, 0);
    const struct mr_column *old = mr_batch_column(rows, 2);
    struct mr_bytes keys = mr_bytes_of(chunk->keys.data, chunk->keys.size);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    struct mr_buf before = MR_BUF_INIT, after = MR_BUF_INIT;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(chunk->op->output, &builder, err));
    for (int64_t row = 0; row < chunk->count; row++) {
        size_t key_bytes;
        const char *key = mr_bytes_block(&keys, &key_bytes);

        if (mr_column_is_null(state, row)) {
            if (!mr_column_is_null(old, row))
                note_change(chunk, key, key_bytes, NULL, 0);
            continue;
        }
        mr_buf_clear(&before);
        mr_buf_clear(&after);
        mr__value_put(&before, old, row);
        mr__value_put(&after, state, row);
        if (mr_column_is_null(old, row) || before.size != after.size ||
            memcmp(before.data, after.data, after.size) != 0)
            note_change(chunk, key, key_bytes, state, row);
        mr_batch_builder_copy(builder, 0, mr_batch_column(rows, 0), row);
        mr_batch_builder_copy(builder, 1, state, row);
        mr_batch_builder_end_row(builder);
    }
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &result, err));
    status = chunk->changes.bytes.failed || before.failed || after.failed
                 ? no_memory(err)
                 : mr_output_emit(chunk->call->out, result, err);
done:
    mr_buf_release(&before);
    mr_buf_release(&after);
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status run_chunk(struct chunk *chunk, struct mr_error *err)
{
    struct mr_batch *rows = NULL, *states = NULL;
    const struct mr_fn *fn = &chunk->op->update->fn;
    enum mr_status status;

    if (chunk->count == 0)
        return MR_OK;
    MR_TRY_GOTO(mr_batch_builder_finish(chunk->rows, &rows, err));
    if (fn->kind == MR_FN_KIND_SQL)
        status = states_of_sql(chunk, rows, &states, err);
    else if (fn->kind == MR_FN_KIND_BUILTIN)
        status = mr__builtin_update(fn->builtin, rows, chunk->op->update->output, &states, err);
    else
        status = states_of_c(chunk, rows, &states, err);
    if (mr__function_blame(chunk->op->update, status, err) == MR_OK)
        status = take_states(chunk, rows, states, err);
done:
    mr_batch_unref(rows);
    mr_batch_unref(states);
    chunk->count = 0;
    mr_buf_clear(&chunk->keys);
    return status;
}

/* ---- collecting keys ---- */

/* The list of a key's values; C functions get theirs from the grouping and need no list. */
static enum mr_status add_values(struct chunk *chunk, uint32_t group, struct mr_error *err)
{
    struct mr_column_builder *list = mr_batch_builder_column(chunk->rows, 1);
    const struct mr__grouping *grouping = chunk->grouping;

    if (group != UINT32_MAX && chunk->op->update->fn.kind != MR_FN_KIND_UPDATE) {
        const struct mr_column *values = mr_batch_column(grouping->batch, 1);
        for (uint32_t i = grouping->starts[group]; i < grouping->starts[group + 1]; i++)
            MR_TRY(mr_column_builder_copy(&list->children[0], values, grouping->order[i], err));
    }
    return mr_column_builder_list_end(list, err);
}

/* Appends one key: its values (a group, or none) and its state (bytes, or none). */
static enum mr_status add_key(struct chunk *chunk, const char *key, size_t key_bytes,
                              uint32_t group, const char *state, size_t state_bytes,
                              struct mr_error *err)
{
    MR_TRY(mr__key_get(key, key_bytes, chunk->rows, 0, err));
    MR_TRY(add_values(chunk, group, err));
    if (state != NULL)
        MR_TRY(mr__value_get(state, state_bytes, chunk->rows, 2, err));
    else
        MR_TRY(mr_column_builder_null(mr_batch_builder_column(chunk->rows, 2), err));
    MR_TRY(mr_batch_builder_rows_added(chunk->rows, 1, err));
    mr_buf_add_block(&chunk->keys, key, key_bytes);
    if (chunk->keys.failed)
        return no_memory(err);
    chunk->groups[chunk->count++] = group;
    return chunk->count == CALLS_MAX ? run_chunk(chunk, err) : MR_OK;
}

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order = common == 0 ? 0 : memcmp(a, b, common);

    return order != 0 ? order : (a_bytes > common) - (b_bytes > common);
}

/* New keys of the batch that come before this one (NULL: all that are left). */
static enum mr_status add_new_keys(struct chunk *chunk, const char *before, size_t before_bytes,
                                   struct mr_error *err)
{
    const struct mr__grouping *grouping = chunk->grouping;

    while (chunk->next_group < grouping->count) {
        uint32_t group = chunk->next_group;

        if (before != NULL && compare_bytes(grouping->keys[group], grouping->key_bytes[group],
                                            before, before_bytes) >= 0)
            break;
        chunk->next_group++;
        MR_TRY(
            add_key(chunk, grouping->keys[group], grouping->key_bytes[group], group, NULL, 0, err));
    }
    return MR_OK;
}

/* One key of the store, in key order. */
static enum mr_status add_old_key(struct chunk *chunk, const char *key, size_t key_bytes,
                                  const char *value, size_t value_bytes, struct mr_error *err)
{
    const struct mr__grouping *grouping = chunk->grouping;
    uint32_t group = UINT32_MAX;

    MR_TRY(add_new_keys(chunk, key, key_bytes, err));
    if (chunk->next_group < grouping->count &&
        compare_bytes(grouping->keys[chunk->next_group], grouping->key_bytes[chunk->next_group],
                      key, key_bytes) == 0)
        group = chunk->next_group++;
    return add_key(chunk, key, key_bytes, group, value, value_bytes, err);
}

static bool visit_key(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct chunk *chunk = arg;

    chunk->status = add_old_key(chunk, key, key_bytes, value, value_bytes, chunk->err);
    return chunk->status == MR_OK;
}

static enum mr_status apply_changes(struct update_op *op, const struct changes *changes,
                                    struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(changes->bytes.data, changes->bytes.size);

    for (size_t i = 0; i < changes->count; i++) {
        size_t key_bytes, value_bytes;
        const char *key = mr_bytes_block(&bytes, &key_bytes);
        bool removed = mr_bytes_u8(&bytes) != 0;
        const char *value = mr_bytes_block(&bytes, &value_bytes);

        MR_ASSERT(!bytes.failed);
        if (removed)
            MR_TRY(mr_store_delete(op->store, key, key_bytes, err));
        else
            MR_TRY(mr_store_put(op->store, key, key_bytes, value, value_bytes, err));
    }
    return MR_OK;
}

static enum mr_status update_all(struct chunk *chunk, struct mr_error *err)
{
    MR_TRY(mr_store_scan_sorted(chunk->op->store, NULL, 0, visit_key, chunk, err));
    MR_TRY(chunk->status);
    MR_TRY(add_new_keys(chunk, NULL, 0, err));
    MR_TRY(run_chunk(chunk, err));
    return apply_changes(chunk->op, &chunk->changes, err);
}

static enum mr_status update_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct update_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    struct mr__grouping grouping = {0};
    struct chunk chunk = {.op = op, .call = call, .grouping = &grouping, .err = err};
    enum mr_status status = MR_OK;

    if (!call->fires)
        return MR_OK;
    if (input->batch_count > 0)
        MR_TRY_GOTO(mr__group(input->batches, input->batch_count, op->pairs, &grouping, err));
    MR_TRY_GOTO(mr_batch_builder_new(op->update->input, &chunk.rows, err));
    chunk.groups = mr_alloc(NULL, CALLS_MAX * sizeof(*chunk.groups));
    status = chunk.groups != NULL ? update_all(&chunk, err) : no_memory(err);
done:
    mr_batch_builder_free(chunk.rows);
    mr_free(chunk.groups);
    mr_buf_release(&chunk.keys);
    mr_buf_release(&chunk.changes.bytes);
    mr__grouping_release(&grouping);
    return status;
}

static struct mr_store *update_store(void *pointer)
{
    const struct update_op *op = pointer;

    return op->store;
}

static const struct mr_fold_ops update_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "update",
    .open = update_open,
    .run = update_run,
    .free = update_free,
    .store = update_store,
};

enum mr_status mr__update_op(struct mr__function *update, const char *name,
                             const struct mr_schema *pairs, const struct mr_schema *output,
                             struct mr_fold_op *ret_op, struct mr_error *err)
{
    struct mr__column_of key = {"key", mr__column_type(pairs, 0)},
                         value = {"value", mr__column_type(pairs, 1)};
    struct update_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status;

    if (op == NULL)
        return no_memory(err);
    op->update = update;
    op->pairs = mr_schema_ref(pairs);
    op->output = mr_schema_ref(output);
    op->name = mr_strdup(name);
    status = op->name != NULL ? MR_OK : no_memory(err);
    if (status == MR_OK)
        status = mr__schema_of(&key, 1, &op->keys, err);
    if (status == MR_OK)
        status = mr__schema_of(&value, 1, &op->values, err);
    if (status != MR_OK) {
        update_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){.ops = &update_ops, .op = op};
    return MR_OK;
}
