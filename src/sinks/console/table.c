/*
 * Rows as an aligned text table (table.h).  Used by the console sink.
 *
 * The text of all cells is kept in one buffer, a cell is the number of its end:
 *
 *     text  "London3Paris12"          ends  6 7 12 14        two columns, two rows
 *
 * Control characters are escaped, so a value can neither break the table nor send the terminal a
 * command.
 */
#include "sinks/console/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/text.h"

#include <string.h>

struct mr_table {
    struct mr_schema *schema;
    uint32_t column_count;
    uint32_t cell_chars_max;
    bool boxed;
    size_t *widths;
    struct mr_buf text;
    struct mr_buf ends; /* uint64_t each */
    struct mr_buf scratch;
    uint64_t row_count;
};

enum { CELL_BYTES_MAX = MR_LIMIT_CONSOLE_CELL, SEPARATOR_WIDTH = 3, BOXED_WIDTH_MIN = 3 };

/* Decodes one character; a byte that is not UTF-8 stands for itself. */
static uint32_t next_char(const unsigned char *at, size_t left, size_t *ret_bytes)
{
    uint32_t c = at[0];
    size_t bytes = c < 0x80 ? 1 : c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    *ret_bytes = 1;
    if (bytes == 1 || bytes > left)
        return c;
    c &= 0x7fu >> bytes;
    for (size_t i = 1; i < bytes; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return at[0];
        c = c << 6 | (at[i] & 0x3fu);
    }
    *ret_bytes = bytes;
    return c;
}

