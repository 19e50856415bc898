/* Options as data, durations and sizes. */
#include "support/test.h"

#include <millrace/ext/options.h>

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>

static const struct mr_option connector_options[] = {
    {"topic", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL, "Topic to read."},
    {"max_rows", "maxRows|max_rows_per_trigger", MR_OPTION_INT, MR_OPTION_SOURCE, "100", "1",
     "1000", "Rows of a batch."},
    {"ratio", NULL, MR_OPTION_DOUBLE, 0, NULL, "0", "1", "A share."},
    {"wait", NULL, MR_OPTION_DURATION, 0, "500 ms", "0", "1 h", "Time to wait."},
    {"buffer", NULL, MR_OPTION_SIZE, 0, "64 KiB", "1 KiB", NULL, "Bytes kept."},
    {"mode", NULL, MR_OPTION_ENUM, 0, "append", "append|update|complete", NULL, "Output mode."},
    {"fast", NULL, MR_OPTION_BOOL, MR_OPTION_SINK, "false", NULL, NULL, "Be fast."},
    {"password", NULL, MR_OPTION_SECRET, 0, NULL, NULL, NULL, "Password."},
    {"kafka.", NULL, MR_OPTION_SECRET_PREFIX, 0, NULL, NULL, NULL, "For the library."},
    {"fields.", NULL, MR_OPTION_PREFIX, 0, NULL, NULL, NULL, "Of columns."},
};
static const struct mr_option format_options[] = {
    {"delimiter", NULL, MR_OPTION_TEXT, 0, ",", NULL, NULL, "Between fields."},
};
static const struct mr_option_table connector = {"connector 'test'", connector_options,
                                                 MR_ARRAY_SIZE(connector_options)};
static const struct mr_option_table format = {"format 'csv'", format_options,
                                              MR_ARRAY_SIZE(format_options)};
static const struct mr_option_table *const tables[] = {&connector, &format};

static struct mr_options *parsed;

static enum mr_status parse(const struct mr_option_pair *pairs, size_t count, unsigned flags,
                            struct mr_error *err)
{
    parsed = NULL;
    return mr_options_parse(tables, 2, pairs, count, flags, &parsed, err);
}

TEST(given_values_and_defaults_are_typed)
{
    static const struct mr_option_pair pairs[] = {
        {"topic", "clicks"}, {"MAXROWS", "7"},   {"ratio", "0.25"}, {"mode", "Update"},
        {"fast", "on"},      {"delimiter", "|"}, {"kafka.a", "1"},  {"Kafka.b.c", "2"},
        {"wait", "2s"},      {"fields.x", "3"},
    };
    struct mr_error err = {0};
    const struct mr_secret *secret;
    const char *key;
    const char *value;

    CHECK_OK(parse(pairs, MR_ARRAY_SIZE(pairs), 0, &err), &err);
    CHECK_EQ_STR(mr_options_text(parsed, "topic"), "clicks");
    CHECK_EQ_INT(mr_options_int(parsed, "max_rows"), 7);
    CHECK_EQ_DOUBLE(mr_options_double(parsed, "ratio"), 0.25);
    CHECK_EQ_INT(mr_options_int(parsed, "wait"), 2000000);
    CHECK_EQ_INT(mr_options_int(parsed, "buffer"), 65536);
    CHECK_EQ_INT(mr_options_int(parsed, "mode"), 1); /* place of the choice */
    CHECK(mr_options_bool(parsed, "fast"));
    CHECK(mr_options_has(parsed, "wait"));
    CHECK(!mr_options_has(parsed, "buffer"));
    CHECK_NULL(mr_options_secret(parsed, "password"));
    CHECK(mr_options_has(parsed, "kafka."));
    CHECK(mr_options_secrets(parsed, "kafka.", 0, &key, &secret));
    CHECK_EQ_STR(key, "a");
    CHECK(mr_options_secrets(parsed, "kafka.", 1, &key, &secret));
    CHECK_EQ_STR(key, "b.c");
    CHECK_EQ_STR(mr_secret_reveal(secret), "2");
    CHECK(!mr_options_secrets(parsed, "kafka.", 2, &key, &secret));
    CHECK_NULL(secret);
    CHECK(mr_options_prefixed(parsed, "fields.", 0, &key, &value));
    CHECK_EQ_STR(value, "3");
    CHECK(!mr_options_prefixed(parsed, "fields.", 1, &key, &value));
    CHECK_NULL(value);
    mr_options_free(parsed);
}

