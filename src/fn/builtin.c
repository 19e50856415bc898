/*
 * Built-in functions, native: a pair with 1, and sum, min, max of two values (words: words.c).
 *
 * Thread: the evaluating worker's; nothing is kept.
 */
#include "fn/fn.h"

#include "data/batch_internal.h"
#include "data/codec.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

/* ---- (value, 1) ---- */

struct paired {
    struct mr_batch *batch; /* owns the key column */
    int64_t *ones;
};

static void paired_free(void *owner)
{
    struct paired *paired = owner;

    mr_batch_unref(paired->batch);
    mr_free(paired->ones);
    mr_free(paired);
}

enum mr_status mr__pair_with_one(const struct mr_batch *batch, const struct mr_schema *output,
                                 struct mr_batch **ret_batch, struct mr_error *err)
{
    int32_t value = mr_schema_find(mr_batch_schema(batch), "value", 5);
    int64_t rows = mr_batch_row_count(batch);
    struct paired *paired = mr_alloc_zero(NULL, sizeof(*paired));
    struct mr_column columns[2];

    MR_ASSERT(value >= 0);
    if (paired != NULL)
        paired->ones = mr_alloc_aligned(NULL, ((size_t)rows + 1) * sizeof(int64_t));
    if (paired == NULL || paired->ones == NULL) {
        mr_free(paired);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    paired->batch = mr_batch_ref(batch);
    for (int64_t i = 0; i < rows; i++)
        paired->ones[i] = 1;
    columns[0] = *mr_batch_column(batch, (uint32_t)value);
    columns[1] = (struct mr_column){
        .type = mr__column_type(output, 1),
        .length = rows,
        .values = paired->ones,
    };
    return mr_batch_wrap(output, columns, rows, paired, paired_free, ret_batch, err);
}

/* ---- two values to one ---- */

struct two {
    const struct mr_column *a;
    const struct mr_column *b;
    struct mr_batch_builder *out;
};

static enum mr_status overflow(struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
}

/* a + b, or a - b, in the type of the result. */
static enum mr_status add(const struct two *two, int64_t row, bool inverse, struct mr_error *err)
{
    const struct mr_type *type = two->a->type;

    if (type->id == MR_TYPE_DOUBLE) {
        double b = mr_column_double(two->b, row);
        mr_batch_builder_double(two->out, 0, mr_column_double(two->a, row) + (inverse ? -b : b));
    } else if (type->id == MR_TYPE_DECIMAL) {
        mr_int128 a = mr_column_decimal(two->a, row), b = mr_column_decimal(two->b, row), sum;
        if (inverse ? __builtin_sub_overflow(a, b, &sum) : __builtin_add_overflow(a, b, &sum))
            return overflow(err);
        mr_batch_builder_decimal(two->out, 0, sum);
    } else {
        int64_t a = mr_column_int(two->a, row), b = mr_column_int(two->b, row), sum;
        if (inverse ? __builtin_sub_overflow(a, b, &sum) : __builtin_add_overflow(a, b, &sum))
            return overflow(err);
        mr_batch_builder_int(two->out, 0, sum);
    }
    return MR_OK;
}

/* Key bytes order like the values, whatever the type; objects as their codec orders them. */
static bool first_is_better(const struct two *two, int64_t row, bool wants_max,
                            struct mr_buf scratch[2])
{
    size_t common;
    int order;

    if (two->a->type->extension != NULL) {
        order = mr__object_compare(two->a->type, mr_column_text(two->a, row),
                                   mr_column_text(two->b, row));
        return wants_max ? order >= 0 : order <= 0;
    }
    mr_buf_clear(&scratch[0]);
    mr_buf_clear(&scratch[1]);
    mr_key_encode(&scratch[0], two->a, row);
    mr_key_encode(&scratch[1], two->b, row);
    common = MR_MIN(scratch[0].size, scratch[1].size);
    order = common == 0 ? 0 : memcmp(scratch[0].data, scratch[1].data, common);
    if (order == 0)
        order = (scratch[0].size > common) - (scratch[1].size > common);
    return wants_max ? order >= 0 : order <= 0;
}

static enum mr_status combine_row(enum mr_builtin builtin, bool inverse, const struct two *two,
                                  int64_t row, struct mr_buf scratch[2], struct mr_error *err)
{
    if (mr_column_is_null(two->b, row) || mr_column_is_null(two->a, row)) {
        mr_batch_builder_copy(two->out, 0, mr_column_is_null(two->b, row) ? two->a : two->b, row);
        return MR_OK;
    }
    if (builtin == MR_BUILTIN_SUM || builtin == MR_BUILTIN_COUNT)
        return add(two, row, inverse, err);
    MR_ASSERT(!inverse);
    mr_batch_builder_copy(
        two->out, 0,
        first_is_better(two, row, builtin == MR_BUILTIN_MAX, scratch) ? two->a : two->b, row);
    return scratch[0].failed || scratch[1].failed ? MR_FAIL(err, MR_NOMEM, "out of memory") : MR_OK;
}

enum mr_status mr__builtin_pairs(enum mr_builtin builtin, bool inverse, const struct mr_batch *a,
                                 const struct mr_batch *b, const struct mr_schema *output,
                                 struct mr_batch **ret_batch, struct mr_error *err)
{
    struct two two = {mr_batch_column(a, 0), mr_batch_column(b, 0), NULL};
    struct mr_buf scratch[2] = {MR_BUF_INIT, MR_BUF_INIT};
    int64_t rows = mr_batch_row_count(a);
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(output, &two.out, err));
    for (int64_t row = 0; row < rows; row++) {
        MR_TRY_GOTO(combine_row(builtin, inverse, &two, row, scratch, err));
        mr_batch_builder_end_row(two.out);
    }
    status = mr_batch_builder_finish(two.out, ret_batch, err);
done:
    mr_batch_builder_free(two.out);
    mr_buf_release(&scratch[0]);
    mr_buf_release(&scratch[1]);
    return status;
}

