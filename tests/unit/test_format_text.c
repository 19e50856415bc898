/* The formats text and raw, the registry, and the scanners under the decoders. */
#include "base/text.h"
#include "formats/scan.h"
#include "support/format_harness.h"

#include <millrace/ext/source.h>

#include <stdlib.h>

static void decode(const char *declared, const char *data, size_t size_bytes, struct decoded *ret)
{
    struct decode_setup setup = {
        .format = &mr__format_text, .declared = declared, .on_error = MR_ON_ERROR_SKIP};

    format_decode(&setup, data, size_bytes, ret);
    CHECK_EQ_INT(ret->status, MR_OK);
}

TEST(every_line_is_a_row_without_its_line_end)
{
    static const char *const table[][2] = {
        {"", ""},
        {"\n", "\n"},
        {"a", "a\n"},
        {"a\n", "a\n"},
        {"a\nb", "a\nb\n"},
        {"a\r\nb\r\n", "a\nb\n"},
        {"a\n\nb\n", "a\n\nb\n"},
        {"\r\n", "\n"},
        {"a\rb\n", "a\rb\n"},
        {"a long line, longer than sixteen bytes\nx\n",
         "a long line, longer than sixteen bytes\nx\n"},
        {"\xed\x95\x9c\n", "\xed\x95\x9c\n"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decoded d;
        decode("value TEXT", table[i][0], strlen(table[i][0]), &d);
        CHECK_EQ_STR(d.rows, table[i][1]);
        CHECK_EQ_STR(d.bad, "");
        decoded_release(&d);
    }
}

TEST(invalid_utf8_is_bad_in_text_and_fine_in_bytes)
{
    struct decoded d;

    decode("value TEXT", "a\nb\xff\nc\n\xff", 8, &d);
    CHECK_EQ_STR(d.rows, "a\nc\n");
    CHECK_CONTAINS(d.bad, "2:2:2: byte 2 of the line is not valid UTF-8\n");
    CHECK_CONTAINS(d.bad, "4:7:1: byte 1");
    decoded_release(&d);
    decode("value BLOB", "a\nb\xff\n", 5, &d);
    CHECK_EQ_STR(d.rows, "\\x61\n\\x62ff\n");
    decoded_release(&d);
}

TEST(lines_longer_than_the_limit_are_bad_wherever_they_end)
{
    struct decode_setup setup = {.format = &mr__format_text,
                                 .declared = "value TEXT",
                                 .options = "max_line_bytes=20",
                                 .on_error = MR_ON_ERROR_SKIP};
    const char *data = "012345678901234567890\nshort\n01234567890123456789\n012345678901234567890";
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "short\n01234567890123456789\n");
    CHECK_CONTAINS(d.bad, "1:0:21: the line has 21 bytes, more than max_line_bytes = 20");
    CHECK_CONTAINS(d.bad, "\n4:49:21: ");
    decoded_release(&d);
}

TEST(the_policy_fail_stops_at_the_first_bad_line)
{
    struct decode_setup setup = {.format = &mr__format_text, .declared = "value TEXT"};
    struct decoded d;

    format_decode(&setup, "a\n\xff\nb\n", 6, &d);
    CHECK_FAILS(d.status, &d.err, MR_BAD_DATA, "cannot decode 'part-1' line 2 (byte 2): byte 1");
    CHECK_EQ_STR(d.rows, "a\n");
    decoded_release(&d);
}

TEST(random_lines_come_out_as_a_plain_splitter_has_them)
{
    uint64_t random = test_seed(31);

    for (int round = 0; round < 30; round++) {
        size_t size = 1000 + (size_t)round * 3500;
        char *data = malloc(size);
        struct mr_buf want = MR_BUF_INIT;
        struct decoded d;
        size_t start = 0;

        for (size_t i = 0; i < size; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            unsigned pick = (unsigned)(random >> 20) % (round % 3 == 0 ? 20 : 200);
            data[i] = pick == 0 ? '\n' : pick == 1 ? '\r' : (char)('a' + pick % 26);
        }
        for (size_t i = 0; i <= size; i++) {
            if (i < size && data[i] != '\n')
                continue;
            size_t end = i < size && i > start && data[i - 1] == '\r' ? i - 1 : i;
            if (i < size || i > start) {
                mr_buf_add(&want, data + start, end - start);
                mr_buf_add_char(&want, '\n');
            }
            start = i + 1;
        }
        decode("value TEXT", data, size, &d);
        CHECK_EQ_STR(d.rows, want.data);
        mr_buf_release(&want);
        decoded_release(&d);
        free(data);
    }
}

TEST(a_query_that_wants_no_column_counts_lines)
{
    struct decode_setup setup = {
        .format = &mr__format_text, .declared = "value TEXT", .wanted = ""};
    struct decoded d;

    format_decode(&setup, "a\nb\nc", 5, &d);
    CHECK_OK(d.status, &d.err);
    CHECK_EQ_INT(d.row_count, 3);
    decoded_release(&d);
}

