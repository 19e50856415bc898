/*
 * What a direct stream (<millrace/kafka.h>) hands to its Kafka source, as `user` of its arguments:
 * offsets that the program wants to have committed to its consumer group (KD-8).
 */
#ifndef MILLRACE_EXT_KAFKA_LINK_H
#define MILLRACE_EXT_KAFKA_LINK_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_kafka_link {
    size_t struct_size;
    void *arg;
    /* What was enqueued since the last call, as offsets: {"clicks":{"0":23,"1":345}}; NULL =
     * nothing. The source frees it with mr_text_free. Driver, before each plan and at the stop. */
    char *(*take)(void *arg);
    /* The brokers' answer to what was taken last, MR_OK or why not. Driver. */
    void (*done)(void *arg, const char *offsets, enum mr_status status, const char *text);
};

#ifdef __cplusplus
}
#endif
#endif
