/*
 * Payloads of the batch log's records, byte by byte.
 *
 * Called by batch_log.c (encode) and batch_log_recover.c (decode).  v = varint, u8 u32 u64
 * little-endian, block = v length + bytes, opt = u8 0 | u8 1 block:
 *
 *     PLAN    v batch, u32 epoch, u32 attempt, u64 batch time, u64 watermark,
 *             u64 late watermark, u64 graph fingerprint, opt settings,
 *             v sources { block name, opt start, opt end }
 *     DELTA   v batch, u8 is_snapshot, block store, the rest: a part (state/part_write.c)
 *     COMMIT  v batch, u32 epoch, u32 attempt, u64 sum of PLAN, u64 sum of COMMIT before,
 *             u64 next watermark, v parts { part }, v receipts { block };
 *             version 2: v marks { block name, u8 kind, u64 time }, at least one
 *     part    block store, v version, u32 epoch, u32 attempt, u8 flags (1 snapshot,
 *             2 in log), opt file, v size, u64 sum, v keys
 *     SEGMENT u64 number, u64 file size, 16 query id; where the log stood when it was made:
 *             u8 flags (1 has plan, 2 has commit), v plan batch, u64 plan sum,
 *             v commit batch, u64 commit sum, u32 epoch, v parts { part }
 *     EPOCH   u32 epoch
 *     NEXT    u64 number of the next segment, u64 sum of its head
 *     CLOSE   u8 0
 *
 * A decoder wants every byte: one left over or missing is an error.  It allocates no more than the
 * payload can hold.
 *
 * Threads: pure functions.
 */
#include "wal/internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <string.h>

#include "base/banned.h"

enum { PART_SNAPSHOT = 1, PART_IN_LOG = 2, HEAD_HAS_PLAN = 1, HEAD_HAS_COMMIT = 2 };

void mr_plan_release(struct mr_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++) {
        mr_free(plan->sources[i].name);
        mr_free(plan->sources[i].start);
        mr_free(plan->sources[i].end);
    }
    mr_free(plan->sources);
    mr_free(plan->settings);
    *plan = (struct mr_plan){0};
}

void mr_commit_release(struct mr_commit *commit)
{
    for (uint32_t i = 0; i < commit->part_count; i++)
        mr_state_part_release(&commit->parts[i]);
    for (uint32_t i = 0; i < commit->receipt_count; i++)
        mr_free(commit->receipts[i]);
    for (uint32_t i = 0; i < commit->mark_count; i++)
        mr_free(commit->marks[i].name);
    mr_free(commit->marks);
    mr_free(commit->parts);
    mr_free(commit->receipts);
    *commit = (struct mr_commit){0};
}

void mr_recovered_release(struct mr_recovered *recovered)
{
    for (uint32_t i = 0; i < recovered->part_count; i++)
        mr_state_part_release(&recovered->parts[i]);
    mr_free(recovered->parts);
    mr_plan_release(&recovered->last_plan);
    mr_plan_release(&recovered->committed_plan);
    mr_commit_release(&recovered->last_commit);
    *recovered = (struct mr_recovered){0};
}

/* ---------------------------------------------------------------- pieces */

static void put_text(struct mr_buf *out, const char *text)
{
    mr_buf_add_block(out, text, strlen(text));
}

static void put_optional(struct mr_buf *out, const char *text)
{
    mr_buf_add_u8(out, text != NULL);
    if (text != NULL)
        put_text(out, text);
}

/*
 * A text without NUL inside, copied; NULL on damage (bytes->failed) or without memory (*no_memory).
 */
static char *get_text(struct mr_bytes *bytes, bool *no_memory)
{
    size_t size = 0;
    const char *text = mr_bytes_block(bytes, &size);
    char *copy;

    if (text == NULL || (memchr(text, '\0', size) != NULL && !MR_MUTANT("log-codec.text.nul"))) {
        bytes->failed = true;
        return NULL;
    }
    copy = mr_strndup(text, size);
    if (copy == NULL)
        *no_memory = true;
    return copy;
}

static char *get_optional(struct mr_bytes *bytes, bool *no_memory)
{
    uint8_t present = mr_bytes_u8(bytes);

    if (present > 1 && !MR_MUTANT("log-codec.optional.flag"))
        bytes->failed = true;
    return present == 1 && !bytes->failed ? get_text(bytes, no_memory) : NULL;
}

