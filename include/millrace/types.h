/*
 * Types and schemas of columns.
 *
 * A schema is immutable and atomically reference-counted. A struct mr_type inside a schema lives as
 * long as the schema. Thread: any.
 */
#ifndef MILLRACE_TYPES_H
#define MILLRACE_TYPES_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 128-bit integer of DECIMAL values: ISO C has none, gcc and clang do. */
__extension__ typedef __int128 mr_int128;

/* Numbers are part of the on-disk formats: they never change, new ones go to the end. */
enum mr_type_id {
    MR_TYPE_BOOL = 1, /* bitmap, bit i of byte i / 8 */
    MR_TYPE_INT8 = 2,
    MR_TYPE_INT16 = 3,
    MR_TYPE_INT32 = 4,
    MR_TYPE_INT64 = 5,
    MR_TYPE_UINT8 = 6,
    MR_TYPE_UINT16 = 7,
    MR_TYPE_UINT32 = 8,
    MR_TYPE_UINT64 = 9,
    MR_TYPE_FLOAT = 10,
    MR_TYPE_DOUBLE = 11,
    /* 16-byte little-endian two's complement, precision 1..38, scale 0..precision */
    MR_TYPE_DECIMAL = 12,
    MR_TYPE_TEXT = 13,         /* UTF-8, 32-bit offsets */
    MR_TYPE_BINARY = 14,       /* bytes, 32-bit offsets */
    MR_TYPE_DATE = 15,         /* int32 days since 1970-01-01 */
    MR_TYPE_TIMESTAMP = 16,    /* int64 microseconds since the epoch, UTC */
    MR_TYPE_TIMESTAMP_NS = 17, /* int64 nanoseconds since the epoch, UTC */
    MR_TYPE_LIST = 18,         /* 32-bit offsets into one child */
    MR_TYPE_STRUCT = 19,       /* one child a field */
};

struct mr_field;

struct mr_type {
    enum mr_type_id id;
    uint8_t precision;    /* DECIMAL only */
    uint8_t scale;        /* DECIMAL only */
    uint32_t field_count; /* LIST: 1 (named "item"); STRUCT: its fields; else 0 */
    const struct mr_field *fields;
    const char *extension; /* BINARY only: the name of its codec (codec.h), NULL = plain bytes */
};

struct mr_field {
    const char *name;
    struct mr_type type;
};

enum { MR_COLUMNS_MAX = 4096, MR_TYPE_DEPTH_MAX = 64, MR_NAME_BYTES_MAX = 255 };

struct mr_schema;

/* Copies fields deeply. Fails with MR_CONFIG on duplicate names, bad precision, too many columns.
 * Returns new. */
MR_API enum mr_status mr_schema_new(const struct mr_field *fields, uint32_t field_count,
                                    struct mr_schema **ret_schema, struct mr_error *err);
MR_API struct mr_schema *mr_schema_ref(const struct mr_schema *schema);
MR_API struct mr_schema *mr_schema_unref(struct mr_schema *schema); /* NULL allowed; returns NULL */

MR_API uint32_t mr_schema_field_count(const struct mr_schema *schema);
MR_API const struct mr_field *mr_schema_field(const struct mr_schema *schema, uint32_t index);
/* Index of the field of that name (exact first, then ASCII case-insensitive), or -1. */
MR_API int32_t mr_schema_find(const struct mr_schema *schema, const char *name, size_t name_bytes);
MR_API bool mr_schema_equal(const struct mr_schema *a, const struct mr_schema *b);
MR_API bool mr_type_equal(const struct mr_type *a, const struct mr_type *b);

/* Width of one value in bytes for fixed-width types; 0 for BOOL (bits), TEXT, BINARY, LIST,
 * STRUCT. */
MR_API uint32_t mr_type_width(enum mr_type_id id);

/*
 * SQL spelling of a type: "BIGINT", "DECIMAL(10,2)", "TIMESTAMP_NS", "INTEGER[]", "STRUCT(a BIGINT,
 * b VARCHAR)". mr_type_print writes at most size bytes and always terminates; returns the bytes it
 * would need without the terminator.
 */
MR_API size_t mr_type_print(const struct mr_type *type, char *text, size_t size);

/*
 * Parses a column list as in CREATE TABLE or the print form: "a BIGINT, b VARCHAR(10), c STRUCT(x
 * INT, y DOUBLE)". Accepts the usual synonyms (INT, INTEGER, LONG, BIGINT, STRING, TEXT, VARCHAR,
 * REAL, FLOAT4, DOUBLE PRECISION, ...; note FLOAT is 32 bits as in DuckDB), and names of codecs
 * that are registered (codec.h), whose printed form BLOB(name) is read without them. Error
 * MR_CONFIG names the word. Returns new.
 */
MR_API enum mr_status mr_schema_parse(const char *text, size_t text_bytes,
                                      struct mr_schema **ret_schema, struct mr_error *err);
/* The inverse: "a BIGINT, b VARCHAR", names quoted with "" when they must be. Caller frees with
 * mr_text_free. */
MR_API char *mr_schema_print(const struct mr_schema *schema);
MR_API void mr_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
