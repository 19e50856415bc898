/*
 * Parquet as a whole-file format: read_parquet and COPY ... TO behind struct mr_format. Called by
 * the file source and sink.
 *
 *     reader   SELECT the wanted columns, cast to the declared types, in file order; batches of
 *              about a megabyte
 *     writer   keeps the batches it is given (shared, not copied) and writes the file in one COPY
 *              at close
 *
 * The same rows give the same bytes: one thread, fixed row group size and compression, no temporary
 * file, and the only text of the library in the file is its version.
 *
 * Readers and writers are opened on any worker; each borrows an instance from a small pool, which
 * opens one more when it is empty (8 ms) and keeps at most POOL_MAX for the next.
 *
 * Thread: one reader or writer belongs to one thread at a time; the pool has a lock.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "data/codec.h"
#include "duck/internal.h"
#include "env/pin.h"
#include "env/thread.h"

#include <millrace/ext/format.h>

#include <string.h>

enum { POOL_MAX = 8, COPY_BYTES_MAX = MR_LIMIT_PARQUET_OUTPUT };

/* ---- The pool ---- */

static struct mr_mutex pool_lock = {PTHREAD_MUTEX_INITIALIZER};
static struct mr_duck *pool[POOL_MAX]; /* under pool_lock */
static size_t pool_count;              /* under pool_lock */

static enum mr_status pool_take(struct mr_duck **ret_duck, struct mr_error *err)
{
    struct mr_duck *duck = NULL;

    mr_mutex_lock(&pool_lock);
    if (pool_count > 0)
        duck = pool[--pool_count];
    mr_mutex_unlock(&pool_lock);
    if (duck == NULL)
        return mr_duck_open(ret_duck, err);
    *ret_duck = duck;
    return MR_OK;
}

static void pool_give(struct mr_duck *duck)
{
    mr_mutex_lock(&pool_lock);
    if (duck != NULL && pool_count < POOL_MAX) {
        pool[pool_count++] = duck;
        duck = NULL;
    }
    mr_mutex_unlock(&pool_lock);
    mr_duck_close(duck);
}

/* ---- Statements ---- */

/* 'path'; for the reader the characters of a pattern mean themselves. */
static void add_path(struct mr_buf *sql, const char *given, bool pattern)
{
    char *pinned = mr_env_pin_path(given);
    const char *path = pinned != NULL ? pinned : given;

    mr_buf_add_char(sql, '\'');
    for (; *path != '\0'; path++) {
        if (*path == '\'')
            mr_buf_add_char(sql, '\'');
        if (pattern && (*path == '*' || *path == '?' || *path == '['))
            mr_buf_printf(sql, "[%c]", *path);
        else
            mr_buf_add_char(sql, *path);
    }
    mr_buf_add_char(sql, '\'');
    sql->failed = sql->failed || pinned == NULL;
    mr_free(pinned);
}

static void add_name(struct mr_buf *sql, const char *name)
{
    mr_buf_add_char(sql, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            mr_buf_add_char(sql, '"');
        mr_buf_add_char(sql, *name);
    }
    mr_buf_add_char(sql, '"');
}

static void add_type(struct mr_buf *sql, const struct mr_type *type)
{
    size_t size = mr__type_print_sql(type, NULL, 0) + 1;

    if (!mr_buf_reserve(sql, size))
        return;
    mr__type_print_sql(type, sql->data + sql->size, size);
    sql->size += size - 1;
}

static void add_select(struct mr_buf *sql, const struct mr_schema *schema)
{
    uint32_t count = schema != NULL ? mr_schema_field_count(schema) : 0;

    mr_buf_add_str(sql, count == 0 ? "SELECT *" : "SELECT ");
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_field *field = mr_schema_field(schema, i);

        mr_buf_add_str(sql, i > 0 ? ", CAST(" : "CAST(");
        add_name(sql, field->name);
        mr_buf_add_str(sql, " AS ");
        add_type(sql, &field->type);
        mr_buf_add_str(sql, ") AS ");
        add_name(sql, field->name);
    }
}

static enum mr_status out_of_memory(const char *path, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot use parquet file '%s': out of memory", path);
}

