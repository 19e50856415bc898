/*
 * Any bytes as the payload of a record of the batch log: what decodes is encoded again to the same
 * bytes, and nothing is read outside. (The checksum before it is not the parser's only protection.)
 */
#include "base/alloc.h"
#include "base/check.h"
#include "wal/internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Varints may be longer than needed in the input, never in the output. */
static void check_not_longer(const struct mr_buf *out, size_t size)
{
    MR_ASSERT(!out->failed && out->size <= size);
}

static void try_plan(struct mr_bytes bytes, struct mr_buf *out)
{
    struct mr_plan plan;
    bool no_memory = false;

    if (!mr__plan_decode(bytes, &plan, &no_memory))
        return;
    mr__plan_encode(out, &plan);
    check_not_longer(out, mr_bytes_left(&bytes));
    mr_plan_release(&plan);
}

static void try_commit(struct mr_bytes bytes, struct mr_buf *out)
{
    struct mr_commit commit;
    struct mr_log_position position = {.has_commit = true};
    bool no_memory = false;

    if (!mr__commit_decode(bytes, &commit, &no_memory))
        return;
    mr__commit_encode(out, &commit, &position);
    check_not_longer(out, mr_bytes_left(&bytes));
    mr_commit_release(&commit);
}

static void try_head(struct mr_bytes bytes, struct mr_buf *out)
{
    struct mr_log_position position;
    struct mr_part_list parts;
    bool no_memory = false;

    if (!mr__head_decode(bytes, &position, &parts, &no_memory))
        return;
    mr__head_encode(out, &position, &parts);
    check_not_longer(out, mr_bytes_left(&bytes));
    mr_part_list_prune(&parts, position.commit_batch, 3, NULL, NULL);
    mr_part_list_release(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes bytes = mr_bytes_of(data + (size > 0), size - (size > 0));
    struct mr_buf out = MR_BUF_INIT;
    struct mr_delta delta;
    struct mr_record record;
    size_t record_bytes;

    switch (size == 0 ? 0 : data[0] % 5) {
    case 0:
        try_plan(bytes, &out);
        break;
    case 1:
        try_commit(bytes, &out);
        break;
    case 2:
        try_head(bytes, &out);
        break;
    case 3:
        if (mr__delta_decode(bytes, &delta))
            MR_ASSERT(delta.size_bytes + delta.store_bytes <= size);
        break;
    default:
        if (mr_record_read(bytes.at, mr_bytes_left(&bytes), 0, &record, &record_bytes) ==
            MR_RECORD_OK)
            MR_ASSERT(record_bytes <= size);
        break;
    }
    mr_buf_release(&out);
    return 0;
}
