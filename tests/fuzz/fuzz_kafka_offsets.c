/*
 * Any bytes as what the Kafka source reads of its own: offset texts (of a PLAN, of a program's
 * commit), the options that name topics, partitions and where to begin, and the division of ranges.
 * The first byte chooses. An offset that is accepted is printed and read back as the same; pieces
 * cover their ranges once.
 *
 * Brokers' answers are decoded by librdkafka, not here.
 */
#include "fuzz/fuzz.h"

#ifdef MR_WITH_KAFKA

#include "sources/kafka/kafka_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 2000 };

static void check_pieces(const struct mr_ksrc_offsets *start, const struct mr_ksrc_offsets *end,
                         const uint8_t *data)
{
    struct mr_ksrc_division division = {data[0] % 4 == 0 ? 0 : (int64_t)1 << (data[0] % 40),
                                        data[1] % 8};
    struct mr_ksrc_range *whole = NULL, *pieces = NULL, range;
    size_t whole_count = 0, piece_count = 0, at = 0, count = 0;
    int64_t total = 0;

    while (mr_ksrc_range_at(start, end, false, count, &range)) {
        if (__builtin_add_overflow(total, range.until - range.from, &total))
            total = INT64_MAX;
        count++;
    }
    if (division.records_max > 0 && total / division.records_max > 100000)
        return; /* as many pieces as that are the user's wish, and take as long */
    if (mr_ksrc_pieces(start, end, NULL, &whole, &whole_count, NULL) == MR_OK &&
        mr_ksrc_pieces(start, end, &division, &pieces, &piece_count, NULL) == MR_OK) {
        for (size_t i = 0; i < whole_count; i++) {
            int64_t next = whole[i].from;

            for (; at < piece_count && next < whole[i].until; at++) {
                FUZZ_CHECK(strcmp(pieces[at].topic, whole[i].topic) == 0);
                FUZZ_CHECK(pieces[at].partition == whole[i].partition);
                FUZZ_CHECK(pieces[at].from == next && pieces[at].until > next);
                next = pieces[at].until;
            }
            FUZZ_CHECK(whole[i].until <= whole[i].from || next == whole[i].until);
        }
        FUZZ_CHECK(at == piece_count);
    }
    mr_free(whole);
    mr_free(pieces);
}

static void try_offsets(const char *text, const uint8_t *data)
{
    struct mr_ksrc_offsets offsets = {0}, again = {0}, none = {0}, half = {0};
    struct mr_error err = {0};
    bool good = true;
    char *printed = NULL, *printed_again = NULL;

    if (mr_ksrc_offsets_parse(text, &offsets, &err) != MR_OK) {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_BAD_DATA, MR_CORRUPT);
        return;
    }
    for (size_t i = 1; i < offsets.count; i++) {
        int order = strcmp(offsets.items[i - 1].topic, offsets.items[i].topic);
        FUZZ_CHECK(order < 0 ||
                   (order == 0 && offsets.items[i - 1].partition < offsets.items[i].partition));
        FUZZ_CHECK(mr_ksrc_offsets_have_topic(&offsets, offsets.items[i].topic));
    }
    printed = mr_ksrc_offsets_print(&offsets);
    if (printed != NULL) {
        if (mr_ksrc_offsets_parse(printed, &again, &err) != MR_OK)
            fuzz_fail(__FILE__, __LINE__, "what was printed is an offset");
        else
            printed_again = mr_ksrc_offsets_print(&again);
        if (printed_again != NULL)
            FUZZ_CHECK(strcmp(printed, printed_again) == 0);
    }
    for (size_t i = 0; i < offsets.count; i++) /* a batch that began half way */
        good =
            good && mr_ksrc_offsets_put(&half, offsets.items[i].topic, offsets.items[i].partition,
                                        offsets.items[i].offset / 2, -1, NULL) == MR_OK;
    check_pieces(&none, &offsets, data);
    check_pieces(&again, &offsets, data);
    if (good)
        check_pieces(&half, &offsets, data);
    mr_ksrc_offsets_release(&half);
    if (mr_ksrc_positions_parse(text, &half, &err) != MR_OK)
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_BAD_DATA, MR_CORRUPT);
    for (size_t i = 0; i < half.count; i++)
        FUZZ_CHECK(half.items[i].offset >= 0);
    mr_ksrc_offsets_release(&half);
    mr_text_free(printed);
    mr_text_free(printed_again);
    mr_ksrc_offsets_release(&offsets);
    mr_ksrc_offsets_release(&again);
}

