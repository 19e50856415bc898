/*
 * Blocks: up to 1,024 rows of a join's side as one value of its store, column by column.
 *
 *     u8 1 (version) | u8 has matched | u16 rows | [bitmap: matched] | column ...
 *
 *     column   u8 form + 4 when it has nulls | u8 width | [bitmap: valid] | what the form says
 *     numbers  (form 0)  u64 base | rows x width bytes: value - base        BOOLEAN is 0 or 1
 *     texts    (form 1)  u32 bytes | rows x width: where each ends | the bytes
 *     encoded  (form 2)  the same; each is the value encoding of one column (data/row_codec.h)
 *
 * Little-endian, bits from the lowest. The width is the smallest that the differences of the block
 * need (0: all values are base), 16 stays as it is: rows of one batch have near times, and ids of
 * which a few bytes differ. Floats are packed by their bits.
 *
 * What is read most is read where it lies, in the store: there is no second copy of a row in
 * memory. The store keeps the value of an entry where it is until that entry is changed.
 *
 * Called by the files of the join, and by views.c. Thread: any.
 */
#include "ops/join_block.h"

#include "base/check.h"
#include "data/row_codec.h"

enum { VERSION = 1, FORM_NUMBERS = 0, FORM_TEXTS = 1, FORM_ENCODED = 2, HAS_NULLS = 4 };

static uint32_t form_of(const struct mr_type *type)
{
    if (type->id == MR_TYPE_TEXT || type->id == MR_TYPE_BINARY)
        return FORM_TEXTS;
    return mr_join__is_nested(type) ? FORM_ENCODED : FORM_NUMBERS;
}

static size_t bitmap_bytes(size_t rows)
{
    return (rows + 7) / 8;
}

size_t mr_join__value_bytes(const struct mr_column *column, int64_t row)
{
    const struct mr_type *type = column->type;
    size_t bytes = 1;

    if (mr_column_is_null(column, row))
        return bytes;
    if (type->id == MR_TYPE_TEXT || type->id == MR_TYPE_BINARY)
        return bytes + mr_column_text(column, row).size_bytes;
    if (type->id == MR_TYPE_STRUCT) {
        for (uint32_t i = 0; i < type->field_count; i++)
            bytes += mr_join__value_bytes(&column->children[i], row);
        return bytes;
    }
    if (type->id == MR_TYPE_LIST) {
        for (int64_t i = column->offsets[row]; i < column->offsets[row + 1]; i++)
            bytes += mr_join__value_bytes(&column->children[0], i);
        return bytes;
    }
    return bytes + mr_type_width(type->id);
}

/* ---- pack ---- */

/* Room at the end, to be filled; NULL without memory. */
static uint8_t *add_room(struct mr_buf *out, size_t bytes)
{
    uint8_t *at;

    if (!mr_buf_reserve(out, bytes + 1)) {
        out->failed = true;
        return NULL;
    }
    at = (uint8_t *)out->data + out->size;
    out->size += bytes;
    return at;
}

/* Whether there was a null, in which case the bitmap is there. */
static bool add_validity(struct mr_buf *out, const struct mr_join_ref *refs, size_t count,
                         uint32_t column)
{
    bool any = false;
    uint8_t *bits;

    for (size_t i = 0; i < count && !any; i++)
        any = mr_join__is_null(refs[i].held, column, refs[i].at);
    if (!any)
        return false;
    bits = add_room(out, bitmap_bytes(count));
    if (bits == NULL)
        return false;
    memset(bits, 0, bitmap_bytes(count));
    for (size_t i = 0; i < count; i++) {
        if (!mr_join__is_null(refs[i].held, column, refs[i].at))
            bits[i >> 3] |= (uint8_t)(1u << (i & 7));
    }
    return true;
}

