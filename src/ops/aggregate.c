/*
 * Aggregation buffers: what one group of an incremental aggregation keeps between batches, and what
 * is done to it.
 *
 *     buffers   rows u64 | slot | slot | ... | byte string | ... packed, little-endian
 *               `------- fixed part -------'   `-- one for each BEST_BYTES slot, in order --'
 *     slot      COUNT       count i64                         rows that were not null
 *               SUM_INT     sum i128 | count i64              integers and decimals: exact
 *               SUM_FLOAT   sum f64 | error f64 | count i64   the sum is sum + error
 *               BEST_64     present u8 | ordinal i64          min, max: see ordinal.h
 *               BEST_128    present u8 | i128                 min, max of decimals
 *               BEST_BYTES  present u8 | size u32             min, max of texts
 *
 * The form is part of the on-disk formats. count(*) has no slot: it is the row count, which late
 * groups need anyway. Aggregates over one column share a slot where they keep the same (sum and
 * avg).
 *
 * What is exact: counts, integer and decimal sums, min, max; avg of integers and decimals is one
 * rounded division of an exact sum. Float sums are kept to about 106 bits, so cutting the input
 * into other batches changes the result only where cancellation eats more than 50 bits; the same
 * batches always give the same bits. A sum that passes through infinity stays there.
 *
 * Called by agg_partial.c and agg_fold.c, and by windows of DStreams (mr_agg_merge,
 * mr_agg_subtract). Threads: a layout is read-only.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/row_codec.h"
#include "ops/ordinal.h"

#include <inttypes.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "buffers are stored as they are in memory");

/* ---- layout ---- */

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

static bool is_float(enum mr_type_id id)
{
    return id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE;
}

static uint32_t slot_bytes(enum mr_slot_kind kind)
{
    switch (kind) {
    case MR_SLOT_COUNT:
        return 8;
    case MR_SLOT_SUM_INT:
    case MR_SLOT_SUM_FLOAT:
        return 24;
    case MR_SLOT_BEST_64:
        return 9;
    case MR_SLOT_BEST_128:
        return 17;
    case MR_SLOT_BEST_BYTES:
        return 5;
    }
    return 0;
}

static const char *agg_text(enum mr_agg_kind kind)
{
    static const char *const texts[] = {"count", "count", "sum", "min", "max", "avg"};

    return texts[kind];
}

/* The slot an aggregate needs; MR_CONFIG when its argument has a type it cannot take. */
static enum mr_status slot_kind(enum mr_agg_kind kind, const struct mr_field *field,
                                enum mr_slot_kind *ret_kind, struct mr_error *err)
{
    enum mr_type_id id = field->type.id;
    char type[64];

    if (kind == MR_AGG_COUNT) {
        *ret_kind = MR_SLOT_COUNT;
        return MR_OK;
    }
    if (kind == MR_AGG_SUM || kind == MR_AGG_AVG) {
        if (is_integer(id) || id == MR_TYPE_DECIMAL || is_float(id)) {
            *ret_kind = is_float(id) ? MR_SLOT_SUM_FLOAT : MR_SLOT_SUM_INT;
            return MR_OK;
        }
    } else if (mr_ordinal_has(id)) {
        *ret_kind = MR_SLOT_BEST_64;
        return MR_OK;
    } else if (id == MR_TYPE_DECIMAL) {
        *ret_kind = MR_SLOT_BEST_128;
        return MR_OK;
    } else if (id == MR_TYPE_TEXT || id == MR_TYPE_BINARY) {
        *ret_kind = MR_SLOT_BEST_BYTES;
        return MR_OK;
    }
    mr_type_print(&field->type, type, sizeof(type));
    return MR_FAIL(err, MR_CONFIG, "cannot compute %s of '%s': it is a %s; cast it first",
                   agg_text(kind), field->name, type);
}

