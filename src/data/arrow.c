/*
 * The border to other Arrow libraries: batches out and in without copying values.
 *
 *     export  every array node holds its own reference to the batch, so children may be moved away
 *             and released alone
 *     import  the batch owns both structs; what Arrow can say and a batch cannot is translated: an
 *             offset moves the pointers,
 *             and bitmaps that then begin inside a byte are copied
 *
 * Import checks what could make us read out of bounds and is cheap to see: counts of buffers and
 * children, lengths, offsets that run backwards. Timestamps come in as UTC whatever zone they name,
 * as Arrow stores them. A type with a codec is an extension type of its name over binary; coming
 * in, it is plain bytes when no codec of that name is registered. Called by applications and
 * src/duck. Threads: any.
 */
#include "data/batch_internal.h"
#include "data/codec.h"

#include "base/alloc.h"
#include "base/check.h"

#include <millrace/arrow.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- export: schema ---- */

struct format_row {
    enum mr_type_id id;
    const char *format;
};

static const struct format_row formats[] = {
    {MR_TYPE_BOOL, "b"},         {MR_TYPE_INT8, "c"},
    {MR_TYPE_INT16, "s"},        {MR_TYPE_INT32, "i"},
    {MR_TYPE_INT64, "l"},        {MR_TYPE_UINT8, "C"},
    {MR_TYPE_UINT16, "S"},       {MR_TYPE_UINT32, "I"},
    {MR_TYPE_UINT64, "L"},       {MR_TYPE_FLOAT, "f"},
    {MR_TYPE_DOUBLE, "g"},       {MR_TYPE_TEXT, "u"},
    {MR_TYPE_BINARY, "z"},       {MR_TYPE_DATE, "tdD"},
    {MR_TYPE_TIMESTAMP, "tsu:"}, {MR_TYPE_TIMESTAMP_NS, "tsn:"},
    {MR_TYPE_LIST, "+l"},        {MR_TYPE_STRUCT, "+s"},
};

/*
 * Metadata in the C data interface: number of pairs, then length and bytes of each key and value,
 * lengths as native int32. Ours has one pair, the name of the codec as an extension type.
 */
static const char extension_key[] = "ARROW:extension:name";
enum { METADATA_BYTES = 3 * sizeof(int32_t) + sizeof(extension_key) + 64 };

static void print_metadata(const char *extension, char *metadata)
{
    int32_t count = 1, key_bytes = (int32_t)sizeof(extension_key) - 1;
    int32_t value_bytes = (int32_t)strlen(extension);

    MR_ASSERT(value_bytes < 64);
    memcpy(metadata, &count, sizeof(count));
    memcpy(metadata + 4, &key_bytes, sizeof(key_bytes));
    memcpy(metadata + 8, extension_key, (size_t)key_bytes);
    memcpy(metadata + 8 + key_bytes, &value_bytes, sizeof(value_bytes));
    memcpy(metadata + 12 + key_bytes, extension, (size_t)value_bytes);
}

/* The name of a codec that this process knows, out of metadata; NULL: none. */
static const char *extension_of(const char *metadata)
{
    int32_t count = 0;

    if (metadata == NULL)
        return NULL;
    memcpy(&count, metadata, sizeof(count));
    metadata += sizeof(count);
    for (int32_t i = 0; i < count; i++) {
        int32_t key_bytes, value_bytes;
        const char *key, *value;

        memcpy(&key_bytes, metadata, sizeof(key_bytes));
        if (key_bytes < 0)
            return NULL;
        key = metadata + sizeof(key_bytes);
        memcpy(&value_bytes, key + key_bytes, sizeof(value_bytes));
        value = key + key_bytes + sizeof(value_bytes);
        if (value_bytes < 0)
            return NULL;
        if (key_bytes == (int32_t)sizeof(extension_key) - 1 &&
            memcmp(key, extension_key, (size_t)key_bytes) == 0)
            return mr__codec_name(value, (size_t)value_bytes);
        metadata = value + value_bytes;
    }
    return NULL;
}

/* One block: this struct, then the texts; child structs are blocks of their own. */
struct schema_private {
    struct ArrowSchema **children;
    char format[16];
    char name[MR_NAME_BYTES_MAX + 1];
    char metadata[METADATA_BYTES]; /* of a type with a codec */
};

static void release_schema(struct ArrowSchema *schema)
{
    struct schema_private *private_data = schema->private_data;

    for (int64_t i = 0; i < schema->n_children; i++) {
        struct ArrowSchema *child = schema->children[i];
        if (child != NULL && child->release != NULL)
            child->release(child);
        mr_free(child);
    }
    mr_free(private_data->children);
    mr_free(private_data);
    schema->release = NULL;
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot cross the Arrow border: out of memory");
}

