/*
 * The query under test: planned over the tables of the test, run on a simulated machine, killed and
 * started again. Called by steps.c.
 *
 *     not running --run: plan, recover--> running --run--> running ... --crash, stop, failure-->
 *
 * The machine (env/sim.h) has a disk that knows what is synced and a clock that only moves when
 * told to, or by a millisecond a batch. A crash leaves the disk as a power loss does at that point:
 * what was not synced is gone. A query that runs is kept between two runs, as a process would be:
 * only a crash or RESTART makes it recover from its checkpoint.
 *
 * Thread: one: the query has one worker, which is its driver.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/json.h"
#include "base/text.h"
#include "base/time_text.h"
#include "core/query.h"
#include "env/sim.h"

#include <stdio.h>
#include <string.h>

struct crash {
    const char *point; /* NULL: none is due */
    int64_t batch_id;  /* -1: any */
    bool reached;
    uint64_t op_count; /* of the disk, at that moment */
};

struct mr_test_pipeline {
    const struct mr_sql_script *script;
    struct mr_sim *sim;
    struct mr_test_table *tables;
    struct mr_sql_binding *bindings;
    size_t table_count;
    /* While it runs. */
    struct mr_sql_plan *plan;
    struct mr_query *query;
    struct crash crash;
    uint64_t inject_at; /* number of a point; 0: none */
    uint64_t points;
    char injected[64]; /* "" : not yet */
    bool recovering;   /* from that crash */
    bool remembers;    /* a restart keeps how far each source's watermark was */
    bool forgets;      /* it does not, in the run at hand */
    /* What batches reported since it was asked for. */
    struct mr_test_counts operators[MR_TESTING_OPERATORS_MAX];
    size_t operator_count;
    uint64_t late_rows;
    uint64_t bad_rows;
    uint64_t batches;
    int64_t watermark_us;      /* of the next batch */
    int64_t last_watermark_us; /* of the newest batch */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot run a test: out of memory");
}

/* ---- Tables ---- */

static void add_table(struct mr_test_pipeline *pipeline, const char *name,
                      const struct mr_sql_statement *statement)
{
    struct mr_test_table *table = &pipeline->tables[pipeline->table_count];

    mr_testing__table_init(table, name, statement);
    pipeline->bindings[pipeline->table_count] = (struct mr_sql_binding){
        .table = name, .source = &mr_testing__source, .sink = &table->sink, .user = table};
    pipeline->table_count++;
}

enum mr_status mr_testing__pipeline_new(const struct mr_sql_script *script,
                                        struct mr_test_pipeline **ret_pipeline,
                                        struct mr_error *err)
{
    struct mr_test_pipeline *pipeline = mr_alloc_zero(NULL, sizeof(*pipeline));

    if (pipeline == NULL)
        return no_memory(err);
    pipeline->script = script;
    pipeline->watermark_us = pipeline->last_watermark_us = INT64_MIN;
    pipeline->sim = mr_sim_new(1);
    pipeline->tables = mr_alloc_zero(NULL, (script->count + 1) * sizeof(*pipeline->tables));
    pipeline->bindings = mr_alloc_zero(NULL, (script->count + 1) * sizeof(*pipeline->bindings));
    if (pipeline->tables == NULL || pipeline->bindings == NULL) {
        mr_testing__pipeline_free(pipeline);
        return no_memory(err);
    }
    for (size_t i = 0; i < script->count; i++) {
        if (script->statements[i].kind == MR_SQL_TABLE)
            add_table(pipeline, script->statements[i].name, &script->statements[i]);
    }
    add_table(pipeline, "console", NULL);
    *ret_pipeline = pipeline;
    return MR_OK;
}

void mr_testing__pipeline_free(struct mr_test_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    mr_testing__pipeline_stop(pipeline);
    for (size_t i = 0; i < pipeline->table_count; i++)
        mr_testing__table_release(&pipeline->tables[i]);
    mr_free(pipeline->tables);
    mr_free(pipeline->bindings);
    mr_sim_free(pipeline->sim);
    mr_free(pipeline);
}

struct mr_test_table *mr_testing__pipeline_table(struct mr_test_pipeline *pipeline,
                                                 const char *name)
{
    for (size_t i = 0; i < pipeline->table_count; i++) {
        if (mr_text_equal_nocase(pipeline->tables[i].name, strlen(pipeline->tables[i].name), name,
                                 strlen(name)))
            return &pipeline->tables[i];
    }
    return NULL;
}

struct mr_test_table *mr_testing__pipeline_table_at(struct mr_test_pipeline *pipeline, size_t index)
{
    return index < pipeline->table_count ? &pipeline->tables[index] : NULL;
}

