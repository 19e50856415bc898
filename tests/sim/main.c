/*
 * The program `sim`: runs seeds; one line for each that fails.
 *
 *     sim SEED                 one seed; VERBOSE=1: with its whole trace
 *     sim --seeds FROM-TO      many, every 50th twice; the seeds of regressions.txt first
 *     sim --hash SEED          its trace hash only: run twice, compare
 *     sim --canary [SEEDS]     looks for each planted bug in so many seeds (a build with mutants)
 *
 * Thread: one.
 */
#include "sim/canary.h"
#include "sim/engines.h"
#include "sim/report.h"

#include "plugins/plugins.h"
#include "support/evidence.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { REGRESSIONS_MAX = 4096, SAME_EVERY = 50, TOLD_EVERY = 250, CANARY_SEEDS = 1000 };

static int usage(void)
{
    fprintf(stderr, "usage: sim SEED | sim --seeds FROM-TO | sim --hash SEED | sim --canary "
                    "[SEEDS]\n");
    return 64;
}

static int run_one(uint64_t seed, bool hash_only)
{
    const char *verbose = getenv("VERBOSE");
    struct run_result one;

    run_seed(seed, verbose != NULL && strcmp(verbose, "0") != 0 ? stdout : NULL, &one);
    if (hash_only) {
        printf("%016" PRIx64 "\n", one.hash);
        return one.anomaly[0] != '\0';
    }
    printf("seed %" PRIu64 ", trace %016" PRIx64 ": %s\n%" PRIu64 " lives, %" PRIu64
           " crashes, %" PRIu64 " batches, %.1f virtual seconds in %.1f CPU ms\n",
           seed, one.hash, one.shape, one.lives, one.crashes, one.batches,
           (double)one.virtual_us / 1e6, (double)one.cpu_us / 1e3);
    if (one.anomaly[0] != '\0')
        report_failure(&one);
    return one.anomaly[0] != '\0';
}

/* Runs a seed; every so often twice. */
static void run_and_add(struct report *report, uint64_t seed, uint64_t *same)
{
    struct run_result one, again;

    run_seed(seed, NULL, &one);
    if (one.anomaly[0] == '\0' && report->runs % SAME_EVERY == 0) {
        run_seed(seed, NULL, &again);
        (*same)++;
        if (again.hash != one.hash)
            snprintf(one.anomaly, sizeof(one.anomaly),
                     "not deterministic: trace %016" PRIx64 ", then %016" PRIx64, one.hash,
                     again.hash);
    }
    report_add(report, &one);
    if (one.anomaly[0] != '\0')
        report_failure(&one);
    if (report->runs % TOLD_EVERY == 0) {
        printf("... %" PRIu64 " runs, %" PRIu64 " failed, seed %" PRIu64 "\n", report->runs,
               report->failed, seed);
        fflush(stdout);
    }
}

static int run_many(const char *range)
{
    static uint64_t regressions[REGRESSIONS_MAX];
    size_t count = report_regressions(regressions, REGRESSIONS_MAX);
    struct report report = {0};
    uint64_t from, to, same = 0;
    char *end, text[64];

    from = to = strtoull(range, &end, 10);
    if (*end == '-')
        to = strtoull(end + 1, NULL, 10);
    for (size_t i = 0; i < count; i++)
        run_and_add(&report, regressions[i], &same);
    for (uint64_t seed = from; seed <= to; seed++)
        run_and_add(&report, seed, &same);
    report_print(&report);
    report_evidence(&report);
    evidence_add("simulation", "same_trace_twice", same);
    snprintf(text, sizeof(text), "%" PRIu64 "-%" PRIu64, from, to);
    evidence_text("simulation", "seeds", text);
    return report.failed > 0;
}

static int run_canaries(uint64_t seeds_max)
{
    size_t found = 0;

    if (canary_count() == 0) {
        fprintf(stderr, "this build has no planted bugs; build the preset 'mutants'\n");
        return 69;
    }
    for (size_t i = 0; i < canary_count(); i++) {
        char text[400];
        uint64_t seeds = canary_find(i, 1, seeds_max, text, sizeof(text));

        found += seeds > 0;
        if (seeds > 0)
            printf("found after %4" PRIu64 " seeds: %s (%s): %s\n", seeds, canary_name(i),
                   canary_what(i), text);
        else
            printf("NOT FOUND in %" PRIu64 " seeds: %s (%s): %s\n", seeds_max, canary_name(i),
                   canary_what(i), text);
        fflush(stdout);
    }
    printf("%zu of %zu planted bugs found\n", found, canary_count());
    evidence_add("simulation", "canaries_planted", canary_count());
    evidence_add("simulation", "canaries_found", found);
    return found != canary_count();
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage();
    mr_plugins_register();
    database_register();
    engines_keep();
    if (strcmp(argv[1], "--canary") == 0)
        return run_canaries(argc > 2 ? strtoull(argv[2], NULL, 10) : CANARY_SEEDS);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return run_many(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--hash") == 0)
        return run_one(strtoull(argv[2], NULL, 10), true);
    return argc == 2 && argv[1][0] != '-' ? run_one(strtoull(argv[1], NULL, 10), false) : usage();
}
