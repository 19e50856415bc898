/*
 * Binary to shortest decimal, after Raffaello Giulietti, "The Schubfach way to render doubles".
 *
 * Called by number_text.c.  With v = c * 2^q, every decimal between the middles to the neighbours
 * of v reads back as v.  k is chosen so that 10^k is the largest power of ten not above the width
 * of that interval: then it holds one to ten multiples of 10^k and at most one of 10^(k+1), which
 * is the answer if it is there.  Comparing needs v / 10^k to two more bits only, if what is cut off
 * is remembered in the last bit ("rounded to odd"); 128 bits of 10^-k are enough for that.
 *
 * The powers, 10^-292 .. 10^324 without the exponent and rounded up, are computed once with plain
 * long arithmetic; a printed table would be 10 KB of numbers that nobody can check by reading.
 *
 * Thread: any.
 */
#include "base/shortest.h"

#include "base/check.h"

#include <pthread.h>
#include <string.h>

__extension__ typedef unsigned __int128 uint128;

enum { POWER_MIN = -292, POWER_MAX = 324, LONG_WORDS = 40 };

struct power {
    uint64_t high;
    uint64_t low;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct power powers[POWER_MAX - POWER_MIN + 1];

/* ---------------------------------------------------------------- the table */

/* A long number, least significant word first. */
struct long_number {
    uint32_t words[LONG_WORDS];
};

static unsigned bit_count(const struct long_number *number)
{
    for (unsigned i = LONG_WORDS; i > 0; i--) {
        if (number->words[i - 1] != 0)
            return 32 * i - (unsigned)__builtin_clz(number->words[i - 1]);
    }
    return 0;
}

static unsigned bit_at(const struct long_number *number, unsigned at)
{
    return (number->words[at / 32] >> (at % 32)) & 1;
}

/* The first 128 bits, one added in the last place when something behind them is cut off. */
static struct power top_of(const struct long_number *number, bool cut_off)
{
    unsigned count = bit_count(number);
    uint128 top = 0;

    for (unsigned i = 0; i < 128; i++)
        top = (top << 1) | (i < count ? bit_at(number, count - 1 - i) : 0);
    for (unsigned i = 128; i < count; i++)
        cut_off = cut_off || bit_at(number, count - 1 - i) != 0;
    top += cut_off ? 1 : 0;
    return (struct power){(uint64_t)(top >> 64), (uint64_t)top};
}

static void multiply_by_ten(struct long_number *number)
{
    uint64_t carry = 0;

    for (unsigned i = 0; i < LONG_WORDS; i++) {
        carry += (uint64_t)number->words[i] * 10;
        number->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    MR_ASSERT(carry == 0);
}

static void divide_by_ten(struct long_number *number)
{
    uint64_t rest = 0;

    for (unsigned i = LONG_WORDS; i > 0; i--) {
        rest = (rest << 32) | number->words[i - 1];
        number->words[i - 1] = (uint32_t)(rest / 10);
        rest %= 10;
    }
}

/* Positive powers are exact; a negative one is a large power of two divided, never exact. */
static void make_table(void)
{
    struct long_number number = {{1}};

    for (int k = 0; k <= POWER_MAX; k++) {
        powers[k - POWER_MIN] = top_of(&number, false);
        if (k < POWER_MAX)
            multiply_by_ten(&number);
    }
    memset(&number, 0, sizeof(number));
    number.words[LONG_WORDS - 1] = 1;
    for (int k = -1; k >= POWER_MIN; k--) {
        divide_by_ten(&number);
        powers[k - POWER_MIN] = top_of(&number, true);
    }
}

/* ---------------------------------------------------------------- the conversion */

/* floor of log2(10^k), log10(2^q) and log10(3/4 * 2^q): fixed-point, exact in the range of use. */
static int log2_of_power10(int k)
{
    return (k * 1741647) >> 19;
}

static int log10_of_power2(int q, bool narrow_below)
{
    return (q * 1262611 - (narrow_below ? 524031 : 0)) >> 22;
}

/* floor(power * factor / 2^128), its last bit set when something was cut off. */
static uint64_t round_to_odd(struct power power, uint64_t factor)
{
    uint128 low = (uint128)power.low * factor;
    uint128 high = (uint128)power.high * factor + (uint64_t)(low >> 64);

    return (uint64_t)(high >> 64) | ((uint64_t)high > 1 ? 1 : 0);
}

struct mr__decimal mr__shortest(uint64_t significand, int exponent, bool narrow_below)
{
    /* Everything in quarters of the last place, so that the middles to the neighbours are whole. */
    uint64_t quarters = 4 * significand;
    uint64_t open = significand & 1; /* the middles read back as the even neighbour */
    int k = log10_of_power2(exponent, narrow_below);
    int shift = exponent + log2_of_power10(-k) + 1;
    struct power power;
    uint64_t value;
    uint64_t lower;
    uint64_t upper;
    uint64_t digits;

    MR_ASSERT(significand > 0 && -k >= POWER_MIN && -k <= POWER_MAX && shift >= 0);
    pthread_once(&once, make_table);
    power = powers[-k - POWER_MIN];
    value = round_to_odd(power, quarters << shift);
    lower = round_to_odd(power, (quarters - (narrow_below ? 1 : 2)) << shift) + open;
    upper = round_to_odd(power, (quarters + 2) << shift) - open;
    digits = value / 4;
    if (digits >= 10) {
        uint64_t tens = digits / 10;
        bool below = lower <= 40 * tens;
        bool above = 40 * tens + 40 <= upper;

        if (below != above)
            return (struct mr__decimal){tens + (above ? 1 : 0), k + 1};
    }
    if ((lower <= 4 * digits) != (4 * digits + 4 <= upper))
        return (struct mr__decimal){digits + (4 * digits + 4 <= upper ? 1 : 0), k};
    if (value > 4 * digits + 2 || (value == 4 * digits + 2 && (digits & 1) != 0))
        digits++;
    return (struct mr__decimal){digits, k};
}
