/*
 * Files of tests: which statements a test sees, and all tests of a file. Called by the command.
 *
 *     q.sql        its own TEST blocks, over its own statements
 *     q.test.sql   more of them, over the statements of q.sql in front of its own
 *     -- uses: ../other.sql      over the statements of that file, too; a line of its own
 *
 * The text of a test's pipeline is that of all these files, one behind the other, with everything
 * that is no part of it blanked out: lines and columns stay what they are, and an error finds its
 * place again. GIVEN statements are what is left of the test's block. ${NAME} of a variable that
 * is not set becomes text: a test reaches no services, so it needs no addresses of them.
 *
 * Thread: one.
 */
#include "testing/testing.h"

#include "base/check.h"
#include "base/text.h"
#include "duck/lex.h"
#include "testing/internal.h"

#include <millrace/ext/durable.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES_MAX = 400, FILE_BYTES_MAX = 1 << 20 };

/* One file in the combined text. */
struct part {
    char path[PATH_BYTES_MAX];
    char *text; /* as it is, but ${NAME} of variables that are not set */
    size_t size;
    size_t at;     /* in the combined text */
    uint32_t line; /* of its first line there, from 0 on */
};

struct suite {
    struct part parts[MR_TESTING_FILES_MAX]; /* the last one has the tests */
    size_t count;
    char *blank; /* the combined text without TEST blocks */
    size_t size;
    const struct mr_testing_choice *choice;
    struct mr_duck *duck;
    struct mr_testing_place *place;
    struct mr_error *err;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run the tests: out of memory");
}

/* ---- Files ---- */

static bool exists(const char *path)
{
    struct mr_file_info info;

    return mr_env_path_info(mr_env_posix(), path, true, &info, NULL) == MR_OK &&
           info.kind == MR_KIND_FILE;
}

/* ${NAME} without a value: __NAME_, as long as it was. */
static void fill_variables(char *text)
{
    for (char *at = strstr(text, "${"); at != NULL; at = strstr(at + 2, "${")) {
        char *end = at + 2 + strcspn(at + 2, "}\n'");
        bool is_set;

        if (*end != '}')
            continue;
        *end = '\0';
        is_set = getenv(at + 2) != NULL;
        *end = is_set ? '}' : '_';
        if (!is_set)
            memcpy(at, "__", 2);
    }
}

/* "dir/q.sql", "../x.sql" -> "dir/../x.sql". */
static bool beside(const char *path, const char *name, char *out)
{
    const char *slash = strrchr(path, '/');
    size_t dir_size = slash != NULL && name[0] != '/' ? (size_t)(slash - path) + 1 : 0;

    return (size_t)snprintf(out, PATH_BYTES_MAX, "%.*s%s", (int)dir_size, path, name) <
           PATH_BYTES_MAX;
}

static enum mr_status load(struct suite *suite, const char *path);

/* The files that this one names in lines "-- uses: path". */
static enum mr_status load_used(struct suite *suite, const char *path, const char *text)
{
    static const char mark[] = "-- uses:";
    char used[PATH_BYTES_MAX], name[PATH_BYTES_MAX];

    for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
        size_t size;

        at += at[0] == '\n' ? 1 : 0;
        if (strncmp(at, mark, sizeof(mark) - 1) != 0)
            continue;
        at += sizeof(mark) - 1;
        at += strspn(at, " \t");
        size = strcspn(at, " \t\r\n");
        if (size == 0 || size >= sizeof(name))
            return MR_FAIL(suite->err, MR_USAGE, "'%s': write '-- uses: FILE'", path);
        memcpy(name, at, size);
        name[size] = '\0';
        if (!beside(path, name, used))
            return MR_FAIL(suite->err, MR_USAGE, "'%s': the path of a used file is too long", path);
        MR_TRY(load(suite, used));
    }
    return MR_OK;
}

/* q.test.sql: q.sql in front of it, when it is there. */
static enum mr_status load_tested(struct suite *suite, const char *path)
{
    static const char ending[] = ".test.sql";
    char tested[PATH_BYTES_MAX];
    size_t size = strlen(path), rest = sizeof(ending) - 1;

    if (size <= rest || strcmp(path + size - rest, ending) != 0)
        return MR_OK;
    if (snprintf(tested, sizeof(tested), "%.*s.sql", (int)(size - rest), path) < 0 ||
        !exists(tested))
        return MR_OK;
    return load(suite, tested);
}