struct mr_test_table *mr_testing__pipeline_changed(struct mr_test_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->table_count; i++) {
        if (pipeline->tables[i].changed != NULL)
            return &pipeline->tables[i];
    }
    return NULL;
}

/* ---- What batches report ---- */

static int64_t number(const struct mr_json *object, const char *key)
{
    int64_t value = 0;

    return mr_json_int(mr_json_get(object, key), &value) ? value : 0;
}

/* eventTime.watermark: that of the batch itself. */
static void note_watermark(struct mr_test_pipeline *pipeline, const struct mr_json *document)
{
    const char *text = mr_json_text(mr_json_get(document, "eventTime"), "watermark");

    if (text == NULL ||
        !mr_timestamp_parse(text, strlen(text), false, &pipeline->last_watermark_us))
        pipeline->last_watermark_us = INT64_MIN;
}

static void note_document(struct mr_test_pipeline *pipeline, const char *json)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *document = NULL;
    const struct mr_json *list = NULL;
    size_t count = 0;

    if (mr_json_parse(json, strlen(json), &arena, &document, NULL) == MR_OK) {
        note_watermark(pipeline, document);
        list = mr_json_get(document, "stateOperators");
    }
    for (const struct mr_json *one = list != NULL ? list->first : NULL;
         one != NULL && count < MR_TESTING_OPERATORS_MAX; one = one->next) {
        struct mr_test_counts *counts = &pipeline->operators[count++];

        counts->total = number(one, "numRowsTotal");
        counts->updated += number(one, "numRowsUpdated");
        counts->dropped += number(one, "numRowsDroppedByWatermark");
        counts->removed += number(one, "numRowsRemoved");
    }
    pipeline->operator_count = count;
    mr_arena_release(&arena);
}

static void note_progress(void *arg, const struct mr_progress *progress)
{
    struct mr_test_pipeline *pipeline = arg;

    if (progress->idle)
        return;
    note_document(pipeline, progress->json);
    pipeline->late_rows += progress->late_rows;
    pipeline->bad_rows += progress->bad_rows;
    pipeline->batches++;
    pipeline->watermark_us = progress->watermark_us;
}

int64_t mr_testing__pipeline_watermark(const struct mr_test_pipeline *pipeline, bool last_batch)
{
    return last_batch ? pipeline->last_watermark_us : pipeline->watermark_us;
}

uint64_t mr_testing__pipeline_take_late(struct mr_test_pipeline *pipeline)
{
    uint64_t rows = pipeline->late_rows;

    pipeline->late_rows = 0;
    return rows;
}

uint64_t mr_testing__pipeline_take_bad(struct mr_test_pipeline *pipeline)
{
    uint64_t rows = pipeline->bad_rows;

    pipeline->bad_rows = 0;
    return rows;
}

uint64_t mr_testing__pipeline_take_batches(struct mr_test_pipeline *pipeline)
{
    uint64_t batches = pipeline->batches;

    pipeline->batches = 0;
    return batches;
}

size_t mr_testing__pipeline_take_state(struct mr_test_pipeline *pipeline,
                                       struct mr_test_counts *counts)
{
    for (size_t i = 0; i < pipeline->operator_count; i++) {
        struct mr_test_counts *one = &pipeline->operators[pipeline->operator_count - 1 - i];

        counts[i] = *one;
        one->updated = one->dropped = one->removed = 0;
    }
    return pipeline->operator_count;
}

/* ---- Running ---- */

/* The process dies here, or with the machine. */
static enum mr_status die(struct mr_test_pipeline *pipeline, struct mr_error *err)
{
    pipeline->crash.op_count = mr_sim_op_count(pipeline->sim);
    return MR_FAIL(err, MR_STATE, "the test crashes here");
}

static enum mr_status at_point(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct mr_test_pipeline *pipeline = arg;
    struct crash *crash = &pipeline->crash;

    if (crash->point != NULL && !crash->reached && strcmp(point, crash->point) == 0 &&
        (crash->batch_id < 0 || (uint64_t)crash->batch_id == batch_id)) {
        crash->reached = true;
        return die(pipeline, err);
    }
    if (++pipeline->points != pipeline->inject_at || pipeline->injected[0] != '\0')
        return MR_OK;
    snprintf(pipeline->injected, sizeof(pipeline->injected), "after '%s' of batch %llu", point,
             (unsigned long long)batch_id);
    pipeline->recovering = true;
    return die(pipeline, err);
}

void mr_testing__pipeline_inject(struct mr_test_pipeline *pipeline, uint64_t nth)
{
    pipeline->inject_at = nth;
}

