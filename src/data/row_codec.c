/*
 * Keys and values of state as bytes; the rules are drawn in row_codec.h.  The value form in full:
 *
 *     row    nulls: one bit a column, low bit first, 1 = null, spare bits 0 | the columns that are
 *            not null, in order
 *     value  BOOL: one byte 0 or 1
 *            fixed width: that many bytes, little-endian
 *            TEXT, BINARY: varint length, bytes
 *            LIST: varint item count | nulls of the items | items
 *            STRUCT: a row of its fields
 *
 * Readers accept exactly what the writers make: anything else is MR_CORRUPT, and the builders are
 * as before. Called by src/state and by stateful operators. Threads: any; a builder belongs to one.
 */
#include "data/row_codec.h"

#include "base/check.h"

#include <string.h>

static enum mr_status corrupt(const struct mr_type *type, const char *what, struct mr_error *err)
{
    char name[128];

    (void)mr_type_print(type, name, sizeof name);
    return MR_FAIL(err, MR_CORRUPT, "cannot read stored %s: %s; restore the checkpoint from a copy",
                   name, what);
}

static bool has_sign(enum mr_type_id id)
{
    return id != MR_TYPE_UINT8 && id != MR_TYPE_UINT16 && id != MR_TYPE_UINT32 &&
           id != MR_TYPE_UINT64;
}

/* ---- keys ---- */

/* IEEE bits whose unsigned order is the order of the numbers: negatives inverted, the sign of
 * others flipped. */
static uint64_t monotonic(uint64_t bits, unsigned width_bits)
{
    uint64_t sign = (uint64_t)1 << (width_bits - 1);
    uint64_t all = sign | (sign - 1);

    return (bits & sign) != 0 ? ~bits & all : bits | sign;
}

static uint64_t from_monotonic(uint64_t bits, unsigned width_bits)
{
    uint64_t sign = (uint64_t)1 << (width_bits - 1);
    uint64_t all = sign | (sign - 1);

    return (bits & sign) != 0 ? bits & ~sign : ~bits & all;
}

/* One bit pattern for all zeros and one for all NaNs. */
static uint64_t canonical_double(double value)
{
    uint64_t bits;

    if (value == 0)
        value = 0;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? UINT64_C(0x7ff8000000000000) : bits;
}

static uint32_t canonical_float(float value)
{
    uint32_t bits;

    if (value == 0)
        value = 0;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? UINT32_C(0x7fc00000) : bits;
}

static void store_big_endian(uint8_t *out, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        out[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static uint64_t load_big_endian(const uint8_t *in, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++)
        value = value << 8 | in[i];
    return value;
}

static void encode_key_fixed(struct mr_buf *out, const struct mr_column *column, int64_t row)
{
    size_t width = mr_type_width(column->type->id);
    const char *at = (const char *)column->values + (size_t)row * width;
    uint8_t bytes[17] = {1};
    uint64_t low = 0;

    if (column->type->id == MR_TYPE_DECIMAL) {
        uint64_t high;
        memcpy(&low, at, 8);
        memcpy(&high, at + 8, 8);
        store_big_endian(bytes + 1, high ^ UINT64_C(1) << 63, 8);
        store_big_endian(bytes + 9, low, 8);
    } else if (column->type->id == MR_TYPE_DOUBLE) {
        double value;
        memcpy(&value, at, sizeof value);
        store_big_endian(bytes + 1, monotonic(canonical_double(value), 64), 8);
    } else if (column->type->id == MR_TYPE_FLOAT) {
        float value;
        memcpy(&value, at, sizeof value);
        store_big_endian(bytes + 1, monotonic(canonical_float(value), 32), 4);
    } else {
        memcpy(&low, at, width);
        if (has_sign(column->type->id))
            low ^= (uint64_t)1 << (8 * width - 1);
        store_big_endian(bytes + 1, low, width);
    }
    mr_buf_add(out, bytes, width + 1);
}

static void encode_key_text(struct mr_buf *out, struct mr_slice text)
{
    static const char escaped[2] = {0, (char)0xff};
    static const char end[2] = {0, 0};
    const char *at = text.data;
    size_t left = text.size_bytes;

    mr_buf_add_u8(out, 1);
    while (left > 0) {
        const char *zero = memchr(at, 0, left);
        size_t plain = zero == NULL ? left : (size_t)(zero - at);
        mr_buf_add(out, at, plain);
        if (zero == NULL)
            break;
        mr_buf_add(out, escaped, 2);
        at = zero + 1;
        left -= plain + 1;
    }
    mr_buf_add(out, end, 2);
}

void mr_key_encode(struct mr_buf *out, const struct mr_column *column, int64_t row)
{
    MR_ASSERT(row >= 0 && row < column->length);
    if (mr_column_is_null(column, row)) {
        mr_buf_add_u8(out, 0);
        return;
    }
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        mr_buf_add_u8(out, 1);
        mr_buf_add_u8(out, mr_column_bool(column, row));
        return;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        encode_key_text(out, mr_column_text(column, row));
        return;
    case MR_TYPE_LIST:
        mr_buf_add_u8(out, 1);
        for (int32_t i = column->offsets[row]; i < column->offsets[row + 1]; i++) {
            mr_buf_add_u8(out, 1);
            mr_key_encode(out, &column->children[0], i);
        }
        mr_buf_add_u8(out, 0);
        return;
    case MR_TYPE_STRUCT:
        mr_buf_add_u8(out, 1);
        for (uint32_t i = 0; i < column->type->field_count; i++)
            mr_key_encode(out, &column->children[i], row);
        return;
    default:
        encode_key_fixed(out, column, row);
        return;
    }
}

