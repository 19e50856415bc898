/*
 * Storage levels: where data that is kept goes (Spark's names; dstream.md STO-4).
 *
 *   MEMORY    within the budget; what finds no room is computed again, or goes to disk if the level
 *             says so
 *   SER       encoded rows instead of columns
 *   _2        a second copy: in another directory
 */
#ifndef MILLRACE_STORAGE_H
#define MILLRACE_STORAGE_H

enum mr_storage_level {
    MR_STORAGE_NONE,
    MR_STORAGE_DISK_ONLY,
    MR_STORAGE_DISK_ONLY_2,
    MR_STORAGE_MEMORY_ONLY,
    MR_STORAGE_MEMORY_ONLY_2,
    MR_STORAGE_MEMORY_ONLY_SER,
    MR_STORAGE_MEMORY_ONLY_SER_2,
    MR_STORAGE_MEMORY_AND_DISK,
    MR_STORAGE_MEMORY_AND_DISK_2,
    MR_STORAGE_MEMORY_AND_DISK_SER,
    MR_STORAGE_MEMORY_AND_DISK_SER_2,
    MR_STORAGE_OFF_HEAP,
};

#endif
