/*
 * A librdkafka producer that remembers what went wrong (producer.h).
 *
 * Idempotent: a record that is sent again inside the client, after a timeout or a new leader, is
 * stored once. What is sent again by a batch that runs again is stored twice: that is the sink's
 * promise, not the client's.
 *
 * Failures come as delivery reports of records, and as events through error_cb, which are collected
 * as causes. Reports are counted only when they carry the number of the running attempt.
 *
 * Secrets: values of kafka.* never appear in errors or logs (librdkafka_rules.h).
 *
 * Thread: send by any; the others: driver.
 */
#include "sinks/kafka/producer.h"

#include "base/host_list.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CALL_TIMEOUT_MS = 500, TOPIC_RETRIES = 4, TOPIC_RETRY_MS = 250, FULL_WAIT_MS = 50 };

static void lock(struct mr_ksink_producer *producer)
{
    while (atomic_flag_test_and_set_explicit(&producer->lock, memory_order_acquire))
        ;
}

static void unlock(struct mr_ksink_producer *producer)
{
    atomic_flag_clear_explicit(&producer->lock, memory_order_release);
}

/* ---- configuration ---- */

static const char *const refused_keys[][2] = {
    {"bootstrap.servers", "use 'brokers'"},
    {"key.serializer", "use 'format' and columns"},
    {"value.serializer", "use 'format' and columns"},
    {"key.deserializer", "it is for reading"},
    {"value.deserializer", "it is for reading"},
    {"enable.idempotence", "it is always on"},
    {"transactional.id", "transactions are not supported"},
    {"delivery.report.only.error", "every record is waited for"},
};

static enum mr_status set_one(const struct mr_ksink_producer *producer, rd_kafka_conf_t *conf,
                              const char *key, const char *value, struct mr_error *err)
{
    return mr_kafka_set(conf, "sink", producer->name, key, value, err);
}

static enum mr_status set_user_keys(const struct mr_ksink_producer *producer, rd_kafka_conf_t *conf,
                                    struct mr_error *err)
{
    const struct mr_secret *value;
    const char *key;

    for (size_t i = 0; mr_options_secrets(producer->options, "kafka.", i, &key, &value); i++) {
        for (size_t k = 0; k < MR_ARRAY_SIZE(refused_keys); k++)
            if (strcmp(key, refused_keys[k][0]) == 0)
                return MR_FAIL(err, MR_CONFIG, "option 'kafka.%s' of sink '%s' is not allowed: %s",
                               key, producer->name, refused_keys[k][1]);
        MR_TRY(set_one(producer, conf, key, mr_secret_reveal(value), err));
    }
    return MR_OK;
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct mr_ksink_producer *producer = opaque;

    MR_UNUSED(rk);
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return; /* sums up the others */
    lock(producer);
    mr_kafka_causes_add(&producer->causes, code, reason);
    unlock(producer);
}

#if RD_KAFKA_VERSION >= 0x020000ff
/* Hosts that brokers name; node NULL: frees. A thread of librdkafka's. */
static int resolve(const char *node, const char *service, const struct addrinfo *hints,
                   struct addrinfo **res, void *opaque)
{
    struct mr_ksink_producer *producer = opaque;
    bool refused;
    char reason[MR_KAFKA_CAUSE_BYTES];
    int failed;

    if (node == NULL) {
        mr_host_list_free_addresses(*res);
        return 0;
    }
    failed = mr_host_list_resolve(producer->hosts, node, service, hints, res, &refused);
    if (refused) {
        snprintf(reason, sizeof(reason), "%.100s:%.20s is not among 'broker_hosts'", node, service);
        on_error(producer->rk, RD_KAFKA_RESP_ERR__RESOLVE, reason, producer);
        errno = EACCES;
    }
    return failed;
}
#endif

static enum mr_status set_hosts(struct mr_ksink_producer *producer, rd_kafka_conf_t *conf,
                                struct mr_error *err)
{
    const char *hosts = mr_options_text(producer->options, "broker_hosts");

