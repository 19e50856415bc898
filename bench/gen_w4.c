/*
 * Workload W4: text records of 100 bytes, "key(8 hex) space payload", the key one of 1 M by Zipf's
 * law with s = 1.1.
 *
 *     gen_w4 FILES ROWS DIR        DIR/part-00000 ... with ROWS records each
 *
 * A key's number is its rank times an odd constant, so that neighbours in rank are none in the
 * order of keys. Prints rows and bytes.
 */
#include "generate.h"

#include <inttypes.h>
#include <math.h>

enum { KEYS = 1000000, RECORD_BYTES = 100, GUIDES = 1 << 16 };

/* Cumulated probabilities, scaled to 2^32; guide[i]: the first rank with cumulated >= i * 2^16. */
static uint32_t cumulated[KEYS];
static uint32_t guide[GUIDES + 1];

static void make_zipf(void)
{
    double sum = 0, running = 0;
    uint32_t rank = 0;

    for (int i = 1; i <= KEYS; i++)
        sum += pow(i, -1.1);
    for (int i = 1; i <= KEYS; i++) {
        running += pow(i, -1.1);
        cumulated[i - 1] = (uint32_t)(running / sum * 4294967295.0);
    }
    cumulated[KEYS - 1] = UINT32_MAX;
    for (uint32_t i = 0; i < GUIDES; i++) {
        while (cumulated[rank] < i << 16)
            rank++;
        guide[i] = rank;
    }
    guide[GUIDES] = KEYS - 1;
}

static uint32_t draw(struct random *random)
{
    uint32_t at = (uint32_t)(random_next(random) >> 32);
    uint32_t low = guide[at >> 16], high = guide[(at >> 16) + 1];

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (cumulated[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void write_file(struct random *random, uint64_t rows, const char *path, uint64_t *bytes)
{
    static const char digits[] = "0123456789abcdef";
    char record[RECORD_BYTES];
    struct output out;

    for (int i = 0; i < RECORD_BYTES; i++)
        record[i] = (char)('a' + i % 26);
    record[8] = ' ';
    record[RECORD_BYTES - 1] = '\n';
    output_open(&out, path);
    for (uint64_t i = 0; i < rows; i++) {
        uint32_t key = (draw(random) + 1) * UINT32_C(2654435761);

        for (int k = 0; k < 8; k++)
            record[k] = digits[key >> (28 - 4 * k) & 15];
        output_add(&out, record, RECORD_BYTES);
    }
    output_close(&out);
    *bytes += out.bytes;
}

int main(int argc, char **argv)
{
    struct random random = {RANDOM_SEED};
    uint64_t bytes = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: gen_w4 FILES ROWS DIR\n");
        return 64;
    }
    uint64_t files = count_argument(argv[1]), rows = count_argument(argv[2]);
    make_zipf();
    for (uint64_t i = 0; i < files; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/part-%05" PRIu64, argv[3], i);
        write_file(&random, rows, path, &bytes);
    }
    printf("{\"rows\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", files * rows, bytes);
    return 0;
}
