/*
 * Calls of a function of map_groups, for up to 4,096 keys between two looks at the store.
 *
 *     keys --> their states, as one batch --> call, call, ... --> what changed --> the store
 *                                               |
 *                                               +--> rows, emitted once a slice
 *
 * A key is called once a batch, so what the store has when a slice begins is what its calls see.
 * Called by groups_op.c. Thread: the partition's worker.
 */
#include "streams/groups.h"

#include "base/check.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { SLICE_KEYS = 4096 };

/* One key of a slice. */
struct key_now {
    bool had_entry;
    bool had_state;
    int64_t old_timeout_ms;
    enum mr_group_write write;
    bool has_state; /* afterwards */
    bool is_new;    /* that state: row `news` of the new ones, else the old one */
    int64_t news;
    int64_t timeout_ms;
};

struct slice {
    const struct mr_groups_run *run;
    const struct mr_group_item *items;
    uint32_t count;
    struct key_now *now; /* SLICE_KEYS */
    struct mr_batch *keys;
    struct mr_batch *states; /* as they were */
    struct mr__new_states news;
    struct mr_emitter out;
    struct mr_buf bytes;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a function with state: out of memory");
}

/* ---- the store ---- */

static enum mr_status read_state(struct slice *slice, uint32_t i, struct mr_batch_builder *states,
                                 struct mr_error *err)
{
    const struct groups_op *op = slice->run->op;
    uint32_t columns = mr_schema_field_count(op->state);
    struct mr_column_builder *into[MR_COLUMNS_MAX];
    const char *value = NULL;
    size_t value_bytes = 0;
    struct key_now *now = &slice->now[i];
    struct mr_bytes bytes;

    *now = (struct key_now){.old_timeout_ms = MR_DUE_NEVER, .timeout_ms = MR_DUE_NEVER};
    now->had_entry = mr_store_get(op->store, slice->items[i].key, slice->items[i].key_bytes, &value,
                                  &value_bytes);
    if (now->had_entry && value_bytes < MR_GROUP_HEAD_BYTES)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the state of '%s': a record is too short; restore the "
                       "checkpoint from a copy",
                       op->keyed.name);
    if (now->had_entry) {
        memcpy(&now->old_timeout_ms, value, sizeof(now->old_timeout_ms));
        now->had_state = value[MR_GROUP_HEAD_BYTES - 1] != 0;
    }
    for (uint32_t c = 0; c < columns; c++) {
        into[c] = mr_batch_builder_column(states, c);
        if (!now->had_state)
            MR_TRY(mr_column_builder_null(into[c], err));
    }
    if (!now->had_state)
        return MR_OK;
    bytes = mr_bytes_of(value + MR_GROUP_HEAD_BYTES, value_bytes - MR_GROUP_HEAD_BYTES);
    return mr_value_decode(&bytes, into, columns, err);
}

/* Keys and states of the slice as batches. */
static enum mr_status read_slice(struct slice *slice, struct mr_error *err)
{
    const struct groups_op *op = slice->run->op;
    struct mr_batch_builder *keys = NULL, *states = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(op->keyed.key, &keys, err));
    MR_TRY_GOTO(mr_batch_builder_new(op->state, &states, err));
    for (uint32_t i = 0; i < slice->count; i++) {
        MR_TRY_GOTO(mr_keyed_key_get(&op->keyed, slice->items[i].key, slice->items[i].key_bytes,
                                     keys, err));
        MR_TRY_GOTO(read_state(slice, i, states, err));
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(keys, slice->count, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(states, slice->count, err));
    MR_TRY_GOTO(mr_batch_builder_finish(keys, &slice->keys, err));
    status = mr_batch_builder_finish(states, &slice->states, err);
done:
    mr_batch_builder_free(keys);
    mr_batch_builder_free(states);
    return status;
}

