/*
 * The list of plug-ins: everything that was built is registered, found by its name, and described.
 */
#include "support/test.h"

#include "plugins/plugins.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#ifdef MR_WITH_KAFKA
#include "sources/kafka/kafka_source.h"
#endif

static void check_options(const char *owner, const struct mr_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct mr_option *option = &options[i];

        if (option->help == NULL || option->help[0] == '\0' ||
            option->help[strlen(option->help) - 1] != '.')
            FAIL("'%s' of %s has no sentence for help", option->name, owner);
        for (size_t k = 0; k < i; k++)
            if (strcmp(options[k].name, option->name) == 0)
                FAIL("'%s' of %s is there twice", option->name, owner);
    }
}

/* Defaults must parse: an option without a value of its own must not make the table unusable. */
static void check_defaults(const char *owner, const struct mr_option *options, size_t count)
{
    struct mr_option_table table = {owner, options, count};
    const struct mr_option_table *tables[] = {&table};
    struct mr_option_pair pairs[32];
    char values[32][40]; /* the first choice of an ENUM */
    struct mr_options *parsed = NULL;
    struct mr_error err = {0};
    size_t pair_count = 0;

    for (size_t i = 0; i < count; i++) {
        const char *value = options[i].minimum != NULL ? options[i].minimum : "x";

        if ((options[i].flags & MR_OPTION_REQUIRED) == 0)
            continue;
        snprintf(values[pair_count], sizeof(values[0]), "%.*s", (int)strcspn(value, "|"), value);
        pairs[pair_count] = (struct mr_option_pair){options[i].name, values[pair_count]};
        pair_count++;
    }
    CHECK_OK(mr_options_parse(tables, 1, pairs, pair_count, 0, &parsed, &err), &err);
    mr_options_free(parsed);
}

TEST(every_source_is_found_and_described)
{
    const struct mr_source_connector *one;
    size_t count = 0;

    mr_plugins_register();
    mr_plugins_register();
    for (; (one = mr_source_at(count)) != NULL; count++) {
        CHECK(mr_source_find(one->name) == one);
        CHECK(one->summary != NULL && one->guarantee != NULL);
        CHECK((one->open != NULL && one->ops != NULL) !=
              (one->receiver_open != NULL && one->receiver_ops != NULL));
        check_options(one->name, one->options, one->option_count);
        check_defaults(one->name, one->options, one->option_count);
        if (one->default_format != NULL)
            CHECK_NOT_NULL(mr_format_find(one->default_format));
    }
    for (const char *const *name = (const char *const[]){"file", "socket", "stdin", "rate",
                                                         "datagen", "memory", "template", NULL};
         *name != NULL; name++)
        CHECK_NOT_NULL(mr_source_find(*name));
    CHECK_NOT_NULL(mr_source_find("FILE"));
    CHECK_NULL(mr_source_find("fil"));
}

TEST(every_sink_is_found_and_described)
{
    const struct mr_sink_connector *one;
    size_t count = 0;

    mr_plugins_register();
    for (; (one = mr_sink_at(count)) != NULL; count++) {
        CHECK(mr_sink_find(one->name) == one);
        CHECK(one->summary != NULL && one->open != NULL && one->ops != NULL && one->modes != 0);
        check_options(one->name, one->options, one->option_count);
        check_defaults(one->name, one->options, one->option_count);
        if (one->default_format != NULL)
            CHECK_NOT_NULL(mr_format_find(one->default_format));
    }
    for (const char *const *name =
             (const char *const[]){"console", "file", "memory", "null", "template", NULL};
         *name != NULL; name++)
        CHECK_NOT_NULL(mr_sink_find(*name));
}

TEST(every_format_is_registered)
{
    mr_plugins_register();
    for (const char *const *name =
             (const char *const[]){"json", "csv", "text", "raw", "parquet", NULL};
         *name != NULL; name++)
        if (mr_format_find(*name) == NULL)
            FAIL("no format '%s'", *name);
}

#ifdef MR_WITH_KAFKA
static void check_offsets(const char *text, const char *wanted)
{
    struct mr_ksrc_offsets offsets = {0};
    struct mr_error err = {0};
    char *printed;

    CHECK_OK(mr_ksrc_offsets_parse(text, &offsets, &err), &err);
    printed = mr_ksrc_offsets_print(&offsets);
    CHECK_EQ_STR(printed, wanted);
    mr_text_free(printed);
    mr_ksrc_offsets_release(&offsets);
}

TEST(kafka_offsets_are_sorted_by_topic_and_partition_number)
{
    check_offsets("{\"b\":{\"10\":5,\"9\":4},\"a\":{\"0\":1}}",
                  "{\"a\":{\"0\":1},\"b\":{\"9\":4,\"10\":5}}");
    check_offsets("{\"t\":{\"0\":7,\"1\":3},\"@from\":{\"t\":{\"1\":2}}}",
                  "{\"@from\":{\"t\":{\"1\":2}},\"t\":{\"0\":7,\"1\":3}}");
    check_offsets("{}", "{}");
}

TEST(damaged_kafka_offsets_are_refused)
{
    static const char *const texts[] = {"",
                                        "3",
                                        "{\"t\":3}",
                                        "{\"t\":{\"x\":1}}",
                                        "{\"t\":{\"-1\":1}}",
                                        "{\"t\":{\"0\":\"1\"}}",
                                        "{\"t\":{\"0\":1.5}}",
                                        "{\"@from\":{\"t\":{\"0\":1}}}",
                                        "{\"t\":{\"0\":1}"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct mr_ksrc_offsets offsets = {0};

        CHECK_STATUS(mr_ksrc_offsets_parse(texts[i], &offsets, NULL), MR_CORRUPT);
    }
}

TEST(kafka_ranges_begin_where_the_start_says_or_where_the_plan_saw_the_beginning)
{
    struct mr_ksrc_offsets start = {0};
    struct mr_ksrc_offsets end = {0};
    struct mr_ksrc_range range;

    CHECK_STATUS(mr_ksrc_offsets_parse("{\"t\":{\"0\":5,\"1\":9}}", &start, NULL), MR_OK);
    CHECK_STATUS(mr_ksrc_offsets_parse(
                     "{\"t\":{\"0\":8,\"1\":9,\"2\":6},\"@from\":{\"t\":{\"2\":4}}}", &end, NULL),
                 MR_OK);
    CHECK(mr_ksrc_range_at(&start, &end, false, 0, &range));
    CHECK_EQ_INT(range.from, 5);
    CHECK_EQ_INT(range.until, 8);
    CHECK(mr_ksrc_range_at(&start, &end, false, 1, &range));
    CHECK_EQ_INT(range.partition, 2);
    CHECK_EQ_INT(range.from, 4);
    CHECK(!mr_ksrc_range_at(&start, &end, false, 2, &range));
    mr_ksrc_offsets_release(&start);
    mr_ksrc_offsets_release(&end);
}
#endif
