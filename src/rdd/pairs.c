/*
 * Kernels over pairs: grouping, joins, distinct rows, hash partitions.  See pairs.h.
 *
 * All of them begin with mr__group of src/fn: rows in the order of their keys' bytes, then in the
 * order of arrival. A join walks two such lists as a merge:
 *
 *     left   a a b   d
 *     right  a   b c        -> (a, v1, w1) (a, v2, w1) (b, ..) (c, null, ..) (d, .., null)
 *
 * and notes the rows to take on each side; whole columns are gathered afterwards.
 *
 * Thread: any; called in tasks and in folds.
 */
#include "rdd/pairs.h"

#include "data/builder_internal.h"

#include <string.h>

enum { NO_ROW = -1 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot group a batch: out of memory");
}

static enum mr_status too_many(struct mr_error *err)
{
    return MR_FAIL(err, MR_LIMIT,
                   "cannot make more than 2^31 rows at once; use more partitions or a shorter "
                   "batch interval");
}

/* ---- schemas ---- */

enum mr_status mr__needs_pairs_error(struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "the input is not pairs; make its columns key and value with map_to_pair");
}

static enum mr_status need_pairs(const struct mr_schema *schema, struct mr_error *err)
{
    return mr__is_pairs(schema) ? MR_OK : mr__needs_pairs_error(err);
}

enum mr_status mr__grouped_schema(const struct mr_schema *pairs, struct mr_schema **ret_schema,
                                  struct mr_error *err)
{
    MR_TRY(need_pairs(pairs, err));
    struct mr_field item = {"item", *mr__column_type(pairs, 1)};
    struct mr_type list = {.id = MR_TYPE_LIST, .field_count = 1, .fields = &item};
    struct mr__column_of columns[] = {{"key", mr__column_type(pairs, 0)}, {"value", &list}};

    return mr__schema_of(columns, 2, ret_schema, err);
}

enum mr_status mr__joined_schema(enum mr__join_kind kind, const struct mr_schema *left,
                                 const struct mr_schema *right, struct mr_schema **ret_schema,
                                 struct mr_error *err)
{
    MR_TRY(need_pairs(left, err));
    MR_TRY(need_pairs(right, err));
    const struct mr_type *key = mr__column_type(left, 0);
    const struct mr_type *sides[2] = {mr__column_type(left, 1), mr__column_type(right, 1)};
    struct mr_field items[2] = {{"item", *sides[0]}, {"item", *sides[1]}};
    struct mr_type lists[2] = {{.id = MR_TYPE_LIST, .field_count = 1, .fields = &items[0]},
                               {.id = MR_TYPE_LIST, .field_count = 1, .fields = &items[1]}};
    bool groups = kind == MR__JOIN_COGROUP;
    struct mr_field fields[2] = {{"left", groups ? lists[0] : *sides[0]},
                                 {"right", groups ? lists[1] : *sides[1]}};
    struct mr_type value = {.id = MR_TYPE_STRUCT, .field_count = 2, .fields = fields};
    struct mr__column_of columns[] = {{"key", key}, {"value", &value}};

    if (!mr_type_equal(key, mr__column_type(right, 0))) {
        char names[2][128];

        mr_type_print(key, names[0], sizeof(names[0]));
        mr_type_print(mr__column_type(right, 0), names[1], sizeof(names[1]));
        return MR_FAIL(err, MR_CONFIG,
                       "the keys have the types %s and %s; map one side to the type of the other",
                       names[0], names[1]);
    }
    return mr__schema_of(columns, 2, ret_schema, err);
}

/* ---- columns that are being made ---- */

/* Builders of a result's columns; columns[1] is `value`. */
struct making {
    const struct mr_schema *schema;
    struct mr_column_builder *columns;
};

static enum mr_status making_begin(struct making *making, const struct mr_schema *schema,
                                   struct mr_error *err)
{
    making->schema = schema;
    return mr__columns_new(mr_schema_field(schema, 0), mr_schema_field_count(schema),
                           &making->columns, err);
}

static enum mr_status making_finish(struct making *making, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    struct mr_column_builder *columns = making->columns;

    making->columns = NULL; /* taken, also by a failure */
    return mr__batch_of_builders(making->schema, columns, columns[0].length, ret_batch, err);
}

static void making_release(struct making *making)
{
    mr__columns_free(making->columns,
                     making->columns != NULL ? mr_schema_field_count(making->schema) : 0);
}

static uint32_t group_size(const struct mr__grouping *grouping, uint32_t group)
{
    return grouping->starts[group + 1] - grouping->starts[group];
}

