/*
 * The files of a block store: a directory of its own, two copies below it, made when the first file
 * is written and removed at the end. What a dead process left in the same place is removed then.
 *
 * Thread: the caller's, one at a time.
 */
#ifndef MR_RDD_BLOCK_DIR_H
#define MR_RDD_BLOCK_DIR_H

#include "rdd/block_store.h"

enum { MR__BLOCK_COPIES = 2 };

struct mr__block_dir {
    struct mr_env *env;
    char *parent;
    char *root; /* NULL: not made yet */
    struct mr_lock *lock;
};

enum mr_status mr__block_dir_init(struct mr__block_dir *dir, struct mr_env *env, const char *parent,
                                  struct mr_error *err);
void mr__block_dir_release(struct mr__block_dir *dir); /* removes everything */

/* copy is 1 or 2. */
enum mr_status mr__block_dir_write(struct mr__block_dir *dir, struct mr__block_id id, unsigned copy,
                                   const void *data, size_t size_bytes, uint64_t *ret_file_bytes,
                                   struct mr_error *err);
/* MR_NOT_FOUND, MR_CORRUPT when it is not what was written. *ret_data: freed with mr_free. */
enum mr_status mr__block_dir_read(const struct mr__block_dir *dir, struct mr__block_id id,
                                  unsigned copy, char **ret_data, size_t *ret_size_bytes,
                                  struct mr_error *err);
void mr__block_dir_remove(struct mr__block_dir *dir, struct mr__block_id id, unsigned copy);
/* NULL without memory, and before the first write. Freed with mr_free. */
char *mr__block_dir_path(const struct mr__block_dir *dir, struct mr__block_id id, unsigned copy);

#endif
