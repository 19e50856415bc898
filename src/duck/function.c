/*
 * Functions of a program in DuckDB: a scalar function whose callback turns the chunk into a batch,
 * calls, and puts the result's column into DuckDB's vector.
 *
 *     chunk --append_chunk--> batch --call--> column --put--> vector
 *
 * Nulls are the function's business (special handling). What it reports travels as DuckDB's error
 * text. Called by whoever opens an instance, before its first statement. Thread: the instance's.
 */
#include "duck/function.h"

#include "base/alloc.h"
#include "base/check.h"
#include "core/doing.h"
#include "duck/internal.h"

#include <string.h>

/* What DuckDB keeps of a function in one instance. */
struct entry {
    const struct mr_duck_function *function;
    struct mr_schema *arguments; /* of batches; one column too many when there are none */
    struct mr_arena arena;       /* of readers */
    struct mr_duck_reader *readers;
    uint32_t argument_count;
};

static void entry_free(void *pointer)
{
    struct entry *entry = pointer;

    if (entry == NULL)
        return;
    mr_schema_unref(entry->arguments);
    mr_arena_release(&entry->arena);
    mr_free(entry);
}

/* ---- results into vectors ---- */

static bool put(const struct mr_duck_api *api, duckdb_vector vector, const struct mr_column *column,
                int64_t from, int64_t count);

static void put_nulls(const struct mr_duck_api *api, duckdb_vector vector,
                      const struct mr_column *column, int64_t from, int64_t count)
{
    uint64_t *validity;

    api->duckdb_vector_ensure_validity_writable(vector);
    validity = api->duckdb_vector_get_validity(vector);
    for (int64_t i = 0; i < count; i++) {
        if (mr_column_is_null(column, from + i))
            validity[i >> 6] &= ~(UINT64_C(1) << (i & 63));
    }
}

/* Texts are copied: the batch goes when the call is over. */
static void put_texts(const struct mr_duck_api *api, duckdb_vector vector,
                      const struct mr_column *column, int64_t from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        struct mr_slice text = {"", 0};

        if (mr_column_is_null(column, from + i))
            continue;
        text = mr_column_text(column, from + i);
        api->duckdb_vector_assign_string_element_len(vector, (idx_t)i, text.data, text.size_bytes);
    }
}

static bool put_lists(const struct mr_duck_api *api, duckdb_vector vector,
                      const struct mr_column *column, int64_t from, int64_t count)
{
    duckdb_list_entry *entries = api->duckdb_vector_get_data(vector);
    int32_t first = column->offsets[from], total = column->offsets[from + count] - first;

    for (int64_t i = 0; i < count; i++) {
        entries[i].offset = (uint64_t)(column->offsets[from + i] - first);
        entries[i].length = (uint64_t)(column->offsets[from + i + 1] - column->offsets[from + i]);
    }
    if (api->duckdb_list_vector_reserve(vector, (idx_t)total) != DuckDBSuccess ||
        api->duckdb_list_vector_set_size(vector, (idx_t)total) != DuckDBSuccess)
        return false;
    return put(api, api->duckdb_list_vector_get_child(vector), &column->children[0], first, total);
}

static bool put_structs(const struct mr_duck_api *api, duckdb_vector vector,
                        const struct mr_column *column, int64_t from, int64_t count)
{
    for (uint32_t k = 0; k < column->type->field_count; k++) {
        duckdb_vector child = api->duckdb_struct_vector_get_child(vector, k);

        if (!put(api, child, &column->children[k], from, count))
            return false;
    }
    return true;
}

static bool put(const struct mr_duck_api *api, duckdb_vector vector, const struct mr_column *column,
                int64_t from, int64_t count)
{
    if (count == 0)
        return true;
    if (column->validity != NULL && column->null_count > 0)
        put_nulls(api, vector, column, from, count);
    switch (column->type->id) {
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        put_texts(api, vector, column, from, count);
        return true;
    case MR_TYPE_LIST:
        return put_lists(api, vector, column, from, count);
    case MR_TYPE_STRUCT:
        return put_structs(api, vector, column, from, count);
    default:
        return mr_duck__fill(api, vector, column, from, count);
    }
}

/* ---- the call ---- */

static enum mr_status read_chunk(const struct entry *entry, const struct mr_duck_api *api,
                                 duckdb_data_chunk chunk, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(entry->arguments, &builder, err));
    if (entry->argument_count > 0) {
        MR_TRY_GOTO(mr_duck__append_chunk(api, chunk, entry->readers, builder, err));
    } else {
        for (idx_t i = 0; i < api->duckdb_data_chunk_get_size(chunk); i++)
            mr_batch_builder_end_row(builder); /* rows of one null */
    }
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status call(const struct entry *entry, const struct mr_batch *rows,
                           struct mr_batch **ret_result, struct mr_error *err)
{
    const struct mr_duck_function *function = entry->function;
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(function->result, &builder, err));
    MR_TRY_GOTO(function->call(function->arg, rows, builder, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, ret_result, err));
    if (mr_batch_row_count(*ret_result) != mr_batch_row_count(rows)) {
        status = MR_FAIL(err, MR_USER, "it gave %lld values for %lld rows",
                         (long long)mr_batch_row_count(*ret_result),
                         (long long)mr_batch_row_count(rows));
        *ret_result = mr_batch_unref(*ret_result);
    }
