/*
 * What a restart does: times of batches, the batch that was not finished, batches that were missed,
 * state, and checkpoints that do not fit or cannot be read.
 */
#include "support/dstream.h"

#include "env/sim.h"

#include <millrace/ext/durable.h>
#include <millrace/rdd.h>
#include <millrace/time.h>

enum { TIMES_MAX = 64 };

/* The times of the batches that ran, in that order, from the first on. */
struct times {
    int64_t ms[TIMES_MAX];
    size_t count;
};

static enum mr_status keep_time(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct times *times = arg;

    (void)rdd;
    (void)err;
    CHECK(times->count < TIMES_MAX);
    times->ms[times->count++] = batch_time_ms;
    return MR_OK;
}

static void advance_ms(struct ds *d, int64_t ms)
{
    mr_sim_advance_ns(ds_sim(d), ms * 1000000);
}

static int64_t now_ms(struct ds *d)
{
    return mr_env_wall_us(mr_sim_env(ds_sim(d))) / 1000;
}

static void build_times(struct ds *d, int64_t interval_ms, struct times *times)
{
    ds_begin(d, interval_ms, "/cp");
    ds_collect(d, ds_stream(d));
    mr_foreach_rdd(ds_stream(d), keep_time, times);
}

/* ---- the clock ---- */

TEST(the_first_batch_has_the_next_multiple_of_the_interval)
{
    static const int64_t late_ms[] = {0, 1, 999, 1000, 1999};

    for (size_t i = 0; i < sizeof(late_ms) / sizeof(late_ms[0]); i++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct times times = {.count = 0};
        int64_t began_ms;

        CHECK_EQ_INT(now_ms(d) % 2000, 0);
        advance_ms(d, late_ms[i]);
        began_ms = now_ms(d);
        build_times(d, MR_SECONDS(2), &times);
        ds_must_run(d, 2);
        CHECK_EQ_INT(times.ms[0], mr_time_floor(began_ms, 2000, 0) + 2000);
        CHECK_EQ_INT(times.ms[1], times.ms[0] + 2000);
        ds_free(d);
    }
}

TEST(after_a_downtime_every_missed_batch_is_made_up_with_its_own_time)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct times times = {.count = 0};

    ds_input(d, "1 | 2 | 3 | 4 | 5 | 6 | 7");
    build_times(d, MR_SECONDS(2), &times);
    ds_must_run(d, 2); /* the second is done: it is not run again, unlike Spark's (CP-15) */
    advance_ms(d, 7100);
    build_times(d, MR_SECONDS(2), &times);
    ds_must_run(d, 5);
    CHECK_EQ_UINT(times.count, 7);
    for (size_t i = 1; i < times.count; i++)
        CHECK_EQ_INT(times.ms[i], times.ms[i - 1] + 2000);
    CHECK_EQ_STR(ds_output(d, false), "1 | 2 | 3 | 4 | 5 | 6 | 7");
    ds_free(d);
}

TEST(the_batch_that_was_not_finished_runs_again_with_its_time_and_its_data)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};

    for (size_t point = 0; point < sizeof(points) / sizeof(points[0]); point++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct times times = {.count = 0};
        struct mr_error err;

        ds_input(d, "1 | 2 | 3");
        build_times(d, MR_SECONDS(1), &times);
        ds_fail_at(d, points[point], 1);
        CHECK_FAILS(ds_run(d, 3, &err), &err, MR_INTERNAL, "killed at");
        advance_ms(d, 90);
        build_times(d, MR_SECONDS(1), &times);
        ds_must_run(d, 2);
        CHECK_EQ_STR(ds_output(d, false), "1 | 2 | 3");
        CHECK_EQ_UINT(times.count, point == 3 ? 4 : 3);
        CHECK_EQ_INT(times.ms[times.count - 2], times.ms[0] + 1000);
        CHECK_EQ_INT(times.ms[times.count - 1], times.ms[0] + 2000);
        ds_free(d);
    }
}

