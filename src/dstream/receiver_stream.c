/*
 * Receivers of the program (dstream.md 8.1, 8.2): one object of the kernel's receiver contract per
 * stream, which calls on_start and on_stop and waits in between.
 *
 *     run:  on_start -> STARTED -> restart, stop or the end of the context -> STOPPED -> on_stop
 *           restart: run returns, the kernel waits and calls it again; stop: it stays stopped
 *           (hazard 11)
 *
 * Rows travel through the block log in the value form of the row codec (receiver_rows.c).
 *
 * Threads: run in the receiver host's; the rest from any of the receiver's; fields below `lock` are
 * shared.
 */
#include "dstream/receivers.h"

#include "base/log.h"
#include "base/text.h"
#include "data/row_codec.h"

#include <stdio.h>
#include <string.h>

enum { SMALL_ROW_BYTES = 1024, MESSAGE_BYTES = 400 };

enum want { WANT_NOTHING, WANT_RESTART, WANT_STOP, WANT_INTERRUPT };

struct mr_receiver_handle {
    struct mr_receiver_spec spec; /* texts belong to the stream */
    char *name;                   /* "SocketReceiver-0" */
    uint32_t stream_id;
    const struct mr_schema *schema;
    struct mr_type column; /* the only column's type, for single values */
    bool one_column;

    struct mr_mutex lock; /* guards: */
    struct mr_cond changed;
    struct mr_receiver_host *host; /* once it runs */
    enum want want;
    int64_t delay_ms;
    char message[MESSAGE_BYTES];
    bool started;
    bool stopped;
};

struct mr_receiver {
    struct mr_receiver_handle handle;
};

/* What the stream keeps of the call. */
struct own {
    struct mr_receiver_spec spec;
    char *name;
};

/* ---------------------------------------------------------------- storing */

static enum mr_status store(struct mr_receiver_handle *receiver, const char *data,
                            size_t size_bytes, uint64_t rows, bool own_block, const char *metadata,
                            struct mr_error *err)
{
    const struct mr_received received = {data, size_bytes, rows, metadata, own_block};

    if (size_bytes > MR_BLOCK_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT, "%s: cannot store %zu bytes at once: the limit is %d",
                       receiver->name, size_bytes, MR_BLOCK_BYTES_MAX);
    return mr_receiver_store_records(receiver->host, &received, err);
}

static enum mr_status wrong_column(const struct mr_receiver_handle *receiver, const char *wanted,
                                   struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "%s: cannot store a single %s: the stream's columns are others; use "
                   "mr_receiver_put_rows",
                   receiver->name, wanted);
}

enum mr_status mr_receiver_put_str(struct mr_receiver_handle *receiver, const char *data,
                                   size_t size_bytes, struct mr_error *err)
{
    struct mr_buf row = MR_BUF_INIT;
    enum mr_status status;

    if (!receiver->one_column ||
        (receiver->column.id != MR_TYPE_TEXT && receiver->column.id != MR_TYPE_BINARY))
        return wrong_column(receiver, "text", err);
    if (size_bytes > MR_ELEMENT_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "%s: cannot store a received element of %zu bytes: the limit is %d",
                       receiver->name, size_bytes, MR_ELEMENT_BYTES_MAX);
    if (receiver->column.id == MR_TYPE_TEXT && !mr_utf8_valid(data, size_bytes))
        return MR_FAIL(err, MR_BAD_DATA,
                       "%s: cannot store a text of %zu bytes: it is not UTF-8; use a BLOB column "
                       "for other bytes",
                       receiver->name, size_bytes);
    mr_buf_add_u8(&row, 0); /* no nulls */
    mr_buf_add_block(&row, data, size_bytes);
    status = row.failed ? MR_FAIL(err, MR_NOMEM, "%s: out of memory", receiver->name)
                        : store(receiver, row.data, row.size, 1, false, NULL, err);
    mr_buf_release(&row);
    return status;
}

