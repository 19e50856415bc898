/*
 * Inside of the JSON decoder: what json.c (runs of lines), json_line.c (one line) and json_value.c
 * (one value) share.
 *
 * All of them read a region that ends in '\n' and has MR__JSON_SLACK_BYTES readable bytes behind
 * it: no token of a line can hold a newline, so every loop stops there without looking at an end. A
 * parser takes the place of a token and returns the place behind it, or NULL after it put the
 * reason into json->err.
 */
#ifndef MR_FORMATS_JSON_INTERNAL_H
#define MR_FORMATS_JSON_INTERNAL_H

#include "base/limits.h"
#include "formats/formats_internal.h"
#include "formats/json_fast.h"

#include "base/buf.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bitmaps are read by bytes");

enum {
    MR__JSON_SLACK_BYTES = 64,
    MR__JSON_DEPTH_MAX = MR_LIMIT_JSON_DEPTH,
    MR__JSON_GAP_BYTES_MAX =
        64, /* at most MR__JSON_SLACK_BYTES: a gap may be compared where the line ends */
    MR__JSON_STEPS_MAX = 256,
};

/* How a type is found in JSON: names of a STRUCT by hash, types below. The top level is a STRUCT of
 * the columns. */
struct mr__json_shape {
    const struct mr_type *type;
    struct mr__json_shape *children; /* type->field_count of them */
    uint32_t *slots;                 /* STRUCT: index + 1, 0 = free */
    uint32_t slot_mask;
    size_t *name_bytes;
};

/*
 * One predicted step of a line: the bytes between two values ("{" or "," and blanks, the key, ":"
 * and blanks), learned from an earlier line, and which column the key belongs to.
 */
struct mr__json_step {
    char gap[MR__JSON_GAP_BYTES_MAX];
    uint32_t gap_bytes; /* 0: nothing learned, matches nothing */
    int32_t column;     /* -1: the query does not need it */
    uint32_t
        value_bytes; /* of the strings here, while they all have one length; or one of these two */
};
#define MR__JSON_LENGTH_UNKNOWN UINT32_C(0xfffffffe)
#define MR__JSON_LENGTH_VARIES UINT32_C(0xffffffff)

struct mr__json {
    /* Of the decoder. */
    struct mr_type top;
    struct mr__json_shape shape;
    struct mr_column_builder **columns;
    uint32_t column_count;
    bool predict; /* false: every line goes the general way (tests compare the two) */
    bool coerce_strings;
    enum mr__timestamp_form timestamp_form;
    struct mr__json_step steps[MR__JSON_STEPS_MAX + 1]; /* the last one stays empty */
    struct mr_buf scratch;     /* unescaped keys, text that becomes another type */
    struct mr__json_date date; /* parsed last */

    /* Of the region at hand. */
    const char *base;         /* byte 0 of the bitmap */
    const uint64_t *specials; /* quotes, backslashes, control characters */
    int64_t rows;             /* complete rows in the columns */

    /* Of the line at hand. */
    uint32_t filled; /* columns that have a value */
    const char *line;
    struct mr_error err; /* MR_BAD_DATA: the record's fault; else ours (memory, 2 GiB) */
};

enum mr_status mr__json_shape_init(struct mr__json_shape *shape, const struct mr_type *type,
                                   struct mr_error *err);
void mr__json_shape_release(struct mr__json_shape *shape);
/* Index of the field, or -1. */
int32_t mr__json_shape_find(const struct mr__json_shape *shape, const char *key, size_t key_bytes);

/*
 * Parses the line at `line` and appends a value to every column: returns the place behind its '\n'.
 * NULL with json->err set: a bad record, columns hold some of it. *ret_blank: nothing but blanks,
 * nothing appended.
 */
const char *mr__json_line(struct mr__json *json, const char *line, bool *ret_blank);

/* For tests: lines of this decoder go the general way, or with prediction (the default). */
void mr__json_set_predict(struct mr_decoder *decoder, bool predict);

/* One value into a column; the general way. depth: of the value's parents. */
const char *mr__json_value(struct mr__json *json, const struct mr__json_shape *shape,
                           struct mr_column_builder *column, const char *at, unsigned depth);
/* One value of any kind that nobody wants: checked as strictly as a wanted one. */
const char *mr__json_skip(struct mr__json *json, const char *at, unsigned depth);
/* The rest of a string from a backslash on; behind the closing quote. */
const char *mr__json_skip_escapes(struct mr__json *json, const char *at);
/* A key: at its opening quote; *ret_key borrows the line or json->scratch. Behind the closing
 * quote. */
const char *mr__json_key(struct mr__json *json, const char *at, const char **ret_key,
                         size_t *ret_key_bytes);
/* Appends a value from a string whose inside is [text, text + size_bytes), without escapes. NULL on
 * failure. */
const char *mr__json_from_string(struct mr__json *json, struct mr_column_builder *column,
                                 const char *text, size_t size_bytes, const char *after);

/* "expected ':'": sets json->err with the place in the line; returns NULL. */
const char *mr__json_wrong(struct mr__json *json, const char *at, const char *what);

/*
 * The first quote, backslash or control character from `at` on: there is one, the newline. One load
 * from the byte of the bitmap that holds the bit of `at` sees at least 57 bytes ahead, so most
 * strings end without a branch; the bitmap has a word to spare for it.
 */
static inline const char *mr__json_special(const struct mr__json *json, const char *at)
{
    size_t index = (size_t)(at - json->base);
    uint64_t bits;

    memcpy(&bits, (const char *)json->specials + (index >> 3), sizeof bits); /* little-endian */
    bits >>= index & 7;
    if (__builtin_expect(bits != 0, 1))
        return at + (unsigned)__builtin_ctzll(bits);
    index += 57; /* the load has seen that many from any bit on */
    bits = json->specials[index >> 6] >> (index & 63);
    if (bits != 0)
        return json->base + index + (unsigned)__builtin_ctzll(bits);
    index >>= 6;
    do
        bits = json->specials[++index];
    while (bits == 0);
    return json->base + index * 64 + (unsigned)__builtin_ctzll(bits);
}

static inline const char *mr__json_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r')
        at++;
    return at;
}

#endif
