/*
 * Readers and frames: what a program builds before a query is started.
 *
 *     reader --mr_read_load--> SOURCE --create_view--> name <--text-- SQL, PROGRAM
 *
 * A frame keeps what it was made of; script.c writes it as statements when a query needs it. SQL
 * takes the views that its text names as inputs at once, so a name that later means another frame
 * changes nothing for it.
 *
 * Everything lives in the session's arena. Thread: the one that builds.
 */
#include "streams/streams.h"

#include "base/text.h"
#include "duck/lex.h"

#include <millrace/ext/options.h>

#include <string.h>

struct mr_stream_reader {
    struct mr_streams *streams;
    struct mr_error error;
    const char *format;
    const char *columns;
    struct mr__options options;
};

/* ---- helpers ---- */

const char *mr__keep(struct mr_streams *streams, const char *text)
{
    return mr_arena_copy(&streams->arena, text, strlen(text));
}

bool mr__options_set(struct mr_streams *streams, struct mr__options *pairs, const char *key,
                     const char *value)
{
    struct mr_option_pair pair = {mr__keep(streams, key), mr__keep(streams, value)};

    if (pair.key == NULL || pair.value == NULL)
        return false;
    for (size_t i = 0; i < pairs->count; i++) {
        if (mr_text_equal_nocase(pairs->items[i].key, strlen(pairs->items[i].key), key,
                                 strlen(key))) {
            pairs->items[i] = pair;
            return true;
        }
    }
    if (pairs->count == pairs->capacity) {
        size_t capacity = pairs->capacity * 2 + 8;
        struct mr_option_pair *items =
            mr_arena_alloc(&streams->arena, capacity * sizeof(*pairs->items));

        if (items == NULL)
            return false;
        if (pairs->count > 0)
            memcpy(items, pairs->items, pairs->count * sizeof(*items));
        pairs->items = items;
        pairs->capacity = capacity;
    }
    pairs->items[pairs->count++] = pair;
    return true;
}

const char *mr__options_get(const struct mr__options *pairs, const char *key)
{
    for (size_t i = 0; i < pairs->count; i++) {
        if (mr_text_equal_nocase(pairs->items[i].key, strlen(pairs->items[i].key), key,
                                 strlen(key)))
            return pairs->items[i].value;
    }
    return NULL;
}

void mr__blame_place(struct mr_error *err, const struct mr__place *place)
{
    const char *slash;

    if (err == NULL)
        return;
    if (place->file == NULL) {
        mr_error_prefix(err, "%s", place->call);
        return;
    }
    slash = strrchr(place->file, '/');
    mr_error_prefix(err, "%s:%d: %s", slash != NULL ? slash + 1 : place->file, place->line,
                    place->call);
}

static void no_memory(struct mr_error *err)
{
    MR_FAIL(err, MR_NOMEM, "out of memory");
}

struct mr_frame *mr__frame_blame(struct mr_frame *frame, const struct mr__place *place,
                                 const struct mr_error *err)
{
    if (frame == NULL || frame->error.status != MR_OK)
        return frame;
    frame->error = *err;
    mr__blame_place(&frame->error, place);
    return frame;
}

static struct mr_frame *frame_new(struct mr_streams *streams, enum mr__frame_kind kind,
                                  const struct mr__place *place, uint32_t input_count)
{
    struct mr_frame *frame = mr_arena_alloc(&streams->arena, sizeof(*frame));

    if (frame == NULL)
        return NULL;
    memset(frame, 0, sizeof(*frame));
    frame->streams = streams;
    frame->kind = kind;
    frame->place = *place;
    frame->inputs = mr_arena_alloc(&streams->arena, (input_count + 1) * sizeof(struct mr_frame *));
    if (frame->inputs == NULL)
        return NULL;
    frame->next = streams->frames;
    streams->frames = frame;
    return frame;
}

static void add_input(struct mr_frame *frame, struct mr_frame *input)
{
    frame->inputs[frame->input_count++] = input;
    if (frame->error.status == MR_OK && input->error.status != MR_OK)
        frame->error = input->error;
}

