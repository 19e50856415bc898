/*
 * How the blocks of a receiver are kept (dstream.md 8.5; docs/decisions/0015).
 *
 *                    with a checkpoint                       without
 *     any level      write-ahead log, newest blocks in       in memory, up to receiver_queue_bytes;
 *                    memory too                              then the receiver waits
 *     ..._DISK...    the same                                beyond received_memory in spill files
 *     ..._2          needs received_copy: all of it twice    the same as without _2: one process
 *                                                            has one memory
 *
 * Blocks of rows (mr_format.exact_columns) can only be read with their columns, which are noted in
 * the file `columns` beside the segments.
 *
 * Called by receiver.c when a source is opened. Thread: driver; events come from any.
 */
#include "core/receiver_host.h"

#include "base/log.h"
#include "base/mutant.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_NAME "columns"

enum { SEGMENT_BYTES = 16 << 20, COLUMNS_BYTES_MAX = 1 << 20 };

/* A directory of the source's name, whatever is in it: what is not plain is percent-encoded, so
 * that no name leads out of the checkpoint. NULL without memory. */
static char *blocks_dir(const char *parent, const char *name)
{
    struct mr_buf path = MR_BUF_INIT;

    mr_buf_printf(&path, "%s/", parent);
    for (const char *at = name; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '_' || c == '-' || (c == '.' && at != name))
            mr_buf_add_char(&path, *at);
        else
            mr_buf_printf(&path, "%%%02X", c);
    }
    return mr_buf_take(&path);
}

static bool is_double(enum mr_storage_level level)
{
    return level == MR_STORAGE_DISK_ONLY_2 || level == MR_STORAGE_MEMORY_ONLY_2 ||
           level == MR_STORAGE_MEMORY_ONLY_SER_2 || level == MR_STORAGE_MEMORY_AND_DISK_2 ||
           level == MR_STORAGE_MEMORY_AND_DISK_SER_2;
}

static bool is_disk_only(enum mr_storage_level level)
{
    return level == MR_STORAGE_DISK_ONLY || level == MR_STORAGE_DISK_ONLY_2;
}

static bool may_spill(enum mr_storage_level level)
{
    return is_disk_only(level) || level == MR_STORAGE_MEMORY_AND_DISK ||
           level == MR_STORAGE_MEMORY_AND_DISK_2 || level == MR_STORAGE_MEMORY_AND_DISK_SER ||
           level == MR_STORAGE_MEMORY_AND_DISK_SER_2 || level == MR_STORAGE_OFF_HEAP;
}

static void note_event(void *arg, enum mr_block_event event)
{
    struct mr_query *query = arg;
    enum mr_metric metric = MR_METRIC_SPILLED_BLOCKS;

    if (event == MR_BLOCK_COPY_LOST)
        metric = MR_METRIC_BLOCK_COPIES_LOST;
    else if (event == MR_BLOCK_COPY_REPAIRED)
        metric = MR_METRIC_BLOCK_COPIES_REPAIRED;
    mr_metric_add(&query->metrics, metric, 1);
}

/* <received_copy>/<query id>/<source>: several programs may share the directory. */
static char *copy_dir(const struct mr_query *query, const char *name)
{
    char *parent =
        mr_asprintf("%s/%s", query->config.received_copy_dir, query->checkpoint.query_id_text);
    char *dir = parent != NULL ? blocks_dir(parent, name) : NULL;

    mr_free(parent);
    return dir;
}

/* Of this run alone: removed when it ends. */
static char *spill_dir(const struct mr_query *query, const char *name)
{
    const char *base = query->config.spill_dir;
    char *parent, *dir;

    if (base == NULL)
        base = getenv("TMPDIR");
    parent = mr_asprintf("%s/millrace-received-%s", base != NULL && base[0] != '\0' ? base : "/tmp",
                         query->run_id);
    dir = parent != NULL ? blocks_dir(parent, name) : NULL;
    mr_free(parent);
    return dir;
}

static enum mr_status open_durable(struct mr_query *query, const struct mr_source_spec *spec,
                                   struct mr_block_log_config *config,
                                   struct mr_block_log **ret_log, struct mr_error *err)
{
    char *dir = blocks_dir(query->checkpoint.received_dir, spec->name), *copy = NULL;
    enum mr_status status = MR_OK;

