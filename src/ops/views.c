/*
 * State of these operators as rows, from the texts in the checkpoint: state/view.h.
 *
 *     aggregate   key columns, rows, one result of each thing kept (a sum and its average)
 *     session     the same with session_start, session_end behind; a row a session
 *     dedup       key columns, expires
 *     limit       rows
 *     join        row, matched, the side's columns
 *
 * Called by mr_ops_register_views, once. Thread: one at a time.
 */
#include "ops/views.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/join_block.h"
#include "ops/ops.h"
#include "state/view.h"

#include <string.h>

static enum mr_status other_version(const char *kind, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG, "this is no state of kind '%s' of this version", kind);
}

/* "" has no columns. */
static enum mr_status parse_columns(const char *text, struct mr_schema **ret_columns,
                                    struct mr_error *err)
{
    if (text[0] == '\0') {
        *ret_columns = NULL;
        return MR_OK;
    }
    return mr_schema_parse(text, strlen(text), ret_columns, err);
}

/* ---- aggregate ---- */

static enum mr_status aggregate_open(const char *key_schema, const char *value_schema,
                                     void **ret_view, struct mr_schema **ret_columns,
                                     uint32_t *ret_key_count, struct mr_error *err)
{
    struct mr_agg_layout *layout = NULL;
    struct mr_schema *keys = NULL;

    if (mr_agg_layout_parse(key_schema, value_schema, &layout, NULL) != MR_OK)
        return other_version("aggregate", err);
    if (parse_columns(key_schema, &keys, NULL) == MR_OK && keys != NULL)
        *ret_key_count = mr_schema_field_count(keys);
    mr_schema_unref(keys);
    *ret_columns = mr_schema_ref(mr_agg_layout_output(layout));
    *ret_view = layout;
    return MR_OK;
}

static enum mr_status aggregate_add(void *view, struct mr_slice key, struct mr_slice value,
                                    struct mr_batch_builder *out, int64_t *ret_rows,
                                    struct mr_error *err)
{
    *ret_rows = 0; /* emit has told the builder */
    return mr_agg_emit(view, key, value, out, err);
}

static void layout_free(void *view)
{
    mr_agg_layout_free(view);
}

static const struct mr_state_view_ops aggregate_view = {
    .kind = "aggregate", .open = aggregate_open, .add = aggregate_add, .free = layout_free};

/* ---- session: start i64 | end i64 | size u32 | buffers, any number of times ---- */

static enum mr_status session_open(const char *key_schema, const char *value_schema,
                                   void **ret_view, struct mr_schema **ret_columns,
                                   uint32_t *ret_key_count, struct mr_error *err)
{
    static const char times[] = "session_start TIMESTAMP, session_end TIMESTAMP";
    struct mr_schema *results = NULL, *session = NULL;
    void *layout = NULL;
    enum mr_status status;

    MR_TRY(aggregate_open(key_schema, value_schema, &layout, &results, ret_key_count, err));
    status = mr_schema_parse(times, sizeof(times) - 1, &session, err);
    if (status == MR_OK)
        status = mr_state_view_join(results, session, ret_columns, err);
    mr_schema_unref(results);
    mr_schema_unref(session);
    if (status == MR_OK)
        *ret_view = layout;
    else
        layout_free(layout);
    return status;
}

/* One session: what an aggregation of its own would show, copied into the wider row. */
static enum mr_status add_session(const struct mr_agg_layout *layout, struct mr_slice key,
                                  struct mr_slice buffers, struct mr_batch_builder *out,
                                  struct mr_error *err)
{
    const struct mr_schema *columns = mr_agg_layout_output(layout);
    struct mr_batch_builder *one = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(columns, &one, err));
    status = mr_agg_emit(layout, key, buffers, one, err);
    if (status == MR_OK)
        status = mr_batch_builder_finish(one, &batch, err);
    for (uint32_t i = 0; status == MR_OK && i < mr_schema_field_count(columns); i++)
        status = mr_column_builder_copy(mr_batch_builder_column(out, i), mr_batch_column(batch, i),
                                        0, err);
    mr_batch_unref(batch);
    mr_batch_builder_free(one);
    return status;
}

