/*
 * millrace state ls|du|get|export|diff: looks into the state of a checkpoint, offline or beside a
 * running query: read only, without its lock, as of the newest committed batch or an older one that
 * is retained.
 *
 * Entries are shown as rows: an operator's kind says what they mean (state/view.h).
 *
 * Thread: main.
 */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "cli/state_rows.h"
#include "ops/views.h"
#include "plugins/plugins.h"
#include "streams/views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_flag flags[] = {
    {"--batch", NULL, "N", "ls, du, get, export: the state after that batch, not the newest."},
    {"--format", NULL, "json|csv|parquet", "export: how rows are written (default json)."},
    {"--output", "-o", "FILE", "export: write there; it appears when it is complete."},
    {"--from", NULL, "N", "diff: the older batch (default: the oldest one that is retained)."},
    {"--to", NULL, "M", "diff: the newer batch (default: the newest)."},
};

static enum mr_status parse_batch(const char *flag, const char *text,
                                  struct mr_state_reader_options *options, struct mr_error *err)
{
    char *end = NULL;

    if (text == NULL)
        return MR_OK;
    options->batch_id = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0')
        return MR_FAIL(err, MR_USAGE, "cannot read %s '%s': it is the number of a batch", flag,
                       text);
    options->at_batch = true;
    return MR_OK;
}

/* ---- ls, du ---- */

static enum mr_status list_stores(struct mr_state *state, struct mr_error *err)
{
    struct mr_store_info info;

    MR_UNUSED(err);
    printf("%-28s %-12s %12s %12s %8s  %s\n", "STORE", "KIND", "KEYS", "BYTES", "VERSION",
           "KEY -> VALUE");
    for (size_t i = 0; mr_state_info(state, i, &info); i++)
        printf("%-28s %-12s %12llu %12llu %8llu  %s%s%s\n", info.name, info.kind,
               (unsigned long long)info.key_count, (unsigned long long)info.stored_bytes,
               (unsigned long long)info.version, info.key_schema,
               info.value_schema[0] != '\0' ? " -> " : "", info.value_schema);
    return MR_OK;
}

static enum mr_status measure(struct mr_state *state)
{
    struct mr_store_info info, total = {0};

    printf("%-28s %12s %12s %12s %12s %8s %10s\n", "STORE", "KEYS", "STORED", "RETAINED", "MEMORY",
           "PARTS", "BYTES/KEY");
    for (size_t i = 0; mr_state_info(state, i, &info); i++) {
        printf("%-28s %12llu %12llu %12llu %12llu %8u %10.1f\n", info.name,
               (unsigned long long)info.key_count, (unsigned long long)info.stored_bytes,
               (unsigned long long)info.retained_bytes, (unsigned long long)info.memory_bytes,
               info.part_count,
               info.key_count > 0 ? (double)info.memory_bytes / (double)info.key_count : 0.0);
        total.key_count += info.key_count;
        total.stored_bytes += info.stored_bytes;
        total.retained_bytes += info.retained_bytes;
        total.memory_bytes += info.memory_bytes;
        total.part_count += info.part_count;
    }
    printf("%-28s %12llu %12llu %12llu %12llu %8u\n", "total", (unsigned long long)total.key_count,
           (unsigned long long)total.stored_bytes, (unsigned long long)total.retained_bytes,
           (unsigned long long)total.memory_bytes, total.part_count);
    return MR_OK;
}

/* ---- get, export ---- */

struct visit {
    struct cli_rows *rows;
    const char *wanted; /* get */
    uint64_t found;
    enum mr_status status;
    struct mr_error err;
};

static bool get_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct visit *visit = arg;
    struct mr_slice k = {key, key_bytes}, v = {value, value_bytes};

    visit->status = cli_rows_find(visit->rows, k, v, visit->wanted, &visit->found, &visit->err);
    return visit->status == MR_OK;
}

static bool export_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                         void *arg)
{
    struct visit *visit = arg;

    visit->status = cli_rows_add(visit->rows, (struct mr_slice){key, key_bytes},
                                 (struct mr_slice){value, value_bytes}, &visit->err);
    return visit->status == MR_OK;
}

static enum mr_status visit_store(struct mr_state *state, const char *name,
                                  mr_store_visit_fn visit_entry, struct visit *visit,
                                  struct mr_error *err)
{
    MR_TRY(mr_store_scan_sorted(mr_state_find(state, name), NULL, 0, visit_entry, visit, err));
    if (visit->status != MR_OK)
        *err = visit->err;
    return visit->status;
}

static enum mr_status get(struct mr_state *state, const char *dir, const char *name,
                          const char *wanted, struct mr_error *err)
{
    const struct cli_rows_options options = {"json", NULL};
    struct visit visit = {.wanted = wanted};
    enum mr_status status;

    MR_TRY(cli_rows_new(state, dir, name, &options, &visit.rows, err));
    status = visit_store(state, name, get_entry, &visit, err);
    if (status == MR_OK && visit.found == 0)
        status = MR_FAIL(err, MR_NOT_FOUND, "no key '%s' in store '%s'", wanted, name);
    cli_rows_free(visit.rows);
    return status;
}

