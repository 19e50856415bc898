/*
 * Random queries over two streams and a static table, as text for millrace and, for the oracle, as
 * text for DuckDB over the whole input.
 *
 *     left   (n BIGINT, k VARCHAR, i BIGINT, s VARCHAR, ts TIMESTAMP)   watermark: ts - 30 s
 *     right  (n BIGINT, k VARCHAR, j BIGINT, ts TIMESTAMP)              watermark: ts - 30 s
 *     names  (k VARCHAR, title VARCHAR)                                 static
 *
 * Rows of streams come within 30 s of each other's order, so none is late; the last row of each has
 * the key 'flush' and a time long after all others, which closes every window, and both queries
 * leave it out of their results.
 *
 * The grammar: expressions of bounded depth over the columns at hand; FROM a stream, with or
 * without the static table, or a join of both with bounds of time; on top of it nothing, DISTINCT,
 * GROUP BY expressions, windows or sessions, aggregates with FILTER and DISTINCT, grouping sets,
 * HAVING; UNION ALL.
 *
 * Thread: the test's.
 */
#ifndef MR_TESTS_SUPPORT_SQL_RANDOM_H
#define MR_TESTS_SUPPORT_SQL_RANDOM_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum random_shape {
    RANDOM_STATELESS,
    RANDOM_STATIC_JOIN,
    RANDOM_UPDATE,
    RANDOM_COMPLETE,
    RANDOM_SETS,
    RANDOM_WINDOW,
    RANDOM_SESSION,
    RANDOM_DISTINCT,
    RANDOM_JOIN,
    RANDOM_OUTER_JOIN,
    RANDOM_JOIN_WINDOW,
    RANDOM_CHAIN,
    RANDOM_SHAPES
};

struct random_query {
    enum random_shape shape;
    const char *mode;     /* output mode */
    uint32_t key_columns; /* update: the first so many columns identify a row */
    struct mr_buf stream; /* the SELECT for millrace */
    struct mr_buf oracle; /* the SELECT for DuckDB */
};

uint64_t random_next(uint64_t *state);
/* A number below limit. */
uint32_t random_below(uint64_t *state, uint32_t limit);
/* Releases nothing: both texts must be empty or the ones of an earlier query. */
void random_query_make(struct random_query *query, uint64_t seed);
void random_query_release(struct random_query *query);
/* VALUES of rows [from, from + count) of a stream, numbered so. */
void random_rows(struct mr_buf *out, bool right, uint64_t *state, int from, int count);
/* The row that closes everything. */
void random_flush_row(struct mr_buf *out, bool right, int number);

#endif
