/*
 * Rows of a batch by key for functions with state; see keyed.h. Called by groups_op.c and
 * transform_op.c.
 *
 * Every partition looks at all rows and takes those of its shards (dstream/state_rows.h). Late rows
 * go before that, on the driver: without any, nothing is copied.
 *
 * Thread: take_batches and drop_batches: driver; others: the partition's worker.
 */
#include "streams/keyed.h"

#include "base/check.h"
#include "data/row_codec.h"
#include "ops/ordinal.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { KEY_TEXT_BYTES = 48 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a function with state: out of memory");
}

/* ---- making ---- */

static enum mr_status make_key(struct mr_keyed *keyed, struct mr_error *err)
{
    struct mr_field *fields = mr_alloc(NULL, (keyed->key_count + 1) * sizeof(*fields));
    enum mr_status status;

    if (fields == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < keyed->key_count; i++)
        fields[i] = *mr_schema_field(keyed->input, keyed->columns[i]);
    status = mr_schema_new(fields, keyed->key_count, &keyed->key, err);
    mr_free(fields);
    return status;
}

enum mr_status mr_keyed_init(struct mr_keyed *keyed, const struct mr_keyed_spec *spec,
                             struct mr_error *err)
{
    *keyed = (struct mr_keyed){.key_count = spec->key_count,
                               .time_column = spec->time_column,
                               .time_add_us = spec->time_add_us,
                               .has_watermark = spec->has_watermark,
                               .partition_count = spec->partition_count};
    MR_ASSERT(spec->key_count > 0 && spec->partition_count > 0);
    keyed->input = mr_schema_ref(spec->input);
    keyed->name = mr_strdup(spec->name);
    keyed->columns = mr_alloc(NULL, spec->key_count * sizeof(*keyed->columns));
    if (keyed->name == NULL || keyed->columns == NULL)
        return no_memory(err);
    memcpy(keyed->columns, spec->keys, spec->key_count * sizeof(*keyed->columns));
    if (spec->initial != NULL)
        keyed->initial = mr_batch_ref(spec->initial);
    keyed->time_is_nanos =
        spec->time_column >= 0 &&
        mr_schema_field(spec->input, (uint32_t)spec->time_column)->type.id == MR_TYPE_TIMESTAMP_NS;
    MR_TRY(mr_schema_parse(spec->output, strlen(spec->output), &keyed->output, err));
    return make_key(keyed, err);
}

void mr_keyed_release(struct mr_keyed *keyed)
{
    mr_keyed_drop_batches(keyed);
    mr_schema_unref(keyed->input);
    mr_schema_unref(keyed->key);
    mr_schema_unref(keyed->output);
    mr_batch_unref(keyed->initial);
    mr_free(keyed->columns);
    mr_free(keyed->name);
    *keyed = (struct mr_keyed){0};
}

/* ---- late rows ---- */

static bool is_late(const struct mr_keyed *keyed, const struct mr_column *times, int64_t row,
                    int64_t late_us)
{
    int64_t time_us;

    if (mr_column_is_null(times, row))
        return false;
    time_us = mr_column_int(times, row);
    if (keyed->time_is_nanos)
        time_us = mr_floor_div(time_us, 1000);
    if (__builtin_add_overflow(time_us, keyed->time_add_us, &time_us))
        return keyed->time_add_us < 0;
    return time_us <= late_us;
}

/* A copy of the batch without its late rows; NULL when there are none. Returns new. */
static enum mr_status without_late(const struct mr_keyed *keyed, const struct mr_batch *batch,
                                   int64_t late_us, struct mr_batch **ret_batch, uint64_t *late,
                                   struct mr_error *err)
{
    const struct mr_column *times = mr_batch_column(batch, (uint32_t)keyed->time_column);
    int64_t count = mr_batch_row_count(batch), row = 0;
    uint32_t *kept;
    uint32_t kept_count = 0;
    enum mr_status status;

    while (row < count && !is_late(keyed, times, row, late_us))
        row++;
    *ret_batch = NULL;
    if (row == count)
        return MR_OK;
    kept = mr_alloc(NULL, (size_t)count * sizeof(*kept));
    if (kept == NULL)
        return no_memory(err);
    for (row = 0; row < count; row++) {
        if (!is_late(keyed, times, row, late_us))
            kept[kept_count++] = (uint32_t)row;
    }
    *late += (uint64_t)(count - kept_count);
    status = mr_batch_take(batch, kept, kept_count, ret_batch, err);
    mr_free(kept);
    return status;
}

void mr_keyed_drop_batches(struct mr_keyed *keyed)
{
    for (size_t i = 0; i < keyed->copy_count; i++)
        mr_batch_unref(keyed->copies[i]);
    mr_free(keyed->copies);
    mr_free(keyed->batches);
    keyed->batches = keyed->copies = NULL;
    keyed->batch_count = keyed->copy_count = 0;
}

enum mr_status mr_keyed_take_batches(struct mr_keyed *keyed, struct mr_fold_call *call,
                                     struct mr_error *err)
{
    int64_t late_us = keyed->time_column < 0 ? INT64_MIN : call->info->late_watermark_us;
    int64_t watermark_us = call->info->watermark_us;
    uint64_t late = 0;
    size_t count = 0;

