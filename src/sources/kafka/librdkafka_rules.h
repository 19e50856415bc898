/*
 * What the Kafka source and the Kafka sink say of librdkafka alike: which of its texts may be
 * shown, which failures are final, and the causes of a failure. src/sinks/kafka includes it too.
 *
 * Secrets: librdkafka may quote the value of a property that it does not like; its other messages
 * name hosts and mechanisms, not passwords.
 *
 * Thread: any; the causes are guarded by their owner's lock.
 */
#ifndef MR_SOURCES_KAFKA_LIBRDKAFKA_RULES_H
#define MR_SOURCES_KAFKA_LIBRDKAFKA_RULES_H

#include "base/check.h"
#include "base/text.h"

#include <librdkafka/rdkafka.h>
#include <millrace/error.h>

#include <string.h>

enum {
    MR_KAFKA_CAUSES_MAX = 4,
    MR_KAFKA_CAUSE_BYTES = 200,
    MR_KAFKA_CONF_TEXT_BYTES = 512,
};

/* What the brokers reported since the last success. */
struct mr_kafka_causes {
    char texts[MR_KAFKA_CAUSES_MAX][MR_KAFKA_CAUSE_BYTES];
    size_t count;
    bool refused; /* authentication or certificate: trying again does not help */
};

/* ---- configuration ---- */

/* May librdkafka's text be shown that may quote the value of this property? */
static inline bool mr_kafka_may_quote(const char *key)
{
    return strstr(key, "password") == NULL && strstr(key, "secret") == NULL &&
           strstr(key, "pem") == NULL && strstr(key, "jaas") == NULL &&
           strstr(key, "token") == NULL && strstr(key, "oauth") == NULL;
}

/* what: "source" or "sink", name: of which one. */
static inline enum mr_status mr_kafka_set(rd_kafka_conf_t *conf, const char *what, const char *name,
                                          const char *key, const char *value, struct mr_error *err)
{
    char text[MR_KAFKA_CONF_TEXT_BYTES] = "";
    rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, key, value, text, sizeof(text));

    if (result == RD_KAFKA_CONF_OK)
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG, "wrong option 'kafka.%s' of %s '%s': %s", key, what, name,
                   mr_kafka_may_quote(key)           ? text
                   : result == RD_KAFKA_CONF_UNKNOWN ? "librdkafka has no such property"
                                                     : "librdkafka does not accept the value");
}

/* ---- failures ---- */

/* Is it final? A handshake also fails when a broker goes away in the middle: of those only what
 * names certificates or alerts is. */
static inline bool mr_kafka_is_refusal(int code, const char *reason)
{
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
        code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
        code == RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM)
        return true;
    return code == RD_KAFKA_RESP_ERR__SSL &&
           (strstr(reason, "certificate") != NULL || strstr(reason, "alert") != NULL ||
            strstr(reason, "verify") != NULL);
}

/* One cause a broker, its newest: the text begins with the broker's name. */
static inline void mr_kafka_causes_add(struct mr_kafka_causes *causes, int code, const char *reason)
{
    char cause[MR_KAFKA_CAUSE_BYTES];
    size_t place = 0;

    mr_text_escape(reason, strlen(reason), cause, sizeof(cause));
    causes->refused = causes->refused || mr_kafka_is_refusal(code, reason);
    while (place < causes->count && strncmp(causes->texts[place], cause, strcspn(cause, " ")) != 0)
        place++;
    if (place < MR_KAFKA_CAUSES_MAX) {
        memcpy(causes->texts[place], cause, sizeof(cause));
        causes->count = MR_MAX(causes->count, place + 1);
    }
}

static inline void mr_kafka_causes_clear(struct mr_kafka_causes *causes)
{
    causes->count = 0;
    causes->refused = false;
}

/* "; cause; cause" of what was collected, at most size bytes. */
static inline void mr_kafka_causes_print(const struct mr_kafka_causes *causes, char *text,
                                         size_t size)
{
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < causes->count && at + 4 < size; i++) {
        size_t length = MR_MIN(strlen(causes->texts[i]), size - at - 3);

        memcpy(text + at, "; ", 2);
        memcpy(text + at + 2, causes->texts[i], length);
        at += length + 2;
        text[at] = '\0';
    }
}

#endif
