/*
 * The two stores of a join: one entry a block of rows.
 *
 *     <name>.left, <name>.right
 *     block   key: number | u16 0xffff    value: up to 1,024 rows by column (join_block.c)
 *     marks   key: number | u16 n         value: bitmap of rows that left | bitmap of matched rows
 *     row     key: number                 value: u8 matched, then the value encoding of the columns
 *
 *     number  the key encoding of a BIGINT: 0x01, 8 bytes big-endian, sign flipped; u16 big-endian
 *
 * A block is what one batch brings to one partition and side. It is written once: what happens to
 * its rows later is in its marks, which go with it. A list of rows per key was the other choice:
 * each append writes all of it again. The index by key is in memory only and is made again at a
 * start. Entries of single rows are what the first version wrote: they are read, and leave one by
 * one.
 *
 * Numbers of partition p are those whose hash falls into shard p, which the partition's worker may
 * change while others change theirs: about eight are tried for one. So is n, from 1 on. Numbers
 * grow, so their order is the order in which rows came.
 *
 * Merging. Many small batches make many small blocks: when the last MERGE_BLOCKS have fewer than
 * SMALL_ROWS live rows and at most SMALL_BYTES each, they become one under the number of the first,
 * which keeps the order. When most of what a side holds is dead, its mostly dead blocks are written
 * again. Both depend on what is in the stores alone, so they happen at the same batch after a
 * restart.
 *
 * Thread: open and load the driver; the rest a partition's worker.
 */
#include "data/row_codec.h"
#include "ops/join_internal.h"

#include <stdlib.h>

enum {
    ROW_KEY_BYTES = 9,
    KEY_BYTES = 11,
    HINT_AHEAD = 16,
    BLOCK_PART = 0xffff,
    MERGE_BLOCKS = 32,
    SMALL_ROWS = 32,
    SMALL_BYTES = 16 * 1024,
    DEAD_ROWS_MIN = 8 * 1024,
};
_Static_assert(MERGE_BLOCKS *SMALL_ROWS <= MR_JOIN_BLOCK_ROWS, "they fit into one");

static void encode_key(uint64_t number, unsigned part, char out[KEY_BYTES])
{
    uint64_t bits = number ^ (UINT64_C(1) << 63);

    out[0] = 1;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (char)(bits >> (56 - 8 * i));
    out[9] = (char)(part >> 8);
    out[10] = (char)part;
}

static uint64_t decode_number(const char *key)
{
    uint64_t bits = 0;

    for (int i = 0; i < 8; i++)
        bits = bits << 8 | (uint8_t)key[1 + i];
    return bits ^ (UINT64_C(1) << 63);
}

static size_t bitmap_bytes(size_t rows)
{
    return (rows + 7) / 8;
}

static bool has_bit(const uint8_t *bits, uint32_t at)
{
    return bits != NULL && (bits[at >> 3] >> (at & 7) & 1) != 0;
}

/* ---- blocks ---- */

/* The next number of a side. */
static uint64_t next_number(const struct mr_join *join, struct mr_join_part *part, unsigned side)
{
    uint64_t number = part->side[side].next_number;
    char key[KEY_BYTES];

    for (;; number++) {
        encode_key(number, BLOCK_PART, key);
        if (mr_store_shard(mr_store_hash(join->store[side], key, KEY_BYTES)) == part->index)
            break;
    }
    part->side[side].next_number = number + 1;
    return number;
}

/* Decodes the columns that are not read where they lie. */
static enum mr_status decode_nested(struct mr_join *join, unsigned side,
                                    struct mr_join_block *block, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(join->schema[side]);
    struct mr_batch_builder *builder = NULL;
    uint32_t at = 0;
    enum mr_status status;

    block->held.columns = mr_alloc_zero(NULL, columns * sizeof(struct mr_column *));
    if (block->held.columns == NULL)
        return mr_join__no_memory(err);
    MR_TRY(mr_batch_builder_new(join->nested[side], &builder, err));
    for (uint32_t c = 0; c < columns; c++) {
        if (!mr_join__is_nested(&mr_schema_field(join->schema[side], c)->type))
            continue;
        for (uint32_t row = 0; row < block->rows; row++)
            MR_TRY_GOTO(mr_join__append(mr_batch_builder_column(builder, at),
                                        &block->held.packed[c], row, err));
        at++;
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, block->rows, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &block->held.batch, err));
    at = 0;
    for (uint32_t c = 0; c < columns; c++) {
        if (mr_join__is_nested(&mr_schema_field(join->schema[side], c)->type))
            block->held.columns[c] = mr_batch_column(block->held.batch, at++);
    }
