/*
 * Stores whose operator changed: converted, emptied or dropped in memory, written with the first
 * commit; versions of older batches; copies that end with an older batch.
 */
#include "base/alloc.h"
#include "env/sim.h"
#include "state/internal.h"
#include "state/view.h"
#include "support/test.h"
#include "wal/checkpoint.h"

#include <stdlib.h>

#define DIR "/cp"

struct forms {
    const char *key;
    const char *value;
};
static const struct forms old_form = {"n BIGINT", "total BIGINT"};
static const struct forms new_form = {"n BIGINT", "total BIGINT, best BIGINT"};

struct parts {
    struct mr_env *env;
    struct mr_checkpoint checkpoint;
    struct mr_batch_log *log;
    struct mr_recovered recovered;
    struct mr_state *state;
    struct mr_store *store;
    uint64_t next_batch;
    bool planned; /* next_batch is in the log */
    enum mr_change_class verdict;
    bool converts;
    char asked_value[80]; /* old value schema and keys of the last change */
    uint64_t asked_keys;
};

struct options {
    uint64_t inline_bytes_max;
    uint32_t snapshot_every;
    uint32_t retain;
};
static const struct options in_log = {.inline_bytes_max = 1 << 20, .retain = 100};
static const struct options in_files = {.inline_bytes_max = 1, .retain = 100};

/* Values get a second number: ten times the first. */
static enum mr_status widen(void *arg, struct mr_slice key, struct mr_slice value,
                            struct mr_buf *ret_key, struct mr_buf *ret_value, struct mr_error *err)
{
    uint64_t number;

    (void)arg;
    (void)err;
    memcpy(&number, value.data, sizeof(number));
    number *= 10;
    mr_buf_add(ret_key, key.data, key.size_bytes);
    mr_buf_add(ret_value, value.data, value.size_bytes);
    mr_buf_add(ret_value, &number, sizeof(number));
    return MR_OK;
}

static enum mr_status judge(void *arg, const struct mr_store_change *change,
                            struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct parts *parts = arg;

    (void)err;
    snprintf(parts->asked_value, sizeof(parts->asked_value), "%s", change->old_value_schema);
    parts->asked_keys = change->key_count;
    ret_adaption->change = parts->verdict;
    ret_adaption->convert = parts->converts ? widen : NULL;
    return MR_OK;
}

static enum mr_status try_open(struct mr_env *env, const struct options *options,
                               struct parts *parts, struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 1 << 20,
                                             .retain_batches = options->retain};
    struct mr_state_config config = {.inline_bytes_max = options->inline_bytes_max,
                                     .snapshot_min_bytes = 1 << 20,
                                     .snapshot_ratio = 1.0,
                                     .snapshot_every = options->snapshot_every,
                                     .retain_batches = options->retain};

    *parts = (struct parts){.env = env};
    MR_TRY(mr_checkpoint_open(env, DIR, &parts->checkpoint, err));
    memcpy(log_config.query_id, parts->checkpoint.query_id, 16);
    memcpy(config.query_id, parts->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(env, parts->checkpoint.log_dir, &log_config, &parts->log,
                             &parts->recovered, err));
    config.epoch = parts->recovered.epoch;
    MR_TRY(mr_state_open(env, parts->checkpoint.state_dir, parts->checkpoint.log_dir, &config,
                         &parts->recovered, &parts->state, err));
    parts->next_batch = parts->recovered.has_commit ? parts->recovered.last_commit.batch_id + 1 : 0;
    parts->planned =
        parts->recovered.has_plan && parts->recovered.last_plan.batch_id == parts->next_batch;
    return MR_OK;
}

static void claim(struct parts *parts, const struct forms *forms, enum mr_change_class verdict,
                  bool converts)
{
    struct mr_error err = {0};

    parts->verdict = verdict;
    parts->converts = converts;
    mr_state_set_judge(parts->state, judge, parts);
    CHECK_OK(
        mr_state_store(parts->state, "sums", "test", forms->key, forms->value, &parts->store, &err),
        &err);
}

static void close_parts(struct parts *parts)
{
    mr_state_close(parts->state);
    mr_batch_log_close(parts->log);
    mr_recovered_release(&parts->recovered);
    mr_checkpoint_release(&parts->checkpoint);
}

