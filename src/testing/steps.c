/*
 * One test: its steps, one after the other, until one fails. Called by testing.c.
 *
 * A step that needs the results (ASSERT) runs the pipeline first when something was done since the
 * last run. A failure says which step it was; the difference of two tables goes to the details.
 *
 * Thread: the test's.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"
#include "duck/lex.h"

#include <stdio.h>
#include <string.h>

struct test_run {
    const struct mr_sql_script *script; /* the pipeline */
    const char *text;                   /* of the file with the test */
    struct mr_duck *duck;
    struct mr_test_pipeline *pipeline;
    bool due; /* something happened since the last run */
    char *details;
    struct mr_error *err;
};

/* ---- Places ---- */

/* An error of a query, whose place is relative to it: now in the file. */
static enum mr_status place_in_query(struct test_run *run, const struct mr_test_text *query,
                                     enum mr_status status)
{
    uint32_t line, column;

    if (run->err == NULL)
        return status;
    mr_text_place(run->text, query->at, &line, &column);
    if (run->err->sql_line == 0) {
        run->err->sql_line = line;
        run->err->sql_column = column;
        return status;
    }
    if (run->err->sql_line == 1)
        run->err->sql_column += column - 1;
    run->err->sql_line += line - 1;
    return status;
}

static enum mr_status fail(struct test_run *run, const char *text)
{
    return MR_FAIL(run->err, MR_BAD_DATA, "%s", text);
}

static enum mr_status find_table(struct test_run *run, const struct mr_test_step *step,
                                 struct mr_test_table **ret_table)
{
    const char *names[256];
    const char *nearest;
    size_t count = 0;

    *ret_table = mr_testing__pipeline_table(run->pipeline, step->table);
    if (*ret_table != NULL)
        return MR_OK;
    while (count < MR_ARRAY_SIZE(names) &&
           mr_testing__pipeline_table_at(run->pipeline, count) != NULL) {
        names[count] = mr_testing__pipeline_table_at(run->pipeline, count)->name;
        count++;
    }
    nearest = mr_text_nearest(step->table, names, count);
    return MR_FAIL(run->err, MR_SQL_ERROR, "there is no table '%s'%s%s%s", step->table,
                   nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                   nearest != NULL ? "'?" : "; CREATE TABLE it in the pipeline");
}

static enum mr_status run_due(struct test_run *run)
{
    if (!run->due)
        return MR_OK;
    MR_TRY(mr_testing__pipeline_run(run->pipeline, run->err));
    run->due = false;
    return MR_OK;
}

/* ---- Input ---- */

static enum mr_status evaluate(struct test_run *run, const struct mr_test_text *query,
                               const struct mr_schema *columns, const struct mr_test_step *names,
                               struct mr_schema **ret_schema, struct mr_test_rows *ret_rows)
{
    const struct mr_test_evaluation evaluation = {
        .pipeline = run->pipeline,
        .duck = run->duck,
        .sql = run->text + query->at,
        .sql_size = query->size,
        .columns = columns,
        .names = names != NULL ? names->columns : NULL,
        .name_count = names != NULL ? names->column_count : 0,
    };
    enum mr_status status = mr_testing__evaluate(&evaluation, ret_schema, ret_rows, run->err);

    return status == MR_OK ? MR_OK : place_in_query(run, query, status);
}

