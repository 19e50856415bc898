/*
 * Deduplication (structured.md 13): the first row of a key passes with all its columns, later ones
 * are counted and go.
 *
 *     store    key bytes: row_codec of the key columns, the event time first when it is one of them
 *              -> nothing, or expiry i64 (microseconds, little-endian) within the watermark
 *
 *     row --late? dropped and counted--> key in the store? --no--> passes
 *
 *     event time among the keys   a key leaves when the watermark reaches its time
 *     within the watermark        ... reaches the time of its first row + delay; keys that are due
 *                                 but still there count, since they leave at the end of a batch
 *     otherwise                   keys stay for ever
 *
 * "First" is the order of the input: partitions in order, rows in order; so the same plan lets the
 * same rows pass. The other columns are no part of the state and may change between runs.
 *
 * The store is searched only when the watermark has reached the least time in it; `least_us`
 * remembers that, and is forgotten when a batch is run again.
 *
 * Called by the driver of a query: open, then run once a batch, wants_batch between batches.
 * Thread: driver.
 */
#include "ops/stateful.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "data/row_codec.h"
#include "ops/ordinal.h"

#include <string.h>

enum { ENTRIES_MAX = 256, HINT_FIRST = 32, HINT_SECOND = 16 };

struct dedup {
    struct mr_schema *schema;
    uint32_t *keys; /* input columns, in the order of the key bytes */
    uint32_t key_count;
    char *state_name;
    char *key_text; /* for the manifest */
    struct mr_store *store;
    int32_t time_column; /* of the input, -1 = none */
    bool time_is_nanos;
    bool time_in_key; /* the first of the keys */
    bool within;
    int64_t time_add_us;
    int64_t delay_us;

    bool any_run; /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    bool least_known;
    int64_t least_us; /* no key in the store leaves earlier; INT64_MAX = none leaves */

    /* Of the batch being run; memory is kept. */
    uint64_t created;
    uint64_t removed;
    uint64_t duplicates;
    uint64_t late_rows;
    struct mr_buf key_bytes;
    uint32_t *rows; /* that pass, of the batch at hand */
    size_t rows_capacity;
};

/* Keys of up to MR_CHUNK_ROWS rows; late rows are left out. */
struct chunk {
    uint32_t count;
    uint32_t rows[MR_CHUNK_ROWS];
    uint32_t ends[MR_CHUNK_ROWS]; /* in key_bytes */
    uint64_t hashes[MR_CHUNK_ROWS];
    int64_t times_us[MR_CHUNK_ROWS]; /* when the key may leave, without the delay */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot remove duplicates: out of memory");
}

/* ---- times ---- */

static int64_t add_clamped(int64_t time_us, int64_t add_us)
{
    if (__builtin_add_overflow(time_us, add_us, &time_us))
        return add_us < 0 ? INT64_MIN + 1 : INT64_MAX;
    return time_us;
}

/* The time a row is judged by; false when it has none. */
static bool row_time(const struct dedup *dedup, const struct mr_column *column, int64_t row,
                     int64_t *ret_us)
{
    int64_t time;

    if (column == NULL || mr_column_is_null(column, row))
        return false;
    time = ((const int64_t *)column->values)[row];
    if (dedup->time_is_nanos)
        time = mr_floor_div(time, 1000);
    *ret_us = add_clamped(time, dedup->time_add_us);
    return true;
}

