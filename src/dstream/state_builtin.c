/*
 * Built-ins over numbers, straight on the store: sum, count, minimum, maximum of
 * update_state_by_key, running sums and counts of map_with_state.
 *
 *     1,024 rows --keys, hashes--> those of my shards --hints 32 and 16 ahead--> values in place
 *
 *     value of update_state_by_key   null bits u8 (0) | i64 or f64
 *     value of map_with_state        touched i64 | null bits u8 (0) | i64 or f64
 *
 * These are the values that the general forms would store (row_codec.h), so a program may change
 * from one form to another. Sums wrap and their wraps are counted, so a sum that leaves the range
 * of BIGINT and comes back within one batch is right, as in a wider sum.
 *
 * Thread: the partition's worker.
 */
#include "dstream/update.h"

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <math.h>
#include <string.h>

enum { CHUNK_ROWS = 1024, INT_KEY_BYTES = 9, PLAIN_BYTES = 9, TOUCHED_BYTES = 8 };

struct native {
    struct mr_store *store;
    enum mr_builtin builtin;
    struct mr__shards shards;
    bool is_double;
    int64_t touched_us;
    size_t skip_bytes; /* before the number's value form */
    const struct mr_column *key, *value;

    /* rows of the chunk that are mine */
    uint32_t count;
    struct mr_buf keys;
    size_t ends[CHUNK_ROWS + 1];
    uint64_t hashes[CHUNK_ROWS];
    int64_t rows[CHUNK_ROWS];

    struct mr_buf wraps; /* i8 direction, key block */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot update state: out of memory");
}

static enum mr_status too_large(struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
}

bool mr__native_can(const struct mr_type *value, const struct mr_type *state,
                    enum mr_builtin builtin)
{
    bool is_int = value->id >= MR_TYPE_INT8 && value->id <= MR_TYPE_UINT32;
    bool is_real = value->id == MR_TYPE_FLOAT || value->id == MR_TYPE_DOUBLE;

    switch (builtin) {
    case MR_BUILTIN_COUNT:
        return state->id == MR_TYPE_INT64;
    case MR_BUILTIN_SUM:
        return (is_int && state->id == MR_TYPE_INT64) || (is_real && state->id == MR_TYPE_DOUBLE);
    case MR_BUILTIN_MIN:
    case MR_BUILTIN_MAX:
        return value->id == state->id &&
               (value->id == MR_TYPE_INT64 || value->id == MR_TYPE_DOUBLE);
    default:
        return false;
    }
}

/* ---- keys of a chunk ---- */

static inline void keep_key(struct native *native, size_t from, int64_t row)
{
    uint64_t hash =
        mr_store_hash(native->store, native->keys.data + from, native->keys.size - from);
    unsigned shard = mr_store_shard(hash);

    if (shard < native->shards.first || shard >= native->shards.end) {
        native->keys.size = from;
        return;
    }
    native->hashes[native->count] = hash;
    native->rows[native->count++] = row;
    native->ends[native->count] = native->keys.size;
}

static inline void add_int_key(struct native *native, int64_t value)
{
    uint64_t bits = __builtin_bswap64((uint64_t)value ^ (UINT64_C(1) << 63));
    char *at = native->keys.data + native->keys.size;

    at[0] = 1;
    memcpy(at + 1, &bits, sizeof(bits));
    native->keys.size += INT_KEY_BYTES;
}

/* Rows [from, end) of the batch whose keys are mine; without null values unless they count. */
static enum mr_status collect(struct native *native, int64_t from, int64_t end,
                              struct mr_error *err)
{
    bool skip_nulls = native->value->validity != NULL && native->builtin != MR_BUILTIN_COUNT;
    bool ints = native->key->type->id == MR_TYPE_INT64 && native->key->validity == NULL;

    native->count = 0;
    mr_buf_clear(&native->keys);
    native->ends[0] = 0;
    if (!mr_buf_reserve(&native->keys, CHUNK_ROWS * INT_KEY_BYTES))
        return no_memory(err);
    for (int64_t row = from; row < end; row++) {
        size_t before = native->keys.size;

        if (skip_nulls && mr_column_is_null(native->value, row))
            continue;
        if (ints)
            add_int_key(native, ((const int64_t *)native->key->values)[row]);
        else
            mr_key_encode(&native->keys, native->key, row);
        if (native->keys.failed)
            return no_memory(err);
        keep_key(native, before, row);
    }
    return MR_OK;
}

/* ---- numbers ---- */

static inline double value_double(const struct native *native, int64_t row)
{
    if (native->value->type->id == MR_TYPE_DOUBLE)
        return ((const double *)native->value->values)[row];
    return mr_column_double(native->value, row);
}

