# Every tests/<kind>/test_*.c is one program and one ctest test with the label <kind>; every
# tests/system/*.py is one test with the label system. "ninja -C build/asan test_wal && ctest ..."
# builds just one.
set(MR_TEST_KINDS unit flow sim crash golden)

file(GLOB support CONFIGURE_DEPENDS tests/support/*.c)
if(support)
    add_library(mr_test_support STATIC ${support})
    target_include_directories(mr_test_support PUBLIC ${CMAKE_SOURCE_DIR}/tests)
    target_link_libraries(mr_test_support PUBLIC mr_internal)
endif()

file(STRINGS tools/pins.txt broker REGEX "^kafka-broker ")
separate_arguments(broker)
list(GET broker 3 broker)

# What tests may want to know about the build they are part of.
set(mr_test_env
    MILLRACE_BIN=${CMAKE_BINARY_DIR}/millrace
    MILLRACE_BUILD_DIR=${CMAKE_BINARY_DIR}
    MILLRACE_SOURCE_DIR=${CMAKE_SOURCE_DIR}
    MILLRACE_KAFKA_JARS=${MR_CACHE}/kafka-${broker}
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp)

foreach(kind IN LISTS MR_TEST_KINDS)
    file(GLOB sources CONFIGURE_DEPENDS tests/${kind}/test_*.c)
    foreach(source IN LISTS sources)
        get_filename_component(name ${source} NAME_WE)
        add_executable(${name} ${source})
        set_target_properties(${name} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        # cli's own objects (without main) can be tested too.
        target_link_libraries(${name} PRIVATE mr_test_support $<TARGET_NAME_IF_EXISTS:mr_cli> mr_all)
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES LABELS ${kind} TIMEOUT 600
            ENVIRONMENT "${mr_test_env}")
    endforeach()
endforeach()

# Programs that are not test programs (the kill harness) have a CMakeLists.txt of their own.
file(GLOB own CONFIGURE_DEPENDS tests/*/CMakeLists.txt tests/*/*/CMakeLists.txt bench/CMakeLists.txt)
foreach(list IN LISTS own)
    get_filename_component(folder ${list} DIRECTORY)
    add_subdirectory(${folder})
endforeach()

file(GLOB scripts CONFIGURE_DEPENDS tests/system/*.py)
foreach(script IN LISTS scripts)
    get_filename_component(name ${script} NAME_WE)
    if(NOT name MATCHES "^test_")
        continue() # helpers shared by the scripts
    endif()
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/run-unittest ${script})
    set_tests_properties(${name} PROPERTIES LABELS system TIMEOUT 600 ENVIRONMENT "${mr_test_env}")
endforeach()

if(EXISTS ${CMAKE_SOURCE_DIR}/tools/tidy)
    add_test(NAME tidy COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/tidy)
    set_tests_properties(tidy PROPERTIES LABELS lint)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/tools/check-faults)
    add_test(NAME fault_rows COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/check-faults)
    set_tests_properties(fault_rows PROPERTIES LABELS lint)
endif()
add_test(NAME sbom COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/sbom --check)
add_test(NAME evidence_page COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/evidence check)
set_tests_properties(sbom evidence_page PROPERTIES LABELS lint)
if(TARGET millrace_shared AND NOT MR_SANITIZE)
    add_test(NAME exported_symbols COMMAND ${Python3_EXECUTABLE}
        ${CMAKE_SOURCE_DIR}/tools/gen-symbols --check $<TARGET_FILE:millrace_shared> ${MR_PUBLIC_HEADERS})
    set_tests_properties(exported_symbols PROPERTIES LABELS lint)
endif()

if(TARGET millrace AND NOT MR_SANITIZE)
    add_test(NAME hardening COMMAND ${CMAKE_SOURCE_DIR}/tools/check-hardening
        $<TARGET_FILE:millrace> $<TARGET_FILE:millrace_shared>)
    set_tests_properties(hardening PROPERTIES LABELS lint)
endif()
