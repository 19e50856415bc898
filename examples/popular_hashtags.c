/*
 * The ten most used hashtags of the last minute, every ten seconds:
 *
 *     popular_hashtags HOST PORT CHECKPOINT
 *
 * The window adds what came and takes out what left; a tag whose count reaches 0 is forgotten.
 */
#include <millrace/dstream.h>

#include <stdio.h>
#include <stdlib.h>

static struct mr_context *build(void *arg)
{
    char **args = arg;
    struct mr_context *ctx = mr_context_new("popular-hashtags", MR_SECONDS(2));
    struct mr_dstream *posts = mr_socket_text_stream(ctx, args[1], (int)strtol(args[2], NULL, 10));
    struct mr_dstream *tags = mr_filter(mr_flat_map(posts, MR_WORDS), MR_SQL("value[1] = '#'"));
    struct mr_dstream *counts =
        mr_reduce_by_key_and_window(mr_map_to_pair(tags, MR_COUNT), MR_SUM, MR_SUM, MR_SECONDS(60),
                                    MR_SECONDS(10), MR_SQL("value <> 0"));

    mr_dstream_set_name(counts, "last-minute");
    mr_print(mr_transform(counts, MR_SQL("SELECT * FROM input ORDER BY value DESC, key LIMIT 10")),
             10);
    return ctx;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: popular_hashtags HOST PORT CHECKPOINT\n");
        return 64;
    }
    return mr_context_main(mr_context_get_or_create(argv[3], build, argv));
}
