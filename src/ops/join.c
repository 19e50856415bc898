/*
 * The join as an operator: what a batch brings is given to partitions by key, workers run them
 * (join_pairs.c), the rest of the contract of core/operator.h.
 *
 *     run (driver)            drop late rows; hash keys; rows to partitions
 *     run_partition (worker)  join_pairs.c
 *
 * Partition p is the keys whose hash names shard p of the stores, so workers need no lock. What is
 * in memory is made from the stores at the first batch and when a batch runs again.
 *
 * Called by the planner (mr_op_join), then by the kernel. Thread: driver, workers for partitions.
 */
#include "ops/join_internal.h"

/* ---- a batch ---- */

static enum mr_status add_in(struct mr_join_ins *ins, struct mr_join_in in, struct mr_error *err)
{
    if (ins->count == ins->capacity) {
        size_t capacity = ins->capacity == 0 ? 256 : ins->capacity * 2;
        struct mr_join_in *grown = mr_realloc(NULL, ins->rows, capacity * sizeof(*grown));

        if (grown == NULL || capacity > UINT32_MAX)
            return mr_join__no_memory(err);
        ins->rows = grown;
        ins->capacity = capacity;
    }
    ins->rows[ins->count++] = in;
    return MR_OK;
}

static bool passes(const struct mr_join *join, unsigned side, const struct mr_join_held *held,
                   uint32_t row)
{
    const struct mr_column *column;

    if (join->pass[side] < 0)
        return true;
    column = held->columns[join->pass[side]];
    return !mr_column_is_null(column, row) && mr_column_bool(column, row);
}

static enum mr_status take_batch(struct mr_join *join, unsigned side, struct mr_batch *batch,
                                 int64_t late_us, uint64_t *late_rows, struct mr_error *err)
{
    size_t rows = (size_t)mr_batch_row_count(batch);
    struct mr_join_held *held = NULL;
    uint64_t *hashes;
    bool *any_null;

    if (rows == 0)
        return MR_OK;
    mr_buf_clear(&join->scratch);
    if (!mr_buf_reserve(&join->scratch, rows * (sizeof(*hashes) + sizeof(*any_null))))
        return mr_join__no_memory(err);
    hashes = (uint64_t *)(void *)join->scratch.data;
    any_null = (bool *)(hashes + rows);
    MR_TRY(mr_join__hold(join, batch, &held, err));
    MR_ASSERT(held != NULL);
    MR_TRY(mr_join__hash(join, side, held, rows, hashes, any_null, err));
    for (uint32_t row = 0; row < rows; row++) {
        struct mr_join_in in = {
            .held = held, .at = row, .hash = hashes[row], .key = MR_JOIN_NO_ROW};

        if (late_us != INT64_MIN &&
            mr_join__time(join, side, &join->event[side], held, row) <= late_us) {
            ++*late_rows;
            continue;
        }
        in.fate = any_null[row] ? MR_JOIN_NULL_KEY : MR_JOIN_SEARCHES;
        if (!passes(join, side, held, row))
            in.fate = MR_JOIN_FAILS;
        MR_TRY(add_in(&join->parts[mr_store_shard(in.hash)].in[side], in, err));
    }
    return MR_OK;
}

static enum mr_status take_input(struct mr_join *join, const struct mr_fold_call *call,
                                 uint64_t *late_rows, struct mr_error *err)
{
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
        join->parts[p].in[0].count = join->parts[p].in[1].count = 0;
    for (unsigned side = 0; side < 2; side++) {
        const struct mr_fold_input *input = &call->inputs[side];

        for (size_t b = 0; input->present && b < input->batch_count; b++)
            MR_TRY(take_batch(join, side, input->batches[b], call->info->late_watermark_us,
                              late_rows, err));
    }
    return MR_OK;
}

static void forget_builders(struct mr_join_part *part)
{
    mr_batch_builder_free(part->builder);
    mr_batch_builder_free(part->candidates);
    part->builder = NULL;
    part->candidates = NULL;
}

static enum mr_status join_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct mr_join *join = op;
    uint64_t late_rows = 0;

    MR_ASSERT(call->input_count == 2);
    if (!join->loaded || (join->any_run && call->info->batch_id <= join->last_batch_id)) {
        join->loaded = false;
        for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
            forget_builders(&join->parts[p]); /* may hold half a row */
        MR_TRY(mr_join__load(join, err));     /* run again: the state was rolled back */
    }
    join->any_run = true;
    join->last_batch_id = call->info->batch_id;
    join->last_watermark_us = call->info->watermark_us;
    mr_join__held_clear(join);
    atomic_store(&join->parts_to_run, MR_JOIN_PARTS);
    MR_TRY(take_input(join, call, &late_rows, err));
    if (late_rows > 0)
        mr_output_late_rows(call->out, late_rows);
    return MR_OK;
}

/* The last one lets go of the batches: what is in state has been copied. */
static enum mr_status join_run_partition(void *op, uint32_t partition, struct mr_fold_call *call,
                                         struct mr_error *err)
{
    struct mr_join *join = op;

