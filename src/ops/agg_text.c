/*
 * Layouts of aggregate buffers as text, as the checkpoint keeps it beside the state, and back:
 * inspectors read state without the query that wrote it, and a changed query finds its old buffers
 * (agg_change.c).
 *
 *     keys    city VARCHAR, "window(ts, 600s).start" TIMESTAMP
 *     values  rows, sum(price DOUBLE), arg_max("upper(name)" VARCHAR, BIGINT)
 *             |     |   |     `- type of what is aggregated, then of what it goes by
 *             |     |   `- what is aggregated: mr_agg.identity, quoted unless it is a plain word
 *             |     `- what is kept of it
 *             `- every buffer begins with the number of rows
 *
 * Read back, the text gives the same slots in the same order, so the same offsets; the result shown
 * for a slot is one of those that it can give.
 *
 * Threads: any.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdio.h>
#include <string.h>

enum { AGGS_MAX = 256 };

/* ---- to text ---- */

static bool is_word(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_';
        if (!letter && (at == text || *at < '0' || *at > '9'))
            return false;
    }
    return text[0] != '\0';
}

static void add_identity(struct mr_buf *out, const char *identity)
{
    if (is_word(identity)) {
        mr_buf_add_str(out, identity);
        return;
    }
    mr_buf_add_char(out, '"');
    for (const char *at = identity; *at != '\0'; at++) {
        if (*at == '"')
            mr_buf_add_char(out, '"');
        mr_buf_add_char(out, *at);
    }
    mr_buf_add_char(out, '"');
}

static void add_type(struct mr_buf *out, const char *before, const struct mr_type *type)
{
    char text[256];
    size_t size = mr_type_print(type, text, sizeof(text));

    mr_buf_add_str(out, before);
    if (size < sizeof(text)) {
        mr_buf_add_str(out, text);
        return;
    }
    char *large = mr_alloc(NULL, size + 1);
    if (large == NULL) {
        out->failed = true;
        return;
    }
    mr_type_print(type, large, size + 1);
    mr_buf_add_str(out, large);
    mr_free(large);
}

static enum mr_status take_text(struct mr_buf *text, char **ret_text, struct mr_error *err)
{
    char *taken = text->size == 0 ? mr_strdup("") : mr_buf_take(text);

    if (taken == NULL) {
        mr_buf_release(text);
        return MR_FAIL(err, MR_NOMEM, "cannot describe an aggregation: out of memory");
    }
    *ret_text = taken;
    return MR_OK;
}

enum mr_status mr_agg_key_schema(const struct mr_agg_layout *layout, char **ret_text,
                                 struct mr_error *err)
{
    struct mr_buf text = MR_BUF_INIT;

    for (uint32_t i = 0; i < layout->key_count; i++) {
        if (i > 0)
            mr_buf_add_str(&text, ", ");
        add_identity(&text, layout->key_identities[i]);
        add_type(&text, " ", &mr_schema_field(layout->output, i)->type);
    }
    return take_text(&text, ret_text, err);
}

void mr_agg_print(const struct mr_agg_layout *layout, struct mr_buf *text)
{
    mr_buf_add_str(text, "rows");
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        bool two = slot->kind == MR_SLOT_ARG_BEST || slot->kind == MR_SLOT_COMOMENTS ||
                   slot->kind == MR_SLOT_TOP;

        mr_buf_printf(text, ", %s(", slot->what);
        add_identity(text, slot->identity);
        add_type(text, " ", &slot->type);
        if (two)
            add_type(text, ", ", &mr_schema_field(layout->input, slot->other)->type);
        for (uint32_t k = 0; k < slot->order_count; k++)
            add_type(text, ", ", &mr_schema_field(layout->input, slot->orders[k].column)->type);
        mr_buf_add_char(text, ')');
    }
}

enum mr_status mr_agg_value_schema(const struct mr_agg_layout *layout, char **ret_text,
                                   struct mr_error *err)
{
    struct mr_buf text = MR_BUF_INIT;

    mr_agg_print(layout, &text);
    return take_text(&text, ret_text, err);
}

/* ---- from text ---- */

