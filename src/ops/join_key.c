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

#define NULL_BITS UINT64_C(0x6e756c6c)

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
        *hash = mix(*hash, NULL_BITS);
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

static double double_of(const struct mr_type *type, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    double two;
    float one;

    if (type->id == MR_TYPE_DOUBLE) {
        memcpy(&two, &bits, sizeof(two));
        return two;
    }
    memcpy(&one, &low, sizeof(one));
    return (double)one;
}

/* Adds a value of a packed column, as hash_value does. */
static void hash_packed(const struct mr_join_packed *packed, const struct mr_type *type,
                        uint32_t at, uint64_t *hash)
{
    struct mr_slice text;
    uint64_t halves[2];

    if (packed->ends != NULL) {
        text = mr_join__packed_text(packed, at);
        *hash = mix(*hash, mr_hash(text.data, text.size_bytes, 0));
    } else if (packed->width == 16) {
        memcpy(halves, packed->values + (size_t)at * 16, 16);
        *hash = mix(mix(*hash, halves[1]), halves[0]);
    } else {
        uint64_t bits = mr_join__packed_number(packed, at);

        if (type->id == MR_TYPE_FLOAT || type->id == MR_TYPE_DOUBLE)
            bits = (uint64_t)mr_ordinal_of_double(double_of(type, bits));
        *hash = mix(*hash, bits);
    }
}

static bool hash_cell(const struct mr_join_held *held, uint32_t column, const struct mr_type *type,
                      uint32_t at, uint64_t *hash)
{
    if (mr_join__column(held, column) != NULL)
        return hash_value(mr_join__column(held, column), at, hash);
    if (mr_join__is_null(held, column, at))
        *hash = mix(*hash, NULL_BITS);
    else
        hash_packed(&held->packed[column], type, at, hash);
    return true;
}

enum mr_status mr_join__hash(struct mr_join *join, unsigned side, const struct mr_join_held *held,
                             size_t rows, uint64_t *hashes, bool *any_null, struct mr_error *err)
{
    for (size_t row = 0; row < rows; row++)
        hashes[row] = join->seed;
    memset(any_null, 0, rows);
    for (uint32_t k = 0; k < join->key_count; k++) {
        uint32_t index = join->keys[k].column[side];
        const struct mr_type *type = &mr_schema_field(join->schema[side], index)->type;
        const struct mr_column *column = mr_join__column(held, index);

        if (join->keys[k].width == 8 && column != NULL && !mr_column_has_nulls(column)) {
            const uint8_t *values = column->values;

            for (size_t row = 0; row < rows; row++) {
                uint64_t value;

                memcpy(&value, values + row * 8, 8);
                hashes[row] = mix(hashes[row], value);
            }
            continue;
        }
        for (uint32_t row = 0; row < rows; row++) {
            any_null[row] =
                any_null[row] || (!join->keys[k].null_equal && mr_join__is_null(held, index, row));
            if (!hash_cell(held, index, type, row, &hashes[row]))
                return mr_join__no_memory(err);
        }
    }
    for (size_t row = 0; row < rows; row++)
        hashes[row] = mix(hashes[row], 0); /* the top bits choose the partition */
    return MR_OK;
}

/* ---- equality ---- */

static bool has_nulls(const struct mr_join_held *held, uint32_t column)
{
    const struct mr_column *from = mr_join__column(held, column);

    return (from != NULL ? from->validity : held->packed[column].validity) != NULL;
}

/* As a packed column has them: a BOOLEAN is 0 or 1. */
static uint64_t bits_of(const struct mr_join_held *held, uint32_t column,
                        const struct mr_type *type, uint32_t at)
{
    const struct mr_column *from = mr_join__column(held, column);

    if (from != NULL && type->id == MR_TYPE_BOOL)
        return mr_column_bool(from, at);
    return mr_join__bits(held, column, mr_type_width(type->id), at);
}

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