/* The values of one key as a list; group NO_ROW: an empty one. */
static enum mr_status add_list(struct mr_column_builder *list, const struct mr__grouping *grouping,
                               int64_t group, struct mr_error *err)
{
    if (group != NO_ROW) {
        uint32_t start = grouping->starts[group];
        MR_TRY(mr__column_gather(&list->children[0], mr_batch_column(grouping->batch, 1),
                                 grouping->order + start, group_size(grouping, (uint32_t)group),
                                 err));
    }
    return mr_column_builder_list_end(list, err);
}

static enum mr_status add_key(struct making *making, const struct mr__grouping *grouping,
                              uint32_t group, struct mr_error *err)
{
    return mr_column_builder_copy(&making->columns[0], mr_batch_column(grouping->batch, 0),
                                  grouping->order[grouping->starts[group]], err);
}

/* ---- group_by_key ---- */

enum mr_status mr__group_by_key(struct mr__pairs pairs, const struct mr_schema *output,
                                struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr__grouping grouping = {0};
    struct making making = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__group(pairs.batches, pairs.batch_count, pairs.schema, &grouping, err));
    MR_TRY_GOTO(making_begin(&making, output, err));
    for (uint32_t i = 0; i < grouping.count; i++) {
        MR_TRY_GOTO(add_key(&making, &grouping, i, err));
        MR_TRY_GOTO(add_list(&making.columns[1], &grouping, i, err));
    }
    status = making_finish(&making, ret_batch, err);
done:
    making_release(&making);
    mr__grouping_release(&grouping);
    return status;
}

/* ---- joins ---- */

/* The rows of a result: which row of each side, NO_ROW = null. */
struct matches {
    int64_t *left;
    int64_t *right;
    size_t count;
    size_t capacity;
};

static enum mr_status matches_grow(struct matches *matches, size_t more, struct mr_error *err)
{
    size_t capacity = MR_MAX(matches->count + more, matches->capacity * 2);
    int64_t *grown;

    if (matches->count + more <= matches->capacity)
        return MR_OK;
    if (matches->count + more > INT32_MAX)
        return too_many(err);
    grown = mr_realloc(NULL, matches->left, capacity * sizeof(*grown));
    if (grown == NULL)
        return no_memory(err);
    matches->left = grown;
    grown = mr_realloc(NULL, matches->right, capacity * sizeof(*grown));
    if (grown == NULL)
        return no_memory(err);
    matches->right = grown;
    matches->capacity = capacity;
    return MR_OK;
}

static int64_t row_of(const struct mr__grouping *grouping, int64_t group, size_t index)
{
    return group == NO_ROW ? NO_ROW : (int64_t)grouping->order[grouping->starts[group] + index];
}

/* Every row of one key on the left with every row on the right; a side without the key: null. */
static enum mr_status match_key(struct matches *matches, const struct mr__grouping *left,
                                int64_t left_group, const struct mr__grouping *right,
                                int64_t right_group, struct mr_error *err)
{
    size_t left_rows = left_group == NO_ROW ? 1 : group_size(left, (uint32_t)left_group);
    size_t right_rows = right_group == NO_ROW ? 1 : group_size(right, (uint32_t)right_group);

    if (left_rows > INT32_MAX / right_rows)
        return too_many(err);
    MR_TRY(matches_grow(matches, left_rows * right_rows, err));
    MR_ASSERT(matches->left != NULL && matches->right != NULL);
    for (size_t i = 0; i < left_rows; i++) {
        for (size_t k = 0; k < right_rows; k++) {
            size_t at = matches->count++;
            matches->left[at] = row_of(left, left_group, i);
            matches->right[at] = row_of(right, right_group, k);
        }
    }
    return MR_OK;
}

static int compare_keys(const struct mr__grouping *a, uint32_t i, const struct mr__grouping *b,
                        uint32_t k)
{
    size_t common = MR_MIN(a->key_bytes[i], b->key_bytes[k]);
    int order = common == 0 ? 0 : memcmp(a->keys[i], b->keys[k], common);

    return order != 0 ? order : (a->key_bytes[i] > common) - (b->key_bytes[k] > common);
}

/* The next key of either side: its group on each, NO_ROW where it is not. False: no more. */
struct walk {
    const struct mr__grouping *left;
    const struct mr__grouping *right;
    uint32_t at_left;
    uint32_t at_right;
};

static bool next_key(struct walk *walk, int64_t *ret_left, int64_t *ret_right)
{
    bool has_left = walk->at_left < walk->left->count;
    bool has_right = walk->at_right < walk->right->count;
    int order;

    if (!has_left && !has_right)
        return false;
    if (!has_left || !has_right)
        order = has_left ? -1 : 1;
    else
        order = compare_keys(walk->left, walk->at_left, walk->right, walk->at_right);
    *ret_left = order <= 0 ? (int64_t)walk->at_left++ : NO_ROW;
    *ret_right = order >= 0 ? (int64_t)walk->at_right++ : NO_ROW;
    return true;
}

