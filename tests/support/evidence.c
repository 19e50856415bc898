/*
 * Appending a figure to the suite's file: one write of one line, so that programs that run side by
 * side do not mix their lines.
 */
#include "support/evidence.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void evidence_text(const char *suite, const char *figure, const char *text)
{
    const char *folder = getenv("MILLRACE_EVIDENCE");
    if (folder == NULL || *folder == '\0')
        return;
    char path[4096];
    char line[1024];
    int path_size = snprintf(path, sizeof path, "%s/%s.tsv", folder, suite);
    int size = snprintf(line, sizeof line, "%s\t%s\t%s\n", suite, figure, text);
    if (path_size < 0 || path_size >= (int)sizeof path || size < 0 || size >= (int)sizeof line) {
        fprintf(stderr, "evidence: '%s' of '%s' is too long to be written\n", figure, suite);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, (size_t)size) != size)
        fprintf(stderr, "evidence: '%s' cannot be written: errno %d\n", path, errno);
    if (fd >= 0)
        close(fd);
}

void evidence_add(const char *suite, const char *figure, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    evidence_text(suite, figure, text);
}
