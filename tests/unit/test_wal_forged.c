/*
 * Logs whose every checksum and tag is right and whose meaning is wrong: records in an order that
 * no run of ours writes, segments of other logs, heads that say something else (faults.md B6 to
 * B11, B16, B20). Damage that a checksum notices is in test_wal_batch_log.c.
 *
 *     forge_segment(&f, 1) | forge_record ... forge_group | forge_record ... | forge_end
 */
#include "support/wal_log.h"

#include "wal/block_log_internal.h"
#include "wal/checkpoint.h"
#include "wal/record.h"

enum { SIZE = 8192 };

struct forger {
    struct mr_sim *sim;
    struct mr_env *env;
    enum mr_segment_kind kind;
    struct mr_buf file, records;
    uint64_t number, chain, head_sum, plan_sum, commit_sum;
    uint32_t ordinal;
    struct mr_log_position position;
    /* what is wrong with the next head */
    uint8_t query, head_kind, head_version, head_flags;
    uint64_t number_told, size_told, before;
    bool behind_head, bad_head_sum, wrong_key;
};

static struct forger forger_new(enum mr_segment_kind kind)
{
    struct forger f = {.sim = mr_sim_new(1), .kind = kind};

    f.env = mr_sim_env(f.sim);
    make_dir(f.env, LOG_DIR);
    return f;
}

static void forger_free(struct forger *f)
{
    mr_buf_release(&f->file);
    mr_buf_release(&f->records);
    mr_sim_free(f->sim);
}

static void forge_segment(struct forger *f, uint64_t number)
{
    struct mr_part_list none = {0};
    struct mr_buf payload = MR_BUF_INIT, head = MR_BUF_INIT;
    uint8_t id[16];

    memset(id, 7, sizeof(id));
    id[3] = (uint8_t)(7 + f->query);
    f->number = number;
    f->ordinal = 1;
    mr_buf_clear(&f->file);
    mr__segment_head_begin(&payload, f->number_told != 0 ? f->number_told : number,
                           f->size_told != 0 ? f->size_told : SIZE, id);
    if (f->kind == MR_SEGMENT_BATCH_LOG) {
        size_t at = payload.size;

        mr__head_encode(&payload, &f->position, &none);
        payload.data[at] = (char)(payload.data[at] | f->head_flags);
    } else {
        mr_buf_add_u64(&payload, f->before);
        mr_buf_add_u64(&payload, f->head_flags);
    }
    mr_record_append(&head,
                     f->head_kind != 0 ? (enum mr_record_kind)f->head_kind : MR_RECORD_SEGMENT,
                     f->head_version != 0 ? f->head_version : MR_SEGMENT_FORMAT, f->chain,
                     payload.data, payload.size, &f->head_sum);
    if (f->bad_head_sum)
        head.data[16] ^= 1;
    if (f->behind_head)
        mr_buf_add_u8(&head, 1);
    mr__group_encode(&f->file, mr__segment_key(f->kind, f->wrong_key ? number + 1 : number), 0,
                     head.data, head.size);
    mr_buf_release(&payload);
    mr_buf_release(&head);
}

/* A record behind the others of its group; NEXT is not part of the chain. */
static void forge_record(struct forger *f, enum mr_record_kind kind, unsigned version,
                         struct mr_buf *payload)
{
    uint64_t sum = 0;

    mr_record_append(&f->records, kind, (uint8_t)version, f->chain, payload->data, payload->size,
                     &sum);
    if (kind != MR_RECORD_NEXT)
        f->chain = sum;
    if (kind == MR_RECORD_PLAN)
        f->plan_sum = sum;
    if (kind == MR_RECORD_COMMIT)
        f->commit_sum = sum;
    mr_buf_release(payload);
}

static void forge_group(struct forger *f)
{
    mr__group_encode(&f->file, mr__segment_key(f->kind, f->number), f->ordinal++, f->records.data,
                     f->records.size);
    mr_buf_clear(&f->records);
}

static void write_unsynced(struct mr_env *env, const char *path, const void *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    mr_env_close(env, file);
}

static const char *forged_path(const struct forger *f, uint64_t number)
{
    static char path[64];

    snprintf(path, sizeof(path), LOG_DIR "/%020" PRIu64 "%s", number,
             f->kind == MR_SEGMENT_BATCH_LOG ? ".log" : ".blk");
    return path;
}

static void forge_end(struct forger *f)
{
    while (f->file.size < SIZE)
        mr_buf_add_u64(&f->file, 0);
    CHECK(!f->file.failed && f->file.size == SIZE);
    write_unsynced(f->env, forged_path(f, f->number), f->file.data, f->file.size);
}

static void add_epoch(struct forger *f, uint32_t epoch)
{
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u32(&payload, epoch);
    forge_record(f, MR_RECORD_EPOCH, 1, &payload);
}

static void add_plan(struct forger *f, uint64_t batch)
{
    struct mr_plan plan = {.batch_id = batch};
    struct mr_buf payload = MR_BUF_INIT;

    mr__plan_encode(&payload, &plan);
    forge_record(f, MR_RECORD_PLAN, 1, &payload);
}

static void add_delta(struct forger *f, uint64_t batch, uint8_t flag)
{
    struct mr_buf payload = MR_BUF_INIT;

    mr__delta_encode(&payload, batch, "s", false, "x", 1);
    payload.data[1] = (char)flag;
    forge_record(f, MR_RECORD_DELTA, 1, &payload);
}

