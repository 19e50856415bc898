/*
 * The fuzzers without libFuzzer: each replays its corpus and then inputs made of it, the same ones
 * in every run. How many is in targets.txt; without QUICK=1 it is twenty times as many.
 *
 * FUZZ_ONLY_CORPUS=1 leaves the made ones out (tests/fuzz/coverage).
 */
#include "fuzz/mutate.h"
#include "support/evidence.h"
#include "support/test.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mutant.h"

#include <stdlib.h>

enum { LONG_RUN = 20, CANARY_RUNS = 20000 };

typedef int (*fuzz_one_fn)(const uint8_t *data, size_t size);

#define X(name) int name(const uint8_t *data, size_t size);
#include "fuzz_targets.inc"
#undef X

static const char *fuzz_dir(void)
{
    static char path[4096];
    const char *source = getenv("MILLRACE_SOURCE_DIR");

    (void)snprintf(path, sizeof path, "%s/tests/fuzz", source == NULL ? "." : source);
    return path;
}

/* The number behind the target's name in targets.txt. */
static uint64_t runs_of(const char *target)
{
    char path[4200], line[1024];
    unsigned long runs = 0;
    bool found = false;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/targets.txt", fuzz_dir());
    file = fopen(path, "r");
    if (file == NULL)
        FAIL("cannot read %s", path);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        size_t length = strlen(target);

        if (strncmp(line, target, length) == 0 && line[length] == ' ') {
            runs = strtoul(line + length, NULL, 10);
            found = true;
        }
    }
    (void)fclose(file);
    if (!found)
        FAIL("%s is not in tests/fuzz/targets.txt", target);
    return getenv("FUZZ_ONLY_CORPUS") != NULL ? 0 : test_quick() ? runs : runs * LONG_RUN;
}

/* An input is copied to a block of its own size, so that a read behind its end is seen. */
static void run_one(fuzz_one_fn one, const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);

    if (copy == NULL)
        FAIL("out of memory");
    if (size > 0)
        memcpy(copy, data, size);
    (void)one(copy, size);
    free(copy);
}

static uint64_t run_made(fuzz_one_fn one, struct mutate *mutate, uint64_t runs)
{
    static uint8_t made[MUTATE_BYTES_MAX];

    for (uint64_t i = 0; i < runs; i++)
        run_one(one, made, mutate_next(mutate, made));
    return runs;
}

static void fuzz_target(const char *target, fuzz_one_fn one)
{
    uint64_t runs = runs_of(target);
    struct mutate mutate;
    const char *why;

    if (!mutate_open(&mutate, fuzz_dir(), target, test_seed(1), &why))
        FAIL("cannot read %s", why);
    for (size_t i = 0; i < mutate.input_count; i++)
        run_one(one, mutate.inputs[i].data, mutate.inputs[i].size);
    (void)run_made(one, &mutate, runs);
    printf("# %s: %zu of its corpus, %" PRIu64 " made\n", target, mutate.input_count, runs);
    evidence_add("fuzz", "replayed", mutate.input_count);
    evidence_add("fuzz", "replay-made", runs);
    mutate_close(&mutate);
}

#define X(name)                                                                                    \
    TEST(name)                                                                                     \
    {                                                                                              \
        fuzz_target(#name, name);                                                                  \
    }
#include "fuzz_targets.inc"
#undef X

/* ---- planted bugs, to see that inputs made like these find any ---- */

enum planted { PLANTED_NONE, PLANTED_ESCAPE, PLANTED_DEPTH, PLANTED_NUMBER };
static enum planted planted;

static bool has_bug(const struct mr_json *json, unsigned depth)
{
    if (planted == PLANTED_ESCAPE && json->kind == MR_JSON_STRING)
        return memchr(json->text, '\t', json->text_bytes) != NULL && json->text_bytes > 2;
    if (planted == PLANTED_NUMBER && json->kind == MR_JSON_NUMBER)
        return json->text_bytes >= 4 && memchr(json->text, 'E', json->text_bytes) != NULL;
    if (planted == PLANTED_DEPTH && depth == 2 && json->kind == MR_JSON_ARRAY)
        return true;
    for (const struct mr_json *child = json->first; child != NULL; child = child->next)
        if (has_bug(child, depth + 1))
            return true;
    return false;
}

static int canary(const uint8_t *data, size_t size)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;

    if (mr_json_parse((const char *)data, size, &arena, &json, NULL) == MR_OK && has_bug(json, 0))
        abort();
    mr_arena_release(&arena);
    return 0;
}

static void run_canary(void)
{
    struct mutate mutate;
    const char *why;

    if (!mutate_open(&mutate, fuzz_dir(), "canary", 1, &why))
        FAIL("cannot read %s", why);
    (void)run_made(canary, &mutate, CANARY_RUNS);
    mutate_close(&mutate);
}

TEST(inputs_made_of_a_plain_corpus_find_each_planted_bug)
{
    run_canary(); /* there is nothing to find */
    for (planted = PLANTED_ESCAPE; planted <= PLANTED_NUMBER; planted++) {
        printf("# planted bug %d\n", (int)planted);
        CHECK_ABORTS(run_canary());
    }
    planted = PLANTED_NONE;
    evidence_add("fuzz", "planted-bugs-found", PLANTED_NUMBER);
}
