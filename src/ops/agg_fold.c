/*
 * The aggregate fold: merges the partial aggregates of a batch into its store and emits by output
 * mode (structured.md 7, 11).
 *
 *     store    key bytes (row_codec of the key columns) -> buffers (aggregate.c)
 *
 *     partials --late? dropped and counted--> merge into the store, then emit
 *
 *     append    expired groups, which leave the store
 *     update    changed groups; expired ones leave silently
 *     complete  the whole store, which keeps everything
 *
 * A group is late when its event time is at or below the late watermark of the batch, expired when
 * it is at or below the watermark in force. Whatever is emitted is in key order. Without keys there
 * is one group, which update and complete emit in every batch.
 *
 * The store is searched for expired groups only when the watermark has passed the least event time
 * in it; `least_us` remembers that time and is forgotten when a batch is run again, since the
 * groups its first run removed are back then.
 *
 * Called by the driver of a query: open, then run once a batch, wants_batch between batches.
 * Thread: driver.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

#include <stdlib.h>

enum { EMIT_ROWS_MAX = 64 * 1024, EMIT_BYTES_MAX = 16 * 1024 * 1024, EMIT_CHECK_ROWS = 256 };

struct key_ref {
    const char *data;
    size_t size_bytes;
};

struct key_list {
    struct key_ref *keys;
    size_t count;
    size_t capacity;
};

struct fold {
    struct mr_agg_layout *layout;
    enum mr_output_mode mode;
    char *state_name;
    struct mr_store *store;
    int32_t time_key; /* index of the event time among the keys, -1 = none */
    bool time_is_nanos;
    int64_t time_add_us;

    bool any_run; /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    bool least_known;
    int64_t least_us; /* no group in the store is older; INT64_MAX = none with a time */

    /* Of the batch being run; memory is kept. */
    struct key_list touched; /* update: keys of merged partials, in the input's memory */
    struct mr_arena arena;   /* keys of expired groups */
    struct key_list expired;
    struct mr_buf merged;
    struct mr_batch_builder *builder;
    int64_t builder_rows;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot fold an aggregation: out of memory");
}

/* ---- keys ---- */

static bool key_list_add(struct key_list *list, const char *data, size_t size_bytes)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct key_ref *keys = mr_realloc(NULL, list->keys, capacity * sizeof(*keys));
        if (keys == NULL)
            return false;
        list->keys = keys;
        list->capacity = capacity;
    }
    list->keys[list->count++] = (struct key_ref){data, size_bytes};
    return true;
}

static int compare_keys(const void *a_pointer, const void *b_pointer)
{
    const struct key_ref *a = a_pointer;
    const struct key_ref *b = b_pointer;
    size_t common = MR_MIN(a->size_bytes, b->size_bytes);
    int order = common == 0 ? 0 : memcmp(a->data, b->data, common);

    return order != 0 ? order : (a->size_bytes > common) - (b->size_bytes > common);
}

/* Sorts and leaves one of each. */
static void key_list_sort(struct key_list *list)
{
    size_t kept = 0;

    if (list->count < 2)
        return;
    qsort(list->keys, list->count, sizeof(*list->keys), compare_keys);
    for (size_t i = 1; i < list->count; i++)
        if (compare_keys(&list->keys[kept], &list->keys[i]) != 0)
            list->keys[++kept] = list->keys[i];
    list->count = kept + 1;
}