/* part: NULL = none. flags: or'ed into those of the part. */
static void add_commit(struct forger *f, uint64_t batch, struct mr_state_part *part, uint8_t flags)
{
    struct mr_commit commit = {.batch_id = batch, .parts = part, .part_count = part != NULL};
    struct mr_log_position position = {
        .plan_sum = f->plan_sum, .has_commit = true, .commit_sum = f->commit_sum};
    struct mr_buf payload = MR_BUF_INIT;

    mr__commit_encode(&payload, &commit, &position);
    if (flags !=
        0) /* batch, epoch, attempt, two sums, watermark, count, "s", version, epoch, attempt */
        payload.data[1 + 4 + 4 + 8 + 8 + 8 + 1 + 2 + 1 + 4 + 4] ^= (char)flags;
    forge_record(f, MR_RECORD_COMMIT, 1, &payload);
}

static void add_next(struct forger *f, uint64_t number, uint64_t sum)
{
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u64(&payload, number);
    mr_buf_add_u64(&payload, sum);
    forge_record(f, MR_RECORD_NEXT, 1, &payload);
}

static struct mr_state_part part_of(bool in_log, const char *file)
{
    return (struct mr_state_part){.store = (char *)(uintptr_t) "s",
                                  .in_log = in_log,
                                  .file = (char *)(uintptr_t)file,
                                  .size_bytes = 1};
}

/* The log must be read (reason NULL) or refused, and is forgotten. */
static void check_log_as(struct forger *f, const uint8_t *query_id, enum mr_status wanted,
                         const char *reason)
{
    struct mr_replay_options options = {.query_id = query_id};
    struct mr_replay replay;
    struct mr_error err = {0};
    enum mr_status status = mr__replay_run(f->env, LOG_DIR, &options, &replay, &err);

    if (status == MR_OK)
        mr__replay_release(&replay);
    if (reason == NULL)
        CHECK_OK(status, &err);
    else
        CHECK_FAILS(status, &err, wanted, reason);
    forger_free(f);
}

static void check_log(struct forger *f, const char *reason)
{
    if (f->file.size < SIZE) {
        if (f->records.size > 0)
            forge_group(f);
        forge_end(f);
    }
    check_log_as(f, NULL, MR_CORRUPT, reason);
}

static struct forger one_plan(void)
{
    struct forger f = forger_new(MR_SEGMENT_BATCH_LOG);

    forge_segment(&f, 1);
    add_plan(&f, 0);
    forge_group(&f);
    return f;
}

/* ---------------------------------------------------------------- records of the batch log */

TEST(a_log_that_is_made_like_ours_is_read)
{
    struct forger f = one_plan();
    struct mr_state_part part = part_of(true, NULL);

    add_epoch(&f, 1);
    add_delta(&f, 0, 0);
    add_commit(&f, 0, &part, 0);
    add_plan(&f, 1);
    check_log(&f, NULL);
}

TEST(B7_B10_B11_records_that_do_not_follow_are_refused)
{
    struct mr_state_part part = part_of(true, NULL);
    struct forger f = one_plan();

    add_epoch(&f, 0);
    check_log(&f, "an epoch does not grow");
    f = one_plan();
    add_delta(&f, 1, 0);
    check_log(&f, "belongs to no batch that was running");
    f = one_plan();
    add_commit(&f, 0, &part, 0);
    check_log(&f, "do not fit");
    f = one_plan();
    add_delta(&f, 0, 0);
    add_commit(&f, 0, NULL, 0);
    check_log(&f, "do not fit");
    f = one_plan();
    add_commit(&f, 0, NULL, 0);
    add_commit(&f, 0, NULL, 0);
    check_log(&f, "committed twice");
    f = one_plan();
    f.commit_sum = 5;
    add_commit(&f, 0, NULL, 0);
    check_log(&f, "does not follow the commit before it");
    f = one_plan();
    f.plan_sum ^= 1;
    add_commit(&f, 0, NULL, 0);
    check_log(&f, "another plan");
    f = one_plan();
    add_commit(&f, 1, NULL, 0);
    check_log(&f, "belongs to no plan");
    f = one_plan();
    add_plan(&f, 1);
    check_log(&f, "before the one before it was committed");
    f = one_plan();
    add_commit(&f, 0, NULL, 0);
    add_plan(&f, 2);
    check_log(&f, "there is a gap");
    f = one_plan();
    add_delta(&f, 0, 0);
    check_log(&f, "deltas without their commit");
}

TEST(B6_records_of_another_form_are_refused)
{
    struct forger f = one_plan();
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u32(&payload, 5);
    forge_record(&f, MR_RECORD_EPOCH, 2, &payload);
    forge_group(&f);
    forge_end(&f);
    check_log_as(&f, NULL, MR_VERSION, "version 2");
    f = one_plan();
    mr_buf_add_u32(&payload, 5);
    forge_record(&f, MR_RECORD_BLOCK, 1, &payload);
    forge_group(&f);
    forge_end(&f);
    check_log(&f, "has no place in the batch log");
    f = one_plan();
    add_epoch(&f, 9);
    f.records.data[4] = 0x4d;
    f.records.data[5] = 0x52;
    forge_group(&f);
    forge_end(&f);
    check_log_as(&f, NULL, MR_VERSION, "byte order");
    f = one_plan();
    add_epoch(&f, 9);
    f.records.data[16] ^= 1;
    check_log(&f, "checksum");
    f = one_plan();
    for (int i = 0; i < 8; i++)
        mr_buf_add_u64(&f.records, 0);
    check_log(&f, "without any record");
}

