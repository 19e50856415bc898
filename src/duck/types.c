/*
 * Types of columns, ours to DuckDB's and back. Called when inputs are bound and results are
 * described.
 *
 *     HUGEINT -> DECIMAL(38,0)     TIMESTAMP WITH TIME ZONE, TIMESTAMP_S, TIMESTAMP_MS -> TIMESTAMP
 *     everything else that both know -> itself;  the rest is refused with the cast that helps
 *
 * Thread: the instance's.
 */
#include "base/alloc.h"
#include "base/text.h"
#include "duck/internal.h"

#include <string.h>

static const struct type_pair {
    enum mr_type_id ours;
    duckdb_type theirs;
} pairs[] = {
    {MR_TYPE_BOOL, DUCKDB_TYPE_BOOLEAN},
    {MR_TYPE_INT8, DUCKDB_TYPE_TINYINT},
    {MR_TYPE_INT16, DUCKDB_TYPE_SMALLINT},
    {MR_TYPE_INT32, DUCKDB_TYPE_INTEGER},
    {MR_TYPE_INT64, DUCKDB_TYPE_BIGINT},
    {MR_TYPE_UINT8, DUCKDB_TYPE_UTINYINT},
    {MR_TYPE_UINT16, DUCKDB_TYPE_USMALLINT},
    {MR_TYPE_UINT32, DUCKDB_TYPE_UINTEGER},
    {MR_TYPE_UINT64, DUCKDB_TYPE_UBIGINT},
    {MR_TYPE_FLOAT, DUCKDB_TYPE_FLOAT},
    {MR_TYPE_DOUBLE, DUCKDB_TYPE_DOUBLE},
    {MR_TYPE_TEXT, DUCKDB_TYPE_VARCHAR},
    {MR_TYPE_BINARY, DUCKDB_TYPE_BLOB},
    {MR_TYPE_DATE, DUCKDB_TYPE_DATE},
    {MR_TYPE_TIMESTAMP, DUCKDB_TYPE_TIMESTAMP},
    {MR_TYPE_TIMESTAMP, DUCKDB_TYPE_TIMESTAMP_TZ},
    {MR_TYPE_TIMESTAMP, DUCKDB_TYPE_TIMESTAMP_S},
    {MR_TYPE_TIMESTAMP, DUCKDB_TYPE_TIMESTAMP_MS},
    {MR_TYPE_TIMESTAMP_NS, DUCKDB_TYPE_TIMESTAMP_NS},
};

/* Types of results that must be cast: their SQL name and what to cast to. */
static const struct foreign_type {
    duckdb_type theirs;
    const char *name;
    const char *cast;
} foreign[] = {
    {DUCKDB_TYPE_UHUGEINT, "UHUGEINT", "DECIMAL(38,0)"},
    {DUCKDB_TYPE_BIGNUM, "BIGNUM", "VARCHAR"},
    {DUCKDB_TYPE_TIME, "TIME", "VARCHAR"},
    {DUCKDB_TYPE_TIME_TZ, "TIME WITH TIME ZONE", "VARCHAR"},
    {DUCKDB_TYPE_TIME_NS, "TIME_NS", "VARCHAR"},
    {DUCKDB_TYPE_INTERVAL, "INTERVAL", "VARCHAR"},
    {DUCKDB_TYPE_UUID, "UUID", "VARCHAR"},
    {DUCKDB_TYPE_ENUM, "ENUM", "VARCHAR"},
    {DUCKDB_TYPE_BIT, "BIT", "VARCHAR"},
    {DUCKDB_TYPE_MAP, "MAP", "VARCHAR"},
    {DUCKDB_TYPE_UNION, "UNION", "VARCHAR"},
    {DUCKDB_TYPE_ARRAY, "ARRAY", "a list such as DOUBLE[]"},
    {DUCKDB_TYPE_SQLNULL, "NULL", "VARCHAR or another type"},
};

static duckdb_logical_type struct_type_to(const struct mr_duck_api *api, const struct mr_type *type)
{
    uint32_t count = type->field_count;
    duckdb_logical_type result = NULL;
    duckdb_logical_type *members = mr_alloc_zero(NULL, count * sizeof(duckdb_logical_type));
    const char **names = mr_alloc(NULL, count * sizeof(const char *));

    if (members != NULL && names != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            names[i] = type->fields[i].name;
            members[i] = mr_duck__type_to(api, &type->fields[i].type);
        }
        result = api->duckdb_create_struct_type(members, names, count);
        for (uint32_t i = 0; i < count; i++)
            api->duckdb_destroy_logical_type(&members[i]);
    }
    mr_free(members);
    mr_free(names);
    return result;
}

