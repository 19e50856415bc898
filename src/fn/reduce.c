/*
 * Reducing: the values of each key to one, with any associative and commutative function.
 *
 *     rows --group--> those of a key side by side --pairs--> half as many --> ... one row a key
 *
 *     key    a a a a a b each round calls the function once, over all pairs of neighbours of equal
 *            key:
 *     value  1 2 3 4 5 6 an SQL expression is evaluated over whole columns, log2(rows of the
 *            largest key) times,
 *     round  3   7   5 6      and not once per row
 *     round  10      5 6
 *     round  15        6
 *
 * The order of keys in the result is the order of their encoded bytes, so it does not depend on the
 * order of arrival.
 *
 * Thread: the evaluating worker's.
 */
#include "fn/fn.h"

#include "data/batch_internal.h"
#include "data/row_codec.h"
#include "ops/group_table.h"

#include <stdlib.h>
#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot reduce a batch: out of memory");
}

/* ---- one call of the function over many pairs ---- */

static void drop_two(void *owner)
{
    struct mr_batch **two = owner;

    mr_batch_unref(two[0]);
    mr_batch_unref(two[1]);
    mr_free(two);
}

/* Without copying. */
enum mr_status mr__side_by_side(const struct mr_schema *schema, const struct mr_batch *a,
                                uint32_t a_column, const struct mr_batch *b, uint32_t b_column,
                                struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_column columns[2] = {*mr_batch_column(a, a_column), *mr_batch_column(b, b_column)};
    struct mr_batch **owner = mr_alloc(NULL, 2 * sizeof(struct mr_batch *));

    if (owner == NULL)
        return no_memory(err);
    owner[0] = mr_batch_ref(a);
    owner[1] = mr_batch_ref(b);
    return mr_batch_wrap(schema, columns, mr_batch_row_count(a), owner, drop_two, ret_batch, err);
}

enum mr_status mr__batches_join(struct mr_batch *const *batches, size_t batch_count,
                                const struct mr_schema *schema, struct mr_batch **ret_batch,
                                struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    if (batch_count == 1) {
        *ret_batch = mr_batch_ref(batches[0]);
        return MR_OK;
    }
    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    for (size_t i = 0; i < batch_count; i++)
        mr_batch_builder_append(builder, batches[i]);
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status sql_pairs(struct mr__function *reduce, struct mr__when when,
                                const struct mr_batch *a, const struct mr_batch *b,
                                struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr__batches results = {0};
    struct mr_batch *input = NULL;
    enum mr_status status;

    MR_TRY(mr__side_by_side(reduce->input, a, 0, b, 0, &input, err));
    MR_TRY_GOTO(mr__function_run_sql(reduce, when, &input, 1, &results, err));
    status = mr__batches_join(results.items, results.count, reduce->output, ret_batch, err);
done:
    mr__batches_release(&results);
    mr_batch_unref(input);
    return status;
}

static enum mr_status c_pairs(struct mr__function *reduce, const struct mr_batch *a,
                              const struct mr_batch *b, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    mr_reduce_fn call = (mr_reduce_fn)reduce->fn.call;
    struct mr_emitter out;
    enum mr_status status;

    MR_TRY(mr__emitter_init(&out, reduce->output, err));
    for (int64_t row = 0; row < mr_batch_row_count(a); row++) {
        struct mr_row left = {a, row}, right = {b, row};

        call(&left, &right, &out, reduce->fn.arg);
        MR_TRY_GOTO(mr__emitter_check(&out, err));
        if (mr__emitter_rows(&out) != row + 1) {
            status = mr__emitter_count_is_wrong(&out, reduce->fn.name, "exactly one value", err);
            goto done;
        }
    }
    status = mr__emitter_finish(&out, ret_batch, err);
done:
    mr__emitter_release(&out);
    return status;
}

enum mr_status mr__reduce_pairs(struct mr__function *reduce, struct mr__when when,
                                const struct mr_batch *a, const struct mr_batch *b,
                                struct mr_batch **ret_batch, struct mr_error *err)
{
    enum mr_status status;

    if (reduce->fn.kind == MR_FN_KIND_BUILTIN)
        status = mr__builtin_pairs(reduce->fn.builtin, false, a, b, reduce->output, ret_batch, err);
    else if (reduce->fn.kind == MR_FN_KIND_SQL)
        status = sql_pairs(reduce, when, a, b, ret_batch, err);
    else
        status = c_pairs(reduce, a, b, ret_batch, err);
    if (status == MR_OK && mr_batch_row_count(*ret_batch) != mr_batch_row_count(a)) {
        *ret_batch = mr_batch_unref(*ret_batch);
        status = MR_FAIL(err, MR_USER, "the function must give one value for each pair");
    }
    return mr__function_blame(reduce, status, err);
}

/* ---- grouping ---- */

struct numbered_key {
    uint64_t prefix; /* the first eight bytes as a number that orders as they do */
    const char *data;
    size_t size_bytes;
    uint32_t group;
};

static uint64_t prefix_of(const struct mr_buf *bytes)
{
    uint64_t prefix = 0;

    if (bytes->size > 0)
        memcpy(&prefix, bytes->data, MR_MIN(bytes->size, sizeof(prefix)));
    return __builtin_bswap64(prefix);
}

static int compare_keys(const void *a_pointer, const void *b_pointer)
{
    const struct numbered_key *a = a_pointer;
    const struct numbered_key *b = b_pointer;
    size_t common = MR_MIN(a->size_bytes, b->size_bytes);
    int order = a->prefix < b->prefix ? -1 : a->prefix > b->prefix;

    if (order == 0 && common > sizeof(a->prefix))
        order = memcmp(a->data + sizeof(a->prefix), b->data + sizeof(a->prefix),
                       common - sizeof(a->prefix));
    return order != 0 ? order : (a->size_bytes > common) - (b->size_bytes > common);
}

void mr__grouping_release(struct mr__grouping *grouping)
{
    mr_batch_unref(grouping->batch);
    mr_free(grouping->starts);
    mr_free(grouping->order);
    mr_free(grouping->keys);
    mr_free(grouping->key_bytes);
    mr_arena_release(&grouping->arena);
    *grouping = (struct mr__grouping){0};
}

/* Number of each row's key, by first appearance. */
static enum mr_status number_rows(const struct mr_batch *batch, struct mr_group_table *table,
                                  uint32_t *groups, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);

    for (int64_t from = 0; from < rows; from += MR_CHUNK_ROWS) {
        uint32_t count = (uint32_t)MR_MIN(rows - from, (int64_t)MR_CHUNK_ROWS);
        MR_TRY(mr_group_table_find(table, batch, from, count, groups + from, err));
    }
    return MR_OK;
}

