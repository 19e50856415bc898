/*
 * Variables of the key at hand: cells in memory, and their stored form (transform.h draws it).
 *
 *     store --load--> cells --rows for the program--> ...
 *                       ^                              |
 *                       +---- what it emitted <--------+        --write--> store
 *
 * A value has at most one cell, a list any number, a map one for each key, in key order. Cells
 * whose life has ended are not loaded. Loaded cells point into the store, new ones into the
 * context's arena; a store changes only when its own variable is written, from a buffer.
 *
 * Called by transform_state.c and transform_call.c. Thread: the partition's worker.
 */
#include "streams/transform.h"

#include "base/check.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a variable: out of memory");
}

static enum mr_status damaged(const struct mr_transform *at, size_t variable, struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read variable '%s' of '%s': a record is damaged; restore the checkpoint "
                   "from a copy",
                   at->op->variables[variable].name, at->op->keyed.name);
}

/* ---- loading ---- */

static bool add_cell(struct transform_cells *cells, uint32_t index, struct transform_cell cell)
{
    if (cells->count == cells->capacity) {
        uint32_t capacity = cells->capacity == 0 ? 4 : cells->capacity * 2;
        struct transform_cell *grown =
            mr_realloc(NULL, cells->cells, capacity * sizeof(*cells->cells));

        if (grown == NULL)
            return false;
        cells->cells = grown;
        cells->capacity = capacity;
    }
    memmove(&cells->cells[index + 1], &cells->cells[index],
            (cells->count - index) * sizeof(*cells->cells));
    cells->cells[index] = cell;
    cells->count++;
    return true;
}

static struct mr_slice read_block(struct mr_bytes *bytes)
{
    size_t size = mr_bytes_u32(bytes);

    return (struct mr_slice){mr_bytes_take(bytes, size), size};
}

static enum mr_status read_cells(struct mr_transform *at, size_t variable, struct mr_bytes bytes,
                                 int64_t now_ms, uint64_t *ret_ended, struct mr_error *err)
{
    struct transform_cells *cells = &at->variables[variable];
    enum mr_state_kind kind = at->op->variables[variable].kind;

    while (mr_bytes_left(&bytes) > 0 && !bytes.failed) {
        struct transform_cell cell = {.end_ms = (int64_t)mr_bytes_u64(&bytes)};

        if (kind == MR_STATE_MAP)
            cell.key = read_block(&bytes);
        cell.value = read_block(&bytes);
        if (bytes.failed)
            break;
        if (cell.end_ms <= now_ms)
            (*ret_ended)++;
        else if (!add_cell(cells, cells->count, cell))
            return no_memory(err);
    }
    return bytes.failed ? damaged(at, variable, err) : MR_OK;
}

/* *ret_ended: cells that are left out because their life has ended. */
static enum mr_status load(struct mr_transform *at, size_t variable, uint64_t *ret_ended,
                           struct mr_error *err)
{
    const struct transform_variable *of = &at->op->variables[variable];
    struct transform_cells *cells = &at->variables[variable];
    int64_t now_ms = at->op->keyed.batch_time_ms;
    const char *value = NULL;
    size_t value_bytes = 0;
    struct mr_bytes bytes;

    cells->is_loaded = true;
    cells->old_end_ms = MR_DUE_NEVER;
    cells->had_entry = mr_store_get(of->store, at->key, at->key_bytes, &value, &value_bytes);
    if (!cells->had_entry)
        return MR_OK;
    bytes = mr_bytes_of(value, value_bytes);
    cells->old_end_ms = (int64_t)mr_bytes_u64(&bytes);
    if (bytes.failed)
        return damaged(at, variable, err);
    if (of->kind != MR_STATE_VALUE)
        return read_cells(at, variable, bytes, now_ms, ret_ended, err);
    if (cells->old_end_ms <= now_ms) {
        (*ret_ended)++;
        return MR_OK;
    }
    struct transform_cell cell = {.end_ms = cells->old_end_ms,
                                  .value = {(const char *)bytes.at, mr_bytes_left(&bytes)}};
    return add_cell(cells, 0, cell) ? MR_OK : no_memory(err);
}

/* ---- what the program emitted ---- */

void mr_transform_changed(struct transform_cells *cells)
{
    cells->is_changed = true;
    cells->values = mr_batch_unref(cells->values);
    cells->keys = mr_batch_unref(cells->keys);
}

