/*
 * GROUP BY over a stream: one block becomes
 *
 *     FROM, WHERE --pre--> keys, arguments, time --window--> --partial--> --agg--> --post--> rows
 *
 *     pre     nothing or a native filter when keys and arguments are plain columns; else a
 *             statement
 *     agg     ops' fold; its state is named <view or sink>.agg
 *     post    the SELECT list and HAVING over the groups: native when they only name columns, else
 *             a statement
 *
 * Names between the steps: mr_k0.. keys, mr_a0.. arguments and results, mr_time, mr_start, mr_end.
 *
 * Thread: the planner's.
 */
#include "sql/aggregate.h"

#include "base/check.h"
#include "ops/stateful.h"

#include <stdio.h>
#include <string.h>

/* ---- The aggregation ---- */

/* Adds the end of the window as a key of its own when the list shows it. */
static enum mr_status add_end_key(struct mr_sql_block *block)
{
    struct mr_sql_key *key = &block->keys[block->key_count];

    if (block->has_window && block->window.session)
        return mr_sql__session_keys(block);
    if (!block->has_window || !block->uses_end)
        return MR_OK;
    if (block->key_count == MR_SQL_KEYS_MAX)
        return mr_sql__fail(block->p, block->query, NULL, "more than %d keys in GROUP BY",
                            MR_SQL_KEYS_MAX);
    memset(key, 0, sizeof(*key));
    snprintf(key->name, sizeof(key->name), "mr_end");
    key->column = 1;
    block->key_count++;
    return MR_OK;
}

/* The key that the watermark closes: index and what is added to it. */
static void find_event_time(const struct mr_sql_block *block, struct mr_aggregate_spec *spec)
{
    spec->event_time_key = -1;
    if (block->has_window && block->window.session) {
        mr_sql__session_time(block, spec);
        return;
    }
    for (uint32_t i = 0; i < block->key_count && spec->event_time_key < 0; i++) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(&block->input, block->keys[i].column);

        if (mark == NULL || !mark->watermarked || mark->kind == MR_SQL_MARK_WINDOW)
            continue;
        spec->event_time_key = (int32_t)i;
        spec->event_time_add_us = mark->kind == MR_SQL_MARK_START ? mark->size_us : 0;
    }
}

static enum mr_status check_mode(struct mr_sql_block *block, const struct mr_aggregate_spec *spec)
{
    struct mr_sql_planner *p = block->p;

    if (block->input.aggregated && p->mode != MR_MODE_APPEND)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, block->query, block->list,
                            "an aggregation of an aggregation needs output_mode = 'append': the "
                            "inner one would send its "
                            "changed rows again"));
    if (p->mode == MR_MODE_APPEND && spec->event_time_key < 0)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, block->query, block->list,
                            "output_mode = 'append' needs a window or column with a watermark in "
                            "GROUP BY, to know when a "
                            "row is final; add WATERMARK FOR to the table, or use output_mode = "
                            "'update' or 'complete'"));
    return MR_OK;
}

/* What update mode has sent, append mode would send again; sessions with another gap are others.
 * The rest of what the state means is in its schemas. */
static enum mr_status tell_identity(struct mr_sql_block *block,
                                    const struct mr_aggregate_spec *spec, bool is_session,
                                    struct mr_node *node)
{
    static const char *const modes[] = {"append", "update", "complete"};
    struct mr_buf text = MR_BUF_INIT;
    const char *gap = NULL;

    if (is_session && block->window.gap != NULL)
        MR_TRY(mr_sql__identity(block, block->window.gap, &gap));
    mr_buf_printf(&text, "output mode %s", modes[spec->mode]);
    if (gap != NULL)
        mr_buf_printf(&text, ", sessions with a gap of %s", gap);
    else if (is_session)
        mr_buf_printf(&text, ", sessions with a gap of %lld ms",
                      (long long)(block->window.size_us / 1000));
    mr_node_set_identity(node, text.failed ? NULL : text.data);
    mr_buf_release(&text);
    return MR_OK;
}

/* Which results stand where: the state finds its buffers in any order. */
static enum mr_status tell_results(struct mr_sql_block *block, const struct mr_aggregate_spec *spec,
                                   struct mr_node *node)
{
    struct mr_buf text = MR_BUF_INIT;
    bool failed;

    for (uint32_t i = 0; i < spec->agg_count; i++) {
        const struct mr_agg *agg = &spec->aggs[i];

        mr_buf_printf(&text, "%s%d of %u %s", i > 0 ? ", " : "", (int)agg->kind, agg->column,
                      agg->identity != NULL ? agg->identity : "");
    }
    mr_node_set_detail(node, text.data);
    failed = text.failed;
    mr_buf_release(&text);
    return failed ? mr_sql__no_memory(block->p) : MR_OK;
}

