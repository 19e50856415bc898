/* Offset ranges -> pieces (KF-04): the table of the vector, row by row. */
#include "support/test.h"

#ifdef MR_WITH_KAFKA
#include "sources/kafka/divide.h"

enum { ROOM = 64, RANGES_MAX = 4 };

struct row {
    int64_t pieces_min; /* 0: not set */
    int64_t records_max;
    int64_t ranges[RANGES_MAX][2]; /* up to {0, 0} */
    const char *expected;          /* "range:from-until ..." */
};

static const struct row rows[] = {
    {0, 0, {{1, 2}, {1, 1}}, "0:1-2"},
    {4, 0, {{1, 5}}, "0:1-2 0:2-3 0:3-4 0:4-5"},
    {4, 0, {{1, 5}, {1, 21}}, "0:1-5 1:1-7 1:7-14 1:14-21"},
    {4, 0, {{1, 1}, {1, 21}}, "1:1-6 1:6-11 1:11-16 1:16-21"},
    {4, 0, {{1, 2}, {1, 1001}}, "0:1-2 1:1-334 1:334-667 1:667-1001"},
    {1, 0, {{1, 5}, {1, 21}}, "0:1-5 1:1-21"},
    {3, 0, {{1, 11}}, "0:1-4 0:4-7 0:7-11"},
    {6, 0, {{0, 10}, {0, 10}, {0, 1}}, "0:0-3 0:3-6 0:6-10 1:0-3 1:3-6 1:6-10 2:0-1"},
    {9,
     0,
     {{0, 10000}, {0, 15000}, {0, 20000}},
     "0:0-5000 0:5000-10000 1:0-5000 1:5000-10000 1:10000-15000 2:0-5000 2:5000-10000 "
     "2:10000-15000 2:15000-20000"},
    {6,
     0,
     {{0, 500}, {0, 12000}, {0, 15001}},
     "0:0-500 1:0-6000 1:6000-12000 2:0-5000 2:5000-10000 2:10000-15001"},
    {6,
     0,
     {{0, 1}, {0, 1}, {0, 10000}},
     "0:0-1 1:0-1 2:0-2500 2:2500-5000 2:5000-7500 2:7500-10000"},
    {0, 4, {{1, 5}}, "0:1-5"},
    {0, 4, {{1, 2}}, "0:1-2"},
    {0, 4, {{1, 6}}, "0:1-3 0:3-6"},
    {0,
     20,
     {{1, 40}, {1, 50}, {1, 60}},
     "0:1-20 0:20-40 1:1-17 1:17-33 1:33-50 2:1-20 2:20-40 2:40-60"},
    {1, 20, {{1, 40}}, "0:1-20 0:20-40"},
    {4, 20, {{1, 40}}, "0:1-10 0:10-20 0:20-30 0:30-40"},
};

static void check_row(const struct row *row)
{
    struct mr_ksrc_division division = {row->records_max, row->pieces_min};
    struct mr_ksrc_span ranges[RANGES_MAX];
    struct mr_ksrc_span pieces[ROOM];
    char text[1000] = "";
    size_t count = 0, used = 0, made;

    while (count < RANGES_MAX && row->ranges[count][1] != 0) {
        ranges[count] = (struct mr_ksrc_span){count, row->ranges[count][0], row->ranges[count][1]};
        count++;
    }
    made = mr_ksrc_divide(&division, ranges, count, pieces, ROOM);
    CHECK(made <= ROOM);
    for (size_t i = 0; i < made; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%zu:%lld-%lld",
                                 used > 0 ? " " : "", pieces[i].partition,
                                 (long long)pieces[i].from, (long long)pieces[i].until);
    CHECK_EQ_STR(text, row->expected);
    CHECK_EQ_INT(mr_ksrc_divide(&division, ranges, count, NULL, 0), made);
}

TEST(KF_04_ranges_are_cut_into_even_pieces)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&rows[i]);
}

TEST(pieces_cover_their_ranges_without_a_gap)
{
    for (int64_t size = 1; size < 60; size++) {
        for (int64_t min = 0; min < 12; min++) {
            for (int64_t max = 0; max < 9; max++) {
                struct mr_ksrc_division division = {max, min};
                struct mr_ksrc_span range = {7, 100, 100 + size};
                struct mr_ksrc_span pieces[ROOM * 2];
                size_t count = mr_ksrc_divide(&division, &range, 1, pieces, ROOM * 2);

                CHECK(count > 0 && count <= ROOM * 2);
                CHECK_EQ_INT(pieces[0].from, 100);
                CHECK_EQ_INT(pieces[count - 1].until, 100 + size);
                for (size_t i = 0; i < count; i++) {
                    CHECK_EQ_INT(pieces[i].partition, 7);
                    CHECK(pieces[i].until > pieces[i].from);
                    CHECK(max == 0 || pieces[i].until - pieces[i].from <= max);
                    CHECK(i == 0 || pieces[i].from == pieces[i - 1].until);
                }
            }
        }
    }
}
#else
TEST(this_build_has_no_kafka)
{
    SKIP(t, "built without Kafka");
}
#endif
