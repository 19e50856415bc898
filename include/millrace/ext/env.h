/*
 * The environment: every call to the operating system, behind one table of functions.
 *
 * Two implementations: mr_env_posix() and the simulated one of src/env/sim.h (virtual clock, disk
 * in memory that knows what is synced, faults on demand). Everything above src/env reaches files,
 * clock, sockets and random numbers through a `struct mr_env *` that is handed down; nothing keeps
 * one in a global.
 *
 * Paths are absolute or relative to the process's directory; while a program has a context or a
 * session, to the one that it was in when it made the first of them, whatever directories it
 * changes to meanwhile. They never contain a NUL.
 */
#ifndef MILLRACE_EXT_ENV_H
#define MILLRACE_EXT_ENV_H

#include <millrace/error.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_env;
struct mr_file;   /* an open file */
struct mr_lock;   /* an advisory lock held on a file */
struct mr_socket; /* a connected stream socket */

enum mr_file_flags {
    MR_FILE_READ = 1,
    MR_FILE_WRITE = 2, /* read and write */
    MR_FILE_CREATE = 4,
    MR_FILE_EXCLUSIVE = 8, /* with CREATE: fail with MR_CANNOT_CREATE when it exists */
    MR_FILE_TRUNCATE = 16,
};

enum mr_file_kind { MR_KIND_FILE = 1, MR_KIND_DIRECTORY = 2, MR_KIND_OTHER = 3 };

struct mr_file_info {
    enum mr_file_kind kind;
    uint64_t size_bytes;
    int64_t mtime_ns; /* since the epoch */
    uint64_t inode;
    uint64_t device;
};

/* Called for each entry of a directory, in no order; "." and ".." are left out. Return false to
 * stop. */
typedef bool (*mr_dir_visit_fn)(const char *name, enum mr_file_kind kind, void *arg);

/*
 * Files are opened with O_NOFOLLOW | O_NONBLOCK semantics and must be regular (MR_IO otherwise);
 * new files get mode 0600, new directories 0700. EINTR and short counts are handled inside. Errors:
 * MR_NOT_FOUND, MR_PERMISSION, MR_CANNOT_CREATE, MR_IO. Any error of sync is fatal for that file:
 * it must not be synced again (faults.md C5).
 */
struct mr_env_ops {
    size_t struct_size;
    enum mr_status (*open)(struct mr_env *env, const char *path, unsigned flags,
                           struct mr_file **ret_file, struct mr_error *err);
    void (*close)(struct mr_env *env, struct mr_file *file); /* NULL allowed */
    /* Reads up to size bytes at offset; *ret_read < size only at the end of the file. */
    enum mr_status (*pread)(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                            uint64_t offset, size_t *ret_read, struct mr_error *err);
    enum mr_status (*pwrite)(struct mr_env *env, struct mr_file *file, const void *data,
                             size_t size, uint64_t offset, struct mr_error *err); /* writes all */
    /* fdatasync */
    enum mr_status (*sync)(struct mr_env *env, struct mr_file *file, struct mr_error *err);
    enum mr_status (*truncate)(struct mr_env *env, struct mr_file *file, uint64_t size,
                               struct mr_error *err);
    enum mr_status (*file_info)(struct mr_env *env, struct mr_file *file,
                                struct mr_file_info *ret_info, struct mr_error *err);
    enum mr_status (*path_info)(struct mr_env *env, const char *path, bool follow,
                                struct mr_file_info *ret_info, struct mr_error *err);
    /* Renames; with no_replace an existing target is MR_CANNOT_CREATE. Not durable before
     * sync_dir. */
    enum mr_status (*rename)(struct mr_env *env, const char *from, const char *to, bool no_replace,
                             struct mr_error *err);
    enum mr_status (*unlink)(struct mr_env *env, const char *path, struct mr_error *err);
    /* existing directory: fine */
    enum mr_status (*mkdir)(struct mr_env *env, const char *path, struct mr_error *err);
    enum mr_status (*rmdir)(struct mr_env *env, const char *path, struct mr_error *err);
    enum mr_status (*list)(struct mr_env *env, const char *path, mr_dir_visit_fn visit, void *arg,
                           struct mr_error *err);
    enum mr_status (*sync_dir)(struct mr_env *env, const char *path, struct mr_error *err);
    /* Takes an exclusive lock without waiting; MR_BUSY when another process (or this one) has
     * it. */
    enum mr_status (*lock)(struct mr_env *env, const char *path, struct mr_lock **ret_lock,
                           struct mr_error *err);
    void (*unlock)(struct mr_env *env, struct mr_lock *lock); /* NULL allowed */

    int64_t (*wall_us)(struct mr_env *env); /* microseconds since the epoch */
    int64_t (*monotonic_ns)(struct mr_env *env);
    /* the simulated one moves its clock */
    void (*sleep_ns)(struct mr_env *env, int64_t duration_ns);
    void (*random)(struct mr_env *env, void *data, size_t size);

