/*
 * A TEST block as steps. Called by testing.c for each TEST statement of a script; the statement
 * parser (sql/script.c) keeps the block as text.
 *
 *     TEST 'title' [AS] BEGIN step; ... END
 *
 *     GIVEN statement                                    more of the pipeline, for this test
 *     INSERT INTO table [(column, ...)] VALUES ... | SELECT ...
 *     INSERT INTO table RECORDS ('line', ...)
 *     RUN
 *     ADVANCE TIME BY '10 seconds' | TO 'time'
 *     ADVANCE WATERMARK OF table TO 'time'
 *     ADVANCE EVENT TIME OF table TO 'time'
 *     CRASH | KILL [AFTER | BEFORE PLANNED | RAN | STAGED | PUBLISHED | COMMITTED [IN BATCH n]]
 *     RESTART
 *     ASSERT [NEW | LAST] [ORDERED] table [KEY (column, ...)] = VALUES ... | SELECT ... | EMPTY
 *     ASSERT [ORDERED] (SELECT ...) = VALUES ... | SELECT ... | EMPTY
 *     ASSERT ERROR 'text' | STATE 'numbers' | [LAST] WATERMARK 'time' | LATE ROWS n
 *     ASSERT BAD ROWS n | BATCHES n
 *
 * EXPECT is another word for ASSERT, IS for '='. A table whose name is one of these words is
 * written in double quotes.
 *
 * Thread: any.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/number_text.h"
#include "base/time_text.h"
#include "duck/lex.h"

#include <string.h>

struct parser {
    struct mr_sql_script *script;
    struct mr_lexer lexer;
    struct mr_token token; /* look-ahead */
    struct mr_error *err;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot parse a test: out of memory");
}

static enum mr_status advance(struct parser *p)
{
    return mr_lexer_next(&p->lexer, &p->token, p->err);
}

static bool at_word(const struct parser *p, const char *word)
{
    return mr_token_is(&p->lexer, &p->token, word);
}

static bool at_symbol(const struct parser *p, char symbol)
{
    return mr_token_is_symbol(&p->lexer, &p->token, symbol);
}

/* The token behind the look-ahead. */
static struct mr_token peek(const struct parser *p)
{
    struct mr_lexer lexer = p->lexer;
    struct mr_token token = {.kind = MR_TOKEN_END};

    if (mr_lexer_next(&lexer, &token, NULL) != MR_OK)
        token.kind = MR_TOKEN_END;
    return token;
}

static bool next_is_word(const struct parser *p, const char *word)
{
    struct mr_token token = peek(p);

    return mr_token_is(&p->lexer, &token, word);
}

static enum mr_status fail_at(struct parser *p, size_t at, enum mr_status status)
{
    return mr_error_place(p->err, p->script->text, at, status);
}

static enum mr_status unexpected(struct parser *p, const char *expected)
{
    int size = (int)MR_MIN(p->token.size, (size_t)40);

    if (p->token.kind == MR_TOKEN_END)
        return fail_at(
            p, p->token.at,
            MR_FAIL(p->err, MR_SQL_ERROR, "expected %s, found the end of the text", expected));
    return fail_at(p, p->token.at,
                   MR_FAIL(p->err, MR_SQL_ERROR, "expected %s, found '%.*s'", expected, size,
                           p->lexer.text + p->token.at));
}

static enum mr_status expect_word(struct parser *p, const char *word, const char *expected)
{
    return at_word(p, word) ? advance(p) : unexpected(p, expected);
}

static enum mr_status skip_word(struct parser *p, const char *word, bool *ret_there)
{
    *ret_there = at_word(p, word);
    return *ret_there ? advance(p) : MR_OK;
}

/* The inside of a quoted token, doubled quotes undone. */
static enum mr_status unquote(struct parser *p, const char **ret_text)
{
    const char *from = p->lexer.text + p->token.at;
    char *text = mr_arena_alloc(&p->script->arena, p->token.size + 1);
    size_t used = 0;