static void print_format(const struct mr_type *type, char *text, size_t size)
{
    if (type->id == MR_TYPE_DECIMAL) {
        (void)snprintf(text, size, "d:%u,%u", type->precision, type->scale);
        return;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(formats); i++) {
        if (formats[i].id == type->id)
            (void)snprintf(text, size, "%s", formats[i].format);
    }
}

static enum mr_status export_fields(const struct mr_field *fields, uint32_t count,
                                    struct ArrowSchema *parent, struct mr_error *err);

static enum mr_status export_type(const char *name, const struct mr_type *type,
                                  struct ArrowSchema *out, struct mr_error *err)
{
    struct schema_private *private_data = mr_alloc_zero(NULL, sizeof *private_data);

    if (private_data == NULL)
        return no_memory(err);
    print_format(type, private_data->format, sizeof private_data->format);
    (void)snprintf(private_data->name, sizeof private_data->name, "%s", name);
    *out = (struct ArrowSchema){
        .format = private_data->format,
        .name = private_data->name,
        .flags = ARROW_FLAG_NULLABLE,
        .release = release_schema,
        .private_data = private_data,
    };
    if (type->extension != NULL) {
        print_metadata(type->extension, private_data->metadata);
        out->metadata = private_data->metadata;
    }
    return export_fields(type->fields, type->field_count, out, err);
}

static enum mr_status export_fields(const struct mr_field *fields, uint32_t count,
                                    struct ArrowSchema *parent, struct mr_error *err)
{
    struct schema_private *private_data = parent->private_data;

    if (count == 0)
        return MR_OK;
    private_data->children = mr_alloc_zero(NULL, count * sizeof *private_data->children);
    if (private_data->children == NULL)
        return no_memory(err);
    parent->children = private_data->children;
    for (uint32_t i = 0; i < count; i++) {
        parent->children[i] = mr_alloc_zero(NULL, sizeof **parent->children);
        if (parent->children[i] == NULL)
            return no_memory(err);
        parent->n_children = i + (int64_t)1;
        MR_TRY(export_type(fields[i].name, &fields[i].type, parent->children[i], err));
    }
    return MR_OK;
}

/* ---- export: arrays ---- */

struct array_private {
    struct mr_batch *batch;
    const void *buffers[3];
    struct ArrowArray **children;
};

static void release_array(struct ArrowArray *array)
{
    struct array_private *private_data = array->private_data;

    for (int64_t i = 0; i < array->n_children; i++) {
        struct ArrowArray *child = array->children[i];
        if (child != NULL && child->release != NULL)
            child->release(child);
        mr_free(child);
    }
    mr_free(private_data->children);
    mr_batch_unref(private_data->batch);
    mr_free(private_data);
    array->release = NULL;
}

static enum mr_status begin_array(const struct mr_batch *batch, int64_t length, uint32_t children,
                                  struct ArrowArray *out, struct mr_error *err)
{
    struct array_private *private_data = mr_alloc_zero(NULL, sizeof *private_data);

    if (private_data == NULL)
        return no_memory(err);
    if (children > 0) {
        private_data->children = mr_alloc_zero(NULL, children * sizeof *private_data->children);
        if (private_data->children == NULL) {
            mr_free(private_data);
            return no_memory(err);
        }
    }
    private_data->batch = mr_batch_ref(batch);
    *out = (struct ArrowArray){
        .length = length,
        .n_buffers = 1,
        .buffers = private_data->buffers,
        .children = private_data->children,
        .release = release_array,
        .private_data = private_data,
    };
    return MR_OK;
}

static enum mr_status add_child(const struct mr_batch *batch, const struct mr_column *column,
                                struct ArrowArray *parent, struct mr_error *err);

static enum mr_status export_column(const struct mr_batch *batch, const struct mr_column *column,
                                    struct ArrowArray *out, struct mr_error *err)
{
    MR_TRY(begin_array(batch, column->length, column->type->field_count, out, err));
    struct array_private *private_data = out->private_data;
    out->null_count = column->null_count;
    private_data->buffers[0] = column->validity;
    if (column->offsets != NULL)
        private_data->buffers[out->n_buffers++] = column->offsets;
    if (column->type->field_count == 0)
        private_data->buffers[out->n_buffers++] = column->values;
    for (uint32_t i = 0; i < column->type->field_count; i++)
        MR_TRY(add_child(batch, &column->children[i], out, err));
    return MR_OK;
}

