/*
 * The table behind SET and its way into struct mr_query_config. Called by the planner (plan.c) and
 * by `millrace options`.
 *
 * Thread: any.
 */
#include "sql/settings.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/text.h"

#include <string.h>

static const struct mr_option settings[] = {
    {"trigger", "spark.trigger", MR_OPTION_TEXT, 0, "asap", NULL, NULL,
     "When batches start: an interval such as '1 second', 'asap', 'once', 'until caught up' or "
     "'continuous'."},
    {"checkpoint", "checkpointLocation|spark.sql.streaming.checkpointLocation", MR_OPTION_TEXT,
     MR_OPTION_WRITES, NULL, NULL, NULL,
     "Directory of the checkpoint; without one the query starts anew each time."},
    {"name", "pipeline.name|queryName", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Name of the query in logs and metrics; the name of the first sink when unset."},
    {"output_mode", "outputMode", MR_OPTION_ENUM, 0, NULL, "append|update|complete", NULL,
     "What sinks get of an aggregation; chosen per sink when unset."},
    {"workers", "parallelism|parallelism.default", MR_OPTION_INT, 0, "0", "0", "256",
     "Threads that run tasks; 0 takes the machine's cores."},
    {"watermark_policy", "multipleWatermarkPolicy|spark.sql.streaming.multipleWatermarkPolicy",
     MR_OPTION_ENUM, 0, "min", "min|max", NULL,
     "How the watermarks of several sources become one."},
    {"idle_after", "table.exec.source.idle-timeout|source.idle_timeout", MR_OPTION_DURATION, 0,
     "0 s", "0 s", NULL,
     "Time without new data after which a source no longer holds the watermark back; 0 lets it."},
    {"no_data_batches", "noDataMicroBatches.enabled|spark.sql.streaming.noDataMicroBatches.enabled",
     MR_OPTION_BOOL, 0, "true", NULL, NULL,
     "Whether a batch runs without new data when the watermark closes windows."},
    {"retries", "maxRetries", MR_OPTION_INT, 0, "3", "0", "1000",
     "Attempts of a batch after a failure that may pass."},
    {"unavailable_timeout", NULL, MR_OPTION_DURATION, 0, "2 minutes", "0 s", NULL,
     "How long a peer may be away before the query ends."},
    {"max_batches", "batches_max", MR_OPTION_INT, 0, "0", "0", NULL,
     "Stop after that many batches; 0 goes on."},
    {"retain_batches", "minBatchesToRetain|spark.sql.streaming.minBatchesToRetain", MR_OPTION_INT,
     0, "100", "2", "1000000", "Committed batches kept in the log of the checkpoint."},
    {"on_change", NULL, MR_OPTION_ENUM, 0, "ask", "ask|allow|reject", NULL,
     "When the checkpoint is of another version of the query: ask a person (without a terminal: "
     "stop), go on with whatever is possible, or stop."},
    {"library", NULL, MR_OPTION_TEXT, MR_OPTION_READS, NULL, NULL, NULL,
     "Shared library with functions for SQL; it exports millrace_functions (docs/sql.md)."},
    {"memory", NULL, MR_OPTION_SIZE, 0, NULL, "64 MiB", NULL,
     "Memory of the process, the SQL engine and queues included: state beyond its share goes to a "
     "file. Three quarters of the machine's, or of the control group's, when unset."},
    {"spill_dir", "spark.local.dir", MR_OPTION_TEXT, MR_OPTION_WRITES, NULL, NULL, NULL,
     "Where state goes that finds no room in the memory; the checkpoint's directory when unset, "
     "TMPDIR without one."},
    {"block_interval", "blockInterval|spark.streaming.blockInterval", MR_OPTION_DURATION, 0,
     "200 ms", "0 s", "1 minute", "How often a receiver's input becomes a block of the log."},
    {"receiver_max_rate", "spark.streaming.receiver.maxRate", MR_OPTION_INT, 0, "0", "0", NULL,
     "Records a second and receiver; 0 = no limit."},
    {"stop_timeout", NULL, MR_OPTION_DURATION, 0, NULL, "0 s", NULL,
     "How long a graceful stop may take; ten trigger intervals, at least 10 s, when unset. A batch "
     "that cannot be left even after twice that time ends the program with exit code 70, unless "
     "it waits for a source, which has a time limit of its own."},
    {"slow_batch", NULL, MR_OPTION_DURATION, 0, "1m", "1ms", NULL,
     "A batch that runs for so long is told in the log, and again after each further such time."},
    {"batch_timeout", NULL, MR_OPTION_DURATION, 0, NULL, "1ms", NULL,
     "A batch that runs for so long ends the program with exit code 70, naming what it is in; the "
     "next start runs it again. No limit when unset."},
};

const struct mr_option_table *mr_sql_settings_table(void)
{
    static const struct mr_option_table table = {"SET", settings, MR_ARRAY_SIZE(settings)};

    return &table;
}

/* Letters and digits only, lower case: "Until-Caught up" and "untilCaughtUp" are one word. */
static void squeeze(const char *text, char *word, size_t size)
{
    size_t used = 0;

    for (; *text != '\0' && used + 1 < size; text++) {
        char c = *text;

        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            word[used++] = c;
    }
    word[used] = '\0';
}

/* "CONTINUOUS '1 second'", "realTime(5 minutes)": the word and what follows it; false: another
 * word. */
static bool is_continuous(const char *text, const char **ret_rest)
{
    static const char *const words[] = {"continuous", "realtime"};
    const char *at = text;
    size_t matched = 0;

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        for (at = text, matched = 0; *at != '\0' && words[i][matched] != '\0'; at++) {
            if (*at == ' ' || *at == '-' || *at == '_')
                continue;
            if (words[i][matched] != (*at >= 'A' && *at <= 'Z' ? *at + ('a' - 'A') : *at))
                break;
            matched++;
        }
        if (words[i][matched] == '\0' && strchr(" '(\t", *at) != NULL) {
            *ret_rest = at;
            return true;
        }
    }
    return false;
}

