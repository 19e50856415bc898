/*
 * Workload W1: events of the Yahoo streaming benchmark as JSON lines, 254 bytes on average, and the
 * table ad -> campaign as CSV.
 *
 *     gen_ads ROWS EVENTS.json ADS.csv
 *
 * 100 campaigns of 10 ads, 100 users, 100 pages, 5 ad types, 3 event types, all uniform; event time
 * is in milliseconds, as text, and advances by one every 1,000 events (a million events a second).
 * Prints rows and bytes.
 */
#include "generate.h"

#include <inttypes.h>

enum { CAMPAIGNS = 100, ADS = 1000, USERS = 100, PAGES = 100, UUID_BYTES = 36 };

static const int64_t FIRST_MS = INT64_C(1700000000000);

static void make_uuid(struct random *random, char out[UUID_BYTES + 1])
{
    uint64_t high = random_next(random);
    uint64_t low = random_next(random);

    high = (high & ~UINT64_C(0xf000)) | UINT64_C(0x4000);
    low = (low & ~(UINT64_C(3) << 62)) | UINT64_C(1) << 63;
    snprintf(out, UUID_BYTES + 1,
             "%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%012" PRIx64, high >> 32,
             high >> 16 & 0xffff, high & 0xffff, low >> 48, low & UINT64_C(0xffffffffffff));
}

static char users[USERS][UUID_BYTES + 1];
static char pages[PAGES][UUID_BYTES + 1];
static char ads[ADS][UUID_BYTES + 1];
static char campaigns[CAMPAIGNS][UUID_BYTES + 1];

static void make_names(struct random *random)
{
    for (int i = 0; i < CAMPAIGNS; i++)
        make_uuid(random, campaigns[i]);
    for (int i = 0; i < ADS; i++)
        make_uuid(random, ads[i]);
    for (int i = 0; i < USERS; i++)
        make_uuid(random, users[i]);
    for (int i = 0; i < PAGES; i++)
        make_uuid(random, pages[i]);
}

static void write_ads(const char *path)
{
    struct output out;
    char line[128];

    output_open(&out, path);
    output_add(&out, "ad_id,campaign_id\n", 18);
    for (int i = 0; i < ADS; i++) {
        int size =
            snprintf(line, sizeof(line), "%s,%s\n", ads[i], campaigns[i / (ADS / CAMPAIGNS)]);
        output_add(&out, line, (size_t)size);
    }
    output_close(&out);
}

int main(int argc, char **argv)
{
    static const char *const ad_types[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
    static const char *const event_types[] = {"view", "click", "purchase"};
    struct random random = {RANDOM_SEED};
    struct output out;
    char line[512];

    if (argc != 4) {
        fprintf(stderr, "usage: gen_ads ROWS EVENTS.json ADS.csv\n");
        return 64;
    }
    uint64_t rows = count_argument(argv[1]);
    make_names(&random);
    write_ads(argv[3]);
    output_open(&out, argv[2]);
    for (uint64_t i = 0; i < rows; i++) {
        int size = snprintf(
            line, sizeof(line),
            "{\"user_id\": \"%s\", \"page_id\": \"%s\", \"ad_id\": \"%s\", \"ad_type\": \"%s\", "
            "\"event_type\": \"%s\", \"event_time\": \"%" PRId64
            "\", \"ip_address\": \"1.2.3.4\"}\n",
            users[random_below(&random, USERS)], pages[random_below(&random, PAGES)],
            ads[random_below(&random, ADS)], ad_types[random_below(&random, 5)],
            event_types[random_below(&random, 3)], FIRST_MS + (int64_t)(i / 1000));
        output_add(&out, line, (size_t)size);
    }
    output_close(&out);
    printf("{\"rows\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", rows, out.bytes);
    return 0;
}
