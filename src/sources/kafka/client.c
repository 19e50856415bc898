/*
 * A librdkafka client of the Kafka source: configuration, metadata, watermarks, and why something
 * failed.
 *
 * librdkafka is thread-safe: all readers share one client, the planner has another (kafka_source.h
 * says why). There is no consumer group: partitions are consumed by number, and positions live in
 * our checkpoint only.
 *
 * Errors come in two ways: as answers to calls ("timed out", which says nothing), and as events
 * through error_cb ("connection to 127.0.0.1:9092 refused"). Events are collected as causes since
 * the last success and named in our error. Some of them end the waiting at once: wrong passwords
 * and certificates do not get better by trying again.
 *
 * Secrets: values of kafka.* never appear in errors or logs (librdkafka_rules.h).
 *
 * Thread: any, except open and release: driver.
 */
#include "sources/kafka/kafka_source.h"

#include "base/host_list.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

enum { CALL_TIMEOUT_MS = 500, TOPIC_RETRIES = 4, TOPIC_RETRY_MS = 250 };

static void lock(struct mr_ksrc_client *client)
{
    while (atomic_flag_test_and_set_explicit(&client->lock, memory_order_acquire))
        ;
}

static void unlock(struct mr_ksrc_client *client)
{
    atomic_flag_clear_explicit(&client->lock, memory_order_release);
}

/* ---- configuration ---- */

/* Ours by design, or without meaning here (structured.md 20.2). */
static const char *const refused_keys[][2] = {
    {"auto.offset.reset", "use 'start' and 'fail_on_data_loss'"},
    {"enable.auto.commit", "offsets are kept in the checkpoint"},
    {"enable.auto.offset.store", "offsets are kept in the checkpoint"},
    {"enable.partition.eof", "it is always on"},
    {"key.deserializer", "use 'format' and columns"},
    {"value.deserializer", "use 'format' and columns"},
    {"key.serializer", "it is for writing"},
    {"value.serializer", "it is for writing"},
    {"interceptor.classes", "it is for Java"},
    {"bootstrap.servers", "use 'brokers'"},
};

static const char *const defaults[][2] = {
    {"client.id", "millrace"},
    {"isolation.level", "read_committed"},
    {"check.crcs", "true"},
    {"fetch.queue.backoff.ms", "10"},
    {"fetch.wait.max.ms", "100"}, /* closing a client waits for the fetch that is under way */
    {"reconnect.backoff.max.ms", "1000"},
    {"log.connection.close", "false"},
    {"socket.nagle.disable", "true"},
};

static enum mr_status set_one(struct mr_ksrc_client *client, rd_kafka_conf_t *conf, const char *key,
                              const char *value, struct mr_error *err)
{
    return mr_kafka_set(conf, "source", client->name, key, value, err);
}

static enum mr_status set_user_keys(struct mr_ksrc_client *client, rd_kafka_conf_t *conf,
                                    const struct mr_options *options, struct mr_error *err)
{
    const struct mr_secret *value;
    const char *key;

    for (size_t i = 0; mr_options_secrets(options, "kafka.", i, &key, &value); i++) {
        for (size_t k = 0; k < MR_ARRAY_SIZE(refused_keys); k++)
            if (strcmp(key, refused_keys[k][0]) == 0)
                return MR_FAIL(err, MR_CONFIG,
                               "option 'kafka.%s' of source '%s' is not allowed: %s", key,
                               client->name, refused_keys[k][1]);
        if (strcmp(key, "group.id") == 0)
            mr_ext_log(
                'W', client->name,
                "kafka.group.id has no effect: nobody joins a group; 'group_id' names one for "
                "committed offsets");
        else
            MR_TRY(set_one(client, conf, key, mr_secret_reveal(value), err));
    }
    return MR_OK;
}

/* ---- events ---- */

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct mr_ksrc_client *client = opaque;

    MR_UNUSED(rk);
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return; /* sums up the others */
    lock(client);
    mr_kafka_causes_add(&client->causes, code, reason);
    unlock(client);
}

