/*
 * Times and durations: milliseconds, times since the epoch (dstream.md 1).
 *
 * Every function is total: what makes no sense (a step that is not positive) has a stated result.
 * Thread: any.
 */
#ifndef MILLRACE_TIME_H
#define MILLRACE_TIME_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room for the text of any time or duration. */
enum { MR_TIME_BYTES = 64 };

/* The last time at or before time_ms that lies on the grid zero_ms + n * step_ms. The time itself
 * when step_ms is not positive. */
MR_API int64_t mr_time_floor(int64_t time_ms, int64_t step_ms, int64_t zero_ms);
/* False when step_ms is not positive. */
MR_API bool mr_time_is_multiple(int64_t time_ms, int64_t step_ms);
/* The times from_ms, from_ms + step_ms, ... before to_ms; _to: to_ms too when it is hit. Writes the
 * first times_max of them (times NULL: none) and returns how many there are. */
MR_API size_t mr_time_until(int64_t from_ms, int64_t to_ms, int64_t step_ms, int64_t *times,
                            size_t times_max);
MR_API size_t mr_time_to(int64_t from_ms, int64_t to_ms, int64_t step_ms, int64_t *times,
                         size_t times_max);

/* "1000 ms", the text that mr_print shows of a batch time. */
MR_API const char *mr_time_print(int64_t time_ms, char text[MR_TIME_BYTES]);
/* For people: "17 ms", "1.5 s", "2.0 m", "1.25 h". */
MR_API const char *mr_duration_print(int64_t duration_ms, char text[MR_TIME_BYTES]);
/* Fewer digits, for tables: "99 ms", "0.1 s", "60 s", "1.0 min", "10 min", "1.0 h". */
MR_API const char *mr_duration_print_short(int64_t duration_ms, char text[MR_TIME_BYTES]);

/* A unit in which a chart shows durations up to duration_ms: ms, sec, min, hrs or days. */
struct mr_time_unit {
    const char *name;
    int64_t size_ms;
};
MR_API const struct mr_time_unit *mr_duration_unit(int64_t duration_ms);

#ifdef __cplusplus
}
#endif
#endif
