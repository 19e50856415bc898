/*
 * Planning of the Kafka source: which offsets belong to the next batch. Partitions of the topics
 * now + first and last offset of each -> where each partition's range ends.
 *
 *     start offset has the partition      begins there; the broker must still have that offset
 *     first plan of a query               begins as option `start` says; noted as "@from"
 *     a partition that appeared           begins at its first offset
 *     a partition that went away          data loss
 *
 * With read_committed (the default) the end is the last stable offset: a transaction that hangs
 * holds it back, and shows as lag.
 *
 * Called by kafka.c. Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

enum { DISCOVERY_INTERVAL_MS = 500 };

/* A topic of the same name is another topic when its id changed, also when it has grown past our
 * offsets. */
enum mr_status mr_ksrc_made_again(struct mr_source *source, const char *topic, struct mr_error *err)
{
    if (topic == NULL)
        return MR_OK;
    if (source->reading.fail_on_data_loss)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "topic '%s' of source '%s' was deleted and made again: what the old one "
                       "still had is gone, and "
                       "offsets of the old one mean nothing in the new one; start with a new "
                       "checkpoint, or set "
                       "fail_on_data_loss = false to go on at the old offsets",
                       topic, source->name);
    mr_ext_log('W', source->name,
               "topic '%s' was deleted and made again; going on at the old offsets", topic);
    return MR_OK;
}

static enum mr_status discover(struct mr_source *source, bool first, struct mr_error *err)
{
    struct mr_ksrc_client *client = &source->reading.planner;
    int64_t now_ns = mr_env_monotonic_ns(client->env);
    struct mr_ksrc_offsets partitions = {0};
    bool answered;
    enum mr_status status;

    if (source->discovered_ns != 0 &&
        now_ns - source->discovered_ns < (int64_t)DISCOVERY_INTERVAL_MS * 1000000)
        return mr_ksrc_client_check(client, err);
    status = mr_ksrc_client_partitions(client, &source->topics, &partitions, err);
    if (status == MR_NOT_FOUND && first)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot read source '%s': a topic of it does not exist at '%s'; create it or "
            "correct 'topic'",
            source->name, client->brokers);
    if (status == MR_NOT_FOUND)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "a topic of source '%s' was deleted at '%s'; make it again and start with a "
                       "new checkpoint",
                       source->name, client->brokers);
    MR_TRY(status);
    mr_ksrc_offsets_release(&source->partitions);
    source->partitions = partitions;
    mr_ksrc_topic_ids_release(&source->ids);
    MR_TRY(mr_ksrc_topic_ids_ask(client, &source->partitions, &source->ids, &answered, err));
    MR_TRY(mr_ksrc_made_again(source, mr_ksrc_history_changed(&source->ids, source->kv), err));
    source->discovered_ns = now_ns;
    return MR_OK;
}

/* Loss found while planning: an error, or a line in the log. */
static enum mr_status lost(struct mr_source *source, const char *topic, int32_t partition,
                           int64_t from, int64_t to, const char *why, struct mr_error *err)
{
    if (source->reading.fail_on_data_loss && !MR_MUTANT("kafka-source.lost.fail"))
        return MR_FAIL(err, MR_DATA_LOSS,
                       "topic '%s' partition %" PRId32 ": offsets %" PRId64 " to %" PRId64
                       " are gone (%s); set fail_on_data_loss = false to go on without them",
                       topic, partition, from, to - 1, why);
    mr_ext_log('W', source->name,
               "topic '%s' partition %" PRId32 ": skipped offsets %" PRId64 " to %" PRId64
               ", which are gone (%s)",
               topic, partition, from, to - 1, why);
    return MR_OK;
}

/* Where a partition begins that the start offset does not have. */
static enum mr_status first_offset(struct mr_source *source, const struct mr_ksrc_offset *item,
                                   bool first_plan, bool known_topic, int64_t low, int64_t high,
                                   int64_t *ret_from, struct mr_error *err)
{
    const char *loss = NULL;
    int64_t wanted = 0;

    if (!first_plan) {
        /* Records that came and went before we saw the partition. A new topic may well begin
         * anywhere. */
        if (known_topic && low > 0 && !MR_MUTANT("kafka-source.first.cut"))
            MR_TRY(lost(source, item->topic, item->partition, 0, low,
                        "it was made and cut while nobody looked", err));
        *ret_from = low;
        return MR_OK;
    }
    MR_TRY(mr_ksrc_begin_at(&source->begin, item, low, high, &loss, &wanted, ret_from, err));
    if (loss != NULL && !MR_MUTANT("kafka-source.first.loss"))
        return lost(source, item->topic, item->partition, MR_MIN(wanted, high), MR_MAX(wanted, low),
                    loss, err);
    return MR_OK;
}