static enum mr_status append_raw(struct mr_column_builder *out, const void *value, size_t width,
                                 struct mr_error *err)
{
    MR_TRY(mr_column_builder_reserve(out, 1, 0, err));
    mr_column_builder_valid(out);
    memcpy(out->values + (size_t)out->length++ * width, value, width);
    return MR_OK;
}

static enum mr_status decode_key_fixed(struct mr_bytes *bytes, const struct mr_type *type,
                                       struct mr_column_builder *out, struct mr_error *err)
{
    size_t width = mr_type_width(type->id);
    const uint8_t *in = (const uint8_t *)mr_bytes_take(bytes, width);

    if (in == NULL)
        return corrupt(type, "the key ends too early", err);
    if (type->id == MR_TYPE_DECIMAL) {
        uint64_t halves[2] = {load_big_endian(in + 8, 8), load_big_endian(in, 8) ^ UINT64_C(1)
                                                                                       << 63};
        return append_raw(out, halves, sizeof halves, err);
    }
    MR_ASSERT(width >= 1 && width <= 8);
    uint64_t value = load_big_endian(in, width);
    if (type->id == MR_TYPE_DOUBLE) {
        double number;
        value = from_monotonic(value, 64);
        memcpy(&number, &value, sizeof number);
        if (canonical_double(number) != value)
            return corrupt(type, "the key is not in its one form", err);
    } else if (type->id == MR_TYPE_FLOAT) {
        float number;
        uint32_t narrow = (uint32_t)from_monotonic(value, 32);
        memcpy(&number, &narrow, sizeof number);
        if (canonical_float(number) != narrow)
            return corrupt(type, "the key is not in its one form", err);
        value = narrow;
    } else if (has_sign(type->id)) {
        value ^= (uint64_t)1 << (8 * width - 1);
    }
    return append_raw(out, &value, width, err);
}

static enum mr_status decode_key_text(struct mr_bytes *bytes, const struct mr_type *type,
                                      struct mr_column_builder *out, struct mr_error *err)
{
    const uint8_t *at = bytes->at;
    size_t size_bytes = 0;

    for (;; size_bytes++) { /* the size first: one reservation, nothing to undo */
        const uint8_t *zero = memchr(at, 0, (size_t)(bytes->end - at));
        if (zero == NULL || zero + 1 == bytes->end || (zero[1] != 0 && zero[1] != 0xff))
            return corrupt(type, "the key has no end", err);
        size_bytes += (size_t)(zero - at);
        at = zero + 2;
        if (zero[1] == 0)
            break;
    }
    MR_TRY(mr_column_builder_reserve(out, 1, size_bytes, err));
    mr_column_builder_valid(out);
    uint8_t *to = out->values + out->bytes_used;
    for (const uint8_t *from = bytes->at; from < at - 2;) {
        *to++ = *from;
        from += *from == 0 ? 2 : 1;
    }
    out->bytes_used += size_bytes;
    out->offsets[++out->length] = (int32_t)out->bytes_used;
    bytes->at = at;
    return MR_OK;
}

