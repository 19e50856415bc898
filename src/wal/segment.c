/*
 * Segments: how flush groups lie on the disk, and what a reader may conclude from what it finds.
 *
 * Called by batch_log*.c and block_log.c.  A segment is created zero-filled at its full size, under
 * a temporary name, with its head in place; it gets its final name when all of that is synced:
 *
 *     0            512*h                                                     size_bytes
 *     +------------+---------+---------+-- ... --+----------+---------------+
 *     | group 0    | group 1 | group 2 |         | group n  | zeros         |
 *     | the head   |         |         |         | (NEXT)   |               |
 *     +------------+---------+---------+-- ... --+----------+---------------+
 *
 * A group is a run of sectors; the records in it are cut to fit, the rest of its last sector is
 * zero:
 *
 *     0                                         496        500        504              512
 *     +-----------------------------------------+----------+----------+----------------+
 *     | 496 bytes of records                    | ordinal  | index*2  | check          |
 *     |                                         | of group | + last   | ends with 0x5a |
 *     +-----------------------------------------+----------+----------+----------------+
 *
 *     check   XXH3-64 of the 8 bytes before, seeded with (log, segment number); its last byte is
 *             0x5a
 *     last    1 in the group's last sector: nothing else says how long a group is
 *
 * A sector is the unit a disk writes whole or not at all; what was there before is zeros.  So the
 * tags alone say which sectors of a group have arrived.  The rule of the reader, group by group:
 *
 *   1. every sector up to a `last` one has the tag it should have: the group arrived. Its records
 *      must check (chain, sums, zeros behind them); anything wrong in them is damage.
 *   2. the same, but some tags differ from what they should be in at most 3 bits: it arrived and
 *      was damaged. (A sector that did not arrive differs in far more: zeros by at least the 4 bits
 *      of 0x5a, and by about 32 of the hash.)
 *   3. a sector is missing: the group is torn, if and only if nothing later exists. A group is
 *      written only after the one before it was synced, so any tagged sector of a later group, or a
 *      later segment, proves that this one had been synced: then it is damage.
 *
 * What this proves: a file cut at any byte (its size is in the head, and the head was there before
 * the name was), any single bit flipped in any synced group, any hole in a group but the newest.
 * What it cannot prove: that a *whole sector of the newest group* was there once and is zero now.
 * The logs append a CLOSE group at a clean end and an EPOCH group at start, so what matters is the
 * newest group only between a crash and the next start.
 *
 * No synced sector is ever written again: a group starts on a new sector.
 *
 * A segment of the block log may be made of a file that was one before (is_reused; its head says
 * so). Then a sector that never arrived holds what an earlier segment left there instead of zeros.
 * Its tag was made with the key of that segment, whose number is smaller - numbers are never given
 * twice - so it differs from any tag of ours by about 32 bits of the hash, and counts as zeros.
 *
 * Threads: pure functions over the caller's memory.
 */
#include "wal/segment.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

enum { TAG_SLACK_BITS = 3, CHECK_LAST_BYTE = 0x5a, FIRST_SEGMENT_BYTES = 256 << 10 };
enum { NAME_DIGITS = 20, SEGMENT_BYTES_LIMIT = MR_LIMIT_LOG_SEGMENT };

/* ---------------------------------------------------------------- tags */

uint64_t mr__segment_key(enum mr_segment_kind kind, uint64_t number)
{
    uint8_t text[9];

    text[0] = (uint8_t)kind;
    for (unsigned i = 0; i < 8; i++)
        text[1 + i] = (uint8_t)(number >> (8 * i));
    return mr_checksum(text, sizeof(text));
}

static void make_tag(uint64_t key, uint32_t ordinal, uint32_t index, bool last,
                     uint8_t tag[MR_SECTOR_TAG_BYTES])
{
    uint32_t place = index << 1 | (last ? 1 : 0);
    uint64_t check;

    for (unsigned i = 0; i < 4; i++) {
        tag[i] = (uint8_t)(ordinal >> (8 * i));
        tag[4 + i] = (uint8_t)(place >> (8 * i));
    }
    check = mr_hash(tag, 8, key);
    for (unsigned i = 0; i < 7; i++)
        tag[8 + i] = (uint8_t)(check >> (8 * i));
    tag[15] = CHECK_LAST_BYTE;
}

_Static_assert(MR_SECTOR_TAG_BYTES == 2 * sizeof(uint64_t), "a tag is two words");

