/*
 * A small Kafka client for tests/system/test_kafka.py.
 *
 *     kafka_tool BROKERS create TOPIC PARTITIONS [KEY=VALUE ...]
 *     kafka_tool BROKERS grow TOPIC PARTITIONS
 *     kafka_tool BROKERS delete TOPIC
 *     kafka_tool BROKERS truncate TOPIC PARTITION OFFSET        records before OFFSET are deleted
 *     kafka_tool BROKERS produce TOPIC PARTITION                lines from stdin; "key<TAB>value",
 *                                                               "key<TAB>" = null value
 *     kafka_tool BROKERS transact TOPIC PARTITION commit|abort|hang    hang: exits inside it
 *     kafka_tool BROKERS dump TOPIC                             committed records, "partition
 *                                                               offset key value" a line
 *
 *     kafka_tool BROKERS committed TOPIC GROUP                  "partition offset" a line; -1001 =
 *                                                               none
 *     kafka_tool BROKERS join TOPIC GROUP                       how many partitions it got; commits
 *                                                               their beginnings and leaves
 *
 * Environment KAFKA_CONF: "key=value" pairs with ';' between, for every client. KAFKA_HEADERS: the
 * same, headers of every record. KAFKA_TIMESTAMP: milliseconds since the epoch, of every record.
 * Exit code 0, or 1 with a line on standard error.
 */
#include <librdkafka/rdkafka.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 20000, TEXT_BYTES = 512 };

static const char *brokers;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("kafka_tool: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _exit(1);
}

static long long number(const char *text)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (*text == '\0' || *end != '\0')
        die("'%s' is not a number", text);
    return value;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char text[TEXT_BYTES];

    if (rd_kafka_conf_set(conf, key, value, text, sizeof(text)) != RD_KAFKA_CONF_OK)
        die("%s", text);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("record not delivered: %s", rd_kafka_err2str(message->err));
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *transactional_id)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *more = getenv("KAFKA_CONF");
    char *copy = strdup(more != NULL ? more : "");
    char *rest = copy;
    char *pair;
    char text[TEXT_BYTES];
    rd_kafka_t *rk;

    set(conf, "bootstrap.servers", brokers);
    if (type == RD_KAFKA_PRODUCER) {
        set(conf, "enable.idempotence", "true");
        set(conf, "linger.ms", "5");
        set(conf, "message.timeout.ms", "30000");
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        if (transactional_id != NULL) {
            set(conf, "transactional.id", transactional_id);
            set(conf, "transaction.timeout.ms", "10000");
            set(conf, "message.timeout.ms", "9000");
        }
    } else {
        set(conf, "group.id", "kafka_tool");
        set(conf, "enable.auto.commit", "false");
        set(conf, "enable.partition.eof", "true");
        set(conf, "auto.offset.reset", "earliest");
    }
    while ((pair = strsep(&rest, ";")) != NULL) {
        char *equals = strchr(pair, '=');

        if (equals == NULL)
            continue;
        *equals = '\0';
        set(conf, pair, equals + 1);
    }
    free(copy);
    rk = rd_kafka_new(type, conf, text, sizeof(text));
    if (rk == NULL)
        die("%s", text);
    return rk;
}

/* ---- administration ---- */

static void check_topics(const rd_kafka_topic_result_t **results, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
            die("%s", rd_kafka_topic_result_error_string(results[i]));
}

static void check_result(rd_kafka_event_t *event)
{
    const rd_kafka_topic_result_t **results;
    size_t count = 0;

    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("%s", rd_kafka_event_error_string(event));
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
        results =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
        check_topics(results, count);
        break;
    case RD_KAFKA_EVENT_DELETETOPICS_RESULT:
        results =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
        check_topics(results, count);
        break;
    case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
        results = rd_kafka_CreatePartitions_result_topics(
            rd_kafka_event_CreatePartitions_result(event), &count);
        check_topics(results, count);
        break;
    case RD_KAFKA_EVENT_DELETERECORDS_RESULT: {
        const rd_kafka_topic_partition_list_t *list =
            rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));

        for (int i = 0; i < list->cnt; i++)
            if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
                die("%s", rd_kafka_err2str(list->elems[i].err));
        break;
    }
    default:
        die("unexpected event %s", rd_kafka_event_name(event));
    }
}