static enum mr_status decode_key(struct mr_bytes *bytes, const struct mr_type *type,
                                 struct mr_column_builder *out, struct mr_error *err)
{
    uint8_t flag = mr_bytes_u8(bytes);

    if (bytes->failed || flag > 1)
        return corrupt(type, bytes->failed ? "the key ends too early" : "the key begins wrong",
                       err);
    if (flag == 0)
        return mr_column_builder_null(out, err);
    switch (type->id) {
    case MR_TYPE_BOOL:
        flag = mr_bytes_u8(bytes);
        if (bytes->failed || flag > 1)
            return corrupt(type, "the key is no boolean", err);
        return mr_column_builder_bool(out, flag == 1, err);
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        return decode_key_text(bytes, type, out, err);
    case MR_TYPE_LIST:
        for (;;) {
            flag = mr_bytes_u8(bytes);
            if (bytes->failed || flag > 1)
                return corrupt(type, "the key has a list without end", err);
            if (flag == 0)
                return mr_column_builder_list_end(out, err);
            MR_TRY(decode_key(bytes, &type->fields[0].type, &out->children[0], err));
        }
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < type->field_count; i++)
            MR_TRY(decode_key(bytes, &type->fields[i].type, &out->children[i], err));
        return mr_column_builder_struct_end(out, err);
    default:
        return decode_key_fixed(bytes, type, out, err);
    }
}

enum mr_status mr_key_decode(struct mr_bytes *bytes, const struct mr_type *type,
                             struct mr_column_builder *out, struct mr_error *err)
{
    MR_ASSERT(type->id == out->type->id);
    enum mr_status status = decode_key(bytes, type, out, err);

    if (status != MR_OK)
        mr_column_builder_truncate(out, out->length); /* half a list or struct */
    return status;
}

/* ---- values ---- */

/* Null bits of count values; is_null says which. */
static void encode_nulls(struct mr_buf *out, size_t count,
                         bool (*is_null)(const void *arg, size_t index), const void *arg)
{
    for (size_t i = 0; i < count; i += 8) {
        uint8_t bits = 0;
        for (size_t k = 0; k < 8 && i + k < count; k++)
            bits |= (uint8_t)(is_null(arg, i + k) << k);
        mr_buf_add_u8(out, bits);
    }
}

static void encode_value(struct mr_buf *out, const struct mr_column *column, int64_t row);

struct cells {
    const struct mr_column *const *columns; /* one of these two */
    const struct mr_column *children;
    int64_t row;
};

static const struct mr_column *cell_column(const struct cells *cells, size_t index)
{
    return cells->columns != NULL ? cells->columns[index] : &cells->children[index];
}

static bool cell_is_null(const void *arg, size_t index)
{
    const struct cells *cells = arg;

    return mr_column_is_null(cell_column(cells, index), cells->row);
}

static void encode_cells(struct mr_buf *out, const struct cells *cells, size_t count)
{
    encode_nulls(out, count, cell_is_null, cells);
    for (size_t i = 0; i < count; i++) {
        if (!cell_is_null(cells, i))
            encode_value(out, cell_column(cells, i), cells->row);
    }
}

struct items {
    const struct mr_column *column;
    int64_t from;
};

static bool item_is_null(const void *arg, size_t index)
{
    const struct items *items = arg;

    return mr_column_is_null(items->column, items->from + (int64_t)index);
}

static void encode_value(struct mr_buf *out, const struct mr_column *column, int64_t row)
{
    size_t width = mr_type_width(column->type->id);

    switch (column->type->id) {
    case MR_TYPE_BOOL:
        mr_buf_add_u8(out, mr_column_bool(column, row));
        return;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY: {
        struct mr_slice text = mr_column_text(column, row);
        mr_buf_add_block(out, text.data, text.size_bytes);
        return;
    }
    case MR_TYPE_LIST: {
        struct items items = {&column->children[0], column->offsets[row]};
        size_t count = (size_t)(column->offsets[row + 1] - column->offsets[row]);
        mr_buf_add_varint(out, count);
        encode_nulls(out, count, item_is_null, &items);
        for (size_t i = 0; i < count; i++) {
            if (!item_is_null(&items, i))
                encode_value(out, items.column, items.from + (int64_t)i);
        }
        return;
    }
    case MR_TYPE_STRUCT: {
        struct cells cells = {NULL, column->children, row};
        encode_cells(out, &cells, column->type->field_count);
        return;
    }
    default:
        mr_buf_add(out, (const char *)column->values + (size_t)row * width, width);
        return;
    }
}

