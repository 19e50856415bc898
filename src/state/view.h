/*
 * Entries of state as rows, for people and other programs: `millrace state`.
 *
 * What the bytes of a store mean is known to the operator that writes it; it registers a view for
 * its kind, made from the texts in the checkpoint alone (the query that wrote them may be gone).
 * Kinds without one are shown by their schemas when those are lists of columns that fit the bytes,
 * else as bytes.
 *
 * Thread: one at a time.
 */
#ifndef MR_STATE_VIEW_H
#define MR_STATE_VIEW_H

#include "state/state.h"

#include <millrace/ext/builder.h>

struct mr_state_view_ops {
    const char *kind;
    /*
     * From the schemas of a store: the columns of its rows (returns new), the first *ret_key_count
     * of them the key, and the object for add. MR_CONFIG: these are texts of another version, to be
     * shown as those of an unknown kind.
     */
    enum mr_status (*open)(const char *key_schema, const char *value_schema, void **ret_view,
                           struct mr_schema **ret_columns, uint32_t *ret_key_count,
                           struct mr_error *err);
    /* Appends the rows of one entry (none, one or several) and says how many. */
    enum mr_status (*add)(void *view, struct mr_slice key, struct mr_slice value,
                          struct mr_batch_builder *out, int64_t *ret_rows, struct mr_error *err);
    void (*free)(void *view);
};
/* At start, before anything is viewed; ops stays valid. At most 32 kinds. */
void mr_state_view_register(const struct mr_state_view_ops *ops);

struct mr_state_view;
/* first_key, first_value: of some entry of the store, to see whether the schemas fit; empty when
 * there is none. */
enum mr_status mr_state_view_open(const struct mr_store_info *info, struct mr_slice first_key,
                                  struct mr_slice first_value, struct mr_state_view **ret_view,
                                  struct mr_error *err);
void mr_state_view_free(struct mr_state_view *view); /* NULL allowed */
const struct mr_schema *mr_state_view_columns(const struct mr_state_view *view);
uint32_t mr_state_view_key_count(const struct mr_state_view *view);
enum mr_status mr_state_view_add(struct mr_state_view *view, struct mr_slice key,
                                 struct mr_slice value, struct mr_batch_builder *out,
                                 struct mr_error *err);

/* For kinds whose key is the key encoding of columns, or whose value the value encoding
 * (data/row_codec.h): appends to the builder's columns from `column` on. MR_CORRUPT when the bytes
 * do not fit. */
enum mr_status mr_state_view_key(const struct mr_schema *columns, struct mr_slice key,
                                 struct mr_batch_builder *out, uint32_t column,
                                 struct mr_error *err);
enum mr_status mr_state_view_value(const struct mr_schema *columns, struct mr_slice value,
                                   struct mr_batch_builder *out, uint32_t column,
                                   struct mr_error *err);
/* The columns of a, then those of b; a name that is taken gets a number. Each may be NULL. */
enum mr_status mr_state_view_join(const struct mr_schema *a, const struct mr_schema *b,
                                  struct mr_schema **ret_columns, struct mr_error *err);

#endif
