/*
 * updateStateByKey: every form, removal, and state that outlives crashes and recompiled programs.
 */
#include "support/dstream.h"

#include "dstream/update.h"

#include <millrace/rdd.h>

#include <stdlib.h>

static void sum_values(const struct mr_update *update, struct mr_emitter *out, void *arg)
{
    int64_t sum = update->state != NULL ? mr_row_int(update->state, 0) : 0;

    (void)arg;
    for (struct mr_row row = {update->values, 0}; row.index < update->value_count; row.index++)
        sum += mr_row_int(&row, 0);
    mr_emit_int(out, sum);
}

/* The same over all keys of a partition. */
static void sum_all(struct mr_updates *updates, struct mr_emitter *out, void *arg)
{
    struct mr_update update;

    (void)arg;
    while (mr_updates_next(updates, &update)) {
        struct mr_slice key = mr_row_text(update.key, 0);
        int64_t sum = update.state != NULL ? mr_row_int(update.state, 0) : 0;

        for (struct mr_row row = {update.values, 0}; row.index < update.value_count; row.index++)
            sum += mr_row_int(&row, 0);
        mr_emit_pair_str_int(out, key.data, key.size_bytes, sum);
    }
}

/* The same function in its forms. */
enum { SUMS = 4 };
static struct mr_fn sum_at(size_t form)
{
    const struct mr_fn sums[SUMS] = {
        MR_SQL("coalesce(state, 0) + coalesce(list_sum(\"values\"), 0)"),
        MR_FN(sum_values),
        MR_SUM,
        MR_FN(sum_all),
    };
    return sums[form];
}

static struct mr_dstream *ones(struct mr_dstream *texts)
{
    return mr_map_to_pair(texts, MR_COUNT);
}

/* ---- vectors ---- */

TEST(V82_update_state_by_key_sums_into_the_state)
{
    const struct ds_vector *vector = ds_vector("V82");

    for (size_t form = 0; form < SUMS; form++) {
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_update_state_by_key(ones(ds_stream(d)), "counts", sum_at(form)));
        ds_must_run(d, 6);
        CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, vector->expected, true));
        ds_free(d);
    }
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

TEST(V83_states_begin_with_a_dataset)
{
    /* Of several rows of a key the first counts (UPD-4). */
    static const char *const keys[] = {"a", "c", "a"};
    static const int64_t states[] = {1, 2, 70};
    const struct ds_vector *vector = ds_vector("V83");

    for (size_t form = 0; form < SUMS; form++) {
        struct ds *d = ds_new(t, vector->columns);
        struct mr_schema *columns = NULL;

        ds_input(d, vector->input);
        for (int run = 0; run < 2; run++) { /* a restart does not begin again */
            struct mr__initial *initial = initial_rows(keys, states, 3, &columns);

            ds_begin(d, MR_SECONDS(1), "/cp");
            ds_collect(d, mr__update_state_by_key_of(ones(ds_stream(d)), "counts", sum_at(form),
                                                     columns, initial));
            ds_must_run(d, 3);
            columns = mr_schema_unref(columns);
        }
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
        ds_free(d);
    }
}

/* A dataset (a:1), (c:2) of the context's session. */
static struct mr_rdd *initial_rdd(struct mr_context *ctx)
{
    return mr_session_sql(mr_context_session(ctx),
                          "SELECT * FROM (VALUES ('a', 1::BIGINT), ('c', 2)) AS t(key, value)");
}

TEST(V83_the_dataset_may_be_computed)
{
    const struct ds_vector *vector = ds_vector("V83");
    struct ds *d = ds_new(t, vector->columns);

    ds_input(d, vector->input);
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_update_state_by_key_from(ones(ds_stream(d)), "counts", MR_SUM,
                                              initial_rdd(ds_context(d))));
    ds_must_run(d, 6);
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
    ds_free(d);
}

TEST(a_dataset_of_other_columns_cannot_be_the_beginning)
{
    struct ds *d = ds_new(t, "key VARCHAR, value DOUBLE");
    struct mr_error err;

    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(
        d, mr_update_state_by_key_from(ds_stream(d), "counts", MR_SUM, initial_rdd(ds_context(d))));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "\"key VARCHAR, value DOUBLE\"");
    ds_free(d);
}

