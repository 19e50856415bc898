/*
 * The partial aggregate: rows of one partition into one row per group.
 *
 *     batch --1,024 rows--> group table: numbers --> agg_update.c: buffers --finish--> key | value
 *
 * Groups come out in the order in which they were first seen: the same rows give the same bytes. A
 * task's table and buffers are kept for the next task (a pool, the one used last first), so a batch
 * of one row allocates nothing large and clears one entry.
 *
 * Called by the front ends (mr_op_aggregate_partial), then by tasks. Threads: any; a task is its
 * thread's, the pool takes its lock.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/row_codec.h"
#include "env/thread.h"
#include "ops/group_table.h"

enum {
    EMIT_ROWS_MAX = 64 * 1024,
    EMIT_BYTES_MAX = 16 * 1024 * 1024,
    KEPT_GROUPS_MAX = 64 * 1024, /* buffers for more groups are not kept when few were used */
};

struct task {
    struct task *next; /* in the pool */
    struct mr_group_table *table;
    char *fixed;                /* fixed_bytes a group */
    struct mr_agg_bytes *bytes; /* bytes_count a group */
    uint32_t ready;             /* groups whose buffers are initialised */
    uint32_t capacity;          /* groups that fit */
    bool any_rows;
    struct mr_arena arena; /* byte strings */
    struct mr_batch_builder *builder;
    struct mr_buf key;
};

struct partial {
    struct mr_agg_layout *layout;
    struct mr_mutex lock; /* guards pool */
    struct task *pool;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot aggregate a batch: out of memory; make batches smaller");
}

/* ---- tasks ---- */

static void task_free(struct task *task)
{
    if (task == NULL)
        return;
    mr_group_table_free(task->table);
    mr_free(task->fixed);
    mr_free(task->bytes);
    mr_arena_release(&task->arena);
    mr_batch_builder_free(task->builder);
    mr_buf_release(&task->key);
    mr_free(task);
}

static enum mr_status task_new(const struct mr_agg_layout *layout, struct task **ret_task,
                               struct mr_error *err)
{
    struct task *task = mr_alloc_zero(NULL, sizeof(*task));
    enum mr_status status;

    if (task == NULL)
        return no_memory(err);
    MR_TRY_GOTO(
        mr_group_table_new(layout->input, layout->keys, layout->key_count, &task->table, err));
    *ret_task = task;
    return MR_OK;
done:
    task_free(task);
    return status;
}

static void task_clear(struct task *task)
{
    if (task->capacity > KEPT_GROUPS_MAX && task->ready < task->capacity / 16) {
        mr_free(task->fixed);
        mr_free(task->bytes);
        task->fixed = NULL;
        task->bytes = NULL;
        task->capacity = 0;
    }
    mr_group_table_clear(task->table);
    mr_arena_clear(&task->arena);
    task->ready = 0;
    task->any_rows = false;
}

static enum mr_status partial_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                    struct mr_error *err)
{
    struct partial *partial = op;
    struct task *task;

    (void)info;
    mr_mutex_lock(&partial->lock);
    task = partial->pool;
    if (task != NULL)
        partial->pool = task->next;
    mr_mutex_unlock(&partial->lock);
    if (task == NULL)
        MR_TRY(task_new(partial->layout, &task, err));
    *ret_task = task;
    return MR_OK;
}

static void partial_end(void *op, void *task_pointer)
{
    struct partial *partial = op;
    struct task *task = task_pointer;

    task_clear(task);
    mr_mutex_lock(&partial->lock);
    task->next = partial->pool;
    partial->pool = task;
    mr_mutex_unlock(&partial->lock);
}

/* ---- rows ---- */

/* Makes buffers for all groups of the table: zero is the empty buffer of every slot. */
static enum mr_status ready_groups(const struct mr_agg_layout *layout, struct task *task,
                                   struct mr_error *err)
{
    uint32_t count = mr_group_table_count(task->table);

    if (count > task->capacity) {
        size_t capacity = MR_MAX((size_t)count, MR_MAX((size_t)task->capacity * 2, (size_t)64));
        char *fixed = mr_realloc(NULL, task->fixed, capacity * layout->fixed_bytes);
        if (fixed == NULL)
            return no_memory(err);
        task->fixed = fixed;
        if (layout->bytes_count > 0) {
            struct mr_agg_bytes *bytes = mr_realloc(
                NULL, task->bytes, capacity * layout->bytes_count * sizeof(*task->bytes));
            if (bytes == NULL)
                return no_memory(err);
            task->bytes = bytes;
        }
        task->capacity = (uint32_t)capacity;
    }
    if (count > task->ready) {
        size_t more = count - task->ready;
        memset(task->fixed + (size_t)task->ready * layout->fixed_bytes, 0,
               more * layout->fixed_bytes);
        if (layout->bytes_count > 0)
            memset(task->bytes + (size_t)task->ready * layout->bytes_count, 0,
                   more * layout->bytes_count * sizeof(*task->bytes));
        task->ready = count;
    }
    return MR_OK;
}

