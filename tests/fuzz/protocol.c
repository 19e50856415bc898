/*
 * The batch protocol, driven by bytes; protocol.h says what holds. Called by fuzz_checkpoint and
 * fuzz_protocol. Thread: one.
 */
#include "fuzz/protocol.h"

#include <string.h>

void protocol_init(struct protocol *protocol, struct fuzz_input *input)
{
    static const uint64_t segments[] = {4096, 16384, 1 << 20};
    uint8_t choice = fuzz_byte(input);

    memset(protocol, 0, sizeof *protocol);
    protocol->sim = mr_sim_new(choice);
    protocol->inline_bytes_max = (choice & 1) != 0 ? 1 : 1 << 20;
    protocol->snapshot_every = (choice & 2) != 0 ? 2 + choice % 3 : 0;
    protocol->segment_bytes = segments[(choice >> 2) % 3];
    protocol->retain = (choice & 16) != 0 ? 2 : 100;
}

void protocol_close(struct protocol *protocol)
{
    if (protocol->is_open) {
        mr_state_close(protocol->state);
        mr_batch_log_close(protocol->log);
    }
    mr_recovered_release(&protocol->recovered);
    mr_checkpoint_release(&protocol->checkpoint);
    memset(&protocol->checkpoint, 0, sizeof protocol->checkpoint);
    protocol->state = NULL;
    protocol->log = NULL;
    protocol->is_open = false;
}

void protocol_release(struct protocol *protocol)
{
    protocol_close(protocol);
    mr_sim_free(protocol->sim);
    protocol->sim = NULL;
}

static enum mr_status open_all(struct protocol *protocol, struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = protocol->segment_bytes,
                                             .retain_batches = protocol->retain};
    struct mr_state_config config = {.inline_bytes_max = protocol->inline_bytes_max,
                                     .snapshot_min_bytes = 1 << 20,
                                     .snapshot_ratio = 1.0,
                                     .snapshot_every = protocol->snapshot_every,
                                     .retain_batches = protocol->retain};
    struct mr_env *env = mr_sim_env(protocol->sim);

    MR_TRY(mr_checkpoint_open(env, PROTOCOL_DIR, &protocol->checkpoint, err));
    memcpy(log_config.query_id, protocol->checkpoint.query_id, 16);
    memcpy(config.query_id, protocol->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(env, protocol->checkpoint.log_dir, &log_config, &protocol->log,
                             &protocol->recovered, err));
    config.epoch = protocol->recovered.epoch;
    MR_TRY(mr_state_open(env, protocol->checkpoint.state_dir, protocol->checkpoint.log_dir, &config,
                         &protocol->recovered, &protocol->state, err));
    for (size_t i = 0; mr_state_unclaimed(protocol->state, i) != NULL; i++)
        FUZZ_CHECK(i < 2 && protocol->tried > 0);
    mr_state_set_owner(protocol->state, "fuzz");
    MR_TRY(mr_state_store(protocol->state, "counts", "aggregate", "k BIGINT", "n BIGINT",
                          &protocol->store, err));
    FUZZ_CHECK(mr_state_store(protocol->state, "counts", "aggregate", "k BIGINT", "n BIGINT",
                              &protocol->many, NULL) == MR_CONFIG); /* it has one owner */
    FUZZ_CHECK(mr_state_store(protocol->state, "", "aggregate", "k BIGINT", "n BIGINT",
                              &protocol->many, NULL) == MR_CONFIG);
    return mr_state_store(protocol->state, ".many of them", "aggregate", "k BIGINT", "n BIGINT",
                          &protocol->many, err);
}

/* ---- what is there ---- */

struct seen {
    const struct protocol_version *version;
    uint64_t count;
    int last; /* key of the visit before, where keys come in order; else -1 */
    bool ordered;
    bool good;
};

