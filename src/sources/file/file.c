/*
 * Source `file`: every file that appears in a directory (or matches a glob) is read once.
 *
 * A plan is the explicit list of the batch's files (offset.c), chosen from those that were never
 * planned before. What was planned is remembered in the source's key/value store, which is
 * committed with the batch:
 *
 *     key   path (or bare name with file_name_only)         value  "<size> <mtime in ns>"
 *
 * The files of the last plan may not be in the store yet (its batch is not committed): plan() looks
 * at its own start offset too. A path is read once, whatever happens to the file later; a file that
 * changes between plan and read stops the query, because the rows of a batch must not depend on
 * when it is read.
 *
 * Invariants: selection is by the seen-set, never by time, so a file with an old time is not
 * missed; order is (mtime, path).
 *
 * Thread: driver, except readers (reader.c).
 */
#include "sources/file/file_source.h"

#include "base/mutant.h"

#include "base/number_text.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MISSING_GRACE_S = 5 };

struct mr_source {
    char *name;
    char *path;
    struct mr_fsrc_pattern pattern;
    struct mr_fsrc_reading reading;
    struct mr_kv *kv;
    bool cuttable;
    bool latest_first;
    bool name_only;
    int64_t files_max; /* per batch, 0 = no limit */
    int64_t bytes_max;
    int64_t age_max_ns; /* 0 = none */
    int64_t settle_us;  /* files written to more recently are left for a later plan */
    int64_t newest_ns;  /* of all files planned so far */
    bool frozen;        /* until caught up: only what the first listing found */
    bool listed;
    /* Listed and not planned yet, in order; [pending_at ..) are left. */
    struct mr_fsrc_files pending;
    size_t pending_at;
    size_t pending_before; /* pending_at before the last plan, should it be asked again */
    int64_t last_number;   /* of the last plan, -1 = none */
    int64_t missing_since_ns;
    bool warned_age;
    const char **start_keys; /* of the start offset while a plan is made: seen too; sorted */
    size_t start_key_count;
    /* The range split() was asked for last; readers share it. lock guards the pointer. */
    atomic_flag lock;
    struct mr_fsrc_range *current;
    struct mr_fsrc_clean clean;
};

static const struct mr_option file_options[] = {
    {"path", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED | MR_OPTION_READS, NULL, NULL, NULL,
     "A directory, a file, or a glob with *, ? and [...]."},
    {"max_files_per_trigger", "maxFilesPerTrigger", MR_OPTION_INT, 0, "0", "0", NULL,
     "At most this many files in a batch; 0 sets no limit."},
    {"max_bytes_per_trigger", "maxBytesPerTrigger", MR_OPTION_SIZE, 0, "0", "0", NULL,
     "Files of a batch together at most this large, the first file excepted; 0 sets no limit."},
    {"latest_first", "latestFirst", MR_OPTION_BOOL, 0, "false", NULL, NULL, "Newest files first."},
    {"max_file_age", "maxFileAge", MR_OPTION_DURATION, 0, NULL, "0", NULL,
     "Files older than the newest one by more than this are left out, and forgotten; unset keeps "
     "all."},
    {"settle_time", NULL, MR_OPTION_DURATION, 0, "0s", "0s", "24 hours",
     "Files written to more recently than this are left for later: for writers that do not "
     "rename."},
    {"file_name_only", "fileNameOnly", MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "A file is recognised by its name alone, without its directory."},
    {"recursive", "recursiveFileLookup", MR_OPTION_BOOL, 0, "false", NULL, NULL,
     "Also files in subdirectories."},
    {"partition_columns", "partitionColumns", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Declared columns, with commas between, whose values come from directories name=value below "
     "path; those are looked into."},
    {"path_glob_filter", "pathGlobFilter", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Only files whose name matches."},
    {"clean_source", "cleanSource", MR_OPTION_ENUM, MR_OPTION_WRITES, "off", "off|archive|delete",
     NULL, "What becomes of a file when the batch after its own is committed."},
    {"source_archive_dir", "sourceArchiveDir", MR_OPTION_TEXT, MR_OPTION_WRITES, NULL, NULL, NULL,
     "Where clean_source = 'archive' moves files, each with its whole path below it."},
    {"max_line_bytes", "maxLineBytes", MR_OPTION_SIZE, 0, "16 MiB", "16 B", "1 GiB",
     "A longer record is a bad record."},
};

static void lock(struct mr_source *source)
{
    while (atomic_flag_test_and_set_explicit(&source->lock, memory_order_acquire))
        ;
}

static void unlock(struct mr_source *source)
{
    atomic_flag_clear_explicit(&source->lock, memory_order_release);
}

static void file_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_fsrc_range_unref(source->current);
    mr_fsrc_files_release(&source->pending);
    mr_fsrc_clean_release(&source->clean);
    mr_fsrc_partitioning_release(&source->reading.partitioning);
    mr_free(source->name);
    mr_free(source->path);
    mr_free(source);
}