static unsigned bits_apart(const uint8_t *a, const uint8_t *b)
{
    uint64_t words_a[2], words_b[2];

    memcpy(words_a, a, sizeof(words_a));
    memcpy(words_b, b, sizeof(words_b));
    return (unsigned)(__builtin_popcountll(words_a[0] ^ words_b[0]) +
                      __builtin_popcountll(words_a[1] ^ words_b[1]));
}

/* True when the sector holds an undamaged tag of a group after `ordinal`. */
static bool is_later(const uint8_t *sector, uint64_t key, uint32_t ordinal)
{
    const uint8_t *tag = sector + MR_SECTOR_DATA_BYTES;
    uint8_t expected[MR_SECTOR_TAG_BYTES];
    uint32_t found, place;

    if (tag[15] != CHECK_LAST_BYTE)
        return false;
    found =
        (uint32_t)tag[0] | (uint32_t)tag[1] << 8 | (uint32_t)tag[2] << 16 | (uint32_t)tag[3] << 24;
    place =
        (uint32_t)tag[4] | (uint32_t)tag[5] << 8 | (uint32_t)tag[6] << 16 | (uint32_t)tag[7] << 24;
    if (found <= ordinal && !MR_MUTANT("segment.is-later.ordinal"))
        return false;
    make_tag(key, found, place >> 1, (place & 1) != 0, expected);
    return memcmp(tag, expected, sizeof(expected)) == 0;
}

/* ---------------------------------------------------------------- groups */

uint64_t mr__group_disk_bytes(uint64_t data_bytes)
{
    uint64_t sectors = (data_bytes + MR_SECTOR_DATA_BYTES - 1) / MR_SECTOR_DATA_BYTES;

    return MR_MAX(sectors, 1u) * MR_SECTOR_BYTES;
}

void mr__group_encode(struct mr_buf *out, uint64_t key, uint32_t ordinal, const void *data,
                      size_t data_bytes)
{
    const uint8_t *at = data;
    uint64_t total = mr__group_disk_bytes(data_bytes) / MR_SECTOR_BYTES;
    uint8_t sector[MR_SECTOR_BYTES];

    MR_ASSERT(data_bytes > 0 && total < (1u << 30));
    mr_buf_reserve(out, total * MR_SECTOR_BYTES);
    for (uint64_t i = 0; i < total; i++) {
        size_t size = MR_MIN(data_bytes, (size_t)MR_SECTOR_DATA_BYTES);

        memcpy(sector, at, size);
        memset(sector + size, 0, MR_SECTOR_DATA_BYTES - size);
        make_tag(key, ordinal, (uint32_t)i, i + 1 == total, sector + MR_SECTOR_DATA_BYTES);
        mr_buf_add(out, sector, sizeof(sector));
        at += size;
        data_bytes -= size;
    }
    MR_ASSERT(data_bytes == 0);
}

/* Does the sector belong to this segment, if only nearly? Else it is left from an earlier one. */
static bool is_own(const uint8_t *sector, uint64_t key)
{
    const uint8_t *tag = sector + MR_SECTOR_DATA_BYTES;
    uint8_t expected[MR_SECTOR_TAG_BYTES];
    uint32_t ordinal, place;

    ordinal =
        (uint32_t)tag[0] | (uint32_t)tag[1] << 8 | (uint32_t)tag[2] << 16 | (uint32_t)tag[3] << 24;
    place =
        (uint32_t)tag[4] | (uint32_t)tag[5] << 8 | (uint32_t)tag[6] << 16 | (uint32_t)tag[7] << 24;
    make_tag(key, ordinal, place >> 1, (place & 1) != 0, expected);
    return bits_apart(tag, expected) <= TAG_SLACK_BITS;
}

/* A sector of the group is not there: was it ever? Everything behind start is looked at. */
static enum mr_group_result judge_missing(const uint8_t *file, size_t file_bytes, uint64_t key,
                                          uint32_t ordinal, bool is_reused, struct mr_group *group)
{
    bool any = false;

    for (uint64_t at = group->start; at + MR_SECTOR_BYTES <= file_bytes; at += MR_SECTOR_BYTES) {
        const uint8_t *sector = file + at;

        if (sector[0] == 0 && memcmp(sector, sector + 1, MR_SECTOR_BYTES - 1) == 0)
            continue;
        if (is_reused && !is_own(sector, key) && !MR_MUTANT("segment.judge-missing.own"))
            continue;
        any = true;
        if (is_later(sector, key, ordinal) && !MR_MUTANT("segment.judge-missing.later")) {
            group->reason = "a part is missing, though a later flush shows that it was synced";
            return MR_GROUP_DAMAGED;
        }
    }
    group->reason = any ? "it did not arrive whole" : "nothing follows";
    return any ? MR_GROUP_TORN : MR_GROUP_NONE;
}

