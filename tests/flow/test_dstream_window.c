/*
 * Windows of DStreams: window, and reducing, counting and grouping over windows, with and without
 * an inverse; and their content across a crash.
 */
#include "support/dstream.h"

#include "env/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct window {
    int64_t size_ms;
    int64_t slide_ms;
};

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

static void subtract(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                     void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) - mr_row_int(b, 0));
}

static bool is_not_zero(const struct mr_row *row, void *arg)
{
    (void)arg;
    return mr_row_int(row, 1) != 0;
}

static bool is_two_or_more(const struct mr_row *row, void *arg)
{
    (void)arg;
    return mr_row_int(row, 1) >= 2;
}

/* How the reduction of a window is said. */
struct form {
    struct mr_fn reduce;
    struct mr_fn inverse;
    struct mr_fn filter;
};
/* FORMS_END: one more, sums with a native filter. */
enum { PLAIN = 0, INVERSE = 3, FILTERED = 6, FORMS_END = 9 };

static struct form form_at(int index)
{
    const struct form forms[FORMS_END + 1] = {
        {MR_SQL("a + b"), MR_NO_FN, MR_NO_FN},
        {MR_FN(add), MR_NO_FN, MR_NO_FN},
        {MR_SUM, MR_NO_FN, MR_NO_FN},
        {MR_SQL("a + b"), MR_SQL("a - b"), MR_NO_FN},
        {MR_FN(add), MR_FN(subtract), MR_NO_FN},
        {MR_SUM, MR_SUM, MR_NO_FN},
        {MR_SQL("a + b"), MR_SQL("a - b"), MR_SQL("value <> 0")},
        {MR_FN(add), MR_FN(subtract), MR_FN(is_not_zero)},
        {MR_SUM, MR_SQL("a - b"), MR_SQL("value <> 0")},
        {MR_SUM, MR_SUM, MR_FN(is_not_zero)},
    };
    return forms[index];
}

static struct mr_dstream *reduced(struct mr_dstream *pairs, int index, struct window window)
{
    struct form form = form_at(index);

    return mr_reduce_by_key_and_window(pairs, form.reduce, form.inverse, window.size_ms,
                                       window.slide_ms, form.filter);
}

static const char *expected_of(struct ds *d, const struct ds_vector *vector)
{
    return ds_tidy(d, vector->expected, !vector->ordered);
}

/* One vector with forms [from, to). */
static void run_reduced(struct test *t, const char *id, int from, int to, struct window window,
                        uint64_t batches)
{
    const struct ds_vector *vector = ds_vector(id);

    for (int form = from; form < to; form++) {
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, reduced(ds_stream(d), form, window));
        ds_must_run(d, batches);
        CHECK_EQ_STR(ds_output(d, true), expected_of(d, vector));
        ds_free(d);
    }
}

static void run_window(struct test *t, const char *id, struct window window, uint64_t batches)
{
    const struct ds_vector *vector = ds_vector(id);
    struct ds *d = ds_new(t, vector->columns);

    ds_input(d, vector->input);
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_window(ds_stream(d), window.size_ms, window.slide_ms));
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, true), expected_of(d, vector));
    ds_free(d);
}

/* One vector, as `build` says it. */
static void run_built(struct test *t, const char *id, uint64_t batches,
                      struct mr_dstream *(*build)(struct mr_dstream *stream))
{
    const struct ds_vector *vector = ds_vector(id);
    struct ds *d = ds_new(t, vector->columns);

    ds_input(d, vector->input);
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, build(ds_stream(d)));
    ds_must_run(d, batches);
    CHECK_EQ_STR(ds_output(d, true), expected_of(d, vector));
    ds_free(d);
}

static struct mr_dstream *count_values(struct mr_dstream *stream)
{
    return mr_count_by_value_and_window(stream, MR_SECONDS(2), MR_SECONDS(1));
}

static struct mr_dstream *count_all(struct mr_dstream *stream)
{
    return mr_count_by_window(stream, MR_SECONDS(2), MR_SECONDS(1));
}

static const struct window two_one = {MR_SECONDS(2), MR_SECONDS(1)};

/* ---- vectors ---- */

