/*
 * Statements as operators, and the instances of DuckDB they run on: one a worker, opened when
 * the worker first needs it.
 *
 *     each batch     apply: run over it, collect the result, hand it on      projections, filters
 *     joins          the same over GATHER_ROWS at a time: the static side is hashed anew at every
 *                    run
 *     whole          a fold without state, of one partition: run once over     ORDER BY and LIMIT
 *                    what all tasks and partitions before it brought           of a complete result
 *
 * Results are collected before they are handed on, because the next operator may use the same
 * instance, which can have one open result only. Each worker has its own prepared statement, made
 * at its first batch; worker 0 (the driver) uses the one the planner made.
 *
 * Thread: workers; slot i of an operator or engine is touched by worker i alone, the reference
 * count by the planner's thread.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

enum { WORKERS_MAX = 257, GATHER_ROWS = 64 * 1024 };

struct mr_sql_engine {
    unsigned references; /* planner, operators: all freed on one thread */
    const struct mr_sql_functions *functions;
    bool has_window_time; /* the instances have, or get, the macro */
    struct mr_duck *ducks[WORKERS_MAX];
};

/* Batches on their way. */
struct list {
    struct mr_batch **batches;
    size_t count;
    size_t capacity;
};

/* Rows of one partition that wait for a run. */
struct gathered {
    struct list list;
    int64_t rows;
};

struct map {
    struct mr_sql_engine *engine;
    char *sql;
    struct mr_duck_input *inputs;
    struct mr_sql_static **rows; /* per input; NULL: the stream */
    int64_t rows_hints[MR_SQL_INPUTS_MAX];
    size_t input_count;
    struct mr_duck_stmt *stmts[WORKERS_MAX];
};

/* ---- Engine ---- */

enum mr_status mr_sql__engine_new(const struct mr_sql_functions *functions, bool has_window_time,
                                  struct mr_sql_engine **ret_engine, struct mr_error *err)
{
    struct mr_sql_engine *engine = mr_alloc_zero(NULL, sizeof(*engine));
    struct mr_duck *duck;
    enum mr_status status;

    if (engine == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the SQL engine: out of memory");
    engine->references = 1;
    engine->functions = functions;
    engine->has_window_time = has_window_time;
    status = mr_sql__engine_duck(engine, 0, &duck, err);
    if (status == MR_OK)
        *ret_engine = engine;
    else
        mr_sql__engine_unref(engine);
    return status;
}

struct mr_sql_engine *mr_sql__engine_ref(struct mr_sql_engine *engine)
{
    engine->references++;
    return engine;
}

void mr_sql__engine_unref(struct mr_sql_engine *engine)
{
    if (engine == NULL || --engine->references > 0)
        return;
    for (size_t i = 0; i < WORKERS_MAX; i++)
        mr_duck_close(engine->ducks[i]);
    mr_free(engine);
}

/* The time that a window's rows have for what comes behind: its last microsecond. */
static enum mr_status add_window_time(struct mr_duck *duck, struct mr_error *err)
{
    static const char macro[] =
        "CREATE MACRO window_time(w) AS struct_extract(w, 'end') - to_microseconds(1)";

    return mr_duck_exec(duck, macro, NULL, NULL, err);
}

enum mr_status mr_sql__engine_window_time(struct mr_sql_engine *engine, struct mr_error *err)
{
    if (engine->has_window_time)
        return MR_OK;
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        if (engine->ducks[i] != NULL)
            MR_TRY(add_window_time(engine->ducks[i], err));
    }
    engine->has_window_time = true;
    return MR_OK;
}

enum mr_status mr_sql__engine_duck(struct mr_sql_engine *engine, unsigned worker,
                                   struct mr_duck **ret_duck, struct mr_error *err)
{
    MR_ASSERT(worker < WORKERS_MAX);
    if (engine->ducks[worker] == NULL) {
        struct mr_duck *duck = NULL;
        enum mr_status status = MR_OK;

        MR_TRY(mr_duck_open(&duck, err));
        if (engine->has_window_time)
            status = add_window_time(duck, err);
        if (status == MR_OK && engine->functions != NULL)
            status = engine->functions->add(engine->functions->arg, duck, err);
        if (status != MR_OK) {
            mr_duck_close(duck);
            return status;
        }
        engine->ducks[worker] = duck;
    }
    *ret_duck = engine->ducks[worker];
    return MR_OK;
}

