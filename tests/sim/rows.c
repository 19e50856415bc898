/*
 * See rows.h.
 */
#include "sim/rows.h"

#include "base/check.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void rows_add(struct rows *rows, const struct row *row)
{
    if (rows->count == rows->room) {
        rows->room = rows->room == 0 ? 64 : rows->room * 2;
        rows->rows = realloc(rows->rows, rows->room * sizeof(*rows->rows));
        MR_ASSERT(rows->rows != NULL);
    }
    rows->rows[rows->count++] = *row;
}

void rows_clear(struct rows *rows)
{
    rows->count = 0;
}

void rows_release(struct rows *rows)
{
    free(rows->rows);
    memset(rows, 0, sizeof(*rows));
}

int rows_compare(const struct row *a, const struct row *b)
{
    for (int i = 0; i < ROW_COLUMNS; i++) {
        if (a->values[i] != b->values[i])
            return a->values[i] < b->values[i] ? -1 : 1;
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct row *left = a, *right = b;
    int order = rows_compare(left, right);

    if (order == 0 && left->batch != right->batch)
        return left->batch < right->batch ? -1 : 1;
    return order;
}

void rows_sort(struct rows *rows)
{
    if (rows->count > 0)
        qsort(rows->rows, rows->count, sizeof(*rows->rows), compare);
}

struct row row_parse(const char *line, int64_t batch)
{
    struct row row = {.batch = batch};
    int column = 0;
    char before = '|';

    for (; *line != '\0' && *line != '\n' && column < ROW_COLUMNS; line++) {
        if ((before == '|' || before == ':') &&
            (isdigit((unsigned char)*line) || (*line == '-' && isdigit((unsigned char)line[1])))) {
            char *end;

            row.values[column++] = strtoll(line, &end, 10);
            line = end - 1;
        }
        before = *line;
    }
    return row;
}

static void print(const struct row *row, char *text, size_t size)
{
    size_t used = 0;

    for (int i = 0; i < ROW_COLUMNS; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? "," : "",
                                 row->values[i]);
}

static bool contains(const struct rows *rows, const struct row *row)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (rows_compare(&rows->rows[i], row) == 0)
            return true;
    }
    return false;
}

void rows_check(struct world *world, const char *what, struct rows *have, struct rows *want)
{
    size_t i = 0, k = 0;
    char text[160];

    rows_sort(have);
    rows_sort(want);
    while (i < have->count || k < want->count) {
        int order = i == have->count   ? 1
                    : k == want->count ? -1
                                       : rows_compare(&have->rows[i], &want->rows[k]);

        if (order == 0) {
            i++;
            k++;
            continue;
        }
        if (order > 0) {
            print(&want->rows[k], text, sizeof(text));
            world_anomaly(world, "lost", "%s: (%s); %zu rows, %zu wanted", what, text, have->count,
                          want->count);
        } else {
            print(&have->rows[i], text, sizeof(text));
            world_anomaly(world, contains(want, &have->rows[i]) ? "duplicate" : "phantom",
                          "%s: (%s) of batch %" PRId64 "; %zu rows, %zu wanted", what, text,
                          have->rows[i].batch, have->count, want->count);
        }
        return;
    }
}
