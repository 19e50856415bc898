/* The JSON decoder and encoder: what is taken, what is refused, and that prediction changes
 * neither. */
#include "base/alloc.h"

#include "support/format_harness.h"

#include <stdlib.h>

/* ---- one line each ---- */

static const char columns[] =
    "b BOOLEAN, i8 TINYINT, i INT, n BIGINT, u UBIGINT, f FLOAT, d DOUBLE, m DECIMAL(6,2), "
    "t TEXT, y BLOB, dt DATE, ts TIMESTAMP, tn TIMESTAMP_NS, l INT[], "
    "s STRUCT(x INT, t TEXT, p STRUCT(q INT[]))";

struct row {
    const char *line;
    const char *column; /* the one to look at */
    const char *want;   /* its text; with a '!' in front: part of the reason why the line is bad */
};

static const struct row rows[] = {
    /* the shape of a record */
    {"{}", "n", "null"},
    {"{ }", "n", "null"},
    {" \t{\"n\":1} \r", "n", "1"},
    {"{\"n\":1}\r", "n", "1"},
    {"{\"n\" : 1 , \"x\":2}", "n", "1"},
    {"{\"x\":{\"n\":5},\"n\":1}", "n", "1"},
    {"{\"n\":1,\"n\":2}", "n", "2"},
    {"{\"n\":1,\"n\":null}", "n", "null"},
    {"{\"n\":null,\"n\":3}", "n", "3"},
    {"{\"t\":\"a\",\"t\":\"bcd\",\"t\":\"e\"}", "t", "e"},
    {"{\"\\u006e\":7}", "n", "7"},
    {"{\"N\":7}", "n", "null"},
    {"{\"\":7,\"n\":1}", "n", "1"},
    {"{\"n\":1", "n", "!no ',' or '}'"},
    {"{\"n\":", "n", "!no value"},
    {"{\"n\"", "n", "!no ':'"},
    {"{\"n", "n", "!a string without its end"},
    {"{\"", "n", "!a string without its end"},
    {"{", "n", "!no name"},
    {"{\"n\":1}}", "n", "!something behind"},
    {"{\"n\":1}x", "n", "!something behind"},
    {"{\"n\":1}{\"n\":2}", "n", "!something behind"},
    {"{\"n\":1,}", "n", "!no name"},
    {"{,\"n\":1}", "n", "!no name"},
    {"{\"n\":1 \"x\":2}", "n", "!no ',' or '}'"},
    {"{\"n\":1;\"x\":2}", "n", "!not a BIGINT"},
    {"{\"x\":1;\"n\":2}", "n", "!no ',' or '}'"},
    {"{\"n\" 1}", "n", "!no ':'"},
    {"{\"n\"::1}", "n", "!no value"},
    {"{n:1}", "n", "!no name"},
    {"{'n':1}", "n", "!no name"},
    {"{1:1}", "n", "!no name"},
    {"[1]", "n", "!no '{'"},
    {"1", "n", "!no '{'"},
    {"\"n\"", "n", "!no '{'"},
    {"null", "n", "!no '{'"},
    {",\"n\":1}", "n", "!no '{'"},
    {"// comment", "n", "!no '{'"},
    {"{\"n\":1 /* c */}", "n", "!no ',' or '}'"},
    /* values nobody wants are checked too */
    {"{\"x\":\"\\u12g4\"}", "n", "!an escape that does not exist"},
    {"{\"x\":\"\\x\"}", "n", "!an escape that does not exist"},
    {"{\"x\":\"\\ud800\"}", "n", "!half a surrogate pair"},
    {"{\"x\":\"\\ud83d\\ude00\"}", "n", "null"},
    {"{\"x\":\"a\tb\"}", "n", "!a control character"},
    {"{\"x\":\"a\x01\"}", "n", "!a control character"},
    {"{\"x\":\"a\x7f\"}", "n", "null"},
    {"{\"x\":01}", "n", "!no ',' or '}'"},
    {"{\"x\":-}", "n", "!no value"},
    {"{\"x\":+1}", "n", "!no value"},
    {"{\"x\":1.}", "n", "!no value"},
    {"{\"x\":.5}", "n", "!no value"},
    {"{\"x\":1e}", "n", "!no value"},
    {"{\"x\":1e+}", "n", "!no value"},
    {"{\"x\":0x10}", "n", "!no ',' or '}'"},
    {"{\"x\":NaN}", "n", "!no value"},
    {"{\"x\":tru}", "n", "!no value"},
    {"{\"x\":truex}", "n", "!no ',' or '}'"},
    {"{\"x\":TRUE}", "n", "!no value"},
    {"{\"x\":nul}", "n", "!no value"},
    {"{\"x\":[1,2,[3,{\"y\":[]}]],\"n\":4}", "n", "4"},
    {"{\"x\":[1,]}", "n", "!no item"},
    {"{\"x\":[,1]}", "n", "!no value"},
    {"{\"x\":[1 2]}", "n", "!no ',' or ']'"},
    {"{\"x\":[1}", "n", "!no ',' or ']'"},
    {"{\"x\":{\"y\":1]}", "n", "!no ',' or '}'"},
    {"{\"x\":{\"y\":1,}}", "n", "!no name"},
    {"{\"x\":{\"y\"}}", "n", "!no ':'"},
    {"{\"x\":1e999,\"n\":1}", "n", "1"},
    {"{\"x\":-0.0E-10,\"n\":1}", "n", "1"},
    /* booleans */
    {"{\"b\":true}", "b", "true"},
    {"{\"b\":false}", "b", "false"},
    {"{\"b\":null}", "b", "null"},
    {"{\"b\":1}", "b", "!'1' is not a BOOLEAN"},
    {"{\"b\":\"true\"}", "b", "!'\"true\"' is not a BOOLEAN"},
    {"{\"b\":truee}", "b", "!'truee' is not a BOOLEAN"},
    /* integers: exact or bad */
    {"{\"n\":0}", "n", "0"},
    {"{\"n\":-0}", "n", "0"},
    {"{\"n\":-1}", "n", "-1"},
    {"{\"n\":123456789012345678}", "n", "123456789012345678"},
    {"{\"n\":9223372036854775807}", "n", "9223372036854775807"},
    {"{\"n\":-9223372036854775808}", "n", "-9223372036854775808"},
    {"{\"n\":9223372036854775808}", "n", "!'9223372036854775808' is not a BIGINT"},
    {"{\"n\":-9223372036854775809}", "n", "!is not a BIGINT"},
    {"{\"n\":99999999999999999999999999999999999999999999}", "n", "!is not a BIGINT"},
    {"{\"u\":18446744073709551615}", "u", "18446744073709551615"},
    {"{\"u\":18446744073709551616}", "u", "!is not a UBIGINT"},
    {"{\"u\":-1}", "u", "!'-1' is not a UBIGINT"},
    {"{\"i8\":-128}", "i8", "-128"},
    {"{\"i8\":128}", "i8", "!column 'i8': '128' is not a TINYINT"},
    {"{\"i\":2147483648}", "i", "!'2147483648' is not a INTEGER"},
    {"{\"n\":1.0}", "n", "1"},
    {"{\"n\":1e3}", "n", "1000"},
    {"{\"n\":1.5}", "n", "!'1.5' is not a BIGINT"},
    {"{\"n\":1e-1}", "n", "!is not a BIGINT"},
    {"{\"n\":01}", "n", "!'01' is not a BIGINT"},
    {"{\"n\":12x}", "n", "!column 'n': '12x' is not a BIGINT"},
    {"{\"n\":--1}", "n", "!is not a BIGINT"},
    {"{\"n\":-}", "n", "!is not a BIGINT"},
    {"{\"n\":\"5\"}", "n", "!'\"5\"' is not a BIGINT"},
    {"{\"n\":true}", "n", "!'true' is not a BIGINT"},
    {"{\"n\":[1]}", "n", "!'[1]' is not a BIGINT"},
    {"{\"n\":{}}", "n", "!'{}' is not a BIGINT"},
    /* floats and decimals */
    {"{\"d\":0.1}", "d", "0.1"},
    {"{\"d\":-1.5e300}", "d", "-1.5e+300"},
    {"{\"d\":123456789.123456789}", "d", "123456789.12345679"},
    {"{\"d\":1e309}", "d", "!'1e309' is not a DOUBLE"},
    {"{\"d\":\"NaN\"}", "d", "NaN"},
    {"{\"d\":\"-Infinity\"}", "d", "-Infinity"},
    {"{\"d\":\"nan\"}", "d", "!is not a DOUBLE"},
    {"{\"d\":\"1.5\"}", "d", "!is not a DOUBLE"},
    {"{\"f\":0.5}", "f", "0.5"},
    {"{\"f\":1e39}", "f", "!is not a FLOAT"},
    {"{\"m\":12.5}", "m", "12.50"},
    {"{\"m\":-9999.99}", "m", "-9999.99"},
    {"{\"m\":10000}", "m", "!'10000' is not a DECIMAL(6,2)"},
    {"{\"m\":0.125}", "m", "!'0.125' is not a DECIMAL(6,2)"},
    {"{\"m\":0.120}", "m", "0.12"},
    /* text */
    {"{\"t\":\"\"}", "t", ""},
    {"{\"t\":\"a b\"}", "t", "a b"},
    {"{\"t\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "t", "\"\\/\b\f\n\r\t"},
    {"{\"t\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"}", "t",
     "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
    {"{\"t\":\"x\\ud83d\\ude00y\"}", "t", "x\xf0\x9f\x98\x80y"},
    {"{\"t\":\"\xed\x95\x9c\xea\xb8\x80\"}", "t", "\xed\x95\x9c\xea\xb8\x80"},
    {"{\"t\":\"\\ud83d\"}", "t", "!half a surrogate pair"},
    {"{\"t\":\"\\ude00\\ud83d\"}", "t", "!half a surrogate pair"},
    {"{\"t\":\"\\ud83d\\u0041\"}", "t", "!half a surrogate pair"},
    {"{\"t\":\"\\ud83dx\"}", "t", "!half a surrogate pair"},
    {"{\"t\":\"\\u12\"}", "t", "!an escape that does not exist"},
    {"{\"t\":\"\\", "t", "!an escape that does not exist"},
    {"{\"t\":\"\\\"", "t", "!a string without its end"},
    {"{\"t\":\"abc", "t", "!a string without its end"},
    {"{\"t\":\"a\tb\"}", "t", "!a control character"},
    {"{\"t\":\"\xff\"}", "t", "!not valid UTF-8"},
    {"{\"t\":\"\xc0\x80\"}", "t", "!not valid UTF-8"},
    {"{\"t\":\"\xed\xa0\x80\"}", "t", "!not valid UTF-8"},
    {"{\"x\":\"\xff\"}", "t", "!not valid UTF-8"},
    {"{\"\xff\":1}", "t", "!not valid UTF-8"},
    {"{\"t\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}", "t",
     "0123456789012345678901234567890123456789012345678901234567890123456789"},
    {"{\"t\":12.50}", "t", "12.50"},
    {"{\"t\":true}", "t", "true"},
    {"{\"t\":[1, \"a\"]}", "t", "[1, \"a\"]"},
    {"{\"t\":{\"a\": {}}}", "t", "{\"a\": {}}"},
    {"{\"t\":null}", "t", "null"},
    {"{\"t\":12x}", "t", "!'12x' is not a VARCHAR"},
    {"{\"y\":\"a\\u0000b\"}", "y", "\\x610062"},
    {"{\"y\":12}", "y", "!'12' is not a BLOB"},
    /* times */
    {"{\"dt\":\"2026-11-21\"}", "dt", "2026-11-21"},
    {"{\"dt\":\"2026-02-30\"}", "dt", "!'2026-02-30' is not a DATE"},
    {"{\"dt\":20260230}", "dt", "!is not a DATE"},
    {"{\"ts\":\"2026-11-21T10:00:00Z\"}", "ts", "2026-11-21 10:00:00"},
    {"{\"ts\":\"2026-11-21T10:00:00.123+01:00\"}", "ts", "2026-11-21 09:00:00.123"},
    {"{\"ts\":\"2026-11-21 10:00:00\\u002e5\"}", "ts", "2026-11-21 10:00:00.5"},
    {"{\"tn\":\"2026-11-21T10:00:00.123456789Z\"}", "tn", "2026-11-21 10:00:00.123456789"},
    {"{\"ts\":\"2026-11-21T10:00:00\"}", "ts", "2026-11-21 10:00:00"},
    {"{\"ts\":\"1970-01-01 00:00:00.000001Z\"}", "ts", "1970-01-01 00:00:00.000001"},
    {"{\"ts\":\"2026-11-21T10:00:60Z\"}", "ts", "!is not a TIMESTAMP"},
    {"{\"ts\":\"2026-11-21T10:00\"}", "ts", "2026-11-21 10:00:00"},
    {"{\"ts\":\"2026-11-21T10:00:00", "ts", "!a string without its end"},
    {"{\"ts\":\"yesterday\"}", "ts", "!'yesterday' is not a TIMESTAMP"},
    {"{\"ts\":\"2026-13-01T00:00:00\"}", "ts", "!is not a TIMESTAMP"},
    {"{\"ts\":1500000000000}", "ts", "!'1500000000000' is not a TIMESTAMP"},
    /* lists and structs */
    {"{\"l\":[]}", "l", "[]"},
    {"{\"l\":[1, null,3]}", "l", "[1, null, 3]"},
    {"{\"l\":null}", "l", "null"},
    {"{\"l\":[1,\"2\"]}", "l", "!'\"2\"' is not a INTEGER"},
    {"{\"l\":1}", "l", "!'1' is not a INTEGER[]"},
    {"{\"l\":[1", "l", "!no ',' or ']'"},
    {"{\"l\":[1],\"l\":[2,3]}", "l", "[2, 3]"},
    {"{\"s\":{\"x\":1,\"t\":\"a\",\"z\":[{}]}}", "s", "{x: 1, t: a, p: null}"},
    {"{\"s\":{\"x\":1,\"x\":2}}", "s", "{x: 2, t: null, p: null}"},
    {"{\"s\":{}}", "s", "{x: null, t: null, p: null}"},
    {"{\"s\":{\"p\":{\"q\":[1,2]}}}", "s", "{x: null, t: null, p: {q: [1, 2]}}"},
    {"{\"s\":{\"p\":{\"q\":[1,x]}}}", "s", "!column 's'"},
    {"{\"s\":[]}", "s", "!'[]' is not a STRUCT"},
};

