/*
 * Inside of the format csv: how it is written, and the decoder.
 */
#ifndef MR_FORMATS_CSV_INTERNAL_H
#define MR_FORMATS_CSV_INTERNAL_H

#include "formats/formats_internal.h"

struct mr__csv_dialect {
    char delimiter;
    char quote;  /* 0: none */
    char escape; /* before a quote inside quotes; equal to quote: doubled */
    bool header;
    const char *null_value; /* borrows the options */
    size_t null_bytes;
};

/* MR_CONFIG when the options contradict each other. */
enum mr_status mr__csv_dialect(const struct mr_options *options,
                               struct mr__csv_dialect *ret_dialect, struct mr_error *err);

/*
 * Where the record at `record` ends, by quotes, delimiters and newlines alone: the index behind its
 * newline. 0: the data ends before. Behind a place that is wrong (a quote in the middle of a field,
 * bytes behind a closing one) it ends with the line; a quoted field that has no end within
 * bytes_max, or is_last and none at all, leaves only the line where the record begins.
 */
size_t mr__csv_record_end(const struct mr__csv_dialect *dialect, size_t bytes_max, bool is_last,
                          struct mr_slice data, size_t record);

enum mr_status mr__csv_decoder_new(const struct mr_decoder_args *args,
                                   struct mr_decoder **ret_decoder, struct mr_error *err);
void mr__csv_decoder_free(struct mr_decoder *decoder);
enum mr_status mr__csv_decode(struct mr_decoder *decoder, struct mr_slice data,
                              const struct mr_position *position, struct mr_batch_builder *builder,
                              mr_bad_record_fn bad, void *bad_arg, struct mr_error *err);

#endif