static void open_as(struct mr_env *env, const struct options *options, struct parts *parts,
                    const struct forms *forms, enum mr_change_class verdict, bool converts)
{
    struct mr_error err = {0};

    CHECK_OK(try_open(env, options, parts, &err), &err);
    claim(parts, forms, verdict, converts);
}

static void plan(struct parts *parts)
{
    struct mr_plan batch = {.batch_id = parts->next_batch};
    struct mr_error err = {0};

    if (parts->planned)
        return;
    parts->planned = true;
    CHECK_OK(mr_batch_log_plan(parts->log, &batch, &err), &err);
    CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
}

static void commit(struct parts *parts)
{
    struct mr_commit one = {.batch_id = parts->next_batch};
    struct mr_error err = {0};
    uint64_t needed_from;

    plan(parts);
    CHECK_OK(mr_state_prepare(parts->state, one.batch_id, 0, parts->log, &one, &err), &err);
    CHECK_OK(mr_batch_log_commit(parts->log, &one, &err), &err);
    mr_state_applied(parts->state, one.batch_id);
    CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
    CHECK_OK(mr_state_purge(parts->state, one.batch_id, &needed_from, &err), &err);
    CHECK_OK(mr_batch_log_purge(parts->log, needed_from, &err), &err);
    mr_commit_release(&one);
    parts->next_batch++;
    parts->planned = false;
}

static void put(struct mr_store *store, uint64_t key, const uint64_t *values, size_t count)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(store, &key, sizeof(key), values, count * sizeof(*values), &err), &err);
}

static void put_old(struct parts *parts, uint64_t key, uint64_t value)
{
    put(parts->store, key, &value, 1);
}

static bool has(struct mr_store *store, uint64_t key, const uint64_t *values, size_t count)
{
    const char *value = NULL;
    size_t size = 0;

    return mr_store_get(store, &key, sizeof(key), &value, &size) &&
           size == count * sizeof(*values) && memcmp(value, values, size) == 0;
}

#define HAS_OLD(store, key, a) has(store, key, (const uint64_t[]){a}, 1)
#define HAS_NEW(store, key, a, b) has(store, key, (const uint64_t[]){a, b}, 2)

/* Three batches of the old form: 1 -> 5, 2 -> 6, 1 -> 7. */
static struct mr_sim *make_old(const struct options *options)
{
    struct mr_sim *sim = mr_sim_new(33);
    struct parts parts;

    open_as(mr_sim_env(sim), options, &parts, &old_form, MR_CHANGE_SAME, false);
    put_old(&parts, 1, 5);
    commit(&parts);
    put_old(&parts, 2, 6);
    commit(&parts);
    put_old(&parts, 1, 7);
    commit(&parts);
    close_parts(&parts);
    return sim;
}

/* ---- converting ---- */

TEST(entries_are_converted_once_and_stay_so)
{
    static const struct options *const each[] = {&in_log, &in_files};

    for (size_t i = 0; i < 2; i++) {
        struct mr_sim *sim = make_old(each[i]);
        struct parts parts;

        open_as(mr_sim_env(sim), each[i], &parts, &new_form, MR_CHANGE_EXTEND, true);
        CHECK_EQ_STR(parts.asked_value, "total BIGINT");
        CHECK_EQ_UINT(parts.asked_keys, 2);
        CHECK(HAS_NEW(parts.store, 1, 7, 70) && HAS_NEW(parts.store, 2, 6, 60));
        put(parts.store, 3, (const uint64_t[]){8, 9}, 2);
        commit(&parts);
        close_parts(&parts);
        open_as(mr_sim_env(sim), each[i], &parts, &new_form, MR_CHANGE_SAME, false);
        CHECK_EQ_STR(parts.asked_value, new_form.value);
        CHECK(HAS_NEW(parts.store, 1, 7, 70) && HAS_NEW(parts.store, 3, 8, 9));
        CHECK_EQ_UINT(mr_store_count(parts.store), 3);
        close_parts(&parts);
        mr_sim_free(sim);
    }
}

TEST(a_change_without_memory_leaves_the_checkpoint_as_it_was)
{
    struct mr_sim *sim = make_old(&in_log);
    bool done = false;

    for (uint64_t nth = 1; !done; nth++) {
        struct mr_error err = {0};
        struct parts parts;

        CHECK_OK(try_open(mr_sim_env(sim), &in_log, &parts, &err), &err);
        parts.verdict = MR_CHANGE_EXTEND;
        parts.converts = true;
        mr_state_set_judge(parts.state, judge, &parts);
        mr_alloc_fail_at(nth, false);
        done = mr_state_store(parts.state, "sums", "test", new_form.key, new_form.value,
                              &parts.store, &err) == MR_OK;
        mr_alloc_fail_at(0, false);
        if (!done)
            CHECK_EQ_INT(err.status, MR_NOMEM);
        close_parts(&parts);
        CHECK(nth < 1000);
    }
    mr_sim_free(sim);
}