/* UPD-3: nothing is known before the first dataset, not even the initial states. */
TEST(before_the_first_dataset_nothing_is_updated)
{
    static const char *const keys[] = {"a"};
    static const int64_t states[] = {5};
    struct mr_schema *columns = NULL;
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr__initial *initial = initial_rows(keys, states, 1, &columns);

    ds_input(d, "null | null | b | null");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d,
               mr__update_state_by_key_of(ones(ds_stream(d)), "counts", MR_SUM, columns, initial));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, "| | a:5,b:1 | a:5,b:1", true));
    mr_schema_unref(columns);
    ds_free(d);
}

TEST(V86_update_state_by_key_of_pairs)
{
    const struct ds_vector *vector = ds_vector("V86");

    for (size_t form = 0; form < SUMS; form++) {
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_update_state_by_key(ds_stream(d), NULL, sum_at(form)));
        ds_must_run(d, 3);
        CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, vector->expected, true));
        ds_free(d);
    }
}

/* counter * 100 + batches without a value; gone after two of them. */
static void counter_and_idle(const struct mr_update *update, struct mr_emitter *out, void *arg)
{
    int64_t state = update->state != NULL ? mr_row_int(update->state, 0) : 0;

    (void)arg;
    if (update->value_count > 0)
        mr_emit_int(out, (state / 100 + update->value_count) * 100);
    else if (state % 100 + 1 < 2)
        mr_emit_int(out, state + 1);
}

static void counters_and_idle(struct mr_updates *updates, struct mr_emitter *out, void *arg)
{
    struct mr_update update;

    (void)arg;
    while (mr_updates_next(updates, &update)) {
        struct mr_slice key = mr_row_text(update.key, 0);
        int64_t state = update.state != NULL ? mr_row_int(update.state, 0) : 0;

        if (update.value_count > 0)
            mr_emit_pair_str_int(out, key.data, key.size_bytes,
                                 (state / 100 + update.value_count) * 100);
        else if (state % 100 + 1 < 2)
            mr_emit_pair_str_int(out, key.data, key.size_bytes, state + 1);
    }
}

static struct mr_fn life_cycle_at(size_t form)
{
    const struct mr_fn forms[] = {
        MR_FN(counter_and_idle),
        MR_FN(counters_and_idle),
        MR_SQL("CASE WHEN len(\"values\") > 0 THEN (coalesce(state, 0) // 100 + len(\"values\")) * "
               "100\n"
               "     WHEN state % 100 + 1 < 2 THEN state + 1 END"),
    };
    return forms[form];
}

TEST(V85_a_key_without_values_is_updated_and_may_go)
{
    const struct ds_vector *vector = ds_vector("V85");

    for (size_t form = 0; form < 3; form++) {
        struct ds *d = ds_new(t, vector->columns);
        struct mr_dstream *states;

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        states = mr_update_state_by_key(ones(ds_stream(d)), "life", life_cycle_at(form));
        ds_collect(d, mr_map_to_pair(states, MR_SQL("key, value // 100")));
        ds_must_run(d, 6);
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
        ds_free(d);
    }
}

/* ---- rules ---- */

TEST(counts_minima_and_maxima_are_built_in)
{
    const struct mr_fn builtins[] = {MR_COUNT, MR_MIN_OF, MR_MAX_OF};
    const char *const expected[] = {"a:2,b:1 | a:3,b:1 | a:3,b:1", "a:4,b:9 | a:2,b:9 | a:2,b:9",
                                    "a:6,b:9 | a:6,b:9 | a:6,b:9"};

    for (size_t i = 0; i < 3; i++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

        ds_input(d, "a:4,a:6,b:9 | a:2 |");
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_update_state_by_key(ds_stream(d), NULL, builtins[i]));
        ds_must_run(d, 3);
        CHECK_EQ_STR(ds_output(d, false), ds_tidy(d, expected[i], false));
        ds_free(d);
    }
}

TEST(the_state_may_be_of_another_type_than_the_values)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    ds_input(d, "a:1,b:5 | a:2 | b:6,a:3");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_update_state_by_key(ds_stream(d), NULL,
                                         MR_SQL("coalesce(CAST(state AS VARCHAR), '') || "
                                                "coalesce(array_to_string(\"values\", '+'), '')")));
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, false), "a:1,b:5 | a:12,b:5 | a:123,b:56");
    ds_free(d);
}