done:
    mr_batch_builder_free(builder);
    return status;
}

/* A block of the table over an entry of the store. */
static enum mr_status open_block(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 uint64_t number, struct mr_slice value,
                                 struct mr_join_block **ret_block, const uint8_t **ret_matched,
                                 struct mr_error *err)
{
    uint32_t rows = mr_join__packed_rows(value);
    struct mr_join_block *block = NULL;

    if (rows == 0)
        return MR_FAIL(err, MR_CORRUPT, "rows of the join's state cannot be read");
    MR_TRY(mr_join__block_new(join, part, side, number, rows, &block, err));
    MR_TRY(mr_join__unpack(value, join->schema[side],
                           (struct mr_join_packed *)(uintptr_t)block->held.packed, &rows,
                           ret_matched, err));
    block->value_bytes = (uint32_t)value.size_bytes;
    if (join->nested[side] != NULL)
        MR_TRY(decode_nested(join, side, block, err));
    *ret_block = block;
    return MR_OK;
}

/* Writes part->value as the block of that number, and opens it. */
static enum mr_status put_block(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                uint64_t number, struct mr_join_block **ret_block,
                                struct mr_error *err)
{
    char key[KEY_BYTES];
    const uint8_t *matched = NULL;
    bool created = false;
    char *value = NULL;

    if (part->value.failed)
        return mr_join__no_memory(err);
    encode_key(number, BLOCK_PART, key);
    MR_TRY(mr_store_upsert(join->store[side], key, KEY_BYTES, part->value.size, &value, &created,
                           err));
    MR_ASSERT(value != NULL);
    memcpy(value, part->value.data, part->value.size);
    return open_block(join, part, side, number, (struct mr_slice){value, part->value.size},
                      ret_block, &matched, err);
}

/* The flags of part->ins or of rows, as bytes behind the numbers: pack reads them. */
static uint8_t *matched_bytes(const struct mr_join *join, struct mr_join_part *part, unsigned side)
{
    return mr_join__preserves(join, side) ? (uint8_t *)(part->numbers + MR_JOIN_BLOCK_ROWS) : NULL;
}

enum mr_status mr_join__store_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   size_t count, struct mr_error *err)
{
    struct mr_join_ref *refs = part->refs[0];
    uint8_t *matched = matched_bytes(join, part, side);
    struct mr_join_block *block = NULL;

    if (count == 0)
        return MR_OK;
    for (size_t i = 0; i < count; i++) {
        refs[i] = (struct mr_join_ref){part->ins[i]->held, part->ins[i]->at};
        if (matched != NULL)
            matched[i] = part->ins[i]->matched;
    }
    mr_buf_clear(&part->value);
    mr_join__pack(&part->value, join->schema[side], refs, count, matched, part->numbers);
    MR_TRY(put_block(join, part, side, next_number(join, part, side), &block, err));
    MR_ASSERT(block != NULL);
    for (uint32_t i = 0; i < count; i++) {
        if (i + HINT_AHEAD < count && part->ins[i + HINT_AHEAD]->key == MR_JOIN_NO_ROW)
            mr_join__hint(part, side, part->ins[i + HINT_AHEAD]->hash, 0);
        MR_TRY(mr_join__add_row(join, part, side, block, i, part->ins[i], err));
    }
    part->updated += count;
    return mr_join__block_due(join, part, side, block, err);
}

/* ---- what happens to rows ---- */

static enum mr_status touch(struct mr_join_part *part, unsigned side, struct mr_join_block *block,
                            struct mr_error *err)
{
    if (block->touched)
        return MR_OK;
    block->touched = true;
    return mr_join__list_add(&part->side[side].touched, block->slot, err);
}

/* An entry of a single row. */
static enum mr_status set_row_matched(struct mr_join *join, unsigned side, uint64_t number,
                                      struct mr_error *err)
{
    char key[KEY_BYTES];
    const char *have = NULL;
    size_t have_bytes = 0;
    bool created = false;
    char *value = NULL;

