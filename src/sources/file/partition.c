/*
 * Columns from directories (structured.md 19.1): option partition_columns.
 *
 *     path in        in/day=2026-11-21/city=Bonn/a.json     day = 2026-11-21, city = Bonn
 *     path in/x*     in/x1/day=1/a.json                     null: only below a given directory
 *
 * Such a column is declared with the others; the format reads the rest. Values are undone from %XX;
 * __HIVE_DEFAULT_PARTITION__ is null, as is a column whose directory is missing.
 *
 * Called by file.c (which columns) and reader.c (values). Thread: any once opened.
 */
#include "base/limits.h"
#include "sources/file/file_source.h"

#include "base/number_text.h"
#include "base/time_text.h"

#include <string.h>

enum { VALUE_BYTES_MAX = MR_LIMIT_FILE_PARTITION_VALUE };

/* Is the name one of the list "a, b"? */
static bool is_listed(const char *list, const char *name)
{
    size_t name_size = strlen(name);

    while (list != NULL && *list != '\0') {
        size_t size;

        list += strspn(list, ", ");
        size = strcspn(list, ", ");
        if (size == name_size && memcmp(list, name, size) == 0)
            return true;
        list += size;
    }
    return false;
}

static bool type_fits(const struct mr_type *type)
{
    return type->id == MR_TYPE_TEXT || type->id == MR_TYPE_DATE ||
           (type->id >= MR_TYPE_INT8 && type->id <= MR_TYPE_INT64);
}

/* Every name of the list must be a column of a type that a directory's name can carry. */
static enum mr_status check_list(const char *list, const struct mr_schema *declared,
                                 struct mr_error *err)
{
    while (*list != '\0') {
        size_t size;
        int32_t found;

        list += strspn(list, ", ");
        size = strcspn(list, ", ");
        if (size == 0)
            break;
        found = mr_schema_find(declared, list, size);
        if (found < 0)
            return MR_FAIL(err, MR_CONFIG,
                           "'partition_columns' names '%.*s', which the table does not declare",
                           (int)size, list);
        if (!type_fits(&mr_schema_field(declared, (uint32_t)found)->type))
            return MR_FAIL(err, MR_CONFIG,
                           "partition column '%.*s' must be VARCHAR, an integer or DATE", (int)size,
                           list);
        list += size;
    }
    return MR_OK;
}

/* The columns of schema that files have; at least one of declared, for rows to be counted by. */
static enum mr_status file_columns(const struct mr_fsrc_partitioning *part,
                                   const struct mr_schema *schema, const struct mr_schema *declared,
                                   struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t room = mr_schema_field_count(declared);
    struct mr_field *fields = mr_alloc(NULL, (room + 1) * sizeof(*fields));
    uint32_t count = 0;
    enum mr_status status;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot divide the columns: out of memory");
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        if (!is_listed(part->list, mr_schema_field(schema, i)->name))
            fields[count++] = *mr_schema_field(schema, i);
    }
    for (uint32_t i = 0; i < room && count == 0; i++) {
        if (!is_listed(part->list, mr_schema_field(declared, i)->name))
            fields[count++] = *mr_schema_field(declared, i);
    }
    if (count == 0)
        status = MR_FAIL(err, MR_CONFIG,
                         "all columns are in 'partition_columns'; declare one that files have");
    else
        status = mr_schema_new(fields, count, ret_schema, err);
    mr_free(fields);
    return status;
}

enum mr_status mr_fsrc_partitioning_open(struct mr_fsrc_partitioning *part,
                                         const struct mr_source_args *args, const char *path,
                                         struct mr_error *err)
{
    const struct mr_schema *declared = args->declared != NULL ? args->declared : args->schema;

    part->list = mr_options_text(args->options, "partition_columns");
    part->base = path[strcspn(path, "*?[")] == '\0' ? path : NULL;
    part->produced = mr_schema_ref(args->schema);
    if (part->list == NULL)
        return MR_OK;
    MR_TRY(check_list(part->list, declared, err));
    MR_TRY(file_columns(part, declared, declared, &part->declared, err));
    return file_columns(part, args->schema, declared, &part->schema, err);
}

void mr_fsrc_partitioning_release(struct mr_fsrc_partitioning *part)
{
    mr_schema_unref(part->produced);
    mr_schema_unref(part->declared);
    mr_schema_unref(part->schema);
    *part = (struct mr_fsrc_partitioning){0};
}

/* ---- values ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "B%20n" -> "B n"; 0 when it is too long. */
static size_t undo_percent(const char *from, size_t size, char *text)
{
    size_t used = 0;

    for (size_t i = 0; i < size; i++) {
        if (used + 1 >= VALUE_BYTES_MAX)
            return 0;
        if (from[i] == '%' && i + 2 < size && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
            text[used++] = (char)(hex(from[i + 1]) * 16 + hex(from[i + 2]));
            i += 2;
        } else {
            text[used++] = from[i];
        }
    }
    text[used] = '\0';
    return used;
}

