/*
 * Ends of a graph for tests of the kernel: a source that follows a script, a sink that writes down
 * what it is given.
 *
 *     "1 2/3|-|/"     three batches: partitions (1, 2) and (3); no dataset; two empty partitions
 *
 * Rows are (k, 1) of the schema "k BIGINT, v BIGINT". The sink's notes have the same form, with the
 * batch's number in front and a bar behind: "0:1 2/3|2:/|". Batches past the script are empty and
 * have no partitions.
 */
#ifndef MR_TESTS_SUPPORT_SCRIPT_H
#define MR_TESTS_SUPPORT_SCRIPT_H

#include "core/query.h"
#include "env/thread.h"
#include "support/test.h"

enum { SCRIPT_NOTES_BYTES = 4096, SCRIPT_PARTS_MAX = 16 };

struct script_notes {
    char text[SCRIPT_NOTES_BYTES];
    bool is_concurrent;  /* set before the run: written to by the workers */
    enum mr_status fail; /* of the next publish; goes back to MR_OK */
    /* called in publish, before the notes are taken; NULL = nothing */
    enum mr_status (*on_publish)(void *arg, uint64_t batch_id, struct mr_error *err);
    void *arg;
    struct mr_mutex lock;
};
void script_notes_init(struct script_notes *notes, bool is_concurrent);

/* The limit that the newest plan of a script source had. */
extern int64_t script_plan_rate;
/* script lives as long as the graph. */
struct mr_node *script_source(struct mr_graph *graph, const char *name, const char *script);
void script_sink(struct mr_graph *graph, const char *name, struct script_notes *notes,
                 struct mr_node *const *inputs, size_t input_count);

/*
 * A receiver that takes in what the test hands it, at the moment at which it does: "1 2" are two
 * records. Queries of it have block_interval_us = 0, so that each call is one block.
 */
struct script_feed {
    struct mr_mutex lock;
    struct mr_cond changed;
    const char *pending;
    enum mr_status fail; /* of the run: with the next call; MR_OK = store it */
    bool is_interrupted;
    bool is_running;
    uint64_t runs;
};
void script_feed_init(struct script_feed *feed);
struct mr_node *script_feed_source(struct mr_graph *graph, const char *name,
                                   struct script_feed *feed);
/* Any thread but the receiver's, while the query runs; returns when it is stored. */
void script_feed_store(struct script_feed *feed, const char *values);
/* Ends this run of the receiver with a failure; returns when it has. */
void script_feed_break(struct script_feed *feed);

/* A simulation's environment with a wall clock of its own. Queries in it have no checkpoint. */
struct script_clock {
    struct mr_env env;
    struct mr_env *inner;
    int64_t wall_offset_us;
};
void script_clock_init(struct script_clock *clock, struct mr_env *inner);

#endif