static enum mr_status add_child(const struct mr_batch *batch, const struct mr_column *column,
                                struct ArrowArray *parent, struct mr_error *err)
{
    struct ArrowArray *child = mr_alloc_zero(NULL, sizeof *child);

    if (child == NULL)
        return no_memory(err);
    MR_ASSERT(parent->children != NULL);
    parent->children[parent->n_children++] = child;
    return export_column(batch, column, child, err);
}

enum mr_status mr_batch_export(const struct mr_batch *batch, struct ArrowSchema *ret_schema,
                               struct ArrowArray *ret_array, struct mr_error *err)
{
    const struct mr_schema *schema = mr_batch_schema(batch);
    uint32_t count = mr_schema_field_count(schema);
    struct mr_type top = {.id = MR_TYPE_STRUCT,
                          .field_count = count,
                          .fields = count == 0 ? NULL : mr_schema_field(schema, 0)};
    struct ArrowSchema out_schema = {0};
    struct ArrowArray out_array = {0};
    enum mr_status status;

    MR_TRY_GOTO(export_type("", &top, &out_schema, err));
    MR_TRY_GOTO(begin_array(batch, mr_batch_row_count(batch), count, &out_array, err));
    for (uint32_t i = 0; i < count; i++)
        MR_TRY_GOTO(add_child(batch, mr_batch_column(batch, i), &out_array, err));
    *ret_schema = out_schema;
    *ret_array = out_array;
    return MR_OK;
done:
    if (out_schema.release != NULL)
        out_schema.release(&out_schema);
    if (out_array.release != NULL)
        out_array.release(&out_array);
    return status;
}

/* ---- import: schema ---- */

static enum mr_status import_fields(const struct ArrowSchema *schema, unsigned depth,
                                    struct mr_arena *arena, struct mr_field **ret_fields,
                                    struct mr_error *err);

/* Up to three digits at *at, which moves behind them. */
static bool take_number(const char **at, unsigned *ret_value)
{
    unsigned digits = 0;

    *ret_value = 0;
    for (; **at >= '0' && **at <= '9' && digits < 3; digits++)
        *ret_value = *ret_value * 10 + (unsigned)(*(*at)++ - '0');
    return digits > 0;
}

/* "d:10,2" or "d:10,2,128" */
static bool parse_decimal_format(const char *format, struct mr_type *type)
{
    unsigned precision = 0;
    unsigned scale = 0;
    unsigned bits = 128;

    if (format[0] != 'd' || format[1] != ':')
        return false;
    format += 2;
    if (!take_number(&format, &precision) || *format++ != ',' || !take_number(&format, &scale))
        return false;
    if (*format == ',' && (format++, !take_number(&format, &bits)))
        return false;
    if (*format != '\0' || bits != 128 || precision < 1 || precision > 38 || scale > precision)
        return false;
    type->id = MR_TYPE_DECIMAL;
    type->precision = (uint8_t)precision;
    type->scale = (uint8_t)scale;
    return true;
}

static enum mr_status import_type(const struct ArrowSchema *schema, unsigned depth,
                                  struct mr_arena *arena, struct mr_type *type,
                                  struct mr_error *err)
{
    const char *name = schema->name != NULL ? schema->name : "";
    bool known = schema->dictionary == NULL && depth <= MR_TYPE_DEPTH_MAX;

    *type = (struct mr_type){0};
    for (size_t i = 0; known && i < MR_ARRAY_SIZE(formats); i++) {
        const char *format = formats[i].format;
        size_t prefix = strlen(format);
        bool zoned = format[prefix - 1] == ':';
        if (zoned ? strncmp(schema->format, format, prefix) == 0
                  : strcmp(schema->format, format) == 0)
            type->id = formats[i].id;
    }
    if (known && type->id == 0)
        (void)parse_decimal_format(schema->format, type);
    int64_t children = type->id == MR_TYPE_LIST ? 1 : 0;
    bool fits = type->id == MR_TYPE_STRUCT
                    ? schema->n_children > 0 && schema->n_children <= MR_COLUMNS_MAX
                    : schema->n_children == children;
    if (type->id == 0 || !fits)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot import column '%s': millrace has no type for Arrow format '%s'%s; "
                       "cast it before the import",
                       name, schema->format, schema->dictionary != NULL ? " (dictionary)" : "");
    if (type->id == MR_TYPE_BINARY)
        type->extension = extension_of(schema->metadata);
    if (schema->n_children == 0)
        return MR_OK;
    struct mr_field *fields = NULL;
    MR_TRY(import_fields(schema, depth + 1, arena, &fields, err));
    if (type->id == MR_TYPE_LIST)
        fields[0].name = "item";
    type->fields = fields;
    type->field_count = (uint32_t)schema->n_children;
    return MR_OK;
}

