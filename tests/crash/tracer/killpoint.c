/*
 * killpoint: stop a program at one exact system call.
 *
 *   killpoint count  [options] -- program args...
 *   killpoint kill   [options] --at K --phase entry|torn|exit -- program args...
 *   killpoint inject [options] --at K --errno NAME [--every] -- program args...
 *   killpoint inject [options] --at K --short N    [--every] -- program args...
 *   killpoint inject [options] --at K --delay MS   [--every] -- program args...
 *
 * Called by tests/crash/run, which walks K over every point of a run. Needs libc only.
 *
 * How it works. The child installs a seccomp filter that answers SECCOMP_RET_TRACE for the calls
 * in calls.h (those which change files, directories or, when asked, peers) and ALLOW for all
 * others, so the program runs at full speed between two stops. The tracer gets each stop in turn,
 * over all threads and all processes of the tree, and numbers it: 1, 2, 3 ...
 *
 *   entry   SIGKILL while the call waits in the stop: the kernel does not run it
 *   torn    the byte count of the call is halved first, then as `exit` (a call without one: `exit`)
 *   exit    the call runs, SIGKILL before the program sees the result
 *   delay   the call waits in the stop for so long, while all other tasks run on
 *
 * State of a task:
 *
 *   RUNNING --stop K, needs the result--> IN_CALL --exit stop--> RUNNING | killed
 *
 * Report. One line per call (count, or --list), then one line of key=value pairs, in FILE of -o, or
 * on standard error. Exit codes:
 *
 *     0   the program ended by itself with code 0 (for `kill`: before call K came)
 *     1   the program ended by itself with another code, see exit= in the report
 *     2   the program died of a signal that killpoint did not send, see signal=
 *    64   usage
 *    70   cannot trace, or cannot start the program
 *   124   --timeout passed; the tree was killed
 *   137   killed at the point
 *
 * Invariants: when killpoint returns, no process of the tree is left (PTRACE_O_EXITKILL covers its
 * own death). Not seen: stores through a shared mapping, work done by an io_uring poll thread.
 * Threads: killpoint has one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

#define TASKS_MAX 4096
#define DETAIL_MAX (2 * PATH_MAX + 64)
#define TICK_MS 50
#define HOLD_TICK_MS 2

enum mode { MODE_COUNT, MODE_KILL, MODE_INJECT };
enum phase { PHASE_ENTRY, PHASE_TORN, PHASE_EXIT };

/* What the tracer does when the call it let run comes back. */
enum at_exit { EXIT_NOTHING, EXIT_KILL, EXIT_RESTORE, EXIT_ERRNO };

struct options {
    enum mode mode;
    enum phase phase;
    uint64_t at;
    int error;           /* 0: none */
    int64_t short_bytes; /* -1: none */
    int64_t delay_ms;    /* -1: none */
    bool every;
    bool list;
    bool files_only;
    bool net;
    bool pin;
    int timeout_s;
    char under[PATH_MAX]; /* "": everywhere */
    const char *report_path;
    bool off[CALLS_COUNT];
};

struct task {
    pid_t tid;
    int index; /* order of appearance: stable from run to run, unlike the tid */
    enum at_exit at_exit;
    struct user_regs_struct regs; /* as they were at the stop */
    int64_t held_until_ms;        /* 0: not held */
};

static struct options opt = {.short_bytes = -1, .delay_ms = -1};
static struct task tasks[TASKS_MAX];
static size_t task_count;
static int next_index;
static FILE *report;
static pid_t root;
static int root_status;
static bool started; /* the program's own exec has happened */
static bool killing; /* SIGKILL has been sent to the tree */
static bool killed_at_point;
static bool timed_out;
static uint64_t call_count;
static uint64_t injected_count;
static char point_detail[DETAIL_MAX];
static volatile sig_atomic_t ticks;

__attribute__((noreturn, format(printf, 2, 3))) static void die(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("killpoint: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(code); /* PTRACE_O_EXITKILL takes the tree along */
}

/* ---- the filter ---- */

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IF_EQ(value, then, other) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, other)
#define IF_BITS(value, then, other) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, value, then, other)
#define IF_GE(value, then, other) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, then, other)

/* An open which neither creates, truncates nor allows writing leaves nothing behind. */
#define OPEN_CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define FILTER_MAX (8 + 8 * CALLS_COUNT)

