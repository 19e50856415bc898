/*
 * mapWithState: the state handle, C functions, expressions and built-ins, timeouts, initial states,
 * snapshots, and state that outlives crashes.
 */
#include "support/dstream.h"

#include "dstream/map_with_state.h"
#include "dstream/remember.h"
#include "env/sim.h"

#include <stdlib.h>

static struct mr_dstream *ones(struct mr_dstream *texts)
{
    return mr_map_to_pair(texts, MR_COUNT);
}

static struct mr_dstream *map_with(struct mr_dstream *pairs, struct mr_fn function)
{
    struct mr_state_spec spec = {.name = "states", .function = function};

    return mr__map_with_state_of(pairs, &spec, NULL, NULL);
}

/* Rows (key, state). */
static struct mr__initial *initial_rows(const char *const *keys, const int64_t *states,
                                        size_t count, struct mr_schema **ret_schema)
{
    const char *columns = "key VARCHAR, value BIGINT";
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr__initial *initial;

    CHECK_OK(mr_schema_parse(columns, strlen(columns), ret_schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(*ret_schema, &builder, NULL), NULL);
    for (size_t i = 0; i < count; i++) {
        mr_batch_builder_text(builder, 0, keys[i], strlen(keys[i]));
        mr_batch_builder_int(builder, 1, states[i]);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_batch_builder_free(builder);
    initial = mr__initial_of_batch(batch);
    mr_batch_unref(batch);
    return initial;
}

/* ---- the handle ---- */

/* What the function of a handle test does, and what it saw. */
struct seen {
    const char *actions; /* g: look, u: update to 7, r: remove */
    char text[256];
    bool only_timing_out;
};

static void look(struct seen *seen, const struct mr_key_state *state)
{
    const struct mr_row *row = mr_key_state_get(state);
    size_t used = strlen(seen->text);

    CHECK_EQ_INT(row != NULL, mr_key_state_exists(state));
    snprintf(seen->text + used, sizeof(seen->text) - used, "%s%s", used > 0 ? " " : "",
             mr_key_state_timing_out(state) ? "timing out " : "");
    used = strlen(seen->text);
    if (row == NULL)
        snprintf(seen->text + used, sizeof(seen->text) - used, "none");
    else
        snprintf(seen->text + used, sizeof(seen->text) - used, "%lld",
                 (long long)mr_row_int(row, 0));
}

static void act(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    struct seen *seen = arg;

    (void)out;
    if (seen->only_timing_out && call->value != NULL) {
        mr_key_state_update_int(call->state, 3);
        return;
    }
    for (const char *action = seen->actions; *action != '\0'; action++) {
        if (*action == 'g')
            look(seen, call->state);
        else if (*action == 'u')
            mr_key_state_update_int(call->state, 7);
        else
            mr_key_state_remove(call->state);
    }
}

/* One record of a key with that state (0 = none) goes through the actions. */
static enum mr_status act_on(struct test *t, int64_t state, const char *actions, char *text,
                             struct mr_error *err)
{
    struct seen seen = {.actions = actions};
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_schema *columns = NULL;
    struct mr__initial *initial = NULL;
    const char *key = "a";
    struct mr_state_spec spec = {.function = MR_FN_FULL(act, "value VARCHAR", &seen)};
    enum mr_status status;

    ds_input(d, "a");
    ds_begin(d, MR_SECONDS(1), NULL);
    if (state != 0)
        initial = initial_rows(&key, &state, 1, &columns);
    ds_collect(d, mr__map_with_state_of(ones(ds_stream(d)), &spec, columns, initial));
    status = ds_run(d, 1, err);
    strcpy(text, seen.text);
    mr_schema_unref(columns);
    ds_free(d);
    return status;
}

TEST(V88_a_key_without_state_has_none)
{
    struct mr_error err = {0};
    char text[256];

    CHECK_OK(act_on(t, 0, "g", text, &err), &err);
    CHECK_EQ_STR(text, "none");
    CHECK_OK(act_on(t, 0, "gug", text, &err), &err);
    CHECK_EQ_STR(text, "none 7");
}

TEST(V89_a_state_is_read_and_updated)
{
    struct mr_error err = {0};
    char text[256];

    CHECK_OK(act_on(t, 1, "gugug", text, &err), &err);
    CHECK_EQ_STR(text, "1 7 7");
}

TEST(V91_after_its_removal_a_state_is_neither_updated_nor_removed)
{
    struct mr_error err = {0};
    char text[256];

    CHECK_OK(act_on(t, 1, "grg", text, &err), &err);
    CHECK_EQ_STR(text, "1 none");
    CHECK_FAILS(act_on(t, 1, "ru", text, &err), &err, MR_USER,
                "updates a state after removing it (key 'a')");
    CHECK_FAILS(act_on(t, 1, "rr", text, &err), &err, MR_USER, "removes a state twice (key 'a')");
    CHECK_FAILS(act_on(t, 1, "rr", text, &err), &err, MR_USER, "test_dstream_map_with_state.c:");
}

TEST(V92_a_state_that_is_timing_out_may_only_be_read)
{
    static const char *const actions[] = {"g", "u", "r"};
    static const char *const mistakes[] = {NULL, "updates a state that is timing out (key 'a')",
                                           "removes a state that is timing out"};

    for (size_t i = 0; i < 3; i++) {
        struct seen seen = {.actions = actions[i], .only_timing_out = true};
        struct ds *d = ds_new(t, "value VARCHAR");
        struct mr_state_spec spec = {.function = MR_FN_FULL(act, "value VARCHAR", &seen),
                                     .timeout_ms = MR_SECONDS(1)};
        struct mr_dstream *mapped;
        struct mr_error err = {0};

        ds_input(d, "a | | ");
        ds_begin(d, MR_SECONDS(1), NULL);
        mapped = mr__map_with_state_of(ones(ds_stream(d)), &spec, NULL, NULL);
        mr_dstream_checkpoint(mapped, MR_SECONDS(1));
        ds_collect(d, mapped);
        if (i == 0) {
            CHECK_OK(ds_run(d, 3, &err), &err);
            CHECK_EQ_STR(seen.text, "timing out 3");
        } else {
            CHECK_FAILS(ds_run(d, 3, &err), &err, MR_USER, mistakes[i]);
        }
        ds_free(d);
    }
}

/* ---- streams ---- */

static void running_sum(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    int64_t sum = mr_row_int(call->value, 0);
    struct mr_slice key = mr_row_text(call->key, 0);

    (void)arg;
    if (mr_key_state_exists(call->state))
        sum += mr_row_int(mr_key_state_get(call->state), 0);
    mr_key_state_update_int(call->state, sum);
    mr_emit_pair_str_int(out, key.data, key.size_bytes, sum);
}

static void key_twice(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    int64_t sum = mr_row_int(call->value, 0);
    struct mr_slice key = mr_row_text(call->key, 0);

    (void)arg;
    if (mr_key_state_exists(call->state))
        sum += mr_row_int(mr_key_state_get(call->state), 0);
    mr_key_state_update_int(call->state, sum);
    mr_emit_str(out, key.data, key.size_bytes);
    mr_emit_str(out, key.data, key.size_bytes);
}

static void remove_or_set(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);

    (void)arg;
    if (!mr_key_state_exists(call->state)) {
        mr_key_state_update_int(call->state, mr_row_int(call->value, 0));
        return;
    }
    mr_key_state_remove(call->state);
    mr_emit_str(out, key.data, key.size_bytes);
}

/* Runs a vector with a form: the mapped rows, then the snapshots. */
static void check_form(struct test *t, const char *input, struct mr_fn function, uint64_t batches,
                       const char *expected, const char *expected_states)
{
    for (int snapshots = 0; snapshots < 2; snapshots++) {
        struct ds *d = ds_new(t, "value VARCHAR");
        struct mr_dstream *mapped;

        ds_input(d, input);
        ds_begin(d, MR_SECONDS(1), NULL);
        mapped = map_with(ones(ds_stream(d)), function);
        ds_collect(d, snapshots ? mr_state_snapshots(mapped) : mapped);
        ds_must_run(d, batches);
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, snapshots ? expected_states : expected, true));
        ds_free(d);
    }
}

