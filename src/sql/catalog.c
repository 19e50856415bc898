/*
 * Tables and views of a script: collected first, resolved when a query uses them.
 *
 *     CREATE TABLE --used as a source--> connector, format --needs--> narrow schema --> node
 *
 * `stdin` is a table even without CREATE TABLE: JSON lines with the columns that queries name, as
 * VARCHAR; or one column `value` with the line when that is all they name.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/text.h"
#include "sql/internal.h"

#include <stdio.h>
#include <string.h>

static const struct mr_option table_options[] = {
    {"connector", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "What the table is connected to, such as 'kafka' or 'file'."},
    {"format", "value.format", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "How records are written: json, csv, text, parquet."},
    {"on_error", "onError", MR_OPTION_TEXT, 0, "fail", NULL, NULL,
     "What a record that cannot be decoded does: 'fail', 'skip' or 'into TABLE'."},
    {"static", "scan.bounded|scan_bounded", MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "Whether the table is read as a whole, at the start, to be joined with streams."},
    {"static_reload", "lookup.cache.ttl|staticReload", MR_OPTION_DURATION, 0, NULL, "0 s", NULL,
     "A static table is read again before a batch when it was read that long ago; unset: only at "
     "the "
     "start."},
    {"output_mode", "outputMode", MR_OPTION_ENUM, 0, NULL, "append|update|complete", NULL,
     "What the table gets of an aggregation; the setting output_mode when unset."},
};

const char *mr_sql__table_option(const struct mr_sql_table *table, const char *name)
{
    const struct mr_option *option = table_options;

    while (strcmp(option->name, name) != 0)
        option++;
    for (size_t i = 0; table->statement != NULL && i < table->statement->option_count; i++) {
        if (mr_option_named(option, table->statement->options[i].key))
            return table->statement->options[i].value;
    }
    return NULL;
}

/* ---- Collecting ---- */

struct mr_sql_table *mr_sql__table(struct mr_sql_planner *p, const char *name)
{
    for (size_t i = 0; i < p->table_count; i++) {
        if (mr_sql__same_name(p->tables[i].name, name))
            return &p->tables[i];
    }
    return NULL;
}

struct mr_sql_view *mr_sql__view(struct mr_sql_planner *p, const char *name)
{
    for (size_t i = 0; i < p->view_count; i++) {
        if (mr_sql__same_name(p->views[i].name, name))
            return &p->views[i];
    }
    return NULL;
}

static enum mr_status at_statement(struct mr_sql_planner *p,
                                   const struct mr_sql_statement *statement, enum mr_status status)
{
    size_t at = statement->name != NULL ? statement->name_at : statement->at;

    return mr_error_place(p->err, p->script->text, at, status);
}

static enum mr_status add_table(struct mr_sql_planner *p, const struct mr_sql_statement *statement)
{
    struct mr_sql_table *table = &p->tables[p->table_count];

    memset(table, 0, sizeof(*table));
    table->name = statement->name;
    table->statement = statement;
    table->connector = mr_sql__table_option(table, "connector");
    for (size_t i = 0; i < p->args->binding_count; i++) {
        if (mr_sql__same_name(p->args->bindings[i].table, table->name))
            table->binding = &p->args->bindings[i];
    }
    if (table->connector == NULL)
        return at_statement(
            p, statement,
            MR_FAIL(p->err, MR_CONFIG,
                    "table '%s' has no connector; add WITH (connector = '...'): 'millrace options' "
                    "lists them",
                    statement->name));
    p->table_count++;
    return MR_OK;
}

static enum mr_status add_view(struct mr_sql_planner *p, const struct mr_sql_statement *statement)
{
    struct mr_sql_view *view = &p->views[p->view_count++];

    memset(view, 0, sizeof(*view));
    view->name = statement->name;
    view->statement = statement;
    return mr_sql__query_parse(p, statement->name, statement->select_at, statement->select_size,
                               &view->query);
}

static enum mr_status add_program_view(struct mr_sql_planner *p,
                                       const struct mr_sql_program_view *program)
{
    struct mr_sql_view *view = &p->views[p->view_count++];

    memset(view, 0, sizeof(*view));
    view->name = program->name;
    view->program = program;
    return mr_sql__query_make(p, program->name, program->input, &view->query);
}

