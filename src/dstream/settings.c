/*
 * Settings of a context (mr_context_set): one table, by our names and Spark's (dstream.md 20).
 *
 *     key = value --check, convert--> (our name, value) --start--> mr_options, mr_query_config
 *
 * Each is checked when it is set, so that a mistake has its place; a later one of the same setting
 * replaces an earlier one.  Under a name of Spark a bare number is a duration in Spark's unit of
 * that key; under ours a duration says its unit, so there is no guessing.  Names of Spark that mean
 * nothing here are accepted, and the log says why.
 *
 * Thread: the building one; options: read-only once the context starts.
 */
#include "dstream/settings.h"

#include "dstream/streams.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#include <millrace/ext/options.h>

#include <string.h>

#define SPARK "spark.streaming."

static const struct mr_option settings[] = {
    {"block_interval", SPARK "blockInterval", MR_OPTION_DURATION, 0, "200ms", "0ms", "1h",
     "How often a receiver's data becomes a durable block; 0 makes every store durable at once."},
    {"receiver_rate_max", SPARK "receiver.maxRate", MR_OPTION_INT, 0, "0", NULL, NULL,
     "Records a second that one receiver may take in; 0 or less is no limit."},
    {"receiver_restart_delay", SPARK "receiverRestartDelay", MR_OPTION_DURATION, 0, "2s", "0ms",
     "1h", "How long a receiver waits before it connects again."},
    {"receiver_queue_bytes", NULL, MR_OPTION_SIZE, 0, "256 MiB", "64 KiB", NULL,
     "Received and not yet processed; the receiver waits above it."},
    {"received_memory", NULL, MR_OPTION_SIZE, 0, "64 MiB", "64 KiB", NULL,
     "Received blocks kept in memory; more is read from the log, or from spill files (storage "
     "levels with disk)."},
    {"received_copy", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "A directory on another disk for a second copy of received blocks."},
    {"memory", NULL, MR_OPTION_SIZE, 0, NULL, "64 MiB", NULL,
     "Memory of the process, the SQL engine and queues included: state beyond its share goes to a "
     "file. Three quarters of the machine's, or of the control group's, when unset."},
    {"spill_dir", "spark.local.dir", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Where state, received blocks and partitions of datasets go that find no room in memory; "
     "TMPDIR when unset, and for state the checkpoint's directory."},
    {"stored_memory", NULL, MR_OPTION_SIZE, 0, "256 MiB", "64 KiB", NULL,
     "Partitions of datasets kept in memory (mr_rdd_persist); the oldest give way, to disk or to "
     "be "
     "computed again."},
    {"backpressure", SPARK "backpressure.enabled", MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "Let the processing time of batches limit what inputs take in."},
    {"backpressure_initial_rate", SPARK "backpressure.initialRate", MR_OPTION_INT, 0, NULL, NULL,
     NULL, "Records a second and input until there is an estimate; receiver_rate_max when unset."},
    {"backpressure_estimator", SPARK "backpressure.rateEstimator", MR_OPTION_ENUM, 0, "pid", "pid",
     NULL, "How a rate is estimated."},
    {"backpressure_proportional", SPARK "backpressure.pid.proportional", MR_OPTION_DOUBLE, 0, "1.0",
     NULL, NULL, "How much the distance of the last rate from the processing speed counts."},
    {"backpressure_integral", SPARK "backpressure.pid.integral", MR_OPTION_DOUBLE, 0, "0.2", NULL,
     NULL, "How much the records that wait count."},
    {"backpressure_derivative", SPARK "backpressure.pid.derived", MR_OPTION_DOUBLE, 0, "0.0", NULL,
     NULL, "How much the change of that distance counts."},
    {"backpressure_rate_min", SPARK "backpressure.pid.minRate", MR_OPTION_DOUBLE, 0, "100", NULL,
     NULL, "Records a second and input that are always let in."},
    {"graceful_stop_timeout", SPARK "gracefulStopTimeout", MR_OPTION_DURATION, 0, NULL, "0ms", NULL,
     "How long a graceful stop may take; 10 batch intervals, at least 10 s, when unset. A batch "
     "that cannot be left even after twice that time ends the program with exit code 70, unless "
     "it waits for a source, which has a time limit of its own."},
    {"stop_gracefully", SPARK "stopGracefullyOnShutdown", MR_OPTION_BOOL, 0, "true", NULL, NULL,
     "The first SIGINT or SIGTERM of mr_context_main stops gracefully; false: at once."},
    {"slow_batch", NULL, MR_OPTION_DURATION, 0, "1m", "1ms", NULL,
     "A batch that runs for so long is told in the log, and again after each further such time."},
    {"batch_timeout", NULL, MR_OPTION_DURATION, 0, NULL, "1ms", NULL,
     "A batch that runs for so long ends the program with exit code 70, naming what it is in; the "
     "next start runs it again. No limit when unset."},
    {"checkpoint", SPARK "checkpoint.directory", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "The checkpoint directory, when mr_context_checkpoint was not called."},
    {"create_on_error", NULL, MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "Put a damaged checkpoint aside (renamed, nothing is deleted) and begin anew."},
    {"file_remember", SPARK "fileStream.minRememberDuration|" SPARK "minRememberDuration",
     MR_OPTION_DURATION, 0, "60s", "1s", NULL,
     "How old a new file may be and still be read by a file stream."},
    {"workers", NULL, MR_OPTION_INT, 0, "0", "0", "64",
     "Threads that run tasks; 0 is one per core. With dynamic_allocation: at the start."},
    {"concurrent_jobs", SPARK "concurrentJobs", MR_OPTION_INT, 0, "1", "1", "64",
     "Outputs of a batch that run at the same time; batches stay one after the other."},
    {"dynamic_allocation", SPARK "dynamicAllocation.enabled", MR_OPTION_BOOL, 0, "false", NULL,
     NULL, "Let the processing time of batches change the number of workers."},
    {"workers_min", SPARK "dynamicAllocation.minExecutors", MR_OPTION_INT, 0, NULL, NULL, NULL,
     "With dynamic_allocation: the fewest workers; one for each receiver when unset."},
    {"workers_max", SPARK "dynamicAllocation.maxExecutors", MR_OPTION_INT, 0, NULL, NULL, NULL,
     "With dynamic_allocation: the most workers; 64 when unset."},
    {"scaling_interval", SPARK "dynamicAllocation.scalingInterval", MR_OPTION_DURATION, 0, "60s",
     NULL, NULL, "With dynamic_allocation: how often the number of workers may change."},
    {"scaling_up_ratio", SPARK "dynamicAllocation.scalingUpRatio", MR_OPTION_DOUBLE, 0, "0.9", NULL,
     NULL, "Processing time to batch interval from which workers are added."},
    {"scaling_down_ratio", SPARK "dynamicAllocation.scalingDownRatio", MR_OPTION_DOUBLE, 0, "0.3",
     NULL, NULL, "Processing time to batch interval up to which a worker is given back."},
    {"engine_dynamic_allocation", "spark.dynamicAllocation.enabled", MR_OPTION_BOOL, 0, "false",
     NULL, NULL, "Spark's other kind of allocation; refused together with dynamic_allocation."},
    {"retries", "spark.task.maxFailures", MR_OPTION_INT, 0, "3", "0", "1000",
     "How often a batch is run again after a function failed; Spark's counts the first run too."},
    {"batches_max", NULL, MR_OPTION_INT, 0, "0", "0", NULL,
     "Stop after that many batches; 0 is never."},
};

