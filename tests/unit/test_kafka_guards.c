/*
 * What keeps the Kafka source and sink from losing or doubling a record, against the broker that
 * comes with librdkafka (faults.md 4.E). Whole queries and a real broker: tests/system.
 */
#include "env/sim.h"
#include "support/plugin_harness.h"

#ifdef MR_WITH_KAFKA
#include "sinks/kafka/producer.h"
#include "sources/kafka/kafka_source.h"

#include <librdkafka/rdkafka_mock.h>

#include <unistd.h>
#endif

#if defined(MR_WITH_KAFKA) && RD_KAFKA_VERSION >= 0x020f00ff

enum { WAIT_MS = 10000, PRODUCE = 0 /* the key of the request */, TRIES_MAX = 2000 };

struct broker {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
    char *options;
    struct mr_sim *sim; /* the clock of sources, or NULL */
};

static void open_broker(struct broker *broker, const char *more)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256] = "";

    rd_kafka_conf_set(conf, "log_level", "0", text, sizeof(text));
    broker->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    CHECK_NOT_NULL(broker->rk);
    broker->sim = NULL;
    broker->cluster = rd_kafka_mock_cluster_new(broker->rk, 1);
    CHECK_NOT_NULL(broker->cluster);
    broker->options = mr_asprintf("brokers=%s\ntopic=t%s",
                                  rd_kafka_mock_cluster_bootstraps(broker->cluster), more);
    CHECK_EQ_INT(rd_kafka_mock_topic_create(broker->cluster, "t", 1, 1), 0);
    CHECK_EQ_INT(
        rd_kafka_brokers_add(broker->rk, rd_kafka_mock_cluster_bootstraps(broker->cluster)), 1);
}

static void close_broker(struct broker *broker)
{
    rd_kafka_mock_cluster_destroy(broker->cluster);
    rd_kafka_destroy(broker->rk);
    mr_text_free(broker->options);
    mr_sim_free(broker->sim);
}

/* How many records the topic has had. */
static int64_t record_count(const struct broker *broker)
{
    int64_t low = 0, high = -1;

    CHECK_EQ_INT(rd_kafka_query_watermark_offsets(broker->rk, "t", 0, &low, &high, WAIT_MS), 0);
    return high;
}

static void put_records(struct broker *broker, int count)
{
    char value[] = "a", topic[] = "t";
    const rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = 0},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {value, 1}},
    };

    for (int i = 0; i < count; i++)
        CHECK_NULL(rd_kafka_produceva(broker->rk, parts, sizeof(parts) / sizeof(parts[0])));
    CHECK_EQ_INT(rd_kafka_flush(broker->rk, WAIT_MS), 0);
}

/* ---------------------------------------------------------------- the sink */

static void open_sink(struct plug_sink *sink, const struct broker *broker)
{
    plug_sink_open(sink, &(struct plug_sink_spec){.connector = "kafka",
                                                  .columns = "value VARCHAR",
                                                  .format = "raw",
                                                  .options = broker->options});
}

/* Of the sink's own client; the harness does not show it. */
static void open_producer(struct mr_ksink_producer *producer, struct plug_sink *sink,
                          const struct broker *broker)
{
    struct mr_sink_args args = {.env = mr_env_posix(), .name = "out"};
    struct mr_error err = {0};

    open_sink(sink, broker);
    args.options = sink->options;
    *producer = (struct mr_ksink_producer){0};
    CHECK_OK(mr_ksink_producer_open(producer, &args, &err), &err);
    CHECK_OK(mr_ksink_producer_begin(producer, &err), &err);
}

static void send_one(struct mr_ksink_producer *producer)
{
    const struct mr_ksink_record record = {"t", RD_KAFKA_PARTITION_UA, {NULL, 0}, {"x", 1}};
    struct mr_error err = {0};

    CHECK_OK(mr_ksink_producer_send(producer, &record, &err), &err);
}

static void close_producer(struct mr_ksink_producer *producer, struct plug_sink *sink)
{
    mr_ksink_producer_release(producer);
    plug_sink_close(sink);
}