    if (hosts == NULL)
        return MR_OK;
    mr_host_list_free(producer->hosts); /* of the client before */
    producer->hosts = NULL;
    if (mr_host_list_parse(hosts, &producer->hosts, err) != MR_OK)
        return mr_error_prefix(err, "wrong option 'broker_hosts' of sink '%s'", producer->name);
#if RD_KAFKA_VERSION >= 0x020000ff
    rd_kafka_conf_set_resolve_cb(conf, resolve);
    return MR_OK;
#else
    MR_UNUSED(conf);
    return MR_FAIL(err, MR_CONFIG, "option 'broker_hosts' of sink '%s' needs librdkafka 2.0",
                   producer->name);
#endif
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    MR_UNUSED(rk);
    MR_UNUSED(level);
    mr_ext_log('D', "librdkafka", "%s: %s", facility, text);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct mr_ksink_producer *producer = opaque;

    MR_UNUSED(rk);
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR ||
        ((uintptr_t)message->_private != atomic_load(&producer->attempt) &&
         !MR_MUTANT("kafka-sink.delivery.attempt")))
        return;
    lock(producer);
    if (producer->failed == RD_KAFKA_RESP_ERR_NO_ERROR)
        producer->failed = message->err;
    unlock(producer);
}

/* ---- life ---- */

static enum mr_status make_client(struct mr_ksink_producer *producer, struct mr_error *err)
{
    char text[MR_KAFKA_CONF_TEXT_BYTES] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char timeout_ms[32];
    enum mr_status status = MR_OK;

    snprintf(timeout_ms, sizeof(timeout_ms), "%" PRId64, producer->timeout_us / 1000);
    MR_TRY_GOTO(set_one(producer, conf, "client.id", "millrace", err));
    MR_TRY_GOTO(set_one(producer, conf, "linger.ms", "5", err));
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(mr_memory_part(16, MR_LIMIT_KAFKA_SINK_QUEUE) >> 10));
    MR_TRY_GOTO(set_one(producer, conf, "queue.buffering.max.kbytes", text, err));
    MR_TRY_GOTO(set_one(producer, conf, "message.timeout.ms", timeout_ms, err));
    MR_TRY_GOTO(set_one(producer, conf, "reconnect.backoff.max.ms", "1000", err));
    MR_TRY_GOTO(set_one(producer, conf, "log.connection.close", "false", err));
    MR_TRY_GOTO(set_user_keys(producer, conf, err));
    if (!MR_MUTANT("kafka-sink.open.idempotence"))
        MR_TRY_GOTO(set_one(producer, conf, "enable.idempotence", "true", err));
    MR_TRY_GOTO(set_one(producer, conf, "bootstrap.servers",
                        mr_options_text(producer->options, "brokers"), err));
    MR_TRY_GOTO(set_hosts(producer, conf, err));
    rd_kafka_conf_set_opaque(conf, producer);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    producer->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (producer->rk != NULL)
        conf = NULL; /* taken */
    else
        status = MR_FAIL(err, MR_CONFIG, "cannot open Kafka sink '%s': %s", producer->name, text);
done:
    if (conf != NULL)
        rd_kafka_conf_destroy(conf);
    return status;
}

