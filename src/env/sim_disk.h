/*
 * The simulated disk: images made of shared nodes, and the operations that change them.  Used by
 * sim.c (live view, trace) and sim_crash.c (durable view, states after a crash) only.
 *
 * Images share their nodes and nodes their pages, copied when written: a state costs little.
 */
#ifndef MR_ENV_SIM_DISK_H
#define MR_ENV_SIM_DISK_H

#include <millrace/ext/env.h>

enum { SIM_ROOT = 1, SIM_PAGE_BYTES = 4096 };

struct sim_page {
    uint64_t refs;
    uint8_t bytes[SIM_PAGE_BYTES];
};

struct sim_entry {
    char *name;
    uint64_t node;
};

struct sim_node {
    uint64_t refs;
    enum mr_file_kind kind;
    int64_t mtime_ns;
    uint64_t size_bytes;     /* files */
    struct sim_page **pages; /* files; NULL page = zeros */
    size_t page_count;
    struct sim_entry *entries; /* directories, by name */
    size_t entry_count;
};

struct sim_image {
    struct sim_node **nodes; /* by number; NULL = never heard of */
    size_t node_count;
};

void *sim_calloc(size_t count, size_t size); /* ends the process without memory */
void *sim_realloc(void *memory, size_t size);

void sim_image_init(struct sim_image *image); /* root directory only */
void sim_image_copy(struct sim_image *to, const struct sim_image *from);
void sim_image_release(struct sim_image *image);

/* Node number of a name in a directory; 0 when there is none. */
uint64_t sim_image_look_up(const struct sim_image *image, uint64_t dir, const char *name);
/* The node, made when it is not there; for reading. */
const struct sim_node *sim_image_node(const struct sim_image *image, uint64_t node);

size_t sim_node_read(const struct sim_node *node, uint64_t offset, void *data, size_t size);
uint64_t sim_image_hash(const struct sim_image *image, uint64_t node);

enum sim_op_kind {
    SIM_WRITE,
    SIM_TRUNCATE,
    SIM_SYNC,
    SIM_CREATE,
    SIM_MKDIR,
    SIM_UNLINK,
    SIM_RMDIR,
    SIM_RENAME,
    SIM_SYNC_DIR,
};

enum sim_fate { SIM_ABSENT, SIM_APPLIED, SIM_TORN, SIM_ZEROS, SIM_GARBAGE };

/* One operation of a trace; shared between traces. */
struct sim_op {
    uint64_t refs;
    enum sim_op_kind kind;
    uint64_t node; /* what it is about; SYNC_DIR: the directory */
    enum mr_file_kind node_kind;
    uint64_t dir; /* entry operations: the directory; RENAME: where to */
    uint64_t dir_from;
    char *name; /* entry; RENAME: the new one */
    char *name_from;
    uint64_t offset; /* WRITE; TRUNCATE: the size */
    size_t size_bytes;
    uint8_t *data;
    int64_t at_ns; /* wall clock */
    char *text;    /* for people */
};

struct sim_op *sim_op_ref(struct sim_op *op);
void sim_op_unref(struct sim_op *op);

/* True when the operation waits for a sync; false for syncs. */
bool sim_op_waits(const struct sim_op *op);
/* True when `sync` (SYNC or SYNC_DIR) makes op durable. */
bool sim_op_is_synced_by(const struct sim_op *op, const struct sim_op *sync);

/* Changes the image as the operation, or what a crash made of it, does. choice picks torn
 * lengths. */
void sim_op_apply(const struct sim_op *op, enum sim_fate fate, uint64_t choice,
                  struct sim_image *image);

uint64_t sim_mix(uint64_t value); /* a good hash of one number */

#endif