    encode_key(number, 0, key);
    if (!mr_store_get(join->store[side], key, ROW_KEY_BYTES, &have, &have_bytes))
        return MR_FAIL(err, MR_CORRUPT, "row %llu of the join is not in its store",
                       (unsigned long long)number);
    MR_TRY(
        mr_store_upsert(join->store[side], key, ROW_KEY_BYTES, have_bytes, &value, &created, err));
    MR_ASSERT(value != NULL && !created);
    value[0] = 1;
    return MR_OK;
}

enum mr_status mr_join__set_matched(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                    uint32_t row, struct mr_error *err)
{
    struct mr_join_block *block = mr_join__block(part, side, row);

    block->flags[mr_join__place(row)] |= MR_JOIN_MATCHED;
    if (block->row_numbers != NULL)
        return set_row_matched(join, side, block->row_numbers[mr_join__place(row)], err);
    return touch(part, side, block, err);
}

enum mr_status mr_join__drop_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 uint32_t row, struct mr_error *err)
{
    struct mr_join_block *block = mr_join__block(part, side, row);

    if (block->row_numbers != NULL) {
        char key[KEY_BYTES];

        encode_key(block->row_numbers[mr_join__place(row)], 0, key);
        MR_TRY(mr_store_delete(join->store[side], key, ROW_KEY_BYTES, err));
    }
    mr_join__remove_row(part, side, row);
    return touch(part, side, block, err);
}

/* ---- settling ---- */

/* The key of a block's marks, in its shard. */
static void marks_key(const struct mr_join *join, const struct mr_join_part *part, unsigned side,
                      struct mr_join_block *block, char key[KEY_BYTES])
{
    unsigned at = block->marks != 0 ? block->marks : 1;

    for (; at < BLOCK_PART; at++) {
        encode_key(block->number, at, key);
        if (mr_store_shard(mr_store_hash(join->store[side], key, KEY_BYTES)) == part->index)
            break;
    }
    MR_ASSERT(at < BLOCK_PART);
    block->marks = (uint16_t)at;
}

static enum mr_status write_marks(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  struct mr_join_block *block, struct mr_error *err)
{
    size_t half = bitmap_bytes(block->rows);
    char key[KEY_BYTES];
    bool created = false;
    char *value = NULL;

    marks_key(join, part, side, block, key);
    MR_TRY(mr_store_upsert(join->store[side], key, KEY_BYTES, half * 2, &value, &created, err));
    MR_ASSERT(value != NULL);
    memset(value, 0, half * 2);
    for (uint32_t at = 0; at < block->rows; at++) {
        if ((block->flags[at] & MR_JOIN_LIVE) == 0)
            value[at >> 3] |= (char)(1u << (at & 7));
        if ((block->flags[at] & MR_JOIN_MATCHED) != 0)
            value[half + (at >> 3)] |= (char)(1u << (at & 7));
    }
    return MR_OK;
}

static enum mr_status delete_marks(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   struct mr_join_block *block, struct mr_error *err)
{
    char key[KEY_BYTES];

    if (block->marks == 0)
        return MR_OK;
    marks_key(join, part, side, block, key);
    block->marks = 0;
    return mr_store_delete(join->store[side], key, KEY_BYTES, err);
}

/* A block without rows leaves the table, and the store unless another took its number over. */
static enum mr_status drop_block(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 struct mr_join_block *block, bool keep_entry, struct mr_error *err)
{
    char key[KEY_BYTES];

    MR_TRY(delete_marks(join, part, side, block, err));
    if (block->row_numbers == NULL && !keep_entry) {
        encode_key(block->number, BLOCK_PART, key);
        MR_TRY(mr_store_delete(join->store[side], key, KEY_BYTES, err));
    }
    mr_join__block_free(part, side, block);
    return MR_OK;
}

