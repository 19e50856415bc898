/*
 * Damage at rest: a file of the checkpoint changes while no process runs (faults.md 4.B): a flipped
 * bit, a lost end, garbage behind the end, a sector of zeros, the contents of another file, or an
 * older copy of itself.
 *
 * Called by run.c between two lives. The damage is durable: what the file had not synced is not
 * lost by it.
 */
#include "sim/world.h"

#include "base/buf.h"
#include "base/check.h"

#include <millrace/batch.h>
#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MAX = 256, FILE_BYTES = 8 << 20, SECTOR = 512 };

struct found {
    struct world *world;
    const char *dir;
    bool not_logs; /* leave the batch log and the logs of blocks out */
    char *paths[FILES_MAX];
    size_t count;
};

static void find_files(struct found *found, const char *dir);

struct visiting {
    struct found *found;
    const char *dir;
};

static bool visit(const char *name, enum mr_file_kind kind, void *arg)
{
    struct visiting *visiting = arg;
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", visiting->dir, name);
    if (kind == MR_KIND_DIRECTORY)
        find_files(visiting->found, path);
    else if (visiting->found->count < FILES_MAX && strcmp(name, "lock") != 0 &&
             !(visiting->found->not_logs &&
               (strstr(path, "/log/") != NULL || strstr(path, "/received/") != NULL)))
        visiting->found->paths[visiting->found->count++] = strdup(path);
    return true;
}

static void find_files(struct found *found, const char *dir)
{
    struct visiting visiting = {found, dir};

    (void)mr_env_list(world_outside(found->world), dir, visit, &visiting, NULL);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *get(struct world *world, const char *path, size_t *ret_size)
{
    char *text = NULL;

    if (mr_durable_get(world_outside(world), path, FILE_BYTES, &text, ret_size, NULL) != MR_OK)
        return NULL;
    return text;
}

static void put(struct world *world, const char *path, const char *data, size_t size)
{
    struct mr_env *env = world_outside(world);
    struct mr_file *file = NULL;

    MR_ASSERT(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_TRUNCATE, &file, NULL) == MR_OK);
    if (size > 0)
        MR_ASSERT(mr_env_pwrite(env, file, data, size, 0, NULL) == MR_OK);
    MR_ASSERT(mr_env_sync(env, file, NULL) == MR_OK);
    mr_env_close(env, file);
}

/* Where something is written: preallocated zeros at the end are no place for damage. */
static size_t used_size(const char *data, size_t size)
{
    while (size > 0 && data[size - 1] == 0)
        size--;
    return size;
}

static bool change(struct world *world, struct found *found, enum sim_fault kind, const char *path,
                   char *what, size_t what_size)
{
    size_t size, at = 0, used, other_size = 0;
    char *data = get(world, path, &size);
    const char *from = "";
    char *other = NULL;
    bool done = true;

    if (data == NULL)
        return false;
    used = used_size(data, size);
    if (used == 0) {
        mr_text_free(data);
        return false;
    }
    at = (size_t)world_random(world, used);
    switch (kind) {
    case FAULT_FLIP:
        data[at] = (char)(data[at] ^ (1 << world_random(world, 8)));
        put(world, path, data, size);
        break;
    case FAULT_CUT:
        put(world, path, data, at);
        break;
    case FAULT_TAIL: {
        char *longer = calloc(size + 100, 1);

        memcpy(longer, data, size);
        for (size_t i = 0; i < 100; i++)
            longer[size + i] = (char)world_random(world, 256);
        put(world, path, longer, size + 100);
        free(longer);
        break;
    }
    case FAULT_HOLE:
        at -= at % SECTOR;
        memset(data + at, 0, MR_MIN((size_t)SECTOR, size - at));
        put(world, path, data, size);
        break;
    case FAULT_STALE:
        done = world->older != NULL &&
               mr_durable_get(mr_sim_env(world->older), path, FILE_BYTES, &other, &other_size,
                              NULL) == MR_OK &&
               (other_size != size || memcmp(other, data, size) != 0);
        if (done)
            put(world, path, other, other_size);
        mr_text_free(other);
        break;
    default: /* FAULT_MISDIRECT */
        from = found->paths[world_random(world, found->count)];
        other = get(world, from, &other_size);
        done = other != NULL && strcmp(from, path) != 0;
        if (done)
            put(world, path, other, other_size);
        mr_text_free(other);
    }
    if (done)
        snprintf(what, what_size, "%s of %s at %zu of %zu%s%s", sim_fault_names[kind], path, at,
                 size, *from != '\0' ? " from " : "", from);
    mr_text_free(data);
    return done;
}

bool world_damage(struct world *world, const char *dir, bool notices_old_logs, char *what,
                  size_t size)
{
    static const enum sim_fault kinds[] = {FAULT_FLIP, FAULT_CUT,       FAULT_TAIL,
                                           FAULT_HOLE, FAULT_MISDIRECT, FAULT_STALE};
    struct found found = {.world = world, .dir = dir};
    enum sim_fault kind = kinds[world_random(world, MR_ARRAY_SIZE(kinds))];
    bool done = false;

    if (!world_has(world, kind))
        return false;
    found.not_logs = kind == FAULT_STALE && !notices_old_logs;
    find_files(&found, dir);
    qsort(found.paths, found.count, sizeof(char *), compare);
    if (found.count > 0)
        done =
            change(world, &found, kind, found.paths[world_random(world, found.count)], what, size);
    for (size_t i = 0; i < found.count; i++)
        free(found.paths[i]);
    if (done) {
        world->faults[kind]++;
        world_note(world, "damage: %s", what);
    }
    return done;
}