    if (text == NULL)
        return no_memory(p->err);
    for (size_t i = 1; i + 1 < p->token.size; i++) {
        text[used++] = from[i];
        if (from[i] == from[0])
            i++;
    }
    text[used] = '\0';
    *ret_text = text;
    return advance(p);
}

static enum mr_status parse_text(struct parser *p, const char *expected, const char **ret_text)
{
    const char *text = p->lexer.text + p->token.at;

    if (p->token.kind != MR_TOKEN_STRING || text[0] != '\'')
        return unexpected(p, expected);
    return unquote(p, ret_text);
}

static enum mr_status parse_name(struct parser *p, const char *expected, const char **ret_name)
{
    if (p->token.kind == MR_TOKEN_QUOTED)
        return unquote(p, ret_name);
    if (p->token.kind != MR_TOKEN_WORD)
        return unexpected(p, expected);
    *ret_name = mr_arena_copy(&p->script->arena, p->lexer.text + p->token.at, p->token.size);
    return *ret_name != NULL ? advance(p) : no_memory(p->err);
}

static enum mr_status parse_count(struct parser *p, const char *expected, int64_t *ret_value)
{
    if (p->token.kind != MR_TOKEN_NUMBER ||
        !mr_int_parse(p->lexer.text + p->token.at, p->token.size, ret_value))
        return unexpected(p, expected);
    return advance(p);
}

static enum mr_status parse_time(struct parser *p, int64_t *ret_us)
{
    size_t at = p->token.at;
    const char *text = NULL;

    MR_TRY(parse_text(p, "a time, as in '2026-01-01 10:00:00'", &text));
    if (!mr_timestamp_parse(text, strlen(text), false, ret_us))
        return fail_at(
            p, at,
            MR_FAIL(p->err, MR_SQL_ERROR, "'%s' is no time: write '2026-01-01 10:00:00'", text));
    return MR_OK;
}

static enum mr_status parse_duration(struct parser *p, int64_t *ret_us)
{
    size_t at = p->token.at;
    const char *text = NULL;
    bool there;

    MR_TRY(skip_word(p, "interval", &there));
    MR_TRY(parse_text(p, "a duration, as in '10 seconds'", &text));
    if (!mr_parse_duration_us(text, ret_us) || *ret_us < 0)
        return fail_at(p, at,
                       MR_FAIL(p->err, MR_SQL_ERROR,
                               "'%s' is no duration: write '10 seconds', zero or more", text));
    return MR_OK;
}

/* Up to the ';' on the top level of parentheses. */
static enum mr_status parse_query(struct parser *p, struct mr_test_text *ret_query)
{
    size_t end = p->token.at;
    unsigned depth = 0;

    ret_query->at = p->token.at;
    while (p->token.kind != MR_TOKEN_END && (depth > 0 || !at_symbol(p, ';'))) {
        if (at_symbol(p, '('))
            depth++;
        else if (at_symbol(p, ')') && depth > 0)
            depth--;
        end = p->token.at + p->token.size;
        MR_TRY(advance(p));
    }
    ret_query->size = end - ret_query->at;
    return MR_OK;
}

static enum mr_status expect_query(struct parser *p, struct mr_test_text *ret_query)
{
    if (!at_word(p, "values") && !at_word(p, "select") && !at_word(p, "with") &&
        !at_word(p, "from") && !at_symbol(p, '('))
        return unexpected(p, "VALUES or SELECT");
    return parse_query(p, ret_query);
}

static enum mr_status parse_columns(struct parser *p, struct mr_test_step *step)
{
    if (!at_symbol(p, '('))
        return unexpected(p, "'('");
    do {
        MR_TRY(advance(p));
        if (step->column_count == MR_TESTING_KEYS_MAX)
            return unexpected(p, "at most 32 columns");
        MR_TRY(parse_name(p, "the name of a column", &step->columns[step->column_count]));
        step->column_count++;
    } while (at_symbol(p, ','));
    if (!at_symbol(p, ')'))
        return unexpected(p, "',' or ')' after a column");
    return advance(p);
}

/* ---- Steps ---- */

