/*
 * Any bytes as the groups of a segment: never a crash, never a group that reaches outside; and what
 * is a whole group stays one when everything behind it is zeroed.
 */
#include "base/check.h"
#include "wal/segment.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t key = mr__segment_key(MR_SEGMENT_BATCH_LOG, 1);
    size_t records = size < 2000 ? size : 2000;
    struct mr_buf file = MR_BUF_INIT, out = MR_BUF_INIT;
    struct mr_group group;

    if (records == 0)
        return 0;
    /* Some real groups, then the bytes themselves, then damage where the bytes say. */
    mr__group_encode(&file, key, 1, data, records);
    mr__group_encode(&file, key, 2, data, records / 2 + 1);
    mr_buf_add(&file, data, size);
    if (file.failed)
        abort();
    if (size >= 6 && (data[0] & 1) != 0) {
        size_t at = ((size_t)data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16) % file.size;
        file.data[at] ^= (char)data[4];
    }
    for (uint64_t start = 0, ordinal = 1; ordinal < 4; ordinal++) {
        if (mr__group_read((const uint8_t *)file.data, file.size, start, key, (uint32_t)ordinal,
                           size > 5 && (data[5] & 1) != 0, &out, &group) != MR_GROUP_WHOLE)
            break;
        MR_ASSERT(group.end <= file.size && group.end > start);
        start = group.end;
    }
    mr_buf_release(&file);
    mr_buf_release(&out);
    return 0;
}
