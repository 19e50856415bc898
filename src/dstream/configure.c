/*
 * Settings of whoever runs a program: a file, the environment, flags (D22, docs/decisions/0017).
 *
 *     the program's mr_context_set < file < environment < flags        the last one counts
 *
 *     file          lines `key = value` or, as Spark's, `key value`; `#` begins a comment line
 *     environment   MILLRACE_SETTINGS = a file, MILLRACE_SET = "key=value,key=value",
 *                   MILLRACE_CHECKPOINT = a directory, when the program set none
 *     flags         --settings FILE, --set key=value, --checkpoint DIR, --help; `--` ends them
 *
 * A mistake names its line, variable or flag.  Thread: the building one.
 */
#include "base/limits.h"
#include "dstream/streams.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/options.h>

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = MR_LIMIT_CONFIG_FILE, SETTING_BYTES_MAX = MR_LIMIT_CONFIG_SETTING };

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static void trim(const char **text, size_t *size)
{
    while (*size > 0 && is_space(**text)) {
        (*text)++;
        (*size)--;
    }
    while (*size > 0 && is_space((*text)[*size - 1]))
        (*size)--;
}

/* One "key=value"; in a file a space may stand for the '='. */
static enum mr_status set_pair(struct mr_context *ctx, const char *text, size_t size,
                               bool space_too, struct mr_error *err)
{
    char key[SETTING_BYTES_MAX], value[SETTING_BYTES_MAX];
    const char *part;
    size_t key_size = 0, part_size;

    trim(&text, &size);
    while (key_size < size && text[key_size] != '=' && !(space_too && is_space(text[key_size])))
        key_size++;
    if (key_size == size)
        return MR_FAIL(err, MR_CONFIG, "'%.*s' has no value; write key=value",
                       (int)MR_MIN(size, (size_t)80), text);
    part = text + key_size;
    part_size = size - key_size;
    trim(&part, &part_size); /* spaces before the '=' */
    if (part_size > 0 && *part == '=') {
        part++;
        part_size--;
    }
    trim(&part, &part_size);
    trim(&text, &key_size);
    if (key_size >= sizeof(key) || part_size >= sizeof(value))
        return MR_FAIL(err, MR_LIMIT, "a setting of more than %d bytes", SETTING_BYTES_MAX);
    memcpy(key, text, key_size);
    key[key_size] = '\0';
    memcpy(value, part, part_size);
    value[part_size] = '\0';
    return mr__settings_set(ctx, key, value, err);
}

/* ---- a file ---- */

static enum mr_status set_lines(struct mr_context *ctx, const char *path, const char *text,
                                size_t size_bytes, struct mr_error *err)
{
    const char *end = text + size_bytes;
    unsigned number = 1;

    for (const char *at = text; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line = at;
        size_t size = (size_t)((newline != NULL ? newline : end) - at);

        at += size + 1;
        trim(&line, &size);
        if (size == 0 || line[0] == '#')
            continue;
        if (set_pair(ctx, line, size, true, err) != MR_OK)
            return mr_error_prefix(err, "settings file '%s', line %u", path, number);
    }
    return MR_OK;
}

static enum mr_status set_file(struct mr_context *ctx, const char *path, struct mr_error *err)
{
    /* always a file of the machine, whatever the batches run on */
    struct mr_env *env = mr_env_posix();
    char *text = NULL;
    size_t size_bytes = 0;
    enum mr_status status;

    if (mr_durable_get(env, path, FILE_BYTES_MAX, &text, &size_bytes, err) != MR_OK)
        return mr_error_prefix(err, "settings file '%s'", path);
    status = set_lines(ctx, path, text, size_bytes, err);
    mr_text_free(text);
    return status;
}

void mr_context_set_file(struct mr_context *ctx, const char *path)
{
    struct mr_error err;

    if (!mr__context_is_open(ctx, "mr_context_set_file"))
        return;
    mr_error_clear(&err);
    if (path == NULL)
        MR_FAIL(&err, MR_CONFIG, "a settings file needs a path");
    else
        set_file(ctx, path, &err);
    if (err.status != MR_OK)
        mr__context_blame(ctx, "mr_context_set_file", &err);
}

/* ---- the environment ---- */

static enum mr_status set_list(struct mr_context *ctx, const char *text, struct mr_error *err)
{
    while (*text != '\0') {
        const char *comma = strchr(text, ',');
        const char *part = text;
        size_t size = comma != NULL ? (size_t)(comma - text) : strlen(text);

        text += size + (comma != NULL ? 1 : 0);
        trim(&part, &size);
        if (size > 0)
            MR_TRY(set_pair(ctx, part, size, false, err));
    }
    return MR_OK;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

enum mr_status mr__configure_by_environment(struct mr_context *ctx, struct mr_error *err)
{
    const char *file = variable("MILLRACE_SETTINGS");
    const char *list = variable("MILLRACE_SET");
    const char *dir = variable("MILLRACE_CHECKPOINT");

    if (file != NULL && set_file(ctx, file, err) != MR_OK)
        return mr_error_prefix(err, "MILLRACE_SETTINGS");
    if (list != NULL && set_list(ctx, list, err) != MR_OK)
        return mr_error_prefix(err, "MILLRACE_SET");
    if (ctx->checkpoint_dir == NULL && dir != NULL)
        mr_context_checkpoint(ctx, dir);
    return MR_OK;
}

/* ---- flags ---- */

/* The value of `--flag value` or `--flag=value`; moves *at over it. NULL: it is another argument,
 * or (*ret_missing) the value is missing. */
static const char *flag_value(const char *flag, int argc, const char *const *argv, int *at,
                              bool *ret_missing)
{
    size_t size = strlen(flag);

    if (strncmp(argv[*at], flag, size) != 0)
        return NULL;
    if (argv[*at][size] == '=')
        return argv[*at] + size + 1;
    if (argv[*at][size] != '\0')
        return NULL;
    if (*at + 1 >= argc || argv[*at + 1] == NULL) {
        *ret_missing = true;
        return NULL;
    }
    return argv[++*at];
}

static enum mr_status use_flag(struct mr_context *ctx, int argc, const char *const *argv, int *at,
                               struct mr_error *err)
{
    const char *name = argv[*at];
    bool missing = false;
    const char *value = flag_value("--set", argc, argv, at, &missing);

    if (value != NULL) {
        if (set_pair(ctx, value, strlen(value), false, err) != MR_OK)
            return mr_error_prefix(err, "--set");
        return MR_OK;
    }
    value = flag_value("--settings", argc, argv, at, &missing);
    if (value != NULL)
        return set_file(ctx, value, err);
    value = flag_value("--checkpoint", argc, argv, at, &missing);
    if (value != NULL) {
        mr_context_checkpoint(ctx, value);
        return MR_OK;
    }
    if (missing)
        return MR_FAIL(err, MR_USAGE, "'%s' needs a value; --help lists what there is", name);
    return MR_FAIL(err, MR_USAGE, "unknown argument '%s'; --help lists what there is", name);
}

enum mr_status mr__configure_by_flags(struct mr_context *ctx, int argc, const char *const *argv,
                                      bool *ret_help, struct mr_error *err)
{
    *ret_help = false;
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--") == 0)
            return MR_OK;
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            *ret_help = true;
            return MR_OK;
        }
        MR_TRY(use_flag(ctx, argc, argv, &at, err));
    }
    return MR_OK;
}
