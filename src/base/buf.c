/*
 * Growable byte buffers and a reader over bytes; see buf.h.
 *
 * Called by every writer and reader of records, texts and JSON.  Invariant: `data` is NULL or has
 * room for capacity + 1 bytes and data[size] is NUL.  Growth doubles.  Thread: the owner's.
 */
#include "base/buf.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

enum { CAPACITY_MIN = 63 };

void mr_buf_release(struct mr_buf *buf)
{
    mr_free(buf->data);
    memset(buf, 0, sizeof(*buf));
}

void mr_buf_clear(struct mr_buf *buf)
{
    buf->size = 0;
    buf->failed = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

bool mr_buf_reserve(struct mr_buf *buf, size_t more)
{
    size_t capacity;
    char *data;

    if (buf->failed)
        return false;
    if (buf->data != NULL && more <= buf->capacity - buf->size)
        return true;
    if (more > SIZE_MAX / 4 - buf->size) {
        buf->failed = true;
        return false;
    }
    capacity = buf->capacity * 2 + 1;
    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;
    if (capacity < buf->size + more)
        capacity = buf->size + more;
    data = mr_realloc(NULL, buf->data, capacity + 1);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    buf->data[buf->size] = '\0';
    return true;
}

void mr_buf_add(struct mr_buf *buf, const void *data, size_t size_bytes)
{
    if (!mr_buf_reserve(buf, size_bytes) || size_bytes == 0)
        return;
    memcpy(buf->data + buf->size, data, size_bytes);
    buf->size += size_bytes;
    buf->data[buf->size] = '\0';
}

void mr_buf_add_str(struct mr_buf *buf, const char *text)
{
    mr_buf_add(buf, text, strlen(text));
}

void mr_buf_add_char(struct mr_buf *buf, char c)
{
    mr_buf_add(buf, &c, 1);
}

void mr_buf_printf(struct mr_buf *buf, const char *format, ...)
{
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0) {
        buf->failed = true;
        return;
    }
    if (!mr_buf_reserve(buf, (size_t)size))
        return;
    va_start(args, format);
    vsnprintf(buf->data + buf->size, (size_t)size + 1, format, args);
    va_end(args);
    buf->size += (size_t)size;
}

void mr_buf_add_u8(struct mr_buf *buf, uint8_t value)
{
    mr_buf_add(buf, &value, 1);
}

static void add_little_endian(struct mr_buf *buf, uint64_t value, size_t size_bytes)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < size_bytes; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    mr_buf_add(buf, bytes, size_bytes);
}

void mr_buf_add_u32(struct mr_buf *buf, uint32_t value)
{
    add_little_endian(buf, value, 4);
}

void mr_buf_add_u64(struct mr_buf *buf, uint64_t value)
{
    add_little_endian(buf, value, 8);
}

void mr_buf_add_varint(struct mr_buf *buf, uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;

    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    mr_buf_add(buf, bytes, size);
}

void mr_buf_add_block(struct mr_buf *buf, const void *data, size_t size_bytes)
{
    mr_buf_add_varint(buf, size_bytes);
    mr_buf_add(buf, data, size_bytes);
}

char *mr_buf_take(struct mr_buf *buf)
{
    char *data = NULL;

    if (mr_buf_reserve(buf, 0)) {
        data = buf->data;
        memset(buf, 0, sizeof(*buf));
    } else {
        mr_buf_release(buf);
    }
    return data;
}

/* ---------------------------------------------------------------- reader */

struct mr_bytes mr_bytes_of(const void *data, size_t size_bytes)
{
    static const uint8_t nothing[1];
    struct mr_bytes bytes = {.at = data == NULL ? nothing : data};

    bytes.end = bytes.at + (data == NULL ? 0 : size_bytes);
    return bytes;
}

size_t mr_bytes_left(const struct mr_bytes *bytes)
{
    return bytes->failed ? 0 : (size_t)(bytes->end - bytes->at);
}

const char *mr_bytes_take(struct mr_bytes *bytes, size_t size_bytes)
{
    const uint8_t *at = bytes->at;

    if (bytes->failed || size_bytes > (size_t)(bytes->end - at)) {
        bytes->failed = true;
        return NULL;
    }
    bytes->at += size_bytes;
    return (const char *)at;
}

static uint64_t take_little_endian(struct mr_bytes *bytes, size_t size_bytes)
{
    const uint8_t *at = (const uint8_t *)mr_bytes_take(bytes, size_bytes);
    uint64_t value = 0;

    if (at == NULL)
        return 0;
    for (size_t i = 0; i < size_bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

uint8_t mr_bytes_u8(struct mr_bytes *bytes)
{
    return (uint8_t)take_little_endian(bytes, 1);
}

uint32_t mr_bytes_u32(struct mr_bytes *bytes)
{
    return (uint32_t)take_little_endian(bytes, 4);
}

uint64_t mr_bytes_u64(struct mr_bytes *bytes)
{
    return take_little_endian(bytes, 8);
}

/*
 * Only the shortest form is accepted: equal values have equal bytes, which checksums and
 * comparisons rely on.
 */
uint64_t mr_bytes_varint(struct mr_bytes *bytes)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = mr_bytes_u8(bytes);

        if (bytes->failed)
            return 0;
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            if (byte == 0 && shift > 0)
                break;
            return value;
        }
    }
    bytes->failed = true;
    return 0;
}

const char *mr_bytes_block(struct mr_bytes *bytes, size_t *ret_size)
{
    uint64_t size = mr_bytes_varint(bytes);
    const char *data;

    if (bytes->failed || size > (uint64_t)(bytes->end - bytes->at)) {
        bytes->failed = true;
        *ret_size = 0;
        return NULL;
    }
    data = mr_bytes_take(bytes, (size_t)size);
    *ret_size = (size_t)size;
    return data;
}
