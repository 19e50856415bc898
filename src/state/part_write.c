/*
 * Writing deltas and snapshots: the same bytes inside the batch log and in files.
 *
 * Called by state.c for each changed store of a batch.  A part is a run of framed records
 * (wal/record.h):
 *
 *     FILE_HEAD { u8 is_snapshot, 16 query id, u64 version, u32 epoch, u32 attempt,
 *                 u64 seed of the hash, blocks: store, kind, key schema, value schema }
 *     GROUP     { sections, one for each of some key groups, ascending:
 *                     u8 key group, u32 bytes of the entries that follow,
 *                     entries: varint key size * 2 + is_delete, key, value block unless
 *                     it is a delete }   any number of times
 *     FILE_FOOT { u64 entries, u32 GROUP records, u64 keys in the store afterwards }
 *
 * Each record's chain is the sum of the one before it (0 for the first), so a record that is
 * missing, doubled or of another part breaks it, and the sum of FILE_FOOT, which COMMIT repeats,
 * covers every byte.  Entries are in the order of the top 32 bits of their hash, equal ones by key:
 * so key groups (the top 8 bits) ascend, the same content is the same bytes, and both writing and
 * loading go through the table from its beginning to its end.  A GROUP record ends with a key group
 * once it holds 64 KiB, and within one at 1 MiB.
 *
 * The head is the manifest of the operator: its name and schemas are kept with every version of its
 * state.  A store without keys still writes one (empty) part.
 *
 * Who does it. A part of more than 16,384 entries is cut into pieces of about as many, each of one
 * shard, and the records end where the pieces do. Where the cuts are depends on the keys alone, so
 * the bytes do not depend on the workers, which make the pieces (part_encode.c):
 *
 *     workers   sort the changes of a shard            for a delta
 *     workers   piece i -> records without headers     at the same time
 *     in turn   headers, chain, out                    piece after piece
 *
 * Who has made piece i waits until it is its turn, and puts its records out itself. Workers take
 * pieces in their order, so whoever has the lowest one never waits, and a failed one ends the
 * waiting of those behind it.
 *
 * Memory: a part is gathered while it is small enough for the log; beyond that a staged file takes
 * it. A piece that has grown to 4 MiB waits for its turn before it goes on, and then puts out each
 * 1 MiB: so memory is bounded by the workers, not by the values.
 *
 * Threads: the driver's; pieces on any. What is below `lock` in struct output is shared; the target
 * belongs to whose turn it is.
 */
#include "state/internal.h"

#include "env/thread.h"
#include "state/spill.h"
#include "wal/record.h"

#include <string.h>

#include "base/banned.h"

enum {
    PART_VERSION = 1,
    WRITE_BYTES = 1 << 20,
    COPY_BYTES = WRITE_BYTES / 2, /* less than that is gathered with what follows */
    HOLD_BYTES = 4 << 20,
    PIECE_ENTRIES = 16 << 10,
    PIECES_LOG_MAX = 24, /* of a shard */
};

/* A run of keys of one shard, or all of them. */
struct piece {
    unsigned shard;
    uint64_t from, end; /* a delta: places in its sorted changes; a snapshot: fragments */
};

struct output {
    const struct mr_store *store;
    struct mr_part_target *target;
    const struct mr_jobs *jobs;
    bool is_snapshot;
    bool is_whole;                                     /* one piece, of all shards */
    struct mr_sorted_changes changes[MR_STORE_SHARDS]; /* of a delta */
    struct piece *pieces;
    size_t piece_count;

    uint64_t chain;
    uint64_t flushed_bytes; /* handed to the staged file */
    uint64_t entries, deletes;
    uint32_t records;

    struct mr_mutex lock;
    struct mr_cond moved; /* turn or failed */
    size_t turn;          /* the piece that may go out */
    size_t failed;        /* the lowest piece that did; SIZE_MAX = none */
    struct mr_encoder *idle;
};

static enum mr_status no_memory(const struct output *output, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", output->store->name);
}

/* --------------------------------------------------------------- bytes out, by whose turn it is */

static enum mr_status write_out(struct output *output, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    struct mr_part_target *target = output->target;

    if (target->staged == NULL) {
        MR_TRY(target->make_dir(target->arg, err));
        MR_TRY(mr_staged_create(target->env, target->dir, target->file, &target->staged, err));
    }
    if (size_bytes > 0)
        MR_TRY(mr_staged_write(target->staged, data, size_bytes, err));
    output->flushed_bytes += size_bytes;
    return MR_OK;
}

