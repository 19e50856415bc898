/*
 * The two stores of a join: one entry a row.
 *
 *     <name>.left, <name>.right
 *     key    the row's number, as the key encoding of a BIGINT: 0x01, 8 bytes big-endian, sign
 *            flipped
 *     value  u8 matched (outer joins), then the value encoding of the side's columns
 *            (data/row_codec.h)
 *
 * A number is given once: rows of one key are not a list in one value, because appending to a list
 * writes all of it again, into memory and into the batch's delta; an entry a row costs the same for
 * the millionth row of a key as for the first. The index by key is in memory only and is made again
 * at a start.
 *
 * Numbers of partition p are those whose hash falls into shard p, which the partition's worker may
 * change while others change theirs: about eight are tried for one. They grow, so the order of
 * numbers is the order in which rows came.
 *
 * Thread: open and load the driver; the rest a partition's worker.
 */
#include "data/row_codec.h"
#include "ops/join_internal.h"

#include <stdlib.h>

enum { KEY_BYTES = 9, LOAD_ROWS = 16 * 1024 };

static void encode_number(uint64_t number, char out[KEY_BYTES])
{
    uint64_t bits = number ^ (UINT64_C(1) << 63);

    out[0] = 1;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (char)(bits >> (56 - 8 * i));
}

static uint64_t decode_number(const char *key)
{
    uint64_t bits = 0;

    for (int i = 0; i < 8; i++)
        bits = bits << 8 | (uint8_t)key[1 + i];
    return bits ^ (UINT64_C(1) << 63);
}

/* ---- rows ---- */

/* The next number of a side; key: as the store has it. */
static uint64_t next_number(const struct mr_join *join, struct mr_join_part *part, unsigned side,
                            char key[KEY_BYTES], uint64_t *ret_hash)
{
    uint64_t number = part->side[side].next_number;

    for (;; number++) {
        encode_number(number, key);
        *ret_hash = mr_store_hash(join->store[side], key, KEY_BYTES);
        if (mr_store_shard(*ret_hash) == part->index)
            break;
    }
    part->side[side].next_number = number + 1;
    return number;
}

static enum mr_status put_value(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct mr_join_ref *ref, bool matched, uint64_t hash,
                                const char key[KEY_BYTES], struct mr_error *err)
{
    bool created = false;
    char *value = NULL;

    mr_buf_clear(&part->value);
    mr_buf_add_u8(&part->value, matched);
    mr_value_encode(&part->value, ref->held->columns, mr_schema_field_count(join->schema[side]),
                    ref->at);
    if (part->value.failed)
        return mr_join__no_memory(err);
    MR_TRY(mr_store_upsert_hashed(join->store[side], hash, key, KEY_BYTES, part->value.size, &value,
                                  &created, err));
    MR_ASSERT(value != NULL && created);
    memcpy(value, part->value.data, part->value.size);
    part->updated++;
    return MR_OK;
}

/* One row under a number it was given. */
static enum mr_status store_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct mr_join_in *in, uint64_t number, uint64_t hash,
                                struct mr_error *err)
{
    struct mr_join_ref ref = {in->held, in->at};
    char key[KEY_BYTES];
    uint32_t row;

    encode_number(number, key);
    MR_TRY(put_value(join, part, side, &ref, in->matched, hash, key, err));
    return mr_join__add_row(join, part, side, in, number, &row, err);
}

/* Numbers are given ahead, so that memory can be asked for what their entries will touch. */
enum mr_status mr_join__store_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   const struct mr_join_in *const *ins, size_t count,
                                   struct mr_error *err)
{
    uint64_t numbers[MR_JOIN_STORE_ROWS];
    uint64_t hashes[MR_JOIN_STORE_ROWS];
    char key[KEY_BYTES];

    MR_ASSERT(count <= MR_JOIN_STORE_ROWS);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = next_number(join, part, side, key, &hashes[i]);
        mr_store_hint(join->store[side], hashes[i], 0);
    }
    for (size_t i = 0; i < count; i++)
        mr_store_hint(join->store[side], hashes[i], 1);
    for (size_t i = 0; i < count; i++)
        MR_TRY(store_row(join, part, side, ins[i], numbers[i], hashes[i], err));
    return MR_OK;
}

enum mr_status mr_join__keep_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 const struct mr_join_in *in, uint32_t *ret_row,
                                 struct mr_error *err)
{
    char key[KEY_BYTES];
    uint64_t hash;
    uint64_t number = next_number(join, part, side, key, &hash);

    MR_TRY(mr_join__add_row(join, part, side, in, number, ret_row, err));
    part->side[side].rows[*ret_row].fresh = true;
    return MR_OK;
}

enum mr_status mr_join__store_kept(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   uint32_t index, struct mr_error *err)
{
    struct mr_join_row *row = &part->side[side].rows[index];
    struct mr_join_ref ref = {row->held, row->at};
    char key[KEY_BYTES];

    encode_number(row->number, key);
    row->fresh = false;
    return put_value(join, part, side, &ref, row->matched,
                     mr_store_hash(join->store[side], key, KEY_BYTES), key, err);
}