TEST(a_batch_that_fails_rolls_back_to_the_converted_entries)
{
    struct mr_sim *sim = make_old(&in_log);
    struct mr_commit attempt = {0};
    struct mr_error err = {0};
    struct parts parts;

    open_as(mr_sim_env(sim), &in_log, &parts, &new_form, MR_CHANGE_EXTEND, true);
    plan(&parts);
    put(parts.store, 1, (const uint64_t[]){0, 0}, 2);
    attempt.batch_id = parts.next_batch;
    CHECK_OK(mr_state_prepare(parts.state, attempt.batch_id, 0, parts.log, &attempt, &err), &err);
    mr_state_rollback(parts.state);
    mr_batch_log_discard_deltas(parts.log);
    mr_commit_release(&attempt);
    CHECK(HAS_NEW(parts.store, 1, 7, 70));
    commit(&parts);
    close_parts(&parts);
    open_as(mr_sim_env(sim), &in_log, &parts, &new_form, MR_CHANGE_SAME, false);
    CHECK(HAS_NEW(parts.store, 1, 7, 70) && HAS_NEW(parts.store, 2, 6, 60));
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(without_a_commit_the_old_form_is_what_the_checkpoint_has)
{
    struct mr_sim *sim = make_old(&in_log);
    struct parts parts;

    open_as(mr_sim_env(sim), &in_log, &parts, &new_form, MR_CHANGE_EXTEND, true);
    plan(&parts);
    put(parts.store, 1, (const uint64_t[]){0, 0}, 2);
    close_parts(&parts);
    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK(HAS_OLD(parts.store, 1, 7) && HAS_OLD(parts.store, 2, 6));
    close_parts(&parts);
    mr_sim_free(sim);
}

/* ---- durable ---- */

TEST(A4_a_commit_is_behind_its_files_and_their_directory)
{
    struct mr_sim *sim = make_old(&in_files);
    struct mr_sim *after = mr_sim_power_loss(sim, mr_sim_op_count(sim));
    struct parts parts;

    open_as(mr_sim_env(after), &in_files, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK(HAS_OLD(parts.store, 1, 7) && HAS_OLD(parts.store, 2, 6));
    close_parts(&parts);
    mr_sim_free(after);
    mr_sim_free(sim);
}

/* ---- emptied, dropped ---- */

TEST(a_rebuilt_store_begins_empty_and_stays_so)
{
    struct mr_sim *sim = make_old(&in_log);
    struct parts parts;

    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_REBUILD, false);
    CHECK_EQ_UINT(mr_store_count(parts.store), 0);
    put_old(&parts, 9, 1);
    commit(&parts);
    close_parts(&parts);
    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK_EQ_UINT(mr_store_count(parts.store), 1);
    CHECK(HAS_OLD(parts.store, 9, 1));
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(a_dropped_store_is_seen_by_nobody_and_its_name_is_free)
{
    struct mr_sim *sim = make_old(&in_log);
    struct mr_state *reader = NULL;
    struct mr_store_info info;
    struct mr_error err = {0};
    struct parts parts;

    CHECK_OK(try_open(mr_sim_env(sim), &in_log, &parts, &err), &err);
    CHECK_EQ_STR(mr_state_unclaimed(parts.state, 0), "sums");
    CHECK_OK(mr_state_drop(parts.state, "sums", &err), &err);
    CHECK_NULL(mr_state_unclaimed(parts.state, 0));
    commit(&parts);
    close_parts(&parts);
    CHECK_OK(mr_state_open_reader(mr_sim_env(sim), DIR, &reader, &err), &err);
    CHECK(!mr_state_info(reader, 0, &info));
    mr_state_close(reader);
    CHECK_OK(try_open(mr_sim_env(sim), &in_log, &parts, &err), &err);
    CHECK_NULL(mr_state_unclaimed(parts.state, 0));
    CHECK_OK(mr_state_store(parts.state, "sums", "another", "", "", &parts.store, &err), &err);
    CHECK_EQ_UINT(mr_store_count(parts.store), 0);
    put_old(&parts, 4, 4);
    commit(&parts);
    close_parts(&parts);
    CHECK_OK(try_open(mr_sim_env(sim), &in_log, &parts, &err), &err);
    CHECK_OK(mr_state_store(parts.state, "sums", "another", "", "", &parts.store, &err), &err);
    CHECK(HAS_OLD(parts.store, 4, 4));
    close_parts(&parts);
    mr_sim_free(sim);
}

/* ---- damage ---- */

struct named {
    char name[64];
    const char *end;
};

static bool take_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct named *named = arg;
    size_t size = strlen(name), end = strlen(named->end);

    (void)kind;
    if (size >= end && strcmp(name + size - end, named->end) == 0)
        snprintf(named->name, sizeof(named->name), "%s", name);
    return true;
}

static void damage(struct mr_env *env, const char *end)
{
    struct named named = {.end = end};
    struct mr_file *file = NULL;
    struct mr_error err = {0};
    char path[128];

    CHECK_OK(mr_env_list(env, DIR "/state/sums", take_name, &named, &err), &err);
    snprintf(path, sizeof(path), DIR "/state/sums/%s", named.name);
    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, "damage", 6, 60, &err), &err);
    mr_env_close(env, file);
}

