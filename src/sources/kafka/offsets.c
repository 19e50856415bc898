/*
 * The offset of the Kafka source: the next offset to read of every partition (structured.md 20.3).
 *
 *     {"clicks":{"0":23,"1":345},"views":{"0":7}}                      topics and partitions sorted
 *     {"@from":{"views":{"0":2}}, "clicks":{...},"views":{"0":7}}       views/0 is new, begins at 2
 *     {"@epoch":{"views":{"0":4}},"@id":{"views":"x8Q..."}, ...}        of which log (history.c)
 *
 * "@from" makes a range self-contained: a partition that the start offset does not have begins
 * where the plan saw its beginning, even if the broker's beginning has moved when the batch runs
 * again; "@epoch" and "@id" are there when they are not what the source remembers of batches
 * before.
 * No topic can have such a name ('@' is not allowed in one).
 *
 * Thread: any.
 */
#include "sources/kafka/kafka_source.h"

#include "base/json.h"
#include "base/mutant.h"
#include "base/number_text.h"

#include <inttypes.h>
#include <string.h>

#define FROM_KEY "@from"
#define EPOCH_KEY "@epoch"
#define ID_KEY "@id"

enum column { COLUMN_OFFSET, COLUMN_FROM, COLUMN_EPOCH };

void mr_ksrc_offsets_release(struct mr_ksrc_offsets *offsets)
{
    for (size_t i = 0; i < offsets->count; i++)
        mr_free(offsets->items[i].topic);
    mr_free(offsets->items);
    mr_ksrc_topic_ids_release(&offsets->ids);
    memset(offsets, 0, sizeof(*offsets));
}

static int compare(const struct mr_ksrc_offset *item, const char *topic, int32_t partition)
{
    int order = strcmp(item->topic, topic);

    if (order != 0)
        return order;
    return item->partition < partition ? -1 : item->partition > partition;
}

