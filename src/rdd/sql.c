/*
 * SQL over datasets (features D18): views of a session, and a query over one dataset.
 *
 *     mr_rdd_create_view --rows, computed--> view --(name)--> mr_session_sql --> dataset
 *     mr_rdd_sql: all partitions --> table `input` --> one partition, computed once
 *
 * A view is replaced as a whole; a query takes references to all views when it begins, so it sees
 * each as it was then, whatever batches do meanwhile. Queries run on the thread that asks, with an
 * engine of its own. Names are those of SQL: case does not matter.
 *
 * Thread: any; views are guarded by the session's lock, which is not held while a query runs.
 */
#include "rdd/task.h"

#include "base/text.h"

#include <string.h>

/* ---- statements ---- */

static enum mr_status prepare(struct mr__engines *engines, unsigned slot, const char *sql,
                              const struct mr__table *tables, size_t table_count,
                              struct mr_duck_stmt **ret_stmt, struct mr_error *err)
{
    struct mr_duck_input *inputs = mr_alloc(NULL, (table_count + 1) * sizeof(*inputs));
    struct mr_duck **duck = &engines->ducks[slot];
    enum mr_status status = MR_OK;

    if (inputs == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot run a query: out of memory");
    for (size_t i = 0; i < table_count; i++)
        inputs[i] = (struct mr_duck_input){tables[i].name, tables[i].schema};
    if (*duck == NULL)
        status = mr_duck_open(duck, err);
    if (status == MR_OK)
        status = mr_duck_prepare(*duck, sql, inputs, table_count, ret_stmt, err);
    mr_free(inputs);
    return status;
}

enum mr_status mr__sql_columns(struct mr__engines *engines, const char *sql,
                               const struct mr__table *tables, size_t table_count,
                               struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr_duck_stmt *stmt = NULL;

    MR_TRY(prepare(engines, 0, sql, tables, table_count, &stmt, err));
    *ret_schema = mr_schema_ref(mr_duck_stmt_schema(stmt));
    mr_duck_stmt_free(stmt);
    return MR_OK;
}

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    return mr__batches_add(arg, batch, err);
}

static enum mr_status run_statement(struct mr_duck_stmt *stmt, const struct mr__table *tables,
                                    size_t table_count, int64_t time_us,
                                    struct mr__batches *ret_rows, struct mr_error *err)
{
    struct mr_batch *const **batches =
        mr_alloc(NULL, (table_count + 1) * sizeof(struct mr_batch *const *));
    size_t *counts = mr_alloc(NULL, (table_count + 1) * sizeof(*counts));
    enum mr_status status;

    if (batches == NULL || counts == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot run a query: out of memory");
    } else {
        for (size_t i = 0; i < table_count; i++) {
            batches[i] = tables[i].batches;
            counts[i] = tables[i].batch_count;
        }
        status = mr_duck_run(stmt, batches, counts, time_us, keep, ret_rows, err);
    }
    mr_free((void *)batches);
    mr_free(counts);
    return status;
}

enum mr_status mr__sql_run(struct mr_session *session, const char *sql,
                           const struct mr__table *tables, size_t table_count, int64_t time_us,
                           struct mr__batches *ret_rows, struct mr_schema **ret_schema,
                           struct mr_error *err)
{
    struct mr_duck_stmt *stmt = NULL;
    struct mr__action action;
    enum mr_status status;

    mr__action_enter(&action, session);
    status = prepare(&session->engines, action.slot, sql, tables, table_count, &stmt, err);
    if (status == MR_OK)
        status = run_statement(stmt, tables, table_count, time_us, ret_rows, err);
    if (status == MR_OK && ret_schema != NULL)
        *ret_schema = mr_schema_ref(mr_duck_stmt_schema(stmt));
    mr_duck_stmt_free(stmt);
    mr__action_leave(&action);
    return status;
}

/* ---- a query over one dataset ---- */

struct queried {
    struct mr__once once;
    struct mr__batches rows;
};

static void queried_free(struct mr_rdd *rdd)
{
    struct queried *queried = rdd->own;

    mr__batches_release(&queried->rows);
    mr__once_release(&queried->once);
    mr_free(queried);
}

struct querying {
    struct mr_rdd *rdd;
    struct mr__batches input;
};

static enum mr_status query_task(struct mr__task *task, void *arg, struct mr_error *err)
{
    struct querying *querying = arg;
    struct mr__function *function = mr__compiled_function(querying->rdd->compiled);
    struct queried *queried = querying->rdd->own;

