/*
 * The session fold: merges sessions of a key that overlap or touch, with all their aggregates
 * (structured.md 12).
 *
 *     store    key bytes: row_codec of the keys, without the session
 *              -> the key's sessions, by start; no two overlap or touch
 *     session  start i64 | end i64 | size u32 | aggregate buffers (aggregate.c)
 *
 *     partials --late? dropped and counted--> by key, then start --merge with the store's--> store
 *
 * Partials come from mr_op_aggregate_partial with start and end of a row's session as the last two
 * keys. Only entries of keys that are in the batch are read: one look-up, one write a key and
 * batch, however many rows and sessions it has.
 *
 *     append    sessions with end <= watermark leave and are emitted
 *     complete  everything stays and is emitted
 *
 * `run` takes the partials in and deals them out by the high bits of their hashes. Then, in a small
 * batch, one partition does the rest for all shards of the store; in others each shard is one, run
 * by any worker. Which it is depends on the plan of the batch alone (core/operator.h), so a batch
 * that runs again emits the same: in a small batch in key order, in others in the order of the
 * keys' hashes; sessions that leave, in key order unless they are many.
 *
 * Counting is that of sessions: updated = written by a new start or with new rows, removed = a
 * start that is no start any more. What is known of a shard is found out when it is first needed
 * after open or after a batch that is run again.
 *
 * session_merge.c has the merging, session_emit.c what leaves.
 *
 * Called by the driver of a query: open, then run once a batch and, on workers, run_partition;
 * wants_batch between batches.
 */
#include "ops/session_fold.h"

/* ---- a partition ---- */

static enum mr_status run_shards(struct mr__session_lane *lane, struct mr__session_range range,
                                 const struct mr_fold_call *call, struct mr_error *err)
{
    struct mr__session_fold *fold = lane->fold;

    for (unsigned shard = range.first; shard <= range.last; shard++) {
        if (!fold->shards[shard].is_known)
            MR_TRY(mr__session_search(fold, shard, INT64_MIN, NULL, err));
        lane->shard = &fold->shards[shard];
        MR_TRY(mr__session_merge_shard(lane, shard, err));
    }
    if (!call->fires)
        return MR_OK; /* nobody would see what leaves: it stays for a batch that fires */
    if (fold->mode == MR_MODE_COMPLETE)
        MR_TRY(mr__session_emit_whole(lane, range, err));
    else
        MR_TRY(mr__session_expire(lane, range, call->info->watermark_us, err));
    return mr__session_flush(lane, err);
}

static enum mr_status session_run_partition(void *op, uint32_t partition, struct mr_fold_call *call,
                                            struct mr_error *err)
{
    struct mr__session_fold *fold = op;
    struct mr__session_lane *lane = &fold->lanes[partition];
    struct mr__session_range range = {partition, partition};
    enum mr_status status;

    if (call->partition_count == 1)
        range.last = MR_STORE_SHARDS - 1;
    lane->out = call->out;
    if (partition == 0 && fold->late_rows > 0)
        mr_output_late_rows(call->out, fold->late_rows);
    status = run_shards(lane, range, call, err);
    if (status != MR_OK) { /* the builder may hold half a row */
        mr_batch_builder_free(lane->builder);
        lane->builder = NULL;
        lane->builder_rows = 0;
    }
    return status;
}

/* ---- the operator ---- */

static void forget_shards(struct mr__session_fold *fold)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++)
        fold->shards[shard].is_known = false;
}

static enum mr_status session_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct mr__session_fold *fold = op;

    if (fold->any_run && call->info->batch_id <= fold->last_batch_id)
        forget_shards(fold); /* run again: the state was rolled back */
    fold->any_run = true;
    fold->last_batch_id = call->info->batch_id;
    fold->last_watermark_us = call->info->watermark_us;
    fold->late_rows = 0;
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        fold->lanes[i].updated = fold->lanes[i].removed = 0;
    MR_TRY(mr__session_take_input(fold, call, err));
    return mr__session_deal(fold, err);
}

static uint32_t session_partition_count(void *op)
{
    (void)op;
    return MR_STORE_SHARDS;
}

/* As the aggregate fold: whenever the watermark has moved since the last run; the first time after
 * a restart, when a session is due. */
static bool session_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct mr__session_fold *fold = op;

    (void)batch_time_us;
    if (!fold->closes || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return false;
    if (fold->any_run)
        return watermark_us > fold->last_watermark_us;
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        if (!fold->shards[shard].is_known &&
            mr__session_search(fold, shard, INT64_MIN, NULL, NULL) != MR_OK)
            return true; /* the batch will report it */
        if (fold->shards[shard].least_us <= watermark_us)
            return true;
    }
    return false;
}

/* The keys without the session, and what their sessions keep, for the manifest. */
static enum mr_status print_schemas(struct mr__session_fold *fold, struct mr_error *err)
{
    struct mr_agg_layout keys = *fold->layout; /* borrows */

    keys.key_count -= 2;
    MR_TRY(mr_agg_key_schema(&keys, &fold->key_text, err));
    return mr_agg_value_schema(fold->layout, &fold->value_text, err);
}

static enum mr_status session_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct mr__session_fold *fold = op;

    MR_TRY(mr_state_store(state, fold->state_name, "session", fold->key_text, fold->value_text,
                          &fold->store, err));
    fold->any_run = false;
    forget_shards(fold);
    return MR_OK;
}

/* ---- state of an edited query ---- */

static void adaption_free(void *arg)
{
    struct mr_store_adaption *of_buffers = arg;

    if (of_buffers->free != NULL)
        of_buffers->free(of_buffers->arg);
    mr_free(of_buffers);
}