/* Keys in the order of their bytes; *ret_rank: group number -> place in that order. */
static enum mr_status sort_keys(struct mr__grouping *grouping, const struct mr_group_table *table,
                                uint32_t *rank, struct mr_error *err)
{
    uint32_t count = mr_group_table_count(table);
    struct numbered_key *keys = mr_alloc(NULL, ((size_t)count + 1) * sizeof(*keys));
    struct mr_buf bytes = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    if (keys == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_clear(&bytes);
        mr_group_table_encode_key(table, i, &bytes);
        keys[i].data =
            bytes.failed ? NULL : mr_arena_copy(&grouping->arena, bytes.data, bytes.size);
        keys[i].size_bytes = bytes.size;
        keys[i].group = i;
        if (keys[i].data == NULL) {
            status = no_memory(err);
            goto done;
        }
        keys[i].prefix = prefix_of(&bytes);
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    for (uint32_t i = 0; i < count; i++) {
        rank[keys[i].group] = i;
        grouping->keys[i] = (char *)(uintptr_t)keys[i].data;
        grouping->key_bytes[i] = keys[i].size_bytes;
    }
done:
    mr_buf_release(&bytes);
    mr_free(keys);
    return status;
}

/* A counting sort of the rows by the place of their key. */
static void place_rows(struct mr__grouping *grouping, const uint32_t *groups, const uint32_t *rank,
                       uint32_t *next)
{
    int64_t rows = mr_batch_row_count(grouping->batch);

    memset(grouping->starts, 0, ((size_t)grouping->count + 1) * sizeof(*grouping->starts));
    for (int64_t row = 0; row < rows; row++)
        grouping->starts[rank[groups[row]] + 1]++;
    for (uint32_t i = 0; i < grouping->count; i++)
        grouping->starts[i + 1] += grouping->starts[i];
    memcpy(next, grouping->starts, (size_t)grouping->count * sizeof(*next));
    for (int64_t row = 0; row < rows; row++)
        grouping->order[next[rank[groups[row]]]++] = (uint32_t)row;
}

static enum mr_status join_batches(struct mr_batch *const *batches, size_t batch_count,
                                   const struct mr_schema *schema, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    MR_TRY(mr__batches_join(batches, batch_count, schema, ret_batch, err));
    if (mr_batch_row_count(*ret_batch) < INT32_MAX)
        return MR_OK;
    *ret_batch = mr_batch_unref(*ret_batch);
    return MR_FAIL(
        err, MR_LIMIT,
        "cannot reduce more than %d rows of one batch at once; use a shorter batch interval "
        "or a rate limit",
        INT32_MAX);
}

enum mr_status mr__group(struct mr_batch *const *batches, size_t batch_count,
                         const struct mr_schema *pairs, struct mr__grouping *ret_grouping,
                         struct mr_error *err)
{
    struct mr__grouping grouping = {0};
    struct mr_group_table *table = NULL;
    uint32_t *groups = NULL, *rank = NULL, *next = NULL;
    const uint32_t key_column = 0;
    size_t rows;
    enum mr_status status;

    MR_TRY_GOTO(join_batches(batches, batch_count, pairs, &grouping.batch, err));
    rows = (size_t)mr_batch_row_count(grouping.batch);
    MR_TRY_GOTO(mr_group_table_new(pairs, &key_column, 1, &table, err));
    groups = mr_alloc(NULL, (rows + 1) * sizeof(*groups));
    if (groups == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(number_rows(grouping.batch, table, groups, err));
    grouping.count = mr_group_table_count(table);
    grouping.starts = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*grouping.starts));
    grouping.order = mr_alloc(NULL, (rows + 1) * sizeof(*grouping.order));
    grouping.keys = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*grouping.keys));
    grouping.key_bytes = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*grouping.key_bytes));
    rank = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*rank));
    next = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*next));
    if (grouping.starts == NULL || grouping.order == NULL || grouping.keys == NULL ||
        grouping.key_bytes == NULL || rank == NULL || next == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(sort_keys(&grouping, table, rank, err));
    place_rows(&grouping, groups, rank, next);
    *ret_grouping = grouping;
    grouping = (struct mr__grouping){0};
done:
    mr__grouping_release(&grouping);
    mr_group_table_free(table);
    mr_free(groups);
    mr_free(rank);
    mr_free(next);
    return status;
}

