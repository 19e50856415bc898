/*
 * Counts words of the last 30 seconds, every 10 seconds: windowed_word_count HOST PORT
 *
 * The inverse function takes out what has left the window, so the work of a step does not depend on
 * how long the window is; the filter forgets words that are not in it any more.
 */
#include <millrace/dstream.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: windowed_word_count HOST PORT\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("windowed-word-count", MR_SECONDS(2));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, argv[1], (int)strtol(argv[2], NULL, 10));
    struct mr_dstream *words = mr_flat_map(lines, MR_WORDS);
    struct mr_dstream *pairs = mr_map_to_pair(words, MR_COUNT); /* each word with 1 */
    struct mr_dstream *counts =
        mr_reduce_by_key_and_window(pairs, MR_SQL("a + b"), MR_SQL("a - b"), MR_SECONDS(30),
                                    MR_SECONDS(10), MR_SQL("value <> 0"));

    mr_print(counts, 20);
    return mr_context_main(ctx);
}
