/*
 * Memory with budgets, and arenas; see alloc.h.
 *
 * Called by everything outside src/base instead of malloc.  Every block has a header in front of
 * what the caller sees:
 *
 *     malloc'ed base                     memory the caller has
 *     | (padding, aligned blocks only) | budget 8 | size 6, offset 2 | size bytes ...
 *
 * `offset` is the way back from the caller's memory to the base.  A budget is charged with size +
 * header, and so are its parents up to the process's budget.
 *
 * Arena: a list of blocks, the newest first; allocations move `at` up to `end`.  Under the address
 * sanitizer every allocation is followed by a poisoned red zone, and cleared memory is poisoned.
 *
 * Threads: budgets and counters are atomic; an arena belongs to one thread.
 */
#include "base/alloc.h"

#include "base/check.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(memory, size) ASAN_POISON_MEMORY_REGION((memory), (size))
#define UNPOISON(memory, size) ASAN_UNPOISON_MEMORY_REGION((memory), (size))
enum { RED_ZONE_BYTES = 16 };
#else
#define POISON(memory, size) ((void)(memory), (void)(size))
#define UNPOISON(memory, size) ((void)(memory), (void)(size))
enum { RED_ZONE_BYTES = 0 };
#endif

struct mr_budget {
    struct mr_budget *parent; /* NULL: the process's budget is the last one */
    char *name;
    _Atomic size_t limit_bytes; /* 0 = none */
    _Atomic size_t used_bytes;
    _Atomic size_t peak_bytes;
    _Atomic uint64_t refused_count;
};

struct header {
    struct mr_budget *budget; /* never NULL */
    uint64_t size_and_offset; /* size << 16 | offset from the base to the caller's memory */
};
_Static_assert(sizeof(struct header) == 16, "the caller's memory must stay 16-byte aligned");

enum { ALIGNED_TO = 64, ARENA_BLOCK_MIN = 4096, ARENA_BLOCK_MAX = 1 << 20 };
#define SIZE_MAX_BYTES ((size_t)1 << 46)

static struct mr_budget process_budget = {.name = (char *)(uintptr_t) "process"};
static _Atomic uint64_t allocation_count;
static _Atomic uint64_t fail_first; /* number of the allocation that fails, 0 = off */
static _Atomic bool fail_forever;

/* ---------------------------------------------------------------- budgets */

struct mr_budget *mr_budget_new(struct mr_budget *parent, const char *name, size_t limit_bytes)
{
    struct mr_budget *budget = mr_alloc_zero(NULL, sizeof(*budget));

    if (budget == NULL)
        return NULL;
    budget->name = mr_strdup(name);
    if (budget->name == NULL) {
        mr_free(budget);
        return NULL;
    }
    budget->parent = parent == NULL ? &process_budget : parent;
    budget->limit_bytes = limit_bytes;
    return budget;
}

void mr_budget_free(struct mr_budget *budget)
{
    if (budget == NULL)
        return;
    MR_ASSERT(budget != &process_budget);
    MR_ASSERT(atomic_load(&budget->used_bytes) == 0);
    mr_free(budget->name);
    mr_free(budget);
}

size_t mr_budget_used(const struct mr_budget *budget)
{
    if (budget == NULL)
        budget = &process_budget;
    return atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
}

size_t mr_budget_peak(const struct mr_budget *budget)
{
    if (budget == NULL)
        budget = &process_budget;
    return atomic_load_explicit(&budget->peak_bytes, memory_order_relaxed);
}

size_t mr_budget_limit(const struct mr_budget *budget)
{
    if (budget == NULL)
        budget = &process_budget;
    return atomic_load_explicit(&budget->limit_bytes, memory_order_relaxed);
}

void mr_budget_set_limit(struct mr_budget *budget, size_t limit_bytes)
{
    if (budget == NULL)
        budget = &process_budget;
    atomic_store_explicit(&budget->limit_bytes, limit_bytes, memory_order_relaxed);
}

uint64_t mr_budget_refused(const struct mr_budget *budget)
{
    if (budget == NULL)
        budget = &process_budget;
    return atomic_load_explicit(&budget->refused_count, memory_order_relaxed);
}

static void discharge(struct mr_budget *budget, const struct mr_budget *up_to, size_t size)
{
    for (; budget != up_to; budget = budget->parent)
        atomic_fetch_sub_explicit(&budget->used_bytes, size, memory_order_relaxed);
}

static bool charge(struct mr_budget *budget, size_t size)
{
    for (struct mr_budget *at = budget; at != NULL; at = at->parent) {
        size_t before = atomic_fetch_add_explicit(&at->used_bytes, size, memory_order_relaxed);
        size_t used = before + size;
        size_t peak = atomic_load_explicit(&at->peak_bytes, memory_order_relaxed);
        size_t limit = atomic_load_explicit(&at->limit_bytes, memory_order_relaxed);

        if (limit != 0 && (used > limit || used < before)) {
            atomic_fetch_add_explicit(&at->refused_count, 1, memory_order_relaxed);
            discharge(budget, at->parent, size);
            errno = ENOMEM;
            return false;
        }
        while (used > peak &&
               !atomic_compare_exchange_weak_explicit(&at->peak_bytes, &peak, used,
                                                      memory_order_relaxed, memory_order_relaxed))
            ;
    }
    return true;
}

