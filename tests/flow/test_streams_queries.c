/*
 * The C API of the SQL side: readers, frames, writers, queries (structured.md 1, 9, 18; vectors 12
 * and 16).
 */
#include "support/streams.h"

static struct mr_stream_writer *memory(struct st *s, struct mr_frame *frame, const char *name,
                                       const char *mode)
{
    struct mr_stream_writer *writer = mr_write_stream(frame);

    mr_write_format(writer, "memory");
    mr_write_query_name(writer, st_name(s, name));
    return mr_write_output_mode(writer, mode);
}

TEST(words_are_counted_as_the_guide_does_it)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_frame *words, *counts;

    st_source(s, "lines", "value VARCHAR");
    words = mr_streams_sql(st_session(s),
                           "SELECT unnest(string_split(value, ' ')) AS word FROM lines");
    counts = mr_frame_group_by(words, "word", "count(*) AS n");
    query = st_start(memory(s, counts, "word_counts", "complete"));
    st_rows(s, "lines", "('a b a'), ('c')");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM word_counts"), "a|2\nb|1\nc|1\n");
    st_rows(s, "lines", "('b')");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT word, n FROM word_counts WHERE n > 1"), "a|2\nb|2\n");
    st_stop(query);
    st_free(s);
}
