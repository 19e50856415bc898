/*
 * Names of a type's fields, for looking up the keys of JSON objects: open addressing, at most half
 * full.
 *
 * Names match exactly, byte for byte.  Made once a decoder.  Threads: read-only after init.
 */
#include "formats/json_internal.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot make JSON decoder: out of memory");
}

static enum mr_status fill_slots(struct mr__json_shape *shape, struct mr_error *err)
{
    uint32_t count = shape->type->field_count;
    uint32_t slot_count = 4;

    while (slot_count < 2 * count)
        slot_count *= 2;
    shape->slots = mr_alloc_zero(NULL, slot_count * sizeof *shape->slots);
    shape->name_bytes = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof *shape->name_bytes);
    if (shape->slots == NULL || shape->name_bytes == NULL)
        return no_memory(err);
    shape->slot_mask = slot_count - 1;
    for (uint32_t i = 0; i < count; i++) {
        const char *name = shape->type->fields[i].name;
        shape->name_bytes[i] = strlen(name);
        uint32_t slot = (uint32_t)mr_hash(name, shape->name_bytes[i], 0) & shape->slot_mask;
        while (shape->slots[slot] != 0)
            slot = (slot + 1) & shape->slot_mask;
        shape->slots[slot] = i + 1;
    }
    return MR_OK;
}

enum mr_status mr__json_shape_init(struct mr__json_shape *shape, const struct mr_type *type,
                                   struct mr_error *err)
{
    *shape = (struct mr__json_shape){.type = type};
    if (type->id == MR_TYPE_STRUCT)
        MR_TRY(fill_slots(shape, err));
    if (type->field_count == 0)
        return MR_OK;
    shape->children = mr_alloc_zero(NULL, type->field_count * sizeof *shape->children);
    if (shape->children == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < type->field_count; i++)
        MR_TRY(mr__json_shape_init(&shape->children[i], &type->fields[i].type, err));
    return MR_OK;
}

void mr__json_shape_release(struct mr__json_shape *shape)
{
    if (shape->type == NULL)
        return;
    for (uint32_t i = 0; shape->children != NULL && i < shape->type->field_count; i++)
        mr__json_shape_release(&shape->children[i]);
    mr_free(shape->children);
    mr_free(shape->slots);
    mr_free(shape->name_bytes);
    shape->type = NULL;
}

int32_t mr__json_shape_find(const struct mr__json_shape *shape, const char *key, size_t key_bytes)
{
    uint32_t slot = (uint32_t)mr_hash(key, key_bytes, 0) & shape->slot_mask;

    for (; shape->slots[slot] != 0; slot = (slot + 1) & shape->slot_mask) {
        uint32_t index = shape->slots[slot] - 1;
        if (shape->name_bytes[index] == key_bytes &&
            memcmp(shape->type->fields[index].name, key, key_bytes) == 0)
            return (int32_t)index;
    }
    return -1;
}
