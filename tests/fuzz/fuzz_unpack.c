/*
 * Any bytes as a compressed file (.gz, .deflate, .zst), and the bytes themselves packed, whole or
 * cut: read in two pieces they unpack to what they do in one, or are refused with the path; what
 * was packed comes back, and only then is the file at its end. The first byte chooses.
 */
#include "fuzz/fuzz.h"

#include "dstream/file_stream.h"

#include <string.h>
#include <zstd.h>
#ifdef MR_WITH_ZLIB
#include <zlib.h>
#endif

enum { PACKED_BYTES_MAX = 8192 };

static const char *const paths[] = {
    "/in/a.zst", "/in/a.gz", "/in/a.deflate", "/in/a.txt", "/in/a.bz2", "/in/.gz",
};

/* Unpacks in two pieces, the first of `cut` bytes. */
static enum mr_status unpack(const char *path, const char *data, size_t size, size_t cut,
                             struct mr_buf *out, bool *ret_at_end, struct mr_error *err)
{
    struct mr__unpacker *unpacker = NULL;
    enum mr_status status = mr__unpacker_new(path, &unpacker, err);

    if (status != MR_OK)
        return status;
    if (unpacker == NULL) { /* not packed */
        FUZZ_CHECK(!mr__is_compressed(path));
        mr_buf_add(out, data, size);
        *ret_at_end = true;
        return MR_OK;
    }
    FUZZ_CHECK(mr__is_compressed(path) && mr__unpacker_at_end(unpacker));
    MR_TRY_GOTO(mr__unpack(unpacker, data, cut, out, err));
    MR_TRY_GOTO(mr__unpack(unpacker, data + cut, size - cut, out, err));
    *ret_at_end = mr__unpacker_at_end(unpacker);
done:
    mr__unpacker_free(unpacker);
    return status;
}

static void check_both_ways(const char *path, const char *data, size_t size, size_t cut,
                            struct mr_buf *out, bool *ret_good)
{
    struct mr_buf again = MR_BUF_INIT;
    struct mr_error err = {0};
    bool at_end = false, at_end_again = false;
    enum mr_status status = unpack(path, data, size, size, out, &at_end, &err), status_again;

    if (status != MR_OK) {
        FUZZ_REFUSED3(&err, MR_BAD_DATA, MR_LIMIT, MR_CONFIG);
        FUZZ_CHECK(strstr(err.text, path) != NULL);
    }
    status_again = unpack(path, data, size, cut, &again, &at_end_again, &err);
    if (!out->failed && !again.failed) {
        FUZZ_CHECK(status == status_again);
        FUZZ_CHECK(status != MR_OK || at_end == at_end_again);
        if (status == MR_OK && status_again == MR_OK)
            FUZZ_SAME(out, &again);
    }
    mr_buf_release(&again);
    *ret_good = status == MR_OK && at_end;
}

/* The data packed, as the extension says; twice after each other when asked. */
static size_t pack(bool zstd, const char *data, size_t size, char packed[PACKED_BYTES_MAX])
{
    size_t packed_size;

    if (zstd) {
        packed_size = ZSTD_compress(packed, PACKED_BYTES_MAX, data, size, 1);
        return ZSTD_isError(packed_size) ? 0 : packed_size;
    }
#ifdef MR_WITH_ZLIB
    uLongf room = PACKED_BYTES_MAX;

    if (compress((Bytef *)packed, &room, (const Bytef *)data, (uLong)size) == Z_OK)
        return room;
#endif
    return 0;
}

static void try_packed(uint8_t how, const char *data, size_t size)
{
    static char packed[2 * PACKED_BYTES_MAX];
    bool zstd = how % 3 == 0, good = false;
    struct mr_buf out = MR_BUF_INIT, want = MR_BUF_INIT;
    size_t packed_size = pack(zstd, data, size, packed), one_size = packed_size;

    if ((how & 8) != 0) { /* the next one follows */
        memcpy(packed + packed_size, packed, packed_size);
        packed_size *= 2;
    }
    if ((how & 16) != 0 && packed_size > 1)
        packed_size--;
    check_both_ways(paths[how % 3], packed, packed_size, packed_size / 3, &out, &good);
    if (one_size > 0 && !out.failed) {
        FUZZ_CHECK(good == ((how & 16) == 0));
        mr_buf_add(&want, data, size);
        if ((how & 8) != 0)
            mr_buf_add(&want, data, size);
        if (good && !want.failed)
            FUZZ_SAME(&out, &want);
    }
    mr_buf_release(&out);
    mr_buf_release(&want);
}

/* A block of a byte that unpacks to a lot: the limit holds. */
static void try_bomb(const uint8_t *data, size_t size)
{
    enum { BOMB_BLOCKS = 4 };
    static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58};
    struct mr_buf bomb = MR_BUF_INIT, out = MR_BUF_INIT;
    bool good = false;

    mr_buf_add(&bomb, head, sizeof head);
    for (unsigned i = 0; i < BOMB_BLOCKS; i++) { /* RLE blocks of up to 128 KiB */
        uint32_t block = (i + 1 == BOMB_BLOCKS) | 1 << 1 | (uint32_t)(1 + size * 31) << 3;

        mr_buf_add_u8(&bomb, (uint8_t)block);
        mr_buf_add_u8(&bomb, (uint8_t)(block >> 8));
        mr_buf_add_u8(&bomb, (uint8_t)(block >> 16));
        mr_buf_add_u8(&bomb, data[i % size]);
    }
    if (!bomb.failed)
        check_both_ways(paths[0], bomb.data, bomb.size, data[0] % bomb.size, &out, &good);
    mr_buf_release(&bomb);
    mr_buf_release(&out);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_buf out = MR_BUF_INIT;
    bool good;

    if (size < 3)
        return;
    if (data[0] >= 240)
        try_bomb(data + 1, size - 1);
    else if (data[0] >= 128)
        try_packed(data[0], (const char *)data + 1, size - 1);
    else
        check_both_ways(paths[data[0] % MR_ARRAY_SIZE(paths)], (const char *)data + 2, size - 2,
                        data[1] % (size - 1), &out, &good);
    mr_buf_release(&out);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return size > 4096 ? 0 : fuzz_run(one, data, size);
}
