/*
 * What the formats of this folder share: bad records, text to value, defaults of options.
 */
#ifndef MR_FORMATS_FORMATS_INTERNAL_H
#define MR_FORMATS_FORMATS_INTERNAL_H

#include <millrace/ext/builder.h>
#include <millrace/ext/format.h>

#include "base/check.h"
#include "base/limits.h"

extern const struct mr_format mr__format_json;
extern const struct mr_format mr__format_csv;
extern const struct mr_format mr__format_text;
extern const struct mr_format mr__format_raw;

/* Registers the four above; called by mr_plugins_register. May be called again. */
void mr_formats_register(void);

enum { MR__LINE_BYTES_MAX_DEFAULT = MR_LIMIT_LINE };
#define MR__OPTION_MAX_LINE_BYTES                                                                  \
    {                                                                                              \
        "max_line_bytes", "maxLineBytes", MR_OPTION_SIZE, MR_OPTION_SOURCE, "16 MiB", "16 B",      \
            "1 GiB", "Longest record that is decoded; a longer one is a bad record."               \
    }

/* The option's value; standard when options is NULL (decoders made by programs, tests). */
bool mr__option_bool(const struct mr_options *options, const char *name, bool standard);
size_t mr__option_size(const struct mr_options *options, const char *name, size_t standard);
const char *mr__option_text(const struct mr_options *options, const char *name,
                            const char *standard);

/* One decode call, as bad records see it. */
struct mr__bad_context {
    enum mr_on_error on_error;
    const struct mr_position *position;
    mr_bad_record_fn report;
    void *report_arg;
};

/*
 * A record that cannot be decoded: record_index and byte_index count from the start of the call's
 * data. By policy reports it (MR_OK: go on) or fails with MR_BAD_DATA that names the place and the
 * remedy.
 */
enum mr_status mr__bad_record(const struct mr__bad_context *context, uint64_t record_index,
                              uint64_t byte_index, struct mr_slice raw, const char *reason,
                              struct mr_error *err);

/* How numbers and texts become timestamps. */
enum mr__timestamp_form { MR__TIME_ISO, MR__TIME_EPOCH_S, MR__TIME_EPOCH_MS, MR__TIME_EPOCH_US };
#define MR__OPTION_TIMESTAMP_FORMAT                                                                \
    {                                                                                              \
        "timestamp_format", "timestampFormat", MR_OPTION_ENUM, MR_OPTION_SOURCE, "iso",            \
            "iso|epoch_s|epoch_ms|epoch_us", NULL,                                                 \
            "How timestamps are written: ISO 8601 text, or a number since 1970-01-01 UTC in that " \
            "unit."                                                                                \
    }
enum mr__timestamp_form mr__timestamp_form(const struct mr_options *options);

/*
 * Appends one value written as SQL text: "12", "1.50", "true", "2026-11-21 10:00:00". Blanks around
 * it are cut except for TEXT and BINARY. MR_BAD_DATA ("'12x' is not a BIGINT") leaves the column as
 * it was. Not for LIST and STRUCT.
 */
enum mr_status mr__value_from_text(struct mr_column_builder *column, const char *text,
                                   size_t size_bytes, enum mr__timestamp_form form,
                                   struct mr_error *err);
/* The same for a number token since the epoch; form is not ISO. */
enum mr_status mr__timestamp_from_number(struct mr_column_builder *column, const char *text,
                                         size_t size_bytes, enum mr__timestamp_form form,
                                         struct mr_error *err);
/* MR_BAD_DATA "'12x' is not a BIGINT". */
enum mr_status mr__not_a(const struct mr_type *type, const char *text, size_t size_bytes,
                         struct mr_error *err);

#endif