static bool visit(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                  void *arg)
{
    struct seen *seen = arg;
    int number = key_bytes == 1 && (uint8_t)key[0] < PROTOCOL_KEYS ? (uint8_t)key[0] : -1;

    seen->good = seen->good && number >= 0 && value_bytes >= 2 &&
                 memcmp(value, &seen->version->values[MR_MAX(number, 0)], 2) == 0 &&
                 (!seen->ordered || number > seen->last);
    seen->last = number;
    seen->count++;
    return seen->good;
}

/* All ways of reading find the same. */
static bool scans_agree(const struct mr_store *store, const struct protocol_version *version,
                        uint64_t count)
{
    struct seen sorted = {version, 0, -1, true, true}, hashed = {version, 0, -1, false, true};
    struct seen single = {version, 0, -1, false, true};

    mr_store_scan(store, visit, &hashed);
    for (unsigned i = 0; i < PROTOCOL_KEYS; i++) {
        uint8_t key = (uint8_t)i;

        if (version->values[i] != 0)
            mr_store_visit_fragment(store, (uint32_t)(mr_store_hash(store, &key, 1) >> 32), visit,
                                    &single);
    }
    if (mr_store_scan_sorted(store, NULL, 0, visit, &sorted, NULL) != MR_OK)
        return fuzz_starved();
    return sorted.good && hashed.good && single.good && sorted.count == count &&
           hashed.count == count && single.count >= count;
}

/* The many are all there with one value, or none is. */
static bool many_are(const struct protocol *protocol, uint16_t expected)
{
    for (uint32_t key = 0; key < PROTOCOL_MANY; key += 23) {
        uint64_t hash = mr_store_hash(protocol->many, &key, sizeof key);
        uint32_t place = mr_store_locate(protocol->many, hash);
        struct mr_store_entry entry;

        if (mr_store_find_at(protocol->many, hash, &key, sizeof key, place, &entry) !=
            (expected != 0))
            return false;
        if (expected != 0 && (entry.value_bytes != 2 || memcmp(entry.value, &expected, 2) != 0))
            return false;
    }
    return mr_store_count(protocol->many) == (expected != 0 ? PROTOCOL_MANY : 0);
}

static void check_told(const struct protocol *protocol)
{
    struct mr_state_totals totals;
    struct mr_store_info info;
    uint64_t keys = 0, bytes = 0, sum = 0;
    size_t i = 0;

    mr_state_totals(protocol->state, &totals);
    for (; mr_state_info(protocol->state, i, &info); i++)
        sum += info.key_count;
    FUZZ_CHECK(i == 2 && sum == totals.key_count);
    FUZZ_CHECK(mr_state_largest(protocol->state, &keys, &bytes) != NULL);
    FUZZ_CHECK(bytes <= totals.memory_bytes && keys <= sum);
}

static bool is_version(struct protocol *protocol, const struct protocol_version *version)
{
    uint64_t count = 0;

    for (int i = 0; i < PROTOCOL_KEYS; i++) {
        uint8_t key = (uint8_t)i;
        const char *value = NULL;
        size_t size = 0;
        bool there = mr_store_get(protocol->store, &key, 1, &value, &size);

        if (there != (version->values[key] != 0) ||
            (there && (size < 2 || memcmp(value, &version->values[key], 2) != 0)))
            return false;
        count += there;
    }
    return mr_store_count(protocol->store) == count && many_are(protocol, version->many) &&
           scans_agree(protocol->store, version, count);
}

enum mr_status protocol_open(struct protocol *protocol, uint64_t least, struct mr_error *err)
{
    enum mr_status status = open_all(protocol, err);
    uint64_t have;

    protocol->is_open = true;
    if (status != MR_OK) {
        protocol_close(protocol);
        return status;
    }
    have = protocol->recovered.has_commit ? protocol->recovered.last_commit.batch_id + 1 : 0;
    FUZZ_CHECK(have >= least && have <= protocol->tried);
    if (have >= least && have <= protocol->tried)
        FUZZ_CHECK(is_version(protocol, &protocol->versions[have]));
    check_told(protocol);
    /* What the dead process had not synced was made durable by this one. */
    for (uint64_t n = least + 1; n <= have && n < PROTOCOL_VERSIONS; n++)
        protocol->versions[n].op_count = mr_sim_op_count(protocol->sim);
    protocol->tried = protocol->synced = have;
    return MR_OK;
}

