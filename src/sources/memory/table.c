/*
 * Tables in memory, found by name (include/millrace/ext/memory.h). Used by the memory source, the
 * memory sink, tests and programs.
 *
 * A table is an array of steps: a batch of rows and the id of the query's batch that published it.
 * A sink's steps of one batch are added under one lock, so a reader sees all of a batch or nothing.
 *
 * Invariants: steps of a source are never removed (an offset is an index); a sink in complete mode
 * replaces all steps.
 *
 * Thread: any. The lock is a spin lock: plug-ins start no threads and see no pthread, and it is
 * held for a few instructions.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"

#include <millrace/ext/memory.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { WATCHERS_MAX = MR_LIMIT_MEMORY_WATCHERS };

struct step {
    struct mr_batch *batch; /* NULL: absent */
    int64_t batch_id;
};

struct watcher {
    void (*wake)(void *arg);
    void *arg;
};

struct mr_memory {
    char *name;
    struct mr_memory *next;
    atomic_flag lock;
    /* Guarded by lock: */
    struct mr_schema *schema;
    struct step *steps;
    size_t step_count;
    size_t step_capacity;
    int64_t row_count;
    char *query_id; /* whose batch ids last_published counts */
    int64_t last_published;
    struct watcher watchers[WATCHERS_MAX];
    size_t watcher_count;
    bool ended;
};

static struct mr_memory *tables;
static atomic_flag tables_lock = ATOMIC_FLAG_INIT;

static void lock(atomic_flag *flag)
{
    while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
        ;
}

static void unlock(atomic_flag *flag)
{
    atomic_flag_clear_explicit(flag, memory_order_release);
}

static void free_steps(struct mr_memory *table)
{
    for (size_t i = 0; i < table->step_count; i++)
        mr_batch_unref(table->steps[i].batch);
    table->step_count = 0;
    table->row_count = 0;
}

static void table_free(struct mr_memory *table)
{
    if (table == NULL)
        return;
    free_steps(table);
    mr_free(table->steps);
    mr_schema_unref(table->schema);
    mr_free(table->query_id);
    mr_free(table->name);
    mr_free(table);
}

static struct mr_memory *table_new(const char *name)
{
    struct mr_memory *table = mr_alloc_zero(NULL, sizeof(*table));

    if (table == NULL)
        return NULL;
    atomic_flag_clear(&table->lock);
    table->last_published = -1;
    table->name = mr_strdup(name);
    if (table->name == NULL) {
        table_free(table);
        return NULL;
    }
    return table;
}

struct mr_memory *mr_memory_table(const char *name)
{
    struct mr_memory *table;

    MR_ASSERT(name != NULL);
    lock(&tables_lock);
    for (table = tables; table != NULL; table = table->next)
        if (strcmp(table->name, name) == 0)
            break;
    if (table == NULL) {
        table = table_new(name);
        if (table != NULL) {
            table->next = tables;
            tables = table;
        }
    }
    unlock(&tables_lock);
    return table;
}

void mr_memory_drop(const char *name)
{
    struct mr_memory *found = NULL;

    lock(&tables_lock);
    for (struct mr_memory **at = &tables; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->name, name) == 0) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    unlock(&tables_lock);
    table_free(found);
}

/* Under the table's lock. */
static enum mr_status check_schema(struct mr_memory *table, const struct mr_batch *batch,
                                   struct mr_error *err)
{
    const struct mr_schema *schema = mr_batch_schema(batch);

    if (table->schema == NULL)
        table->schema = mr_schema_ref(schema);
    if (!mr_schema_equal(table->schema, schema))
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot add rows to memory table '%s': their columns differ from the rows it has",
            table->name);
    return MR_OK;
}

/* Under the table's lock. */
static enum mr_status reserve(struct mr_memory *table, size_t more, struct mr_error *err)
{
    size_t capacity = table->step_capacity;
    struct step *steps;

    if (table->step_count + more <= capacity)
        return MR_OK;
    capacity = MR_MAX(capacity * 2, table->step_count + more);
    steps = mr_realloc(NULL, table->steps, capacity * sizeof(*steps));
    if (steps == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot add rows to memory table '%s': out of memory",
                       table->name);
    table->steps = steps;
    table->step_capacity = capacity;
    return MR_OK;
}

/* Under the table's lock, room was reserved. */
static void append(struct mr_memory *table, const struct mr_batch *batch, int64_t batch_id)
{
    MR_ASSERT(table->step_count < table->step_capacity);
    table->steps[table->step_count++] =
        (struct step){batch != NULL ? mr_batch_ref(batch) : NULL, batch_id};
    if (batch != NULL)
        table->row_count += mr_batch_row_count(batch);
}

/* Under the table's lock, so that nobody is woken after mr_memory_unwatch returned. */
static void wake_all(struct mr_memory *table)
{
    for (size_t i = 0; i < table->watcher_count; i++)
        table->watchers[i].wake(table->watchers[i].arg);
}

enum mr_status mr_memory_add(struct mr_memory *table, const struct mr_batch *batch,
                             struct mr_error *err)
{
    enum mr_status status;

    lock(&table->lock);
    MR_TRY_GOTO(check_schema(table, batch, err));
    MR_TRY_GOTO(reserve(table, 1, err));
    append(table, batch, -1);
    wake_all(table);
done:
    unlock(&table->lock);
    return status;
}

