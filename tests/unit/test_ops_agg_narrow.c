/*
 * Narrow groups (agg_narrow.h) against the general way: where they say yes they read, merge, write
 * and emit the same, and they say yes to everything that is small.
 */
#include "support/ops_harness.h"

#include "base/check.h"
#include "data/row_codec.h"
#include "ops/agg_narrow.h"

#include <string.h>

static const char SCHEMA[] = "k BIGINT, v BIGINT, i INTEGER, u UBIGINT, f DOUBLE, d DECIMAL(9,2)";
static const struct mr_agg AGGS[] = {
    {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
    {.kind = MR_AGG_SUM, .column = 1, .name = "s"},
    {.kind = MR_AGG_COUNT, .column = 3, .name = "c"},
    {.kind = MR_AGG_AVG, .column = 1, .name = "a"},
    {.kind = MR_AGG_SUM, .column = 2, .name = "t"},
    {.kind = MR_AGG_COUNT, .column = 4, .name = "e"},
    {.kind = MR_AGG_AVG, .column = 0, .name = "b"},
};
enum { FIXED_BYTES = 256, NARROW_AGGS = 6 };

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
    CHECK(layout->fixed_bytes <= FIXED_BYTES);
    mr_schema_unref(input);
    return layout;
}

static uint64_t below(uint64_t *state, uint64_t end)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((*state ^ *state >> 32) * UINT64_C(0x9e3779b97f4a7c15) >> 16) % end;
}

/* Of at most so many bits, most often of few. */
static uint64_t any_number(uint64_t *random, unsigned bits_max)
{
    unsigned bits = 1 + (unsigned)below(random, bits_max);

    if (below(random, 2) == 0)
        bits = MR_MIN(bits, 7);
    return (below(random, UINT64_C(1) << 47) << 17 ^ below(random, UINT64_C(1) << 47)) >>
           (64 - bits);
}

/* A group that rows could have left. */
static void fill_group(const struct mr_agg_layout *layout, uint64_t *random, unsigned bits,
                       char *fixed)
{
    uint64_t rows = 1 + any_number(random, MR_MIN(bits, 40));

    memset(fixed, 0, layout->fixed_bytes);
    mr_store_u64(fixed, rows);
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        char *at = fixed + layout->slots[i].offset;
        uint64_t count = below(random, 3) > 0 ? rows : below(random, rows + 1);

        if (layout->slots[i].kind == MR_SLOT_SUM_INT) {
            mr_int128 sum = (mr_int128)any_number(random, bits);

            if (bits == 64 && below(random, 8) == 0)
                sum *= (mr_int128)1 << below(random, 62);
            mr_store_i128(at, count == 0 ? 0 : below(random, 2) == 0 ? sum : -sum);
            at += 16;
        }
        mr_store_u64(at, count);
    }
}

static bool read_both(const struct mr_agg_layout *layout, const char *packed, size_t size,
                      uint64_t *words)
{
    char room[MR_NARROW_BYTES_MAX + MR_AGG_PACK_ROOM_BYTES];
    uint64_t behind[MR_NARROW_WORDS_MAX];
    bool ahead_ok, behind_ok;

    memset(room, 0xa5, sizeof(room));
    memcpy(room + MR_NARROW_BYTES_MAX, packed, size);
    ahead_ok = mr_narrow_read_ahead(layout, room + MR_NARROW_BYTES_MAX, size, words);
    behind_ok = mr_narrow_read_behind(layout, room + MR_NARROW_BYTES_MAX, size, behind);
    CHECK(ahead_ok == behind_ok);
    for (uint32_t i = 0; ahead_ok && i < layout->narrow_words; i++)
        CHECK_EQ_UINT(words[i], behind[i]);
    return ahead_ok;
}

static void check_words(const struct mr_agg_layout *layout, const char *fixed,
                        const uint64_t *words)
{
    CHECK_EQ_UINT(words[0], mr_load_u64(fixed));
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const char *at = fixed + layout->slots[i].offset;
        const uint64_t *word = &words[layout->slots[i].word];

        if (layout->slots[i].kind == MR_SLOT_SUM_INT) {
            CHECK((mr_int128)(int64_t)*word++ == mr_load_i128(at));
            at += 16;
        }
        CHECK_EQ_UINT(words[0] - *word, mr_load_u64(at));
    }
}

/* The row of a group in both ways. */
static void check_emitted(const struct mr_agg_layout *layout, const char *fixed,
                          const uint64_t *words)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    char key[MR_KEY_INT64_BYTES];
    char rows[2][512];

    mr_key_store_int64(key, 42);
    CHECK_OK(mr_batch_builder_new(layout->output, &builder, &err), &err);
    CHECK_OK(mr_agg_emit(layout, (struct mr_slice){key, sizeof(key)},
                         (struct mr_slice){fixed, layout->fixed_bytes}, builder, &err),
             &err);
    CHECK_OK(mr_agg_emit_narrow(layout, (struct mr_slice){key, sizeof(key)}, words, builder, &err),
             &err);
    CHECK_OK(mr_batch_builder_rows_added(builder, 1, &err), &err);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    for (uint32_t column = 0; column < mr_schema_field_count(layout->output); column++) {
        for (int64_t row = 0; row < 2; row++) {
            struct mr_row cursor = {batch, row};
            size_t size = mr_row_print(&cursor, column, rows[row], sizeof(rows[row]));

            CHECK(size < sizeof(rows[row]));
        }
        CHECK_EQ_STR(rows[1], rows[0]);
    }
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
}

