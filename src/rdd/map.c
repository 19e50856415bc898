/*
 * One partition to one: map, flat_map, filter, map_to_pair, map_partitions, glom, union, and those
 * of pairs that keep the key where it is.
 *
 * Order is kept. A union has the partitions of the first, then those of the second.
 *
 * Thread: building in any; computing on workers, several partitions at once.
 */
#include "rdd/rdd.h"

#include "data/builder_internal.h"

/* ---- with a function ---- */

static struct mr_rdd *with_function(struct mr_rdd *input, const struct mr__rdd_kind *kind,
                                    enum mr__operation operation, const struct mr_fn *fn)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, kind, &input, 1);
    struct mr_error err;
    enum mr_status status;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    mr_error_clear(&err);
    status = mr__compiled_get(rdd->session, operation, fn, input->schema, &rdd->compiled, &err);
    if (status != MR_OK)
        return mr__rdd_blame(rdd, fn, status, &err);
    return mr__rdd_ready(rdd, mr_schema_ref(mr__compiled_function(rdd->compiled)->output),
                         input->partition_count);
}

typedef enum mr_status (*apply_fn)(struct mr__function *function, bool is_flat,
                                   struct mr__when when, const struct mr_batch *batch,
                                   struct mr__batches *ret_results, struct mr_error *err);

static enum mr_status each_batch(struct mr_rdd *rdd, apply_fn apply, bool is_flat,
                                 uint32_t partition, struct mr__task *task,
                                 struct mr__batches *ret_rows, struct mr_error *err)
{
    struct mr__function *function = mr__compiled_function(rdd->compiled);
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(rdd->inputs[0], partition, task, &rows, err);

    for (size_t i = 0; status == MR_OK && i < rows.count; i++)
        status = apply(function, is_flat, task->when, rows.items[i], ret_rows, err);
    mr__batches_release(&rows);
    return status;
}

static enum mr_status one_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                  struct mr__batches *ret_rows, struct mr_error *err)
{
    return each_batch(rdd, mr__apply, false, partition, task, ret_rows, err);
}

static enum mr_status flat_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                   struct mr__batches *ret_rows, struct mr_error *err)
{
    return each_batch(rdd, mr__apply, true, partition, task, ret_rows, err);
}

static const struct mr__rdd_kind map_kind = {.name = "map", .compute = one_compute};
static const struct mr__rdd_kind pair_kind = {.name = "map_to_pair", .compute = one_compute};
static const struct mr__rdd_kind flat_map_kind = {.name = "flat_map", .compute = flat_compute};
static const struct mr__rdd_kind filter_kind = {.name = "filter", .compute = flat_compute};

struct mr_rdd *mr_rdd_map(struct mr_rdd *rdd, struct mr_fn fn)
{
    return with_function(rdd, &map_kind, MR__MAP, &fn);
}

struct mr_rdd *mr_rdd_map_to_pair(struct mr_rdd *rdd, struct mr_fn fn)
{
    return with_function(rdd, &pair_kind, MR__MAP_TO_PAIR, &fn);
}

struct mr_rdd *mr_rdd_flat_map(struct mr_rdd *rdd, struct mr_fn fn)
{
    return with_function(rdd, &flat_map_kind, MR__FLAT_MAP, &fn);
}

struct mr_rdd *mr_rdd_filter(struct mr_rdd *rdd, struct mr_fn fn)
{
    return with_function(rdd, &filter_kind, MR__FILTER, &fn);
}

/* ---- values of pairs ---- */

static enum mr_status value_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                    struct mr__batches *ret_rows, struct mr_error *err)
{
    return each_batch(rdd, mr__apply_values, false, partition, task, ret_rows, err);
}

static enum mr_status flat_value_compute(struct mr_rdd *rdd, uint32_t partition,
                                         struct mr__task *task, struct mr__batches *ret_rows,
                                         struct mr_error *err)
{
    return each_batch(rdd, mr__apply_values, true, partition, task, ret_rows, err);
}