/* Is value one of a column of that many bytes? */
static bool fits(enum mr_type_id id, int64_t value)
{
    switch (id) {
    case MR_TYPE_INT8:
        return value >= INT8_MIN && value <= INT8_MAX;
    case MR_TYPE_INT16:
        return value >= INT16_MIN && value <= INT16_MAX;
    case MR_TYPE_INT32:
        return value >= INT32_MIN && value <= INT32_MAX;
    case MR_TYPE_INT64:
        return true;
    default:
        return false;
    }
}

enum mr_status mr_receiver_put_int(struct mr_receiver_handle *receiver, int64_t value,
                                   struct mr_error *err)
{
    enum mr_type_id id = receiver->column.id;
    char row[1 + sizeof(value)] = {0};

    if (!receiver->one_column ||
        (id != MR_TYPE_INT8 && id != MR_TYPE_INT16 && id != MR_TYPE_INT32 && id != MR_TYPE_INT64))
        return wrong_column(receiver, "integer", err);
    if (!fits(id, value))
        return MR_FAIL(err, MR_BAD_DATA, "%s: cannot store %lld: it does not fit the column",
                       receiver->name, (long long)value);
    for (unsigned i = 0; i < sizeof(value); i++)
        row[1 + i] = (char)((uint64_t)value >> (8 * i));
    return store(receiver, row, 1 + mr_type_width(id), 1, false, NULL, err);
}

static enum mr_status put(struct mr_receiver_handle *receiver, const struct mr_batch *rows,
                          bool own_block, const char *metadata, struct mr_error *err)
{
    struct mr_buf data = MR_BUF_INIT;
    enum mr_status status;

    if (mr_batch_row_count(rows) == 0)
        return MR_OK;
    mr_buf_reserve(&data, mr_batch_bytes(rows));
    status = mr__rows_encode(&data, rows, receiver->schema, err);
    if (status != MR_OK)
        status = mr_error_prefix(err, "%s", receiver->name);
    else
        status = store(receiver, data.data, data.size, (uint64_t)mr_batch_row_count(rows),
                       own_block, metadata, err);
    mr_buf_release(&data);
    return status;
}

enum mr_status mr_receiver_put_rows(struct mr_receiver_handle *receiver,
                                    const struct mr_batch *rows, struct mr_error *err)
{
    return put(receiver, rows, false, NULL, err);
}

enum mr_status mr_receiver_put_batch(struct mr_receiver_handle *receiver,
                                     const struct mr_batch *rows, const char *metadata,
                                     struct mr_error *err)
{
    return put(receiver, rows, true, metadata, err);
}

/* ---------------------------------------------------------------- control */

static void ask(struct mr_receiver_handle *receiver, enum want want, const char *message,
                int64_t delay_ms)
{
    mr_mutex_lock(&receiver->lock);
    if (want > receiver->want) { /* a stop wins over a restart */
        receiver->want = want;
        receiver->delay_ms = delay_ms;
        (void)snprintf(receiver->message, sizeof(receiver->message), "%s",
                       message != NULL ? message : "");
        mr_cond_broadcast(&receiver->changed);
    }
    mr_mutex_unlock(&receiver->lock);
}

void mr_receiver_report_error(struct mr_receiver_handle *receiver, const char *message)
{
    char text[MESSAGE_BYTES + 64];

    (void)snprintf(text, sizeof(text), "%.64s: %.*s", receiver->name, MESSAGE_BYTES - 16,
                   message != NULL ? message : "");
    mr_receiver_note_error(receiver->host, text);
}

void mr_receiver_restart(struct mr_receiver_handle *receiver, const char *message, int64_t delay_ms)
{
    ask(receiver, WANT_RESTART, message, delay_ms);
}

void mr_receiver_stop(struct mr_receiver_handle *receiver, const char *message)
{
    ask(receiver, WANT_STOP, message, 0);
}

static bool flag(const struct mr_receiver_handle *receiver, const bool *which)
{
    struct mr_receiver_handle *open = (struct mr_receiver_handle *)(uintptr_t)receiver;
    bool value;

    mr_mutex_lock(&open->lock);
    value = *which;
    mr_mutex_unlock(&open->lock);
    return value;
}

