/*
 * Lists of hosts that may be connected to.
 */
#include "base/host_list.h"

#include "support/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

static struct mr_host_list *list_of(const char *text)
{
    struct mr_host_list *list = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_host_list_parse(text, &list, &err), &err);
    return list;
}

static bool has_address(const struct mr_host_list *list, const char *text)
{
    unsigned char bytes[16];

    if (inet_pton(AF_INET, text, bytes) == 1)
        return mr_host_list_has_address(list, bytes, 4);
    CHECK_EQ_INT(inet_pton(AF_INET6, text, bytes), 1);
    return mr_host_list_has_address(list, bytes, 16);
}

TEST(names_are_compared_whole_and_without_regard_to_case)
{
    struct mr_host_list *list = list_of("kafka-1.example.com, *.Internal.example.com");

    CHECK(mr_host_list_has_name(list, "kafka-1.example.com"));
    CHECK(mr_host_list_has_name(list, "KAFKA-1.Example.Com."));
    CHECK(!mr_host_list_has_name(list, "kafka-1.example.com.evil.org"));
    CHECK(!mr_host_list_has_name(list, "xkafka-1.example.com"));
    CHECK(mr_host_list_has_name(list, "a.b.internal.example.com"));
    CHECK(!mr_host_list_has_name(list, "internal.example.com"));
    CHECK(!mr_host_list_has_name(list, "evilinternal.example.com"));
    CHECK(!mr_host_list_has_name(list, ""));
    CHECK(!has_address(list, "10.1.2.3"));
    mr_host_list_free(list);
}

TEST(networks_are_compared_bit_by_bit)
{
    struct mr_host_list *list = list_of("10.1.0.0/16,192.168.7.9,172.16.0.0/12,fd00::/8");

    CHECK(has_address(list, "10.1.255.3"));
    CHECK(!has_address(list, "10.2.0.1"));
    CHECK(has_address(list, "192.168.7.9"));
    CHECK(!has_address(list, "192.168.7.8"));
    CHECK(has_address(list, "172.31.9.9"));
    CHECK(!has_address(list, "172.32.0.1"));
    CHECK(has_address(list, "fd12::1"));
    CHECK(!has_address(list, "fe80::1"));
    CHECK(has_address(list, "::ffff:10.1.2.3"));
    CHECK(!has_address(list, "::ffff:10.2.2.3"));
    mr_host_list_free(list);
    list = list_of("0.0.0.0/0");
    CHECK(has_address(list, "8.8.8.8"));
    CHECK(!has_address(list, "::1"));
    mr_host_list_free(list);
}

TEST(what_is_no_host_is_refused)
{
    static const char *const texts[] = {"",       ",",      "a,,b",     "10.0.0.0/33", "a/8",
                                        "a b",    "*",      "*.",       ".a",          "1.2.3.4/",
                                        "::/129", "a:9092", "http://a", "10.0.0.0/-1"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct mr_host_list *list = NULL;

        CHECK_STATUS(mr_host_list_parse(texts[i], &list, NULL), MR_CONFIG);
        CHECK(list == NULL);
    }
}

TEST(only_listed_hosts_are_resolved)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_flags = AI_NUMERICHOST};
    struct mr_host_list *networks = list_of("127.0.0.0/8"), *names = list_of("127.0.0.1");
    struct addrinfo *found = NULL;
    bool refused = false;

    CHECK_EQ_INT(mr_host_list_resolve(networks, "127.0.0.1", "9092", &hints, &found, &refused), 0);
    mr_host_list_free_addresses(found);
    CHECK(!refused);
    CHECK_EQ_INT(mr_host_list_resolve(names, "127.0.0.1", "9092", &hints, &found, &refused), 0);
    mr_host_list_free_addresses(found);
    CHECK(!refused);
    errno = 0;
    CHECK_EQ_INT(mr_host_list_resolve(networks, "10.9.8.7", "9092", &hints, &found, &refused),
                 EAI_SYSTEM);
    CHECK_EQ_INT(errno, EACCES);
    CHECK(refused);
    CHECK_EQ_INT(mr_host_list_resolve(names, "10.9.8.7", "9092", &hints, &found, &refused),
                 EAI_SYSTEM);
    mr_host_list_free(networks);
    mr_host_list_free(names);
}