static enum mr_status import_fields(const struct ArrowSchema *schema, unsigned depth,
                                    struct mr_arena *arena, struct mr_field **ret_fields,
                                    struct mr_error *err)
{
    size_t count = (size_t)schema->n_children;
    struct mr_field *fields = mr_arena_alloc(arena, (count + 1) * sizeof *fields);

    if (fields == NULL)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        const char *name = schema->children[i]->name;
        fields[i].name = name != NULL ? name : "";
        MR_TRY(import_type(schema->children[i], depth, arena, &fields[i].type, err));
    }
    *ret_fields = fields;
    return MR_OK;
}

/* ---- import: arrays ---- */

struct imported {
    struct ArrowSchema schema;
    struct ArrowArray array;
    struct mr_arena arena; /* column structs while importing, copied bitmaps for the batch's life */
};

static void release_imported(void *owner)
{
    struct imported *imported = owner;

    if (imported->array.release != NULL)
        imported->array.release(&imported->array);
    if (imported->schema.release != NULL)
        imported->schema.release(&imported->schema);
    mr_arena_release(&imported->arena);
    mr_free(imported);
}

/* A bitmap that begins at bit 0: moved by whole bytes, copied when that is not enough. */
static const uint8_t *import_bitmap(const void *bitmap, int64_t from, int64_t count,
                                    struct mr_arena *arena)
{
    const uint8_t *source = bitmap;

    if ((from & 7) == 0)
        return source + (from >> 3);
    size_t bytes = (size_t)(count + 7) / 8;
    uint8_t *copy = mr_arena_alloc(arena, bytes + 1);
    if (copy == NULL)
        return NULL;
    memset(copy, 0, bytes);
    for (int64_t i = 0; i < count; i++) {
        unsigned bit = ((unsigned)source[(from + i) >> 3] >> ((from + i) & 7)) & 1u;
        copy[i >> 3] |= (uint8_t)(bit << (i & 7));
    }
    return copy;
}

static enum mr_status bad_array(const char *name, const char *what, struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA, "cannot import column '%s': %s; the producer is at fault",
                   name, what);
}

static enum mr_status import_validity(const struct ArrowArray *array, int64_t from, int64_t length,
                                      const char *name, struct mr_arena *arena,
                                      struct mr_column *column, struct mr_error *err)
{
    if (array->buffers[0] == NULL || array->null_count == 0 || length == 0)
        return array->buffers[0] == NULL && array->null_count > 0
                   ? bad_array(name, "it counts nulls and has no validity", err)
                   : MR_OK;
    column->validity = import_bitmap(array->buffers[0], from, length, arena);
    if (column->validity == NULL)
        return no_memory(err);
    for (int64_t i = 0; i < length; i++)
        column->null_count += mr_column_is_null(column, i);
    if (column->null_count == 0)
        column->validity = NULL;
    return MR_OK;
}

static enum mr_status import_offsets(const struct ArrowArray *array, int64_t from, int64_t length,
                                     const char *name, struct mr_column *column,
                                     struct mr_error *err)
{
    static const int32_t none[1] = {0};

    if (array->buffers[1] == NULL) {
        column->offsets = none;
        return length == 0 ? MR_OK : bad_array(name, "it has no offsets", err);
    }
    column->offsets = (const int32_t *)array->buffers[1] + from;
    if (column->offsets[0] < 0)
        return bad_array(name, "an offset is negative", err);
    for (int64_t i = 0; i < length; i++) {
        if (column->offsets[i] > column->offsets[i + 1])
            return bad_array(name, "its offsets run backwards", err);
    }
    return MR_OK;
}

static enum mr_status import_column(const struct ArrowArray *array, const struct mr_field *field,
                                    int64_t from, int64_t length, struct mr_arena *arena,
                                    struct mr_column *column, struct mr_error *err);

static enum mr_status import_children(const struct ArrowArray *array, const struct mr_field *field,
                                      int64_t from, int64_t length, struct mr_arena *arena,
                                      struct mr_column *column, struct mr_error *err)
{
    const struct mr_type *type = &field->type;
    struct mr_column *children = mr_arena_alloc(arena, type->field_count * sizeof *children);