/* All rows of the step as one input of the source. */
static enum mr_status join_rows(const struct mr_test_rows *rows, const struct mr_schema *schema,
                                struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    for (size_t i = 0; i < rows->count; i++)
        mr_batch_builder_append(builder, rows->batches[i]);
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

/* A table without a format is found out here, not when a batch reads it. */
static enum mr_status insert_records(struct test_run *run, struct mr_test_table *table,
                                     const char *records)
{
    char *copy = mr_strdup(records);
    const struct mr_test_input input = {.records = copy, .event_us = INT64_MIN};
    struct mr_batch *batch = NULL;
    enum mr_status status = MR_NOMEM;

    if (copy != NULL)
        status =
            mr_testing__decode(table, "", table->schema, MR_ON_ERROR_FAIL, NULL, &batch, run->err);
    if (status == MR_OK)
        status = mr_testing__table_add(table, &input, run->err);
    mr_batch_unref(batch);
    mr_free(copy);
    return status;
}

static enum mr_status insert(struct test_run *run, const struct mr_test_step *step)
{
    struct mr_test_table *table;
    struct mr_schema *schema = NULL;
    struct mr_test_rows rows = {0};
    struct mr_test_input input = {.event_us = INT64_MIN};
    enum mr_status status;

    MR_TRY(find_table(run, step, &table));
    MR_TRY(mr_testing__table_learn(table, run->err));
    if (step->records != NULL)
        return insert_records(run, table, step->records);
    MR_TRY(evaluate(run, &step->query, table->schema, step, &schema, &rows));
    MR_TRY_GOTO(join_rows(&rows, table->schema, &input.batch, run->err));
    MR_TRY_GOTO(mr_testing__table_add(table, &input, run->err));
done:
    mr_batch_unref(input.batch);
    mr_schema_unref(schema);
    mr_testing__rows_release(&rows);
    return status;
}

static enum mr_status advance_event_time(struct test_run *run, const struct mr_test_step *step)
{
    struct mr_test_table *table;
    struct mr_test_input input = {.event_us = step->value};

    MR_TRY(find_table(run, step, &table));
    if (table->statement == NULL || table->statement->watermark == NULL)
        return MR_FAIL(run->err, MR_SQL_ERROR,
                       "table '%s' has no WATERMARK; declare one to move it", table->name);
    if (step->kind == MR_STEP_WATERMARK &&
        __builtin_add_overflow(input.event_us, table->statement->watermark_delay_us,
                               &input.event_us))
        return fail(run, "the time is out of range");
    return mr_testing__table_add(table, &input, run->err);
}

static enum mr_status advance_time(struct test_run *run, const struct mr_test_step *step)
{
    int64_t now_us = mr_testing__pipeline_now_us(run->pipeline);
    int64_t by_us = step->kind == MR_STEP_TIME_BY ? step->value : step->value - now_us;
    char text[MR_TIME_TEXT_BYTES];

    if (by_us < 0) {
        mr_timestamp_print(now_us, false, text);
        return MR_FAIL(run->err, MR_SQL_ERROR, "the clock is at '%s' already and never goes back",
                       text);
    }
    if (by_us > INT64_MAX / 2000)
        return fail(run, "the time is out of range");
    mr_testing__pipeline_advance(run->pipeline, by_us);
    return MR_OK;
}

/* ---- Crashes ---- */

static enum mr_status crash(struct test_run *run, const struct mr_test_step *step)
{
    bool reached = false;

    MR_TRY(mr_testing__pipeline_crash(run->pipeline, step->point, step->batch_id, step->kill,
                                      &reached, run->err));
    if (!reached && step->batch_id >= 0)
        return MR_FAIL(run->err, MR_BAD_DATA, "batch %lld did not come to '%s': nothing crashed",
                       (long long)step->batch_id, step->point);
    if (!reached)
        return MR_FAIL(run->err, MR_BAD_DATA,
                       "no batch came to '%s': nothing crashed; INSERT something before it",
                       step->point);
    return MR_OK;
}

/* ---- ASSERT ---- */

static enum mr_status compare(struct test_run *run, const struct mr_test_step *step,
                              const struct mr_test_rows *have, const struct mr_test_rows *want)
{
    static const char *const parts[] = {"", "what is new in ", "the last batch of "};
    struct mr_test_lines *have_lines = NULL, *want_lines = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_testing__lines_of(have, &have_lines, run->err));
    MR_TRY_GOTO(mr_testing__lines_of(want, &want_lines, run->err));
    run->details = mr_testing__difference(have_lines, want_lines, step->ordered);
    if (run->details != NULL)
        status =
            MR_FAIL(run->err, MR_BAD_DATA, "%s%s%s%s not what was expected", parts[step->part],
                    step->table != NULL ? "'" : "the rows of the query",
                    step->table != NULL ? step->table : "", step->table != NULL ? "' is" : " are");
done:
    mr_testing__lines_free(have_lines);
    mr_testing__lines_free(want_lines);
    return status;
}

/* What stands on the left: rows and their columns. */
static enum mr_status left_of(struct test_run *run, const struct mr_test_step *step,
                              struct mr_schema **ret_schema, struct mr_test_rows *ret_rows)
{
    struct mr_test_table *table;

    if (step->table == NULL)
        return evaluate(run, &step->left, NULL, NULL, ret_schema, ret_rows);
    MR_TRY(find_table(run, step, &table));
    if (table->written == NULL && table->schema == NULL)
        return MR_FAIL(run->err, MR_SQL_ERROR, "no INSERT INTO writes table '%s'", table->name);
    MR_TRY(mr_testing__content(table, step->part, step->columns, step->column_count, ret_rows,
                               run->err));
    *ret_schema = mr_schema_ref(table->written != NULL ? table->written : table->schema);
    table->asserted_count = table->output_count;
    return MR_OK;
}

