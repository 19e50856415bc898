/*
 * Marks of a commit: the times of single nodes that a restart takes up again (structured.md 7), and
 * commits without any, as every version before wrote them.
 */
#include "base/alloc.h"
#include "env/sim.h"
#include "support/test.h"
#include "wal/batch_log.h"
#include "wal/internal.h"

#define DIR "/log"

static struct mr_batch_log *open_log(struct mr_sim *sim, struct mr_recovered *recovered)
{
    struct mr_batch_log_config config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_open(mr_sim_env(sim), DIR, &config, &log, recovered, &err), &err);
    return log;
}

static void commit(struct mr_batch_log *log, uint64_t batch_id, uint32_t mark_count)
{
    struct mr_mark marks[] = {{(char *)"ads", MR_MARK_WATERMARK, INT64_MIN},
                              {(char *)"clicks", MR_MARK_WATERMARK, -5},
                              {(char *)"source", MR_MARK_MOVED, 1700000000000000}};
    struct mr_plan plan = {.batch_id = batch_id};
    struct mr_commit done = {.batch_id = batch_id, .marks = marks, .mark_count = mark_count};
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    CHECK_OK(mr_batch_log_commit(log, &done, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
}

TEST(marks_of_the_last_commit_come_back_with_it)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_recovered recovered = {0};
    struct mr_error err = {0};
    struct mr_batch_log *log;
    const struct mr_mark *marks;

    CHECK_OK(mr_env_mkdir(mr_sim_env(sim), DIR, &err), &err);
    log = open_log(sim, &recovered);
    mr_recovered_release(&recovered);
    commit(log, 0, 0);
    commit(log, 1, 3);
    mr_batch_log_close(log);
    log = open_log(sim, &recovered);
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 1);
    CHECK_EQ_UINT(recovered.last_commit.mark_count, 3);
    marks = recovered.last_commit.marks;
    CHECK_EQ_STR(marks[0].name, "ads");
    CHECK(marks[0].kind == MR_MARK_WATERMARK && marks[0].time_us == INT64_MIN);
    CHECK(marks[1].kind == MR_MARK_WATERMARK && marks[1].time_us == -5);
    CHECK(marks[2].kind == MR_MARK_MOVED && marks[2].time_us == 1700000000000000);
    mr_recovered_release(&recovered);
    commit(log, 2, 0);
    mr_batch_log_close(log);
    log = open_log(sim, &recovered);
    CHECK_EQ_UINT(recovered.last_commit.batch_id, 2);
    CHECK_EQ_UINT(recovered.last_commit.mark_count, 0);
    mr_recovered_release(&recovered);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(every_cut_of_marks_is_noticed)
{
    struct mr_mark marks[] = {{(char *)"a", MR_MARK_WATERMARK, 7}, {(char *)"b", MR_MARK_MOVED, 8}};
    struct mr_commit whole = {.batch_id = 4, .marks = marks, .mark_count = 2}, found;
    struct mr_log_position position = {0};
    struct mr_buf with = MR_BUF_INIT, without = MR_BUF_INIT;
    bool no_memory = false;

    mr__commit_encode(&with, &whole, &position);
    whole.mark_count = 0;
    mr__commit_encode(&without, &whole, &position);
    CHECK(with.size > without.size);
    for (size_t cut = without.size; cut <= with.size; cut++) {
        bool good = cut == without.size || cut == with.size;

        CHECK_EQ_INT(mr__commit_decode(mr_bytes_of(with.data, cut), &found, &no_memory), good);
        CHECK(!no_memory);
        if (!good)
            continue;
        CHECK_EQ_UINT(found.mark_count, cut == with.size ? 2 : 0);
        mr_commit_release(&found);
    }
    with.data[without.size] = 0; /* none, but said */
    CHECK(!mr__commit_decode(mr_bytes_of(with.data, without.size + 1), &found, &no_memory));
    with.data[without.size] = 2;
    with.data[without.size + 3] = 2; /* a kind that there is not */
    CHECK(!mr__commit_decode(mr_bytes_of(with.data, with.size), &found, &no_memory));
    mr_buf_release(&with);
    mr_buf_release(&without);
}
