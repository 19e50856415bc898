/*
 * Every limit of millrace, in one table: of lines, records, queues, buffers, files, connections,
 * nesting. The code takes its constants from here, `millrace options --limits` and docs/limits.md
 * print it.
 *
 * X(name, value, unit, what happens when it is reached, what changes it)
 *
 * A limit on its way from here to an array or a check keeps the name that its module gave it:
 * enum { CLAUSES_MAX = MR_LIMIT_SQL_CLAUSES }. Thread: any.
 */
#ifndef MR_BASE_LIMITS_H
#define MR_BASE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* Scripts and commands */
#define MR_LIMITS_SQL(X)                                                                           \
    X(SQL_BYTES, 1 << 20, BYTES, "the script is refused: exit 71", "fixed")                        \
    X(SQL_STATEMENTS, 1000, COUNT, "the script is refused: exit 64", "fixed")                      \
    X(SQL_OPTIONS, 200, COUNT, "a statement with more options is refused: exit 64", "fixed")       \
    X(SQL_BRACKETS, 256, LEVELS, "the statement is refused: exit 71", "fixed")                     \
    X(SQL_QUERIES_NESTED, 100, LEVELS, "a query that is nested deeper is refused: exit 64",        \
      "fixed")                                                                                     \
    X(SQL_QUERIES_UNFOLDED, 100000, COUNT,                                                         \
      "WITH queries that unfold to more where they are read are refused: exit 64", "fixed")        \
    X(SQL_OPERATORS, 2000, COUNT, "a pipeline with more operators is refused: exit 71", "fixed")   \
    X(SQL_INPUTS, 16, COUNT, "a FROM with more streams is refused: exit 64", "fixed")              \
    X(SQL_KEYS, 64, COUNT,                                                                         \
      "more columns of GROUP BY, or of a join's equalities, are refused: exit 64", "fixed")        \
    X(SQL_AGGREGATES, 256, COUNT, "a SELECT with more aggregates is refused: exit 64", "fixed")    \
    X(SQL_GROUPING_SETS, 256, COUNT, "more grouping sets are refused: exit 64", "fixed")           \
    X(SQL_JOIN_CONDITIONS, 256, COUNT, "a join with more conditions is refused: exit 64", "fixed") \
    X(SQL_JOIN_MERGED, 128, COUNT, "more columns in USING are refused: exit 64", "fixed")          \
    X(SQL_JOIN_RANGES, 32, COUNT, "further conditions on time are checked by DuckDB", "fixed")     \
    X(SQL_CLAUSES, 64, COUNT, "a query with more clauses of ours is refused: exit 64", "fixed")    \
    X(SQL_STATIC_TABLE, 1 << 30, BYTES, "a larger table without a stream is refused: exit 71",     \
      "fixed")                                                                                     \
    X(SQL_ENGINE_INPUTS, 64, COUNT, "a statement over more tables is refused: exit 71", "fixed")   \
    X(SCRIPT_SETTINGS, 32, COUNT, "more --set are refused: exit 64", "fixed")                      \
    X(ARGUMENTS, 64, COUNT, "a longer command line is refused: exit 64", "fixed")                  \
    X(TEST_FILES, 16, COUNT, "more files of one `millrace test` are refused: exit 64", "fixed")    \
    X(TEST_STEPS, 10000, COUNT, "a TEST block with more steps is refused: exit 64", "fixed")       \
    X(TEST_COLUMNS, 32, COUNT, "a step that names more columns is refused: exit 64", "fixed")      \
    X(SECRET_FILE, 64 * 1024, BYTES, "a larger file of a secret is refused: exit 78", "fixed")     \
    X(SANDBOX_PATHS, 1024, COUNT, "a pipeline with more paths cannot run in the sandbox: exit 78", \
      "fixed")                                                                                     \
    X(OPTION_NAMES, 256, COUNT,                                                                    \
      "further names are not compared when the nearest one is looked for", "fixed")

