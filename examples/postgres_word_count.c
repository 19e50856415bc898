/*
 * Counts words of a TCP server into PostgreSQL, each exactly once:
 *
 *     postgres_word_count HOST PORT CHECKPOINT "host=/tmp dbname=test"
 *
 *     CREATE TABLE counts (word text PRIMARY KEY, n bigint);
 *     CREATE TABLE done (batch bigint, part int, PRIMARY KEY (batch, part));
 *
 * The guide's pattern for foreachRDD: connections come from a pool that fills when needed and
 * expires, each partition is one transaction, and the transaction holds the id (batch, partition):
 * when a batch runs again after a failure, what is already there is recognised (OUT-7).
 */
#include <millrace/dstream.h>
#include <millrace/pool.h>

#include <endian.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

static char **args;

static enum mr_status open_connection(void *arg, void **ret_connection, struct mr_error *err)
{
    PGconn *connection = PQconnectdb(arg);

    if (PQstatus(connection) == CONNECTION_OK) {
        *ret_connection = connection;
        return MR_OK;
    }
    MR_FAIL(err, MR_UNAVAILABLE, "%s", PQerrorMessage(connection));
    PQfinish(connection);
    return MR_UNAVAILABLE;
}

static void close_connection(void *arg, void *connection)
{
    (void)arg;
    PQfinish(connection);
}

static bool succeeded(PGresult *result, bool *ret_changed)
{
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

    *ret_changed = good && PQcmdTuples(result)[0] == '1';
    PQclear(result);
    return good;
}

static bool run(PGconn *connection, const char *sql, bool *ret_changed)
{
    return succeeded(PQexec(connection, sql), ret_changed);
}

/* The word goes as bytes with their length, the count as a number in network order. */
static bool add(PGconn *connection, struct mr_slice word, int64_t count)
{
    uint64_t number = htobe64((uint64_t)count);
    const char *const values[] = {word.data, (const char *)&number};
    const int sizes[] = {(int)word.size_bytes, sizeof(number)}, formats[] = {1, 1};
    bool changed;

    return succeeded(PQexecParams(connection,
                                  "INSERT INTO counts VALUES ($1, $2::bigint) ON CONFLICT (word) "
                                  "DO UPDATE SET n = counts.n + excluded.n",
                                  2, NULL, values, sizes, formats, 0),
                     &changed);
}

/* One transaction: the id first; a second time there is nothing left to do. */
static bool write_partition(PGconn *connection, struct mr_rows *rows)
{
    struct mr_task_info task;
    struct mr_row row;
    char sql[128];
    bool is_new = false, good;

    mr_task_info(&task);
    snprintf(sql, sizeof(sql), "INSERT INTO done VALUES (%" PRIu64 ", %u) ON CONFLICT DO NOTHING",
             task.batch_id, (unsigned)task.partition);
    good = run(connection, "BEGIN", &is_new) && run(connection, sql, &is_new);
    while (good && is_new && mr_rows_next(rows, &row))
        good = add(connection, mr_row_text(&row, 0), mr_row_int(&row, 1));
    return run(connection, good ? "COMMIT" : "ROLLBACK", &is_new) && good;
}

static enum mr_status save_partition(struct mr_rows *rows, void *pool, struct mr_error *err)
{
    void *connection;
    bool good;

    MR_TRY(mr_pool_take(pool, &connection, err));
    good = write_partition(connection, rows);
    if (!good)
        MR_FAIL(err, MR_UNAVAILABLE, "%s", PQerrorMessage(connection));
    mr_pool_give(pool, connection, !good);
    return good ? MR_OK : MR_UNAVAILABLE;
}

static enum mr_status save(struct mr_rdd *counts, int64_t batch_time_ms, void *pool,
                           struct mr_error *err)
{
    (void)batch_time_ms;
    return mr_rdd_foreach_partition(counts, save_partition, pool, err);
}

static struct mr_context *build(void *pool)
{
    struct mr_context *ctx = mr_context_new("postgres-word-count", MR_MILLISECONDS(200));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, args[1], (int)strtol(args[2], NULL, 10));
    struct mr_dstream *pairs = mr_map_to_pair(mr_flat_map(lines, MR_WORDS), MR_COUNT);

    mr_context_set(ctx, "block_interval", "50ms");
    mr_foreach_rdd(mr_reduce_by_key(pairs, MR_SUM), save, pool);
    return ctx;
}

int main(int argc, char **argv)
{
    struct mr_pool_options options = {.open = open_connection, .close = close_connection};
    struct mr_pool *pool = NULL;
    int code = 64;

    args = argv;
    options.arg = argc == 5 ? argv[4] : NULL;
    if (argc != 5 || mr_pool_new(&options, &pool, NULL) != MR_OK)
        fprintf(stderr, "usage: postgres_word_count HOST PORT CHECKPOINT CONNECTION\n");
    else
        code = mr_context_main(mr_context_get_or_create(argv[3], build, pool));
    mr_pool_free(pool);
    return code;
}
