/*
 * See report.h.
 */
#include "sim/report.h"

#include "support/evidence.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void report_add(struct report *report, const struct run_result *one)
{
    struct run_result *sum = &report->sum;

    report->runs++;
    report->failed += one->anomaly[0] != '\0';
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

void report_failure(const struct run_result *one)
{
    const char *commit = getenv("MILLRACE_COMMIT");

    printf("seed %" PRIu64 ", commit %s: %s (%s); replay: make sim SEED=%" PRIu64 "\n", one->seed,
           commit != NULL ? commit : "unknown", one->anomaly, one->shape, one->seed);
    fflush(stdout);
}

void report_print(const struct report *report)
{
    const struct run_result *sum = &report->sum;

    printf("%" PRIu64 " runs, %" PRIu64 " failed; %" PRIu64 " lives, %" PRIu64 " crashes, %" PRIu64
           " batches, %" PRIu64 " calls of the disk, %" PRIu64 " switches of threads\n%" PRId64
           " virtual seconds in %.1f CPU seconds: %.0f times real "
           "time\n",
           report->runs, report->failed, sum->lives, sum->crashes, sum->batches, sum->calls,
           sum->switches, sum->virtual_us / 1000000, (double)sum->cpu_us / 1e6,
           (double)sum->virtual_us / (double)(sum->cpu_us + 1));
    printf("faults:");
    for (int i = 0; i < FAULT_KINDS; i++) {
        if (sum->faults[i] > 0)
            printf(" %s %" PRIu64, sim_fault_names[i], sum->faults[i]);
    }
    printf("; damage refused %" PRIu64 "\n", sum->damages_found);
    fflush(stdout);
}

void report_evidence(const struct report *report)
{
    const struct run_result *sum = &report->sum;
    char figure[80];

    evidence_add("simulation", "runs", report->runs);
    evidence_add("simulation", "failed", report->failed);
    evidence_add("simulation", "lives", sum->lives);
    evidence_add("simulation", "crashes", sum->crashes);
    evidence_add("simulation", "batches", sum->batches);
    evidence_add("simulation", "disk_calls", sum->calls);
    evidence_add("simulation", "virtual_seconds", (uint64_t)sum->virtual_us / 1000000);
    evidence_add("simulation", "cpu_ms", sum->cpu_us / 1000);
    for (int i = 0; i < FAULT_KINDS; i++) {
        snprintf(figure, sizeof(figure), "fault_%s", sim_fault_names[i]);
        if (sum->faults[i] > 0)
            evidence_add("simulation", figure, sum->faults[i]);
    }
}

size_t report_regressions(uint64_t *ret_seeds, size_t seeds_max)
{
    const char *root = getenv("MILLRACE_SOURCE_DIR");
    char path[1024], line[512];
    size_t count = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s/tests/sim/regressions.txt", root != NULL ? root : ".");
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    while (count < seeds_max && fgets(line, sizeof(line), file) != NULL) {
        if (isdigit((unsigned char)line[0]))
            ret_seeds[count++] = strtoull(line, NULL, 10);
    }
    fclose(file);
    return count;
}
