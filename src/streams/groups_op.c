/*
 * map_groups_with_state and flat_map_groups_with_state as a fold (structured.md 15).
 *
 *     store   key (row_codec) --> timeout i64 | has state u8 | state        (streams/groups.h)
 *             ""              --> the first batch has been                  (with an initial state)
 *
 *     batch   1. driver: late rows go (event-time timeouts only)
 *             2. first batch: initial states into the store
 *             3. keys with rows, or with an initial state: function(key, rows, state)
 *             4. keys whose timeout is before the batch's time or the watermark: function(key,
 *                none, state)
 *
 * Steps 2 to 4 run per partition, a range of shards. A key with rows lost its timeout, or set one
 * that is not due, in step 3. Order of calls: by hash and key, then by timeout and key: the same
 * however many partitions there are, but for where partitions begin.
 *
 * Thread: driver opens, begins, asks; workers run partitions.
 */
#include "streams/groups.h"

#include "base/check.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a function with state: out of memory");
}

static void groups_free(void *pointer)
{
    struct groups_op *op = pointer;

    if (op == NULL)
        return;
    mr_keyed_release(&op->keyed);
    mr_schema_unref(op->state);
    mr_due_release(&op->due);
    mr_free(op);
}

static enum mr_status groups_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct groups_op *op = pointer;
    char *key = mr_keyed_print(op->keyed.key), *value = mr_keyed_print(op->state);
    enum mr_status status =
        key != NULL && value != NULL
            ? mr_state_store(state, op->keyed.name, "groups", key, value, &op->store, err)
            : no_memory(err);

    mr_text_free(key);
    mr_text_free(value);
    op->any_run = false;
    mr_due_forget(&op->due);
    return status;
}

/* Timeouts before this are due (milliseconds); INT64_MIN: none is. */
static int64_t due_before(const struct groups_op *op, int64_t watermark_us, int64_t batch_time_us)
{
    if (op->timeout == MR_TIMEOUT_PROCESSING_TIME)
        return mr_keyed_ms(batch_time_us);
    if (op->timeout == MR_TIMEOUT_EVENT_TIME && watermark_us != INT64_MIN)
        return mr_keyed_ms(watermark_us);
    return INT64_MIN;
}

/* ---- a batch ---- */

static enum mr_status groups_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct groups_op *op = pointer;

    if (op->any_run && call->info->batch_id <= op->last_batch_id)
        mr_due_forget(&op->due); /* run again: the state was rolled back */
    op->any_run = true;
    op->last_batch_id = call->info->batch_id;
    op->last_watermark_us = call->info->watermark_us;
    memset(op->counts, 0, sizeof(op->counts));
    MR_TRY(mr_keyed_take_batches(&op->keyed, call, err));
    if (op->timeout != MR_TIMEOUT_NONE)
        MR_TRY(mr_due_build(&op->due, op->store, err));
    op->keyed.initial_now = op->keyed.initial != NULL && !mr__state_has_begun(op->store);
    return op->keyed.initial_now ? mr__state_begin(op->store, err) : MR_OK;
}

/* Both lists are in the order of (hash, key): keys of either, each once. */
static enum mr_status merge_keys(const struct mr__state_rows *rows,
                                 const struct mr__state_rows *initial,
                                 struct mr_group_item **ret_items, size_t *ret_count,
                                 struct mr_error *err)
{
    uint32_t total = rows->group_count + initial->group_count, a = 0, b = 0;
    struct mr_group_item *items = mr_alloc(NULL, ((size_t)total + 1) * sizeof(*items));
    size_t count = 0;

    if (items == NULL)
        return no_memory(err);
    while (a < rows->group_count || b < initial->group_count) {
        int order = a == rows->group_count      ? 1
                    : b == initial->group_count ? -1
                                                : mr_keyed_compare_groups(rows, a, initial, b);
        struct mr_group_item *item = &items[count++];

        if (order <= 0) {
            item->key = mr_keyed_group_key(rows, a, &item->key_bytes);
            item->group = a++;
            b += order == 0;
        } else {
            item->key = mr_keyed_group_key(initial, b++, &item->key_bytes);
            item->group = UINT32_MAX;
        }
    }
    *ret_items = items;
    *ret_count = count;
    return MR_OK;
}

