/*
 * Options as data: checks pairs against tables; see <millrace/ext/options.h>.
 *
 * Called by the SQL front end (WITH clauses), DStream builders, the command (settings and flags)
 * and tests.  A set has one entry for every option of every table, in table order, and a list of
 * the pairs kept by PREFIX options.
 *
 * Thread: any; a set does not change after mr_options_parse.
 */
#include <millrace/ext/options.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/number_text.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    NAMES_MAX = MR_LIMIT_OPTION_NAMES,
    VALUE_SHOWN_BYTES = 80,
};

struct value {
    int64_t whole; /* INT, SIZE, DURATION, BOOL; ENUM: place of the choice */
    double real;   /* DOUBLE */
};

struct entry {
    const struct mr_option *option;
    const char *owner;
    char *text;               /* given or default; NULL when neither, and of a SECRET; owned */
    struct mr_secret *secret; /* of a SECRET that was given; owned */
    bool given;
    struct value value;
};

struct kept {
    const struct mr_option *option; /* the PREFIX option */
    char *key;                      /* without the prefix */
    char *value;                    /* of a PREFIX */
    struct mr_secret *secret;       /* of a SECRET_PREFIX */
};

struct mr_options {
    struct entry *entries;
    size_t entry_count;
    struct kept *kept;
    size_t kept_count;
};

/* ---------------------------------------------------------------- values */

static bool equal_nocase(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

static bool parse_bool(const char *text, int64_t *ret_value)
{
    static const char *const words[][2] = {
        {"false", "true"}, {"off", "on"}, {"no", "yes"}, {"0", "1"}};

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        for (int value = 0; value < 2; value++) {
            if (equal_nocase(text, words[i][value])) {
                *ret_value = value;
                return true;
            }
        }
    }
    return false;
}

/* True when text is one of "a|b|c", without case; *ret_index its place. */
static bool in_choices(const char *text, size_t size, const char *choices, int64_t *ret_index)
{
    const char *at = choices;

    for (int64_t index = 0; at != NULL && *at != '\0'; index++) {
        size_t length = strcspn(at, "|");

        if (mr_text_equal_nocase(text, size, at, length)) {
            *ret_index = index;
            return true;
        }
        at += length + (at[length] == '|' ? 1 : 0);
    }
    return false;
}

static bool parse_value(enum mr_option_type type, const char *text, struct value *ret_value)
{
    switch (type) {
    case MR_OPTION_BOOL:
        return parse_bool(text, &ret_value->whole);
    case MR_OPTION_INT:
        return mr_int_parse(text, strlen(text), &ret_value->whole);
    case MR_OPTION_DOUBLE:
        return mr_double_parse(text, strlen(text), &ret_value->real) && isfinite(ret_value->real);
    case MR_OPTION_DURATION:
        return mr_parse_duration_us(text, &ret_value->whole);
    case MR_OPTION_SIZE:
        return mr_parse_size(text, &ret_value->whole);
    case MR_OPTION_TEXT:
    case MR_OPTION_ENUM:
    case MR_OPTION_SECRET:
    case MR_OPTION_PREFIX:
    case MR_OPTION_SECRET_PREFIX:
        return true;
    }
    return false;
}

static const char *type_words(enum mr_option_type type)
{
    switch (type) {
    case MR_OPTION_BOOL:
        return "true or false";
    case MR_OPTION_INT:
        return "a whole number";
    case MR_OPTION_DOUBLE:
        return "a number";
    case MR_OPTION_DURATION:
        return "a duration such as '500 ms' or '5 minutes'";
    case MR_OPTION_SIZE:
        return "a size such as '64 MB' or '1KiB'";
    default:
        return "a text";
    }
}

static bool below(enum mr_option_type type, const struct value *a, const struct value *b)
{
    return type == MR_OPTION_DOUBLE ? a->real < b->real : a->whole < b->whole;
}

static bool has_range(enum mr_option_type type)
{
    return type == MR_OPTION_INT || type == MR_OPTION_DOUBLE || type == MR_OPTION_DURATION ||
           type == MR_OPTION_SIZE;
}

static enum mr_status out_of_range(const struct entry *entry, const char *shown,
                                   struct mr_error *err)
{
    const struct mr_option *option = entry->option;

    if (option->minimum != NULL && option->maximum != NULL)
        return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is '%s'; it must be from %s to %s",
                       entry->owner, option->name, shown, option->minimum, option->maximum);
    return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is '%s'; it must be at %s %s", entry->owner,
                   option->name, shown, option->minimum != NULL ? "least" : "most",
                   option->minimum != NULL ? option->minimum : option->maximum);
}