/* A file with all it uses in front of it; each once. */
static enum mr_status load(struct suite *suite, const char *path)
{
    struct part *part;
    char *text = NULL;
    size_t size = 0;
    enum mr_status status;

    for (size_t i = 0; i < suite->count; i++) {
        if (strcmp(suite->parts[i].path, path) == 0)
            return MR_OK;
    }
    if (strlen(path) >= PATH_BYTES_MAX)
        return MR_FAIL(suite->err, MR_USAGE, "cannot open '%s': the path is too long", path);
    status = mr_durable_get(mr_env_posix(), path, FILE_BYTES_MAX, &text, &size, suite->err);
    if (status == MR_NOT_FOUND)
        return MR_FAIL(suite->err, MR_USAGE,
                       "cannot open '%s': no such file; give the path of a .sql file", path);
    MR_TRY(status);
    MR_TRY_GOTO(load_tested(suite, path));
    MR_TRY_GOTO(load_used(suite, path, text));
    if (suite->count == MR_TESTING_FILES_MAX) {
        status = MR_FAIL(suite->err, MR_USAGE, "'%s': more than %d files are used", path,
                         (int)MR_TESTING_FILES_MAX);
        goto done;
    }
    part = &suite->parts[suite->count++];
    memcpy(part->path, path, strlen(path) + 1);
    part->text = text;
    part->size = size;
    fill_variables(part->text);
    return MR_OK;
done:
    mr_text_free(text);
    return status;
}

/* ---- Places ---- */

/* Remembers the file and the line of an error, whose line was that of the combined text. */
static void note_place(struct suite *suite, struct mr_error *err)
{
    const struct part *part = NULL;
    const char *at;

    if (suite->place == NULL || err == NULL || err->sql_line == 0)
        return;
    for (size_t i = 0; i < suite->count; i++) {
        if (suite->parts[i].line < err->sql_line)
            part = &suite->parts[i];
    }
    if (part == NULL)
        return;
    err->sql_line -= part->line;
    snprintf(suite->place->file, sizeof(suite->place->file), "%s", part->path);
    at = part->text;
    for (uint32_t i = 1; i < err->sql_line && at != NULL; i++) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    if (at != NULL)
        snprintf(suite->place->line_text, sizeof(suite->place->line_text), "%.*s",
                 (int)MR_MIN(strcspn(at, "\n"), sizeof(suite->place->line_text) - 1), at);
}

/* ---- The text of a pipeline ---- */

static void blank(char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (text[i] != '\n')
            text[i] = ' ';
    }
}

/* One behind the other, a newline between. */
static enum mr_status combine(struct suite *suite)
{
    struct mr_buf text = MR_BUF_INIT;
    uint32_t line = 0;

    for (size_t i = 0; i < suite->count; i++) {
        struct part *part = &suite->parts[i];

        part->at = text.size;
        part->line = line;
        for (size_t k = 0; k < part->size; k++)
            line += part->text[k] == '\n';
        line++;
        mr_buf_add(&text, part->text, part->size);
        mr_buf_add_char(&text, '\n');
    }
    suite->size = text.size;
    suite->blank = mr_buf_take(&text);
    return suite->blank != NULL ? MR_OK : no_memory(suite->err);
}

/* Where the statement ends: at the first word of the next one, or with the text. */
static size_t end_of(const struct mr_sql_script *script, size_t index)
{
    return index + 1 < script->count ? script->statements[index + 1].at : script->size;
}

static void blank_tests(struct suite *suite, const struct mr_sql_script *script)
{
    for (size_t i = 0; i < script->count; i++) {
        if (script->statements[i].kind == MR_SQL_TEST)
            blank(suite->blank, script->statements[i].at, end_of(script, i));
    }
}

/* The pipeline of a test: everything but tests, and what it is given. */
static enum mr_status pipeline_of(const struct suite *suite, const char *whole,
                                  const struct mr_test_block *block,
                                  struct mr_sql_script **ret_script)
{
    char *text = mr_strndup(suite->blank, suite->size);
    enum mr_status status;

