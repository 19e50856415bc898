/*
 * Source `kafka`: topics of a Kafka cluster, read by ranges that our driver plans (structured.md
 * 20).
 *
 *   plan    partitions of the topics now + first and last offset of each -> where each partition's
 *           range ends
 *   split   one partition of the batch for each topic partition whose range is not empty
 *   read    reader.c
 *
 * Nobody joins a consumer group; the offsets in the checkpoint are the only truth. A direct stream
 * may commit offsets to a group for others to see (commits.c).
 *
 *     start offset has the partition      begins there; the broker must still have that offset
 *     first plan of a query               begins as option `start` says; noted as "@from"
 *     a partition that appeared           begins at its first offset
 *     a partition that went away          data loss
 *
 * With read_committed (the default) the end is the last stable offset: a transaction that hangs
 * holds it back, and shows as lag.
 *
 * Thread: driver, except readers.
 */
#include "sources/kafka/kafka_source.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DISCOVERY_INTERVAL_MS = 500 };

struct mr_source {
    char *name;
    struct mr_ksrc_reading reading;
    struct mr_ksrc_topics topics;
    struct mr_ksrc_begin begin;
    struct mr_ksrc_commits commits;
    int64_t offsets_max;              /* per batch, 0 = no limit */
    int64_t offsets_min;              /* a batch waits for so many, 0 = it does not */
    int64_t delay_max_us;             /* but not longer than that */
    int64_t planned_ns;               /* when there last was something to read */
    int64_t partition_rate_max;       /* records a second of a partition, 0 = no limit */
    struct mr_ksrc_offsets rates_max; /* the same for some partitions, as `offset` */
    struct mr_ksrc_rates rates;
    bool empty_partitions;             /* a range without records is a partition too */
    struct mr_ksrc_division division;  /* of ranges into tasks */
    struct mr_ksrc_offsets partitions; /* as last discovered */
    int64_t discovered_ns;             /* 0 = never */
    struct mr_ksrc_topic_ids ids;      /* of their topics */
    struct mr_kv *kv;                  /* NULL: a static table */
    struct mr_ksrc_offsets latest;     /* end of every partition, as last seen */
    bool frozen;
    bool have_frozen;
    struct mr_ksrc_offsets frozen_end;
};

