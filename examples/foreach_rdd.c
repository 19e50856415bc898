/*
 * Hands each batch to a function of the program: foreach_rdd HOST PORT
 *
 * The function sees whole batches by partition. Where it writes them is its own business; (batch
 * id, partition) is the same when a batch runs again after a failure, so a table that remembers the
 * pair takes each batch once.
 */
#include <millrace/dstream.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct longest {
    size_t size_bytes;
    char text[256];
};

static enum mr_status look(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                           struct mr_error *err)
{
    struct longest *longest = arg;

    (void)err;
    for (uint32_t p = 0; p < mr_rdd_partition_count(rdd); p++) {
        for (size_t b = 0; b < mr_rdd_batch_count(rdd, p); b++) {
            const struct mr_batch *batch = mr_rdd_batch(rdd, p, b);

            for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch);
                 row.index++) {
                struct mr_slice line = mr_row_text(&row, 0);

                if (line.size_bytes <= longest->size_bytes)
                    continue;
                longest->size_bytes = line.size_bytes;
                snprintf(longest->text, sizeof(longest->text), "%.*s", (int)line.size_bytes,
                         line.data);
            }
        }
    }
    printf("batch %" PRIu64 " at %" PRId64 " ms: %" PRId64 " lines, longest so far: %s\n",
           mr_rdd_batch_id(rdd), batch_time_ms, mr_rdd_count(rdd), longest->text);
    fflush(stdout);
    return MR_OK;
}

int main(int argc, char **argv)
{
    static struct longest longest;

    if (argc != 3) {
        fprintf(stderr, "usage: foreach_rdd HOST PORT\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("foreach-rdd", MR_SECONDS(1));

    mr_foreach_rdd(mr_socket_text_stream(ctx, argv[1], (int)strtol(argv[2], NULL, 10)), look,
                   &longest);
    return mr_context_main(ctx);
}
