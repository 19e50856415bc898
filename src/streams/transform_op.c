/*
 * transform_with_state as a fold (structured.md 16).
 *
 *     store <name>           ""  --> the first batch has been; its schemas hold the modes
 *     store <name>-timers    key --> expiry times, ascending
 *     store <name>.<var>     key --> a variable (transform.h)
 *
 *     batch   1. driver: late rows go (event time only)
 *             2. first batch: function(key, row of the initial state)
 *             3. keys with rows: function(key, rows)
 *             4. timers that the batch's time or the watermark has reached, by time, then key
 *             5. cells whose life has ended leave the stores
 *
 * Steps 2 to 5 run per partition, a range of shards; a key is in the same shard of all stores. What
 * is due is found by indexes in memory (due.h). The store of a variable that the program has no
 * longer is one that nobody asks for: core/evolution*.c tell of it, and drop it when that is
 * accepted. It is not for this file to guess by names: operators are named after their inputs, so
 * another operator's stores may begin with this one's name and a '.'.
 *
 * Thread: driver opens, begins, asks, ends; workers run partitions.
 */
#include "streams/transform.h"

#include "base/check.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a function with state: out of memory");
}

/* ---- opening ---- */

static void transform_free(void *pointer)
{
    struct transform_op *op = pointer;

    if (op == NULL)
        return;
    if (op->is_ready && op->processor->close != NULL)
        op->processor->close(op->arg);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        mr_transform_context_free(op->contexts[i]);
    for (uint32_t i = 0; op->variables != NULL && i < op->variable_count; i++) {
        mr_free(op->variables[i].name);
        mr_free(op->variables[i].store_name);
        mr_schema_unref(op->variables[i].columns);
        mr_schema_unref(op->variables[i].map_key);
        mr_due_release(&op->variables[i].due);
    }
    mr_free(op->variables);
    mr_due_release(&op->timers_due);
    mr_keyed_release(&op->keyed);
    mr_free(op);
}

static enum mr_status open_variable(struct transform_op *op, struct transform_variable *variable,
                                    struct mr_state *state, const char *key, struct mr_error *err)
{
    static const char *const kinds[] = {"transform value", "transform list", "transform map"};
    char *columns = mr_schema_print(variable->columns);
    char *map_key = variable->map_key != NULL ? mr_schema_print(variable->map_key) : NULL;
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status;

    MR_UNUSED(op);
    if (map_key != NULL)
        mr_buf_printf(&text, "%s -> ", map_key);
    mr_buf_add_str(&text, columns != NULL ? columns : "");
    if (columns == NULL || text.failed || (variable->map_key != NULL && map_key == NULL))
        status = no_memory(err);
    else
        status = mr_state_store(state, variable->store_name, kinds[variable->kind], key, text.data,
                                &variable->store, err);
    mr_text_free(columns);
    mr_text_free(map_key);
    mr_buf_release(&text);
    mr_due_forget(&variable->due);
    return status;
}

static enum mr_status open_stores(struct transform_op *op, struct mr_state *state,
                                  struct mr_error *err)
{
    static const char *const times[] = {"none", "processing time", "event time"};
    static const char *const modes[] = {"append", "update", "complete"};
    char *key = mr_keyed_print(op->keyed.key);
    char *meaning =
        mr_asprintf("time mode %s, output mode %s", times[op->time_mode], modes[op->mode]);
    char *timers = mr_asprintf("%s-timers", op->keyed.name);
    enum mr_status status;

    if (key == NULL || meaning == NULL || timers == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(mr_state_store(state, op->keyed.name, "transform", key, meaning, &op->marks, err));
    if (op->time_mode != MR_TIME_MODE_NONE)
        MR_TRY_GOTO(mr_state_store(state, timers, "transform timers", key, "expiry BIGINT[]",
                                   &op->timers, err));
    for (uint32_t i = 0; i < op->variable_count; i++)
        MR_TRY_GOTO(open_variable(op, &op->variables[i], state, key, err));
    status = MR_OK;
done:
    mr_text_free(key);
    mr_free(meaning);
    mr_free(timers);
    return status;
}

static enum mr_status transform_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct transform_op *op = pointer;

    MR_TRY(open_stores(op, state, err));
    op->any_run = false;
    mr_due_forget(&op->timers_due);
    for (uint32_t i = 0; i < op->keyed.partition_count; i++) {
        if (op->contexts[i] == NULL)
            MR_TRY(mr_transform_context_new(op, &op->contexts[i], err));
    }
    return MR_OK;
}

