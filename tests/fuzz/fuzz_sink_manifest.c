/*
 * Any bytes as the manifest of an output directory. The first byte says whether its head is made
 * right (version, query, sink, numbers) and the input is the rest of it. What is accepted can be
 * used: a batch is begun and done, and a manifest that is opened again says the same. Nothing
 * outside the directory is named. What is refused names the file and what to do.
 */
#include "fuzz/disk.h"
#include "fuzz/fuzz.h"

#include "sinks/file/file_sink.h"

#include <stdio.h>
#include <string.h>

#define DIR "/out"
#define QUERY "11111111-2222-3333-4444-555555555555"
enum { TEXT_BYTES_MAX = 4000 };

static struct mr_sim *sim;

static enum mr_status open_manifest(struct mr_fsink_manifest *manifest, bool ephemeral,
                                    struct mr_error *err)
{
    struct mr_sink_args args = {
        .env = mr_sim_env(sim), .name = "s", .query_id = QUERY, .ephemeral = ephemeral};

    memset(manifest, 0, sizeof *manifest);
    return mr_fsink_manifest_open(manifest, &args, DIR, err);
}

static void check_names(const struct mr_fsink_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        FUZZ_CHECK(strchr(names->items[i].name, '/') == NULL);
        FUZZ_CHECK(strcmp(names->items[i].name, "..") != 0 && names->items[i].name[0] != '\0');
        FUZZ_CHECK(mr_fsink_names_have(names, names->items[i].name));
    }
}

/* Begins batch `batch`, says it is done, and opens the directory again. */
static void use(struct mr_fsink_manifest *manifest, int64_t batch)
{
    struct mr_fsink_manifest again;
    struct mr_fsink_names files = {0};
    struct mr_error err = {0};

    if (mr_fsink_names_add(&files, "part-0000000009-00000.json", 3, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        mr_fsink_names_release(&files);
        return;
    }
    if (mr_fsink_manifest_begin(manifest, batch, &files, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        return;
    }
    FUZZ_CHECK(mr_fsink_manifest_owns(manifest, batch, "part-0000000009-00000.json"));
    fuzz_put_file(sim, DIR "/part-0000000009-00000.json", "123", 3);
    for (size_t i = 0; i < manifest->stale.count; i++) {
        char path[TEXT_BYTES_MAX + 16];

        (void)snprintf(path, sizeof path, DIR "/%s", manifest->stale.items[i].name);
        FUZZ_CHECK(strcmp(manifest->stale.items[i].name, "part-0000000009-00000.json") != 0);
        (void)mr_env_unlink(mr_sim_env(sim), path, NULL);
    }
    if (open_manifest(&again, false, &err) == MR_OK) {
        FUZZ_CHECK(again.publishing == -1 && again.published == MR_MAX(manifest->published, batch));
    } else {
        FUZZ_REFUSED(&err, MR_NOMEM);
    }
    mr_fsink_manifest_release(&again);
    mr_fsink_manifest_done(manifest);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_fsink_manifest manifest;
    struct mr_error err = {0};
    char text[TEXT_BYTES_MAX + 300];
    int length = 0;

    if (size < 3 || size > TEXT_BYTES_MAX)
        return;
    if ((data[0] & 1) != 0)
        length = snprintf(text, sizeof text,
                          "{\"version\":1,\"query\":\"" QUERY "\",\"sink\":\"s\",\"published\":%d,"
                          "\"publishing\":%d,",
                          data[1] % 8 - 1, data[2] % 8 - 1);
    memcpy(text + length, data + 3, size - 3);
    sim = mr_sim_new(1);
    if ((data[0] & 2) != 0)
        fuzz_put_file(sim, DIR "/part-0000000000-00000.json", "1", 1);
    fuzz_put_file(sim, DIR "/.millrace/manifest.json", text, (size_t)length + size - 3);
    if (open_manifest(&manifest, (data[0] & 4) != 0, &err) == MR_OK) {
        check_names(&manifest.files);
        check_names(&manifest.stale);
        FUZZ_CHECK(manifest.published >= -1 && manifest.publishing >= -1);
        if ((data[0] & 4) == 0)
            use(&manifest, manifest.publishing >= 0 ? manifest.publishing : 9);
    } else {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_CONFIG, MR_VERSION);
        FUZZ_CHECK(strstr(err.text, DIR) != NULL);
    }
    mr_fsink_manifest_release(&manifest);
    mr_sim_free(sim);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
