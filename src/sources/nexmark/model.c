/*
 * Values of the model, a column at a time (nexmark.h). The proportions, id ranges, hot ratios and
 * text sizes are Nexmark's usual ones; the draws are our own.
 *
 *     event n = 50 e + k:   k = 0 person e;   k = 1..3 auction 3 e + k - 1;   k = 4..49 bid
 *
 * Called by nexmark.c. Thread: any.
 */
#include "sources/nexmark/nexmark.h"

#include "base/check.h"

#include <millrace/ext/builder.h>

#include <stdio.h>
#include <string.h>

enum {
    FIRST_ID = 1000,
    FIRST_CATEGORY = 10,
    CATEGORIES = 5,
    ACTIVE_PEOPLE = 1000,
    IN_FLIGHT_AUCTIONS = 100,
    PERSON_ID_LEAD = 10,
    AUCTION_ID_LEAD = 10,
    HOT_AUCTION_RATIO = 2,
    HOT_BIDDER_RATIO = 4,
    HOT_SELLER_RATIO = 4,
    HOT_STEP = 100, /* the hot one is the newest multiple of this */
    HOT_CHANNELS = 4,
    COLD_CHANNELS = 10000,
    PERSON_BYTES = 200,
    AUCTION_BYTES = 500,
    BID_BYTES = 100,
    FIELDS_MAX = 10,
    TEXT_BYTES_MAX = 1024,
};

/* ---- Draws ---- */

