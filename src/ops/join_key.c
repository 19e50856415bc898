/*
 * Keys, times and range conditions of a join, straight from columns.
 *
 * Values that compare as equal hash alike: floats by their ordinal (one NaN, one zero), structs
 * field by field, lists by their key encoding. The hash is seeded with the query's and decides in
 * which shard of the stores a row lives: it is part of the on-disk format.
 *
 * Called by join.c, join_pairs.c and join_state.c. Thread: any; what it reads does not change.
 */
#include "base/hash.h"
#include "data/row_codec.h"
#include "ops/join_internal.h"
#include "ops/ordinal.h"

__extension__ typedef unsigned __int128 wide;

static inline uint64_t mix(uint64_t hash, uint64_t value)
{
    wide product =
        (wide)(hash ^ value ^ UINT64_C(0x2d358dccaa6c78a5)) * (wide)UINT64_C(0x9e3779b97f4a7c15);

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline const uint8_t *bytes_at(const struct mr_column *column, int64_t row, uint32_t width)
{
    return (const uint8_t *)column->values + (size_t)row * width;
}

/* A float as the bits that all equal ones have. */
static inline uint64_t float_bits(const struct mr_column *column, int64_t row)
{
    return (uint64_t)mr_ordinal_of_double(mr_column_double(column, row));
}

/* ---- hash ---- */

static bool hash_list(const struct mr_column *column, int64_t row, uint64_t *hash)
{
    struct mr_buf key = MR_BUF_INIT;
    bool ok;

    mr_key_encode(&key, column, row);
    ok = !key.failed;
    if (ok)
        *hash = mix(*hash, mr_hash(key.data, key.size, 0));
    mr_buf_release(&key);
    return ok;
}

/* Adds one value; false without memory. */
static bool hash_value(const struct mr_column *column, int64_t row, uint64_t *hash)
{
    enum mr_type_id id = column->type->id;
    uint32_t width = mr_type_width(id);
    uint64_t value = 0;

    if (mr_column_is_null(column, row)) {
        *hash = mix(*hash, UINT64_C(0x6e756c6c));
        return true;
    }
    if (id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE) {
        *hash = mix(*hash, float_bits(column, row));
    } else if (width == 16) {
        memcpy(&value, bytes_at(column, row, width) + 8, 8);
        *hash = mix(*hash, value);
        memcpy(&value, bytes_at(column, row, width), 8);
        *hash = mix(*hash, value);
    } else if (width > 0) {
        memcpy(&value, bytes_at(column, row, width), width);
        *hash = mix(*hash, value);
    } else if (id == MR_TYPE_BOOL) {
        *hash = mix(*hash, mr_column_bool(column, row));
    } else if (id == MR_TYPE_TEXT || id == MR_TYPE_BINARY) {
        struct mr_slice text = mr_column_text(column, row);

        *hash = mix(*hash, mr_hash(text.data, text.size_bytes, 0));
    } else if (id == MR_TYPE_STRUCT) {
        for (uint32_t i = 0; i < column->type->field_count; i++) {
            if (!hash_value(&column->children[i], row, hash))
                return false;
        }
    } else {
        return hash_list(column, row, hash);
    }
    return true;
}

enum mr_status mr_join__hash(struct mr_join *join, unsigned side, const struct mr_join_held *held,
                             uint64_t *hashes, bool *any_null, struct mr_error *err)
{
    size_t rows = (size_t)mr_batch_row_count(held->batch);

    for (size_t row = 0; row < rows; row++)
        hashes[row] = join->seed;
    memset(any_null, 0, rows);
    for (uint32_t k = 0; k < join->key_count; k++) {
        const struct mr_column *column = held->columns[join->keys[k].column[side]];
        bool nulls = mr_column_has_nulls(column);

        if (join->keys[k].width == 8 && !nulls) {
            const uint8_t *values = column->values;

            for (size_t row = 0; row < rows; row++) {
                uint64_t value;

                memcpy(&value, values + row * 8, 8);
                hashes[row] = mix(hashes[row], value);
            }
            continue;
        }
        for (size_t row = 0; row < rows; row++) {
            int64_t at = (int64_t)row;

            any_null[row] = any_null[row] ||
                            (nulls && !join->keys[k].null_equal && mr_column_is_null(column, at));
            if (!hash_value(column, at, &hashes[row]))
                return mr_join__no_memory(err);
        }
    }
    for (size_t row = 0; row < rows; row++)
        hashes[row] = mix(hashes[row], 0); /* the top bits choose the partition */
    return MR_OK;
}

/* ---- equality ---- */

static bool equal_list(const struct mr_column *a, int64_t row_a, const struct mr_column *b,
                       int64_t row_b)
{
    struct mr_buf one = MR_BUF_INIT;
    struct mr_buf two = MR_BUF_INIT;
    bool equal;

    mr_key_encode(&one, a, row_a);
    mr_key_encode(&two, b, row_b);
    equal = !one.failed && !two.failed && one.size == two.size &&
            memcmp(one.data, two.data, one.size) == 0;
    mr_buf_release(&one);
    mr_buf_release(&two);
    return equal;
}

static bool equal_value(const struct mr_column *a, int64_t row_a, const struct mr_column *b,
                        int64_t row_b)
{
    enum mr_type_id id = a->type->id;
    uint32_t width = mr_type_width(id);

    if (mr_column_is_null(a, row_a) || mr_column_is_null(b, row_b))
        return mr_column_is_null(a, row_a) && mr_column_is_null(b, row_b);
    if (id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE)
        return float_bits(a, row_a) == float_bits(b, row_b);
    if (width > 0)
        return memcmp(bytes_at(a, row_a, width), bytes_at(b, row_b, width), width) == 0;
    if (id == MR_TYPE_BOOL)
        return mr_column_bool(a, row_a) == mr_column_bool(b, row_b);
    if (id == MR_TYPE_TEXT || id == MR_TYPE_BINARY) {
        struct mr_slice one = mr_column_text(a, row_a);
        struct mr_slice two = mr_column_text(b, row_b);

        return one.size_bytes == two.size_bytes && memcmp(one.data, two.data, one.size_bytes) == 0;
    }
    if (id != MR_TYPE_STRUCT)
        return equal_list(a, row_a, b, row_b);
    for (uint32_t i = 0; i < a->type->field_count; i++) {
        if (!equal_value(&a->children[i], row_a, &b->children[i], row_b))
            return false;
    }
    return true;
}

bool mr_join__equal(const struct mr_join *join, unsigned side_a, const struct mr_join_held *a,
                    uint32_t row_a, unsigned side_b, const struct mr_join_held *b, uint32_t row_b)
{
    for (uint32_t k = 0; k < join->key_count; k++) {
        const struct mr_join_key_column *key = &join->keys[k];
        const struct mr_column *one = a->columns[key->column[side_a]];
        const struct mr_column *two = b->columns[key->column[side_b]];

        if (key->width == 8 && one->validity == NULL && two->validity == NULL) {
            uint64_t values[2];

            memcpy(&values[0], bytes_at(one, row_a, 8), 8);
            memcpy(&values[1], bytes_at(two, row_b, 8), 8);
            if (values[0] != values[1])
                return false;
            continue;
        }
        if (!equal_value(one, row_a, two, row_b))
            return false;
    }
    return true;
}

void mr_join__key_width(struct mr_join_key_column *key, const struct mr_type *type)
{
    bool is_float = type->id == MR_TYPE_FLOAT || type->id == MR_TYPE_DOUBLE;

    key->width = is_float ? 0 : (uint8_t)mr_type_width(type->id);
}

/* ---- times and ranges ---- */

int64_t mr_join__time(const struct mr_join_time *time, const struct mr_join_held *held,
                      uint32_t row)
{
    const struct mr_column *column;
    int64_t value_us;
    int64_t moved_us;

    if (time->column < 0)
        return MR_JOIN_NO_TIME;
    column = held->columns[time->column];
    if (mr_column_is_null(column, row))
        return MR_JOIN_NO_TIME;
    if (time->field >= 0) {
        column = &column->children[time->field];
        if (mr_column_is_null(column, row))
            return MR_JOIN_NO_TIME;
    }
    value_us = mr_column_int(column, row);
    if (column->type->id == MR_TYPE_TIMESTAMP_NS)
        value_us = mr_floor_div(value_us, 1000);
    if (__builtin_add_overflow(value_us, time->add_us, &moved_us))
        return time->add_us > 0 ? MR_JOIN_NO_TIME : INT64_MIN;
    return moved_us;
}

static inline int64_t int_at(const struct mr_column *column, int64_t row)
{
    int64_t value;

    if (mr_type_width(column->type->id) != 8)
        return mr_column_int(column, row);
    memcpy(&value, bytes_at(column, row, 8), 8);
    return value;
}

bool mr_join__in_range(const struct mr_join *join, const struct mr_join_ref *left,
                       const struct mr_join_ref *right)
{
    for (uint32_t i = 0; i < join->range_count; i++) {
        const struct mr_join_range *range = &join->ranges[i];
        const struct mr_column *a = left->held->columns[range->left];
        const struct mr_column *b = right->held->columns[range->right];
        mr_int128 one, two;
        bool holds;

        if (mr_column_is_null(a, left->at) || mr_column_is_null(b, right->at))
            return false;
        one = int_at(a, left->at);
        two = (mr_int128)int_at(b, right->at) + range->add;
        switch (range->compare) {
        case MR_EQ:
            holds = one == two;
            break;
        case MR_NE:
            holds = one != two;
            break;
        case MR_LT:
            holds = one < two;
            break;
        case MR_LE:
            holds = one <= two;
            break;
        case MR_GT:
            holds = one > two;
            break;
        case MR_GE:
            holds = one >= two;
            break;
        default:
            holds = false;
            break;
        }
        if (!holds)
            return false;
    }
    return true;
}
