/*
 * Inside of the C API of the SQL side (<millrace/sql.h>).
 *
 *   session.c   sessions, settings, the manager     script.c        frames to a script and back
 *   frame.c     readers and frames                  start.c         from a writer to a query
 *   writer.c    writers                             query.c         the handle
 *   events.c    listeners                           watermark.c     withWatermark as an operator
 *   foreach.c   sinks that call functions           rows.c          SQL over memory sinks
 *   main.c      the last line of a program            functions.c     functions for SQL
 *   groups_frame.c, groups_plan.c                       functions with state (groups.h)
 *
 * Building (frames, readers, writers) is one thread's at a time and belongs to the session's arena.
 * Locks, in this order: registry (start.c), session->lock, query->lock; none is held while a
 * function of the program runs, except `started` of listeners, under session->event_lock.
 */
#ifndef MR_STREAMS_STREAMS_H
#define MR_STREAMS_STREAMS_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "core/query.h"
#include "env/thread.h"
#include "sql/plan.h"

#include <millrace/sql.h>

#include <stdatomic.h>

/* ---- frames (frame.c) ---- */

struct mr__place {
    const char *file; /* as __FILE__ gave it; borrowed */
    int line;
    const char *call; /* "mr_read_load" */
};

/* Pairs in the order given; a key that comes again (by case-less spelling) replaces. */
struct mr__options {
    struct mr_option_pair *items;
    size_t count;
    size_t capacity;
};

/* A piece of a SELECT that a frame is. */
enum mr__part_kind {
    MR__PART_FIXED, /* ours */
    MR__PART_USER,  /* the program's text: errors have places in it */
    MR__PART_NAME,  /* the name of an input */
};
struct mr__part {
    enum mr__part_kind kind;
    const char *text;
    uint32_t input;
};

enum mr__frame_kind { MR__FRAME_SOURCE, MR__FRAME_SQL, MR__FRAME_PROGRAM };

/* A view that is an operator: adds nodes behind input (sql/internal.h). */
typedef enum mr_status (*mr__plan_fn)(void *arg, struct mr_sql_planner *planner,
                                      const struct mr_sql_rel *input, struct mr_sql_rel *ret_rel);

enum { MR__PARTS_MAX = 8 };

struct mr_frame {
    struct mr_streams *streams;
    struct mr_frame *next; /* of the session */
    enum mr__frame_kind kind;
    struct mr__place place;
    struct mr_error error; /* the first mistake; MR_OK: none */
    const char *name;      /* its first view; NULL: none */
    struct mr_frame **inputs;
    uint32_t input_count;
    /* SOURCE */
    const char *format;
    const char *columns; /* NULL: the connector's */
    struct mr__options options;
    const struct mr_source_connector *bound; /* instead of what the options say; NULL: none */
    void *bound_user;
    /* SQL */
    struct mr__part parts[MR__PARTS_MAX];
    size_t part_count;
    /* PROGRAM */
    mr__plan_fn plan;
    void *plan_arg;
    void (*plan_free)(void *arg);
    /* While a script is made (script.c). */
    uint64_t script_number;
    const char *script_name;
    uint32_t script_readers; /* frames that stand on it */
    /* the watermark frame behind a table that is written as the table's own; NULL: none */
    struct mr_frame *script_watermark;
    bool script_folded; /* this is that frame: a view of the table */
};

/*
 * A frame that is an operator of the program behind input. name: identity of what it keeps; NULL:
 * numbered. free (may be NULL) releases arg with the session, also when the call fails. plan is
 * called when a query is planned, on the thread that starts it; its errors get the place in front.
 * NULL: input was NULL, or no memory (arg is freed).
 */
struct mr_frame *mr__frame_program(struct mr_frame *input, const char *name, mr__plan_fn plan,
                                   void *arg, void (*free)(void *arg),
                                   const struct mr__place *place);
/* The mistake sticks to the frame, with its place; returns frame. */
struct mr_frame *mr__frame_blame(struct mr_frame *frame, const struct mr__place *place,
                                 const struct mr_error *err);
/* A frame that reads an object of the caller's instead of what its options say (tests). */
void mr__frame_bind(struct mr_frame *frame, const struct mr_source_connector *source, void *user);
/* Is it a watermark (watermark.c)? Its column and delay. */
bool mr__watermark_of(const struct mr_frame *frame, const char **ret_column, int64_t *ret_delay_us);
struct mr_frame *mr__view_find(struct mr_streams *streams, const char *name); /* NULL: none */