/* What is wrong with a file is bad data, whatever DuckDB calls it; a file that is not there is
 * not. */
static enum mr_status fail_file(const char *path, enum mr_status status, struct mr_error *err)
{
    if (err == NULL)
        return status == MR_SQL_ERROR ? MR_BAD_DATA : status;
    if (status == MR_SQL_ERROR || strstr(err->text, "magic bytes") != NULL ||
        strstr(err->text, "too small") != NULL)
        err->status = MR_BAD_DATA;
    err->sql_line = 0;
    err->sql_column = 0;
    return mr_error_prefix(err, "cannot read parquet file '%s'", path);
}

/* ---- Reading ---- */

struct reader {
    struct mr_duck *duck;
    struct mr_duck_stmt *stmt;
    duckdb_result result;
    char *path;
    bool end;
};

static void reader_free(void *object)
{
    struct reader *reader = object;

    if (reader == NULL)
        return;
    if (reader->duck != NULL)
        reader->duck->api->duckdb_destroy_result(&reader->result);
    mr_duck_stmt_free(reader->stmt);
    pool_give(reader->duck);
    mr_free(reader->path);
    mr_free(reader);
}

static enum mr_status reader_open(const char *path, const struct mr_schema *schema,
                                  struct reader **ret_reader, struct mr_error *err)
{
    struct reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    if (reader == NULL)
        return out_of_memory(path, err);
    reader->path = mr_strdup(path);
    add_select(&sql, schema);
    mr_buf_add_str(&sql, " FROM read_parquet(");
    add_path(&sql, path, true);
    mr_buf_add_str(&sql, ", hive_partitioning = false)");
    if (sql.failed || reader->path == NULL) {
        status = out_of_memory(path, err);
        goto done;
    }
    MR_TRY_GOTO(pool_take(&reader->duck, err));
    status = mr_duck_prepare(reader->duck, sql.data, NULL, 0, &reader->stmt, err);
    if (status != MR_OK)
        status = fail_file(path, status, err);
done:
    mr_buf_release(&sql);
    if (status == MR_OK)
        *ret_reader = reader;
    else
        reader_free(reader);
    return status;
}