    if (children == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct ArrowArray *child = array->children[i];
        int64_t child_from = type->id == MR_TYPE_STRUCT ? from : 0;
        int64_t child_length = type->id == MR_TYPE_STRUCT ? length : child->length;
        if (child->length - child_from < child_length)
            return bad_array(field->name, "a child is too short", err);
        if (type->id == MR_TYPE_LIST && column->offsets[length] > child_length)
            return bad_array(field->name, "an offset is past its items", err);
        MR_TRY(import_column(child, &type->fields[i], child_from, child_length, arena, &children[i],
                             err));
    }
    column->children = children;
    return MR_OK;
}

/* Rows [from, from + length) of array, on top of the array's own offset. */
static enum mr_status import_column(const struct ArrowArray *array, const struct mr_field *field,
                                    int64_t from, int64_t length, struct mr_arena *arena,
                                    struct mr_column *column, struct mr_error *err)
{
    static const uint64_t nothing[2] = {0, 0};
    MR_ASSERT(array != NULL && field != NULL);
    const struct mr_type *type = &field->type;
    bool text = type->id == MR_TYPE_TEXT || type->id == MR_TYPE_BINARY;
    bool offsets = text || type->id == MR_TYPE_LIST;
    int64_t buffers = 1 + (offsets ? 1 : 0) + (type->field_count == 0 ? 1 : 0);

    if (array->n_buffers != buffers || array->n_children != type->field_count ||
        array->offset < 0 || array->length < 0)
        return bad_array(field->name, "its buffers or children do not match its format", err);
    from += array->offset;
    *column = (struct mr_column){.type = type, .length = length};
    MR_TRY(import_validity(array, from, length, field->name, arena, column, err));
    if (offsets)
        MR_TRY(import_offsets(array, from, length, field->name, column, err));
    if (type->field_count > 0)
        return import_children(array, field, from, length, arena, column, err);
    const char *values = array->buffers[buffers - 1];
    column->values = nothing;
    if (values == NULL && (length == 0 || (text && column->offsets[length] == 0)))
        return MR_OK;
    if (values == NULL)
        return bad_array(field->name, "it has no values", err);
    if (type->id == MR_TYPE_BOOL)
        column->values = import_bitmap(values, from, length, arena);
    else
        column->values = values + (size_t)from * mr_type_width(type->id);
    return column->values == NULL ? no_memory(err) : MR_OK;
}

static enum mr_status import_batch(struct imported *imported, struct mr_schema **ret_schema,
                                   struct mr_column **ret_columns, struct mr_error *err)
{
    const struct ArrowSchema *top = &imported->schema;
    const struct ArrowArray *array = &imported->array;
    struct mr_field *fields = NULL;
    size_t count = top->n_children < 0 ? 0 : (size_t)top->n_children;

    if (strcmp(top->format, "+s") != 0 || top->n_children < 0 || top->n_children > MR_COLUMNS_MAX ||
        array->n_children != top->n_children || array->null_count > 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot import batch: the top level is no struct of columns (format '%s'); "
                       "wrap the array in a record batch",
                       top->format);
    MR_TRY(import_fields(top, 1, &imported->arena, &fields, err));
    struct mr_column *columns = mr_arena_alloc(&imported->arena, (count + 1) * sizeof *columns);
    if (columns == NULL)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        MR_ASSERT(array->children != NULL && fields != NULL);
        const struct ArrowArray *child = array->children[i];
        if (child->length - array->offset < array->length)
            return bad_array(fields[i].name, "it has fewer rows than the batch", err);
        MR_TRY(import_column(child, &fields[i], array->offset, array->length, &imported->arena,
                             &columns[i], err));
    }
    *ret_columns = columns;
    return mr_schema_new(fields, (uint32_t)count, ret_schema, err);
}

enum mr_status mr_batch_import(struct ArrowSchema *schema, struct ArrowArray *array,
                               struct mr_batch **ret_batch, struct mr_error *err)
{
    struct imported *imported = mr_alloc_zero(NULL, sizeof *imported);
    struct mr_schema *own_schema = NULL;
    struct mr_column *columns = NULL;

    if (imported == NULL) {
        array->release(array);
        schema->release(schema);
        return no_memory(err);
    }
    imported->schema = *schema;
    imported->array = *array;
    schema->release = NULL;
    array->release = NULL;
    enum mr_status status = import_batch(imported, &own_schema, &columns, err);
    if (status != MR_OK) {
        release_imported(imported);
        return status;
    }
    status = mr_batch_wrap(own_schema, columns, imported->array.length, imported, release_imported,
                           ret_batch, err);
    mr_schema_unref(own_schema);
    return status;
}
