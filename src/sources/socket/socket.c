/*
 * Source `socket`: lines of text from a TCP server, a receiver.
 *
 * The receiver only cuts the stream at line ends and hands whole lines to its host, which makes
 * them durable before a batch may see them; decoding happens when a batch reads them.
 *
 *     recv -> [ lines ... \n | part of a line ]     lines go to the host, the part waits
 *
 * Lines end with \n, \r or \r\n (SOCK-1); the host sees \n only.
 *
 * When the peer closes, the part that is left counts as a line; when the connection breaks or the
 * query stops in the middle of a line, the part is dropped and logged, because it would be half a
 * record. The host connects again. Lines that were sent while nobody was connected are lost: TCP
 * has no memory. A line longer than max_line_bytes is dropped, counted and logged.
 *
 * Thread: run on the receiver's own; interrupt from any.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include <millrace/ext/source.h>

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { RECV_BYTES = 65536, CONNECT_TIMEOUT_MS = 10000, RECV_TIMEOUT_MS = 500 };

struct mr_receiver {
    struct mr_env *env;
    char *name;
    char *host;
    char *port;
    size_t line_bytes_max;
    struct mr_buf buf; /* bytes that were received and not stored: no '\n' in them */
    bool dropping;     /* inside a line that is too long */
    bool after_return; /* the last byte was a \r: a \n that follows belongs to it */
    uint64_t dropped_lines;
    atomic_bool interrupted;
    atomic_flag lock;
    struct mr_socket *socket; /* guarded by lock, so that interrupt meets a live one */
};

static const struct mr_option socket_options[] = {
    {"host", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL,
     "Name or address of the server."},
    {"port", NULL, MR_OPTION_INT, MR_OPTION_REQUIRED, NULL, "1", "65535", "Its TCP port."},
    {"max_line_bytes", "maxLineBytes", MR_OPTION_SIZE, 0, "16 MiB", "16 B", "1 GiB",
     "A longer line is dropped, counted and logged."},
};

static void socket_free(struct mr_receiver *receiver)
{
    if (receiver == NULL)
        return;
    MR_ASSERT(receiver->socket == NULL);
    mr_buf_release(&receiver->buf);
    mr_free(receiver->name);
    mr_free(receiver->host);
    mr_free(receiver->port);
    mr_free(receiver);
}

static enum mr_status socket_open(const struct mr_receiver_args *args,
                                  struct mr_receiver **ret_receiver, struct mr_error *err)
{
    struct mr_receiver *receiver = mr_alloc_zero(NULL, sizeof(*receiver));

    if (receiver != NULL) {
        atomic_flag_clear(&receiver->lock);
        receiver->env = args->env;
        receiver->name = mr_strdup(args->name);
        receiver->host = mr_strdup(mr_options_text(args->options, "host"));
        receiver->port = mr_asprintf("%" PRId64, mr_options_int(args->options, "port"));
        receiver->line_bytes_max = (size_t)mr_options_int(args->options, "max_line_bytes");
    }
    if (receiver == NULL || receiver->name == NULL || receiver->host == NULL ||
        receiver->port == NULL) {
        socket_free(receiver);
        return MR_FAIL(err, MR_NOMEM, "cannot open socket source '%s': out of memory", args->name);
    }
    *ret_receiver = receiver;
    return MR_OK;
}

static void set_socket(struct mr_receiver *receiver, struct mr_socket *socket)
{
    while (atomic_flag_test_and_set_explicit(&receiver->lock, memory_order_acquire))
        ;
    receiver->socket = socket;
    atomic_flag_clear_explicit(&receiver->lock, memory_order_release);
}

static void socket_interrupt(struct mr_receiver *receiver)
{
    atomic_store(&receiver->interrupted, true);
    while (atomic_flag_test_and_set_explicit(&receiver->lock, memory_order_acquire))
        ;
    if (receiver->socket != NULL)
        receiver->env->ops->shutdown(receiver->env, receiver->socket);
    atomic_flag_clear_explicit(&receiver->lock, memory_order_release);
}

static void drop_line(struct mr_receiver *receiver, struct mr_receiver_host *host)
{
    mr_receiver_note_dropped(host, 1);
    receiver->dropped_lines++;
    receiver->dropping = true;
    mr_buf_clear(&receiver->buf);
    mr_ext_log('W', receiver->name,
               "dropped a line from %s:%s longer than max_line_bytes = %zu (%" PRIu64
               " so far); set it higher",
               receiver->host, receiver->port, receiver->line_bytes_max, receiver->dropped_lines);
}

/* Makes \r and \r\n to \n, in place; returns the new size. */
static size_t plain_line_ends(struct mr_receiver *receiver, char *data, size_t size)
{
    const char *from = data, *end = data + size;
    char *to = data;

    if (size > 0 && receiver->after_return && *from == '\n')
        from++;
    receiver->after_return = size > 0 && end[-1] == '\r';
    while (from < end) {
        const char *at = memchr(from, '\r', (size_t)(end - from));
        size_t run = (size_t)((at != NULL ? at : end) - from);

        if (to != from)
            memmove(to, from, run);
        to += run;
        from += run;
        if (at == NULL)
            break;
        *to++ = '\n';
        from += from + 1 < end && from[1] == '\n' ? 2 : 1;
    }
    return (size_t)(to - data);
}

