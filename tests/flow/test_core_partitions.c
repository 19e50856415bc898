/*
 * Folds with several output partitions, how sinks number what they get, and batches in which an
 * input has no dataset.
 */
#include "support/flow.h"
#include "support/script.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"

#include <stdatomic.h>

enum { SECOND_US = 1000000 };

/* ---- A fold that deals rows out: k goes to partition k mod P; with no dataset, -1 to all. ---- */

struct deal {
    uint32_t partition_count;
    bool on_workers;  /* run_partition, else run */
    uint32_t meeting; /* so many partitions wait for each other: 0 = none */
    int64_t fails_at; /* partition; -1 = none */
    struct mr_schema *schema;
    struct mr_mutex lock;
    struct mr_cond changed;
    uint32_t met;
    _Atomic uint32_t runs;
    bool missed;
    char inputs[256]; /* what it saw: "1+" an input that is present, "0+" one that is not */
};

static struct deal deal_of(uint32_t partition_count, bool on_workers)
{
    struct deal deal = {
        .partition_count = partition_count, .on_workers = on_workers, .fails_at = -1};

    mr_mutex_init(&deal.lock);
    mr_cond_init(&deal.changed);
    return deal;
}

static void add_row(struct mr_batch_builder *builder, int64_t k)
{
    mr_batch_builder_int(builder, 0, k);
    mr_batch_builder_int(builder, 1, 1);
    mr_batch_builder_end_row(builder);
}

static enum mr_status emit_partition(struct deal *deal, const struct mr_fold_call *call,
                                     uint32_t partition, struct mr_output *out,
                                     struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    bool any = false;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(deal->schema, &builder, err));
    for (size_t i = 0; i < call->input_count; i++) {
        any |= call->inputs[i].present;
        for (size_t b = 0; b < call->inputs[i].batch_count; b++) {
            const struct mr_batch *rows = call->inputs[i].batches[b];

            for (int64_t row = 0; row < mr_batch_row_count(rows); row++) {
                int64_t k = mr_column_int(mr_batch_column(rows, 0), row);
                if (k % deal->partition_count == partition)
                    add_row(builder, k);
            }
        }
    }
    if (!any)
        add_row(builder, -1);
    status = mr_batch_builder_finish(builder, &batch, err);
    if (status == MR_OK)
        status = mr_output_emit(out, batch, err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    return status;
}

static uint32_t deal_partition_count(void *op)
{
    return ((struct deal *)op)->partition_count;
}

static enum mr_status deal_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct deal *deal = op;
    size_t at = strlen(deal->inputs);

    for (size_t i = 0; i < call->input_count; i++)
        at += (size_t)snprintf(deal->inputs + at, sizeof(deal->inputs) - at, "%d",
                               call->inputs[i].present);
    snprintf(deal->inputs + at, sizeof(deal->inputs) - at, "%s ", call->fires ? "" : "-");
    for (uint32_t p = 0; !deal->on_workers && p < deal->partition_count; p++)
        MR_TRY(emit_partition(deal, call, p, mr_fold_output(call, p), err));
    return MR_OK;
}

/* Waits until so many are inside at the same time. */
static void meet(struct deal *deal)
{
    mr_mutex_lock(&deal->lock);
    deal->met++;
    mr_cond_broadcast(&deal->changed);
    while (deal->met < deal->meeting && !deal->missed)
        deal->missed = !mr_cond_wait_for(&deal->changed, &deal->lock, INT64_C(10000000000));
    mr_mutex_unlock(&deal->lock);
}

static enum mr_status deal_run_partition(void *op, uint32_t partition, struct mr_fold_call *call,
                                         struct mr_error *err)
{
    struct deal *deal = op;

    atomic_fetch_add(&deal->runs, 1);
    if (deal->meeting > 0)
        meet(deal);
    if (partition == deal->fails_at)
        return MR_FAIL(err, MR_CONFIG, "partition %u does not like it", partition);
    return emit_partition(deal, call, partition, call->out, err);
}