bool mr_receiver_is_started(const struct mr_receiver_handle *receiver)
{
    return flag(receiver, &receiver->started);
}

bool mr_receiver_is_stopped(const struct mr_receiver_handle *receiver)
{
    return flag(receiver, &receiver->stopped);
}

uint32_t mr_receiver_stream_id(const struct mr_receiver_handle *receiver)
{
    return receiver->stream_id;
}

/* ---------------------------------------------------------------- the kernel's side */

static void receiver_free(struct mr_receiver *receiver)
{
    struct mr_receiver_handle *handle = &receiver->handle;

    mr_cond_release(&handle->changed);
    mr_mutex_release(&handle->lock);
    mr_free(handle->name);
    mr_free(receiver);
}

static enum mr_status receiver_open(const struct mr_receiver_args *args,
                                    struct mr_receiver **ret_receiver, struct mr_error *err)
{
    const struct mr_dstream *stream = args->user;
    const struct own *own = stream->own;
    struct mr_receiver *receiver = mr_alloc_zero(NULL, sizeof(*receiver));
    struct mr_receiver_handle *handle;

    if (receiver == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    handle = &receiver->handle;
    handle->spec = own->spec;
    handle->stream_id = mr__input_id(stream);
    handle->schema = stream->schema;
    handle->one_column = mr_schema_field_count(stream->schema) == 1;
    handle->column = mr_schema_field(stream->schema, 0)->type;
    handle->name = mr_asprintf("%s-%u", own->name, handle->stream_id);
    mr_mutex_init(&handle->lock);
    mr_cond_init(&handle->changed);
    if (handle->name == NULL) {
        receiver_free(receiver);
        return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    }
    *ret_receiver = receiver;
    return MR_OK;
}

/* False: an end was asked for before the start. */
static bool begin(struct mr_receiver_handle *receiver, struct mr_receiver_host *host)
{
    bool goes;

    mr_mutex_lock(&receiver->lock);
    receiver->host = host;
    if (receiver->want == WANT_RESTART) /* asked for while it was being restarted */
        receiver->want = WANT_NOTHING;
    goes = receiver->want == WANT_NOTHING;
    receiver->started = goes;
    receiver->stopped = !goes;
    mr_mutex_unlock(&receiver->lock);
    return goes;
}

static enum want wait_for_the_end(struct mr_receiver_handle *receiver)
{
    enum want want;

    mr_mutex_lock(&receiver->lock);
    while (receiver->want == WANT_NOTHING)
        mr_cond_wait(&receiver->changed, &receiver->lock);
    want = receiver->want;
    receiver->started = false;
    receiver->stopped = true;
    mr_mutex_unlock(&receiver->lock);
    return want;
}

static void end_failed_start(struct mr_receiver_handle *receiver)
{
    mr_mutex_lock(&receiver->lock);
    receiver->started = false;
    receiver->stopped = true;
    mr_mutex_unlock(&receiver->lock);
}

static enum mr_status receiver_run(struct mr_receiver *object, struct mr_receiver_host *host,
                                   struct mr_error *err)
{
    struct mr_receiver_handle *receiver = &object->handle;
    char message[MESSAGE_BYTES];
    enum mr_status status;
    int64_t delay_ms;
    enum want want;

