/*
 * TCP servers of the simulated world, behind the connect and recv of the environment.
 *
 * A server sends lines, as fast as it likes, to one client at a time; what it has handed to a
 * connection that breaks is gone, as with a server that keeps nothing. It remembers what it sent,
 * and to which connection.
 *
 * Thread: fibers.
 */
#ifndef MR_TESTS_SIM_PEERS_H
#define MR_TESTS_SIM_PEERS_H

#include "sim/world.h"

enum mr_status peers_connect(struct mr_env *env, const char *host, const char *port,
                             int64_t timeout_ms, struct mr_socket **ret_socket,
                             struct mr_error *err);
enum mr_status peers_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                          int64_t timeout_ms, size_t *ret_read, struct mr_error *err);
void peers_disconnect(struct mr_env *env, struct mr_socket *socket);
void peers_shutdown(struct mr_env *env, struct mr_socket *socket);

#endif