static int32_t column_index(const char *name)
{
    struct mr_schema *schema = NULL;

    CHECK_STATUS(mr_schema_parse(columns, strlen(columns), &schema, NULL), MR_OK);
    int32_t index = mr_schema_find(schema, name, strlen(name));
    mr_schema_unref(schema);
    return index;
}

static void check_row(const struct row *row, bool general)
{
    struct decode_setup setup = {.format = &mr__format_json,
                                 .declared = columns,
                                 .on_error = MR_ON_ERROR_SKIP,
                                 .general = general};
    char data[400];
    struct decoded d;

    /* The line thrice, so that the second and third meet learned steps; then one that must not be
     * hurt. */
    int size =
        snprintf(data, sizeof data, "%s\n%s\n%s\n{\"n\":42}\n", row->line, row->line, row->line);
    CHECK(size > 0 && (size_t)size < sizeof data);
    format_decode(&setup, data, (size_t)size, &d);
    CHECK_EQ_INT(d.status, MR_OK);
    if (row->want[0] == '!') {
        if (d.row_count != 1)
            FAIL("taken: %s", row->line);
        CHECK_CONTAINS(d.bad, row->want + 1);
        CHECK_CONTAINS(d.bad, "\n2:");
    } else {
        if (d.row_count != 4)
            FAIL("refused: %s: %s", row->line, d.bad);
        uint32_t index = (uint32_t)column_index(row->column);
        for (int64_t i = 0; i < 3; i++) {
            char text[200];
            struct mr_row cursor = {d.batch, i};
            mr_row_print(&cursor, index, text, sizeof text);
            CHECK_EQ_STR(text, row->want);
        }
    }
    decoded_release(&d);
}

