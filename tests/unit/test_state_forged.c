/*
 * State parts whose every checksum is right and whose meaning is wrong: written by another query,
 * batch, attempt or operator, put in another's place, or by a program with a mistake (faults.md B6,
 * B7, B16). Damage that a checksum notices is in test_state_versions.c.
 */
#include "env/sim.h"
#include "state/internal.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <stdlib.h>

enum { KEYS = 3 };

/* What is wrong with the part. */
struct forgery {
    uint8_t head_kind, group_kind, version, snapshot_flag, query, tail_of_head, rest_of_head;
    bool other_version, other_epoch, other_attempt, other_store, other_snapshot;
    bool empty_section, wrong_group, groups_reversed;
    bool more_entries, more_records, more_keys_told, behind_foot, longer_last, no_head;
    bool long_key, long_value, foot_kind, each_a_record, other_values, longer_first;
};

static const uint8_t query_id[16] = {7, 7, 7};

static void add_text(struct mr_buf *out, const char *text)
{
    mr_buf_add_block(out, text, strlen(text));
}

static void add_record(struct mr_buf *out, unsigned kind, unsigned version, uint64_t *chain,
                       struct mr_buf *payload)
{
    mr_record_append(out, (enum mr_record_kind)kind, (uint8_t)version, *chain, payload->data,
                     payload->size, chain);
    mr_buf_release(payload);
}

static void add_head(struct mr_buf *out, const struct forgery *is, uint64_t *chain, uint64_t seed)
{
    struct mr_buf head = MR_BUF_INIT;
    uint8_t id[16];

    memcpy(id, query_id, sizeof(id));
    id[3] = is->query;
    mr_buf_add_u8(&head, is->snapshot_flag);
    mr_buf_add(&head, id, sizeof(id));
    mr_buf_add_u64(&head, is->other_version ? 6 : 5);
    mr_buf_add_u32(&head, is->other_epoch ? 3 : 2);
    mr_buf_add_u32(&head, is->other_attempt ? 1 : 0);
    mr_buf_add_u64(&head, seed);
    add_text(&head, is->other_store ? "b" : "a");
    add_text(&head, "kind");
    add_text(&head, "key");
    add_text(&head, "value");
    if (is->tail_of_head)
        mr_buf_add_u8(&head, 1);
    add_record(out, is->head_kind ? MR_RECORD_GROUP : MR_RECORD_FILE_HEAD, 1, chain, &head);
}

static void add_section(struct mr_buf *groups, const struct mr_store *store, unsigned k,
                        const struct forgery *is)
{
    struct mr_buf entry = MR_BUF_INIT;
    char key[16];
    size_t key_bytes = (size_t)snprintf(key, sizeof(key), "key-%u", k);
    unsigned group = mr_key_group(mr_store_hash(store, key, key_bytes));

    mr_buf_add_varint(&entry, (is->long_key ? 60 : key_bytes) << 1);
    mr_buf_add(&entry, key, key_bytes);
    if (is->long_value)
        mr_buf_add_varint(&entry, 50);
    else
        add_text(&entry, is->other_values ? "other" : "value");
    mr_buf_add_u8(groups, (uint8_t)(is->wrong_group ? 255 - group : group));
    mr_buf_add_u32(groups, (uint32_t)entry.size);
    mr_buf_add(groups, entry.data, entry.size);
    mr_buf_release(&entry);
}

static const struct mr_store *alike; /* keys are in the same group there, when it is set */

/* Key groups ascend as the keys are chosen. */
static void keys_in_order(const struct mr_store *store, unsigned keys[KEYS])
{
    unsigned found = 0, last = 0;

    for (unsigned k = 0; found < KEYS; k++) {
        char key[16];
        size_t size = (size_t)snprintf(key, sizeof(key), "key-%u", k);
        unsigned group = mr_key_group(mr_store_hash(store, key, size));

        CHECK(k < 100000);
        if (alike != NULL && mr_key_group(mr_store_hash(alike, key, size)) != group)
            continue;
        if (group < last || group > 60 * (found + 1))
            continue;
        keys[found++] = k;
        last = group + 1;
    }
}