TEST(keys_of_many_chunks_keep_their_order)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    char input[16384] = "";

    for (int i = 0; i < 900; i++)
        snprintf(input + strlen(input), sizeof(input) - strlen(input), "%sk%03d:%d",
                 i > 0 ? "," : "", (i * 37) % 900, i);
    ds_input(d, input);
    ds_input(d, "k000:1,zz:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_filter(mr_update_state_by_key(ds_stream(d), NULL, MR_FN(sum_values)),
                            MR_SQL("key IN ('k000', 'k001', 'k899', 'zz')")));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "k000:0,k001:73,k899:827 | k000:1,k001:73,k899:827,zz:1");
    ds_free(d);
}

/* A key's first row is its state, the others are put out (UPD-4). */
static void twice_and_ten_times(struct mr_updates *updates, struct mr_emitter *out, void *arg)
{
    struct mr_update update;

    (void)arg;
    while (mr_updates_next(updates, &update)) {
        struct mr_slice key = mr_row_text(update.key, 0);
        int64_t state = update.state != NULL ? mr_row_int(update.state, 0) : 1;

        mr_emit_pair_str_int(out, key.data, key.size_bytes, state * 2);
        mr_emit_pair_str_int(out, key.data, key.size_bytes, state * 10);
    }
}

TEST(a_function_of_all_keys_may_emit_several_rows_of_a_key)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_input(d, "a | b |");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_update_state_by_key(ones(ds_stream(d)), NULL, MR_FN(twice_and_ten_times)));
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, true),
                 ds_tidy(d, "a:2,a:10 | a:4,a:20,b:2,b:10 | a:8,a:40,b:4,b:20", true));
    ds_free(d);
}

static void rename_keys(struct mr_updates *updates, struct mr_emitter *out, void *arg)
{
    struct mr_update update;
    char key[16];

    (void)arg;
    while (mr_updates_next(updates, &update)) {
        struct mr_slice old = mr_row_text(update.key, 0);
        int size = snprintf(key, sizeof(key), "%.*s%c", (int)old.size_bytes, old.data,
                            update.state == NULL ? '+' : '-');

        mr_emit_pair_str_int(out, key, (size_t)size, update.value_count);
    }
}

TEST(a_function_of_all_keys_may_make_other_keys_when_it_sees_all_of_them)
{
    for (uint32_t partitions = 0; partitions < 9; partitions += 8) {
        struct ds *d = ds_new(t, "value VARCHAR");
        struct mr_dstream *states;
        struct mr_error err = {0};

        ds_input(d, "a,b,c,d,e,f | a");
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 2;
        states = mr_update_state_by_key(ones(ds_stream(d)), NULL, MR_FN(rename_keys));
        if (partitions > 0)
            mr_dstream_set_partitions(states, partitions);
        ds_collect(d, states);
        if (partitions > 0) {
            CHECK_FAILS(ds_run(d, 2, &err), &err, MR_USER, "keys of another partition");
        } else {
            CHECK_OK(ds_run(d, 2, &err), &err);
            CHECK_EQ_STR(ds_output(d, true), ds_tidy(d,
                                                     "a+:1,b+:1,c+:1,d+:1,e+:1,f+:1 | "
                                                     "a+-:0,a+:1,b+-:0,c+-:0,d+-:0,e+-:0,f+-:0",
                                                     true));
        }
        ds_free(d);
    }
}

TEST(all_forms_agree_over_many_keys_and_partitions)
{
    char input[3][16000];

    for (size_t batch = 0; batch < 3; batch++) {
        input[batch][0] = '\0';
        for (unsigned i = 0; i < 800; i++)
            snprintf(input[batch] + strlen(input[batch]),
                     sizeof(input[batch]) - strlen(input[batch]), "%sk%u:%u", i > 0 ? "," : "",
                     (unsigned)((i * 7919 + batch * 104729) % (400 + 100 * batch)), i);
    }
    char *first = NULL;
    for (size_t form = 0; form < SUMS; form++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_dstream *states;

        for (size_t batch = 0; batch < 3; batch++)
            ds_input(d, input[batch]);
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 2;
        mr__context_config(ds_context(d))->parallel_min_bytes = 1;
        states = mr_update_state_by_key(ds_stream(d), NULL, sum_at(form));
        mr_dstream_set_partitions(states, (uint32_t)form * 2 + 1);
        ds_collect(d, states);
        ds_must_run(d, 3);
        if (form == 0)
            first = strdup(ds_output(d, true));
        else
            CHECK_EQ_STR(ds_output(d, true), first);
        ds_free(d);
    }
    CHECK(strlen(first) > 1000);
    free(first);
}

