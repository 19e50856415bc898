/*
 * A file behind memory: what does not fit the memory budget lies in a file without a name and is
 * read and written through a mapping. It is a cache of what the checkpoint can give again, never a
 * durable path: nothing here is synced, and a process that ends, however, leaves nothing behind.
 *
 * The room is reserved on the disk before it is mapped, so a full disk is an error of extend, not a
 * signal later. A page that cannot be read raises SIGBUS: a handler says so in one line and ends
 * the process with exit code 74, and the next start goes on from the checkpoint.
 *
 * Thread: one at a time; the memory itself: any.
 */
#ifndef MR_ENV_SPILL_FILE_H
#define MR_ENV_SPILL_FILE_H

#include <millrace/error.h>

struct mr_spill_file;

/* Makes the file below dir (which is made when its parent is there). MR_CANNOT_CREATE, MR_IO. */
enum mr_status mr_spill_file_open(const char *dir, struct mr_spill_file **ret_file,
                                  struct mr_error *err);
/* Takes all memory away. NULL allowed. */
void mr_spill_file_close(struct mr_spill_file *file);

/*
 * Reserves and maps so many more bytes (a multiple of 64 KiB); they are zero. MR_IO: no room on the
 * disk; MR_LIMIT: MR_LIMIT_SPILL_EXTENTS.
 */
enum mr_status mr_spill_file_extend(struct mr_spill_file *file, size_t bytes, void **ret_memory,
                                    struct mr_error *err);
/* Gives an extent's memory and its room on the disk back. */
void mr_spill_file_release(struct mr_spill_file *file, void *memory);
/* These pages (within an extent) leave the process; the content stays, in the kernel's cache until
 * it writes them. */
void mr_spill_file_drop(void *memory, size_t bytes);
/* Whether all that went to the disk so far arrived there: MR_IO. Called before a commit: a batch
 * that may have read what the disk lost does not become real. */
enum mr_status mr_spill_file_check(struct mr_spill_file *file, struct mr_error *err);

/* Bytes of files that this process has mapped and resident: libraries, spill files. 0: unknown. */
size_t mr_mapped_resident_bytes(void);

#endif