TEST(V50_window_2_1)
{
    run_window(t, "V50", two_one, 6);
}

TEST(V52_window_4_2_starts_short_and_ends_short)
{
    run_window(t, "V52", (struct window){MR_SECONDS(4), MR_SECONDS(2)}, 8);
}

TEST(V53_window_2_3_leaves_gaps)
{
    run_window(t, "V53", (struct window){MR_SECONDS(2), MR_SECONDS(3)}, 6);
}

TEST(V68_window_without_slide_slides_with_the_batches)
{
    run_window(t, "V68", (struct window){MR_SECONDS(2), 0}, 4);
}

TEST(V55_V61_reduce_by_key_and_window_of_one_batch)
{
    run_reduced(t, "V55", PLAIN, FORMS_END, two_one, 1);
}

TEST(V56_V61_reduce_by_key_and_window_of_two_batches)
{
    run_reduced(t, "V56", PLAIN, FORMS_END, two_one, 2);
}

TEST(V58_a_key_leaves_with_its_last_batch)
{
    run_reduced(t, "V58", PLAIN, INVERSE, two_one, 4);
}

TEST(V59_V61_reduce_by_key_and_window_4_2)
{
    run_reduced(t, "V59", PLAIN, FORMS_END, (struct window){MR_SECONDS(4), MR_SECONDS(2)}, 8);
}

TEST(V62_with_an_inverse_a_key_that_left_stays_with_zero)
{
    run_reduced(t, "V62", INVERSE, FILTERED, two_one, 4);
}

TEST(V64_with_a_filter_it_goes)
{
    run_reduced(t, "V64", FILTERED, FORMS_END, two_one, 12);
}

/* V337's windows lose what the filter dropped, in each form (INV-4). */
TEST(V337_a_filter_on_anything_but_presence_loses_a_part_of_the_window)
{
    const struct form forms[] = {
        {MR_SQL("a + b"), MR_SQL("a - b"), MR_SQL("value >= 2")},
        {MR_FN(add), MR_FN(subtract), MR_FN(is_two_or_more)},
        {MR_SUM, MR_SUM, MR_SQL("value >= 2")},
    };
    const struct ds_vector *vector = ds_vector("V337");

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_reduce_by_key_and_window(ds_stream(d), forms[i].reduce, forms[i].inverse,
                                                  MR_SECONDS(2), 0, forms[i].filter));
        ds_must_run(d, 5);
        CHECK_EQ_STR(ds_output(d, true), expected_of(d, vector));
        ds_free(d);
    }
}

/* ---- counts and values of a whole window ---- */

/* Lists hold commas, so each is sorted and joined by '+'. */
static struct mr_dstream *grouped(struct mr_dstream *pairs)
{
    struct mr_dstream *lists = mr_group_by_key_and_window(pairs, MR_SECONDS(2), MR_SECONDS(1));

    return mr_map_to_pair(lists, MR_SQL("key, array_to_string(list_sort(value), '+')"));
}

TEST(V65_group_by_key_and_window)
{
    run_built(t, "V65", 12, grouped);
}

TEST(V71_group_by_key_and_window_of_several_values)
{
    run_built(t, "V71", 3, grouped);
}

TEST(V67_counts_of_values_in_a_window)
{
    run_built(t, "V67", 3, count_values);
}

TEST(V73_counts_of_values_in_a_window_forget_what_left)
{
    run_built(t, "V73", 3, count_values);
}

TEST(V70_reduce_by_window_with_and_without_an_inverse)
{
    const struct ds_vector *vector = ds_vector("V70");

    for (int index = PLAIN; index < FILTERED; index++) {
        struct form form = form_at(index);
        struct ds *d = ds_new(t, vector->columns);

        ds_input(d, vector->input);
        ds_begin(d, MR_SECONDS(1), NULL);
        ds_collect(d, mr_reduce_by_window(ds_stream(d), form.reduce, form.inverse, MR_SECONDS(2),
                                          MR_SECONDS(1)));
        ds_must_run(d, 4);
        CHECK_EQ_STR(ds_output(d, true), expected_of(d, vector));
        ds_free(d);
    }
}