static void deal_free(void *op)
{
    struct deal *deal = op;

    mr_schema_unref(deal->schema);
    mr_mutex_release(&deal->lock);
    mr_cond_release(&deal->changed);
}

static const struct mr_fold_ops deal_in_run = {.struct_size = sizeof(struct mr_fold_ops),
                                               .kind = "deal",
                                               .run = deal_run,
                                               .free = deal_free,
                                               .partition_count = deal_partition_count};
static const struct mr_fold_ops deal_on_workers = {.struct_size = sizeof(struct mr_fold_ops),
                                                   .kind = "deal",
                                                   .run = deal_run,
                                                   .free = deal_free,
                                                   .partition_count = deal_partition_count,
                                                   .run_partition = deal_run_partition};

static struct mr_node *add_deal(struct mr_graph *graph, const char *name, struct deal *deal,
                                struct mr_node *const *inputs, size_t input_count)
{
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    deal->schema = flow_pair_schema();
    CHECK_OK(mr_graph_fold(graph, name, inputs, input_count, deal->schema,
                           deal->on_workers ? &deal_on_workers : &deal_in_run, deal, &node, &err),
             &err);
    return node;
}

/* ---- A map operator that notes which worker ran it: k -> 10 * k. ---- */

static enum mr_status tenfold(void *op, void *task, const struct mr_batch_info *info,
                              const struct mr_batch *batch, struct mr_output *out,
                              struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *made = NULL;
    enum mr_status status;

    (void)task, (void)info;
    MR_TRY(mr_batch_builder_new(op, &builder, err));
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
        add_row(builder, 10 * mr_column_int(mr_batch_column(batch, 0), row));
    status = mr_batch_builder_finish(builder, &made, err);
    if (status == MR_OK)
        status = mr_output_emit(out, made, err);
    mr_batch_unref(made);
    mr_batch_builder_free(builder);
    return status;
}

static void tenfold_free(void *op)
{
    mr_schema_unref(op);
}

static const struct mr_map_ops tenfold_ops = {.struct_size = sizeof(struct mr_map_ops),
                                              .kind = "tenfold",
                                              .apply = tenfold,
                                              .free = tenfold_free};

static struct mr_node *add_tenfold(struct mr_graph *graph, const char *name,
                                   struct mr_node *const *inputs, size_t input_count)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    CHECK_OK(
        mr_graph_map(graph, name, inputs, input_count, schema, &tenfold_ops, schema, &node, &err),
        &err);
    return node;
}

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

/* One batch a second on the virtual clock; frees the graph. */
static enum mr_status run_ticks(struct mr_graph *graph, unsigned workers, uint64_t batches,
                                struct mr_error *err)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_query_config config;
    struct mr_query *query = NULL;
    enum mr_status status;

    mr_log_set_sink(quiet, NULL);
    mr_query_config_init(&config);
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = SECOND_US;
    config.workers = workers;
    config.batches_max = batches;
    config.parallel_min_bytes = 1;
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sim_free(sim);
    return status;
}

/* source -> deal -> tenfold -> sink */
static void run_dealt(struct deal *deal, unsigned workers, bool concurrent, char *ret_notes,
                      size_t size)
{
    struct mr_graph *graph = mr_graph_new();
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, concurrent);
    struct mr_node *node = script_source(graph, "in", "1 2 3/4 5|6|//");
    node = add_deal(graph, "deal", deal, &node, 1);
    node = add_tenfold(graph, "tenfold", &node, 1);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_OK(run_ticks(graph, workers, 3, &err), &err);
    snprintf(ret_notes, size, "%.*s", (int)size - 1, notes.text);
}

static const char dealt[] = "0:30/10 40/20 50|1:60//|2://|";

TEST(a_fold_gives_partitions_and_the_sink_sees_all_of_them_in_order)
{
    struct deal deal = deal_of(3, false);
    char notes[256];

    run_dealt(&deal, 1, false, notes, sizeof(notes));
    CHECK_EQ_STR(notes, dealt);
}

