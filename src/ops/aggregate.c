/*
 * Aggregation buffers: what one group of an incremental aggregation keeps between batches, and what
 * is done to it.
 *
 *     buffers   rows u64 | slot | slot | ... | byte string | ... packed, little-endian
 *               `------- fixed part -------'   `-- one for each wide slot, in order --'
 *     slot      COUNT       count i64                         rows that were not null
 *               SUM_INT     sum i128 | count i64              integers and decimals: exact
 *               SUM_FLOAT   sum f64 | error f64 | count i64   the sum is sum + error
 *               PRODUCT     product f64 | count i64
 *               MOMENTS     count i64 | mean f64 | squares of differences from it f64
 *               COMOMENTS   count i64 | mean y | mean x | squares y | squares x | products, f64
 *               BEST_64     present u8 | ordinal i64          min, max: see ordinal.h
 *               BEST_128    present u8 | i128                 min, max of decimals
 *               BITS        present u8 | u64                  bit_and, bit_or, bit_xor
 *               wide        present u8 | size u32             the rest: see agg_wide.c
 *
 * The form is part of the on-disk formats. count(*) has no slot: it is the row count, which late
 * groups need anyway. Aggregates of the same share a slot where they keep the same (sum and avg).
 *
 * What is exact: counts, integer and decimal sums, min, max, sets and lists; avg of integers and
 * decimals is one rounded division of an exact sum. Float sums are kept to about 106 bits, so
 * cutting the input into other batches changes the result only where cancellation eats more than
 * 50 bits; the same batches always give the same bits. A sum that passes through infinity stays
 * there. Moments are merged as Chan, Golub and LeVeque do it: means and sums of squares around
 * them, never differences of large sums.
 *
 * Called by agg_partial.c and agg_fold.c, and by windows of DStreams (mr_agg_merge,
 * mr_agg_subtract). Threads: a layout is read-only.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"

#include <inttypes.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "buffers are stored as they are in memory");

/* ---- merging ---- */

enum mr_status mr_agg_damaged(size_t size_bytes, struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the buffers of a group: %zu bytes do not fit the aggregates; "
                   "restore the checkpoint from a copy",
                   size_bytes);
}

enum mr_status mr_agg_check(const struct mr_agg_layout *layout, struct mr_slice buffers,
                            struct mr_error *err)
{
    uint64_t wanted = layout->fixed_bytes;
    bool ok = buffers.size_bytes >= wanted;

    for (uint32_t i = 0; ok && i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (!mr_slot_has_flag(slot->kind))
            continue;
        ok = (uint8_t)buffers.data[slot->offset] <= 1;
        if (mr_slot_is_wide(slot->kind))
            wanted += mr_load_u32(buffers.data + slot->offset + 1);
    }
    return ok && buffers.size_bytes == wanted ? MR_OK : mr_agg_damaged(buffers.size_bytes, err);
}

enum mr_status mr_agg_sum_overflow(const struct mr_agg_slot *slot, struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "cannot add up '%s': the sum has more than 38 digits; cast it to DOUBLE",
                   slot->identity);
}

static enum mr_status merge_sum_int(const struct mr_agg_slot *slot, char *a, const char *b,
                                    struct mr_error *err)
{
    mr_int128 sum;

    if (__builtin_add_overflow(mr_load_i128(a), mr_load_i128(b), &sum))
        return mr_agg_sum_overflow(slot, err);
    mr_store_i128(a, sum);
    mr_store_i64(a + 16, mr_load_i64(a + 16) + mr_load_i64(b + 16));
    return MR_OK;
}

static void merge_sum_float(char *a, const char *b)
{
    double total = mr_load_f64(a);
    double error = mr_load_f64(a + 8);

    mr_float_add(&total, &error, mr_load_f64(b));
    mr_store_f64(a, total);
    mr_store_f64(a + 8, __builtin_isfinite(total) ? error + mr_load_f64(b + 8) : 0);
    mr_store_i64(a + 16, mr_load_i64(a + 16) + mr_load_i64(b + 16));
}

static void merge_product(char *a, const char *b)
{
    int64_t mine = mr_load_i64(a + 8);
    int64_t theirs = mr_load_i64(b + 8);

    if (theirs == 0)
        return;
    mr_store_f64(a, mine == 0 ? mr_load_f64(b) : mr_load_f64(a) * mr_load_f64(b));
    mr_store_i64(a + 8, mine + theirs);
}

static void merge_moments(char *a, const char *b)
{
    int64_t mine = mr_load_i64(a);
    int64_t theirs = mr_load_i64(b);
    double count = (double)mine + (double)theirs;
    double away = mr_load_f64(b + 8) - mr_load_f64(a + 8);

    if (theirs == 0)
        return;
    if (mine == 0) {
        memcpy(a, b, 24);
        return;
    }
    mr_store_i64(a, mine + theirs);
    mr_store_f64(a + 8, mr_load_f64(a + 8) + away * ((double)theirs / count));
    mr_store_f64(a + 16, mr_load_f64(a + 16) + mr_load_f64(b + 16) +
                             away * away * ((double)mine * ((double)theirs / count)));
}