/* Checks a known partition's start against what the broker has now; the end is at least the
 * start. */
static enum mr_status check_known(struct mr_source *source, const struct mr_ksrc_offset *start,
                                  int64_t low, int64_t *high, struct mr_error *err)
{
    if (start->offset < low && !MR_MUTANT("kafka-source.known.begin"))
        MR_TRY(lost(source, start->topic, start->partition, start->offset, low,
                    "the log begins behind them", err));
    if (start->offset > *high && !MR_MUTANT("kafka-source.known.end")) {
        MR_TRY(lost(source, start->topic, start->partition, *high, start->offset,
                    "they were read, but the log ends before them: was the topic made again?",
                    err));
        /* Nothing can be said about this partition until it has grown past our position. */
        *high = start->offset;
    }
    return MR_OK;
}

/* First and last offset of one partition, when the question for all had no answer for it. */
static enum mr_status look_at_one(struct mr_source *source, const struct mr_ksrc_offset *item,
                                  int64_t *low, int64_t *high, int64_t *epoch, struct mr_error *err)
{
    enum mr_status status;

    if (*low >= 0 && *high >= 0)
        return MR_OK;
    *epoch = KSRC_EPOCH_UNKNOWN; /* a later leader may tell this end */
    status = mr_ksrc_client_watermarks(&source->reading.planner, item->topic, item->partition, low,
                                       high, err);
    if (status != MR_NOT_FOUND)
        return status;
    source->discovered_ns = 0; /* deleted since: the next plan looks again */
    return MR_FAIL(err, MR_UNAVAILABLE,
                   "topic '%s' partition %" PRId32 " of source '%s' is not there now", item->topic,
                   item->partition, source->name);
}

/* A partition that was planned before is not there any more. */
static enum mr_status check_gone(struct mr_source *source, const struct mr_ksrc_offset *known,
                                 struct mr_error *err)
{
    if (source->reading.fail_on_data_loss && !MR_MUTANT("kafka-source.gone.fail"))
        return MR_FAIL(err, MR_DATA_LOSS,
                       "topic '%s' partition %" PRId32
                       " was deleted or is no longer subscribed; what came after "
                       "offset %" PRId64
                       " cannot be read; set fail_on_data_loss = false to go on without it",
                       known->topic, known->partition, known->offset - 1);
    mr_ext_log('W', source->name, "topic '%s' partition %" PRId32 " is gone", known->topic,
               known->partition);
    return MR_OK;
}

/* Fills latest with the end of every partition, and its beginning where the start offset has
 * none. */
