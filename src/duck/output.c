/*
 * Chunks of results (at most 2048 rows, columns as flat vectors) into column builders. Called by
 * stmt.c for each chunk.
 *
 *     same layout on both sides      one bulk append          integers, floats, dates, timestamps,
 *                                                             wide decimals
 *     text, binary                   sizes first, then bytes
 *     booleans, narrow decimals,     value by value
 *     other timestamps, lists, structs
 *
 * Thread: the instance's.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "data/builder_internal.h"
#include "duck/internal.h"

#include <string.h>

/* One vector of a chunk, opened. */
struct view {
    duckdb_vector vector;
    const void *data;
    const uint64_t *validity; /* NULL: no nulls */
};

static struct view open_view(const struct mr_duck_api *api, duckdb_vector vector)
{
    struct view view = {vector, api->duckdb_vector_get_data(vector),
                        api->duckdb_vector_get_validity(vector)};

    return view;
}

static bool is_null(const struct view *view, int64_t row)
{
    return view->validity != NULL && ((view->validity[row >> 6] >> (row & 63)) & 1) == 0;
}

static enum mr_status reader_children(const struct mr_duck_api *api, duckdb_logical_type type,
                                      idx_t count, struct mr_arena *arena,
                                      struct mr_duck_reader *reader, struct mr_error *err)
{
    reader->children = mr_arena_alloc(arena, (size_t)count * sizeof(*reader->children));
    if (reader->children == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read results: out of memory");
    for (idx_t i = 0; i < count; i++) {
        duckdb_logical_type child = reader->id == MR_TYPE_LIST
                                        ? api->duckdb_list_type_child_type(type)
                                        : api->duckdb_struct_type_child_type(type, i);
        enum mr_status status = mr_duck__reader_init(api, child, arena, &reader->children[i], err);

        api->duckdb_destroy_logical_type(&child);
        if (status != MR_OK)
            return status;
    }
    reader->child_count = (uint32_t)count;
    return MR_OK;
}

enum mr_status mr_duck__reader_init(const struct mr_duck_api *api, duckdb_logical_type type,
                                    struct mr_arena *arena, struct mr_duck_reader *ret_reader,
                                    struct mr_error *err)
{
    struct mr_duck_reader reader = {.from = api->duckdb_get_type_id(type)};
    struct mr_type ours;

