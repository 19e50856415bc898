/*
 * Loading a shared library of the user's (millrace run --library), called by sql/library.c; and
 * whether there is room for the SQL engine, asked by duck/lib.c. Thread: any.
 */
#include "env/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is loaded runs with all our rights, so nobody else may be able to put it there (L11). */
static enum mr_status check_library(const char *path, struct mr_error *err)
{
    struct stat info;

    if (strchr(path, '/') == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot load the library '%s': it has no directory; write './%s' or the "
                       "whole path",
                       path, path);
    if (stat(path, &info) != 0)
        return MR_FAIL(err, MR_CONFIG, "cannot load the library '%s': %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return MR_FAIL(err, MR_CONFIG, "cannot load the library '%s': it is not a regular file",
                       path);
    if (info.st_uid != geteuid() && info.st_uid != 0)
        return MR_FAIL(err, MR_PERMISSION,
                       "cannot load the library '%s': it belongs to user %u, who could change what "
                       "it does; take one of your own or of root's",
                       path, (unsigned)info.st_uid);
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return MR_FAIL(err, MR_PERMISSION,
                       "cannot load the library '%s': others may write it (mode %03o); chmod go-w "
                       "'%s'",
                       path, (unsigned)(info.st_mode & 0777), path);
    return MR_OK;
}

enum mr_status mr_library_symbol(const char *path, const char *symbol, void **ret_address,
                                 struct mr_error *err)
{
    void *address, *handle;

    MR_TRY(check_library(path, err));
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();

        return MR_FAIL(err, MR_CONFIG, "cannot load the library '%s': %s", path,
                       why != NULL ? why : "no reason");
    }
    address = dlsym(handle, symbol);
    if (address == NULL) {
        (void)dlclose(handle);
        return MR_FAIL(err, MR_CONFIG, "cannot use the library '%s': it does not export '%s'", path,
                       symbol);
    }
    *ret_address = address;
    return MR_OK;
}

bool mr_library_has_room(size_t size_bytes)
{
    void *room =
        mmap(NULL, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (room == MAP_FAILED)
        return false;
    (void)munmap(room, size_bytes);
    return true;
}
