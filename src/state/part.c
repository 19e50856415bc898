/*
 * Deltas and snapshots as bytes: the same form inside the batch log and in files.
 *
 *     FILE_HEAD { is_snapshot u8, query id 16, version u64, epoch u32, attempt u32, seed u64,
 *                 store, kind, key schema, value schema: blocks }
 *     GROUP     { group u8, count varint, count * ( op u8: 1 put, 0 delete | key block | value
 *               block when put ) } 0 .. 256 times
 *     FILE_FOOT { entries u64, groups u32, keys in the store afterwards u64 }
 *
 * Records are framed as in wal/record.h. Each record's chain is the checksum of the one before it,
 * so a record that is missing, doubled or from another part breaks the chain. Groups ascend, keys
 * within a group ascend: the same content is the same bytes.
 */
#include "state/internal.h"

#include <stdlib.h>
#include <string.h>

enum { PART_VERSION = 1, OP_DELETE = 0, OP_PUT = 1 };

struct sortable {
    struct mr_entry *entry;
    unsigned group;
};

static int compare_sortable(const void *left, const void *right)
{
    const struct sortable *a = left, *b = right;
    int order;

    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    order = memcmp(mr__entry_key(a->entry), mr__entry_key(b->entry),
                   MR_MIN(a->entry->key_bytes, b->entry->key_bytes));
    return order != 0 ? order
                      : (a->entry->key_bytes > b->entry->key_bytes) -
                            (a->entry->key_bytes < b->entry->key_bytes);
}

/* What goes into the part: all live entries, or what the batch changed and was not undone by
 * itself. */
static enum mr_status collect(struct mr_store *store, bool is_snapshot, struct sortable **ret_all,
                              size_t *ret_count, struct mr_error *err)
{
    size_t room = is_snapshot ? store->used : store->change_count;
    struct sortable *all = mr_alloc(NULL, (room + 1) * sizeof(*all));
    size_t count = 0;

    if (all == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", store->name);
    for (uint64_t i = 0; is_snapshot && i < store->slot_count; i++) {
        struct mr_slot *slot = &store->slots[i];
        if (slot->entry != NULL && !slot->entry->dead)
            all[count++] = (struct sortable){slot->entry, mr_key_group(slot->hash)};
    }
    for (uint32_t i = 0; !is_snapshot && i < store->change_count; i++) {
        struct mr_change *change = &store->changes[i];
        if (!change->entry->dead || change->existed)
            all[count++] = (struct sortable){change->entry, mr_key_group(change->hash)};
    }
    qsort(all, count, sizeof(*all), compare_sortable);
    *ret_all = all;
    *ret_count = count;
    return MR_OK;
}

static void add_head(struct mr_buf *payload, const struct mr_store *store,
                     const struct mr_part_head *head)
{
    mr_buf_add_u8(payload, head->is_snapshot);
    mr_buf_add(payload, head->query_id, 16);
    mr_buf_add_u64(payload, head->version);
    mr_buf_add_u32(payload, head->epoch);
    mr_buf_add_u32(payload, head->attempt);
    mr_buf_add_u64(payload, head->seed);
    mr_buf_add_block(payload, store->name, strlen(store->name));
    mr_buf_add_block(payload, store->kind, strlen(store->kind));
    mr_buf_add_block(payload, store->key_schema, strlen(store->key_schema));
    mr_buf_add_block(payload, store->value_schema, strlen(store->value_schema));
}

static void add_entry(struct mr_buf *payload, struct mr_entry *entry)
{
    mr_buf_add_u8(payload, entry->dead ? OP_DELETE : OP_PUT);
    mr_buf_add_block(payload, mr__entry_key(entry), entry->key_bytes);
    if (!entry->dead)
        mr_buf_add_block(payload, mr__entry_value(entry), entry->value_bytes);
}

/* One record for the entries of one group, which stand at all[from .. to). */
static void add_group(struct mr_buf *out, struct mr_buf *payload, const struct sortable *all,
                      size_t from, size_t to, uint64_t *chain)
{
    mr_buf_clear(payload);
    mr_buf_add_u8(payload, (uint8_t)all[from].group);
    mr_buf_add_varint(payload, to - from);
    for (size_t i = from; i < to; i++)
        add_entry(payload, all[i].entry);
    out->failed |= payload->failed;
    if (!payload->failed)
        mr_record_append(out, MR_RECORD_GROUP, PART_VERSION, *chain, payload->data, payload->size,
                         chain);
}

enum mr_status mr__part_encode(struct mr_store *store, const struct mr_part_head *head,
                               struct mr_buf *out, struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;
    struct sortable *all = NULL;
    size_t count = 0;
    uint32_t group_count = 0;
    uint64_t chain = 0;

    MR_TRY(collect(store, head->is_snapshot, &all, &count, err));
    add_head(&payload, store, head);
    if (!payload.failed)
        mr_record_append(out, MR_RECORD_FILE_HEAD, PART_VERSION, 0, payload.data, payload.size,
                         &chain);
    out->failed |= payload.failed;
    for (size_t from = 0; from < count;) {
        size_t to = from + 1;
        while (to < count && all[to].group == all[from].group)
            to++;
        add_group(out, &payload, all, from, to, &chain);
        group_count++;
        from = to;
    }
    mr_buf_clear(&payload);
    mr_buf_add_u64(&payload, count);
    mr_buf_add_u32(&payload, group_count);
    mr_buf_add_u64(&payload, store->live);
    out->failed |= payload.failed;
    if (!payload.failed)
        mr_record_append(out, MR_RECORD_FILE_FOOT, PART_VERSION, chain, payload.data, payload.size,
                         &chain);
    mr_free(all);
    mr_buf_release(&payload);
    return out->failed
               ? MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", store->name)
               : MR_OK;
}

/* Reading: `where` names the file or the place in the log for errors. */

struct part_reader {
    const uint8_t *data;
    size_t size_bytes;
    size_t at;
    uint64_t chain;
    const char *where;
};

static enum mr_status next_record(struct part_reader *reader, enum mr_record_kind *ret_kind,
                                  struct mr_bytes *ret_bytes, struct mr_error *err)
{
    struct mr_record record;
    size_t size_bytes = 0;
    enum mr_record_result result =
        mr_record_read(reader->data + reader->at, reader->size_bytes - reader->at, reader->chain,
                       &record, &size_bytes);

    if (result == MR_RECORD_WRONG_ENDIAN || result == MR_RECORD_BAD_VERSION)
        return MR_FAIL(err, MR_VERSION, "cannot read '%s' at byte %zu: %s", reader->where,
                       reader->at, mr_record_result_text(result));
    if (result != MR_RECORD_OK)
        return MR_FAIL(err, MR_CORRUPT,
                       "'%s' is damaged at byte %zu: %s; restore it from a copy of the checkpoint",
                       reader->where, reader->at, mr_record_result_text(result));
    if (record.version != PART_VERSION)
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s': made by version %u of the format; run a newer millrace",
                       reader->where, record.version);
    reader->at += size_bytes;
    reader->chain = record.sum;
    *ret_kind = record.kind;
    *ret_bytes = mr_bytes_of(record.payload.data, record.payload.size_bytes);
    return MR_OK;
}

