/*
 * One batch in one partition: search, conditions, pairs, storing, eviction (structured.md 14.3).
 *
 *     left rows    those whose filter fails leave with nulls (outer)
 *                  -> candidates among right rows of earlier batches -> ranges -> filter -> emit
 *                  -> all are stored, a semi join's matched ones not
 *     right rows   the same against all left rows; stored unless already expired
 *     eviction     expired rows of both sides, unmatched ones of an outer side with nulls
 *
 * Candidates go through in chunks, so a key with a million rows needs no memory for a million
 * pairs; what a match does to rows is done when its chunk is.
 *
 * Called by join.c. Thread: the partition's worker.
 */
#include "ops/join_internal.h"

enum {
    HINT_AHEAD = 8,
    BLOCK_BYTES = 64 * 1024, /* of texts, lists and structs in a block */
};

struct search {
    struct mr_join *join;
    struct mr_join_part *part;
    const struct mr_batch_info *info;
    struct mr_output *out;
    struct mr_error *err;
    unsigned side; /* of the rows of the batch at hand */
    size_t pair_count;
};

/* ---- columns ---- */

/* The rows that refs name, as a batch of those columns. */
static enum mr_status make_batch(struct search *s, struct mr_batch_builder *builder,
                                 const struct mr_join_column *columns, uint32_t column_count,
                                 size_t count, struct mr_batch **ret_batch)
{
    for (uint32_t i = 0; i < column_count; i++)
        MR_TRY(mr_join__gather(mr_batch_builder_column(builder, i), s->part->refs[columns[i].right],
                               count, columns[i].column, s->err));
    MR_TRY(mr_batch_builder_rows_added(builder, (int64_t)count, s->err));
    return mr_batch_builder_finish(builder, ret_batch, s->err);
}

/* Emits the first count refs. */
static enum mr_status emit(struct search *s, size_t count)
{
    const struct mr_join *join = s->join;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (count == 0)
        return MR_OK;
    if (s->part->builder == NULL)
        MR_TRY(mr_batch_builder_new(join->output, &s->part->builder, s->err));
    MR_TRY(make_batch(s, s->part->builder, join->outputs, join->output_count, count, &batch));
    status = mr_output_emit(s->out, batch, s->err);
    mr_batch_unref(batch);
    return status;
}

/* ---- candidates ---- */

/* Both sides of candidates as refs, from index `from` on, at the same places. */
static void fill_refs(struct search *s)
{
    const struct mr_join_in *ins = s->part->in[s->side].rows;

    for (size_t i = 0; i < s->pair_count; i++) {
        const struct mr_join_pair *pair = &s->part->pairs[i];

        s->part->refs[s->side][i] = (struct mr_join_ref){ins[pair->in].held, ins[pair->in].at};
        s->part->refs[!s->side][i] = mr_join__ref(s->part, !s->side, pair->other);
    }
}

static enum mr_status apply_filter(struct search *s)
{
    const struct mr_join_filter *filter = &s->join->filter;
    struct mr_batch *batch = NULL;
    size_t kept = 0;
    enum mr_status status;

    if (s->part->candidates == NULL)
        MR_TRY(mr_batch_builder_new(s->join->filter_schema, &s->part->candidates, s->err));
    fill_refs(s);
    MR_TRY(make_batch(s, s->part->candidates, filter->columns, filter->column_count, s->pair_count,
                      &batch));
    status = filter->keep(filter->arg, s->info, batch, s->part->keep, s->err);
    mr_batch_unref(batch);
    MR_TRY(status);
    for (size_t i = 0; i < s->pair_count; i++) {
        if (s->part->keep[i])
            s->part->pairs[kept++] = s->part->pairs[i];
    }
    s->pair_count = kept;
    return MR_OK;
}

/* A semi join: each left row once; those from state leave it. */
static enum mr_status emit_semi(struct search *s)
{
    struct mr_join_part *part = s->part;
    size_t count = 0;

    for (size_t i = 0; i < s->pair_count; i++) {
        struct mr_join_in *in = &part->in[s->side].rows[part->pairs[i].in];
        uint8_t *other = mr_join__flags(part, !s->side, part->pairs[i].other);

        if (s->side == 0) {
            if (in->matched)
                continue;
            in->matched = true;
            part->refs[0][count++] = (struct mr_join_ref){in->held, in->at};
            continue;
        }
        if ((*other & MR_JOIN_LEAVING) != 0)
            continue;
        *other |= MR_JOIN_LEAVING;
        MR_TRY(mr_join__list_add(&part->list, part->pairs[i].other, s->err));
        part->refs[0][count++] = mr_join__ref(part, 0, part->pairs[i].other);
    }
    return emit(s, count);
}

static enum mr_status mark_matched(struct search *s)
{
    struct mr_join_part *part = s->part;
    bool own = mr_join__preserves(s->join, s->side);
    bool other = mr_join__preserves(s->join, !s->side);

