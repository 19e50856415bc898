/*
 * State of another version of a query: which buffers of an aggregate store go on, under which slots
 * of the new layout.
 *
 *     old   rows | sum of price | max of name            in the checkpoint, from its text
 *                  |
 *     new   rows | count of city | sum of price          of the query as it is now
 *                  `- begins empty
 *
 * Two slots are the same when they keep the same ("sum") of the same (mr_agg.identity) in bytes
 * that mean the same; a sum of INTEGER goes on as a sum of BIGINT, a list of INTEGER does not.
 * Checkpoints from before identities were kept have the planner's own names (mr_k0, mr_a1): those
 * are matched by place when all else is equal.
 *
 * Called by the judge of a checkpoint that is opened or checked. Threads: the driver.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdio.h>

struct change {
    struct mr_buf text; /* the reason */
    struct mr_agg_layout *from;
    struct mr_agg_layout *to;
    int32_t *source; /* slot of `from` for each slot of `to`, -1 = none */
};

/* ---- types ---- */

static bool is_signed(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_INT64;
}

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

static bool is_float(enum mr_type_id id)
{
    return id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE;
}

/* Every value of type a is one of type b. */
static bool is_wider(const struct mr_type *a, const struct mr_type *b)
{
    uint32_t a_width = mr_type_width(a->id), b_width = mr_type_width(b->id);

    if (is_float(a->id) && is_float(b->id))
        return b_width >= a_width;
    if (!is_integer(a->id) || !is_integer(b->id))
        return false;
    if (is_signed(a->id) == is_signed(b->id))
        return b_width >= a_width;
    return is_signed(b->id) && b_width > a_width;
}

/* Do the bytes of a slot of type a mean the same when its type is b? */
static bool same_bytes(enum mr_slot_kind kind, const struct mr_type *a, const struct mr_type *b)
{
    if (mr_type_equal(a, b))
        return true;
    switch (kind) {
    case MR_SLOT_COUNT:
    case MR_SLOT_SUM_FLOAT:
        return true;
    case MR_SLOT_SUM_INT:
        if (a->id == MR_TYPE_DECIMAL && b->id == MR_TYPE_DECIMAL)
            return a->scale == b->scale;
        return is_integer(a->id) && is_integer(b->id);
    case MR_SLOT_PRODUCT:
    case MR_SLOT_MOMENTS:
    case MR_SLOT_COMOMENTS:
        return true; /* all of numbers */
    case MR_SLOT_DIGEST:
        return (is_integer(a->id) || is_float(a->id)) && (is_integer(b->id) || is_float(b->id));
    case MR_SLOT_BEST_64:
    case MR_SLOT_BITS: /* UINT64 has its top bit flipped */
        return is_wider(a, b) && a->id != MR_TYPE_UINT64 && b->id != MR_TYPE_UINT64;
    case MR_SLOT_BEST_128:
        return a->scale == b->scale && b->precision >= a->precision;
    default:
        return false;
    }
}

static const struct mr_type *type_of(const struct mr_agg_layout *layout, uint32_t column)
{
    return &mr_schema_field(layout->input, column)->type;
}

static bool same_types(const struct mr_agg_layout *from, const struct mr_agg_slot *a,
                       const struct mr_agg_layout *to, const struct mr_agg_slot *b)
{
    if (a->kind != b->kind || !same_bytes(a->kind, &a->type, &b->type) ||
        a->order_count != b->order_count)
        return false;
    if ((a->kind == MR_SLOT_ARG_BEST || a->kind == MR_SLOT_TOP) &&
        !mr_type_equal(type_of(from, a->other), type_of(to, b->other)))
        return false;
    for (uint32_t i = 0; i < a->order_count; i++) {
        if (!mr_type_equal(type_of(from, a->orders[i].column), type_of(to, b->orders[i].column)))
            return false;
    }
    return true;
}

/* ---- identities ---- */

/* Names of the planner's own, from before identities were kept. */
static bool is_planner_name(const char *name)
{
    size_t digits;

    if (strcmp(name, "mr_start") == 0 || strcmp(name, "mr_end") == 0)
        return true;
    if (strncmp(name, "mr_k", 4) != 0 && strncmp(name, "mr_a", 4) != 0)
        return false;
    digits = strspn(name + 4, "0123456789");
    return digits > 0 && name[4 + digits] == '\0';
}

static int32_t find_slot(const struct mr_agg_layout *from, const struct mr_agg_slot *wanted)
{
    for (uint32_t i = 0; i < from->slot_count; i++) {
        if (strcmp(from->slots[i].what, wanted->what) == 0 &&
            strcmp(from->slots[i].identity, wanted->identity) == 0)
            return (int32_t)i;
    }
    return -1;
}

