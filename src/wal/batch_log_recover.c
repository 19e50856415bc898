/*
 * Reading the batch log back: one pass over all segments.
 *
 * Called by mr_batch_log_open (which then cuts and goes on), mr_batch_log_peek and
 * mr_batch_log_walk.  One pass over the segments, oldest first, following NEXT records; every group
 * through mr__group_read, every record through mr_record_read with the chain, every payload through
 * the state machine below:
 *
 *     PLAN(N)    N is the one after the last committed batch             last plan = N
 *     DELTA(N)*  N is the last plan, not committed yet                   pending
 *     COMMIT(N)  N is the last plan, its sums fit, its in-log parts are exactly the pending ones
 *     EPOCH(e)   anywhere; e grows
 *     NEXT       nothing after it in its segment
 *     CLOSE      anywhere
 *
 * Anything else cannot have been written by this program in this order: MR_CORRUPT, with file, byte
 * and reason (B6-B11). The tail rule is segment.c's; between segments: a segment without NEXT is
 * the newest, except that a next one may have been made and not used yet (crash inside a rotation).
 *  Its head says where the log stood when it was made, and that must be where this reading stands.
 *
 * Beside a running writer a reader can see a group that is being written, a purge or a rotation: it
 * reads the segment again before it calls anything damage.
 *
 * Threads: the caller's; nothing is shared with a writer but the files.
 */
#include "wal/internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

enum { READ_TRIES = 5, RETRY_PAUSE_NS = 2000000 };

struct pending_delta {
    char *store;
    bool is_snapshot;
    bool used;
    size_t size_bytes;
    char *data; /* NULL unless data is kept */
};

struct reader {
    struct mr_env *env;
    const char *dir;
    const struct mr_replay_options *options;
    struct mr_replay *replay;
    struct mr_segment segment;
    struct mr_buf group;
    uint64_t group_start;
    struct pending_delta *deltas;
    size_t delta_count, delta_capacity;
    uint64_t next_segment; /* from NEXT; 0 = none */
    uint64_t next_sum;     /* sum of its head */
    bool started, stopped;
};

void mr__replay_release(struct mr_replay *replay)
{
    mr_part_list_release(&replay->parts);
    mr_plan_release(&replay->last_plan);
    mr_plan_release(&replay->committed_plan);
    mr_commit_release(&replay->last_commit);
    mr_free(replay->uses);
    *replay = (struct mr_replay){0};
}

/* ---------------------------------------------------------------- errors */

/* Byte in the file of a byte in the data of the current group. */
static uint64_t disk_byte(const struct reader *reader, size_t offset)
{
    return reader->group_start + offset / MR_SECTOR_DATA_BYTES * MR_SECTOR_BYTES +
           offset % MR_SECTOR_DATA_BYTES;
}

static enum mr_status damaged(const struct reader *reader, uint64_t byte, const char *reason,
                              struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read '%s' at byte %" PRIu64 ": %s; restore the checkpoint from a copy",
                   reader->segment.path, byte, reason);
}

static enum mr_status no_memory(const struct reader *reader, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", reader->segment.path);
}

/* ---------------------------------------------------------------- records */

static void forget_deltas(struct reader *reader)
{
    for (size_t i = 0; i < reader->delta_count; i++) {
        mr_free(reader->deltas[i].store);
        mr_free(reader->deltas[i].data);
    }
    reader->delta_count = 0;
}

static bool note_batch(struct reader *reader, uint64_t batch_id)
{
    struct mr_replay *replay = reader->replay;
    struct mr_segment_use *use = &replay->uses[replay->use_count - 1];

    use->has_batch = true;
    use->last_batch = batch_id;
    return true;
}

static enum mr_status apply_epoch(struct reader *reader, const struct mr_record *record,
                                  uint64_t byte, struct mr_log_entry *entry, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);
    uint32_t epoch = mr_bytes_u32(&bytes);

    if ((bytes.failed || mr_bytes_left(&bytes) != 0 || epoch <= reader->replay->position.epoch) &&
        !MR_MUTANT("log-recover.epoch.grows"))
        return damaged(reader, byte, "an epoch does not grow", err);
    reader->replay->position.epoch = epoch;
    entry->epoch = epoch;
    return MR_OK;
}

