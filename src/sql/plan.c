/*
 * The planner: from a script to one graph and its configuration. Called by the command and by the C
 * API.
 *
 *     settings (SET, command line) --> config
 *     tables, views                --> catalogue                                   catalog.c
 *     each INSERT or SELECT        --> syntax tree                                 text.c
 *     all of them, dry             --> columns each source must read, modes        needs.c
 *     each again                   --> sources, maps, folds   from.c select.c window.c aggregate.c
 *     rows cast to the sink        --> sinks                                       sink.c
 *
 * What the graph borrows (static tables, texts, instances of DuckDB) belongs to the plan, which
 * therefore outlives the query.
 *
 * Thread: the caller's.
 */
#include "sql/plan.h"

#include "base/check.h"
#include "env/thread.h"
#include "sql/internal.h"
#include "sql/library.h"
#include "sql/outputs.h"
#include "sql/settings.h"

#include <string.h>

/* A statement that runs: an INSERT, the SELECT that prints, or a view that nobody reads. */
struct job {
    const struct mr_sql_statement *statement;
    struct mr_sql_query *query;
    const struct mr_sql_view *view; /* nobody reads it; NULL: a statement of its own */
    size_t output;                  /* index */
};

/* What mr_sql_plan_free finds behind the public part. */
struct plan {
    struct mr_sql_plan public;
    struct mr_sql_planner planner;
    struct mr_sql_output *outputs;
    size_t output_count;
    struct job *jobs; /* in the order of the script */
    size_t job_count;
    struct mr_sql_library *library; /* NULL: none */
};

/* ---- Settings ---- */

/* Do both sets give the same option, whatever the spelling? */
static bool share_an_option(const struct mr_options *a, const struct mr_options *b)
{
    const struct mr_option_table *table = mr_sql_settings_table();

    for (size_t i = 0; i < table->option_count; i++) {
        if (mr_options_has(a, table->options[i].name) && mr_options_has(b, table->options[i].name))
            return true;
    }
    return false;
}

/* SET statements, but those that the command line overrides; each is parsed alone, for its
 * place. */
static enum mr_status read_settings(struct plan *plan)
{
    struct mr_sql_planner *p = &plan->planner;
    const struct mr_option_table *table = mr_sql_settings_table();
    size_t room = p->script->count + p->args->setting_count + 1;
    struct mr_option_pair *pairs = mr_arena_alloc(&p->arena, room * sizeof(*pairs));
    struct mr_options *overrides = NULL, *one = NULL;
    size_t count = 0;
    enum mr_status status;

    if (pairs == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_options_parse(&table, 1, p->args->settings, p->args->setting_count, 0, &overrides,
                            p->err));
    for (size_t i = 0; i < p->script->count; i++) {
        const struct mr_sql_statement *statement = &p->script->statements[i];

        if (statement->kind != MR_SQL_SET)
            continue;
        pairs[count] =
            (struct mr_option_pair){statement->options[0].key, statement->options[0].value};
        status = mr_options_parse(&table, 1, &pairs[count], 1, 0, &one, p->err);
        if (status != MR_OK) {
            mr_options_free(overrides);
            return mr_error_place(p->err, p->script->text, statement->options[0].at, status);
        }
        count += share_an_option(one, overrides) ? 0 : 1;
        mr_options_free(one);
    }
    mr_options_free(overrides);
    for (size_t i = 0; i < p->args->setting_count; i++)
        pairs[count++] = p->args->settings[i];
    return mr_options_parse(&table, 1, pairs, count, 0, &plan->public.settings, p->err);
}

/* What a restart must not change, as JSON for the checkpoint. */
static enum mr_status pin_settings(struct plan *plan)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};

    mr_json_begin_object(&out, NULL);
    for (size_t i = 0; i < plan->output_count; i++) {
        static const char *const modes[] = {"append", "update", "complete"};
        const struct mr_sql_output *output = &plan->outputs[i];

        mr_json_add_string(&out, output->table != NULL ? output->table->name : "console",
                           modes[output->mode]);
    }
    mr_json_end_object(&out);
    plan->public.config.settings =
        text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
    mr_buf_release(&text);
    return plan->public.config.settings != NULL ? MR_OK : mr_sql__no_memory(p);
}