static size_t filter_add_call(struct sock_filter *out, const struct call *call)
{
    uint32_t nr = (uint32_t)call->nr;
    struct sock_filter plain[] = {IF_EQ(nr, 0, 1), ANSWER(SECCOMP_RET_TRACE)};
    struct sock_filter at_open[] = {
        IF_EQ(nr, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, call->flags_arg == 1
                                               ? offsetof(struct seccomp_data, args[1])
                                               : offsetof(struct seccomp_data, args[2])),
        IF_BITS(OPEN_CHANGES, 0, 1),
        ANSWER(SECCOMP_RET_TRACE),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_filter map[] = {
        IF_EQ(nr, 0, 7),
        LOAD(args[2]),
        IF_BITS(PROT_WRITE, 0, 4),
        LOAD(args[3]),
        IF_BITS(MAP_ANONYMOUS, 2, 0),
        IF_BITS(MAP_SHARED, 0, 1), /* also MAP_SHARED_VALIDATE; MAP_PRIVATE has the bit clear */
        ANSWER(SECCOMP_RET_TRACE),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    const struct sock_filter *part = plain;
    size_t count = sizeof(plain) / sizeof(plain[0]);

    if (call->nr == SYS_mmap) {
        part = map;
        count = sizeof(map) / sizeof(map[0]);
    } else if (call->flags_arg >= 0) {
        part = at_open;
        count = sizeof(at_open) / sizeof(at_open[0]);
    }
    memcpy(out, part, count * sizeof(*part));
    return count;
}

/* Runs in the child, just before exec. */
static int filter_install(void)
{
    static struct sock_filter code[FILTER_MAX];
    const struct sock_filter head[] = {
        LOAD(arch),
        IF_EQ(AUDIT_ARCH_X86_64, 1, 0),
        ANSWER(SECCOMP_RET_KILL_PROCESS), /* a 32-bit program would slip past the numbers below */
        LOAD(nr),
        IF_GE(0x40000000u, 0, 1), /* the x32 numbers: the same */
        ANSWER(SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_filter tail[] = {ANSWER(SECCOMP_RET_ALLOW)};
    size_t count = sizeof(head) / sizeof(head[0]);
    struct sock_fprog program = {.filter = code};

    memcpy(code, head, sizeof(head));
    for (size_t i = 0; i < CALLS_COUNT; i++) {
        if (!opt.off[i])
            count += filter_add_call(code + count, &calls[i]);
    }
    memcpy(code + count, tail, sizeof(tail));
    program.len = (unsigned short)(count + 1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- tasks ---- */

static struct task *task_find(pid_t tid)
{
    for (size_t i = 0; i < task_count; i++) {
        if (tasks[i].tid == tid)
            return &tasks[i];
    }
    return NULL;
}

static struct task *task_get(pid_t tid)
{
    struct task *task = task_find(tid);

    if (task != NULL)
        return task;
    if (task_count == TASKS_MAX)
        die(70, "more than %d tasks at one time", TASKS_MAX);
    task = &tasks[task_count++];
    *task = (struct task){.tid = tid, .index = next_index++};
    return task;
}

static void task_drop(pid_t tid)
{
    struct task *task = task_find(tid);

    if (task != NULL)
        *task = tasks[--task_count];
}

static void resume(pid_t tid, enum __ptrace_request how, int sig)
{
    /* ESRCH: the task was killed in the meantime; wait() will tell. */
    if (ptrace(how, tid, NULL, (void *)(intptr_t)sig) == -1 && errno != ESRCH)
        die(70, "cannot resume task %d: %s", (int)tid, strerror(errno));
}

/* SIGKILL to one task ends its whole thread group. A task that appears later, from a fork that was
 * under way, is killed at its first stop. */
static void kill_tree(void)
{
    killing = true;
    for (size_t i = 0; i < task_count; i++)
        (void)kill(tasks[i].tid, SIGKILL);
}

/* ---- what a call touches ---- */

static uint64_t *reg_arg(struct user_regs_struct *regs, int index)
{
    unsigned long long *where[] = {&regs->rdi, &regs->rsi, &regs->rdx,
                                   &regs->r10, &regs->r8,  &regs->r9};

    return (uint64_t *)where[index];
}

static bool read_memory(pid_t tid, uint64_t address, void *out, size_t size)
{
    struct iovec here = {.iov_base = out, .iov_len = size};
    struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};

    return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static bool read_path(pid_t tid, uint64_t address, char *out)
{
    size_t length = 0;

    /* Up to the end of a page at a time: the bytes behind the string may not be mapped. */
    while (length < PATH_MAX) {
        size_t chunk = 256 - (size_t)((address + length) & 255);

        if (chunk > PATH_MAX - length)
            chunk = PATH_MAX - length;
        if (!read_memory(tid, address + length, out + length, chunk))
            return false;
        if (memchr(out + length, '\0', chunk) != NULL)
            return true;
        length += chunk;
    }
    return false;
}

/* Reads where a link below /proc leads; "" when there is none. */
static void read_link(pid_t tid, const char *name, int fd, char *out)
{
    char link[64];
    ssize_t length;

    if (fd >= 0 || name == NULL)
        snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)tid, fd);
    else
        snprintf(link, sizeof(link), "/proc/%d/%s", (int)tid, name);
    length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = '\0';
}

/* The directory part with its symbolic links resolved, the last part as given: calls on names act
 * on the link itself. */
static void resolve_parent(char *path)
{
    char parent[PATH_MAX];
    char real[PATH_MAX];
    char last[PATH_MAX];
    char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path || strlen(slash) < 2)
        return;
    snprintf(last, sizeof(last), "%s", slash + 1);
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    if (realpath(parent, real) == NULL || strlen(real) + strlen(last) + 2 > PATH_MAX)
        return;
    memcpy(path, real, strlen(real));
    path[strlen(real)] = '/';
    memcpy(path + strlen(real) + 1, last, strlen(last) + 1);
}

/* Fills the full name of what (directory descriptor, path) means for the task. */
static void name_of_path(pid_t tid, int dir_fd, uint64_t address, char *out)
{
    char path[PATH_MAX];
    char base[PATH_MAX];

    out[0] = '\0';
    if (!read_path(tid, address, path))
        return;
    if (path[0] == '/') {
        memcpy(out, path, strlen(path) + 1);
    } else {
        read_link(tid, "cwd", dir_fd == AT_FDCWD ? -1 : dir_fd, base);
        if (strlen(base) + strlen(path) + 2 > PATH_MAX)
            return;
        if (path[0] == '\0')
            memcpy(out, base, strlen(base) + 1);
        else
            snprintf(out, PATH_MAX, "%.*s/%.*s", PATH_MAX / 2, base, PATH_MAX / 2 - 2, path);
    }
    resolve_parent(out);
}

/* Names of the objects a call works on: one, or two for rename and link. */
static void call_names(const struct call *call, struct task *task, char *first, char *second)
{
    struct user_regs_struct *regs = &task->regs;
    int fd = call->fd_arg < 0 ? AT_FDCWD : (int)*reg_arg(regs, call->fd_arg);
    int fd2 = call->fd2_arg < 0 ? AT_FDCWD : (int)*reg_arg(regs, call->fd2_arg);

    first[0] = second[0] = '\0';
    if (call->path_arg >= 0)
        name_of_path(task->tid, fd, *reg_arg(regs, call->path_arg), first);
    else if (call->fd_arg >= 0)
        read_link(task->tid, NULL, fd, first);
    if (call->path2_arg >= 0)
        name_of_path(task->tid, fd2, *reg_arg(regs, call->path2_arg), second);
}

static bool is_under(const char *path)
{
    size_t length = strlen(opt.under);

    if (path[0] != '/' || strncmp(path, "/memfd:", 7) == 0)
        return false;
    if (length == 0)
        return true;
    return strncmp(path, opt.under, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* Is the descriptor a regular file or a directory, one that matters for this call? */
static bool fd_counts(const struct call *call, struct task *task)
{
    char link[64];
    struct stat st;
    int fd = (int)*reg_arg(&task->regs, call->fd_arg);

    snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)task->tid, fd);
    if (stat(link, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return false;
    /* Closing what was only read changes nothing. The link's own mode tells how it was opened. */
    if (call->nr == SYS_close)
        return lstat(link, &st) == 0 && (st.st_mode & S_IWUSR) != 0;
    return true;
}

static bool call_counts(const struct call *call, struct task *task)
{
    char first[PATH_MAX];
    char second[PATH_MAX];

    if (!opt.files_only && opt.under[0] == '\0')
        return true;
    if (call->fd_arg < 0 && call->path_arg < 0)
        return true; /* msync and io_uring_enter name no file */
    call_names(call, task, first, second);
    if (opt.net && strncmp(first, "socket:", 7) == 0)
        return call->nr != SYS_close;
    if (!is_under(first) && !is_under(second))
        return false;
    return call->path_arg >= 0 || fd_counts(call, task);
}

/* One line of the listing: name, object, byte count. Inode numbers of sockets and pipes are left
 * out, so that two listings can be compared. */
static void call_describe(const struct call *call, struct task *task, char *out)
{
    char first[PATH_MAX];
    char second[PATH_MAX];
    size_t at;

    call_names(call, task, first, second);
    if (first[0] != '/' && strchr(first, ':') != NULL)
        *strchr(first, ':') = '\0';
    at = (size_t)snprintf(out, DETAIL_MAX, "%s %s", call->name, first);
    if (second[0] != '\0')
        at += (size_t)snprintf(out + at, DETAIL_MAX - at, " -> %s", second);
    if (call->length_arg >= 0)
        snprintf(out + at, DETAIL_MAX - at, " len=%" PRIu64,
                 *reg_arg(&task->regs, call->length_arg));
}

/* ---- changing a call ---- */

static void set_regs(struct task *task, struct user_regs_struct *regs)
{
    if (ptrace(PTRACE_SETREGS, task->tid, NULL, regs) == -1 && errno != ESRCH)
        die(70, "cannot set registers of task %d: %s", (int)task->tid, strerror(errno));
}

/* Makes the call move at most `limit` bytes (half of them when limit is -1). A vector is replaced
 * by its first non-empty part, with the matching plain call. False: the call has no byte count, or
 * it is too small to be cut. */
static bool shorten(const struct call *call, struct task *task, int64_t limit)
{
    struct user_regs_struct regs = task->regs;
    struct iovec part = {0};
    uint64_t length;

    if (call->vector) {
        uint64_t parts = *reg_arg(&regs, 2);
        uint64_t address = *reg_arg(&regs, 1);

        for (uint64_t i = 0; i < parts && i < IOV_MAX && part.iov_len == 0; i++) {
            if (!read_memory(task->tid, address + i * sizeof(part), &part, sizeof(part)))
                return false;
        }
        *reg_arg(&regs, 1) = (uint64_t)(uintptr_t)part.iov_base;
        *reg_arg(&regs, 2) = part.iov_len;
        /* pwritev2 with offset -1 means the file position, which pwrite64 cannot say. */
        regs.orig_rax = call->nr == SYS_writev || regs.r10 == UINT64_MAX ? SYS_write : SYS_pwrite64;
        length = part.iov_len;
    } else if (call->length_arg >= 0) {
        length = *reg_arg(&regs, call->length_arg);
    } else {
        return false;
    }
    limit = limit < 0 ? (int64_t)(length / 2) : limit;
    if (length < 2 || limit < 1)
        return false;
    *reg_arg(&regs, call->vector ? 2 : call->length_arg) =
        (uint64_t)limit < length ? (uint64_t)limit : length;
    set_regs(task, &regs);
    return true;
}

static void run_to_exit(struct task *task, enum at_exit what)
{
    task->at_exit = what;
    resume(task->tid, PTRACE_SYSCALL, 0);
}

static void do_kill_point(const struct call *call, struct task *task)
{
    call_describe(call, task, point_detail);
    if (opt.phase == PHASE_ENTRY) {
        killed_at_point = true;
        kill_tree();
        return;
    }
    if (opt.phase == PHASE_TORN)
        (void)shorten(call, task, -1);
    run_to_exit(task, EXIT_KILL);
}

static int64_t now_ms(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        die(70, "cannot read the clock: %s", strerror(errno));
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Lets those go on whose delay is over. */
static void release_held(void)
{
    for (size_t i = 0; i < task_count; i++) {
        if (tasks[i].held_until_ms == 0 || now_ms() < tasks[i].held_until_ms)
            continue;
        tasks[i].held_until_ms = 0;
        resume(tasks[i].tid, PTRACE_CONT, 0);
    }
}

static void do_inject(const struct call *call, struct task *task)
{
    struct user_regs_struct regs = task->regs;

    if (injected_count++ == 0)
        call_describe(call, task, point_detail);
    if (opt.delay_ms >= 0) {
        task->held_until_ms = now_ms() + opt.delay_ms;
    } else if (opt.short_bytes >= 0) {
        /* The C library counts on its registers after a call: put them back at the exit. */
        if (shorten(call, task, opt.short_bytes))
            run_to_exit(task, EXIT_RESTORE);
        else
            resume(task->tid, PTRACE_CONT, 0);
    } else if (call->nr == SYS_close) {
        /* Linux frees the descriptor whatever close() answers. */
        run_to_exit(task, EXIT_ERRNO);
    } else {
        regs.orig_rax = UINT64_MAX; /* skip the call; rax is its result */
        regs.rax = (unsigned long long)(long long)-opt.error;
        set_regs(task, &regs);
        resume(task->tid, PTRACE_CONT, 0);
    }
}

/* ---- events ---- */

static void on_call(struct task *task)
{
    const struct call *call = NULL;
    char detail[DETAIL_MAX];
    bool here;

    if (ptrace(PTRACE_GETREGS, task->tid, NULL, &task->regs) == -1)
        return; /* killed in the stop */
    for (size_t i = 0; i < CALLS_COUNT && call == NULL; i++) {
        if ((unsigned long long)calls[i].nr == task->regs.orig_rax)
            call = &calls[i];
    }
    if (call == NULL || !started || !call_counts(call, task)) {
        resume(task->tid, PTRACE_CONT, 0);
        return;
    }
    call_count++;
    if (opt.list) {
        call_describe(call, task, detail);
        fprintf(report, "%" PRIu64 "\tt%d\t%s\n", call_count, task->index, detail);
    }
    here = call_count == opt.at || (opt.every && call_count > opt.at);
    if (opt.mode == MODE_KILL && here)
        do_kill_point(call, task);
    else if (opt.mode == MODE_INJECT && here)
        do_inject(call, task);
    else
        resume(task->tid, PTRACE_CONT, 0);
}

static void on_call_exit(struct task *task)
{
    struct user_regs_struct regs;
    enum at_exit what = task->at_exit;

    task->at_exit = EXIT_NOTHING;
    if (what == EXIT_KILL) {
        killed_at_point = true;
        kill_tree();
        return;
    }
    if (what != EXIT_NOTHING && ptrace(PTRACE_GETREGS, task->tid, NULL, &regs) == 0) {
        unsigned long long result =
            what == EXIT_ERRNO ? (unsigned long long)(long long)-opt.error : regs.rax;

        /* A call that a signal interrupted is restarted whole, unless its answer was replaced. */
        regs = task->regs;
        regs.rax = result;
        regs.orig_rax = what == EXIT_ERRNO ? UINT64_MAX : regs.orig_rax;
        set_regs(task, &regs);
    }
    resume(task->tid, PTRACE_CONT, 0);
}

static void on_exec(pid_t tid)
{
    unsigned long former = 0;

    /* A thread that calls exec takes over the identity of its leader. */
    if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &former) == 0 && (pid_t)former != tid)
        task_drop((pid_t)former);
    started = true;
    resume(tid, PTRACE_CONT, 0);
}

static void on_stop(pid_t tid, int status)
{
    struct task *task = task_get(tid);
    int sig = WSTOPSIG(status);
    unsigned long child = 0;

    if (killing) {
        (void)kill(tid, SIGKILL);
        return;
    }
    switch (status >> 16) {
    case PTRACE_EVENT_SECCOMP:
        on_call(task);
        return;
    case PTRACE_EVENT_EXEC:
        on_exec(tid);
        return;
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
        if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child) == 0)
            (void)task_get((pid_t)child);
        resume(tid, PTRACE_CONT, 0);
        return;
    case PTRACE_EVENT_STOP:
        /* The first stop of a new task, or the whole group was stopped by a signal. */
        if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
            resume(tid, PTRACE_LISTEN, 0);
        else
            resume(tid, PTRACE_CONT, 0);
        return;
    default:
        break;
    }
    if (sig == (SIGTRAP | 0x80))
        on_call_exit(task);
    else
        resume(tid, PTRACE_CONT, sig);
}

static int tick_ms(void)
{
    return opt.delay_ms >= 0 ? HOLD_TICK_MS : TICK_MS;
}

static void on_tick(int sig)
{
    (void)sig;
    ticks++;
}

/* Runs until every task of the tree is reaped. */
static void trace_loop(void)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);

        if (tid == -1 && errno == ECHILD)
            return;
        if (opt.delay_ms >= 0 && !killing)
            release_held();
        if (opt.timeout_s > 0 && ticks > opt.timeout_s * (1000 / tick_ms()) && !killing) {
            timed_out = true;
            kill_tree();
        }
        if (tid == -1) {
            if (errno != EINTR)
                die(70, "cannot wait: %s", strerror(errno));
            continue;
        }
        if (WIFSTOPPED(status)) {
            on_stop(tid, status);
            continue;
        }
        task_drop(tid);
        if (tid == root)
            root_status = status;
    }
}

