/*
 * The offset of the file source: the files of one batch, and how they are cut.
 *
 *     {"batch":3,"files":[{"p":path,"s":size,"m":mtime in ns,"i":inode}, ...]}
 *
 * A range (start, end] is exactly the files that `end` lists, so a plan can be run again without
 * looking at anything else.
 *
 *     files   a (70 MiB)          b (1 KiB)      empty ones have no piece
 *     pieces  a0  a1  a2          b0
 *     partitions: one a piece, or neighbours together when there are more than FSRC_PARTITIONS_MAX
 *
 * Called by file.c (planning) and by the readers (any thread: a parsed range never changes).
 */
#include "sources/file/file_source.h"

#include "base/json.h"
#include "base/mutant.h"
#include "base/number_text.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void mr_fsrc_files_release(struct mr_fsrc_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        mr_free(files->items[i].path);
    mr_free(files->items);
    memset(files, 0, sizeof(*files));
}

enum mr_status mr_fsrc_files_add(struct mr_fsrc_files *files, const char *path,
                                 const struct mr_file_info *info, struct mr_error *err)
{
    char *copy;

    if (files->count == files->capacity) {
        size_t capacity = files->capacity * 2 + 16;
        struct mr_fsrc_file *items = mr_realloc(NULL, files->items, capacity * sizeof(*items));

        if (items == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot remember '%s': out of memory", path);
        files->items = items;
        files->capacity = capacity;
    }
    copy = mr_strdup(path);
    if (copy == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot remember '%s': out of memory", path);
    files->items[files->count++] =
        (struct mr_fsrc_file){copy, info->size_bytes, info->mtime_ns, info->inode};
    return MR_OK;
}

enum mr_status mr_fsrc_range_print(uint64_t number, const struct mr_fsrc_file *files, size_t count,
                                   char **ret_text, struct mr_error *err)
{
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_json_out out = {&buf, false};

    mr_json_begin_object(&out, NULL);
    mr_json_add_int(&out, "batch", (int64_t)number);
    mr_json_begin_array(&out, "files");
    for (size_t i = 0; i < count; i++) {
        if (!mr_utf8_valid(files[i].path, strlen(files[i].path))) {
            char shown[256];

            mr_text_escape(files[i].path, strlen(files[i].path), shown, sizeof(shown));
            mr_buf_release(&buf);
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot plan file '%s': its name is not UTF-8; rename it", shown);
        }
        mr_json_begin_object(&out, NULL);
        mr_json_add_string(&out, "p", files[i].path);
        mr_json_add_int(&out, "s", (int64_t)files[i].size_bytes);
        mr_json_add_int(&out, "m", files[i].mtime_ns);
        mr_json_add_int(&out, "i", (int64_t)files[i].inode);
        mr_json_end_object(&out);
    }
    mr_json_end_array(&out);
    mr_json_end_object(&out);
    *ret_text = mr_buf_take(&buf);
    return *ret_text != NULL
               ? MR_OK
               : MR_FAIL(err, MR_NOMEM, "cannot plan %zu files: out of memory", count);
}

static enum mr_status parse_files(struct mr_fsrc_range *range, const struct mr_json *list,
                                  struct mr_error *err)
{
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *path = mr_json_text(item, "p");
        const struct mr_json *size = mr_json_get(item, "s");
        const struct mr_json *mtime = mr_json_get(item, "m");
        const struct mr_json *inode = mr_json_get(item, "i");
        struct mr_file_info info = {MR_KIND_FILE, 0, 0, 0, 0};
        int64_t size_bytes = 0;
        int64_t inode_number = 0;

        if ((path == NULL || size == NULL || mtime == NULL || inode == NULL ||
             !mr_json_int(size, &size_bytes) || !mr_json_int(mtime, &info.mtime_ns) ||
             !mr_json_int(inode, &inode_number) || size_bytes < 0) &&
            !MR_MUTANT("file-offset.files.fields"))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read the offset of a file source: entry %zu is not a file",
                           range->files.count);
        info.size_bytes = (uint64_t)size_bytes;
        info.inode = (uint64_t)inode_number;
        MR_TRY(mr_fsrc_files_add(&range->files, path, &info, err));
    }
    return MR_OK;
}

static int compare_paths(const void *a, const void *b)
{
    const struct mr_fsrc_file *const *left = a, *const *right = b;

    return strcmp((*left)->path, (*right)->path);
}

/* A file that is there twice would be read twice. */
static enum mr_status check_once(const struct mr_fsrc_files *files, struct mr_error *err)
{
    const struct mr_fsrc_file **sorted;
    enum mr_status status = MR_OK;

