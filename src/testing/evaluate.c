/*
 * Rows of a query that a test writes: what INSERT adds, what ASSERT expects, and what stands in a
 * table. Called by steps.c; DuckDB does the work.
 *
 *     VALUES (1, 'x')     -->  SELECT CAST(c0 AS BIGINT) AS "id", CAST(c1 AS VARCHAR) AS "city"
 *                              FROM (VALUES (1, 'x')) AS rows(c0, c1)
 *
 * In a query every table of the pipeline may be named: a source has all rows inserted so far (which
 * makes a SELECT over it the oracle of the pipeline), a sink what a reader of it sees.
 *
 * Thread: the test's.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/text.h"

#include <millrace/ext/bad_records.h>

#include <string.h>

enum { TYPE_BYTES_MAX = 4096 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot evaluate a query of a test: out of memory");
}

/* ---- What stands in a table ---- */

static enum mr_status add_all(struct mr_test_rows *rows, const struct mr_test_rows *more,
                              struct mr_error *err)
{
    for (size_t i = 0; i < more->count; i++)
        MR_TRY(mr_testing__rows_add(rows, more->batches[i], err));
    return MR_OK;
}

/* Rows that were inserted as records: those that can be decoded. */
static enum mr_status decoded(const struct mr_test_table *table, const char *records,
                              struct mr_test_rows *rows, struct mr_error *err)
{
    struct mr_bad_records *bad = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY(mr_bad_records_new(table->name, MR_ON_ERROR_SKIP, &bad, err));
    status = mr_testing__decode(table, records, table->schema, MR_ON_ERROR_SKIP, bad, &batch, err);
    if (status == MR_OK)
        status = mr_testing__rows_add(rows, batch, err);
    mr_batch_unref(batch);
    mr_bad_records_free(bad);
    return status;
}

static enum mr_status inserted(const struct mr_test_table *table, struct mr_test_rows *rows,
                               struct mr_error *err)
{
    for (size_t i = 0; i < table->input_count; i++) {
        const struct mr_test_input *input = &table->inputs[i];

        if (input->batch != NULL)
            MR_TRY(mr_testing__rows_add(rows, input->batch, err));
        if (input->records != NULL)
            MR_TRY(decoded(table, input->records, rows, err));
    }
    return MR_OK;
}

/* Complete mode: every batch is the whole result. */
static size_t first_output(const struct mr_test_table *table, enum mr_test_part part)
{
    bool newest = part == MR_PART_LAST || (table->mode == MR_MODE_COMPLETE && part == MR_PART_ALL);

    if (newest)
        return table->output_count > 0 ? table->output_count - 1 : 0;
    return part == MR_PART_NEW ? table->asserted_count : 0;
}

static enum mr_status fold_by(const struct mr_test_table *table, const char *const *keys,
                              size_t key_count, struct mr_test_rows *rows, struct mr_error *err)
{
    uint32_t indexes[MR_SQL_OPTIONS_MAX];
    struct mr_test_rows folded = {0};
    enum mr_status status;

    for (size_t i = 0; i < key_count; i++) {
        int32_t index = mr_schema_find(table->written, keys[i], strlen(keys[i]));

        if (index < 0)
            return MR_FAIL(err, MR_SQL_ERROR, "table '%s' has no column '%s'", table->name,
                           keys[i]);
        indexes[i] = (uint32_t)index;
    }
    status = mr_testing__fold(rows, indexes, key_count, &folded, err);
    mr_testing__rows_release(rows);
    *rows = folded;
    return status;
}

enum mr_status mr_testing__content(const struct mr_test_table *table, enum mr_test_part part,
                                   const char *const *keys, size_t key_count,
                                   struct mr_test_rows *ret_rows, struct mr_error *err)
{
    struct mr_test_rows rows = {0};
    enum mr_status status = MR_OK;

