/*
 * Batches as a table of DuckDB: the table function mr_scan(k) reads input k of the statement that
 * is prepared or run, and a replacement scan makes the input's name mean it. DuckDB calls
 * everything here while mr_duck_prepare or mr_duck_run is on the stack.
 *
 *     name --find_input--> mr_scan(k) --bind--> columns --init--> projection --fill--> vectors
 *
 * Nothing is copied that need not be: fixed widths are one memcpy, texts longer than 12 bytes stay
 * in the batch's buffer and only their pointer goes over (the batches outlive the run; DuckDB
 * copies what it keeps). No catalog entry is ever made, so a prepared statement never has to be
 * bound again.
 *
 * Thread: the instance's (threads=1).
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/text.h"
#include "duck/internal.h"

#include <string.h>

enum { SCAN_ROWS_MANY = 1000000 }; /* the stream: the other side of a join is hashed */

struct scan {
    const struct mr_duck_slot *slot;
    size_t batch; /* at hand */
    int64_t row;  /* next of it */
    idx_t column_count;
    idx_t columns[]; /* of the slot's schema; count of rows only when out of range */
};

/* Copies `count` bits from bit `from` of source to the front of target; target is 8-byte words. */
static void copy_bits(uint64_t *target, const uint8_t *source, int64_t from, int64_t count)
{
    const uint8_t *at = source + (from >> 3);
    unsigned shift = (unsigned)(from & 7);
    size_t bytes = (size_t)((count + 7) >> 3);
    uint8_t *out = (uint8_t *)target;

    if (shift == 0) {
        memcpy(out, at, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        int64_t last =
            from + MR_MIN((int64_t)(i * 8 + 15), count - 1); /* do not read past the bitmap */
        unsigned high = (last >> 3) > (int64_t)((from >> 3) + (int64_t)i) ? at[i + 1] : 0;
        out[i] = (uint8_t)((at[i] >> shift) | (high << (8 - shift)));
    }
}

static void fill_validity(const struct mr_duck_api *api, duckdb_vector vector,
                          const struct mr_column *column, int64_t from, int64_t count)
{
    uint64_t *validity;

    if (column->validity == NULL || column->null_count == 0) {
        validity = api->duckdb_vector_get_validity(vector);
        if (validity != NULL)
            memset(validity, 0xff, (size_t)((count + 63) >> 6) * 8);
        return;
    }
    api->duckdb_vector_ensure_validity_writable(vector);
    copy_bits(api->duckdb_vector_get_validity(vector), column->validity, from, count);
}

static void fill_bools(void *out, const struct mr_column *column, int64_t from, int64_t count)
{
    uint8_t *bytes = out;

    for (int64_t i = 0; i < count; i++)
        bytes[i] = mr_column_bool(column, from + i);
}

static void fill_texts(duckdb_string_t *out, const struct mr_column *column, int64_t from,
                       int64_t count)
{
    const char *bytes = column->values;
    const int32_t *offsets = column->offsets + from;

    for (int64_t i = 0; i < count; i++) {
        const char *text = bytes + offsets[i];
        uint32_t size = (uint32_t)(offsets[i + 1] - offsets[i]);

        memset(&out[i], 0, sizeof(out[i]));
        out[i].value.inlined.length = size;
        if (size <= sizeof(out[i].value.inlined.inlined)) {
            if (size > 0)
                memcpy(out[i].value.inlined.inlined, text, size);
        } else {
            memcpy(out[i].value.pointer.prefix, text, sizeof(out[i].value.pointer.prefix));
            memcpy(&out[i].value.pointer.ptr, &text,
                   sizeof(text)); /* DuckDB only reads through it */
        }
    }
}

/* DuckDB keeps a decimal in the smallest integer that holds its precision. */
static void fill_decimals(void *out, const struct mr_column *column, int64_t from, int64_t count)
{
    unsigned precision = column->type->precision;

    for (int64_t i = 0; i < count; i++) {
        mr_int128 value;

        memcpy(&value, (const char *)column->values + (from + i) * 16, sizeof(value));
        if (precision <= 4)
            ((int16_t *)out)[i] = (int16_t)value;
        else if (precision <= 9)
            ((int32_t *)out)[i] = (int32_t)value;
        else if (precision <= 18)
            ((int64_t *)out)[i] = (int64_t)value;
        else
            memcpy((char *)out + i * 16, &value, sizeof(value));
    }
}

static bool fill(const struct mr_duck_api *api, duckdb_vector vector,
                 const struct mr_column *column, int64_t from, int64_t count);

static bool fill_lists(const struct mr_duck_api *api, duckdb_vector vector,
                       const struct mr_column *column, int64_t from, int64_t count)
{
    duckdb_list_entry *entries = api->duckdb_vector_get_data(vector);
    int32_t first = column->offsets[from];
    int32_t total = column->offsets[from + count] - first;

    for (int64_t i = 0; i < count; i++) {
        entries[i].offset = (uint64_t)(column->offsets[from + i] - first);
        entries[i].length = (uint64_t)(column->offsets[from + i + 1] - column->offsets[from + i]);
    }
    if (api->duckdb_list_vector_reserve(vector, (idx_t)total) != DuckDBSuccess ||
        api->duckdb_list_vector_set_size(vector, (idx_t)total) != DuckDBSuccess)
        return false;
    return fill(api, api->duckdb_list_vector_get_child(vector), &column->children[0], first, total);
}

/* DuckDB reads a field without looking at the struct's own validity: below a null everything must
 * be null. */
static void spread_nulls(const struct mr_duck_api *api, duckdb_vector child,
                         const struct mr_type *type, const struct mr_column *column, int64_t from,
                         int64_t count)
{
    uint64_t *validity;

    api->duckdb_vector_ensure_validity_writable(child);
    validity = api->duckdb_vector_get_validity(child);
    for (int64_t i = 0; i < count; i++) {
        if (mr_column_is_null(column, from + i))
            validity[i >> 6] &= ~(UINT64_C(1) << (i & 63));
    }
    if (type->id == MR_TYPE_STRUCT) {
        for (uint32_t k = 0; k < type->field_count; k++)
            spread_nulls(api, api->duckdb_struct_vector_get_child(child, k), &type->fields[k].type,
                         column, from, count);
    }
}

static bool fill_structs(const struct mr_duck_api *api, duckdb_vector vector,
                         const struct mr_column *column, int64_t from, int64_t count)
{
    for (uint32_t k = 0; k < column->type->field_count; k++) {
        duckdb_vector child = api->duckdb_struct_vector_get_child(vector, k);

        if (!fill(api, child, &column->children[k], from, count))
            return false;
        if (column->validity != NULL && column->null_count > 0)
            spread_nulls(api, child, &column->type->fields[k].type, column, from, count);
    }
    return true;
}

static bool fill(const struct mr_duck_api *api, duckdb_vector vector,
                 const struct mr_column *column, int64_t from, int64_t count)
{
    uint32_t width = mr_type_width(column->type->id);

    if (count == 0)
        return true;
    fill_validity(api, vector, column, from, count);
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        fill_bools(api->duckdb_vector_get_data(vector), column, from, count);
        return true;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        fill_texts(api->duckdb_vector_get_data(vector), column, from, count);
        return true;
    case MR_TYPE_DECIMAL:
        fill_decimals(api->duckdb_vector_get_data(vector), column, from, count);
        return true;
    case MR_TYPE_LIST:
        return fill_lists(api, vector, column, from, count);
    case MR_TYPE_STRUCT:
        return fill_structs(api, vector, column, from, count);
    default:
        memcpy(api->duckdb_vector_get_data(vector), (const char *)column->values + from * width,
               (size_t)count * width);
        return true;
    }
}

