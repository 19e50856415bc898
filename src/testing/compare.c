/*
 * Two tables and what tells them apart. Called by steps.c for each ASSERT.
 *
 * Rows are compared as texts: each value as `print` shows it, with bytes of their own for null and
 * between two values. As multisets both lists are sorted and merged; in order they are compared
 * row by row.
 *
 *     -  Bonn  3           missing: expected, but not there
 *     +  Bonn  2           unexpected: there, but not expected
 *     +  Oslo  1  (2 x)
 *
 * Thread: any.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN_MAX = 20, SHOWN_BYTES_MAX = 300, SEPARATOR = 0x1f, NULL_VALUE = 0x01 };

static const char separator[] = "\x1f";

struct mr_test_lines {
    struct mr_arena arena;
    const char **lines;
    size_t count;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot compare two tables: out of memory");
}

/* Appends one value; null is a byte that no text has. */
static bool add_value(struct mr_buf *line, const struct mr_row *row, uint32_t column)
{
    size_t size;

    if (mr_row_is_null(row, column)) {
        mr_buf_add_char(line, NULL_VALUE);
        return !line->failed;
    }
    size = mr_row_print(row, column, NULL, 0);
    if (!mr_buf_reserve(line, size + 1))
        return false;
    mr_row_print(row, column, line->data + line->size, size + 1);
    line->size += size;
    return true;
}

static bool add_line(struct mr_test_lines *lines, struct mr_buf *line, const struct mr_row *row)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(row->batch));

    mr_buf_clear(line);
    for (uint32_t i = 0; i < columns; i++) {
        if (i > 0)
            mr_buf_add_char(line, SEPARATOR);
        if (!add_value(line, row, i))
            return false;
    }
    lines->lines[lines->count] =
        mr_arena_copy(&lines->arena, line->data != NULL ? line->data : "", line->size);
    return !line->failed && lines->lines[lines->count++] != NULL;
}

enum mr_status mr_testing__lines_of(const struct mr_test_rows *rows,
                                    struct mr_test_lines **ret_lines, struct mr_error *err)
{
    struct mr_test_lines *lines = mr_alloc_zero(NULL, sizeof(*lines));
    struct mr_buf line = MR_BUF_INIT;
    int64_t count = 0;
    bool ok = lines != NULL;

    for (size_t i = 0; i < rows->count; i++)
        count += mr_batch_row_count(rows->batches[i]);
    if (ok)
        lines->lines = mr_arena_alloc(&lines->arena, ((size_t)count + 1) * sizeof(char *));
    ok = ok && lines->lines != NULL;
    for (size_t i = 0; i < rows->count && ok; i++) {
        struct mr_row row = {rows->batches[i], 0};

        for (; row.index < mr_batch_row_count(row.batch) && ok; row.index++)
            ok = add_line(lines, &line, &row);
    }
    mr_buf_release(&line);
    if (ok)
        *ret_lines = lines;
    else
        mr_testing__lines_free(lines);
    return ok ? MR_OK : no_memory(err);
}

void mr_testing__lines_free(struct mr_test_lines *lines)
{
    if (lines == NULL)
        return;
    mr_arena_release(&lines->arena);
    mr_free(lines);
}

/* ---- The difference ---- */

