/* See disk_flow.h. */
#include "support/disk_flow.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "sql/plan.h"
#include "support/flow.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>

enum { NAMES_MAX = 128, LINES_MAX = 1000 };

/* ---------------------------------------------------------------- the queries */

#define VISITS(ts)                                                                                 \
    "CREATE TABLE visits (name TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '" ts "')\n"  \
    "  WITH (connector = 'file', path = '/in', format = 'json', maxFilesPerTrigger = 1);\n"
#define OUT(columns)                                                                               \
    "CREATE TABLE result (" columns ") WITH (connector = 'file', path = '/out', format = "         \
    "'json');\n"
#define ROW(name, second) "{\"name\":\"" name "\",\"ts\":\"2024-01-01 00:" second "\"}\n"
#define PAIR(id, k, second) "{\"id\":" #id ",\"k\":" #k ",\"ts\":\"2024-01-01 00:" second "\"}\n"

static const char *const sums[] = {
    "{\"k\": 1, \"v\": 1}\n{\"k\": 10, \"v\": 100}\n",
    "{\"k\": 1, \"v\": 2}\n{\"k\": 11, \"v\": 100}\n",
    "{\"k\": 1, \"v\": 3}\n{\"k\": 10, \"v\": 100}\n",
    "{\"k\": 1, \"v\": 4}\n{\"k\": 13, \"v\": 100}\n",
};
static const char *const visits[] = {
    ROW("ann", "00:00") ROW("bob", "00:00"),
    ROW("ann", "00:16") ROW("bob", "00:03"),
    ROW("ann", "00:08") ROW("tick", "01:00"),
    ROW("late", "00:01") ROW("end", "50:00"),
};
static const char *const left_rows[] = {
    PAIR(1, 1, "00:00") PAIR(2, 2, "00:01"),
    PAIR(4, 1, "00:20"),
    PAIR(100, -1, "50:00"),
};
static const char *const right_rows[] = {
    PAIR(11, 1, "00:02") PAIR(12, 4, "00:03"),
    PAIR(14, 1, "00:22"),
    PAIR(200, -2, "50:00"),
};

const struct disk_flow disk_flows[] = {
    {"sum", sums, NULL, NULL, 4},
    {"two-inserts", visits, NULL,
     VISITS("5 seconds")
         OUT("name TEXT, ts TIMESTAMP") "CREATE TABLE counts (s TIMESTAMP, name TEXT, n BIGINT)\n"
                                        "  WITH (connector = 'file', path = '/out2', format = "
                                        "'json');\n"
                                        "INSERT INTO result SELECT upper(name), ts FROM visits;\n"
                                        "INSERT INTO counts SELECT window_start, name, count(*) AS "
                                        "n FROM visits\n"
                                        "  GROUP BY window(ts, '10 seconds'), name;\n",
     4},
    {"join", left_rows, right_rows,
     "CREATE TABLE a (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 "
     "seconds')\n"
     "  WITH (connector = 'file', path = '/in', format = 'json', maxFilesPerTrigger = 1);\n"
     "CREATE TABLE b (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 "
     "seconds')\n"
     "  WITH (connector = 'file', path = '/in2', format = 'json', maxFilesPerTrigger = 1);\n" OUT(
         "l BIGINT, r BIGINT") "INSERT INTO result SELECT a.id, b.id FROM a FULL JOIN b ON a.k = "
                               "b.k AND\n"
                               "  a.ts BETWEEN b.ts - INTERVAL '5 seconds' AND b.ts + INTERVAL '5 "
                               "seconds';\n",
     3},
    {"sessions", visits, NULL,
     VISITS("20 seconds")
         OUT("name TEXT, s TIMESTAMP, e TIMESTAMP, n BIGINT") "INSERT INTO result SELECT name, "
                                                              "session_window.start, "
                                                              "session_window.end, count(*)\n"
                                                              "  FROM visits GROUP BY "
                                                              "session_window(ts, '10 seconds'), "
                                                              "name;\n",
     4},
    {"dedup", visits, NULL,
     VISITS("5 seconds") OUT("name TEXT, ts TIMESTAMP") "INSERT INTO result SELECT name, ts FROM\n"
                                                        "  drop_duplicates_within_watermark(TABLE "
                                                        "visits, DESCRIPTOR(name));\n",
     4},
};
const size_t disk_flow_count = sizeof(disk_flows) / sizeof(disk_flows[0]);

const struct disk_flow *disk_flow_named(const char *name)
{
    for (size_t i = 0; i < disk_flow_count; i++) {
        if (strcmp(disk_flows[i].name, name) == 0)
            return &disk_flows[i];
    }
    FAIL("there is no query '%s'", name);
    return NULL;
}

/* ---------------------------------------------------------------- input */

static void put_files(struct mr_env *env, const char *dir, const char *const *texts, size_t count)
{
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(env, dir, &err), &err);
    for (size_t i = 0; i < count; i++) {
        char name[32];

        snprintf(name, sizeof(name), "f%zu.json", i);
        CHECK_OK(mr_durable_put(env, dir, name, texts[i], strlen(texts[i]), true, &err), &err);
        mr_env_sleep_ns(env, 1000000); /* so that the files differ in age */
    }
}

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

