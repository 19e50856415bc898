/*
 * The list of live state parts: which deltas and snapshots a load of the newest version may need.
 *
 * Kept by the batch log (for the heads of segments and for recovery) and by the state (for removing
 * files): both add the parts of every COMMIT and prune by the same rule, so both know the same
 * files.  Thread: the owner's.
 */
#ifndef MR_WAL_PART_LIST_H
#define MR_WAL_PART_LIST_H

#include "wal/batch_log.h"

struct mr_part_list {
    struct mr_state_part *parts; /* in the order in which they were made */
    uint32_t count;
    uint32_t capacity;
};

void mr_part_list_release(struct mr_part_list *list);
/* Makes room, so that the next `more` adds cannot fail. */
enum mr_status mr_part_list_reserve(struct mr_part_list *list, uint32_t more, struct mr_error *err);
/* Takes the part's memory (*part is zeroed). Room must have been reserved. */
void mr_part_list_add(struct mr_part_list *list, struct mr_state_part *part);
/* Copies everything but data. */
enum mr_status mr_state_part_copy(const struct mr_state_part *part, struct mr_state_part *ret_part,
                                  struct mr_error *err);
/*
 * Forgets, store by store, what no load needs: everything before the snapshot before the newest
 * one; and everything before the newest one when it is more than retain_batches older than
 * batch_id. dropped (may be NULL) sees each part that goes.
 */
void mr_part_list_prune(struct mr_part_list *list, uint64_t batch_id, uint32_t retain_batches,
                        void (*dropped)(const struct mr_state_part *part, void *arg), void *arg);

#endif