static enum mr_status export(struct mr_state *state, const char *dir, const char *name,
                             const struct cli_rows_options *options, struct mr_error *err) {
    struct visit visit = {0}; enum mr_status status;

    MR_TRY(cli_rows_new(state, dir, name, options, &visit.rows, err));
    status = visit_store(state, name, export_entry, &visit, err);
    if (status == MR_OK) status = cli_rows_finish(visit.rows, err);
    cli_rows_free(visit.rows);
    return status;
}

/* ---- diff ---- */

struct difference {
    struct mr_store *other;
    struct cli_rows *rows;       /* of the entries visited */
    struct cli_rows *other_rows; /* NULL: only what the other side does not have is printed */
    char mark[120];
    char other_mark[120];
    uint64_t count;
    enum mr_status status;
    struct mr_error err;
};

static bool compare_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                          void *arg)
{
    struct difference *d = arg;
    struct mr_slice k = {key, key_bytes}, v = {value, value_bytes}, other = {NULL, 0};
    bool there =
        d->other != NULL && mr_store_get(d->other, key, key_bytes, &other.data, &other.size_bytes);

    if (there && (d->other_rows == NULL ||
                  (other.size_bytes == value_bytes && memcmp(other.data, value, value_bytes) == 0)))
        return true;
    d->count++;
    d->status = cli_rows_print(d->rows, d->mark, k, v, &d->err);
    if (d->status == MR_OK && there)
        d->status = cli_rows_print(d->other_rows, d->other_mark, k, other, &d->err);
    return d->status == MR_OK;
}

/* Entries of one store of `a` that `b` does not have, or has otherwise. */
static enum mr_status compare_one_way(struct mr_state *a, struct mr_state *b, const char *name,
                                      const char *mark, bool is_new_side, uint64_t *count,
                                      struct mr_error *err)
{
    const struct cli_rows_options json = {"json", NULL};
    struct difference d = {.other = mr_state_find(b, name)};
    enum mr_status status;

    snprintf(d.mark, sizeof(d.mark), "%s %.100s ", mark, name);
    snprintf(d.other_mark, sizeof(d.other_mark), "+ %.100s ", name);
    MR_TRY(cli_rows_new(a, "", name, &json, &d.rows, err));
    status = d.other != NULL && !is_new_side ? cli_rows_new(b, "", name, &json, &d.other_rows, err)
                                             : MR_OK;
    if (status == MR_OK)
        status = mr_store_scan_sorted(mr_state_find(a, name), NULL, 0, compare_entry, &d, err);
    if (status == MR_OK && d.status != MR_OK) {
        status = d.status;
        *err = d.err;
    }
    *count += d.count;
    cli_rows_free(d.rows);
    cli_rows_free(d.other_rows);
    return status;
}

static bool find_info(struct mr_state *state, const char *name, struct mr_store_info *ret_info)
{
    for (size_t i = 0; mr_state_info(state, i, ret_info); i++) {
        if (strcmp(ret_info->name, name) == 0)
            return true;
    }
    return false;
}

/* Of a store whose form changed, entries cannot be compared. */
static bool tell_form(const struct mr_store_info *old, const struct mr_store_info *new)
{
    if (strcmp(old->kind, new->kind) == 0 && strcmp(old->key_schema, new->key_schema) == 0 &&
        strcmp(old->value_schema, new->value_schema) == 0)
        return false;
    printf("! %s changed its form: '%s: %s -> %s' became '%s: %s -> %s'\n", old->name, old->kind,
           old->key_schema, old->value_schema, new->kind, new->key_schema, new->value_schema);
    return true;
}

static enum mr_status diff_states(struct mr_state *old, struct mr_state *new, const char *only,
                                  uint64_t *count, struct mr_error *err)
{
    struct mr_store_info info, other;

    for (size_t i = 0; mr_state_info(old, i, &info); i++) {
        if ((only != NULL && strcmp(only, info.name) != 0) ||
            (find_info(new, info.name, &other) && tell_form(&info, &other)))
            continue;
        MR_TRY(compare_one_way(old, new, info.name, "-", false, count, err));
    }
    for (size_t i = 0; mr_state_info(new, i, &info); i++) {
        if ((only != NULL && strcmp(only, info.name) != 0) ||
            (find_info(old, info.name, &other) &&
             (strcmp(info.value_schema, other.value_schema) != 0 ||
              strcmp(info.key_schema, other.key_schema) != 0)))
            continue;
        MR_TRY(compare_one_way(new, old, info.name, "+", true, count, err));
    }
    return MR_OK;
}

static bool is_directory(const char *path)
{
    struct mr_file_info info;

    return mr_env_path_info(mr_env_posix(), path, true, &info, NULL) == MR_OK &&
           info.kind == MR_KIND_DIRECTORY;
}

