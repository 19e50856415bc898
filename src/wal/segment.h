/*
 * Segments: preallocated files of flush groups, shared by the batch log and the received-block log.
 *
 * A group is everything that goes out with one write and one sync.  It is cut into sectors that are
 * tagged one by one, so that a reader can tell three things apart: a group that arrived whole, a
 * group of which a crash left a part (torn: it was never relied on), and a group that had arrived
 * and was damaged later.  segment.c draws the format and says what is proven by what.
 *
 * Private to src/wal.  Thread: pure functions over the caller's memory; files belong to the caller.
 */
#ifndef MR_WAL_SEGMENT_H
#define MR_WAL_SEGMENT_H

#include "base/buf.h"
#include "wal/record.h"

#include <millrace/ext/durable.h>

enum {
    MR_SECTOR_BYTES = 512,
    MR_SECTOR_TAG_BYTES = 16,
    MR_SECTOR_DATA_BYTES = MR_SECTOR_BYTES - MR_SECTOR_TAG_BYTES,
    MR_SEGMENT_NAME_BYTES = 32, /* 20 digits, '.', suffix, NUL */
};

/*
 * Which log a segment belongs to; part of every tag, so sectors of one log never pass in another.
 */
enum mr_segment_kind { MR_SEGMENT_BATCH_LOG = 1, MR_SEGMENT_BLOCK_LOG = 2 };

/* Secret-free key of the tags of one segment. */
uint64_t mr__segment_key(enum mr_segment_kind kind, uint64_t number);

/* Sectors and bytes that data_bytes of records take on the disk. */
uint64_t mr__group_disk_bytes(uint64_t data_bytes);
/* Cuts data into tagged sectors and appends them to out (which may fail: see mr_buf). */
void mr__group_encode(struct mr_buf *out, uint64_t key, uint32_t ordinal, const void *data,
                      size_t data_bytes);

enum mr_group_result {
    MR_GROUP_WHOLE,   /* all sectors arrived and all tags are right; the records decide the rest */
    MR_GROUP_NONE,    /* nothing but zeros from here on */
    MR_GROUP_TORN,    /* a part arrived and nothing proves that the group was ever synced */
    MR_GROUP_DAMAGED, /* it had arrived, or had been synced, and is not what was written */
};

struct mr_group {
    uint64_t start; /* byte in the file */
    uint64_t end;   /* behind its last sector; valid when WHOLE */
    uint64_t bad;   /* first sector that is missing or wrong; valid when DAMAGED or TORN */
    const char *reason;
};

/*
 * Reads the group `ordinal` at byte start of a segment's bytes.  A WHOLE one gives its data
 * (records, then zeros) in out, which is cleared first. is_reused: sectors of other segments count
 * as zeros.
 */
enum mr_group_result mr__group_read(const uint8_t *file, size_t file_bytes, uint64_t start,
                                    uint64_t key, uint32_t ordinal, bool is_reused,
                                    struct mr_buf *out, struct mr_group *ret_group);

/* Files of one log, ascending by number. */
struct mr_segment_list {
    uint64_t *numbers;
    size_t count;
};
void mr__segment_list_release(struct mr_segment_list *list);
/*
 * Only canonical names count: 20 digits and suffix; others are ignored. MR_CORRUPT when one is not
 * a regular file.
 */
enum mr_status mr__segment_list(struct mr_env *env, const char *dir, const char *suffix,
                                struct mr_segment_list *ret_list, struct mr_error *err);
void mr__segment_name(uint64_t number, const char *suffix, char name[MR_SEGMENT_NAME_BYTES]);
/*
 * Flushes a segment that a process which may be dead has written. The one before an empty segment:
 * its NEXT may be in that process's cache only, and a restart relies on it.
 */
enum mr_status mr__segment_sync(struct mr_env *env, const char *dir, uint64_t number,
                                const char *suffix, struct mr_error *err);

/*
 * Makes a segment durable under its final name: zero-filled to size_bytes, with `head` (one framed
 * SEGMENT record) as group 0. A crash leaves at most a ".tmp-" name or the complete file.
 */
enum mr_status mr__segment_create(struct mr_env *env, const char *dir, const char *name,
                                  uint64_t size_bytes, uint64_t key, const struct mr_buf *head,
                                  struct mr_appender **ret_appender, struct mr_error *err);

/* A segment in memory: bytes and the head's record, checked. */
struct mr_segment {
    char *path;
    uint64_t number;
    uint64_t key;
    uint8_t *data;
    size_t size_bytes;
    struct mr_buf head;      /* data of group 0 */
    struct mr_record record; /* SEGMENT; borrows from head */
    uint64_t first_group;    /* byte of group 1 */
};
void mr__segment_release(struct mr_segment *segment);
/*
 * Reads the file whole and checks its head: MR_CORRUPT, MR_VERSION; MR_NOT_FOUND when it was
 * removed meanwhile.
 */
enum mr_status mr__segment_load(struct mr_env *env, const char *dir, const char *suffix,
                                uint64_t number, enum mr_segment_kind kind,
                                struct mr_segment *ret_segment, struct mr_error *err);

/* The fields every SEGMENT record begins with. */
enum { MR_SEGMENT_FORMAT = 1, MR_SEGMENT_HEAD_BYTES = 8 + 8 + 16 };
void mr__segment_head_begin(struct mr_buf *payload, uint64_t number, uint64_t size_bytes,
                            const uint8_t query_id[16]);
const uint8_t *mr__segment_query_id(const struct mr_segment *segment);
struct mr_bytes mr__segment_head_rest(const struct mr_segment *segment);

/*
 * First segments are small (a start is quick), later ones as large as asked: 256 KiB, 1 MiB, 4 MiB,
 * ...
 */
uint64_t mr__segment_size(uint64_t created_before, uint64_t segment_bytes, uint64_t head_bytes,
                          uint64_t group_bytes);

#endif