TEST(damage_to_the_first_snapshot_of_a_new_form_never_brings_the_old_one_back)
{
    for (int changes = 0; changes < 2; changes++) {
        struct mr_sim *sim = make_old(&in_files);
        struct mr_error err = {0};
        struct parts parts;

        /* With the same texts, too: a store that was emptied must not be full again. */
        if (changes == 0)
            open_as(mr_sim_env(sim), &in_files, &parts, &old_form, MR_CHANGE_REBUILD, false);
        else
            open_as(mr_sim_env(sim), &in_files, &parts, &new_form, MR_CHANGE_EXTEND, true);
        put(parts.store, 9, (const uint64_t[]){1, 2}, changes == 0 ? 1 : 2);
        commit(&parts);
        put(parts.store, 8, (const uint64_t[]){1, 2}, changes == 0 ? 1 : 2);
        commit(&parts);
        close_parts(&parts);
        damage(mr_sim_env(sim), ".snap");
        CHECK_STATUS(try_open(mr_sim_env(sim), &in_files, &parts, &err), MR_CORRUPT);
        close_parts(&parts);
        mr_sim_free(sim);
    }
}

/* Neither the forms nor the numbers of keys tell the old entries from the new ones. */
TEST(damage_to_the_first_snapshot_of_an_emptied_store_never_brings_its_old_entries_back)
{
    struct mr_sim *sim = make_old(&in_files);
    struct mr_error err = {0};
    struct parts parts;
    uint64_t keys;

    open_as(mr_sim_env(sim), &in_files, &parts, &old_form, MR_CHANGE_SAME, false);
    keys = mr_store_count(parts.store);
    close_parts(&parts);
    open_as(mr_sim_env(sim), &in_files, &parts, &old_form, MR_CHANGE_REBUILD, false);
    for (uint64_t key = 100; key < 100 + keys; key++)
        put_old(&parts, key, 7);
    commit(&parts);
    put_old(&parts, 99, 7);
    commit(&parts);
    close_parts(&parts);
    damage(mr_sim_env(sim), ".snap");
    CHECK_STATUS(try_open(mr_sim_env(sim), &in_files, &parts, &err), MR_CORRUPT);
    close_parts(&parts);
    mr_sim_free(sim);
}

/* ---- versions ---- */

static bool reads_as(struct mr_env *env, uint64_t batch_id, uint64_t key, uint64_t value)
{
    const struct mr_state_reader_options options = {.at_batch = true, .batch_id = batch_id};
    struct mr_state *state = NULL;
    struct mr_error err = {0};
    bool right = mr_state_open_reader_at(env, DIR, &options, &state, &err) == MR_OK;

    if (!right)
        CHECK_EQ_INT(err.status, MR_NOT_FOUND);
    right = right && HAS_OLD(mr_state_find(state, "sums"), key, value);
    mr_state_close(state);
    return right;
}

/* Batch n puts n under 0. */
static struct mr_sim *make_versions(const struct options *options, uint64_t batches)
{
    struct mr_sim *sim = mr_sim_new(34);
    struct parts parts;

