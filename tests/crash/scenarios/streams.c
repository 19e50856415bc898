/*
 * crash_streams: DStream programs for the kill harness, one for each kind of state, input or output
 * that has a way of its own to lose or double something.
 *
 *     crash_streams state    PORT CHECKPOINT OUTPUT               mapWithState with a timeout
 *     crash_streams window   PORT CHECKPOINT OUTPUT               an incremental window
 *     crash_streams union    PORT CHECKPOINT OUTPUT PORT2         two receivers
 *     crash_streams reliable PORT CHECKPOINT OUTPUT               a receiver that acknowledges
 *     crash_streams postgres PORT CHECKPOINT OUTPUT CONNECTION    transactions with ids
 *
 * Called by tests/crash/scenarios/streams.py, which is also the TCP server on PORT. Lines are "key
 * number" or "end". Each batch saves its lines as OUTPUT/lines-<time> and its results as
 * OUTPUT/results-<time>; the oracle works out the results from the lines. A batch with the line
 * "end" stops the program gracefully.
 */
#include <millrace/dstream.h>
#include <millrace/pool.h>
#include <millrace/receiver.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef HAVE_LIBPQ
#include <libpq-fe.h>
#endif

enum { INTERVAL_MS = 30, WINDOW_MS = 90, TIMEOUT_MS = 90 };

static char **args;
static struct mr_context *context;

static int port_of(int arg)
{
    return (int)strtol(args[arg], NULL, 10);
}

/* ---- lines ---- */

static bool is_end(const struct mr_row *line, void *arg)
{
    struct mr_slice text = mr_row_text(line, 0);

    (void)arg;
    return text.size_bytes == 3 && memcmp(text.data, "end", 3) == 0;
}

static bool is_data(const struct mr_row *line, void *arg)
{
    return !is_end(line, arg);
}

static void split(const struct mr_row *line, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(line, 0);
    const char *space = memchr(text.data, ' ', text.size_bytes);
    int64_t number = 0;

    (void)arg;
    for (const char *c = space; c != NULL && ++c < text.data + text.size_bytes;)
        number = number * 10 + (*c - '0');
    if (space == NULL)
        mr_emit_fail(out, "a line without a number");
    else
        mr_emit_pair_str_int(out, text.data, (size_t)(space - text.data), number);
}

static enum mr_status stop_at_end(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    bool is_empty;

    (void)batch_time_ms;
    (void)arg;
    MR_TRY(mr_rdd_is_empty(rdd, &is_empty, err));
    if (!is_empty)
        mr_context_stop(context, true);
    return MR_OK;
}

/* ---- state ---- */

static void add_up(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_key_state_get(call->state);
    struct mr_slice key = mr_row_text(call->key, 0);
    int64_t sum = state != NULL ? mr_row_int(state, 0) : 0;

    (void)arg;
    if (mr_key_state_timing_out(call->state)) {
        mr_emit_pair_str_int(out, key.data, key.size_bytes, -1);
        return;
    }
    sum += mr_row_int(call->value, 0);
    mr_key_state_update_int(call->state, sum);
    mr_emit_pair_str_int(out, key.data, key.size_bytes, sum);
}

static struct mr_dstream *with_state(struct mr_dstream *pairs)
{
    struct mr_state_spec spec = {
        .name = "sums",
        .function = MR_FN_AS(add_up, "key VARCHAR, value BIGINT"),
        .timeout_ms = TIMEOUT_MS,
    };
    struct mr_dstream *mapped = mr_map_with_state(pairs, &spec);

    mr_dstream_checkpoint(mapped, INTERVAL_MS); /* look for timeouts in every batch */
    return mapped;
}

/* ---- a reliable receiver: a line is stored durably, then acknowledged ---- */

static int peer;
static pthread_t thread;

static enum mr_status store_line(struct mr_receiver_handle *receiver, const char *line)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_schema_parse("value VARCHAR", 13, &schema, NULL);

    if (status == MR_OK)
        status = mr_batch_builder_new(schema, &builder, NULL);
    if (status == MR_OK) {
        mr_batch_builder_text(builder, 0, line, strlen(line));
        mr_batch_builder_end_row(builder);
        status = mr_batch_builder_finish(builder, &batch, NULL);
    }
    if (status == MR_OK)
        status = mr_receiver_put_batch(receiver, batch, NULL, NULL);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return status;
}

static void *receive(void *receiver)
{
    FILE *lines = fdopen(dup(peer), "r");
    char line[256], answer[272];

    while (lines != NULL && fgets(line, sizeof(line), lines) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (store_line(receiver, line) != MR_OK)
            break;
        int size = snprintf(answer, sizeof(answer), "ack %s\n", line);
        if (send(peer, answer, (size_t)size, MSG_NOSIGNAL) != size)
            break;
    }
    if (lines != NULL)
        fclose(lines);
    mr_receiver_restart(receiver, "the sender went away", 20);
    return NULL;
}