    if (!begin(receiver, host))
        return MR_FAIL(err, MR_STOPPED, "%s was stopped", receiver->name);
    /* inside of it the context must not be waited for: it waits for this thread */
    mr__inside_user_code++;
    status = receiver->spec.on_start(receiver, receiver->spec.arg, err);
    mr__inside_user_code--;
    if (status != MR_OK) {
        end_failed_start(receiver);
        return mr_error_prefix(err, "%s did not start", receiver->name);
    }
    want = wait_for_the_end(receiver);
    mr__inside_user_code++;
    if (receiver->spec.on_stop != NULL)
        receiver->spec.on_stop(receiver, receiver->spec.arg);
    mr__inside_user_code--;
    mr_mutex_lock(&receiver->lock);
    memcpy(message, receiver->message, sizeof(message));
    delay_ms = receiver->delay_ms;
    mr_mutex_unlock(&receiver->lock);
    if (want == WANT_RESTART) {
        if (delay_ms >= 0)
            mr_receiver_set_restart_delay(host, delay_ms * 1000);
        return MR_FAIL(err, MR_UNAVAILABLE, "%s restarts: %s", receiver->name, message);
    }
    mr_log(MR_LOG_INFO, "receiver", receiver->name, -1, "stopped%s%s",
           message[0] != '\0' ? ": " : "", message);
    return MR_FAIL(err, MR_STOPPED, "%s was stopped", receiver->name);
}

static void receiver_interrupt(struct mr_receiver *receiver)
{
    ask(&receiver->handle, WANT_INTERRUPT, "the context stops", 0);
}

static const struct mr_receiver_ops receiver_ops = {
    .struct_size = sizeof(struct mr_receiver_ops),
    .run = receiver_run,
    .interrupt = receiver_interrupt,
    .free = receiver_free,
};

static const struct mr_source_connector receiver_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "receiver",
    .summary = "A receiver of the program.",
    .guarantee = "what was stored is in the write-ahead log before it is processed",
    .receiver_open = receiver_open,
    .receiver_ops = &receiver_ops,
};

/* ---------------------------------------------------------------- building */

uint32_t mr__input_id(const struct mr_dstream *stream)
{
    const struct mr_context *ctx = stream->ctx;
    uint32_t id = 0;

    for (size_t i = 0; i < ctx->stream_count && ctx->streams[i] != stream; i++)
        id += ctx->streams[i]->lower == mr__lower_source;
    return id;
}

struct mr_dstream *mr__receiver_stream(struct mr_context *ctx, const char *operation,
                                       const struct mr_source_connector *connector,
                                       const char *columns, void *own, void (*own_free)(void *own))
{
    struct mr__source source = {.connector = connector, .format = &mr__rows_format, .is_own = true};
    struct mr_dstream *stream = NULL;
    struct mr_error err;

    mr_error_clear(&err);
    if (own == NULL)
        MR_FAIL(&err, MR_NOMEM, "out of memory");
    else if (columns == NULL)
        MR_FAIL(&err, MR_CONFIG, "it needs its columns declared, as in \"value VARCHAR\"");
    else
        mr_schema_parse(columns, strlen(columns), &source.declared, &err);
    if (err.status == MR_OK) {
        struct mr_schema *schema = source.declared;

        stream = mr__stream_source(ctx, operation, &source, schema);
    } else {
        mr__context_blame(ctx, operation, &err);
    }
    if (stream == NULL) {
        if (own != NULL)
            own_free(own);
        return NULL;
    }
    stream->own = own;
    stream->own_free = own_free;
    return stream;
}

static void own_free(void *arg)
{
    struct own *own = arg;

    mr_free(own->name);
    mr_free(own);
}

struct mr_dstream *mr_receiver_stream(struct mr_context *ctx, const struct mr_receiver_spec *spec)
{
    struct mr_dstream *stream;
    struct mr_error err;
    struct own *own;

    if (!mr__context_is_open(ctx, "receiver_stream"))
        return NULL;
    if (spec == NULL || spec->on_start == NULL) {
        MR_FAIL(&err, MR_CONFIG, "a receiver needs an on_start function");
        mr__context_blame(ctx, "receiver_stream", &err);
        return NULL;
    }
    own = mr_alloc_zero(NULL, sizeof(*own));
    if (own != NULL) {
        own->spec = *spec;
        own->name = mr_strdup(spec->name != NULL ? spec->name : "Receiver");
        if (own->name == NULL) {
            mr_free(own);
            own = NULL;
        }
    }
    stream = mr__receiver_stream(ctx, "receiver_stream", &receiver_connector, spec->columns, own,
                                 own_free);
    if (stream != NULL && own != NULL)
        stream->receiver_name = own->name;
    return stream;
}