TEST(every_line_of_the_table_is_taken_or_refused_as_it_says)
{
    CHECK(sizeof rows / sizeof rows[0] >= 120);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], false);
        check_row(&rows[i], true);
    }
}

/* ---- runs of lines ---- */

static void decode(const char *declared, const char *options, const char *data, struct decoded *ret)
{
    struct decode_setup setup = {.format = &mr__format_json,
                                 .declared = declared,
                                 .options = options,
                                 .on_error = MR_ON_ERROR_SKIP};

    format_decode(&setup, data, strlen(data), ret);
    CHECK_EQ_INT(ret->status, MR_OK);
}

TEST(the_last_line_needs_no_newline_and_blank_lines_are_no_records)
{
    struct decoded d;

    decode("n INT", NULL, "\n{\"n\":1}\n  \r\n{\"n\":2}", &d);
    CHECK_EQ_STR(d.rows, "1\n2\n");
    decoded_release(&d);
    decode("n INT", NULL, "", &d);
    CHECK_EQ_INT(d.row_count, 0);
    decoded_release(&d);
}

TEST(a_bad_line_is_reported_with_its_number_byte_and_size)
{
    struct decoded d;

    decode("n INT", NULL, "{\"n\":1}\n\n{\"n\":x}\r\n{\"n\":3}\n{", &d);
    CHECK_EQ_STR(d.rows, "1\n3\n");
    CHECK_CONTAINS(d.bad, "3:9:7: ");
    CHECK_CONTAINS(d.bad, "\n5:26:1: ");
    decoded_release(&d);
}

