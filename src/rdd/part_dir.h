/*
 * Directories of parts: what the saving outputs of streams and datasets write (OUT-3, OUT-4).
 *
 *     out-1700000001000/part-00000     a file for each partition, also for an empty one
 *                       part-00001
 *                       _SUCCESS       last
 *
 *     begin -> write (partition after partition, in order) -> stage -> publish
 *
 * stage makes the directory and its parts durable under temporary names; publish renames them, then
 * makes _SUCCESS. A crash leaves no directory, one without _SUCCESS, or a whole one; what runs
 * again then puts files of the same names and bytes in their place. Parts that somebody else left
 * there under names that are not ours are removed before.
 *
 * Text parts have the text form of an element a line; object parts are object files
 * (data/object_file.h); Parquet parts are called part-00000.parquet and need a real disk.
 *
 * Thread: the owner's.
 */
#ifndef MR_RDD_PART_DIR_H
#define MR_RDD_PART_DIR_H

#include "base/buf.h"

#include <millrace/batch.h>
#include <millrace/ext/env.h>

enum mr__part_kind { MR__PART_TEXT, MR__PART_OBJECT, MR__PART_PARQUET };

struct mr__part_dir;

/* Makes the directory and removes temporaries of an attempt that died. *ret_dir is new. */
enum mr_status mr__part_dir_begin(struct mr_env *env, const char *path, enum mr__part_kind kind,
                                  const struct mr_schema *schema, uint32_t part_count,
                                  struct mr__part_dir **ret_dir, struct mr_error *err);
/* Rows of a partition below part_count; partitions come in order. */
enum mr_status mr__part_dir_write(struct mr__part_dir *dir, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err);
enum mr_status mr__part_dir_stage(struct mr__part_dir *dir, struct mr_error *err);
/* Again after a failure: goes on where it was. */
enum mr_status mr__part_dir_publish(struct mr__part_dir *dir, struct mr_error *err);
/* NULL allowed; temporaries of what was not published are removed. */
void mr__part_dir_free(struct mr__part_dir *dir);

/* Text form of an element: the value, or "(key,value)". */
void mr__element_print(struct mr_buf *out, const struct mr_row *row);

#endif