/* Lines, records and columns */
#define MR_LIMITS_RECORDS(X)                                                                       \
    X(LINE, 16 << 20, BYTES,                                                                       \
      "a longer line is a bad record, counted: on_error says what becomes of it, exit 65 when it " \
      "fails",                                                                                     \
      "max_line_bytes")                                                                            \
    X(JSON_DEPTH, 64, LEVELS,                                                                      \
      "a document nested deeper is a bad record: on_error, exit 65 when it fails", "fixed")        \
    X(JSON_OWN_DEPTH, 200, LEVELS,                                                                 \
      "a syntax tree or document of ours nested deeper is refused: exit 64", "fixed")              \
    X(COLUMNS, 4096, COUNT, "a table with more columns is refused: exit 78", "fixed")              \
    X(TYPE_DEPTH, 64, LEVELS, "a type nested deeper is refused: exit 78", "fixed")                 \
    X(NAME, 255, BYTES, "a longer name is refused: exit 64", "fixed")                              \
    X(BAD_RECORD_KEPT, 65536, BYTES, "of a bad record only the beginning is kept", "fixed")        \
    X(OBJECT_BLOCK, 1 << 30, BYTES,                                                                \
      "a row that does not fit a block of an object file is refused: exit 71", "fixed")            \
    X(OBJECT_HEADER, 1 << 20, BYTES, "a schema that does not fit is refused: exit 71", "fixed")    \
    X(CODECS, 256, COUNT, "a program with more codecs is refused: MR_LIMIT", "fixed")              \
    X(PARQUET_OUTPUT, 1 << 30, BYTES,                                                              \
      "a file of a batch that gets larger fails the batch: exit 71", "fixed")                      \
    X(CONSOLE_CELL, 1 << 20, BYTES, "the rest of the value is not shown", "fixed")                 \
    X(CONSOLE_WIDTH, 1000000, COUNT, "a larger value of the option is refused: exit 78", "truncate")

/* Sources and sinks */
#define MR_LIMITS_CONNECTORS(X)                                                                    \
    X(FILE_PARTITIONS, 1024, COUNT, "neighbouring pieces share a partition", "fixed")              \
    X(FILE_BATCH_FILES, 10000, COUNT, "the rest waits for the next batch",                         \
      "max_files_per_trigger")                                                                     \
    X(FILE_DIRECTORY_DEPTH, 64, LEVELS, "a directory nested deeper is an error: exit 71", "fixed") \
    X(FILE_PARTITION_VALUE, 1024, BYTES, "a longer value in a name k=v is an error: exit 65",      \
      "fixed")                                                                                     \
    X(KAFKA_TOPICS, 10000, COUNT, "a list or pattern of more topics is refused: exit 78", "fixed") \
    X(KAFKA_QUEUE, 16 << 20, BYTES,                                                                \
      "fetching waits until records have been read; at most a 32nd of the memory",                 \
      "memory, kafka.queued.max.messages.kbytes")                                                  \
    X(KAFKA_SINK_QUEUE, 1 << 30, BYTES,                                                            \
      "the task waits until the broker has taken some; at most a 16th of the memory",              \
      "memory, kafka.queue.buffering.max.kbytes")                                                  \
    X(KAFKA_SINK_TOPICS, 1000, COUNT, "further topics are asked for again each time", "fixed")     \
    X(KAFKA_SINK_KEY, 65536, BYTES, "a longer key of a record fails the batch: exit 71", "fixed")  \
    X(DATAGEN_PARTITIONS, 1024, COUNT, "a larger value is refused: exit 78", "partitions")         \
    X(DATAGEN_LENGTH, 4096, BYTES, "a larger value is refused: exit 78", "fields.NAME.length")     \
    X(DATAGEN_CHOICES, 65536, COUNT, "a longer list is refused: exit 78", "fixed")                 \
    X(MEMORY_WATCHERS, 16, COUNT, "one more query on the table is refused: MR_LIMIT", "fixed")     \
    X(FILE_SINK_MANIFEST, 64 << 20, BYTES, "a larger manifest is refused: exit 74", "fixed")       \
    X(CONNECTIONS, 4096, COUNT,                                                                    \
      "a larger value is refused; a task waits for a connection (16 by default)",                  \
      "connections_max")

/* Receivers */
#define MR_LIMITS_RECEIVERS(X)                                                                     \
    X(RECEIVER_ELEMENT, 64 << 20, BYTES, "a larger record is refused: MR_LIMIT to the receiver",   \
      "fixed")                                                                                     \
    X(RECEIVER_PUT, 512 << 20, BYTES,                                                              \
      "a larger put, or a longer frame from a socket, is refused: MR_LIMIT to the receiver",       \
      "fixed")                                                                                     \
    X(RECEIVER_BLOCK, 4 << 20, BYTES, "the block is cut; at twice the size the receiver waits",    \
      "fixed")                                                                                     \
    X(RECEIVER_QUEUE, 256 << 20, BYTES, "the receiver waits until batches have taken some",        \
      "memory")                                                                                    \
    X(RECEIVER_PARTITIONS, 4096, COUNT, "blocks share a partition", "fixed")                       \
    X(RECEIVER_BLOCK_METADATA, 1 << 20, BYTES,                                                     \
      "a receiver that says more of a block gets MR_LIMIT", "fixed")                               \
    X(RECEIVER_SPILL_FILES, 1024, COUNT, "the receiver waits, or MR_LIMIT where it cannot", "fixed")