/* When an entry of the store may leave; INT64_MAX = never. */
static enum mr_status entry_time(const struct dedup *dedup, const struct mr_store_entry *entry,
                                 int64_t *ret_us, struct mr_error *err)
{
    const uint8_t *at = (const uint8_t *)entry->key;
    uint64_t time = 0;

    *ret_us = INT64_MAX;
    if (dedup->within && entry->value_bytes == sizeof(*ret_us)) {
        memcpy(ret_us, entry->value, sizeof(*ret_us));
        return MR_OK;
    }
    if (!dedup->within && entry->key_bytes > 0 && at[0] == 0)
        return MR_OK; /* a key without a time stays */
    if (dedup->within || entry->key_bytes < 9 || at[0] != 1)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot find the time of a key of '%s'; restore the checkpoint from a copy",
                       dedup->state_name);
    for (int i = 1; i <= 8; i++)
        time = time << 8 | at[i];
    int64_t time_us = (int64_t)(time ^ UINT64_C(1) << 63);
    if (dedup->time_is_nanos)
        time_us = mr_floor_div(time_us, 1000);
    *ret_us = add_clamped(time_us, dedup->time_add_us);
    return MR_OK;
}

static bool keys_leave(const struct dedup *dedup)
{
    return dedup->within || dedup->time_in_key;
}

/* ---- rows ---- */

/* Encodes and hashes the keys of the rows [from, to) that are not late. */
static enum mr_status read_keys(struct dedup *dedup, const struct mr_batch_info *info,
                                const struct mr_batch *batch, int64_t from, int64_t to,
                                struct chunk *chunk, struct mr_error *err)
{
    const struct mr_column *times =
        dedup->time_column >= 0 ? mr_batch_column(batch, (uint32_t)dedup->time_column) : NULL;

    mr_buf_clear(&dedup->key_bytes);
    chunk->count = 0;
    for (int64_t row = from; row < to; row++) {
        int64_t time_us = INT64_MAX;
        bool has_time = row_time(dedup, times, row, &time_us);

        if (has_time && info->late_watermark_us != INT64_MIN &&
            time_us <= info->late_watermark_us) {
            dedup->late_rows++;
            continue;
        }
        for (uint32_t i = 0; i < dedup->key_count; i++)
            mr_key_encode(&dedup->key_bytes, mr_batch_column(batch, dedup->keys[i]), row);
        if (dedup->key_bytes.failed || dedup->key_bytes.size > UINT32_MAX)
            return no_memory(err);
        chunk->rows[chunk->count] = (uint32_t)row;
        chunk->times_us[chunk->count] = has_time || !dedup->within ? time_us : INT64_MIN + 1;
        chunk->ends[chunk->count++] = (uint32_t)dedup->key_bytes.size;
    }
    for (uint32_t i = 0; i < chunk->count; i++) {
        uint32_t start = i == 0 ? 0 : chunk->ends[i - 1];
        chunk->hashes[i] =
            mr_store_hash(dedup->store, dedup->key_bytes.data + start, chunk->ends[i] - start);
    }
    return MR_OK;
}

/* Puts the keys into the store; rows whose key is new are added to dedup->rows. */
static enum mr_status put_keys(struct dedup *dedup, const struct chunk *chunk, size_t *pass_count,
                               struct mr_error *err)
{
    size_t value_bytes = dedup->within ? sizeof(int64_t) : 0;
    const char *bytes = dedup->key_bytes.data;

    for (uint32_t i = 0; i < chunk->count && i < HINT_FIRST; i++)
        mr_store_hint(dedup->store, chunk->hashes[i], 0);
    for (uint32_t i = 0; i < chunk->count; i++) {
        uint32_t start = i == 0 ? 0 : chunk->ends[i - 1];
        int64_t leaves_us = chunk->times_us[i];
        char *value = NULL;
        bool created = false;

        if (i + HINT_FIRST < chunk->count)
            mr_store_hint(dedup->store, chunk->hashes[i + HINT_FIRST], 0);
        if (i + HINT_SECOND < chunk->count)
            mr_store_hint(dedup->store, chunk->hashes[i + HINT_SECOND], 1);
        MR_TRY(mr_store_upsert_hashed(dedup->store, chunk->hashes[i], bytes + start,
                                      chunk->ends[i] - start, value_bytes, &value, &created, err));
        if (!created) {
            dedup->duplicates++;
            continue;
        }
        if (dedup->within) {
            leaves_us = add_clamped(leaves_us, dedup->delay_us);
            memcpy(value, &leaves_us, sizeof(leaves_us));
        }
        if (keys_leave(dedup))
            dedup->least_us = MR_MIN(dedup->least_us, leaves_us);
        dedup->created++;
        dedup->rows[(*pass_count)++] = chunk->rows[i];
    }
    return MR_OK;
}

