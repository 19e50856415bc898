/*
 * TCP servers of the simulated world, behind the connect and recv of the environment.
 *
 * A server sends lines "key:id;" as they become due, to one client at a time; what it has handed to
 * a connection that breaks is gone, as with a server that keeps nothing. It remembers in which life
 * of the client each line was delivered.
 *
 * Thread: fibers.
 */
#ifndef MR_TESTS_SIM_PEERS_H
#define MR_TESTS_SIM_PEERS_H

#include "sim/world.h"

/* CUT: all but its end was delivered, and then the connection ended: it may count as a line. */
enum peer_line_state { LINE_WAITS, LINE_DELIVERED, LINE_LOST_BY_PEER, LINE_CUT };

struct peer_line {
    int64_t key;
    int64_t id;
    int64_t due_ns;
    enum peer_line_state state;
    uint64_t life; /* of the client, when it was delivered */
};

struct peer {
    struct world *world;
    char port[8];
    struct peer_line *lines;
    size_t line_count;
    size_t next;            /* line that is sent next */
    size_t next_offset;     /* bytes of it that were delivered already */
    uint64_t life;          /* set by the program when a life begins */
    uint64_t partial_lines; /* delivered without their end */
    bool connected;
};

struct peer *peer_new(struct world *world, const char *port); /* there is one at a time */
void peer_free(struct peer *peer);
bool peer_done(const struct peer *peer); /* everything was sent, or lost */

enum mr_status peers_connect(struct mr_env *env, const char *host, const char *port,
                             int64_t timeout_ms, struct mr_socket **ret_socket,
                             struct mr_error *err);
enum mr_status peers_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                          int64_t timeout_ms, size_t *ret_read, struct mr_error *err);
void peers_disconnect(struct mr_env *env, struct mr_socket *socket);
void peers_shutdown(struct mr_env *env, struct mr_socket *socket);

#endif
