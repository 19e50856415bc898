/*
 * Any bytes as what stands between BEGIN and END of a TEST: steps or an error with a place.
 */
#include "fuzz/fuzz.h"

#include "sql/script.h"
#include "testing/internal.h"

#include <string.h>

static void check_steps(struct mr_sql_script *script, const struct mr_sql_statement *statement)
{
    struct mr_test_block block;
    struct mr_error err = {0};
    size_t end = statement->select_at + statement->select_size;

    if (mr_testing__parse(script, statement, &block, &err) != MR_OK) {
        FUZZ_REFUSED3(&err, MR_SQL_ERROR, MR_CONFIG, MR_LIMIT);
        if (err.status == MR_SQL_ERROR)
            FUZZ_CHECK(err.sql_line > 0 && err.sql_column > 0);
        return;
    }
    for (size_t i = 0; i < block.count; i++) {
        const struct mr_test_step *step = &block.steps[i];

        FUZZ_CHECK(step->at >= statement->select_at && step->at < end);
        FUZZ_CHECK(i == 0 || step->at > block.steps[i - 1].at);
        FUZZ_CHECK(step->query.at + step->query.size <= end);
        FUZZ_CHECK(step->left.at + step->left.size <= end);
        FUZZ_CHECK(step->column_count <= MR_TESTING_KEYS_MAX);
    }
}

static void one(const uint8_t *data, size_t size)
{
    static const char head[] = "TEST 'fuzz' AS BEGIN\n", tail[] = "\nEND;\n";
    struct mr_sql_script *script = NULL;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_error err = {0};

    mr_buf_add_str(&text, head);
    mr_buf_add(&text, data, size);
    mr_buf_add_str(&text, tail);
    if (!text.failed && mr_sql_script_parse("fuzz", text.data, text.size, &script, &err) == MR_OK) {
        for (size_t i = 0; i < script->count; i++)
            if (script->statements[i].kind == MR_SQL_TEST)
                check_steps(script, &script->statements[i]);
        mr_sql_script_free(script);
    } else if (!text.failed) {
        FUZZ_REFUSED3(&err, MR_SQL_ERROR, MR_CONFIG, MR_LIMIT);
    }
    mr_buf_release(&text);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
