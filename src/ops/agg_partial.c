/*
 * The partial aggregate: rows of one partition into one row per group.
 *
 *     batch --1,024 rows--> group table: numbers --> agg_update.c: buffers --finish--> key | value
 *
 * Groups come out in the order in which they were first seen: the same rows give the same bytes. A
 * task's table and buffers are kept for the next task (a pool, the one used last first), so a batch
 * of one row allocates nothing large and clears one entry.
 *
 * With its fold (mr_op_aggregate) there is one step more: groups become records (agg_deal.h), which
 * leave in blocks, each in the order of the shards of the store. Rows whose keys are nearly all
 * different gain nothing from a table: when 32,768 rows have made more than 15/16 as many groups,
 * the groups become records and so do the next 229,376 rows, one each, past the table; then it
 * looks again. The fold merges records of one key in their order, so that shows in nothing but the
 * time it takes.
 *
 * Called by the front ends (mr_op_aggregate_partial), then by tasks. Threads: any; a task is its
 * thread's, the pool takes its lock.
 */
#include "ops/agg_deal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "data/row_codec.h"
#include "env/thread.h"
#include "ops/agg_narrow.h"
#include "ops/group_table.h"
#include "ops/ordinal.h"

enum {
    EMIT_ROWS_MAX = 64 * 1024,
    EMIT_BYTES_MAX = 16 * 1024 * 1024,
    KEPT_GROUPS_MAX = 64 * 1024, /* buffers for more groups are not kept when few were used */
    LOOK_ROWS = 32 * 1024,
    PASS_ROWS = 7 * LOOK_ROWS,
    BLOCK_RECORDS = 32 * 1024, /* with their bytes: a second-level cache */
    NARROW_ROWS = 128,         /* whose values are loaded at once */
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
    /* With a link: */
    struct mr_agg_records records; /* a block */
    uint32_t first_group;          /* layouts that do not pack: of the first record of the block */
    uint32_t table_rows;           /* that came into the table since it was empty */
    uint32_t pass_rows;            /* that still pass it by */
    bool looked;                   /* the table stays in use until the end */
};

struct partial {
    struct mr_agg_layout *layout;
    struct mr_agg_link *link; /* NULL: the plain form */
    struct mr_schema *output;
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
    mr_agg_records_release(&task->records);
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
    mr_agg_records_clear(&task->records);
    task->ready = 0;
    task->any_rows = false;
    task->table_rows = 0;
    task->pass_rows = 0;
    task->looked = false;
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

/* Short ones as a whole: both sides have room behind them. */
static inline void put_bytes(struct mr_column_builder *column, const char *data, size_t size_bytes)
{
    enum { SHORT = MR_AGG_RECORDS_SLACK_BYTES };
    _Static_assert((int)SHORT <= (int)MR_BUILDER_SLACK_BYTES, "writes stay within the slack");

    memcpy(column->values + column->bytes_used, data, SHORT);
    if (size_bytes > SHORT)
        memcpy(column->values + column->bytes_used + SHORT, data + SHORT, size_bytes - SHORT);
    column->bytes_used += size_bytes;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
}

static enum mr_status add_dealt(const struct mr_agg_layout *layout, struct task *task,
                                uint32_t number, struct mr_column_builder *const columns[3],
                                struct mr_error *err)
{
    const struct mr_agg_record *record = &task->records.records[number];
    const char *key = task->records.bytes + record->at;

    if (columns[0]->bytes_used + record->key_bytes > columns[0]->bytes_capacity)
        MR_TRY(mr_column_builder_reserve(columns[0], 1, record->key_bytes, err));
    put_bytes(columns[0], key, record->key_bytes);
    if (record->value_bytes == 0)
        MR_TRY(add_value(layout, task, task->first_group + number, columns[1], err));
    else
        put_bytes(columns[1], key + record->key_bytes, record->value_bytes);
    mr_column_builder_i64(columns[2], (int64_t)record->hash);
    return MR_OK;
}

static enum mr_status start_dealt(struct task *task, size_t records, size_t bytes,
                                  struct mr_column_builder *columns[3], struct mr_error *err)
{
    for (uint32_t i = 0; i < 3; i++) {
        columns[i] = mr_batch_builder_column(task->builder, i);
        MR_TRY(mr_column_builder_reserve(columns[i], (int64_t)records, i == 1 ? bytes : 0, err));
    }
    return MR_OK;
}

/* The records leave by bucket, and the block is empty. */
static enum mr_status emit_records(const struct mr_agg_layout *layout, struct task *task,
                                   struct mr_output *out, struct mr_error *err)
{
    struct mr_agg_records *records = &task->records;
    size_t value_bytes = 0;
    struct mr_column_builder *columns[3];
    int64_t rows = 0;

