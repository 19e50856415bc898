/*
 * Planted bugs: a switch at each place whose removal would break a promise, to prove that a test
 * notices (docs/evidence.md). Only the presets 'asan' and 'mutants' have them; everywhere else
 * MR_MUTANT is the constant false and the compiler removes it.
 *
 *     if (!MR_MUTANT("durable.publish.sync-directory"))
 *         MR_TRY(sync_directory(...));
 *
 * A name is module.function.what-is-left-out. tests/mutants lists each with the test that must fail
 * when it is on, or the reason why nothing can. Thread: any; the choice is made before any starts.
 */
#ifndef MR_BASE_MUTANT_H
#define MR_BASE_MUTANT_H

#include <stdbool.h>

#ifdef MILLRACE_MUTANTS
/* True for the one name that MILLRACE_MUTANT in the environment, or mr_mutant_choose, names. */
bool mr_mutant_on(const char *name);
/* NULL = none. 'name' must outlive its use. */
void mr_mutant_choose(const char *name);
/* How often the place that is switched was reached since mr_mutant_choose or the start: a mutant
 * that no test reaches proves nothing. */
unsigned long mr_mutant_hits(void);
#define MR_MUTANT(name) mr_mutant_on(name)
#else
#define MR_MUTANT(name) false
#endif

#endif