static enum mr_status flush(struct output *output, struct mr_error *err)
{
    MR_TRY(write_out(output, output->target->bytes.data, output->target->bytes.size, err));
    mr_buf_clear(&output->target->bytes);
    return MR_OK;
}

/* Gathered while it may stay in the log; then, when it is much, written without a copy. */
static enum mr_status put_bytes(struct output *output, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    struct mr_part_target *target = output->target;
    uint64_t limit = target->staged == NULL ? target->inline_bytes_max : (uint64_t)WRITE_BYTES;

    if (size_bytes >= COPY_BYTES &&
        (target->staged != NULL || target->bytes.size + size_bytes > limit)) {
        MR_TRY(flush(output, err));
        return write_out(output, data, size_bytes, err);
    }
    mr_buf_add(&target->bytes, data, size_bytes);
    if (target->bytes.failed)
        return no_memory(output, err);
    return target->bytes.size > limit ? flush(output, err) : MR_OK;
}

/* Headers for the records of an encoder, which then go out. */
static enum mr_status put_records(struct output *output, struct mr_encoder *encoder,
                                  struct mr_error *err)
{
    uint8_t *data = (uint8_t *)encoder->bytes.data;
    size_t size = encoder->bytes.size, from = 0;

    for (size_t at = 0; at < size;) {
        struct mr_bytes bytes = mr_bytes_of(data + at, 4);
        size_t payload_bytes = mr_bytes_u32(&bytes);

        mr_record_frame(data + at, MR_RECORD_GROUP, PART_VERSION, output->chain, payload_bytes,
                        &output->chain);
        output->records++;
        at += MR_RECORD_HEADER_BYTES + payload_bytes;
        if (at - from >= WRITE_BYTES || at == size) {
            MR_TRY(put_bytes(output, data + from, at - from, err));
            from = at;
        }
    }
    mr_buf_clear(&encoder->bytes);
    return MR_OK;
}

static enum mr_status put_record(struct output *output, enum mr_record_kind kind,
                                 struct mr_buf *payload, struct mr_error *err)
{
    struct mr_buf record = MR_BUF_INIT;
    enum mr_status status;

    if (!payload->failed)
        mr_record_append(&record, kind, PART_VERSION, output->chain, payload->data, payload->size,
                         &output->chain);
    status = payload->failed || record.failed ? no_memory(output, err)
                                              : put_bytes(output, record.data, record.size, err);
    mr_buf_release(&record);
    mr_buf_release(payload);
    return status;
}

/* ---------------------------------------------------------------- turns */

/* False: a piece before it failed, so it will never be its turn. */
static bool await_turn(struct output *output, size_t piece)
{
    bool mine;

    mr_mutex_lock(&output->lock);
    while (output->turn != piece && output->failed > piece)
        mr_cond_wait(&output->moved, &output->lock);
    mine = output->turn == piece;
    mr_mutex_unlock(&output->lock);
    return mine;
}

static bool is_turn(struct output *output, size_t piece)
{
    bool mine;

    mr_mutex_lock(&output->lock);
    mine = output->turn == piece;
    mr_mutex_unlock(&output->lock);
    return mine;
}

/* The piece is out, or failed. */
static void end_turn(struct output *output, size_t piece, enum mr_status status)
{
    mr_mutex_lock(&output->lock);
    if (status != MR_OK)
        output->failed = MR_MIN(output->failed, piece);
    else if (output->turn == piece)
        output->turn++;
    mr_cond_broadcast(&output->moved);
    mr_mutex_unlock(&output->lock);
}

static struct mr_encoder *take_encoder(struct output *output)
{
    struct mr_encoder *encoder;

    mr_mutex_lock(&output->lock);
    encoder = output->idle;
    if (encoder != NULL)
        output->idle = encoder->next;
    mr_mutex_unlock(&output->lock);
    return encoder != NULL ? encoder : mr_alloc_zero(NULL, sizeof(*encoder));
}

static void give_encoder(struct output *output, struct mr_encoder *encoder)
{
    mr_mutex_lock(&output->lock);
    encoder->next = output->idle;
    output->idle = encoder;
    mr_mutex_unlock(&output->lock);
}

/* ---------------------------------------------------------------- pieces */

struct making {
    struct output *output;
    size_t piece;
    bool lost; /* a piece before it failed */
};

/* Between two records. */
static enum mr_status put_what_is_full(struct mr_encoder *encoder, void *arg, struct mr_error *err)
{
    struct making *making = arg;

