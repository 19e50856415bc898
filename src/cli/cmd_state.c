/*
 * millrace state ls|get|export DIR: looks into the state of a checkpoint, offline or beside a
 * running query.
 *
 * Keys are shown by the key schema in the checkpoint. Values whose schema is a column list are
 * shown as columns; others (the buffers of aggregates that have no column form) as hexadecimal
 * bytes.
 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "data/row_codec.h"
#include "ops/ops.h"
#include "state/state.h"

#include <stdio.h>
#include <string.h>

struct printer {
    struct mr_schema *keys;   /* NULL: key bytes are shown as hexadecimal */
    struct mr_schema *values; /* NULL: the same for values */
    struct mr_buf line;
    struct mr_agg_layout *layout; /* of a store of kind "aggregate": its rows are results */
    const char *wanted;           /* get: text form that the key must have, else NULL */
    uint64_t printed;
    enum mr_status status;
    struct mr_error err;
};

static void add_hex(struct mr_json_out *out, const char *key, const char *data, size_t size_bytes)
{
    static const char digits[] = "0123456789abcdef";
    struct mr_buf text = MR_BUF_INIT;

    for (size_t i = 0; i < size_bytes; i++) {
        mr_buf_add_char(&text, digits[((unsigned char)data[i]) >> 4]);
        mr_buf_add_char(&text, digits[((unsigned char)data[i]) & 15]);
    }
    mr_json_add_string(out, key, text.data != NULL ? text.data : "");
    mr_buf_release(&text);
}

/* Adds every column of the one row in batch as a member. */
static void add_columns(struct mr_json_out *out, const struct mr_batch *batch)
{
    const struct mr_schema *schema = mr_batch_schema(batch);
    struct mr_row row = {batch, 0};

    for (uint32_t c = 0; c < mr_schema_field_count(schema); c++) {
        const struct mr_field *field = mr_schema_field(schema, c);
        char text[1024];
        size_t size_bytes = mr_row_print(&row, c, text, sizeof(text));
        bool is_number = field->type.id >= MR_TYPE_INT8 && field->type.id <= MR_TYPE_UINT64;

        if (mr_row_is_null(&row, c))
            mr_json_add_raw(out, field->name, NULL);
        else if (is_number)
            mr_json_add_raw(out, field->name, text);
        else
            mr_json_add_string_n(out, field->name, text, MR_MIN(size_bytes, sizeof(text) - 1));
    }
}

static enum mr_status decode_row(const struct mr_schema *schema, bool is_key, const char *data,
                                 size_t size_bytes, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_bytes bytes = mr_bytes_of(data, size_bytes);
    uint32_t count = mr_schema_field_count(schema);
    struct mr_column_builder *columns[64];
    enum mr_status status;

    if (count > MR_ARRAY_SIZE(columns))
        return MR_FAIL(err, MR_LIMIT, "cannot show a row of %u columns: at most 64", count);
    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    for (uint32_t c = 0; c < count; c++) {
        columns[c] = mr_batch_builder_column(builder, c);
        if (is_key)
            MR_TRY_GOTO(mr_key_decode(&bytes, &mr_schema_field(schema, c)->type, columns[c], err));
    }
    if (!is_key)
        MR_TRY_GOTO(mr_value_decode(&bytes, columns, count, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, 1, err));
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_builder_free(builder);
    return status;
}

/* The key as a person would type it: "2026-01-01 00:00:00,Oslo". */
static bool key_matches(const struct mr_batch *batch, const char *wanted)
{
    struct mr_row row = {batch, 0};
    struct mr_buf text = MR_BUF_INIT;
    bool same;

    for (uint32_t c = 0; c < mr_schema_field_count(mr_batch_schema(batch)); c++) {
        char value[1024];
        mr_row_print(&row, c, value, sizeof(value));
        mr_buf_printf(&text, "%s%s", c > 0 ? "," : "", value);
    }
    same = text.data != NULL && strcmp(text.data, wanted) == 0;
    mr_buf_release(&text);
    return same;
}

/* One group of an aggregation: key columns and results. */
static enum mr_status decode_group(const struct mr_agg_layout *layout, struct mr_slice key,
                                   struct mr_slice value, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(mr_agg_layout_output(layout), &builder, err));
    status = mr_agg_emit(layout, key, value, builder, err);
    if (status == MR_OK)
        status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static bool print_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                        void *arg)
{
    struct printer *printer = arg;
    struct mr_json_out out = {&printer->line, false};
    struct mr_batch *key_batch = NULL, *value_batch = NULL, *group = NULL;

    mr_buf_clear(&printer->line);
    if (printer->keys != NULL)
        printer->status =
            decode_row(printer->keys, true, key, key_bytes, &key_batch, &printer->err);
    if (printer->status == MR_OK && printer->values != NULL &&
        decode_row(printer->values, false, value, value_bytes, &value_batch, NULL) != MR_OK)
        value_batch = NULL; /* the value has a form of its own: bytes */
    if (printer->status == MR_OK && printer->layout != NULL &&
        decode_group(printer->layout, (struct mr_slice){key, key_bytes},
                     (struct mr_slice){value, value_bytes}, &group, NULL) != MR_OK)
        group = NULL;
    if (printer->status == MR_OK &&
        (printer->wanted == NULL ||
         (key_batch != NULL && key_matches(key_batch, printer->wanted)))) {
        mr_json_begin_object(&out, NULL);
        if (group != NULL)
            add_columns(&out, group);
        else if (key_batch != NULL)
            add_columns(&out, key_batch);
        else
            add_hex(&out, "key_hex", key, key_bytes);
        if (value_batch != NULL)
            add_columns(&out, value_batch);
        else if (group == NULL)
            add_hex(&out, "value_hex", value, value_bytes);
        mr_json_end_object(&out);
        printf("%s\n", printer->line.data != NULL ? printer->line.data : "");
        printer->printed++;
    }
    mr_batch_unref(key_batch);
    mr_batch_unref(value_batch);
    mr_batch_unref(group);
    return printer->status == MR_OK;
}

