/*
 * Shuffles: every partition of an input cut into parts, and a partition of the result made of the
 * parts with its number. Between shuffle.c and keyed.c.
 */
#ifndef MR_RDD_SHUFFLE_H
#define MR_RDD_SHUFFLE_H

#include "rdd/rdd.h"

struct mr__shuffled_ops {
    /* Rows of a partition of an input before they are cut (map-side combine); NULL: as they are. */
    enum mr_status (*before)(struct mr_rdd *rdd, struct mr__task *task,
                             const struct mr__batches *rows, struct mr__batches *ret_rows,
                             struct mr_error *err);
    /* Rows of a partition of the result, of each input's parts; in the order of the input's
     * partitions. NULL: as they are. */
    enum mr_status (*after)(struct mr_rdd *rdd, struct mr__task *task,
                            const struct mr__batches *sides, struct mr__batches *ret_rows,
                            struct mr_error *err);
    uint32_t column;     /* whose hash says the part, or MR__ALL_COLUMNS */
    bool is_round_robin; /* rows in turn instead, from a start that depends on the partition */
    void (*free)(void *extra);
};

/* Makes rdd->own, for a kind with the three functions below. extra: for before and after, taken. */
enum mr_status mr__shuffled_init(struct mr_rdd *rdd, const struct mr__shuffled_ops *ops,
                                 void *extra, struct mr_error *err);
void *mr__shuffled_extra(const struct mr_rdd *rdd);
enum mr_status mr__shuffled_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                    struct mr__batches *ret_rows, struct mr_error *err);
enum mr_status mr__shuffled_prepare(struct mr_rdd *rdd, struct mr_error *err);
bool mr__shuffled_is_prepared(struct mr_rdd *rdd);
void mr__shuffled_free(struct mr_rdd *rdd);

#define MR__SHUFFLED_KIND(text)                                                                    \
    {                                                                                              \
        .name = (text), .compute = mr__shuffled_compute, .prepare = mr__shuffled_prepare,          \
        .is_prepared = mr__shuffled_is_prepared, .free = mr__shuffled_free                         \
    }

/* Partitions of a result by default: as many as the larger input, at least one. */
uint32_t mr__shuffled_partitions(const struct mr_rdd *rdd);

#endif
