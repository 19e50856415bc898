/*
 * Files of the simulated disk, for fuzzers of whole files. Thread: one.
 */
#ifndef MR_TESTS_FUZZ_DISK_H
#define MR_TESTS_FUZZ_DISK_H

#include "env/sim.h"

/* The directories of the path are made. The disk's own memory is never short. */
void fuzz_put_file(struct mr_sim *sim, const char *path, const void *data, size_t size_bytes);
/* False: there is none. */
bool fuzz_has_file(struct mr_sim *sim, const char *path);

#endif