/* ---- start and report ---- */

static void start_program(char **argv)
{
    const int cpu = sched_getcpu();
    const long flags = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                       PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD |
                       PTRACE_O_EXITKILL;
    int gate[2];
    char byte = 0;
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET((unsigned)(cpu < 0 ? 0 : cpu), &one);
    if (opt.pin)
        (void)sched_setaffinity(0, sizeof(one), &one);
    if (pipe2(gate, O_CLOEXEC) != 0)
        die(70, "cannot make a pipe: %s", strerror(errno));
    /* Orphans of the tree come to us, so that none stays behind as a zombie. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    root = fork();
    if (root == -1)
        die(70, "cannot fork: %s", strerror(errno));
    if (root == 0) {
        /* Until the tracer is attached, a stop in the filter would answer ENOSYS. */
        if (read(gate[0], &byte, 1) != 1 || filter_install() != 0)
            _exit(126);
        execvp(argv[0], argv);
        _exit(127);
    }
    (void)task_get(root);
    if (ptrace(PTRACE_SEIZE, root, NULL, (void *)flags) == -1)
        die(70, "cannot trace: %s", strerror(errno));
    if (write(gate[1], &byte, 1) != 1)
        die(70, "cannot start the program: %s", strerror(errno));
    close(gate[0]);
    close(gate[1]);
}