    if (files->count < 2 || MR_MUTANT("file-offset.files.twice"))
        return MR_OK;
    sorted = mr_alloc(NULL, files->count * sizeof(*sorted));
    if (sorted == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read the offset of a file source: out of memory");
    for (size_t i = 0; i < files->count; i++)
        sorted[i] = &files->items[i];
    qsort(sorted, files->count, sizeof(*sorted), compare_paths);
    for (size_t i = 1; i < files->count && status == MR_OK; i++)
        if (compare_paths(&sorted[i - 1], &sorted[i]) == 0)
            status = MR_FAIL(err, MR_CORRUPT,
                             "cannot read the offset of a file source: '%.200s' is in it twice",
                             sorted[i]->path);
    mr_free(sorted);
    return status;
}

static uint64_t piece_count_of(const struct mr_fsrc_file *file, bool cuttable)
{
    if (file->size_bytes == 0)
        return 0;
    return cuttable ? (file->size_bytes - 1) / FSRC_CHUNK_BYTES + 1 : 1;
}

/* A batch with more is no batch that was planned: an offset that was made up, or 31 TiB. */
enum { PIECES_MAX = FSRC_BATCH_FILES_MAX * 100 };

static enum mr_status make_pieces(struct mr_fsrc_range *range, bool cuttable, struct mr_error *err)
{
    uint64_t count = 0;

    for (size_t i = 0; i < range->files.count; i++)
        count += piece_count_of(&range->files.items[i], cuttable);
    if (count > PIECES_MAX)
        return MR_FAIL(
            err, MR_LIMIT,
            "cannot read %zu files in one batch: they have more than %d pieces of %d MiB; "
            "set max_bytes_per_trigger",
            range->files.count, PIECES_MAX, FSRC_CHUNK_BYTES >> 20);
    range->pieces = mr_alloc(NULL, (size_t)(count + 1) * sizeof(*range->pieces));
    if (range->pieces == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan %zu files: out of memory", range->files.count);
    for (size_t i = 0; i < range->files.count; i++) {
        const struct mr_fsrc_file *file = &range->files.items[i];
        uint64_t pieces = piece_count_of(file, cuttable);

        for (uint64_t k = 0; k < pieces; k++) {
            uint64_t from = k * FSRC_CHUNK_BYTES;
            uint64_t to = k + 1 < pieces ? from + FSRC_CHUNK_BYTES : file->size_bytes;

            range->pieces[range->piece_count++] = (struct mr_fsrc_piece){file, from, to};
        }
        range->total_bytes += file->size_bytes;
    }
    MR_ASSERT(range->piece_count == count);
    range->partition_count = (uint32_t)MR_MIN(count, (uint64_t)FSRC_PARTITIONS_MAX);
    return MR_OK;
}

enum mr_status mr_fsrc_range_parse(const char *text, bool cuttable,
                                   struct mr_fsrc_range **ret_range, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_fsrc_range *range = mr_alloc_zero(NULL, sizeof(*range));
    struct mr_json *json = NULL;
    const struct mr_json *number;
    const struct mr_json *files;
    int64_t value = 0;
    enum mr_status status;

    if (range == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read the offset of a file source: out of memory");
    atomic_init(&range->references, 1);
    range->text = mr_strdup(text);
    if (range->text == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot read the offset of a file source: out of memory");
        goto done;
    }
    MR_TRY_GOTO(mr_json_parse(text, strlen(text), &arena, &json, err));
    number = mr_json_get(json, "batch");
    files = mr_json_get(json, "files");
    if ((number == NULL || !mr_json_int(number, &value) || value < 0 || files == NULL ||
         files->kind != MR_JSON_ARRAY) &&
        !MR_MUTANT("file-offset.parse.fields")) {
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot read the offset of a file source: no 'batch' or no 'files' in it");
        goto done;
    }
    range->number = (uint64_t)value;
    MR_TRY_GOTO(parse_files(range, files, err));
    MR_TRY_GOTO(check_once(&range->files, err));
    MR_TRY_GOTO(make_pieces(range, cuttable, err));
done:
    mr_arena_release(&arena);
    if (status != MR_OK) {
        mr_fsrc_range_unref(range);
        return status;
    }
    *ret_range = range;
    return MR_OK;
}

int64_t mr_fsrc_range_number(const char *text)
{
    static const char begin[] = "{\"batch\":";
    int64_t number = -1;

    if (strncmp(text, begin, sizeof(begin) - 1) == 0) {
        const char *digits = text + sizeof(begin) - 1;

        if (!mr_int_parse(digits, strcspn(digits, ","), &number))
            number = -1;
    }
    return number;
}

struct mr_fsrc_range *mr_fsrc_range_ref(struct mr_fsrc_range *range)
{
    atomic_fetch_add_explicit(&range->references, 1, memory_order_relaxed);
    return range;
}

void mr_fsrc_range_unref(struct mr_fsrc_range *range)
{
    if (range == NULL ||
        atomic_fetch_sub_explicit(&range->references, 1, memory_order_acq_rel) != 1)
        return;
    mr_fsrc_files_release(&range->files);
    mr_free(range->pieces);
    mr_free(range->text);
    mr_free(range);
}

void mr_fsrc_range_partition(const struct mr_fsrc_range *range, uint32_t partition,
                             size_t *ret_first, size_t *ret_end)
{
    MR_ASSERT(partition < range->partition_count);
    *ret_first = (size_t)((uint64_t)range->piece_count * partition / range->partition_count);
    *ret_end = (size_t)((uint64_t)range->piece_count * (partition + 1) / range->partition_count);
}
