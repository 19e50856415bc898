/*
 * Functions with state, and functions for SQL, through the C API: frames, mistakes of building, a
 * whole query.
 */
#include "support/streams.h"

#include <millrace/function.h>
#include <millrace/groups.h>

static void count(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_group_find(call->state);
    int64_t total = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(call->values, &row))
        total += mr_row_int(&row, 1);
    mr_group_update_int(call->state, total);
    mr_emit_value(out, mr_row_value(call->key, 0));
    mr_emit_int(out, total);
    mr_emit_end(out);
}

static const struct mr_groups_spec spec = {.name = "totals",
                                           .call = count,
                                           .state = "total BIGINT",
                                           .output = "k VARCHAR, total BIGINT",
                                           .mode = MR_MODE_UPDATE};

static struct mr_stream_writer *memory(struct st *s, struct mr_frame *frame, const char *name,
                                       const char *mode)
{
    struct mr_stream_writer *writer = mr_write_stream(frame);

    mr_write_format(writer, "memory");
    mr_write_query_name(writer, st_name(s, name));
    return mr_write_output_mode(writer, mode);
}

TEST(a_frame_of_a_function_is_written_and_read_by_sql)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_frame *totals;

    totals =
        mr_frame_flat_map_groups_with_state(st_source(s, "a", "k VARCHAR, v BIGINT"), "k", &spec);
    CHECK_NOT_NULL(totals);
    totals = mr_streams_sql(st_session(s), "SELECT upper(k) AS k, total FROM totals WHERE "
                                           "total > 1");
    query = st_start(memory(s, totals, "big", "update"));
    st_rows(s, "a", "('x', 1), ('x', 2), ('y', 1)");
    st_drain(query);
    st_rows(s, "a", "('y', 5)");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM big"), "X|3\nY|6\n");
    st_stop(query);
    st_free(s);
}

static void thrice(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, 3 * mr_row_int(row, 0));
}

TEST(functions_of_a_session_are_known_to_its_queries)
{
    static const struct mr_scalar_function function = {
        .name = "thrice", .arguments = "n BIGINT", .result = "BIGINT", .row = thrice};
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_error err = {0};

    CHECK_OK(mr_functions_add_scalar(mr_streams_functions(st_session(s)), &function, &err), &err);
    CHECK(mr_streams_functions(st_session(s)) == mr_streams_functions(st_session(s)));
    st_source(s, "a", "v BIGINT");
    query = st_start(
        memory(s, mr_streams_sql(st_session(s), "SELECT thrice(v) AS t FROM a"), "out", "append"));
    st_rows(s, "a", "(1), (NULL), (5)");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM out ORDER BY t"), "15\n3\nnull\n");
    st_stop(query);
    st_free(s);
}

static void refused(struct mr_frame *frame, const char *mode, enum mr_status status,
                    const char *part)
{
    struct mr_stream_writer *writer = mr_write_format(mr_write_stream(frame), "noop");
    struct mr_streaming_query *query = NULL;
    struct mr_error err = {0};

    mr_write_output_mode(writer, mode);
    CHECK_FAILS(mr_write_start(writer, NULL, &query, &err), &err, status, part);
    CHECK_CONTAINS(err.text, "test_groups_frames.c:");
}

TEST(mistakes_of_building_have_their_place)
{
    static const struct mr_processor processor = {.rows = NULL};
    static const struct mr_transform_spec no_rows = {.processor = &processor,
                                                     .output = "k VARCHAR"};
    struct st *s = st_new(t);
    struct mr_frame *a = st_source(s, "a", "k VARCHAR, v BIGINT");
    struct mr_groups_spec other = spec;

    refused(mr_frame_map_groups_with_state(a, "k", NULL), "update", MR_CONFIG, "needs call");
    refused(mr_frame_transform_with_state(a, NULL, &no_rows), "append", MR_CONFIG, "group by");
    refused(mr_frame_transform_with_state(a, "k", &no_rows), "append", MR_CONFIG, "with rows");
    other.name = NULL;
    other.state = "total BIGGEST";
    refused(mr_frame_map_groups_with_state(a, "k", &other), "update", MR_CONFIG, "BIGGEST");
    other.state = spec.state;
    refused(mr_frame_map_groups_with_state(a, "city", &other), "update", MR_SQL_ERROR,
            "no column 'city'");
    refused(mr_frame_map_groups_with_state(a, "k", &other), "append", MR_SQL_ERROR,
            "map_groups_with_state needs output_mode = 'update'");
    st_free(s);
}
