/*
 * Status names and the filling of error objects; see <millrace/error.h>.
 *
 * Called by everything, mostly through MR_FAIL.  The text is formatted into a local buffer first,
 * because arguments may point into the error object that is being filled.  Thread: any.
 */
#include <millrace/error.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct status_row {
    const char *name;
    const char *text;
    int exit_code;
    bool retriable;
};

static const struct status_row rows[] = {
#define X(name, number, exit_code, retriable, text) [number] = {#name, text, exit_code, retriable},
    MR_STATUS_TABLE(X)
#undef X
};

static const struct status_row *row_of(enum mr_status status)
{
    static const struct status_row unknown = {"MR_UNKNOWN", "unknown status", 70, false};

    if ((unsigned)status >= sizeof(rows) / sizeof(rows[0]))
        return &unknown;
    return &rows[status];
}

const char *mr_status_text(enum mr_status status)
{
    return row_of(status)->text;
}

const char *mr_status_name(enum mr_status status)
{
    return row_of(status)->name;
}

int mr_status_exit_code(enum mr_status status)
{
    return row_of(status)->exit_code;
}

bool mr_status_retriable(enum mr_status status)
{
    return row_of(status)->retriable;
}

/* errno is a left-over of some earlier call unless the failure is of a kind that the OS reports. */
static bool comes_from_the_os(enum mr_status status)
{
    switch (status) {
    case MR_UNAVAILABLE:
    case MR_NOMEM:
    case MR_LIMIT:
    case MR_CANNOT_CREATE:
    case MR_IO:
    case MR_BUSY:
    case MR_PERMISSION:
    case MR_NOT_FOUND:
        return true;
    default:
        return false;
    }
}

/*
 * One line, whole characters: control characters become blanks, a text that was cut ends with
 * "...".
 */
static void finish_text(char *text, size_t wanted)
{
    size_t size = MR_ERROR_TEXT_BYTES - 1;

    if (wanted > size) {
        size -= 3;
        while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
            size--;
        memcpy(text + size, "...", 4);
    }
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = ' ';
    }
}

enum mr_status mr_error_setv(struct mr_error *err, const char *file, int line,
                             enum mr_status status, const char *format, va_list args)
{
    int os_errno = errno;
    char text[MR_ERROR_TEXT_BYTES];
    int wanted;

    if (err == NULL)
        return status;
    wanted = vsnprintf(text, sizeof(text), format, args);
    if (wanted < 0) {
        wanted = 0;
        text[0] = '\0';
    }
    finish_text(text, (size_t)wanted);
    err->status = status;
    err->os_errno = comes_from_the_os(status) ? os_errno : 0;
    err->file = file;
    err->line = line;
    err->sql_line = 0;
    err->sql_column = 0;
    memcpy(err->text, text, sizeof(err->text));
    errno = os_errno;
    return status;
}

enum mr_status mr_error_set(struct mr_error *err, const char *file, int line, enum mr_status status,
                            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    mr_error_setv(err, file, line, status, format, args);
    va_end(args);
    return status;
}

enum mr_status mr_error_prefix(struct mr_error *err, const char *format, ...)
{
    char text[MR_ERROR_TEXT_BYTES];
    size_t wanted;
    size_t room;
    va_list args;
    int size;

    if (err == NULL)
        return MR_INTERNAL; /* without an object there is no status to repeat */
    va_start(args, format);
    size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (size < 0)
        return err->status;
    wanted = (size_t)size + 2 + strlen(err->text);
    if ((size_t)size < sizeof(text) - 3) {
        memcpy(text + size, ": ", 3);
        room = sizeof(text) - (size_t)size - 3;
        memcpy(text + size + 2, err->text, MR_ERROR_TEXT_BYTES - (size_t)size - 3);
        text[(size_t)size + 2 + room] = '\0';
    }
    finish_text(text, wanted);
    memcpy(err->text, text, sizeof(err->text));
    return err->status;
}

void mr_error_clear(struct mr_error *err)
{
    if (err != NULL)
        memset(err, 0, sizeof(*err));
}
