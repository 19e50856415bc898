/*
 * State of functions with state of a key as rows, from the texts in the checkpoint.
 *
 *     groups             key columns, state columns, timeout
 *     transform value    key columns, columns, ends
 *     transform list     the same, a row an element
 *     transform map      key columns, the entry's key, columns, ends; a row an entry
 *     transform timers   key columns, expiry; a row a timer
 *     transform          nothing: the mark of the first batch
 *
 * The forms are drawn in groups.h, transform.h and transform_timers.c. Called by
 * mr_streams_register_views, once. Thread: one at a time.
 */
#include "streams/views.h"

#include "base/alloc.h"
#include "base/check.h"
#include "state/view.h"
#include "streams/due.h"
#include "streams/groups.h"

#include <string.h>

enum form { FORM_GROUPS, FORM_VALUE, FORM_LIST, FORM_MAP, FORM_TIMERS, FORM_MARKS };

struct view {
    enum form form;
    struct mr_schema *keys;
    struct mr_schema *entry; /* MAP: one column */
    struct mr_schema *columns;
    uint32_t key_count;
    uint32_t column_count; /* of the state, without entry and time */
};

static void view_free(void *pointer)
{
    struct view *view = pointer;

    if (view == NULL)
        return;
    mr_schema_unref(view->keys);
    mr_schema_unref(view->entry);
    mr_schema_unref(view->columns);
    mr_free(view);
}

static enum mr_status parse(const char *text, size_t size, struct mr_schema **ret_columns,
                            struct mr_error *err)
{
    return mr_schema_parse(text, size, ret_columns, err);
}

/* The texts of the store as schemas. */
static enum mr_status parse_texts(struct view *view, const char *key_schema,
                                  const char *value_schema, struct mr_error *err)
{
    const char *arrow = strstr(value_schema, " -> ");

    MR_TRY(parse(key_schema, strlen(key_schema), &view->keys, err));
    view->key_count = mr_schema_field_count(view->keys);
    if (view->form == FORM_TIMERS || view->form == FORM_MARKS)
        return MR_OK;
    if (view->form == FORM_MAP) {
        if (arrow == NULL)
            return MR_FAIL(err, MR_CONFIG, "this is no map of this version");
        MR_TRY(parse(value_schema, (size_t)(arrow - value_schema), &view->entry, err));
        value_schema = arrow + 4;
    }
    MR_TRY(parse(value_schema, strlen(value_schema), &view->columns, err));
    view->column_count = mr_schema_field_count(view->columns);
    return MR_OK;
}

/* keys, entry, columns, time. */
static enum mr_status join_all(const struct view *view, struct mr_schema **ret_columns,
                               struct mr_error *err)
{
    static const char *const times[] = {"timeout TIMESTAMP", "ends TIMESTAMP",   "ends TIMESTAMP",
                                        "ends TIMESTAMP",    "expiry TIMESTAMP", "begun TIMESTAMP"};
    const char *time = times[view->form];
    struct mr_schema *some = NULL, *more = NULL, *last = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_state_view_join(view->keys, view->entry, &some, err));
    MR_TRY_GOTO(mr_state_view_join(some, view->columns, &more, err));
    MR_TRY_GOTO(parse(time, strlen(time), &last, err));
    status = mr_state_view_join(more, last, ret_columns, err);
done:
    mr_schema_unref(some);
    mr_schema_unref(more);
    mr_schema_unref(last);
    return status;
}

static enum mr_status view_open(enum form form, const char *key_schema, const char *value_schema,
                                void **ret_view, struct mr_schema **ret_columns,
                                uint32_t *ret_key_count, struct mr_error *err)
{
    struct view *view = mr_alloc_zero(NULL, sizeof(*view));
    enum mr_status status;

    if (view == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
    view->form = form;
    status = parse_texts(view, key_schema, value_schema, err);
    if (status == MR_OK)
        status = join_all(view, ret_columns, err);
    if (status != MR_OK) {
        view_free(view);
        return status;
    }
    *ret_view = view;
    *ret_key_count = view->key_count;
    return MR_OK;
}

/* ---- rows ---- */

static enum mr_status add_time(struct mr_batch_builder *out, uint32_t column, int64_t ms,
                               struct mr_error *err)
{
    struct mr_column_builder *to = mr_batch_builder_column(out, column);

    if (ms == MR_DUE_NEVER || ms > INT64_MAX / 1000)
        return mr_column_builder_null(to, err);
    return mr_column_builder_int(to, ms * 1000, err);
}

static enum mr_status damaged(struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT, "a record of the state is cut short");
}

/* One row: key, (entry's key,) columns, time. value NULL data: nulls. */
static enum mr_status add_row(const struct view *view, struct mr_slice key, struct mr_slice entry,
                              struct mr_slice value, int64_t ms, struct mr_batch_builder *out,
                              struct mr_error *err)
{
    uint32_t column = view->key_count;