static void merge_comoments(char *a, const char *b)
{
    int64_t mine = mr_load_i64(a);
    int64_t theirs = mr_load_i64(b);
    double part = (double)theirs / ((double)mine + (double)theirs);
    double away_y = mr_load_f64(b + 8) - mr_load_f64(a + 8);
    double away_x = mr_load_f64(b + 16) - mr_load_f64(a + 16);

    if (theirs == 0)
        return;
    if (mine == 0) {
        memcpy(a, b, 48);
        return;
    }
    double weight = (double)mine * part;
    mr_store_i64(a, mine + theirs);
    mr_store_f64(a + 8, mr_load_f64(a + 8) + away_y * part);
    mr_store_f64(a + 16, mr_load_f64(a + 16) + away_x * part);
    mr_store_f64(a + 24, mr_load_f64(a + 24) + mr_load_f64(b + 24) + away_y * away_y * weight);
    mr_store_f64(a + 32, mr_load_f64(a + 32) + mr_load_f64(b + 32) + away_x * away_x * weight);
    mr_store_f64(a + 40, mr_load_f64(a + 40) + mr_load_f64(b + 40) + away_y * away_x * weight);
}

static void merge_bits(const struct mr_agg_slot *slot, char *a, const char *b)
{
    if (*b == 0)
        return;
    if (*a == 0)
        memcpy(a, b, 9);
    else
        mr_store_u64(a + 1, mr_bits_of(slot, mr_load_u64(a + 1), mr_load_u64(b + 1)));
}

static void merge_best(const struct mr_agg_slot *slot, char *a, const char *b)
{
    if (*b == 0)
        return;
    if (slot->kind == MR_SLOT_BEST_64) {
        if (*a == 0 || mr_better_i64(slot->wants_max, mr_load_i64(a + 1), mr_load_i64(b + 1)))
            memcpy(a, b, 9);
        return;
    }
    mr_int128 mine = mr_load_i128(a + 1);
    mr_int128 theirs = mr_load_i128(b + 1);
    if (*a == 0 || (slot->wants_max ? theirs > mine : theirs < mine))
        memcpy(a, b, 17);
}

static enum mr_status merge_slot(const struct mr_agg_slot *slot, char *a, const char *b,
                                 struct mr_error *err)
{
    switch (slot->kind) {
    case MR_SLOT_COUNT:
        mr_store_i64(a, mr_load_i64(a) + mr_load_i64(b));
        break;
    case MR_SLOT_SUM_INT:
        return merge_sum_int(slot, a, b, err);
    case MR_SLOT_SUM_FLOAT:
        merge_sum_float(a, b);
        break;
    case MR_SLOT_PRODUCT:
        merge_product(a, b);
        break;
    case MR_SLOT_MOMENTS:
        merge_moments(a, b);
        break;
    case MR_SLOT_COMOMENTS:
        merge_comoments(a, b);
        break;
    case MR_SLOT_BEST_64:
    case MR_SLOT_BEST_128:
        merge_best(slot, a, b);
        break;
    case MR_SLOT_BITS:
        merge_bits(slot, a, b);
        break;
    default:
        break; /* with the byte strings: merge_strings */
    }
    return MR_OK;
}

enum mr_status mr_agg_merge_fixed(const struct mr_agg_layout *layout, char *a, const char *b,
                                  struct mr_error *err)
{
    mr_store_u64(a, mr_load_u64(a) + mr_load_u64(b));
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        MR_TRY(merge_slot(slot, a + slot->offset, b + slot->offset, err));
    }
    return MR_OK;
}

/* out has the merged fixed part: merges each byte string of a and b and appends it. */
static enum mr_status merge_strings(const struct mr_agg_layout *layout, struct mr_buf *out,
                                    const char *a, const char *b, struct mr_error *err)
{
    const char *a_at = a + layout->fixed_bytes;
    const char *b_at = b + layout->fixed_bytes;

    for (uint32_t i = 0; i < layout->slot_count && !out->failed; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (!mr_slot_is_wide(slot->kind))
            continue;
        const char *a_slot = a + slot->offset;
        const char *b_slot = b + slot->offset;
        struct mr_slice mine = {a_at, mr_load_u32(a_slot + 1)};
        struct mr_slice theirs = {b_at, mr_load_u32(b_slot + 1)};
        size_t before = out->size;
        if (*a_slot != 0 && *b_slot != 0)
            MR_TRY(mr_wide_merge(slot, mine, theirs, out, err));
        else
            mr_buf_add(out, *b_slot != 0 ? b_at : a_at,
                       *b_slot != 0 ? theirs.size_bytes : mine.size_bytes);
        if (out->failed)
            break;
        if (out->size - before > MR_AGG_WIDE_BYTES_MAX)
            return mr_wide_too_large(slot, err);
        out->data[slot->offset] = (char)(*a_slot | *b_slot);
        mr_store_u32(out->data + slot->offset + 1, (uint32_t)(out->size - before));
        a_at += mine.size_bytes;
        b_at += theirs.size_bytes;
    }
    return MR_OK; /* without memory: the caller looks at out */
}

