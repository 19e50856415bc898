/*
 * Inside of the SQL programs of the simulation (sql.c): what runs, what goes in (sql_input.c), what
 * must come out (sql_model.c), what did (sql_check.c).
 *
 * Thread: fibers; one program at a time.
 */
#ifndef MR_TESTS_SIM_SQL_PROGRAM_H
#define MR_TESTS_SIM_SQL_PROGRAM_H

#include "sim/broker.h"
#include "sim/run.h"

enum { SOURCES_MAX = 2, SHAPES_PER_RUN = 3, END_KEY = -1 };

#define SQL_JANUARY_US INT64_C(1767225600000000) /* 2026-01-01 */
#define SQL_BEGIN_US (SQL_JANUARY_US + INT64_C(86400000000))

enum shape {
    SHAPE_STATELESS,
    SHAPE_UPDATE,
    SHAPE_COMPLETE,
    SHAPE_WINDOWS,
    SHAPE_SLIDING,
    SHAPE_DEDUP,
    SHAPE_SESSIONS,
    SHAPE_JOIN,
    SHAPE_KINDS
};

struct event {
    int64_t id;
    int64_t k;
    int64_t v;
    int64_t ts_us;
    int64_t due_us; /* when it comes, after the run's begin */
    int partition;  /* Kafka: where it is */
    bool exposed;   /* Kafka: it went before everybody had to have read it */
};

enum source_kind { SOURCE_MEMORY, SOURCE_FILES, SOURCE_KAFKA };

struct source {
    const char *name;
    enum source_kind kind;
    char table[60];
    struct event *events;
    size_t count;
    size_t fed;
    unsigned step_rows;
    unsigned partitions;
    unsigned file_number;
};

struct output {
    enum shape shape;
    const char *name;
    bool files;
    struct db_table *table;
    struct rows rows;   /* scratch */
    int64_t high_water; /* rows seen before: output never shrinks */
};

struct program {
    struct world *world;
    struct database *db;
    struct source sources[SOURCES_MAX];
    size_t source_count;
    struct output outputs[SHAPES_PER_RUN];
    size_t output_count;
    struct db_table *late;
    bool has_late;
    int64_t window_us;
    int64_t slide_us;
    int64_t gap_us;
    int64_t bound_us;
    int64_t delay_us;
    int64_t start_us; /* monotonic */
    char *text;
    struct broker *broker; /* NULL: no Kafka in this run */
    bool loses;            /* what was not read may go: only the stateless shape is used then */
    bool fails_on_loss;
    bool recreated;
    bool truncated; /* the topic's log was cut */
    bool regrows;   /* ... and leaders tell their epochs, so it may grow again */
    int cut_partition;
    int64_t regrown_at; /* where the cut partition had ended */
    bool read_before_recreation;
    bool cut_what_was_read;
    bool exposed; /* some event is */
    const char *trigger;
    unsigned workers;
    uint64_t small_batch_bytes;
    uint64_t segment_bytes;
    uint32_t snapshot_every;
    uint32_t retain_batches;
    unsigned concurrent_outputs;
    uint32_t retries;
    struct mr_schema *schema;
    /* of one life */
    struct mr_sql_script *script;
    struct mr_sql_plan *plan;
    struct mr_query *query;
};

/* ---- input ---- */

void sql_make_events(struct program *program, struct source *source, int64_t disorder_us);
/* What is due comes, all: what is left, too; and things happen to the cluster. */
void sql_feed(struct program *program, bool all);
bool sql_fed(const struct program *program);

/* ---- output ---- */

/* Adds what the output must have at the end. */
void sql_model(const struct program *program, enum shape shape, struct rows *want);
/* Adds an event to its group of `want`: values[0] and [1] are the key, [2] counts, [3] sums;
 * max_at: the value that keeps the greatest v, 0 = none. */
void sql_add_to_group(struct rows *want, int64_t first, int64_t second, int64_t v, int64_t max_at);
/* The start of the window of that size. */
int64_t sql_floor(int64_t value, int64_t step);
void sql_check(struct program *program, bool whole);

#endif