/* All slots stand where they stood, and only the planner's names differ. */
static bool same_by_place(const struct mr_agg_layout *from, const struct mr_agg_layout *to)
{
    if (from->slot_count != to->slot_count)
        return false;
    for (uint32_t i = 0; i < to->slot_count; i++) {
        const struct mr_agg_slot *a = &from->slots[i];
        const struct mr_agg_slot *b = &to->slots[i];

        if (strcmp(a->what, b->what) != 0 || !same_types(from, a, to, b) ||
            (strcmp(a->identity, b->identity) != 0 && !is_planner_name(a->identity)))
            return false;
    }
    return true;
}

/* ---- the comparison ---- */

static bool compare_keys(struct change *change)
{
    const struct mr_agg_layout *from = change->from;
    const struct mr_agg_layout *to = change->to;

    if (from->key_count != to->key_count) {
        mr_buf_printf(&change->text, "the state has %u keys, the query groups by %u",
                      from->key_count, to->key_count);
        return false;
    }
    for (uint32_t i = 0; i < to->key_count; i++) {
        const char *old = from->key_identities[i];
        const struct mr_type *a = &mr_schema_field(from->output, i)->type;
        const struct mr_type *b = &mr_schema_field(to->output, i)->type;
        char types[2][128];

        if (strcmp(old, to->key_identities[i]) != 0 && !is_planner_name(old)) {
            mr_buf_printf(&change->text, "key %u of the state is '%s', the query groups by '%s'",
                          i + 1, old, to->key_identities[i]);
            return false;
        }
        if (!mr_type_equal(a, b)) {
            mr_type_print(a, types[0], sizeof(types[0]));
            mr_type_print(b, types[1], sizeof(types[1]));
            mr_buf_printf(&change->text, "key '%s' is %s in the state and %s in the query",
                          to->key_identities[i], types[0], types[1]);
            return false;
        }
    }
    return true;
}

static void name_slot(struct mr_buf *text, const char *before, const struct mr_agg_slot *slot)
{
    mr_buf_printf(text, "%s%s of '%s'", before, slot->what, slot->identity);
}

/* Every slot of the query gets its source; false when one has bytes of another type. */
static bool match_slots(struct change *change)
{
    const struct mr_agg_layout *to = change->to;
    bool by_place = same_by_place(change->from, to);
    char types[2][128];

    for (uint32_t i = 0; i < to->slot_count; i++) {
        const struct mr_agg_slot *slot = &to->slots[i];
        int32_t at = by_place ? (int32_t)i : find_slot(change->from, slot);

        change->source[i] = at;
        if (at < 0 || same_types(change->from, &change->from->slots[at], to, slot))
            continue;
        mr_type_print(&change->from->slots[at].type, types[0], sizeof(types[0]));
        mr_type_print(&slot->type, types[1], sizeof(types[1]));
        name_slot(&change->text, "", slot);
        mr_buf_printf(&change->text, " is of %s in the state and of %s in the query", types[0],
                      types[1]);
        return false;
    }
    return true;
}

static bool is_used(const struct change *change, uint32_t old_slot)
{
    for (uint32_t i = 0; i < change->to->slot_count; i++) {
        if (change->source[i] == (int32_t)old_slot)
            return true;
    }
    return false;
}

/* The reason of SAME and EXTEND. */
static enum mr_change_class tell(struct change *change)
{
    const struct mr_agg_layout *from = change->from;
    const struct mr_agg_layout *to = change->to;
    bool same = from->slot_count == to->slot_count;
    const char *before = "new, counting from now on: ";

    mr_buf_clear(&change->text);
    for (uint32_t i = 0; i < to->slot_count; i++) {
        same = same && change->source[i] == (int32_t)i;
        if (change->source[i] >= 0)
            continue;
        name_slot(&change->text, before, &to->slots[i]);
        before = ", ";
    }
    before = change->text.size > 0 ? "; no longer kept, for good: " : "no longer kept, for good: ";
    for (uint32_t i = 0; i < from->slot_count; i++) {
        if (is_used(change, i))
            continue;
        name_slot(&change->text, before, &from->slots[i]);
        before = ", ";
    }
    if (same)
        return MR_CHANGE_SAME;
    return change->text.size == 0 ? MR_CHANGE_SAME : MR_CHANGE_EXTEND; /* only moved: the same */
}

static void change_free(void *arg)
{
    struct change *change = arg;

    if (change == NULL)
        return;
    mr_buf_release(&change->text);
    mr_agg_layout_free(change->from);
    mr_agg_layout_free(change->to);
    mr_free(change->source);
    mr_free(change);
}

/* ---- converting ---- */