/* Takes bytes that were just received: whole lines to the host, the rest stays. */
static enum mr_status take(struct mr_receiver *receiver, struct mr_receiver_host *host, char *data,
                           size_t size, struct mr_error *err)
{
    const char *last;
    size_t whole;

    size = plain_line_ends(receiver, data, size);
    if (receiver->dropping) {
        char *end = memchr(data, '\n', size);

        if (end == NULL)
            return MR_OK;
        receiver->dropping = false;
        size -= (size_t)(end - data) + 1;
        data = end + 1;
    }
    last = memrchr(data, '\n', size);
    whole = last != NULL ? (size_t)(last - data) + 1 : 0;
    if (whole > 0 && receiver->buf.size > 0) {
        mr_buf_add(&receiver->buf, data, whole);
        if (receiver->buf.failed)
            return MR_FAIL(err, MR_NOMEM, "cannot keep a line from %s:%s: out of memory",
                           receiver->host, receiver->port);
        MR_TRY(mr_receiver_store(host, receiver->buf.data, receiver->buf.size, err));
        mr_buf_clear(&receiver->buf);
    } else if (whole > 0) {
        MR_TRY(mr_receiver_store(host, data, whole, err));
    }
    mr_buf_add(&receiver->buf, data + whole, size - whole);
    if (receiver->buf.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a line from %s:%s: out of memory",
                       receiver->host, receiver->port);
    if (receiver->buf.size > receiver->line_bytes_max)
        drop_line(receiver, host);
    return MR_OK;
}

/* The peer is gone: what is left counts as a line. */
static enum mr_status take_rest(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                struct mr_error *err)
{
    enum mr_status status = MR_OK;

    receiver->dropping = receiver->after_return = false;
    if (receiver->buf.size > 0) {
        mr_buf_add_char(&receiver->buf, '\n');
        status = receiver->buf.failed
                     ? MR_FAIL(err, MR_NOMEM, "cannot keep the last line from %s:%s: out of memory",
                               receiver->host, receiver->port)
                     : mr_receiver_store(host, receiver->buf.data, receiver->buf.size, err);
    }
    mr_buf_clear(&receiver->buf);
    return status;
}

static void drop_rest(struct mr_receiver *receiver, struct mr_receiver_host *host)
{
    if (receiver->buf.size > 0) {
        mr_receiver_note_dropped(host, 1);
        mr_ext_log('W', receiver->name, "dropped %zu bytes from %s:%s: the line was not complete",
                   receiver->buf.size, receiver->host, receiver->port);
    }
    mr_buf_clear(&receiver->buf);
    receiver->dropping = receiver->after_return = false;
}

static bool leaving(struct mr_receiver *receiver, struct mr_receiver_host *host)
{
    return atomic_load(&receiver->interrupted) || mr_receiver_stopping(host);
}

/* A wait that ended without data, and not a connection that broke. */
static bool is_idle(const struct mr_error *trouble)
{
    return trouble->os_errno == ETIMEDOUT || trouble->os_errno == EAGAIN || trouble->os_errno == 0;
}

static enum mr_status receive_all(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                  struct mr_socket *socket, struct mr_error *err)
{
    struct mr_env *env = receiver->env;
    char *data = mr_alloc(NULL, RECV_BYTES);
    struct mr_error trouble = {0};
    bool ended = false;
    enum mr_status status;

    if (data == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot receive from %s:%s: out of memory", receiver->host,
                       receiver->port);
    for (;;) {
        size_t got = 0;

        status = env->ops->recv(env, socket, data, RECV_BYTES, RECV_TIMEOUT_MS, &got, &trouble);
        if (status == MR_OK && got > 0)
            MR_TRY_GOTO(take(receiver, host, data, got, err)); /* also when stopping: it is here */
        if (leaving(receiver, host)) {
            status = MR_OK;
            break;
        }
        if (status == MR_UNAVAILABLE && is_idle(&trouble)) {
            mr_error_clear(&trouble);
            continue; /* nothing for a while: an idle peer is no error */
        }
        ended = status == MR_OK && got == 0;
        if (status != MR_OK || ended)
            break;
    }
    if (ended)
        MR_TRY_GOTO(take_rest(receiver, host, err));
    else if (status != MR_OK)
        status = MR_FAIL(err, status, "lost the connection to %s:%s: %s", receiver->host,
                         receiver->port, trouble.text);
    drop_rest(receiver, host);
done:
    mr_free(data);
    return status;
}

static enum mr_status socket_run(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                 struct mr_error *err)
{
    struct mr_env *env = receiver->env;
    struct mr_socket *socket = NULL;
    enum mr_status status;

    if (leaving(receiver, host))
        return MR_OK;
    MR_TRY(
        env->ops->connect(env, receiver->host, receiver->port, CONNECT_TIMEOUT_MS, &socket, err));
    mr_ext_log('I', receiver->name, "connected to %s:%s", receiver->host, receiver->port);
    set_socket(receiver, socket);
    status = receive_all(receiver, host, socket, err);
    set_socket(receiver, NULL);
    env->ops->disconnect(env, socket);
    return status;
}

static const struct mr_receiver_ops socket_ops = {
    .struct_size = sizeof(struct mr_receiver_ops),
    .run = socket_run,
    .interrupt = socket_interrupt,
    .free = socket_free,
    .ends = false,
};

extern const struct mr_source_connector mr_source_socket_connector;
const struct mr_source_connector mr_source_socket_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "socket",
    .summary = "Receives lines of text from a TCP server.",
    .guarantee = "received lines are kept in a log before they are processed; what the server "
                 "sends while nobody is "
                 "connected is lost",
    .options = socket_options,
    .option_count = MR_ARRAY_SIZE(socket_options),
    .takes_format = true,
    .default_format = "text",
    .receiver_open = socket_open,
    .receiver_ops = &socket_ops,
};