/* Finds or adds the slot; slots has room for one more. */
static enum mr_status add_slot(struct mr_agg_layout *layout, const struct mr_agg *agg,
                               uint32_t *ret_slot, struct mr_error *err)
{
    if (agg->column >= mr_schema_field_count(layout->input))
        return MR_FAIL(err, MR_CONFIG, "cannot aggregate column %u: the input has %u", agg->column,
                       mr_schema_field_count(layout->input));
    const struct mr_field *field = mr_schema_field(layout->input, agg->column);
    bool wants_max = agg->kind == MR_AGG_MAX;
    enum mr_slot_kind kind = MR_SLOT_COUNT;

    MR_TRY(slot_kind(agg->kind, field, &kind, err));
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (slot->kind == kind && slot->column == agg->column && slot->wants_max == wants_max) {
            *ret_slot = i;
            return MR_OK;
        }
    }
    layout->slots[layout->slot_count] = (struct mr_agg_slot){
        .kind = kind,
        .wants_max = wants_max,
        .is_unsigned = field->type.id == MR_TYPE_UINT64,
        .column = agg->column,
        .offset = layout->fixed_bytes,
        .bytes_index = layout->bytes_count,
        .type = field->type,
    };
    layout->fixed_bytes += slot_bytes(kind);
    layout->bytes_count += kind == MR_SLOT_BEST_BYTES;
    *ret_slot = layout->slot_count++;
    return MR_OK;
}

static struct mr_type result_type(const struct mr_agg_layout *layout, const struct mr_agg *agg)
{
    struct mr_type type = {.id = MR_TYPE_INT64};

    if (agg->kind == MR_AGG_COUNT_ALL || agg->kind == MR_AGG_COUNT)
        return type;
    const struct mr_type *input = &mr_schema_field(layout->input, agg->column)->type;
    if (agg->kind == MR_AGG_MIN || agg->kind == MR_AGG_MAX)
        return *input;
    if (agg->kind == MR_AGG_AVG || is_float(input->id))
        type.id = MR_TYPE_DOUBLE;
    else if (input->id == MR_TYPE_DECIMAL)
        type = (struct mr_type){.id = MR_TYPE_DECIMAL, .precision = 38, .scale = input->scale};
    return type;
}

static enum mr_status make_schemas(struct mr_agg_layout *layout,
                                   const struct mr_aggregate_spec *spec, struct mr_error *err)
{
    static const struct mr_field partial[2] = {
        {.name = "key", .type = {.id = MR_TYPE_BINARY}},
        {.name = "value", .type = {.id = MR_TYPE_BINARY}},
    };
    uint32_t count = spec->key_count + spec->agg_count;
    struct mr_field *fields = mr_alloc_zero(NULL, (count + 1) * sizeof(*fields));
    enum mr_status status;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    for (uint32_t i = 0; i < spec->key_count; i++) {
        fields[i].name = spec->key_names[i];
        fields[i].type = mr_schema_field(layout->input, spec->keys[i])->type;
    }
    for (uint32_t i = 0; i < spec->agg_count; i++) {
        fields[spec->key_count + i].name = spec->aggs[i].name;
        fields[spec->key_count + i].type = result_type(layout, &spec->aggs[i]);
    }
    MR_TRY_GOTO(mr_schema_new(partial, 2, &layout->partial, err));
    MR_TRY_GOTO(mr_schema_new(fields, count, &layout->output, err));
done:
    mr_free(fields);
    return status;
}

static enum mr_status check_keys(const struct mr_aggregate_spec *spec, struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(spec->input);

    for (uint32_t i = 0; i < spec->key_count; i++)
        if (spec->keys[i] >= column_count)
            return MR_FAIL(err, MR_CONFIG, "cannot group by column %u: the input has %u",
                           spec->keys[i], column_count);
    if (spec->event_time_key < 0)
        return MR_OK;
    if ((uint32_t)spec->event_time_key >= spec->key_count)
        return MR_FAIL(err, MR_CONFIG, "cannot take key %d as event time: there are %u keys",
                       (int)spec->event_time_key, spec->key_count);
    const struct mr_field *field = mr_schema_field(spec->input, spec->keys[spec->event_time_key]);
    if (field->type.id != MR_TYPE_TIMESTAMP && field->type.id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG, "cannot take key '%s' as event time: it must be a TIMESTAMP",
                       field->name);
    return MR_OK;
}

