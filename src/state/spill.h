/*
 * Memory of state: the heap up to a share of the process's budget, beyond it a spill file
 * (env/spill_file.h) whose pages come and go. Whoever asks gets a pointer that stays valid, so the
 * table and its readers know nothing of it. Private to src/state; state.h has what others see of it
 * (mr_state_memory_*).
 *
 * A spilled page is a cache: parts (deltas, snapshots) are written from it and synced as always,
 * and a start reads only them.
 *
 * Thread: any; the pool takes its lock.
 */
#ifndef MR_STATE_SPILL_H
#define MR_STATE_SPILL_H

#include "state/state.h"

#include <stdatomic.h>

void *mr__state_alloc(size_t bytes); /* not zeroed; NULL: no memory, see mr__state_no_memory */
void *mr__state_alloc_zero(size_t bytes);
/* memory has old_bytes; NULL leaves it as it was. */
void *mr__state_grow(void *memory, size_t old_bytes, size_t bytes);
void mr__state_free(void *memory); /* NULL allowed */
/* MR_NOMEM, or MR_IO and so on when the last refusal was the spill file's: "cannot put into state
 * 'x': out of memory". */
enum mr_status mr__state_no_memory(const char *what, const char *name, struct mr_error *err);
extern _Atomic bool mr__spill_active;
void mr__spill_trim(void);

/* Some state is in the spill file. */
static inline bool mr__state_is_spilled(void)
{
    return atomic_load_explicit(&mr__spill_active, memory_order_relaxed);
}

/* Called again and again by what walks over state, so that cold pages leave. */
static inline void mr__spill_tick(void)
{
    if (__builtin_expect(mr__state_is_spilled(), false))
        mr__spill_trim();
}

#endif
