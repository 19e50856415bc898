/*
 * Visits of users, with a function of the program and state: sessionize INPUT_DIR OUTPUT_DIR
 * CHECKPOINT_DIR
 *
 * Input: JSON lines {"user": "ann", "ts": "2024-01-01 00:00:05", "page": "/a"}. A visit begins with
 * the first click of a user and ends when there was none for ten minutes of event time; then it
 * comes out as one row. It works off what is there, commits and ends; start it again when there are
 * more files. Kill it whenever you like.
 */
#include <millrace/groups.h>

#include <stdio.h>

enum { IDLE_MS = 10 * 60 * 1000 };

/* State: first and last click, and how many. One row comes out when a user has been idle. */
static void visit(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_group_find(call->state);
    int64_t first = state != NULL ? mr_row_int(state, 0) : INT64_MAX;
    int64_t last = state != NULL ? mr_row_int(state, 1) : 0;
    int64_t clicks = state != NULL ? mr_row_int(state, 2) : 0;
    struct mr_row row;

    (void)arg;
    if (mr_group_timed_out(call->state)) {
        mr_emit_value(out, mr_row_value(call->key, 0));
        mr_emit_int(out, first);
        mr_emit_int(out, last);
        mr_emit_int(out, clicks);
        mr_emit_end(out);
        mr_group_remove(call->state);
        return;
    }
    while (mr_rows_next(call->values, &row)) {
        int64_t at = mr_row_int(&row, 1);

        first = at < first ? at : first;
        last = at > last ? at : last;
        clicks++;
    }
    struct mr_emitter *next = mr_group_update(call->state);
    mr_emit_int(next, first);
    mr_emit_int(next, last);
    mr_emit_int(next, clicks);
    mr_emit_end(next);
    mr_group_set_timeout_timestamp(call->state, last / 1000 + IDLE_MS);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: sessionize INPUT_DIR OUTPUT_DIR CHECKPOINT_DIR\n");
        return 64;
    }
    static const struct mr_groups_spec visits = {
        .name = "visits",
        .call = visit,
        .state = "first TIMESTAMP, last TIMESTAMP, clicks BIGINT",
        .output = "user VARCHAR, first TIMESTAMP, last TIMESTAMP, clicks BIGINT",
        .timeout = MR_TIMEOUT_EVENT_TIME,
        .mode = MR_MODE_APPEND,
    };
    struct mr_streams *s = mr_streams_new();
    struct mr_stream_reader *in = mr_read_format(mr_read_stream(s), "json");

    mr_read_schema(in, "user VARCHAR, ts TIMESTAMP, page VARCHAR");
    mr_read_option(in, "maxFilesPerTrigger", "1");
    struct mr_frame *clicks = mr_frame_create_view(mr_read_load(in, argv[1]), "clicks");
    clicks = mr_frame_with_watermark(clicks, "ts", "1 minute");
    struct mr_frame *done = mr_frame_flat_map_groups_with_state(clicks, "user", &visits);
    struct mr_stream_writer *out = mr_write_format(mr_write_stream(done), "json");

    mr_write_option(mr_write_option(out, "path", argv[2]), "checkpointLocation", argv[3]);
    mr_write_trigger(out, "available now");
    return mr_streams_main(s, out);
}
