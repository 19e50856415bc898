/*
 * Emitters: where C functions put their results (mr_emit_*).
 *
 *     mr_emit_str(out, ...)                       one column: a whole row
 *     mr_emit_str(out, ...); mr_emit_int(out, 1); mr_emit_end(out);       several columns, in order
 *     mr_batch_builder_...(mr_emit_builder(out), ...); mr_emit_end(out);  any types
 *
 * Mistakes of a function (a wrong type, half a row, mr_emit_fail) stick and come out of
 * mr__emitter_check and _finish, so that no emitting call needs a check.
 *
 * Thread: the evaluating worker's.
 */
#include "base/limits.h"
#include "fn/fn.h"

#include <millrace/codec.h>
#include <millrace/ext/builder.h>

#include <stdio.h>

enum { VALUES_BYTES_MAX = MR_LIMIT_DSTREAM_EMITTED }; /* of what one call may emit */

enum mr_status mr__emitter_init(struct mr_emitter *emitter, const struct mr_schema *schema,
                                struct mr_error *err)
{
    *emitter = (struct mr_emitter){.column_count = mr_schema_field_count(schema)};
    MR_TRY(mr_batch_builder_new(schema, &emitter->builder, err));
    if (emitter->column_count > 0)
        emitter->columns = mr_batch_builder_column(emitter->builder, 0);
    return MR_OK;
}

void mr__emitter_release(struct mr_emitter *emitter)
{
    mr_batch_builder_free(emitter->builder);
    emitter->builder = NULL;
}

int64_t mr__emitter_rows(const struct mr_emitter *emitter)
{
    return mr_batch_builder_row_count(emitter->builder) + emitter->pending;
}

/* Tells the builder of the rows that the shorthands made. When a value of theirs failed to append,
 * the builder has kept why, and says so when it is finished. */
static void tell_builder(struct mr_emitter *emitter)
{
    if (emitter->pending > 0)
        (void)mr_batch_builder_rows_added(emitter->builder, emitter->pending, NULL);
    emitter->pending = 0;
}

void mr__emitter_null(struct mr_emitter *emitter)
{
    tell_builder(emitter);
    mr_batch_builder_null(emitter->builder, 0);
    mr_batch_builder_end_row(emitter->builder);
}

static void fail(struct mr_emitter *emitter, const char *text)
{
    if (emitter->failed)
        return;
    emitter->failed = true;
    snprintf(emitter->text, sizeof(emitter->text), "%s", text);
}

/* The column that the next value belongs to; false when the row is full already. */
static bool next_column(struct mr_emitter *emitter, uint32_t *ret_column)
{
    if (emitter->failed)
        return false;
    if (emitter->column >= emitter->column_count) {
        fail(emitter, "the function emits more values than the row has columns; call mr_emit_end "
                      "after each row");
        return false;
    }
    *ret_column = emitter->column++;
    return true;
}

/* A row of one column is complete with its value. */
static void end_if_whole(struct mr_emitter *emitter)
{
    if (emitter->column_count == 1) {
        emitter->column = 0;
        emitter->pending++;
    }
}

/* A call that never stops emitting is stopped by a limit, not by the end of all memory. Called when
 * a column must grow. */
static bool may_grow(struct mr_emitter *emitter)
{
    if (mr_batch_builder_bytes(emitter->builder) <= VALUES_BYTES_MAX)
        return true;
    fail(emitter,
         "the function emits more than 2 GiB for one batch of elements; emit less, or make "
         "batches smaller");
    return false;
}

/* The common types go straight into their column while it has room. */
static void add_text(struct mr_emitter *out, uint32_t column, const char *data, size_t size_bytes)
{
    struct mr_column_builder *to = &out->columns[column];
    bool is_text = to->type->id == MR_TYPE_TEXT || to->type->id == MR_TYPE_BINARY;

    if (is_text && to->length < to->capacity && size_bytes > 0 &&
        size_bytes <= to->bytes_capacity - to->bytes_used)
        mr_column_builder_bytes(to, data, size_bytes);
    else if (may_grow(out))
        mr_batch_builder_text(out->builder, column, data, size_bytes);
}

static void add_int(struct mr_emitter *out, uint32_t column, int64_t value)
{
    struct mr_column_builder *to = &out->columns[column];

    if (to->type->id == MR_TYPE_INT64 && to->length < to->capacity)
        mr_column_builder_i64(to, value);
    else if (may_grow(out))
        mr_batch_builder_int(out->builder, column, value);
}

void mr_emit_str(struct mr_emitter *out, const char *data, size_t size_bytes)
{
    uint32_t column;

    if (!next_column(out, &column))
        return;
    add_text(out, column, data, size_bytes);
    end_if_whole(out);
}

