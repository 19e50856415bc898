/* Which topics a Kafka source reads: a list, a pattern, partitions by number. */
#include "support/test.h"

#ifdef MR_WITH_KAFKA
#include "sources/kafka/kafka_source.h"

static const struct mr_option table_options[] = {
    {"topic", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL, "A list."},
    {"topic_pattern", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL, "A pattern."},
    {"assign", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL, "Partitions."},
};

/* False: refused, with that in the text. */
static bool parse(const char *key, const char *value, const char *part)
{
    const struct mr_option_table table = {"connector 'kafka'", table_options, 3};
    const struct mr_option_table *tables[] = {&table};
    const struct mr_option_pair pair = {key, value};
    struct mr_ksrc_topics topics = {.source = "s"};
    struct mr_options *options = NULL;
    struct mr_error err = {0};
    bool good;

    CHECK_OK(mr_options_parse(tables, 1, &pair, 1, 0, &options, &err), &err);
    good = mr_ksrc_topics_parse(&topics, options, &err) == MR_OK;
    if (!good) {
        CHECK_STATUS(err.status, MR_CONFIG);
        CHECK_CONTAINS(err.text, part);
    }
    mr_ksrc_topics_release(&topics);
    mr_options_free(options);
    return good;
}

TEST(H14_a_pattern_that_takes_all_memory_is_refused)
{
    CHECK(parse("topic_pattern", "clicks-[0-9]+", ""));
    CHECK(parse("topic_pattern", "(a|b)*c{1,20}.+\\+\\+\\{", ""));
    CHECK(!parse("topic_pattern", "u+++++++++++++++++++++++++++++", "it repeats too much"));
    CHECK(
        !parse("topic_pattern", "((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+", "repeats too much"));
    CHECK(!parse("topic_pattern", "a{1000}{1000}", "repeats too much"));
    CHECK(!parse("topic_pattern", "a{1,99999999999999999999}", "repeats too much"));
    CHECK(!parse("topic_pattern", "(", "not a regular expression"));
}

TEST(topics_are_named_in_a_list_or_with_their_partitions)
{
    CHECK(parse("topic", "a, b ,c", ""));
    CHECK(!parse("topic", "a,,c", "an empty name"));
    CHECK(parse("assign", "{\"a\":[0,1]}", ""));
    CHECK(!parse("assign", "{\"a\":[-1]}", "expected JSON like"));
    CHECK(!parse("assign", "{\"a\":[]}", "expected JSON like"));
}

#else

TEST(topics_without_kafka)
{
    SKIP(t, "built without Kafka");
}

#endif