enum mr_group_result mr__group_read(const uint8_t *file, size_t file_bytes, uint64_t start,
                                    uint64_t key, uint32_t ordinal, bool is_reused,
                                    struct mr_buf *out, struct mr_group *ret_group)
{
    uint8_t middle[MR_SECTOR_TAG_BYTES], last[MR_SECTOR_TAG_BYTES];
    uint64_t at = start;
    bool exact = true, done = false;

    MR_ASSERT(start % MR_SECTOR_BYTES == 0);
    mr_buf_clear(out);
    *ret_group = (struct mr_group){.start = start, .bad = start};
    for (uint32_t index = 0; !done; index++, at += MR_SECTOR_BYTES) {
        const uint8_t *tag = file + at + MR_SECTOR_DATA_BYTES;
        unsigned middle_bits, last_bits;

        if (at + MR_SECTOR_BYTES > file_bytes) {
            ret_group->bad = at;
            return judge_missing(file, file_bytes, key, ordinal, is_reused, ret_group);
        }
        make_tag(key, ordinal, index, false, middle);
        make_tag(key, ordinal, index, true, last);
        middle_bits = bits_apart(tag, middle);
        last_bits = bits_apart(tag, last);
        if (middle_bits > TAG_SLACK_BITS && last_bits > TAG_SLACK_BITS &&
            !MR_MUTANT("segment.group-read.tag")) {
            ret_group->bad = at;
            return judge_missing(file, file_bytes, key, ordinal, is_reused, ret_group);
        }
        if (exact && middle_bits != 0 && last_bits != 0) {
            exact = false;
            ret_group->bad = at;
        }
        done = last_bits <= TAG_SLACK_BITS;
        mr_buf_add(out, file + at, MR_SECTOR_DATA_BYTES);
    }
    ret_group->end = at;
    if (!exact && !MR_MUTANT("segment.group-read.exact")) {
        ret_group->reason = "bits of a sector tag were flipped";
        return MR_GROUP_DAMAGED;
    }
    return MR_GROUP_WHOLE;
}

/* ---------------------------------------------------------------- files */

void mr__segment_list_release(struct mr_segment_list *list)
{
    mr_free(list->numbers);
    *list = (struct mr_segment_list){0};
}

void mr__segment_name(uint64_t number, const char *suffix, char name[MR_SEGMENT_NAME_BYTES])
{
    int length = snprintf(name, MR_SEGMENT_NAME_BYTES, "%020" PRIu64 "%s", number, suffix);

    MR_ASSERT(length > 0 && length < MR_SEGMENT_NAME_BYTES);
}

enum mr_status mr__segment_sync(struct mr_env *env, const char *dir, uint64_t number,
                                const char *suffix, struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    struct mr_file *file = NULL;
    enum mr_status status;
    char *path;

    mr__segment_name(number, suffix, name);
    path = mr_asprintf("%s/%s", dir, name);
    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot flush a log segment in '%s': out of memory", dir);
    status = mr_env_open(env, path, MR_FILE_WRITE, &file, err);
    if (status == MR_OK)
        status = MR_MUTANT("segment.sync.sync") ? MR_OK : mr_env_sync(env, file, err);
    mr_env_close(env, file);
    mr_free(path);
    return status;
}

struct lister {
    struct mr_segment_list list;
    size_t capacity;
    const char *suffix;
    char odd[MR_SEGMENT_NAME_BYTES]; /* a canonical name that is not a regular file */
    bool failed;
};

