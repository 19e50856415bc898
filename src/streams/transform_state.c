/*
 * Variables as programs see them: mr_value_state_*, mr_list_state_*, mr_map_state_*, and what a
 * call may know of its batch.
 *
 * After a mistake everything gives nothing and takes anything: the call fails when it returns
 * (transform_call.c). Thread: the partition's worker.
 */
#include "streams/transform.h"

#include "base/check.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <stdio.h>

static const struct mr_slice no_key = {NULL, 0};

void mr_transform_blame(struct mr_transform *at, const char *format, ...)
{
    char text[300];
    va_list args;

    if (at->error.status != MR_OK)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)MR_FAIL(&at->error, MR_USER, "the function %s", text);
}

/* Row `index` of a batch as something that lives as long as the call. */
static const struct mr_row *row_of(struct mr_transform *at, struct mr_batch *rows, int64_t index)
{
    struct mr_row *row;

    if (rows == NULL || index < 0 || index >= mr_batch_row_count(rows))
        return NULL;
    row = mr_arena_alloc(&at->arena, sizeof(*row));
    if (row == NULL) {
        (void)MR_FAIL(&at->error, MR_NOMEM, "cannot read a variable: out of memory");
        return NULL;
    }
    *row = (struct mr_row){rows, index};
    return row;
}

static const struct mr_row *cell_at(struct mr_transform *at, size_t variable,
                                    enum mr_state_kind kind, int64_t index)
{
    const struct transform_cells *cells = mr_transform_cells(at, variable, kind);

    if (cells == NULL || index < 0 || index >= cells->count)
        return NULL;
    return row_of(at, mr_transform_values(at, variable), index);
}

static void clear(struct mr_transform *at, size_t variable, enum mr_state_kind kind)
{
    struct transform_cells *cells = mr_transform_cells(at, variable, kind);

    if (cells == NULL)
        return;
    cells->count = 0;
    mr_transform_changed(cells);
}

/* ---- value ---- */

bool mr_value_state_exists(struct mr_transform *at, size_t variable)
{
    const struct transform_cells *cells = mr_transform_cells(at, variable, MR_STATE_VALUE);

    return cells != NULL && cells->count > 0;
}

const struct mr_row *mr_value_state_get(struct mr_transform *at, size_t variable)
{
    return cell_at(at, variable, MR_STATE_VALUE, 0);
}

struct mr_emitter *mr_value_state_update(struct mr_transform *at, size_t variable)
{
    return mr_transform_emit(at, variable, MR_STATE_VALUE, PENDING_VALUE, no_key);
}

void mr_value_state_update_int(struct mr_transform *at, size_t variable, int64_t value)
{
    mr_emit_int(mr_value_state_update(at, variable), value);
}

void mr_value_state_clear(struct mr_transform *at, size_t variable)
{
    clear(at, variable, MR_STATE_VALUE);
}

/* ---- list ---- */

int64_t mr_list_state_count(struct mr_transform *at, size_t variable)
{
    const struct transform_cells *cells = mr_transform_cells(at, variable, MR_STATE_LIST);

    return cells != NULL ? cells->count : 0;
}

const struct mr_row *mr_list_state_item(struct mr_transform *at, size_t variable, int64_t item)
{
    return cell_at(at, variable, MR_STATE_LIST, item);
}

struct mr_emitter *mr_list_state_put(struct mr_transform *at, size_t variable)
{
    return mr_transform_emit(at, variable, MR_STATE_LIST, PENDING_PUT, no_key);
}

struct mr_emitter *mr_list_state_append(struct mr_transform *at, size_t variable)
{
    return mr_transform_emit(at, variable, MR_STATE_LIST, PENDING_APPEND, no_key);
}

void mr_list_state_clear(struct mr_transform *at, size_t variable)
{
    clear(at, variable, MR_STATE_LIST);
}

/* ---- map ---- */

static bool fits_int(enum mr_type_id id)
{
    return (id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64) || id == MR_TYPE_DATE ||
           id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
}

/* Appends the key to a builder of its type; false: it is of another one, or null. */
static bool append_key(struct mr_batch_builder *builder, const struct mr_type *type,
                       struct mr_map_key key)
{
    switch (key.kind) {
    case MR_MAP_KEY_INT:
        if (!fits_int(type->id))
            return false;
        mr_batch_builder_int(builder, 0, key.number);
        return true;
    case MR_MAP_KEY_TEXT:
        if ((type->id != MR_TYPE_TEXT && type->id != MR_TYPE_BINARY) || key.data == NULL)
            return false;
        mr_batch_builder_text(builder, 0, key.data, key.size_bytes);
        return true;
    case MR_MAP_KEY_VALUE:
        if (mr_value_is_null(key.value) || !mr_type_equal(key.value.column->type, type))
            return false;
        mr_batch_builder_copy(builder, 0, key.value.column, key.value.index);
        return true;
    }
    return false;
}