static enum mr_status look(struct mr_source *source, const struct mr_ksrc_offsets *start,
                           bool first_plan, struct mr_ksrc_offsets *latest, struct mr_error *err)
{
    size_t count = source->partitions.count;
    int64_t *lows = mr_alloc(NULL, (count + 1) * 3 * sizeof(*lows));
    int64_t *highs = lows != NULL ? lows + count : NULL;
    int64_t *epochs = lows != NULL ? highs + count : NULL;
    enum mr_status status = MR_OK;

    if (lows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan Kafka source '%s': out of memory", source->name);
    mr_ksrc_client_all_watermarks(&source->reading.planner, &source->partitions, lows, highs,
                                  epochs);
    for (size_t i = 0; i < count; i++) {
        const struct mr_ksrc_offset *item = &source->partitions.items[i];
        const struct mr_ksrc_offset *known =
            mr_ksrc_offsets_find(start, item->topic, item->partition);
        int64_t from = -1;

        MR_TRY_GOTO(look_at_one(source, item, &lows[i], &highs[i], &epochs[i], err));
        if (known != NULL)
            MR_TRY_GOTO(check_known(source, known, lows[i], &highs[i], err));
        else
            MR_TRY_GOTO(first_offset(source, item, first_plan,
                                     mr_ksrc_offsets_have_topic(start, item->topic), lows[i],
                                     highs[i], &from, err));
        MR_TRY_GOTO(mr_ksrc_offsets_put(latest, item->topic, item->partition, highs[i], from, err));
        ((struct mr_ksrc_offset *)mr_ksrc_offsets_find(latest, item->topic, item->partition))
            ->epoch = epochs[i];
    }
    for (size_t i = 0; i < start->count; i++)
        if (mr_ksrc_offsets_find(latest, start->items[i].topic, start->items[i].partition) == NULL)
            MR_TRY_GOTO(check_gone(source, &start->items[i], err));
done:
    mr_free(lows);
    return status;
}

static int64_t from_of(const struct mr_ksrc_offsets *start, const struct mr_ksrc_offset *item)
{
    const struct mr_ksrc_offset *known = mr_ksrc_offsets_find(start, item->topic, item->partition);

    return known != NULL ? known->offset : item->from;
}

/* structured.md 20.4: each partition's share of the limit is in proportion to what waits in it. */
static void apply_limit(const struct mr_source *source, const struct mr_ksrc_offsets *start,
                        uint64_t bytes_max, struct mr_ksrc_offsets *end)
{
    enum { GUESSED_RECORD_BYTES = 1024 };
    double total = 0, offsets_max = (double)source->offsets_max;
    uint64_t records_max = bytes_max / GUESSED_RECORD_BYTES;

    if (bytes_max > 0 &&
        (offsets_max < 1 || offsets_max * GUESSED_RECORD_BYTES > (double)bytes_max))
        offsets_max = (double)records_max;

    for (size_t i = 0; i < end->count; i++)
        total += (double)MR_MAX(end->items[i].offset - from_of(start, &end->items[i]), INT64_C(0));
    if (offsets_max < 1 || total <= offsets_max)
        return;
    for (size_t i = 0; i < end->count; i++) {
        struct mr_ksrc_offset *item = &end->items[i];
        int64_t from = from_of(start, item);
        int64_t size = item->offset - from;
        double share = offsets_max * (double)size / total;

        if (size > 0)
            item->offset =
                MR_MIN(from + (share < 1 ? 1 : (int64_t)MR_MIN(share, 9e18)), item->offset);
    }
}

/* KD-7. */
static enum mr_status apply_rates(const struct mr_source *source,
                                  const struct mr_ksrc_offsets *start, int64_t rate,
                                  struct mr_ksrc_offsets *end, struct mr_error *err)
{
    struct mr_ksrc_rates rates = source->rates;
    struct mr_ksrc_waiting *waiting;
    int64_t *records;

    rates.rate = rate;
    if (rate <= 0 && source->partition_rate_max == 0 && source->rates_max.count == 0)
        return MR_OK;
    waiting = mr_alloc_zero(NULL, (end->count + 1) * sizeof(*waiting));
    records = mr_alloc_zero(NULL, (end->count + 1) * sizeof(*records));
    if (waiting == NULL || records == NULL) {
        mr_free(waiting);
        mr_free(records);
        return MR_FAIL(err, MR_NOMEM, "cannot plan Kafka source '%s': out of memory", source->name);
    }
    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *item = &end->items[i];
        const struct mr_ksrc_offset *own =
            mr_ksrc_offsets_find(&source->rates_max, item->topic, item->partition);

        waiting[i].lag = item->offset - from_of(start, item);
        waiting[i].rate_max = own != NULL ? own->offset : source->partition_rate_max;
    }
    mr_ksrc_clamp(&rates, waiting, end->count, records);
    for (size_t i = 0; i < end->count; i++)
        if (records[i] >= 0)
            end->items[i].offset =
                MR_MIN(end->items[i].offset, from_of(start, &end->items[i]) + records[i]);
    mr_free(waiting);
    mr_free(records);
    return MR_OK;
}

