/*
 * Runs the tests of one program; every tests/.../test_*.c is linked with this file.
 *
 * Order of things: constructors made by TEST register the cases in source order; main() picks
 * those whose name contains argv[1]; for each: make the directory, run under setjmp, remove the
 * directory, print one TAP line. The last line of output is always "N passed, N failed" (with ",
 * N skipped" when there are any): tools/run-tests adds these lines up, and a program without one
 * counts as failed.
 *
 * Built with the address sanitizer, the program looks for leaks behind its last test: a look reads
 * all that is allocated, and a look behind each test took up to half of a program's time. Where it
 * finds one, MILLRACE_LEAKS=each looks behind each test, and so names the one that leaks.
 *
 * Threads: tests run one after the other on the main thread. A CHECK may fail on any thread.
 */
#include "support/test.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Present only in builds with the address sanitizer, and with the thread sanitizer. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

#define PATHS_MAX 65536

static struct test_case *first_case;
static struct test_case **last_link = &first_case;

static struct {
    pthread_t thread;
    jmp_buf out;
    const char *name; /* NULL between tests */
    char dir[512];
    char *paths[PATHS_MAX];
    size_t path_count;
    atomic_bool failed;
    bool skipped;
    pid_t child;
} now;

void test_register(struct test_case *one)
{
    *last_link = one;
    last_link = &one->next;
}

/* ------------------------------------------------------------------ services for tests */

const char *test_path(struct test *t, const char *name)
{
    char *path = NULL;

    if (now.path_count == PATHS_MAX)
        FAIL("test_path: more than %d paths in one test", PATHS_MAX);
    if (asprintf(&path, "%s/%s", t->dir, name) < 0)
        FAIL("test_path: out of memory");
    now.paths[now.path_count++] = path;
    return path;
}

bool test_quick(void)
{
    const char *value = getenv("QUICK");

    return value != NULL && *value != '\0' && strcmp(value, "0") != 0;
}

bool test_slow_build(void)
{
    return __lsan_do_recoverable_leak_check != NULL || __tsan_init != NULL;
}

uint64_t test_seed(uint64_t otherwise)
{
    const char *value = getenv("MILLRACE_SEED");

    return value != NULL && *value != '\0' ? strtoull(value, NULL, 0) : otherwise;
}

static _Noreturn void leave_test(void)
{
    longjmp(now.out, 1);
}

void test_skip(struct test *t, const char *why)
{
    (void)t;
    printf("# skipped: %s\n", why);
    now.skipped = true;
    leave_test();
}

void test_fail(const char *file, int line, const char *text, ...)
{
    va_list args;

    atomic_store(&now.failed, true);
    flockfile(stdout);
    printf("# %s:%d: ", file, line);
    va_start(args, text);
    vprintf(text, args);
    va_end(args);
    printf("\n");
    funlockfile(stdout);
    if (pthread_equal(pthread_self(), now.thread))
        leave_test();
}

/* ------------------------------------------------------------------ comparisons */

void test_eq_int(const char *file, int line, const char *what, int64_t have, int64_t want)
{
    if (have != want)
        test_fail(file, line, "%s is %" PRId64 ", want %" PRId64, what, have, want);
}

void test_eq_uint(const char *file, int line, const char *what, uint64_t have, uint64_t want)
{
    if (have != want)
        test_fail(file, line, "%s is %" PRIu64 ", want %" PRIu64, what, have, want);
}

void test_eq_double(const char *file, int line, const char *what, double have, double want,
                    double slack)
{
    if (isnan(have) && isnan(want))
        return;
    if (!(fabs(have - want) <= slack) && !(isinf(have) && isinf(want) && have * want > 0))
        test_fail(file, line, "%s is %.17g, want %.17g (give or take %g)", what, have, want, slack);
}

void test_eq_str(const char *file, int line, const char *what, const char *have, const char *want)
{
    if (have == NULL || want == NULL) {
        if (have != want)
            test_fail(file, line, "%s is %s, want %s", what, have != NULL ? have : "(null)",
                      want != NULL ? want : "(null)");
        return;
    }
    if (strcmp(have, want) != 0)
        test_fail(file, line, "%s is\n#   '%s'\n# want\n#   '%s'", what, have, want);
}

void test_eq_mem(const char *file, int line, const char *what, const void *have, const void *want,
                 size_t size)
{
    const unsigned char *a = have;
    const unsigned char *b = want;

    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            test_fail(file, line, "%s differs at byte %zu of %zu: 0x%02x, want 0x%02x", what, i,
                      size, a[i], b[i]);
}

void test_contains(const char *file, int line, const char *what, const char *have, const char *part)
{
    if (have == NULL || strstr(have, part) == NULL)
        test_fail(file, line, "%s is\n#   '%s'\n# want it to contain\n#   '%s'", what,
                  have != NULL ? have : "(null)", part);
}

static const char *status_name(enum mr_status status)
{
    /* From the table and not from src/base, so that its tests do not judge by what they test. */
    switch (status) {
#define X(name, number, exit_code, retriable, text)                                                \
    case name:                                                                                     \
        return #name;
        MR_STATUS_TABLE(X)
#undef X
    }
    return "an unknown status";
}

void test_ok(const char *file, int line, const char *what, enum mr_status have,
             const struct mr_error *err)
{
    if (have != MR_OK)
        test_fail(file, line, "%s gave %s: %s", what, status_name(have),
                  err != NULL ? err->text : "(no text)");
}

