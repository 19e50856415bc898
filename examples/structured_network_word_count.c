/* Counts words of a TCP server since the beginning: a streaming query. Try: nc -lk 9999, and in
 * another terminal: structured_network_word_count localhost 9999 */
#include <millrace/sql.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: structured_network_word_count HOST PORT\n");
        return 64;
    }
    struct mr_streams *s = mr_streams_new();
    struct mr_stream_reader *in = mr_read_format(mr_read_stream(s), "socket");

    mr_read_option(mr_read_option(in, "host", argv[1]), "port", argv[2]);
    struct mr_frame *lines = mr_read_load(in, NULL);
    struct mr_frame *words = mr_frame_select(lines, "unnest(string_split(value, ' ')) AS word");
    struct mr_frame *counts = mr_frame_group_by(words, "word", "count(*) AS count");
    struct mr_stream_writer *out = mr_write_format(mr_write_stream(counts), "console");

    mr_write_output_mode(out, "complete");
    return mr_streams_main(s, out);
}
