# Compiler and linker flags, on the interface target mr_flags. Warnings and hardening flags are
# probed, so that an older or newer compiler takes what it knows.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)
include(CheckPIESupported)

check_pie_supported(LANGUAGES C)
set(CMAKE_POSITION_INDEPENDENT_CODE ON) # every object can go into libmillrace.so and into a PIE
set(CMAKE_C_VISIBILITY_PRESET hidden)

add_library(mr_flags INTERFACE)
target_compile_definitions(mr_flags INTERFACE _GNU_SOURCE)
if(MR_MUTANTS)
    target_compile_definitions(mr_flags INTERFACE MILLRACE_MUTANTS) # src/base/mutant.h
endif()

# mr_probe(<list variable> <flag>...): appends the flags the compiler accepts.
function(mr_probe out)
    set(found ${${out}})
    foreach(flag IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "MR_HAS${flag}" known)
        # clang only warns of unknown -W flags: make that an error while probing. gcc knows
        # -Werror=format-security only together with -Wformat.
        set(CMAKE_REQUIRED_FLAGS "-Werror -Wformat")
        check_c_compiler_flag("${flag}" ${known})
        if(${known})
            list(APPEND found "${flag}")
        endif()
    endforeach()
    set(${out} ${found} PARENT_SCOPE)
endfunction()

function(mr_probe_link out)
    set(found ${${out}})
    foreach(flag IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "MR_HAS${flag}" known)
        check_linker_flag(C "${flag}" ${known})
        if(${known})
            list(APPEND found "${flag}")
        endif()
    endforeach()
    set(${out} ${found} PARENT_SCOPE)
endfunction()

set(CMAKE_REQUIRED_QUIET ON)
set(warnings -Wall -Wextra -Wpedantic)
mr_probe(warnings
    -Wshadow -Wconversion -Wsign-conversion -Wvla -Wformat=2 -Wimplicit-fallthrough
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wundef -Wpointer-arith
    -Wwrite-strings -Wlogical-op -Wduplicated-cond -Wtrampolines -Wbidi-chars=any
    -Werror=format-security -Werror=implicit -Werror=incompatible-pointer-types
    -Werror=int-conversion)
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
    list(APPEND warnings -Wno-string-conversion) # MR_ASSERT(!"what cannot be") is meant
endif()
if(MR_WERROR)
    list(APPEND warnings -Werror)
endif()

set(codegen)
mr_probe(codegen -fno-strict-aliasing -fno-strict-overflow -fno-delete-null-pointer-checks
    -fexceptions -fno-omit-frame-pointer)
# The same source gives the same bytes wherever it is built.
mr_probe(codegen "-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=")

set(linking)
if(MR_SANITIZE)
    list(APPEND codegen -fsanitize=${MR_SANITIZE} -fno-sanitize-recover=all)
    list(APPEND linking -fsanitize=${MR_SANITIZE})
    # gcc sees paths that only the sanitizer's own code makes; the release build has these warnings.
    mr_probe(warnings -Wno-maybe-uninitialized -Wno-stringop-overflow)
else()
    mr_probe(codegen -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
        -ftrivial-auto-var-init=zero -fstrict-flex-arrays=3 -fzero-init-padding-bits=all)
    if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
        list(APPEND codegen -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
    endif()
    mr_probe_link(linking LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack LINKER:--as-needed)
endif()
if(MR_FUZZ)
    # Coverage counters in every library; the fuzzers themselves add the driver (cmake/tests.cmake).
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "MR_FUZZ needs clang: use 'cmake --preset fuzz'")
    endif()
    list(APPEND codegen -fsanitize=fuzzer-no-link)
endif()

target_compile_options(mr_flags INTERFACE ${warnings} ${codegen})
target_link_options(mr_flags INTERFACE ${linking})
