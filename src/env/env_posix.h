/*
 * Shared between the files of the POSIX environment; nobody else includes it.
 *
 * The parts (files, paths and locks, sockets and standard streams) fill one table in env_posix.c.
 */
#ifndef MR_ENV_ENV_POSIX_H
#define MR_ENV_ENV_POSIX_H

#include <millrace/ext/env.h>

/*
 * The only place that turns an errno into a status: "cannot <action> '<path>': <what>; <remedy>".
 * os_errno must be a failure's errno. Returns the status.
 */
enum mr_status mr__posix_fail(struct mr_error *err, const char *action, const char *path,
                              int os_errno);

/* Milliseconds left until a monotonic deadline, for poll; -1 when there is none (deadline < 0). */
int mr__posix_ms_left(struct mr_env *env, int64_t deadline_ns);
/* The deadline timeout_ms from now; negative timeout = none. */
int64_t mr__posix_deadline(struct mr_env *env, int64_t timeout_ms);

/* env_posix_file.c */
enum mr_status mr__posix_open(struct mr_env *env, const char *path, unsigned flags,
                              struct mr_file **ret_file, struct mr_error *err);
void mr__posix_close(struct mr_env *env, struct mr_file *file);
enum mr_status mr__posix_pread(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                               uint64_t offset, size_t *ret_read, struct mr_error *err);
enum mr_status mr__posix_pwrite(struct mr_env *env, struct mr_file *file, const void *data,
                                size_t size, uint64_t offset, struct mr_error *err);
enum mr_status mr__posix_sync(struct mr_env *env, struct mr_file *file, struct mr_error *err);
void mr__posix_write_soon(struct mr_env *env, struct mr_file *file, uint64_t offset, uint64_t size);
enum mr_status mr__posix_truncate(struct mr_env *env, struct mr_file *file, uint64_t size,
                                  struct mr_error *err);
enum mr_status mr__posix_file_info(struct mr_env *env, struct mr_file *file,
                                   struct mr_file_info *ret_info, struct mr_error *err);

/* env_posix_path.c */
enum mr_status mr__posix_path_info(struct mr_env *env, const char *path, bool follow,
                                   struct mr_file_info *ret_info, struct mr_error *err);
enum mr_status mr__posix_rename(struct mr_env *env, const char *from, const char *to,
                                bool no_replace, struct mr_error *err);
enum mr_status mr__posix_unlink(struct mr_env *env, const char *path, struct mr_error *err);
enum mr_status mr__posix_mkdir(struct mr_env *env, const char *path, struct mr_error *err);
enum mr_status mr__posix_rmdir(struct mr_env *env, const char *path, struct mr_error *err);
enum mr_status mr__posix_list(struct mr_env *env, const char *path, mr_dir_visit_fn visit,
                              void *arg, struct mr_error *err);
enum mr_status mr__posix_sync_dir(struct mr_env *env, const char *path, struct mr_error *err);
bool mr__posix_is_volatile(struct mr_env *env, const char *path);
enum mr_status mr__posix_lock(struct mr_env *env, const char *path, struct mr_lock **ret_lock,
                              struct mr_error *err);
void mr__posix_unlock(struct mr_env *env, struct mr_lock *lock);

/* env_posix_net.c */
enum mr_status mr__posix_connect(struct mr_env *env, const char *host, const char *port,
                                 int64_t timeout_ms, struct mr_socket **ret_socket,
                                 struct mr_error *err);
enum mr_status mr__posix_recv(struct mr_env *env, struct mr_socket *socket, void *data, size_t size,
                              int64_t timeout_ms, size_t *ret_read, struct mr_error *err);
void mr__posix_disconnect(struct mr_env *env, struct mr_socket *socket);
void mr__posix_shutdown(struct mr_env *env, struct mr_socket *socket);
enum mr_status mr__posix_read_stdin(struct mr_env *env, void *data, size_t size, int64_t timeout_ms,
                                    size_t *ret_read, struct mr_error *err);
enum mr_status mr__posix_write_stdout(struct mr_env *env, const void *data, size_t size,
                                      struct mr_error *err);

/* struct stat (passed as a pointer to keep <sys/stat.h> out of here) to ours. */
struct stat;
void mr__posix_info_of(const struct stat *from, struct mr_file_info *ret_info);

#endif