/* ---- the seen-set ---- */

static const char *key_of(const struct mr_source *source, const char *path)
{
    const char *slash = source->name_only ? strrchr(path, '/') : NULL;

    return slash != NULL ? slash + 1 : path;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_seen(const struct mr_source *source, const char *path)
{
    const char *key = key_of(source, path);
    struct mr_slice value;

    if (source->start_key_count > 0 && !MR_MUTANT("file-source.seen.start") &&
        bsearch(&key, source->start_keys, source->start_key_count, sizeof(key), compare_keys) !=
            NULL)
        return true;
    return source->kv != NULL && !MR_MUTANT("file-source.seen.store") &&
           mr_kv_get(source->kv, (struct mr_slice){key, strlen(key)}, &value);
}

/* The time in a stored value, or INT64_MIN. */
static int64_t value_mtime(struct mr_slice value)
{
    const char *blank = memchr(value.data, ' ', value.size_bytes);
    int64_t mtime_ns;

    if (blank == NULL ||
        !mr_int_parse(blank + 1, value.size_bytes - (size_t)(blank + 1 - value.data), &mtime_ns))
        return INT64_MIN;
    return mtime_ns;
}

static bool visit_newest(struct mr_slice key, struct mr_slice value, void *arg)
{
    struct mr_source *source = arg;
    int64_t mtime_ns = value_mtime(value);

    MR_UNUSED(key);
    source->newest_ns = MR_MAX(source->newest_ns, mtime_ns);
    return true;
}

static bool is_too_old(const struct mr_source *source, int64_t mtime_ns)
{
    return source->age_max_ns > 0 && source->newest_ns > INT64_MIN + source->age_max_ns &&
           mtime_ns < source->newest_ns - source->age_max_ns;
}

static bool is_unsettled(const struct mr_source *source, int64_t mtime_ns)
{
    return source->settle_us > 0 &&
           mtime_ns / 1000 > mr_env_wall_us(source->reading.env) - source->settle_us;
}

/* ---- opening ---- */

static enum mr_status check_options(const struct mr_source_args *args, struct mr_error *err)
{
    const struct mr_options *options = args->options;

    if (args->format == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot open file source '%s': option 'format' is missing",
                       args->name);
    if (mr_options_int(options, "max_files_per_trigger") > 0 &&
        mr_options_int(options, "max_bytes_per_trigger") > 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open file source '%s': 'max_files_per_trigger' and "
                       "'max_bytes_per_trigger' are both "
                       "set; use one",
                       args->name);
    return MR_OK;
}

/* The directory (for a glob: what stands before the first wildcard) must be there. */
static enum mr_status ignore_path(void *arg, const char *path, struct mr_error *err)
{
    MR_UNUSED(arg);
    MR_UNUSED(path);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status check_path(struct mr_source *source, struct mr_error *err)
{
    enum mr_status status =
        mr_fsrc_list(source->reading.env, &source->pattern, ignore_path, NULL, err);

    if (status == MR_NOT_FOUND)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open file source '%s': there is no '%s'; create the directory or "
                       "correct 'path'",
                       source->name, source->path);
    return status == MR_OK ? MR_OK
                           : mr_error_prefix(err, "cannot open file source '%s'", source->name);
}

static enum mr_status fill_source(struct mr_source *source, const struct mr_source_args *args,
                                  struct mr_error *err)
{
    const struct mr_options *options = args->options;
    bool limited;

    atomic_flag_clear(&source->lock);
    source->name = mr_strdup(args->name);
    source->path = mr_strdup(mr_options_text(options, "path"));
    if (source->name == NULL || source->path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open file source '%s': out of memory", args->name);
    source->pattern.path = source->path;
    source->pattern.name_glob = mr_options_text(options, "path_glob_filter");
    source->pattern.recursive = mr_options_bool(options, "recursive");
    source->kv = args->kv;
    source->cuttable = !args->format->whole_files && args->format->cut == NULL;
    source->latest_first = mr_options_bool(options, "latest_first");
    source->name_only = mr_options_bool(options, "file_name_only");
    source->files_max = mr_options_int(options, "max_files_per_trigger");
    source->bytes_max = mr_options_int(options, "max_bytes_per_trigger");
    limited = source->files_max > 0 || source->bytes_max > 0;
    /* Newest first with a limit would reach old files only after they are too old: the age is
     * ignored then. */
    if (mr_options_has(options, "max_file_age") && !(source->latest_first && limited))
        source->age_max_ns =
            MR_MIN(mr_options_int(options, "max_file_age"), INT64_MAX / 2000) * 1000;
    source->settle_us = mr_options_int(options, "settle_time");
    source->newest_ns = INT64_MIN;
    source->frozen = args->until_caught_up;
    source->last_number = -1;
    source->reading.env = args->env;
    source->reading.name = source->name;
    source->reading.format = args->format;
    source->reading.line_bytes_max = (uint64_t)mr_options_int(options, "max_line_bytes");
    source->reading.decoder.declared = args->declared != NULL ? args->declared : args->schema;
    source->reading.decoder.schema = args->schema;
    source->reading.decoder.options = options;
    source->reading.decoder.on_error = args->on_error;
    if (mr_fsrc_partitioning_open(&source->reading.partitioning, args, source->path, err) != MR_OK)
        return mr_error_prefix(err, "cannot open file source '%s'", args->name);
    if (source->reading.partitioning.list != NULL) {
        source->pattern.recursive = true;
        source->reading.decoder.declared = source->reading.partitioning.declared;
        source->reading.decoder.schema = source->reading.partitioning.schema;
    }
    if (source->kv != NULL && source->age_max_ns > 0)
        mr_kv_scan(source->kv, visit_newest, source);
    return MR_OK;
}

static enum mr_status file_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                struct mr_error *err)
{
    struct mr_source *source;
    enum mr_status status;

    MR_TRY(check_options(args, err));
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open file source '%s': out of memory", args->name);
    MR_TRY_GOTO(fill_source(source, args, err));
    MR_TRY_GOTO(check_path(source, err));
    if (mr_fsrc_clean_open(&source->clean, args->env, source->path, args->options, err) != MR_OK) {
        status = mr_error_prefix(err, "cannot open file source '%s'", args->name);
        goto done;
    }
    *ret_source = source;
    source = NULL;
done:
    file_stop(source);
    return status;
}

/* ---- planning ---- */

static enum mr_status found_candidate(void *arg, const char *path, struct mr_error *err)
{
    struct mr_source *source = arg;
    struct mr_file_info info;
    enum mr_status status;

    if (is_seen(source, path))
        return MR_OK;
    status = mr_env_path_info(source->reading.env, path, true, &info, err);
    if (status == MR_NOT_FOUND)
        return MR_OK; /* removed since it was listed */
    MR_TRY(status);
    if (info.kind != MR_KIND_FILE || is_unsettled(source, info.mtime_ns))
        return MR_OK;
    if (is_too_old(source, info.mtime_ns)) {
        if (!source->warned_age)
            mr_ext_log('W', source->name,
                       "files older than max_file_age are left out, for example '%s' (said once)",
                       path);
        source->warned_age = true;
        return MR_OK;
    }
    return mr_fsrc_files_add(&source->pending, path, &info, err);
}

static int compare_files(const void *a, const void *b)
{
    const struct mr_fsrc_file *left = a;
    const struct mr_fsrc_file *right = b;

    if (left->mtime_ns != right->mtime_ns)
        return left->mtime_ns < right->mtime_ns ? -1 : 1;
    return strcmp(left->path, right->path);
}

static void reverse(struct mr_fsrc_files *files)
{
    for (size_t i = 0, k = files->count; i + 1 < k; i++) {
        struct mr_fsrc_file swapped = files->items[i];

        k--;
        files->items[i] = files->items[k];
        files->items[k] = swapped;
    }
}

/* Lists again unless files of the last listing are left; with latest_first always, because newer
 * ones go first. */
static enum mr_status refresh_pending(struct mr_source *source, struct mr_error *err)
{
    enum mr_status status;
    int64_t now_ns = mr_env_monotonic_ns(source->reading.env);

    if (source->frozen && source->listed)
        return MR_OK;
    if (source->pending_at < source->pending.count && !source->latest_first)
        return MR_OK;
    mr_fsrc_files_release(&source->pending);
    source->pending_at = 0;
    source->pending_before = 0;
    status = mr_fsrc_list(source->reading.env, &source->pattern, found_candidate, source, err);
    if (status != MR_OK) /* half a listing, in no order, is not one to plan from */
        mr_fsrc_files_release(&source->pending);
    if (status == MR_NOT_FOUND) {
        /* A directory that is replaced is away for a moment. */
        if (source->missing_since_ns == 0)
            source->missing_since_ns = now_ns;
        if (now_ns - source->missing_since_ns < (int64_t)MISSING_GRACE_S * 1000000000)
            return MR_OK;
        return MR_FAIL(
            err, MR_IO,
            "cannot list '%s' for source '%s': it was removed; put it back and start again",
            source->path, source->name);
    }
    MR_TRY(status);
    source->missing_since_ns = 0;
    source->listed = true;
    if (source->pending.count > 1)
        qsort(source->pending.items, source->pending.count, sizeof(*source->pending.items),
              compare_files);
    if (source->latest_first)
        reverse(&source->pending);
    return MR_OK;
}

/* What the file is now, when it is still one to take. */
static enum mr_status look_again(struct mr_source *source, struct mr_fsrc_file *file,
                                 bool *ret_take, struct mr_error *err)
{
    struct mr_file_info info;
    enum mr_status status;

    *ret_take = false;
    if (is_seen(source, file->path) && !MR_MUTANT("file-source.choose.seen"))
        return MR_OK;
    if (mr_fsrc_is_compressed(file->path))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot read '%s': compressed files are not supported; decompress it, or "
                       "leave it out with "
                       "'path_glob_filter'",
                       file->path);
    status = mr_env_path_info(source->reading.env, file->path, true, &info, err);
    if (status == MR_NOT_FOUND)
        return MR_OK;
    MR_TRY(status);
    file->size_bytes = info.size_bytes;
    file->mtime_ns = info.mtime_ns;
    file->inode = info.inode;
    *ret_take = true;
    return MR_OK;
}

