/*
 * See peers.h.
 */
#include "sim/peers.h"

#include "base/check.h"

enum mr_status peers_connect(struct mr_env *env, const char *host, const char *port,
                             int64_t timeout_ms, struct mr_socket **ret_socket,
                             struct mr_error *err)
{
    MR_UNUSED(env);
    MR_UNUSED(timeout_ms);
    MR_UNUSED(ret_socket);
    return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to %s:%s: nobody listens", host, port);
}

enum mr_status peers_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                          int64_t timeout_ms, size_t *ret_read, struct mr_error *err)
{
    MR_UNUSED(env);
    MR_UNUSED(socket);
    MR_UNUSED(data);
    MR_UNUSED(size);
    MR_UNUSED(timeout_ms);
    MR_UNUSED(ret_read);
    return MR_FAIL(err, MR_UNAVAILABLE, "nobody is there");
}

void peers_disconnect(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    MR_UNUSED(socket);
}

void peers_shutdown(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    MR_UNUSED(socket);
}