TEST(partitions_of_a_fold_run_on_workers_and_give_the_same)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        for (int concurrent = 0; concurrent < 2; concurrent++) {
            struct deal deal = deal_of(3, true);
            char notes[256];

            run_dealt(&deal, workers, concurrent == 1, notes, sizeof(notes));
            CHECK_EQ_STR(notes, dealt);
            CHECK_EQ_UINT(deal.runs, 9);
        }
    }
}

TEST(partitions_of_a_fold_run_at_the_same_time)
{
    struct deal deal = deal_of(3, true);
    char notes[256];

    deal.meeting = 3;
    run_dealt(&deal, 3, true, notes, sizeof(notes));
    CHECK(!deal.missed);
    CHECK_EQ_STR(notes, dealt);
}

TEST(the_failure_of_a_partition_names_the_operator_and_ends_the_batch)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(4, true);
    struct script_notes notes;
    struct mr_error err = {0};

    deal.fails_at = 2;
    script_notes_init(&notes, false);
    struct mr_node *node = script_source(graph, "in", "1 2 3");
    node = add_deal(graph, "deal", &deal, &node, 1);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_EQ_INT(run_ticks(graph, 2, 1, &err), MR_CONFIG);
    CHECK_EQ_STR(err.text, "batch 0: operator 'deal': partition 2 does not like it");
    CHECK_EQ_STR(notes.text, "");
}

/* The sum fold under a fold: consumers of partitions that are folds see them in order. */
TEST(a_fold_behind_a_fold_gets_the_partitions_in_order)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal first = deal_of(4, true), second = deal_of(1, false);
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, false);
    struct mr_node *node = script_source(graph, "in", "7 6 5 4 3 2 1/8|1");
    node = add_deal(graph, "first", &first, &node, 1);
    node = add_deal(graph, "second", &second, &node, 1);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_OK(run_ticks(graph, 4, 2, &err), &err);
    CHECK_EQ_STR(notes.text, "0:4 8 5 1 6 2 7 3|1:1|");
}

TEST(each_sink_has_numbers_of_its_own)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(2, true);
    struct script_notes plain, folded, both;
    struct mr_error err = {0};

    script_notes_init(&plain, true);
    script_notes_init(&folded, true);
    script_notes_init(&both, false);
    struct mr_node *a = script_source(graph, "a", "1/2/3|1");
    struct mr_node *b = script_source(graph, "b", "4/5|");
    struct mr_node *fold = add_deal(graph, "deal", &deal, &a, 1);
    struct mr_node *map = add_tenfold(graph, "tenfold", (struct mr_node *[]){b, fold}, 2);
    script_sink(graph, "plain", &plain, &b, 1);
    script_sink(graph, "folded", &folded, &fold, 1);
    script_sink(graph, "both", &both, (struct mr_node *[]){a, map}, 2);
    CHECK_OK(run_ticks(graph, 3, 3, &err), &err);
    CHECK_EQ_STR(plain.text, "0:4/5|1:|2:|");
    CHECK_EQ_STR(folded.text, "0:2/1 3|1:/1|2:/|");
    CHECK_EQ_STR(both.text, "0:1/2/3/40/50/20/10 30|1:1///10|2:/|");
}

/* ---- Batches without a dataset (DS-2). ---- */

TEST(DS_2_a_batch_without_a_dataset_is_not_an_empty_one)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(2, true);
    struct script_notes mapped, folded;
    struct mr_error err = {0};

    script_notes_init(&mapped, false);
    script_notes_init(&folded, true);
    struct mr_node *in = script_source(graph, "in", "1|-||2");
    struct mr_node *map = add_tenfold(graph, "tenfold", &in, 1);
    struct mr_node *fold = add_deal(graph, "deal", &deal, &map, 1);
    script_sink(graph, "mapped", &mapped, &map, 1);
    script_sink(graph, "folded", &folded, &fold, 1);
    CHECK_OK(run_ticks(graph, 2, 4, &err), &err);
    CHECK_EQ_STR(mapped.text, "0:10|2:|3:20|");
    CHECK_EQ_STR(folded.text, "0:10/|2:/|3:20/|");
    CHECK_EQ_STR(deal.inputs, "1 1 1 ");
}

