/* Object files: what was written comes back; what was cut or changed is refused. */
#include "support/test.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "data/object_file.h"
#include "env/sim.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>

#define COLUMNS "key VARCHAR, value BIGINT, list INTEGER[], both STRUCT(a DOUBLE, b BLOB)"

struct world {
    struct mr_sim *sim;
    struct mr_env *env;
    struct mr_schema *schema;
};

static struct world world_new(const char *columns)
{
    struct world w = {mr_sim_new(1), NULL, NULL};

    w.env = mr_sim_env(w.sim);
    CHECK_OK(mr_schema_parse(columns, strlen(columns), &w.schema, NULL), NULL);
    CHECK_OK(mr_durable_mkdirs(w.env, "/d", NULL), NULL);
    return w;
}

static void world_free(struct world *w)
{
    mr_schema_unref(w->schema);
    mr_sim_free(w->sim);
}

/* Rows with text and number; the nested columns are null. */
static struct mr_batch *rows_of(struct world *w, int64_t count)
{
    struct mr_batch_builder *builder;
    struct mr_batch *batch;

    CHECK_OK(mr_batch_builder_new(w->schema, &builder, NULL), NULL);
    for (int64_t i = 0; i < count; i++) {
        char text[200];
        int size = snprintf(text, sizeof(text), "key-%0*d", (int)(i % 150), (int)i);

        if (i % 7 != 0)
            mr_batch_builder_text(builder, 0, text, (size_t)size);
        mr_batch_builder_int(builder, 1, i * i);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_batch_builder_free(builder);
    return batch;
}

static void put(struct world *w, const void *data, size_t size)
{
    CHECK_OK(mr_durable_put(w->env, "/d", "part-00000", data, size, false, NULL), NULL);
}

/* All rows of the file, printed; or the failure. */
static enum mr_status read_all(struct world *w, struct mr_buf *text, struct mr_error *err)
{
    struct mr_object_reader *reader = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_object_open(w->env, "/d/part-00000", &reader, err);

    while (status == MR_OK) {
        status = mr_object_next(reader, &batch, err);
        if (status != MR_OK || batch == NULL)
            break;
        for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
            for (uint32_t i = 0; i < mr_schema_field_count(mr_batch_schema(batch)); i++) {
                char value[300];

                mr_row_print(&row, i, value, sizeof(value));
                mr_buf_printf(text, "%s;", value);
            }
        }
        mr_batch_unref(batch);
    }
    mr_object_close(reader);
    return status;
}

static void print_batch(const struct mr_batch *batch, struct mr_buf *text)
{
    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        for (uint32_t i = 0; i < mr_schema_field_count(mr_batch_schema(batch)); i++) {
            char value[300];

            mr_row_print(&row, i, value, sizeof(value));
            mr_buf_printf(text, "%s;", value);
        }
    }
}

TEST(rows_of_many_blocks_come_back)
{
    struct world w = world_new(COLUMNS);
    struct mr_batch *batch = rows_of(&w, 30000);
    struct mr_buf out = MR_BUF_INIT, expected = MR_BUF_INIT, got = MR_BUF_INIT;
    struct mr_error err;

    mr_object_begin(&out, w.schema);
    mr_object_add(&out, batch);
    mr_object_add(&out, batch);
    mr_object_end(&out, 60000);
    CHECK(!out.failed && out.size > 3 * MR_OBJECT_BLOCK_BYTES);
    put(&w, out.data, out.size);
    CHECK_OK(read_all(&w, &got, &err), &err);
    print_batch(batch, &expected);
    print_batch(batch, &expected);
    CHECK_EQ_UINT(got.size, expected.size);
    CHECK(memcmp(got.data, expected.data, got.size) == 0);
    mr_buf_release(&out);
    mr_buf_release(&expected);
    mr_buf_release(&got);
    mr_batch_unref(batch);
    world_free(&w);
}

TEST(a_file_without_rows_has_columns)
{
    struct world w = world_new("key VARCHAR, value BIGINT");
    struct mr_object_reader *reader = NULL;
    struct mr_batch *batch = NULL;
    struct mr_buf out = MR_BUF_INIT;

    mr_object_begin(&out, w.schema);
    mr_object_end(&out, 0);
    put(&w, out.data, out.size);
    CHECK_OK(mr_object_open(w.env, "/d/part-00000", &reader, NULL), NULL);
    CHECK(mr_schema_equal(mr_object_schema(reader), w.schema));
    CHECK_OK(mr_object_next(reader, &batch, NULL), NULL);
    CHECK_NULL(batch);
    mr_object_close(reader);
    mr_buf_release(&out);
    world_free(&w);
}

TEST(a_file_that_is_cut_or_changed_anywhere_is_refused)
{
    struct world w = world_new("key VARCHAR, value BIGINT");
    struct mr_batch *batch = rows_of(&w, 5);
    struct mr_buf out = MR_BUF_INIT, got = MR_BUF_INIT;
    struct mr_error err;

    mr_object_begin(&out, w.schema);
    mr_object_add(&out, batch);
    mr_object_end(&out, 5);
    for (size_t size = 0; size < out.size; size++) {
        put(&w, out.data, size);
        CHECK_FAILS(read_all(&w, &got, &err), &err, MR_BAD_DATA, "part-00000");
    }
    for (size_t at = 0; at < out.size; at++) {
        enum mr_status status;

        out.data[at] ^= 4;
        put(&w, out.data, out.size);
        status = read_all(&w, &got, &err);
        CHECK(status == MR_BAD_DATA || status == MR_VERSION);
        out.data[at] ^= 4;
    }
    mr_buf_add_char(&out, 'x');
    put(&w, out.data, out.size);
    CHECK_FAILS(read_all(&w, &got, &err), &err, MR_BAD_DATA, "behind its end");
    CHECK_FAILS(mr_object_open(w.env, "/d/none", &(struct mr_object_reader *){NULL}, &err), &err,
                MR_NOT_FOUND, "none");
    mr_buf_release(&out);
    mr_buf_release(&got);
    mr_batch_unref(batch);
    world_free(&w);
}

static void add_sum(struct mr_buf *buf, size_t from)
{
    mr_buf_add_u64(buf, mr_checksum(buf->data + from, buf->size - from));
}

static void begin_file(struct mr_buf *file, const char *columns)
{
    mr_buf_add_str(file, "MRROWS\r\n");
    mr_buf_add_u32(file, MR_OBJECT_VERSION);
    mr_buf_add_u32(file, (uint32_t)strlen(columns));
    mr_buf_add_str(file, columns);
    add_sum(file, 0);
}

TEST(whole_checksums_around_wrong_contents_are_refused_with_the_path)
{
    struct world w = world_new(COLUMNS);
    struct mr_buf file = MR_BUF_INIT, text = MR_BUF_INIT;
    struct mr_error err = {0};
    size_t from;

    begin_file(&file, "key \x01");
    put(&w, file.data, file.size);
    CHECK_FAILS(read_all(&w, &text, &err), &err, MR_BAD_DATA,
                "'/d/part-00000' at byte 0: its columns cannot be read");
    mr_buf_clear(&file);
    begin_file(&file, "n BIGINT");
    from = file.size;
    mr_buf_add_u32(&file, UINT32_MAX);
    mr_buf_add_u32(&file, 3);
    mr_buf_add(&file, "\1\1\1", 3);
    add_sum(&file, from);
    put(&w, file.data, file.size);
    CHECK_FAILS(read_all(&w, &text, &err), &err, MR_BAD_DATA, "a block has more rows than bytes");
    mr_buf_release(&file);
    mr_buf_release(&text);
    world_free(&w);
}