/* Values of one side; runs of rows are gathered, nulls are added between them. */
static enum mr_status add_side(struct mr_column_builder *out, const struct mr_column *values,
                               const int64_t *rows, size_t count, struct mr_error *err)
{
    uint32_t *list = mr_alloc(NULL, (count + 1) * sizeof(*list));
    enum mr_status status = MR_OK;

    if (list == NULL)
        return no_memory(err);
    for (size_t at = 0; at < count && status == MR_OK;) {
        size_t run = 0;

        while (at + run < count && rows[at + run] != NO_ROW) {
            list[run] = (uint32_t)rows[at + run];
            run++;
        }
        status = run > 0 ? mr__column_gather(out, values, list, (int64_t)run, err)
                         : mr_column_builder_null(out, err);
        at += run > 0 ? run : 1;
    }
    mr_free(list);
    return status;
}

/* A row has a key on the side that has it. */
static enum mr_status add_keys(struct mr_column_builder *out, const struct mr__grouping *left,
                               const struct mr__grouping *right, const struct matches *matches,
                               struct mr_error *err)
{
    const struct mr_column *keys[2] = {mr_batch_column(left->batch, 0),
                                       mr_batch_column(right->batch, 0)};

    for (size_t i = 0; i < matches->count; i++) {
        bool in_left = matches->left[i] != NO_ROW;
        MR_TRY(mr_column_builder_copy(out, keys[in_left ? 0 : 1],
                                      in_left ? matches->left[i] : matches->right[i], err));
    }
    return MR_OK;
}

static enum mr_status join_rows(enum mr__join_kind kind, const struct mr__grouping *left,
                                const struct mr__grouping *right, struct making *making,
                                struct mr_error *err)
{
    bool keeps_left = kind == MR__JOIN_LEFT || kind == MR__JOIN_FULL;
    bool keeps_right = kind == MR__JOIN_RIGHT || kind == MR__JOIN_FULL;
    struct mr_column_builder *value = &making->columns[1];
    struct walk walk = {left, right, 0, 0};
    struct matches matches = {0};
    int64_t in_left, in_right;
    enum mr_status status = MR_OK;

    while (next_key(&walk, &in_left, &in_right)) {
        if ((in_right == NO_ROW && !keeps_left) || (in_left == NO_ROW && !keeps_right))
            continue;
        MR_TRY_GOTO(match_key(&matches, left, in_left, right, in_right, err));
    }
    MR_TRY_GOTO(mr_column_builder_reserve(value, (int64_t)matches.count, 0, err));
    MR_TRY_GOTO(add_keys(&making->columns[0], left, right, &matches, err));
    MR_TRY_GOTO(add_side(&value->children[0], mr_batch_column(left->batch, 1), matches.left,
                         matches.count, err));
    MR_TRY_GOTO(add_side(&value->children[1], mr_batch_column(right->batch, 1), matches.right,
                         matches.count, err));
    value->length = (int64_t)matches.count; /* none of the structs is null: no bits to set */
done:
    mr_free(matches.left);
    mr_free(matches.right);
    return status;
}

static enum mr_status cogroup_rows(const struct mr__grouping *left,
                                   const struct mr__grouping *right, struct making *making,
                                   struct mr_error *err)
{
    struct mr_column_builder *value = &making->columns[1];
    struct walk walk = {left, right, 0, 0};
    int64_t in_left, in_right;

    while (next_key(&walk, &in_left, &in_right)) {
        bool has_left = in_left != NO_ROW;
        MR_TRY(add_key(making, has_left ? left : right, (uint32_t)(has_left ? in_left : in_right),
                       err));
        MR_TRY(add_list(&value->children[0], left, in_left, err));
        MR_TRY(add_list(&value->children[1], right, in_right, err));
        MR_TRY(mr_column_builder_struct_end(value, err));
    }
    return MR_OK;
}

enum mr_status mr__join(enum mr__join_kind kind, struct mr__pairs left, struct mr__pairs right,
                        const struct mr_schema *output, struct mr_batch **ret_batch,
                        struct mr_error *err)
{
    struct mr__grouping a = {0}, b = {0};
    struct making making = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__group(left.batches, left.batch_count, left.schema, &a, err));
    MR_TRY_GOTO(mr__group(right.batches, right.batch_count, right.schema, &b, err));
    MR_TRY_GOTO(making_begin(&making, output, err));
    if (kind == MR__JOIN_COGROUP)
        MR_TRY_GOTO(cogroup_rows(&a, &b, &making, err));
    else
        MR_TRY_GOTO(join_rows(kind, &a, &b, &making, err));
    status = making_finish(&making, ret_batch, err);
done:
    making_release(&making);
    mr__grouping_release(&a);
    mr__grouping_release(&b);
    return status;
}
