/*
 * Any bytes as a JSON document: what is read is written, read again and written to the same bytes.
 */
#include "base/check.h"
#include "base/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_buf first = MR_BUF_INIT;
    struct mr_buf second = MR_BUF_INIT;
    struct mr_json *json;
    struct mr_error err;

    if (mr_json_parse((const char *)data, size, &arena, &json, &err) == MR_OK) {
        mr_json_write(&first, json);
        MR_ASSERT(mr_json_parse(first.data, first.size, &arena, &json, &err) == MR_OK);
        mr_json_write(&second, json);
        MR_ASSERT(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    } else {
        MR_ASSERT(err.status == MR_BAD_DATA && err.text[0] != '\0');
    }
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr_arena_release(&arena);
    return 0;
}
