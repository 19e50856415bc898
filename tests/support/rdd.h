/*
 * Rows as text, for tests of datasets: "a:1, b:2" with the columns "key VARCHAR, value BIGINT".
 * null is null, "" the empty text.
 */
#ifndef MR_TESTS_SUPPORT_RDD_H
#define MR_TESTS_SUPPORT_RDD_H

#include "support/test.h"

#include <millrace/rdd.h>

struct mr_batch *rdd_batch(const char *columns, const char *text); /* new */
/* "a:1, b:2"; in one of four buffers that take turns. */
const char *rdd_text(const struct mr_batch *batch);
/* Collects it; partitions: "[a:1, b:2] [] [c:3]". */
const char *rdd_rows(struct mr_rdd *rdd);
const char *rdd_sorted(struct mr_rdd *rdd); /* rows in the order of their texts */
const char *rdd_partitions(struct mr_rdd *rdd);

#endif
