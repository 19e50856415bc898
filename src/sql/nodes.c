/*
 * Operators of the graph for rows of a query: their names, and the plain ones (filter, project,
 * statements of DuckDB, casts to the columns of a table). Called by all files that plan blocks.
 *
 * A name is owner.what, with a number when there is one already; state and progress know operators
 * by it, so the order in which a script is planned must not change.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

/* ---- Nodes ---- */

static bool name_is_taken(const struct mr_sql_planner *p, const char *text)
{
    for (const struct mr_sql_name *one = p->names; one != NULL; one = one->next) {
        if (strcmp(one->text, text) == 0)
            return true;
    }
    return false;
}

/* The highest number that this owner's nodes of this kind have, so that the next one is found at
 * once. */
static unsigned last_number(const struct mr_sql_planner *p, const char *owner, const char *what)
{
    unsigned last = 0;

    for (const struct mr_sql_name *one = p->names; one != NULL; one = one->next) {
        if (one->number > last && strcmp(one->what, what) == 0 && strcmp(one->owner, owner) == 0)
            last = one->number;
    }
    return last;
}

const char *mr_sql__node_name(struct mr_sql_planner *p, const char *owner, const char *what)
{
    struct mr_sql_name *name = mr_arena_alloc(&p->arena, sizeof(*name));
    struct mr_buf text = MR_BUF_INIT;

    if (name == NULL)
        return NULL;
    *name = (struct mr_sql_name){
        .owner = owner, .what = what, .number = last_number(p, owner, what), .next = p->names};
    do {
        name->number++;
        mr_buf_clear(&text);
        mr_buf_printf(&text, name->number > 1 ? "%s.%s%u" : "%s.%s", owner, what, name->number);
    } while (!text.failed && name_is_taken(p, text.data));
    name->text = text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
    mr_buf_release(&text);
    if (name->text == NULL)
        return NULL;
    p->names = name;
    p->name_count++;
    return name->text;
}

enum mr_status mr_sql__add_map(struct mr_sql_planner *p, const char *owner, const char *what,
                               struct mr_map_op *op, struct mr_node *const *inputs,
                               size_t input_count, struct mr_sql_rel *ret_rel)
{
    const char *name = mr_sql__node_name(p, owner, what);
    struct mr_node *node = NULL;
    enum mr_status status;

    if (p->name_count > MR_SQL_NODES_MAX) {
        op->ops->free(op->op);
        status = MR_FAIL(p->err, MR_LIMIT,
                         "this pipeline has more than %d operators; make several of it",
                         MR_SQL_NODES_MAX);
    } else if (name == NULL) {
        op->ops->free(op->op);
        status = mr_sql__no_memory(p);
    } else {
        mr_buf_printf(&p->text, "operator %s: %s\n", name, op->ops->kind);
        status = mr_graph_map(p->graph, name, inputs, input_count, op->schema, op->ops, op->op,
                              &node, p->err);
    }
    mr_schema_unref(op->schema);
    MR_TRY(status);
    MR_ASSERT(node != NULL);
    ret_rel->node = node;
    ret_rel->schema = mr_node_schema(node);
    return MR_OK;
}

static enum mr_status add_whole(struct mr_sql_planner *p, const char *owner, struct mr_fold_op *op,
                                struct mr_node *input, struct mr_sql_rel *ret_rel)
{
    const char *name = mr_sql__node_name(p, owner, "whole");
    struct mr_node *node = NULL;
    enum mr_status status;

    if (name == NULL) {
        op->ops->free(op->op);
        status = mr_sql__no_memory(p);
    } else {
        mr_buf_printf(&p->text, "operator %s: %s\n", name, op->ops->kind);
        status =
            mr_graph_fold(p->graph, name, &input, 1, op->schema, op->ops, op->op, &node, p->err);
    }
    mr_schema_unref(op->schema);
    MR_TRY(status);
    MR_ASSERT(node != NULL);
    ret_rel->node = node;
    ret_rel->schema = mr_node_schema(node);
    return MR_OK;
}

enum mr_status mr_sql__add_statement(struct mr_sql_planner *p, struct mr_sql_query *query,
                                     const struct mr_sql_from *from, const char *sql, bool whole,
                                     struct mr_sql_rel *ret_rel)
{
    struct mr_sql_input inputs[MR_SQL_INPUTS_MAX];
    struct mr_sql_map_spec spec = {
        .engine = p->engine, .sql = sql, .inputs = inputs, .input_count = from->count};
    const struct mr_sql_rel *stream = from->leaves[from->stream].rel;
    bool aggregated = stream->aggregated;
    struct mr_node *node = stream->node;
    struct mr_fold_op fold;
    struct mr_map_op op;
    enum mr_status status;