/* Brokers hold answers back when somebody asks too much: nothing is wrong. */
static void on_throttle(rd_kafka_t *rk, const char *broker, int32_t id, int time_ms, void *opaque)
{
    struct mr_ksrc_client *client = opaque;
    int64_t until_ns = mr_env_monotonic_ns(client->env) + (int64_t)time_ms * 1000000;

    MR_UNUSED(rk);
    MR_UNUSED(id);
    if (until_ns > atomic_load(&client->throttled_until_ns))
        atomic_store(&client->throttled_until_ns, until_ns);
    mr_ext_log('D', client->name, "broker %s holds answers back for %d ms", broker, time_ms);
}

#if RD_KAFKA_VERSION >= 0x020000ff
/* Hosts that brokers name; node NULL: frees. A thread of librdkafka's. */
static int resolve(const char *node, const char *service, const struct addrinfo *hints,
                   struct addrinfo **res, void *opaque)
{
    struct mr_ksrc_client *client = opaque;
    bool refused;
    char reason[MR_KAFKA_CAUSE_BYTES];
    int failed;

    if (node == NULL) {
        mr_host_list_free_addresses(*res);
        return 0;
    }
    failed = mr_host_list_resolve(client->hosts, node, service, hints, res, &refused);
    if (refused) {
        snprintf(reason, sizeof(reason), "%.100s:%.20s is not among 'broker_hosts'", node, service);
        on_error(client->rk, RD_KAFKA_RESP_ERR__RESOLVE, reason, client);
        errno = EACCES;
    }
    return failed;
}
#endif

static enum mr_status set_hosts(struct mr_ksrc_client *client, rd_kafka_conf_t *conf,
                                const char *hosts, struct mr_error *err)
{
    if (hosts == NULL)
        return MR_OK;
    if (mr_host_list_parse(hosts, &client->hosts, err) != MR_OK)
        return mr_error_prefix(err, "wrong option 'broker_hosts' of source '%s'", client->name);
#if RD_KAFKA_VERSION >= 0x020000ff
    rd_kafka_conf_set_resolve_cb(conf, resolve);
    return MR_OK;
#else
    MR_UNUSED(conf);
    return MR_FAIL(err, MR_CONFIG, "option 'broker_hosts' of source '%s' needs librdkafka 2.0",
                   client->name);
#endif
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    MR_UNUSED(rk);
    MR_UNUSED(level);
    mr_ext_log('D', "librdkafka", "%s: %s", facility, text);
}

/* ---- life ---- */

enum mr_status mr_ksrc_client_open(struct mr_ksrc_client *client, const struct mr_source_args *args,
                                   bool in_group, struct mr_error *err)
{
    static const char *const fixed[][2] = {
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "error"},
    };
    char text[MR_KAFKA_CONF_TEXT_BYTES] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum mr_status status = MR_OK;

    client->env = args->env;
    client->name = args->name;
    client->brokers = mr_options_text(args->options, "brokers");
    client->group_id = in_group ? mr_options_text(args->options, "group_id") : NULL;
    client->connect_timeout_us = mr_options_int(args->options, "connect_timeout");
    atomic_flag_clear(&client->lock);
    for (size_t i = 0; i < MR_ARRAY_SIZE(defaults); i++)
        MR_TRY_GOTO(set_one(client, conf, defaults[i][0], defaults[i][1], err));
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(mr_memory_part(32, MR_LIMIT_KAFKA_QUEUE) >> 10));
    MR_TRY_GOTO(set_one(client, conf, "queued.max.messages.kbytes", text, err));
    MR_TRY_GOTO(set_user_keys(client, conf, args->options, err));
    for (size_t i = 0; i < MR_ARRAY_SIZE(fixed); i++)
        MR_TRY_GOTO(set_one(client, conf, fixed[i][0], fixed[i][1], err));
    if (client->group_id != NULL)
        MR_TRY_GOTO(set_one(client, conf, "group.id", client->group_id, err));
    MR_TRY_GOTO(set_one(client, conf, "bootstrap.servers", client->brokers, err));
    MR_TRY_GOTO(set_hosts(client, conf, mr_options_text(args->options, "broker_hosts"), err));
    client->read_committed = rd_kafka_conf_get(conf, "isolation.level", text,
                                               &(size_t){sizeof(text)}) == RD_KAFKA_CONF_OK &&
                             strcmp(text, "read_committed") == 0;
    rd_kafka_conf_set_opaque(conf, client);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_throttle_cb(conf, on_throttle);
    rd_kafka_conf_set_log_cb(conf, on_log);
    client->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (client->rk != NULL)
        conf = NULL; /* taken */
    else
        status = MR_FAIL(err, MR_CONFIG, "cannot open Kafka source '%s': %s", args->name, text);
