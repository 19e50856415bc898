# What is shipped: libmillrace.a, libmillrace.so, the program, and the programs of examples/ and
# bench/ built against them.
set(objects)
foreach(library IN LISTS MR_LIBRARIES)
    list(APPEND objects $<TARGET_OBJECTS:${library}>)
endforeach()

if(objects AND NOT MR_ONLY)
    add_library(millrace_static STATIC ${objects})
    set_target_properties(millrace_static PROPERTIES OUTPUT_NAME millrace LINKER_LANGUAGE C)
    target_include_directories(millrace_static INTERFACE include)
    target_link_libraries(millrace_static INTERFACE mr_libs mr_flags)

    # Only what include/millrace marks MR_API leaves the shared library.
    set(map ${CMAKE_BINARY_DIR}/generated/millrace.map)
    add_custom_command(OUTPUT ${map}
        COMMAND ${Python3_EXECUTABLE} tools/gen-symbols --map ${map} ${MR_PUBLIC_HEADERS}
        DEPENDS tools/gen-symbols ${MR_PUBLIC_HEADERS}
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} VERBATIM)
    add_custom_target(mr_symbol_map DEPENDS ${map})
    add_library(millrace_shared SHARED ${objects})
    add_dependencies(millrace_shared mr_symbol_map)
    set_target_properties(millrace_shared PROPERTIES OUTPUT_NAME millrace LINKER_LANGUAGE C
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${map})
    target_include_directories(millrace_shared INTERFACE include)
    target_link_libraries(millrace_shared PRIVATE mr_libs mr_flags)
    target_link_options(millrace_shared PRIVATE LINKER:--version-script=${map})

    if(EXISTS ${CMAKE_SOURCE_DIR}/src/cli/main.c)
        add_executable(millrace src/cli/main.c)
        if(TARGET mr_cli)
            target_link_libraries(millrace PRIVATE mr_cli)
        endif()
        target_link_libraries(millrace PRIVATE millrace_static mr_internal)
        # Libraries with functions (--library) call what include/millrace declares.
        set_target_properties(millrace PROPERTIES ENABLE_EXPORTS ON)
    endif()

    # The program and the library find fetched libraries beside them: installed in lib/millrace, in the
    # build directory through a link of that name. One search path serves both, because CMake ends one
    # that it changes at installation with an empty element, which stands for the working directory.
    if(MR_HAVE_KAFKA)
        get_filename_component(fetched ${MR_RDKAFKA_LIBRARY} DIRECTORY)
        file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
        file(CREATE_LINK ${fetched} ${CMAKE_BINARY_DIR}/lib/millrace SYMBOLIC)
    endif()
    foreach(product millrace_shared millrace)
        if(TARGET ${product})
            set_target_properties(${product} PROPERTIES BUILD_WITH_INSTALL_RPATH ON
                INSTALL_RPATH "$ORIGIN/../lib/millrace;$ORIGIN/lib/millrace")
        endif()
    endforeach()

    # Examples see what a user sees: the public headers and the shared library, nothing else.
    file(GLOB examples CONFIGURE_DEPENDS examples/*.c)
    # The examples with PostgreSQL want its C library; without it they are left out.
    find_package(PkgConfig QUIET)
    pkg_check_modules(LIBPQ QUIET IMPORTED_TARGET libpq)
    if(NOT LIBPQ_FOUND)
        list(FILTER examples EXCLUDE REGEX "/postgres_")
    endif()
    add_custom_target(examples)
    foreach(source IN LISTS examples)
        get_filename_component(name ${source} NAME_WE)
        add_executable(example_${name} ${source})
        set_target_properties(example_${name} PROPERTIES OUTPUT_NAME ${name}
            RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/examples)
        target_link_libraries(example_${name} PRIVATE millrace_shared mr_flags)
        file(STRINGS ${source} libpq REGEX "libpq-fe.h")
        if(libpq)
            target_link_libraries(example_${name} PRIVATE PkgConfig::LIBPQ)
        endif()
        add_dependencies(examples example_${name})
    endforeach()
endif()

# Benchmarks may look inside. Not part of "all": ninja bench_programs.
file(GLOB benches CONFIGURE_DEPENDS bench/*.c)
add_custom_target(bench_programs)
foreach(source IN LISTS benches)
    get_filename_component(name ${source} NAME_WE)
    add_executable(bench_${name} EXCLUDE_FROM_ALL ${source})
    set_target_properties(bench_${name} PROPERTIES OUTPUT_NAME ${name}
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
    target_link_libraries(bench_${name} PRIVATE mr_all)
    add_dependencies(bench_programs bench_${name})
endforeach()