/* Index of the first item that is not before (topic, partition). */
static size_t lower_bound(const struct mr_ksrc_offsets *offsets, const char *topic,
                          int32_t partition)
{
    size_t from = 0;
    size_t to = offsets->count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (compare(&offsets->items[middle], topic, partition) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

const struct mr_ksrc_offset *mr_ksrc_offsets_find(const struct mr_ksrc_offsets *offsets,
                                                  const char *topic, int32_t partition)
{
    size_t at = lower_bound(offsets, topic, partition);

    return at < offsets->count && compare(&offsets->items[at], topic, partition) == 0
               ? &offsets->items[at]
               : NULL;
}

bool mr_ksrc_offsets_have_topic(const struct mr_ksrc_offsets *offsets, const char *topic)
{
    size_t at = lower_bound(offsets, topic, INT32_MIN);

    return at < offsets->count && strcmp(offsets->items[at].topic, topic) == 0;
}

enum mr_status mr_ksrc_offsets_put(struct mr_ksrc_offsets *offsets, const char *topic,
                                   int32_t partition, int64_t offset, int64_t from,
                                   struct mr_error *err)
{
    size_t at = lower_bound(offsets, topic, partition);
    char *copy;

    if (at < offsets->count && compare(&offsets->items[at], topic, partition) == 0) {
        offsets->items[at].offset = offset;
        offsets->items[at].from = from;
        return MR_OK;
    }
    if (offsets->count == offsets->capacity) {
        size_t capacity = offsets->capacity * 2 + 8;
        struct mr_ksrc_offset *items = mr_realloc(NULL, offsets->items, capacity * sizeof(*items));

        if (items == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot keep the offsets of topic '%s': out of memory",
                           topic);
        offsets->items = items;
        offsets->capacity = capacity;
    }
    copy = mr_strdup(topic);
    if (copy == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep the offsets of topic '%s': out of memory",
                       topic);
    memmove(&offsets->items[at + 1], &offsets->items[at],
            (offsets->count - at) * sizeof(*offsets->items));
    offsets->items[at] = (struct mr_ksrc_offset){copy, partition, offset, from, KSRC_EPOCH_SAME};
    offsets->count++;
    return MR_OK;
}

/* Has the item something in this column? */
static bool has(const struct mr_ksrc_offset *item, enum column column)
{
    return column == COLUMN_OFFSET || (column == COLUMN_FROM && item->from >= 0) ||
           (column == COLUMN_EPOCH && item->epoch != KSRC_EPOCH_SAME);
}

/* {"topic":{"0":n}} of one column. */
static void print_table(struct mr_json_out *out, const struct mr_ksrc_offsets *offsets,
                        enum column column)
{
    const char *open = NULL;

    for (size_t i = 0; i < offsets->count; i++) {
        const struct mr_ksrc_offset *item = &offsets->items[i];
        char partition[MR_NUMBER_TEXT_BYTES];

        if (!has(item, column))
            continue;
        if (open == NULL || strcmp(open, item->topic) != 0) {
            if (open != NULL)
                mr_json_end_object(out);
            mr_json_begin_object(out, item->topic);
            open = item->topic;
        }
        partition[mr_int_print(item->partition, partition)] = '\0';
        mr_json_add_int(out, partition,
                        column == COLUMN_FROM    ? item->from
                        : column == COLUMN_EPOCH ? item->epoch
                                                 : item->offset);
    }
    if (open != NULL)
        mr_json_end_object(out);
}

static void print_named(struct mr_json_out *out, const struct mr_ksrc_offsets *offsets,
                        const char *key, enum column column)
{
    bool any = false;

    for (size_t i = 0; i < offsets->count; i++)
        any = any || has(&offsets->items[i], column);
    if (!any)
        return;
    mr_json_begin_object(out, key);
    print_table(out, offsets, column);
    mr_json_end_object(out);
}

char *mr_ksrc_offsets_print(const struct mr_ksrc_offsets *offsets)
{
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_json_out out = {&buf, false};

    mr_json_begin_object(&out, NULL);
    print_named(&out, offsets, EPOCH_KEY, COLUMN_EPOCH);
    print_named(&out, offsets, FROM_KEY, COLUMN_FROM);
    if (offsets->ids.count > 0) {
        mr_json_begin_object(&out, ID_KEY);
        for (size_t i = 0; i < offsets->ids.count; i++)
            mr_json_add_string(&out, offsets->ids.items[i].topic, offsets->ids.items[i].id);
        mr_json_end_object(&out);
    }
    print_table(&out, offsets, COLUMN_OFFSET);
    mr_json_end_object(&out);
    return mr_buf_take(&buf);
}

static enum mr_status bad_offset(const char *text, struct mr_error *err)
{
    return MR_FAIL(
        err, MR_CORRUPT,
        "cannot read the offset '%.200s' of a Kafka source; expected {\"topic\":{\"0\":1}}", text);
}

/* One number of a table; all columns but the first: into entries that exist already. */
static enum mr_status take_number(struct mr_ksrc_offsets *offsets, const char *topic,
                                  int32_t partition, int64_t number, enum column column,
                                  const char *text, struct mr_error *err)
{
    struct mr_ksrc_offset *known =
        (struct mr_ksrc_offset *)mr_ksrc_offsets_find(offsets, topic, partition);

    if (column == COLUMN_OFFSET)
        return mr_ksrc_offsets_put(offsets, topic, partition, number, -1, err);
    if ((known == NULL || number < (column == COLUMN_EPOCH ? KSRC_EPOCH_UNKNOWN : 0)) &&
        !MR_MUTANT("kafka-offsets.parse.from"))
        return bad_offset(text, err);
    if (known == NULL)
        return MR_OK;
    if (column == COLUMN_FROM)
        known->from = number;
    else
        known->epoch = number;
    return MR_OK;
}

static enum mr_status parse_table(const struct mr_json *table, enum column column, const char *text,
                                  struct mr_ksrc_offsets *offsets, struct mr_error *err)
{
    if (table == NULL)
        return MR_OK;
    if (table->kind != MR_JSON_OBJECT)
        return bad_offset(text, err);
    for (const struct mr_json *topic = table->first; topic != NULL; topic = topic->next) {
        if (strcmp(topic->key, FROM_KEY) == 0 || strcmp(topic->key, EPOCH_KEY) == 0 ||
            strcmp(topic->key, ID_KEY) == 0)
            continue;
        if (topic->kind != MR_JSON_OBJECT)
            return bad_offset(text, err);
        for (const struct mr_json *item = topic->first; item != NULL; item = item->next) {
            int64_t partition = 0;
            int64_t number = 0;

            if ((!mr_int_parse(item->key, strlen(item->key), &partition) || partition < 0 ||
                 partition > INT32_MAX || !mr_json_int(item, &number)) &&
                !MR_MUTANT("kafka-offsets.parse.partition"))
                return bad_offset(text, err);
            MR_TRY(take_number(offsets, topic->key, (int32_t)partition, number, column, text, err));
        }
    }
    return MR_OK;
}

static enum mr_status parse_ids(const struct mr_json *table, const char *text,
                                struct mr_ksrc_offsets *offsets, struct mr_error *err)
{
    if (table == NULL)
        return MR_OK;
    if (table->kind != MR_JSON_OBJECT)
        return bad_offset(text, err);
    for (const struct mr_json *item = table->first; item != NULL; item = item->next) {
        if (item->kind != MR_JSON_STRING || !mr_ksrc_offsets_have_topic(offsets, item->key) ||
            mr_ksrc_topic_ids_find(&offsets->ids, item->key) != NULL)
            return bad_offset(text, err);
        MR_TRY(mr_ksrc_topic_ids_put(&offsets->ids, item->key, item->text, err));
    }
    return MR_OK;
}

enum mr_status mr_ksrc_offsets_parse(const char *text, struct mr_ksrc_offsets *ret_offsets,
                                     struct mr_error *err)
{
    struct mr_ksrc_offsets offsets = {0};
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    enum mr_status status = MR_OK;

    if (text == NULL)
        goto done;
    status = mr_json_parse(text, strlen(text), &arena, &json, err);
    if (status != MR_OK) {
        status = status == MR_NOMEM ? status : bad_offset(text, err);
        goto done;
    }
    MR_TRY_GOTO(parse_table(json, COLUMN_OFFSET, text, &offsets, err));
    MR_TRY_GOTO(parse_table(mr_json_get(json, FROM_KEY), COLUMN_FROM, text, &offsets, err));
    MR_TRY_GOTO(parse_table(mr_json_get(json, EPOCH_KEY), COLUMN_EPOCH, text, &offsets, err));
    MR_TRY_GOTO(parse_ids(mr_json_get(json, ID_KEY), text, &offsets, err));
done:
    mr_arena_release(&arena);
    if (status != MR_OK)
        mr_ksrc_offsets_release(&offsets);
    else
        *ret_offsets = offsets;
    return status;
}

enum mr_status mr_ksrc_positions_parse(const char *text, struct mr_ksrc_offsets *ret_positions,
                                       struct mr_error *err)
{
    struct mr_ksrc_offsets positions = {0};

    MR_TRY(mr_ksrc_offsets_parse(text, &positions, err));
    for (size_t i = 0; i < positions.count; i++) {
        if (positions.items[i].offset < 0 && !MR_MUTANT("kafka-offsets.positions.negative")) {
            mr_ksrc_offsets_release(&positions);
            return bad_offset(text, err);
        }
    }
    *ret_positions = positions;
    return MR_OK;
}

bool mr_ksrc_range_at(const struct mr_ksrc_offsets *start, const struct mr_ksrc_offsets *end,
                      bool empty_too, size_t index, struct mr_ksrc_range *ret_range)
{
    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *item = &end->items[i];
        const struct mr_ksrc_offset *before =
            mr_ksrc_offsets_find(start, item->topic, item->partition);
        int64_t from = before != NULL ? before->offset : item->from;

        if (from < 0 || (from >= item->offset && !empty_too) || index-- > 0)
            continue;
        *ret_range =
            (struct mr_ksrc_range){item->topic, item->partition, from, item->offset, false};
        return true;
    }
    return false;
}

/* No plan of ours has a partition that goes back, or one of which nobody said where it begins: its
 * records would be read twice, or never. */
static enum mr_status check_ranges(const struct mr_ksrc_offsets *start,
                                   const struct mr_ksrc_offsets *end, struct mr_error *err)
{
    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *item = &end->items[i];
        const struct mr_ksrc_offset *before =
            mr_ksrc_offsets_find(start, item->topic, item->partition);

        if (before == NULL && item->from < 0 && !MR_MUTANT("kafka-offsets.ranges.beginning"))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read a batch of topic '%s' partition %" PRId32
                           ": its plan has no beginning for it; restore the checkpoint from a copy",
                           item->topic, item->partition);
        if ((before != NULL ? before->offset : item->from) > item->offset &&
            !MR_MUTANT("kafka-offsets.ranges.back"))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read a batch of topic '%s' partition %" PRId32
                           ": its plan goes back to offset %" PRId64
                           "; restore the checkpoint from a copy",
                           item->topic, item->partition, item->offset);
    }
    return MR_OK;
}