static enum mr_status run_rows(struct mr_groups_run run, struct mr__shards shards,
                               struct mr_error *err)
{
    struct groups_op *op = run.op;
    struct mr__state_rows rows = {0}, initial = {0};
    struct mr_group_item *items = NULL;
    size_t count = 0;
    enum mr_status status;

    if (op->keyed.initial_now) {
        MR_TRY_GOTO(mr_keyed_initial_rows(&op->keyed, op->store, shards, &initial, err));
        MR_TRY_GOTO(mr_groups_begin(op, &initial, err));
    }
    MR_TRY_GOTO(mr_keyed_rows(&op->keyed, op->store, shards, &rows, err));
    MR_TRY_GOTO(merge_keys(&rows, &initial, &items, &count, err));
    run.rows = &rows;
    status = mr_groups_calls(&run, items, count, err);
done:
    mr_free(items);
    mr__state_rows_release(&rows);
    mr__state_rows_release(&initial);
    return status;
}

static enum mr_status run_timeouts(struct mr_groups_run run, struct mr__shards shards,
                                   int64_t before, struct mr_error *err)
{
    struct groups_op *op = run.op;
    struct mr__state_rows none = {0};
    struct mr_due_list list = {0};
    struct mr_group_item *items = NULL;
    enum mr_status status = MR_OK;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        MR_TRY_GOTO(mr_due_take(&op->due, op->store, shard, before, &list, err));
    if (list.count == 0)
        goto done;
    mr_due_list_sort(&list);
    items = mr_alloc(NULL, list.count * sizeof(*items));
    if (items == NULL) {
        status = no_memory(err);
        goto done;
    }
    for (size_t i = 0; i < list.count; i++)
        items[i] =
            (struct mr_group_item){list.entries[i].key, list.entries[i].key_bytes, UINT32_MAX};
    run.rows = &none;
    run.timing_out = true;
    MR_TRY_GOTO(mr_groups_calls(&run, items, list.count, err));
    status = mr_due_settle(&op->due, op->store, &list, err);
done:
    mr_free(items);
    mr_due_list_release(&list);
    return status;
}

static enum mr_status groups_partition(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                       struct mr_error *err)
{
    struct groups_op *op = pointer;
    struct mr__shards shards = mr__shards_of(partition, call->partition_count);
    struct mr_groups_run run = {.op = op, .partition = partition, .out = call->out};
    int64_t before = due_before(op, call->info->watermark_us, call->info->batch_time_us);

    MR_TRY(run_rows(run, shards, err));
    return before == INT64_MIN ? MR_OK : run_timeouts(run, shards, before, err);
}

static uint32_t groups_partitions(void *pointer)
{
    return ((const struct groups_op *)pointer)->keyed.partition_count;
}

/* ---- between batches ---- */

static bool groups_wants_batch(void *pointer, int64_t watermark_us, int64_t batch_time_us)
{
    struct groups_op *op = pointer;
    int64_t before = due_before(op, watermark_us, batch_time_us);
    int64_t next = MR_DUE_NEVER;

    if (before == INT64_MIN)
        return false;
    /* The watermark has moved: also without anything due, so that what is late is decided by the
     * same batches as in a run that has something due. */
    if (op->timeout == MR_TIMEOUT_EVENT_TIME && op->any_run)
        return watermark_us > op->last_watermark_us;
    if (mr_due_next(&op->due, op->store, &next, NULL) != MR_OK)
        return true; /* the batch will tell why */
    return next < before;
}

static int64_t groups_output_watermark(void *pointer, int64_t watermark_us)
{
    MR_UNUSED(pointer);
    MR_UNUSED(watermark_us);
    return INT64_MIN;
}

static void groups_progress(void *pointer, struct mr_fold_progress *ret_progress)
{
    const struct groups_op *op = pointer;
    const char *mark = NULL;
    size_t mark_bytes = 0;

    ret_progress->rows_total =
        mr_store_count(op->store) - mr_store_get(op->store, "", 0, &mark, &mark_bytes);
    ret_progress->bytes = mr_store_bytes(op->store);
    ret_progress->store_count = 1;
    for (uint32_t i = 0; i < op->keyed.partition_count; i++) {
        ret_progress->rows_updated += op->counts[i].updated;
        ret_progress->rows_removed += op->counts[i].removed;
    }
}