/* Moves the files of the next batch to chosen (which borrows their paths). */
static enum mr_status choose(struct mr_source *source, const struct mr_plan_limits *limits,
                             struct mr_fsrc_file *chosen, size_t *ret_count, struct mr_error *err)
{
    size_t files_max = FSRC_BATCH_FILES_MAX;
    uint64_t bytes = 0, bytes_max = limits->bytes_max;
    size_t count = 0;

    if (source->bytes_max > 0)
        bytes_max = bytes_max > 0 ? MR_MIN((uint64_t)source->bytes_max, bytes_max)
                                  : (uint64_t)source->bytes_max;
    if (!limits->ignore && source->files_max > 0)
        files_max = MR_MIN(files_max, (size_t)source->files_max);
    while (source->pending_at < source->pending.count && count < files_max) {
        struct mr_fsrc_file *file = &source->pending.items[source->pending_at];
        bool take;

        MR_TRY(look_again(source, file, &take, err));
        if (take && !limits->ignore && bytes_max > 0 && count > 0 &&
            bytes + file->size_bytes > bytes_max)
            break;
        source->pending_at++;
        if (take) {
            bytes += file->size_bytes;
            chosen[count++] = *file;
        }
    }
    *ret_count = count;
    return MR_OK;
}

static enum mr_status set_start_keys(struct mr_source *source, const struct mr_fsrc_range *start,
                                     struct mr_error *err)
{
    source->start_keys = NULL;
    source->start_key_count = 0;
    if (start == NULL || start->files.count == 0)
        return MR_OK;
    source->start_keys = mr_alloc(NULL, start->files.count * sizeof(*source->start_keys));
    if (source->start_keys == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan file source '%s': out of memory", source->name);
    for (size_t i = 0; i < start->files.count; i++) {
        source->start_keys[i] = key_of(source, start->files.items[i].path);
        source->newest_ns = MR_MAX(source->newest_ns, start->files.items[i].mtime_ns);
    }
    source->start_key_count = start->files.count;
    qsort(source->start_keys, source->start_key_count, sizeof(*source->start_keys), compare_keys);
    return MR_OK;
}

static enum mr_status plan_after(struct mr_source *source, const struct mr_fsrc_range *start,
                                 const struct mr_plan_limits *limits, char **ret_end,
                                 struct mr_error *err)
{
    int64_t number = start != NULL ? (int64_t)start->number + 1 : 0;
    struct mr_fsrc_file *chosen = NULL;
    size_t count = 0;
    enum mr_status status;