done:
    if (conf != NULL)
        rd_kafka_conf_destroy(conf);
    return status;
}

void mr_ksrc_client_release(struct mr_ksrc_client *client)
{
    if (client->rk != NULL)
        rd_kafka_destroy(client->rk);
    client->rk = NULL;
    mr_host_list_free(client->hosts);
    client->hosts = NULL;
}

void mr_ksrc_client_succeeded(struct mr_ksrc_client *client)
{
    lock(client);
    mr_kafka_causes_clear(&client->causes);
    unlock(client);
}

/* Brokers of another age. */
static bool is_foreign(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE ||
           code == RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION ||
           code == RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED ||
           code == RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT ||
           code == RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE;
}

enum mr_status mr_ksrc_client_fail(struct mr_ksrc_client *client, const char *what,
                                   rd_kafka_resp_err_t code, struct mr_error *err)
{
    char causes[MR_ERROR_TEXT_BYTES - 120];
    bool refused;

    rd_kafka_poll(client->rk, 0);
    lock(client);
    mr_kafka_causes_print(&client->causes, causes, sizeof(causes));
    refused = client->causes.refused || mr_kafka_is_refusal(code, "");
    unlock(client);
    if (is_foreign(code))
        return MR_FAIL(err, MR_VERSION,
                       "cannot %s for source '%s' from '%s': the brokers and librdkafka %s do not "
                       "understand each other: %s%s",
                       what, client->name, client->brokers, rd_kafka_version_str(),
                       rd_kafka_err2str(code), causes);
    if (refused)
        return MR_FAIL(err, MR_PERMISSION, "cannot %s for source '%s': the brokers refuse it: %s%s",
                       what, client->name, rd_kafka_err2str(code), causes);
    return MR_FAIL(err, MR_UNAVAILABLE, "cannot %s for source '%s' from '%s': %s%s", what,
                   client->name, client->brokers, rd_kafka_err2str(code), causes);
}

enum mr_status mr_ksrc_client_check(struct mr_ksrc_client *client, struct mr_error *err)
{
    bool refused;

    rd_kafka_poll(client->rk, 0);
    lock(client);
    refused = client->causes.refused;
    unlock(client);
    return refused ? mr_ksrc_client_fail(client, "read", RD_KAFKA_RESP_ERR__AUTHENTICATION, err)
                   : MR_OK;
}

/* ---- asking ---- */

/* Codes that say: ask again, the answer is not there yet. */
static bool is_transient(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
           code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE ||
           code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || code == RD_KAFKA_RESP_ERR__WAIT_COORD ||
           code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION ||
           code == RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR ||
           code == RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH ||
           code == RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
}

static bool is_missing(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           code == (rd_kafka_resp_err_t)100 /* unknown topic id; older headers have no name */;
}

/* One metadata answer, waited for in short calls so that a refusal is seen at once. Freed with
 * rd_kafka_metadata_destroy. */
