/*
 * Blocks without aggregation, and the recursion over queries.
 *
 *     UNION, EXCEPT  setop.c
 *     SELECT         columns and simple comparisons only: native filter and project (no copy)
 *                    window() in the list: filter, window operator, statement
 *                    anything else: one statement of DuckDB over each batch
 *     GROUP BY       aggregate.c
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/number_text.h"
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

/* ---- WHERE as native predicates ---- */

static const struct comparison {
    const char *type;
    enum mr_compare compare;
    enum mr_compare flipped; /* literal on the left */
} comparisons[] = {
    {"COMPARE_EQUAL", MR_EQ, MR_EQ},       {"COMPARE_NOTEQUAL", MR_NE, MR_NE},
    {"COMPARE_LESSTHAN", MR_LT, MR_GT},    {"COMPARE_LESSTHANOREQUALTO", MR_LE, MR_GE},
    {"COMPARE_GREATERTHAN", MR_GT, MR_LT}, {"COMPARE_GREATERTHANOREQUALTO", MR_GE, MR_LE},
};

static bool plain_column(const struct mr_sql_from *from, const struct mr_json *node,
                         uint32_t *ret_column)
{
    uint32_t leaf;
    size_t rest;

    return mr_sql__class_is(node, "COLUMN_REF") &&
           mr_sql__resolve(from, node, &leaf, ret_column, &rest) && (int32_t)leaf == from->stream &&
           rest == 0;
}

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

/* A constant that means the same to our parser of the column's type as to DuckDB's cast. */
static bool plain_literal(struct mr_sql_planner *p, const struct mr_json *node,
                          enum mr_type_id column, struct mr_predicate *predicate)
{
    const struct mr_json *value = mr_json_get(node, "value");
    const char *type = mr_json_text(mr_json_get(value, "type"), "id");
    const struct mr_json *inner = mr_json_get(value, "value");

    if (!mr_sql__class_is(node, "CONSTANT") || type == NULL || inner == NULL)
        return false;
    if (strcmp(type, "VARCHAR") == 0 && inner->kind == MR_JSON_STRING && column == MR_TYPE_TEXT) {
        predicate->literal = inner->text;
        predicate->literal_bytes = inner->text_bytes;
        return true;
    }
    if ((strcmp(type, "INTEGER") == 0 || strcmp(type, "BIGINT") == 0) &&
        inner->kind == MR_JSON_NUMBER && is_integer(column)) {
        predicate->literal = mr_arena_copy(&p->arena, inner->text, strlen(inner->text));
        predicate->literal_bytes = strlen(inner->text);
        return predicate->literal != NULL;
    }
    return false;
}

static bool add_predicate(struct mr_sql_planner *p, const struct mr_sql_from *from,
                          const struct mr_json *node, struct mr_predicate *predicates,
                          uint32_t *count)
{
    struct mr_predicate *predicate = &predicates[*count];
    const struct mr_json *left = mr_json_get(node, "left");
    const struct mr_json *right = mr_json_get(node, "right");
    const struct mr_json *children = mr_json_get(node, "children");
    const struct mr_schema *schema = from->leaves[from->stream].schema;

    if (*count == MR_SQL_PREDICATES_MAX)
        return false;
    memset(predicate, 0, sizeof(*predicate));
    if (mr_sql__type_is(node, "CONJUNCTION_AND") && children != NULL) {
        for (const struct mr_json *child = children->first; child != NULL; child = child->next) {
            if (!add_predicate(p, from, child, predicates, count))
                return false;
        }
        return true;
    }
    if ((mr_sql__type_is(node, "OPERATOR_IS_NULL") ||
         mr_sql__type_is(node, "OPERATOR_IS_NOT_NULL")) &&
        children != NULL && plain_column(from, children->first, &predicate->column)) {
        predicate->compare =
            mr_sql__type_is(node, "OPERATOR_IS_NULL") ? MR_IS_NULL : MR_IS_NOT_NULL;
        ++*count;
        return true;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(comparisons); i++) {
        bool flipped = !plain_column(from, left, &predicate->column);

        if (!mr_sql__type_is(node, comparisons[i].type))
            continue;
        if (flipped && !plain_column(from, right, &predicate->column))
            return false;
        predicate->compare = flipped ? comparisons[i].flipped : comparisons[i].compare;
        ++*count;
        return plain_literal(p, flipped ? left : right,
                             mr_schema_field(schema, predicate->column)->type.id, predicate);
    }
    return false;
}