/* The bytes of a key, in the arena; data NULL after a mistake. */
static struct mr_slice key_of(struct mr_transform *at, size_t variable, struct mr_map_key key)
{
    const struct mr_schema *schema = at->op->variables[variable].map_key;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *row = NULL;
    struct mr_slice bytes = {NULL, 0};
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, &at->error));
    if (!append_key(builder, &mr_schema_field(schema, 0)->type, key)) {
        mr_transform_blame(at, "gives a key to '%s' that is null or of another type than its keys",
                           at->op->variables[variable].name);
        goto done;
    }
    mr_batch_builder_end_row(builder);
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &row, &at->error));
    mr_buf_clear(&at->bytes);
    mr_key_encode(&at->bytes, mr_batch_column(row, 0), 0);
    if (!at->bytes.failed)
        bytes.data = mr_arena_copy(&at->arena, at->bytes.data, at->bytes.size);
    bytes.size_bytes = at->bytes.size;
    if (bytes.data == NULL)
        status = MR_FAIL(&at->error, MR_NOMEM, "cannot look into a map: out of memory");
done:
    MR_UNUSED(status);
    mr_batch_unref(row);
    mr_batch_builder_free(builder);
    return bytes;
}

/* Index of the entry; -1: there is none, or a mistake. */
static int64_t entry_of(struct mr_transform *at, size_t variable, struct mr_map_key key)
{
    const struct transform_cells *cells = mr_transform_cells(at, variable, MR_STATE_MAP);
    struct mr_slice bytes;
    bool found = false;
    uint32_t index;

    if (cells == NULL)
        return -1;
    bytes = key_of(at, variable, key);
    if (bytes.data == NULL)
        return -1;
    index = mr_transform_find(cells, bytes, &found);
    return found ? (int64_t)index : -1;
}

bool mr_map_state_contains(struct mr_transform *at, size_t variable, struct mr_map_key key)
{
    return entry_of(at, variable, key) >= 0;
}

const struct mr_row *mr_map_state_get(struct mr_transform *at, size_t variable,
                                      struct mr_map_key key)
{
    return cell_at(at, variable, MR_STATE_MAP, entry_of(at, variable, key));
}

struct mr_emitter *mr_map_state_update(struct mr_transform *at, size_t variable,
                                       struct mr_map_key key)
{
    struct mr_slice bytes = {NULL, 0};

    if (mr_transform_cells(at, variable, MR_STATE_MAP) != NULL)
        bytes = key_of(at, variable, key);
    if (bytes.data == NULL)
        return &at->nowhere;
    return mr_transform_emit(at, variable, MR_STATE_MAP, PENDING_ENTRY, bytes);
}

void mr_map_state_remove(struct mr_transform *at, size_t variable, struct mr_map_key key)
{
    int64_t index = entry_of(at, variable, key);
    struct transform_cells *cells;

    if (index < 0)
        return;
    cells = &at->variables[variable];
    cells->count--;
    memmove(&cells->cells[index], &cells->cells[index + 1],
            (cells->count - (size_t)index) * sizeof(*cells->cells));
    mr_transform_changed(cells);
}

int64_t mr_map_state_count(struct mr_transform *at, size_t variable)
{
    const struct transform_cells *cells = mr_transform_cells(at, variable, MR_STATE_MAP);

    return cells != NULL ? cells->count : 0;
}

const struct mr_row *mr_map_state_key_at(struct mr_transform *at, size_t variable, int64_t entry)
{
    if (mr_transform_cells(at, variable, MR_STATE_MAP) == NULL)
        return NULL;
    return row_of(at, mr_transform_keys(at, variable), entry);
}

const struct mr_row *mr_map_state_value_at(struct mr_transform *at, size_t variable, int64_t entry)
{
    return cell_at(at, variable, MR_STATE_MAP, entry);
}

void mr_map_state_clear(struct mr_transform *at, size_t variable)
{
    clear(at, variable, MR_STATE_MAP);
}

/* ---- the batch ---- */

int64_t mr_transform_batch_time_ms(const struct mr_transform *at)
{
    return at->op->keyed.batch_time_ms;
}

int64_t mr_transform_watermark_ms(const struct mr_transform *at)
{
    return at->op->time_mode == MR_TIME_MODE_EVENT ? at->op->keyed.watermark_ms : -1;
}

uint64_t mr_transform_batch_id(const struct mr_transform *at)
{
    return at->batch_id;
}
