/*
 * One join of two streams: the operator. What it keeps of each side, what comes out, conditions by
 * statement, where late rows go.
 *
 * Called by join_pair.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

/* ---- The operator ---- */

/* A column of the state: marks in need. */
static bool need(struct mr_sql_pair *pair, unsigned side, bool *needed, const char *name)
{
    const struct mr_schema *schema = pair->sides[side].rel.schema;
    int32_t column = name != NULL ? mr_schema_find(schema, name, strlen(name)) : -1;

    if (column >= 0)
        needed[column] = true;
    return column >= 0;
}

static void need_rest(struct mr_sql_pair *pair, unsigned side, bool *needed,
                      const struct mr_json *expr)
{
    uint32_t leaf, column;
    size_t rest;

    if (expr == NULL)
        return;
    if (mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest))
        (void)need(pair, side, needed, pair->joins->leaves[leaf].names[column]);
    for (const struct mr_json *child = expr->first; child != NULL; child = child->next)
        need_rest(pair, side, needed, child);
}

/* Is a column wanted behind the join? */
static bool is_wanted(const struct mr_sql_pair *pair, unsigned side, const char *name)
{
    const struct mr_sql_joins *joins = pair->joins;

    if (pair->type == MR_JOIN_SEMI && side == 1)
        return false;
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((pair->sides[side].leaves >> i & 1) == 0)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            if (leaf->uses[c] > 0 && strcmp(leaf->names[c], name) == 0)
                return true;
        }
    }
    return false;
}

/* ON LATE INTO: rows that the join would drop go to a table, under their own names; what they alone
 * need ends here. Behind another join the watermark of a side is not the join's. */
enum mr_status mr_sql__pair_late(struct mr_sql_pair *pair, unsigned side)
{
    struct mr_sql_joins *joins = pair->joins;
    struct mr_sql_rel *rel = &pair->sides[side].rel;
    uint32_t count = mr_schema_field_count(rel->schema);
    const char **names = mr_arena_alloc(&pair->p->arena, (count + 1) * sizeof(*names));
    const struct mr_sql_mark *mark =
        pair->time_names[side] != NULL ? mr_sql__mark_named(rel, pair->time_names[side]) : NULL;
    uint64_t both = pair->sides[0].leaves | pair->sides[1].leaves;

    if (names == NULL)
        return mr_sql__no_memory(pair->p);
    if (mark == NULL)
        return MR_OK;
    if (__builtin_popcountll(both) > 2 || mr_node_moves_watermark(pair->sides[0].rel.node) ||
        mr_node_moves_watermark(pair->sides[1].rel.node))
        return mr_sql__late_refuse(
            pair->p, joins->query, joins->select,
            "ON LATE INTO is for a join of two tables: here a side is made by another join or a "
            "function with state, which pass the watermark on later than it came; join two tables "
            "in a subquery and put the clause at the end of that, or leave it out to drop late "
            "rows");
    memset(names, 0, (count + 1) * sizeof(*names));
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((pair->sides[side].leaves >> i & 1) == 0)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            int32_t column = mr_schema_find(rel->schema, leaf->names[c], strlen(leaf->names[c]));

            if (column >= 0)
                names[column] = mr_schema_field(leaf->schema, c)->name;
        }
    }
    return mr_sql__late_split(pair->p, joins->query, joins->select, pair->state_name, rel,
                              mark->column, mark->kind == MR_SQL_MARK_START ? mark->size_us : 0,
                              names, rel);
}

/* Only what the join needs of a side goes into its state. */
enum mr_status mr_sql__pair_narrow(struct mr_sql_pair *pair, unsigned side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_sql_rel input = pair->sides[side].rel;
    uint32_t count = mr_schema_field_count(input.schema);
    bool *needed = mr_arena_alloc(&p->arena, count + 1);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*names));
    uint32_t used = 0;

    if (needed == NULL || columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    memset(needed, 0, count + 1);
    for (uint32_t i = 0; i < pair->key_count; i++)
        (void)need(pair, side, needed, pair->keys[i].names[side]);
    for (uint32_t i = 0; i < pair->bound_count; i++)
        (void)need(pair, side, needed, side == 0 ? pair->bounds[i].left : pair->bounds[i].right);
    for (uint32_t i = 0; i < pair->rest_count; i++)
        need_rest(pair, side, needed, pair->rest[i]);
    (void)need(pair, side, needed, pair->pass_names[side]);
    (void)need(pair, side, needed, pair->time_names[side]);
    (void)need(pair, side, needed, pair->expiry_names[side]);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(input.schema, i)->name;

        if (!needed[i] && !is_wanted(pair, side, name))
            continue;
        columns[used] = i;
        names[used++] = name;
    }
    return mr_sql__add_project(p, pair->joins->query->owner, &input, columns, names, used,
                               &pair->sides[side].rel);
}

