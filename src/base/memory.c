/*
 * The memory of the process and its shares; see memory.h. Called by core when a query starts, and
 * by what has a queue of its own.
 */
#include "base/memory.h"

#include "base/alloc.h"
#include "base/check.h"

#include <millrace/limits.h>

#include <malloc.h>
#include <stdatomic.h>

enum { ENGINE_BYTES_MIN = 16 << 20, MMAP_BYTES = 256 << 10 };

static const uint64_t PLENTY_BYTES = UINT64_C(4) << 30;
static _Atomic uint64_t total_bytes;
static _Atomic bool is_asked;

/* Of the whole: what is not ours to give. */
static uint64_t own_bytes(uint64_t total)
{
    return total - total / 4 - MR_MIN((uint64_t)MR_MEMORY_CODE_BYTES, total / 4);
}

void mr_memory_set(uint64_t bytes, bool asked)
{
    if (!asked && atomic_load(&is_asked))
        return;
    if (asked) {
        atomic_store(&is_asked, true);
        /* Large blocks go back to the system at once, also after larger ones were freed: what the
         * budget counts is then what the process has. */
        (void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
        (void)mallopt(M_TRIM_THRESHOLD, MMAP_BYTES);
    }
    atomic_store(&total_bytes, bytes);
    mr_budget_set_limit(NULL, bytes == 0 ? 0 : (size_t)own_bytes(bytes));
}

enum mr_status mr_set_memory_limit(uint64_t bytes, struct mr_error *err)
{
    if (bytes != 0 && bytes < MR_MEMORY_BYTES_MIN)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot run in %llu bytes of memory: give it at least %d MiB",
                       (unsigned long long)bytes, MR_MEMORY_BYTES_MIN >> 20);
    mr_memory_set(bytes, true);
    return MR_OK;
}

uint64_t mr_memory_bytes(void)
{
    return atomic_load(&total_bytes);
}

bool mr_memory_is_asked(void)
{
    return atomic_load(&is_asked);
}

uint64_t mr_memory_state(void)
{
    return own_bytes(atomic_load(&total_bytes)) / 2;
}

uint64_t mr_memory_engine(unsigned instances)
{
    uint64_t total = atomic_load(&total_bytes);

    if (total == 0)
        return 0;
    return MR_MAX(total / 4 / MR_MAX(instances, 1u), (uint64_t)ENGINE_BYTES_MIN);
}

uint64_t mr_memory_batch(void)
{
    uint64_t total = atomic_load(&total_bytes);

    return atomic_load(&is_asked) || total < PLENTY_BYTES ? own_bytes(total) / 32 : 0;
}

uint64_t mr_memory_part(unsigned parts, uint64_t most)
{
    uint64_t total = atomic_load(&total_bytes);

    return total == 0 ? most : MR_MIN(total / parts, most);
}