static bool any_value(const struct mr_batch *rows, int64_t row)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(rows));

    for (uint32_t i = 0; i < columns; i++) {
        if (!mr_column_is_null(mr_batch_column(rows, i), row))
            return true;
    }
    return false;
}

static const char *check_rows(enum transform_pending pending, const struct mr_batch *rows)
{
    int64_t count = mr_batch_row_count(rows);
    bool one = pending == PENDING_VALUE || pending == PENDING_ENTRY;

    if (one && count != 1)
        return "must emit exactly one row into what mr_value_state_update or mr_map_state_update "
               "gave";
    if (!one && count == 0)
        return "must emit at least one row into what mr_list_state_put or mr_list_state_append "
               "gave; call mr_list_state_clear for an empty list";
    for (int64_t row = 0; row < count; row++) {
        if (!any_value(rows, row))
            return "keeps a row of nothing but nulls; clear or remove it instead";
    }
    return NULL;
}

/* One emitted row becomes a cell. */
static enum mr_status take_row(struct mr_transform *at, size_t variable,
                               const struct mr_batch *rows, int64_t row, struct mr_error *err)
{
    const struct transform_variable *of = &at->op->variables[variable];
    struct transform_cells *cells = &at->variables[variable];
    const struct mr_column *columns[MR_COLUMNS_MAX];
    uint32_t count = mr_schema_field_count(of->columns), index = cells->count;
    struct transform_cell cell = {.end_ms = MR_DUE_NEVER, .key = cells->pending_key};
    bool found = false;

    if (of->ttl_ms > 0 &&
        __builtin_add_overflow(at->op->keyed.batch_time_ms, of->ttl_ms, &cell.end_ms))
        cell.end_ms = MR_DUE_NEVER;
    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_column(rows, i);
    mr_buf_clear(&at->bytes);
    mr_value_encode(&at->bytes, columns, count, row);
    if (at->bytes.failed)
        return no_memory(err);
    cell.value.size_bytes = at->bytes.size;
    cell.value.data = mr_arena_copy(&at->arena, at->bytes.data, at->bytes.size);
    if (cell.value.data == NULL)
        return no_memory(err);
    if (of->kind == MR_STATE_MAP)
        index = mr_transform_find(cells, cell.key, &found);
    if (found) {
        cells->cells[index] = cell;
        return MR_OK;
    }
    return add_cell(cells, index, cell) ? MR_OK : no_memory(err);
}

static enum mr_status take_emitted(struct mr_transform *at, size_t variable, struct mr_error *err)
{
    struct transform_cells *cells = &at->variables[variable];
    enum transform_pending pending = cells->pending;
    struct mr_batch *rows = NULL;
    enum mr_status status;
    const char *mistake;

    if (pending == PENDING_NONE)
        return MR_OK;
    cells->pending = PENDING_NONE;
    MR_TRY(mr__emitter_finish(&cells->emitter, &rows, err));
    mistake = check_rows(pending, rows);
    status = mistake == NULL ? MR_OK
                             : MR_FAIL(err, MR_USER, "the function %s (variable '%s')", mistake,
                                       at->op->variables[variable].name);
    if (status == MR_OK && (pending == PENDING_VALUE || pending == PENDING_PUT))
        cells->count = 0;
    for (int64_t row = 0; status == MR_OK && row < mr_batch_row_count(rows); row++)
        status = take_row(at, variable, rows, row, err);
    mr_transform_changed(cells);
    mr_batch_unref(rows);
    return status;
}

struct mr_emitter *mr_transform_emit(struct mr_transform *at, size_t variable,
                                     enum mr_state_kind kind, enum transform_pending pending,
                                     struct mr_slice key)
{
    struct transform_cells *cells = mr_transform_cells(at, variable, kind);

    if (cells == NULL)
        return &at->nowhere;
    if (!cells->has_emitter) {
        if (mr__emitter_init(&cells->emitter, at->op->variables[variable].columns, &at->error) !=
            MR_OK)
            return &at->nowhere;
        cells->has_emitter = true;
    }
    cells->pending = pending;
    cells->pending_key = key;
    return &cells->emitter;
}

/* ---- asking ---- */

