/*
 * Offset ranges of a batch -> what its tasks read (structured.md 20.6). Pure. Thread: any.
 */
#ifndef MR_SOURCES_KAFKA_DIVIDE_H
#define MR_SOURCES_KAFKA_DIVIDE_H

#include <stddef.h>
#include <stdint.h>

/* Offsets [from, until) of a partition, which the caller knows by its number. */
struct mr_ksrc_span {
    size_t partition;
    int64_t from;
    int64_t until;
};

struct mr_ksrc_division {
    int64_t records_max; /* of a piece; 0 = no limit */
    int64_t pieces_min;  /* of all ranges together, about; 0 = none */
};

/*
 * Cuts the ranges; those without offsets are left out. Writes at most `room` pieces, in the order
 * of the ranges, and returns how many there are.
 */
size_t mr_ksrc_divide(const struct mr_ksrc_division *division, const struct mr_ksrc_span *ranges,
                      size_t count, struct mr_ksrc_span *ret_pieces, size_t room);

#endif
