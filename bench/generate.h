/*
 * What the generators share: the random numbers of spec W1 and W3 (xorshift64 from one seed, so
 * that every run and every engine reads the same bytes) and a buffered output file that ends the
 * program when the disk is full.
 */
#ifndef MR_BENCH_GENERATE_H
#define MR_BENCH_GENERATE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct random {
    uint64_t state;
};

#define RANDOM_SEED UINT64_C(88172645463325252)

static inline uint64_t random_next(struct random *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return random->state;
}

static inline unsigned random_below(struct random *random, unsigned limit)
{
    return (unsigned)((random_next(random) >> 32) * limit >> 32);
}

struct output {
    FILE *file;
    const char *path;
    uint64_t bytes;
};

static inline void output_fail(const char *path)
{
    fprintf(stderr, "cannot write '%s': %s\n", path, strerror(errno));
    exit(1);
}

static inline void output_open(struct output *out, const char *path)
{
    *out = (struct output){.file = fopen(path, "w"), .path = path};
    if (out->file == NULL)
        output_fail(path);
    setvbuf(out->file, NULL, _IOFBF, 1 << 20);
}

static inline void output_add(struct output *out, const char *data, size_t size_bytes)
{
    if (fwrite(data, 1, size_bytes, out->file) != size_bytes)
        output_fail(out->path);
    out->bytes += size_bytes;
}

static inline void output_close(struct output *out)
{
    if (fclose(out->file) != 0)
        output_fail(out->path);
}

static inline uint64_t count_argument(const char *text)
{
    char *end = NULL;
    uint64_t count = strtoull(text, &end, 10);

    if (end == text || *end != '\0') {
        fprintf(stderr, "not a number: '%s'\n", text);
        exit(64);
    }
    return count;
}

#endif
