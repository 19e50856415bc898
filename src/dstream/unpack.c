/*
 * Compressed files, unpacked by the extension of their names (FILE-2): .gz and .deflate by zlib
 * when the build has it, .zst by zstd. Several compressed files after each other are one, as with
 * the commands.
 *
 * Called by file_read.c with blocks of the file. What one block unpacks to is bounded, so a small
 * file that unpacks to terabytes ends with an error instead of the memory.
 *
 * Thread: the reader's.
 */
#include "base/limits.h"
#include "dstream/file_stream.h"

#include <string.h>
#include <zstd.h>
#ifdef MR_WITH_ZLIB
#include <zlib.h>
#endif

enum { OUT_BYTES = 1 << 18, OUT_BYTES_MAX = MR_LIMIT_DSTREAM_UNPACKED };

struct mr__unpacker {
    const char *path; /* the list's */
    ZSTD_DStream *zstd;
#ifdef MR_WITH_ZLIB
    z_stream zlib;
    bool has_zlib;
#endif
    bool ended; /* between two compressed parts, or before the first */
};

static bool has_extension(const char *path, const char *extension)
{
    size_t size = strlen(path), extension_size = strlen(extension);

    return size > extension_size && strcmp(path + size - extension_size, extension) == 0;
}

static enum mr_status no_memory(const char *path, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot unpack '%s': out of memory", path);
}

/* ---- zlib ---- */

static bool is_zlib(const char *path)
{
    return has_extension(path, ".gz") || has_extension(path, ".deflate");
}

bool mr__is_compressed(const char *path)
{
    return is_zlib(path) || has_extension(path, ".zst");
}

#ifdef MR_WITH_ZLIB
static enum mr_status start_zlib(struct mr__unpacker *unpacker, struct mr_error *err)
{
    enum { GZIP_OR_ZLIB = 32 };

    if (inflateInit2(&unpacker->zlib, MAX_WBITS + GZIP_OR_ZLIB) != Z_OK)
        return no_memory(unpacker->path, err);
    unpacker->has_zlib = true;
    return MR_OK;
}

static enum mr_status unpack_zlib(struct mr__unpacker *unpacker, const char *data, size_t size,
                                  struct mr_buf *out, struct mr_error *err)
{
    z_stream *zlib = &unpacker->zlib;
    int result = Z_OK;

    zlib->next_in = (Bytef *)(uintptr_t)data;
    zlib->avail_in = (uInt)size;
    do {
        if (unpacker->ended && zlib->avail_in == 0)
            break;
        unpacker->ended = false;
        if (out->size > OUT_BYTES_MAX || !mr_buf_reserve(out, OUT_BYTES + 1))
            return out->size > OUT_BYTES_MAX
                       ? MR_FAIL(err, MR_LIMIT, "cannot unpack '%s': it unpacks to too much",
                                 unpacker->path)
                       : no_memory(unpacker->path, err);
        zlib->next_out = (Bytef *)out->data + out->size;
        zlib->avail_out = OUT_BYTES;
        result = inflate(zlib, Z_NO_FLUSH);
        out->size += OUT_BYTES - zlib->avail_out;
        if (result == Z_STREAM_END) {
            unpacker->ended = true;
            inflateReset(zlib);
        } else if (result != Z_OK && result != Z_BUF_ERROR) {
            return MR_FAIL(err, MR_BAD_DATA, "cannot unpack '%s': %s", unpacker->path,
                           zlib->msg != NULL ? zlib->msg : "it is damaged");
        }
    } while (zlib->avail_in > 0 || zlib->avail_out == 0);
    return MR_OK;
}

static void stop_zlib(struct mr__unpacker *unpacker)
{
    if (unpacker->has_zlib)
        inflateEnd(&unpacker->zlib);
}
#else
static enum mr_status start_zlib(struct mr__unpacker *unpacker, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "cannot read '%s': this build has no zlib; decompress the file, or leave it "
                   "out with a filter",
                   unpacker->path);
}

static enum mr_status unpack_zlib(struct mr__unpacker *unpacker, const char *data, size_t size,
                                  struct mr_buf *out, struct mr_error *err)
{
    MR_UNUSED(data);
    MR_UNUSED(size);
    MR_UNUSED(out);
    return start_zlib(unpacker, err);
}

static void stop_zlib(struct mr__unpacker *unpacker)
{
    MR_UNUSED(unpacker);
}
#endif

/* ---- zstd ---- */

static enum mr_status unpack_zstd(struct mr__unpacker *unpacker, const char *data, size_t size,
                                  struct mr_buf *out, struct mr_error *err)
{
    ZSTD_inBuffer in = {data, size, 0};
    bool was_full = false;

    while (in.pos < in.size || was_full) {
        ZSTD_outBuffer to;
        size_t result;

        if (out->size > OUT_BYTES_MAX)
            return MR_FAIL(err, MR_LIMIT, "cannot unpack '%s': it unpacks to too much",
                           unpacker->path);
        if (!mr_buf_reserve(out, OUT_BYTES + 1))
            return no_memory(unpacker->path, err);
        to = (ZSTD_outBuffer){out->data + out->size, OUT_BYTES, 0};
        result = ZSTD_decompressStream(unpacker->zstd, &to, &in);
        if (ZSTD_isError(result))
            return MR_FAIL(err, MR_BAD_DATA, "cannot unpack '%s': %s", unpacker->path,
                           ZSTD_getErrorName(result));
        out->size += to.pos;
        was_full = to.pos == to.size;
        unpacker->ended = result == 0;
        if (unpacker->ended && in.pos == in.size)
            break;
    }
    return MR_OK;
}

/* ---- both ---- */

enum mr_status mr__unpacker_new(const char *path, struct mr__unpacker **ret_unpacker,
                                struct mr_error *err)
{
    static const char *const unknown[] = {".bz2", ".lz4", ".snappy", ".xz", ".lzo", ".Z"};
    struct mr__unpacker *unpacker;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < MR_ARRAY_SIZE(unknown); i++) {
        if (has_extension(path, unknown[i]))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot read '%s': files compressed as '%s' are not supported; use .gz "
                           "or .zst, or leave it out with a filter",
                           path, unknown[i]);
    }
    if (!mr__is_compressed(path)) {
        *ret_unpacker = NULL;
        return MR_OK;
    }
    unpacker = mr_alloc_zero(NULL, sizeof(*unpacker));
    if (unpacker == NULL)
        return no_memory(path, err);
    unpacker->path = path;
    unpacker->ended = true;
    if (is_zlib(path)) {
        status = start_zlib(unpacker, err);
    } else {
        unpacker->zstd = ZSTD_createDStream();
        if (unpacker->zstd == NULL)
            status = no_memory(path, err);
    }
    if (status != MR_OK) {
        mr__unpacker_free(unpacker);
        return status;
    }
    *ret_unpacker = unpacker;
    return MR_OK;
}

enum mr_status mr__unpack(struct mr__unpacker *unpacker, const char *data, size_t size,
                          struct mr_buf *out, struct mr_error *err)
{
    return unpacker->zstd != NULL ? unpack_zstd(unpacker, data, size, out, err)
                                  : unpack_zlib(unpacker, data, size, out, err);
}

bool mr__unpacker_at_end(const struct mr__unpacker *unpacker)
{
    return unpacker->ended;
}

void mr__unpacker_free(struct mr__unpacker *unpacker)
{
    if (unpacker == NULL)
        return;
    stop_zlib(unpacker);
    ZSTD_freeDStream(unpacker->zstd);
    mr_free(unpacker);
}