    if (key_count == 0 && part == MR_PART_ALL && table->mode == MR_MODE_UPDATE &&
        table->statement != NULL) { /* its PRIMARY KEY */
        keys = table->statement->insert_columns;
        key_count = table->statement->insert_column_count;
    }
    if (table->written == NULL) {
        status = inserted(table, &rows, err);
    } else {
        for (size_t i = first_output(table, part); i < table->output_count && status == MR_OK; i++)
            status = add_all(&rows, &table->outputs[i].rows, err);
        if (status == MR_OK && key_count > 0)
            status = fold_by(table, keys, key_count, &rows, err);
    }
    if (status == MR_OK)
        *ret_rows = rows;
    else
        mr_testing__rows_release(&rows);
    return status;
}

/* ---- Queries ---- */

struct inputs {
    struct mr_duck_input *list;
    struct mr_test_rows *rows;
    struct mr_batch *const **batches;
    size_t *counts;
    size_t count;
};

static void inputs_release(struct inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++)
        mr_testing__rows_release(&inputs->rows[i]);
    mr_free(inputs->list);
    mr_free(inputs->rows);
    mr_free(inputs->batches);
    mr_free(inputs->counts);
}

/* Does the text name the table? A name inside a string does no harm. */
static bool mentions(const char *sql, size_t size, const char *name)
{
    size_t name_size = strlen(name);

    for (size_t i = 0; i + name_size <= size; i++) {
        if (mr_text_equal_nocase(sql + i, name_size, name, name_size))
            return true;
    }
    return false;
}

/* The tables that the query may mean. */
static enum mr_status collect(const struct mr_test_evaluation *evaluation, struct inputs *inputs,
                              struct mr_error *err)
{
    struct mr_test_table *table;
    size_t room = 1;

    while (mr_testing__pipeline_table_at(evaluation->pipeline, room - 1) != NULL)
        room++;
    inputs->list = mr_alloc_zero(NULL, room * sizeof(*inputs->list));
    inputs->rows = mr_alloc_zero(NULL, room * sizeof(*inputs->rows));
    inputs->batches = mr_alloc_zero(NULL, room * sizeof(*inputs->batches));
    inputs->counts = mr_alloc_zero(NULL, room * sizeof(*inputs->counts));
    if (inputs->list == NULL || inputs->rows == NULL || inputs->batches == NULL ||
        inputs->counts == NULL)
        return no_memory(err);
    for (size_t i = 0; (table = mr_testing__pipeline_table_at(evaluation->pipeline, i)) != NULL;
         i++) {
        const struct mr_schema *schema = table->written != NULL ? table->written : table->schema;
        size_t at = inputs->count;

        if (schema == NULL || !mentions(evaluation->sql, evaluation->sql_size, table->name))
            continue;
        MR_TRY(mr_testing__content(table, MR_PART_ALL, NULL, 0, &inputs->rows[at], err));
        inputs->list[at] = (struct mr_duck_input){table->name, schema};
        inputs->batches[at] = inputs->rows[at].batches;
        inputs->counts[at] = inputs->rows[at].count;
        inputs->count++;
    }
    return MR_OK;
}

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    return mr_testing__rows_add(arg, batch, err);
}

static enum mr_status run(const struct mr_test_evaluation *evaluation, const struct inputs *inputs,
                          const char *sql, struct mr_schema **ret_schema,
                          struct mr_test_rows *ret_rows, struct mr_error *err)
{
    int64_t now_us = mr_testing__pipeline_now_us(evaluation->pipeline);
    struct mr_duck_stmt *stmt = NULL;
    enum mr_status status;

    MR_TRY(mr_duck_prepare(evaluation->duck, sql, inputs->list, inputs->count, &stmt, err));
    *ret_schema = mr_schema_ref(mr_duck_stmt_schema(stmt));
    status = ret_rows == NULL
                 ? MR_OK
                 : mr_duck_run(stmt, inputs->batches, inputs->counts, now_us, keep, ret_rows, err);
    mr_duck_stmt_free(stmt);
    return status;
}

static int find_name(const struct mr_test_evaluation *evaluation, const char *name)
{
    for (size_t i = 0; i < evaluation->name_count; i++) {
        if (mr_text_equal_nocase(evaluation->names[i], strlen(evaluation->names[i]), name,
                                 strlen(name)))
            return (int)i;
    }
    return -1;
}