/* ---- rounds ---- */

/* The values that are left: those of key i are rows [starts[i], starts[i + 1]) of values. */
struct rounds {
    struct mr_batch *values;
    uint32_t *starts;
    uint32_t count;
    uint32_t *left; /* rows of this round's pairs */
    uint32_t *right;
};

/* Neighbours of equal key become pairs; *ret_pairs of them. */
static uint32_t choose_pairs(struct rounds *rounds)
{
    uint32_t pairs = 0;

    for (uint32_t i = 0; i < rounds->count; i++) {
        for (uint32_t row = rounds->starts[i]; row + 1 < rounds->starts[i + 1]; row += 2) {
            rounds->left[pairs] = row;
            rounds->right[pairs++] = row + 1;
        }
    }
    return pairs;
}

/* The next round's values: results of pairs, and the rows without a partner. */
static enum mr_status merge_round(struct rounds *rounds, const struct mr_batch *results,
                                  const struct mr_schema *schema, struct mr_error *err)
{
    const struct mr_column *paired = mr_batch_column(results, 0);
    const struct mr_column *single = mr_batch_column(rounds->values, 0);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *values = NULL;
    uint32_t result = 0, total = 0, from = 0;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    for (uint32_t i = 0; i < rounds->count; i++) {
        uint32_t rows = rounds->starts[i + 1] - from;

        for (uint32_t k = 0; k + 1 < rows; k += 2) {
            mr_batch_builder_copy(builder, 0, paired, result++);
            mr_batch_builder_end_row(builder);
        }
        if (rows % 2 == 1) {
            mr_batch_builder_copy(builder, 0, single, rounds->starts[i + 1] - 1);
            mr_batch_builder_end_row(builder);
        }
        from = rounds->starts[i + 1];
        rounds->starts[i] = total;
        total += (rows + 1) / 2;
    }
    rounds->starts[rounds->count] = total;
    status = mr_batch_builder_finish(builder, &values, err);
    mr_batch_builder_free(builder);
    MR_TRY(status);
    mr_batch_unref(rounds->values);
    rounds->values = values;
    return MR_OK;
}

