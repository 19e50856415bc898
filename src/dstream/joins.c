/*
 * cogroup and the joins: two streams of pairs, brought together by key.
 *
 *     a --exchange--> \
 *                      fold: kernel of src/rdd/pairs.h over both sides of each partition
 *     b --exchange--> /
 *
 * Both sides have the same context, slide and type of key; a batch in which one of them has no
 * dataset is an error, as these are built on transform_with (5.2). Results are pairs whose value is
 * STRUCT("left", "right"), in the order of the keys' encoded bytes within a partition.
 *
 * Thread: building in the building one; the partitions on workers.
 */
#include "dstream/exchange.h"

#include "rdd/pairs.h"

struct join_op {
    enum mr__join_kind kind;
    struct mr__exchange exchange;
    struct mr_schema *left;
    struct mr_schema *right;
    struct mr_schema *output;
};

static uint32_t join_count(void *op)
{
    return ((struct join_op *)op)->exchange.partition_count;
}

static enum mr_status join_run(void *pointer, uint32_t partition, struct mr_fold_call *call,
                               struct mr_error *err)
{
    const struct join_op *op = pointer;
    struct mr__batches left = {0}, right = {0};
    struct mr__pairs a, b;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__exchange_pick(&call->inputs[0], partition, op->exchange, &left, err));
    MR_TRY_GOTO(mr__exchange_pick(&call->inputs[1], partition, op->exchange, &right, err));
    if (left.count == 0 && right.count == 0)
        goto done;
    a = (struct mr__pairs){left.items, left.count, op->left};
    b = (struct mr__pairs){right.items, right.count, op->right};
    MR_TRY_GOTO(mr__join(op->kind, a, b, op->output, &result, err));
    status = mr_output_emit(call->out, result, err);
done:
    mr_batch_unref(result);
    mr__batches_release(&left);
    mr__batches_release(&right);
    return status;
}

static void join_free(void *pointer)
{
    struct join_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->left);
    mr_schema_unref(op->right);
    mr_schema_unref(op->output);
    mr_free(op);
}

static const struct mr_fold_ops join_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "join",
    .free = join_free,
    .partition_count = join_count,
    .run_partition = join_run,
};

static enum mr_status lower_join(struct mr__lowering *low, struct mr_dstream *stream,
                                 struct mr_error *err)
{
    struct join_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_fold_op fold = {&join_ops, op, NULL};
    struct mr_node *inputs[2];
    enum mr_status status;

    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    op->kind = *(const enum mr__join_kind *)stream->own;
    op->exchange.partition_count = mr__partition_count(low, stream);
    op->left = mr_schema_ref(stream->inputs[0]->schema);
    op->right = mr_schema_ref(stream->inputs[1]->schema);
    op->output = mr_schema_ref(stream->schema);
    MR_TRY_GOTO(mr__exchange_add(low, stream, "left", op->exchange, stream->inputs[0]->node,
                                 &inputs[0], err));
    MR_TRY_GOTO(mr__exchange_add(low, stream, "right", op->exchange, stream->inputs[1]->node,
                                 &inputs[1], err));
    op = NULL; /* the graph takes it */
    MR_TRY_GOTO(mr__lower_add_fold(low, stream, inputs, 2, &fold, err));
    mr__lower_require_all(stream);
done:
    join_free(op);
    return status;
}

static void free_kind(void *own)
{
    mr_free(own);
}

static struct mr_dstream *build_join(struct mr_dstream *a, struct mr_dstream *b,
                                     const char *operation, enum mr__join_kind kind)
{
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};
    struct mr_dstream *const sides[] = {a, b};
    struct mr_schema *schema = NULL;
    struct mr_dstream *stream;
    enum mr__join_kind *own;
    struct mr_error err;

    if (a == NULL || b == NULL || !mr__context_is_open(a->ctx, operation) ||
        !mr__go_together(sides, 2, &none, operation) || !mr__needs_pairs(a, &none, operation) ||
        !mr__needs_pairs(b, &none, operation))
        return NULL;
    mr_error_clear(&err);
    own = mr_alloc(NULL, sizeof(*own));
    if (own == NULL)
        MR_FAIL(&err, MR_NOMEM, "out of memory");
    if (own == NULL || mr__joined_schema(kind, a->schema, b->schema, &schema, &err) != MR_OK) {
        mr_free(own);
        mr__context_blame(a->ctx, operation, &err);
        return NULL;
    }
    stream = mr__stream_new(a->ctx, lower_join, operation, sides, 2);
    if (stream == NULL) {
        mr_free(own);
        mr_schema_unref(schema);
        return NULL;
    }
    *own = kind;
    stream->own = own;
    stream->own_free = free_kind;
    stream->schema = schema;
    return stream;
}

struct mr_dstream *mr_cogroup(struct mr_dstream *a, struct mr_dstream *b)
{
    return build_join(a, b, "cogroup", MR__JOIN_COGROUP);
}

struct mr_dstream *mr_join(struct mr_dstream *a, struct mr_dstream *b)
{
    return build_join(a, b, "join", MR__JOIN_INNER);
}

struct mr_dstream *mr_left_outer_join(struct mr_dstream *a, struct mr_dstream *b)
{
    return build_join(a, b, "left_outer_join", MR__JOIN_LEFT);
}

struct mr_dstream *mr_right_outer_join(struct mr_dstream *a, struct mr_dstream *b)
{
    return build_join(a, b, "right_outer_join", MR__JOIN_RIGHT);
}

struct mr_dstream *mr_full_outer_join(struct mr_dstream *a, struct mr_dstream *b)
{
    return build_join(a, b, "full_outer_join", MR__JOIN_FULL);
}
