/*
 * Whole queries on the simulated disk, for tests that break the disk: input files, one a batch, a
 * query from start to end, output files.
 *
 *     disk_flow_prepare(flow, env);               /in
 *     disk_flow_run(flow, env, &err);             /cp, /out, /out2; again after whatever happened
 *     text = disk_flow_output(env);               what `ls` and `cat` would show of /out, /out2
 *
 * The oracle is the output of an undisturbed run: the same names with the same bytes. Everything
 * runs in the test's thread; the order of the operations on the disk is the same in each run.
 */
#ifndef MR_TESTS_SUPPORT_DISK_FLOW_H
#define MR_TESTS_SUPPORT_DISK_FLOW_H

#include "env/sim.h"
#include "support/test.h"

struct disk_flow {
    const char *name;
    const char *const *left;  /* texts of the input files of /in */
    const char *const *right; /* of /in2; NULL = there is none */
    const char *sql;          /* NULL: sums of v by k, by the kernel alone */
    size_t files;             /* of each directory */
};

/* sum, two inserts, join, sessions, deduplication, by name or all. */
extern const struct disk_flow disk_flows[];
extern const size_t disk_flow_count;
const struct disk_flow *disk_flow_named(const char *name);

void disk_flow_prepare(const struct disk_flow *flow, struct mr_env *env, size_t files);
enum mr_status disk_flow_run(const struct disk_flow *flow, struct mr_env *env,
                             struct mr_error *err);
/* In the next run the nth allocation of the query fails (not those that make its graph), and all
 * later ones when forever; 0 = none. Its number of allocations afterwards. */
void disk_flow_fail_allocation(uint64_t nth, bool forever);
uint64_t disk_flow_allocations(void);
/* The caller frees it with mr_text_free. */
char *disk_flow_output(struct mr_env *env);

#endif