    open_as(mr_sim_env(sim), options, &parts, &old_form, MR_CHANGE_SAME, false);
    for (uint64_t n = 0; n < batches; n++) {
        put_old(&parts, 0, n);
        commit(&parts);
    }
    close_parts(&parts);
    return sim;
}

static size_t count_files(struct mr_env *env, const char *end)
{
    struct named named = {.end = end};
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(env, DIR "/state/sums", take_name, &named, &err), &err);
    return named.name[0] != '\0';
}

TEST(ST_01_snapshots_come_after_some_deltas_and_older_versions_still_load)
{
    static const struct options every_five = {
        .inline_bytes_max = 1, .snapshot_every = 5, .retain = 100};
    struct mr_sim *sim = make_versions(&every_five, 2);

    CHECK_EQ_UINT(count_files(mr_sim_env(sim), ".snap"), 0);
    CHECK(reads_as(mr_sim_env(sim), 0, 0, 0) && reads_as(mr_sim_env(sim), 1, 0, 1));
    mr_sim_free(sim);
    sim = make_versions(&every_five, 6);
    CHECK_EQ_UINT(count_files(mr_sim_env(sim), ".snap"), 1);
    for (uint64_t n = 0; n < 6; n++)
        CHECK(reads_as(mr_sim_env(sim), n, 0, n));
    mr_sim_free(sim);
    sim = make_versions(&every_five, 20);
    CHECK(reads_as(mr_sim_env(sim), 19, 0, 19) && reads_as(mr_sim_env(sim), 15, 0, 15));
    CHECK(!reads_as(mr_sim_env(sim), 2, 0, 2)); /* before the snapshot before the newest */
    mr_sim_free(sim);
}

TEST(ST_02_old_parts_go_and_the_newest_versions_are_read)
{
    static const struct options few = {.inline_bytes_max = 1, .snapshot_every = 5, .retain = 2};
    struct mr_sim *sim = make_versions(&few, 20);
    struct mr_file_info info;
    struct mr_error err = {0};
    uint64_t oldest = 0, newest = 0;

    CHECK_STATUS(
        mr_env_path_info(mr_sim_env(sim), DIR "/state/sums/0-1-0.delta", false, &info, &err),
        MR_NOT_FOUND);
    CHECK(reads_as(mr_sim_env(sim), 18, 0, 18) && reads_as(mr_sim_env(sim), 19, 0, 19));
    CHECK_OK(mr_state_retained(mr_sim_env(sim), DIR, &oldest, &newest, &err), &err);
    CHECK_EQ_UINT(newest, 19);
    for (uint64_t n = 0; n < 20; n++)
        CHECK(reads_as(mr_sim_env(sim), n, 0, n) == (n >= oldest));
    mr_sim_free(sim);
}

TEST(heads_know_the_keys_without_reading_them)
{
    const struct mr_state_reader_options heads = {.heads = true};
    struct mr_sim *sim = make_old(&in_log);
    struct mr_state *state = NULL;
    struct mr_store_info info;
    struct mr_error err = {0};

    CHECK_OK(mr_state_open_reader_at(mr_sim_env(sim), DIR, &heads, &state, &err), &err);
    CHECK(mr_state_info(state, 0, &info));
    CHECK_EQ_STR(info.value_schema, old_form.value);
    CHECK_EQ_UINT(info.key_count, 2);
    CHECK_EQ_UINT(mr_store_count(mr_state_find(state, "sums")), 0);
    CHECK_EQ_UINT(mr_state_reader_batch(state), 2);
    CHECK(info.stored_bytes > 0 && info.part_count == 3);
    mr_state_close(state);
    mr_sim_free(sim);
}

/* ---- the manifest ---- */

static bool add_text(const char *key, const char *text, void *arg)
{
    mr_buf_printf(arg, "%s=%s;", key, text);
    return true;
}