TEST(the_policy_fail_names_place_column_value_and_remedy)
{
    struct decode_setup setup = {.format = &mr__format_json, .declared = "n BIGINT, t TEXT"};
    const char *data = "{\"n\":1,\"t\":\"x\"}\n{\"t\":\"y\",\"n\":12x}\n{\"n\":3}\n";
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_INT(d.status, MR_BAD_DATA);
    CHECK_EQ_STR(
        d.err.text,
        "cannot decode 'part-1' line 2 (byte 16): column 'n': '12x' is not a BIGINT; fix the "
        "record, or set on_error = 'skip' or 'into TABLE'");
    CHECK_EQ_STR(d.rows, "1|x\n");
    decoded_release(&d);
}

TEST(keys_in_any_order_missing_and_new_keys_are_found)
{
    struct decoded d;

    decode("a INT, b INT, c INT", NULL,
           "{\"a\":1,\"b\":2,\"c\":3}\n{\"a\":4,\"c\":5}\n{\"c\":6,\"b\":7,\"a\":8}\n{\"z\":0,"
           "\"a\":1,\"b\":2,\"c\":3}\n"
           "{\"a\":1,\"z\":[1,{}],\"b\":2,\"c\":3}\n{\"b\":9}\n{}\n{\"a\":1,\"b\":2,\"c\":3}\n{"
           "\"a\": 1, \"b\": 2}\n",
           &d);
    CHECK_EQ_STR(
        d.rows,
        "1|2|3\n4|null|5\n8|7|6\n1|2|3\n1|2|3\nnull|9|null\nnull|null|null\n1|2|3\n1|2|null\n");
    CHECK_EQ_STR(d.bad, "");
    decoded_release(&d);
}

