/*
 * Sinks: connector, options and output mode of the table an INSERT writes, and the cast of its rows
 * to the declared columns.
 *
 * Output mode, in this order: the table's option, the setting, else what fits: append without
 * aggregation, append when a watermark closes the groups, update otherwise (complete where a sink
 * takes nothing else). On the terminal aggregations show updates.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/text.h"
#include "sql/outputs.h"

#include <string.h>

static const char *const mode_names[] = {"append", "update", "complete"};

static const char *name_of(const struct mr_sql_output *output)
{
    return output->table != NULL ? output->table->name : "console";
}

static enum mr_status sink_fail(struct mr_sql_planner *p, const struct mr_sql_output *output,
                                enum mr_status status)
{
    if (output->table == NULL || output->table->statement == NULL || p->err == NULL ||
        p->err->sql_line > 0)
        return status;
    return mr_error_place(p->err, p->script->text, output->table->statement->name_at, status);
}

static enum mr_status find_connector(struct mr_sql_planner *p, struct mr_sql_output *output)
{
    const char *name = output->table != NULL ? output->table->connector : "console";
    const char *names[64];
    const char *nearest;
    size_t count = 0;

    if (name != NULL && mr_sql__same_name(name, "noop"))
        name = "null";
    output->connector = mr_sink_find(name);
    if (output->connector != NULL)
        return MR_OK;
    while (count < MR_ARRAY_SIZE(names) && mr_sink_at(count) != NULL) {
        names[count] = mr_sink_at(count)->name;
        count++;
    }
    nearest = mr_text_nearest(name, names, count);
    if (nearest != NULL)
        return MR_FAIL(p->err, MR_CONFIG,
                       "cannot write to connector '%s': there is no such sink; did you mean '%s'?",
                       name, nearest);
    return MR_FAIL(
        p->err, MR_CONFIG,
        "cannot write to connector '%s': there is no such sink; 'millrace options' lists all",
        name);
}

static enum mr_status find_format(struct mr_sql_planner *p, struct mr_sql_output *output)
{
    const char *given =
        output->table != NULL ? mr_sql__table_option(output->table, "format") : NULL;
    const char *name = given != NULL ? given : output->connector->default_format;
    const struct mr_schema *columns = output->table != NULL && output->table->statement != NULL
                                          ? output->table->statement->columns
                                          : NULL;

    if (!output->connector->takes_format) {
        if (given != NULL)
            return MR_FAIL(p->err, MR_CONFIG,
                           "table '%s': connector '%s' takes no format; leave it out",
                           name_of(output), output->connector->name);
        return MR_OK;
    }
    if (name == NULL)
        return MR_FAIL(p->err, MR_CONFIG, "table '%s' has no format; add format = 'json'",
                       name_of(output));
    output->format = mr_format_find(name);
    if (output->format == NULL)
        return MR_FAIL(p->err, MR_CONFIG,
                       "table '%s': unknown format '%s'; 'millrace options' lists them",
                       name_of(output), name);
    if (columns != NULL && output->format->check != NULL && !output->connector->checks_columns)
        return output->format->check(columns, output->options, true, p->err);
    return MR_OK;
}

/* A caller may take what a SELECT without INSERT prints: as the table `console`. */
static const struct mr_sql_binding *binding_of(const struct mr_sql_planner *p,
                                               const struct mr_sql_output *output)
{
    if (output->table != NULL)
        return output->table->binding;
    for (size_t i = 0; i < p->args->binding_count; i++) {
        if (mr_sql__same_name(p->args->bindings[i].table, "console"))
            return &p->args->bindings[i];
    }
    return NULL;
}

/* The caller's sink instead of the one that the script names. */
static enum mr_status bind(struct mr_sql_planner *p, struct mr_sql_output *output)
{
    const struct mr_sql_binding *binding = binding_of(p, output);

    if (binding == NULL || binding->sink == NULL)
        return MR_OK;
    output->connector = binding->sink;
    output->user = binding->user;
    if (!binding->sink->takes_format)
        output->format = NULL;
    return mr_sql__bound_options(p, binding->sink->options, binding->sink->option_count,
                                 MR_OPTION_SINK, &output->options);
}

static bool mode_of_name(const char *name, enum mr_output_mode *ret_mode)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(mode_names); i++) {
        if (mr_sql__same_name(mode_names[i], name)) {
            *ret_mode = (enum mr_output_mode)i;
            return true;
        }
    }
    return false;
}