static struct mr_store *groups_store(void *pointer)
{
    return ((const struct groups_op *)pointer)->store;
}

/* Only rows: keys without any cost nothing. */
static uint64_t groups_work(void *pointer, const struct mr_fold_call *call)
{
    uint64_t bytes = 0;

    MR_UNUSED(pointer);
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; b < call->inputs[i].batch_count; b++)
            bytes += mr_batch_bytes(call->inputs[i].batches[b]);
    }
    return bytes;
}

static unsigned groups_traits(void *pointer)
{
    const struct groups_op *op = pointer;
    unsigned traits = op->is_map                   ? MR_FOLD_MAP_GROUPS
                      : op->mode == MR_MODE_UPDATE ? MR_FOLD_FLAT_UPDATE
                                                   : MR_FOLD_FLAT_APPEND;

    return op->timeout == MR_TIMEOUT_EVENT_TIME ? traits | MR_FOLD_EVENT_TIMEOUT : traits;
}

static const struct mr_fold_ops groups_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "map groups with state",
    .open = groups_open,
    .run = groups_run,
    .wants_batch = groups_wants_batch,
    .output_watermark = groups_output_watermark,
    .progress = groups_progress,
    .free = groups_free,
    .store = groups_store,
    .partition_count = groups_partitions,
    .run_partition = groups_partition,
    .one_when_small = true,
    .work_bytes = groups_work,
    .traits = groups_traits,
};

/* ---- making ---- */

/* Columns of the initial state: those of the key, then those of the state. */
static enum mr_status check_initial(const struct groups_op *op, struct mr_error *err)
{
    const struct mr_schema *have;
    uint32_t keys = op->keyed.key_count, states = mr_schema_field_count(op->state);
    bool fits;

    if (op->keyed.initial == NULL)
        return MR_OK;
    have = mr_batch_schema(op->keyed.initial);
    fits = mr_schema_field_count(have) == keys + states;
    for (uint32_t i = 0; fits && i < keys + states; i++) {
        const struct mr_field *want =
            i < keys ? mr_schema_field(op->keyed.key, i) : mr_schema_field(op->state, i - keys);

        fits = mr_type_equal(&mr_schema_field(have, i)->type, &want->type);
    }
    if (!fits)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot begin '%s' with this initial state; its columns must be those of "
                       "the key, then those of the state",
                       op->keyed.name);
    return MR_OK;
}

static enum mr_status check_spec(const struct mr_groups_op_spec *spec, struct mr_error *err)
{
    const char *name = spec->keyed.name;

    if (spec->groups->call == NULL || spec->groups->state == NULL || spec->groups->output == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': give call, state and output in struct mr_groups_spec",
                       name);
    if (!spec->is_map && spec->groups->mode != MR_MODE_APPEND &&
        spec->groups->mode != MR_MODE_UPDATE)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': the mode of flat_map_groups_with_state is append or "
                       "update",
                       name);
    return MR_OK;
}

static enum mr_status init(struct groups_op *op, const struct mr_groups_op_spec *spec,
                           struct mr_error *err)
{
    MR_TRY(check_spec(spec, err));
    op->call = spec->groups->call;
    op->arg = spec->groups->arg;
    op->is_map = spec->is_map;
    op->timeout = spec->groups->timeout;
    op->mode = spec->is_map ? MR_MODE_UPDATE : spec->groups->mode;
    MR_TRY(mr_keyed_init(&op->keyed, &spec->keyed, err));
    MR_TRY(mr_schema_parse(spec->groups->state, strlen(spec->groups->state), &op->state, err));
    return check_initial(op, err);
}

enum mr_status mr_groups_op(const struct mr_groups_op_spec *spec, struct mr_fold_op *ret_op,
                            struct mr_error *err)
{
    struct groups_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status = op != NULL ? init(op, spec, err) : no_memory(err);

    if (status != MR_OK) {
        groups_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){&groups_ops, op, mr_schema_ref(op->keyed.output)};
    return MR_OK;
}