/* ---- readers ---- */

struct mr_stream_reader *mr_read_stream(struct mr_streams *streams)
{
    struct mr_stream_reader *reader;

    if (streams == NULL)
        return NULL;
    reader = mr_arena_alloc(&streams->arena, sizeof(*reader));
    if (reader == NULL)
        return NULL;
    memset(reader, 0, sizeof(*reader));
    reader->streams = streams;
    return reader;
}

struct mr_stream_reader *mr_read_static(struct mr_streams *streams)
{
    return mr_read_option(mr_read_stream(streams), "static", "true");
}

/* A mistake in a text that must be there. */
static bool is_given(struct mr_error *error, const char *call, const char *what, const char *text)
{
    if (error->status != MR_OK)
        return false;
    if (text == NULL)
        MR_FAIL(error, MR_CONFIG, "%s: there is no %s", call, what);
    return text != NULL;
}

struct mr_stream_reader *mr_read_format(struct mr_stream_reader *reader, const char *format)
{
    if (reader == NULL || !is_given(&reader->error, "mr_read_format", "format", format))
        return reader;
    reader->format = mr__keep(reader->streams, format);
    if (reader->format == NULL)
        no_memory(&reader->error);
    return reader;
}

struct mr_stream_reader *mr_read_option(struct mr_stream_reader *reader, const char *key,
                                        const char *value)
{
    if (reader == NULL || !is_given(&reader->error, "mr_read_option", "key", key) ||
        !is_given(&reader->error, "mr_read_option", "value", value))
        return reader;
    if (!mr__options_set(reader->streams, &reader->options, key, value))
        no_memory(&reader->error);
    return reader;
}

struct mr_stream_reader *mr_read_schema(struct mr_stream_reader *reader, const char *columns)
{
    struct mr_schema *schema = NULL;

    if (reader == NULL || !is_given(&reader->error, "mr_read_schema", "schema", columns))
        return reader;
    if (mr_schema_parse(columns, strlen(columns), &schema, &reader->error) != MR_OK) {
        mr_error_prefix(&reader->error, "mr_read_schema");
        return reader;
    }
    mr_schema_unref(schema);
    reader->columns = mr__keep(reader->streams, columns);
    if (reader->columns == NULL)
        no_memory(&reader->error);
    return reader;
}

struct mr_frame *mr_read_load_at(struct mr_stream_reader *reader, const char *path,
                                 const char *file, int line)
{
    struct mr__place place = {file, line, "mr_read_load"};
    struct mr_frame *frame;
    struct mr_error err = {0};

    if (reader == NULL)
        return NULL;
    if (path != NULL)
        mr_read_option(reader, "path", path);
    frame = frame_new(reader->streams, MR__FRAME_SOURCE, &place, 0);
    if (frame == NULL)
        return NULL;
    frame->format = reader->format;
    frame->columns = reader->columns;
    frame->options = reader->options;
    frame->options.capacity = frame->options.count; /* a later option copies the list */
    reader->options.capacity = reader->options.count;
    if (reader->error.status != MR_OK)
        return mr__frame_blame(frame, &place, &reader->error);
    if (reader->format == NULL) {
        MR_FAIL(&err, MR_CONFIG, "there is no format; call mr_read_format(reader, \"kafka\")");
        mr__frame_blame(frame, &place, &err);
    }
    return frame;
}

void mr__frame_bind(struct mr_frame *frame, const struct mr_source_connector *source, void *user)
{
    frame->bound = source;
    frame->bound_user = user;
}

/* ---- views ---- */

struct mr_frame *mr__view_find(struct mr_streams *streams, const char *name)
{
    for (size_t i = 0; i < streams->view_count; i++) {
        const struct mr__named_frame *view = &streams->views[i];

        if (mr_text_equal_nocase(view->name, strlen(view->name), name, strlen(name)))
            return view->frame;
    }
    return NULL;
}

