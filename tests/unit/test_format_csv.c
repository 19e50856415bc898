/* The CSV decoder and encoder, and where CSV may be cut. */
#include "support/format_harness.h"

#include <stdlib.h>

struct row {
    const char *data;
    const char *rows;
    const char *bad; /* part of it, or NULL: none */
};

static void check_table(const char *declared, const char *options, const struct row *table,
                        size_t count)
{
    struct decode_setup setup = {.format = &mr__format_csv,
                                 .declared = declared,
                                 .options = options,
                                 .on_error = MR_ON_ERROR_SKIP};

    for (size_t i = 0; i < count; i++) {
        struct decoded d;
        format_decode(&setup, table[i].data, strlen(table[i].data), &d);
        CHECK_EQ_INT(d.status, MR_OK);
        CHECK_EQ_STR(d.rows, table[i].rows);
        if (table[i].bad == NULL)
            CHECK_EQ_STR(d.bad, "");
        else
            CHECK_CONTAINS(d.bad, table[i].bad);
        decoded_release(&d);
    }
}
#define CHECK_TABLE(declared, options, table)                                                      \
    check_table(declared, options, table, sizeof(table) / sizeof((table)[0]))

TEST(records_quotes_nulls_and_damage_are_read_as_the_table_says)
{
    static const struct row table[] = {
        {"", "", NULL},
        {"1,a\n", "1|a\n", NULL},
        {"1,a", "1|a\n", NULL},
        {"1,a\r\n2,b\r\n", "1|a\n2|b\n", NULL},
        {"1,a\n\n\r\n2,b\n", "1|a\n2|b\n", NULL},
        {"1,\"a\"\n", "1|a\n", NULL},
        {"1,\"a,b\"\n", "1|a,b\n", NULL},
        {"1,\"a\"\"b\"\n", "1|a\"b\n", NULL},
        {"1,\"\"\"\"\n", "1|\"\n", NULL},
        {"1,\"\"\n", "1|\n", NULL},
        {"1,\n", "1|null\n", NULL},
        {",\n", "null|null\n", NULL},
        {"1,\"a\nb\"\n2,c\n", "1|a\nb\n2|c\n", NULL},
        {"1,\"a\r\nb\"\r\n", "1|a\r\nb\n", NULL},
        {"1,\"a\"", "1|a\n", NULL},
        {" 1 , a \n", "1| a \n", NULL},
        {"\"1\",a\n", "1|a\n", NULL},
        {"1,a\rb\n", "1|a\rb\n", NULL},
        {"1,\xed\x95\x9c\n", "1|\xed\x95\x9c\n", NULL},
        {"\"\",a\n", "", "'' is not a BIGINT"},
        {"1,a,b\n2,c\n", "2|c\n", "1:0:5: 3 columns where there must be 2"},
        {"1\n2,c\n", "2|c\n", "1:0:1: 1 columns where there must be 2"},
        {"x,a\n2,c\n", "2|c\n", "1:0:3: column 'n': 'x' is not a BIGINT"},
        {"1,a\n99999999999999999999,b\n", "1|a\n",
         "2:4:22: column 'n': '99999999999999999999' is not a BIGINT"},
        {"1,a\"b\n2,c\n", "2|c\n", "a quote inside a field"},
        {"1,\"a\"b\n2,c\n", "2|c\n", "bytes behind a closing quote"},
        {"1,\"a\n2,c\n3,d\n", "2|c\n3|d\n", "1:0:4: a quoted field without its end"},
        {"1,\"a\nb\",c\n2,d\n", "2|d\n", "3 columns"},
        {"1,\xff\n2,c\n", "2|c\n", "byte 3 of the record is not valid UTF-8"},
        {"1,\"a\nb\"\nx,c\n3,d\n", "1|a\nb\n3|d\n", "3:8:3: column 'n'"},
    };

    CHECK_TABLE("n BIGINT, t TEXT", NULL, table);
}

TEST(values_of_every_type_are_read_as_sql_text)
{
    static const struct row table[] = {
        {"true,1.5,2.50,2026-11-21,2026-11-21 10:00:00.5,ab\n",
         "true|1.5|2.50|2026-11-21|2026-11-21 10:00:00.5|\\x6162\n", NULL},
        {"F,NaN,-0.01,,2026-11-21T10:00:00+02:00,\n",
         "false|NaN|-0.01|null|2026-11-21 08:00:00|null\n", NULL},
        {"maybe,,,,,\n", "", "'maybe' is not a BOOLEAN"},
        {",1.5.5,,,,\n", "", "'1.5.5' is not a DOUBLE"},
        {",,1.005,,,\n", "", "'1.005' is not a DECIMAL(5,2)"},
        {",,,2026-02-30,,\n", "", "'2026-02-30' is not a DATE"},
        {",,,,noon,\n", "", "'noon' is not a TIMESTAMP"},
    };

    CHECK_TABLE("b BOOLEAN, d DOUBLE, m DECIMAL(5,2), dt DATE, ts TIMESTAMP, y BLOB", NULL, table);
}