/* A number of things that take at least one byte each, or failed. */
static uint32_t get_count(struct mr_bytes *bytes)
{
    uint64_t count = mr_bytes_varint(bytes);

    if ((count > mr_bytes_left(bytes) || count > UINT32_MAX / 2) &&
        !MR_MUTANT("log-codec.count.room"))
        bytes->failed = true;
    return bytes->failed ? 0 : (uint32_t)count;
}

static bool all_read(const struct mr_bytes *bytes, bool no_memory)
{
    return !bytes->failed && !no_memory &&
           (mr_bytes_left(bytes) == 0 || MR_MUTANT("log-codec.all-read.left"));
}

/* ---------------------------------------------------------------- PLAN */

void mr__plan_encode(struct mr_buf *out, const struct mr_plan *plan)
{
    mr_buf_add_varint(out, plan->batch_id);
    mr_buf_add_u32(out, plan->epoch);
    mr_buf_add_u32(out, plan->attempt);
    mr_buf_add_u64(out, (uint64_t)plan->batch_time_us);
    mr_buf_add_u64(out, (uint64_t)plan->watermark_us);
    mr_buf_add_u64(out, (uint64_t)plan->late_watermark_us);
    mr_buf_add_u64(out, plan->graph_fingerprint);
    put_optional(out, plan->settings);
    mr_buf_add_varint(out, plan->source_count);
    for (uint32_t i = 0; i < plan->source_count; i++) {
        put_text(out, plan->sources[i].name);
        put_optional(out, plan->sources[i].start);
        put_optional(out, plan->sources[i].end);
    }
}

bool mr__plan_decode(struct mr_bytes bytes, struct mr_plan *ret_plan, bool *ret_no_memory)
{
    struct mr_plan plan = {0};
    bool no_memory = false;
    uint32_t count;

    plan.batch_id = mr_bytes_varint(&bytes);
    plan.epoch = mr_bytes_u32(&bytes);
    plan.attempt = mr_bytes_u32(&bytes);
    plan.batch_time_us = (int64_t)mr_bytes_u64(&bytes);
    plan.watermark_us = (int64_t)mr_bytes_u64(&bytes);
    plan.late_watermark_us = (int64_t)mr_bytes_u64(&bytes);
    plan.graph_fingerprint = mr_bytes_u64(&bytes);
    plan.settings = get_optional(&bytes, &no_memory);
    count = get_count(&bytes);
    plan.sources = mr_alloc_zero(NULL, (count + 1u) * sizeof(*plan.sources));
    no_memory |= plan.sources == NULL;
    for (uint32_t i = 0; i < count && !bytes.failed && !no_memory; i++) {
        struct mr_plan_source *source = &plan.sources[plan.source_count++];

        source->name = get_text(&bytes, &no_memory);
        source->start = get_optional(&bytes, &no_memory);
        source->end = get_optional(&bytes, &no_memory);
    }
    *ret_no_memory = no_memory;
    if (!all_read(&bytes, no_memory)) {
        mr_plan_release(&plan);
        return false;
    }
    *ret_plan = plan;
    return true;
}

/* ---------------------------------------------------------------- parts */

static void put_part(struct mr_buf *out, const struct mr_state_part *part)
{
    put_text(out, part->store);
    mr_buf_add_varint(out, part->version);
    mr_buf_add_u32(out, part->epoch);
    mr_buf_add_u32(out, part->attempt);
    mr_buf_add_u8(
        out, (uint8_t)((part->is_snapshot ? PART_SNAPSHOT : 0) | (part->in_log ? PART_IN_LOG : 0)));
    put_optional(out, part->file);
    mr_buf_add_varint(out, part->size_bytes);
    mr_buf_add_u64(out, part->sum);
    mr_buf_add_varint(out, part->key_count);
}

