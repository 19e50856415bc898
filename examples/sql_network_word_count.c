/*
 * Counts words of a TCP server with SQL over each batch: sql_network_word_count HOST PORT
 *
 * The guide's SqlNetworkWordCount: inside foreach_rdd a dataset becomes a table.
 */
#include <millrace/dstream.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum mr_status count_with_sql(struct mr_rdd *words, int64_t batch_time_ms, void *arg,
                                     struct mr_error *err)
{
    struct mr_session *session = mr_rdd_session(words);
    struct mr_batch *totals;

    (void)arg;
    MR_TRY(mr_rdd_create_view(words, "words", err));
    MR_TRY(mr_rdd_collect(mr_session_sql(session, "SELECT value AS word, count(*) AS total "
                                                  "FROM words GROUP BY value ORDER BY value"),
                          &totals, err));
    printf("========= %" PRId64 " =========\n", batch_time_ms);
    for (struct mr_row row = {totals, 0}; row.index < mr_batch_row_count(totals); row.index++)
        printf("%.*s %" PRId64 "\n", (int)mr_row_text(&row, 0).size_bytes,
               mr_row_text(&row, 0).data, mr_row_int(&row, 1));
    fflush(stdout);
    mr_batch_unref(totals);
    return MR_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: sql_network_word_count HOST PORT\n");
        return 64;
    }
    struct mr_context *ctx = mr_context_new("sql-network-word-count", MR_SECONDS(2));
    struct mr_dstream *lines = mr_socket_text_stream(ctx, argv[1], (int)strtol(argv[2], NULL, 10));

    mr_foreach_rdd(mr_flat_map(lines, MR_WORDS), count_with_sql, NULL);
    return mr_context_main(ctx);
}