/* ---- Outputs ---- */

static enum mr_status find_output(struct plan *plan, struct mr_sql_table *table,
                                  struct mr_sql_output **ret_output)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_sql_output *output;

    for (size_t i = 0; i < plan->output_count; i++) {
        if (plan->outputs[i].table == table) {
            *ret_output = &plan->outputs[i];
            return MR_OK;
        }
    }
    output = &plan->outputs[plan->output_count++];
    memset(output, 0, sizeof(*output));
    output->table = table;
    output->inputs = mr_arena_alloc(&p->arena, (p->script->count + p->table_count + 1) *
                                                   sizeof(struct mr_node *));
    if (output->inputs == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_sql__sink_resolve(p, output, mr_options_text(plan->public.settings, "output_mode")));
    *ret_output = output;
    return MR_OK;
}

/* Rows of a view that nobody reads go nowhere; the view keeps its state all the same. */
static struct mr_sql_table *nowhere(struct mr_sql_planner *p, const char *name)
{
    struct mr_sql_table *table = mr_arena_alloc(&p->arena, sizeof(*table));

    if (table == NULL)
        return NULL;
    memset(table, 0, sizeof(*table));
    table->name = name;
    table->connector = "null";
    return table;
}

static enum mr_status choose_output(struct plan *plan, struct job *job)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_sql_table *table = NULL;
    struct mr_sql_output *output;

    if (job->view != NULL) {
        table = nowhere(p, job->view->name);
        if (table == NULL)
            return mr_sql__no_memory(p);
    } else if (job->statement->kind == MR_SQL_INSERT) {
        table = mr_sql__table(p, job->statement->name);
        if (table == NULL) {
            enum mr_status status =
                mr_sql__unknown_table(p, job->query, NULL, job->statement->name);

            return mr_error_place(p->err, p->script->text, job->statement->name_at, status);
        }
    }
    job->query->planned = true;
    MR_TRY(find_output(plan, table, &output));
    mr_sql__wish_mode(p, output, job->query);
    job->output = (size_t)(output - plan->outputs);
    return MR_OK;
}

/* What the statement reads, and in which mode. */
static enum mr_status look_around(struct plan *plan, const struct job *job)
{
    struct mr_sql_planner *p = &plan->planner;
    const struct mr_sql_output *output = &plan->outputs[job->output];
    struct mr_buf text = MR_BUF_INIT;

    MR_TRY(mr_sql__check_mode(p, output, job->query));
    if (job->view != NULL)
        mr_buf_printf(&text, "MATERIALIZED VIEW %s", job->view->name);
    else if (output->table != NULL)
        mr_buf_printf(&text, "INSERT INTO %s", output->table->name);
    else
        mr_buf_add_str(&text, "the SELECT");
    p->mode = output->mode;
    p->reader = text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
    mr_buf_release(&text);
    if (p->reader == NULL)
        return mr_sql__no_memory(p);
    return mr_sql__needs(p, job->query);
}

static enum mr_status plan_job(struct plan *plan, const struct job *job)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_sql_output *output = &plan->outputs[job->output];
    struct mr_sql_rel *rel;
    struct mr_sql_rel fitted;
    bool keeps = true;

    p->mode = output->mode;
    MR_TRY(mr_sql__plan_query(p, job->query, job->query->node, NULL, &rel));
    MR_TRY(mr_sql__check_groups(p, job->query, rel));
    if (p->mode == MR_MODE_COMPLETE && !rel->aggregated)
        return mr_sql__fail(
            p, job->query, NULL,
            "output_mode = 'complete' needs an aggregation of the stream; use 'append'");
    if (job->view != NULL)
        MR_TRY(mr_sql__keeps_state(p, rel, &keeps));
    if (!keeps)
        return mr_sql__fail_at(p, job->statement->name_at,
                               "materialized view '%s' keeps no state and nobody reads it, so it "
                               "would do nothing; INSERT INTO a table from it, give it WITH "
                               "(connector = '...'), or make it a VIEW",
                               job->view->name);
    MR_TRY(mr_sql__fit(p, job->query, output, job->statement, rel, &fitted));
    if (job->view != NULL)
        mr_buf_printf(&p->text, "view %s: nobody reads it; its state is kept\n", job->view->name);
    output->inputs[output->input_count++] = fitted.node;
    return MR_OK;
}