/* More keys than go into one call: some old, some new, some gone. */
TEST(all_forms_agree_over_several_chunks)
{
    enum { STEP = 20000 };
    int64_t sums[2] = {0};
    char expected[128];

    for (int64_t key = 0; key < 3 * STEP; key++) {
        int64_t first = key < 2 * STEP ? key : 0, second = key >= STEP ? key : 0;

        sums[0] += key * first;
        sums[1] += key * (first + second);
    }
    snprintf(expected, sizeof(expected), "%lld|%lld", (long long)sums[0], (long long)sums[1]);
    for (size_t form = 0; form < SUMS; form++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct mr_dstream *keys, *states;

        ds_input(d, "0 | 20000");
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = 2;
        mr__context_config(ds_context(d))->parallel_min_bytes = 1;
        keys = mr_flat_map(ds_stream(d), MR_SQL("range(value, value + 40000)"));
        states = mr_update_state_by_key(
            mr_map_to_pair(keys, MR_SQL("CAST(value AS VARCHAR), value")), NULL, sum_at(form));
        ds_collect(d, mr_reduce(mr_map(states, MR_SQL("CAST(key AS BIGINT) * value")), MR_SUM));
        ds_must_run(d, 2);
        CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, expected, true));
        ds_free(d);
    }
}

TEST(a_sum_may_leave_its_range_and_come_back_within_a_batch)
{
    for (size_t form = 0; form < 3; form += 2) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_error err = {0};

        ds_input(d, "a:9223372036854775807,a:5,a:-6,b:1 | a:1,b:1 | a:1,b:1");
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_update_state_by_key(ds_stream(d), NULL, sum_at(form)));
        CHECK_FAILS(ds_run(d, 3, &err), &err, MR_BAD_DATA, "");
        CHECK_EQ_STR(ds_output(d, true), "a:9223372036854775806,b:1 | a:9223372036854775807,b:2");
        ds_free(d);
    }
}

TEST(keys_and_values_of_numbers_are_summed_natively)
{
    struct ds *d = ds_new(t, "key BIGINT, value DOUBLE");

    ds_input(d, "-5:0.5,7:1,-5:0.25 | 7:2 |");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_update_state_by_key(ds_stream(d), NULL, MR_SUM));
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, false), "-5:0.75,7:1.0 | -5:0.75,7:3.0 | -5:0.75,7:3.0");
    ds_free(d);
}

static void large_state(const struct mr_update *update, struct mr_emitter *out, void *arg)
{
    size_t size = MR_STATE_RECORD_BYTES_MAX;
    char *text = calloc(1, size);

    (void)update;
    (void)arg;
    CHECK_NOT_NULL(text);
    memset(text, 'x', size);
    mr_emit_str(out, text, size);
    free(text);
}

TEST(a_state_above_the_limit_is_refused_with_its_key_and_batch)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err = {0};

    ds_input(d, "a-key-that-is-rather-long-and-therefore-shortened-in-the-text:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    mr_context_set(ds_context(d), "retries", "0");
    ds_collect(
        d, mr_update_state_by_key(ds_stream(d), "texts", MR_FN_AS(large_state, "state VARCHAR")));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_LIMIT,
                "cannot keep the state of key 'a-key-that-is-rather-long-and-therefore-shorten...' "
                "of 'texts' in batch ");
    ds_free(d);
}

/* ---- crashes ---- */

TEST(V157_state_goes_on_after_a_crash_at_any_point)
{
    static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};
    const struct ds_vector *vector = ds_vector("V157");

    for (size_t form = 0; form < SUMS; form++) {
        for (size_t point = 0; point < 5; point++) {
            struct ds *d = ds_new(t, vector->columns);
            struct mr_error err;

            ds_input(d, vector->input);
            ds_begin(d, MR_MILLISECONDS(500), "/cp");
            ds_collect(d, mr_update_state_by_key(ones(ds_stream(d)), "counts", sum_at(form)));
            ds_fail_at(d, points[point], 6); /* the seventh */
            CHECK_FAILS(ds_run(d, 10, &err), &err, MR_INTERNAL, "killed at");
            /* Another program text, the same name: another form of the function, and operators in
             * between. */
            ds_begin(d, MR_MILLISECONDS(500), "/cp");
            ds_collect(d, mr_update_state_by_key(mr_filter(ones(ds_stream(d)), MR_SQL("true")),
                                                 "counts", sum_at((form + 1) % SUMS)));
            ds_must_run(d, point == 4 ? 3 : 4);
            CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
            ds_free(d);
        }
    }
}

