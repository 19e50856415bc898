/*
 * Golden checkpoints of DStream programs and of a receiver (faults.md 5.6): what the release left
 * in the middle of its work, this build goes on with, to the same output. The same checkpoints,
 * damaged: a start fails and names the file, or the output is right (4.B).
 *
 *     program, first half -> /cp (and /in, /out) of the simulated disk -> NAME.pack
 *     NAME.pack -> a simulated disk, later by the first half -> second half -> NAME.expected
 *
 * tests/golden/make writes them, by this program with MILLRACE_GOLDEN_MAKE = the directory. A pack
 * is files, each: its path and size as text with '\n' behind, then pairs of u32 "skip" and "take"
 * with the bytes taken, up to the size: preallocated logs are zeros.
 */
#include "support/disk_flow.h"
#include "support/dstream.h"
#include "support/evidence.h"
#include "support/flow.h"
#include "support/script.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "plugins/plugins.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>

enum { FILES_MAX = 48, PATH_BYTES = 160, SKIP_MIN = 32, PACK_BYTES_MAX = 1 << 20, SECTOR = 512 };

struct file {
    char path[PATH_BYTES];
    struct mr_buf data;
};

struct disk {
    struct file files[FILES_MAX];
    size_t count;
    struct mr_env *env;
    char dir[PATH_BYTES];
    char *below[16];
    size_t below_count;
};

/* ---------------------------------------------------------------- the disk and its pack */

static bool note_entry(const char *name, enum mr_file_kind kind, void *arg)
{
    struct disk *disk = arg;
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%.80s/%.70s", disk->dir, name);
    if (kind == MR_KIND_DIRECTORY) {
        CHECK(disk->below_count < 16);
        disk->below[disk->below_count++] = strdup(path);
    } else if (strcmp(name, "lock") != 0) {
        CHECK(disk->count < FILES_MAX);
        memcpy(disk->files[disk->count++].path, path, sizeof(path));
    }
    return true;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void read_disk(struct mr_env *env, struct disk *disk)
{
    static const char *const roots[] = {"/cp", "/in", "/out"};
    struct mr_error err = {0};

    *disk = (struct disk){.env = env};
    for (size_t i = 0; i < MR_ARRAY_SIZE(roots); i++) {
        struct mr_file_info info;

        if (mr_env_path_info(env, roots[i], false, &info, NULL) == MR_OK)
            disk->below[disk->below_count++] = strdup(roots[i]);
    }
    while (disk->below_count > 0) {
        char *next = disk->below[--disk->below_count];

        snprintf(disk->dir, sizeof(disk->dir), "%.159s", next);
        free(next);
        CHECK_OK(mr_env_list(env, disk->dir, note_entry, disk, &err), &err);
    }
    qsort(disk->files, disk->count, sizeof(disk->files[0]), compare_files);
    for (size_t i = 0; i < disk->count; i++) {
        char *data = NULL;
        size_t size = 0;

        CHECK_OK(mr_durable_get(env, disk->files[i].path, 8 << 20, &data, &size, &err), &err);
        mr_buf_add(&disk->files[i].data, data, size);
        mr_text_free(data);
    }
}

static void put_file(struct mr_env *env, const char *path, const void *data, size_t size)
{
    const unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, flags, &file, &err), &err);
    if (size > 0)
        CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    mr_env_close(env, file);
}

static void write_disk(struct mr_env *env, const struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        char dir[PATH_BYTES];
        struct mr_error err = {0};

        snprintf(dir, sizeof(dir), "%s", disk->files[i].path);
        *strrchr(dir, '/') = '\0';
        CHECK_OK(mr_durable_mkdirs(env, dir, &err), &err);
        put_file(env, disk->files[i].path, disk->files[i].data.data, disk->files[i].data.size);
    }
}

static void release_disk(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++)
        mr_buf_release(&disk->files[i].data);
    disk->count = 0;
}

