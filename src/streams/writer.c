/*
 * Writers: what df.writeStream gathers before start.c makes a query of it.
 *
 * Everything lives in the session's arena; a writer may be started more than once. Thread: the one
 * that builds.
 */
#include "streams/streams.h"

#include "base/text.h"
#include "sql/settings.h"

#include <string.h>

struct mr_stream_writer *mr_write_stream(struct mr_frame *frame)
{
    struct mr_stream_writer *writer;

    if (frame == NULL)
        return NULL;
    writer = mr_arena_alloc(&frame->streams->arena, sizeof(*writer));
    if (writer == NULL)
        return NULL;
    memset(writer, 0, sizeof(*writer));
    writer->streams = frame->streams;
    writer->frame = frame;
    writer->error = frame->error;
    return writer;
}

/* Keeps a text that must be there. */
static bool keep(struct mr_stream_writer *writer, const char *call, const char *what,
                 const char *text, const char **ret_kept)
{
    if (writer->error.status != MR_OK)
        return false;
    if (text == NULL || text[0] == '\0') {
        MR_FAIL(&writer->error, MR_CONFIG, "%s: there is no %s", call, what);
        return false;
    }
    *ret_kept = mr__keep(writer->streams, text);
    if (*ret_kept == NULL)
        MR_FAIL(&writer->error, MR_NOMEM, "out of memory");
    return *ret_kept != NULL;
}

struct mr_stream_writer *mr_write_format(struct mr_stream_writer *writer, const char *format)
{
    if (writer == NULL || !keep(writer, "mr_write_format", "format", format, &writer->format))
        return writer;
    writer->kind = MR__WRITE_CONNECTOR;
    if (mr_text_equal_nocase(format, strlen(format), "noop", 4))
        writer->format = "null";
    return writer;
}

static bool is_checkpoint(const char *key)
{
    static const char *const names[] = {"checkpointLocation", "checkpoint_location", "checkpoint"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(names); i++) {
        if (mr_text_equal_nocase(key, strlen(key), names[i], strlen(names[i])))
            return true;
    }
    return false;
}

struct mr_stream_writer *mr_write_option(struct mr_stream_writer *writer, const char *key,
                                         const char *value)
{
    const char *kept;

    if (writer == NULL || !keep(writer, "mr_write_option", "key", key, &kept))
        return writer;
    if (value == NULL)
        MR_FAIL(&writer->error, MR_CONFIG, "mr_write_option: '%s' has no value", key);
    else if (is_checkpoint(key))
        keep(writer, "mr_write_option", "checkpoint directory", value, &writer->checkpoint);
    else if (!mr__options_set(writer->streams, &writer->options, key, value))
        MR_FAIL(&writer->error, MR_NOMEM, "out of memory");
    return writer;
}

struct mr_stream_writer *mr_write_output_mode(struct mr_stream_writer *writer, const char *mode)
{
    static const char *const modes[] = {"append", "update", "complete"};

    if (writer == NULL || !keep(writer, "mr_write_output_mode", "mode", mode, &writer->mode))
        return writer;
    for (size_t i = 0; i < MR_ARRAY_SIZE(modes); i++) {
        if (mr_text_equal_nocase(mode, strlen(mode), modes[i], strlen(modes[i]))) {
            writer->mode = modes[i];
            return writer;
        }
    }
    MR_FAIL(&writer->error, MR_CONFIG,
            "mr_write_output_mode: unknown output mode '%s'; use 'append', 'update' or 'complete'",
            mode);
    return writer;
}

struct mr_stream_writer *mr_write_trigger(struct mr_stream_writer *writer, const char *trigger)
{
    enum mr_trigger_kind kind;
    int64_t interval_us;

    if (writer == NULL || !keep(writer, "mr_write_trigger", "trigger", trigger, &writer->trigger))
        return writer;
    if (mr_sql_trigger_parse(trigger, &kind, &interval_us, &writer->error) != MR_OK)
        mr_error_prefix(&writer->error, "mr_write_trigger");
    return writer;
}

struct mr_stream_writer *mr_write_query_name(struct mr_stream_writer *writer, const char *name)
{
    if (writer == NULL || !keep(writer, "mr_write_query_name", "name", name, &writer->name))
        return writer;
    if (strlen(name) > MR_NAME_BYTES_MAX)
        MR_FAIL(&writer->error, MR_CONFIG, "mr_write_query_name: a name has at most %d bytes",
                (int)MR_NAME_BYTES_MAX);
    return writer;
}

struct mr_stream_writer *mr_write_foreach(struct mr_stream_writer *writer,
                                          const struct mr_foreach_writer *functions)
{
    if (writer == NULL || writer->error.status != MR_OK)
        return writer;
    if (functions == NULL || functions->process == NULL) {
        MR_FAIL(&writer->error, MR_CONFIG, "mr_write_foreach: there is no function 'process'");
        return writer;
    }
    writer->kind = MR__WRITE_FOREACH;
    writer->foreach = (struct mr_foreach_writer){0};
    memcpy(&writer->foreach, functions, MR_MIN(functions->struct_size, sizeof(*functions)));
    return writer;
}

struct mr_stream_writer *mr_write_foreach_batch(struct mr_stream_writer *writer,
                                                mr_foreach_batch_fn fn, void *arg)
{
    if (writer == NULL || writer->error.status != MR_OK)
        return writer;
    if (fn == NULL) {
        MR_FAIL(&writer->error, MR_CONFIG, "mr_write_foreach_batch: there is no function to call");
        return writer;
    }
    writer->kind = MR__WRITE_FOREACH_BATCH;
    writer->batch_fn = fn;
    writer->batch_arg = arg;
    return writer;
}