static void show_line(struct mr_buf *out, char mark, const char *line, size_t times)
{
    char text[SHOWN_BYTES_MAX];

    mr_buf_printf(out, "%c ", mark);
    for (;;) {
        size_t size = strcspn(line, separator);

        if (size == 1 && line[0] == NULL_VALUE) {
            mr_buf_add_str(out, " NULL");
        } else {
            mr_text_escape(line, size, text, sizeof(text));
            mr_buf_printf(out, " %s", text);
        }
        line += size;
        if (*line == '\0')
            break;
        line++;
        mr_buf_add_str(out, " |");
    }
    if (times > 1)
        mr_buf_printf(out, "  (%zu x)", times);
    mr_buf_add_char(out, '\n');
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sorted(const struct mr_test_lines *lines)
{
    const char **copy = mr_alloc(NULL, (lines->count + 1) * sizeof(char *));

    if (copy == NULL)
        return NULL;
    if (lines->count > 0)
        memcpy(copy, lines->lines, lines->count * sizeof(char *));
    qsort(copy, lines->count, sizeof(char *), compare_lines);
    return copy;
}

/* How many lines from `at` on are equal to the first of them. */
static size_t run_of(const char *const *lines, size_t count, size_t at)
{
    size_t end = at;

    while (end < count && strcmp(lines[end], lines[at]) == 0)
        end++;
    return end - at;
}

struct difference {
    struct mr_buf text;
    size_t kinds; /* rows that differ, equal ones once */
    size_t missing;
    size_t unexpected;
};

static void note(struct difference *difference, bool missing, const char *line, size_t times)
{
    if (times == 0)
        return;
    if (missing)
        difference->missing += times;
    else
        difference->unexpected += times;
    if (difference->kinds++ < SHOWN_MAX)
        show_line(&difference->text, missing ? '-' : '+', line, times);
}

static void merge(struct difference *difference, const char *const *have, size_t have_count,
                  const char *const *want, size_t want_count)
{
    size_t h = 0;
    size_t w = 0;

    while (h < have_count || w < want_count) {
        int order = h == have_count ? 1 : w == want_count ? -1 : strcmp(have[h], want[w]);
        size_t have_times = order <= 0 ? run_of(have, have_count, h) : 0;
        size_t want_times = order >= 0 ? run_of(want, want_count, w) : 0;

        if (have_times > want_times)
            note(difference, false, have[h], have_times - want_times);
        else
            note(difference, true, order >= 0 ? want[w] : "", want_times - have_times);
        h += have_times;
        w += want_times;
    }
}

/* Row by row; what follows a row that is missing or too much differs as well. */
static void walk(struct difference *difference, const struct mr_test_lines *have,
                 const struct mr_test_lines *want)
{
    for (size_t i = 0; i < MR_MAX(have->count, want->count); i++) {
        const char *h = i < have->count ? have->lines[i] : NULL;
        const char *w = i < want->count ? want->lines[i] : NULL;

        if (h != NULL && w != NULL && strcmp(h, w) == 0)
            continue;
        if (w != NULL)
            note(difference, true, w, 1);
        if (h != NULL)
            note(difference, false, h, 1);
    }
}

char *mr_testing__difference(const struct mr_test_lines *have, const struct mr_test_lines *want,
                             bool ordered)
{
    struct difference difference = {.text = MR_BUF_INIT};

    if (ordered) {
        walk(&difference, have, want);
    } else {
        const char **h = sorted(have);
        const char **w = sorted(want);

        if (h == NULL || w == NULL)
            mr_buf_add_str(&difference.text, "(no memory for the difference)\n");
        else
            merge(&difference, h, have->count, w, want->count);
        mr_free(h);
        mr_free(w);
    }
    if (difference.text.size == 0) {
        mr_buf_release(&difference.text);
        return NULL;
    }
    if (difference.kinds > SHOWN_MAX)
        mr_buf_printf(&difference.text, "... and %zu more\n", difference.kinds - SHOWN_MAX);
    if (difference.kinds > 0)
        mr_buf_printf(&difference.text,
                      "%zu missing (-), %zu unexpected (+), of %zu expected rows\n",
                      difference.missing, difference.unexpected, want->count);
    return mr_buf_take(&difference.text);
}

static void show_table(struct mr_buf *out, const struct mr_test_lines *lines)
{
    const char **copy = sorted(lines);

    for (size_t i = 0; copy != NULL && i < MR_MIN(lines->count, (size_t)SHOWN_MAX); i++)
        show_line(out, ' ', copy[i], 1);
    mr_free(copy);
    if (lines->count > SHOWN_MAX)
        mr_buf_printf(out, "... and %zu more\n", lines->count - SHOWN_MAX);
}

enum mr_status mr_testing__compare_again(const struct mr_test_rows *first,
                                         const struct mr_test_rows *again, char **ret_text,
                                         struct mr_error *err)
{
    struct mr_test_lines *first_lines = NULL;
    struct mr_test_lines *again_lines = NULL;
    struct mr_buf text = MR_BUF_INIT;
    char *difference = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_testing__lines_of(first, &first_lines, err));
    MR_TRY_GOTO(mr_testing__lines_of(again, &again_lines, err));
    *ret_text = NULL;
    difference = mr_testing__difference(again_lines, first_lines, false);
    if (difference == NULL)
        goto done;
    mr_buf_printf(&text, "the first time, %zu rows:\n", first_lines->count);
    show_table(&text, first_lines);
    mr_buf_printf(&text, "again, %zu rows:\n", again_lines->count);
    show_table(&text, again_lines);
    mr_buf_printf(&text, "from the first to the second:\n%s", difference);
    *ret_text = mr_buf_take(&text);
    if (*ret_text == NULL)
        status = no_memory(err);
done:
    mr_text_free(difference);
    mr_buf_release(&text);
    mr_testing__lines_free(first_lines);
    mr_testing__lines_free(again_lines);
    return status;
}

