/* The reader, the trees and the writers of small JSON documents. */
#include "support/test.h"

#include "base/check.h"
#include "base/json.h"

static struct mr_json *parse(struct mr_arena *arena, const char *text)
{
    struct mr_json *json = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_json_parse(text, strlen(text), arena, &json, &err), &err);
    return json;
}

static void check_round_trip(const char *text, const char *want)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_buf buf = MR_BUF_INIT;

    mr_json_write(&buf, parse(&arena, text));
    CHECK_EQ_STR(buf.data, want);
    mr_buf_release(&buf);
    mr_arena_release(&arena);
}

TEST(documents_are_read_and_written_compactly)
{
    check_round_trip(" { \"a\" : [ 1 , -2.50e+3 , true , false , null ] } ",
                     "{\"a\":[1,-2.50e+3,true,false,null]}");
    check_round_trip("[]", "[]");
    check_round_trip("{}", "{}");
    check_round_trip("\"\\u00e4\\ud83d\\ude00\\n\\/\\u0000\"",
                     "\"\xc3\xa4\xf0\x9f\x98\x80\\n/\\u0000\"");
    check_round_trip("0", "0");
}

TEST(the_last_of_equal_keys_stays)
{
    char text[4000];
    size_t at = 0;

    check_round_trip("{\"a\":1,\"b\":2,\"a\":3}", "{\"b\":2,\"a\":3}");
    at += (size_t)snprintf(text, sizeof(text), "{");
    for (int i = 0; i < 200; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "\"k%d\":%d,", i % 100, i);
    snprintf(text + at, sizeof(text) - at, "\"end\":1}");
    {
        struct mr_arena arena = MR_ARENA_INIT;
        struct mr_json *json = parse(&arena, text);
        int64_t value;

        CHECK_EQ_UINT(json->count, 101);
        CHECK(mr_json_int(mr_json_get(json, "k7"), &value));
        CHECK_EQ_INT(value, 107);
        CHECK_EQ_STR(json->last->key, "end");
        mr_arena_release(&arena);
    }
}

TEST(bad_documents_are_refused_with_the_place)
{
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"", "the end of the text at byte 0"},
        {"[1,]", "an unexpected character at byte 3"},
        {"[1 2]", "no ',' or ']' at byte 3"},
        {"{\"a\" 1}", "no ':' at byte 5"},
        {"{\"a\":1,}", "no member name at byte 7"},
        {"{a:1}", "no member name"},
        {"01", "a bad number"},
        {"1.", "a bad number"},
        {"-", "a bad number"},
        {"1e", "a bad number"},
        {"+1", "an unexpected character"},
        {"tru", "an unknown word"},
        {"nul", "an unknown word"},
        {"\"abc", "an open string"},
        {"\"abc\\\"", "an open string"},
        {"\"\\x\"", "an unknown escape"},
        {"\"\\u12g4\"", "a bad \\u escape"},
        {"\"\\ud800\"", "an unpaired surrogate"},
        {"\"\\ud800\\u0041\"", "an unpaired surrogate"},
        {"\"\\udc00\"", "an unpaired surrogate"},
        {"\"a\nb\"", "a control character"},
        {"\"\xff\"", "bad UTF-8 at byte 1"},
        {"{\"\\u0000\":1}", "a NUL in a member name"},
        {"1 2", "something behind the value"},
        {"[", "the end of the text"},
        {"NaN", "an unexpected character"},
    };
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    struct mr_error err;

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        err.text[0] = '\0';
        CHECK_FAILS(mr_json_parse(cases[i].text, strlen(cases[i].text), &arena, &json, &err), &err,
                    MR_BAD_DATA, cases[i].part);
    }
    CHECK_NULL(json);
    mr_arena_release(&arena);
}

TEST(two_hundred_levels_are_read_and_no_more)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    struct mr_error err;
    char text[1000];

    memset(text, '[', 200);
    memset(text + 200, ']', 200);
    CHECK_OK(mr_json_parse(text, 400, &arena, &json, &err), &err);
    memset(text, '[', 1000);
    CHECK_FAILS(mr_json_parse(text, 1000, &arena, &json, &err), &err, MR_BAD_DATA, "200 levels");
    mr_arena_release(&arena);
}

