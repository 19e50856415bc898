/*
 * Results of aggregates from the buffers of a group.
 *
 *     key bytes | buffers   -->   a row: key columns, then one value an aggregate
 *
 * Called by the fold when groups are emitted, by windows of DStreams and by inspectors of state.
 * Threads: any; a layout is read-only.
 */
#include "ops/aggregate.h"

#include "data/row_codec.h"
#include "ops/ordinal.h"

#include <inttypes.h>
#include <math.h>

/* A column of BIGINTs: nothing to check but the room. */
static inline enum mr_status add_int64(struct mr_column_builder *out, int64_t value,
                                       struct mr_error *err)
{
    if (out->length == out->capacity)
        MR_TRY(mr_column_builder_reserve(out, 1, 0, err));
    mr_column_builder_i64(out, value);
    return MR_OK;
}

enum mr_status mr_agg_emit_int_sum(const struct mr_agg_slot *slot, mr_int128 sum,
                                   struct mr_column_builder *out, struct mr_error *err)
{
    mr_int128 limit = (mr_int128)UINT64_C(10000000000000000000);

    limit *= limit; /* 10^38 */
    if (slot->type.id == MR_TYPE_DECIMAL) {
        if (sum >= limit || sum <= -limit)
            return mr_agg_sum_overflow(slot, err);
        return mr_column_builder_decimal(out, sum, err);
    }
    if (sum > INT64_MAX || sum < INT64_MIN)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot emit the sum of '%s': it does not fit a BIGINT; cast its argument "
                       "to DECIMAL(38,0) or DOUBLE",
                       slot->identity);
    return add_int64(out, (int64_t)sum, err);
}

static enum mr_status emit_sum(const struct mr_agg_slot *slot, const char *at,
                               struct mr_column_builder *out, struct mr_error *err)
{
    if (slot->kind == MR_SLOT_SUM_FLOAT) {
        double error = mr_load_f64(at + 8);
        return mr_column_builder_double(out, mr_load_f64(at) + error, err);
    }
    return mr_agg_emit_int_sum(slot, mr_load_i128(at), out, err);
}

static enum mr_status emit_avg(const struct mr_agg_slot *slot, const char *at,
                               struct mr_column_builder *out, struct mr_error *err)
{
    long double count = (long double)mr_load_i64(at + 16);

    if (slot->kind == MR_SLOT_SUM_FLOAT) {
        double sum = mr_load_f64(at) + mr_load_f64(at + 8);
        return mr_column_builder_double(out, sum / (double)count, err);
    }
    for (uint32_t i = 0; slot->type.id == MR_TYPE_DECIMAL && i < slot->type.scale; i++)
        count *= 10;
    return mr_column_builder_double(out, (double)((long double)mr_load_i128(at) / count), err);
}

static enum mr_status emit_best(const struct mr_agg_slot *slot, const char *at,
                                struct mr_column_builder *out, struct mr_error *err)
{
    if (slot->kind == MR_SLOT_BEST_128)
        return mr_column_builder_decimal(out, mr_load_i128(at + 1), err);
    int64_t ordinal = mr_load_i64(at + 1);
    switch (slot->type.id) {
    case MR_TYPE_BOOL:
        return mr_column_builder_bool(out, ordinal != 0, err);
    case MR_TYPE_UINT64:
        return mr_column_builder_uint(out, mr_ordinal_to_uint(ordinal), err);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        return mr_column_builder_double(out, mr_ordinal_to_double(ordinal), err);
    default:
        return mr_column_builder_int(out, ordinal, err);
    }
}

static enum mr_status emit_bits(const struct mr_agg_slot *slot, const char *at,
                                struct mr_column_builder *out, struct mr_error *err)
{
    uint64_t bits = mr_load_u64(at + 1);

    return slot->is_unsigned ? mr_column_builder_uint(out, bits, err)
                             : mr_column_builder_int(out, (int64_t)bits, err);
}

/* The deviations of a MOMENTS slot; NAN has no meaning of its own here: null. */
static enum mr_status emit_moments(enum mr_agg_kind kind, const char *at,
                                   struct mr_column_builder *out, struct mr_error *err)
{
    int64_t count = mr_load_i64(at);
    double squares = mr_load_f64(at + 16);
    bool sample = kind == MR_AGG_STDDEV_SAMP || kind == MR_AGG_VAR_SAMP;
    double variance;

    if (count < (sample ? 2 : 1))
        return mr_column_builder_null(out, err);
    variance = squares / (double)(sample ? count - 1 : count);
    if (kind == MR_AGG_VAR_SAMP || kind == MR_AGG_VAR_POP)
        return mr_column_builder_double(out, variance, err);
    if (kind == MR_AGG_SEM)
        return mr_column_builder_double(out, sqrt(variance) / sqrt((double)count), err);
    return mr_column_builder_double(out, sqrt(variance), err);
}

