/*
 * Inside of the datagen source: what each column gets.
 */
#ifndef MR_SOURCES_DATAGEN_DATAGEN_H
#define MR_SOURCES_DATAGEN_DATAGEN_H

#include "base/alloc.h"
#include "base/check.h"

#include <millrace/ext/builder.h>
#include <millrace/ext/source.h>

enum mr_dgen_kind { MR_DGEN_SEQUENCE, MR_DGEN_RANDOM, MR_DGEN_TIME };

struct mr_dgen_column {
    struct mr_type type;
    char *name; /* of the column: begins text sequences */
    uint64_t salt;
    enum mr_dgen_kind kind;
    int64_t min;
    int64_t max;
    double min_double;
    double max_double;
    int64_t start;
    int64_t step;
    int64_t length;
    int64_t null_percent;
    int64_t rows_per_second; /* TIME: how fast event time goes */
    char *choices;           /* texts one after another, each with its NUL; NULL = none */
    uint32_t *choice_offsets;
    uint32_t choice_count;
};

/* One a column of args->schema, from the options fields.*. MR_CONFIG names the column and the key.
 * Returns new. */
enum mr_status mr_dgen_columns_new(const struct mr_source_args *args,
                                   struct mr_dgen_column **ret_columns, struct mr_error *err);
void mr_dgen_columns_free(struct mr_dgen_column *columns, uint32_t count); /* NULL allowed */

/* Appends the value of one row. */
void mr_dgen_append(const struct mr_dgen_column *column, uint64_t seed, int64_t start_us,
                    int64_t row, struct mr_batch_builder *builder, uint32_t index);
/* Is it a BIGINT or TIMESTAMP without nulls? Those are appended many rows at once, to a column that
 * has room for them. */
bool mr_dgen_is_plain(const struct mr_dgen_column *column);
void mr_dgen_append_plain(const struct mr_dgen_column *column, uint64_t seed, int64_t start_us,
                          int64_t row, int64_t count, struct mr_column_builder *out);

#endif
