/*
 * Counts words of a TCP server since the beginning, and goes on counting where it was after a
 * crash.
 *
 *     stateful_network_word_count HOST PORT CHECKPOINT [OUTPUT]
 *
 * The counts live in the checkpoint under the name "counts". Kill the program at any moment and
 * start it again: a line that was received is counted once. With OUTPUT each batch is saved as
 * OUTPUT-<batch time>/part-00000 too.
 */
#include <millrace/dstream.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static const char *host, *port, *output;

/* What SQL says with string_split, in C: any number of words per line. */
static void split(const struct mr_row *line, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(line, 0);
    size_t start = 0;

    (void)arg;
    for (size_t i = 0; i <= text.size_bytes; i++) {
        if (i < text.size_bytes && !isspace((unsigned char)text.data[i]))
            continue;
        if (i > start)
            mr_emit_pair_str_int(out, text.data + start, i - start, 1);
        start = i + 1;
    }
}

/* The new count of one word: the old one and a row for each time it came. */
static void count(const struct mr_update *word, struct mr_emitter *out, void *arg)
{
    int64_t sum = word->state != NULL ? mr_row_int(word->state, 0) : 0;

    (void)arg;
    for (struct mr_row row = {word->values, 0}; row.index < word->value_count; row.index++)
        sum += mr_row_int(&row, 0);
    mr_emit_int(out, sum);
}

static struct mr_context *build(void *arg)
{
    struct mr_context *ctx = mr_context_new("stateful-network-word-count", MR_MILLISECONDS(500));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, host, (int)strtol(port, NULL, 10));
    struct mr_dstream *pairs = mr_flat_map(lines, MR_FN_AS(split, "key VARCHAR, value BIGINT"));
    struct mr_dstream *counts = mr_update_state_by_key(pairs, "counts", MR_FN(count));

    (void)arg;
    mr_context_set(ctx, "block_interval", "50ms");
    mr_print(counts, 20);
    if (output != NULL)
        mr_save_as_text_files(counts, output, NULL);
    return ctx;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: stateful_network_word_count HOST PORT CHECKPOINT [OUTPUT]\n");
        return 64;
    }
    host = argv[1];
    port = argv[2];
    output = argc == 5 ? argv[4] : NULL;
    return mr_context_main(mr_context_get_or_create(argv[3], build, NULL));
}