bool mr_sql__native_filter(struct mr_sql_planner *p, const struct mr_sql_from *from,
                           const struct mr_json *where, struct mr_predicate *predicates,
                           uint32_t *ret_count)
{
    *ret_count = 0;
    if (where == NULL || where->kind == MR_JSON_NULL)
        return true;
    return !from->joined && add_predicate(p, from, where, predicates, ret_count);
}

/* ---- Marks ---- */

static void inherit(struct mr_sql_rel *rel, const char *name, struct mr_sql_mark mark)
{
    int32_t column = mr_schema_find(rel->schema, name, strlen(name));

    if (column < 0 || rel->mark_count == MR_SQL_MARKS_MAX ||
        mr_sql__mark_of(rel, (uint32_t)column) != NULL)
        return;
    mark.column = (uint32_t)column;
    rel->marks[rel->mark_count++] = mark;
}

static bool is_window_time(const struct mr_json *node)
{
    const char *name = mr_sql__function(node);

    return name != NULL && mr_sql__same_name(name, "window_time") &&
           mr_json_get(node, "children") != NULL && mr_json_get(node, "children")->count == 1;
}

/* Mark of the stream's column that a reference means, or NULL. */
static const struct mr_sql_mark *mark_of_reference(const struct mr_sql_from *from,
                                                   const struct mr_json *reference)
{
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    if (!mr_sql__class_is(reference, "COLUMN_REF") ||
        !mr_sql__resolve(from, reference, &leaf, &column, &rest) || (int32_t)leaf != from->stream ||
        rest != 0)
        return NULL;
    return mr_sql__mark_of(from->leaves[leaf].rel, column);
}

/* window_time(w), w a column or {start, end} of columns: an event time again. */
static bool window_time_mark(const struct mr_sql_from *from, const struct mr_json *call,
                             struct mr_sql_mark *ret_mark)
{
    const struct mr_json *window = mr_json_get(call, "children")->first;
    const char *function = mr_sql__function(window);
    enum mr_sql_mark_kind kind = MR_SQL_MARK_WINDOW;
    const struct mr_sql_mark *mark;

    if (function != NULL && mr_sql__same_name(function, "struct_pack") &&
        mr_json_get(window, "children")->count == 2) {
        window = mr_json_get(window, "children")->last;
        kind = MR_SQL_MARK_END;
    }
    mark = mark_of_reference(from, window);
    if (mark == NULL || mark->kind != kind)
        return false;
    *ret_mark = *mark;
    ret_mark->kind = MR_SQL_MARK_TIME;
    ret_mark->size_us = 0;
    return true;
}

enum mr_status mr_sql__window_of_window(struct mr_sql_planner *p, const struct mr_sql_from *from,
                                        struct mr_sql_window *window)
{
    const struct mr_sql_mark *mark = mark_of_reference(from, window->time);

    if (mark == NULL || mark->kind != MR_SQL_MARK_WINDOW)
        return MR_OK;
    window->time = mr_sql__call(p, "window_time", &window->time, NULL, 1);
    return window->time != NULL ? MR_OK : mr_sql__no_memory(p);
}

void mr_sql__inherit_marks(const struct mr_sql_from *from, const struct mr_json *list,
                           struct mr_sql_rel *rel)
{
    const struct mr_sql_leaf *stream = &from->leaves[from->stream];

    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const struct mr_json *names = mr_json_get(item, "column_names");
        const struct mr_sql_mark *mark;
        struct mr_sql_mark of_window;
        uint32_t leaf;
        uint32_t column;
        size_t rest;

