/*
 * INSERT INTO t RECORDS (...): records as they come from outside, decoded by the table's format
 * when a batch reads them, so that what cannot be decoded takes the way that on_error says. Called
 * by tables.c (the source), evaluate.c (what was inserted).
 *
 * Thread: the test's.
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/text.h"

#include <millrace/ext/bad_records.h>

#include <string.h>

static const char *option_of(const struct mr_sql_statement *statement, const char *key)
{
    for (size_t i = 0; i < statement->option_count; i++) {
        const char *have = statement->options[i].key;

        if (mr_text_equal_nocase(have, strlen(have), key, strlen(key)))
            return statement->options[i].value;
    }
    return NULL;
}

static enum mr_status find_format(const struct mr_test_table *table,
                                  const struct mr_format **ret_format, struct mr_error *err)
{
    const struct mr_source_connector *connector = NULL;
    const char *name = NULL;

    if (table->statement != NULL) {
        name = option_of(table->statement, "connector");
        connector = name != NULL ? mr_source_find(name) : NULL;
        name = option_of(table->statement, "format");
    }
    if (name == NULL && connector != NULL && connector->takes_format)
        name = connector->default_format;
    *ret_format = name != NULL ? mr_format_find(name) : NULL;
    if (*ret_format == NULL || (*ret_format)->whole_files)
        return MR_FAIL(err, MR_SQL_ERROR,
                       "table '%s' has no format of records; insert VALUES, or give it one such as "
                       "format = 'json'",
                       table->name);
    return MR_OK;
}

/* The options of the table that are its format's. */
static enum mr_status format_options(const struct mr_test_table *table,
                                     const struct mr_format *format,
                                     struct mr_options **ret_options, struct mr_error *err)
{
    const struct mr_sql_statement *statement = table->statement;
    const struct mr_option_table own = {format->name, format->options, format->option_count};
    const struct mr_option_table *tables[1] = {&own};
    struct mr_option_pair *pairs = mr_alloc(NULL, (statement->option_count + 1) * sizeof(*pairs));
    size_t count = 0;
    enum mr_status status;

    if (pairs == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot decode records of a test: out of memory");
    for (size_t i = 0; i < statement->option_count; i++) {
        if (mr_testing__option_is_of(format->options, format->option_count,
                                     statement->options[i].key))
            pairs[count++] =
                (struct mr_option_pair){statement->options[i].key, statement->options[i].value};
    }
    status = mr_options_parse(tables, 1, pairs, count, MR_OPTION_SOURCE, ret_options, err);
    mr_free(pairs);
    return status;
}

enum mr_status mr_testing__decode(const struct mr_test_table *table, const char *records,
                                  const struct mr_schema *schema, enum mr_on_error on_error,
                                  struct mr_bad_records *bad, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    const struct mr_format *format = NULL;
    struct mr_position position = {table->name, 1, 0};
    struct mr_slice data = {records, strlen(records)};
    struct mr_decoder_args args = {
        .declared = table->schema, .schema = schema, .on_error = on_error};
    struct mr_batch_builder *builder = NULL;
    struct mr_decoder *decoder = NULL;
    struct mr_options *options = NULL;
    enum mr_status status;

    MR_TRY(find_format(table, &format, err));
    MR_TRY_GOTO(format_options(table, format, &options, err));
    args.options = options;
    MR_TRY_GOTO(format->decoder_new(&args, &decoder, err));
    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, err));
    MR_TRY_GOTO(format->decode(decoder, data, &position, builder, mr_bad_records_add, bad, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, ret_batch, err));
done:
    mr_batch_builder_free(builder);
    if (decoder != NULL)
        format->decoder_free(decoder);
    mr_options_free(options);
    return status;
}
