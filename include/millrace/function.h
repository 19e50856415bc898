/*
 * Functions of your own in SQL: scalar functions, functions that give rows, aggregates.
 *
 *     static void shout(const struct mr_row *row, struct mr_emitter *out, void *arg)
 *     {
 *         ... mr_emit_str(out, text, size);
 *     }
 *     static const struct mr_scalar_function shout_function = {
 *         .name = "shout", .arguments = "text VARCHAR", .result = "VARCHAR", .row = shout};
 *     mr_functions_add_scalar(mr_streams_functions(streams), &shout_function, &err);
 *     mr_streams_sql(streams, "SELECT shout(city) FROM clicks");
 *
 * The same in a library for `millrace run --library ./libshout.so`: it exports
 *
 *     enum mr_status millrace_functions(struct mr_functions *functions, struct mr_error *err)
 *
 * Names are SQL's: case does not count, and what SQL has already is refused. Arguments and results
 * are declared as text; DuckDB casts what it is given. A batch that is run again after a crash must
 * give the same rows, so functions must depend on nothing but their arguments.
 *
 * Ownership: everything is copied but arg. Thread: add in the building thread; functions run on
 * several threads at once, so they must not change what arg points to without a lock of their own.
 */
#ifndef MILLRACE_FUNCTION_H
#define MILLRACE_FUNCTION_H

#include <millrace/fn.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_functions; /* a list of functions */

/* One value for each row. Give row or batch. */
struct mr_scalar_function {
    const char *name;
    const char *arguments; /* "text VARCHAR, times BIGINT"; NULL: none */
    const char *result;    /* a type, "BIGINT" */
    /* Called for each row; emits one value. */
    mr_row_fn row;
    /* Called for many rows: appends as many, of one column, to its builder. Sees nulls. */
    mr_batch_fn batch;
    void *arg;
    bool keeps_nulls; /* row is called with nulls too; else a null argument gives null */
    /* Its result depends on more than its arguments (a lookup): it is called for each row even when
     * all arguments are constants. After a crash a batch may then give other rows. */
    bool is_volatile;
};
MR_API enum mr_status mr_functions_add_scalar(struct mr_functions *functions,
                                              const struct mr_scalar_function *function,
                                              struct mr_error *err);

/*
 * Any number of rows for each row. In SQL it gives a list of structs, for UNNEST:
 *
 *     SELECT unnest(split_words(line), recursive := true) FROM lines
 */
struct mr_table_function {
    const char *name;
    const char *arguments;
    const char *columns; /* "word VARCHAR, position BIGINT" */
    mr_row_fn row;       /* emits any number of rows */
    void *arg;
    bool keeps_nulls; /* else a null argument gives no rows */
    bool is_volatile;
};
MR_API enum mr_status mr_functions_add_table(struct mr_functions *functions,
                                             const struct mr_table_function *function,
                                             struct mr_error *err);

/*
 * An aggregate: what it keeps of a group is a run of bytes, which becomes part of the checkpoint.
 * Bytes of different parts of the rows are merged, so the result must not depend on how rows were
 * parted. Rows with a null argument are left out. Bytes are aligned for any type; those of nothing
 * may be NULL. In GROUP BY over streams only.
 */
struct mr_group_bytes; /* what is kept of the group at hand */
MR_API void *mr_group_bytes_data(struct mr_group_bytes *bytes, size_t *ret_size);
/* At another size: what is new is zero. NULL without memory, or above 16 MiB: the call fails. */
MR_API void *mr_group_bytes_resize(struct mr_group_bytes *bytes, size_t size);

struct mr_aggregate_function {
    const char *name;
    const char *arguments; /* at least one */
    const char *result;
    size_t start_bytes; /* size of what is kept at first, zeroed */
    /* Takes in one row. */
    void (*update)(struct mr_group_bytes *bytes, const struct mr_row *row, void *arg);
    /* Takes in what was kept of other rows of the group. */
    void (*merge)(struct mr_group_bytes *bytes, const void *other, size_t other_size, void *arg);
    /* Emits one value. Not called for a group without rows: its result is null. */
    void (*finish)(const void *data, size_t size, struct mr_emitter *out, void *arg);
    void *arg;
};
MR_API enum mr_status mr_functions_add_aggregate(struct mr_functions *functions,
                                                 const struct mr_aggregate_function *function,
                                                 struct mr_error *err);

/* Those of a session of the C API: for queries that are started from now on. NULL without
 * memory. */
struct mr_streams;
MR_API struct mr_functions *mr_streams_functions(struct mr_streams *streams);

/* What a library for `--library` exports under the name "millrace_functions". */
typedef enum mr_status (*mr_library_fn)(struct mr_functions *functions, struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