    if (!mr_agg_records_sort(records))
        return no_memory(err);
    for (size_t i = 0; i < records->count; i++)
        value_bytes += records->records[i].value_bytes;
    MR_TRY(start_dealt(task, records->count, value_bytes, columns, err));
    for (size_t i = 0; i < records->count; i++) {
        MR_TRY(add_dealt(layout, task, records->order[i], columns, err));
        if (++rows < EMIT_ROWS_MAX &&
            columns[0]->bytes_used + columns[1]->bytes_used < EMIT_BYTES_MAX)
            continue;
        MR_TRY(flush(task, rows, out, err));
        rows = 0;
        MR_TRY(start_dealt(task, records->count - i, value_bytes, columns, err));
    }
    mr_agg_records_clear(records);
    return rows == 0 ? MR_OK : flush(task, rows, out, err);
}

static enum mr_status emit_block(const struct partial *partial, struct task *task,
                                 struct mr_output *out, struct mr_error *err)
{
    enum mr_status status = MR_OK;

    if (task->builder == NULL)
        status = mr_batch_builder_new(partial->output, &task->builder, err);
    if (status == MR_OK)
        status = emit_records(partial->layout, task, out, err);
    if (status != MR_OK) { /* may hold half a row */
        mr_batch_builder_free(task->builder);
        task->builder = NULL;
    }
    return status;
}

/* ---- rows ---- */

/* Buffers for so many groups. */
static enum mr_status reserve_groups(const struct mr_agg_layout *layout, struct task *task,
                                     uint32_t count, struct mr_error *err)
{
    size_t capacity = MR_MAX((size_t)count, MR_MAX((size_t)task->capacity * 2, (size_t)64));
    char *fixed;

    if (count <= task->capacity)
        return MR_OK;
    fixed = mr_realloc(NULL, task->fixed, capacity * layout->fixed_bytes);
    if (fixed == NULL)
        return no_memory(err);
    task->fixed = fixed;
    if (layout->bytes_count > 0) {
        struct mr_agg_bytes *bytes =
            mr_realloc(NULL, task->bytes, capacity * layout->bytes_count * sizeof(*task->bytes));
        if (bytes == NULL)
            return no_memory(err);
        task->bytes = bytes;
    }
    task->capacity = (uint32_t)capacity;
    return MR_OK;
}

/* Makes buffers for all groups of the table: zero is the empty buffer of every slot. */
static enum mr_status ready_groups(const struct mr_agg_layout *layout, struct task *task,
                                   struct mr_error *err)
{
    uint32_t count = mr_group_table_count(task->table);

    MR_TRY(reserve_groups(layout, task, count, err));
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

/* A record of the key and of buffers in fixed size; the key has no more room than was reserved. */
static void add_record(const struct partial *partial, struct task *task, size_t key_bytes,
                       const char *fixed)
{
    char *key = mr_agg_records_end(&task->records);
    uint64_t hash = mr_hash(key, key_bytes, partial->link->seed);

    mr_agg_records_add(&task->records, hash, key_bytes,
                       mr_agg_pack(partial->layout, fixed, key + key_bytes));
}

/* All groups of the table become records: with their buffers when these pack. */
static enum mr_status record_groups(const struct partial *partial, struct task *task,
                                    struct mr_output *out, struct mr_error *err)
{
    const struct mr_agg_layout *layout = partial->layout;
    bool packs = mr_agg_packs(layout);