/* Puts "file.c:12: mr_read_load: " in front of an error's text. */
void mr__blame_place(struct mr_error *err, const struct mr__place *place);
bool mr__options_set(struct mr_streams *streams, struct mr__options *pairs, const char *key,
                     const char *value); /* false: no memory */
const char *mr__options_get(const struct mr__options *pairs, const char *key);
const char *mr__keep(struct mr_streams *streams, const char *text); /* copy in the arena, or NULL */

/* ---- sessions (session.c) ---- */

enum {
    MR__VIEWS_MAX = MR_LIMIT_FRAME_VIEWS,
    MR__LISTENERS_MAX = MR_LIMIT_QUERY_LISTENERS,
    MR__EVENTS_MAX = MR_LIMIT_QUERY_EVENTS
};

struct mr__named_frame {
    const char *name;
    struct mr_frame *frame;
};

/* A function of the program that SQL may call; see struct mr_sql_functions. */
struct mr__function_entry {
    struct mr_sql_functions functions;
    void (*free)(void *arg);
    struct mr__function_entry *next;
};

struct mr__bell; /* events.c */

struct mr_streams {
    struct mr_env *env;
    /* Building: one thread. */
    struct mr_arena arena;
    struct mr_error error; /* of settings */
    struct mr__options settings;
    struct mr_frame *frames;
    struct mr__named_frame *views;
    size_t view_count;
    size_t view_capacity;
    uint64_t script_count;
    struct mr__function_entry *functions;
    const char *checkpoint_root;
    bool stop_active_run;
    size_t recent_max;
    int64_t idle_progress_us;

    struct mr__bell *bell;

    struct mr_mutex lock; /* guards what follows */
    struct mr_cond changed;
    struct mr_streaming_query **queries; /* started and not yet reaped; references */
    size_t query_count;
    size_t query_capacity;
    bool any_terminated; /* since the last reset */
    struct mr_error last_failure;
    struct mr_session *session; /* of foreachBatch and mr_streams_rows; made when needed */
    struct mr__memory_sink *memory_sinks;
};

/* The name of a memory sink that a query of the session writes. */
struct mr__memory_sink {
    char *name;
    struct mr__memory_sink *next;
};

/* For tests, before anything else is done with it. */
void mr__streams_use(struct mr_streams *streams, struct mr_env *env);
/* Are these two spellings of one setting (SET)? */
bool mr__same_setting(const struct mr_option_pair *a, const struct mr_option_pair *b);
/* Adds functions to the DuckDB instances of queries that are started from now on. Takes arg. */
enum mr_status mr__streams_add_functions(struct mr_streams *streams,
                                         const struct mr_sql_functions *functions,
                                         void (*free)(void *arg), struct mr_error *err);
enum mr_status mr__streams_session(struct mr_streams *streams, struct mr_session **ret_session,
                                   struct mr_error *err);
/* A query has ended: it and the manager say so at the same time. */
void mr__streams_ended(struct mr_streams *streams, struct mr_streaming_query *query,
                       const struct mr_error *failure);
/* Joins the threads of queries that have ended. all: waits for every one. */
void mr__streams_reap(struct mr_streams *streams, bool all);

/* ---- writers (writer.c) ---- */

enum mr__writer_kind { MR__WRITE_CONNECTOR, MR__WRITE_FOREACH, MR__WRITE_FOREACH_BATCH };

struct mr_stream_writer {
    struct mr_streams *streams;
    struct mr_frame *frame;
    struct mr_error error;
    enum mr__writer_kind kind;
    const char *format; /* NULL: not given */
    const char *mode;
    const char *trigger;
    const char *name;
    const char *checkpoint;
    struct mr__options options;
    struct mr_foreach_writer foreach;
    mr_foreach_batch_fn batch_fn;
    void *batch_arg;
};

/* ---- scripts (script.c) ---- */

struct mr__piece; /* which part of the script is whose */

/* What mr_sql_plan gets of a frame; everything lives until release. */
struct mr__script {
    struct mr_buf text;
    struct mr_buf pieces; /* struct mr__piece... */
    struct mr_sql_script *parsed;
    struct mr_arena arena;
    struct mr_sql_binding *bindings;
    size_t binding_count;
    struct mr_sql_program_view *views;
    size_t view_count;
    bool is_blamed;           /* an operator of the program failed and put its place in front */
    struct mr_frame **frames; /* in the order in which they were written */
    size_t frame_count;
    struct mr__place place; /* of the start */
    const char *sink;       /* name of the table that is written */
    uint64_t number;
    struct mr_sql_functions functions;
};
/* The writer's frame and sink as a script; writer NULL: a bare SELECT of frame (explain). sink:
 * NULL: by the writer's format. */