bool mr_budget_charge(struct mr_budget *budget, size_t size_bytes)
{
    return charge(budget == NULL ? &process_budget : budget, size_bytes);
}

void mr_budget_discharge(struct mr_budget *budget, size_t size_bytes)
{
    discharge(budget == NULL ? &process_budget : budget, NULL, size_bytes);
}

/* ---------------------------------------------------------------- single blocks */

void mr_alloc_fail_at(uint64_t nth, bool forever)
{
    atomic_store(&fail_forever, forever);
    atomic_store(&fail_first, nth == 0 ? 0 : atomic_load(&allocation_count) + nth);
}

uint64_t mr_alloc_count(void)
{
    return atomic_load(&allocation_count);
}

/* Counts this allocation; true when the fault loop wants it to fail. */
static bool fault_wanted(void)
{
    uint64_t number = atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed) + 1;
    uint64_t first = atomic_load_explicit(&fail_first, memory_order_relaxed);

    if (first == 0 || number < first)
        return false;
    if (number > first && !atomic_load_explicit(&fail_forever, memory_order_relaxed))
        return false;
    errno = ENOMEM;
    return true;
}

static struct header *header_of(void *memory)
{
    return (struct header *)(void *)((uint8_t *)memory - sizeof(struct header));
}

static size_t size_of(const struct header *header)
{
    return (size_t)(header->size_and_offset >> 16);
}

static size_t offset_of(const struct header *header)
{
    return (size_t)(header->size_and_offset & 0xffff);
}

/*
 * At least one byte behind the header: a pointer to the very end of a block looks like a leak to
 * the leak checker.
 */
static size_t behind_header(size_t size)
{
    return size == 0 ? 1 : size;
}

static void *finish_block(uint8_t *base, size_t offset, struct mr_budget *budget, size_t size)
{
    struct header *header = header_of(base + offset);

    header->budget = budget;
    header->size_and_offset = ((uint64_t)size << 16) | offset;
    POISON(header, sizeof(*header));
    return base + offset;
}

static void *alloc_block(struct mr_budget *budget, size_t size, bool zero)
{
    uint8_t *base;

    if (budget == NULL)
        budget = &process_budget;
    if (fault_wanted() || size > SIZE_MAX_BYTES || !charge(budget, size + sizeof(struct header)))
        return NULL;
    base = zero ? calloc(1, sizeof(struct header) + behind_header(size))
                : malloc(sizeof(struct header) + behind_header(size));
    if (base == NULL) {
        discharge(budget, NULL, size + sizeof(struct header));
        return NULL;
    }
    return finish_block(base, sizeof(struct header), budget, size);
}

void *mr_alloc(struct mr_budget *budget, size_t size)
{
    return alloc_block(budget, size, false);
}

void *mr_alloc_zero(struct mr_budget *budget, size_t size)
{
    return alloc_block(budget, size, true);
}

void *mr_alloc_aligned(struct mr_budget *budget, size_t size)
{
    uint8_t *base;

    if (budget == NULL)
        budget = &process_budget;
    if (fault_wanted() || size > SIZE_MAX_BYTES || !charge(budget, size + sizeof(struct header)))
        return NULL;
    base = aligned_alloc(ALIGNED_TO,
                         (2 * ALIGNED_TO - 1 + behind_header(size)) & ~((size_t)ALIGNED_TO - 1));
    if (base == NULL) {
        discharge(budget, NULL, size + sizeof(struct header));
        return NULL;
    }
    return finish_block(base, ALIGNED_TO, budget, size);
}

void mr_free(void *memory)
{
    struct header *header;

    if (memory == NULL)
        return;
    header = header_of(memory);
    UNPOISON(header, sizeof(*header));
    discharge(header->budget, NULL, size_of(header) + sizeof(*header));
    free((uint8_t *)memory - offset_of(header));
}

size_t mr_alloc_bytes(const void *memory)
{
    const struct header *header = (const void *)((const uint8_t *)memory - sizeof(struct header));
    size_t size;

    UNPOISON(header, sizeof(*header));
    size = size_of(header) + sizeof(*header);
    POISON(header, sizeof(*header));
    return size;
}

/* An aligned block moves by hand: realloc would forget the alignment. */
static void *move_aligned(void *memory, struct mr_budget *budget, size_t old_size, size_t size)
{
    void *moved = mr_alloc_aligned(budget, size);

    if (moved == NULL)
        return NULL;
    memcpy(moved, memory, MR_MIN(old_size, size));
    mr_free(memory);
    return moved;
}