TEST(V74_a_window_that_never_saw_anything_counts_nothing)
{
    run_built(t, "V74", 2, count_all);
}

TEST(a_window_that_was_empty_only_later_counts_zero)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    ds_input(d, "| a:1,b:2 | c:3 | | | d:4");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, count_all(ds_stream(d)));
    ds_must_run(d, 6);
    CHECK_EQ_STR(ds_output(d, false), " | 2 | 3 | 1 | 0 | 1");
    ds_free(d);
}

TEST(without_an_inverse_an_empty_window_has_no_result)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_input(d, "1 | | | 2");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_reduce_by_window(ds_stream(d), MR_SUM, MR_NO_FN, MR_SECONDS(2), 0));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "1 | 1 |  | 2");
    ds_free(d);
}

TEST(a_window_of_pairs_cannot_be_reduced_to_one)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct mr_error err;

    CHECK_NULL(mr_reduce_by_window(ds_stream(d), MR_SUM, MR_NO_FN, MR_SECONDS(2), 0));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "the elements have 2 columns");
    ds_free(d);
}

TEST(V336_with_an_inverse_and_a_slide_longer_than_the_window_gaps_count_nothing)
{
    run_reduced(t, "V336", PLAIN, FORMS_END, (struct window){MR_SECONDS(2), MR_SECONDS(3)}, 9);
}

TEST(V76_a_window_that_is_not_a_multiple_of_the_slide_is_refused)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct mr_error err;

    CHECK_NULL(mr_window(ds_stream(d), MR_MILLISECONDS(1500), 0));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "window of 1500 ms");
    ds_free(d);

    d = ds_new(t, "value BIGINT");
    ctx = ds_begin(d, MR_SECONDS(1), NULL);
    CHECK_NULL(mr_window(ds_stream(d), MR_SECONDS(3), MR_MILLISECONDS(1500)));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "slide of 1500 ms");
    ds_free(d);
}

/* ---- rules ---- */

TEST(counts_of_a_window_are_sums_of_counts)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    ds_input(d, "a:7,a:9,b:1 | a:5 | |");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_reduce_by_key_and_window(ds_stream(d), MR_COUNT, MR_COUNT, MR_SECONDS(2), 0,
                                              MR_SQL("value > 0")));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, true), "a:2,b:1 | a:3,b:1 | a:1 | ");
    ds_free(d);
}

TEST(minima_of_a_window_need_no_inverse)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    ds_input(d, "a:7 | a:9 | a:8 |");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_reduce_by_key_and_window(ds_stream(d), MR_MIN_OF, MR_NO_FN, MR_SECONDS(2), 0,
                                              MR_NO_FN));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, true), "a:7 | a:7 | a:8 | a:8");
    ds_free(d);
}

TEST(windows_of_windows_fire_with_the_longer_slide)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_input(d, "1|2|3|4|5|6");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_window(mr_window(ds_stream(d), MR_SECONDS(2), MR_SECONDS(2)), MR_SECONDS(4),
                            MR_SECONDS(2)));
    ds_must_run(d, 6);
    CHECK_EQ_STR(ds_output(d, false), "1,2 | 1,2,3,4 | 3,4,5,6");
    ds_free(d);
}

/* ---- sums natively, against the other ways ---- */

enum { MANY_BATCHES = 24 };

/* Keys come and go: text keys with NUL and empty ones among them, through the codec of keys. */
static void vary(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    uint64_t seed = (uint64_t)mr_row_int(row, 0) * UINT64_C(0x9E3779B97F4A7C15);

    (void)arg;
    for (int i = 0; i < 300; i++) {
        char key[8] = "k\0\0xyz";

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        key[1] = (char)(seed >> 40 & 63);
        key[2] = (char)(seed >> 50 & 1);
        mr_emit_pair_str_int(out, key, seed >> 61, (int64_t)(seed >> 20 & 1023) - 500);
    }
}

