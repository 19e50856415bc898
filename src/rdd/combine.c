/*
 * combine_by_key: values of a key to one combiner, with three functions.  See pairs.h.
 *
 *     values of a key   v0 v1 v2 v3      values of a partition, in the order of arrival
 *     create            c0 = f(v0)
 *     merge_value       c1 = g(c0, v1)   round 1: the second value of every key that has one,
 *                       c2 = g(c1, v2)   round 2: the third, ... one call over all keys a round,
 *                       c3 = g(c2, v3)   so an expression is evaluated over whole columns
 *     merge_combiners   by pairs of neighbours, as any reduce (fn/reduce.c)
 *
 * Thread: the evaluating worker's.
 */
#include "rdd/pairs.h"

#include "fn/compile.h"

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot combine a batch: out of memory");
}

/* ---- compiling ---- */

void mr__combiner_free(struct mr__combiner *combiner)
{
    mr__function_free(combiner->create);
    mr__function_free(combiner->merge_value);
    mr__function_free(combiner->merge);
    mr_schema_unref(combiner->output);
    *combiner = (struct mr__combiner){0};
}

/* (a combiner, b value) -> combiner */
static enum mr_status compile_merge(struct mr__engines *engines, const char *operation,
                                    const struct mr_fn *fn, const struct mr_type *combiner,
                                    const struct mr_type *value, struct mr__function **ret_function,
                                    struct mr_error *err)
{
    bool is_builtin = fn->kind == MR_FN_KIND_BUILTIN && fn->builtin != MR_BUILTIN_WORDS &&
                      fn->builtin != MR_BUILTIN_COUNT;
    struct mr__column_of columns[] = {{"a", combiner}, {"b", value}};
    struct mr_schema *input = NULL;
    enum mr_status status;

    if (fn->kind != MR_FN_KIND_SQL && fn->kind != MR_FN_KIND_REDUCE && !is_builtin)
        return mr__refuse(fn,
                          "MR_SQL over a (the combiner) and b (the value), MR_FN of a reduce "
                          "function, MR_SUM, MR_MIN_OF or MR_MAX_OF",
                          err);
    if (is_builtin && !mr_type_equal(combiner, value))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot use '%s' to merge a value into a combiner of another type; use "
                       "MR_SQL over a and b",
                       fn->name);
    if (is_builtin && fn->builtin == MR_BUILTIN_SUM && !mr__can_be_added(combiner))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add values of this type; the value must be BIGINT, DOUBLE or "
                       "DECIMAL");
    MR_TRY(mr__schema_of(columns, 2, &input, err));
    status = mr__compile_value(engines, operation, fn, combiner, input, ret_function, err);
    mr_schema_unref(input);
    return status;
}

static enum mr_status compile(struct mr__engines *engines, const struct mr_fn *create,
                              const struct mr_fn *merge_value, const struct mr_fn *merge_combiners,
                              const struct mr_schema *pairs, struct mr__combiner *combiner,
                              struct mr_error *err)
{
    static const char operation[] = "combine_by_key";
    struct mr__column_of value = {"value", mr__column_type(pairs, 1)};
    struct mr_schema *values = NULL;
    enum mr_status status;

    MR_TRY(mr__schema_of(&value, 1, &values, err));
    status = mr__compile_map(engines, operation, create, values, &combiner->create, err);
    mr_schema_unref(values);
    MR_TRY(status);
    if (mr_schema_field_count(combiner->create->output) != 1)
        return MR_FAIL(err, MR_CONFIG,
                       "the combiner has one column; use a STRUCT for several values");
    struct mr__column_of columns[] = {{"key", mr__column_type(pairs, 0)},
                                      {"value", mr__column_type(combiner->create->output, 0)}};
    MR_TRY(mr__schema_of(columns, 2, &combiner->output, err));
    MR_TRY(compile_merge(engines, operation, merge_value, columns[1].type, value.type,
                         &combiner->merge_value, err));
    return mr__compile_reduce(engines, operation, merge_combiners, combiner->output,
                              &combiner->merge, err);
}

enum mr_status mr__combiner_new(struct mr__engines *engines, const struct mr_fn *create,
                                const struct mr_fn *merge_value,
                                const struct mr_fn *merge_combiners, const struct mr_schema *pairs,
                                struct mr__combiner *ret_combiner, struct mr_error *err)
{
    struct mr__combiner combiner = {0};
    enum mr_status status;

    if (!mr__is_pairs(pairs))
        return mr__needs_pairs_error(err);
    status = compile(engines, create, merge_value, merge_combiners, pairs, &combiner, err);
    if (status == MR_OK)
        *ret_combiner = combiner;
    else
        mr__combiner_free(&combiner);
    return status;
}

/* ---- running ---- */

/* The combiners so far (row i is that of key i) and what a round takes. */
struct rounds {
    const struct mr__combiner *combiner;
    struct mr__when when;
    const struct mr__grouping *grouping;
    const struct mr_schema *value_schema; /* of merge_value's b */
    struct mr_batch *values;              /* one column, rows as they came */
    struct mr_batch *combiners;
    uint32_t *keys; /* of the round */
    uint32_t *rows;
};

/* combiners[keys[i]] = merged[i] */
static enum mr_status replace(struct rounds *rounds, const struct mr_batch *merged, uint32_t count,
                              struct mr_error *err)
{
    const struct mr_schema *schema = rounds->combiner->create->output;
    struct mr_batch *both[2] = {rounds->combiners, (struct mr_batch *)(uintptr_t)merged};
    uint32_t keys = rounds->grouping->count;
    struct mr_batch *all = NULL, *next = NULL;
    uint32_t *take;
    enum mr_status status;

