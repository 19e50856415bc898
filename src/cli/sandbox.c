/*
 * The sandbox of `millrace run`: see sandbox.h and src/env/sandbox.h.
 *
 *     script --sql/paths.c--> paths --made, if written--> rules + what every process reads --> in
 *
 * Thread: main, before there is another.
 */
#include "cli/sandbox.h"

#include "base/buf.h"
#include "base/check.h"
#include "duck/lib.h"
#include "env/library.h"
#include "env/sandbox.h"
#include "sql/paths.h"

#include <millrace/ext/durable.h>

#include <string.h>

struct rules {
    struct mr_arena arena;
    struct mr_sandbox_path paths[MR_LIMIT_SANDBOX_PATHS];
    size_t count;
};

/* Names, certificates, time zones; what memory there is; random numbers. */
static const char *const everybody_reads[] = {
    "/etc",
    "/usr/share",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
    "/run/systemd/resolve",
};

static enum mr_status add_path(void *arg, const char *path, bool write, struct mr_error *err)
{
    struct rules *rules = arg;
    char *copy = mr_arena_copy(&rules->arena, path, strlen(path));

    if (copy == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot enter the sandbox: out of memory");
    if (rules->count == MR_ARRAY_SIZE(rules->paths))
        return MR_FAIL(err, MR_CONFIG, "cannot enter the sandbox: more than %zu paths",
                       MR_ARRAY_SIZE(rules->paths));
    if (write) /* a rule is an open directory, so there must be one */
        MR_TRY(mr_durable_mkdirs(mr_env_posix(), path, err));
    rules->paths[rules->count++] = (struct mr_sandbox_path){copy, write};
    return MR_OK;
}

/* "a:b:c" */
static enum mr_status add_list(struct rules *rules, const char *list, bool write,
                               struct mr_error *err)
{
    while (list != NULL && *list != '\0') {
        size_t size = strcspn(list, ":");
        char *path = mr_arena_copy(&rules->arena, list, size);

        if (path == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot enter the sandbox: out of memory");
        if (size > 0)
            MR_TRY(add_path(rules, path, write, err));
        list += size + (list[size] == ':' ? 1 : 0);
    }
    return MR_OK;
}

/* Inside, nothing becomes executable: what is to be loaded is loaded here. */
static enum mr_status load_libraries(const struct cli_script *script, struct mr_error *err)
{
    const struct mr_duck_api *api;
    const char *library =
        mr_sql_setting(script->parsed, script->settings, script->setting_count, "library");
    void *address;

    MR_TRY(mr_duck_api_load(&api, err));
    return library != NULL ? mr_library_symbol(library, "millrace_functions", &address, err)
                           : MR_OK;
}

static enum mr_status enter(const struct cli_command *command, const struct cli_args *args,
                            struct cli_script *script, struct rules *rules, struct mr_error *err)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(everybody_reads); i++)
        MR_TRY(add_path(rules, everybody_reads[i], false, err));
    MR_TRY(mr_sql_paths(script->parsed, script->settings, script->setting_count, add_path, rules,
                        err));
    MR_TRY(add_list(rules, cli_value(command, args, "--sandbox-read"), false, err));
    MR_TRY(add_list(rules, cli_value(command, args, "--sandbox-write"), true, err));
    MR_TRY(load_libraries(script, err));
    return mr_sandbox_enter(rules->paths, rules->count, err);
}

enum mr_status cli_sandbox_enter(const struct cli_command *command, const struct cli_args *args,
                                 struct cli_script *script, struct mr_error *err)
{
    struct rules rules = {.count = 0};
    enum mr_status status;

    if (cli_value(command, args, "--sandbox") == NULL) {
        if (cli_value(command, args, "--sandbox-read") != NULL ||
            cli_value(command, args, "--sandbox-write") != NULL)
            return MR_FAIL(err, MR_USAGE, "--sandbox-read and --sandbox-write need --sandbox");
        return MR_OK;
    }
    MR_TRY(cli_script_parse(script, err));
    status = enter(command, args, script, &rules, err);
    mr_arena_release(&rules.arena);
    return status;
}
