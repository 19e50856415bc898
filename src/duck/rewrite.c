/*
 * The pass over a statement before DuckDB sees it: called by mr_duck_prepare.
 *
 *   time of the batch     now(), current_timestamp, localtimestamp, ... become a parameter that
 *                         each run binds; today(), current_date and the times of day are taken from
 *                         it; age(x) gets its second argument
 *   not repeatable        random(), uuid(), nextval(), ... are refused: a batch that runs twice
 *                         must give the same rows
 *
 * Each replacement is remembered, so that a position in the new text leads back to the user's
 * (mr_edits_old_position).
 *
 * Thread: any.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "duck/internal.h"
#include "duck/lex.h"

#include <string.h>

#define BATCH_TIMESTAMP "CAST($1 AS TIMESTAMP)"
#define BATCH_DATE "CAST(CAST($1 AS TIMESTAMP) AS DATE)"
#define BATCH_SECONDS "(epoch_us(CAST($1 AS TIMESTAMP)) // 1000000)"
#define BATCH_TIME "CAST(CAST($1 AS TIMESTAMP) AS TIME)"

/* Functions of the clock. bare: also without parentheses. */
static const struct time_function {
    const char *name;
    bool bare;
    const char *becomes;
} time_functions[] = {
    {"now", false, BATCH_TIMESTAMP},
    {"current_timestamp", true, BATCH_TIMESTAMP},
    {"localtimestamp", true, BATCH_TIMESTAMP},
    {"current_localtimestamp", false, BATCH_TIMESTAMP},
    {"get_current_timestamp", false, BATCH_TIMESTAMP},
    {"transaction_timestamp", false, BATCH_TIMESTAMP},
    {"proctime", false, BATCH_TIMESTAMP},     /* Flink */
    {"unix_timestamp", false, BATCH_SECONDS}, /* Spark */
    {"current_date", true, BATCH_DATE},
    {"today", false, BATCH_DATE},
    {"current_time", true, BATCH_TIME},
    {"localtime", true, BATCH_TIME},
    {"current_localtime", false, BATCH_TIME},
    {"get_current_time", false, BATCH_TIME},
};

static const struct refused_function {
    const char *name;
    const char *remedy;
} refused_functions[] = {
    {"random", "use hash() of the row's columns"},
    {"rand", "use hash() of the row's columns"},
    {"randn", "use hash() of the row's columns"},
    {"monotonically_increasing_id", "use a column of the input"},
    {"setseed", "use hash() of the row's columns"},
    {"uuid", "use md5() of the row's columns"},
    {"uuidv4", "use md5() of the row's columns"},
    {"uuidv7", "use md5() of the row's columns"},
    {"gen_random_uuid", "use md5() of the row's columns"},
    {"nextval", "use a column of the input"},
    {"currval", "use a column of the input"},
    {"txid_current", "use now(), which is the batch's time"},
    {"current_transaction_id", "use now(), which is the batch's time"},
    {"current_connection_id", "use a literal"},
    {"current_query", "use a literal"},
    {"current_query_id", "use a literal"},
    {"write_log", "write a second INSERT"},
    {"sleep_ms", "set trigger instead"},
    {"getvariable", "use a literal"},
    {"getenv", "use '${NAME}'"},
};

struct pass {
    struct mr_lexer lexer;
    struct mr_token token; /* at hand */
    struct mr_token next;
    struct mr_buf out;
    size_t copied; /* input bytes that are in out */
    struct mr_duck_text *text;
};

static bool name_is(const struct pass *pass, const char *name)
{
    struct mr_token token = pass->token;

    if (token.kind == MR_TOKEN_QUOTED) { /* "now"() is the same function */
        token.kind = MR_TOKEN_WORD;
        token.at++;
        token.size -= 2;
    }
    return mr_token_is(&pass->lexer, &token, name);
}

static void copy_until(struct pass *pass, size_t offset)
{
    mr_buf_add(&pass->out, pass->lexer.text + pass->copied, offset - pass->copied);
    pass->copied = offset;
}

/* Replaces the input from `from` to `to` by a text. */
static void replace(struct pass *pass, size_t from, size_t to, const char *becomes)
{
    struct mr_edit edit = {0, strlen(becomes), from, to - from};

    copy_until(pass, from);
    edit.from = pass->out.size;
    mr_buf_add_str(&pass->out, becomes);
    pass->copied = to;
    mr_edits_add(&pass->text->edits, &edit);
    pass->text->uses_time = true;
}

static enum mr_status refuse_function(const struct pass *pass, struct mr_error *err)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(refused_functions); i++) {
        if (!name_is(pass, refused_functions[i].name))
            continue;
        return mr_error_place(err, pass->lexer.text, pass->token.at,
                              MR_FAIL(err, MR_SQL_ERROR,
                                      "'%s' gives another value when a batch runs again; %s",
                                      refused_functions[i].name, refused_functions[i].remedy));
    }
    return MR_OK;
}

