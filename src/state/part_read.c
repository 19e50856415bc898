/*
 * Reading deltas and snapshots back; part_write.c draws them.
 *
 * Called by load.c.  A part comes from memory (in-log parts, read with the log) or from its file,
 * which is read a record at a time: memory is bounded by the largest record, not by the file.
 *  Every length is checked against what is left of the file before anything is allocated (B16),
 * every record against its sum and the chain, the head against what COMMIT says (B6, B7), and the
 * sum of the foot, which covers every byte, against the one in COMMIT.
 *
 * By shards: a first pass looks at the headers alone and says where the records are. Each shard is
 * then applied by somebody, with a reader of its own, who checks the records that he uses as above:
 * the chain leads from the head over all of them to the foot.
 *
 * Threads: the caller's; an index is read by several.
 */
#include "state/internal.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

enum {
    PART_VERSION = 1,
    READ_BYTES = 256 << 10,
    PEEK_BYTES = MR_RECORD_HEADER_BYTES + 1,
    NONE = -1
};

struct mr_part_reader {
    struct mr_env *env;
    const struct mr_state_part *part;
    const char *where;
    struct mr_file *file; /* NULL: in memory */
    uint64_t file_at;     /* next byte to read of the file */
    struct mr_buf buffer; /* of the file: what was read and not used yet begins at `used` */
    size_t used;
    const uint8_t *data; /* in memory */
    uint64_t at;         /* byte of the part that comes next */
    uint64_t chain;
    struct mr_buf texts; /* names of the head, each with its NUL */
    uint64_t seed;
};

static enum mr_status bad(const struct mr_part_reader *reader, const char *reason,
                          struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read '%s' at byte %" PRIu64 ": %s; restore the checkpoint from a copy",
                   reader->where, reader->at, reason);
}

static enum mr_status no_memory(const struct mr_part_reader *reader, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", reader->where);
}

/* ---------------------------------------------------------------- bytes */

enum mr_status mr__part_open(struct mr_env *env, const struct mr_state_part *part,
                             const char *where, struct mr_part_reader **ret_reader,
                             struct mr_error *err)
{
    struct mr_part_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    struct mr_file_info info;
    enum mr_status status = MR_OK;

    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", where);
    reader->env = env;
    reader->part = part;
    reader->where = where;
    if (part->in_log) {
        reader->data = (const uint8_t *)part->data;
        if (reader->data == NULL && !MR_MUTANT("part-read.open.in-log"))
            status = bad(reader, "it is not in the log any more", err);
    } else {
        MR_TRY_GOTO(mr_env_open(env, where, MR_FILE_READ, &reader->file, err));
        MR_TRY_GOTO(mr_env_file_info(env, reader->file, &info, err));
        if (info.size_bytes != part->size_bytes && !MR_MUTANT("part-read.open.size"))
            status =
                MR_FAIL(err, MR_CORRUPT,
                        "cannot read '%s': it has %" PRIu64 " bytes and its commit says %" PRIu64
                        "; restore the checkpoint from a copy",
                        where, info.size_bytes, part->size_bytes);
    }
done:
    if (status == MR_OK)
        *ret_reader = reader;
    else
        mr__part_close(reader);
    return status;
}

void mr__part_close(struct mr_part_reader *reader)
{
    if (reader == NULL)
        return;
    mr_env_close(reader->env, reader->file);
    mr_buf_release(&reader->buffer);
    mr_buf_release(&reader->texts);
    mr_free(reader);
}

/* Gives the next `size` bytes of the part without using them up; the part must have them. */
static enum mr_status look_ahead(struct mr_part_reader *reader, size_t size,
                                 const uint8_t **ret_data, struct mr_error *err)
{
    size_t there = reader->buffer.size - reader->used, wanted, got = 0;

    if (size > reader->part->size_bytes - reader->at && !MR_MUTANT("part-read.look-ahead.room"))
        return bad(reader, "it is cut short", err);
    if (reader->file == NULL) {
        *ret_data = reader->data + reader->at;
        return MR_OK;
    }
    if (there < size) {
        if (there > 0)
            memmove(reader->buffer.data, reader->buffer.data + reader->used, there);
        reader->buffer.size = there;
        reader->used = 0;
        wanted = (size_t)MR_MIN((uint64_t)MR_MAX(size - there, (size_t)READ_BYTES),
                                reader->part->size_bytes - reader->file_at);
        if (!mr_buf_reserve(&reader->buffer, wanted))
            return no_memory(reader, err);
        MR_TRY(mr_env_pread(reader->env, reader->file, reader->buffer.data + there, wanted,
                            reader->file_at, &got, err));
        reader->buffer.size += got;
        reader->file_at += got;
        if (reader->buffer.size < size && !MR_MUTANT("part-read.look-ahead.short"))
            return bad(reader, "it is cut short", err);
    }
    *ret_data = (const uint8_t *)reader->buffer.data + reader->used;
    return MR_OK;
}