/* ---- Keys ---- */

struct keyed {
    const char *key;
    size_t number; /* of the row */
    struct mr_row row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    if (order != 0)
        return order;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int compare_numbers(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static bool key_of(struct mr_arena *arena, struct mr_buf *line, const uint32_t *keys,
                   size_t key_count, struct keyed *keyed)
{
    mr_buf_clear(line);
    for (size_t i = 0; i < key_count; i++) {
        if (i > 0)
            mr_buf_add_char(line, SEPARATOR);
        if (!add_value(line, &keyed->row, keys[i]))
            return false;
    }
    keyed->key = mr_arena_copy(arena, line->data != NULL ? line->data : "", line->size);
    return keyed->key != NULL;
}

/* The rows that are left, in one batch. */
static enum mr_status take_rows(const struct keyed *rows, size_t count,
                                struct mr_test_rows *ret_rows, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (count == 0)
        return MR_OK;
    MR_TRY(mr_batch_builder_new(mr_batch_schema(rows[0].row.batch), &builder, err));
    for (size_t i = 0; i < count; i++) {
        const struct mr_row *row = &rows[i].row;

        for (uint32_t k = 0; k < mr_schema_field_count(mr_batch_schema(row->batch)); k++)
            mr_batch_builder_copy(builder, k, mr_batch_column(row->batch, k), row->index);
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, &batch, err);
    if (status == MR_OK)
        status = mr_testing__rows_add(ret_rows, batch, err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr_testing__fold(const struct mr_test_rows *rows, const uint32_t *keys,
                                size_t key_count, struct mr_test_rows *ret_rows,
                                struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_buf line = MR_BUF_INIT;
    struct keyed *all;
    size_t count = 0, kept = 0;
    int64_t room = 1;
    bool ok;
    enum mr_status status;

    for (size_t i = 0; i < rows->count; i++)
        room += mr_batch_row_count(rows->batches[i]);
    all = mr_alloc(NULL, (size_t)room * sizeof(*all));
    ok = all != NULL;
    for (size_t i = 0; i < rows->count && ok; i++) {
        for (int64_t k = 0; k < mr_batch_row_count(rows->batches[i]) && ok; k++) {
            all[count] = (struct keyed){.number = count, .row = {rows->batches[i], k}};
            ok = key_of(&arena, &line, keys, key_count, &all[count]);
            count++;
        }
    }
    if (ok && count > 0)
        qsort(all, count, sizeof(*all), compare_keys);
    for (size_t i = 0; i < count && ok; i++) {
        if (i + 1 == count || strcmp(all[i].key, all[i + 1].key) != 0)
            all[kept++] = all[i];
    }
    if (ok && kept > 0)
        qsort(all, kept, sizeof(*all), compare_numbers);
    status = ok ? take_rows(all, kept, ret_rows, err) : no_memory(err);
    mr_free(all);
    mr_buf_release(&line);
    mr_arena_release(&arena);
    return status;
}
