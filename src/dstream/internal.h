/*
 * Inside of src/dstream: the structs behind <millrace/dstream.h>.
 *
 *   context.c  life cycle, threads stream.c building calls lower.c streams -> graph of the kernel
 *   main.c     mr_context_main, signals stateful.c windows, state settings.c names of Spark and
 *              ours
 *   fn.c       functions to evaluate emit.c results of C functions builtin.c native functions
 *   map_op.c   map, flat_map, filter reduce.c values of a key to one reduce_op.c, union_op.c,
 *              window_op.c,
 *   slices.c   batches kept in state      inverse_op.c, update_op.c  operators of the kernel
 *   input.c, queue.c, constant.c, file_*.c, kafka_direct.c  inputs
 *   print.c, files_out.c, rdd.c  outputs
 *
 * A program's calls make a graph of struct mr_dstream, which knows types and slides;
 * mr_context_start lowers what its outputs need to a graph of the kernel.
 *
 * Thread: building belongs to one thread; functions are evaluated by workers, each with a statement
 * of its own.
 */
#ifndef MR_DSTREAM_INTERNAL_H
#define MR_DSTREAM_INTERNAL_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "core/query.h"
#include "env/thread.h"
#include "fn/fn.h"
#include "ops/ops.h"

#include <millrace/dstream.h>

enum {
    MR_DSTREAM_WORKERS_MAX = MR_LIMIT_DSTREAM_WORKERS,
    MR_DSTREAM_STREAMS_MAX = MR_LIMIT_DSTREAM_STREAMS, /* below the kernel's limit of operators */
    MR_DSTREAM_SETTINGS_MAX = MR_LIMIT_DSTREAM_SETTINGS,
    MR_STATE_NAME_BYTES_MAX = MR_LIMIT_DSTREAM_STATE_NAME,
    MR_DSTREAM_PARTITIONS_MAX = MR_LIMIT_DSTREAM_PARTITIONS,
};

/* ---- batches kept in state (slices.c) ---- */

/* A store whose key is (batch time, chunk): what a window still needs of each batch. */
enum mr_status mr__slices_put(struct mr_store *store, int64_t time_us,
                              struct mr_batch *const *batches, size_t batch_count,
                              struct mr_error *err);
/* Batches with from_us < time <= to_us, oldest first, appended to list. */
enum mr_status mr__slices_get(const struct mr_store *store, const struct mr_schema *schema,
                              int64_t from_us, int64_t to_us, struct mr__batches *list,
                              struct mr_error *err);
/* Forgets times up to to_us. */
enum mr_status mr__slices_drop(struct mr_store *store, int64_t to_us, struct mr_error *err);

/* One value (one column of a row) as state bytes, and back. */
void mr__value_put(struct mr_buf *out, const struct mr_column *column, int64_t row);
enum mr_status mr__value_get(const char *value, size_t value_bytes,
                             struct mr_batch_builder *builder, uint32_t column,
                             struct mr_error *err);
enum mr_status mr__key_get(const char *key, size_t key_bytes, struct mr_batch_builder *builder,
                           uint32_t column, struct mr_error *err);
/* The two kinds of stores, opened under a name; their columns are kept with them and compared. */
enum mr_status mr__values_open(struct mr_state *state, const char *name, const char *kind,
                               const struct mr_schema *pairs, struct mr_store **ret_store,
                               struct mr_error *err);
enum mr_status mr__slices_open(struct mr_state *state, const char *name,
                               const struct mr_schema *schema, struct mr_store **ret_store,
                               struct mr_error *err);

/* ---- operators: made by lower.c, freed by the graph ---- */

struct mr_context;
/* is_flat: any number of results per element, else exactly one (filters are flat). */
enum mr_status mr__map_op(struct mr__function *function, bool is_flat, struct mr_map_op *ret_op,
                          struct mr_error *err);
/* Partial: in tasks. Then the fold over all tasks, behind an exchange (exchange.h). Neither keeps
 * anything between batches. */
enum mr_status mr__reduce_partial_op(struct mr__function *reduce, const struct mr_schema *pairs,
                                     struct mr_map_op *ret_op, struct mr_error *err);
enum mr_status mr__reduce_fold_op(struct mr__function *reduce, const struct mr_schema *pairs,
                                  uint32_t partition_count, struct mr_fold_op *ret_op,
                                  struct mr_error *err);
/* Merges the aggregate buffers of mr_op_aggregate_partial (schema partials) into pairs (output). */
enum mr_status mr__builtin_fold_op(const struct mr_aggregate_spec *spec,
                                   const struct mr_schema *partials, const struct mr_schema *output,
                                   uint32_t partition_count, struct mr_fold_op *ret_op,
                                   struct mr_error *err);

struct mr__window {
    struct mr_context *ctx; /* knows the zero time once the query is open */
    const char *name;       /* of the state; the stream's */
    int64_t size_us;
    int64_t slide_us;
    uint32_t partition_count; /* of the output of one with an inverse */
};
/* The first firing at or after a batch time. */
int64_t mr__next_firing(const struct mr_context *ctx, int64_t slide_us, int64_t time_us);
enum mr_status mr__window_op(const struct mr__window *window, const struct mr_schema *schema,
                             struct mr_fold_op *ret_op, struct mr_error *err);
enum mr_status mr__inverse_op(const struct mr__window *window, const struct mr_schema *pairs,
                              struct mr__function *reduce, struct mr__function *inverse,
                              struct mr__function *filter, struct mr_fold_op *ret_op,
                              struct mr_error *err);
/* What a window with an inverse knows of each key, and its filter (NULL = none). */
struct mr__window_values {
    struct mr_store *store;
    const struct mr_schema *pairs;
    struct mr__function *filter;
};
/* Emits every key of the shards [first, end) with its value; forgets what the filter drops. */
enum mr_status mr__window_emit(const struct mr__window_values *values, unsigned first_shard,
                               unsigned end_shard, struct mr_fold_call *call, struct mr_error *err);

#endif
