/*
 * Options as data: every plug-in, statement and command has one const table; parsing, validation,
 * --help and docs/options.md come from it. An unknown key is an error that names the nearest one.
 */
#ifndef MILLRACE_EXT_OPTIONS_H
#define MILLRACE_EXT_OPTIONS_H

#include <millrace/ext/secret.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mr_option_type {
    MR_OPTION_TEXT,
    MR_OPTION_BOOL, /* true/false/on/off/yes/no/1/0 */
    MR_OPTION_INT,  /* decimal; min and max are decimal texts */
    MR_OPTION_DOUBLE,
    /* "500 ms", "1s", "5 minutes", "INTERVAL '1' SECOND"; value in microseconds */
    MR_OPTION_DURATION,
    MR_OPTION_SIZE,   /* "64 MB", "1KiB"; value in bytes */
    MR_OPTION_ENUM,   /* choices: "a|b|c" */
    MR_OPTION_SECRET, /* a struct mr_secret; "file:PATH" reads the file */
    MR_OPTION_PREFIX, /* name ends with ".": any key that begins with it is kept (fields.*) */
    /* the same where any value may be a secret (kafka.*): all are, and may be "file:PATH" */
    MR_OPTION_SECRET_PREFIX,
};

enum mr_option_flags {
    MR_OPTION_REQUIRED = 1,
    MR_OPTION_SOURCE = 2,
    MR_OPTION_SINK = 4,
    /* A TEXT that is a path, for `millrace run --sandbox`: read (of a glob, the directory before
     * its first wildcard), or made and written. An ENUM with WRITES: given another value than the
     * default, what the same table reads is changed, too. */
    MR_OPTION_READS = 8,
    MR_OPTION_WRITES = 16,
};

struct mr_option {
    const char *name; /* "max_offsets_per_trigger": lower case, '_' between words */
    /* other spellings, '|' between, matched without case: "maxOffsetsPerTrigger"; may be NULL */
    const char *aliases;
    enum mr_option_type type;
    unsigned flags;
    const char *standard; /* default as text, NULL = unset */
    const char *minimum;  /* or the choices of an ENUM; NULL = none */
    const char *maximum;
    const char *help; /* one sentence with a full stop */
};

struct mr_option_table {
    const char *owner; /* "connector 'kafka'": begins error texts */
    const struct mr_option *options;
    size_t option_count;
};

/* A parsed set: keys are canonical names. Immutable after parse. */
struct mr_options;

struct mr_option_pair {
    const char *key;
    const char *value;
};

/*
 * Checks pairs against one or more tables (format options may be mixed with connector options).
 * Errors: MR_CONFIG with the key, the value, what is allowed and the nearest name. flags_wanted: 0,
 * MR_OPTION_SOURCE or MR_OPTION_SINK; an option for the other side is refused. Returns new.
 */
MR_API enum mr_status mr_options_parse(const struct mr_option_table *const *tables,
                                       size_t table_count, const struct mr_option_pair *pairs,
                                       size_t pair_count, unsigned flags_wanted,
                                       struct mr_options **ret_options, struct mr_error *err);
MR_API void mr_options_free(struct mr_options *options); /* NULL allowed; wipes secrets */

/* given, not only a default */
MR_API bool mr_options_has(const struct mr_options *options, const char *name);
/* Values: the one given or the default; asking for a name that no table has, or with neither, is an
 * assertion failure except for text and secret, which return NULL. */
MR_API const char *mr_options_text(const struct mr_options *options, const char *name);
/* SECRET only, as no other function gives one; borrowed */
MR_API const struct mr_secret *mr_options_secret(const struct mr_options *options,
                                                 const char *name);
/* INT, SIZE, DURATION (us), BOOL; ENUM: place of the choice */
MR_API int64_t mr_options_int(const struct mr_options *options, const char *name);
MR_API double mr_options_double(const struct mr_options *options, const char *name);
MR_API bool mr_options_bool(const struct mr_options *options, const char *name);
/* Pairs kept by a PREFIX option, in the order given, keys without the prefix; *ret_value NULL at
 * the end. */
MR_API bool mr_options_prefixed(const struct mr_options *options, const char *prefix, size_t index,
                                const char **ret_key, const char **ret_value);
/* The same for a SECRET_PREFIX; *ret_secret is borrowed. */
MR_API bool mr_options_secrets(const struct mr_options *options, const char *prefix, size_t index,
                               const char **ret_key, const struct mr_secret **ret_secret);

/* Is it called so: by its name or one of its aliases, without case? Not for prefixes. */
MR_API bool mr_option_named(const struct mr_option *option, const char *key);

/* Parsers that others need too. */
MR_API bool mr_parse_duration_us(const char *text, int64_t *ret_us);
MR_API bool mr_parse_size(const char *text, int64_t *ret_bytes);

#ifdef __cplusplus
}
#endif
#endif