/* on_error = 'into TABLE': records that cannot be decoded become rows of another table. */
static enum mr_status route_bad(struct plan *plan, struct mr_sql_table *table)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_sql_table *target = mr_sql__table(p, table->bad_table);
    struct mr_sql_query query = {
        .owner = target != NULL ? target->name : "", .sql = "", .at = table->statement->at};
    struct mr_sql_statement insert = {
        .kind = MR_SQL_INSERT, .name = table->bad_table, .name_at = table->statement->at};
    struct mr_node *source = table->source_node;
    struct mr_sql_rel rel = {0};
    struct mr_sql_rel fitted;
    struct mr_sql_output *output;

    if (target == NULL)
        return mr_error_place(p->err, p->script->text, table->statement->name_at,
                              MR_FAIL(p->err, MR_SQL_ERROR,
                                      "on_error = 'into %s': there is no table '%s'; create it",
                                      table->bad_table, table->bad_table));
    MR_TRY(find_output(plan, target, &output));
    if (!output->mode_known) {
        output->mode = MR_MODE_APPEND;
        output->mode_known = true;
    }
    MR_TRY(mr_graph_bad_records(p->graph, source, &rel.node, p->err));
    rel.schema = mr_node_schema(rel.node);
    MR_TRY(mr_sql__fit(p, &query, output, &insert, &rel, &fitted));
    output->inputs[output->input_count++] = fitted.node;
    return MR_OK;
}

static bool is_nested(const struct mr_type *type)
{
    return type->id == MR_TYPE_STRUCT || type->id == MR_TYPE_LIST;
}

/* A window or list is no number or time: the cast would only fail with the first row. */
static enum mr_status check_cast(struct plan *plan, const struct mr_sql_late *late,
                                 const struct mr_field *from, const struct mr_field *to)
{
    if (!is_nested(&from->type) || is_nested(&to->type) || to->type.id == MR_TYPE_TEXT)
        return MR_OK;
    return mr_sql__fail_at(&plan->planner, late->at,
                           "column '%s' of the late rows is a struct or list, and another type in "
                           "table '%s'; give one of them another name",
                           from->name, late->table);
}

/* The columns that the table declares and late rows have; the table's others become null. */
static enum mr_status shared_columns(struct plan *plan, const struct mr_sql_late *late,
                                     const struct mr_schema *declared, struct mr_sql_rel *ret_rel)
{
    struct mr_sql_planner *p = &plan->planner;
    const struct mr_schema *have = late->rel.schema;
    uint32_t count = mr_schema_field_count(have);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*names));
    uint32_t used = 0;

    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(have, i)->name;
        int32_t target = mr_schema_find(declared, name, strlen(name));

        if (target < 0)
            continue;
        MR_TRY(check_cast(plan, late, mr_schema_field(have, i),
                          mr_schema_field(declared, (uint32_t)target)));
        columns[used] = i;
        names[used++] = name;
    }
    if (used == 0) {
        char *offered = mr_schema_print(have);
        enum mr_status status = mr_sql__fail_at(
            p, late->at, "table '%s' has none of the columns of the late rows; they have %s",
            late->table, offered != NULL ? offered : "");

        mr_text_free(offered);
        return status;
    }
    return mr_sql__add_project(p, late->table, &late->rel, columns, names, used, ret_rel);
}

/* ON LATE INTO: what clauses.c split off becomes rows of the table. */
static enum mr_status route_late(struct plan *plan, const struct mr_sql_late *late)
{
    struct mr_sql_planner *p = &plan->planner;
    struct mr_sql_table *target = mr_sql__table(p, late->table);
    const struct mr_schema *declared =
        target->statement != NULL ? target->statement->columns : NULL;
    struct mr_sql_query *query = mr_arena_alloc(&p->arena, sizeof(*query));
    struct mr_sql_statement insert = {
        .kind = MR_SQL_INSERT, .name = late->table, .name_at = late->at, .by_name = true};
    struct mr_sql_rel rel = late->rel;
    struct mr_sql_rel fitted;
    struct mr_sql_output *output;