void protocol_die(struct protocol *protocol, struct mr_sim *after)
{
    /* What is in memory goes without touching the disk that lives on. */
    protocol_close(protocol);
    mr_sim_free(protocol->sim);
    protocol->sim = after;
    /* After a power loss operations are counted anew, and all that is there is durable. */
    for (uint64_t n = 0; n <= protocol->tried && mr_sim_op_count(after) == 0; n++)
        protocol->versions[n].op_count = 0;
}

uint64_t protocol_durable_at(const struct protocol *protocol, uint64_t op_count)
{
    uint64_t n = 0;

    while (n < protocol->synced && protocol->versions[n + 1].op_count <= op_count)
        n++;
    return n;
}

/* ---- a batch ---- */

/* The entry of a key, found in one of the ways. */
static bool find(struct mr_store *store, uint8_t key, uint8_t how, struct mr_store_entry *ret_entry)
{
    uint64_t hash = mr_store_hash(store, &key, 1);
    uint32_t cursor = 0;
    size_t count;

    mr_store_hint(store, hash, 0);
    mr_store_hint(store, hash, 1);
    if (how % 3 == 0)
        return mr_store_find(store, hash, &key, 1, ret_entry);
    if (how % 3 == 1)
        return mr_store_find_at(store, hash, &key, 1, mr_store_locate(store, hash), ret_entry);
    mr_store_tidy_shard(store, mr_store_shard(hash));
    do {
        count = mr_store_read_shard(store, mr_store_shard(hash), &cursor, ret_entry, 1);
    } while (count == 1 && ret_entry->key[0] != (char)key);
    return count == 1;
}

static enum mr_status put(struct mr_store *store, uint8_t key, const uint8_t *value, size_t size,
                          uint8_t how, struct mr_error *err)
{
    struct mr_store_entry entry;
    char *there = NULL;
    bool created;

    switch (how % 4) {
    case 0:
        return mr_store_put(store, &key, 1, value, size, err);
    case 1:
        MR_TRY(mr_store_upsert(store, &key, 1, size, &there, &created, err));
        memcpy(there, value, size);
        return MR_OK;
    case 2:
        mr_store_expect(store, mr_store_shard(mr_store_hash(store, &key, 1)), 40);
        break;
    default:
        break;
    }
    if (find(store, key, how / 4, &entry))
        return mr_store_put_at(store, &entry, value, size, err);
    return mr_store_put_hashed(store, mr_store_hash(store, &key, 1), &key, 1, value, size, err);
}

static enum mr_status delete (struct mr_store *store, uint8_t key, uint8_t how,
                              struct mr_error *err) {
    struct mr_store_entry entry;

    if (how % 2 == 0) return mr_store_delete(store, &key, 1, err);
    return find(store, key, how / 2, &entry) ? mr_store_delete_at(store, &entry, err) : MR_OK;
}

/* All of the many get a value, or go. */
static enum mr_status change_many(struct protocol *protocol, bool gone,
                                  struct protocol_version *version, struct mr_error *err)
{
    uint16_t value = (uint16_t)(1 + protocol->tried);

    for (uint32_t key = 0; key < PROTOCOL_MANY; key++)
        MR_TRY(gone ? mr_store_delete(protocol->many, &key, sizeof key, err)
                    : mr_store_put(protocol->many, &key, sizeof key, &value, 2, err));
    version->many = gone ? 0 : value;
    return MR_OK;
}

static enum mr_status change(struct protocol *protocol, struct fuzz_input *input,
                             struct protocol_version *version, struct mr_error *err)
{
    uint8_t value[600];

