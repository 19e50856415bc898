/*
 * crash_fold: a DStream program for the kill harness, which adds up numbers by key.
 *
 *     crash_fold PORT CHECKPOINT OUTPUT
 *
 * Called by tests/crash/scenarios/dstream.py, which is also the TCP server on PORT. Lines are
 * "key number" or "end". Each batch saves its lines as OUTPUT/lines-<time> and the sums since the
 * beginning as OUTPUT/sums-<time>. A batch with the line "end" stops the program gracefully, so a
 * run ends by itself with code 0.
 *
 * Blocks and batches are short, so that the few lines of the server spread over several of each.
 */
#include <millrace/dstream.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *output;
static int port;
static struct mr_context *context;

static bool is_end(const struct mr_row *line, void *arg)
{
    struct mr_slice text = mr_row_text(line, 0);

    (void)arg;
    return text.size_bytes == 3 && memcmp(text.data, "end", 3) == 0;
}

static bool is_data(const struct mr_row *line, void *arg)
{
    return !is_end(line, arg);
}

static void split(const struct mr_row *line, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(line, 0);
    const char *space = memchr(text.data, ' ', text.size_bytes);
    int64_t number = 0;

    (void)arg;
    for (const char *c = space; c != NULL && ++c < text.data + text.size_bytes;)
        number = number * 10 + (*c - '0');
    if (space == NULL)
        mr_emit_fail(out, "a line without a number");
    else
        mr_emit_pair_str_int(out, text.data, (size_t)(space - text.data), number);
}

static void add(const struct mr_update *key, struct mr_emitter *out, void *arg)
{
    int64_t sum = key->state != NULL ? mr_row_int(key->state, 0) : 0;

    (void)arg;
    for (struct mr_row row = {key->values, 0}; row.index < key->value_count; row.index++)
        sum += mr_row_int(&row, 0);
    mr_emit_int(out, sum);
}

static enum mr_status stop_at_end(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    bool empty;

    (void)batch_time_ms;
    (void)arg;
    MR_TRY(mr_rdd_is_empty(rdd, &empty, err));
    if (!empty)
        mr_context_stop(context, true);
    return MR_OK;
}

static struct mr_context *build(void *arg)
{
    struct mr_context *ctx = mr_context_new("crash-fold", MR_MILLISECONDS(30));
    struct mr_dstream *all = mr_socket_text_stream(ctx, "127.0.0.1", port);
    struct mr_dstream *lines = mr_filter(all, MR_FN(is_data));
    struct mr_dstream *pairs = mr_flat_map(lines, MR_FN_AS(split, "key VARCHAR, value BIGINT"));
    struct mr_dstream *sums = mr_update_state_by_key(pairs, "sums", MR_FN(add));
    char prefix[4096];

    (void)arg;
    mr_context_set(ctx, "block_interval", "10ms");
    mr_context_set(ctx, "receiver_restart_delay", "20ms");
    snprintf(prefix, sizeof(prefix), "%s/lines", output);
    mr_save_as_text_files(lines, prefix, NULL);
    snprintf(prefix, sizeof(prefix), "%s/sums", output);
    mr_save_as_text_files(sums, prefix, NULL);
    mr_foreach_rdd(mr_filter(all, MR_FN(is_end)), stop_at_end, NULL);
    return ctx;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: crash_fold PORT CHECKPOINT OUTPUT\n");
        return 64;
    }
    port = (int)strtol(argv[1], NULL, 10);
    output = argv[3];
    context = mr_context_get_or_create(argv[2], build, NULL);
    return mr_context_main(context);
}