static void try_options(const char *text, uint8_t choice)
{
    static const char *const keys[] = {"topic", "topic_pattern", "assign", "start"};
    const struct mr_source_connector *kafka = mr_source_find("kafka");
    struct mr_option_table table = {"connector 'kafka'", NULL, 0};
    const struct mr_option_table *tables[] = {&table};
    struct mr_option_pair pairs[] = {{"brokers", "b:1"}, {keys[choice % 4], text}, {"topic", "t"}};
    struct mr_ksrc_topics topics = {.source = "s"};
    struct mr_ksrc_begin begin = {.source = "s"};
    struct mr_options *options = NULL;
    struct mr_error err = {0};

    if (kafka == NULL)
        return;
    table.options = kafka->options;
    table.option_count = kafka->option_count;
    if (mr_options_parse(tables, 1, pairs, choice % 4 == 3 ? 3 : 2, MR_OPTION_SOURCE, &options,
                         &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_CONFIG);
        return;
    }
    if (mr_ksrc_topics_parse(&topics, options, &err) == MR_OK)
        FUZZ_CHECK(topics.name_count > 0 || topics.pattern != NULL);
    else
        FUZZ_REFUSED(&err, MR_CONFIG);
    if (mr_ksrc_begin_parse(&begin, options, &err) == MR_OK) {
        struct mr_ksrc_offset item = {topics.name_count > 0 ? topics.names[0] : NULL, 0, 0, -1,
                                      KSRC_EPOCH_UNKNOWN};
        const char *loss;
        int64_t wanted, from = 0;

        if (item.topic != NULL &&
            mr_ksrc_begin_at(&begin, &item, 5, 10, &loss, &wanted, &from, &err) == MR_OK)
            FUZZ_CHECK(from >= 5 && from <= 10 && (loss == NULL) == (wanted == from));
    } else {
        FUZZ_REFUSED(&err, MR_CONFIG);
    }
    mr_ksrc_topics_release(&topics);
    mr_ksrc_begin_release(&begin);
    mr_options_free(options);
}

/* No batch has more than waits; each partition keeps within its own rate. */
static void try_clamp(const uint8_t *data, size_t size)
{
    struct mr_ksrc_rates rates = {0};
    struct mr_ksrc_waiting waiting[8];
    int64_t records[8];
    size_t count = MR_MIN(size / 16, (size_t)8);

    if (size < 20)
        return;
    rates.rate = data[0] == 0 ? 0 : (int64_t)data[0] << (data[1] % 40);
    rates.records_min = data[2] % 4;
    rates.batch_interval_us = (int64_t)data[3] << (data[4] % 24);
    for (size_t i = 0; i < count; i++) {
        memcpy(&waiting[i].lag, data + 16 * i, 8);
        memcpy(&waiting[i].rate_max, data + 16 * i + 8, 8);
        waiting[i].rate_max &= INT64_MAX;
    }
    mr_ksrc_clamp(&rates, waiting, count, records);
    for (size_t i = 0; i < count; i++)
        FUZZ_CHECK(records[i] >= -1);
}

static void one(const uint8_t *data, size_t size)
{
    char text[TEXT_BYTES_MAX + 1];

    if (size < 3 || size - 3 > TEXT_BYTES_MAX)
        return;
    memcpy(text, data + 3, size - 3);
    text[size - 3] = '\0';
    if (data[0] % 8 < 4)
        try_offsets(text, data + 1);
    else if (data[0] % 8 < 7)
        try_options(text, data[1]);
    else
        try_clamp(data + 1, size - 1);
}

void mr_plugins_register(void);

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    mr_plugins_register();
    return fuzz_run(one, data, size);
}

#else

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    (void)data;
    (void)size;
    return 0;
}

#endif