    for (uint32_t count = fuzz_below(input, 5); count > 0; count--) {
        uint8_t key = (uint8_t)fuzz_below(input, PROTOCOL_KEYS + 1);
        uint8_t what = fuzz_byte(input);
        uint16_t number = (uint16_t)(1 + what + 256 * (protocol->tried % 200));

        if (key == PROTOCOL_KEYS) {
            MR_TRY(change_many(protocol, what % 4 == 0, version, err));
        } else if (what % 4 == 0) {
            MR_TRY(delete (protocol->store, key, what / 4, err));
            version->values[key] = 0;
        } else {
            memset(value, what, sizeof value);
            memcpy(value, &number, 2);
            MR_TRY(put(protocol->store, key, value, 2 + (size_t)what * 2, what / 4, err));
            version->values[key] = number;
        }
    }
    return MR_OK;
}

static enum mr_status plan(struct protocol *protocol, struct mr_error *err)
{
    char name[] = "s", end[] = "1", settings[] = "{}";
    struct mr_plan_source source = {name, NULL, end};
    struct mr_plan record = {.batch_id = protocol->tried,
                             .epoch = protocol->recovered.epoch,
                             .settings = settings,
                             .sources = &source,
                             .source_count = 1};

    if (protocol->recovered.has_plan && protocol->recovered.last_plan.batch_id == protocol->tried)
        return MR_OK; /* it runs again */
    MR_TRY(mr_batch_log_plan(protocol->log, &record, err));
    return mr_batch_log_sync(protocol->log, err);
}

static enum mr_status commit(struct protocol *protocol, const struct protocol_version *version,
                             uint32_t attempt, struct mr_error *err)
{
    uint64_t batch = protocol->tried;
    struct mr_commit record = {
        .batch_id = batch, .epoch = protocol->recovered.epoch, .attempt = attempt};
    enum mr_status status;

    MR_TRY_GOTO(mr_state_prepare(protocol->state, batch, attempt, protocol->log, &record, err));
    protocol->versions[batch + 1] = *version;
    protocol->tried = batch + 1;
    MR_TRY_GOTO(mr_batch_log_commit(protocol->log, &record, err));
    mr_state_applied(protocol->state, batch);
    MR_TRY_GOTO(mr_batch_log_sync(protocol->log, err));
    protocol->synced = batch + 1;
    protocol->versions[batch + 1].op_count = mr_sim_op_count(protocol->sim);
done:
    mr_commit_release(&record);
    return status;
}

/* An attempt that failed when its state was written already. */
static enum mr_status give_up(struct protocol *protocol, uint32_t attempt, struct mr_error *err)
{
    struct mr_commit record = {
        .batch_id = protocol->tried, .epoch = protocol->recovered.epoch, .attempt = attempt};
    enum mr_status status =
        mr_state_prepare(protocol->state, protocol->tried, attempt, protocol->log, &record, err);

    mr_commit_release(&record);
    mr_batch_log_discard_deltas(protocol->log);
    mr_state_rollback(protocol->state);
    return status;
}

enum mr_status protocol_batch(struct protocol *protocol, struct fuzz_input *input,
                              struct mr_error *err)
{
    struct protocol_version version = protocol->versions[protocol->tried];
    uint8_t how = fuzz_byte(input);
    uint64_t needed_from = 0;

    if (protocol->tried + 1 >= PROTOCOL_VERSIONS)
        return MR_OK;
    MR_TRY(plan(protocol, err));
    if (how % 8 == 1 || how % 8 == 3) { /* an attempt that is given up */
        MR_TRY(change(protocol, input, &version, err));
        if (how % 8 == 3)
            MR_TRY(give_up(protocol, how % 5, err));
        else
            mr_state_rollback(protocol->state);
        version = protocol->versions[protocol->tried];
    }
    MR_TRY(change(protocol, input, &version, err));
    MR_TRY(commit(protocol, &version, how % 8 == 3 ? 5 : how % 3, err));
    if (how % 4 == 2) {
        MR_TRY(mr_state_purge(protocol->state, protocol->tried - 1, &needed_from, err));
        MR_TRY(mr_batch_log_purge(protocol->log, needed_from, err));
    }
    return MR_OK;
}
