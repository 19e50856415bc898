/*
 * Any bytes as pairs of options: lines "key=value" against a table with one option of each type. A
 * set that is accepted answers every question; its values are within their limits, and the same
 * pairs in upper case keys give the same. What is refused names the key. The file a secret may come
 * from is not read: such values are left out.
 */
#include "fuzz/fuzz.h"

#include <millrace/ext/options.h>

#include <stdlib.h>
#include <string.h>

enum { PAIRS_MAX = 12, TEXT_BYTES_MAX = 2000 };

static const struct mr_option table_options[] = {
    {"topic", "subscribe|topics", MR_OPTION_TEXT, 0, NULL, NULL, NULL, "A text."},
    {"verbose", NULL, MR_OPTION_BOOL, 0, "false", NULL, NULL, "A word."},
    {"count", "maxCount", MR_OPTION_INT, 0, "10", "-5", "1000", "A number."},
    {"ratio", NULL, MR_OPTION_DOUBLE, 0, "0.5", "0", "1", "A fraction."},
    {"delay", NULL, MR_OPTION_DURATION, 0, "1s", "0s", "1 day", "A time."},
    {"memory", NULL, MR_OPTION_SIZE, 0, "1 MiB", "1 KiB", "1 GiB", "A size."},
    {"mode", NULL, MR_OPTION_ENUM, 0, "append", "append|update|complete", NULL, "A choice."},
    {"password", NULL, MR_OPTION_SECRET, 0, NULL, NULL, NULL, "A secret."},
    {"kafka.", NULL, MR_OPTION_PREFIX, 0, NULL, NULL, NULL, "What is handed on."},
    {"only_source", NULL, MR_OPTION_INT, MR_OPTION_SOURCE, "1", NULL, NULL, "For sources."},
    {"only_sink", NULL, MR_OPTION_INT, MR_OPTION_SINK, "2", NULL, NULL, "For sinks."},
};
static const struct mr_option needed[] = {
    {"path", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL, "Where."},
};

static void check_set(const struct mr_options *options)
{
    const char *key, *value;
    int64_t number = mr_options_int(options, "count");

    FUZZ_CHECK(number >= -5 && number <= 1000);
    FUZZ_CHECK(mr_options_double(options, "ratio") >= 0 &&
               mr_options_double(options, "ratio") <= 1);
    number = mr_options_int(options, "delay");
    FUZZ_CHECK(number >= 0 && number <= INT64_C(86400000000));
    number = mr_options_int(options, "memory");
    FUZZ_CHECK(number >= 1024 && number <= 1 << 30);
    number = mr_options_int(options, "mode");
    FUZZ_CHECK(number >= 0 && number <= 2);
    number = mr_options_bool(options, "verbose");
    FUZZ_CHECK(number == 0 || number == 1);
    FUZZ_CHECK(mr_options_has(options, "topic") == (mr_options_text(options, "topic") != NULL));
    for (size_t i = 0; mr_options_prefixed(options, "kafka.", i, &key, &value); i++)
        FUZZ_CHECK(key != NULL && value != NULL && i < PAIRS_MAX);
}

static size_t cut_pairs(char *text, struct mr_option_pair *pairs)
{
    size_t count = 0;

    for (char *line = text; line != NULL && count < PAIRS_MAX;) {
        char *end = strchr(line, '\n');
        char *equals;

        if (end != NULL)
            *end = '\0';
        equals = strchr(line, '=');
        if (equals != NULL) {
            *equals = '\0';
            if (strncmp(equals + 1, "file:", 5) != 0)
                pairs[count++] = (struct mr_option_pair){line, equals + 1};
        }
        line = end == NULL ? NULL : end + 1;
    }
    return count;
}

static void one(const uint8_t *data, size_t size)
{
    static const struct mr_option_table tables[] = {
        {"connector 'fuzz'", table_options, MR_ARRAY_SIZE(table_options)},
        {"format 'fuzz'", needed, MR_ARRAY_SIZE(needed)}};
    const struct mr_option_table *wanted[] = {&tables[0], &tables[1]};
    struct mr_option_pair pairs[PAIRS_MAX];
    struct mr_options *options = NULL;
    struct mr_error err = {0};
    char text[TEXT_BYTES_MAX + 1];
    size_t count, flags;
    int64_t value = -1;

    if (size == 0 || size > TEXT_BYTES_MAX)
        return;
    flags = data[0] % 3 == 1 ? MR_OPTION_SOURCE : data[0] % 3 == 2 ? MR_OPTION_SINK : 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    FUZZ_CHECK(!mr_parse_duration_us(text, &value) || value >= 0);
    FUZZ_CHECK(!mr_parse_size(text, &value) || value >= 0);
    count = cut_pairs(text, pairs);
    if (mr_options_parse(wanted, data[0] < 128 ? 1 : 2, pairs, count, (unsigned)flags, &options,
                         &err) == MR_OK)
        check_set(options);
    else
        FUZZ_REFUSED(&err, MR_CONFIG);
    mr_options_free(options);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
