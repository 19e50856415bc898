/*
 * The paths that a pipeline names: see paths.h. Called by cli/sandbox.c.
 *
 * Tables of options say which of them are paths (MR_OPTION_READS, MR_OPTION_WRITES). A table is
 * written when it stands behind an INTO somewhere: of an INSERT, of ON LATE, in on_error; any other
 * one can only be read.
 */
#include "sql/paths.h"

#include "base/check.h"
#include "base/text.h"
#include "duck/lex.h"
#include "sql/settings.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <string.h>

enum { PATH_BYTES_MAX = 4096 };

struct visitor {
    mr_sql_path_fn visit;
    void *arg;
    struct mr_error *err;
};

/* The directory before the first wildcard; the path itself when it has none. */
static enum mr_status visit_glob(const struct visitor *v, const char *path, bool write)
{
    char base[PATH_BYTES_MAX];
    size_t size = strcspn(path, "*?[");

    if (path[size] == '\0')
        return v->visit(v->arg, path, write, v->err);
    while (size > 0 && path[size - 1] != '/')
        size--;
    if (size >= sizeof(base))
        return MR_FAIL(v->err, MR_CONFIG, "path '%.80s...' is too long", path);
    memcpy(base, path, size);
    base[size] = '\0';
    return v->visit(v->arg, size > 0 ? base : ".", write, v->err);
}

static bool ends_with(const char *text, const char *end)
{
    size_t text_bytes = strlen(text), end_bytes = strlen(end);

    return text_bytes >= end_bytes &&
           mr_text_equal_nocase(text + text_bytes - end_bytes, end_bytes, end, end_bytes);
}

static enum mr_status visit_value(const struct visitor *v, const struct mr_option *option,
                                  const char *key, const char *value, bool changes_input)
{
    static const char file[] = "file:";
    bool secret = option->type == MR_OPTION_SECRET || option->type == MR_OPTION_SECRET_PREFIX;

    if (secret && strncmp(value, file, sizeof(file) - 1) == 0)
        return v->visit(v->arg, value + sizeof(file) - 1, false, v->err);
    if (secret && ends_with(key, ".location"))
        return v->visit(v->arg, value, false, v->err);
    if (option->type == MR_OPTION_TEXT && (option->flags & MR_OPTION_READS) != 0)
        MR_TRY(visit_glob(v, value, changes_input));
    if (option->type == MR_OPTION_TEXT && (option->flags & MR_OPTION_WRITES) != 0)
        return v->visit(v->arg, value, true, v->err);
    return MR_OK;
}

static bool is_key_of(const struct mr_option *option, const char *key)
{
    size_t size = strlen(option->name);

    if (option->type == MR_OPTION_SECRET_PREFIX || option->type == MR_OPTION_PREFIX)
        return strlen(key) > size && mr_text_equal_nocase(key, size, option->name, size);
    return mr_option_named(option, key);
}

/* One option of the statement against one table. */
static enum mr_status visit_table(const struct visitor *v, const struct mr_option *options,
                                  size_t count, const struct mr_sql_statement *statement,
                                  bool changes_input)
{
    for (size_t i = 0; i < statement->option_count; i++) {
        for (size_t j = 0; j < count; j++) {
            const struct mr_sql_option *given = &statement->options[i];

            if (is_key_of(&options[j], given->key))
                MR_TRY(visit_value(v, &options[j], given->key, given->value, changes_input));
        }
    }
    return MR_OK;
}

/* Is one of the ENUM options that change what is read set to another value than its default? */
static bool changes_its_input(const struct mr_option *options, size_t count,
                              const struct mr_sql_statement *statement)
{
    for (size_t i = 0; i < statement->option_count; i++) {
        const struct mr_sql_option *given = &statement->options[i];

        for (size_t j = 0; j < count; j++) {
            if (options[j].type == MR_OPTION_ENUM && (options[j].flags & MR_OPTION_WRITES) != 0 &&
                mr_option_named(&options[j], given->key) &&
                strcasecmp(given->value, options[j].standard) != 0)
                return true;
        }
    }
    return false;
}

/* The token as a name: "quoted" or bare. */
static bool token_names(const struct mr_lexer *lexer, const struct mr_token *token,
                        const char *name)
{
    size_t quote = token->kind == MR_TOKEN_QUOTED ? 1 : 0;

    return mr_text_equal_nocase(lexer->text + token->at + quote, token->size - 2 * quote, name,
                                strlen(name));
}