bool mr_duck__fill(const struct mr_duck_api *api, duckdb_vector vector,
                   const struct mr_column *column, int64_t from, int64_t count)
{
    return fill(api, vector, column, from, count);
}

/* ---- Callbacks of DuckDB ---- */

static void scan_bind(duckdb_bind_info info)
{
    struct mr_duck *duck = mr_duck_api_loaded()->duckdb_bind_get_extra_info(info);
    const struct mr_duck_api *api = duck->api;
    duckdb_value parameter = api->duckdb_bind_get_parameter(info, 0);
    int64_t index = api->duckdb_get_int64(parameter);
    struct mr_duck_slot *slot;

    api->duckdb_destroy_value(&parameter);
    if (duck->current == NULL || index < 0 || (size_t)index >= duck->current->slot_count) {
        api->duckdb_bind_set_error(info, "mr_scan is not for queries; name the table instead");
        return;
    }
    slot = &duck->current->slots[index];
    for (uint32_t i = 0; i < mr_schema_field_count(slot->schema); i++) {
        const struct mr_field *field = mr_schema_field(slot->schema, i);
        duckdb_logical_type type = mr_duck__type_to(api, &field->type);

        api->duckdb_bind_add_result_column(info, field->name, type);
        api->duckdb_destroy_logical_type(&type);
    }
    api->duckdb_bind_set_cardinality(
        info, slot->rows_hint > 0 ? (idx_t)slot->rows_hint : SCAN_ROWS_MANY, false);
    api->duckdb_bind_set_bind_data(info, slot, NULL);
}