/* The form that is stored, in slice->bytes. */
static enum mr_status encode(struct mr_buf *bytes, const struct mr_schema *schema,
                             int64_t timeout_ms, const struct mr_row *state, struct mr_error *err)
{
    const struct mr_column *columns[MR_COLUMNS_MAX];
    uint32_t count = mr_schema_field_count(schema);

    mr_buf_clear(bytes);
    mr_buf_add_u64(bytes, (uint64_t)timeout_ms);
    mr_buf_add_u8(bytes, state != NULL);
    for (uint32_t i = 0; state != NULL && i < count; i++)
        columns[i] = mr_batch_column(state->batch, i);
    if (state != NULL)
        mr_value_encode(bytes, columns, count, state->index);
    return bytes->failed ? no_memory(err) : MR_OK;
}

static enum mr_status put(struct slice *slice, uint32_t i, struct mr_error *err)
{
    struct groups_op *op = slice->run->op;
    const struct key_now *now = &slice->now[i];
    const struct mr_group_item *item = &slice->items[i];
    struct mr_row state = {slice->states, i}, key = {slice->keys, i};

    if (now->is_new)
        MR_TRY(mr__new_states_row(&slice->news, now->news, &state, err));
    MR_TRY(encode(&slice->bytes, op->state, now->timeout_ms, now->has_state ? &state : NULL, err));
    MR_TRY(mr_keyed_check_size(&op->keyed, &key, slice->bytes.size, err));
    if (now->timeout_ms < now->old_timeout_ms)
        MR_TRY(mr_due_note(&op->due,
                           mr_store_shard(mr_store_hash(op->store, item->key, item->key_bytes)),
                           now->timeout_ms, item->key, item->key_bytes, err));
    return mr_store_put(op->store, item->key, item->key_bytes, slice->bytes.data, slice->bytes.size,
                        err);
}

static enum mr_status write_slice(struct slice *slice, struct mr_error *err)
{
    struct groups_op *op = slice->run->op;
    struct mr_groups_counts *counts = &op->counts[slice->run->partition];

    for (uint32_t i = 0; i < slice->count; i++) {
        const struct mr_group_item *item = &slice->items[i];

        if (slice->now[i].write == MR_GROUP_PUT) {
            MR_TRY(put(slice, i, err));
            counts->updated++;
        } else if (slice->now[i].write == MR_GROUP_DELETE) {
            MR_TRY(mr_store_delete(op->store, item->key, item->key_bytes, err));
            counts->removed++;
        }
    }
    return MR_OK;
}

/* ---- calls ---- */

static enum mr_status call_one(struct slice *slice, uint32_t i, struct mr_error *err)
{
    const struct groups_op *op = slice->run->op;
    struct key_now *now = &slice->now[i];
    struct mr_row key = {slice->keys, i}, old = {slice->states, i};
    struct mr_keyed_iterator values;
    struct mr_group_state state = {
        .old = now->had_state ? &old : NULL,
        .news = &slice->news,
        .timed_out = slice->run->timing_out,
        .kind = op->timeout,
        .timeout_ms = MR_DUE_NEVER,
        .batch_time_ms = op->keyed.batch_time_ms,
        .watermark_ms = op->keyed.watermark_ms,
        .has_watermark = op->keyed.has_watermark,
    };
    struct mr_group_call call = {.key = &key, .values = &values.rows, .state = &state};
    int64_t before = mr__emitter_rows(&slice->out);

    mr_keyed_iterate(&values, slice->run->rows, slice->items[i].group);
    mr__inside_user_code++;
    op->call(&call, &slice->out, op->arg);
    mr__inside_user_code--;
    MR_TRY(mr__emitter_check(&slice->out, err));
    MR_TRY(mr_group_end(&state, &now->news, err));
    if (op->is_map && mr__emitter_rows(&slice->out) != before + 1)
        return mr__emitter_count_is_wrong(&slice->out, "map_groups_with_state",
                                          "exactly one row in each call", err);
    now->write = mr_group_writes(&state, now->had_entry, now->old_timeout_ms, &now->has_state);
    now->is_new = state.is_updated;
    now->timeout_ms = state.timeout_ms;
    return MR_OK;
}