static enum mr_status ask_metadata(struct mr_ksrc_client *client, const char *topic,
                                   const struct rd_kafka_metadata **ret_metadata,
                                   struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(client->env) + client->connect_timeout_us * 1000;
    rd_kafka_topic_t *handle = NULL;
    rd_kafka_resp_err_t code;
    enum mr_status status;

    if (topic != NULL) {
        handle = rd_kafka_topic_new(client->rk, topic, NULL);
        if (handle == NULL)
            return MR_FAIL(err, MR_CONFIG, "cannot use topic '%s' of source '%s': %s", topic,
                           client->name, rd_kafka_err2str(rd_kafka_last_error()));
    }
    for (;;) {
        code = rd_kafka_metadata(client->rk, topic == NULL, handle, ret_metadata, CALL_TIMEOUT_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            status = MR_OK;
            break;
        }
        MR_TRY_GOTO(mr_ksrc_client_check(client, err));
        if (!is_transient(code) || mr_env_monotonic_ns(client->env) >= deadline_ns) {
            status = mr_ksrc_client_fail(client, "get metadata", code, err);
            break;
        }
    }
done:
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    return status;
}

static enum mr_status add_topic(struct mr_ksrc_client *client,
                                const struct rd_kafka_metadata_topic *topic,
                                const struct mr_ksrc_topics *topics,
                                struct mr_ksrc_offsets *partitions, struct mr_error *err)
{
    if (is_missing(topic->err) ||
        (topic->err == RD_KAFKA_RESP_ERR_NO_ERROR && topic->partition_cnt == 0))
        return MR_FAIL(err, MR_NOT_FOUND, "there is no topic '%s' at '%s'", topic->topic,
                       client->brokers);
    if (topic->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        return MR_FAIL(err, MR_PERMISSION, "cannot read topic '%s' for source '%s': %s",
                       topic->topic, client->name, rd_kafka_err2str(topic->err));
    if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot get metadata of topic '%s' for source '%s': %s",
                       topic->topic, client->name, rd_kafka_err2str(topic->err));
    for (int i = 0; i < topic->partition_cnt; i++) {
        int32_t id = topic->partitions[i].id;

        if (topics->assigned.count > 0 &&
            mr_ksrc_offsets_find(&topics->assigned, topic->topic, id) == NULL)
            continue;
        MR_TRY(mr_ksrc_offsets_put(partitions, topic->topic, id, 0, -1, err));
    }
    return MR_OK;
}

static enum mr_status add_matching(struct mr_ksrc_client *client,
                                   const struct mr_ksrc_topics *topics,
                                   struct mr_ksrc_offsets *partitions, struct mr_error *err)
{
    const struct rd_kafka_metadata *metadata = NULL;
    enum mr_status status;

    MR_TRY(ask_metadata(client, NULL, &metadata, err));
    status = MR_OK;
    for (int i = 0; i < metadata->topic_cnt && status == MR_OK; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

        if (strncmp(topic->topic, "__", 2) == 0 ||
            regexec(topics->pattern, topic->topic, 0, NULL, 0) != 0)
            continue;
        status = add_topic(client, topic, topics, partitions, err);
        if (status == MR_NOT_FOUND) /* deleted while we were asking */
            status = MR_OK;
    }
    rd_kafka_metadata_destroy(metadata);
    return status;
}

/* A topic may be unknown for a moment after it was made or while a broker starts: asked a few
 * times. */
static enum mr_status add_named(struct mr_ksrc_client *client, const char *name,
                                const struct mr_ksrc_topics *topics,
                                struct mr_ksrc_offsets *partitions, struct mr_error *err)
{
    enum mr_status status = MR_NOT_FOUND;

    for (int attempt = 0;
         attempt < TOPIC_RETRIES && (status == MR_NOT_FOUND || status == MR_UNAVAILABLE);
         attempt++) {
        const struct rd_kafka_metadata *metadata = NULL;

        if (attempt > 0)
            mr_env_sleep_ns(client->env, (int64_t)TOPIC_RETRY_MS * 1000000);
        MR_TRY(ask_metadata(client, name, &metadata, err));
        MR_ASSERT(metadata != NULL);
        status = MR_UNAVAILABLE;
        for (int i = 0; i < metadata->topic_cnt; i++)
            if (strcmp(metadata->topics[i].topic, name) == 0)
                status = add_topic(client, &metadata->topics[i], topics, partitions, err);
        rd_kafka_metadata_destroy(metadata);
    }
    return status;
}

