/*
 * The collector of records that could not be decoded (include/millrace/ext/bad_records.h). Used by
 * the readers of the file and Kafka sources; the batch it makes goes to the table named in on_error
 * = 'into TABLE'.
 *
 * Thread: one at a time.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/text.h"

#include <millrace/ext/bad_records.h>
#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct mr_bad_records {
    char *source_name;
    enum mr_on_error on_error;
    struct mr_batch_builder *builder;
    uint64_t count;
};

enum { BAD_SOURCE, BAD_POSITION, BAD_REASON, BAD_RAW, POSITION_BYTES_MAX = 4600 };

enum mr_status mr_bad_records_new(const char *source_name, enum mr_on_error on_error,
                                  struct mr_bad_records **ret_records, struct mr_error *err)
{
    struct mr_bad_records *records = mr_alloc_zero(NULL, sizeof(*records));
    enum mr_status status;

    if (records != NULL)
        records->source_name = mr_strdup(source_name);
    if (records == NULL || records->source_name == NULL) {
        mr_bad_records_free(records);
        return MR_FAIL(err, MR_NOMEM, "cannot collect bad records: out of memory");
    }
    records->on_error = on_error;
    status = mr_batch_builder_new(mr_bad_schema(), &records->builder, err);
    if (status != MR_OK) {
        mr_bad_records_free(records);
        return status;
    }
    *ret_records = records;
    return MR_OK;
}

void mr_bad_records_free(struct mr_bad_records *records)
{
    if (records == NULL)
        return;
    mr_batch_builder_free(records->builder);
    mr_free(records->source_name);
    mr_free(records);
}

static void add_text(struct mr_batch_builder *builder, uint32_t column, const char *text,
                     size_t size_bytes)
{
    mr_batch_builder_text(builder, column, text, mr_utf8_valid_prefix(text, size_bytes));
}

void mr_bad_records_add(void *arg, const struct mr_position *position, struct mr_slice raw,
                        const char *reason)
{
    struct mr_bad_records *records = arg;
    struct mr_batch_builder *builder = records->builder;
    char where[POSITION_BYTES_MAX];
    int length;

    MR_ASSERT(records->on_error != MR_ON_ERROR_FAIL);
    records->count++;
    if (records->on_error == MR_ON_ERROR_SKIP && mr_batch_builder_row_count(builder) > 0)
        return;
    length = snprintf(where, sizeof(where), "%s:%" PRIu64, position->name, position->record);
    add_text(builder, BAD_SOURCE, records->source_name, strlen(records->source_name));
    add_text(builder, BAD_POSITION, where, MR_MIN((size_t)MR_MAX(length, 0), sizeof(where) - 1));
    add_text(builder, BAD_REASON, reason, strlen(reason));
    mr_batch_builder_text(builder, BAD_RAW, raw.data,
                          MR_MIN(raw.size_bytes, (size_t)MR_BAD_RAW_BYTES_MAX));
    mr_batch_builder_end_row(builder);
}

enum mr_status mr_bad_records_take(struct mr_bad_records *records, struct mr_batch **ret_batch,
                                   uint64_t *ret_count, struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    if (mr_batch_builder_row_count(records->builder) > 0)
        MR_TRY(mr_batch_builder_finish(records->builder, &batch, err));
    *ret_batch = batch;
    *ret_count = records->count;
    records->count = 0;
    return MR_OK;
}
