/*
 * Any bytes as an object file. The first byte chooses: the bytes alone; the bytes as columns and
 * rows in frames whose checksums are right; a good file with one byte changed or cut, which must be
 * noticed. A file that is read to its end is written again to the same bytes.
 */
#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "base/hash.h"
#include "data/object_file.h"

#include <stdlib.h>
#include <string.h>

#define PATH "/d/file"

static struct mr_sim *sim;

/* Reads it to its end; what was read is written to again. */
static enum mr_status read_all(struct mr_buf *again, struct mr_error *err)
{
    struct mr_object_reader *reader = NULL;
    struct mr_batch *batch = NULL;
    uint64_t rows = 0;
    enum mr_status status = mr_object_open(mr_sim_env(sim), PATH, &reader, err);

    if (status != MR_OK)
        return status;
    mr_object_begin(again, mr_object_schema(reader));
    while ((status = mr_object_next(reader, &batch, err)) == MR_OK && batch != NULL) {
        rows += (uint64_t)mr_batch_row_count(batch);
        FUZZ_CHECK(mr_schema_equal(mr_batch_schema(batch), mr_object_schema(reader)));
        mr_object_add(again, batch);
        mr_batch_unref(batch);
        batch = NULL;
    }
    if (status == MR_OK) {
        mr_object_end(again, rows);
        FUZZ_CHECK(mr_object_next(reader, &batch, err) == MR_OK && batch == NULL);
    }
    mr_object_close(reader);
    return status;
}

static void add_sum(struct mr_buf *out, size_t from)
{
    mr_buf_add_u64(out, out->failed ? 0 : mr_checksum(out->data + from, out->size - from));
}

/* Columns and rows from the input, frames and checksums right. */
static void frame(struct mr_buf *out, const uint8_t *data, size_t size)
{
    size_t columns = MR_MIN((size_t)data[0], size - 1);
    size_t rows = size - 1 - columns, from;

    mr_buf_add(out, "MRROWS\r\n", 8);
    mr_buf_add_u32(out, 1);
    mr_buf_add_u32(out, (uint32_t)columns);
    mr_buf_add(out, data + 1, columns);
    add_sum(out, 0);
    if (rows > 1) {
        from = out->size;
        mr_buf_add_u32(out, data[1 + columns] % 16);
        mr_buf_add_u32(out, (uint32_t)rows - 1);
        mr_buf_add(out, data + 2 + columns, rows - 1);
        add_sum(out, from);
    }
    from = out->size;
    mr_buf_add_u32(out, 0);
    mr_buf_add_u32(out, 8);
    mr_buf_add_u64(out, rows > 1 ? data[1 + columns] % 16 : 0);
    add_sum(out, from);
}

static void make_good(struct mr_buf *out, const uint8_t *data, size_t size)
{
    static const char text[] = "k BIGINT, v VARCHAR";
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;

    if (mr_schema_parse(text, strlen(text), &schema, NULL) == MR_OK &&
        mr_batch_builder_new(schema, &builder, NULL) == MR_OK) {
        for (size_t i = 0; i + 1 < size && i < 64; i += 2) {
            mr_batch_builder_int(builder, 0, data[i]);
            mr_batch_builder_text(builder, 1, (const char *)data + i, 2);
            mr_batch_builder_end_row(builder);
        }
        if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK) {
            mr_object_begin(out, schema);
            mr_object_add(out, batch);
            mr_object_end(out, (uint64_t)mr_batch_row_count(batch));
        }
    }
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

/* A good file, changed at one place: refused. */
static void check_damaged(const uint8_t *data, size_t size)
{
    struct mr_buf file = MR_BUF_INIT, again = MR_BUF_INIT;
    struct mr_error err = {0};
    size_t at;

    make_good(&file, data + 4, size - 4);
    if (!file.failed && file.size > 0) {
        at = ((size_t)data[1] << 8 | data[2]) % file.size;
        if (data[3] == 0)
            file.size = at;
        else
            file.data[at] = (char)(file.data[at] ^ data[3]);
        fuzz_put_file(sim, PATH, file.data, file.size);
        if (read_all(&again, &err) == MR_OK)
            fuzz_fail(__FILE__, __LINE__, "a changed file is refused");
        else
            FUZZ_REFUSED3(&err, MR_BAD_DATA, MR_VERSION, MR_BAD_DATA);
    }
    mr_buf_release(&file);
    mr_buf_release(&again);
}

/* What was read and written is read and written to the same bytes. (The file itself may say its
 * schema in other words.) */
static void check_bytes(const void *data, size_t size)
{
    struct mr_buf again = MR_BUF_INIT, third = MR_BUF_INIT;
    struct mr_error err = {0};

    fuzz_put_file(sim, PATH, data, size);
    if (read_all(&again, &err) == MR_OK) {
        if (!again.failed) {
            fuzz_put_file(sim, PATH, again.data, again.size);
            if (read_all(&third, &err) != MR_OK)
                FUZZ_REFUSED3(&err, MR_NOMEM, MR_NOMEM, MR_NOMEM);
            else if (!third.failed)
                FUZZ_SAME(&third, &again);
        }
    } else {
        FUZZ_REFUSED3(&err, MR_BAD_DATA, MR_VERSION, MR_LIMIT);
        FUZZ_CHECK(strstr(err.text, PATH) != NULL || err.status == MR_LIMIT);
    }
    mr_buf_release(&again);
    mr_buf_release(&third);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_buf file = MR_BUF_INIT;

    if (size < 6)
        return;
    sim = mr_sim_new(1);
    switch (data[0] % 4) {
    case 0:
        check_bytes(data + 1, size - 1);
        break;
    case 1:
        check_damaged(data, size);
        break;
    default:
        frame(&file, data + 1, size - 1);
        if (!file.failed)
            check_bytes(file.data, file.size);
        break;
    }
    mr_buf_release(&file);
    mr_sim_free(sim);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
