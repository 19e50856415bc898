/*
 * The checkpoint directory: identity, lock, layout.
 *
 *     <checkpoint>/query       QUERY record: query id (16 bytes), format version, created at,
 *                              seed; atomic, never rewritten
 *     <checkpoint>/lock        OS lock of the running process; text: pid and host
 *     <checkpoint>/taken-over  batch and fingerprint of an edited query that runs a batch which
 *                              another version of it planned (core/open.c); often absent
 *     <checkpoint>/log/        batch log           <checkpoint>/state/      state stores
 *     <checkpoint>/received/   received blocks
 *
 * Opening refuses: logs or state without identity (B12), state without logs (B13), entries that are
 * links, FIFOs or devices (B18), newer formats (J5, MR_VERSION).  Unknown other files are ignored
 * (B21).
 */
#ifndef MR_WAL_CHECKPOINT_H
#define MR_WAL_CHECKPOINT_H

#include <millrace/ext/durable.h>

struct mr_checkpoint {
    struct mr_env *env;
    char *dir;
    char *log_dir;
    char *state_dir;
    char *received_dir;
    uint8_t query_id[16];
    char query_id_text[37]; /* UUID form */
    uint64_t seed;          /* of hashes and generators */
    int64_t created_us;
    bool is_new;
    uint64_t temp_files_removed;
    struct mr_lock *lock;
};

/* Creates or opens for writing: lock first (MR_BUSY names pid and host of the holder). */
enum mr_status mr_checkpoint_open(struct mr_env *env, const char *dir,
                                  struct mr_checkpoint *ret_checkpoint, struct mr_error *err);
/* Creates one that must not be there yet, with the seed of another: a copy's generators go on as
 * those of the original would. */
enum mr_status mr_checkpoint_create(struct mr_env *env, const char *dir, uint64_t seed,
                                    struct mr_checkpoint *ret_checkpoint, struct mr_error *err);
/* Opens without lock and without any write; MR_NOT_FOUND when there is none. */
enum mr_status mr_checkpoint_peek(struct mr_env *env, const char *dir,
                                  struct mr_checkpoint *ret_checkpoint, struct mr_error *err);
void mr_checkpoint_release(struct mr_checkpoint *checkpoint); /* unlocks */

#endif