TEST(columns_that_nobody_wants_cost_no_column_and_a_query_may_want_none)
{
    struct decode_setup setup = {
        .format = &mr__format_json, .declared = "a INT, b TEXT", .wanted = "b TEXT"};
    const char *data = "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"y\",\"a\":2}\n";
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "x\ny\n");
    decoded_release(&d);
    setup.wanted = "";
    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_INT(d.row_count, 2);
    decoded_release(&d);
}

TEST(strings_become_numbers_when_asked_to)
{
    struct decoded d;

    decode("n BIGINT, d DOUBLE, b BOOLEAN, m DECIMAL(5,1)", "coerce_strings=true",
           "{\"n\":\"5\",\"d\":\"1.5\",\"b\":\"true\",\"m\":\"2.5\"}\n{\"n\":\"\\u0035\"}\n{\"n\":"
           "\"x\"}\n{\"n\":\"5\n"
           "{\"n\":\"123456789012345678901\"}\n{\"n\":\"\"}\n",
           &d);
    CHECK_EQ_STR(d.rows, "5|1.5|true|2.5\n5|null|null|null\n");
    CHECK_CONTAINS(d.bad, "column 'n': 'x' is not a BIGINT");
    decoded_release(&d);
}

TEST(nul_bytes_are_no_date)
{
    static const char data[] = "{\"ts\":\"\0\0\0\0\0\0\0\0\0\0T10:00:00\"}\n";
    struct decode_setup setup = {
        .format = &mr__format_json, .declared = "ts TIMESTAMP", .on_error = MR_ON_ERROR_SKIP};
    struct decoded d;

    format_decode(&setup, data, sizeof data - 1, &d);
    CHECK_EQ_STR(d.rows, "");
    CHECK_CONTAINS(d.bad, "a control character in a string");
    decoded_release(&d);
}

TEST(timestamps_are_numbers_of_the_unit_that_is_set)
{
    struct decoded d;

    decode("ts TIMESTAMP", "timestamp_format=epoch_ms",
           "{\"ts\":1500000000123}\n{\"ts\":-1}\n{\"ts\":1.5}\n{\"ts\":\"1500000000123\"}\n{\"ts\":"
           "1e3}\n"
           "{\"ts\":9223372036854775807}\n",
           &d);
    CHECK_EQ_STR(d.rows,
                 "2017-07-14 02:40:00.123\n1969-12-31 23:59:59.999\n1970-01-01 00:00:00.0015\n"
                 "1970-01-01 00:00:01\n");
    CHECK_CONTAINS(d.bad, "4:");
    CHECK_CONTAINS(d.bad, "6:");
    decoded_release(&d);
    decode("ts TIMESTAMP, tn TIMESTAMP_NS", "timestamp_format=epoch_s;coerce_strings=true",
           "{\"ts\":1500000000.25,\"tn\":1.000000001}\n{\"ts\":\"1500000000\"}\n", &d);
    CHECK_EQ_STR(
        d.rows, "2017-07-14 02:40:00.25|1970-01-01 00:00:01.000000001\n2017-07-14 02:40:00|null\n");
    decoded_release(&d);
    decode("ts TIMESTAMP", "timestamp_format=epoch_us", "{\"ts\":1}\n{\"ts\":1.5}\n", &d);
    CHECK_EQ_STR(d.rows, "1970-01-01 00:00:00.000001\n");
    decoded_release(&d);
}

