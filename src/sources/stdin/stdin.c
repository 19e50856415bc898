/*
 * Source `stdin`: lines of text from standard input, a receiver that ends.
 *
 *     cat a.jsonl | millrace run -e "SELECT city, count(*) FROM stdin GROUP BY city"
 *
 * Whole lines go to the receiver's host, which makes them durable when the query has a checkpoint.
 * The last line may lack its '\n'. After a restart with the same checkpoint the lines that were
 * received go on; those that were still in the pipe are gone.
 *
 * Thread: run on the receiver's own; interrupt from any. A read waits at most READ_TIMEOUT_MS, so
 * interrupt needs no signal.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { READ_BYTES = 1 << 18, READ_TIMEOUT_MS = 100 };

struct mr_receiver {
    struct mr_env *env;
    char *name;
    size_t line_bytes_max;
    atomic_bool interrupted;
    char *data; /* [0, used): received and not stored, no '\n' in it */
    size_t used;
    size_t capacity;
    bool dropping; /* inside a line that is too long */
    uint64_t dropped_lines;
};

static const struct mr_option stdin_options[] = {
    {"max_line_bytes", "maxLineBytes", MR_OPTION_SIZE, 0, "16 MiB", "16 B", "1 GiB",
     "A longer line is dropped, counted and logged."},
};

static void stdin_free(struct mr_receiver *receiver)
{
    if (receiver == NULL)
        return;
    mr_free(receiver->data);
    mr_free(receiver->name);
    mr_free(receiver);
}

static enum mr_status stdin_open(const struct mr_receiver_args *args,
                                 struct mr_receiver **ret_receiver, struct mr_error *err)
{
    struct mr_receiver *receiver;

    if (args->env->ops->read_stdin == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot open source '%s': there is no standard input here",
                       args->name);
    receiver = mr_alloc_zero(NULL, sizeof(*receiver));
    if (receiver != NULL) {
        receiver->env = args->env;
        receiver->name = mr_strdup(args->name);
        receiver->line_bytes_max = (size_t)mr_options_int(args->options, "max_line_bytes");
        receiver->capacity = READ_BYTES;
        receiver->data = mr_alloc(NULL, receiver->capacity);
    }
    if (receiver == NULL || receiver->name == NULL || receiver->data == NULL) {
        stdin_free(receiver);
        return MR_FAIL(err, MR_NOMEM, "cannot open source '%s': out of memory", args->name);
    }
    *ret_receiver = receiver;
    return MR_OK;
}

static void stdin_interrupt(struct mr_receiver *receiver)
{
    atomic_store(&receiver->interrupted, true);
}

/* Room for the next read: a buffer that is full has no '\n', so it grows until the line is too
 * long. */
static enum mr_status make_room(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                struct mr_error *err)
{
    size_t capacity = receiver->capacity * 2;
    char *data;

    if (receiver->used > receiver->line_bytes_max) {
        receiver->used = 0;
        receiver->dropping = true;
        receiver->dropped_lines++;
        mr_receiver_note_dropped(host, 1);
        mr_ext_log('W', receiver->name,
                   "dropped a line longer than max_line_bytes = %zu (%" PRIu64
                   " so far); set it higher",
                   receiver->line_bytes_max, receiver->dropped_lines);
    }
    if (receiver->used < receiver->capacity)
        return MR_OK;
    data = mr_realloc(NULL, receiver->data, capacity);
    if (data == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a line of standard input: out of memory");
    receiver->data = data;
    receiver->capacity = capacity;
    return MR_OK;
}

/* Stores the whole lines of the buffer; fresh is where the bytes just read begin. */
static enum mr_status store_lines(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                  size_t fresh, struct mr_error *err)
{
    size_t from = 0;
    const char *end;

    if (receiver->dropping) {
        end = memchr(receiver->data, '\n', receiver->used);
        if (end == NULL) {
            receiver->used = 0;
            return MR_OK;
        }
        receiver->dropping = false;
        from = (size_t)(end - receiver->data) + 1;
        fresh = MR_MAX(fresh, from);
    }
    end = memrchr(receiver->data + fresh, '\n', receiver->used - fresh);
    if (end != NULL) {
        size_t whole = (size_t)(end - receiver->data) + 1;

        MR_TRY(mr_receiver_store(host, receiver->data + from, whole - from, err));
        from = whole;
    }
    receiver->used -= from;
    memmove(receiver->data, receiver->data + from, receiver->used);
    return MR_OK;
}

static enum mr_status store_last(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                 struct mr_error *err)
{
    size_t size = receiver->used;

    if (size == 0 || receiver->dropping)
        return MR_OK;
    MR_ASSERT(size < receiver->capacity); /* make_room ran before the read that found the end */
    receiver->data[size] = '\n';
    receiver->used = 0;
    return mr_receiver_store(host, receiver->data, size + 1, err);
}

static enum mr_status stdin_run(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                struct mr_error *err)
{
    struct mr_env *env = receiver->env;

    while (!atomic_load(&receiver->interrupted) && !mr_receiver_stopping(host)) {
        size_t fresh;
        size_t got = 0;
        enum mr_status status;

        MR_TRY(make_room(receiver, host, err));
        fresh = receiver->used;
        status = env->ops->read_stdin(env, receiver->data + fresh, receiver->capacity - fresh,
                                      READ_TIMEOUT_MS, &got, err);
        if (status == MR_UNAVAILABLE)
            continue;
        MR_TRY(status);
        if (got == 0)
            return store_last(receiver, host, err);
        receiver->used += got;
        MR_TRY(store_lines(receiver, host, fresh, err));
    }
    if (receiver->used > 0 && !receiver->dropping) {
        mr_receiver_note_dropped(host, 1);
        mr_ext_log('W', receiver->name,
                   "dropped %zu bytes of standard input at the stop: the line "
                   "was not complete",
                   receiver->used);
    }
    return MR_OK;
}

static const struct mr_receiver_ops stdin_ops = {
    .struct_size = sizeof(struct mr_receiver_ops),
    .run = stdin_run,
    .interrupt = stdin_interrupt,
    .free = stdin_free,
    .ends = true,
};

extern const struct mr_source_connector mr_source_stdin_connector;
const struct mr_source_connector mr_source_stdin_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "stdin",
    .summary = "Reads lines of text from standard input until it ends.",
    .guarantee = "received lines are kept in a log when the query has a checkpoint; a pipe cannot "
                 "be read twice",
    .options = stdin_options,
    .option_count = MR_ARRAY_SIZE(stdin_options),
    .takes_format = true,
    .default_format = "json",
    .receiver_open = stdin_open,
    .receiver_ops = &stdin_ops,
};
