/*
 * Statistics: what the batches add up to (dstream.md 15.1), and the report of delays (LS-4).
 *
 * A batch is waiting from its submission to its start, running to its end.  What was received
 * counts when its batch starts, what was processed when it is committed.
 *
 * The report is a listener like any other: its figures belong to the bus thread.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include <millrace/time.h>

#include <stdio.h>
#include <stdlib.h>

void mr__statistics_init(struct mr_statistics *statistics, int64_t interval_ms)
{
    *statistics = (struct mr_statistics){
        .started_ms = -1,
        .interval_ms = interval_ms,
        .last_scheduling_delay_ms = -1,
        .last_processing_delay_ms = -1,
        .last_total_delay_ms = -1,
    };
}

void mr__statistics_submitted(struct mr_statistics *statistics,
                              const struct mr_batch_report *report)
{
    (void)report;
    statistics->waiting_batches++;
}

void mr__statistics_started(struct mr_statistics *statistics, const struct mr_batch_report *report)
{
    MR_ASSERT(statistics->waiting_batches > 0);
    statistics->waiting_batches--;
    statistics->running_batches++;
    statistics->received_records += report->record_count;
}

void mr__statistics_completed(struct mr_statistics *statistics,
                              const struct mr_batch_report *report)
{
    MR_ASSERT(statistics->running_batches > 0);
    statistics->running_batches--;
    statistics->completed_batches++;
    statistics->processed_records += report->record_count;
    statistics->last_scheduling_delay_ms = report->scheduling_delay_ms;
    statistics->last_processing_delay_ms = report->processing_delay_ms;
    statistics->last_total_delay_ms = report->total_delay_ms;
}

void mr__statistics_failed(struct mr_statistics *statistics)
{
    MR_ASSERT(statistics->running_batches > 0);
    statistics->running_batches--;
}

/* ---- the report of delays ---- */

/* Of the last batches, oldest overwritten first. */
struct mr__stats_report {
    uint32_t capacity;
    uint32_t count;
    uint32_t next;
    int64_t *total_ms;
    int64_t *processing_ms;
    int64_t *sorted_ms; /* scratch */
};

static int compare_numbers(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static void print_distribution(struct mr__stats_report *stats, const char *what,
                               const int64_t *values)
{
    static const unsigned percents[] = {0, 25, 50, 75, 100};
    int64_t *sorted = stats->sorted_ms;
    char text[MR_TIME_BYTES];

    for (uint32_t i = 0; i < stats->count; i++)
        sorted[i] = values[i];
    qsort(sorted, stats->count, sizeof(*sorted), compare_numbers);
    fprintf(stderr, "%s of the last %u batches:", what, stats->count);
    for (size_t i = 0; i < MR_ARRAY_SIZE(percents); i++)
        fprintf(stderr, "%s %u%% %s", i > 0 ? "," : "", percents[i],
                mr_duration_print(sorted[(stats->count - 1) * percents[i] / 100], text));
    fputc('\n', stderr);
}

void mr__stats_report_add(void *arg, const struct mr_batch_report *batch)
{
    struct mr__stats_report *stats = arg;

    stats->total_ms[stats->next] = batch->total_delay_ms;
    stats->processing_ms[stats->next] = batch->processing_delay_ms;
    stats->next = (stats->next + 1) % stats->capacity;
    stats->count = MR_MIN(stats->count + 1, stats->capacity);
    print_distribution(stats, "total delay", stats->total_ms);
    print_distribution(stats, "processing time", stats->processing_ms);
}

struct mr__stats_report *mr__stats_report_new(uint32_t batch_count)
{
    struct mr__stats_report *stats = mr_alloc_zero(NULL, sizeof(*stats));

    if (stats == NULL)
        return NULL;
    stats->capacity = batch_count;
    stats->total_ms = mr_alloc_zero(NULL, 3 * (size_t)batch_count * sizeof(int64_t));
    if (stats->total_ms == NULL) {
        mr_free(stats);
        return NULL;
    }
    stats->processing_ms = stats->total_ms + batch_count;
    stats->sorted_ms = stats->processing_ms + batch_count;
    return stats;
}

void mr__stats_report_free(struct mr__stats_report *stats)
{
    if (stats == NULL)
        return;
    mr_free(stats->total_ms);
    mr_free(stats);
}
