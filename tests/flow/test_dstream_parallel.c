/*
 * DStreams on several workers: the same plan gives the same result whoever runs which partition;
 * and programs that run out of memory at any allocation end in MR_NOMEM, with everything given
 * back.
 */
#include "support/dstream.h"

#include "env/sim.h"

#include <millrace/ext/memory.h>

enum { STEPS = 24, ROWS = 500 };

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

static void tag(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    char key[32];
    int size = snprintf(key, sizeof(key), "key%d", (int)(mr_row_int(row, 0) % 13));

    (void)arg;
    mr_emit_pair_str_int(out, key, (size_t)size, mr_row_int(row, 0));
}

static void fill(struct mr_memory *table)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    uint64_t value = 1;

    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (int step = 0; step < STEPS; step++) {
        struct mr_batch *batch = NULL;

        for (int row = 0; row < ROWS; row++) {
            value = (value * 48271 + 11) % 1000003;
            mr_batch_builder_int(builder, 0, (int64_t)value);
            mr_batch_builder_end_row(builder);
        }
        CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
        CHECK_OK(mr_memory_add(table, batch, NULL), NULL);
        mr_batch_unref(batch);
    }
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

/* Every kind of operator once, over batches of six steps in four partitions. */
static void build(struct ds *d, const char *table, bool with_sql)
{
    const char *options[] = {"table", table, "max_steps_per_trigger", "6", "partitions", "4", NULL};
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct mr_dstream *numbers = mr_connector_stream(ctx, "memory", "value BIGINT", options);
    struct mr_dstream *pairs =
        with_sql ? mr_map_to_pair(mr_filter(numbers, MR_SQL("value >= 0")),
                                  MR_SQL("'key' || (value % 13), value"))
                 : mr_map_to_pair(numbers, MR_FN_AS(tag, "key VARCHAR, value BIGINT"));
    struct mr_dstream *sums = mr_reduce_by_key(pairs, with_sql ? MR_SQL("a + b") : MR_FN(add));
    struct mr_dstream *windows =
        mr_reduce_by_key_and_window(pairs, MR_SUM, MR_SUM, MR_SECONDS(2), MR_SECONDS(1), MR_NO_FN);
    struct mr_dstream *states = mr_update_state_by_key(pairs, "states", MR_SUM);

    ds_collect(
        d, mr_union(mr_union(sums, windows), mr_union(states, mr_window(sums, MR_SECONDS(2), 0))));
}

TEST(several_workers_give_what_one_gives)
{
    char expected[1 << 14] = "";
    const char *table = "numbers-of-several-workers";

    fill(mr_memory_table(table));
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        for (int with_sql = 0; with_sql < 2; with_sql++) {
            struct ds *d = ds_new(t, "value BIGINT");

            build(d, table, with_sql != 0);
            mr__context_config(ds_context(d))->workers = workers;
            mr__context_config(ds_context(d))->parallel_min_bytes = 0;
            ds_must_run(d, 4);
            if (expected[0] == '\0')
                snprintf(expected, sizeof(expected), "%s", ds_output(d, true));
            /* as sets: a shuffle has as many partitions as there are workers */
            CHECK(strcmp(ds_output(d, true), expected) == 0);
            ds_free(d);
        }
    }
    mr_memory_drop(table);
}

/* ---- memory ---- */

static enum mr_status look_away(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)arg;
    (void)err;
    return MR_OK;
}

/* Builds and runs a program of native operators; the first mistake comes out. */
static enum mr_status run_program(struct mr_env *env, struct mr_queue *queue)
{
    struct mr_context *ctx = mr_context_new("scarce", MR_SECONDS(1));
    struct mr_dstream *pairs, *sums;
    enum mr_status status;

