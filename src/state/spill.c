/*
 * Memory of state, on the heap or in the spill file; see spill.h. Called by slab.c, table.c,
 * store.c and store_batch.c for chunks, slots, changes and undo.
 *
 *     share of the budget = half heap, first come, first served + half resident pages of the file
 *
 *     extent (16 MiB, or one large block)   | run | run    |  free  | run |   units of 64 KiB
 *
 * Small blocks (below half a unit) are always the heap's. A block that the heap has no room for is
 * a run of units in an extent; an extent without runs goes back to the disk.
 *
 * Which pages leave.  Whoever walks over state ticks; every so many ticks the resident bytes of the
 * process's mapped files are looked at, and while they are above the share, one part in 64 is
 * dropped, round and round: out of the process, to be written by the kernel when it wants its pages
 * back. A page that is used again comes back through a page fault, from the kernel's cache or
 *     share of the budget = half heap, first come first served + half resident pages of the file
 * of the extents, or in none.
 *
 * Invariant: nothing is read from a file that another process, or an earlier run, wrote.
 *
 * Threads: any; `lock` guards the pool. Pages may be dropped while others read and write them.
 */
#include "state/spill.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "env/spill_file.h"
#include "env/thread.h"

#include <string.h>

#include "base/banned.h"

enum {
    UNIT_BYTES = 64 << 10,
    EXTENT_UNITS = 256,
    TICKS = 256, /* between two looks */
    STEPS = 64,  /* parts that are dropped one after the other */
    DIR_BYTES = 4096,
};
static const uint32_t INSIDE = UINT32_MAX; /* a unit that is not the first of its run */

struct extent {
    uint8_t *memory;
    uint32_t units;
    uint32_t used;
    uint32_t fresh;  /* units from here on were never used: they are zero */
    uint32_t runs[]; /* at its first unit: the length of a run; 0 = free */
};

_Atomic bool mr__spill_active;

static struct mr_mutex lock = {PTHREAD_MUTEX_INITIALIZER};
static char dir[DIR_BYTES];
static struct mr_spill_file *file;
static struct extent **extents;
static size_t extent_count, extent_capacity;
static size_t next_drop, next_offset; /* in it: where the next round of dropping begins */
static size_t charged_bytes;          /* to the process, for resident pages */
static size_t baseline_bytes;         /* mapped files that are not ours, about */
static struct mr_error refusal;       /* of the spill file, the last one; MR_OK: the heap's */
static _Atomic uint64_t heap_max, resident_max; /* 0 = no limit */
static _Atomic uint64_t heap_bytes, spilled_bytes;
static _Atomic bool trimming;

/* ---------------------------------------------------------------- configuration */

void mr_state_memory_configure(const char *spill_dir, uint64_t share_bytes)
{
    mr_mutex_lock(&lock);
    if (spill_dir != NULL && file == NULL && strlen(spill_dir) < sizeof(dir))
        memcpy(dir, spill_dir, strlen(spill_dir) + 1);
    atomic_store(&heap_max, share_bytes / 2);
    atomic_store(&resident_max, share_bytes / 2);
    mr_mutex_unlock(&lock);
}

uint64_t mr_state_memory_bytes(void)
{
    return atomic_load_explicit(&heap_bytes, memory_order_relaxed);
}

uint64_t mr_state_spilled_bytes(void)
{
    return atomic_load_explicit(&spilled_bytes, memory_order_relaxed);
}

/* ---------------------------------------------------------------- extents, under the lock */

static bool open_file(void)
{
    if (file != NULL)
        return true;
    if (!mr_budget_charge(NULL, (size_t)atomic_load(&resident_max))) {
        MR_FAIL(&refusal, MR_NOMEM,
                "no room in the memory for %llu MiB of pages of the spill file; give more 'memory'",
                (unsigned long long)(atomic_load(&resident_max) >> 20));
        return false;
    }
    charged_bytes = (size_t)atomic_load(&resident_max);
    if (mr_spill_file_open(dir[0] != '\0' ? dir : ".", &file, &refusal) != MR_OK) {
        mr_budget_discharge(NULL, charged_bytes);
        charged_bytes = 0;
        return false;
    }
    baseline_bytes = mr_mapped_resident_bytes();
    mr_log(MR_LOG_INFO, "state", NULL, -1,
           "state is larger than its share of the memory (%llu MiB): the rest goes to a file in "
           "'%s'",
           (unsigned long long)(atomic_load(&heap_max) >> 20), dir[0] != '\0' ? dir : ".");
    return true;
}

static struct extent *add_extent(uint32_t units)
{
    struct extent *extent;
    void *memory = NULL;

