/*
 * The byte scanners under the decoders: 64 bytes a step, by the widest vectors that the machine
 * has.
 *
 * One kernel per instruction set, chosen at each call (a look at a variable that the C runtime
 * fills); the last step works on a copy, so nothing past the data is read. All kernels give the
 * same bits. Called by the text and JSON decoders. Threads: any.
 */
#include "formats/scan.h"

#include "base/text.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

/* Bits of 64 bytes; *high collects whether a byte has its high bit set (JSON only). */
typedef uint64_t (*block_fn)(const char *data, uint64_t *high);

#define FULL_BLOCKS(block, data, size_bytes, bitmap, high)                                         \
    do {                                                                                           \
        for (size_t full_ = 0; full_ < (size_bytes) / 64; full_++)                                 \
            (bitmap)[full_] = block((data) + full_ * 64, (high));                                  \
    } while (0)

/* ---- any machine ---- */

#define EVERY(byte) (UINT64_C(0x0101010101010101) * (uint64_t)(byte))

/* 0x80 in every byte that is zero, 0 in the others; exact. */
static inline uint64_t zero_bytes(uint64_t bytes)
{
    return ~(((bytes & EVERY(0x7f)) + EVERY(0x7f)) | bytes | EVERY(0x7f));
}

/* One bit a byte of what zero_bytes gives, first byte lowest. */
static inline uint64_t gather(uint64_t flags)
{
    return (flags >> 7) * UINT64_C(0x0102040810204080) >> 56;
}

static uint64_t plain_newlines(const char *data, uint64_t *high)
{
    uint64_t bits = 0;

    (void)high;
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, data + i, sizeof bytes); /* little-endian */
        bits |= gather(zero_bytes(bytes ^ EVERY('\n'))) << i;
    }
    return bits;
}

static uint64_t plain_json(const char *data, uint64_t *high)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, data + i, sizeof bytes);
        uint64_t flags = zero_bytes(bytes ^ EVERY('"')) | zero_bytes(bytes ^ EVERY('\\')) |
                         zero_bytes(bytes & EVERY(0xe0)); /* below 0x20 */
        bits |= gather(flags) << i;
        *high |= bytes & EVERY(0x80);
    }
    return bits;
}

/* ---- x86-64 ---- */

#ifdef HAVE_X86
__attribute__((target("avx2"))) static inline uint64_t avx2_newlines(const char *data,
                                                                     uint64_t *high)
{
    __m256i newline = _mm256_set1_epi8('\n');
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)data);
    __m256i up = _mm256_loadu_si256((const __m256i *)(const void *)(data + 32));

    (void)high;
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, newline)) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(up, newline)) << 32;
}

__attribute__((target("avx2"))) static inline uint32_t avx2_json_half(__m256i bytes)
{
    __m256i quotes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"'));
    __m256i slashes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\'));
    __m256i controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);

    return (uint32_t)_mm256_movemask_epi8(
        _mm256_or_si256(_mm256_or_si256(quotes, slashes), controls));
}

__attribute__((target("avx2"))) static inline uint64_t avx2_json(const char *data, uint64_t *high)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)data);
    __m256i up = _mm256_loadu_si256((const __m256i *)(const void *)(data + 32));

    *high |= (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(low, up));
    return (uint64_t)avx2_json_half(low) | (uint64_t)avx2_json_half(up) << 32;
}

#define AVX512 __attribute__((target("avx512f,avx512bw")))

AVX512 static inline uint64_t avx512_newlines(const char *data, uint64_t *high)
{
    (void)high;
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(data), _mm512_set1_epi8('\n'));
}

AVX512 static inline uint64_t avx512_json(const char *data, uint64_t *high)
{
    __m512i bytes = _mm512_loadu_si512(data);

    *high |= _mm512_movepi8_mask(bytes);
    return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('"')) |
           _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\\')) |
           _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20));
}

__attribute__((target("avx2"))) static void run_avx2_newlines(const char *data, size_t size_bytes,
                                                              uint64_t *bitmap, uint64_t *high)
{
    FULL_BLOCKS(avx2_newlines, data, size_bytes, bitmap, high);
}

