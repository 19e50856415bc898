/*
 * The registry of formats, and the schemas that need no declaration.
 *
 * Filled once at start (mr_formats_register, and src/duck for parquet), then only read. Static
 * schemas are made at the first question: whoever loses the race drops its copy.
 *
 * Threads: registration happens before others look; everything else: any.
 */
#include "formats/formats_internal.h"

#include "formats/registry_internal.h"

#include <millrace/ext/source.h>

#include <stdatomic.h>
#include <string.h>

enum { FORMATS_MAX = 32 };

static const struct mr_format *formats[FORMATS_MAX];
static atomic_size_t format_count;

void mr_format_register(const struct mr_format *format)
{
    size_t count = atomic_load_explicit(&format_count, memory_order_relaxed);

    if (mr_format_find(format->name) != NULL)
        return;
    MR_ASSERT(count < FORMATS_MAX);
    formats[count] = format;
    atomic_store_explicit(&format_count, count + 1, memory_order_release);
}

const struct mr_format *mr_format_at(size_t index)
{
    return index < atomic_load_explicit(&format_count, memory_order_acquire) ? formats[index]
                                                                             : NULL;
}

const struct mr_format *mr_format_find(const char *name)
{
    for (size_t i = 0;; i++) {
        const struct mr_format *format = mr_format_at(i);
        if (format == NULL || strcmp(format->name, name) == 0)
            return format;
    }
}

void mr_formats_register(void)
{
    mr_format_register(&mr__format_json);
    mr_format_register(&mr__format_csv);
    mr_format_register(&mr__format_text);
    mr_format_register(&mr__format_raw);
}

const struct mr_schema *mr__static_schema(struct mr__static_schema *holder)
{
    struct mr_schema *known = atomic_load_explicit(&holder->schema, memory_order_acquire);
    struct mr_schema *made = NULL;

    if (known != NULL)
        return known;
    if (mr_schema_new(holder->fields, holder->field_count, &made, NULL) != MR_OK)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&holder->schema, &known, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    mr_schema_unref(made);
    return known;
}

const struct mr_schema *mr_bad_schema(void)
{
    static const struct mr_field fields[] = {
        {"source", {.id = MR_TYPE_TEXT}},
        {"position", {.id = MR_TYPE_TEXT}},
        {"reason", {.id = MR_TYPE_TEXT}},
        {"raw", {.id = MR_TYPE_BINARY}},
    };
    static struct mr__static_schema holder = {NULL, fields, MR_ARRAY_SIZE(fields)};
    const struct mr_schema *schema = mr__static_schema(&holder);

    MR_ASSERT(schema != NULL); /* a few hundred bytes at the start of the process */
    return schema;
}