/* diff DIR [STORE], or diff DIR DIR [STORE]. */
static enum mr_status diff(const struct cli_command *command, const struct cli_args *args,
                           struct mr_error *err)
{
    struct mr_state_reader_options from = {0}, to = {0};
    bool two = args->argument_count > 2 && is_directory(args->arguments[2]);
    const char *old_dir = args->arguments[1];
    const char *new_dir = two ? args->arguments[2] : old_dir;
    const char *only = args->argument_count > (two ? 3u : 2u) ? args->arguments[two ? 3 : 2] : NULL;
    struct mr_state *old = NULL, *new = NULL;
    uint64_t count = 0, newest = 0;
    enum mr_status status;

    if (args->argument_count > (two ? 4u : 3u))
        return MR_FAIL(err, MR_USAGE, "too many arguments: see 'millrace state --help'");
    MR_TRY(parse_batch("--from", cli_value(command, args, "--from"), &from, err));
    MR_TRY(parse_batch("--to", cli_value(command, args, "--to"), &to, err));
    if (!two && !from.at_batch) {
        MR_TRY(mr_state_retained(mr_env_posix(), old_dir, &from.batch_id, &newest, err));
        from.at_batch = true;
    }
    MR_TRY(mr_state_open_reader_at(mr_env_posix(), old_dir, &from, &old, err));
    status = mr_state_open_reader_at(mr_env_posix(), new_dir, &to, &new, err);
    if (status == MR_OK) {
        fprintf(stderr, "- batch %llu of %s\n+ batch %llu of %s\n",
                (unsigned long long)mr_state_reader_batch(old), old_dir,
                (unsigned long long)mr_state_reader_batch(new), new_dir);
        status = diff_states(old, new, only, &count, err);
    }
    if (status == MR_OK)
        fprintf(stderr, "%llu keys differ\n", (unsigned long long)count);
    mr_state_close(old);
    mr_state_close(new);
    return status;
}

/* ---- the command ---- */

static enum mr_status look(const struct cli_command *command, const struct cli_args *args,
                           const char *verb, struct mr_error *err)
{
    struct mr_state_reader_options options = {.heads = strcmp(verb, "ls") == 0};
    const struct cli_rows_options written = {cli_value(command, args, "--format") != NULL
                                                 ? cli_value(command, args, "--format")
                                                 : "json",
                                             cli_value(command, args, "--output")};
    struct mr_state *state = NULL;
    enum mr_status status;

    MR_TRY(parse_batch("--batch", cli_value(command, args, "--batch"), &options, err));
    if (args->argument_count > 2)
        options.only_store = args->arguments[2];
    MR_TRY(mr_state_open_reader_at(mr_env_posix(), args->arguments[1], &options, &state, err));
    if (options.heads)
        status = list_stores(state, err);
    else if (strcmp(verb, "du") == 0)
        status = measure(state);
    else if (strcmp(verb, "get") == 0)
        status = get(state, args->arguments[1], args->arguments[2], args->arguments[3], err);
    else
        status = export(state, args->arguments[1], args->arguments[2], &written, err);
    mr_state_close(state);
    return status;
}

static enum mr_status dispatch(const struct cli_command *command, const struct cli_args *args,
                               struct mr_error *err)
{
    static const struct {
        const char *verb;
        size_t arguments; /* with the verb */
    } verbs[] = {{"ls", 2}, {"du", 2}, {"export", 3}, {"get", 4}, {"diff", 0}};
    const char *verb = args->argument_count > 0 ? args->arguments[0] : "";

    mr_plugins_register();
    mr_ops_register_views();
    mr_streams_register_views();
    for (size_t i = 0; i < MR_ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].verb, verb) != 0)
            continue;
        if (args->argument_count < 2 ||
            (verbs[i].arguments > 0 && args->argument_count != verbs[i].arguments))
            return MR_FAIL(err, MR_USAGE, "wrong number of arguments: see 'millrace state --help'");
        return verbs[i].arguments == 0 ? diff(command, args, err) : look(command, args, verb, err);
    }
    return MR_FAIL(err, MR_USAGE,
                   "say what to do: millrace state ls DIR, du DIR, get DIR STORE KEY, export DIR "
                   "STORE or diff DIR [DIR] [STORE]");
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_args args;
    struct mr_error err = {0};

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    if (dispatch(command, &args, &err) != MR_OK)
        return cli_fail(&err);
    return cli_finish_stdout();
}

const struct cli_command cli_state = {
    .name = "state",
    .arguments = "ls DIR | du DIR | get DIR STORE KEY | export DIR STORE | diff DIR [DIR] [STORE]",
    .summary = "Look into the state of a checkpoint, running or not",
    .details =
        "  ls      stores with their kind, keys, bytes on disk, version and what they keep\n"
        "  du      bytes: needed by a start, retained on disk, in memory; per store and in all\n"
        "  get     one key, written as its column values with ',' between: \"2026-01-01 "
        "00:00:00,Oslo\"\n"
        "  export  every row, sorted by key, as JSON lines, CSV or a Parquet file\n"
        "  diff    what changed between two batches, or between two checkpoints: - before, + "
        "after\n",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