enum mr_status mr_sql__sink_resolve(struct mr_sql_planner *p, struct mr_sql_output *output,
                                    const char *mode)
{
    static const struct mr_sql_table terminal = {.name = "console", .connector = "console"};
    const struct mr_sql_table *table = output->table != NULL ? output->table : &terminal;
    const char *own =
        output->table != NULL ? mr_sql__table_option(output->table, "output_mode") : NULL;
    enum mr_status status = find_connector(p, output);

    if (status == MR_OK)
        status = find_format(p, output);
    if (status == MR_OK)
        status = mr_sql__table_options(p, table, output->connector->options,
                                       output->connector->option_count, output->format,
                                       MR_OPTION_SINK, &output->options);
    if (status == MR_OK)
        status = bind(p, output);
    if (status != MR_OK)
        return sink_fail(p, output, status);
    if (own == NULL)
        own = mode;
    output->mode_given = own != NULL && mode_of_name(own, &output->mode);
    output->mode_known = output->mode_given;
    if (output->mode_given && (output->connector->modes & (1u << output->mode)) == 0)
        return sink_fail(p, output,
                         MR_FAIL(p->err, MR_CONFIG,
                                 "connector '%s' does not take output_mode = '%s'",
                                 output->connector->name, mode_names[output->mode]));
    return MR_OK;
}

/* ---- Choosing the mode ---- */

struct traits {
    bool aggregated;
    bool grouped_by_time; /* a window or a watermark's column is a key */
    bool watermarked;     /* a table with a watermark is read */
    bool session;         /* sessions have no update mode */
    bool sorted;          /* ORDER BY: the whole result */
};

static void look(struct mr_sql_planner *p, const struct mr_json *node, unsigned depth,
                 struct traits *traits);

static bool names_time(const struct mr_sql_planner *p, const struct mr_json *node)
{
    const struct mr_json *names = mr_json_get(node, "column_names");
    const char *last = names != NULL && names->last != NULL ? names->last->text : NULL;

    if (node == NULL)
        return false;
    if (mr_sql__is_window_call(node))
        return true;
    for (size_t i = 0; last != NULL && i < p->table_count; i++) {
        const struct mr_sql_statement *statement = p->tables[i].statement;

        if (statement != NULL && statement->watermark != NULL &&
            mr_sql__same_name(statement->watermark, last))
            return true;
    }
    if (last != NULL &&
        (mr_sql__same_name(last, "window_start") || mr_sql__same_name(last, "window_end") ||
         mr_sql__same_name(last, "window")))
        return true;
    for (const struct mr_json *child = node->first; child != NULL; child = child->next) {
        if (names_time(p, child))
            return true;
    }
    return false;
}

/* Anywhere in the list a window: GROUP BY 1, GROUP BY w and GROUP BY ALL mean it. */
static void look_at_groups(struct mr_sql_planner *p, const struct mr_json *node,
                           struct traits *traits)
{
    const struct mr_json *groups = mr_json_get(node, "group_expressions");
    const struct mr_json *list = mr_json_get(node, "select_list");
    const struct mr_json *modifiers = mr_json_get(node, "modifiers");
    bool all = mr_json_is(mr_json_get(node, "aggregate_handling"), "FORCE_AGGREGATES");

    if (names_time(p, groups) || (((groups != NULL && groups->count > 0) || all) &&
                                  names_time(p, mr_json_get(node, "select_list"))))
        traits->grouped_by_time = true;
    if ((groups != NULL && groups->count > 0) || all)
        traits->aggregated = true;
    if (mr_sql__find_session(groups) || (all && mr_sql__find_session(list)))
        traits->session = true;
    for (const struct mr_json *one = modifiers != NULL ? modifiers->first : NULL; one != NULL;
         one = one->next)
        traits->sorted = traits->sorted || mr_sql__type_is(one, "ORDER_MODIFIER");
}

/* SELECT DISTINCT, UNION and EXCEPT are aggregations without functions; DISTINCT ON is none. */
static void look_at_distinct(struct mr_sql_planner *p, const struct mr_json *node,
                             struct traits *traits)
{
    const struct mr_json *modifiers = mr_json_get(node, "modifiers");
    const struct mr_json *all = mr_json_get(node, "setop_all");
    bool distinct = mr_sql__type_is(node, "SET_OPERATION_NODE") && all != NULL && !all->boolean;

    for (const struct mr_json *one = modifiers != NULL ? modifiers->first : NULL; one != NULL;
         one = one->next) {
        const struct mr_json *targets = mr_json_get(one, "distinct_on_targets");

        distinct = distinct || (mr_sql__type_is(one, "DISTINCT_MODIFIER") &&
                                (targets == NULL || targets->count == 0));
    }
    if (!distinct)
        return;
    traits->aggregated = true;
    if (mr_sql__type_is(node, "SET_OPERATION_NODE") ||
        names_time(p, mr_json_get(node, "select_list")))
        traits->grouped_by_time = true;
}