static void get_part(struct mr_bytes *bytes, struct mr_state_part *part, bool *no_memory)
{
    uint8_t flags;

    part->store = get_text(bytes, no_memory);
    part->version = mr_bytes_varint(bytes);
    part->epoch = mr_bytes_u32(bytes);
    part->attempt = mr_bytes_u32(bytes);
    flags = mr_bytes_u8(bytes);
    part->is_snapshot = (flags & PART_SNAPSHOT) != 0;
    part->in_log = (flags & PART_IN_LOG) != 0;
    part->file = get_optional(bytes, no_memory);
    part->size_bytes = mr_bytes_varint(bytes);
    part->sum = mr_bytes_u64(bytes);
    part->key_count = mr_bytes_varint(bytes);
    /* A file's name is joined to a directory: it must not lead out of it. */
    if ((flags > (PART_SNAPSHOT | PART_IN_LOG) && !MR_MUTANT("log-codec.part.flags")) ||
        (!*no_memory && part->in_log != (part->file == NULL) &&
         !MR_MUTANT("log-codec.part.place")) ||
        (part->file != NULL && (strchr(part->file, '/') != NULL || part->file[0] == '.') &&
         !MR_MUTANT("log-codec.part.path")))
        bytes->failed = true;
}

static void put_parts(struct mr_buf *out, const struct mr_state_part *parts, uint32_t count)
{
    mr_buf_add_varint(out, count);
    for (uint32_t i = 0; i < count; i++)
        put_part(out, &parts[i]);
}

static struct mr_state_part *get_parts(struct mr_bytes *bytes, uint32_t *ret_count, bool *no_memory)
{
    uint32_t count = get_count(bytes);
    struct mr_state_part *parts = mr_alloc_zero(NULL, (count + 1u) * sizeof(*parts));

    *ret_count = 0;
    *no_memory |= parts == NULL;
    for (uint32_t i = 0; i < count && !bytes->failed && !*no_memory; i++) {
        get_part(bytes, &parts[i], no_memory);
        *ret_count = i + 1;
    }
    return parts;
}

/* ---------------------------------------------------------------- COMMIT */

void mr__commit_encode(struct mr_buf *out, const struct mr_commit *commit,
                       const struct mr_log_position *position)
{
    mr_buf_add_varint(out, commit->batch_id);
    mr_buf_add_u32(out, commit->epoch);
    mr_buf_add_u32(out, commit->attempt);
    mr_buf_add_u64(out, position->plan_sum);
    mr_buf_add_u64(out, position->has_commit ? position->commit_sum : 0);
    mr_buf_add_u64(out, (uint64_t)commit->next_watermark_us);
    put_parts(out, commit->parts, commit->part_count);
    mr_buf_add_varint(out, commit->receipt_count);
    for (uint32_t i = 0; i < commit->receipt_count; i++)
        put_text(out, commit->receipts[i]);
    if (commit->mark_count > 0)
        mr_buf_add_varint(out, commit->mark_count);
    for (uint32_t i = 0; i < commit->mark_count; i++) {
        put_text(out, commit->marks[i].name);
        mr_buf_add_u8(out, (uint8_t)commit->marks[i].kind);
        mr_buf_add_u64(out, (uint64_t)commit->marks[i].time_us);
    }
}

/* The rest of a commit; one of version 1 ends before. */
static void get_marks(struct mr_bytes *bytes, struct mr_commit *commit, bool *no_memory)
{
    uint32_t count = get_count(bytes);

    commit->marks = mr_alloc_zero(NULL, (count + 1u) * sizeof(*commit->marks));
    *no_memory |= commit->marks == NULL;
    for (uint32_t i = 0; i < count && !bytes->failed && !*no_memory; i++) {
        struct mr_mark *mark = &commit->marks[i];
        uint8_t kind;

        mark->name = get_text(bytes, no_memory);
        commit->mark_count++;
        kind = mr_bytes_u8(bytes);
        mark->kind = (enum mr_mark_kind)kind;
        mark->time_us = (int64_t)mr_bytes_u64(bytes);
        bytes->failed |= kind > MR_MARK_MOVED && !MR_MUTANT("log-codec.marks.kind");
    }
    bytes->failed |= count == 0 && !MR_MUTANT("log-codec.marks.none");
}

