/*
 * Cutting offset ranges (divide.h), as Spark's calculator does:
 *
 *     records_max    a range of n offsets becomes ceil(n / records_max) pieces
 *     pieces_min     when there are fewer pieces than that, each gets its share of the number,
 *                    rounded, at least one; those that would stay whole do, and the others share
 *                    what is left
 *     n pieces       piece i has floor(rest / (n - i)) offsets: the last ones have what is over
 *
 * The pieces follow from the ranges and the options alone, never from what workers do.
 */
#include "sources/kafka/divide.h"

#include "base/check.h"

#include <stdbool.h>

struct pieces {
    struct mr_ksrc_span *items;
    size_t room;
    size_t count;
};

static void add(struct pieces *pieces, const struct mr_ksrc_span *piece)
{
    if (pieces->count < pieces->room)
        pieces->items[pieces->count] = *piece;
    pieces->count++;
}

static int64_t size_of(const struct mr_ksrc_span *range)
{
    return range->until - range->from;
}

/* The index-th of n pieces begins so far behind the range's beginning. */
static int64_t start_of(int64_t size, int64_t n, int64_t index)
{
    int64_t small = size / n;
    int64_t larger = size % n; /* the last ones have one more */
    int64_t first_larger = n - larger;

    return index * small + MR_MAX(index - first_larger, INT64_C(0));
}

static struct mr_ksrc_span piece_of(const struct mr_ksrc_span *range, int64_t n, int64_t index)
{
    int64_t size = size_of(range);

    return (struct mr_ksrc_span){range->partition, range->from + start_of(size, n, index),
                                 range->from + start_of(size, n, index + 1)};
}

/* How many pieces records_max makes of a range. */
static int64_t limited(const struct mr_ksrc_division *division, const struct mr_ksrc_span *range)
{
    if (size_of(range) <= 0)
        return 0;
    if (division->records_max <= 0)
        return 1;
    return (size_of(range) - 1) / division->records_max + 1;
}

/* A piece's share of so many pieces, rounded half up, at least one. */
static int64_t share_of(int64_t size, double total, int64_t pieces)
{
    double share = (double)size / total * (double)pieces + 0.5;

    return MR_MAX((int64_t)share, INT64_C(1));
}

/* What pieces_min does: all sizes together, and those that are cut further. */
struct sharing {
    double total;
    double cut_total;
    int64_t cut_pieces; /* for those that are cut */
    bool on;
};

static struct sharing share(const struct mr_ksrc_division *division,
                            const struct mr_ksrc_span *ranges, size_t count)
{
    struct sharing sharing = {0};
    int64_t pieces = 0, whole = 0;

    for (size_t i = 0; i < count; i++) {
        sharing.total += (double)MR_MAX(size_of(&ranges[i]), INT64_C(0));
        pieces += limited(division, &ranges[i]);
    }
    sharing.on = pieces > 0 && division->pieces_min > pieces;
    if (!sharing.on)
        return sharing;
    for (size_t i = 0; i < count; i++) {
        int64_t n = limited(division, &ranges[i]);

        for (int64_t k = 0; k < n; k++) {
            struct mr_ksrc_span piece = piece_of(&ranges[i], n, k);

            if (share_of(size_of(&piece), sharing.total, division->pieces_min) == 1)
                whole++;
            else
                sharing.cut_total += (double)size_of(&piece);
        }
    }
    sharing.cut_pieces = MR_MAX(division->pieces_min - whole, INT64_C(1));
    return sharing;
}

size_t mr_ksrc_divide(const struct mr_ksrc_division *division, const struct mr_ksrc_span *ranges,
                      size_t count, struct mr_ksrc_span *ret_pieces, size_t room)
{
    struct pieces pieces = {.items = ret_pieces, .room = room};
    struct sharing sharing = share(division, ranges, count);

    for (size_t i = 0; i < count; i++) {
        int64_t n = limited(division, &ranges[i]);

        for (int64_t k = 0; k < n; k++) {
            struct mr_ksrc_span piece = piece_of(&ranges[i], n, k);
            int64_t parts = 1;

            if (sharing.on && share_of(size_of(&piece), sharing.total, division->pieces_min) > 1)
                parts = share_of(size_of(&piece), sharing.cut_total, sharing.cut_pieces);
            for (int64_t j = 0; j < parts; j++) {
                struct mr_ksrc_span part = piece_of(&piece, parts, j);

                if (size_of(&part) > 0)
                    add(&pieces, &part);
            }
        }
    }
    return pieces.count;
}
