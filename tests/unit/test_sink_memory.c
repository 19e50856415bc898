/*
 * The memory sink.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <millrace/ext/memory.h>

static char *all(struct mr_memory *table)
{
    struct mr_batch *batch = NULL;
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_memory_rows(table, &batch, &err), &err);
    plug_print(&out, batch);
    mr_batch_unref(batch);
    return out.size > 0 ? mr_buf_take(&out) : mr_strdup("");
}

static void check_rows(const char *name, const char *wanted)
{
    char *rows = all(mr_memory_table(name));

    CHECK_EQ_STR(rows, wanted);
    mr_free(rows);
}

TEST(rows_appear_at_publish_in_partition_order)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    const char *rows[] = {"1;2", NULL, "3"};

    mr_memory_drop("m1");
    plug_sink_open(&sink, &(struct plug_sink_spec){
                              .connector = "memory", .columns = "a BIGINT", .options = "table=m1"});
    CHECK_EQ_INT(plug_last_published(&sink), -1);
    CHECK_OK(plug_stage(&sink, 0, rows, 3, &err), &err);
    CHECK_EQ_INT(mr_memory_step_count(mr_memory_table("m1")), 0);
    sink.connector->ops->abort(sink.object);
    plug_batch_out(&sink, 0, rows, 3);
    check_rows("m1", "1;2;3");
    CHECK_EQ_INT(plug_last_published(&sink), 0);
    plug_sink_close(&sink);
}

TEST(a_batch_published_again_changes_nothing)
{
    struct plug_sink sink;
    const char *rows[] = {"1"};
    const char *more[] = {"2"};

    mr_memory_drop("m2");
    plug_sink_open(&sink, &(struct plug_sink_spec){
                              .connector = "memory", .columns = "a BIGINT", .options = "table=m2"});
    plug_batch_out(&sink, 0, rows, 1);
    plug_batch_out(&sink, 1, more, 1);
    plug_sink_close(&sink);
    plug_sink_open(&sink, &(struct plug_sink_spec){
                              .connector = "memory", .columns = "a BIGINT", .options = "table=m2"});
    CHECK_EQ_INT(plug_last_published(&sink), 1);
    plug_batch_out(&sink, 1, more, 1);
    check_rows("m2", "1;2");
    plug_sink_close(&sink);
}

TEST(another_query_starts_counting_from_the_beginning)
{
    struct plug_sink sink;
    const char *rows[] = {"1"};

    mr_memory_drop("m3");
    plug_sink_open(&sink, &(struct plug_sink_spec){
                              .connector = "memory", .columns = "a BIGINT", .options = "table=m3"});
    plug_batch_out(&sink, 0, rows, 1);
    plug_sink_close(&sink);
    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "memory",
                                                   .columns = "a BIGINT",
                                                   .options = "table=m3",
                                                   .query_id = "q2"});
    CHECK_EQ_INT(plug_last_published(&sink), -1);
    plug_batch_out(&sink, 0, rows, 1);
    check_rows("m3", "1;1");
    plug_sink_close(&sink);
}

TEST(complete_mode_replaces_all_rows)
{
    struct plug_sink sink;
    const char *first[] = {"1;2"};
    const char *second[] = {"3"};

    mr_memory_drop("m4");
    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "memory",
                                                   .columns = "a BIGINT",
                                                   .options = "table=m4",
                                                   .mode = MR_MODE_COMPLETE});
    plug_batch_out(&sink, 0, first, 1);
    plug_batch_out(&sink, 1, second, 1);
    check_rows("m4", "3");
    plug_sink_close(&sink);
}