enum mr_status mr_ksrc_client_partitions(struct mr_ksrc_client *client,
                                         const struct mr_ksrc_topics *topics,
                                         struct mr_ksrc_offsets *ret_partitions,
                                         struct mr_error *err)
{
    struct mr_ksrc_offsets partitions = {0};
    enum mr_status status = MR_OK;

    if (topics->pattern != NULL)
        MR_TRY_GOTO(add_matching(client, topics, &partitions, err));
    for (size_t i = 0; i < topics->name_count; i++)
        MR_TRY_GOTO(add_named(client, topics->names[i], topics, &partitions, err));
    mr_ksrc_client_succeeded(client);
    *ret_partitions = partitions;
    return MR_OK;
done:
    mr_ksrc_offsets_release(&partitions);
    return status;
}

enum mr_status mr_ksrc_client_watermarks(struct mr_ksrc_client *client, const char *topic,
                                         int32_t partition, int64_t *ret_low, int64_t *ret_high,
                                         struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(client->env) + client->connect_timeout_us * 1000;

    for (;;) {
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            client->rk, topic, partition, ret_low, ret_high, CALL_TIMEOUT_MS);

        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            return MR_OK;
        MR_TRY(mr_ksrc_client_check(client, err));
        /* A broker that starts may not know its newest partitions yet, so one answer proves
         * nothing. */
        if (is_missing(code) && mr_env_monotonic_ns(client->env) < deadline_ns) {
            mr_env_sleep_ns(client->env, (int64_t)TOPIC_RETRY_MS * 1000000);
            continue;
        }
        if (is_missing(code))
            return MR_FAIL(err, MR_NOT_FOUND,
                           "there is no partition %" PRId32 " of topic '%s' at '%s'", partition,
                           topic, client->brokers);
        if (!is_transient(code) || mr_env_monotonic_ns(client->env) >= deadline_ns) {
            char what[300];

            snprintf(what, sizeof(what), "get offsets of topic '%.249s'", topic);
            return mr_ksrc_client_fail(client, what, code, err);
        }
    }
}

/* Answers of one of the two questions below. timestamp_ms < 0: committed offsets. */
static rd_kafka_resp_err_t ask_positions(struct mr_ksrc_client *client, int64_t timestamp_ms,
                                         rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t code;

    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = timestamp_ms < 0 ? RD_KAFKA_OFFSET_INVALID : timestamp_ms;
    code = timestamp_ms < 0 ? rd_kafka_committed(client->rk, list, CALL_TIMEOUT_MS)
                            : rd_kafka_offsets_for_times(client->rk, list, CALL_TIMEOUT_MS);
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        code = list->elems[i].err;
    return code;
}

static enum mr_status find_positions(struct mr_ksrc_client *client,
                                     const struct mr_ksrc_offsets *partitions, int64_t timestamp_ms,
                                     struct mr_ksrc_offsets *ret_found, struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(client->env) + client->connect_timeout_us * 1000;
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)partitions->count);
    struct mr_ksrc_offsets found = {0};
    rd_kafka_resp_err_t code;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < partitions->count; i++)
        rd_kafka_topic_partition_list_add(list, partitions->items[i].topic,
                                          partitions->items[i].partition);
    for (;;) {
        code = ask_positions(client, timestamp_ms, list);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        MR_TRY_GOTO(mr_ksrc_client_check(client, err));
        if (!is_transient(code) || mr_env_monotonic_ns(client->env) >= deadline_ns)
            MR_TRY_GOTO(mr_ksrc_client_fail(
                client, timestamp_ms < 0 ? "get committed offsets" : "find offsets by time", code,
                err));
    }
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].offset >= 0)
            MR_TRY_GOTO(mr_ksrc_offsets_put(&found, list->elems[i].topic, list->elems[i].partition,
                                            list->elems[i].offset, -1, err));
    *ret_found = found;
    found = (struct mr_ksrc_offsets){0};
done:
    mr_ksrc_offsets_release(&found);
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

enum mr_status mr_ksrc_client_committed(struct mr_ksrc_client *client,
                                        const struct mr_ksrc_offsets *partitions,
                                        struct mr_ksrc_offsets *ret_found, struct mr_error *err)
{
    return find_positions(client, partitions, -1, ret_found, err);
}

