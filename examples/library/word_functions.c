/*
 * Functions for SQL in a library of their own:
 *
 *     cc -shared -fPIC -I include examples/library/word_functions.c -o libword_functions.so
 *     millrace run --library ./libword_functions.so -e "
 *         SELECT initial(city) AS i, longest(city) AS longest FROM stdin GROUP BY initial(city)"
 */
#include <millrace/function.h>

#include <string.h>

/* initial('Bonn') = 'B' */
static void initial(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    (void)arg;
    mr_emit_str(out, text.data, text.size_bytes > 0 ? 1 : 0);
}

/* letters('ab') = a, 1 and b, 2 */
static void letters(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    (void)arg;
    for (size_t i = 0; i < text.size_bytes; i++) {
        mr_emit_str(out, text.data + i, 1);
        mr_emit_int(out, (int64_t)i + 1);
        mr_emit_end(out);
    }
}

/* longest(text): what is kept of a group is the longest text so far; of equals the greatest. */
static void keep_longer(struct mr_group_bytes *bytes, const void *other, size_t other_size,
                        void *arg)
{
    size_t size;
    const void *have = mr_group_bytes_data(bytes, &size);
    void *to;

    (void)arg;
    if (other_size < size || (other_size == size && size > 0 && memcmp(other, have, size) <= 0))
        return;
    to = mr_group_bytes_resize(bytes, other_size);
    if (to != NULL && other_size > 0)
        memcpy(to, other, other_size);
}

static void longest_update(struct mr_group_bytes *bytes, const struct mr_row *row, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);

    keep_longer(bytes, text.data, text.size_bytes, arg);
}

static void longest_finish(const void *data, size_t size, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_str(out, data, size);
}

MR_API enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err);

enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err)
{
    static const struct mr_scalar_function initial_function = {
        .name = "initial", .arguments = "text VARCHAR", .result = "VARCHAR", .row = initial};
    static const struct mr_table_function letters_function = {.name = "letters",
                                                              .arguments = "text VARCHAR",
                                                              .columns = "letter VARCHAR, "
                                                                         "position BIGINT",
                                                              .row = letters};
    static const struct mr_aggregate_function longest_function = {.name = "longest",
                                                                  .arguments = "text VARCHAR",
                                                                  .result = "VARCHAR",
                                                                  .update = longest_update,
                                                                  .merge = keep_longer,
                                                                  .finish = longest_finish};
    enum mr_status status = mr_functions_add_scalar(functions, &initial_function, err);

    if (status == MR_OK)
        status = mr_functions_add_table(functions, &letters_function, err);
    if (status == MR_OK)
        status = mr_functions_add_aggregate(functions, &longest_function, err);
    return status;
}