/* Two-argument aggregates are of (y, x). */
static enum mr_status emit_comoments(enum mr_agg_kind kind, const char *at,
                                     struct mr_column_builder *out, struct mr_error *err)
{
    int64_t count = mr_load_i64(at);
    double n = (double)count;
    double mean_y = mr_load_f64(at + 8), mean_x = mr_load_f64(at + 16);
    double squares_y = mr_load_f64(at + 24), squares_x = mr_load_f64(at + 32);
    double products = mr_load_f64(at + 40);
    double slope = products / squares_x;

    if (kind == MR_AGG_REGR_COUNT)
        return mr_column_builder_int(out, count, err);
    if (count < (kind == MR_AGG_COVAR_SAMP ? 2 : 1))
        return mr_column_builder_null(out, err);
    switch (kind) {
    case MR_AGG_COVAR_SAMP:
        return mr_column_builder_double(out, products / (n - 1), err);
    case MR_AGG_COVAR_POP:
        return mr_column_builder_double(out, products / n, err);
    case MR_AGG_CORR:
        return mr_column_builder_double(out, products / (sqrt(squares_y) * sqrt(squares_x)), err);
    case MR_AGG_REGR_AVGX:
        return mr_column_builder_double(out, mean_x, err);
    case MR_AGG_REGR_AVGY:
        return mr_column_builder_double(out, mean_y, err);
    case MR_AGG_REGR_SXX:
        return mr_column_builder_double(out, squares_x, err);
    case MR_AGG_REGR_SYY:
        return mr_column_builder_double(out, squares_y, err);
    case MR_AGG_REGR_SXY:
        return mr_column_builder_double(out, products, err);
    default:
        break;
    }
    if (squares_x == 0)
        return mr_column_builder_null(out, err);
    if (kind == MR_AGG_REGR_SLOPE)
        return mr_column_builder_double(out, slope, err);
    if (kind == MR_AGG_REGR_INTERCEPT)
        return mr_column_builder_double(out, mean_y - slope * mean_x, err);
    if (squares_y == 0)
        return mr_column_builder_double(out, 1, err);
    return mr_column_builder_double(out, slope * (products / squares_y), err);
}

/* The byte string of a wide slot. */
static struct mr_slice bytes_of_slot(const struct mr_agg_layout *layout, const char *buffers,
                                     uint32_t slot_index)
{
    const char *at = buffers + layout->fixed_bytes;

    for (uint32_t i = 0; i < slot_index; i++)
        if (mr_slot_is_wide(layout->slots[i].kind))
            at += mr_load_u32(buffers + layout->slots[i].offset + 1);
    return (struct mr_slice){at, mr_load_u32(buffers + layout->slots[slot_index].offset + 1)};
}

static bool counts(enum mr_agg_kind kind)
{
    return kind == MR_AGG_COUNT_DISTINCT || kind == MR_AGG_APPROX_COUNT_DISTINCT;
}

static enum mr_status emit_flagged(const struct mr_agg_layout *layout,
                                   const struct mr_agg_result *result, const char *buffers,
                                   struct mr_column_builder *out, struct mr_error *err)
{
    const struct mr_agg_slot *slot = &layout->slots[result->slot];
    const char *at = buffers + slot->offset;

    if (*at == 0)
        return counts(result->kind) ? mr_column_builder_int(out, 0, err)
                                    : mr_column_builder_null(out, err);
    if (mr_slot_is_wide(slot->kind))
        return mr_wide_emit(slot, result->kind, result->fraction,
                            bytes_of_slot(layout, buffers, result->slot), out, err);
    return slot->kind == MR_SLOT_BITS ? emit_bits(slot, at, out, err)
                                      : emit_best(slot, at, out, err);
}

static enum mr_status emit_result(const struct mr_agg_layout *layout, uint32_t index,
                                  const char *buffers, struct mr_column_builder *out,
                                  struct mr_error *err)
{
    const struct mr_agg_result *result = &layout->results[index];

    if (result->kind == MR_AGG_COUNT_ALL)
        return add_int64(out, mr_load_i64(buffers), err);
    const struct mr_agg_slot *slot = &layout->slots[result->slot];
    const char *at = buffers + slot->offset;
    switch (slot->kind) {
    case MR_SLOT_COUNT:
        return add_int64(out, mr_load_i64(at), err);
    case MR_SLOT_SUM_INT:
    case MR_SLOT_SUM_FLOAT:
        if (mr_load_i64(at + 16) == 0)
            return mr_column_builder_null(out, err);
        return result->kind == MR_AGG_SUM ? emit_sum(slot, at, out, err)
                                          : emit_avg(slot, at, out, err);
    case MR_SLOT_PRODUCT:
        return mr_load_i64(at + 8) == 0 ? mr_column_builder_null(out, err)
                                        : mr_column_builder_double(out, mr_load_f64(at), err);
    case MR_SLOT_MOMENTS:
        return emit_moments(result->kind, at, out, err);
    case MR_SLOT_COMOMENTS:
        return emit_comoments(result->kind, at, out, err);
    default:
        return emit_flagged(layout, result, buffers, out, err);
    }
}

