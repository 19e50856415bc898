/*
 * Rows as an aligned text table.
 *
 * Cells are collected row by row and drawn at the end, when the widths are known. Widths are
 * counted in terminal columns: wide East Asian characters take two, combining marks none. Thread:
 * its owner.
 */
#ifndef MR_SINKS_CONSOLE_TABLE_H
#define MR_SINKS_CONSOLE_TABLE_H

#include "base/buf.h"

#include <millrace/batch.h>

struct mr_table;

/* cell_chars_max 0 = no limit. boxed: as Spark shows a table (mr_table_draw_boxed). Shares schema.
 * Returns new. */
enum mr_status mr_table_new(const struct mr_schema *schema, uint32_t cell_chars_max, bool boxed,
                            struct mr_table **ret_table, struct mr_error *err);
void mr_table_free(struct mr_table *table); /* NULL allowed */
void mr_table_clear(struct mr_table *table);
enum mr_status mr_table_add(struct mr_table *table, const struct mr_batch *batch, int64_t row,
                            struct mr_error *err);
void mr_table_draw(const struct mr_table *table, struct mr_buf *out);
/*
 *     +-----+
 *     |value|    at least three columns wide; to the right when cells are cut, else to the left;
 *     +-----+    missing values are NULL, binary ones [68 65]
 *     |    1|
 *     +-----+
 */
void mr_table_draw_boxed(const struct mr_table *table, struct mr_buf *out);

/* Terminal columns of UTF-8 text; bytes that are not UTF-8 count one each. */
size_t mr_table_text_width(const char *text, size_t size_bytes);

#endif
