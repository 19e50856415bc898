/*
 * A collector of records that could not be decoded, for the readers of sources: pass
 * mr_bad_records_add to a decoder, and give mr_bad_records_take as the answer of take_bad.
 *
 * FAIL: nothing may be added. SKIP: records are counted, and the first one after each take is kept,
 * so that it can be shown. ROUTE: all are kept, their raw bytes cut at MR_BAD_RAW_BYTES_MAX.
 *
 * Thread: one at a time.
 */
#ifndef MILLRACE_EXT_BAD_RECORDS_H
#define MILLRACE_EXT_BAD_RECORDS_H

#include <millrace/ext/format.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_bad_records;

/* source_name: the name of the table. Returns new. */
MR_API enum mr_status mr_bad_records_new(const char *source_name, enum mr_on_error on_error,
                                         struct mr_bad_records **ret_records, struct mr_error *err);
MR_API void mr_bad_records_free(struct mr_bad_records *records); /* NULL allowed */
/* Of type mr_bad_record_fn; arg is the collector. The position is kept as "name:record". */
MR_API void mr_bad_records_add(void *arg, const struct mr_position *position, struct mr_slice raw,
                               const char *reason);
/* What was added since the last take: a batch of mr_bad_schema() or NULL, and the number of
 * records. */
MR_API enum mr_status mr_bad_records_take(struct mr_bad_records *records,
                                          struct mr_batch **ret_batch, uint64_t *ret_count,
                                          struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