static void fetch_numbers(const struct mr_join_ref *refs, size_t count, uint32_t column,
                          const struct mr_type *type, uint64_t *numbers)
{
    uint32_t width = mr_type_width(type->id);

    for (size_t i = 0; i < count; i++) {
        const struct mr_column *from = mr_join__column(refs[i].held, column);

        if (from != NULL && type->id == MR_TYPE_BOOL)
            numbers[i] = mr_column_bool(from, refs[i].at);
        else
            numbers[i] = mr_join__bits(refs[i].held, column, width, refs[i].at);
    }
}

static uint32_t width_of(uint64_t span)
{
    if (span == 0)
        return 0;
    if (span <= UINT8_MAX)
        return 1;
    if (span <= UINT16_MAX)
        return 2;
    return span <= UINT32_MAX ? 4 : 8;
}

static void narrow(uint8_t *to, const uint64_t *numbers, size_t count, uint64_t base,
                   uint32_t width)
{
    switch (width) {
    case 0:
        break;
    case 1:
        for (size_t i = 0; i < count; i++)
            to[i] = (uint8_t)(numbers[i] - base);
        break;
    case 2:
        for (size_t i = 0; i < count; i++) {
            uint16_t value = (uint16_t)(numbers[i] - base);

            memcpy(to + i * 2, &value, 2);
        }
        break;
    case 4:
        for (size_t i = 0; i < count; i++) {
            uint32_t value = (uint32_t)(numbers[i] - base);

            memcpy(to + i * 4, &value, 4);
        }
        break;
    default:
        for (size_t i = 0; i < count; i++) {
            uint64_t value = numbers[i] - base;

            memcpy(to + i * 8, &value, 8);
        }
        break;
    }
}

/* Nulls are base. Numbers compare as signed: those below 8 bytes have zeros above. */
static void add_numbers(struct mr_buf *out, size_t head, const struct mr_type *type,
                        const struct mr_join_ref *refs, size_t count, uint32_t column, bool nulls,
                        uint64_t *numbers)
{
    int64_t least = INT64_MAX;
    int64_t most = INT64_MIN;
    uint32_t width;
    uint8_t *to;

    fetch_numbers(refs, count, column, type, numbers);
    for (size_t i = 0; i < count; i++) {
        if (nulls && mr_join__is_null(refs[i].held, column, refs[i].at))
            continue;
        least = MR_MIN(least, (int64_t)numbers[i]);
        most = MR_MAX(most, (int64_t)numbers[i]);
    }
    if (least > most)
        least = most = 0;
    for (size_t i = 0; i < count && nulls; i++) {
        if (mr_join__is_null(refs[i].held, column, refs[i].at))
            numbers[i] = (uint64_t)least;
    }
    width = width_of((uint64_t)most - (uint64_t)least);
    mr_buf_add_u64(out, (uint64_t)least);
    to = add_room(out, count * width);
    if (to == NULL)
        return;
    out->data[head] = (char)width;
    narrow(to, numbers, count, (uint64_t)least, width);
}

/* 16 bytes, as they are. */
static void add_wide(struct mr_buf *out, size_t head, const struct mr_join_ref *refs, size_t count,
                     uint32_t column)
{
    uint8_t *to;

    mr_buf_add_u64(out, 0);
    to = add_room(out, count * 16);
    if (to == NULL)
        return;
    out->data[head] = 16;
    for (size_t i = 0; i < count; i++) {
        if (mr_join__is_null(refs[i].held, column, refs[i].at))
            memset(to + i * 16, 0, 16);
        else
            memcpy(to + i * 16, mr_join__wide(refs[i].held, column, refs[i].at), 16);
    }
}

static void put_end(uint8_t *ends, size_t at, uint32_t width, uint32_t end)
{
    uint16_t two = (uint16_t)end;

    if (width == 2)
        memcpy(ends + at * 2, &two, 2);
    else
        memcpy(ends + at * 4, &end, 4);
}

