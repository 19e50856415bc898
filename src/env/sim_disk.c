/*
 * Images, nodes, pages and operations of the simulated disk; see sim_disk.h.
 *
 * Called by sim.c and sim_crash.c.  Invariant: whatever is shared (refs > 1) is copied before it is
 * changed.  Directories keep their entries sorted by name, so that equal contents are equal bytes.
 *
 * Thread: under the lock of the struct mr_sim, or while no other thread uses it.
 */
#include "env/sim_disk.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

void *sim_calloc(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);

    MR_ASSERT(memory != NULL);
    return memory;
}

void *sim_realloc(void *memory, size_t size)
{
    memory = realloc(memory, size == 0 ? 1 : size);
    MR_ASSERT(memory != NULL);
    return memory;
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = sim_calloc(size, 1);

    memcpy(copy, text, size);
    return copy;
}

uint64_t sim_mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* ---------------------------------------------------------------- nodes */

static void unref_page(struct sim_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

static void unref_node(struct sim_node *node)
{
    if (node == NULL || --node->refs > 0)
        return;
    for (size_t i = 0; i < node->page_count; i++)
        unref_page(node->pages[i]);
    for (size_t i = 0; i < node->entry_count; i++)
        free(node->entries[i].name);
    free(node->pages);
    free(node->entries);
    free(node);
}

static struct sim_node *copy_node(const struct sim_node *from)
{
    struct sim_node *node = sim_calloc(1, sizeof(*node));

    *node = *from;
    node->refs = 1;
    node->pages = sim_calloc(from->page_count, sizeof(struct sim_page *));
    for (size_t i = 0; i < from->page_count; i++) {
        node->pages[i] = from->pages[i];
        if (node->pages[i] != NULL)
            node->pages[i]->refs++;
    }
    node->entries = sim_calloc(from->entry_count, sizeof(struct sim_entry));
    for (size_t i = 0; i < from->entry_count; i++) {
        node->entries[i].name = copy_text(from->entries[i].name);
        node->entries[i].node = from->entries[i].node;
    }
    return node;
}

/* The node for changing: made when it is not there, copied when it is shared. */
static struct sim_node *writable(struct sim_image *image, uint64_t number, enum mr_file_kind kind)
{
    struct sim_node *node;

    if (number >= image->node_count) {
        image->nodes = sim_realloc(image->nodes, (number + 1) * sizeof(struct sim_node *));
        memset(image->nodes + image->node_count, 0,
               (number + 1 - image->node_count) * sizeof(struct sim_node *));
        image->node_count = number + 1;
    }
    node = image->nodes[number];
    if (node == NULL) {
        node = sim_calloc(1, sizeof(*node));
        node->refs = 1;
        node->kind = kind;
        image->nodes[number] = node;
    } else if (node->refs > 1) {
        image->nodes[number] = copy_node(node);
        node->refs--;
        node = image->nodes[number];
    }
    MR_ASSERT(node->kind == kind);
    return node;
}

static void set_page_count(struct sim_node *node, size_t count)
{
    for (size_t i = count; i < node->page_count; i++)
        unref_page(node->pages[i]);
    node->pages = sim_realloc(node->pages, count * sizeof(struct sim_page *));
    for (size_t i = node->page_count; i < count; i++)
        node->pages[i] = NULL;
    node->page_count = count;
}

static uint8_t *writable_page(struct sim_node *node, size_t index)
{
    struct sim_page *page = node->pages[index];

    if (page == NULL || page->refs > 1) {
        struct sim_page *copy = sim_calloc(1, sizeof(*copy));

        if (page != NULL) {
            memcpy(copy->bytes, page->bytes, SIM_PAGE_BYTES);
            page->refs--;
        }
        copy->refs = 1;
        node->pages[index] = copy;
    }
    return node->pages[index]->bytes;
}

static void resize(struct sim_node *node, uint64_t size)
{
    size_t pages = (size_t)((size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES);

    set_page_count(node, pages);
    if (size < node->size_bytes && size % SIM_PAGE_BYTES != 0 && node->pages[pages - 1] != NULL) {
        size_t kept = (size_t)(size % SIM_PAGE_BYTES);

        memset(writable_page(node, pages - 1) + kept, 0, SIM_PAGE_BYTES - kept);
    }
    node->size_bytes = size;
}

static bool all_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static void write_bytes(struct sim_node *node, uint64_t offset, const uint8_t *data, size_t size)
{
    if (offset + size > node->size_bytes)
        resize(node, offset + size);
    MR_ASSERT(size == 0 || node->pages != NULL);
    while (size > 0) {
        size_t index = (size_t)(offset / SIM_PAGE_BYTES);
        size_t at = (size_t)(offset % SIM_PAGE_BYTES);
        size_t part = MR_MIN(size, SIM_PAGE_BYTES - at);

        /* Preallocated zeros stay free of charge. */
        if (node->pages[index] != NULL || !all_zero(data, part))
            memcpy(writable_page(node, index) + at, data, part);
        offset += part;
        data += part;
        size -= part;
    }
}

size_t sim_node_read(const struct sim_node *node, uint64_t offset, void *data, size_t size)
{
    uint8_t *to = data;
    size_t done = 0;

    if (offset >= node->size_bytes)
        return 0;
    size = (size_t)MR_MIN((uint64_t)size, node->size_bytes - offset);
    while (done < size) {
        size_t index = (size_t)((offset + done) / SIM_PAGE_BYTES);
        size_t at = (size_t)((offset + done) % SIM_PAGE_BYTES);
        size_t part = MR_MIN(size - done, SIM_PAGE_BYTES - at);

        if (node->pages[index] == NULL)
            memset(to + done, 0, part);
        else
            memcpy(to + done, node->pages[index]->bytes + at, part);
        done += part;
    }
    return size;
}

/* ---- Entries ---- */

/* Place of the name, or where it belongs. */
static size_t place_of(const struct sim_node *dir, const char *name, bool *ret_found)
{
    size_t low = 0;
    size_t high = dir->entry_count;

    MR_ASSERT(high == 0 || dir->entries != NULL);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *other = dir->entries[middle].name;
        int order;

        MR_ASSERT(other != NULL);
        order = strcmp(other, name);

        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

static void set_entry(struct sim_node *dir, const char *name, uint64_t node)
{
    bool found;
    size_t at = place_of(dir, name, &found);

    MR_ASSERT(!found || dir->entries != NULL);
    if (!found) {
        dir->entries = sim_realloc(dir->entries, (dir->entry_count + 1) * sizeof(struct sim_entry));
        memmove(dir->entries + at + 1, dir->entries + at,
                (dir->entry_count - at) * sizeof(struct sim_entry));
        dir->entries[at].name = copy_text(name);
        dir->entry_count++;
    }
    dir->entries[at].node = node;
}

static void remove_entry(struct sim_node *dir, const char *name)
{
    bool found;
    size_t at = place_of(dir, name, &found);

    if (!found)
        return;
    MR_ASSERT(dir->entries != NULL);
    free(dir->entries[at].name);
    dir->entry_count--;
    memmove(dir->entries + at, dir->entries + at + 1,
            (dir->entry_count - at) * sizeof(struct sim_entry));
}

/* ---------------------------------------------------------------- images */

void sim_image_init(struct sim_image *image)
{
    image->nodes = NULL;
    image->node_count = 0;
    writable(image, SIM_ROOT, MR_KIND_DIRECTORY);
}

void sim_image_copy(struct sim_image *to, const struct sim_image *from)
{
    to->node_count = from->node_count;
    to->nodes = sim_calloc(from->node_count, sizeof(struct sim_node *));
    for (size_t i = 0; i < from->node_count; i++) {
        to->nodes[i] = from->nodes[i];
        if (to->nodes[i] != NULL)
            to->nodes[i]->refs++;
    }
}

void sim_image_release(struct sim_image *image)
{
    for (size_t i = 0; i < image->node_count; i++)
        unref_node(image->nodes[i]);
    free(image->nodes);
    image->nodes = NULL;
    image->node_count = 0;
}

const struct sim_node *sim_image_node(const struct sim_image *image, uint64_t node)
{
    MR_ASSERT(node < image->node_count && image->nodes[node] != NULL);
    return image->nodes[node];
}

uint64_t sim_image_look_up(const struct sim_image *image, uint64_t dir, const char *name)
{
    const struct sim_node *node = sim_image_node(image, dir);
    bool found;
    size_t at = place_of(node, name, &found);

    return found ? node->entries[at].node : 0;
}

static uint64_t hash_file(const struct sim_node *node)
{
    uint8_t page[SIM_PAGE_BYTES];
    uint64_t hash = sim_mix(node->size_bytes);

    for (uint64_t at = 0; at < node->size_bytes; at += SIM_PAGE_BYTES)
        hash = mr_hash(page, sim_node_read(node, at, page, sizeof(page)), hash);
    return hash;
}

uint64_t sim_image_hash(const struct sim_image *image, uint64_t number)
{
    const struct sim_node *node = sim_image_node(image, number);
    uint64_t hash = (uint64_t)node->kind;

    if (node->kind != MR_KIND_DIRECTORY)
        return hash_file(node);
    for (size_t i = 0; i < node->entry_count; i++) {
        hash = mr_hash(node->entries[i].name, strlen(node->entries[i].name), hash);
        hash = sim_mix(hash ^ sim_image_hash(image, node->entries[i].node));
    }
    return hash;
}

/* ---------------------------------------------------------------- operations */

struct sim_op *sim_op_ref(struct sim_op *op)
{
    op->refs++;
    return op;
}

void sim_op_unref(struct sim_op *op)
{
    if (op == NULL || --op->refs > 0)
        return;
    free(op->name);
    free(op->name_from);
    free(op->data);
    free(op->text);
    free(op);
}

bool sim_op_waits(const struct sim_op *op)
{
    return op->kind != SIM_SYNC && op->kind != SIM_SYNC_DIR;
}

bool sim_op_is_synced_by(const struct sim_op *op, const struct sim_op *sync)
{
    bool of_data = op->kind == SIM_WRITE || op->kind == SIM_TRUNCATE;

    if (!sim_op_waits(op))
        return false;
    if (sync->kind == SIM_SYNC)
        return of_data && op->node == sync->node;
    if (sync->kind == SIM_SYNC_DIR)
        return !of_data &&
               (op->dir == sync->node || (op->kind == SIM_RENAME && op->dir_from == sync->node));
    return false;
}

static void fill_garbage(uint8_t *data, size_t size, uint64_t choice)
{
    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            choice = sim_mix(choice);
        data[i] = (uint8_t)(choice >> (8 * (i % 8)));
    }
}

static void apply_write(const struct sim_op *op, enum sim_fate fate, uint64_t choice,
                        struct sim_node *node)
{
    size_t size = op->size_bytes;
    uint8_t *other;

    if (fate == SIM_APPLIED || size == 0) {
        write_bytes(node, op->offset, op->data, size);
    } else if (fate == SIM_TORN) {
        /* Half of the time at a sector's end, else anywhere; at least one byte is missing. */
        size_t kept = (size_t)(choice >> 1) % size;

        if ((choice & 1) != 0 && size > 512)
            kept -= kept % 512;
        write_bytes(node, op->offset, op->data, kept);
    } else {
        other = sim_calloc(size, 1);
        if (fate == SIM_GARBAGE)
            fill_garbage(other, size, choice);
        write_bytes(node, op->offset, other, size);
        free(other);
    }
}

void sim_op_apply(const struct sim_op *op, enum sim_fate fate, uint64_t choice,
                  struct sim_image *image)
{
    struct sim_node *node;

    if (fate == SIM_ABSENT || !sim_op_waits(op))
        return;
    switch (op->kind) {
    case SIM_WRITE:
    case SIM_TRUNCATE:
        node = writable(image, op->node, MR_KIND_FILE);
        node->mtime_ns = op->at_ns;
        if (op->kind == SIM_WRITE)
            apply_write(op, fate, choice, node);
        else
            resize(node, op->offset);
        break;
    case SIM_CREATE:
    case SIM_MKDIR:
        node = writable(image, op->node, op->node_kind);
        if (node->mtime_ns == 0)
            node->mtime_ns = op->at_ns;
        set_entry(writable(image, op->dir, MR_KIND_DIRECTORY), op->name, op->node);
        break;
    case SIM_UNLINK:
    case SIM_RMDIR:
        remove_entry(writable(image, op->dir, MR_KIND_DIRECTORY), op->name);
        break;
    case SIM_RENAME:
        if (op->node >= image->node_count || image->nodes[op->node] == NULL)
            writable(image, op->node, op->node_kind);
        remove_entry(writable(image, op->dir_from, MR_KIND_DIRECTORY), op->name_from);
        set_entry(writable(image, op->dir, MR_KIND_DIRECTORY), op->name, op->node);
        break;
    case SIM_SYNC:
    case SIM_SYNC_DIR:
        break;
    }
}
