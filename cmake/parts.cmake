# Libraries from outside. Required: xxhash, zstd, and the header of DuckDB (its library is opened at
# run time). Optional: each has MR_WITH_<PART> = AUTO, ON or OFF, a compile definition
# MR_WITH_<PART>=1 when present (test it with #ifdef), and the folders of src/ that need it.
find_package(Threads REQUIRED)
find_path(XXHASH_INCLUDE xxhash.h)
find_library(XXHASH_LIBRARY xxhash)
find_path(ZSTD_INCLUDE zstd.h)
find_library(ZSTD_LIBRARY zstd)
foreach(lib XXHASH ZSTD)
    if(NOT ${lib}_INCLUDE OR NOT ${lib}_LIBRARY)
        string(TOLOWER ${lib} name)
        message(FATAL_ERROR "cannot find lib${name}: run tools/setup, or install lib${name}-dev")
    endif()
endforeach()

add_library(mr_libs INTERFACE)
target_include_directories(mr_libs SYSTEM INTERFACE ${XXHASH_INCLUDE} ${ZSTD_INCLUDE})
target_link_libraries(mr_libs INTERFACE
    ${XXHASH_LIBRARY} ${ZSTD_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} m)

# Where tools/setup puts what it fetches: the same rule as there.
if(DEFINED ENV{MILLRACE_CACHE})
    set(cache_default $ENV{MILLRACE_CACHE})
elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(cache_default $ENV{XDG_CACHE_HOME}/millrace)
else()
    set(cache_default $ENV{HOME}/.cache/millrace)
endif()
set(MR_CACHE ${cache_default} CACHE PATH "Where tools/setup keeps fetched libraries")

# mr_pinned(<variable> <pin>): the folder of a fetched part, named by its pinned version.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS tools/pins.txt)
function(mr_pinned out pin)
    file(STRINGS ${CMAKE_SOURCE_DIR}/tools/pins.txt line REGEX "^${pin}-lib ")
    string(REGEX REPLACE "^[^ ]+ +[^ ]+ +[^ ]+ +([^ ]+).*" "\\1" version "${line}")
    set(${out} ${MR_CACHE}/${pin}-${version} PARENT_SCOPE)
endfunction()

# A folder of the user's wins over a fetched one: -DDUCKDB_DIR=..., or the environment variable.
# Nothing that is found below is cached, so that a new pin or folder counts at the next run.
foreach(dir DUCKDB_DIR RDKAFKA_DIR)
    set(${dir} "" CACHE PATH "An installed copy, used instead of the fetched one")
    if(NOT ${dir})
        set(${dir} "$ENV{${dir}}")
    endif()
endforeach()

# DuckDB -------------------------------------------------------------------------------------------
mr_pinned(duckdb_fetched duckdb)
if(NOT DUCKDB_DIR)
    set(DUCKDB_DIR ${duckdb_fetched})
endif()
find_path(MR_DUCKDB_INCLUDE duckdb.h HINTS ${DUCKDB_DIR} ${DUCKDB_DIR}/include NO_CACHE)
find_file(MR_DUCKDB_LIBRARY libduckdb.so HINTS ${DUCKDB_DIR} ${DUCKDB_DIR}/lib
    PATHS /usr/local/lib /usr/lib NO_CACHE)
if(MR_DUCKDB_INCLUDE)
    target_include_directories(mr_libs SYSTEM INTERFACE ${MR_DUCKDB_INCLUDE})
elseif(EXISTS ${CMAKE_SOURCE_DIR}/src/duck)
    message(FATAL_ERROR "cannot find duckdb.h: run tools/setup, or set DUCKDB_DIR")
endif()
if(NOT MR_DUCKDB_LIBRARY)
    set(MR_DUCKDB_LIBRARY "") # only the header: the program looks for the library when it runs
endif()
message(STATUS "DuckDB: ${MR_DUCKDB_LIBRARY}")

# Optional parts -----------------------------------------------------------------------------------
set(MR_SKIPPED_FOLDERS) # folders whose library is absent

# mr_part(<NAME> <found> <folder>...): settles one optional part.
macro(mr_part name found)
    set(MR_WITH_${name} AUTO CACHE STRING "AUTO, ON or OFF")
    if(MR_WITH_${name} STREQUAL "ON" AND NOT ${found})
        message(FATAL_ERROR "MR_WITH_${name}=ON, but its library was not found: run tools/setup")
    endif()
    if(MR_WITH_${name} AND ${found}) # AUTO counts as true
        set(MR_HAVE_${name} TRUE)
        target_compile_definitions(mr_flags INTERFACE MR_WITH_${name}=1)
        message(STATUS "${name}: yes")
    else()
        set(MR_HAVE_${name} FALSE)
        list(APPEND MR_SKIPPED_FOLDERS ${ARGN})
        message(STATUS "${name}: no")
    endif()
endmacro()

# librdkafka: the user's folder, else the fetched one, else the system's; header and library from the
# same place. The file in the wheel carries a hash in its name, which is also its soname.
mr_pinned(rdkafka_fetched rdkafka)
if(NOT RDKAFKA_DIR)
    set(RDKAFKA_DIR ${rdkafka_fetched})
endif()
set(rdkafka_found FALSE)
file(GLOB rdkafka_files ${RDKAFKA_DIR}/lib/librdkafka[-.]*so*)
if(rdkafka_files AND EXISTS ${RDKAFKA_DIR}/include/librdkafka/rdkafka.h)
    list(GET rdkafka_files 0 MR_RDKAFKA_LIBRARY)
    set(MR_RDKAFKA_INCLUDE ${RDKAFKA_DIR}/include)
    set(rdkafka_found TRUE)
else()
    find_path(MR_RDKAFKA_INCLUDE librdkafka/rdkafka.h NO_CACHE)
    find_library(MR_RDKAFKA_LIBRARY rdkafka NO_CACHE)
    if(MR_RDKAFKA_INCLUDE AND MR_RDKAFKA_LIBRARY)
        set(rdkafka_found TRUE)
        message(STATUS "librdkafka is the system's: before 2.6.1 it cannot do SCRAM with a 4.x broker")
    endif()
endif()
mr_part(KAFKA rdkafka_found sources/kafka sinks/kafka)
if(MR_HAVE_KAFKA)
    target_include_directories(mr_libs SYSTEM INTERFACE ${MR_RDKAFKA_INCLUDE})
    target_link_libraries(mr_libs INTERFACE ${MR_RDKAFKA_LIBRARY})
endif()

# zlib: .gz files of file streams.
find_path(MR_ZLIB_INCLUDE zlib.h NO_CACHE)
find_library(MR_ZLIB_LIBRARY z NO_CACHE)
set(zlib_found FALSE)
if(MR_ZLIB_INCLUDE AND MR_ZLIB_LIBRARY)
    set(zlib_found TRUE)
endif()
mr_part(ZLIB zlib_found)
if(MR_HAVE_ZLIB)
    target_include_directories(mr_libs SYSTEM INTERFACE ${MR_ZLIB_INCLUDE})
    target_link_libraries(mr_libs INTERFACE ${MR_ZLIB_LIBRARY})
endif()