/* CREATE ... AS SELECT with a connector is a view and a table of one name. */
static bool is_made_by_query(struct mr_sql_planner *p, const struct mr_sql_statement *table)
{
    const struct mr_sql_view *view = mr_sql__view(p, table->name);

    return view->statement != NULL && view->statement + 1 == table && table->kind == MR_SQL_TABLE &&
           table->at == view->statement->at;
}

enum mr_status mr_sql__catalog(struct mr_sql_planner *p)
{
    size_t count = p->script->count + p->args->view_count + 1; /* stdin */

    p->tables = mr_arena_alloc(&p->arena, count * sizeof(*p->tables));
    p->views = mr_arena_alloc(&p->arena, count * sizeof(*p->views));
    if (p->tables == NULL || p->views == NULL)
        return mr_sql__no_memory(p);
    for (size_t i = 0; i < p->script->count; i++) {
        const struct mr_sql_statement *statement = &p->script->statements[i];

        if (statement->kind != MR_SQL_TABLE && statement->kind != MR_SQL_VIEW)
            continue;
        if (mr_sql__table(p, statement->name) != NULL ||
            (mr_sql__view(p, statement->name) != NULL && !is_made_by_query(p, statement)))
            return at_statement(p, statement,
                                MR_FAIL(p->err, MR_SQL_ERROR,
                                        "'%s' is defined twice; give one of them another name",
                                        statement->name));
        if (statement->kind == MR_SQL_TABLE)
            MR_TRY(add_table(p, statement));
        else
            MR_TRY(add_view(p, statement));
    }
    for (size_t i = 0; i < p->args->view_count; i++)
        MR_TRY(add_program_view(p, &p->args->views[i]));
    if (mr_sql__table(p, "stdin") == NULL && mr_sql__view(p, "stdin") == NULL) {
        struct mr_sql_table *table = &p->tables[p->table_count++];

        memset(table, 0, sizeof(*table));
        table->name = "stdin";
        table->connector = "stdin";
    }
    return MR_OK;
}

enum mr_status mr_sql__view_columns(struct mr_sql_planner *p, struct mr_sql_view *view,
                                    struct mr_sql_rel *rel)
{
    const struct mr_sql_statement *statement = view->statement;
    uint32_t count = mr_schema_field_count(rel->schema);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    struct mr_sql_rel *named = mr_arena_alloc(&p->arena, sizeof(*named));

    view->rel = rel;
    view->query->planned = true;
    if (statement == NULL || statement->insert_column_count == 0)
        return MR_OK;
    if (columns == NULL || named == NULL)
        return mr_sql__no_memory(p);
    if (statement->insert_column_count != count)
        return at_statement(p, statement,
                            MR_FAIL(p->err, MR_SQL_ERROR,
                                    "view '%s' names %zu columns, but its SELECT gives %u",
                                    statement->name, statement->insert_column_count, count));
    for (uint32_t i = 0; i < count; i++)
        columns[i] = i;
    MR_TRY(mr_sql__as_sql_error(
        p, view->query,
        mr_sql__add_project(p, view->name, rel, columns, statement->insert_columns, count, named)));
    view->rel = named;
    return MR_OK;
}

enum mr_status mr_sql__unknown_table(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                     const struct mr_json *node, const char *name)
{
    const char **names =
        mr_arena_alloc(&p->arena, (p->table_count + p->view_count) * sizeof(*names));
    const char *nearest;
    size_t count = 0;

    if (names == NULL)
        return mr_sql__no_memory(p);
    for (size_t i = 0; i < p->table_count; i++)
        names[count++] = p->tables[i].name;
    for (size_t i = 0; i < p->view_count; i++)
        names[count++] = p->views[i].name;
    nearest = mr_text_nearest(name, names, count);
    if (nearest != NULL)
        return mr_sql__fail(p, query, node, "there is no table '%s'; did you mean '%s'?", name,
                            nearest);
    return mr_sql__fail(
        p, query, node,
        "there is no table '%s'; add CREATE TABLE %s (...) WITH (connector = '...')", name, name);
}

/* ---- Sources ---- */

static enum mr_status no_connector(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                   bool sink)
{
    const char *names[64];
    const char *nearest;
    size_t count = 0;

    for (size_t i = 0; i < MR_ARRAY_SIZE(names); i++) {
        const char *name = NULL;

        if (sink && mr_sink_at(i) != NULL)
            name = mr_sink_at(i)->name;
        else if (!sink && mr_source_at(i) != NULL)
            name = mr_source_at(i)->name;
        if (name == NULL)
            break;
        names[count++] = name;
    }
    nearest = mr_text_nearest(table->connector, names, count);
    return MR_FAIL(p->err, MR_CONFIG,
                   "table '%s' cannot be %s: connector '%s' is not part of this build%s%s%s",
                   table->name, sink ? "written" : "read", table->connector,
                   nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                   nearest != NULL ? "'?" : "; 'millrace options' lists all");
}