TEST(wrong_options_are_refused_with_the_remedy)
{
    static const struct {
        struct mr_option_pair pair;
        unsigned flags;
        const char *part;
    } cases[] = {
        {{"tpoic", "x"}, 0, "connector 'test' has no option 'tpoic'; did you mean 'topic'?"},
        {{"zzzzzzzz", "x"}, 0, "has no option 'zzzzzzzz'; it has: topic, max_rows"},
        {{"max_rows", "x"}, 0, "option 'max_rows' is 'x'; it must be a whole number"},
        {{"max_rows", "0"}, 0, "it must be from 1 to 1000"},
        {{"max_rows", "1001"}, 0, "it must be from 1 to 1000"},
        {{"max_rows", "5"}, MR_OPTION_SINK, "option 'max_rows' is only for a source; remove it"},
        {{"fast", "1"}, MR_OPTION_SOURCE, "option 'fast' is only for a sink; remove it"},
        {{"fast", "maybe"}, 0, "it must be true or false"},
        {{"ratio", "1.5"}, 0, "it must be from 0 to 1"},
        {{"ratio", "NaN"}, 0, "it must be a number"},
        {{"wait", "5"}, 0, "it must be a duration"},
        {{"wait", "61 min"}, 0, "it must be from 0 to 1 h"},
        {{"buffer", "10"}, 0, "it must be at least 1 KiB"},
        {{"buffer", "many"}, 0, "it must be a size"},
        {{"mode", "upsert"},
         0,
         "option 'mode' is 'upsert'; it must be one of append, update, complete"},
        {{"topic", "again"}, 0, "option 'topic' is given twice"},
        {{"kafka.", "x"}, 0, "has no option 'kafka.'"},
        {{"password", "file:/nonexistent/secret"},
         0,
         "option 'password': cannot read the secret from file '/nonexistent/secret'"},
    };
    struct mr_error err;

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        struct mr_option_pair pairs[] = {{"topic", "clicks"}, cases[i].pair};

        CHECK_FAILS(parse(pairs, 2, cases[i].flags, &err), &err, MR_CONFIG, cases[i].part);
        CHECK_NULL(parsed);
    }
    CHECK_FAILS(parse(NULL, 0, 0, &err), &err, MR_CONFIG,
                "connector 'test' needs the option 'topic': Topic to read.");
}

TEST(the_same_prefixed_key_twice_is_refused)
{
    static const struct mr_option_pair pairs[] = {
        {"topic", "clicks"}, {"kafka.a", "1"}, {"kafka.a", "2"}};
    struct mr_error err;

    CHECK_FAILS(parse(pairs, 3, 0, &err), &err, MR_CONFIG, "'kafka.a' is given twice");
}

TEST(a_secret_is_read_from_its_file_without_the_last_newline)
{
    const char *path = test_path(t, "secret");
    char value[600];
    struct mr_option_pair pairs[] = {{"topic", "clicks"}, {"password", value}};
    struct mr_error err = {0};
    FILE *file = fopen(path, "w");

    CHECK_NOT_NULL(file);
    fputs("open sesame\n\n", file);
    fclose(file);
    snprintf(value, sizeof(value), "file:%s", path);
    CHECK_OK(parse(pairs, 2, 0, &err), &err);
    CHECK_EQ_STR(mr_secret_reveal(mr_options_secret(parsed, "password")), "open sesame\n");
    mr_options_free(parsed);
    file = fopen(path, "w");
    CHECK_NOT_NULL(file);
    for (int i = 0; i < 70000; i++)
        fputc('x', file);
    fclose(file);
    CHECK_FAILS(parse(pairs, 2, 0, &err), &err, MR_CONFIG, "is over 65536 bytes");
    file = fopen(path, "w");
    CHECK_NOT_NULL(file);
    fwrite("a\0b", 1, 3, file);
    fclose(file);
    CHECK_FAILS(parse(pairs, 2, 0, &err), &err, MR_CONFIG, "has a NUL byte");
    snprintf(value, sizeof(value), "file:%s", t->dir);
    CHECK_FAILS(parse(pairs, 2, 0, &err), &err, MR_CONFIG, "cannot read the secret");
}