static int finish(const char *program)
{
    const char *outcome = "finished";
    int code = 0;

    if (!started && !timed_out)
        die(70, "cannot start '%s'", program);
    if (killed_at_point) {
        outcome = "killed";
        code = 137;
    } else if (timed_out) {
        outcome = "timeout";
        code = 124;
    } else if (WIFSIGNALED(root_status)) {
        outcome = "signal";
        code = 2;
    } else if (WEXITSTATUS(root_status) != 0) {
        code = 1;
    }
    fprintf(report, "outcome=%s calls=%" PRIu64 " exit=%d signal=%d injected=%" PRIu64, outcome,
            call_count, WIFEXITED(root_status) ? WEXITSTATUS(root_status) : -1,
            WIFSIGNALED(root_status) ? WTERMSIG(root_status) : 0, injected_count);
    fprintf(report, " point=%s\n", point_detail);
    if (fflush(report) != 0)
        die(70, "cannot write the report: %s", strerror(errno));
    return code;
}

/* ---- command line ---- */

__attribute__((noreturn)) static void usage(const char *what)
{
    fprintf(stderr,
            "killpoint: %s\n"
            "usage: killpoint count  [options] -- program args...\n"
            "       killpoint kill   [options] --at K --phase entry|torn|exit -- program args...\n"
            "       killpoint inject [options] --at K --errno NAME|--short N|--delay MS [--every]\n"
            "                        -- program args...\n"
            "  --files-only    count only calls on regular files and directories\n"
            "  --under DIR     ... below DIR\n"
            "  --net           also count sends to sockets\n"
            "  --only A,B      count only these calls;  --except A,B: all but these\n"
            "  --list          list the calls (always for count);  --no-list: do not\n"
            "  --pin           tracer and program on one CPU: faster stops, other interleavings\n"
            "  --timeout S     kill the tree after S seconds\n"
            "  -o FILE         the report; default: standard error\n",
            what);
    exit(64);
}