static void scan_init(duckdb_init_info info)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    const struct mr_duck_slot *slot = api->duckdb_init_get_bind_data(info);
    idx_t count = api->duckdb_init_get_column_count(info);
    struct scan *scan =
        mr_alloc_zero(NULL, sizeof(*scan) + (size_t)count * sizeof(scan->columns[0]));

    if (scan == NULL) {
        api->duckdb_init_set_error(info, "out of memory");
        return;
    }
    scan->slot = slot;
    scan->column_count = count;
    for (idx_t i = 0; i < count; i++)
        scan->columns[i] = api->duckdb_init_get_column_index(info, i);
    api->duckdb_init_set_max_threads(info, 1);
    api->duckdb_init_set_init_data(info, scan, mr_free);
}

static void scan_next(duckdb_function_info info, duckdb_data_chunk chunk)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    struct scan *scan = api->duckdb_function_get_init_data(info);
    const struct mr_duck_slot *slot = scan->slot;
    int64_t count = 0;

    while (scan->batch < slot->batch_count) {
        int64_t left = mr_batch_row_count(slot->batches[scan->batch]) - scan->row;

        count = MR_MIN(left, (int64_t)api->duckdb_vector_size());
        if (count > 0)
            break;
        scan->batch++;
        scan->row = 0;
    }
    for (idx_t i = 0; count > 0 && i < scan->column_count; i++) {
        const struct mr_batch *batch = slot->batches[scan->batch];

        if (scan->columns[i] >= mr_schema_field_count(slot->schema))
            continue; /* a count of rows needs no values */
        if (!fill(api, api->duckdb_data_chunk_get_vector(chunk, i),
                  mr_batch_column(batch, (uint32_t)scan->columns[i]), scan->row, count)) {
            api->duckdb_function_set_error(info, "out of memory");
            return;
        }
    }
    scan->row += count;
    api->duckdb_data_chunk_set_size(chunk, (idx_t)count);
}

static void find_input(duckdb_replacement_scan_info info, const char *name, void *data)
{
    struct mr_duck *duck = data;
    const struct mr_duck_api *api = duck->api;

    for (size_t i = 0; duck->current != NULL && i < duck->current->slot_count; i++) {
        const char *have = duck->current->slots[i].name;

        if (mr_text_equal_nocase(have, strlen(have), name, strlen(name))) {
            duckdb_value index = api->duckdb_create_int64((int64_t)i);

            api->duckdb_replacement_scan_set_function_name(info, "mr_scan");
            api->duckdb_replacement_scan_add_parameter(info, index);
            api->duckdb_destroy_value(&index);
            return;
        }
    }
}

enum mr_status mr_duck__register_scan(struct mr_duck *duck, struct mr_error *err)
{
    const struct mr_duck_api *api = duck->api;
    duckdb_table_function function = api->duckdb_create_table_function();
    duckdb_logical_type bigint = api->duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
    duckdb_state state;

    api->duckdb_table_function_set_name(function, "mr_scan");
    api->duckdb_table_function_add_parameter(function, bigint);
    api->duckdb_table_function_set_extra_info(function, duck, NULL);
    api->duckdb_table_function_set_bind(function, scan_bind);
    api->duckdb_table_function_set_init(function, scan_init);
    api->duckdb_table_function_set_function(function, scan_next);
    api->duckdb_table_function_supports_projection_pushdown(function, true);
    state = api->duckdb_register_table_function(duck->connection, function);
    api->duckdb_destroy_logical_type(&bigint);
    api->duckdb_destroy_table_function(&function);
    if (state != DuckDBSuccess)
        return MR_FAIL(err, MR_INTERNAL,
                       "cannot open the SQL engine: it refuses the function 'mr_scan'");
    api->duckdb_add_replacement_scan(duck->database, find_input, duck, NULL);
    return MR_OK;
}
