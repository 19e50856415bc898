/*
 * require: passes rows through, whole and uncopied, and ends the batch at the first null in a
 * column that must have a value.
 *
 * Called by the front ends (mr_op_require), for NOT NULL of a table: behind a source, or in front
 * of a sink, where the batch ends before anything of it is published. Threads: any, the operator
 * is read-only.
 */
#include "ops/ops.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/text.h"

#include <string.h>

enum { VALUE_BYTES_MAX = 40, ROW_BYTES_MAX = 240 };

struct require {
    char *table;
    uint32_t *columns;
    uint32_t count;
};

/* "id: 7, city: null": as much of the row as a line of error may take. */
static void show_row(const struct mr_row *row, struct mr_buf *text)
{
    const struct mr_schema *schema = mr_batch_schema(row->batch);

    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        char value[VALUE_BYTES_MAX];
        char escaped[4 * VALUE_BYTES_MAX];
        size_t size;

        if (text->size > ROW_BYTES_MAX) {
            mr_buf_add_str(text, ", ...");
            return;
        }
        size = mr_row_print(row, i, value, sizeof(value));
        mr_text_escape(value, size < sizeof(value) ? size : sizeof(value) - 1, escaped,
                       sizeof(escaped));
        mr_buf_printf(text, "%s%s: %s%s", i > 0 ? ", " : "", mr_schema_field(schema, i)->name,
                      escaped, size < sizeof(value) ? "" : "...");
    }
}

static enum mr_status refuse(const struct require *require, const struct mr_batch *batch,
                             uint32_t column, int64_t index, struct mr_error *err)
{
    const struct mr_row row = {batch, index};
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status;

    show_row(&row, &text);
    status = MR_FAIL(err, MR_BAD_DATA,
                     "column '%s' of table '%s' is NOT NULL and is null in the row (%s); filter "
                     "such rows, or declare it without NOT NULL",
                     mr_schema_field(mr_batch_schema(batch), column)->name, require->table,
                     text.failed || text.data == NULL ? "" : text.data);
    mr_buf_release(&text);
    return status;
}

static enum mr_status require_apply(void *op, void *task, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    const struct require *require = op;

    (void)task;
    (void)info;
    for (uint32_t i = 0; i < require->count; i++) {
        const struct mr_column *column = mr_batch_column(batch, require->columns[i]);

        for (int64_t k = 0; column->validity != NULL && k < mr_batch_row_count(batch); k++) {
            if (mr_column_is_null(column, k))
                return refuse(require, batch, require->columns[i], k, err);
        }
    }
    return mr_output_emit(out, batch, err);
}

static void require_free(void *op)
{
    struct require *require = op;

    if (require == NULL)
        return;
    mr_free(require->table);
    mr_free(require->columns);
    mr_free(require);
}

static const struct mr_map_ops require_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "not null",
    .apply = require_apply,
    .free = require_free,
};

enum mr_status mr_op_require(const struct mr_schema *input, const char *table,
                             const uint32_t *columns, uint32_t count, struct mr_map_op *ret_op,
                             struct mr_error *err)
{
    struct require *require = mr_alloc_zero(NULL, sizeof(*require));

    if (require != NULL) {
        require->table = mr_strdup(table);
        require->columns = mr_alloc(NULL, (count + 1) * sizeof(*columns));
        require->count = count;
    }
    if (require == NULL || require->table == NULL || require->columns == NULL) {
        require_free(require);
        return MR_FAIL(err, MR_NOMEM, "cannot make a check for nulls: out of memory");
    }
    if (count > 0)
        memcpy(require->columns, columns, count * sizeof(*columns));
    *ret_op = (struct mr_map_op){&require_ops, require, mr_schema_ref(input)};
    return MR_OK;
}
