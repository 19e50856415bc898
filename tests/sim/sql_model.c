/*
 * What must come out of the SQL programs of the simulation: loops over all events at once, which
 * share nothing with the engine.
 *
 * Thread: fibers.
 */
#include "sim/sql_program.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

int64_t sql_floor(int64_t value, int64_t step)
{
    return value - ((value % step) + step) % step;
}

void sql_add_to_group(struct rows *want, int64_t first, int64_t second, int64_t v, int64_t max_at)
{
    struct row row = {.values = {first, second, 1, v}};

    for (size_t i = 0; i < want->count; i++) {
        struct row *group = &want->rows[i];

        if (group->values[0] != first || group->values[1] != second)
            continue;
        group->values[2]++;
        group->values[3] += v;
        if (max_at > 0)
            group->values[max_at] = MR_MAX(group->values[max_at], v);
        return;
    }
    if (max_at > 0)
        row.values[max_at] = v;
    rows_add(want, &row);
}

static void model_groups(const struct source *source, struct rows *want)
{
    for (size_t i = 0; i < source->count; i++)
        sql_add_to_group(want, source->events[i].k, 0, source->events[i].v, 4);
    for (size_t i = 0; i < want->count; i++) {
        struct row *row = &want->rows[i];

        *row = (struct row){
            .values = {row->values[0], row->values[2], row->values[3], row->values[4]}};
    }
}

static void model_windows(const struct source *source, int64_t size_us, int64_t slide_us,
                          struct rows *want)
{
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &source->events[i];

        if (event->k == END_KEY)
            continue;
        for (int64_t start = sql_floor(event->ts_us, slide_us); start > event->ts_us - size_us;
             start -= slide_us)
            sql_add_to_group(want, start, event->k, event->v, 0);
    }
}

static int compare_times(const void *a, const void *b)
{
    const struct event *left = a, *right = b;

    if (left->k != right->k)
        return left->k < right->k ? -1 : 1;
    if (left->ts_us != right->ts_us)
        return left->ts_us < right->ts_us ? -1 : 1;
    return 0;
}

static void model_sessions(const struct source *source, int64_t gap_us, struct rows *want)
{
    struct event *sorted = calloc(source->count, sizeof(*sorted));
    struct row *open = NULL;

    MR_ASSERT(sorted != NULL);
    memcpy(sorted, source->events, source->count * sizeof(*sorted));
    qsort(sorted, source->count, sizeof(*sorted), compare_times);
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &sorted[i];

        if (event->k == END_KEY)
            continue;
        if (open == NULL || open->values[0] != event->k || event->ts_us > open->values[2]) {
            struct row row = {.values = {event->k, event->ts_us, event->ts_us + gap_us, 0, 0}};

            rows_add(want, &row);
            open = &want->rows[want->count - 1];
        }
        open->values[2] = event->ts_us + gap_us;
        open->values[3]++;
        open->values[4] += event->v;
    }
    free(sorted);
}

static void model_pairs(const struct program *program, struct rows *want)
{
    const struct source *a = &program->sources[0], *b = &program->sources[1];

    for (size_t i = 0; i < a->count; i++) {
        for (size_t k = 0; k < b->count; k++) {
            const struct event *left = &a->events[i], *right = &b->events[k];
            struct row row = {.values = {left->id, right->id, left->k}};

            if (left->k == right->k && right->ts_us >= left->ts_us &&
                right->ts_us <= left->ts_us + program->bound_us)
                rows_add(want, &row);
        }
    }
}

static void model_rows(const struct source *source, enum shape shape, struct rows *want)
{
    for (size_t i = 0; i < source->count; i++) {
        const struct event *event = &source->events[i];
        struct row row = {
            .values = {event->id, event->k, shape == SHAPE_DEDUP ? event->v : event->v * 3 - 1}};
        bool seen = false;

        if (shape == SHAPE_STATELESS && event->v % 3 == 1)
            continue;
        for (size_t k = 0; shape == SHAPE_DEDUP && k < i; k++)
            seen |= source->events[k].id == event->id;
        if (!seen)
            rows_add(want, &row);
    }
}

void sql_model(const struct program *program, enum shape shape, struct rows *want)
{
    const struct source *source = &program->sources[0];

    if (shape == SHAPE_STATELESS || shape == SHAPE_DEDUP)
        model_rows(source, shape, want);
    else if (shape == SHAPE_UPDATE || shape == SHAPE_COMPLETE)
        model_groups(source, want);
    else if (shape == SHAPE_WINDOWS)
        model_windows(source, program->window_us, program->window_us, want);
    else if (shape == SHAPE_SLIDING)
        model_windows(source, program->window_us, program->slide_us, want);
    else if (shape == SHAPE_SESSIONS)
        model_sessions(source, program->gap_us, want);
    else
        model_pairs(program, want);
}