static enum mr_status bad_content(const struct part_reader *reader, const char *what,
                                  struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "'%s' is damaged before byte %zu: %s; restore it from a copy of the checkpoint",
                   reader->where, reader->at, what);
}

struct head_texts {
    const char *texts[4]; /* store, kind, key schema, value schema */
    size_t bytes[4];
};

static enum mr_status read_head(struct part_reader *reader, struct mr_part_head *ret_head,
                                struct head_texts *ret_texts, struct mr_error *err)
{
    enum mr_record_kind kind;
    struct mr_bytes bytes;
    const char *id;

    MR_TRY(next_record(reader, &kind, &bytes, err));
    if (kind != MR_RECORD_FILE_HEAD)
        return bad_content(reader, "it does not begin with a head", err);
    ret_head->is_snapshot = mr_bytes_u8(&bytes) != 0;
    id = mr_bytes_take(&bytes, 16);
    if (id != NULL)
        memcpy(ret_head->query_id, id, 16);
    ret_head->version = mr_bytes_u64(&bytes);
    ret_head->epoch = mr_bytes_u32(&bytes);
    ret_head->attempt = mr_bytes_u32(&bytes);
    ret_head->seed = mr_bytes_u64(&bytes);
    for (size_t i = 0; i < 4; i++)
        ret_texts->texts[i] = mr_bytes_block(&bytes, &ret_texts->bytes[i]);
    if (bytes.failed || mr_bytes_left(&bytes) != 0)
        return bad_content(reader, "its head has another length", err);
    return MR_OK;
}