/* *ret_record borrows until the next call. */
static enum mr_status next_record(struct mr_part_reader *reader, struct mr_record *ret_record,
                                  struct mr_error *err)
{
    enum mr_record_result result;
    const uint8_t *data = NULL;
    size_t size = 0, length;

    MR_TRY(look_ahead(reader, MR_RECORD_HEADER_BYTES, &data, err));
    MR_ASSERT(data != NULL);
    length = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
    /* redundant: look_ahead refuses it, too; so the frame says what is wrong */
    if (length > reader->part->size_bytes - reader->at - MR_RECORD_HEADER_BYTES &&
        !MR_MUTANT("part-read.record.length"))
        length = 0; /* let the frame say what is wrong with it */
    MR_TRY(look_ahead(reader, MR_RECORD_HEADER_BYTES + length, &data, err));
    result =
        mr_record_read(data, MR_RECORD_HEADER_BYTES + length, reader->chain, ret_record, &size);
    if (result == MR_RECORD_WRONG_ENDIAN)
        return MR_FAIL(err, MR_VERSION, "cannot read '%s': %s", reader->where,
                       mr_record_result_text(result));
    if (result != MR_RECORD_OK && !MR_MUTANT("part-read.record.check"))
        return bad(reader, mr_record_result_text(result), err);
    if (ret_record->version != PART_VERSION && !MR_MUTANT("part-read.record.version"))
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s': made by version %u of the format; run a newer millrace",
                       reader->where, ret_record->version);
    reader->at += size;
    reader->used += reader->file == NULL ? 0 : size;
    reader->chain = ret_record->sum;
    return MR_OK;
}

/* ---------------------------------------------------------------- head */

/* Keeps a name of the head, with a NUL; *ret_at is where in texts. */
static bool keep_text(struct mr_part_reader *reader, struct mr_bytes *bytes, size_t *ret_at)
{
    size_t size = 0;
    const char *text = mr_bytes_block(bytes, &size);

    if (text == NULL || memchr(text, '\0', size) != NULL)
        return false;
    *ret_at = reader->texts.size;
    mr_buf_add(&reader->texts, text, size);
    mr_buf_add_char(&reader->texts, '\0');
    return true;
}

enum mr_status mr__part_head(struct mr_part_reader *reader, const uint8_t query_id[16],
                             struct mr_part_names *ret_names, struct mr_error *err)
{
    const struct mr_state_part *part = reader->part;
    struct mr_record record;
    struct mr_bytes bytes;
    size_t names[4];
    const char *id;
    bool same_place, complete = true;
    uint8_t is_snapshot;

    MR_TRY(next_record(reader, &record, err));
    if (record.kind != MR_RECORD_FILE_HEAD && !MR_MUTANT("part-read.head.kind"))
        return bad(reader, "it does not begin with a head", err);
    bytes = mr_bytes_of(record.payload.data, record.payload.size_bytes);
    is_snapshot = mr_bytes_u8(&bytes);
    id = mr_bytes_take(&bytes, 16);
    if (id == NULL || (memcmp(id, query_id, 16) != 0 && !MR_MUTANT("part-read.head.query")))
        return bad(reader, "it belongs to another query", err);
    same_place = mr_bytes_u64(&bytes) == part->version;
    same_place &= mr_bytes_u32(&bytes) == part->epoch;
    same_place &= mr_bytes_u32(&bytes) == part->attempt;
    reader->seed = mr_bytes_u64(&bytes);
    for (unsigned i = 0; i < 4; i++)
        complete = complete && keep_text(reader, &bytes, &names[i]);
    if ((!complete || bytes.failed || mr_bytes_left(&bytes) != 0 || is_snapshot > 1) &&
        !MR_MUTANT("part-read.head.decode"))
        return bad(reader, "its head does not decode", err);
    if (reader->texts.failed)
        return no_memory(reader, err);
    if ((!same_place && !MR_MUTANT("part-read.head.place")) ||
        ((is_snapshot == 1) != part->is_snapshot && !MR_MUTANT("part-read.head.snapshot")))
        return bad(reader, "it belongs to another batch or attempt", err);
    if (strcmp(reader->texts.data + names[0], part->store) != 0 &&
        !MR_MUTANT("part-read.head.store"))
        return bad(reader, "it belongs to another operator", err);
    *ret_names = (struct mr_part_names){
        .kind = reader->texts.data + names[1],
        .key_schema = reader->texts.data + names[2],
        .value_schema = reader->texts.data + names[3],
        .seed = reader->seed,
    };
    return MR_OK;
}

