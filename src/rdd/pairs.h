/*
 * Kernels over pairs (key, value): what group_by_key, the joins, cogroup, combine_by_key and the
 * shuffle of streams and of datasets run. Batches in, one batch out; they keep nothing.
 *
 *   keys     equal when their encoded bytes are (data/row_codec.h): null is a key, -0.0 is 0.0
 *   order    of the result: keys in the order of their encoded bytes; the values of a key in the
 *            order in which they came; a join gives, for each left value in its order, all right
 *            values in theirs. The same input in the same order gives the same bytes
 *   limits   2^31 rows in and out, MR_LIMIT above
 *   nothing  no rows in: a batch without rows of the output schema comes out, never NULL
 *
 * `pairs` are schemas with the columns key and value (mr__is_pairs). Thread: any.
 */
#ifndef MR_RDD_PAIRS_H
#define MR_RDD_PAIRS_H

#include "fn/fn.h"

/* One side: rows (key, value) in any number of batches. */
struct mr__pairs {
    struct mr_batch *const *batches;
    size_t batch_count;
    const struct mr_schema *schema;
};

enum mr__join_kind {
    MR__JOIN_INNER,
    MR__JOIN_LEFT,  /* right may be null */
    MR__JOIN_RIGHT, /* left may be null */
    MR__JOIN_FULL,
    MR__JOIN_COGROUP, /* one row a key; lists of both sides, empty for none */
};

/* MR_CONFIG: the input is not pairs. */
enum mr_status mr__needs_pairs_error(struct mr_error *err);
/* Build time: (key, value LIST). MR_CONFIG when the input is not pairs. Returns new. */
enum mr_status mr__grouped_schema(const struct mr_schema *pairs, struct mr_schema **ret_schema,
                                  struct mr_error *err);
/* Build time: (key, value STRUCT("left", "right")), lists in a cogroup. MR_CONFIG when the inputs
 * are not pairs or their keys differ in type. Returns new. */
enum mr_status mr__joined_schema(enum mr__join_kind kind, const struct mr_schema *left,
                                 const struct mr_schema *right, struct mr_schema **ret_schema,
                                 struct mr_error *err);

/* output: of mr__grouped_schema. Returns new. */
enum mr_status mr__group_by_key(struct mr__pairs pairs, const struct mr_schema *output,
                                struct mr_batch **ret_batch, struct mr_error *err);
/* output: of mr__joined_schema with the same kind. Returns new. */
enum mr_status mr__join(enum mr__join_kind kind, struct mr__pairs left, struct mr__pairs right,
                        const struct mr_schema *output, struct mr_batch **ret_batch,
                        struct mr_error *err);

/* ---- rows of any columns (rows.c) ---- */

/* The first of equal rows (in all columns), in the order of arrival. Returns new. */
enum mr_status mr__distinct_rows(struct mr_batch *const *batches, size_t batch_count,
                                 const struct mr_schema *schema, struct mr_batch **ret_batch,
                                 struct mr_error *err);

/*
 * The partition of each row: the hash of the encoded bytes of column `column` (the whole row when
 * it is MR__ALL_COLUMNS) modulo partition_count; a null goes to 0 (DS-14). ret_parts has
 * partition_count places, set to a new batch each, NULL for a part without rows; the order of rows
 * is kept.
 */
#define MR__ALL_COLUMNS UINT32_MAX
enum mr_status mr__split_by_key(const struct mr_batch *batch, uint32_t column,
                                uint32_t partition_count, struct mr_batch **ret_parts,
                                struct mr_error *err);

/* The same with the part of each row given; counts: rows of each part (overwritten). */
enum mr_status mr__split_rows(const struct mr_batch *batch, const uint32_t *parts, uint32_t *counts,
                              uint32_t partition_count, struct mr_batch **ret_parts,
                              struct mr_error *err);

/* ---- combine_by_key (combine.c) ---- */

/*
 * combine_by_key. combine: values of a partition to one combiner a key (create, then merge_value in
 * the order of the values); merge: combiners of a key to one (merge_combiners), also over the
 * results of several combine calls.
 */
struct mr__combiner {
    struct mr__function *create;      /* value -> combiner */
    struct mr__function *merge_value; /* (combiner, value) -> combiner */
    struct mr__function *merge;       /* two combiners -> one */
    struct mr_schema *output;         /* (key, combiner as `value`) */
};
/* Compiles all three. Free with mr__combiner_free, which frees the functions. */
enum mr_status mr__combiner_new(struct mr__engines *engines, const struct mr_fn *create,
                                const struct mr_fn *merge_value,
                                const struct mr_fn *merge_combiners, const struct mr_schema *pairs,
                                struct mr__combiner *ret_combiner, struct mr_error *err);
void mr__combiner_free(struct mr__combiner *combiner);
enum mr_status mr__combine_values(const struct mr__combiner *combiner, struct mr__when when,
                                  struct mr__pairs pairs, struct mr_batch **ret_batch,
                                  struct mr_error *err);
/* pairs: of combiner->output. */
enum mr_status mr__combine_merge(const struct mr__combiner *combiner, struct mr__when when,
                                 struct mr__pairs pairs, struct mr_batch **ret_batch,
                                 struct mr_error *err);

#endif
