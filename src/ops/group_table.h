/*
 * A group table numbers the distinct keys of the rows it sees: 0, 1, 2 ... in order of first
 * appearance.
 *
 *     rows --column 0--> prefix numbers --column 1--> prefix numbers --...--> group numbers
 *
 * Every key column has one level: a hash table from (number of the prefix, value) to a number. So
 * each type needs one kernel, and a key of several columns (window start, city) is found without
 * making its bytes. Key bytes are made once a group, at the end. Thread: its owner.
 */
#ifndef MR_OPS_GROUP_TABLE_H
#define MR_OPS_GROUP_TABLE_H

#include "base/buf.h"
#include "ops/ordinal.h"

struct mr_group_table;

/* Key columns by index into batches of that schema; without any there is one group. Returns new. */
enum mr_status mr_group_table_new(const struct mr_schema *schema, const uint32_t *columns,
                                  uint32_t column_count, struct mr_group_table **ret_table,
                                  struct mr_error *err);
void mr_group_table_free(struct mr_group_table *table); /* NULL allowed */

/*
 * Numbers of the rows [from, from + count), at most MR_CHUNK_ROWS of them. MR_NOMEM, or MR_LIMIT
 * past 2^31 groups; the table must be cleared then.
 */
enum mr_status mr_group_table_find(struct mr_group_table *table, const struct mr_batch *batch,
                                   int64_t from, uint32_t count, uint32_t *ret_groups,
                                   struct mr_error *err);
uint32_t mr_group_table_count(const struct mr_group_table *table);

/* Appends the row_codec key of a group. */
void mr_group_table_encode_key(const struct mr_group_table *table, uint32_t group,
                               struct mr_buf *out);

/* Forgets all groups. Keeps memory for the next use, unless it is a lot and was hardly used. Costs
 * time by groups, not by memory. */
void mr_group_table_clear(struct mr_group_table *table);

#endif
