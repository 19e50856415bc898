/*
 * DStream programs on the simulated disk and clock: input and output as text, one batch after the
 * other.
 *
 *     struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
 *     ds_input(d, "a:1, a:3 | b:2");                        one batch each
 *     ds_begin(d, MR_SECONDS(1), NULL);                      a context; NULL = no checkpoint
 *     ds_collect(d, mr_reduce_by_key(ds_stream(d), MR_SUM));
 *     ds_run(d, 2);
 *     CHECK_EQ_STR(ds_output(d), "a:4 | b:2");
 *
 * Elements are separated by ',', columns by ':', batches by '|'; "" is the empty text. A batch that
 * is the word `null` has no dataset. Batches whose stream does not fire are left out of the output.
 */
#ifndef MR_TESTS_SUPPORT_DSTREAM_H
#define MR_TESTS_SUPPORT_DSTREAM_H

#include "dstream/streams.h"
#include "support/test.h"

struct ds;

struct ds *ds_new(struct test *t, const char *columns); /* freed by ds_free */
void ds_free(struct ds *d);

/* Every batch of the input comes in that many partitions, of n elements partition i those from
 * floor(n i / partitions) on. Before the first ds_input; 1 when not called. */
void ds_partitions(struct ds *d, unsigned partitions);
/* Adds batches to the input, which outlives contexts. */
void ds_input(struct ds *d, const char *text);

/* A new context on the simulated clock; checkpoint is a directory of the simulated disk. */
struct mr_context *ds_begin(struct ds *d, int64_t interval_ms, const char *checkpoint);
struct mr_dstream *ds_stream(struct ds *d); /* the input, a batch of it per batch */
/* The input of another as a second stream of this one's context. */
struct mr_dstream *ds_stream_of(struct ds *d, struct ds *input);
void ds_collect(struct ds *d, struct mr_dstream *stream);
/* From now on the output shows partitions: "[1,2] [] [3] | [4] [] []". */
void ds_show_partitions(struct ds *d);

/* The next run ends with an error at this point of the batch with that number (core/query.h). */
void ds_fail_at(struct ds *d, const char *point, uint64_t batch_id);
/* Runs that many batches, frees the context; a failure is returned. */
enum mr_status ds_run(struct ds *d, uint64_t batches, struct mr_error *err);
/* The same, and must succeed. */
void ds_must_run(struct ds *d, uint64_t batches);

/*
 * What was collected, in the order of batch times; a batch that ran again must have given the same.
 * sorted: the elements of each batch in the order of their texts, so that sets compare.
 */
const char *ds_output(struct ds *d, bool sorted);
/* The same form of a text, with the same spaces. */
const char *ds_tidy(struct ds *d, const char *text, bool sorted);
void ds_forget_output(struct ds *d);
struct mr_sim *ds_sim(struct ds *d);
struct mr_context *ds_context(struct ds *d); /* between ds_begin and ds_run */

/* A row of tests/flow/vectors_dstream.inc. */
struct ds_vector {
    const char *id;
    const char *operation; /* for the reader */
    const char *columns;
    const char *input;
    const char *expected;
    bool ordered;
};
const struct ds_vector *ds_vector(const char *id);

#endif