    MR_TRY(mr_duck__type_from(api, type, "?", arena, &ours, err));
    reader.id = ours.id;
    if (reader.from == DUCKDB_TYPE_DECIMAL)
        reader.from = api->duckdb_decimal_internal_type(type);
    if (reader.id == MR_TYPE_LIST)
        MR_TRY(reader_children(api, type, 1, arena, &reader, err));
    else if (reader.id == MR_TYPE_STRUCT)
        MR_TRY(reader_children(api, type, api->duckdb_struct_type_child_count(type), arena, &reader,
                               err));
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status append_texts(const struct view *view, struct mr_column_builder *column,
                                   int64_t from, int64_t count, struct mr_error *err)
{
    const duckdb_string_t *texts = view->data;
    size_t bytes = 0;

    for (int64_t i = from; i < from + count; i++)
        bytes += is_null(view, i) ? 0 : texts[i].value.inlined.length;
    MR_TRY(mr_column_builder_reserve(column, count, bytes, err));
    for (int64_t i = from; i < from + count; i++) {
        uint32_t size = texts[i].value.inlined.length;

        if (is_null(view, i))
            MR_TRY(mr_column_builder_null(column, err));
        else if (size <= sizeof(texts[i].value.inlined.inlined))
            mr_column_builder_bytes(column, texts[i].value.inlined.inlined, size);
        else
            mr_column_builder_bytes(column, texts[i].value.pointer.ptr, size);
    }
    return MR_OK;
}

static mr_int128 narrow_decimal(const struct view *view, duckdb_type from, int64_t row)
{
    switch (from) {
    case DUCKDB_TYPE_SMALLINT:
        return ((const int16_t *)view->data)[row];
    case DUCKDB_TYPE_INTEGER:
        return ((const int32_t *)view->data)[row];
    default:
        return ((const int64_t *)view->data)[row];
    }
}

static enum mr_status append_hugeint(const struct view *view, struct mr_column_builder *column,
                                     int64_t row, struct mr_error *err)
{
    static const mr_int128 limit =
        (mr_int128)INT64_C(1000000000000000000) * INT64_C(1000000000000000000) * 100;
    mr_int128 value;

    memcpy(&value, (const char *)view->data + row * 16, sizeof(value));
    if (value <= -limit || value >= limit)
        return MR_FAIL(
            err, MR_BAD_DATA,
            "a result of type HUGEINT has more than 38 digits; cast it to DOUBLE or VARCHAR");
    return mr_column_builder_decimal(column, value, err);
}

static enum mr_status append_seconds(const struct view *view, struct mr_column_builder *column,
                                     int64_t row, int64_t unit_us, struct mr_error *err)
{
    int64_t value = ((const int64_t *)view->data)[row];

    if (__builtin_mul_overflow(value, unit_us, &value))
        return MR_FAIL(err, MR_BAD_DATA,
                       "a result timestamp is out of range; the years -290307 to 294246 fit");
    return mr_column_builder_int(column, value, err);
}

static enum mr_status append_rows(const struct mr_duck_api *api, const struct view *view,
                                  const struct mr_duck_reader *reader,
                                  struct mr_column_builder *column, int64_t from, int64_t count,
                                  struct mr_error *err);

static enum mr_status append_nested(const struct mr_duck_api *api, const struct view *view,
                                    const struct mr_duck_reader *reader,
                                    struct mr_column_builder *column, int64_t row,
                                    struct mr_error *err)
{
    if (reader->id == MR_TYPE_LIST) {
        const duckdb_list_entry *entry = (const duckdb_list_entry *)view->data + row;
        struct view child = open_view(api, api->duckdb_list_vector_get_child(view->vector));

        MR_TRY(append_rows(api, &child, &reader->children[0], &column->children[0],
                           (int64_t)entry->offset, (int64_t)entry->length, err));
        return mr_column_builder_list_end(column, err);
    }
    for (uint32_t k = 0; k < reader->child_count; k++) {
        struct view child = open_view(api, api->duckdb_struct_vector_get_child(view->vector, k));

        MR_TRY(append_rows(api, &child, &reader->children[k], &column->children[k], row, 1, err));
    }
    return mr_column_builder_struct_end(column, err);
}

static enum mr_status append_value(const struct mr_duck_api *api, const struct view *view,
                                   const struct mr_duck_reader *reader,
                                   struct mr_column_builder *column, int64_t row,
                                   struct mr_error *err)
{
    if (is_null(view, row))
        return mr_column_builder_null(column, err);
    if (reader->id == MR_TYPE_BOOL)
        return mr_column_builder_bool(column, ((const uint8_t *)view->data)[row] != 0, err);
    if (reader->from == DUCKDB_TYPE_HUGEINT)
        return append_hugeint(view, column, row, err);
    if (reader->id == MR_TYPE_DECIMAL)
        return mr_column_builder_decimal(column, narrow_decimal(view, reader->from, row), err);
    if (reader->from == DUCKDB_TYPE_TIMESTAMP_S)
        return append_seconds(view, column, row, 1000000, err);
    if (reader->from == DUCKDB_TYPE_TIMESTAMP_MS)
        return append_seconds(view, column, row, 1000, err);
    return append_nested(api, view, reader, column, row, err);
}

/* True when a vector of this type has the layout of a fixed-width column of ours. */
static bool same_layout(const struct mr_duck_reader *reader)
{
    return mr_type_width(reader->id) > 0 && reader->id != MR_TYPE_DECIMAL &&
           reader->from != DUCKDB_TYPE_TIMESTAMP_S && reader->from != DUCKDB_TYPE_TIMESTAMP_MS;
}

static enum mr_status append_fixed(const struct view *view, struct mr_column_builder *column,
                                   int64_t from, int64_t count, struct mr_error *err)
{
    struct mr_column same = {.type = column->type, .length = from + count, .values = view->data};

    for (int64_t i = from; view->validity != NULL && i < from + count; i++)
        same.null_count += is_null(view, i);
    if (same.null_count > 0)
        same.validity = (const uint8_t *)view->validity;
    return mr__column_append(column, &same, from, count, err);
}

static enum mr_status append_rows(const struct mr_duck_api *api, const struct view *view,
                                  const struct mr_duck_reader *reader,
                                  struct mr_column_builder *column, int64_t from, int64_t count,
                                  struct mr_error *err)
{
    if (same_layout(reader))
        return append_fixed(view, column, from, count, err);
    if (reader->id == MR_TYPE_TEXT || reader->id == MR_TYPE_BINARY)
        return append_texts(view, column, from, count, err);
    for (int64_t i = from; i < from + count; i++)
        MR_TRY(append_value(api, view, reader, column, i, err));
    return MR_OK;
}

enum mr_status mr_duck__append_chunk(const struct mr_duck_api *api, duckdb_data_chunk chunk,
                                     const struct mr_duck_reader *readers,
                                     struct mr_batch_builder *builder, struct mr_error *err)
{
    idx_t columns = api->duckdb_data_chunk_get_column_count(chunk);
    int64_t rows = (int64_t)api->duckdb_data_chunk_get_size(chunk);

    for (idx_t i = 0; i < columns; i++) {
        struct view view = open_view(api, api->duckdb_data_chunk_get_vector(chunk, i));

        MR_TRY(append_rows(api, &view, &readers[i], mr_batch_builder_column(builder, (uint32_t)i),
                           0, rows, err));
    }
    return mr_batch_builder_rows_added(builder, rows, err);
}