/* ---- a batch ---- */

/* Timers before this are due (milliseconds); INT64_MIN: none is. */
static int64_t due_before(const struct transform_op *op, int64_t watermark_us,
                          int64_t batch_time_us)
{
    if (op->time_mode == MR_TIME_MODE_PROCESSING)
        return mr_keyed_ms(batch_time_us) + 1;
    if (op->time_mode == MR_TIME_MODE_EVENT && watermark_us != INT64_MIN)
        return mr_keyed_ms(watermark_us) + 1;
    return INT64_MIN;
}

static enum mr_status empty_store(struct mr_store *store, struct mr_error *err)
{
    struct mr_store_entry entries[64];

    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        uint32_t cursor = 0;
        size_t count;

        while ((count = mr_store_read_shard(store, shard, &cursor, entries, 64)) > 0) {
            for (size_t i = 0; i < count; i++)
                MR_TRY(mr_store_delete_at(store, &entries[i], err));
        }
    }
    return MR_OK;
}

/* The first batch: also after the marks were emptied because somebody accepted a rebuild. */
static enum mr_status begin(struct transform_op *op, struct mr_error *err)
{
    for (uint32_t i = 0; i < op->variable_count; i++)
        MR_TRY(empty_store(op->variables[i].store, err));
    if (op->timers != NULL)
        MR_TRY(empty_store(op->timers, err));
    return mr__state_begin(op->marks, err);
}

static enum mr_status build_indexes(struct transform_op *op, struct mr_error *err)
{
    if (op->timers != NULL)
        MR_TRY(mr_due_build(&op->timers_due, op->timers, err));
    for (uint32_t i = 0; i < op->variable_count; i++) {
        if (op->time_mode == MR_TIME_MODE_PROCESSING)
            MR_TRY(mr_due_build(&op->variables[i].due, op->variables[i].store, err));
    }
    return MR_OK;
}

static void forget_indexes(struct transform_op *op)
{
    mr_due_forget(&op->timers_due);
    for (uint32_t i = 0; i < op->variable_count; i++)
        mr_due_forget(&op->variables[i].due);
}

static enum mr_status transform_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct transform_op *op = pointer;

    if (op->any_run && call->info->batch_id <= op->last_batch_id)
        forget_indexes(op); /* run again: the state was rolled back */
    op->any_run = true;
    op->last_batch_id = call->info->batch_id;
    op->last_watermark_us = call->info->watermark_us;
    op->late_us = call->info->late_watermark_us;
    if (!op->is_ready && op->processor->init != NULL)
        MR_TRY(op->processor->init(op->arg, err));
    op->is_ready = true;
    for (uint32_t i = 0; i < op->keyed.partition_count; i++) {
        mr_transform_forget(op->contexts[i]); /* of a batch that failed */
        op->contexts[i]->counts = (struct mr_transform_counts){0};
        op->contexts[i]->batch_id = call->info->batch_id;
    }
    MR_TRY(mr_keyed_take_batches(&op->keyed, call, err));
    op->keyed.initial_now = !mr__state_has_begun(op->marks);
    if (op->keyed.initial_now)
        MR_TRY(begin(op, err));
    return build_indexes(op, err);
}

static enum mr_status run_rows(struct mr_transform_run *run, struct mr__shards shards,
                               struct mr_error *err)
{
    const struct mr_keyed *keyed = &run->op->keyed;
    struct mr__state_rows rows = {0};
    enum mr_status status;

    if (keyed->initial_now && keyed->initial != NULL) {
        MR_TRY_GOTO(mr_keyed_initial_rows(keyed, run->op->marks, shards, &rows, err));
        MR_TRY_GOTO(mr_transform_call_initial(run, &rows, err));
        mr__state_rows_release(&rows);
    }
    MR_TRY_GOTO(mr_keyed_rows(keyed, run->op->marks, shards, &rows, err));
    status = mr_transform_call_rows(run, &rows, err);
done:
    mr__state_rows_release(&rows);
    return status;
}

