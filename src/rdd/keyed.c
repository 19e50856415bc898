/*
 * Shuffles by key: group_by_key, reduce_by_key, combine_by_key, count_by_value, distinct, cogroup
 * and the joins. The kernels are those of pairs.h; here is what they are to datasets.
 *
 * Reductions combine on both sides of the shuffle, so a partition sends one row a key.
 *
 * Thread: building in any; computing on workers.
 */
#include "rdd/shuffle.h"

#include "data/batch_internal.h"

static struct mr__pairs pairs_of(const struct mr__batches *rows, const struct mr_schema *schema)
{
    return (struct mr__pairs){rows->items, rows->count, schema};
}

/* Takes batch, which may be NULL or without rows: nothing is added then. */
static enum mr_status add_result(struct mr__batches *rows, enum mr_status status,
                                 struct mr_batch *batch, struct mr_error *err)
{
    if (status == MR_OK && batch != NULL && mr_batch_row_count(batch) > 0)
        status = mr__batches_add(rows, batch, err);
    mr_batch_unref(batch);
    return status;
}

/* A dataset of pairs that is not one yet: the inputs are checked, the schema is to come. */
static struct mr_rdd *begin(const struct mr__rdd_kind *kind, struct mr_rdd *const *inputs,
                            uint32_t input_count, const struct mr_fn *fn)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, kind, inputs, input_count);
    struct mr_error err;

    for (uint32_t i = 0; rdd != NULL && rdd->error.status == MR_OK && i < input_count; i++) {
        if (!mr__is_pairs(inputs[i]->schema))
            mr__rdd_blame(rdd, fn, mr__needs_pairs_error(&err), &err);
    }
    return rdd;
}

/* Takes schema and extra. */
static struct mr_rdd *finish(struct mr_rdd *rdd, const struct mr__shuffled_ops *ops, void *extra,
                             struct mr_schema *schema)
{
    struct mr_error err;
    enum mr_status status = mr__shuffled_init(rdd, ops, extra, &err);

    if (status != MR_OK) {
        mr_schema_unref(schema);
        return mr__rdd_blame(rdd, NULL, status, &err);
    }
    return mr__rdd_ready(rdd, schema, mr__shuffled_partitions(rdd));
}

/* ---- group_by_key ---- */

static enum mr_status group_after(struct mr_rdd *rdd, struct mr__task *task,
                                  const struct mr__batches *sides, struct mr__batches *ret_rows,
                                  struct mr_error *err)
{
    struct mr_batch *grouped = NULL;
    enum mr_status status =
        mr__group_by_key(pairs_of(&sides[0], rdd->inputs[0]->schema), rdd->schema, &grouped, err);

    MR_UNUSED(task);
    return add_result(ret_rows, status, grouped, err);
}

static const struct mr__shuffled_ops group_ops = {.after = group_after, .column = 0};
static const struct mr__rdd_kind group_kind = MR__SHUFFLED_KIND("group_by_key");

struct mr_rdd *mr_rdd_group_by_key(struct mr_rdd *pairs)
{
    struct mr_rdd *rdd = begin(&group_kind, &pairs, 1, NULL);
    struct mr_schema *schema = NULL;
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    mr__rdd_blame(rdd, NULL, mr__grouped_schema(pairs->schema, &schema, &err), &err);
    return schema != NULL ? finish(rdd, &group_ops, NULL, schema) : rdd;
}

/* ---- reduce_by_key ---- */

static enum mr_status reduce_rows(struct mr_rdd *rdd, struct mr__task *task,
                                  const struct mr__batches *rows, struct mr__batches *ret_rows,
                                  struct mr_error *err)
{
    struct mr_batch *reduced = NULL;
    enum mr_status status = mr__reduce_rows(mr__compiled_function(rdd->compiled), task->when,
                                            rows->items, rows->count, rdd->schema, &reduced, err);

    return add_result(ret_rows, status, reduced, err);
}

static const struct mr__shuffled_ops reduce_ops = {
    .before = reduce_rows,
    .after = reduce_rows,
    .column = 0,
};
static const struct mr__rdd_kind reduce_kind = MR__SHUFFLED_KIND("reduce_by_key");

struct mr_rdd *mr_rdd_reduce_by_key(struct mr_rdd *pairs, struct mr_fn reduce)
{
    bool counts = reduce.kind == MR_FN_KIND_BUILTIN && reduce.builtin == MR_BUILTIN_COUNT;
    struct mr_rdd *rdd;
    struct mr_error err;
    enum mr_status status;