enum mr_status mr_agg_layout_new(const struct mr_aggregate_spec *spec,
                                 struct mr_agg_layout **ret_layout, struct mr_error *err)
{
    struct mr_agg_layout *layout = NULL;
    enum mr_status status;

    MR_TRY(check_keys(spec, err));
    layout = mr_alloc_zero(NULL, sizeof(*layout));
    if (layout == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    layout->input = mr_schema_ref(spec->input);
    layout->key_count = spec->key_count;
    layout->result_count = spec->agg_count;
    layout->fixed_bytes = MR_AGG_ROWS_BYTES;
    layout->keys = mr_alloc(NULL, spec->key_count * sizeof(*layout->keys));
    layout->slots = mr_alloc_zero(NULL, (spec->agg_count + 1) * sizeof(*layout->slots));
    layout->results = mr_alloc_zero(NULL, (spec->agg_count + 1) * sizeof(*layout->results));
    if (layout->keys == NULL || layout->slots == NULL || layout->results == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
        goto done;
    }
    if (spec->key_count > 0)
        memcpy(layout->keys, spec->keys, spec->key_count * sizeof(*layout->keys));
    for (uint32_t i = 0; i < spec->agg_count; i++) {
        layout->results[i].kind = spec->aggs[i].kind;
        if (spec->aggs[i].kind != MR_AGG_COUNT_ALL)
            MR_TRY_GOTO(add_slot(layout, &spec->aggs[i], &layout->results[i].slot, err));
    }
    MR_TRY_GOTO(make_schemas(layout, spec, err));
    *ret_layout = layout;
    return MR_OK;
done:
    mr_agg_layout_free(layout);
    return status;
}

void mr_agg_layout_free(struct mr_agg_layout *layout)
{
    if (layout == NULL)
        return;
    mr_schema_unref(layout->input);
    mr_schema_unref(layout->output);
    mr_schema_unref(layout->partial);
    mr_free(layout->keys);
    mr_free(layout->slots);
    mr_free(layout->results);
    mr_free(layout);
}

void mr_agg_print(const struct mr_agg_layout *layout, struct mr_buf *out)
{
    mr_buf_add_str(out, "rows");
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        static const char *const names[] = {"count", "sum", "sum", "", "", ""};
        const struct mr_agg_slot *slot = &layout->slots[i];
        const char *name =
            slot->kind >= MR_SLOT_BEST_64 ? (slot->wants_max ? "max" : "min") : names[slot->kind];
        char type[256];
        mr_type_print(&slot->type, type, sizeof(type));
        mr_buf_printf(out, ", %s(%s %s)", name, mr_schema_field(layout->input, slot->column)->name,
                      type);
    }
}

/* ---- merging ---- */

enum mr_status mr_agg_check(const struct mr_agg_layout *layout, struct mr_slice buffers,
                            struct mr_error *err)
{
    uint64_t wanted = layout->fixed_bytes;
    bool ok = buffers.size_bytes >= wanted;

    for (uint32_t i = 0; ok && i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (slot->kind < MR_SLOT_BEST_64)
            continue;
        ok = (uint8_t)buffers.data[slot->offset] <= 1;
        if (slot->kind == MR_SLOT_BEST_BYTES)
            wanted += mr_load_u32(buffers.data + slot->offset + 1);
    }
    if (ok && buffers.size_bytes == wanted)
        return MR_OK;
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the buffers of a group: %zu bytes do not fit the aggregates; "
                   "restore the checkpoint from a copy",
                   buffers.size_bytes);
}

static enum mr_status sum_overflow(struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "cannot add up: the sum has more than 38 digits; cast to DOUBLE");
}

static enum mr_status merge_slot(const struct mr_agg_slot *slot, char *a, const char *b,
                                 struct mr_error *err)
{
    mr_int128 sum;