static enum mr_status add_fold(struct mr_sql_block *block, const struct mr_aggregate_spec *spec,
                               struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    struct mr_node *node = block->input.node;
    bool is_session = block->has_window && block->window.session;
    struct mr_map_op partial = {0};
    struct mr_fold_op fold = {0};
    struct mr_sql_rel parts = {0};
    enum mr_status status;

    if (is_session) {
        MR_TRY(mr_op_aggregate_partial(spec, &partial, p->err));
        status = mr_op_session_fold(spec, &fold, p->err);
        if (status != MR_OK) {
            partial.ops->free(partial.op);
            mr_schema_unref(partial.schema);
            return status;
        }
    } else {
        MR_TRY(mr_op_aggregate(spec, &partial, &fold, p->err));
    }
    status = mr_sql__add_map(p, block->query->owner, "partial", &partial, &node, 1, &parts);
    if (status != MR_OK) {
        fold.ops->free(fold.op);
        mr_schema_unref(fold.schema);
        return status;
    }
    mr_buf_printf(&p->text, "operator %s: %s, state '%s', %u keys, %u aggregates%s\n",
                  spec->state_name, is_session ? "sessions" : "aggregate", spec->state_name,
                  spec->key_count, spec->agg_count,
                  spec->event_time_key >= 0 ? ", closed by the watermark" : "");
    status = mr_graph_fold(p->graph, spec->state_name, &parts.node, 1, fold.schema, fold.ops,
                           fold.op, &rel->node, p->err);
    mr_schema_unref(fold.schema);
    MR_TRY(status);
    MR_TRY(tell_identity(block, spec, is_session, rel->node));
    MR_TRY(tell_results(block, spec, rel->node));
    rel->schema = mr_node_schema(rel->node);
    rel->aggregated = true;
    return MR_OK;
}

static uint32_t column_of(const struct mr_sql_block *block, uint32_t argument)
{
    return argument == MR_SQL_NONE ? 0 : block->arguments[argument].column;
}

/* Indexes of arguments become columns. */
static enum mr_status describe_agg(struct mr_sql_block *block, const struct mr_sql_agg *agg,
                                   struct mr_agg *ret_agg)
{
    struct mr_agg_order *orders =
        mr_arena_alloc(&block->p->arena, (agg->order_count + 1) * sizeof(*orders));

    if (orders == NULL)
        return mr_sql__no_memory(block->p);
    for (uint32_t i = 0; i < agg->order_count; i++) {
        orders[i] = agg->orders[i];
        orders[i].column = column_of(block, agg->orders[i].column);
    }
    *ret_agg = (struct mr_agg){.kind = agg->kind,
                               .column = column_of(block, agg->argument),
                               .name = agg->name,
                               .identity = agg->identity,
                               .other = column_of(block, agg->other),
                               .has_filter = agg->filter != MR_SQL_NONE,
                               .filter = column_of(block, agg->filter),
                               .fraction = agg->fraction,
                               .limit = agg->limit,
                               .user = agg->user,
                               .orders = orders,
                               .order_count = agg->order_count};
    return MR_OK;
}

/* What the keys mean, for the checkpoint: the same for the same meaning. */
static enum mr_status name_keys(struct mr_sql_block *block, const char **identities)
{
    struct mr_sql_planner *p = block->p;
    struct mr_buf text = MR_BUF_INIT;
    const char *time = "";

    for (uint32_t i = 0; i < block->key_count; i++) {
        mr_buf_clear(&text);
        if (block->set_count > 0 && i == block->set_key) {
            mr_buf_add_str(&text, "grouping sets");
            for (uint32_t k = 0; k < block->set_count; k++)
                mr_buf_printf(&text, " %llx", (unsigned long long)block->sets[k]);
        } else if (block->keys[i].expr != NULL) {
            MR_TRY(mr_sql__identity(block, block->keys[i].expr, &identities[i]));
            continue;
        } else {
            MR_TRY(mr_sql__identity(block, block->window.time, &time));
            mr_buf_printf(&text, "window(%s, %lld, %lld, %lld).%s", time,
                          (long long)block->window.size_us, (long long)block->window.slide_us,
                          (long long)block->window.offset_us,
                          strcmp(block->keys[i].name, "mr_end") == 0 ? "end" : "start");
        }
        identities[i] = text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
        if (identities[i] == NULL)
            break;
    }
    bool failed = text.failed;
    mr_buf_release(&text);
    return failed ? mr_sql__no_memory(p) : MR_OK;
}

/* The key of a grouping set without keys, which has a row even without input: all null but the
 * number of the set (data/row_codec.h). */
static enum mr_status add_empty_sets(struct mr_sql_block *block, struct mr_aggregate_spec *spec)
{
    struct mr_slice *always =
        mr_arena_alloc(&block->p->arena, (block->set_count + 1) * sizeof(*always));

