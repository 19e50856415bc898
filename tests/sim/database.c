/*
 * See database.h.
 *
 * The sink 'simdb' does what a sink on a real database does: it collects the rows of a batch,
 * and publishes them with the mark (query, batch) in one transaction.
 */
#include "sim/database.h"

#include "base/check.h"
#include "sim/fibers.h"

#include <millrace/ext/sink.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct database *the_database;

struct database *database_new(struct world *world)
{
    struct database *db = calloc(1, sizeof(*db));

    MR_ASSERT(db != NULL && the_database == NULL);
    db->world = world;
    the_database = db;
    return db;
}

void database_free(struct database *db)
{
    for (size_t i = 0; i < DB_TABLES_MAX; i++) {
        rows_release(&db->tables[i].rows);
        free(db->tables[i].marks);
    }
    free(db);
    the_database = NULL;
}

struct db_table *database_table(struct database *db, const char *name)
{
    for (size_t i = 0; i < DB_TABLES_MAX; i++) {
        struct db_table *table = &db->tables[i];

        if (!table->used) {
            table->used = true;
            snprintf(table->name, sizeof(table->name), "%s", name);
            return table;
        }
        if (strcmp(table->name, name) == 0)
            return table;
    }
    MR_ASSERT(false);
    return NULL;
}

int64_t database_last(const struct db_table *table, const char *query)
{
    int64_t last = -1;

    for (size_t i = 0; i < table->mark_count; i++) {
        if (strcmp(table->marks[i].query, query) == 0)
            last = MR_MAX(last, table->marks[i].batch);
    }
    return last;
}

static uint64_t hash_rows(const struct rows *rows)
{
    uint64_t hash = rows->count;

    for (size_t i = 0; i < rows->count; i++) {
        for (int k = 0; k < ROW_COLUMNS; k++)
            hash = sim_mix64(hash ^ (uint64_t)rows->rows[i].values[k]);
    }
    return hash;
}

static struct db_mark *find_mark(struct db_table *table, const char *query, int64_t batch)
{
    for (size_t i = 0; i < table->mark_count; i++) {
        if (table->marks[i].batch == batch && strcmp(table->marks[i].query, query) == 0)
            return &table->marks[i];
    }
    return NULL;
}

static void apply(struct database *db, struct db_table *table, const char *query, int64_t batch,
                  const struct rows *rows)
{
    struct db_mark *mark = find_mark(table, query, batch);
    uint64_t hash = hash_rows(rows);

    world_mix(db->world, hash);
    if (mark != NULL) {
        if (mark->hash != hash)
            world_anomaly(db->world, "changed batch",
                          "table %s: batch %" PRId64 " was written again with other rows",
                          table->name, batch);
        return;
    }
    if (batch != database_last(table, query) + 1 && !table->by_time)
        world_anomaly(db->world, "skipped batch", "table %s: batch %" PRId64 " after %" PRId64,
                      table->name, batch, database_last(table, query));
    if (table->replaces)
        rows_clear(&table->rows);
    for (size_t i = 0; i < rows->count; i++)
        rows_add(&table->rows, &rows->rows[i]);
    db->batches++;
    if (table->mark_count == table->mark_room) {
        table->mark_room = table->mark_room == 0 ? 64 : 2 * table->mark_room;
        table->marks = realloc(table->marks, table->mark_room * sizeof(*table->marks));
        MR_ASSERT(table->marks != NULL);
    }
    mark = &table->marks[table->mark_count++];
    snprintf(mark->query, sizeof(mark->query), "%s", query);
    mark->batch = batch;
    mark->hash = hash;
}

enum mr_status database_write(struct database *db, struct db_table *table, const char *query,
                              int64_t batch, const struct rows *rows, struct mr_error *err)
{
    struct world *world = db->world;

    fibers_pause();
    if (world->dead)
        return MR_FAIL(err, MR_IO, "the simulated process is dead");
    world_note(world, "database: %s batch %" PRId64 ", %zu rows", table->name, batch, rows->count);
    if (world_strikes(world, FAULT_DB_ABORT, 60) || world_strikes(world, FAULT_DB_DOWN, 60)) {
        db->refused++;
        return MR_FAIL(err, MR_UNAVAILABLE, "the database refused the transaction");
    }
    apply(db, table, query, batch, rows);
    if (world_strikes(world, FAULT_DB_UNKNOWN, 80)) {
        db->refused++;
        return MR_FAIL(err, MR_UNAVAILABLE, "the connection broke at COMMIT");
    }
    if (world_has(world, FAULT_KILL) && world->faults_on && world_chance(world, 15))
        world_die(world, world_has(world, FAULT_POWER) && world_chance(world, 300));
    return MR_OK;
}

/* ---------------------------------------------------------------- the connector */

struct mr_sink {
    struct database *db;
    struct db_table *table;
    char query[40];
    struct rows rows;
    int64_t batch;
};

static const struct mr_option db_options[] = {
    {"table", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL, "Name of the table."},
};

static void db_close(struct mr_sink *sink)
{
    if (sink != NULL)
        rows_release(&sink->rows);
    free(sink);
}

static enum mr_status db_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                              struct mr_error *err)
{
    struct mr_sink *sink;

    MR_ASSERT(the_database != NULL);
    if (!the_database->world->dead && world_strikes(the_database->world, FAULT_DB_DOWN, 20)) {
        the_database->refused++;
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot reach the database");
    }
    sink = calloc(1, sizeof(*sink));
    MR_ASSERT(sink != NULL);
    sink->db = the_database;
    sink->table = database_table(the_database, mr_options_text(args->options, "table"));
    sink->table->replaces = args->mode == MR_MODE_COMPLETE;
    snprintf(sink->query, sizeof(sink->query), "%s", args->query_id);
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status db_last(struct mr_sink *sink, int64_t *ret_batch_id, struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch_id = database_last(sink->table, sink->query);
    return MR_OK;
}

static enum mr_status db_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                               struct mr_error *err)
{
    MR_UNUSED(err);
    rows_clear(&sink->rows);
    sink->batch = (int64_t)info->batch_id;
    return MR_OK;
}

static enum mr_status db_write(struct mr_sink *sink, uint32_t partition,
                               const struct mr_batch *batch, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));
    char line[400];

    MR_UNUSED(partition);
    MR_UNUSED(err);
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row cursor = {batch, i};
        struct row row;
        size_t used = 0;

        for (uint32_t k = 0; k < columns && used < sizeof(line) - 60; k++) {
            if (k > 0)
                line[used++] = '|';
            used += mr_row_print(&cursor, k, line + used, sizeof(line) - used);
        }
        line[used] = '\0';
        row = row_parse(line, sink->batch);
        rows_add(&sink->rows, &row);
    }
    return MR_OK;
}

static enum mr_status db_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status db_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                 struct mr_error *err)
{
    MR_UNUSED(ret_receipt);
    return database_write(sink->db, sink->table, sink->query, (int64_t)batch_id, &sink->rows, err);
}

static void db_abort(struct mr_sink *sink)
{
    rows_clear(&sink->rows);
}

static const struct mr_sink_ops db_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = db_last,
    .begin = db_begin,
    .write = db_write,
    .stage = db_stage,
    .publish = db_publish,
    .abort = db_abort,
    .close = db_close,
};

static const struct mr_sink_connector db_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "simdb",
    .summary = "A database of the simulation.",
    .guarantee = MR_EXACTLY_ONCE,
    .options = db_options,
    .option_count = MR_ARRAY_SIZE(db_options),
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE,
    .open = db_open,
    .ops = &db_ops,
};

void database_register(void)
{
    mr_sink_register(&db_connector);
}
