/*
 * The list of live state parts; see part_list.h.
 *
 * The life of one store's parts, d = delta, S = snapshot, oldest left (a batch that makes both has
 * its delta first):
 *
 *     d d d d d S d d d          the deltas before the first snapshot are the way round it
 *     d d d d d S d d d d S d    what is before the first one goes at the next prune
 *               S d d d d S d
 *                         S d d d d d ...      it has left retention: the first goes too
 *
 * Called by batch_log.c (each COMMIT), batch_log_recover.c (replay) and state.c.  The rule depends
 * only on the parts and the batch, so every reader comes to the same list.  Threads: the owner's.
 */
#include "wal/part_list.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <string.h>

#include "base/banned.h"

void mr_state_part_release(struct mr_state_part *part)
{
    mr_free(part->store);
    mr_free(part->file);
    mr_free(part->data);
    *part = (struct mr_state_part){0};
}

void mr_part_list_release(struct mr_part_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        mr_state_part_release(&list->parts[i]);
    mr_free(list->parts);
    *list = (struct mr_part_list){0};
}

enum mr_status mr_part_list_reserve(struct mr_part_list *list, uint32_t more, struct mr_error *err)
{
    uint32_t capacity = MR_MAX(list->capacity * 2, MR_MAX(list->count + more, 8u));
    struct mr_state_part *grown;

    if (list->count + more <= list->capacity)
        return MR_OK;
    grown = mr_realloc(NULL, list->parts, capacity * sizeof(*grown));
    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot remember state parts: out of memory");
    list->parts = grown;
    list->capacity = capacity;
    return MR_OK;
}

void mr_part_list_add(struct mr_part_list *list, struct mr_state_part *part)
{
    MR_ASSERT(list->count < list->capacity);
    MR_ASSERT(part->store != NULL && part->in_log == (part->file == NULL));
    list->parts[list->count++] = *part;
    *part = (struct mr_state_part){0};
}

enum mr_status mr_state_part_copy(const struct mr_state_part *part, struct mr_state_part *ret_part,
                                  struct mr_error *err)
{
    struct mr_state_part copy = *part;

    copy.data = NULL;
    copy.store = mr_strdup(part->store);
    copy.file = part->file != NULL ? mr_strdup(part->file) : NULL;
    if (copy.store == NULL || (part->file != NULL && copy.file == NULL)) {
        mr_state_part_release(&copy);
        return MR_FAIL(err, MR_NOMEM, "cannot remember state parts: out of memory");
    }
    *ret_part = copy;
    return MR_OK;
}

/*
 * True when nothing of its store before snapshot k is needed: it is the newest but one, or it is
 * old enough to be trusted.
 */
static bool cuts(const struct mr_part_list *list, uint32_t k, uint64_t batch_id,
                 uint32_t retain_batches)
{
    const struct mr_state_part *snapshot = &list->parts[k];

    if (batch_id > snapshot->version &&
        (batch_id - snapshot->version > retain_batches || MR_MUTANT("part-list.cuts.retain")))
        return true;
    for (uint32_t i = k + 1; i < list->count; i++) {
        if (list->parts[i].is_snapshot && list->parts[i].store != NULL &&
            strcmp(list->parts[i].store, snapshot->store) == 0)
            return true;
    }
    return false;
}

void mr_part_list_prune(struct mr_part_list *list, uint64_t batch_id, uint32_t retain_batches,
                        void (*dropped)(const struct mr_state_part *part, void *arg), void *arg)
{
    uint32_t kept = 0;
    bool any = false;

    /* Backwards, so that a part is released once: those without a store name are gone already. */
    for (uint32_t k = list->count; k-- > 0;) {
        if (!list->parts[k].is_snapshot || list->parts[k].store == NULL ||
            !cuts(list, k, batch_id, retain_batches))
            continue;
        for (uint32_t i = 0; i < k; i++) {
            if (list->parts[i].store == NULL ||
                strcmp(list->parts[i].store, list->parts[k].store) != 0)
                continue;
            if (dropped != NULL)
                dropped(&list->parts[i], arg);
            mr_state_part_release(&list->parts[i]);
            any = true;
        }
    }
    for (uint32_t i = 0; any && i < list->count; i++) {
        struct mr_state_part part = list->parts[i];

        list->parts[i] = (struct mr_state_part){0};
        if (part.store != NULL)
            list->parts[kept++] = part;
    }
    if (any)
        list->count = kept;
}