/* What a slot is shown as. */
static const struct shown {
    const char *what;
    const char *label;
    enum mr_agg_kind kind;
} shown_as[] = {
    {"count", "count", MR_AGG_COUNT},
    {"sum", "sum", MR_AGG_SUM},
    {"min", "min", MR_AGG_MIN},
    {"max", "max", MR_AGG_MAX},
    {"product", "product", MR_AGG_PRODUCT},
    {"moments", "var_samp", MR_AGG_VAR_SAMP},
    {"comoments", "covar_samp", MR_AGG_COVAR_SAMP},
    {"bit_and", "bit_and", MR_AGG_BIT_AND},
    {"bit_or", "bit_or", MR_AGG_BIT_OR},
    {"bit_xor", "bit_xor", MR_AGG_BIT_XOR},
    {"first", "first", MR_AGG_FIRST},
    {"last", "last", MR_AGG_LAST},
    {"any_value", "any_value", MR_AGG_ANY_VALUE},
    {"arg_min", "arg_min", MR_AGG_ARG_MIN},
    {"arg_max", "arg_max", MR_AGG_ARG_MAX},
    {"top_min", "arg_min", MR_AGG_TOP_MIN},
    {"top_max", "arg_max", MR_AGG_TOP_MAX},
    {"list", "list", MR_AGG_LIST},
    {"set", "distinct", MR_AGG_LIST_DISTINCT},
    {"hll", "approx_count_distinct", MR_AGG_APPROX_COUNT_DISTINCT},
    {"digest", "approx_median", MR_AGG_APPROX_QUANTILE},
};

/* What the texts say, piece by piece. */
struct texts {
    struct mr_buf columns; /* of the input that the layout is made for: keys, then the arguments */
    uint32_t column_count;
    struct mr_agg aggs[AGGS_MAX];
    uint32_t agg_count;
    struct mr_agg_order orders[AGGS_MAX][MR_AGG_ORDERS_MAX];
    struct mr_arena arena; /* names and identities */
};

static const struct shown *find_shown(const char *text, size_t size)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(shown_as); i++) {
        if (strlen(shown_as[i].what) == size && memcmp(shown_as[i].what, text, size) == 0)
            return &shown_as[i];
    }
    return NULL;
}

/* Reads price or "price * 2"; *at stands behind it. NULL when there is none. */
static const char *read_identity(struct texts *texts, const char **at)
{
    const char *from = *at;
    char *identity;
    size_t size = 0;

    if (*from != '"') {
        while (**at != '\0' && **at != ' ')
            (*at)++;
        return mr_arena_copy(&texts->arena, from, (size_t)(*at - from));
    }
    identity = mr_arena_copy(&texts->arena, from, strlen(from));
    for (from++; identity != NULL && *from != '\0'; from++) {
        if (from[0] == '"' && from[1] != '"') {
            *at = from + 1;
            identity[size] = '\0';
            return identity;
        }
        from += *from == '"';
        identity[size++] = *from;
    }
    return NULL;
}

/* End of a type: the comma or parenthesis that is not inside of it. */
static const char *type_end(const char *at)
{
    for (int depth = 0; *at != '\0'; at++) {
        if (*at == '"') { /* a field's name */
            for (at++; *at != '\0' && *at != '"'; at++)
                continue;
            if (*at == '\0')
                return at;
        }
        if (depth == 0 && (*at == ',' || *at == ')'))
            return at;
        depth += *at == '(';
        depth -= *at == ')';
    }
    return at;
}

static uint32_t add_column(struct texts *texts, const char *type, const char *end)
{
    mr_buf_printf(&texts->columns, "%s\"mr %u\" %.*s", texts->columns.size > 0 ? ", " : "",
                  texts->column_count, (int)(end - type), type);
    return texts->column_count++;
}

static bool has_name(const struct texts *texts, const char *name)
{
    for (uint32_t i = 0; i < texts->agg_count; i++) {
        if (texts->aggs[i].name != NULL && strcmp(texts->aggs[i].name, name) == 0)
            return true;
    }
    return false;
}

/* sum(price), and sum(price) #2 when there is one already: columns have names of their own. */
static char *print_name(struct texts *texts, const char *label, const char *identity)
{
    enum { SUFFIX_BYTES = 8 };
    char name[MR_NAME_BYTES_MAX + 1 + SUFFIX_BYTES];
    int size = snprintf(name, MR_NAME_BYTES_MAX + 1 - SUFFIX_BYTES, "%s(%s)", label, identity);

    if (size < 0)
        return NULL;
    size = (int)strlen(name);
    for (unsigned number = 2; has_name(texts, name); number++)
        snprintf(name + size, SUFFIX_BYTES, " #%u", number);
    return mr_arena_copy(&texts->arena, name, strlen(name));
}

