/*
 * Shared by the decoders: what happens to a bad record, and values written as SQL text.
 *
 * Threads: the decoder's.
 */
#include "formats/formats_internal.h"

#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- options ---- */

bool mr__option_bool(const struct mr_options *options, const char *name, bool standard)
{
    return options == NULL ? standard : mr_options_bool(options, name);
}

size_t mr__option_size(const struct mr_options *options, const char *name, size_t standard)
{
    return options == NULL ? standard : (size_t)mr_options_int(options, name);
}

const char *mr__option_text(const struct mr_options *options, const char *name,
                            const char *standard)
{
    const char *text = options == NULL ? NULL : mr_options_text(options, name);

    return text != NULL ? text : standard;
}

enum mr__timestamp_form mr__timestamp_form(const struct mr_options *options)
{
    const char *form = mr__option_text(options, "timestamp_format", "iso");

    if (strcmp(form, "epoch_s") == 0)
        return MR__TIME_EPOCH_S;
    if (strcmp(form, "epoch_ms") == 0)
        return MR__TIME_EPOCH_MS;
    return strcmp(form, "epoch_us") == 0 ? MR__TIME_EPOCH_US : MR__TIME_ISO;
}

/* ---- bad records ---- */

enum mr_status mr__bad_record(const struct mr__bad_context *context, uint64_t record_index,
                              uint64_t byte_index, struct mr_slice raw, const char *reason,
                              struct mr_error *err)
{
    struct mr_position at = {
        .name = context->position->name,
        .record = context->position->record + record_index,
        .byte_offset = context->position->byte_offset + byte_index,
    };

    if (context->on_error == MR_ON_ERROR_FAIL)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot decode '%.200s' line %" PRIu64 " (byte %" PRIu64
                       "): %s; fix the record, "
                       "or set on_error = 'skip' or 'into TABLE'",
                       at.name, at.record, at.byte_offset, reason);
    MR_ASSERT(context->report != NULL);
    if (raw.size_bytes > MR_BAD_RAW_BYTES_MAX)
        raw.size_bytes = MR_BAD_RAW_BYTES_MAX;
    context->report(context->report_arg, &at, raw, reason);
    return MR_OK;
}

enum mr_status mr__not_a(const struct mr_type *type, const char *text, size_t size_bytes,
                         struct mr_error *err)
{
    char name[64];
    char shown[64];

    (void)mr_type_print(type, name, sizeof name);
    (void)mr_text_escape(text, size_bytes, shown, sizeof shown);
    return MR_FAIL(err, MR_BAD_DATA, "'%s' is not a %s", shown, name);
}

/* ---- text to value ---- */

static bool one_of(const char *text, size_t size_bytes, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (mr_text_equal_nocase(text, size_bytes, words[i], strlen(words[i])))
            return true;
    }
    return false;
}

static enum mr_status bool_from_text(struct mr_column_builder *column, const char *text,
                                     size_t size_bytes, struct mr_error *err)
{
    static const char *const yes[] = {"true", "t", "yes", "1"};
    static const char *const no[] = {"false", "f", "no", "0"};

    if (one_of(text, size_bytes, yes, MR_ARRAY_SIZE(yes)))
        return mr_column_builder_bool(column, true, err);
    if (one_of(text, size_bytes, no, MR_ARRAY_SIZE(no)))
        return mr_column_builder_bool(column, false, err);
    return mr__not_a(column->type, text, size_bytes, err);
}

/* A builder says "300 does not fit into TINYINT"; here it is the text that is wrong. */
static enum mr_status integer_from_text(struct mr_column_builder *column, const char *text,
                                        size_t size_bytes, struct mr_error *err)
{
    int64_t value = 0;
    uint64_t magnitude = 0;
    enum mr_status status = MR_BAD_DATA;

    if (mr_int_parse(text, size_bytes, &value))
        status = mr_column_builder_int(column, value, err);
    else if (mr_uint_parse(text, size_bytes, &magnitude))
        status = mr_column_builder_uint(column, magnitude, err);
    return status == MR_BAD_DATA ? mr__not_a(column->type, text, size_bytes, err) : status;
}

static enum mr_status time_from_text(struct mr_column_builder *column, const char *text,
                                     size_t size_bytes, enum mr__timestamp_form form,
                                     struct mr_error *err)
{
    int64_t value = 0;
    int32_t days = 0;

    if (column->type->id == MR_TYPE_DATE) {
        if (!mr_date_parse(text, size_bytes, &days))
            return mr__not_a(column->type, text, size_bytes, err);
        return mr_column_builder_int(column, days, err);
    }
    if (form != MR__TIME_ISO)
        return mr__timestamp_from_number(column, text, size_bytes, form, err);
    if (!mr_timestamp_parse(text, size_bytes, column->type->id == MR_TYPE_TIMESTAMP_NS, &value))
        return mr__not_a(column->type, text, size_bytes, err);
    return mr_column_builder_int(column, value, err);
}

enum mr_status mr__timestamp_from_number(struct mr_column_builder *column, const char *text,
                                         size_t size_bytes, enum mr__timestamp_form form,
                                         struct mr_error *err)
{
    static const unsigned digits_us[] = {
        [MR__TIME_EPOCH_S] = 6, [MR__TIME_EPOCH_MS] = 3, [MR__TIME_EPOCH_US] = 0};
    unsigned digits = digits_us[form] + (column->type->id == MR_TYPE_TIMESTAMP_NS ? 3 : 0);
    mr_int128 value = 0;

    if (!mr_decimal_parse(text, size_bytes, 38, digits, &value) || value < INT64_MIN ||
        value > INT64_MAX)
        return mr__not_a(column->type, text, size_bytes, err);
    return mr_column_builder_int(column, (int64_t)value, err);
}

enum mr_status mr__value_from_text(struct mr_column_builder *column, const char *text,
                                   size_t size_bytes, enum mr__timestamp_form form,
                                   struct mr_error *err)
{
    mr_int128 unscaled = 0;
    double number = 0;

    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY)
        return mr_column_builder_text(column, text, size_bytes, err);
    for (; size_bytes > 0 && (*text == ' ' || *text == '\t'); text++)
        size_bytes--;
    while (size_bytes > 0 && (text[size_bytes - 1] == ' ' || text[size_bytes - 1] == '\t'))
        size_bytes--;
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        return bool_from_text(column, text, size_bytes, err);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        if (!mr_double_parse(text, size_bytes, &number) ||
            (column->type->id == MR_TYPE_FLOAT && isfinite(number) && isinf((float)number)))
            return mr__not_a(column->type, text, size_bytes, err);
        return mr_column_builder_double(column, number, err);
    case MR_TYPE_DECIMAL:
        if (!mr_decimal_parse(text, size_bytes, column->type->precision, column->type->scale,
                              &unscaled))
            return mr__not_a(column->type, text, size_bytes, err);
        return mr_column_builder_decimal(column, unscaled, err);
    case MR_TYPE_DATE:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        return time_from_text(column, text, size_bytes, form, err);
    case MR_TYPE_LIST:
    case MR_TYPE_STRUCT:
        return mr__not_a(column->type, text, size_bytes, err);
    default:
        return integer_from_text(column, text, size_bytes, err);
    }
}