    if (query->config.received_copy_dir != NULL)
        copy = copy_dir(query, spec->name);
    else if (is_double(spec->level))
        status = MR_FAIL(err, MR_CONFIG,
                         "cannot keep two copies of what is received: set received_copy to a "
                         "directory on another disk, or use a storage level without _2");
    if (status == MR_OK && (dir == NULL || (query->config.received_copy_dir != NULL && !copy)))
        status = MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    config->copy_dir = copy;
    if (status == MR_OK)
        status = mr_block_log_open(query->env, dir, config, ret_log, err);
    mr_free(dir);
    mr_free(copy);
    return status;
}

static enum mr_status open_volatile(struct mr_query *query, const struct mr_source_spec *spec,
                                    struct mr_block_log_config *config,
                                    struct mr_block_log **ret_log, struct mr_error *err)
{
    char *dir = NULL;
    enum mr_status status;

    config->volatile_only = true;
    if (may_spill(spec->level)) {
        dir = spill_dir(query, spec->name);
        if (dir == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
        config->spill_dir = dir;
        if (is_disk_only(spec->level))
            config->memory_bytes = 0;
    }
    if (is_double(spec->level))
        mr_log(MR_LOG_INFO, "receiver", query->name, -1,
               "source '%s': without a checkpoint one copy is kept of what is received",
               spec->name);
    status = mr_block_log_open(query->env, NULL, config, ret_log, err);
    mr_free(dir);
    return status;
}

enum mr_status mr__receiver_open_log(struct mr_query *query, const struct mr_source_spec *spec,
                                     uint64_t min_last, struct mr_block_log **ret_log,
                                     struct mr_error *err)
{
    struct mr_block_log_config config = {
        .segment_bytes = SEGMENT_BYTES,
        .memory_bytes = query->config.received_memory_bytes,
        .min_last = min_last,
        .prepares = !query->env->ops->virtual_time,
        .event = note_event,
        .event_arg = query,
    };

    return query->durable ? open_durable(query, spec, &config, ret_log, err)
                          : open_volatile(query, spec, &config, ret_log, err);
}

/* ---------------------------------------------------------------- columns */

static enum mr_status compare_columns(struct mr_query *query, const struct mr_source_spec *spec,
                                      const char *dir, const char *columns, bool are_waiting,
                                      struct mr_error *err)
{
    char *path = mr_asprintf("%s/" COLUMNS_NAME, dir), *noted = NULL;
    size_t size = 0;
    enum mr_status status;

    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    status = mr_durable_get(query->env, path, COLUMNS_BYTES_MAX, &noted, &size, err);
    mr_free(path);
    if (status != MR_OK && status != MR_NOT_FOUND)
        return status;
    if (status == MR_OK && strcmp(noted, columns) == 0) {
        mr_text_free(noted);
        return MR_OK;
    }
    if (status == MR_OK && are_waiting && !MR_MUTANT("receiver-store.columns.waiting"))
        status = MR_FAIL(err, MR_CONFIG,
                         "source '%s' has received blocks that no batch has processed, with the "
                         "columns (%.200s), and now has (%.200s); let the program that received "
                         "them process them first",
                         spec->name, noted, columns);
    else
        status =
            mr_durable_put(query->env, dir, COLUMNS_NAME, columns, strlen(columns), false, err);
    mr_text_free(noted);
    return status;
}

enum mr_status mr__receiver_check_columns(struct mr_query *query, const struct mr_source_spec *spec,
                                          uint64_t committed, uint64_t last, struct mr_error *err)
{
    char *dir, *columns;
    enum mr_status status;

    if (!query->durable || spec->format == NULL || !spec->format->exact_columns)
        return MR_OK;
    dir = blocks_dir(query->checkpoint.received_dir, spec->name);
    columns = mr_schema_print(spec->declared);
    if (dir == NULL || columns == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot start a receiver: out of memory");
    else
        status = compare_columns(query, spec, dir, columns, last > committed, err);
    mr_free(dir);
    mr_text_free(columns);
    return status;
}