/* The ranges of the batch; *ret_count of them. NULL without memory. */
static struct mr_ksrc_range *whole_ranges(const struct mr_ksrc_offsets *start,
                                          const struct mr_ksrc_offsets *end, bool empty_too,
                                          size_t *ret_count)
{
    struct mr_ksrc_range *ranges = mr_alloc(NULL, (end->count + 1) * sizeof(*ranges));
    size_t count = 0;

    while (ranges != NULL && mr_ksrc_range_at(start, end, empty_too, count, &ranges[count]))
        count++;
    *ret_count = count;
    return ranges;
}

static struct mr_ksrc_range *cut_ranges(const struct mr_ksrc_division *division,
                                        const struct mr_ksrc_range *whole, size_t whole_count,
                                        size_t *ret_count)
{
    struct mr_ksrc_span *spans = mr_alloc(NULL, (whole_count + 1) * sizeof(*spans));
    struct mr_ksrc_span *pieces = NULL;
    struct mr_ksrc_range *ranges = NULL;
    size_t count = 0;

    for (size_t i = 0; spans != NULL && i < whole_count; i++)
        spans[i] = (struct mr_ksrc_span){i, whole[i].from, whole[i].until};
    if (spans != NULL)
        count = mr_ksrc_divide(division, spans, whole_count, NULL, 0);
    if (spans != NULL)
        pieces = mr_alloc(NULL, (count + 1) * sizeof(*pieces));
    if (pieces != NULL)
        ranges = mr_alloc(NULL, (count + 1) * sizeof(*ranges));
    if (ranges != NULL)
        mr_ksrc_divide(division, spans, whole_count, pieces, count);
    for (size_t i = 0; ranges != NULL && i < count; i++) {
        ranges[i] = whole[pieces[i].partition];
        ranges[i].is_later = pieces[i].from > ranges[i].from;
        ranges[i].from = pieces[i].from;
        ranges[i].until = pieces[i].until;
    }
    mr_free(spans);
    mr_free(pieces);
    *ret_count = count;
    return ranges;
}

enum mr_status mr_ksrc_pieces(const struct mr_ksrc_offsets *start,
                              const struct mr_ksrc_offsets *end,
                              const struct mr_ksrc_division *division,
                              struct mr_ksrc_range **ret_ranges, size_t *ret_count,
                              struct mr_error *err)
{
    struct mr_ksrc_range *ranges;

    MR_TRY(check_ranges(start, end, err));
    ranges = whole_ranges(start, end, division == NULL, ret_count);
    if (ranges != NULL && division != NULL) {
        struct mr_ksrc_range *whole = ranges;

        ranges = cut_ranges(division, whole, *ret_count, ret_count);
        mr_free(whole);
    }
    if (ranges == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot divide a Kafka batch: out of memory");
    *ret_ranges = ranges;
    return MR_OK;
}