static int32_t column_at(const struct mr_sql_pair *pair, unsigned side, const char *name)
{
    return name != NULL ? mr_schema_find(pair->sides[side].rel.schema, name, strlen(name)) : -1;
}

static enum mr_status fill_side(struct mr_sql_pair *pair, unsigned side,
                                struct mr_join_side *ret_side)
{
    const struct mr_sql_rel *rel = &pair->sides[side].rel;
    uint32_t *keys = mr_arena_alloc(&pair->p->arena, pair->key_count * sizeof(*keys));
    const struct mr_sql_mark *mark =
        pair->time_names[side] != NULL ? mr_sql__mark_named(rel, pair->time_names[side]) : NULL;

    if (keys == NULL)
        return mr_sql__no_memory(pair->p);
    for (uint32_t i = 0; i < pair->key_count; i++)
        keys[i] = (uint32_t)column_at(pair, side, pair->keys[i].names[side]);
    *ret_side = (struct mr_join_side){.schema = rel->schema,
                                      .keys = keys,
                                      .pass_column = column_at(pair, side, pair->pass_names[side]),
                                      .event = {.column = -1, .field = -1},
                                      .expiry = pair->expiry[side],
                                      .expiry_shift_us = pair->shift_us[side]};
    ret_side->expiry.column = column_at(pair, side, pair->expiry_names[side]);
    if (mark != NULL)
        ret_side->event =
            mr_sql__pair_time_of(mark, &mr_schema_field(rel->schema, mark->column)->type);
    return MR_OK;
}

/* Columns behind the join, left ones first. */
static enum mr_status list_outputs(struct mr_sql_pair *pair, struct mr_join_column **ret_columns,
                                   uint32_t *ret_count)
{
    uint32_t counts[2] = {mr_schema_field_count(pair->sides[0].rel.schema),
                          mr_schema_field_count(pair->sides[1].rel.schema)};
    struct mr_join_column *columns =
        mr_arena_alloc(&pair->p->arena, (counts[0] + counts[1] + 1) * sizeof(*columns));
    uint32_t used = 0;

    if (columns == NULL)
        return mr_sql__no_memory(pair->p);
    for (unsigned side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < counts[side]; i++) {
            const char *name = mr_schema_field(pair->sides[side].rel.schema, i)->name;

            if (is_wanted(pair, side, name))
                columns[used++] = (struct mr_join_column){side == 1, i, name};
        }
    }
    if (used == 0) /* count(*) alone */
        columns[used++] =
            (struct mr_join_column){false, 0, mr_schema_field(pair->sides[0].rel.schema, 0)->name};
    *ret_columns = columns;
    *ret_count = used;
    return MR_OK;
}

static enum mr_status schema_of(struct mr_sql_pair *pair, const struct mr_join_column *columns,
                                uint32_t count, struct mr_schema **ret_schema)
{
    struct mr_field *fields = mr_arena_alloc(&pair->p->arena, (count + 1) * sizeof(*fields));

    if (fields == NULL)
        return mr_sql__no_memory(pair->p);
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = *mr_schema_field(pair->sides[columns[i].right].rel.schema, columns[i].column);
        fields[i].name = columns[i].name;
    }
    return mr_schema_new(fields, count, ret_schema, pair->p->err);
}

/* The conditions that are left, as a statement over pairs. */
static enum mr_status make_filter(struct mr_sql_pair *pair, struct mr_join_filter *ret_filter)
{
    struct mr_sql_planner *p = pair->p;
    uint32_t counts[2] = {mr_schema_field_count(pair->sides[0].rel.schema),
                          mr_schema_field_count(pair->sides[1].rel.schema)};
    struct mr_join_column *columns =
        mr_arena_alloc(&p->arena, (counts[0] + counts[1] + 1) * sizeof(*columns));
    struct mr_schema *schema = NULL;
    struct mr_buf sql = MR_BUF_INIT;
    uint32_t used = 0;
    enum mr_status status = MR_OK;

