/*
 * A running query: the batch loop over a graph (architecture section 2; structured.md 2, 4, 5, 7;
 * dstream.md 3).
 *
 * Thread: mr_query_run's caller becomes the driver; mr_query_stop and the readers of progress may
 * be any.
 */
#ifndef MR_CORE_QUERY_H
#define MR_CORE_QUERY_H

#include "base/metrics.h"
#include "core/events.h"
#include "core/evolution.h"
#include "core/graph.h"

enum mr_trigger_kind {
    MR_TRIGGER_ASAP, /* the next batch as soon as there is data */
    /* boundaries at multiples of interval since the epoch; missed ones are counted, not queued */
    MR_TRIGGER_INTERVAL,
    MR_TRIGGER_ONCE, /* one batch with everything, then stop */
    /* batches within the limits until everything that was there at start is done, then stop */
    MR_TRIGGER_CAUGHT_UP,
    /* DStreams: one batch per interval whether there is data or not; missed ones are made up */
    MR_TRIGGER_TICK,
    /* as ASAP, and what does not wake the driver is asked every millisecond: docs/decisions/0026 */
    MR_TRIGGER_CONTINUOUS,
};

struct mr_progress;

/* What the driver is at, for a status that people look at (structured.md 1.3). */
enum mr_query_phase {
    MR_PHASE_TRIGGER, /* a trigger begins */
    MR_PHASE_OFFSETS, /* a source is asked for its end; its name is given */
    MR_PHASE_LOG,     /* the plan goes to the disk */
    MR_PHASE_DATA,    /* a batch with new data runs */
    MR_PHASE_NO_DATA, /* a batch runs because of the watermark or the time alone */
    MR_PHASE_DONE,    /* the batch is committed: the trigger is over */
    MR_PHASE_IDLE,    /* there was nothing to do: the trigger is over */
};

struct mr_query_config {
    const char *name;
    const char *checkpoint_dir; /* NULL: ephemeral, nothing is written, no recovery */
    enum mr_trigger_kind trigger;
    int64_t interval_us;
    unsigned workers; /* threads that run tasks, the driver's included; 0 = cores */
    /* mr_query_set_workers goes up to it; 0 = workers. Operators may have things per worker */
    unsigned workers_max;
    /* outputs that publish at the same time, on threads of their own; 0 or 1 = one after the other,
     * in the order in which they were added */
    unsigned concurrent_outputs;
    uint32_t retries; /* of a batch after a retriable failure; default 3 */
    /* how long a peer may be away before MR_UNAVAILABLE ends the query; default 2 min */
    int64_t unavailable_us;
    /* pinned settings as JSON: the checkpoint's win over these; NULL = {} */
    const char *settings;
    /* stop after that many committed batches; 0 = no limit (tests, examples) */
    uint64_t batches_max;
    uint32_t retain_batches;   /* default 100 */
    uint64_t segment_bytes;    /* default 1 MiB */
    uint32_t snapshot_every;   /* 0 = by size */
    bool no_data_batches;      /* default true (mr_query_config_init) */
    bool watermark_policy_max; /* default false: min */
    /*
     * A watermark whose sources had nothing new for so long, by their own end offsets and the times
     * of the batches, does not hold the others back until they have; 0 = it does (Spark).
     */
    int64_t idle_after_us;
    int64_t block_interval_us; /* receivers: default 200 ms; 0 = every store at once */
    int64_t restart_delay_us;  /* receivers: default 2 s */
    /* received but not yet in a batch: the receiver waits above it; default 256 MiB */
    uint64_t receiver_queue_bytes;
    /* received blocks kept in memory when there is a file for them too; default 64 MiB */
    uint64_t received_memory_bytes;
    /* second copy of received blocks, below <dir>/<query id>; NULL = none */
    const char *received_copy_dir;
    /* where received blocks go that find no room in memory; NULL = the system's directory for
     * temporary files */
    const char *spill_dir;
    int64_t receiver_rate_max; /* records a second and receiver; 0 = no limit */
    /* a graceful stop: what is not done by then is left to the next start; 0 = no limit */
    int64_t stop_timeout_us;
    /* a batch that runs for so long is told in the log, each time anew; 0 = not */
    int64_t slow_batch_us;
    /* past it a batch fails with MR_USER, or the process ends (doing.h); 0 = no limit */
    int64_t batch_timeout_us;
    /* a batch with less planned input has one partition behind an aggregation, say; default
     * MR_FOLD_SMALL_BYTES. Only tests have another: batches that run again must be cut the same. */
    uint64_t small_batch_bytes;
    /* a batch with less work runs on the driver alone; default 1 MiB */
    uint64_t parallel_min_bytes;
    /* Called by the driver after each batch (and every idle_progress_us when idle); json is the
     * progress document. */
    void (*on_progress)(void *arg, const struct mr_progress *progress);
    void *on_progress_arg;
    /* Called by the driver when it goes on to something else; name: of the source, or NULL. */
    void (*on_phase)(void *arg, enum mr_query_phase phase, const char *name);
    void *on_phase_arg;
    int64_t idle_progress_us; /* how often on_progress is called when idle; default 10 s */
    /* When the checkpoint is of another version of the query (evolution.h). */
    enum mr_on_change on_change; /* standard: MR_ON_CHANGE_KEEP */
    /* what is accepted all the same: "extend,rebuild:per_city.agg"; NULL = nothing */
    const char *accept;
    /* Called once by mr_query_new when something changed, before it goes on or fails; the
     * comparison is borrowed. NULL: nobody looks. */
    void (*on_evolution)(void *arg, const struct mr_evolution *evolution);
    void *on_evolution_arg;
    mr_query_event_fn on_event; /* NULL: nobody listens, and it costs nothing */
    void *on_event_arg;
    /* Tests: called by the driver at named points ("planned", "ran", "staged", "published",
     * "committed"); non-OK ends the run. */
    enum mr_status (*failpoint)(void *arg, const char *point, uint64_t batch_id,
                                struct mr_error *err);
    void *failpoint_arg;
};
void mr_query_config_init(struct mr_query_config *config);