        if (mr_sql__is_star(item)) {
            for (uint32_t i = 0; i < stream->rel->mark_count; i++)
                inherit(rel, mr_schema_field(stream->schema, stream->rel->marks[i].column)->name,
                        stream->rel->marks[i]);
            continue;
        }
        if (is_window_time(item) && window_time_mark(from, item, &of_window)) {
            inherit(rel, mr_sql__alias(item), of_window);
            continue;
        }
        if (!mr_sql__class_is(item, "COLUMN_REF") ||
            !mr_sql__resolve(from, item, &leaf, &column, &rest) || (int32_t)leaf != from->stream)
            continue;
        mark = mr_sql__mark_of(stream->rel, column);
        if (mark == NULL || rest > (mark->kind == MR_SQL_MARK_WINDOW ? 1u : 0u))
            continue;
        {
            struct mr_sql_mark out = *mark;

            if (rest == 1 && mark->size_us == 0 && mr_sql__same_name(names->last->text, "start"))
                continue; /* of a session: tells nothing */
            if (rest == 1)
                out.kind = mr_sql__same_name(names->last->text, "start") ? MR_SQL_MARK_START
                                                                         : MR_SQL_MARK_END;
            inherit(rel, mr_sql__alias(item)[0] != '\0' ? mr_sql__alias(item) : names->last->text,
                    out);
        }
    }
}

/* ---- Blocks ---- */

/* Functions of Spark and Flink that have a meaning there and none here. */
static bool is_foreign(const struct mr_json *node)
{
    static const char *const names[] = {"cumulate", "monotonically_increasing_id"};
    const char *name = mr_sql__function(node);

    for (size_t i = 0; name != NULL && i < MR_ARRAY_SIZE(names); i++) {
        if (mr_sql__same_name(names[i], name))
            return true;
    }
    return false;
}

static enum mr_status check_foreign(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    struct mr_json *node)
{
    static const char *const parts[] = {"select_list", "where_clause", "group_expressions",
                                        "having"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(parts); i++) {
        struct mr_json *found = mr_sql__find(mr_json_get(node, parts[i]), is_foreign);

        if (found != NULL)
            return mr_sql__fail(
                p, query, found,
                "'%s' is not supported over a stream (supported: window, tumble, hop, session)",
                mr_sql__function(found));
    }
    return MR_OK;
}

enum mr_status mr_sql__check_block(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   struct mr_json *node)
{
    struct mr_json *over = mr_sql__find(mr_json_get(node, "select_list"), mr_sql__is_over);
    const struct mr_json *sample = mr_json_get(node, "sample");
    const struct mr_json *qualify = mr_json_get(node, "qualify");

    MR_TRY(check_foreign(p, query, node));
    if (sample != NULL && sample->kind != MR_JSON_NULL)
        return mr_sql__fail(
            p, query, node,
            "samples of a stream are not supported; use WHERE hash(column) %% 10 = 0");
    if (qualify != NULL && qualify->kind != MR_JSON_NULL)
        return mr_sql__fail(p, query, qualify, "QUALIFY over a stream is not supported");
    if (over != NULL)
        return mr_sql__fail(p, query, over,
                            "functions OVER (...) are not supported over a stream; for the first "
                            "row of a key write "
                            "SELECT DISTINCT ON (key), for intervals of time GROUP BY window(...)");
    return MR_OK;
}

static bool is_null(const struct mr_json *node)
{
    return node == NULL || node->kind == MR_JSON_NULL;
}