static enum mr_status session_add(void *view, struct mr_slice key, struct mr_slice value,
                                  struct mr_batch_builder *out, int64_t *ret_rows,
                                  struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    uint32_t columns = mr_schema_field_count(mr_agg_layout_output(view));

    for (*ret_rows = 0; mr_bytes_left(&bytes) > 0; ++*ret_rows) {
        int64_t start_us = (int64_t)mr_bytes_u64(&bytes);
        int64_t end_us = (int64_t)mr_bytes_u64(&bytes);
        uint32_t size = mr_bytes_u32(&bytes);
        const char *buffers =
            bytes.failed || size > mr_bytes_left(&bytes) ? NULL : mr_bytes_take(&bytes, size);

        if (buffers == NULL)
            return MR_FAIL(err, MR_CORRUPT, "a session of the state is cut short");
        MR_TRY(add_session(view, key, (struct mr_slice){buffers, size}, out, err));
        MR_TRY(mr_column_builder_int(mr_batch_builder_column(out, columns), start_us, err));
        MR_TRY(mr_column_builder_int(mr_batch_builder_column(out, columns + 1), end_us, err));
    }
    return MR_OK;
}

static const struct mr_state_view_ops session_view = {
    .kind = "session", .open = session_open, .add = session_add, .free = layout_free};

/* ---- dedup: nothing, or expires i64; limit: rows u64 ---- */

struct plain {
    struct mr_schema *keys; /* NULL: none */
    bool has_number;
    bool is_unsigned;
};

static void plain_free(void *pointer)
{
    struct plain *plain = pointer;

    mr_schema_unref(plain->keys);
    mr_free(plain);
}

