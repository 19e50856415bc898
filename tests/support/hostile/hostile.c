/*
 * A library with a function that does what a sandbox must refuse: hostile('read /etc/shadow') is
 * the errno, 0 when it worked. For tests/system/test_sandbox.py.
 */
#include <millrace/function.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int try_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int try_fork(void)
{
    pid_t child = fork();

    if (child < 0)
        return errno;
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    return 0;
}

/* Told by a status that only the program can give. */
static int try_exec(void)
{
    return execl("/bin/false", "false", (char *)NULL) != 0 ? errno : 0;
}

static int try_listen(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), kept = 0;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1) != 0)
        kept = errno;
    close(fd);
    return kept;
}

static int try_packets(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int try_code(void)
{
    void *memory =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return errno;
    munmap(memory, 4096);
    return 0;
}

static int attempt(const char *what)
{
    if (strncmp(what, "read ", 5) == 0)
        return try_open(what + 5, O_RDONLY);
    if (strncmp(what, "write ", 6) == 0)
        return try_open(what + 6, O_WRONLY | O_CREAT);
    if (strncmp(what, "remove ", 7) == 0)
        return unlink(what + 7) != 0 ? errno : 0;
    if (strncmp(what, "fifo ", 5) == 0)
        return mkfifo(what + 5, 0600) != 0 ? errno : 0;
    if (strcmp(what, "fork") == 0)
        return try_fork();
    if (strcmp(what, "exec") == 0)
        return try_exec();
    if (strcmp(what, "listen") == 0)
        return try_listen();
    if (strcmp(what, "packets") == 0)
        return try_packets();
    if (strcmp(what, "code") == 0)
        return try_code();
    if (strcmp(what, "trace") == 0)
        return ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 ? errno : 0;
    if (strcmp(what, "dumpable") == 0)
        return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    if (strcmp(what, "signal") == 0)
        return kill(getppid(), 0) != 0 ? errno : 0;
    return -1;
}

static void hostile(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);
    char what[4096];

    (void)arg;
    snprintf(what, sizeof(what), "%.*s", (int)text.size_bytes, text.data);
    mr_emit_int(out, attempt(what));
}

MR_API enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err);

enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err)
{
    static const struct mr_scalar_function function = {
        .name = "hostile", .arguments = "what VARCHAR", .result = "BIGINT", .row = hostile};

    return mr_functions_add_scalar(functions, &function, err);
}