static enum mr_status find_format(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                  bool takes_format, const char *standard,
                                  const struct mr_format **ret_format)
{
    const char *name = mr_sql__table_option(table, "format");

    *ret_format = NULL;
    if (!takes_format) {
        if (name != NULL)
            return MR_FAIL(p->err, MR_CONFIG,
                           "table '%s': connector '%s' takes no format; leave it out", table->name,
                           table->connector);
        return MR_OK;
    }
    if (name == NULL)
        name = standard;
    if (name == NULL)
        return MR_FAIL(p->err, MR_CONFIG, "table '%s' has no format; add format = 'json'",
                       table->name);
    *ret_format = mr_format_find(name);
    if (*ret_format == NULL)
        return MR_FAIL(p->err, MR_CONFIG,
                       "table '%s': unknown format '%s'; 'millrace options' lists them",
                       table->name, name);
    return MR_OK;
}

enum mr_status mr_sql__table_options(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                     const struct mr_option *connector_options,
                                     size_t connector_count, const struct mr_format *format,
                                     unsigned side, struct mr_options **ret_options)
{
    const struct mr_sql_statement *statement = table->statement;
    char owner[400];
    struct mr_option_table tables[3] = {{owner, table_options, MR_ARRAY_SIZE(table_options)},
                                        {owner, connector_options, connector_count},
                                        {owner, NULL, 0}};
    const struct mr_option_table *list[3] = {&tables[0], &tables[1], &tables[2]};
    size_t count = statement != NULL ? statement->option_count : 0;
    struct mr_option_pair *pairs = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*pairs));
    enum mr_status status;

    if (pairs == NULL)
        return mr_sql__no_memory(p);
    snprintf(owner, sizeof(owner), "table '%s' (connector '%s')", table->name, table->connector);
    for (size_t i = 0; i < count; i++) {
        pairs[i].key = statement->options[i].key;
        pairs[i].value = statement->options[i].value;
    }
    if (format != NULL) {
        tables[2].options = format->options;
        tables[2].option_count = format->option_count;
    }
    status =
        mr_options_parse(list, format != NULL ? 3 : 2, pairs, count, side, ret_options, p->err);
    return status == MR_OK || statement == NULL ? status : at_statement(p, statement, status);
}

static enum mr_status read_on_error(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    const char *value = mr_sql__table_option(table, "on_error");

    table->on_error = MR_ON_ERROR_FAIL;
    if (value == NULL || mr_sql__same_name(value, "fail") || mr_sql__same_name(value, "failfast"))
        return MR_OK;
    if (mr_sql__same_name(value, "skip") || mr_sql__same_name(value, "dropmalformed")) {
        table->on_error = MR_ON_ERROR_SKIP;
        return MR_OK;
    }
    if (strlen(value) > 5 && mr_text_equal_nocase(value, 5, "into ", 5)) {
        table->on_error = MR_ON_ERROR_ROUTE;
        table->bad_table = value + 5;
        while (*table->bad_table == ' ')
            table->bad_table++;
        return MR_OK;
    }
    return MR_FAIL(p->err, MR_CONFIG,
                   "table '%s': on_error = '%s' is not 'fail', 'skip' or 'into TABLE'", table->name,
                   value);
}

/* Columns when none are declared: the connector's or the format's own. */
static enum mr_status find_columns(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    const struct mr_schema *declared = table->statement != NULL ? table->statement->columns : NULL;

    table->full = declared;
    if (declared == NULL && table->source->fixed_schema != NULL)
        table->full = table->source->fixed_schema(table->options);
    if (table->full == NULL && table->format != NULL && table->format->fixed_schema != NULL)
        table->full = table->format->fixed_schema();
    if (table->full == NULL)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "table '%s' declares no columns; add them: CREATE TABLE %s (name TYPE, ...)",
                       table->name, table->name);
    if (table->format != NULL && table->format->check != NULL && declared != NULL &&
        !table->source->checks_columns)
        MR_TRY(table->format->check(declared, table->options, false, p->err));
    return MR_OK;
}

