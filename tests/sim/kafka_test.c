/*
 * A Kafka cluster that misbehaves, scene by scene: the Kafka source of the product over the
 * simulated brokers (broker.h). Names begin with the rows of docs/faults.md.
 */
#include "base/check.h"
#include "sim/fibers.h"
#include "sim/stage.h"

#include "support/test.h"

#include <librdkafka/rdkafka.h>

static void check_lost(const struct stage *stage, enum mr_status status, const char *words)
{
    if (status != MR_DATA_LOSS || strstr(stage->err.text, words) == NULL)
        FAIL("status %d: '%s', expected data loss with '%s'", (int)status, stage->err.text, words);
}

static void read_all(struct stage *stage, int64_t to)
{
    CHECK_OK(stage_run(stage), &stage->err);
    CHECK(stage_has(stage, 1, to));
}

/* ---- E12: a log that was cut ---- */

TEST(E12_a_log_that_ends_before_what_was_read_is_data_loss)
{
    struct stage *stage = stage_new(1);

    stage_produce(stage, 0, 20);
    read_all(stage, 20);
    stage_cut(stage, 0, 5);
    check_lost(stage, stage_run(stage), "offsets 15 to 19 are gone");
    CHECK(stage_has(stage, 1, 20));
    stage_free(stage);
}

static void cut_and_grown(bool no_validation, size_t cut, size_t grown)
{
    struct stage *stage = stage_new(2);

    broker_manners(stage->broker)->no_validation = no_validation;
    stage_produce(stage, 0, 20);
    read_all(stage, 20);
    stage_cut(stage, 0, cut);
    stage_produce(stage, 0, grown);
    check_lost(stage, stage_run(stage), "the log was cut before them and has grown again");
    check_lost(stage, stage_run(stage), "to 19 are gone");
    CHECK(stage_has(stage, 1, 20));
    stage_free(stage);
}

TEST(E12_a_log_that_was_cut_and_has_grown_past_what_was_read_is_told_from_the_old_one)
{
    cut_and_grown(true, 5, 9);
    cut_and_grown(false, 5, 9);
    cut_and_grown(true, 1, 2);
    cut_and_grown(true, 20, 60);
}

/* What the leader who won did not have is replaced while the process runs. Batch 1 is planned
 * already, and may be here. */
static void cut_behind_batch_0(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "committed") != 0 || batch_id != 0)
        return;
    stage_cut(stage, 0, 58);
    stage_produce(stage, 0, 60);
}

static void check_begins_as_planned(const struct stage *stage, int64_t least, int64_t most)
{
    int64_t count = (int64_t)stage->out->rows.count;

    CHECK(count >= least && count <= most);
    CHECK(stage_has(stage, 1, count));
}

TEST(E12_a_cut_in_a_running_process_is_noticed_too)
{
    for (int no_validation = 0; no_validation < 2; no_validation++) {
        struct stage *stage = stage_new(1);

        broker_manners(stage->broker)->no_validation = no_validation != 0;
        stage->options = "max_offsets_per_trigger = 15";
        stage->at = cut_behind_batch_0;
        stage_produce(stage, 0, 60);
        check_lost(stage, stage_run(stage), "the log was cut before them and has grown again");
        check_begins_as_planned(stage, 15, 30);
        stage_free(stage);
    }
}

/* The process dies when batch 1 is planned; then its records become others. */
static void die_planned(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "planned") == 0 && batch_id == 1)
        world_die(stage->world, false);
}

TEST(E12_a_planned_batch_never_reads_the_records_of_a_later_leader)
{
    struct stage *stage = stage_new(1);

    stage->options = "max_offsets_per_trigger = 10";
    stage->at = die_planned;
    stage_produce(stage, 0, 20);
    CHECK(stage_run(stage) != MR_OK);
    CHECK(stage_has(stage, 1, 10));
    stage->at = NULL;
    stage_cut(stage, 0, 4); /* not below what was read */
    stage_produce(stage, 0, 10);
    check_lost(stage, stage_run(stage), "offsets 16 to 19 are gone (they were planned");
    CHECK(stage_has(stage, 1, 10));
    stage_free(stage);
}