enum mr_status mr_join__store_matched(struct mr_join *join, struct mr_join_part *part,
                                      unsigned side, uint32_t index, struct mr_error *err)
{
    struct mr_join_row *row = &part->side[side].rows[index];
    char key[KEY_BYTES];
    const char *have = NULL;
    size_t have_bytes = 0;
    bool created = false;
    uint64_t hash;
    char *value = NULL;

    row->matched = true;
    encode_number(row->number, key);
    hash = mr_store_hash(join->store[side], key, sizeof(key));
    if (!mr_store_get_hashed(join->store[side], hash, key, sizeof(key), &have, &have_bytes))
        return MR_FAIL(err, MR_CORRUPT, "row %llu of the join is not in its store",
                       (unsigned long long)row->number);
    MR_TRY(mr_store_upsert_hashed(join->store[side], hash, key, sizeof(key), have_bytes, &value,
                                  &created, err));
    MR_ASSERT(value != NULL && !created);
    value[0] = 1;
    return MR_OK;
}

enum mr_status mr_join__drop_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 uint32_t row, struct mr_error *err)
{
    char key[KEY_BYTES];

    encode_number(part->side[side].rows[row].number, key);
    if (!part->side[side].rows[row].fresh)
        MR_TRY(mr_store_delete(join->store[side], key, sizeof(key), err));
    mr_join__remove_row(part, side, row);
    return MR_OK;
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
};

static int by_number(const void *a, const void *b)
{
    uint64_t one = ((const struct loaded *)a)->number;
    uint64_t two = ((const struct loaded *)b)->number;

    return one < two ? -1 : one > two;
}

static enum mr_status read_entries(const struct mr_store *store, unsigned shard,
                                   struct loaded **ret_rows, size_t *ret_count,
                                   struct mr_error *err)
{
    uint64_t count = mr_store_shard_count(store, shard);
    struct loaded *rows = mr_alloc(NULL, ((size_t)count + 1) * sizeof(*rows));
    struct mr_store_entry entries[64];
    uint32_t cursor = 0;
    size_t got, at = 0;

    if (rows == NULL)
        return mr_join__no_memory(err);
    while ((got = mr_store_read_shard(store, shard, &cursor, entries, 64)) > 0) {
        for (size_t i = 0; i < got; i++) {
            if (entries[i].key_bytes != KEY_BYTES || entries[i].value_bytes < 1 || at == count) {
                mr_free(rows);
                return MR_FAIL(err, MR_CORRUPT, "a row of the join's state has no number");
            }
            rows[at++] = (struct loaded){decode_number(entries[i].key), entries[i].value,
                                         entries[i].value_bytes};
        }
    }
    if (at > 0)
        qsort(rows, at, sizeof(*rows), by_number);
    *ret_rows = rows;
    *ret_count = at;
    return MR_OK;
}

static enum mr_status decode_rows(struct mr_join *join, unsigned side, const struct loaded *rows,
                                  size_t count, struct mr_join_held **ret_held,
                                  struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(join->schema[side]);
    struct mr_column_builder **builders =
        mr_alloc(NULL, columns * sizeof(struct mr_column_builder *));
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (builders == NULL)
        return mr_join__no_memory(err);
    MR_TRY_GOTO(mr_batch_builder_new(join->schema[side], &builder, err));
    for (uint32_t i = 0; i < columns; i++)
        builders[i] = mr_batch_builder_column(builder, i);
    for (size_t i = 0; i < count; i++) {
        struct mr_bytes bytes = mr_bytes_of(rows[i].value + 1, rows[i].value_bytes - 1);

        MR_TRY_GOTO(mr_value_decode(&bytes, builders, columns, err));
    }
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, (int64_t)count, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &batch, err));
    MR_TRY_GOTO(mr_join__hold(join, batch, ret_held, err));
done:
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_free(builders);
    return status;
}

static enum mr_status load_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct loaded *rows, size_t count, struct mr_error *err)
{
    uint64_t *hashes = mr_alloc(NULL, (count + 1) * sizeof(*hashes));
    bool *any_null = mr_alloc(NULL, count + 1);
    struct mr_join_held *held = NULL;
    enum mr_status status;

    if (hashes == NULL || any_null == NULL) {
        status = mr_join__no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(decode_rows(join, side, rows, count, &held, err));
    MR_ASSERT(held != NULL);
    MR_TRY_GOTO(mr_join__hash(join, side, held, hashes, any_null, err));
    for (uint32_t i = 0; i < count; i++) {
        struct mr_join_in in = {.held = held,
                                .at = i,
                                .hash = hashes[i],
                                .key = MR_JOIN_NO_ROW,
                                .matched = rows[i].value[0] != 0,
                                .fate = any_null[i] ? MR_JOIN_NULL_KEY : MR_JOIN_SEARCHES};
        uint32_t row;

        if (mr_store_shard(hashes[i]) != part->index) {
            status = MR_FAIL(err, MR_CORRUPT, "a row of the join's state is in the wrong shard");
            goto done;
        }
        MR_TRY_GOTO(mr_join__add_row(join, part, side, &in, rows[i].number, &row, err));
    }
done:
    mr_free(hashes);
    mr_free(any_null);
    return status;
}

enum mr_status mr_join__load(struct mr_join *join, struct mr_error *err)
{
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
        mr_join__part_clear(&join->parts[p]);
    mr_join__held_clear(join);
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++) {
        for (unsigned side = 0; side < 2; side++) {
            struct loaded *rows = NULL;
            size_t count = 0;
            enum mr_status status;

            MR_TRY(read_entries(join->store[side], p, &rows, &count, err));
            status = MR_OK;
            for (size_t at = 0; at < count && status == MR_OK; at += LOAD_ROWS)
                status = load_rows(join, &join->parts[p], side, rows + at,
                                   MR_MIN(count - at, (size_t)LOAD_ROWS), err);
            if (count > 0)
                join->parts[p].side[side].next_number = rows[count - 1].number + 1;
            mr_free(rows);
            MR_TRY(status);
        }
    }
    join->loaded = true;
    return MR_OK;
}