__attribute__((target("avx2"))) static void run_avx2_json(const char *data, size_t size_bytes,
                                                          uint64_t *bitmap, uint64_t *high)
{
    FULL_BLOCKS(avx2_json, data, size_bytes, bitmap, high);
}

AVX512 static void run_avx512_newlines(const char *data, size_t size_bytes, uint64_t *bitmap,
                                       uint64_t *high)
{
    FULL_BLOCKS(avx512_newlines, data, size_bytes, bitmap, high);
}

AVX512 static void run_avx512_json(const char *data, size_t size_bytes, uint64_t *bitmap,
                                   uint64_t *high)
{
    FULL_BLOCKS(avx512_json, data, size_bytes, bitmap, high);
}
#endif

static void run_plain_newlines(const char *data, size_t size_bytes, uint64_t *bitmap,
                               uint64_t *high)
{
    FULL_BLOCKS(plain_newlines, data, size_bytes, bitmap, high);
}

static void run_plain_json(const char *data, size_t size_bytes, uint64_t *bitmap, uint64_t *high)
{
    FULL_BLOCKS(plain_json, data, size_bytes, bitmap, high);
}

/* ---- whole runs of bytes ---- */

static enum mr_scan_width limit = MR_SCAN_AVX512;

void mr__scan_limit(enum mr_scan_width widest)
{
    limit = widest;
}

static enum mr_scan_width width(void)
{
#ifdef HAVE_X86
    if (limit >= MR_SCAN_AVX512 && __builtin_cpu_supports("avx512bw"))
        return MR_SCAN_AVX512;
    if (limit >= MR_SCAN_AVX2 && __builtin_cpu_supports("avx2"))
        return MR_SCAN_AVX2;
#endif
    return MR_SCAN_PLAIN;
}

typedef void (*run_fn)(const char *data, size_t size_bytes, uint64_t *bitmap, uint64_t *high);

static void scan(run_fn run, block_fn last_block, const char *data, size_t size_bytes,
                 uint64_t *bitmap, uint64_t *high)
{
    size_t rest = size_bytes % 64;

    run(data, size_bytes, bitmap, high);
    if (rest > 0) {
        char copy[64];
        memset(copy, ' ', sizeof copy); /* blanks set no bit */
        memcpy(copy, data + size_bytes - rest, rest);
        bitmap[size_bytes / 64] = last_block(copy, high);
    }
}

void mr__scan_newlines(const char *data, size_t size_bytes, uint64_t *bitmap)
{
    run_fn run = run_plain_newlines;
    uint64_t high = 0;

#ifdef HAVE_X86
    if (width() == MR_SCAN_AVX512)
        run = run_avx512_newlines;
    else if (width() == MR_SCAN_AVX2)
        run = run_avx2_newlines;
#endif
    scan(run, plain_newlines, data, size_bytes, bitmap, &high);
}

void mr__scan_json(const char *data, size_t size_bytes, uint64_t *bitmap, bool *ret_ascii)
{
    run_fn run = run_plain_json;
    uint64_t high = 0;

#ifdef HAVE_X86
    if (width() == MR_SCAN_AVX512)
        run = run_avx512_json;
    else if (width() == MR_SCAN_AVX2)
        run = run_avx2_json;
#endif
    scan(run, plain_json, data, size_bytes, bitmap, &high);
    *ret_ascii = high == 0;
}

/* ---- UTF-8 ---- */

#ifdef HAVE_X86
/*
 * The lookup method of Keiser and Lemire ("Validating UTF-8 in less than one instruction per byte",
 * 2020): for every byte, three tables over the half bytes of it and of the byte before give the
 * errors that the pair could be part of; what all three agree on is an error, except two
 * continuation bytes in a row where a lead two or three bytes back wants them.
 */
