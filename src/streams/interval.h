/* Durations as text: "1 hour 30 minutes", "-2 seconds". Thread: any. */
#ifndef MR_STREAMS_INTERVAL_H
#define MR_STREAMS_INTERVAL_H

#include <millrace/error.h>

/* Numbers with units, added up; a month has 31 days, a year 12 months. False: not a duration, or
 * too long. */
bool mr_interval_ms(const char *text, int64_t *ret_ms);

#endif
