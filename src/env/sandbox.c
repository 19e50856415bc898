/*
 * The sandbox: see sandbox.h. Called once, by the command.
 *
 * Landlock decides about paths (a rule is an open directory, so renaming one does not move it),
 * seccomp about calls. What a filter refuses gives EPERM, clone3 gives ENOSYS so that libc falls
 * back to clone, whose flags can be looked at: threads may be made, processes may not. Nothing may
 * become executable memory any more.
 *
 * Thread: the first, before there is another.
 */
#include "env/sandbox.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---------------------------------------------------------------- paths */

/* Of later kernels than the headers may know. */
#define ACCESS_REFER (UINT64_C(1) << 13)
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_TCP (UINT64_C(1) << 0)

/* What the kernel takes: each version of Landlock knows more, and a longer struct. */
struct ruleset {
    uint64_t handled_fs;
    uint64_t handled_net; /* since 4 */
};

static const uint64_t READS = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t FILE_RIGHTS = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                    LANDLOCK_ACCESS_FS_READ_FILE | ACCESS_TRUNCATE |
                                    ACCESS_IOCTL_DEV;

static uint64_t rights_known(long version)
{
    uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

    if (version >= 2)
        rights |= ACCESS_REFER;
    if (version >= 3)
        rights |= ACCESS_TRUNCATE;
    if (version >= 5)
        rights |= ACCESS_IOCTL_DEV;
    return rights;
}

/* Regular files, directories, and names moved between directories: no devices, sockets, FIFOs. */
static uint64_t rights_of(const struct mr_sandbox_path *path, uint64_t known)
{
    static const uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                   LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                   LANDLOCK_ACCESS_FS_MAKE_DIR | ACCESS_REFER | ACCESS_TRUNCATE;

    return (READS | (path->write ? writes : 0)) & known;
}

static enum mr_status allow_path(int ruleset, uint64_t known, const struct mr_sandbox_path *path,
                                 struct mr_error *err)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights_of(path, known)};
    struct stat info;
    int kept;

    rule.parent_fd = open(path->path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0) {
        if (errno == ENOENT && !path->write)
            return MR_OK;
        return MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: cannot open '%s': %s", path->path,
                       strerror(errno));
    }
    if (fstat(rule.parent_fd, &info) == 0 && !S_ISDIR(info.st_mode))
        rule.allowed_access &= FILE_RIGHTS;
    kept = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0
               ? 0
               : errno;
    close(rule.parent_fd);
    if (kept != 0)
        return MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: no rule for '%s': %s", path->path,
                       strerror(kept));
    return MR_OK;
}

static enum mr_status restrict_paths(const struct mr_sandbox_path *paths, size_t count,
                                     struct mr_error *err)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset rules = {0};
    enum mr_status status = MR_OK;
    int ruleset;

    if (version < 1)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot enter the sandbox: this kernel has no Landlock (%s); run without "
                       "--sandbox, or on Linux 5.13 or newer with it switched on",
                       strerror(errno));
    rules.handled_fs = rights_known(version);
    rules.handled_net = version >= 4 ? NET_BIND_TCP : 0; /* nothing here listens */
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules,
                           version >= 4 ? sizeof(rules) : sizeof(rules.handled_fs), 0);
    if (ruleset < 0)
        return MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: no rules for paths: %s",
                       strerror(errno));
    for (size_t i = 0; i < count && status == MR_OK; i++)
        status = allow_path(ruleset, rules.handled_fs, &paths[i], err);
    if (status == MR_OK && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        status = MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: %s", strerror(errno));
    close(ruleset);
    return status;
}

/* ---------------------------------------------------------------- system calls */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

#define CALL_NUMBER (uint32_t) offsetof(struct seccomp_data, nr)
#define CALL_ARCHITECTURE (uint32_t) offsetof(struct seccomp_data, arch)
#define ARGUMENT_LOW(n) (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n))

#define REFUSE(os_errno) (SECCOMP_RET_ERRNO | (os_errno))