TEST(text_is_written_a_line_a_row_and_refuses_other_columns)
{
    struct decoded d;
    struct mr_buf text;
    struct mr_error err = {0};
    struct mr_schema *schema = NULL;
    enum mr_status status;

    decode("value TEXT", "a\n\nb", 4, &d);
    format_encode(&mr__format_text, NULL, d.batch, &status, &err, &text);
    CHECK_OK(status, &err);
    CHECK_EQ_STR(text.data, "a\n\nb\n");
    mr_buf_release(&text);
    decoded_release(&d);
    CHECK_OK(mr_schema_parse("a INT, b TEXT", 13, &schema, &err), &err);
    CHECK_FAILS(mr__format_text.check(schema, NULL, true, &err), &err, MR_CONFIG,
                "cannot write text with columns (a INTEGER, b VARCHAR)");
    mr_schema_unref(schema);
}

TEST(a_raw_record_is_one_row_with_all_its_bytes)
{
    struct decode_setup setup = {.format = &mr__format_raw, .declared = "value BLOB"};
    struct decoded d;

    format_decode(&setup, "a\n\0\xff", 4, &d);
    CHECK_EQ_STR(d.rows, "\\x610a00ff\n");
    decoded_release(&d);
    CHECK_EQ_UINT(mr__format_raw.cut(NULL, (struct mr_slice){"a\nb\n", 4}), 0);
}

TEST(formats_are_found_by_name_and_registered_once)
{
    mr_formats_register();
    mr_formats_register();
    CHECK(mr_format_find("json") == &mr__format_json);
    CHECK(mr_format_find("csv") == &mr__format_csv);
    CHECK_NULL(mr_format_find("xml"));
    CHECK_NOT_NULL(mr_format_at(3));
    CHECK_NULL(mr_format_at(4));
    CHECK_EQ_INT(mr_schema_field_count(mr_bad_schema()), 4);
    CHECK(mr_bad_schema() == mr_bad_schema());
    CHECK_EQ_STR(mr_schema_field(mr__format_text.fixed_schema(), 0)->name, "value");
}

TEST(utf8_is_judged_as_the_plain_validator_judges_it)
{
    /* Bytes at the edges of the rules, so that random runs of them are often nearly right. */
    static const unsigned char edges[] = {'a',  ' ',  0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                          0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
                                          0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff};
    static const char *const good[] = {"a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xed\x95\x9c"};
    uint64_t random = test_seed(4711);
    size_t valid = 0;

    for (int round = 0; round < 20000; round++) {
        char data[140];
        size_t size = 0;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t want = (size_t)(random >> 40) % 130;
        uint64_t bits = random;
        while (size < want) {
            bits = bits * 6364136223846793005u + 1442695040888963407u;
            const char *next = good[(bits >> 33) % 9];
            memcpy(data + size, next, strlen(next));
            size += strlen(next);
        }
        if (round % 3 != 0 && size > 0)
            data[(bits >> 20) % size] = (char)edges[(bits >> 40) % sizeof edges];
        if (round % 5 == 0 && size > 0)
            size--;
        char *exact = malloc(size + 1);
        memcpy(exact + 1, data, size);
        bool is_valid = mr_utf8_valid(exact + 1, size);
        CHECK_EQ_INT(mr__scan_utf8_valid(exact + 1, size), is_valid);
        valid += is_valid;
        free(exact);
    }
    CHECK(valid > 2000 && valid < 18000);
}

TEST(the_scanners_mark_the_same_bytes_as_a_plain_loop)
{
    uint64_t random = test_seed(99);

    for (size_t size = 0; size < 300; size++) {
        char data[300];
        uint64_t lines[5] = {0};
        uint64_t json[5] = {0};
        bool ascii = true;
        bool want_ascii = true;

        for (size_t i = 0; i < size; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            data[i] = (char)(random >> 30);
            want_ascii &= (unsigned char)data[i] < 0x80;
        }
        char *exact = malloc(size + 1);
        memcpy(exact + 1, data, size);
        mr__scan_newlines(exact + 1, size, lines);
        mr__scan_json(exact + 1, size, json, &ascii);
        free(exact);
        CHECK_EQ_INT(ascii, want_ascii);
        for (size_t i = 0; i < mr__scan_words(size) * 64; i++) {
            unsigned char c = i < size ? (unsigned char)data[i] : 'x';
            CHECK_EQ_INT((lines[i / 64] >> (i % 64)) & 1, c == '\n');
            CHECK_EQ_INT((json[i / 64] >> (i % 64)) & 1, c < 0x20 || c == '"' || c == '\\');
        }
    }
}