TEST(B6_payloads_with_impossible_fields_are_refused)
{
    struct mr_plan_source source = {(char *)(uintptr_t) "in", NULL, NULL};
    struct mr_plan plan = {.sources = &source, .source_count = 1};
    struct mr_state_part part = part_of(false, "../x");
    struct mr_buf payload = MR_BUF_INIT;
    struct forger f;

    for (unsigned i = 0; i < 4; i++) {
        f = forger_new(MR_SEGMENT_BATCH_LOG);
        forge_segment(&f, 1);
        mr__plan_encode(&payload, &plan);
        if (i == 0)
            mr_buf_add_u8(&payload, 0);
        if (i == 1) /* the name's second byte */
            payload.data[payload.size - 3] = 0;
        if (i == 2) { /* so many sources: 2^34 */
            payload.size -= 6;
            mr_buf_add_varint(&payload, UINT64_C(1) << 34);
        }
        if (i == 3) /* settings: neither there nor not */
            payload.data[1 + 4 + 4 + 8 + 8 + 8 + 8] = 2;
        forge_record(&f, MR_RECORD_PLAN, 1, &payload);
        check_log(&f, "a plan does not decode");
    }
    f = one_plan();
    add_commit(&f, 0, &part, 0);
    check_log(&f, "a commit does not decode");
    f = one_plan();
    part.file = (char *)(uintptr_t) "x";
    add_commit(&f, 0, &part, 4);
    check_log(&f, "a commit does not decode");
    f = one_plan();
    add_delta(&f, 0, 0);
    add_commit(&f, 0, &part, 2);
    check_log(&f, "a commit does not decode");
    f = one_plan();
    add_delta(&f, 0, 2);
    check_log(&f, "a delta does not decode");
    f = forger_new(MR_SEGMENT_BATCH_LOG);
    f.head_flags = 4;
    forge_segment(&f, 1);
    check_log(&f, "head does not decode");
}

/* ---------------------------------------------------------------- segments */

TEST(B6_B16_B20_heads_that_say_something_else_are_refused)
{
    static const char *const reasons[] = {
        "checksum",      "foreign bytes",       "not the head",     "copy of another",
        "was made with", "head of the segment", "format 9 is newer"};

    for (unsigned i = 0; i < 7; i++) {
        struct forger f = forger_new(MR_SEGMENT_BATCH_LOG);

        f.bad_head_sum = i == 0;
        f.behind_head = i == 1;
        f.head_kind = i == 2 ? MR_RECORD_PLAN : 0;
        f.number_told = i == 3 ? 2 : 0;
        f.size_told = i == 4 ? 2 * SIZE : 0;
        f.wrong_key = i == 5;
        f.head_version = i == 6 ? 9 : 0;
        forge_segment(&f, 1);
        forge_end(&f);
        check_log_as(&f, NULL, i == 6 ? MR_VERSION : MR_CORRUPT, reasons[i]);
    }
}

TEST(B1_B2_a_file_shorter_than_a_sector_is_cut_short)
{
    struct forger f = forger_new(MR_SEGMENT_BATCH_LOG);

    forge_segment(&f, 1);
    write_unsynced(f.env, forged_path(&f, 1), f.file.data, 300);
    f.file.size = SIZE;
    check_log(&f, "the file is cut short");
}

TEST(B16_a_file_larger_than_any_segment_is_refused_before_it_is_read)
{
    const char *dir = t->dir, *path = test_path(t, "00000000000000000001.log");
    struct mr_replay_options options = {0};
    struct mr_replay replay;
    struct mr_file *file = NULL;
    struct mr_error err = {0};
    struct mr_env *env = mr_env_posix();

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_truncate(env, file, UINT64_C(1) << 32, &err), &err);
    mr_env_close(env, file);
    CHECK_FAILS(mr__replay_run(env, dir, &options, &replay, &err), &err, MR_CORRUPT,
                "more than any segment has");
}

/* Segment 1 with a plan and NEXT to segment 2, which begins. */
static struct forger two_segments(void)
{
    struct forger f = forger_new(MR_SEGMENT_BATCH_LOG);
    struct mr_buf first = MR_BUF_INIT;
    uint64_t chain;

    forge_segment(&f, 1);
    add_plan(&f, 0);
    forge_group(&f);
    mr_buf_add(&first, f.file.data, f.file.size);
    chain = f.chain;
    f.position = (struct mr_log_position){.has_plan = true, .plan_sum = f.plan_sum};
    forge_segment(&f, 2); /* for its sum */
    mr_buf_clear(&f.file);
    mr_buf_add(&f.file, first.data, first.size);
    mr_buf_release(&first);
    f.number = 1;
    f.ordinal = 2;
    f.chain = chain;
    return f;
}

TEST(B7_B9_segments_that_do_not_follow_each_other_are_refused)
{
    struct forger f = two_segments();

    add_next(&f, 3, f.head_sum);
    check_log(&f, "a next segment that cannot be");
    f = two_segments();
    add_next(&f, 2, f.head_sum);
    add_epoch(&f, 9);
    check_log(&f, "a record follows the last one");
    f = two_segments();
    add_next(&f, 2, f.head_sum);
    forge_group(&f);
    add_epoch(&f, 9);
    check_log(&f, "a flush follows the last one");
    f = two_segments();
    add_next(&f, 2, f.head_sum);
    forge_group(&f);
    mr_buf_add_u64(&f.file, 77);
    check_log(&f, "foreign bytes follow");
    f = two_segments();
    add_next(&f, 2, f.head_sum ^ 1);
    forge_group(&f);
    forge_end(&f);
    forge_segment(&f, 2);
    check_log(&f, "not the segment that the one before it names");
    f = two_segments();
    add_next(&f, 2, f.head_sum);
    forge_group(&f);
    forge_end(&f);
    f.position.plan_batch = 4;
    forge_segment(&f, 2);
    check_log(&f, "records before it are missing");
    f = two_segments();
    forge_end(&f);
    forge_segment(&f, 3);
    check_log(&f, "nothing between them");
    f = two_segments();
    forge_end(&f);
    forge_segment(&f, 2);
    add_epoch(&f, 9);
    check_log(&f, "it was written to");
}