static void look_at_name(struct mr_sql_planner *p, const char *name, unsigned depth,
                         struct traits *traits)
{
    const struct mr_sql_table *table = mr_sql__table(p, name);
    struct mr_sql_view *view = mr_sql__view(p, name);

    if (view != NULL && view->looked == p->looks)
        return; /* in this pass already */
    if (view != NULL) {
        view->looked = p->looks;
        look(p, view->query->node, depth, traits);
    } else if (table != NULL && table->statement != NULL && table->statement->watermark != NULL &&
               !table->is_static) {
        traits->watermarked = true;
    }
}

static void look(struct mr_sql_planner *p, const struct mr_json *node, unsigned depth,
                 struct traits *traits)
{
    const char *table = mr_json_text(node, "table_name");

    if (node == NULL || depth > MR_SQL_TREE_DEPTH_MAX || mr_sql__class_is(node, "SUBQUERY"))
        return;
    if (mr_sql__type_is(node, "SELECT_NODE"))
        look_at_groups(p, node, traits);
    look_at_distinct(p, node, traits);
    if (mr_sql__is_aggregate(node))
        traits->aggregated = true;
    if (table != NULL)
        look_at_name(p, table, depth + 1, traits);
    if (mr_sql__type_is(node, "TABLE_FUNCTION") &&
        mr_sql__is_window_table(mr_json_get(node, "function"))) {
        const struct mr_json *arguments = mr_json_get(mr_json_get(node, "function"), "children");

        for (const struct mr_json *one = arguments->first; one != NULL; one = one->next) {
            if (mr_sql__class_is(one, "COLUMN_REF"))
                look_at_name(p, mr_json_get(one, "column_names")->last->text, depth + 1, traits);
        }
    }
    for (const struct mr_json *child = node->first; child != NULL; child = child->next)
        look(p, child, depth + 1, traits);
}

void mr_sql__wish_mode(struct mr_sql_planner *p, struct mr_sql_output *output,
                       const struct mr_sql_query *query)
{
    struct traits traits = {0};
    unsigned modes = output->connector->modes;
    bool closes;
    bool open;
    bool may_update;

    p->looks++;
    look(p, query->node, 0, &traits);
    closes = traits.grouped_by_time && traits.watermarked &&
             (output->table != NULL || traits.session) && !traits.sorted;
    open = traits.aggregated && !closes;
    may_update = open && (modes & (1u << MR_MODE_UPDATE)) != 0;
    if (open && (modes & (1u << MR_MODE_COMPLETE)) != 0 &&
        (traits.sorted || traits.session || !may_update))
        output->wishes |= 1u << MR_MODE_COMPLETE;
    else
        output->wishes |= 1u << (may_update ? MR_MODE_UPDATE : MR_MODE_APPEND);
}

void mr_sql__settle_mode(struct mr_sql_output *output)
{
    if (output->mode_known)
        return;
    output->mode = MR_MODE_APPEND;
    if ((output->wishes & (1u << MR_MODE_COMPLETE)) != 0)
        output->mode = MR_MODE_COMPLETE;
    else if ((output->wishes & (1u << MR_MODE_UPDATE)) != 0)
        output->mode = MR_MODE_UPDATE;
    output->mode_known = true;
}

enum mr_status mr_sql__check_mode(struct mr_sql_planner *p, const struct mr_sql_output *output,
                                  const struct mr_sql_query *query)
{
    struct traits traits = {0};

    p->looks++;
    look(p, query->node, 0, &traits);
    if (output->mode == MR_MODE_COMPLETE && !traits.aggregated)
        return mr_sql__fail(p, query, NULL,
                            "output_mode = 'complete' needs an aggregation: the whole result of "
                            "this SELECT grows without "
                            "end; use 'append'");
    return MR_OK;
}

/* ---- Columns ---- */

