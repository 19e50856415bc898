/*
 * Inputs made of a corpus: one of it, changed at one to eight places. No feedback, so this finds
 * what is near to the corpus, which libFuzzer made ("make fuzz") to reach every line.
 *
 * Memory comes from the C library: the targets count what is charged to budgets.
 *
 * Called by test_fuzz.c. Thread: one.
 */
#include "fuzz/mutate.h"

#include "base/check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static uint32_t below(struct mutate *mutate, size_t n)
{
    mutate->random ^= mutate->random << 13;
    mutate->random ^= mutate->random >> 7;
    mutate->random ^= mutate->random << 17;
    return (uint32_t)((mutate->random >> 11) % n);
}

/* ---- reading ---- */

static bool add(struct mutate_text **items, size_t *count, const uint8_t *data, size_t size)
{
    struct mutate_text *grown = realloc(*items, (*count + 1) * sizeof **items);

    if (grown == NULL)
        return false;
    *items = grown;
    grown[*count] = (struct mutate_text){malloc(size + 1), size};
    if (grown[*count].data == NULL)
        return false;
    if (size > 0)
        memcpy(grown[*count].data, data, size);
    grown[(*count)++].data[size] = '\0';
    return true;
}

static bool read_file(const char *path, uint8_t **ret_data, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = file == NULL ? NULL : malloc(FILE_BYTES_MAX);

    if (data != NULL) {
        *ret_size = fread(data, 1, FILE_BYTES_MAX, file);
        *ret_data = data;
    }
    if (file != NULL)
        (void)fclose(file);
    return data != NULL;
}

static bool read_corpus(struct mutate *mutate, const char *dir)
{
    struct dirent **names = NULL;
    int count = scandir(dir, &names, NULL, alphasort);
    bool good = true;

    for (int i = 0; i < count; i++) {
        char path[4096 + 256]; /* of dir, and a name */
        uint8_t *data = NULL;
        size_t size = 0;

        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            good = good && read_file(path, &data, &size) &&
                   add(&mutate->inputs, &mutate->input_count, data, size);
        free(data);
        free(names[i]);
    }
    free(names);
    return good;
}

/* "..." with \xNN, \" and \\ inside; what stands before the first quote is a name. */
static bool add_word(struct mutate *mutate, const char *line)
{
    uint8_t word[256];
    size_t size = 0;
    const char *at = strchr(line, '"');

    if (line[0] == '#' || at == NULL)
        return true;
    for (at++; *at != '\0' && *at != '"' && size < sizeof word; at++) {
        if (at[0] == '\\' && at[1] == 'x' && at[2] != '\0' && at[3] != '\0') {
            char digits[3] = {at[2], at[3], '\0'};
            word[size++] = (uint8_t)strtoul(digits, NULL, 16);
            at += 3;
        } else {
            at += *at == '\\' && at[1] != '\0';
            word[size++] = (uint8_t)*at;
        }
    }
    return size == 0 || add(&mutate->words, &mutate->word_count, word, size);
}

static bool read_words(struct mutate *mutate, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[1024];
    bool good = true;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        good = good && add_word(mutate, line);
    if (file != NULL)
        (void)fclose(file);
    return good;
}

bool mutate_open(struct mutate *mutate, const char *fuzz_dir, const char *target, uint64_t seed,
                 const char **ret_why)
{
    static char path[4096];

    memset(mutate, 0, sizeof *mutate);
    mutate->random = seed * 2654435761U + 88172645463325252U;
    *ret_why = path;
    (void)snprintf(path, sizeof path, "%s/dict/%s.dict", fuzz_dir, target);
    if (!read_words(mutate, path))
        return false;
    (void)snprintf(path, sizeof path, "%s/corpus/%s", fuzz_dir, target);
    return read_corpus(mutate, path) &&
           (mutate->input_count > 0 ||
            add(&mutate->inputs, &mutate->input_count, (const uint8_t *)"", 0));
}

