/*
 * map_with_state as a fold: only keys with records are touched, except when timeouts are looked
 * for.
 *
 *     store   key (row_codec) --> touched i64 (microseconds) | value form of the state
 *
 *     batch   1. records, in order of arrival: function(key, value, state)   touched = batch time
 *             2. in batches of the checkpoint interval: keys with touched < batch time - timeout,
 *                function(key, no value, state); then they go (MWS-4)
 *             3. snapshots, when the program wants them: a fold of their own behind this one
 *
 * The interval counts from the zero time, so which batches look for timeouts does not depend on
 * restarts. A key's touched time is kept with its state, so the same is true of when it goes.
 *
 * Thread: the driver opens and begins, workers run partitions (ranges of shards).
 */
#include "dstream/map_with_state.h"

#include "base/check.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot map with state: out of memory");
}

static void map_free(void *pointer)
{
    struct map_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->pairs);
    mr_schema_unref(op->states);
    mr_schema_unref(op->keyed);
    mr_schema_unref(op->mapped);
    mr_schema_unref(op->keys);
    mr_schema_unref(op->values);
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status map_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct map_op *op = pointer;

    return mr__values_open(state, op->name, "map_with_state", op->keyed, &op->store, err);
}

/* ---- stored values ---- */

enum mr_status mr__map_put(struct map_op *op, const char *key, size_t key_bytes, int64_t touched_us,
                           const struct mr_column *state, int64_t row, struct mr_buf *scratch,
                           struct mr_error *err)
{
    mr_buf_clear(scratch);
    mr_buf_add_u64(scratch, (uint64_t)touched_us);
    mr__value_put(scratch, state, row);
    if (scratch->failed)
        return no_memory(err);
    return mr_store_put(op->store, key, key_bytes, scratch->data, scratch->size, err);
}

static int64_t touched_of(const char *value)
{
    uint64_t touched = 0;

    memcpy(&touched, value, sizeof(touched));
    return (int64_t)touched;
}

enum mr_status mr__map_get(const struct map_op *op, uint64_t hash, const char *key,
                           size_t key_bytes, struct mr_batch_builder *builder, uint32_t column,
                           bool *ret_found, struct mr_error *err)
{
    const char *value = NULL;
    size_t value_bytes = 0;

    *ret_found = mr_store_get_hashed(op->store, hash, key, key_bytes, &value, &value_bytes);
    if (!*ret_found)
        return mr_column_builder_null(mr_batch_builder_column(builder, column), err);
    return mr__value_get(value + MR__TOUCHED_BYTES, value_bytes - MR__TOUCHED_BYTES, builder,
                         column, err);
}

/* ---- timeouts ---- */

static bool looks_for_timeouts(const struct map_op *op, int64_t batch_time_us)
{
    return op->timeout_us > 0 && (batch_time_us - op->ctx->zero_time_us) % op->checkpoint_us == 0;
}

static enum mr_status expire(struct map_op *op, const struct mr_store_entry *entries,
                             uint32_t count, struct mr_fold_call *call, struct mr_error *err)
{
    if (count == 0)
        return MR_OK;
    if (op->function->fn.kind == MR_FN_KIND_STATE)
        MR_TRY(mr__map_expire_calls(op, entries, count, call, err));
    else if (op->function->fn.kind == MR_FN_KIND_SQL)
        MR_TRY(mr__map_expire_sql(op, entries, count, call, err));
    for (uint32_t i = 0; i < count; i++)
        MR_TRY(mr_store_delete_at(op->store, &entries[i], err));
    return MR_OK;
}

/* Keeps those of entries whose time is over, at the front; returns how many. */
static uint32_t choose_expired(struct mr_store_entry *entries, uint32_t count, int64_t before_us)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!mr__state_is_marker(entries[i].key_bytes) && touched_of(entries[i].value) < before_us)
            entries[kept++] = entries[i];
    }
    return kept;
}

static enum mr_status expire_all(struct map_op *op, struct mr__shards shards,
                                 struct mr_fold_call *call, struct mr_error *err)
{
    enum { AT_ONCE = 256 };
    int64_t before_us = call->info->batch_time_us - op->timeout_us;
    struct mr_store_entry *entries = mr_alloc(NULL, MR__STATE_CALLS * sizeof(*entries));
    enum mr_status status = entries != NULL ? MR_OK : no_memory(err);
    uint32_t count = 0;

    for (unsigned shard = shards.first; status == MR_OK && shard < shards.end; shard++) {
        uint32_t cursor = 0;
        size_t read;

        while (status == MR_OK && (read = mr_store_read_shard(op->store, shard, &cursor,
                                                              entries + count, AT_ONCE)) > 0) {
            count += choose_expired(entries + count, (uint32_t)read, before_us);
            if (count <= MR__STATE_CALLS - AT_ONCE)
                continue;
            status = expire(op, entries, count, call, err);
            count = 0;
        }
    }
    if (status == MR_OK)
        status = expire(op, entries, count, call, err);
    mr_free(entries);
    return status;
}

/* ---- the operator ---- */

/* The states that the program brings are touched by the first batch (MWS-7). */
static enum mr_status begin(struct map_op *op, int64_t batch_time_us, struct mr_error *err)
{
    struct mr_batch *initial = NULL;
    char touched[MR__TOUCHED_BYTES];
    enum mr_status status;

    memcpy(touched, &batch_time_us, sizeof(touched));
    MR_TRY(op->initial->read(op->initial->source, &initial, err));
    status = mr__initial_put(op->store, op->name, initial, touched, err);
    mr_batch_unref(initial);
    MR_TRY(status);
    return mr__state_begin(op->store, err);
}

