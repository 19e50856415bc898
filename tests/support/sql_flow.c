/*
 * The harness behind sql_flow.h: memory connectors, the planner and the batch loop, in the test's
 * process.
 */
#include "support/sql_flow.h"

#include "base/buf.h"
#include "base/json.h"
#include "core/query.h"
#include "data/batch_internal.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "sql/plan.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>

enum { TABLES_MAX = 8, WATERMARKS_MAX = 256, OPERATORS_MAX = 8, VIEWS_MAX = 8 };

struct table {
    char name[40];
    char key[160]; /* of the memory table: unique to the test */
    struct mr_schema *schema;
    size_t seen; /* steps of a sink handed out */
};

/* One stateful operator, in graph order. */
struct operator_counts {
    int64_t total;
    int64_t updated;
    int64_t dropped;
    int64_t removed;
};

struct sql_flow {
    struct test *t;
    char checkpoint[40];  /* one each, though a test may make several */
    struct mr_duck *duck; /* NULL until one is needed */
    struct table tables[TABLES_MAX];
    size_t count;
    struct mr_buf head; /* CREATE TABLEs */
    struct mr_buf text;
    struct mr_buf out;
    char *description;
    int steps;
    bool large_batches;
    uint64_t late_rows;
    int64_t watermarks_ms[WATERMARKS_MAX]; /* of the batches of the last run */
    size_t watermark_count;
    struct operator_counts operators[OPERATORS_MAX];
    size_t operator_count;
    char state_text[200];
    struct mr_sql_program_view views[VIEWS_MAX];
    size_t view_count;
    const struct mr_sql_functions *functions;
    struct mr_sim *sim; /* NULL: the machine */
    int64_t zero_us;    /* its time 0 */
    char *progress;     /* the newest batch's document */
};

struct sql_flow *sql_flow_new(struct test *t)
{
    static int flows;
    struct sql_flow *flow = calloc(1, sizeof(*flow));

    flow->t = t;
    snprintf(flow->checkpoint, sizeof(flow->checkpoint), "checkpoint-%d", ++flows);
    mr_plugins_register();
    return flow;
}

/* Input and the oracle's: the query has an instance of its own. */
static struct mr_duck *duck_of(struct sql_flow *flow)
{
    struct mr_error err = {0};

    if (flow->duck == NULL)
        CHECK_OK(mr_duck_open(&flow->duck, &err), &err);
    return flow->duck;
}

void sql_flow_free(struct sql_flow *flow)
{
    for (size_t i = 0; i < flow->count; i++) {
        mr_memory_drop(flow->tables[i].key);
        mr_schema_unref(flow->tables[i].schema);
    }
    mr_duck_close(flow->duck);
    mr_buf_release(&flow->head);
    mr_buf_release(&flow->text);
    mr_buf_release(&flow->out);
    mr_text_free(flow->description);
    mr_sim_free(flow->sim);
    free(flow->progress);
    free(flow);
}

static struct table *find(struct sql_flow *flow, const char *name)
{
    for (size_t i = 0; i < flow->count; i++) {
        if (strcmp(flow->tables[i].name, name) == 0)
            return &flow->tables[i];
    }
    FAIL("the flow has no table '%s'", name);
    return NULL;
}

static struct table *add(struct sql_flow *flow, const char *name, const char *columns)
{
    struct table *table = &flow->tables[flow->count++];
    struct mr_error err = {0};

    CHECK(flow->count <= TABLES_MAX);
    snprintf(table->name, sizeof(table->name), "%s", name);
    snprintf(table->key, sizeof(table->key), "%.100s.%s", flow->t->name, name);
    if (columns[0] != '\0')
        CHECK_OK(mr_schema_parse(columns, strlen(columns), &table->schema, &err), &err);
    return table;
}

static void add_source(struct sql_flow *flow, const char *name, const char *columns,
                       const char *extra, const char *option)
{
    struct table *table = add(flow, name, columns);

    mr_buf_printf(
        &flow->head,
        "CREATE TABLE %s (%s%s) WITH (connector = 'memory', table = '%s', partitions = 2%s, "
        "max_steps_per_trigger = @@@);\n",
        name, columns, extra, table->key, option);
}

void sql_flow_source(struct sql_flow *flow, const char *name, const char *columns,
                     const char *extra)
{
    add_source(flow, name, columns, extra, "");
}