    for (uint32_t group = 0; group < task->ready; group++) {
        if (task->records.count >= BLOCK_RECORDS)
            MR_TRY(emit_block(partial, task, out, err));
        if (task->records.count == 0)
            task->first_group = group;
        mr_buf_clear(&task->key);
        mr_group_table_encode_key(task->table, group, &task->key);
        if (task->key.failed ||
            !mr_agg_records_reserve(&task->records, 1, task->key.size + MR_AGG_PACK_ROOM_BYTES))
            return no_memory(err);
        if (task->key.size > 0)
            memcpy(mr_agg_records_end(&task->records), task->key.data, task->key.size);
        if (packs)
            add_record(partial, task, task->key.size,
                       task->fixed + (size_t)group * layout->fixed_bytes);
        else
            mr_agg_records_add(
                &task->records,
                mr_hash(mr_agg_records_end(&task->records), task->key.size, partial->link->seed),
                task->key.size, 0);
    }
    return MR_OK;
}

/* After LOOK_ROWS rows in the table: was it worth it? */
static enum mr_status look(const struct partial *partial, struct task *task, struct mr_output *out,
                           struct mr_error *err)
{
    if (!mr_agg_packs(partial->layout) || task->ready / 15 < task->table_rows / 16) {
        task->looked = true;
        return MR_OK;
    }
    MR_TRY(record_groups(partial, task, out, err));
    mr_group_table_clear(task->table);
    task->ready = 0;
    task->table_rows = 0;
    task->pass_rows = PASS_ROWS;
    return MR_OK;
}

/* The key bytes of a row, behind the records. */
static enum mr_status put_key(const struct partial *partial, struct task *task,
                              const struct mr_batch *batch, int64_t row, size_t *ret_bytes,
                              struct mr_error *err)
{
    const struct mr_agg_layout *layout = partial->layout;

    mr_buf_clear(&task->key);
    for (uint32_t i = 0; i < layout->key_count; i++)
        mr_key_encode(&task->key, mr_batch_column(batch, layout->keys[i]), row);
    if (task->key.failed ||
        !mr_agg_records_reserve(&task->records, 1, task->key.size + MR_AGG_PACK_ROOM_BYTES))
        return no_memory(err);
    memcpy(mr_agg_records_end(&task->records), task->key.data, task->key.size);
    *ret_bytes = task->key.size;
    return MR_OK;
}

/* The only key as BIGINTs without nulls; NULL when it is something else. */
static const int64_t *plain_keys(const struct mr_agg_layout *layout, const struct mr_batch *batch)
{
    const struct mr_column *column;

    if (layout->key_count != 1)
        return NULL;
    column = mr_batch_column(batch, layout->keys[0]);
    if (mr_column_has_nulls(column) ||
        (column->type->id != MR_TYPE_INT64 && column->type->id != MR_TYPE_TIMESTAMP))
        return NULL;
    return column->values;
}

/* A row of a narrow layout: its words. */
struct narrow_rows {
    const struct mr_column *columns[MR_NARROW_WORDS_MAX]; /* one a slot */
    bool nulls[MR_NARROW_WORDS_MAX];
    int64_t values[MR_NARROW_WORDS_MAX][NARROW_ROWS]; /* of sums */
};

static void load_narrow(const struct mr_agg_layout *layout, const struct mr_batch *batch,
                        int64_t from, uint32_t count, struct narrow_rows *rows)
{
    for (uint32_t s = 0; s < layout->slot_count; s++) {
        rows->columns[s] = mr_batch_column(batch, layout->slots[s].column);
        rows->nulls[s] = mr_column_has_nulls(rows->columns[s]);
        if (layout->slots[s].kind == MR_SLOT_SUM_INT)
            mr_ordinal_load(rows->columns[s], from, count, rows->values[s]);
    }
}

static void take_narrow(const struct mr_agg_layout *layout, const struct narrow_rows *rows,
                        int64_t from, uint32_t i, uint64_t *words)
{
    words[0] = 1;
    for (uint32_t s = 0; s < layout->slot_count; s++) {
        bool is_null = rows->nulls[s] && mr_column_is_null(rows->columns[s], from + i);
        uint64_t *word = &words[layout->slots[s].word];

        if (layout->slots[s].kind == MR_SLOT_SUM_INT)
            *word++ = is_null ? 0 : (uint64_t)rows->values[s][i];
        *word = is_null;
    }
}

/* A row whose numbers are too long for a word. */
static enum mr_status pass_wide_row(const struct partial *partial, struct task *task,
                                    const struct mr_batch *batch, int64_t row, size_t key_bytes,
                                    struct mr_error *err)
{
    uint32_t group = 0;

