/*
 * Every file of a checkpoint and of an output directory, damaged in every way of faults.md 4.B:
 * cut, bits flipped, sectors zeroed, bytes appended, replaced by another file of its kind or by an
 * older copy of itself, removed. The query stands in the middle of its work, so that a wrong
 * reading would show.
 *
 *     a damaged file     -> the start fails and names it, or the output is what it must be
 *     the original again -> the output is what it must be: the failed start changed nothing (INV8)
 *
 * Every cut and every bit of each format alone is in test_wal_batch_log.c, test_wal_block_log.c,
 * test_state_versions.c, test_sink_file.c and test_data_object_file.c; here it is the whole query.
 * QUICK: a sample of bits and cuts.
 */
#include "support/disk_flow.h"
#include "support/evidence.h"
#include "support/test.h"

#include "base/buf.h"
#include "base/hash.h"

#include <millrace/ext/durable.h>
#include <millrace/types.h>

#include <stdlib.h>

enum { FILES_MAX = 64, SECTOR = 512, BYTES_MAX = 1 << 22 };

struct file {
    char path[160];
    char *data;
    size_t size;
};

struct victims {
    const struct disk_flow *flow;
    struct mr_sim *base; /* damaged copies of it are started */
    char *expected;
    struct file files[FILES_MAX];
    size_t count;
    char dir[100]; /* that is being listed */
    char *below[16];
    size_t below_count;
    uint64_t flips, cuts, others, refused, seed;
};

/* ---------------------------------------------------------------- files */

static bool note_entry(const char *name, enum mr_file_kind kind, void *arg)
{
    struct victims *victims = arg;
    char path[160];

    snprintf(path, sizeof(path), "%s/%s", victims->dir, name);
    if (kind == MR_KIND_DIRECTORY && victims->below_count < 16) {
        victims->below[victims->below_count++] = strdup(path);
    } else if (kind == MR_KIND_FILE && strcmp(name, "lock") != 0 && name[0] != '.') {
        CHECK(victims->count < FILES_MAX); /* the lock's bytes are for people */
        snprintf(victims->files[victims->count++].path, sizeof(path), "%s", path);
    }
    return true;
}

static void list_dir(struct victims *victims, const char *dir)
{
    struct mr_error err = {0};

    victims->below[victims->below_count++] = strdup(dir);
    while (victims->below_count > 0) {
        char *next = victims->below[--victims->below_count];

        snprintf(victims->dir, sizeof(victims->dir), "%.99s", next);
        free(next);
        CHECK_OK(mr_env_list(mr_sim_env(victims->base), victims->dir, note_entry, victims, &err),
                 &err);
    }
}

static void put_file(struct mr_env *env, const char *path, const void *data, size_t size)
{
    const unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, flags, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    mr_env_close(env, file);
}

/* ---------------------------------------------------------------- one damage */

static void check_output(struct victims *victims, struct mr_env *env, const char *path,
                         const char *what)
{
    char *output = disk_flow_output(env);

    if (strcmp(output, victims->expected) != 0)
        FAIL("%s: '%s' %s: wrong output:\n%s", victims->flow->name, path, what, output);
    mr_text_free(output);
}

/* data NULL: the file is removed. */
static void try_damage(struct victims *victims, const struct file *file, const void *data,
                       size_t size, const char *what)
{
    struct mr_sim *sim = mr_sim_kill(victims->base, mr_sim_op_count(victims->base));
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};

    if (data == NULL)
        CHECK_OK(mr_env_unlink(env, file->path, &err), &err);
    else
        put_file(env, file->path, data, size);
    if (disk_flow_run(victims->flow, env, &err) != MR_OK) {
        victims->refused++;
        if (strstr(err.text, "/cp") == NULL && strstr(err.text, "/out") == NULL)
            FAIL("%s: '%s' %s: no file is named: %s", victims->flow->name, file->path, what,
                 err.text);
        put_file(env, file->path, file->data, file->size);
        mr_error_clear(&err);
        if (disk_flow_run(victims->flow, env, &err) != MR_OK)
            FAIL("%s: '%s' %s, then put back: %s", victims->flow->name, file->path, what, err.text);
        check_output(victims, env, file->path, "put back");
    } else {
        check_output(victims, env, file->path, what);
    }
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- all damages of a file */

static bool is_sampled(struct victims *victims, uint64_t number, size_t one_in)
{
    uint64_t key[2] = {number, victims->flips};

    return one_in <= 1 || mr_hash(key, sizeof(key), victims->seed) % one_in == 0;
}