static void elect(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "planned") == 0 || (strcmp(point, "committed") == 0 && batch_id % 3 == 0)) {
        broker_elect(stage->broker, "a", (int)(batch_id % 2));
        if (batch_id < 12)
            stage_produce(stage, (int)(batch_id % 2), 3);
    }
}

TEST(E1_E12_leaders_that_change_without_a_loss_are_none)
{
    for (int no_epochs = 0; no_epochs < 2; no_epochs++) {
        struct stage *stage = stage_new(2);

        broker_manners(stage->broker)->no_epochs = no_epochs != 0;
        stage->options = "max_offsets_per_trigger = 4, min_partitions = 3";
        stage->at = elect;
        stage_produce(stage, 0, 20);
        for (int life = 0; life < 4; life++) {
            CHECK_OK(stage_run(stage), &stage->err);
            stage_produce(stage, life % 2, 2);
        }
        stage->at = NULL;
        read_all(stage, stage->next_id - 1);
        stage_free(stage);
    }
}

TEST(E12_without_epochs_an_end_before_what_was_read_is_still_data_loss)
{
    struct stage *stage = stage_new(1);

    broker_manners(stage->broker)->no_epochs = true;
    broker_manners(stage->broker)->no_topic_ids = true;
    stage_produce(stage, 0, 20);
    read_all(stage, 20);
    stage_produce(stage, 0, 5);
    read_all(stage, 25);
    stage_cut(stage, 0, 7);
    check_lost(stage, stage_run(stage), "offsets 18 to 24 are gone");
    stage_free(stage);
}

TEST(E12_with_fail_on_data_loss_off_the_query_goes_on_behind_the_cut)
{
    struct stage *stage = stage_new(1);

    stage->options = "fail_on_data_loss = false";
    stage_produce(stage, 0, 20);
    read_all(stage, 20);
    stage_cut(stage, 0, 5);
    stage_produce(stage, 0, 9); /* 21 to 25 are where 16 to 20 were */
    CHECK_OK(stage_run(stage), &stage->err);
    CHECK_EQ_UINT(stage->out->rows.count, 24);
    CHECK_EQ_INT(stage->out->rows.rows[20].values[0], 26);
    stage_produce(stage, 0, 3); /* said once: what comes now is the log */
    CHECK_OK(stage_run(stage), &stage->err);
    CHECK_EQ_UINT(stage->out->rows.count, 27);
    stage_free(stage);
}

/* ---- E5: a topic that was made again ---- */

static void die_planned_first(struct stage *stage, const char *point, uint64_t batch_id)
{
    MR_UNUSED(batch_id);
    if (strcmp(point, "planned") == 0)
        world_die(stage->world, false);
}

static void made_again_before_a_planned_batch(uint64_t batch)
{
    struct stage *stage = stage_new(1);

    stage->options = "max_offsets_per_trigger = 10";
    stage->at = batch == 0 ? die_planned_first : die_planned;
    stage_produce(stage, 0, 20);
    CHECK(stage_run(stage) != MR_OK);
    CHECK_EQ_UINT(stage->out->rows.count, batch * 10);
    stage->at = NULL;
    stage_recreate(stage);
    stage_produce(stage, 0, 50); /* more than the old one had */
    check_lost(stage, stage_run(stage), "topic 'a' of source 'a' was deleted and made again");
    CHECK_EQ_UINT(stage->out->rows.count, batch * 10);
    stage_free(stage);
}

TEST(E5_a_planned_batch_never_reads_a_topic_that_was_made_again)
{
    made_again_before_a_planned_batch(0);
    made_again_before_a_planned_batch(1);
}