static const char *windows_of_many(struct ds *d, int form, struct window window, unsigned workers)
{
    struct mr_dstream *pairs;
    char input[MANY_BATCHES * 4 + 1] = "";

    for (int i = 0; i < MANY_BATCHES; i++)
        snprintf(input + strlen(input), 5, "%s%d", i > 0 ? "|" : "", i * 7 % 12);
    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), NULL);
    mr__context_config(ds_context(d))->workers = workers;
    mr__context_config(ds_context(d))->parallel_min_bytes = 0;
    pairs = mr_flat_map(ds_stream(d), MR_FN_AS(vary, "key BLOB, value BIGINT"));
    pairs = reduced(pairs, form, window);
    /* one number a batch that depends on every key and value */
    ds_collect(d,
               mr_reduce(mr_map(pairs, MR_SQL("hash(key, value) % 1000000007 + value")), MR_SUM));
    ds_must_run(d, MANY_BATCHES);
    return ds_output(d, false);
}

TEST(sums_natively_are_those_of_a_function_whatever_slides_and_workers)
{
    const struct window windows[] = {{MR_SECONDS(5), MR_SECONDS(1)},
                                     {MR_SECONDS(6), MR_SECONDS(3)},
                                     {MR_SECONDS(4), MR_SECONDS(4)},
                                     {MR_SECONDS(2), MR_SECONDS(3)}};
    const int pairs_of_forms[][2] = {{INVERSE + 1, INVERSE + 2}, {FILTERED + 1, FORMS_END}};

    for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
        for (size_t f = 0; f < 2; f++) {
            struct ds *by_function = ds_new(t, "value BIGINT"), *native = ds_new(t, "value BIGINT");
            const char *want;

            want = windows_of_many(by_function, pairs_of_forms[f][0], windows[w], 1);
            CHECK_EQ_STR(windows_of_many(native, pairs_of_forms[f][1], windows[w], 1 + (unsigned)w),
                         want);
            ds_free(by_function);
            ds_free(native);
        }
    }
}

/* ---- what is written ---- */

enum { KEYS_OF_A_BATCH = 1000, KEYS_OF_ALL = 30000, WRITTEN_BATCHES = 50 };

static void turning_keys(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < KEYS_OF_A_BATCH; i++)
        mr_emit_int(out, (mr_row_int(row, 0) * KEYS_OF_A_BATCH + i) % KEYS_OF_ALL);
}

struct disk {
    struct mr_env *env;
    const char *dir; /* that is being listed */
    uint64_t bytes;
    int64_t sizes[WRITTEN_BATCHES]; /* of the checkpoint, batch by batch */
    int count;
};

static bool add_size(const char *name, enum mr_file_kind kind, void *arg)
{
    struct disk *disk = arg, inner = *disk;
    struct mr_file_info info;
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    if (kind == MR_KIND_DIRECTORY) {
        inner.dir = path;
        inner.bytes = 0;
        mr_env_list(disk->env, path, add_size, &inner, NULL);
        disk->bytes += inner.bytes;
    } else if (mr_env_path_info(disk->env, path, false, &info, NULL) == MR_OK) {
        disk->bytes += info.size_bytes;
    }
    return true;
}

static enum mr_status measure(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                              struct mr_error *err)
{
    struct disk *disk = arg;

    (void)rdd;
    (void)batch_time_ms;
    disk->dir = "/cp";
    disk->bytes = 0;
    MR_TRY(mr_env_list(disk->env, disk->dir, add_size, disk, err));
    disk->sizes[disk->count++] = (int64_t)disk->bytes;
    return MR_OK;
}

/* Twenty batches in the window: one of them comes and one goes, 1,000 keys each. */
TEST(a_slide_writes_what_changed_and_not_the_window)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct disk disk = {.env = mr_sim_env(ds_sim(d))};
    struct mr_dstream *keys;
    int64_t written;
    char input[WRITTEN_BATCHES * 4 + 1] = "";

    for (int i = 0; i < WRITTEN_BATCHES; i++)
        snprintf(input + strlen(input), 5, "%s%d", i > 0 ? "|" : "", i);
    ds_input(d, input);
    ds_begin(d, MR_SECONDS(1), "/cp");
    keys = mr_flat_map(ds_stream(d), MR_FN(turning_keys));
    mr_foreach_rdd(mr_count_by_value_and_window(keys, MR_SECONDS(20), 0), measure, &disk);
    ds_must_run(d, WRITTEN_BATCHES);
    CHECK_EQ_INT(disk.count, WRITTEN_BATCHES);
    /* From the full window on. A batch changes 2,000 keys of 11 bytes: 1,000 come with a sum and
     * 1,000 go; and 1,000 rows come. With snapshots now and then that is far from the window's
     * 20,000 rows. */
    written = (disk.sizes[WRITTEN_BATCHES - 1] - disk.sizes[20]) / (WRITTEN_BATCHES - 21);
    CHECK(written > 20000);
    CHECK(written < 120000);
    ds_free(d);
}