/* Is the '(' at the look-ahead that of a list of columns? */
static bool at_columns(const struct parser *p)
{
    return at_symbol(p, '(') && !next_is_word(p, "select") && !next_is_word(p, "values") &&
           !next_is_word(p, "with") && !next_is_word(p, "from");
}

/* RECORDS ('line', ...): the lines, each with its end. */
static enum mr_status parse_records(struct parser *p, struct mr_test_step *step)
{
    struct mr_buf lines = MR_BUF_INIT;
    enum mr_status status;

    MR_TRY_GOTO(advance(p));
    status = at_symbol(p, '(') ? MR_OK : unexpected(p, "'(' and records in quotes");
    while (status == MR_OK) {
        const char *line = NULL;

        MR_TRY_GOTO(advance(p));
        MR_TRY_GOTO(parse_text(p, "a record in quotes", &line));
        mr_buf_add_str(&lines, line);
        mr_buf_add_char(&lines, '\n');
        if (at_symbol(p, ')'))
            break;
        status = at_symbol(p, ',') ? MR_OK : unexpected(p, "',' or ')' after a record");
    }
    if (status != MR_OK)
        goto done;
    step->records = lines.failed ? NULL : mr_arena_copy(&p->script->arena, lines.data, lines.size);
    status = step->records != NULL ? advance(p) : no_memory(p->err);
done:
    mr_buf_release(&lines);
    return status;
}

static enum mr_status parse_insert(struct parser *p, struct mr_test_step *step)
{
    step->kind = MR_STEP_INSERT;
    MR_TRY(expect_word(p, "into", "INTO after INSERT"));
    MR_TRY(parse_name(p, "the name of the table", &step->table));
    if (at_word(p, "records"))
        return parse_records(p, step);
    if (at_columns(p))
        MR_TRY(parse_columns(p, step));
    return expect_query(p, &step->query);
}

static enum mr_status parse_table_time(struct parser *p, struct mr_test_step *step)
{
    MR_TRY(expect_word(p, "of", "OF and the name of a table"));
    MR_TRY(parse_name(p, "the name of a table", &step->table));
    MR_TRY(expect_word(p, "to", "TO and a time"));
    return parse_time(p, &step->value);
}

static enum mr_status parse_advance(struct parser *p, struct mr_test_step *step)
{
    bool there;

    MR_TRY(skip_word(p, "time", &there));
    if (there) {
        MR_TRY(skip_word(p, "by", &there));
        step->kind = there ? MR_STEP_TIME_BY : MR_STEP_TIME_TO;
        if (there)
            return parse_duration(p, &step->value);
        MR_TRY(expect_word(p, "to", "BY a duration or TO a time"));
        return parse_time(p, &step->value);
    }
    MR_TRY(skip_word(p, "watermark", &there));
    step->kind = there ? MR_STEP_WATERMARK : MR_STEP_EVENT_TIME;
    if (there)
        return parse_table_time(p, step);
    MR_TRY(expect_word(p, "event", "TIME, WATERMARK or EVENT TIME after ADVANCE"));
    MR_TRY(expect_word(p, "time", "TIME after EVENT"));
    return parse_table_time(p, step);
}

/* The points of a batch in their order: the driver's failpoints. */
static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};

static enum mr_status parse_crash(struct parser *p, struct mr_test_step *step)
{
    bool before, after, there;
    size_t point = 0;

    step->kind = MR_STEP_CRASH;
    step->batch_id = -1;
    MR_TRY(skip_word(p, "before", &before));
    MR_TRY(skip_word(p, "after", &after));
    if (!before && !after)
        return MR_OK;
    while (point < MR_ARRAY_SIZE(points) && !at_word(p, points[point]))
        point++;
    if (point == MR_ARRAY_SIZE(points))
        return unexpected(p, "PLANNED, RAN, STAGED, PUBLISHED or COMMITTED");
    MR_TRY(advance(p));
    MR_TRY(skip_word(p, "in", &there));
    if (there) {
        MR_TRY(expect_word(p, "batch", "BATCH and its number"));
        MR_TRY(parse_count(p, "the number of a batch, from 0 on", &step->batch_id));
    }
    if (after)
        step->point = points[point];
    else if (point > 0)
        step->point = points[point - 1];
    else if (step->batch_id > 0) { /* before a batch is after the one in front of it */
        step->point = "committed";
        step->batch_id--;
    }
    return MR_OK;
}

