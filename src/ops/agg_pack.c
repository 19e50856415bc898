/*
 * Buffers of a group in few bytes: what the store and partials keep of aggregations without byte
 * strings.
 *
 *     plain    rows u64 | slot | slot | ...      fixed_bytes, as aggregate.c draws them
 *     packed   rows varint | slot | slot | ...   always fewer bytes: the size tells which one it is
 *
 *     COUNT                           rows - count varint (0: no nulls)
 *     SUM_INT                         sum zigzag varint (up to 19 bytes) | rows - count varint
 *     SUM_FLOAT                       sum f64 | error f64 | rows - count varint
 *     PRODUCT                         product f64 | rows - count varint
 *     MOMENTS, COMOMENTS              rows - count varint | the rest as it is
 *     BEST_64, BEST_128, BITS         0 | 1 and the value
 *
 * A count and a sum of a BIGINT are 4 bytes of 32 while they are small. What would not be shorter
 * stays plain, so do layouts with byte strings or very many slots; a store may hold both forms, and
 * those that older versions wrote are all plain.
 *
 * Called by both halves of the aggregation and by whoever reads its store. Threads: any.
 */
#include "ops/aggregate.h"

#include "base/check.h"

__extension__ typedef unsigned __int128 uint128;

/* Where the count stands in a slot that has one; the rest of the slot is copied. */
static uint32_t count_offset(enum mr_slot_kind kind)
{
    switch (kind) {
    case MR_SLOT_SUM_INT:
    case MR_SLOT_SUM_FLOAT:
        return 16;
    case MR_SLOT_PRODUCT:
        return 8;
    default:
        return 0;
    }
}

/* ---- writing ---- */