    MR_TRY_GOTO(set_start_keys(source, start, err));
    if (source->last_number == number) /* the last plan was not used */
        source->pending_at = source->pending_before;
    MR_TRY_GOTO(refresh_pending(source, err));
    source->pending_before = source->pending_at;
    if (source->pending_at < source->pending.count) {
        size_t room =
            MR_MIN(source->pending.count - source->pending_at, (size_t)FSRC_BATCH_FILES_MAX);

        chosen = mr_alloc(NULL, room * sizeof(*chosen));
        if (chosen == NULL) {
            status =
                MR_FAIL(err, MR_NOMEM, "cannot plan file source '%s': out of memory", source->name);
            goto done;
        }
        MR_TRY_GOTO(choose(source, limits, chosen, &count, err));
    }
    if (count > 0) {
        MR_TRY_GOTO(mr_fsrc_range_print((uint64_t)number, chosen, count, ret_end, err));
        source->last_number = number;
    }
done:
    if (status != MR_OK) /* what was chosen is chosen again by the next try */
        source->pending_at = source->pending_before;
    mr_free(chosen);
    mr_free(source->start_keys);
    source->start_keys = NULL;
    source->start_key_count = 0;
    return status;
}

static enum mr_status file_plan(struct mr_source *source, const char *start,
                                const struct mr_plan_limits *limits, char **ret_end,
                                struct mr_error *err)
{
    struct mr_fsrc_range *range = NULL;
    enum mr_status status = MR_OK;