static enum mr_status reader_new(const char *path, const struct mr_decoder_args *args,
                                 void **ret_reader, struct mr_error *err)
{
    struct reader *reader = NULL;

    MR_TRY(reader_open(path, args->schema, &reader, err));
    MR_ASSERT(reader != NULL);
    if (reader->duck->api->duckdb_execute_prepared_streaming(reader->stmt->prepared,
                                                             &reader->result) != DuckDBSuccess) {
        enum mr_status status =
            mr_duck__fail(err, reader->duck->api->duckdb_result_error(&reader->result), NULL, NULL);

        status = fail_file(path, status, err);
        reader_free(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status reader_next(void *object, struct mr_batch **ret_batch, struct mr_error *err)
{
    struct reader *reader = object;
    struct mr_batch_builder *builder = reader->stmt->builder;

    if (!reader->end) {
        enum mr_status status = mr_duck__fetch(reader->duck, &reader->result, reader->stmt->readers,
                                               builder, NULL, NULL, &reader->end, err);
        if (status != MR_OK)
            return fail_file(reader->path, status, err);
    }
    if (mr_batch_builder_row_count(builder) == 0) {
        *ret_batch = NULL;
        return MR_OK;
    }
    return mr_batch_builder_finish(builder, ret_batch, err);
}

static enum mr_status schema_of(const char *path, struct mr_schema **ret_schema,
                                struct mr_error *err)
{
    struct reader *reader = NULL;

    MR_TRY(reader_open(path, NULL, &reader, err));
    MR_ASSERT(reader != NULL);
    *ret_schema = mr_schema_ref(reader->stmt->schema);
    reader_free(reader);
    return MR_OK;
}

/* ---- Writing ---- */

struct writer {
    char *path;
    struct mr_schema *schema;
    const char *compression; /* static text of the option table, or the option's own */
    int64_t row_group_rows;
    struct mr_batch **batches;
    size_t count;
    size_t capacity;
    size_t bytes;
};

static const struct mr_option parquet_options[] = {
    {"compression", "parquet.compression", MR_OPTION_ENUM, MR_OPTION_SINK, "zstd",
     "zstd|snappy|gzip|lz4|uncompressed", NULL, "How the pages of a written file are compressed."},
    {"row_group_rows", "rowGroupSize", MR_OPTION_INT, MR_OPTION_SINK, "122880", "2048", "10000000",
     "Rows of one row group of a written file."},
};

static void writer_free(struct writer *writer)
{
    for (size_t i = 0; i < writer->count; i++)
        mr_batch_unref(writer->batches[i]);
    mr_free(writer->batches);
    mr_schema_unref(writer->schema);
    mr_free(writer->path);
    mr_free(writer);
}

static enum mr_status writer_new(const char *path, const struct mr_schema *schema,
                                 const struct mr_options *options, void **ret_writer,
                                 struct mr_error *err)
{
    struct writer *writer = mr_alloc_zero(NULL, sizeof(*writer));

    if (writer == NULL)
        return out_of_memory(path, err);
    writer->path = mr_strdup(path);
    writer->schema = mr_schema_ref(schema);
    writer->compression = options != NULL ? mr_options_text(options, "compression") : "zstd";
    writer->row_group_rows = options != NULL ? mr_options_int(options, "row_group_rows") : 122880;
    if (writer->path == NULL) {
        writer_free(writer);
        return out_of_memory(path, err);
    }
    *ret_writer = writer;
    return MR_OK;
}

static enum mr_status writer_write(void *object, const struct mr_batch *batch, struct mr_error *err)
{
    struct writer *writer = object;

    if (writer->bytes > COPY_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot write parquet file '%s': more than 1 GiB of rows in one batch and "
                       "partition; make "
                       "batches smaller with the source's limits",
                       writer->path);
    if (writer->count == writer->capacity) {
        size_t capacity = writer->capacity > 0 ? writer->capacity * 2 : 16;
        struct mr_batch **grown = mr_realloc(NULL, writer->batches, capacity * sizeof(*grown));

        if (grown == NULL)
            return out_of_memory(writer->path, err);
        writer->batches = grown;
        writer->capacity = capacity;
    }
    writer->batches[writer->count++] = mr_batch_ref(batch);
    writer->bytes += mr_batch_bytes(batch);
    return MR_OK;
}

static enum mr_status write_file(struct writer *writer, struct mr_error *err)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_duck *duck = NULL;
    enum mr_status status = MR_OK;

    mr_buf_add_str(&sql, "COPY (FROM rows) TO ");
    add_path(&sql, writer->path, false);
    mr_buf_printf(&sql,
                  " (FORMAT parquet, COMPRESSION %s, ROW_GROUP_SIZE %lld, USE_TMP_FILE false)",
                  writer->compression, (long long)writer->row_group_rows);
    if (sql.failed) {
        status = out_of_memory(writer->path, err);
        goto done;
    }
    MR_TRY_GOTO(pool_take(&duck, err));
    status = mr_duck__run_over(duck, sql.data, writer->schema, writer->batches, writer->count, err);
    if (status != MR_OK && err != NULL) {
        err->sql_line = 0;
        err->sql_column = 0;
        mr_error_prefix(err, "cannot write parquet file '%s'", writer->path);
    }
done:
    pool_give(duck);
    mr_buf_release(&sql);
    return status;
}

static enum mr_status writer_close(void *object, struct mr_error *err)
{
    struct writer *writer = object;
    enum mr_status status = write_file(writer, err);

    writer_free(writer);
    return status;
}

void mr_duck_register_parquet(void)
{
    static const struct mr_format format = {
        .struct_size = sizeof(format),
        .name = "parquet",
        .summary = "Parquet files, read and written whole.",
        .options = parquet_options,
        .option_count = MR_ARRAY_SIZE(parquet_options),
        .whole_files = true,
        .file_reader_new = reader_new,
        .file_reader_next = reader_next,
        .file_reader_free = reader_free,
        .file_schema = schema_of,
        .file_writer_new = writer_new,
        .file_writer_write = writer_write,
        .file_writer_close = writer_close,
        .extension = "parquet",
    };

    mr_format_register(&format);
}
