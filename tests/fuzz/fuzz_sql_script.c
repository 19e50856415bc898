/*
 * Statements from anywhere, and the blocks of their tests: the parsers must answer with a script or
 * an error with a place, never read past the end.
 */
#include "sql/script.h"
#include "testing/testing.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_sql_script *script = NULL;
    struct mr_error err = {0};

    if (mr_sql_script_parse("fuzz", (const char *)data, size, &script, &err) == MR_OK) {
        for (size_t i = 0; i < script->count; i++) {
            const struct mr_sql_statement *statement = &script->statements[i];

            if (statement->select_at + statement->select_size > size)
                abort();
        }
        err.text[0] = '\0';
        if (mr_testing_check(script, &err) != MR_OK && err.text[0] == '\0')
            abort();
        mr_sql_script_free(script);
    } else if (err.text[0] == '\0') {
        abort();
    }
    return 0;
}