/* Until caught up: never past the ends that the first plan saw. */
static enum mr_status apply_freeze(struct mr_source *source, struct mr_ksrc_offsets *end,
                                   struct mr_error *err)
{
    if (!source->frozen)
        return MR_OK;
    if (!source->have_frozen) {
        for (size_t i = 0; i < end->count; i++)
            MR_TRY(mr_ksrc_offsets_put(&source->frozen_end, end->items[i].topic,
                                       end->items[i].partition, end->items[i].offset, -1, err));
        source->have_frozen = true;
    }
    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *limit =
            mr_ksrc_offsets_find(&source->frozen_end, end->items[i].topic, end->items[i].partition);

        if (limit != NULL)
            end->items[i].offset = MR_MIN(end->items[i].offset, limit->offset);
        else if (end->items[i].from >= 0)
            end->items[i].offset =
                end->items[i].from; /* appeared after the start: the next run's */
    }
    return MR_OK;
}

static bool anything_new(const struct mr_ksrc_offsets *start, const struct mr_ksrc_offsets *end)
{
    if (start->count == 0 && end->count > 0)
        /* the beginning must be written down, even when there is nothing to read yet */
        return true;
    for (size_t i = 0; i < end->count; i++)
        if (end->items[i].offset > from_of(start, &end->items[i]))
            return true;
    return false;
}

/* Is there enough for a batch (structured.md 20.4), or has it waited long enough? */
static bool is_enough(struct mr_source *source, const struct mr_ksrc_offsets *start,
                      const struct mr_ksrc_offsets *end)
{
    int64_t now_ns = mr_env_monotonic_ns(source->reading.planner.env);
    int64_t offsets = 0;

    for (size_t i = 0; i < end->count; i++)
        offsets += MR_MAX(end->items[i].offset - from_of(start, &end->items[i]), INT64_C(0));
    if (source->offsets_min > 0 && start->count > 0 && !source->frozen &&
        offsets < source->offsets_min &&
        (now_ns - source->planned_ns) / 1000 < source->delay_max_us)
        return false;
    source->planned_ns = now_ns;
    return true;
}

static void never_backward(const struct mr_ksrc_offsets *start, struct mr_ksrc_offsets *end)
{
    /* redundant: check_known raises what ends before the start, and no limit goes below it */
    for (size_t i = 0; i < end->count && !MR_MUTANT("kafka-source.plan.never-backward"); i++)
        end->items[i].offset = MR_MAX(end->items[i].offset, from_of(start, &end->items[i]));
}

enum mr_status mr_ksrc_plan(struct mr_source *source, const char *start,
                            const struct mr_plan_limits *limits, char **ret_end,
                            struct mr_error *err)
{
    struct mr_ksrc_offsets from = {0};
    struct mr_ksrc_offsets end = {0};
    char *latest = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_ksrc_positions_parse(start, &from, err));
    mr_ksrc_commits_turn(&source->commits);
    MR_TRY_GOTO(discover(source, start == NULL, err));
    if (start == NULL)
        MR_TRY_GOTO(
            mr_ksrc_begin_ask(&source->begin, &source->reading.planner, &source->partitions, err));
    MR_TRY_GOTO(look(source, &from, start == NULL, &end, err));
    latest = mr_ksrc_offsets_print(&end);
    mr_ksrc_offsets_release(&source->latest);
    MR_TRY_GOTO(mr_ksrc_offsets_parse(latest, &source->latest, err));
    MR_TRY_GOTO(apply_freeze(source, &end, err));
    if (!limits->ignore) {
        apply_limit(source, &from, limits->bytes_max, &end);
        MR_TRY_GOTO(apply_rates(source, &from, limits->records_max_rate, &end, err));
    }
    never_backward(&from, &end);
    *ret_end = NULL;
    if (anything_new(&from, &end) && (limits->ignore || is_enough(source, &from, &end))) {
        MR_TRY_GOTO(mr_ksrc_history_note(&source->ids, source->kv, &end, err));
        *ret_end = mr_ksrc_offsets_print(&end);
        mr_free(source->planned);
        source->planned = mr_strdup(*ret_end);
        if (*ret_end == NULL)
            status = MR_FAIL(err, MR_NOMEM, "cannot plan Kafka source '%s': out of memory",
                             source->name);
    }
done:
    mr_text_free(latest);
    mr_ksrc_offsets_release(&from);
    mr_ksrc_offsets_release(&end);
    return status;
}
