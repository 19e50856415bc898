/*
 * Where a new query begins in each partition: options start, start_timestamp, start_others,
 * start_reset.
 *
 *     earliest, latest       the first or the end offset of the first plan
 *     {"topic":{"0":23}}     those; partitions that are not named begin as start_others says
 *     committed              what the consumer group has committed, else as start_reset says
 *     a timestamp            the first record that is not older, else the end
 *
 * Asked once, by the first plan; its offset keeps the answers. A partition that appears later
 * begins at its first offset (kafka.c).
 *
 * Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include <inttypes.h>
#include <string.h>

static bool parse_word(const char *text, int64_t *ret_start)
{
    static const struct {
        const char *word;
        int64_t start;
    } words[] = {
        {"earliest", KSRC_EARLIEST},   {"earliest-offset", KSRC_EARLIEST},
        {"latest", KSRC_LATEST},       {"latest-offset", KSRC_LATEST},
        {"committed", KSRC_COMMITTED}, {"group-offsets", KSRC_COMMITTED},
        {"error", KSRC_NONE},          {"none", KSRC_NONE},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i].word) == 0) {
            *ret_start = words[i].start;
            return true;
        }
    }
    return false;
}

static enum mr_status parse_given(struct mr_ksrc_begin *begin, const char *text,
                                  struct mr_error *err)
{
    if (mr_ksrc_offsets_parse(text, &begin->given, NULL) != MR_OK || begin->given.count == 0)
        return MR_FAIL(err, MR_CONFIG,
                       "wrong option 'start' of source '%s': expected earliest, latest, committed "
                       "or JSON like "
                       "{\"topic\":{\"0\":23}}",
                       begin->source);
    for (size_t i = 0; i < begin->given.count; i++)
        if (begin->given.items[i].offset < KSRC_EARLIEST)
            return MR_FAIL(err, MR_CONFIG,
                           "wrong option 'start' of source '%s': offset %" PRId64
                           " is neither a position nor -2 (earliest) or -1 (latest)",
                           begin->source, begin->given.items[i].offset);
    return MR_OK;
}

enum mr_status mr_ksrc_begin_parse(struct mr_ksrc_begin *begin, const struct mr_options *options,
                                   struct mr_error *err)
{
    const char *start = mr_options_text(options, "start");

    parse_word(mr_options_text(options, "start_others"), &begin->others);
    parse_word(mr_options_text(options, "start_reset"), &begin->reset);
    if (mr_options_has(options, "start_timestamp")) {
        begin->start = KSRC_AT_TIME;
        begin->timestamp_ms = mr_options_int(options, "start_timestamp");
    } else if (!parse_word(start, &begin->start) || begin->start == KSRC_NONE) {
        MR_TRY(parse_given(begin, start, err));
    }
    if (mr_options_text(options, "group_id") == NULL &&
        (begin->given.count > 0 ? begin->others : begin->start) == KSRC_COMMITTED)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka source '%s': to begin at committed offsets it needs the "
                       "group that committed them; set 'group_id'",
                       begin->source);
    return MR_OK;
}

void mr_ksrc_begin_release(struct mr_ksrc_begin *begin)
{
    mr_ksrc_offsets_release(&begin->given);
    mr_ksrc_offsets_release(&begin->found);
}

enum mr_status mr_ksrc_begin_ask(struct mr_ksrc_begin *begin, struct mr_ksrc_client *client,
                                 const struct mr_ksrc_offsets *partitions, struct mr_error *err)
{
    int64_t start = begin->given.count > 0 ? begin->others : begin->start;

    mr_ksrc_offsets_release(&begin->found);
    if (start == KSRC_COMMITTED)
        return mr_ksrc_client_committed(client, partitions, &begin->found, err);
    if (start == KSRC_AT_TIME)
        return mr_ksrc_client_at_time(client, partitions, begin->timestamp_ms, &begin->found, err);
    return MR_OK;
}

/* The offset that is asked for, or KSRC_EARLIEST, KSRC_LATEST. */
static enum mr_status wanted_offset(const struct mr_ksrc_begin *begin,
                                    const struct mr_ksrc_offset *item, int64_t *ret_wanted,
                                    struct mr_error *err)
{
    const struct mr_ksrc_offset *known =
        mr_ksrc_offsets_find(&begin->given, item->topic, item->partition);
    int64_t start = begin->given.count > 0 ? begin->others : begin->start;

    if (known != NULL) {
        *ret_wanted = known->offset;
        return MR_OK;
    }
    if (start == KSRC_NONE)
        return MR_FAIL(err, MR_CONFIG,
                       "option 'start' of source '%s' has no offset for topic '%s' partition "
                       "%" PRId32 "; name every partition, or set 'start_others'",
                       begin->source, item->topic, item->partition);
    known = mr_ksrc_offsets_find(&begin->found, item->topic, item->partition);
    if (start == KSRC_COMMITTED && known == NULL && begin->reset == KSRC_NONE)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot begin source '%s': its group has committed no offset of topic '%s' "
                       "partition %" PRId32 "; set 'start_reset', or name offsets in 'start'",
                       begin->source, item->topic, item->partition);
    if (known != NULL)
        *ret_wanted = known->offset;
    else if (start == KSRC_COMMITTED)
        *ret_wanted = begin->reset;
    else
        *ret_wanted = start == KSRC_AT_TIME ? KSRC_LATEST : start;
    return MR_OK;
}

enum mr_status mr_ksrc_begin_at(const struct mr_ksrc_begin *begin,
                                const struct mr_ksrc_offset *item, int64_t low, int64_t high,
                                const char **ret_loss, int64_t *ret_wanted, int64_t *ret_from,
                                struct mr_error *err)
{
    int64_t wanted = 0;

    MR_TRY(wanted_offset(begin, item, &wanted, err));
    *ret_loss = NULL;
    *ret_from = wanted == KSRC_EARLIEST ? low : wanted == KSRC_LATEST ? high : wanted;
    *ret_wanted = *ret_from;
    if (*ret_from < low) {
        *ret_loss = "the query was to begin with them";
        *ret_from = low;
    } else if (*ret_from > high) {
        *ret_loss = "the query was to begin past the end";
        *ret_from = high;
    }
    return MR_OK;
}
