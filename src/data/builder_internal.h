/*
 * Trees of column builders, shared by the files of src/data.
 */
#ifndef MR_DATA_BUILDER_INTERNAL_H
#define MR_DATA_BUILDER_INTERNAL_H

#include <millrace/ext/builder.h>

/* An empty builder for each field, children included; type pointers borrow fields. Returns new;
 * free with _free. */
enum mr_status mr__columns_new(const struct mr_field *fields, uint32_t count,
                               struct mr_column_builder **ret_columns, struct mr_error *err);
void mr__columns_free(struct mr_column_builder *columns, uint32_t count); /* NULL allowed */

/* Appends rows [from_row, from_row + count) of a column of an equal type. */
enum mr_status mr__column_append(struct mr_column_builder *column, const struct mr_column *from,
                                 int64_t from_row, int64_t count, struct mr_error *err);
/* Appends the rows listed. */
enum mr_status mr__column_gather(struct mr_column_builder *column, const struct mr_column *from,
                                 const uint32_t *rows, int64_t row_count, struct mr_error *err);
/* Appends an object of the program to a column with its codec (codec.c). */
enum mr_status mr__column_builder_object(struct mr_column_builder *column, const void *object,
                                         struct mr_error *err);
/* Makes the validity bitmap (all valid so far) when there is none yet. */
enum mr_status mr__column_make_validity(struct mr_column_builder *column, struct mr_error *err);
void mr__bits_set(uint8_t *bitmap, int64_t from, int64_t count);
/* Bytes of the values so far, without spare room. */
size_t mr__column_bytes(const struct mr_column_builder *column);

/* Makes a batch of columns[0 .. field count) with row_count rows each, which it takes (also on
 * failure). */
enum mr_status mr__batch_of_builders(const struct mr_schema *schema,
                                     struct mr_column_builder *columns, int64_t row_count,
                                     struct mr_batch **ret_batch, struct mr_error *err);

#endif