TEST(a_batch_is_staged_when_the_broker_has_all_of_it)
{
    const char *rows[] = {"a;b;c"};
    struct broker broker;
    struct plug_sink sink;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_sink(&sink, &broker);
    CHECK_OK(plug_stage(&sink, 0, rows, 1, &err), &err);
    CHECK_EQ_INT(record_count(&broker), 3);
    plug_sink_close(&sink);
    close_broker(&broker);
}

TEST(a_record_that_the_broker_does_not_take_fails_its_batch)
{
    const char *rows[] = {"a"};
    struct broker broker;
    struct plug_sink sink;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_sink(&sink, &broker);
    rd_kafka_mock_push_request_errors(broker.cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    CHECK_STATUS(plug_stage(&sink, 0, rows, 1, &err), MR_UNAVAILABLE);
    CHECK_CONTAINS(err.text, "cannot deliver records");
    CHECK_OK(plug_stage(&sink, 0, rows, 1, &err), &err); /* the next attempt is a new one */
    CHECK_EQ_INT(record_count(&broker), 1);
    plug_sink_close(&sink);
    close_broker(&broker);
}

TEST(records_are_not_doubled_by_a_request_that_is_sent_again)
{
    struct broker broker;
    struct plug_sink sink;
    struct mr_ksink_producer producer;
    char value[16] = "";
    size_t size = sizeof(value);

    open_broker(&broker, "");
    open_producer(&producer, &sink, &broker);
    CHECK_EQ_INT(rd_kafka_conf_get(rd_kafka_conf(producer.rk), "enable.idempotence", value, &size),
                 RD_KAFKA_CONF_OK);
    CHECK_EQ_STR(value, "true");
    close_producer(&producer, &sink);
    close_broker(&broker);
}

/* Waits until the broker has got the record, whose refusal is still on its way. */
static void wait_for_request(struct broker *broker)
{
    bool found = false;

    for (int i = 0; i < TRIES_MAX && !found; i++) {
        size_t count = 0;
        rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(broker->cluster, &count);

        for (size_t k = 0; k < count; k++)
            found |= rd_kafka_mock_request_api_key(requests[k]) == PRODUCE;
        rd_kafka_mock_request_destroy_array(requests, count);
        rd_kafka_poll(broker->rk, 5);
    }
    CHECK(found);
}

TEST(the_report_of_an_attempt_that_was_given_up_is_not_that_of_the_next_one)
{
    struct broker broker;
    struct plug_sink sink;
    struct mr_ksink_producer producer;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_producer(&producer, &sink, &broker);
    rd_kafka_mock_start_request_tracking(broker.cluster);
    rd_kafka_mock_broker_push_request_error_rtts(broker.cluster, 1, PRODUCE, 1,
                                                 RD_KAFKA_RESP_ERR_INVALID_RECORD, 300);
    send_one(&producer);
    wait_for_request(&broker);
    mr_ksink_producer_abort(&producer);
    CHECK_OK(mr_ksink_producer_begin(&producer, &err), &err);
    CHECK_OK(mr_ksink_producer_flush(&producer, &err), &err);
    close_producer(&producer, &sink);
    close_broker(&broker);
}

TEST(what_was_queued_by_an_attempt_that_was_given_up_is_not_sent)
{
    struct broker broker;
    struct plug_sink sink;
    struct mr_ksink_producer producer;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_producer(&producer, &sink, &broker);
    send_one(&producer);
    CHECK_OK(mr_ksink_producer_flush(&producer, &err), &err);
    rd_kafka_mock_broker_set_down(broker.cluster, 1);
    send_one(&producer);
    mr_ksink_producer_abort(&producer);
    rd_kafka_mock_broker_set_up(broker.cluster, 1);
    CHECK_OK(mr_ksink_producer_begin(&producer, &err), &err);
    send_one(&producer);
    CHECK_OK(mr_ksink_producer_flush(&producer, &err), &err);
    CHECK_EQ_INT(record_count(&broker), 2);
    close_producer(&producer, &sink);
    close_broker(&broker);
}

TEST(a_client_that_broke_for_good_is_made_again)
{
    struct broker broker;
    struct plug_sink sink;
    struct mr_ksink_producer producer;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_producer(&producer, &sink, &broker);
    rd_kafka_test_fatal_error(producer.rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
    CHECK_OK(mr_ksink_producer_begin(&producer, &err), &err);
    send_one(&producer);
    CHECK_OK(mr_ksink_producer_flush(&producer, &err), &err);
    CHECK_EQ_INT(record_count(&broker), 1);
    close_producer(&producer, &sink);
    close_broker(&broker);
}

/* ---------------------------------------------------------------- the source */

static struct plug_source_spec source_spec(const struct broker *broker)
{
    return (struct plug_source_spec){.connector = "kafka",
                                     .format = "raw",
                                     .columns = "value VARCHAR",
                                     .options = broker->options};
}

/* With a clock that stands still the topics are looked for once: the broker is slow at that. */
static void open_source(struct plug_source *src, const struct broker *broker)
{
    struct plug_source_spec spec = source_spec(broker);

    spec.env = broker->sim != NULL ? mr_sim_env(broker->sim) : NULL;
    plug_source_open(src, &spec);
}

static enum mr_status try_plan(struct plug_source *src, const char *start, char **ret_end,
                               struct mr_error *err)
{
    const struct mr_plan_limits limits = {0};
    enum mr_status status = MR_UNAVAILABLE;

    *ret_end = NULL;
    for (int i = 0; i < TRIES_MAX && status == MR_UNAVAILABLE; i++) { /* it connects meanwhile */
        mr_error_clear(err);
        status = src->connector->ops->plan(src->object, start, &limits, ret_end, err);
    }
    return status;
}

static void check_plan(struct plug_source *src, const char *start, enum mr_status wanted,
                       const char *part)
{
    struct mr_error err = {0};
    char *end = NULL;

    CHECK_STATUS(try_plan(src, start, &end, &err), wanted);
    if (wanted == MR_OK && part == NULL)
        CHECK_NULL(end);
    else if (wanted == MR_OK)
        CHECK_EQ_STR(end, part);
    else
        CHECK_CONTAINS(err.text, part);
    mr_text_free(end);
}

/* A topic of ten records, of which the first four are gone; its source has not been planned. */
static void open_cut_topic(struct broker *broker, struct plug_source *src, bool still,
                           const char *more)
{
    open_broker(broker, more);
    broker->sim = still ? mr_sim_new(1) : NULL;
    put_records(broker, 10);
    CHECK_EQ_INT(rd_kafka_mock_partition_delete_records(broker->cluster, "t", 0, 4), 0);
    open_source(src, broker);
}

TEST(E4_E7_E12_what_is_gone_when_it_would_be_planned_is_told)
{
    struct broker broker;
    struct plug_source src;

    open_cut_topic(&broker, &src, true, "\nstart={\"t\":{\"0\":2}}");
    check_plan(&src, "{\"t\":{\"0\":5}}", MR_OK, "{\"t\":{\"0\":10}}");
    check_plan(&src, "{\"t\":{\"0\":2}}", MR_DATA_LOSS, "offsets 2 to 3 are gone");
    check_plan(&src, NULL, MR_DATA_LOSS, "are gone"); /* what the start option asks for */
    /* the log was cut below what was read */
    check_plan(&src, "{\"t\":{\"0\":25}}", MR_DATA_LOSS, "offsets 10 to 24 are gone");
    /* a partition that was made and cut while nobody looked */
    check_plan(&src, "{\"t\":{\"1\":0}}", MR_DATA_LOSS, "offsets 0 to 3 are gone");
    check_plan(&src, "{\"t\":{\"0\":10,\"7\":3}}", MR_DATA_LOSS, "partition 7 was deleted");
    plug_source_stop(&src);
    close_broker(&broker);
}

TEST(E4_E12_what_is_gone_is_skipped_when_that_is_allowed)
{
    struct broker broker;
    struct plug_source src;

    open_cut_topic(&broker, &src, true, "\nfail_on_data_loss=false");
    check_plan(&src, "{\"t\":{\"0\":2}}", MR_OK, "{\"t\":{\"0\":10}}");
    /* the position stays: the records up to it were read once */
    check_plan(&src, "{\"t\":{\"0\":25}}", MR_OK, NULL);
    plug_source_stop(&src);
    close_broker(&broker);
}

TEST(E5_a_topic_whose_id_is_another_than_that_of_the_checkpoint_was_made_again)
{
    const struct mr_slice key = {"topic-id/t", 10}, id = {"new", 3}, other = {"old", 3};
    struct mr_ksrc_topic_id item = {(char *)(uintptr_t) "t", (char *)(uintptr_t) "new"};
    const struct mr_ksrc_topic_ids ids = {&item, 1};
    struct broker broker;
    struct plug_source src;
    struct mr_error err = {0};

    open_broker(&broker, "");
    open_source(&src, &broker); /* for its store */
    CHECK_NULL(mr_ksrc_history_changed(&ids, src.kv));
    CHECK_OK(mr_kv_put(src.kv, key, id, &err), &err);
    CHECK_NULL(mr_ksrc_history_changed(&ids, src.kv));
    CHECK_OK(mr_kv_put(src.kv, key, other, &err), &err);
    CHECK_EQ_STR(mr_ksrc_history_changed(&ids, src.kv), "t");
    plug_source_stop(&src);
    close_broker(&broker);
}

static void check_read(struct plug_source *src, const char *start, const char *end,
                       enum mr_status wanted, const char *part)
{
    struct mr_error err = {0};

    CHECK_STATUS(plug_read_try(src, start, end, &err), wanted);
    if (wanted == MR_OK)
        CHECK_EQ_STR(src->rows.data, part);
    else
        CHECK_CONTAINS(err.text, part);
}

TEST(E4_a_planned_range_is_read_exactly_or_its_loss_is_told)
{
    struct broker broker;
    struct plug_source src;

    open_cut_topic(&broker, &src, false, "");
    check_read(&src, "{\"t\":{\"0\":6}}", "{\"t\":{\"0\":9}}", MR_OK, "a;a;a");
    check_read(&src, "{\"t\":{\"0\":2}}", "{\"t\":{\"0\":9}}", MR_DATA_LOSS,
               "offsets 2 to 3 are gone");
    check_read(&src, "{\"t\":{\"0\":8}}", "{\"t\":{\"0\":12}}", MR_DATA_LOSS,
               "offsets 10 to 11 are gone");
    plug_source_stop(&src);
    close_broker(&broker);
}

TEST(H20_offsets_of_a_plan_that_no_plan_can_have_are_refused)
{
    struct broker broker;
    struct plug_source src;
    static const char *const wrong[] = {
        "{\"t\":{\"x\":5}}",
        "{\"t\":{\"-1\":5}}",
        "{\"t\":{\"0\":\"5\"}}",
        "{\"t\":{\"0\":-5}}",
        "{\"t\":{\"4294967296\":5}}",
        "{\"t\":5}",
        "[]",
        "{\"@from\":{\"t\":{\"3\":1}},\"t\":{\"0\":5}}",
        "{\"@from\":{\"t\":{\"0\":-1}},\"t\":{\"0\":5}}",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct mr_ksrc_offsets positions = {0};
        struct mr_error err = {0};

        CHECK_FAILS(mr_ksrc_positions_parse(wrong[i], &positions, &err), &err, MR_CORRUPT,
                    "cannot read the offset");
    }
    /* a range that goes back, and a partition of which nobody knows where it begins */
    open_cut_topic(&broker, &src, false, "");
    check_read(&src, "{\"t\":{\"0\":9}}", "{\"t\":{\"0\":6}}", MR_CORRUPT, "goes back");
    check_read(&src, "{\"t\":{\"0\":9}}", "{\"t\":{\"0\":9,\"1\":3}}", MR_CORRUPT, "no beginning");
    plug_source_stop(&src);
    close_broker(&broker);
}

#else

TEST(guards_of_kafka_without_its_broker)
{
    SKIP(t, "built without Kafka, or with a librdkafka that has no broker for tests");
}

#endif
