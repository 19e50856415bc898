/*
 * Layouts: which slots a list of aggregates needs and where they stand (aggregate.c draws them).
 *
 *     sum(price), avg(price), max(name)   -->   rows | sum of price | max of name
 *                                                      `-- shared by sum and avg
 *
 * Two aggregates share a slot when they keep the same of the same: equal words ("sum"), columns and
 * identities. Results point at slots.
 *
 * Called by both halves of the aggregation and by whoever reads buffers. Threads: a layout is
 * read-only.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "ops/ordinal.h"

#include <inttypes.h>

/* Identities are names in schemas, which have a limit: long ones end in a hash. */
enum { IDENTITY_BYTES_MAX = 200, IDENTITY_HEAD_BYTES = 160 };

/* What an aggregate takes. */
enum takes {
    TAKES_NOTHING,
    TAKES_ANY,
    TAKES_NUMBER,
    TAKES_TWO_NUMBERS,
    TAKES_ORDERED,
    TAKES_BOOL,
    TAKES_INTEGER,
    TAKES_ANY_AND_KEY,
    TAKES_NUMBER_OR_TIME,
};

static const struct kind {
    const char *name; /* for errors */
    const char *what; /* of its slot, in the value schema; sums, min and max: see slot_kind */
    enum takes takes;
    enum mr_slot_kind slot;
} kinds[] = {
    [MR_AGG_COUNT_ALL] = {"count", "rows", TAKES_NOTHING, MR_SLOT_COUNT},
    [MR_AGG_COUNT] = {"count", "count", TAKES_ANY, MR_SLOT_COUNT},
    [MR_AGG_SUM] = {"sum", "sum", TAKES_NUMBER, MR_SLOT_SUM_INT},
    [MR_AGG_MIN] = {"min", "min", TAKES_ORDERED, MR_SLOT_BEST_64},
    [MR_AGG_MAX] = {"max", "max", TAKES_ORDERED, MR_SLOT_BEST_64},
    [MR_AGG_AVG] = {"avg", "sum", TAKES_NUMBER, MR_SLOT_SUM_INT},
    [MR_AGG_STDDEV_SAMP] = {"stddev", "moments", TAKES_NUMBER, MR_SLOT_MOMENTS},
    [MR_AGG_STDDEV_POP] = {"stddev_pop", "moments", TAKES_NUMBER, MR_SLOT_MOMENTS},
    [MR_AGG_VAR_SAMP] = {"variance", "moments", TAKES_NUMBER, MR_SLOT_MOMENTS},
    [MR_AGG_VAR_POP] = {"var_pop", "moments", TAKES_NUMBER, MR_SLOT_MOMENTS},
    [MR_AGG_SEM] = {"sem", "moments", TAKES_NUMBER, MR_SLOT_MOMENTS},
    [MR_AGG_COVAR_SAMP] = {"covar_samp", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_COVAR_POP] = {"covar_pop", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_CORR] = {"corr", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_COUNT] = {"regr_count", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_AVGX] = {"regr_avgx", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_AVGY] = {"regr_avgy", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_SXX] = {"regr_sxx", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_SYY] = {"regr_syy", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_SXY] = {"regr_sxy", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_SLOPE] = {"regr_slope", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_INTERCEPT] = {"regr_intercept", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_REGR_R2] = {"regr_r2", "comoments", TAKES_TWO_NUMBERS, MR_SLOT_COMOMENTS},
    [MR_AGG_PRODUCT] = {"product", "product", TAKES_NUMBER, MR_SLOT_PRODUCT},
    [MR_AGG_BOOL_AND] = {"bool_and", "min", TAKES_BOOL, MR_SLOT_BEST_64},
    [MR_AGG_BOOL_OR] = {"bool_or", "max", TAKES_BOOL, MR_SLOT_BEST_64},
    [MR_AGG_BIT_AND] = {"bit_and", "bit_and", TAKES_INTEGER, MR_SLOT_BITS},
    [MR_AGG_BIT_OR] = {"bit_or", "bit_or", TAKES_INTEGER, MR_SLOT_BITS},
    [MR_AGG_BIT_XOR] = {"bit_xor", "bit_xor", TAKES_INTEGER, MR_SLOT_BITS},
    [MR_AGG_FIRST] = {"first", "first", TAKES_ANY, MR_SLOT_FIRST},
    [MR_AGG_LAST] = {"last", "last", TAKES_ANY, MR_SLOT_LAST},
    [MR_AGG_ANY_VALUE] = {"any_value", "any_value", TAKES_ANY, MR_SLOT_FIRST},
    [MR_AGG_ARG_MIN] = {"arg_min", "arg_min", TAKES_ANY_AND_KEY, MR_SLOT_ARG_BEST},
    [MR_AGG_ARG_MAX] = {"arg_max", "arg_max", TAKES_ANY_AND_KEY, MR_SLOT_ARG_BEST},
    [MR_AGG_TOP_MIN] = {"arg_min", "top_min", TAKES_ANY_AND_KEY, MR_SLOT_TOP},
    [MR_AGG_TOP_MAX] = {"arg_max", "top_max", TAKES_ANY_AND_KEY, MR_SLOT_TOP},
    [MR_AGG_LIST] = {"list", "list", TAKES_ANY, MR_SLOT_LIST},
    [MR_AGG_COUNT_DISTINCT] = {"count", "set", TAKES_ANY, MR_SLOT_SET},
    [MR_AGG_SUM_DISTINCT] = {"sum", "set", TAKES_NUMBER, MR_SLOT_SET},
    [MR_AGG_AVG_DISTINCT] = {"avg", "set", TAKES_NUMBER, MR_SLOT_SET},
    [MR_AGG_LIST_DISTINCT] = {"list", "set", TAKES_ANY, MR_SLOT_SET},
    [MR_AGG_APPROX_COUNT_DISTINCT] = {"approx_count_distinct", "hll", TAKES_ANY, MR_SLOT_HLL},
    [MR_AGG_APPROX_QUANTILE] = {"approx_quantile", "digest", TAKES_NUMBER_OR_TIME, MR_SLOT_DIGEST},
    [MR_AGG_USER] = {"an aggregate", "user", TAKES_ANY, MR_SLOT_USER},
};

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