static enum mr_status take_batch(struct dedup *dedup, struct mr_fold_call *call,
                                 const struct mr_batch *batch, struct mr_error *err)
{
    int64_t row_count = mr_batch_row_count(batch);
    struct mr_batch *passing = NULL;
    struct chunk chunk;
    size_t pass_count = 0;
    enum mr_status status;

    if ((size_t)row_count > dedup->rows_capacity) {
        uint32_t *rows = mr_realloc(NULL, dedup->rows, (size_t)row_count * sizeof(*rows));
        if (rows == NULL)
            return no_memory(err);
        dedup->rows = rows;
        dedup->rows_capacity = (size_t)row_count;
    }
    for (int64_t from = 0; from < row_count; from += MR_CHUNK_ROWS) {
        MR_TRY(read_keys(dedup, call->info, batch, from, MR_MIN(from + MR_CHUNK_ROWS, row_count),
                         &chunk, err));
        MR_TRY(put_keys(dedup, &chunk, &pass_count, err));
    }
    if (pass_count == 0)
        return MR_OK;
    if (pass_count == (size_t)row_count)
        return mr_output_emit(call->out, batch, err);
    MR_TRY(mr_batch_take(batch, dedup->rows, (int64_t)pass_count, &passing, err));
    status = mr_output_emit(call->out, passing, err);
    mr_batch_unref(passing);
    return status;
}

/* ---- expiry ---- */

/* Visits the store; removes what the watermark has reached when `removes`. Sets least_us. */
static enum mr_status search(struct dedup *dedup, int64_t watermark_us, bool removes,
                             struct mr_error *err)
{
    struct mr_store_entry entries[ENTRIES_MAX];
    int64_t least_us = INT64_MAX;

    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        uint32_t cursor = 0;
        size_t count;

        while ((count = mr_store_read_shard(dedup->store, shard, &cursor, entries, ENTRIES_MAX)) >
               0) {
            for (size_t i = 0; i < count; i++) {
                int64_t time_us = INT64_MAX;

                MR_TRY(entry_time(dedup, &entries[i], &time_us, err));
                if (!removes || time_us > watermark_us) {
                    least_us = MR_MIN(least_us, time_us);
                    continue;
                }
                MR_TRY(mr_store_delete_at(dedup->store, &entries[i], err));
                dedup->removed++;
            }
        }
    }
    dedup->least_us = least_us;
    dedup->least_known = true;
    return MR_OK;
}

static enum mr_status expire(struct dedup *dedup, int64_t watermark_us, struct mr_error *err)
{
    if (!keys_leave(dedup) || watermark_us == INT64_MIN)
        return MR_OK;
    if (dedup->least_known && dedup->least_us > watermark_us)
        return MR_OK;
    return search(dedup, watermark_us, true, err);
}

/* ---- the operator ---- */

static enum mr_status dedup_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct dedup *dedup = op;

    if (dedup->any_run && call->info->batch_id <= dedup->last_batch_id)
        dedup->least_known = false; /* run again: the state was rolled back */
    dedup->any_run = true;
    dedup->last_batch_id = call->info->batch_id;
    dedup->last_watermark_us = call->info->watermark_us;
    dedup->created = dedup->removed = dedup->duplicates = dedup->late_rows = 0;
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; call->inputs[i].present && b < call->inputs[i].batch_count; b++)
            MR_TRY(take_batch(dedup, call, call->inputs[i].batches[b], err));
    }
    if (dedup->late_rows > 0)
        mr_output_late_rows(call->out, dedup->late_rows);
    return expire(dedup, call->info->watermark_us, err);
}

