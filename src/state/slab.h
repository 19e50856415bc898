/*
 * Memory for the entries of one shard: blocks in size classes, named by a 32-bit ref instead of a
 * pointer, so that a slot of the table takes 8 bytes.  Blocks never move.  Private to src/state.
 * Thread: the shard's writer.
 */
#ifndef MR_STATE_SLAB_H
#define MR_STATE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MR_SLAB_UNIT_BYTES = 4,
    MR_SLAB_CHUNK_BYTES = 64 << 10,
    MR_SLAB_CHUNK_UNITS_LOG = 14,
    MR_SLAB_CHUNK_UNITS = 1 << MR_SLAB_CHUNK_UNITS_LOG,
    MR_SLAB_CLASSES = 256,
};

struct mr_slab {
    uint8_t **chunks;
    uint32_t chunk_count, chunk_capacity;
    uint32_t current_chunk; /* new blocks are cut from it */
    uint32_t current_bytes;
    uint32_t current_used;
    bool has_current;
    uint32_t free_lists[MR_SLAB_CLASSES]; /* refs; 0 = none */
    uint32_t *free_indexes;               /* chunk numbers without memory */
    uint32_t free_index_count, free_index_capacity;
    uint64_t memory_bytes; /* of all chunks */
};

/* The smallest class that holds so many bytes (at most 4 GiB), and what a class holds. */
unsigned mr__slab_class(size_t bytes);
size_t mr__slab_class_bytes(unsigned class);

/*
 * False without memory, or when 16 GiB of small blocks or 250,000 large ones are in use.
 * *ret_ref is never 0.
 */
bool mr__slab_alloc(struct mr_slab *slab, unsigned class, uint32_t *ret_ref);
void mr__slab_free(struct mr_slab *slab, uint32_t ref, unsigned class);
void mr__slab_release(struct mr_slab *slab); /* all blocks */

static inline void *mr__slab_at(const struct mr_slab *slab, uint32_t ref)
{
    return slab->chunks[ref >> MR_SLAB_CHUNK_UNITS_LOG] +
           (size_t)(ref & (MR_SLAB_CHUNK_UNITS - 1)) * MR_SLAB_UNIT_BYTES;
}

#endif
