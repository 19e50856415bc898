/*
 * UTF-8, comparison without case, nearest name, escaping; see text.h.
 *
 * Called by decoders (validity), option tables (nearest name), logs (escaping).  Nothing here looks
 * at the locale.  Thread: any.
 */
#include "base/text.h"

#include <string.h>

/* Longer names are no typing errors of a name we know. */
enum { NEAREST_BYTES_MAX = 96, NEAREST_DISTANCE_MAX = 3 };

/* Length of the valid character at data, 0 when there is none within size. */
static size_t valid_character(const unsigned char *data, size_t size)
{
    unsigned char first = data[0];
    size_t length;

    if (first < 0x80)
        return 1;
    if (first < 0xc2) /* a continuation byte, or an overlong form of two bytes */
        return 0;
    length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((data[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((first == 0xe0 && data[1] < 0xa0) ||  /* overlong */
        (first == 0xed && data[1] >= 0xa0) || /* surrogate */
        (first == 0xf0 && data[1] < 0x90) ||  /* overlong */
        (first == 0xf4 && data[1] >= 0x90))   /* past U+10FFFF */
        return 0;
    return length;
}

size_t mr_utf8_valid_prefix(const char *data, size_t size_bytes)
{
    size_t at = 0;

    while (at < size_bytes) {
        size_t length;

        while (size_bytes - at >= 16) {
            uint64_t low;
            uint64_t high;

            memcpy(&low, data + at, 8);
            memcpy(&high, data + at + 8, 8);
            if (((low | high) & 0x8080808080808080u) != 0)
                break;
            at += 16;
        }
        if (at == size_bytes)
            break;
        length = valid_character((const unsigned char *)data + at, size_bytes - at);
        if (length == 0)
            break;
        at += length;
    }
    return at;
}

bool mr_utf8_valid(const char *data, size_t size_bytes)
{
    return mr_utf8_valid_prefix(data, size_bytes) == size_bytes;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool mr_text_equal_nocase(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    if (a_bytes != b_bytes)
        return false;
    for (size_t i = 0; i < a_bytes; i++) {
        if (lower(a[i]) != lower(b[i]))
            return false;
    }
    return true;
}

/* Edit distance (insert, delete, replace, swap of neighbours), without case. */
static size_t distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t rows[3][NEAREST_BYTES_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *current = rows[2];

    for (size_t j = 0; j <= b_bytes; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t *freed = before;

        current[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t best = last[j - 1] + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);

            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (current[j - 1] + 1 < best)
                best = current[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            current[j] = best;
        }
        before = last;
        last = current;
        current = freed;
    }
    return last[b_bytes];
}

const char *mr_text_nearest(const char *text, const char *const *candidates, size_t candidate_count)
{
    size_t text_bytes = strlen(text);
    size_t limit = text_bytes / 3;
    const char *nearest = NULL;

    if (text_bytes > NEAREST_BYTES_MAX)
        return NULL;
    if (limit > NEAREST_DISTANCE_MAX)
        limit = NEAREST_DISTANCE_MAX;
    for (size_t i = 0; i < candidate_count; i++) {
        size_t bytes = strlen(candidates[i]);
        size_t far = bytes > text_bytes ? bytes - text_bytes : text_bytes - bytes;

        if (bytes > NEAREST_BYTES_MAX || far > limit)
            continue;
        far = distance(text, text_bytes, candidates[i], bytes);
        if (far > limit || (far == limit && nearest != NULL))
            continue;
        nearest = candidates[i];
        limit = far;
        if (far == 0)
            break;
    }
    return nearest;
}

/* Puts one escaped character at `to`; at most four bytes for each byte read. */
static size_t escape_character(const char *data, size_t left, char *to, size_t *ret_read)
{
    static const char digits[] = "0123456789abcdef";
    size_t length = valid_character((const unsigned char *)data, left);
    unsigned char first = (unsigned char)data[0];
    bool c1 = length == 2 && first == 0xc2 && (unsigned char)data[1] < 0xa0;

    *ret_read = 1;
    if (length == 0 || first < 0x20 || first == 0x7f || c1) {
        to[0] = '\\';
        to[1] = 'x';
        to[2] = digits[first >> 4];
        to[3] = digits[first & 15];
        return 4;
    }
    memcpy(to, data, length);
    *ret_read = length;
    return length;
}

size_t mr_text_escape(const char *data, size_t data_bytes, char *text, size_t size)
{
    size_t at = 0;
    size_t cut = 0; /* where "..." still fits after whole characters */
    size_t read = 0;

    if (size == 0)
        return 0;
    while (read < data_bytes) {
        char one[4];
        size_t consumed;
        size_t length = escape_character(data + read, data_bytes - read, one, &consumed);

        if (at + length + 1 > size)
            break;
        memcpy(text + at, one, length);
        at += length;
        read += consumed;
        if (at + 4 <= size)
            cut = at;
    }
    if (read < data_bytes && size >= 4) {
        memcpy(text + cut, "...", 3);
        at = cut + 3;
    }
    text[at] = '\0';
    return at;
}