/* Steps over one key value (data/row_codec.h); false when it is none. */
static bool skip_value(struct mr_bytes *bytes, const struct mr_type *type)
{
    uint8_t flag = mr_bytes_u8(bytes);

    if (bytes->failed || flag > 1)
        return false;
    if (flag == 0)
        return true;
    switch (type->id) {
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        do { /* up to 00 00; 00 ff is a zero byte of the text */
            const uint8_t *zero = memchr(bytes->at, 0, mr_bytes_left(bytes));
            if (zero == NULL)
                return false;
            bytes->at = zero + 1;
            flag = mr_bytes_u8(bytes);
        } while (!bytes->failed && flag == 0xff);
        return !bytes->failed && flag == 0;
    case MR_TYPE_LIST:
        while ((flag = mr_bytes_u8(bytes)) == 1 && !bytes->failed)
            if (!skip_value(bytes, &type->fields[0].type))
                return false;
        return !bytes->failed && flag == 0;
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < type->field_count; i++)
            if (!skip_value(bytes, &type->fields[i].type))
                return false;
        return true;
    default:
        (void)mr_bytes_take(bytes, type->id == MR_TYPE_BOOL ? 1 : mr_type_width(type->id));
        return !bytes->failed;
    }
}

/* Event time of a key; *ret_has false when it is null. */
static enum mr_status event_time(const struct fold *fold, const char *key, size_t key_bytes,
                                 bool *ret_has, int64_t *ret_time_us, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key, key_bytes);
    uint64_t time = 0;
    bool ok = true;

    for (int32_t i = 0; ok && i < fold->time_key; i++)
        ok = skip_value(&bytes, &mr_schema_field(fold->layout->output, (uint32_t)i)->type);
    uint8_t flag = ok ? mr_bytes_u8(&bytes) : 0;
    const uint8_t *at = flag == 1 ? (const uint8_t *)mr_bytes_take(&bytes, 8) : NULL;
    if (!ok || bytes.failed || flag > 1)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot find the event time in a key; restore the checkpoint from a copy");
    *ret_has = at != NULL;
    if (at == NULL)
        return MR_OK;
    for (int i = 0; i < 8; i++)
        time = time << 8 | at[i];
    int64_t time_us = (int64_t)(time ^ UINT64_C(1) << 63);
    if (fold->time_is_nanos)
        time_us = mr_floor_div(time_us, 1000);
    if (__builtin_add_overflow(time_us, fold->time_add_us, &time_us))
        time_us = fold->time_add_us < 0 ? INT64_MIN + 1 : INT64_MAX;
    *ret_time_us = time_us;
    return MR_OK;
}

/* ---- output ---- */

static enum mr_status flush(struct fold *fold, struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    if (fold->builder_rows == 0)
        return MR_OK;
    fold->builder_rows = 0;
    MR_TRY(mr_batch_builder_finish(fold->builder, &batch, err));
    enum mr_status status = mr_output_emit(out, batch, err);
    mr_batch_unref(batch);
    return status;
}

static enum mr_status emit(struct fold *fold, struct mr_slice key, struct mr_slice buffers,
                           struct mr_output *out, struct mr_error *err)
{
    if (fold->builder == NULL)
        MR_TRY(mr_batch_builder_new(fold->layout->output, &fold->builder, err));
    MR_TRY(mr_agg_emit(fold->layout, key, buffers, fold->builder, err));
    fold->builder_rows++;
    if (fold->builder_rows >= EMIT_ROWS_MAX ||
        (fold->builder_rows % EMIT_CHECK_ROWS == 0 &&
         mr_batch_builder_bytes(fold->builder) >= EMIT_BYTES_MAX))
        return flush(fold, out, err);
    return MR_OK;
}

static enum mr_status emit_keys(struct fold *fold, const struct key_list *list,
                                struct mr_output *out, struct mr_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        struct mr_slice key = {list->keys[i].data, list->keys[i].size_bytes};
        struct mr_slice buffers = {NULL, 0};
        bool found =
            mr_store_get(fold->store, key.data, key.size_bytes, &buffers.data, &buffers.size_bytes);
        MR_ASSERT(found);
        MR_TRY(emit(fold, key, buffers, out, err));
    }
    return flush(fold, out, err);
}

struct emit_all {
    struct fold *fold;
    struct mr_output *out;
    enum mr_status status;
    struct mr_error *err;
};

