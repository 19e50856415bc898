/*
 * Loading libduckdb.so: called by mr_duck_open and mr_duck_version.
 *
 * Tried in this order: $MILLRACE_DUCKDB (then nothing else), the library the build found, the
 * folder an installed millrace keeps its libraries in, the system's search path. The library stays
 * loaded until the process ends: it owns threads and thread-local data that cannot be taken away
 * safely.
 *
 * Thread: any; one lock.
 */
#include "duck/lib.h"

#include "base/buf.h"
#include "env/library.h"
#include "env/thread.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#ifndef MR_DUCKDB_PATH
#define MR_DUCKDB_PATH ""
#endif

static struct mr_mutex load_lock = {PTHREAD_MUTEX_INITIALIZER};
static struct mr_duck_api loaded_api; /* written under load_lock, before loaded is set */
static bool loaded;                   /* atomic */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HAS_SANITIZER = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
enum { HAS_SANITIZER = 1 };
#else
enum { HAS_SANITIZER = 0 };
#endif
#else
enum { HAS_SANITIZER = 0 };
#endif

/*
 * As it comes, the library looks up 41,000 names while it is loaded and each function at its first
 * call, nearly all of them its own. The one of tools/setup is bound to itself (tools/bind-library,
 * docs/decisions/0039) and has 4,500 left. Another one is helped by RTLD_DEEPBIND: it looks into
 * itself first, not last. That would also go past an allocator or a tool that somebody put before
 * libc, so then it is left out.
 */
static int load_flags(void)
{
    int flags = RTLD_LAZY | RTLD_LOCAL;

#ifdef RTLD_DEEPBIND
    const char *preloaded = getenv("LD_PRELOAD");

    if (!HAS_SANITIZER && (preloaded == NULL || preloaded[0] == '\0'))
        flags |= RTLD_DEEPBIND;
#endif
    return flags;
}

static void note_failure(struct mr_buf *tried, const char *path)
{
    const char *why = dlerror();

    mr_buf_printf(tried, "%s'%s'", tried->size > 0 ? ", " : "", path);
    if (why != NULL && strstr(why, "No such file") == NULL)
        mr_buf_printf(tried, " (%s)", why);
}

static void *open_library(struct mr_buf *tried)
{
    const char *wanted = getenv("MILLRACE_DUCKDB");
    const char *places[] = {MR_DUCKDB_PATH, "$ORIGIN/../lib/millrace/libduckdb.so",
                            "$ORIGIN/millrace/libduckdb.so", "libduckdb.so"};

    if (wanted != NULL && wanted[0] != '\0') {
        void *handle = dlopen(wanted, load_flags());
        if (handle == NULL)
            note_failure(tried, wanted);
        return handle;
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        void *handle;

        if (places[i][0] == '\0')
            continue;
        handle = dlopen(places[i], load_flags());
        if (handle != NULL)
            return handle;
        note_failure(tried, places[i]);
    }
    return NULL;
}

static enum mr_status load_symbols(void *handle, struct mr_duck_api *ret_api, struct mr_error *err)
{
    struct mr_duck_api api = {0};
    void *found;

    /* POSIX lets a data pointer from dlsym be used as a function; C does not know the cast, so it
     * is copied. */
#define X(name)                                                                                    \
    found = dlsym(handle, #name);                                                                  \
    if (found == NULL)                                                                             \
        return MR_FAIL(err, MR_CONFIG,                                                             \
                       "cannot use this libduckdb: it has no '%s'; set MILLRACE_DUCKDB to "        \
                       "version 1.4 or newer",                                                     \
                       #name);                                                                     \
    memcpy(&api.name, &found, sizeof(found));
    MR_DUCK_FUNCTIONS(X)
#undef X
    *ret_api = api;
    return MR_OK;
}

static enum mr_status load_locked(struct mr_error *err)
{
    /* The library, and what it takes while it opens: with less it dies inside its allocator. */
    enum { ROOM_MB = 160 };
    struct mr_buf tried = MR_BUF_INIT;
    enum mr_status status;
    void *handle;

    if (__atomic_load_n(&loaded, __ATOMIC_ACQUIRE))
        return MR_OK;
    if (!mr_library_has_room((size_t)ROOM_MB << 20))
        return MR_FAIL(err, MR_LIMIT,
                       "cannot load the SQL engine: it needs %d MB of address space; raise the "
                       "limit ('ulimit -v')",
                       ROOM_MB);
    handle = open_library(&tried);
    if (handle == NULL)
        status =
            MR_FAIL(err, MR_CONFIG,
                    "cannot load the SQL engine: looked for %s; set MILLRACE_DUCKDB to the path "
                    "of libduckdb.so",
                    tried.data != NULL ? tried.data : "libduckdb.so");
    else
        status = load_symbols(handle, &loaded_api, err);
    if (status == MR_OK)
        __atomic_store_n(&loaded, true, __ATOMIC_RELEASE);
    else if (handle != NULL)
        dlclose(handle);
    mr_buf_release(&tried);
    return status;
}

enum mr_status mr_duck_api_load(const struct mr_duck_api **ret_api, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&load_lock);
    status = load_locked(err);
    mr_mutex_unlock(&load_lock);
    if (status == MR_OK)
        *ret_api = &loaded_api;
    return status;
}

const struct mr_duck_api *mr_duck_api_loaded(void)
{
    return __atomic_load_n(&loaded, __ATOMIC_ACQUIRE) ? &loaded_api : NULL;
}