static void forge(struct mr_buf *out, const struct mr_store *store, uint64_t seed,
                  const struct forgery *is, struct mr_state_part *part)
{
    struct mr_buf groups = MR_BUF_INIT, foot = MR_BUF_INIT;
    uint64_t chain = 0;
    unsigned keys[KEYS];
    size_t first;

    keys_in_order(store, keys);
    if (!is->no_head)
        add_head(out, is, &chain, seed);
    first = out->size + 1;
    for (unsigned i = 0; i < KEYS; i++) {
        add_section(&groups, store, keys[is->groups_reversed ? KEYS - 1 - i : i], is);
        if (is->each_a_record && i + 1 < KEYS)
            add_record(out, MR_RECORD_GROUP, 1, &chain, &groups);
    }
    if (is->empty_section) {
        mr_buf_add_u8(&groups, 255);
        mr_buf_add_u32(&groups, 0);
    }
    add_record(out, is->group_kind ? MR_RECORD_BLOCK : MR_RECORD_GROUP, is->version ? 2 : 1, &chain,
               &groups);
    mr_buf_add_u64(&foot, KEYS + is->more_entries);
    mr_buf_add_u32(&foot, (is->each_a_record ? KEYS : 1u) + is->more_records);
    mr_buf_add_u64(&foot, KEYS + is->more_keys_told);
    add_record(out, is->foot_kind ? MR_RECORD_BLOCK : MR_RECORD_FILE_FOOT, 1, &chain, &foot);
    if (is->behind_foot)
        mr_buf_add_u8(out, 9);
    if (is->longer_first) /* the length field of the record behind the head */
        out->data[first] = 90;
    if (is->longer_last) /* the length field of the foot: more than there is */
        out->data[out->size - 20 - MR_RECORD_HEADER_BYTES] = 90;
    CHECK(!out->failed);
    *part = (struct mr_state_part){.store = (char *)(uintptr_t) "a",
                                   .version = 5,
                                   .epoch = 2,
                                   .is_snapshot = !is->other_snapshot,
                                   .in_log = true,
                                   .size_bytes = out->size,
                                   .sum = chain,
                                   .key_count = KEYS + is->more_keys_told};
}

/* Reads it as a load would, from memory of exactly its size. */
static enum mr_status read_part(struct mr_store *store, struct mr_state_part *part,
                                const struct mr_buf *bytes, struct mr_error *err)
{
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    enum mr_status status;

    part->data = malloc(bytes->size);
    CHECK_NOT_NULL(part->data);
    memcpy(part->data, bytes->data, bytes->size);
    status = mr__part_open(mr_env_posix(), part, "part", &reader, err);
    if (status == MR_OK)
        status = mr__part_head(reader, query_id, &names, err);
    if (status == MR_OK)
        status = mr__part_apply(reader, store, true, err);
    mr__part_close(reader);
    free(part->data);
    part->data = NULL;
    return status;
}

/* ---------------------------------------------------------------- by shards */

static enum mr_status run_here(void *arg, mr_job_fn fn, void *fn_arg, size_t count,
                               struct mr_error *err)
{
    (void)arg;
    for (size_t i = 0; i < count; i++)
        MR_TRY(fn(fn_arg, i, 0, err));
    return MR_OK;
}

static struct mr_state *new_state(struct mr_env *env)
{
    struct mr_state_config config = {.jobs = {run_here, NULL}};
    struct mr_state *state = NULL;
    struct mr_error err = {0};

    memcpy(config.query_id, query_id, sizeof(query_id));
    CHECK_OK(mr__state_new(env, "/state", "/log", &config, &state, &err), &err);
    return state;
}

/* Reads parts of one store, from memory of exactly their sizes, as workers do. */
static enum mr_status read_by_shards(struct mr_state_part *parts, const struct mr_buf *bytes,
                                     uint32_t count, struct mr_error *err)
{
    struct mr_state *state = new_state(mr_env_posix());
    enum mr_status status;
    bool done = false;

    for (uint32_t i = 0; i < count; i++) {
        parts[i].data = malloc(bytes[i].size);
        CHECK_NOT_NULL(parts[i].data);
        memcpy(parts[i].data, bytes[i].data, bytes[i].size);
    }
    status = mr__load_by_shards(state, parts, count, "a", 0, &done, err);
    CHECK(done);
    for (uint32_t i = 0; i < count; i++) {
        free(parts[i].data);
        parts[i].data = NULL;
    }
    mr_state_close(state);
    return status;
}