static size_t char_width(uint32_t c)
{
    if ((c >= 0x300 && c <= 0x36f) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f))
        return 0;
    if ((c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
        (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff) ||
        (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
        (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) ||
        (c >= 0x20000 && c <= 0x3fffd))
        return 2;
    return 1;
}

size_t mr_table_text_width(const char *text, size_t size_bytes)
{
    size_t width = 0;
    size_t bytes;

    for (size_t at = 0; at < size_bytes; at += bytes)
        width += char_width(next_char((const unsigned char *)text + at, size_bytes - at, &bytes));
    return width;
}

/* Bytes of the longest beginning of text that is at most chars characters. */
static size_t cut_at(const char *text, size_t size_bytes, size_t chars)
{
    size_t at = 0;
    size_t bytes;

    for (; at < size_bytes && chars > 0; at += bytes, chars--)
        next_char((const unsigned char *)text + at, size_bytes - at, &bytes);
    return at;
}

enum mr_status mr_table_new(const struct mr_schema *schema, uint32_t cell_chars_max, bool boxed,
                            struct mr_table **ret_table, struct mr_error *err)
{
    struct mr_table *table = mr_alloc_zero(NULL, sizeof(*table));

    if (table != NULL) {
        table->schema = mr_schema_ref(schema);
        table->column_count = mr_schema_field_count(schema);
        table->cell_chars_max = cell_chars_max;
        table->boxed = boxed;
        table->widths = mr_alloc_zero(NULL, (table->column_count + 1) * sizeof(*table->widths));
    }
    /* The reserve makes text.data valid also while every cell is empty. */
    if (table == NULL || table->widths == NULL || !mr_buf_reserve(&table->text, 256)) {
        mr_table_free(table);
        return MR_FAIL(err, MR_NOMEM, "cannot draw a table: out of memory");
    }
    mr_table_clear(table);
    *ret_table = table;
    return MR_OK;
}

void mr_table_free(struct mr_table *table)
{
    if (table == NULL)
        return;
    mr_buf_release(&table->text);
    mr_buf_release(&table->ends);
    mr_buf_release(&table->scratch);
    mr_schema_unref(table->schema);
    mr_free(table->widths);
    mr_free(table);
}

void mr_table_clear(struct mr_table *table)
{
    mr_buf_clear(&table->text);
    mr_buf_clear(&table->ends);
    table->row_count = 0;
    for (uint32_t i = 0; i < table->column_count; i++) {
        const char *name = mr_schema_field(table->schema, i)->name;

        table->widths[i] = mr_table_text_width(name, strlen(name));
        if (table->boxed)
            table->widths[i] = MR_MAX(table->widths[i], (size_t)BOXED_WIDTH_MIN);
    }
}

/* Control characters as \n, \t, \r, \xNN; bytes that are not UTF-8 as \xNN. */
static void add_escaped(struct mr_buf *out, const char *text, size_t size_bytes)
{
    size_t bytes;

    for (size_t at = 0; at < size_bytes; at += bytes) {
        uint32_t c = next_char((const unsigned char *)text + at, size_bytes - at, &bytes);
        const char *named = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : NULL;

        if (named != NULL)
            mr_buf_add_str(out, named);
        else if (c < 0x20 || c == 0x7f || (bytes == 1 && c >= 0x80) || (c >= 0x80 && c < 0xa0))
            mr_buf_printf(out, "\\x%02x", c);
        else
            mr_buf_add(out, text + at, bytes);
    }
}

/* What Spark writes in another way; false: this value is none of them. */
static bool print_boxed(struct mr_table *table, const struct mr_row *row, uint32_t column)
{
    bool is_binary = mr_schema_field(table->schema, column)->type.id == MR_TYPE_BINARY;
    struct mr_slice bytes = {NULL, 0};

    if (!table->boxed || (!mr_row_is_null(row, column) && !is_binary))
        return false;
    mr_buf_clear(&table->scratch);
    if (mr_row_is_null(row, column)) {
        mr_buf_add_str(&table->scratch, "NULL");
        return true;
    }
    bytes = mr_row_text(row, column);
    mr_buf_add_char(&table->scratch, '[');
    for (size_t i = 0; i < bytes.size_bytes; i++)
        mr_buf_printf(&table->scratch, "%s%02X", i > 0 ? " " : "", (unsigned char)bytes.data[i]);
    mr_buf_add_char(&table->scratch, ']');
    return true;
}

/* The printed value of one cell is in table->scratch afterwards. */
static bool print_cell(struct mr_table *table, const struct mr_row *row, uint32_t column)
{
    struct mr_buf *scratch = &table->scratch;
    size_t size = 256;

    if (print_boxed(table, row, column))
        return !scratch->failed;
    for (;;) {
        size_t needed;

        mr_buf_clear(scratch);
        if (!mr_buf_reserve(scratch, size))
            return false;
        needed = mr_row_print(row, column, scratch->data, size);
        if (needed < size || size >= CELL_BYTES_MAX) {
            scratch->size = MR_MIN(needed, size - 1);
            return true;
        }
        size = MR_MIN(needed + 1, (size_t)CELL_BYTES_MAX);
    }
}

enum mr_status mr_table_add(struct mr_table *table, const struct mr_batch *batch, int64_t row,
                            struct mr_error *err)
{
    struct mr_row cursor = {batch, row};

    for (uint32_t i = 0; i < table->column_count; i++) {
        size_t from = table->text.size;
        size_t width;

        if (!print_cell(table, &cursor, i))
            return MR_FAIL(err, MR_NOMEM, "cannot draw a table: out of memory");
        add_escaped(&table->text, table->scratch.data, table->scratch.size);
        if (table->cell_chars_max > 0 && !table->text.failed) {
            const char *cell = table->text.data + from;
            size_t cell_bytes = table->text.size - from;
            size_t fits = cut_at(cell, cell_bytes, table->cell_chars_max);

            if (fits < cell_bytes) {
                size_t dots = MR_MIN(table->cell_chars_max, 3u);

                table->text.size = from + cut_at(cell, cell_bytes, table->cell_chars_max - dots);
                mr_buf_add(&table->text, "...", dots);
            }
        }
        mr_buf_add_u64(&table->ends, table->text.size);
        if (table->text.failed || table->ends.failed)
            return MR_FAIL(err, MR_NOMEM, "cannot draw a table: out of memory");
        width = mr_table_text_width(table->text.data + from, table->text.size - from);
        table->widths[i] = MR_MAX(table->widths[i], width);
    }
    table->row_count++;
    return MR_OK;
}

static void add_repeated(struct mr_buf *out, char c, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mr_buf_add_char(out, c);
}

static bool is_number(const struct mr_type *type)
{
    return type->id >= MR_TYPE_INT8 && type->id <= MR_TYPE_DECIMAL;
}

/* The last column is not padded on the right: no blanks at line ends. */
static void draw_cell(const struct mr_table *table, uint32_t column, const char *text,
                      size_t size_bytes, bool right, struct mr_buf *out)
{
    size_t blanks = table->widths[column] - mr_table_text_width(text, size_bytes);

    if (column > 0)
        mr_buf_add(out, " | ", SEPARATOR_WIDTH);
    if (right)
        add_repeated(out, ' ', blanks);
    mr_buf_add(out, text, size_bytes);
    if (!right && column + 1 < table->column_count)
        add_repeated(out, ' ', blanks);
}

void mr_table_draw(const struct mr_table *table, struct mr_buf *out)
{
    struct mr_bytes ends = mr_bytes_of(table->ends.data, table->ends.size);
    size_t from = 0;

    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct mr_field *field = mr_schema_field(table->schema, i);

        draw_cell(table, i, field->name, strlen(field->name), is_number(&field->type), out);
    }
    mr_buf_add_char(out, '\n');
    for (uint32_t i = 0; i < table->column_count; i++) {
        if (i > 0)
            mr_buf_add(out, "-+-", SEPARATOR_WIDTH);
        add_repeated(out, '-', table->widths[i]);
    }
    mr_buf_add_char(out, '\n');
    for (uint64_t row = 0; row < table->row_count; row++) {
        for (uint32_t i = 0; i < table->column_count; i++) {
            size_t end = (size_t)mr_bytes_u64(&ends);

            draw_cell(table, i, table->text.data + from, end - from,
                      is_number(&mr_schema_field(table->schema, i)->type), out);
            from = end;
        }
        mr_buf_add_char(out, '\n');
    }
}