static void make_again(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "committed") != 0 || batch_id != 0)
        return;
    stage_recreate(stage);
    stage_produce(stage, 0, 60);
    fibers_sleep_ns(INT64_C(1000000000)); /* longer than one look at the topics holds */
}

TEST(E5_a_topic_that_is_made_again_under_a_running_process_is_data_loss)
{
    struct stage *stage = stage_new(1);

    stage->options = "max_offsets_per_trigger = 10";
    stage->at = make_again;
    stage_produce(stage, 0, 50);
    check_lost(stage, stage_run(stage), "was deleted and made again");
    check_begins_as_planned(stage, 10, 20);
    stage_free(stage);
}

TEST(E5_brokers_that_do_not_tell_ids_now_are_asked_until_they_do)
{
    struct stage *stage = stage_new(1);

    stage->options = "max_offsets_per_trigger = 10";
    stage->at = die_planned;
    stage_produce(stage, 0, 20);
    CHECK(stage_run(stage) != MR_OK);
    stage->at = NULL;
    broker_manners(stage->broker)->no_topic_ids = true;
    stage->unavailable_us = 3000000;
    CHECK_STATUS(stage_run(stage), MR_UNAVAILABLE);
    CHECK(stage_has(stage, 1, 10));
    broker_manners(stage->broker)->no_topic_ids = false;
    read_all(stage, 20);
    stage_free(stage);
}

static void forget(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "planned") == 0 && batch_id == 0)
        broker_forget(stage->broker, INT64_C(4) * 1000000000);
}

/* Found by the soak run: a broker that has just started does not know all partitions yet. */
TEST(E5_a_partition_that_a_broker_does_not_know_for_a_moment_is_not_lost)
{
    struct stage *stage = stage_new(2);

    stage->options = "max_offsets_per_trigger = 20";
    stage_produce(stage, 0, 30);
    stage_produce(stage, 1, 30);
    stage->at = forget;
    read_all(stage, 60);
    stage_free(stage);
}

/* ---- E3, E13, E18: what cannot be understood ---- */

static void spoiled(int error, enum mr_status wanted, const char *words)
{
    struct stage *stage = stage_new(2);

    stage->options = "max_offsets_per_trigger = 20";
    stage_produce(stage, 0, 20);
    stage_produce(stage, 1, 20);
    broker_spoil(stage->broker, "a", 0, 13, error);
    CHECK_STATUS(stage_run(stage), wanted);
    if (strstr(stage->err.text, "topic a/0 offset' 13") == NULL ||
        strstr(stage->err.text, words) == NULL)
        FAIL("'%s' does not say '%s' and where", stage->err.text, words);
    CHECK_EQ_UINT(stage->out->rows.count, 20); /* batch 0: nothing of the batch with it */
    CHECK_STATUS(stage_run(stage), wanted);
    CHECK_EQ_UINT(stage->out->rows.count, 20);
    broker_spoil(stage->broker, "a", 0, 0, 0);
    read_all(stage, 40);
    stage_free(stage);
}

TEST(E3_records_of_an_unknown_version_or_codec_are_never_passed_over)
{
    spoiled(RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED, MR_VERSION, "does not understand");
    spoiled(RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, MR_VERSION, "does not understand");
}

TEST(E3_records_that_blow_up_or_are_damaged_are_named_by_their_offset)
{
    spoiled(RD_KAFKA_RESP_ERR__BAD_COMPRESSION, MR_BAD_DATA, "cannot read");
    spoiled(RD_KAFKA_RESP_ERR__BAD_MSG, MR_BAD_DATA, "cannot read");
    spoiled(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, MR_BAD_DATA, "kafka.receive.message.max.bytes");
}

