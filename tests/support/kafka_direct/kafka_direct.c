/*
 * A direct Kafka stream for tests/system/test_kafka_direct.py.
 *
 *     kafka_direct KEY=VALUE ...
 *
 *     brokers=... topics=a,b | pattern=... | assign=a/0,a/1     offsets=a/0:11,a/1:2
 *     group=...  reset=latest|earliest|none  rates=a/0:10  binary=1
 *     checkpoint=DIR  interval=100 (ms)  batches=N
 *     commit=1            commits the ranges of each batch; answers are printed
 *     out=DIR             writes the records of each batch into a file of the batch's id
 *     take=N              also prints count, the first record, and the number of the first N
 *     option.KEY=VALUE    an option of the source
 *     set.KEY=VALUE       a setting of the context
 *
 * Prints a line for each batch as JSON:
 *     {"batch":0,"ranges":[["a",0,0,4]],"partitions":[["a/0/0:k=v", ...], ...]}
 */
#include <millrace/kafka.h>
#include <millrace/listener.h>
#include <millrace/rdd.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIST_MAX = 64 };

static struct {
    struct mr_kafka_partition items[LIST_MAX];
    size_t count;
} assigned, offsets, rates;
static const char *options[2 * LIST_MAX + 1];
static size_t option_count;
static struct mr_kafka_direct spec;
static struct mr_dstream *records;
static const char *out_dir;
static bool commits;
static int64_t take;
static uint64_t submitted, started, completed;

__attribute__((noreturn)) static void die(const char *what, const char *text)
{
    fprintf(stderr, "kafka_direct: %s: %s\n", what, text);
    exit(1);
}

/* "a/0:11,b/1" */
static size_t parse_list(char *text, struct mr_kafka_partition *items)
{
    size_t count = 0;
    char *part;

    while ((part = strsep(&text, ",")) != NULL) {
        char *slash = strrchr(part, '/');
        char *colon;

        if (slash == NULL || count == LIST_MAX)
            die("wrong list", part);
        *slash++ = '\0';
        colon = strchr(slash, ':');
        items[count].topic = part;
        items[count].partition = (int32_t)strtol(slash, NULL, 10);
        items[count++].value = colon != NULL ? strtoll(colon + 1, NULL, 10) : 0;
    }
    return count;
}

/* ---- a batch ---- */

static void print_cell(FILE *out, const struct mr_row *row, uint32_t column)
{
    char text[4096];

    mr_row_print(row, column, text, sizeof(text));
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fputc('\\', out);
        fputc(*at, out);
    }
}

static void print_row(FILE *out, const struct mr_row *row)
{
    print_cell(out, row, 0);
    fputc('/', out);
    print_cell(out, row, 1);
    fputc('/', out);
    print_cell(out, row, 2);
    fputc(':', out);
    print_cell(out, row, 4);
    fputc('=', out);
    print_cell(out, row, 5);
    if (!mr_row_is_null(row, 6)) {
        fputc(' ', out);
        print_cell(out, row, 6);
    }
}

/* The rows of every partition. */
static enum mr_status print_partitions(FILE *out, struct mr_rdd *rdd, struct mr_error *err)
{
    for (uint32_t p = 0; p < mr_rdd_partition_count(rdd); p++) {
        struct mr_batch *batch = NULL;

        if (mr_rdd_partition(rdd, p, &batch, err) != MR_OK)
            return err->status;
        fprintf(out, "%s[", p > 0 ? "," : "");
        for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
            fprintf(out, "%s\"", row.index > 0 ? "," : "");
            print_row(out, &row);
            fputc('"', out);
        }
        fputc(']', out);
        mr_batch_unref(batch);
    }
    return MR_OK;
}

static enum mr_status print_taken(struct mr_rdd *rdd, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    int64_t count = 0;

    if (mr_rdd_count(rdd, &count, err) != MR_OK)
        return err->status;
    printf(",\"count\":%lld", (long long)count);
    if (mr_rdd_take(rdd, take, &batch, err) != MR_OK)
        return err->status;
    printf(",\"taken\":%lld", (long long)mr_batch_row_count(batch));
    mr_batch_unref(batch);
    if (count == 0)
        return MR_OK;
    if (mr_rdd_first(rdd, &batch, err) != MR_OK)
        return err->status;
    printf(",\"first\":\"");
    print_row(stdout, &(struct mr_row){batch, 0});
    printf("\"");
    mr_batch_unref(batch);
    return MR_OK;
}

/* The file of a batch, whole or absent: a batch that runs again writes the same one. */
static enum mr_status write_file(struct mr_rdd *rdd, struct mr_error *err)
{
    char path[1024], temporary[1100];
    enum mr_status status;
    FILE *out;

    snprintf(path, sizeof(path), "%s/%06llu", out_dir, (unsigned long long)mr_rdd_batch_id(rdd));
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    out = fopen(temporary, "w");
    if (out == NULL)
        die(temporary, strerror(errno));
    fputc('[', out);
    status = print_partitions(out, rdd, err);
    fputs("]\n", out);
    fflush(out);
    fsync(fileno(out));
    fclose(out);
    if (status == MR_OK && rename(temporary, path) != 0)
        die(path, strerror(errno));
    return status;
}

