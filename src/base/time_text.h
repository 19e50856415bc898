/*
 * Times as text, free of locale and time zone settings: UTC, proleptic Gregorian, ISO 8601. Thread:
 * any.
 */
#ifndef MR_BASE_TIME_TEXT_H
#define MR_BASE_TIME_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_TIME_TEXT_BYTES = 48 };

void mr_civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day);
int64_t mr_days_from_civil(int64_t year, unsigned month, unsigned day);

/* "2026-11-21" */
size_t mr_date_print(int32_t days, char *text);
/* "2026-11-21 10:00:00" plus ".123456" when not zero; nanos: value is in nanoseconds (up to nine
 * digits). */
size_t mr_timestamp_print(int64_t value, bool nanos, char *text);
/* "2026-11-21T10:00:00.123Z": progress and log lines. */
size_t mr_timestamp_print_ms(int64_t value_us, char *text);

bool mr_date_parse(const char *text, size_t size_bytes, int32_t *ret_days);
/*
 * ISO 8601 forms with 'T' or blank, optional seconds, 0-9 fraction digits (or ','), optional Z or
 * +hh[:mm]; a date alone is its midnight. Result in nanoseconds or microseconds (digits past the
 * unit are cut toward minus infinity); false when malformed or out of range, never another instant.
 */
bool mr_timestamp_parse(const char *text, size_t size_bytes, bool nanos, int64_t *ret_value);

#endif
