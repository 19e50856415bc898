/*
 * Functions of a program, kept until a query is planned.
 *
 *     by row     batch --row by row--> emitter --> column
 *     by batch   batch --> the function's builder
 *     table      batch --row by row--> emitter of its columns --> a list of structs a row
 *     aggregate  bytes of a group (ops.h: struct mr_agg_user); finish --> emitter --> one value
 *
 * Programs and libraries add (mr_functions_add_*), the SQL side reads (functions.h). Thread: see
 * functions.h; calls: the evaluating worker's.
 */
#include "fn/functions.h"

#include "base/limits.h"
#include "base/text.h"
#include "duck/function.h"
#include "fn/fn.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { GROUP_BYTES_MAX = MR_LIMIT_STATE_FUNCTION_VALUE, FUNCTIONS_MAX = MR_LIMIT_FUNCTIONS };

enum kind { KIND_ROW, KIND_BATCH, KIND_TABLE, KIND_AGGREGATE };

struct function {
    enum kind kind;
    char *name;
    struct mr_schema *arguments; /* NULL: none */
    struct mr_schema *result;    /* one column */
    struct mr_schema *columns;   /* TABLE: fields of the structs */
    mr_row_fn row;
    mr_batch_fn batch;
    struct mr_aggregate_function aggregate;
    void *arg;
    bool keeps_nulls;
    bool is_volatile;
    struct mr_duck_function duck;
    struct mr_agg_user user;
    struct function *next;
};

struct mr_functions {
    struct function *first;
    size_t count;
    size_t checked; /* of these, how many were compared with SQL's own, by the first instance */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot add a function: out of memory");
}

/* ---- the list ---- */

static void function_free(struct function *function)
{
    if (function == NULL)
        return;
    mr_free(function->name);
    mr_schema_unref(function->arguments);
    mr_schema_unref(function->result);
    mr_schema_unref(function->columns);
    mr_free(function);
}

enum mr_status mr_functions_new(struct mr_functions **ret_functions, struct mr_error *err)
{
    *ret_functions = mr_alloc_zero(NULL, sizeof(**ret_functions));
    return *ret_functions != NULL ? MR_OK : no_memory(err);
}

void mr_functions_free(struct mr_functions *functions)
{
    if (functions == NULL)
        return;
    for (struct function *one = functions->first; one != NULL;) {
        struct function *next = one->next;

        function_free(one);
        one = next;
    }
    mr_free(functions);
}

static struct function *find(const struct mr_functions *functions, const char *name)
{
    for (struct function *one = functions->first; one != NULL; one = one->next) {
        if (mr_text_equal_nocase(one->name, strlen(one->name), name, strlen(name)))
            return one;
    }
    return NULL;
}

