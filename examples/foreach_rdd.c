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
    struct mr_batch *lines;

    MR_TRY(mr_rdd_collect(rdd, &lines, err));
    for (struct mr_row row = {lines, 0}; row.index < mr_batch_row_count(lines); row.index++) {
        struct mr_slice line = mr_row_text(&row, 0);

        if (line.size_bytes <= longest->size_bytes)
            continue;
        longest->size_bytes = line.size_bytes;
        snprintf(longest->text, sizeof(longest->text), "%.*s", (int)line.size_bytes, line.data);
    }
    printf("batch %" PRIu64 " at %" PRId64 " ms: %" PRId64 " lines, longest so far: %s\n",
           mr_rdd_batch_id(rdd), batch_time_ms, mr_batch_row_count(lines), longest->text);
    fflush(stdout);
    mr_batch_unref(lines);
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
