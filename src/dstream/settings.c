/*
 * Settings of a context (mr_context_set): one table, by our names and Spark's (dstream.md 20).
 *
 * Each is checked when it is set, so that a mistake has its place; all are applied at start, the
 * last one of a name winning.
 */
#include "dstream/streams.h"

#include <millrace/ext/options.h>

#include <string.h>

static const struct mr_option settings[] = {
    {"block_interval", "spark.streaming.blockInterval", MR_OPTION_DURATION, 0, "200ms", "0ms", "1h",
     "How often a receiver's data becomes a durable block; 0 makes every store durable at once."},
    {"receiver_rate_max", "spark.streaming.receiver.maxRate", MR_OPTION_INT, 0, "0", NULL, NULL,
     "Records a second that one receiver may take in; 0 or less is no limit."},
    {"receiver_restart_delay", "spark.streaming.receiverRestartDelay", MR_OPTION_DURATION, 0, "2s",
     "0ms", "1h", "How long a receiver waits before it connects again."},
    {"receiver_queue_bytes", NULL, MR_OPTION_SIZE, 0, "256 MiB", "64 KiB", NULL,
     "Received and not yet processed; the receiver waits above it."},
    {"graceful_stop_timeout", "spark.streaming.gracefulStopTimeout", MR_OPTION_DURATION, 0, NULL,
     "0ms", NULL,
     "How long a graceful stop may take; 10 batch intervals, at least 10 s, when unset."},
    {"checkpoint", "spark.streaming.checkpoint.directory", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "The checkpoint directory, when mr_context_checkpoint was not called."},
    {"file_remember",
     "spark.streaming.fileStream.minRememberDuration|spark.streaming.minRememberDuration",
     MR_OPTION_DURATION, 0, "60s", "1s", NULL,
     "How old a new file may be and still be read by a file stream."},
    {"workers", NULL, MR_OPTION_INT, 0, "0", "0", "64",
     "Threads that run tasks; 0 is one per core."},
    {"retries", "spark.task.maxFailures", MR_OPTION_INT, 0, "3", "0", "1000",
     "How often a batch is run again after a function failed."},
    {"batches_max", NULL, MR_OPTION_INT, 0, "0", "0", NULL,
     "Stop after that many batches; 0 is never."},
};

static const struct mr_option_table table = {"setting", settings, MR_ARRAY_SIZE(settings)};
static const struct mr_option_table *const tables[] = {&table};

enum mr_status mr__settings_check(const char *key, const char *value, struct mr_error *err)
{
    struct mr_option_pair pair = {key, value};
    struct mr_options *options = NULL;

    /* Spark writes durations as bare milliseconds too; ours have units, so there is no guessing. */
    MR_TRY(mr_options_parse(tables, 1, &pair, 1, 0, &options, err));
    mr_options_free(options);
    return MR_OK;
}

/* The canonical name of a setting, which was checked before. */
static const struct mr_option *find(const char *key)
{
    struct mr_option_pair pair = {key, NULL};

    for (size_t i = 0; i < MR_ARRAY_SIZE(settings); i++) {
        size_t size = strlen(pair.key);
        const char *aliases = settings[i].aliases;

        if (strcmp(settings[i].name, key) == 0)
            return &settings[i];
        for (const char *at = aliases; at != NULL && *at != '\0';) {
            const char *end = strchr(at, '|');
            size_t alias_size = end != NULL ? (size_t)(end - at) : strlen(at);

            if (alias_size == size && strncmp(at, key, size) == 0)
                return &settings[i];
            at = end != NULL ? end + 1 : NULL;
        }
    }
    return NULL;
}

/* The last value of each name: setting one twice is fine. */
static size_t last_values(const struct mr_context *ctx, struct mr_option_pair *pairs)
{
    size_t count = 0;

    for (size_t i = 0; i < ctx->setting_count; i++) {
        const struct mr_option *option = find(ctx->settings[i].key);
        bool is_last = true;

        for (size_t k = i + 1; k < ctx->setting_count && option != NULL; k++)
            is_last &= find(ctx->settings[k].key) != option;
        if (is_last)
            pairs[count++] = ctx->settings[i];
    }
    return count;
}

enum mr_status mr__settings_apply(struct mr_context *ctx, struct mr_error *err)
{
    struct mr_option_pair pairs[MR_DSTREAM_SETTINGS_MAX];
    size_t count = last_values(ctx, pairs);
    struct mr_query_config *config = &ctx->config;
    struct mr_options *options = NULL;
    enum mr_status status = MR_OK;

    MR_TRY(mr_options_parse(tables, 1, pairs, count, 0, &options, err));
    config->block_interval_us = mr_options_int(options, "block_interval");
    config->receiver_rate_max = MR_MAX(mr_options_int(options, "receiver_rate_max"), 0);
    config->restart_delay_us = mr_options_int(options, "receiver_restart_delay");
    config->receiver_queue_bytes = (uint64_t)mr_options_int(options, "receiver_queue_bytes");
    config->stop_timeout_us = MR_MAX(10 * ctx->interval_ms * 1000, INT64_C(10000000));
    if (mr_options_has(options, "graceful_stop_timeout"))
        config->stop_timeout_us = mr_options_int(options, "graceful_stop_timeout");
    if (mr_options_has(options, "workers"))
        config->workers = (unsigned)mr_options_int(options, "workers");
    if (config->workers == 0)
        config->workers = mr_cpu_count();
    config->workers = MR_MIN(config->workers, (unsigned)MR_DSTREAM_WORKERS_MAX);
    if (mr_options_has(options, "retries"))
        config->retries = (uint32_t)mr_options_int(options, "retries");
    if (mr_options_has(options, "batches_max"))
        config->batches_max = (uint64_t)mr_options_int(options, "batches_max");
    ctx->remember_files_us = mr_options_int(options, "file_remember");
    if (ctx->checkpoint_dir == NULL && mr_options_has(options, "checkpoint")) {
        ctx->checkpoint_dir = mr_strdup(mr_options_text(options, "checkpoint"));
        if (ctx->checkpoint_dir == NULL)
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    mr_options_free(options);
    return status;
}