/* Part by part and by shards have the same opinion; the words are the former's. */
static void check_forged(const struct forgery *is, enum mr_status wanted, const char *reason)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_state_part part;
    struct mr_error err = {0};

    CHECK_NOT_NULL(store);
    forge(&bytes, store, 11, is, &part);
    if (wanted == MR_OK)
        CHECK_OK(read_part(store, &part, &bytes, &err), &err);
    else
        CHECK_FAILS(read_part(store, &part, &bytes, &err), &err, wanted, reason);
    mr_error_clear(&err);
    CHECK_STATUS(read_by_shards(&part, &bytes, 1, &err), wanted);
    mr_buf_release(&bytes);
    mr__store_free(store);
}

TEST(a_part_that_is_made_like_ours_is_read)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .each_a_record = true}, MR_OK, NULL);
    check_forged(&(struct forgery){.snapshot_flag = 1}, MR_OK, NULL);
}

TEST(B6_B7_a_part_of_another_query_batch_attempt_or_operator_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .query = 1}, MR_CORRUPT, "another query");
    check_forged(&(struct forgery){.snapshot_flag = 1, .other_version = true}, MR_CORRUPT,
                 "another batch");
    check_forged(&(struct forgery){.snapshot_flag = 1, .other_epoch = true}, MR_CORRUPT,
                 "another batch");
    check_forged(&(struct forgery){.snapshot_flag = 1, .other_attempt = true}, MR_CORRUPT,
                 "another batch");
    check_forged(&(struct forgery){.snapshot_flag = 1, .other_snapshot = true}, MR_CORRUPT,
                 "another batch");
    check_forged(&(struct forgery){.snapshot_flag = 1, .other_store = true}, MR_CORRUPT,
                 "another operator");
}

TEST(B6_a_head_or_a_record_of_another_kind_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .no_head = true}, MR_CORRUPT,
                 "does not begin with a head");
    check_forged(&(struct forgery){.snapshot_flag = 1, .head_kind = 1}, MR_CORRUPT,
                 "does not begin with a head");
    check_forged(&(struct forgery){.snapshot_flag = 1, .tail_of_head = 1}, MR_CORRUPT,
                 "head does not decode");
    check_forged(&(struct forgery){.snapshot_flag = 2}, MR_CORRUPT, "head does not decode");
    check_forged(&(struct forgery){.snapshot_flag = 1, .group_kind = 1}, MR_CORRUPT,
                 "another kind");
    check_forged(&(struct forgery){.snapshot_flag = 1, .version = 2}, MR_VERSION, "version 2");
}

TEST(B6_sections_out_of_order_empty_or_with_foreign_keys_are_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .groups_reversed = true}, MR_CORRUPT,
                 "key group");
    check_forged(&(struct forgery){.snapshot_flag = 1, .empty_section = true}, MR_CORRUPT,
                 "key group");
    check_forged(&(struct forgery){.snapshot_flag = 1, .wrong_group = true}, MR_CORRUPT,
                 "wrong key group");
}

TEST(B16_an_entry_that_leads_out_of_its_section_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .long_key = true}, MR_CORRUPT,
                 "an entry before it");
    check_forged(&(struct forgery){.snapshot_flag = 1, .long_value = true}, MR_CORRUPT,
                 "an entry before it");
}

TEST(B6_a_foot_of_another_kind_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .foot_kind = true}, MR_CORRUPT,
                 "another kind");
}

TEST(B6_a_foot_that_counts_otherwise_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .more_entries = true}, MR_CORRUPT,
                 "counts other entries");
    check_forged(&(struct forgery){.snapshot_flag = 1, .more_records = true}, MR_CORRUPT,
                 "counts other entries");
    check_forged(&(struct forgery){.snapshot_flag = 1, .more_keys_told = true}, MR_CORRUPT,
                 "does not fit the parts before it");
    check_forged(&(struct forgery){.snapshot_flag = 1, .behind_foot = true}, MR_CORRUPT,
                 "bytes follow its foot");
}