/* All timers of these keys that are due. */
static enum mr_status list_timers(const struct transform_op *op, const struct mr_due_list *keys,
                                  int64_t before, struct mr_due_list *ret_timers,
                                  struct mr_error *err)
{
    for (size_t i = 0; i < keys->count; i++) {
        struct mr_due_entry entry = keys->entries[i];
        const char *value = NULL;
        size_t value_bytes = 0;

        if (!mr_store_get(op->timers, entry.key, entry.key_bytes, &value, &value_bytes))
            continue;
        for (size_t at = 0; at + sizeof(int64_t) <= value_bytes; at += sizeof(int64_t)) {
            memcpy(&entry.time, value + at, sizeof(entry.time));
            if (entry.time >= before)
                break;
            MR_TRY(mr_due_list_add(ret_timers, &entry, err));
        }
    }
    mr_due_list_sort(ret_timers);
    return MR_OK;
}

static enum mr_status run_timers(struct mr_transform_run *run, struct mr__shards shards,
                                 int64_t before, struct mr_error *err)
{
    struct transform_op *op = run->op;
    struct mr_due_list keys = {0}, timers = {0};
    enum mr_status status = MR_OK;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        MR_TRY_GOTO(mr_due_take(&op->timers_due, op->timers, shard, before, &keys, err));
    if (keys.count == 0)
        goto done;
    mr_due_list_sort(&keys);
    MR_TRY_GOTO(list_timers(op, &keys, before, &timers, err));
    MR_TRY_GOTO(mr_transform_call_timers(run, &timers, err));
    status = mr_due_settle(&op->timers_due, op->timers, &keys, err);
done:
    mr_due_list_release(&keys);
    mr_due_list_release(&timers);
    return status;
}

static enum mr_status end_variable(struct mr_transform_run *run, uint32_t index,
                                   struct mr__shards shards, struct mr_error *err)
{
    struct transform_variable *variable = &run->op->variables[index];
    struct mr_due_list keys = {0};
    enum mr_status status = MR_OK;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        MR_TRY_GOTO(mr_due_take(&variable->due, variable->store, shard,
                                run->op->keyed.batch_time_ms + 1, &keys, err));
    mr_due_list_sort(&keys);
    for (size_t i = 0; i < keys.count && status == MR_OK; i++) {
        run->at->key = keys.entries[i].key;
        run->at->key_bytes = keys.entries[i].key_bytes;
        run->at->shard =
            mr_store_shard(mr_store_hash(variable->store, run->at->key, run->at->key_bytes));
        status = mr_transform_end_cells(run->at, index, err);
        mr_transform_forget(run->at);
    }
    if (status == MR_OK)
        status = mr_due_settle(&variable->due, variable->store, &keys, err);
done:
    mr_due_list_release(&keys);
    return status;
}

static enum mr_status transform_partition(void *pointer, uint32_t partition,
                                          struct mr_fold_call *call, struct mr_error *err)
{
    struct transform_op *op = pointer;
    struct mr__shards shards = mr__shards_of(partition, call->partition_count);
    int64_t before = due_before(op, call->info->watermark_us, call->info->batch_time_us);
    struct mr_transform_run run = {.op = op, .at = op->contexts[partition], .out = call->out};
    enum mr_status status;

    MR_TRY(mr__emitter_init(&run.emitter, op->keyed.output, err));
    status = run_rows(&run, shards, err);
    if (status == MR_OK && before != INT64_MIN)
        status = run_timers(&run, shards, before, err);
    for (uint32_t i = 0;
         i < op->variable_count && status == MR_OK && op->time_mode == MR_TIME_MODE_PROCESSING; i++)
        status = end_variable(&run, i, shards, err);
    if (status == MR_OK)
        status = mr_transform_flush(&run, err);
    mr__emitter_release(&run.emitter);
    return status;
}

/* ---- between batches ---- */

static bool transform_wants_batch(void *pointer, int64_t watermark_us, int64_t batch_time_us)
{
    struct transform_op *op = pointer;
    int64_t before = due_before(op, watermark_us, batch_time_us);
    int64_t next = MR_DUE_NEVER;

    if (before == INT64_MIN)
        return false;
    if (op->time_mode == MR_TIME_MODE_EVENT && op->any_run)
        return watermark_us > op->last_watermark_us;
    if (mr_due_next(&op->timers_due, op->timers, &next, NULL) != MR_OK)
        return true; /* the batch will tell why */
    return next < before;
}

static int64_t transform_output_watermark(void *pointer, int64_t watermark_us)
{
    const struct transform_op *op = pointer;

    return op->time_mode == MR_TIME_MODE_PROCESSING ? INT64_MIN : watermark_us;
}

static uint32_t transform_partitions(void *pointer)
{
    return ((const struct transform_op *)pointer)->keyed.partition_count;
}

static struct mr_store *transform_store(void *pointer)
{
    return ((const struct transform_op *)pointer)->marks;
}