static enum mr_status apply_plan(struct reader *reader, const struct mr_record *record,
                                 uint64_t byte, struct mr_log_entry *entry, struct mr_error *err)
{
    struct mr_replay *replay = reader->replay;
    struct mr_log_position *position = &replay->position;
    bool out_of_memory = false;
    struct mr_plan plan;

    if (!mr__plan_decode(mr_bytes_of(record->payload.data, record->payload.size_bytes), &plan,
                         &out_of_memory))
        return out_of_memory ? no_memory(reader, err)
                             : damaged(reader, byte, "a plan does not decode", err);
    if ((position->has_plan &&
         (!position->has_commit || position->commit_batch != position->plan_batch)) &&
        !MR_MUTANT("log-recover.plan.committed-before")) {
        mr_plan_release(&plan);
        return damaged(reader, byte, "a batch is planned before the one before it was committed",
                       err);
    }
    if (position->has_plan && plan.batch_id != position->plan_batch + 1 &&
        !MR_MUTANT("log-recover.plan.gap")) {
        uint64_t found = plan.batch_id;

        mr_plan_release(&plan);
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read '%s' at byte %" PRIu64 ": plan %" PRIu64
                       " follows plan %" PRIu64
                       ", there is a gap; restore the checkpoint from a copy",
                       reader->segment.path, byte, found, position->plan_batch);
    }
    if (plan.epoch > position->epoch && !MR_MUTANT("log-recover.plan.epoch")) {
        mr_plan_release(&plan);
        return damaged(reader, byte, "a plan is of an epoch that has not begun", err);
    }
    mr_plan_release(&replay->committed_plan);
    replay->committed_plan = replay->last_plan;
    replay->has_committed_plan = replay->has_last_plan;
    replay->last_plan = plan;
    replay->has_last_plan = true;
    position->has_plan = true;
    position->plan_batch = plan.batch_id;
    position->plan_sum = record->sum;
    note_batch(reader, plan.batch_id);
    entry->plan = &replay->last_plan;
    return MR_OK;
}

