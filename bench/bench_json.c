/*
 * How fast the decoders are, on one core, in memory: the Yahoo ads lines of workload W1a as JSON,
 * and short text lines.
 *
 *     bench_json [lines]        default 2,000,000; every case three times, the best counts
 *
 * Prints rows/s, GB/s and a checksum of what was decoded, which must not change between versions.
 */
#include "base/hash.h"

#include "formats/formats_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLICE_BYTES = 1 << 20, ROUNDS = 3, ADS = 1000, USERS = 100 };

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void make_uuid(char text[37])
{
    uint64_t a = next_random();
    uint64_t b = next_random();

    (void)snprintf(text, 37, "%08" PRIx32 "-%04x-4%03x-%04x-%012" PRIx64, (uint32_t)a,
                   (unsigned)(a >> 32) & 0xffff, (unsigned)(a >> 48) & 0xfff,
                   0x8000u | ((unsigned)b & 0x3fff), b >> 16);
}

static char *make_ads(size_t lines, size_t *ret_bytes)
{
    static const char *const kinds[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
    static const char *const events[] = {"view", "click", "purchase"};
    static char users[USERS][37], pages[USERS][37], ads[ADS][37];
    char *data = malloc(lines * 300);
    char *at = data;

    if (data == NULL)
        return NULL;
    for (size_t i = 0; i < USERS; i++) {
        make_uuid(users[i]);
        make_uuid(pages[i]);
    }
    for (size_t i = 0; i < ADS; i++)
        make_uuid(ads[i]);
    for (size_t i = 0; i < lines; i++) {
        uint64_t r = next_random();
        at += snprintf(
            at, 300,
            "{\"user_id\": \"%s\", \"page_id\": \"%s\", \"ad_id\": \"%s\", \"ad_type\": \"%s\", "
            "\"event_type\": \"%s\", \"event_time\": \"%" PRIu64
            "\", \"ip_address\": \"1.2.3.4\"}\n",
            users[r % USERS], pages[(r >> 8) % USERS], ads[(r >> 16) % ADS], kinds[(r >> 32) % 5],
            events[(r >> 40) % 3], UINT64_C(1500000000000) + i / 1000);
    }
    *ret_bytes = (size_t)(at - data);
    return data;
}

/* Numbers, a time and a boolean: what parsing of values costs. */
static char *make_orders(size_t lines, size_t *ret_bytes)
{
    static const char *const cities[] = {"Seoul", "Berlin", "Oslo", "Lima"};
    char *data = malloc(lines * 160);
    char *at = data;

    if (data == NULL)
        return NULL;
    for (size_t i = 0; i < lines; i++) {
        uint64_t r = next_random();
        at += snprintf(at, 160,
                       "{\"id\":%" PRIu64 ",\"city\":\"%s\",\"amount\":%u.%02u,\"paid\":%s,"
                       "\"ts\":\"2026-11-21T10:%02u:%02u.%03uZ\"}\n",
                       r >> 30, cities[r % 4], (unsigned)(r >> 8) % 10000,
                       (unsigned)(r >> 24) % 100, r % 3 == 0 ? "true" : "false",
                       (unsigned)(i / 60000) % 60, (unsigned)(i / 1000) % 60, (unsigned)i % 1000);
    }
    *ret_bytes = (size_t)(at - data);
    return data;
}

static char *make_words(size_t lines, size_t *ret_bytes)
{
    char *data = malloc(lines * 8);

    if (data == NULL)
        return NULL;
    for (size_t i = 0; i < lines; i++) {
        uint64_t r = next_random();
        for (size_t k = 0; k < 7; k++)
            data[i * 8 + k] = (char)('a' + (r >> (k * 5)) % 26);
        data[i * 8 + 7] = '\n';
    }
    *ret_bytes = lines * 8;
    return data;
}

static uint64_t checksum(const struct mr_batch *batch, uint64_t sum)
{
    const struct mr_schema *schema = mr_batch_schema(batch);

    for (uint32_t c = 0; c < mr_schema_field_count(schema); c++) {
        const struct mr_column *column = mr_batch_column(batch, c);
        size_t rows = (size_t)column->length;
        size_t bytes = rows * mr_type_width(column->type->id);
        if (column->type->id == MR_TYPE_BOOL)
            bytes = (rows + 7) / 8;
        else if (column->offsets != NULL)
            bytes = (size_t)(column->offsets[rows] - column->offsets[0]);
        sum = mr_hash(column->values, bytes, sum);
    }
    return sum;
}

struct bench {
    const char *name;
    const struct mr_format *format;
    const char *declared;
    const char *wanted;
    const struct mr_option_pair *pairs;
    size_t pair_count;
};

/* One pass over the data; returns seconds, or -1. */
static double pass(const struct bench *bench, const char *data, size_t size_bytes,
                   uint64_t *ret_rows, uint64_t *ret_sum)
{
    struct mr_option_table table = {"format", bench->format->options, bench->format->option_count};
    const struct mr_option_table *tables[] = {&table};
    struct mr_decoder_args args = {.on_error = MR_ON_ERROR_FAIL};
    struct mr_schema *declared = NULL;
    struct mr_schema *wanted = NULL;
    struct mr_options *options = NULL;
    struct mr_decoder *decoder = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_error err = {0};
    struct mr_position position = {"bench", 1, 0};
    double seconds = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr_schema_parse(bench->declared, strlen(bench->declared), &declared, &err));
    MR_TRY_GOTO(mr_schema_parse(bench->wanted, strlen(bench->wanted), &wanted, &err));
    MR_TRY_GOTO(mr_options_parse(tables, 1, bench->pairs, bench->pair_count, MR_OPTION_SOURCE,
                                 &options, &err));
    args.declared = declared;
    args.schema = wanted;
    args.options = options;
    MR_TRY_GOTO(bench->format->decoder_new(&args, &decoder, &err));
    MR_TRY_GOTO(mr_batch_builder_new(wanted, &builder, &err));
    *ret_rows = 0;
    *ret_sum = 0;
    for (size_t at = 0; at < size_bytes;) {
        size_t bytes = size_bytes - at < SLICE_BYTES ? size_bytes - at : SLICE_BYTES;
        if (at + bytes < size_bytes)
            bytes = (size_t)((const char *)memrchr(data + at, '\n', bytes) - (data + at)) + 1;
        struct mr_batch *batch = NULL;
        double start = now_s();
        MR_TRY_GOTO(bench->format->decode(decoder, (struct mr_slice){data + at, bytes}, &position,
                                          builder, NULL, NULL, &err));
        MR_TRY_GOTO(mr_batch_builder_finish(builder, &batch, &err));
        seconds += now_s() - start;
        *ret_rows += (uint64_t)mr_batch_row_count(batch);
        *ret_sum = checksum(batch, *ret_sum);
        mr_batch_unref(batch);
        position.byte_offset += bytes;
        at += bytes;
    }
done:
    if (status != MR_OK)
        fprintf(stderr, "bench_json: %s: %s\n", bench->name, err.text);
    mr_batch_builder_free(builder);
    if (decoder != NULL)
        bench->format->decoder_free(decoder);
    mr_options_free(options);
    mr_schema_unref(declared);
    mr_schema_unref(wanted);
    return status == MR_OK ? seconds : -1;
}

