/*
 * The environment of the simulated process; see world.h.
 *
 * Called by the product through the struct mr_env, by the peers (random numbers, faults, trace) and
 * by run.c (lives). Every call on the disk passes enter(), which decides: dead already, dies now,
 * fails, is slow; and leave(), which traces the result.
 *
 * Thread: fibers.
 */
#include "sim/world.h"

#include "base/check.h"
#include "base/hash.h"
#include "sim/fibers.h"
#include "sim/peers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_NS = 1500, CLOCK_NS = 40, DEAD_CALLS_MAX = 2000000, SLOW_MAX_MS = 3000 };

const char *const sim_fault_names[FAULT_KINDS] = {
#define X(name, text) text,
    SIM_FAULTS(X)
#undef X
};

uint64_t sim_mix64(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* ---------------------------------------------------------------- dice, clock, trace */

uint64_t world_random(struct world *world, uint64_t below)
{
    world->random += 0x9e3779b97f4a7c15u;
    return sim_mix64(world->random) % below;
}

bool world_chance(struct world *world, unsigned of_1024)
{
    return world_random(world, 1024) < of_1024;
}

bool world_has(const struct world *world, enum sim_fault fault)
{
    return (world->enabled >> fault & 1) != 0;
}

bool world_strikes(struct world *world, enum sim_fault fault, unsigned of_1024)
{
    if (!world->faults_on || !world_has(world, fault) || !world_chance(world, of_1024))
        return false;
    world->faults[fault]++;
    world_note(world, "fault: %s", sim_fault_names[fault]);
    return true;
}

static struct mr_env *disk(const struct world *world)
{
    return mr_sim_env(world->sim);
}

int64_t world_now_ns(const struct world *world)
{
    return mr_env_monotonic_ns(disk(world));
}

int64_t world_now_us(const struct world *world)
{
    return mr_env_wall_us(disk(world));
}

struct mr_env *world_outside(struct world *world)
{
    return mr_sim_env(world->after != NULL ? world->after : world->sim);
}

void world_mix(struct world *world, uint64_t value)
{
    world->hash = sim_mix64(world->hash ^ value);
}

void world_mix_bytes(struct world *world, const void *data, size_t size)
{
    world->hash = mr_hash(data, size, world->hash);
}

static void print_time(const struct world *world)
{
    int64_t us = world_now_ns(world) / 1000;

    fprintf(world->verbose, "%9" PRId64 ".%06" PRId64 " ", us / 1000000, us % 1000000);
}

void world_note(struct world *world, const char *format, ...)
{
    char text[1024];
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    world_mix_bytes(world, text, MR_MIN((size_t)size, sizeof(text) - 1));
    if (world->verbose != NULL) {
        print_time(world);
        fprintf(world->verbose, "%s\n", text);
    }
}

void world_anomaly(struct world *world, const char *kind, const char *format, ...)
{
    char text[1600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    world_note(world, "ANOMALY %s: %s", kind, text);
    if (world->anomaly[0] == '\0')
        snprintf(world->anomaly, sizeof(world->anomaly), "%s: %s", kind, text);
}

/* ---------------------------------------------------------------- death */

void world_die(struct world *world, bool power)
{
    uint64_t ops = mr_sim_op_count(world->sim);
    char text[1024] = "";

    if (world->dead)
        return;
    world->dead = true;
    world->faults[power ? FAULT_POWER : FAULT_KILL]++;
    if (power)
        world->after = mr_sim_power_loss_sample(world->sim, ops, world_random(world, UINT64_MAX),
                                                text, sizeof(text));
    else
        world->after = mr_sim_kill(world->sim, ops);
    world_note(world, "%s after %" PRIu64 " operations %s", power ? "POWER LOSS" : "KILL", ops,
               text);
}

void world_next_life(struct world *world)
{
    if (mr_sim_open_count(world->sim) != 0)
        world_anomaly(world, "leak", "%" PRIu64 " files or locks were left open",
                      mr_sim_open_count(world->sim));
    if (world_has(world, FAULT_STALE) && (world->older == NULL || world_chance(world, 300))) {
        mr_sim_free(world->older);
        world->older = mr_sim_kill(world->sim, mr_sim_op_count(world->sim));
    }
    if (world->after == NULL) /* it ended by itself: what it did not sync may still be lost later */
        world->after = mr_sim_kill(world->sim, mr_sim_op_count(world->sim));
    mr_sim_set_time(world->after, world->sim);
    mr_sim_free(world->sim);
    world->sim = world->after;
    world->after = NULL;
    world->dead = false;
    world->spared = false;
    world->disk_calls = world->errors_injected = world->dead_calls = 0;
    world->die_at_call = 0;
    world->die_at_ns = 0;
}

struct mr_sim *world_snapshot(struct world *world)
{
    return mr_sim_kill(world->sim, mr_sim_op_count(world->sim));
}

void world_restore(struct world *world, struct mr_sim *snapshot)
{
    mr_sim_set_time(snapshot, world->sim);
    mr_sim_free(world->sim);
    world->sim = snapshot;
}

/* ---------------------------------------------------------------- every call */

static struct world *of(struct mr_env *env)
{
    return (struct world *)env;
}

static enum mr_status dead_end(struct world *world, struct mr_error *err)
{
    if (++world->dead_calls > DEAD_CALLS_MAX) {
        fprintf(stderr, "seed %" PRIu64 ": a dead process does not end\n", world->seed);
        abort();
    }
    errno = EIO;
    return MR_FAIL(err, MR_IO, "the simulated process is dead");
}

static void maybe_fail(struct world *world, bool needs_space)
{
    int os_errno = 0;

    if (!world->faults_on || world->spared || world->error_of_4096 == 0 ||
        world_random(world, 4096) >= world->error_of_4096)
        return;
    if (needs_space && world_has(world, FAULT_ENOSPC) && world_chance(world, 512))
        os_errno = world_chance(world, 768) ? ENOSPC : EDQUOT;
    else if (world_has(world, FAULT_EIO))
        os_errno = EIO;
    if (os_errno == 0)
        return;
    world->errors_injected++;
    world->spared = world_chance(world, 512);
    world->faults[os_errno == EIO ? FAULT_EIO : FAULT_ENOSPC]++;
    world_note(world, "fault: errno %d", os_errno);
    mr_sim_fail_at(world->sim, 1, os_errno, false);
}

/* Before a call on the disk. MR_OK: it is made. */
static enum mr_status enter(struct world *world, const char *call, const char *path,
                            bool needs_space, struct mr_error *err)
{
    fibers_pause();
    if (world->dead)
        return dead_end(world, err);
    world->calls++;
    world->disk_calls++;
    mr_sim_advance_ns(world->sim, CALL_NS);
    if (world->verbose != NULL) {
        print_time(world);
        fprintf(world->verbose, "  %s %s\n", call, path);
    }
    world_mix_bytes(world, call, strlen(call));
    world_mix_bytes(world, path, strlen(path));
    world_mix(world, (uint64_t)world_now_ns(world));
    if (world->disk_calls == world->die_at_call ||
        (world->die_at_ns != 0 && world_now_ns(world) >= world->die_at_ns)) {
        world_die(world, world->die_by_power);
        return dead_end(world, err);
    }
    if (world->faults_on && world_has(world, FAULT_SLOW) && world->slow_of_4096 > 0 &&
        world_random(world, 4096) < world->slow_of_4096) {
        world->faults[FAULT_SLOW]++;
        fibers_sleep_ns((int64_t)(1 + world_random(world, SLOW_MAX_MS)) * 1000000);
        if (world->dead)
            return dead_end(world, err);
    }
    maybe_fail(world, needs_space);
    return MR_OK;
}

static enum mr_status leave(struct world *world, enum mr_status status)
{
    mr_sim_fail_at(world->sim, 0, 0, false);
    world_mix(world, (uint64_t)status);
    return status;
}

/* ---------------------------------------------------------------- files */

static enum mr_status world_open(struct mr_env *env, const char *path, unsigned flags,
                                 struct mr_file **ret_file, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "open", path, (flags & MR_FILE_CREATE) != 0, err));
    return leave(world, mr_env_open(disk(world), path, flags, ret_file, err));
}

