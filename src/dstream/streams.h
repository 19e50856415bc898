/*
 * What a program has built: the context, its streams and its outputs.  See internal.h.
 *
 * Ownership: everything here belongs to the context, which frees streams, functions and outputs
 * with itself.
 */
#ifndef MR_DSTREAM_STREAMS_H
#define MR_DSTREAM_STREAMS_H

#include "dstream/internal.h"

struct mr__lowering {
    struct mr_context *ctx;
    struct mr_graph *graph;
};

/* Makes the nodes of one stream, whose inputs have theirs, and sets stream->node. */
typedef enum mr_status (*mr__lower_fn)(struct mr__lowering *low, struct mr_dstream *stream,
                                       struct mr_error *err);

/* An input, as the kernel wants it. */
struct mr__source {
    const struct mr_source_connector *connector;
    const struct mr_format *format;
    struct mr_options *options; /* until lowering takes them */
    struct mr_schema *declared;
    enum mr_on_error on_error;
    bool volatile_only; /* a queue: cannot be part of a checkpoint */
    struct mr_queue *queue;
    bool one_at_a_time; /* of the queue */
    bool is_own;        /* a connector of ours, which finds the stream itself in `user` */
    void *user;         /* what another connector finds there */
};

/* The checkpoint interval of a stream that was given none (DS-4). */
enum mr__default_checkpoint {
    MR__CHECKPOINT_NONE,        /* it keeps no state */
    MR__CHECKPOINT_TEN_SECONDS, /* the first multiple of its slide from 10 s on */
    MR__CHECKPOINT_TEN_SLIDES,  /* map_with_state */
};

struct mr__kept; /* remember.h */

struct mr_dstream {
    struct mr_context *ctx;
    mr__lower_fn lower; /* what kind of stream it is */
    char *operation;    /* "map_to_pair" */
    char *name;         /* of the operator, and of its state */
    struct mr_schema *schema;
    int64_t slide_ms;
    struct mr_dstream **inputs;
    size_t input_count;
    struct mr_dstream
        *named; /* whose name mr_dstream_set_name sets: itself, or the window inside */

    struct mr__function *function; /* map; reduce; update; all owned by the context */
    struct mr__function *inverse;
    struct mr__function *filter;
    bool one_to_one;      /* map, map_to_pair */
    enum mr_agg_kind agg; /* of a built-in reduce */
    bool count_values;    /* count_by_value: the key is column 0, there is no value */
    int64_t window_ms;
    uint32_t partition_count; /* of what comes out of a shuffle; 0 = the workers */
    struct mr__source source;
    const char *receiver_name; /* of a receiver of the program, "Lines"; NULL = by operation */
    void *own; /* of a kind with a file of its own; freed with own_free when the context goes */
    void (*own_free)(void *own);

    int64_t checkpoint_ms; /* mr_dstream_checkpoint; 0 = the default (mr__checkpoint_ms) */
    enum mr__default_checkpoint default_checkpoint;
    enum mr_storage_level storage; /* mr_dstream_persist */
    int64_t remember_ms;           /* DS-10; known once the context starts */
    struct mr__kept *kept;         /* its datasets; none unless they are remembered */

    bool wanted;          /* an output needs it */
    struct mr_node *node; /* once lowered */
};

/* An output operation: a sink of the kernel, made by the front end itself. */
struct mr__output {
    struct mr_dstream *stream;
    const struct mr_sink_connector *connector;
    char *name;
    int rows;     /* print */
    char *prefix; /* save_as_text_files */
    char *suffix;
    mr_rdd_fn fn; /* foreach_rdd */
    void *arg;
};

struct mr_context {
    char *name;
    int64_t interval_ms;
    struct mr_env *env;
    char *checkpoint_dir;  /* NULL = none */
    struct mr_error error; /* the first mistake of the building calls; MR_OK = none */
    struct mr_option_pair settings[MR_DSTREAM_SETTINGS_MAX]; /* owned */
    size_t setting_count;
    struct mr_query_config config; /* what settings and tests say; completed at start */
    int64_t remember_files_us;     /* of file streams */
    int64_t remember_ms;           /* mr_context_remember; 0 = not said */
    struct mr_options *options;    /* the settings, from start on */
    struct mr__watch *watch;       /* monitor.h */