#define SUM_STATES "| a:1 | a:2,b:1 | a:3,b:2,c:1 | a:4,b:3,c:1 | a:5,b:3,c:1 | a:5,b:3,c:1"

TEST(V94_one_record_may_give_several_mapped_rows)
{
    const struct ds_vector *vector = ds_vector("V94");

    check_form(t, vector->input, MR_FN_AS(key_twice, "value VARCHAR"), 7, vector->expected,
               SUM_STATES);
}

TEST(V95_a_running_sum_in_every_form)
{
    const struct ds_vector *vector = ds_vector("V95");
    const struct mr_fn forms[] = {
        MR_FN(running_sum),
        MR_SQL("coalesce(state, 0) + value, key, coalesce(state, 0) + value"),
        MR_SUM,
        MR_COUNT,
    };

    for (size_t i = 0; i < 4; i++)
        check_form(t, vector->input, forms[i], 7, vector->expected, SUM_STATES);
}

TEST(V97_states_are_removed_and_set_again)
{
    const struct ds_vector *vector = ds_vector("V97");
    const struct mr_fn forms[] = {
        MR_FN_AS(remove_or_set, "value VARCHAR"),
        MR_SQL("CASE WHEN state IS NULL THEN value END, CASE WHEN state IS NOT NULL THEN key END"),
    };

    for (size_t i = 0; i < 2; i++)
        check_form(t, vector->input, forms[i], 8, vector->expected,
                   "| a:1 | b:1 | a:1,c:1 | b:1 | a:1 | |");
}

