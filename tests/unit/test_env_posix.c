/* The POSIX environment: files, directories, locks, sockets, standard streams, and their errors. */
#include "support/test.h"

#include <millrace/ext/env.h>

#include "env/thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static struct mr_error err;

static struct mr_env *env(void)
{
    return mr_env_posix();
}

/* Makes a file with that text. */
static void put(const char *path, const char *text)
{
    struct mr_file *file;
    unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE;

    CHECK_OK(mr_env_open(env(), path, flags, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env(), file, text, strlen(text), 0, &err), &err);
    CHECK_OK(mr_env_sync(env(), file, &err), &err);
    mr_env_close(env(), file);
}

static void check_text(const char *path, const char *want)
{
    struct mr_file *file;
    char text[100];
    size_t size;

    CHECK_OK(mr_env_open(env(), path, MR_FILE_READ, &file, &err), &err);
    CHECK_OK(mr_env_pread(env(), file, text, sizeof(text) - 1, 0, &size, &err), &err);
    mr_env_close(env(), file);
    text[size] = '\0';
    CHECK_EQ_STR(text, want);
}

static bool exists(const char *path)
{
    struct mr_file_info info;

    return mr_env_path_info(env(), path, false, &info, NULL) == MR_OK;
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    CHECK(lstat(path, &info) == 0);
    return info.st_mode & 0777;
}

/* ---------------------------------------------------------------- files */

TEST(new_files_and_directories_belong_to_this_user_only_whatever_the_umask_is)
{
    static const mode_t masks[] = {0, 022, 0777};

    for (size_t i = 0; i < 3; i++) {
        const char *file = test_path(t, (const char *[]){"f0", "f1", "f2"}[i]);
        const char *dir = test_path(t, (const char *[]){"d0", "d1", "d2"}[i]);
        mode_t before = umask(masks[i]);
        struct mr_file *open_file;

        CHECK_OK(mr_env_mkdir(env(), dir, &err), &err);
        CHECK_OK(mr_env_open(env(), file, MR_FILE_WRITE | MR_FILE_CREATE, &open_file, &err), &err);
        mr_env_close(env(), open_file);
        umask(before);
        CHECK_EQ_INT(mode_of(file), 0600);
        CHECK_EQ_INT(mode_of(dir), 0700);
    }
}

