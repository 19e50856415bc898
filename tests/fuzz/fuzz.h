/*
 * What the fuzzers of this folder share (README.md).
 *
 * A fuzzer is one file that defines FUZZ_ONE. In the preset 'fuzz' it is linked with libFuzzer; in
 * all others the same file becomes part of test_fuzz, which replays the corpus and a short run of
 * its own.
 *
 *     static void one(const uint8_t *data, size_t size)
 *     {
 *         if (parse(data, size, &thing, &err) == MR_OK)
 *             FUZZ_CHECK(round_trip(thing));
 *         else
 *             FUZZ_REFUSED(&err, MR_BAD_DATA);
 *     }
 *
 *     int FUZZ_ONE(const uint8_t *data, size_t size)
 *     {
 *         return fuzz_run(one, data, size);
 *     }
 *
 * fuzz_run calls it twice: once as it is, once with an allocation that fails; which one follows
 * from the input. In the second call FUZZ_CHECK holds as little as FUZZ_REFUSED: what is looked for
 * there are leaks, crashes and wrong states. Thread: one.
 */
#ifndef MR_TESTS_FUZZ_H
#define MR_TESTS_FUZZ_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#ifndef FUZZ_ONE
#define FUZZ_ONE LLVMFuzzerTestOneInput
#endif

int FUZZ_ONE(const uint8_t *data, size_t size);

int fuzz_run(void (*one)(const uint8_t *data, size_t size), const uint8_t *data, size_t size);
/* The same without the second call: for targets whose allocations are not ours to fail. */
int fuzz_run_fed(void (*one)(const uint8_t *data, size_t size), const uint8_t *data, size_t size);

/* An allocation may fail in this call. */
bool fuzz_starved(void);

/* Says what did not hold and aborts; in a call that starves it returns. */
void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fuzz_fail(__FILE__, __LINE__, #cond);                                                  \
    } while (0)

/* An error has one of the statuses (or MR_NOMEM in a call that starves), and a text that fits. */
void fuzz_refused(const char *file, int line, const struct mr_error *err, enum mr_status a,
                  enum mr_status b, enum mr_status c);
#define FUZZ_REFUSED(err, status)                                                                  \
    fuzz_refused(__FILE__, __LINE__, (err), (status), (status), (status))
#define FUZZ_REFUSED3(err, a, b, c) fuzz_refused(__FILE__, __LINE__, (err), (a), (b), (c))

/* Both hold the same bytes. */
void fuzz_same(const char *file, int line, const struct mr_buf *a, const struct mr_buf *b);
#define FUZZ_SAME(a, b) fuzz_same(__FILE__, __LINE__, (a), (b))

/* An input as a row of choices; zeros behind its end. */
struct fuzz_input {
    const uint8_t *at;
    const uint8_t *end;
};
struct fuzz_input fuzz_input_of(const uint8_t *data, size_t size);
uint8_t fuzz_byte(struct fuzz_input *input);
/* Below n (n > 0), evenly for n up to 256. */
uint32_t fuzz_below(struct fuzz_input *input, uint32_t n);
uint64_t fuzz_u64(struct fuzz_input *input);
bool fuzz_is_empty(const struct fuzz_input *input);

#endif