enum mr_status mr_agg_merge_into(const struct mr_agg_layout *layout, struct mr_slice a,
                                 struct mr_slice b, struct mr_buf *out, struct mr_error *err)
{
    MR_TRY(mr_agg_check(layout, a, err));
    MR_TRY(mr_agg_check(layout, b, err));
    mr_buf_clear(out);
    if (mr_buf_reserve(out, a.size_bytes + b.size_bytes))
        mr_buf_add(out, a.data, layout->fixed_bytes);
    if (!out->failed) {
        MR_TRY(mr_agg_merge_fixed(layout, out->data, b.data, err));
        MR_TRY(merge_strings(layout, out, a.data, b.data, err));
    }
    return out->failed
               ? MR_FAIL(err, MR_NOMEM, "cannot merge the buffers of a group: out of memory")
               : MR_OK;
}

enum mr_status mr_agg_merge(const struct mr_agg_layout *layout, struct mr_buf *a, const char *b,
                            size_t b_bytes, struct mr_error *err)
{
    struct mr_buf merged = MR_BUF_INIT;
    enum mr_status status;

    if (a->size == 0 || layout->bytes_count == 0) {
        MR_TRY(mr_agg_check(layout, (struct mr_slice){b, b_bytes}, err));
        if (a->size > 0) {
            MR_TRY(mr_agg_check(layout, (struct mr_slice){a->data, a->size}, err));
            return mr_agg_merge_fixed(layout, a->data, b, err);
        }
        mr_buf_add(a, b, b_bytes);
        return a->failed
                   ? MR_FAIL(err, MR_NOMEM, "cannot merge the buffers of a group: out of memory")
                   : MR_OK;
    }
    status = mr_agg_merge_into(layout, (struct mr_slice){a->data, a->size},
                               (struct mr_slice){b, b_bytes}, &merged, err);
    if (status == MR_OK) {
        mr_buf_release(a);
        *a = merged;
    } else {
        mr_buf_release(&merged);
    }
    return status;
}

/* ---- taking out again ---- */

static enum mr_status cannot_subtract(struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "cannot take rows out of min or max again, only out of counts, sums and "
                   "averages; use the window without inverse");
}

static enum mr_status subtract_slot(const struct mr_agg_slot *slot, char *a, const char *b,
                                    struct mr_error *err)
{
    mr_int128 sum;

    switch (slot->kind) {
    case MR_SLOT_COUNT:
        mr_store_i64(a, mr_load_i64(a) - mr_load_i64(b));
        return MR_OK;
    case MR_SLOT_SUM_INT:
        if (__builtin_sub_overflow(mr_load_i128(a), mr_load_i128(b), &sum))
            return mr_agg_sum_overflow(slot, err);
        mr_store_i128(a, sum);
        mr_store_i64(a + 16, mr_load_i64(a + 16) - mr_load_i64(b + 16));
        return MR_OK;
    case MR_SLOT_SUM_FLOAT: {
        double total = mr_load_f64(a);
        double error = mr_load_f64(a + 8) - mr_load_f64(b + 8);
        int64_t count = mr_load_i64(a + 16) - mr_load_i64(b + 16);
        mr_float_add(&total, &error, -mr_load_f64(b));
        mr_store_f64(a, count == 0 ? 0 : total); /* nothing left: no rounding left either */
        mr_store_f64(a + 8, count == 0 ? 0 : error);
        mr_store_i64(a + 16, count);
        return MR_OK;
    }
    default:
        return cannot_subtract(err);
    }
}

enum mr_status mr_agg_subtract(const struct mr_agg_layout *layout, struct mr_buf *a, const char *b,
                               size_t b_bytes, struct mr_error *err)
{
    for (uint32_t i = 0; i < layout->slot_count; i++)
        if (layout->slots[i].kind > MR_SLOT_SUM_FLOAT)
            return cannot_subtract(err);
    MR_TRY(mr_agg_check(layout, (struct mr_slice){b, b_bytes}, err));
    MR_TRY(mr_agg_check(layout, (struct mr_slice){a->data, a->size}, err));
    if (mr_load_u64(a->data) < mr_load_u64(b))
        return MR_FAIL(err, MR_INTERNAL,
                       "cannot take %" PRIu64 " rows out of a group of %" PRIu64 ": report this",
                       mr_load_u64(b), mr_load_u64(a->data));
    mr_store_u64(a->data, mr_load_u64(a->data) - mr_load_u64(b));
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        MR_TRY(subtract_slot(slot, a->data + slot->offset, b + slot->offset, err));
    }
    return MR_OK;
}
