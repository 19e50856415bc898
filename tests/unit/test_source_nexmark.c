/*
 * The source that makes Nexmark's events.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void open_table(struct plug_source *src, const char *options, const char *produce)
{
    plug_source_open(src, &(struct plug_source_spec){.connector = "nexmark",
                                                     .options = options,
                                                     .produce = produce,
                                                     .until_caught_up = true});
}

/* Reads the events [from, to) of a source. */
static const char *read_events(struct plug_source *src, int from, int to)
{
    char start[80];
    char end[80];

    snprintf(start, sizeof(start), "{\"start_us\":0,\"events\":%d}", from);
    snprintf(end, sizeof(end), "{\"start_us\":0,\"events\":%d}", to);
    return plug_read(src, from > 0 ? start : NULL, end);
}

static size_t count_rows(const char *rows)
{
    size_t count = rows[0] != '\0';

    for (; *rows != '\0'; rows++)
        count += *rows == ';';
    return count;
}

TEST(nexmark_has_one_person_and_three_auctions_in_fifty_events)
{
    static const struct {
        const char *options;
        const char *columns;
        size_t rows;
    } tables[] = {{"table=person\nevents=1000", "id BIGINT", 20},
                  {"table=auction\nevents=1000", "id BIGINT", 60},
                  {"table=bid\nevents=1000", "price BIGINT", 920}};

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        struct plug_source src;

        open_table(&src, tables[i].options, tables[i].columns);
        CHECK_EQ_UINT(count_rows(read_events(&src, 0, 1000)), tables[i].rows);
        plug_source_stop(&src);
    }
}

TEST(nexmark_counts_its_people_and_auctions_from_a_thousand)
{
    struct plug_source src;

    open_table(&src, "table=person\nevents=200", "id BIGINT");
    CHECK_EQ_STR(read_events(&src, 0, 200), "1000;1001;1002;1003");
    plug_source_stop(&src);
    open_table(&src, "table=auction\nevents=52", "id BIGINT");
    CHECK_EQ_STR(read_events(&src, 0, 52), "1000;1001;1002;1003");
    plug_source_stop(&src);
}

TEST(nexmark_makes_the_same_rows_wherever_its_input_is_cut)
{
    static const char *const tables[] = {"table=person\nevents=500", "table=auction\nevents=500",
                                         "table=bid\nevents=500"};

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        struct plug_source src;
        struct mr_buf pieces = MR_BUF_INIT;

        open_table(&src, tables[i], NULL);
        for (int from = 0; from < 500; from += 77) {
            const char *rows = read_events(&src, from, from + 77 < 500 ? from + 77 : 500);

            if (rows[0] != '\0' && pieces.size > 0)
                mr_buf_add_char(&pieces, ';');
            mr_buf_add_str(&pieces, rows);
        }
        CHECK_EQ_STR(read_events(&src, 0, 500), pieces.data);
        mr_buf_release(&pieces);
        plug_source_stop(&src);
    }
}

TEST(nexmark_makes_the_same_values_whichever_columns_are_read)
{
    struct plug_source all;
    struct plug_source some;
    const char *at;

    open_table(&some, "table=bid\nevents=100", "auction BIGINT, price BIGINT");
    at = read_events(&some, 0, 100);
    open_table(&all, "table=bid\nevents=100", NULL);
    for (const char *row = read_events(&all, 0, 100); row != NULL; row = strchr(row, ';')) {
        char want[60];
        long long auction = 0;
        long long bidder = 0;
        long long price = 0;

        row += *row == ';';
        CHECK_EQ_INT(sscanf(row, "%lld|%lld|%lld", &auction, &bidder, &price), 3);
        snprintf(want, sizeof(want), "%lld|%lld", auction, price);
        CHECK(strncmp(at, want, strlen(want)) == 0);
        at += strlen(want);
        at += *at == ';';
    }
    CHECK_EQ_STR(at, "");
    plug_source_stop(&all);
    plug_source_stop(&some);
}

TEST(nexmark_bids_name_auctions_and_people_that_exist_or_are_about_to)
{
    struct plug_source src;

    open_table(&src, "table=bid\nevents=20000", "auction BIGINT, bidder BIGINT");
    for (const char *row = read_events(&src, 0, 20000); row != NULL; row = strchr(row, ';')) {
        long long auction = 0;
        long long bidder = 0;

        row += *row == ';';
        CHECK_EQ_INT(sscanf(row, "%lld|%lld", &auction, &bidder), 2);
        CHECK(auction >= 1000 && auction < 1000 + 20000 / 50 * 3 + 10);
        CHECK(bidder >= 1000 && bidder < 1000 + 20000 / 50 + 10);
    }
    plug_source_stop(&src);
}

TEST(nexmark_plans_so_many_events_a_batch_and_ends)
{
    struct plug_source src;
    char *first;
    char *second;

    open_table(&src, "table=bid\nevents=150\nevents_per_batch=100", NULL);
    first = plug_plan(&src, NULL);
    CHECK(strstr(first, "\"events\":100}") != NULL);
    second = plug_plan(&src, first);
    CHECK(strstr(second, "\"events\":150}") != NULL);
    CHECK_NULL(plug_plan(&src, second));
    mr_text_free(first);
    mr_text_free(second);
    plug_source_stop(&src);
}

TEST(nexmark_without_an_end_cannot_be_caught_up_with)
{
    struct plug_source src;
    struct mr_error err = {0};

    CHECK_FAILS(plug_source_try(&src,
                                &(struct plug_source_spec){.connector = "nexmark",
                                                           .options = "table=bid",
                                                           .until_caught_up = true},
                                &err),
                &err, MR_CONFIG, "no end to catch up with");
    plug_source_stop(&src);
}

TEST(nexmark_shows_its_first_events_again_with_later_ids_and_times)
{
    static const char options[] = "table=auction\nevents=300\nmode=replay\nreplay_events=100";
    struct plug_source made;
    struct plug_source shown;

    open_table(&made, "table=auction\nevents=300", NULL);
    open_table(&shown, options, NULL);
    CHECK_EQ_STR(read_events(&shown, 0, 100), read_events(&made, 0, 100));
    plug_source_stop(&made);
    plug_source_stop(&shown);
    open_table(&shown, options, "id BIGINT, dateTime TIMESTAMP");
    CHECK_EQ_STR(read_events(&shown, 100, 150),
                 "1006|2015-07-15 00:00:00.00001;1007|2015-07-15 00:00:00.00001;1008|2015-07-15 "
                 "00:00:00.00001");
    CHECK_EQ_UINT(count_rows(read_events(&shown, 0, 300)), 18);
    plug_source_stop(&shown);
}