static enum mr_status apply_delta(struct reader *reader, const struct mr_record *record,
                                  uint64_t byte, struct mr_log_entry *entry, struct mr_error *err)
{
    const struct mr_log_position *position = &reader->replay->position;
    struct pending_delta *pending;
    struct mr_delta delta;

    if (!mr__delta_decode(mr_bytes_of(record->payload.data, record->payload.size_bytes), &delta))
        return damaged(reader, byte, "a delta does not decode", err);
    if ((!position->has_plan || delta.batch_id != position->plan_batch ||
         (position->has_commit && position->commit_batch == delta.batch_id)) &&
        !MR_MUTANT("log-recover.delta.batch"))
        return damaged(reader, byte, "a delta belongs to no batch that was running", err);
    if (reader->delta_count == reader->delta_capacity) {
        size_t capacity = MR_MAX(reader->delta_capacity * 2, (size_t)8);
        struct pending_delta *grown = mr_realloc(NULL, reader->deltas, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(reader, err);
        reader->deltas = grown;
        reader->delta_capacity = capacity;
    }
    pending = &reader->deltas[reader->delta_count++];
    *pending =
        (struct pending_delta){.is_snapshot = delta.is_snapshot, .size_bytes = delta.size_bytes};
    pending->store = mr_strndup(delta.store, delta.store_bytes);
    if (reader->options->keep_data && pending->store != NULL) {
        pending->data = mr_alloc(NULL, delta.size_bytes);
        if (pending->data != NULL)
            memcpy(pending->data, delta.data, delta.size_bytes);
    }
    if (pending->store == NULL || (reader->options->keep_data && pending->data == NULL))
        return no_memory(reader, err);
    note_batch(reader, delta.batch_id);
    entry->delta_batch = delta.batch_id;
    entry->delta_store = pending->store;
    entry->delta_bytes = delta.size_bytes;
    entry->delta_data = delta.data;
    entry->delta_is_snapshot = delta.is_snapshot;
    return MR_OK;
}

/*
 * The in-log parts a COMMIT names and the deltas before it must be the same; the parts get the
 * bytes.
 */
static bool match_deltas(struct reader *reader, struct mr_state_part *parts, uint32_t part_count)
{
    size_t used = 0;

    for (uint32_t i = 0; i < part_count; i++) {
        struct mr_state_part *part = &parts[i];
        bool found = false;

        for (size_t k = 0; part->in_log && k < reader->delta_count && !found; k++) {
            struct pending_delta *pending = &reader->deltas[k];

            if (pending->used || pending->is_snapshot != part->is_snapshot ||
                strcmp(pending->store, part->store) != 0 || pending->size_bytes != part->size_bytes)
                continue;
            pending->used = found = true;
            part->data = pending->data;
            pending->data = NULL;
            used++;
        }
        if (part->in_log && !found && !MR_MUTANT("log-recover.commit.delta-missing"))
            return false;
    }
    return used == reader->delta_count || MR_MUTANT("log-recover.commit.delta-left");
}

static enum mr_status add_parts(struct reader *reader, struct mr_commit *commit,
                                struct mr_error *err)
{
    struct mr_part_list *list = &reader->replay->parts;
    bool any_snapshot = false;

    MR_TRY(mr_part_list_reserve(list, commit->part_count, err));
    for (uint32_t i = 0; i < commit->part_count; i++) {
        struct mr_state_part copy;
        MR_TRY(mr_state_part_copy(&commit->parts[i], &copy, err));
        copy.data = commit->parts[i].data;
        commit->parts[i].data = NULL;
        any_snapshot |= copy.is_snapshot;
        mr_part_list_add(list, &copy);
    }
    if (any_snapshot)
        mr_part_list_prune(list, commit->batch_id, UINT32_MAX, NULL, NULL);
    return MR_OK;
}

static enum mr_status apply_commit(struct reader *reader, const struct mr_record *record,
                                   uint64_t byte, struct mr_log_entry *entry, struct mr_error *err)
{
    struct mr_log_position *position = &reader->replay->position;
    bool out_of_memory = false;
    const char *reason = NULL;
    struct mr_commit commit;
    enum mr_status status;

    if (!mr__commit_decode(mr_bytes_of(record->payload.data, record->payload.size_bytes), &commit,
                           &out_of_memory))
        return out_of_memory ? no_memory(reader, err)
                             : damaged(reader, byte, "a commit does not decode", err);
    /* redundant: what decodes is whole; here it says that another program wrote it */
    if ((commit.mark_count > 0) != (record->version == MR_COMMIT_MARKS_VERSION) &&
        !MR_MUTANT("log-recover.commit.marks")) {
        mr_commit_release(&commit);
        return damaged(reader, byte, "a commit is not of its version", err);
    }
    if ((!position->has_plan || commit.batch_id != position->plan_batch) &&
        !MR_MUTANT("log-recover.commit.batch"))
        reason = "a commit belongs to no plan";
    else if (position->has_commit && position->commit_batch >= commit.batch_id &&
             !MR_MUTANT("log-recover.commit.twice"))
        reason = "a batch is committed twice";
    else if (commit.plan_sum != position->plan_sum && !MR_MUTANT("log-recover.commit.plan-sum"))
        reason = "a commit belongs to another plan of its batch";
    else if (commit.epoch > position->epoch && !MR_MUTANT("log-recover.commit.epoch"))
        reason = "a commit is of an epoch that has not begun";
    else if (commit.previous_commit_sum != (position->has_commit ? position->commit_sum : 0) &&
             !MR_MUTANT("log-recover.commit.commit-sum"))
        reason = "a commit does not follow the commit before it";
    else if (!match_deltas(reader, commit.parts, commit.part_count))
        reason = "a commit and the deltas before it do not fit";
    if (reason != NULL) {
        mr_commit_release(&commit);
        return damaged(reader, byte, reason, err);
    }
    status = add_parts(reader, &commit, err);
    mr_commit_release(&reader->replay->last_commit);
    reader->replay->last_commit = commit;
    if (status != MR_OK)
        return status;
    position->has_commit = true;
    position->commit_batch = commit.batch_id;
    position->commit_sum = record->sum;
    forget_deltas(reader);
    note_batch(reader, commit.batch_id);
    entry->commit = &reader->replay->last_commit;
    return MR_OK;
}

static enum mr_status apply_next(struct reader *reader, const struct mr_record *record,
                                 uint64_t byte, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);

    reader->next_segment = mr_bytes_u64(&bytes);
    reader->next_sum = mr_bytes_u64(&bytes);
    if ((bytes.failed || mr_bytes_left(&bytes) != 0 ||
         reader->next_segment != reader->segment.number + 1) &&
        !MR_MUTANT("log-recover.next.number"))
        return damaged(reader, byte, "it names a next segment that cannot be", err);
    return MR_OK;
}

