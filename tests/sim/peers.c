/*
 * See peers.h.
 *
 * Called by the socket receiver through the environment. A connection is told that it broke by an
 * error with the errno of a real one; a wait without data is MR_UNAVAILABLE with ETIMEDOUT.
 */
#include "sim/peers.h"

#include "base/check.h"
#include "sim/fibers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_NS = 50 * 1000000 };

struct mr_socket {
    struct peer *peer;
    bool shut;
    bool ends; /* the server has closed it */
};

struct peer *peer_new(struct world *world, const char *port)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    MR_ASSERT(peer != NULL && world->net == NULL);
    peer->world = world;
    snprintf(peer->port, sizeof(peer->port), "%s", port);
    world->net = peer;
    return peer;
}

void peer_free(struct peer *peer)
{
    if (peer == NULL)
        return;
    peer->world->net = NULL;
    free(peer->lines);
    free(peer);
}

bool peer_done(const struct peer *peer)
{
    return peer->next == peer->line_count;
}

static enum mr_status dead(struct mr_error *err)
{
    errno = EIO;
    return MR_FAIL(err, MR_IO, "the simulated process is dead");
}

enum mr_status peers_connect(struct mr_env *env, const char *host, const char *port,
                             int64_t timeout_ms, struct mr_socket **ret_socket,
                             struct mr_error *err)
{
    struct world *world = (struct world *)env;
    struct peer *peer = world->net;
    struct mr_socket *socket;

    MR_UNUSED(timeout_ms);
    fibers_pause();
    if (world->dead)
        return dead(err);
    errno = ECONNREFUSED;
    if (peer == NULL || strcmp(peer->port, port) != 0 || peer->connected ||
        world_strikes(world, FAULT_REFUSED, 400))
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to %s:%s: refused", host, port);
    fibers_sleep_ns((int64_t)(1 + world_random(world, 20)) * 1000000);
    socket = calloc(1, sizeof(*socket));
    MR_ASSERT(socket != NULL);
    socket->peer = peer;
    peer->connected = true;
    peer->next_offset = 0;
    world_note(world, "connected to port %s", port);
    *ret_socket = socket;
    return MR_OK;
}

static size_t print_line(const struct peer_line *line, char *text, size_t size)
{
    return (size_t)snprintf(text, size, "%" PRId64 ":%" PRId64 ";\n", line->key, line->id);
}

/* Copies what is due; lines that are whole with it count as delivered. */
static size_t take(struct peer *peer, char *data, size_t size)
{
    struct world *world = peer->world;
    size_t used = 0;
    bool split = world_strikes(world, FAULT_SPLIT, 300);

    if (split)
        size = MR_MIN(size, 1 + world_random(world, 12));
    while (used < size && peer->next < peer->line_count &&
           peer->lines[peer->next].due_ns <= world_now_ns(world)) {
        struct peer_line *line = &peer->lines[peer->next];
        char text[64];
        size_t bytes = print_line(line, text, sizeof(text));
        size_t part = MR_MIN(bytes - peer->next_offset, size - used);

        memcpy(data + used, text + peer->next_offset, part);
        used += part;
        peer->next_offset += part;
        if (peer->next_offset < bytes)
            break;
        line->state = LINE_DELIVERED;
        line->life = peer->life;
        peer->next++;
        peer->next_offset = 0;
    }
    return used;
}

/* What the server had on its way is gone with the connection. */
static void lose_line(struct peer *peer)
{
    struct peer_line *line = &peer->lines[peer->next];
    char text[64];

    if (peer->next_offset == 0 || peer->next == peer->line_count)
        return;
    line->state = peer->next_offset + 1 == print_line(line, text, sizeof(text)) ? LINE_CUT
                                                                                : LINE_LOST_BY_PEER;
    peer->next++;
    peer->next_offset = 0;
}

static bool has_due(const struct peer *peer)
{
    return peer->next < peer->line_count &&
           peer->lines[peer->next].due_ns <= world_now_ns(peer->world);
}

static enum mr_status broken(struct mr_socket *socket, struct mr_error *err)
{
    lose_line(socket->peer);
    errno = ECONNRESET;
    return MR_FAIL(err, MR_UNAVAILABLE, "connection reset by peer");
}

static enum mr_status receive(struct mr_socket *socket, char *data, size_t size, size_t *ret_read,
                              struct mr_error *err)
{
    struct peer *peer = socket->peer;
    struct world *world = peer->world;
    size_t used;

    if (world_strikes(world, FAULT_RESET, 40))
        return broken(socket, err);
    if (world_strikes(world, FAULT_MID_LINE, 40)) {
        used = take(peer, data, MR_MIN(size, 1 + world_random(world, 6)));
        peer->partial_lines += peer->next_offset > 0;
        lose_line(peer);
        socket->ends = true;
        *ret_read = used;
        return MR_OK;
    }
    if (world_strikes(world, FAULT_PEER_SLOW, 30))
        fibers_sleep_ns((int64_t)world_random(world, 3000) * 1000000);
    if (world->dead)
        return dead(err);
    used = take(peer, data, size);
    world_mix_bytes(world, data, used);
    world_note(world, "received %zu bytes", used);
    *ret_read = used;
    return MR_OK;
}

enum mr_status peers_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                          int64_t timeout_ms, size_t *ret_read, struct mr_error *err)
{
    struct world *world = (struct world *)env;
    int64_t until_ns = timeout_ms < 0 ? INT64_MAX : world_now_ns(world) + timeout_ms * 1000000;

    fibers_pause();
    for (;;) {
        if (world->dead)
            return dead(err);
        if (socket->shut || socket->ends) {
            *ret_read = 0;
            return MR_OK;
        }
        if (has_due(socket->peer))
            return receive(socket, data, size, ret_read, err);
        if (world_now_ns(world) >= until_ns) {
            errno = ETIMEDOUT;
            return MR_FAIL(err, MR_UNAVAILABLE, "nothing came");
        }
        fibers_sleep_ns(SLICE_NS);
    }
}

/* Not a point where others run: receivers hold a lock that spins. */
void peers_disconnect(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    if (socket == NULL)
        return;
    lose_line(socket->peer);
    socket->peer->connected = false;
    free(socket);
}

void peers_shutdown(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    socket->shut = true;
}