static uint64_t transform_work(void *pointer, const struct mr_fold_call *call)
{
    uint64_t bytes = 0;

    MR_UNUSED(pointer);
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; b < call->inputs[i].batch_count; b++)
            bytes += mr_batch_bytes(call->inputs[i].batches[b]);
    }
    return bytes;
}

static unsigned transform_traits(void *pointer)
{
    MR_UNUSED(pointer);
    return MR_FOLD_TRANSFORM;
}

static void add_metric(struct mr_fold_progress *progress, const char *name, uint64_t value)
{
    MR_ASSERT(progress->metric_count < MR_FOLD_METRICS_MAX);
    progress->metrics[progress->metric_count++] =
        (struct mr_fold_metric){.name = name, .value = (int64_t)value};
}

static void add_variables(const struct transform_op *op, struct mr_fold_progress *progress)
{
    static const char *const names[2][3] = {
        {"numValueStateVars", "numListStateVars", "numMapStateVars"},
        {"numValueStateWithTTLVars", "numListStateWithTTLVars", "numMapStateWithTTLVars"}};
    uint64_t counts[2][3] = {{0}};

    for (uint32_t i = 0; i < op->variable_count; i++) {
        counts[0][op->variables[i].kind]++;
        counts[1][op->variables[i].kind] += op->variables[i].ttl_ms > 0;
    }
    for (unsigned ttl = 0; ttl < 2; ttl++) {
        for (unsigned kind = 0; kind < 3; kind++)
            add_metric(progress, names[ttl][kind], counts[ttl][kind]);
    }
}

static void transform_progress(void *pointer, struct mr_fold_progress *ret_progress)
{
    const struct transform_op *op = pointer;
    struct mr_transform_counts all = {0};

    for (uint32_t i = 0; i < op->keyed.partition_count; i++) {
        const struct mr_transform_counts *one = &op->contexts[i]->counts;

        all.updated += one->updated;
        all.removed += one->removed;
        all.registered += one->registered;
        all.deleted += one->deleted;
        all.expired += one->expired;
        all.ended += one->ended;
    }
    for (uint32_t i = 0; i < op->variable_count; i++) {
        ret_progress->rows_total += mr_store_count(op->variables[i].store);
        ret_progress->bytes += mr_store_bytes(op->variables[i].store);
    }
    if (op->timers != NULL)
        ret_progress->bytes += mr_store_bytes(op->timers);
    ret_progress->rows_updated = all.updated;
    ret_progress->rows_removed = all.removed;
    ret_progress->store_count = op->variable_count + 1 + (op->timers != NULL);
    add_variables(op, ret_progress);
    add_metric(ret_progress, "numRegisteredTimers", all.registered);
    add_metric(ret_progress, "numDeletedTimers", all.deleted);
    add_metric(ret_progress, "numExpiredTimers", all.expired);
    add_metric(ret_progress, "numValuesRemovedDueToTTLExpiry", all.ended);
}

static const struct mr_fold_ops transform_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "transform with state",
    .open = transform_open,
    .run = transform_run,
    .wants_batch = transform_wants_batch,
    .output_watermark = transform_output_watermark,
    .progress = transform_progress,
    .free = transform_free,
    .store = transform_store,
    .partition_count = transform_partitions,
    .run_partition = transform_partition,
    .one_when_small = true,
    .work_bytes = transform_work,
    .traits = transform_traits,
};

/* ---- making ---- */

static bool is_name(const char *name)
{
    size_t length = name != NULL ? strlen(name) : 0;

    if (length == 0 || length > 60)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_'))
            return false;
    }
    return true;
}

static enum mr_status check_variable(const struct mr_transform_op_spec *spec, size_t index,
                                     struct mr_error *err)
{
    const struct mr_state_variable *variable = &spec->transform->variables[index];
    const char *name = variable->name;

    if (!is_name(name))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': variable %zu needs a name of letters, digits and '_'",
                       spec->keyed.name, index);
    for (size_t i = 0; i < index; i++) {
        if (strcmp(spec->transform->variables[i].name, name) == 0)
            return MR_FAIL(err, MR_CONFIG, "cannot make '%s': two variables are called '%s'",
                           spec->keyed.name, name);
    }
    if (variable->columns == NULL ||
        (variable->kind == MR_STATE_MAP) != (variable->key_column != NULL))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': variable '%s' needs columns, and key_column when it is a "
                       "map",
                       spec->keyed.name, name);
    if (variable->ttl_ms < 0 ||
        (variable->ttl_ms > 0 && spec->transform->time_mode != MR_TIME_MODE_PROCESSING))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': the lifetime of variable '%s' must be above 0 and needs "
                       "time_mode = MR_TIME_MODE_PROCESSING",
                       spec->keyed.name, name);
    return MR_OK;
}