    if (call->partition_count == MR_JOIN_PARTS) {
        MR_TRY(mr_join__run_part(join, &join->parts[partition], call, err));
        if (atomic_fetch_sub(&join->parts_to_run, 1) > 1)
            return MR_OK;
    } else {
        for (unsigned p = 0; p < MR_JOIN_PARTS; p++) /* a small batch has one partition */
            MR_TRY(mr_join__run_part(join, &join->parts[p], call, err));
    }
    mr_join__held_clear(join);
    return MR_OK;
}

static uint32_t join_partition_count(void *op)
{
    MR_UNUSED(op);
    return MR_JOIN_PARTS;
}

/* Only the rows of the batch cost anything: state is not gone through. */
static uint64_t join_work_bytes(void *op, const struct mr_fold_call *call)
{
    uint64_t bytes = 0;

    MR_UNUSED(op);
    for (unsigned side = 0; side < 2; side++) {
        for (size_t b = 0; b < call->inputs[side].batch_count; b++)
            bytes += mr_batch_bytes(call->inputs[side].batches[b]);
    }
    return bytes;
}

/* ---- watermarks ---- */

/* The state watermark of a side. False: its state never shrinks. */
static bool state_watermark(const struct mr_join *join, unsigned side, int64_t watermark_us,
                            int64_t *ret_us)
{
    return join->expiry[side].column >= 0 && watermark_us != INT64_MIN &&
           !__builtin_add_overflow(watermark_us, join->shift_us[side], ret_us);
}

static int64_t join_output_watermark(void *op, int64_t watermark_us)
{
    const struct mr_join *join = op;
    int64_t least_us = watermark_us;
    int64_t side_us;

    for (unsigned side = 0; side < 2; side++) {
        if (state_watermark(join, side, watermark_us, &side_us))
            least_us = MR_MIN(least_us, side_us);
    }
    return least_us;
}

/* Uninterrupted: whenever the watermark has moved. First batch after a restart: when something
 * would leave. */
static bool join_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct mr_join *join = op;
    int64_t until_us;

    MR_UNUSED(batch_time_us);
    if (watermark_us == INT64_MIN || (join->expiry[0].column < 0 && join->expiry[1].column < 0))
        return false;
    if (join->any_run)
        return watermark_us > join->last_watermark_us;
    if (!join->loaded && mr_join__load(join, NULL) != MR_OK)
        return true; /* the batch will report it */
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned p = 0; p < MR_JOIN_PARTS; p++) {
            int64_t due_us = mr_join__first_due(&join->parts[p], side);

            if (due_us != MR_JOIN_NO_TIME && state_watermark(join, side, watermark_us, &until_us) &&
                due_us <= until_us)
                return true;
        }
    }
    return false;
}

/* ---- the operator ---- */

static enum mr_status join_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct mr_join *join = op;

    join->loaded = false;
    join->any_run = false;
    return mr_join__open_stores(join, state, err);
}

static void join_progress(void *op, struct mr_fold_progress *ret_progress)
{
    const struct mr_join *join = op;

    for (unsigned side = 0; side < 2; side++)
        ret_progress->bytes += mr_store_bytes(join->store[side]);
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++) {
        ret_progress->rows_total += join->parts[p].side[0].live + join->parts[p].side[1].live;
        ret_progress->rows_updated += join->parts[p].updated;
        ret_progress->rows_removed += join->parts[p].removed;
    }
    ret_progress->store_count = 2;
}

static struct mr_store *join_store(void *op)
{
    return ((struct mr_join *)op)->store[0];
}

static void join_free(void *op)
{
    struct mr_join *join = op;

    if (join == NULL)
        return;
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
        mr_join__part_release(&join->parts[p]);
    mr_join__held_clear(join);
    mr_free(join->held);
    for (unsigned side = 0; side < 2; side++) {
        mr_schema_unref(join->schema[side]);
        mr_schema_unref(join->nested[side]);
    }
    mr_schema_unref(join->output);
    mr_schema_unref(join->filter_schema);
    if (join->filter.free != NULL)
        join->filter.free(join->filter.arg);
    mr_free((void *)(uintptr_t)join->filter.columns);
    mr_free(join->keys);
    mr_free(join->ranges);
    mr_free(join->outputs);
    mr_free(join->name);
    mr_buf_release(&join->scratch);
    mr_free(join);
}

/* ---- constructor ---- */

static enum mr_status columns_schema(const struct mr_join *join,
                                     const struct mr_join_column *columns, uint32_t count,
                                     struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr_field *fields = mr_alloc(NULL, (count + 1) * sizeof(*fields));
    enum mr_status status;

    if (fields == NULL)
        return mr_join__no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = *mr_schema_field(join->schema[columns[i].right], columns[i].column);
        fields[i].name = columns[i].name;
    }
    status = mr_schema_new(fields, count, ret_schema, err);
    mr_free(fields);
    return status;
}