    if (making->lost) {
        mr_buf_clear(&encoder->bytes);
        return MR_OK;
    }
    if (encoder->bytes.size < WRITE_BYTES ||
        (encoder->bytes.size < HOLD_BYTES && !is_turn(making->output, making->piece)))
        return MR_OK;
    making->lost = !await_turn(making->output, making->piece);
    return making->lost ? MR_OK : put_records(making->output, encoder, err);
}

static enum mr_status encode_changes(const struct output *output, unsigned shard, uint64_t from,
                                     uint64_t end, struct mr_encoder *encoder, struct mr_error *err)
{
    const struct mr_shard *changed = output->store->shards[shard];

    if (!changed->is_walk)
        return mr__shard_visit_changes(changed, &output->changes[shard], (size_t)from, (size_t)end,
                                       mr__encoder_add, encoder, err);
    for (size_t k = (size_t)from; k < end; k++) {
        mr__spill_tick();
        MR_TRY(mr__encoder_add_encoded(encoder, changed->changes[k].fragment,
                                       mr__walk_entry(changed, k), err));
    }
    return MR_OK;
}

static enum mr_status encode_piece(const struct output *output, const struct piece *piece,
                                   struct mr_encoder *encoder, struct mr_error *err)
{
    const struct mr_store *store = output->store;

    mr__encoder_begin(encoder, store->name);
    if (output->is_snapshot && output->is_whole)
        MR_TRY(mr__store_visit_all(store, mr__encoder_add, encoder, err));
    else if (output->is_snapshot)
        MR_TRY(mr__shard_visit_range(store->shards[piece->shard], piece->from, piece->end,
                                     mr__encoder_add, encoder, err));
    else if (!output->is_whole)
        MR_TRY(encode_changes(output, piece->shard, piece->from, piece->end, encoder, err));
    else
        for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
            if (output->changes[i].count > 0)
                MR_TRY(encode_changes(output, i, 0, output->changes[i].count, encoder, err));
        }
    return mr__encoder_end(encoder, err);
}

static enum mr_status make_piece(void *arg, size_t index, unsigned worker, struct mr_error *err)
{
    struct output *output = arg;
    struct mr_encoder *encoder = take_encoder(output);
    struct making making = {.output = output, .piece = index};
    enum mr_status status;

    MR_UNUSED(worker);
    if (encoder == NULL) {
        status = no_memory(output, err);
        goto done;
    }
    encoder->full = put_what_is_full;
    encoder->arg = &making;
    MR_TRY_GOTO(encode_piece(output, &output->pieces[index], encoder, err));
    if (!making.lost && await_turn(output, index)) {
        output->entries += encoder->entries;
        output->deletes += encoder->deletes;
        status = put_records(output, encoder, err);
    }
done:
    if (encoder != NULL)
        give_encoder(output, encoder);
    end_turn(output, index, status);
    return status;
}

static enum mr_status sort_shard(void *arg, size_t shard, unsigned worker, struct mr_error *err)
{
    struct output *output = arg;

    MR_UNUSED(worker);
    return mr__shard_sort_changes(output->store->shards[shard], &output->changes[shard], err);
}

static enum mr_status add_piece(struct output *output, struct piece piece, struct mr_error *err)
{
    /* room for 16, 32, 64 ... */
    if (output->piece_count % 16 == 0 && (output->piece_count & (output->piece_count - 1)) == 0) {
        size_t capacity = MR_MAX((size_t)16, output->piece_count * 2);
        struct piece *grown = mr_realloc(NULL, output->pieces, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(output, err);
        output->pieces = grown;
    }
    output->pieces[output->piece_count++] = piece;
    return MR_OK;
}

static enum mr_status cut_changes(struct output *output, unsigned shard, struct mr_error *err)
{
    uint64_t count = output->changes[shard].count;

    for (uint64_t from = 0; from < count; from += PIECE_ENTRIES) {
        struct piece piece = {shard, from, MR_MIN(count, from + PIECE_ENTRIES)};

        MR_TRY(add_piece(output, piece, err));
    }
    return MR_OK;
}

/* By halves of the range of fragments: keys are spread evenly. */
static enum mr_status cut_keys(struct output *output, unsigned shard, struct mr_error *err)
{
    uint64_t count = mr_store_shard_count(output->store, shard), span = 1u << (32 - MR_SHARD_BITS);
    uint64_t begin = shard * span, end = begin + span;

