/*
 * Workload W3: words, one a line, uniform from a vocabulary of 5,000 words of seven lower-case
 * letters.
 *
 *     gen_words ROWS WORDS.txt
 *
 * Prints rows and bytes.
 */
#include "generate.h"

#include <inttypes.h>

enum { WORDS = 5000, LETTERS = 7, LINE_BYTES = LETTERS + 1 };

int main(int argc, char **argv)
{
    static char words[WORDS][LINE_BYTES];
    struct random random = {RANDOM_SEED};
    struct output out;

    if (argc != 3) {
        fprintf(stderr, "usage: gen_words ROWS WORDS.txt\n");
        return 64;
    }
    uint64_t rows = count_argument(argv[1]);
    for (int i = 0; i < WORDS; i++) {
        for (int k = 0; k < LETTERS; k++)
            words[i][k] = (char)('a' + random_below(&random, 26));
        words[i][LETTERS] = '\n';
    }
    output_open(&out, argv[2]);
    for (uint64_t i = 0; i < rows; i++)
        output_add(&out, words[random_below(&random, WORDS)], LINE_BYTES);
    output_close(&out);
    printf("{\"rows\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", rows, out.bytes);
    return 0;
}
