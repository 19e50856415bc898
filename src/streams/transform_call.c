/*
 * Calls of the functions of transform_with_state, one key after the other.
 *
 *     key --> context --> function --> what it emitted and changed --> variables, timers --> stores
 *
 * What one call wrote, the next call of the same key sees. Called by transform_op.c. Thread: the
 * partition's worker.
 */
#include "streams/transform.h"

#include "base/check.h"

#include <millrace/ext/builder.h>

enum { FLUSH_ROWS = 8192 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a function with state: out of memory");
}

/* ---- contexts ---- */

void mr_transform_context_free(struct mr_transform *at)
{
    if (at == NULL)
        return;
    if (at->variables != NULL)
        mr_transform_forget(at);
    for (uint32_t i = 0; at->variables != NULL && i < at->op->variable_count; i++) {
        if (at->variables[i].has_emitter)
            mr__emitter_release(&at->variables[i].emitter);
        mr_free(at->variables[i].cells);
    }
    mr__emitter_release(&at->nowhere);
    mr_free(at->variables);
    mr_free(at->timers);
    mr_arena_release(&at->arena);
    mr_buf_release(&at->bytes);
    mr_free(at);
}

enum mr_status mr_transform_context_new(struct transform_op *op, struct mr_transform **ret_at,
                                        struct mr_error *err)
{
    struct mr_transform *at = mr_alloc_zero(NULL, sizeof(*at));
    enum mr_status status;

    if (at == NULL)
        return no_memory(err);
    at->op = op;
    at->variables = mr_alloc_zero(NULL, (op->variable_count + 1) * sizeof(*at->variables));
    status =
        at->variables != NULL ? mr__emitter_init(&at->nowhere, op->keyed.key, err) : no_memory(err);
    at->nowhere.failed = true; /* it takes anything and keeps nothing */
    if (status != MR_OK)
        mr_transform_context_free(at);
    else
        *ret_at = at;
    return status;
}

/* ---- one call ---- */

/* What is done for a key; rows NULL: nothing to read. */
struct call {
    const struct mr_row *key;
    struct mr_rows *rows;
    const struct mr_row *initial;
    int64_t expiry_ms;
    bool is_timer;
};

static void call_function(struct mr_transform_run *run, const struct call *call)
{
    const struct mr_processor *processor = run->op->processor;
    void *arg = run->op->arg;

    if (call->initial != NULL)
        processor->initial(run->at, call->key, call->initial, arg);
    else if (call->is_timer)
        processor->timer(run->at, call->key, call->expiry_ms, &run->emitter, arg);
    else
        processor->rows(run->at, call->key, call->rows, &run->emitter, arg);
}

static enum mr_status finish_call(struct mr_transform_run *run, const struct call *call,
                                  struct mr_error *err)
{
    struct mr_transform *at = run->at;

    MR_TRY(mr__emitter_check(&run->emitter, err));
    if (at->error.status != MR_OK) {
        if (err != NULL)
            *err = at->error;
        return at->error.status;
    }
    if (call->is_timer) {
        mr_transform_load_timers(at);
        mr_transform_drop_timer(at, call->expiry_ms);
        at->counts.expired++;
    }
    return mr_transform_write(at, err);
}

/* at->key is set. */
static enum mr_status call_one(struct mr_transform_run *run, const struct call *call,
                               struct mr_error *err)
{
    struct mr_transform *at = run->at;
    enum mr_status status;

    at->is_active = true;
    mr__inside_user_code++;
    call_function(run, call);
    mr__inside_user_code--;
    at->is_active = false;
    status = mr_keyed_blame(&run->op->keyed, call->key, finish_call(run, call, err), err);
    mr_transform_forget(at);
    at->error = (struct mr_error){0};
    if (status == MR_OK && mr__emitter_rows(&run->emitter) >= FLUSH_ROWS)
        status = mr_transform_flush(run, err);
    return status;
}

static void set_key(struct mr_transform *at, const char *key, size_t key_bytes)
{
    at->key = key;
    at->key_bytes = key_bytes;
    at->shard = mr_store_shard(mr_store_hash(at->op->marks, key, key_bytes));
}

static enum mr_status finish_keys(struct mr_batch_builder *builder, size_t count,
                                  struct mr_batch **ret_keys, struct mr_error *err)
{
    MR_TRY(mr_batch_builder_rows_added(builder, (int64_t)count, err));
    return mr_batch_builder_finish(builder, ret_keys, err);
}