/* As the aggregate fold: whenever the watermark has moved since the last run; the first time after
 * a restart, when a key is due. */
static bool dedup_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct dedup *dedup = op;

    (void)batch_time_us;
    if (dedup->time_column < 0 || watermark_us == INT64_MIN)
        return false;
    if (dedup->any_run)
        return watermark_us > dedup->last_watermark_us;
    if (!keys_leave(dedup))
        return false;
    if (!dedup->least_known && search(dedup, watermark_us, false, NULL) != MR_OK)
        return true; /* the batch will report it */
    return dedup->least_us <= watermark_us;
}

static enum mr_status dedup_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct dedup *dedup = op;

    MR_TRY(mr_state_store(state, dedup->state_name, "dedup", dedup->key_text,
                          dedup->within ? "expires TIMESTAMP" : "", &dedup->store, err));
    dedup->any_run = false;
    dedup->least_known = false;
    dedup->least_us = INT64_MAX;
    return MR_OK;
}

static void dedup_progress(void *op, struct mr_fold_progress *ret_progress)
{
    const struct dedup *dedup = op;

    ret_progress->rows_total = mr_store_count(dedup->store);
    ret_progress->rows_updated = dedup->created;
    ret_progress->rows_removed = dedup->removed;
    ret_progress->bytes = mr_store_bytes(dedup->store);
    ret_progress->store_count = 1;
    ret_progress->metrics[0] =
        (struct mr_fold_metric){"numDroppedDuplicateRows", (int64_t)dedup->duplicates};
    ret_progress->metric_count = 1;
}

static unsigned dedup_traits(void *op)
{
    return keys_leave(op) ? 0 : MR_FOLD_TIMELESS;
}

static struct mr_store *dedup_store(void *op)
{
    return ((struct dedup *)op)->store;
}

static void dedup_free(void *op)
{
    struct dedup *dedup = op;

    if (dedup == NULL)
        return;
    mr_schema_unref(dedup->schema);
    mr_free(dedup->keys);
    mr_free(dedup->state_name);
    mr_free(dedup->key_text);
    mr_buf_release(&dedup->key_bytes);
    mr_free(dedup->rows);
    mr_free(dedup);
}

static const struct mr_fold_ops dedup_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "dedup",
    .open = dedup_open,
    .run = dedup_run,
    .wants_batch = dedup_wants_batch,
    .progress = dedup_progress,
    .free = dedup_free,
    .store = dedup_store,
    .traits = dedup_traits,
};

static enum mr_status check_spec(const struct mr_dedup_spec *spec, struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(spec->input);

    if (spec->key_count == 0)
        return MR_FAIL(err, MR_CONFIG, "cannot remove duplicates without a key; name a column");
    for (uint32_t i = 0; i < spec->key_count; i++)
        if (spec->keys[i] >= column_count)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot remove duplicates by column %u: the input has %u", spec->keys[i],
                           column_count);
    if (spec->time_column < 0) {
        if (!spec->within)
            return MR_OK;
        return MR_FAIL(err, MR_CONFIG,
                       "cannot remove duplicates within the watermark: the input has none; add "
                       "WATERMARK FOR to the table");
    }
    if ((uint32_t)spec->time_column >= column_count)
        return MR_FAIL(err, MR_CONFIG, "cannot take column %d as event time: the input has %u",
                       (int)spec->time_column, column_count);
    const struct mr_field *field = mr_schema_field(spec->input, (uint32_t)spec->time_column);
    if (field->type.id != MR_TYPE_TIMESTAMP && field->type.id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG, "cannot take '%s' as event time: it must be a TIMESTAMP",
                       field->name);
    return MR_OK;
}

static const char *key_name(const struct mr_dedup_spec *spec, uint32_t index)
{
    return spec->key_identities != NULL ? spec->key_identities[index]
                                        : mr_schema_field(spec->input, spec->keys[index])->name;
}

