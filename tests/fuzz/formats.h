/*
 * Bytes through a format's decoder and its rows back through the encoder, for the fuzzers of
 * src/formats. Thread: one.
 */
#ifndef MR_TESTS_FUZZ_FORMATS_H
#define MR_TESTS_FUZZ_FORMATS_H

#include "fuzz/fuzz.h"

#include "formats/formats_internal.h"

struct fuzz_format {
    const struct mr_format *format;
    const char *columns;
    const char *wanted; /* NULL: all columns */
    const struct mr_option_pair *pairs;
    size_t pair_count;
    bool strict;     /* on_error = fail */
    bool whole;      /* a piece of it cannot be read alone (a header) */
    uint64_t offset; /* of the first byte in its file */
    /* Called with the new decoder; may be NULL. */
    void (*prepare)(struct mr_decoder *decoder);
    /* What a writer of the same format would be given; may be NULL (as pairs). */
    const struct mr_option_pair *write_pairs;
    size_t write_pair_count;
};

struct fuzz_decoded {
    struct mr_buf rows; /* encoded by the same format */
    struct mr_buf bad;  /* "record:byte:size: reason" lines */
    int64_t row_count;
    size_t bad_count;
    enum mr_status status; /* of decode; with strict MR_BAD_DATA may be */
};

/* False: memory was short. Free what came out with fuzz_decoded_release, also then. */
bool fuzz_decode(const struct fuzz_format *run, const char *data, size_t size_bytes,
                 struct fuzz_decoded *ret_decoded);
void fuzz_decoded_release(struct fuzz_decoded *decoded);

/* What holds for every format whose rows can be written and read: bytes written are read without a
 * complaint and written to the same bytes; pieces cut at record ends give what the whole gives;
 * a strict decoder fails exactly when there is a bad record. */
void fuzz_format_laws(const struct fuzz_format *run, const char *data, size_t size_bytes);

#endif