    if (extent_count == extent_capacity) {
        size_t capacity = extent_capacity == 0 ? 16 : extent_capacity * 2;
        struct extent **grown = mr_realloc(NULL, extents, capacity * sizeof(*grown));

        if (grown == NULL)
            return NULL;
        extents = grown;
        extent_capacity = capacity;
    }
    extent = mr_alloc_zero(NULL, sizeof(*extent) + (size_t)units * sizeof(*extent->runs));
    if (extent == NULL)
        return NULL;
    if (!open_file() || mr_spill_file_extend(file, (size_t)units * UNIT_BYTES, &memory, &refusal)) {
        mr_free(extent);
        return NULL;
    }
    extent->memory = memory;
    extent->units = units;
    extents[extent_count++] = extent;
    return extent;
}

static void close_all(void)
{
    mr_spill_file_close(file);
    file = NULL;
    mr_budget_discharge(NULL, charged_bytes);
    charged_bytes = 0;
    mr_free(extents);
    extents = NULL;
    extent_capacity = 0;
    atomic_store(&mr__spill_active, false);
}

static void remove_extent(size_t index)
{
    struct extent *extent = extents[index];

    mr_spill_file_release(file, extent->memory);
    mr_free(extent);
    extents[index] = extents[--extent_count];
    if (extent_count == 0)
        close_all();
}

/* The first of `units` free ones in a row, or -1. */
static int64_t find_run(const struct extent *extent, uint32_t units)
{
    uint32_t free_units = 0;

    if (extent->units - extent->used < units)
        return -1;
    for (uint32_t i = 0; i < extent->units; i++) {
        free_units = extent->runs[i] == 0 ? free_units + 1 : 0;
        if (free_units == units)
            return (int64_t)i + 1 - units;
    }
    return -1;
}

static void *take_run(struct extent *extent, uint32_t first, uint32_t units, bool zero)
{
    uint8_t *memory = extent->memory + (size_t)first * UNIT_BYTES;

    extent->runs[first] = units;
    for (uint32_t i = first + 1; i < first + units; i++)
        extent->runs[i] = INSIDE;
    extent->used += units;
    if (zero && first < extent->fresh)
        memset(memory, 0, (size_t)MR_MIN(units, extent->fresh - first) * UNIT_BYTES);
    extent->fresh = MR_MAX(extent->fresh, first + units);
    atomic_fetch_add(&spilled_bytes, (uint64_t)units * UNIT_BYTES);
    return memory;
}

static void *spill_alloc(size_t bytes, bool zero)
{
    uint32_t units = (uint32_t)((bytes + UNIT_BYTES - 1) / UNIT_BYTES);
    struct extent *extent;
    void *memory = NULL;
    int64_t first = -1;

    mr_mutex_lock(&lock);
    refusal.status = MR_OK;
    for (size_t i = extent_count; i > 0 && memory == NULL; i--) { /* the newest has most room */
        first = find_run(extents[i - 1], units);
        if (first >= 0)
            memory = take_run(extents[i - 1], (uint32_t)first, units, zero);
    }
    if (memory == NULL) {
        extent = add_extent(MR_MAX(units, (uint32_t)EXTENT_UNITS));
        if (extent != NULL)
            memory = take_run(extent, 0, units, zero);
        else if (extent_count == 0 && file != NULL)
            close_all();
    }
    if (memory != NULL)
        atomic_store(&mr__spill_active, true);
    mr_mutex_unlock(&lock);
    return memory;
}

/* False: it is not in the spill file. */
static bool spill_free(const uint8_t *memory)
{
    bool found = false;

    mr_mutex_lock(&lock);
    for (size_t i = 0; i < extent_count && !found; i++) {
        struct extent *extent = extents[i];
        uint32_t first, units;

        if (memory < extent->memory ||
            memory >= extent->memory + (size_t)extent->units * UNIT_BYTES)
            continue;
        first = (uint32_t)((size_t)(memory - extent->memory) / UNIT_BYTES);
        units = extent->runs[first];
        MR_ASSERT(units > 0 && units != INSIDE);
        memset(&extent->runs[first], 0, (size_t)units * sizeof(*extent->runs));
        extent->used -= units;
        atomic_fetch_sub(&spilled_bytes, (uint64_t)units * UNIT_BYTES);
        found = true;
        if (extent->used == 0)
            remove_extent(i);
    }
    mr_mutex_unlock(&lock);
    return found;
}

/* ---------------------------------------------------------------- blocks */

static void *heap_alloc(size_t bytes, bool zero)
{
    void *memory = zero ? mr_alloc_zero(NULL, bytes) : mr_alloc(NULL, bytes);

    if (memory != NULL)
        atomic_fetch_add_explicit(&heap_bytes, mr_alloc_bytes(memory), memory_order_relaxed);
    return memory;
}

static void *heap_grow(void *memory, size_t bytes)
{
    size_t before = mr_alloc_bytes(memory);
    void *grown = mr_realloc(NULL, memory, bytes);

    if (grown != NULL)
        atomic_fetch_add_explicit(&heap_bytes, mr_alloc_bytes(grown) - before,
                                  memory_order_relaxed);
    return grown;
}

