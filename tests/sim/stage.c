/*
 * See stage.h.
 */
#include "sim/stage.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "core/query.h"
#include "env/thread.h"
#include "sim/fibers.h"
#include "sql/plan.h"

#include "plugins/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SWITCHES_MAX = 20000000, BATCH_MAX = 64, UNAVAILABLE_S = 600 };

struct life {
    struct stage *stage;
    struct mr_sql_script *script;
    struct mr_sql_plan *plan;
    struct mr_query *query;
    enum mr_status status;
};

static int64_t now_ns(void *arg)
{
    return world_now_ns(((struct stage *)arg)->world);
}

static void advance_ns(void *arg, int64_t duration_ns)
{
    mr_sim_advance_ns(((struct stage *)arg)->world->sim, duration_ns);
}

static void stuck(void *arg, const char *what)
{
    MR_UNUSED(arg);
    fprintf(stdout, "# hang: %s\n", what);
    fflush(stdout);
    abort();
}

static void log_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    MR_UNUSED(level);
    if (((struct stage *)arg)->world->verbose != NULL)
        fprintf(((struct stage *)arg)->world->verbose, "%.*s", (int)size_bytes, line);
}

static struct stage *left; /* by a test that failed */

struct stage *stage_new(int partitions)
{
    static bool registered;
    struct stage *stage = calloc(1, sizeof(*stage));
    struct fibers_config config = {.seed = 7,
                                   .cpu_count = 2,
                                   .now_ns = now_ns,
                                   .advance_ns = advance_ns,
                                   .stuck = stuck,
                                   .arg = stage,
                                   .switches_max = SWITCHES_MAX};

    MR_ASSERT(stage != NULL);
    if (left != NULL)
        stage_free(left);
    left = stage;
    if (!registered) {
        mr_plugins_register();
        database_register();
    }
    registered = true;
    stage->world = world_new(1, getenv("VERBOSE") != NULL ? stdout : NULL);
    mr_log_set_sink(log_line, stage);
    fibers_begin(&config);
    stage->db = database_new(stage->world);
    stage->out = database_table(stage->db, "out");
    stage->broker = broker_new(stage->world);
    stage->next_id = 1;
    stage->unavailable_us = (int64_t)UNAVAILABLE_S * 1000000;
    if (stage->broker != NULL)
        broker_make_topic(stage->broker, "a", partitions);
    return stage;
}

void stage_free(struct stage *stage)
{
    broker_free(stage->broker);
    fibers_end();
    database_free(stage->db);
    mr_log_set_sink(NULL, NULL);
    world_free(stage->world);
    left = NULL;
    free(stage);
}

void stage_produce_as(struct stage *stage, int partition, size_t count,
                      enum broker_transaction transaction)
{
    char lines[BATCH_MAX][40];
    const char *payloads[BATCH_MAX];
    size_t tags[BATCH_MAX];

    MR_ASSERT(count <= BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        /* what is aborted has ids of its own: nobody may ever see them */
        int64_t id = transaction == TRANSACTION_ABORTED ? -1 - (int64_t)i : stage->next_id++;

        snprintf(lines[i], sizeof(lines[i]), "{\"id\":%" PRId64 "}", id);
        payloads[i] = lines[i];
        tags[i] = i;
    }
    broker_produce(stage->broker, "a", partition, payloads, tags, count, transaction,
                   world_now_ns(stage->world));
}

void stage_produce(struct stage *stage, int partition, size_t count)
{
    stage_produce_as(stage, partition, count, TRANSACTION_NONE);
}

void stage_produce_text(struct stage *stage, int partition, const char *text)
{
    broker_produce(stage->broker, "a", partition, &text, &(size_t){0}, 1, TRANSACTION_NONE, 0);
}

static void ignore(void *arg, size_t tag)
{
    MR_UNUSED(arg);
    MR_UNUSED(tag);
}

void stage_cut(struct stage *stage, int partition, size_t count)
{
    broker_truncate(stage->broker, "a", partition, count, ignore, NULL);
}

void stage_recreate(struct stage *stage)
{
    broker_recreate(stage->broker, "a", ignore, NULL);
}

static enum mr_status at_point(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct stage *stage = arg;

    stage->batches += strcmp(point, "committed") == 0;
    if (stage->at != NULL && !stage->world->dead)
        stage->at(stage, point, batch_id);
    if (stage->world->dead)
        return MR_FAIL(err, MR_IO, "the simulated process is dead");
    return MR_OK;
}

static void on_progress(void *arg, const struct mr_progress *progress)
{
    ((struct stage *)arg)->bad_rows += progress->idle ? 0 : progress->bad_rows;
}

static void drive(void *arg)
{
    struct life *life = arg;

    life->status = mr_query_run(life->query, &life->stage->err);
}

static enum mr_status open_life(struct life *life, struct mr_error *err)
{
    struct stage *stage = life->stage;
    struct mr_sql_args args = {.env = &stage->world->env};
    struct mr_buf text = MR_BUF_INIT;
    struct mr_query_config *config;
    struct mr_graph *graph;
    enum mr_status status;

    mr_buf_printf(&text,
                  "SET trigger = 'until caught up';\nSET checkpoint = '/cp';\n"
                  "CREATE TABLE a (id BIGINT) WITH (connector = 'kafka', brokers = 'sim:9092', "
                  "topic = 'a', format = 'json', start = 'earliest'%s%s);\n"
                  "CREATE TABLE out WITH (connector = 'simdb', table = 'out');\n"
                  "INSERT INTO out SELECT id FROM a;\n",
                  stage->options != NULL ? ", " : "", stage->options != NULL ? stage->options : "");
    status = mr_sql_script_parse("stage.sql", text.data, text.size, &life->script, err);
    mr_buf_release(&text);
    MR_TRY(status);
    MR_TRY(mr_sql_plan(life->script, &args, &life->plan, err));
    config = &life->plan->config;
    config->workers = 2;
    config->unavailable_us = stage->unavailable_us;
    config->failpoint = at_point;
    config->failpoint_arg = stage;
    config->on_progress = on_progress;
    config->on_progress_arg = stage;
    graph = life->plan->graph;
    life->plan->graph = NULL;
    return mr_query_new(&stage->world->env, graph, config, &life->query, err);
}

enum mr_status stage_run(struct stage *stage)
{
    struct life life = {.stage = stage};
    struct mr_thread *driver;

    mr_error_clear(&stage->err);
    stage->bad_rows = 0;
    stage->batches = 0;
    life.status = open_life(&life, &stage->err);
    if (life.status == MR_OK) {
        MR_ASSERT(mr_thread_start("driver", drive, &life, &driver, NULL) == MR_OK);
        mr_thread_join(driver);
    }
    mr_query_free(life.query);
    mr_sql_plan_free(life.plan);
    mr_sql_script_free(life.script);
    world_next_life(stage->world);
    return life.status;
}

enum mr_status stage_second(struct stage *stage, struct mr_error *err)
{
    struct life life = {.stage = stage};

    life.status = open_life(&life, err);
    mr_query_free(life.query);
    mr_sql_plan_free(life.plan);
    mr_sql_script_free(life.script);
    return life.status;
}

bool stage_has(const struct stage *stage, int64_t from, int64_t to)
{
    const struct rows *rows = &stage->out->rows;

    for (int64_t id = from; id <= to; id++) {
        size_t count = 0;

        for (size_t i = 0; i < rows->count; i++)
            count += rows->rows[i].values[0] == id;
        if (count != 1)
            return false;
    }
    return rows->count == (size_t)(to - from + 1) && stage->world->anomaly[0] == '\0';
}
