/*
 * calls: the system calls at which killpoint stops, and where each keeps its arguments.
 *
 * Used by killpoint.c only. A call belongs here when it changes something that outlives the
 * process: a file, a directory, or (net) what a peer has received. Argument indexes start at 0; -1
 * means none. Numbers are those of x86-64, the only machine killpoint knows.
 */
#ifndef CRASH_CALLS_H
#define CRASH_CALLS_H

#include <stdbool.h>
#include <sys/syscall.h>

struct call {
    long nr;
    const char *name;
    int fd_arg; /* the descriptor that is changed, or the directory of the path */
    int path_arg;
    int fd2_arg; /* the second pair, of rename and link */
    int path2_arg;
    int length_arg; /* byte count, which may be cut */
    int flags_arg;  /* flags of an open: stop only when it can change something */
    bool vector;    /* arguments 1 and 2 are an iovec array */
    bool net;       /* only with --net */
};

#define CALL(word) .nr = SYS_##word, .name = #word
#define NONE                                                                                       \
    .fd_arg = -1, .path_arg = -1, .fd2_arg = -1, .path2_arg = -1, .length_arg = -1, .flags_arg = -1
#define ON_FD(arg, length)                                                                         \
    .fd_arg = arg, .path_arg = -1, .fd2_arg = -1, .path2_arg = -1, .length_arg = length,           \
    .flags_arg = -1
#define ON_PATH(dir, path, flags)                                                                  \
    .fd_arg = dir, .path_arg = path, .fd2_arg = -1, .path2_arg = -1, .length_arg = -1,             \
    .flags_arg = flags
#define ON_TWO(dir, path, dir2, path2)                                                             \
    .fd_arg = dir, .path_arg = path, .fd2_arg = dir2, .path2_arg = path2, .length_arg = -1,        \
    .flags_arg = -1

static const struct call calls[] = {
    {CALL(write), ON_FD(0, 2)},
    {CALL(pwrite64), ON_FD(0, 2)},
    {CALL(writev), ON_FD(0, -1), .vector = true},
    {CALL(pwritev), ON_FD(0, -1), .vector = true},
    {CALL(pwritev2), ON_FD(0, -1), .vector = true},
    {CALL(copy_file_range), ON_FD(2, 4)},
    {CALL(sendfile), ON_FD(0, 3)},
    {CALL(splice), ON_FD(2, 4)},
    {CALL(open), ON_PATH(-1, 0, 1)},
    {CALL(openat), ON_PATH(0, 1, 2)},
    {CALL(openat2), ON_PATH(0, 1, -1)},
    {CALL(creat), ON_PATH(-1, 0, -1)},
    {CALL(truncate), ON_PATH(-1, 0, -1)},
    {CALL(ftruncate), ON_FD(0, -1)},
    {CALL(fallocate), ON_FD(0, -1)},
    {CALL(fsync), ON_FD(0, -1)},
    {CALL(fdatasync), ON_FD(0, -1)},
    {CALL(sync_file_range), ON_FD(0, -1)},
    {CALL(msync), NONE},
    {CALL(mmap), ON_FD(4, -1)},
    {CALL(io_uring_enter), NONE},
    {CALL(rename), ON_TWO(-1, 0, -1, 1)},
    {CALL(renameat), ON_TWO(0, 1, 2, 3)},
    {CALL(renameat2), ON_TWO(0, 1, 2, 3)},
    {CALL(link), ON_TWO(-1, 0, -1, 1)},
    {CALL(linkat), ON_TWO(0, 1, 2, 3)},
    {CALL(symlink), ON_PATH(-1, 1, -1)},
    {CALL(symlinkat), ON_PATH(1, 2, -1)},
    {CALL(unlink), ON_PATH(-1, 0, -1)},
    {CALL(unlinkat), ON_PATH(0, 1, -1)},
    {CALL(mkdir), ON_PATH(-1, 0, -1)},
    {CALL(mkdirat), ON_PATH(0, 1, -1)},
    {CALL(rmdir), ON_PATH(-1, 0, -1)},
    {CALL(close), ON_FD(0, -1)},
    {CALL(sendto), ON_FD(0, 2), .net = true},
    {CALL(sendmsg), ON_FD(0, -1), .net = true},
    {CALL(sendmmsg), ON_FD(0, -1), .net = true},
};

#define CALLS_COUNT (sizeof(calls) / sizeof(calls[0]))

#undef CALL
#undef NONE
#undef ON_FD
#undef ON_PATH
#undef ON_TWO

#endif