    if (always == NULL)
        return mr_sql__no_memory(block->p);
    spec->always = always;
    for (uint32_t set = 0; set < block->set_count; set++) {
        char key[MR_SQL_KEYS_MAX + 4] = {0};
        const char *copy;

        if (block->sets[set] != 0)
            continue;
        key[block->set_key] = 1;
        key[block->set_key + 1] = (char)0x80; /* INTEGER, big-endian, sign flipped */
        key[block->set_key + 3] = (char)(set >> 8);
        key[block->set_key + 4] = (char)set;
        copy = mr_arena_copy(&block->p->arena, key, block->key_count + 4);
        if (copy == NULL)
            return mr_sql__no_memory(block->p);
        always[spec->always_count++] = (struct mr_slice){copy, block->key_count + 4};
    }
    return MR_OK;
}

static enum mr_status plan_fold(struct mr_sql_block *block, struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    uint32_t columns[MR_SQL_KEYS_MAX] = {0};
    const char *names[MR_SQL_KEYS_MAX];
    const char *identities[MR_SQL_KEYS_MAX];
    struct mr_agg *aggs = mr_arena_alloc(&p->arena, (block->agg_count + 1) * sizeof(*aggs));
    struct mr_aggregate_spec spec = {.input = block->input.schema,
                                     .keys = columns,
                                     .key_names = names,
                                     .key_identities = identities,
                                     .aggs = aggs,
                                     .agg_count = block->agg_count,
                                     .mode = p->mode};
    enum mr_status status;

    if (aggs == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(add_end_key(block));
    spec.key_count = block->key_count;
    for (uint32_t i = 0; i < block->key_count; i++) {
        columns[i] = block->keys[i].column;
        names[i] = block->keys[i].name;
    }
    for (uint32_t i = 0; i < block->agg_count; i++)
        MR_TRY(describe_agg(block, &block->aggs[i], &aggs[i]));
    MR_TRY(name_keys(block, identities));
    MR_TRY(add_empty_sets(block, &spec));
    find_event_time(block, &spec);
    MR_TRY(check_mode(block, &spec));
    spec.state_name = mr_sql__node_name(p, block->query->owner, "agg");
    if (spec.state_name == NULL)
        return mr_sql__no_memory(p);
    memset(rel, 0, sizeof(*rel));
    if (spec.event_time_key >= 0 && p->mode != MR_MODE_COMPLETE)
        MR_TRY(mr_sql__late_split(p, block->query, block->node, spec.state_name, &block->input,
                                  columns[spec.event_time_key], spec.event_time_add_us,
                                  mr_sql__late_names(p, block->input.schema), &block->input));
    status = add_fold(block, &spec, rel);
    if (status == MR_CONFIG) /* a type that cannot be added up, and the like */
        status = p->err->status = MR_SQL_ERROR;
    if (status != MR_OK)
        return mr_error_place(p->err, p->script->text, block->query->at, status);
    for (uint32_t i = 0; i < block->key_count && rel->mark_count < MR_SQL_MARKS_MAX; i++) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(&block->input, block->keys[i].column);

        if (mark == NULL)
            continue;
        rel->marks[rel->mark_count] = *mark;
        rel->marks[rel->mark_count++].column = i;
    }
    return MR_OK;
}

/* ---- The steps ---- */

static enum mr_status plan_block(struct mr_sql_block *block, struct mr_sql_rel *rel)
{
    struct mr_json *having = mr_json_get(block->node, "having");
    struct mr_json *modifiers = mr_json_get(block->node, "modifiers");
    struct mr_sql_rel groups;

    MR_TRY(mr_sql__name_items(block));
    MR_TRY(mr_sql__read_groups(block));
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next)
        MR_TRY(mr_sql__rewrite(block, item, false));
    MR_TRY(mr_sql__rewrite(block, having, true));
    for (struct mr_json *one = modifiers != NULL ? modifiers->first : NULL; one != NULL;
         one = one->next) {
        if (mr_sql__type_is(one, "ORDER_MODIFIER"))
            MR_TRY(mr_sql__rewrite(block, mr_json_get(one, "orders"), true));
    }
    MR_TRY(mr_sql__plan_agg_input(block));
    MR_TRY(plan_fold(block, &groups));
    return mr_sql__plan_agg_output(block, &groups, rel);
}

enum mr_status mr_sql__plan_aggregate(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, struct mr_sql_from *from,
                                      struct mr_sql_rel **ret_rel)
{
    struct mr_sql_block *block = mr_arena_alloc(&p->arena, sizeof(*block));
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));

    if (block == NULL || rel == NULL)
        return mr_sql__no_memory(p);
    memset(block, 0, sizeof(*block));
    memset(rel, 0, sizeof(*rel));
    block->p = p;
    block->query = query;
    block->node = node;
    block->list = mr_json_get(node, "select_list");
    block->from = from;
    block->window_alias = "";
    MR_TRY(plan_block(block, rel));
    *ret_rel = rel;
    return MR_OK;
}
