/*
 * Counts words into a file and goes on after a crash where it was:
 *
 *     recoverable_network_word_count HOST PORT CHECKPOINT OUTPUT
 *
 * The guide's RecoverableNetworkWordCount: words of a list are left out and counted, the rest of
 * each batch is appended to OUTPUT, one line a batch. The program's own memory starts again with
 * the process; what has to outlive it belongs into a state (stateful_network_word_count.c).
 */
#include <millrace/dstream.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct program {
    char **args;
    int64_t dropped; /* words of the list so far; the driver's alone */
};

static const char *const excluded[] = {"a", "b", "c"};

static bool is_excluded(struct mr_slice word)
{
    for (size_t i = 0; i < sizeof(excluded) / sizeof(excluded[0]); i++) {
        if (word.size_bytes == strlen(excluded[i]) &&
            memcmp(word.data, excluded[i], word.size_bytes) == 0)
            return true;
    }
    return false;
}

static enum mr_status append_counts(struct mr_rdd *counts, int64_t batch_time_ms, void *arg,
                                    struct mr_error *err)
{
    struct program *program = arg;
    struct mr_batch *batch;
    FILE *file;

    MR_TRY(mr_rdd_collect(counts, &batch, err));
    file = fopen(program->args[4], "ae");
    if (file == NULL) {
        mr_batch_unref(batch);
        return MR_FAIL(err, MR_IO, "cannot append to '%s'", program->args[4]);
    }
    fprintf(file, "%" PRId64 ":", batch_time_ms);
    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        struct mr_slice word = mr_row_text(&row, 0);

        if (is_excluded(word))
            program->dropped += mr_row_int(&row, 1);
        else
            fprintf(file, " (%.*s,%" PRId64 ")", (int)word.size_bytes, word.data,
                    mr_row_int(&row, 1));
    }
    fprintf(file, " dropped %" PRId64 "\n", program->dropped);
    mr_batch_unref(batch);
    return fclose(file) == 0 ? MR_OK : MR_FAIL(err, MR_IO, "cannot write the counts");
}

static struct mr_context *build(void *arg)
{
    struct program *program = arg;
    struct mr_context *ctx = mr_context_new("recoverable-network-word-count", MR_SECONDS(1));
    struct mr_dstream *lines =
        mr_socket_text_stream(ctx, program->args[1], (int)strtol(program->args[2], NULL, 10));
    struct mr_dstream *pairs = mr_map_to_pair(mr_flat_map(lines, MR_WORDS), MR_COUNT);

    printf("Creating new context\n");
    mr_foreach_rdd(mr_reduce_by_key(pairs, MR_SUM), append_counts, program);
    return ctx;
}

int main(int argc, char **argv)
{
    struct program program = {argv, 0};

    if (argc != 5) {
        fprintf(stderr, "usage: recoverable_network_word_count HOST PORT CHECKPOINT OUTPUT\n");
        return 64;
    }
    return mr_context_main(mr_context_get_or_create(argv[3], build, &program));
}