static enum mr_status map_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct map_op *op = pointer;

    if (!call->fires || op->initial == NULL || mr__state_has_begun(op->store))
        return MR_OK;
    return begin(op, call->info->batch_time_us, err);
}

static enum mr_status map_records(struct map_op *op, struct mr__shards shards,
                                  struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];
    struct mr__state_rows rows = {0};
    enum mr_status status;

    if (op->function->fn.kind == MR_FN_KIND_BUILTIN)
        return mr__native_running(op->store, op->function->fn.builtin, op->mapped, shards, call,
                                  err);
    MR_TRY_GOTO(
        mr__state_rows_take(&rows, op->store, shards, input->batches, input->batch_count, err));
    MR_TRY_GOTO(mr__state_rows_group(&rows, err));
    if (rows.count > 0)
        status = op->function->fn.kind == MR_FN_KIND_SQL ? mr__map_rounds(op, &rows, call, err)
                                                         : mr__map_calls(op, &rows, call, err);
done:
    mr__state_rows_release(&rows);
    return status;
}

static enum mr_status map_partition(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                    struct mr_error *err)
{
    struct map_op *op = pointer;
    struct mr__shards shards = mr__shards_of(partition, op->partition_count);
    enum mr_status status;

    if (!call->fires)
        return MR_OK;
    status = map_records(op, shards, call, err);
    if (status == MR_OK && looks_for_timeouts(op, call->info->batch_time_us))
        status = expire_all(op, shards, call, err);
    return mr__function_blame(op->function, status, err);
}

static uint32_t map_partitions(void *pointer)
{
    return ((const struct map_op *)pointer)->partition_count;
}

static struct mr_store *map_store(void *pointer)
{
    return ((const struct map_op *)pointer)->store;
}

/* Records only, unless timeouts are looked for. */
static uint64_t map_work(void *pointer, const struct mr_fold_call *call)
{
    const struct map_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    uint64_t bytes =
        looks_for_timeouts(op, call->info->batch_time_us) ? mr_store_bytes(op->store) : 0;

    for (size_t i = 0; i < input->batch_count; i++)
        bytes += mr_batch_bytes(input->batches[i]);
    return bytes;
}

static const struct mr_fold_ops map_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "map with state",
    .open = map_open,
    .run = map_run,
    .free = map_free,
    .store = map_store,
    .partition_count = map_partitions,
    .run_partition = map_partition,
    .work_bytes = map_work,
};

static enum mr_status make_schemas(struct map_op *op, struct mr_error *err)
{
    struct mr__column_of key = {"key", mr__column_type(op->pairs, 0)},
                         value = {"value", mr__column_type(op->pairs, 1)};
    struct mr__column_of keyed[] = {key, {"value", mr__column_type(op->states, 0)}};

    MR_TRY(mr__schema_of(&key, 1, &op->keys, err));
    MR_TRY(mr__schema_of(&value, 1, &op->values, err));
    return mr__schema_of(keyed, 2, &op->keyed, err);
}

enum mr_status mr__map_with_state_op(const struct mr__map_spec *spec, struct mr_fold_op *ret_op,
                                     struct map_op **ret_inner, struct mr_error *err)
{
    struct map_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status;

    if (op == NULL)
        return no_memory(err);
    op->ctx = spec->ctx;
    op->function = spec->function;
    op->initial = spec->initial;
    op->partition_count = spec->partition_count;
    op->timeout_us = spec->timeout_us;
    op->checkpoint_us = spec->checkpoint_us;
    op->name = mr_strdup(spec->name);
    op->pairs = mr_schema_ref(spec->pairs);
    op->states = mr_schema_ref(spec->state);
    op->mapped = mr_schema_ref(spec->mapped);
    status = op->name != NULL ? make_schemas(op, err) : no_memory(err);
    if (status != MR_OK) {
        map_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){.ops = &map_ops, .op = op};
    *ret_inner = op;
    return MR_OK;
}

/* ---- snapshots ---- */

struct snapshots_op {
    struct map_op *inner;
};

static enum mr_status snapshots_partition(void *pointer, uint32_t partition,
                                          struct mr_fold_call *call, struct mr_error *err)
{
    const struct map_op *op = ((const struct snapshots_op *)pointer)->inner;

    if (!call->fires)
        return MR_OK;
    return mr__emit_all_states(op->store, op->keyed, MR__TOUCHED_BYTES,
                               mr__shards_of(partition, op->partition_count), call->out, err);
}

static uint32_t snapshots_partitions(void *pointer)
{
    return ((const struct snapshots_op *)pointer)->inner->partition_count;
}

static uint64_t snapshots_work(void *pointer, const struct mr_fold_call *call)
{
    MR_UNUSED(call);
    return mr_store_bytes(((const struct snapshots_op *)pointer)->inner->store);
}

static void snapshots_free(void *pointer)
{
    mr_free(pointer);
}

static const struct mr_fold_ops snapshots_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "state snapshots",
    .free = snapshots_free,
    .partition_count = snapshots_partitions,
    .run_partition = snapshots_partition,
    .work_bytes = snapshots_work,
};

enum mr_status mr__snapshots_op(struct map_op *inner, struct mr_fold_op *ret_op,
                                struct mr_error *err)
{
    struct snapshots_op *op = mr_alloc(NULL, sizeof(*op));

    if (op == NULL)
        return no_memory(err);
    op->inner = inner;
    *ret_op = (struct mr_fold_op){.ops = &snapshots_ops, .op = op};
    return MR_OK;
}