static const struct mr_option_table table = {"setting", settings, MR_ARRAY_SIZE(settings)};
static const struct mr_option_table *const tables[] = {&table};

/* Names of Spark that are accepted and change nothing. */
static const struct {
    const char *name; /* ends with '.': all that begin so */
    const char *why;
} meaningless[] = {
    {SPARK "receiver.writeAheadLog.enable",
     "with a checkpoint what is received is always in the write-ahead log"},
    {SPARK "receiver.writeAheadLog.", "the write-ahead log is the kernel's, and cleans itself"},
    {SPARK "driver.writeAheadLog.", "the batch log is the kernel's, and cleans itself"},
    {SPARK "receiver.blockStoreTimeout", "a block is stored or the receiver fails"},
    {SPARK "blockQueueSize", "what waits is limited by receiver_queue_bytes"},
    {SPARK "unpersist", "datasets go when no stream remembers them"},
    {SPARK "stopSparkContextByDefault", "there is no engine behind the context"},
    {SPARK "ui.retainedBatches", "there is no page that shows batches"},
    {SPARK "sessionByKey.deltaChainThreshold", "state is written as the kernel decides"},
    {SPARK "clock", "batches follow the clock of the system"},
    {SPARK "manualClock.jump", "batches follow the clock of the system"},
    {SPARK "dynamicAllocation.testing", "there is no other mode for tests"},
    {SPARK "kafka.", "limits and consumers of Kafka are options of its stream"},
    {SPARK "kinesis.", "retries of Kinesis are options of its stream"},
    {"spark.app.", "a context has the name that the program gives it"},
    {"spark.master", "there is no cluster: a program is one process"},
    {"spark.submit.", "there is no cluster: a program is one process"},
    {"spark.driver.", "there is no cluster: a program is one process"},
    {"spark.executor.", "there is no cluster: a program is one process"},
    {"spark.yarn.", "there is no cluster: a program is one process"},
    {"spark.kubernetes.", "there is no cluster: a program is one process"},
    {"spark.dynamicAllocation.", "workers come and go by dynamic_allocation"},
    {"spark.serializer", "rows have a codec of their own"},
    {"spark.kryo.", "rows have a codec of their own"},
    {"spark.shuffle.", "nothing is shuffled between processes"},
    {"spark.network.", "nothing is sent between processes"},
    {"spark.ui.", "there is no page that shows batches"},
    {"spark.eventLog.", "events go to listeners"},
    {"spark.history.", "events go to listeners"},
    {"spark.hadoop.", "files are read from file systems"},
    {"spark.jars", "a program is one binary"},
};