static enum mr_status assert_rows(struct test_run *run, const struct mr_test_step *step)
{
    struct mr_schema *schema = NULL, *unused = NULL;
    struct mr_test_rows have = {0}, want = {0};
    enum mr_status status;

    MR_TRY(run_due(run));
    MR_TRY_GOTO(left_of(run, step, &schema, &have));
    if (!step->is_empty)
        MR_TRY_GOTO(evaluate(run, &step->query, schema, NULL, &unused, &want));
    status = compare(run, step, &have, &want);
done:
    mr_schema_unref(schema);
    mr_schema_unref(unused);
    mr_testing__rows_release(&have);
    mr_testing__rows_release(&want);
    return status;
}

static enum mr_status assert_error(struct test_run *run, const struct mr_test_step *step)
{
    struct mr_error found = {0};

    run->due = true;
    if (mr_testing__pipeline_run(run->pipeline, &found) == MR_OK) {
        run->due = false;
        return MR_FAIL(run->err, MR_BAD_DATA, "the pipeline runs, but '%s' is expected to fail it",
                       step->text);
    }
    if (strstr(found.text, step->text) != NULL)
        return MR_OK;
    return MR_FAIL(run->err, MR_BAD_DATA, "the pipeline fails with '%.300s', not with '%.100s'",
                   found.text, step->text);
}

/* Does "6/2/0" say what the counts are? Fields that are left out are not looked at. */
static bool counts_match(const char *text, size_t size, const struct mr_test_counts *counts)
{
    const int64_t have[] = {counts->total, counts->updated, counts->dropped, counts->removed};

    for (size_t i = 0; i < MR_ARRAY_SIZE(have); i++) {
        size_t field = 0;
        int64_t want;

        while (field < size && text[field] != '/')
            field++;
        if (!mr_int_parse(text, field, &want) || want != have[i])
            return false;
        if (field == size)
            return true;
        text += field + 1;
        size -= field + 1;
    }
    return false;
}

static enum mr_status assert_state(struct test_run *run, const struct mr_test_step *step)
{
    struct mr_test_counts counts[MR_TESTING_OPERATORS_MAX];
    char shown[300] = "";
    const char *at = step->text;
    size_t count, used = 0;
    bool equal = true;

    MR_TRY(run_due(run));
    count = mr_testing__pipeline_take_state(run->pipeline, counts);
    for (size_t i = 0; i < count; i++) {
        size_t size;

        at += strspn(at, " ,");
        size = strcspn(at, " ,");
        equal = equal && size > 0 && counts_match(at, size, &counts[i]);
        at += size;
        if (used + 90 < sizeof(shown))
            used += (size_t)snprintf(shown + used, sizeof(shown) - used, "%s%lld/%lld/%lld/%lld",
                                     used > 0 ? " " : "", (long long)counts[i].total,
                                     (long long)counts[i].updated, (long long)counts[i].dropped,
                                     (long long)counts[i].removed);
    }
    if (equal && at[strspn(at, " ,")] == '\0')
        return MR_OK;
    return MR_FAIL(run->err, MR_BAD_DATA,
                   "the state is '%s', not '%s' (total/updated/dropped/removed)", shown,
                   step->text);
}

static enum mr_status assert_watermark(struct test_run *run, const struct mr_test_step *step)
{
    char have[MR_TIME_TEXT_BYTES] = "none", want[MR_TIME_TEXT_BYTES] = "none";
    int64_t us;

    MR_TRY(run_due(run));
    us = mr_testing__pipeline_watermark(run->pipeline, step->part == MR_PART_LAST);
    if (us == step->value)
        return MR_OK;
    if (us != INT64_MIN)
        mr_timestamp_print(us, false, have);
    if (step->value != INT64_MIN)
        mr_timestamp_print(step->value, false, want);
    return MR_FAIL(run->err, MR_BAD_DATA, "the watermark is %s, not %s", have, want);
}

static enum mr_status assert_number(struct test_run *run, const struct mr_test_step *step)
{
    const char *what = "batches ran";
    uint64_t have;