/* What a record holds once it is unpacked is capped, too: the format's limit of a line. */
TEST(E3_a_record_larger_than_the_format_takes_is_named_by_its_offset)
{
    struct stage *stage = stage_new(1);
    char large[4096];

    snprintf(large, sizeof(large), "{\"id\":1,\"pad\":\"%0*d\"}", 3000, 0);
    stage->options = "max_line_bytes = 1000";
    stage_produce(stage, 0, 3);
    stage_produce_text(stage, 0, large);
    stage_produce(stage, 0, 3);
    CHECK_STATUS(stage_run(stage), MR_BAD_DATA);
    if (strstr(stage->err.text, "offset' line 3 ") == NULL)
        FAIL("'%s' does not name the offset", stage->err.text);
    CHECK_EQ_UINT(stage->out->rows.count, 0);
    stage->options = "max_line_bytes = 1000, on_error = 'skip'";
    read_all(stage, 6);
    CHECK_EQ_UINT(stage->bad_rows, 1);
    stage_free(stage);
}

TEST(E18_brokers_of_another_age_are_said_to_be)
{
    struct stage *stage = stage_new(1);

    stage_produce(stage, 0, 5);
    broker_manners(stage->broker)->is_old = true;
    CHECK_STATUS(stage_run(stage), MR_VERSION);
    CHECK(strstr(stage->err.text, "do not understand each other") != NULL);
    broker_manners(stage->broker)->is_old = false;
    read_all(stage, 5);
    broker_manners(stage->broker)->is_old = true; /* an old one takes its place */
    stage_produce(stage, 0, 5);
    CHECK_STATUS(stage_run(stage), MR_VERSION);
    broker_manners(stage->broker)->is_old = false;
    read_all(stage, 10);
    stage_free(stage);
}

/* ---- E16: access ---- */

static void deny(struct stage *stage, const char *point, uint64_t batch_id)
{
    if (strcmp(point, "planned") == 0 && batch_id == 1)
        broker_deny(stage->broker, "a", 1, true);
}

TEST(E16_a_partition_that_may_not_be_read_any_more_stops_the_batch_whole)
{
    struct stage *stage = stage_new(3);

    stage->options = "max_offsets_per_trigger = 90";
    for (int partition = 0; partition < 3; partition++)
        stage_produce(stage, partition, 60);
    stage->at = deny;
    CHECK_STATUS(stage_run(stage), MR_PERMISSION);
    CHECK(strstr(stage->err.text, "cannot read topic 'a'") != NULL);
    CHECK_EQ_UINT(stage->out->rows.count, 90);
    CHECK_STATUS(stage_run(stage), MR_PERMISSION); /* also the next one: nothing went ahead */
    CHECK_EQ_UINT(stage->out->rows.count, 90);
    stage->at = NULL;
    broker_deny(stage->broker, "a", 1, false);
    read_all(stage, 180);
    stage_free(stage);
}

/* ---- E17: throttled ---- */

static void throttle(struct stage *stage, const char *point, uint64_t batch_id)
{
    static uint64_t next;

    if (stage->batches == 0 && batch_id == 0 && strcmp(point, "planned") == 0)
        next = 0;
    if (strcmp(point, "planned") == 0 && batch_id <= 2 && batch_id == next && ++next > 0)
        broker_throttle(stage->broker, INT64_C(45) * 1000000000);
}

TEST(E17_throttled_readers_wait_as_long_as_they_are_told_and_then_go_on)
{
    struct stage *stage = stage_new(2);
    uint64_t requests;
    int64_t began_ns;

    stage->options = "max_offsets_per_trigger = 60"; /* poll_timeout: 30 s */
    for (int i = 0; i < 4; i++)
        stage_produce(stage, i % 2, 60);
    began_ns = world_now_ns(stage->world);
    requests = broker_requests(stage->broker);
    stage->at = throttle;
    read_all(stage, 240);
    CHECK(world_now_ns(stage->world) - began_ns >= INT64_C(3) * 45 * 1000000000);
    CHECK(world_now_ns(stage->world) - began_ns < INT64_C(4) * 45 * 1000000000);
    /* Four batches, three waits of 45 s: nobody asks again and again meanwhile. */
    CHECK(broker_requests(stage->broker) - requests < 60);
    CHECK_EQ_UINT(stage->batches, 4);
    stage_free(stage);
}

