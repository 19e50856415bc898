/*
 * Source `kafka`: topics of a Kafka cluster, read by ranges that our driver plans (structured.md
 * 20).
 *
 *   plan    plan.c
 *   split   one partition of the batch for each topic partition whose range is not empty
 *   read    reader.c
 *
 * Nobody joins a consumer group; the offsets in the checkpoint are the only truth. A direct stream
 * may commit offsets to a group for others to see (commits.c).
 *
 * Thread: driver, except readers.
 */
#include "sources/kafka/kafka_source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct mr_option kafka_options[] = {
    {"brokers", "bootstrap|bootstrap.servers|kafka.bootstrap.servers|properties.bootstrap.servers",
     MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL,
     "Brokers to ask first, as host:port with ',' between."},
    {"broker_hosts", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Hosts that may be connected to, whatever the brokers name: names, *.names, addresses, and "
     "networks like 10.1.0.0/16, with ',' between; any without it."},
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
    mr_ksrc_offsets_release(&source->reading.epochs);
    mr_free(source->planned);
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

/* ---- ranges ---- */

/* NULL: partitions without records count, too, and none is cut. */
static const struct mr_ksrc_division *division_of(const struct mr_source *source)
{
    return source->empty_partitions ? NULL : &source->division;
}

/*
 * A range that is read again, maybe in another process, much later: are the topics still those of
 * the plan? (The plan itself looked a moment ago.)
 */
static enum mr_status check_again(struct mr_source *source, const struct mr_ksrc_offsets *end,
                                  struct mr_error *err)
{
    struct mr_ksrc_topic_ids now = {NULL, 0};
    bool answered = false;
    enum mr_status status;

    MR_TRY(mr_ksrc_topic_ids_ask(&source->reading.planner, end, &now, &answered, err));
    status = mr_ksrc_client_check(&source->reading.planner, err);
    if (status == MR_OK && !answered && mr_ksrc_history_has_ids(end, source->kv))
        status = mr_ksrc_client_fail(&source->reading.planner, "ask for the ids of topics",
                                     RD_KAFKA_RESP_ERR__TIMED_OUT, err);
    if (status == MR_OK)
        status = mr_ksrc_made_again(source, mr_ksrc_history_recreated(end, &now, source->kv), err);
    mr_ksrc_topic_ids_release(&now);
    return status;
}

/* What the readers of the batch must know of its logs. */
static enum mr_status prepare(struct mr_source *source, const struct mr_ksrc_offsets *start,
                              const struct mr_ksrc_offsets *end, const char *end_text,
                              struct mr_error *err)
{
    struct mr_ksrc_offsets epochs = {0};
    bool planned_now = source->planned != NULL && strcmp(source->planned, end_text) == 0;

    if (source->kv == NULL) /* a static table: there is no batch before */
        return MR_OK;
    mr_free(source->planned);
    source->planned = NULL;
    if (!planned_now)
        MR_TRY(check_again(source, end, err));
    MR_TRY(mr_ksrc_history_epochs(start, end, source->kv, &epochs, err));
    mr_ksrc_reading_set_epochs(&source->reading, &epochs);
    return MR_OK;
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
    MR_TRY_GOTO(prepare(source, &from, &to, end, err));
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
        mr_ksrc_history_remember(&source->ids, &to, !source->reading.fail_on_data_loss, kv, err);
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
    for (size_t i = 0; i < source->latest.count; i++)
        source->latest.items[i].epoch = KSRC_EPOCH_SAME;
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
    .plan = mr_ksrc_plan,
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