    switch (slot->kind) {
    case MR_SLOT_COUNT:
        mr_store_i64(a, mr_load_i64(a) + mr_load_i64(b));
        break;
    case MR_SLOT_SUM_INT:
        if (__builtin_add_overflow(mr_load_i128(a), mr_load_i128(b), &sum))
            return sum_overflow(err);
        mr_store_i128(a, sum);
        mr_store_i64(a + 16, mr_load_i64(a + 16) + mr_load_i64(b + 16));
        break;
    case MR_SLOT_SUM_FLOAT: {
        double total = mr_load_f64(a);
        double error = mr_load_f64(a + 8);
        mr_float_add(&total, &error, mr_load_f64(b));
        mr_store_f64(a, total);
        mr_store_f64(a + 8, __builtin_isfinite(total) ? error + mr_load_f64(b + 8) : 0);
        mr_store_i64(a + 16, mr_load_i64(a + 16) + mr_load_i64(b + 16));
        break;
    }
    case MR_SLOT_BEST_64:
        if (*b != 0 &&
            (*a == 0 || mr_better_i64(slot->wants_max, mr_load_i64(a + 1), mr_load_i64(b + 1))))
            memcpy(a, b, 9);
        break;
    case MR_SLOT_BEST_128: {
        mr_int128 mine = mr_load_i128(a + 1);
        mr_int128 theirs = mr_load_i128(b + 1);
        if (*b != 0 && (*a == 0 || (slot->wants_max ? theirs > mine : theirs < mine)))
            memcpy(a, b, 17);
        break;
    }
    case MR_SLOT_BEST_BYTES:
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

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order = common == 0 ? 0 : memcmp(a, b, common);

    return order != 0 ? order : (a_bytes > common) - (b_bytes > common);
}

/* out has the merged fixed part: chooses each byte string from a or b and appends it. */
static void merge_strings(const struct mr_agg_layout *layout, struct mr_buf *out, const char *a,
                          const char *b)
{
    const char *a_at = a + layout->fixed_bytes;
    const char *b_at = b + layout->fixed_bytes;

    for (uint32_t i = 0; i < layout->slot_count && !out->failed; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (slot->kind != MR_SLOT_BEST_BYTES)
            continue;
        const char *a_slot = a + slot->offset;
        const char *b_slot = b + slot->offset;
        uint32_t a_bytes = mr_load_u32(a_slot + 1);
        uint32_t b_bytes = mr_load_u32(b_slot + 1);
        int order = compare_bytes(a_at, a_bytes, b_at, b_bytes);
        bool take_b = *b_slot != 0 && (*a_slot == 0 || (slot->wants_max ? order < 0 : order > 0));
        memcpy(out->data + slot->offset, take_b ? b_slot : a_slot, 5);
        mr_buf_add(out, take_b ? b_at : a_at, take_b ? b_bytes : a_bytes);
        a_at += a_bytes;
        b_at += b_bytes;
    }
}

enum mr_status mr_agg_merge(const struct mr_agg_layout *layout, struct mr_buf *a, const char *b,
                            size_t b_bytes, struct mr_error *err)
{
    struct mr_buf merged = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    MR_TRY(mr_agg_check(layout, (struct mr_slice){b, b_bytes}, err));
    if (a->size == 0) {
        mr_buf_add(a, b, b_bytes);
    } else {
        MR_TRY(mr_agg_check(layout, (struct mr_slice){a->data, a->size}, err));
        if (layout->bytes_count == 0)
            return mr_agg_merge_fixed(layout, a->data, b, err);
        mr_buf_add(&merged, a->data, layout->fixed_bytes);
        if (!merged.failed) {
            MR_TRY_GOTO(mr_agg_merge_fixed(layout, merged.data, b, err));
            merge_strings(layout, &merged, a->data, b);
        }
        mr_buf_clear(a);
        mr_buf_add(a, merged.data, merged.size);
    }
    if (a->failed || merged.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot merge the buffers of a group: out of memory");
done:
    mr_buf_release(&merged);
    return status;
}

/* ---- taking out again ---- */

static enum mr_status cannot_subtract(struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "cannot take rows out of min or max again; use the window without inverse");
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
            return sum_overflow(err);
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
        if (layout->slots[i].kind >= MR_SLOT_BEST_64)
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

/* ---- results ---- */

static enum mr_status emit_sum(const struct mr_agg_slot *slot, const char *at, const char *name,
                               struct mr_column_builder *out, struct mr_error *err)
{
    if (slot->kind == MR_SLOT_SUM_FLOAT) {
        double error = mr_load_f64(at + 8);
        return mr_column_builder_double(out, mr_load_f64(at) + error, err);
    }
    mr_int128 sum = mr_load_i128(at);
    if (slot->type.id == MR_TYPE_DECIMAL) {
        mr_int128 limit = (mr_int128)UINT64_C(10000000000000000000);
        limit *= limit; /* 10^38 */
        if (sum >= limit || sum <= -limit)
            return sum_overflow(err);
        return mr_column_builder_decimal(out, sum, err);
    }
    if (sum > INT64_MAX || sum < INT64_MIN)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot emit '%s': the sum does not fit a BIGINT; cast its argument to "
                       "DECIMAL or DOUBLE",
                       name);
    return mr_column_builder_int(out, (int64_t)sum, err);
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

static enum mr_status emit_best(const struct mr_agg_slot *slot, const char *at, const char *bytes,
                                struct mr_column_builder *out, struct mr_error *err)
{
    if (slot->kind == MR_SLOT_BEST_BYTES)
        return mr_column_builder_text(out, bytes, mr_load_u32(at + 1), err);
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

/* The byte string of a BEST_BYTES slot. */
static const char *bytes_of_slot(const struct mr_agg_layout *layout, const char *buffers,
                                 uint32_t slot_index)
{
    const char *at = buffers + layout->fixed_bytes;

    for (uint32_t i = 0; i < slot_index; i++)
        if (layout->slots[i].kind == MR_SLOT_BEST_BYTES)
            at += mr_load_u32(buffers + layout->slots[i].offset + 1);
    return at;
}

static enum mr_status emit_result(const struct mr_agg_layout *layout, uint32_t index,
                                  const char *buffers, struct mr_column_builder *out,
                                  struct mr_error *err)
{
    const struct mr_agg_result *result = &layout->results[index];
    const char *name = mr_schema_field(layout->output, layout->key_count + index)->name;

    if (result->kind == MR_AGG_COUNT_ALL)
        return mr_column_builder_int(out, mr_load_i64(buffers), err);
    const struct mr_agg_slot *slot = &layout->slots[result->slot];
    const char *at = buffers + slot->offset;
    switch (result->kind) {
    case MR_AGG_COUNT:
        return mr_column_builder_int(out, mr_load_i64(at), err);
    case MR_AGG_SUM:
    case MR_AGG_AVG:
        if (mr_load_i64(at + 16) == 0)
            return mr_column_builder_null(out, err);
        return result->kind == MR_AGG_SUM ? emit_sum(slot, at, name, out, err)
                                          : emit_avg(slot, at, out, err);
    default:
        if (*at == 0)
            return mr_column_builder_null(out, err);
        return emit_best(slot, at, bytes_of_slot(layout, buffers, result->slot), out, err);
    }
}

enum mr_status mr_agg_emit(const struct mr_agg_layout *layout, struct mr_slice key,
                           struct mr_slice buffers, struct mr_batch_builder *out,
                           struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key.data, key.size_bytes);

    MR_TRY(mr_agg_check(layout, buffers, err));
    for (uint32_t i = 0; i < layout->key_count; i++) {
        const struct mr_type *type = &mr_schema_field(layout->output, i)->type;
        MR_TRY(mr_key_decode(&bytes, type, mr_batch_builder_column(out, i), err));
    }
    if (mr_bytes_left(&bytes) != 0)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the key of a group: %zu bytes too many; restore the checkpoint "
                       "from a copy",
                       mr_bytes_left(&bytes));
    for (uint32_t i = 0; i < layout->result_count; i++)
        MR_TRY(emit_result(layout, i, buffers.data,
                           mr_batch_builder_column(out, layout->key_count + i), err));
    return mr_batch_builder_rows_added(out, 1, err);
}