TEST(every_allocation_of_the_reader_may_fail)
{
    const char *text = "{\"a\":[1,\"x\",{\"b\":null}],\"a\":\"yyyyyyyyyyyyyyyyyyyyyyyy\"}";

    for (uint64_t nth = 1; nth < 4; nth++) {
        struct mr_arena arena = MR_ARENA_INIT;
        struct mr_json *json = NULL;
        struct mr_error err;
        enum mr_status status;

        mr_alloc_fail_at(nth, true);
        status = mr_json_parse(text, strlen(text), &arena, &json, &err);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_NOMEM || (status == MR_OK && nth > 1));
        mr_arena_release(&arena);
    }
}

TEST(members_and_items_are_found)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = parse(&arena, "{\"s\":\"x\",\"n\":1e3,\"f\":1.5,\"a\":[7,8]}");
    int64_t value = 5;

    CHECK_EQ_STR(mr_json_text(json, "s"), "x");
    CHECK_NULL(mr_json_text(json, "n"));
    CHECK_NULL(mr_json_get(json, "absent"));
    CHECK_NULL(mr_json_get(mr_json_get(json, "s"), "x"));
    CHECK(mr_json_is(mr_json_get(json, "s"), "x"));
    CHECK(!mr_json_is(NULL, "x"));
    CHECK(mr_json_int(mr_json_get(json, "n"), &value) && value == 1000);
    CHECK(!mr_json_int(mr_json_get(json, "f"), &value));
    CHECK(!mr_json_int(NULL, &value));
    CHECK(mr_json_int(mr_json_at(mr_json_get(json, "a"), 1), &value) && value == 8);
    CHECK_NULL(mr_json_at(mr_json_get(json, "a"), 2));
    CHECK_NULL(mr_json_at(json, 0));
    mr_arena_release(&arena);
}

TEST(trees_are_built_changed_and_copied)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *object = mr_json_new_object(&arena);
    struct mr_json *array = mr_json_new_array(&arena);
    struct mr_json *copy;
    struct mr_buf buf = MR_BUF_INIT;

    mr_json_put(&arena, object, "list", array);
    mr_json_push(array, mr_json_new_int(&arena, -5));
    mr_json_push(array, mr_json_new_null(&arena));
    mr_json_put(&arena, object, "s", mr_json_new_string(&arena, "old"));
    mr_json_put(&arena, object, "b", mr_json_new_bool(&arena, true));
    copy = mr_json_copy(&arena, object);
    mr_json_put(&arena, object, "s", mr_json_new_string(&arena, "new"));
    mr_json_put(&arena, object, "b", mr_json_new_bool(&arena, false)); /* the last one too */
    mr_json_put(&arena, object, "c", mr_json_new_int(&arena, 1));
    mr_json_write(&buf, object);
    CHECK_EQ_STR(buf.data, "{\"list\":[-5,null],\"s\":\"new\",\"b\":false,\"c\":1}");
    mr_buf_clear(&buf);
    mr_json_write(&buf, copy);
    CHECK_EQ_STR(buf.data, "{\"list\":[-5,null],\"s\":\"old\",\"b\":true}");
    mr_buf_release(&buf);
    mr_arena_release(&arena);
}

TEST(the_streaming_writer_places_commas)
{
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_json_out out = {.buf = &buf};

    mr_json_begin_object(&out, NULL);
    mr_json_add_string(&out, "s", "a\"b");
    mr_json_add_string(&out, "none", NULL);
    mr_json_begin_array(&out, "list");
    mr_json_add_int(&out, NULL, 1);
    mr_json_begin_object(&out, NULL);
    mr_json_end_object(&out);
    mr_json_add_double(&out, NULL, 0.1, -1);
    mr_json_add_double(&out, NULL, 0.126, 2);
    mr_json_add_double(&out, NULL, (double)__builtin_inf(), -1);
    mr_json_end_array(&out);
    mr_json_add_bool(&out, "b", true);
    mr_json_add_raw(&out, "raw", "{\"x\":1}");
    mr_json_add_string_n(&out, "bad", "a\xff\x62", 3);
    mr_json_end_object(&out);
    CHECK_EQ_STR(buf.data, "{\"s\":\"a\\\"b\",\"none\":null,\"list\":[1,{},0.1,0.13,null],"
                           "\"b\":true,\"raw\":{\"x\":1},\"bad\":\"a\xef\xbf\xbd"
                           "b\"}");
    mr_buf_release(&buf);
}