static void pack_data(struct mr_buf *out, const char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t skip = 0, take = 0, zeros = 0;

        while (at + skip < size && data[at + skip] == 0)
            skip++;
        at += skip;
        while (at + take + zeros < size && zeros < SKIP_MIN) {
            if (data[at + take + zeros] == 0) {
                zeros++;
            } else {
                take += zeros + 1;
                zeros = 0;
            }
        }
        mr_buf_add_u32(out, (uint32_t)skip);
        mr_buf_add_u32(out, (uint32_t)take);
        mr_buf_add(out, data + at, take);
        at += take;
    }
}

static void pack_disk(struct mr_buf *out, const struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        mr_buf_printf(out, "%s %zu\n", disk->files[i].path, disk->files[i].data.size);
        pack_data(out, disk->files[i].data.data, disk->files[i].data.size);
    }
    CHECK(!out->failed);
}

static void unpack_disk(const struct mr_buf *pack, struct disk *disk)
{
    struct mr_bytes bytes = mr_bytes_of(pack->data, pack->size);

    *disk = (struct disk){.count = 0};
    while (mr_bytes_left(&bytes) > 0) {
        struct file *file = &disk->files[disk->count++];
        size_t size = 0, length = 0;

        CHECK(disk->count <= FILES_MAX);
        for (char c; (c = (char)mr_bytes_u8(&bytes)) != ' ' && length + 1 < sizeof(file->path);)
            file->path[length++] = c;
        for (uint8_t c; (c = mr_bytes_u8(&bytes)) != '\n' && !bytes.failed;)
            size = size * 10 + (size_t)(c - '0');
        CHECK(!bytes.failed && size <= 8 << 20 && mr_buf_reserve(&file->data, size + 1));
        while (file->data.size < size) {
            size_t skip = mr_bytes_u32(&bytes), take = mr_bytes_u32(&bytes);
            const char *data = mr_bytes_take(&bytes, take);

            CHECK(data != NULL && file->data.size + skip + take <= size);
            memset(file->data.data + file->data.size, 0, skip);
            file->data.size += skip;
            mr_buf_add(&file->data, data, take);
        }
    }
}

/* ---------------------------------------------------------------- DStream programs */

struct program {
    const char *name;
    const char *columns;
    const char *input; /* all batches; NULL: a file stream, a file before each half */
    void (*build)(struct ds *d);
    unsigned first, second; /* batches */
};

static void build_update(struct ds *d)
{
    ds_collect(d, mr_update_state_by_key(
                      ds_stream(d), "sums",
                      MR_SQL("coalesce(state, 0) + coalesce(list_sum(\"values\"), 0)")));
}

static void build_map_with_state(struct ds *d)
{
    const struct mr_state_spec spec = {
        .name = "states", .function = MR_SUM, .timeout_ms = MR_SECONDS(3)};
    struct mr_dstream *mapped = mr_map_with_state(ds_stream(d), &spec);

    mr_dstream_checkpoint(mapped, MR_SECONDS(2));
    ds_collect(d, mr_state_snapshots(mapped));
}

static void build_window(struct ds *d)
{
    ds_collect(d, mr_reduce_by_key_and_window(ds_stream(d), MR_SUM, MR_SQL("a - b"), MR_SECONDS(3),
                                              MR_SECONDS(1), MR_SQL("value <> 0")));
}

static void build_files(struct ds *d)
{
    ds_collect(d, mr_text_file_stream(ds_context(d), "/in"));
}

#define PAIRS "a:1, b:2 | a:3 | c:4, a:1 | b:5 | d:1 | | a:7, c:1 | b:1"

