/*
 * Source `template`: the smallest complete source.  Copy this folder to start one of your own.
 *
 * It makes the numbers 1 .. rows in a column `n`, a few in each batch. What every source must
 * decide:
 *
 *   offset      What says "everything up to here was planned"? A text of your own that never
 *               changes its meaning: it is stored in the checkpoint and handed back
 *               after a restart, perhaps to a newer program.  Here: the last number as text.
 *   range       (start, end] must give the same rows whenever it is read. If the data behind it can
 *               vanish, say so with
 *               MR_DATA_LOSS; if it can change, with MR_SOURCE_CHANGED.  Never give other rows.
 *   partitions  How is a range cut, so that several workers can read it? By the range alone, never
 *               by the number of workers:
 *               the names and bytes of the output depend on it.
 *   limits      How much may one batch take? plan() is asked for an end offset again and again, and
 *               must not block.
 *
 * Life: open -> { plan -> split -> read, next..., close (per partition) -> committed } ... -> stop
 *
 * Thread: plan, split, committed, exhausted, stop: driver. read, next, close: any worker, so a
 * reader must not change its source.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/number_text.h"

#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { ROWS_PER_PARTITION = 1000, PARTITIONS_MAX = 64 };

/* The source: what open was told and everything that plan must keep in mind. Only the driver
 * changes it. */
struct mr_source {
    struct mr_schema *schema; /* the columns to produce: none or `n` */
    int64_t rows;
    int64_t rows_per_batch;
};

/* One partition being read. It belongs to one thread. */
struct mr_reader {
    struct mr_source *source; /* borrowed; read-only here */
    int64_t at;               /* next number */
    int64_t end;              /* last number */
    struct mr_batch_builder *builder;
};

/* Options are data: parsing, range checks, `millrace options template` and the manual come from
 * this table. */
static const struct mr_option template_options[] = {
    {"rows", NULL, MR_OPTION_INT, 0, "10", "0", NULL, "Numbers in all."},
    {"rows_per_batch", "rowsPerBatch", MR_OPTION_INT, 0, "5", "1", NULL, "Numbers of one batch."},
};

/* The columns when CREATE TABLE declares none. Made once, never freed; whoever loses the race drops
 * its copy. */
static const struct mr_schema *template_fixed_schema(const struct mr_options *options)
{
    static const char text[] = "n BIGINT";
    static _Atomic(struct mr_schema *) kept;
    struct mr_schema *schema = atomic_load(&kept);
    struct mr_schema *expected = NULL;

    MR_UNUSED(options);
    if (schema != NULL || mr_schema_parse(text, strlen(text), &schema, NULL) != MR_OK)
        return schema;
    if (!atomic_compare_exchange_strong(&kept, &expected, schema)) {
        mr_schema_unref(schema);
        schema = expected;
    }
    return schema;
}

/* Frees everything; NULL and half-made sources are fine, so open can use it on its way out. */
static void template_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status template_open(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_error *err)
{
    struct mr_source *source;

    /* Check what the user declared: an error here names the table and says what to do. */
    for (uint32_t i = 0; i < mr_schema_field_count(args->schema); i++) {
        const struct mr_field *field = mr_schema_field(args->schema, i);

        if (strcmp(field->name, "n") != 0 || field->type.id != MR_TYPE_INT64)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open template source '%s': its only column is 'n' BIGINT; leave "
                           "the columns out",
                           args->name);
    }
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open template source '%s': out of memory",
                       args->name);
    source->schema = mr_schema_ref(args->schema);
    source->rows = mr_options_int(args->options, "rows");
    source->rows_per_batch = mr_options_int(args->options, "rows_per_batch");
    *ret_source = source;
    return MR_OK;
}

/* Offsets come from the checkpoint: outside data, so they are checked. NULL is the very
 * beginning. */
static enum mr_status parse_offset(const char *text, int64_t *ret_number, struct mr_error *err)
{
    *ret_number = 0;
    if (text != NULL && (!mr_int_parse(text, strlen(text), ret_number) || *ret_number < 0))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the offset '%s' of a template source: not a number", text);
    return MR_OK;
}

static enum mr_status template_plan(struct mr_source *source, const char *start,
                                    const struct mr_plan_limits *limits, char **ret_end,
                                    struct mr_error *err)
{
    int64_t from;
    int64_t end;