TEST(B6_a_segment_of_another_query_is_refused)
{
    static const uint8_t ours[16] = {1, 2, 3};
    struct forger f = one_plan();

    forge_end(&f);
    check_log_as(&f, ours, MR_CORRUPT, "another query");
    f = two_segments();
    add_next(&f, 2, f.head_sum);
    forge_group(&f);
    forge_end(&f);
    f.query = 1;
    forge_segment(&f, 2);
    check_log(&f, "another query");
}

TEST(B9_a_log_whose_last_plan_is_not_in_it_is_refused)
{
    struct forger f = forger_new(MR_SEGMENT_BATCH_LOG);
    struct mr_recovered recovered = {0};
    struct mr_error err = {0};

    f.position = (struct mr_log_position){.has_plan = true, .plan_batch = 7};
    forge_segment(&f, 3);
    forge_end(&f);
    CHECK_FAILS(mr_batch_log_peek(f.env, LOG_DIR, 100, &recovered, &err), &err, MR_CORRUPT,
                "are missing");
    forger_free(&f);
}

/* ---------------------------------------------------------------- sectors */

TEST(B3_a_bit_of_a_tag_that_was_flipped_is_damage)
{
    struct forger f = one_plan();

    f.file.data[512 + 496] ^= 1;
    check_log(&f, "bits of a sector tag were flipped");
}

TEST(B5_a_missing_sector_is_damage_before_a_later_flush_and_a_torn_tail_without_one)
{
    struct forger f = one_plan();
    struct mr_replay_options options = {0};
    struct mr_replay replay;
    struct mr_error err = {0};
    struct mr_buf payload = MR_BUF_INIT;

    add_epoch(&f, 9);
    forge_group(&f);
    memset(f.file.data + 512, 0, 512);
    check_log(&f, "a part is missing");
    /* Of a flush of two sectors only the second came. */
    f = one_plan();
    mr__delta_encode(&payload, 0, "s", false, f.file.data, 600);
    forge_record(&f, MR_RECORD_DELTA, 1, &payload);
    forge_group(&f);
    memset(f.file.data + 1024, 0, 512);
    forge_end(&f);
    CHECK_OK(mr__replay_run(f.env, LOG_DIR, &options, &replay, &err), &err);
    CHECK(replay.torn_bytes > 512 && replay.tail == 1024 && replay.ordinal == 2);
    mr__replay_release(&replay);
    forger_free(&f);
}

TEST(what_an_earlier_segment_left_in_a_file_that_is_used_again_is_nothing)
{
    struct mr_buf file = MR_BUF_INIT, out = MR_BUF_INIT;
    struct mr_group group;

    mr__group_encode(&file, mr__segment_key(MR_SEGMENT_BLOCK_LOG, 1), 7, "old", 3);
    CHECK_EQ_INT(mr__group_read((const uint8_t *)file.data, file.size, 0,
                                mr__segment_key(MR_SEGMENT_BLOCK_LOG, 2), 1, true, &out, &group),
                 MR_GROUP_NONE);
    mr_buf_release(&file);
    mr_buf_release(&out);
}

/* ---------------------------------------------------------------- an open after a kill */

static struct mr_batch_log *open_forged(struct forger *f)
{
    struct mr_batch_log_config config = log_config(SIZE, 100);
    struct mr_recovered recovered = {0};
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_open(f->env, LOG_DIR, &config, &log, &recovered, &err), &err);
    mr_recovered_release(&recovered);
    return log;
}

/* What a power loss leaves now must be a log that goes on. */
static void check_after_power_loss(struct forger *f)
{
    struct mr_sim *after = mr_sim_power_loss(f->sim, mr_sim_op_count(f->sim));
    struct mr_replay_options options = {0};
    struct mr_replay replay;
    struct mr_error err = {0};

    CHECK_OK(mr__replay_run(mr_sim_env(after), LOG_DIR, &options, &replay, &err), &err);
    CHECK_EQ_UINT(replay.unused_segment, 0);
    CHECK(replay.has_last_plan);
    mr__replay_release(&replay);
    mr_sim_free(after);
}

TEST(A21_a_segment_that_a_kill_left_unused_is_removed_for_good)
{
    struct forger f = two_segments();
    struct mr_file_info info;
    struct mr_error err = {0};

    forge_end(&f);
    forge_segment(&f, 2);
    forge_end(&f);
    CHECK_OK(mr_env_sync_dir(f.env, LOG_DIR, &err), &err);
    mr_batch_log_close(open_forged(&f));
    CHECK_STATUS(mr_env_path_info(f.env, segment_file(2), false, &info, NULL), MR_NOT_FOUND);
    check_after_power_loss(&f);
    forger_free(&f);
}

TEST(A3_A5_A21_the_segment_before_an_empty_tail_is_durable_when_the_log_is_open)
{
    struct forger f = two_segments();

    add_next(&f, 2, f.head_sum);
    forge_group(&f);
    forge_end(&f);
    forge_segment(&f, 2);
    forge_end(&f);
    mr_batch_log_close(open_forged(&f));
    check_after_power_loss(&f);
    forger_free(&f);
}

static void replay_is_whole(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct mr_replay_options options = {0};
    struct mr_replay replay;
    struct mr_error err = {0};

    (void)arg;
    if (mr__replay_run(mr_sim_env(after), LOG_DIR, &options, &replay, &err) != MR_OK)
        FAIL("%s: %s", crash->text, err.text);
    mr__replay_release(&replay);
}

