/* Log lines: both styles, levels, escaping, cutting, the sink. */
#include "support/test.h"

#include "base/json.h"
#include "base/log.h"

#include <millrace/ext/source.h>

#include <fcntl.h>
#include <unistd.h>

static char last_line[8192];
static enum mr_log_level last_level;
static int line_count;

static void keep_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg;
    CHECK_EQ_UINT(strlen(line), size_bytes);
    snprintf(last_line, sizeof(last_line), "%s", line);
    last_level = level;
    line_count++;
}

static void start(enum mr_log_style style)
{
    mr_log_configure(MR_LOG_INFO, style);
    mr_log_set_sink(keep_line, NULL);
    last_line[0] = '\0';
    line_count = 0;
}

TEST(a_text_line_has_time_level_module_query_and_batch)
{
    start(MR_LOG_TEXT);
    mr_log(MR_LOG_WARNING, "core", "clicks", 41, "lost %d rows", 3);
    CHECK_EQ_STR(last_line + 24, " W core query=clicks batch=41 lost 3 rows");
    CHECK_EQ_INT(last_line[23], 'Z');
    CHECK_EQ_INT(last_level, MR_LOG_WARNING);
    mr_log(MR_LOG_INFO, "cli", NULL, -1, "plain");
    CHECK_EQ_STR(last_line + 24, " I cli plain");
    mr_ext_log('E', "kafka", "broken");
    CHECK_EQ_STR(last_line + 24, " E kafka broken");
    mr_log_set_sink(NULL, NULL);
}

TEST(a_json_line_is_one_document_whatever_the_text_is)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    struct mr_error err = {0};

    start(MR_LOG_JSON);
    mr_log(MR_LOG_ERROR, "core", "a\"b", 7, "bad \\ \n \xff \"quoted\"");
    CHECK_OK(mr_json_parse(last_line, strlen(last_line), &arena, &json, &err), &err);
    CHECK_EQ_STR(mr_json_text(json, "level"), "E");
    CHECK_EQ_STR(mr_json_text(json, "query"), "a\"b");
    CHECK_EQ_STR(mr_json_text(json, "text"), "bad \\ \\x0a \\xff \"quoted\"");
    mr_arena_release(&arena);
    mr_log_set_sink(NULL, NULL);
}

TEST(levels_below_the_wanted_one_are_left_out)
{
    start(MR_LOG_TEXT);
    mr_log(MR_LOG_DEBUG, "core", NULL, -1, "detail");
    CHECK_EQ_INT(line_count, 0);
    mr_log_configure(MR_LOG_DEBUG, MR_LOG_TEXT);
    mr_log(MR_LOG_DEBUG, "core", NULL, -1, "detail");
    CHECK_EQ_INT(line_count, 1);
    mr_log_set_sink(NULL, NULL);
}

TEST(a_line_cannot_be_forged_and_is_cut_when_too_long)
{
    static char text[10000];
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    struct mr_error err = {0};

    start(MR_LOG_TEXT);
    mr_log(MR_LOG_INFO, "core", NULL, -1, "a\n2026-01-01T00:00:00.000Z E core forged");
    CHECK_NULL(strchr(last_line, '\n'));
    for (int style = 0; style < 2; style++) {
        start(style == 0 ? MR_LOG_TEXT : MR_LOG_JSON);
        for (int fill = 0; fill < 3; fill++) {
            memset(text, "x\"\x01"[fill], sizeof(text) - 1);
            mr_log(MR_LOG_INFO, "core", text, -1, "%s", text);
            CHECK(strlen(last_line) < 4096);
            if (style == 1)
                CHECK_OK(mr_json_parse(last_line, strlen(last_line), &arena, &json, &err), &err);
        }
    }
    mr_arena_release(&arena);
    mr_log_set_sink(NULL, NULL);
}

TEST(a_line_that_cannot_be_written_is_counted)
{
    int kept = dup(STDERR_FILENO);
    int closed = open("/dev/null", O_RDONLY);
    uint64_t before = mr_log_dropped();

    CHECK(kept >= 0 && closed >= 0);
    mr_log_configure(MR_LOG_INFO, MR_LOG_TEXT);
    mr_log_set_sink(NULL, NULL);
    CHECK(dup2(closed, STDERR_FILENO) >= 0);
    mr_log(MR_LOG_ERROR, "core", NULL, -1, "nobody hears this");
    CHECK(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    close(closed);
    CHECK_EQ_UINT(mr_log_dropped(), before + 1);
}