static bool fits_bigint(const struct mr_agg_layout *layout, const char *fixed)
{
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const char *at = fixed + layout->slots[i].offset;

        if (layout->slots[i].kind == MR_SLOT_SUM_INT &&
            mr_load_i128(at) != (mr_int128)mr_load_i64(at))
            return false;
    }
    return true;
}

/* Returns whether the narrow way took the whole of it. */
static bool check_group(const struct mr_agg_layout *layout, char *a, const char *b)
{
    char packed[MR_AGG_PACK_ROOM_BYTES], narrow[MR_NARROW_BYTES_MAX];
    uint64_t words[MR_NARROW_WORDS_MAX], more[MR_NARROW_WORDS_MAX];
    struct mr_error err = {0};
    size_t size = mr_agg_pack(layout, a, packed);

    if (!read_both(layout, packed, size, words))
        return false;
    check_words(layout, a, words);
    check_emitted(layout, a, words);
    size = mr_agg_pack(layout, b, packed);
    if (!read_both(layout, packed, size, more) || !mr_narrow_merge(layout, words, more))
        return false;
    CHECK_OK(mr_agg_merge_fixed(layout, a, b, &err), &err);
    check_words(layout, a, words);
    CHECK(fits_bigint(layout, a));
    check_emitted(layout, a, words);
    size = mr_narrow_write(layout, words, narrow);
    if (size == 0)
        return false;
    CHECK_EQ_UINT(mr_agg_pack(layout, a, packed), size);
    CHECK_EQ_MEM(packed, narrow, size);
    return true;
}

TEST(narrow_groups_are_what_the_general_way_makes)
{
    uint64_t random = test_seed(38);
    uint32_t taken = 0;

    for (uint32_t count = 1; count <= NARROW_AGGS; count++) {
        struct mr_agg_layout *layout = layout_of(AGGS, count);

        CHECK(layout->narrow_words > 0);
        for (int round = 0; round < 2000; round++) {
            char a[FIXED_BYTES], b[FIXED_BYTES];
            unsigned bits = round % 3 == 0 ? 64 : 12;

            fill_group(layout, &random, bits, a);
            fill_group(layout, &random, bits, b);
            taken += check_group(layout, a, b);
        }
        mr_agg_layout_free(layout);
    }
    CHECK(taken > 3000);
}

TEST(small_counts_and_sums_always_take_the_short_way)
{
    struct mr_agg_layout *layout = layout_of(AGGS, 2);
    uint64_t random = test_seed(39);

    for (int round = 0; round < 2000; round++) {
        char a[FIXED_BYTES], b[FIXED_BYTES];

        fill_group(layout, &random, 12, a);
        fill_group(layout, &random, 12, b);
        CHECK(check_group(layout, a, b));
    }
    mr_agg_layout_free(layout);
}

TEST(damaged_and_plain_values_are_left_to_the_general_way)
{
    struct mr_agg_layout *layout = layout_of(AGGS, 2);
    struct mr_agg_layout *count = layout_of(AGGS, 1);
    char fixed[FIXED_BYTES] = {0}, packed[MR_AGG_PACK_ROOM_BYTES];
    uint64_t words[MR_NARROW_WORDS_MAX];
    size_t size;

    mr_store_u64(fixed, 300);
    mr_store_i128(fixed + 8, -70000);
    mr_store_u64(fixed + 24, 299);
    size = mr_agg_pack(layout, fixed, packed);
    CHECK(read_both(layout, packed, size, words));
    for (size_t cut = 0; cut < size; cut++)
        CHECK(!read_both(layout, packed, cut, words));
    CHECK(!read_both(layout, packed, size + 1, words));
    CHECK(!read_both(layout, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, words));
    CHECK(!read_both(count, fixed, 8, words)); /* a plain count has 8 bytes */
    words[0] = UINT64_C(1) << 52;
    CHECK_EQ_UINT(mr_narrow_write(count, words, packed), 0);
    mr_agg_layout_free(layout);
    mr_agg_layout_free(count);
}

TEST(other_aggregates_are_not_narrow)
{
    static const struct mr_agg others[] = {
        {.kind = MR_AGG_SUM, .column = 3, .name = "unsigned"},
        {.kind = MR_AGG_SUM, .column = 4, .name = "float"},
        {.kind = MR_AGG_SUM, .column = 5, .name = "decimal"},
        {.kind = MR_AGG_MIN, .column = 1, .name = "least"},
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        struct mr_agg_layout *layout = layout_of(&others[i], 1);

        CHECK_EQ_UINT(layout->narrow_words, 0);
        mr_agg_layout_free(layout);
    }
    struct mr_agg_layout *layout = layout_of(AGGS, sizeof(AGGS) / sizeof(*AGGS));
    CHECK_EQ_UINT(layout->narrow_words, 0); /* too many for a word */
    mr_agg_layout_free(layout);
}
