/*
 * Relative paths of a program that changes its directory.
 *
 * While somebody holds the pin, the POSIX environment takes relative paths from the directory in
 * which the process was when the first of them took it. Contexts and sessions of programs hold it
 * from their making to their end. The command does not: it never changes its directory.
 *
 * Thread: any.
 */
#ifndef MR_ENV_PIN_H
#define MR_ENV_PIN_H

/* Without a descriptor for it paths stay those of the process, and the log says so. */
void mr_env_pin(void);
void mr_env_unpin(void);
/* For the *at() calls of the system: the directory, or AT_FDCWD. */
int mr_env_pin_fd(void);
/* For libraries that open files themselves: an absolute path when the pin says something else than
 * the process, else a copy. NULL without memory; freed with mr_free. */
char *mr_env_pin_path(const char *path);

#endif
