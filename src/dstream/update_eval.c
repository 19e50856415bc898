/*
 * New states of a chunk of keys: by an expression over whole columns, a built-in over any types, or
 * a C function called once a key.
 *
 *     items --> rows (key, values, state) --> states, one a row
 *
 * C functions see a key's values as a batch of their own; keys without values share one, so only
 * keys that have some cost an allocation.
 *
 * Thread: the partition's worker.
 */
#include "dstream/update.h"

#include "data/batch_internal.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

/* ---- what functions see ---- */

enum mr_status mr__update_keys(struct chunk *chunk, struct mr_batch **ret_keys,
                               struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(chunk->op->keys, &builder, err));
    for (uint32_t i = 0; i < chunk->count; i++)
        MR_TRY_GOTO(mr__key_get(chunk->items[i].key, chunk->items[i].key_bytes, builder, 0, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, chunk->count, err));
    status = mr_batch_builder_finish(builder, ret_keys, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status add_state(const struct mr__state_item *item, struct mr_batch_builder *builder,
                                uint32_t column, struct mr_error *err)
{
    if (item->has_state)
        return mr__value_get(item->entry.value, item->entry.value_bytes, builder, column, err);
    return mr_column_builder_null(mr_batch_builder_column(builder, column), err);
}

enum mr_status mr__update_states(struct chunk *chunk, struct mr_batch **ret_states,
                                 struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(chunk->op->states, &builder, err));
    for (uint32_t i = 0; i < chunk->count; i++)
        MR_TRY_GOTO(add_state(&chunk->items[i], builder, 0, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, chunk->count, err));
    status = mr_batch_builder_finish(builder, ret_states, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

/* Appends the values of an item to a column. */
static enum mr_status add_values(struct chunk *chunk, const struct mr__state_item *item,
                                 struct mr_column_builder *out, struct mr_error *err)
{
    uint32_t count = mr__state_group_rows(chunk->rows, item->group);

    for (uint32_t i = 0; i < count; i++) {
        struct mr__row_at at = mr__state_group_row(chunk->rows, item->group, i);

        MR_TRY(mr_column_builder_copy(out, mr_batch_column(chunk->rows->batches[at.batch], 1),
                                      at.row, err));
    }
    return MR_OK;
}

enum mr_status mr__update_values(struct chunk *chunk, const struct mr__state_item *item,
                                 const struct mr_batch *none, struct mr_batch **ret_values,
                                 struct mr_error *err)
{
    uint32_t count = mr__state_group_rows(chunk->rows, item->group);
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    if (count == 0) {
        *ret_values = mr_batch_ref(none);
        return MR_OK;
    }
    MR_TRY_GOTO(mr_batch_builder_new(chunk->op->values, &builder, err));
    MR_TRY_GOTO(add_values(chunk, item, mr_batch_builder_column(builder, 0), err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, count, err));
    status = mr_batch_builder_finish(builder, ret_values, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

/* ---- expressions and built-ins ---- */

/* (key, values, state) of all items. */
static enum mr_status make_rows(struct chunk *chunk, struct mr_batch **ret_rows,
                                struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(chunk->op->update->input, &builder, err));
    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct mr__state_item *item = &chunk->items[i];
        struct mr_column_builder *list = mr_batch_builder_column(builder, 1);

        MR_TRY_GOTO(mr__key_get(item->key, item->key_bytes, builder, 0, err));
        MR_TRY_GOTO(add_values(chunk, item, &list->children[0], err));
        MR_TRY_GOTO(mr_column_builder_list_end(list, err));
        MR_TRY_GOTO(add_state(item, builder, 2, err));
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, chunk->count, err));
    status = mr_batch_builder_finish(builder, ret_rows, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

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

static enum mr_status states_of_rows(struct chunk *chunk, struct mr_batch **ret_states,
                                     struct mr_error *err)
{
    const struct mr_fn *fn = &chunk->op->update->fn;
    struct mr_batch *rows = NULL;
    const uint32_t key_column = 0;
    enum mr_status status;

    MR_TRY_GOTO(make_rows(chunk, &rows, err));
    MR_TRY_GOTO(mr_batch_select(rows, chunk->op->keys, &key_column, &chunk->keys, err));
    if (fn->kind == MR_FN_KIND_SQL)
        status = states_of_sql(chunk, rows, ret_states, err);
    else
        status = mr__builtin_update(fn->builtin, rows, chunk->op->update->output, ret_states, err);
done:
    mr_batch_unref(rows);
    return status;
}

/* ---- C functions ---- */

/* Calls the program for one key. */
static enum mr_status call_one(struct chunk *chunk, uint32_t index, const struct mr_batch *states,
                               const struct mr_batch *values, struct mr_emitter *out,
                               struct mr_error *err)
{
    struct mr__function *function = chunk->op->update;
    mr_update_fn call = (mr_update_fn)function->fn.call;
    struct mr_row key = {chunk->keys, index}, state = {states, index};
    struct mr_update update = {
        .key = &key,
        .values = values,
        .value_count = mr_batch_row_count(values),
        .state = chunk->items[index].has_state ? &state : NULL,
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

static enum mr_status states_of_c(struct chunk *chunk, struct mr_batch **ret_states,
                                  struct mr_error *err)
{
    struct update_op *op = chunk->op;
    struct mr_batch *states = NULL, *none = NULL, *values = NULL;
    struct mr_emitter out = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__emitter_init(&out, op->update->output, err));
    MR_TRY_GOTO(mr__update_keys(chunk, &chunk->keys, err));
    MR_TRY_GOTO(mr__update_states(chunk, &states, err));
    MR_TRY_GOTO(mr_batch_empty(op->values, &none, err));
    mr__inside_user_code++;
    for (uint32_t i = 0; i < chunk->count && status == MR_OK; i++) {
        status = mr__update_values(chunk, &chunk->items[i], none, &values, err);
        if (status == MR_OK)
            status = call_one(chunk, i, states, values, &out, err);
        values = mr_batch_unref(values);
    }
    mr__inside_user_code--;
    if (status == MR_OK)
        status = mr__emitter_finish(&out, ret_states, err);
done:
    mr__emitter_release(&out);
    mr_batch_unref(states);
    mr_batch_unref(none);
    return status;
}

enum mr_status mr__update_eval(struct chunk *chunk, struct mr_batch **ret_states,
                               struct mr_error *err)
{
    enum mr_status status = chunk->op->update->fn.kind == MR_FN_KIND_UPDATE
                                ? states_of_c(chunk, ret_states, err)
                                : states_of_rows(chunk, ret_states, err);

    return mr__function_blame(chunk->op->update, status, err);
}