static bool view_set(struct mr_streams *streams, const char *name, struct mr_frame *frame)
{
    for (size_t i = 0; i < streams->view_count; i++) {
        struct mr__named_frame *view = &streams->views[i];

        if (mr_text_equal_nocase(view->name, strlen(view->name), name, strlen(name))) {
            view->frame = frame;
            return true;
        }
    }
    if (streams->view_count == streams->view_capacity) {
        size_t capacity = streams->view_capacity * 2 + 8;
        struct mr__named_frame *views = mr_arena_alloc(&streams->arena, capacity * sizeof(*views));

        if (views == NULL)
            return false;
        if (streams->view_count > 0)
            memcpy(views, streams->views, streams->view_count * sizeof(*views));
        streams->views = views;
        streams->view_capacity = capacity;
    }
    streams->views[streams->view_count++] = (struct mr__named_frame){name, frame};
    return true;
}

struct mr_frame *mr_frame_create_view_at(struct mr_frame *frame, const char *name, const char *file,
                                         int line)
{
    struct mr__place place = {file, line, "mr_frame_create_view"};
    struct mr_frame *view = frame;
    struct mr_error err = {0};
    const char *kept;

    if (frame == NULL)
        return NULL;
    if (name == NULL || name[0] == '\0' || strlen(name) > MR_NAME_BYTES_MAX ||
        frame->streams->view_count == MR__VIEWS_MAX) {
        MR_FAIL(&err, MR_CONFIG, "a view needs a name of 1 to 255 bytes; at most 10000 views");
        return mr__frame_blame(frame, &place, &err);
    }
    kept = mr__keep(frame->streams, name);
    if (kept != NULL && frame->name != NULL &&
        !mr_text_equal_nocase(frame->name, strlen(frame->name), name, strlen(name))) {
        /* another name of a frame that has one: a view of that */
        view = mr_frame_select_at(frame, "*", file, line);
    }
    if (kept == NULL || view == NULL || !view_set(frame->streams, kept, view)) {
        no_memory(&err);
        if (frame->streams->error.status == MR_OK) /* what uses the name would say it is unknown */
            frame->streams->error = err;
        return mr__frame_blame(frame, &place, &err);
    }
    if (view->name == NULL)
        view->name = kept;
    return frame;
}

/* ---- SQL ---- */

/* The views that a text names become inputs, each once. */
static enum mr_status find_inputs(struct mr_frame *frame, const char *sql, uint32_t input_max,
                                  struct mr_error *err)
{
    struct mr_lexer lexer = mr_lexer_of(sql, strlen(sql));
    struct mr_token token;
    struct mr_buf word = MR_BUF_INIT;
    enum mr_status status;

    for (;;) {
        struct mr_frame *input;
        bool is_known = false;
        size_t quotes;

        status = mr_lexer_next(&lexer, &token, err);
        if (status != MR_OK || token.kind == MR_TOKEN_END)
            break;
        if (token.kind != MR_TOKEN_WORD && token.kind != MR_TOKEN_QUOTED)
            continue;
        quotes = token.kind == MR_TOKEN_QUOTED ? 1 : 0;
        mr_buf_clear(&word);
        mr_buf_add(&word, sql + token.at + quotes, token.size - 2 * quotes);
        if (word.failed) {
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
            break;
        }
        input = mr__view_find(frame->streams, word.data);
        for (uint32_t i = 0; i < frame->input_count; i++)
            is_known |= frame->inputs[i] == input;
        if (input == NULL || is_known || input == frame)
            continue;
        MR_ASSERT(frame->input_count < input_max);
        add_input(frame, input);
    }
    mr_buf_release(&word);
    return status;
}

/* Without the blanks and the ';' at the end. */
static const char *trimmed(struct mr_streams *streams, const char *sql)
{
    size_t size = strlen(sql);

    while (size > 0 && (strchr(" \t\r\n;", sql[size - 1]) != NULL))
        size--;
    return mr_arena_copy(&streams->arena, sql, size);
}