    if (ctx == NULL)
        return MR_NOMEM;
    mr__context_use(ctx, env);
    mr__context_config(ctx)->workers = 1;
    mr__context_config(ctx)->batches_max = 3;
    pairs = mr_map_to_pair(mr_queue_stream(ctx, queue, true),
                           MR_FN_AS(tag, "key VARCHAR, value BIGINT"));
    sums = mr_reduce_by_key(pairs, MR_FN(add));
    mr_foreach_rdd(mr_reduce_by_key_and_window(pairs, MR_SUM, MR_SUM, MR_SECONDS(2), 0, MR_NO_FN),
                   look_away, NULL);
    mr_foreach_rdd(
        mr_union(mr_window(sums, MR_SECONDS(2), 0), mr_update_state_by_key(pairs, NULL, MR_SUM)),
        look_away, NULL);
    mr_save_as_text_files(sums, "/out/sums", NULL);
    status = mr__context_run_here(ctx, NULL);
    mr_context_free(ctx);
    return status;
}

static void same(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_value(out, mr_row_value(row, 0));
}

static void count_rows(struct mr_rows *rows, struct mr_emitter *out, void *arg)
{
    struct mr_row row;
    int64_t count = 0;

    (void)arg;
    while (mr_rows_next(rows, &row))
        count++;
    mr_emit_int(out, count);
}

/* The same with what reshapes streams and brings pairs together, in two partitions. */
static enum mr_status run_pairs_program(struct mr_env *env, struct mr_queue *queue)
{
    struct mr_context *ctx = mr_context_new("scarce", MR_SECONDS(1));
    struct mr_dstream *numbers, *pairs, *dealt;
    enum mr_status status;

    if (ctx == NULL)
        return MR_NOMEM;
    mr__context_use(ctx, env);
    mr__context_config(ctx)->workers = 1;
    mr__context_config(ctx)->batches_max = 2;
    numbers = mr_queue_stream(ctx, queue, true);
    dealt = mr_repartition(numbers, 2);
    pairs = mr_map_to_pair(numbers, MR_FN_AS(tag, "key VARCHAR, value BIGINT"));
    mr_foreach_rdd(mr_glom(dealt), look_away, NULL);
    mr_foreach_rdd(
        mr_union_all((struct mr_dstream *const[]){mr_map_partitions(dealt, MR_FN(count_rows)),
                                                  mr_count(numbers), mr_reduce(numbers, MR_FN(add)),
                                                  numbers},
                     4),
        look_away, NULL);
    pairs = mr_flat_map_values(mr_map_values(pairs, MR_FN(same)), MR_FN(same));
    mr_foreach_rdd(mr_group_by_key(pairs), look_away, NULL);
    mr_foreach_rdd(
        mr_full_outer_join(pairs, mr_combine_by_key(pairs, MR_FN(same), MR_FN(add), MR_FN(add))),
        look_away, NULL);
    for (size_t i = 0; i < ctx->stream_count; i++)
        mr_dstream_set_partitions(ctx->streams[i], 2);
    status = mr__context_run_here(ctx, NULL);
    mr_context_free(ctx);
    return status;
}

typedef enum mr_status (*program_fn)(struct mr_env *env, struct mr_queue *queue);

/* One run in which the nth allocation fails. *ret_over: it has fewer. */
static enum mr_status run_short_of_memory(program_fn program, uint64_t nth, bool *ret_over)
{
    const int64_t values[] = {1, 2, 3, 98};
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    enum mr_status status;
    uint64_t before;

    mr_queue_push_ints(queue, values, 4);
    mr_queue_push_ints(queue, values, 2);
    before = mr_alloc_count();
    mr_alloc_fail_at(nth, false);
    status = program(mr_sim_env(sim), queue);
    *ret_over = mr_alloc_count() - before < nth;
    mr_alloc_fail_at(0, false);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_queue_free(queue);
    mr_sim_free(sim);
    return status;
}

static void fail_every_allocation(program_fn program)
{
    bool over = false;

    /* What is made once in a process is there then. */
    CHECK_OK(run_short_of_memory(program, UINT32_MAX, &over), NULL);
    over = false;
    for (uint64_t nth = 1; !over; nth += test_quick() ? 5 : 1) {
        enum mr_status status = run_short_of_memory(program, nth, &over);
        if (status != MR_OK && status != MR_NOMEM)
            FAIL("allocation %" PRIu64 " failed: %s", nth, mr_status_name(status));
    }
}

TEST(a_program_without_memory_ends_and_gives_everything_back)
{
    fail_every_allocation(run_program);
}

TEST(a_program_of_pairs_without_memory_ends_and_gives_everything_back)
{
    fail_every_allocation(run_pairs_program);
}