static const struct program programs[] = {
    {"update-state-by-key", "key VARCHAR, value BIGINT", PAIRS, build_update, 4, 4},
    {"map-with-state", "key VARCHAR, value BIGINT", PAIRS, build_map_with_state, 4, 4},
    {"inverse-window", "key VARCHAR, value BIGINT", PAIRS, build_window, 4, 4},
    {"file-stream", "value VARCHAR", NULL, build_files, 3, 3},
};

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static struct ds *new_program(struct test *t, const struct program *program)
{
    struct ds *d = ds_new(t, program->columns);

    mr_log_set_sink(quiet, NULL);
    if (program->input != NULL)
        ds_input(d, program->input);
    return d;
}

/* A half of the program; the file of a file stream comes before it. */
static enum mr_status run_half(struct ds *d, const struct program *program, bool second,
                               struct mr_error *err)
{
    struct mr_env *env = mr_sim_env(ds_sim(d));

    mr_sim_advance_ns(ds_sim(d), 10000000);
    if (program->input == NULL) {
        char text[] = "one\ntwo\n";

        CHECK_OK(mr_durable_mkdirs(env, "/in", NULL), NULL);
        CHECK_OK(mr_durable_put(env, "/in", second ? "2" : "1", text, second ? 4 : 8, false, NULL),
                 NULL);
    }
    ds_begin(d, MR_SECONDS(1), "/cp");
    program->build(d);
    return ds_run(d, second ? program->second : program->first, err);
}

/* The second half, on that disk; as much later as the first half took. */
static struct ds *go_on(struct test *t, const struct program *program, const struct disk *disk,
                        enum mr_status *ret_status, struct mr_error *err)
{
    struct ds *d = new_program(t, program);

    write_disk(mr_sim_env(ds_sim(d)), disk);
    mr_sim_advance_ns(ds_sim(d), (int64_t)program->first * 1000000000);
    *ret_status = run_half(d, program, true, err);
    return d;
}

/* ---------------------------------------------------------------- a receiver */

/*
 * Three values are summed, three more are in the log of received blocks and in no batch when the
 * process dies: its next start runs them.
 */
struct receiving {
    struct script_feed feed;
    unsigned stored;
    bool dies;
};

static void store_next(void *arg, const struct mr_progress *progress)
{
    struct receiving *receiving = arg;
    char text[16];

    if (!receiving->dies || progress->idle || receiving->stored == 3)
        return;
    snprintf(text, sizeof(text), "%u", ++receiving->stored);
    script_feed_store(&receiving->feed, text);
}

static enum mr_status die_late(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct receiving *receiving = arg;

    if (!receiving->dies || batch_id != 4 || strcmp(point, "planned") != 0)
        return MR_OK;
    for (unsigned n = 4; n <= 6; n++) {
        char text[16];

        snprintf(text, sizeof(text), "%u", n);
        script_feed_store(&receiving->feed, text);
    }
    return MR_FAIL(err, MR_INTERNAL, "killed");
}

static enum mr_status run_receiver(struct mr_sim *sim, bool dies, struct mr_error *err)
{
    const struct mr_format *json = mr_format_find("json");
    struct receiving receiving = {.dies = dies};
    struct mr_graph *graph = mr_graph_new();
    struct mr_sink_spec sink = {
        .name = "out", .connector = mr_sink_find("file"), .format = json, .mode = MR_MODE_UPDATE};
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_node *node;
    enum mr_status status;

    script_feed_init(&receiving.feed);
    node = flow_add_sum(graph, script_feed_source(graph, "in", &receiving.feed), "sum");
    sink.options = flow_options("file", sink.connector->options, sink.connector->option_count, json,
                                "path=/out");
    CHECK_OK(mr_graph_sink(graph, &sink, &node, 1, err), err);
    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = 1000000;
    config.workers = 1;
    config.block_interval_us = 0;
    config.batches_max = dies ? 8 : 3;
    config.on_progress = store_next;
    config.on_progress_arg = &receiving;
    config.failpoint = die_late;
    config.failpoint_arg = &receiving;
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

static struct mr_sim *go_on_receiving(const struct disk *disk, enum mr_status *ret_status,
                                      struct mr_error *err)
{
    struct mr_sim *sim = mr_sim_new(9);

