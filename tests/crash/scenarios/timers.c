/*
 * The program of timers.py: transform_with_state with timers of event time, a list and a value,
 * from files to files. Run: crash_timers IN OUT CHECKPOINT; it works off what is there and ends.
 *
 * Rows (name, second of the day). The first row of a name sets timers at its second + 10 and + 20;
 * each timer emits (name, when it was, rows so far, their seconds as text), the last one clears the
 * name.
 */
#include <millrace/groups.h>

#include <stdio.h>
#include <string.h>

enum { LAST, SECONDS };

static void rows_of(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                    struct mr_emitter *out, void *arg)
{
    struct mr_row row;

    (void)key, (void)out, (void)arg;
    while (mr_rows_next(rows, &row)) {
        int64_t ms = mr_row_int(&row, 1) / 1000;

        if (!mr_value_state_exists(at, LAST)) {
            mr_value_state_update_int(at, LAST, ms + 20000);
            mr_timer_register(at, ms + 10000);
            mr_timer_register(at, ms + 20000);
        }
        mr_emit_int(mr_list_state_append(at, SECONDS), ms / 1000 % 86400);
    }
}

static void tell(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                 struct mr_emitter *out, void *arg)
{
    struct mr_slice name = mr_row_text(key, 0);
    char text[500] = "";
    size_t used = 0;

    (void)arg;
    for (int64_t i = 0; i < mr_list_state_count(at, SECONDS) && used + 20 < sizeof(text); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%lld ",
                                 (long long)mr_row_int(mr_list_state_item(at, SECONDS, i), 0));
    mr_emit_str(out, name.data, name.size_bytes);
    mr_emit_int(out, expiry_ms / 1000 % 86400);
    mr_emit_int(out, mr_list_state_count(at, SECONDS));
    mr_emit_str(out, text, used);
    mr_emit_end(out);
    if (expiry_ms == mr_row_int(mr_value_state_get(at, LAST), 0)) {
        mr_value_state_clear(at, LAST);
        mr_list_state_clear(at, SECONDS);
    }
}

int main(int argc, char **argv)
{
    static const struct mr_state_variable variables[] = {
        [LAST] = {.name = "last", .kind = MR_STATE_VALUE, .columns = "ms BIGINT"},
        [SECONDS] = {.name = "seconds", .kind = MR_STATE_LIST, .columns = "s BIGINT"}};
    static const struct mr_processor processor = {.rows = rows_of, .timer = tell};
    static const struct mr_transform_spec spec = {
        .name = "timers",
        .processor = &processor,
        .variables = variables,
        .variable_count = 2,
        .output = "name VARCHAR, at BIGINT, n BIGINT, seconds VARCHAR",
        .time_mode = MR_TIME_MODE_EVENT,
        .mode = MR_MODE_APPEND,
    };
    struct mr_streams *s = mr_streams_new();
    struct mr_stream_reader *in = mr_read_format(mr_read_stream(s), "json");
    struct mr_frame *frame;
    struct mr_stream_writer *out;

    if (argc != 4) {
        fprintf(stderr, "usage: crash_timers IN OUT CHECKPOINT\n");
        return 64;
    }
    mr_streams_set(s, "workers", "2");
    mr_read_schema(in, "name VARCHAR, ts TIMESTAMP");
    mr_read_option(in, "maxFilesPerTrigger", "1");
    frame = mr_frame_create_view(mr_read_load(in, argv[1]), "rows");
    frame = mr_frame_with_watermark(frame, "ts", "5 seconds");
    frame = mr_frame_transform_with_state(frame, "name", &spec);
    out = mr_write_format(mr_write_stream(frame), "json");
    mr_write_option(mr_write_option(out, "path", argv[2]), "checkpointLocation", argv[3]);
    mr_write_trigger(out, "available now");
    return mr_streams_main(s, out);
}