TEST(a_secret_is_never_in_an_error_text)
{
    static const struct mr_option_pair pairs[] = {
        {"topic", "x"}, {"password", "hunter2"}, {"password", "hunter2"}};
    struct mr_error err;

    CHECK_FAILS(parse(pairs, 3, 0, &err), &err, MR_CONFIG, "'password' is given twice");
    CHECK_NULL(strstr(err.text, "hunter2"));
}

TEST(every_allocation_of_a_set_may_fail)
{
    static const struct mr_option_pair pairs[] = {
        {"topic", "clicks"}, {"kafka.a", "1"}, {"password", "hunter2"}, {"fields.b", "2"}};
    struct mr_error err;
    enum mr_status status = MR_NOMEM;

    for (uint64_t nth = 1; status == MR_NOMEM; nth++) {
        CHECK(nth < 1000);
        mr_alloc_fail_at(nth, true);
        status = parse(pairs, MR_ARRAY_SIZE(pairs), 0, &err);
        mr_alloc_fail_at(0, false);
    }
    CHECK_STATUS(status, MR_OK);
    mr_options_free(parsed);
}

TEST(asking_for_an_unknown_name_is_our_mistake)
{
    static const struct mr_option_pair pairs[] = {{"topic", "clicks"}};
    struct mr_error err;

    CHECK_OK(parse(pairs, 1, 0, &err), &err);
    CHECK_ABORTS((void)mr_options_int(parsed, "no_such_option"));
    CHECK_ABORTS((void)mr_options_double(parsed, "ratio"));
    mr_options_free(parsed);
}

TEST(durations_are_exact_or_refused)
{
    static const struct {
        const char *text;
        int64_t us; /* -1 = refused */
    } cases[] = {
        {"500 ms", 500000},
        {"500ms", 500000},
        {"1s", 1000000},
        {"5 minutes", 300000000},
        {"1.5 s", 1500000},
        {"0.000001 s", 1},
        {"0.0000001 s", -1},
        {"0.5 us", -1},
        {"INTERVAL '1' SECOND", 1000000},
        {"interval '10 seconds'", 10000000},
        {"INTERVAL 2 HOURS", INT64_C(7200000000)},
        {"1 hour 30 minutes", INT64_C(5400000000)},
        {"1 day", INT64_C(86400000000)},
        {"2 weeks", INT64_C(1209600000000)},
        {"7 us", 7},
        {"0", 0},
        {" 3 sec ", 3000000},
        {"", -1},
        {"s", -1},
        {"5", -1},
        {"-1 s", -1},
        {"1 month", -1},
        {"1 s x", -1},
        {"INTERVAL '1 SECOND", -1},
        {"1. s", -1},
        {". s", -1},
        {"300000 years", -1},
        {"99999999999 days", -1},
        {"9223372036854775808 us", -1},
        {"9223372036854775807 us", INT64_MAX},
        {"INTERVAL", -1},
        {"1e3 s", -1},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        int64_t us = -1;

        if (mr_parse_duration_us(cases[i].text, &us) != (cases[i].us >= 0) || us != cases[i].us)
            FAIL("'%s' gives %" PRId64, cases[i].text, us);
    }
}

TEST(sizes_are_exact_or_refused)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"64 MB", 64000000},
        {"1KiB", 1024},
        {"1k", 1024},
        {"3 g", INT64_C(3) << 30},
        {"1.5 GB", 1500000000},
        {"0.5 KiB", 512},
        {"100", 100},
        {"7 bytes", 7},
        {"0", 0},
        {"0.5", -1},
        {"1.0001 KB", -1},
        {"-1", -1},
        {"MB", -1},
        {"1 XB", -1},
        {"1 MB x", -1},
        {"", -1},
        {"9000000 TB", INT64_C(9000000) * INT64_C(1000000000000)},
        {"10000000 TB", -1},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        int64_t bytes = -1;

        if (mr_parse_size(cases[i].text, &bytes) != (cases[i].bytes >= 0) ||
            bytes != cases[i].bytes)
            FAIL("'%s' gives %" PRId64, cases[i].text, bytes);
    }
}
