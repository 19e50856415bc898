/*
 * Workload W3 as a DStream program: running counts of words, one a line, from files or a socket.
 *
 *     w3_dstream files DIR WORDS CHECKPOINT RESULT.csv     the files that are in DIR
 *     w3_dstream socket PORT WORDS CHECKPOINT RESULT.csv   a TCP server on PORT (send_file.c)
 *
 * CHECKPOINT "-" = none: nothing is durable, received blocks stay in memory. Ends when WORDS words
 * are counted; the last counts go to RESULT.csv, which bench/run compares with DuckDB's.
 */
#include <millrace/dstream.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct program {
    struct mr_context *ctx;
    int64_t words;
    const char *result;
};

static enum mr_status write_counts(const struct mr_batch *counts, const char *path,
                                   struct mr_error *err)
{
    FILE *file = fopen(path, "we");

    if (file == NULL)
        return MR_FAIL(err, MR_IO, "cannot write '%s'", path);
    fprintf(file, "word,n\n");
    for (struct mr_row row = {counts, 0}; row.index < mr_batch_row_count(counts); row.index++) {
        struct mr_slice word = mr_row_text(&row, 0);

        fprintf(file, "%.*s,%" PRId64 "\n", (int)word.size_bytes, word.data, mr_row_int(&row, 1));
    }
    return fclose(file) == 0 ? MR_OK : MR_FAIL(err, MR_IO, "cannot write '%s'", path);
}

static enum mr_status look(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                           struct mr_error *err)
{
    struct program *program = arg;
    enum mr_status status = MR_OK;
    struct mr_batch *counts;
    int64_t words = 0;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &counts, err));
    for (struct mr_row row = {counts, 0}; row.index < mr_batch_row_count(counts); row.index++)
        words += mr_row_int(&row, 1);
    if (words == program->words) {
        status = write_counts(counts, program->result, err);
        mr_context_stop(program->ctx, true);
    }
    mr_batch_unref(counts);
    return status;
}

int main(int argc, char **argv)
{
    static struct program program;
    struct mr_dstream *lines, *pairs;

    if (argc != 6) {
        fprintf(stderr, "usage: w3_dstream files|socket DIR|PORT WORDS CHECKPOINT|- RESULT.csv\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("w3", MR_MILLISECONDS(100));
    struct mr_file_stream files = {.dir = argv[2], .all_files = true};

    program = (struct program){ctx, strtoll(argv[3], NULL, 10), argv[5]};
    if (strcmp(argv[4], "-") != 0)
        mr_context_checkpoint(ctx, argv[4]);
    mr_context_set(ctx, "file_remember", "24h");
    lines = strcmp(argv[1], "files") == 0
                ? mr_file_stream(ctx, &files)
                : mr_socket_text_stream(ctx, "127.0.0.1", (int)strtol(argv[2], NULL, 10));
    pairs = mr_reduce_by_key(mr_map_to_pair(mr_flat_map(lines, MR_WORDS), MR_COUNT), MR_SUM);
    mr_foreach_rdd(mr_update_state_by_key(pairs, "counts", MR_SUM), look, &program);
    return mr_context_main(ctx);
}