    if (query == NULL)
        return mr_sql__no_memory(p);
    memset(query, 0, sizeof(*query));
    query->owner = target->name;
    query->sql = "";
    query->at = late->at;
    MR_TRY(find_output(plan, target, &output));
    if (!output->mode_known) {
        output->mode = MR_MODE_APPEND;
        output->mode_known = true;
    }
    if (declared != NULL)
        MR_TRY(shared_columns(plan, late, declared, &rel));
    MR_TRY(mr_sql__fit(p, query, output, &insert, &rel, &fitted));
    mr_buf_printf(&p->text, "late rows of '%s' go to table '%s'\n", late->owner, target->name);
    output->inputs[output->input_count++] = fitted.node;
    return MR_OK;
}

static enum mr_status add_sinks(struct plan *plan)
{
    static const char *const modes[] = {"append", "update", "complete"};
    struct mr_sql_planner *p = &plan->planner;

    for (size_t i = 0; i < plan->output_count; i++) {
        struct mr_sql_output *output = &plan->outputs[i];
        struct mr_sink_spec spec = {.name = output->table != NULL ? output->table->name : "console",
                                    .connector = output->connector,
                                    .options = output->options,
                                    .format = output->format,
                                    .mode = output->mode,
                                    .user = output->user};

        output->options = NULL; /* the graph's */
        mr_buf_printf(&p->text, "sink %s: %s%s%s, output mode %s, %s\n", spec.name,
                      output->connector->name, output->format != NULL ? ", " : "",
                      output->format != NULL ? output->format->name : "", modes[output->mode],
                      output->connector->guarantee == MR_EXACTLY_ONCE ? "exactly once"
                                                                      : "at least once");
        plan->public.prints |= strcmp(spec.connector->name, "console") == 0;
        MR_TRY(mr_graph_sink(p->graph, &spec, output->inputs, output->input_count, p->err));
    }
    return MR_OK;
}

/* ---- Statements ---- */

static const char terminal[] = "console";

/* EXPLAIN chooses what is planned; without it all INSERTs run, or the last SELECT. */
struct choice {
    size_t inserts;
    size_t explains;
    size_t views;       /* materialized */
    size_t last_select; /* the count of statements when there is none */
};

static bool is_chosen(const struct choice *choice, const struct mr_sql_statement *statement,
                      size_t index)
{
    if (statement->kind != MR_SQL_INSERT && statement->kind != MR_SQL_SELECT)
        return false;
    if (choice->explains > 0)
        return statement->explain;
    return statement->kind == MR_SQL_INSERT ||
           (choice->inserts == 0 && index == choice->last_select);
}

static enum mr_status check_choice(struct plan *plan, const struct choice *choice)
{
    struct mr_sql_planner *p = &plan->planner;

    if (choice->inserts + choice->explains + choice->views == 0 &&
        choice->last_select == p->script->count)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "'%s' has nothing to run: add INSERT INTO ... SELECT, or a SELECT",
                       p->script->name);
    if (choice->inserts == 0 || choice->explains > 0 || choice->last_select == p->script->count)
        return MR_OK;
    return mr_error_place(
        p->err, p->script->text, p->script->statements[choice->last_select].at,
        MR_FAIL(p->err, MR_SQL_ERROR,
                "a SELECT next to INSERT INTO would go nowhere; remove it, or INSERT INTO a "
                "table WITH (connector = 'console')"));
}

static enum mr_status choose_statements(struct plan *plan)
{
    struct mr_sql_planner *p = &plan->planner;
    struct choice choice = {.last_select = p->script->count};