struct transform_cells *mr_transform_cells(struct mr_transform *at, size_t variable,
                                           enum mr_state_kind kind)
{
    static const char *const kinds[] = {"value", "list", "map"};
    struct transform_cells *cells;
    uint64_t ended = 0;

    if (!at->is_active) {
        mr_transform_blame(at, "uses a variable outside of a call");
        return NULL;
    }
    if (at->error.status != MR_OK)
        return NULL;
    if (variable >= at->op->variable_count) {
        mr_transform_blame(at, "uses variable %zu of %u", variable, at->op->variable_count);
        return NULL;
    }
    if (at->op->variables[variable].kind != kind) {
        mr_transform_blame(at, "uses variable '%s' as a %s; it is a %s",
                           at->op->variables[variable].name, kinds[kind],
                           kinds[at->op->variables[variable].kind]);
        return NULL;
    }
    cells = &at->variables[variable];
    if (!cells->is_loaded && load(at, variable, &ended, &at->error) != MR_OK)
        return NULL;
    return take_emitted(at, variable, &at->error) == MR_OK ? cells : NULL;
}

/* Where an entry is, or would be. */
uint32_t mr_transform_find(const struct transform_cells *cells, struct mr_slice key,
                           bool *ret_found)
{
    uint32_t low = 0, high = cells->count;

    *ret_found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct mr_slice *other = &cells->cells[middle].key;
        size_t common = MR_MIN(key.size_bytes, other->size_bytes);
        int order = common == 0 ? 0 : memcmp(other->data, key.data, common);

        if (order == 0)
            order = (other->size_bytes > key.size_bytes) - (other->size_bytes < key.size_bytes);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum mr_status decode_values(struct mr_transform *at, size_t variable,
                                    struct mr_batch_builder *builder, struct mr_error *err)
{
    const struct transform_cells *cells = &at->variables[variable];
    uint32_t count = mr_schema_field_count(at->op->variables[variable].columns);
    struct mr_column_builder *into[MR_COLUMNS_MAX];

    for (uint32_t i = 0; i < count; i++)
        into[i] = mr_batch_builder_column(builder, i);
    for (uint32_t i = 0; i < cells->count; i++) {
        struct mr_bytes bytes =
            mr_bytes_of(cells->cells[i].value.data, cells->cells[i].value.size_bytes);

        MR_TRY(mr_value_decode(&bytes, into, count, err));
    }
    return MR_OK;
}

static enum mr_status decode_keys(struct mr_transform *at, size_t variable,
                                  struct mr_batch_builder *builder, struct mr_error *err)
{
    const struct transform_cells *cells = &at->variables[variable];
    const struct mr_type *type = &mr_schema_field(at->op->variables[variable].map_key, 0)->type;

    for (uint32_t i = 0; i < cells->count; i++) {
        struct mr_bytes bytes =
            mr_bytes_of(cells->cells[i].key.data, cells->cells[i].key.size_bytes);

        MR_TRY(mr_key_decode(&bytes, type, mr_batch_builder_column(builder, 0), err));
    }
    return MR_OK;
}

static struct mr_batch *decode(struct mr_transform *at, size_t variable,
                               const struct mr_schema *schema,
                               enum mr_status (*fill)(struct mr_transform *at, size_t variable,
                                                      struct mr_batch_builder *builder,
                                                      struct mr_error *err))
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *rows = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, &at->error));
    MR_TRY_GOTO(fill(at, variable, builder, &at->error));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, at->variables[variable].count, &at->error));
    status = mr_batch_builder_finish(builder, &rows, &at->error);
done:
    mr_batch_builder_free(builder);
    return status == MR_OK ? rows : NULL;
}

struct mr_batch *mr_transform_values(struct mr_transform *at, size_t variable)
{
    struct transform_cells *cells = &at->variables[variable];

    if (cells->values == NULL)
        cells->values = decode(at, variable, at->op->variables[variable].columns, decode_values);
    return cells->values;
}

struct mr_batch *mr_transform_keys(struct mr_transform *at, size_t variable)
{
    struct transform_cells *cells = &at->variables[variable];

    if (cells->keys == NULL)
        cells->keys = decode(at, variable, at->op->variables[variable].map_key, decode_keys);
    return cells->keys;
}

/* ---- writing ---- */