static bool is_float(enum mr_type_id id)
{
    return id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE;
}

static bool is_number(enum mr_type_id id)
{
    return is_integer(id) || is_float(id) || id == MR_TYPE_DECIMAL;
}

static bool is_time(enum mr_type_id id)
{
    return id == MR_TYPE_DATE || id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
}

static uint32_t slot_bytes(enum mr_slot_kind kind)
{
    switch (kind) {
    case MR_SLOT_COUNT:
        return 8;
    case MR_SLOT_SUM_INT:
    case MR_SLOT_SUM_FLOAT:
    case MR_SLOT_MOMENTS:
        return 24;
    case MR_SLOT_PRODUCT:
        return 16;
    case MR_SLOT_COMOMENTS:
        return 48;
    case MR_SLOT_BEST_64:
    case MR_SLOT_BITS:
        return 9;
    case MR_SLOT_BEST_128:
        return 17;
    default:
        return 5;
    }
}

static bool may_take(enum takes takes, enum mr_type_id id)
{
    switch (takes) {
    case TAKES_NUMBER:
    case TAKES_TWO_NUMBERS:
        return is_number(id);
    case TAKES_ORDERED:
        return id != MR_TYPE_LIST && id != MR_TYPE_STRUCT;
    case TAKES_BOOL:
        return id == MR_TYPE_BOOL;
    case TAKES_INTEGER:
        return is_integer(id);
    case TAKES_NUMBER_OR_TIME:
        return is_number(id) || is_time(id);
    default:
        return true;
    }
}

static enum mr_status check_column(const struct mr_agg_layout *layout, uint32_t column,
                                   struct mr_error *err)
{
    if (column < mr_schema_field_count(layout->input))
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG, "cannot aggregate column %u: the input has %u", column,
                   mr_schema_field_count(layout->input));
}