/* Several records of a key in a batch see each other's state, whatever the form. */
TEST(records_of_one_key_in_one_batch_are_mapped_in_their_order)
{
    const struct mr_fn forms[] = {
        MR_FN(running_sum),
        MR_SQL("coalesce(state, 0) + value, key, coalesce(state, 0) + value"),
        MR_SUM,
    };

    for (size_t i = 0; i < 3; i++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

        ds_input(d, "a:1,b:10,a:2,a:3,c:5,b:20,a:4 | b:1,a:1");
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, map_with(ds_stream(d), forms[i]));
        ds_must_run(d, 2);
        CHECK_EQ_STR(ds_output(d, false), "a:1,b:10,a:3,a:6,c:5,b:30,a:10 | b:31,a:11");
        ds_free(d);
    }
}

static void remember_or_time_out(const struct mr_state_call *call, struct mr_emitter *out,
                                 void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);

    (void)arg;
    if (call->value != NULL) {
        mr_key_state_update_int(call->state, 1);
        return;
    }
    CHECK(mr_key_state_timing_out(call->state));
    CHECK_EQ_INT(mr_row_int(mr_key_state_get(call->state), 0), 1);
    mr_emit_str(out, key.data, key.size_bytes);
}

TEST(V98_keys_time_out_in_batches_of_the_checkpoint_interval)
{
    const struct ds_vector *vector = ds_vector("V98");
    const struct mr_fn forms[] = {
        MR_FN_AS(remember_or_time_out, "value VARCHAR"),
        MR_SQL("1, CASE WHEN value IS NULL THEN key END"),
    };

    for (size_t i = 0; i < 2; i++) {
        for (int snapshots = 0; snapshots < 2; snapshots++) {
            struct ds *d = ds_new(t, "value VARCHAR");
            struct mr_state_spec spec = {.function = forms[i], .timeout_ms = MR_SECONDS(3)};
            struct mr_dstream *mapped;

            ds_input(d, vector->input);
            for (int batch = 6; batch < 20; batch++)
                ds_input(d, "a");
            ds_begin(d, MR_SECONDS(1), NULL);
            mapped = mr__map_with_state_of(ones(ds_stream(d)), &spec, NULL, NULL);
            ds_collect(d, snapshots ? mr_state_snapshots(mapped) : mapped);
            ds_must_run(d, 20);
            if (snapshots == 0)
                CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
            else
                CHECK_EQ_STR(ds_output(d, true),
                             ds_tidy(d,
                                     "a:1,b:1,c:1 | a:1,b:1,c:1 | a:1,b:1,c:1 | a:1,b:1,c:1 | "
                                     "a:1,b:1,c:1 | a:1,b:1,c:1 | a:1,b:1,c:1 | a:1,b:1,c:1 | "
                                     "a:1,b:1,c:1 | a:1 | a:1 | a:1 | a:1 | a:1 | a:1 | a:1 | a:1 "
                                     "| a:1 | a:1 | a:1",
                                     true));
            ds_free(d);
        }
    }
}