static void administer(int argc, char **argv)
{
    const char *action = argv[0];
    const char *topic = argv[1];
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_event_t *event;
    char text[TEXT_BYTES];

    if (strcmp(action, "create") == 0 && argc >= 3) {
        rd_kafka_NewTopic_t *one =
            rd_kafka_NewTopic_new(topic, (int)number(argv[2]), 1, text, sizeof(text));

        for (int i = 3; i < argc; i++) {
            char *value = strchr(argv[i], '=');

            *value++ = '\0';
            rd_kafka_NewTopic_set_config(one, argv[i], value);
        }
        rd_kafka_CreateTopics(rk, &one, 1, NULL, queue);
        rd_kafka_NewTopic_destroy(one);
    } else if (strcmp(action, "grow") == 0 && argc == 3) {
        rd_kafka_NewPartitions_t *one =
            rd_kafka_NewPartitions_new(topic, (size_t)number(argv[2]), text, sizeof(text));

        rd_kafka_CreatePartitions(rk, &one, 1, NULL, queue);
        rd_kafka_NewPartitions_destroy(one);
    } else if (strcmp(action, "delete") == 0) {
        rd_kafka_DeleteTopic_t *one = rd_kafka_DeleteTopic_new(topic);

        rd_kafka_DeleteTopics(rk, &one, 1, NULL, queue);
        rd_kafka_DeleteTopic_destroy(one);
    } else if (strcmp(action, "truncate") == 0 && argc == 4) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_DeleteRecords_t *one;

        rd_kafka_topic_partition_list_add(list, topic, (int)number(argv[2]))->offset =
            number(argv[3]);
        one = rd_kafka_DeleteRecords_new(list);
        rd_kafka_DeleteRecords(rk, &one, 1, NULL, queue);
        rd_kafka_DeleteRecords_destroy(one);
        rd_kafka_topic_partition_list_destroy(list);
    } else {
        die("unknown action '%s'", action);
    }
    event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
    if (event == NULL)
        die("no answer to '%s'", action);
    check_result(event);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

/* ---- records ---- */

/* The headers of the environment, or NULL. */
static rd_kafka_headers_t *make_headers(void)
{
    const char *text = getenv("KAFKA_HEADERS");
    rd_kafka_headers_t *headers = text != NULL ? rd_kafka_headers_new(4) : NULL;
    char *copy = strdup(text != NULL ? text : "");
    char *rest = copy;
    char *pair;

    while (headers != NULL && (pair = strsep(&rest, ";")) != NULL) {
        char *equals = strchr(pair, '=');

        if (equals == NULL)
            rd_kafka_header_add(headers, pair, -1, NULL, 0);
        else
            rd_kafka_header_add(headers, pair, equals - pair, equals + 1, -1);
    }
    free(copy);
    return headers;
}

static void send_lines(rd_kafka_t *rk, const char *topic, int32_t partition)
{
    const char *time_text = getenv("KAFKA_TIMESTAMP");
    int64_t time_ms = time_text != NULL ? strtoll(time_text, NULL, 10) : 0; /* 0: now */
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;

    while ((size = getline(&line, &capacity, stdin)) >= 0) {
        char *tab;
        const char *value = line;
        size_t key_size = 0;
        size_t value_size;
        rd_kafka_headers_t *headers = make_headers();
        rd_kafka_resp_err_t code;

        if (size > 0 && line[size - 1] == '\n')
            size--;
        tab = memchr(line, '\t', (size_t)size);
        if (tab != NULL) {
            key_size = (size_t)(tab - line);
            value = tab + 1;
        }
        value_size = (size_t)(line + size - value);
        do {
            code = rd_kafka_producev(
                rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_KEY(tab != NULL ? line : NULL, key_size),
                RD_KAFKA_V_VALUE(tab != NULL && value_size == 0 ? NULL : (void *)(uintptr_t)value,
                                 value_size),
                RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_TIMESTAMP(time_ms), RD_KAFKA_V_END);
            rd_kafka_poll(rk, code == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 50 : 0);
        } while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            die("%s", rd_kafka_err2str(code));
    }
    free(line);
    if (rd_kafka_flush(rk, TIMEOUT_MS * 2) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("records were not delivered in time");
}

static void check(rd_kafka_error_t *error)
{
    if (error != NULL)
        die("%s", rd_kafka_error_string(error));
}

static void transact(const char *topic, int32_t partition, const char *how)
{
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, "kafka_tool_tx");

    check(rd_kafka_init_transactions(rk, TIMEOUT_MS));
    check(rd_kafka_begin_transaction(rk));
    send_lines(rk, topic, partition);
    if (strcmp(how, "hang") == 0)
        _exit(0);
    check(strcmp(how, "commit") == 0 ? rd_kafka_commit_transaction(rk, TIMEOUT_MS)
                                     : rd_kafka_abort_transaction(rk, TIMEOUT_MS));
    rd_kafka_destroy(rk);
}

