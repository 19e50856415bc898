/*
 * Any bytes as the entries of a state part, or as its head, in frames that are right; from memory
 * or from a file; whole, and by shards as several workers do it: both take the same parts, and give
 * the same store. An error with the place, or a store; a store that was loaded is written again and
 * loads to the same content. The first byte chooses.
 */
#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "state/internal.h"

#include <string.h>

#define DIR "/state/s"
#define PATH DIR "/part"

static const uint8_t query_id[16] = {1, 2, 3};
static char name[] = "s";
static struct mr_sim *sim;

static enum mr_status no_dir(void *arg, struct mr_error *err)
{
    MR_UNUSED(arg);
    return MR_FAIL(err, MR_INTERNAL, "a small part needs no directory");
}

static enum mr_status have_dir(void *arg, struct mr_error *err)
{
    MR_UNUSED(arg);
    return mr_durable_mkdirs(mr_sim_env(sim), DIR, err);
}

/* The same part as a file: where it is known to be small it is in memory otherwise. */
static bool write_file(const struct mr_store *store, struct mr_state_part *part)
{
    struct mr_part_target target = {
        .env = mr_sim_env(sim), .dir = DIR, .file = "part", .make_dir = have_dir};
    const struct mr_jobs alone = {0};
    struct mr_store_stats stats;
    struct mr_error err = {0};
    enum mr_status status = mr__part_write(store, part, query_id, &alone, &target, &stats, &err);

    if (status == MR_OK) {
        FUZZ_CHECK(!part->in_log && target.staged != NULL);
        status = mr_staged_publish(target.staged, &err);
    }
    mr__part_target_release(&target);
    if (status != MR_OK)
        FUZZ_REFUSED(&err, MR_NOMEM);
    return status == MR_OK;
}

static bool write_part(const struct mr_store *store, struct mr_state_part *part, struct mr_buf *out)
{
    struct mr_part_target target = {
        .env = mr_sim_env(sim), .inline_bytes_max = UINT64_MAX, .make_dir = no_dir};
    const struct mr_jobs alone = {0};
    struct mr_store_stats stats;
    struct mr_error err = {0};
    enum mr_status status = mr__part_write(store, part, query_id, &alone, &target, &stats, &err);

    if (status == MR_OK) {
        FUZZ_CHECK(part->in_log);
        mr_buf_release(out);
        *out = target.bytes;
        part->data = out->data;
    } else {
        FUZZ_REFUSED(&err, MR_NOMEM);
        mr__part_target_release(&target);
    }
    return status == MR_OK && !out->failed;
}

static enum mr_status load_part(const struct mr_state_part *part, struct mr_store *store)
{
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    struct mr_error err = {0};
    enum mr_status status;

    MR_TRY_GOTO(mr__part_open(mr_sim_env(sim), part, PATH, &reader, &err));
    MR_TRY_GOTO(mr__part_head(reader, query_id, &names, &err));
    status = mr__part_apply(reader, store, part->is_snapshot, &err);
done:
    if (status != MR_OK) {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_VERSION, MR_LIMIT);
        FUZZ_CHECK(strstr(err.text, PATH) != NULL || err.status == MR_LIMIT);
    }
    mr__part_close(reader);
    return status;
}

/* As load_shards.c does it, one shard after the other. */
static enum mr_status load_shards(const struct mr_state_part *part, struct mr_store *store)
{
    struct mr_part_reader *reader = NULL;
    struct mr_part_index index = {0};
    struct mr_part_names names;
    struct mr_error err = {0};
    uint64_t entries = 0, found = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr__part_open(mr_sim_env(sim), part, PATH, &reader, &err));
    MR_TRY_GOTO(mr__part_head(reader, query_id, &names, &err));
    store->seed = names.seed;
    MR_TRY_GOTO(mr__part_index(reader, &index, &err));
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        mr__part_close(reader);
        reader = NULL;
        MR_TRY_GOTO(mr__part_open(mr_sim_env(sim), part, PATH, &reader, &err));
        MR_TRY_GOTO(mr__part_apply_shard(reader, &index, store, shard, &found, &err));
        entries += found;
    }
    if (entries != index.entries || (part->is_snapshot && mr_store_count(store) != part->key_count))
        status = MR_FAIL(&err, MR_CORRUPT, "cannot read '%s': other entries", PATH);
done:
    if (status != MR_OK)
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_VERSION, MR_LIMIT);
    mr__part_index_release(&index);
    mr__part_close(reader);
    return status;
}

/* Whole into store, by shards into another: the same. */
static enum mr_status load_both(const struct mr_state_part *part, struct mr_store *store)
{
    struct mr_store *other = mr__store_new(name, "k", "a", "b", 7);
    struct mr_state_part again = {.store = name, .is_snapshot = true}, again_other = again;
    struct mr_buf bytes = MR_BUF_INIT, other_bytes = MR_BUF_INIT;
    enum mr_status status = load_part(part, store), other_status;

    if (other != NULL) {
        other_status = load_shards(part, other);
        FUZZ_CHECK((status == MR_OK) == (other_status == MR_OK));
        if (status == MR_OK && other_status == MR_OK) {
            mr__store_accept(store);
            mr__store_accept(other);
            if (write_part(store, &again, &bytes) && write_part(other, &again_other, &other_bytes))
                FUZZ_SAME(&bytes, &other_bytes);
        }
    }
    mr_buf_release(&bytes);
    mr_buf_release(&other_bytes);
    mr__store_free(other);
    return status;
}