static const struct mr_option kafka_options[] = {
    {"brokers", "bootstrap|bootstrap.servers|kafka.bootstrap.servers|properties.bootstrap.servers",
     MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL,
     "Brokers to ask first, as host:port with ',' between."},
    {"topic", "subscribe|topics", MR_OPTION_TEXT, 0, NULL, NULL, NULL, "Topics with ',' between."},
    {"topic_pattern", "subscribePattern|subscribe_pattern|topic-pattern", MR_OPTION_TEXT, 0, NULL,
     NULL, NULL, "Topics whose whole name matches this extended regular expression."},
    {"assign", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL, "Partitions as JSON: {\"topic\":[0,1]}."},
    {"start", "startingOffsets|starting_offsets|scan.startup.mode", MR_OPTION_TEXT, 0, "latest",
     NULL, NULL,
     "Where a new query begins: earliest, latest, committed (by 'group_id'), or JSON with every "
     "partition ({\"topic\":{\"0\":23,\"1\":-2}}; -2 earliest, -1 latest)."},
    {"start_timestamp", "startingTimestamp|starting_timestamp|scan.startup.timestamp-millis",
     MR_OPTION_INT, 0, NULL, "0", NULL,
     "A new query begins with the first records that are not older than this time in ms, instead "
     "of 'start'; at the end of partitions that have none."},
    {"start_others", NULL, MR_OPTION_ENUM, 0, "error", "error|earliest|latest|committed", NULL,
     "Where a new query begins in partitions that JSON in 'start' does not name."},
    {"start_reset", NULL, MR_OPTION_ENUM, 0, "latest", "earliest|latest|none", NULL,
     "Where a new query begins in partitions of which the group has committed nothing."},
    {"group_id", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "The consumer group whose committed offsets 'start' = committed reads, and to which a direct "
     "stream commits; nobody joins it."},
    {"fail_on_data_loss", "failOnDataLoss", MR_OPTION_BOOL, 0, "true", NULL, NULL,
     "Stop when offsets that should be read are gone; false skips and logs them."},
    {"max_offsets_per_trigger", "maxOffsetsPerTrigger", MR_OPTION_INT, 0, "0", "0", NULL,
     "At most about this many offsets in a batch, shared in proportion to what waits; 0 sets no "
     "limit."},
    {"min_offsets_per_trigger", "minOffsetsPerTrigger", MR_OPTION_INT, 0, "0", "0", NULL,
     "A batch waits until so many new offsets are there, or max_trigger_delay is over; 0 does not "
     "wait."},
    {"max_trigger_delay", "maxTriggerDelay", MR_OPTION_DURATION, 0, "15m", "0s", NULL,
     "How long min_offsets_per_trigger may hold a batch back."},
    {"max_rate_per_partition", "maxRatePerPartition|spark.streaming.kafka.maxRatePerPartition",
     MR_OPTION_INT, 0, "0", "0", NULL,
     "At most this many records a second of each partition; 0 sets no limit."},
    {"min_rate_per_partition", "minRatePerPartition|spark.streaming.kafka.minRatePerPartition",
     MR_OPTION_INT, 0, "1", "0", NULL,
     "At least this many records of each partition in a batch, when rates limit it."},
    {"max_rates", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "max_rate_per_partition of some partitions, as JSON: {\"topic\":{\"0\":100}}."},
    {"batch_interval", NULL, MR_OPTION_DURATION, 0, "1s", "1ms", NULL,
     "The length of a batch, which rates count for; a direct stream sets it."},
    {"empty_partitions", NULL, MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "A partition of the topic without new records is a partition of the batch too."},
    {"min_partitions", "minPartitions", MR_OPTION_INT, 0, "0", "0", "1024",
     "Cut the ranges of a batch into at least about so many tasks; 0 makes one for each partition "
     "of the topic."},
    {"max_records_per_partition", "maxRecordsPerPartition", MR_OPTION_INT, 0, "0", "0", NULL,
     "Cut what a task reads into pieces of at most so many offsets; 0 sets no limit."},
    {"metadata_columns", NULL, MR_OPTION_TEXT, 0,
     "key,topic,partition,offset,timestamp,timestamp_type", NULL, NULL,
     "Declared columns of these names come from the record's metadata, not from its value."},
    {"connect_timeout", NULL, MR_OPTION_DURATION, 0, "10s", "100ms", "10 minutes",
     "How long one question to the brokers may take before the batch is tried again."},
    {"poll_timeout", NULL, MR_OPTION_DURATION, 0, "30s", "1s", "1 hour",
     "How long a reader waits for records that must come before the batch is tried again."},
    {"kafka.", NULL, MR_OPTION_SECRET_PREFIX, 0, NULL, NULL, NULL,
     "kafka.PROPERTY goes to librdkafka, for example kafka.security.protocol, kafka.sasl.password; "
     "no value is ever printed, and 'file:PATH' takes it from a file."},
};

/* ---- options ---- */

static void kafka_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_ksrc_commits_end(&source->commits);
    mr_ksrc_streams_free(&source->reading);
    mr_ksrc_client_release(&source->reading.client);
    mr_ksrc_client_release(&source->reading.planner);
    mr_ksrc_columns_release(&source->reading.columns);
    mr_ksrc_topics_release(&source->topics);
    mr_ksrc_begin_release(&source->begin);
    mr_ksrc_offsets_release(&source->rates_max);
    mr_ksrc_topic_ids_release(&source->ids);
    mr_ksrc_offsets_release(&source->partitions);
    mr_ksrc_offsets_release(&source->latest);
    mr_ksrc_offsets_release(&source->frozen_end);
    mr_free(source->name);
    mr_free(source);
}

static enum mr_status no_memory(const char *name, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot open Kafka source '%s': out of memory", name);
}

static enum mr_status parse_rates(struct mr_source *source, const struct mr_source_args *args,
                                  struct mr_error *err)
{
    const struct mr_options *options = args->options;
    const char *rates = mr_options_text(options, "max_rates");

    source->offsets_min = mr_options_int(options, "min_offsets_per_trigger");
    source->delay_max_us = mr_options_int(options, "max_trigger_delay");
    source->planned_ns = mr_env_monotonic_ns(args->env);
    source->partition_rate_max = mr_options_int(options, "max_rate_per_partition");
    source->rates.records_min = mr_options_int(options, "min_rate_per_partition");
    source->rates.batch_interval_us = mr_options_int(options, "batch_interval");
    source->empty_partitions = mr_options_bool(options, "empty_partitions");
    source->division.pieces_min = mr_options_int(options, "min_partitions");
    source->division.records_max = mr_options_int(options, "max_records_per_partition");
    if (source->empty_partitions &&
        (source->division.pieces_min > 0 || source->division.records_max > 0))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka source '%s': 'empty_partitions' needs one task for each "
                       "partition; leave min_partitions and max_records_per_partition out",
                       source->name);
    if (rates != NULL && (mr_ksrc_offsets_parse(rates, &source->rates_max, NULL) != MR_OK ||
                          source->rates_max.count == 0))
        return MR_FAIL(err, MR_CONFIG,
                       "wrong option 'max_rates' of source '%s': expected JSON like "
                       "{\"topic\":{\"0\":100}}",
                       source->name);
    return MR_OK;
}