TEST(V100_the_checkpoint_interval_is_ten_slides_unless_it_is_set)
{
    static const int64_t slides_ms[] = {100, 1000, 10000};
    static const int64_t set_ms[] = {2000, 2000, 20000};

    for (size_t i = 0; i < 3; i++) {
        struct ds *d = ds_new(t, "value VARCHAR");
        struct mr_dstream *mapped;

        ds_begin(d, slides_ms[i], NULL);
        mapped = map_with(ones(ds_stream(d)), MR_SUM);
        CHECK_EQ_INT(mr__checkpoint_ms(mapped), 10 * slides_ms[i]);
        CHECK_EQ_INT(mapped->checkpoint_ms, 0);
        mr_dstream_checkpoint(mapped, set_ms[i]);
        CHECK_EQ_INT(mr__checkpoint_ms(mapped), set_ms[i]);
        ds_free(d);
    }
}

TEST(V101_snapshots_go_on_after_a_restart)
{
    const struct ds_vector *vector = ds_vector("V101");
    struct ds *d = ds_new(t, vector->columns);

    ds_input(d, vector->input);
    for (int run = 0; run < 2; run++) {
        struct mr_dstream *mapped;

        ds_begin(d, MR_SECONDS(1), "/cp");
        mapped = map_with(ones(ds_stream(d)), run == 0 ? MR_SUM : MR_FN(running_sum));
        mr_dstream_checkpoint(mapped, MR_SECONDS(3));
        ds_collect(d, mr_state_snapshots(mapped));
        ds_must_run(d, run == 0 ? 3 : 4);
    }
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
    ds_free(d);
}

TEST(V101_states_are_exactly_once_across_a_crash_at_any_point)
{
    static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};
    const struct ds_vector *vector = ds_vector("V101");

    for (size_t point = 0; point < 5; point++) {
        struct ds *d = ds_new(t, vector->columns);
        struct mr_error err;

        ds_input(d, vector->input);
        for (int run = 0; run < 2; run++) {
            ds_begin(d, MR_SECONDS(1), "/cp");
            ds_collect(d, mr_state_snapshots(map_with(
                              ones(ds_stream(d)),
                              run == 0 ? MR_FN(running_sum)
                                       : MR_SQL("coalesce(state, 0) + value, key, value"))));
            if (run == 1) {
                ds_must_run(d, point == 4 ? 3 : 4);
                continue;
            }
            ds_fail_at(d, points[point], 3);
            CHECK_FAILS(ds_run(d, 7, &err), &err, MR_INTERNAL, "killed at");
        }
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
        ds_free(d);
    }
}

/* ---- records and touched times ---- */

enum { NOOP, ADD, REMOVE, GET }; /* what a value of a record means */

/* Batches begin at 1000 ms: the times of the collection. */
struct timed {
    int64_t calls;
    int64_t last_time_ms;
};

static void by_value(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    bool exists = mr_key_state_exists(call->state);
    int64_t state = exists ? mr_row_int(mr_key_state_get(call->state), 0) : -1;
    struct timed *timed = arg;

    timed->calls++;
    timed->last_time_ms = call->batch_time_ms;
    if (call->value == NULL) {
        mr_emit_int(out, 1000 + state); /* timed out */
        return;
    }
    switch (mr_row_int(call->value, 0)) {
    case ADD:
        mr_key_state_update_int(call->state, state + 1);
        break;
    case REMOVE:
        mr_key_state_remove(call->state);
        mr_emit_int(out, 2000 + state); /* removed */
        break;
    case GET:
        mr_emit_int(out, state);
        break;
    default:
        break;
    }
}

struct stored {
    char text[1024];
    int64_t first_ms;
};

static bool print_stored(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                         void *arg)
{
    struct stored *stored = arg;
    size_t used = strlen(stored->text);
    int64_t touched_us, state;

    if (key_bytes == 0)
        return true;
    CHECK_EQ_UINT(value_bytes, 17);
    memcpy(&touched_us, value, 8);
    memcpy(&state, value + 9, 8);
    snprintf(stored->text + used, sizeof(stored->text) - used, "%s%.*s %lld@%lld",
             used > 0 ? ", " : "", (int)key_bytes - 3, key + 1, (long long)state,
             (long long)(touched_us / 1000 - stored->first_ms + 1000));
    return true;
}