static bool is_name(const char *name)
{
    size_t length = name != NULL ? strlen(name) : 0;

    for (size_t i = 0; i < length; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
              (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return length > 0 && length <= 60;
}

/* ---- calls ---- */

/* Is there a null among the arguments of a row? */
static bool any_null(const struct mr_batch *rows, uint32_t columns, int64_t row)
{
    for (uint32_t i = 0; i < columns; i++) {
        if (mr_column_is_null(mr_batch_column(rows, i), row))
            return true;
    }
    return false;
}

static uint32_t argument_count(const struct function *function)
{
    return function->arguments != NULL ? mr_schema_field_count(function->arguments) : 0;
}

/* What the emitter has becomes rows at the end of out. */
static enum mr_status take_emitted(struct mr_emitter *emitter, struct mr_batch_builder *out,
                                   struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    MR_TRY(mr__emitter_finish(emitter, &batch, err));
    mr_batch_builder_append(out, batch);
    mr_batch_unref(batch);
    return MR_OK;
}

static enum mr_status call_row(const void *arg, const struct mr_batch *rows,
                               struct mr_batch_builder *out, struct mr_error *err)
{
    const struct function *function = arg;
    uint32_t columns = argument_count(function);
    struct mr_emitter emitter = {0};
    enum mr_status status = mr__emitter_init(&emitter, function->result, err);

    for (int64_t i = 0; status == MR_OK && i < mr_batch_row_count(rows); i++) {
        struct mr_row row = {rows, i};

        if (!function->keeps_nulls && any_null(rows, columns, i)) {
            mr_emit_null(&emitter);
            continue;
        }
        mr__inside_user_code++;
        function->row(&row, &emitter, function->arg);
        mr__inside_user_code--;
        status = mr__emitter_check(&emitter, err);
        if (status == MR_OK && mr__emitter_rows(&emitter) != i + 1)
            status =
                mr__emitter_count_is_wrong(&emitter, function->name, "one value for each row", err);
    }
    if (status == MR_OK)
        status = take_emitted(&emitter, out, err);
    mr__emitter_release(&emitter);
    return status;
}

static enum mr_status call_batch(const void *arg, const struct mr_batch *rows,
                                 struct mr_batch_builder *out, struct mr_error *err)
{
    const struct function *function = arg;
    enum mr_status status;

    mr__inside_user_code++;
    status = function->batch(rows, out, function->arg, err);
    mr__inside_user_code--;
    return status;
}

/* The rows that one call emitted become the items of one list. */
static enum mr_status add_list(const struct function *function, struct mr_emitter *emitter,
                               struct mr_batch_builder *out, struct mr_error *err)
{
    struct mr_column_builder *list = mr_batch_builder_column(out, 0);
    struct mr_column_builder *item = &list->children[0];
    uint32_t fields = mr_schema_field_count(function->columns);
    struct mr_batch *rows = NULL;
    enum mr_status status = MR_OK;

    MR_TRY(mr__emitter_finish(emitter, &rows, err));
    for (int64_t row = 0; status == MR_OK && row < mr_batch_row_count(rows); row++) {
        for (uint32_t i = 0; status == MR_OK && i < fields; i++)
            status = mr_column_builder_copy(&item->children[i], mr_batch_column(rows, i), row, err);
        if (status == MR_OK)
            status = mr_column_builder_struct_end(item, err);
    }
    if (status == MR_OK)
        status = mr_column_builder_list_end(list, err);
    mr_batch_unref(rows);
    return status != MR_OK ? status : mr_batch_builder_rows_added(out, 1, err);
}

static enum mr_status call_table(const void *arg, const struct mr_batch *rows,
                                 struct mr_batch_builder *out, struct mr_error *err)
{
    const struct function *function = arg;
    uint32_t columns = argument_count(function);
    struct mr_emitter emitter = {0};
    enum mr_status status = mr__emitter_init(&emitter, function->columns, err);

    for (int64_t i = 0; status == MR_OK && i < mr_batch_row_count(rows); i++) {
        struct mr_row row = {rows, i};

        if (function->keeps_nulls || !any_null(rows, columns, i)) {
            mr__inside_user_code++;
            function->row(&row, &emitter, function->arg);
            mr__inside_user_code--;
        }
        status = add_list(function, &emitter, out, err);
    }
    mr__emitter_release(&emitter);
    return status;
}

/* ---- aggregates ---- */

struct mr_group_bytes {
    struct mr_buf *buf;
    size_t from; /* where the group's bytes begin */
    bool failed;
};

void *mr_group_bytes_data(struct mr_group_bytes *bytes, size_t *ret_size)
{
    *ret_size = bytes->buf->size - bytes->from;
    return bytes->buf->data != NULL ? bytes->buf->data + bytes->from : NULL;
}

void *mr_group_bytes_resize(struct mr_group_bytes *bytes, size_t size)
{
    size_t have = bytes->buf->size - bytes->from;

    if (size > GROUP_BYTES_MAX || (size > have && !mr_buf_reserve(bytes->buf, size - have))) {
        bytes->failed = true;
        return NULL;
    }
    if (size > have)
        memset(bytes->buf->data + bytes->buf->size, 0, size - have);
    bytes->buf->size = bytes->from + size;
    return bytes->buf->data + bytes->from;
}

static enum mr_status too_large(const struct function *function, struct mr_error *err)
{
    return MR_FAIL(err, MR_LIMIT,
                   "aggregate '%s' keeps more than %d bytes of one group, or memory ran out; keep "
                   "less",
                   function->name, GROUP_BYTES_MAX);
}

static enum mr_status user_begin(const void *arg, struct mr_buf *bytes, struct mr_error *err)
{
    const struct function *function = arg;
    struct mr_group_bytes group = {bytes, bytes->size, false};

    (void)mr_group_bytes_resize(&group, function->aggregate.start_bytes);
    return group.failed ? too_large(function, err) : MR_OK;
}

static enum mr_status user_update(const void *arg, const struct mr_batch *rows, int64_t row,
                                  struct mr_buf *bytes, struct mr_error *err)
{
    const struct function *function = arg;
    struct mr_group_bytes group = {bytes, 0, false};
    struct mr_row at = {rows, row};

    mr__inside_user_code++;
    function->aggregate.update(&group, &at, function->arg);
    mr__inside_user_code--;
    return group.failed ? too_large(function, err) : MR_OK;
}

/* Stored bytes stand anywhere: functions get copies that are aligned for any type. */
static enum mr_status user_merge(const void *arg, struct mr_slice other, struct mr_buf *bytes,
                                 size_t from, struct mr_error *err)
{
    const struct function *function = arg;
    struct mr_buf mine = MR_BUF_INIT, theirs = MR_BUF_INIT;
    struct mr_group_bytes group = {&mine, 0, false};
    enum mr_status status = MR_OK;

    mr_buf_add(&mine, bytes->data + from, bytes->size - from);
    mr_buf_add(&theirs, other.data, other.size_bytes);
    if (mine.failed || theirs.failed) {
        status = too_large(function, err);
        goto done;
    }
    mr__inside_user_code++;
    function->aggregate.merge(&group, theirs.data, theirs.size, function->arg);
    mr__inside_user_code--;
    bytes->size = from;
    mr_buf_add(bytes, mine.data, mine.size);
    if (group.failed || bytes->failed)
        status = too_large(function, err);
done:
    mr_buf_release(&mine);
    mr_buf_release(&theirs);
    return status;
}

static enum mr_status user_finish(const void *arg, struct mr_slice bytes,
                                  struct mr_column_builder *out, struct mr_error *err)
{
    const struct function *function = arg;
    struct mr_emitter emitter = {0};
    struct mr_batch *batch = NULL;
    struct mr_buf copy = MR_BUF_INIT;
    enum mr_status status = mr__emitter_init(&emitter, function->result, err);

    if (status != MR_OK)
        return status;
    mr_buf_add(&copy, bytes.data, bytes.size_bytes);
    if (copy.failed) {
        mr__emitter_release(&emitter);
        return too_large(function, err);
    }
    mr__inside_user_code++;
    function->aggregate.finish(copy.data, copy.size, &emitter, function->arg);
    mr__inside_user_code--;
    mr_buf_release(&copy);
    status = mr__emitter_check(&emitter, err);
    if (status == MR_OK && mr__emitter_rows(&emitter) != 1)
        status = mr__emitter_count_is_wrong(&emitter, function->name, "one value", err);
    if (status == MR_OK)
        status = mr__emitter_finish(&emitter, &batch, err);
    if (status == MR_OK)
        status = mr_column_builder_copy(out, mr_batch_column(batch, 0), 0, err);
    mr_batch_unref(batch);
    mr__emitter_release(&emitter);
    if (status != MR_OK && err != NULL)
        mr_error_prefix(err, "aggregate '%s'", function->name);
    return status;
}

/* ---- adding ---- */

static enum mr_status parse(const char *text, struct mr_schema **ret_schema, struct mr_error *err)
{
    return mr_schema_parse(text, strlen(text), ret_schema, err);
}

/* A type alone, as a schema of one column. */
static enum mr_status parse_type(const char *type, struct mr_schema **ret_schema,
                                 struct mr_error *err)
{
    char *text = mr_asprintf("value %s", type);
    enum mr_status status = text != NULL ? parse(text, ret_schema, err) : no_memory(err);

    mr_free(text);
    return status;
}

/* Columns as a list of structs. */
static enum mr_status make_list(const struct mr_schema *columns, struct mr_schema **ret_schema,
                                struct mr_error *err)
{
    struct mr_field item = {.name = "item"};
    struct mr_field value = {.name = "value"};

    item.type = (struct mr_type){.id = MR_TYPE_STRUCT,
                                 .field_count = mr_schema_field_count(columns),
                                 .fields = mr_schema_field(columns, 0)};
    value.type = (struct mr_type){.id = MR_TYPE_LIST, .field_count = 1, .fields = &item};
    return mr_schema_new(&value, 1, ret_schema, err);
}

static enum mr_status check_new(const struct mr_functions *functions, const char *name,
                                struct mr_error *err)
{
    if (!is_name(name))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add a function '%s': its name must be letters, digits and '_'",
                       name != NULL ? name : "");
    if (find(functions, name) != NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add the function '%s' twice; give one of them another name", name);
    if (functions->count == FUNCTIONS_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot add more than %d functions", FUNCTIONS_MAX);
    return MR_OK;
}

/* Takes what was made, also on failure. */
static enum mr_status add(struct mr_functions *functions, const struct function *made,
                          const char *name, const char *arguments, struct mr_error *err)
{
    struct function *function = mr_alloc(NULL, sizeof(*function));
    enum mr_status status = MR_OK;

    if (function == NULL) {
        mr_schema_unref(made->result);
        mr_schema_unref(made->columns);
        return no_memory(err);
    }
    *function = *made;
    function->name = mr_strdup(name);
    if (arguments != NULL && arguments[0] != '\0')
        status = parse(arguments, &function->arguments, err);
    if (status == MR_OK && function->name == NULL)
        status = no_memory(err);
    if (status != MR_OK) {
        function_free(function);
        return status;
    }
    function->duck = (struct mr_duck_function){.name = function->name,
                                               .arguments = function->arguments,
                                               .result = function->result,
                                               .call = function->kind == KIND_ROW     ? call_row
                                                       : function->kind == KIND_BATCH ? call_batch
                                                                                      : call_table,
                                               .arg = function,
                                               .is_volatile = function->is_volatile};
    function->user = (struct mr_agg_user){.name = function->name,
                                          .arguments = function->arguments,
                                          .result = function->result,
                                          .arg = function,
                                          .begin = user_begin,
                                          .update = user_update,
                                          .merge = user_merge,
                                          .finish = user_finish};
    function->next = functions->first;
    functions->first = function;
    functions->count++;
    return MR_OK;
}

enum mr_status mr_functions_add_scalar(struct mr_functions *functions,
                                       const struct mr_scalar_function *function,
                                       struct mr_error *err)
{
    struct function made = {.kind = function->row != NULL ? KIND_ROW : KIND_BATCH,
                            .row = function->row,
                            .batch = function->batch,
                            .arg = function->arg,
                            .keeps_nulls = function->keeps_nulls,
                            .is_volatile = function->is_volatile};

    MR_TRY(check_new(functions, function->name, err));
    if ((function->row != NULL) == (function->batch != NULL) || function->result == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add the function '%s': give result, and one of row and batch",
                       function->name);
    MR_TRY(parse_type(function->result, &made.result, err));
    return add(functions, &made, function->name, function->arguments, err);
}

enum mr_status mr_functions_add_table(struct mr_functions *functions,
                                      const struct mr_table_function *function,
                                      struct mr_error *err)
{
    struct function made = {.kind = KIND_TABLE,
                            .row = function->row,
                            .arg = function->arg,
                            .keeps_nulls = function->keeps_nulls,
                            .is_volatile = function->is_volatile};
    enum mr_status status;

    MR_TRY(check_new(functions, function->name, err));
    if (function->row == NULL || function->columns == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot add the function '%s': give row and columns",
                       function->name);
    MR_TRY(parse(function->columns, &made.columns, err));
    status = make_list(made.columns, &made.result, err);
    if (status != MR_OK) {
        mr_schema_unref(made.columns);
        return status;
    }
    return add(functions, &made, function->name, function->arguments, err);
}

enum mr_status mr_functions_add_aggregate(struct mr_functions *functions,
                                          const struct mr_aggregate_function *function,
                                          struct mr_error *err)
{
    struct function made = {.kind = KIND_AGGREGATE, .aggregate = *function, .arg = function->arg};

    MR_TRY(check_new(functions, function->name, err));
    if (function->update == NULL || function->merge == NULL || function->finish == NULL ||
        function->result == NULL || function->arguments == NULL || function->arguments[0] == '\0')
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add the aggregate '%s': give arguments, result, update, merge and "
                       "finish",
                       function->name);
    MR_TRY(parse_type(function->result, &made.result, err));
    return add(functions, &made, function->name, function->arguments, err);
}

/* ---- the SQL side ---- */

static enum mr_status keep_name(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_buf *name = arg;
    struct mr_slice text;

    MR_UNUSED(err);
    if (mr_batch_row_count(batch) == 0 || name->size > 0)
        return MR_OK;
    text = mr_column_text(mr_batch_column(batch, 0), 0);
    mr_buf_add(name, text.data, text.size_bytes);
    return MR_OK;
}

/* A function that takes the place of one of SQL's would change what other expressions mean. */
static enum mr_status check_names(struct mr_functions *functions, struct mr_duck *duck,
                                  struct mr_error *err)
{
    struct mr_buf sql = MR_BUF_INIT, taken = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_str(&sql, "SELECT function_name FROM duckdb_functions() WHERE "
                         "lower(function_name) IN (''");
    for (struct function *one = functions->first; one != NULL; one = one->next)
        mr_buf_printf(&sql, ", lower('%s')", one->name); /* letters, digits, '_' */
    mr_buf_add_str(&sql, ") ORDER BY 1 LIMIT 1");
    status = sql.failed ? no_memory(err) : mr_duck_exec(duck, sql.data, keep_name, &taken, err);
    if (status == MR_OK && taken.size > 0)
        status = MR_FAIL(err, MR_CONFIG,
                         "cannot add the function '%s': SQL has one of that name; give it another",
                         taken.data);
    mr_buf_release(&sql);
    mr_buf_release(&taken);
    return status;
}

enum mr_status mr_functions_add_to(struct mr_functions *functions, struct mr_duck *duck,
                                   struct mr_error *err)
{
    if (functions->checked != functions->count)
        MR_TRY(check_names(functions, duck, err));
    functions->checked = functions->count;
    for (struct function *one = functions->first; one != NULL; one = one->next) {
        if (one->kind != KIND_AGGREGATE)
            MR_TRY(mr_duck_add_function(duck, &one->duck, err));
    }
    return MR_OK;
}

const struct mr_agg_user *mr_functions_aggregate(const struct mr_functions *functions,
                                                 const char *name)
{
    const struct function *one = find(functions, name);

    return one != NULL && one->kind == KIND_AGGREGATE ? &one->user : NULL;
}