TEST(the_manifest_is_versioned_with_the_state_and_hidden)
{
    static const struct mr_manifest_entry entries[] = {{"sink out", "{}"}, {"format", "1"}};
    struct mr_sim *sim = make_old(&in_log);
    struct mr_buf text = MR_BUF_INIT;
    struct mr_state_totals totals;
    struct mr_error err = {0};
    struct parts parts;

    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK_OK(mr_state_manifest_set(parts.state, entries, 2, &err), &err);
    mr_state_totals(parts.state, &totals);
    CHECK_EQ_UINT(totals.key_count, 2);
    close_parts(&parts); /* not committed: not there */
    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK_OK(mr_state_manifest_visit(parts.state, add_text, &text, &err), &err);
    CHECK_EQ_UINT(text.size, 0);
    CHECK_OK(mr_state_manifest_set(parts.state, entries, 2, &err), &err);
    commit(&parts);
    close_parts(&parts);
    open_as(mr_sim_env(sim), &in_log, &parts, &old_form, MR_CHANGE_SAME, false);
    CHECK_OK(mr_state_manifest_visit(parts.state, add_text, &text, &err), &err);
    mr_buf_add_char(&text, '\0');
    CHECK_EQ_STR(text.data, "format=1;sink out={};");
    CHECK_NULL(mr_state_unclaimed(parts.state, 0));
    close_parts(&parts);
    mr_buf_release(&text);
    mr_sim_free(sim);
}

/* ---- a copy ---- */

TEST(a_rewound_copy_ends_with_the_batch_and_has_an_id_of_its_own)
{
    struct mr_sim *sim = make_old(&in_files), *after;
    struct mr_env *env = mr_sim_env(sim);
    struct mr_checkpoint original = {0}, copy = {0};
    struct mr_state *state = NULL;
    struct mr_error err = {0};
    char id[37];

    CHECK_OK(mr_state_rewind(env, DIR, 1, "/back", id, &err), &err);
    CHECK_OK(mr_state_open_reader(env, "/back", &state, &err), &err);
    CHECK_EQ_UINT(mr_state_reader_batch(state), 1);
    CHECK(HAS_OLD(mr_state_find(state, "sums"), 1, 5) &&
          HAS_OLD(mr_state_find(state, "sums"), 2, 6));
    mr_state_close(state);
    CHECK_OK(mr_checkpoint_peek(env, DIR, &original, &err), &err);
    CHECK_OK(mr_checkpoint_peek(env, "/back", &copy, &err), &err);
    CHECK_EQ_STR(copy.query_id_text, id);
    CHECK(strcmp(copy.query_id_text, original.query_id_text) != 0);
    CHECK_EQ_UINT(copy.seed, original.seed);
    mr_checkpoint_release(&original);
    mr_checkpoint_release(&copy);
    CHECK_FAILS(mr_state_rewind(env, DIR, 1, "/back", id, &err), &err, MR_CONFIG, "there already");
    after = mr_sim_power_loss(sim, mr_sim_op_count(sim));
    CHECK_OK(mr_state_open_reader(mr_sim_env(after), "/back", &state, &err), &err);
    mr_state_close(state);
    mr_sim_free(after);
    CHECK_OK(mr_env_mkdir(env, DIR "/received/lines", &err), &err);
    CHECK_FAILS(mr_state_rewind(env, DIR, 1, "/other", id, &err), &err, MR_CONFIG, "is a receiver");
    CHECK_OK(mr_env_rmdir(env, DIR "/received/lines", &err), &err);
    CHECK_FAILS(mr_state_rewind(env, DIR, 7, "/other", id, &err), &err, MR_NOT_FOUND,
                "from 0 to 2");
    mr_sim_free(sim);
}

/* ---- rows ---- */

TEST(a_store_of_an_unknown_kind_is_shown_by_its_schemas_or_as_bytes)
{
    const struct mr_store_info readable = {
        .name = "s", .kind = "unknown", .key_schema = "k BIGINT", .value_schema = "no columns"};
    const char key[9] = {1, (char)0x80, 0, 0, 0, 0, 0, 0, 42};
    struct mr_batch_builder *builder = NULL;
    struct mr_state_view *view = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    struct mr_row row;
    char text[40];

    CHECK_OK(mr_state_view_open(&readable, (struct mr_slice){key, 9}, (struct mr_slice){"abc", 3},
                                &view, &err),
             &err);
    CHECK_EQ_UINT(mr_state_view_key_count(view), 1);
    CHECK_OK(mr_batch_builder_new(mr_state_view_columns(view), &builder, &err), &err);
    CHECK_OK(mr_state_view_add(view, (struct mr_slice){key, 9}, (struct mr_slice){"abc", 3},
                               builder, &err),
             &err);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    row = (struct mr_row){batch, 0};
    mr_row_print(&row, 0, text, sizeof(text));
    CHECK_EQ_STR(text, "42");
    CHECK_EQ_STR(mr_schema_field(mr_state_view_columns(view), 1)->name, "value");
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_state_view_free(view);
}