/* ---- state ---- */

static enum mr_status look_away(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)arg;
    (void)err;
    return MR_OK;
}

/* Counts the letters; the state is written whole every two intervals. */
static struct mr_dstream *counts_of(struct ds *d)
{
    struct mr_dstream *counts;

    ds_begin(d, MR_MILLISECONDS(500), "/cp");
    counts = mr_update_state_by_key(mr_map_to_pair(ds_stream(d), MR_COUNT), "counts", MR_SUM);
    mr_dstream_checkpoint(counts, MR_SECONDS(1));
    return counts;
}

static void build_counts(struct ds *d)
{
    ds_collect(d, counts_of(d));
}

static bool count_entry(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name;
    *(size_t *)arg += kind == MR_KIND_FILE;
    return true;
}

static size_t files_in(struct ds *d, const char *dir)
{
    size_t count = 0;
    struct mr_error err;

    CHECK_OK(mr_env_list(mr_sim_env(ds_sim(d)), dir, count_entry, &count, &err), &err);
    return count;
}

TEST(V160_state_is_in_the_checkpoint_and_does_not_pile_up)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    size_t files;

    ds_input(d, "a|a|a|a|a|a|a|a");
    for (int run = 0; run < 4; run++) {
        build_counts(d);
        ds_must_run(d, 2);
    }
    CHECK_EQ_STR(ds_output(d, false), "a:1 | a:2 | a:3 | a:4 | a:5 | a:6 | a:7 | a:8");
    mr_foreach_rdd(counts_of(d), look_away, NULL);
    ds_must_run(d, 300);
    files = files_in(d, "/cp/log");
    mr_foreach_rdd(counts_of(d), look_away, NULL);
    ds_must_run(d, 600);
    CHECK(files_in(d, "/cp/log") <= files + 2);
    ds_free(d);
}

static struct mr_dstream *counted(struct mr_dstream *stream, const char *name)
{
    struct mr_dstream *counts =
        mr_update_state_by_key(mr_map_to_pair(stream, MR_SQL("'all', 1")), name, MR_SUM);

    mr_dstream_checkpoint(counts, MR_SECONDS(1));
    return counts;
}

TEST(V166_chained_states_are_both_saved)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_input(d, "a | a,b | a,b,c | ");
    for (int run = 0; run < 4; run++) {
        struct mr_dstream *first;

        ds_begin(d, MR_SECONDS(1), "/cp");
        first = counted(ds_stream(d), "first");
        ds_collect(d, mr_union(first, counted(first, "second")));
        ds_must_run(d, 1);
    }
    /* the second counts the rows of the first: one a batch */
    CHECK_EQ_STR(ds_output(d, true), "all:1,all:1 | all:2,all:3 | all:3,all:6 | all:4,all:6");
    ds_free(d);
}

static void count_call(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (*(int *)arg)++;
    mr_emit_int(out, mr_row_int(row, 0));
}

TEST(V164_an_input_of_three_outputs_is_read_once_also_when_its_batch_runs_again)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;
    int calls = 0;

    ds_input(d, "1 | 2,3");
    for (int run = 0; run < 2; run++) {
        struct mr_dstream *mapped;
        struct times times[3] = {{.count = 0}};

        ds_begin(d, MR_SECONDS(1), "/cp");
        mapped = mr_map(ds_stream(d), MR_FN_FULL(count_call, NULL, &calls));
        for (int i = 0; i < 3; i++)
            mr_foreach_rdd(mapped, keep_time, &times[i]);
        if (run == 0) {
            ds_fail_at(d, "ran", 1);
            CHECK_FAILS(ds_run(d, 2, &err), &err, MR_INTERNAL, "killed at");
            CHECK_EQ_INT(calls, 3);
        } else {
            ds_must_run(d, 1);
            CHECK_EQ_INT(calls, 5);
        }
    }
    ds_free(d);
}