static enum mr_status encode(struct mr_transform *at, size_t variable, int64_t *ret_end_ms,
                             struct mr_error *err)
{
    const struct transform_cells *cells = &at->variables[variable];
    enum mr_state_kind kind = at->op->variables[variable].kind;
    int64_t end_ms = MR_DUE_NEVER;

    for (uint32_t i = 0; i < cells->count; i++)
        end_ms = MR_MIN(end_ms, cells->cells[i].end_ms);
    mr_buf_clear(&at->bytes);
    mr_buf_add_u64(&at->bytes, (uint64_t)end_ms);
    for (uint32_t i = 0; i < cells->count; i++) {
        const struct transform_cell *cell = &cells->cells[i];

        if (kind != MR_STATE_VALUE)
            mr_buf_add_u64(&at->bytes, (uint64_t)cell->end_ms);
        if (kind == MR_STATE_MAP) {
            mr_buf_add_u32(&at->bytes, (uint32_t)cell->key.size_bytes);
            mr_buf_add(&at->bytes, cell->key.data, cell->key.size_bytes);
        }
        if (kind != MR_STATE_VALUE)
            mr_buf_add_u32(&at->bytes, (uint32_t)cell->value.size_bytes);
        mr_buf_add(&at->bytes, cell->value.data, cell->value.size_bytes);
    }
    *ret_end_ms = end_ms;
    return at->bytes.failed ? no_memory(err) : MR_OK;
}

static enum mr_status check_size(const struct mr_transform *at, size_t variable,
                                 struct mr_error *err)
{
    if (at->bytes.size <= MR_STATE_RECORD_BYTES_MAX)
        return MR_OK;
    return MR_FAIL(err, MR_LIMIT,
                   "cannot keep variable '%s' of one key of '%s': it has %zu bytes, the limit is "
                   "%d; keep less for each key, or split the key",
                   at->op->variables[variable].name, at->op->keyed.name, at->bytes.size,
                   MR_STATE_RECORD_BYTES_MAX);
}

static enum mr_status write_variable(struct mr_transform *at, size_t variable, struct mr_error *err)
{
    struct transform_variable *of = &at->op->variables[variable];
    struct transform_cells *cells = &at->variables[variable];
    int64_t end_ms = MR_DUE_NEVER;

    if (!cells->is_changed)
        return MR_OK;
    if (cells->count == 0) {
        at->counts.removed += cells->had_entry;
        return cells->had_entry ? mr_store_delete(of->store, at->key, at->key_bytes, err) : MR_OK;
    }
    MR_TRY(encode(at, variable, &end_ms, err));
    MR_TRY(check_size(at, variable, err));
    if (end_ms < cells->old_end_ms)
        MR_TRY(mr_due_note(&of->due, at->shard, end_ms, at->key, at->key_bytes, err));
    at->counts.updated++;
    return mr_store_put(of->store, at->key, at->key_bytes, at->bytes.data, at->bytes.size, err);
}

enum mr_status mr_transform_write(struct mr_transform *at, struct mr_error *err)
{
    for (uint32_t i = 0; i < at->op->variable_count; i++)
        MR_TRY(take_emitted(at, i, err));
    for (uint32_t i = 0; i < at->op->variable_count; i++)
        MR_TRY(write_variable(at, i, err));
    return mr_transform_write_timers(at, err);
}

void mr_transform_forget(struct mr_transform *at)
{
    for (uint32_t i = 0; i < at->op->variable_count; i++) {
        struct transform_cells *cells = &at->variables[i];

        if (cells->pending != PENDING_NONE && cells->has_emitter) { /* of a call that failed */
            mr__emitter_release(&cells->emitter);
            cells->has_emitter = false;
        }
        mr_transform_changed(cells);
        cells->is_loaded = cells->is_changed = false;
        cells->count = 0;
        cells->pending = PENDING_NONE;
    }
    at->timers_loaded = at->timers_changed = false;
    at->timer_count = 0;
    mr_arena_clear(&at->arena);
}

enum mr_status mr_transform_end_cells(struct mr_transform *at, size_t variable,
                                      struct mr_error *err)
{
    uint64_t ended = 0;

    MR_TRY(load(at, variable, &ended, err));
    at->counts.ended += ended;
    if (ended == 0)
        return MR_OK;
    at->variables[variable].is_changed = true;
    return write_variable(at, variable, err);
}