enum mr_status mr_sql__bound_options(struct mr_sql_planner *p, const struct mr_option *own,
                                     size_t own_count, unsigned kind, struct mr_options **options)
{
    const struct mr_option_table table = {"binding", own, own_count};
    const struct mr_option_table *tables[1] = {&table};

    mr_options_free(*options);
    *options = NULL;
    return mr_options_parse(tables, 1, NULL, 0, kind, options, p->err);
}

/* The caller's source instead of the one that the script names. */
static enum mr_status bind(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    if (table->binding == NULL || table->binding->source == NULL)
        return MR_OK;
    table->source = table->binding->source;
    if (!table->source->takes_format)
        table->format = NULL;
    return mr_sql__bound_options(p, table->source->options, table->source->option_count,
                                 MR_OPTION_SOURCE, &table->options);
}

static enum mr_status resolve(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    table->source = mr_source_find(table->connector);
    if (table->source == NULL)
        return no_connector(p, table, false);
    MR_TRY(find_format(p, table, table->source->takes_format, table->source->default_format,
                       &table->format));
    MR_TRY(read_on_error(p, table));
    MR_TRY(mr_sql__table_options(p, table, table->source->options, table->source->option_count,
                                 table->format, MR_OPTION_SOURCE, &table->options));
    if (mr_options_bool(table->options, "static"))
        table->is_static = true;
    table->is_stream = mr_options_has(table->options, "static") && !table->is_static;
    table->static_reload_us = mr_options_has(table->options, "static_reload")
                                  ? mr_options_int(table->options, "static_reload")
                                  : -1;
    if (table->statement != NULL && table->statement->computed_count > 0)
        table->needs_all = true;
    MR_TRY(find_columns(p, table));
    MR_TRY(bind(p, table));
    table->needed =
        mr_arena_alloc(&p->arena, mr_schema_field_count(table->full) * sizeof(bool) + 1);
    if (table->needed == NULL)
        return mr_sql__no_memory(p);
    memset(table->needed, 0, mr_schema_field_count(table->full) * sizeof(bool));
    return MR_OK;
}

enum mr_status mr_sql__resolve_source(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    enum mr_status status;

    if (table->resolved || table->statement == NULL)
        return MR_OK;
    status = resolve(p, table);
    if (status != MR_OK)
        return p->err != NULL && p->err->sql_line > 0 ? status
                                                      : at_statement(p, table->statement, status);
    table->resolved = true;
    return MR_OK;
}

/* stdin without CREATE TABLE: the lines themselves, or JSON with the columns that queries name. */
static enum mr_status resolve_stdin(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    bool lines = table->needs_all || table->guessed_count == 0 ||
                 (table->guessed_count == 1 && mr_sql__same_name(table->guessed[0], "value"));
    struct mr_field *fields =
        mr_arena_alloc(&p->arena, (table->guessed_count + 1) * sizeof(*fields));

    if (fields == NULL)
        return mr_sql__no_memory(p);
    memset(fields, 0, (table->guessed_count + 1) * sizeof(*fields));
    fields[0].name = "value";
    fields[0].type.id = MR_TYPE_TEXT;
    for (size_t i = 0; !lines && i < table->guessed_count; i++) {
        fields[i].name = table->guessed[i];
        fields[i].type.id = MR_TYPE_TEXT;
    }
    table->source = mr_source_find("stdin");
    if (table->source == NULL)
        return no_connector(p, table, false);
    table->format = mr_format_find(lines ? "text" : "json");
    if (table->format == NULL)
        return MR_FAIL(p->err, MR_CONFIG,
                       "table 'stdin' needs format '%s', which is not part of this build",
                       lines ? "text" : "json");
    MR_TRY(
        mr_schema_new(fields, lines ? 1 : (uint32_t)table->guessed_count, &table->owned, p->err));
    table->full = table->owned;
    table->needs_all = true;
    return mr_sql__table_options(p, table, table->source->options, table->source->option_count,
                                 table->format, MR_OPTION_SOURCE, &table->options);
}

