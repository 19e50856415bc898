/*
 * Durable I/O: the only way bytes that matter reach the disk. Three primitives; each says what a
 * crash can leave behind.
 *
 *   mr_durable_put      one small file, whole or absent: temp, write, sync, rename, sync directory
 *   mr_appender         an append-only, preallocated file: write behind the tail, sync
 *   mr_staged           a file made out of sight, then shown: create, write..., seal (sync),
 *                       publish (rename)
 *
 * Temporary names begin with ".tmp-"; mr_durable_sweep removes what dead processes left.
 * Thread: one object belongs to one thread at a time.
 */
#ifndef MILLRACE_EXT_DURABLE_H
#define MILLRACE_EXT_DURABLE_H

#include <millrace/ext/env.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes dir and what is missing of its parents. Durable in their parents are then: those it made,
 * and the last one that was there, which a process that died may have made; not those above it.
 */
MR_API enum mr_status mr_durable_mkdirs(struct mr_env *env, const char *dir, struct mr_error *err);

/* Writes dir/name whole. With no_replace an existing file is MR_CANNOT_CREATE. After a crash: old,
 * new, never a mixture. */
MR_API enum mr_status mr_durable_put(struct mr_env *env, const char *dir, const char *name,
                                     const void *data, size_t size_bytes, bool no_replace,
                                     struct mr_error *err);

/* Reads a whole file of at most size_max bytes (MR_LIMIT above). *ret_data is freed with
 * mr_text_free, NUL-terminated. */
MR_API enum mr_status mr_durable_get(struct mr_env *env, const char *path, size_t size_max,
                                     char **ret_data, size_t *ret_size_bytes, struct mr_error *err);

/* Removes ".tmp-*" below dir (not deeper), counts them. */
MR_API enum mr_status mr_durable_sweep(struct mr_env *env, const char *dir, uint64_t *ret_removed,
                                       struct mr_error *err);

/*
 * Appender: a file preallocated with zeros (a sync of it then needs no size change: a third
 * cheaper), written at its tail. create makes the file durable (file and directory) at its full
 * size before it returns; a crash meanwhile leaves a temporary, never a half-made file. A crash
 * later leaves any part of what was appended after the last sync: readers must check what they
 * read. After a failed write or sync the appender refuses both (MR_IO): close it, and open the file
 * again at a known tail.
 */
struct mr_appender;
MR_API enum mr_status mr_appender_create(struct mr_env *env, const char *dir, const char *name,
                                         uint64_t size_bytes, struct mr_appender **ret_appender,
                                         struct mr_error *err);
/*
 * The same with head at its start, the tail behind it: the file never has its name without its
 * head.
 */
MR_API enum mr_status mr_appender_create_with(struct mr_env *env, const char *dir, const char *name,
                                              uint64_t size_bytes, const void *head,
                                              size_t head_bytes, struct mr_appender **ret_appender,
                                              struct mr_error *err);
/*
 * The same with a file of the directory that is not needed any more, instead of a new one: it gets
 * head and the final name; its size, and what is behind the head, stay as they are.
 */
MR_API enum mr_status mr_appender_create_from(struct mr_env *env, const char *dir,
                                              const char *old_name, const char *name,
                                              const void *head, size_t head_bytes,
                                              struct mr_appender **ret_appender,
                                              struct mr_error *err);
/* Opens an existing one to go on at tail; zeroes and syncs everything behind the tail first. */
MR_API enum mr_status mr_appender_open(struct mr_env *env, const char *dir, const char *name,
                                       uint64_t tail, struct mr_appender **ret_appender,
                                       struct mr_error *err);
MR_API uint64_t mr_appender_tail(const struct mr_appender *appender);
/* bytes left before the preallocated end */
MR_API uint64_t mr_appender_room(const struct mr_appender *appender);
MR_API enum mr_status mr_appender_write(struct mr_appender *appender, const void *data,
                                        size_t size_bytes,
                                        /* grows the file past its end when it must */
                                        struct mr_error *err);
MR_API enum mr_status mr_appender_sync(struct mr_appender *appender, struct mr_error *err);
/* Has somebody else written right behind the tail, where zeros should be? */
MR_API enum mr_status mr_appender_is_taken(struct mr_appender *appender, bool *ret_taken,
                                           struct mr_error *err);
MR_API void mr_appender_close(struct mr_appender *appender); /* NULL allowed; does not sync */

/*
 * Staged file. Until publish, readers of the directory see at most a ".tmp-" name. publish renames
 * over an existing file of the final name (a batch that runs again produces the same bytes); the
 * caller then calls mr_env_sync_dir once for all.
 */
struct mr_staged;
MR_API enum mr_status mr_staged_create(struct mr_env *env, const char *dir, const char *final_name,
                                       struct mr_staged **ret_staged, struct mr_error *err);
MR_API enum mr_status mr_staged_write(struct mr_staged *staged, const void *data, size_t size_bytes,
                                      struct mr_error *err);
/* for libraries that write a path themselves */
MR_API const char *mr_staged_path(const struct mr_staged *staged);
MR_API uint64_t mr_staged_size(const struct mr_staged *staged);
MR_API enum mr_status mr_staged_seal(struct mr_staged *staged, struct mr_error *err);
MR_API enum mr_status mr_staged_publish(struct mr_staged *staged, struct mr_error *err);
/* NULL allowed; removes the temporary when not published */
MR_API void mr_staged_free(struct mr_staged *staged);

#ifdef __cplusplus
}
#endif
#endif