/* Batches and the log */
#define MR_LIMITS_BATCHES(X)                                                                       \
    X(OPERATORS, 4096, COUNT, "a graph with more operators is refused: exit 71", "fixed")          \
    X(LOG_RECORD, 1 << 30, BYTES, "a plan or commit that does not fit fails the batch: exit 71",   \
      "fixed")                                                                                     \
    X(LOG_SEGMENT, INT32_MAX, BYTES, "a larger segment is not one of ours: exit 74", "fixed")      \
    X(CHECKPOINT_SUBDIRECTORIES, 65536, COUNT, "the next start sweeps the rest", "fixed")          \
    X(SWEPT_FILES, 1 << 20, COUNT, "the next start sweeps the rest", "fixed")                      \
    X(IO_AT_ONCE, 1 << 30, BYTES, "reads and writes go on with the rest", "fixed")                 \
    X(WINDOWS_PER_ROW, 10000, COUNT, "a window with more slides in it is refused: exit 78",        \
      "fixed")                                                                                     \
    X(GROUPS_PER_TASK, (1 << 30) - 1, COUNT, "a task with more groups fails the batch: exit 71",   \
      "fixed")

/* State */
#define MR_LIMITS_STATE(X)                                                                         \
    X(STATE_KEY, (1 << 20) - 1, BYTES, "a longer key fails the batch: exit 71", "fixed")           \
    X(STATE_VALUE, 1 << 28, BYTES, "a longer value fails the batch: exit 71", "fixed")             \
    X(STATE_AGGREGATE, 256 * 1024 * 1024, BYTES,                                                   \
      "a list or text of an aggregate that gets longer fails the batch: exit 71", "fixed")         \
    X(STATE_FUNCTION_VALUE, 16 * 1024 * 1024, BYTES,                                               \
      "an aggregate function of a program that keeps more for a group fails the batch: exit 71",   \
      "fixed")                                                                                     \
    X(STATE_RECORD, 64 << 20, BYTES, "a longer state of one key fails the batch: exit 71",         \
      "fixed")                                                                                     \
    X(STATE_TIMERS, 100000, COUNT, "a key with more timers fails the batch: exit 70", "fixed")     \
    X(STATE_VARIABLES, 64, COUNT, "a processor with more variables is refused: exit 78", "fixed")  \
    X(STATE_DELTAS, 4096, COUNT, "a snapshot is written", "fixed")                                 \
    X(STATE_STORE_NAME, 100, BYTES, "a longer name is refused: exit 78", "fixed")                  \
    X(SPILL_EXTENTS, 16384, COUNT, "256 GiB of state beyond the memory: the batch fails, exit 71", \
      "memory")

