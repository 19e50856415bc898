/*
 * Any bytes as the payload of a record of the batch log (the first byte says which), and as a
 * record. What decodes is encoded, decoded and encoded to the same bytes, which are those of the
 * input unless its varints were longer than needed; nothing is read outside.
 */
#include "fuzz/fuzz.h"

#include "wal/internal.h"

#include <string.h>

/* A second encoding must be the first; of as many bytes as the input it must be the input. */
static void compare(struct mr_bytes in, const struct mr_buf *first, const struct mr_buf *second)
{
    if (first->failed || second->failed)
        return;
    FUZZ_SAME(first, second);
    FUZZ_CHECK(first->size <= mr_bytes_left(&in));
    if (first->size == mr_bytes_left(&in))
        FUZZ_CHECK(memcmp(first->data, in.at, first->size) == 0);
}

static struct mr_bytes bytes_of(const struct mr_buf *buf)
{
    return mr_bytes_of(buf->data, buf->size);
}

static void try_plan(struct mr_bytes in, struct mr_buf *first, struct mr_buf *second)
{
    struct mr_plan plan;
    bool no_memory = false;

    if (!mr__plan_decode(in, &plan, &no_memory))
        return;
    mr__plan_encode(first, &plan);
    mr_plan_release(&plan);
    if (first->failed)
        return;
    if (mr__plan_decode(bytes_of(first), &plan, &no_memory)) {
        mr__plan_encode(second, &plan);
        mr_plan_release(&plan);
        compare(in, first, second);
    } else {
        fuzz_fail(__FILE__, __LINE__, "an encoded PLAN decodes");
    }
}

static void encode_commit(struct mr_buf *out, const struct mr_commit *commit)
{
    struct mr_log_position position = {.has_commit = true,
                                       .plan_sum = commit->plan_sum,
                                       .commit_sum = commit->previous_commit_sum};

    mr__commit_encode(out, commit, &position);
}

static void try_commit(struct mr_bytes in, struct mr_buf *first, struct mr_buf *second)
{
    struct mr_commit commit;
    bool no_memory = false;

    if (!mr__commit_decode(in, &commit, &no_memory))
        return;
    encode_commit(first, &commit);
    for (uint32_t i = 0; i < commit.part_count; i++)
        FUZZ_CHECK(commit.parts[i].file == NULL || strchr(commit.parts[i].file, '/') == NULL);
    mr_commit_release(&commit);
    if (first->failed)
        return;
    if (mr__commit_decode(bytes_of(first), &commit, &no_memory)) {
        encode_commit(second, &commit);
        mr_commit_release(&commit);
        compare(in, first, second);
    } else {
        fuzz_fail(__FILE__, __LINE__, "an encoded COMMIT decodes");
    }
}

static void count_dropped(const struct mr_state_part *part, void *arg)
{
    FUZZ_CHECK(part->store != NULL);
    ++*(uint32_t *)arg;
}

/* Parts of a head as recovery uses them: copied one by one, then pruned; a second time changes
 * nothing. */
static void check_parts(const struct mr_part_list *parts, uint64_t batch)
{
    struct mr_part_list list = {0};
    uint32_t dropped = 0, again = 0;

    if (mr_part_list_reserve(&list, parts->count, NULL) == MR_OK) {
        for (uint32_t i = 0; i < parts->count; i++) {
            struct mr_state_part part;

            if (mr_state_part_copy(&parts->parts[i], &part, NULL) != MR_OK)
                break;
            mr_part_list_add(&list, &part);
        }
        FUZZ_CHECK(list.count == parts->count);
        mr_part_list_prune(&list, batch, 3, count_dropped, &dropped);
        FUZZ_CHECK(list.count + dropped == parts->count);
        mr_part_list_prune(&list, batch, 3, count_dropped, &again);
        FUZZ_CHECK(again == 0);
    }
    mr_part_list_release(&list);
}

