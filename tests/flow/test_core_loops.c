/*
 * The nth failure of everything else than memory and the disk: every start of a thread, every
 * connect and every receive, once and for ever (faults.md 5.6, C9 to C11, G). After each the files
 * are good, nothing is leaked, and a start without failures goes on to the result of a run that
 * nothing disturbed.
 */
#include "support/disk_flow.h"
#include "support/evidence.h"
#include "support/flow.h"
#include "support/script.h"
#include "support/test.h"

#include "base/log.h"
#include "env/thread.h"
#include "plugins/plugins.h"

#include <millrace/types.h>

#include <stdatomic.h>
#include <stdlib.h>

enum { LINES = 6 };

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

/* ---- A peer that the test plays: a line for each receive, as long as there are any. ---- */

struct peer {
    struct mr_env env;
    struct mr_mutex lock;
    struct mr_cond changed;
    bool shut;
    unsigned handed;  /* lines that were received */
    uint64_t calls;   /* connects and receives */
    uint64_t fail_at; /* 0 = none */
    bool forever;
    struct mr_query *query; /* stopped when everything was handed over, or has failed enough */
};

/* Under the lock. */
static bool fails(struct peer *peer)
{
    peer->calls++;
    return peer->fail_at != 0 &&
           (peer->calls == peer->fail_at || (peer->forever && peer->calls > peer->fail_at));
}

static enum mr_status peer_connect(struct mr_env *env, const char *host, const char *port,
                                   int64_t timeout_ms, struct mr_socket **ret_socket,
                                   struct mr_error *err)
{
    struct peer *peer = (struct peer *)env;
    bool failed, enough;

    (void)host, (void)port, (void)timeout_ms;
    mr_mutex_lock(&peer->lock);
    failed = fails(peer);
    enough = peer->fail_at != 0 && peer->calls > peer->fail_at + 3;
    peer->shut = false;
    mr_mutex_unlock(&peer->lock);
    if (failed && enough)
        mr_query_stop(peer->query, true);
    if (failed)
        return MR_FAIL(err, MR_UNAVAILABLE, "the test refuses the connection");
    *ret_socket = (struct mr_socket *)peer;
    return MR_OK;
}

static enum mr_status peer_recv(struct mr_env *env, struct mr_socket *socket, void *data,
                                size_t size, int64_t timeout_ms, size_t *ret_read,
                                struct mr_error *err)
{
    struct peer *peer = (struct peer *)env;
    bool failed;

    (void)socket, (void)timeout_ms;
    mr_mutex_lock(&peer->lock);
    failed = fails(peer);
    while (!failed && peer->handed == LINES && !peer->shut)
        mr_cond_wait(&peer->changed, &peer->lock);
    *ret_read = 0;
    if (!failed && !peer->shut)
        *ret_read = (size_t)snprintf(data, size, "{\"k\":%u,\"v\":1}\n", ++peer->handed);
    mr_mutex_unlock(&peer->lock);
    if (failed)
        return MR_FAIL(err, MR_IO, "the test breaks the connection");
    return MR_OK;
}

static void peer_shutdown(struct mr_env *env, struct mr_socket *socket)
{
    struct peer *peer = (struct peer *)env;

    (void)socket;
    mr_mutex_lock(&peer->lock);
    peer->shut = true;
    mr_cond_broadcast(&peer->changed);
    mr_mutex_unlock(&peer->lock);
}

static void peer_disconnect(struct mr_env *env, struct mr_socket *socket)
{
    (void)env, (void)socket;
}

/* ---- The query: lines from the socket into files. ---- */

struct progress {
    struct peer *peer;
    uint64_t rows;
};

static void stop_at_the_end(void *arg, const struct mr_progress *progress)
{
    struct progress *seen = arg;

    seen->rows += progress->idle ? 0 : progress->input_rows;
    if (seen->rows >= LINES)
        mr_query_stop(seen->peer->query, true);
}

static enum mr_status run_lines(struct test *t, struct peer *peer, uint64_t rows_before,
                                uint64_t *ret_rows, struct mr_error *err)
{
    char *sink_options = NULL;
    struct progress seen = {peer, rows_before};
    struct mr_query_config config;
    enum mr_status status;

    if (asprintf(&sink_options, "path=%s", test_path(t, "out")) < 0)
        FAIL("no memory");
    const struct flow_end source = {"in", "socket", "host=here port=1", NULL};
    const struct flow_end sink = {"out", "file", sink_options, NULL};

    mr_query_config_init(&config);
    config.checkpoint_dir = test_path(t, "cp");
    config.workers = 2;
    config.block_interval_us = 1000;
    config.restart_delay_us = 0;
    config.on_progress = stop_at_the_end;
    config.on_progress_arg = &seen;
    status =
        mr_query_new(&peer->env, flow_sum_graph(&source, &sink, "sum"), &config, &peer->query, err);
    if (status == MR_OK)
        status = mr_query_run(peer->query, err);
    mr_query_free(peer->query);
    peer->query = NULL;
    free(sink_options);
    *ret_rows = seen.rows;
    return status;
}