enum mr_status mr__part_names(const void *data, size_t size_bytes, const char *where,
                              char **ret_kind, char **ret_key_schema, char **ret_value_schema,
                              uint64_t *ret_seed, struct mr_error *err)
{
    struct part_reader reader = {data, size_bytes, 0, 0, where};
    struct mr_part_head head = {0};
    struct head_texts texts = {0};

    MR_TRY(read_head(&reader, &head, &texts, err));
    *ret_seed = head.seed;
    *ret_kind = mr_strndup(texts.texts[1], texts.bytes[1]);
    *ret_key_schema = mr_strndup(texts.texts[2], texts.bytes[2]);
    *ret_value_schema = mr_strndup(texts.texts[3], texts.bytes[3]);
    if (*ret_kind == NULL || *ret_key_schema == NULL || *ret_value_schema == NULL) {
        mr_free(*ret_kind);
        mr_free(*ret_key_schema);
        mr_free(*ret_value_schema);
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", where);
    }
    return MR_OK;
}

/* A part of another query, batch or attempt under this name is a stale or misdirected copy (B6,
 * B7). */
static enum mr_status check_head(const struct part_reader *reader, const struct mr_store *store,
                                 const struct mr_part_head *head, const struct head_texts *texts,
                                 const struct mr_part_head *expect, struct mr_error *err)
{
    if (memcmp(head->query_id, expect->query_id, 16) != 0)
        return bad_content(reader, "it belongs to another query", err);
    if (head->version != expect->version || head->epoch != expect->epoch ||
        head->attempt != expect->attempt || head->is_snapshot != expect->is_snapshot)
        return bad_content(reader, "it belongs to another batch or attempt", err);
    if (texts->bytes[0] != strlen(store->name) ||
        memcmp(texts->texts[0], store->name, texts->bytes[0]) != 0)
        return bad_content(reader, "it belongs to another operator", err);
    return MR_OK;
}

static enum mr_status apply_group(struct part_reader *reader, struct mr_store *store,
                                  struct mr_bytes *bytes, uint64_t *entries, struct mr_error *err)
{
    unsigned group = mr_bytes_u8(bytes);
    uint64_t count = mr_bytes_varint(bytes);

    for (uint64_t i = 0; i < count && !bytes->failed; i++) {
        unsigned op = mr_bytes_u8(bytes);
        size_t key_bytes = 0, value_bytes = 0;
        const char *key = mr_bytes_block(bytes, &key_bytes);
        const char *value = op == OP_PUT ? mr_bytes_block(bytes, &value_bytes) : NULL;

        if (bytes->failed || op > OP_PUT)
            break;
        if (mr_key_group(mr_store_hash(store, key, key_bytes)) != group)
            return bad_content(reader, "a key is in the wrong key group", err);
        if (op == OP_PUT)
            MR_TRY(mr_store_put(store, key, key_bytes, value, value_bytes, err));
        else
            MR_TRY(mr_store_delete(store, key, key_bytes, err));
        (*entries)++;
    }
    if (bytes->failed || mr_bytes_left(bytes) != 0)
        return bad_content(reader, "a key group has another length", err);
    return MR_OK;
}

static enum mr_status check_foot(struct part_reader *reader, const struct mr_store *store,
                                 struct mr_bytes *bytes, uint64_t entries, uint32_t groups,
                                 struct mr_error *err)
{
    uint64_t entries_told = mr_bytes_u64(bytes);
    uint32_t groups_told = mr_bytes_u32(bytes);
    uint64_t keys_told = mr_bytes_u64(bytes);

    if (bytes->failed || mr_bytes_left(bytes) != 0 || entries_told != entries ||
        groups_told != groups)
        return bad_content(reader, "its foot counts other entries", err);
    if (reader->at != reader->size_bytes)
        return bad_content(reader, "bytes follow its foot", err);
    if (keys_told != store->live)
        return bad_content(reader, "it does not fit the parts before it", err);
    return MR_OK;
}

enum mr_status mr__part_apply(struct mr_store *store, const struct mr_part_head *expect,
                              const void *data, size_t size_bytes, const char *where,
                              struct mr_error *err)
{
    struct part_reader reader = {data, size_bytes, 0, 0, where};
    struct mr_part_head head = {0};
    struct head_texts texts = {0};
    uint64_t entries = 0;
    uint32_t groups = 0;

    MR_TRY(read_head(&reader, &head, &texts, err));
    MR_TRY(check_head(&reader, store, &head, &texts, expect, err));
    if (head.is_snapshot)
        mr__store_clear(store);
    store->seed = head.seed;
    for (;;) {
        enum mr_record_kind kind;
        struct mr_bytes bytes;

        MR_TRY(next_record(&reader, &kind, &bytes, err));
        if (kind == MR_RECORD_FILE_FOOT) {
            MR_TRY(check_foot(&reader, store, &bytes, entries, groups, err));
            mr__store_accept(store);
            return MR_OK;
        }
        if (kind != MR_RECORD_GROUP)
            return bad_content(&reader, "a record of another kind", err);
        MR_TRY(apply_group(&reader, store, &bytes, &entries, err));
        groups++;
    }
}