/* What the checkpoint holds: "key state@touched", with the first batch at 1000. */
static const char *stored_states(struct ds *d, int64_t first_ms, struct stored *stored)
{
    struct mr_state *state = NULL;
    struct mr_error err = {0};

    *stored = (struct stored){.first_ms = first_ms};
    CHECK_OK(mr_state_open_reader(mr_sim_env(ds_sim(d)), "/cp", &state, &err), &err);
    CHECK_OK(
        mr_store_scan_sorted(mr_state_find(state, "states"), NULL, 0, print_stored, stored, &err),
        &err);
    mr_state_close(state);
    return stored->text;
}

/*
 * One key with a state (-1: none) touched at 1000, and a batch at 2000 with that record (-1: none).
 * threshold: 0 = no scan for timeouts.
 */
static void check_record(struct test *t, int64_t init, int64_t action, int64_t threshold,
                         const char *states, const char *output)
{
    struct timed timed = {0};
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_state_spec spec = {.name = "states",
                                 .function = MR_FN_FULL(by_value, "value BIGINT", &timed),
                                 .timeout_ms = threshold == 0 ? 0 : 2000 - threshold};
    const char *key = "key";
    struct mr_schema *columns = NULL;
    struct mr__initial *initial = NULL;
    struct mr_dstream *mapped;
    struct stored stored;
    char input[64];

    if (init >= 0)
        initial = initial_rows(&key, &init, 1, &columns);
    snprintf(input, sizeof(input),
             action < 0 ? "probe:0 | | probe:0" : "probe:0 | key:%d | probe:0", (int)action);
    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), "/cp");
    mapped = mr__map_with_state_of(ds_stream(d), &spec, columns, initial);
    mr_dstream_checkpoint(mapped, MR_SECONDS(1));
    ds_collect(d, mapped);
    ds_must_run(d, 2);
    if (strcmp(output, "|") == 0 || strlen(output) > 0)
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, output, true));
    int64_t first_ms =
        timed.last_time_ms - (timed.calls > 1 ? MR_SECONDS(1) : 0); /* the second call's batch */
    CHECK_EQ_STR(stored_states(d, first_ms, &stored), states);
    CHECK_EQ_INT(timed.calls,
                 1 + (action >= 0) +
                     (strstr(output, "100") != NULL || strstr(output, "1123") != NULL));
    mr_schema_unref(columns);
    ds_free(d);
}

TEST(V103_a_key_without_records_is_not_touched)
{
    check_record(t, 0, -1, 0, "key 0@1000", "|");
}

TEST(V104_a_record_that_changes_nothing_leaves_the_state_and_its_time)
{
    check_record(t, 0, NOOP, 0, "key 0@1000", "|");
}

TEST(V106_a_function_reads_the_state)
{
    check_record(t, -1, GET, 0, "", "| -1");
    check_record(t, 123, GET, 0, "key 123@1000", "| 123");
}

TEST(V107_an_update_sets_the_state_and_its_time)
{
    check_record(t, -1, ADD, 0, "key 0@2000", "|");
    check_record(t, 0, ADD, 0, "key 1@2000", "|");
}

TEST(V109_a_key_as_old_as_the_threshold_stays)
{
    check_record(t, 123, -1, 1000, "key 123@1000", "|");
}

TEST(V110_an_older_one_times_out)
{
    check_record(t, 123, -1, 1001, "", "| 1123");
}

TEST(V112_a_removed_key_does_not_time_out)
{
    check_record(t, 123, REMOVE, 1001, "", "| 2123");
}

TEST(V113_a_record_without_state_times_nothing_out)
{
    check_record(t, -1, NOOP, 1001, "", "|");
}

/* MWS-2: with a timeout a record refreshes its key, also when it does not update. */
TEST(a_record_refreshes_its_key_when_there_is_a_timeout)
{
    check_record(t, 5, NOOP, 1001, "key 5@2000", "|");
}

/* Actions of batches after one that begins with k1:0 and k2:0; states after the last of them. */
static void check_steps(struct test *t, const char *input, uint64_t batches, const char *states)
{
    static const char *const keys[] = {"k1", "k2"};
    static const int64_t zeros[] = {0, 0};
    struct timed timed = {0};
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_state_spec spec = {.name = "states",
                                 .function = MR_FN_FULL(by_value, "value BIGINT", &timed)};
    struct mr_schema *columns = NULL;
    struct mr__initial *initial = initial_rows(keys, zeros, 2, &columns);
    struct stored stored;
    int64_t first_ms;

    ds_input(d, "probe:0");
    ds_input(d, input);
    ds_input(d, "probe:0");
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr__map_with_state_of(ds_stream(d), &spec, columns, initial));
    ds_must_run(d, 1 + batches);
    first_ms = timed.last_time_ms - MR_SECONDS((int64_t)batches);
    CHECK_EQ_STR(stored_states(d, first_ms, &stored), states);
    mr_schema_unref(columns);
    ds_free(d);
}