/* Does key a come before key b in the bytes? The event time first, then by name: so their order in
 * the query means nothing. */
static bool comes_before(const struct dedup *dedup, const struct mr_dedup_spec *spec, uint32_t a,
                         uint32_t b)
{
    bool a_is_time = dedup->time_in_key && (int32_t)spec->keys[a] == spec->time_column;
    bool b_is_time = dedup->time_in_key && (int32_t)spec->keys[b] == spec->time_column;

    if (a_is_time != b_is_time)
        return a_is_time;
    return strcmp(key_name(spec, a), key_name(spec, b)) < 0;
}

/* A name as mr_schema_print writes it. */
static void add_name(struct mr_buf *out, const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz_0123456789";

    if (strspn(name, plain) == strlen(name)) {
        mr_buf_add_str(out, name);
        return;
    }
    mr_buf_add_char(out, '"');
    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '"')
            mr_buf_add_char(out, '"');
        mr_buf_add_char(out, *at);
    }
    mr_buf_add_char(out, '"');
}

/* The keys in the order of their bytes, and as text: "ts TIMESTAMP, id BIGINT". */
static enum mr_status order_keys(struct dedup *dedup, const struct mr_dedup_spec *spec,
                                 struct mr_error *err)
{
    struct mr_buf text = MR_BUF_INIT;

    for (uint32_t i = 0; i < spec->key_count; i++)
        dedup->time_in_key =
            dedup->time_in_key || (!spec->within && (int32_t)spec->keys[i] == spec->time_column);
    dedup->key_count = spec->key_count;
    for (uint32_t i = 0; i < spec->key_count; i++) {
        uint32_t at = i;

        for (; at > 0 && comes_before(dedup, spec, i, dedup->keys[at - 1]); at--)
            dedup->keys[at] = dedup->keys[at - 1];
        dedup->keys[at] = i;
    }
    for (uint32_t i = 0; i < spec->key_count; i++) {
        uint32_t column = spec->keys[dedup->keys[i]];
        char type[256];

        mr_type_print(&mr_schema_field(spec->input, column)->type, type, sizeof(type));
        if (i > 0)
            mr_buf_add_str(&text, ", ");
        add_name(&text, key_name(spec, dedup->keys[i]));
        mr_buf_printf(&text, " %s", type);
        dedup->keys[i] = column;
    }
    dedup->key_text = text.failed ? NULL : mr_strdup(text.data);
    mr_buf_release(&text);
    return dedup->key_text != NULL ? MR_OK : no_memory(err);
}

enum mr_status mr_op_dedup(const struct mr_dedup_spec *spec, struct mr_fold_op *ret_op,
                           struct mr_error *err)
{
    struct dedup *dedup = NULL;
    enum mr_status status;

    MR_TRY(check_spec(spec, err));
    dedup = mr_alloc_zero(NULL, sizeof(*dedup));
    if (dedup == NULL)
        return no_memory(err);
    dedup->schema = mr_schema_ref(spec->input);
    dedup->keys = mr_alloc(NULL, spec->key_count * sizeof(*dedup->keys));
    dedup->state_name = mr_strdup(spec->state_name);
    if (dedup->keys == NULL || dedup->state_name == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(order_keys(dedup, spec, err));
    dedup->time_column = spec->time_column;
    dedup->time_add_us = spec->time_add_us;
    dedup->within = spec->within;
    dedup->delay_us = spec->delay_us;
    dedup->time_is_nanos =
        spec->time_column >= 0 &&
        mr_schema_field(spec->input, (uint32_t)spec->time_column)->type.id == MR_TYPE_TIMESTAMP_NS;
    *ret_op = (struct mr_fold_op){&dedup_ops, dedup, mr_schema_ref(spec->input)};
    return MR_OK;
done:
    dedup_free(dedup);
    return status;
}