/* ---- update_state_by_key ---- */

/* One key's part of rows (key, values, state). */
struct key_values {
    const struct mr_column *items;
    int32_t from; /* items [from, to) are its values */
    int32_t to;
    const struct mr_column *state;
    int64_t row; /* of the state */
};

static enum mr_status update_sum(const struct key_values *key, bool counts,
                                 struct mr_batch_builder *out, struct mr_error *err)
{
    const struct mr_type *type = key->state->type;
    bool any = !mr_column_is_null(key->state, key->row);
    mr_int128 whole = 0;
    double real = 0;

    if (any && type->id == MR_TYPE_DOUBLE)
        real = mr_column_double(key->state, key->row);
    else if (any)
        whole = type->id == MR_TYPE_DECIMAL ? mr_column_decimal(key->state, key->row)
                                            : mr_column_int(key->state, key->row);
    for (int32_t i = key->from; i < key->to; i++) {
        if (!counts && mr_column_is_null(key->items, i))
            continue;
        any = true;
        if (counts)
            whole++;
        else if (type->id == MR_TYPE_DOUBLE)
            real += mr_column_double(key->items, i);
        else if (__builtin_add_overflow(whole,
                                        type->id == MR_TYPE_DECIMAL
                                            ? mr_column_decimal(key->items, i)
                                            : (mr_int128)mr_column_int(key->items, i),
                                        &whole))
            return overflow(err);
    }
    if (!any)
        mr_batch_builder_null(out, 0);
    else if (type->id == MR_TYPE_DOUBLE)
        mr_batch_builder_double(out, 0, real);
    else if (type->id == MR_TYPE_DECIMAL)
        mr_batch_builder_decimal(out, 0, whole);
    else if (whole < INT64_MIN || whole > INT64_MAX)
        return overflow(err);
    else
        mr_batch_builder_int(out, 0, (int64_t)whole);
    return MR_OK;
}

/* Key bytes of one value and the next, the better of two so far. */
struct best {
    const struct mr_column *from; /* where it is; NULL: there is none yet */
    int64_t at;
    struct mr_buf bytes;
    struct mr_buf next;
};

/* Objects of the program are compared by their codec, other values by their key bytes. */
static void take_better(struct best *best, const struct mr_column *column, int64_t row,
                        bool wants_max)
{
    size_t common;
    int order;

    if (mr_column_is_null(column, row))
        return;
    mr_buf_clear(&best->next);
    mr_key_encode(&best->next, column, row);
    common = MR_MIN(best->bytes.size, best->next.size);
    order = common == 0 ? 0 : memcmp(best->next.data, best->bytes.data, common);
    if (order == 0)
        order = (best->next.size > common) - (best->bytes.size > common);
    if (best->from != NULL && column->type->extension != NULL)
        order = mr__object_compare(column->type, mr_column_text(column, row),
                                   mr_column_text(best->from, best->at));
    if (best->from == NULL || (wants_max ? order > 0 : order < 0)) {
        struct mr_buf swap = best->bytes;
        best->bytes = best->next;
        best->next = swap;
        best->from = column;
        best->at = row;
    }
}

/* The least or greatest of the state and the values. */
static enum mr_status update_best(const struct key_values *key, bool wants_max,
                                  struct mr_batch_builder *out, struct mr_error *err)
{
    struct best best = {.bytes = MR_BUF_INIT, .next = MR_BUF_INIT};
    enum mr_status status = MR_OK;

    take_better(&best, key->state, key->row, wants_max);
    for (int32_t i = key->from; i < key->to; i++)
        take_better(&best, key->items, i, wants_max);
    if (best.bytes.failed || best.next.failed)
        status = MR_FAIL(err, MR_NOMEM, "out of memory");
    else if (best.from == NULL)
        mr_batch_builder_null(out, 0);
    else
        mr_batch_builder_copy(out, 0, best.from, best.at);
    mr_buf_release(&best.bytes);
    mr_buf_release(&best.next);
    return status;
}

enum mr_status mr__builtin_update(enum mr_builtin builtin, const struct mr_batch *rows,
                                  const struct mr_schema *output, struct mr_batch **ret_states,
                                  struct mr_error *err)
{
    const struct mr_column *values = mr_batch_column(rows, 1);
    struct key_values key = {.items = &values->children[0], .state = mr_batch_column(rows, 2)};
    bool adds = builtin == MR_BUILTIN_SUM || builtin == MR_BUILTIN_COUNT;
    struct mr_batch_builder *out = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(output, &out, err));
    for (key.row = 0; key.row < mr_batch_row_count(rows); key.row++) {
        key.from = values->offsets[key.row];
        key.to = values->offsets[key.row + 1];
        if (adds)
            MR_TRY_GOTO(update_sum(&key, builtin == MR_BUILTIN_COUNT, out, err));
        else
            MR_TRY_GOTO(update_best(&key, builtin == MR_BUILTIN_MAX, out, err));
        mr_batch_builder_end_row(out);
    }
    status = mr_batch_builder_finish(out, ret_states, err);
done:
    mr_batch_builder_free(out);
    return status;
}