static enum mr_status narrow(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    uint32_t count = mr_schema_field_count(table->full);
    struct mr_field *fields = mr_arena_alloc(&p->arena, count * sizeof(*fields));
    uint32_t used = 0;

    if (fields == NULL)
        return mr_sql__no_memory(p);
    for (size_t i = 0; table->statement != NULL && i < table->statement->required_count; i++) {
        const char *name = table->statement->required[i];
        int32_t index = mr_schema_find(table->full, name, strlen(name));

        if (index >= 0) /* else a computed one */
            table->needed[index] = true;
    }
    if (table->statement != NULL && table->statement->watermark != NULL) {
        const char *name = table->statement->watermark;
        int32_t index = mr_schema_find(table->full, name, strlen(name));

        if (index >= 0) /* else a computed one */
            table->needed[index] = true;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (table->needs_all || table->needed[i])
            fields[used++] = *mr_schema_field(table->full, i);
    }
    if (used == 0) /* count(*) alone: any column carries the rows */
        fields[used++] = *mr_schema_field(table->full, 0);
    return mr_schema_new(fields, used, &table->narrow, p->err);
}

enum mr_status mr_sql__add_watermark(struct mr_sql_planner *p, const char *owner,
                                     const struct mr_sql_rel *input, const char *column,
                                     int64_t delay_us, size_t at, struct mr_sql_rel *ret_rel)
{
    int32_t index = mr_schema_find(input->schema, column, strlen(column));
    struct mr_sql_rel with = {.aggregated = input->aggregated};
    struct mr_node *node = input->node;
    enum mr_type_id type;
    struct mr_map_op op;

    if (index < 0)
        return mr_sql__fail_at(p, at, "there is no column '%s' here for a watermark", column);
    type = mr_schema_field(input->schema, (uint32_t)index)->type.id;
    if (type != MR_TYPE_TIMESTAMP && type != MR_TYPE_TIMESTAMP_NS)
        return mr_sql__fail_at(p, at, "the watermark's column '%s' must be a TIMESTAMP; cast it so",
                               column);
    MR_TRY(mr_op_watermark(input->schema, (uint32_t)index, &op, p->err));
    MR_TRY(mr_sql__add_map(p, owner, "watermark", &op, &node, 1, &with));
    mr_node_set_watermark(with.node, delay_us);
    with.marks[0] = (struct mr_sql_mark){.column = (uint32_t)index,
                                         .kind = MR_SQL_MARK_TIME,
                                         .watermarked = true,
                                         .delay_us = delay_us};
    with.mark_count = 1;
    *ret_rel = with;
    return MR_OK;
}

/* name AS expression: one statement behind the source makes all of them. */
static enum mr_status add_computed(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                   struct mr_sql_rel *rel)
{
    const struct mr_sql_statement *statement = table->statement;
    const struct mr_sql_computed *last = &statement->computed[statement->computed_count - 1];
    struct mr_sql_rel source = *rel;
    struct mr_sql_from from = {.count = 1};
    struct mr_sql_query *query = mr_arena_alloc(&p->arena, sizeof(*query));
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    if (query == NULL)
        return mr_sql__no_memory(p);
    memset(query, 0, sizeof(*query));
    query->owner = table->name;
    query->at = statement->computed[0].at;
    query->sql =
        mr_arena_copy(&p->arena, p->script->text + query->at, last->at + last->size - query->at);
    mr_buf_add_str(&sql, "SELECT *");
    for (size_t i = 0; i < statement->computed_count; i++) {
        mr_buf_add_str(&sql, ", (");
        mr_buf_add(&sql, p->script->text + statement->computed[i].at, statement->computed[i].size);
        mr_buf_add_str(&sql, "\n) AS ");
        mr_sql__add_quoted(&sql, statement->computed[i].name);
    }
    mr_buf_add_str(&sql, " FROM mr_input_0");
    from.leaves[0] = (struct mr_sql_leaf){
        .alias = table->name, .input = "mr_input_0", .schema = rel->schema, .rel = &source};
    status = sql.failed || query->sql == NULL
                 ? mr_sql__no_memory(p)
                 : mr_sql__add_statement(p, query, &from, sql.data, false, rel);
    mr_buf_release(&sql);
    return status;
}

enum mr_status mr_sql__check_static(struct mr_sql_planner *p, const struct mr_sql_table *table)
{
    if (table->statement != NULL && table->statement->required_count > 0)
        return at_statement(p, table->statement,
                            MR_FAIL(p->err, MR_SQL_ERROR,
                                    "table '%s' is read once, as a static table: NOT NULL is "
                                    "checked of streams only; leave it out",
                                    table->name));
    if (table->statement == NULL || table->statement->computed_count == 0)
        return MR_OK;
    return at_statement(p, table->statement,
                        MR_FAIL(p->err, MR_SQL_ERROR,
                                "table '%s' is read once, as a static table: computed columns are "
                                "made of streams only; write the expression in the SELECT",
                                table->name));
}