void *mr_realloc(struct mr_budget *budget, void *memory, size_t size)
{
    struct header *header;
    struct header old;
    uint8_t *base;

    if (memory == NULL)
        return mr_alloc(budget, size);
    header = header_of(memory);
    UNPOISON(header, sizeof(*header));
    old = *header;
    POISON(header, sizeof(*header));
    if (offset_of(&old) != sizeof(struct header))
        return move_aligned(memory, old.budget, size_of(&old), size);
    if (fault_wanted() || size > SIZE_MAX_BYTES)
        return NULL;
    if (size > size_of(&old) && !charge(old.budget, size - size_of(&old)))
        return NULL;
    UNPOISON(header, sizeof(*header));
    base = realloc(header, sizeof(struct header) + behind_header(size));
    if (base == NULL) {
        POISON(header, sizeof(*header));
        if (size > size_of(&old))
            discharge(old.budget, NULL, size - size_of(&old));
        return NULL;
    }
    if (size < size_of(&old))
        discharge(old.budget, NULL, size_of(&old) - size);
    return finish_block(base, sizeof(struct header), old.budget, size);
}

char *mr_strndup(const char *text, size_t size_bytes)
{
    char *copy = mr_alloc(NULL, size_bytes + 1);

    if (copy == NULL)
        return NULL;
    if (size_bytes > 0)
        memcpy(copy, text, size_bytes);
    copy[size_bytes] = '\0';
    return copy;
}

char *mr_strdup(const char *text)
{
    return mr_strndup(text, strlen(text));
}

char *mr_asprintf(const char *format, ...)
{
    va_list args;
    char *text;
    int size;

    va_start(args, format);
    size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0)
        return NULL;
    text = mr_alloc(NULL, (size_t)size + 1);
    if (text == NULL)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
    return text;
}

/* ---------------------------------------------------------------- arenas */

struct mr_arena_block {
    struct mr_arena_block *next;
    size_t size_bytes; /* behind this struct */
};

static uint8_t *memory_of(struct mr_arena_block *block)
{
    return (uint8_t *)(block + 1);
}

static struct mr_arena_block *new_block(struct mr_arena *arena, size_t size)
{
    struct mr_arena_block *block = mr_alloc(arena->budget, sizeof(*block) + size);

    if (block == NULL)
        return NULL;
    block->size_bytes = size;
    block->next = NULL;
    POISON(memory_of(block), size);
    return block;
}

/*
 * A request larger than usual gets a block of its own behind the current one, which stays in use.
 */
static void *arena_grow(struct mr_arena *arena, size_t size)
{
    size_t usual = ARENA_BLOCK_MIN - sizeof(struct mr_arena_block);
    struct mr_arena_block *block;

    if (arena->blocks != NULL)
        usual = MR_MIN(arena->blocks->size_bytes * 2, (size_t)ARENA_BLOCK_MAX);
    if (size > usual / 2 && arena->blocks != NULL) {
        block = new_block(arena, size);
        if (block == NULL)
            return NULL;
        block->next = arena->blocks->next;
        arena->blocks->next = block;
        return memory_of(block);
    }
    block = new_block(arena, MR_MAX(usual, size));
    if (block == NULL)
        return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = memory_of(block) + size;
    arena->end = memory_of(block) + block->size_bytes;
    return memory_of(block);
}

void *mr_arena_alloc(struct mr_arena *arena, size_t size)
{
    size_t whole;
    void *memory;

    if (size > SIZE_MAX_BYTES) {
        arena->failed = true;
        return NULL;
    }
    whole = ((size + 7) & ~(size_t)7) + RED_ZONE_BYTES;
    if (arena->at != NULL && whole <= (size_t)(arena->end - arena->at)) {
        memory = arena->at;
        arena->at += whole;
    } else {
        memory = arena_grow(arena, whole);
        if (memory == NULL) {
            arena->failed = true;
            return NULL;
        }
    }
    UNPOISON(memory, size);
    return memory;
}

char *mr_arena_copy(struct mr_arena *arena, const void *data, size_t size_bytes)
{
    char *copy = mr_arena_alloc(arena, size_bytes + 1);

    if (copy == NULL)
        return NULL;
    if (size_bytes > 0)
        memcpy(copy, data, size_bytes);
    copy[size_bytes] = '\0';
    return copy;
}

static void free_blocks(struct mr_arena_block *block)
{
    while (block != NULL) {
        struct mr_arena_block *next = block->next;

        UNPOISON(memory_of(block), block->size_bytes);
        mr_free(block);
        block = next;
    }
}

void mr_arena_clear(struct mr_arena *arena)
{
    struct mr_arena_block *kept = arena->blocks;

    if (kept == NULL)
        return;
    free_blocks(kept->next);
    kept->next = NULL;
    POISON(memory_of(kept), kept->size_bytes);
    arena->at = memory_of(kept);
    arena->end = memory_of(kept) + kept->size_bytes;
}

void mr_arena_wipe(struct mr_arena *arena)
{
    for (struct mr_arena_block *block = arena->blocks; block != NULL; block = block->next) {
        UNPOISON(memory_of(block), block->size_bytes);
        explicit_bzero(memory_of(block), block->size_bytes);
    }
}

void mr_arena_release(struct mr_arena *arena)
{
    free_blocks(arena->blocks);
    arena->blocks = NULL;
    arena->at = NULL;
    arena->end = NULL;
    arena->failed = false;
}
