/*
 * A growable byte buffer. An append that fails sets `failed`, and later appends do nothing: check
 * once at the end. Thread: its owner.
 */
#ifndef MR_BASE_BUF_H
#define MR_BASE_BUF_H

#include <millrace/error.h>

struct mr_buf {
    char *data; /* NUL-terminated once anything was appended; NULL when empty and new */
    size_t size;
    size_t capacity;
    bool failed;
};

#define MR_BUF_INIT                                                                                \
    {                                                                                              \
        0                                                                                          \
    }

void mr_buf_release(struct mr_buf *buf);
void mr_buf_clear(struct mr_buf *buf); /* size 0, memory kept, failed reset */
bool mr_buf_reserve(struct mr_buf *buf, size_t more);
void mr_buf_add(struct mr_buf *buf, const void *data, size_t size_bytes);
void mr_buf_add_str(struct mr_buf *buf, const char *text);
void mr_buf_add_char(struct mr_buf *buf, char c);
void mr_buf_printf(struct mr_buf *buf, const char *format, ...) MR_PRINTF(2, 3);
void mr_buf_add_u8(struct mr_buf *buf, uint8_t value);
void mr_buf_add_u32(struct mr_buf *buf, uint32_t value); /* little-endian */
void mr_buf_add_u64(struct mr_buf *buf, uint64_t value);
void mr_buf_add_varint(struct mr_buf *buf, uint64_t value); /* LEB128 */
/* varint length, bytes */
void mr_buf_add_block(struct mr_buf *buf, const void *data, size_t size_bytes);
/* Hands the bytes over (NUL-terminated, freed with mr_free / mr_text_free); NULL when failed.
 * Empties the buffer. */
char *mr_buf_take(struct mr_buf *buf);

/* Reader over bytes: a read past the end sets `failed` and gives zeros. */
struct mr_bytes {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};
struct mr_bytes mr_bytes_of(const void *data, size_t size_bytes);
size_t mr_bytes_left(const struct mr_bytes *bytes);
uint8_t mr_bytes_u8(struct mr_bytes *bytes);
uint32_t mr_bytes_u32(struct mr_bytes *bytes);
uint64_t mr_bytes_u64(struct mr_bytes *bytes);
uint64_t mr_bytes_varint(struct mr_bytes *bytes);
const char *mr_bytes_take(struct mr_bytes *bytes, size_t size_bytes); /* NULL when failed */
const char *mr_bytes_block(struct mr_bytes *bytes, size_t *ret_size);

#endif