    if (source->kv == NULL && start != NULL) /* a static table is read once, from the start */
        return MR_FAIL(err, MR_STATE,
                       "cannot plan file source '%s': it was opened without its store",
                       source->name);
    *ret_end = NULL;
    if (start != NULL)
        MR_TRY(mr_fsrc_range_parse(start, source->cuttable, &range, err));
    status = plan_after(source, range, limits, ret_end, err);
    mr_fsrc_range_unref(range);
    return status;
}

/* ---- ranges ---- */

/* The parsed form of end; the last one is kept, because every reader of a batch asks for the same.
 * Returns a reference. */
static enum mr_status range_of(struct mr_source *source, const char *end,
                               struct mr_fsrc_range **ret_range, struct mr_error *err)
{
    struct mr_fsrc_range *range = NULL;
    struct mr_fsrc_range *old;

    lock(source);
    if (source->current != NULL && strcmp(source->current->text, end) == 0)
        range = mr_fsrc_range_ref(source->current);
    unlock(source);
    if (range == NULL) {
        MR_TRY(mr_fsrc_range_parse(end, source->cuttable, &range, err));
        lock(source);
        old = source->current;
        source->current = mr_fsrc_range_ref(range);
        unlock(source);
        mr_fsrc_range_unref(old);
    }
    *ret_range = range;
    return MR_OK;
}

static bool is_empty_range(const char *start, const char *end)
{
    return end == NULL || (start != NULL && strcmp(start, end) == 0);
}

static enum mr_status file_split(struct mr_source *source, const char *start, const char *end,
                                 uint32_t *ret_partitions, uint64_t *ret_bytes,
                                 struct mr_error *err)
{
    struct mr_fsrc_range *range;

    *ret_partitions = 0;
    *ret_bytes = 0;
    if (is_empty_range(start, end))
        return MR_OK;
    MR_TRY(range_of(source, end, &range, err));
    if (range->number != (uint64_t)(start != NULL ? mr_fsrc_range_number(start) + 1 : 0) &&
        !MR_MUTANT("file-source.split.follows")) {
        uint64_t number = range->number;

        mr_fsrc_range_unref(range);
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read a batch of file source '%s': its number %" PRIu64
                       " does not follow that of the batch before; restore the checkpoint from a "
                       "copy",
                       source->name, number);
    }
    mr_fsrc_clean_running(&source->clean, start, end);
    *ret_partitions = range->partition_count;
    *ret_bytes = range->total_bytes;
    mr_fsrc_range_unref(range);
    return MR_OK;
}