static bool emit_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct emit_all *all = arg;

    all->status = emit(all->fold, (struct mr_slice){key, key_bytes},
                       (struct mr_slice){value, value_bytes}, all->out, all->err);
    return all->status == MR_OK;
}

static enum mr_status emit_store(struct fold *fold, struct mr_output *out, struct mr_error *err)
{
    struct emit_all all = {fold, out, MR_OK, err};

    MR_TRY(mr_store_scan_sorted(fold->store, NULL, 0, emit_entry, &all, err));
    MR_TRY(all.status);
    return flush(fold, out, err);
}

/* ---- merging ---- */

static enum mr_status merge_group(struct fold *fold, struct mr_slice key, struct mr_slice buffers,
                                  struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;
    char *value = NULL;
    bool created = false;

    MR_TRY(mr_agg_check(layout, buffers, err));
    if (layout->bytes_count == 0) {
        MR_TRY(mr_store_upsert(fold->store, key.data, key.size_bytes, layout->fixed_bytes, &value,
                               &created, err));
        if (!created)
            return mr_agg_merge_fixed(layout, value, buffers.data, err);
        memcpy(value, buffers.data, buffers.size_bytes);
        return MR_OK;
    }
    struct mr_slice have = {NULL, 0};
    if (!mr_store_get(fold->store, key.data, key.size_bytes, &have.data, &have.size_bytes))
        return mr_store_put(fold->store, key.data, key.size_bytes, buffers.data, buffers.size_bytes,
                            err);
    MR_TRY(mr_agg_merge_into(layout, have, buffers, &fold->merged, err));
    return mr_store_put(fold->store, key.data, key.size_bytes, fold->merged.data, fold->merged.size,
                        err);
}

/* One partial: late, or merged. */
static enum mr_status take_partial(struct fold *fold, const struct mr_batch_info *info,
                                   struct mr_slice key, struct mr_slice buffers,
                                   uint64_t *late_rows, struct mr_error *err)
{
    if (fold->time_key >= 0) {
        int64_t time_us = 0;
        bool has_time = false;
        MR_TRY(event_time(fold, key.data, key.size_bytes, &has_time, &time_us, err));
        if (has_time && fold->mode != MR_MODE_COMPLETE && info->late_watermark_us != INT64_MIN &&
            time_us <= info->late_watermark_us) {
            MR_TRY(mr_agg_check(fold->layout, buffers, err));
            *late_rows += mr_load_u64(buffers.data);
            return MR_OK;
        }
        if (has_time && time_us < fold->least_us)
            fold->least_us = time_us;
    }
    MR_TRY(merge_group(fold, key, buffers, err));
    if (fold->mode == MR_MODE_UPDATE && !key_list_add(&fold->touched, key.data, key.size_bytes))
        return no_memory(err);
    return MR_OK;
}

static enum mr_status take_input(struct fold *fold, const struct mr_fold_call *call,
                                 uint64_t *late_rows, struct mr_error *err)
{
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; call->inputs[i].present && b < call->inputs[i].batch_count; b++) {
            const struct mr_batch *batch = call->inputs[i].batches[b];
            const struct mr_column *keys = mr_batch_column(batch, 0);
            const struct mr_column *values = mr_batch_column(batch, 1);
            for (int64_t row = 0; row < keys->length; row++)
                MR_TRY(take_partial(fold, call->info, mr_column_text(keys, row),
                                    mr_column_text(values, row), late_rows, err));
        }
    }
    return MR_OK;
}

/* Without keys the one group is there from the first batch on: count 0, the others null. */
static enum mr_status touch_global(struct fold *fold, struct mr_error *err)
{
    const char *have = NULL;
    size_t have_bytes = 0;

