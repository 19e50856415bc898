/*
 * Times and durations (<millrace/time.h>): the arithmetic of batch times and their texts.
 *
 * Figures are rounded half up with whole numbers, so that no locale and no binary fraction changes
 * a text.  Called by programs, by statistics and by what shows them.  Thread: any.
 */
#include <millrace/time.h>

#include <stdio.h>

int64_t mr_time_floor(int64_t time_ms, int64_t step_ms, int64_t zero_ms)
{
    int64_t rest;

    if (step_ms <= 0)
        return time_ms;
    rest = (time_ms - zero_ms) % step_ms;
    return time_ms - (rest < 0 ? rest + step_ms : rest);
}

bool mr_time_is_multiple(int64_t time_ms, int64_t step_ms)
{
    return step_ms > 0 && time_ms % step_ms == 0;
}

/* Times from from_ms on that are before end_ms. */
static size_t list(int64_t from_ms, int64_t end_ms, int64_t step_ms, int64_t *times,
                   size_t times_max)
{
    size_t count;

    if (step_ms <= 0 || end_ms <= from_ms)
        return 0;
    /* unsigned: the distance of two times may be more than a signed number holds */
    count = (size_t)(((uint64_t)end_ms - (uint64_t)from_ms - 1) / (uint64_t)step_ms + 1);
    for (size_t i = 0; times != NULL && i < times_max && i < count; i++)
        times[i] = from_ms + (int64_t)i * step_ms;
    return count;
}

size_t mr_time_until(int64_t from_ms, int64_t to_ms, int64_t step_ms, int64_t *times,
                     size_t times_max)
{
    return list(from_ms, to_ms, step_ms, times, times_max);
}

size_t mr_time_to(int64_t from_ms, int64_t to_ms, int64_t step_ms, int64_t *times, size_t times_max)
{
    return list(from_ms, to_ms < INT64_MAX ? to_ms + 1 : to_ms, step_ms, times, times_max);
}

const char *mr_time_print(int64_t time_ms, char text[MR_TIME_BYTES])
{
    snprintf(text, MR_TIME_BYTES, "%lld ms", (long long)time_ms);
    return text;
}

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

/* duration in units of unit_ms with 0, 1 or 2 decimals. */
static const char *print_in(int64_t duration_ms, int64_t unit_ms, int decimals, const char *unit,
                            char text[MR_TIME_BYTES])
{
    static const int64_t powers[] = {1, 10, 100};
    int64_t power = powers[decimals];
    /* whole and rest apart: the product would not fit for the longest durations */
    int64_t whole = duration_ms / unit_ms;
    int64_t part = ((duration_ms % unit_ms) * power * 2 + unit_ms) / (unit_ms * 2);

    whole += part / power;
    part %= power;
    if (decimals == 0)
        snprintf(text, MR_TIME_BYTES, "%lld %s", (long long)whole, unit);
    else
        snprintf(text, MR_TIME_BYTES, "%lld.%0*lld %s", (long long)whole, decimals, (long long)part,
                 unit);
    return text;
}

const char *mr_duration_print(int64_t duration_ms, char text[MR_TIME_BYTES])
{
    if (duration_ms < SECOND)
        return mr_time_print(duration_ms, text);
    if (duration_ms < MINUTE)
        return print_in(duration_ms, SECOND, 1, "s", text);
    if (duration_ms < HOUR)
        return print_in(duration_ms, MINUTE, 1, "m", text);
    return print_in(duration_ms, HOUR, 2, "h", text);
}

const char *mr_duration_print_short(int64_t duration_ms, char text[MR_TIME_BYTES])
{
    if (duration_ms < 100)
        return mr_time_print(duration_ms, text);
    if (duration_ms < SECOND)
        return print_in(duration_ms, SECOND, 1, "s", text);
    if (duration_ms < MINUTE)
        return print_in(duration_ms, SECOND, 0, "s", text);
    if (duration_ms < 10 * MINUTE)
        return print_in(duration_ms, MINUTE, 1, "min", text);
    if (duration_ms < HOUR)
        return print_in(duration_ms, MINUTE, 0, "min", text);
    return print_in(duration_ms, HOUR, 1, "h", text);
}

const struct mr_time_unit *mr_duration_unit(int64_t duration_ms)
{
    static const struct mr_time_unit units[] = {
        {"days", DAY}, {"hrs", HOUR}, {"min", MINUTE}, {"sec", SECOND}, {"ms", 1},
    };
    size_t at = 0;

    while (units[at].size_ms > 1 && duration_ms < units[at].size_ms)
        at++;
    return &units[at];
}