/* ---- crashes ---- */

static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};

/* All kinds of windows in one program; names are given, so a recompiled program may list them
 * otherwise, and have other workers. */
static void build_windows(struct ds *d, bool second_time)
{
    const struct {
        const char *name;
        int form;
    } kinds[] = {{"plain", PLAIN + 1}, {"inverse", INVERSE + 1}, {"sums", INVERSE + 2}};
    const struct window window = {MR_SECONDS(3), MR_SECONDS(1)};
    struct mr_dstream *pairs = ds_stream(d), *streams[3];

    mr__context_config(ds_context(d))->workers = second_time ? 3 : 1;
    for (size_t i = 0; i < 3; i++) {
        size_t kind = second_time ? 2 - i : i;

        streams[kind] = reduced(pairs, kinds[kind].form, window);
        mr_dstream_set_name(streams[kind], kinds[kind].name);
    }
    ds_collect(d, mr_union(mr_union(streams[0], streams[1]), streams[2]));
}

TEST(windows_go_on_after_a_crash_at_any_point)
{
    const char *expected = "a:1,a:1,a:1 | a:3,a:3,a:3,b:1,b:1,b:1 | a:6,a:6,a:6,b:1,b:1,b:1 | "
                           "a:9,a:9,a:9,b:1,b:1,b:1 | a:12,a:12,a:12,b:0,b:0 | "
                           "a:15,a:15,a:15,b:0,b:0";

    for (size_t point = 0; point < sizeof(points) / sizeof(points[0]); point++) {
        for (uint64_t batch = 0; batch < 6; batch++) {
            struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
            struct mr_error err;

            ds_input(d, "a:1 | a:2,b:1 | a:3 | a:4 | a:5 | a:6");
            ds_begin(d, MR_SECONDS(1), "/cp");
            build_windows(d, false);
            ds_fail_at(d, points[point], batch);
            CHECK_FAILS(ds_run(d, 6, &err), &err, MR_INTERNAL, "killed at");
            uint64_t left = 6 - batch - (strcmp(points[point], "committed") == 0);
            if (left > 0) {
                ds_begin(d, MR_SECONDS(1), "/cp");
                build_windows(d, true);
                ds_must_run(d, left);
            }
            CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, expected, true));
            ds_free(d);
        }
    }
}

/* ---- top ---- */

TEST(top_gives_the_greatest_first_and_equal_ones_in_order)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    ds_input(d, "c:2,a:2,b:9,d:1,e:-4 | x:1 | | f:5,g:5,h:5,i:5");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_top(ds_stream(d), 3, NULL));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "b:9,a:2,c:2 | x:1 |  | f:5,g:5,h:5");
    ds_free(d);
}

static void count_up(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < mr_row_int(row, 0); i++)
        mr_emit_int(out, i * 7919 % mr_row_int(row, 0));
}

TEST(top_of_more_rows_than_it_keeps_at_once)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_input(d, "100000 | 5000");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_top(mr_flat_map(ds_stream(d), MR_FN(count_up)), 4, "value"));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "99999,99998,99997,99996 | 4999,4998,4997,4996");
    ds_free(d);
}

TEST(top_wants_a_column_that_orders)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct mr_error err;

    CHECK_NULL(mr_top(ds_stream(d), 3, "key"));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "cannot order by 'key'");
    ds_free(d);

    d = ds_new(t, "key VARCHAR, value BIGINT");
    ctx = ds_begin(d, MR_SECONDS(1), NULL);
    CHECK_NULL(mr_top(ds_stream(d), 3, "size"));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "no column 'size'");
    ds_free(d);
}