static enum mr_status apply_record(struct reader *reader, const struct mr_record *record,
                                   size_t offset, struct mr_error *err)
{
    uint64_t byte = disk_byte(reader, offset);
    struct mr_log_entry entry = {
        .kind = record->kind, .file = reader->segment.path, .offset = byte};

    bool known = record->version == 1 ||
                 (record->kind == MR_RECORD_COMMIT && record->version == MR_COMMIT_MARKS_VERSION);

    if (!known && !MR_MUTANT("log-recover.record.version"))
        return MR_FAIL(err, MR_VERSION,
                       "cannot read '%s' at byte %" PRIu64
                       ": it has records of version %u; run a newer millrace",
                       reader->segment.path, byte, record->version);
    switch ((unsigned)record->kind) {
    case MR_RECORD_EPOCH:
        MR_TRY(apply_epoch(reader, record, byte, &entry, err));
        break;
    case MR_RECORD_PLAN:
        MR_TRY(apply_plan(reader, record, byte, &entry, err));
        break;
    case MR_RECORD_DELTA:
        MR_TRY(apply_delta(reader, record, byte, &entry, err));
        break;
    case MR_RECORD_COMMIT:
        MR_TRY(apply_commit(reader, record, byte, &entry, err));
        break;
    case MR_RECORD_NEXT:
        MR_TRY(apply_next(reader, record, byte, err));
        break;
    case MR_RECORD_CLOSE:
        break;
    default:
        if (!MR_MUTANT("log-recover.record.kind"))
            return damaged(reader, byte, "a record of this kind has no place in the batch log",
                           err);
    }
    if (reader->options->visit != NULL && !reader->options->visit(&entry, reader->options->arg))
        reader->stopped = true;
    return MR_OK;
}

/* ---------------------------------------------------------------- groups and segments */

/* The records of one whole group. Its sectors all arrived, so whatever is wrong in it is damage. */
static enum mr_status apply_group(struct reader *reader, struct mr_error *err)
{
    size_t offset = 0;

    while (!reader->stopped) {
        struct mr_record record;
        size_t size = 0;
        enum mr_record_result result =
            mr_record_read(reader->group.data + offset, reader->group.size - offset,
                           reader->replay->chain, &record, &size);

        if (result == MR_RECORD_END)
            break;
        if (result == MR_RECORD_WRONG_ENDIAN && !MR_MUTANT("log-recover.group.byte-order"))
            return MR_FAIL(err, MR_VERSION,
                           "cannot read '%s': it was written with another byte order",
                           reader->segment.path);
        if (result != MR_RECORD_OK && !MR_MUTANT("log-recover.group.record"))
            return damaged(reader, disk_byte(reader, offset), mr_record_result_text(result), err);
        if (reader->next_segment != 0 && !MR_MUTANT("log-recover.group.behind-next"))
            return damaged(reader, disk_byte(reader, offset),
                           "a record follows the last one of its segment", err);
        MR_TRY(apply_record(reader, &record, offset, err));
        if (record.kind != MR_RECORD_NEXT)
            reader->replay->chain = record.sum;
        offset += size;
    }
    if (offset == 0 && !MR_MUTANT("log-recover.group.empty"))
        return damaged(reader, reader->group_start, "a flush without any record", err);
    if (reader->delta_count != 0 && !reader->stopped &&
        !MR_MUTANT("log-recover.group.deltas-alone"))
        return damaged(reader, reader->group_start, "deltas without their commit", err);
    return MR_OK;
}