TEST(a_line_longer_than_the_limit_is_bad_and_the_next_is_not)
{
    char data[600];
    struct decoded d;

    snprintf(data, sizeof data, "{\"t\":\"%0200d\"}\n{\"t\":\"short\"}\n{\"t\":\"%0200d\"}", 0, 0);
    decode("t TEXT", "max_line_bytes=100", data, &d);
    CHECK_EQ_STR(d.rows, "short\n");
    CHECK_CONTAINS(d.bad, "the line has 208 bytes, more than max_line_bytes = 100");
    decoded_release(&d);
}

TEST(lines_longer_than_a_piece_are_decoded)
{
    size_t size = 300000;
    char *data = malloc(3 * size);
    size_t used = 0;
    struct decode_setup setup = {
        .format = &mr__format_json, .declared = "n INT, l INT[]", .wanted = "n INT"};
    struct decoded d;

    for (int line = 0; line < 2; line++) {
        used += (size_t)sprintf(data + used, "{\"x\":\"");
        memset(data + used, 'x', size);
        used += size;
        used += (size_t)sprintf(data + used, "\",\"n\":%d}\n", line);
    }
    format_decode(&setup, data, used, &d);
    CHECK_EQ_STR(d.rows, "0\n1\n");
    decoded_release(&d);
    free(data);
}

TEST(a_byte_order_mark_is_skipped_at_the_start_of_a_file_only)
{
    struct decode_setup setup = {
        .format = &mr__format_json, .declared = "n INT", .on_error = MR_ON_ERROR_SKIP};
    const char *data = "\xef\xbb\xbf{\"n\":1}\n";
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "1\n");
    decoded_release(&d);
    setup.byte_offset = 100;
    format_decode(&setup, data, strlen(data), &d);
    CHECK_CONTAINS(d.bad, "1:100:");
    decoded_release(&d);
}

TEST(nesting_is_limited_to_64_levels)
{
    char data[400];
    struct decoded d;

    for (int levels = 63; levels <= 64; levels++) {
        char *at = data;
        at += sprintf(at, "{\"x\":");
        for (int i = 0; i < levels; i++)
            *at++ = '[';
        for (int i = 0; i < levels; i++)
            *at++ = ']';
        sprintf(at, ",\"n\":1}\n");
        decode("n INT", NULL, data, &d);
        CHECK_EQ_STR(d.rows, levels == 63 ? "1\n" : "");
        CHECK(levels == 63 || strstr(d.bad, "nested deeper than 64") != NULL);
        decoded_release(&d);
    }
}

TEST(every_cut_of_a_line_is_refused_except_the_whole)
{
    const char *line = "{\"t\":\"a\\u00e9\\n\",\"n\":12,\"d\":1.5e3,\"b\":true,\"l\":[1,{\"y\":"
                       "null}],\"s\":{\"x\":1}}";
    struct decode_setup setup = {.format = &mr__format_json,
                                 .declared = "t TEXT, n INT, d DOUBLE, s STRUCT(x INT), b BOOLEAN",
                                 .on_error = MR_ON_ERROR_SKIP};

    for (size_t cut = 1; cut <= strlen(line); cut++) {
        char data[300];
        struct decoded d;
        int size = snprintf(data, sizeof data, "%s\n%.*s", line, (int)cut, line);
        format_decode(&setup, data, (size_t)size, &d);
        CHECK_EQ_INT(d.row_count, cut == strlen(line) ? 2 : 1);
        decoded_release(&d);
    }
}

/* ---- prediction changes nothing ---- */

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* A line as producers make it, with now and then a missing key, another order, or another kind of
 * value. */
static size_t make_line(char *line, size_t size)
{
    static const char *const values[] = {"\"user\": \"9f3c1d\"",
                                         "\"n\": 1234",
                                         "\"t\": \"caf\\u00e9 \xed\x95\x9c\"",
                                         "\"d\": -1.25e2",
                                         "\"b\": true",
                                         "\"x\": [1, \"]\"]",
                                         "\"s\": {\"x\": 5, \"y\": {}}",
                                         "\"ts\": \"2026-11-21T10:00:00Z\"",
                                         "\"n\": null",
                                         "\"t\": \"\"",
                                         "\"u\": \"\\\\\\\"\"",
                                         "\"l\": [3, 4]",
                                         "\"d\": 12345.678",
                                         "\"d\": 0.1234567890123456",
                                         "\"d\": -0",
                                         "\"n\": \"-123456789012345678\"",
                                         "\"ts\": \"2024-02-29 23:59:59.999999\"",
                                         "\"ts\": \"2023-02-29T10:00:00Z\"",
                                         "\"ts\": \"2026-11-21T24:00:00\"",
                                         "\"ts\": \"2026-11-21T10:00:00.1234567\"",
                                         "\"b\": false"};
    size_t used = (size_t)snprintf(line, size, "{");
    bool odd = next_random() % 4 == 0;

    for (size_t i = 0; i < 8; i++) {
        size_t pick = odd ? next_random() % 21 : i;
        if (odd && next_random() % 5 == 0)
            continue;
        used +=
            (size_t)snprintf(line + used, size - used, "%s%s", used > 1 ? ", " : "", values[pick]);
    }
    used += (size_t)snprintf(line + used, size - used, "}\n");
    return used;
}