TEST(opening_an_existing_file_leaves_its_mode_alone)
{
    const char *path = test_path(t, "f");
    struct mr_file *file;

    put(path, "x");
    CHECK(chmod(path, 0640) == 0);
    CHECK_OK(mr_env_open(env(), path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    mr_env_close(env(), file);
    CHECK_EQ_INT(mode_of(path), 0640);
}

TEST(links_directories_and_pipes_are_no_files_and_nobody_waits_for_them)
{
    const char *link_path = test_path(t, "link");
    const char *fifo = test_path(t, "fifo");
    struct mr_file *file;

    put(test_path(t, "f"), "x");
    CHECK(symlink("f", link_path) == 0);
    CHECK(mkfifo(fifo, 0600) == 0);
    CHECK_FAILS(mr_env_open(env(), link_path, MR_FILE_READ, &file, &err), &err, MR_IO,
                "symbolic links are not followed");
    CHECK_FAILS(mr_env_open(env(), t->dir, MR_FILE_READ, &file, &err), &err, MR_IO,
                "not a regular file");
    CHECK_FAILS(mr_env_open(env(), t->dir, MR_FILE_WRITE, &file, &err), &err, MR_IO,
                "name a regular file");
    CHECK_FAILS(mr_env_open(env(), fifo, MR_FILE_READ, &file, &err), &err, MR_IO,
                "not a regular file");
    CHECK_FAILS(mr_env_open(env(), fifo, MR_FILE_WRITE, &file, &err), &err, MR_IO,
                "not a regular file");
}

TEST(open_says_what_is_missing_and_what_is_there_already)
{
    const unsigned exclusive = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE;
    const char *path = test_path(t, "f");
    struct mr_file *file;

    CHECK_FAILS(mr_env_open(env(), path, MR_FILE_READ, &file, &err), &err, MR_NOT_FOUND, path);
    CHECK_EQ_INT(err.os_errno, ENOENT);
    CHECK_FAILS(mr_env_open(env(), test_path(t, "no/f"), exclusive, &file, &err), &err,
                MR_NOT_FOUND, NULL);
    put(path, "x");
    CHECK_FAILS(mr_env_open(env(), path, exclusive, &file, &err), &err, MR_CANNOT_CREATE, path);
    CHECK_FAILS(mr_env_open(env(), test_path(t, "f/g"), MR_FILE_READ, &file, &err), &err,
                MR_NOT_FOUND, "no directory");
}

TEST(reads_end_at_the_end_and_writes_go_past_it)
{
    const char *path = test_path(t, "f");
    struct mr_file_info info;
    struct mr_file *file;
    char data[10] = "yyyyyyyyy";
    size_t size;

    put(path, "abc");
    CHECK_OK(mr_env_open(env(), path, MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pread(env(), file, data, 10, 2, &size, &err), &err);
    CHECK_EQ_UINT(size, 1);
    CHECK_OK(mr_env_pread(env(), file, data, 10, 100, &size, &err), &err);
    CHECK_EQ_UINT(size, 0);
    CHECK_OK(mr_env_pwrite(env(), file, "z", 1, 5, &err), &err);
    CHECK_OK(mr_env_pread(env(), file, data, 10, 0, &size, &err), &err);
    CHECK_EQ_UINT(size, 6);
    CHECK_EQ_MEM(data, "abc\0\0z", 6);
    CHECK_OK(mr_env_truncate(env(), file, 2, &err), &err);
    CHECK_OK(mr_env_file_info(env(), file, &info, &err), &err);
    CHECK_EQ_UINT(info.size_bytes, 2);
    CHECK_EQ_INT(info.kind, MR_KIND_FILE);
    CHECK_FAILS(mr_env_pwrite(env(), file, "z", 1, UINT64_MAX, &err), &err, MR_IO, path);
    CHECK_FAILS(mr_env_pread(env(), file, data, 1, UINT64_MAX, &size, &err), &err, MR_IO, path);
    CHECK_FAILS(mr_env_truncate(env(), file, UINT64_MAX, &err), &err, MR_IO, path);
    mr_env_close(env(), file);
    CHECK_OK(mr_env_open(env(), path, MR_FILE_WRITE | MR_FILE_TRUNCATE, &file, &err), &err);
    CHECK_OK(mr_env_file_info(env(), file, &info, &err), &err);
    CHECK_EQ_UINT(info.size_bytes, 0);
    mr_env_close(env(), file);
    mr_env_close(env(), NULL);
}

TEST(a_file_opened_for_reading_cannot_be_written)
{
    const char *path = test_path(t, "f");
    struct mr_file *file;

    put(path, "abc");
    CHECK_OK(mr_env_open(env(), path, MR_FILE_READ, &file, &err), &err);
    CHECK_FAILS(mr_env_pwrite(env(), file, "z", 1, 0, &err), &err, MR_IO, path);
    mr_env_close(env(), file);
}

TEST(the_file_size_limit_is_an_error_with_its_remedy)
{
    const char *path = test_path(t, "f");
    struct rlimit before;
    struct rlimit small;
    struct mr_file *file;
    enum mr_status status;
    static char data[8192];

    signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = before;
    small.rlim_cur = 4096;
    CHECK_OK(mr_env_open(env(), path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    status = mr_env_pwrite(env(), file, data, sizeof(data), 0, &err);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    mr_env_close(env(), file);
    CHECK_FAILS(status, &err, MR_IO, "ulimit -f");
    CHECK_EQ_INT(err.os_errno, EFBIG);
}

TEST(too_many_open_files_is_a_limit_with_its_remedy)
{
    const char *path = test_path(t, "f");
    struct rlimit before;
    struct rlimit small;
    struct mr_file *file;
    enum mr_status status;

    put(path, "x");
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    small = before;
    small.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &small) == 0);
    status = mr_env_open(env(), path, MR_FILE_READ, &file, &err);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_FAILS(status, &err, MR_LIMIT, "ulimit -n");
}

TEST(a_forbidden_file_is_a_permission_error)
{
    enum { NOBODY = 65534 };
    const char *path = test_path(t, "f");
    bool root = geteuid() == 0;
    struct mr_file *file;
    enum mr_status status;

    put(path, "x");
    CHECK(chmod(path, 0) == 0);
    if (root) /* may open everything */
        CHECK(seteuid(NOBODY) == 0);
    status = mr_env_open(env(), path, MR_FILE_READ, &file, &err);
    if (root)
        CHECK(seteuid(0) == 0);
    CHECK_FAILS(status, &err, MR_PERMISSION, "give this user the right");
}

/* ---------------------------------------------------------------- paths */

TEST(rename_replaces_unless_told_not_to)
{
    const char *a = test_path(t, "a");
    const char *b = test_path(t, "b");

    put(a, "A");
    put(b, "B");
    CHECK_FAILS(mr_env_rename(env(), a, b, true, &err), &err, MR_CANNOT_CREATE, b);
    check_text(b, "B");
    CHECK_OK(mr_env_rename(env(), a, b, false, &err), &err);
    check_text(b, "A");
    CHECK(!exists(a));
    CHECK_OK(mr_env_rename(env(), b, a, true, &err), &err);
    check_text(a, "A");
    CHECK_FAILS(mr_env_rename(env(), b, a, false, &err), &err, MR_NOT_FOUND, b);
    CHECK_FAILS(mr_env_rename(env(), a, test_path(t, "no/f"), true, &err), &err, MR_NOT_FOUND, a);
}

TEST(directories_are_made_once_and_removed_when_empty)
{
    const char *dir = test_path(t, "d");
    const char *file = test_path(t, "d/f");

    CHECK_OK(mr_env_mkdir(env(), dir, &err), &err);
    CHECK_OK(mr_env_mkdir(env(), dir, &err), &err);
    put(file, "x");
    CHECK_FAILS(mr_env_mkdir(env(), file, &err), &err, MR_CANNOT_CREATE, file);
    CHECK_FAILS(mr_env_mkdir(env(), test_path(t, "no/d"), &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_rmdir(env(), dir, &err), &err, MR_CANNOT_CREATE, "empty it first");
    CHECK_OK(mr_env_sync_dir(env(), dir, &err), &err);
    CHECK_FAILS(mr_env_sync_dir(env(), test_path(t, "no"), &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_sync_dir(env(), file, &err), &err, MR_NOT_FOUND, NULL);
    CHECK_OK(mr_env_unlink(env(), file, &err), &err);
    CHECK_FAILS(mr_env_unlink(env(), file, &err), &err, MR_NOT_FOUND, file);
    CHECK_OK(mr_env_rmdir(env(), dir, &err), &err);
    CHECK(!exists(dir));
}

struct seen {
    unsigned files;
    unsigned directories;
    unsigned others;
    unsigned stop_after;
};

static bool see(const char *name, enum mr_file_kind kind, void *arg)
{
    struct seen *seen = arg;

    CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    seen->files += kind == MR_KIND_FILE;
    seen->directories += kind == MR_KIND_DIRECTORY;
    seen->others += kind == MR_KIND_OTHER;
    return seen->files + seen->directories + seen->others != seen->stop_after;
}

TEST(a_listing_tells_kinds_and_stops_when_asked)
{
    struct seen seen = {0};

    put(test_path(t, "f"), "x");
    CHECK_OK(mr_env_mkdir(env(), test_path(t, "d"), &err), &err);
    CHECK(symlink("f", test_path(t, "link")) == 0);
    CHECK_OK(mr_env_list(env(), t->dir, see, &seen, &err), &err);
    CHECK_EQ_INT(seen.files, 1);
    CHECK_EQ_INT(seen.directories, 1);
    CHECK_EQ_INT(seen.others, 1);
    seen = (struct seen){.stop_after = 2};
    CHECK_OK(mr_env_list(env(), t->dir, see, &seen, &err), &err);
    CHECK_EQ_INT(seen.files + seen.directories + seen.others, 2);
    CHECK_FAILS(mr_env_list(env(), test_path(t, "no"), see, &seen, &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_list(env(), test_path(t, "f"), see, &seen, &err), &err, MR_NOT_FOUND, NULL);
}

TEST(path_info_follows_a_link_or_not)
{
    const char *link_path = test_path(t, "link");
    struct mr_file_info info;

    put(test_path(t, "f"), "four");
    CHECK(symlink("f", link_path) == 0);
    CHECK_OK(mr_env_path_info(env(), link_path, false, &info, &err), &err);
    CHECK_EQ_INT(info.kind, MR_KIND_OTHER);
    CHECK_OK(mr_env_path_info(env(), link_path, true, &info, &err), &err);
    CHECK_EQ_INT(info.kind, MR_KIND_FILE);
    CHECK_EQ_UINT(info.size_bytes, 4);
    CHECK(info.mtime_ns > 0 && info.inode != 0);
    CHECK_FAILS(mr_env_path_info(env(), test_path(t, "no"), true, &info, &err), &err, MR_NOT_FOUND,
                "no");
}

/* ---------------------------------------------------------------- locks */

TEST(a_second_lock_in_this_process_is_refused_and_names_the_holder)
{
    const char *path = test_path(t, "LOCK");
    struct mr_lock *lock;
    struct mr_lock *second = NULL;
    char holder[64];

    CHECK_OK(mr_env_lock(env(), path, &lock, &err), &err);
    snprintf(holder, sizeof(holder), "in use by pid %ld on ", (long)getpid());
    CHECK_FAILS(mr_env_lock(env(), path, &second, &err), &err, MR_BUSY, holder);
    put(path, "");
    CHECK_FAILS(mr_env_lock(env(), path, &second, &err), &err, MR_BUSY, "another process uses it");
    put(path, "pid 42 on host\x1b[0m\n"); /* opening and closing the file must not drop the lock */
    CHECK_FAILS(mr_env_lock(env(), path, &second, &err), &err, MR_BUSY,
                "in use by pid 42 on host\\x1b[0m; stop it first");
    CHECK_NULL(second);
    mr_env_unlock(env(), lock);
    CHECK_OK(mr_env_lock(env(), path, &lock, &err), &err);
    mr_env_unlock(env(), lock);
    mr_env_unlock(env(), NULL);
}

TEST(another_process_is_refused_while_the_lock_is_held_and_a_dead_one_holds_nothing)
{
    const char *path = test_path(t, "LOCK");
    struct mr_lock *lock;
    int result = -1;
    pid_t child;

    CHECK_OK(mr_env_lock(env(), path, &lock, &err), &err);
    child = fork();
    if (child == 0)
        _exit((int)mr_env_lock(env(), path, &lock, NULL));
    CHECK(waitpid(child, &result, 0) == child);
    CHECK_EQ_INT(WEXITSTATUS(result), MR_BUSY);
    mr_env_unlock(env(), lock);
    child = fork();
    if (child == 0)
        _exit((int)mr_env_lock(env(), path, &lock, NULL)); /* dies with the lock */
    CHECK(waitpid(child, &result, 0) == child);
    CHECK_EQ_INT(WEXITSTATUS(result), MR_OK);
    CHECK_OK(mr_env_lock(env(), path, &lock, &err), &err);
    mr_env_unlock(env(), lock);
}

TEST(only_a_regular_file_can_be_locked)
{
    const char *link_path = test_path(t, "link");
    const char *fifo = test_path(t, "fifo");
    struct mr_lock *lock;

    CHECK(symlink("f", link_path) == 0);
    CHECK(mkfifo(fifo, 0600) == 0);
    CHECK_FAILS(mr_env_lock(env(), link_path, &lock, &err), &err, MR_IO, "links");
    CHECK_FAILS(mr_env_lock(env(), fifo, &lock, &err), &err, MR_IO, "not a regular file");
    CHECK_FAILS(mr_env_lock(env(), test_path(t, "no/LOCK"), &lock, &err), &err, MR_NOT_FOUND, NULL);
}

/* ---------------------------------------------------------------- calls that the kernel refuses */

/* From now on, and for good: two calls of this process give that answer. Call it in a child. */
static bool answer_calls(long first, long second, uint32_t answer)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)first, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child, where no flush works. 0 = all as it must be, else which step was not. */
static int flush_without_luck(const char *path, const char *dir)
{
    struct mr_file *file = NULL;
    unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE;

    if (mr_env_open(env(), path, flags, &file, &err) != MR_OK ||
        mr_env_pwrite(env(), file, "x", 1, 0, &err) != MR_OK)
        return 1;
    if (!answer_calls(SYS_fsync, SYS_fdatasync, SECCOMP_RET_ERRNO | EIO))
        return 2;
    if (mr_env_sync(env(), file, &err) != MR_IO || err.os_errno != EIO)
        return 3;
    mr_error_clear(&err);
    if (mr_env_sync(env(), file, &err) != MR_IO || strstr(err.text, "earlier flush") == NULL)
        return 4;
    mr_error_clear(&err);
    if (mr_env_sync_dir(env(), dir, &err) != MR_IO || err.os_errno != EIO)
        return 5;
    mr_env_close(env(), file);
    return 0;
}

TEST(C5_a_flush_that_fails_is_told_and_the_file_is_never_flushed_again)
{
    const char *path = test_path(t, "f");
    int result = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(flush_without_luck(path, t->dir));
    CHECK(waitpid(child, &result, 0) == child);
    CHECK(WIFEXITED(result));
    CHECK_EQ_INT(WEXITSTATUS(result), 0);
}

#ifdef __x86_64__
static const char *replaced_path;
static int lock_calls;

/* Instead of fcntl: says that it worked; the first time somebody replaces the file meanwhile. */
static void on_fcntl(int sig, siginfo_t *info, void *context)
{
    ucontext_t *at = context;

    (void)sig, (void)info;
    at->uc_mcontext.gregs[REG_RAX] = 0;
    if (lock_calls++ > 0)
        return;
    (void)unlink(replaced_path);
    (void)close(open(replaced_path, O_RDWR | O_CREAT, 0600));
}

/* 0 = the lock is that of the file which has the name now. */
static int lock_a_file_that_is_replaced(const char *path)
{
    struct sigaction action = {.sa_sigaction = on_fcntl, .sa_flags = SA_SIGINFO};
    struct mr_lock *lock = NULL;

    (void)env(); /* its first use looks at the standard descriptors, by fcntl, too */
    replaced_path = path;
    if (sigaction(SIGSYS, &action, NULL) != 0 ||
        !answer_calls(SYS_fcntl, SYS_fcntl, SECCOMP_RET_TRAP))
        return 1;
    if (mr_env_lock(env(), path, &lock, &err) != MR_OK)
        return 2;
    return lock_calls == 2 ? 0 : 3;
}

TEST(D9_a_lock_is_that_of_the_file_which_has_the_name_in_the_end)
{
    const char *path = test_path(t, "LOCK");
    int result = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(lock_a_file_that_is_replaced(path));
    CHECK(waitpid(child, &result, 0) == child);
    CHECK(WIFEXITED(result));
    CHECK_EQ_INT(WEXITSTATUS(result), 0);
}
#endif

/* ---------------------------------------------------------------- clock, random numbers */

TEST(clocks_go_forward_and_random_numbers_differ)
{
    int64_t before = mr_env_monotonic_ns(env());
    uint64_t numbers[2] = {0, 0};

    mr_env_sleep_ns(env(), 1);
    mr_env_sleep_ns(env(), -1);
    CHECK(mr_env_monotonic_ns(env()) > before);
    CHECK(mr_env_wall_us(env()) > INT64_C(1577836800000000)); /* 2020 */
    mr_env_random(env(), numbers, sizeof(numbers));
    CHECK(numbers[0] != numbers[1]);
}

/* ---------------------------------------------------------------- sockets */

struct server {
    int listening;
    char port[8];
};

static struct server listen_locally(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct server server = {.listening = socket(AF_INET, SOCK_STREAM, 0)};
    socklen_t size = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(server.listening, (struct sockaddr *)&address, size) == 0);
    CHECK(listen(server.listening, 4) == 0);
    CHECK(getsockname(server.listening, (struct sockaddr *)&address, &size) == 0);
    snprintf(server.port, sizeof(server.port), "%u", ntohs(address.sin_port));
    return server;
}

TEST(a_socket_receives_what_the_peer_sends_until_it_ends)
{
    struct server server = listen_locally();
    struct mr_socket *made;
    char data[16];
    size_t size;
    int peer;

    CHECK_OK(env()->ops->connect(env(), "127.0.0.1", server.port, 5000, &made, &err), &err);
    peer = accept(server.listening, NULL, NULL);
    CHECK(peer >= 0);
    CHECK_FAILS(env()->ops->recv(env(), made, data, sizeof(data), 0, &size, &err), &err,
                MR_UNAVAILABLE, "no data within the time limit");
    CHECK(write(peer, "hello", 5) == 5);
    CHECK_OK(env()->ops->recv(env(), made, data, sizeof(data), 5000, &size, &err), &err);
    CHECK_EQ_UINT(size, 5);
    close(peer);
    CHECK_OK(env()->ops->recv(env(), made, data, sizeof(data), 5000, &size, &err), &err);
    CHECK_EQ_UINT(size, 0);
    env()->ops->disconnect(env(), made);
    env()->ops->disconnect(env(), NULL);
    close(server.listening);
}

static void shut_down(void *arg)
{
    env()->ops->shutdown(env(), arg);
}

TEST(another_thread_ends_a_waiting_receive)
{
    struct server server = listen_locally();
    struct mr_thread *thread;
    struct mr_socket *made;
    char data[16];
    size_t size = 99;

    CHECK_OK(env()->ops->connect(env(), "127.0.0.1", server.port, 5000, &made, &err), &err);
    CHECK_OK(mr_thread_start("shutdown", shut_down, made, &thread, &err), &err);
    CHECK_OK(env()->ops->recv(env(), made, data, sizeof(data), -1, &size, &err), &err);
    CHECK_EQ_UINT(size, 0);
    mr_thread_join(thread);
    env()->ops->disconnect(env(), made);
    close(server.listening);
}

TEST(a_peer_that_is_not_there_is_unavailable_and_a_bad_port_a_mistake)
{
    struct server server = listen_locally();
    struct mr_socket *made = NULL;

    close(server.listening); /* nobody listens there now */
    CHECK_FAILS(env()->ops->connect(env(), "127.0.0.1", server.port, 5000, &made, &err), &err,
                MR_UNAVAILABLE, "cannot connect to '127.0.0.1' port");
    CHECK_EQ_INT(err.os_errno, ECONNREFUSED);
    CHECK_FAILS(env()->ops->connect(env(), "127.0.0.1", "no-such-port", 5000, &made, &err), &err,
                MR_CONFIG, "'no-such-port' is no port");
    CHECK_NULL(made);
}

/* ---------------------------------------------------------------- standard streams */

/* Puts fd in the place of a standard stream and remembers what was there. */
static int replace(int stream, int fd)
{
    int kept = dup(stream);

    CHECK(kept >= 0 && dup2(fd, stream) == stream);
    close(fd);
    return kept;
}

TEST(standard_input_is_read_with_a_time_limit_until_its_end)
{
    int ends[2];
    char data[16];
    size_t size = 99;
    int kept;

    CHECK(pipe(ends) == 0);
    kept = replace(STDIN_FILENO, ends[0]);
    CHECK_FAILS(env()->ops->read_stdin(env(), data, sizeof(data), 0, &size, &err), &err,
                MR_UNAVAILABLE, "within the time limit");
    CHECK(write(ends[1], "abc", 3) == 3);
    CHECK_OK(env()->ops->read_stdin(env(), data, sizeof(data), 1000, &size, &err), &err);
    CHECK_EQ_UINT(size, 3);
    close(ends[1]);
    CHECK_OK(env()->ops->read_stdin(env(), data, sizeof(data), -1, &size, &err), &err);
    CHECK_EQ_UINT(size, 0);
    close(replace(STDIN_FILENO, kept));
}

TEST(a_reader_that_went_away_is_an_error_and_no_signal)
{
    sigset_t pending;
    int ends[2];
    enum mr_status status;
    int kept;

    signal(SIGPIPE, SIG_DFL); /* it would end this program */
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    fflush(stdout);
    kept = replace(STDOUT_FILENO, ends[1]);
    status = env()->ops->write_stdout(env(), "x", 1, &err);
    close(replace(STDOUT_FILENO, kept));
    CHECK_FAILS(status, &err, MR_IO, "the reader went away");
    CHECK_EQ_INT(err.os_errno, EPIPE);
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
}

static void drain(void *arg)
{
    const int *fd = arg;
    char data[4096];

    while (read(*fd, data, sizeof(data)) > 0)
        ;
}

TEST(standard_output_is_written_whole_even_into_a_small_pipe)
{
    static char data[300000];
    struct mr_thread *thread;
    int ends[2];
    enum mr_status status;
    int kept;

    CHECK(pipe(ends) == 0);
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    CHECK_OK(mr_thread_start("drain", drain, &ends[0], &thread, &err), &err);
    fflush(stdout);
    kept = replace(STDOUT_FILENO, ends[1]);
    status = env()->ops->write_stdout(env(), data, sizeof(data), &err);
    close(replace(STDOUT_FILENO, kept));
    CHECK_OK(status, &err);
    mr_thread_join(thread);
    close(ends[0]);
}
