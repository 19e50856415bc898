/*
 * mr_streams_rows: a SELECT over the tables that memory sinks of the session have filled.
 *
 * Each table that the text names is taken as it is at the call and becomes a table of the
 * statement; DuckDB does the rest (rdd/sql.c), on the caller's thread. Thread: any.
 */
#include "base/limits.h"
#include "streams/streams.h"

#include "base/text.h"
#include "duck/lex.h"
#include "rdd/rdd.h"

#include <millrace/ext/memory.h>

#include <string.h>

enum { TABLES_MAX = MR_LIMIT_FRAME_TABLES };

struct tables {
    struct mr__table items[TABLES_MAX];
    struct mr_batch *rows[TABLES_MAX];
    size_t count;
};

/* The rows of a table; one that nothing was written to yet has none, and no columns either. */
static enum mr_status add_table(struct tables *tables, const char *name, struct mr_error *err)
{
    struct mr_memory *memory = mr_memory_table(name);
    struct mr__table *table = &tables->items[tables->count];
    struct mr_batch **rows = &tables->rows[tables->count];

    if (tables->count == TABLES_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot read more than %d tables in one SELECT",
                       (int)TABLES_MAX);
    if (memory == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read memory table '%s': out of memory", name);
    MR_TRY(mr_memory_rows(memory, rows, err));
    *table = (struct mr__table){name, mr_batch_schema(*rows), rows, 1};
    tables->count++;
    return MR_OK;
}

/* Under streams->lock. */
static const char *find(const struct mr_streams *streams, const char *word, size_t size)
{
    for (const struct mr__memory_sink *sink = streams->memory_sinks; sink != NULL;
         sink = sink->next) {
        if (mr_text_equal_nocase(sink->name, strlen(sink->name), word, size))
            return sink->name; /* lives as long as the session */
    }
    return NULL;
}

static enum mr_status add_tables(struct mr_streams *streams, const char *sql, struct tables *tables,
                                 struct mr_error *err)
{
    struct mr_lexer lexer = mr_lexer_of(sql, strlen(sql));
    struct mr_token token;

    for (;;) {
        const char *name;
        bool is_known = false;
        size_t quotes;

        MR_TRY(mr_lexer_next(&lexer, &token, err));
        if (token.kind == MR_TOKEN_END)
            return MR_OK;
        if (token.kind != MR_TOKEN_WORD && token.kind != MR_TOKEN_QUOTED)
            continue;
        quotes = token.kind == MR_TOKEN_QUOTED ? 1 : 0;
        mr_mutex_lock(&streams->lock);
        name = find(streams, sql + token.at + quotes, token.size - 2 * quotes);
        mr_mutex_unlock(&streams->lock);
        for (size_t i = 0; i < tables->count; i++)
            is_known |= tables->items[i].name == name;
        if (name != NULL && !is_known)
            MR_TRY(add_table(tables, name, err));
    }
}

/* All rows as one batch. */
static enum mr_status join(const struct mr__batches *parts, const struct mr_schema *schema,
                           struct mr_batch **ret_rows, struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, err));
    for (size_t i = 0; i < parts->count; i++)
        mr_batch_builder_append(builder, parts->items[i]);
    MR_TRY_GOTO(mr_batch_builder_finish(builder, ret_rows, err));
done:
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr_streams_rows(struct mr_streams *streams, const char *sql,
                               struct mr_batch **ret_rows, struct mr_error *err)
{
    struct tables tables = {.count = 0};
    struct mr__batches parts = {0};
    struct mr_schema *schema = NULL;
    struct mr_session *session = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__streams_session(streams, &session, err));
    MR_TRY_GOTO(add_tables(streams, sql, &tables, err));
    MR_TRY_GOTO(mr__sql_run(session, sql, tables.items, tables.count, mr_env_wall_us(streams->env),
                            &parts, &schema, err));
    status = join(&parts, schema, ret_rows, err);
done:
    for (size_t i = 0; i < tables.count; i++)
        mr_batch_unref(tables.rows[i]);
    mr__batches_release(&parts);
    mr_schema_unref(schema);
    return status;
}
