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

#include "base/buf.h"
#include "base/log.h"
#include "env/thread.h"
#include "plugins/plugins.h"

#include <millrace/ext/durable.h>
#include <millrace/types.h>

#include <errno.h>
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

/* ---- Inside a recovery: a process died within a batch, the next one meets failures. ---- */

enum kind { ALLOCATIONS, FILE_CALLS };

/* The nth of that kind fails in the recovery. Returns whether there were so many. */
static bool fail_in_recovery(struct mr_sim *base, const struct disk_flow *flow, enum kind kind,
                             uint64_t nth, int os_errno, bool forever, const char *expected)
{
    struct mr_sim *sim = mr_sim_kill(base, mr_sim_op_count(base));
    struct mr_env *env = mr_sim_env(sim);
    uint64_t before = mr_sim_call_count(sim), calls;
    struct mr_error err = {0};
    enum mr_status status;
    char *output;

    if (kind == ALLOCATIONS)
        disk_flow_fail_allocation(nth, forever);
    else
        mr_sim_fail_at(sim, nth, os_errno, forever);
    status = disk_flow_run(flow, env, &err);
    calls = kind == ALLOCATIONS ? disk_flow_allocations() : mr_sim_call_count(sim) - before;
    disk_flow_fail_allocation(0, false);
    mr_sim_fail_at(sim, 0, 0, false);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_error_clear(&err);
    if (status != MR_OK)
        CHECK_OK(disk_flow_run(flow, env, &err), &err);
    output = disk_flow_output(env);
    if (strcmp(output, expected) != 0)
        FAIL("%s %llu%s, errno %d: wrong output:\n%s", kind == ALLOCATIONS ? "allocation" : "call",
             (unsigned long long)nth, forever ? " and all later ones" : "", os_errno, output);
    mr_text_free(output);
    mr_sim_free(sim);
    return calls >= nth;
}

/* A process of "sum" died after that part of its operations. */
static struct mr_sim *killed_in_the_middle(const struct disk_flow *flow, unsigned tenths,
                                           char **ret_expected)
{
    struct mr_sim *sim = mr_sim_new(61), *killed;
    struct mr_error err = {0};
    uint64_t from;

    disk_flow_prepare(flow, mr_sim_env(sim), 3);
    from = mr_sim_op_count(sim);
    CHECK_OK(disk_flow_run(flow, mr_sim_env(sim), &err), &err);
    *ret_expected = disk_flow_output(mr_sim_env(sim));
    killed = mr_sim_kill(sim, from + (mr_sim_op_count(sim) - from) * tenths / 10);
    mr_sim_free(sim);
    return killed;
}

static uint64_t fail_all_in_recovery(enum kind kind, int os_errno)
{
    const struct disk_flow *flow = disk_flow_named("sum");
    uint64_t points = 0;

    for (unsigned tenths = 6; tenths < (test_quick() ? 7u : 9u); tenths++) {
        char *expected;
        struct mr_sim *base = killed_in_the_middle(flow, tenths, &expected);

        for (int forever = 0; forever < 2; forever++) {
            for (uint64_t nth = 1;
                 fail_in_recovery(base, flow, kind, nth, os_errno, forever != 0, expected);
                 nth += test_quick() ? 1 + nth / 12 : 1)
                points++;
        }
        mr_text_free(expected);
        mr_sim_free(base);
    }
    return points;
}

TEST(A22_C4_C5_every_call_of_a_recovery_may_fail_once_or_from_then_on)
{
    uint64_t points = fail_all_in_recovery(FILE_CALLS, EIO);

    points += fail_all_in_recovery(FILE_CALLS, ENOSPC);
    CHECK(points > 50);
    evidence_add("failure-loops", "file-calls-in-recovery", points);
}

TEST(A22_C11_every_allocation_of_a_recovery_may_fail_once_or_from_then_on)
{
    uint64_t points = fail_all_in_recovery(ALLOCATIONS, 0);

    CHECK(points > 50);
    evidence_add("failure-loops", "allocations-in-recovery", points);
}
