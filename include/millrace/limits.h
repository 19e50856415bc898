/*
 * The memory of the process. Every other limit is fixed or an option: docs/limits.md.
 *
 * Thread: any.
 */
#ifndef MILLRACE_LIMITS_H
#define MILLRACE_LIMITS_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How much memory the process may have: allocations, the SQL engine and queues together; state
 * beyond its share spills (docs/structured.md, Memory). Called before the first query; a later call
 * holds for what is allocated from then on. 0 = no limit. MR_CONFIG: less than 64 MiB.
 */
MR_API enum mr_status mr_set_memory_limit(uint64_t bytes, struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