/* ---- Lists ---- */

static void list_clear(struct list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mr_batch_unref(list->batches[i]);
    mr_free(list->batches);
    memset(list, 0, sizeof(*list));
}

static enum mr_status list_add(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct list *list = arg;

    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 8;
        struct mr_batch **grown = mr_realloc(NULL, list->batches, capacity * sizeof(*grown));

        if (grown == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot keep rows of a statement: out of memory");
        list->batches = grown;
        list->capacity = capacity;
    }
    list->batches[list->count++] = mr_batch_ref(batch);
    return MR_OK;
}

/* ---- The operator ---- */

static void map_free(void *op)
{
    struct map *map = op;

    if (map == NULL)
        return;
    for (size_t i = 0; i < WORKERS_MAX; i++)
        mr_duck_stmt_free(map->stmts[i]);
    for (size_t i = 0; map->inputs != NULL && i < map->input_count; i++) {
        mr_free((void *)(uintptr_t)map->inputs[i].name);
        mr_schema_unref((struct mr_schema *)(uintptr_t)map->inputs[i].schema);
    }
    mr_free(map->inputs);
    mr_free(map->rows);
    mr_free(map->sql);
    mr_sql__engine_unref(map->engine);
    mr_free(map);
}

static enum mr_status statement_of(struct map *map, unsigned worker, struct mr_duck_stmt **ret_stmt,
                                   struct mr_error *err)
{
    MR_ASSERT(worker < WORKERS_MAX);
    if (map->stmts[worker] == NULL) {
        struct mr_duck *duck;

        MR_TRY(mr_sql__engine_duck(map->engine, worker, &duck, err));
        MR_TRY(mr_duck_prepare_sized(duck, map->sql, map->inputs, map->rows_hints, map->input_count,
                                     &map->stmts[worker], err));
    }
    *ret_stmt = map->stmts[worker];
    return MR_OK;
}

/* Runs over stream batches and hands the result on. */
static enum mr_status run(struct map *map, const struct mr_batch_info *info,
                          struct mr_batch *const *stream, size_t stream_count,
                          struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *const *batches[MR_SQL_INPUTS_MAX];
    size_t counts[MR_SQL_INPUTS_MAX];
    struct list results = {0};
    struct mr_duck_stmt *stmt;
    enum mr_status status;

    for (size_t i = 0; i < map->input_count; i++) {
        batches[i] = stream;
        counts[i] = stream_count;
        if (map->rows[i] != NULL)
            MR_TRY(mr_sql__static_rows(map->rows[i], info, &batches[i], &counts[i], err));
    }
    MR_TRY(statement_of(map, info->worker, &stmt, err));
    status = mr_duck_run(stmt, batches, counts, info->batch_time_us, list_add, &results, err);
    for (size_t i = 0; i < results.count && status == MR_OK; i++)
        status = mr_output_emit(out, results.batches[i], err);
    list_clear(&results);
    return status;
}

static enum mr_status each_apply(void *op, void *task, const struct mr_batch_info *info,
                                 const struct mr_batch *batch, struct mr_output *out,
                                 struct mr_error *err)
{
    struct mr_batch *one = mr_batch_ref(batch);
    enum mr_status status = run(op, info, &one, 1, out, err);

    MR_UNUSED(task);
    mr_batch_unref(one);
    return status;
}

static enum mr_status gather_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                   struct mr_error *err)
{
    struct gathered *gathered = mr_alloc_zero(NULL, sizeof(*gathered));

    MR_UNUSED(op);
    MR_UNUSED(info);
    if (gathered == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep rows of a statement: out of memory");
    *ret_task = gathered;
    return MR_OK;
}

/* Runs over what was gathered, if anything. */
static enum mr_status gather_finish(void *op, void *task, const struct mr_batch_info *info,
                                    struct mr_output *out, struct mr_error *err)
{
    struct gathered *gathered = task;
    enum mr_status status = MR_OK;