static bool stands_behind_into(const char *text, size_t size, const char *name)
{
    struct mr_lexer lexer = mr_lexer_of(text, size);
    struct mr_token token;
    bool into = false;

    while (mr_lexer_next(&lexer, &token, NULL) == MR_OK && token.kind != MR_TOKEN_END) {
        if (into && token_names(&lexer, &token, name))
            return true;
        into = mr_token_is(&lexer, &token, "into");
    }
    return false;
}

static bool is_written(const struct mr_sql_script *script, const char *name)
{
    if (stands_behind_into(script->text, script->size, name))
        return true;
    for (size_t i = 0; i < script->count; i++) {
        const struct mr_sql_statement *statement = &script->statements[i];

        if (statement->kind == MR_SQL_INSERT && strcasecmp(statement->name, name) == 0)
            return true; /* made of CREATE TABLE ... AS */
        for (size_t j = 0; j < statement->option_count; j++) {
            const char *value = statement->options[j].value; /* on_error = 'into TABLE' */

            if (stands_behind_into(value, strlen(value), name))
                return true;
        }
    }
    return false;
}

static enum mr_status visit_statement(const struct visitor *v, const struct mr_sql_script *script,
                                      const struct mr_sql_statement *statement)
{
    static const struct mr_option connector = {
        .name = "connector", .type = MR_OPTION_TEXT, .help = ""};
    bool written = is_written(script, statement->name);
    const struct mr_source_connector *source = NULL;
    const struct mr_sink_connector *sink = NULL;

    for (size_t i = 0; i < statement->option_count; i++) {
        if (!mr_option_named(&connector, statement->options[i].key))
            continue;
        source = written ? NULL : mr_source_find(statement->options[i].value);
        sink = written ? mr_sink_find(statement->options[i].value) : NULL;
    }
    if (source != NULL)
        MR_TRY(visit_table(v, source->options, source->option_count, statement,
                           changes_its_input(source->options, source->option_count, statement)));
    if (sink != NULL)
        MR_TRY(visit_table(v, sink->options, sink->option_count, statement, false));
    return MR_OK;
}

/* The last SET wins, and what is given beside the script over all of them. */
static const char *value_of(const struct mr_option *setting, const struct mr_sql_script *script,
                            const struct mr_option_pair *settings, size_t setting_count)
{
    const char *value = NULL;

    for (size_t i = 0; i < script->count; i++) {
        const struct mr_sql_statement *statement = &script->statements[i];

        if (statement->kind == MR_SQL_SET && mr_option_named(setting, statement->options[0].key))
            value = statement->options[0].value;
    }
    for (size_t i = 0; i < setting_count; i++) {
        if (mr_option_named(setting, settings[i].key))
            value = settings[i].value;
    }
    return value;
}

const char *mr_sql_setting(const struct mr_sql_script *script,
                           const struct mr_option_pair *settings, size_t setting_count,
                           const char *name)
{
    const struct mr_option_table *table = mr_sql_settings_table();

    for (size_t i = 0; i < table->option_count; i++) {
        if (strcmp(table->options[i].name, name) == 0)
            return value_of(&table->options[i], script, settings, setting_count);
    }
    MR_ASSERT(false); /* no setting has this name */
    return NULL;
}

static enum mr_status visit_setting(const struct visitor *v, const struct mr_sql_script *script,
                                    const struct mr_option *setting,
                                    const struct mr_option_pair *settings, size_t setting_count)
{
    const char *value = value_of(setting, script, settings, setting_count);

    return value != NULL ? visit_value(v, setting, setting->name, value, false) : MR_OK;
}

enum mr_status mr_sql_paths(const struct mr_sql_script *script,
                            const struct mr_option_pair *settings, size_t setting_count,
                            mr_sql_path_fn visit, void *arg, struct mr_error *err)
{
    const struct visitor v = {visit, arg, err};
    const struct mr_option_table *table = mr_sql_settings_table();

    for (size_t i = 0; i < script->count; i++) {
        if (script->statements[i].kind == MR_SQL_TABLE)
            MR_TRY(visit_statement(&v, script, &script->statements[i]));
    }
    for (size_t i = 0; i < table->option_count; i++)
        MR_TRY(visit_setting(&v, script, &table->options[i], settings, setting_count));
    return MR_OK;
}
