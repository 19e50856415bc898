/*
 * The columns of a table that declares none: its connector's own (kafka, rate, nexmark) or its
 * format's (text). Called by steps.c before rows are inserted.
 *
 * Thread: the test's.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/text.h"

#include <string.h>

static bool same(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

static const char *option_of(const struct mr_sql_statement *statement, const char *key)
{
    for (size_t i = 0; i < statement->option_count; i++) {
        if (same(statement->options[i].key, key))
            return statement->options[i].value;
    }
    return NULL;
}

bool mr_testing__option_is_of(const struct mr_option *options, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        const char *at = options[i].aliases;

        if (same(options[i].name, key))
            return true;
        while (at != NULL && *at != '\0') {
            size_t size = strcspn(at, "|");

            if (mr_text_equal_nocase(at, size, key, strlen(key)))
                return true;
            at += size + (at[size] == '|' ? 1 : 0);
        }
    }
    return false;
}

static enum mr_status connector_columns(const struct mr_source_connector *connector,
                                        const struct mr_sql_statement *statement,
                                        struct mr_schema **ret_schema, struct mr_error *err)
{
    const struct mr_option_table own = {connector->name, connector->options,
                                        connector->option_count};
    const struct mr_option_table *tables[1] = {&own};
    struct mr_option_pair *pairs = mr_alloc(NULL, (statement->option_count + 1) * sizeof(*pairs));
    struct mr_options *options = NULL;
    const struct mr_schema *schema = NULL;
    size_t count = 0;
    enum mr_status status;

    if (pairs == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read the options of a table: out of memory");
    for (size_t i = 0; i < statement->option_count; i++) {
        if (mr_testing__option_is_of(connector->options, connector->option_count,
                                     statement->options[i].key))
            pairs[count++] =
                (struct mr_option_pair){statement->options[i].key, statement->options[i].value};
    }
    status = mr_options_parse(tables, 1, pairs, count, MR_OPTION_SOURCE, &options, err);
    if (status == MR_OK)
        schema = connector->fixed_schema(options);
    if (schema != NULL)
        *ret_schema = mr_schema_ref(schema);
    mr_options_free(options);
    mr_free(pairs);
    return status;
}

enum mr_status mr_testing__table_learn(struct mr_test_table *table, struct mr_error *err)
{
    const struct mr_source_connector *connector = NULL;
    const struct mr_format *format = NULL;
    const char *name;

    if (table->schema == NULL && table->statement != NULL) {
        name = option_of(table->statement, "connector");
        connector = name != NULL ? mr_source_find(name) : NULL;
        name = option_of(table->statement, "format");
        if (name == NULL && connector != NULL)
            name = connector->default_format;
        format = name != NULL ? mr_format_find(name) : NULL;
    }
    if (table->schema == NULL && connector != NULL && connector->fixed_schema != NULL)
        MR_TRY(connector_columns(connector, table->statement, &table->schema, err));
    if (table->schema == NULL && format != NULL && format->fixed_schema != NULL)
        table->schema = mr_schema_ref(format->fixed_schema());
    return table->schema != NULL
               ? MR_OK
               : MR_FAIL(
                     err, MR_SQL_ERROR,
                     "table '%s' declares no columns; add them: CREATE TABLE %s (name TYPE, ...)",
                     table->name, table->name);
}
