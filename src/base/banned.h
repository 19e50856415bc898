/*
 * Names that src outside base/ and env/ must not use: the last include of a .c file, after all
 * third-party headers (they may use these names; poisoning begins here).  tools/tidy checks the
 * same rule without this header.
 *
 * Memory comes from base/alloc.h; time, files, sockets and random numbers from a struct mr_env;
 * text from base/buf.h, base/number_text.h and base/time_text.h, which do not look at the locale.
 */
#ifndef MR_BASE_BANNED_H
#define MR_BASE_BANNED_H

/*
 * Headers that define some of the names as macros: once they are in, poisoning cannot hit a later
 * include of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Poisoned names that are macros already would warn (and glibc's fortify headers define some): drop
 * the macro first.
 */
#undef malloc
#undef calloc
#undef realloc
#undef reallocarray
#undef strdup
#undef strndup
#undef asprintf
#undef vasprintf
#undef alloca
#undef strcpy
#undef strcat
#undef strncpy
#undef strtok
#undef sprintf
#undef vsprintf
#undef gets
#undef atoi
#undef atol
#undef atof
#undef strtod
#undef strtof
#undef localtime
#undef gmtime
#undef localtime_r
#undef mktime
#undef asctime
#undef ctime
#undef strftime
#undef strptime
#undef rand
#undef srand
#undef srandom
#undef rand_r
#undef gettimeofday
#undef clock_gettime
#undef nanosleep
#undef usleep
#undef fopen
#undef freopen
#undef tmpfile
#undef tmpnam
#undef tempnam
#undef mkstemp
#undef popen
#undef setlocale

#pragma GCC poison malloc calloc realloc reallocarray strdup strndup asprintf vasprintf alloca
#pragma GCC poison strcpy strcat strncpy strtok sprintf vsprintf gets atoi atol atof strtod strtof
#pragma GCC poison localtime gmtime localtime_r mktime asctime ctime strftime strptime
#pragma GCC poison rand srand srandom rand_r gettimeofday clock_gettime nanosleep usleep
#pragma GCC poison fopen freopen tmpfile tmpnam tempnam mkstemp popen setlocale

#endif