static int64_t parse_number(const char *text, int64_t min)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min)
        usage("a number is wrong or out of range");
    return value;
}

static int parse_errno(const char *name)
{
    for (int value = 1; value < 134; value++) {
        const char *known = strerrorname_np(value);

        if (known != NULL && strcmp(known, name) == 0)
            return value;
    }
    usage("unknown name after --errno");
}

/* Switches the named calls on and all others off (keep), or only the named ones off. */
static void parse_calls(const char *list, bool keep)
{
    char name[64];

    for (size_t i = 0; keep && i < CALLS_COUNT; i++)
        opt.off[i] = true;
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        bool known = false;

        if (length >= sizeof(name))
            usage("unknown call in a list");
        memcpy(name, list, length);
        name[length] = '\0';
        for (size_t i = 0; i < CALLS_COUNT; i++) {
            if (strcmp(calls[i].name, name) == 0) {
                opt.off[i] = !keep;
                known = true;
            }
        }
        if (!known)
            usage("unknown call in a list");
        list += length + (list[length] == ',');
    }
}

/* Reads the option at argv[i]; returns how many words it took. */
static int parse_option(char **argv, int i, int end)
{
    const char *name = argv[i];
    const char *value = i + 1 < end ? argv[i + 1] : NULL;

    if (strcmp(name, "--files-only") == 0)
        return opt.files_only = true;
    if (strcmp(name, "--net") == 0)
        return opt.net = true;
    if (strcmp(name, "--every") == 0)
        return opt.every = true;
    if (strcmp(name, "--pin") == 0)
        return opt.pin = true;
    if (strcmp(name, "--list") == 0)
        return opt.list = true;
    if (strcmp(name, "--no-list") == 0)
        return opt.list = false, 1;
    if (value == NULL)
        usage("unknown option, or its value is missing");
    if (strcmp(name, "--at") == 0) {
        opt.at = (uint64_t)parse_number(value, 1);
    } else if (strcmp(name, "--phase") == 0) {
        opt.phase = strcmp(value, "entry") == 0  ? PHASE_ENTRY
                    : strcmp(value, "torn") == 0 ? PHASE_TORN
                                                 : PHASE_EXIT;
        if (opt.phase == PHASE_EXIT && strcmp(value, "exit") != 0)
            usage("--phase is entry, torn or exit");
    } else if (strcmp(name, "--errno") == 0) {
        opt.error = parse_errno(value);
    } else if (strcmp(name, "--short") == 0) {
        opt.short_bytes = parse_number(value, 1);
    } else if (strcmp(name, "--delay") == 0) {
        opt.delay_ms = parse_number(value, 1);
    } else if (strcmp(name, "--timeout") == 0) {
        opt.timeout_s = (int)parse_number(value, 1);
    } else if (strcmp(name, "--only") == 0 || strcmp(name, "--except") == 0) {
        parse_calls(value, name[2] == 'o');
    } else if (strcmp(name, "-o") == 0) {
        opt.report_path = value;
    } else if (strcmp(name, "--under") == 0) {
        if (realpath(value, opt.under) == NULL)
            usage("the directory after --under does not exist");
    } else {
        usage("unknown option");
    }
    return 2;
}

