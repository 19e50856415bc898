/*
 * TCP clients whose bytes are more than lines (SOCK-2, RAW-1): records that a function of the
 * program cuts, and frames that are blocks already.
 *
 *     recv -> [ whole records | part of one ]    whole ones are stored, the part waits
 *     frame   u32 big-endian length | rows       one block each; checked when it comes, because a
 *                                                block that does not decode would stop the batches
 *
 * The peer closes: what is left is offered once more with is_end, the rest is dropped and logged.
 * The kernel connects again (SOCK-2). The socket is closed on every way out.
 *
 * Threads: run in the receiver host's; interrupt from any.
 */
#include "dstream/receivers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { RECV_BYTES = 256 << 10, CONNECT_TIMEOUT_MS = 10000, RECV_TIMEOUT_MS = 500 };

/* What the stream keeps of the call. */
struct own {
    char *host;
    char port[16];
    mr_bytes_fn fn; /* NULL: frames */
    void *arg;
};

struct mr_receiver {
    struct mr_env *env;
    const struct own *own;
    const struct mr_schema *schema;
    struct mr_emitter emitter;
    struct mr_buf buf;  /* received, not stored */
    struct mr_buf rows; /* encoded */
    atomic_bool interrupted;
    struct mr_mutex lock;     /* guards: */
    struct mr_socket *socket; /* so that interrupt meets a live one */
};

/* ---------------------------------------------------------------- records */

static enum mr_status no_memory(const struct mr_receiver *receiver, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot receive from %s:%s: out of memory", receiver->own->host,
                   receiver->own->port);
}

/* Stores what the function emitted. */
static enum mr_status store_emitted(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                    struct mr_error *err)
{
    struct mr_received received = {.metadata = NULL};
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (mr__emitter_rows(&receiver->emitter) == 0)
        return mr__emitter_check(&receiver->emitter, err);
    MR_TRY(mr__emitter_finish(&receiver->emitter, &batch, err));
    mr_buf_clear(&receiver->rows);
    status = mr__rows_encode(&receiver->rows, batch, NULL, err);
    if (status == MR_OK) {
        received.data = receiver->rows.data;
        received.size_bytes = receiver->rows.size;
        received.record_count = (uint64_t)mr_batch_row_count(batch);
        status = mr_receiver_store_records(host, &received, err);
    }
    mr_batch_unref(batch);
    return status;
}

/* Cuts and stores as many records as there are; *ret_used bytes of the buffer were theirs. */
static enum mr_status cut_records(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                  bool is_end, size_t *ret_used, struct mr_error *err)
{
    const struct own *own = receiver->own;
    size_t at = 0, size = receiver->buf.size;

    *ret_used = 0;
    while (at < size) {
        size_t used = 0;

        if (own->fn(receiver->buf.data + at, size - at, is_end, &used, &receiver->emitter, own->arg,
                    err) != MR_OK)
            return mr_error_prefix(err, "the function of the socket stream from %s:%s", own->host,
                                   own->port);
        if (used > size - at)
            return MR_FAIL(err, MR_USER,
                           "the function of the socket stream from %s:%s took %zu bytes of %zu",
                           own->host, own->port, used, size - at);
        if (used == 0)
            break;
        at += used;
    }
    MR_TRY(store_emitted(receiver, host, err));
    *ret_used = at;
    return MR_OK;
}

/* ---------------------------------------------------------------- frames */

static enum mr_status store_frame(void *arg, struct mr_slice rows, uint64_t row_count,
                                  struct mr_error *err)
{
    struct mr_received received = {.data = rows.data,
                                   .size_bytes = rows.size_bytes,
                                   .record_count = row_count,
                                   .own_block = true};

    return mr_receiver_store_records(arg, &received, err);
}

static enum mr_status cut_frames(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                 size_t *ret_used, struct mr_error *err)
{
    struct mr_slice received = {receiver->buf.data, receiver->buf.size};
    char peer[300];

