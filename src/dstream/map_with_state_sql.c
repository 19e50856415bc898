/*
 * Expressions of map_with_state: "new state, mapped value" over whole columns, in rounds.
 *
 *     record   a1 b1 a2 c1 a3          round 1: a1 b1 c1   round 2: a2   round 3: a3
 *
 * The n-th record of each key is in round n, and each round sees the states that the one before
 * left, so records of one key see each other's in order. A batch takes as many rounds as the most
 * frequent key has records (in slices of 16,384 rows). What comes out is put back into the order of
 * the records.
 *
 * A null state removes the key; a mapped row of nulls is not put out. Thread: the partition's
 * worker.
 */
#include "dstream/map_with_state.h"

#include "base/check.h"

#include <millrace/ext/builder.h>

struct rounds {
    struct map_op *op;
    const struct mr__state_rows *rows;
    struct mr_fold_call *call;
    uint32_t *order;  /* records, by round, then in order of arrival */
    uint32_t *starts; /* of each round in order; round_count + 1 */
    uint32_t round_count;
    struct mr__batches results;   /* state and mapped columns, a batch each slice */
    struct mr__row_at *result_of; /* of each record */
    struct mr_buf bytes;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot map with state: out of memory");
}

/* Which record is in which round. */
static enum mr_status plan_rounds(struct rounds *rounds, struct mr_error *err)
{
    const struct mr__state_rows *rows = rounds->rows;
    uint32_t *rank = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*rank));
    uint32_t *next;

    rounds->order = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*rounds->order));
    rounds->result_of = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*rounds->result_of));
    for (uint32_t group = 0; group < rows->group_count; group++)
        rounds->round_count =
            MR_MAX(rounds->round_count, rows->starts[group + 1] - rows->starts[group]);
    rounds->starts =
        mr_alloc_zero(NULL, ((size_t)rounds->round_count + 1) * sizeof(*rounds->starts));
    next = mr_alloc_zero(NULL, ((size_t)rounds->round_count + 1) * sizeof(*next));
    if (rank == NULL || next == NULL || rounds->order == NULL || rounds->result_of == NULL ||
        rounds->starts == NULL) {
        mr_free(rank);
        mr_free(next);
        return no_memory(err);
    }
    for (uint32_t group = 0; group < rows->group_count; group++) {
        for (uint32_t i = rows->starts[group]; i < rows->starts[group + 1]; i++) {
            rank[rows->sorted[i].number] = i - rows->starts[group];
            rounds->starts[i - rows->starts[group] + 1]++;
        }
    }
    for (uint32_t round = 0; round < rounds->round_count; round++) {
        rounds->starts[round + 1] += rounds->starts[round];
        next[round] = rounds->starts[round];
    }
    for (uint32_t number = 0; number < rows->count; number++)
        rounds->order[next[rank[number]]++] = number;
    mr_free(rank);
    mr_free(next);
    return MR_OK;
}

/* ---- a slice of a round ---- */

static enum mr_status add_row(struct rounds *rounds, uint32_t number,
                              struct mr_batch_builder *builder, struct mr_error *err)
{
    struct mr__row_at at = rounds->rows->at[number];
    const struct mr_batch *batch = rounds->rows->batches[at.batch];
    size_t key_bytes;
    const char *key = mr__state_row_key(rounds->rows, number, &key_bytes);
    bool found;

    MR_TRY(mr_column_builder_copy(mr_batch_builder_column(builder, 0), mr_batch_column(batch, 0),
                                  at.row, err));
    MR_TRY(mr_column_builder_copy(mr_batch_builder_column(builder, 1), mr_batch_column(batch, 1),
                                  at.row, err));
    return mr__map_get(rounds->op, rounds->rows->hashes[number], key, key_bytes, builder, 2, &found,
                       err);
}

/* The statement over the builder's rows: as many rows of (state, mapped ...). */
static enum mr_status evaluate(struct map_op *op, struct mr_fold_call *call,
                               struct mr_batch_builder *builder, int64_t count,
                               struct mr_batch **ret_result, struct mr_error *err)
{
    struct mr__when when = {call->info->worker, call->info->batch_time_us};
    struct mr__batches results = {0};
    struct mr_batch *rows = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, count, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &rows, err));
    MR_TRY_GOTO(mr__function_run_sql(op->function, when, &rows, 1, &results, err));
    MR_TRY_GOTO(
        mr__batches_join(results.items, results.count, op->function->output, ret_result, err));
    if (mr_batch_row_count(*ret_result) != count) {
        *ret_result = mr_batch_unref(*ret_result);
        status = MR_FAIL(err, MR_USER, "the expressions must give one row per record");
    }
done:
    mr__batches_release(&results);
    mr_batch_unref(rows);
    return status;
}