/* sum(price DOUBLE) -> an aggregate over a column of that type; *at stands behind it. */
static bool take_piece(struct texts *texts, const char **at)
{
    const char *open = strchr(*at, '(');
    const struct shown *shown = open != NULL ? find_shown(*at, (size_t)(open - *at)) : NULL;
    struct mr_agg_order *orders;
    struct mr_agg *agg;

    if (shown == NULL || texts->agg_count == AGGS_MAX)
        return false;
    agg = &texts->aggs[texts->agg_count];
    orders = texts->orders[texts->agg_count];
    *at = open + 1;
    *agg = (struct mr_agg){.kind = shown->kind, .fraction = 0.5, .orders = orders};
    agg->identity = read_identity(texts, at);
    if (agg->identity == NULL || **at != ' ')
        return false;
    agg->name = print_name(texts, shown->label, agg->identity);
    for (uint32_t i = 0; **at == ' '; i++) {
        const char *end = type_end(*at + 1);
        uint32_t column = add_column(texts, *at + 1, end);

        if (i == 0)
            agg->column = column;
        else if (shown->kind != MR_AGG_LIST)
            agg->other = column;
        else if (agg->order_count < MR_AGG_ORDERS_MAX)
            orders[agg->order_count++].column = column;
        *at = *end == ',' ? end + 1 : end;
    }
    texts->agg_count++;
    if (shown->kind == MR_AGG_SUM && texts->agg_count < AGGS_MAX) { /* the same slot gives both */
        texts->aggs[texts->agg_count] = *agg;
        texts->aggs[texts->agg_count].kind = MR_AGG_AVG;
        texts->aggs[texts->agg_count++].name = print_name(texts, "avg", agg->identity);
    }
    return *(*at)++ == ')' && agg->name != NULL;
}

static enum mr_status take_values(struct texts *texts, const char *value_schema,
                                  struct mr_error *err)
{
    const char *at = value_schema;
    bool good = strncmp(at, "rows", 4) == 0;

    texts->aggs[texts->agg_count++] = (struct mr_agg){.kind = MR_AGG_COUNT_ALL, .name = "rows"};
    for (at += good ? 4 : 0; good && *at != '\0';) {
        good = strncmp(at, ", ", 2) == 0;
        at += good ? 2 : 0;
        good = good && take_piece(texts, &at);
    }
    if (!good)
        return MR_FAIL(err, MR_CONFIG, "cannot read the aggregates '%s'", value_schema);
    return MR_OK;
}

static enum mr_status make_layout(struct texts *texts, const struct mr_schema *keys,
                                  struct mr_agg_layout **ret_layout, struct mr_error *err)
{
    struct mr_aggregate_spec spec = {.mode = MR_MODE_UPDATE, .event_time_key = -1};
    struct mr_schema *input = NULL;
    uint32_t key_columns[AGGS_MAX];
    const char *key_names[AGGS_MAX];
    enum mr_status status;

    MR_TRY(mr_schema_parse(texts->columns.data, texts->columns.size, &input, err));
    spec.key_count = keys != NULL ? mr_schema_field_count(keys) : 0;
    if (spec.key_count > AGGS_MAX) {
        status = MR_FAIL(err, MR_LIMIT, "cannot show %u key columns: at most %d", spec.key_count,
                         AGGS_MAX);
        goto done;
    }
    for (uint32_t i = 0; i < spec.key_count; i++) {
        key_columns[i] = i;
        key_names[i] = mr_schema_field(keys, i)->name;
    }
    spec.input = input;
    spec.keys = key_columns;
    spec.key_names = key_names;
    spec.aggs = texts->aggs;
    spec.agg_count = texts->agg_count;
    status = mr_agg_layout_new(&spec, ret_layout, err);
done:
    mr_schema_unref(input);
    return status;
}

enum mr_status mr_agg_layout_parse(const char *key_schema, const char *value_schema,
                                   struct mr_agg_layout **ret_layout, struct mr_error *err)
{
    struct texts *texts = mr_alloc_zero(NULL, sizeof(*texts));
    struct mr_schema *keys = NULL;
    enum mr_status status;

    if (texts == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read an aggregate: out of memory");
    if (key_schema[0] != '\0')
        MR_TRY_GOTO(mr_schema_parse(key_schema, strlen(key_schema), &keys, err));
    mr_buf_add_str(&texts->columns, key_schema);
    texts->column_count = keys != NULL ? mr_schema_field_count(keys) : 0;
    MR_TRY_GOTO(take_values(texts, value_schema, err));
    if (texts->columns.size == 0) /* only a row count, without keys */
        mr_buf_add_str(&texts->columns, "nothing BIGINT");
    if (texts->columns.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot read an aggregate: out of memory");
        goto done;
    }
    status = make_layout(texts, keys, ret_layout, err);
done:
    mr_schema_unref(keys);
    mr_buf_release(&texts->columns);
    mr_arena_release(&texts->arena);
    mr_free(texts);
    return status;
}