static enum mr_status wrong_choice(const struct entry *entry, const char *shown,
                                   struct mr_error *err)
{
    char text[MR_ERROR_TEXT_BYTES / 2];
    size_t at = 0;

    for (const char *from = entry->option->minimum; *from != '\0' && at + 3 < sizeof(text);
         from++) {
        if (*from == '|')
            text[at++] = ',';
        text[at++] = *from == '|' ? ' ' : *from;
    }
    text[at] = '\0';
    return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is '%s'; it must be one of %s", entry->owner,
                   entry->option->name, shown, text);
}

/* Checks entry->text and fills entry->value. */
static enum mr_status check_value(struct entry *entry, struct mr_error *err)
{
    const struct mr_option *option = entry->option;
    char shown[VALUE_SHOWN_BYTES];
    struct value bound;

    if (option->type == MR_OPTION_SECRET)
        return MR_OK;
    mr_text_escape(entry->text, strlen(entry->text), shown, sizeof(shown));
    if (option->type == MR_OPTION_ENUM) {
        if (!in_choices(entry->text, strlen(entry->text), option->minimum, &entry->value.whole))
            return wrong_choice(entry, shown, err);
        return MR_OK;
    }
    if (!parse_value(option->type, entry->text, &entry->value))
        return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is '%s'; it must be %s", entry->owner,
                       option->name, shown, type_words(option->type));
    if (!has_range(option->type))
        return MR_OK;
    if (option->minimum != NULL) {
        MR_ASSERT(parse_value(option->type, option->minimum, &bound));
        if (below(option->type, &entry->value, &bound))
            return out_of_range(entry, shown, err);
    }
    if (option->maximum != NULL) {
        MR_ASSERT(parse_value(option->type, option->maximum, &bound));
        if (below(option->type, &bound, &entry->value))
            return out_of_range(entry, shown, err);
    }
    return MR_OK;
}

/* ---------------------------------------------------------------- secrets */

/* owner and the whole key begin the texts of errors */
static enum mr_status take_secret(const char *owner, const char *prefix, const char *key,
                                  const char *value, struct mr_secret **ret_secret,
                                  struct mr_error *err)
{
    char what[MR_ERROR_TEXT_BYTES / 2];

    snprintf(what, sizeof(what), "%s: option '%s%s'", owner, prefix, key);
    return mr_secret_resolve(what, value, ret_secret, err);
}

/* ---------------------------------------------------------------- finding options */

static bool is_prefix(const struct mr_option *option)
{
    return option->type == MR_OPTION_PREFIX || option->type == MR_OPTION_SECRET_PREFIX;
}

bool mr_option_named(const struct mr_option *option, const char *key)
{
    int64_t index;

    return !is_prefix(option) &&
           (equal_nocase(key, option->name) ||
            (option->aliases != NULL && in_choices(key, strlen(key), option->aliases, &index)));
}

static bool is_below_prefix(const struct mr_option *option, const char *key)
{
    size_t size = strlen(option->name);

    return is_prefix(option) && strlen(key) > size &&
           mr_text_equal_nocase(key, size, option->name, size);
}

static struct entry *find(const struct mr_options *options, const char *key)
{
    for (size_t i = 0; i < options->entry_count; i++) {
        if (mr_option_named(options->entries[i].option, key))
            return &options->entries[i];
    }
    for (size_t i = 0; i < options->entry_count; i++) {
        if (is_below_prefix(options->entries[i].option, key))
            return &options->entries[i];
    }
    return NULL;
}

static bool is_for(const struct mr_option *option, unsigned flags_wanted)
{
    unsigned sides = option->flags & (MR_OPTION_SOURCE | MR_OPTION_SINK);

    return flags_wanted == 0 || sides == 0 || (sides & flags_wanted) != 0;
}

/* "a, b, c" of all options for the wanted side. */
static void list_names(const struct mr_options *options, unsigned flags_wanted, char *text,
                       size_t size)
{
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < options->entry_count; i++) {
        const struct mr_option *option = options->entries[i].option;
        size_t length = strlen(option->name);

        if (!is_for(option, flags_wanted))
            continue;
        if (at + length + 8 > size) {
            memcpy(text + at, ", ...", 6);
            return;
        }
        if (at > 0) {
            memcpy(text + at, ", ", 2);
            at += 2;
        }
        memcpy(text + at, option->name, length + 1);
        at += length;
    }
}