TEST(V155_V169_stateless_programs_go_on_after_a_crash)
{
    const struct ds_vector *vector = ds_vector("V155");
    struct ds *d = ds_new(t, vector->columns);
    struct mr_error err;

    ds_input(d, vector->input);
    for (uint64_t batch = 3; batch <= 6; batch += 3) {
        ds_begin(d, MR_MILLISECONDS(500), "/cp");
        ds_collect(d, mr_reduce_by_key(ones(ds_stream(d)), MR_SUM));
        ds_fail_at(d, "published", batch);
        if (batch == 3)
            CHECK_FAILS(ds_run(d, 6, &err), &err, MR_INTERNAL, "killed at");
        else
            ds_must_run(d, 3);
    }
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
    ds_free(d);

    vector = ds_vector("V169");
    d = ds_new(t, vector->columns);
    ds_input(d, vector->input);
    for (int run = 0; run < 2; run++) {
        ds_begin(d, MR_MILLISECONDS(500), "/cp");
        ds_collect(d, mr_map(ds_stream(d), MR_SQL("length(value)")));
        ds_must_run(d, run == 0 ? 1 : 2);
    }
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, vector->expected, true));
    ds_free(d);
}

TEST(a_removed_key_stays_removed_after_a_restart)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_input(d, "a,b | | b | a");
    for (int run = 0; run < 4; run++) {
        ds_begin(d, MR_SECONDS(1), "/cp");
        ds_collect(d, mr_update_state_by_key(ones(ds_stream(d)), "life", MR_FN(counter_and_idle)));
        ds_must_run(d, 1);
    }
    CHECK_EQ_STR(ds_output(d, false), "a:100,b:100 | a:101,b:101 | b:200 | a:100,b:201");
    ds_free(d);
}

TEST(state_of_other_columns_under_the_same_name_is_refused)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err;

    ds_input(d, "a:1 | a:2");
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_update_state_by_key(ds_stream(d), "counts", MR_SUM));
    ds_must_run(d, 1);
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_update_state_by_key(mr_map_to_pair(ds_stream(d), MR_SQL("value, value")),
                                         "counts", MR_SUM));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "counts");
    ds_free(d);
}

TEST(a_state_of_another_type_is_refused_with_both_types)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err;

    ds_input(d, "a:1 | a:2");
    for (int run = 0; run < 2; run++) {
        ds_begin(d, MR_SECONDS(1), "/cp");
        ds_collect(d, mr_update_state_by_key(
                          ds_stream(d), "counts",
                          run == 0 ? MR_SUM : MR_SQL("CAST(coalesce(state, 0) AS DOUBLE)")));
        if (run == 0)
            ds_must_run(d, 1);
        else
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG,
                        "state of 'counts': the checkpoint has the state type 'BIGINT', the "
                        "program wants 'DOUBLE'");
    }
    ds_free(d);
}

TEST(another_operator_under_the_same_name_is_refused)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_state_spec spec = {.name = "counts", .function = MR_SUM};
    struct mr_error err;

    ds_input(d, "a:1 | a:2");
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_update_state_by_key(ds_stream(d), "counts", MR_SUM));
    ds_must_run(d, 1);
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_map_with_state(ds_stream(d), &spec));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG,
                "has the kind of operator 'update', the program wants 'map_with_state'");
    ds_free(d);
}

TEST(another_batch_interval_is_refused_with_both)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err;

    ds_input(d, "a:1 | a:2");
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_update_state_by_key(ds_stream(d), "counts", MR_SUM));
    ds_must_run(d, 1);
    ds_begin(d, MR_SECONDS(2), "/cp");
    ds_collect(d, mr_update_state_by_key(ds_stream(d), "counts", MR_SUM));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "its batch interval is 1000 ms");
    ds_free(d);
}

TEST(state_that_the_program_no_longer_has_is_refused)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_error err;

    ds_input(d, "a:1 | a:2");
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, mr_update_state_by_key(ds_stream(d), "counts", MR_SUM));
    ds_must_run(d, 1);
    ds_begin(d, MR_SECONDS(1), "/cp");
    ds_collect(d, ds_stream(d));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "holds state of 'counts'");
    ds_free(d);
}