enum mr_status mr_sql__add_required(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                    const char *owner, struct mr_sql_rel *rel)
{
    const struct mr_sql_statement *statement = table->statement;
    size_t room = statement->required_count + 1;
    uint32_t *columns = mr_arena_alloc(&p->arena, room * sizeof(*columns));
    struct mr_sql_rel with = *rel;
    struct mr_node *node = rel->node;
    struct mr_map_op op;
    uint32_t count = 0;

    if (columns == NULL)
        return mr_sql__no_memory(p);
    for (size_t i = 0; i < statement->required_count; i++) {
        const char *name = statement->required[i];
        int32_t index = mr_schema_find(rel->schema, name, strlen(name));

        if (index >= 0)
            columns[count++] = (uint32_t)index;
    }
    if (count == 0)
        return MR_OK;
    MR_TRY(mr_op_require(rel->schema, table->name, columns, count, &op, p->err));
    MR_TRY(mr_sql__add_map(p, owner, "required", &op, &node, 1, &with));
    *rel = with;
    return MR_OK;
}

static enum mr_status check_required(struct mr_sql_planner *p, const struct mr_sql_table *table)
{
    if (table->statement == NULL || table->statement->required_count == 0 ||
        table->on_error == MR_ON_ERROR_FAIL)
        return MR_OK;
    return at_statement(p, table->statement,
                        MR_FAIL(p->err, MR_SQL_ERROR,
                                "table '%s': NOT NULL ends the query at a null, and on_error asks "
                                "for going on; leave NOT NULL out, and write WHERE %s IS NOT NULL",
                                table->name, table->statement->required[0]));
}

static enum mr_status make_source(struct mr_sql_planner *p, struct mr_sql_table *table,
                                  struct mr_sql_rel *rel)
{
    struct mr_source_spec spec = {.name = table->name,
                                  .connector = table->source,
                                  .options = table->options,
                                  .declared = table->full,
                                  .schema = table->narrow,
                                  .format = table->format,
                                  .on_error = table->on_error,
                                  .user = table->binding != NULL ? table->binding->user : NULL};
    char *columns = mr_schema_print(table->narrow);
    struct mr_sql_rel source;

    table->options = NULL; /* the graph's */
    if (columns == NULL)
        p->text.failed = true; /* there is no description then, and so no plan */
    mr_buf_printf(&p->text, "source %s: %s%s%s (%s)", table->name, table->connector,
                  table->format != NULL ? ", " : "",
                  table->format != NULL ? table->format->name : "", columns != NULL ? columns : "");
    mr_text_free(columns);
    if (table->statement != NULL && table->statement->watermark != NULL)
        mr_buf_printf(&p->text, ", watermark %s - %.6g s", table->statement->watermark,
                      (double)table->statement->watermark_delay_us / 1e6);
    mr_buf_add_char(&p->text, '\n');
    MR_TRY(mr_graph_source(p->graph, &spec, &rel->node, p->err));
    rel->schema = mr_node_schema(rel->node);
    table->source_node = rel->node;
    if (table->statement == NULL)
        return MR_OK;
    MR_TRY(check_required(p, table));
    if (table->statement->computed_count > 0)
        MR_TRY(add_computed(p, table, rel));
    MR_TRY(mr_sql__add_required(p, table, table->name, rel));
    source = *rel;
    return table->statement->watermark != NULL
               ? mr_sql__add_watermark(p, table->name, &source, table->statement->watermark,
                                       table->statement->watermark_delay_us,
                                       table->statement->watermark_at, rel)
               : MR_OK;
}

enum mr_status mr_sql__source_prepare(struct mr_sql_planner *p, struct mr_sql_table *table)
{
    if (table->narrow != NULL)
        return MR_OK;
    MR_TRY(mr_sql__resolve_source(p, table));
    if (table->statement == NULL)
        MR_TRY(resolve_stdin(p, table));
    return narrow(p, table);
}

enum mr_status mr_sql__source_rel(struct mr_sql_planner *p, struct mr_sql_table *table,
                                  struct mr_sql_rel **ret_rel)
{
    if (table->rel == NULL) {
        struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));

        if (rel == NULL)
            return mr_sql__no_memory(p);
        memset(rel, 0, sizeof(*rel));
        MR_TRY(mr_sql__source_prepare(p, table));
        MR_TRY(make_source(p, table, rel));
        table->rel = rel;
    }
    *ret_rel = table->rel;
    return MR_OK;
}