    for (size_t i = 0; i < p->script->count; i++) {
        const struct mr_sql_statement *statement = &p->script->statements[i];

        choice.explains += statement->explain;
        choice.inserts += statement->kind == MR_SQL_INSERT && !statement->explain;
        choice.views += statement->kind == MR_SQL_VIEW && statement->materialized;
        if (statement->kind == MR_SQL_SELECT && !statement->explain)
            choice.last_select = i;
    }
    plan->public.explains = choice.explains > 0;
    MR_TRY(check_choice(plan, &choice));
    for (size_t i = 0; i < p->script->count; i++) {
        const struct mr_sql_statement *statement = &p->script->statements[i];
        const char *owner = statement->kind == MR_SQL_INSERT ? statement->name : terminal;
        struct job *job = &plan->jobs[plan->job_count];

        if (!is_chosen(&choice, statement, i))
            continue;
        *job = (struct job){.statement = statement};
        if (statement->whole_view)
            MR_TRY(mr_sql__query_make(p, owner, statement->name, &job->query));
        else
            MR_TRY(mr_sql__query_parse(p, owner, statement->select_at, statement->select_size,
                                       &job->query));
        plan->job_count++;
    }
    return MR_OK;
}

static bool is_read(const struct mr_sql_view *view)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(view->readers); i++) {
        if (view->readers[i] != NULL)
            return true;
    }
    return false;
}

/* Materialized views that nothing reads run by themselves, for their state. From the last one on:
 * a view may read those in front of it. */
static enum mr_status add_views(struct plan *plan)
{
    struct mr_sql_planner *p = &plan->planner;

    for (size_t i = p->view_count; i > 0 && !plan->public.explains; i--) {
        const struct mr_sql_view *view = &p->views[i - 1];
        struct job *job = &plan->jobs[plan->job_count];

        if (view->statement == NULL || !view->statement->materialized || is_read(view) ||
            mr_sql__is_static(p, view->query->node, NULL))
            continue;
        *job = (struct job){.statement = view->statement, .view = view};
        MR_TRY(mr_sql__query_make(p, view->name, view->name, &job->query));
        plan->job_count++;
        MR_TRY(choose_output(plan, job));
        mr_sql__settle_mode(&plan->outputs[job->output]);
        MR_TRY(look_around(plan, job));
    }
    return MR_OK;
}

static enum mr_status plan_all(struct plan *plan)
{
    struct mr_sql_planner *p = &plan->planner;

    MR_TRY(choose_statements(plan));
    for (size_t i = 0; i < plan->job_count; i++)
        MR_TRY(choose_output(plan, &plan->jobs[i]));
    for (size_t i = 0; i < plan->output_count; i++)
        mr_sql__settle_mode(&plan->outputs[i]);
    for (size_t i = 0; i < plan->job_count; i++)
        MR_TRY(look_around(plan, &plan->jobs[i]));
    MR_TRY(add_views(plan));
    for (size_t i = 0; i < plan->job_count; i++)
        MR_TRY(plan_job(plan, &plan->jobs[i]));
    if (plan->output_count == 0)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "'%s' has nothing to run: its views read no stream; add INSERT INTO ... "
                       "SELECT, or a SELECT",
                       p->script->name);
    MR_TRY(mr_sql__check_clauses(p));
    for (const struct mr_sql_late *late = p->lates; late != NULL; late = late->next)
        MR_TRY(route_late(plan, late));
    for (size_t i = 0; i < p->table_count; i++) {
        if (p->tables[i].rel != NULL && p->tables[i].on_error == MR_ON_ERROR_ROUTE)
            MR_TRY(route_bad(plan, &p->tables[i]));
    }
    return add_sinks(plan);
}

/* Functions of the program and of a library; *ret_functions NULL: none. */
static enum mr_status find_functions(struct plan *plan,
                                     const struct mr_sql_functions **ret_functions)
{
    const struct mr_sql_planner *p = &plan->planner;
    const char *path = mr_options_text(plan->public.settings, "library");

    *ret_functions = p->args->functions;
    if (path != NULL) {
        MR_TRY(mr_sql__library_load(path, p->args->functions, &plan->library, p->err));
        *ret_functions = mr_sql__library_functions(plan->library);
    }
    mr_sql__use_functions(*ret_functions);
    return MR_OK;
}

static enum mr_status make_plan(struct plan *plan)
{
    const struct mr_sql_functions *functions = NULL;
    struct mr_sql_planner *p = &plan->planner;
    size_t count = p->script->count + 1;