TEST(V115_V116_V118_V119_V121_V122_states_of_keys_through_batches)
{
    check_steps(t, "k3:1", 1, "k1 0@1000, k2 0@1000, k3 0@2000");
    check_steps(t, "k3:1 | k4:1", 2, "k1 0@1000, k2 0@1000, k3 0@2000, k4 0@3000");
    check_steps(t, "k1:1 | x:0,k2:1,k2:1,k3:1", 2, "k1 1@2000, k2 2@3000, k3 0@3000");
    check_steps(t, "k1:1 | x:0,k2:1,k2:1,k3:1 | k3:1", 3, "k1 1@2000, k2 2@3000, k3 1@4000");
    check_steps(t, "k1:1 | x:0,k2:1,k2:1,k3:1 | k3:1 | k1:2,k3:2 | k2:2,k0:2,k3:1", 5, "k3 0@6000");
    check_steps(t, "k1:1 | x:0,k2:1,k2:1,k3:1 | k3:1 | k1:2,k3:2 | k2:2,k0:2,k3:1 | k3:2", 6, "");
}

/* When a key was touched is part of its state: a restart in between changes nothing. */
TEST(timeouts_fire_in_the_same_batch_with_and_without_a_restart)
{
    for (uint64_t first = 1; first <= 7; first++) {
        struct ds *d = ds_new(t, "value VARCHAR");

        ds_input(d, "a,b | b | | | | | | ");
        for (int run = 0; run < 2; run++) {
            struct mr_state_spec spec = {
                .name = "states",
                .function = run == 0 ? MR_FN_AS(remember_or_time_out, "value VARCHAR")
                                     : MR_SQL("1, CASE WHEN value IS NULL THEN "
                                              "key END"),
                .timeout_ms = MR_SECONDS(3)};
            struct mr_dstream *mapped;

            ds_begin(d, MR_SECONDS(1), "/cp");
            mapped = mr_map_with_state(ones(ds_stream(d)), &spec);
            mr_dstream_checkpoint(mapped, MR_SECONDS(1));
            ds_collect(d, mapped);
            ds_must_run(d, run == 0 ? first : 8 - first);
        }
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, "| | | | a | b | |", true));
        ds_free(d);
    }
}

/* A batch without a dataset is a batch without records, and still looks for timeouts. */
TEST(batches_without_a_dataset_time_keys_out_too)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_state_spec spec = {.function = MR_FN_AS(remember_or_time_out, "value VARCHAR"),
                                 .timeout_ms = MR_SECONDS(1)};
    struct mr_dstream *mapped;

    ds_input(d, "a | null | null | null");
    ds_begin(d, MR_SECONDS(1), NULL);
    mapped = mr_map_with_state(ones(ds_stream(d)), &spec);
    mr_dstream_checkpoint(mapped, MR_SECONDS(1));
    ds_collect(d, mapped);
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, "| | a |", true));
    ds_free(d);
}

TEST(a_state_may_be_a_struct)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_state_spec spec = {
        .function = MR_SQL("struct_pack(n := coalesce(state.n, 0) + 1, most := "
                           "greatest(coalesce(state.most, 0), value)),\n"
                           "key, coalesce(state.n, 0) * 100 + greatest(coalesce(state.most, 0), "
                           "value)"),
        .state_columns = "state STRUCT(n BIGINT, most BIGINT)",
    };

    ds_input(d, "a:5,a:3 | a:9,b:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_map_with_state(ds_stream(d), &spec));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "a:5,a:105 | a:209,b:1");
    ds_free(d);
}

/* ---- several partitions, large batches ---- */