static const struct mr__rdd_kind map_values_kind = {
    .name = "map_values",
    .compute = value_compute,
};
static const struct mr__rdd_kind flat_map_values_kind = {
    .name = "flat_map_values",
    .compute = flat_value_compute,
};

/* The mistake of an input that is not pairs is said here, with the place of the function. */
static struct mr_rdd *values_with(struct mr_rdd *pairs, const struct mr__rdd_kind *kind,
                                  enum mr__operation operation, const struct mr_fn *fn)
{
    struct mr_rdd *rdd;
    struct mr_error err;

    if (pairs == NULL || pairs->schema == NULL || mr__is_pairs(pairs->schema))
        return with_function(pairs, kind, operation, fn);
    rdd = mr__rdd_new(NULL, kind, &pairs, 1);
    if (rdd == NULL)
        return NULL;
    return mr__rdd_blame(rdd, fn, mr__needs_pairs_error(&err), &err);
}

struct mr_rdd *mr_rdd_map_values(struct mr_rdd *pairs, struct mr_fn fn)
{
    return values_with(pairs, &map_values_kind, MR__MAP_VALUES, &fn);
}

struct mr_rdd *mr_rdd_flat_map_values(struct mr_rdd *pairs, struct mr_fn fn)
{
    return values_with(pairs, &flat_map_values_kind, MR__FLAT_MAP_VALUES, &fn);
}

/* ---- keys, values ---- */

static enum mr_status column_compute(struct mr_rdd *rdd, uint32_t column, uint32_t partition,
                                     struct mr__task *task, struct mr__batches *ret_rows,
                                     struct mr_error *err)
{
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(rdd->inputs[0], partition, task, &rows, err);

    for (size_t i = 0; status == MR_OK && i < rows.count; i++) {
        struct mr_batch *one = NULL;

        status = mr_batch_select(rows.items[i], rdd->schema, &column, &one, err);
        if (status == MR_OK)
            status = mr__batches_add(ret_rows, one, err);
        mr_batch_unref(one);
    }
    mr__batches_release(&rows);
    return status;
}

static enum mr_status keys_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                   struct mr__batches *ret_rows, struct mr_error *err)
{
    return column_compute(rdd, 0, partition, task, ret_rows, err);
}

static enum mr_status values_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                     struct mr__batches *ret_rows, struct mr_error *err)
{
    return column_compute(rdd, 1, partition, task, ret_rows, err);
}

static const struct mr__rdd_kind keys_kind = {.name = "keys", .compute = keys_compute};
static const struct mr__rdd_kind values_kind = {.name = "values", .compute = values_compute};

static struct mr_rdd *one_column(struct mr_rdd *pairs, const struct mr__rdd_kind *kind,
                                 uint32_t column)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, kind, &pairs, 1);
    struct mr_schema *schema = NULL;
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    if (!mr__is_pairs(pairs->schema))
        return mr__rdd_blame(rdd, NULL, mr__needs_pairs_error(&err), &err);
    struct mr__column_of value = {"value", mr__column_type(pairs->schema, column)};
    mr__rdd_blame(rdd, NULL, mr__schema_of(&value, 1, &schema, &err), &err);
    return schema != NULL ? mr__rdd_ready(rdd, schema, pairs->partition_count) : rdd;
}

struct mr_rdd *mr_rdd_keys(struct mr_rdd *pairs)
{
    return one_column(pairs, &keys_kind, 0);
}

struct mr_rdd *mr_rdd_values(struct mr_rdd *pairs)
{
    return one_column(pairs, &values_kind, 1);
}

/* ---- whole partitions ---- */

static enum mr_status partitions_compute(struct mr_rdd *rdd, uint32_t partition,
                                         struct mr__task *task, struct mr__batches *ret_rows,
                                         struct mr_error *err)
{
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(rdd->inputs[0], partition, task, &rows, err);

    if (status == MR_OK)
        status = mr__apply_partition(mr__compiled_function(rdd->compiled), task->when, rows.items,
                                     rows.count, ret_rows, err);
    mr__batches_release(&rows);
    return status;
}

