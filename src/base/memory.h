/*
 * The memory of the process: one figure, and who gets how much of it.
 *
 *     memory = code and libraries (MR_MEMORY_CODE_BYTES)
 *            + SQL engine         (a quarter; DuckDB's own limits, by instance)
 *            + what mr_alloc gives, and what others hold for us and is charged to the process's
 *              budget (queues of librdkafka, resident pages of the spill file)
 *
 * Half of the last is the state's; what it has more goes to a file (state/spill.h). Shares are of
 * the whole: MR_LIMIT_MEMORY_*.
 *
 * Thread: any.
 */
#ifndef MR_BASE_MEMORY_H
#define MR_BASE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum { MR_MEMORY_CODE_BYTES = 32 << 20, MR_MEMORY_BYTES_MIN = 64 << 20 };

/* At least MR_MEMORY_BYTES_MIN; 0 = no limit. asked: by the user, so that a default no longer
 * changes it. */
void mr_memory_set(uint64_t bytes, bool asked);
uint64_t mr_memory_bytes(void); /* 0 = no limit */
bool mr_memory_is_asked(void);  /* somebody said how much */
uint64_t mr_memory_state(void); /* share of the state, spill pages included; 0 = no limit */
uint64_t mr_memory_engine(unsigned instances); /* of each instance of DuckDB; 0 = no limit */
/* Input of one batch, about; 0 = no limit. None either where nobody asked and there is plenty. */
uint64_t mr_memory_batch(void);
/* one part of so many of the memory, at most `most`; `most` when there is no limit */
uint64_t mr_memory_part(unsigned parts, uint64_t most);

#endif