/* Programs in c */
#define MR_LIMITS_PROGRAMS(X)                                                                      \
    X(DSTREAM_STREAMS, 2000, COUNT, "one more stream of a context is refused: MR_LIMIT", "fixed")  \
    X(DSTREAM_SETTINGS, 64, COUNT, "one more setting of a context is refused: MR_LIMIT", "fixed")  \
    X(DSTREAM_OPTIONS, 128, COUNT, "one more option of a stream is refused: MR_LIMIT", "fixed")    \
    X(DSTREAM_PARTITIONS, 1024, COUNT, "a larger number is refused: MR_CONFIG", "fixed")           \
    X(DSTREAM_WORKERS, 64, COUNT, "a larger number becomes this one", "fixed")                     \
    X(DSTREAM_STATE_NAME, 80, BYTES, "a longer name is refused: MR_CONFIG", "fixed")               \
    X(DSTREAM_LISTENERS, 64, COUNT, "one more listener is refused: MR_LIMIT", "fixed")             \
    X(DSTREAM_EVENTS, 1000, COUNT, "the driver waits for its listeners", "fixed")                  \
    X(DSTREAM_TOP_ROWS, 1000000, COUNT, "a larger number is refused: MR_CONFIG", "fixed")          \
    X(DSTREAM_BATCH_FILES, 10000, COUNT,                                                           \
      "the rest waits for the next batch, with a line in the log", "fixed")                        \
    X(DSTREAM_FILE_PARTITIONS, 1024, COUNT, "neighbouring pieces share a partition", "fixed")      \
    X(DSTREAM_FILE_RECORD, 16 << 20, BYTES, "a longer line or record fails the batch: exit 71",    \
      "fixed")                                                                                     \
    X(DSTREAM_EMITTED, INT32_MAX, BYTES,                                                           \
      "a call of a function that emits more fails the batch: exit 71", "fixed")                    \
    X(DSTREAM_UNPACKED, 1 << 28, BYTES, "a compressed input that gets larger fails: exit 71",      \
      "fixed")                                                                                     \
    X(DSTREAM_COMBINED, 8 << 20, BYTES, "a task combines what it has gathered", "fixed")           \
    X(DSTREAM_REDUCED, 8 << 20, BYTES, "a task reduces what it has gathered", "fixed")             \
    X(SET_ASIDE, 1000, COUNT, "one more unreadable checkpoint is not set aside: exit 71", "fixed") \
    X(CONFIG_FILE, 1 << 20, BYTES, "a larger file of settings is refused: exit 71", "fixed")       \
    X(CONFIG_SETTING, 4096, BYTES, "a longer setting is refused: exit 71", "fixed")                \
    X(FUNCTIONS, 1000, COUNT, "one more function of a program is refused: MR_LIMIT", "fixed")      \
    X(FUNCTION_WORKERS, 64, COUNT, "more workers are refused: MR_CONFIG", "fixed")                 \
    X(FUNCTION_CODEC_COLUMNS, 256, COUNT,                                                          \
      "a result with more columns of codecs is refused: MR_LIMIT", "fixed")                        \
    X(DATASET_PARTITIONS, 65536, COUNT, "a dataset with more partitions is refused: MR_LIMIT",     \
      "fixed")                                                                                     \
    X(DATASET_LINEAGE, 1000, LEVELS, "a longer chain of operations is refused: MR_LIMIT", "fixed") \
    X(DATASET_PARTS, 100000, COUNT, "a directory with more parts is refused: MR_LIMIT", "fixed")   \
    X(FRAME_DEPTH, 500, LEVELS, "frames on frames beyond it are refused: MR_LIMIT", "fixed")       \
    X(FRAMES, 10000, COUNT, "a query over more frames is refused: MR_LIMIT", "fixed")              \
    X(FRAME_VIEWS, 10000, COUNT, "one more named view is refused: MR_CONFIG", "fixed")             \
    X(FRAME_TABLES, 64, COUNT, "one more table of rows is refused: MR_LIMIT", "fixed")             \
    X(QUERY_LISTENERS, 64, COUNT, "one more listener hears nothing", "fixed")                      \
    X(QUERY_EVENTS, 1000, COUNT, "the driver waits for its listeners", "fixed")                    \
    X(QUERIES_RUNNING, 1000, COUNT, "one more query of the process is refused: MR_LIMIT", "fixed")

#define MR_LIMITS(X)                                                                               \
    MR_LIMITS_SQL(X)                                                                               \
    MR_LIMITS_RECORDS(X)                                                                           \
    MR_LIMITS_CONNECTORS(X)                                                                        \
    MR_LIMITS_RECEIVERS(X)                                                                         \
    MR_LIMITS_BATCHES(X)                                                                           \
    MR_LIMITS_STATE(X)                                                                             \
    MR_LIMITS_PROGRAMS(X)

enum mr_limit_value {
#define X(name, value, unit, what, option) MR_LIMIT_##name = (value),
    MR_LIMITS(X)
#undef X
};

enum mr_limit_unit { MR_UNIT_COUNT, MR_UNIT_BYTES, MR_UNIT_LEVELS };

struct mr_limit {
    const char *name;
    int64_t value;
    enum mr_limit_unit unit;
    const char *what;   /* happens when it is reached */
    const char *option; /* that changes it, or "fixed" */
};
struct mr_limit_group {
    const char *title;
    const struct mr_limit *limits;
    size_t count;
};
/* The groups of the table in order; NULL past the last. */
const struct mr_limit_group *mr_limit_group_at(size_t index);
/* "16 MiB", "64 levels", "1,000": text has room for 32 bytes. */
void mr_limit_print(const struct mr_limit *limit, char *text, size_t size);

#endif
