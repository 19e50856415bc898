/*
 * Conditions of a join that only DuckDB can decide: over candidate pairs, a batch at a time.
 *
 * Called by the join operator (ops/join.h). Thread: workers; slot i is worker i's.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

enum { WORKERS_MAX = 257 };

struct filter {
    struct mr_sql_engine *engine;
    char *sql;
    struct mr_schema *schema;
    struct mr_duck_stmt *stmts[WORKERS_MAX];
};

static void filter_free(void *arg)
{
    struct filter *filter = arg;

    for (size_t i = 0; i < WORKERS_MAX; i++)
        mr_duck_stmt_free(filter->stmts[i]);
    mr_schema_unref(filter->schema);
    mr_free(filter->sql);
    mr_sql__engine_unref(filter->engine);
    mr_free(filter);
}

struct taken {
    bool *keep;
    int64_t count;
    int64_t capacity;
};

static enum mr_status take(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct taken *taken = arg;
    const struct mr_column *column = mr_batch_column(batch, 0);

    if (taken->count + column->length > taken->capacity)
        return MR_FAIL(err, MR_INTERNAL, "a condition gave more rows than there are pairs");
    for (int64_t i = 0; i < column->length; i++)
        taken->keep[taken->count++] = !mr_column_is_null(column, i) && mr_column_bool(column, i);
    return MR_OK;
}

static enum mr_status statement_of(struct filter *filter, unsigned worker,
                                   struct mr_duck_stmt **ret_stmt, struct mr_error *err)
{
    MR_ASSERT(worker < WORKERS_MAX);
    if (filter->stmts[worker] == NULL) {
        struct mr_duck_input input = {"mr_input_0", filter->schema};
        struct mr_duck *duck;

        MR_TRY(mr_sql__engine_duck(filter->engine, worker, &duck, err));
        MR_TRY(mr_duck_prepare(duck, filter->sql, &input, 1, &filter->stmts[worker], err));
    }
    *ret_stmt = filter->stmts[worker];
    return MR_OK;
}

static enum mr_status filter_keep(void *arg, const struct mr_batch_info *info,
                                  const struct mr_batch *pairs, bool *keep, struct mr_error *err)
{
    struct taken taken = {keep, 0, mr_batch_row_count(pairs)};
    struct mr_batch *batch = mr_batch_ref(pairs);
    struct mr_batch *const *batches = &batch;
    size_t count = 1;
    struct mr_duck_stmt *stmt;
    enum mr_status status = statement_of(arg, info->worker, &stmt, err);

    if (status == MR_OK)
        status = mr_duck_run(stmt, &batches, &count, info->batch_time_us, take, &taken, err);
    mr_batch_unref(batch);
    if (status == MR_OK && taken.count != taken.capacity)
        status = MR_FAIL(err, MR_INTERNAL, "a condition gave fewer rows than there are pairs");
    return status;
}

enum mr_status mr_sql__pair_filter(struct mr_sql_engine *engine, const char *sql,
                                   const struct mr_schema *schema,
                                   struct mr_join_filter *ret_filter, struct mr_error *err)
{
    struct filter *filter = mr_alloc_zero(NULL, sizeof(*filter));
    struct mr_duck_stmt *stmt;
    enum mr_status status;

    if (filter == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan a join: out of memory");
    filter->engine = mr_sql__engine_ref(engine);
    filter->schema = mr_schema_ref(schema);
    filter->sql = mr_strdup(sql);
    if (filter->sql == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot plan a join: out of memory");
    else
        status = statement_of(filter, 0, &stmt, err);
    if (status != MR_OK) {
        filter_free(filter);
        return status;
    }
    memset(ret_filter, 0, sizeof(*ret_filter));
    ret_filter->keep = filter_keep;
    ret_filter->free = filter_free;
    ret_filter->arg = filter;
    return MR_OK;
}
