/*
 * Logging.  Only the driver, the front ends and the command log; modules return errors.  A line is
 *     2026-11-21T10:00:00.123Z W core query=clicks batch=41 text
 * or one JSON object with the same fields (--log json). Control characters are escaped. Thread:
 * any.
 */
#ifndef MR_BASE_LOG_H
#define MR_BASE_LOG_H

#include <millrace/error.h>

enum mr_log_level { MR_LOG_ERROR, MR_LOG_WARNING, MR_LOG_INFO, MR_LOG_DEBUG };
enum mr_log_style { MR_LOG_TEXT, MR_LOG_JSON };

typedef void (*mr_log_sink_fn)(void *arg, enum mr_log_level level, const char *line,
                               size_t size_bytes);

void mr_log_configure(enum mr_log_level level, enum mr_log_style style);
void mr_log_set_sink(mr_log_sink_fn sink, void *arg); /* NULL: stderr */
void mr_log(enum mr_log_level level, const char *module, const char *query, int64_t batch_id,
            const char *format, ...) MR_PRINTF(5, 6); /* query NULL, batch_id -1: left out */
uint64_t mr_log_dropped(void);                        /* lines that could not be written */

#endif