static void dump(const char *topic)
{
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, NULL);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    int open = 0;

    if (rd_kafka_metadata(rk, 0, handle, &metadata, TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        metadata->topic_cnt != 1)
        die("no metadata of '%s'", topic);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++, open++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_poll_set_consumer(rk);
    while (open > 0) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, TIMEOUT_MS);

        if (message == NULL)
            die("nothing came from '%s'", topic);
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
            open--;
        else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            printf("%d %lld %.*s %.*s\n", message->partition, (long long)message->offset,
                   message->key != NULL ? (int)message->key_len : 4,
                   message->key != NULL ? (char *)message->key : "null",
                   message->payload != NULL ? (int)message->len : 4,
                   message->payload != NULL ? (char *)message->payload : "null");
        rd_kafka_message_destroy(message);
    }
    fflush(stdout);
    _exit(0); /* leaving the group takes its time, and nobody joined one */
}

static void committed(const char *topic, const char *group)
{
    char conf[TEXT_BYTES];
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *handle;
    rd_kafka_t *rk;

    snprintf(conf, sizeof(conf), "group.id=%s", group);
    setenv("KAFKA_CONF", conf, 1);
    rk = client(RD_KAFKA_CONSUMER, NULL);
    handle = rd_kafka_topic_new(rk, topic, NULL);
    if (rd_kafka_metadata(rk, 0, handle, &metadata, TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("no metadata of '%s'", topic);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
        rd_kafka_topic_partition_list_add(list, topic, i);
    if (rd_kafka_committed(rk, list, TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("no committed offsets of '%s'", group);
    for (int i = 0; i < list->cnt; i++)
        printf("%d %lld\n", list->elems[i].partition, (long long)list->elems[i].offset);
    fflush(stdout);
    _exit(0);
}

/* Joins a group, waits for its partitions, says how many they are, commits their beginnings and
 * leaves: a rebalance when somebody else is in it. */
static void join_group(const char *topic, const char *group)
{
    char conf[TEXT_BYTES];
    rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new(1), *given = NULL;
    rd_kafka_t *rk;

    snprintf(conf, sizeof(conf), "group.id=%s;session.timeout.ms=6000", group);
    setenv("KAFKA_CONF", conf, 1);
    rk = client(RD_KAFKA_CONSUMER, NULL);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_add(wanted, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, wanted) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("cannot join the group '%s'", group);
    for (int waited_ms = 0; given == NULL || given->cnt == 0; waited_ms += 100) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);

        if (message != NULL)
            rd_kafka_message_destroy(message);
        if (given != NULL)
            rd_kafka_topic_partition_list_destroy(given);
        given = NULL;
        if (rd_kafka_assignment(rk, &given) != RD_KAFKA_RESP_ERR_NO_ERROR ||
            waited_ms > 2 * TIMEOUT_MS)
            die("no partition from the group '%s'", group);
    }
    for (int i = 0; i < given->cnt; i++)
        given->elems[i].offset = 0;
    if (rd_kafka_commit(rk, given, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("cannot commit to the group '%s'", group);
    printf("%d\n", given->cnt);
    fflush(stdout);
    rd_kafka_consumer_close(rk);
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *action;

    if (argc < 4)
        die("usage: kafka_tool BROKERS ACTION TOPIC ...");
    brokers = argv[1];
    action = argv[2];
    if (strcmp(action, "produce") == 0 && argc == 5) {
        rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);

        send_lines(rk, argv[3], (int)number(argv[4]));
        rd_kafka_destroy(rk);
    } else if (strcmp(action, "transact") == 0 && argc == 6) {
        transact(argv[3], (int)number(argv[4]), argv[5]);
    } else if (strcmp(action, "committed") == 0 && argc == 5) {
        committed(argv[3], argv[4]);
    } else if (strcmp(action, "join") == 0 && argc == 5) {
        join_group(argv[3], argv[4]);
    } else if (strcmp(action, "dump") == 0) {
        dump(argv[3]);
    } else {
        administer(argc - 2, argv + 2);
    }
    return 0;
}