static inline int64_t value_int(const struct native *native, int64_t row)
{
    if (native->builtin == MR_BUILTIN_COUNT)
        return 1;
    if (native->value->type->id == MR_TYPE_INT64)
        return ((const int64_t *)native->value->values)[row];
    return mr_column_int(native->value, row);
}

/* In the order of row_codec keys: NaN is the greatest, -0.0 is 0.0. */
static bool is_better_double(bool wants_max, double best, double next)
{
    if (isnan(best) || isnan(next))
        return wants_max ? isnan(next) && !isnan(best) : isnan(best) && !isnan(next);
    return wants_max ? next > best : next < best;
}

static void note_wrap(struct native *native, uint32_t i, int direction)
{
    mr_buf_add_u8(&native->wraps, (uint8_t)(direction + 1));
    mr_buf_add_block(&native->wraps, native->keys.data + native->ends[i],
                     native->ends[i + 1] - native->ends[i]);
}

static void update_double(const struct native *native, uint32_t i, bool created, char *at)
{
    double next = value_double(native, native->rows[i]), state;

    memcpy(&state, at, sizeof(state));
    if (native->builtin == MR_BUILTIN_SUM)
        state += next; /* a new one is 0 */
    else if (created || is_better_double(native->builtin == MR_BUILTIN_MAX, state, next))
        state = next;
    memcpy(at, &state, sizeof(state));
}

static inline void update_int(struct native *native, uint32_t i, bool created, char *at)
{
    int64_t next = value_int(native, native->rows[i]), state;

    memcpy(&state, at, sizeof(state));
    if (created)
        state = next;
    else if (native->builtin == MR_BUILTIN_MIN)
        state = MR_MIN(state, next);
    else if (native->builtin == MR_BUILTIN_MAX)
        state = MR_MAX(state, next);
    else if (__builtin_add_overflow(state, next, &state))
        note_wrap(native, i, next > 0 ? 1 : -1);
    memcpy(at, &state, sizeof(state));
}

/* The value of row i of the chunk brought up to date; *ret_number is where its number is. */
static inline enum mr_status update_row(struct native *native, uint32_t i, char **ret_number,
                                        struct mr_error *err)
{
    enum { FAR = 32, NEAR = 16 };
    bool created = false;
    char *value = NULL;

    if (i + FAR < native->count)
        mr_store_hint(native->store, native->hashes[i + FAR], 0);
    if (i + NEAR < native->count)
        mr_store_hint(native->store, native->hashes[i + NEAR], 1);
    MR_TRY(mr_store_upsert_hashed(native->store, native->hashes[i],
                                  native->keys.data + native->ends[i],
                                  native->ends[i + 1] - native->ends[i],
                                  native->skip_bytes + PLAIN_BYTES, &value, &created, err));
    if (native->skip_bytes > 0)
        memcpy(value, &native->touched_us, TOUCHED_BYTES);
    value += native->skip_bytes + 1; /* the null bits are 0 */
    if (native->is_double)
        update_double(native, i, created, value);
    else
        update_int(native, i, created, value);
    *ret_number = value;
    return MR_OK;
}

/* What all wraps of a key come to. */
static int sum_wraps(const struct native *native, const char *key, size_t key_bytes)
{
    struct mr_bytes bytes = mr_bytes_of(native->wraps.data, native->wraps.size);
    int sum = 0;

    while (mr_bytes_left(&bytes) > 0) {
        int direction = (int)mr_bytes_u8(&bytes) - 1;
        size_t other_bytes;
        const char *other = mr_bytes_block(&bytes, &other_bytes);

        if (other_bytes == key_bytes && memcmp(other, key, key_bytes) == 0)
            sum += direction;
    }
    return sum;
}

/* Every wrap must have been undone within the batch; very many are not worth finding out. */
static enum mr_status check_wraps(const struct native *native, struct mr_error *err)
{
    enum { WRAPS_BYTES_MAX = 64 * 1024 };
    struct mr_bytes bytes = mr_bytes_of(native->wraps.data, native->wraps.size);
    bool fits = native->wraps.size <= WRAPS_BYTES_MAX;

    if (native->wraps.failed)
        return no_memory(err);
    while (fits && mr_bytes_left(&bytes) > 0) {
        size_t key_bytes;
        const char *key;

        (void)mr_bytes_u8(&bytes);
        key = mr_bytes_block(&bytes, &key_bytes);
        fits = sum_wraps(native, key, key_bytes) == 0;
    }
    return fits ? MR_OK : too_large(err);
}

/* ---- update_state_by_key ---- */