    struct mr_dstream **streams;
    size_t stream_count;
    struct mr__output **outputs;
    size_t output_count;
    struct mr__function **functions;
    size_t function_count;
    struct mr__engines engines;

    struct mr_thread *thread;
    uint32_t partition_count; /* default of streams (partitions.c); known once started */
    bool are_partitions_pinned;
    int64_t zero_time_us; /* driver; known once the query is open */

    struct mr_mutex lock; /* guards: */
    struct mr_cond changed;
    enum mr_context_state state;
    struct mr_session *session; /* of datasets; NULL: none was needed yet */
    struct mr_query *query;     /* while it may be stopped */
    bool stop_early;            /* stop was asked before the query existed */
    bool stop_graceful;
    struct mr_error failure; /* of the run */
};

/* Remembers the first mistake. function_place: "file:line: operation", or just the operation.
 * Returns false. */
bool mr__context_blame(struct mr_context *ctx, const char *place, const struct mr_error *err);
/* May streams and outputs still be added? Else the mistake sticks. */
bool mr__context_is_open(struct mr_context *ctx, const char *operation);
/* A file:line prefix for a function, or only the operation when the function has none. */
void mr__place(const struct mr_fn *fn, const char *operation, char *text, size_t size);
bool mr__context_keep(struct mr_context *ctx, struct mr__function *function); /* takes */
/* A new stream on a context that is open; NULL when it is not. The name is
 * <operation>-<ordinal>. */
struct mr_dstream *mr__stream_new(struct mr_context *ctx, mr__lower_fn lower, const char *operation,
                                  struct mr_dstream *const *inputs, size_t input_count);
struct mr_dstream *mr__stream_source(struct mr_context *ctx, const char *operation,
                                     struct mr__source *source,
                                     const struct mr_schema *schema); /* takes what source owns */
/* A stream of one of our own connectors, with its default format and no options. */
struct mr_dstream *mr__connect(struct mr_context *ctx, const char *operation,
                               const struct mr_source_connector *connector);
struct mr__output *mr__output_new(struct mr_dstream *stream, const char *operation,
                                  const struct mr_sink_connector *connector);
/* The number of streams with that operation: the ordinal of the next. */
size_t mr__ordinal(const struct mr_context *ctx, const char *operation);

void mr__streams_free(struct mr_context *ctx);
/* Remembers a mistake of a function, with the place where it was given. Returns false. */
bool mr__blame(struct mr_context *ctx, const struct mr_fn *fn, const char *operation,
               const struct mr_error *err);
/* A compiled function becomes the stream's (takes it); its output is the schema. NULL on
 * failure. */
struct mr_dstream *mr__with_function(struct mr_dstream *stream, struct mr__function *function);
/* A stream of one function over one input: compiles it, or the mistake sticks. */
typedef enum mr_status (*mr__compile_fn)(struct mr__engines *engines, const char *operation,
                                         const struct mr_fn *fn, const struct mr_schema *input,
                                         struct mr__function **ret_function, struct mr_error *err);
struct mr_dstream *mr__build_mapped(struct mr_dstream *input, const char *operation,
                                    const struct mr_fn *fn, mr__compile_fn compile,
                                    mr__lower_fn lower);
/* Same context, same slide? Else the mistake sticks to the first one's context. */
bool mr__go_together(struct mr_dstream *const *streams, size_t count, const struct mr_fn *fn,
                     const char *operation);
/* 1 .. MR_DSTREAM_PARTITIONS_MAX, or the mistake sticks. */
bool mr__partitions_are_good(struct mr_context *ctx, const char *operation,
                             uint32_t partition_count);
/* The partitions of a shuffle's output: what was said, or the workers. */
uint32_t mr__partition_count(const struct mr__lowering *low, const struct mr_dstream *stream);
/* A stream of pairs? Else the mistake sticks, with the place of fn. */
bool mr__needs_pairs(struct mr_dstream *stream, const struct mr_fn *fn, const char *operation);
struct mr_dstream *mr__reduce(struct mr_dstream *pairs, const struct mr_fn *fn,
                              const char *operation);
