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

/* script lives as long as the graph. */
struct mr_node *script_source(struct mr_graph *graph, const char *name, const char *script);
void script_sink(struct mr_graph *graph, const char *name, struct script_notes *notes,
                 struct mr_node *const *inputs, size_t input_count);

#endif