static enum mr_status update_batch(struct native *native, const struct mr_batch *batch,
                                   struct mr_error *err)
{
    int64_t total = mr_batch_row_count(batch);
    char *number;

    native->key = mr_batch_column(batch, 0);
    native->value = mr_batch_column(batch, 1);
    for (int64_t from = 0; from < total; from += CHUNK_ROWS) {
        MR_TRY(collect(native, from, MR_MIN(from + CHUNK_ROWS, total), err));
        for (uint32_t i = 0; i < native->count; i++)
            MR_TRY(update_row(native, i, &number, err));
    }
    return MR_OK;
}

static enum mr_status native_new(struct mr_store *store, enum mr_builtin builtin,
                                 const struct mr_type *state, struct mr__shards shards,
                                 struct native **ret_native, struct mr_error *err)
{
    struct native *native = mr_alloc_zero(NULL, sizeof(*native));

    if (native == NULL)
        return no_memory(err);
    native->store = store;
    native->builtin = builtin;
    native->shards = shards;
    native->is_double = state->id == MR_TYPE_DOUBLE;
    *ret_native = native;
    return MR_OK;
}

static void native_free(struct native *native)
{
    mr_buf_release(&native->keys);
    mr_buf_release(&native->wraps);
    mr_free(native);
}

enum mr_status mr__native_update(struct mr_store *store, enum mr_builtin builtin,
                                 const struct mr_schema *output, struct mr__shards shards,
                                 struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];
    struct native *native;
    enum mr_status status = MR_OK;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        mr_store_tidy_shard(store, shard);
    MR_TRY(native_new(store, builtin, mr__column_type(output, 1), shards, &native, err));
    for (size_t i = 0; i < input->batch_count && status == MR_OK; i++)
        status = update_batch(native, input->batches[i], err);
    if (status == MR_OK)
        status = check_wraps(native, err);
    native_free(native);
    MR_TRY(status);
    return mr__emit_all_states(store, output, 0, shards, call->out, err);
}

/* ---- map_with_state ---- */

/* (key, running value) of the chunk's rows. */
static enum mr_status run_chunk(struct native *native, struct mr_batch_builder *builder,
                                struct mr_error *err)
{
    struct mr_column_builder *keys = mr_batch_builder_column(builder, 0);
    struct mr_column_builder *states = mr_batch_builder_column(builder, 1);
    bool ints = native->key->type->id == MR_TYPE_INT64 && native->key->validity == NULL;

    MR_TRY(mr_column_builder_reserve(states, native->count, 0, err));
    if (ints)
        MR_TRY(mr_column_builder_reserve(keys, native->count, 0, err));
    for (uint32_t i = 0; i < native->count; i++) {
        int64_t bits;
        char *number;

        MR_TRY(update_row(native, i, &number, err));
        memcpy(&bits, number, sizeof(bits));
        mr_column_builder_i64(states, bits);
        if (ints)
            mr_column_builder_i64(keys, ((const int64_t *)native->key->values)[native->rows[i]]);
        else
            MR_TRY(mr_column_builder_copy(keys, native->key, native->rows[i], err));
    }
    if (native->wraps.size > 0 || native->wraps.failed) /* each value is put out: none may wrap */
        return too_large(err);
    return mr_batch_builder_rows_added(builder, native->count, err);
}

static enum mr_status run_batch(struct native *native, const struct mr_batch *batch,
                                const struct mr_schema *output, struct mr_output *out,
                                struct mr_error *err)
{
    int64_t total = mr_batch_row_count(batch);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    native->key = mr_batch_column(batch, 0);
    native->value = mr_batch_column(batch, 1);
    MR_TRY_GOTO(mr_batch_builder_new(output, &builder, err));
    for (int64_t from = 0; from < total; from += CHUNK_ROWS) {
        MR_TRY_GOTO(collect(native, from, MR_MIN(from + CHUNK_ROWS, total), err));
        MR_TRY_GOTO(run_chunk(native, builder, err));
    }
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &result, err));
    status = mr_output_emit(out, result, err);
done:
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr__native_running(struct mr_store *store, enum mr_builtin builtin,
                                  const struct mr_schema *output, struct mr__shards shards,
                                  struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];
    struct native *native;
    enum mr_status status = MR_OK;

    MR_TRY(native_new(store, builtin, mr__column_type(output, 1), shards, &native, err));
    native->skip_bytes = TOUCHED_BYTES;
    native->touched_us = call->info->batch_time_us;
    for (size_t i = 0; i < input->batch_count && status == MR_OK; i++)
        status = run_batch(native, input->batches[i], output, call->out, err);
    native_free(native);
    return status;
}