/* MR_CONFIG when an argument has a type the aggregate cannot take. */
static enum mr_status check_argument(const struct mr_agg_layout *layout, const struct mr_agg *agg,
                                     uint32_t column, struct mr_error *err)
{
    char type[64];

    MR_TRY(check_column(layout, column, err));
    const struct mr_field *field = mr_schema_field(layout->input, column);
    if (may_take(kinds[agg->kind].takes, field->type.id))
        return MR_OK;
    mr_type_print(&field->type, type, sizeof(type));
    return MR_FAIL(err, MR_CONFIG, "cannot compute %s of '%s': it is a %s; cast it first",
                   kinds[agg->kind].name, agg->identity != NULL ? agg->identity : field->name,
                   type);
}

static enum mr_status check_arguments(const struct mr_agg_layout *layout, const struct mr_agg *agg,
                                      struct mr_error *err)
{
    enum takes takes = kinds[agg->kind].takes;

    MR_TRY(check_argument(layout, agg, agg->column, err));
    if (takes == TAKES_TWO_NUMBERS)
        MR_TRY(check_argument(layout, agg, agg->other, err));
    if (takes == TAKES_ANY_AND_KEY)
        MR_TRY(check_column(layout, agg->other, err));
    if (agg->has_filter) {
        MR_TRY(check_column(layout, agg->filter, err));
        if (mr_schema_field(layout->input, agg->filter)->type.id != MR_TYPE_BOOL)
            return MR_FAIL(err, MR_CONFIG, "cannot filter '%s': the condition is no BOOLEAN",
                           agg->name);
    }
    if (agg->order_count > MR_AGG_ORDERS_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot order %s() by more than %d expressions",
                       kinds[agg->kind].name, MR_AGG_ORDERS_MAX);
    for (uint32_t i = 0; i < agg->order_count; i++)
        MR_TRY(check_column(layout, agg->orders[i].column, err));
    return MR_OK;
}

static enum mr_slot_kind slot_kind(enum mr_agg_kind kind, enum mr_type_id id)
{
    enum mr_slot_kind slot = kinds[kind].slot;

    if (slot == MR_SLOT_SUM_INT && is_float(id))
        return MR_SLOT_SUM_FLOAT;
    if (slot == MR_SLOT_BEST_64 && id == MR_TYPE_DECIMAL)
        return MR_SLOT_BEST_128;
    if (slot == MR_SLOT_BEST_64 && !mr_ordinal_has(id))
        return MR_SLOT_BEST_BYTES;
    return slot;
}

static char *shorten_identity(const char *identity)
{
    size_t size_bytes = strlen(identity);

    if (size_bytes <= IDENTITY_BYTES_MAX)
        return mr_strdup(identity);
    return mr_asprintf("%.*s#%016" PRIx64, IDENTITY_HEAD_BYTES, identity,
                       mr_checksum(identity, size_bytes));
}

static bool same_slot(const struct mr_agg_slot *a, const struct mr_agg_slot *b)
{
    if (a->kind != b->kind || strcmp(a->what, b->what) != 0 || a->column != b->column ||
        a->other != b->other || a->limit != b->limit || a->has_filter != b->has_filter ||
        a->filter != b->filter || a->order_count != b->order_count ||
        strcmp(a->identity, b->identity) != 0)
        return false;
    for (uint32_t i = 0; i < a->order_count; i++) {
        if (a->orders[i].column != b->orders[i].column ||
            a->orders[i].descending != b->orders[i].descending ||
            a->orders[i].nulls_first != b->orders[i].nulls_first)
            return false;
    }
    return true;
}

