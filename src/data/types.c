/*
 * Schemas: made once by a front end, a format or a plug-in, then shared by every batch.
 *
 *     mr_schema
 *     +------------+       one arena: everything below lives and dies with the schema
 *     | references |
 *     | fields  ---+--> [ name, type ][ name, type ] ...
 *     +------------+                   `-> fields of LIST and STRUCT types, copied deeply
 *
 * Invariants: immutable after mr_schema_new; names are valid UTF-8 without NUL, not empty, unique
 * in their level; a type is never deeper than MR_TYPE_DEPTH_MAX. Threads: any; the reference count
 * is atomic.
 */
#include "data/types_internal.h"

#include "data/codec.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/text.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct mr_schema {
    atomic_uint references;
    uint32_t field_count;
    struct mr_field *fields;
    struct mr_arena arena;
};

enum { EXTENSION_BYTES_MAX = 63 };

struct type_info {
    const char *name;
    uint32_t width;
};

static const struct type_info type_infos[] = {
    [MR_TYPE_BOOL] = {"BOOLEAN", 0},
    [MR_TYPE_INT8] = {"TINYINT", 1},
    [MR_TYPE_INT16] = {"SMALLINT", 2},
    [MR_TYPE_INT32] = {"INTEGER", 4},
    [MR_TYPE_INT64] = {"BIGINT", 8},
    [MR_TYPE_UINT8] = {"UTINYINT", 1},
    [MR_TYPE_UINT16] = {"USMALLINT", 2},
    [MR_TYPE_UINT32] = {"UINTEGER", 4},
    [MR_TYPE_UINT64] = {"UBIGINT", 8},
    [MR_TYPE_FLOAT] = {"FLOAT", 4},
    [MR_TYPE_DOUBLE] = {"DOUBLE", 8},
    [MR_TYPE_DECIMAL] = {"DECIMAL", 16},
    [MR_TYPE_TEXT] = {"VARCHAR", 0},
    [MR_TYPE_BINARY] = {"BLOB", 0},
    [MR_TYPE_DATE] = {"DATE", 4},
    [MR_TYPE_TIMESTAMP] = {"TIMESTAMP", 8},
    [MR_TYPE_TIMESTAMP_NS] = {"TIMESTAMP_NS", 8},
    [MR_TYPE_LIST] = {"LIST", 0},
    [MR_TYPE_STRUCT] = {"STRUCT", 0},
};

uint32_t mr_type_width(enum mr_type_id id)
{
    return (size_t)id < MR_ARRAY_SIZE(type_infos) ? type_infos[id].width : 0;
}

/* ---- checks and deep copy ---- */

static enum mr_status check_name(const struct mr_field *fields, uint32_t index,
                                 struct mr_error *err)
{
    const char *name = fields[index].name;

    if (name == NULL || name[0] == '\0')
        return MR_FAIL(err, MR_CONFIG, "cannot make schema: column %u has no name; give it one",
                       index + 1);
    size_t name_bytes = strlen(name);
    if (name_bytes > MR_NAME_BYTES_MAX)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: name '%.40s...' has %zu bytes; use at most %d", name,
                       name_bytes, MR_NAME_BYTES_MAX);
    if (!mr_utf8_valid(name, name_bytes))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: name of column %u is not valid UTF-8; rename it",
                       index + 1);
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot make schema: two columns are named '%s'; rename one of them",
                           name);
    }
    return MR_OK;
}

static enum mr_status copy_fields(struct mr_arena *arena, const struct mr_field *from,
                                  uint32_t count, unsigned depth, struct mr_field **ret_fields,
                                  struct mr_error *err);

bool mr__extension_name_is_good(const char *name)
{
    size_t size_bytes = strlen(name);

    for (size_t i = 0; i < size_bytes; i++) {
        bool digit = name[i] >= '0' && name[i] <= '9';
        bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                      name[i] == '_';
        if (!letter && (!digit || i == 0))
            return false;
    }
    return size_bytes > 0 && size_bytes <= EXTENSION_BYTES_MAX &&
           !mr__is_type_word(name, size_bytes);
}