TEST(B16_a_length_that_leads_out_of_the_part_is_refused)
{
    check_forged(&(struct forgery){.snapshot_flag = 1, .longer_last = true}, MR_CORRUPT, NULL);
    check_forged(&(struct forgery){.snapshot_flag = 1, .longer_first = true}, MR_CORRUPT, NULL);
}

TEST(B7_a_part_that_its_commit_does_not_name_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_state_part part;
    struct mr_error err = {0};

    forge(&bytes, store, 11, &(struct forgery){.snapshot_flag = 1}, &part);
    part.sum ^= 1;
    CHECK_FAILS(read_part(store, &part, &bytes, &err), &err, MR_CORRUPT, "its commit names");
    part.sum ^= 1;
    part.key_count++;
    CHECK_FAILS(read_part(store, &part, &bytes, &err), &err, MR_CORRUPT, "its commit names");
    mr_buf_release(&bytes);
    mr__store_free(store);
}

TEST(a_delta_whose_keys_were_hashed_otherwise_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_store *other = mr__store_new("a", "kind", "key", "value", 12);
    struct mr_buf snapshot = MR_BUF_INIT, delta = MR_BUF_INIT;
    struct forgery is = {.snapshot_flag = 1};
    struct mr_state_part part;
    struct mr_error err = {0};

    forge(&snapshot, store, 11, &is, &part);
    CHECK_OK(read_part(store, &part, &snapshot, &err), &err);
    is = (struct forgery){.other_snapshot = true};
    forge(&delta, other, 12, &is, &part);
    CHECK_FAILS(read_part(store, &part, &delta, &err), &err, MR_CORRUPT, "another seed");
    mr_buf_release(&snapshot);
    mr_buf_release(&delta);
    mr__store_free(store);
    mr__store_free(other);
}

TEST(a_part_that_left_the_log_is_refused)
{
    struct mr_state_part part = {
        .store = (char *)(uintptr_t) "a", .in_log = true, .size_bytes = 99};
    struct mr_part_reader *reader = NULL;
    struct mr_error err = {0};

    CHECK_FAILS(mr__part_open(mr_env_posix(), &part, "part", &reader, &err), &err, MR_CORRUPT,
                "not in the log any more");
}

/* Cut in memory of exactly its size: the sanitizer sees a reader that goes past it. */
TEST(B2_a_part_in_memory_that_is_cut_anywhere_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_state_part part;
    size_t size;

    forge(&bytes, store, 11, &(struct forgery){.snapshot_flag = 1}, &part);
    size = bytes.size;
    for (bytes.size = 1; bytes.size < size; bytes.size++) {
        struct mr_error err = {0};

        part.size_bytes = bytes.size;
        CHECK_FAILS(read_part(store, &part, &bytes, &err), &err, MR_CORRUPT, NULL);
        mr_error_clear(&err);
        CHECK_FAILS(read_by_shards(&part, &bytes, 1, &err), &err, MR_CORRUPT, NULL);
    }
    mr_buf_release(&bytes);
    mr__store_free(store);
}

/* Of all keys, those whose group is the same with both seeds: no other check sees the change. */
static void forge_other_seed(struct mr_buf bytes[2], struct mr_state_part parts[2])
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_store *other = mr__store_new("a", "kind", "key", "value", 12);
    struct forgery is = {.snapshot_flag = 1};

    CHECK(store != NULL && other != NULL);
    alike = other;
    forge(&bytes[0], store, 11, &is, &parts[0]);
    is = (struct forgery){.other_snapshot = true};
    alike = store;
    forge(&bytes[1], other, 12, &is, &parts[1]);
    alike = NULL;
    mr__store_free(store);
    mr__store_free(other);
}

