/*
 * Rows of equal keys in one partition, for folds whose output has several (exchange.c says how).
 *
 *     lowering   mr__exchange_add on each input, with mr__partition_count(low, stream)
 *     running    run_partition(p): mr__exchange_pick, then the fold's own work
 */
#ifndef MR_DSTREAM_EXCHANGE_H
#define MR_DSTREAM_EXCHANGE_H

#include "dstream/streams.h"

struct mr__exchange {
    uint32_t partition_count;
    bool encoded; /* column 0 is key bytes (row_codec) already, as partial aggregates have them */
};

/* A map node <stream>.<part> that splits what input gives by its column 0; input itself when there
 * is one partition. */
enum mr_status mr__exchange_add(struct mr__lowering *low, const struct mr_dstream *stream,
                                const char *part, struct mr__exchange exchange,
                                struct mr_node *input, struct mr_node **ret_node,
                                struct mr_error *err);
/* The batches of a partition, appended. The input is that of a fold behind mr__exchange_add. */
enum mr_status mr__exchange_pick(const struct mr_fold_input *input, uint32_t partition,
                                 struct mr__exchange exchange, struct mr__batches *ret_batches,
                                 struct mr_error *err);

#endif