static enum mr_status copy_extension(struct mr_arena *arena, const char *name,
                                     const struct mr_type *from, struct mr_type *to,
                                     struct mr_error *err)
{
    if (from->id != MR_TYPE_BINARY || !mr__extension_name_is_good(from->extension))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: column '%s' has the extension '%.80s'; only BLOB has "
                       "one, named as a codec is",
                       name, from->extension);
    to->extension = mr_arena_copy(arena, from->extension, strlen(from->extension));
    return to->extension != NULL ? MR_OK
                                 : MR_FAIL(err, MR_NOMEM, "cannot make schema: out of memory");
}

static enum mr_status copy_type(struct mr_arena *arena, const char *name,
                                const struct mr_type *from, unsigned depth, struct mr_type *to,
                                struct mr_error *err)
{
    if (from->id < MR_TYPE_BOOL || from->id > MR_TYPE_STRUCT)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: column '%s' has type number %d, which millrace does "
                       "not know; use one of the types of types.h",
                       name, (int)from->id);
    if (depth > MR_TYPE_DEPTH_MAX)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: type of '%s' is nested deeper than %d; flatten it",
                       name, MR_TYPE_DEPTH_MAX);
    *to = (struct mr_type){.id = from->id};
    if (from->id == MR_TYPE_DECIMAL) {
        if (from->precision < 1 || from->precision > 38 || from->scale > from->precision)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot make schema: column '%s' is DECIMAL(%u,%u); precision must be "
                           "1 to 38 and scale 0 to precision",
                           name, from->precision, from->scale);
        to->precision = from->precision;
        to->scale = from->scale;
    }
    if (from->extension != NULL)
        return copy_extension(arena, name, from, to, err);
    if (from->id != MR_TYPE_LIST && from->id != MR_TYPE_STRUCT)
        return MR_OK;
    if (from->field_count == 0 || (from->id == MR_TYPE_LIST && from->field_count != 1))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make schema: nested column '%s' has %u fields; a list has one and "
                       "a struct at least one",
                       name, from->field_count);
    struct mr_field *fields = NULL;
    MR_TRY(copy_fields(arena, from->fields, from->field_count, depth + 1, &fields, err));
    MR_ASSERT(fields != NULL);
    if (from->id == MR_TYPE_LIST)
        fields[0].name = "item";
    to->field_count = from->field_count;
    to->fields = fields;
    return MR_OK;
}

static enum mr_status copy_fields(struct mr_arena *arena, const struct mr_field *from,
                                  uint32_t count, unsigned depth, struct mr_field **ret_fields,
                                  struct mr_error *err)
{
    if (count > MR_COLUMNS_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot make schema: %u columns; use at most %d", count,
                       MR_COLUMNS_MAX);
    struct mr_field *fields = mr_arena_alloc(arena, sizeof *fields * (count + (size_t)1));
    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make schema: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        MR_TRY(check_name(from, i, err));
        fields[i].name = mr_arena_copy(arena, from[i].name, strlen(from[i].name));
        if (fields[i].name == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot make schema: out of memory");
        MR_TRY(copy_type(arena, from[i].name, &from[i].type, depth, &fields[i].type, err));
    }
    *ret_fields = fields;
    return MR_OK;
}

/* ---- schema ---- */

static void free_schema(struct mr_schema *schema)
{
    mr_arena_release(&schema->arena);
    mr_free(schema);
}