    if (columns == NULL)
        return mr_sql__no_memory(p);
    for (unsigned side = 0; side < 2; side++) {
        bool *needed = mr_arena_alloc(&p->arena, counts[side] + 1);

        if (needed == NULL)
            return mr_sql__no_memory(p);
        memset(needed, 0, counts[side] + 1);
        for (uint32_t i = 0; i < pair->rest_count; i++)
            need_rest(pair, side, needed, pair->rest[i]);
        for (uint32_t i = 0; i < counts[side]; i++) {
            if (needed[i])
                columns[used++] = (struct mr_join_column){
                    side == 1, i, mr_schema_field(pair->sides[side].rel.schema, i)->name};
        }
    }
    if (used == 0)
        columns[used++] =
            (struct mr_join_column){false, 0, mr_schema_field(pair->sides[0].rel.schema, 0)->name};
    mr_buf_add_str(&sql, "SELECT CAST(coalesce(");
    for (uint32_t i = 0; i < pair->rest_count && status == MR_OK; i++) {
        const char *text = "";

        status = mr_sql__expression_text(p, pair->rest[i], &text);
        mr_buf_printf(&sql, "%s(%s)", i > 0 ? " AND " : "", text);
    }
    mr_buf_add_str(&sql, ", false) AS BOOLEAN) AS keep FROM mr_input_0 AS " MR_SQL_JOINED);
    if (status == MR_OK)
        status = sql.failed ? mr_sql__no_memory(p) : schema_of(pair, columns, used, &schema);
    if (status == MR_OK) {
        status = mr_sql__pair_filter(p->engine, sql.data, schema, ret_filter, p->err);
        if (status != MR_OK)
            mr_sql__place_printed(p, pair->joins->query, sql.data);
    }
    mr_schema_unref(schema);
    mr_buf_release(&sql);
    ret_filter->columns = columns;
    ret_filter->column_count = used;
    return status;
}

static enum mr_status fill_ranges(struct mr_sql_pair *pair, struct mr_join_range *ranges,
                                  uint32_t *ret_count)
{
    *ret_count = 0;
    for (uint32_t i = 0; i < pair->bound_count; i++) {
        const struct mr_sql_bound *bound = &pair->bounds[i];

        if (!bound->exact)
            continue;
        ranges[(*ret_count)++] =
            (struct mr_join_range){.left = (uint32_t)column_at(pair, 0, bound->left),
                                   .right = (uint32_t)column_at(pair, 1, bound->right),
                                   .compare = bound->compare,
                                   .add = bound->add};
    }
    return MR_OK;
}

static void describe(const struct mr_sql_pair *pair, const char *name, bool by_key)
{
    mr_buf_printf(&pair->p->text, "operator %s: %s join, state '%s', %u keys%s%s\n", name,
                  mr_sql__pair_name(pair->type), name, pair->key_count,
                  by_key || pair->expiry_names[0] != NULL || pair->expiry_names[1] != NULL
                      ? ", rows leave by the watermark"
                      : ", rows stay for ever",
                  pair->rest_count > 0 ? ", conditions by statement" : "");
}

/* The ranges and other conditions, behind the keys: ", a.ts >= b.ts + -5000000, a.v < b.v". */
static enum mr_status add_conditions(struct mr_sql_pair *pair, struct mr_buf *text)
{
    static const char *const words[] = {"=", "<>", "<", "<=", ">", ">="};
    const char *rest = "";
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < pair->bound_count; i++) {
        const struct mr_sql_bound *bound = &pair->bounds[i];

        mr_buf_printf(text, ", %s %s %s + %lld%s", bound->left, words[bound->compare], bound->right,
                      (long long)bound->add, bound->is_time ? " us" : "");
    }
    for (uint32_t i = 0; i < pair->rest_count && status == MR_OK; i++) {
        status = mr_sql__expression_text(pair->p, pair->rest[i], &rest);
        mr_buf_printf(text, ", %s", rest);
    }
    return status;
}

/*
 * What the rows kept mean beyond their columns. An inner join does not keep what has matched, which
 * an outer one needs to know; keys that are expressions, and whether a row may match, are columns
 * made before they are kept. Whether a row of an outer join has matched was found out with its
 * other conditions; an inner or semi join only goes on with new ones, which is told.
 */
