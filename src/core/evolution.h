/*
 * A query that was edited, compared with its checkpoint: what becomes of each source, each operator
 * with state and each sink (docs/evolution.md). Names are identity; text, position and binary are
 * not.
 *
 *     same        goes on as it is; the reason may say what is worth knowing
 *     extend      goes on; something begins with a default, or is dropped for good
 *     rebuild     its state is emptied and begins anew with the next batch
 *     impossible  no way to go on under this name
 *
 * Thread: any, one at a time.
 */
#ifndef MR_CORE_EVOLUTION_H
#define MR_CORE_EVOLUTION_H

#include "core/graph.h"

enum mr_on_change {
    /* As before there was a comparison: new sources, operators and sinks are fine; what would lose
     * or change state is refused, and nothing else is looked at (DStream programs). */
    MR_ON_CHANGE_KEEP,
    MR_ON_CHANGE_ASK,   /* whatever is not `same` is refused, unless it is accepted by name */
    MR_ON_CHANGE_ALLOW, /* everything but `impossible` is accepted */
};

enum mr_query_part { MR_PART_SOURCE, MR_PART_OPERATOR, MR_PART_SINK };

struct mr_evolution_item {
    enum mr_query_part part;
    const char *name;
    enum mr_change_class change;
    bool is_new;        /* the checkpoint does not know it */
    bool is_removed;    /* the query does not have it any more */
    bool is_accepted;   /* `same`, or somebody said so */
    const char *reason; /* a sentence or several, without the last full stop; "" = nothing to say */
};

struct mr_evolution;

/*
 * Compares offline: takes no lock, writes nothing, also beside a running query. The operators of
 * graph are opened on the way: it must not be run afterwards. accept: as mr_query_config.accept.
 * MR_NOT_FOUND: there is no checkpoint. *ret_evolution NULL: the checkpoint has nothing to compare
 * with yet.
 */
enum mr_status mr_evolution_compare(struct mr_env *env, struct mr_graph *graph,
                                    const char *checkpoint_dir, const char *accept,
                                    struct mr_evolution **ret_evolution, struct mr_error *err);
void mr_evolution_free(struct mr_evolution *evolution); /* NULL allowed */

/* In the order sources, operators, sinks; false past the end. Borrowed. */
bool mr_evolution_item(const struct mr_evolution *evolution, size_t index,
                       struct mr_evolution_item *ret_item);
/* The worst of all items. */
enum mr_change_class mr_evolution_class(const struct mr_evolution *evolution);
/* What to give as `accept` so that everything that is not accepted yet would be ("rebuild"); NULL
 * when there is nothing, or something is impossible. */
const char *mr_evolution_wants(const struct mr_evolution *evolution);
/* A table with one line an item; only those with something to say when `all` is false. */
void mr_evolution_print(const struct mr_evolution *evolution, bool all, struct mr_buf *out);
/* Is that a list of accept words? Else MR_USAGE. */
enum mr_status mr_evolution_check_accept(const char *accept, struct mr_error *err);

#endif
