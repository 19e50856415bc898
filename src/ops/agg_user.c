/*
 * Aggregates of a program (ops.h: struct mr_agg_user) as wide slots: the byte string of a group is
 * what its functions keep.
 *
 *     one argument        the column itself
 *     several arguments   a STRUCT column, whose fields are the arguments
 *
 * Rows with a null argument are left out. Called by agg_wide.c. Threads: those of the buffers.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/batch_internal.h"

static void unref_batch(void *owner)
{
    mr_batch_unref(owner);
}

/* The arguments as a batch of their own; shares memory. Returns new. */
static enum mr_status argument_rows(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                                    struct mr_batch **ret_rows, struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(batch, slot->column);

    if (mr_schema_field_count(slot->user->arguments) == 1)
        return mr_batch_select(batch, slot->user->arguments, &slot->column, ret_rows, err);
    return mr_batch_wrap(slot->user->arguments, column->children, mr_batch_row_count(batch),
                         mr_batch_ref(batch), unref_batch, ret_rows, err);
}

static bool is_left_out(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                        const struct mr_batch *rows, int64_t row)
{
    uint32_t count = mr_schema_field_count(slot->user->arguments);

    if (mr_column_is_null(mr_batch_column(batch, slot->column), row))
        return true;
    for (uint32_t i = 0; i < count; i++) {
        if (mr_column_is_null(mr_batch_column(rows, i), row))
            return true;
    }
    return false;
}

static enum mr_status take_row(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                               const struct mr_batch *arguments, uint32_t i, struct mr_buf *kept,
                               struct mr_error *err)
{
    struct mr_agg_bytes *bytes = &rows->bytes[rows->groups[i] * rows->bytes_stride];
    char *fixed = rows->slots + rows->groups[i] * rows->slot_stride;
    char *room;

    mr_buf_clear(kept);
    if (*fixed == 0)
        MR_TRY(slot->user->begin(slot->user->arg, kept, err));
    else
        mr_buf_add(kept, bytes->data, bytes->size_bytes);
    MR_TRY(slot->user->update(slot->user->arg, arguments, rows->from + i, kept, err));
    if (kept->failed)
        return MR_FAIL(err, MR_NOMEM, "cannot aggregate values: out of memory");
    *fixed = 1;
    bytes->size_bytes = 0;
    room = mr_wide_room(slot, bytes, kept->size, rows->arena, err);
    if (room == NULL)
        return kept->size > MR_AGG_WIDE_BYTES_MAX ? MR_LIMIT : MR_NOMEM;
    if (kept->size > 0)
        memcpy(room, kept->data, kept->size);
    bytes->size_bytes = (uint32_t)kept->size;
    return MR_OK;
}

enum mr_status mr_user_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                              struct mr_error *err)
{
    struct mr_buf kept = MR_BUF_INIT;
    struct mr_batch *arguments = NULL;
    enum mr_status status = argument_rows(slot, rows->batch, &arguments, err);

    for (uint32_t i = 0; i < rows->count && status == MR_OK; i++) {
        if (!is_left_out(slot, rows->batch, arguments, rows->from + i))
            status = take_row(slot, rows, arguments, i, &kept, err);
    }
    mr_batch_unref(arguments);
    mr_buf_release(&kept);
    return status;
}

enum mr_status mr_user_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                             struct mr_buf *out, struct mr_error *err)
{
    size_t from = out->size;

    mr_buf_add(out, a.data, a.size_bytes);
    if (out->failed)
        return MR_FAIL(err, MR_NOMEM, "cannot merge aggregates: out of memory");
    return slot->user->merge(slot->user->arg, b, out, from, err);
}

enum mr_status mr_user_emit(const struct mr_agg_slot *slot, struct mr_slice bytes,
                            struct mr_column_builder *out, struct mr_error *err)
{
    return slot->user->finish(slot->user->arg, bytes, out, err);
}
