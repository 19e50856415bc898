/*
 * Views of stores: see view.h. Called by the command's inspectors.
 *
 * A store of an unknown kind is shown by its schemas:
 *
 *     key    "city VARCHAR, n BIGINT"  -> those columns when the first entry reads so, else BINARY
 *     value  the same
 *
 * Thread: one at a time.
 */
#include "state/view.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/row_codec.h"

#include <string.h>

enum { KINDS_MAX = 32, COLUMNS_MAX = 256 };

static const struct mr_state_view_ops *kinds[KINDS_MAX];
static size_t kind_count;

struct mr_state_view {
    const struct mr_state_view_ops *ops; /* NULL: by the schemas */
    void *object;
    struct mr_schema *columns;
    uint32_t key_count;
    struct mr_schema *keys; /* without ops; NULL: bytes */
    struct mr_schema *values;
};

void mr_state_view_register(const struct mr_state_view_ops *ops)
{
    MR_ASSERT(kind_count < KINDS_MAX);
    for (size_t i = 0; i < kind_count; i++) {
        if (kinds[i] == ops)
            return;
    }
    kinds[kind_count++] = ops;
}

/* ---- pieces ---- */

enum mr_status mr_state_view_key(const struct mr_schema *columns, struct mr_slice key,
                                 struct mr_batch_builder *out, uint32_t column,
                                 struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key.data, key.size_bytes);

    for (uint32_t i = 0; i < mr_schema_field_count(columns); i++)
        MR_TRY(mr_key_decode(&bytes, &mr_schema_field(columns, i)->type,
                             mr_batch_builder_column(out, column + i), err));
    if (mr_bytes_left(&bytes) > 0)
        return MR_FAIL(err, MR_CORRUPT, "a key of the state has more bytes than its columns");
    return MR_OK;
}

enum mr_status mr_state_view_value(const struct mr_schema *columns, struct mr_slice value,
                                   struct mr_batch_builder *out, uint32_t column,
                                   struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    struct mr_column_builder *builders[COLUMNS_MAX];
    uint32_t count = mr_schema_field_count(columns);

    if (count > COLUMNS_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot show a row of %u columns: at most %d", count,
                       COLUMNS_MAX);
    for (uint32_t i = 0; i < count; i++)
        builders[i] = mr_batch_builder_column(out, column + i);
    MR_TRY(mr_value_decode(&bytes, builders, count, err));
    if (mr_bytes_left(&bytes) > 0)
        return MR_FAIL(err, MR_CORRUPT, "a value of the state has more bytes than its columns");
    return MR_OK;
}

static bool is_taken(const struct mr_field *fields, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return true;
    }
    return false;
}

enum mr_status mr_state_view_join(const struct mr_schema *a, const struct mr_schema *b,
                                  struct mr_schema **ret_columns, struct mr_error *err)
{
    const struct mr_schema *both[2] = {a, b};
    struct mr_field fields[COLUMNS_MAX];
    char *names[COLUMNS_MAX] = {NULL};
    uint32_t count = 0;
    enum mr_status status = MR_OK;

    for (unsigned s = 0; s < 2 && both[s] != NULL; s++) {
        for (uint32_t i = 0; i < mr_schema_field_count(both[s]) && status == MR_OK; i++) {
            if (count == COLUMNS_MAX)
                return MR_FAIL(err, MR_LIMIT, "cannot show a row of more than %d columns",
                               COLUMNS_MAX);
            fields[count] = *mr_schema_field(both[s], i);
            if (is_taken(fields, count, fields[count].name)) {
                names[count] = mr_asprintf("%.200s_%u", fields[count].name, count);
                fields[count].name = names[count];
            }
            if (fields[count].name == NULL)
                status = MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
            count++;
        }
    }
    if (status == MR_OK)
        status = mr_schema_new(fields, count, ret_columns, err);
    for (uint32_t i = 0; i < count; i++)
        mr_free(names[i]);
    return status;
}

/* ---- unknown kinds ---- */

/* The columns that a text names when `bytes` reads as a row of them; else NULL. */
static struct mr_schema *columns_that_fit(const char *text, bool is_key, struct mr_slice bytes)
{
    struct mr_schema *columns = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    bool fits = false;