    /* TCP. Negative timeouts wait for ever. connect tries every address of host; recv: *ret_read 0
     * with MR_OK = end of stream; MR_UNAVAILABLE on timeout. */
    enum mr_status (*connect)(struct mr_env *env, const char *host, const char *port,
                              int64_t timeout_ms, struct mr_socket **ret_socket,
                              struct mr_error *err);
    enum mr_status (*recv)(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                           int64_t timeout_ms, size_t *ret_read, struct mr_error *err);
    void (*disconnect)(struct mr_env *env, struct mr_socket *socket); /* NULL allowed; closes */
    /* any thread: makes a blocked recv return */
    void (*shutdown)(struct mr_env *env, struct mr_socket *socket);
    /* time moves only when somebody sleeps: waiting for events must go through sleep_ns */
    bool virtual_time;

    /*
     * Standard input and output; NULL in an environment that has none. read: *ret_read 0 with MR_OK
     * = end of input; MR_UNAVAILABLE when timeout_ms passed without data. write: all of it, under
     * no lock; a reader that went away is MR_IO with os_errno EPIPE, never a signal.
     */
    enum mr_status (*read_stdin)(struct mr_env *env, void *data, size_t size, int64_t timeout_ms,
                                 size_t *ret_read, struct mr_error *err);
    enum mr_status (*write_stdout)(struct mr_env *env, const void *data, size_t size,
                                   struct mr_error *err);
    /* Starts bringing a written range to the disk, without waiting: a sync that comes later has
     * less to do. Promises nothing. May be NULL. */
    void (*write_soon)(struct mr_env *env, struct mr_file *file, uint64_t offset, uint64_t size);
    /* Is what is flushed below this directory gone when the machine stops (a file system in
     * memory)? May be NULL: no. */
    bool (*is_volatile)(struct mr_env *env, const char *path);
};

struct mr_env {
    const struct mr_env_ops *ops;
};

MR_API struct mr_env *mr_env_posix(void); /* one per process, never freed */

/* Shorthands, so that callers read `mr_env_open(env, ...)`. */
#define mr_env_open(env, ...) ((env)->ops->open((env), __VA_ARGS__))
#define mr_env_close(env, file) ((env)->ops->close((env), (file)))
#define mr_env_pread(env, ...) ((env)->ops->pread((env), __VA_ARGS__))
#define mr_env_pwrite(env, ...) ((env)->ops->pwrite((env), __VA_ARGS__))
/* An environment made before there was such a thing has none. */
#define mr_env_write_soon(env, ...)                                                                \
    ((env)->ops->struct_size > offsetof(struct mr_env_ops, write_soon) &&                          \
             (env)->ops->write_soon != NULL                                                        \
         ? (env)->ops->write_soon((env), __VA_ARGS__)                                              \
         : (void)0)
#define mr_env_is_volatile(env, path)                                                              \
    ((env)->ops->struct_size > offsetof(struct mr_env_ops, is_volatile) &&                         \
     (env)->ops->is_volatile != NULL && (env)->ops->is_volatile((env), (path)))
#define mr_env_sync(env, ...) ((env)->ops->sync((env), __VA_ARGS__))
#define mr_env_truncate(env, ...) ((env)->ops->truncate((env), __VA_ARGS__))
#define mr_env_file_info(env, ...) ((env)->ops->file_info((env), __VA_ARGS__))
#define mr_env_path_info(env, ...) ((env)->ops->path_info((env), __VA_ARGS__))
#define mr_env_rename(env, ...) ((env)->ops->rename((env), __VA_ARGS__))
#define mr_env_unlink(env, ...) ((env)->ops->unlink((env), __VA_ARGS__))
#define mr_env_mkdir(env, ...) ((env)->ops->mkdir((env), __VA_ARGS__))
#define mr_env_rmdir(env, ...) ((env)->ops->rmdir((env), __VA_ARGS__))
#define mr_env_list(env, ...) ((env)->ops->list((env), __VA_ARGS__))
#define mr_env_sync_dir(env, ...) ((env)->ops->sync_dir((env), __VA_ARGS__))
#define mr_env_lock(env, ...) ((env)->ops->lock((env), __VA_ARGS__))
#define mr_env_unlock(env, held) ((env)->ops->unlock((env), (held)))
#define mr_env_wall_us(env) ((env)->ops->wall_us(env))
#define mr_env_monotonic_ns(env) ((env)->ops->monotonic_ns(env))
#define mr_env_sleep_ns(env, duration_ns) ((env)->ops->sleep_ns((env), (duration_ns)))
#define mr_env_random(env, ...) ((env)->ops->random((env), __VA_ARGS__))

#ifdef __cplusplus
}
#endif
#endif