struct mr_frame *mr_streams_sql_at(struct mr_streams *streams, const char *sql, const char *file,
                                   int line)
{
    struct mr__place place = {file, line, "mr_streams_sql"};
    struct mr_error err = {0};
    struct mr_frame *frame;

    if (streams == NULL)
        return NULL;
    frame = frame_new(streams, MR__FRAME_SQL, &place, (uint32_t)streams->view_count);
    if (frame == NULL)
        return NULL;
    if (sql == NULL) {
        MR_FAIL(&err, MR_CONFIG, "there is no SQL text");
        return mr__frame_blame(frame, &place, &err);
    }
    frame->parts[0] = (struct mr__part){MR__PART_USER, trimmed(streams, sql), 0};
    frame->part_count = 1;
    if (frame->parts[0].text == NULL)
        no_memory(&err);
    else if (frame->parts[0].text[0] == '\0')
        MR_FAIL(&err, MR_CONFIG, "there is no SQL text");
    else
        find_inputs(frame, sql, (uint32_t)streams->view_count, &err);
    if (err.sql_line > 0)
        mr_error_prefix(&err, "line %u, column %u", err.sql_line, err.sql_column);
    return err.status == MR_OK ? frame : mr__frame_blame(frame, &place, &err);
}

struct mr_frame *mr_streams_table_at(struct mr_streams *streams, const char *name, const char *file,
                                     int line)
{
    struct mr__place place = {file, line, "mr_streams_table"};
    struct mr_error err = {0};
    struct mr_frame *frame;

    if (streams == NULL)
        return NULL;
    frame = name != NULL ? mr__view_find(streams, name) : NULL;
    if (frame != NULL)
        return frame;
    frame = frame_new(streams, MR__FRAME_SQL, &place, 0);
    MR_FAIL(&err, MR_NOT_FOUND, "there is no view '%s'; name a frame with mr_frame_create_view",
            name != NULL ? name : "");
    return mr__frame_blame(frame, &place, &err);
}

/* A frame of parts over a and b (NULL: one input). A user text that is NULL is a mistake. */
static struct mr_frame *compose(struct mr_frame *a, struct mr_frame *b, const char *call,
                                const char *file, int line, const struct mr__part *parts,
                                size_t part_count)
{
    struct mr__place place = {file, line, call};
    struct mr_error err = {0};
    struct mr_frame *frame = frame_new(a->streams, MR__FRAME_SQL, &place, 2);

    MR_ASSERT(part_count <= MR__PARTS_MAX);
    if (frame == NULL)
        return NULL;
    add_input(frame, a);
    if (b != NULL)
        add_input(frame, b);
    for (size_t i = 0; i < part_count && err.status == MR_OK; i++) {
        struct mr__part *part = &frame->parts[frame->part_count++];

        *part = parts[i];
        if (part->kind != MR__PART_USER)
            continue;
        if (part->text == NULL)
            MR_FAIL(&err, MR_CONFIG, "there is no text");
        else if ((part->text = mr__keep(a->streams, part->text)) == NULL)
            no_memory(&err);
    }
    return err.status == MR_OK ? frame : mr__frame_blame(frame, &place, &err);
}

#define FIXED(text)                                                                                \
    {                                                                                              \
        MR__PART_FIXED, (text), 0                                                                  \
    }
#define USER(text)                                                                                 \
    {                                                                                              \
        MR__PART_USER, (text), 0                                                                   \
    }
#define NAME(input)                                                                                \
    {                                                                                              \
        MR__PART_NAME, NULL, (input)                                                               \
    }
#define COMPOSE(a, b, call, parts)                                                                 \
    compose((a), (b), (call), file, line, (parts), MR_ARRAY_SIZE(parts))

struct mr_frame *mr_frame_select_at(struct mr_frame *frame, const char *columns, const char *file,
                                    int line)
{
    const struct mr__part parts[] = {FIXED("SELECT "), USER(columns), FIXED(" FROM "), NAME(0)};

    return frame != NULL ? COMPOSE(frame, NULL, "mr_frame_select", parts) : NULL;
}

