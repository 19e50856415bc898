/*
 * What w4_topk must find, computed another way: counts per key and file in plain arrays, windows
 * added up from them, all keys sorted.
 *
 *     w4_check DIR FILES BATCHES
 *
 * Batch i reads file i mod FILES. Prints the checksum that w4_topk prints.
 */
#include "generate.h"

#include <inttypes.h>

enum { SLOTS = 1 << 21, RECORD_BYTES = 100, WINDOW = 30, TOP = 100, FILES_MAX = 16 };

struct key {
    char text[8];
    int used;
    uint32_t counts[FILES_MAX];
    uint64_t window;
};

static struct key *keys;

static struct key *find(const char *text)
{
    uint64_t number = 0;

    for (int i = 0; i < 8; i++)
        number = number * 31 + (unsigned char)text[i];
    for (uint32_t at = (uint32_t)(number * UINT64_C(0x9E3779B97F4A7C15) >> 43);; at++) {
        struct key *key = &keys[at % SLOTS];

        if (!key->used) {
            memcpy(key->text, text, 8);
            key->used = 1;
        }
        if (memcmp(key->text, text, 8) == 0)
            return key;
    }
}

static void read_file(const char *dir, uint64_t number)
{
    char path[4096], record[RECORD_BYTES];
    FILE *file;

    snprintf(path, sizeof(path), "%s/part-%05" PRIu64, dir, number);
    file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "cannot read '%s': %s\n", path, strerror(errno));
        exit(1);
    }
    while (fread(record, sizeof(record), 1, file) == 1)
        find(record)->counts[number]++;
    fclose(file);
}

static int compare(const void *a, const void *b)
{
    const struct key *left = *(struct key *const *)a, *right = *(struct key *const *)b;

    if (left->window != right->window)
        return left->window > right->window ? -1 : 1;
    return memcmp(left->text, right->text, 8);
}

static uint64_t add_line(uint64_t sum, uint64_t batch, const struct key *key)
{
    char line[64];
    int size = snprintf(line, sizeof(line), "%" PRIu64 " %.8s %" PRIu64 "\n", batch, key->text,
                        key->window);

    for (int i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)line[i]) * UINT64_C(1099511628211);
    return sum;
}

static uint64_t add_batch(uint64_t sum, uint64_t batch, uint64_t files, struct key **list,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        list[i]->window = 0;
        for (uint64_t k = 0; k < WINDOW && k <= batch; k++)
            list[i]->window += list[i]->counts[(batch - k) % files];
    }
    qsort(list, count, sizeof(*list), compare);
    for (size_t i = 0; i < count && i < TOP && list[i]->window > 0; i++)
        sum = add_line(sum, batch, list[i]);
    return sum;
}

int main(int argc, char **argv)
{
    struct key **list;
    size_t count = 0;
    uint64_t sum = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: w4_check DIR FILES BATCHES\n");
        return 64;
    }
    uint64_t files = count_argument(argv[2]), batches = count_argument(argv[3]);
    keys = calloc(SLOTS, sizeof(*keys));
    list = calloc(SLOTS, sizeof(struct key *));
    if (keys == NULL || list == NULL || files > FILES_MAX) {
        fprintf(stderr, "w4_check: too much\n");
        free(list);
        return 1;
    }
    for (uint64_t i = 0; i < files; i++)
        read_file(argv[1], i);
    for (size_t i = 0; i < SLOTS; i++) {
        if (keys[i].used)
            list[count++] = &keys[i];
    }
    for (uint64_t batch = 0; batch < batches; batch++)
        sum = add_batch(sum, batch, files, list, count);
    printf("{\"keys\": %zu, \"sum\": \"%016" PRIx64 "\"}\n", count, sum);
    free(list);
    free(keys);
    return 0;
}