/* Rows of key columns, from their bytes: one for each group. */
static enum mr_status group_keys(const struct mr_keyed *keyed, const struct mr__state_rows *rows,
                                 struct mr_batch **ret_keys, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(keyed->key, &builder, err));
    for (uint32_t group = 0; group < rows->group_count; group++) {
        size_t key_bytes;
        const char *key = mr_keyed_group_key(rows, group, &key_bytes);

        MR_TRY_GOTO(mr_keyed_key_get(keyed, key, key_bytes, builder, err));
    }
    status = finish_keys(builder, rows->group_count, ret_keys, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

/* The same of timers. */
static enum mr_status timer_keys(const struct mr_keyed *keyed, const struct mr_due_list *timers,
                                 struct mr_batch **ret_keys, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(keyed->key, &builder, err));
    for (size_t i = 0; i < timers->count; i++)
        MR_TRY_GOTO(mr_keyed_key_get(keyed, timers->entries[i].key, timers->entries[i].key_bytes,
                                     builder, err));
    status = finish_keys(builder, timers->count, ret_keys, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

/* ---- all calls of a kind ---- */

static enum mr_status call_initial_rows(struct mr_transform_run *run,
                                        const struct mr__state_rows *rows, uint32_t group,
                                        const struct mr_row *key, struct mr_error *err)
{
    uint32_t count = mr__state_group_rows(rows, group);

    for (uint32_t i = 0; i < count; i++) {
        struct mr_row row = {run->op->keyed.initial, mr__state_group_row(rows, group, i).row};
        struct call call = {.key = key, .initial = &row};

        MR_TRY(call_one(run, &call, err));
    }
    return MR_OK;
}

static enum mr_status call_groups(struct mr_transform_run *run, const struct mr__state_rows *rows,
                                  bool initial, struct mr_error *err)
{
    struct mr_batch *keys = NULL;
    enum mr_status status;

    MR_TRY(group_keys(&run->op->keyed, rows, &keys, err));
    status = MR_OK;
    for (uint32_t group = 0; group < rows->group_count && status == MR_OK; group++) {
        struct mr_row key = {keys, group};
        struct mr_keyed_iterator values;
        struct call call = {.key = &key, .rows = &values.rows};
        size_t key_bytes;
        const char *bytes = mr_keyed_group_key(rows, group, &key_bytes);

        set_key(run->at, bytes, key_bytes);
        mr_keyed_iterate(&values, rows, group);
        status =
            initial ? call_initial_rows(run, rows, group, &key, err) : call_one(run, &call, err);
    }
    mr_batch_unref(keys);
    return status;
}

enum mr_status mr_transform_call_initial(struct mr_transform_run *run,
                                         const struct mr__state_rows *rows, struct mr_error *err)
{
    return run->op->processor->initial != NULL ? call_groups(run, rows, true, err) : MR_OK;
}

enum mr_status mr_transform_call_rows(struct mr_transform_run *run,
                                      const struct mr__state_rows *rows, struct mr_error *err)
{
    return run->op->processor->rows != NULL ? call_groups(run, rows, false, err) : MR_OK;
}

/* A timer that a function before it deleted does not fire; one without a function just goes. */
static enum mr_status call_timer(struct mr_transform_run *run, const struct mr_row *key,
                                 const struct mr_due_entry *timer, struct mr_error *err)
{
    struct call call = {.key = key, .is_timer = true, .expiry_ms = timer->time};
    enum mr_status status;

    set_key(run->at, timer->key, timer->key_bytes);
    if (mr_transform_has_timer(run->at, timer->time) && run->op->processor->timer != NULL)
        return call_one(run, &call, err);
    mr_transform_drop_timer(run->at, timer->time);
    status = mr_transform_write_timers(run->at, err);
    mr_transform_forget(run->at);
    return status;
}

enum mr_status mr_transform_call_timers(struct mr_transform_run *run,
                                        const struct mr_due_list *timers, struct mr_error *err)
{
    struct mr_batch *keys = NULL;
    enum mr_status status;

    MR_TRY(timer_keys(&run->op->keyed, timers, &keys, err));
    status = MR_OK;
    for (size_t i = 0; i < timers->count && status == MR_OK; i++) {
        struct mr_row key = {keys, (int64_t)i};

        status = call_timer(run, &key, &timers->entries[i], err);
    }
    mr_batch_unref(keys);
    return status;
}

/* ---- output ---- */

/* What comes behind has seen this watermark: older rows would be lost there. */
static enum mr_status check_times(const struct transform_op *op, const struct mr_batch *rows,
                                  struct mr_error *err)
{
    const struct mr_column *times;

    if (op->event_time < 0 || op->late_us == INT64_MIN)
        return MR_OK;
    times = mr_batch_column(rows, (uint32_t)op->event_time);
    for (int64_t row = 0; row < times->length; row++) {
        struct mr_row at = {rows, row};
        char text[64];

        if (mr_column_is_null(times, row) || mr_column_int(times, row) > op->late_us)
            continue;
        (void)mr_row_print(&at, (uint32_t)op->event_time, text, sizeof(text));
        return MR_FAIL(err, MR_USER,
                       "the function of '%s' emits a row at %s, which the watermark has passed; "
                       "emit rows later than mr_transform_watermark_ms",
                       op->keyed.name, text);
    }
    return MR_OK;
}

enum mr_status mr_transform_flush(struct mr_transform_run *run, struct mr_error *err)
{
    struct mr_batch *rows = NULL;
    enum mr_status status;

    MR_TRY(mr__emitter_finish(&run->emitter, &rows, err));
    status = check_times(run->op, rows, err);
    if (status == MR_OK)
        status = mr_output_emit(run->out, rows, err);
    mr_batch_unref(rows);
    return status;
}