static enum mr_status unknown_key(const struct mr_options *options, const char *owner,
                                  const char *key, unsigned flags_wanted, struct mr_error *err)
{
    const char *names[NAMES_MAX] = {NULL};
    char shown[VALUE_SHOWN_BYTES];
    char text[MR_ERROR_TEXT_BYTES / 2];
    const char *nearest;
    size_t count = 0;

    for (size_t i = 0; i < options->entry_count && count < NAMES_MAX; i++) {
        if (is_for(options->entries[i].option, flags_wanted))
            names[count++] = options->entries[i].option->name;
    }
    nearest = mr_text_nearest(key, names, count);
    mr_text_escape(key, strlen(key), shown, sizeof(shown));
    if (nearest != NULL)
        return MR_FAIL(err, MR_CONFIG, "%s has no option '%s'; did you mean '%s'?", owner, shown,
                       nearest);
    if (count == 0)
        return MR_FAIL(err, MR_CONFIG, "%s has no option '%s'; it takes none", owner, shown);
    list_names(options, flags_wanted, text, sizeof(text));
    return MR_FAIL(err, MR_CONFIG, "%s has no option '%s'; it has: %s", owner, shown, text);
}

/* ---------------------------------------------------------------- parsing a set */

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read options: out of memory");
}

static enum mr_status keep_pair(struct mr_options *options, const struct entry *entry,
                                const char *key, const char *value, struct mr_error *err)
{
    struct kept *kept = &options->kept[options->kept_count];

    key += strlen(entry->option->name);
    for (size_t i = 0; i < options->kept_count; i++) {
        if (options->kept[i].option == entry->option && strcmp(options->kept[i].key, key) == 0)
            return MR_FAIL(err, MR_CONFIG, "%s: option '%s%s' is given twice", entry->owner,
                           entry->option->name, key);
    }
    kept->option = entry->option;
    kept->key = mr_strdup(key);
    options->kept_count++; /* also when half made: mr_options_free takes it away */
    if (kept->key == NULL)
        return no_memory(err);
    if (entry->option->type == MR_OPTION_SECRET_PREFIX)
        return take_secret(entry->owner, entry->option->name, key, value, &kept->secret, err);
    kept->value = mr_strdup(value);
    return kept->value == NULL ? no_memory(err) : MR_OK;
}

static enum mr_status take_pair(struct mr_options *options, const char *owner,
                                const struct mr_option_pair *pair, unsigned flags_wanted,
                                struct mr_error *err)
{
    struct entry *entry = find(options, pair->key);

    if (entry == NULL)
        return unknown_key(options, owner, pair->key, flags_wanted, err);
    if (!is_for(entry->option, flags_wanted))
        return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is only for a %s; remove it", entry->owner,
                       entry->option->name,
                       (entry->option->flags & MR_OPTION_SOURCE) != 0 ? "source" : "sink");
    if (is_prefix(entry->option))
        return keep_pair(options, entry, pair->key, pair->value, err);
    if (entry->given)
        return MR_FAIL(err, MR_CONFIG, "%s: option '%s' is given twice", entry->owner,
                       entry->option->name);
    entry->given = true;
    if (entry->option->type == MR_OPTION_SECRET)
        return take_secret(entry->owner, "", entry->option->name, pair->value, &entry->secret, err);
    entry->text = mr_strdup(pair->value);
    return entry->text == NULL ? no_memory(err) : check_value(entry, err);
}

static enum mr_status take_defaults(struct mr_options *options, unsigned flags_wanted,
                                    struct mr_error *err)
{
    for (size_t i = 0; i < options->entry_count; i++) {
        struct entry *entry = &options->entries[i];

        if (entry->given || !is_for(entry->option, flags_wanted))
            continue;
        if ((entry->option->flags & MR_OPTION_REQUIRED) != 0)
            return MR_FAIL(err, MR_CONFIG, "%s needs the option '%s': %s", entry->owner,
                           entry->option->name, entry->option->help);
        if (entry->option->standard == NULL)
            continue;
        entry->text = mr_strdup(entry->option->standard);
        if (entry->text == NULL)
            return no_memory(err);
        MR_TRY(check_value(entry, err));
    }
    return MR_OK;
}

static struct mr_options *new_set(const struct mr_option_table *const *tables, size_t table_count,
                                  size_t pair_count)
{
    struct mr_options *options = mr_alloc_zero(NULL, sizeof(*options));
    size_t count = 0;

    if (options == NULL)
        return NULL;
    for (size_t i = 0; i < table_count; i++)
        count += tables[i]->option_count;
    options->entries = mr_alloc_zero(NULL, count * sizeof(*options->entries));
    options->kept = mr_alloc_zero(NULL, pair_count * sizeof(*options->kept));
    if (options->entries == NULL || options->kept == NULL) {
        mr_options_free(options);
        return NULL;
    }
    for (size_t i = 0; i < table_count; i++) {
        for (size_t j = 0; j < tables[i]->option_count; j++) {
            struct entry *entry = &options->entries[options->entry_count++];

            entry->option = &tables[i]->options[j];
            entry->owner = tables[i]->owner;
        }
    }
    return options;
}