/*
 * Checks all records of the group without changing anything: a reader beside a writer looks again
 * when this fails.
 */
static bool group_looks_whole(const struct reader *reader)
{
    uint64_t chain = reader->replay->chain;
    size_t offset = 0;

    for (;;) {
        struct mr_record record;
        size_t size = 0;
        enum mr_record_result result = mr_record_read(
            reader->group.data + offset, reader->group.size - offset, chain, &record, &size);

        if (result != MR_RECORD_OK)
            return result == MR_RECORD_END;
        chain = record.sum;
        offset += size;
    }
}

static enum mr_status reload(struct reader *reader, struct mr_error *err)
{
    struct mr_segment again;

    mr_env_sleep_ns(reader->env, RETRY_PAUSE_NS);
    MR_TRY(mr__segment_load(reader->env, reader->dir, MR_BATCH_LOG_SUFFIX, reader->segment.number,
                            MR_SEGMENT_BATCH_LOG, &again, err));
    mr__segment_release(&reader->segment);
    reader->segment = again;
    return MR_OK;
}

static enum mr_status read_group(struct reader *reader, uint64_t start, uint32_t ordinal,
                                 enum mr_group_result *ret_result, struct mr_group *ret_group,
                                 struct mr_error *err)
{
    for (unsigned i = 0;; i++) {
        const struct mr_segment *segment = &reader->segment;
        enum mr_group_result result =
            mr__group_read(segment->data, segment->size_bytes, start, segment->key, ordinal, false,
                           &reader->group, ret_group);

        if (reader->group.failed)
            return no_memory(reader, err);
        *ret_result = result;
        if (result == MR_GROUP_NONE || !reader->options->beside_writer || i >= READ_TRIES ||
            (result == MR_GROUP_WHOLE && group_looks_whole(reader)))
            return MR_OK;
        if (result == MR_GROUP_TORN && i > 0)
            return MR_OK;
        MR_TRY(reload(reader, err));
    }
}

static uint64_t count_torn(const struct mr_segment *segment, uint64_t start)
{
    size_t end = segment->size_bytes;

    while (end > start && segment->data[end - 1] == 0)
        end--;
    return end - start;
}

static enum mr_status read_groups(struct reader *reader, struct mr_error *err)
{
    struct mr_replay *replay = reader->replay;
    uint64_t at = reader->segment.first_group;
    uint32_t ordinal = 1;

    for (;; ordinal++) {
        enum mr_group_result result = MR_GROUP_NONE;
        struct mr_group group = {0};

        MR_TRY(read_group(reader, at, ordinal, &result, &group, err));
        reader->group_start = at;
        if (result == MR_GROUP_DAMAGED && !MR_MUTANT("log-recover.groups.damaged"))
            return damaged(reader, group.bad, group.reason, err);
        if (result != MR_GROUP_WHOLE) {
            replay->torn_bytes = result == MR_GROUP_TORN ? count_torn(&reader->segment, at) : 0;
            break;
        }
        if (reader->next_segment != 0 && !MR_MUTANT("log-recover.groups.flush-behind-next"))
            return damaged(reader, at, "a flush follows the last one of its segment", err);
        MR_TRY(apply_group(reader, err));
        at = group.end;
        if (reader->stopped)
            return MR_OK;
    }
    if (reader->next_segment != 0 && replay->torn_bytes != 0 &&
        !MR_MUTANT("log-recover.groups.behind-next"))
        return damaged(reader, at, "foreign bytes follow the last record of the segment", err);
    replay->tail = at;
    replay->ordinal = ordinal;
    return MR_OK;
}