/* INSERT INTO t (b, a): the columns of t in its order, null where none is given. */
static enum mr_status reorder(struct mr_sql_planner *p, struct mr_sql_query *query,
                              const struct mr_schema *columns,
                              const struct mr_sql_statement *insert, const struct mr_sql_rel *rel,
                              struct mr_sql_rel *ret_rel)
{
    struct mr_sql_rel stream = *rel;
    struct mr_sql_from from = {.count = 1};
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    for (size_t i = 0; i < insert->insert_column_count; i++) {
        const char *name = insert->insert_columns[i];

        if (mr_schema_find(columns, name, strlen(name)) < 0)
            return mr_error_place(
                p->err, p->script->text, insert->name_at,
                MR_FAIL(p->err, MR_SQL_ERROR, "table '%s' has no column '%s'", insert->name, name));
    }
    if (insert->insert_column_count != mr_schema_field_count(rel->schema))
        return mr_error_place(
            p->err, p->script->text, insert->name_at,
            MR_FAIL(p->err, MR_SQL_ERROR, "INSERT names %zu columns, but the SELECT gives %u",
                    insert->insert_column_count, mr_schema_field_count(rel->schema)));
    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(columns); i++) {
        const struct mr_field *want = mr_schema_field(columns, i);
        const char *have = NULL;

        for (size_t k = 0; k < insert->insert_column_count; k++) {
            if (mr_sql__same_name(insert->insert_columns[k], want->name))
                have = mr_schema_field(rel->schema, (uint32_t)k)->name;
        }
        mr_buf_add_str(&sql, i > 0 ? ", CAST(" : "CAST(");
        if (have != NULL)
            mr_sql__add_quoted(&sql, have);
        else
            mr_buf_add_str(&sql, "NULL");
        mr_buf_add_str(&sql, " AS ");
        mr_sql__add_type(&sql, &want->type);
        mr_buf_add_str(&sql, ") AS ");
        mr_sql__add_quoted(&sql, want->name);
    }
    mr_buf_add_str(&sql, " FROM mr_input_0");
    from.leaves[0] = (struct mr_sql_leaf){
        .alias = "", .input = "mr_input_0", .schema = rel->schema, .rel = &stream};
    status = sql.failed ? mr_sql__no_memory(p)
                        : mr_sql__add_statement(p, query, &from, sql.data, false, ret_rel);
    mr_buf_release(&sql);
    return status;
}

/* BY NAME: the SELECT's own names are the list of columns. */
static enum mr_status name_columns(struct mr_sql_planner *p, const struct mr_sql_rel *rel,
                                   struct mr_sql_statement *insert)
{
    uint32_t count = mr_schema_field_count(rel->schema);

    insert->insert_columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(const char *));
    if (insert->insert_columns == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++)
        insert->insert_columns[i] = mr_schema_field(rel->schema, i)->name;
    insert->insert_column_count = count;
    return MR_OK;
}

static enum mr_status fit(struct mr_sql_planner *p, struct mr_sql_query *query,
                          const struct mr_sql_output *output, const struct mr_sql_statement *insert,
                          const struct mr_sql_rel *rel, struct mr_sql_rel *ret_rel)
{
    struct mr_sql_statement named = *insert;
    const struct mr_sql_statement *statement =
        output->table != NULL ? output->table->statement : NULL;
    const struct mr_schema *columns = statement != NULL ? statement->columns : NULL;

    if (columns == NULL && output->input_count > 0 && insert->insert_column_count == 0)
        columns = mr_node_schema(output->inputs[0]); /* a second INSERT follows the first */
    if (columns == NULL) {
        if (insert->insert_column_count > 0)
            return mr_error_place(
                p->err, p->script->text, insert->name_at,
                MR_FAIL(
                    p->err, MR_SQL_ERROR,
                    "table '%s' declares no columns; give the SELECT's columns their names with AS",
                    insert->name));
        *ret_rel = *rel;
        return MR_OK;
    }
    if (insert->by_name) {
        MR_TRY(name_columns(p, rel, &named));
        insert = &named;
    }
    if (insert->insert_column_count > 0)
        return reorder(p, query, columns, insert, rel, ret_rel);
    if (mr_schema_field_count(columns) != mr_schema_field_count(rel->schema))
        return mr_sql__fail(p, query, NULL, "table '%s' has %u columns, but the SELECT gives %u",
                            name_of(output), mr_schema_field_count(columns),
                            mr_schema_field_count(rel->schema));
    return mr_sql__cast(p, query, rel, columns, ret_rel);
}

enum mr_status mr_sql__fit(struct mr_sql_planner *p, struct mr_sql_query *query,
                           const struct mr_sql_output *output,
                           const struct mr_sql_statement *insert, const struct mr_sql_rel *rel,
                           struct mr_sql_rel *ret_rel)
{
    struct mr_sql_rel fitted;

    MR_TRY(fit(p, query, output, insert, rel, &fitted));
    if (output->table != NULL && output->table->statement != NULL)
        MR_TRY(mr_sql__add_required(p, output->table, query->owner, &fitted));
    *ret_rel = fitted;
    return MR_OK;
}