    if (counts) /* of the values of a key */
        return mr_rdd_reduce_by_key(mr_rdd_map_values(pairs, MR_SQL("1::BIGINT")), MR_SUM);
    rdd = begin(&reduce_kind, &pairs, 1, &reduce);
    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    mr_error_clear(&err);
    status = mr__compiled_get(rdd->session, MR__REDUCE_BY_KEY, &reduce, pairs->schema,
                              &rdd->compiled, &err);
    if (status != MR_OK)
        return mr__rdd_blame(rdd, &reduce, status, &err);
    return finish(rdd, &reduce_ops, NULL, mr_schema_ref(pairs->schema));
}

/* ---- combine_by_key ---- */

static enum mr_status combine_before(struct mr_rdd *rdd, struct mr__task *task,
                                     const struct mr__batches *rows, struct mr__batches *ret_rows,
                                     struct mr_error *err)
{
    struct mr_batch *combined = NULL;
    enum mr_status status =
        mr__combine_values(mr__shuffled_extra(rdd), task->when,
                           pairs_of(rows, rdd->inputs[0]->schema), &combined, err);

    return add_result(ret_rows, status, combined, err);
}

static enum mr_status combine_after(struct mr_rdd *rdd, struct mr__task *task,
                                    const struct mr__batches *sides, struct mr__batches *ret_rows,
                                    struct mr_error *err)
{
    struct mr_batch *combined = NULL;
    enum mr_status status = mr__combine_merge(mr__shuffled_extra(rdd), task->when,
                                              pairs_of(&sides[0], rdd->schema), &combined, err);

    return add_result(ret_rows, status, combined, err);
}

static void combine_free(void *extra)
{
    mr__combiner_free(extra);
    mr_free(extra);
}

static const struct mr__shuffled_ops combine_ops = {
    .before = combine_before,
    .after = combine_after,
    .column = 0,
    .free = combine_free,
};
static const struct mr__rdd_kind combine_kind = MR__SHUFFLED_KIND("combine_by_key");

struct mr_rdd *mr_rdd_combine_by_key(struct mr_rdd *pairs, struct mr_fn create,
                                     struct mr_fn merge_value, struct mr_fn merge_combiners)
{
    struct mr_rdd *rdd = begin(&combine_kind, &pairs, 1, &create);
    struct mr__combiner *combiner;
    struct mr_error err;
    enum mr_status status;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    combiner = mr_alloc_zero(NULL, sizeof(*combiner));
    if (combiner == NULL)
        return mr__rdd_blame(rdd, &create, MR_FAIL(&err, MR_NOMEM, "out of memory"), &err);
    mr_error_clear(&err);
    mr_mutex_lock(&rdd->session->build_lock);
    status = mr__combiner_new(&rdd->session->engines, &create, &merge_value, &merge_combiners,
                              pairs->schema, combiner, &err);
    mr_mutex_unlock(&rdd->session->build_lock);
    if (status != MR_OK) {
        mr_free(combiner);
        return mr__rdd_blame(rdd, &create, status, &err);
    }
    return finish(rdd, &combine_ops, combiner, mr_schema_ref(combiner->output));
}

/* ---- distinct ---- */

static enum mr_status distinct_rows(struct mr_rdd *rdd, struct mr__task *task,
                                    const struct mr__batches *rows, struct mr__batches *ret_rows,
                                    struct mr_error *err)
{
    struct mr_batch *distinct = NULL;
    enum mr_status status =
        mr__distinct_rows(rows->items, rows->count, rdd->schema, &distinct, err);

    MR_UNUSED(task);
    return add_result(ret_rows, status, distinct, err);
}

static const struct mr__shuffled_ops distinct_ops = {
    .before = distinct_rows,
    .after = distinct_rows,
    .column = MR__ALL_COLUMNS,
};
static const struct mr__rdd_kind distinct_kind = MR__SHUFFLED_KIND("distinct");

struct mr_rdd *mr_rdd_distinct(struct mr_rdd *input)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, &distinct_kind, &input, 1);

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    return finish(rdd, &distinct_ops, NULL, mr_schema_ref(input->schema));
}

/* ---- count_by_value ---- */

struct counted {
    struct mr_batch *batch; /* owns the columns */
    int64_t *ones;
};

static void counted_free(void *owner)
{
    struct counted *counted = owner;

    mr_batch_unref(counted->batch);
    mr_free(counted->ones);
    mr_free(counted);
}

