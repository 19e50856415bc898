/*
 * What becomes of files that were read: option clean_source (structured.md 19.1). Called by file.c.
 *
 *     batch N - 1 committed | batch N planned, run, committed --> files of batch N - 1 go
 *
 * So the files of the newest batch stay: it is the one that a person may want to look at or run
 * again. An archived file is renamed to <source_archive_dir>/<its path>; both must be on one file
 * system, and the archive must not be a place where the source looks for files. A file that cannot
 * be cleaned is logged and stays: nothing is read twice because of it.
 *
 * Thread: driver.
 */
#include "sources/file/file_source.h"

#include <millrace/ext/durable.h>

#include <fnmatch.h>
#include <string.h>

static const char *next_component(const char *path, size_t *ret_size)
{
    while (*path == '/' || (path[0] == '.' && path[1] == '/'))
        path++;
    *ret_size = strcspn(path, "/");
    return path;
}

/* Does the pattern match the path as far as both go? Then files of one may be below the other. */
static bool overlap(const char *pattern, const char *path)
{
    for (;;) {
        size_t pattern_size, path_size;
        char *glob, *name;
        bool match;

        pattern = next_component(pattern, &pattern_size);
        path = next_component(path, &path_size);
        if (pattern_size == 0 || path_size == 0)
            return true;
        glob = mr_strndup(pattern, pattern_size);
        name = mr_strndup(path, path_size);
        match = glob == NULL || name == NULL || fnmatch(glob, name, 0) == 0;
        mr_free(glob);
        mr_free(name);
        if (!match)
            return false;
        pattern += pattern_size;
        path += path_size;
    }
}

/* The directory of the pattern in front of its first wildcard must be on the archive's device. */
static enum mr_status check_device(struct mr_env *env, const char *pattern, const char *archive,
                                   struct mr_error *err)
{
    size_t size = strcspn(pattern, "*?[");
    struct mr_file_info from, to;
    enum mr_status status;
    char *dir;

    if (pattern[size] != '\0') {
        while (size > 0 && pattern[size - 1] != '/')
            size--;
    }
    dir = size > 0 ? mr_strndup(pattern, size) : mr_strdup(".");
    if (dir == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot look at '%s': out of memory", pattern);
    status = mr_env_path_info(env, dir, true, &from, err);
    if (status == MR_OK)
        status = mr_env_path_info(env, archive, true, &to, err);
    if (status == MR_OK && from.device != to.device)
        status = MR_FAIL(err, MR_CONFIG,
                         "'source_archive_dir' = '%s' is on another file system than '%s'; archive "
                         "to the same one",
                         archive, dir);
    mr_free(dir);
    return status;
}

enum mr_status mr_fsrc_clean_open(struct mr_fsrc_clean *clean, struct mr_env *env, const char *path,
                                  const struct mr_options *options, struct mr_error *err)
{
    clean->env = env;
    clean->mode = (enum mr_fsrc_clean_mode)mr_options_int(options, "clean_source");
    clean->archive_dir = mr_options_text(options, "source_archive_dir");
    if (clean->mode != FSRC_CLEAN_ARCHIVE)
        return clean->archive_dir == NULL
                   ? MR_OK
                   : MR_FAIL(err, MR_CONFIG,
                             "'source_archive_dir' does nothing without clean_source = 'archive'");
    if (clean->archive_dir == NULL)
        return MR_FAIL(err, MR_CONFIG, "clean_source = 'archive' needs 'source_archive_dir'");
    if ((path[0] == '/') == (clean->archive_dir[0] == '/') && overlap(path, clean->archive_dir))
        return MR_FAIL(
            err, MR_CONFIG,
            "'source_archive_dir' = '%s' is where '%s' looks for files, which would read "
            "them again; archive to another directory",
            clean->archive_dir, path);
    MR_TRY(mr_durable_mkdirs(env, clean->archive_dir, err));
    return check_device(env, path, clean->archive_dir, err);
}

void mr_fsrc_clean_release(struct mr_fsrc_clean *clean)
{
    mr_free(clean->end);
    mr_free(clean->before);
    clean->end = clean->before = NULL;
}

void mr_fsrc_clean_running(struct mr_fsrc_clean *clean, const char *start, const char *end)
{
    if (clean->mode == FSRC_CLEAN_OFF)
        return;
    mr_fsrc_clean_release(clean);
    if (start == NULL)
        return;
    clean->before = mr_strdup(start);
    clean->end = mr_strdup(end);
}

static enum mr_status archive(const struct mr_fsrc_clean *clean, const char *path,
                              struct mr_error *err)
{
    const char *relative = path + strspn(path, "/");
    char *target = mr_asprintf("%s/%s", clean->archive_dir, relative);
    char *slash = target != NULL ? strrchr(target, '/') : NULL;
    enum mr_status status;

    if (slash == NULL) {
        mr_free(target);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    *slash = '\0';
    status = mr_durable_mkdirs(clean->env, target, err);
    *slash = '/';
    if (status == MR_OK)
        status = mr_env_rename(clean->env, path, target, true, err);
    mr_free(target);
    return status;
}

void mr_fsrc_clean_committed(struct mr_fsrc_clean *clean, const char *name, const char *end)
{
    struct mr_fsrc_range *range = NULL;
    struct mr_error err = {0};

    if (clean->before == NULL || clean->end == NULL || strcmp(clean->end, end) != 0)
        return;
    if (mr_fsrc_range_parse(clean->before, false, &range, &err) != MR_OK)
        mr_ext_log('W', name, "%s", err.text);
    for (size_t i = 0; range != NULL && i < range->files.count; i++) {
        const char *path = range->files.items[i].path;
        enum mr_status status = clean->mode == FSRC_CLEAN_DELETE
                                    ? mr_env_unlink(clean->env, path, &err)
                                    : archive(clean, path, &err);

        if (status != MR_OK && status != MR_NOT_FOUND)
            mr_ext_log('W', name, "'%s' was read and stays where it is: %s", path, err.text);
    }
    mr_fsrc_range_unref(range);
    mr_fsrc_clean_release(clean);
}