static void world_close(struct mr_env *env, struct mr_file *file)
{
    mr_env_close(disk(of(env)), file);
}

static enum mr_status world_pread(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                                  uint64_t offset, size_t *ret_read, struct mr_error *err)
{
    struct world *world = of(env);
    enum mr_status status;

    MR_TRY(enter(world, "read", mr_sim_file_path(file), false, err));
    status = mr_env_pread(disk(world), file, data, size, offset, ret_read, err);
    if (status == MR_OK)
        world_mix_bytes(world, data, *ret_read);
    return leave(world, status);
}

static enum mr_status world_pwrite(struct mr_env *env, struct mr_file *file, const void *data,
                                   size_t size, uint64_t offset, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "write", mr_sim_file_path(file), true, err));
    world_mix(world, offset);
    world_mix_bytes(world, data, size);
    return leave(world, mr_env_pwrite(disk(world), file, data, size, offset, err));
}

static enum mr_status world_sync(struct mr_env *env, struct mr_file *file, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "sync", mr_sim_file_path(file), true, err));
    return leave(world, mr_env_sync(disk(world), file, err));
}

static enum mr_status world_truncate(struct mr_env *env, struct mr_file *file, uint64_t size,
                                     struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "resize", mr_sim_file_path(file), true, err));
    world_mix(world, size);
    return leave(world, mr_env_truncate(disk(world), file, size, err));
}

static enum mr_status world_file_info(struct mr_env *env, struct mr_file *file,
                                      struct mr_file_info *ret_info, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "look at file", mr_sim_file_path(file), false, err));
    return leave(world, mr_env_file_info(disk(world), file, ret_info, err));
}