    memset(task->fixed, 0, partial->layout->fixed_bytes);
    MR_TRY(mr_agg_update(partial->layout, batch, row, 1, &group, task->fixed, NULL, NULL, err));
    add_record(partial, task, key_bytes, task->fixed);
    return MR_OK;
}

/* Rows of a narrow layout, at most NARROW_ROWS: there is room for keys of BIGINTs. */
static enum mr_status pass_narrow(const struct partial *partial, struct task *task,
                                  const struct mr_batch *batch, int64_t from, uint32_t count,
                                  struct mr_error *err)
{
    const struct mr_agg_layout *layout = partial->layout;
    const int64_t *plain = plain_keys(layout, batch);
    size_t key_bytes = MR_KEY_INT64_BYTES;
    struct narrow_rows rows;

    load_narrow(layout, batch, from, count, &rows);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t words[MR_NARROW_WORDS_MAX] = {0};
        char *key = mr_agg_records_end(&task->records);
        size_t size;

        if (plain != NULL)
            mr_key_store_int64(key, plain[from + i]);
        else
            MR_TRY(put_key(partial, task, batch, from + i, &key_bytes, err));
        key = mr_agg_records_end(&task->records); /* may have moved */
        take_narrow(layout, &rows, from, i, words);
        size = mr_narrow_write(layout, words, key + key_bytes);
        if (size == 0)
            MR_TRY(pass_wide_row(partial, task, batch, from + i, key_bytes, err));
        else
            mr_agg_records_add(&task->records, mr_hash(key, key_bytes, partial->link->seed),
                               key_bytes, size);
    }
    return MR_OK;
}

/* Each row of a chunk is a record. */
static enum mr_status pass_rows(const struct partial *partial, struct task *task,
                                const struct mr_batch *batch, int64_t from, uint32_t count,
                                uint32_t *groups, struct mr_output *out, struct mr_error *err)
{
    const struct mr_agg_layout *layout = partial->layout;
    const int64_t *plain = plain_keys(layout, batch);
    size_t key_bytes = MR_KEY_INT64_BYTES;

    MR_TRY(reserve_groups(layout, task, MR_CHUNK_ROWS, err));
    if (!mr_agg_records_reserve(&task->records, count,
                                count * (size_t)(MR_KEY_INT64_BYTES + layout->fixed_bytes) +
                                    MR_AGG_PACK_ROOM_BYTES))
        return no_memory(err);
    for (uint32_t at = 0; layout->narrow_words > 0 && at < count; at += NARROW_ROWS)
        MR_TRY(pass_narrow(partial, task, batch, from + at,
                           MR_MIN(count - at, (uint32_t)NARROW_ROWS), err));
    if (layout->narrow_words > 0)
        return task->records.count < BLOCK_RECORDS ? MR_OK : emit_block(partial, task, out, err);
    memset(task->fixed, 0, (size_t)count * layout->fixed_bytes);
    for (uint32_t i = 0; i < count; i++)
        groups[i] = i;
    MR_TRY(mr_agg_update(layout, batch, from, count, groups, task->fixed, NULL, NULL, err));
    for (uint32_t i = 0; i < count; i++) {
        if (plain != NULL)
            mr_key_store_int64(mr_agg_records_end(&task->records), plain[from + i]);
        else
            MR_TRY(put_key(partial, task, batch, from + i, &key_bytes, err));
        add_record(partial, task, key_bytes, task->fixed + (size_t)i * layout->fixed_bytes);
    }
    return task->records.count < BLOCK_RECORDS ? MR_OK : emit_block(partial, task, out, err);
}

static enum mr_status group_rows(const struct partial *partial, struct task *task,
                                 const struct mr_batch *batch, int64_t from, uint32_t count,
                                 uint32_t *groups, struct mr_error *err)
{
    const struct mr_agg_layout *layout = partial->layout;

    MR_TRY(mr_group_table_find(task->table, batch, from, count, groups, err));
    MR_TRY(ready_groups(layout, task, err));
    return mr_agg_update(layout, batch, from, count, groups, task->fixed, task->bytes, &task->arena,
                         err);
}

static enum mr_status partial_apply(void *op, void *task_pointer, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    const struct partial *partial = op;
    struct task *task = task_pointer;
    int64_t row_count = mr_batch_row_count(batch);
    uint32_t groups[MR_CHUNK_ROWS];

    (void)info;
    for (int64_t from = 0; from < row_count; from += MR_CHUNK_ROWS) {
        uint32_t count = (uint32_t)MR_MIN(row_count - from, (int64_t)MR_CHUNK_ROWS);

        task->any_rows = true;
        if (task->pass_rows > 0) {
            MR_TRY(pass_rows(partial, task, batch, from, count, groups, out, err));
            task->pass_rows -= MR_MIN(task->pass_rows, count);
            continue;
        }
        MR_TRY(group_rows(partial, task, batch, from, count, groups, err));
        if (partial->link == NULL || task->looked)
            continue;
        task->table_rows += count;
        if (task->table_rows >= LOOK_ROWS)
            MR_TRY(look(partial, task, out, err));
    }
    return MR_OK;
}

static enum mr_status partial_finish(void *op, void *task_pointer, const struct mr_batch_info *info,
                                     struct mr_output *out, struct mr_error *err)
{
    const struct partial *partial = op;
    struct task *task = task_pointer;