/* The head of an empty part (or the input as one), one GROUP record with the input, and a foot that
 * claims what the input begins with. */
static void frame_input(const struct mr_store *store, struct mr_state_part *part,
                        const uint8_t *data, size_t size, struct mr_buf *out)
{
    struct mr_buf empty = MR_BUF_INIT, foot = MR_BUF_INIT;
    struct mr_record head;
    size_t head_bytes = 0;
    uint64_t chain = 0, group_chain = 0;

    if (!write_part(store, part, &empty))
        goto done;
    if (mr_record_read(empty.data, empty.size, 0, &head, &head_bytes) != MR_RECORD_OK)
        fuzz_fail(__FILE__, __LINE__, "a part begins with a head");
    if ((data[0] & 8) != 0) {
        mr_record_append(out, (data[0] & 16) != 0 ? MR_RECORD_GROUP : MR_RECORD_FILE_HEAD,
                         (data[0] & 32) != 0 ? 7 : 1, 0, data + 3, size - 3, &chain);
    } else {
        mr_buf_add(out, empty.data, head_bytes);
        chain = head.sum;
    }
    mr_record_append(out, MR_RECORD_GROUP, 1, chain, data + 3, size - 3, &group_chain);
    mr_buf_add_u64(&foot, data[1]);
    mr_buf_add_u32(&foot, 1);
    mr_buf_add_u64(&foot, data[2]);
    if (!foot.failed)
        mr_record_append(out, MR_RECORD_FILE_FOOT, 1, group_chain, foot.data, foot.size,
                         &part->sum);
    part->data = out->data;
    part->size_bytes = out->size;
    part->key_count = data[2];
done:
    mr_buf_release(&empty);
    mr_buf_release(&foot);
}

static void check_loaded(struct mr_state_part *part, struct mr_store *store)
{
    struct mr_store *again = mr__store_new(name, "k", "a", "b", 7);
    struct mr_buf first = MR_BUF_INIT, second = MR_BUF_INIT;

    mr__store_accept(store);
    part->is_snapshot = true;
    part->in_log = true;
    if (again != NULL && write_part(store, part, &first)) {
        if (load_both(part, again) != MR_OK)
            fuzz_fail(__FILE__, __LINE__, "what was written loads");
        else if (write_part(again, part, &second))
            FUZZ_SAME(&first, &second);
    }
    if (again != NULL && write_file(store, part) && load_both(part, again) != MR_OK)
        fuzz_fail(__FILE__, __LINE__, "what was written as a file loads");
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr__store_free(again);
}

/* Entries by operators instead: puts and deletes, as a delta on top of a snapshot. */
static void try_changes(const uint8_t *data, size_t size)
{
    struct mr_store *store = mr__store_new(name, "k", "a", "b", 7);
    struct mr_store *again = mr__store_new(name, "k", "a", "b", 7);
    struct mr_state_part snapshot = {.store = name, .is_snapshot = true, .in_log = true};
    struct mr_state_part delta = {.store = name, .version = 1, .in_log = true};
    struct mr_buf first = MR_BUF_INIT, second = MR_BUF_INIT;
    struct fuzz_input input = fuzz_input_of(data, size);
    bool good = store != NULL && again != NULL;

    for (int round = 0; round < 2 && good; round++) {
        for (int i = 0; i < 40 && !fuzz_is_empty(&input) && good; i++) {
            uint8_t what = fuzz_byte(&input), key = fuzz_byte(&input);
            char value[300];

            memset(value, key, sizeof value);
            if (what % 4 == 0)
                good = mr_store_delete(store, &key, 1, NULL) == MR_OK;
            else
                good = mr_store_put(store, &key, 1, value, what, NULL) == MR_OK;
        }
        good = good &&
               write_part(store, round == 0 ? &snapshot : &delta, round == 0 ? &first : &second);
        if (good)
            mr__store_accept(store);
    }
    if (good && load_part(&snapshot, again) == MR_OK && load_part(&delta, again) == MR_OK) {
        FUZZ_CHECK(mr_store_count(store) == mr_store_count(again));
        check_loaded(&snapshot, again);
    } else {
        FUZZ_CHECK(!good);
    }
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr__store_free(store);
    mr__store_free(again);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_store *store;
    struct mr_state_part part = {.store = name, .is_snapshot = true, .in_log = true};
    struct mr_buf bytes = MR_BUF_INIT;

    if (size < 5)
        return;
    sim = mr_sim_new(1);
    store = mr__store_new(name, "k", "a", "b", 7);
    if ((data[0] & 1) != 0) {
        try_changes(data + 1, size - 1);
    } else if (store != NULL) {
        part.is_snapshot = (data[0] & 2) == 0;
        frame_input(store, &part, data, size, &bytes);
        if (!bytes.failed && bytes.size > 0) {
            if ((data[0] & 4) != 0) {
                part.in_log = false;
                fuzz_put_file(sim, PATH, bytes.data, bytes.size - (data[0] == 255));
            }
            if (load_both(&part, store) == MR_OK)
                check_loaded(&part, store);
        }
    }
    mr_buf_release(&bytes);
    mr__store_free(store);
    mr_sim_free(sim);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