void sql_flow_static(struct sql_flow *flow, const char *name, const char *columns)
{
    add_source(flow, name, columns, "", ", static = 'true'");
}

void sql_flow_sink(struct sql_flow *flow, const char *name, const char *columns, const char *mode)
{
    struct table *table = add(flow, name, columns);

    mr_buf_printf(
        &flow->head, "CREATE TABLE %s %s%s%s WITH (connector = 'memory', table = '%s'%s%s%s);\n",
        name, columns[0] != '\0' ? "(" : "", columns, columns[0] != '\0' ? ")" : "", table->key,
        mode != NULL ? ", output_mode = '" : "", mode != NULL ? mode : "", mode != NULL ? "'" : "");
}

void sql_flow_text(struct sql_flow *flow, const char *sql)
{
    mr_buf_add_str(&flow->text, sql);
    mr_buf_add_char(&flow->text, '\n');
}

void sql_flow_retext(struct sql_flow *flow, const char *sql)
{
    mr_buf_clear(&flow->text);
    sql_flow_text(flow, sql);
}

void sql_flow_large_batches(struct sql_flow *flow)
{
    flow->large_batches = true;
}

void sql_flow_steps_per_batch(struct sql_flow *flow, int steps)
{
    flow->steps = steps;
}

void sql_flow_view(struct sql_flow *flow, const struct mr_sql_program_view *view)
{
    CHECK(flow->view_count < VIEWS_MAX);
    flow->views[flow->view_count++] = *view;
}

void sql_flow_view_replace(struct sql_flow *flow, const struct mr_sql_program_view *view)
{
    for (size_t i = 0; i < flow->view_count; i++) {
        if (strcmp(flow->views[i].name, view->name) == 0)
            flow->views[i] = *view;
    }
}

void sql_flow_functions(struct sql_flow *flow, const struct mr_sql_functions *functions)
{
    flow->functions = functions;
}

static struct mr_env *env_of(const struct sql_flow *flow)
{
    return flow->sim != NULL ? mr_sim_env(flow->sim) : mr_env_posix();
}

void sql_flow_clock(struct sql_flow *flow, int64_t time_ms)
{
    struct mr_env *env;

    if (flow->sim == NULL) {
        flow->sim = mr_sim_new(1);
        flow->zero_us = mr_env_wall_us(mr_sim_env(flow->sim));
    }
    env = mr_sim_env(flow->sim);
    mr_sim_advance_ns(flow->sim, (flow->zero_us + time_ms * 1000 - mr_env_wall_us(env)) * 1000);
}

/* ---- Input ---- */

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_batch **kept = arg;

    (void)err;
    CHECK_NULL(*kept);
    *kept = mr_batch_ref(batch);
    return MR_OK;
}

struct mr_batch *sql_flow_batch(struct sql_flow *flow, const char *sql)
{
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_exec(duck_of(flow), sql, keep, &batch, &err), &err);
    return batch;
}

void sql_flow_step(struct sql_flow *flow, const char *name, const char *values)
{
    struct table *table = find(flow, name);
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    if (values[0] != '\0') {
        mr_buf_add_str(&sql, "SELECT ");
        for (uint32_t i = 0; i < mr_schema_field_count(table->schema); i++) {
            const struct mr_field *field = mr_schema_field(table->schema, i);
            char type[200];

            mr_type_print(&field->type, type, sizeof(type));
            mr_buf_printf(&sql, "%sCAST(c%u AS %s) AS \"%s\"", i > 0 ? ", " : "", i, type,
                          field->name);
        }
        mr_buf_printf(&sql, " FROM (%s%s) t(", values[0] == '(' ? "VALUES " : "", values);
        for (uint32_t i = 0; i < mr_schema_field_count(table->schema); i++)
            mr_buf_printf(&sql, "%sc%u", i > 0 ? ", " : "", i);
        mr_buf_add_char(&sql, ')');
        batch = sql_flow_batch(flow, sql.data);
    }
    if (batch == NULL)
        CHECK_OK(mr_batch_empty(table->schema, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table->key), batch, &err), &err);
    mr_batch_unref(batch);
    mr_buf_release(&sql);
}

