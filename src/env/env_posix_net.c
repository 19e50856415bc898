/*
 * Sockets and the standard streams of the POSIX environment.
 *
 * Called through the table of env_posix.c: sockets by the receiver's thread (shutdown by any),
 * standard input by its receiver, standard output by the print and console sinks.
 *
 * Every wait has a deadline on the monotonic clock; only the look-up of a host name waits as long
 * as the system's resolver does.  A peer that does not answer, refuses or resets is MR_UNAVAILABLE,
 * which the caller may try again.
 */
#include "env/env_posix.h"

#include "base/alloc.h"
#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct mr_socket {
    int fd;
};

/* 0 when fd is ready or broken, else ETIMEDOUT or the errno of poll. */
static int wait_for(struct mr_env *env, int fd, short events, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd one = {.fd = fd, .events = events};
        int left = mr__posix_ms_left(env, deadline_ns);
        int ready = poll(&one, 1, left);

        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return errno;
        if (ready == 0 && mr__posix_ms_left(env, deadline_ns) == 0)
            return ETIMEDOUT;
    }
}

/* ---------------------------------------------------------------- connecting */

/* One address: 0 and *ret_fd, or an errno. */
static int connect_one(struct mr_env *env, const struct addrinfo *address, int64_t deadline_ns,
                       int *ret_fd)
{
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->ai_protocol);
    socklen_t size = sizeof(int);
    int one = 1;
    int failed = 0;

    if (fd < 0)
        return errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            failed = wait_for(env, fd, POLLOUT, deadline_ns);
            if (failed == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0)
                failed = errno;
        } else {
            failed = errno;
        }
    }
    if (failed != 0) {
        close(fd);
        return failed;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    *ret_fd = fd;
    return 0;
}

static enum mr_status look_up(const char *host, const char *port, struct addrinfo **ret_list,
                              struct mr_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int failed = getaddrinfo(host, port, &hints, ret_list);

    if (failed == 0)
        return MR_OK;
    if (failed != EAI_SYSTEM)
        errno = 0;
    if (failed == EAI_SERVICE)
        return MR_FAIL(err, MR_CONFIG, "cannot connect to '%s': '%s' is no port", host, port);
    if (failed == EAI_MEMORY)
        return MR_FAIL(err, MR_NOMEM, "cannot look up '%s': out of memory", host);
    return MR_FAIL(err, MR_UNAVAILABLE, "cannot look up '%s': %s; check the name", host,
                   gai_strerror(failed));
}

enum mr_status mr__posix_connect(struct mr_env *env, const char *host, const char *port,
                                 int64_t timeout_ms, struct mr_socket **ret_socket,
                                 struct mr_error *err)
{
    int64_t deadline_ns = mr__posix_deadline(env, timeout_ms);
    struct addrinfo *list;
    struct mr_socket *made;
    int failed = ETIMEDOUT;

    MR_TRY(look_up(host, port, &list, err));
    made = mr_alloc(NULL, sizeof(*made));
    if (made == NULL) {
        freeaddrinfo(list);
        return MR_FAIL(err, MR_NOMEM, "cannot connect to '%s': out of memory", host);
    }
    for (const struct addrinfo *at = list; at != NULL && failed != 0; at = at->ai_next)
        failed = connect_one(env, at, deadline_ns, &made->fd);
    freeaddrinfo(list);
    if (failed != 0) {
        mr_free(made);
        errno = failed;
        if (failed == EMFILE || failed == ENFILE || failed == EACCES || failed == EPERM)
            return mr__posix_fail(err, "connect to", host, failed);
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to '%s' port %s: %s", host, port,
                       strerrordesc_np(failed));
    }
    *ret_socket = made;
    return MR_OK;
}

enum mr_status mr__posix_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                              int64_t timeout_ms, size_t *ret_read, struct mr_error *err)
{
    int64_t deadline_ns = mr__posix_deadline(env, timeout_ms);

    for (;;) {
        ssize_t got = recv(socket->fd, data, size, 0);
        int failed;

        if (got >= 0) {
            *ret_read = (size_t)got;
            return MR_OK;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return MR_FAIL(err, MR_UNAVAILABLE, "cannot receive: %s", strerrordesc_np(errno));
        failed = wait_for(env, socket->fd, POLLIN, deadline_ns);
        errno = failed;
        if (failed == ETIMEDOUT)
            return MR_FAIL(err, MR_UNAVAILABLE, "cannot receive: no data within the time limit");
        if (failed != 0)
            return MR_FAIL(err, MR_IO, "cannot wait for data: %s", strerrordesc_np(failed));
    }
}

void mr__posix_disconnect(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    if (socket == NULL)
        return;
    close(socket->fd);
    mr_free(socket);
}

void mr__posix_shutdown(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    (void)shutdown(socket->fd, SHUT_RDWR);
}

/* ---------------------------------------------------------------- standard streams */

enum mr_status mr__posix_read_stdin(struct mr_env *env, void *data, size_t size, int64_t timeout_ms,
                                    size_t *ret_read, struct mr_error *err)
{
    int64_t deadline_ns = mr__posix_deadline(env, timeout_ms);

    for (;;) {
        int failed = wait_for(env, STDIN_FILENO, POLLIN, deadline_ns);
        ssize_t got;

        errno = failed;
        if (failed == ETIMEDOUT)
            return MR_FAIL(err, MR_UNAVAILABLE, "no standard input within the time limit");
        if (failed != 0)
            return mr__posix_fail(err, "wait for", "standard input", failed);
        got = read(STDIN_FILENO, data, size);
        if (got >= 0) {
            *ret_read = (size_t)got;
            return MR_OK;
        }
        if (errno != EINTR && errno != EAGAIN)
            return mr__posix_fail(err, "read", "standard input", errno);
    }
}

/* 0 or an errno. */
static int write_all(struct mr_env *env, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t put = write(STDOUT_FILENO, data, size);
        int failed = 0;

        if (put >= 0) {
            data += put;
            size -= (size_t)put;
            continue;
        }
        if (errno == EAGAIN) /* the other end made the pipe so */
            failed = wait_for(env, STDOUT_FILENO, POLLOUT, -1);
        else if (errno != EINTR)
            failed = errno;
        if (failed != 0)
            return failed;
    }
    return 0;
}

/*
 * A pipe without a reader raises SIGPIPE in the writing thread. It is blocked meanwhile, and taken
 * away when this write raised it: the application's own disposition of the signal stays untouched.
 */
enum mr_status mr__posix_write_stdout(struct mr_env *env, const void *data, size_t size,
                                      struct mr_error *err)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe_signal;
    sigset_t pending;
    sigset_t before;
    bool was_pending;
    int failed;

    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    failed = write_all(env, data, size);
    if (failed == EPIPE && !was_pending) {
        while (sigtimedwait(&pipe_signal, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0)
        return MR_OK;
    errno = failed;
    if (failed == EPIPE)
        return MR_FAIL(err, MR_IO, "cannot write standard output: the reader went away");
    return mr__posix_fail(err, "write", "standard output", failed);
}
