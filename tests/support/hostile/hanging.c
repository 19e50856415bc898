/*
 * A library of functions that never come back: for tests of what ends a batch that hangs (D16).
 *
 *     wait_if(text)   1; but it waits for ever while the text is the name of a file that exists
 */
#include <millrace/function.h>

#include <string.h>
#include <unistd.h>

static void wait_if(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);
    char path[512] = "";

    (void)arg;
    if (text.size_bytes < sizeof(path))
        memcpy(path, text.data, text.size_bytes);
    while (path[0] != '\0' && access(path, F_OK) == 0)
        usleep(1000);
    mr_emit_int(out, 1);
}

MR_API enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err);

enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err)
{
    static const struct mr_scalar_function function = {
        .name = "wait_if", .arguments = "path VARCHAR", .result = "BIGINT", .row = wait_if};

    return mr_functions_add_scalar(functions, &function, err);
}