static void on_commit(void *arg, const struct mr_kafka_range *ranges, size_t count,
                      enum mr_status status, const char *text)
{
    (void)arg;
    for (size_t i = 0; i < count; i++)
        printf("{\"committed\":[\"%s\",%d,%lld],\"status\":\"%s\"}\n", ranges[i].topic,
               ranges[i].partition, (long long)ranges[i].until, status == MR_OK ? "ok" : text);
    fflush(stdout);
}

static enum mr_status on_batch(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                               struct mr_error *err)
{
    struct mr_kafka_range *ranges = NULL;
    size_t count = 0;

    (void)batch_time_ms;
    (void)arg;
    if (mr_kafka_offset_ranges(records, &ranges, &count, err) != MR_OK)
        return err->status;
    printf("{\"batch\":%llu,\"ranges\":[", (unsigned long long)mr_rdd_batch_id(rdd));
    for (size_t i = 0; i < count; i++)
        printf("%s[\"%s\",%d,%lld,%lld]", i > 0 ? "," : "", ranges[i].topic, ranges[i].partition,
               (long long)ranges[i].from, (long long)ranges[i].until);
    printf("],\"partitions\":[");
    if (print_partitions(stdout, rdd, err) != MR_OK)
        return err->status;
    printf("]");
    if (take > 0 && print_taken(rdd, err) != MR_OK)
        return err->status;
    printf("}\n");
    fflush(stdout);
    if (out_dir != NULL && write_file(rdd, err) != MR_OK)
        return err->status;
    if (commits && mr_kafka_commit_async(records, ranges, count, on_commit, NULL, err) != MR_OK)
        return err->status;
    mr_kafka_ranges_free(ranges);
    return MR_OK;
}

/* ---- the program ---- */

static void on_submitted(void *arg, const struct mr_batch_report *batch)
{
    (void)arg;
    submitted += batch->record_count;
}

static void on_started(void *arg, const struct mr_batch_report *batch)
{
    (void)arg;
    started += batch->record_count;
}

static void on_completed(void *arg, const struct mr_batch_report *batch)
{
    (void)arg;
    completed += batch->record_count;
    for (size_t i = 0; i < batch->input_count; i++)
        if (batch->inputs[i].description[0] != '\0')
            fprintf(stderr, "description: %s\n", batch->inputs[i].description);
}

static void set(struct mr_context *ctx, const char *key, char *value)
{
    if (strcmp(key, "brokers") == 0)
        spec.brokers = value;
    else if (strcmp(key, "topics") == 0)
        spec.topics = value;
    else if (strcmp(key, "pattern") == 0)
        spec.topics = value, spec.strategy = MR_KAFKA_PATTERN;
    else if (strcmp(key, "assign") == 0)
        assigned.count = parse_list(value, assigned.items), spec.strategy = MR_KAFKA_ASSIGN;
    else if (strcmp(key, "offsets") == 0)
        offsets.count = parse_list(value, offsets.items);
    else if (strcmp(key, "rates") == 0)
        rates.count = parse_list(value, rates.items);
    else if (strcmp(key, "group") == 0)
        spec.group_id = value;
    else if (strcmp(key, "reset") == 0)
        spec.reset = value[0] == 'l'   ? MR_KAFKA_LATEST
                     : value[0] == 'e' ? MR_KAFKA_EARLIEST
                                       : MR_KAFKA_RESET_NONE;
    else if (strcmp(key, "binary") == 0)
        spec.binary = true;
    else if (strcmp(key, "checkpoint") == 0)
        mr_context_checkpoint(ctx, value);
    else if (strcmp(key, "batches") == 0)
        mr_context_set(ctx, "batches_max", value);
    else if (strcmp(key, "commit") == 0)
        commits = true;
    else if (strcmp(key, "out") == 0)
        out_dir = value;
    else if (strcmp(key, "take") == 0)
        take = strtoll(value, NULL, 10);
    else if (strncmp(key, "set.", 4) == 0)
        mr_context_set(ctx, key + 4, value);
    else if (strncmp(key, "option.", 7) == 0 && option_count + 2 < 2 * LIST_MAX) {
        options[option_count++] = key + 7;
        options[option_count++] = value;
    } else if (strcmp(key, "interval") != 0)
        die("unknown argument", key);
}

static int64_t find_interval(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "interval=", 9) == 0)
            return strtoll(argv[i] + 9, NULL, 10);
    return 100;
}

int main(int argc, char **argv)
{
    struct mr_listener listener = {
        .struct_size = sizeof(listener),
        .batch_submitted = on_submitted,
        .batch_started = on_started,
        .batch_completed = on_completed,
    };
    struct mr_context *ctx = mr_context_new("kafka-direct", find_interval(argc, argv));
    int code;

    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');

        if (equals == NULL)
            die("not KEY=VALUE", argv[i]);
        *equals = '\0';
        set(ctx, argv[i], equals + 1);
    }
    spec.partitions = assigned.items;
    spec.partition_count = assigned.count;
    spec.offsets = offsets.items;
    spec.offset_count = offsets.count;
    spec.rates = rates.items;
    spec.rate_count = rates.count;
    spec.options = options;
    records = mr_kafka_direct_stream(ctx, &spec);
    mr_foreach_rdd(records, on_batch, NULL);
    mr_context_add_listener(ctx, &listener);
    code = mr_context_main(ctx);
    printf("{\"submitted\":%llu,\"started\":%llu,\"completed\":%llu}\n",
           (unsigned long long)submitted, (unsigned long long)started,
           (unsigned long long)completed);
    return code;
}
