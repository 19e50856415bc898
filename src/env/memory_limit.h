/*
 * How much memory this process may have: of the machine, of its control group, of its limits.
 * Thread: any.
 */
#ifndef MR_ENV_MEMORY_LIMIT_H
#define MR_ENV_MEMORY_LIMIT_H

#include <stddef.h>
#include <stdint.h>

/* The smallest of: the machine's memory, memory.max of the control groups it is in (version 2 and
 * 1), RLIMIT_AS, RLIMIT_DATA. *ret_what: "machine", "control group", "ulimit -v", "ulimit -d". */
uint64_t mr_memory_of_machine(const char **ret_what);
/* The same below another directory than /, with what /proc/self/cgroup says there: for tests. */
uint64_t mr_memory_of_cgroups(const char *root);

#endif