    if (text == NULL)
        return no_memory(suite->err);
    for (size_t i = 0; i < block->count; i++) {
        const struct mr_test_text *given = &block->steps[i].query;

        if (block->steps[i].kind != MR_STEP_GIVEN)
            continue;
        memcpy(text + given->at, whole + given->at, given->size);
        text[given->at + given->size] = ';';
    }
    status = mr_sql_script_parse(suite->parts[suite->count - 1].path, text, suite->size, ret_script,
                                 suite->err);
    mr_free(text);
    return status;
}

/* ---- Tests ---- */

static enum mr_status add_verdict(struct mr_testing_report *report,
                                  const struct mr_testing_verdict *verdict, struct mr_error *err)
{
    struct mr_testing_verdict *grown =
        mr_realloc(NULL, report->verdicts, (report->count + 1) * sizeof(*grown));

    if (grown == NULL)
        return no_memory(err);
    report->verdicts = grown;
    report->verdicts[report->count++] = *verdict;
    report->failed_count += verdict->passed ? 0 : 1;
    return MR_OK;
}

static void verdict_release(struct mr_testing_verdict *verdict)
{
    mr_free((void *)(uintptr_t)verdict->file);
    mr_free((void *)(uintptr_t)verdict->title);
    mr_text_free(verdict->message);
    mr_text_free(verdict->details);
    mr_text_free(verdict->note);
}

/* What was wrong, with the place of an error that is not the step's own line, and the crash that
 * made it so. */
static char *message_of(struct suite *suite, const struct mr_error *err, uint32_t step_line,
                        const char *injected)
{
    const char *with = injected[0] != '\0' ? "with a crash " : "";
    const char *colon = injected[0] != '\0' ? ": " : "";

    if (err->sql_line == 0 || err->sql_line == step_line || suite->place == NULL)
        return mr_asprintf("%s%s%s%s", with, injected, colon, err->text);
    return mr_asprintf("%s%s%s%s:%u:%u: %s", with, injected, colon, suite->place->file,
                       err->sql_line, err->sql_column, err->text);
}

/*
 * A crash that the test does not survive may show the one thing that a restart forgets (decision
 * 0044): how far each of several sources was. That is so when the same crash changes nothing once
 * it is remembered; the test has passed then, with a note.
 */
static enum mr_status try_remembering(struct mr_test_trial *trial,
                                      const struct mr_test_result *failed, char **note,
                                      bool *ret_explained)
{
    struct mr_test_result result = {0};
    struct mr_error found = {0};

    *ret_explained = false;
    if (!failed->forgets)
        return MR_OK;
    trial->remembers = true;
    *ret_explained = mr_testing__try(trial, &result, &found) == MR_OK;
    trial->remembers = false;
    mr_text_free(result.details);
    if (!*ret_explained || *note != NULL)
        return MR_OK;
    *note = mr_asprintf("with a crash %s other rows come out: a restart forgets how far each "
                        "source's watermark was, as in Spark; SET idle_after keeps it",
                        failed->injected);
    return *note != NULL ? MR_OK : MR_NOMEM;
}

/* The test, and once more for every point that its batches come to, with a crash there. */
static enum mr_status try_all(const struct suite *suite, struct mr_test_trial *trial,
                              struct mr_test_result *ret_result, char **ret_note,
                              struct mr_error *ret_found)
{
    enum mr_status status = mr_testing__try(trial, ret_result, ret_found);
    uint64_t points = ret_result->points;
    bool explained;

    if (!suite->choice->crash_everywhere)
        return status;
    for (trial->crash_at = 1; trial->crash_at <= points && status == MR_OK; trial->crash_at++) {
        status = mr_testing__try(trial, ret_result, ret_found);
        if (status == MR_OK)
            continue;
        if (try_remembering(trial, ret_result, ret_note, &explained) != MR_OK)
            return no_memory(ret_found);
        if (!explained)
            break;
        mr_text_free(ret_result->details);
        *ret_result = (struct mr_test_result){0};
        mr_error_clear(ret_found);
        status = MR_OK;
    }
    return status;
}

