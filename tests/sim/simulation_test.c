/*
 * The slice of the simulation that runs in "make test": the same claims as "make sim", fewer seeds.
 */
#include "sim/canary.h"
#include "sim/engines.h"
#include "sim/fibers.h"
#include "sim/report.h"
#include "support/evidence.h"
#include "support/test.h"

#include "plugins/plugins.h"

#include <stdlib.h>

enum { REGRESSIONS_MAX = 256 };

static void prepare(void)
{
    static bool done;

    if (!done) {
        mr_plugins_register();
        database_register();
        engines_keep();
    }
    done = true;
}

static void run(struct report *report, uint64_t seed)
{
    struct run_result one;

    run_seed(seed, NULL, &one);
    report_add(report, &one);
    if (one.anomaly[0] != '\0') {
        report_failure(&one);
        FAIL("seed %" PRIu64 ": %s", seed, one.anomaly);
    }
}

TEST(seeds_give_what_the_oracle_says_whatever_fails)
{
    uint64_t first = test_seed(1), seeds = test_quick() ? 16 : 400;
    struct report report = {0};

    prepare();
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run(&report, seed);
    printf("# ");
    report_print(&report);
    report_evidence(&report);
    CHECK(report.sum.crashes > 0 && report.sum.batches > 0);
}

TEST(seeds_that_ever_failed_pass)
{
    static uint64_t seeds[REGRESSIONS_MAX];
    struct report report = {0};
    size_t count = report_regressions(seeds, REGRESSIONS_MAX);

    prepare();
    for (size_t i = 0; i < count; i++)
        run(&report, seeds[i]);
    report_evidence(&report);
}

TEST(the_same_seed_gives_the_same_trace)
{
    uint64_t seeds = test_quick() ? 2 : 40;
    uint64_t different = 0, before = 0;

    prepare();
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct run_result one, again;

        run_seed(seed, NULL, &one);
        run_seed(seed, NULL, &again);
        CHECK_EQ_UINT(again.hash, one.hash);
        different += one.hash != before;
        before = one.hash;
    }
    CHECK_EQ_UINT(different, seeds);
    evidence_add("simulation", "same_trace_twice", seeds);
}

/* Its addresses are others in every process, unless somebody asks for the same. */
static uint64_t hash_elsewhere(const char *wrapper, uint64_t seed)
{
    const char *build = getenv("MILLRACE_BUILD_DIR");
    char command[1200], line[100] = "";
    FILE *out;

    if (build == NULL)
        return 0;
    snprintf(command, sizeof(command), "%s %s/tests/sim/sim --hash %" PRIu64, wrapper, build, seed);
    out = popen(command, "r"); /* NOLINT(cert-env33-c): words of ours, and setarch needs a shell */
    CHECK(out != NULL);
    CHECK(fgets(line, sizeof(line), out) != NULL);
    CHECK_EQ_INT(pclose(out), 0);
    return strtoull(line, NULL, 16);
}

TEST(the_trace_does_not_depend_on_addresses)
{
    uint64_t seeds = test_quick() ? 1 : 10;

    if (getenv("MILLRACE_BUILD_DIR") == NULL)
        SKIP(t, "MILLRACE_BUILD_DIR is not set");
    prepare();
    for (uint64_t seed = 11; seed < 11 + seeds; seed++) {
        struct run_result here;

        run_seed(seed, NULL, &here);
        CHECK_EQ_UINT(hash_elsewhere("", seed), here.hash);
        CHECK_EQ_UINT(hash_elsewhere("env A_LONGER_ENVIRONMENT=moves-the-stack", seed), here.hash);
    }
    evidence_add("simulation", "same_trace_elsewhere", seeds);
}

/* Each by the seed that found it last time, or, when dice fall in another order now, by others. */
TEST(planted_bugs_are_found)
{
    if (canary_count() == 0)
        SKIP(t, "a build without planted bugs");
    prepare();
    for (size_t i = 0; i < canary_count(); i++) {
        char text[400];

        if (canary_find(i, canary_seed(i), 1, text, sizeof(text)) == 0 &&
            canary_find(i, 1, 1000, text, sizeof(text)) == 0)
            FAIL("'%s' was not found: %s", canary_name(i), canary_what(i));
        evidence_add("simulation", "canaries_found", 1);
    }
    evidence_add("simulation", "canaries_planted", canary_count());
}