/* The live rows of count blocks, neighbours from `slot` on, as one block. */
static enum mr_status merge_blocks(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   uint32_t slot, unsigned count, struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    struct mr_join_ref *refs = part->refs[0];
    uint8_t *matched = matched_bytes(join, part, side);
    uint64_t number = rows->blocks[slot]->number;
    struct mr_join_block *block = NULL;
    uint32_t from[MERGE_BLOCKS];
    uint32_t to = 0;
    size_t live = 0;

    MR_ASSERT(count > 0 && count <= MERGE_BLOCKS);
    for (unsigned i = 0; i < count; i++, slot = rows->blocks[slot]->after) {
        const struct mr_join_block *one = rows->blocks[slot];

        from[i] = slot;
        for (uint32_t at = 0; at < one->rows; at++) {
            if ((one->flags[at] & MR_JOIN_LIVE) == 0)
                continue;
            if (matched != NULL)
                matched[live] = one->flags[at] & MR_JOIN_MATCHED;
            refs[live++] = (struct mr_join_ref){&one->held, at};
        }
    }
    mr_buf_clear(&part->value);
    mr_join__pack(&part->value, join->schema[side], refs, live, matched, part->numbers);
    MR_TRY(put_block(join, part, side, number, &block, err));
    MR_ASSERT(block != NULL && block->rows == live);
    for (unsigned i = 0; i < count; i++) {
        struct mr_join_block *one = rows->blocks[from[i]];

        for (uint32_t at = 0; at < one->rows; at++) {
            if ((one->flags[at] & MR_JOIN_LIVE) != 0)
                mr_join__move_row(part, side, from[i] << MR_JOIN_BLOCK_BITS | at,
                                  block->slot << MR_JOIN_BLOCK_BITS | to++);
        }
        MR_TRY(drop_block(join, part, side, one, i == 0, err));
    }
    return mr_join__block_due(join, part, side, block, err);
}

static enum mr_status merge_small(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    uint32_t slot = MR_JOIN_NO_ROW;
    unsigned count = 0;

    for (uint32_t at = rows->last; at != MR_JOIN_NO_ROW && count < MERGE_BLOCKS; count++) {
        const struct mr_join_block *block = rows->blocks[at];

        if (block->live >= SMALL_ROWS || block->value_bytes > SMALL_BYTES ||
            block->row_numbers != NULL)
            return MR_OK;
        slot = at;
        at = block->before;
    }
    return count == MERGE_BLOCKS ? merge_blocks(join, part, side, slot, count, err) : MR_OK;
}

static enum mr_status merge_dead(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    uint32_t next;

    if (rows->held <= 4 * rows->live + DEAD_ROWS_MIN)
        return MR_OK;
    for (uint32_t at = rows->first; at != MR_JOIN_NO_ROW; at = next) {
        const struct mr_join_block *block = rows->blocks[at];

        next = block->after;
        if (block->live < block->rows / 2 && block->row_numbers == NULL)
            MR_TRY(merge_blocks(join, part, side, at, 1, err));
    }
    return MR_OK;
}

enum mr_status mr_join__settle(struct mr_join *join, struct mr_join_part *part, unsigned side,
                               struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];

    for (size_t i = 0; i < rows->touched.count; i++) {
        struct mr_join_block *block = rows->blocks[rows->touched.rows[i]];

        block->touched = false;
        if (block->live == 0)
            MR_TRY(drop_block(join, part, side, block, false, err));
        else if (block->row_numbers == NULL)
            MR_TRY(write_marks(join, part, side, block, err));
    }
    rows->touched.count = 0;
    MR_TRY(merge_small(join, part, side, err));
    return merge_dead(join, part, side, err);
}

/* ---- open ---- */

/* "by k1, k2 of: " and the columns: rows of one key are in one shard, so the keys are part of the
 * form. */
static enum mr_status print_value(const struct mr_join *join, unsigned side, struct mr_buf *out,
                                  struct mr_error *err)
{
    char *columns = mr_schema_print(join->schema[side]);

    mr_buf_add_str(out, "matched BOOLEAN, ");
    mr_buf_add_str(out, columns != NULL ? columns : "");
    mr_buf_add_str(out, " by ");
    for (uint32_t i = 0; i < join->key_count; i++) {
        const struct mr_field *field =
            mr_schema_field(join->schema[side], join->keys[i].column[side]);

        mr_buf_add_str(out, i > 0 ? ", " : "");
        mr_buf_add_str(out, field->name);
        mr_buf_add_str(out, join->keys[i].null_equal ? " with null" : "");
    }
    if (columns == NULL)
        out->failed = true;
    mr_text_free(columns);
    return out->failed ? mr_join__no_memory(err) : MR_OK;
}

enum mr_status mr_join__open_stores(struct mr_join *join, struct mr_state *state,
                                    struct mr_error *err)
{
    static const char *const suffixes[2] = {"left", "right"};
    enum mr_status status = MR_OK;

