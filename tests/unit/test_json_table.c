/*
 * What is JSON and what is not (faults.md H1): a table made from the grammar of RFC 8259, for both
 * readers: the one of small documents (base/json) and the one of rows (formats/json), which sees
 * each text as the value of a member that no column wants, first the general way, then as a line
 * whose shape it has predicted.
 *
 * docs/sql.md has the answers that the RFC leaves to the reader.
 */
#include "support/evidence.h"
#include "support/format_harness.h"

#include "base/alloc.h"
#include "base/json.h"

struct text {
    const char *text;
    size_t size;
    const char *what;
    bool base, rows;
};

#define REJECT(text) {text, sizeof(text) - 1, NULL, false, false},
#define ACCEPT(text)
#define DOCUMENTED(what, text, base, rows)
static const struct text rejected[] = {
#include "json_table.inc"
};
#undef REJECT
#undef ACCEPT
#define REJECT(text)
#define ACCEPT(text) {text, sizeof(text) - 1, NULL, true, true},
static const struct text accepted[] = {
#include "json_table.inc"
};
#undef ACCEPT
#undef DOCUMENTED
#define ACCEPT(text)
#define DOCUMENTED(what, text, base, rows) {text, sizeof(text) - 1, what, base, rows},
static const struct text documented[] = {
#include "json_table.inc"
};

enum {
    REJECTED = sizeof(rejected) / sizeof(rejected[0]),
    ACCEPTED = sizeof(accepted) / sizeof(accepted[0]),
    DOCUMENTED_TEXTS = sizeof(documented) / sizeof(documented[0])
};

static bool base_accepts(const struct text *text)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    struct mr_error err = {0};
    bool good = mr_json_parse(text->text, text->size, &arena, &json, &err) == MR_OK;

    if (!good) {
        CHECK_STATUS(err.status, MR_BAD_DATA);
        CHECK_CONTAINS(err.text, "at byte ");
    }
    mr_arena_release(&arena);
    return good;
}

/* As {"b":1,"x":<text>} behind lines of that shape. */
static bool rows_accept(const struct text *text, bool general)
{
    const struct decode_setup setup = {.format = &mr__format_json,
                                       .declared = "b BIGINT",
                                       .on_error = MR_ON_ERROR_SKIP,
                                       .general = general};
    struct mr_buf lines = MR_BUF_INIT;
    struct decoded decoded;
    bool good;

    mr_buf_add_str(&lines, "{\"b\":1,\"x\":1}\n{\"b\":2,\"x\":2}\n{\"b\":7,\"x\":");
    mr_buf_add(&lines, text->text, text->size);
    mr_buf_add_str(&lines, "}\n{\"b\":3,\"x\":3}\n");
    format_decode(&setup, lines.data, lines.size, &decoded);
    good = strcmp(decoded.rows, "1\n2\n7\n3\n") == 0;
    if (!good)
        CHECK_EQ_STR(decoded.rows, "1\n2\n3\n");
    CHECK(good == (decoded.bad[0] == '\0'));
    decoded_release(&decoded);
    mr_buf_release(&lines);
    return good;
}

static void check_all(const struct text *texts, size_t count)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < count; i++) {
        const struct text *text = &texts[i];
        bool base = base_accepts(text), rows = rows_accept(text, false);
        bool general = rows_accept(text, true);

        if (base == text->base && rows == text->rows && general == text->rows)
            continue;
        wrong++;
        printf("# number %zu %s '%.60s': base %d, rows %d, rows the general way %d\n", i,
               text->what == NULL ? "" : text->what, text->text, base, rows, general);
    }
    CHECK_EQ_UINT(wrong, 0);
}

TEST(H1_no_reader_takes_what_is_not_json)
{
    check_all(rejected, REJECTED);
    evidence_add("json", "must-reject", REJECTED);
}

TEST(H1_both_readers_take_what_is_json)
{
    check_all(accepted, ACCEPTED);
    evidence_add("json", "must-accept", ACCEPTED);
}

TEST(H1_what_the_reader_may_decide_is_decided_as_documented)
{
    check_all(documented, DOCUMENTED_TEXTS);
    evidence_add("json", "documented", DOCUMENTED_TEXTS);
}

/* '[' levels times, or {"a": that often. */
static struct text nested(struct mr_buf *buf, unsigned levels, bool objects, bool base, bool rows)
{
    mr_buf_clear(buf);
    for (unsigned i = 0; i < levels; i++)
        mr_buf_add_str(buf, objects ? "{\"a\":" : "[");
    mr_buf_add_char(buf, '1');
    for (unsigned i = 0; i < levels; i++)
        mr_buf_add_char(buf, objects ? '}' : ']');
    return (struct text){buf->data, buf->size, "levels", base, rows};
}

TEST(H1_depth_has_a_limit_in_both_readers)
{
    static const struct {
        unsigned levels;
        bool base, rows;
    } cases[] = {{63, true, true},
                 {64, true, false},
                 {200, true, false},
                 {201, false, false},
                 {100000, false, false}};
    struct mr_buf buf = MR_BUF_INIT;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int objects = 0; objects < 2; objects++) {
            struct text text =
                nested(&buf, cases[i].levels, objects == 1, cases[i].base, cases[i].rows);
            check_all(&text, 1);
        }
    }
    evidence_add("json", "documented", 5);
    mr_buf_release(&buf);
}

TEST(H1_a_text_of_utf8_is_kept_byte_for_byte)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;

    CHECK_OK(mr_json_parse("\"\\u00e4\\ud83d\\ude00\\u0000\"", 26, &arena, &json, NULL), NULL);
    CHECK_EQ_UINT(json->text_bytes, 7);
    CHECK_EQ_MEM(json->text, "\xc3\xa4\xf0\x9f\x98\x80\0", 7);
    mr_arena_release(&arena);
}