duckdb_logical_type mr_duck__type_to(const struct mr_duck_api *api, const struct mr_type *type)
{
    duckdb_logical_type item;
    duckdb_logical_type result;

    switch (type->id) {
    case MR_TYPE_DECIMAL:
        return api->duckdb_create_decimal_type(type->precision, type->scale);
    case MR_TYPE_LIST:
        item = mr_duck__type_to(api, &type->fields[0].type);
        result = api->duckdb_create_list_type(item);
        api->duckdb_destroy_logical_type(&item);
        return result;
    case MR_TYPE_STRUCT:
        return struct_type_to(api, type);
    default:
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
            if (pairs[i].ours == type->id)
                return api->duckdb_create_logical_type(pairs[i].theirs);
        }
        return NULL;
    }
}

const char *mr_duck__column_name(struct mr_arena *arena, const char *name)
{
    size_t size = name != NULL ? strlen(name) : 0;

    if (size > MR_NAME_BYTES_MAX)
        size = mr_utf8_valid_prefix(name, MR_NAME_BYTES_MAX);
    return name != NULL ? mr_arena_copy(arena, name, size) : NULL;
}

static enum mr_status refuse(duckdb_type theirs, const char *column, struct mr_error *err)
{
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        if (foreign[i].theirs == theirs)
            return MR_FAIL(err, MR_SQL_ERROR,
                           "column '%s' has type %s, which cannot leave a query; cast it to %s",
                           column, foreign[i].name, foreign[i].cast);
    }
    return MR_FAIL(err, MR_SQL_ERROR,
                   "column '%s' has a type that cannot leave a query; cast it to VARCHAR", column);
}

static enum mr_status struct_type_from(const struct mr_duck_api *api, duckdb_logical_type type,
                                       const char *column, struct mr_arena *arena,
                                       struct mr_type *ret_type, struct mr_error *err)
{
    idx_t count = api->duckdb_struct_type_child_count(type);
    struct mr_field *fields = mr_arena_alloc(arena, (size_t)count * sizeof(*fields));

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot describe column '%s': out of memory", column);
    memset(fields, 0, (size_t)count * sizeof(*fields));
    for (idx_t i = 0; i < count; i++) {
        char *name = api->duckdb_struct_type_child_name(type, i);
        duckdb_logical_type child = api->duckdb_struct_type_child_type(type, i);
        enum mr_status status;

        fields[i].name = mr_arena_copy(arena, name, strlen(name));
        status = mr_duck__type_from(api, child, column, arena, &fields[i].type, err);
        api->duckdb_free(name);
        api->duckdb_destroy_logical_type(&child);
        if (status != MR_OK)
            return status;
        if (fields[i].name == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot describe column '%s': out of memory", column);
    }
    ret_type->id = MR_TYPE_STRUCT;
    ret_type->field_count = (uint32_t)count;
    ret_type->fields = fields;
    return MR_OK;
}

static enum mr_status list_type_from(const struct mr_duck_api *api, duckdb_logical_type type,
                                     const char *column, struct mr_arena *arena,
                                     struct mr_type *ret_type, struct mr_error *err)
{
    struct mr_field *item = mr_arena_alloc(arena, sizeof(*item));
    duckdb_logical_type child;
    enum mr_status status;

    if (item == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot describe column '%s': out of memory", column);
    memset(item, 0, sizeof(*item));
    item->name = "item";
    child = api->duckdb_list_type_child_type(type);
    status = mr_duck__type_from(api, child, column, arena, &item->type, err);
    api->duckdb_destroy_logical_type(&child);
    ret_type->id = MR_TYPE_LIST;
    ret_type->field_count = 1;
    ret_type->fields = item;
    return status;
}

enum mr_status mr_duck__type_from(const struct mr_duck_api *api, duckdb_logical_type type,
                                  const char *column, struct mr_arena *arena,
                                  struct mr_type *ret_type, struct mr_error *err)
{
    duckdb_type id = api->duckdb_get_type_id(type);

    memset(ret_type, 0, sizeof(*ret_type));
    switch (id) {
    case DUCKDB_TYPE_DECIMAL:
        ret_type->id = MR_TYPE_DECIMAL;
        ret_type->precision = api->duckdb_decimal_width(type);
        ret_type->scale = api->duckdb_decimal_scale(type);
        return MR_OK;
    case DUCKDB_TYPE_HUGEINT:
        ret_type->id = MR_TYPE_DECIMAL;
        ret_type->precision = 38;
        return MR_OK;
    case DUCKDB_TYPE_LIST:
        return list_type_from(api, type, column, arena, ret_type, err);
    case DUCKDB_TYPE_STRUCT:
        return struct_type_from(api, type, column, arena, ret_type, err);
    default:
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
            if (pairs[i].theirs == id) {
                ret_type->id = pairs[i].ours;
                return MR_OK;
            }
        }
        return refuse(id, column, err);
    }
}
