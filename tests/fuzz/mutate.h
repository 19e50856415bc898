/*
 * Inputs for fuzzers without libFuzzer: the corpus of one target, its dictionary, and inputs made
 * of them. The same seed gives the same inputs. Thread: one.
 */
#ifndef MR_TESTS_FUZZ_MUTATE_H
#define MR_TESTS_FUZZ_MUTATE_H

#include "base/buf.h"

#include <stdint.h>

enum { MUTATE_BYTES_MAX = 4096 };

struct mutate_text {
    uint8_t *data;
    size_t size;
};

struct mutate {
    struct mutate_text *inputs; /* the corpus, in the order of its file names */
    size_t input_count;
    struct mutate_text *words; /* the dictionary */
    size_t word_count;
    uint64_t random;
};

/* tests/fuzz/corpus/<target>/ (without it: one empty input) and tests/fuzz/dict/<target>.dict.
 * False: a file cannot be read, which *ret_why names (static). */
bool mutate_open(struct mutate *mutate, const char *fuzz_dir, const char *target, uint64_t seed,
                 const char **ret_why);
void mutate_close(struct mutate *mutate);
/* The next input, in out, of room bytes; returns its size. */
size_t mutate_next(struct mutate *mutate, uint8_t out[MUTATE_BYTES_MAX]);

#endif
