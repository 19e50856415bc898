/*
 * The log: one line per call, to stderr or to the application's sink; see log.h.
 *
 * Called by the driver, the front ends and the command (mr_log), and by plug-ins (mr_ext_log).
 *
 *     text   2026-11-21T10:00:00.123Z W core query=clicks batch=41 text
 *     json   {"time":"...","level":"W","module":"core","query":"clicks","batch":41,"text":"..."}
 *
 * A line is built in the caller's stack, without allocating, so that "out of memory" can be said.
 * It is handed over in one piece under a lock: lines of different threads never mix.  A line that
 * is longer than the buffer is cut with "..."; one that cannot be written is counted.
 *
 * Threads: any; level and style are atomics, the sink is guarded by `lock`.
 */
#include "base/log.h"

#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <millrace/ext/source.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Escaping makes a text longer, and quoting may double it again: these add up to less than a line,
 * so that a JSON line is never cut in the middle of its syntax.
 */
enum {
    NAME_BYTES_MAX = 128,     /* of module and query, escaped */
    MESSAGE_BYTES_MAX = 1600, /* escaped */
    LINE_BYTES_MAX = 4096,
};

static _Atomic int level_wanted = MR_LOG_INFO;
static _Atomic int style_wanted = MR_LOG_TEXT;
static _Atomic uint64_t dropped;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* guarded by lock: */
static mr_log_sink_fn sink_fn;
static void *sink_arg;

void mr_log_configure(enum mr_log_level level, enum mr_log_style style)
{
    atomic_store(&level_wanted, (int)level);
    atomic_store(&style_wanted, (int)style);
}

void mr_log_set_sink(mr_log_sink_fn sink, void *arg)
{
    pthread_mutex_lock(&lock);
    sink_fn = sink;
    sink_arg = arg;
    pthread_mutex_unlock(&lock);
}

uint64_t mr_log_dropped(void)
{
    return atomic_load(&dropped);
}

/* ---------------------------------------------------------------- building a line */

struct line {
    char text[LINE_BYTES_MAX];
    size_t size;
};

/* Leaves room for the end of the line: quote, brace, newline. */
static size_t room_in(const struct line *line)
{
    return sizeof(line->text) - line->size - 8;
}

static void add(struct line *line, const char *text, size_t size)
{
    size = size < room_in(line) ? size : room_in(line);
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void add_str(struct line *line, const char *text)
{
    add(line, text, strlen(text));
}

/* At most `most` bytes of the escaped text: without control characters, valid UTF-8. */
static void add_escaped(struct line *line, const char *text, size_t most)
{
    char escaped[MESSAGE_BYTES_MAX];

    add(line, escaped, mr_text_escape(text, strlen(text), escaped, most));
}

static void add_quoted(struct line *line, const char *text, size_t most)
{
    char escaped[MESSAGE_BYTES_MAX];

    mr_text_escape(text, strlen(text), escaped, most);
    add_str(line, "\"");
    for (const char *at = escaped; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            add(line, "\\", 1);
        add(line, at, 1);
    }
    add_str(line, "\"");
}

static void build_text(struct line *line, const char *now, char level, const char *module,
                       const char *query, int64_t batch_id, const char *message)
{
    char number[MR_NUMBER_TEXT_BYTES];

    add_str(line, now);
    add(line, " ", 1);
    add(line, &level, 1);
    add(line, " ", 1);
    add_escaped(line, module, NAME_BYTES_MAX);
    if (query != NULL) {
        add_str(line, " query=");
        add_escaped(line, query, NAME_BYTES_MAX);
    }
    if (batch_id >= 0) {
        add_str(line, " batch=");
        add(line, number, mr_int_print(batch_id, number));
    }
    add(line, " ", 1);
    add_escaped(line, message, MESSAGE_BYTES_MAX);
}

static void build_json(struct line *line, const char *now, char level, const char *module,
                       const char *query, int64_t batch_id, const char *message)
{
    char number[MR_NUMBER_TEXT_BYTES];

    add_str(line, "{\"time\":\"");
    add_str(line, now);
    add_str(line, "\",\"level\":\"");
    add(line, &level, 1);
    add_str(line, "\",\"module\":");
    add_quoted(line, module, NAME_BYTES_MAX);
    if (query != NULL) {
        add_str(line, ",\"query\":");
        add_quoted(line, query, NAME_BYTES_MAX);
    }
    if (batch_id >= 0) {
        add_str(line, ",\"batch\":");
        add(line, number, mr_int_print(batch_id, number));
    }
    add_str(line, ",\"text\":");
    add_quoted(line, message, MESSAGE_BYTES_MAX);
    line->text[line->size++] = '}';
}

/* A full pipe or a closed one loses the line rather than stopping the caller. */
static bool write_stderr(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, text, size);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        size -= (size_t)written;
    }
    return true;
}

static void hand_over(enum mr_log_level level, struct line *line)
{
    bool written = true;

    pthread_mutex_lock(&lock);
    if (sink_fn != NULL) {
        line->text[line->size] = '\0';
        sink_fn(sink_arg, level, line->text, line->size);
    } else {
        line->text[line->size++] = '\n';
        written = write_stderr(line->text, line->size);
    }
    pthread_mutex_unlock(&lock);
    if (!written)
        atomic_fetch_add(&dropped, 1);
}

MR_PRINTF(5, 0)
static void log_line(enum mr_log_level level, const char *module, const char *query,
                     int64_t batch_id, const char *format, va_list args)
{
    static const char letters[] = "EWID";
    char message[MESSAGE_BYTES_MAX];
    char now[MR_TIME_TEXT_BYTES];
    struct line line;
    struct timespec clock;
    int kept = errno;

    if ((int)level > atomic_load_explicit(&level_wanted, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &clock);
    mr_timestamp_print_ms((int64_t)clock.tv_sec * 1000000 + clock.tv_nsec / 1000, now);
    if (vsnprintf(message, sizeof(message), format, args) >= (int)sizeof(message))
        memcpy(message + sizeof(message) - 4, "...", 4);
    line.size = 0;
    if (atomic_load_explicit(&style_wanted, memory_order_relaxed) == MR_LOG_JSON)
        build_json(&line, now, letters[level], module, query, batch_id, message);
    else
        build_text(&line, now, letters[level], module, query, batch_id, message);
    hand_over(level, &line);
    errno = kept;
}

void mr_log(enum mr_log_level level, const char *module, const char *query, int64_t batch_id,
            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(level, module, query, batch_id, format, args);
    va_end(args);
}

void mr_ext_log(char level, const char *who, const char *format, ...)
{
    enum mr_log_level known = level == 'E'   ? MR_LOG_ERROR
                              : level == 'W' ? MR_LOG_WARNING
                              : level == 'D' ? MR_LOG_DEBUG
                                             : MR_LOG_INFO;
    va_list args;

    va_start(args, format);
    log_line(known, who, NULL, -1, format, args);
    va_end(args);
}
