/*
 * The functions of DuckDB's C API that src/duck calls, found with dlopen when the first instance is
 * opened.
 *
 * Only types come from duckdb.h; nothing is linked, so a program that runs no SQL never loads the
 * library. Thread: any; the table is written once, under a lock, and never changes again.
 */
#ifndef MR_DUCK_LIB_H
#define MR_DUCK_LIB_H

#include <millrace/error.h>

#include <duckdb.h>

#define MR_DUCK_FUNCTIONS(X)                                                                       \
    X(duckdb_add_replacement_scan)                                                                 \
    X(duckdb_bind_add_result_column)                                                               \
    X(duckdb_bind_get_extra_info)                                                                  \
    X(duckdb_bind_get_parameter)                                                                   \
    X(duckdb_bind_set_bind_data)                                                                   \
    X(duckdb_bind_set_cardinality)                                                                 \
    X(duckdb_bind_set_error)                                                                       \
    X(duckdb_bind_timestamp)                                                                       \
    X(duckdb_close)                                                                                \
    X(duckdb_column_count)                                                                         \
    X(duckdb_column_logical_type)                                                                  \
    X(duckdb_column_name)                                                                          \
    X(duckdb_connect)                                                                              \
    X(duckdb_create_config)                                                                        \
    X(duckdb_create_decimal_type)                                                                  \
    X(duckdb_create_int64)                                                                         \
    X(duckdb_create_list_type)                                                                     \
    X(duckdb_create_logical_type)                                                                  \
    X(duckdb_create_scalar_function)                                                               \
    X(duckdb_create_struct_type)                                                                   \
    X(duckdb_create_table_function)                                                                \
    X(duckdb_data_chunk_get_column_count)                                                          \
    X(duckdb_data_chunk_get_size)                                                                  \
    X(duckdb_data_chunk_get_vector)                                                                \
    X(duckdb_data_chunk_set_size)                                                                  \
    X(duckdb_decimal_internal_type)                                                                \
    X(duckdb_decimal_scale)                                                                        \
    X(duckdb_decimal_width)                                                                        \
    X(duckdb_destroy_config)                                                                       \
    X(duckdb_destroy_data_chunk)                                                                   \
    X(duckdb_destroy_expression)                                                                   \
    X(duckdb_destroy_logical_type)                                                                 \
    X(duckdb_destroy_prepare)                                                                      \
    X(duckdb_destroy_result)                                                                       \
    X(duckdb_destroy_scalar_function)                                                              \
    X(duckdb_destroy_table_function)                                                               \
    X(duckdb_destroy_value)                                                                        \
    X(duckdb_disconnect)                                                                           \
    X(duckdb_execute_prepared)                                                                     \
    X(duckdb_execute_prepared_streaming)                                                           \
    X(duckdb_expression_is_foldable)                                                               \
    X(duckdb_fetch_chunk)                                                                          \
    X(duckdb_free)                                                                                 \
    X(duckdb_function_get_init_data)                                                               \
    X(duckdb_function_set_error)                                                                   \
    X(duckdb_get_int64)                                                                            \
    X(duckdb_get_type_id)                                                                          \
    X(duckdb_init_get_bind_data)                                                                   \
    X(duckdb_init_get_column_count)                                                                \
    X(duckdb_init_get_column_index)                                                                \
    X(duckdb_init_set_error)                                                                       \
    X(duckdb_init_set_init_data)                                                                   \
    X(duckdb_init_set_max_threads)                                                                 \
    X(duckdb_library_version)                                                                      \
    X(duckdb_list_type_child_type)                                                                 \
    X(duckdb_list_vector_get_child)                                                                \
    X(duckdb_list_vector_reserve)                                                                  \
    X(duckdb_list_vector_set_size)                                                                 \
    X(duckdb_nparams)                                                                              \
    X(duckdb_open_ext)                                                                             \
    X(duckdb_prepare)                                                                              \
    X(duckdb_prepare_error)                                                                        \
    X(duckdb_prepared_statement_column_count)                                                      \
    X(duckdb_prepared_statement_column_logical_type)                                               \
    X(duckdb_prepared_statement_column_name)                                                       \
    X(duckdb_prepared_statement_type)                                                              \
    X(duckdb_query)                                                                                \
    X(duckdb_register_scalar_function)                                                             \
    X(duckdb_register_table_function)                                                              \
    X(duckdb_replacement_scan_add_parameter)                                                       \
    X(duckdb_replacement_scan_set_error)                                                           \
    X(duckdb_replacement_scan_set_function_name)                                                   \
    X(duckdb_result_error)                                                                         \
    X(duckdb_result_error_type)                                                                    \
    X(duckdb_scalar_function_add_parameter)                                                        \
    X(duckdb_scalar_function_bind_get_argument)                                                    \
    X(duckdb_scalar_function_get_bind_data)                                                        \
    X(duckdb_scalar_function_get_extra_info)                                                       \
    X(duckdb_scalar_function_set_bind)                                                             \
    X(duckdb_scalar_function_set_bind_data)                                                        \
    X(duckdb_scalar_function_set_bind_data_copy)                                                   \
    X(duckdb_scalar_function_set_error)                                                            \
    X(duckdb_scalar_function_set_extra_info)                                                       \
    X(duckdb_scalar_function_set_function)                                                         \
    X(duckdb_scalar_function_set_name)                                                             \
    X(duckdb_scalar_function_set_return_type)                                                      \
    X(duckdb_scalar_function_set_special_handling)                                                 \
    X(duckdb_scalar_function_set_volatile)                                                         \
    X(duckdb_set_config)                                                                           \
    X(duckdb_struct_type_child_count)                                                              \
    X(duckdb_struct_type_child_name)                                                               \
    X(duckdb_struct_type_child_type)                                                               \
    X(duckdb_struct_vector_get_child)                                                              \
    X(duckdb_table_function_add_parameter)                                                         \
    X(duckdb_table_function_set_bind)                                                              \
    X(duckdb_table_function_set_extra_info)                                                        \
    X(duckdb_table_function_set_function)                                                          \
    X(duckdb_table_function_set_init)                                                              \
    X(duckdb_table_function_set_name)                                                              \
    X(duckdb_table_function_supports_projection_pushdown)                                          \
    X(duckdb_vector_assign_string_element_len)                                                     \
    X(duckdb_vector_ensure_validity_writable)                                                      \
    X(duckdb_vector_get_data)                                                                      \
    X(duckdb_vector_get_validity)                                                                  \
    X(duckdb_vector_size)

/* One pointer a function, under the function's own name: api->duckdb_connect(...). */
struct mr_duck_api {
#define X(name) __typeof__(name) *name;
    MR_DUCK_FUNCTIONS(X)
#undef X
};

/* Loads the library on the first call. MR_CONFIG: the text lists where it was looked for. */
enum mr_status mr_duck_api_load(const struct mr_duck_api **ret_api, struct mr_error *err);
/* The table when the library is loaded, else NULL. */
const struct mr_duck_api *mr_duck_api_loaded(void);

#endif