static void draw_border(const struct mr_table *table, struct mr_buf *out)
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        mr_buf_add_char(out, '+');
        add_repeated(out, '-', table->widths[i]);
    }
    mr_buf_add_str(out, "+\n");
}

static void draw_boxed_cell(const struct mr_table *table, uint32_t column, const char *text,
                            size_t size_bytes, struct mr_buf *out)
{
    size_t blanks = table->widths[column] - mr_table_text_width(text, size_bytes);
    bool right = table->cell_chars_max > 0;

    mr_buf_add_char(out, '|');
    if (right)
        add_repeated(out, ' ', blanks);
    mr_buf_add(out, text, size_bytes);
    if (!right)
        add_repeated(out, ' ', blanks);
}

void mr_table_draw_boxed(const struct mr_table *table, struct mr_buf *out)
{
    struct mr_bytes ends = mr_bytes_of(table->ends.data, table->ends.size);
    size_t from = 0;

    draw_border(table, out);
    for (uint32_t i = 0; i < table->column_count; i++) {
        const char *name = mr_schema_field(table->schema, i)->name;

        draw_boxed_cell(table, i, name, strlen(name), out);
    }
    mr_buf_add_str(out, "|\n");
    draw_border(table, out);
    for (uint64_t row = 0; row < table->row_count; row++) {
        for (uint32_t i = 0; i < table->column_count; i++) {
            size_t end = (size_t)mr_bytes_u64(&ends);

            draw_boxed_cell(table, i, table->text.data + from, end - from, out);
            from = end;
        }
        mr_buf_add_str(out, "|\n");
    }
    draw_border(table, out);
}
