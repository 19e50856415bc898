/*
 * Operators without a query; see ops_harness.h. Test programs of src/ops link it; it stands in for
 * the output of src/core.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/number_text.h"

#include <millrace/ext/builder.h>

#include <stdlib.h>

/* ---- text to batches and back ---- */

struct mr_schema *ops_schema(const char *text)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

static int64_t parse_time(const char *text, size_t size)
{
    int64_t value = 0;
    int64_t unit = 1;

    if (size > 0 && text[size - 1] == 's') {
        unit = 1000000;
        size--;
    }
    if (!mr_int_parse(text, size, &value))
        FAIL("not a time: '%.*s'", (int)size, text);
    return value * unit;
}

static void append_list(struct mr_column_builder *column, const char *text, size_t size,
                        struct mr_error *err);

static void append_value(struct mr_column_builder *column, const char *text, size_t size,
                         struct mr_error *err)
{
    int64_t integer = 0;
    uint64_t natural = 0;
    double number = 0;
    mr_int128 decimal = 0;

    if (size == 4 && memcmp(text, "null", 4) == 0) {
        CHECK_OK(mr_column_builder_null(column, err), err);
        return;
    }
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        CHECK_OK(mr_column_builder_bool(column, text[0] == 't', err), err);
        return;
    case MR_TYPE_UINT64:
        CHECK(mr_uint_parse(text, size, &natural));
        CHECK_OK(mr_column_builder_uint(column, natural, err), err);
        return;
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        CHECK(mr_double_parse(text, size, &number));
        CHECK_OK(mr_column_builder_double(column, number, err), err);
        return;
    case MR_TYPE_DECIMAL:
        CHECK(mr_decimal_parse(text, size, column->type->precision, column->type->scale, &decimal));
        CHECK_OK(mr_column_builder_decimal(column, decimal, err), err);
        return;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        CHECK_OK(mr_column_builder_text(column, text, size, err), err);
        return;
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        CHECK_OK(mr_column_builder_int(column, parse_time(text, size), err), err);
        return;
    case MR_TYPE_LIST:
        append_list(column, text, size, err);
        return;
    default:
        CHECK(mr_int_parse(text, size, &integer));
        CHECK_OK(mr_column_builder_int(column, integer, err), err);
        return;
    }
}

/* "[1,2,null]" of a scalar type */
static void append_list(struct mr_column_builder *column, const char *text, size_t size,
                        struct mr_error *err)
{
    const char *at = text + 1;
    const char *end = text + size - 1;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma == NULL ? end : comma;
        append_value(&column->children[0], at, (size_t)(stop - at), err);
        at = stop + 1;
    }
    CHECK_OK(mr_column_builder_list_end(column, err), err);
}

static void append_row(struct mr_batch_builder *builder, uint32_t columns, const char *at,
                       const char *end, struct mr_error *err)
{
    for (uint32_t i = 0; i < columns; i++) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        const char *stop = bar == NULL ? end : bar;
        if (at > end)
            FAIL("a row has too few fields");
        append_value(mr_batch_builder_column(builder, i), at, (size_t)(stop - at), err);
        at = stop + 1;
    }
    CHECK(at > end);
    CHECK_OK(mr_batch_builder_rows_added(builder, 1, err), err);
}

struct mr_batch *ops_batch(const char *schema_text, const char *rows)
{
    struct mr_schema *schema = ops_schema(schema_text);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    const char *end = rows + strlen(rows);

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (const char *at = rows; at < end;) {
        const char *semicolon = memchr(at, ';', (size_t)(end - at));
        const char *stop = semicolon == NULL ? end : semicolon;
        append_row(builder, mr_schema_field_count(schema), at, stop, &err);
        at = stop + 1;
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

static void print_value(struct mr_buf *out, const struct mr_row *row, uint32_t column)
{
    enum mr_type_id id = mr_batch_column(row->batch, column)->type->id;
    char text[512];

    if (!mr_row_is_null(row, column) && (id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS)) {
        int64_t time = mr_row_int(row, column);
        bool whole = time % 1000000 == 0;
        mr_buf_printf(out, "%" PRId64 "%s", whole ? time / 1000000 : time, whole ? "s" : "");
        return;
    }
    mr_row_print(row, column, text, sizeof(text));
    mr_buf_add_str(out, text);
}

void ops_print(struct mr_buf *out, const struct mr_batch *batch)
{
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};
        if (out->size > 0)
            mr_buf_add_char(out, ';');
        for (uint32_t c = 0; c < mr_schema_field_count(mr_batch_schema(batch)); c++) {
            if (c > 0)
                mr_buf_add_char(out, '|');
            print_value(out, &row, c);
        }
    }
}