static int run(const struct bench *bench, const char *data, size_t size_bytes)
{
    double best = 1e9;
    uint64_t rows = 0;
    uint64_t sum = 0;

    for (int i = 0; i < ROUNDS; i++) {
        double seconds = pass(bench, data, size_bytes, &rows, &sum);
        if (seconds < 0)
            return 1;
        best = seconds < best ? seconds : best;
    }
    printf("%-34s %8.2f M rows/s  %6.2f GB/s  %6.1f ns/row  checksum %016" PRIx64 "\n", bench->name,
           (double)rows / best / 1e6, (double)size_bytes / best / 1e9, best * 1e9 / (double)rows,
           sum);
    return 0;
}

int main(int argc, char **argv)
{
    static const char all[] =
        "user_id TEXT, page_id TEXT, ad_id TEXT, ad_type TEXT, event_type TEXT, "
        "event_time TEXT, ip_address TEXT";
    static const struct mr_option_pair epoch[] = {{"coerce_strings", "true"},
                                                  {"timestamp_format", "epoch_ms"}};
    const struct bench ads[] = {
        {"W1a ad_id, event_type, time TEXT", &mr__format_json, all,
         "ad_id TEXT, event_type TEXT, event_time TEXT", NULL, 0},
        {"W1a ad_id, event_type, TIMESTAMP", &mr__format_json, all,
         "ad_id TEXT, event_type TEXT, event_time TIMESTAMP", epoch, 2},
        {"W1a event_type", &mr__format_json, all, "event_type TEXT", NULL, 0},
        {"W1a all columns", &mr__format_json, all, all, NULL, 0},
    };
    static const char order[] = "id BIGINT, city TEXT, amount DOUBLE, paid BOOLEAN, ts TIMESTAMP";
    const struct bench orders = {"orders, five types", &mr__format_json, order, order, NULL, 0};
    const struct bench orders_id = {"orders, id", &mr__format_json, order, "id BIGINT", NULL, 0};
    const struct bench words = {
        "text, 8-byte lines", &mr__format_text, "value TEXT", "value TEXT", NULL, 0};
    size_t lines = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000000;
    size_t size_bytes = 0;
    int failed = 0;

    char *data = make_ads(lines, &size_bytes);
    if (data == NULL)
        return 1;
    for (size_t i = 0; i < sizeof ads / sizeof ads[0]; i++)
        failed |= run(&ads[i], data, size_bytes);
    free(data);
    data = make_orders(lines, &size_bytes);
    if (data == NULL)
        return 1;
    failed |= run(&orders, data, size_bytes);
    failed |= run(&orders_id, data, size_bytes);
    free(data);
    data = make_words(lines * 10, &size_bytes);
    if (data == NULL)
        return 1;
    failed |= run(&words, data, size_bytes);
    free(data);
    return failed;
}