struct mr_frame *mr_frame_where_at(struct mr_frame *frame, const char *condition, const char *file,
                                   int line)
{
    const struct mr__part parts[] = {FIXED("SELECT * FROM "), NAME(0), FIXED(" WHERE "),
                                     USER(condition)};

    return frame != NULL ? COMPOSE(frame, NULL, "mr_frame_where", parts) : NULL;
}

struct mr_frame *mr_frame_group_by_at(struct mr_frame *frame, const char *keys,
                                      const char *aggregates, const char *file, int line)
{
    const struct mr__part parts[] = {FIXED("SELECT "),    USER(keys),      FIXED(", "),
                                     USER(aggregates),    FIXED(" FROM "), NAME(0),
                                     FIXED(" GROUP BY "), USER(keys)};

    return frame != NULL ? COMPOSE(frame, NULL, "mr_frame_group_by", parts) : NULL;
}

struct mr_frame *mr_frame_drop_duplicates_at(struct mr_frame *frame, const char *columns,
                                             const char *file, int line)
{
    const struct mr__part some[] = {FIXED("SELECT DISTINCT ON ("), USER(columns),
                                    FIXED(") * FROM "), NAME(0)};
    const struct mr__part all[] = {FIXED("SELECT * FROM drop_duplicates(TABLE "), NAME(0),
                                   FIXED(")")};

    if (frame == NULL)
        return NULL;
    return columns != NULL ? COMPOSE(frame, NULL, "mr_frame_drop_duplicates", some)
                           : COMPOSE(frame, NULL, "mr_frame_drop_duplicates", all);
}

struct mr_frame *mr_frame_drop_duplicates_within_watermark_at(struct mr_frame *frame,
                                                              const char *columns, const char *file,
                                                              int line)
{
    static const char call[] = "mr_frame_drop_duplicates_within_watermark";
    const struct mr__part some[] = {FIXED("SELECT * FROM drop_duplicates_within_watermark(TABLE "),
                                    NAME(0), FIXED(", DESCRIPTOR("), USER(columns), FIXED("))")};
    const struct mr__part all[] = {FIXED("SELECT * FROM drop_duplicates_within_watermark(TABLE "),
                                   NAME(0), FIXED(")")};

    if (frame == NULL)
        return NULL;
    return columns != NULL ? COMPOSE(frame, NULL, call, some) : COMPOSE(frame, NULL, call, all);
}

struct mr_frame *mr_frame_union_at(struct mr_frame *a, struct mr_frame *b, const char *file,
                                   int line)
{
    const struct mr__part parts[] = {FIXED("SELECT * FROM "), NAME(0),
                                     FIXED(" UNION ALL SELECT * FROM "), NAME(1)};
    const struct mr__part same[] = {FIXED("SELECT * FROM "), NAME(0),
                                    FIXED(" UNION ALL SELECT * FROM "), NAME(0)};

    if (a == NULL || b == NULL)
        return NULL;
    return a == b ? COMPOSE(a, NULL, "mr_frame_union", same)
                  : COMPOSE(a, b, "mr_frame_union", parts);
}

/* ---- operators of the program ---- */

struct mr_frame *mr__frame_program(struct mr_frame *input, const char *name, mr__plan_fn plan,
                                   void *arg, void (*free)(void *arg),
                                   const struct mr__place *place)
{
    struct mr_frame *frame =
        input != NULL ? frame_new(input->streams, MR__FRAME_PROGRAM, place, 1) : NULL;

    if (frame == NULL) {
        if (free != NULL)
            free(arg);
        return NULL;
    }
    frame->plan = plan;
    frame->plan_arg = arg;
    frame->plan_free = free;
    add_input(frame, input);
    if (name != NULL)
        mr_frame_create_view_at(frame, name, place->file, place->line);
    return frame;
}

enum mr_status mr_frame_error(const struct mr_frame *frame, struct mr_error *err)
{
    if (frame == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    if (frame->error.status != MR_OK && err != NULL)
        *err = frame->error;
    return frame->error.status;
}
