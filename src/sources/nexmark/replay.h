/*
 * Events that are made once and shown again and again, with ids and times moved on: what an engine
 * does with them is measured without what making them costs.
 *
 * Thread: made by one; afterwards read-only, any.
 */
#ifndef MR_SOURCES_NEXMARK_REPLAY_H
#define MR_SOURCES_NEXMARK_REPLAY_H

#include "sources/nexmark/nexmark.h"

struct mr_nex_block;

/* The rows of a table among the events [0, events), which must be whole epochs. schema: the columns
 * wanted, fields: their numbers (as in mr_nex_append). Returns new. */
enum mr_status mr_nex_block_new(const struct mr_nex_model *model, enum mr_nex_table table,
                                int64_t events, const struct mr_schema *schema,
                                const uint32_t *fields, struct mr_nex_block **ret_block,
                                struct mr_error *err);
void mr_nex_block_free(struct mr_nex_block *block); /* NULL allowed */
/*
 * Appends rows of the endless repetition: at most `count` from row `from` on, all of one pass and
 * one piece of the block; *ret_count tells how many. Pass p has the ids of new people and auctions
 * and the times of the events p * events later, and everything else as in pass 0.
 */
enum mr_status mr_nex_block_append(const struct mr_nex_block *block, int64_t from, int64_t count,
                                   struct mr_batch_builder *builder, int64_t *ret_count,
                                   struct mr_error *err);

#endif