/* Only columns and a plain star: their indexes and names, or false. */
static bool native_list(struct mr_sql_planner *p, const struct mr_sql_from *from,
                        const struct mr_json *list, uint32_t **ret_columns, const char ***ret_names,
                        uint32_t *ret_count)
{
    const struct mr_schema *schema = from->leaves[from->stream].schema;
    uint32_t all = mr_schema_field_count(schema);
    size_t room = list->count * (size_t)(all + 1);
    uint32_t *columns = mr_arena_alloc(&p->arena, room * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, room * sizeof(*names));
    uint32_t count = 0;

    if (columns == NULL || names == NULL || from->joined)
        return false;
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const struct mr_json *parts = mr_json_get(item, "column_names");

        if (mr_sql__plain_star(item)) {
            for (uint32_t i = 0; i < all; i++) {
                columns[count] = i;
                names[count++] = mr_schema_field(schema, i)->name;
            }
            continue;
        }
        if (!plain_column(from, item, &columns[count]))
            return false;
        names[count++] = mr_sql__alias(item)[0] != '\0' ? mr_sql__alias(item) : parts->last->text;
    }
    *ret_columns = columns;
    *ret_names = names;
    *ret_count = count;
    return true;
}

/* Native operators when they can do all of it; *ret_done false: nothing was added. */
static enum mr_status plan_native(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_from *from,
                                  struct mr_sql_rel *rel, bool *ret_done)
{
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    struct mr_sql_rel filtered;
    const char **names;
    uint32_t *columns;
    uint32_t predicate_count;
    uint32_t count;

    *ret_done = false;
    if (!native_list(p, from, mr_json_get(node, "select_list"), &columns, &names, &count) ||
        !mr_sql__native_filter(p, from, mr_json_get(node, "where_clause"), predicates,
                               &predicate_count))
        return MR_OK;
    MR_TRY(mr_sql__add_filter(p, query->owner, from->leaves[from->stream].rel, predicates,
                              predicate_count, &filtered, ret_done));
    if (!*ret_done)
        return MR_OK;
    return mr_sql__as_sql_error(
        p, query, mr_sql__add_project(p, query->owner, &filtered, columns, names, count, rel));
}

/* The rows of the FROM that pass WHERE, all columns. */
static enum mr_status plan_where(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *node, const struct mr_sql_from *from,
                                 struct mr_sql_rel *rel)
{
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_json *select = mr_sql__select(p, mr_json_copy(&p->arena, from->tree));
    const struct mr_schema *schema = from->leaves[from->stream].schema;
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;
    const char *sql;
    bool done;

    if (mr_sql__native_filter(p, from, mr_json_get(node, "where_clause"), predicates, &count)) {
        MR_TRY(mr_sql__add_filter(p, query->owner, from->leaves[from->stream].rel, predicates,
                                  count, rel, &done));
        if (done)
            return MR_OK;
    }
    if (list == NULL || select == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++)
        mr_json_push(list, mr_sql__column(p, mr_schema_field(schema, i)->name, ""));
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, select, "where_clause",
                mr_json_copy(&p->arena, mr_json_get(node, "where_clause")));
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, false, rel));
    mr_sql__inherit_marks(from, list, rel);
    return MR_OK;
}

/* Puts {start, end} in the place of window calls; all must be the one window. */
static enum mr_status replace_windows(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_window *window)
{
    struct mr_sql_window one;
    struct mr_json *start = mr_sql__column(p, "mr_start", "");
    struct mr_json *end = mr_sql__column(p, "mr_end", "");
    struct mr_json *parts[2] = {start, end};
    const char *const names[2] = {"start", "end"};
    const char *alias = mr_sql__alias(node);
    struct mr_json *with;

    if (!mr_sql__is_window_call(node)) {
        for (struct mr_json *child = node->first; child != NULL; child = child->next)
            MR_TRY(replace_windows(p, query, child, window));
        return MR_OK;
    }
    MR_TRY(mr_sql__window_parse(p, query, node, &one));
    if (!mr_sql__window_equal(&one, window))
        return mr_sql__fail(
            p, query, node,
            "two different windows in one SELECT are not supported; use two SELECTs");
    if (one.part == MR_SQL_WINDOW_WHOLE)
        with =
            start != NULL && end != NULL ? mr_sql__call(p, "struct_pack", parts, names, 2) : NULL;
    else
        with = one.part == MR_SQL_WINDOW_START ? start : end;
    if (with == NULL)
        return mr_sql__no_memory(p);
    mr_sql__set_alias(p, with, alias[0] != '\0' ? alias : "window");
    mr_sql__replace(node, with);
    return MR_OK;
}