/* The value of "name=value" among the directories below base, or NULL. */
static const char *find_value(const struct mr_fsrc_partitioning *part, const char *path,
                              const char *name, size_t *ret_size)
{
    size_t name_size = strlen(name);
    const char *at = path;

    if (part->base == NULL || strncmp(path, part->base, strlen(part->base)) != 0)
        return NULL;
    for (at += strlen(part->base); *at != '\0';) {
        size_t size;

        at += strspn(at, "/");
        size = strcspn(at, "/");
        if (at[size] == '\0') /* the file's own name */
            return NULL;
        if (size > name_size && at[name_size] == '=' && memcmp(at, name, name_size) == 0) {
            *ret_size = size - name_size - 1;
            return at + name_size + 1;
        }
        at += size;
    }
    return NULL;
}

struct value {
    bool is_null;
    int64_t number;
    char text[VALUE_BYTES_MAX];
    size_t size;
};

static enum mr_status parse_value(const struct mr_fsrc_partitioning *part, const char *path,
                                  const struct mr_field *field, struct value *ret_value,
                                  struct mr_error *err)
{
    size_t size = 0;
    const char *raw = find_value(part, path, field->name, &size);
    int32_t days = 0;
    bool ok = true;

    *ret_value = (struct value){.is_null = true};
    if (raw == NULL)
        return MR_OK;
    ret_value->size = undo_percent(raw, size, ret_value->text);
    if (strcmp(ret_value->text, "__HIVE_DEFAULT_PARTITION__") == 0)
        return MR_OK;
    ret_value->is_null = false;
    if (field->type.id == MR_TYPE_DATE) {
        ok = mr_date_parse(ret_value->text, ret_value->size, &days);
        ret_value->number = days;
    } else if (field->type.id != MR_TYPE_TEXT) {
        unsigned bits = mr_type_width(field->type.id) * 8;

        ok = mr_int_parse(ret_value->text, ret_value->size, &ret_value->number) &&
             (bits == 64 || (ret_value->number >= -(INT64_C(1) << (bits - 1)) &&
                             ret_value->number < INT64_C(1) << (bits - 1)));
    }
    if (!ok || (ret_value->size == 0 && size > 0))
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot read '%s': its directory's value is not what column '%s' may have",
                       path, field->name);
    return MR_OK;
}

static void add_value(struct mr_batch_builder *builder, uint32_t column,
                      const struct mr_field *field, const struct value *value)
{
    if (value->is_null)
        mr_batch_builder_null(builder, column);
    else if (field->type.id == MR_TYPE_TEXT)
        mr_batch_builder_text(builder, column, value->text, value->size);
    else
        mr_batch_builder_int(builder, column, value->number);
}

/* Where a column of the result comes from. */
struct origin {
    int32_t column; /* of the file's rows; -1: value */
    struct value value;
};

static void add_rows(const struct mr_fsrc_partitioning *part, const struct origin *origins,
                     const struct mr_batch *batch, struct mr_batch_builder *builder)
{
    uint32_t columns = mr_schema_field_count(part->produced);

    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        for (uint32_t i = 0; i < columns; i++) {
            if (origins[i].column < 0)
                add_value(builder, i, mr_schema_field(part->produced, i), &origins[i].value);
            else
                mr_batch_builder_copy(builder, i,
                                      mr_batch_column(batch, (uint32_t)origins[i].column), row);
        }
        mr_batch_builder_end_row(builder);
    }
}

enum mr_status mr_fsrc_partitioning_apply(const struct mr_fsrc_partitioning *part, const char *path,
                                          const struct mr_batch *batch, struct mr_batch **ret_batch,
                                          struct mr_error *err)
{
    const struct mr_schema *have = mr_batch_schema(batch);
    uint32_t columns = mr_schema_field_count(part->produced);
    struct origin *origins = mr_alloc(NULL, (columns + 1) * sizeof(*origins));
    struct mr_batch_builder *builder = NULL;
    enum mr_status status = MR_OK;

    if (origins == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", path);
    for (uint32_t i = 0; i < columns && status == MR_OK; i++) {
        const struct mr_field *field = mr_schema_field(part->produced, i);

        origins[i].column = -1;
        if (is_listed(part->list, field->name))
            status = parse_value(part, path, field, &origins[i].value, err);
        else
            origins[i].column = mr_schema_find(have, field->name, strlen(field->name));
    }
    if (status == MR_OK)
        status = mr_batch_builder_new(part->produced, &builder, err);
    if (status == MR_OK) {
        add_rows(part, origins, batch, builder);
        status = mr_batch_builder_finish(builder, ret_batch, err);
    }
    mr_batch_builder_free(builder);
    mr_free(origins);
    return status;
}
