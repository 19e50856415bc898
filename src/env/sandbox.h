/*
 * The sandbox of `millrace run --sandbox`: from the call on, the process and all its threads can
 * open only the paths given, use only the system calls a pipeline needs, and gain no privilege.
 *
 *     no_new_privs --> Landlock (files, listening) --> seccomp (system calls) --> not dumpable
 *
 * There is no way back. Files that are open stay open: libraries are loaded before.
 */
#ifndef MR_ENV_SANDBOX_H
#define MR_ENV_SANDBOX_H

#include <millrace/error.h>

#include <stdbool.h>
#include <stddef.h>

struct mr_sandbox_path {
    const char *path; /* a file, or a directory with everything below it */
    bool write;       /* also create, change and remove */
};

/*
 * A path to read that does not exist is left out: it can never be read then; one to write must be
 * there. Before any thread is started: the rules bind the calling thread and those it makes.
 * MR_CONFIG when this kernel has no Landlock (5.13 has it) or no seccomp filters.
 */
enum mr_status mr_sandbox_enter(const struct mr_sandbox_path *paths, size_t count,
                                struct mr_error *err);

#endif