/* Is there an aggregation for a built-in over values of that type? */
bool mr__kernel_of(const struct mr_fn *fn, const struct mr_type *type, enum mr_agg_kind *ret_agg);
/* The aggregation behind a built-in reduce; ret_spec borrows from names and the stream. */
struct mr__agg_names {
    uint32_t key;
    const char *key_name;
    struct mr_agg agg;
};
void mr__aggregate_spec(const struct mr_dstream *stream, struct mr__agg_names *names,
                        struct mr_aggregate_spec *ret_spec);

/* settings.c: checks and keeps one setting; applies all of them to ctx->config and ctx->options. */
enum mr_status mr__settings_set(struct mr_context *ctx, const char *key, const char *value,
                                struct mr_error *err);
enum mr_status mr__settings_apply(struct mr_context *ctx, struct mr_error *err);
void mr__settings_free(struct mr_context *ctx);
/* configure.c: settings of whoever runs the program: MILLRACE_SETTINGS, MILLRACE_SET and
 * MILLRACE_CHECKPOINT; then the flags. */
enum mr_status mr__configure_by_environment(struct mr_context *ctx, struct mr_error *err);
enum mr_status mr__configure_by_flags(struct mr_context *ctx, int argc, const char *const *argv,
                                      bool *ret_help, struct mr_error *err);

/* partitions.c: before lowering; once the checkpoint is open. */
enum mr_status mr__partitions_load(struct mr_context *ctx, struct mr_error *err);
enum mr_status mr__partitions_pin(struct mr_context *ctx, struct mr_error *err);

/* lower.c: the kinds of streams. */
enum mr_status mr__lower_source(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err);
enum mr_status mr__lower_map(struct mr__lowering *low, struct mr_dstream *stream,
                             struct mr_error *err);
enum mr_status mr__lower_reduce(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err);
enum mr_status mr__lower_reduce_builtin(struct mr__lowering *low, struct mr_dstream *stream,
                                        struct mr_error *err);
enum mr_status mr__lower_window(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err);
enum mr_status mr__lower_inverse(struct mr__lowering *low, struct mr_dstream *stream,
                                 struct mr_error *err);
/* Nodes for a stream: a map called <name>.<part> on its first input (part NULL: <name>, and it is
 * the stream's node); a fold called <name> on the nodes given, which is the stream's node. */
enum mr_status mr__lower_add_map(struct mr__lowering *low, struct mr_dstream *stream,
                                 const char *part, const struct mr_schema *schema,
                                 const struct mr_map_op *op, struct mr_node **ret_node,
                                 struct mr_error *err);
enum mr_status mr__lower_add_fold(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_node *const *inputs, size_t input_count,
                                  const struct mr_fold_op *op, struct mr_error *err);
/* An input without a dataset in a batch is an error when the stream's slide is due. */
void mr__lower_require_all(struct mr_dstream *stream);
/* The kernel's graph of what the outputs need. Returns new. */
enum mr_status mr__lower(struct mr_context *ctx, struct mr_graph **ret_graph, struct mr_error *err);

/* context.c, for main.c: asks the query to stop, does not wait. Any thread. */
void mr__context_request_stop(struct mr_context *ctx, bool graceful);
/* Does what a signal handler asked for (mr_context_stop_soon). Any thread. */
void mr__context_look(struct mr_context *ctx);
/* recover.c: a checkpoint that is damaged is renamed (the setting create_on_error). */
enum mr_status mr__checkpoint_put_aside(struct mr_context *ctx, struct mr_error *err);
/* For tests: another environment; the config to change; the driver in the caller's thread instead
 * of one of its own. */
void mr__context_use(struct mr_context *ctx, struct mr_env *env);
struct mr_query_config *mr__context_config(struct mr_context *ctx);
enum mr_status mr__context_run_here(struct mr_context *ctx, struct mr_error *err);

/* "prefix-<ms>.suffix" (OUT-3). NULL without memory. */
char *mr__batch_dir(const char *prefix, const char *suffix, int64_t batch_time_ms);

#endif