/* files: at most the flow's own number; the last ones are left out. */
void disk_flow_prepare(const struct disk_flow *flow, struct mr_env *env, size_t files)
{
    files = files < flow->files ? files : flow->files;
    mr_log_set_sink(quiet, NULL);
    put_files(env, "/in", flow->left, files);
    if (flow->right != NULL)
        put_files(env, "/in2", flow->right, files);
}

/* ---------------------------------------------------------------- running */

static void configure(struct mr_query_config *config)
{
    config->name = "crash";
    config->checkpoint_dir = "/cp";
    config->trigger = MR_TRIGGER_CAUGHT_UP;
    config->workers = 1;
    config->segment_bytes = 16384; /* so that segments rotate within the test */
    config->snapshot_every = 2;
}

static struct {
    uint64_t nth, count;
    bool forever;
} allocations;

void disk_flow_fail_allocation(uint64_t nth, bool forever)
{
    allocations.nth = nth;
    allocations.forever = forever;
}

uint64_t disk_flow_allocations(void)
{
    return allocations.count;
}

static enum mr_status run_graph(struct mr_env *env, struct mr_graph *graph,
                                const struct mr_query_config *config, struct mr_error *err)
{
    struct mr_query *query = NULL;
    enum mr_status status;

    allocations.count = mr_alloc_count();
    mr_alloc_fail_at(allocations.nth, allocations.forever);
    status = mr_query_new(env, graph, config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    allocations.count = mr_alloc_count() - allocations.count;
    mr_alloc_fail_at(0, false);
    return status;
}

static enum mr_status run_sum(struct mr_env *env, struct mr_error *err)
{
    const struct flow_end source = {"in", "file", "path=/in max_files_per_trigger=1", NULL};
    const struct flow_end sink = {"out", "file", "path=/out", NULL};
    struct mr_query_config config;

    mr_query_config_init(&config);
    configure(&config);
    return run_graph(env, flow_sum_graph(&source, &sink, "sum"), &config, err);
}

static enum mr_status run_sql(const char *sql, struct mr_env *env, struct mr_error *err)
{
    struct mr_sql_args args = {.env = env};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    enum mr_status status;

    MR_TRY(mr_sql_script_parse("crash.sql", sql, strlen(sql), &script, err));
    status = mr_sql_plan(script, &args, &plan, err);
    if (status == MR_OK) {
        struct mr_graph *graph = plan->graph;

        plan->graph = NULL;
        configure(&plan->config);
        status = run_graph(env, graph, &plan->config, err);
    }
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    return status;
}

enum mr_status disk_flow_run(const struct disk_flow *flow, struct mr_env *env, struct mr_error *err)
{
    return flow->sql == NULL ? run_sum(env, err) : run_sql(flow->sql, env, err);
}

/* ---------------------------------------------------------------- output */

struct listing {
    char *names[NAMES_MAX];
    size_t count;
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct listing *listing = arg;

    if (kind == MR_KIND_FILE && name[0] != '.' && listing->count < NAMES_MAX)
        listing->names[listing->count++] = strdup(name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rows of one batch have no order that is promised: what a join or a window puts out follows the
 * hashes of the keys, which are other ones when the query's identity was lost as well. */
static void add_sorted_lines(struct mr_buf *text, char *data)
{
    char *lines[LINES_MAX], *rest = data;
    size_t count = 0;

    for (char *line; (line = strsep(&rest, "\n")) != NULL && count < LINES_MAX;)
        lines[count++] = line;
    CHECK(rest == NULL);
    qsort(lines, count, sizeof(char *), compare_names);
    for (size_t i = 0; i < count; i++) {
        if (lines[i][0] != '\0')
            mr_buf_printf(text, "%s\n", lines[i]);
    }
}

static void read_dir(struct mr_env *env, const char *dir, struct mr_buf *text)
{
    struct listing listing = {.count = 0};
    struct mr_error err = {0};

    if (mr_env_list(env, dir, add_name, &listing, NULL) != MR_OK)
        return;
    qsort(listing.names, listing.count, sizeof(char *), compare_names);
    for (size_t i = 0; i < listing.count; i++) {
        char path[128], *data = NULL;
        size_t size = 0;

        snprintf(path, sizeof(path), "%s/%s", dir, listing.names[i]);
        CHECK_OK(mr_durable_get(env, path, 1 << 20, &data, &size, &err), &err);
        mr_buf_printf(text, "%s:\n", path);
        add_sorted_lines(text, data);
        mr_text_free(data);
        free(listing.names[i]);
    }
}

char *disk_flow_output(struct mr_env *env)
{
    struct mr_buf text = MR_BUF_INIT;

    read_dir(env, "/out", &text);
    read_dir(env, "/out2", &text);
    mr_buf_add_char(&text, '\n');
    return mr_buf_take(&text);
}