enum mr_status mr_options_parse(const struct mr_option_table *const *tables, size_t table_count,
                                const struct mr_option_pair *pairs, size_t pair_count,
                                unsigned flags_wanted, struct mr_options **ret_options,
                                struct mr_error *err)
{
    struct mr_options *options = new_set(tables, table_count, pair_count);
    const char *owner = table_count > 0 ? tables[0]->owner : "this";
    enum mr_status status = MR_OK;

    if (options == NULL)
        return no_memory(err);
    for (size_t i = 0; i < pair_count; i++)
        MR_TRY_GOTO(take_pair(options, owner, &pairs[i], flags_wanted, err));
    MR_TRY_GOTO(take_defaults(options, flags_wanted, err));
    *ret_options = options;
    options = NULL;
done:
    mr_options_free(options);
    return status;
}

void mr_options_free(struct mr_options *options)
{
    if (options == NULL)
        return;
    for (size_t i = 0; options->entries != NULL && i < options->entry_count; i++) {
        mr_free(options->entries[i].text);
        mr_secret_free(options->entries[i].secret);
    }
    for (size_t i = 0; options->kept != NULL && i < options->kept_count; i++) {
        mr_free(options->kept[i].key);
        mr_free(options->kept[i].value);
        mr_secret_free(options->kept[i].secret);
    }
    mr_free(options->entries);
    mr_free(options->kept);
    mr_free(options);
}

/* ---------------------------------------------------------------- asking */

static const struct entry *must_find(const struct mr_options *options, const char *name)
{
    for (size_t i = 0; i < options->entry_count; i++) {
        if (strcmp(options->entries[i].option->name, name) == 0)
            return &options->entries[i];
    }
    mr_assert_failed("the option is in a table", __FILE__, __LINE__);
}

bool mr_options_has(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    if (!is_prefix(entry->option))
        return entry->given;
    for (size_t i = 0; i < options->kept_count; i++) {
        if (options->kept[i].option == entry->option)
            return true;
    }
    return false;
}

const char *mr_options_text(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    MR_ASSERT(entry->option->type != MR_OPTION_SECRET);
    return entry->text;
}

const struct mr_secret *mr_options_secret(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    MR_ASSERT(entry->option->type == MR_OPTION_SECRET);
    return entry->secret;
}

int64_t mr_options_int(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    MR_ASSERT(entry->option->type != MR_OPTION_TEXT && entry->option->type != MR_OPTION_DOUBLE);
    MR_ASSERT(entry->text != NULL);
    return entry->value.whole;
}

double mr_options_double(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    MR_ASSERT(entry->text != NULL);
    return entry->option->type == MR_OPTION_DOUBLE ? entry->value.real : (double)entry->value.whole;
}

bool mr_options_bool(const struct mr_options *options, const char *name)
{
    const struct entry *entry = must_find(options, name);

    MR_ASSERT(entry->option->type == MR_OPTION_BOOL && entry->text != NULL);
    return entry->value.whole != 0;
}

/* The index-th pair of a prefix; NULL behind the last. */
static const struct kept *find_kept(const struct mr_options *options, const char *prefix,
                                    size_t index)
{
    const struct entry *entry = must_find(options, prefix);

    for (size_t i = 0; i < options->kept_count; i++) {
        if (options->kept[i].option == entry->option && index-- == 0)
            return &options->kept[i];
    }
    return NULL;
}

bool mr_options_prefixed(const struct mr_options *options, const char *prefix, size_t index,
                         const char **ret_key, const char **ret_value)
{
    const struct kept *kept = find_kept(options, prefix, index);

    MR_ASSERT(kept == NULL || kept->option->type == MR_OPTION_PREFIX);
    *ret_key = kept != NULL ? kept->key : NULL;
    *ret_value = kept != NULL ? kept->value : NULL;
    return kept != NULL;
}

bool mr_options_secrets(const struct mr_options *options, const char *prefix, size_t index,
                        const char **ret_key, const struct mr_secret **ret_secret)
{
    const struct kept *kept = find_kept(options, prefix, index);

    MR_ASSERT(kept == NULL || kept->option->type == MR_OPTION_SECRET_PREFIX);
    *ret_key = kept != NULL ? kept->key : NULL;
    *ret_secret = kept != NULL ? kept->secret : NULL;
    return kept != NULL;
}