enum {
    TOO_SHORT = 1 << 0,  /* a lead, then no continuation */
    TOO_LONG = 1 << 1,   /* ASCII, then a continuation */
    OVERLONG_3 = 1 << 2, /* e0 80..9f */
    TOO_LARGE = 1 << 3,  /* f4 90.. and above */
    SURROGATE = 1 << 4,  /* ed a0..bf */
    OVERLONG_2 = 1 << 5, /* c0, c1 */
    TOO_LARGE_1000 = 1 << 6,
    OVERLONG_4 = 1 << 6, /* f0 80..8f; f5.. 80..8f above */
    TWO_CONTS = 1 << 7,
    CARRY = TOO_SHORT | TOO_LONG | TWO_CONTS,
    LARGE = CARRY | TOO_LARGE | TOO_LARGE_1000,
    AFTER = TOO_LONG | OVERLONG_2 | TWO_CONTS,
};

static const uint8_t first_high[16] = {
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TOO_LONG,
    TWO_CONTS,
    TWO_CONTS,
    TWO_CONTS,
    TWO_CONTS,
    TOO_SHORT | OVERLONG_2,
    TOO_SHORT,
    TOO_SHORT | OVERLONG_3 | SURROGATE,
    TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4,
};
static const uint8_t first_low[16] = {
    CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4,
    CARRY | OVERLONG_2,
    CARRY,
    CARRY,
    CARRY | TOO_LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE | SURROGATE,
    LARGE,
    LARGE,
};
static const uint8_t second_high[16] = {
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    AFTER | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4,
    AFTER | OVERLONG_3 | TOO_LARGE,
    AFTER | SURROGATE | TOO_LARGE,
    AFTER | SURROGATE | TOO_LARGE,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
    TOO_SHORT,
};

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i look_up(const uint8_t table[16], __m256i half_bytes)
{
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)table);

    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(half), half_bytes);
}

/* Errors of 32 bytes that follow the 32 of `before`. */
AVX2 static inline __m256i utf8_errors(__m256i bytes, __m256i before)
{
    __m256i low = _mm256_set1_epi8(0x0f);
    __m256i joint = _mm256_permute2x128_si256(before, bytes, 0x21);
    __m256i one_back = _mm256_alignr_epi8(bytes, joint, 15);
    __m256i two_back = _mm256_alignr_epi8(bytes, joint, 14);
    __m256i three_back = _mm256_alignr_epi8(bytes, joint, 13);
    __m256i errors =
        _mm256_and_si256(look_up(first_high, _mm256_and_si256(_mm256_srli_epi16(one_back, 4), low)),
                         look_up(first_low, _mm256_and_si256(one_back, low)));
    errors = _mm256_and_si256(
        errors, look_up(second_high, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low)));
    __m256i wanted = _mm256_or_si256(_mm256_subs_epu8(two_back, _mm256_set1_epi8(0xe0 - 0x80)),
                                     _mm256_subs_epu8(three_back, _mm256_set1_epi8(0xf0 - 0x80)));

    return _mm256_xor_si256(errors, _mm256_and_si256(wanted, _mm256_set1_epi8((char)0x80)));
}

AVX2 static bool avx2_utf8_valid(const char *data, size_t size_bytes)
{
    __m256i before = _mm256_setzero_si256();
    __m256i errors = _mm256_setzero_si256();
    size_t rest = size_bytes % 32;
    char last[32]; /* at least one blank at its end: a character cut off is seen there */

    for (size_t at = 0; at + 32 <= size_bytes; at += 32) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(data + at));
        errors = _mm256_or_si256(errors, utf8_errors(bytes, before));
        before = bytes;
    }
    memset(last, ' ', sizeof last);
    if (rest > 0)
        memcpy(last, data + size_bytes - rest, rest);
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)last);
    errors = _mm256_or_si256(errors, utf8_errors(bytes, before));
    return _mm256_testz_si256(errors, errors) != 0;
}
#endif

bool mr__scan_utf8_valid(const char *data, size_t size_bytes)
{
#ifdef HAVE_X86
    if (width() >= MR_SCAN_AVX2)
        return avx2_utf8_valid(data, size_bytes);
#endif
    return mr_utf8_valid(data, size_bytes);
}
