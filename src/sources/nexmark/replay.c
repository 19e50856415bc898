/*
 * The block of events behind mode = 'replay' (replay.h).
 *
 *     block    pieces of PIECE_ROWS rows, each a batch
 *     row r    pass r / rows, row r % rows of the block; ids and times of the pass are added
 *
 * Thread: see replay.h.
 */
#include "sources/nexmark/replay.h"

#include "base/alloc.h"
#include "base/check.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { PIECE_ROWS = 16384, COLUMNS_MAX = 10 };

struct mr_nex_block {
    struct mr_batch **pieces;
    int64_t piece_count;
    int64_t rows;
    uint32_t column_count;
    int64_t steps[COLUMNS_MAX]; /* what a pass adds to each column */
};

/* What the events of a pass are ahead in a column: people, auctions or microseconds. */
static int64_t step_of(const struct mr_nex_model *model, const struct mr_field *field,
                       int64_t events)
{
    static const char *const people[] = {"bidder", "seller"};

    if (field->type.id == MR_TYPE_TIMESTAMP)
        return events / 1000 * model->inter_event_ns + events % 1000 * model->inter_event_ns / 1000;
    for (size_t i = 0; i < MR_ARRAY_SIZE(people); i++) {
        if (strcmp(field->name, people[i]) == 0)
            return mr_nex_rows_before(MR_NEX_PERSON, events);
    }
    return strcmp(field->name, "auction") == 0 ? mr_nex_rows_before(MR_NEX_AUCTION, events) : 0;
}

void mr_nex_block_free(struct mr_nex_block *block)
{
    if (block == NULL)
        return;
    for (int64_t i = 0; block->pieces != NULL && i < block->piece_count; i++)
        mr_batch_unref(block->pieces[i]);
    mr_free(block->pieces);
    mr_free(block);
}

static enum mr_status make_pieces(struct mr_nex_block *block, const struct mr_nex_model *model,
                                  enum mr_nex_table table, const struct mr_schema *schema,
                                  const uint32_t *fields, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status = mr_batch_builder_new(schema, &builder, err);

    for (int64_t at = 0; at < block->rows && status == MR_OK; at += PIECE_ROWS) {
        int64_t count = MR_MIN(block->rows - at, (int64_t)PIECE_ROWS);

        status = mr_nex_append(model, table, at, count, fields, block->column_count, builder, err);
        if (status == MR_OK)
            status = mr_batch_builder_finish(builder, &block->pieces[block->piece_count], err);
        if (status == MR_OK)
            block->piece_count++;
    }
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr_nex_block_new(const struct mr_nex_model *model, enum mr_nex_table table,
                                int64_t events, const struct mr_schema *schema,
                                const uint32_t *fields, struct mr_nex_block **ret_block,
                                struct mr_error *err)
{
    struct mr_nex_block *block = mr_alloc_zero(NULL, sizeof(*block));
    enum mr_status status;

    MR_ASSERT(events % MR_NEX_EPOCH == 0);
    if (block == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make events to replay: out of memory");
    block->rows = mr_nex_rows_before(table, events);
    block->column_count = mr_schema_field_count(schema);
    for (uint32_t i = 0; i < block->column_count; i++) {
        const struct mr_field *field = mr_schema_field(schema, i);

        block->steps[i] = step_of(model, field, events);
        if (strcmp(field->name, "id") == 0)
            block->steps[i] = mr_nex_rows_before(table, events);
    }
    block->pieces =
        mr_alloc_zero(NULL, (size_t)(block->rows / PIECE_ROWS + 1) * sizeof(struct mr_batch *));
    status = block->pieces != NULL
                 ? make_pieces(block, model, table, schema, fields, err)
                 : MR_FAIL(err, MR_NOMEM, "cannot make events to replay: out of memory");
    if (status == MR_OK)
        *ret_block = block;
    else
        mr_nex_block_free(block);
    return status;
}

static enum mr_status append_numbers(struct mr_column_builder *out, const struct mr_column *from,
                                     int64_t at, int64_t count, int64_t add, struct mr_error *err)
{
    const int64_t *values = (const int64_t *)from->values + at;

    MR_TRY(mr_column_builder_reserve(out, count, 0, err));
    for (int64_t i = 0; i < count; i++)
        mr_column_builder_i64(out, values[i] + add);
    return MR_OK;
}

static enum mr_status append_texts(struct mr_column_builder *out, const struct mr_column *from,
                                   int64_t at, int64_t count, struct mr_error *err)
{
    size_t bytes = (size_t)(from->offsets[at + count] - from->offsets[at]);

    MR_TRY(mr_column_builder_reserve(out, count, bytes, err));
    for (int64_t i = 0; i < count; i++) {
        struct mr_slice text = mr_column_text(from, at + i);

        mr_column_builder_bytes(out, text.data, text.size_bytes);
    }
    return MR_OK;
}

enum mr_status mr_nex_block_append(const struct mr_nex_block *block, int64_t from, int64_t count,
                                   struct mr_batch_builder *builder, int64_t *ret_count,
                                   struct mr_error *err)
{
    int64_t pass = from / block->rows;
    int64_t row = from % block->rows;
    const struct mr_batch *piece = block->pieces[row / PIECE_ROWS];
    int64_t at = row % PIECE_ROWS;
    int64_t here = MR_MIN(count, mr_batch_row_count(piece) - at);

    for (uint32_t i = 0; i < block->column_count; i++) {
        const struct mr_column *column = mr_batch_column(piece, i);
        struct mr_column_builder *out = mr_batch_builder_column(builder, i);

        if (column->type->id == MR_TYPE_TEXT)
            MR_TRY(append_texts(out, column, at, here, err));
        else
            MR_TRY(append_numbers(out, column, at, here, block->steps[i] * pass, err));
    }
    *ret_count = here;
    return mr_batch_builder_rows_added(builder, here, err);
}