static enum mr_status plain_open(const char *key_schema, const char *value_schema, bool is_unsigned,
                                 void **ret_view, struct mr_schema **ret_columns,
                                 uint32_t *ret_key_count, struct mr_error *err)
{
    struct plain *plain = mr_alloc_zero(NULL, sizeof(*plain));
    struct mr_schema *values = NULL;
    enum mr_status status;

    if (plain == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
    plain->is_unsigned = is_unsigned;
    status = parse_columns(key_schema, &plain->keys, err);
    if (status == MR_OK)
        status = parse_columns(value_schema, &values, err);
    if (status == MR_OK && (plain->keys != NULL || values != NULL))
        status = mr_state_view_join(plain->keys != NULL ? plain->keys : values,
                                    plain->keys != NULL ? values : NULL, ret_columns, err);
    else
        status = other_version("dedup", err);
    if (status == MR_OK) {
        plain->has_number = values != NULL;
        *ret_key_count = plain->keys != NULL ? mr_schema_field_count(plain->keys) : 0;
        *ret_view = plain;
    } else {
        plain_free(plain);
    }
    mr_schema_unref(values);
    return status;
}

static enum mr_status dedup_open(const char *key_schema, const char *value_schema, void **ret_view,
                                 struct mr_schema **ret_columns, uint32_t *ret_key_count,
                                 struct mr_error *err)
{
    return plain_open(key_schema, value_schema, false, ret_view, ret_columns, ret_key_count, err);
}

static enum mr_status limit_open(const char *key_schema, const char *value_schema, void **ret_view,
                                 struct mr_schema **ret_columns, uint32_t *ret_key_count,
                                 struct mr_error *err)
{
    return plain_open(key_schema, value_schema, true, ret_view, ret_columns, ret_key_count, err);
}

static enum mr_status plain_add(void *view, struct mr_slice key, struct mr_slice value,
                                struct mr_batch_builder *out, int64_t *ret_rows,
                                struct mr_error *err)
{
    const struct plain *plain = view;
    uint32_t column = 0;
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    uint64_t number;

    *ret_rows = 1;
    if (plain->keys != NULL) {
        MR_TRY(mr_state_view_key(plain->keys, key, out, 0, err));
        column = mr_schema_field_count(plain->keys);
    }
    if (!plain->has_number)
        return MR_OK;
    number = mr_bytes_u64(&bytes);
    if (bytes.failed)
        return MR_FAIL(err, MR_CORRUPT, "a value of the state is cut short");
    if (plain->is_unsigned)
        return mr_column_builder_uint(mr_batch_builder_column(out, column), number, err);
    return mr_column_builder_int(mr_batch_builder_column(out, column), (int64_t)number, err);
}

static const struct mr_state_view_ops dedup_view = {
    .kind = "dedup", .open = dedup_open, .add = plain_add, .free = plain_free};
static const struct mr_state_view_ops limit_view = {
    .kind = "limit", .open = limit_open, .add = plain_add, .free = plain_free};

/* ---- join: blocks of rows, their marks before them, single rows (join_state.c) ---- */

enum { JOIN_ROW_KEY_BYTES = 9, JOIN_KEY_BYTES = 11, JOIN_BLOCK_PART = 0xffff };

struct side {
    struct mr_schema *keys;
    struct mr_schema *columns;
    struct mr_join_packed *packed;
    struct mr_buf marks; /* the number and the value of those seen last */
};

static void side_free(void *pointer)
{
    struct side *side = pointer;

    mr_schema_unref(side->keys);
    mr_schema_unref(side->columns);
    mr_free(side->packed);
    mr_buf_release(&side->marks);
    mr_free(side);
}

/* "matched BOOLEAN, COLUMNS by KEYS": where COLUMNS are. */
static bool find_columns(const char *value_schema, const char **ret_text, size_t *ret_size)
{
    static const char head[] = "matched BOOLEAN, ";
    const char *end = NULL;

    if (strncmp(value_schema, head, sizeof(head) - 1) != 0)
        return false;
    *ret_text = value_schema + sizeof(head) - 1;
    for (const char *at = strstr(*ret_text, " by "); at != NULL; at = strstr(at + 1, " by "))
        end = at;
    *ret_size = end != NULL ? (size_t)(end - *ret_text) : strlen(*ret_text);
    return true;
}

static enum mr_status join_open(const char *key_schema, const char *value_schema, void **ret_view,
                                struct mr_schema **ret_columns, uint32_t *ret_key_count,
                                struct mr_error *err)
{
    static const char matched_text[] = "matched BOOLEAN";
    struct side *side = mr_alloc_zero(NULL, sizeof(*side));
    struct mr_schema *matched = NULL, *front = NULL;
    const char *text;
    size_t size;
    enum mr_status status = MR_OK;

    if (side == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
    if (!find_columns(value_schema, &text, &size) ||
        mr_schema_parse(text, size, &side->columns, NULL) != MR_OK ||
        mr_schema_parse(key_schema, strlen(key_schema), &side->keys, NULL) != MR_OK)
        status = other_version("join", err);
    if (status == MR_OK)
        status = mr_schema_parse(matched_text, sizeof(matched_text) - 1, &matched, err);
    if (status == MR_OK)
        status = mr_state_view_join(side->keys, matched, &front, err);
    if (status == MR_OK)
        status = mr_state_view_join(front, side->columns, ret_columns, err);
    if (status == MR_OK) {
        side->packed = mr_alloc(NULL, mr_schema_field_count(side->columns) * sizeof(*side->packed));
        if (side->packed == NULL) {
            mr_schema_unref(*ret_columns);
            status = MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
        }
    }
    mr_schema_unref(matched);
    mr_schema_unref(front);
    if (status != MR_OK) {
        side_free(side);
        return status;
    }
    *ret_key_count = mr_schema_field_count(side->keys);
    *ret_view = side;
    return MR_OK;
}

/* An entry of one row, as the first version wrote them. */
static enum mr_status add_single(const struct side *side, struct mr_slice key,
                                 struct mr_slice value, struct mr_batch_builder *out,
                                 struct mr_error *err)
{
    uint32_t key_count = mr_schema_field_count(side->keys);

    if (value.size_bytes < 1)
        return MR_FAIL(err, MR_CORRUPT, "a row of the state is cut short");
    MR_TRY(mr_state_view_key(side->keys, key, out, 0, err));
    MR_TRY(
        mr_column_builder_bool(mr_batch_builder_column(out, key_count), value.data[0] != 0, err));
    return mr_state_view_value(side->columns,
                               (struct mr_slice){value.data + 1, value.size_bytes - 1}, out,
                               key_count + 1, err);
}

static bool has_bit(const uint8_t *bits, uint32_t at)
{
    return bits != NULL && (bits[at >> 3] >> (at & 7) & 1) != 0;
}

/* A row's number is the block's, times 1,024, and its place. */
static int64_t row_number(struct mr_slice key, uint32_t at)
{
    uint64_t bits = 0;

    for (int i = 0; i < 8; i++)
        bits = bits << 8 | (uint8_t)key.data[1 + i];
    return (int64_t)((bits ^ UINT64_C(1) << 63) << MR_JOIN_BLOCK_BITS | at);
}

static enum mr_status add_block(struct side *side, struct mr_slice key, struct mr_slice value,
                                struct mr_batch_builder *out, int64_t *ret_rows,
                                struct mr_error *err)
{
    const uint8_t *left = NULL;
    const uint8_t *matched = NULL;
    uint32_t rows = 0;

    MR_TRY(mr_join__unpack(value, side->columns, side->packed, &rows, &matched, err));
    if (side->marks.size == JOIN_ROW_KEY_BYTES + 2 * (size_t)((rows + 7) / 8) &&
        memcmp(side->marks.data, key.data, JOIN_ROW_KEY_BYTES) == 0) {
        left = (const uint8_t *)side->marks.data + JOIN_ROW_KEY_BYTES;
        matched = left + (rows + 7) / 8;
    }
    for (uint32_t at = 0; at < rows; at++) {
        if (has_bit(left, at))
            continue;
        MR_TRY(mr_column_builder_int(mr_batch_builder_column(out, 0), row_number(key, at), err));
        MR_TRY(mr_column_builder_bool(mr_batch_builder_column(out, 1), has_bit(matched, at), err));
        for (uint32_t c = 0; c < mr_schema_field_count(side->columns); c++)
            MR_TRY(mr_join__append(mr_batch_builder_column(out, 2 + c), &side->packed[c], at, err));
        ++*ret_rows;
    }
    return MR_OK;
}

static enum mr_status join_add(void *view, struct mr_slice key, struct mr_slice value,
                               struct mr_batch_builder *out, int64_t *ret_rows,
                               struct mr_error *err)
{
    struct side *side = view;

    *ret_rows = 0;
    if (key.size_bytes != JOIN_KEY_BYTES) {
        *ret_rows = 1;
        return add_single(side, key, value, out, err);
    }
    if ((uint8_t)key.data[9] == JOIN_BLOCK_PART >> 8 &&
        (uint8_t)key.data[10] == (JOIN_BLOCK_PART & 0xff))
        return add_block(side, key, value, out, ret_rows, err);
    mr_buf_clear(&side->marks); /* they come before their block */
    mr_buf_add(&side->marks, key.data, JOIN_ROW_KEY_BYTES);
    mr_buf_add(&side->marks, value.data, value.size_bytes);
    if (side->marks.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory");
    return MR_OK;
}

static const struct mr_state_view_ops join_view = {
    .kind = "join", .open = join_open, .add = join_add, .free = side_free};

void mr_ops_register_views(void)
{
    mr_state_view_register(&aggregate_view);
    mr_state_view_register(&session_view);
    mr_state_view_register(&dedup_view);
    mr_state_view_register(&limit_view);
    mr_state_view_register(&join_view);
}
