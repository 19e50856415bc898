# make install: bin/millrace, lib/libmillrace.{so,a}, include/millrace, pkg-config, docs; and in
# lib/millrace the fetched libraries, so that the installed program does not need the cache.
# Always "lib", also on Debian: src/duck looks in $ORIGIN/../lib/millrace.
if(NOT TARGET millrace_shared)
    return()
endif()
if(TARGET millrace)
    install(TARGETS millrace RUNTIME DESTINATION bin)
endif()
install(TARGETS millrace_shared LIBRARY DESTINATION lib)
install(TARGETS millrace_static ARCHIVE DESTINATION lib)
install(DIRECTORY include/millrace DESTINATION include FILES_MATCHING PATTERN "*.h")

set(docs share/doc/millrace)
install(FILES LICENSE DESTINATION ${docs})
install(FILES README.md SECURITY.md DESTINATION ${docs} OPTIONAL)
install(DIRECTORY docs/ DESTINATION ${docs} OPTIONAL)
install(DIRECTORY examples DESTINATION ${docs} OPTIONAL)

# Only what tools/setup fetched is copied; an installed copy of the system stays where it is.
cmake_path(IS_PREFIX MR_CACHE "${MR_DUCKDB_LIBRARY}" duckdb_is_fetched)
cmake_path(IS_PREFIX MR_CACHE "${MR_RDKAFKA_LIBRARY}" rdkafka_is_fetched)
set(private_libs "-lxxhash -lzstd -lpthread -ldl -lm")
if(duckdb_is_fetched)
    get_filename_component(from ${MR_DUCKDB_LIBRARY} DIRECTORY)
    install(PROGRAMS ${MR_DUCKDB_LIBRARY} DESTINATION lib/millrace)
    install(FILES ${from}/LICENSE DESTINATION ${docs} RENAME LICENSE.duckdb OPTIONAL)
endif()
if(MR_HAVE_ZLIB)
    string(APPEND private_libs " -lz")
endif()
if(MR_HAVE_KAFKA)
    if(rdkafka_is_fetched)
        get_filename_component(from ${MR_RDKAFKA_LIBRARY} DIRECTORY)
        get_filename_component(file ${MR_RDKAFKA_LIBRARY} NAME)
        install(PROGRAMS ${MR_RDKAFKA_LIBRARY} DESTINATION lib/millrace)
        install(FILES ${from}/LICENSES.txt DESTINATION ${docs} RENAME LICENSES.librdkafka OPTIONAL)
        string(APPEND private_libs " -L\${libdir}/millrace -l:${file}")
    else()
        string(APPEND private_libs " -lrdkafka")
    endif()
endif()

# The prefix is known only at install time: pkg-config works it out from where the file lies.
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/millrace.pc @ONLY CONTENT
"prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: millrace
Description: Exactly-once micro-batch stream processing
Version: @PROJECT_VERSION@
Cflags: -I\${includedir}
Libs: -L\${libdir} -lmillrace
Libs.private: @private_libs@
")
install(FILES ${CMAKE_BINARY_DIR}/generated/millrace.pc DESTINATION lib/pkgconfig)