    (void)snprintf(peer, sizeof(peer), "%.250s:%s", receiver->own->host, receiver->own->port);
    return mr__frames_cut(receiver->schema, received, peer, store_frame, host, ret_used, err);
}

/* ---------------------------------------------------------------- the connection */

/* Stores what is whole, keeps the rest at the front. */
static enum mr_status take(struct mr_receiver *receiver, struct mr_receiver_host *host, bool is_end,
                           struct mr_error *err)
{
    size_t used = 0, limit = MR_ELEMENT_BYTES_MAX;

    if (receiver->own->fn != NULL) {
        MR_TRY(cut_records(receiver, host, is_end, &used, err));
    } else {
        MR_TRY(cut_frames(receiver, host, &used, err));
        limit = (size_t)MR_BLOCK_BYTES_MAX + MR_FRAME_HEAD_BYTES;
    }
    if (used > 0)
        memmove(receiver->buf.data, receiver->buf.data + used, receiver->buf.size - used);
    receiver->buf.size -= used;
    if (receiver->buf.size > limit)
        return MR_FAIL(err, MR_LIMIT, "no record ends within %zu bytes from %s:%s", limit,
                       receiver->own->host, receiver->own->port);
    return MR_OK;
}

/* A wait that ended without data, and not a connection that broke. */
static bool is_idle(enum mr_status status, const struct mr_error *trouble)
{
    return status == MR_UNAVAILABLE && (trouble->os_errno == ETIMEDOUT ||
                                        trouble->os_errno == EAGAIN || trouble->os_errno == 0);
}

static bool leaving(struct mr_receiver *receiver, struct mr_receiver_host *host)
{
    return atomic_load(&receiver->interrupted) || mr_receiver_stopping(host);
}

static enum mr_status receive_all(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                  struct mr_socket *socket, struct mr_error *err)
{
    struct mr_env *env = receiver->env;
    struct mr_error trouble;

    while (!leaving(receiver, host)) {
        size_t got = 0;
        enum mr_status status;

        if (!mr_buf_reserve(&receiver->buf, RECV_BYTES))
            return no_memory(receiver, err);
        mr_error_clear(&trouble);
        status = env->ops->recv(env, socket, receiver->buf.data + receiver->buf.size, RECV_BYTES,
                                RECV_TIMEOUT_MS, &got, &trouble);
        if (is_idle(status, &trouble))
            continue; /* an idle peer is no error */
        if (status != MR_OK)
            return MR_FAIL(err, status, "lost the connection to %s:%s: %s", receiver->own->host,
                           receiver->own->port, trouble.text);
        receiver->buf.size += got;
        MR_TRY(take(receiver, host, got == 0, err));
        if (got == 0)
            return MR_OK;
    }
    return MR_OK;
}

static void set_socket(struct mr_receiver *receiver, struct mr_socket *socket)
{
    mr_mutex_lock(&receiver->lock);
    receiver->socket = socket;
    mr_mutex_unlock(&receiver->lock);
}

static enum mr_status socket_run(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                 struct mr_error *err)
{
    const struct own *own = receiver->own;
    struct mr_env *env = receiver->env;
    struct mr_socket *socket = NULL;
    enum mr_status status;

    if (leaving(receiver, host))
        return MR_OK;
    MR_TRY(env->ops->connect(env, own->host, own->port, CONNECT_TIMEOUT_MS, &socket, err));
    MR_TRY_GOTO(mr__emitter_init(&receiver->emitter, receiver->schema, err));
    set_socket(receiver, socket);
    status = receive_all(receiver, host, socket, err);
    set_socket(receiver, NULL);
done:
    env->ops->disconnect(env, socket);
    if (receiver->buf.size > 0 && status != MR_STOPPED) {
        char text[256];

        (void)snprintf(text, sizeof(text),
                       "dropped %zu bytes from %.100s:%s: the record was not whole",
                       receiver->buf.size, own->host, own->port);
        mr_receiver_note_error(host, text);
    }
    mr_buf_release(&receiver->buf);
    mr__emitter_release(&receiver->emitter);
    return status;
}