TEST(random_damage_gives_the_same_rows_and_reports_with_and_without_prediction)
{
    static const char pieces[] = "\"\\{}[]:,0123456789.-+eE tfn\n\r\t\x01\xff\xc3\xa9x";
    struct decode_setup setup = {
        .format = &mr__format_json,
        .declared =
            "n BIGINT, t TEXT, d DOUBLE, b BOOLEAN, s STRUCT(x INT, y TEXT), ts TIMESTAMP, l INT[]",
        .options = "coerce_strings=true",
        .on_error = MR_ON_ERROR_SKIP};
    int rounds = test_quick() ? 300 : 1500;

    random_state = test_seed(20261121);
    for (int round = 0; round < rounds; round++) {
        char data[6000];
        size_t size = 0;
        struct decoded with;
        struct decoded without;

        for (int i = 0; i < 20; i++)
            size += make_line(data + size, sizeof data - size);
        for (uint64_t i = next_random() % 12; i > 0; i--) {
            size_t at = next_random() % size;
            if (next_random() % 2 == 0)
                data[at] = (char)(data[at] ^ (1 << next_random() % 8));
            else
                data[at] = pieces[next_random() % (sizeof pieces - 1)];
        }
        setup.general = false;
        format_decode(&setup, data, size, &with);
        setup.general = true;
        format_decode(&setup, data, size, &without);
        CHECK_EQ_STR(with.rows, without.rows);
        CHECK_EQ_STR(with.bad, without.bad);
        decoded_release(&with);
        decoded_release(&without);
    }
}

TEST(rows_do_not_depend_on_where_the_data_is_cut)
{
    char data[20000];
    size_t size = 0;
    struct decode_setup setup = {.format = &mr__format_json,
                                 .declared = "n BIGINT, t TEXT, d DOUBLE",
                                 .options = "coerce_strings=true"};
    struct decoded whole;

    random_state = test_seed(77);
    while (size < 15000)
        size += make_line(data + size, sizeof data - size);
    format_decode(&setup, data, size, &whole);
    CHECK_EQ_INT(whole.status, MR_OK);
    struct mr_buf rows_of_parts = MR_BUF_INIT;
    for (size_t at = 0; at < size;) {
        size_t want = at + next_random() % 700 + 300;
        const char *newline = want >= size ? NULL : memchr(data + want, '\n', size - want);
        size_t end = newline == NULL ? size : (size_t)(newline - data) + 1;
        struct decoded part;
        format_decode(&setup, data + at, end - at, &part);
        mr_buf_add_str(&rows_of_parts, part.rows);
        decoded_release(&part);
        at = end;
    }
    CHECK_EQ_STR(rows_of_parts.data, whole.rows);
    mr_buf_release(&rows_of_parts);
    decoded_release(&whole);
}

struct bad_count {
    int count;
};

static void count_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                      const char *reason)
{
    struct bad_count *bad = arg;

    CHECK(position->record > 0 && raw.size_bytes > 0 && reason[0] != '\0');
    bad->count++;
}

TEST(decoding_survives_every_failing_allocation)
{
    const char *data = "{\"t\":\"a\\u0041\",\"l\":[1,2],\"s\":{\"x\":1},\"d\":1e3}\n{\"n\":1}\nx\n"
                       "{\"t\":\"\\u0042\",\"d\":\"1.\\u0035\"}\n{\"\\u006e\":2}\n";
    const char *declared = "n INT, t TEXT, d DOUBLE, l INT[], s STRUCT(x INT)";
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};
    int failures = 0;

    CHECK_OK(mr_schema_parse(declared, strlen(declared), &schema, &err), &err);
    size_t used = mr_budget_used(NULL);
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct mr_decoder_args args = {
            .declared = schema, .schema = schema, .on_error = MR_ON_ERROR_SKIP};
        struct mr_position position = {"part-1", 1, 0};
        struct mr_decoder *decoder = NULL;
        struct mr_batch_builder *builder = NULL;
        struct mr_batch *batch = NULL;
        struct bad_count bad = {0};

        mr_alloc_fail_at(nth, nth % 2 == 0);
        enum mr_status status = mr_batch_builder_new(schema, &builder, NULL);
        if (status == MR_OK)
            status = mr__format_json.decoder_new(&args, &decoder, NULL);
        if (status == MR_OK)
            status = mr__format_json.decode(decoder, (struct mr_slice){data, strlen(data)},
                                            &position, builder, count_bad, &bad, NULL);
        if (status == MR_OK)
            status = mr_batch_builder_finish(builder, &batch, NULL);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        CHECK(status != MR_OK || (mr_batch_row_count(batch) == 3 && bad.count == 2));
        failures += status != MR_OK;
        mr_batch_unref(batch);
        mr_batch_builder_free(builder);
        if (decoder != NULL)
            mr__format_json.decoder_free(decoder);
        CHECK_EQ_UINT(mr_budget_used(NULL), used);
    }
    CHECK(failures > 10);
    mr_schema_unref(schema);
}

