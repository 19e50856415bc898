/*
 * The program `sim`: runs seeds, one line for each that fails.
 *
 *     sim SEED            one seed, with its whole trace when VERBOSE=1
 *     sim --seeds A-B     many
 *
 * Thread: one.
 */
#include "sim/run.h"

#include "base/mutant.h"
#include "plugins/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void add(struct run_result *sum, const struct run_result *one)
{
    sum->batches += one->batches;
    sum->lives += one->lives;
    sum->crashes += one->crashes;
    sum->calls += one->calls;
    sum->switches += one->switches;
    sum->virtual_us += one->virtual_us;
    sum->cpu_us += one->cpu_us;
    sum->damages_found += one->damages_found;
    for (int i = 0; i < FAULT_KINDS; i++)
        sum->faults[i] += one->faults[i];
}

int main(int argc, char **argv)
{
    struct run_result sum = {0}, one;
    uint64_t from, to, failed = 0;
    bool single = argc == 2;
    char *end;

    if (argc < 2) {
        fprintf(stderr, "usage: sim SEED | sim --seeds FROM-TO\n");
        return 64;
    }
    from = to = strtoull(argv[argc - 1], &end, 10);
    if (*end == '-')
        to = strtoull(end + 1, NULL, 10);
    mr_plugins_register();
    database_register();
    for (uint64_t seed = from; seed <= to; seed++) {
        run_seed(seed, single && getenv("VERBOSE") != NULL ? stdout : NULL, &one);
        add(&sum, &one);
        if (!single && getenv("PROGRESS") != NULL)
            fprintf(stderr, "seed %" PRIu64 " %" PRIu64 " ms %s\n", seed, one.cpu_us / 1000, one.shape);
        if (single)
            printf("seed %" PRIu64 " hash %016" PRIx64 ": %s\n", seed, one.hash, one.shape);
        if (one.anomaly[0] != '\0') {
            failed++;
            printf("seed %" PRIu64 ": %s (%s)\n", seed, one.anomaly, one.shape);
            fflush(stdout);
        }
    }
    printf("%" PRIu64 " runs, %" PRIu64 " failed, %" PRIu64 " lives, %" PRIu64 " crashes, %" PRIu64
           " batches, %" PRIu64 " calls, %" PRId64 " virtual s, %" PRIu64 " cpu ms: %.0f x\n",
           to - from + 1, failed, sum.lives, sum.crashes, sum.batches, sum.calls,
           sum.virtual_us / 1000000, sum.cpu_us / 1000,
           (double)sum.virtual_us / (double)(sum.cpu_us + 1));
    for (int i = 0; i < FAULT_KINDS; i++) {
        if (sum.faults[i] > 0)
            printf("  %s %" PRIu64 "\n", sim_fault_names[i], sum.faults[i]);
    }
    return failed > 0 ? 1 : 0;
}
