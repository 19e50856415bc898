/*
 * Implementation of support/streams.h.
 */
#include "support/streams.h"

#include "data/batch_internal.h"
#include "duck/duck.h"
#include "plugins/plugins.h"
#include "support/sql_flow.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>

enum { TABLES_MAX = 16 };

struct table {
    char name[64];
    char key[200];
    char columns[200];
};

struct st {
    struct test *t;
    struct mr_streams *session;
    struct mr_duck *duck;
    struct table tables[TABLES_MAX];
    size_t count;
    char *shown;
    char name[200];
};

struct st *st_new(struct test *t)
{
    struct st *s = calloc(1, sizeof(*s));
    struct mr_error err = {0};

    mr_plugins_register();
    s->t = t;
    CHECK_OK(mr_duck_open(&s->duck, &err), &err);
    st_again(s);
    return s;
}

void st_again(struct st *s)
{
    mr_streams_free(s->session);
    s->session = mr_streams_new();
    CHECK_NOT_NULL(s->session);
    mr_streams_set(s->session, "workers", "2");
}

void st_free(struct st *s)
{
    mr_streams_free(s->session);
    for (size_t i = 0; i < s->count; i++)
        mr_memory_drop(s->tables[i].key);
    mr_duck_close(s->duck);
    free(s->shown);
    free(s);
}

struct mr_streams *st_session(struct st *s)
{
    return s->session;
}

static struct table *find(struct st *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->tables[i].name, name) == 0)
            return &s->tables[i];
    }
    return NULL;
}

struct mr_stream_reader *st_reader(struct st *s, const char *name, const char *columns)
{
    struct table *table = find(s, name);
    struct mr_stream_reader *reader = mr_read_stream(s->session);

    if (table == NULL) {
        CHECK(s->count < TABLES_MAX);
        table = &s->tables[s->count++];
        snprintf(table->name, sizeof(table->name), "%s", name);
        snprintf(table->key, sizeof(table->key), "%.120s.%s", s->t->name, name);
        snprintf(table->columns, sizeof(table->columns), "%s", columns);
    }
    mr_read_format(reader, "memory");
    mr_read_schema(reader, columns);
    return mr_read_option(reader, "table", table->key);
}

struct mr_frame *st_source(struct st *s, const char *name, const char *columns)
{
    return mr_frame_create_view(mr_read_load(st_reader(s, name, columns), NULL), name);
}

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_batch **kept = arg;

    (void)err;
    if (*kept == NULL)
        *kept = mr_batch_ref(batch);
    return MR_OK;
}

void st_rows(struct st *s, const char *name, const char *values)
{
    struct table *table = find(s, name);
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_NOT_NULL(table);
    CHECK_OK(mr_schema_parse(table->columns, strlen(table->columns), &schema, &err), &err);
    if (values[0] != '\0') {
        struct mr_buf sql = MR_BUF_INIT;

        mr_buf_add_str(&sql, "SELECT ");
        for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
            const struct mr_field *field = mr_schema_field(schema, i);
            char type[200];

            mr_type_print(&field->type, type, sizeof(type));
            mr_buf_printf(&sql, "%sCAST(c%u AS %s) AS \"%s\"", i > 0 ? ", " : "", i, type,
                          field->name);
        }
        mr_buf_printf(&sql, " FROM (VALUES %s) AS v(", values);
        for (uint32_t i = 0; i < mr_schema_field_count(schema); i++)
            mr_buf_printf(&sql, "%sc%u", i > 0 ? ", " : "", i);
        mr_buf_add_str(&sql, ")");
        CHECK_OK(mr_duck_exec(s->duck, sql.data, keep, &batch, &err), &err);
        mr_buf_release(&sql);
    }
    if (batch == NULL)
        CHECK_OK(mr_batch_empty(schema, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table->key), batch, &err), &err);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

void st_end(struct st *s, const char *name)
{
    mr_memory_end(mr_memory_table(find(s, name)->key));
}

const char *st_path(struct st *s, const char *name)
{
    return test_path(s->t, name);
}

struct mr_streaming_query *st_start(struct mr_stream_writer *writer)
{
    struct mr_streaming_query *query = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_write_start(writer, NULL, &query, &err), &err);
    return query;
}

void st_drain(struct mr_streaming_query *query)
{
    struct mr_error err = {0};

    CHECK_OK(mr_streaming_query_process_all_available(query, &err), &err);
}

void st_stop(struct mr_streaming_query *query)
{
    mr_streaming_query_stop(query, true);
    mr_streaming_query_unref(query);
}

char *st_print(const struct mr_batch *batch)
{
    struct mr_buf text = MR_BUF_INIT;
    char cell[1000];

    mr_buf_reserve(&text, 1);
    mr_buf_add_str(&text, "");
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};

        for (uint32_t k = 0; k < mr_schema_field_count(mr_batch_schema(batch)); k++) {
            mr_row_print(&row, k, cell, sizeof(cell));
            mr_buf_printf(&text, "%s%s", k > 0 ? "|" : "", cell);
        }
        mr_buf_add_char(&text, '\n');
    }
    return text.size > 0 ? mr_buf_take(&text) : (mr_buf_release(&text), mr_strdup(""));
}

const char *st_select(struct st *s, const char *sql)
{
    struct mr_batch *rows = NULL;
    struct mr_error err = {0};
    char *text;

    CHECK_OK(mr_streams_rows(s->session, sql, &rows, &err), &err);
    text = st_print(rows);
    mr_batch_unref(rows);
    sql_flow_sort(text);
    free(s->shown);
    s->shown = strdup(text);
    mr_text_free(text);
    return s->shown;
}

const char *st_name(struct st *s, const char *name)
{
    snprintf(s->name, sizeof(s->name), "%s", name);
    mr_memory_drop(name);
    return s->name;
}