/* Saves what it is given before it gives it on. */
static struct mr_rdd *save_inside(struct mr_rdd *const *inputs, size_t input_count,
                                  int64_t batch_time_ms, void *arg)
{
    char dir[64];
    struct mr_error err;

    (void)input_count;
    snprintf(dir, sizeof(dir), "/inside-%lld", (long long)(batch_time_ms - *(int64_t *)arg));
    CHECK_OK(mr_rdd_save_as_text_file(inputs[0], dir, &err), &err);
    return inputs[0];
}

static void check_file(struct ds *d, const char *path, const char *expected)
{
    char *text = NULL;
    size_t size_bytes;
    struct mr_error err;

    CHECK_OK(mr_durable_get(mr_sim_env(ds_sim(d)), path, 1024, &text, &size_bytes, &err), &err);
    CHECK_EQ_STR(text, expected);
    mr_text_free(text);
}

TEST(V158_files_written_inside_a_transform_are_written_again_with_their_batch)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    int64_t zero_ms = now_ms(d);
    struct mr_error err;

    ds_input(d, "a,b | c");
    for (int run = 0; run < 2; run++) {
        struct mr_dstream *saved;

        ds_begin(d, MR_SECONDS(1), "/cp");
        saved = mr_transform(ds_stream(d), MR_FN_FULL(save_inside, NULL, &zero_ms));
        mr_dstream_set_partitions(saved, 1);
        ds_collect(d, saved);
        if (run == 0) {
            ds_fail_at(d, "published", 1);
            CHECK_FAILS(ds_run(d, 2, &err), &err, MR_INTERNAL, "killed at");
        } else {
            ds_must_run(d, 1);
        }
    }
    CHECK_EQ_STR(ds_output(d, false), "a,b | c");
    check_file(d, "/inside-1000/part-00000", "a\nb\n");
    check_file(d, "/inside-2000/part-00000", "c\n");
    ds_free(d);
}

/* ---- checkpoints that do not fit ---- */

TEST(another_batch_interval_is_refused_with_both_and_a_remedy)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct times times = {.count = 0};
    struct mr_error err;

    build_times(d, MR_SECONDS(2), &times);
    ds_must_run(d, 1);
    build_times(d, MR_SECONDS(3), &times);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "its batch interval is 2000 ms");
    CHECK_CONTAINS(err.text, "the program's is 3000 ms");
    CHECK_CONTAINS(err.text, "use the old interval or a new checkpoint directory");
    build_times(d, MR_SECONDS(2), &times);
    ds_must_run(d, 1);
    ds_free(d);
}

TEST(a_state_that_the_program_no_longer_has_is_refused)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct times times = {.count = 0};
    struct mr_error err;

    ds_input(d, "a|a");
    build_counts(d);
    ds_must_run(d, 1);
    ds_begin(d, MR_MILLISECONDS(500), "/cp");
    mr_foreach_rdd(ds_stream(d), keep_time, &times);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "state of 'counts'");
    CHECK_EQ_UINT(times.count, 0);
    ds_free(d);
}

static void damage(struct ds *d)
{
    struct mr_error err;

    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), "/cp", "query", "rubbish", 7, false, &err),
             &err);
}

TEST(a_damaged_checkpoint_is_an_error)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;

    ds_input(d, "a|a");
    build_counts(d);
    ds_must_run(d, 1);
    damage(d);
    build_counts(d);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CORRUPT, "/cp");
    ds_free(d);
}

TEST(with_create_on_error_a_damaged_checkpoint_is_put_aside)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_file_info info;
    struct mr_error err;

    ds_input(d, "a|a|a");
    for (int run = 0; run < 2; run++) {
        build_counts(d);
        ds_must_run(d, 1);
        ds_forget_output(d);
        damage(d);
        build_counts(d);
        mr_context_set(ds_context(d), "create_on_error", "true");
        ds_must_run(d, 1);
        CHECK_EQ_STR(ds_output(d, false), "a:1"); /* from the beginning */
        ds_forget_output(d);
        /* and a good one is gone on with */
        build_counts(d);
        mr_context_set(ds_context(d), "create_on_error", "true");
        ds_must_run(d, 1);
        CHECK_EQ_STR(ds_output(d, false), "a:2");
        ds_forget_output(d);
    }
    CHECK_OK(mr_env_path_info(mr_sim_env(ds_sim(d)), "/cp.damaged-1", true, &info, &err), &err);
    CHECK_OK(mr_env_path_info(mr_sim_env(ds_sim(d)), "/cp.damaged-2", true, &info, &err), &err);
    CHECK_EQ_UINT(mr_sim_open_count(ds_sim(d)), 0);
    ds_free(d);
}