void mr_emit_int(struct mr_emitter *out, int64_t value)
{
    uint32_t column;

    if (!next_column(out, &column))
        return;
    add_int(out, column, value);
    end_if_whole(out);
}

void mr_emit_double(struct mr_emitter *out, double value)
{
    uint32_t column;

    if (!next_column(out, &column))
        return;
    mr_batch_builder_double(out->builder, column, value);
    end_if_whole(out);
}

void mr_emit_bytes(struct mr_emitter *out, const void *data, size_t size_bytes)
{
    mr_emit_str(out, data, size_bytes);
}

void mr_emit_null(struct mr_emitter *out)
{
    uint32_t column;

    if (!next_column(out, &column))
        return;
    mr_batch_builder_null(out->builder, column);
    end_if_whole(out);
}

void mr_emit_value(struct mr_emitter *out, struct mr_value value)
{
    uint32_t column;

    if (mr_value_is_null(value)) {
        mr_emit_null(out);
        return;
    }
    if (!next_column(out, &column))
        return;
    if (!mr_type_equal(mr_batch_builder_column(out->builder, column)->type, value.column->type)) {
        fail(out, "mr_emit_value copies a value of another type than its column has");
        return;
    }
    mr_batch_builder_copy(out->builder, column, value.column, value.index);
    end_if_whole(out);
}

void mr_emit_object(struct mr_emitter *out, const void *object)
{
    uint32_t column;

    if (!next_column(out, &column))
        return;
    mr_batch_builder_object(out->builder, column, object);
    end_if_whole(out);
}

/* A shorthand for a whole pair; false when it cannot be one. */
static bool begin_pair(struct mr_emitter *out)
{
    if (out->column_count != 2 || out->column != 0)
        fail(out, "mr_emit_pair_... emits a whole pair; the result of this function is not a pair, "
                  "or half of one was emitted");
    return !out->failed;
}

void mr_emit_pair_int_int(struct mr_emitter *out, int64_t key, int64_t value)
{
    if (!begin_pair(out))
        return;
    add_int(out, 0, key);
    add_int(out, 1, value);
    out->pending++;
}

void mr_emit_pair_str_str(struct mr_emitter *out, const char *key, size_t key_bytes,
                          const char *value, size_t value_bytes)
{
    if (!begin_pair(out))
        return;
    add_text(out, 0, key, key_bytes);
    add_text(out, 1, value, value_bytes);
    out->pending++;
}

void mr_emit_pair_str_int(struct mr_emitter *out, const char *key, size_t key_bytes, int64_t value)
{
    if (!begin_pair(out))
        return;
    add_text(out, 0, key, key_bytes);
    add_int(out, 1, value);
    out->pending++;
}

struct mr_batch_builder *mr_emit_builder(struct mr_emitter *out)
{
    tell_builder(out);
    return out->builder;
}

void mr_emit_end(struct mr_emitter *out)
{
    if (out->failed)
        return;
    if (out->column != 0 && out->column != out->column_count) {
        fail(out, "the function ends a row that lacks columns; emit one value per column");
        return;
    }
    if (out->column != 0) {
        out->column = 0;
        out->pending++;
        return;
    }
    /* After a shorthand the row of one column is complete already: there is nothing to end. */
    if (out->column_count == 1 && out->columns[0].length == mr__emitter_rows(out))
        return;
    tell_builder(out);
    mr_batch_builder_end_row(out->builder);
}

void mr_emit_fail(struct mr_emitter *out, const char *format, ...)
{
    char text[MR_ERROR_TEXT_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fail(out, text);
}

enum mr_status mr__emitter_check(struct mr_emitter *emitter, struct mr_error *err)
{
    if (!emitter->failed && emitter->column != 0)
        fail(emitter, "the function left a row without mr_emit_end");
    if (emitter->failed)
        return MR_FAIL(err, MR_USER, "%s", emitter->text);
    return MR_OK;
}

enum mr_status mr__emitter_count_is_wrong(struct mr_emitter *emitter, const char *name,
                                          const char *wants, struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    /* A value that could not be appended is the reason, and has a better text. */
    tell_builder(emitter);
    MR_TRY(mr_batch_builder_finish(emitter->builder, &batch, err));
    mr_batch_unref(batch);
    return MR_FAIL(err, MR_USER, "'%s' must emit %s", name, wants);
}

enum mr_status mr__emitter_finish(struct mr_emitter *emitter, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    MR_TRY(mr__emitter_check(emitter, err));
    tell_builder(emitter);
    MR_TRY(mr_batch_builder_finish(emitter->builder, ret_batch, err));
    if (emitter->column_count > 0) /* the builder has new ones */
        emitter->columns = mr_batch_builder_column(emitter->builder, 0);
    return MR_OK;
}
