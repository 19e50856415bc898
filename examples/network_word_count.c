/* Counts words of a TCP server, batch by batch. Try: nc -lk 9999, and in another terminal:
 * network_word_count localhost 9999 */
#include <millrace/dstream.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: network_word_count HOST PORT\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("network-word-count", MR_SECONDS(1));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, argv[1], (int)strtol(argv[2], NULL, 10));
    struct mr_dstream *words = mr_flat_map(lines, MR_SQL("string_split(value, ' ')"));
    struct mr_dstream *pairs = mr_map_to_pair(words, MR_SQL("value, 1"));
    struct mr_dstream *counts = mr_reduce_by_key(pairs, MR_SUM);

    mr_print(counts, 10);
    return mr_context_main(ctx);
}