    MR_TRY(run_due(run));
    if (step->kind == MR_STEP_ASSERT_LATE) {
        have = mr_testing__pipeline_take_late(run->pipeline);
        what = "rows came late";
    } else if (step->kind == MR_STEP_ASSERT_BAD) {
        have = mr_testing__pipeline_take_bad(run->pipeline);
        what = "records could not be decoded";
    } else {
        have = mr_testing__pipeline_take_batches(run->pipeline);
    }
    if (have == (uint64_t)step->value)
        return MR_OK;
    return MR_FAIL(run->err, MR_BAD_DATA, "%llu %s, not %lld", (unsigned long long)have, what,
                   (long long)step->value);
}

/* ---- Steps ---- */

static enum mr_status do_step(struct test_run *run, const struct mr_test_step *step)
{
    switch (step->kind) {
    case MR_STEP_GIVEN:
        return MR_OK; /* part of the script */
    case MR_STEP_INSERT:
        run->due = true;
        return insert(run, step);
    case MR_STEP_RUN:
        run->due = true;
        return run_due(run);
    case MR_STEP_TIME_BY:
    case MR_STEP_TIME_TO:
        run->due = true;
        return advance_time(run, step);
    case MR_STEP_WATERMARK:
    case MR_STEP_EVENT_TIME:
        run->due = true;
        return advance_event_time(run, step);
    case MR_STEP_CRASH:
        run->due = true;
        return crash(run, step);
    case MR_STEP_RESTART:
        MR_TRY(run_due(run));
        run->due = true;
        mr_testing__pipeline_stop(run->pipeline);
        return MR_OK;
    case MR_STEP_ASSERT_ROWS:
        return assert_rows(run, step);
    case MR_STEP_ASSERT_ERROR:
        return assert_error(run, step);
    case MR_STEP_ASSERT_STATE:
        return assert_state(run, step);
    case MR_STEP_ASSERT_WATERMARK:
        return assert_watermark(run, step);
    case MR_STEP_ASSERT_LATE:
    case MR_STEP_ASSERT_BATCHES:
    case MR_STEP_ASSERT_BAD:
        return assert_number(run, step);
    }
    return MR_OK;
}

/* After a crash of the trial's own, the same rows come out; what was counted meanwhile may not. */
static bool is_counted(const struct mr_test_step *step)
{
    return step->kind == MR_STEP_ASSERT_STATE || step->kind == MR_STEP_ASSERT_WATERMARK ||
           step->kind == MR_STEP_ASSERT_LATE || step->kind == MR_STEP_ASSERT_BAD ||
           step->kind == MR_STEP_ASSERT_BATCHES;
}

/* A batch that was published twice with other rows fails the test, whatever else it finds. */
static enum mr_status judge_repetitions(struct test_run *run, enum mr_status status)
{
    const struct mr_test_table *table = mr_testing__pipeline_changed(run->pipeline);

    if (table == NULL)
        return status;
    if (status == MR_OK) /* an ASSERT ERROR that took it for its own */
        status = MR_FAIL(run->err, MR_BAD_DATA,
                         "a batch of '%s' ran again and gave other rows than those that were "
                         "published",
                         table->name);
    mr_text_free(run->details);
    run->details = mr_strdup(table->changed);
    return status;
}

enum mr_status mr_testing__try(const struct mr_test_trial *trial, struct mr_test_result *ret_result,
                               struct mr_error *err)
{
    struct test_run run = {
        .script = trial->script, .text = trial->text, .duck = trial->duck, .due = true, .err = err};
    enum mr_status status = mr_testing__pipeline_new(trial->script, &run.pipeline, err);

    *ret_result = (struct mr_test_result){0};
    if (status != MR_OK)
        return status;
    mr_testing__pipeline_inject(run.pipeline, trial->crash_at);
    if (trial->remembers)
        mr_testing__pipeline_remember(run.pipeline);
    for (size_t i = 0; i < trial->block->count && status == MR_OK; i++) {
        const struct mr_test_step *step = &trial->block->steps[i];

        ret_result->step = step;
        if (trial->crash_at > 0 && is_counted(step))
            status = run_due(&run);
        else
            status = do_step(&run, step);
    }
    status = judge_repetitions(&run, status);
    ret_result->details = run.details;
    ret_result->forgets = mr_testing__pipeline_forgets(run.pipeline);
    ret_result->points = mr_testing__pipeline_points(run.pipeline);
    snprintf(ret_result->injected, sizeof(ret_result->injected), "%s",
             mr_testing__pipeline_injected(run.pipeline));
    mr_testing__pipeline_free(run.pipeline);
    return status;
}
