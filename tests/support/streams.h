/*
 * Programs of the C API (<millrace/sql.h>) in tests: a session, tables in memory as sources, rows
 * as text.
 *
 *     struct st *s = st_new(t);
 *     struct mr_frame *in = st_source(s, "a", "value BIGINT");
 *     st_rows(s, "a", "(1), (2)");
 *     query = st_start(s, writer);
 *     st_drain(query);
 *     CHECK_EQ_STR(st_select(s, "SELECT * FROM out"), "1\n2\n");
 *
 * Sources outlive sessions: st_again begins a new one, as another process would.
 *
 * Thread: the test's.
 */
#ifndef MR_TESTS_SUPPORT_STREAMS_H
#define MR_TESTS_SUPPORT_STREAMS_H

#include "streams/streams.h"
#include "support/test.h"

struct st;

struct st *st_new(struct test *t);
void st_free(struct st *s);
struct mr_streams *st_session(struct st *s);
void st_again(struct st *s); /* frees the session, makes another */

/* A reader of a table in memory, loaded and named as a view; what was added to it stays. */
struct mr_frame *st_source(struct st *s, const char *name, const char *columns);
/* The reader alone, to give it more options. */
struct mr_stream_reader *st_reader(struct st *s, const char *name, const char *columns);
/* Adds a step of rows: a VALUES list; "" = a step without rows. */
void st_rows(struct st *s, const char *name, const char *values);
void st_end(struct st *s, const char *name); /* no more rows will come */

/* A directory of the test's. */
const char *st_path(struct st *s, const char *name);
struct mr_streaming_query *st_start(struct mr_stream_writer *writer); /* must succeed */
/* process_all_available, which must succeed. */
void st_drain(struct mr_streaming_query *query);
/* Stops and forgets it. */
void st_stop(struct mr_streaming_query *query);
/* Rows of a SELECT over memory sinks, sorted, columns with '|'; lives until the next call. */
const char *st_select(struct st *s, const char *sql);
/* Rows of a batch, one a line, in order; freed with mr_text_free. */
char *st_print(const struct mr_batch *batch);
/* A name for a memory sink that no other test has. */
const char *st_name(struct st *s, const char *name);

#endif
