/*
 * transform_with_state: the vectors of spec/structured-vectors.md section 9 (TS-*), and what they
 * leave out: lists, maps, lifetimes, initial states, mistakes. Every run is a restart.
 */
#include "support/groups.h"
#include "support/sql_flow.h"
#include "support/test.h"

#include "base/buf.h"
#include "base/check.h"

#include <millrace/groups.h>

#include <dirent.h>
#include <stdlib.h>

enum { COUNT = 0 };

static const struct mr_state_variable count_variable[] = {
    {.name = "count", .kind = MR_STATE_VALUE, .columns = "n BIGINT"}};

static void emit(struct mr_emitter *out, const struct mr_row *key, int64_t n)
{
    struct mr_slice text = mr_row_text(key, 0);

    mr_emit_pair_str_int(out, text.data, text.size_bytes, n);
}

/* The count of a key, one more for each row. */
static int64_t add_rows(struct mr_transform *at, struct mr_rows *rows)
{
    const struct mr_row *state = mr_value_state_get(at, COUNT);
    int64_t count = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    while (mr_rows_next(rows, &row))
        count++;
    return count;
}

static void count_to_three(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                           struct mr_emitter *out, void *arg)
{
    int64_t count = add_rows(at, rows);

    (void)arg;
    if (count == 3) {
        mr_value_state_clear(at, COUNT);
        return;
    }
    mr_value_state_update_int(at, COUNT, count);
    emit(out, key, count);
}

static struct sql_flow *flow_of(struct test *t, const struct mr_transform_spec *spec,
                                const char *settings)
{
    static const char *const modes[] = {"append", "update", "complete"};
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", modes[spec->mode]);
    transform_view(f, "counts", "a", "v", spec);
    sql_flow_text(f, settings);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM counts;");
    return f;
}

static const struct mr_processor counting = {.rows = count_to_three};
static const struct mr_transform_spec counting_spec = {.processor = &counting,
                                                       .variables = count_variable,
                                                       .variable_count = 1,
                                                       .output = "k VARCHAR, n BIGINT",
                                                       .mode = MR_MODE_UPDATE};

