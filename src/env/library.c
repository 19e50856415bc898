/*
 * Loading a shared library of the user's (millrace run --library). Called by sql/library.c. Thread:
 * any.
 */
#include "env/library.h"

#include <dlfcn.h>

enum mr_status mr_library_symbol(const char *path, const char *symbol, void **ret_address,
                                 struct mr_error *err)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *address;

    if (handle == NULL) {
        const char *why = dlerror();

        return MR_FAIL(err, MR_CONFIG,
                       "cannot load the library '%s': %s; a path without '/' is looked for in the "
                       "system's folders",
                       path, why != NULL ? why : "no reason");
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