    if (mr_schema_parse(text, strlen(text), &columns, NULL) != MR_OK)
        return NULL;
    if (mr_batch_builder_new(columns, &builder, NULL) == MR_OK) {
        enum mr_status status = bytes.size_bytes == 0 ? MR_OK
                                : is_key ? mr_state_view_key(columns, bytes, builder, 0, NULL)
                                         : mr_state_view_value(columns, bytes, builder, 0, NULL);

        fits = status == MR_OK;
        if (fits && bytes.size_bytes > 0)
            fits = mr_batch_builder_rows_added(builder, 1, NULL) == MR_OK &&
                   mr_batch_builder_finish(builder, &batch, NULL) == MR_OK;
    }
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    if (!fits) {
        mr_schema_unref(columns);
        return NULL;
    }
    return columns;
}

static enum mr_status open_unknown(struct mr_state_view *view, const struct mr_store_info *info,
                                   struct mr_slice first_key, struct mr_slice first_value,
                                   struct mr_error *err)
{
    struct mr_schema *key_bytes = NULL, *value_bytes = NULL;
    enum mr_status status;

    view->keys = columns_that_fit(info->key_schema, true, first_key);
    view->values = info->value_schema[0] != '\0'
                       ? columns_that_fit(info->value_schema, false, first_value)
                       : NULL;
    MR_TRY_GOTO(mr_schema_parse("key BLOB", 8, &key_bytes, err));
    MR_TRY_GOTO(mr_schema_parse("value BLOB", 10, &value_bytes, err));
    view->key_count = view->keys != NULL ? mr_schema_field_count(view->keys) : 1;
    status =
        mr_state_view_join(view->keys != NULL ? view->keys : key_bytes,
                           view->values != NULL ? view->values : value_bytes, &view->columns, err);
done:
    mr_schema_unref(key_bytes);
    mr_schema_unref(value_bytes);
    return status;
}

static enum mr_status add_unknown(struct mr_state_view *view, struct mr_slice key,
                                  struct mr_slice value, struct mr_batch_builder *out,
                                  struct mr_error *err)
{
    if (view->keys != NULL)
        MR_TRY(mr_state_view_key(view->keys, key, out, 0, err));
    else
        MR_TRY(
            mr_column_builder_text(mr_batch_builder_column(out, 0), key.data, key.size_bytes, err));
    if (view->values != NULL)
        return mr_state_view_value(view->values, value, out, view->key_count, err);
    return mr_column_builder_text(mr_batch_builder_column(out, view->key_count), value.data,
                                  value.size_bytes, err);
}

/* ---- views ---- */

enum mr_status mr_state_view_open(const struct mr_store_info *info, struct mr_slice first_key,
                                  struct mr_slice first_value, struct mr_state_view **ret_view,
                                  struct mr_error *err)
{
    struct mr_state_view *view = mr_alloc_zero(NULL, sizeof(*view));
    enum mr_status status = MR_CONFIG;

    if (view == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot show state '%s': out of memory", info->name);
    for (size_t i = 0; i < kind_count && view->ops == NULL; i++) {
        if (strcmp(kinds[i]->kind, info->kind) == 0)
            view->ops = kinds[i];
    }
    if (view->ops != NULL) {
        struct mr_error own = {0};

        status = view->ops->open(info->key_schema, info->value_schema, &view->object,
                                 &view->columns, &view->key_count, &own);
        if (status != MR_OK && status != MR_CONFIG && err != NULL)
            *err = own;
    }
    if (status == MR_CONFIG) {
        view->ops = NULL;
        status = open_unknown(view, info, first_key, first_value, err);
    }
    if (status != MR_OK) {
        mr_state_view_free(view);
        return status;
    }
    *ret_view = view;
    return MR_OK;
}

void mr_state_view_free(struct mr_state_view *view)
{
    if (view == NULL)
        return;
    if (view->ops != NULL && view->object != NULL)
        view->ops->free(view->object);
    mr_schema_unref(view->columns);
    mr_schema_unref(view->keys);
    mr_schema_unref(view->values);
    mr_free(view);
}

const struct mr_schema *mr_state_view_columns(const struct mr_state_view *view)
{
    return view->columns;
}

uint32_t mr_state_view_key_count(const struct mr_state_view *view)
{
    return view->key_count;
}

enum mr_status mr_state_view_add(struct mr_state_view *view, struct mr_slice key,
                                 struct mr_slice value, struct mr_batch_builder *out,
                                 struct mr_error *err)
{
    int64_t rows = 1;

    if (view->ops != NULL)
        MR_TRY(view->ops->add(view->object, key, value, out, &rows, err));
    else
        MR_TRY(add_unknown(view, key, value, out, err));
    return mr_batch_builder_rows_added(out, rows, err);
}
