/*
 * The model of Nexmark's auction site: what event n is, as a pure function of n.
 *
 * Of 50 events one is a new person, three are new auctions, 46 are bids. Ids count from 1000. Most
 * bids go to few auctions, most auctions come from few sellers. Every value is drawn from (seed,
 * event, field) alone, so any range of events can be made by itself, by any thread, and columns
 * that nobody reads cost nothing.
 *
 * Thread: any; nothing here changes.
 */
#ifndef MR_SOURCES_NEXMARK_H
#define MR_SOURCES_NEXMARK_H

#include <millrace/batch.h>

enum mr_nex_table { MR_NEX_PERSON, MR_NEX_AUCTION, MR_NEX_BID };

enum {
    MR_NEX_EPOCH = 50, /* events in which each table gets its share */
    MR_NEX_PERSONS = 1,
    MR_NEX_AUCTIONS = 3,
    MR_NEX_BIDS = 46,
};

struct mr_nex_model {
    uint64_t seed;
    int64_t start_us;       /* time of event 0 */
    int64_t inter_event_ns; /* of event time */
};

/* Columns of a table, in order; static text for mr_schema_parse. */
const char *mr_nex_columns(enum mr_nex_table table);
/* Rows of a table among the events [0, events). */
int64_t mr_nex_rows_before(enum mr_nex_table table, int64_t events);
/* The event that is row `row` of a table. */
int64_t mr_nex_event_of(enum mr_nex_table table, int64_t row);
/* Appends rows [from, from + count) of a table to a builder that has some of its columns: fields[i]
 * is the number of the builder's column i among mr_nex_columns. */
enum mr_status mr_nex_append(const struct mr_nex_model *model, enum mr_nex_table table,
                             int64_t from, int64_t count, const uint32_t *fields,
                             uint32_t field_count, struct mr_batch_builder *builder,
                             struct mr_error *err);

#endif