/* Where the byte string of a slot begins. */
static const char *bytes_of(const struct mr_agg_layout *layout, const char *value, uint32_t slot)
{
    const char *at = value + layout->fixed_bytes;

    for (uint32_t i = 0; i < slot; i++) {
        if (mr_slot_is_wide(layout->slots[i].kind))
            at += mr_load_u32(value + layout->slots[i].offset + 1);
    }
    return at;
}

/* Bytes of a slot in the fixed part. */
static uint32_t slot_size(const struct mr_agg_layout *layout, uint32_t slot)
{
    uint32_t end =
        slot + 1 < layout->slot_count ? layout->slots[slot + 1].offset : layout->fixed_bytes;

    return end - layout->slots[slot].offset;
}

static enum mr_status convert_value(const struct change *change, struct mr_slice value,
                                    struct mr_buf *out, struct mr_error *err)
{
    const struct mr_agg_layout *from = change->from;
    const struct mr_agg_layout *to = change->to;
    char fixed[MR_AGG_PACKS_UP_TO_BYTES];

    if (mr_agg_packs(from)) {
        MR_TRY(mr_agg_unpack(from, value, fixed, err));
        value = (struct mr_slice){fixed, from->fixed_bytes};
    }
    MR_TRY(mr_agg_check(from, value, err));
    if (!mr_buf_reserve(out, to->fixed_bytes + value.size_bytes))
        return MR_FAIL(err, MR_NOMEM, "cannot convert state: out of memory");
    memset(out->data, 0, to->fixed_bytes);
    out->size = to->fixed_bytes;
    memcpy(out->data, value.data, MR_AGG_ROWS_BYTES);
    for (uint32_t i = 0; i < to->slot_count; i++) {
        if (change->source[i] < 0)
            continue;
        uint32_t at = (uint32_t)change->source[i];
        const char *old = value.data + from->slots[at].offset;
        memcpy(out->data + to->slots[i].offset, old, slot_size(from, at));
        if (mr_slot_is_wide(to->slots[i].kind))
            mr_buf_add(out, bytes_of(from, value.data, at), mr_load_u32(old + 1));
    }
    return out->failed ? MR_FAIL(err, MR_NOMEM, "cannot convert state: out of memory") : MR_OK;
}

static enum mr_status convert(void *arg, struct mr_slice key, struct mr_slice value,
                              struct mr_buf *ret_key, struct mr_buf *ret_value,
                              struct mr_error *err)
{
    mr_buf_add(ret_key, key.data, key.size_bytes);
    return convert_value(arg, value, ret_value, err);
}

static enum mr_status read_layouts(struct change *change, const struct mr_store_change *texts,
                                   bool *ret_known, struct mr_error *err)
{
    enum mr_status status;

    *ret_known = false;
    status =
        mr_agg_layout_parse(texts->old_key_schema, texts->old_value_schema, &change->from, NULL);
    if (status == MR_OK)
        status = mr_agg_layout_parse(texts->key_schema, texts->value_schema, &change->to, NULL);
    if (status == MR_NOMEM)
        return MR_FAIL(err, MR_NOMEM, "cannot compare aggregations: out of memory");
    if (status != MR_OK) {
        mr_buf_printf(&change->text, "its state was written in a form that is not known: '%.150s'",
                      texts->old_value_schema);
        return MR_OK;
    }
    change->source = mr_alloc_zero(NULL, (change->to->slot_count + 1) * sizeof(*change->source));
    if (change->source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot compare aggregations: out of memory");
    *ret_known = true;
    return MR_OK;
}

/* Do any bytes change their place? */
static bool moves(const struct change *change)
{
    bool same = change->from->slot_count == change->to->slot_count;

    for (uint32_t i = 0; same && i < change->to->slot_count; i++)
        same = change->source[i] == (int32_t)i;
    return !same;
}

enum mr_status mr_agg_adapt_store(const struct mr_store_change *texts,
                                  struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct change *change = mr_alloc_zero(NULL, sizeof(*change));
    struct mr_store_adaption adaption = {.change = MR_CHANGE_REBUILD};
    bool known;
    enum mr_status status;

    if (change == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot compare aggregations: out of memory");
    MR_TRY_GOTO(read_layouts(change, texts, &known, err));
    if (known && compare_keys(change) && match_slots(change))
        adaption.change = tell(change);
    if (change->text.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot compare aggregations: out of memory");
        goto done;
    }
    snprintf(adaption.reason, sizeof(adaption.reason), "%.*s", MR_CHANGE_REASON_BYTES - 1,
             change->text.size > 0 ? change->text.data : "");
    if (adaption.change == MR_CHANGE_EXTEND ||
        (adaption.change == MR_CHANGE_SAME && moves(change))) {
        adaption.convert = convert;
        adaption.arg = change;
        adaption.free = change_free;
        change = NULL;
    }
    *ret_adaption = adaption;
done:
    change_free(change);
    return status;
}
