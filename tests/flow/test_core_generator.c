/*
 * The block generator (dstream.md 8.3, 8.4): what becomes a block, when, and how fast.
 */
#include "core/block_generator.h"
#include "support/test.h"

#include "base/check.h"

enum { BLOCKS_MAX = 64 };

struct sink {
    char blocks[BLOCKS_MAX][4096];
    char metadata[BLOCKS_MAX][128];
    uint64_t records[BLOCKS_MAX];
    size_t count;
    enum mr_status fail;
};

static enum mr_status keep(void *arg, const struct mr_generated *block, struct mr_error *err)
{
    struct sink *sink = arg;

    if (sink->fail != MR_OK)
        return MR_FAIL(err, sink->fail, "the disk is full");
    CHECK(sink->count < BLOCKS_MAX && block->size_bytes < sizeof(sink->blocks[0]));
    memcpy(sink->blocks[sink->count], block->data, block->size_bytes);
    snprintf(sink->metadata[sink->count], sizeof(sink->metadata[0]), "%s",
             block->metadata != NULL ? block->metadata : "-");
    sink->records[sink->count++] = block->record_count;
    return MR_OK;
}

/* No tick comes by itself: the test cuts. */
static void init(struct mr_generator *generator, struct sink *sink, int64_t rate_max)
{
    const struct mr_generator_config config = {
        .env = mr_env_posix(),
        .interval_us = INT64_C(3600) * 1000000,
        .rate_max = rate_max,
        .write = keep,
        .arg = sink,
    };

    *sink = (struct sink){.count = 0};
    mr__generator_init(generator, &config);
}

static enum mr_status add(struct mr_generator *generator, const char *text, uint64_t count,
                          const char *metadata, struct mr_error *err)
{
    const struct mr_generated records = {text, strlen(text), count, metadata};

    return mr__generator_add(generator, &records, err);
}

TEST(V202_V203_records_become_one_block_at_the_tick)
{
    struct mr_generator generator;
    struct sink sink;
    struct mr_error err = {0};

    init(&generator, &sink, 0);
    CHECK_OK(mr__generator_start(&generator, &err), &err);
    CHECK_EQ_INT(generator.state, MR_GENERATOR_ACTIVE);
    for (int i = 1; i <= 10; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d ", i);
        CHECK_OK(add(&generator, text, 1, NULL, &err), &err);
    }
    CHECK_EQ_UINT(sink.count, 0);
    CHECK_OK(mr__generator_cut(&generator, &err), &err);
    CHECK_EQ_UINT(sink.count, 1);
    CHECK_EQ_STR(sink.blocks[0], "1 2 3 4 5 6 7 8 9 10 ");
    CHECK_EQ_UINT(sink.records[0], 10);
    CHECK_EQ_STR(sink.metadata[0], "-");
    CHECK_OK(mr__generator_cut(&generator, &err), &err); /* an empty buffer is no block */
    CHECK_EQ_UINT(sink.count, 1);
    mr__generator_stop(&generator);
    mr__generator_release(&generator);
}

TEST(V205_what_is_added_at_once_is_in_one_block_with_its_metadata_in_order)
{
    struct mr_generator generator;
    struct sink sink;
    struct mr_error err = {0};

    init(&generator, &sink, 0);
    CHECK_OK(mr__generator_start(&generator, &err), &err);
    CHECK_OK(add(&generator, "19 ", 1, "19", &err), &err);
    CHECK_OK(add(&generator, "20 ", 1, "20", &err), &err);
    CHECK_OK(add(&generator, "21 22 23 ", 3, "metadata", &err), &err);
    CHECK_OK(mr__generator_cut(&generator, &err), &err);
    CHECK_EQ_STR(sink.blocks[0], "19 20 21 22 23 ");
    CHECK_EQ_STR(sink.metadata[0], "19\n20\nmetadata");
    CHECK_EQ_UINT(sink.records[0], 5);
    mr__generator_stop(&generator);
    mr__generator_release(&generator);
}

