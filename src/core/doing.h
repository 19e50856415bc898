/*
 * What a query is doing at this moment, for the day on which it does it for too long.
 *
 * Operators, sources, sinks and functions of the program say when they begin and end. One thread of
 * the process looks at the batches that run: past `slow_batch` it warns, naming the batch, what it
 * is in and for how long; past `batch_timeout`, or when a stop has waited twice its time, it ends
 * the process (mr_doing_set_end), or the batch as soon as what hangs comes back.
 */
#ifndef MR_CORE_DOING_H
#define MR_CORE_DOING_H

#include "env/thread.h"

#include <millrace/error.h>
#include <millrace/ext/env.h>

#include <stdatomic.h>
#include <stddef.h>

struct mr_doings;

/* One thing that is being done; on the stack of the thread that does it. */
struct mr_doing {
    struct mr_doings *of; /* NULL: nobody watches */
    const char *kind;     /* "operator", "function", ... */
    const char *name;     /* lives as long as it is being done */
    int64_t since_ns;
    struct mr_doing *outer; /* in which it is done */
    struct mr_doing *before, *next;
    bool has_inner;
};

/* of NULL: of the query that the thread works for, if any. Thread: any; the same for both. */
void mr_doing_begin(struct mr_doing *doing, struct mr_doings *of, const char *kind,
                    const char *name);
void mr_doing_end(struct mr_doing *doing);
/* What this thread is in becomes `doing`; returns what it was in. For who runs several threads of
 * the product on one (tests/sim/fibers.c). */
struct mr_doing *mr_doing_swap(struct mr_doing *doing);

/* The batches of one query. */
struct mr_doings {
    struct mr_env *env; /* its clock */
    const char *query_name;
    int64_t slow_us;    /* 0 = no warning */
    int64_t timeout_us; /* 0 = none */
    int64_t stop_us;    /* how long a stop may take; 0 = for ever */
    _Atomic int64_t *stop_deadline_ns;
    _Atomic int64_t since_ns; /* since when a batch runs; 0 = none does */
    _Atomic uint64_t batch_id;
    _Atomic bool overdue; /* past timeout_us, and the process goes on */
    struct mr_mutex lock; /* guards first and what hangs on it */
    struct mr_doing *first;
    /* The watcher's. */
    int64_t seen_since_ns, told_ns;
    bool open;
    struct mr_doings *next;
};
void mr_doings_init(struct mr_doings *doings);
void mr_doings_release(struct mr_doings *doings);
/* From here on somebody looks; without a thread for it nobody does. Thread: driver. */
void mr_doings_open(struct mr_doings *doings);
void mr_doings_close(struct mr_doings *doings);
/* Thread: driver. */
void mr_doings_batch_begin(struct mr_doings *doings, uint64_t batch_id);
void mr_doings_batch_end(struct mr_doings *doings);
/* A stop was asked for: its time is looked at. Thread: any. */
void mr_doings_stop_asked(void);

struct mr_doing_now {
    uint64_t batch_id;
    int64_t batch_us; /* for how long the batch runs */
    char what[256];   /* "function 'f' in operator 'map'"; "" = between things */
    int64_t what_us;  /* for how long it does that */
};
/* False: no batch runs. Thread: any. */
bool mr_doings_now(struct mr_doings *doings, struct mr_doing_now *ret_now);

/*
 * For a program that is all ours: called, once, when a batch has to end and does not. It prints the
 * text and ends the process with the code. NULL: the library must not end it. Thread: before any
 * query runs.
 */
typedef void (*mr_doing_end_fn)(const char *query_name, const char *text, int code);
void mr_doing_set_end(mr_doing_end_fn end);

#endif
