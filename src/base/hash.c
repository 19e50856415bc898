/*
 * XXH3-64, the only hash of the project: see hash.h.  The checksum is part of the on-disk formats,
 * so the algorithm may not change.  Compiled inline, because keys are short and a call would cost
 * as much as the hash.  Thread: any.
 */
#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t mr_hash(const void *data, size_t size_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size_bytes, seed);
}

uint64_t mr_checksum(const void *data, size_t size_bytes)
{
    return XXH3_64bits_withSeed(data, size_bytes, 0);
}