static void cut_and_flip(struct victims *victims, const struct file *file)
{
    bool is_dear = victims->flow->sql != NULL; /* each start plans it */
    size_t step = test_quick() ? file->size / (is_dear ? 2 : 4) + 1 : file->size > 4096 ? 256 : 1;
    size_t one_in = test_quick()        ? file->size * 8 / (is_dear ? 8 : 40) + 1
                    : file->size > 4096 ? (is_dear ? 256 : 16)
                                        : (is_dear ? 16 : 1);
    char *copy = malloc(file->size + SECTOR);

    CHECK_NOT_NULL(copy);
    memcpy(copy, file->data, file->size);
    for (size_t end = 0; end < file->size; end += step, victims->cuts++)
        try_damage(victims, file, copy, end, "cut");
    for (size_t bit = 0; bit < file->size * 8; bit++) {
        if (!is_sampled(victims, bit, one_in))
            continue;
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        try_damage(victims, file, copy, file->size, "with a flipped bit");
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        victims->flips++;
    }
    for (size_t at = 0; at < file->size; at += SECTOR) {
        size_t size = file->size - at < SECTOR ? file->size - at : SECTOR;

        memset(copy + at, 0, size);
        if (memcmp(copy + at, file->data + at, size) != 0) {
            try_damage(victims, file, copy, file->size, "with a hole");
            victims->others++;
        }
        memcpy(copy + at, file->data + at, size);
    }
    memset(copy + file->size, 'x', SECTOR);
    try_damage(victims, file, copy, file->size + 1, "with a byte behind it");
    try_damage(victims, file, copy, file->size + SECTOR, "with a sector behind it");
    try_damage(victims, file, NULL, 0, "removed");
    victims->others += 3;
    free(copy);
}

/* Another file of the directory in its place, and what was there at earlier times. */
static void misdirect(struct victims *victims, const struct file *file, struct mr_sim *sim,
                      uint64_t from)
{
    for (size_t i = 0; i < victims->count; i++) {
        const struct file *other = &victims->files[i];

        if (other != file &&
            strcmp(strrchr(other->path, '.') != NULL ? strrchr(other->path, '.') : "",
                   strrchr(file->path, '.') != NULL ? strrchr(file->path, '.') : "") == 0) {
            try_damage(victims, file, other->data, other->size, "with another file's bytes");
            victims->others++;
        }
    }
    for (uint64_t op = from; op < mr_sim_op_count(victims->base); op += test_quick() ? 40 : 5) {
        struct mr_sim *then = mr_sim_kill(sim, op);
        char *data = NULL;
        size_t size = 0;

        if (mr_durable_get(mr_sim_env(then), file->path, BYTES_MAX, &data, &size, NULL) == MR_OK &&
            (size != file->size || memcmp(data, file->data, size) != 0)) {
            try_damage(victims, file, data, size, "as an older copy");
            victims->others++;
        }
        mr_text_free(data);
        mr_sim_free(then);
    }
}

static void damage_all(const struct disk_flow *flow, unsigned tenths)
{
    struct victims victims = {.flow = flow, .seed = test_seed(51)};
    struct mr_sim *sim = mr_sim_new(victims.seed);
    struct mr_error err = {0};
    uint64_t from;

    disk_flow_prepare(flow, mr_sim_env(sim), SIZE_MAX);
    from = mr_sim_op_count(sim);
    CHECK_OK(disk_flow_run(flow, mr_sim_env(sim), &err), &err);
    victims.expected = disk_flow_output(mr_sim_env(sim));
    victims.base = mr_sim_kill(sim, from + (mr_sim_op_count(sim) - from) * tenths / 10);
    list_dir(&victims, "/cp");
    list_dir(&victims, "/out/.millrace");
    for (size_t i = 0; i < victims.count; i++)
        CHECK_OK(mr_durable_get(mr_sim_env(victims.base), victims.files[i].path, BYTES_MAX,
                                &victims.files[i].data, &victims.files[i].size, &err),
                 &err);
    for (size_t i = 0; i < victims.count; i++) {
        cut_and_flip(&victims, &victims.files[i]);
        misdirect(&victims, &victims.files[i], sim, from);
    }
    printf("# %s: %zu files, %llu flips, %llu cuts, %llu others; %llu refused\n", flow->name,
           victims.count, (unsigned long long)victims.flips, (unsigned long long)victims.cuts,
           (unsigned long long)victims.others, (unsigned long long)victims.refused);
    CHECK(victims.refused > 10);
    evidence_add("damage", "files", victims.count);
    evidence_add("damage", "flips", victims.flips);
    evidence_add("damage", "cuts", victims.cuts);
    evidence_add("damage", "others", victims.others);
    for (size_t i = 0; i < victims.count; i++)
        mr_text_free(victims.files[i].data);
    mr_text_free(victims.expected);
    mr_sim_free(victims.base);
    mr_sim_free(sim);
}

TEST(B1_to_B15_no_damaged_file_of_a_query_loads_as_something_else)
{
    damage_all(disk_flow_named("sum"), 7);
    if (!test_quick())
        damage_all(disk_flow_named("sum"), 5);
}

TEST(B1_to_B15_no_damaged_file_of_sql_with_state_loads_as_something_else)
{
    damage_all(disk_flow_named("sessions"), 7);
    if (!test_quick())
        damage_all(disk_flow_named("join"), 6);
}