/* ---- E20: which hosts ---- */

TEST(E20_brokers_that_name_other_hosts_are_not_followed)
{
    struct stage *stage = stage_new(1);

    stage_produce(stage, 0, 5);
    stage->options = "broker_hosts = 'sim, 10.1.0.0/16', connect_timeout = '2s'";
    stage->unavailable_us = 5000000;
    broker_manners(stage->broker)->names = "10.9.8.7";
    CHECK_STATUS(stage_run(stage), MR_UNAVAILABLE);
    if (strstr(stage->err.text, "10.9.8.7:9092 is not among 'broker_hosts'") == NULL)
        FAIL("'%s' does not name the host", stage->err.text);
    broker_manners(stage->broker)->names = "10.1.8.7";
    read_all(stage, 5);
    stage->options = NULL; /* any */
    broker_manners(stage->broker)->names = "10.9.8.7";
    stage_produce(stage, 0, 5);
    read_all(stage, 10);
    stage->options = "broker_hosts = '10.9.0.0/40'";
    CHECK_STATUS(stage_run(stage), MR_CONFIG);
    CHECK(strstr(stage->err.text, "broker_hosts") != NULL);
    stage_free(stage);
}

/* ---- two processes ---- */

static unsigned refused;

static void start_another(struct stage *stage, const char *point, uint64_t batch_id)
{
    struct mr_error err = {0};

    (void)point, (void)batch_id;
    stage->at = NULL; /* not for the other one */
    if (stage_second(stage, &err) == MR_BUSY)
        refused++;
    stage->at = start_another;
}

TEST(a_second_process_on_the_checkpoint_is_refused_at_any_point_and_the_first_one_goes_on)
{
    struct stage *stage = stage_new(2);

    refused = 0;
    stage->options = "max_offsets_per_trigger = 10";
    stage->at = start_another;
    stage_produce(stage, 0, 20);
    stage_produce(stage, 1, 20);
    read_all(stage, 40);
    CHECK_EQ_UINT(stage->batches, 4);
    CHECK_EQ_UINT(refused, UINT64_C(5) * stage->batches); /* five points a batch */
    stage->at = NULL;
    stage_produce(stage, 0, 5);
    read_all(stage, 45);
    stage_free(stage);
}

/* ---- what seeds found ---- */

/* Seed 1731: the end of a partition is told once; the range behind it waited for it again. */
TEST(a_range_behind_a_told_end_of_its_partition_is_at_its_end)
{
    for (int pieces = 0; pieces < 2; pieces++) {
        struct stage *stage = stage_new(1);
        int64_t began_ns = world_now_ns(stage->world);

        stage->options = pieces > 0 ? "max_offsets_per_trigger = 3, min_partitions = 2"
                                    : "max_offsets_per_trigger = 3";
        stage_produce(stage, 0, 3);
        stage_produce_as(stage, 0, 8, TRANSACTION_ABORTED);
        read_all(stage, 3);
        CHECK(stage->batches >= 4);
        CHECK(world_now_ns(stage->world) - began_ns < INT64_C(20) * 1000000000);
        stage_free(stage);
    }
}

TEST(an_empty_value_is_a_bad_record_that_is_counted)
{
    struct stage *stage = stage_new(1);

    stage_produce(stage, 0, 2);
    stage_produce_text(stage, 0, "");
    stage_produce_text(stage, 0, "  ");
    stage_produce(stage, 0, 2);
    CHECK_STATUS(stage_run(stage), MR_BAD_DATA);
    if (strstr(stage->err.text, "topic a/0 offset' 2: the value is empty") == NULL)
        FAIL("'%s' does not say where", stage->err.text);
    CHECK_EQ_UINT(stage->out->rows.count, 0);
    stage->options = "on_error = 'skip'";
    read_all(stage, 4);
    CHECK_EQ_UINT(stage->bad_rows, 2);
    stage_free(stage);
}
