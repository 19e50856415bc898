/*
 * The fewest decimal digits that name a binary floating-point number: used by number_text.c only.
 */
#ifndef MR_BASE_SHORTEST_H
#define MR_BASE_SHORTEST_H

#include <stdbool.h>
#include <stdint.h>

/* digits * 10^exponent; digits may end with zeros. */
struct mr__decimal {
    uint64_t digits;
    int exponent;
};

/*
 * Of all decimals that a correct reader turns into significand * 2^exponent, those with the fewest
 * digits, and of those the nearest to the exact value. significand < 2^53 and > 0, exponent from
 * -1074 to 971. narrow_below: the next smaller number is only half as far away as the next larger
 * one (a power of two that is not the smallest normal one). Thread: any.
 */
struct mr__decimal mr__shortest(uint64_t significand, int exponent, bool narrow_below);

#endif