static enum mr_status fill_source(struct mr_source *source, const struct mr_source_args *args,
                                  struct mr_error *err)
{
    const struct mr_options *options = args->options;
    struct mr_source_args named = *args;

    source->name = mr_strdup(args->name);
    if (source->name == NULL)
        return no_memory(args->name, err);
    named.name = source->name;
    atomic_flag_clear(&source->reading.lock);
    source->reading.format = args->format;
    source->reading.options = options;
    source->reading.on_error = args->on_error;
    source->reading.fail_on_data_loss = mr_options_bool(options, "fail_on_data_loss");
    source->reading.stall_timeout_us = mr_options_int(options, "poll_timeout");
    source->offsets_max = mr_options_int(options, "max_offsets_per_trigger");
    source->frozen = args->until_caught_up;
    source->kv = args->kv;
    source->topics.source = source->begin.source = source->name;
    MR_TRY(mr_ksrc_topics_parse(&source->topics, options, err));
    MR_TRY(mr_ksrc_begin_parse(&source->begin, options, err));
    MR_TRY(parse_rates(source, args, err));
    MR_TRY(mr_ksrc_columns_init(&source->reading.columns, &named, err));
    MR_TRY(mr_ksrc_client_open(&source->reading.planner, &named, true, err));
    source->commits.link = source->reading.planner.group_id != NULL ? args->user : NULL;
    source->commits.client = &source->reading.planner;
    return mr_ksrc_client_open(&source->reading.client, &named, false, err);
}

static enum mr_status kafka_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                 struct mr_error *err)
{
    struct mr_source *source;
    enum mr_status status;

    if (args->format == NULL || args->format->whole_files)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open Kafka source '%s': its format must be one of records, such as json",
            args->name);
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return no_memory(args->name, err);
    status = fill_source(source, args, err);
    if (status != MR_OK) {
        kafka_stop(source);
        return status;
    }
    *ret_source = source;
    return MR_OK;
}

/* ---- planning ---- */

/* A topic of the same name is another topic when its id changed, also when it has grown past our
 * offsets. */
