/*
 * updateStateByKey: every form, removal, and state that outlives crashes and recompiled programs.
 */
#include "support/dstream.h"

static void sum_values(const struct mr_update *update, struct mr_emitter *out, void *arg)
{
    int64_t sum = update->state != NULL ? mr_row_int(update->state, 0) : 0;

    (void)arg;
    for (struct mr_row row = {update->values, 0}; row.index < update->value_count; row.index++)
        sum += mr_row_int(&row, 0);
    mr_emit_int(out, sum);
}

/* The same function in its forms. */
enum { SUMS = 3 };
static struct mr_fn sum_at(size_t form)
{
    const struct mr_fn sums[SUMS] = {
        MR_SQL("coalesce(state, 0) + coalesce(list_sum(\"values\"), 0)"),
        MR_FN(sum_values),
        MR_SUM,
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

static struct mr_fn life_cycle_at(size_t form)
{
    const struct mr_fn forms[] = {
        MR_FN(counter_and_idle),
        MR_SQL("CASE WHEN len(\"values\") > 0 THEN (coalesce(state, 0) // 100 + len(\"values\")) * "
               "100\n"
               "     WHEN state % 100 + 1 < 2 THEN state + 1 END"),
    };
    return forms[form];
}

TEST(V85_a_key_without_values_is_updated_and_may_go)
{
    const struct ds_vector *vector = ds_vector("V85");

    for (size_t form = 0; form < 2; form++) {
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