/* The buffers of each session become those of the query as it is now. */
static enum mr_status convert_list(void *arg, struct mr_slice key, struct mr_slice value,
                                   struct mr_buf *ret_key, struct mr_buf *ret_value,
                                   struct mr_error *err)
{
    const struct mr_store_adaption *of_buffers = arg;
    struct mr_buf same_key = MR_BUF_INIT;
    struct mr_buf buffers = MR_BUF_INIT;
    struct mr__session session;
    enum mr_status status = MR_OK;
    bool ok = true;

    mr_buf_add(ret_key, key.data, key.size_bytes);
    while (status == MR_OK && mr__session_next(&value, &session, &ok)) {
        mr_buf_clear(&same_key);
        mr_buf_clear(&buffers);
        status =
            of_buffers->convert(of_buffers->arg, key, session.buffers, &same_key, &buffers, err);
        if (status == MR_OK)
            mr__session_add(ret_value, session.start_us, session.end_us, buffers.data,
                            buffers.size);
    }
    if (status == MR_OK && !ok)
        status = MR_FAIL(err, MR_CORRUPT, "cannot convert sessions: a list of them is cut short");
    if (status == MR_OK && (ret_key->failed || ret_value->failed || buffers.failed))
        status = mr__session_no_memory(err);
    mr_buf_release(&same_key);
    mr_buf_release(&buffers);
    return status;
}

static enum mr_status session_adapt(void *op, const struct mr_store_change *change,
                                    struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct mr_store_adaption of_buffers = {0};
    struct mr_store_adaption *copy;

    (void)op;
    MR_TRY(mr_agg_adapt_store(change, &of_buffers, err));
    *ret_adaption = of_buffers;
    if (of_buffers.convert == NULL)
        return MR_OK;
    copy = mr_alloc(NULL, sizeof(*copy));
    if (copy == NULL) {
        if (of_buffers.free != NULL)
            of_buffers.free(of_buffers.arg);
        return mr__session_no_memory(err);
    }
    *copy = of_buffers;
    ret_adaption->convert = convert_list;
    ret_adaption->arg = copy;
    ret_adaption->free = adaption_free;
    return MR_OK;
}

static void session_progress(void *op, struct mr_fold_progress *ret_progress)
{
    const struct mr__session_fold *fold = op;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        ret_progress->rows_total += fold->shards[i].sessions;
        ret_progress->rows_updated += fold->lanes[i].updated;
        ret_progress->rows_removed += fold->lanes[i].removed;
    }
    ret_progress->bytes = mr_store_bytes(fold->store);
    ret_progress->store_count = 1;
}

static struct mr_store *session_store(void *op)
{
    return ((struct mr__session_fold *)op)->store;
}

static void session_free(void *op)
{
    struct mr__session_fold *fold = op;

    if (fold == NULL)
        return;
    mr_agg_layout_free(fold->layout);
    mr_free(fold->state_name);
    mr_text_free(fold->key_text);
    mr_text_free(fold->value_text);
    mr_free(fold->parts);
    mr_free(fold->order);
    mr_free(fold->ends);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        mr_free(fold->lanes[i].due);
        mr_buf_release(&fold->lanes[i].list);
        mr_buf_release(&fold->lanes[i].merged);
        mr_buf_release(&fold->lanes[i].key);
        mr_batch_builder_free(fold->lanes[i].builder);
    }
    mr_free(fold);
}

static const struct mr_fold_ops session_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "session",
    .open = session_open,
    .run = session_run,
    .run_partition = session_run_partition,
    .partition_count = session_partition_count,
    .one_when_small = true,
    .wants_batch = session_wants_batch,
    .progress = session_progress,
    .adapt = session_adapt,
    .free = session_free,
    .store = session_store,
};

static enum mr_status check_spec(const struct mr_aggregate_spec *spec, struct mr_error *err)
{
    if (spec->mode == MR_MODE_UPDATE)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot update sessions: one that grows is another row; use append or "
                       "complete mode");
    if (spec->key_count < 3)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make sessions over all rows; group by another column, too");
    for (uint32_t i = spec->key_count - 2; i < spec->key_count; i++)
        if (mr_schema_field(spec->input, spec->keys[i])->type.id != MR_TYPE_TIMESTAMP)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot take key '%s' as a session: it must be a "
                           "TIMESTAMP",
                           spec->key_names[i]);
    if (spec->event_time_key >= 0 ? (uint32_t)spec->event_time_key != spec->key_count - 1
                                  : spec->mode == MR_MODE_APPEND)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot append sessions that may still grow: their time needs a watermark, "
                       "or use complete mode");
    return MR_OK;
}

enum mr_status mr_op_session_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                  struct mr_error *err)
{
    struct mr__session_fold *fold = mr_alloc_zero(NULL, sizeof(*fold));
    enum mr_status status;

    if (fold == NULL)
        return mr__session_no_memory(err);
    MR_TRY_GOTO(mr_agg_layout_new(spec, &fold->layout, err));
    MR_TRY_GOTO(check_spec(spec, err));
    MR_TRY_GOTO(print_schemas(fold, err));
    fold->mode = spec->mode;
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        fold->lanes[i].fold = fold;
    fold->closes = spec->event_time_key >= 0;
    fold->state_name = mr_strdup(spec->state_name);
    if (fold->state_name == NULL) {
        status = mr__session_no_memory(err);
        goto done;
    }
    *ret_op = (struct mr_fold_op){&session_ops, fold, mr_schema_ref(fold->layout->output)};
    fold = NULL;
done:
    session_free(fold);
    return status;
}
