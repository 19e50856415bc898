/*
 * Windows as a fold: keeps the batches that a coming firing still covers, and emits them oldest
 * first when it fires.
 *
 *     batch times   1  2  3  4  5  6      window 4, slide 2: fires at 2, 4, 6
 *     at 4          [--------]            emits (0, 4], then forgets up to 2 = next firing - window
 *     at 6                [--------]
 *
 * WIN-2: a firing at t covers (t - window, t]; the first windows are shorter. With a slide longer
 * than the window there are gaps whose batches are never kept. The content lives in the state under
 * the operator's name.
 *
 * Thread: driver.
 */
#include "dstream/streams.h"

struct window_op {
    struct mr_context *ctx;
    char *name;
    int64_t size_us;
    int64_t slide_us;
    struct mr_schema *schema;
    struct mr_store *store;
};

static void window_free(void *pointer)
{
    struct window_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->schema);
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status window_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct window_op *op = pointer;

    return mr__slices_open(state, op->name, op->schema, &op->store, err);
}

int64_t mr__next_firing(const struct mr_context *ctx, int64_t slide_us, int64_t time_us)
{
    int64_t since = time_us - ctx->zero_time_us;

    MR_ASSERT(since > 0 && slide_us > 0);
    return ctx->zero_time_us + (since + slide_us - 1) / slide_us * slide_us;
}

static enum mr_status emit_window(struct window_op *op, int64_t time_us, struct mr_output *out,
                                  struct mr_error *err)
{
    struct mr__batches list = {0};
    enum mr_status status =
        mr__slices_get(op->store, op->schema, time_us - op->size_us, time_us, &list, err);

    for (size_t i = 0; i < list.count && status == MR_OK; i++)
        status = mr_output_emit(out, list.items[i], err);
    mr__batches_release(&list);
    return status;
}

static enum mr_status window_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct window_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    int64_t time_us = call->info->batch_time_us;
    int64_t firing_us = mr__next_firing(op->ctx, op->slide_us, time_us);

    if (input->present && time_us > firing_us - op->size_us)
        MR_TRY(mr__slices_put(op->store, time_us, input->batches, input->batch_count, err));
    if (call->fires) {
        MR_ASSERT(firing_us == time_us);
        MR_TRY(emit_window(op, time_us, call->out, err));
        firing_us += op->slide_us;
    }
    return mr__slices_drop(op->store, firing_us - op->size_us, err);
}

static struct mr_store *window_store(void *pointer)
{
    const struct window_op *op = pointer;

    return op->store;
}

static const struct mr_fold_ops window_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "window",
    .open = window_open,
    .run = window_run,
    .free = window_free,
    .store = window_store,
};

enum mr_status mr__window_op(const struct mr__window *window, const struct mr_schema *schema,
                             struct mr_fold_op *ret_op, struct mr_error *err)
{
    struct window_op *op = mr_alloc_zero(NULL, sizeof(*op));

    if (op != NULL)
        op->name = mr_strdup(window->name);
    if (op == NULL || op->name == NULL) {
        mr_free(op);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    op->ctx = window->ctx;
    op->size_us = window->size_us;
    op->slide_us = window->slide_us;
    op->schema = mr_schema_ref(schema);
    *ret_op = (struct mr_fold_op){.ops = &window_ops, .op = op};
    return MR_OK;
}