void mr_value_encode(struct mr_buf *out, const struct mr_column *const *columns, uint32_t count,
                     int64_t row)
{
    struct cells cells = {columns, NULL, row};

    encode_cells(out, &cells, count);
}

/* Takes the null bits of count values; NULL when they end too early or a spare bit is set. */
static const uint8_t *take_nulls(struct mr_bytes *bytes, uint64_t count)
{
    if (count / 8 > mr_bytes_left(bytes))
        return NULL;
    const uint8_t *bits = (const uint8_t *)mr_bytes_take(bytes, (size_t)(count + 7) / 8);
    if (bits == NULL || (count % 8 != 0 && bits[count / 8] >> (count % 8) != 0))
        return NULL;
    return bits;
}

static enum mr_status decode_value(struct mr_bytes *bytes, bool null, struct mr_column_builder *out,
                                   struct mr_error *err);

static bool bit_at(const uint8_t *bits, uint64_t index)
{
    return ((bits[index / 8] >> (index % 8)) & 1) != 0;
}

static enum mr_status decode_list(struct mr_bytes *bytes, struct mr_column_builder *out,
                                  struct mr_error *err)
{
    uint64_t count = mr_bytes_varint(bytes);
    const uint8_t *nulls = bytes->failed ? NULL : take_nulls(bytes, count);

    if (nulls == NULL)
        return corrupt(out->type, "the value ends too early", err);
    for (uint64_t i = 0; i < count; i++)
        MR_TRY(decode_value(bytes, bit_at(nulls, i), &out->children[0], err));
    return mr_column_builder_list_end(out, err);
}

static enum mr_status decode_value(struct mr_bytes *bytes, bool null, struct mr_column_builder *out,
                                   struct mr_error *err)
{
    const struct mr_type *type = out->type;

    if (null)
        return mr_column_builder_null(out, err);
    switch (type->id) {
    case MR_TYPE_BOOL: {
        uint8_t value = mr_bytes_u8(bytes);
        if (bytes->failed || value > 1)
            return corrupt(type, "the value is no boolean", err);
        return mr_column_builder_bool(out, value == 1, err);
    }
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY: {
        size_t size_bytes = 0;
        const char *data = mr_bytes_block(bytes, &size_bytes);
        if (data == NULL)
            return corrupt(type, "the value ends too early", err);
        return mr_column_builder_text(out, data, size_bytes, err);
    }
    case MR_TYPE_LIST:
        return decode_list(bytes, out, err);
    case MR_TYPE_STRUCT: {
        const uint8_t *nulls = take_nulls(bytes, type->field_count);
        if (nulls == NULL)
            return corrupt(type, "the value ends too early", err);
        for (uint32_t i = 0; i < type->field_count; i++)
            MR_TRY(decode_value(bytes, bit_at(nulls, i), &out->children[i], err));
        return mr_column_builder_struct_end(out, err);
    }
    default: {
        const char *data = mr_bytes_take(bytes, mr_type_width(type->id));
        if (data == NULL)
            return corrupt(type, "the value ends too early", err);
        return append_raw(out, data, mr_type_width(type->id), err);
    }
    }
}

enum mr_status mr_value_decode(struct mr_bytes *bytes, struct mr_column_builder *const *out,
                               uint32_t count, struct mr_error *err)
{
    const uint8_t *nulls = take_nulls(bytes, count);

    if (nulls == NULL)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read stored row: its null bits are damaged; restore the checkpoint "
                       "from a copy");
    for (uint32_t i = 0; i < count; i++) {
        enum mr_status status = decode_value(bytes, bit_at(nulls, i), out[i], err);
        if (status == MR_OK)
            continue;
        mr_column_builder_truncate(out[i], out[i]->length);
        while (i-- > 0)
            mr_column_builder_pop(out[i]);
        return status;
    }
    return MR_OK;
}