/* (element, 1): the element is the only column, or a struct of all; columns are shared. */
static enum mr_status pair_with_one(const struct mr_rdd *rdd, struct mr_batch *batch,
                                    struct mr_batch **ret_pairs, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);
    const struct mr_type *key = mr__column_type(rdd->schema, 0);
    struct counted *counted = mr_alloc_zero(NULL, sizeof(*counted));
    struct mr_column columns[2];

    if (counted != NULL)
        counted->ones = mr_alloc_aligned(NULL, ((size_t)rows + 1) * sizeof(int64_t));
    if (counted == NULL || counted->ones == NULL) {
        mr_free(counted);
        return MR_FAIL(err, MR_NOMEM, "cannot count a dataset: out of memory");
    }
    counted->batch = mr_batch_ref(batch);
    for (int64_t i = 0; i < rows; i++)
        counted->ones[i] = 1;
    columns[0] = *mr_batch_column(batch, 0);
    if (mr_schema_field_count(mr_batch_schema(batch)) > 1)
        columns[0] =
            (struct mr_column){.type = key, .length = rows, .children = mr_batch_column(batch, 0)};
    columns[1] = (struct mr_column){
        .type = mr__column_type(rdd->schema, 1), .length = rows, .values = counted->ones};
    return mr_batch_wrap(rdd->schema, columns, rows, counted, counted_free, ret_pairs, err);
}

static enum mr_status ones_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                   struct mr__batches *ret_rows, struct mr_error *err)
{
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(rdd->inputs[0], partition, task, &rows, err);

    for (size_t i = 0; status == MR_OK && i < rows.count; i++) {
        struct mr_batch *pairs = NULL;

        status = pair_with_one(rdd, rows.items[i], &pairs, err);
        status = add_result(ret_rows, status, pairs, err);
    }
    mr__batches_release(&rows);
    return status;
}

static const struct mr__rdd_kind ones_kind = {.name = "count_by_value", .compute = ones_compute};

struct mr_rdd *mr_rdd_count_by_value(struct mr_rdd *input)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, &ones_kind, &input, 1);
    struct mr_schema *schema = NULL;
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    uint32_t columns = mr_schema_field_count(input->schema);
    struct mr_type row = {
        .id = MR_TYPE_STRUCT, .field_count = columns, .fields = mr_schema_field(input->schema, 0)};
    struct mr__column_of pair[] = {{"key", columns == 1 ? mr__column_type(input->schema, 0) : &row},
                                   {"value", &mr__bigint}};
    mr__rdd_blame(rdd, NULL, mr__schema_of(pair, 2, &schema, &err), &err);
    if (schema == NULL)
        return rdd;
    return mr_rdd_reduce_by_key(mr__rdd_ready(rdd, schema, input->partition_count), MR_SUM);
}

/* ---- joins ---- */

static enum mr_status run_join(struct mr_rdd *rdd, enum mr__join_kind kind,
                               const struct mr__batches *sides, struct mr__batches *ret_rows,
                               struct mr_error *err)
{
    struct mr_batch *joined = NULL;
    enum mr_status status =
        mr__join(kind, pairs_of(&sides[0], rdd->inputs[0]->schema),
                 pairs_of(&sides[1], rdd->inputs[1]->schema), rdd->schema, &joined, err);

    return add_result(ret_rows, status, joined, err);
}

static struct mr_rdd *join(const struct mr__rdd_kind *kind, const struct mr__shuffled_ops *ops,
                           enum mr__join_kind how, struct mr_rdd *a, struct mr_rdd *b)
{
    struct mr_rdd *inputs[2] = {a, b};
    struct mr_rdd *rdd = begin(kind, inputs, 2, NULL);
    struct mr_schema *schema = NULL;
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    mr__rdd_blame(rdd, NULL, mr__joined_schema(how, a->schema, b->schema, &schema, &err), &err);
    return schema != NULL ? finish(rdd, ops, NULL, schema) : rdd;
}

/* name, the kind of join */
#define JOIN_TABLE(X)                                                                              \
    X(cogroup, MR__JOIN_COGROUP)                                                                   \
    X(join, MR__JOIN_INNER)                                                                        \
    X(left_outer_join, MR__JOIN_LEFT)                                                              \
    X(right_outer_join, MR__JOIN_RIGHT)                                                            \
    X(full_outer_join, MR__JOIN_FULL)

#define X(name, how)                                                                               \
    static enum mr_status name##_after(struct mr_rdd *rdd, struct mr__task *task,                  \
                                       const struct mr__batches *sides,                            \
                                       struct mr__batches *ret_rows, struct mr_error *err)         \
    {                                                                                              \
        MR_UNUSED(task);                                                                           \
        return run_join(rdd, how, sides, ret_rows, err);                                           \
    }                                                                                              \
    static const struct mr__shuffled_ops name##_ops = {.after = name##_after, .column = 0};        \
    static const struct mr__rdd_kind name##_kind = MR__SHUFFLED_KIND(#name);                       \
    struct mr_rdd *mr_rdd_##name(struct mr_rdd *a, struct mr_rdd *b)                               \
    {                                                                                              \
        return join(&name##_kind, &name##_ops, how, a, b);                                         \
    }
JOIN_TABLE(X)
#undef X
