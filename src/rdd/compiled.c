/*
 * Functions of datasets, compiled once: a program that maps with the same function in every batch
 * finds it, with its statements prepared on every engine.
 *
 *     operation, kind, texts, C function, arg, columns of the input --bytes--> struct mr__compiled
 *
 * The session keeps those that no dataset uses any more, up to UNUSED_MAX; the one that was not
 * used for longest goes first.
 *
 * Lock: build_lock, also while compiling, which uses the engine of slot 0.
 */
#include "rdd/rdd.h"

#include <string.h>

enum { UNUSED_MAX = 256 };

struct mr__compiled {
    struct mr__compiled *next; /* newest use first */
    char *key;
    size_t key_bytes;
    struct mr__function *function;
    unsigned references;
};

struct mr__function *mr__compiled_function(const struct mr__compiled *compiled)
{
    return compiled->function;
}

static void compiled_free(struct mr__compiled *compiled)
{
    mr__function_free(compiled->function);
    mr_free(compiled->key);
    mr_free(compiled);
}

static void add_text(struct mr_buf *out, const char *text)
{
    mr_buf_add_block(out, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 0);
}

/* The place is a part: it is in the errors of the function. */
static char *key_of(enum mr__operation operation, const struct mr_fn *fn,
                    const struct mr_schema *input, size_t *ret_bytes)
{
    char *columns = mr_schema_print(input);
    struct mr_buf key = MR_BUF_INIT;

    mr_buf_add_u8(&key, (uint8_t)operation);
    mr_buf_add_u8(&key, (uint8_t)fn->kind);
    mr_buf_add_u8(&key, (uint8_t)fn->builtin);
    add_text(&key, fn->name);
    add_text(&key, fn->type);
    add_text(&key, fn->file);
    mr_buf_add_u32(&key, (uint32_t)fn->line);
    mr_buf_add(&key, &fn->call, sizeof(fn->call));
    mr_buf_add(&key, &fn->arg, sizeof(fn->arg));
    add_text(&key, columns);
    if (columns == NULL)
        key.failed = true;
    mr_text_free(columns);
    *ret_bytes = key.size;
    return mr_buf_take(&key);
}

/* The statement begins on line 2, as expressions do: fn.c counts from there. */
static enum mr_status compile_statement(struct mr__engines *engines, const struct mr_fn *fn,
                                        const struct mr_schema *input, struct mr__function **ret,
                                        struct mr_error *err)
{
    char *sql = mr_asprintf("\n%s", fn->name);
    enum mr_status status;

    if (sql == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    status = mr__function_new(engines, fn, "sql", input, NULL, sql, ret, err);
    mr_free(sql);
    return status;
}

static enum mr_status compile(struct mr_session *session, enum mr__operation operation,
                              const struct mr_fn *fn, const struct mr_schema *input,
                              struct mr__function **ret, struct mr_error *err)
{
    struct mr__engines *engines = &session->engines;

    switch (operation) {
    case MR__MAP:
        return mr__compile_map(engines, "map", fn, input, ret, err);
    case MR__MAP_TO_PAIR:
        return mr__compile_map(engines, "map_to_pair", fn, input, ret, err);
    case MR__SORT_BY:
        return mr__compile_map(engines, "sort_by", fn, input, ret, err);
    case MR__FLAT_MAP:
        return mr__compile_flat_map(engines, "flat_map", fn, input, ret, err);
    case MR__FILTER:
        return mr__compile_filter(engines, "filter", fn, input, ret, err);
    case MR__MAP_PARTITIONS:
        return mr__compile_map_partitions(engines, "map_partitions", fn, input, ret, err);
    case MR__MAP_VALUES:
        return mr__compile_values(engines, "map_values", false, fn, input, ret, err);
    case MR__FLAT_MAP_VALUES:
        return mr__compile_values(engines, "flat_map_values", true, fn, input, ret, err);
    case MR__REDUCE_BY_KEY:
        return mr__compile_reduce(engines, "reduce_by_key", fn, input, ret, err);
    case MR__SQL:
        return compile_statement(engines, fn, input, ret, err);
    case MR__REDUCE:
        return mr__compile_reduce_of(engines, "reduce", fn, mr__column_type(input, 0), ret, err);
    }
    return MR_FAIL(err, MR_INTERNAL, "an operation without a compiler");
}

static struct mr__compiled *find(struct mr_session *session, const char *key, size_t key_bytes)
{
    for (struct mr__compiled **at = &session->compiled; *at != NULL; at = &(*at)->next) {
        struct mr__compiled *one = *at;

        if (one->key_bytes != key_bytes || memcmp(one->key, key, key_bytes) != 0)
            continue;
        *at = one->next;
        one->next = session->compiled;
        session->compiled = one;
        return one;
    }
    return NULL;
}

/* Forgets the unused one that was not used for longest. */
static void make_room(struct mr_session *session)
{
    struct mr__compiled **oldest = NULL;

    if (session->compiled_count < UNUSED_MAX)
        return;
    for (struct mr__compiled **at = &session->compiled; *at != NULL; at = &(*at)->next) {
        if ((*at)->references == 0)
            oldest = at;
    }
    if (oldest != NULL) {
        struct mr__compiled *one = *oldest;
        *oldest = one->next;
        session->compiled_count--;
        compiled_free(one);
    }
}

/* Takes key. */
static enum mr_status add(struct mr_session *session, enum mr__operation operation,
                          const struct mr_fn *fn, const struct mr_schema *input, char *key,
                          size_t key_bytes, struct mr__compiled **ret_compiled,
                          struct mr_error *err)
{
    struct mr__compiled *one = mr_alloc_zero(NULL, sizeof(*one));
    enum mr_status status;

    if (one == NULL) {
        mr_free(key);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    one->key = key;
    one->key_bytes = key_bytes;
    status = compile(session, operation, fn, input, &one->function, err);
    if (status != MR_OK) {
        compiled_free(one);
        return status;
    }
    make_room(session);
    one->next = session->compiled;
    session->compiled = one;
    session->compiled_count++;
    *ret_compiled = one;
    return MR_OK;
}

enum mr_status mr__compiled_get(struct mr_session *session, enum mr__operation operation,
                                const struct mr_fn *fn, const struct mr_schema *input,
                                struct mr__compiled **ret_compiled, struct mr_error *err)
{
    size_t key_bytes;
    char *key = key_of(operation, fn, input, &key_bytes);
    struct mr__compiled *one;
    enum mr_status status = MR_OK;

    if (key == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr_mutex_lock(&session->build_lock);
    one = find(session, key, key_bytes);
    if (one != NULL)
        mr_free(key);
    else
        status = add(session, operation, fn, input, key, key_bytes, &one, err);
    if (status == MR_OK) {
        one->references++;
        *ret_compiled = one;
    }
    mr_mutex_unlock(&session->build_lock);
    return status;
}

void mr__compiled_unref(struct mr_session *session, struct mr__compiled *compiled)
{
    if (compiled == NULL)
        return;
    mr_mutex_lock(&session->build_lock);
    MR_ASSERT(compiled->references > 0);
    compiled->references--;
    mr_mutex_unlock(&session->build_lock);
}

void mr__compiled_release_all(struct mr_session *session)
{
    while (session->compiled != NULL) {
        struct mr__compiled *one = session->compiled;

        session->compiled = one->next;
        compiled_free(one);
    }
    session->compiled_count = 0;
}