static void add_texts(struct mr_buf *out, size_t head, const struct mr_join_ref *refs, size_t count,
                      uint32_t column, bool nulls)
{
    uint64_t total = 0;
    uint32_t end = 0;
    uint32_t width;
    uint8_t *ends, *to;

    for (size_t i = 0; i < count; i++) {
        if (!nulls || !mr_join__is_null(refs[i].held, column, refs[i].at))
            total += mr_join__text(refs[i].held, column, refs[i].at).size_bytes;
    }
    width = total <= UINT16_MAX ? 2 : 4;
    if (total > UINT32_MAX) {
        out->failed = true;
        return;
    }
    mr_buf_add_u32(out, (uint32_t)total);
    ends = add_room(out, count * width + total);
    if (ends == NULL)
        return;
    out->data[head] = (char)width;
    to = ends + count * width;
    for (size_t i = 0; i < count; i++) {
        if (!nulls || !mr_join__is_null(refs[i].held, column, refs[i].at)) {
            struct mr_slice text = mr_join__text(refs[i].held, column, refs[i].at);

            if (text.size_bytes > 0)
                memcpy(to + end, text.data, text.size_bytes);
            end += (uint32_t)text.size_bytes;
        }
        put_end(ends, i, width, end);
    }
}

static void add_encoded(struct mr_buf *out, size_t head, const struct mr_join_ref *refs,
                        size_t count, uint32_t column)
{
    size_t total_at = out->size;
    size_t ends_at = total_at + 4;
    size_t bytes_at = ends_at + count * 4;

    if (add_room(out, 4 + count * 4) == NULL)
        return;
    out->data[head] = 4;
    for (size_t i = 0; i < count && !out->failed; i++) {
        const struct mr_column *from = mr_join__column(refs[i].held, column);

        MR_ASSERT(from != NULL);
        mr_value_encode(out, &from, 1, refs[i].at);
        if (out->size - bytes_at > UINT32_MAX)
            out->failed = true;
        if (!out->failed)
            put_end((uint8_t *)out->data + ends_at, i, 4, (uint32_t)(out->size - bytes_at));
    }
    if (!out->failed)
        put_end((uint8_t *)out->data + total_at, 0, 4, (uint32_t)(out->size - bytes_at));
}

static void add_column(struct mr_buf *out, const struct mr_type *type,
                       const struct mr_join_ref *refs, size_t count, uint32_t column,
                       uint64_t *numbers)
{
    uint32_t form = form_of(type);
    size_t head = out->size;
    bool nulls;

    mr_buf_add_u8(out, (uint8_t)form);
    mr_buf_add_u8(out, 0);
    if (out->failed)
        return;
    nulls = form != FORM_ENCODED && add_validity(out, refs, count, column);
    if (out->failed)
        return;
    if (nulls)
        out->data[head] = (char)(form | HAS_NULLS);
    if (form == FORM_TEXTS)
        add_texts(out, head + 1, refs, count, column, nulls);
    else if (form == FORM_ENCODED)
        add_encoded(out, head + 1, refs, count, column);
    else if (mr_type_width(type->id) == 16)
        add_wide(out, head + 1, refs, count, column);
    else
        add_numbers(out, head + 1, type, refs, count, column, nulls, numbers);
}

void mr_join__pack(struct mr_buf *out, const struct mr_schema *schema,
                   const struct mr_join_ref *refs, size_t count, const uint8_t *matched,
                   uint64_t *numbers)
{
    MR_ASSERT(count > 0 && count <= MR_JOIN_BLOCK_ROWS);
    mr_buf_add_u8(out, VERSION);
    mr_buf_add_u8(out, matched != NULL);
    mr_buf_add_u8(out, (uint8_t)count);
    mr_buf_add_u8(out, (uint8_t)(count >> 8));
    if (matched != NULL && !out->failed) {
        uint8_t *bits = add_room(out, bitmap_bytes(count));

        if (bits != NULL)
            memset(bits, 0, bitmap_bytes(count));
        for (size_t i = 0; i < count && bits != NULL; i++)
            bits[i >> 3] |= (uint8_t)((matched[i] != 0) << (i & 7));
    }
    for (uint32_t i = 0; i < mr_schema_field_count(schema) && !out->failed; i++)
        add_column(out, &mr_schema_field(schema, i)->type, refs, count, i, numbers);
}