static enum mr_status list_stores(struct mr_state *state)
{
    struct mr_store_info info;

    printf("%-28s %-12s %12s %12s %8s  %s\n", "STORE", "KIND", "KEYS", "BYTES", "VERSION", "KEY");
    for (size_t i = 0; mr_state_info(state, i, &info); i++)
        printf("%-28s %-12s %12llu %12llu %8llu  %s\n", info.name, info.kind,
               (unsigned long long)info.key_count, (unsigned long long)info.memory_bytes,
               (unsigned long long)info.version, info.key_schema);
    return MR_OK;
}

static bool find_info(struct mr_state *state, const char *name, struct mr_store_info *ret_info)
{
    for (size_t i = 0; mr_state_info(state, i, ret_info); i++) {
        if (strcmp(ret_info->name, name) == 0)
            return true;
    }
    return false;
}

static enum mr_status print_store(struct mr_state *state, const char *dir, const char *name,
                                  const char *wanted, struct mr_error *err)
{
    struct printer printer = {.wanted = wanted};
    struct mr_store_info info;

    if (!find_info(state, name, &info))
        return MR_FAIL(err, MR_NOT_FOUND,
                       "no store '%s' in '%s': 'millrace state ls %s' lists them", name, dir, dir);
    if (mr_schema_parse(info.key_schema, strlen(info.key_schema), &printer.keys, NULL) != MR_OK)
        printer.keys = NULL;
    if (mr_schema_parse(info.value_schema, strlen(info.value_schema), &printer.values, NULL) !=
        MR_OK)
        printer.values = NULL;
    if (strcmp(info.kind, "aggregate") == 0 &&
        mr_agg_layout_parse(info.key_schema, info.value_schema, &printer.layout, NULL) != MR_OK)
        printer.layout = NULL;
    enum mr_status status =
        mr_store_scan_sorted(mr_state_find(state, name), NULL, 0, print_entry, &printer, err);
    if (status == MR_OK && printer.status != MR_OK) {
        status = printer.status;
        *err = printer.err;
    }
    if (status == MR_OK && wanted != NULL && printer.printed == 0)
        status = MR_FAIL(err, MR_NOT_FOUND, "no key '%s' in store '%s'", wanted, name);
    mr_schema_unref(printer.keys);
    mr_schema_unref(printer.values);
    mr_agg_layout_free(printer.layout);
    mr_buf_release(&printer.line);
    return status;
}

static enum mr_status dispatch(const struct cli_args *args, struct mr_error *err)
{
    const char *verb = args->argument_count > 0 ? args->arguments[0] : "";
    size_t wanted = strcmp(verb, "ls") == 0       ? 2
                    : strcmp(verb, "export") == 0 ? 3
                    : strcmp(verb, "get") == 0    ? 4
                                                  : 0;
    struct mr_state *state = NULL;
    enum mr_status status;

    if (wanted == 0)
        return MR_FAIL(
            err, MR_USAGE,
            "say what to do: millrace state ls DIR, get DIR STORE KEY or export DIR STORE");
    if (args->argument_count != wanted)
        return MR_FAIL(err, MR_USAGE, "wrong number of arguments: see 'millrace state --help'");
    MR_TRY(mr_state_open_reader(mr_env_posix(), args->arguments[1], &state, err));
    if (wanted == 2)
        status = list_stores(state);
    else
        status = print_store(state, args->arguments[1], args->arguments[2],
                             wanted == 4 ? args->arguments[3] : NULL, err);
    mr_state_close(state);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_args args;
    struct mr_error err = {0};

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    if (dispatch(&args, &err) != MR_OK)
        return cli_fail(&err);
    return cli_finish_stdout();
}

const struct cli_command cli_state = {
    .name = "state",
    .arguments = "ls DIR | get DIR STORE KEY | export DIR STORE",
    .summary = "Look into the state of a checkpoint, running or not",
    .details = "  ls      stores with their kind, keys, bytes and version\n"
               "  get     one key, written as its column values with ',' between: \"2026-01-01 "
               "00:00:00,Oslo\"\n"
               "  export  every key and value, sorted by key, one JSON object a line\n",
    .run = run,
};
