/*
 * Decodes bytes with a format and shows the rows as text, for the tests of src/formats.
 *
 *     struct decoded *d = format_decode(t, &mr__format_json, "a INT, b TEXT", NULL, lines,
 *                                       strlen(lines));
 *     CHECK_EQ_STR(d->rows, "1|x\n2|null\n");
 */
#ifndef MR_TESTS_SUPPORT_FORMAT_HARNESS_H
#define MR_TESTS_SUPPORT_FORMAT_HARNESS_H

#include "base/buf.h"
#include "formats/formats_internal.h"
#include "support/test.h"

struct decoded {
    enum mr_status status;
    struct mr_error err;
    int64_t row_count;
    struct mr_buf rows_buf;
    struct mr_buf bad_buf;
    const char *rows; /* columns with '|' between, '\n' behind each row */
    const char *bad;  /* "line:byte: reason\n" each */
    struct mr_batch *batch;
};

struct decode_setup {
    const struct mr_format *format;
    const char *declared;
    const char *wanted;  /* NULL: all declared */
    const char *options; /* "key=value;key=value", NULL: none */
    enum mr_on_error on_error;
    bool general; /* JSON: without prediction */
    uint64_t byte_offset;
};

/* Decodes in one call. Free with decoded_release. */
void format_decode(const struct decode_setup *setup, const char *data, size_t size_bytes,
                   struct decoded *ret_decoded);
void decoded_release(struct decoded *decoded);

/* Options of a format from "key=value;key=value"; free with mr_options_free. */
struct mr_options *format_options(const struct mr_format *format, const char *text, unsigned flags);

/* All rows of a batch encoded; free with mr_buf_release. */
void format_encode(const struct mr_format *format, const char *options,
                   const struct mr_batch *batch, enum mr_status *ret_status, struct mr_error *err,
                   struct mr_buf *ret_text);

#endif