    for (uint32_t i = 0; i < from->count; i++)
        inputs[i] = (struct mr_sql_input){from->leaves[i].input, from->leaves[i].schema,
                                          from->leaves[i].rows};
    status = whole ? mr_sql__whole_new(&spec, &fold, p->err) : mr_sql__map_new(&spec, &op, p->err);
    if (status != MR_OK) {
        mr_sql__place_printed(p, query, sql);
        return status;
    }
    memset(ret_rel, 0, sizeof(*ret_rel));
    ret_rel->aggregated = aggregated;
    if (whole)
        MR_TRY(add_whole(p, query->owner, &fold, node, ret_rel));
    else
        MR_TRY(mr_sql__add_map(p, query->owner, "sql", &op, &node, 1, ret_rel));
    mr_node_set_meaning(ret_rel->node, sql);
    return MR_OK;
}

/* "price > 3 AND city IS NOT NULL": what a checkpoint remembers of a native filter. */
static void tell_filter(const struct mr_sql_rel *input, const struct mr_predicate *predicates,
                        uint32_t count, struct mr_node *node)
{
    static const char *const words[] = {"=", "<>", "<", "<=", ">", ">=", "IS NULL", "IS NOT NULL"};
    struct mr_buf text = MR_BUF_INIT;

    for (uint32_t i = 0; i < count; i++) {
        const struct mr_predicate *one = &predicates[i];

        mr_buf_printf(&text, "%s%s %s", i > 0 ? " AND " : "",
                      mr_schema_field(input->schema, one->column)->name, words[one->compare]);
        if (one->literal != NULL)
            mr_buf_printf(&text, " '%.*s'", (int)one->literal_bytes, one->literal);
    }
    mr_node_set_meaning(node, text.failed ? NULL : text.data);
    mr_buf_release(&text);
}

enum mr_status mr_sql__add_filter(struct mr_sql_planner *p, const char *owner,
                                  const struct mr_sql_rel *input,
                                  const struct mr_predicate *predicates, uint32_t count,
                                  struct mr_sql_rel *ret_rel, bool *ret_done)
{
    struct mr_sql_rel rel = *input;
    struct mr_node *node = input->node;
    struct mr_map_op op;

    *ret_done = true;
    if (count > 0) {
        if (mr_op_filter(input->schema, predicates, count, &op, NULL) != MR_OK) {
            *ret_done =
                false; /* a literal that is not written as the column's type: DuckDB casts it */
            return MR_OK;
        }
        MR_TRY(mr_sql__add_map(p, owner, "filter", &op, &node, 1, &rel));
        tell_filter(input, predicates, count, rel.node);
    }
    *ret_rel = rel;
    return MR_OK;
}

/* "2,0,1": the names are in the schema, but not what they are names of. */
static enum mr_status tell_columns(struct mr_sql_planner *p, const uint32_t *columns,
                                   uint32_t count, struct mr_node *node)
{
    struct mr_buf text = MR_BUF_INIT;
    bool failed;

    for (uint32_t i = 0; i < count; i++)
        mr_buf_printf(&text, "%s%u", i > 0 ? "," : "", columns[i]);
    mr_node_set_detail(node, text.data);
    failed = text.failed;
    mr_buf_release(&text);
    return failed ? mr_sql__no_memory(p) : MR_OK;
}

enum mr_status mr_sql__add_project(struct mr_sql_planner *p, const char *owner,
                                   const struct mr_sql_rel *input, const uint32_t *columns,
                                   const char *const *names, uint32_t count,
                                   struct mr_sql_rel *ret_rel)
{
    bool same = count == mr_schema_field_count(input->schema);
    struct mr_sql_rel rel = {.aggregated = input->aggregated};
    struct mr_node *node = input->node;
    struct mr_map_op op;

    for (uint32_t i = 0; i < count && same; i++)
        same = columns[i] == i && strcmp(mr_schema_field(input->schema, i)->name, names[i]) == 0;
    if (same) {
        *ret_rel = *input;
        return MR_OK;
    }
    MR_TRY(mr_op_project(input->schema, columns, names, count, &op, p->err));
    MR_TRY(mr_sql__add_map(p, owner, "project", &op, &node, 1, &rel));
    MR_TRY(tell_columns(p, columns, count, rel.node));
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(input, columns[i]);

        if (mark == NULL || rel.mark_count == MR_SQL_MARKS_MAX)
            continue;
        rel.marks[rel.mark_count] = *mark;
        rel.marks[rel.mark_count++].column = i;
    }
    *ret_rel = rel;
    return MR_OK;
}

/* ---- Casts ---- */

/* Some value of a type, not null: DuckDB finds out that a cast does not exist only when it meets
 * one. */