enum mr_status mr__script_make(struct mr_frame *frame, const struct mr_stream_writer *writer,
                               const char *mode, const struct mr_sink_connector *sink, void *user,
                               const struct mr__place *place, struct mr__script *ret_script,
                               struct mr_error *err);
/* Parses and plans it; errors have their place in the program. settings: win over the session's. */
enum mr_status mr__script_plan(struct mr__script *script, struct mr_streams *streams,
                               const struct mr_option_pair *settings, size_t setting_count,
                               bool check_only, struct mr_sql_plan **ret_plan,
                               struct mr_error *err);
void mr__script_release(struct mr__script *script);

/* ---- sinks of functions (foreach.c) ---- */

struct mr__foreach_target {
    struct mr_foreach_writer writer;
    mr_foreach_batch_fn batch_fn;
    void *batch_arg;
    struct mr_streams *streams;
    struct mr_streaming_query *query;
    atomic_bool failed; /* a function failed in the attempt that ran last */
};
extern const struct mr_sink_connector mr__foreach_connector;
extern const struct mr_sink_connector mr__foreach_parallel_connector;
extern const struct mr_sink_connector mr__foreach_batch_connector;

/* ---- queries (query.c, start.c) ---- */

enum mr__query_state { MR__QUERY_STARTING, MR__QUERY_ACTIVE, MR__QUERY_ENDED };

struct mr_streaming_query {
    atomic_uint references;
    char *name; /* NULL: none */
    char id[40];
    char run_id[40];
    char *checkpoint; /* NULL: none */
    char *description;
    struct mr_env *env;
    struct mr_streams *streams; /* while it is active */
    struct mr_thread *thread;   /* the session's */
    struct mr__script script;
    struct mr_sql_plan *plan;
    struct mr__foreach_target target;
    enum mr__writer_kind kind;
    bool by_interval; /* its trigger is one */
    char **recent;    /* ring of documents */
    size_t recent_max;

    struct mr_mutex lock; /* guards what follows */
    struct mr_cond changed;
    enum mr__query_state state;
    struct mr_query *query; /* NULL before it is open and once it has ended */
    struct mr_streaming_status status;
    uint64_t trigger_count;
    uint64_t idle_trigger; /* newest trigger that found nothing new */
    size_t recent_from;
    size_t recent_count;
    struct mr_error failure;
    const char *error_class;
    char *start_offset;
    char *end_offset;
};

struct mr_streaming_query *mr__handle_new(struct mr_streams *streams, const char *name,
                                          struct mr_error *err);
/* The kernel's calls, on the driver. */
void mr__handle_phase(void *arg, enum mr_query_phase phase, const char *name);
void mr__handle_progress(void *arg, const struct mr_progress *progress);
/* The query of which this thread runs a function or the loop; NULL: none. */
struct mr_streaming_query *mr__handle_here(void);
/* Around functions of the program, on any thread of the query. */
void mr__handle_enter(struct mr_streaming_query *query);
void mr__handle_leave(struct mr_streaming_query *query);
void mr__handle_run(void *arg); /* the thread */
/* It is over: who waits looks. failure: MR_OK = none. */
void mr__handle_end(struct mr_streaming_query *query, const struct mr_error *failure);
void mr__handle_set_message(struct mr_streaming_query *query, const char *format, ...)
    MR_PRINTF(2, 3);

/* start.c: which checkpoints of this process run. */
void mr__registry_remove(struct mr_streaming_query *query);

/* ---- events (events.c) ---- */

enum mr__event_kind { MR__EVENT_STARTED, MR__EVENT_PROGRESS, MR__EVENT_IDLE, MR__EVENT_TERMINATED };

bool mr__bell_rings(void); /* does this thread call a listener? */
enum mr_status mr__bell_new(struct mr__bell **ret_bell, struct mr_error *err);
void mr__bell_free(struct mr__bell *bell); /* delivers what waits; NULL allowed */
/* STARTED is delivered before it returns; the others wait in the queue. text: the document, or the
 * failure. */
void mr__bell_tell(struct mr_streams *streams, enum mr__event_kind kind,
                   const struct mr_streaming_query *query, const char *text,
                   const char *error_class);

#endif
