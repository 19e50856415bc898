/*
 * Any bytes as the groups of a segment, between and behind real ones, with damage where the bytes
 * say; as a segment file with a head; and as what is written into a segment that is made, found
 * beside strays, and read back. Never a group that reaches outside; what is read as whole
 * stays so when everything behind it is zeros, and is what was written.
 */
#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "wal/segment.h"

#include <string.h>

enum { RECORD_BYTES_MAX = 2000 };

static const uint8_t query_id[16] = {7};

/* Two real groups, the bytes themselves; one byte changed. */
static void try_groups(const uint8_t *data, size_t size)
{
    uint64_t key = mr__segment_key(MR_SEGMENT_BATCH_LOG, 1);
    size_t records = MR_MIN(size, (size_t)RECORD_BYTES_MAX);
    struct mr_buf file = MR_BUF_INIT, out = MR_BUF_INIT;
    struct mr_group group;
    bool changed = size >= 6 && (data[0] & 1) != 0 && data[4] != 0;
    size_t at = 0, real_end;

    mr__group_encode(&file, key, 1, data, records);
    mr__group_encode(&file, key, 2, data, records / 2 + 1);
    real_end = file.size;
    mr_buf_add(&file, data, size);
    if (file.failed)
        goto done;
    if (changed) {
        at = ((size_t)data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16) % file.size;
        file.data[at] ^= (char)data[4];
    }
    for (uint64_t start = 0, ordinal = 1; ordinal < 5; ordinal++) {
        bool reused = size > 5 && (data[5] & 1) != 0;

        if (mr__group_read((const uint8_t *)file.data, file.size, start, key, (uint32_t)ordinal,
                           reused, &out, &group) != MR_GROUP_WHOLE) {
            FUZZ_CHECK(changed || start >= real_end);
            break;
        }
        FUZZ_CHECK(group.end <= file.size && group.end > start && group.start == start);
        /* Tags are checked here; what is between them, by the records. */
        FUZZ_CHECK(!changed || at < start || at >= group.end ||
                   at % MR_SECTOR_BYTES < MR_SECTOR_DATA_BYTES);
        if (!out.failed && ordinal == 1 && !changed)
            FUZZ_CHECK(out.size >= records && memcmp(out.data, data, records) == 0);
        FUZZ_CHECK(mr__group_read((const uint8_t *)file.data, (size_t)group.end, start, key,
                                  (uint32_t)ordinal, reused, &out, &group) == MR_GROUP_WHOLE);
        start = group.end;
    }
done:
    mr_buf_release(&file);
    mr_buf_release(&out);
}

/* A head with these bytes as its rest, in a file of the size that it says unless the input wants
 * otherwise. */
static void try_file(const uint8_t *data, size_t size)
{
    struct mr_buf payload = MR_BUF_INIT, record = MR_BUF_INIT, file = MR_BUF_INIT;
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_segment segment = {0};
    struct mr_segment_list list = {0};
    struct mr_error err = {0};
    enum mr_status status;
    char name[MR_SEGMENT_NAME_BYTES];
    uint64_t sum;

    mr__segment_name(1 + data[0] % 2, ".log", name);
    mr__segment_head_begin(&payload, 1, 8192 + (data[1] == 1 ? 512 : 0), query_id);
    mr_buf_add(&payload, data + 5, MR_MIN(size - 5, (size_t)1000));
    if (!payload.failed)
        mr_record_append(&record, data[2] == 1 ? MR_RECORD_PLAN : MR_RECORD_SEGMENT,
                         data[2] == 2 ? 9 : 1, data[3], payload.data, payload.size, &sum);
    if (data[2] == 3)
        mr_buf_add(&record, data, 4);
    if (!record.failed && record.size > 0)
        mr__group_encode(&file, mr__segment_key(MR_SEGMENT_BATCH_LOG, 1), 0, record.data,
                         record.size);
    while (!file.failed && file.size < 8192)
        mr_buf_add_u64(&file, 0);
    if (!file.failed) {
        char path[64] = "/log/";

        if (data[3] >= 128)
            file.data[((size_t)data[4] << 4) % file.size] ^= 1;
        memcpy(path + 5, name, strlen(name) + 1);
        fuzz_put_file(sim, path, file.data, data[4] == 200 ? 100 : file.size);
    }
    if (mr__segment_list(mr_sim_env(sim), "/log", ".log", &list, &err) == MR_OK) {
        status = mr__segment_load(mr_sim_env(sim), "/log", ".log", 1 + data[0] % 2,
                                  MR_SEGMENT_BATCH_LOG, &segment, &err);
        FUZZ_CHECK(list.count == 1 && list.numbers[0] == 1U + data[0] % 2);
        if (status == MR_OK) {
            struct mr_bytes rest = mr__segment_head_rest(&segment);

            FUZZ_CHECK(mr_bytes_left(&rest) == MR_MIN(size - 5, (size_t)1000));
            FUZZ_CHECK(memcmp(mr__segment_query_id(&segment), query_id, 16) == 0);
            mr__segment_release(&segment);
        } else {
            FUZZ_REFUSED3(&err, MR_CORRUPT, MR_VERSION, MR_CORRUPT);
            FUZZ_CHECK(strstr(err.text, "/log") != NULL);
        }
    }
    mr__segment_list_release(&list);
    mr_buf_release(&payload);
    mr_buf_release(&record);
    mr_buf_release(&file);
    mr_sim_free(sim);
}

