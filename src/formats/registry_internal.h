/*
 * Schemas that live as long as the process.
 */
#ifndef MR_FORMATS_REGISTRY_INTERNAL_H
#define MR_FORMATS_REGISTRY_INTERNAL_H

#include <millrace/types.h>

struct mr__static_schema {
    struct mr_schema *_Atomic schema; /* NULL until first asked for */
    const struct mr_field *fields;
    uint32_t field_count;
};

/* The schema, made at the first call; NULL without memory. Thread: any. */
const struct mr_schema *mr__static_schema(struct mr__static_schema *holder);

#endif
