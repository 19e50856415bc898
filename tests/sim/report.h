/*
 * Sums over runs, the line of a run that failed, and the figures for docs/evidence.md.
 */
#ifndef MR_TESTS_SIM_REPORT_H
#define MR_TESTS_SIM_REPORT_H

#include "sim/run.h"

struct report {
    struct run_result sum;
    uint64_t runs;
    uint64_t failed;
};

void report_add(struct report *report, const struct run_result *one);
/* "seed 7, commit 1a2b3c: lost: ... (sql ...); replay: make sim SEED=7" */
void report_failure(const struct run_result *one);
void report_print(const struct report *report);
void report_evidence(const struct report *report);
/* Seeds of regressions.txt; returns how many, at most seeds_max. */
size_t report_regressions(uint64_t *ret_seeds, size_t seeds_max);

#endif