static enum mr_status keep_state(struct rounds *rounds, uint32_t number,
                                 const struct mr_batch *result, int64_t row, struct mr_error *err)
{
    const struct mr_column *state = mr_batch_column(result, 0);
    int64_t time_us = rounds->call->info->batch_time_us;
    struct mr__row_at at = rounds->rows->at[number];
    size_t key_bytes;
    const char *key = mr__state_row_key(rounds->rows, number, &key_bytes);

    if (mr_column_is_null(state, row))
        return mr_store_delete(rounds->op->store, key, key_bytes, err);
    MR_TRY(mr__map_put(rounds->op, key, key_bytes, time_us, state, row, &rounds->bytes, err));
    return mr__state_check_size(rounds->op->name, rounds->rows->batches[at.batch], at.row,
                                rounds->bytes.size, time_us, err);
}

static enum mr_status run_slice(struct rounds *rounds, uint32_t from, uint32_t end,
                                struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(rounds->op->function->input, &builder, err));
    for (uint32_t i = from; i < end; i++)
        MR_TRY_GOTO(add_row(rounds, rounds->order[i], builder, err));
    MR_TRY_GOTO(evaluate(rounds->op, rounds->call, builder, end - from, &result, err));
    for (uint32_t i = from; i < end; i++) {
        rounds->result_of[rounds->order[i]] =
            (struct mr__row_at){(uint32_t)rounds->results.count, i - from};
        MR_TRY_GOTO(keep_state(rounds, rounds->order[i], result, i - from, err));
    }
    status = mr__batches_add(&rounds->results, result, err);
done:
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    return status;
}

/* ---- output ---- */

/* Appends the mapped columns of a result row, unless all are null. */
static void add_mapped(struct mr_batch_builder *builder, const struct mr_batch *result, int64_t row)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(result)) - 1;
    bool any = false;

    for (uint32_t column = 0; column < count; column++)
        any |= !mr_column_is_null(mr_batch_column(result, column + 1), row);
    if (!any)
        return;
    for (uint32_t column = 0; column < count; column++)
        mr_batch_builder_copy(builder, column, mr_batch_column(result, column + 1), row);
    mr_batch_builder_end_row(builder);
}

static enum mr_status emit_builder(struct mr_fold_call *call, struct mr_batch_builder *builder,
                                   struct mr_error *err)
{
    struct mr_batch *mapped = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_finish(builder, &mapped, err));
    status = mr_output_emit(call->out, mapped, err);
    mr_batch_unref(mapped);
    return status;
}

static enum mr_status emit_mapped(struct rounds *rounds, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(rounds->op->mapped, &builder, err));
    MR_ASSERT(rounds->rows->count == 0 || rounds->results.items != NULL);
    for (uint32_t number = 0; number < rounds->rows->count; number++) {
        struct mr__row_at at = rounds->result_of[number];

        add_mapped(builder, rounds->results.items[at.batch], at.row);
        if (mr_batch_builder_row_count(builder) == MR__STATE_CALLS)
            MR_TRY_GOTO(emit_builder(rounds->call, builder, err));
    }
    status = emit_builder(rounds->call, builder, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr__map_rounds(struct map_op *op, const struct mr__state_rows *rows,
                              struct mr_fold_call *call, struct mr_error *err)
{
    struct rounds rounds = {.op = op, .rows = rows, .call = call};
    enum mr_status status;

    MR_TRY_GOTO(plan_rounds(&rounds, err));
    for (uint32_t round = 0; round < rounds.round_count; round++) {
        for (uint32_t from = rounds.starts[round]; from < rounds.starts[round + 1];
             from += MR__STATE_CALLS)
            MR_TRY_GOTO(run_slice(&rounds, from,
                                  MR_MIN(from + MR__STATE_CALLS, rounds.starts[round + 1]), err));
    }
    status = emit_mapped(&rounds, err);
done:
    mr__batches_release(&rounds.results);
    mr_buf_release(&rounds.bytes);
    mr_free(rounds.order);
    mr_free(rounds.starts);
    mr_free(rounds.result_of);
    return status;
}

/* ---- timeouts ---- */

enum mr_status mr__map_expire_sql(struct map_op *op, const struct mr_store_entry *entries,
                                  uint32_t count, struct mr_fold_call *call, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL, *mapped = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(op->function->input, &builder, err));
    MR_TRY_GOTO(mr_batch_builder_new(op->mapped, &mapped, err));
    for (uint32_t i = 0; i < count; i++) {
        MR_TRY_GOTO(mr__key_get(entries[i].key, entries[i].key_bytes, builder, 0, err));
        MR_TRY_GOTO(mr_column_builder_null(mr_batch_builder_column(builder, 1), err));
        MR_TRY_GOTO(mr__value_get(entries[i].value + MR__TOUCHED_BYTES,
                                  entries[i].value_bytes - MR__TOUCHED_BYTES, builder, 2, err));
    }
    MR_TRY_GOTO(evaluate(op, call, builder, count, &result, err));
    for (uint32_t i = 0; i < count; i++)
        add_mapped(mapped, result, i);
    status = emit_builder(call, mapped, err);
done:
    mr_batch_builder_free(builder);
    mr_batch_builder_free(mapped);
    mr_batch_unref(result);
    return status;
}