    write_disk(mr_sim_env(sim), disk);
    mr_sim_advance_ns(sim, INT64_C(6000000000));
    *ret_status = run_receiver(sim, false, err);
    return sim;
}

/* ---------------------------------------------------------------- golden files */

static const char *golden_path(const char *name, const char *end)
{
    static char path[512];
    const char *made = getenv("MILLRACE_GOLDEN_MAKE");
    const char *source = getenv("MILLRACE_SOURCE_DIR");

    if (made != NULL)
        snprintf(path, sizeof(path), "%s/%s.%s", made, name, end);
    else
        snprintf(path, sizeof(path), "%s/tests/golden/dstream-0.1/%s.%s",
                 source != NULL ? source : ".", name, end);
    return path;
}

static void write_golden(const char *name, const char *end, const void *data, size_t size)
{
    FILE *file = fopen(golden_path(name, end), "wb");

    CHECK_NOT_NULL(file);
    CHECK(fwrite(data, 1, size, file) == size);
    CHECK(fclose(file) == 0);
}

static struct mr_buf read_golden(const char *name, const char *end)
{
    struct mr_buf data = MR_BUF_INIT;
    FILE *file = fopen(golden_path(name, end), "rb");

    CHECK_NOT_NULL(file);
    CHECK(mr_buf_reserve(&data, PACK_BYTES_MAX));
    data.size = fread(data.data, 1, PACK_BYTES_MAX - 1, file);
    data.data[data.size] = '\0';
    CHECK(data.size > 0 && data.size < PACK_BYTES_MAX - 1);
    fclose(file);
    return data;
}

static void write_pack(const char *name, struct mr_env *env)
{
    struct mr_buf pack = MR_BUF_INIT;
    struct disk disk, again;

    read_disk(env, &disk);
    pack_disk(&pack, &disk);
    unpack_disk(&pack, &again);
    CHECK_EQ_UINT(again.count, disk.count);
    for (size_t i = 0; i < disk.count; i++)
        CHECK(disk.files[i].data.size == again.files[i].data.size &&
              (disk.files[i].data.size == 0 ||
               memcmp(disk.files[i].data.data, again.files[i].data.data, disk.files[i].data.size) ==
                   0));
    write_golden(name, "pack", pack.data, pack.size);
    mr_buf_release(&pack);
    release_disk(&disk);
    release_disk(&again);
}

static void load_pack(const char *name, struct disk *disk)
{
    struct mr_buf pack = read_golden(name, "pack");

    unpack_disk(&pack, disk);
    CHECK(disk->count > 1);
    mr_buf_release(&pack);
}

/* By the release: the first half as a pack, and what its second half put out. */
static void make_program(struct test *t, const struct program *program)
{
    struct ds *d = new_program(t, program), *later;
    struct mr_error err = {0};
    struct disk disk;
    enum mr_status status;
    const char *output;

    CHECK_OK(run_half(d, program, false, &err), &err);
    write_pack(program->name, mr_sim_env(ds_sim(d)));
    load_pack(program->name, &disk);
    later = go_on(t, program, &disk, &status, &err);
    CHECK_OK(status, &err);
    /* the same as without a stop */
    ds_forget_output(d);
    CHECK_OK(run_half(d, program, true, &err), &err);
    output = ds_output(later, true);
    CHECK_EQ_STR(ds_output(d, true), output);
    write_golden(program->name, "expected", output, strlen(output));
    release_disk(&disk);
    ds_free(later);
    ds_free(d);
}

static void make_receiver(void)
{
    struct mr_sim *sim = mr_sim_new(9), *later;
    struct mr_error err = {0};
    struct disk disk;
    enum mr_status status;
    char *output;

    CHECK_FAILS(run_receiver(sim, true, &err), &err, MR_INTERNAL, "killed");
    write_pack("received-blocks", mr_sim_env(sim));
    load_pack("received-blocks", &disk);
    mr_error_clear(&err);
    later = go_on_receiving(&disk, &status, &err);
    CHECK_OK(status, &err);
    output = disk_flow_output(mr_sim_env(later));
    for (unsigned k = 1; k <= 6; k++) {
        char row[32];

        snprintf(row, sizeof(row), "{\"k\":%u,\"v\":1}", k);
        CHECK_CONTAINS(output, row);
    }
    write_golden("received-blocks", "expected", output, strlen(output));
    mr_text_free(output);
    release_disk(&disk);
    mr_sim_free(later);
    mr_sim_free(sim);
}

static bool makes(struct test *t)
{
    static bool made;

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    if (getenv("MILLRACE_GOLDEN_MAKE") == NULL || made)
        return false;
    made = true;
    for (size_t i = 0; i < MR_ARRAY_SIZE(programs); i++)
        make_program(t, &programs[i]);
    make_receiver();
    return true;
}

/* ---------------------------------------------------------------- tests */

TEST(J5_dstream_programs_of_the_release_go_on_to_the_same_output)
{
    makes(t);
    for (size_t i = 0; i < MR_ARRAY_SIZE(programs); i++) {
        struct mr_buf expected = read_golden(programs[i].name, "expected");
        struct mr_error err = {0};
        struct disk disk;
        enum mr_status status;
        struct ds *d;

        load_pack(programs[i].name, &disk);
        d = go_on(t, &programs[i], &disk, &status, &err);
        CHECK_OK(status, &err);
        CHECK_EQ_STR(ds_output(d, true), expected.data);
        mr_buf_release(&expected);
        release_disk(&disk);
        ds_free(d);
    }
}

TEST(J5_blocks_that_the_release_received_and_did_not_process_are_processed)
{
    struct mr_buf expected;
    struct mr_error err = {0};
    struct disk disk;
    struct mr_sim *sim;
    enum mr_status status;
    char *output;

    makes(t);
    expected = read_golden("received-blocks", "expected");
    load_pack("received-blocks", &disk);
    sim = go_on_receiving(&disk, &status, &err);
    CHECK_OK(status, &err);
    output = disk_flow_output(mr_sim_env(sim));
    CHECK_EQ_STR(output, expected.data);
    mr_text_free(output);
    mr_buf_release(&expected);
    release_disk(&disk);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- damage */

struct damage {
    struct test *t;
    const struct program *program; /* NULL: the receiver */
    const char *name;
    struct disk disk;
    struct mr_buf expected;
    uint64_t tries, refused, seed;
};

/* Starts on the disk as it is now: an error that names a file, or the right output. */
static void check_start(struct damage *damage, const struct file *file, const char *what)
{
    struct mr_error err = {0};
    struct mr_sim *sim = NULL;
    struct ds *d = NULL;
    enum mr_status status;
    char *output = NULL;

    if (damage->program != NULL)
        d = go_on(damage->t, damage->program, &damage->disk, &status, &err);
    else
        sim = go_on_receiving(&damage->disk, &status, &err);
    damage->tries++;
    damage->refused += status != MR_OK;
    if (status != MR_OK && strstr(err.text, "/cp") == NULL && strstr(err.text, "/out") == NULL)
        FAIL("%s: '%s' %s: no file is named: %s", damage->name, file->path, what, err.text);
    if (status == MR_OK && d == NULL)
        output = disk_flow_output(mr_sim_env(sim));
    if (status == MR_OK &&
        strcmp(d != NULL ? ds_output(d, true) : output, damage->expected.data) != 0)
        FAIL("%s: '%s' %s: wrong output: %s", damage->name, file->path, what,
             d != NULL ? ds_output(d, true) : output);
    mr_text_free(output);
    if (d != NULL)
        ds_free(d);
    mr_sim_free(sim);
}

static bool is_sampled(const struct damage *damage, uint64_t number, uint64_t one_in)
{
    uint64_t key[2] = {number, damage->tries};

    return one_in <= 1 || mr_hash(key, sizeof(key), damage->seed) % one_in == 0;
}

/* Bytes behind the last one that is not zero are room, in a log: a flip there is a torn write that
 * nobody acknowledged, or is noticed; a few of them do. */
static size_t used_bytes(const struct mr_buf *data)
{
    size_t size = data->size;

    while (size > 0 && data->data[size - 1] == 0)
        size--;
    return MR_MIN(size + SECTOR, data->size);
}

static void damage_file(struct damage *damage, struct file *file)
{
    size_t used = used_bytes(&file->data), size = file->data.size;
    uint64_t flips_in = test_quick() ? used * 8 / 6 + 1 : used > 2048 ? 32 : 2;
    size_t step = test_quick() ? used / 2 + 1 : used > 2048 ? 97 : 7;

    for (size_t bit = 0; bit < used * 8; bit++) {
        if (!is_sampled(damage, bit, flips_in))
            continue;
        file->data.data[bit / 8] = (char)(file->data.data[bit / 8] ^ (1 << bit % 8));
        check_start(damage, file, "with a flipped bit");
        file->data.data[bit / 8] = (char)(file->data.data[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t end = 0; end < used; end += step) {
        file->data.size = end;
        check_start(damage, file, "cut");
    }
    file->data.size = size;
}

/*
 * Another file in its place, and none. A checkpoint without its whole log is one that was made and
 * not used yet: only what else there is can tell, state or an output that is ahead.
 */
static void misdirect(struct damage *damage, size_t index)
{
    struct file *file = &damage->disk.files[index];
    struct mr_buf own = file->data;
    char path[PATH_BYTES];

    for (size_t i = 0; i < damage->disk.count; i++) {
        if (i == index || damage->disk.files[i].data.size == 0)
            continue;
        file->data = damage->disk.files[i].data;
        check_start(damage, file, "with another file's bytes");
    }
    file->data = own;
    if (damage->program != NULL && strstr(file->path, "/log/") != NULL)
        return;
    memcpy(path, file->path, sizeof(path));
    snprintf(file->path, sizeof(file->path), "%s", "/elsewhere/file");
    check_start(damage, file, path);
    memcpy(file->path, path, sizeof(path));
}

static void damage_all(struct test *t, const struct program *program, const char *name)
{
    struct damage damage = {.t = t, .program = program, .name = name, .seed = test_seed(61)};
    size_t files = 0;

    damage.expected = read_golden(name, "expected");
    load_pack(name, &damage.disk);
    for (size_t i = 0; i < damage.disk.count; i++) {
        struct file *file = &damage.disk.files[i];

        if (strncmp(file->path, "/cp/", 4) != 0 && strstr(file->path, "/.millrace/") == NULL)
            continue;
        files++;
        damage_file(&damage, file);
        misdirect(&damage, i);
    }
    printf("# %s: %zu files, %llu damages, %llu refused\n", name, files,
           (unsigned long long)damage.tries, (unsigned long long)damage.refused);
    CHECK(damage.refused > 3);
    evidence_add("damage", "files", files);
    evidence_add("damage", "others", damage.tries);
    mr_buf_release(&damage.expected);
    release_disk(&damage.disk);
}

TEST(B1_to_B15_no_damaged_file_of_a_dstream_program_loads_as_something_else)
{
    makes(t);
    for (size_t i = 0; i < MR_ARRAY_SIZE(programs); i++)
        damage_all(t, &programs[i], programs[i].name);
}

TEST(B1_to_B15_no_damaged_file_of_a_receiver_loads_as_something_else)
{
    makes(t);
    damage_all(t, NULL, "received-blocks");
}