static enum mr_status run_one(struct suite *suite, const struct mr_sql_script *whole,
                              const struct mr_test_block *block, struct mr_testing_report *report)
{
    const struct part *part = &suite->parts[suite->count - 1];
    struct mr_test_trial trial = {.text = whole->text, .block = block, .duck = suite->duck};
    struct mr_test_result result = {0};
    struct mr_testing_verdict verdict = {0};
    struct mr_sql_script *script = NULL;
    struct mr_error found = {0};
    int64_t began_ns = mr_env_monotonic_ns(mr_env_posix());
    uint32_t line, column;
    enum mr_status status;

    MR_TRY(pipeline_of(suite, whole->text, block, &script));
    trial.script = script;
    status = try_all(suite, &trial, &result, &verdict.note, &found);
    mr_sql_script_free(script);
    mr_text_place(whole->text, status != MR_OK && result.step != NULL ? result.step->at : block->at,
                  &line, &column);
    verdict.line = line - part->line;
    verdict.passed = status == MR_OK;
    verdict.file = mr_strdup(part->path);
    verdict.title = mr_strdup(block->title);
    verdict.details = result.details;
    if (status != MR_OK) {
        note_place(suite, &found);
        verdict.message = message_of(suite, &found, verdict.line, result.injected);
    }
    verdict.duration_us = (mr_env_monotonic_ns(mr_env_posix()) - began_ns) / 1000;
    status = verdict.file != NULL && verdict.title != NULL && (verdict.passed || verdict.message)
                 ? add_verdict(report, &verdict, suite->err)
                 : no_memory(suite->err);
    if (status != MR_OK)
        verdict_release(&verdict);
    return status;
}

static enum mr_status run_blocks(struct suite *suite, struct mr_testing_report *report)
{
    const char *filter = suite->choice->filter;
    const char *path = suite->parts[suite->count - 1].path;
    size_t from = suite->parts[suite->count - 1].at;
    struct mr_sql_script *whole = NULL;
    enum mr_status status;

    MR_TRY(mr_sql_script_parse(path, suite->blank, suite->size, &whole, suite->err));
    blank_tests(suite, whole);
    for (size_t i = 0; i < whole->count; i++) {
        struct mr_test_block block;

        if (whole->statements[i].kind != MR_SQL_TEST || whole->statements[i].at < from)
            continue;
        MR_TRY_GOTO(mr_testing__parse(whole, &whole->statements[i], &block, suite->err));
        if (filter == NULL || strstr(block.title, filter) != NULL)
            MR_TRY_GOTO(run_one(suite, whole, &block, report));
    }
    status = MR_OK;
done:
    mr_sql_script_free(whole);
    return status;
}

static enum mr_status run_file(const char *path, const struct mr_testing_choice *choice,
                               struct mr_duck *duck, struct mr_testing_report *report,
                               struct mr_testing_place *ret_place, struct mr_error *err)
{
    struct suite suite = {.choice = choice, .duck = duck, .place = ret_place, .err = err};
    enum mr_status status;

    MR_TRY_GOTO(load(&suite, path));
    MR_TRY_GOTO(combine(&suite));
    MR_TRY_GOTO(run_blocks(&suite, report));
done:
    if (status != MR_OK)
        note_place(&suite, err);
    for (size_t i = 0; i < suite.count; i++)
        mr_text_free(suite.parts[i].text);
    mr_text_free(suite.blank);
    return status;
}

enum mr_status mr_testing_run(const char *path, const struct mr_testing_choice *choice,
                              struct mr_testing_report *report, struct mr_testing_place *ret_place,
                              struct mr_error *err)
{
    char sibling[PATH_BYTES_MAX];
    size_t size = strlen(path);
    struct mr_duck *duck = NULL;
    enum mr_status status;

    *ret_place = (struct mr_testing_place){0};
    MR_TRY(mr_duck_open(&duck, err));
    status = run_file(path, choice, duck, report, ret_place, err);
    if (status == MR_OK && size > 4 && strcmp(path + size - 4, ".sql") == 0 &&
        (size_t)snprintf(sibling, sizeof(sibling), "%.*s.test.sql", (int)size - 4, path) <
            sizeof(sibling) &&
        exists(sibling))
        status = run_file(sibling, choice, duck, report, ret_place, err);
    mr_duck_close(duck);
    return status;
}

void mr_testing_report_release(struct mr_testing_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        verdict_release(&report->verdicts[i]);
    mr_free(report->verdicts);
    *report = (struct mr_testing_report){0};
}

enum mr_status mr_testing_check(struct mr_sql_script *script, struct mr_error *err)
{
    for (size_t i = 0; i < script->count; i++) {
        struct mr_test_block block;

        if (script->statements[i].kind == MR_SQL_TEST)
            MR_TRY(mr_testing__parse(script, &script->statements[i], &block, err));
    }
    return MR_OK;
}