/* ---- encoder ---- */

static void check_encoded(const char *declared, const char *options, const char *in,
                          const char *want)
{
    struct decoded d;
    struct mr_buf text;
    struct mr_error err = {0};
    enum mr_status status;

    decode(declared, NULL, in, &d);
    format_encode(&mr__format_json, options, d.batch, &status, &err, &text);
    CHECK_OK(status, &err);
    CHECK_EQ_STR(text.data, want);
    mr_buf_release(&text);
    decoded_release(&d);
}

TEST(rows_are_written_with_keys_in_schema_order_and_nulls_left_out)
{
    check_encoded(
        "a INT, t TEXT, d DOUBLE, m DECIMAL(6,2), b BOOLEAN", NULL,
        "{\"t\":\"q\\\"\\\\\\n\\u0001\xc3\xa9\",\"a\":1,\"d\":0.1,\"m\":1.5,\"b\":true}\n{}\n",
        "{\"a\":1,\"t\":\"q\\\"\\\\\\n\\u0001\xc3\xa9\",\"d\":0.1,\"m\":1.50,\"b\":true}\n{}\n");
    check_encoded("a INT, s STRUCT(x INT, y TEXT)", "ignore_null_fields=false",
                  "{\"s\":{\"x\":1}}\n", "{\"a\":null,\"s\":{\"x\":1,\"y\":null}}\n");
    check_encoded("d DOUBLE, l DOUBLE[]", NULL, "{\"d\":\"NaN\",\"l\":[1,null,\"-Infinity\"]}\n",
                  "{\"d\":\"NaN\",\"l\":[1.0,null,\"-Infinity\"]}\n");
    check_encoded(
        "dt DATE, ts TIMESTAMP, tn TIMESTAMP_NS", NULL,
        "{\"dt\":\"2026-11-21\",\"ts\":\"2026-01-01\",\"tn\":\"2026-01-01T00:00:00.5Z\"}\n"
        "{\"ts\":\"2026-01-01T00:00:00.1234Z\",\"tn\":\"2026-01-01T00:00:00.123456789Z\"}\n",
        "{\"dt\":\"2026-11-21\",\"ts\":\"2026-01-01T00:00:00.000Z\",\"tn\":\"2026-01-01T00:00:00."
        "500Z\"}\n"
        "{\"ts\":\"2026-01-01T00:00:00.123400Z\",\"tn\":\"2026-01-01T00:00:00.123456789Z\"}\n");
}

TEST(what_was_written_reads_back_the_same)
{
    struct decoded d;
    struct decoded again;
    struct mr_buf text;
    struct mr_error err = {0};
    enum mr_status status;
    char data[8000];
    size_t size = 0;
    const char *declared =
        "n BIGINT, t TEXT, d DOUBLE, b BOOLEAN, s STRUCT(x INT, y TEXT), ts TIMESTAMP, l INT[]";

    random_state = test_seed(5);
    for (int i = 0; i < 20; i++)
        size += make_line(data + size, sizeof data - size);
    decode(declared, NULL, data, &d);
    format_encode(&mr__format_json, NULL, d.batch, &status, &err, &text);
    CHECK_OK(status, &err);
    decode(declared, NULL, text.data, &again);
    CHECK_EQ_STR(again.rows, d.rows);
    CHECK_EQ_STR(again.bad, "");
    mr_buf_release(&text);
    decoded_release(&d);
    decoded_release(&again);
}

TEST(bytes_that_are_no_text_cannot_be_written_as_json)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_buf text;
    struct mr_error err = {0};
    enum mr_status status;

    CHECK_OK(mr_schema_parse("y BLOB", 6, &schema, &err), &err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_text(builder, 0, "\xff", 1);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    format_encode(&mr__format_json, NULL, batch, &status, &err, &text);
    CHECK_FAILS(status, &err, MR_BAD_DATA, "not UTF-8");
    mr_buf_release(&text);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}
