/*
 * Frames to a script of the SQL front end, and errors back to the program. Called by start.c and by
 * mr_frame_explain.
 *
 *     SOURCE   CREATE TABLE name (columns) WITH ('connector' = ..., options);
 *     SQL      CREATE VIEW name AS parts;
 *     PROGRAM  a program view of the plan (sql/plan.h): no statement; a watermark right behind a
 *              table is the table's own instead, and a view of it
 *     the one that is written:  INSERT INTO output SELECT * FROM name, or its SQL itself when it
 *     has no name, so that ORDER BY and LIMIT stand on the top level
 *
 * Only what the written frame stands on is in the script, inputs first, so that two queries of a
 * session have nothing to do with each other. Frames without a name get one by their place in the
 * script: "kafka_1", "select_1".
 *
 * Pieces say which bytes of the script are whose: an error at an offset becomes the place in the
 * text that the program gave, or the place of its call.
 *
 * Thread: the one that starts the query.
 */
#include "base/limits.h"
#include "streams/streams.h"

#include "base/text.h"
#include "duck/lex.h"
#include "sql/internal.h"

#include <string.h>

struct mr__piece {
    size_t from; /* in the script */
    size_t size;
    const char *user; /* the program's text, or NULL: ours */
    const struct mr__place *place;
};

/* What a program view's call needs. */
struct trampoline {
    struct mr__script *script;
    struct mr_frame *frame;
};

enum { DEPTH_MAX = MR_LIMIT_FRAME_DEPTH, FRAMES_MAX = MR_LIMIT_FRAMES };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write the statements of a query: out of memory");
}

/* ---- which frames ---- */

static enum mr_status collect(struct mr__script *script, struct mr_frame *frame, unsigned depth,
                              struct mr_error *err)
{
    if (frame->script_number == script->number)
        return MR_OK;
    if (depth > DEPTH_MAX || script->frame_count == FRAMES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "frames stand on each other more than %d deep; write some of them as one "
                       "SELECT",
                       (int)DEPTH_MAX);
    frame->script_number = script->number;
    frame->script_readers = 0;
    frame->script_watermark = NULL;
    frame->script_folded = false;
    for (uint32_t i = 0; i < frame->input_count; i++)
        MR_TRY(collect(script, frame->inputs[i], depth + 1, err));
    if (script->frame_count % 16 == 0) {
        size_t capacity = script->frame_count + 16;
        struct mr_frame **frames =
            mr_arena_alloc(&script->arena, capacity * sizeof(struct mr_frame *));

        if (frames == NULL)
            return no_memory(err);
        if (script->frame_count > 0)
            memcpy(frames, script->frames, script->frame_count * sizeof(struct mr_frame *));
        script->frames = frames;
    }
    script->frames[script->frame_count++] = frame;
    return MR_OK;
}

static bool is_time(const struct mr_frame *table, const char *column)
{
    struct mr_schema *schema = NULL;
    int32_t index = -1;
    bool is = false;

    if (table->columns == NULL ||
        mr_schema_parse(table->columns, strlen(table->columns), &schema, NULL) != MR_OK)
        return false;
    index = mr_schema_find(schema, column, strlen(column));
    if (index >= 0) {
        enum mr_type_id type = mr_schema_field(schema, (uint32_t)index)->type.id;

        is = type == MR_TYPE_TIMESTAMP || type == MR_TYPE_TIMESTAMP_NS;
    }
    mr_schema_unref(schema);
    return is;
}

/* Watermarks right behind a table that they alone read become the table's. */
static void fold_watermarks(struct mr__script *script)
{
    for (size_t i = 0; i < script->frame_count; i++) {
        for (uint32_t k = 0; k < script->frames[i]->input_count; k++)
            script->frames[i]->inputs[k]->script_readers++;
    }
    for (size_t i = 0; i < script->frame_count; i++) {
        struct mr_frame *frame = script->frames[i];
        struct mr_frame *table = frame->input_count == 1 ? frame->inputs[0] : NULL;
        const char *column;
        int64_t delay_us;

        if (table == NULL || table->kind != MR__FRAME_SOURCE || table->script_readers != 1 ||
            !mr__watermark_of(frame, &column, &delay_us) || !is_time(table, column))
            continue;
        table->script_watermark = frame;
        frame->script_folded = true;
    }
}

