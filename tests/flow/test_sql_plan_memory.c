/* Planning without memory: an error, or the same plan; never another query. */
#include "support/test.h"

#include "base/alloc.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "sql/plan.h"

static const char sql[] =
    "CREATE TABLE a (n BIGINT, k VARCHAR, ts TIMESTAMP, "
    "WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory', table = 'a');\n"
    "CREATE TABLE out (s TIMESTAMP, k VARCHAR, c BIGINT, total BIGINT) "
    "WITH (connector = 'memory', table = 'out');\n"
    "CREATE VIEW big AS SELECT n, k, ts FROM a WHERE n > 10 AND k <> 'x' AND n % 2 = 0;\n"
    "INSERT INTO out SELECT window_start, k, count(*), sum(n + 1)::BIGINT FROM big "
    "WHERE k LIKE 'a%' GROUP BY window(ts, '1 minute'), k HAVING count(*) > 1;\n";

/* The description of the plan, or NULL with the status. */
static char *describe(struct mr_env *env, enum mr_status *ret_status)
{
    const struct mr_sql_args args = {.env = env, .check_only = true};
    struct mr_sql_script *script = NULL;
    struct mr_error err = {0};
    char *text = NULL;

    *ret_status = mr_sql_script_parse("q.sql", sql, strlen(sql), &script, &err);
    if (*ret_status == MR_OK)
        *ret_status = mr_sql_check(script, &args, &text, &err);
    mr_sql_script_free(script);
    return text;
}

TEST(C11_any_allocation_of_a_plan_may_fail_and_then_there_is_no_plan)
{
    struct mr_sim *sim = mr_sim_new(1);
    uint64_t step = test_quick() ? 7 : 1, total, tolerated = 0;
    enum mr_status status;
    char *whole, *text;

    mr_plugins_register();
    total = mr_alloc_count();
    whole = describe(mr_sim_env(sim), &status);
    total = mr_alloc_count() - total;
    CHECK_STATUS(status, MR_OK);
    for (uint64_t nth = 1; nth <= total; nth += step) {
        mr_alloc_fail_at(nth, false);
        text = describe(mr_sim_env(sim), &status);
        mr_alloc_fail_at(0, false);
        if (status == MR_OK) {
            CHECK_EQ_STR(text, whole);
            tolerated++;
        } else {
            CHECK_STATUS(status, MR_NOMEM);
        }
        mr_text_free(text);
    }
    CHECK(tolerated <= total / step / 20); /* hints that may be left out */
    mr_text_free(whole);
    mr_sim_free(sim);
}
