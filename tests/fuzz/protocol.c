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
    return mr_state_store(protocol->state, "counts", "aggregate", "k BIGINT", "n BIGINT",
                          &protocol->store, err);
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
    return mr_store_count(protocol->store) == count;
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

static enum mr_status change(struct protocol *protocol, struct fuzz_input *input,
                             struct protocol_version *version, struct mr_error *err)
{
    uint8_t value[600];

    for (uint32_t count = fuzz_below(input, 5); count > 0; count--) {
        uint8_t key = (uint8_t)fuzz_below(input, PROTOCOL_KEYS);
        uint8_t what = fuzz_byte(input);
        uint16_t number = (uint16_t)(1 + what + 256 * (protocol->tried % 200));

        if (what % 4 == 0) {
            MR_TRY(mr_store_delete(protocol->store, &key, 1, err));
            version->values[key] = 0;
            continue;
        }
        memset(value, what, sizeof value);
        memcpy(value, &number, 2);
        MR_TRY(mr_store_put(protocol->store, &key, 1, value, 2 + (size_t)what * 2, err));
        version->values[key] = number;
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

enum mr_status protocol_batch(struct protocol *protocol, struct fuzz_input *input,
                              struct mr_error *err)
{
    struct protocol_version version = protocol->versions[protocol->tried];
    uint8_t how = fuzz_byte(input);
    uint64_t needed_from = 0;

    if (protocol->tried + 1 >= PROTOCOL_VERSIONS)
        return MR_OK;
    MR_TRY(plan(protocol, err));
    if (how % 8 == 1) { /* an attempt that is given up */
        MR_TRY(change(protocol, input, &version, err));
        mr_state_rollback(protocol->state);
        version = protocol->versions[protocol->tried];
    }
    MR_TRY(change(protocol, input, &version, err));
    MR_TRY(commit(protocol, &version, how % 3, err));
    if (how % 4 == 2) {
        MR_TRY(mr_state_purge(protocol->state, protocol->tried - 1, &needed_from, err));
        MR_TRY(mr_batch_log_purge(protocol->log, needed_from, err));
    }
    return MR_OK;
}
