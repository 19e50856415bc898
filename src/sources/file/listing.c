/*
 * Which files a path means: a file, a directory or a glob.
 *
 *     in/a.json            that file
 *     in                   the regular files in it; with recursive those below it too
 *     in/2026-*            files that match; directories that match are listed like `in`
 *
 * Called by file.c at every plan. Symbolic links are not followed, so there are no loops; names
 * that begin with '.' or '_' are other programs' temporary files or bookkeeping and are left out.
 *
 * Invariant: memory is bounded by the depth and one directory's subdirectories, not by the number
 * of files. Thread: driver.
 */
#include "sources/file/file_source.h"

#include <fnmatch.h>
#include <string.h>

struct walk {
    struct mr_env *env;
    const struct mr_fsrc_pattern *pattern;
    mr_fsrc_found_fn found;
    void *arg;
};

/* One directory being listed: what to do with its entries. */
struct level {
    struct walk *walk;
    const char *dir;
    const char *component; /* a glob for the names, NULL = every name of the directory */
    const char *rest;      /* components after it, NULL = it is the last */
    unsigned depth;
    struct mr_buf dirs; /* names of directories to enter, each with its NUL */
    enum mr_status status;
    struct mr_error *err;
};

static enum mr_status walk_dir(struct walk *walk, const char *dir, const char *component,
                               const char *rest, unsigned depth, struct mr_error *err);

static bool is_hidden(const char *name)
{
    return name[0] == '.' || name[0] == '_';
}

static bool has_wildcard(const char *text, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        if (text[i] == '*' || text[i] == '?' || text[i] == '[')
            return true;
    return false;
}

bool mr_fsrc_is_compressed(const char *path)
{
    static const char *const endings[] = {".gz",  ".bz2",    ".zst",    ".xz",
                                          ".lz4", ".snappy", ".deflate"};
    size_t size = strlen(path);

    for (size_t i = 0; i < MR_ARRAY_SIZE(endings); i++) {
        size_t ending = strlen(endings[i]);

        if (size > ending && strcmp(path + size - ending, endings[i]) == 0)
            return true;
    }
    return false;
}

/* "dir" + "name"; an empty dir is the working directory. Freed with mr_free; NULL without
 * memory. */
static char *join(const char *dir, const char *name)
{
    if (dir[0] == '\0')
        return mr_strdup(name);
    return mr_asprintf("%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", name);
}

static enum mr_status report(struct walk *walk, const char *dir, const char *name,
                             struct mr_error *err)
{
    char *path = join(dir, name);
    enum mr_status status;

    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", dir);
    status = walk->found(walk->arg, path, err);
    mr_free(path);
    return status;
}

static bool visit(const char *name, enum mr_file_kind kind, void *arg)
{
    struct level *level = arg;
    struct walk *walk = level->walk;

    if (is_hidden(name) || (level->component != NULL && fnmatch(level->component, name, 0) != 0))
        return true;
    if (kind == MR_KIND_DIRECTORY) {
        if (level->component != NULL || walk->pattern->recursive)
            mr_buf_add(&level->dirs, name, strlen(name) + 1);
        return true;
    }
    if (kind != MR_KIND_FILE || level->rest != NULL)
        return true;
    if (walk->pattern->name_glob != NULL && fnmatch(walk->pattern->name_glob, name, 0) != 0)
        return true;
    level->status = report(walk, level->dir, name, level->err);
    return level->status == MR_OK;
}

/* Goes on below dir with the components in rest ("b*" of "b*" + "/c.json"); rest NULL lists dir. */
static enum mr_status descend(struct walk *walk, const char *dir, const char *rest, unsigned depth,
                              struct mr_error *err)
{
    const char *slash;
    char *component;
    const char *after;
    enum mr_status status;

    if (rest == NULL)
        return walk_dir(walk, dir, NULL, NULL, depth, err);
    slash = strchr(rest, '/');
    component = slash != NULL ? mr_strndup(rest, (size_t)(slash - rest)) : mr_strdup(rest);
    if (component == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", dir);
    after = slash;
    while (after != NULL && *after == '/')
        after++;
    if (after != NULL && *after == '\0')
        after = NULL;
    status = walk_dir(walk, dir, component, after, depth, err);
    mr_free(component);
    return status;
}

static enum mr_status walk_dir(struct walk *walk, const char *dir, const char *component,
                               const char *rest, unsigned depth, struct mr_error *err)
{
    struct level level = {walk, dir, component, rest, depth, MR_BUF_INIT, MR_OK, err};
    enum mr_status status;

    if (depth > FSRC_DEPTH_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot list '%s': more than %d directories deep", dir,
                       (int)FSRC_DEPTH_MAX);
    MR_TRY_GOTO(mr_env_list(walk->env, dir[0] == '\0' ? "." : dir, visit, &level, err));
    MR_TRY_GOTO(level.status);
    if (level.dirs.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", dir);
        goto done;
    }
    for (size_t at = 0; at < level.dirs.size; at += strlen(level.dirs.data + at) + 1) {
        char *below = join(dir, level.dirs.data + at);

        if (below == NULL) {
            status = MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", dir);
            goto done;
        }
        status = descend(walk, below, component != NULL ? rest : NULL, depth + 1, err);
        mr_free(below);
        /* Removed since its name was read: as if it had never been there. */
        if (status == MR_NOT_FOUND)
            status = MR_OK;
        if (status != MR_OK)
            goto done;
    }
done:
    mr_buf_release(&level.dirs);
    return status;
}

enum mr_status mr_fsrc_list(struct mr_env *env, const struct mr_fsrc_pattern *pattern,
                            mr_fsrc_found_fn found, void *arg, struct mr_error *err)
{
    struct walk walk = {env, pattern, found, arg};
    const char *path = pattern->path;
    struct mr_file_info info;
    size_t literal = 0;
    char *dir;
    enum mr_status status;

    /* A name with '*' in it that exists is that file, not a glob. */
    status = mr_env_path_info(env, path, true, &info, err);
    if (status == MR_OK)
        return info.kind == MR_KIND_DIRECTORY ? walk_dir(&walk, path, NULL, NULL, 0, err)
                                              : found(arg, path, err);
    if (status != MR_NOT_FOUND || !has_wildcard(path, strlen(path)))
        return status;
    for (size_t at = 0; path[at] != '\0' && !has_wildcard(path + literal, at - literal); at++)
        if (path[at] == '/')
            literal = at + 1;
    /* The loop above stops inside the first component with a wildcard; literal is where that
     * begins. */
    dir = mr_strndup(path, literal);
    if (dir == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", path);
    if (err != NULL)
        mr_error_clear(err);
    status = descend(&walk, dir, path + literal, 0, err);
    mr_free(dir);
    return status;
}
