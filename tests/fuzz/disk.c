/*
 * Files of the simulated disk. Called by the fuzzers of whole files. Thread: one.
 */
#include "fuzz/disk.h"

#include <millrace/ext/durable.h>

#include <stdio.h>
#include <string.h>

void fuzz_put_file(struct mr_sim *sim, const char *path, const void *data, size_t size_bytes)
{
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file *file = NULL;
    char dir[512];

    for (const char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        (void)snprintf(dir, sizeof dir, "%.*s", (int)(at - path), path);
        (void)mr_env_mkdir(env, dir, NULL);
    }
    (void)mr_env_unlink(env, path, NULL);
    if (mr_env_open(env, path, MR_FILE_CREATE | MR_FILE_WRITE, &file, NULL) != MR_OK)
        return;
    if (size_bytes > 0)
        (void)mr_env_pwrite(env, file, data, size_bytes, 0, NULL);
    mr_env_close(env, file);
}

bool fuzz_has_file(struct mr_sim *sim, const char *path)
{
    struct mr_file_info info;

    return mr_env_path_info(mr_sim_env(sim), path, false, &info, NULL) == MR_OK;
}