    MR_TRY(parse_offset(start, &from, err));
    /* limits->ignore: the user asked for everything in one batch. */
    end = limits->ignore ? source->rows : MR_MIN(source->rows, from + source->rows_per_batch);
    *ret_end = NULL; /* nothing new */
    if (end <= from)
        return MR_OK;
    *ret_end = mr_asprintf("%" PRId64, end);
    return *ret_end != NULL
               ? MR_OK
               : MR_FAIL(err, MR_NOMEM, "cannot plan a template source: out of memory");
}

static enum mr_status parse_range(const char *start, const char *end, int64_t *ret_from,
                                  int64_t *ret_to, struct mr_error *err)
{
    MR_TRY(parse_offset(start, ret_from, err));
    MR_TRY(parse_offset(end, ret_to, err));
    return *ret_from <= *ret_to
               ? MR_OK
               : MR_FAIL(err, MR_CORRUPT,
                         "cannot read a template source: the range ends before it starts");
}

static uint32_t partition_count(int64_t rows)
{
    return (uint32_t)MR_MIN((rows + ROWS_PER_PARTITION - 1) / ROWS_PER_PARTITION,
                            (int64_t)PARTITIONS_MAX);
}

static enum mr_status template_split(struct mr_source *source, const char *start, const char *end,
                                     uint32_t *ret_partitions, uint64_t *ret_bytes,
                                     struct mr_error *err)
{
    int64_t from;
    int64_t to;

    MR_UNUSED(source);
    MR_TRY(parse_range(start, end, &from, &to, err));
    *ret_partitions = partition_count(to - from);
    *ret_bytes = (uint64_t)(to - from) * sizeof(int64_t);
    return MR_OK;
}

static void template_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_builder_free(reader->builder);
    mr_free(reader);
}

static enum mr_status template_read(struct mr_source *source, const char *start, const char *end,
                                    uint32_t partition, struct mr_reader **ret_reader,
                                    struct mr_error *err)
{
    struct mr_reader *reader;
    int64_t from;
    int64_t to;
    int64_t each;
    enum mr_status status;

    MR_TRY(parse_range(start, end, &from, &to, err));
    MR_ASSERT(partition < partition_count(to - from));
    each = (to - from + partition_count(to - from) - 1) / partition_count(to - from);
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a template source: out of memory");
    reader->source = source;
    reader->at = MR_MIN(from + each * partition, to) + 1;
    reader->end = MR_MIN(from + each * (partition + 1), to);
    status = mr_batch_builder_new(source->schema, &reader->builder, err);
    if (status != MR_OK) {
        template_close(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

/* Batches of up to about a megabyte; NULL at the end of the partition. */
static enum mr_status template_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    *ret_batch = NULL;
    if (reader->at > reader->end)
        return MR_OK;
    for (; reader->at <= reader->end; reader->at++) {
        /* A query that needs no column still counts rows. */
        if (mr_schema_field_count(reader->source->schema) > 0)
            mr_batch_builder_int(reader->builder, 0, reader->at);
        mr_batch_builder_end_row(reader->builder);
    }
    /* A failed append sticks in the builder: one check is enough. */
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

/* Everything up to end is durable downstream. A source with a peer acknowledges here; it may be
 * called late or never. */
static void template_committed(struct mr_source *source, const char *end)
{
    MR_UNUSED(source);
    MR_UNUSED(end);
}

/* True lets a query that reads nothing else finish by itself. */
static bool template_exhausted(struct mr_source *source, const char *end)
{
    int64_t number;

    return parse_offset(end, &number, NULL) == MR_OK && number >= source->rows;
}

static const struct mr_source_ops template_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = template_plan,
    .split = template_split,
    .read = template_read,
    .next = template_next,
    .close = template_close,
    .committed = template_committed,
    .exhausted = template_exhausted,
    .stop = template_stop,
};

/* The folder's name makes the symbol's: the build registers mr_source_<folder>_connector by
 * itself. */
extern const struct mr_source_connector mr_source_template_connector;
const struct mr_source_connector mr_source_template_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "template",
    .summary = "Makes the numbers 1 .. rows; a pattern for sources of your own.",
    .guarantee = "replayable",
    .options = template_options,
    .option_count = MR_ARRAY_SIZE(template_options),
    .fixed_schema = template_fixed_schema,
    .open = template_open,
    .ops = &template_ops,
};
