/*
 * The table of limits as data, for `millrace options --limits`; see limits.h.
 *
 * Public headers cannot include the table, so the constants they have are compared with it here.
 */
#include "base/limits.h"

#include "base/check.h"

#include <millrace/ext/format.h>
#include <millrace/receiver.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

_Static_assert((int)MR_LIMIT_COLUMNS == (int)MR_COLUMNS_MAX, "");
_Static_assert((int)MR_LIMIT_TYPE_DEPTH == (int)MR_TYPE_DEPTH_MAX, "");
_Static_assert((int)MR_LIMIT_NAME == (int)MR_NAME_BYTES_MAX, "");
_Static_assert((int)MR_LIMIT_BAD_RECORD_KEPT == (int)MR_BAD_RAW_BYTES_MAX, "");
_Static_assert((int)MR_LIMIT_RECEIVER_ELEMENT == (int)MR_ELEMENT_BYTES_MAX, "");
_Static_assert((int)MR_LIMIT_RECEIVER_PUT == (int)MR_BLOCK_BYTES_MAX, "");

#define X(name, value, unit, what, option) {#name, (value), MR_UNIT_##unit, what, option},
static const struct mr_limit sql_limits[] = {MR_LIMITS_SQL(X)};
static const struct mr_limit records_limits[] = {MR_LIMITS_RECORDS(X)};
static const struct mr_limit connectors_limits[] = {MR_LIMITS_CONNECTORS(X)};
static const struct mr_limit receivers_limits[] = {MR_LIMITS_RECEIVERS(X)};
static const struct mr_limit batches_limits[] = {MR_LIMITS_BATCHES(X)};
static const struct mr_limit state_limits[] = {MR_LIMITS_STATE(X)};
static const struct mr_limit programs_limits[] = {MR_LIMITS_PROGRAMS(X)};
#undef X

static const struct mr_limit_group groups[] = {
    {"Scripts and commands", sql_limits, MR_ARRAY_SIZE(sql_limits)},
    {"Lines, records and columns", records_limits, MR_ARRAY_SIZE(records_limits)},
    {"Sources and sinks", connectors_limits, MR_ARRAY_SIZE(connectors_limits)},
    {"Receivers", receivers_limits, MR_ARRAY_SIZE(receivers_limits)},
    {"Batches and the log", batches_limits, MR_ARRAY_SIZE(batches_limits)},
    {"State", state_limits, MR_ARRAY_SIZE(state_limits)},
    {"Programs in C", programs_limits, MR_ARRAY_SIZE(programs_limits)},
};

const struct mr_limit_group *mr_limit_group_at(size_t index)
{
    return index < MR_ARRAY_SIZE(groups) ? &groups[index] : NULL;
}

void mr_limit_print(const struct mr_limit *limit, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    int64_t value = limit->value;
    size_t unit = 0;

    if (limit->unit != MR_UNIT_BYTES) {
        snprintf(text, size, "%" PRId64 "%s", value,
                 limit->unit == MR_UNIT_LEVELS ? " levels" : "");
        return;
    }
    while (value % 1024 == 0 && unit + 1 < MR_ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, "%" PRId64 " %s", value, units[unit]);
}