/* What lies about in the directory besides: ignored, unless it bears a segment's own name. */
static void put_strays(struct mr_sim *sim, uint8_t which, bool *ret_odd)
{
    *ret_odd = (which & 1) != 0;
    if (*ret_odd)
        fuzz_put_file(sim, "/log/00000000000000000009.log/x", "x", 1);
    if ((which & 2) != 0)
        fuzz_put_file(sim, "/log/99999999999999999999.log", "x", 1);
    if ((which & 4) != 0)
        fuzz_put_file(sim, "/log/0000000000000000000x.log", "x", 1);
    if ((which & 8) != 0)
        fuzz_put_file(sim, "/log/00000000000000000002.blk", "x", 1);
    if ((which & 16) != 0)
        fuzz_put_file(sim, "/log/00000000000000000000.log", "x", 1);
}

/* Behind the head of a segment that was just made, and through the list of the directory. */
static enum mr_status write_and_read(struct mr_env *env, uint64_t number, const struct mr_buf *head,
                                     const uint8_t *data, size_t size, struct mr_error *err)
{
    uint64_t key = mr__segment_key(MR_SEGMENT_BATCH_LOG, number);
    uint64_t segment_bytes = mr__segment_size(data[0] % 8, (uint64_t)4096 << data[1] % 10,
                                              mr__group_disk_bytes(head->size), size);
    struct mr_appender *appender = NULL;
    struct mr_segment segment = {0};
    struct mr_buf group = MR_BUF_INIT, out = MR_BUF_INIT;
    struct mr_group found;
    char name[MR_SEGMENT_NAME_BYTES];
    enum mr_status status;

    FUZZ_CHECK(segment_bytes % 4096 == 0);
    FUZZ_CHECK(segment_bytes >= mr__group_disk_bytes(head->size) + size + MR_SECTOR_BYTES);
    mr__segment_name(number, ".log", name);
    MR_TRY_GOTO(mr__segment_create(env, "/log", name, segment_bytes, key, head, &appender, err));
    mr__group_encode(&group, key, 1, data, size);
    if (!group.failed)
        MR_TRY_GOTO(mr_appender_write(appender, group.data, group.size, err));
    MR_TRY_GOTO(mr__segment_sync(env, "/log", number, ".log", err));
    MR_TRY_GOTO(mr__segment_load(env, "/log", ".log", number, MR_SEGMENT_BATCH_LOG, &segment, err));
    FUZZ_CHECK(segment.size_bytes == segment_bytes);
    if (!group.failed && !out.failed) {
        FUZZ_CHECK(mr__group_read(segment.data, segment.size_bytes, segment.first_group,
                                  segment.key, 1, false, &out, &found) == MR_GROUP_WHOLE);
        FUZZ_CHECK(out.failed || (out.size >= size && memcmp(out.data, data, size) == 0));
    }
done:
    mr_appender_close(appender);
    mr__segment_release(&segment);
    mr_buf_release(&group);
    mr_buf_release(&out);
    return status;
}

static void try_made(const uint8_t *data, size_t size)
{
    uint64_t number = 1 + data[2] % 5, size_told;
    struct mr_buf payload = MR_BUF_INIT, head = MR_BUF_INIT;
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_segment_list list = {0};
    struct mr_error err = {0};
    enum mr_status status = MR_OK;
    bool odd;
    uint64_t sum;

    put_strays(sim, data[3], &odd);
    (void)mr_env_mkdir(env, "/log", NULL);
    for (uint64_t i = 0; i < 2 && status == MR_OK; i++) {
        mr_buf_clear(&payload);
        mr_buf_clear(&head);
        size_told = mr__segment_size(data[0] % 8, (uint64_t)4096 << data[1] % 10,
                                     mr__group_disk_bytes(80), size);
        mr__segment_head_begin(&payload, number + i, size_told, query_id);
        if (!payload.failed)
            mr_record_append(&head, MR_RECORD_SEGMENT, 1, 0, payload.data, payload.size, &sum);
        if (payload.failed || head.failed)
            goto done; /* out of memory */
        status = write_and_read(env, number + i, &head, data, size, &err);
    }
    if (status != MR_OK)
        FUZZ_REFUSED(&err, MR_NOMEM);
    status = mr__segment_list(env, "/log", ".log", &list, &err);
    FUZZ_CHECK((status == MR_CORRUPT) == odd);
    if (status == MR_OK)
        FUZZ_CHECK(list.count == 2 && list.numbers[0] == number && list.numbers[1] == number + 1);
    FUZZ_CHECK(mr__segment_sync(env, "/log", 77, ".log", &err) == MR_NOT_FOUND);
done:
    mr__segment_list_release(&list);
    mr_buf_release(&payload);
    mr_buf_release(&head);
    mr_sim_free(sim);
}

static void one(const uint8_t *data, size_t size)
{
    if (size > 8 && data[0] >= 192)
        try_file(data + 1, size - 1);
    else if (size > 8 && data[0] >= 160)
        try_made(data + 1, size - 1);
    else if (size > 0)
        try_groups(data, size);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