static const struct mr__rdd_kind partitions_kind = {
    .name = "map_partitions",
    .compute = partitions_compute,
};

struct mr_rdd *mr_rdd_map_partitions(struct mr_rdd *rdd, struct mr_fn fn)
{
    return with_function(rdd, &partitions_kind, MR__MAP_PARTITIONS, &fn);
}

/* Appends every row of a batch to the list's items: a value, or a struct of all columns. */
static enum mr_status add_items(struct mr_column_builder *items, const struct mr_batch *batch,
                                struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));
    int64_t rows = mr_batch_row_count(batch);

    if (columns == 1)
        return mr__column_append(items, mr_batch_column(batch, 0), 0, rows, err);
    MR_TRY(mr_column_builder_reserve(items, rows, 0, err));
    for (uint32_t i = 0; i < columns; i++)
        MR_TRY(mr__column_append(&items->children[i], mr_batch_column(batch, i), 0, rows, err));
    items->length += rows; /* no struct is null: there are no bits to set */
    return MR_OK;
}

static enum mr_status glom_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                   struct mr__batches *ret_rows, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_column_builder *list;
    struct mr__batches rows = {0};
    struct mr_batch *one = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__rdd_rows(rdd->inputs[0], partition, task, &rows, err));
    MR_TRY_GOTO(mr_batch_builder_new(rdd->schema, &builder, err));
    list = mr_batch_builder_column(builder, 0);
    for (size_t i = 0; i < rows.count; i++)
        MR_TRY_GOTO(add_items(&list->children[0], rows.items[i], err));
    MR_TRY_GOTO(mr_column_builder_list_end(list, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, 1, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &one, err));
    status = mr__batches_add(ret_rows, one, err);
done:
    mr_batch_unref(one);
    mr_batch_builder_free(builder);
    mr__batches_release(&rows);
    return status;
}

static const struct mr__rdd_kind glom_kind = {.name = "glom", .compute = glom_compute};

struct mr_rdd *mr_rdd_glom(struct mr_rdd *rdd)
{
    struct mr_rdd *lists = mr__rdd_new(NULL, &glom_kind, &rdd, 1);
    struct mr_schema *schema = NULL;
    struct mr_error err;

    if (lists == NULL || lists->error.status != MR_OK)
        return lists;
    uint32_t columns = mr_schema_field_count(rdd->schema);
    struct mr_type row = {
        .id = MR_TYPE_STRUCT, .field_count = columns, .fields = mr_schema_field(rdd->schema, 0)};
    struct mr_field item = {"item", columns == 1 ? *mr__column_type(rdd->schema, 0) : row};
    struct mr_type list = {.id = MR_TYPE_LIST, .field_count = 1, .fields = &item};
    struct mr__column_of value = {"value", &list};
    mr__rdd_blame(lists, NULL, mr__schema_of(&value, 1, &schema, &err), &err);
    return schema != NULL ? mr__rdd_ready(lists, schema, rdd->partition_count) : lists;
}

/* ---- union ---- */

static enum mr_status union_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                    struct mr__batches *ret_rows, struct mr_error *err)
{
    uint32_t first = rdd->inputs[0]->partition_count;

    if (partition < first)
        return mr__rdd_rows(rdd->inputs[0], partition, task, ret_rows, err);
    return mr__rdd_rows(rdd->inputs[1], partition - first, task, ret_rows, err);
}

static const struct mr__rdd_kind union_kind = {.name = "union", .compute = union_compute};

struct mr_rdd *mr_rdd_union(struct mr_rdd *a, struct mr_rdd *b)
{
    struct mr_rdd *inputs[2] = {a, b};
    struct mr_rdd *rdd = mr__rdd_new(NULL, &union_kind, inputs, 2);
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    if (!mr_schema_equal(a->schema, b->schema))
        return mr__rdd_blame(rdd, NULL,
                             MR_FAIL(&err, MR_CONFIG,
                                     "the two have different columns; map one to the columns of "
                                     "the other"),
                             &err);
    return mr__rdd_ready(rdd, mr_schema_ref(a->schema), a->partition_count + b->partition_count);
}