static enum mr_status world_path_info(struct mr_env *env, const char *path, bool follow,
                                      struct mr_file_info *ret_info, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "look at", path, false, err));
    return leave(world, mr_env_path_info(disk(world), path, follow, ret_info, err));
}

static enum mr_status world_rename(struct mr_env *env, const char *from, const char *to,
                                   bool no_replace, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "rename to", to, true, err));
    return leave(world, mr_env_rename(disk(world), from, to, no_replace, err));
}

static enum mr_status world_unlink(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "remove", path, false, err));
    return leave(world, mr_env_unlink(disk(world), path, err));
}

static enum mr_status world_mkdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "mkdir", path, true, err));
    return leave(world, mr_env_mkdir(disk(world), path, err));
}

static enum mr_status world_rmdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "rmdir", path, false, err));
    return leave(world, mr_env_rmdir(disk(world), path, err));
}

static enum mr_status world_list(struct mr_env *env, const char *path, mr_dir_visit_fn visit,
                                 void *arg, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "list", path, false, err));
    return leave(world, mr_env_list(disk(world), path, visit, arg, err));
}

static enum mr_status world_sync_dir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "sync directory", path, true, err));
    return leave(world, mr_env_sync_dir(disk(world), path, err));
}

static enum mr_status world_lock(struct mr_env *env, const char *path, struct mr_lock **ret_lock,
                                 struct mr_error *err)
{
    struct world *world = of(env);

    MR_TRY(enter(world, "lock", path, true, err));
    return leave(world, mr_env_lock(disk(world), path, ret_lock, err));
}

static void world_unlock(struct mr_env *env, struct mr_lock *lock)
{
    mr_env_unlock(disk(of(env)), lock);
}

/* ---------------------------------------------------------------- clock, random numbers */

static int64_t world_wall_us(struct mr_env *env)
{
    mr_sim_advance_ns(of(env)->sim, CLOCK_NS); /* who looks in a loop gets on */
    return mr_env_wall_us(disk(of(env))) + of(env)->wall_offset_us;
}

static int64_t world_monotonic_ns(struct mr_env *env)
{
    const struct world *world = of(env);
    int64_t now_ns;

    mr_sim_advance_ns(world->sim, CLOCK_NS);
    now_ns = world_now_ns(world);
    return now_ns < world->still_until_ns ? world->still_ns : now_ns;
}

void world_jump(struct world *world)
{
    int64_t by_us = (int64_t)world_random(world, INT64_C(14400000000)) - INT64_C(7200000000);

    world->wall_offset_us += by_us;
    world_note(world, "the wall clock jumps by %" PRId64 " us", by_us);
}

void world_stand_still(struct world *world)
{
    int64_t now_ns = world_now_ns(world);

    if (now_ns < world->still_until_ns)
        return;
    world->still_ns = now_ns;
    world->still_until_ns = now_ns + (int64_t)(1 + world_random(world, 20000)) * 1000000;
    world_note(world, "the clock stands still for %" PRId64 " ms",
               (world->still_until_ns - now_ns) / 1000000);
}

static void world_sleep_ns(struct mr_env *env, int64_t duration_ns)
{
    fibers_sleep_ns(of(env)->dead ? 1000 : duration_ns);
}

static void world_fill_random(struct mr_env *env, void *data, size_t size)
{
    mr_env_random(disk(of(env)), data, size);
}

static const struct mr_env_ops world_ops = {
    .struct_size = sizeof(world_ops),
    .open = world_open,
    .close = world_close,
    .pread = world_pread,
    .pwrite = world_pwrite,
    .sync = world_sync,
    .truncate = world_truncate,
    .file_info = world_file_info,
    .path_info = world_path_info,
    .rename = world_rename,
    .unlink = world_unlink,
    .mkdir = world_mkdir,
    .rmdir = world_rmdir,
    .list = world_list,
    .sync_dir = world_sync_dir,
    .lock = world_lock,
    .unlock = world_unlock,
    .wall_us = world_wall_us,
    .monotonic_ns = world_monotonic_ns,
    .sleep_ns = world_sleep_ns,
    .random = world_fill_random,
    .connect = peers_connect,
    .recv = peers_recv,
    .disconnect = peers_disconnect,
    .shutdown = peers_shutdown,
    .virtual_time = false, /* fibers wait as threads do */
};

struct world *world_new(uint64_t seed, FILE *verbose)
{
    struct world *world = calloc(1, sizeof(*world));

    MR_ASSERT(world != NULL);
    world->env.ops = &world_ops;
    world->seed = seed;
    world->random = sim_mix64(seed);
    world->verbose = verbose;
    world->sim = mr_sim_new(seed);
    return world;
}

void world_free(struct world *world)
{
    mr_sim_free(world->older);
    mr_sim_free(world->after);
    mr_sim_free(world->sim);
    free(world);
}