    for (unsigned side = 0; side < 2 && status == MR_OK; side++) {
        struct mr_buf value = MR_BUF_INIT;
        char *name = mr_asprintf("%s.%s", join->name, suffixes[side]);

        status = name == NULL ? mr_join__no_memory(err) : print_value(join, side, &value, err);
        if (status == MR_OK)
            status = mr_state_store(state, name, "join", "row BIGINT", value.data,
                                    &join->store[side], err);
        mr_buf_release(&value);
        mr_free(name);
    }
    if (status == MR_OK)
        join->seed = mr_store_hash(join->store[0], "", 0);
    return status;
}

/* ---- load ---- */

struct loaded {
    uint64_t number;
    const char *value;
    uint32_t value_bytes;
    uint32_t part; /* of the key; 0: an entry of a single row */
};

static int by_number(const void *a, const void *b)
{
    const struct loaded *one = a;
    const struct loaded *two = b;

    if (one->number != two->number)
        return one->number < two->number ? -1 : 1;
    return one->part < two->part ? -1 : one->part > two->part;
}

static bool take_entry(const struct mr_store_entry *entry, struct loaded *ret_loaded)
{
    const uint8_t *key = (const uint8_t *)entry->key;

    if ((entry->key_bytes != KEY_BYTES && entry->key_bytes != ROW_KEY_BYTES) ||
        entry->value_bytes < 1)
        return false;
    *ret_loaded =
        (struct loaded){decode_number(entry->key), entry->value, entry->value_bytes,
                        entry->key_bytes == KEY_BYTES ? (uint32_t)(key[9] << 8 | key[10]) : 0};
    return entry->key_bytes == ROW_KEY_BYTES || ret_loaded->part > 0;
}

static enum mr_status read_entries(const struct mr_store *store, unsigned shard,
                                   struct loaded **ret_entries, size_t *ret_count,
                                   struct mr_error *err)
{
    uint64_t count = mr_store_shard_count(store, shard);
    struct loaded *loaded = mr_alloc(NULL, ((size_t)count + 1) * sizeof(*loaded));
    struct mr_store_entry entries[64];
    uint32_t cursor = 0;
    size_t got, at = 0;

    if (loaded == NULL)
        return mr_join__no_memory(err);
    while ((got = mr_store_read_shard(store, shard, &cursor, entries, 64)) > 0) {
        for (size_t i = 0; i < got; i++) {
            if (at == count || !take_entry(&entries[i], &loaded[at++])) {
                mr_free(loaded);
                return MR_FAIL(err, MR_CORRUPT, "a row of the join's state has no number");
            }
        }
    }
    if (at > 0)
        qsort(loaded, at, sizeof(*loaded), by_number);
    *ret_entries = loaded;
    *ret_count = at;
    return MR_OK;
}

/* Hashes of a block's keys, and its rows into the table. matched, left: bitmaps, NULL = none. */
static enum mr_status add_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                               struct mr_join_block *block, const uint8_t *matched,
                               const uint8_t *left, struct mr_error *err)
{
    uint64_t *hashes = part->numbers;
    bool *any_null = (bool *)(part->numbers + MR_JOIN_BLOCK_ROWS);

    MR_TRY(mr_join__hash(join, side, &block->held, block->rows, hashes, any_null, err));
    for (uint32_t i = 0; i < block->rows; i++) {
        struct mr_join_in in = {.held = &block->held,
                                .at = i,
                                .hash = hashes[i],
                                .key = MR_JOIN_NO_ROW,
                                .matched = has_bit(matched, i),
                                .fate = any_null[i] ? MR_JOIN_NULL_KEY : MR_JOIN_SEARCHES};

        if (mr_store_shard(hashes[i]) != part->index)
            return MR_FAIL(err, MR_CORRUPT, "a row of the join's state is in the wrong shard");
        if (!has_bit(left, i))
            MR_TRY(mr_join__add_row(join, part, side, block, i, &in, err));
    }
    return mr_join__block_due(join, part, side, block, err);
}

static enum mr_status load_block(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 const struct loaded *entry, const struct loaded *marks,
                                 struct mr_error *err)
{
    struct mr_slice value = {entry->value, entry->value_bytes};
    struct mr_join_block *block = NULL;
    const uint8_t *matched = NULL;
    const uint8_t *left = NULL;