TEST(TS_01_a_value_counts_until_three)
{
    static const char *const workers[] = {"SET workers = 1;", "SET workers = 5;"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(workers); i++) {
        struct sql_flow *f = flow_of(t, &counting_spec, workers[i]);

        sql_flow_step(f, "a", "('a')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
        CHECK_EQ_STR(sql_flow_state(f), "1/1/0/0");
        sql_flow_step(f, "a", "('a'), ('b')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\nb|1\n");
        CHECK_EQ_STR(sql_flow_state(f), "2/2/0/0");
        sql_flow_step(f, "a", "('a'), ('b')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "b|2\n");
        CHECK_EQ_STR(sql_flow_state(f), "1/1/0/1");
        sql_flow_step(f, "a", "('a'), ('c')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\nc|1\n");
        CHECK_EQ_INT(sql_flow_metric(f, "numValueStateVars"), 1);
        sql_flow_free(f);
    }
}

/* ---- TS-02 ---- */

/* The first row of 'a' or 'c' sets a timer five seconds later. */
static void count_with_timer(struct mr_transform *at, const struct mr_row *key,
                             struct mr_rows *rows, struct mr_emitter *out, void *arg)
{
    char first = mr_row_text(key, 0).data[0];

    if (!mr_value_state_exists(at, COUNT) && (first == 'a' || first == 'c'))
        CHECK(mr_timer_register(at, mr_transform_batch_time_ms(at) + 5000));
    count_to_three(at, key, rows, out, arg);
}

static void clear_and_tell(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                           struct mr_emitter *out, void *arg)
{
    (void)expiry_ms, (void)arg;
    mr_value_state_clear(at, COUNT);
    emit(out, key, -1);
}

TEST(TS_02_timers_of_processing_time)
{
    static const struct mr_processor processor = {.rows = count_with_timer,
                                                  .timer = clear_and_tell};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f;

    spec.processor = &processor;
    spec.time_mode = MR_TIME_MODE_PROCESSING;
    f = flow_of(t, &spec, "");
    sql_flow_clock(f, 1000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    CHECK_EQ_INT(sql_flow_metric(f, "numRegisteredTimers"), 1);
    sql_flow_clock(f, 2000);
    sql_flow_step(f, "a", "('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "b|1\n");
    CHECK_EQ_INT(sql_flow_metric(f, "numRegisteredTimers"), 0);
    sql_flow_clock(f, 12000);
    sql_flow_step(f, "a", "('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|-1\nb|2\n");
    CHECK_EQ_INT(sql_flow_metric(f, "numExpiredTimers"), 1);
    sql_flow_clock(f, 13000);
    sql_flow_step(f, "a", "('b'), ('c')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "c|1\n");
    sql_flow_clock(f, 23000);
    sql_flow_step(f, "a", "('d')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "c|-1\nd|1\n");
    sql_flow_free(f);
}

TEST(TS_02_a_timer_that_is_due_runs_a_batch_without_data)
{
    static const struct mr_processor processor = {.rows = count_with_timer,
                                                  .timer = clear_and_tell};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f;

    spec.processor = &processor;
    spec.time_mode = MR_TIME_MODE_PROCESSING;
    f = flow_of(t, &spec, "");
    sql_flow_clock(f, 1000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    sql_flow_clock(f, 5000);
    CHECK_EQ_STR(sql_flow_run(f, "out"), "");
    sql_flow_clock(f, 6500);
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|-1\n");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "");
    sql_flow_free(f);
}

/* ---- TS-04 ---- */

static size_t timers_seen;

static void three_timers(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                         struct mr_emitter *out, void *arg)
{
    bool first = !mr_value_state_exists(at, COUNT);
    int64_t now = mr_transform_batch_time_ms(at);

    (void)arg;
    mr_value_state_update_int(at, COUNT, add_rows(at, rows));
    if (!first)
        return;
    for (int i = 3; i > 0; i--)
        CHECK(mr_timer_register(at, now + i * 5000));
    CHECK(mr_timer_register(at, now + 5000)); /* again: it is there already */
    CHECK_EQ_INT(mr_timer_count(at), 3);
    CHECK_EQ_INT(mr_timer_at(at, 0), now + 5000);
    CHECK_EQ_INT(mr_timer_at(at, 3), -1);
    emit(out, key, 1);
}

static void tell_count(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                       struct mr_emitter *out, void *arg)
{
    (void)arg;
    timers_seen = mr_timer_count(at);
    CHECK_EQ_INT(mr_timer_at(at, 0), expiry_ms);
    emit(out, key, mr_row_int(mr_value_state_get(at, COUNT), 0));
}

TEST(TS_04_several_timers_of_one_key)
{
    static const struct mr_processor processor = {.rows = three_timers, .timer = tell_count};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f;

    spec.processor = &processor;
    spec.time_mode = MR_TIME_MODE_PROCESSING;
    f = flow_of(t, &spec, "");
    sql_flow_clock(f, 1000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    sql_flow_clock(f, 7000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\n");
    CHECK_EQ_INT(timers_seen, 3);
    sql_flow_clock(f, 12000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|3\n");
    sql_flow_clock(f, 17000);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|4\n");
    CHECK_EQ_INT(timers_seen, 1);
    sql_flow_free(f);
}

/* ---- TS-05 ---- */

static void latest(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                   struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_value_state_get(at, COUNT);
    int64_t most = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(rows, &row)) {
        if (mr_row_int(&row, 1) / 1000000 > most)
            most = mr_row_int(&row, 1) / 1000000;
    }
    while (mr_timer_count(at) > 0)
        CHECK(mr_timer_delete(at, mr_timer_at(at, 0)));
    CHECK(mr_timer_register(at, (most + 5) * 1000));
    mr_value_state_update_int(at, COUNT, most);
    emit(out, key, most);
}

TEST(TS_05_timers_of_event_time)
{
    static const struct mr_processor processor = {.rows = latest, .timer = clear_and_tell};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f = sql_flow_new(t);

    spec.processor = &processor;
    spec.time_mode = MR_TIME_MODE_EVENT;
    sql_flow_source(f, "a", "k VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
    sql_flow_sink(f, "out", "", "update");
    transform_view(f, "latest", "a", "k", &spec);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM latest;");
    sql_flow_step(f, "a",
                  "('a', to_timestamp(11)), ('a', to_timestamp(13)), "
                  "('a', to_timestamp(15))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|15\n");
    sql_flow_step(f, "a", "('a', to_timestamp(4))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "");
    sql_flow_step(f, "a", "('a', to_timestamp(10))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|15\n");
    sql_flow_step(f, "a", "('b', to_timestamp(31))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|-1\nb|31\n");
    sql_flow_free(f);
}

/* ---- TS-07 ---- */

/* One run of a program, then another one over the same checkpoint: the error, or what came out. */
static enum mr_status change(struct test *t, const char *settings,
                             const struct mr_transform_spec *before,
                             const struct mr_transform_spec *after, char *rows, size_t size,
                             struct mr_error *err)
{
    struct sql_flow *f = flow_of(t, before, settings);
    struct mr_transform_frame frame = {.keys = "v", .spec = *after};
    struct mr_sql_program_view view = {
        .name = "counts", .input = "a", .plan = mr_transform_plan, .arg = &frame};
    enum mr_status status;

    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    frame.spec.name = "counts";
    sql_flow_view_replace(f, &view);
    sql_flow_step(f, "a", "('a')");
    status = sql_flow_fail(f, err);
    if (status == MR_OK)
        snprintf(rows, size, "%s", sql_flow_run(f, "out"));
    sql_flow_free(f);
    return status;
}

TEST(TS_07_another_time_mode_is_refused)
{
    struct mr_transform_spec after = counting_spec;
    struct mr_error err;
    char rows[80];

    after.time_mode = MR_TIME_MODE_PROCESSING;
    CHECK_FAILS(change(t, "", &counting_spec, &after, rows, sizeof(rows), &err), &err, MR_CONFIG,
                "operator 'counts.groups': rebuild");
}

TEST(TS_07_a_value_that_becomes_a_list_is_refused)
{
    static const struct mr_state_variable list[] = {
        {.name = "count", .kind = MR_STATE_LIST, .columns = "n BIGINT"}};
    struct mr_transform_spec after = counting_spec;
    struct mr_error err;
    char rows[80];

    after.variables = list;
    CHECK_FAILS(change(t, "", &counting_spec, &after, rows, sizeof(rows), &err), &err, MR_CONFIG,
                "operator 'counts.groups'");
}

TEST(TS_07_another_type_is_refused)
{
    static const struct mr_state_variable wide[] = {
        {.name = "count", .kind = MR_STATE_VALUE, .columns = "n VARCHAR"}};
    struct mr_transform_spec after = counting_spec;
    struct mr_error err;
    char rows[80];

    after.variables = wide;
    CHECK_FAILS(change(t, "", &counting_spec, &after, rows, sizeof(rows), &err), &err, MR_CONFIG,
                "operator 'counts.groups': rebuild");
}

TEST(TS_07_variables_may_be_added_and_left_out)
{
    static const struct mr_state_variable more[] = {
        {.name = "count", .kind = MR_STATE_VALUE, .columns = "n BIGINT"},
        {.name = "seen", .kind = MR_STATE_MAP, .columns = "n BIGINT", .key_column = "VARCHAR"}};
    static const char allow[] = "SET on_change = 'allow';";
    struct mr_transform_spec two = counting_spec;
    struct mr_error err;
    char rows[80];

    two.variables = more;
    two.variable_count = 2;
    CHECK_OK(change(t, allow, &counting_spec, &two, rows, sizeof(rows), &err), &err);
    CHECK_EQ_STR(rows, "a|2\n");
    CHECK_OK(change(t, allow, &two, &counting_spec, rows, sizeof(rows), &err), &err);
    CHECK_EQ_STR(rows, "a|2\n");
    CHECK_FAILS(change(t, "", &counting_spec, &two, rows, sizeof(rows), &err), &err, MR_CONFIG,
                "operator 'counts.groups': extend");
    CHECK_FAILS(change(t, "", &two, &counting_spec, rows, sizeof(rows), &err), &err, MR_CONFIG,
                "operator 'counts.groups': extend");
}

TEST(TS_07_another_mode_than_the_query_is_refused)
{
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f = sql_flow_new(t);
    struct mr_error err;

    spec.mode = MR_MODE_APPEND;
    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", "update");
    transform_view(f, "counts", "a", "v", &spec);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM counts;");
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_SQL_ERROR, "has mode append");
    sql_flow_free(f);
}

/* A handle that was kept from a call gives nothing outside of one. */
static struct mr_transform *kept;
static int64_t seen_outside;

static void keep_handle(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                        struct mr_emitter *out, void *arg)
{
    kept = at;
    count_to_three(at, key, rows, out, arg);
}

static void use_kept(void *arg)
{
    (void)arg;
    seen_outside = mr_value_state_exists(kept, COUNT) ? 1 : 0;
    if (mr_timer_register(kept, 1000))
        seen_outside = 2;
}

TEST(TS_07_a_handle_gives_nothing_outside_of_a_call)
{
    static const struct mr_processor processor = {.rows = keep_handle, .close = use_kept};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f;

    seen_outside = -1;
    spec.processor = &processor;
    f = flow_of(t, &spec, "");
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    CHECK_EQ_INT(seen_outside, 0);
    sql_flow_free(f);
}

/* ---- TS-08 ---- */

TEST(TS_08_one_file_a_batch_until_caught_up)
{
    struct sql_flow *f = flow_of(t, &counting_spec, "");

    sql_flow_steps_per_batch(f, 1);
    sql_flow_step(f, "a", "('a')");
    sql_flow_step(f, "a", "('b')");
    sql_flow_step(f, "a", "('c')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\nb|1\nc|1\n");
    CHECK_EQ_INT(sql_flow_metric(f, "batchId"), 2);
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\n");
    CHECK_EQ_INT(sql_flow_metric(f, "batchId"), 3);
    sql_flow_free(f);
}

/* ---- beyond the vectors ---- */

enum { WORDS = 0, SEEN = 1, LAST = 2 };

static const struct mr_state_variable all_kinds[] = {
    {.name = "words", .kind = MR_STATE_LIST, .columns = "word VARCHAR", .ttl_ms = 10000},
    {.name = "seen",
     .kind = MR_STATE_MAP,
     .columns = "n BIGINT, at_ms BIGINT",
     .key_column = "VARCHAR",
     .ttl_ms = 10000},
    {.name = "last", .kind = MR_STATE_VALUE, .columns = "word VARCHAR", .ttl_ms = 20000}};

/* Rows are (key, word): appends to the list, counts in the map; emits list and map as text. */
static void keep_words(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                       struct mr_emitter *out, void *arg)
{
    struct mr_slice name = mr_row_text(key, 0);
    char text[400] = "";
    struct mr_row row;
    size_t used = 0;

    (void)arg;
    while (mr_rows_next(rows, &row)) {
        struct mr_slice word = mr_row_text(&row, 1);
        struct mr_map_key entry = mr_map_key_text(word.data, word.size_bytes);
        const struct mr_row *old = mr_map_state_get(at, SEEN, entry);
        int64_t n = old != NULL ? mr_row_int(old, 0) + 1 : 1;
        struct mr_emitter *to;

        if (word.size_bytes == 0)
            continue;
        if (word.data[0] == '-') {
            mr_map_state_remove(at, SEEN, mr_map_key_text(word.data + 1, word.size_bytes - 1));
            continue;
        }
        mr_emit_str(mr_list_state_append(at, WORDS), word.data, word.size_bytes);
        to = mr_map_state_update(at, SEEN, entry);
        mr_emit_int(to, n);
        mr_emit_int(to, mr_transform_batch_time_ms(at));
        mr_emit_end(to);
        mr_emit_str(mr_value_state_update(at, LAST), word.data, word.size_bytes);
    }
    for (int64_t i = 0; i < mr_list_state_count(at, WORDS); i++) {
        struct mr_slice word = mr_row_text(mr_list_state_item(at, WORDS, i), 0);

        used += (size_t)snprintf(text + used, sizeof(text) - used, "%.*s ", (int)word.size_bytes,
                                 word.data);
    }
    for (int64_t i = 0; i < mr_map_state_count(at, SEEN); i++) {
        struct mr_slice word = mr_row_text(mr_map_state_key_at(at, SEEN, i), 0);

        used += (size_t)snprintf(text + used, sizeof(text) - used, "%.*s=%lld ",
                                 (int)word.size_bytes, word.data,
                                 (long long)mr_row_int(mr_map_state_value_at(at, SEEN, i), 0));
    }
    if (mr_value_state_exists(at, LAST)) {
        struct mr_slice word = mr_row_text(mr_value_state_get(at, LAST), 0);

        used += (size_t)snprintf(text + used, sizeof(text) - used, "last %.*s",
                                 (int)word.size_bytes, word.data);
    }
    mr_emit_pair_str_str(out, name.data, name.size_bytes, text, used);
}

static struct sql_flow *words_flow(struct test *t, const struct mr_transform_spec *spec)
{
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_source(f, "a", "k VARCHAR, w VARCHAR", "");
    sql_flow_sink(f, "out", "", "update");
    transform_view(f, "words", "a", "k", spec);
    sql_flow_text(f, "SET retries = 0; INSERT INTO out SELECT * FROM words;");
    return f;
}

static const struct mr_processor words_processor = {.rows = keep_words};
static const struct mr_transform_spec words_spec = {.processor = &words_processor,
                                                    .variables = all_kinds,
                                                    .variable_count = 3,
                                                    .output = "k VARCHAR, t VARCHAR",
                                                    .time_mode = MR_TIME_MODE_PROCESSING,
                                                    .mode = MR_MODE_UPDATE};

TEST(lists_and_maps_keep_what_is_put_into_them_until_their_life_ends)
{
    struct sql_flow *f = words_flow(t, &words_spec);

    sql_flow_clock(f, 1000);
    sql_flow_step(f, "a", "('x', 'to'), ('x', 'be'), ('x', 'to'), ('y', 'or')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|to be to be=1 to=2 last to\ny|or or=1 last or\n");
    CHECK_EQ_STR(sql_flow_state(f), "6/6/0/0");
    sql_flow_clock(f, 6000);
    sql_flow_step(f, "a", "('x', 'not')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|to be to not be=1 not=1 to=2 last not\n");
    sql_flow_step(f, "a", "('x', '-be')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|to be to not not=1 to=2 last not\n");
    sql_flow_clock(f, 10999);
    sql_flow_step(f, "a", "('x', '')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|to be to not not=1 to=2 last not\n");
    sql_flow_clock(f, 11000); /* those of the first batch are over; 'y' has none left */
    sql_flow_step(f, "a", "('x', '')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|not not=1 last not\n");
    CHECK_EQ_INT(sql_flow_metric(f, "numValuesRemovedDueToTTLExpiry"), 6);
    sql_flow_clock(f, 30000);
    sql_flow_step(f, "a", "('x', '')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|\n");
    CHECK_CONTAINS(sql_flow_state(f), "0/");
    sql_flow_free(f);
}

/* ---- initial state ---- */

static void begin_count(struct mr_transform *at, const struct mr_row *key, const struct mr_row *row,
                        void *arg)
{
    const struct mr_row *state = mr_value_state_get(at, COUNT);

    (void)key, (void)arg;
    mr_value_state_update_int(at, COUNT,
                              (state != NULL ? mr_row_int(state, 0) : 0) + mr_row_int(row, 1));
}

TEST(an_initial_state_is_handled_before_the_first_rows_and_once)
{
    static const struct mr_processor processor = {.rows = count_to_three, .initial = begin_count};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f = sql_flow_new(t);

    spec.processor = &processor;
    spec.initial_state =
        sql_flow_batch(f, "SELECT CAST(k AS VARCHAR) AS k, CAST(n AS BIGINT) AS n FROM (VALUES "
                          "('a', 10), ('a', 20), ('b', 5)) t(k, n)");
    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", "update");
    transform_view(f, "counts", "a", "v", &spec);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM counts;");
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|31\n");
    sql_flow_step(f, "a", "('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|32\nb|6\n");
    mr_batch_unref((struct mr_batch *)(uintptr_t)spec.initial_state);
    sql_flow_free(f);
}

/* ---- mistakes ---- */

static int mistake;

static void make_mistake(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                         struct mr_emitter *out, void *arg)
{
    (void)key, (void)rows, (void)out, (void)arg;
    switch (mistake) {
    case 0:
        mr_emit_null(mr_value_state_update(at, 2));
        break;
    case 1:
        (void)mr_list_state_put(at, WORDS);
        break;
    case 2:
        (void)mr_map_state_contains(at, SEEN, mr_map_key_int(1));
        break;
    case 3:
        mr_emit_str(mr_list_state_append(at, SEEN), "x", 1);
        break;
    case 4:
        (void)mr_value_state_get(at, 3);
        break;
    case 5:
        mr_timer_register(at, -5);
        break;
    default:
        break;
    }
}

TEST(mistakes_fail_the_call_with_the_key_and_the_variable)
{
    static const struct mr_processor processor = {.rows = make_mistake};
    static const char *const texts[] = {"nothing but nulls; clear or remove it instead",
                                        "at least one row",
                                        "another type than its keys",
                                        "uses variable 'seen' as a list; it is a map",
                                        "uses variable 3 of 3",
                                        "before the epoch"};
    struct mr_transform_spec spec = words_spec;

    spec.processor = &processor;
    for (mistake = 0; mistake < (int)MR_ARRAY_SIZE(texts); mistake++) {
        struct sql_flow *f = words_flow(t, &spec);
        struct mr_error err;

        sql_flow_step(f, "a", "('x', 'to')");
        CHECK_FAILS(sql_flow_fail(f, &err), &err, MR_USER, texts[mistake]);
        CHECK_CONTAINS(err.text, "key 'x'");
        sql_flow_free(f);
    }
}

TEST(a_lifetime_needs_processing_time)
{
    struct mr_transform_spec spec = words_spec;
    struct sql_flow *f;
    struct mr_error err;

    spec.time_mode = MR_TIME_MODE_NONE;
    f = words_flow(t, &spec);
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_CONFIG, "lifetime of variable 'words'");
    sql_flow_free(f);
}

/* ---- Chains ---- */

static void count_all(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                      struct mr_emitter *out, void *arg)
{
    int64_t count = add_rows(at, rows);

    (void)arg;
    mr_value_state_update_int(at, COUNT, count);
    emit(out, key, count);
}

/* Without a name of its own the second is 'counts.groups.groups', so its stores look like variables
 * of the first one, 'counts.groups'. Every run is a restart. */
static void chain_keeps_counting(struct test *t, enum mr_time_mode time_mode)
{
    static const struct mr_processor processor = {.rows = count_all};
    struct mr_transform_spec spec = counting_spec;
    struct mr_transform_frame second = {.keys = "k"};
    struct mr_sql_program_view view = {
        .name = "second", .input = "counts", .plan = mr_transform_plan, .arg = &second};
    struct sql_flow *f = sql_flow_new(t);

    spec.processor = &processor;
    spec.mode = MR_MODE_APPEND;
    spec.time_mode = time_mode;
    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", "append");
    transform_view(f, "counts", "a", "v", &spec);
    second.spec = spec;
    sql_flow_view(f, &view);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM second;");
    for (int n = 1; n <= 3; n++) {
        char expected[20];

        snprintf(expected, sizeof(expected), "a|%d\n", n);
        sql_flow_step(f, "a", "('a')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), expected);
    }
    sql_flow_free(f);
}

TEST(both_functions_of_a_chain_keep_their_state_over_restarts)
{
    chain_keeps_counting(t, MR_TIME_MODE_NONE);
    chain_keeps_counting(t, MR_TIME_MODE_PROCESSING);
}

/* ---- Workers ---- */

/* Files that one batch of so many keys leaves that each partition has some: a file is a partition.
 */
static int count_files(struct test *t, unsigned workers)
{
    static const struct mr_processor processor = {.rows = count_all};
    struct mr_transform_spec spec = counting_spec;
    struct sql_flow *f = sql_flow_new(t);
    struct mr_buf rows = MR_BUF_INIT;
    struct dirent **entries = NULL;
    char name[20], sql[1000];
    int count, files = 0;

    spec.processor = &processor;
    spec.mode = MR_MODE_APPEND;
    snprintf(name, sizeof(name), "files%u", workers);
    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", "append");
    transform_view(f, "counts", "a", "v", &spec);
    sql_flow_large_batches(f);
    snprintf(sql, sizeof(sql),
             "SET workers = %u; CREATE TABLE files WITH (connector = 'file', path = '%s', format = "
             "'csv'); INSERT INTO files SELECT k, n FROM counts; INSERT INTO out SELECT k, n FROM "
             "counts WHERE k = 'k7';",
             workers, test_path(t, name));
    sql_flow_text(f, sql);
    for (int i = 0; i < 300; i++)
        mr_buf_printf(&rows, "%s('k%d')", i > 0 ? ", " : "", i);
    CHECK(!rows.failed);
    sql_flow_step(f, "a", rows.data);
    CHECK_EQ_STR(sql_flow_run(f, "out"), "k7|1\n");
    count = scandir(test_path(t, name), &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        files += entries[i]->d_name[0] != '.';
        free(entries[i]);
    }
    free(entries);
    mr_buf_release(&rows);
    sql_flow_free(f);
    return files;
}

TEST(partitions_of_what_comes_out_do_not_depend_on_the_workers)
{
    CHECK_EQ_INT(count_files(t, 1), 8);
    CHECK_EQ_INT(count_files(t, 3), 8);
}
