/*
 * Keys as the GROUP records of a part; part_write.c draws them and puts them in their order.
 *
 *     begin -> add, add ... -> end
 *
 * A record ends with a key group once it holds 64 KiB, within one at 1 MiB, and where the encoder
 * ends: so what it makes of the same keys is the same bytes. The hash that chains the records is
 * not taken here, as it needs the record before.
 *
 * Called by part_write.c. Threads: an encoder belongs to one at a time.
 */
#include "state/table.h"

#include "wal/record.h"

#include <string.h>

#include "base/banned.h"

enum { RECORD_BYTES = 64 << 10, RECORD_BYTES_MAX = 1 << 20, VARINT_BYTES_MAX = 10, NO_GROUP = 256 };

void mr__encoder_begin(struct mr_encoder *encoder, const char *store_name)
{
    mr_buf_clear(&encoder->bytes);
    encoder->store_name = store_name;
    encoder->record = encoder->section = SIZE_MAX;
    encoder->group = NO_GROUP;
    encoder->entries = encoder->deletes = 0;
}

static enum mr_status no_memory(const struct mr_encoder *encoder, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", encoder->store_name);
}

static void put_u32(char *at, size_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (char)(value >> (8 * i));
}

static void end_section(struct mr_encoder *encoder)
{
    if (encoder->section != SIZE_MAX)
        put_u32(encoder->bytes.data + encoder->section, encoder->bytes.size - encoder->section - 4);
    encoder->section = SIZE_MAX;
    encoder->group = NO_GROUP;
}

static void end_record(struct mr_encoder *encoder)
{
    end_section(encoder);
    if (encoder->record != SIZE_MAX)
        put_u32(encoder->bytes.data + encoder->record,
                encoder->bytes.size - encoder->record - MR_RECORD_HEADER_BYTES);
    encoder->record = SIZE_MAX;
}

/* Is there enough in the record for the next key to begin another one? */
static bool is_full(const struct mr_encoder *encoder, unsigned group)
{
    size_t bytes;

    if (encoder->record == SIZE_MAX)
        return false;
    bytes = encoder->bytes.size - encoder->record - MR_RECORD_HEADER_BYTES;
    return bytes >= RECORD_BYTES_MAX || (group != encoder->group && bytes >= RECORD_BYTES);
}

static void begin_section(struct mr_encoder *encoder, unsigned group)
{
    end_section(encoder);
    if (encoder->record == SIZE_MAX)
        encoder->record = mr_record_begin(&encoder->bytes);
    mr_buf_add_u8(&encoder->bytes, (uint8_t)group);
    encoder->section = encoder->bytes.size;
    mr_buf_add_u32(&encoder->bytes, 0);
    encoder->group = group;
}

static char *put_varint(char *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (char)(value | 0x80);
    *at++ = (char)value;
    return at;
}

/* For the next key. */
static inline enum mr_status open_section(struct mr_encoder *encoder, unsigned group,
                                          struct mr_error *err)
{
    if (is_full(encoder, group)) {
        end_record(encoder);
        if (encoder->full != NULL)
            MR_TRY(encoder->full(encoder, encoder->arg, err));
    }
    if (group != encoder->group)
        begin_section(encoder, group);
    return MR_OK;
}

enum mr_status mr__encoder_add(const struct mr_item *item, void *arg, struct mr_error *err)
{
    struct mr_encoder *encoder = arg;
    struct mr_buf *bytes = &encoder->bytes;
    char *at;

    MR_TRY(open_section(encoder, item->fragment >> 24, err));
    if (!mr_buf_reserve(bytes, item->key_bytes + item->value_bytes + 2 * VARINT_BYTES_MAX))
        return no_memory(encoder, err);
    at = put_varint(bytes->data + bytes->size,
                    (uint64_t)item->key_bytes << 1 | (item->is_delete ? 1 : 0));
    mr__copy(at, item->key, item->key_bytes);
    at += item->key_bytes;
    if (!item->is_delete) {
        at = put_varint(at, item->value_bytes);
        mr__copy(at, item->value, item->value_bytes);
        at += item->value_bytes;
    }
    bytes->size = (size_t)(at - bytes->data);
    encoder->deletes += item->is_delete;
    encoder->entries++;
    return MR_OK;
}

enum mr_status mr__encoder_add_encoded(struct mr_encoder *encoder, uint32_t fragment,
                                       struct mr_slice entry, struct mr_error *err)
{
    struct mr_buf *bytes = &encoder->bytes;

    MR_TRY(open_section(encoder, fragment >> 24, err));
    if (!mr_buf_reserve(bytes, entry.size_bytes + MR_ENCODED_SLACK_BYTES))
        return no_memory(encoder, err);
    memcpy(bytes->data + bytes->size, entry.data, MR_ENCODED_SLACK_BYTES);
    if (entry.size_bytes > MR_ENCODED_SLACK_BYTES)
        memcpy(bytes->data + bytes->size, entry.data, entry.size_bytes);
    bytes->size += entry.size_bytes;
    encoder->entries++;
    return MR_OK;
}

enum mr_status mr__encoder_end(struct mr_encoder *encoder, struct mr_error *err)
{
    if (encoder->bytes.failed)
        return no_memory(encoder, err);
    end_record(encoder);
    return MR_OK;
}
