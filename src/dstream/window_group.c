/*
 * group_by_key_and_window (WIN-9): the pairs of a window, grouped when it fires.
 *
 * Spark groups each batch first and joins the lists of a key at the firing. Here the pairs of a
 * batch go into state as they are, and one grouping makes the lists: the same rows in the same
 * order, oldest first, with one list made instead of two.
 *
 * Thread: the building one.
 */
#include "dstream/streams.h"

struct mr_dstream *mr_group_by_key_and_window(struct mr_dstream *pairs, int64_t window_ms,
                                              int64_t slide_ms)
{
    static const char operation[] = "group_by_key_and_window";
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};
    struct mr_dstream *window, *result;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, operation) ||
        !mr__needs_pairs(pairs, &none, operation))
        return NULL;
    window = mr_window(pairs, window_ms, slide_ms);
    result = mr_group_by_key(window);
    if (result != NULL)
        result->named = window;
    return result;
}