TEST(A12_a_power_loss_inside_a_purge_of_the_log_leaves_no_gap)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_batch_log_config config = log_config(SIZE, 1);
    struct mr_recovered recovered = {0};
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};
    uint64_t from;

    make_dir(env, LOG_DIR);
    CHECK_OK(mr_batch_log_open(env, LOG_DIR, &config, &log, &recovered, &err), &err);
    log_batches(log, 0, 6, 5000);
    from = mr_sim_op_count(sim);
    CHECK_OK(mr_batch_log_purge(log, UINT64_MAX, &err), &err);
    CHECK(mr_sim_op_count(sim) >= from + 4);
    mr_sim_crash_everywhere(sim, from, 64, 1, replay_is_whole, NULL);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(TR_07_what_belongs_to_a_retained_batch_is_not_purged)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_recovered recovered = {0};
    struct mr_batch_log *log;
    struct mr_file_info info;
    struct mr_error err = {0};

    make_dir(env, LOG_DIR);
    log = open_log(env, SIZE, &recovered); /* 100 batches are retained */
    log_batches(log, 0, 6, 5000);
    CHECK_OK(mr_batch_log_purge(log, UINT64_MAX, &err), &err);
    CHECK_OK(mr_env_path_info(env, segment_file(1), false, &info, &err), &err);
    mr_batch_log_close(log);
    mr_sim_free(sim);
}

TEST(D12_a_log_file_that_was_replaced_is_not_written_to)
{
    struct forger f = one_plan();
    struct mr_batch_log *log;
    struct mr_error err = {0};
    struct bytes bytes;

    forge_end(&f);
    log = open_forged(&f);
    bytes = read_bytes(f.env, segment_file(1));
    CHECK_OK(mr_env_unlink(f.env, segment_file(1), &err), &err);
    write_unsynced(f.env, segment_file(1), bytes.data, bytes.size);
    log_commit(log, 0, 0);
    CHECK_FAILS(mr_batch_log_sync(log, &err), &err, MR_IO, "removed or replaced");
    mr_batch_log_close(log);
    free(bytes.data);
    forger_free(&f);
}

/* ---------------------------------------------------------------- records */

static enum mr_record_result read_exactly(const void *data, size_t size, uint64_t chain)
{
    void *copy = malloc(size); /* of exactly that size: the sanitizer sees a reader go past it */
    struct mr_record record;
    enum mr_record_result result;
    size_t read_bytes_count;

    CHECK_NOT_NULL(copy);
    memcpy(copy, data, size);
    result = mr_record_read(copy, size, chain, &record, &read_bytes_count);
    free(copy);
    return result;
}

TEST(B2_B3_B7_B16_B20_a_record_is_whole_and_in_its_place_or_says_why_not)
{
    struct mr_buf record = MR_BUF_INIT;
    uint8_t zeros[40] = {0};
    uint8_t saved[40];

    mr_record_append(&record, MR_RECORD_EPOCH, 1, 5, "payload", 7, NULL);
    CHECK_EQ_INT(read_exactly(record.data, record.size, 5), MR_RECORD_OK);
    CHECK_EQ_INT(read_exactly(record.data, record.size, 6), MR_RECORD_BAD_CHAIN);
    for (size_t size = 1; size < record.size; size++)
        CHECK_EQ_INT(read_exactly(record.data, size, 5), MR_RECORD_TRUNCATED);
    CHECK_EQ_INT(read_exactly(zeros, sizeof(zeros), 5), MR_RECORD_END);
    zeros[39] = 1;
    CHECK(read_exactly(zeros, sizeof(zeros), 5) != MR_RECORD_END);
    memcpy(saved, record.data, record.size);
    record.data[record.size - 1] ^= 1;
    CHECK_EQ_INT(read_exactly(record.data, record.size, 5), MR_RECORD_BAD_SUM);
    memcpy(record.data, saved, record.size);
    record.data[4] = 0x4d;
    record.data[5] = 0x52;
    CHECK_EQ_INT(read_exactly(record.data, record.size, 5), MR_RECORD_WRONG_ENDIAN);
    record.data[4] = 9;
    CHECK_EQ_INT(read_exactly(record.data, record.size, 5), MR_RECORD_BAD_MAGIC);
    memcpy(record.data, saved, record.size);
    memset(record.data, 0xff, 4);
    CHECK_EQ_INT(read_exactly(record.data, record.size, 5), MR_RECORD_BAD_LENGTH);
    mr_buf_release(&record);
}

/* ---------------------------------------------------------------- the checkpoint's directory */

static void check_identity(unsigned kind, unsigned version, uint32_t format, bool longer,
                           bool behind, enum mr_status wanted, const char *reason)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_buf payload = MR_BUF_INIT, file = MR_BUF_INIT;
    struct mr_checkpoint checkpoint = {0};
    struct mr_error err = {0};

    mr_buf_add_u64(&payload, 1);
    mr_buf_add_u64(&payload, 2);
    mr_buf_add_u32(&payload, format);
    mr_buf_add_u64(&payload, 0);
    mr_buf_add_u64(&payload, 0);
    if (longer)
        mr_buf_add_u8(&payload, 1);
    mr_record_append(&file, (enum mr_record_kind)kind, (uint8_t)version, 0, payload.data,
                     payload.size, NULL);
    if (behind)
        mr_buf_add_u8(&file, 0);
    if (kind == 0) { /* as a machine of the other byte order writes it */
        file.data[4] = 0x4d;
        file.data[5] = 0x52;
    }
    make_dir(env, "/cp");
    write_unsynced(env, "/cp/query", file.data, file.size);
    if (wanted == MR_OK)
        CHECK_OK(mr_checkpoint_open(env, "/cp", &checkpoint, &err), &err);
    else
        CHECK_FAILS(mr_checkpoint_open(env, "/cp", &checkpoint, &err), &err, wanted, reason);
    mr_checkpoint_release(&checkpoint);
    mr_buf_release(&payload);
    mr_buf_release(&file);
    mr_sim_free(sim);
}