static enum mr_status emit(struct slice *slice, struct mr_error *err)
{
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr__emitter_finish(&slice->out, &result, err));
    status = mr_output_emit(slice->run->out, result, err);
    mr_batch_unref(result);
    return status;
}

static enum mr_status run_slice(struct slice *slice, struct mr_error *err)
{
    const struct groups_op *op = slice->run->op;
    enum mr_status status;

    MR_TRY_GOTO(read_slice(slice, err));
    MR_TRY_GOTO(mr__new_states_init(&slice->news, op->state, err));
    for (uint32_t i = 0; i < slice->count && status == MR_OK; i++) {
        struct mr_row key = {slice->keys, i};

        status = mr_keyed_blame(&op->keyed, &key, call_one(slice, i, err), err);
    }
    if (status == MR_OK)
        status = write_slice(slice, err);
    if (status == MR_OK)
        status = emit(slice, err);
    mr__new_states_release(&slice->news);
done:
    slice->keys = mr_batch_unref(slice->keys);
    slice->states = mr_batch_unref(slice->states);
    return status;
}

enum mr_status mr_groups_calls(const struct mr_groups_run *run, const struct mr_group_item *items,
                               size_t count, struct mr_error *err)
{
    struct slice slice = {.run = run};
    enum mr_status status;

    if (count == 0)
        return MR_OK;
    slice.now = mr_alloc(NULL, MR_MIN(count, (size_t)SLICE_KEYS) * sizeof(*slice.now));
    status = slice.now != NULL ? mr__emitter_init(&slice.out, run->op->keyed.output, err)
                               : no_memory(err);
    for (size_t from = 0; from < count && status == MR_OK; from += SLICE_KEYS) {
        slice.items = items + from;
        slice.count = (uint32_t)MR_MIN(count - from, (size_t)SLICE_KEYS);
        status = run_slice(&slice, err);
    }
    mr__emitter_release(&slice.out);
    mr_buf_release(&slice.bytes);
    mr_free(slice.now);
    return status;
}

/* ---- initial states ---- */

static enum mr_status twice(const struct groups_op *op, const struct mr_row *row,
                            struct mr_error *err)
{
    char text[48];

    (void)mr_row_print(row, 0, text, sizeof(text));
    return MR_FAIL(err, MR_CONFIG,
                   "cannot begin '%s': its initial state has key '%s' twice; give each key one row",
                   op->keyed.name, text);
}

enum mr_status mr_groups_begin(struct groups_op *op, const struct mr__state_rows *rows,
                               struct mr_error *err)
{
    uint32_t first = op->keyed.key_count, columns = mr_schema_field_count(op->state);
    const struct mr_column *from[MR_COLUMNS_MAX];
    struct mr_buf value = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < columns; i++)
        from[i] = mr_batch_column(op->keyed.initial, first + i);
    for (uint32_t group = 0; group < rows->group_count && status == MR_OK; group++) {
        struct mr_row row = {op->keyed.initial, mr__state_group_row(rows, group, 0).row};
        size_t key_bytes;
        const char *key = mr_keyed_group_key(rows, group, &key_bytes);

        if (mr__state_group_rows(rows, group) > 1) {
            status = twice(op, &row, err);
            break;
        }
        mr_buf_clear(&value);
        mr_buf_add_u64(&value, (uint64_t)MR_DUE_NEVER);
        mr_buf_add_u8(&value, 1);
        mr_value_encode(&value, from, columns, row.index);
        status = value.failed
                     ? no_memory(err)
                     : mr_store_put(op->store, key, key_bytes, value.data, value.size, err);
    }
    mr_buf_release(&value);
    return status;
}
