/*
 * What the fuzzers share; fuzz.h says how it is used. Thread: one.
 */
#include "fuzz/fuzz.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starved;

bool fuzz_starved(void)
{
    return starved;
}

void fuzz_fail(const char *file, int line, const char *what)
{
    if (starved)
        return;
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

int fuzz_run_fed(void (*one)(const uint8_t *data, size_t size), const uint8_t *data, size_t size)
{
    static bool warm; /* the first call makes what lives for ever: registries, static schemas */
    size_t used;

    if (!warm)
        one(data, size);
    warm = true;
    used = mr_budget_used(NULL);
    one(data, size);
    if (mr_budget_used(NULL) != used)
        fuzz_fail(__FILE__, __LINE__, "all memory is given back");
    return 0;
}

int fuzz_run(void (*one)(const uint8_t *data, size_t size), const uint8_t *data, size_t size)
{
    uint64_t before, count;
    size_t used;

    (void)fuzz_run_fed(one, data, size);
    before = mr_alloc_count();
    used = mr_budget_used(NULL);
    starved = true;
    mr_alloc_fail_at(1 + mr_hash(data, size, 0) % 64, false);
    one(data, size);
    count = mr_alloc_count() - before;
    mr_alloc_fail_at(0, false);
    starved = false;
    if (count > 64 && mr_budget_used(NULL) == used) {
        /* A long way: one that fails anywhere on it. */
        starved = true;
        mr_alloc_fail_at(1 + mr_hash(data, size, 1) % count, (count & 1) != 0);
        one(data, size);
        mr_alloc_fail_at(0, false);
        starved = false;
    }
    if (mr_budget_used(NULL) != used)
        fuzz_fail(__FILE__, __LINE__, "all memory is given back after an allocation failed");
    return 0;
}

void fuzz_refused(const char *file, int line, const struct mr_error *err, enum mr_status a,
                  enum mr_status b, enum mr_status c)
{
    if (err->status != a && err->status != b && err->status != c) {
        if (!starved)
            (void)fprintf(stderr, "# %s: %s\n", mr_status_name(err->status), err->text);
        fuzz_fail(file, line, "the error has the right status");
    }
    if (err->text[0] == '\0' || memchr(err->text, '\0', sizeof err->text) == NULL ||
        strchr(err->text, '\n') != NULL)
        fuzz_fail(file, line, "the error has a text of one line");
}

void fuzz_same(const char *file, int line, const struct mr_buf *a, const struct mr_buf *b)
{
    if (a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0))
        return;
    if (!starved)
        (void)fprintf(stderr, "# one:   %.*s\n# other: %.*s\n", (int)MR_MIN(a->size, 2000U),
                      a->size == 0 ? "" : a->data, (int)MR_MIN(b->size, 2000U),
                      b->size == 0 ? "" : b->data);
    fuzz_fail(file, line, "both are the same bytes");
}

/* ---- choices ---- */

struct fuzz_input fuzz_input_of(const uint8_t *data, size_t size)
{
    return (struct fuzz_input){data, data + size};
}

uint8_t fuzz_byte(struct fuzz_input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

uint32_t fuzz_below(struct fuzz_input *input, uint32_t n)
{
    uint32_t value = fuzz_byte(input);

    if (n > 256)
        value |= (uint32_t)fuzz_byte(input) << 8;
    if (n > 65536)
        value |= (uint32_t)fuzz_byte(input) << 16;
    return value % n;
}

uint64_t fuzz_u64(struct fuzz_input *input)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)fuzz_byte(input) << (8 * i);
    return value;
}

bool fuzz_is_empty(const struct fuzz_input *input)
{
    return input->at >= input->end;
}