/* SELECT window(ts, '10 minutes') AS w, ...: filter, window operator, then the list. */
static enum mr_status plan_windowed(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, const struct mr_sql_from *from,
                                    struct mr_json *call, struct mr_sql_rel *rel)
{
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_json *select;
    struct mr_sql_from after = {.count = 1};
    struct mr_sql_window window;
    struct mr_sql_rel rows;
    struct mr_sql_rel windowed;
    const char *sql;
    uint32_t column;

    MR_TRY(mr_sql__window_parse(p, query, call, &window));
    if (window.session)
        return mr_sql__fail(p, query, call,
                            "a session needs GROUP BY: its end is known only when its rows are "
                            "together");
    if (from->joined || !plain_column(from, window.time, &column))
        return mr_sql__fail(p, query, call,
                            "outside GROUP BY, window() needs a column of the one table it reads; "
                            "compute the time in a "
                            "subquery");
    MR_TRY(plan_where(p, query, node, from, &rows));
    MR_TRY(mr_sql__add_window(p, query->owner, &rows, column, &window, "mr_start", "mr_end",
                              &windowed));
    for (struct mr_json *item = list->first; item != NULL; item = item->next) {
        if (mr_sql__is_star(item))
            return mr_sql__fail(p, query, item, "name the columns next to window() instead of '*'");
    }
    for (struct mr_json *item = list->first; item != NULL; item = item->next)
        MR_TRY(replace_windows(p, query, item, &window));
    after.leaves[0] = (struct mr_sql_leaf){.alias = from->leaves[from->stream].alias,
                                           .input = "mr_input_0",
                                           .schema = windowed.schema,
                                           .rel = &windowed};
    select = mr_sql__select(p, mr_sql__table_ref(p, "mr_input_0", after.leaves[0].alias));
    if (select == NULL)
        return mr_sql__no_memory(p);
    mr_json_put(&p->arena, select, "select_list", list);
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, query, &after, sql, false, rel));
    mr_sql__inherit_marks(&after, list, rel);
    for (struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *function = mr_sql__function(item);

        if (function != NULL && mr_sql__same_name(function, "struct_pack") &&
            rel->mark_count < MR_SQL_MARKS_MAX)
            inherit(rel, mr_sql__alias(item),
                    (struct mr_sql_mark){0, MR_SQL_MARK_WINDOW, window.size_us,
                                         windowed.marks[0].watermarked,
                                         windowed.marks[0].delay_us});
    }
    return MR_OK;
}

enum mr_status mr_sql__plan_stateless(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_from *from,
                                      struct mr_sql_rel *rel)
{
    struct mr_json *call = mr_sql__find(mr_json_get(node, "select_list"), mr_sql__is_window_call);
    const struct mr_json *modifiers = mr_json_get(node, "modifiers");
    bool whole = modifiers != NULL && modifiers->count > 0;
    struct mr_json *ctes;
    const char *sql;
    bool done = false;

    if (call != NULL)
        return plan_windowed(p, query, node, from, call, rel);
    if (!whole)
        MR_TRY(plan_native(p, query, node, from, rel, &done));
    if (done)
        return MR_OK;
    ctes = mr_json_get(node, "cte_map");
    if (ctes != NULL)
        mr_json_put(&p->arena, ctes, "map", mr_json_new_array(&p->arena));
    MR_TRY(mr_sql__print(p, node, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, whole, rel));
    mr_sql__inherit_marks(from, mr_json_get(node, "select_list"), rel);
    return MR_OK;
}

/* Whether every batch brings the whole result, so that it can be ordered and cut off. */
static bool comes_whole(const struct mr_sql_planner *p, const struct mr_sql_from *from,
                        bool aggregates)
{
    return p->mode == MR_MODE_COMPLETE &&
           (aggregates || from->leaves[from->stream].rel->aggregated);
}