/* ---------------------------------------------------------------- entries */

/* Entries on their way into a store: of all shards, or of one. */
struct applying {
    struct mr_part_reader *reader;
    struct mr_store *store;
    int only_shard; /* NONE: all */
    int shard;      /* that loader fills; NONE: no one yet */
    struct mr_loader loader;
    int last_group;
    uint64_t entries;
};

struct entry {
    uint64_t hash;
    const char *key;
    const char *value; /* NULL: a delete */
    size_t key_bytes, value_bytes;
};

/* Most sizes are a byte. */
static inline uint64_t take_size(struct mr_bytes *bytes)
{
    if (bytes->at < bytes->end && *bytes->at < 0x80 && !bytes->failed)
        return *bytes->at++;
    return mr_bytes_varint(bytes);
}

static inline enum mr_status take_entry(const struct applying *to, unsigned group,
                                        struct mr_bytes *bytes, struct entry *ret_entry,
                                        struct mr_error *err)
{
    uint64_t key_and_flag = take_size(bytes);
    uint64_t key_bytes = key_and_flag >> 1, value_bytes = 0;

    if ((bytes->failed || key_bytes > (size_t)(bytes->end - bytes->at)) &&
        !MR_MUTANT("part-read.entry.key-room"))
        return bad(to->reader, "an entry before it does not decode", err);
    *ret_entry = (struct entry){.key = (const char *)bytes->at, .key_bytes = (size_t)key_bytes};
    bytes->at += key_bytes;
    if ((key_and_flag & 1) == 0) {
        value_bytes = take_size(bytes);
        if ((bytes->failed || value_bytes > (size_t)(bytes->end - bytes->at)) &&
            !MR_MUTANT("part-read.entry.value-room"))
            return bad(to->reader, "an entry before it does not decode", err);
        ret_entry->value = (const char *)bytes->at;
        ret_entry->value_bytes = (size_t)value_bytes;
        bytes->at += value_bytes;
    }
    ret_entry->hash = mr_store_hash(to->store, ret_entry->key, ret_entry->key_bytes);
    if (mr_key_group(ret_entry->hash) != group && !MR_MUTANT("part-read.entry.key-group"))
        return bad(to->reader, "a key before it is in the wrong key group", err);
    return MR_OK;
}

/* Several entries at a time: in a large table memory is what takes the time, so it is asked for
 * ahead. */
static enum mr_status apply_section(struct applying *to, unsigned group, struct mr_bytes *bytes,
                                    struct mr_error *err)
{
    enum { AT_ONCE = 32 };
    struct entry entries[AT_ONCE];

    while (mr_bytes_left(bytes) > 0) {
        unsigned count = 0;

        for (; count < AT_ONCE && mr_bytes_left(bytes) > 0; count++) {
            MR_TRY(take_entry(to, group, bytes, &entries[count], err));
            mr__loader_hint(&to->loader, entries[count].hash, 0);
        }
        for (unsigned i = 0; i < count; i++)
            mr__loader_hint(&to->loader, entries[i].hash, 1);
        for (unsigned i = 0; i < count; i++) {
            const struct entry *entry = &entries[i];

            if (entry->value == NULL)
                mr__loader_delete(&to->loader, entry->hash, entry->key, entry->key_bytes);
            else
                MR_TRY(mr__loader_put(&to->loader, entry->hash, entry->key, entry->key_bytes,
                                      entry->value, entry->value_bytes, err));
        }
        to->entries += count;
    }
    return MR_OK;
}

static void end_shard(struct applying *to)
{
    if (to->shard != NONE && to->reader->part->is_snapshot)
        mr__loader_end(&to->loader);
    to->shard = NONE;
}

