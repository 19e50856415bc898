/*
 * Rows of whole numbers: what goes into a simulated pipeline, what came out, what should have.
 */
#ifndef MR_TESTS_SIM_ROWS_H
#define MR_TESTS_SIM_ROWS_H

#include "sim/world.h"

enum { ROW_COLUMNS = 6 };

struct row {
    int64_t values[ROW_COLUMNS]; /* unused ones are 0 */
    int64_t batch;               /* output: the batch that brought it */
};

struct rows {
    struct row *rows;
    size_t count;
    size_t room;
};

void rows_add(struct rows *rows, const struct row *row);
void rows_clear(struct rows *rows);
void rows_release(struct rows *rows);
void rows_sort(struct rows *rows);                          /* by values, then batch */
int rows_compare(const struct row *a, const struct row *b); /* values only */
/* Numbers of a line "1|-2|3" or {"a":1,"b":-2,"c":3}. */
struct row row_parse(const char *line, int64_t batch);

/*
 * Both as multisets. An anomaly for the first that differs: lost (wanted and not there), duplicate
 * (there more often than wanted), phantom (never wanted).
 */
void rows_check(struct world *world, const char *what, struct rows *have, struct rows *want);

#endif