static enum mr_status make_variable(struct transform_op *op, const struct mr_state_variable *from,
                                    struct transform_variable *variable, struct mr_error *err)
{
    struct mr_buf key = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    variable->kind = from->kind;
    variable->ttl_ms = from->ttl_ms;
    variable->name = mr_strdup(from->name);
    variable->store_name = mr_asprintf("%s.%s", op->keyed.name, from->name);
    if (variable->name == NULL || variable->store_name == NULL)
        return no_memory(err);
    MR_TRY(mr_schema_parse(from->columns, strlen(from->columns), &variable->columns, err));
    if (from->kind == MR_STATE_MAP) {
        mr_buf_printf(&key, "key %s", from->key_column);
        status = key.failed ? no_memory(err)
                            : mr_schema_parse(key.data, key.size, &variable->map_key, err);
        mr_buf_release(&key);
    }
    return status;
}

static enum mr_status find_event_time(struct transform_op *op, const char *name,
                                      struct mr_error *err)
{
    enum mr_type_id id;

    op->event_time = -1;
    if (name == NULL)
        return MR_OK;
    op->event_time = mr_schema_find(op->keyed.output, name, strlen(name));
    id = op->event_time >= 0 ? mr_schema_field(op->keyed.output, (uint32_t)op->event_time)->type.id
                             : MR_TYPE_BOOL;
    if (op->time_mode != MR_TIME_MODE_EVENT || id != MR_TYPE_TIMESTAMP)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': event_time '%s' must be a TIMESTAMP among the output "
                       "columns, with time_mode = MR_TIME_MODE_EVENT",
                       op->keyed.name, name);
    return MR_OK;
}

/* Columns of the initial state begin with those of the key. */
static enum mr_status check_initial(const struct transform_op *op, struct mr_error *err)
{
    const struct mr_schema *have;
    bool fits;

    if (op->keyed.initial == NULL)
        return MR_OK;
    have = mr_batch_schema(op->keyed.initial);
    fits = mr_schema_field_count(have) >= op->keyed.key_count;
    for (uint32_t i = 0; fits && i < op->keyed.key_count; i++)
        fits = mr_type_equal(&mr_schema_field(have, i)->type,
                             &mr_schema_field(op->keyed.key, i)->type);
    if (!fits)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot begin '%s' with this initial state; its first columns must be those "
                       "of the key",
                       op->keyed.name);
    return MR_OK;
}

static enum mr_status init(struct transform_op *op, const struct mr_transform_op_spec *spec,
                           struct mr_error *err)
{
    const struct mr_transform_spec *from = spec->transform;

    op->processor = from->processor;
    op->arg = from->arg;
    op->time_mode = from->time_mode;
    op->mode = from->mode;
    if (from->processor == NULL || from->processor->rows == NULL || from->output == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make '%s': give processor (with rows) and output in struct "
                       "mr_transform_spec",
                       spec->keyed.name);
    if (from->variable_count > MR_TRANSFORM_VARIABLES_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot make '%s': at most %d variables", spec->keyed.name,
                       MR_TRANSFORM_VARIABLES_MAX);
    MR_TRY(mr_keyed_init(&op->keyed, &spec->keyed, err));
    op->variables = mr_alloc_zero(NULL, (from->variable_count + 1) * sizeof(*op->variables));
    if (op->variables == NULL)
        return no_memory(err);
    op->variable_count = (uint32_t)from->variable_count;
    for (size_t i = 0; i < from->variable_count; i++) {
        MR_TRY(check_variable(spec, i, err));
        MR_TRY(make_variable(op, &from->variables[i], &op->variables[i], err));
    }
    MR_TRY(find_event_time(op, from->event_time, err));
    return check_initial(op, err);
}

enum mr_status mr_transform_op(const struct mr_transform_op_spec *spec, struct mr_fold_op *ret_op,
                               struct mr_error *err)
{
    struct transform_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status = op != NULL ? init(op, spec, err) : no_memory(err);

    if (status != MR_OK) {
        transform_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){&transform_ops, op, mr_schema_ref(op->keyed.output)};
    return MR_OK;
}
