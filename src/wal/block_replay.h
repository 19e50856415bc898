/*
 * What reading a received-block log gives: an index of its blocks.  Shared by block_log.c and
 * block_log_recover.c; private to src/wal.
 */
#ifndef MR_WAL_BLOCK_REPLAY_H
#define MR_WAL_BLOCK_REPLAY_H

#include "base/limits.h"
#include "wal/block_log.h"
#include "wal/segment.h"

#define MR_BLOCK_LOG_SUFFIX ".blk"

enum {
    MR_BLOCK_VERSION = 1,
    MR_BLOCK_VERSION_METADATA = 2, /* of a BLOCK with metadata */
    MR_BLOCK_FIELDS_BYTES = 24,
    MR_BLOCK_SEGMENT_REUSED = 1, /* flag of a head */
    MR_BLOCK_METADATA_BYTES_MAX = MR_LIMIT_RECEIVER_BLOCK_METADATA,
};

/* Where one block is. */
struct mr_block_place {
    struct mr_block_info info;
    uint64_t segment;      /* number of its first block, which is its name */
    uint64_t group;        /* byte in the file where its group starts */
    uint64_t offset;       /* of its record in the group's data */
    uint64_t chain;        /* of its record */
    uint64_t sum;          /* of its record, when it was read back */
    uint32_t fields_bytes; /* of the payload, before the data */
    uint32_t spill;        /* number of the spill file; 0 = none */
    char *data;            /* in memory, or NULL */
    char *metadata;        /* or NULL */
};

/* Blocks with consecutive numbers; places[0] is number `first`. */
struct mr_block_index {
    struct mr_block_place *places;
    size_t count, capacity;
    uint64_t first;
};
void mr__block_index_release(struct mr_block_index *index);
enum mr_status mr__block_index_reserve(struct mr_block_index *index, size_t more,
                                       struct mr_error *err);

struct mr_block_segment {
    uint64_t number;
    uint64_t last; /* newest block in it, 0 = none */
    uint64_t size_bytes;
};

struct mr_block_replay {
    struct mr_block_index index;
    struct mr_block_segment *segments;
    size_t segment_count, segment_capacity;
    uint64_t chain;
    uint64_t next_block;     /* number the next one gets */
    uint64_t tail;           /* in the newest segment: byte behind the last whole group */
    uint32_t ordinal;        /* in it: number of the next group */
    uint64_t unused_segment; /* made by a rotation that a crash cut short; 0 = none */
    uint64_t torn_bytes;
};
void mr__block_replay_release(struct mr_block_replay *replay);
enum mr_status mr__block_replay_run(struct mr_env *env, const char *dir,
                                    struct mr_block_replay *ret_replay, struct mr_error *err);
enum mr_status mr__block_note_segment(struct mr_block_replay *replay, uint64_t number,
                                      uint64_t size_bytes, struct mr_error *err);
/* Frees what a place holds. */
void mr__block_place_release(struct mr_block_place *place);

#endif
