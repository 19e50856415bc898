/*
 * Values inside values: fields of structs and items of lists, for C functions.
 *
 *     row --mr_row_value--> value --mr_value_field, mr_value_item--> value --mr_value_int ...
 *
 * A value is a place in a column. What is not there (a field of a null struct, an item past the end
 * of a list) is a value without a column, which reads as null. Thread: any.
 */
#include "base/check.h"

#include <millrace/batch.h>

#include <string.h>

struct mr_value mr_row_value(const struct mr_row *row, uint32_t column)
{
    return (struct mr_value){mr_batch_column(row->batch, column), row->index};
}

bool mr_value_is_null(struct mr_value value)
{
    return value.column == NULL || mr_column_is_null(value.column, value.index);
}

struct mr_value mr_value_field(struct mr_value value, uint32_t field)
{
    if (mr_value_is_null(value) || value.column->type->id != MR_TYPE_STRUCT ||
        field >= value.column->type->field_count)
        return (struct mr_value){NULL, 0};
    return (struct mr_value){&value.column->children[field], value.index};
}

struct mr_value mr_value_named(struct mr_value value, const char *name)
{
    uint32_t field = 0;

    if (mr_value_is_null(value))
        return (struct mr_value){NULL, 0};
    while (field < value.column->type->field_count &&
           strcmp(value.column->type->fields[field].name, name) != 0)
        field++;
    return mr_value_field(value, field);
}

int64_t mr_value_count(struct mr_value value)
{
    if (mr_value_is_null(value) || value.column->type->id != MR_TYPE_LIST)
        return 0;
    return value.column->offsets[value.index + 1] - value.column->offsets[value.index];
}

struct mr_value mr_value_item(struct mr_value value, int64_t item)
{
    if (item < 0 || item >= mr_value_count(value))
        return (struct mr_value){NULL, 0};
    return (struct mr_value){&value.column->children[0], value.column->offsets[value.index] + item};
}

int64_t mr_value_int(struct mr_value value)
{
    return mr_value_is_null(value) ? 0 : mr_column_int(value.column, value.index);
}

double mr_value_double(struct mr_value value)
{
    return mr_value_is_null(value) ? 0 : mr_column_double(value.column, value.index);
}

bool mr_value_bool(struct mr_value value)
{
    MR_ASSERT(value.column == NULL || value.column->type->id == MR_TYPE_BOOL);
    return !mr_value_is_null(value) && mr_column_bool(value.column, value.index);
}

struct mr_slice mr_value_text(struct mr_value value)
{
    MR_ASSERT(value.column == NULL || value.column->type->id == MR_TYPE_TEXT ||
              value.column->type->id == MR_TYPE_BINARY);
    if (mr_value_is_null(value))
        return (struct mr_slice){"", 0};
    return mr_column_text(value.column, value.index);
}
