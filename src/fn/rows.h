/*
 * The iterator over the rows of a partition (mr_rows_next), for whoever calls functions that take
 * one: map_partitions, foreach_partition. Thread: its owner's.
 */
#ifndef MR_FN_ROWS_H
#define MR_FN_ROWS_H

#include <millrace/fn.h>

struct mr_rows {
    struct mr_batch *const *batches; /* borrowed */
    size_t batch_count;
    size_t batch; /* where the next row is */
    int64_t row;
};

#endif