void sql_flow_step_slice(struct sql_flow *flow, const char *name, const struct mr_batch *rows,
                         int64_t from, int64_t to)
{
    struct table *table = find(flow, name);
    struct mr_batch *slice;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_slice(rows, from, to - from, &slice, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table->key), slice, &err), &err);
    mr_batch_unref(slice);
}

/* ---- Running ---- */

static char *script_text(struct sql_flow *flow)
{
    struct mr_buf text = MR_BUF_INIT;
    const char *at = flow->head.data != NULL ? flow->head.data : "";

    for (; *at != '\0'; at++) {
        if (strncmp(at, "@@@", 3) == 0) {
            mr_buf_printf(&text, "%d", flow->steps);
            at += 2;
        } else {
            mr_buf_add_char(&text, *at);
        }
    }
    mr_buf_printf(&text, "SET trigger = 'until caught up';\nSET checkpoint = '%s';\n%s",
                  flow->sim != NULL ? flow->checkpoint : test_path(flow->t, flow->checkpoint),
                  flow->text.data != NULL ? flow->text.data : "");
    return mr_buf_take(&text);
}

static enum mr_status plan(struct sql_flow *flow, bool check_only,
                           struct mr_sql_script **ret_script, struct mr_sql_plan **ret_plan,
                           struct mr_error *err)
{
    struct mr_sql_args args = {.env = env_of(flow),
                               .views = flow->views,
                               .view_count = flow->view_count,
                               .functions = flow->functions,
                               .check_only = check_only};
    char *text = script_text(flow);
    enum mr_status status = mr_sql_script_parse("test.sql", text, strlen(text), ret_script, err);

    mr_text_free(text);
    if (status != MR_OK)
        return status;
    status = mr_sql_plan(*ret_script, &args, ret_plan, err);
    if (status != MR_OK)
        mr_sql_script_free(*ret_script);
    return status;
}

static int64_t number(const struct mr_json *object, const char *key)
{
    int64_t value = 0;

    CHECK(mr_json_int(mr_json_get(object, key), &value));
    return value;
}

static void note_operators(struct sql_flow *flow, const char *json)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *document = NULL;
    struct mr_error err = {0};

    /* The one allocation that a test lets fail may be this one: it is not the query's. */
    if (mr_json_parse(json, strlen(json), &arena, &document, &err) == MR_NOMEM)
        CHECK_OK(mr_json_parse(json, strlen(json), &arena, &document, &err), &err);
    flow->operator_count = 0;
    for (const struct mr_json *one = mr_json_get(document, "stateOperators")->first; one != NULL;
         one = one->next) {
        struct operator_counts *counts = &flow->operators[flow->operator_count];

        if (flow->operator_count == OPERATORS_MAX)
            break;
        flow->operator_count++;
        counts->total = number(one, "numRowsTotal");
        counts->updated += number(one, "numRowsUpdated");
        counts->dropped += number(one, "numRowsDroppedByWatermark");
        counts->removed += number(one, "numRowsRemoved");
    }
    mr_arena_release(&arena);
}

const char *sql_flow_state(struct sql_flow *flow)
{
    size_t used = 0;

    flow->state_text[0] = '\0';
    for (size_t i = flow->operator_count; i > 0 && used + 80 < sizeof(flow->state_text); i--) {
        struct operator_counts *counts = &flow->operators[i - 1];

        used += (size_t)snprintf(flow->state_text + used, sizeof(flow->state_text) - used,
                                 "%s%lld/%lld/%lld/%lld", used > 0 ? " " : "",
                                 (long long)counts->total, (long long)counts->updated,
                                 (long long)counts->dropped, (long long)counts->removed);
        *counts = (struct operator_counts){0};
    }
    return flow->state_text;
}

static void note_progress(void *arg, const struct mr_progress *progress)
{
    struct sql_flow *flow = arg;

    if (progress->idle)
        return;
    note_operators(flow, progress->json);
    free(flow->progress);
    flow->progress = strdup(progress->json);
    flow->late_rows += progress->late_rows;
    if (flow->watermark_count < WATERMARKS_MAX)
        flow->watermarks_ms[flow->watermark_count++] =
            progress->watermark_us < 0 ? 0 : progress->watermark_us / 1000;
}

static enum mr_status stop_at(void *arg, const char *point, uint64_t batch_id, struct mr_error *err)
{
    const char *wanted = arg;

