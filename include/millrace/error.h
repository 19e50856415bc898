/*
 * Results and errors of millrace.
 *
 * Every call that can fail returns `enum mr_status` and takes a `struct mr_error *` as its last
 * argument, which may be NULL. Outputs are named `ret_x` and are written on success only. "No data
 * yet" and "end of stream" are results of the calls that can meet them, not errors.
 *
 * Thread: any; a struct mr_error belongs to its caller.
 */
#ifndef MILLRACE_ERROR_H
#define MILLRACE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MR_API __attribute__((visibility("default")))
#define MR_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define MR_MUST_CHECK __attribute__((warn_unused_result))
#else
#define MR_API
#define MR_PRINTF(format_at, args_at)
#define MR_MUST_CHECK
#endif

/*
 * name, number, exit code of the command, retriable, text. A number never changes once released;
 * new rows go to the end. Retriable: the same call may succeed later with nothing changed (the
 * driver retries the batch).
 */
#define MR_STATUS_TABLE(X)                                                                         \
    X(MR_OK, 0, 0, false, "ok")                                                                    \
    X(MR_USAGE, 1, 64, false, "wrong usage")                                                       \
    X(MR_SQL_ERROR, 2, 64, false, "error in the SQL text")                                         \
    X(MR_BAD_DATA, 3, 65, false, "bad input data")                                                 \
    X(MR_DATA_LOSS, 4, 65, false, "input was lost before it could be read")                        \
    X(MR_UNAVAILABLE, 5, 69, true, "peer unavailable")                                             \
    X(MR_INTERNAL, 6, 70, false, "internal error")                                                 \
    X(MR_NOMEM, 7, 71, false, "out of memory")                                                     \
    X(MR_LIMIT, 8, 71, false, "a limit was reached")                                               \
    X(MR_CANNOT_CREATE, 9, 73, false, "cannot create")                                             \
    X(MR_IO, 10, 74, false, "input or output error")                                               \
    X(MR_CORRUPT, 11, 74, false, "damaged checkpoint")                                             \
    X(MR_SOURCE_CHANGED, 12, 74, false, "source data changed under a planned batch")               \
    X(MR_BUSY, 13, 75, false, "in use by another process")                                         \
    X(MR_VERSION, 14, 76, false, "made by another version")                                        \
    X(MR_PERMISSION, 15, 77, false, "permission denied")                                           \
    X(MR_CONFIG, 16, 78, false, "wrong configuration")                                             \
    X(MR_STATE, 17, 70, false, "call not allowed in this state")                                   \
    X(MR_NOT_FOUND, 18, 66, false, "not found")                                                    \
    X(MR_USER, 19, 70, false, "a user function failed")                                            \
    X(MR_STOPPED, 20, 0, false, "stopped on request")

enum mr_status {
#define X(name, number, exit_code, retriable, text) name = number,
    MR_STATUS_TABLE(X)
#undef X
};

enum { MR_ERROR_TEXT_BYTES = 480 };

/* The first failure: code, OS error, place in our source, one line of text; SQL errors add the
 * place in the SQL text. */
struct mr_error {
    enum mr_status status;
    int os_errno;        /* errno at the failure, 0 when none */
    const char *file;    /* our source file, for developers (static storage) */
    int line;            /* our source line */
    uint32_t sql_line;   /* 1-based line in the SQL text; 0 = not an SQL error */
    uint32_t sql_column; /* 1-based column, in bytes */
    char text[MR_ERROR_TEXT_BYTES];
};

/* Short text of a status ("damaged checkpoint"), its name ("MR_CORRUPT"), its sysexits code, and
 * whether to retry. */
MR_API const char *mr_status_text(enum mr_status status);
MR_API const char *mr_status_name(enum mr_status status);
MR_API int mr_status_exit_code(enum mr_status status);
MR_API bool mr_status_retriable(enum mr_status status);

/* Fills *err (NULL allowed) and returns status.  errno is kept in err->os_errno. Use MR_FAIL. */
MR_API enum mr_status mr_error_set(struct mr_error *err, const char *file, int line,
                                   enum mr_status status, const char *format, ...) MR_PRINTF(5, 6);
MR_API enum mr_status mr_error_setv(struct mr_error *err, const char *file, int line,
                                    enum mr_status status, const char *format, va_list args)
    MR_PRINTF(5, 0);
/* Puts "prefix: " in front of the text, keeping everything else; returns err->status. */
MR_API enum mr_status mr_error_prefix(struct mr_error *err, const char *format, ...)
    MR_PRINTF(2, 3);
MR_API void mr_error_clear(struct mr_error *err);

/*
 * MR_FAIL(err, status, format, ...): the only way to report a failure. Text style: lower case, no
 * full stop, what was tried first, names in single quotes, then what to do: "cannot open 'x': made
 * by version 3; run a newer millrace".
 */
#define MR_FAIL(err, status, ...) mr_error_set((err), __FILE__, __LINE__, (status), __VA_ARGS__)
#ifdef __clang_analyzer__
/* The analyzer sees one file at a time: tell it that the result is the status that was given. */
static inline enum mr_status mr_error_set_to(enum mr_status set, enum mr_status status)
{
    (void)set;
    return status;
}
#undef MR_FAIL
#define MR_FAIL(err, status, ...)                                                                  \
    mr_error_set_to(mr_error_set((err), __FILE__, __LINE__, (status), __VA_ARGS__), (status))
#endif

/* Returns from the calling function when the call did not succeed. Only where there is nothing to
 * release. */
#define MR_TRY(call)                                                                               \
    do {                                                                                           \
        enum mr_status mr_try_status_ = (call);                                                    \
        if (mr_try_status_ != MR_OK)                                                               \
            return mr_try_status_;                                                                 \
    } while (0)

/* Goes to `done` (where everything is released) when the call did not succeed; needs a local
 * `status`. */
#define MR_TRY_GOTO(call)                                                                          \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != MR_OK)                                                                       \
            goto done;                                                                             \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