static enum mr_status partial_apply(void *op, void *task_pointer, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    const struct mr_agg_layout *layout = ((struct partial *)op)->layout;
    struct task *task = task_pointer;
    int64_t row_count = mr_batch_row_count(batch);
    uint32_t groups[MR_CHUNK_ROWS];

    (void)info;
    (void)out;
    for (int64_t from = 0; from < row_count; from += MR_CHUNK_ROWS) {
        uint32_t count = (uint32_t)MR_MIN(row_count - from, (int64_t)MR_CHUNK_ROWS);
        MR_TRY(mr_group_table_find(task->table, batch, from, count, groups, err));
        MR_TRY(ready_groups(layout, task, err));
        MR_TRY(mr_agg_update(layout, batch, from, count, groups, task->fixed, task->bytes,
                             &task->arena, err));
        task->any_rows = true;
    }
    return MR_OK;
}

/* ---- groups ---- */

static enum mr_status add_value(const struct mr_agg_layout *layout, struct task *task,
                                uint32_t group, struct mr_column_builder *out, struct mr_error *err)
{
    return mr_agg_write_group(
        layout, task->fixed + (size_t)group * layout->fixed_bytes,
        layout->bytes_count == 0 ? NULL : task->bytes + (size_t)group * layout->bytes_count,
        &task->arena, out, err);
}

static enum mr_status flush(struct task *task, int64_t rows, struct mr_output *out,
                            struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    MR_TRY(mr_batch_builder_rows_added(task->builder, rows, err));
    MR_TRY(mr_batch_builder_finish(task->builder, &batch, err));
    enum mr_status status = mr_output_emit(out, batch, err);
    mr_batch_unref(batch);
    return status;
}

static enum mr_status emit_groups(const struct mr_agg_layout *layout, struct task *task,
                                  struct mr_output *out, struct mr_error *err)
{
    struct mr_column_builder *keys = mr_batch_builder_column(task->builder, 0);
    struct mr_column_builder *values = mr_batch_builder_column(task->builder, 1);
    int64_t rows = 0;

    for (uint32_t group = 0; group < task->ready; group++) {
        mr_buf_clear(&task->key);
        mr_group_table_encode_key(task->table, group, &task->key);
        if (task->key.failed)
            return no_memory(err);
        MR_TRY(mr_column_builder_text(keys, task->key.size == 0 ? "" : task->key.data,
                                      task->key.size, err));
        MR_TRY(add_value(layout, task, group, values, err));
        if (++rows < EMIT_ROWS_MAX && keys->bytes_used + values->bytes_used < EMIT_BYTES_MAX)
            continue;
        MR_TRY(flush(task, rows, out, err));
        rows = 0;
        keys = mr_batch_builder_column(task->builder, 0);
        values = mr_batch_builder_column(task->builder, 1);
    }
    return rows == 0 ? MR_OK : flush(task, rows, out, err);
}

static enum mr_status partial_finish(void *op, void *task_pointer, const struct mr_batch_info *info,
                                     struct mr_output *out, struct mr_error *err)
{
    const struct mr_agg_layout *layout = ((struct partial *)op)->layout;
    struct task *task = task_pointer;

    (void)info;
    if (!task->any_rows)
        return MR_OK;
    if (task->builder == NULL)
        MR_TRY(mr_batch_builder_new(layout->partial, &task->builder, err));
    enum mr_status status = emit_groups(layout, task, out, err);
    if (status != MR_OK) { /* may hold half a row */
        mr_batch_builder_free(task->builder);
        task->builder = NULL;
    }
    return status;
}

static void partial_free(void *op)
{
    struct partial *partial = op;

    if (partial == NULL)
        return;
    while (partial->pool != NULL) {
        struct task *task = partial->pool;
        partial->pool = task->next;
        task_free(task);
    }
    mr_agg_layout_free(partial->layout);
    mr_mutex_release(&partial->lock);
    mr_free(partial);
}

static const struct mr_map_ops partial_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "partial aggregate",
    .begin = partial_begin,
    .apply = partial_apply,
    .finish = partial_finish,
    .end = partial_end,
    .free = partial_free,
};

enum mr_status mr_op_aggregate_partial(const struct mr_aggregate_spec *spec,
                                       struct mr_map_op *ret_op, struct mr_error *err)
{
    struct partial *partial = mr_alloc_zero(NULL, sizeof(*partial));
    enum mr_status status;

    if (partial == NULL)
        return no_memory(err);
    mr_mutex_init(&partial->lock);
    MR_TRY_GOTO(mr_agg_layout_new(spec, &partial->layout, err));
    *ret_op = (struct mr_map_op){&partial_ops, partial, mr_schema_ref(partial->layout->partial)};
    partial = NULL;
done:
    partial_free(partial);
    return status;
}
