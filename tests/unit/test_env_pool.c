/* Pools of connections: opened when needed, shared, expired. */
#include "support/test.h"

#include "env/pool.h"
#include "env/sim.h"
#include "env/thread.h"

enum { PLACES = 64 };

/* A server that counts; a connection is one of its places. */
struct server {
    struct mr_mutex lock;
    int opened, closed;
    int refuse;   /* so many opens fail */
    bool is_good; /* what check says */
    int at_once;  /* connections in use by threads */
    int most;     /* and the most of them */
    int places[PLACES];
};

static struct mr_error err;

static enum mr_status open_one(void *arg, void **ret_connection, struct mr_error *error)
{
    struct server *server = arg;
    enum mr_status status = MR_OK;

    mr_mutex_lock(&server->lock);
    if (server->refuse > 0) {
        server->refuse--;
        status = MR_FAIL(error, MR_UNAVAILABLE, "cannot connect to the server: refused");
    } else {
        *ret_connection = &server->places[server->opened++ % PLACES];
    }
    mr_mutex_unlock(&server->lock);
    return status;
}

static void close_one(void *arg, void *connection)
{
    struct server *server = arg;

    (void)connection;
    mr_mutex_lock(&server->lock);
    server->closed++;
    mr_mutex_unlock(&server->lock);
}

static bool check_one(void *arg, void *connection)
{
    struct server *server = arg;

    (void)connection;
    return server->is_good;
}

static struct mr_pool *pool_of(struct mr_sim *sim, struct server *server, unsigned most)
{
    struct mr_pool_options options = {
        .open = open_one,
        .close = close_one,
        .check = check_one,
        .arg = server,
        .connections_max = most,
        .idle_ms = 1000,
    };
    struct mr_pool *pool = NULL;

    memset(server, 0, sizeof(*server));
    mr_mutex_init(&server->lock);
    server->is_good = true;
    CHECK_OK(mr__pool_new_on(sim != NULL ? mr_sim_env(sim) : mr_env_posix(), &options, &pool, &err),
             &err);
    return pool;
}

static void *take(struct mr_pool *pool)
{
    void *connection = NULL;

    CHECK_OK(mr_pool_take(pool, &connection, &err), &err);
    CHECK_NOT_NULL(connection);
    return connection;
}

TEST(a_connection_is_opened_when_first_needed_and_used_again)
{
    struct server server;
    struct mr_pool *pool = pool_of(NULL, &server, 4);
    void *first;

    CHECK_EQ_INT(server.opened, 0);
    first = take(pool);
    mr_pool_give(pool, first, false);
    CHECK(take(pool) == first);
    mr_pool_give(pool, first, false);
    CHECK_EQ_INT(server.opened, 1);
    mr_pool_free(pool);
    CHECK_EQ_INT(server.closed, 1);
}

TEST(what_is_unused_for_a_while_is_closed_the_oldest_first)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct server server;
    struct mr_pool *pool = pool_of(sim, &server, 4);
    void *a = take(pool), *b = take(pool);
    struct mr_pool_counts counts;

    mr_pool_give(pool, a, false);
    mr_sim_advance_ns(sim, 600 * 1000000LL);
    mr_pool_give(pool, b, false);
    mr_sim_advance_ns(sim, 600 * 1000000LL); /* a is unused for 1200 ms, b for 600 */
    CHECK(take(pool) == b);
    mr_pool_counts(pool, &counts);
    CHECK_EQ_INT(counts.idle, 0);
    CHECK_EQ_INT(counts.used, 1);
    CHECK_EQ_UINT(counts.opened, 2);
    CHECK_EQ_UINT(counts.closed, 1);
    mr_pool_give(pool, b, false);
    mr_pool_free(pool);
    mr_sim_free(sim);
}

TEST(what_is_broken_or_no_longer_good_is_replaced)
{
    struct server server;
    struct mr_pool *pool = pool_of(NULL, &server, 4);
    void *first = take(pool), *second;

    mr_pool_give(pool, first, true);
    CHECK_EQ_INT(server.closed, 1);
    second = take(pool);
    CHECK(second != first);
    mr_pool_give(pool, second, false);
    server.is_good = false;
    CHECK(take(pool) != second);
    CHECK_EQ_INT(server.opened, 3);
    CHECK_EQ_INT(server.closed, 2);
    mr_pool_give(pool, &server.places[2], false);
    mr_pool_free(pool);
}

TEST(a_server_that_refuses_is_the_takers_error_and_costs_no_place)
{
    struct server server;
    struct mr_pool *pool = pool_of(NULL, &server, 1);
    void *connection;

    server.refuse = 2;
    for (int i = 0; i < 2; i++)
        CHECK_FAILS(mr_pool_take(pool, &connection, &err), &err, MR_UNAVAILABLE, "refused");
    connection = take(pool); /* the only place is free */
    mr_pool_give(pool, connection, false);
    mr_pool_free(pool);
}

TEST(a_pool_needs_open_and_close)
{
    struct mr_pool_options options = {.open = open_one};
    struct mr_pool *pool;

    CHECK_FAILS(mr_pool_new(&options, &pool, &err), &err, MR_CONFIG, "'close'");
    options = (struct mr_pool_options){.open = open_one, .close = close_one, .idle_ms = -1};
    CHECK_FAILS(mr_pool_new(&options, &pool, &err), &err, MR_CONFIG, "'idle_ms'");
}

struct taker {
    struct mr_pool *pool;
    struct server *server;
};

static void take_often(void *arg)
{
    struct taker *taker = arg;

    for (int i = 0; i < 200; i++) {
        void *connection = NULL;

        if (mr_pool_take(taker->pool, &connection, NULL) != MR_OK)
            FAIL("a taker got nothing");
        mr_mutex_lock(&taker->server->lock);
        taker->server->at_once++;
        if (taker->server->at_once > taker->server->most)
            taker->server->most = taker->server->at_once;
        mr_mutex_unlock(&taker->server->lock);
        mr_mutex_lock(&taker->server->lock);
        taker->server->at_once--;
        mr_mutex_unlock(&taker->server->lock);
        mr_pool_give(taker->pool, connection, i % 50 == 0);
    }
}

TEST(threads_share_no_more_connections_than_allowed)
{
    struct mr_thread *threads[4];
    struct server server;
    struct mr_pool *pool = pool_of(NULL, &server, 2);
    struct taker taker = {pool, &server};

    for (int i = 0; i < 4; i++)
        CHECK_OK(mr_thread_start("taker", take_often, &taker, &threads[i], &err), &err);
    for (int i = 0; i < 4; i++)
        mr_thread_join(threads[i]);
    CHECK(server.most <= 2);
    mr_pool_free(pool);
    CHECK_EQ_INT(server.opened, server.closed);
}
