/*
 * transform, transform_with, transform_all: a function from the datasets of a batch to a new one,
 * called on the driver, once a batch (TR-1, TR-3).
 *
 *     inputs of the batch --as datasets--> function --> dataset --computed--> partitions
 *     SQL: inputs as tables --> one SELECT --> one partition
 *
 * A fold of the kernel without state. The dataset's partitions are those of the stream, whose
 * number is fixed when it starts (mr_dstream_set_partitions; the workers by default): when there
 * are more, neighbours go together, so the order of rows is the dataset's. What the function makes
 * lives until its result is computed; what it captured from outside (a static table) is its own,
 * and may be another one in the next batch.
 *
 * A function that returns NULL is told to return an empty dataset; a mistake inside of a dataset
 * comes out when it is computed. Both fail the batch, which runs again (docs/decisions/0006); Spark
 * loses it (section 21, 5). An input without a dataset is an error (4.1).
 *
 * Thread: driver; the tasks of datasets on the session's workers.
 */
#include "dstream/streams.h"

#include "fn/compile.h"
#include "rdd/rdd.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TABLE_NAME_BYTES = 24 };

/* What a stream keeps. */
struct transform {
    struct mr_fn fn; /* texts owned */
    char *sql;       /* NULL: a C function */
    const char *operation;
};

struct transform_op {
    const struct mr_dstream *stream;
    const struct transform *transform; /* the stream's */
    uint32_t partition_count;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

static void transform_free(void *own)
{
    struct transform *transform = own;

    if (transform == NULL)
        return;
    mr_free((void *)(uintptr_t)transform->fn.name);
    mr_free((void *)(uintptr_t)transform->fn.type);
    mr_free(transform->sql);
    mr_free(transform);
}

/* ---- running ---- */

/* Tables of a statement: input; a and b; input_0, input_1 ... */
struct tables {
    struct mr__table *items;
    char (*names)[TABLE_NAME_BYTES];
    size_t count;
};

static void tables_release(struct tables *tables)
{
    mr_free(tables->items);
    mr_free(tables->names);
}

static enum mr_status tables_init(struct tables *tables, const char *operation,
                                  struct mr_dstream *const *inputs, size_t count,
                                  struct mr_error *err)
{
    bool is_one = strcmp(operation, "transform") == 0;
    bool is_two = strcmp(operation, "transform_with") == 0;

    *tables = (struct tables){.count = count};
    tables->items = mr_alloc_zero(NULL, (count + 1) * sizeof(*tables->items));
    tables->names = mr_alloc_zero(NULL, (count + 1) * sizeof(*tables->names));
    if (tables->items == NULL || tables->names == NULL) {
        tables_release(tables);
        return no_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        if (is_one)
            snprintf(tables->names[i], TABLE_NAME_BYTES, "input");
        else if (is_two)
            snprintf(tables->names[i], TABLE_NAME_BYTES, "%s", i == 0 ? "a" : "b");
        else
            snprintf(tables->names[i], TABLE_NAME_BYTES, "input_%" PRIu32, (uint32_t)i);
        tables->items[i].name = tables->names[i];
        tables->items[i].schema = inputs[i]->schema;
    }
    return MR_OK;
}

static enum mr_status run_sql(const struct transform_op *op, struct mr_session *session,
                              struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_dstream *stream = op->stream;
    struct mr__batches rows = {0};
    struct tables tables;
    enum mr_status status;

    MR_TRY(
        tables_init(&tables, op->transform->operation, stream->inputs, stream->input_count, err));
    for (size_t i = 0; i < call->input_count; i++) {
        tables.items[i].batches = call->inputs[i].batches;
        tables.items[i].batch_count = call->inputs[i].batch_count;
    }
    status = mr__sql_run(session, op->transform->sql, tables.items, tables.count,
                         call->info->batch_time_us, &rows, NULL, err);
    for (size_t i = 0; status == MR_OK && i < rows.count; i++)
        status = mr_output_emit(call->out, rows.items[i], err);
    mr__batches_release(&rows);
    tables_release(&tables);
    return status;
}

/* One input as a dataset; partitions as the kernel has them. NULL without memory. */
static struct mr_rdd *input_of(struct mr_session *session, const struct mr_dstream *stream,
                               const struct mr_fold_input *input, const struct mr_batch_info *info)
{
    uint32_t count = input->partition_count;
    struct mr__batches *partitions = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(*partitions));
    bool failed = partitions == NULL;
    size_t at = 0;

    for (uint32_t p = 0; !failed && p < count; p++) {
        for (; !failed && at < input->partition_ends[p]; at++)
            failed = mr__batches_add(&partitions[p], input->batches[at], NULL) != MR_OK;
    }
    if (failed) {
        for (uint32_t p = 0; partitions != NULL && p < count; p++)
            mr__batches_release(&partitions[p]);
        mr_free(partitions);
        return NULL;
    }
    return mr__rdd_of_batches(session, stream->schema, partitions, count, info->batch_id,
                              info->batch_time_us);
}