static void try_head(struct mr_bytes in, struct mr_buf *first, struct mr_buf *second)
{
    struct mr_log_position position;
    struct mr_part_list parts;
    bool no_memory = false;

    if (!mr__head_decode(in, &position, &parts, &no_memory))
        return;
    mr__head_encode(first, &position, &parts);
    check_parts(&parts, position.commit_batch);
    mr_part_list_release(&parts);
    if (first->failed)
        return;
    if (mr__head_decode(bytes_of(first), &position, &parts, &no_memory)) {
        mr__head_encode(second, &position, &parts);
        mr_part_list_release(&parts);
        compare(in, first, second);
    } else {
        fuzz_fail(__FILE__, __LINE__, "an encoded SEGMENT decodes");
    }
}

static void try_delta(struct mr_bytes in, struct mr_buf *first, struct mr_buf *second)
{
    struct mr_delta delta;
    char name[64];

    if (!mr__delta_decode(in, &delta))
        return;
    FUZZ_CHECK(delta.size_bytes + delta.store_bytes <= mr_bytes_left(&in));
    if (delta.store_bytes >= sizeof name || memchr(delta.store, '\0', delta.store_bytes) != NULL)
        return;
    memcpy(name, delta.store, delta.store_bytes);
    name[delta.store_bytes] = '\0';
    for (int i = 0; i < 2; i++)
        mr__delta_encode(i == 0 ? first : second, delta.batch_id, name, delta.is_snapshot,
                         delta.data, delta.size_bytes);
    compare(in, first, second);
}

/* The input as it is, then as the payload of a record made in two ways; then with one bit changed.
 * */
static void try_record(struct mr_bytes in, struct mr_buf *first, struct mr_buf *second)
{
    enum mr_record_result result;
    struct mr_record record;
    size_t size = 0, start;
    uint64_t sum = 0, sum_again = 0;

    result = mr_record_read(in.at, mr_bytes_left(&in), 0, &record, &size);
    FUZZ_CHECK(mr_record_result_text(result)[0] != '\0');
    if (result == MR_RECORD_OK)
        FUZZ_CHECK(size <= mr_bytes_left(&in));
    if (mr_bytes_left(&in) < 2)
        return;
    mr_record_append(first, MR_RECORD_DELTA, 1, in.at[0], in.at, mr_bytes_left(&in), &sum);
    start = mr_record_begin(second);
    mr_buf_add(second, in.at, mr_bytes_left(&in));
    mr_record_finish(second, start, MR_RECORD_DELTA, 1, in.at[0], &sum_again);
    if (first->failed || second->failed)
        return;
    FUZZ_SAME(first, second);
    FUZZ_CHECK(sum == sum_again);
    FUZZ_CHECK(mr_record_read(first->data, first->size, in.at[0], &record, &size) == MR_RECORD_OK);
    FUZZ_CHECK(size == first->size && record.sum == sum);
    FUZZ_CHECK(mr_record_read(first->data, first->size - 1, in.at[0], &record, &size) !=
               MR_RECORD_OK);
    FUZZ_CHECK(mr_record_read(first->data, first->size, in.at[0] + 1U, &record, &size) !=
               MR_RECORD_OK);
    first->data[in.at[1] % first->size] ^= (char)(1 << in.at[0] % 8);
    FUZZ_CHECK(mr_record_read(first->data, first->size, in.at[0], &record, &size) != MR_RECORD_OK);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_bytes in = mr_bytes_of(data + (size > 0), size - (size > 0));
    struct mr_buf first = MR_BUF_INIT, second = MR_BUF_INIT;

    switch (size == 0 ? 0 : data[0] % 5) {
    case 0:
        try_plan(in, &first, &second);
        break;
    case 1:
        try_commit(in, &first, &second);
        break;
    case 2:
        try_head(in, &first, &second);
        break;
    case 3:
        try_delta(in, &first, &second);
        break;
    default:
        try_record(in, &first, &second);
        break;
    }
    mr_buf_release(&first);
    mr_buf_release(&second);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