static void socket_interrupt(struct mr_receiver *receiver)
{
    atomic_store(&receiver->interrupted, true);
    mr_mutex_lock(&receiver->lock);
    if (receiver->socket != NULL)
        receiver->env->ops->shutdown(receiver->env, receiver->socket);
    mr_mutex_unlock(&receiver->lock);
}

static void socket_free(struct mr_receiver *receiver)
{
    mr_buf_release(&receiver->buf);
    mr_buf_release(&receiver->rows);
    mr_mutex_release(&receiver->lock);
    mr_free(receiver);
}

static enum mr_status socket_open(const struct mr_receiver_args *args,
                                  struct mr_receiver **ret_receiver, struct mr_error *err)
{
    const struct mr_dstream *stream = args->user;
    struct mr_receiver *receiver = mr_alloc_zero(NULL, sizeof(*receiver));

    if (receiver == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open a socket stream: out of memory");
    receiver->env = args->env;
    receiver->own = stream->own;
    receiver->schema = stream->schema;
    mr_mutex_init(&receiver->lock);
    *ret_receiver = receiver;
    return MR_OK;
}

static const struct mr_receiver_ops socket_ops = {
    .struct_size = sizeof(struct mr_receiver_ops),
    .run = socket_run,
    .interrupt = socket_interrupt,
    .free = socket_free,
};

static const struct mr_source_connector socket_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "socket_stream",
    .summary = "A TCP client whose bytes a function of the program cuts into records.",
    .guarantee = "received records are kept in a log before they are processed; what the server "
                 "sends while nobody is connected is lost",
    .receiver_open = socket_open,
    .receiver_ops = &socket_ops,
};

/* ---------------------------------------------------------------- building */

static void own_free(void *arg)
{
    struct own *own = arg;

    mr_free(own->host);
    mr_free(own);
}

static struct mr_dstream *open_stream(struct mr_context *ctx, const char *operation,
                                      const char *host, int port, const char *columns,
                                      mr_bytes_fn fn, void *arg)
{
    struct mr_error err;
    struct own *own;

    if (!mr__context_is_open(ctx, operation))
        return NULL;
    if (host == NULL || host[0] == '\0' || port < 1 || port > 65535) {
        MR_FAIL(&err, MR_CONFIG, "cannot connect to '%s' port %d; use a name and 1 to 65535",
                host != NULL ? host : "", port);
        mr__context_blame(ctx, operation, &err);
        return NULL;
    }
    own = mr_alloc_zero(NULL, sizeof(*own));
    if (own != NULL) {
        own->fn = fn;
        own->arg = arg;
        own->host = mr_strdup(host);
        (void)snprintf(own->port, sizeof(own->port), "%d", port);
        if (own->host == NULL) {
            mr_free(own);
            own = NULL;
        }
    }
    return mr__receiver_stream(ctx, operation, &socket_connector, columns, own, own_free);
}

struct mr_dstream *mr_socket_stream(struct mr_context *ctx, const char *host, int port,
                                    const char *columns, mr_bytes_fn fn, void *arg)
{
    struct mr_error err;

    if (fn == NULL && mr__context_is_open(ctx, "socket_stream")) {
        MR_FAIL(&err, MR_CONFIG, "it needs a function that cuts bytes into records");
        mr__context_blame(ctx, "socket_stream", &err);
    }
    return fn != NULL ? open_stream(ctx, "socket_stream", host, port, columns, fn, arg) : NULL;
}

struct mr_dstream *mr_raw_socket_stream(struct mr_context *ctx, const char *host, int port,
                                        const char *columns)
{
    return open_stream(ctx, "raw_socket_stream", host, port, columns, NULL, NULL);
}