    (void)batch_id;
    return strcmp(point, wanted) == 0 ? MR_FAIL(err, MR_USER, "the test ends here") : MR_OK;
}

/* One life of the query; point: where it ends early, or NULL. */
static enum mr_status live(struct sql_flow *flow, const char *point, struct mr_error *err)
{
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *made = NULL;
    struct mr_query *query = NULL;
    enum mr_status status;

    CHECK_OK(plan(flow, false, &script, &made, err), err);
    if (made == NULL)
        return MR_INTERNAL;
    flow->late_rows = 0;
    flow->watermark_count = 0;
    made->config.on_progress = note_progress;
    made->config.on_progress_arg = flow;
    if (flow->large_batches)
        made->config.small_batch_bytes = 0;
    if (point != NULL) {
        made->config.retries = 0; /* a death is none of a batch that is tried again */
        made->config.failpoint = stop_at;
        made->config.failpoint_arg = (void *)(uintptr_t)point;
    }
    status = mr_query_new(env_of(flow), made->graph, &made->config, &query, err);
    made->graph = NULL;
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sql_plan_free(made);
    mr_sql_script_free(script);
    return status;
}

static void run(struct sql_flow *flow)
{
    struct mr_error err = {0};

    CHECK_OK(live(flow, NULL, &err), &err);
}

void sql_flow_run_until(struct sql_flow *flow, const char *point)
{
    struct mr_error err = {0};

    CHECK_FAILS(live(flow, point, &err), &err, MR_USER, "the test ends here");
}

enum mr_status sql_flow_fail(struct sql_flow *flow, struct mr_error *ret_err)
{
    memset(ret_err, 0, sizeof(*ret_err));
    return live(flow, NULL, ret_err);
}

int64_t sql_flow_metric(const struct sql_flow *flow, const char *name)
{
    char key[80];
    const char *at;

    snprintf(key, sizeof(key), "\"%s\":", name);
    at = flow->progress != NULL ? strstr(flow->progress, key) : NULL;
    return at != NULL ? strtoll(at + strlen(key), NULL, 10) : -1;
}

/* ---- Output ---- */

static enum mr_status print_rows(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_buf *out = arg;
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));

    (void)err;
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};

        for (uint32_t k = 0; k < columns; k++) {
            char text[4096];

            mr_row_print(&row, k, text, sizeof(text));
            mr_buf_printf(out, "%s%c", text, k + 1 < columns ? '|' : '\n');
        }
    }
    return MR_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void sql_flow_sort(char *lines)
{
    size_t size = strlen(lines);
    char *copy = malloc(size + 1);
    const char **list = malloc((size + 1) * sizeof(*list));
    size_t count = 0;

    memcpy(copy, lines, size + 1);
    for (char *at = copy; *at != '\0';) {
        char *end = strchr(at, '\n');

        list[count++] = at;
        if (end == NULL)
            break;
        *end = '\0';
        at = end + 1;
    }
    qsort(list, count, sizeof(*list), compare);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(list[i]);

        memcpy(lines, list[i], length);
        lines += length;
        *lines++ = '\n';
    }
    *lines = '\0';
    free(list);
    free(copy);
}

static const char *finish(struct sql_flow *flow, bool sort)
{
    if (flow->out.size == 0)
        return "";
    if (sort)
        sql_flow_sort(flow->out.data);
    return flow->out.data;
}

const char *sql_flow_run(struct sql_flow *flow, const char *sink)
{
    struct table *table = find(flow, sink);
    struct mr_batch *batch;
    int64_t id;

    run(flow);
    mr_buf_clear(&flow->out);
    while (mr_memory_step(mr_memory_table(table->key), table->seen, &batch, &id)) {
        CHECK_OK(print_rows(&flow->out, batch, NULL), NULL);
        mr_batch_unref(batch);
        table->seen++;
    }
    return finish(flow, true);
}

const char *sql_flow_last(struct sql_flow *flow, const char *sink)
{
    struct mr_memory *memory = mr_memory_table(find(flow, sink)->key);
    struct mr_batch *batch;
    int64_t newest = -1;
    int64_t id;

    for (size_t i = 0; mr_memory_step(memory, i, &batch, &id); i++) {
        newest = id > newest ? id : newest;
        mr_batch_unref(batch);
    }
    mr_buf_clear(&flow->out);
    for (size_t i = 0; mr_memory_step(memory, i, &batch, &id); i++) {
        if (id == newest)
            CHECK_OK(print_rows(&flow->out, batch, NULL), NULL);
        mr_batch_unref(batch);
    }
    return finish(flow, false);
}

