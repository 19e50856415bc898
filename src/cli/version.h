/* What the program says of itself. The build gives MR_VERSION_TEXT and MR_COMPILE_FLAGS. */
#ifndef MR_CLI_VERSION_H
#define MR_CLI_VERSION_H

#ifdef __clang__
#define MR_COMPILER "clang " __clang_version__
#else
#define MR_COMPILER "gcc " __VERSION__
#endif

#endif
