/* Hashes: XXH3-64. Checksums use mr_checksum; tables over outside data use a seed (hash flooding,
 * faults.md L14). */
#ifndef MR_BASE_HASH_H
#define MR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t mr_hash(const void *data, size_t size_bytes, uint64_t seed);
/* mr_hash with seed 0: part of the on-disk formats */
uint64_t mr_checksum(const void *data, size_t size_bytes);

#endif