/* ---- unpack ---- */

uint32_t mr_join__packed_rows(struct mr_slice value)
{
    const uint8_t *bytes = (const uint8_t *)value.data;
    uint32_t rows;

    if (value.size_bytes < MR_JOIN_MATCHED_AT || bytes[0] != VERSION)
        return 0;
    rows = (uint32_t)(bytes[2] | bytes[3] << 8);
    return rows <= MR_JOIN_BLOCK_ROWS ? rows : 0;
}

static const uint8_t *take(struct mr_bytes *bytes, size_t size)
{
    if (bytes->failed || size > mr_bytes_left(bytes)) {
        bytes->failed = true;
        return NULL;
    }
    return (const uint8_t *)mr_bytes_take(bytes, size);
}

static uint32_t end_at(const struct mr_join_packed *packed, uint32_t at)
{
    uint16_t two;
    uint32_t four;

    if (packed->width == 2) {
        memcpy(&two, packed->ends + (size_t)at * 2, 2);
        return two;
    }
    memcpy(&four, packed->ends + (size_t)at * 4, 4);
    return four;
}

static bool ends_grow(const struct mr_join_packed *packed, uint32_t rows, uint32_t total)
{
    uint32_t before = 0;

    for (uint32_t i = 0; i < rows; i++) {
        if (end_at(packed, i) < before)
            return false;
        before = end_at(packed, i);
    }
    return before == total;
}

static bool unpack_column(struct mr_bytes *bytes, const struct mr_type *type, uint32_t rows,
                          struct mr_join_packed *packed)
{
    uint32_t form = mr_bytes_u8(bytes);
    uint32_t width = mr_bytes_u8(bytes);
    uint32_t total;

    *packed = (struct mr_join_packed){.width = width};
    if ((form & ~(uint32_t)HAS_NULLS) != form_of(type))
        return false;
    if ((form & HAS_NULLS) != 0)
        packed->validity = take(bytes, bitmap_bytes(rows));
    if (form_of(type) == FORM_NUMBERS) {
        bool is_wide = mr_type_width(type->id) == 16;

        if (is_wide ? width != 16 : width > 8 || (width & (width - 1)) != 0)
            return false;
        packed->base = mr_bytes_u64(bytes);
        packed->values = take(bytes, (size_t)rows * width);
        return !bytes->failed;
    }
    if (width != 2 && width != 4)
        return false;
    total = mr_bytes_u32(bytes);
    packed->ends = take(bytes, (size_t)rows * width);
    packed->values = take(bytes, total);
    return !bytes->failed && ends_grow(packed, rows, total);
}

enum mr_status mr_join__unpack(struct mr_slice value, const struct mr_schema *schema,
                               struct mr_join_packed *packed, uint32_t *ret_rows,
                               const uint8_t **ret_matched, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);
    uint32_t rows = mr_join__packed_rows(value);
    const uint8_t *matched = NULL;
    bool good = rows > 0;

    (void)take(&bytes, MR_JOIN_MATCHED_AT);
    if (good && value.data[1] != 0)
        matched = take(&bytes, bitmap_bytes(rows));
    for (uint32_t i = 0; i < mr_schema_field_count(schema) && good; i++)
        good = unpack_column(&bytes, &mr_schema_field(schema, i)->type, rows, &packed[i]);
    if (!good || bytes.failed || mr_bytes_left(&bytes) > 0)
        return MR_FAIL(err, MR_CORRUPT, "rows of the join's state cannot be read");
    *ret_rows = rows;
    *ret_matched = matched;
    return MR_OK;
}

struct mr_slice mr_join__packed_text(const struct mr_join_packed *packed, uint32_t at)
{
    uint32_t from = at > 0 ? end_at(packed, at - 1) : 0;

