/*
 * A query with a slow output: soak_slow INPUT_DIR OUTPUT_DIR CHECKPOINT_DIR SLOW_MS [drain]
 *
 * Each batch becomes OUTPUT_DIR/batch-N, after a wait of up to SLOW_MS that depends on N, so that
 * kills fall into it and the input piles up meanwhile. With "drain" it ends when the input is read.
 */
#include <millrace/sql.h>

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

struct output {
    const char *dir;
    uint64_t slow_ms;
};

static enum mr_status write_slowly(struct mr_rdd *rows, uint64_t batch_id, void *arg,
                                   struct mr_error *err)
{
    const struct output *output = arg;
    char path[900];

    if (output->slow_ms > 0)
        poll(NULL, 0, (int)(batch_id * 7919 % output->slow_ms));
    snprintf(path, sizeof(path), "%s/batch-%" PRIu64, output->dir, batch_id);
    return mr_rdd_save_as_text_file(rows, path, err);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: soak_slow INPUT_DIR OUTPUT_DIR CHECKPOINT_DIR SLOW_MS [drain]\n");
        return 64;
    }
    struct output output = {.dir = argv[2], .slow_ms = strtoull(argv[4], NULL, 10)};
    struct mr_streams *s = mr_streams_new();
    struct mr_stream_reader *in = mr_read_format(mr_read_stream(s), "json");

    mr_read_option(mr_read_schema(in, "id BIGINT"), "maxFilesPerTrigger", "20");
    mr_read_option(in, "clean_source", "delete");
    struct mr_stream_writer *out = mr_write_stream(mr_read_load(in, argv[1]));

    mr_write_foreach_batch(out, write_slowly, &output);
    mr_write_option(out, "checkpointLocation", argv[3]);
    if (argc > 5)
        mr_write_trigger(out, "available now");
    return mr_streams_main(s, out);
}