static struct mr_agg_slot make_slot(const struct mr_agg_layout *layout, const struct mr_agg *agg)
{
    const struct mr_field *field = mr_schema_field(layout->input, agg->column);
    enum mr_slot_kind kind = slot_kind(agg->kind, field->type.id);
    bool wide = mr_slot_is_wide(kind);
    struct mr_agg_slot slot = {
        .kind = kind,
        .what = agg->kind == MR_AGG_USER ? agg->user->name : kinds[agg->kind].what,
        .user = agg->user,
        .wants_max = agg->kind == MR_AGG_MAX || agg->kind == MR_AGG_ARG_MAX ||
                     agg->kind == MR_AGG_BOOL_OR || agg->kind == MR_AGG_TOP_MAX,
        .limit = kind == MR_SLOT_TOP ? agg->limit : 0,
        .is_unsigned = field->type.id == MR_TYPE_UINT64,
        .skips_nulls = agg->kind == MR_AGG_ANY_VALUE,
        .column = agg->column,
        .has_filter = wide && agg->has_filter,
        .filter = wide && agg->has_filter ? agg->filter : 0,
        .order_count = kind == MR_SLOT_LIST ? agg->order_count : 0,
        .offset = layout->fixed_bytes,
        .bytes_index = layout->bytes_count,
        .type = field->type,
    };

    if (kind == MR_SLOT_COMOMENTS || kind == MR_SLOT_ARG_BEST || kind == MR_SLOT_TOP)
        slot.other = agg->other;
    for (uint32_t i = 0; i < slot.order_count; i++)
        slot.orders[i] = agg->orders[i];
    return slot;
}

/* Finds or adds the slot; slots has room for one more. */
static enum mr_status add_slot(struct mr_agg_layout *layout, const struct mr_agg *agg,
                               uint32_t *ret_slot, struct mr_error *err)
{
    struct mr_agg_slot slot;

    MR_TRY(check_arguments(layout, agg, err));
    slot = make_slot(layout, agg);
    slot.identity = shorten_identity(
        agg->identity != NULL ? agg->identity : mr_schema_field(layout->input, agg->column)->name);
    if (slot.identity == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        if (same_slot(&layout->slots[i], &slot)) {
            mr_free(slot.identity);
            *ret_slot = i;
            return MR_OK;
        }
    }
    layout->slots[layout->slot_count] = slot;
    layout->fixed_bytes += slot_bytes(slot.kind);
    layout->bytes_count += mr_slot_is_wide(slot.kind);
    *ret_slot = layout->slot_count++;
    return MR_OK;
}

/* list_item: where the item of a list type is put. */
static struct mr_type result_type(const struct mr_agg_layout *layout, const struct mr_agg *agg,
                                  struct mr_field *list_item)
{
    struct mr_type type = {.id = MR_TYPE_INT64};

