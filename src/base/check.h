/*
 * Assertions that stay on in release builds. MR_ASSERT is for our own mistakes only: outside data
 * is validated and answered with an error. A failed one writes a line to stderr and ends the
 * process with exit code 70 through _exit: what is on the disk stays as a kill would leave it.
 */
#ifndef MR_BASE_CHECK_H
#define MR_BASE_CHECK_H

#include <millrace/error.h>

void mr_assert_failed(const char *condition, const char *file, int line) __attribute__((noreturn));

#define MR_ASSERT(condition)                                                                       \
    ((condition) ? (void)0 : mr_assert_failed(#condition, __FILE__, __LINE__))
#define MR_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MR_UNUSED(name) ((void)(name))
#define MR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MR_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