TEST(DS_2_a_fold_learns_which_of_its_inputs_has_a_dataset)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(1, false);
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, false);
    struct mr_node *a = script_source(graph, "a", "1|-|2|-");
    struct mr_node *b = script_source(graph, "b", "3||-|-");
    struct mr_node *fold = add_deal(graph, "deal", &deal, (struct mr_node *[]){a, b}, 2);
    script_sink(graph, "out", &notes, &fold, 1);
    CHECK_OK(run_ticks(graph, 1, 4, &err), &err);
    CHECK_EQ_STR(notes.text, "0:1 3|1:|2:2|");
    CHECK_EQ_STR(deal.inputs, "11 01 10 ");
}

TEST(UPD_3_a_fold_with_a_slide_runs_when_its_input_has_no_dataset)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(1, true);
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, false);
    struct mr_node *node = script_source(graph, "in", "1|-||-");
    node = add_tenfold(graph, "tenfold", &node, 1);
    node = add_deal(graph, "deal", &deal, &node, 1);
    mr_node_set_slide(node, SECOND_US);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_OK(run_ticks(graph, 1, 4, &err), &err);
    CHECK_EQ_STR(notes.text, "0:10|1:-1|2:|3:-1|");
}

TEST(WIN_2_a_fold_takes_its_input_in_between_slides_and_what_it_gives_then_goes_nowhere)
{
    struct mr_graph *graph = mr_graph_new();
    struct deal deal = deal_of(2, true), behind = deal_of(1, false);
    struct script_notes notes, second;
    struct mr_error err = {0};

    script_notes_init(&notes, true);
    script_notes_init(&second, false);
    struct mr_node *node = script_source(graph, "in", "1|2|-|-");
    node = add_deal(graph, "deal", &deal, &node, 1);
    mr_node_set_slide(node, 2 * SECOND_US);
    script_sink(graph, "out", &notes, &node, 1);
    struct mr_node *last = add_deal(graph, "behind", &behind, &node, 1);
    script_sink(graph, "second", &second, &last, 1);
    CHECK_OK(run_ticks(graph, 2, 4, &err), &err);
    CHECK_EQ_STR(deal.inputs, "1- 1 0 ");
    CHECK_EQ_STR(notes.text, "1:2/|3:-1/-1|");
    CHECK_EQ_STR(second.text, "1:2|3:-1 -1|");
}

TEST(a_union_of_which_one_input_has_no_dataset_is_an_error)
{
    struct mr_graph *graph = mr_graph_new();
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, false);
    struct mr_node *a = script_source(graph, "a", "1|-|2");
    struct mr_node *b = script_source(graph, "b", "3|-|-");
    struct mr_node *node = add_tenfold(graph, "both", (struct mr_node *[]){a, b}, 2);
    mr_node_require_all(node);
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_EQ_INT(run_ticks(graph, 1, 3, &err), MR_CONFIG);
    CHECK_NOT_NULL(strstr(err.text, "could not generate its dataset, as its input 'b' has none"));
    CHECK_EQ_STR(notes.text, "0:10/30|");
}

/* The number of ways through the graph doubles forty times; a batch without rows takes none. */
TEST(a_union_of_a_stream_with_itself_again_and_again_is_built_and_run)
{
    struct mr_graph *graph = mr_graph_new();
    struct script_notes notes;
    struct mr_error err = {0};

    script_notes_init(&notes, false);
    struct mr_node *first = script_source(graph, "in", "/|");
    struct mr_node *node = first;
    for (int i = 0; i < 40; i++) {
        char name[16];

        snprintf(name, sizeof(name), "twice %d", i);
        node = add_tenfold(graph, name, (struct mr_node *[]){node, node}, 2);
    }
    CHECK(!mr_nodes_in_order((struct mr_node *[]){first, node}, 2));
    script_sink(graph, "out", &notes, &node, 1);
    CHECK_OK(run_ticks(graph, 1, 2, &err), &err);
    CHECK_EQ_STR(notes.text, "0:/|1:|");
}