static bool is_canonical(const char *name, const char *suffix, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < NAME_DIGITS; i++) {
        unsigned digit = (unsigned)(name[i] - '0');
        if (name[i] < '0' || name[i] > '9' || number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *ret_number = number;
    return number > 0 &&
           (strcmp(name + NAME_DIGITS, suffix) == 0 || MR_MUTANT("segment.list.suffix"));
}

static bool visit_segment(const char *name, enum mr_file_kind kind, void *arg)
{
    struct lister *lister = arg;
    uint64_t number;

    if (!is_canonical(name, lister->suffix, &number))
        return true;
    if (kind != MR_KIND_FILE && !MR_MUTANT("segment.list.regular")) {
        mr__segment_name(number, lister->suffix, lister->odd);
        return false;
    }
    if (lister->list.count == lister->capacity) {
        size_t capacity = MR_MAX(lister->capacity * 2, (size_t)16);
        uint64_t *grown = mr_realloc(NULL, lister->list.numbers, capacity * sizeof(*grown));

        lister->failed = grown == NULL;
        if (lister->failed)
            return false;
        lister->list.numbers = grown;
        lister->capacity = capacity;
    }
    lister->list.numbers[lister->list.count++] = number;
    return true;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

enum mr_status mr__segment_list(struct mr_env *env, const char *dir, const char *suffix,
                                struct mr_segment_list *ret_list, struct mr_error *err)
{
    struct lister lister = {.suffix = suffix};
    enum mr_status status = mr_env_list(env, dir, visit_segment, &lister, err);

    if (status == MR_OK && lister.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", dir);
    if (status == MR_OK && lister.odd[0] != '\0')
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot read '%s/%s': it is not a regular file; put the original back",
                         dir, lister.odd);
    if (status != MR_OK) {
        mr__segment_list_release(&lister.list);
        return status;
    }
    if (lister.list.count > 1)
        qsort(lister.list.numbers, lister.list.count, sizeof(uint64_t), compare_numbers);
    *ret_list = lister.list;
    return MR_OK;
}

uint64_t mr__segment_size(uint64_t created_before, uint64_t segment_bytes, uint64_t head_bytes,
                          uint64_t group_bytes)
{
    uint64_t size = FIRST_SEGMENT_BYTES;
    uint64_t least = head_bytes + group_bytes + MR_SECTOR_BYTES; /* room for NEXT */

    for (uint64_t i = 0; i < created_before && size < segment_bytes; i++)
        size *= 4;
    size = MR_MAX(MR_MIN(size, segment_bytes), least);
    return (size + 4095) / 4096 * 4096;
}

enum mr_status mr__segment_create(struct mr_env *env, const char *dir, const char *name,
                                  uint64_t size_bytes, uint64_t key, const struct mr_buf *head,
                                  struct mr_appender **ret_appender, struct mr_error *err)
{
    struct mr_buf sectors = MR_BUF_INIT;
    enum mr_status status;

    if (!head->failed)
        mr__group_encode(&sectors, key, 0, head->data, head->size);
    MR_ASSERT(sectors.failed || sectors.size + MR_SECTOR_BYTES <= size_bytes);
    if (head->failed || sectors.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot create '%s/%s': out of memory", dir, name);
    else
        status = mr_appender_create_with(env, dir, name, size_bytes, sectors.data, sectors.size,
                                         ret_appender, err);
    mr_buf_release(&sectors);
    return status;
}

/* ---------------------------------------------------------------- heads */

void mr__segment_head_begin(struct mr_buf *payload, uint64_t number, uint64_t size_bytes,
                            const uint8_t query_id[16])
{
    mr_buf_add_u64(payload, number);
    mr_buf_add_u64(payload, size_bytes);
    mr_buf_add(payload, query_id, 16);
}

const uint8_t *mr__segment_query_id(const struct mr_segment *segment)
{
    return segment->record.payload.data + 16;
}

struct mr_bytes mr__segment_head_rest(const struct mr_segment *segment)
{
    return mr_bytes_of(segment->record.payload.data + MR_SEGMENT_HEAD_BYTES,
                       segment->record.payload.size_bytes - MR_SEGMENT_HEAD_BYTES);
}

void mr__segment_release(struct mr_segment *segment)
{
    mr_free(segment->path);
    mr_free(segment->data);
    mr_buf_release(&segment->head);
    *segment = (struct mr_segment){0};
}

static enum mr_status read_whole(struct mr_env *env, struct mr_segment *segment,
                                 struct mr_error *err)
{
    struct mr_file *file = NULL;
    struct mr_file_info info;
    size_t got = 0;
    enum mr_status status;

    MR_TRY(mr_env_open(env, segment->path, MR_FILE_READ, &file, err));
    MR_TRY_GOTO(mr_env_file_info(env, file, &info, err));
    if (info.size_bytes > SEGMENT_BYTES_LIMIT && !MR_MUTANT("segment.load.size-limit")) {
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot read '%s': %" PRIu64 " bytes are more than any segment has",
                         segment->path, info.size_bytes);
        goto done;
    }
    segment->data = mr_alloc(NULL, (size_t)info.size_bytes + 1);
    if (segment->data == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", segment->path);
        goto done;
    }
    MR_TRY_GOTO(mr_env_pread(env, file, segment->data, (size_t)info.size_bytes, 0, &got, err));
    segment->size_bytes = got;
done:
    mr_env_close(env, file);
    return status;
}

static enum mr_status bad_head(const struct mr_segment *segment, const char *reason,
                               struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read '%s' at byte 0: %s; restore the checkpoint from a copy",
                   segment->path, reason);
}

static enum mr_status check_head(struct mr_segment *segment, enum mr_segment_kind kind,
                                 struct mr_error *err)
{
    struct mr_group group;
    enum mr_record_result result;
    struct mr_bytes fields;
    size_t size = 0;
    uint64_t number, size_bytes;

    segment->key = mr__segment_key(kind, segment->number);
    if (segment->size_bytes >= 8 && segment->data[4] == 'M' && segment->data[5] == 'R' &&
        !MR_MUTANT("segment.check-head.byte-order"))
        return MR_FAIL(err, MR_VERSION, "cannot read '%s': it was written with another byte order",
                       segment->path);
    if (segment->size_bytes < MR_SECTOR_BYTES && !MR_MUTANT("segment.check-head.sector"))
        return bad_head(segment, "the file is cut short", err);
    if (mr__group_read(segment->data, segment->size_bytes, 0, segment->key, 0, false,
                       &segment->head, &group) != MR_GROUP_WHOLE &&
        !MR_MUTANT("segment.check-head.group"))
        return bad_head(segment, "the head of the segment is damaged", err);
    if (segment->head.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", segment->path);
    fields =
        mr_bytes_of(segment->head.data + 8, 8); /* whatever chain it has: its reader knows better */
    result = mr_record_read(segment->head.data, segment->head.size, mr_bytes_u64(&fields),
                            &segment->record, &size);
    if (result != MR_RECORD_OK && !MR_MUTANT("segment.check-head.record"))
        return bad_head(segment, mr_record_result_text(result), err);
    if (mr_record_read(segment->head.data + size, segment->head.size - size, 0, &segment->record,
                       &size) != MR_RECORD_END &&
        !MR_MUTANT("segment.check-head.behind"))
        return bad_head(segment, "the head of the segment is followed by foreign bytes", err);
    if ((segment->record.kind != MR_RECORD_SEGMENT ||
         segment->record.payload.size_bytes < MR_SEGMENT_HEAD_BYTES) &&
        !MR_MUTANT("segment.check-head.kind"))
        return bad_head(segment, "it is not the head of a log segment", err);
    if (segment->record.version != MR_SEGMENT_FORMAT && !MR_MUTANT("segment.check-head.version"))
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s': format %u is newer than %d; run a newer millrace",
                       segment->path, segment->record.version, MR_SEGMENT_FORMAT);
    fields = mr_bytes_of(segment->record.payload.data, MR_SEGMENT_HEAD_BYTES);
    number = mr_bytes_u64(&fields);
    size_bytes = mr_bytes_u64(&fields);
    if (number != segment->number && !MR_MUTANT("segment.check-head.number"))
        return bad_head(segment, "it is a copy of another segment", err);
    if (size_bytes != segment->size_bytes && !MR_MUTANT("segment.check-head.size"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read '%s': it has %zu bytes and was made with %" PRIu64
                       "; restore the checkpoint from a copy",
                       segment->path, segment->size_bytes, size_bytes);
    segment->first_group = group.end;
    return MR_OK;
}

enum mr_status mr__segment_load(struct mr_env *env, const char *dir, const char *suffix,
                                uint64_t number, enum mr_segment_kind kind,
                                struct mr_segment *ret_segment, struct mr_error *err)
{
    struct mr_segment segment = {.number = number};
    char name[MR_SEGMENT_NAME_BYTES];
    enum mr_status status;

    mr__segment_name(number, suffix, name);
    segment.path = mr_asprintf("%s/%s", dir, name);
    if (segment.path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s/%s': out of memory", dir, name);
    MR_TRY_GOTO(read_whole(env, &segment, err));
    status = check_head(&segment, kind, err);
done:
    if (status == MR_OK)
        *ret_segment = segment;
    else
        mr__segment_release(&segment);
    return status;
}
