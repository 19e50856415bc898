/*
 * Blocks for the entries of one shard; see slab.h.  Called by table.c only.
 *
 *     ref = chunk number * 16384 + unit of 4 bytes in the chunk; ref 0 is nobody's
 *
 *     chunk 0 (1 KiB)   1 (4 KiB)   2 (16 KiB)   3 ... (64 KiB)   n (one block above 16 KiB)
 *
 * Classes: up to 256 bytes in steps of 4, above it eight steps to each doubling.  Small blocks are
 * cut from the current chunk one after the other; freed ones wait in a list of their class, the
 * link in their first 4 bytes.  What is left of a chunk when the next one begins becomes free
 * blocks.  A large block has a chunk of its own, which goes back to the system.
 *
 * Threads: the shard's writer.
 */
#include "state/slab.h"

#include "base/alloc.h"
#include "base/check.h"
#include "state/spill.h"

#include <string.h>

#include "base/banned.h"

enum {
    FIRST_CHUNK_BYTES = 1024,
    LARGE_BYTES = MR_SLAB_CHUNK_BYTES / 4, /* blocks above have a chunk of their own */
    CHUNK_COUNT_MAX = 1 << (32 - MR_SLAB_CHUNK_UNITS_LOG),
    SMALL_STEPS = 64,
    STEPS_END = SMALL_STEPS * MR_SLAB_UNIT_BYTES,
};
_Static_assert(MR_SLAB_CHUNK_UNITS *MR_SLAB_UNIT_BYTES == MR_SLAB_CHUNK_BYTES,
               "a ref is chunk and unit");

size_t mr__slab_class_bytes(unsigned class)
{
    unsigned octave, step;

    MR_ASSERT(class < MR_SLAB_CLASSES);
    if (class < SMALL_STEPS)
        return ((size_t) class + 1) * MR_SLAB_UNIT_BYTES;
    octave = (class - SMALL_STEPS) / 8;
    step = (class - SMALL_STEPS) % 8;
    return ((size_t)STEPS_END << octave) + ((size_t)step + 1) * ((size_t)(STEPS_END / 8) << octave);
}

unsigned mr__slab_class(size_t bytes)
{
    unsigned octave;
    size_t over;

    MR_ASSERT(bytes >= 1);
    if (bytes <= STEPS_END)
        return (unsigned)((bytes + MR_SLAB_UNIT_BYTES - 1) / MR_SLAB_UNIT_BYTES - 1);
    octave = 63 - (unsigned)__builtin_clzll((bytes - 1) / STEPS_END);
    over = bytes - 1 - ((size_t)STEPS_END << octave);
    return SMALL_STEPS + octave * 8 + (unsigned)(over / ((size_t)(STEPS_END / 8) << octave));
}

static bool grow_chunks(struct mr_slab *slab)
{
    uint32_t capacity = slab->chunk_capacity == 0 ? 4 : slab->chunk_capacity * 2;
    uint8_t **grown = mr_realloc(NULL, slab->chunks, capacity * sizeof(*grown));

    if (grown == NULL)
        return false;
    slab->chunks = grown;
    slab->chunk_capacity = capacity;
    return true;
}

static bool grow_free_indexes(struct mr_slab *slab)
{
    uint32_t capacity = slab->free_index_capacity == 0 ? 4 : slab->free_index_capacity * 2;
    uint32_t *grown = mr_realloc(NULL, slab->free_indexes, capacity * sizeof(*grown));

    if (grown == NULL)
        return false;
    slab->free_indexes = grown;
    slab->free_index_capacity = capacity;
    return true;
}

static bool new_chunk(struct mr_slab *slab, size_t bytes, uint32_t *ret_index)
{
    uint8_t *memory;
    uint32_t index;

    if (slab->free_index_count == 0) {
        if (slab->chunk_count == CHUNK_COUNT_MAX)
            return false;
        if (slab->chunk_count == slab->chunk_capacity && !grow_chunks(slab))
            return false;
    }
    memory = mr__state_alloc(bytes);
    if (memory == NULL)
        return false;
    index = slab->free_index_count > 0 ? slab->free_indexes[--slab->free_index_count]
                                       : slab->chunk_count++;
    slab->chunks[index] = memory;
    slab->memory_bytes += bytes;
    *ret_index = index;
    return true;
}