/* ---- the output ---- */

/* Weak: programs that run the real kernel have the real three. */
__attribute__((weak)) enum mr_status mr_output_emit(struct mr_output *out,
                                                    const struct mr_batch *batch,
                                                    struct mr_error *err)
{
    (void)err;
    if (mr_batch_row_count(batch) == 0)
        return MR_OK;
    out->batches = realloc(out->batches, (out->batch_count + 1) * sizeof(*out->batches));
    out->batches[out->batch_count++] = mr_batch_ref(batch);
    out->rows += mr_batch_row_count(batch);
    return MR_OK;
}

__attribute__((weak)) void mr_output_event_times(struct mr_output *out, int64_t min_us,
                                                 int64_t max_us, double sum_us, uint64_t count)
{
    if (out->event_count == 0 || min_us < out->event_min_us)
        out->event_min_us = min_us;
    if (out->event_count == 0 || max_us > out->event_max_us)
        out->event_max_us = max_us;
    out->event_sum_us += sum_us;
    out->event_count += count;
}

__attribute__((weak)) void mr_output_late_rows(struct mr_output *out, uint64_t count)
{
    out->late_rows += count;
}

void ops_output_release(struct mr_output *out)
{
    for (size_t i = 0; i < out->batch_count; i++)
        mr_batch_unref(out->batches[i]);
    free(out->batches);
    mr_buf_release(&out->text);
    *out = (struct mr_output){0};
}

static const char *output_text(struct mr_output *out)
{
    mr_buf_clear(&out->text);
    for (size_t i = 0; i < out->batch_count; i++)
        ops_print(&out->text, out->batches[i]);
    return out->text.size == 0 ? "" : out->text.data;
}

/* ---- map operators ---- */

static enum mr_status run_map(const struct mr_map_op *op, const struct mr_batch_info *info,
                              const struct mr_batch *batch, struct mr_output *out,
                              struct mr_error *err)
{
    void *task = NULL;
    enum mr_status status = MR_OK;

    if (op->ops->begin != NULL)
        CHECK_OK(op->ops->begin(op->op, info, &task, err), err);
    if (batch != NULL)
        status = op->ops->apply(op->op, task, info, batch, out, err);
    if (status == MR_OK && op->ops->finish != NULL)
        status = op->ops->finish(op->op, task, info, out, err);
    if (op->ops->end != NULL)
        op->ops->end(op->op, task);
    return status;
}

const char *ops_map(struct mr_map_op *op, struct mr_batch *batch)
{
    static struct mr_output out; /* the text of the newest call lives until the next one */
    struct mr_batch_info info = {0};
    struct mr_error err = {0};

    ops_output_release(&out);
    CHECK_OK(run_map(op, &info, batch, &out, &err), &err);
    for (size_t i = 0; i < out.batch_count; i++)
        CHECK(mr_schema_equal(mr_batch_schema(out.batches[i]), op->schema));
    op->ops->free(op->op);
    mr_schema_unref(op->schema);
    mr_batch_unref(batch);
    output_text(&out);
    for (size_t i = 0; i < out.batch_count; i++)
        mr_batch_unref(out.batches[i]);
    out.batch_count = 0;
    return out.text.size == 0 ? "" : out.text.data;
}

/* ---- aggregations ---- */

static void open_state(struct ops_flow *flow)
{
    struct mr_state_config config = {.volatile_only = true, .retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_state_open(mr_env_posix(), flow->dir, flow->dir, &config, &recovered, &flow->state,
                           &err),
             &err);
}

static void make_ops(struct ops_flow *flow, struct mr_aggregate_spec *spec)
{
    struct mr_error err = {0};

    if (flow->make != NULL) {
        flow->make(flow, flow->make_arg);
    } else {
        CHECK_NOT_NULL(spec);
        spec->input = flow->input;
        CHECK_OK(mr_op_aggregate(spec, &flow->partial, &flow->fold, &err), &err);
    }
    CHECK_OK(flow->fold.ops->open(flow->fold.op, flow->state, &err), &err);
}

static void free_ops(struct ops_flow *flow)
{
    if (flow->partial.ops != NULL)
        flow->partial.ops->free(flow->partial.op);
    mr_schema_unref(flow->partial.schema);
    flow->fold.ops->free(flow->fold.op);
    mr_schema_unref(flow->fold.schema);
}