    if (agg->kind == MR_AGG_COUNT_ALL)
        return type;
    const struct mr_type *input = &mr_schema_field(layout->input, agg->column)->type;
    switch (agg->kind) {
    case MR_AGG_COUNT:
    case MR_AGG_REGR_COUNT:
    case MR_AGG_COUNT_DISTINCT:
    case MR_AGG_APPROX_COUNT_DISTINCT:
        return type;
    case MR_AGG_SUM:
    case MR_AGG_SUM_DISTINCT:
        if (is_float(input->id))
            type.id = MR_TYPE_DOUBLE;
        else if (input->id == MR_TYPE_DECIMAL)
            type = (struct mr_type){.id = MR_TYPE_DECIMAL, .precision = 38, .scale = input->scale};
        return type;
    case MR_AGG_LIST:
    case MR_AGG_LIST_DISTINCT:
    case MR_AGG_TOP_MIN:
    case MR_AGG_TOP_MAX:
        *list_item = (struct mr_field){.name = "item", .type = *input};
        return (struct mr_type){.id = MR_TYPE_LIST, .field_count = 1, .fields = list_item};
    case MR_AGG_USER:
        return mr_schema_field(agg->user->result, 0)->type;
    case MR_AGG_APPROX_QUANTILE:
        if (is_time(input->id))
            return *input;
        break;
    default:
        if (kinds[agg->kind].takes != TAKES_NUMBER && kinds[agg->kind].takes != TAKES_TWO_NUMBERS)
            return *input;
        break;
    }
    type.id = MR_TYPE_DOUBLE;
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
    struct mr_field *fields = mr_alloc_zero(NULL, 2 * ((size_t)count + 1) * sizeof(*fields));
    enum mr_status status;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    for (uint32_t i = 0; i < spec->key_count; i++) {
        fields[i].name = spec->key_names[i];
        fields[i].type = mr_schema_field(layout->input, spec->keys[i])->type;
    }
    for (uint32_t i = 0; i < spec->agg_count; i++) {
        uint32_t at = spec->key_count + i;
        fields[at].name = spec->aggs[i].name;
        fields[at].type = result_type(layout, &spec->aggs[i], &fields[count + 1 + at]);
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

static enum mr_status copy_keys(struct mr_agg_layout *layout, const struct mr_aggregate_spec *spec,
                                struct mr_error *err)
{
    layout->key_count = spec->key_count;
    layout->keys = mr_alloc(NULL, spec->key_count * sizeof(*layout->keys));
    layout->key_identities =
        mr_alloc_zero(NULL, (spec->key_count + 1) * sizeof(*layout->key_identities));
    if (layout->keys == NULL || layout->key_identities == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    for (uint32_t i = 0; i < spec->key_count; i++) {
        const char *identity = spec->key_identities != NULL ? spec->key_identities[i] : NULL;

        layout->keys[i] = spec->keys[i];
        layout->key_identities[i] =
            shorten_identity(identity != NULL ? identity : spec->key_names[i]);
        if (layout->key_identities[i] == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    }
    return MR_OK;
}

/* Only counts, and sums of signed integers? As many as fit one word when they are small. */
static void find_narrow(struct mr_agg_layout *layout)
{
    uint32_t words = 1, sums = 0;

    for (uint32_t i = 0; i < layout->slot_count; i++) {
        struct mr_agg_slot *slot = &layout->slots[i];
        bool is_sum = slot->kind == MR_SLOT_SUM_INT;

        if ((!is_sum && slot->kind != MR_SLOT_COUNT) || words + 2 > MR_NARROW_WORDS_MAX ||
            (is_sum && (slot->is_unsigned || slot->type.id == MR_TYPE_DECIMAL)))
            return;
        slot->word = words;
        sums |= is_sum ? UINT32_C(1) << words : 0;
        words += is_sum ? 2 : 1;
    }
    /* a value of fixed_bytes or more is a plain one */
    layout->narrow_bytes = MR_MIN((uint32_t)MR_NARROW_BYTES_MAX, layout->fixed_bytes - 1);
    layout->narrow_words = words;
    layout->narrow_sums = sums;
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
    layout->result_count = spec->agg_count;
    layout->fixed_bytes = MR_AGG_ROWS_BYTES;
    layout->slots = mr_alloc_zero(NULL, (spec->agg_count + 1) * sizeof(*layout->slots));
    layout->results = mr_alloc_zero(NULL, (spec->agg_count + 1) * sizeof(*layout->results));
    if (layout->slots == NULL || layout->results == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
        goto done;
    }
    MR_TRY_GOTO(copy_keys(layout, spec, err));
    for (uint32_t i = 0; i < spec->agg_count; i++) {
        layout->results[i].kind = spec->aggs[i].kind;
        layout->results[i].fraction = spec->aggs[i].fraction;
        if (spec->aggs[i].kind != MR_AGG_COUNT_ALL)
            MR_TRY_GOTO(add_slot(layout, &spec->aggs[i], &layout->results[i].slot, err));
    }
    MR_TRY_GOTO(make_schemas(layout, spec, err));
    find_narrow(layout);
    *ret_layout = layout;
    return MR_OK;
done:
    mr_agg_layout_free(layout);
    return status;
}

const struct mr_schema *mr_agg_layout_output(const struct mr_agg_layout *layout)
{
    return layout->output;
}

void mr_agg_layout_free(struct mr_agg_layout *layout)
{
    if (layout == NULL)
        return;
    for (uint32_t i = 0; layout->slots != NULL && i < layout->slot_count; i++)
        mr_free(layout->slots[i].identity);
    for (uint32_t i = 0; layout->key_identities != NULL && i < layout->key_count; i++)
        mr_free(layout->key_identities[i]);
    mr_schema_unref(layout->input);
    mr_schema_unref(layout->output);
    mr_schema_unref(layout->partial);
    mr_free(layout->keys);
    mr_free(layout->key_identities);
    mr_free(layout->slots);
    mr_free(layout->results);
    mr_free(layout);
}