static enum mr_status note_segment(struct reader *reader, struct mr_error *err)
{
    struct mr_replay *replay = reader->replay;

    if (replay->use_count == replay->use_capacity) {
        size_t capacity = MR_MAX(replay->use_capacity * 2, (size_t)8);
        struct mr_segment_use *grown = mr_realloc(NULL, replay->uses, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(reader, err);
        replay->uses = grown;
        replay->use_capacity = capacity;
    }
    replay->uses[replay->use_count++] = (struct mr_segment_use){
        .number = reader->segment.number, .size_bytes = reader->segment.size_bytes};
    return MR_OK;
}

static bool same_position(const struct mr_log_position *a, const struct mr_log_position *b)
{
    return a->has_plan == b->has_plan && a->has_commit == b->has_commit &&
           a->plan_batch == b->plan_batch && a->plan_sum == b->plan_sum &&
           a->commit_batch == b->commit_batch && a->commit_sum == b->commit_sum &&
           a->epoch == b->epoch;
}

/*
 * The head of the oldest segment is where the reading starts; later ones must say what the reading
 * says.
 */
static enum mr_status check_head(struct reader *reader, struct mr_error *err)
{
    struct mr_replay *replay = reader->replay;
    const struct mr_segment *segment = &reader->segment;
    const uint8_t *query_id = mr__segment_query_id(segment);
    struct mr_log_position position;
    struct mr_part_list parts;
    bool out_of_memory = false;

    if (!mr__head_decode(mr__segment_head_rest(segment), &position, &parts, &out_of_memory))
        return out_of_memory ? no_memory(reader, err)
                             : damaged(reader, 0, "the head does not decode", err);
    if ((reader->options->query_id != NULL &&
         memcmp(query_id, reader->options->query_id, 16) != 0 &&
         !MR_MUTANT("log-recover.head.query")) ||
        (reader->started && memcmp(query_id, replay->query_id, 16) != 0 &&
         !MR_MUTANT("log-recover.head.same-query"))) {
        mr_part_list_release(&parts);
        return damaged(reader, 0, "it belongs to another query", err);
    }
    if (!reader->started) {
        reader->started = true;
        memcpy(replay->query_id, query_id, 16);
        replay->position = position;
        replay->parts = parts;
        replay->chain = segment->record.chain;
        return MR_OK;
    }
    mr_part_list_release(&parts);
    if ((segment->record.chain != replay->chain || !same_position(&position, &replay->position)) &&
        !MR_MUTANT("log-recover.head.position"))
        return damaged(reader, 0,
                       "it was made when the log stood elsewhere: records before it are missing",
                       err);
    return MR_OK;
}

static enum mr_status read_segment(struct reader *reader, uint64_t number, struct mr_error *err)
{
    uint64_t wanted_sum = reader->next_sum;
    bool is_next = reader->next_segment != 0;
    struct mr_segment segment;

    MR_TRY(mr__segment_load(reader->env, reader->dir, MR_BATCH_LOG_SUFFIX, number,
                            MR_SEGMENT_BATCH_LOG, &segment, err));
    mr__segment_release(&reader->segment);
    reader->segment = segment;
    reader->next_segment = 0;
    MR_TRY(note_segment(reader, err));
    MR_TRY(check_head(reader, err));
    if (is_next && reader->segment.record.sum != wanted_sum &&
        !MR_MUTANT("log-recover.segment.sum"))
        return damaged(reader, 0, "it is not the segment that the one before it names", err);
    reader->replay->segment = number;
    reader->replay->segment_bytes = reader->segment.size_bytes;
    return read_groups(reader, err);
}

/* ---------------------------------------------------------------- the whole log */

/*
 * Segments behind the newest one that counts: at most one, made by a rotation that a crash cut
 * short; nothing was written to it.
 */
static enum mr_status check_rest(struct reader *reader, const struct mr_segment_list *list,
                                 struct mr_error *err)
{
    struct mr_replay *replay = reader->replay;
    enum mr_group_result result;
    struct mr_group group;
    struct mr_segment rest;
    uint64_t found = list->numbers[list->count - 1];
    enum mr_status status;