    mr__batches_release(&queried->rows); /* of a try that failed */
    return mr__function_blame(function,
                              mr__function_run_sql(function, task->when, querying->input.items,
                                                   querying->input.count, &queried->rows, err),
                              err);
}

static enum mr_status run_query(struct mr_rdd *rdd, struct mr_error *err)
{
    struct querying querying = {rdd, {0}};
    enum mr_status status = mr__rdd_collect(rdd->inputs[0], &querying.input, err);

    if (status == MR_OK)
        status = mr__run_tasks(rdd, 0, 1, query_task, &querying, err);
    mr__batches_release(&querying.input);
    return status;
}

static enum mr_status queried_prepare(struct mr_rdd *rdd, struct mr_error *err)
{
    struct queried *queried = rdd->own;

    return mr__once_run(&queried->once, rdd, run_query, err);
}

static bool queried_is_prepared(struct mr_rdd *rdd)
{
    struct queried *queried = rdd->own;

    return mr__once_is_done(&queried->once);
}

static enum mr_status queried_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                      struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct queried *queried = rdd->own;

    MR_UNUSED(task);
    MR_ASSERT(partition == 0);
    MR_TRY(queried_prepare(rdd, err)); /* done, but for a stored dataset that lost a partition */
    for (size_t i = 0; i < queried->rows.count; i++)
        MR_TRY(mr__batches_add(ret_rows, queried->rows.items[i], err));
    return MR_OK;
}

static const struct mr__rdd_kind query_kind = {
    .name = "sql",
    .compute = queried_compute,
    .prepare = queried_prepare,
    .is_prepared = queried_is_prepared,
    .free = queried_free,
};

struct mr_rdd *mr_rdd_sql(struct mr_rdd *input, const char *sql)
{
    struct mr_fn statement = {.kind = MR_FN_KIND_SQL, .name = sql};
    struct mr_rdd *rdd = mr__rdd_new(NULL, &query_kind, &input, 1);
    struct queried *queried;
    struct mr_error err;
    enum mr_status status;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    if (sql == NULL)
        return mr__rdd_blame(rdd, NULL, MR_FAIL(&err, MR_CONFIG, "there is no SQL"), &err);
    mr_error_clear(&err);
    status =
        mr__compiled_get(rdd->session, MR__SQL, &statement, input->schema, &rdd->compiled, &err);
    if (status != MR_OK)
        return mr__rdd_blame(rdd, NULL, status, &err);
    queried = mr_alloc_zero(NULL, sizeof(*queried));
    if (queried == NULL)
        return mr__rdd_blame(rdd, NULL, MR_FAIL(&err, MR_NOMEM, "out of memory"), &err);
    mr__once_init(&queried->once);
    rdd->own = queried;
    return mr__rdd_ready(rdd, mr_schema_ref(mr__compiled_function(rdd->compiled)->output), 1);
}

/* ---- views ---- */

/* A view belongs to the session and to the queries that see it. */
static void view_unref(struct mr__view *view)
{
    if (view == NULL || atomic_fetch_sub(&view->references, 1) != 1)
        return;
    mr_free(view->name);
    mr_schema_unref(view->schema);
    mr__batches_release(&view->rows);
    mr_free(view);
}

static bool has_name(const struct mr__view *view, const char *name)
{
    return mr_text_equal_nocase(view->name, strlen(view->name), name, strlen(name));
}

void mr__views_release(struct mr_session *session)
{
    for (size_t i = 0; i < session->view_count; i++)
        view_unref(session->views[i]);
    mr_free(session->views);
    session->views = NULL;
    session->view_count = 0;
}

/* Takes view; *ret_before: the one it replaces. */
static enum mr_status put_view(struct mr_session *session, struct mr__view *view,
                               struct mr__view **ret_before, struct mr_error *err)
{
    struct mr__view **grown;
    enum mr_status status = MR_OK;

    *ret_before = NULL;
    mr_mutex_lock(&session->lock);
    for (size_t i = 0; i < session->view_count; i++) {
        if (has_name(session->views[i], view->name)) {
            *ret_before = session->views[i];
            session->views[i] = view;
            goto done;
        }
    }
    grown = mr_realloc(NULL, session->views, (session->view_count + 1) * sizeof(struct mr__view *));
    if (grown == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make the view '%s': out of memory", view->name);
        goto done;
    }
    session->views = grown;
    session->views[session->view_count++] = view;
done:
    mr_mutex_unlock(&session->lock);
    return status;
}

enum mr_status mr_rdd_create_view(struct mr_rdd *rdd, const char *name, struct mr_error *err)
{
    struct mr__view *view, *before = NULL;
    enum mr_status status;

