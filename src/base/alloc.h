/*
 * Memory: every allocation is charged to a budget, which has a limit and a gauge; and arenas for
 * data of one task.
 *
 * mr_alloc returns NULL when the budget's limit or the machine's memory is reached; callers answer
 * MR_NOMEM. Thread: any (budgets are atomic); an arena belongs to one thread.
 */
#ifndef MR_BASE_ALLOC_H
#define MR_BASE_ALLOC_H

#include <millrace/error.h>

struct mr_budget;

/* limit_bytes 0 = none. A child charges its parent too (NULL = the process). Returns NULL without
 * memory. */
struct mr_budget *mr_budget_new(struct mr_budget *parent, const char *name, size_t limit_bytes);
/* NULL allowed; asserts that nothing is charged to it any more */
void mr_budget_free(struct mr_budget *budget);
size_t mr_budget_used(const struct mr_budget *budget); /* NULL = the process */
size_t mr_budget_peak(const struct mr_budget *budget);
size_t mr_budget_limit(const struct mr_budget *budget);                 /* 0 = none */
void mr_budget_set_limit(struct mr_budget *budget, size_t limit_bytes); /* NULL = the process */
/* Allocations that its own limit refused. */
uint64_t mr_budget_refused(const struct mr_budget *budget);
/*
 * Memory that somebody else allocates (a library's, a queue's): counted as if it were ours, so that
 * the limit holds for both. False when it does not fit. Given back with mr_budget_discharge.
 */
bool mr_budget_charge(struct mr_budget *budget, size_t size_bytes);
void mr_budget_discharge(struct mr_budget *budget, size_t size_bytes);

/* budget NULL = the process's. size 0 gives a valid pointer. */
void *mr_alloc(struct mr_budget *budget, size_t size) __attribute__((malloc));
void *mr_alloc_zero(struct mr_budget *budget, size_t size) __attribute__((malloc));
/* memory NULL = alloc; keeps the budget it has */
void *mr_realloc(struct mr_budget *budget, void *memory, size_t size);
void mr_free(void *memory);                /* NULL allowed */
size_t mr_alloc_bytes(const void *memory); /* what its budget is charged for it */
char *mr_strdup(const char *text);
char *mr_strndup(const char *text, size_t size_bytes);
char *mr_asprintf(const char *format, ...) MR_PRINTF(1, 2);
/* Like mr_alloc but 64-byte aligned (SIMD kernels); freed with mr_free. */
void *mr_alloc_aligned(struct mr_budget *budget, size_t size);

/* Fault loops: the n-th allocation from now (1 = next) fails, and all later ones too when forever.
 * 0 = off. */
void mr_alloc_fail_at(uint64_t nth, bool forever);
uint64_t mr_alloc_count(void);

struct mr_arena_block;
struct mr_arena {
    struct mr_budget *budget;
    struct mr_arena_block *blocks;
    uint8_t *at;
    uint8_t *end;
    /* An allocation gave NULL since the arena was made or released: for trees that are built in
     * many steps and looked at once, at the end. */
    bool failed;
};

#define MR_ARENA_INIT                                                                              \
    {                                                                                              \
        0                                                                                          \
    }
/* 8-byte aligned, not zeroed; NULL without memory */
void *mr_arena_alloc(struct mr_arena *arena, size_t size);
char *mr_arena_copy(struct mr_arena *arena, const void *data, size_t size_bytes); /* adds a NUL */
void mr_arena_clear(struct mr_arena *arena); /* keeps one block */
void mr_arena_wipe(struct mr_arena *arena);  /* overwrites all of it: it held secrets */
void mr_arena_release(struct mr_arena *arena);

#endif