/* ---- ASSERT ---- */

/* '=' or IS; *ret_there. */
static enum mr_status skip_equals(struct parser *p, bool *ret_there)
{
    *ret_there = at_symbol(p, '=') || at_word(p, "is");
    return *ret_there ? advance(p) : MR_OK;
}

static enum mr_status parse_rows(struct parser *p, struct mr_test_step *step)
{
    bool there;

    MR_TRY(skip_equals(p, &there));
    MR_TRY(skip_word(p, "empty", &step->is_empty));
    if (step->is_empty)
        return MR_OK;
    if (!there)
        return unexpected(p, "'=' and the rows that are expected, or IS EMPTY");
    return expect_query(p, &step->query);
}

/* ASSERT (SELECT ...) = ...: the text between the parentheses. */
static enum mr_status parse_left_query(struct parser *p, struct mr_test_step *step)
{
    unsigned depth = 1;

    MR_TRY(advance(p));
    step->left.at = p->token.at;
    while (p->token.kind != MR_TOKEN_END) {
        if (at_symbol(p, '('))
            depth++;
        else if (at_symbol(p, ')') && --depth == 0)
            break;
        MR_TRY(advance(p));
    }
    step->left.size = p->token.at - step->left.at;
    if (p->token.kind == MR_TOKEN_END || step->left.size == 0)
        return unexpected(p, "a query and ')'");
    return advance(p);
}

static enum mr_status parse_assert_rows(struct parser *p, struct mr_test_step *step)
{
    bool there, is_empty;

    step->kind = MR_STEP_ASSERT_ROWS;
    MR_TRY(skip_word(p, "new", &there));
    if (there)
        step->part = MR_PART_NEW;
    MR_TRY(skip_word(p, "last", &there));
    if (there)
        step->part = MR_PART_LAST;
    MR_TRY(skip_word(p, "ordered", &step->ordered));
    MR_TRY(skip_word(p, "empty", &is_empty));
    if (at_symbol(p, '(') && step->part == MR_PART_ALL && !is_empty) {
        MR_TRY(parse_left_query(p, step));
        return parse_rows(p, step);
    }
    MR_TRY(parse_name(p, "the name of a table", &step->table));
    step->is_empty = is_empty;
    if (is_empty)
        return MR_OK;
    MR_TRY(skip_word(p, "key", &there));
    if (there)
        MR_TRY(parse_columns(p, step));
    return parse_rows(p, step);
}

static enum mr_status parse_assert_watermark(struct parser *p, struct mr_test_step *step)
{
    bool there;

    step->kind = MR_STEP_ASSERT_WATERMARK;
    MR_TRY(advance(p));
    MR_TRY(skip_equals(p, &there));
    MR_TRY(skip_word(p, "none", &there));
    step->value = INT64_MIN;
    return there ? MR_OK : parse_time(p, &step->value);
}

/* Words that name something else than a table, told by what follows them. */
static enum mr_status parse_assert(struct parser *p, struct mr_test_step *step)
{
    struct mr_token next = peek(p);
    bool text_follows = next.kind == MR_TOKEN_STRING;
    bool there;

    if (at_word(p, "error") && text_follows) {
        step->kind = MR_STEP_ASSERT_ERROR;
        MR_TRY(advance(p));
        return parse_text(p, "a part of the error's text", &step->text);
    }
    if (at_word(p, "state") && text_follows) {
        step->kind = MR_STEP_ASSERT_STATE;
        MR_TRY(advance(p));
        return parse_text(p, "'total/updated/dropped/removed'", &step->text);
    }
    if (at_word(p, "last") && next_is_word(p, "watermark")) {
        step->part = MR_PART_LAST;
        MR_TRY(advance(p));
        return parse_assert_watermark(p, step);
    }
    if (at_word(p, "watermark"))
        return parse_assert_watermark(p, step);
    if ((at_word(p, "late") || at_word(p, "bad")) && next_is_word(p, "rows")) {
        step->kind = at_word(p, "late") ? MR_STEP_ASSERT_LATE : MR_STEP_ASSERT_BAD;
        MR_TRY(advance(p));
        MR_TRY(advance(p));
        MR_TRY(skip_equals(p, &there));
        return parse_count(p, "a number of rows", &step->value);
    }
    if (at_word(p, "batches") && next.kind == MR_TOKEN_NUMBER) {
        step->kind = MR_STEP_ASSERT_BATCHES;
        MR_TRY(advance(p));
        return parse_count(p, "a number of batches", &step->value);
    }
    return parse_assert_rows(p, step);
}

