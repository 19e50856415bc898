/*
 * The batch protocol on the simulated disk, small enough to be driven by bytes: a checkpoint, its
 * log, a store whose keys are changed one by one in every way there is, another whose many keys
 * change together, and a model of what every committed version holds.
 *
 *     plan, sync | change the stores | prepare, commit, sync | purge     = one batch
 *
 * What is promised: after any death the state is that of a version between the last batch that was
 * synced and the last that was tried, and the batch after it can run. Thread: one.
 */
#ifndef MR_TESTS_FUZZ_PROTOCOL_H
#define MR_TESTS_FUZZ_PROTOCOL_H

#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "state/state.h"
#include "wal/checkpoint.h"

enum { PROTOCOL_KEYS = 24, PROTOCOL_MANY = 700, PROTOCOL_VERSIONS = 64 };
#define PROTOCOL_DIR "/cp"

struct protocol_version {
    uint16_t values[PROTOCOL_KEYS]; /* 0 = not there */
    uint16_t many;                  /* the value of each of the many; 0 = none is there */
    uint64_t op_count;              /* of the disk when it was known to be durable */
};

struct protocol {
    struct mr_sim *sim;
    bool is_open;
    struct mr_checkpoint checkpoint;
    struct mr_batch_log *log;
    struct mr_recovered recovered;
    struct mr_state *state;
    struct mr_store *store;
    struct mr_store *many;
    uint64_t inline_bytes_max;
    uint64_t segment_bytes;
    uint32_t snapshot_every;
    uint32_t retain;

    struct protocol_version versions[PROTOCOL_VERSIONS]; /* [n]: after batches 0 .. n - 1 */
    uint64_t tried;  /* batches whose COMMIT may be on the disk */
    uint64_t synced; /* of them, those that were synced */
};

/* An empty disk; the choices are drawn from the input. */
void protocol_init(struct protocol *protocol, struct fuzz_input *input);
void protocol_release(struct protocol *protocol);
/* Opens what is on the disk. MR_OK: the content was compared with the versions from `least` on. */
enum mr_status protocol_open(struct protocol *protocol, uint64_t least, struct mr_error *err);
/* Cleanly. */
void protocol_close(struct protocol *protocol);
/* One batch whose changes are drawn from the input. Not MR_OK: the process must die. */
enum mr_status protocol_batch(struct protocol *protocol, struct fuzz_input *input,
                              struct mr_error *err);
/* The disk becomes `after` (taken), which has at least the first `least` versions. */
void protocol_die(struct protocol *protocol, struct mr_sim *after);
/* Versions that were durable after the first op_count operations of the disk. */
uint64_t protocol_durable_at(const struct protocol *protocol, uint64_t op_count);

#endif