TEST(options_change_delimiter_null_quote_and_escape)
{
    static const struct row tabs[] = {
        {"1\ta,b\n2\t\\N\n3\t\"\\N\"\n", "1|a,b\n2|null\n3|\\N\n", NULL}};
    static const struct row quotes[] = {
        {"1,'a,b'\n2,\"x\n3,'it''s'\n", "1|a,b\n2|\"x\n3|it's\n", NULL},
    };
    static const struct row escapes[] = {
        {"1,\"a\\\"b\"\n2,\"c\\\\\"\n3,\"d\\n\"\n", "1|a\"b\n2|c\\\n3|d\\n\n", NULL},
    };
    static const struct row none[] = {{"1,\"a\n2,'b'\n", "1|\"a\n2|'b'\n", NULL}};

    CHECK_TABLE("n BIGINT, t TEXT", "delimiter=\\t;null_value=\\N", tabs);
    CHECK_TABLE("n BIGINT, t TEXT", "quote='", quotes);
    CHECK_TABLE("n BIGINT, t TEXT", "escape=\\", escapes);
    CHECK_TABLE("n BIGINT, t TEXT", "quote=", none);
}

TEST(a_header_gives_the_order_of_the_columns)
{
    struct decode_setup setup = {
        .format = &mr__format_csv, .declared = "n BIGINT, t TEXT", .options = "header=true"};
    struct decoded d;
    const char *data = "x,T,n\n9,a,1\n8,b,2\n";

    format_decode(&setup, data, strlen(data), &d);
    CHECK_OK(d.status, &d.err);
    CHECK_EQ_STR(d.rows, "1|a\n2|b\n");
    decoded_release(&d);
    data = "\xef\xbb\xbf\"n\",t\n1,a\nx,b\n";
    format_decode(&setup, data, strlen(data), &d);
    CHECK_FAILS(d.status, &d.err, MR_BAD_DATA, "line 3 (byte 13): column 'n': 'x' is not a BIGINT");
    CHECK_EQ_STR(d.rows, "1|a\n");
    decoded_release(&d);
    data = "n,x\n1,a\n";
    format_decode(&setup, data, strlen(data), &d);
    CHECK_FAILS(d.status, &d.err, MR_BAD_DATA, "header has no column 't'");
    decoded_release(&d);
}

TEST(a_part_of_the_columns_keeps_the_positions_of_the_declaration)
{
    struct decode_setup setup = {.format = &mr__format_csv,
                                 .declared = "a INT, b INT, c TEXT",
                                 .wanted = "b INT",
                                 .on_error = MR_ON_ERROR_SKIP};
    const char *data = "1,2,x\n4,5\nq,8,y\n";
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "2\n8\n");
    CHECK_CONTAINS(d.bad, "2:6:3: 2 columns");
    decoded_release(&d);
}

TEST(one_column_tables_have_empty_lines_as_nulls)
{
    static const struct row table[] = {{"a\n\nb\n", "a\nnull\nb\n", NULL}};

    CHECK_TABLE("t TEXT", NULL, table);
}

TEST(a_record_longer_than_the_limit_is_bad_and_reading_goes_on)
{
    char data[300];
    struct decode_setup setup = {.format = &mr__format_csv,
                                 .declared = "n BIGINT, t TEXT",
                                 .options = "max_line_bytes=50",
                                 .on_error = MR_ON_ERROR_SKIP};
    struct decoded d;

    snprintf(data, sizeof data, "1,%060d\n2,b\n3,\"%080d\n4,c\n", 0, 0);
    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "2|b\n4|c\n");
    CHECK_CONTAINS(d.bad, "more than max_line_bytes = 50");
    CHECK_CONTAINS(d.bad, "3:67:83: a quoted field without its end");
    decoded_release(&d);
}