    MR_TRY(open_block(join, part, side, entry->number, value, &block, &matched, err));
    MR_ASSERT(block != NULL);
    if (marks != NULL) {
        if (marks->number != entry->number || marks->value_bytes != 2 * bitmap_bytes(block->rows))
            return MR_FAIL(err, MR_CORRUPT, "the marks of rows of the join's state are not theirs");
        block->marks = (uint16_t)marks->part;
        left = (const uint8_t *)marks->value;
        matched = left + bitmap_bytes(block->rows);
    }
    return add_rows(join, part, side, block, matched, left, err);
}

static enum mr_status decode_rows(struct mr_join *join, unsigned side, const struct loaded *rows,
                                  struct mr_join_block *block, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(join->schema[side]);
    struct mr_column_builder **builders =
        mr_alloc(NULL, columns * sizeof(struct mr_column_builder *));
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    block->held.columns = mr_alloc_zero(NULL, columns * sizeof(struct mr_column *));
    block->row_numbers = mr_alloc(NULL, block->rows * sizeof(*block->row_numbers));
    if (builders == NULL || block->held.columns == NULL || block->row_numbers == NULL) {
        status = mr_join__no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(mr_batch_builder_new(join->schema[side], &builder, err));
    for (uint32_t i = 0; i < columns; i++)
        builders[i] = mr_batch_builder_column(builder, i);
    for (uint32_t i = 0; i < block->rows; i++) {
        struct mr_bytes bytes = mr_bytes_of(rows[i].value + 1, rows[i].value_bytes - 1);

        MR_TRY_GOTO(mr_value_decode(&bytes, builders, columns, err));
        block->row_numbers[i] = rows[i].number;
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, block->rows, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &block->held.batch, err));
    for (uint32_t i = 0; i < columns; i++)
        block->held.columns[i] = mr_batch_column(block->held.batch, i);
done:
    mr_batch_builder_free(builder);
    mr_free(builders);
    return status;
}

/* Entries of single rows that follow each other. */
static enum mr_status load_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct loaded *rows, uint32_t count, struct mr_error *err)
{
    uint8_t matched[MR_JOIN_BLOCK_ROWS / 8] = {0};
    struct mr_join_block *block = NULL;

    MR_TRY(mr_join__block_new(join, part, side, rows[0].number, count, &block, err));
    MR_ASSERT(block != NULL);
    MR_TRY(decode_rows(join, side, rows, block, err));
    for (uint32_t i = 0; i < count; i++)
        matched[i >> 3] |= (uint8_t)((rows[i].value[0] != 0) << (i & 7));
    return add_rows(join, part, side, block, matched, NULL, err);
}

/* By number; of one number the marks first. */
static enum mr_status load_side(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct loaded *entries, size_t count, struct mr_error *err)
{
    const struct loaded *marks = NULL;
    size_t next;

    for (size_t at = 0; at < count; at = next) {
        next = at + 1;
        if (entries[at].part == 0) {
            while (next < count && entries[next].part == 0 && next - at < MR_JOIN_BLOCK_ROWS)
                next++;
            MR_TRY(load_rows(join, part, side, entries + at, (uint32_t)(next - at), err));
        } else if (entries[at].part == BLOCK_PART) {
            MR_TRY(load_block(join, part, side, &entries[at], marks, err));
            marks = NULL;
        } else if (marks == NULL) {
            marks = &entries[at];
        } else {
            break;
        }
    }
    if (marks != NULL)
        return MR_FAIL(err, MR_CORRUPT, "the join's state has marks of rows that are not there");
    if (count > 0)
        part->side[side].next_number = entries[count - 1].number + 1;
    return MR_OK;
}

enum mr_status mr_join__load(struct mr_join *join, struct mr_error *err)
{
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
        mr_join__part_clear(&join->parts[p]);
    mr_join__held_clear(join);
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++) {
        for (unsigned side = 0; side < 2; side++) {
            struct loaded *entries = NULL;
            size_t count = 0;
            enum mr_status status = mr_join__make_room(&join->parts[p], err);

            if (status == MR_OK)
                status = read_entries(join->store[side], p, &entries, &count, err);
            if (status == MR_OK)
                status = load_side(join, &join->parts[p], side, entries, count, err);
            mr_free(entries);
            MR_TRY(status);
        }
    }
    join->loaded = true;
    return MR_OK;
}