/* At least one of them is packed, so no list or struct. */
static bool equal_packed(const struct mr_type *type, uint32_t column_a,
                         const struct mr_join_held *a, uint32_t row_a, uint32_t column_b,
                         const struct mr_join_held *b, uint32_t row_b)
{
    uint32_t width = mr_type_width(type->id);
    uint64_t one, two;

    if (mr_join__is_null(a, column_a, row_a) || mr_join__is_null(b, column_b, row_b))
        return mr_join__is_null(a, column_a, row_a) && mr_join__is_null(b, column_b, row_b);
    if (type->id == MR_TYPE_TEXT || type->id == MR_TYPE_BINARY) {
        struct mr_slice left = mr_join__text(a, column_a, row_a);
        struct mr_slice right = mr_join__text(b, column_b, row_b);

        return left.size_bytes == right.size_bytes &&
               memcmp(left.data, right.data, left.size_bytes) == 0;
    }
    if (width == 16)
        return memcmp(mr_join__wide(a, column_a, row_a), mr_join__wide(b, column_b, row_b), 16) ==
               0;
    one = bits_of(a, column_a, type, row_a);
    two = bits_of(b, column_b, type, row_b);
    if (type->id != MR_TYPE_FLOAT && type->id != MR_TYPE_DOUBLE)
        return one == two;
    return mr_ordinal_of_double(double_of(type, one)) == mr_ordinal_of_double(double_of(type, two));
}

bool mr_join__equal(const struct mr_join *join, unsigned side_a, const struct mr_join_held *a,
                    uint32_t row_a, unsigned side_b, const struct mr_join_held *b, uint32_t row_b)
{
    for (uint32_t k = 0; k < join->key_count; k++) {
        const struct mr_join_key_column *key = &join->keys[k];
        uint32_t column_a = key->column[side_a];
        uint32_t column_b = key->column[side_b];
        const struct mr_column *one = mr_join__column(a, column_a);
        const struct mr_column *two = mr_join__column(b, column_b);

        if (key->width == 8 && !has_nulls(a, column_a) && !has_nulls(b, column_b)) {
            if (mr_join__bits(a, column_a, 8, row_a) != mr_join__bits(b, column_b, 8, row_b))
                return false;
            continue;
        }
        if (one != NULL && two != NULL) {
            if (!equal_value(one, row_a, two, row_b))
                return false;
            continue;
        }
        if (!equal_packed(&mr_schema_field(join->schema[side_a], column_a)->type, column_a, a,
                          row_a, column_b, b, row_b))
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

int64_t mr_join__time(const struct mr_join *join, unsigned side, const struct mr_join_time *time,
                      const struct mr_join_held *held, uint32_t row)
{
    const struct mr_type *type;
    uint32_t index = (uint32_t)time->column;
    int64_t value_us;
    int64_t moved_us;

    if (time->column < 0 || mr_join__is_null(held, index, row))
        return MR_JOIN_NO_TIME;
    type = &mr_schema_field(join->schema[side], index)->type;
    if (time->field >= 0) {
        const struct mr_column *column = &mr_join__column(held, index)->children[time->field];

        if (mr_column_is_null(column, row))
            return MR_JOIN_NO_TIME;
        type = column->type;
        value_us = mr_column_int(column, row);
    } else {
        value_us = (int64_t)mr_join__bits(held, index, 8, row);
    }
    if (type->id == MR_TYPE_TIMESTAMP_NS)
        value_us = mr_floor_div(value_us, 1000);
    if (__builtin_add_overflow(value_us, time->add_us, &moved_us))
        return time->add_us > 0 ? MR_JOIN_NO_TIME : INT64_MIN;
    return moved_us;
}

/* Any integer, date or timestamp; not null. */
static inline int64_t int_at(const struct mr_join *join, unsigned side,
                             const struct mr_join_held *held, uint32_t column, uint32_t row)
{
    const struct mr_type *type = &mr_schema_field(join->schema[side], column)->type;
    struct mr_column one = {.type = type, .length = 1};
    uint64_t bits = mr_join__bits(held, column, mr_type_width(type->id), row);

    if (mr_type_width(type->id) == 8)
        return (int64_t)bits;
    one.values = &bits;
    return mr_column_int(&one, 0);
}

static inline bool holds(enum mr_compare compare, mr_int128 one, mr_int128 two)
{
    switch (compare) {
    case MR_EQ:
        return one == two;
    case MR_NE:
        return one != two;
    case MR_LT:
        return one < two;
    case MR_LE:
        return one <= two;
    case MR_GT:
        return one > two;
    case MR_GE:
        return one >= two;
    default:
        return false;
    }
}

bool mr_join__in_range(const struct mr_join *join, const struct mr_join_ref *left,
                       const struct mr_join_ref *right)
{
    for (uint32_t i = 0; i < join->range_count; i++) {
        const struct mr_join_range *range = &join->ranges[i];
        mr_int128 two;

        if (mr_join__is_null(left->held, range->left, left->at) ||
            mr_join__is_null(right->held, range->right, right->at))
            return false;
        two = (mr_int128)int_at(join, 1, right->held, range->right, right->at) + range->add;
        if (!holds(range->compare, int_at(join, 0, left->held, range->left, left->at), two))
            return false;
    }
    return true;
}