/* The query with its columns cast; those that are not named are null. */
static char *cast_query(const struct mr_test_evaluation *evaluation, uint32_t given)
{
    struct mr_buf sql = MR_BUF_INIT;
    char type[TYPE_BYTES_MAX];

    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(evaluation->columns); i++) {
        const struct mr_field *field = mr_schema_field(evaluation->columns, i);
        int from = evaluation->name_count > 0 ? find_name(evaluation, field->name) : (int)i;

        mr_type_print(&field->type, type, sizeof(type));
        mr_buf_add_str(&sql, i > 0 ? ", CAST(" : "CAST(");
        if (from >= 0)
            mr_buf_printf(&sql, "c%d", from);
        else
            mr_buf_add_str(&sql, "NULL");
        mr_buf_printf(&sql, " AS %s) AS \"", type);
        for (const char *at = field->name; *at != '\0'; at++) {
            if (*at == '"')
                mr_buf_add_char(&sql, '"');
            mr_buf_add_char(&sql, *at);
        }
        mr_buf_add_char(&sql, '"');
    }
    mr_buf_add_str(&sql, " FROM (");
    mr_buf_add(&sql, evaluation->sql, evaluation->sql_size);
    mr_buf_add_str(&sql, "\n) AS mr_rows(");
    for (uint32_t i = 0; i < given; i++)
        mr_buf_printf(&sql, "%sc%u", i > 0 ? ", " : "", i);
    mr_buf_add_char(&sql, ')');
    return mr_buf_take(&sql);
}

static enum mr_status check_columns(const struct mr_test_evaluation *evaluation, uint32_t given,
                                    struct mr_error *err)
{
    uint32_t wanted = evaluation->name_count > 0 ? (uint32_t)evaluation->name_count
                                                 : mr_schema_field_count(evaluation->columns);

    for (size_t i = 0; i < evaluation->name_count; i++) {
        const char *name = evaluation->names[i];

        if (mr_schema_find(evaluation->columns, name, strlen(name)) < 0)
            return MR_FAIL(err, MR_SQL_ERROR, "the table has no column '%s'", name);
    }
    if (given != wanted)
        return MR_FAIL(err, MR_SQL_ERROR, "the rows have %u columns, the table has %u", given,
                       wanted);
    return MR_OK;
}

enum mr_status mr_testing__evaluate(const struct mr_test_evaluation *evaluation,
                                    struct mr_schema **ret_schema, struct mr_test_rows *ret_rows,
                                    struct mr_error *err)
{
    struct inputs inputs = {0};
    struct mr_schema *raw = NULL, *schema = NULL;
    struct mr_test_rows rows = {0};
    char *sql = mr_strndup(evaluation->sql, evaluation->sql_size);
    enum mr_status status;

    if (sql == NULL)
        return no_memory(err);
    MR_TRY_GOTO(collect(evaluation, &inputs, err));
    if (evaluation->columns == NULL) {
        MR_TRY_GOTO(run(evaluation, &inputs, sql, &schema, &rows, err));
    } else {
        MR_TRY_GOTO(run(evaluation, &inputs, sql, &raw, NULL, err));
        MR_TRY_GOTO(check_columns(evaluation, mr_schema_field_count(raw), err));
        mr_free(sql);
        sql = cast_query(evaluation, mr_schema_field_count(raw));
        status = sql != NULL ? MR_OK : no_memory(err);
        if (status == MR_OK)
            status = run(evaluation, &inputs, sql, &schema, &rows, err);
        if (status != MR_OK && err != NULL)
            err->sql_line = 0; /* a place in our text, not in the test's */
    }
done:
    if (status == MR_OK) {
        *ret_schema = schema;
        *ret_rows = rows;
    } else {
        mr_schema_unref(schema);
        mr_testing__rows_release(&rows);
    }
    mr_schema_unref(raw);
    mr_free(sql);
    inputs_release(&inputs);
    return status;
}