static const char *why_meaningless(const char *key)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(meaningless); i++) {
        const char *name = meaningless[i].name;
        size_t size = strlen(name);

        if (strcmp(key, name) == 0 || (name[size - 1] == '.' && strncmp(key, name, size) == 0))
            return meaningless[i].why;
    }
    return NULL;
}

/* Is it one of the names between the bars? Without case, as the options are parsed. */
static bool is_alias(const char *aliases, const char *key)
{
    while (aliases != NULL && *aliases != '\0') {
        const char *end = strchr(aliases, '|');
        size_t size = end != NULL ? (size_t)(end - aliases) : strlen(aliases);

        if (mr_text_equal_nocase(aliases, size, key, strlen(key)))
            return true;
        aliases = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static const struct mr_option *find(const char *key)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(settings); i++) {
        if (mr_text_equal_nocase(settings[i].name, strlen(settings[i].name), key, strlen(key)) ||
            is_alias(settings[i].aliases, key))
            return &settings[i];
    }
    return NULL;
}

static bool is_number(const char *value)
{
    return value[0] != '\0' && strspn(value, "0123456789") == strlen(value);
}

/* The value in our terms: new, NULL without memory. */
static char *convert(const struct mr_option *option, const char *key, const char *value)
{
    bool is_sparks = strncmp(key, "spark.", 6) == 0;

    if (is_sparks && option->type == MR_OPTION_DURATION && is_number(value)) {
        bool in_seconds = strcmp(option->name, "file_remember") == 0 ||
                          strcmp(option->name, "scaling_interval") == 0;

        return mr_asprintf("%s%s", value, in_seconds ? "s" : "ms");
    }
    if (is_sparks && strcmp(option->name, "retries") == 0 && is_number(value) &&
        strlen(value) < 9) {
        int64_t runs = 0;

        for (const char *at = value; *at != '\0'; at++)
            runs = runs * 10 + (*at - '0');
        return mr_asprintf("%lld", (long long)(runs - 1)); /* 0 runs is refused as -1 */
    }
    return mr_strdup(value);
}

/* Keeps a setting that was checked; takes value. */
static enum mr_status keep(struct mr_context *ctx, const char *name, char *value,
                           struct mr_error *err)
{
    for (size_t i = 0; i < ctx->setting_count; i++) {
        if (strcmp(ctx->settings[i].key, name) == 0) {
            mr_free((void *)(uintptr_t)ctx->settings[i].value);
            ctx->settings[i].value = value;
            return MR_OK;
        }
    }
    if (ctx->setting_count == MR_DSTREAM_SETTINGS_MAX) {
        mr_free(value);
        return MR_FAIL(err, MR_LIMIT, "at most %d settings", MR_DSTREAM_SETTINGS_MAX);
    }
    ctx->settings[ctx->setting_count++] = (struct mr_option_pair){name, value};
    return MR_OK;
}

enum mr_status mr__settings_set(struct mr_context *ctx, const char *key, const char *value,
                                struct mr_error *err)
{
    struct mr_option_pair pair = {key, value};
    const struct mr_option *option;
    struct mr_options *options = NULL;
    char *converted = NULL;
    const char *why;

