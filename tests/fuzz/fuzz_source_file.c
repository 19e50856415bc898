/*
 * Any bytes as the file source's offsets (the files of a batch, from a PLAN). What is accepted is
 * printed and read back as the same; its pieces cover every file once and in order, and its
 * partitions every piece. What is refused says what is missing.
 *
 * The first byte: whether files may be cut, and whether the input stands in a list of files.
 */
#include "fuzz/fuzz.h"

#include "sources/file/file_source.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 4000 };

static void check_pieces(const struct mr_fsrc_range *range, bool cuttable)
{
    size_t piece = 0, next = 0;

    for (size_t i = 0; i < range->files.count; i++) {
        const struct mr_fsrc_file *file = &range->files.items[i];
        uint64_t at = 0;

        while (piece < range->piece_count && range->pieces[piece].file == file) {
            FUZZ_CHECK(range->pieces[piece].from == at && range->pieces[piece].to > at);
            FUZZ_CHECK(!cuttable || range->pieces[piece].to - at <= FSRC_CHUNK_BYTES);
            at = range->pieces[piece++].to;
        }
        FUZZ_CHECK(at == file->size_bytes);
    }
    FUZZ_CHECK(piece == range->piece_count);
    FUZZ_CHECK(range->partition_count <= FSRC_PARTITIONS_MAX);
    for (uint32_t i = 0; i < range->partition_count; i++) {
        size_t first, end;

        mr_fsrc_range_partition(range, i, &first, &end);
        FUZZ_CHECK(first == next && end > first);
        next = end;
    }
    FUZZ_CHECK(next == range->piece_count);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_fsrc_range *range = NULL, *again = NULL;
    struct mr_error err = {0};
    char text[TEXT_BYTES_MAX + 64];
    char *printed = NULL;
    bool cuttable;

    if (size < 1 || size > TEXT_BYTES_MAX)
        return;
    cuttable = (data[0] & 1) != 0;
    (void)snprintf(text, sizeof text,
                   (data[0] & 2) != 0 ? "{\"batch\":3,\"files\":[%.*s]}" : "%.*s", (int)size - 1,
                   (const char *)data + 1);
    if (mr_fsrc_range_parse(text, cuttable, &range, &err) != MR_OK) {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_BAD_DATA, MR_LIMIT);
        return;
    }
    check_pieces(range, cuttable);
    if (mr_fsrc_range_print(range->number, range->files.items, range->files.count, &printed,
                            &err) == MR_OK) {
        if (mr_fsrc_range_parse(printed, cuttable, &again, &err) == MR_OK) {
            FUZZ_CHECK(again->number == range->number && again->piece_count == range->piece_count);
            FUZZ_CHECK(again->files.count == range->files.count);
            for (size_t i = 0; i < range->files.count; i++) {
                const struct mr_fsrc_file *a = &range->files.items[i], *b = &again->files.items[i];
                FUZZ_CHECK(strcmp(a->path, b->path) == 0 && a->size_bytes == b->size_bytes &&
                           a->mtime_ns == b->mtime_ns && a->inode == b->inode);
            }
            mr_fsrc_range_unref(mr_fsrc_range_ref(again));
        } else {
            fuzz_fail(__FILE__, __LINE__, "what was printed is an offset");
        }
        mr_fsrc_range_unref(again);
    } else {
        FUZZ_REFUSED(&err, MR_NOMEM);
    }
    mr_text_free(printed);
    mr_fsrc_range_unref(range);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
