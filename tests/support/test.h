/*
 * The test framework: one header, one runner, no registration by hand.
 *
 *     #include "support/test.h"
 *
 *     TEST(a_record_cut_in_half_is_refused)
 *     {
 *         const char *path = test_path(t, "log");
 *         CHECK(write_half(path));
 *         CHECK_EQ_INT(read_all(path), MR_CORRUPT);
 *     }
 *
 * Every test_*.c is one program; its main() is in runner.c. A test is a sentence. It gets its own
 * empty directory (t->dir), which is removed when the test passes and named in the output when not.
 *
 * A failed CHECK prints both values and leaves the test at once (by longjmp, so it may be called
 * from helpers too). On a thread other than the runner's it marks the test failed and goes on.
 *
 * Usage of a test program: test_x [--list] [part of a name]
 * Environment: QUICK=1 asks for the short form (test_quick), MILLRACE_TEST_KEEP=1 keeps every
 * directory, MILLRACE_LEAKS=each looks for leaks behind each test and not only behind the last,
 * TMPDIR says where the directories are made.
 */
#ifndef MR_TESTS_SUPPORT_TEST_H
#define MR_TESTS_SUPPORT_TEST_H

#include <millrace/error.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test {
    const char *name; /* the sentence, with underscores */
    const char *dir;  /* absolute path of the test's own empty directory */
};

struct test_case {
    const char *name;
    void (*run)(struct test *t);
    struct test_case *next;
};

/* Called by the constructors TEST makes. */
void test_register(struct test_case *one);

#define TEST(name)                                                                                 \
    static void test_##name(struct test *t);                                                       \
    __attribute__((constructor)) static void test_register_##name(void)                            \
    {                                                                                              \
        static struct test_case one = {#name, test_##name, NULL};                                  \
        test_register(&one);                                                                       \
    }                                                                                              \
    static void test_##name(__attribute__((unused)) struct test *t)

/* Absolute path of 'name' inside the test's directory; lives until the test ends. */
const char *test_path(struct test *t, const char *name);

/* True when the short form is wanted (QUICK=1): fewer seeds, fewer rounds, the same claims. */
bool test_quick(void);

/* True under a sanitizer. Tests with very many cases try some of them there, and all of them in the
 * release build; such tests are named in MR_BOTH_TESTS (cmake/tests.cmake). */
bool test_slow_build(void);

/* A number to seed random tests: MILLRACE_SEED if set, else 'otherwise'. Print it on failure. */
uint64_t test_seed(uint64_t otherwise);

/* Leaves the test as skipped. Skips are counted and printed; they are not passes. */
__attribute__((noreturn)) void test_skip(struct test *t, const char *why);
#define SKIP(t, why) test_skip((t), (why))

/* The analyzer judges the main thread, where a failure leaves the test. */
#ifdef __clang_analyzer__
#define TEST_LEAVES __attribute__((noreturn))
#else
#define TEST_LEAVES
#endif

/* Marks the running test as failed and leaves it (see the top for other threads). */
__attribute__((format(printf, 3, 4))) TEST_LEAVES void test_fail(const char *file, int line,
                                                                 const char *text, ...);
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

/* The functions behind the macros below. */
void test_eq_int(const char *file, int line, const char *what, int64_t have, int64_t want);
void test_eq_uint(const char *file, int line, const char *what, uint64_t have, uint64_t want);
void test_eq_double(const char *file, int line, const char *what, double have, double want,
                    double slack);
void test_eq_str(const char *file, int line, const char *what, const char *have, const char *want);
void test_eq_mem(const char *file, int line, const char *what, const void *have, const void *want,
                 size_t size);
void test_contains(const char *file, int line, const char *what, const char *have,
                   const char *part);
void test_ok(const char *file, int line, const char *what, enum mr_status have,
             const struct mr_error *err);
void test_status(const char *file, int line, const char *what, enum mr_status have,
                 enum mr_status want);
void test_fails(const char *file, int line, const char *what, enum mr_status have,
                const struct mr_error *err, enum mr_status want, const char *part);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, "CHECK(%s)", #cond);                                     \
    } while (0)

/* In all of these: what the code gave first, what it should be second. */
#define CHECK_EQ_INT(have, want)                                                                   \
    test_eq_int(__FILE__, __LINE__, #have, (int64_t)(have), (int64_t)(want))
#define CHECK_EQ_UINT(have, want)                                                                  \
    test_eq_uint(__FILE__, __LINE__, #have, (uint64_t)(have), (uint64_t)(want))
#define CHECK_EQ_DOUBLE(have, want) test_eq_double(__FILE__, __LINE__, #have, (have), (want), 0.0)
#define CHECK_NEAR(have, want, slack)                                                              \
    test_eq_double(__FILE__, __LINE__, #have, (have), (want), (slack))
#define CHECK_EQ_STR(have, want) test_eq_str(__FILE__, __LINE__, #have, (have), (want))
#define CHECK_EQ_MEM(have, want, size)                                                             \
    test_eq_mem(__FILE__, __LINE__, #have, (have), (want), (size_t)(size))
#define CHECK_CONTAINS(have, part) test_contains(__FILE__, __LINE__, #have, (have), (part))
#define CHECK_NULL(ptr) CHECK((ptr) == NULL)
#define CHECK_NOT_NULL(ptr) CHECK((ptr) != NULL)

/* A call that must succeed: its error's text is printed when it does not. 'err' may be NULL. */
#define CHECK_OK(call, err) test_ok(__FILE__, __LINE__, #call, (call), (err))
/* A call that must give this status. */
#define CHECK_STATUS(call, want) test_status(__FILE__, __LINE__, #call, (call), (want))
/* A call that must fail with this status and a text that contains 'part' (NULL: any text). */
#define CHECK_FAILS(call, err, want, part)                                                         \
    test_fails(__FILE__, __LINE__, #call, (call), (err), (want), (part))

/* The statement must end the process: abort() or a failed MR_ASSERT. It runs in a child. */
#define CHECK_ABORTS(statement)                                                                    \
    do {                                                                                           \
        if (test_child_begin()) {                                                                  \
            statement;                                                                             \
            test_child_end();                                                                      \
        }                                                                                          \
        if (!test_child_aborted())                                                                 \
            test_fail(__FILE__, __LINE__, "CHECK_ABORTS(%s): it did not abort", #statement);       \
    } while (0)

bool test_child_begin(void);                         /* true in the child */
__attribute__((noreturn)) void test_child_end(void); /* child: the statement returned */
bool test_child_aborted(void);                       /* parent: waits for the child */

#endif