static enum mr_status check_result(const struct transform_op *op, const struct mr_rdd *result,
                                   const struct mr_session *session, struct mr_error *err)
{
    char *has, *wants;

    if (result == NULL)
        return MR_FAIL(err, MR_USER,
                       "'%s' returned NULL; when there is nothing, return an empty dataset "
                       "(mr_rdd_empty)",
                       op->transform->fn.name);
    MR_TRY(mr_rdd_error(result, err));
    if (mr_rdd_session(result) != session)
        return MR_FAIL(err, MR_USER,
                       "'%s' returned a dataset of another session; make it with "
                       "mr_context_session",
                       op->transform->fn.name);
    if (mr_schema_equal(mr_rdd_schema(result), op->stream->schema))
        return MR_OK;
    has = mr_schema_print(mr_rdd_schema(result));
    wants = mr_schema_print(op->stream->schema);
    MR_FAIL(err, MR_USER,
            "'%s' returned a dataset with the columns %s, not %s; say them with MR_FN_AS",
            op->transform->fn.name, has != NULL ? has : "?", wants != NULL ? wants : "?");
    mr_text_free(has);
    mr_text_free(wants);
    return MR_USER;
}

/* More partitions than the stream has: neighbours go together. */
static enum mr_status emit_result(const struct transform_op *op, struct mr_rdd *result,
                                  struct mr_fold_call *call, struct mr_error *err)
{
    uint64_t count = mr_rdd_partition_count(result);
    struct mr__batches *lists = NULL;
    enum mr_status status;

    MR_TRY(mr__rdd_collect_partitions(result, &lists, err));
    status = MR_OK;
    for (uint64_t p = 0; p < count; p++) {
        uint32_t to = (uint32_t)(count > op->partition_count ? p * op->partition_count / count : p);

        for (size_t i = 0; status == MR_OK && i < lists[p].count; i++)
            status = mr_output_emit(mr_fold_output(call, to), lists[p].items[i], err);
        mr__batches_release(&lists[p]);
    }
    mr_free(lists);
    return status;
}

static enum mr_status call_function(const struct transform_op *op, struct mr_session *session,
                                    struct mr_fold_call *call, struct mr_error *err)
{
    mr_transform_fn function = (mr_transform_fn)op->transform->fn.call;
    struct mr_rdd **inputs = mr_alloc_zero(NULL, call->input_count * sizeof(struct mr_rdd *));
    enum mr_status status = inputs != NULL ? MR_OK : no_memory(err);
    struct mr_rdd *result;

    for (size_t i = 0; status == MR_OK && i < call->input_count; i++) {
        inputs[i] = input_of(session, op->stream->inputs[i], &call->inputs[i], call->info);
        if (inputs[i] == NULL)
            status = no_memory(err);
    }
    if (status == MR_OK) {
        mr__inside_user_code++;
        result = function(inputs, call->input_count, call->info->batch_time_us / 1000,
                          op->transform->fn.arg);
        mr__inside_user_code--;
        status = check_result(op, result, session, err);
        if (status == MR_OK)
            status = emit_result(op, result, call, err);
    }
    mr_free(inputs);
    return status;
}

static enum mr_status transform_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    const struct transform_op *op = pointer;
    struct mr_session *session = mr_context_session(op->stream->ctx);
    struct mr__scope scope;
    char place[256];
    enum mr_status status;

    if (!call->fires)
        return MR_OK;
    if (session == NULL)
        return no_memory(err);
    mr__scope_enter(&scope, call->info->batch_id, call->info->batch_time_us);
    status = op->transform->sql != NULL ? run_sql(op, session, call, err)
                                        : call_function(op, session, call, err);
    mr__scope_leave(&scope);
    if (status != MR_OK) {
        mr__place(&op->transform->fn, op->transform->operation, place, sizeof(place));
        mr_error_prefix(err, "%s", place);
    }
    return status;
}

static uint32_t transform_partitions(void *pointer)
{
    return ((const struct transform_op *)pointer)->partition_count;
}

static void op_free(void *op)
{
    mr_free(op);
}

static const struct mr_fold_ops transform_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "transform",
    .run = transform_run,
    .free = op_free,
    .partition_count = transform_partitions,
    .wants_partitions = true,
};

static enum mr_status lower_transform(struct mr__lowering *low, struct mr_dstream *stream,
                                      struct mr_error *err)
{
    struct transform_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_fold_op fold = {&transform_ops, op, NULL};
    struct mr_node **inputs = mr_alloc(NULL, stream->input_count * sizeof(struct mr_node *));
    enum mr_status status;

    if (op == NULL || inputs == NULL) {
        mr_free(op);
        mr_free(inputs);
        return no_memory(err);
    }
    op->stream = stream;
    op->transform = stream->own;
    op->partition_count = op->transform->sql != NULL ? 1 : mr__partition_count(low, stream);
    for (size_t i = 0; i < stream->input_count; i++)
        inputs[i] = stream->inputs[i]->node;
    status = mr__lower_add_fold(low, stream, inputs, stream->input_count, &fold, err);
    if (status == MR_OK)
        mr__lower_require_all(stream);
    mr_free(inputs);
    return status;
}

/* ---- building ---- */