/* Lists and structs, which blocks keep decoded. */
static enum mr_status nested_schema(struct mr_join *join, unsigned side, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(join->schema[side]);
    struct mr_field *fields = mr_alloc(NULL, columns * sizeof(*fields));
    uint32_t count = 0;
    enum mr_status status = MR_OK;

    if (fields == NULL)
        return mr_join__no_memory(err);
    for (uint32_t i = 0; i < columns; i++) {
        const struct mr_field *field = mr_schema_field(join->schema[side], i);

        if (mr_join__is_nested(&field->type))
            fields[count++] = *field;
        if (mr_type_width(field->type.id) == 0 && field->type.id != MR_TYPE_BOOL)
            join->has_texts[side] = true;
    }
    if (count > 0)
        status = mr_schema_new(fields, count, &join->nested[side], err);
    mr_free(fields);
    return status;
}

static enum mr_status copy_side(struct mr_join *join, unsigned side,
                                const struct mr_join_side *from, struct mr_error *err)
{
    join->schema[side] = mr_schema_ref(from->schema);
    join->event[side] = from->event;
    join->expiry[side] = from->expiry;
    join->shift_us[side] = from->expiry_shift_us;
    join->pass[side] = from->pass_column;
    for (uint32_t i = 0; i < join->key_count; i++)
        join->keys[i].column[side] = from->keys[i];
    return nested_schema(join, side, err);
}

static void *copy_array(const void *from, size_t bytes)
{
    void *copy = mr_alloc(NULL, bytes + 1);

    if (copy != NULL && bytes > 0)
        memcpy(copy, from, bytes);
    return copy;
}

static enum mr_status copy_filter(struct mr_join *join, const struct mr_join_spec *spec,
                                  struct mr_error *err)
{
    if (spec->filter == NULL)
        return MR_OK;
    join->filter = *spec->filter;
    join->filter.columns = copy_array(spec->filter->columns,
                                      spec->filter->column_count * sizeof(*spec->filter->columns));
    return join->filter.columns != NULL ? MR_OK : mr_join__no_memory(err);
}

static enum mr_status copy_spec(struct mr_join *join, const struct mr_join_spec *spec,
                                struct mr_error *err)
{
    MR_ASSERT(spec->key_count > 0);
    join->type = spec->type;
    join->key_count = spec->key_count;
    join->range_count = spec->range_count;
    join->output_count = spec->output_count;
    join->keys = mr_alloc_zero(NULL, spec->key_count * sizeof(*join->keys));
    join->ranges = copy_array(spec->ranges, spec->range_count * sizeof(*spec->ranges));
    join->outputs = copy_array(spec->outputs, spec->output_count * sizeof(*spec->outputs));
    join->name = mr_strdup(spec->state_name);
    if (join->keys == NULL || join->ranges == NULL || join->outputs == NULL || join->name == NULL)
        return mr_join__no_memory(err);
    MR_TRY(copy_side(join, 0, &spec->left, err));
    MR_TRY(copy_side(join, 1, &spec->right, err));
    for (uint32_t i = 0; i < spec->key_count; i++) {
        const struct mr_type *type = &mr_schema_field(spec->left.schema, spec->left.keys[i])->type;

        if (!mr_type_equal(type, &mr_schema_field(spec->right.schema, spec->right.keys[i])->type))
            return MR_FAIL(err, MR_CONFIG, "key %u of the join has two types; cast one of them",
                           i + 1);
        mr_join__key_width(&join->keys[i], type);
        join->keys[i].null_equal = spec->null_equal != NULL && spec->null_equal[i];
    }
    return columns_schema(join, join->outputs, join->output_count, &join->output, err);
}

static const struct mr_fold_ops join_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "join",
    .open = join_open,
    .run = join_run,
    .wants_batch = join_wants_batch,
    .output_watermark = join_output_watermark,
    .progress = join_progress,
    .free = join_free,
    .store = join_store,
    .partition_count = join_partition_count,
    .one_when_small = true,
    .run_partition = join_run_partition,
    .work_bytes = join_work_bytes,
};

enum mr_status mr_op_join(const struct mr_join_spec *spec, struct mr_fold_op *ret_op,
                          struct mr_error *err)
{
    struct mr_join *join = mr_alloc_zero(NULL, sizeof(*join));
    enum mr_status status;

    if (join == NULL) {
        if (spec->filter != NULL && spec->filter->free != NULL)
            spec->filter->free(spec->filter->arg);
        return mr_join__no_memory(err);
    }
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++) {
        join->parts[p].index = p;
        mr_join__part_clear(&join->parts[p]);
    }
    status = copy_filter(join, spec, err); /* first: it is taken in any case */
    if (status == MR_OK)
        status = copy_spec(join, spec, err);
    if (status == MR_OK && spec->filter != NULL)
        status = columns_schema(join, join->filter.columns, join->filter.column_count,
                                &join->filter_schema, err);
    if (status != MR_OK) {
        join_free(join);
        return status;
    }
    *ret_op = (struct mr_fold_op){&join_ops, join, mr_schema_ref(join->output)};
    return MR_OK;
}