    return (struct mr_slice){(const char *)packed->values + from, end_at(packed, at) - from};
}

/* ---- values out ---- */

static bool is_null_packed(const struct mr_join_packed *packed, uint32_t at)
{
    return packed->validity != NULL && ((packed->validity[at >> 3] >> (at & 7)) & 1) == 0;
}

enum mr_status mr_join__append(struct mr_column_builder *out, const struct mr_join_packed *packed,
                               uint32_t at, struct mr_error *err)
{
    struct mr_column one = {.type = out->type, .length = 1};
    uint64_t bits;
    mr_int128 wide;

    if (is_null_packed(packed, at))
        return mr_column_builder_null(out, err);
    if (packed->ends != NULL) {
        struct mr_slice text = mr_join__packed_text(packed, at);
        struct mr_bytes bytes = mr_bytes_of(text.data, text.size_bytes);

        if (!mr_join__is_nested(out->type))
            return mr_column_builder_text(out, text.data, text.size_bytes, err);
        return mr_value_decode(&bytes, &out, 1, err);
    }
    if (packed->width == 16) {
        memcpy(&wide, packed->values + (size_t)at * 16, 16);
        one.values = &wide;
    } else {
        bits = mr_join__packed_number(packed, at);
        one.values = &bits;
    }
    return mr_column_builder_copy(out, &one, 0, err);
}

static enum mr_status gather_wide(struct mr_column_builder *out, const struct mr_join_ref *refs,
                                  size_t count, uint32_t column, struct mr_error *err)
{
    MR_TRY(mr_column_builder_reserve(out, (int64_t)count, 0, err));
    for (size_t i = 0; i < count; i++) {
        if (refs[i].held == NULL || mr_join__is_null(refs[i].held, column, refs[i].at)) {
            MR_TRY(mr_column_builder_null(out, err));
            continue;
        }
        mr_column_builder_i64(out, (int64_t)mr_join__bits(refs[i].held, column, 8, refs[i].at));
    }
    return MR_OK;
}

static enum mr_status gather_text(struct mr_column_builder *out, const struct mr_join_ref *refs,
                                  size_t count, uint32_t column, struct mr_error *err)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        if (refs[i].held != NULL && !mr_join__is_null(refs[i].held, column, refs[i].at))
            bytes += mr_join__text(refs[i].held, column, refs[i].at).size_bytes;
    }
    MR_TRY(mr_column_builder_reserve(out, (int64_t)count, bytes, err));
    for (size_t i = 0; i < count; i++) {
        struct mr_slice text;

        if (refs[i].held == NULL || mr_join__is_null(refs[i].held, column, refs[i].at)) {
            MR_TRY(mr_column_builder_null(out, err));
            continue;
        }
        text = mr_join__text(refs[i].held, column, refs[i].at);
        mr_column_builder_bytes(out, text.data, text.size_bytes);
    }
    return MR_OK;
}

enum mr_status mr_join__gather(struct mr_column_builder *out, const struct mr_join_ref *refs,
                               size_t count, uint32_t column, struct mr_error *err)
{
    if (mr_type_width(out->type->id) == 8)
        return gather_wide(out, refs, count, column, err);
    if (out->type->id == MR_TYPE_TEXT || out->type->id == MR_TYPE_BINARY)
        return gather_text(out, refs, count, column, err);
    for (size_t i = 0; i < count; i++) {
        const struct mr_column *from =
            refs[i].held != NULL ? mr_join__column(refs[i].held, column) : NULL;

        if (refs[i].held == NULL)
            MR_TRY(mr_column_builder_null(out, err));
        else if (from != NULL)
            MR_TRY(mr_column_builder_copy(out, from, refs[i].at, err));
        else
            MR_TRY(mr_join__append(out, &refs[i].held->packed[column], refs[i].at, err));
    }
    return MR_OK;
}
