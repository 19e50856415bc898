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

# The long tests and their seconds: ctest starts the longest first, so that none is alone on the
# machine at the end.
set(MR_LONG_TESTS test_kafka=125 test_faults_e=105 crash_quick=69 test_examples=62 test_kafka_direct=58
    test_limits=34 test_faults_j=26 test_killpoint_selftest=25 test_guarantees=22 test_secrets=22
    soak_quick=21 test_faults_c=18 test_sql_blocks=13 test_faults=12
    test_sql_random=70 test_sql_evolution=60 test_sql_nexmark=60 test_core_faults=40 test_fuzz=39
    test_simulation=37 test_sql_metamorphic=35 test_sql_aggregates=30 test_state_shards=29 mutants=25
    test_transform_vectors=21 test_dstream_day=20 test_sql_join=18 test_streams_queries=17
    test_sql_vectors=16 test_groups_modes=15 test_sql_bad_input=14 test_dstream_state=13)
# Tests with many cases: some under the sanitizers, all in the release build (test_slow_build in
# tests/support/test.h).
set(MR_BOTH_TESTS test_sql_random test_sql_nexmark)
function(mr_test_cost name)
    if("${MR_LONG_TESTS}" MATCHES "(^|;)${name}=([0-9]+)")
        set_tests_properties(${name} PROPERTIES COST ${CMAKE_MATCH_2})
    endif()
endfunction()

# What tests may want to know about the build they are part of.
set(mr_test_env
    MILLRACE_BIN=${CMAKE_BINARY_DIR}/millrace
    MILLRACE_BUILD_DIR=${CMAKE_BINARY_DIR}
    MILLRACE_SOURCE_DIR=${CMAKE_SOURCE_DIR}
    MILLRACE_KAFKA_JARS=${MR_CACHE}/kafka-${broker}
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp)

# unit_tests builds the tests of tests/unit, and so on; test_objects compiles every test and links none.
set(test_objects)
foreach(kind IN LISTS MR_TEST_KINDS)
    add_custom_target(${kind}_tests)
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
        if(name IN_LIST MR_BOTH_TESTS)
            set_tests_properties(${name} PROPERTIES LABELS "${kind};both")
        endif()
        mr_test_cost(${name})
        add_dependencies(${kind}_tests ${name})
        list(APPEND test_objects $<TARGET_OBJECTS:${name}>)
    endforeach()
endforeach()

add_custom_target(test_objects DEPENDS ${test_objects})

# Programs that are not test programs (the kill harness) have a CMakeLists.txt of their own.
file(GLOB own CONFIGURE_DEPENDS tests/*/CMakeLists.txt tests/*/*/CMakeLists.txt bench/CMakeLists.txt)
foreach(list IN LISTS own)
    get_filename_component(folder ${list} DIRECTORY)
    add_subdirectory(${folder})
endforeach()

# system_parts builds what the system tests and the scripts run, and of the tests above only those that
# are for two builds.
add_custom_target(system_parts)
add_dependencies(system_parts ${MR_BOTH_TESTS})
foreach(target IN ITEMS millrace millrace_shared millrace_static examples)
    if(TARGET ${target})
        add_dependencies(system_parts ${target})
    endif()
endforeach()
foreach(list IN LISTS own)
    get_filename_component(folder ${list} DIRECTORY)
    get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
    foreach(target IN LISTS targets)
        get_target_property(type ${target} TYPE)
        if(type STREQUAL "EXECUTABLE" AND NOT target MATCHES "^(test_|fuzz_|sim$)")
            add_dependencies(system_parts ${target})
        endif()
    endforeach()
endforeach()

file(GLOB scripts CONFIGURE_DEPENDS tests/system/*.py)
foreach(script IN LISTS scripts)
    get_filename_component(name ${script} NAME_WE)
    if(NOT name MATCHES "^test_")
        continue() # helpers shared by the scripts
    endif()
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/run-unittest ${script})
    set_tests_properties(${name} PROPERTIES LABELS system TIMEOUT 600 ENVIRONMENT "${mr_test_env}")
    mr_test_cost(${name})
endforeach()

if(EXISTS ${CMAKE_SOURCE_DIR}/tools/tidy)
    add_test(NAME tidy COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/tidy)
    set_tests_properties(tidy PROPERTIES LABELS lint)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/tools/check-faults)
    add_test(NAME fault_rows COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/check-faults)
    set_tests_properties(fault_rows PROPERTIES LABELS lint)
endif()
add_test(NAME limits_named COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/check-limits)
add_test(NAME sbom COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/sbom --check)
add_test(NAME evidence_page COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/evidence check)
set_tests_properties(limits_named sbom evidence_page PROPERTIES LABELS lint)
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
