/*
 * Any bytes as lines and as raw records (text, raw); the first byte chooses. Lines written are the
 * lines that were read. Also the scanners that find line ends and bad UTF-8 in vectors of bytes,
 * each width of them, against the plain ones; and columns that neither format can have.
 */
#include "fuzz/formats.h"

#include "base/text.h"
#include "formats/scan.h"

#include <string.h>

static bool ends_json(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

static void check_scanners(const char *data, size_t size)
{
    uint64_t bitmap[(4096 + 64) / 64];
    bool ascii = true, is_ascii = true;

    FUZZ_CHECK(mr__scan_utf8_valid(data, size) == mr_utf8_valid(data, size));
    if (size > 4096)
        return;
    mr__scan_newlines(data, size, bitmap);
    for (size_t i = 0; i < mr__scan_words(size) * 64; i++)
        FUZZ_CHECK(((bitmap[i / 64] >> (i % 64)) & 1) == (i < size && data[i] == '\n'));
    mr__scan_json(data, size, bitmap, &is_ascii);
    for (size_t i = 0; i < mr__scan_words(size) * 64; i++)
        FUZZ_CHECK(((bitmap[i / 64] >> (i % 64)) & 1) == (i < size && ends_json(data[i])));
    for (size_t i = 0; i < size; i++)
        ascii = ascii && (unsigned char)data[i] < 0x80;
    FUZZ_CHECK(ascii == is_ascii);
}

/* What is no single VARCHAR or BLOB is refused, for reading and for writing. */
static void check_columns(const struct mr_format *format, const char *columns)
{
    const struct mr_schema *fixed = format->fixed_schema();
    struct mr_decoder_args args = {.on_error = MR_ON_ERROR_SKIP};
    struct mr_decoder *decoder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    if (fixed != NULL)
        FUZZ_CHECK(mr_schema_field_count(fixed) == 1);
    if (mr_schema_parse(columns, strlen(columns), &schema, NULL) != MR_OK)
        return;
    args.declared = args.schema = schema;
    FUZZ_CHECK(format->decoder_new(&args, &decoder, &err) == MR_CONFIG);
    FUZZ_REFUSED(&err, MR_CONFIG);
    FUZZ_CHECK(format->check(schema, NULL, true, &err) == MR_CONFIG);
    if (format->cut != NULL)
        FUZZ_CHECK(format->cut(NULL, (struct mr_slice){columns, 4}) == 0);
    mr_schema_unref(schema);
}

/* The input many times over, so that it takes several pieces and writes. */
static void check_long(const struct fuzz_format *run, const char *data, size_t size)
{
    enum { LONG_BYTES = 400 << 10 };
    struct mr_buf text = MR_BUF_INIT;
    struct fuzz_decoded decoded = {0};

    while (size > 0 && text.size < LONG_BYTES && !text.failed)
        mr_buf_add(&text, data, size);
    if (!text.failed)
        (void)fuzz_decode(run, text.data == NULL ? "" : text.data, text.size, &decoded);
    fuzz_decoded_release(&decoded);
    mr_buf_release(&text);
}

static void one(const uint8_t *data, size_t size)
{
    static const struct mr_option_pair small = {"max_line_bytes", "16 B"};
    struct fuzz_format run = {.format = &mr__format_text, .columns = "line VARCHAR"};

    if (size == 0)
        return;
    for (unsigned widest = MR_SCAN_PLAIN; widest <= MR_SCAN_AVX512; widest++) {
        mr__scan_limit((enum mr_scan_width)widest);
        check_scanners((const char *)data + 1, size - 1);
    }
    if (data[0] == 128)
        check_columns(&mr__format_text, size % 2 == 0 ? "line BIGINT" : "a VARCHAR, b VARCHAR");
    if (data[0] == 131)
        check_columns(&mr__format_raw, size % 2 == 0 ? "line VARCHAR" : "a BLOB, b BLOB");
    if (data[0] >= 252)
        check_long(&run, (const char *)data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        break;
    case 1:
        run.columns = "line BLOB";
        break;
    case 2:
        run.pairs = &small;
        run.pair_count = 1;
        run.write_pairs = &small;
        break;
    default:
        run.format = &mr__format_raw;
        run.columns = "value BLOB";
        break;
    }
    if (run.format == &mr__format_raw) {
        struct fuzz_decoded decoded;

        if (fuzz_decode(&run, (const char *)data + 1, size - 1, &decoded))
            FUZZ_CHECK(decoded.row_count <= 1 && decoded.bad_count == 0);
        fuzz_decoded_release(&decoded);
    } else if (data[0] % 4 == 2 || memchr(data + 1, '\r', size - 1) != NULL) {
        /* A line that ends in '\r' cannot be written as one. */
        struct fuzz_decoded decoded;

        (void)fuzz_decode(&run, (const char *)data + 1, size - 1, &decoded);
        fuzz_decoded_release(&decoded);
    } else {
        fuzz_format_laws(&run, (const char *)data + 1, size - 1);
    }
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    (void)mr__format_text.fixed_schema(); /* live for ever */
    (void)mr__format_raw.fixed_schema();
    return fuzz_run(one, data, size);
}