enum mr_status mr_ksrc_client_at_time(struct mr_ksrc_client *client,
                                      const struct mr_ksrc_offsets *partitions,
                                      int64_t timestamp_ms, struct mr_ksrc_offsets *ret_found,
                                      struct mr_error *err)
{
    return find_positions(client, partitions, timestamp_ms, ret_found, err);
}

#if RD_KAFKA_VERSION >= 0x020300ff
/* Puts the answers of one question where their partitions are. epochs may be NULL. */
static void take_answers(rd_kafka_event_t *event, const struct mr_ksrc_offsets *partitions,
                         int64_t *offsets, int64_t *epochs)
{
    size_t count = 0;
    const rd_kafka_ListOffsetsResultInfo_t **infos =
        rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(event), &count);

    for (size_t i = 0; i < count; i++) {
        const rd_kafka_topic_partition_t *answer =
            rd_kafka_ListOffsetsResultInfo_topic_partition(infos[i]);
        const struct mr_ksrc_offset *item =
            mr_ksrc_offsets_find(partitions, answer->topic, answer->partition);

        if (item == NULL || answer->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        offsets[item - partitions->items] = answer->offset;
        if (epochs != NULL)
            epochs[item - partitions->items] = rd_kafka_topic_partition_get_leader_epoch(answer);
    }
}

static void ask_offsets(struct mr_ksrc_client *client, const struct mr_ksrc_offsets *partitions,
                        int64_t spec, rd_kafka_queue_t *queue)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)partitions->count);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(client->rk, RD_KAFKA_ADMIN_OP_LISTOFFSETS);
    char text[MR_KAFKA_CONF_TEXT_BYTES];

    for (size_t i = 0; i < partitions->count; i++)
        rd_kafka_topic_partition_list_add(list, partitions->items[i].topic,
                                          partitions->items[i].partition)
            ->offset = spec;
    rd_kafka_AdminOptions_set_request_timeout(options, CALL_TIMEOUT_MS, text, sizeof(text));
    rd_kafka_error_destroy(rd_kafka_AdminOptions_set_isolation_level(
        options, client->read_committed ? RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
                                        : RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED));
    rd_kafka_AdminOptions_set_opaque(options,
                                     (void *)(intptr_t)(spec == RD_KAFKA_OFFSET_SPEC_LATEST));
    rd_kafka_ListOffsets(client->rk, list, options, queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_topic_partition_list_destroy(list);
}

void mr_ksrc_client_all_watermarks(struct mr_ksrc_client *client,
                                   const struct mr_ksrc_offsets *partitions, int64_t *lows,
                                   int64_t *highs, int64_t *epochs)
{
    rd_kafka_queue_t *queue;

    for (size_t i = 0; i < partitions->count; i++) {
        lows[i] = highs[i] = -1;
        epochs[i] = KSRC_EPOCH_UNKNOWN;
    }
    if (partitions->count == 0)
        return;
    queue = rd_kafka_queue_new(client->rk);
    ask_offsets(client, partitions, RD_KAFKA_OFFSET_SPEC_EARLIEST, queue);
    ask_offsets(client, partitions, RD_KAFKA_OFFSET_SPEC_LATEST, queue);
    for (int answer = 0; answer < 2; answer++) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * CALL_TIMEOUT_MS);

        bool of_ends = event != NULL && rd_kafka_event_opaque(event) != NULL;

        if (event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
            take_answers(event, partitions, of_ends ? highs : lows, of_ends ? epochs : NULL);
        if (event != NULL)
            rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
}
#else
void mr_ksrc_client_all_watermarks(struct mr_ksrc_client *client,
                                   const struct mr_ksrc_offsets *partitions, int64_t *lows,
                                   int64_t *highs, int64_t *epochs)
{
    MR_UNUSED(client);
    for (size_t i = 0; i < partitions->count; i++) {
        lows[i] = highs[i] = -1;
        epochs[i] = KSRC_EPOCH_UNKNOWN;
    }
}
#endif