    if (key == NULL || value == NULL)
        return MR_FAIL(err, MR_CONFIG, "a setting needs a name and a value");
    option = find(key);
    why = option == NULL ? why_meaningless(key) : NULL;
    if (why != NULL) {
        mr_log(MR_LOG_INFO, "dstream", ctx->name, -1, "setting '%s' has no meaning here: %s", key,
               why);
        return MR_OK;
    }
    if (option != NULL) {
        converted = convert(option, key, value);
        if (converted == NULL)
            return MR_FAIL(err, MR_NOMEM, "out of memory");
        pair.value = converted;
    }
    if (mr_options_parse(tables, 1, &pair, 1, 0, &options, err) != MR_OK) {
        mr_free(converted);
        return err != NULL ? err->status : MR_CONFIG;
    }
    mr_options_free(options);
    MR_ASSERT(option != NULL);
    return keep(ctx, option->name, converted, err);
}

void mr__settings_free(struct mr_context *ctx)
{
    for (size_t i = 0; i < ctx->setting_count; i++)
        mr_free((void *)(uintptr_t)ctx->settings[i].value); /* keys are the table's */
    mr_options_free(ctx->options);
}

static enum mr_status apply_checkpoint(struct mr_context *ctx, struct mr_error *err)
{
    if (ctx->checkpoint_dir != NULL || !mr_options_has(ctx->options, "checkpoint"))
        return MR_OK;
    ctx->checkpoint_dir = mr_strdup(mr_options_text(ctx->options, "checkpoint"));
    return ctx->checkpoint_dir != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

enum mr_status mr__settings_apply(struct mr_context *ctx, struct mr_error *err)
{
    struct mr_query_config *config = &ctx->config;
    const struct mr_options *options;

    MR_TRY(mr_options_parse(tables, 1, ctx->settings, ctx->setting_count, 0, &ctx->options, err));
    options = ctx->options;
    if (mr_options_has(options, "memory"))
        mr_memory_set((uint64_t)mr_options_int(options, "memory"), true);
    config->block_interval_us = mr_options_int(options, "block_interval");
    config->receiver_rate_max = MR_MAX(mr_options_int(options, "receiver_rate_max"), 0);
    config->restart_delay_us = mr_options_int(options, "receiver_restart_delay");
    config->receiver_queue_bytes = (uint64_t)mr_options_int(options, "receiver_queue_bytes");
    config->received_memory_bytes = (uint64_t)mr_options_int(options, "received_memory");
    if (mr_options_has(options, "received_copy"))
        config->received_copy_dir = mr_options_text(options, "received_copy");
    if (mr_options_has(options, "spill_dir"))
        config->spill_dir = mr_options_text(options, "spill_dir");
    config->stop_timeout_us = MR_MAX(10 * ctx->interval_ms * 1000, INT64_C(10000000));
    if (mr_options_has(options, "graceful_stop_timeout"))
        config->stop_timeout_us = mr_options_int(options, "graceful_stop_timeout");
    config->slow_batch_us = mr_options_int(options, "slow_batch");
    if (mr_options_has(options, "batch_timeout"))
        config->batch_timeout_us = mr_options_int(options, "batch_timeout");
    if (mr_options_has(options, "workers"))
        config->workers = (unsigned)mr_options_int(options, "workers");
    if (config->workers == 0)
        config->workers = mr_cpu_count();
    config->workers = MR_MIN(config->workers, (unsigned)MR_DSTREAM_WORKERS_MAX);
    config->concurrent_outputs = (unsigned)mr_options_int(options, "concurrent_jobs");
    if (mr_options_has(options, "retries"))
        config->retries = (uint32_t)mr_options_int(options, "retries");
    if (mr_options_has(options, "batches_max"))
        config->batches_max = (uint64_t)mr_options_int(options, "batches_max");
    ctx->remember_files_us = mr_options_int(options, "file_remember");
    return apply_checkpoint(ctx, err);
}

bool mr__settings_meaningless(size_t index, const char **ret_name, const char **ret_why)
{
    if (index >= MR_ARRAY_SIZE(meaningless))
        return false;
    *ret_name = meaningless[index].name;
    *ret_why = meaningless[index].why;
    return true;
}

const struct mr_option_table *mr__settings_table(void)
{
    return &table;
}