void mr_testing__pipeline_remember(struct mr_test_pipeline *pipeline)
{
    pipeline->remembers = true;
}

bool mr_testing__pipeline_forgets(const struct mr_test_pipeline *pipeline)
{
    return pipeline->forgets;
}

uint64_t mr_testing__pipeline_points(const struct mr_test_pipeline *pipeline)
{
    return pipeline->points;
}

const char *mr_testing__pipeline_injected(const struct mr_test_pipeline *pipeline)
{
    return pipeline->injected;
}

static enum mr_status start(struct mr_test_pipeline *pipeline, struct mr_error *err)
{
    static const struct mr_option_pair settings[] = {
        {"trigger", "until caught up"},
        {"checkpoint", "/checkpoint"},
        {"max_batches", "0"},
        {"idle_after", "36500 days"}}; /* nothing is idle for so long, but the commits have marks */
    const struct mr_sql_args args = {
        .env = mr_sim_env(pipeline->sim),
        .settings = settings,
        .setting_count = MR_ARRAY_SIZE(settings) - (pipeline->remembers ? 0 : 1),
        .bindings = pipeline->bindings,
        .binding_count = pipeline->table_count,
    };
    struct mr_query_config config;
    struct mr_graph *graph;

    MR_TRY(mr_sql_plan(pipeline->script, &args, &pipeline->plan, err));
    config = pipeline->plan->config;
    pipeline->forgets = config.idle_after_us <= 0;
    config.workers = config.workers_max = 1;
    config.retries = 0;
    config.on_progress = note_progress;
    config.on_progress_arg = pipeline;
    config.failpoint = at_point;
    config.failpoint_arg = pipeline;
    graph = pipeline->plan->graph;
    pipeline->plan->graph = NULL; /* the query takes it, also when it fails */
    return mr_query_new(args.env, graph, &config, &pipeline->query, err);
}

void mr_testing__pipeline_stop(struct mr_test_pipeline *pipeline)
{
    mr_query_free(pipeline->query);
    mr_sql_plan_free(pipeline->plan);
    pipeline->query = NULL;
    pipeline->plan = NULL;
}

/* Puts another machine in the place of the one that died; NULL is not possible. */
static void replace_machine(struct mr_test_pipeline *pipeline, struct mr_sim *sim)
{
    mr_sim_free(pipeline->sim);
    pipeline->sim = sim;
}

/* One life of the process, or more of the one that runs. */
static enum mr_status live(struct mr_test_pipeline *pipeline, struct mr_error *err)
{
    enum mr_status status = MR_OK;

    if (pipeline->query == NULL)
        status = start(pipeline, err);
    if (status == MR_OK)
        status = mr_query_run(pipeline->query, err);
    if (status != MR_OK) /* a process that failed is gone; its machine lives */
        mr_testing__pipeline_stop(pipeline);
    return status;
}

enum mr_status mr_testing__pipeline_run(struct mr_test_pipeline *pipeline, struct mr_error *err)
{
    enum mr_status status = live(pipeline, err);

    if (!pipeline->recovering)
        return status;
    pipeline->recovering = false;
    replace_machine(pipeline, mr_sim_power_loss(pipeline->sim, pipeline->crash.op_count));
    if (err != NULL)
        mr_error_clear(err);
    return live(pipeline, err);
}

enum mr_status mr_testing__pipeline_crash(struct mr_test_pipeline *pipeline, const char *point,
                                          int64_t batch_id, bool kill, bool *ret_reached,
                                          struct mr_error *err)
{
    struct crash *crash = &pipeline->crash;
    enum mr_status status = MR_OK;

    *crash = (struct crash){.point = point, .batch_id = batch_id};
    if (point == NULL) {
        crash->reached = true;
        crash->op_count = mr_sim_op_count(pipeline->sim);
    } else {
        status = mr_testing__pipeline_run(pipeline, err);
    }
    *ret_reached = crash->reached;
    if (!crash->reached) {
        crash->point = NULL;
        return status;
    }
    mr_testing__pipeline_stop(pipeline); /* what it still writes comes after the crash */
    replace_machine(pipeline, kill ? mr_sim_kill(pipeline->sim, crash->op_count)
                                   : mr_sim_power_loss(pipeline->sim, crash->op_count));
    crash->point = NULL;
    return MR_OK;
}

int64_t mr_testing__pipeline_now_us(struct mr_test_pipeline *pipeline)
{
    return mr_env_wall_us(mr_sim_env(pipeline->sim));
}

void mr_testing__pipeline_advance(struct mr_test_pipeline *pipeline, int64_t duration_us)
{
    mr_sim_advance_ns(pipeline->sim, duration_us * 1000);
}
