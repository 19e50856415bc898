/*
 * Instances of DuckDB that live longer than the simulated processes: opening one costs ten
 * milliseconds, more than the rest of a life.
 */
#ifndef MR_TESTS_SIM_ENGINES_H
#define MR_TESTS_SIM_ENGINES_H

/* From now on what the product closes is kept, emptied, and given to who opens next. Once in a
 * process. */
void engines_keep(void);

#endif