    MR_TRY(mr_rdd_error(rdd, err));
    if (name == NULL || name[0] == '\0')
        return MR_FAIL(err, MR_CONFIG, "cannot make a view: it needs a name");
    view = mr_alloc_zero(NULL, sizeof(*view));
    if (view != NULL)
        view->name = mr_strdup(name);
    if (view == NULL || view->name == NULL) {
        mr_free(view);
        return MR_FAIL(err, MR_NOMEM, "cannot make the view '%s': out of memory", name);
    }
    atomic_init(&view->references, 1);
    view->schema = mr_schema_ref(rdd->schema);
    status = mr__rdd_collect(rdd, &view->rows, err);
    if (status == MR_OK)
        status = put_view(rdd->session, view, &before, err);
    view_unref(status == MR_OK ? before : view);
    return status;
}

void mr_session_drop_view(struct mr_session *session, const char *name)
{
    struct mr__view *dropped = NULL;

    if (session == NULL || name == NULL)
        return;
    mr_mutex_lock(&session->lock);
    for (size_t i = 0; i < session->view_count && dropped == NULL; i++) {
        if (!has_name(session->views[i], name))
            continue;
        dropped = session->views[i];
        session->views[i] = session->views[--session->view_count];
    }
    mr_mutex_unlock(&session->lock);
    view_unref(dropped);
}

/* ---- queries over views ---- */

struct snapshot {
    struct mr__view **views;
    struct mr__table *tables;
    size_t count;
};

static void snapshot_release(struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++)
        view_unref(snapshot->views[i]);
    mr_free(snapshot->views);
    mr_free(snapshot->tables);
}

static enum mr_status take_snapshot(struct mr_session *session, struct snapshot *snapshot,
                                    struct mr_error *err)
{
    enum mr_status status = MR_OK;

    *snapshot = (struct snapshot){0};
    mr_mutex_lock(&session->lock);
    snapshot->views = mr_alloc(NULL, (session->view_count + 1) * sizeof(struct mr__view *));
    snapshot->tables = mr_alloc(NULL, (session->view_count + 1) * sizeof(*snapshot->tables));
    if (snapshot->views == NULL || snapshot->tables == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot run a query: out of memory");
    } else {
        for (size_t i = 0; i < session->view_count; i++) {
            struct mr__view *view = session->views[i];

            atomic_fetch_add(&view->references, 1);
            snapshot->views[i] = view;
            snapshot->tables[i] =
                (struct mr__table){view->name, view->schema, view->rows.items, view->rows.count};
        }
        snapshot->count = session->view_count;
    }
    mr_mutex_unlock(&session->lock);
    return status;
}

static const struct mr__rdd_kind session_kind = {.name = "sql"};

/* Over what the views are now. */
static enum mr_status query_views(struct mr_session *session, const char *sql,
                                  struct mr__batches *rows, struct mr_schema **ret_schema,
                                  struct mr_error *err)
{
    struct snapshot snapshot = {0};
    char *statement;
    enum mr_status status;

    if (sql == NULL)
        return MR_FAIL(err, MR_CONFIG, "there is no SQL");
    statement = mr_asprintf("\n%s", sql); /* positions are counted from line 2 on (fn.c) */
    if (statement == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot run a query: out of memory");
    status = take_snapshot(session, &snapshot, err);
    if (status == MR_OK)
        status = mr__sql_run(session, statement, snapshot.tables, snapshot.count,
                             mr_env_wall_us(session->env), rows, ret_schema, err);
    snapshot_release(&snapshot);
    mr_free(statement);
    return status;
}

struct mr_rdd *mr_session_sql(struct mr_session *session, const char *sql)
{
    struct mr_schema *schema = NULL;
    struct mr__batches *rows;
    struct mr_rdd *rdd;
    struct mr_error err;
    enum mr_status status;

    if (session == NULL)
        return NULL;
    rows = mr_alloc_zero(NULL, sizeof(*rows));
    if (rows == NULL)
        return NULL;
    mr_error_clear(&err);
    status = query_views(session, sql, rows, &schema, &err);
    if (status != MR_OK) {
        mr__batches_release(rows);
        mr_free(rows);
        rdd = mr__rdd_new(session, &session_kind, NULL, 0);
        return rdd != NULL ? mr__rdd_blame(rdd, NULL, status, &err) : NULL;
    }
    rdd = mr__rdd_of_batches(session, schema, rows, 1, 0, mr_env_wall_us(session->env));
    mr_schema_unref(schema);
    if (rdd != NULL)
        rdd->in_batch = false;
    return rdd;
}
