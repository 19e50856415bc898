/*
 * Inside of the file sink: the manifest of an output directory.
 *
 *     file.c       parts of a batch: staged, sealed, renamed manifest.c whose directory it is, what
 *                  is published
 */
#ifndef MR_SINKS_FILE_FILE_SINK_H
#define MR_SINKS_FILE_FILE_SINK_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

/* Names of files directly in the output directory. */
struct mr_fsink_names {
    struct mr_fsink_name {
        char *name;
        uint64_t size_bytes;
    } * items;
    size_t count;
    size_t capacity;
};

enum mr_status mr_fsink_names_add(struct mr_fsink_names *names, const char *name,
                                  uint64_t size_bytes, struct mr_error *err);
bool mr_fsink_names_have(const struct mr_fsink_names *names, const char *name);
void mr_fsink_names_release(struct mr_fsink_names *names);

struct mr_fsink_manifest {
    struct mr_env *env;
    const char *dir; /* borrowed */
    char *meta_dir;  /* <dir>/.millrace */
    char *query_id;
    char *sink_name;
    int64_t published;           /* every batch up to here is complete, -1 = none */
    int64_t publishing;          /* the batch whose files may be there in part, -1 = none */
    struct mr_fsink_names files; /* of the batch being published */
    struct mr_fsink_names stale; /* of a dead attempt of that batch, to be removed */
};

/*
 * Reads the manifest of dir, checks that the directory is this sink's (MR_CONFIG when it is not),
 * and finds out whether the batch that was being published is complete. Makes the directories and
 * an empty manifest when there is none.
 */
enum mr_status mr_fsink_manifest_open(struct mr_fsink_manifest *manifest,
                                      const struct mr_sink_args *args, const char *dir,
                                      struct mr_error *err);
void mr_fsink_manifest_release(struct mr_fsink_manifest *manifest);
/* True when a file of that name was, or may have been, made by an earlier attempt of the batch. */
bool mr_fsink_manifest_owns(const struct mr_fsink_manifest *manifest, int64_t batch_id,
                            const char *name);
/* Durably notes that batch_id is about to appear as these files (taken). What earlier attempts left
 * besides becomes stale. */
enum mr_status mr_fsink_manifest_begin(struct mr_fsink_manifest *manifest, int64_t batch_id,
                                       struct mr_fsink_names *files, struct mr_error *err);
/* The files are in place and durable. Kept in memory: the next begin writes it down, and open can
 * find it out. */
void mr_fsink_manifest_done(struct mr_fsink_manifest *manifest);

#endif