TEST(parts_that_were_hashed_otherwise_are_refused_by_workers_too)
{
    struct mr_buf bytes[2] = {MR_BUF_INIT, MR_BUF_INIT};
    struct mr_state_part parts[2];
    struct mr_error err = {0};

    forge_other_seed(bytes, parts);
    CHECK_FAILS(read_by_shards(parts, bytes, 2, &err), &err, MR_CORRUPT, "another seed");
    mr_buf_release(&bytes[0]);
    mr_buf_release(&bytes[1]);
}

static void put_part(struct mr_env *env, const struct mr_buf *bytes)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(
        mr_env_open(env, "/part", MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, &err),
        &err);
    CHECK_OK(mr_env_pwrite(env, file, bytes->data, bytes->size, 0, &err), &err);
    mr_env_close(env, file);
}

/* Opens "/part" and reads as far as its first record. */
static struct mr_part_reader *open_to_records(struct mr_env *env, const struct mr_state_part *part)
{
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    struct mr_error err = {0};

    CHECK_OK(mr__part_open(env, part, "/part", &reader, &err), &err);
    CHECK_OK(mr__part_head(reader, query_id, &names, &err), &err);
    return reader;
}

TEST(a_part_that_becomes_another_one_between_the_index_and_the_workers_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct forgery is = {.snapshot_flag = 1, .each_a_record = true};
    struct mr_buf bytes = MR_BUF_INIT, other = MR_BUF_INIT;
    struct mr_part_index index = {0};
    struct mr_part_reader *reader;
    struct mr_state_part part, ignored;
    struct mr_error err = {0};
    unsigned refused = 0;

    forge(&bytes, store, 11, &is, &part);
    is.other_values = true;
    forge(&other, store, 11, &is, &ignored);
    part.in_log = false;
    put_part(env, &bytes);
    reader = open_to_records(env, &part);
    CHECK_OK(mr__part_index(reader, &index, &err), &err);
    CHECK_EQ_UINT(index.count, KEYS);
    mr__part_close(reader);
    put_part(env, &other);
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        uint64_t entries = 0;
        enum mr_status status;

        reader = open_to_records(env, &part);
        status = mr__part_apply_shard(reader, &index, store, shard, &entries, &err);
        refused += status == MR_CORRUPT && strstr(err.text, "changed while it was read") != NULL;
        mr__part_close(reader);
    }
    CHECK(refused > 0);
    mr__part_index_release(&index);
    mr_buf_release(&bytes);
    mr_buf_release(&other);
    mr__store_free(store);
    mr_sim_free(sim);
}

TEST(a_file_that_shrinks_while_it_is_indexed_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct forgery is = {.snapshot_flag = 1, .each_a_record = true};
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_part_index index = {0};
    struct mr_part_reader *reader;
    struct mr_state_part part;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    forge(&bytes, store, 11, &is, &part);
    part.in_log = false;
    put_part(env, &bytes);
    reader = open_to_records(env, &part);
    CHECK_OK(mr_env_open(env, "/part", MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_truncate(env, file, bytes.size - 60, &err), &err);
    CHECK_FAILS(mr__part_index(reader, &index, &err), &err, MR_CORRUPT, "cut short");
    mr_env_close(env, file);
    mr__part_close(reader);
    mr__part_index_release(&index);
    mr_buf_release(&bytes);
    mr__store_free(store);
    mr_sim_free(sim);
}

TEST(a_file_that_shrinks_while_it_is_read_is_refused)
{
    struct mr_store *store = mr__store_new("a", "kind", "key", "value", 11);
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_state_part part;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    forge(&bytes, store, 11, &(struct forgery){.snapshot_flag = 1}, &part);
    part.in_log = false;
    CHECK_OK(mr_env_open(env, "/part", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, bytes.data, bytes.size, 0, &err), &err);
    CHECK_OK(mr__part_open(env, &part, "/part", &reader, &err), &err);
    CHECK_OK(mr_env_truncate(env, file, 10, &err), &err);
    CHECK_FAILS(mr__part_head(reader, query_id, &names, &err), &err, MR_CORRUPT, "cut short");
    mr__part_close(reader);
    mr_env_close(env, file);
    mr_buf_release(&bytes);
    mr__store_free(store);
    mr_sim_free(sim);
}