static enum mr_status start_reliable(struct mr_receiver_handle *receiver, void *arg,
                                     struct mr_error *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(2))};

    (void)arg;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(peer, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        pthread_create(&thread, NULL, receive, receiver) != 0) {
        close(peer);
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to the sender");
    }
    return MR_OK;
}

static void stop_reliable(struct mr_receiver_handle *receiver, void *arg)
{
    (void)receiver;
    (void)arg;
    shutdown(peer, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(peer);
}

/* ---- a table that takes (batch, partition) once ---- */

#ifdef HAVE_LIBPQ
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

static bool run_sql(PGconn *connection, const char *sql, bool *ret_changed)
{
    PGresult *result = PQexec(connection, sql);
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

    *ret_changed = good && PQcmdTuples(result)[0] == '1';
    PQclear(result);
    return good;
}

static bool write_partition(PGconn *connection, struct mr_rows *rows)
{
    struct mr_task_info task;
    struct mr_row row;
    char sql[512];
    bool is_new = false, changed, good;

    mr_task_info(&task);
    snprintf(sql, sizeof(sql), "INSERT INTO done VALUES (%" PRIu64 ", %u) ON CONFLICT DO NOTHING",
             task.batch_id, (unsigned)task.partition);
    good = run_sql(connection, "BEGIN", &changed) && run_sql(connection, sql, &is_new);
    while (good && is_new && mr_rows_next(rows, &row)) {
        struct mr_slice line = mr_row_text(&row, 0);

        snprintf(sql, sizeof(sql), "INSERT INTO lines VALUES ('%.*s')", (int)line.size_bytes,
                 line.data);
        good = run_sql(connection, sql, &changed);
    }
    return run_sql(connection, good ? "COMMIT" : "ROLLBACK", &changed) && good;
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

static enum mr_status save(struct mr_rdd *lines, int64_t batch_time_ms, void *pool,
                           struct mr_error *err)
{
    (void)batch_time_ms;
    return mr_rdd_foreach_partition(lines, save_partition, pool, err);
}

static void save_in_postgres(struct mr_dstream *lines)
{
    static struct mr_pool *pool;
    struct mr_pool_options options = {
        .open = open_connection, .close = close_connection, .arg = args[5]};

    if (mr_pool_new(&options, &pool, NULL) == MR_OK)
        mr_foreach_rdd(lines, save, pool);
}
#endif

/* ---- the program ---- */

static struct mr_dstream *input(struct mr_context *ctx)
{
    static const struct mr_receiver_spec reliable = {"Reliable", "value VARCHAR", start_reliable,
                                                     stop_reliable, NULL};
    struct mr_dstream *lines;

    if (strcmp(args[1], "reliable") == 0)
        return mr_receiver_stream(ctx, &reliable);
    lines = mr_socket_text_stream(ctx, "127.0.0.1", port_of(2));
    if (strcmp(args[1], "union") == 0)
        lines = mr_union(lines, mr_socket_text_stream(ctx, "127.0.0.1", port_of(5)));
    return lines;
}

static void save_as(struct mr_dstream *stream, const char *name)
{
    char prefix[4096];

    snprintf(prefix, sizeof(prefix), "%s/%s", args[4], name);
    mr_save_as_text_files(stream, prefix, NULL);
}

static struct mr_context *build(void *arg)
{
    struct mr_context *ctx = mr_context_new("crash-streams", MR_MILLISECONDS(INTERVAL_MS));
    struct mr_dstream *all = input(ctx), *lines = mr_filter(all, MR_FN(is_data)), *pairs, *results;

    (void)arg;
    mr_context_set(ctx, "block_interval", "10ms");
    mr_context_set(ctx, "receiver_restart_delay", "20ms");
    pairs = mr_flat_map(lines, MR_FN_AS(split, "key VARCHAR, value BIGINT"));
    save_as(lines, "lines");
    if (strcmp(args[1], "state") == 0) {
        results = with_state(pairs);
        save_as(results, "results");
        save_as(mr_state_snapshots(results), "snapshots");
    } else if (strcmp(args[1], "window") == 0) {
        results = mr_reduce_by_key_and_window(pairs, MR_SUM, MR_SUM, WINDOW_MS, INTERVAL_MS,
                                              MR_SQL("value <> 0"));
        save_as(results, "results");
    }
#ifdef HAVE_LIBPQ
    if (strcmp(args[1], "postgres") == 0)
        save_in_postgres(lines);
#endif
    mr_foreach_rdd(mr_filter(all, MR_FN(is_end)), stop_at_end, NULL);
    return ctx;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: crash_streams state|window|union|reliable|postgres PORT CHECKPOINT "
                        "OUTPUT [PORT2|CONNECTION]\n");
        return 64;
    }
    args = argv;
    context = mr_context_get_or_create(argv[3], build, NULL);
    return mr_context_main(context);
}