/* Calls that are allowed whatever their arguments: files, sockets, memory, time, threads. */
static const int allowed_calls[] = {
    /* files */
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_openat,
    SYS_close,
    SYS_close_range,
    SYS_lseek,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_fcntl,
    SYS_flock,
    SYS_fsync,
    SYS_fdatasync,
    SYS_sync_file_range,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fadvise64,
    SYS_readahead,
    SYS_getdents64,
    SYS_getcwd,
    SYS_mkdirat,
    SYS_unlinkat,
    SYS_linkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_readlinkat,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_utimensat,
    SYS_umask,
    SYS_dup,
    SYS_dup3,
    SYS_pipe2,
    SYS_eventfd2,
    SYS_ioctl,
    SYS_copy_file_range,
    SYS_sendfile,
    SYS_msync,
    /* sockets; which families is checked at socket() */
    SYS_connect,
    SYS_bind,
    SYS_getsockname,
    SYS_getpeername,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_shutdown,
    SYS_setsockopt,
    SYS_getsockopt,
    SYS_socketpair,
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    /* memory; what may be executed is checked at mmap() and mprotect() */
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_mlock,
    SYS_munlock,
    SYS_membarrier,
    SYS_mincore,
    SYS_get_mempolicy,
    /* time */
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_setitimer,
    SYS_getitimer,
    /* threads, signals, the process itself */
    SYS_futex,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_getpriority,
    SYS_getcpu,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    SYS_getrandom,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrusage,
    SYS_prlimit64,
    SYS_times,
#if defined(__x86_64__)
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_poll,
    SYS_select,
    SYS_epoll_wait,
    SYS_pipe,
    SYS_dup2,
    SYS_mkdir,
    SYS_rmdir,
    SYS_unlink,
    SYS_rename,
    SYS_link,
    SYS_readlink,
    SYS_chmod,
    SYS_getdents,
    SYS_time,
    SYS_arch_prctl,
    SYS_getrlimit,
    SYS_epoll_create,
#endif
};

enum { PROGRAM_MAX = 64 + 2 * MR_ARRAY_SIZE(allowed_calls) };

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short size;
};

static void add(struct program *program, struct sock_filter instruction)
{
    MR_ASSERT(program->size < PROGRAM_MAX);
    program->code[program->size++] = instruction;
}

static void load(struct program *program, uint32_t offset)
{
    add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void answer(struct program *program, uint32_t verdict)
{
    add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

/* The next `skip` instructions are for this value only. */
static void unless_equal_skip(struct program *program, uint32_t value, uint8_t skip)
{
    add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip));
}

/* The next instruction is for values that have one of these bits. */
static void unless_any_skip(struct program *program, uint32_t bits)
{
    add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
}

static void allow_unless(struct program *program, long call, unsigned argument, uint32_t bits)
{
    unless_equal_skip(program, (uint32_t)call, 4);
    load(program, ARGUMENT_LOW(argument));
    unless_any_skip(program, bits);
    answer(program, REFUSE(EPERM));
    answer(program, SECCOMP_RET_ALLOW);
}

/* call(argument) is allowed for these values of it, and ends the program. */
static void allow_values(struct program *program, long call, unsigned argument,
                         const uint32_t *values, uint8_t count)
{
    unless_equal_skip(program, (uint32_t)call, (uint8_t)(2 + 2 * count));
    load(program, ARGUMENT_LOW(argument));
    for (uint8_t i = 0; i < count; i++) {
        unless_equal_skip(program, values[i], 1);
        answer(program, SECCOMP_RET_ALLOW);
    }
    answer(program, REFUSE(EPERM));
}

static void write_program(struct program *program)
{
    static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    static const uint32_t names[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE};
    const uint32_t self = (uint32_t)getpid();

    load(program, CALL_ARCHITECTURE);
    unless_equal_skip(program, ARCHITECTURE, 1);
    add(program, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load(program, CALL_NUMBER);
    unless_equal_skip(program, SYS_clone3, 1);
    answer(program, REFUSE(ENOSYS));
    /* a process is made without CLONE_THREAD: nothing to refuse by a bit that must be set */
    unless_equal_skip(program, SYS_clone, 4);
    load(program, ARGUMENT_LOW(0));
    unless_any_skip(program, CLONE_THREAD);
    answer(program, SECCOMP_RET_ALLOW);
    answer(program, REFUSE(EPERM));
    allow_unless(program, SYS_mmap, 2, PROT_EXEC);
    allow_unless(program, SYS_mprotect, 2, PROT_EXEC);
    allow_values(program, SYS_socket, 0, families, MR_ARRAY_SIZE(families));
    allow_values(program, SYS_prctl, 0, names, MR_ARRAY_SIZE(names));
    allow_values(program, SYS_kill, 0, &self, 1);
    allow_values(program, SYS_tgkill, 0, &self, 1);
    for (size_t i = 0; i < MR_ARRAY_SIZE(allowed_calls); i++) {
        unless_equal_skip(program, (uint32_t)allowed_calls[i], 1);
        answer(program, SECCOMP_RET_ALLOW);
    }
    answer(program, REFUSE(EPERM));
}

static enum mr_status restrict_calls(struct mr_error *err)
{
    struct program program = {.size = 0};
    struct sock_fprog filter;

    if (ARCHITECTURE == 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot enter the sandbox: it knows the system calls of x86-64 and arm64 "
                       "only; run without --sandbox");
    write_program(&program);
    filter = (struct sock_fprog){.len = program.size, .filter = program.code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot enter the sandbox: this kernel takes no seccomp filter: %s",
                       strerror(errno));
    return MR_OK;
}

enum mr_status mr_sandbox_enter(const struct mr_sandbox_path *paths, size_t count,
                                struct mr_error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: %s", strerror(errno));
    MR_TRY(restrict_paths(paths, count, err));
    return restrict_calls(err);
}