static uint64_t draw(const struct mr_nex_model *model, int64_t event, unsigned field)
{
    uint64_t x = model->seed + ((uint64_t)event * 32 + field) * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int64_t below(uint64_t random, int64_t limit)
{
    __extension__ typedef unsigned __int128 wide;

    return (int64_t)((wide)random * (uint64_t)limit >> 64);
}

/* 10^(6 u) * 100, u uniform: prices from 1 to a million dollars, in cents. 64 values for each
 * factor of 10: 10^(i / 64). */
static int64_t price_of(uint64_t random)
{
    static const double steps[64] = {
        1.000000000, 1.036632928, 1.074607828, 1.113973860, 1.154781985, 1.197085030, 1.240937761,
        1.286396945, 1.333521432, 1.382372227, 1.433012570, 1.485508017, 1.539926526, 1.596338544,
        1.654817100, 1.715437896, 1.778279410, 1.843422992, 1.910952975, 1.980956779, 2.053525026,
        2.128751662, 2.206734069, 2.287573200, 2.371373706, 2.458244069, 2.548296748, 2.641648320,
        2.738419634, 2.838735965, 2.942727176, 3.050527890, 3.162277660, 3.278121151, 3.398208329,
        3.522694651, 3.651741273, 3.785515249, 3.924189758, 4.067944321, 4.216965034, 4.371444813,
        4.531583638, 4.697588817, 4.869675252, 5.048065717, 5.232991147, 5.424690937, 5.623413252,
        5.829415347, 6.042963902, 6.264335367, 6.493816316, 6.731703824, 6.978305849, 7.233941627,
        7.498942093, 7.773650302, 8.058421878, 8.353625470, 8.659643234, 8.976871324, 9.305720409,
        9.646616199,
    };
    static const int64_t powers[6] = {100, 1000, 10000, 100000, 1000000, 10000000};
    int64_t step = below(random, (int64_t)6 * 64 * 1024);
    double base = steps[(step >> 10) & 63];
    double fine = 1.0 + (double)(step & 1023) * (0.036632928 / 1024.0);

    return (int64_t)((double)powers[step >> 16] * base * fine + 0.5);
}

/* ---- Which event, which ids ---- */

int64_t mr_nex_rows_before(enum mr_nex_table table, int64_t events)
{
    int64_t epoch = events / MR_NEX_EPOCH;
    int64_t rest = events % MR_NEX_EPOCH;

    switch (table) {
    case MR_NEX_PERSON:
        return epoch * MR_NEX_PERSONS + MR_MIN(rest, (int64_t)MR_NEX_PERSONS);
    case MR_NEX_AUCTION:
        rest = MR_MAX(rest - MR_NEX_PERSONS, (int64_t)0);
        return epoch * MR_NEX_AUCTIONS + MR_MIN(rest, (int64_t)MR_NEX_AUCTIONS);
    case MR_NEX_BID:
    default:
        return epoch * MR_NEX_BIDS + MR_MAX(rest - MR_NEX_PERSONS - MR_NEX_AUCTIONS, (int64_t)0);
    }
}

int64_t mr_nex_event_of(enum mr_nex_table table, int64_t row)
{
    switch (table) {
    case MR_NEX_PERSON:
        return row * MR_NEX_EPOCH;
    case MR_NEX_AUCTION:
        return row / MR_NEX_AUCTIONS * MR_NEX_EPOCH + MR_NEX_PERSONS + row % MR_NEX_AUCTIONS;
    case MR_NEX_BID:
    default:
        return row / MR_NEX_BIDS * MR_NEX_EPOCH + MR_NEX_PERSONS + MR_NEX_AUCTIONS +
               row % MR_NEX_BIDS;
    }
}

/* Newest person and auction, counted from 0, that exist at event n; the first ones before there are
 * any. */
static int64_t last_person(int64_t event)
{
    return MR_MAX(mr_nex_rows_before(MR_NEX_PERSON, event + 1) - 1, (int64_t)0);
}

static int64_t last_auction(int64_t event)
{
    return MR_MAX(mr_nex_rows_before(MR_NEX_AUCTION, event + 1) - 1, (int64_t)0);
}

/* One of the people who are active now, or (rarely) one who is about to come. */
static int64_t some_person(const struct mr_nex_model *model, int64_t event, unsigned field)
{
    int64_t people = last_person(event) + 1;
    int64_t active = MR_MIN(people, (int64_t)ACTIVE_PEOPLE);

    return people - active + below(draw(model, event, field), active + PERSON_ID_LEAD);
}

static int64_t some_auction(const struct mr_nex_model *model, int64_t event, unsigned field)
{
    int64_t last = last_auction(event);
    int64_t first = MR_MAX(last - IN_FLIGHT_AUCTIONS, (int64_t)0);

    return first + below(draw(model, event, field), last - first + 1 + AUCTION_ID_LEAD);
}

static bool is_hot(const struct mr_nex_model *model, int64_t event, unsigned field, int64_t ratio)
{
    return below(draw(model, event, field), ratio) > 0;
}

static int64_t time_of(const struct mr_nex_model *model, int64_t event)
{
    return model->start_us + event / 1000 * model->inter_event_ns +
           event % 1000 * model->inter_event_ns / 1000;
}

/* An auction is open for as long as about 100 new ones take, on average. */
static int64_t expires_of(const struct mr_nex_model *model, int64_t event)
{
    int64_t later = event + (int64_t)IN_FLIGHT_AUCTIONS * MR_NEX_EPOCH / MR_NEX_AUCTIONS;
    int64_t horizon_us = time_of(model, later) - time_of(model, event);

    return time_of(model, event) + 1 +
           below(draw(model, event, 24), MR_MAX(horizon_us * 2, (int64_t)1));
}

/* ---- Numbers ---- */

enum person_field { P_ID, P_NAME, P_EMAIL, P_CARD, P_CITY, P_STATE, P_TIME, P_EXTRA };
enum auction_field {
    A_ID,
    A_ITEM,
    A_DESCRIPTION,
    A_INITIAL,
    A_RESERVE,
    A_TIME,
    A_EXPIRES,
    A_SELLER,
    A_CATEGORY,
    A_EXTRA
};
enum bid_field { B_AUCTION, B_BIDDER, B_PRICE, B_CHANNEL, B_URL, B_TIME, B_EXTRA };

const char *mr_nex_columns(enum mr_nex_table table)
{
    switch (table) {
    case MR_NEX_PERSON:
        return "id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, "
               "state VARCHAR, dateTime TIMESTAMP, extra VARCHAR";
    case MR_NEX_AUCTION:
        return "id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve "
               "BIGINT, dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, "
               "extra VARCHAR";
    case MR_NEX_BID:
    default:
        return "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, "
               "dateTime TIMESTAMP, extra VARCHAR";
    }
}

static int64_t person_number(const struct mr_nex_model *model, int64_t event, uint32_t field)
{
    return field == P_ID ? FIRST_ID + last_person(event) : time_of(model, event);
}

static int64_t auction_number(const struct mr_nex_model *model, int64_t event, uint32_t field)
{
    switch (field) {
    case A_ID:
        return FIRST_ID + last_auction(event);
    case A_INITIAL:
        return price_of(draw(model, event, A_INITIAL));
    case A_RESERVE:
        return price_of(draw(model, event, A_INITIAL)) + price_of(draw(model, event, A_RESERVE));
    case A_EXPIRES:
        return expires_of(model, event);
    case A_SELLER:
        return FIRST_ID + (is_hot(model, event, 25, HOT_SELLER_RATIO)
                               ? last_person(event) / HOT_STEP * HOT_STEP
                               : some_person(model, event, A_SELLER));
    case A_CATEGORY:
        return FIRST_CATEGORY + below(draw(model, event, A_CATEGORY), CATEGORIES);
    default:
        return time_of(model, event);
    }
}

static int64_t bid_number(const struct mr_nex_model *model, int64_t event, uint32_t field)
{
    switch (field) {
    case B_AUCTION:
        return FIRST_ID + (is_hot(model, event, 26, HOT_AUCTION_RATIO)
                               ? last_auction(event) / HOT_STEP * HOT_STEP
                               : some_auction(model, event, B_AUCTION));
    case B_BIDDER:
        return FIRST_ID + (is_hot(model, event, 27, HOT_BIDDER_RATIO)
                               ? last_person(event) / HOT_STEP * HOT_STEP + 1
                               : some_person(model, event, B_BIDDER));
    case B_PRICE:
        return price_of(draw(model, event, B_PRICE));
    default:
        return time_of(model, event);
    }
}

/* ---- Texts ---- */

static size_t put(char *text, size_t at, const char *piece)
{
    size_t size = strlen(piece);

    memcpy(text + at, piece, size);
    return at + size;
}

/* Letters, `bytes` of them. */
static size_t letters(const struct mr_nex_model *model, int64_t event, unsigned field, size_t bytes,
                      char *text)
{
    uint64_t random = 0;

    for (size_t i = 0; i < bytes; i++) {
        if (i % 12 == 0)
            random = draw(model, event + (int64_t)(i / 12) * INT64_C(1000003), field);
        text[i] = (char)('a' + random % 26);
        random /= 26;
    }
    return bytes;
}

/* About `bytes`, between 80 and 120 %: what the other columns leave of a row's usual size. */
static size_t extra(const struct mr_nex_model *model, int64_t event, size_t bytes, char *text)
{
    size_t size = bytes * 4 / 5 + (size_t)below(draw(model, event, 28), (int64_t)(bytes * 2 / 5));

    return letters(model, event, 29, size, text);
}

static size_t person_text(const struct mr_nex_model *model, int64_t event, uint32_t field,
                          char *text)
{
    static const char *const first[] = {"Peter", "Paul",  "Luke",  "John",   "Saul",  "Vicky",
                                        "Kate",  "Julie", "Sarah", "Deiter", "Walter"};
    static const char *const last[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels",
                                       "Walton", "Smith",  "Jones",   "Noris"};
    static const char *const cities[] = {"Phoenix",  "Los Angeles", "San Francisco", "Boise",
                                         "Portland", "Bend",        "Redmond",       "Seattle",
                                         "Kent",     "Cheyenne"};
    static const char *const states[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
    uint64_t random = draw(model, event, field);
    size_t at;

    switch (field) {
    case P_NAME:
        at = put(text, 0, first[below(random, MR_ARRAY_SIZE(first))]);
        text[at++] = ' ';
        return put(text, at, last[below(draw(model, event, 30), MR_ARRAY_SIZE(last))]);
    case P_EMAIL:
        at = letters(model, event, field, 7, text);
        text[at++] = '@';
        at += letters(model, event, 31, 5, text + at);
        return put(text, at, ".com");
    case P_CARD:
        return (size_t)snprintf(text, TEXT_BYTES_MAX, "%04u %04u %04u %04u",
                                (unsigned)(random % 10000), (unsigned)((random >> 16) % 10000),
                                (unsigned)((random >> 32) % 10000),
                                (unsigned)((random >> 48) % 10000));
    case P_CITY:
        return put(text, 0, cities[below(random, MR_ARRAY_SIZE(cities))]);
    case P_STATE:
        return put(text, 0, states[below(random, MR_ARRAY_SIZE(states))]);
    default:
        return extra(model, event, PERSON_BYTES - 80, text);
    }
}

static size_t auction_text(const struct mr_nex_model *model, int64_t event, uint32_t field,
                           char *text)
{
    switch (field) {
    case A_ITEM:
        return letters(model, event, field, 3 + (size_t)(draw(model, event, field) % 18), text);
    case A_DESCRIPTION:
        return letters(model, event, field, 3 + (size_t)(draw(model, event, field) % 98), text);
    default:
        return extra(model, event, AUCTION_BYTES - 120, text);
    }
}

/* Half of the bids come through one of four channels, the others through one of 10,000. */
static size_t bid_text(const struct mr_nex_model *model, int64_t event, uint32_t field, char *text)
{
    static const char *const hot[HOT_CHANNELS] = {"Google", "Facebook", "Baidu", "Apple"};
    int64_t channel = is_hot(model, event, 23, 2)
                          ? below(draw(model, event, B_CHANNEL), HOT_CHANNELS)
                          : HOT_CHANNELS + below(draw(model, event, B_CHANNEL), COLD_CHANNELS);
    size_t at;

    switch (field) {
    case B_CHANNEL:
        if (channel < HOT_CHANNELS)
            return put(text, 0, hot[channel]);
        return (size_t)snprintf(text, TEXT_BYTES_MAX, "channel-%d", (int)(channel - HOT_CHANNELS));
    case B_URL: { /* each channel has one */
        int64_t key = channel * 7919;

        at = put(text, 0, "https://www.nexmark.com/");
        at += letters(model, key, 20, 5, text + at);
        text[at++] = '/';
        at += letters(model, key, 21, 5, text + at);
        text[at++] = '/';
        at += letters(model, key, 22, 5, text + at);
        at = put(text, at, "/item.htm?query=1");
        if (channel % 10 == 0) /* some have no id */
            return at;
        return at + (size_t)snprintf(text + at, TEXT_BYTES_MAX - at, "&channel_id=%lld",
                                     (long long)(below(draw(model, key, 19), 1 << 30)));
    }
    default:
        return extra(model, event, BID_BYTES - 60, text);
    }
}

/* ---- Columns ---- */

typedef int64_t (*number_fn)(const struct mr_nex_model *model, int64_t event, uint32_t field);
typedef size_t (*text_fn)(const struct mr_nex_model *model, int64_t event, uint32_t field,
                          char *text);

static const struct {
    number_fn number;
    text_fn text;
} makers[] = {{person_number, person_text}, {auction_number, auction_text}, {bid_number, bid_text}};

static enum mr_status append_column(const struct mr_nex_model *model, enum mr_nex_table table,
                                    int64_t from, int64_t count, uint32_t field,
                                    struct mr_column_builder *column, struct mr_error *err)
{
    char text[TEXT_BYTES_MAX];

    if (column->type->id != MR_TYPE_TEXT) {
        number_fn number = makers[table].number;

        MR_TRY(mr_column_builder_reserve(column, count, 0, err));
        for (int64_t i = 0; i < count; i++)
            mr_column_builder_i64(column, number(model, mr_nex_event_of(table, from + i), field));
        return MR_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        size_t size = makers[table].text(model, mr_nex_event_of(table, from + i), field, text);

        MR_ASSERT(size <= sizeof(text));
        MR_TRY(mr_column_builder_text(column, text, size, err));
    }
    return MR_OK;
}

enum mr_status mr_nex_append(const struct mr_nex_model *model, enum mr_nex_table table,
                             int64_t from, int64_t count, const uint32_t *fields,
                             uint32_t field_count, struct mr_batch_builder *builder,
                             struct mr_error *err)
{
    for (uint32_t i = 0; i < field_count; i++)
        MR_TRY(append_column(model, table, from, count, fields[i],
                             mr_batch_builder_column(builder, i), err));
    return mr_batch_builder_rows_added(builder, count, err);
}
