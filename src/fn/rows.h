/*
 * The iterator over the rows of a partition (mr_rows_next), for whoever calls functions that take
 * one: map_partitions, foreach_partition, functions with state of a key. Thread: its owner's.
 */
#ifndef MR_FN_ROWS_H
#define MR_FN_ROWS_H

#include <millrace/fn.h>

struct mr_rows {
    struct mr_batch *const *batches; /* borrowed */
    size_t batch_count;
    size_t batch; /* where the next row is */
    int64_t row;
    /* not NULL: gives the rows instead (the rows of one key, streams/groups_run.c) */
    bool (*next)(struct mr_rows *rows, struct mr_row *ret_row);
};

#endif