static bool same(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

static bool is_taken(const struct mr__script *script, const char *name)
{
    for (size_t i = 0; i < script->frame_count; i++) {
        const char *other = script->frames[i]->script_name;

        if (other != NULL && same(other, name))
            return true;
    }
    return false;
}

/* A name that no frame of the script has: "base", or "base_1" when numbered. */
static const char *free_name(struct mr__script *script, const char *base, bool numbered)
{
    struct mr_buf name = MR_BUF_INIT;
    const char *kept = NULL;

    for (unsigned number = 1; kept == NULL; number++) {
        mr_buf_clear(&name);
        mr_buf_add_str(&name, base);
        if (numbered || number > 1)
            mr_buf_printf(&name, "_%u", number);
        if (name.failed)
            break;
        if (is_taken(script, name.data))
            continue;
        kept = mr_arena_copy(&script->arena, name.data, name.size);
        if (kept == NULL)
            break;
    }
    mr_buf_release(&name);
    return kept;
}

static enum mr_status name_frames(struct mr__script *script, struct mr_error *err)
{
    for (size_t i = 0; i < script->frame_count; i++)
        script->frames[i]->script_name = NULL;
    for (size_t i = 0; i < script->frame_count; i++) {
        struct mr_frame *frame = script->frames[i];

        if (frame->name == NULL)
            continue;
        if (is_taken(script, frame->name)) {
            MR_FAIL(err, MR_CONFIG,
                    "two different frames called '%s' are part of one query; give one of them "
                    "another name",
                    frame->name);
            mr__blame_place(err, &frame->place);
            return MR_CONFIG;
        }
        frame->script_name = frame->name;
    }
    for (size_t i = 0; i < script->frame_count; i++) {
        struct mr_frame *frame = script->frames[i];
        const char *base = frame->kind == MR__FRAME_SOURCE ? frame->format
                           : frame->kind == MR__FRAME_SQL  ? "select"
                                                           : "function";

        if (frame->script_name != NULL)
            continue;
        frame->script_name = free_name(script, base, true);
        if (frame->script_name == NULL)
            return no_memory(err);
    }
    return MR_OK;
}

/* ---- writing ---- */

static void add_piece(struct mr__script *script, size_t from, const char *user,
                      const struct mr__place *place)
{
    struct mr__piece piece = {from, script->text.size - from, user, place};

    mr_buf_add(&script->pieces, &piece, sizeof(piece));
}

static void add_quoted(struct mr_buf *out, char quote, const char *text)
{
    mr_buf_add_char(out, quote);
    for (; *text != '\0'; text++) {
        if (*text == quote)
            mr_buf_add_char(out, quote);
        mr_buf_add_char(out, *text);
    }
    mr_buf_add_char(out, quote);
}

static void add_pair(struct mr_buf *out, const char *key, const char *value, bool *is_first)
{
    mr_buf_add_str(out, *is_first ? "" : ", ");
    *is_first = false;
    add_quoted(out, '\'', key);
    mr_buf_add_str(out, " = ");
    add_quoted(out, '\'', value);
}

/* A connector of that name, else files of that format. */
static void add_connector(struct mr_buf *out, const char *format, bool is_known_connector,
                          const struct mr__options *pairs, bool *is_first)
{
    if (is_known_connector || mr_format_find(format) == NULL) {
        add_pair(out, "connector", format, is_first);
        return;
    }
    add_pair(out, "connector", "file", is_first);
    if (mr__options_get(pairs, "format") == NULL)
        add_pair(out, "format", format, is_first);
}

static void write_watermark(struct mr_buf *out, const struct mr_frame *frame)
{
    const char *column = "";
    int64_t delay_us = 0;

    mr__watermark_of(frame, &column, &delay_us);
    mr_buf_add_str(out, ", WATERMARK FOR ");
    add_quoted(out, '"', column);
    mr_buf_add_str(out, " AS ");
    add_quoted(out, '"', column);
    mr_buf_printf(out, " - INTERVAL '%lld microseconds'", (long long)delay_us);
}

static void write_source(struct mr__script *script, const struct mr_frame *frame)
{
    struct mr_buf *out = &script->text;
    size_t from = out->size;
    bool is_first = true;

    mr_buf_add_str(out, "CREATE TABLE ");
    add_quoted(out, '"', frame->script_name);
    if (frame->columns != NULL) {
        mr_buf_printf(out, " (%s", frame->columns);
        if (frame->script_watermark != NULL)
            write_watermark(out, frame->script_watermark);
        mr_buf_add_char(out, ')');
    }
    mr_buf_add_str(out, " WITH (");
    add_connector(out, frame->format, mr_source_find(frame->format) != NULL, &frame->options,
                  &is_first);
    for (size_t i = 0; i < frame->options.count; i++)
        add_pair(out, frame->options.items[i].key, frame->options.items[i].value, &is_first);
    mr_buf_add_str(out, ");\n");
    add_piece(script, from, NULL, &frame->place);
}

static void write_parts(struct mr__script *script, const struct mr_frame *frame)
{
    struct mr_buf *out = &script->text;

    for (size_t i = 0; i < frame->part_count; i++) {
        const struct mr__part *part = &frame->parts[i];
        size_t from = out->size;

        if (part->kind == MR__PART_NAME)
            add_quoted(out, '"', frame->inputs[part->input]->script_name);
        else
            mr_buf_add_str(out, part->text);
        add_piece(script, from, part->kind == MR__PART_USER ? part->text : NULL, &frame->place);
    }
}

static void write_view(struct mr__script *script, const struct mr_frame *frame)
{
    size_t from = script->text.size;

    mr_buf_add_str(&script->text, "CREATE VIEW ");
    add_quoted(&script->text, '"', frame->script_name);
    mr_buf_add_str(&script->text, " AS ");
    if (frame->script_folded) {
        mr_buf_add_str(&script->text, "SELECT * FROM ");
        add_quoted(&script->text, '"', frame->inputs[0]->script_name);
    }
    add_piece(script, from, NULL, &frame->place);
    write_parts(script, frame);
    from = script->text.size;
    mr_buf_add_str(&script->text, "\n;\n"); /* behind a comment that the text may end with */
    add_piece(script, from, NULL, &frame->place);
}

static enum mr_status call_program(void *arg, struct mr_sql_planner *planner,
                                   const struct mr_sql_rel *input, struct mr_sql_rel *ret_rel)
{
    struct trampoline *trampoline = arg;
    struct mr_frame *frame = trampoline->frame;
    enum mr_status status = frame->plan(frame->plan_arg, planner, input, ret_rel);

    if (status != MR_OK) {
        mr__blame_place(planner->err, &frame->place);
        trampoline->script->is_blamed = true;
    }
    return status;
}

static enum mr_status add_program(struct mr__script *script, struct mr_frame *frame,
                                  struct mr_error *err)
{
    struct trampoline *trampoline = mr_arena_alloc(&script->arena, sizeof(*trampoline));

    if (script->views == NULL)
        script->views =
            mr_arena_alloc(&script->arena, script->frame_count * sizeof(*script->views));
    if (trampoline == NULL || script->views == NULL)
        return no_memory(err);
    *trampoline = (struct trampoline){script, frame};
    script->views[script->view_count++] =
        (struct mr_sql_program_view){.name = frame->script_name,
                                     .input = frame->inputs[0]->script_name,
                                     .plan = call_program,
                                     .arg = trampoline};
    return MR_OK;
}

static enum mr_status add_binding(struct mr__script *script, const struct mr_sql_binding *binding,
                                  struct mr_error *err)
{
    if (script->bindings == NULL)
        script->bindings =
            mr_arena_alloc(&script->arena, (script->frame_count + 1) * sizeof(*binding));
    if (script->bindings == NULL)
        return no_memory(err);
    script->bindings[script->binding_count++] = *binding;
    return MR_OK;
}

static enum mr_status write_frame(struct mr__script *script, struct mr_frame *frame,
                                  struct mr_error *err)
{
    if (frame->kind == MR__FRAME_PROGRAM && !frame->script_folded)
        return add_program(script, frame, err);
    if (frame->kind != MR__FRAME_SOURCE) {
        write_view(script, frame);
        return MR_OK;
    }
    write_source(script, frame);
    if (frame->bound != NULL || frame->bound_user != NULL) {
        struct mr_sql_binding binding = {
            .table = frame->script_name, .source = frame->bound, .user = frame->bound_user};

        return add_binding(script, &binding, err);
    }
    return MR_OK;
}

/* The table that the query writes. sink: bound instead of the format's connector. */
static enum mr_status write_sink(struct mr__script *script, const struct mr_stream_writer *writer,
                                 const char *mode, const struct mr_sink_connector *sink, void *user,
                                 struct mr_error *err)
{
    struct mr_buf *out = &script->text;
    size_t from = out->size;
    bool is_first = true;

    script->sink = free_name(script, "output", false);
    if (script->sink == NULL)
        return no_memory(err);
    mr_buf_add_str(out, "CREATE TABLE ");
    add_quoted(out, '"', script->sink);
    mr_buf_add_str(out, " WITH (");
    if (writer->kind != MR__WRITE_CONNECTOR)
        add_pair(out, "connector", "null", &is_first);
    else
        add_connector(out, writer->format, mr_sink_find(writer->format) != NULL, &writer->options,
                      &is_first);
    for (size_t i = 0; i < writer->options.count; i++)
        add_pair(out, writer->options.items[i].key, writer->options.items[i].value, &is_first);
    if (writer->kind == MR__WRITE_CONNECTOR && strcmp(writer->format, "console") == 0 &&
        mr__options_get(&writer->options, "style") == NULL)
        add_pair(out, "style", "spark", &is_first); /* what programs of the guide print */
    if (mode != NULL)
        add_pair(out, "output_mode", mode, &is_first);
    mr_buf_add_str(out, ");\n");
    add_piece(script, from, NULL, &script->place);
    if (sink != NULL || user != NULL) {
        struct mr_sql_binding binding = {.table = script->sink, .sink = sink, .user = user};

        return add_binding(script, &binding, err);
    }
    return MR_OK;
}

/* The statement that runs; without a writer a bare SELECT. */
static void write_last(struct mr__script *script, const struct mr_frame *frame)
{
    struct mr_buf *out = &script->text;
    size_t from = out->size;

    if (script->sink != NULL) {
        mr_buf_add_str(out, "INSERT INTO ");
        add_quoted(out, '"', script->sink);
        mr_buf_add_char(out, ' ');
    }
    if (frame->kind == MR__FRAME_SQL && frame->name == NULL) {
        add_piece(script, from, NULL, &frame->place);
        write_parts(script, frame);
        from = out->size;
    } else {
        mr_buf_add_str(out, "SELECT * FROM ");
        add_quoted(out, '"', frame->script_name);
    }
    mr_buf_add_str(out, "\n;\n");
    add_piece(script, from, NULL, &frame->place);
}

enum mr_status mr__script_make(struct mr_frame *frame, const struct mr_stream_writer *writer,
                               const char *mode, const struct mr_sink_connector *sink, void *user,
                               const struct mr__place *place, struct mr__script *ret_script,
                               struct mr_error *err)
{
    bool is_inline = frame->kind == MR__FRAME_SQL && frame->name == NULL;

    memset(ret_script, 0, sizeof(*ret_script));
    ret_script->place = *place;
    ret_script->number = ++frame->streams->script_count;
    MR_TRY(collect(ret_script, frame, 0, err));
    fold_watermarks(ret_script);
    MR_TRY(name_frames(ret_script, err));
    for (size_t i = 0; i < ret_script->frame_count; i++) {
        if (ret_script->frames[i] != frame || !is_inline)
            MR_TRY(write_frame(ret_script, ret_script->frames[i], err));
    }
    if (writer != NULL)
        MR_TRY(write_sink(ret_script, writer, mode, sink, user, err));
    write_last(ret_script, frame);
    return ret_script->text.failed || ret_script->pieces.failed ? no_memory(err) : MR_OK;
}

void mr__script_release(struct mr__script *script)
{
    mr_sql_script_free(script->parsed);
    mr_buf_release(&script->text);
    mr_buf_release(&script->pieces);
    mr_arena_release(&script->arena);
    memset(script, 0, sizeof(*script));
}

/* ---- planning, and errors back ---- */

static size_t offset_of(const char *text, size_t size, uint32_t line, uint32_t column)
{
    size_t at = 0;

    for (uint32_t i = 1; i < line && at < size; at++)
        i += text[at] == '\n';
    return MR_MIN(at + column - 1, size);
}

static const struct mr__piece *piece_at(const struct mr__script *script, size_t offset)
{
    const struct mr__piece *pieces = (const struct mr__piece *)(const void *)script->pieces.data;
    size_t count = script->pieces.size / sizeof(*pieces);
    const struct mr__piece *found = NULL;

    for (size_t i = 0; i < count; i++) {
        if (pieces[i].from <= offset && (pieces[i].size > 0 || found == NULL))
            found = &pieces[i];
    }
    /* what is missing at the end of the program's text is found behind it */
    if (found != NULL && found->user == NULL && found > pieces && found[-1].user != NULL &&
        offset <= found->from + 1)
        found--;
    return found;
}

/* The place in the script becomes one in the program. */
static void place_error(const struct mr__script *script, struct mr_error *err)
{
    const struct mr__piece *piece = NULL;
    size_t offset = 0;

    if (err->sql_line > 0) {
        offset = offset_of(script->text.data, script->text.size, err->sql_line,
                           MR_MAX(err->sql_column, 1u));
        piece = piece_at(script, offset);
    }
    err->sql_line = err->sql_column = 0;
    if (piece != NULL && piece->user != NULL) {
        mr_text_place(piece->user, MR_MIN(offset - piece->from, piece->size), &err->sql_line,
                      &err->sql_column);
        mr_error_prefix(err, "line %u, column %u", err->sql_line, err->sql_column);
    }
    if (!script->is_blamed)
        mr__blame_place(err, piece != NULL ? piece->place : &script->place);
}

static enum mr_status add_functions(void *arg, struct mr_duck *duck, struct mr_error *err)
{
    const struct mr__function_entry *entry = arg;

    for (; entry != NULL; entry = entry->next)
        MR_TRY(entry->functions.add(entry->functions.arg, duck, err));
    return MR_OK;
}

static const struct mr_agg_user *find_aggregate(void *arg, const char *name)
{
    for (const struct mr__function_entry *entry = arg; entry != NULL; entry = entry->next) {
        const struct mr_agg_user *found =
            entry->functions.aggregate != NULL
                ? entry->functions.aggregate(entry->functions.arg, name)
                : NULL;

        if (found != NULL)
            return found;
    }
    return NULL;
}

/* Is this setting of the session one that the writer has said, too? */
static bool is_overridden(const struct mr_option_pair *pair, const struct mr_option_pair *settings,
                          size_t setting_count)
{
    bool is = false;

    for (size_t i = 0; i < setting_count && !is; i++)
        is = mr__same_setting(pair, &settings[i]);
    return is;
}

enum mr_status mr__script_plan(struct mr__script *script, struct mr_streams *streams,
                               const struct mr_option_pair *settings, size_t setting_count,
                               bool check_only, struct mr_sql_plan **ret_plan, struct mr_error *err)
{
    size_t room = streams->settings.count + setting_count + 1;
    struct mr_option_pair *pairs = mr_arena_alloc(&script->arena, room * sizeof(*pairs));
    struct mr_error local = {0};
    struct mr_sql_args args = {.env = streams->env,
                               .settings = pairs,
                               .bindings = script->bindings,
                               .binding_count = script->binding_count,
                               .views = script->views,
                               .view_count = script->view_count,
                               .check_only = check_only};
    enum mr_status status;

    if (pairs == NULL)
        return no_memory(err);
    for (size_t i = 0; i < streams->settings.count; i++) {
        if (!is_overridden(&streams->settings.items[i], settings, setting_count))
            pairs[args.setting_count++] = streams->settings.items[i];
    }
    for (size_t i = 0; i < setting_count; i++)
        pairs[args.setting_count++] = settings[i];
    if (streams->functions != NULL) {
        script->functions = (struct mr_sql_functions){
            .add = add_functions, .arg = streams->functions, .aggregate = find_aggregate};
        args.functions = &script->functions;
    }
    status =
        mr_sql_script_parse("query", script->text.data, script->text.size, &script->parsed, &local);
    if (status == MR_OK)
        status = mr_sql_plan(script->parsed, &args, ret_plan, &local);
    if (status != MR_OK) {
        place_error(script, &local);
        if (err != NULL)
            *err = local;
    }
    return status;
}

enum mr_status mr_frame_explain(struct mr_frame *frame, const char *output_mode, char **ret_text,
                                struct mr_error *err)
{
    struct mr__place place = {NULL, 0, "mr_frame_explain"};
    struct mr_stream_writer writer = {.kind = MR__WRITE_FOREACH};
    struct mr_sql_plan *plan = NULL;
    struct mr__script script;
    enum mr_status status;

    MR_TRY(mr_frame_error(frame, err));
    if (frame->streams->error.status != MR_OK) {
        if (err != NULL)
            *err = frame->streams->error;
        return frame->streams->error.status;
    }
    status = mr__script_make(frame, &writer, output_mode, NULL, NULL, &place, &script, err);
    if (status == MR_OK)
        status = mr__script_plan(&script, frame->streams, NULL, 0, true, &plan, err);
    if (status == MR_OK) {
        *ret_text = plan->description;
        plan->description = NULL;
    }
    mr_sql_plan_free(plan);
    mr__script_release(&script);
    return status;
}
