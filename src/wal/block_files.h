/*
 * The files of a received-block log: its newest segment, spare ones, and one or two copies of all
 * of it (features D11).
 *
 *     <dir>/<first block, 20 digits>.blk     segments
 *     <dir>/<number, 20 digits>.spare        files that wait to become one: old segments, or zeros
 *
 * With two copies every group is in both before it counts. A copy that cannot be written, or whose
 * files are gone, is given up with a log line and made again from the other one before the next
 * group; when that fails too, before the next segment. Only when no copy is left a write fails.
 *
 * Thread: the writer's, one at a time; recycle: driver, beside it; suspect: any.
 */
#ifndef MR_WAL_BLOCK_FILES_H
#define MR_WAL_BLOCK_FILES_H

#include "env/thread.h"
#include "wal/block_replay.h"

#include <stdatomic.h>

enum { MR_BLOCK_COPIES_MAX = 2, MR_BLOCK_SPARES_MAX = 32 };

struct mr_block_copy {
    char *dir;
    struct mr_appender *appender; /* of the newest segment; NULL: there is none, or it is lost */
    struct mr_appender *next;     /* of the segment that is being begun */
    char *path;                   /* of that segment */
    uint64_t inode, device;       /* of the file at path */
    atomic_bool lost;             /* given up until it is repaired; set by the writer */
    atomic_bool suspect;          /* a reader found damage in it */
    /* guarded by the files' lock: */
    uint64_t spares[MR_BLOCK_SPARES_MAX]; /* numbers of whole spare files */
    size_t spare_count;
};

struct mr_block_files {
    struct mr_env *env;
    uint64_t segment_bytes;
    struct mr_block_copy copies[MR_BLOCK_COPIES_MAX];
    unsigned copy_count;
    void (*event)(void *arg, enum mr_block_event event); /* a copy was lost, or repaired */
    void *event_arg;

    uint64_t segment; /* the newest: its number; 0 = none */
    uint64_t key;
    uint32_t ordinal;
    uint64_t segments_created;
    struct mr_buf sectors;
    bool repair_failed; /* not again before the next segment */

    struct mr_mutex dir_lock; /* recycling and repairing: which segments there are; before lock */
    struct mr_mutex lock;     /* guards: */
    struct mr_cond changed;
    uint64_t next_spare;
    size_t used_since_recycle; /* segments begun since the last recycling */
    size_t spares_wanted;
    bool stopping;
    struct mr_thread *preparer;
};

/* dirs: one, or two. prepares: a thread keeps spare files ready. Files of segment_bytes only. */
enum mr_status mr__block_files_init(struct mr_block_files *files, struct mr_env *env,
                                    const char *const *dirs, unsigned dir_count,
                                    uint64_t segment_bytes, struct mr_error *err);
void mr__block_files_release(struct mr_block_files *files);
/* Reads all copies, chooses the best, makes the others like it. *ret_replay as of that one. */
enum mr_status mr__block_files_recover(struct mr_block_files *files,
                                       struct mr_block_replay *ret_replay, struct mr_error *err);
/* Starts the thread that keeps spare files ready. */
enum mr_status mr__block_files_prepare(struct mr_block_files *files, struct mr_error *err);

/* Room for a group of that many bytes on the disk, and for NEXT behind it? */
bool mr__block_files_room(const struct mr_block_files *files, uint64_t group_bytes);
/* Begins the segment `number`, whose head's chain is given, and lets the old one name it. */
enum mr_status mr__block_files_rotate(struct mr_block_files *files, uint64_t number, uint64_t chain,
                                      uint64_t group_bytes, uint64_t *ret_size_bytes,
                                      struct mr_error *err);
/* Writes records as one group to all copies, synced. *ret_at: where it begins. */
enum mr_status mr__block_files_write(struct mr_block_files *files, const void *records,
                                     size_t size_bytes, uint64_t *ret_at, struct mr_error *err);
/* A segment is not needed any more: it becomes a spare file or goes. */
enum mr_status mr__block_files_recycle(struct mr_block_files *files, uint64_t number,
                                       uint64_t size_bytes, struct mr_error *err);
/* After a purge that recycled: how many spare files to keep follows how many were used. */
void mr__block_files_trim(struct mr_block_files *files);

/*
 * block_copies.c: reads all copies. *ret_replay is that of the best one; those that differ from it
 * are lost, to be repaired. MR_CONFIG: they hold different histories.
 */
enum mr_status mr__block_copies_choose(struct mr_block_files *files,
                                       struct mr_block_replay *ret_replay, struct mr_error *err);
/* Makes every copy that is lost or suspect like a good one, as far as that works. Writer, between
 * groups. */
void mr__block_copies_repair(struct mr_block_files *files);
void mr__block_copy_lose(struct mr_block_files *files, struct mr_block_copy *copy,
                         const struct mr_error *why);
/* Is the file at its path still the one that is written to? */
enum mr_status mr__block_copy_check(const struct mr_block_files *files,
                                    const struct mr_block_copy *copy, struct mr_error *err);
/* The copy goes on in that segment. Takes appender, also on failure. */
enum mr_status mr__block_copy_adopt(struct mr_block_files *files, struct mr_block_copy *copy,
                                    uint64_t number, struct mr_appender *appender,
                                    struct mr_error *err);

#endif