static void add_sample(struct mr_buf *sql, const struct mr_type *type)
{
    mr_buf_add_str(sql, "CAST(");
    switch (type->id) {
    case MR_TYPE_BOOL:
        mr_buf_add_str(sql, "true");
        break;
    case MR_TYPE_DATE:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        mr_buf_add_str(sql, "'2020-01-01'");
        break;
    case MR_TYPE_LIST:
        mr_buf_add_str(sql, "[]");
        break;
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < type->field_count; i++) {
            mr_buf_add_str(sql, i > 0 ? ", " : "{");
            mr_sql__add_quoted(sql, type->fields[i].name);
            mr_buf_add_str(sql, ": NULL");
        }
        mr_buf_add_char(sql, '}');
        break;
    default:
        mr_buf_add_str(sql, "'1'");
        break;
    }
    mr_buf_add_str(sql, " AS ");
    mr_sql__add_type(sql, type);
    mr_buf_add_char(sql, ')');
}

/* Names the first column whose type cannot become the other at all. */
static enum mr_status find_bad_cast(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    const struct mr_schema *from, const struct mr_schema *to)
{
    for (uint32_t i = 0; i < mr_schema_field_count(to); i++) {
        const struct mr_field *have = mr_schema_field(from, i);
        const struct mr_field *want = mr_schema_field(to, i);
        struct mr_buf sql = MR_BUF_INIT;
        struct mr_error tried = {0};
        char have_text[200];
        char want_text[200];

        if (have->type.id == MR_TYPE_TEXT || mr_type_equal(&have->type, &want->type))
            continue; /* a text may be anything: its rows decide */
        mr_buf_add_str(&sql, "SELECT CAST(");
        add_sample(&sql, &have->type);
        mr_buf_add_str(&sql, " AS ");
        mr_sql__add_type(&sql, &want->type);
        mr_buf_add_str(&sql, ") AS c");
        if (!sql.failed)
            (void)mr_duck_exec(p->duck, sql.data, NULL, NULL, &tried);
        mr_buf_release(&sql);
        if (strstr(tried.text, "nimplemented type for cast") == NULL &&
            tried.status != MR_SQL_ERROR)
            continue;
        mr_type_print(&have->type, have_text, sizeof(have_text));
        mr_type_print(&want->type, want_text, sizeof(want_text));
        return mr_sql__fail(
            p, query, NULL,
            "column %u, '%s', is %s and cannot become '%s' %s; cast it in the SELECT", i + 1,
            have->name, have_text, want->name, want_text);
    }
    return MR_OK;
}

enum mr_status mr_sql__cast(struct mr_sql_planner *p, struct mr_sql_query *query,
                            const struct mr_sql_rel *input, const struct mr_schema *target,
                            struct mr_sql_rel *ret_rel)
{
    uint32_t count = mr_schema_field_count(target);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*names));
    struct mr_sql_rel stream = *input;
    struct mr_sql_from from = {.count = 1};
    struct mr_buf sql = MR_BUF_INIT;
    bool same = true;
    enum mr_status status;

    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_field *have = mr_schema_field(input->schema, i);
        const struct mr_field *want = mr_schema_field(target, i);

        columns[i] = i;
        names[i] = want->name;
        same = same && mr_type_equal(&have->type, &want->type);
        mr_buf_add_str(&sql, i > 0 ? ", CAST(" : "CAST(");
        mr_sql__add_quoted(&sql, have->name);
        mr_buf_add_str(&sql, " AS ");
        mr_sql__add_type(&sql, &want->type);
        mr_buf_add_str(&sql, ") AS ");
        mr_sql__add_quoted(&sql, want->name);
    }
    mr_buf_add_str(&sql, " FROM mr_input_0");
    if (same || sql.failed) {
        status = sql.failed
                     ? mr_sql__no_memory(p)
                     : mr_sql__add_project(p, query->owner, input, columns, names, count, ret_rel);
        mr_buf_release(&sql);
        return status;
    }
    from.leaves[0] = (struct mr_sql_leaf){
        .alias = "", .input = "mr_input_0", .schema = input->schema, .rel = &stream};
    status = find_bad_cast(p, query, input->schema, target);
    if (status == MR_OK)
        status = mr_sql__add_statement(p, query, &from, sql.data, false, ret_rel);
    mr_buf_release(&sql);
    for (uint32_t i = 0; i < input->mark_count && status == MR_OK; i++) {
        const struct mr_type *have = &mr_schema_field(input->schema, input->marks[i].column)->type;

        if (mr_type_equal(have, &mr_schema_field(target, input->marks[i].column)->type))
            ret_rel->marks[ret_rel->mark_count++] = input->marks[i];
    }
    return status;
}
