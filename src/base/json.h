/*
 * Small JSON documents: offsets, progress, manifests, DuckDB's syntax trees. (Rows of data go
 * through src/formats/json.)
 *
 * Reader: a whole text into a tree in an arena; depth at most 200, last duplicate key wins. Writer:
 * straight into a buffer.
 */
#ifndef MR_BASE_JSON_H
#define MR_BASE_JSON_H

#include "base/alloc.h"
#include "base/buf.h"

enum mr_json_kind {
    MR_JSON_NULL,
    MR_JSON_BOOL,
    MR_JSON_NUMBER,
    MR_JSON_STRING,
    MR_JSON_ARRAY,
    MR_JSON_OBJECT
};

struct mr_json {
    enum mr_json_kind kind;
    bool boolean;
    const char *text; /* STRING: decoded, NUL-terminated; NUMBER: as written */
    size_t text_bytes;
    const char *key;       /* as a member of an object, else NULL */
    struct mr_json *first; /* ARRAY, OBJECT: children in order */
    struct mr_json *last;
    struct mr_json *next;
    size_t count; /* children */
};

/* The tree lives in arena. Error MR_BAD_DATA with the byte offset. */
enum mr_status mr_json_parse(const char *text, size_t text_bytes, struct mr_arena *arena,
                             struct mr_json **ret_json, struct mr_error *err);
/* NULL when absent or not an object */
struct mr_json *mr_json_get(const struct mr_json *object, const char *key);
struct mr_json *mr_json_at(const struct mr_json *array, size_t index);
/* STRING member or NULL */
const char *mr_json_text(const struct mr_json *object, const char *key);
/* NUMBER that is an exact int64 */
bool mr_json_int(const struct mr_json *json, int64_t *ret_value);
/* a STRING equal to text */
bool mr_json_is(const struct mr_json *json, const char *text);

/* Building and changing trees (the planner edits syntax trees): all in the arena, NULL without
 * memory. */
struct mr_json *mr_json_new_object(struct mr_arena *arena);
struct mr_json *mr_json_new_array(struct mr_arena *arena);
struct mr_json *mr_json_new_string(struct mr_arena *arena, const char *text);
struct mr_json *mr_json_new_int(struct mr_arena *arena, int64_t value);
struct mr_json *mr_json_new_bool(struct mr_arena *arena, bool value);
struct mr_json *mr_json_new_null(struct mr_arena *arena);
struct mr_json *mr_json_copy(struct mr_arena *arena, const struct mr_json *json); /* deep */
/* replaces */
void mr_json_put(struct mr_arena *arena, struct mr_json *object, const char *key,
                 struct mr_json *value);
void mr_json_push(struct mr_json *array, struct mr_json *value);

void mr_json_write(struct mr_buf *out, const struct mr_json *json); /* compact */

/* Streaming writer helpers: commas are handled. */
struct mr_json_out {
    struct mr_buf *buf;
    bool need_comma;
};
/* key NULL inside arrays and at the top */
void mr_json_begin_object(struct mr_json_out *out, const char *key);
void mr_json_end_object(struct mr_json_out *out);
void mr_json_begin_array(struct mr_json_out *out, const char *key);
void mr_json_end_array(struct mr_json_out *out);
/* NULL text: null */
void mr_json_add_string(struct mr_json_out *out, const char *key, const char *text);
void mr_json_add_string_n(struct mr_json_out *out, const char *key, const char *text,
                          size_t size_bytes);
void mr_json_add_int(struct mr_json_out *out, const char *key, int64_t value);
/* -1 = shortest */
void mr_json_add_double(struct mr_json_out *out, const char *key, double value, int decimals);
void mr_json_add_bool(struct mr_json_out *out, const char *key, bool value);
/* text that is JSON; NULL: null */
void mr_json_add_raw(struct mr_json_out *out, const char *key, const char *json);
/* with quotes; bad UTF-8 becomes U+FFFD */
void mr_json_quote(struct mr_buf *buf, const char *text, size_t size_bytes);

#endif