/* Returns the index of the program in argv. */
static int parse_command_line(int argc, char **argv)
{
    int end = 1;

    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    if (end < 2 || end + 1 >= argc)
        usage("say what to do, then --, then a program");
    if (strcmp(argv[1], "count") == 0) {
        opt.mode = MODE_COUNT;
        opt.list = true;
    } else if (strcmp(argv[1], "kill") == 0) {
        opt.mode = MODE_KILL;
    } else if (strcmp(argv[1], "inject") == 0) {
        opt.mode = MODE_INJECT;
    } else {
        usage("the first word is count, kill or inject");
    }
    for (int i = 2; i < end;)
        i += parse_option(argv, i, end);
    if (opt.mode != MODE_COUNT && opt.at == 0)
        usage("--at is missing");
    if (opt.mode == MODE_INJECT &&
        (opt.error != 0) + (opt.short_bytes >= 0) + (opt.delay_ms >= 0) != 1)
        usage("inject wants --errno, --short or --delay");
    for (size_t i = 0; i < CALLS_COUNT; i++) {
        bool cut = calls[i].length_arg >= 0 || calls[i].vector;

        if ((calls[i].net && !opt.net) || (opt.mode == MODE_INJECT && opt.short_bytes >= 0 && !cut))
            opt.off[i] = true;
    }
    return end + 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_tick};
    int program = parse_command_line(argc, argv);
    struct itimerval tick = {.it_interval = {.tv_usec = tick_ms() * 1000},
                             .it_value = {.tv_usec = tick_ms() * 1000}};

    report = stderr;
    if (opt.report_path != NULL)
        report = fopen(opt.report_path, "we");
    if (report == NULL)
        die(70, "cannot create '%s': %s", opt.report_path, strerror(errno));
    start_program(argv + program);
    if (opt.timeout_s > 0 || opt.delay_ms >= 0) {
        (void)sigaction(SIGALRM, &action, NULL);
        (void)setitimer(ITIMER_REAL, &tick, NULL);
    }
    trace_loop();
    return finish(argv[program]);
}