TEST(partitions_of_a_stateful_stream_are_ranges_of_its_keys)
{
    const struct mr_fn forms[] = {
        MR_FN(running_sum),
        MR_SQL("coalesce(state, 0) + value, key, coalesce(state, 0) + value"),
        MR_SUM,
    };
    char first[16384] = "", expected[16384] = "";

    for (size_t i = 0; i < 3; i++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_dstream *mapped;

        for (int key = 0; key < 200; key++)
            snprintf(first + strlen(first), sizeof(first) - strlen(first), "%sk%d:1,k%d:2",
                     key > 0 ? "," : "", key, key);
        ds_input(d, first);
        ds_input(d, first);
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 2;
        mr__context_config(ds_context(d))->parallel_min_bytes = 1;
        mapped = map_with(ds_stream(d), forms[i]);
        mr_dstream_set_partitions(mapped, 5);
        ds_collect(d, mr_state_snapshots(mapped));
        ds_must_run(d, 2);
        for (int batch = 1; batch <= 2; batch++) {
            for (int key = 0; key < 200; key++)
                snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected),
                         "%sk%d:%d",
                         key > 0      ? ","
                         : batch == 2 ? "|"
                                      : "",
                         key, 3 * batch);
        }
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, expected, true));
        first[0] = expected[0] = '\0';
        ds_free(d);
    }
}

/* More records than between two looks at the store, some keys twice: the running values of 40,000
 * records with 30,000 keys. */
TEST(all_forms_agree_over_several_slices)
{
    enum { RECORDS = 40000, KEYS = 30000 };
    const struct mr_fn forms[] = {
        MR_FN(running_sum),
        MR_SQL("coalesce(state, 0) + value, key, coalesce(state, 0) + value"),
        MR_SUM,
    };
    int64_t sums[2] = {0}, state;
    char expected[128];

    for (int batch = 0; batch < 2; batch++) {
        for (int64_t record = 0; record < RECORDS; record++) {
            int64_t key = record % KEYS, before = key < RECORDS - KEYS ? 2 * batch : batch;

            state = before + (record >= KEYS ? 2 : 1);
            sums[batch] += key * state;
        }
    }
    snprintf(expected, sizeof(expected), "%lld|%lld", (long long)sums[0], (long long)sums[1]);
    for (size_t i = 0; i < 3; i++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct mr_dstream *records, *mapped;

        ds_input(d, "0 | 0");
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 2;
        mr__context_config(ds_context(d))->parallel_min_bytes = 1;
        records = mr_flat_map(ds_stream(d), MR_SQL("range(40000)"));
        mapped = map_with(mr_map_to_pair(records, MR_SQL("CAST(value % 30000 AS VARCHAR), 1")),
                          forms[i]);
        ds_collect(d, mr_reduce(mr_map(mapped, MR_SQL("CAST(key AS BIGINT) * value")), MR_SUM));
        ds_must_run(d, 2);
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, expected, true));
        ds_free(d);
    }
}

/* ---- mistakes ---- */

TEST(what_cannot_be_mapped_with_state_is_said_at_build_time)
{
    struct {
        struct mr_state_spec spec;
        const char *text;
    } wrong[] = {
        {{.function = MR_SQL("value")}, "the new state, then one mapped value"},
        {{.function = MR_MIN_OF}, "MR_SUM or MR_COUNT"},
        {{.function = MR_SUM, .state_columns = "a BIGINT, b BIGINT"}, "the state has one column"},
        {{.function = MR_SUM, .state_columns = "state VARCHAR"}, "running 'sum'"},
        {{.function = MR_SUM, .timeout_ms = -1}, "timeout of -1 ms"},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_error err = {0};

        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr__map_with_state_of(ds_stream(d), &wrong[i].spec, NULL, NULL));
        CHECK_FAILS(ds_run(d, 1, &err), &err, i == 0 ? MR_SQL_ERROR : MR_CONFIG, wrong[i].text);
        ds_free(d);
    }
}

TEST(only_map_with_state_has_snapshots)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err = {0};

    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, ds_stream(d));
    CHECK(mr_state_snapshots(ds_stream(d)) == NULL);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "only map_with_state has states");
    ds_free(d);
}

static void half_a_state(const struct mr_state_call *call, struct mr_emitter *out, void *arg)
{
    (void)out;
    (void)arg;
    (void)mr_key_state_update(call->state);
}

TEST(an_update_emits_one_row)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err = {0};

    ds_input(d, "a:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, map_with(ds_stream(d), MR_FN(half_a_state)));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_USER, "exactly one row into mr_key_state_update");
    ds_free(d);
}