static enum mr_status plan_rows(struct mr_sql_planner *p, struct mr_sql_query *query,
                                struct mr_json *node, struct mr_sql_from *from, bool aggregates,
                                const struct mr_json *distinct, struct mr_sql_rel **ret_rel)
{
    struct mr_json *targets = mr_json_get(distinct, "distinct_on_targets");

    if (distinct != NULL && aggregates)
        return mr_sql__fail(p, query, mr_json_get(node, "select_list"),
                            "DISTINCT next to an aggregation is not supported; put the aggregation "
                            "into a subquery");
    if (distinct != NULL && targets != NULL && targets->count > 0)
        return mr_sql__plan_distinct_on(p, query, node, from, distinct, *ret_rel);
    if (distinct != NULL)
        MR_TRY(mr_sql__distinct_to_groups(p, query, node, from));
    if (distinct != NULL || aggregates)
        return mr_sql__plan_aggregate(p, query, node, from, ret_rel);
    return mr_sql__plan_stateless(p, query, node, from, *ret_rel);
}

static enum mr_status plan_block(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *node, const struct mr_sql_scope *scope,
                                 struct mr_sql_rel **ret_rel)
{
    struct mr_json *groups = mr_json_get(node, "group_expressions");
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_json *aggregate = mr_sql__find(list, mr_sql__is_aggregate);
    bool aggregates = aggregate != NULL || (groups != NULL && groups->count > 0) ||
                      mr_json_is(mr_json_get(node, "aggregate_handling"), "FORCE_AGGREGATES") ||
                      !is_null(mr_json_get(node, "having"));
    struct mr_sql_from *from = mr_arena_alloc(&p->arena, sizeof(*from));
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));
    struct mr_sql_modifiers modifiers;

    if (from == NULL || rel == NULL)
        return mr_sql__no_memory(p);
    memset(rel, 0, sizeof(*rel));
    MR_TRY(mr_sql__check_block(p, query, node));
    MR_TRY(mr_sql__from(p, query, node, scope, from));
    MR_TRY(mr_sql__take_modifiers(p, query, node, comes_whole(p, from, aggregates), &modifiers));
    MR_TRY(plan_rows(p, query, node, from, aggregates, modifiers.distinct, &rel));
    if (modifiers.limits)
        MR_TRY(mr_sql__add_limit(p, query, modifiers.rows_max, rel));
    *ret_rel = rel;
    return MR_OK;
}

enum mr_status mr_sql__ctes(struct mr_sql_planner *p, struct mr_json *node,
                            const struct mr_sql_scope **scope)
{
    struct mr_json *map = mr_json_get(mr_json_get(node, "cte_map"), "map");

    for (struct mr_json *entry = map != NULL ? map->first : NULL; entry != NULL;
         entry = entry->next) {
        struct mr_sql_scope *one = mr_arena_alloc(&p->arena, sizeof(*one));
        struct mr_json *query = mr_json_get(mr_json_get(entry, "value"), "query");

        if (one == NULL)
            return mr_sql__no_memory(p);
        one->name = mr_json_text(entry, "key");
        one->node = mr_json_get(query, "node");
        one->outer = *scope;
        one->next = *scope;
        *scope = one;
    }
    return MR_OK;
}

enum mr_status mr_sql__plan_query(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel **ret_rel)
{
    enum mr_status status;

    if (p->depth >= MR_SQL_DEPTH_MAX)
        return mr_sql__fail(p, query, node, "more than %d queries inside each other",
                            MR_SQL_DEPTH_MAX);
    MR_TRY(mr_sql__ctes(p, node, &scope));
    p->depth++;
    if (mr_sql__type_is(node, "SELECT_NODE"))
        status = plan_block(p, query, node, scope, ret_rel);
    else if (mr_sql__type_is(node, "SET_OPERATION_NODE"))
        status = mr_sql__plan_setop(p, query, node, scope, ret_rel);
    else
        status = mr_sql__fail(
            p, query, node,
            "this kind of query is not supported over streams (supported: SELECT, UNION "
            "ALL, WITH)");
    p->depth--;
    return status;
}