void test_status(const char *file, int line, const char *what, enum mr_status have,
                 enum mr_status want)
{
    if (have != want)
        test_fail(file, line, "%s gave %s, want %s", what, status_name(have), status_name(want));
}

void test_fails(const char *file, int line, const char *what, enum mr_status have,
                const struct mr_error *err, enum mr_status want, const char *part)
{
    const char *text = err != NULL ? err->text : "";

    if (have != want)
        test_fail(file, line, "%s gave %s (%s), want %s", what, status_name(have), text,
                  status_name(want));
    else if (part != NULL)
        test_contains(file, line, what, text, part);
}

/* ------------------------------------------------------------------ CHECK_ABORTS */

/* MR_ASSERT leaves through _exit with this code, so that no destructor touches the disk. */
#define ASSERT_EXIT_CODE 70

bool test_child_begin(void)
{
    fflush(NULL);
    now.child = fork();
    if (now.child < 0)
        FAIL("fork: %s", strerror(errno));
    if (now.child == 0) {
        /* The assertion's message is expected: keep it out of the report. */
        signal(SIGABRT, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        return true;
    }
    return false;
}

void test_child_end(void)
{
    _exit(0);
}

bool test_child_aborted(void)
{
    int status = 0;

    while (waitpid(now.child, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) ||
           (WIFEXITED(status) && WEXITSTATUS(status) == ASSERT_EXIT_CODE);
}

/* ------------------------------------------------------------------ the runner */

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Names the test that was running when the process died; only async-signal-safe calls. */
static void report_death(int signo)
{
    static const char text[] = "# died in: ";

    if (now.name != NULL) {
        (void)!write(STDOUT_FILENO, text, sizeof text - 1);
        (void)!write(STDOUT_FILENO, now.name, strlen(now.name));
        (void)!write(STDOUT_FILENO, "\n", 1);
    }
    signal(signo, SIG_DFL);
    raise(signo);
}

static void watch_for_death(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;

        /* A sanitizer's own handler tells more than ours. */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            signal(signals[i], report_death);
    }
}

static bool make_dir(const char *name)
{
    const char *base = getenv("TMPDIR");

    if (base == NULL || *base != '/')
        base = "/tmp";
    snprintf(now.dir, sizeof now.dir, "%s/millrace-%ld-%.120s", base, (long)getpid(), name);
    remove_tree(now.dir);
    if (mkdir(now.dir, 0700) == 0)
        return true;
    printf("# cannot make '%s': %s\n", now.dir, strerror(errno));
    return false;
}

/* A leak is reported once: later looks would blame others for it. */
static bool leaked(void)
{
    static bool reported;

    if (reported || __lsan_do_recoverable_leak_check == NULL)
        return false;
    reported = __lsan_do_recoverable_leak_check() != 0;
    return reported;
}

static bool looks_behind_each_test(void)
{
    const char *value = getenv("MILLRACE_LEAKS");

    return value != NULL && strcmp(value, "each") == 0;
}

static void run_case(const struct test_case *one)
{
    struct test t = {one->name, now.dir};

    now.name = one->name;
    atomic_store(&now.failed, false);
    now.skipped = false;
    if (!make_dir(one->name)) {
        atomic_store(&now.failed, true);
        return;
    }
    if (setjmp(now.out) == 0)
        one->run(&t);
    for (size_t i = 0; i < now.path_count; i++)
        free(now.paths[i]);
    now.path_count = 0;
    if (!atomic_load(&now.failed) && !now.skipped && looks_behind_each_test() && leaked()) {
        printf("# memory leaked (see above)\n");
        atomic_store(&now.failed, true);
    }
    if (atomic_load(&now.failed) || getenv("MILLRACE_TEST_KEEP") != NULL)
        printf("# directory kept: %s\n", now.dir);
    else
        remove_tree(now.dir);
    now.name = NULL;
}

static void print_sentence(const char *name)
{
    for (; *name != '\0'; name++)
        putchar(*name == '_' ? ' ' : *name);
}

int main(int argc, char **argv)
{
    const bool list = argc > 1 && strcmp(argv[1], "--list") == 0;
    const char *filter = argc > 1 && !list ? argv[1] : "";
    unsigned passed = 0, failed = 0, skipped = 0, number = 0;

    /* Line by line, so that a crash loses nothing of what was said before it. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    now.thread = pthread_self();
    watch_for_death();
    for (const struct test_case *one = first_case; one != NULL; one = one->next) {
        if (list) {
            puts(one->name);
            continue;
        }
        if (strstr(one->name, filter) == NULL)
            continue;
        run_case(one);
        printf("%s %u - ", atomic_load(&now.failed) ? "not ok" : "ok", ++number);
        print_sentence(one->name);
        printf("%s\n", now.skipped ? " # SKIP" : "");
        if (atomic_load(&now.failed))
            failed++;
        else if (now.skipped)
            skipped++;
        else
            passed++;
    }
    if (list)
        return 0;
    if (number == 0)
        printf("# no test's name contains '%s'\n", filter);
    /* A failed test leaves without cleaning up: the leaks of that are not news. */
    if (failed == 0 && leaked()) {
        printf("not ok %u - a test leaked memory (see above); MILLRACE_LEAKS=each names it\n",
               ++number);
        failed++;
    }
    if (skipped > 0)
        printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    else
        printf("%u passed, %u failed\n", passed, failed);
    fflush(NULL);
    if (failed > 0 || number == 0)
        _exit(1);
    return 0;
}