static enum mr_status emit_keys(const struct mr_agg_layout *layout, struct mr_slice key,
                                struct mr_batch_builder *out, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key.data, key.size_bytes);

    if (layout->key_count == 1 && key.size_bytes == MR_KEY_INT64_BYTES && key.data[0] == 1 &&
        mr_schema_field(layout->output, 0)->type.id == MR_TYPE_INT64)
        return add_int64(mr_batch_builder_column(out, 0), mr_key_load_int64(key.data), err);
    for (uint32_t i = 0; i < layout->key_count; i++) {
        const struct mr_type *type = &mr_schema_field(layout->output, i)->type;
        MR_TRY(mr_key_decode(&bytes, type, mr_batch_builder_column(out, i), err));
    }
    if (mr_bytes_left(&bytes) == 0)
        return MR_OK;
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the key of a group: %zu bytes too many; restore the checkpoint "
                   "from a copy",
                   mr_bytes_left(&bytes));
}

static enum mr_status emit_narrow_sum(const struct mr_agg_result *result, uint64_t rows,
                                      const uint64_t *words, struct mr_column_builder *out,
                                      struct mr_error *err)
{
    int64_t count = (int64_t)(rows - words[1]);

    if (count == 0)
        return mr_column_builder_null(out, err);
    if (result->kind == MR_AGG_SUM)
        return add_int64(out, (int64_t)words[0], err);
    return mr_column_builder_double(out, (double)((long double)(int64_t)words[0] / count), err);
}

enum mr_status mr_agg_emit_narrow(const struct mr_agg_layout *layout, struct mr_slice key,
                                  const uint64_t *words, struct mr_batch_builder *out,
                                  struct mr_error *err)
{
    struct mr_column_builder *column;

    MR_TRY(emit_keys(layout, key, out, err));
    column = mr_batch_builder_column(out, 0) + layout->key_count;
    for (uint32_t i = 0; i < layout->result_count; i++, column++) {
        const struct mr_agg_result *result = &layout->results[i];
        uint32_t word = result->kind == MR_AGG_COUNT_ALL ? 0 : layout->slots[result->slot].word;

        if (word == 0)
            MR_TRY(add_int64(column, (int64_t)words[0], err));
        else if (layout->slots[result->slot].kind == MR_SLOT_COUNT)
            MR_TRY(add_int64(column, (int64_t)(words[0] - words[word]), err));
        else
            MR_TRY(emit_narrow_sum(result, words[0], &words[word], column, err));
    }
    return MR_OK;
}

static enum mr_status emit_plain(const struct mr_agg_layout *layout, struct mr_slice key,
                                 const char *buffers, struct mr_batch_builder *out,
                                 struct mr_error *err)
{
    MR_TRY(emit_keys(layout, key, out, err));
    for (uint32_t i = 0; i < layout->result_count; i++)
        MR_TRY(emit_result(layout, i, buffers, mr_batch_builder_column(out, layout->key_count + i),
                           err));
    return MR_OK;
}

static __attribute__((noinline)) enum mr_status emit_packed(const struct mr_agg_layout *layout,
                                                            struct mr_slice key,
                                                            struct mr_slice packed,
                                                            struct mr_batch_builder *out,
                                                            struct mr_error *err)
{
    char fixed[MR_AGG_PACKS_UP_TO_BYTES];

    MR_TRY(mr_agg_unpack(layout, packed, fixed, err));
    return emit_plain(layout, key, fixed, out, err);
}

enum mr_status mr_agg_emit_row(const struct mr_agg_layout *layout, struct mr_slice key,
                               struct mr_slice buffers, struct mr_batch_builder *out,
                               struct mr_error *err)
{
    if (mr_agg_packs(layout) && buffers.size_bytes < layout->fixed_bytes)
        return emit_packed(layout, key, buffers, out, err);
    MR_TRY(mr_agg_check(layout, buffers, err));
    return emit_plain(layout, key, buffers.data, out, err);
}

enum mr_status mr_agg_emit(const struct mr_agg_layout *layout, struct mr_slice key,
                           struct mr_slice buffers, struct mr_batch_builder *out,
                           struct mr_error *err)
{
    MR_TRY(mr_agg_emit_row(layout, key, buffers, out, err));
    return mr_batch_builder_rows_added(out, 1, err);
}