struct mr_progress {
    const char *json; /* structured.md 22.1 */
    uint64_t batch_id;
    int64_t batch_time_us;
    uint64_t input_rows;
    uint64_t output_rows;
    uint64_t late_rows;
    uint64_t bad_rows;
    int64_t watermark_us;
    int64_t duration_us;
    uint64_t state_keys;
    bool idle;
};

struct mr_query;

/*
 * Opens the checkpoint (lock, epoch, recovery), state, sources and sinks. Takes graph, also on
 * failure. Nothing runs yet. Errors as the modules': MR_BUSY, MR_CORRUPT, MR_CONFIG (graph does not
 * fit the checkpoint), ...
 */
enum mr_status mr_query_new(struct mr_env *env, struct mr_graph *graph,
                            const struct mr_query_config *config, struct mr_query **ret_query,
                            struct mr_error *err);
/* The batch loop. MR_OK: finished by itself or stopped gracefully. Blocks. */
enum mr_status mr_query_run(struct mr_query *query, struct mr_error *err);
/*
 * Any thread. graceful: finish the batch, commit, run what receivers have stored, return; past
 * stop_timeout_us as if it were not. Else: leave as soon as possible without committing; the next
 * start runs the batch again. Functions of programs are not interrupted: between partitions,
 * operators and outputs the driver looks.
 */
void mr_query_stop(struct mr_query *query, bool graceful);
void mr_query_free(struct mr_query *query); /* after run returned; NULL allowed */

const struct mr_metrics *mr_query_metrics(const struct mr_query *query);
const char *mr_query_id(const struct mr_query *query); /* UUID text */
const char *mr_query_run_id(const struct mr_query *query);
/* Number of the batch that is planned next, or was planned and not run: 0 = none was committed. Not
 * while it runs. */
uint64_t mr_query_next_batch(const struct mr_query *query);
/* All sources of the batch being run, or run last, as {"name": offset}; NULL without memory; freed
 * with mr_text_free. The driver's thread. */
char *mr_query_offsets_json(const struct mr_query *query, bool ends);
/* What the batch that runs is doing, for a person: "function 'f' in operator 'map_1' for 1200 ms";
 * false: no batch runs, or not for a second yet. Any thread. */
bool mr_query_doing(struct mr_query *query, char *text, size_t size);
/* Copy of the newest progress document, or NULL; freed with mr_text_free. Any thread. */
char *mr_query_last_progress(struct mr_query *query);
/* TICK: first batch time minus the interval */
int64_t mr_query_zero_time_us(const struct mr_query *query);

/*
 * How fast a source may be from now on, in records a second; ignored unless rate > 0 (RL-2). A
 * receiver obeys at once, and never goes above receiver_rate_max; other sources find it in the
 * limits of the next plan. MR_NOT_FOUND: no such source. Any thread.
 */
enum mr_status mr_query_set_rate(struct mr_query *query, const char *source_name, int64_t rate,
                                 struct mr_error *err);
/* The receivers in graph order; false past the end. Any thread. */
bool mr_query_receiver(struct mr_query *query, size_t index,
                       struct mr_query_receiver *ret_receiver);
/* From the next batch on, that many workers, within 1 .. workers_max. Any thread. */
void mr_query_set_workers(struct mr_query *query, unsigned workers);
unsigned mr_query_workers(const struct mr_query *query); /* as asked for last. Any thread */
/* TICK: batches that are due and not yet begun. Any thread. */
uint64_t mr_query_waiting_batches(const struct mr_query *query);
/* The range of a source in the batch being run, borrowed until it ends; NULL offset = none yet.
 * False: no such source. Functions that the driver calls: outputs, operators. */
bool mr_query_source_offsets(const struct mr_query *query, const char *source_name,
                             const char **ret_start, const char **ret_end);

#endif