TEST(a_cut_is_never_inside_quotes)
{
    static const struct {
        const char *data;
        const char *options;
        size_t want;
    } table[] = {
        {"", NULL, 0},
        {"a", NULL, 0},
        {"a\n", NULL, 2},
        {"a\nb", NULL, 2},
        {"a,\"x\ny\"\nb", NULL, 8},
        {"a\nb,\"x\ny", NULL, 2},
        {"a,\"x\"\"\ny\"\nb", NULL, 10},
        {"a,\"x\\\"\ny\"\nb", "escape=\\", 10},
        {"a,\"x\nb\n", "quote='", 7},
        {"a,\"x\nb\n", "quote=", 7},
        {"5\" disk\nb\n", NULL, 10},          /* a stray quote spoils its line, not what follows */
        {"\"a\"b\"\nc,\"d\ne", NULL, 6},      /* so do bytes behind a closing one */
        {"\xef\xbb\xbf\"a\nb\"\nc", NULL, 9}, /* a byte order mark is no field */
        {"\"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "max_line_bytes=16", 21},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct mr_options *options =
            format_options(&mr__format_csv, table[i].options, MR_OPTION_SOURCE);
        CHECK_EQ_UINT(
            mr__format_csv.cut(options, (struct mr_slice){table[i].data, strlen(table[i].data)}),
            table[i].want);
        mr_options_free(options);
    }
}

TEST(bytes_give_the_same_records_however_they_come)
{
    static const char data[] = "1,5\" disk\n2,b\nx,\"a\nb\"\n3,\"c\nd\"\n\"4\" ,e\n5,f\n";
    struct decode_setup setup = {
        .format = &mr__format_csv, .declared = "n BIGINT, t TEXT", .on_error = MR_ON_ERROR_SKIP};
    struct decoded d;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_EQ_STR(d.rows, "2|b\n3|c\nd\n5|f\n");
    decoded_release(&d);
    for (size_t end = 0; end <= strlen(data); end++) {
        struct mr_options *options = format_options(&mr__format_csv, NULL, MR_OPTION_SOURCE);
        size_t cut = mr__format_csv.cut(options, (struct mr_slice){data, end});
        struct mr_buf rows = MR_BUF_INIT;

        CHECK(cut <= end);
        format_decode(&setup, data, cut, &d);
        mr_buf_add_str(&rows, d.rows);
        decoded_release(&d);
        format_decode(&setup, data + cut, strlen(data) - cut, &d);
        mr_buf_add_str(&rows, d.rows);
        CHECK_EQ_STR(rows.data, "2|b\n3|c\nd\n5|f\n");
        decoded_release(&d);
        mr_buf_release(&rows);
        mr_options_free(options);
    }
}

TEST(nested_columns_and_contradicting_options_are_refused)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse("l INT[]", 7, &schema, &err), &err);
    CHECK_FAILS(mr__format_csv.check(schema, NULL, false, &err), &err, MR_CONFIG,
                "cannot read column 'l' as csv");
    mr_schema_unref(schema);
    CHECK_OK(mr_schema_parse("a INT", 5, &schema, &err), &err);
    static const char *const wrong[] = {"delimiter=ab", "delimiter=\"", "quote=xy",
                                        "delimiter=;quote=;"};
    for (size_t i = 0; i < 3; i++) {
        struct mr_options *options = format_options(&mr__format_csv, wrong[i], MR_OPTION_SOURCE);
        CHECK_STATUS(mr__format_csv.check(schema, options, false, NULL), MR_CONFIG);
        mr_options_free(options);
    }
    mr_schema_unref(schema);
}

TEST(what_is_written_quotes_what_it_must_and_reads_back_the_same)
{
    struct decode_setup setup = {.format = &mr__format_csv,
                                 .declared = "n BIGINT, t TEXT, d DOUBLE, ts TIMESTAMP",
                                 .options = "header=true"};
    const char *data = "n,t,d,ts\n1,\"a,\"\"b\n\",0.1,2026-11-21 "
                       "10:00:00\n,,,\n2,\"\",-1.5,2026-11-21 10:00:00.25\n";
    struct decoded d;
    struct decoded again;
    struct mr_buf text;
    struct mr_error err = {0};
    enum mr_status status;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_OK(d.status, &d.err);
    format_encode(&mr__format_csv, "header=true", d.batch, &status, &err, &text);
    CHECK_OK(status, &err);
    CHECK_EQ_STR(text.data, data);
    format_decode(&setup, text.data, text.size, &again);
    CHECK_EQ_STR(again.rows, d.rows);
    mr_buf_release(&text);
    decoded_release(&again);
    decoded_release(&d);
}

TEST(a_byte_order_mark_in_the_first_text_is_not_taken_for_that_of_the_file)
{
    struct decode_setup setup = {.format = &mr__format_csv, .declared = "t TEXT, u TEXT"};
    const char *data = "\"\xef\xbb\xbf\",\"\xef\xbb\xbfx\"\n";
    struct decoded d;
    struct mr_buf text;
    struct mr_error err = {0};
    enum mr_status status;

    format_decode(&setup, data, strlen(data), &d);
    CHECK_OK(d.status, &d.err);
    format_encode(&mr__format_csv, "", d.batch, &status, &err, &text);
    CHECK_OK(status, &err);
    CHECK_EQ_STR(text.data, data);
    mr_buf_release(&text);
    decoded_release(&d);
}