    mr_keyed_drop_batches(keyed);
    keyed->batch_time_ms = mr_keyed_ms(call->info->batch_time_us);
    keyed->watermark_ms = watermark_us == INT64_MIN ? 0 : mr_keyed_ms(watermark_us);
    for (size_t i = 0; i < call->input_count; i++)
        count += call->inputs[i].present ? call->inputs[i].batch_count : 0;
    keyed->batches = mr_alloc(NULL, (count + 1) * sizeof(struct mr_batch *));
    keyed->copies = mr_alloc(NULL, (count + 1) * sizeof(struct mr_batch *));
    if (keyed->batches == NULL || keyed->copies == NULL)
        return no_memory(err);
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; call->inputs[i].present && b < call->inputs[i].batch_count; b++) {
            struct mr_batch *batch = call->inputs[i].batches[b], *copy = NULL;

            if (late_us != INT64_MIN)
                MR_TRY(without_late(keyed, batch, late_us, &copy, &late, err));
            if (copy != NULL)
                keyed->copies[keyed->copy_count++] = batch = copy;
            keyed->batches[keyed->batch_count++] = batch;
        }
    }
    if (late > 0)
        mr_output_late_rows(call->out, late);
    return MR_OK;
}

/* ---- rows by key ---- */

enum mr_status mr_keyed_rows(const struct mr_keyed *keyed, const struct mr_store *store,
                             struct mr__shards shards, struct mr__state_rows *rows,
                             struct mr_error *err)
{
    struct mr__key_columns keys = {keyed->columns, keyed->key_count};

    MR_TRY(mr__state_rows_take_keys(rows, store, shards, &keys, keyed->batches, keyed->batch_count,
                                    err));
    return mr__state_rows_group(rows, err);
}

enum mr_status mr_keyed_initial_rows(const struct mr_keyed *keyed, const struct mr_store *store,
                                     struct mr__shards shards, struct mr__state_rows *rows,
                                     struct mr_error *err)
{
    uint32_t columns[MR_COLUMNS_MAX];
    struct mr__key_columns keys = {columns, keyed->key_count};

    for (uint32_t i = 0; i < keyed->key_count; i++)
        columns[i] = i;
    MR_TRY(mr__state_rows_take_keys(rows, store, shards, &keys, &keyed->initial, 1, err));
    return mr__state_rows_group(rows, err);
}

const char *mr_keyed_group_key(const struct mr__state_rows *rows, uint32_t group, size_t *ret_bytes)
{
    return mr__state_row_key(rows, rows->sorted[rows->starts[group]].number, ret_bytes);
}

int mr_keyed_compare_groups(const struct mr__state_rows *a, uint32_t a_group,
                            const struct mr__state_rows *b, uint32_t b_group)
{
    const struct mr__hashed *a_head = &a->sorted[a->starts[a_group]];
    const struct mr__hashed *b_head = &b->sorted[b->starts[b_group]];
    size_t a_bytes, b_bytes;
    const char *a_key = mr__state_row_key(a, a_head->number, &a_bytes);
    const char *b_key = mr__state_row_key(b, b_head->number, &b_bytes);
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order;

    if (a_head->fragment != b_head->fragment)
        return a_head->fragment < b_head->fragment ? -1 : 1;
    order = common == 0 ? 0 : memcmp(a_key, b_key, common);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

enum mr_status mr_keyed_key_get(const struct mr_keyed *keyed, const char *key, size_t key_bytes,
                                struct mr_batch_builder *builder, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key, key_bytes);

    for (uint32_t i = 0; i < keyed->key_count; i++)
        MR_TRY(mr_key_decode(&bytes, &mr_schema_field(keyed->key, i)->type,
                             mr_batch_builder_column(builder, i), err));
    return MR_OK;
}

static bool next_row(struct mr_rows *rows, struct mr_row *ret_row)
{
    struct mr_keyed_iterator *iterator = (struct mr_keyed_iterator *)rows;
    struct mr__row_at at;

    if (iterator->next == mr__state_group_rows(iterator->of, iterator->group))
        return false;
    at = mr__state_group_row(iterator->of, iterator->group, iterator->next++);
    *ret_row = (struct mr_row){iterator->of->batches[at.batch], at.row};
    return true;
}

void mr_keyed_iterate(struct mr_keyed_iterator *iterator, const struct mr__state_rows *rows,
                      uint32_t group)
{
    *iterator = (struct mr_keyed_iterator){.rows.next = next_row, .of = rows, .group = group};
}

/* ---- texts ---- */

char *mr_keyed_print(const struct mr_schema *schema)
{
    return mr_schema_print(schema);
}

static const char *print_key(const struct mr_row *key, char *text)
{
    size_t need = mr_row_print(key, 0, text, KEY_TEXT_BYTES);

    return need >= KEY_TEXT_BYTES ? "..." : "";
}

enum mr_status mr_keyed_blame(const struct mr_keyed *keyed, const struct mr_row *key,
                              enum mr_status status, struct mr_error *err)
{
    char text[KEY_TEXT_BYTES];
    const char *more;

    if (status == MR_OK || err == NULL)
        return status;
    more = print_key(key, text);
    mr_error_prefix(err, "function of '%s', key '%s%s'", keyed->name, text, more);
    return status;
}

enum mr_status mr_keyed_check_size(const struct mr_keyed *keyed, const struct mr_row *key,
                                   size_t value_bytes, struct mr_error *err)
{
    return mr__state_check_size(keyed->name, key->batch, key->index, value_bytes,
                                keyed->batch_time_ms * 1000, err);
}

bool mr_keyed_any_value(struct mr_emitter *emitter, int64_t row)
{
    for (uint32_t i = 0; i < emitter->column_count; i++) {
        const struct mr_column_builder *column = mr_batch_builder_column(emitter->builder, i);

        if (row >= column->length)
            return true; /* not whole: told elsewhere */
        if (column->validity == NULL || ((column->validity[row >> 3] >> (row & 7)) & 1) != 0)
            return true;
    }
    return emitter->column_count == 0;
}