/* Runs two batches of pairs, of which the second fails at `point` when asked to. */
static void run_with_workers(struct ds *d, unsigned workers, const char *point, uint64_t batches)
{
    struct mr_error err;

    ds_begin(d, MR_SECONDS(1), "/checkpoint");
    mr__context_config(ds_context(d))->workers = workers;
    ds_show_partitions(d);
    ds_collect(d, mr_reduce_by_key(mr_map_to_pair(ds_stream(d), MR_COUNT), MR_SUM));
    if (point == NULL) {
        ds_must_run(d, batches);
        return;
    }
    ds_fail_at(d, point, 1);
    mr_error_clear(&err);
    CHECK(ds_run(d, batches, &err) != MR_OK);
}

TEST(a_batch_that_runs_again_has_its_partitions_on_any_number_of_workers)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_input(d, "a,b,c,d,e | a,b,c,d,e,f,g | a");
    run_with_workers(d, 3, "published", 3);
    /* the harness compares the batch that runs again with what it was, boundaries included */
    run_with_workers(d, 1, NULL, 2);
    CHECK_CONTAINS(ds_output(d, false), "] [");
    ds_free(d);
}

static enum mr_status start_with_partitions(struct ds *d, const char *text, size_t size,
                                            struct mr_error *err)
{
    CHECK_OK(
        mr_durable_put(mr_sim_env(ds_sim(d)), "/checkpoint", "partitions", text, size, false, NULL),
        NULL);
    ds_begin(d, MR_SECONDS(1), "/checkpoint");
    ds_collect(d, ds_stream(d));
    mr_error_clear(err);
    return ds_run(d, 1, err);
}

TEST(B2_B3_every_flipped_bit_and_every_cut_of_the_number_of_partitions_is_noticed)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;
    char *whole = NULL, damaged[64];
    size_t size = 0;

    ds_input(d, "a | b");
    run_with_workers(d, 2, NULL, 1);
    CHECK_OK(
        mr_durable_get(mr_sim_env(ds_sim(d)), "/checkpoint/partitions", 64, &whole, &size, &err),
        &err);
    for (size_t bit = 0; bit < size * 8; bit++) {
        memcpy(damaged, whole, size);
        damaged[bit / 8] = (char)(damaged[bit / 8] ^ (1 << bit % 8));
        CHECK_FAILS(start_with_partitions(d, damaged, size, &err), &err, MR_CORRUPT, "damaged");
    }
    for (size_t cut = 0; cut < size; cut++)
        CHECK_FAILS(start_with_partitions(d, whole, cut, &err), &err, MR_CORRUPT, "damaged");
    CHECK_OK(start_with_partitions(d, whole, size, &err), &err);
    CHECK_OK(start_with_partitions(d, "2\n", 2, &err), &err); /* by hand, or of an older one */
    mr_text_free(whole);
    ds_free(d);
}

TEST(a_number_of_partitions_that_is_none_is_refused)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;

    ds_input(d, "a | b");
    run_with_workers(d, 2, NULL, 1);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), "/checkpoint", "partitions", "many\n", 5, false,
                            NULL),
             NULL);
    ds_begin(d, MR_SECONDS(1), "/checkpoint");
    ds_collect(d, ds_stream(d));
    mr_error_clear(&err);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CORRUPT, "'/checkpoint/partitions'");
    ds_free(d);
}