    if (found <= replay->segment || reader->options->beside_writer)
        return MR_OK;
    if (found != replay->segment + 1 && !MR_MUTANT("log-recover.rest.gap"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the log '%s': it has segments %" PRIu64 " and %" PRIu64
                       " and nothing between them; restore the checkpoint from a copy",
                       reader->dir, replay->segment, found);
    MR_TRY(mr__segment_load(reader->env, reader->dir, MR_BATCH_LOG_SUFFIX, found,
                            MR_SEGMENT_BATCH_LOG, &rest, err));
    mr__segment_release(&reader->segment);
    reader->segment = rest;
    MR_TRY(check_head(reader, err));
    result = mr__group_read(rest.data, rest.size_bytes, rest.first_group, rest.key, 1, false,
                            &reader->group, &group);
    status = reader->group.failed ? no_memory(reader, err) : MR_OK;
    if (status == MR_OK && result != MR_GROUP_NONE && !MR_MUTANT("log-recover.rest.used"))
        status = damaged(
            reader, rest.first_group,
            "it was written to, but the segment before it does not say that it follows", err);
    replay->unused_segment = found;
    return status;
}

static enum mr_status missing_next(struct reader *reader, const struct mr_segment_list *list,
                                   struct mr_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->numbers[i] > reader->next_segment)
            return MR_FAIL(
                err, MR_CORRUPT,
                "cannot read the log '%s': segment %" PRIu64 " is missing between %" PRIu64
                " and %" PRIu64 "; restore the checkpoint from a copy",
                reader->dir, reader->next_segment, reader->segment.number, list->numbers[i]);
    }
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the log '%s': segment %" PRIu64
                   ", which follows '%s', is missing; restore the checkpoint "
                   "from a copy",
                   reader->dir, reader->next_segment, reader->segment.path);
}

static enum mr_status read_all(struct reader *reader, const struct mr_segment_list *list,
                               struct mr_error *err)
{
    enum mr_status status = MR_OK;

    /*
     * Beside a writer the oldest ones may be purged while we look: start with the first that is
     * still there.
     */
    for (size_t i = 0; i < list->count; i++) {
        status = read_segment(reader, list->numbers[i], err);
        if (status != MR_NOT_FOUND || !reader->options->beside_writer || reader->started)
            break;
    }
    while (status == MR_OK && reader->next_segment != 0 && !reader->stopped) {
        status = read_segment(reader, reader->next_segment, err);
        if (status == MR_NOT_FOUND)
            return missing_next(reader, list, err);
    }
    if (status != MR_OK || reader->stopped)
        return status;
    return check_rest(reader, list, err);
}

enum mr_status mr__replay_run(struct mr_env *env, const char *dir,
                              const struct mr_replay_options *options, struct mr_replay *ret_replay,
                              struct mr_error *err)
{
    struct mr_replay replay = {0};
    struct reader reader = {.env = env, .dir = dir, .options = options, .replay = &replay};
    struct mr_segment_list list;
    enum mr_status status;

    MR_TRY(mr__segment_list(env, dir, MR_BATCH_LOG_SUFFIX, &list, err));
    status = list.count == 0 ? MR_OK : read_all(&reader, &list, err);
    forget_deltas(&reader);
    mr_free(reader.deltas);
    mr_buf_release(&reader.group);
    mr__segment_release(&reader.segment);
    mr__segment_list_release(&list);
    if (status != MR_OK) {
        mr__replay_release(&replay);
        return status;
    }
    *ret_replay = replay;
    return MR_OK;
}
