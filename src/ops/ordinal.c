/*
 * Columns as arrays of ordinals or doubles; see ordinal.h. Called by every kernel of this folder,
 * once a chunk.
 */
#include "ops/ordinal.h"

#include "base/check.h"

bool mr_ordinal_has(enum mr_type_id id)
{
    return id == MR_TYPE_BOOL || (mr_type_width(id) != 0 && mr_type_width(id) <= 8);
}

static void load_bits(const uint8_t *bits, int64_t from, uint32_t count, int64_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = (bits[(from + i) >> 3] >> ((from + i) & 7)) & 1;
}

/* One loop per width: `type` is the C type of the values, `expr` makes the ordinal of `value`. */
#define LOAD(name, type, result, expr)                                                             \
    static void name(const void *values, int64_t from, uint32_t count, result *out)                \
    {                                                                                              \
        const type *at = (const type *)values + from;                                              \
        for (uint32_t i = 0; i < count; i++) {                                                     \
            type value = at[i];                                                                    \
            out[i] = (expr);                                                                       \
        }                                                                                          \
    }
LOAD(load_i8, int8_t, int64_t, (int)value)
LOAD(load_i16, int16_t, int64_t, value)
LOAD(load_i32, int32_t, int64_t, value)
LOAD(load_u8, uint8_t, int64_t, value)
LOAD(load_u16, uint16_t, int64_t, value)
LOAD(load_u32, uint32_t, int64_t, value)
LOAD(load_u64, uint64_t, int64_t, mr_ordinal_of_uint(value))
LOAD(load_f32, float, int64_t, mr_ordinal_of_double((double)value))
LOAD(load_f64, double, int64_t, mr_ordinal_of_double(value))
LOAD(double_i8, int8_t, double, value)
LOAD(double_i16, int16_t, double, value)
LOAD(double_i32, int32_t, double, value)
LOAD(double_i64, int64_t, double, (double)value)
LOAD(double_u8, uint8_t, double, value)
LOAD(double_u16, uint16_t, double, value)
LOAD(double_u32, uint32_t, double, value)
LOAD(double_u64, uint64_t, double, (double)value)
LOAD(double_f32, float, double, (double)value)
#undef LOAD

void mr_ordinal_load(const struct mr_column *column, int64_t from, uint32_t count, int64_t *out)
{
    const void *values = column->values;

    if (values == NULL) { /* only nulls: nobody looks at the values */
        memset(out, 0, count * sizeof(*out));
        return;
    }
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        load_bits(values, from, count, out);
        break;
    case MR_TYPE_INT8:
        load_i8(values, from, count, out);
        break;
    case MR_TYPE_INT16:
        load_i16(values, from, count, out);
        break;
    case MR_TYPE_INT32:
    case MR_TYPE_DATE:
        load_i32(values, from, count, out);
        break;
    case MR_TYPE_INT64:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        memcpy(out, (const int64_t *)values + from, count * sizeof(*out));
        break;
    case MR_TYPE_UINT8:
        load_u8(values, from, count, out);
        break;
    case MR_TYPE_UINT16:
        load_u16(values, from, count, out);
        break;
    case MR_TYPE_UINT32:
        load_u32(values, from, count, out);
        break;
    case MR_TYPE_UINT64:
        load_u64(values, from, count, out);
        break;
    case MR_TYPE_FLOAT:
        load_f32(values, from, count, out);
        break;
    case MR_TYPE_DOUBLE:
        load_f64(values, from, count, out);
        break;
    default:
        MR_ASSERT(!"a type without ordinals");
    }
}

void mr_double_load(const struct mr_column *column, int64_t from, uint32_t count, double *out)
{
    const void *values = column->values;

    if (values == NULL) {
        memset(out, 0, count * sizeof(*out));
        return;
    }
    switch (column->type->id) {
    case MR_TYPE_INT8:
        double_i8(values, from, count, out);
        break;
    case MR_TYPE_INT16:
        double_i16(values, from, count, out);
        break;
    case MR_TYPE_INT32:
        double_i32(values, from, count, out);
        break;
    case MR_TYPE_INT64:
        double_i64(values, from, count, out);
        break;
    case MR_TYPE_UINT8:
        double_u8(values, from, count, out);
        break;
    case MR_TYPE_UINT16:
        double_u16(values, from, count, out);
        break;
    case MR_TYPE_UINT32:
        double_u32(values, from, count, out);
        break;
    case MR_TYPE_UINT64:
        double_u64(values, from, count, out);
        break;
    case MR_TYPE_FLOAT:
        double_f32(values, from, count, out);
        break;
    case MR_TYPE_DOUBLE:
        memcpy(out, (const double *)values + from, count * sizeof(*out));
        break;
    default:
        MR_ASSERT(!"a type without doubles");
    }
}