TEST(B6_an_identity_of_another_kind_version_or_length_is_refused)
{
    check_identity(MR_RECORD_QUERY, 1, 1, false, false, MR_OK, NULL);
    check_identity(0, 1, 1, false, false, MR_VERSION, "byte order");
    check_identity(MR_RECORD_PLAN, 1, 1, false, false, MR_CORRUPT, "not the identity");
    check_identity(MR_RECORD_QUERY, 2, 1, false, false, MR_VERSION, "newer millrace");
    check_identity(MR_RECORD_QUERY, 1, 9, false, false, MR_VERSION, "format 9");
    check_identity(MR_RECORD_QUERY, 1, 1, true, false, MR_CORRUPT, "does not decode");
    check_identity(MR_RECORD_QUERY, 1, 1, false, true, MR_CORRUPT, "foreign bytes");
}

TEST(A14_D9_a_checkpoint_is_opened_once_made_once_and_durable)
{
    struct mr_sim *sim = mr_sim_new(1), *after;
    struct mr_env *env = mr_sim_env(sim);
    struct mr_checkpoint checkpoint = {0}, second = {0};
    struct mr_file_info info;
    struct mr_error err = {0};

    CHECK_OK(mr_checkpoint_open(env, "/cp", &checkpoint, &err), &err);
    CHECK_FAILS(mr_checkpoint_open(env, "/cp", &second, &err), &err, MR_BUSY, NULL);
    mr_checkpoint_release(&checkpoint);
    CHECK_FAILS(mr_checkpoint_create(env, "/cp", 1, &second, &err), &err, MR_CONFIG,
                "there is one");
    after = mr_sim_power_loss(sim, mr_sim_op_count(sim));
    CHECK_OK(mr_env_path_info(mr_sim_env(after), "/cp/log", false, &info, &err), &err);
    CHECK_OK(mr_env_path_info(mr_sim_env(after), "/cp/state", false, &info, &err), &err);
    mr_sim_free(after);
    /* a directory that is made again is durable as well */
    CHECK_OK(mr_env_rmdir(env, "/cp/state", &err), &err);
    CHECK_OK(mr_env_sync_dir(env, "/cp", &err), &err);
    CHECK_OK(mr_checkpoint_open(env, "/cp", &checkpoint, &err), &err);
    mr_checkpoint_release(&checkpoint);
    after = mr_sim_power_loss(sim, mr_sim_op_count(sim));
    CHECK_OK(mr_env_path_info(mr_sim_env(after), "/cp/state", false, &info, &err), &err);
    mr_sim_free(after);
    mr_sim_free(sim);
}

TEST(B15_the_parts_before_a_snapshot_are_kept_until_it_is_old)
{
    static const struct {
        uint64_t version;
        bool is_snapshot;
    } made[] = {{1, false}, {2, false}, {2, true}, {3, false}};
    struct mr_part_list list = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_part_list_reserve(&list, 4, &err), &err);
    for (unsigned i = 0; i < 4; i++) {
        struct mr_state_part part = {.store = mr_strdup("s"),
                                     .version = made[i].version,
                                     .is_snapshot = made[i].is_snapshot,
                                     .in_log = true};

        mr_part_list_add(&list, &part);
    }
    mr_part_list_prune(&list, 5, 4, NULL, NULL);
    CHECK_EQ_UINT(list.count, 4);
    mr_part_list_prune(&list, 7, 4, NULL, NULL);
    CHECK_EQ_UINT(list.count, 2);
    mr_part_list_release(&list);
}

/* ---------------------------------------------------------------- received blocks */

static void add_block(struct forger *f, uint64_t number)
{
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u64(&payload, number);
    mr_buf_add_u64(&payload, 5);
    mr_buf_add_u64(&payload, 1);
    mr_buf_add_str(&payload, "rows");
    forge_record(f, MR_RECORD_BLOCK, 1, &payload);
}

/* Segment 1 with block 1. */
static struct forger one_block(void)
{
    struct forger f = forger_new(MR_SEGMENT_BLOCK_LOG);

    forge_segment(&f, 1);
    add_block(&f, 1);
    forge_group(&f);
    return f;
}

static void check_blocks(struct forger *f, enum mr_status wanted, const char *reason)
{
    uint64_t first = 0, last = 0;
    struct mr_error err = {0};
    enum mr_status status;

    if (f->file.size < SIZE) {
        if (f->records.size > 0)
            forge_group(f);
        forge_end(f);
    }
    status = mr_block_log_verify(f->env, LOG_DIR, &first, &last, &err);
    if (reason == NULL)
        CHECK_OK(status, &err);
    else
        CHECK_FAILS(status, &err, wanted, reason);
    forger_free(f);
}

