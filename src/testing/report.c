/*
 * What `millrace test` says: TAP version 14 for people and harnesses, JUnit XML for build servers.
 * Called by the command when all tests ran. The TAP text has no times: equal runs, equal bytes.
 *
 * Thread: any.
 */
#include "testing/testing.h"

#include "base/alloc.h"

#include <string.h>

/* ---- TAP ---- */

/* '#' and '\' would end a title or quote what follows. */
static void add_title(struct mr_buf *out, const char *title)
{
    for (; *title != '\0'; title++) {
        if (*title == '#' || *title == '\\')
            mr_buf_add_char(out, '\\');
        mr_buf_add_char(out, *title == '\n' ? ' ' : *title);
    }
}

static void add_quoted(struct mr_buf *out, const char *text)
{
    mr_buf_add_char(out, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            mr_buf_add_char(out, '\'');
        mr_buf_add_char(out, *text == '\n' ? ' ' : *text);
    }
    mr_buf_add_char(out, '\'');
}

static void add_diagnosis(struct mr_buf *out, const struct mr_testing_verdict *verdict)
{
    mr_buf_add_str(out, "  ---\n  message: ");
    add_quoted(out, verdict->message);
    mr_buf_add_str(out, "\n  at: ");
    mr_buf_printf(out, "'%s:%u'\n", verdict->file, verdict->line);
    if (verdict->details != NULL) {
        mr_buf_add_str(out, "  difference: |\n");
        for (const char *line = verdict->details; *line != '\0';) {
            size_t size = strcspn(line, "\n");

            mr_buf_add_str(out, "    ");
            mr_buf_add(out, line, size);
            mr_buf_add_char(out, '\n');
            line += size + (line[size] == '\n' ? 1 : 0);
        }
    }
    mr_buf_add_str(out, "  ...\n");
}

static void add_note(struct mr_buf *out, const char *note)
{
    mr_buf_add_str(out, "  ---\n  note: ");
    add_quoted(out, note);
    mr_buf_add_str(out, "\n  ...\n");
}

void mr_testing_tap(const struct mr_testing_report *report, struct mr_buf *out)
{
    const char *file = "";

    mr_buf_printf(out, "TAP version 14\n1..%zu\n", report->count);
    for (size_t i = 0; i < report->count; i++) {
        const struct mr_testing_verdict *verdict = &report->verdicts[i];

        if (strcmp(file, verdict->file) != 0)
            mr_buf_printf(out, "# %s\n", verdict->file);
        file = verdict->file;
        mr_buf_printf(out, "%s %zu - ", verdict->passed ? "ok" : "not ok", i + 1);
        add_title(out, verdict->title);
        mr_buf_add_char(out, '\n');
        if (!verdict->passed)
            add_diagnosis(out, verdict);
        else if (verdict->note != NULL)
            add_note(out, verdict->note);
    }
}

/* ---- JUnit ---- */

static void add_xml(struct mr_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '<')
            mr_buf_add_str(out, "&lt;");
        else if (c == '>')
            mr_buf_add_str(out, "&gt;");
        else if (c == '&')
            mr_buf_add_str(out, "&amp;");
        else if (c == '"')
            mr_buf_add_str(out, "&quot;");
        else if (c < 0x20 && c != '\n' && c != '\t')
            mr_buf_add_char(out, '?'); /* XML 1.0 has no such character */
        else
            mr_buf_add_char(out, *text);
    }
}

static void add_case(struct mr_buf *out, const struct mr_testing_verdict *verdict)
{
    mr_buf_add_str(out, "    <testcase name=\"");
    add_xml(out, verdict->title);
    mr_buf_add_str(out, "\" classname=\"");
    add_xml(out, verdict->file);
    mr_buf_printf(out, "\" line=\"%u\" time=\"%.6f\"", verdict->line,
                  (double)verdict->duration_us / 1e6);
    if (verdict->passed && verdict->note != NULL) {
        mr_buf_add_str(out, ">\n      <system-out>");
        add_xml(out, verdict->note);
        mr_buf_add_str(out, "</system-out>\n    </testcase>\n");
        return;
    }
    if (verdict->passed) {
        mr_buf_add_str(out, "/>\n");
        return;
    }
    mr_buf_add_str(out, ">\n      <failure message=\"");
    add_xml(out, verdict->message);
    mr_buf_add_str(out, "\">");
    add_xml(out, verdict->file);
    mr_buf_printf(out, ":%u\n", verdict->line);
    if (verdict->details != NULL)
        add_xml(out, verdict->details);
    mr_buf_add_str(out, "</failure>\n    </testcase>\n");
}

/* The tests of one file stand together. */
static size_t file_end(const struct mr_testing_report *report, size_t from)
{
    size_t end = from;

    while (end < report->count &&
           strcmp(report->verdicts[end].file, report->verdicts[from].file) == 0)
        end++;
    return end;
}

void mr_testing_junit(const struct mr_testing_report *report, struct mr_buf *out)
{
    mr_buf_printf(out,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                  "<testsuites name=\"millrace\" tests=\"%zu\" failures=\"%zu\">\n",
                  report->count, report->failed_count);
    for (size_t from = 0; from < report->count;) {
        size_t end = file_end(report, from), failed = 0;
        int64_t duration_us = 0;

        for (size_t i = from; i < end; i++) {
            failed += report->verdicts[i].passed ? 0 : 1;
            duration_us += report->verdicts[i].duration_us;
        }
        mr_buf_add_str(out, "  <testsuite name=\"");
        add_xml(out, report->verdicts[from].file);
        mr_buf_printf(out, "\" tests=\"%zu\" failures=\"%zu\" time=\"%.6f\">\n", end - from, failed,
                      (double)duration_us / 1e6);
        for (; from < end; from++)
            add_case(out, &report->verdicts[from]);
        mr_buf_add_str(out, "  </testsuite>\n");
    }
    mr_buf_add_str(out, "</testsuites>\n");
}
