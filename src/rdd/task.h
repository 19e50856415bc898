/* Between session.c, task.c and dataset.c: workers and scopes. */
#ifndef MR_RDD_TASK_H
#define MR_RDD_TASK_H

#include "rdd/rdd.h"

/* Ends the session's threads; jobs run on their own thread from then on. */
void mr__workers_stop(struct mr_session *session);

/* Around what needs a slot on this thread: an action, also one inside a task. */
struct mr__action {
    struct mr_session *session;
    struct mr__action *outer;
    unsigned slot;
    bool owns_slot;
};
void mr__action_enter(struct mr__action *action, struct mr_session *session);
void mr__action_leave(struct mr__action *action);
/* Of this thread; inside an action on that session. */
unsigned mr__action_slot(const struct mr_session *session);

/* Makes another scope (NULL: none) that of this thread; returns the one before. */
struct mr__scope *mr__scope_swap(struct mr__scope *scope);
/* Where a dataset that this thread makes belongs. */
struct mr__scope *mr__scope_of(struct mr_session *session);
void mr__scope_own(struct mr__scope *scope, struct mr_rdd *rdd);

#endif
