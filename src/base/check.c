/*
 * The end of the process after a failed assertion; see check.h.
 *
 * Called by MR_ASSERT from any thread.  It uses only async-signal-safe calls and no memory, because
 * nothing about the process can be trusted any more.
 */
#include "base/check.h"

#include <string.h>
#include <unistd.h>

static void write_text(const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t written = write(STDERR_FILENO, text, left);

        if (written <= 0)
            return;
        text += written;
        left -= (size_t)written;
    }
}

void mr_assert_failed(const char *condition, const char *file, int line)
{
    char digits[16];
    size_t at = sizeof(digits) - 1;
    unsigned number = line > 0 ? (unsigned)line : 0;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0 && at > 0);
    write_text("millrace: assertion failed: ");
    write_text(condition);
    write_text(" at ");
    write_text(file);
    write_text(":");
    write_text(&digits[at]);
    write_text("; the checkpoint is as a kill would leave it\n");
    _exit(mr_status_exit_code(MR_INTERNAL));
}