/* SELECT CAST(c0 AS T) AS "name" ... FROM ( statement ) AS t(c0 ...), for declared columns. */
static char *cast_statement(const struct mr_schema *shape, const char *statement)
{
    struct mr_buf sql = MR_BUF_INIT;

    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(shape); i++) {
        mr_buf_printf(&sql, "%sCAST(c%u AS ", i > 0 ? ", " : "", i);
        mr__add_type(&sql, mr__column_type(shape, i));
        mr_buf_add_str(&sql, ") AS ");
        mr__add_name(&sql, mr_schema_field(shape, i)->name);
    }
    mr_buf_printf(&sql, " FROM (\n%s\n) AS t(", statement);
    for (uint32_t i = 0; i < mr_schema_field_count(shape); i++)
        mr_buf_printf(&sql, "%sc%u", i > 0 ? ", " : "", i);
    mr_buf_add_char(&sql, ')');
    return mr_buf_take(&sql);
}

/* Finds the columns of the result; for SQL, the statement too. */
static enum mr_status compile(struct mr_context *ctx, struct transform *transform,
                              struct mr_dstream *const *inputs, size_t count,
                              struct mr_schema **ret_schema, struct mr_error *err)
{
    const struct mr_fn *fn = &transform->fn;
    struct mr_schema *declared = NULL;
    struct tables tables;
    enum mr_status status;

    if (fn->kind != MR_FN_KIND_SQL && fn->kind != MR_FN_KIND_TRANSFORM)
        return mr__refuse(fn,
                          "MR_SQL with a whole SELECT, or MR_FN of a transform function (struct "
                          "mr_rdd *f(struct mr_rdd *const *, size_t, int64_t, void *))",
                          err);
    if (fn->kind == MR_FN_KIND_TRANSFORM)
        return mr__declared_or(fn, inputs[0]->schema, ret_schema, err);
    if (fn->type != NULL)
        MR_TRY(mr_schema_parse(fn->type, strlen(fn->type), &declared, err));
    /* The program's text begins on line 2: mr__tell_position counts from there. */
    transform->sql =
        declared != NULL ? cast_statement(declared, fn->name) : mr_asprintf("\n%s", fn->name);
    mr_schema_unref(declared);
    if (transform->sql == NULL)
        return no_memory(err);
    MR_TRY(tables_init(&tables, transform->operation, inputs, count, err));
    status = mr__sql_columns(&ctx->engines, transform->sql, tables.items, count, ret_schema, err);
    tables_release(&tables);
    return status;
}

static enum mr_status transform_new(const struct mr_fn *fn, const char *operation,
                                    struct transform **ret_transform, struct mr_error *err)
{
    struct transform *transform = mr_alloc_zero(NULL, sizeof(*transform));

    if (transform == NULL)
        return no_memory(err);
    transform->fn = *fn;
    transform->operation = operation;
    transform->fn.name = mr_strdup(fn->name != NULL ? fn->name : "");
    transform->fn.type = fn->type != NULL ? mr_strdup(fn->type) : NULL;
    if (transform->fn.name == NULL || (fn->type != NULL && transform->fn.type == NULL)) {
        transform_free(transform);
        return no_memory(err);
    }
    *ret_transform = transform;
    return MR_OK;
}

static struct mr_dstream *build(struct mr_dstream *const *inputs, size_t count,
                                const struct mr_fn *fn, const char *operation)
{
    struct transform *transform = NULL;
    struct mr_schema *schema = NULL;
    struct mr_dstream *stream;
    struct mr_context *ctx;
    struct mr_error err;
    enum mr_status status;

    for (size_t i = 0; i < count; i++) {
        if (inputs[i] == NULL)
            return NULL;
    }
    ctx = inputs[0]->ctx;
    if (!mr__context_is_open(ctx, operation) || !mr__go_together(inputs, count, fn, operation))
        return NULL;
    mr_error_clear(&err);
    status = transform_new(fn, operation, &transform, &err);
    if (status == MR_OK)
        status = compile(ctx, transform, inputs, count, &schema, &err);
    if (status != MR_OK) {
        transform_free(transform);
        mr__blame(ctx, fn, operation, &err);
        return NULL;
    }
    stream = mr__stream_new(ctx, lower_transform, operation, inputs, count);
    if (stream == NULL) {
        transform_free(transform);
        mr_schema_unref(schema);
        return NULL;
    }
    stream->own = transform;
    stream->own_free = transform_free;
    stream->schema = schema;
    return stream;
}

struct mr_dstream *mr_transform(struct mr_dstream *stream, struct mr_fn fn)
{
    return build(&stream, 1, &fn, "transform");
}

struct mr_dstream *mr_transform_with(struct mr_dstream *a, struct mr_dstream *b, struct mr_fn fn)
{
    struct mr_dstream *const inputs[] = {a, b};

    return build(inputs, 2, &fn, "transform_with");
}

struct mr_dstream *mr_transform_all(struct mr_dstream *const *streams, size_t stream_count,
                                    struct mr_fn fn)
{
    if (stream_count == 0) /* there is no context to tell */
        return NULL;
    return build(streams, stream_count, &fn, "transform_all");
}
