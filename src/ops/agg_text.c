/*
 * The layout of aggregate buffers from its text in the checkpoint: inspectors read state without
 * the query that wrote it.
 *
 *     keys    "window_start TIMESTAMP, city VARCHAR"
 *     values  "rows, sum(price DOUBLE), max(name VARCHAR)"
 *
 * The inverse of mr_agg_print: the same slots in the same order, so the same offsets.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

enum { AGGS_MAX = 256 };

/* What the texts say, piece by piece. */
struct texts {
    struct mr_buf
        columns;  /* of the input that the layout is made for: keys, then one an aggregate */
    char *values; /* copy, cut into pieces */
    struct mr_agg aggs[AGGS_MAX];
    uint32_t agg_count;
};

static const struct {
    const char *name;
    enum mr_agg_kind kind;
} kinds[] = {
    {"count(", MR_AGG_COUNT}, {"sum(", MR_AGG_SUM}, {"min(", MR_AGG_MIN}, {"max(", MR_AGG_MAX}};

/* End of the piece: the next comma that is not inside parentheses, or the end of the text. */
static char *piece_end(char *at)
{
    for (int depth = 0; *at != '\0'; at++) {
        depth += *at == '(';
        depth -= *at == ')';
        if (*at == ',' && depth == 0)
            break;
    }
    return at;
}

/* "sum(price DOUBLE)" -> an aggregate called sum(price) over a column of that type. */
static bool take_piece(struct texts *texts, char *piece, char *end)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(kinds); i++) {
        size_t name_bytes = strlen(kinds[i].name);
        char *blank = strchr(piece, ' ');

        if (strncmp(piece, kinds[i].name, name_bytes) != 0)
            continue;
        if (blank == NULL || blank > end || end[-1] != ')' || texts->agg_count == AGGS_MAX)
            return false;
        mr_buf_printf(&texts->columns, "%s\"%.*s%u\" %.*s", texts->columns.size > 0 ? ", " : "",
                      (int)name_bytes - 1, piece, texts->agg_count, (int)(end - 1 - blank - 1),
                      blank + 1);
        *blank = ')'; /* the name: sum(price) */
        blank[1] = '\0';
        texts->aggs[texts->agg_count++] =
            (struct mr_agg){.kind = kinds[i].kind, .column = 0, .name = piece};
        return true;
    }
    return false;
}

static enum mr_status take_values(struct texts *texts, const char *value_schema,
                                  struct mr_error *err)
{
    texts->values = mr_strdup(value_schema);
    if (texts->values == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read an aggregate: out of memory");
    texts->aggs[texts->agg_count++] =
        (struct mr_agg){.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "rows"};
    for (char *at = texts->values; *at != '\0';) {
        char *end = piece_end(at);
        bool last = *end == '\0';

        if (strncmp(at, "rows", 4) != 0 && !take_piece(texts, at, end))
            return MR_FAIL(err, MR_CONFIG, "cannot read the aggregates '%s'", value_schema);
        at = last ? end : end + 2; /* ", " */
    }
    return MR_OK;
}

enum mr_status mr_agg_layout_parse(const char *key_schema, const char *value_schema,
                                   struct mr_agg_layout **ret_layout, struct mr_error *err)
{
    struct texts *texts = mr_alloc_zero(NULL, sizeof(*texts));
    struct mr_aggregate_spec spec = {.mode = MR_MODE_UPDATE, .event_time_key = -1};
    struct mr_schema *keys = NULL, *input = NULL;
    uint32_t key_columns[AGGS_MAX];
    const char *key_names[AGGS_MAX];
    enum mr_status status;

    if (texts == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read an aggregate: out of memory");
    if (key_schema[0] != '\0')
        MR_TRY_GOTO(mr_schema_parse(key_schema, strlen(key_schema), &keys, err));
    mr_buf_add_str(&texts->columns, key_schema);
    MR_TRY_GOTO(take_values(texts, value_schema, err));
    if (texts->columns.failed || texts->columns.size == 0) /* only a row count, without keys */
        mr_buf_add_str(&texts->columns, "nothing BIGINT");
    MR_TRY_GOTO(mr_schema_parse(texts->columns.data, texts->columns.size, &input, err));
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
    for (uint32_t i = 1; i < texts->agg_count; i++)
        texts->aggs[i].column = spec.key_count + i - 1;
    spec.input = input;
    spec.keys = key_columns;
    spec.key_names = key_names;
    spec.aggs = texts->aggs;
    spec.agg_count = texts->agg_count;
    status = mr_agg_layout_new(&spec, ret_layout, err);
done:
    mr_schema_unref(keys);
    mr_schema_unref(input);
    mr_buf_release(&texts->columns);
    mr_free(texts->values);
    mr_free(texts);
    return status;
}

const struct mr_schema *mr_agg_layout_output(const struct mr_agg_layout *layout)
{
    return layout->output;
}