TEST(V206_a_stop_writes_the_rest_and_refuses_what_comes_later)
{
    struct mr_generator generator;
    struct sink sink;
    struct mr_error err = {0};

    init(&generator, &sink, 0);
    CHECK_FAILS(add(&generator, "0 ", 1, NULL, &err), &err, MR_STOPPED, "");
    CHECK_OK(mr__generator_start(&generator, &err), &err);
    CHECK_FAILS(mr__generator_start(&generator, &err), &err, MR_STATE, "twice");
    CHECK_OK(add(&generator, "1 2 ", 2, NULL, &err), &err);
    mr__generator_stop(&generator);
    CHECK_EQ_INT(generator.state, MR_GENERATOR_STOPPED);
    CHECK_EQ_UINT(sink.count, 1);
    CHECK_EQ_STR(sink.blocks[0], "1 2 ");
    CHECK_STATUS(add(&generator, "3 ", 1, NULL, &err), MR_STOPPED);
    CHECK_STATUS(mr__generator_start(&generator, &err), MR_STATE);
    mr__generator_stop(&generator);
    CHECK_EQ_UINT(sink.count, 1);
    mr__generator_release(&generator);
}

TEST(V208_a_block_that_cannot_be_written_stops_everything_behind_it)
{
    struct mr_generator generator;
    struct sink sink;
    struct mr_error err = {0};

    init(&generator, &sink, 0);
    CHECK_OK(mr__generator_start(&generator, &err), &err);
    CHECK_OK(add(&generator, "1 ", 1, NULL, &err), &err);
    sink.fail = MR_IO;
    CHECK_FAILS(mr__generator_cut(&generator, &err), &err, MR_IO, "the disk is full");
    sink.fail = MR_OK;
    CHECK_FAILS(add(&generator, "2 ", 1, NULL, &err), &err, MR_IO, "the disk is full");
    CHECK_FAILS(mr__generator_failure(&generator, &err), &err, MR_IO, "the disk is full");
    mr__generator_stop(&generator);
    CHECK_EQ_UINT(sink.count, 0);
    mr__generator_release(&generator);
}

TEST(V191_V200_an_update_of_the_rate_never_exceeds_the_maximum)
{
    static const struct {
        int64_t rate_max, update, expected;
    } cases[] = {{0, 105, 105}, {110, 105, 105}, {100, 105, 100}, {-5, 100, 100},
                 {50, 0, 50},   {0, -1, 0},      {200, 100, 100}};

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        struct mr_generator generator;
        struct sink sink;

        init(&generator, &sink, cases[i].rate_max);
        mr__generator_set_rate(&generator, cases[i].update);
        CHECK_EQ_INT(mr__generator_rate(&generator), cases[i].expected);
        mr__generator_release(&generator);
    }
}

TEST(V214_records_come_whole_and_not_faster_than_the_rate)
{
    enum { RECORDS = 20000, RATE = 100000, STEP = 100 };
    struct mr_generator generator;
    struct sink sink;
    struct mr_error err = {0};
    int64_t start_ns, took_ns;
    uint64_t records = 0;

    init(&generator, &sink, RATE);
    CHECK_OK(mr__generator_start(&generator, &err), &err);
    start_ns = mr_env_monotonic_ns(mr_env_posix());
    for (int i = 0; i < RECORDS / STEP; i++) {
        char text[16];

        mr__generator_acquire(&generator, STEP);
        snprintf(text, sizeof(text), "%d ", i);
        CHECK_OK(add(&generator, text, STEP, NULL, &err), &err);
    }
    took_ns = mr_env_monotonic_ns(mr_env_posix()) - start_ns;
    mr__generator_stop(&generator);
    CHECK_EQ_UINT(sink.count, 1);
    records = sink.records[0];
    CHECK_EQ_UINT(records, RECORDS);
    for (int i = 0; i < 3; i++) /* in order: the first ones are enough */
        CHECK_EQ_INT(sink.blocks[0][2 * i], '0' + i);
    /* at first there are no permits, so nothing comes for free */
    CHECK(took_ns >= (int64_t)(RECORDS - STEP) * 1000000000 / RATE);
    CHECK(took_ns < INT64_C(30) * 1000000000);
    mr__generator_release(&generator);
}