static enum mr_status apply_group(struct applying *to, const struct mr_record *record,
                                  struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);

    while (mr_bytes_left(&bytes) > 0) {
        int group = mr_bytes_u8(&bytes);
        int shard = (int)mr_store_shard((uint64_t)group << 56);
        uint32_t size = mr_bytes_u32(&bytes);
        const char *data =
            bytes.failed || size > mr_bytes_left(&bytes) ? NULL : mr_bytes_take(&bytes, size);
        struct mr_bytes section;

        if (data == NULL || (size == 0 && !MR_MUTANT("part-read.group.empty")) ||
            (group < to->last_group && !MR_MUTANT("part-read.group.order")))
            return bad(to->reader, "a key group before it does not decode", err);
        to->last_group = group;
        if (to->only_shard != NONE && to->only_shard != shard)
            continue;
        if (to->shard != shard) {
            end_shard(to);
            MR_TRY(mr__loader_begin(to->store, (unsigned)shard, to->reader->part->key_count,
                                    &to->loader, err));
            to->shard = shard;
        }
        section = mr_bytes_of(data, size);
        MR_TRY(apply_section(to, (unsigned)group, &section, err));
    }
    return MR_OK;
}

static enum mr_status check_foot(struct mr_part_reader *reader, const struct mr_store *store,
                                 const struct mr_record *record, bool count_keys, uint64_t entries,
                                 uint32_t records, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);
    uint64_t entries_told = mr_bytes_u64(&bytes);
    uint32_t records_told = mr_bytes_u32(&bytes);
    uint64_t keys_told = mr_bytes_u64(&bytes);

    if ((bytes.failed || mr_bytes_left(&bytes) != 0 || entries_told != entries ||
         records_told != records) &&
        !MR_MUTANT("part-read.foot.counts"))
        return bad(reader, "its foot counts other entries", err);
    if (reader->at != reader->part->size_bytes && !MR_MUTANT("part-read.foot.behind"))
        return bad(reader, "bytes follow its foot", err);
    if ((record->sum != reader->part->sum || keys_told != reader->part->key_count) &&
        !MR_MUTANT("part-read.foot.sum"))
        return bad(reader, "it is not the part that its commit names", err);
    if (count_keys && keys_told != mr_store_count(store) && !MR_MUTANT("part-read.foot.keys"))
        return bad(reader, "it does not fit the parts before it", err);
    return MR_OK;
}

enum mr_status mr__part_apply(struct mr_part_reader *reader, struct mr_store *store,
                              bool count_keys, struct mr_error *err)
{
    struct applying to = {.reader = reader, .store = store, .only_shard = NONE, .shard = NONE};
    uint32_t records = 0;

    if (reader->part->is_snapshot)
        mr__store_clear(store);
    else if (mr_store_count(store) > 0 && store->seed != reader->seed &&
             !MR_MUTANT("part-read.apply.seed"))
        return bad(reader, "its keys were hashed with another seed than those before it", err);
    store->seed = reader->seed;
    for (;;) {
        struct mr_record record;

        MR_TRY(next_record(reader, &record, err));
        if (record.kind == MR_RECORD_FILE_FOOT) {
            end_shard(&to);
            return check_foot(reader, store, &record, count_keys, to.entries, records, err);
        }
        if (record.kind != MR_RECORD_GROUP && !MR_MUTANT("part-read.apply.kind"))
            return bad(reader, "a record of another kind", err);
        MR_TRY(apply_group(&to, &record, err));
        records++;
    }
}

/* ---------------------------------------------------------------- by shards */

static void seek(struct mr_part_reader *reader, uint64_t at, uint64_t chain)
{
    reader->at = reader->file_at = at;
    reader->chain = chain;
    reader->used = 0;
    mr_buf_clear(&reader->buffer);
}

/* A record's header and the first byte of what is in it: only those are read. */
static enum mr_status peek_record(struct mr_part_reader *reader, uint8_t header[PEEK_BYTES],
                                  struct mr_error *err)
{
    size_t got = 0;