static void push_free(struct mr_slab *slab, uint32_t ref, unsigned class)
{
    memcpy(mr__slab_at(slab, ref), &slab->free_lists[class], sizeof(uint32_t));
    slab->free_lists[class] = ref;
}

void mr__slab_free(struct mr_slab *slab, uint32_t ref, unsigned class)
{
    uint32_t index = ref >> MR_SLAB_CHUNK_UNITS_LOG;

    MR_ASSERT(ref != 0 && index < slab->chunk_count);
    if (mr__slab_class_bytes(class) <= LARGE_BYTES) {
        push_free(slab, ref, class);
        return;
    }
    mr__state_free(slab->chunks[index]);
    slab->chunks[index] = NULL;
    slab->memory_bytes -= mr__slab_class_bytes(class);
    /* Without memory for the list the number is lost until the store goes: nothing else is. */
    if (slab->free_index_count < slab->free_index_capacity || grow_free_indexes(slab))
        slab->free_indexes[slab->free_index_count++] = index;
}

static void retire_chunk(struct mr_slab *slab)
{
    while (slab->has_current && slab->current_bytes - slab->current_used >= MR_SLAB_UNIT_BYTES) {
        uint32_t left = slab->current_bytes - slab->current_used;
        unsigned class = mr__slab_class(left);

        if (mr__slab_class_bytes(class) > left)
            class --;
        push_free(slab,
                  slab->current_chunk * MR_SLAB_CHUNK_UNITS +
                      slab->current_used / MR_SLAB_UNIT_BYTES,
                  class);
        slab->current_used += (uint32_t)mr__slab_class_bytes(class);
    }
    slab->has_current = false;
}

static bool make_room(struct mr_slab *slab, size_t bytes)
{
    uint32_t wanted = FIRST_CHUNK_BYTES;

    if (slab->has_current && slab->current_used + bytes <= slab->current_bytes)
        return true;
    for (uint32_t i = 0; (i < slab->chunk_count || wanted < bytes + MR_SLAB_UNIT_BYTES) &&
                         wanted < MR_SLAB_CHUNK_BYTES;
         i++)
        wanted *= 4;
    retire_chunk(slab);
    if (!new_chunk(slab, wanted, &slab->current_chunk))
        return false;
    slab->has_current = true;
    slab->current_bytes = wanted;
    slab->current_used = slab->current_chunk == 0 ? MR_SLAB_UNIT_BYTES : 0; /* ref 0 is nobody's */
    return true;
}

bool mr__slab_alloc(struct mr_slab *slab, unsigned class, uint32_t *ret_ref)
{
    size_t bytes = mr__slab_class_bytes(class);
    uint32_t index;

    if (slab->free_lists[class] != 0) {
        *ret_ref = slab->free_lists[class];
        memcpy(&slab->free_lists[class], mr__slab_at(slab, *ret_ref), sizeof(uint32_t));
        return true;
    }
    if (bytes > LARGE_BYTES) {
        /* Chunk 0 is never a large block's: its ref would be 0. */
        if (slab->chunk_count == 0 && !make_room(slab, MR_SLAB_UNIT_BYTES))
            return false;
        if (!new_chunk(slab, bytes, &index))
            return false;
        *ret_ref = index * MR_SLAB_CHUNK_UNITS;
        return true;
    }
    if (!make_room(slab, bytes))
        return false;
    *ret_ref = slab->current_chunk * MR_SLAB_CHUNK_UNITS + slab->current_used / MR_SLAB_UNIT_BYTES;
    slab->current_used += (uint32_t)bytes;
    return true;
}

void mr__slab_release(struct mr_slab *slab)
{
    for (uint32_t i = 0; i < slab->chunk_count; i++)
        mr__state_free(slab->chunks[i]);
    mr_free(slab->chunks);
    mr_free(slab->free_indexes);
    *slab = (struct mr_slab){0};
}
