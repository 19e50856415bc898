/*
 * Between the files of the comparison of a query with its checkpoint (evolution.h):
 *
 *     evolution.c            the course of it, at a start and offline
 *     evolution_list.c       the list that comes of it: items, sentences, what is accepted
 *     evolution_ends.c       sources and sinks
 *     evolution_operators.c  operators by opening them, and stores that nobody asked for
 *
 * Thread: driver.
 */
#ifndef MR_CORE_EVOLUTION_PARTS_H
#define MR_CORE_EVOLUTION_PARTS_H

#include "core/evolution.h"

#include "core/manifest.h"

#include <string.h>

struct mr__evolution_entry {
    struct mr_evolution_item public;
    struct mr_buf reason;
};

struct mr_evolution {
    struct mr__evolution_entry *items;
    size_t count, capacity;
    struct mr_buf wants;
};

struct mr__comparison {
    const struct mr__comparing *in;
    struct mr__manifest manifest;
    struct mr_evolution *evolution;
    /* the operator that is being opened */
    struct mr_node *node;
    const struct mr_json *old;
    bool forced;     /* its meaning is another: every store of it is emptied */
    bool had_stores; /* the checkpoint had one of its stores */
    size_t opened;   /* index of its item: items may move */
};

static inline bool mr__same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* ---- evolution_list.c ---- */

enum mr_status mr__evolution_no_memory(struct mr_error *err);
/* Lent until the next call. */
enum mr_status mr__evolution_add(struct mr__comparison *c, enum mr_query_part part,
                                 const char *name, struct mr__evolution_entry **ret_item,
                                 struct mr_error *err);
struct mr__evolution_entry *mr__evolution_find(struct mr__comparison *c, enum mr_query_part part,
                                               const char *name);
/* One more sentence, and the worse of the classes. */
MR_PRINTF(3, 4)
void mr__evolution_say(struct mr__evolution_entry *item, enum mr_change_class change,
                       const char *format, ...);
bool mr__evolution_may_go_on(const struct mr__comparison *c, const struct mr_evolution_item *item);
/* Settles what of it is accepted, and with which words the rest would be. */
enum mr_status mr__evolution_settle(struct mr__comparison *c, struct mr_error *err);
/* The first things that stand in the way; the whole list is the caller's to print. */
enum mr_status mr__evolution_refuse(const struct mr__comparison *c, struct mr_error *err);

/* ---- evolution_ends.c ---- */

/* What the manifest would say of a node now, parsed; the arena is the comparison's. */
enum mr_status mr__evolution_parse_now(struct mr__comparison *c, const struct mr_node *node,
                                       struct mr_json **ret_now, struct mr_error *err);
enum mr_status mr__evolution_sources(struct mr__comparison *c, struct mr_error *err);
enum mr_status mr__evolution_sinks(struct mr__comparison *c, struct mr_error *err);

/* ---- evolution_operators.c ---- */

/* The state asks what becomes of a store of the operator that is being opened. */
enum mr_status mr__evolution_judge(void *arg, const struct mr_store_change *change,
                                   struct mr_store_adaption *ret_adaption, struct mr_error *err);
/* Opens every operator with state, and the stores of sources that remember. */
enum mr_status mr__evolution_operators(struct mr__comparison *c, struct mr_error *err);
enum mr_status mr__evolution_unclaimed(struct mr__comparison *c, struct mr_error *err);

#endif