    if (!mr_store_get(fold->store, "", 0, &have, &have_bytes)) {
        mr_buf_clear(&fold->merged);
        if (!mr_buf_reserve(&fold->merged, fold->layout->fixed_bytes))
            return no_memory(err);
        memset(fold->merged.data, 0, fold->layout->fixed_bytes);
        MR_TRY(mr_store_put(fold->store, "", 0, fold->merged.data, fold->layout->fixed_bytes, err));
    }
    if (fold->mode == MR_MODE_UPDATE && !key_list_add(&fold->touched, "", 0))
        return no_memory(err);
    return MR_OK;
}

/* ---- expiry ---- */

struct search {
    struct fold *fold;
    int64_t watermark_us;
    int64_t least_us; /* of the groups that stay */
    bool collect;     /* false: only look for the least */
    enum mr_status status;
    struct mr_error *err;
};

static bool search_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                         void *arg)
{
    struct search *search = arg;
    struct fold *fold = search->fold;
    int64_t time_us = 0;
    bool has_time = false;

    (void)value;
    (void)value_bytes;
    search->status = event_time(fold, key, key_bytes, &has_time, &time_us, search->err);
    if (search->status != MR_OK)
        return false;
    if (!has_time)
        return true;
    if (!search->collect || time_us > search->watermark_us) {
        search->least_us = MR_MIN(search->least_us, time_us);
        return true;
    }
    char *copy = mr_arena_copy(&fold->arena, key, key_bytes);
    if (copy == NULL || !key_list_add(&fold->expired, copy, key_bytes))
        search->status = no_memory(search->err);
    return search->status == MR_OK;
}

/* Fills fold->expired, sorted. */
static enum mr_status find_expired(struct fold *fold, int64_t watermark_us, struct mr_error *err)
{
    struct search search = {fold, watermark_us, INT64_MAX, true, MR_OK, err};

    mr_store_scan(fold->store, search_entry, &search);
    MR_TRY(search.status);
    fold->least_us = search.least_us;
    fold->least_known = true;
    key_list_sort(&fold->expired);
    return MR_OK;
}

static enum mr_status expire(struct fold *fold, const struct mr_fold_call *call,
                             struct mr_error *err)
{
    int64_t watermark_us = call->info->watermark_us;

    if (fold->time_key < 0 || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return MR_OK;
    if (fold->least_known && fold->least_us > watermark_us)
        return MR_OK;
    MR_TRY(find_expired(fold, watermark_us, err));
    if (fold->mode == MR_MODE_APPEND)
        MR_TRY(emit_keys(fold, &fold->expired, call->out, err));
    for (size_t i = 0; i < fold->expired.count; i++)
        MR_TRY(mr_store_delete(fold->store, fold->expired.keys[i].data,
                               fold->expired.keys[i].size_bytes, err));
    return MR_OK;
}

/* ---- the operator ---- */

static void forget_batch(struct fold *fold)
{
    fold->touched.count = 0;
    fold->expired.count = 0;
    mr_arena_clear(&fold->arena);
}

static enum mr_status fold_batch(struct fold *fold, struct mr_fold_call *call, struct mr_error *err)
{
    uint64_t late_rows = 0;

    MR_TRY(take_input(fold, call, &late_rows, err));
    if (late_rows > 0)
        mr_output_late_rows(call->out, late_rows);
    if (fold->layout->key_count == 0)
        MR_TRY(touch_global(fold, err));
    if (!call->fires)
        return MR_OK; /* nobody would see what leaves: it stays for a batch that fires */
    if (fold->mode == MR_MODE_COMPLETE)
        return emit_store(fold, call->out, err);
    if (fold->mode == MR_MODE_UPDATE) {
        key_list_sort(&fold->touched);
        MR_TRY(emit_keys(fold, &fold->touched, call->out, err));
    }
    return expire(fold, call, err);
}

static enum mr_status fold_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct fold *fold = op;

