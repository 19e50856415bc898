/*
 * Reading the manifest that manifest.c draws. Thread: driver.
 */
#ifndef MR_CORE_MANIFEST_H
#define MR_CORE_MANIFEST_H

#include "core/internal.h"

struct mr_json;

#define MR_MANIFEST_FORMAT "format"
#define MR_MANIFEST_SOURCE "source "
#define MR_MANIFEST_OPERATOR "operator "
#define MR_MANIFEST_SINK "sink "

/* A manifest read back; begins as {0}. */
struct mr__manifest {
    struct mr_arena arena;
    struct mr_json *entries; /* one object: key -> what it is */
    bool is_there;           /* false: the checkpoint was made before there were manifests */
};
enum mr_status mr__manifest_read(struct mr_state *state, struct mr__manifest *manifest,
                                 struct mr_error *err);
void mr__manifest_release(struct mr__manifest *manifest);
/* NULL: it has none */
const struct mr_json *mr__manifest_entry(const struct mr__manifest *manifest, const char *prefix,
                                         const char *name);

/* Does the manifest tell of that node? */
bool mr__node_is_told(const struct mr_node *node);
/* What the manifest says of a node; NULL without memory. Freed with mr_text_free. */
char *mr__manifest_text(const struct mr_node *node, struct mr_state *state);
/* What the state of a fold means beyond its stores; empty = nothing to say. */
void mr__manifest_identity(const struct mr_node *node, struct mr_buf *out);
/* The sources and folds that rows of one input of a fold come from, without repetition: borrowed
 * names. False: there are more than that. */
enum { MR_MANIFEST_ORIGINS_MAX = 64 };
bool mr__manifest_origins(const struct mr_node *node, size_t input, const char **names,
                          size_t *ret_count);
/* What the rows of a fold went through, from sources and other folds on. */
void mr__manifest_input(const struct mr_node *node, struct mr_buf *out);

#endif