    for (size_t i = 0; i < s->pair_count; i++) {
        const struct mr_join_pair *pair = &part->pairs[i];

        if (own)
            part->in[s->side].rows[pair->in].matched = true;
        if (other && (*mr_join__flags(part, !s->side, pair->other) & MR_JOIN_MATCHED) == 0)
            MR_TRY(mr_join__set_matched(s->join, part, !s->side, pair->other, s->err));
    }
    return MR_OK;
}

static enum mr_status flush(struct search *s)
{
    enum mr_status status = MR_OK;

    if (s->pair_count == 0)
        return MR_OK;
    if (s->join->filter.keep != NULL)
        MR_TRY(apply_filter(s));
    if (s->join->type == MR_JOIN_SEMI) {
        status = emit_semi(s);
    } else {
        status = mark_matched(s);
        fill_refs(s);
        if (status == MR_OK)
            status = emit(s, s->pair_count);
    }
    s->pair_count = 0;
    return status;
}

/* Rows of the other side with the key of row `index` of the batch. */
static enum mr_status search_row(struct search *s, uint32_t index)
{
    const struct mr_join *join = s->join;
    struct mr_join_part *part = s->part;
    struct mr_join_in *in = &part->in[s->side].rows[index];
    uint32_t next;
    uint32_t key = mr_join__find_key(join, part, s->side, in);
    struct mr_join_ref refs[2];

    if (join->type != MR_JOIN_SEMI) /* whose rows leave before these are stored */
        in->key = key;
    if (key == MR_JOIN_NO_ROW)
        return MR_OK;
    refs[s->side] = (struct mr_join_ref){in->held, in->at};
    for (uint32_t row = part->keys.keys[key].head[!s->side]; row != MR_JOIN_NO_ROW; row = next) {
        next = mr_join__link(part, !s->side, row)->next;
        if (next != MR_JOIN_NO_ROW)
            __builtin_prefetch(mr_join__link(part, !s->side, next));
        refs[!s->side] = mr_join__ref(part, !s->side, row);
        if ((*mr_join__flags(part, !s->side, row) & MR_JOIN_LEAVING) != 0 ||
            (join->range_count > 0 && !mr_join__in_range(join, &refs[0], &refs[1])))
            continue;
        part->pairs[s->pair_count++] = (struct mr_join_pair){index, row};
        if (s->pair_count == MR_JOIN_CHUNK_PAIRS)
            MR_TRY(flush(s));
        if (join->type == MR_JOIN_SEMI && s->side == 0 &&
            (in->matched || join->filter.keep == NULL))
            break;
    }
    return MR_OK;
}

/* ---- steps ---- */

/* Rows of an outer side that its filter keeps from matching anything. */
static enum mr_status emit_failed(struct search *s)
{
    const struct mr_join_ins *ins = &s->part->in[s->side];
    size_t count = 0;

    if (!mr_join__preserves(s->join, s->side))
        return MR_OK;
    for (size_t i = 0; i < ins->count; i++) {
        if (ins->rows[i].fate != MR_JOIN_FAILS)
            continue;
        s->part->refs[s->side][count] = (struct mr_join_ref){ins->rows[i].held, ins->rows[i].at};
        s->part->refs[!s->side][count++] = (struct mr_join_ref){NULL, 0};
        if (count == MR_JOIN_CHUNK_PAIRS) {
            MR_TRY(emit(s, count));
            count = 0;
        }
    }
    return emit(s, count);
}

static bool has_expired(const struct search *s, const struct mr_join_in *in)
{
    int64_t time_us = mr_join__time(s->join, s->side, &s->join->expiry[s->side], in->held, in->at);
    int64_t until_us;

    if (s->info->watermark_us == INT64_MIN || time_us == MR_JOIN_NO_TIME ||
        __builtin_add_overflow(s->info->watermark_us, s->join->shift_us[s->side], &until_us))
        return false;
    return time_us <= until_us;
}

static bool is_stored(const struct search *s, const struct mr_join_in *in)
{
    if (in->fate == MR_JOIN_FAILS)
        return false;
    if (s->side == 0)
        return s->join->type != MR_JOIN_SEMI || !in->matched;
    if (!has_expired(s, in))
        return true;
    return mr_join__preserves(s->join, 1) && !in->matched;
}

/* Texts, lists and structs of a row: blocks are cut before they are large. */
static size_t text_bytes(const struct search *s, const struct mr_join_in *in)
{
    const struct mr_schema *schema = s->join->schema[s->side];
    size_t bytes = 0;

    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        enum mr_type_id id = mr_schema_field(schema, i)->type.id;

        if (mr_type_width(id) == 0 && id != MR_TYPE_BOOL)
            bytes += mr_join__value_bytes(mr_join__column(in->held, i), in->at);
    }
    return bytes;
}

static enum mr_status store_side(struct search *s)
{
    const struct mr_join_ins *ins = &s->part->in[s->side];
    bool has_texts = s->join->has_texts[s->side];
    size_t bytes = 0;
    size_t count = 0;