enum mr_status mr_ksink_producer_open(struct mr_ksink_producer *producer,
                                      const struct mr_sink_args *args, struct mr_error *err)
{
    producer->env = args->env;
    producer->options = args->options;
    producer->timeout_us = mr_options_int(args->options, "delivery_timeout");
    atomic_flag_clear(&producer->lock);
    producer->name = mr_strdup(args->name);
    if (producer->name == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open Kafka sink '%s': out of memory", args->name);
    return make_client(producer, err);
}

void mr_ksink_producer_release(struct mr_ksink_producer *producer)
{
    if (producer->rk != NULL) {
        rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_destroy(producer->rk);
    }
    producer->rk = NULL;
    for (size_t i = 0; i < producer->topic_count; i++)
        mr_free(producer->topics[i]);
    producer->topic_count = 0;
    mr_host_list_free(producer->hosts);
    producer->hosts = NULL;
    mr_free(producer->name);
    producer->name = NULL;
}

enum mr_status mr_ksink_producer_begin(struct mr_ksink_producer *producer, struct mr_error *err)
{
    char text[MR_KAFKA_CONF_TEXT_BYTES];

    atomic_fetch_add(&producer->attempt, 1);
    lock(producer);
    producer->failed = RD_KAFKA_RESP_ERR_NO_ERROR;
    mr_kafka_causes_clear(&producer->causes);
    unlock(producer);
    if (rd_kafka_fatal_error(producer->rk, text, sizeof(text)) == RD_KAFKA_RESP_ERR_NO_ERROR ||
        MR_MUTANT("kafka-sink.begin.fatal"))
        return MR_OK;
    mr_ext_log('W', producer->name,
               "making a new Kafka producer, because the old one cannot go on: %s", text);
    rd_kafka_destroy(producer->rk);
    producer->rk = NULL;
    return make_client(producer, err);
}

void mr_ksink_producer_abort(struct mr_ksink_producer *producer)
{
    atomic_fetch_add(&producer->attempt, 1);
    if (!MR_MUTANT("kafka-sink.abort.purge"))
        rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE);
    rd_kafka_poll(producer->rk, 0);
}

/* ---- failures ---- */

static enum mr_status fail(struct mr_ksink_producer *producer, const char *what,
                           rd_kafka_resp_err_t code, struct mr_error *err)
{
    char causes[MR_ERROR_TEXT_BYTES - 120];
    bool refused;

    lock(producer);
    mr_kafka_causes_print(&producer->causes, causes, sizeof(causes));
    refused = producer->causes.refused || mr_kafka_is_refusal(code, "");
    unlock(producer);
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot %s for sink '%s': %s; raise kafka.message.max.bytes and the topic's "
                       "max.message.bytes",
                       what, producer->name, rd_kafka_err2str(code));
    return MR_FAIL(err, refused ? MR_PERMISSION : MR_UNAVAILABLE, "cannot %s for sink '%s': %s%s",
                   what, producer->name, rd_kafka_err2str(code), causes);
}

/* Serves callbacks; an error when the attempt cannot succeed any more. */
static enum mr_status check(struct mr_ksink_producer *producer, int wait_ms, struct mr_error *err)
{
    rd_kafka_resp_err_t failed;
    bool refused;

    rd_kafka_poll(producer->rk, wait_ms);
    lock(producer);
    failed = producer->failed;
    refused = producer->causes.refused;
    unlock(producer);
    if (failed != RD_KAFKA_RESP_ERR_NO_ERROR && !MR_MUTANT("kafka-sink.check.failed"))
        return fail(producer, "deliver records", failed, err);
    return refused ? fail(producer, "deliver records", RD_KAFKA_RESP_ERR__AUTHENTICATION, err)
                   : MR_OK;
}

/* ---- topics ---- */

static bool is_known(struct mr_ksink_producer *producer, const char *topic)
{
    bool known = false;

    lock(producer);
    for (size_t i = 0; i < producer->topic_count && !known; i++)
        known = strcmp(producer->topics[i], topic) == 0;
    unlock(producer);
    return known;
}

static void remember(struct mr_ksink_producer *producer, const char *topic)
{
    char *copy = mr_strdup(topic);

    lock(producer);
    if (copy != NULL && producer->topic_count < KSINK_TOPICS_MAX) {
        producer->topics[producer->topic_count++] = copy;
        copy = NULL;
    }
    unlock(producer);
    mr_free(copy); /* not remembered: asked again next time */
}