/* age(x) means the age at current_date: true when the call whose '(' is at hand has one
 * argument. */
static enum mr_status has_one_argument(const struct pass *pass, bool *ret_one, struct mr_error *err)
{
    struct mr_lexer lexer = pass->lexer;
    unsigned depth = 1;

    while (depth > 0) {
        struct mr_token token;

        MR_TRY(mr_lexer_next(&lexer, &token, err));
        if (token.kind == MR_TOKEN_END)
            break;
        if (mr_token_is_symbol(&lexer, &token, '(') || mr_token_is_symbol(&lexer, &token, '['))
            depth++;
        else if (mr_token_is_symbol(&lexer, &token, ')') || mr_token_is_symbol(&lexer, &token, ']'))
            depth--;
        else if (depth == 1 && mr_token_is_symbol(&lexer, &token, ',')) {
            *ret_one = false;
            return MR_OK;
        }
    }
    *ret_one = true;
    return MR_OK;
}

/* The token at hand is a name; `next` is what follows it. */
static enum mr_status visit_name(struct pass *pass, bool after_dot, struct mr_error *err)
{
    bool call = mr_token_is_symbol(&pass->lexer, &pass->next, '(');

    for (size_t i = 0; i < MR_ARRAY_SIZE(time_functions); i++) {
        struct mr_lexer ahead = pass->lexer;
        struct mr_token close;

        if (!name_is(pass, time_functions[i].name))
            continue;
        if (!call) {
            if (time_functions[i].bare && !after_dot && pass->token.kind == MR_TOKEN_WORD)
                replace(pass, pass->token.at, pass->token.at + pass->token.size,
                        time_functions[i].becomes);
            return MR_OK;
        }
        MR_TRY(mr_lexer_next(&ahead, &close, err));
        if (mr_token_is_symbol(&ahead, &close, ')')) {
            replace(pass, pass->token.at, close.at + 1, time_functions[i].becomes);
            MR_TRY(mr_lexer_next(&ahead, &pass->next, err));
            pass->lexer = ahead;
        }
        return MR_OK;
    }
    if (call && name_is(pass, "age")) {
        bool one;

        MR_TRY(has_one_argument(pass, &one, err));
        if (one)
            replace(pass, pass->next.at, pass->next.at + 1, "(CAST(" BATCH_DATE " AS TIMESTAMP), ");
        return MR_OK;
    }
    return call ? refuse_function(pass, err) : MR_OK;
}

static enum mr_status run_pass(struct pass *pass, struct mr_error *err)
{
    bool after_dot = false;

    MR_TRY(mr_lexer_next(&pass->lexer, &pass->next, err));
    for (;;) {
        pass->token = pass->next;
        if (pass->token.kind == MR_TOKEN_END)
            break;
        MR_TRY(mr_lexer_next(&pass->lexer, &pass->next, err));
        if (pass->token.kind == MR_TOKEN_PARAM)
            return mr_error_place(err, pass->lexer.text, pass->token.at,
                                  MR_FAIL(err, MR_SQL_ERROR,
                                          "parameters such as '$1' have no meaning here; write the "
                                          "value, or '${NAME}' in a "
                                          "text to read the environment"));
        if (pass->token.kind == MR_TOKEN_WORD || pass->token.kind == MR_TOKEN_QUOTED)
            MR_TRY(visit_name(pass, after_dot, err));
        after_dot = mr_token_is_symbol(&pass->lexer, &pass->token, '.');
    }
    copy_until(pass, pass->lexer.size);
    return MR_OK;
}

enum mr_status mr_duck__rewrite(const char *sql, struct mr_duck_text *ret_text,
                                struct mr_error *err)
{
    struct mr_duck_text text = {0};
    struct pass pass = {.lexer = mr_lexer_of(sql, strlen(sql)), .text = &text};
    enum mr_status status = run_pass(&pass, err);

    if (status == MR_OK) {
        mr_buf_add_char(&pass.out, ' '); /* never empty */
        text.sql = mr_buf_take(&pass.out);
        if (text.sql == NULL || text.edits.list.failed)
            status = MR_FAIL(err, MR_NOMEM, "cannot prepare a statement: out of memory");
    }
    mr_buf_release(&pass.out);
    if (status == MR_OK)
        *ret_text = text;
    else
        mr_duck__text_release(&text);
    return status;
}

void mr_duck__text_release(struct mr_duck_text *text)
{
    mr_free(text->sql);
    mr_edits_release(&text->edits);
    memset(text, 0, sizeof(*text));
}