    forget_batch(fold);
    if (fold->any_run && call->info->batch_id <= fold->last_batch_id)
        fold->least_known = false; /* run again: the state was rolled back */
    fold->any_run = true;
    fold->last_batch_id = call->info->batch_id;
    fold->last_watermark_us = call->info->watermark_us;
    enum mr_status status = fold_batch(fold, call, err);
    if (status != MR_OK) { /* the builder may hold half a row */
        mr_batch_builder_free(fold->builder);
        fold->builder = NULL;
        fold->builder_rows = 0;
    }
    return status;
}

/*
 * Uninterrupted: whenever the watermark has moved since the last run. First batch after a restart:
 * when there is something to take out, so that a run that was killed before its last empty batch
 * emits what it would have emitted.
 */
static bool fold_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct fold *fold = op;

    (void)batch_time_us;
    if (fold->time_key < 0 || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return false;
    if (fold->any_run)
        return watermark_us > fold->last_watermark_us;
    if (!fold->least_known) {
        struct search search = {fold, watermark_us, INT64_MAX, false, MR_OK, NULL};
        mr_store_scan(fold->store, search_entry, &search);
        if (search.status != MR_OK)
            return true; /* the batch will report it */
        fold->least_us = search.least_us;
        fold->least_known = true;
    }
    return fold->least_us <= watermark_us;
}

static enum mr_status fold_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct fold *fold = op;
    char *keys = NULL;
    char *values = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_agg_key_schema(fold->layout, &keys, err));
    MR_TRY_GOTO(mr_agg_value_schema(fold->layout, &values, err));
    MR_TRY_GOTO(
        mr_state_store(state, fold->state_name, "aggregate", keys, values, &fold->store, err));
    fold->any_run = false;
    fold->least_known = false;
    fold->least_us = INT64_MAX;
done:
    mr_text_free(keys);
    mr_text_free(values);
    return status;
}

static enum mr_status fold_adapt(void *op, const struct mr_store_change *change,
                                 struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    (void)op;
    return mr_agg_adapt_store(change, ret_adaption, err);
}

static struct mr_store *fold_store(void *op)
{
    return ((struct fold *)op)->store;
}

static void fold_free(void *op)
{
    struct fold *fold = op;

    if (fold == NULL)
        return;
    mr_agg_layout_free(fold->layout);
    mr_free(fold->state_name);
    mr_free(fold->touched.keys);
    mr_free(fold->expired.keys);
    mr_arena_release(&fold->arena);
    mr_buf_release(&fold->merged);
    mr_batch_builder_free(fold->builder);
    mr_free(fold);
}

static const struct mr_fold_ops fold_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "aggregate",
    .open = fold_open,
    .run = fold_run,
    .wants_batch = fold_wants_batch,
    .free = fold_free,
    .store = fold_store,
    .adapt = fold_adapt,
};

enum mr_status mr_op_aggregate_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                    struct mr_error *err)
{
    struct fold *fold = NULL;
    enum mr_status status;

    if (spec->mode == MR_MODE_APPEND && spec->event_time_key < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot append groups that may still change: group by an event time with a "
                       "watermark, or use update or complete mode");
    fold = mr_alloc_zero(NULL, sizeof(*fold));
    if (fold == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr_agg_layout_new(spec, &fold->layout, err));
    fold->mode = spec->mode;
    fold->time_key = spec->event_time_key;
    fold->time_add_us = spec->event_time_add_us;
    fold->time_is_nanos =
        spec->event_time_key >= 0 &&
        mr_schema_field(fold->layout->output, (uint32_t)spec->event_time_key)->type.id ==
            MR_TYPE_TIMESTAMP_NS;
    fold->state_name = mr_strdup(spec->state_name);
    if (fold->state_name == NULL) {
        status = no_memory(err);
        goto done;
    }
    *ret_op = (struct mr_fold_op){&fold_ops, fold, mr_schema_ref(fold->layout->output)};
    fold = NULL;
done:
    fold_free(fold);
    return status;
}