bool mr__commit_decode(struct mr_bytes bytes, struct mr_commit *ret_commit, bool *ret_no_memory)
{
    struct mr_commit commit = {0};
    bool no_memory = false;
    uint32_t count;

    commit.batch_id = mr_bytes_varint(&bytes);
    commit.epoch = mr_bytes_u32(&bytes);
    commit.attempt = mr_bytes_u32(&bytes);
    commit.plan_sum = mr_bytes_u64(&bytes);
    commit.previous_commit_sum = mr_bytes_u64(&bytes);
    commit.next_watermark_us = (int64_t)mr_bytes_u64(&bytes);
    commit.parts = get_parts(&bytes, &commit.part_count, &no_memory);
    count = get_count(&bytes);
    commit.receipts = mr_alloc_zero(NULL, (count + 1u) * sizeof(*commit.receipts));
    no_memory |= commit.receipts == NULL;
    for (uint32_t i = 0; i < count && !bytes.failed && !no_memory; i++)
        commit.receipts[commit.receipt_count++] = get_text(&bytes, &no_memory);
    if (!no_memory && mr_bytes_left(&bytes) > 0)
        get_marks(&bytes, &commit, &no_memory);
    *ret_no_memory = no_memory;
    if (!all_read(&bytes, no_memory)) {
        mr_commit_release(&commit);
        return false;
    }
    *ret_commit = commit;
    return true;
}

/* ---------------------------------------------------------------- DELTA, SEGMENT */

void mr__delta_encode(struct mr_buf *out, uint64_t batch_id, const char *store, bool is_snapshot,
                      const void *data, size_t size_bytes)
{
    mr_buf_add_varint(out, batch_id);
    mr_buf_add_u8(out, is_snapshot);
    put_text(out, store);
    mr_buf_add(out, data, size_bytes);
}

bool mr__delta_decode(struct mr_bytes bytes, struct mr_delta *ret_delta)
{
    struct mr_delta delta = {0};
    uint8_t is_snapshot;

    delta.batch_id = mr_bytes_varint(&bytes);
    is_snapshot = mr_bytes_u8(&bytes);
    delta.is_snapshot = is_snapshot == 1;
    delta.store = mr_bytes_block(&bytes, &delta.store_bytes);
    if (bytes.failed || (is_snapshot > 1 && !MR_MUTANT("log-codec.delta.flag")))
        return false;
    delta.size_bytes = mr_bytes_left(&bytes);
    delta.data = (const char *)bytes.at;
    *ret_delta = delta;
    return true;
}

void mr__head_encode(struct mr_buf *out, const struct mr_log_position *position,
                     const struct mr_part_list *parts)
{
    mr_buf_add_u8(out, (uint8_t)((position->has_plan ? HEAD_HAS_PLAN : 0) |
                                 (position->has_commit ? HEAD_HAS_COMMIT : 0)));
    mr_buf_add_varint(out, position->plan_batch);
    mr_buf_add_u64(out, position->plan_sum);
    mr_buf_add_varint(out, position->commit_batch);
    mr_buf_add_u64(out, position->commit_sum);
    mr_buf_add_u32(out, position->epoch);
    put_parts(out, parts->parts, parts->count);
}

bool mr__head_decode(struct mr_bytes bytes, struct mr_log_position *ret_position,
                     struct mr_part_list *ret_parts, bool *ret_no_memory)
{
    struct mr_log_position position = {0};
    struct mr_part_list parts = {0};
    bool no_memory = false;
    uint8_t flags = mr_bytes_u8(&bytes);

    position.has_plan = (flags & HEAD_HAS_PLAN) != 0;
    position.has_commit = (flags & HEAD_HAS_COMMIT) != 0;
    position.plan_batch = mr_bytes_varint(&bytes);
    position.plan_sum = mr_bytes_u64(&bytes);
    position.commit_batch = mr_bytes_varint(&bytes);
    position.commit_sum = mr_bytes_u64(&bytes);
    position.epoch = mr_bytes_u32(&bytes);
    parts.parts = get_parts(&bytes, &parts.count, &no_memory);
    parts.capacity = parts.count;
    *ret_no_memory = no_memory;
    if (!all_read(&bytes, no_memory) ||
        (flags > (HEAD_HAS_PLAN | HEAD_HAS_COMMIT) && !MR_MUTANT("log-codec.head.flags"))) {
        mr_part_list_release(&parts);
        return false;
    }
    *ret_position = position;
    *ret_parts = parts;
    return true;
}