/* Length of a line's first `keys` fields. */
static size_t key_size(const char *line, uint32_t keys)
{
    size_t size = 0;

    while (line[size] != '\0' && line[size] != '\n' && keys > 0) {
        if (line[size] == '|' && --keys == 0)
            break;
        size++;
    }
    return size;
}

const char *sql_flow_upserted(struct sql_flow *flow, const char *sink, uint32_t key_columns)
{
    struct mr_memory *memory = mr_memory_table(find(flow, sink)->key);
    struct mr_buf all = MR_BUF_INIT;
    struct mr_batch *batch;
    int64_t id;

    for (size_t i = 0; mr_memory_step(memory, i, &batch, &id); i++) {
        CHECK_OK(print_rows(&all, batch, NULL), NULL);
        mr_batch_unref(batch);
    }
    mr_buf_clear(&flow->out);
    for (const char *line = all.data; line != NULL && *line != '\0';
         line = strchr(line, '\n') + 1) {
        size_t size = key_size(line, key_columns);
        bool again = false;

        for (const char *later = strchr(line, '\n') + 1; *later != '\0' && !again;
             later = strchr(later, '\n') + 1)
            again = key_size(later, key_columns) == size && memcmp(later, line, size) == 0;
        if (!again)
            mr_buf_add(&flow->out, line, (size_t)(strchr(line, '\n') - line) + 1);
    }
    mr_buf_release(&all);
    return finish(flow, true);
}

enum mr_status sql_flow_check(struct sql_flow *flow, struct mr_error *ret_err)
{
    struct mr_sql_script *script;
    struct mr_sql_plan *made;
    enum mr_status status;

    memset(ret_err, 0, sizeof(*ret_err));
    status = plan(flow, true, &script, &made, ret_err);
    if (status == MR_OK) {
        mr_text_free(flow->description);
        flow->description = made->description;
        made->description = NULL;
        mr_sql_plan_free(made);
        mr_sql_script_free(script);
    }
    return status;
}

const char *sql_flow_description(struct sql_flow *flow)
{
    struct mr_error err;

    CHECK_OK(sql_flow_check(flow, &err), &err);
    return flow->description;
}

const char *sql_flow_oracle(struct sql_flow *flow, const char *select)
{
    struct mr_duck_input inputs[TABLES_MAX] = {{NULL, NULL}};
    struct mr_batch **lists[TABLES_MAX] = {NULL};
    struct mr_batch *const *batches[TABLES_MAX];
    size_t counts[TABLES_MAX] = {0};
    struct mr_duck_stmt *stmt;
    struct mr_error err = {0};
    size_t count = 0;

    for (size_t i = 0; i < flow->count; i++) {
        struct table *table = &flow->tables[i];
        int64_t id;

        if (table->schema == NULL)
            continue;
        inputs[count] = (struct mr_duck_input){table->name, table->schema};
        lists[count] = calloc(mr_memory_step_count(mr_memory_table(table->key)) + 1,
                              sizeof(struct mr_batch *));
        while (mr_memory_step(mr_memory_table(table->key), counts[count],
                              &lists[count][counts[count]], &id))
            counts[count]++;
        batches[count] = lists[count];
        count++;
    }
    CHECK_OK(mr_duck_prepare(duck_of(flow), select, inputs, count, &stmt, &err), &err);
    mr_buf_clear(&flow->out);
    CHECK_OK(mr_duck_run(stmt, batches, counts, 0, print_rows, &flow->out, &err), &err);
    mr_duck_stmt_free(stmt);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < counts[i]; k++)
            mr_batch_unref(lists[i][k]);
        free(lists[i]);
    }
    return finish(flow, true);
}

uint64_t sql_flow_late_rows(const struct sql_flow *flow)
{
    return flow->late_rows;
}

int64_t sql_flow_watermark_ms(const struct sql_flow *flow, size_t index)
{
    return index < flow->watermark_count ? flow->watermarks_ms[index] : -1;
}