static enum mr_status tell_identity(struct mr_sql_pair *pair, enum mr_join_type type,
                                    struct mr_node *node)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr_buf conditions = MR_BUF_INIT;
    const char *exprs[2] = {"", ""};
    bool is_outer = type != MR_JOIN_INNER && type != MR_JOIN_SEMI;
    enum mr_status status = MR_OK;

    mr_buf_printf(&text, "%s join", mr_sql__pair_name(type));
    for (uint32_t i = 0; i < pair->key_count && status == MR_OK; i++) {
        const struct mr_sql_pair_key *key = &pair->keys[i];

        if (strncmp(key->names[0], "mr_key_", 7) != 0 && strncmp(key->names[1], "mr_key_", 7) != 0)
            continue;
        for (unsigned side = 0; side < 2 && status == MR_OK; side++)
            status = mr_sql__expression_text(pair->p, key->exprs[side], &exprs[side]);
        mr_buf_printf(&text, ", %s = %s", exprs[0], exprs[1]);
    }
    for (unsigned side = 0; side < 2 && status == MR_OK; side++) {
        if (pair->pass[side] == NULL)
            continue;
        status = mr_sql__expression_text(pair->p, pair->pass[side], &exprs[side]);
        mr_buf_printf(&text, ", if %s", exprs[side]);
    }
    if (status == MR_OK)
        status = add_conditions(pair, is_outer ? &text : &conditions);
    if (text.failed || conditions.failed)
        status = mr_sql__no_memory(pair->p);
    if (status == MR_OK) {
        mr_node_set_identity(node, text.data);
        if (!is_outer)
            mr_node_set_meaning(node, conditions.size > 2 ? conditions.data + 2 : NULL);
    }
    mr_buf_release(&text);
    mr_buf_release(&conditions);
    return status;
}

static enum mr_status add_node(struct mr_sql_pair *pair, const struct mr_join_spec *spec,
                               struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_node *inputs[2] = {pair->sides[0].rel.node, pair->sides[1].rel.node};
    struct mr_sql_rel rel = {.aggregated =
                                 pair->sides[0].rel.aggregated || pair->sides[1].rel.aggregated};
    struct mr_fold_op op;
    enum mr_status status;

    MR_TRY(mr_op_join(spec, &op, p->err));
    status = mr_graph_fold(p->graph, spec->state_name, inputs, 2, op.schema, op.ops, op.op,
                           &rel.node, p->err);
    mr_schema_unref(op.schema);
    MR_TRY(status);
    MR_TRY(tell_identity(pair, spec->type, rel.node));
    rel.schema = mr_node_schema(rel.node);
    for (unsigned side = 0; side < 2; side++) {
        const struct mr_sql_rel *from = &pair->sides[side].rel;

        for (uint32_t i = 0; i < from->mark_count && rel.mark_count < MR_SQL_MARKS_MAX; i++) {
            const char *name = mr_schema_field(from->schema, from->marks[i].column)->name;
            int32_t column = mr_schema_find(rel.schema, name, strlen(name));

            if (column < 0)
                continue;
            rel.marks[rel.mark_count] = from->marks[i];
            rel.marks[rel.mark_count++].column = (uint32_t)column;
        }
    }
    ret_side->leaves = pair->sides[0].leaves | pair->sides[1].leaves;
    ret_side->rel = rel;
    return MR_OK;
}

enum mr_status mr_sql__pair_node(struct mr_sql_pair *pair, bool by_key,
                                 struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_join_spec spec = {.type = pair->type, .key_count = pair->key_count};
    struct mr_join_range ranges[MR_SQL_RANGES_MAX];
    struct mr_join_filter filter;
    struct mr_join_column *outputs = NULL;
    bool *null_equal = mr_arena_alloc(&p->arena, pair->key_count);

    spec.state_name = pair->state_name;
    if (null_equal == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < pair->key_count; i++)
        null_equal[i] = pair->keys[i].null_equal;
    MR_TRY(fill_side(pair, 0, &spec.left));
    MR_TRY(fill_side(pair, 1, &spec.right));
    MR_TRY(fill_ranges(pair, ranges, &spec.range_count));
    MR_TRY(list_outputs(pair, &outputs, &spec.output_count));
    spec.null_equal = null_equal;
    spec.ranges = ranges;
    spec.outputs = outputs;
    if (pair->rest_count > 0) {
        MR_TRY(make_filter(pair, &filter));
        spec.filter = &filter;
    }
    describe(pair, spec.state_name, by_key);
    return add_node(pair, &spec, ret_side);
}