enum mr_status mr_schema_new(const struct mr_field *fields, uint32_t field_count,
                             struct mr_schema **ret_schema, struct mr_error *err)
{
    MR_ASSERT(fields != NULL || field_count == 0);
    struct mr_schema *schema = mr_alloc_zero(NULL, sizeof *schema);
    if (schema == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make schema: out of memory");
    atomic_init(&schema->references, 1);
    enum mr_status status =
        copy_fields(&schema->arena, fields, field_count, 1, &schema->fields, err);
    if (status != MR_OK) {
        free_schema(schema);
        return status;
    }
    schema->field_count = field_count;
    *ret_schema = schema;
    return MR_OK;
}

struct mr_schema *mr_schema_ref(const struct mr_schema *schema)
{
    struct mr_schema *counted = (struct mr_schema *)(uintptr_t)schema;

    MR_ASSERT(counted != NULL);
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

struct mr_schema *mr_schema_unref(struct mr_schema *schema)
{
    if (schema != NULL &&
        atomic_fetch_sub_explicit(&schema->references, 1, memory_order_acq_rel) == 1)
        free_schema(schema);
    return NULL;
}

uint32_t mr_schema_field_count(const struct mr_schema *schema)
{
    return schema->field_count;
}

const struct mr_field *mr_schema_field(const struct mr_schema *schema, uint32_t index)
{
    MR_ASSERT(index < schema->field_count);
    return &schema->fields[index];
}

int32_t mr_schema_find(const struct mr_schema *schema, const char *name, size_t name_bytes)
{
    int32_t nocase = -1;

    for (uint32_t i = 0; i < schema->field_count; i++) {
        const char *field = schema->fields[i].name;
        size_t field_bytes = strlen(field);
        if (field_bytes != name_bytes)
            continue;
        if (memcmp(field, name, name_bytes) == 0)
            return (int32_t)i;
        if (nocase < 0 && mr_text_equal_nocase(field, field_bytes, name, name_bytes))
            nocase = (int32_t)i;
    }
    return nocase;
}

static bool are_alike(const struct mr_type *a, const struct mr_type *b, bool with_extensions)
{
    if (a == b)
        return true;
    if (with_extensions && a->extension != b->extension &&
        (a->extension == NULL || b->extension == NULL || strcmp(a->extension, b->extension) != 0))
        return false;
    if (a->id != b->id || a->precision != b->precision || a->scale != b->scale ||
        a->field_count != b->field_count)
        return false;
    for (uint32_t i = 0; i < a->field_count; i++) {
        if (a->id == MR_TYPE_STRUCT && strcmp(a->fields[i].name, b->fields[i].name) != 0)
            return false;
        if (!are_alike(&a->fields[i].type, &b->fields[i].type, with_extensions))
            return false;
    }
    return true;
}

bool mr_type_equal(const struct mr_type *a, const struct mr_type *b)
{
    return are_alike(a, b, true);
}

bool mr__type_stored_alike(const struct mr_type *a, const struct mr_type *b)
{
    return are_alike(a, b, false);
}

bool mr_schema_equal(const struct mr_schema *a, const struct mr_schema *b)
{
    if (a == b)
        return true;
    if (a->field_count != b->field_count)
        return false;
    for (uint32_t i = 0; i < a->field_count; i++) {
        if (strcmp(a->fields[i].name, b->fields[i].name) != 0 ||
            !mr_type_equal(&a->fields[i].type, &b->fields[i].type))
            return false;
    }
    return true;
}

/* ---- printing ---- */

/* Words that SQL parsers refuse as a bare column name. */
static const char *const reserved_words[] = {
    "all",          "analyse",     "analyze", "and",       "any",        "array",      "as",
    "asc",          "asymmetric",  "both",    "case",      "cast",       "check",      "collate",
    "column",       "constraint",  "create",  "default",   "deferrable", "desc",       "describe",
    "distinct",     "do",          "else",    "end",       "except",     "false",      "fetch",
    "for",          "foreign",     "from",    "group",     "having",     "in",         "initially",
    "intersect",    "into",        "lambda",  "lateral",   "leading",    "limit",      "not",
    "null",         "offset",      "on",      "only",      "or",         "order",      "pivot",
    "pivot_longer", "pivot_wider", "placing", "primary",   "qualify",    "references", "returning",
    "select",       "show",        "some",    "summarize", "symmetric",  "table",      "then",
    "to",           "trailing",    "true",    "union",     "unique",     "unpivot",    "using",
    "variadic",     "watermark",   "when",    "where",     "window",     "with",
};

static bool must_quote(const char *name)
{
    size_t size_bytes = strlen(name);

    for (size_t i = 0; i < size_bytes; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        bool digit = c >= '0' && c <= '9';
        if (!letter && !(digit && i > 0))
            return true;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(reserved_words); i++) {
        const char *word = reserved_words[i];
        if (mr_text_equal_nocase(name, size_bytes, word, strlen(word)))
            return true;
    }
    return false;
}

void mr__out_add(struct mr__out *out, const char *data, size_t size_bytes)
{
    if (out->used < out->size) {
        size_t room = out->size - out->used;
        memcpy(out->text + out->used, data, MR_MIN(room, size_bytes));
    }
    out->used += size_bytes;
}

void mr__out_add_str(struct mr__out *out, const char *text)
{
    mr__out_add(out, text, strlen(text));
}

size_t mr__out_end(struct mr__out *out)
{
    if (out->size > 0)
        out->text[MR_MIN(out->used, out->size - 1)] = '\0';
    return out->used;
}

static void print_name(struct mr__out *out, const char *name)
{
    if (!must_quote(name)) {
        mr__out_add_str(out, name);
        return;
    }
    mr__out_add_str(out, "\"");
    for (; *name != '\0'; name++) {
        if (*name == '"')
            mr__out_add_str(out, "\"");
        mr__out_add(out, name, 1);
    }
    mr__out_add_str(out, "\"");
}

static void print_fields(struct mr__out *out, const struct mr_field *fields, uint32_t count,
                         bool for_sql);

static void print_type(struct mr__out *out, const struct mr_type *type, bool for_sql)
{
    char text[32];

    switch (type->id) {
    case MR_TYPE_LIST:
        print_type(out, &type->fields[0].type, for_sql);
        mr__out_add_str(out, "[]");
        return;
    case MR_TYPE_STRUCT:
        mr__out_add_str(out, "STRUCT(");
        print_fields(out, type->fields, type->field_count, for_sql);
        mr__out_add_str(out, ")");
        return;
    case MR_TYPE_DECIMAL:
        (void)snprintf(text, sizeof text, "DECIMAL(%u,%u)", type->precision, type->scale);
        mr__out_add_str(out, text);
        return;
    default:
        mr__out_add_str(out, type_infos[type->id].name);
        if (type->extension == NULL || for_sql)
            return;
        mr__out_add_str(out, "(");
        mr__out_add_str(out, type->extension);
        mr__out_add_str(out, ")");
        return;
    }
}

static void print_fields(struct mr__out *out, const struct mr_field *fields, uint32_t count,
                         bool for_sql)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            mr__out_add_str(out, ", ");
        print_name(out, fields[i].name);
        mr__out_add_str(out, " ");
        print_type(out, &fields[i].type, for_sql);
    }
}

size_t mr_type_print(const struct mr_type *type, char *text, size_t size)
{
    struct mr__out out = {text, size, 0};

    print_type(&out, type, false);
    return mr__out_end(&out);
}

size_t mr__type_print_sql(const struct mr_type *type, char *text, size_t size)
{
    struct mr__out out = {text, size, 0};

    print_type(&out, type, true);
    return mr__out_end(&out);
}

char *mr_schema_print(const struct mr_schema *schema)
{
    struct mr__out out = {NULL, 0, 0};

    print_fields(&out, schema->fields, schema->field_count, false);
    size_t size = out.used + 1;
    char *text = mr_alloc(NULL, size);
    if (text == NULL)
        return NULL;
    out = (struct mr__out){text, size, 0};
    print_fields(&out, schema->fields, schema->field_count, false);
    mr__out_end(&out);
    return text;
}

void mr_text_free(char *text)
{
    mr_free(text);
}
