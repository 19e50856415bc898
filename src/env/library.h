/*
 * Shared libraries of the user. They stay loaded until the process ends: what they gave out may
 * still be called. Thread: any.
 */
#ifndef MR_ENV_LIBRARY_H
#define MR_ENV_LIBRARY_H

#include <millrace/error.h>

/* The address of `symbol` in the library at path. MR_CONFIG: it cannot be loaded, or has no such
 * symbol. */
enum mr_status mr_library_symbol(const char *path, const char *symbol, void **ret_address,
                                 struct mr_error *err);

/* Could so many bytes of address space be had now? ('ulimit -v' limits them.) */
bool mr_library_has_room(size_t size_bytes);

#endif