enum mr_status mr_memory_add_absent(struct mr_memory *table, struct mr_error *err)
{
    enum mr_status status;

    lock(&table->lock);
    status = reserve(table, 1, err);
    if (status == MR_OK) {
        append(table, NULL, -1);
        wake_all(table);
    }
    unlock(&table->lock);
    return status;
}

void mr_memory_end(struct mr_memory *table)
{
    lock(&table->lock);
    table->ended = true;
    wake_all(table);
    unlock(&table->lock);
}

bool mr_memory_ended(struct mr_memory *table)
{
    bool ended;

    lock(&table->lock);
    ended = table->ended;
    unlock(&table->lock);
    return ended;
}

size_t mr_memory_step_count(struct mr_memory *table)
{
    size_t count;

    lock(&table->lock);
    count = table->step_count;
    unlock(&table->lock);
    return count;
}

int64_t mr_memory_row_count(struct mr_memory *table)
{
    int64_t count;

    lock(&table->lock);
    count = table->row_count;
    unlock(&table->lock);
    return count;
}

bool mr_memory_step(struct mr_memory *table, size_t index, struct mr_batch **ret_batch,
                    int64_t *ret_batch_id)
{
    bool found;

    lock(&table->lock);
    found = index < table->step_count;
    if (found) {
        struct mr_batch *batch = table->steps[index].batch;
        *ret_batch = batch != NULL ? mr_batch_ref(batch) : NULL;
        *ret_batch_id = table->steps[index].batch_id;
    }
    unlock(&table->lock);
    return found;
}

struct mr_schema *mr_memory_schema(struct mr_memory *table)
{
    struct mr_schema *schema;

    lock(&table->lock);
    schema = table->schema != NULL ? mr_schema_ref(table->schema) : NULL;
    unlock(&table->lock);
    return schema;
}

enum mr_status mr_memory_rows(struct mr_memory *table, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = mr_memory_schema(table);
    struct mr_batch *batch;
    enum mr_status status;
    int64_t batch_id;

    if (schema == NULL)
        return MR_FAIL(err, MR_STATE, "cannot read memory table '%s': nothing was added to it yet",
                       table->name);
    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, err));
    for (size_t i = 0; mr_memory_step(table, i, &batch, &batch_id); i++) {
        if (batch != NULL)
            mr_batch_builder_append(builder, batch);
        mr_batch_unref(batch);
    }
    MR_TRY_GOTO(mr_batch_builder_finish(builder, ret_batch, err));
done:
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return status;
}

/* Under the table's lock. Another query's ids say nothing about this one's. */
static enum mr_status adopt_query(struct mr_memory *table, const char *query_id,
                                  struct mr_error *err)
{
    char *copy;

    if (table->query_id != NULL && strcmp(table->query_id, query_id) == 0)
        return MR_OK;
    copy = mr_strdup(query_id);
    if (copy == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write to memory table '%s': out of memory",
                       table->name);
    mr_free(table->query_id);
    table->query_id = copy;
    table->last_published = -1;
    return MR_OK;
}

enum mr_status mr_memory_publish(struct mr_memory *table, const char *query_id, int64_t batch_id,
                                 bool replace, struct mr_batch *const *batches, size_t batch_count,
                                 struct mr_error *err)
{
    enum mr_status status;

    MR_ASSERT(batch_id >= 0);
    lock(&table->lock);
    MR_TRY_GOTO(adopt_query(table, query_id, err));
    if (batch_id <= table->last_published)
        goto done;
    for (size_t i = 0; i < batch_count; i++)
        MR_TRY_GOTO(check_schema(table, batches[i], err));
    MR_TRY_GOTO(reserve(table, batch_count, err));
    if (replace)
        free_steps(table);
    for (size_t i = 0; i < batch_count; i++)
        append(table, batches[i], batch_id);
    table->last_published = batch_id;
    wake_all(table);
done:
    unlock(&table->lock);
    return status;
}

void mr_memory_declare(struct mr_memory *table, const struct mr_schema *schema)
{
    lock(&table->lock);
    if (table->schema == NULL)
        table->schema = mr_schema_ref(schema);
    unlock(&table->lock);
}

int64_t mr_memory_last_published(struct mr_memory *table, const char *query_id)
{
    int64_t last;

    lock(&table->lock);
    last = table->query_id != NULL && strcmp(table->query_id, query_id) == 0 ? table->last_published
                                                                             : -1;
    unlock(&table->lock);
    return last;
}

enum mr_status mr_memory_watch(struct mr_memory *table, void (*wake)(void *arg), void *arg,
                               struct mr_error *err)
{
    enum mr_status status = MR_OK;

    lock(&table->lock);
    if (table->watcher_count == WATCHERS_MAX)
        status = MR_FAIL(err, MR_LIMIT, "cannot read memory table '%s': %d queries read it already",
                         table->name, (int)WATCHERS_MAX);
    else
        table->watchers[table->watcher_count++] = (struct watcher){wake, arg};
    unlock(&table->lock);
    return status;
}

void mr_memory_unwatch(struct mr_memory *table, void *arg)
{
    lock(&table->lock);
    for (size_t i = 0; i < table->watcher_count; i++)
        if (table->watchers[i].arg == arg)
            table->watchers[i--] = table->watchers[--table->watcher_count];
    unlock(&table->lock);
}
