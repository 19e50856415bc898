/*
 * Buffers in few bytes: whatever the values, packing and unpacking gives them back, and what would
 * not be shorter stays plain.
 */
#include "support/ops_harness.h"

#include "base/check.h"
#include "ops/aggregate.h"

#include <stdio.h>
#include <string.h>

static const char SCHEMA[] = "k BIGINT, v BIGINT, f DOUBLE, d DECIMAL(38,2)";
static const struct mr_agg AGGS[] = {
    {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
    {.kind = MR_AGG_SUM, .column = 1, .name = "s"},
    {.kind = MR_AGG_COUNT, .column = 1, .name = "c"},
    {.kind = MR_AGG_SUM, .column = 2, .name = "sf"},
    {.kind = MR_AGG_MIN, .column = 1, .name = "least"},
    {.kind = MR_AGG_MAX, .column = 3, .name = "best"},
    {.kind = MR_AGG_BIT_OR, .column = 1, .name = "bits"},
    {.kind = MR_AGG_STDDEV_SAMP, .column = 2, .name = "dev"},
    {.kind = MR_AGG_CORR, .column = 1, .other = 2, .name = "corr"},
    {.kind = MR_AGG_PRODUCT, .column = 2, .name = "product"},
};

static struct mr_agg_layout *layout_of(const struct mr_agg *aggs, uint32_t count)
{
    static const uint32_t keys[] = {0};
    static const char *const names[] = {"k"};
    struct mr_schema *input = ops_schema(SCHEMA);
    struct mr_aggregate_spec spec = {.input = input,
                                     .keys = keys,
                                     .key_names = names,
                                     .key_count = 1,
                                     .aggs = aggs,
                                     .agg_count = count,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_agg_layout *layout = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_agg_layout_new(&spec, &layout, &err), &err);
    mr_schema_unref(input);
    return layout;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state ^ *state >> 32) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t below(uint64_t *state, uint64_t end)
{
    return (next_random(state) >> 33) % end;
}

/* A number of a random count of bits, often with all of them equal. */
static uint64_t any_number(uint64_t *random)
{
    uint64_t bits = below(random, 65);
    uint64_t value = next_random(random);

    if (bits == 0)
        return 0;
    value >>= 64 - bits;
    return below(random, 2) == 0 ? value : ~value;
}

static void fill_slot(uint64_t *random, const struct mr_agg_slot *slot, uint32_t end, char *fixed)
{
    uint32_t at = slot->offset;

    if (mr_slot_has_flag(slot->kind)) {
        bool present = below(random, 3) > 0;

        fixed[at++] = (char)present;
        if (!present)
            return; /* zeros */
    }
    for (; at < end; at += 8) {
        uint64_t value = any_number(random);
        memcpy(fixed + at, &value, MR_MIN((uint32_t)8, end - at));
    }
    if (slot->kind == MR_SLOT_SUM_INT && below(random, 2) == 0) /* of one word */
        memset(fixed + slot->offset + 8, fixed[slot->offset + 7] < 0 ? 0xff : 0, 8);
}

static void check_both_ways(const struct mr_agg_layout *layout, const char *fixed)
{
    char packed[MR_AGG_PACK_ROOM_BYTES];
    char back[MR_AGG_PACKS_UP_TO_BYTES];
    struct mr_error err = {0};
    size_t size = mr_agg_pack(layout, fixed, packed);

    CHECK(size > 0 && size <= layout->fixed_bytes);
    memset(back, 0x55, sizeof(back));
    CHECK_OK(mr_agg_unpack(layout, (struct mr_slice){packed, size}, back, &err), &err);
    CHECK(memcmp(back, fixed, layout->fixed_bytes) == 0);
    if (size == layout->fixed_bytes)
        return;
    for (size_t cut = 0; cut < size; cut++) /* never read as something else */
        CHECK_FAILS(mr_agg_unpack(layout, (struct mr_slice){packed, cut}, back, &err), &err,
                    MR_CORRUPT, "do not fit the aggregates");
}

TEST(any_buffers_come_back_from_their_packed_form)
{
    uint64_t random = test_seed(30);

    for (uint32_t count = 1; count <= sizeof(AGGS) / sizeof(*AGGS); count++) {
        struct mr_agg_layout *layout = layout_of(AGGS, count);

        CHECK(mr_agg_packs(layout));
        for (int round = 0; round < 300; round++) {
            char fixed[MR_AGG_PACKS_UP_TO_BYTES] = {0};
            uint64_t rows = any_number(&random);

            memcpy(fixed, &rows, sizeof(rows));
            for (uint32_t i = 0; i < layout->slot_count; i++)
                fill_slot(&random, &layout->slots[i],
                          i + 1 < layout->slot_count ? layout->slots[i + 1].offset
                                                     : layout->fixed_bytes,
                          fixed);
            check_both_ways(layout, fixed);
        }
        mr_agg_layout_free(layout);
    }
}

TEST(a_count_and_a_sum_take_four_bytes)
{
    struct mr_agg_layout *layout = layout_of(AGGS, 2);
    char packed[MR_AGG_PACK_ROOM_BYTES];
    char fixed[32] = {0};

    mr_store_u64(fixed, 3);
    mr_store_i128(fixed + 8, -1500);
    mr_store_u64(fixed + 24, 3);
    CHECK_EQ_UINT(layout->fixed_bytes, 32);
    CHECK_EQ_UINT(mr_agg_pack(layout, fixed, packed), 4);
    mr_agg_layout_free(layout);
}

TEST(sums_grow_from_one_byte_to_nineteen)
{
    struct mr_agg_layout *layout = layout_of(AGGS, 2);
    mr_int128 sum = 1;
    size_t before = 0;

    for (int bits = 0; bits < 127; bits++, sum *= 2) {
        for (int64_t off = -1; off <= 1; off++) {
            for (int sign = -1; sign <= 1; sign += 2) {
                char packed[MR_AGG_PACK_ROOM_BYTES];
                char fixed[32] = {0};

                mr_store_u64(fixed, 1);
                mr_store_i128(fixed + 8, sign * (sum + (bits < 126 ? off : -1)));
                mr_store_u64(fixed + 24, 1);
                check_both_ways(layout, fixed);
                if (off == 1 && sign == 1) {
                    size_t size = mr_agg_pack(layout, fixed, packed);
                    CHECK(size >= before && size <= 21);
                    before = size;
                }
            }
        }
    }
    CHECK_EQ_UINT(before, 21);
    mr_agg_layout_free(layout);
}

TEST(values_of_older_versions_are_read_as_they_are)
{
    struct mr_agg_layout *layout = layout_of(AGGS, 5);
    char fixed[MR_AGG_PACKS_UP_TO_BYTES] = {0};
    char back[MR_AGG_PACKS_UP_TO_BYTES];
    struct mr_error err = {0};

    mr_store_u64(fixed, 2);
    CHECK_OK(mr_agg_unpack(layout, (struct mr_slice){fixed, layout->fixed_bytes}, back, &err),
             &err);
    CHECK(memcmp(back, fixed, layout->fixed_bytes) == 0);
    CHECK_FAILS(
        mr_agg_unpack(layout, (struct mr_slice){fixed, layout->fixed_bytes + 1}, back, &err), &err,
        MR_CORRUPT, "do not fit the aggregates");
    mr_agg_layout_free(layout);
}

TEST(byte_strings_and_many_slots_are_not_packed)
{
    struct mr_agg list = {.kind = MR_AGG_LIST, .column = 1, .name = "l"};
    struct mr_agg many[40];
    char names[40][8];
    struct mr_agg_layout *layout = layout_of(&list, 1);

    CHECK(!mr_agg_packs(layout));
    mr_agg_layout_free(layout);
    for (size_t i = 0; i < 40; i++) {
        snprintf(names[i], sizeof(names[i]), "x%zu", i);
        many[i] = (struct mr_agg){.kind = i % 4 < 2 ? MR_AGG_SUM : MR_AGG_STDDEV_SAMP,
                                  .column = i % 2 == 0 ? 1 : 2,
                                  .name = names[i],
                                  .identity = names[i]};
    }
    layout = layout_of(many, 40);
    CHECK(layout->fixed_bytes > MR_AGG_PACKS_UP_TO_BYTES && !mr_agg_packs(layout));
    mr_agg_layout_free(layout);
}