/* ---- The block ---- */

static enum mr_status parse_step(struct parser *p, struct mr_test_step *step)
{
    bool there;

    memset(step, 0, sizeof(*step));
    step->at = p->token.at;
    MR_TRY(skip_word(p, "given", &there));
    if (there) {
        step->kind = MR_STEP_GIVEN;
        return parse_query(p, &step->query);
    }
    MR_TRY(skip_word(p, "insert", &there));
    if (there)
        return parse_insert(p, step);
    MR_TRY(skip_word(p, "advance", &there));
    if (there)
        return parse_advance(p, step);
    if (at_word(p, "assert") || at_word(p, "expect")) {
        MR_TRY(advance(p));
        return parse_assert(p, step);
    }
    MR_TRY(skip_word(p, "run", &there));
    step->kind = MR_STEP_RUN;
    if (there)
        return MR_OK;
    MR_TRY(skip_word(p, "restart", &there));
    step->kind = MR_STEP_RESTART;
    if (there)
        return MR_OK;
    step->kill = at_word(p, "kill");
    if (!step->kill && !at_word(p, "crash"))
        return unexpected(p, "GIVEN, INSERT, RUN, ADVANCE, CRASH, KILL, RESTART, ASSERT or END");
    MR_TRY(advance(p));
    return parse_crash(p, step);
}

static enum mr_status parse_steps(struct parser *p, struct mr_test_block *block)
{
    size_t room = 16;

    block->steps = mr_arena_alloc(&p->script->arena, room * sizeof(*block->steps));
    if (block->steps == NULL)
        return no_memory(p->err);
    for (;;) {
        while (at_symbol(p, ';'))
            MR_TRY(advance(p));
        if (at_word(p, "end"))
            return advance(p);
        if (block->count == MR_TESTING_STEPS_MAX)
            return unexpected(p, "at most 10000 steps");
        if (block->count == room) {
            struct mr_test_step *grown =
                mr_arena_alloc(&p->script->arena, room * 2 * sizeof(*grown));

            if (grown == NULL)
                return no_memory(p->err);
            memcpy(grown, block->steps, room * sizeof(*grown));
            block->steps = grown;
            room *= 2;
        }
        MR_TRY(parse_step(p, &block->steps[block->count]));
        block->count++;
        if (!at_symbol(p, ';'))
            return unexpected(p, "';'");
    }
}

enum mr_status mr_testing__parse(struct mr_sql_script *script,
                                 const struct mr_sql_statement *statement,
                                 struct mr_test_block *ret_block, struct mr_error *err)
{
    struct parser p = {.script = script, .err = err};
    bool there;

    *ret_block = (struct mr_test_block){.at = statement->at};
    /* to behind its END: a bracket that is left open does not reach into what follows */
    p.lexer = mr_lexer_of(script->text, statement->select_at + statement->select_size + 3);
    p.lexer.at = statement->at;
    MR_TRY(advance(&p));
    MR_TRY(expect_word(&p, "test", "TEST"));
    MR_TRY(parse_text(&p, "the title of the test", &ret_block->title));
    MR_TRY(skip_word(&p, "as", &there));
    MR_TRY(expect_word(&p, "begin", "BEGIN after the title of the test"));
    MR_TRY(parse_steps(&p, ret_block));
    if (p.token.kind != MR_TOKEN_END && !at_symbol(&p, ';'))
        return unexpected(&p, "';' after END");
    return MR_OK;
}