done:
    mr_batch_builder_free(builder);
    return status;
}

static void scalar(duckdb_function_info info, duckdb_data_chunk chunk, duckdb_vector output)
{
    const struct mr_duck_api *api = mr_duck_api_loaded();
    const struct entry *entry = api->duckdb_scalar_function_get_extra_info(info);
    struct mr_batch *rows = NULL, *result = NULL;
    struct mr_error err = {0};
    struct mr_doing doing;
    enum mr_status status = read_chunk(entry, api, chunk, &rows, &err);

    mr_doing_begin(&doing, NULL, "function", entry->function->name);
    if (status == MR_OK)
        status = call(entry, rows, &result, &err);
    mr_doing_end(&doing);
    if (status == MR_OK &&
        !put(api, output, mr_batch_column(result, 0), 0, mr_batch_row_count(result)))
        status = MR_FAIL(&err, MR_NOMEM, "out of memory");
    if (status != MR_OK) {
        mr_error_prefix(&err, "function '%s'", entry->function->name);
        api->duckdb_scalar_function_set_error(info, err.text);
    }
    mr_batch_unref(rows);
    mr_batch_unref(result);
}

/* ---- registering ---- */

static enum mr_status make_entry(const struct mr_duck_api *api,
                                 const struct mr_duck_function *function, struct entry **ret_entry,
                                 struct mr_error *err)
{
    static const struct mr_field nothing = {.name = "nothing", .type = {.id = MR_TYPE_BOOL}};
    struct entry *entry = mr_alloc_zero(NULL, sizeof(*entry));
    enum mr_status status = MR_OK;

    if (entry == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot add a function: out of memory");
    entry->function = function;
    if (function->arguments != NULL) {
        entry->arguments = mr_schema_ref(function->arguments);
        entry->argument_count = mr_schema_field_count(function->arguments);
    } else {
        status = mr_schema_new(&nothing, 1, &entry->arguments, err);
    }
    entry->readers =
        mr_arena_alloc(&entry->arena, (entry->argument_count + 1) * sizeof(*entry->readers));
    if (status == MR_OK && entry->readers == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot add a function: out of memory");
    for (uint32_t i = 0; i < entry->argument_count && status == MR_OK; i++) {
        duckdb_logical_type type =
            mr_duck__type_to(api, &mr_schema_field(entry->arguments, i)->type);

        status = mr_duck__reader_init(api, type, &entry->arena, &entry->readers[i], err);
        api->duckdb_destroy_logical_type(&type);
    }
    if (status == MR_OK)
        *ret_entry = entry;
    else
        entry_free(entry);
    return status;
}

static void declare(const struct mr_duck_api *api, const struct mr_duck_function *function,
                    struct entry *entry, duckdb_scalar_function target)
{
    duckdb_logical_type type;

    api->duckdb_scalar_function_set_name(target, function->name);
    for (uint32_t i = 0; i < entry->argument_count; i++) {
        type = mr_duck__type_to(api, &mr_schema_field(entry->arguments, i)->type);
        api->duckdb_scalar_function_add_parameter(target, type);
        api->duckdb_destroy_logical_type(&type);
    }
    type = mr_duck__type_to(api, &mr_schema_field(function->result, 0)->type);
    api->duckdb_scalar_function_set_return_type(target, type);
    api->duckdb_destroy_logical_type(&type);
    api->duckdb_scalar_function_set_special_handling(target);
    if (function->is_volatile)
        api->duckdb_scalar_function_set_volatile(target);
    api->duckdb_scalar_function_set_extra_info(target, entry, entry_free);
    api->duckdb_scalar_function_set_function(target, scalar);
}

enum mr_status mr_duck_add_function(struct mr_duck *duck, const struct mr_duck_function *function,
                                    struct mr_error *err)
{
    const struct mr_duck_api *api = duck->api;
    duckdb_scalar_function target;
    struct entry *entry = NULL;
    duckdb_state state;

    MR_TRY(make_entry(api, function, &entry, err));
    target = api->duckdb_create_scalar_function();
    declare(api, function, entry, target); /* it has the entry now */
    state = api->duckdb_register_scalar_function(duck->connection, target);
    api->duckdb_destroy_scalar_function(&target);
    if (state != DuckDBSuccess)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add the function '%s': SQL has one of that name, or refuses its "
                       "types; give it another name",
                       function->name);
    return MR_OK;
}