static bool count_part(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    if (kind == MR_KIND_FILE && name[0] != '.')
        mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

/* Each line that was handed over is in the output once: keys 1 to LINES, each with the sum 1. */
static void check_lines(struct test *t, unsigned handed)
{
    struct mr_buf names = MR_BUF_INIT;
    unsigned seen[LINES + 1] = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(mr_env_posix(), test_path(t, "out"), count_part, &names, &err), &err);
    for (size_t at = 0; at < names.size; at += strlen(names.data + at) + 1) {
        char path[600], *text = NULL;
        size_t size = 0;

        snprintf(path, sizeof(path), "%s/out/%s", t->dir, names.data + at);
        CHECK_OK(mr_durable_get(mr_env_posix(), path, 1 << 20, &text, &size, &err), &err);
        for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
            unsigned k = 0, v = 0;

            CHECK(sscanf(line, "{\"k\":%u,\"v\":%u}", &k, &v) == 2);
            CHECK(k >= 1 && k <= LINES && v == 1);
            seen[k]++;
        }
        mr_text_free(text);
    }
    for (unsigned k = 1; k <= LINES; k++)
        CHECK_EQ_UINT(seen[k], k <= handed);
    mr_buf_release(&names);
}

static struct peer *new_peer(void)
{
    static struct mr_env_ops ops;
    struct peer *peer = calloc(1, sizeof(*peer));

    mr_log_set_sink(quiet, NULL);
    mr_plugins_register();
    CHECK_NOT_NULL(peer);
    ops = *mr_env_posix()->ops;
    ops.connect = peer_connect;
    ops.recv = peer_recv;
    ops.shutdown = peer_shutdown;
    ops.disconnect = peer_disconnect;
    peer->env.ops = &ops;
    mr_mutex_init(&peer->lock);
    mr_cond_init(&peer->changed);
    return peer;
}

static void free_peer(struct peer *peer)
{
    mr_cond_release(&peer->changed);
    mr_mutex_release(&peer->lock);
    free(peer);
}

static void forget_run(struct test *t)
{
    char command[700];

    snprintf(command, sizeof(command), "rm -rf '%s'/*", t->dir);
    CHECK(system(command) == 0);
}

TEST(G_every_connect_and_every_receive_may_fail_once_or_from_then_on)
{
    uint64_t points = 0;

    for (int forever = 0; forever < 2; forever++) {
        bool reached = true;

        for (uint64_t nth = 1; reached; nth += test_quick() ? 3 : 1) {
            struct peer *peer = new_peer();
            struct mr_error err = {0};
            uint64_t rows = 0;

            peer->fail_at = nth;
            peer->forever = forever != 0;
            CHECK_OK(run_lines(t, peer, 0, &rows, &err), &err);
            reached = peer->calls >= nth;
            peer->fail_at = 0;
            if (rows < LINES)
                CHECK_OK(run_lines(t, peer, rows, &rows, &err), &err);
            CHECK_EQ_UINT(peer->handed, LINES);
            check_lines(t, LINES);
            free_peer(peer);
            forget_run(t);
            points += reached;
        }
    }
    CHECK(points >= (test_quick() ? 5 : 12));
    evidence_add("failure-loops", "sockets", points);
}

TEST(C11_every_thread_of_a_query_with_a_receiver_may_fail_to_start)
{
    uint64_t points = 0;

    for (int forever = 0; forever < 2; forever++) {
        for (uint64_t nth = 1;; nth++) {
            struct peer *peer = new_peer();
            struct mr_error err = {0};
            uint64_t rows = 0, starts;
            enum mr_status status;

            mr_thread_fail_at(nth, forever != 0);
            status = run_lines(t, peer, 0, &rows, &err);
            starts = mr_thread_start_count();
            mr_thread_fail_at(0, false);
            if (status != MR_OK)
                CHECK_FAILS(status, &err, MR_LIMIT, "cannot start the thread");
            mr_error_clear(&err);
            if (rows < LINES)
                CHECK_OK(run_lines(t, peer, rows, &rows, &err), &err);
            check_lines(t, LINES);
            free_peer(peer);
            forget_run(t);
            points += starts >= nth;
            if (starts < nth)
                break;
        }
    }
    CHECK(points >= 6);
    evidence_add("failure-loops", "threads", points);
}