    MR_TRY(mr_state_view_key(view->keys, key, out, 0, err));
    if (view->entry != NULL)
        MR_TRY(mr_state_view_key(view->entry, entry, out, column++, err));
    if (value.data != NULL && view->columns != NULL)
        MR_TRY(mr_state_view_value(view->columns, value, out, column, err));
    for (uint32_t i = 0; value.data == NULL && i < view->column_count; i++)
        MR_TRY(mr_column_builder_null(mr_batch_builder_column(out, column + i), err));
    return add_time(out, column + view->column_count, ms, err);
}

static enum mr_status add_group(const struct view *view, struct mr_slice key, struct mr_slice value,
                                struct mr_batch_builder *out, int64_t *ret_rows,
                                struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    int64_t timeout_ms = (int64_t)mr_bytes_u64(&bytes);
    bool has_state = mr_bytes_u8(&bytes) != 0;
    struct mr_slice state = {(const char *)bytes.at, mr_bytes_left(&bytes)};

    if (bytes.failed)
        return damaged(err);
    if (!has_state)
        state.data = NULL;
    *ret_rows = 1;
    return add_row(view, key, (struct mr_slice){NULL, 0}, state, timeout_ms, out, err);
}

static struct mr_slice take_block(struct mr_bytes *bytes)
{
    size_t size = mr_bytes_u32(bytes);

    return (struct mr_slice){mr_bytes_take(bytes, size), size};
}

static enum mr_status add_cells(const struct view *view, struct mr_slice key, struct mr_slice value,
                                struct mr_batch_builder *out, int64_t *ret_rows,
                                struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    int64_t end_ms = (int64_t)mr_bytes_u64(&bytes);
    struct mr_slice entry = {NULL, 0}, cell;

    if (bytes.failed)
        return damaged(err);
    if (view->form == FORM_VALUE) {
        *ret_rows = 1;
        cell = (struct mr_slice){(const char *)bytes.at, mr_bytes_left(&bytes)};
        return add_row(view, key, entry, cell, end_ms, out, err);
    }
    for (*ret_rows = 0; mr_bytes_left(&bytes) > 0; ++*ret_rows) {
        end_ms = (int64_t)mr_bytes_u64(&bytes);
        if (view->form == FORM_MAP)
            entry = take_block(&bytes);
        cell = take_block(&bytes);
        if (bytes.failed)
            return damaged(err);
        MR_TRY(add_row(view, key, entry, cell, end_ms, out, err));
    }
    return MR_OK;
}

static enum mr_status add_timers(const struct view *view, struct mr_slice key,
                                 struct mr_slice value, struct mr_batch_builder *out,
                                 int64_t *ret_rows, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    struct mr_slice none = {NULL, 0};

    for (*ret_rows = 0; mr_bytes_left(&bytes) > 0; ++*ret_rows) {
        int64_t expiry_ms = (int64_t)mr_bytes_u64(&bytes);

        if (bytes.failed)
            return damaged(err);
        MR_TRY(add_row(view, key, none, none, expiry_ms, out, err));
    }
    return MR_OK;
}

static enum mr_status view_add(void *pointer, struct mr_slice key, struct mr_slice value,
                               struct mr_batch_builder *out, int64_t *ret_rows,
                               struct mr_error *err)
{
    const struct view *view = pointer;

    *ret_rows = 0;
    if (key.size_bytes == 0)
        return MR_OK; /* the mark of the first batch */
    switch (view->form) {
    case FORM_GROUPS:
        return add_group(view, key, value, out, ret_rows, err);
    case FORM_TIMERS:
        return add_timers(view, key, value, out, ret_rows, err);
    case FORM_MARKS:
        return MR_OK;
    default:
        return add_cells(view, key, value, out, ret_rows, err);
    }
}

/* ---- kinds ---- */

#define VIEW(name, form)                                                                           \
    static enum mr_status open_##name(const char *key_schema, const char *value_schema,            \
                                      void **ret_view, struct mr_schema **ret_columns,             \
                                      uint32_t *ret_key_count, struct mr_error *err)               \
    {                                                                                              \
        return view_open(form, key_schema, value_schema, ret_view, ret_columns, ret_key_count,     \
                         err);                                                                     \
    }
VIEW(groups, FORM_GROUPS)
VIEW(value, FORM_VALUE)
VIEW(list, FORM_LIST)
VIEW(map, FORM_MAP)
VIEW(timers, FORM_TIMERS)
VIEW(marks, FORM_MARKS)
#undef VIEW

void mr_streams_register_views(void)
{
    static const struct mr_state_view_ops views[] = {
        {.kind = "groups", .open = open_groups, .add = view_add, .free = view_free},
        {.kind = "transform value", .open = open_value, .add = view_add, .free = view_free},
        {.kind = "transform list", .open = open_list, .add = view_add, .free = view_free},
        {.kind = "transform map", .open = open_map, .add = view_add, .free = view_free},
        {.kind = "transform timers", .open = open_timers, .add = view_add, .free = view_free},
        {.kind = "transform", .open = open_marks, .add = view_add, .free = view_free},
    };
    static bool registered;

    for (size_t i = 0; !registered && i < MR_ARRAY_SIZE(views); i++)
        mr_state_view_register(&views[i]);
    registered = true;
}