static void *alloc(size_t bytes, bool zero)
{
    uint64_t max = atomic_load_explicit(&heap_max, memory_order_relaxed);
    void *memory;

    if (max == 0 || bytes < UNIT_BYTES / 2)
        return heap_alloc(bytes, zero);
    if (atomic_load_explicit(&heap_bytes, memory_order_relaxed) + bytes <= max) {
        memory = heap_alloc(bytes, zero);
        if (memory != NULL)
            return memory;
    }
    return spill_alloc(bytes, zero);
}

void *mr__state_alloc(size_t bytes)
{
    return alloc(bytes, false);
}

void *mr__state_alloc_zero(size_t bytes)
{
    return alloc(bytes, true);
}

void mr__state_free(void *memory)
{
    if (memory == NULL)
        return;
    if (atomic_load_explicit(&mr__spill_active, memory_order_acquire) && spill_free(memory))
        return;
    atomic_fetch_sub_explicit(&heap_bytes, mr_alloc_bytes(memory), memory_order_relaxed);
    mr_free(memory);
}

void *mr__state_grow(void *memory, size_t old_bytes, size_t bytes)
{
    uint64_t max = atomic_load_explicit(&heap_max, memory_order_relaxed);
    void *grown;

    if (memory != NULL && !mr__state_is_spilled() &&
        (max == 0 || atomic_load_explicit(&heap_bytes, memory_order_relaxed) + bytes <= max))
        return heap_grow(memory, bytes);
    grown = alloc(bytes, false);
    if (grown == NULL)
        return NULL;
    if (memory != NULL)
        memcpy(grown, memory, MR_MIN(old_bytes, bytes));
    mr__state_free(memory);
    return grown;
}

enum mr_status mr__state_no_memory(const char *what, const char *name, struct mr_error *err)
{
    struct mr_error spill;

    mr_mutex_lock(&lock);
    spill = refusal;
    mr_mutex_unlock(&lock);
    if (spill.status != MR_OK && atomic_load(&heap_max) != 0)
        return MR_FAIL(err, spill.status, "cannot %s state '%s': %s", what, name, spill.text);
    return MR_FAIL(err, MR_NOMEM, "cannot %s state '%s': out of memory", what, name);
}

enum mr_status mr_state_check_memory(struct mr_error *err)
{
    enum mr_status status = MR_OK;

    if (!mr__state_is_spilled())
        return MR_OK;
    mr_mutex_lock(&lock);
    if (file != NULL)
        status = mr_spill_file_check(file, err);
    mr_mutex_unlock(&lock);
    return status;
}

/* ---------------------------------------------------------------- cold pages */

static bool is_above(uint64_t max)
{
    size_t now = mr_mapped_resident_bytes();

    return now == 0 || now > baseline_bytes + max; /* 0: cannot know, so be careful */
}

/* Goes on where it stopped the last time; returns how much it dropped. */
static uint64_t drop_some(size_t wanted)
{
    uint64_t dropped = 0;

    while (dropped < wanted) {
        struct extent *extent;
        size_t bytes;

        if (next_drop >= extent_count)
            next_drop = 0;
        extent = extents[next_drop];
        bytes = MR_MIN((size_t)extent->fresh * UNIT_BYTES -
                           MR_MIN(next_offset, (size_t)extent->fresh * UNIT_BYTES),
                       wanted - dropped);
        mr_spill_file_drop(extent->memory + next_offset, bytes);
        dropped += MR_MAX(bytes, (size_t)1);
        next_offset += bytes;
        if (next_offset >= (size_t)extent->fresh * UNIT_BYTES) {
            next_offset = 0;
            next_drop++;
        }
    }
    return dropped;
}

static void drop_cold(void)
{
    uint64_t max = atomic_load(&resident_max);
    uint64_t all = atomic_load_explicit(&spilled_bytes, memory_order_relaxed);
    uint64_t dropped = 0;

    if (extent_count == 0 || !is_above(max))
        return;
    do
        dropped += drop_some((size_t)MR_MAX(all / STEPS, (uint64_t)UNIT_BYTES));
    while (dropped < all && is_above(max / 4 * 3));
    if (dropped >= all) /* what is left is not ours: a library that was loaded since */
        baseline_bytes = mr_mapped_resident_bytes();
}

void mr__spill_trim(void)
{
    static _Thread_local unsigned ticks;

    if (++ticks % TICKS != 0 ||
        atomic_load_explicit(&spilled_bytes, memory_order_relaxed) <= atomic_load(&resident_max) ||
        atomic_exchange(&trimming, true))
        return;
    mr_mutex_lock(&lock);
    drop_cold();
    mr_mutex_unlock(&lock);
    atomic_store(&trimming, false);
}