    if (count == keys) {
        mr_batch_unref(rounds->combiners);
        rounds->combiners = mr_batch_ref(merged);
        return MR_OK;
    }
    take = mr_alloc(NULL, keys * sizeof(*take));
    if (take == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < keys; i++)
        take[i] = i;
    for (uint32_t i = 0; i < count; i++)
        take[rounds->keys[i]] = keys + i;
    MR_TRY_GOTO(mr__batches_join(both, 2, schema, &all, err));
    MR_TRY_GOTO(mr_batch_take(all, take, keys, &next, err));
    mr_batch_unref(rounds->combiners);
    rounds->combiners = next;
done:
    mr_batch_unref(all);
    mr_free(take);
    return status;
}

/* Value number `round` of every key that has so many; *ret_count of them. */
static uint32_t choose(struct rounds *rounds, uint32_t round)
{
    const struct mr__grouping *grouping = rounds->grouping;
    uint32_t count = 0;

    for (uint32_t i = 0; i < grouping->count; i++) {
        if (grouping->starts[i + 1] - grouping->starts[i] <= round)
            continue;
        rounds->keys[count] = i;
        rounds->rows[count++] = grouping->order[grouping->starts[i] + round];
    }
    return count;
}

static enum mr_status one_round(struct rounds *rounds, uint32_t count, struct mr_error *err)
{
    struct mr_batch *a = NULL, *b = NULL, *merged = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_take(rounds->combiners, rounds->keys, count, &a, err));
    MR_TRY_GOTO(mr_batch_take(rounds->values, rounds->rows, count, &b, err));
    MR_TRY_GOTO(mr__reduce_pairs(rounds->combiner->merge_value, rounds->when, a, b, &merged, err));
    status = replace(rounds, merged, count, err);
done:
    mr_batch_unref(a);
    mr_batch_unref(b);
    mr_batch_unref(merged);
    return status;
}

static enum mr_status create_all(struct rounds *rounds, struct mr_error *err)
{
    struct mr__function *create = rounds->combiner->create;
    struct mr__batches results = {0};
    struct mr_batch *first = NULL;
    uint32_t count = choose(rounds, 0);
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_take(rounds->values, rounds->rows, count, &first, err));
    MR_TRY_GOTO(mr__apply(create, false, rounds->when, first, &results, err));
    status =
        mr__batches_join(results.items, results.count, create->output, &rounds->combiners, err);
    if (status == MR_OK && mr_batch_row_count(rounds->combiners) != count)
        status = MR_FAIL(err, MR_USER, "the function must make one combiner for each value");
done:
    mr__batches_release(&results);
    mr_batch_unref(first);
    return status;
}

/* Key of the first row of each key, its combiner beside it. */
static enum mr_status pair_up(const struct rounds *rounds, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    const struct mr__grouping *grouping = rounds->grouping;
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(rounds->combiner->output, &builder, err));
    for (uint32_t i = 0; i < grouping->count; i++) {
        mr_batch_builder_copy(builder, 0, mr_batch_column(grouping->batch, 0),
                              grouping->order[grouping->starts[i]]);
        mr_batch_builder_copy(builder, 1, mr_batch_column(rounds->combiners, 0), i);
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status run_rounds(struct rounds *rounds, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    MR_TRY(create_all(rounds, err));
    for (uint32_t round = 1;; round++) {
        uint32_t count = choose(rounds, round);
        if (count == 0)
            return pair_up(rounds, ret_batch, err);
        MR_TRY(one_round(rounds, count, err));
    }
}

enum mr_status mr__combine_values(const struct mr__combiner *combiner, struct mr__when when,
                                  struct mr__pairs pairs, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    struct mr__grouping grouping = {0};
    struct rounds rounds = {.combiner = combiner, .when = when, .grouping = &grouping};
    const uint32_t value_column = 1;
    enum mr_status status;

    MR_TRY_GOTO(mr__group(pairs.batches, pairs.batch_count, pairs.schema, &grouping, err));
    if (grouping.count == 0) {
        status = mr__batches_join(NULL, 0, combiner->output, ret_batch, err);
        goto done;
    }
    rounds.keys = mr_alloc(NULL, grouping.count * sizeof(*rounds.keys));
    rounds.rows = mr_alloc(NULL, grouping.count * sizeof(*rounds.rows));
    if (rounds.keys == NULL || rounds.rows == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(mr_batch_select(grouping.batch, combiner->create->input, &value_column,
                                &rounds.values, err));
    status = run_rounds(&rounds, ret_batch, err);
done:
    mr_batch_unref(rounds.values);
    mr_batch_unref(rounds.combiners);
    mr_free(rounds.keys);
    mr_free(rounds.rows);
    mr__grouping_release(&grouping);
    return status;
}

enum mr_status mr__combine_merge(const struct mr__combiner *combiner, struct mr__when when,
                                 struct mr__pairs pairs, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    struct mr_batch *merged = NULL;

    MR_TRY(mr__reduce_rows(combiner->merge, when, pairs.batches, pairs.batch_count,
                           combiner->output, &merged, err));
    if (merged == NULL) /* there were no rows */
        return mr__batches_join(NULL, 0, combiner->output, ret_batch, err);
    *ret_batch = merged;
    return MR_OK;
}
