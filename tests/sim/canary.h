/*
 * Canaries: planted bugs (src/base/mutant.h) that the simulation must find, to test the tester.
 *
 * Only a build with MR_MUTANTS has them; canary_count() is 0 elsewhere. Each is looked for in a
 * process of its own: a bug may crash it, or hang it.
 */
#ifndef MR_TESTS_SIM_CANARY_H
#define MR_TESTS_SIM_CANARY_H

#include <stddef.h>
#include <stdint.h>

size_t canary_count(void);
const char *canary_name(size_t index);
const char *canary_what(size_t index);
/* A seed that found it last time: for a slice that has little time. */
uint64_t canary_seed(size_t index);
/* Number of seeds from `first` on that it took, 0 = not found in seeds_max. text: what was seen. */
uint64_t canary_find(size_t index, uint64_t first, uint64_t seeds_max, char *text, size_t size);

#endif