    (void)info;
    if (!task->any_rows)
        return MR_OK;
    if (partial->link != NULL) {
        MR_TRY(record_groups(partial, task, out, err));
        return task->records.count == 0 ? MR_OK : emit_block(partial, task, out, err);
    }
    if (task->builder == NULL)
        MR_TRY(mr_batch_builder_new(partial->output, &task->builder, err));
    enum mr_status status = emit_groups(partial->layout, task, out, err);
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
    mr_schema_unref(partial->output);
    mr_agg_layout_free(partial->layout);
    mr_agg_link_unref(partial->link);
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

static enum mr_status make_output(struct partial *partial, struct mr_error *err)
{
    static const struct mr_field dealt[3] = {
        {.name = "key", .type = {.id = MR_TYPE_BINARY}},
        {.name = "value", .type = {.id = MR_TYPE_BINARY}},
        {.name = "hash", .type = {.id = MR_TYPE_UINT64}},
    };

    if (partial->link != NULL)
        return mr_schema_new(dealt, 3, &partial->output, err);
    partial->output = mr_schema_ref(partial->layout->partial);
    return MR_OK;
}

enum mr_status mr_agg_partial_new(const struct mr_aggregate_spec *spec, struct mr_agg_link *link,
                                  struct mr_map_op *ret_op, struct mr_error *err)
{
    struct partial *partial = mr_alloc_zero(NULL, sizeof(*partial));
    enum mr_status status;

    if (partial == NULL)
        return no_memory(err);
    mr_mutex_init(&partial->lock);
    if (link != NULL) {
        partial->link = link;
        link->user_count++;
    }
    MR_TRY_GOTO(mr_agg_layout_new(spec, &partial->layout, err));
    MR_TRY_GOTO(make_output(partial, err));
    *ret_op = (struct mr_map_op){&partial_ops, partial, mr_schema_ref(partial->output)};
    partial = NULL;
done:
    partial_free(partial);
    return status;
}

enum mr_status mr_op_aggregate_partial(const struct mr_aggregate_spec *spec,
                                       struct mr_map_op *ret_op, struct mr_error *err)
{
    return mr_agg_partial_new(spec, NULL, ret_op, err);
}