/* The error of the topic in the brokers' metadata, asked once. */
static enum mr_status ask_topic(struct mr_ksink_producer *producer, const char *topic,
                                int64_t deadline_ns, rd_kafka_resp_err_t *ret_code,
                                struct mr_error *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer->rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code;
    enum mr_status status = MR_OK;

    if (handle == NULL)
        return MR_FAIL(err, MR_BAD_DATA, "cannot write to topic '%s' of sink '%s': %s", topic,
                       producer->name, rd_kafka_err2str(rd_kafka_last_error()));
    for (;;) {
        code = rd_kafka_metadata(producer->rk, 0, handle, &metadata, CALL_TIMEOUT_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        MR_TRY_GOTO(check(producer, 0, err));
        if (mr_env_monotonic_ns(producer->env) >= deadline_ns) {
            status = fail(producer, "get metadata", code, err);
            goto done;
        }
    }
    *ret_code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                         : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    rd_kafka_metadata_destroy(metadata);
done:
    rd_kafka_topic_destroy(handle);
    return status;
}

/* Records for a topic that does not exist would wait for their whole timeout and then say "timed
 * out". */
static enum mr_status check_topic(struct mr_ksink_producer *producer, const char *topic,
                                  struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(producer->env) + producer->timeout_us * 1000;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (is_known(producer, topic))
        return MR_OK;
    for (int attempt = 0; attempt < TOPIC_RETRIES; attempt++) {
        if (attempt > 0)
            mr_env_sleep_ns(producer->env, (int64_t)TOPIC_RETRY_MS * 1000000);
        MR_TRY(ask_topic(producer, topic, deadline_ns, &code, err));
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            remember(producer, topic);
            return MR_OK;
        }
    }
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot write to sink '%s': there is no topic '%s' at '%s'; create it or "
                       "correct 'topic'",
                       producer->name, topic, mr_options_text(producer->options, "brokers"));
    return fail(producer, "find the topic", code, err);
}

/* ---- records ---- */

static rd_kafka_resp_err_t queue_record(struct mr_ksink_producer *producer,
                                        const struct mr_ksink_record *record)
{
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = record->topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = record->partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY,
         .u.mem = {(void *)(uintptr_t)record->key.data, record->key.size_bytes}},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {(void *)(uintptr_t)record->value.data, record->value.size_bytes}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)atomic_load(&producer->attempt)},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(producer->rk, parts, MR_ARRAY_SIZE(parts));
    rd_kafka_resp_err_t code =
        error != NULL ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;

    rd_kafka_error_destroy(error);
    return code;
}

enum mr_status mr_ksink_producer_send(struct mr_ksink_producer *producer,
                                      const struct mr_ksink_record *record, struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(producer->env) + producer->timeout_us * 1000;

    MR_TRY(check_topic(producer, record->topic, err));
    for (;;) {
        rd_kafka_resp_err_t code = queue_record(producer, record);

        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            return MR_OK;
        if (code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot write to sink '%s': topic '%s' has no partition %" PRId32,
                           producer->name, record->topic, record->partition);
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL ||
            mr_env_monotonic_ns(producer->env) >= deadline_ns)
            return fail(producer, "send a record", code, err);
        MR_TRY(check(producer, FULL_WAIT_MS, err));
    }
}

enum mr_status mr_ksink_producer_flush(struct mr_ksink_producer *producer, struct mr_error *err)
{
    /* Each record has its own timeout inside librdkafka; this one is for records that were queued
     * last. */
    int64_t deadline_ns = mr_env_monotonic_ns(producer->env) + 2 * producer->timeout_us * 1000;

    while (!MR_MUTANT("kafka-sink.flush.wait") &&
           rd_kafka_flush(producer->rk, FULL_WAIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        MR_TRY(check(producer, 0, err));
        /* redundant: librdkafka fails each record before that, and check() tells */
        if (mr_env_monotonic_ns(producer->env) >= deadline_ns &&
            !MR_MUTANT("kafka-sink.flush.deadline"))
            return fail(producer, "deliver records", RD_KAFKA_RESP_ERR__TIMED_OUT, err);
    }
    return check(producer, 0, err);
}