static enum mr_status file_read(struct mr_source *source, const char *start, const char *end,
                                uint32_t partition, struct mr_reader **ret_reader,
                                struct mr_error *err)
{
    struct mr_fsrc_range *range;
    enum mr_status status;

    MR_ASSERT(!is_empty_range(start, end));
    MR_TRY(range_of(source, end, &range, err));
    status = mr_fsrc_reader_new(&source->reading, range, partition, ret_reader, err);
    mr_fsrc_range_unref(range);
    return status;
}

struct forget {
    const struct mr_source *source;
    struct mr_buf keys; /* length (u32), bytes */
};

static bool visit_old(struct mr_slice key, struct mr_slice value, void *arg)
{
    struct forget *forget = arg;

    if (is_too_old(forget->source, value_mtime(value))) {
        mr_buf_add_u32(&forget->keys, (uint32_t)key.size_bytes);
        mr_buf_add(&forget->keys, key.data, key.size_bytes);
    }
    return true;
}

/* Files that max_file_age keeps out anyway need not be remembered: the store stays as small as the
 * directory. */
static enum mr_status forget_old(struct mr_source *source, struct mr_kv *kv, struct mr_error *err)
{
    struct forget forget = {source, MR_BUF_INIT};
    struct mr_bytes bytes;
    enum mr_status status = MR_OK;

    mr_kv_scan(kv, visit_old, &forget);
    bytes = mr_bytes_of(forget.keys.data, forget.keys.size);
    while (status == MR_OK && !forget.keys.failed && mr_bytes_left(&bytes) > 0) {
        size_t size = mr_bytes_u32(&bytes);
        const char *key = mr_bytes_take(&bytes, size);

        MR_ASSERT(key != NULL);
        status = mr_kv_delete(kv, (struct mr_slice){key, size}, err);
    }
    mr_buf_release(&forget.keys);
    return status;
}

static enum mr_status file_remember(struct mr_source *source, const char *start, const char *end,
                                    struct mr_kv *kv, struct mr_error *err)
{
    struct mr_fsrc_range *range;
    enum mr_status status = MR_OK;

    if (is_empty_range(start, end))
        return MR_OK;
    MR_TRY(range_of(source, end, &range, err));
    for (size_t i = 0; i < range->files.count && status == MR_OK; i++) {
        const struct mr_fsrc_file *file = &range->files.items[i];
        const char *key = key_of(source, file->path);
        char value[2 * MR_NUMBER_TEXT_BYTES];
        size_t size = mr_uint_print(file->size_bytes, value);

        value[size++] = ' ';
        size += mr_int_print(file->mtime_ns, value + size);
        source->newest_ns = MR_MAX(source->newest_ns, file->mtime_ns);
        status =
            mr_kv_put(kv, (struct mr_slice){key, strlen(key)}, (struct mr_slice){value, size}, err);
    }
    mr_fsrc_range_unref(range);
    if (status == MR_OK && source->age_max_ns > 0)
        status = forget_old(source, kv, err);
    return status;
}

static void file_committed(struct mr_source *source, const char *end)
{
    mr_fsrc_clean_committed(&source->clean, source->name, end);
}

static bool file_exhausted(struct mr_source *source, const char *end)
{
    MR_UNUSED(end);
    return source->frozen && source->listed && source->pending_at >= source->pending.count;
}

/* The age of what was read last is that of the newest file of all batches so far. */
static void file_stats(struct mr_source *source, const char *end, struct mr_source_stats *ret_stats)
{
    MR_UNUSED(end);
    if (source->newest_ns > 0)
        ret_stats->newest_us = source->newest_ns / 1000;
}

static const struct mr_source_ops file_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = file_plan,
    .split = file_split,
    .read = file_read,
    .next = mr_fsrc_reader_next,
    .take_bad = mr_fsrc_reader_take_bad,
    .close = mr_fsrc_reader_close,
    .remember = file_remember,
    .committed = file_committed,
    .stats = file_stats,
    .exhausted = file_exhausted,
    .stop = file_stop,
};

extern const struct mr_source_connector mr_source_file_connector;
const struct mr_source_connector mr_source_file_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "file",
    .summary = "Reads every file that appears in a directory or matches a glob, once.",
    .guarantee = "replayable; files must appear whole (rename them in) and stay as they are",
    .options = file_options,
    .option_count = MR_ARRAY_SIZE(file_options),
    .takes_format = true,
    .open = file_open,
    .ops = &file_ops,
};