    if (reader->part->size_bytes - reader->at < PEEK_BYTES && !MR_MUTANT("part-read.peek.room"))
        return bad(reader, "it is cut short", err);
    if (reader->file == NULL) {
        memcpy(header, reader->data + reader->at, PEEK_BYTES);
        return MR_OK;
    }
    MR_TRY(mr_env_pread(reader->env, reader->file, header, PEEK_BYTES, reader->at, &got, err));
    /* redundant: next_record comes behind every header, and finds that the record is not there */
    if (got < PEEK_BYTES && !MR_MUTANT("part-read.peek.short"))
        return bad(reader, "it is cut short", err);
    return MR_OK;
}

static enum mr_status add_mark(struct mr_part_reader *reader, struct mr_part_index *index,
                               uint8_t group, struct mr_error *err)
{
    uint32_t capacity = index->capacity == 0 ? 64 : index->capacity * 2;
    struct mr_part_mark *grown = index->marks;

    if (index->count == index->capacity) {
        grown = mr_realloc(NULL, index->marks, capacity * sizeof(*grown));
        if (grown == NULL)
            return no_memory(reader, err);
        index->marks = grown;
        index->capacity = capacity;
    }
    grown[index->count++] =
        (struct mr_part_mark){.at = reader->at, .chain = reader->chain, .group = group};
    return MR_OK;
}

/* What the headers say is taken on trust: whoever applies a record checks it. */
enum mr_status mr__part_index(struct mr_part_reader *reader, struct mr_part_index *index,
                              struct mr_error *err)
{
    struct mr_record foot;
    struct mr_bytes bytes;

    for (;;) {
        uint8_t header[PEEK_BYTES];
        uint32_t length;
        uint64_t sum;

        MR_TRY(peek_record(reader, header, err));
        bytes = mr_bytes_of(header, sizeof(header));
        length = mr_bytes_u32(&bytes);
        if (header[6] != MR_RECORD_GROUP)
            break;
        if (length > reader->part->size_bytes - reader->at - MR_RECORD_HEADER_BYTES &&
            !MR_MUTANT("part-read.index.room"))
            return bad(reader, "it is cut short", err);
        bytes = mr_bytes_of(header + 16, 8);
        sum = mr_bytes_u64(&bytes);
        MR_TRY(add_mark(reader, index, header[MR_RECORD_HEADER_BYTES], err));
        reader->at += MR_RECORD_HEADER_BYTES + length;
        reader->chain = sum;
    }
    seek(reader, reader->at, reader->chain);
    MR_TRY(next_record(reader, &foot, err));
    if (foot.kind != MR_RECORD_FILE_FOOT && !MR_MUTANT("part-read.index.foot"))
        return bad(reader, "a record of another kind", err);
    bytes = mr_bytes_of(foot.payload.data, foot.payload.size_bytes);
    index->entries = mr_bytes_u64(&bytes);
    return check_foot(reader, NULL, &foot, false, index->entries, index->count, err);
}

void mr__part_index_release(struct mr_part_index *index)
{
    mr_free(index->marks);
    *index = (struct mr_part_index){0};
}

/* The record before the first one of a shard may end with keys of it. */
static uint32_t first_record_of(const struct mr_part_index *index, unsigned shard)
{
    uint32_t i = 0;

    while (i < index->count && mr_store_shard((uint64_t)index->marks[i].group << 56) < shard)
        i++;
    return i > 0 ? i - 1 : 0;
}

enum mr_status mr__part_apply_shard(struct mr_part_reader *reader,
                                    const struct mr_part_index *index, struct mr_store *store,
                                    unsigned shard, uint64_t *ret_entries, struct mr_error *err)
{
    struct applying to = {
        .reader = reader, .store = store, .only_shard = (int)shard, .shard = NONE};
    uint32_t i = first_record_of(index, shard);

    if (i < index->count)
        seek(reader, index->marks[i].at, index->marks[i].chain);
    for (; i < index->count && mr_store_shard((uint64_t)index->marks[i].group << 56) <= shard;
         i++) {
        struct mr_record record;

        if ((reader->at != index->marks[i].at || reader->chain != index->marks[i].chain) &&
            !MR_MUTANT("part-read.shard.changed"))
            return bad(reader, "its records changed while it was read", err);
        MR_TRY(next_record(reader, &record, err));
        /* redundant: the index has marks of groups only, and a record keeps what its mark knows */
        if (record.kind != MR_RECORD_GROUP && !MR_MUTANT("part-read.shard.kind"))
            return bad(reader, "a record of another kind", err);
        MR_TRY(apply_group(&to, &record, err));
    }
    end_shard(&to);
    *ret_entries = to.entries;
    return MR_OK;
}
