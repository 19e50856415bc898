/* Version of the program; the build may give compiler and flags. */
#ifndef MR_CLI_VERSION_H
#define MR_CLI_VERSION_H

#define MR_VERSION_TEXT "0.1.0"

#ifdef __clang__
#define MR_COMPILER "clang " __clang_version__
#else
#define MR_COMPILER "gcc " __VERSION__
#endif

#ifndef MR_COMPILE_FLAGS
#define MR_COMPILE_FLAGS "unknown"
#endif

#endif