    plan->outputs = mr_arena_alloc(&p->arena, (count * 2) * sizeof(*plan->outputs));
    plan->jobs = mr_arena_alloc(&p->arena, count * sizeof(*plan->jobs));
    p->graph = plan->public.graph = mr_graph_new();
    if (plan->outputs == NULL || plan->jobs == NULL || p->graph == NULL)
        return mr_sql__no_memory(p);
    mr_query_config_init(&plan->public.config);
    MR_TRY(read_settings(plan));
    MR_TRY(mr_sql_settings_apply(plan->public.settings, &plan->public.config, p->err));
    p->workers = plan->public.config.workers > 0 ? plan->public.config.workers : mr_cpu_count();
    MR_TRY(find_functions(plan, &functions));
    /* A macro costs a third of a millisecond: only who names it has it. */
    MR_TRY(mr_sql__engine_new(functions, strcasestr(p->script->text, "window_time") != NULL,
                              &p->engine, p->err));
    MR_TRY(mr_sql__engine_duck(p->engine, 0, &p->duck, p->err));
    MR_TRY(mr_sql__catalog(p));
    MR_TRY(plan_all(plan));
    MR_TRY(pin_settings(plan));
    if (plan->public.config.name == NULL)
        plan->public.config.name =
            plan->outputs[0].table != NULL ? plan->outputs[0].table->name : terminal;
    mr_buf_printf(&p->text, "checkpoint: %s\n",
                  plan->public.config.checkpoint_dir != NULL ? plan->public.config.checkpoint_dir
                                                             : "none (starts anew each time)");
    plan->public.description = mr_buf_take(&p->text);
    return plan->public.description != NULL ? MR_OK : mr_sql__no_memory(p);
}

enum mr_status mr_sql_plan(const struct mr_sql_script *script, const struct mr_sql_args *args,
                           struct mr_sql_plan **ret_plan, struct mr_error *err)
{
    struct plan *plan = mr_alloc_zero(NULL, sizeof(*plan));
    struct mr_error own = {0};
    enum mr_status status;

    if (plan == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan the query: out of memory");
    plan->planner.script = script;
    plan->planner.args = args;
    plan->planner.err = err != NULL ? err : &own;
    status = make_plan(plan);
    /* A tree that has lost a member would be another query, or one that makes no sense: no plan is
     * made of it, and an error about it is not the user's. */
    if (plan->planner.arena.failed)
        status = mr_sql__no_memory(&plan->planner);
    mr_sql__use_functions(NULL);
    plan->planner.err = NULL;
    if (status == MR_OK)
        *ret_plan = &plan->public;
    else
        mr_sql_plan_free(&plan->public);
    return status;
}

void mr_sql_plan_free(struct mr_sql_plan *public_plan)
{
    struct plan *plan = (struct plan *)public_plan;
    struct mr_sql_planner *p;

    if (plan == NULL)
        return;
    p = &plan->planner;
    mr_graph_free(plan->public.graph); /* its operators use what follows */
    for (size_t i = 0; i < plan->output_count; i++)
        mr_options_free(plan->outputs[i].options);
    for (size_t i = 0; i < p->table_count; i++) {
        mr_options_free(p->tables[i].options);
        mr_schema_unref(p->tables[i].narrow);
        mr_schema_unref(p->tables[i].owned);
        mr_sql__static_free(p->tables[i].rows);
    }
    for (struct mr_sql_query *query = p->queries; query != NULL; query = query->next)
        mr_edits_release(&query->edits);
    mr_options_free(plan->public.settings);
    mr_text_free(plan->public.description);
    mr_buf_release(&p->text);
    mr_sql__engine_unref(p->engine);
    mr_sql__library_free(plan->library);
    mr_arena_release(&p->arena);
    mr_free(plan);
}

enum mr_status mr_sql_check(const struct mr_sql_script *script, const struct mr_sql_args *args,
                            char **ret_text, struct mr_error *err)
{
    struct mr_sql_args dry = *args;
    struct mr_sql_plan *plan = NULL;

    dry.check_only = true;
    MR_TRY(mr_sql_plan(script, &dry, &plan, err));
    MR_ASSERT(plan != NULL);
    *ret_text = plan->description;
    plan->description = NULL;
    mr_sql_plan_free(plan);
    return MR_OK;
}