    if (gathered->list.count > 0)
        status = run(op, info, gathered->list.batches, gathered->list.count, out, err);
    list_clear(&gathered->list);
    gathered->rows = 0;
    return status;
}

static enum mr_status gather_apply(void *op, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    struct gathered *gathered = task;

    MR_TRY(list_add(&gathered->list, batch, err));
    gathered->rows += mr_batch_row_count(batch);
    if (gathered->rows < GATHER_ROWS)
        return MR_OK;
    return gather_finish(op, task, info, out, err);
}

static void gather_end(void *op, void *task)
{
    struct gathered *gathered = task;

    MR_UNUSED(op);
    list_clear(&gathered->list);
    mr_free(gathered);
}

/* What the partitions of a fold and its neighbours brought is one result only together. */
static enum mr_status whole_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];

    MR_ASSERT(call->input_count == 1);
    if (!call->fires || !input->present || input->batch_count == 0)
        return MR_OK;
    return run(op, call->info, input->batches, input->batch_count, call->out, err);
}

static enum mr_status copy_spec(struct map *map, const struct mr_sql_map_spec *spec,
                                struct mr_error *err)
{
    map->sql = mr_strdup(spec->sql);
    map->inputs = mr_alloc_zero(NULL, spec->input_count * sizeof(*map->inputs));
    map->rows = mr_alloc_zero(NULL, spec->input_count * sizeof(struct mr_sql_static *));
    map->input_count = spec->input_count;
    if (map->sql == NULL || map->inputs == NULL || map->rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan a statement: out of memory");
    for (size_t i = 0; i < spec->input_count; i++) {
        map->inputs[i].name = mr_strdup(spec->inputs[i].name);
        map->inputs[i].schema = mr_schema_ref(spec->inputs[i].schema);
        map->rows[i] = spec->inputs[i].rows;
        for (size_t k = 0; map->rows[i] != NULL && k < map->rows[i]->count; k++)
            map->rows_hints[i] += mr_batch_row_count(map->rows[i]->batches[k]);
        if (map->inputs[i].name == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot plan a statement: out of memory");
    }
    return MR_OK;
}

/* The operator and the schema of its rows, borrowed from its statement. */
static enum mr_status map_new(const struct mr_sql_map_spec *spec, struct map **ret_map,
                              const struct mr_schema **ret_schema, struct mr_error *err)
{
    struct map *map = mr_alloc_zero(NULL, sizeof(*map));
    struct mr_duck_stmt *stmt;
    enum mr_status status;

    MR_ASSERT(spec->input_count <= MR_SQL_INPUTS_MAX);
    if (map == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan a statement: out of memory");
    map->engine = mr_sql__engine_ref(spec->engine);
    status = copy_spec(map, spec, err);
    if (status == MR_OK)
        status = statement_of(map, 0, &stmt, err);
    if (status != MR_OK) {
        map_free(map);
        return status;
    }
    *ret_map = map;
    *ret_schema = mr_duck_stmt_schema(stmt);
    return MR_OK;
}

enum mr_status mr_sql__map_new(const struct mr_sql_map_spec *spec, struct mr_map_op *ret_op,
                               struct mr_error *err)
{
    static const struct mr_map_ops each_ops = {
        .struct_size = sizeof(each_ops), .kind = "sql", .apply = each_apply, .free = map_free};
    static const struct mr_map_ops gather_ops = {.struct_size = sizeof(gather_ops),
                                                 .kind = "sql over many batches",
                                                 .begin = gather_begin,
                                                 .apply = gather_apply,
                                                 .finish = gather_finish,
                                                 .end = gather_end,
                                                 .free = map_free};
    const struct mr_schema *schema = NULL;
    struct map *map = NULL;

    MR_TRY(map_new(spec, &map, &schema, err));
    ret_op->ops = spec->input_count > 1 ? &gather_ops : &each_ops;
    ret_op->op = map;
    ret_op->schema = mr_schema_ref(schema);
    return MR_OK;
}

enum mr_status mr_sql__whole_new(const struct mr_sql_map_spec *spec, struct mr_fold_op *ret_op,
                                 struct mr_error *err)
{
    static const struct mr_fold_ops whole_ops = {.struct_size = sizeof(whole_ops),
                                                 .kind = "sql over the whole result",
                                                 .run = whole_run,
                                                 .free = map_free};
    const struct mr_schema *schema = NULL;
    struct map *map = NULL;

    MR_TRY(map_new(spec, &map, &schema, err));
    ret_op->ops = &whole_ops;
    ret_op->op = map;
    ret_op->schema = mr_schema_ref(schema);
    return MR_OK;
}
