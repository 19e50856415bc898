/*
 * Loading a pipeline and showing what is wrong with it: see script.h. Called by cmd_run.c and
 * cmd_check.c.
 */
#include "cli/script.h"

#include "base/alloc.h"
#include "base/check.h"
#include "duck/lex.h"

#include <millrace/ext/durable.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CARET_BEFORE_BYTES = 80, CARET_BEHIND_BYTES = 60, KEY_BYTES_MAX = 128 };

static enum mr_status split_settings(struct cli_script *script, const char *text,
                                     struct mr_error *err)
{
    char *at;

    script->set_text = mr_strdup(text);
    if (script->set_text == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read --set: out of memory");
    for (at = script->set_text; at != NULL && *at != '\0';) {
        char *end = strchr(at, ';');
        char *equals = strchr(at, '=');

        if (end != NULL)
            *end = '\0';
        if (equals == NULL || (end != NULL && equals > end))
            return MR_FAIL(
                err, MR_USAGE,
                "cannot read --set '%s': write name=value, more of them with ';' between", text);
        *equals = '\0';
        MR_TRY(cli_script_set(script, at, equals + 1, err));
        at = end != NULL ? end + 1 : NULL;
    }
    return MR_OK;
}

enum mr_status cli_script_set(struct cli_script *script, const char *name, const char *value,
                              struct mr_error *err)
{
    if (script->setting_count >= CLI_SETTINGS_MAX)
        return MR_FAIL(err, MR_USAGE, "too many settings on the command line: at most %d",
                       CLI_SETTINGS_MAX);
    script->settings[script->setting_count++] = (struct mr_option_pair){name, value};
    return MR_OK;
}

static enum mr_status load_text(const struct cli_command *command, const struct cli_args *args,
                                struct cli_script *script, struct mr_error *err)
{
    const char *text = cli_value(command, args, "--execute");

    if (text != NULL && args->argument_count > 0)
        return MR_FAIL(err, MR_USAGE, "cannot take both -e and the file '%s': give one of them",
                       args->arguments[0]);
    if (text != NULL) {
        script->name = "-e";
        script->text = mr_strdup(text);
        script->text_bytes = strlen(text);
        return script->text != NULL ? MR_OK
                                    : MR_FAIL(err, MR_NOMEM, "cannot read -e: out of memory");
    }
    if (args->argument_count != 1)
        return MR_FAIL(err, MR_USAGE,
                       "give one file of SQL, or -e \"SELECT ...\": see 'millrace %s --help'",
                       command->name);
    script->name = args->arguments[0];
    if (mr_durable_get(mr_env_posix(), script->name, CLI_SCRIPT_BYTES_MAX, &script->text,
                       &script->text_bytes, err) == MR_OK)
        return MR_OK;
    if (err->status == MR_NOT_FOUND)
        return MR_FAIL(err, MR_USAGE,
                       "cannot open '%s': no such file; give the path of a .sql file",
                       script->name);
    return err->status;
}

enum mr_status cli_script_load(const struct cli_command *command, const struct cli_args *args,
                               struct cli_script *script, struct mr_error *err)
{
    const char *settings = cli_value(command, args, "--set");
    const char *checkpoint = cli_value(command, args, "--checkpoint");
    const char *library = cli_value(command, args, "--library");

    MR_TRY(load_text(command, args, script, err));
    if (settings != NULL)
        MR_TRY(split_settings(script, settings, err));
    if (checkpoint != NULL)
        MR_TRY(cli_script_set(script, "checkpoint", checkpoint, err));
    if (library != NULL)
        MR_TRY(cli_script_set(script, "library", library, err));
    return MR_OK;
}

enum mr_status cli_script_parse(struct cli_script *script, struct mr_error *err)
{
    if (script->parsed != NULL) /* a plan does not change it */
        return MR_OK;
    return mr_sql_script_parse(script->name, script->text, script->text_bytes, &script->parsed,
                               err);
}

enum mr_status cli_script_plan(struct cli_script *script, bool check_only,
                               struct mr_sql_plan **ret_plan, struct mr_error *err)
{
    const struct mr_sql_args args = {
        .env = mr_env_posix(),
        .settings = script->settings,
        .setting_count = script->setting_count,
        .check_only = check_only,
    };

