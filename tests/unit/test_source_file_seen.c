/*
 * The vectors FS-07 and FS-08 of Structured Streaming: which files count as seen, and for how long.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void put_ms(struct test *t, const char *name, int64_t mtime_ms)
{
    const char *path = test_path(t, name);
    struct timespec time = {mtime_ms / 1000, mtime_ms % 1000 * 1000000};
    struct timespec times[2] = {time, time};

    plug_write_file(path, name);
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static void open_with(struct test *t, struct plug_source *src, const char *more)
{
    char *options = mr_asprintf("path=%s\nrecursive=true%s", t->dir, more);

    plug_source_open(
        src, &(struct plug_source_spec){.connector = "file", .format = "text", .options = options});
    mr_free(options);
}

/* One batch: the rows, or "" when nothing is new. Frees *start and puts the new one there. */
static const char *step(struct plug_source *src, char **start)
{
    char *end = plug_plan(src, *start);
    const char *rows;

    if (end == NULL)
        return "";
    rows = plug_read(src, *start, end);
    plug_remember(src, *start, end);
    mr_text_free(*start);
    *start = end;
    return rows;
}

static bool count_one(struct mr_slice key, struct mr_slice value, void *arg)
{
    (void)key, (void)value;
    (*(int *)arg)++;
    return true;
}

static int seen(struct plug_source *src)
{
    int count = 0;

    mr_kv_scan(src->kv, count_one, &count);
    return count;
}

TEST(FS_07_files_are_forgotten_when_newer_ones_make_them_too_old)
{
    struct plug_source src;
    char *start = NULL;

    open_with(t, &src, "\nmax_file_age=10s");
    put_ms(t, "a", 5000);
    CHECK_EQ_STR(step(&src, &start), "a");
    CHECK_EQ_INT(seen(&src), 1);
    put_ms(t, "b", 15000);
    CHECK_EQ_STR(step(&src, &start), "b");
    CHECK_EQ_INT(seen(&src), 2); /* a gap of exactly 10 s is kept */
    put_ms(t, "c", 16000);
    CHECK_EQ_STR(step(&src, &start), "c");
    CHECK_EQ_INT(seen(&src), 2); /* a is gone */
    put_ms(t, "c", 20000);
    CHECK_EQ_STR(step(&src, &start), ""); /* a path is read once, whatever its time */
    put_ms(t, "d", 5000);
    CHECK_EQ_STR(step(&src, &start), ""); /* too old */
    put_ms(t, "e", 20000);
    CHECK_EQ_STR(step(&src, &start), "e");
    mr_text_free(start);
    plug_source_stop(&src);
}

TEST(FS_07_before_the_first_batch_nothing_is_too_old)
{
    struct plug_source src;
    char *start = NULL;

    open_with(t, &src, "\nmax_file_age=10s");
    put_ms(t, "a", 20000);
    put_ms(t, "b", 9000);
    CHECK_EQ_STR(step(&src, &start), "b;a");
    put_ms(t, "c", 9000);
    CHECK_EQ_STR(step(&src, &start), "");
    put_ms(t, "d", 10000);
    CHECK_EQ_STR(step(&src, &start), "d");
    mr_text_free(start);
    plug_source_stop(&src);
}

TEST(FS_07_by_name_alone_a_file_is_seen_in_every_directory)
{
    struct plug_source src;
    char *start = NULL;

    CHECK(mkdir(test_path(t, "x"), 0700) == 0 && mkdir(test_path(t, "y"), 0700) == 0);
    open_with(t, &src, "\nfile_name_only=true");
    put_ms(t, "x/d", 1000);
    CHECK_EQ_STR(step(&src, &start), "x/d");
    put_ms(t, "y/d", 2000);
    put_ms(t, "d", 3000);
    CHECK_EQ_STR(step(&src, &start), "");
    put_ms(t, "y/e", 4000);
    CHECK_EQ_STR(step(&src, &start), "y/e");
    CHECK_EQ_INT(seen(&src), 2);
    mr_text_free(start);
    plug_source_stop(&src);
}

TEST(FS_07_by_name_alone_a_file_waits_for_its_namesake_and_is_then_seen)
{
    struct plug_source src;
    char *start = NULL;

    CHECK(mkdir(test_path(t, "x"), 0700) == 0 && mkdir(test_path(t, "y"), 0700) == 0);
    open_with(t, &src, "\nfile_name_only=true\nmax_files_per_trigger=1");
    put_ms(t, "x/d", 1000); /* one listing finds all three */
    put_ms(t, "y/d", 2000);
    put_ms(t, "e", 3000);
    CHECK_EQ_STR(step(&src, &start), "x/d");
    CHECK_EQ_STR(step(&src, &start), "e");
    CHECK_EQ_STR(step(&src, &start), "");
    mr_text_free(start);
    plug_source_stop(&src);
}

/* An environment in which a file grows when its bytes are read. */
struct growing {
    struct mr_env env;
    const char *path;
};

static enum mr_status grow_and_read(struct mr_env *env, struct mr_file *file, void *data,
                                    size_t size, uint64_t offset, size_t *ret_read,
                                    struct mr_error *err)
{
    struct growing *growing = (struct growing *)env;
    FILE *more = fopen(growing->path, "a");

    MR_TRY(mr_env_pread(mr_env_posix(), file, data, size, offset, ret_read, err));
    CHECK(more != NULL && fputs("more", more) > 0 && fclose(more) == 0);
    return MR_OK;
}

TEST(B23_a_file_that_changes_while_it_is_read_stops_the_batch)
{
    struct mr_env_ops ops = *mr_env_posix()->ops;
    struct growing growing = {{&ops}, test_path(t, "a")};
    char *options = mr_asprintf("path=%s", t->dir);
    struct plug_source src;
    struct mr_error err = {0};
    char *end;

    ops.pread = grow_and_read;
    put_ms(t, "a", 1000);
    plug_source_open(
        &src, &(struct plug_source_spec){
                  .connector = "file", .format = "text", .options = options, .env = &growing.env});
    end = plug_plan(&src, NULL);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_SOURCE_CHANGED, "size changed");
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(FS_08_a_short_age_keeps_one_file_in_mind)
{
    struct plug_source src;
    char *start = NULL;

    open_with(t, &src, "\nmax_file_age=5ms");
    put_ms(t, "1", 1000);
    CHECK_EQ_STR(step(&src, &start), "1");
    put_ms(t, "2", 1006);
    CHECK_EQ_STR(step(&src, &start), "2");
    CHECK_EQ_INT(seen(&src), 1);
    mr_text_free(start);
    plug_source_stop(&src);
}