    for (size_t i = 0; i < ins->count; i++) {
        if (!is_stored(s, &ins->rows[i]))
            continue;
        s->part->ins[count++] = &ins->rows[i];
        if (has_texts)
            bytes += text_bytes(s, &ins->rows[i]);
        if (count < MR_JOIN_BLOCK_ROWS && bytes < BLOCK_BYTES)
            continue;
        MR_TRY(mr_join__store_rows(s->join, s->part, s->side, count, s->err));
        count = bytes = 0;
    }
    return mr_join__store_rows(s->join, s->part, s->side, count, s->err);
}

/* Left rows of a semi join that matched leave; those of this batch were never there. */
static enum mr_status settle_left(struct search *s)
{
    struct mr_join_part *part = s->part;

    for (size_t i = 0; i < part->list.count; i++) {
        if (mr_join__block(part, 0, part->list.rows[i])->run == part->run)
            part->updated--;
        else
            part->removed++;
        MR_TRY(mr_join__drop_row(s->join, part, 0, part->list.rows[i], s->err));
    }
    return MR_OK;
}

static enum mr_status run_side(struct search *s)
{
    struct mr_join_part *part = s->part;
    struct mr_join_ins *ins = &part->in[s->side];

    part->list.count = 0;
    MR_TRY(emit_failed(s));
    for (uint32_t i = 0; i < ins->count; i++) {
        for (unsigned step = 0; step < 3; step++) {
            if (i + HINT_AHEAD * (3 - step) < ins->count)
                mr_join__hint(part, s->side, ins->rows[i + HINT_AHEAD * (3 - step)].hash, step);
        }
        if (ins->rows[i].fate == MR_JOIN_SEARCHES)
            MR_TRY(search_row(s, i));
    }
    MR_TRY(flush(s));
    if (s->join->type == MR_JOIN_SEMI && s->side == 1)
        MR_TRY(settle_left(s));
    return store_side(s);
}

static enum mr_status evict(struct search *s)
{
    struct mr_join_part *part = s->part;
    bool preserves = mr_join__preserves(s->join, s->side);
    int64_t until_us;
    size_t count = 0;

    if (s->join->expiry[s->side].column < 0 || s->info->watermark_us == INT64_MIN ||
        __builtin_add_overflow(s->info->watermark_us, s->join->shift_us[s->side], &until_us))
        return MR_OK;
    MR_TRY(mr_join__expired(s->join, part, s->side, until_us, s->err));
    for (size_t i = 0; i < part->list.count && preserves; i++) {
        if ((*mr_join__flags(part, s->side, part->list.rows[i]) & MR_JOIN_MATCHED) != 0)
            continue;
        part->refs[s->side][count] = mr_join__ref(part, s->side, part->list.rows[i]);
        part->refs[!s->side][count++] = (struct mr_join_ref){NULL, 0};
        if (count == MR_JOIN_CHUNK_PAIRS) {
            MR_TRY(emit(s, count));
            count = 0;
        }
    }
    MR_TRY(emit(s, count));
    for (size_t i = 0; i < part->list.count; i++)
        MR_TRY(mr_join__drop_row(s->join, part, s->side, part->list.rows[i], s->err));
    part->removed += preserves ? 0 : part->list.count;
    return MR_OK;
}

static bool has_room(void **memory, size_t bytes)
{
    if (*memory == NULL)
        *memory = mr_alloc(NULL, bytes);
    return *memory != NULL;
}

enum mr_status mr_join__make_room(struct mr_join_part *part, struct mr_error *err)
{
    size_t pairs = MR_JOIN_CHUNK_PAIRS;
    bool ok = has_room((void **)&part->refs[0], pairs * sizeof(*part->refs[0])) &&
              has_room((void **)&part->refs[1], pairs * sizeof(*part->refs[1])) &&
              has_room((void **)&part->keep, pairs * sizeof(*part->keep)) &&
              has_room((void **)&part->pairs, pairs * sizeof(*part->pairs)) &&
              has_room((void **)&part->ins, MR_JOIN_BLOCK_ROWS * sizeof(struct mr_join_in *)) &&
              has_room((void **)&part->numbers,
                       MR_JOIN_BLOCK_ROWS * (sizeof(*part->numbers) + sizeof(bool)));

    return ok ? MR_OK : mr_join__no_memory(err);
}

enum mr_status mr_join__run_part(struct mr_join *join, struct mr_join_part *part,
                                 struct mr_fold_call *call, struct mr_error *err)
{
    struct search s = {
        .join = join, .part = part, .info = call->info, .out = call->out, .err = err};

    part->updated = 0;
    part->removed = 0;
    part->run++;
    MR_TRY(mr_join__make_room(part, err));
    for (s.side = 0; s.side < 2; s.side++)
        MR_TRY(run_side(&s));
    for (s.side = 0; s.side < 2; s.side++)
        MR_TRY(evict(&s));
    for (unsigned side = 0; side < 2; side++)
        MR_TRY(mr_join__settle(join, part, side, err));
    return MR_OK;
}