void ops_flow_open(struct ops_flow *flow, const char *dir, const char *schema,
                   struct mr_aggregate_spec *spec)
{
    *flow =
        (struct ops_flow){.dir = dir, .watermark_us = INT64_MIN, .late_watermark_us = INT64_MIN};
    open_state(flow);
    flow->input = ops_schema(schema);
    make_ops(flow, spec);
}

void ops_flow_open_with(struct ops_flow *flow, const char *dir, const char *schema,
                        void (*make)(struct ops_flow *flow, void *arg), void *arg)
{
    *flow = (struct ops_flow){.dir = dir,
                              .watermark_us = INT64_MIN,
                              .late_watermark_us = INT64_MIN,
                              .make = make,
                              .make_arg = arg};
    open_state(flow);
    flow->input = ops_schema(schema);
    make_ops(flow, NULL);
}

enum mr_status ops_flow_run(struct ops_flow *flow, const char *const *partitions, size_t count,
                            struct mr_error *err)
{
    struct mr_batch_info info = {
        .batch_id = flow->batch_id,
        .watermark_us = flow->watermark_us,
        .late_watermark_us = flow->late_watermark_us,
    };
    struct mr_output partials = {0};
    char *schema = mr_schema_print(flow->input);
    enum mr_status status = MR_OK;

    ops_output_release(&flow->out);
    for (size_t i = 0; i < count && status == MR_OK; i++) {
        struct mr_batch *batch = partitions[i] == NULL ? NULL : ops_batch(schema, partitions[i]);
        info.partition = (uint32_t)i;
        if (flow->partial.ops != NULL)
            status = run_map(&flow->partial, &info, batch, &partials, err);
        else if (batch != NULL)
            status = mr_output_emit(&partials, batch, err);
        mr_batch_unref(batch);
    }
    info.partition = 0;
    struct mr_fold_input input = {true, partials.batches, partials.batch_count, NULL, 0};
    struct mr_fold_call call = {.info = &info,
                                .inputs = &input,
                                .input_count = 1,
                                .fires = true,
                                .out = &flow->out,
                                .outputs = &flow->out,
                                .partition_count = 1};
    if (flow->sharded && flow->fold.ops->partition_count != NULL)
        call.partition_count = flow->fold.ops->partition_count(flow->fold.op);
    if (status == MR_OK)
        status = flow->fold.ops->run(flow->fold.op, &call, err);
    for (uint32_t p = 0; p < call.partition_count && status == MR_OK; p++) {
        if (flow->fold.ops->run_partition != NULL)
            status = flow->fold.ops->run_partition(flow->fold.op, p, &call, err);
    }
    mr_text_free(schema);
    ops_output_release(&partials);
    return status;
}

static void commit_state(struct ops_flow *flow, uint64_t batch_id)
{
    struct mr_commit commit = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_state_prepare(flow->state, batch_id, 1, NULL, &commit, &err), &err);
    mr_state_applied(flow->state, batch_id);
    mr_commit_release(&commit);
}

void ops_flow_commit(struct ops_flow *flow)
{
    commit_state(flow, flow->batch_id);
    flow->batch_id++;
}

void ops_flow_rollback(struct ops_flow *flow)
{
    mr_state_rollback(flow->state);
}

const char *ops_flow_batch(struct ops_flow *flow, const char *const *partitions, size_t count)
{
    struct mr_error err = {0};

    CHECK_OK(ops_flow_run(flow, partitions, count, &err), &err);
    ops_flow_commit(flow);
    return output_text(&flow->out);
}

const char *ops_flow_rows(struct ops_flow *flow, const char *rows)
{
    return ops_flow_batch(flow, &rows, 1);
}

static bool copy_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(arg, key, key_bytes, value, value_bytes, &err), &err);
    return true;
}

void ops_flow_restart(struct ops_flow *flow, struct mr_aggregate_spec *spec)
{
    struct ops_flow old = *flow;

    open_state(flow);
    make_ops(flow, spec);
    mr_store_scan(old.fold.ops->store(old.fold.op), copy_entry,
                  flow->fold.ops->store(flow->fold.op));
    commit_state(flow, flow->batch_id == 0 ? 0 : flow->batch_id - 1);
    free_ops(&old);
    mr_state_close(old.state);
}

uint64_t ops_flow_groups(struct ops_flow *flow)
{
    return mr_store_count(flow->fold.ops->store(flow->fold.op));
}

void ops_flow_close(struct ops_flow *flow)
{
    free_ops(flow);
    ops_output_release(&flow->out);
    mr_state_close(flow->state);
    mr_schema_unref(flow->input);
}