    MR_TRY(cli_script_parse(script, err));
    return mr_sql_plan(script->parsed, &args, ret_plan, err);
}

/* Blanks that are as wide as the text in front of the caret: tabs stay tabs, a character of several
 * bytes is one column. */
static void print_indent(const char *from, const char *to)
{
    for (; from < to; from++) {
        if (((unsigned char)*from & 0xc0) != 0x80)
            fputc(*from == '\t' ? '\t' : ' ', stderr);
    }
}

/* Options whose values no error may show, though somebody wrote them into the script. */
static bool names_secret(const struct mr_lexer *lexer, const struct mr_token *token)
{
    static const char *const words[] = {"password", "secret", "token",     "pem",
                                        "jaas",     "oauth",  "credential"};
    char key[KEY_BYTES_MAX];
    size_t size = token->size < sizeof(key) - 1 ? token->size : sizeof(key) - 1;

    memcpy(key, lexer->text + token->at, size);
    key[size] = '\0';
    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (strcasestr(key, words[i]) != NULL)
            return true;
    }
    return false;
}

static void hide(char *line, size_t line_at, size_t line_bytes, size_t from, size_t to)
{
    from = MR_MAX(from, line_at);
    to = MR_MIN(to, line_at + line_bytes);
    if (from < to)
        memset(line + (from - line_at), '*', to - from);
}

/* Stars in place of each value of such an option in `line`, a copy of a part of the script. A
 * literal that does not end is hidden to the end of the line. */
static void hide_secrets(const struct cli_script *script, char *line, size_t line_at,
                         size_t line_bytes)
{
    struct mr_lexer lexer = mr_lexer_of(script->text, script->text_bytes);
    struct mr_token token = {0}, key = {0};
    bool expected = false; /* key = has been read, and the key names a secret */

    while (lexer.at < line_at + line_bytes) {
        size_t from = lexer.at;

        if (mr_lexer_next(&lexer, &token, NULL) != MR_OK || token.kind == MR_TOKEN_END) {
            if (expected)
                hide(line, line_at, line_bytes, from, line_at + line_bytes);
            return;
        }
        if (expected)
            hide(line, line_at, line_bytes, token.at, token.at + token.size);
        expected = mr_token_is_symbol(&lexer, &token, '=') && names_secret(&lexer, &key);
        key = token;
    }
}

/* The line of the text with a caret under the column; of a long line the part around it. */
static void print_caret(const struct cli_script *script, uint32_t line, uint32_t column)
{
    char shown[CARET_BEFORE_BYTES + CARET_BEHIND_BYTES + 1];
    const char *at = script->text, *end, *place;
    bool cut_front = false, cut_back = false;

    for (uint32_t i = 1; i < line && at != NULL; i++) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    if (at == NULL)
        return;
    end = at + strcspn(at, "\r\n");
    place = column > 0 && column - 1 < (size_t)(end - at) ? at + column - 1 : end;
    if (place - at > CARET_BEFORE_BYTES) {
        at = place - CARET_BEFORE_BYTES;
        while (((unsigned char)*at & 0xc0) == 0x80)
            at++;
        cut_front = true;
    }
    if (end - place > CARET_BEHIND_BYTES) {
        end = place + CARET_BEHIND_BYTES;
        while (((unsigned char)*end & 0xc0) == 0x80)
            end--;
        cut_back = true;
    }
    memcpy(shown, at, (size_t)(end - at));
    hide_secrets(script, shown, (size_t)(at - script->text), (size_t)(end - at));
    fprintf(stderr, "  %s%.*s%s\n  %s", cut_front ? "..." : "", (int)(end - at), shown,
            cut_back ? "..." : "", cut_front ? "   " : "");
    print_indent(at, place);
    fprintf(stderr, "^\n");
}

int cli_script_fail(const struct cli_script *script, const struct mr_error *err)
{
    if (err->sql_line == 0 || script->text == NULL)
        return cli_fail(err);
    if (!cli_fail_at(script->name, err))
        print_caret(script, err->sql_line, err->sql_column);
    return mr_status_exit_code(err->status);
}

void cli_script_print_hints(const struct cli_script *script)
{
    static const char mark[] = "-- next: ";
    const char *at = strstr(script->text, mark);

    for (; at != NULL; at = strstr(at, mark)) {
        at += sizeof(mark) - 1;
        fprintf(stderr, "%.*s\n", (int)strcspn(at, "\n"), at);
    }
}

void cli_script_release(struct cli_script *script)
{
    mr_sql_script_free(script->parsed);
    if (script->text != NULL) /* it may have passwords */
        explicit_bzero(script->text, script->text_bytes);
    mr_text_free(script->text);
    mr_free(script->set_text);
    *script = (struct cli_script){0};
}