TEST(B6_B10_blocks_that_do_not_follow_are_refused)
{
    struct forger f = one_block();
    struct mr_buf payload = MR_BUF_INIT;

    add_block(&f, 2);
    check_blocks(&f, MR_OK, NULL);
    f = one_block();
    add_block(&f, 3);
    check_blocks(&f, MR_CORRUPT, "a block is out of order");
    f = one_block();
    add_epoch(&f, 9);
    check_blocks(&f, MR_CORRUPT, "has no place among blocks");
    f = one_block();
    add_block(&f, 2);
    f.records.data[16] ^= 1;
    check_blocks(&f, MR_CORRUPT, "checksum");
    f = one_block();
    mr_buf_add_u8(&payload, 0);
    forge_record(&f, MR_RECORD_CLOSE, 2, &payload);
    check_blocks(&f, MR_VERSION, "version 2");
    f = one_block();
    for (int i = 0; i < 8; i++)
        mr_buf_add_u64(&f.records, 0);
    check_blocks(&f, MR_CORRUPT, "without any record");
    f = one_block();
    add_next(&f, 3, 0);
    check_blocks(&f, MR_CORRUPT, "a next segment that cannot be");
    f = one_block();
    add_next(&f, 2, 0);
    add_block(&f, 2);
    check_blocks(&f, MR_CORRUPT, "a record follows the last one");
    f = one_block();
    add_next(&f, 2, 0);
    forge_group(&f);
    add_block(&f, 2);
    check_blocks(&f, MR_CORRUPT, "a flush follows the last one");
    f = one_block();
    add_next(&f, 2, 0);
    forge_group(&f);
    mr_buf_add_u64(&f.file, 77);
    check_blocks(&f, MR_CORRUPT, "foreign bytes follow");
    f = one_block();
    f.file.data[512 + 496] ^= 1;
    check_blocks(&f, MR_CORRUPT, "bits of a sector tag were flipped");
}

/* Segments 1 and 2 with a block each. what: which one is wrong, see below. */
static struct forger two_block_segments(unsigned what)
{
    struct forger f = one_block();
    struct mr_buf first = MR_BUF_INIT;
    uint64_t chain = f.chain;

    mr_buf_add(&first, f.file.data, f.file.size);
    forge_segment(&f, 2); /* for its sum */
    mr_buf_clear(&f.file);
    mr_buf_add(&f.file, first.data, first.size);
    mr_buf_release(&first);
    f.number = 1;
    f.ordinal = 2;
    if (what != 1) {
        add_next(&f, 2, what == 2 ? 1 : f.head_sum);
        forge_group(&f);
    }
    forge_end(&f);
    f.chain = what == 3 ? chain + 1 : chain;
    f.head_flags = what == 4 ? 2 : 0;
    forge_segment(&f, what == 5 ? 3 : 2);
    if (what == 1 || what == 0)
        add_block(&f, 2);
    return f;
}

TEST(B7_B9_segments_of_blocks_that_do_not_follow_each_other_are_refused)
{
    static const char *const reasons[] = {NULL,
                                          "it was written to",
                                          "not the segment that the one before it names",
                                          "made when the log stood elsewhere",
                                          "head does not decode",
                                          "is missing between"};
    struct forger f;

    for (unsigned what = 0; what < 6; what++) {
        f = two_block_segments(what);
        if (what == 2 || what == 3 || what == 4) { /* the sum of the head differs as well */
            struct mr_error err = {0};
            uint64_t first, last;

            forge_end(&f);
            CHECK_FAILS(mr_block_log_verify(f.env, LOG_DIR, &first, &last, &err), &err, MR_CORRUPT,
                        reasons[what]);
            forger_free(&f);
            continue;
        }
        check_blocks(&f, MR_CORRUPT, reasons[what]);
    }
    f = one_block();
    add_next(&f, 2, 5);
    check_blocks(&f, MR_CORRUPT, "which follows");
    f = two_block_segments(1);
    forge_group(&f);
    forge_end(&f);
    f.chain++;
    forge_segment(&f, 3);
    check_blocks(&f, MR_CORRUPT, "there are");
}

static struct mr_block_log *open_received(struct mr_env *env, const char *dir)
{
    struct mr_block_log_config config = {.segment_bytes = SIZE};
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_open(env, dir, &config, &log, &err), &err);
    return log;
}

static void put_block(struct mr_block_log *log, size_t size)
{
    char *data = calloc(1, size + 1);
    const struct mr_block_data block = {.data = data, .size_bytes = size};
    struct mr_error err = {0};
    uint64_t number = 0;

    CHECK_OK(mr_block_log_put(log, &block, &number, &err), &err);
    CHECK_EQ_UINT(mr_block_log_last(log), number);
    free(data);
}

static uint64_t last_after_power_loss(struct mr_sim *sim, const char *dir)
{
    struct mr_sim *after = mr_sim_power_loss(sim, mr_sim_op_count(sim));
    uint64_t first = 0, last = 0;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_verify(mr_sim_env(after), dir, &first, &last, &err), &err);
    mr_sim_free(after);
    return last;
}

TEST(A18_a_block_that_was_put_is_durable_with_all_its_directories)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_block_log *log = open_received(mr_sim_env(sim), "/a/b/c");

    put_block(log, 10);
    CHECK_EQ_UINT(last_after_power_loss(sim, "/a/b/c"), 1);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(A3_A21_what_a_kill_left_of_a_rotation_of_blocks_is_cleaned_up_for_good)
{
    struct forger f = two_block_segments(0);
    struct mr_file_info info;
    struct mr_error err = {0};

    mr_buf_clear(&f.records);
    forge_end(&f); /* segment 2 is empty, NEXT names it */
    mr_block_log_close(open_received(f.env, LOG_DIR));
    CHECK(last_after_power_loss(f.sim, LOG_DIR) >= 1);
    forger_free(&f);
    f = two_block_segments(1);
    mr_buf_clear(&f.records);
    forge_end(&f); /* empty, and nothing names it */
    CHECK_OK(mr_env_sync_dir(f.env, LOG_DIR, &err), &err);
    mr_block_log_close(open_received(f.env, LOG_DIR));
    CHECK_STATUS(mr_env_path_info(f.env, forged_path(&f, 2), false, &info, NULL), MR_NOT_FOUND);
    CHECK_EQ_UINT(last_after_power_loss(f.sim, LOG_DIR), 1);
    forger_free(&f);
}

