/*
 * The memory source and its tables.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <millrace/ext/memory.h>

static void add(struct mr_memory *table, const char *rows)
{
    struct mr_batch *batch = plug_batch("a BIGINT, b VARCHAR", rows);
    struct mr_error err = {0};

    CHECK_OK(mr_memory_add(table, batch, &err), &err);
    mr_batch_unref(batch);
}

static struct mr_memory *fresh(const char *name)
{
    mr_memory_drop(name);
    return mr_memory_table(name);
}

TEST(steps_are_read_once_and_in_order)
{
    struct mr_memory *table = fresh("steps");
    struct plug_source src;
    char *first;
    char *second;

    add(table, "1|a;2|b");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=steps"});
    first = plug_plan(&src, NULL);
    CHECK_EQ_STR(first, "1");
    CHECK_EQ_STR(plug_read(&src, NULL, first), "1|a;2|b");
    CHECK_NULL(plug_plan(&src, first));
    add(table, "3|c");
    add(table, "4|null");
    second = plug_plan(&src, first);
    CHECK_EQ_STR(plug_read(&src, first, second), "3|c;4|null");
    CHECK_EQ_STR(plug_read(&src, NULL, first), "1|a;2|b");
    mr_text_free(first);
    mr_text_free(second);
    plug_source_stop(&src);
}

TEST(a_batch_takes_at_most_max_steps_per_trigger)
{
    struct mr_memory *table = fresh("limited");
    struct plug_source src;
    char *end;

    for (int i = 0; i < 5; i++)
        add(table, "1|x");
    plug_source_open(&src,
                     &(struct plug_source_spec){.connector = "memory",
                                                .columns = "a BIGINT, b VARCHAR",
                                                .options = "table=limited\nmaxStepsPerTrigger=2"});
    end = plug_plan(&src, NULL);
    CHECK_EQ_STR(end, "2");
    mr_text_free(end);
    end = plug_plan(&src, "4");
    CHECK_EQ_STR(end, "5");
    mr_text_free(end);
    plug_source_stop(&src);
}

TEST(partitions_share_the_steps_of_a_range)
{
    struct mr_memory *table = fresh("cut");
    struct plug_source src;

    add(table, "1|a");
    add(table, "2|b");
    add(table, "3|c");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=cut\npartitions=2"});
    CHECK_EQ_STR(plug_read(&src, NULL, "3"), "1|a;3|c;2|b");
    CHECK_EQ_INT(src.partitions, 2);
    CHECK_EQ_STR(plug_read(&src, "2", "3"), "3|c");
    CHECK_EQ_INT(src.partitions, 1);
    plug_source_stop(&src);
}

TEST(only_the_columns_asked_for_are_produced)
{
    struct mr_memory *table = fresh("subset");
    struct plug_source src;

    add(table, "1|a;2|b");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .produce = "b VARCHAR",
                                                      .options = "table=subset"});
    CHECK_EQ_STR(plug_read(&src, NULL, "1"), "a;b");
    plug_source_stop(&src);
}

TEST(a_source_until_caught_up_stops_at_what_was_there_at_start)
{
    struct mr_memory *table = fresh("frozen");
    struct plug_source src;
    char *end;

    add(table, "1|a");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=frozen",
                                                      .until_caught_up = true});
    add(table, "2|b");
    end = plug_plan(&src, NULL);
    CHECK_EQ_STR(end, "1");
    CHECK_NULL(plug_plan(&src, end));
    CHECK(src.connector->ops->exhausted(src.object, end));
    CHECK(!src.connector->ops->exhausted(src.object, NULL));
    mr_text_free(end);
    plug_source_stop(&src);
}

TEST(a_source_is_exhausted_once_its_table_has_ended)
{
    struct mr_memory *table = fresh("ended");
    struct plug_source src;

    add(table, "1|a");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=ended"});
    CHECK(!src.connector->ops->exhausted(src.object, "1"));
    mr_memory_end(table);
    CHECK(src.connector->ops->exhausted(src.object, "1"));
    CHECK(!src.connector->ops->exhausted(src.object, NULL));
    plug_source_stop(&src);
}

static void count_wake(void *arg)
{
    (*(int *)arg)++;
}

TEST(adding_a_step_wakes_the_reader_until_it_stops)
{
    struct mr_memory *table = fresh("wake");
    struct plug_source src;
    int wakes = 0;

    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=wake"});
    src.connector->ops->set_wakeup(src.object, count_wake, &wakes);
    add(table, "1|a");
    CHECK_EQ_INT(wakes, 1);
    plug_source_stop(&src);
    add(table, "2|a");
    CHECK_EQ_INT(wakes, 1);
}

TEST(steps_that_are_gone_are_data_loss)
{
    struct mr_memory *table = fresh("gone");
    struct plug_source src;
    struct mr_error err = {0};
    struct mr_plan_limits limits = {false};
    char *end = NULL;

    add(table, "1|a");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "memory",
                                                      .columns = "a BIGINT, b VARCHAR",
                                                      .options = "table=gone"});
    CHECK_FAILS(src.connector->ops->plan(src.object, "7", &limits, &end, &err), &err, MR_DATA_LOSS,
                "from 7");
    CHECK_FAILS(plug_read_try(&src, "5", "7", &err), &err, MR_DATA_LOSS, "5 to 7");
    CHECK_FAILS(src.connector->ops->plan(src.object, "x", &limits, &end, &err), &err, MR_CORRUPT,
                "'x'");
    plug_source_stop(&src);
}

TEST(rows_of_other_columns_are_refused)
{
    struct mr_memory *table = fresh("columns");
    struct mr_batch *batch = plug_batch("c DOUBLE", "1.5");
    struct mr_error err = {0};

    add(table, "1|a");
    CHECK_FAILS(mr_memory_add(table, batch, &err), &err, MR_CONFIG, "'columns'");
    CHECK_EQ_INT(mr_memory_row_count(table), 1);
    mr_batch_unref(batch);
}