/* A length of time that may stand in quotes or brackets. */
static bool length_us(const char *text, int64_t *ret_us)
{
    char plain[128];
    size_t used = 0;

    for (; *text != '\0' && used + 1 < sizeof(plain); text++)
        plain[used++] = strchr("'()", *text) != NULL ? ' ' : *text;
    plain[used] = '\0';
    return *text == '\0' && mr_parse_duration_us(plain, ret_us);
}

static enum mr_status unknown_trigger(const char *text, struct mr_error *err)
{
    static const char *const names[] = {"asap",          "once",       "until caught up",
                                        "available now", "continuous", "real time"};
    const char *nearest = mr_text_nearest(text, names, MR_ARRAY_SIZE(names));
    const char *months = strstr(text, "month") != NULL || strstr(text, "year") != NULL
                             ? " (months and years have no fixed length)"
                             : "";

    if (nearest != NULL)
        return MR_FAIL(err, MR_CONFIG, "unknown trigger '%s': did you mean '%s'?", text, nearest);
    return MR_FAIL(err, MR_CONFIG,
                   "unknown trigger '%s'%s: use an interval such as '1 second', 'asap', 'once', "
                   "'until caught up' or 'continuous'",
                   text, months);
}

enum mr_status mr_sql_trigger_parse(const char *text, enum mr_trigger_kind *ret_kind,
                                    int64_t *ret_interval_us, struct mr_error *err)
{
    static const struct {
        const char *word;
        enum mr_trigger_kind kind;
    } words[] = {
        {"asap", MR_TRIGGER_ASAP},          {"assoonaspossible", MR_TRIGGER_ASAP},
        {"once", MR_TRIGGER_ONCE},          {"untilcaughtup", MR_TRIGGER_CAUGHT_UP},
        {"caughtup", MR_TRIGGER_CAUGHT_UP}, {"availablenow", MR_TRIGGER_CAUGHT_UP},
    };
    const char *rest;
    char word[64];
    int64_t interval_us;

    squeeze(text, word, sizeof(word));
    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (strcmp(words[i].word, word) == 0) {
            *ret_kind = words[i].kind;
            *ret_interval_us = 0;
            return MR_OK;
        }
    }
    if (is_continuous(text, &rest)) {
        if (strspn(rest, " '()") != strlen(rest) &&
            (!length_us(rest, &interval_us) || interval_us < 0))
            return unknown_trigger(text, err);
        *ret_kind = MR_TRIGGER_CONTINUOUS; /* every batch commits: the length has nothing to add */
        *ret_interval_us = 0;
        return MR_OK;
    }
    if (!mr_parse_duration_us(text, &interval_us) || interval_us < 0)
        return unknown_trigger(text, err);
    *ret_kind = interval_us == 0 ? MR_TRIGGER_ASAP : MR_TRIGGER_INTERVAL;
    *ret_interval_us = interval_us;
    return MR_OK;
}

enum mr_status mr_sql_settings_apply(const struct mr_options *options,
                                     struct mr_query_config *config, struct mr_error *err)
{
    MR_TRY(mr_sql_trigger_parse(mr_options_text(options, "trigger"), &config->trigger,
                                &config->interval_us, err));
    config->name = mr_options_text(options, "name");
    config->checkpoint_dir = mr_options_text(options, "checkpoint");
    config->workers = (unsigned)mr_options_int(options, "workers");
    config->retries = (uint32_t)mr_options_int(options, "retries");
    config->unavailable_us = mr_options_int(options, "unavailable_timeout");
    config->batches_max = (uint64_t)mr_options_int(options, "max_batches");
    config->retain_batches = (uint32_t)mr_options_int(options, "retain_batches");
    config->no_data_batches = mr_options_bool(options, "no_data_batches");
    config->idle_after_us = mr_options_int(options, "idle_after");
    config->watermark_policy_max = strcmp(mr_options_text(options, "watermark_policy"), "max") == 0;
    config->on_change = strcmp(mr_options_text(options, "on_change"), "allow") == 0
                            ? MR_ON_CHANGE_ALLOW
                            : MR_ON_CHANGE_ASK;
    config->block_interval_us = mr_options_int(options, "block_interval");
    /* What arrives becomes a block, and so a batch, at once. */
    if (config->trigger == MR_TRIGGER_CONTINUOUS && !mr_options_has(options, "block_interval"))
        config->block_interval_us = 0;
    config->receiver_rate_max = mr_options_int(options, "receiver_max_rate");
    if (mr_options_has(options, "memory"))
        mr_memory_set((uint64_t)mr_options_int(options, "memory"), true);
    if (mr_options_has(options, "spill_dir"))
        config->spill_dir = mr_options_text(options, "spill_dir");
    config->slow_batch_us = mr_options_int(options, "slow_batch");
    if (mr_options_has(options, "batch_timeout"))
        config->batch_timeout_us = mr_options_int(options, "batch_timeout");
    config->stop_timeout_us = MR_MAX(10 * config->interval_us, INT64_C(10000000));
    if (mr_options_has(options, "stop_timeout"))
        config->stop_timeout_us = mr_options_int(options, "stop_timeout");
    return MR_OK;
}