static enum mr_status check_ids(struct mr_source *source, struct mr_error *err)
{
    const char *topic =
        source->kv != NULL ? mr_ksrc_topic_ids_changed(&source->ids, source->kv) : NULL;

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
    MR_TRY(mr_ksrc_topic_ids_ask(client, &source->partitions, &source->ids, err));
    MR_TRY(check_ids(source, err));
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
                                  int64_t *low, int64_t *high, struct mr_error *err)
{
    enum mr_status status;

    if (*low >= 0 && *high >= 0)
        return MR_OK;
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
    int64_t *lows = mr_alloc(NULL, (count + 1) * 2 * sizeof(*lows));
    int64_t *highs = lows != NULL ? lows + count : NULL;
    enum mr_status status = MR_OK;

    if (lows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan Kafka source '%s': out of memory", source->name);
    mr_ksrc_client_all_watermarks(&source->reading.planner, &source->partitions, lows, highs);
    for (size_t i = 0; i < count; i++) {
        const struct mr_ksrc_offset *item = &source->partitions.items[i];
        const struct mr_ksrc_offset *known =
            mr_ksrc_offsets_find(start, item->topic, item->partition);
        int64_t from = -1;

        MR_TRY_GOTO(look_at_one(source, item, &lows[i], &highs[i], err));
        if (known != NULL)
            MR_TRY_GOTO(check_known(source, known, lows[i], &highs[i], err));
        else
            MR_TRY_GOTO(first_offset(source, item, first_plan,
                                     mr_ksrc_offsets_have_topic(start, item->topic), lows[i],
                                     highs[i], &from, err));
        MR_TRY_GOTO(mr_ksrc_offsets_put(latest, item->topic, item->partition, highs[i], from, err));
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

    if (bytes_max > 0 &&
        (offsets_max < 1 || offsets_max * GUESSED_RECORD_BYTES > (double)bytes_max))
        offsets_max = (double)(bytes_max / GUESSED_RECORD_BYTES);

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

static enum mr_status kafka_plan(struct mr_source *source, const char *start,
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
        *ret_end = mr_ksrc_offsets_print(&end);
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

/* ---- ranges ---- */

/* NULL: partitions without records count, too, and none is cut. */
static const struct mr_ksrc_division *division_of(const struct mr_source *source)
{
    return source->empty_partitions ? NULL : &source->division;
}

static enum mr_status kafka_split(struct mr_source *source, const char *start, const char *end,
                                  uint32_t *ret_partitions, uint64_t *ret_bytes,
                                  struct mr_error *err)
{
    enum { GUESSED_RECORD_BYTES = 200, PIECES_MAX = 65536 };
    struct mr_ksrc_offsets from = {0};
    struct mr_ksrc_offsets to = {0};
    struct mr_ksrc_range *ranges = NULL;
    size_t count = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr_ksrc_positions_parse(start, &from, err));
    MR_TRY_GOTO(mr_ksrc_positions_parse(end, &to, err));
    MR_TRY_GOTO(mr_ksrc_pieces(&from, &to, division_of(source), &ranges, &count, err));
    if (count > PIECES_MAX) {
        status = MR_FAIL(err, MR_LIMIT,
                         "cannot read Kafka source '%s': a batch of %zu tasks; raise "
                         "max_records_per_partition or set max_offsets_per_trigger",
                         source->name, count);
        goto done;
    }
    *ret_partitions = (uint32_t)count;
    *ret_bytes = 0;
    for (size_t i = 0; i < count; i++)
        *ret_bytes +=
            (uint64_t)MR_MAX(ranges[i].until - ranges[i].from, INT64_C(0)) * GUESSED_RECORD_BYTES;
done:
    mr_free(ranges);
    mr_ksrc_offsets_release(&from);
    mr_ksrc_offsets_release(&to);
    return status;
}

static enum mr_status kafka_read(struct mr_source *source, const char *start, const char *end,
                                 uint32_t partition, struct mr_reader **ret_reader,
                                 struct mr_error *err)
{
    struct mr_ksrc_offsets from = {0};
    struct mr_ksrc_offsets to = {0};
    struct mr_ksrc_range *ranges = NULL;
    size_t count = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr_ksrc_positions_parse(start, &from, err));
    MR_TRY_GOTO(mr_ksrc_positions_parse(end, &to, err));
    MR_TRY_GOTO(mr_ksrc_pieces(&from, &to, division_of(source), &ranges, &count, err));
    if (partition < count)
        status = mr_ksrc_reader_new(&source->reading, &ranges[partition], ret_reader, err);
    else
        status = MR_FAIL(err, MR_INTERNAL,
                         "cannot read Kafka source '%s': the batch has no partition %" PRIu32,
                         source->name, partition);
done:
    mr_free(ranges);
    mr_ksrc_offsets_release(&from);
    mr_ksrc_offsets_release(&to);
    return status;
}

static enum mr_status kafka_remember(struct mr_source *source, const char *start, const char *end,
                                     struct mr_kv *kv, struct mr_error *err)
{
    struct mr_ksrc_offsets to = {0};
    enum mr_status status;

    MR_UNUSED(start);
    MR_TRY(mr_ksrc_offsets_parse(end, &to, err));
    status =
        mr_ksrc_topic_ids_remember(&source->ids, &to, !source->reading.fail_on_data_loss, kv, err);
    mr_ksrc_offsets_release(&to);
    return status;
}

/* ---- progress ---- */

static int64_t behind(const struct mr_source *source, const struct mr_ksrc_offsets *end)
{
    int64_t rows = 0;

    for (size_t i = 0; i < source->latest.count; i++) {
        const struct mr_ksrc_offset *latest = &source->latest.items[i];
        const struct mr_ksrc_offset *at =
            mr_ksrc_offsets_find(end, latest->topic, latest->partition);
        int64_t from = at != NULL ? at->offset : MR_MAX(latest->from, INT64_C(0));

        rows += MR_MAX(latest->offset - from, INT64_C(0));
    }
    return rows;
}

static void kafka_stats(struct mr_source *source, const char *end,
                        struct mr_source_stats *ret_stats)
{
    struct mr_ksrc_offsets at = {0};

    int64_t newest_ms = atomic_load(&source->reading.newest_ms);

    ret_stats->latest_offset = NULL;
    ret_stats->rows_behind = -1;
    if (newest_ms > 0)
        ret_stats->newest_us = newest_ms * 1000;
    if (source->latest.count == 0 || mr_ksrc_offsets_parse(end, &at, NULL) != MR_OK)
        return;
    ret_stats->rows_behind = behind(source, &at);
    for (size_t i = 0; i < source->latest.count; i++)
        source->latest.items[i].from = -1;
    ret_stats->latest_offset = mr_ksrc_offsets_print(&source->latest);
    mr_ksrc_offsets_release(&at);
}

/* KD-6: positions, of which a compacted topic has fewer records. */
static bool kafka_row_count(struct mr_source *source, const char *start, const char *end,
                            uint64_t *ret_rows)
{
    struct mr_ksrc_offsets from = {0};
    struct mr_ksrc_offsets to = {0};
    struct mr_ksrc_range range;
    bool known = mr_ksrc_offsets_parse(start, &from, NULL) == MR_OK &&
                 mr_ksrc_offsets_parse(end, &to, NULL) == MR_OK;

    MR_UNUSED(source);
    *ret_rows = 0;
    for (size_t i = 0; known && mr_ksrc_range_at(&from, &to, false, i, &range); i++)
        *ret_rows += (uint64_t)(range.until - range.from);
    mr_ksrc_offsets_release(&from);
    mr_ksrc_offsets_release(&to);
    return known;
}

static int compare_counts(const void *a, const void *b)
{
    const struct mr_ksrc_range *left = a;
    const struct mr_ksrc_range *right = b;
    int64_t difference = (right->until - right->from) - (left->until - left->from);

    if (difference != 0)
        return difference < 0 ? -1 : 1;
    return left < right ? -1 : 1; /* the order of the ranges */
}

/* KD-6: the ranges that are not empty, largest first. */
static char *kafka_describe(struct mr_source *source, const char *start, const char *end)
{
    struct mr_ksrc_offsets from = {0};
    struct mr_ksrc_offsets to = {0};
    struct mr_ksrc_range *ranges = NULL;
    struct mr_buf text = MR_BUF_INIT;
    size_t count = 0;

    MR_UNUSED(source);
    if (mr_ksrc_offsets_parse(start, &from, NULL) == MR_OK &&
        mr_ksrc_offsets_parse(end, &to, NULL) == MR_OK)
        ranges = mr_alloc_zero(NULL, (to.count + 1) * sizeof(*ranges));
    while (ranges != NULL && count < to.count &&
           mr_ksrc_range_at(&from, &to, false, count, &ranges[count]))
        count++;
    if (count > 1)
        qsort(ranges, count, sizeof(*ranges), compare_counts);
    for (size_t i = 0; i < count; i++)
        mr_buf_printf(&text,
                      "%stopic: %s\tpartition: %" PRId32 "\toffsets: %" PRId64 " to %" PRId64
                      "\tcount: %" PRId64,
                      i > 0 ? "\n" : "", ranges[i].topic, ranges[i].partition, ranges[i].from,
                      ranges[i].until, ranges[i].until - ranges[i].from);
    mr_free(ranges);
    mr_ksrc_offsets_release(&from);
    mr_ksrc_offsets_release(&to);
    return count > 0 ? mr_buf_take(&text) : NULL;
}

static bool kafka_exhausted(struct mr_source *source, const char *end)
{
    struct mr_ksrc_offsets at = {0};
    bool done = source->have_frozen && mr_ksrc_offsets_parse(end, &at, NULL) == MR_OK;

    for (size_t i = 0; i < source->frozen_end.count && done; i++) {
        const struct mr_ksrc_offset *limit = &source->frozen_end.items[i];
        const struct mr_ksrc_offset *reached =
            mr_ksrc_offsets_find(&at, limit->topic, limit->partition);

        done = reached != NULL && reached->offset >= limit->offset;
    }
    mr_ksrc_offsets_release(&at);
    return done;
}

static const struct mr_source_ops kafka_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = kafka_plan,
    .split = kafka_split,
    .read = kafka_read,
    .next = mr_ksrc_reader_next,
    .take_bad = mr_ksrc_reader_take_bad,
    .close = mr_ksrc_reader_close,
    .remember = kafka_remember,
    .stats = kafka_stats,
    .exhausted = kafka_exhausted,
    .stop = kafka_stop,
    .describe = kafka_describe,
    .row_count = kafka_row_count,
};

extern const struct mr_source_connector mr_source_kafka_connector;
const struct mr_source_connector mr_source_kafka_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "kafka",
    .summary = "Reads topics of a Kafka cluster by offset ranges, without a consumer group.",
    .guarantee = "replayable while the brokers keep the records",
    .options = kafka_options,
    .option_count = MR_ARRAY_SIZE(kafka_options),
    .takes_format = true,
    .default_format = "raw",
    .fixed_schema = mr_ksrc_fixed_schema,
    .open = kafka_open,
    .ops = &kafka_ops,
    .checks_columns = true,
};