static inline char *put_varint(char *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

static char *put_sum(char *at, mr_int128 sum)
{
    uint128 zigzag = (uint128)sum << 1 ^ (uint128)(sum >> 127);

    while (zigzag > UINT64_MAX) {
        *at++ = (char)(zigzag | 0x80);
        zigzag >>= 7;
    }
    return put_varint(at, (uint64_t)zigzag);
}

static inline char *put_bytes(char *at, const char *from, size_t size_bytes)
{
    memcpy(at, from, size_bytes);
    return at + size_bytes;
}

static char *put_slot(const struct mr_agg_slot *slot, uint64_t rows, const char *from, char *at)
{
    uint64_t nulls = rows - mr_load_u64(from + count_offset(slot->kind));

    switch (slot->kind) {
    case MR_SLOT_COUNT:
        return put_varint(at, nulls);
    case MR_SLOT_SUM_INT:
        at = put_sum(at, mr_load_i128(from));
        return put_varint(at, nulls);
    case MR_SLOT_SUM_FLOAT:
        at = put_bytes(at, from, 16);
        return put_varint(at, nulls);
    case MR_SLOT_PRODUCT:
        at = put_bytes(at, from, 8);
        return put_varint(at, nulls);
    case MR_SLOT_MOMENTS:
        at = put_varint(at, nulls);
        return put_bytes(at, from + 8, 16);
    case MR_SLOT_COMOMENTS:
        at = put_varint(at, nulls);
        return put_bytes(at, from + 8, 40);
    default:
        MR_ASSERT(mr_slot_has_flag(slot->kind) && !mr_slot_is_wide(slot->kind));
        return put_bytes(at, from, *from == 0 ? 1 : slot->kind == MR_SLOT_BEST_128 ? 17 : 9);
    }
}

size_t mr_agg_pack(const struct mr_agg_layout *layout, const char *fixed, char *out)
{
    uint64_t rows = mr_load_u64(fixed);
    char *at = put_varint(out, rows);

    MR_ASSERT(mr_agg_packs(layout));
    for (uint32_t i = 0; i < layout->slot_count; i++)
        at = put_slot(&layout->slots[i], rows, fixed + layout->slots[i].offset, at);
    if ((size_t)(at - out) < layout->fixed_bytes)
        return (size_t)(at - out);
    memcpy(out, fixed, layout->fixed_bytes);
    return layout->fixed_bytes;
}

/* ---- reading ---- */

/* A read past the end makes `at` NULL and gives zeros. */
struct packed {
    const uint8_t *at;
    const uint8_t *end;
};

static inline uint64_t take_varint(struct packed *packed)
{
    uint64_t value = 0;

    for (unsigned shift = 0; packed->at != NULL && shift < 64; shift += 7) {
        if (packed->at == packed->end)
            break;
        uint8_t byte = *packed->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    packed->at = NULL;
    return 0;
}

/* A sum of more than 63 bits. */
static __attribute__((noinline)) mr_int128 take_long_sum(struct packed *packed)
{
    uint128 zigzag = 0;

    for (unsigned shift = 0; packed->at != NULL && shift < 128; shift += 7) {
        if (packed->at == packed->end)
            break;
        uint8_t byte = *packed->at++;
        zigzag |= (uint128)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return (mr_int128)(zigzag >> 1 ^ -(zigzag & 1));
    }
    packed->at = NULL;
    return 0;
}

static inline mr_int128 take_sum(struct packed *packed)
{
    struct packed before = *packed;
    uint64_t zigzag = 0;

    for (unsigned shift = 0; shift < 63 && packed->at != packed->end; shift += 7) {
        uint8_t byte = *packed->at++;
        zigzag |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return (int64_t)(zigzag >> 1 ^ -(zigzag & 1));
    }
    *packed = before;
    return take_long_sum(packed);
}

static inline void take_bytes(struct packed *packed, char *out, size_t size_bytes)
{
    if (packed->at == NULL || (size_t)(packed->end - packed->at) < size_bytes) {
        packed->at = NULL;
        return;
    }
    memcpy(out, packed->at, size_bytes);
    packed->at += size_bytes;
}

static void take_flagged(struct packed *packed, char *out, size_t value_bytes)
{
    memset(out, 0, 1 + value_bytes);
    take_bytes(packed, out, 1);
    if ((uint8_t)*out > 1)
        packed->at = NULL;
    else if (*out == 1)
        take_bytes(packed, out + 1, value_bytes);
}

static inline void take_slot(const struct mr_agg_slot *slot, uint64_t rows, struct packed *packed,
                             char *out)
{
    switch (slot->kind) {
    case MR_SLOT_COUNT:
        mr_store_u64(out, rows - take_varint(packed));
        break;
    case MR_SLOT_SUM_INT:
        mr_store_i128(out, take_sum(packed));
        mr_store_u64(out + 16, rows - take_varint(packed));
        break;
    case MR_SLOT_SUM_FLOAT:
        take_bytes(packed, out, 16);
        mr_store_u64(out + 16, rows - take_varint(packed));
        break;
    case MR_SLOT_PRODUCT:
        take_bytes(packed, out, 8);
        mr_store_u64(out + 8, rows - take_varint(packed));
        break;
    case MR_SLOT_MOMENTS:
        mr_store_u64(out, rows - take_varint(packed));
        take_bytes(packed, out + 8, 16);
        break;
    case MR_SLOT_COMOMENTS:
        mr_store_u64(out, rows - take_varint(packed));
        take_bytes(packed, out + 8, 40);
        break;
    default:
        take_flagged(packed, out, slot->kind == MR_SLOT_BEST_128 ? 16 : 8);
        break;
    }
}

enum mr_status mr_agg_unpack(const struct mr_agg_layout *layout, struct mr_slice value, char *fixed,
                             struct mr_error *err)
{
    struct packed packed = {(const uint8_t *)value.data,
                            (const uint8_t *)value.data + value.size_bytes};
    uint64_t rows;

    MR_ASSERT(mr_agg_packs(layout));
    if (value.size_bytes >= layout->fixed_bytes) {
        MR_TRY(mr_agg_check(layout, value, err));
        memcpy(fixed, value.data, layout->fixed_bytes);
        return MR_OK;
    }
    rows = take_varint(&packed);
    mr_store_u64(fixed, rows);
    for (uint32_t i = 0; i < layout->slot_count && packed.at != NULL; i++)
        take_slot(&layout->slots[i], rows, &packed, fixed + layout->slots[i].offset);
    return value.size_bytes > 0 && packed.at == packed.end ? MR_OK
                                                           : mr_agg_damaged(value.size_bytes, err);
}