    for (unsigned halves = 0; count > PIECE_ENTRIES && halves < PIECES_LOG_MAX; halves++) {
        count /= 2;
        span /= 2;
    }
    for (uint64_t from = begin; from < end; from += span) {
        struct piece piece = {shard, from, from + span};

        MR_TRY(add_piece(output, piece, err));
    }
    return MR_OK;
}

static const struct mr_jobs the_caller;

static enum mr_status sort_changes(struct output *output, uint64_t *ret_count, struct mr_error *err)
{
    uint64_t change_count = 0, count = 0;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        change_count +=
            output->store->shards[i] != NULL ? output->store->shards[i]->change_count : 0;
    MR_TRY(mr_jobs_run(change_count > PIECE_ENTRIES ? output->jobs : &the_caller, sort_shard,
                       output, MR_STORE_SHARDS, err));
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        count += output->changes[i].count;
    *ret_count = count;
    return MR_OK;
}

/* Everything between head and foot. */
static enum mr_status put_entries(struct output *output, struct mr_error *err)
{
    uint64_t count = mr_store_count(output->store);

    if (!output->is_snapshot)
        MR_TRY(sort_changes(output, &count, err));
    output->is_whole = count <= PIECE_ENTRIES;
    if (output->is_whole)
        MR_TRY(add_piece(output, (struct piece){0}, err));
    for (unsigned shard = 0; shard < MR_STORE_SHARDS && !output->is_whole; shard++)
        MR_TRY(output->is_snapshot ? cut_keys(output, shard, err)
                                   : cut_changes(output, shard, err));
    return mr_jobs_run(output->is_whole ? &the_caller : output->jobs, make_piece, output,
                       output->piece_count, err);
}

/* ---------------------------------------------------------------- the whole part */

static enum mr_status put_head(struct output *output, const struct mr_state_part *part,
                               const uint8_t query_id[16], struct mr_error *err)
{
    const struct mr_store *store = output->store;
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u8(&payload, part->is_snapshot);
    mr_buf_add(&payload, query_id, 16);
    mr_buf_add_u64(&payload, part->version);
    mr_buf_add_u32(&payload, part->epoch);
    mr_buf_add_u32(&payload, part->attempt);
    mr_buf_add_u64(&payload, store->seed);
    mr_buf_add_block(&payload, store->name, strlen(store->name));
    mr_buf_add_block(&payload, store->kind, strlen(store->kind));
    mr_buf_add_block(&payload, store->key_schema, strlen(store->key_schema));
    mr_buf_add_block(&payload, store->value_schema, strlen(store->value_schema));
    return put_record(output, MR_RECORD_FILE_HEAD, &payload, err);
}

static enum mr_status put_foot(struct output *output, struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;

    mr_buf_add_u64(&payload, output->entries);
    mr_buf_add_u32(&payload, output->records);
    mr_buf_add_u64(&payload, mr_store_count(output->store));
    return put_record(output, MR_RECORD_FILE_FOOT, &payload, err);
}

void mr__part_target_release(struct mr_part_target *target)
{
    mr_staged_free(target->staged); /* removes the temporary unless it was published */
    mr_buf_release(&target->bytes);
    target->staged = NULL;
}

static void release_output(struct output *output)
{
    while (output->idle != NULL) {
        struct mr_encoder *encoder = output->idle;

        output->idle = encoder->next;
        mr_buf_release(&encoder->bytes);
        mr_free(encoder);
    }
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        mr__state_free(output->changes[i].items);
    mr_free(output->pieces);
    mr_cond_release(&output->moved);
    mr_mutex_release(&output->lock);
}

enum mr_status mr__part_write(const struct mr_store *store, struct mr_state_part *part,
                              const uint8_t query_id[16], const struct mr_jobs *jobs,
                              struct mr_part_target *target, struct mr_store_stats *ret_stats,
                              struct mr_error *err)
{
    struct output output = {.store = store,
                            .target = target,
                            .jobs = jobs,
                            .is_snapshot = part->is_snapshot,
                            .failed = SIZE_MAX};
    enum mr_status status;

    MR_ASSERT(target->staged == NULL && target->bytes.size == 0);
    mr_mutex_init(&output.lock);
    mr_cond_init(&output.moved);
    MR_TRY_GOTO(put_head(&output, part, query_id, err));
    MR_TRY_GOTO(put_entries(&output, err));
    MR_TRY_GOTO(put_foot(&output, err));
    if (target->staged != NULL) {
        MR_TRY_GOTO(flush(&output, err));
        MR_TRY_GOTO(mr_staged_seal(target->staged, err));
    }
    part->in_log = target->staged == NULL;
    part->size_bytes = output.flushed_bytes + target->bytes.size;
    part->sum = output.chain;
    part->key_count = mr_store_count(store);
    *ret_stats = (struct mr_store_stats){.updated = output.entries - output.deletes,
                                         .removed = output.deletes};
done:
    release_output(&output);
    return status;
}