void mutate_close(struct mutate *mutate)
{
    for (size_t i = 0; i < mutate->input_count; i++)
        free(mutate->inputs[i].data);
    for (size_t i = 0; i < mutate->word_count; i++)
        free(mutate->words[i].data);
    free(mutate->inputs);
    free(mutate->words);
    memset(mutate, 0, sizeof *mutate);
}

/* ---- changing ---- */

/* Replaces `cut` bytes at `at` by these, as far as there is room. Returns the new size. */
static size_t replace(uint8_t *out, size_t size, size_t at, size_t cut, const uint8_t *data,
                      size_t data_size)
{
    size_t tail = size - at - cut;

    data_size = MR_MIN(data_size, MUTATE_BYTES_MAX - at - tail);
    memmove(out + at + data_size, out + at + cut, tail);
    if (data != NULL && data_size > 0)
        memcpy(out + at, data, data_size);
    return at + data_size + tail;
}

static size_t insert_text(struct mutate *mutate, uint8_t *out, size_t size,
                          const struct mutate_text *text)
{
    size_t at = below(mutate, size + 1);
    size_t from = 0, count = text->size;

    if (text->size > 32) { /* a piece of another input */
        from = below(mutate, text->size);
        count = 1 + below(mutate, text->size - from);
    }
    return replace(out, size, at, below(mutate, 2) == 0 ? 0 : MR_MIN(count, size - at),
                   text->data + from, count);
}

static size_t repeat(struct mutate *mutate, uint8_t *out, size_t size)
{
    uint8_t piece[256];
    size_t from = below(mutate, size);
    size_t count = 1 + below(mutate, MR_MIN(size - from, sizeof piece));

    memcpy(piece, out + from, count);
    return replace(out, size, below(mutate, size + 1), 0, piece, count);
}

static void change_byte(struct mutate *mutate, uint8_t *out, size_t size)
{
    static const uint8_t edges[] = {0,   1,   9,    '\n', '\r', ' ',  '"',  '\\', '0',
                                    '9', '-', 0x7f, 0x80, 0xbf, 0xc0, 0xed, 0xf4, 0xff};
    uint8_t *at = out + below(mutate, size);

    switch (below(mutate, 3)) {
    case 0:
        *at ^= (uint8_t)(1U << below(mutate, 8));
        break;
    case 1:
        *at = edges[below(mutate, sizeof edges)];
        break;
    default:
        *at = (uint8_t)(*at + below(mutate, 9) - 4);
        break;
    }
}

static size_t change(struct mutate *mutate, uint8_t *out, size_t size)
{
    uint32_t how = below(mutate, 8);
    size_t at;

    if (size == 0 || (how == 0 && mutate->word_count == 0))
        return insert_text(mutate, out, size, &mutate->inputs[below(mutate, mutate->input_count)]);
    switch (how) {
    case 0:
    case 1:
        if (mutate->word_count > 0)
            return insert_text(mutate, out, size,
                               &mutate->words[below(mutate, mutate->word_count)]);
        return insert_text(mutate, out, size, &mutate->inputs[below(mutate, mutate->input_count)]);
    case 2:
        return insert_text(mutate, out, size, &mutate->inputs[below(mutate, mutate->input_count)]);
    case 3:
        return repeat(mutate, out, size);
    case 4:
        at = below(mutate, size);
        return replace(out, size, at, 1 + below(mutate, MR_MIN(size - at, 64U)), NULL, 0);
    case 5:
        return below(mutate, 8) == 0 ? below(mutate, size) : size; /* cut the end off */
    default:
        change_byte(mutate, out, size);
        return size;
    }
}

size_t mutate_next(struct mutate *mutate, uint8_t out[MUTATE_BYTES_MAX])
{
    const struct mutate_text *input = &mutate->inputs[below(mutate, mutate->input_count)];
    size_t size = MR_MIN(input->size, (size_t)MUTATE_BYTES_MAX);

    if (size > 0)
        memcpy(out, input->data, size);
    for (uint32_t changes = 1 + below(mutate, 1U << below(mutate, 4)); changes > 0; changes--)
        size = change(mutate, out, size);
    return size;
}