static enum mr_status one_round(struct rounds *rounds, uint32_t pairs, struct mr__function *reduce,
                                struct mr__when when, struct mr_error *err)
{
    struct mr_batch *a = NULL, *b = NULL, *results = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_take(rounds->values, rounds->left, pairs, &a, err));
    MR_TRY_GOTO(mr_batch_take(rounds->values, rounds->right, pairs, &b, err));
    MR_TRY_GOTO(mr__reduce_pairs(reduce, when, a, b, &results, err));
    status = merge_round(rounds, results, reduce->output, err);
done:
    mr_batch_unref(a);
    mr_batch_unref(b);
    mr_batch_unref(results);
    return status;
}

static enum mr_status run_rounds(struct rounds *rounds, struct mr__function *reduce,
                                 struct mr__when when, struct mr_error *err)
{
    size_t rows = (size_t)mr_batch_row_count(rounds->values);

    rounds->left = mr_alloc(NULL, (rows / 2 + 1) * sizeof(*rounds->left));
    rounds->right = mr_alloc(NULL, (rows / 2 + 1) * sizeof(*rounds->right));
    if (rounds->left == NULL || rounds->right == NULL)
        return no_memory(err);
    for (;;) {
        uint32_t pairs = choose_pairs(rounds);
        if (pairs == 0)
            return MR_OK;
        MR_TRY(one_round(rounds, pairs, reduce, when, err));
    }
}

/* One row a key: the key of its first row, and its value. */
static enum mr_status build_result(const struct mr__grouping *grouping, const struct rounds *rounds,
                                   const struct mr_schema *pairs, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    const struct mr_column *keys = mr_batch_column(grouping->batch, 0);
    const struct mr_column *values = mr_batch_column(rounds->values, 0);
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(pairs, &builder, err));
    for (uint32_t i = 0; i < grouping->count; i++) {
        mr_batch_builder_copy(builder, 0, keys, grouping->order[grouping->starts[i]]);
        mr_batch_builder_copy(builder, 1, values, i);
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr__reduce_rows(struct mr__function *reduce, struct mr__when when,
                               struct mr_batch *const *batches, size_t batch_count,
                               const struct mr_schema *pairs, struct mr_batch **ret_batch,
                               struct mr_error *err)
{
    struct mr__grouping grouping = {0};
    struct mr_batch *values = NULL;
    struct rounds rounds = {0};
    const uint32_t value_column = 1;
    enum mr_status status;

    *ret_batch = NULL;
    if (batch_count == 0)
        return MR_OK;
    MR_TRY_GOTO(mr__group(batches, batch_count, pairs, &grouping, err));
    if (grouping.count == 0)
        goto done;
    MR_TRY_GOTO(mr_batch_select(grouping.batch, reduce->output, &value_column, &values, err));
    MR_TRY_GOTO(
        mr_batch_take(values, grouping.order, mr_batch_row_count(values), &rounds.values, err));
    rounds.count = grouping.count;
    rounds.starts = mr_alloc(NULL, ((size_t)grouping.count + 1) * sizeof(*rounds.starts));
    if (rounds.starts == NULL) {
        status = no_memory(err);
        goto done;
    }
    memcpy(rounds.starts, grouping.starts, ((size_t)grouping.count + 1) * sizeof(*rounds.starts));
    MR_TRY_GOTO(run_rounds(&rounds, reduce, when, err));
    status = build_result(&grouping, &rounds, pairs, ret_batch, err);
done:
    mr_batch_unref(values);
    mr_batch_unref(rounds.values);
    mr_free(rounds.starts);
    mr_free(rounds.left);
    mr_free(rounds.right);
    mr__grouping_release(&grouping);
    return status;
}

enum mr_status mr__reduce_all(struct mr__function *reduce, struct mr__when when,
                              struct mr_batch *const *batches, size_t batch_count,
                              struct mr_batch **ret_batch, struct mr_error *err)
{
    uint32_t starts[2] = {0, 0};
    struct rounds rounds = {.starts = starts, .count = 1};
    enum mr_status status;

    *ret_batch = NULL;
    if (batch_count == 0)
        return MR_OK;
    MR_TRY(join_batches(batches, batch_count, reduce->output, &rounds.values, err));
    starts[1] = (uint32_t)mr_batch_row_count(rounds.values);
    status = starts[1] > 1 ? run_rounds(&rounds, reduce, when, err) : MR_OK;
    if (status == MR_OK && starts[1] > 0)
        *ret_batch = mr_batch_ref(rounds.values);
    mr_batch_unref(rounds.values);
    mr_free(rounds.left);
    mr_free(rounds.right);
    return status;
}