static void verify_blocks(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    uint64_t first = 0, last = 0;
    struct mr_error err = {0};

    if (mr_block_log_verify(mr_sim_env(after), LOG_DIR, &first, &last, &err) != MR_OK)
        FAIL("%s: %s", crash->text, err.text);
    CHECK(last >= *(const uint64_t *)arg);
}

TEST(A12_a_power_loss_inside_a_purge_leaves_no_gap)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_block_log *log;
    struct mr_error err = {0};
    uint64_t from, last = 6;

    make_dir(env, LOG_DIR);
    log = open_received(env, LOG_DIR);
    for (int i = 0; i < 6; i++)
        put_block(log, 5000);
    from = mr_sim_op_count(sim);
    CHECK_OK(mr_block_log_purge(log, 6, &err), &err);
    mr_sim_crash_everywhere(sim, from, 64, 1, verify_blocks, &last);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(segments_of_another_size_are_no_spare_files)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_block_log *log;
    struct mr_error err = {0};
    uint64_t first = 0, last = 0;

    make_dir(env, LOG_DIR);
    write_unsynced(env, LOG_DIR "/00000000000000000001.spare", "short", 5);
    log = open_received(env, LOG_DIR);
    put_block(log, 30000); /* a segment of its own size */
    for (int i = 0; i < 3; i++)
        put_block(log, 5000);
    CHECK_OK(mr_block_log_purge(log, 4, &err), &err);
    for (int i = 0; i < 4; i++)
        put_block(log, 5000);
    mr_block_log_close(log);
    CHECK_OK(mr_block_log_verify(env, LOG_DIR, &first, &last, &err), &err);
    CHECK_EQ_UINT(last, 8);
    mr_sim_free(sim);
}

TEST(A2_temporaries_beside_blocks_are_removed)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file_info info;

    make_dir(env, LOG_DIR);
    write_unsynced(env, LOG_DIR "/.tmp-00000000000000000009.blk-1", "x", 1);
    mr_block_log_close(open_received(env, LOG_DIR));
    CHECK_STATUS(
        mr_env_path_info(env, LOG_DIR "/.tmp-00000000000000000009.blk-1", false, &info, NULL),
        MR_NOT_FOUND);
    mr_sim_free(sim);
}

TEST(B7_a_block_in_the_place_of_another_is_not_given_as_that)
{
    struct forger f = one_block();
    struct mr_buf out = MR_BUF_INIT, payload = MR_BUF_INIT;
    struct mr_block_log *log;
    struct mr_error err = {0};

    forge_end(&f);
    log = open_received(f.env, LOG_DIR);
    CHECK_OK(mr_block_log_read(log, 1, &out, &err), &err);
    CHECK_EQ_UINT(out.size, 4);
    /* The same place, chain and number, other bytes. */
    forge_segment(&f, 1);
    f.chain = f.head_sum * 0;
    mr_buf_add_u64(&payload, 1);
    mr_buf_add_u64(&payload, 5);
    mr_buf_add_u64(&payload, 1);
    mr_buf_add_str(&payload, "row");
    forge_record(&f, MR_RECORD_BLOCK, 1, &payload);
    forge_group(&f);
    write_unsynced(f.env, forged_path(&f, 1), f.file.data, f.file.size);
    CHECK_FAILS(mr_block_log_read(log, 1, &out, &err), &err, MR_CORRUPT, "cannot read block 1");
    mr_block_log_close(log);
    mr_buf_release(&out);
    forger_free(&f);
}

TEST(blocks_and_metadata_have_a_largest_size)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_block_log *log = open_received(mr_sim_env(sim), LOG_DIR);
    char *metadata = calloc(1, MR_BLOCK_METADATA_BYTES_MAX + 2);
    const struct mr_block_data block = {.data = "x", .size_bytes = 1, .metadata = metadata};
    struct mr_error err = {0};
    uint64_t number;

    memset(metadata, 'm', MR_BLOCK_METADATA_BYTES_MAX + 1);
    CHECK_FAILS(mr_block_log_put(log, &block, &number, &err), &err, MR_LIMIT, "metadata");
    free(metadata);
    mr_block_log_close(log);
    mr_sim_free(sim);
}

TEST(a_spill_file_that_is_still_in_use_is_not_written_over)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_block_place place = {.info.size_bytes = 1};
    char data[] = "x";
    struct mr_block_spill spill;
    struct mr_error err = {0};

    mr__spill_init(&spill, mr_sim_env(sim), "/spill");
    place.data = data;
    spill.uses[1] = 1;
    CHECK_FAILS(mr__spill_write(&spill, &place, &err), &err, MR_LIMIT, "too far behind");
    spill.uses[1] = 0;
    CHECK_OK(mr__spill_write(&spill, &place, &err), &err);
    mr__spill_release(&spill);
    mr_sim_free(sim);
}

TEST(B3_a_block_in_a_spill_file_that_was_changed_is_not_given)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_block_log_config config = {.volatile_only = true, .spill_dir = "/spill"};
    struct mr_buf out = MR_BUF_INIT;
    struct mr_block_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_block_log_open(env, NULL, &config, &log, &err), &err);
    put_block(log, 100);
    CHECK_OK(mr_block_log_read(log, 1, &out, &err), &err);
    write_unsynced(env, "/spill/0000000001.spill", "\1", 1);
    CHECK_FAILS(mr_block_log_read(log, 1, &out, &err), &err, MR_DATA_LOSS, "it was changed");
    mr_buf_release(&out);
    mr_block_log_close(log);
    mr_sim_free(sim);
}
