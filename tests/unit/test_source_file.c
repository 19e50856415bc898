/*
 * The file source: what it picks, in which order, how it cuts, and what it does when files change.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes dir/name with a modification time in seconds. */
static void put(struct test *t, const char *name, const char *text, int64_t mtime_s)
{
    const char *path = test_path(t, name);
    struct timespec times[2] = {{mtime_s, 0}, {mtime_s, 0}};

    plug_write_file(path, text);
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static char *in_dir(struct test *t, const char *more)
{
    return mr_asprintf("path=%s%s", t->dir, more);
}

/* A text source over the test's directory. */
static void open_text(struct plug_source *src, const char *options)
{
    plug_source_open(
        src, &(struct plug_source_spec){.connector = "file", .format = "text", .options = options});
}

/* Plans, reads and remembers one batch; NULL = nothing new. Frees *start and puts the new one
 * there. */
static const char *step(struct plug_source *src, char **start)
{
    char *end = plug_plan(src, *start);
    const char *rows;

    if (end == NULL)
        return NULL;
    rows = plug_read(src, *start, end);
    plug_remember(src, *start, end);
    mr_text_free(*start);
    *start = end;
    return rows;
}

TEST(an_empty_directory_is_fine_and_files_are_read_once)
{
    struct plug_source src;
    char *options = in_dir(t, "");
    char *start = NULL;

    open_text(&src, options);
    CHECK_NULL(plug_plan(&src, NULL));
    put(t, "a.txt", "one\ntwo\n", 100);
    CHECK_EQ_STR(step(&src, &start), "one;two");
    CHECK_NULL(step(&src, &start));
    put(t, "b.txt", "three", 50); /* an older time is no reason to miss it; no newline at the end */
    CHECK_EQ_STR(step(&src, &start), "three");
    put(t, "a.txt", "changed\n", 200); /* a path is read once */
    CHECK_NULL(step(&src, &start));
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(files_of_a_batch_are_ordered_by_time_then_name)
{
    struct plug_source src;
    char *options = in_dir(t, "");
    char *start = NULL;

    put(t, "c", "3\n", 100);
    put(t, "b", "2\n", 100);
    put(t, "a", "4\n", 200);
    put(t, "z", "1\n", 50);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1;2;3;4");
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(hidden_names_directories_and_special_files_are_left_out)
{
    struct plug_source src;
    char *options = in_dir(t, "");
    char *start = NULL;

    put(t, ".hidden", "no\n", 1);
    put(t, "_tmp", "no\n", 2);
    put(t, "yes", "yes\n", 3);
    CHECK(mkdir(test_path(t, "dir.json"), 0700) == 0);
    CHECK(mkfifo(test_path(t, "fifo"), 0600) == 0);
    CHECK(symlink(test_path(t, "yes"), test_path(t, "link")) == 0);
    put(t, "dir.json/deep", "deep\n", 4);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "yes");
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(recursive_looks_into_subdirectories_and_the_filter_at_names)
{
    struct plug_source src;
    char *options = in_dir(t, "\nrecursiveFileLookup=true\npathGlobFilter=*.log");
    char *start = NULL;

    CHECK(mkdir(test_path(t, "one"), 0700) == 0);
    CHECK(mkdir(test_path(t, "one/two"), 0700) == 0);
    CHECK(mkdir(test_path(t, "_skip"), 0700) == 0);
    put(t, "one/a.log", "a\n", 1);
    put(t, "one/two/b.log", "b\n", 2);
    put(t, "one/two/c.txt", "c\n", 3);
    put(t, "_skip/d.log", "d\n", 4);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "a;b");
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_glob_matches_files_and_directories)
{
    struct plug_source src;
    char *options = in_dir(t, "/day-*/part-?.txt");
    char *start = NULL;

    CHECK(mkdir(test_path(t, "day-1"), 0700) == 0);
    CHECK(mkdir(test_path(t, "day-2"), 0700) == 0);
    CHECK(mkdir(test_path(t, "other"), 0700) == 0);
    put(t, "day-1/part-1.txt", "1\n", 1);
    put(t, "day-2/part-2.txt", "2\n", 2);
    put(t, "day-2/part-22.txt", "no\n", 3);
    put(t, "other/part-3.txt", "no\n", 4);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1;2");
    plug_source_stop(&src);
    mr_text_free(start);
    mr_free(options);
    options = in_dir(t, "/day-*");
    start = NULL;
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1;2;no");
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(limits_on_files_and_bytes_hold_for_each_batch)
{
    struct plug_source src;
    char *options = in_dir(t, "\nmaxFilesPerTrigger=2");
    char *start = NULL;

    put(t, "a", "1\n", 1);
    put(t, "b", "2222222222\n", 2);
    put(t, "c", "3\n", 3);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1;2222222222");
    CHECK_EQ_STR(step(&src, &start), "3");
    CHECK_NULL(step(&src, &start));
    plug_source_stop(&src);
    mr_text_free(start);
    mr_free(options);

    /* The first file is always taken; after it, only what still fits. */
    options = in_dir(t, "\nmax_bytes_per_trigger=5");
    start = NULL;
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1");
    CHECK_EQ_STR(step(&src, &start), "2222222222");
    CHECK_EQ_STR(step(&src, &start), "3");
    plug_source_stop(&src);
    mr_text_free(start);
    mr_free(options);
}

TEST(latest_first_takes_the_newest_file_first)
{
    struct plug_source src;
    char *options = in_dir(t, "\nlatest_first=true\nmax_files_per_trigger=1");
    char *start = NULL;

    put(t, "a", "old\n", 1);
    put(t, "b", "new\n", 2);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "new");
    put(t, "c", "newer\n", 3);
    CHECK_EQ_STR(step(&src, &start), "newer");
    CHECK_EQ_STR(step(&src, &start), "old");
    CHECK_NULL(step(&src, &start));
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_plan_that_was_not_used_is_made_again)
{
    struct plug_source src;
    char *options = in_dir(t, "\nmax_files_per_trigger=1");
    char *first;
    char *again;

    put(t, "a", "1\n", 1);
    put(t, "b", "2\n", 2);
    open_text(&src, options);
    first = plug_plan(&src, NULL);
    again = plug_plan(&src, NULL);
    CHECK_EQ_STR(first, again);
    mr_text_free(first);
    mr_text_free(again);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_planned_batch_is_read_again_after_a_restart)
{
    struct plug_source first;
    struct plug_source second;
    char *options = in_dir(t, "");
    char *end;
    char *next;

    put(t, "a", "1\n", 1);
    open_text(&first, options);
    end = plug_plan(&first, NULL);
    /* Killed before the commit: the store knows nothing of the file, but the plan does. */
    open_text(&second, options);
    CHECK_EQ_STR(plug_read(&second, NULL, end), "1");
    CHECK_NULL(plug_plan(&second, end));
    plug_remember(&second, NULL, end);
    put(t, "b", "2\n", 1);
    next = plug_plan(&second, end);
    CHECK_CONTAINS(next, "/b");
    mr_text_free(next);
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&first);
    plug_source_stop(&second);
}

TEST(until_caught_up_reads_the_files_that_were_there_at_first)
{
    struct plug_source src;
    char *options = in_dir(t, "\nmax_files_per_trigger=1");
    char *start = NULL;

    put(t, "a", "1\n", 1);
    put(t, "b", "2\n", 2);
    plug_source_open(&src, &(struct plug_source_spec){.connector = "file",
                                                      .format = "text",
                                                      .options = options,
                                                      .until_caught_up = true});
    CHECK_EQ_STR(step(&src, &start), "1");
    put(t, "c", "3\n", 3);
    CHECK(!src.connector->ops->exhausted(src.object, start));
    CHECK_EQ_STR(step(&src, &start), "2");
    CHECK(src.connector->ops->exhausted(src.object, start));
    CHECK_NULL(step(&src, &start));
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_file_that_changes_after_the_plan_stops_the_batch)
{
    struct plug_source src;
    struct mr_error err = {0};
    char *options = in_dir(t, "");
    char *end;

    put(t, "a", "1\n", 1);
    open_text(&src, options);
    end = plug_plan(&src, NULL);
    put(t, "a", "1\n2\n", 1);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_SOURCE_CHANGED, "its size changed");
    CHECK_CONTAINS(err.text, "rename them into place");
    put(t, "a", "2\n", 9);
    mr_error_clear(&err);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_SOURCE_CHANGED, "written to");
    put(t, "b", "1\n", 1);
    CHECK(rename(test_path(t, "b"), test_path(t, "a")) == 0);
    mr_error_clear(&err);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_SOURCE_CHANGED, "replaced");
    CHECK(unlink(test_path(t, "a")) == 0);
    mr_error_clear(&err);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_SOURCE_CHANGED, "removed");
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(an_unreadable_file_is_a_permission_error)
{
    struct plug_source src;
    struct mr_error err = {0};
    char *options;
    char *end;

    if (geteuid() == 0)
        SKIP(t, "root may read everything");
    options = in_dir(t, "");
    put(t, "a", "1\n", 1);
    CHECK(chmod(test_path(t, "a"), 0) == 0);
    open_text(&src, options);
    end = plug_plan(&src, NULL);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_PERMISSION, "/a");
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(wrong_paths_and_options_are_named_at_the_start)
{
    struct plug_source src;
    struct mr_error err = {0};
    char *options = in_dir(t, "/missing");
    struct plug_source_spec spec = {.connector = "file", .format = "text", .options = options};

    CHECK_FAILS(plug_source_try(&src, &spec, &err), &err, MR_CONFIG,
                "create the directory or correct 'path'");
    plug_source_stop(&src);
    mr_free(options);
    options = in_dir(t, "/missing/*.json");
    spec.options = options;
    mr_error_clear(&err);
    CHECK_FAILS(plug_source_try(&src, &spec, &err), &err, MR_CONFIG, "missing");
    plug_source_stop(&src);
    mr_free(options);
    options = in_dir(t, "\nmaxFilesPerTrigger=1\nmaxBytesPerTrigger=1");
    spec.options = options;
    mr_error_clear(&err);
    CHECK_FAILS(plug_source_try(&src, &spec, &err), &err, MR_CONFIG, "use one");
    plug_source_stop(&src);
    mr_free(options);
}

TEST(a_compressed_file_is_refused_by_name)
{
    struct plug_source src;
    struct mr_error err = {0};
    struct mr_plan_limits limits = {false};
    char *options = in_dir(t, "");
    char *end = NULL;

    put(t, "a.json.gz", "x", 1);
    open_text(&src, options);
    CHECK_FAILS(src.connector->ops->plan(src.object, NULL, &limits, &end, &err), &err, MR_CONFIG,
                "a.json.gz");
    mr_free(options);
    plug_source_stop(&src);
}

TEST(files_older_than_max_file_age_are_left_out_and_forgotten)
{
    struct plug_source src;
    char *options = in_dir(t, "\nmax_file_age=1 minute");
    char *start = NULL;

    put(t, "a", "1\n", 100000);
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1"); /* the first batch takes everything */
    put(t, "b", "2\n", 100200);
    put(t, "c", "3\n", 100010);
    CHECK_EQ_STR(step(&src, &start), "3;2"); /* judged by what was planned before */
    put(t, "d", "4\n", 100020);
    CHECK_NULL(step(&src, &start));
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(files_that_may_still_be_written_to_are_left_for_later)
{
    struct plug_source src;
    char *options = in_dir(t, "\nsettle_time=1 hour");
    char *start = NULL;

    put(t, "old", "1\n", 1000);
    plug_write_file(test_path(t, "fresh"), "2\n");
    open_text(&src, options);
    CHECK_EQ_STR(step(&src, &start), "1");
    CHECK_NULL(step(&src, &start));
    put(t, "fresh", "2\n3\n", 2000);
    CHECK_EQ_STR(step(&src, &start), "2;3");
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

/* The number a row starts with. Not strtol: the address sanitizer measures the whole block for
 * it. */
static int64_t number_of(struct mr_slice text)
{
    int64_t number = 0;

    for (size_t i = 0; i < text.size_bytes && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        number = number * 10 + (text.data[i] - '0');
    return number;
}

/* A file larger than one piece: every line must come exactly once, in order, whatever the cuts
 * hit. */
TEST(pieces_of_a_large_file_have_every_record_once)
{
    enum { LINES = 700000, LINE_BYTES = 120 };
    const char *path = test_path(t, "big");
    struct plug_source src;
    struct mr_reader *reader = NULL;
    struct mr_error err = {0};
    char *options = in_dir(t, "");
    char line[LINE_BYTES + 2];
    FILE *file = fopen(path, "wb");
    uint64_t bytes = 0;
    int64_t expected = 0;
    char *end;

    CHECK_NOT_NULL(file);
    for (int i = 0; i < LINES; i++) {
        /* Different lengths, so that cuts fall anywhere; one line is longer than a block. */
        int size = snprintf(line, sizeof(line), "%d,%.*s\n", i, i % 97,
                            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                            "xxxxxxxxxxxxxxxxxx"
                            "xxxxxxxxxx");

        CHECK(fwrite(line, 1, (size_t)size, file) == (size_t)size);
        if (i == 200000) {
            CHECK(fseek(file, -1, SEEK_CUR) == 0);
            for (int k = 0; k < 3000000; k++)
                putc('y', file);
            putc('\n', file);
        }
    }
    CHECK(fclose(file) == 0);
    open_text(&src, options);
    end = plug_plan(&src, NULL);
    CHECK_OK(src.connector->ops->split(src.object, NULL, end, &src.partitions, &bytes, &err), &err);
    CHECK(src.partitions >= 2);
    for (uint32_t i = 0; i < src.partitions; i++) {
        struct mr_batch *batch = NULL;

        CHECK_OK(src.connector->ops->read(src.object, NULL, end, i, &reader, &err), &err);
        for (;;) {
            CHECK_OK(src.connector->ops->next(reader, &batch, &err), &err);
            if (batch == NULL)
                break;
            for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
                CHECK_EQ_INT(number_of(mr_column_text(mr_batch_column(batch, 0), row)), expected++);
            batch = mr_batch_unref(batch);
        }
        src.connector->ops->close(reader);
    }
    CHECK_EQ_INT(expected, LINES);
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_bad_record_names_its_file_and_line)
{
    struct plug_source src;
    struct mr_error err = {0};
    char *options = in_dir(t, "");
    char *end;

    put(t, "a.json", "{\"a\":1}\n{\"a\":2}\n{\"a\":\n{\"a\":4}\n", 1);
    plug_source_open(&src, &(struct plug_source_spec){.connector = "file",
                                                      .format = "json",
                                                      .columns = "a BIGINT",
                                                      .options = options});
    end = plug_plan(&src, NULL);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_BAD_DATA, "line 3");
    plug_source_stop(&src);
    plug_source_open(&src, &(struct plug_source_spec){.connector = "file",
                                                      .format = "json",
                                                      .columns = "a BIGINT",
                                                      .options = options,
                                                      .on_error = MR_ON_ERROR_SKIP});
    CHECK_EQ_STR(plug_read(&src, NULL, end), "1;2;4");
    CHECK_EQ_INT(src.bad_count, 1);
    CHECK_CONTAINS(src.bad_position, "a.json:3");
    mr_text_free(end);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_record_longer_than_the_limit_is_bad_and_the_next_one_is_read)
{
    enum { LONG_BYTES = 5 << 20 };
    struct plug_source src;
    struct mr_error err = {0};
    char *options = in_dir(t, "\nmax_line_bytes=2 MiB");
    char *text = mr_alloc(NULL, LONG_BYTES + 64);
    char *end;

    memset(text, 'z', LONG_BYTES + 64);
    memcpy(text, "first\n", 6);
    memcpy(text + LONG_BYTES, "\nlast\n", 7);
    put(t, "a", text, 1);
    open_text(&src, options);
    end = plug_plan(&src, NULL);
    CHECK_FAILS(plug_read_try(&src, NULL, end, &err), &err, MR_BAD_DATA, "/a:2");
    CHECK_CONTAINS(err.text, "max_line_bytes");
    plug_source_stop(&src);
    plug_source_open(&src, &(struct plug_source_spec){.connector = "file",
                                                      .format = "text",
                                                      .options = options,
                                                      .on_error = MR_ON_ERROR_SKIP});
    CHECK_EQ_STR(plug_read(&src, NULL, end), "first;last");
    CHECK_EQ_INT(src.bad_count, 1);
    mr_text_free(end);
    mr_free(text);
    mr_free(options);
    plug_source_stop(&src);
}

TEST(many_small_files_share_partitions)
{
    enum { FILES = 1100 };
    struct plug_source src;
    char *options = in_dir(t, "");
    char *start = NULL;
    const char *rows;
    size_t count = 1;

    for (int i = 0; i < FILES; i++) {
        char path[512];

        CHECK(snprintf(path, sizeof(path), "%s/f%05d", t->dir, i) < (int)sizeof(path));
        plug_write_file(path, "x\n");
    }
    open_text(&src, options);
    rows = step(&src, &start);
    for (const char *at = rows; *at != '\0'; at++)
        count += *at == ';';
    CHECK_EQ_INT(count, FILES);
    CHECK_EQ_INT(src.partitions, 1024);
    mr_text_free(start);
    mr_free(options);
    plug_source_stop(&src);
}

/* A plan whose checksum is whole, with an offset that is well formed and wrong. */
TEST(H20_an_offset_that_follows_no_other_or_has_a_file_twice_is_refused)
{
    struct plug_source src;
    struct mr_error err = {0};
    char *options = in_dir(t, "");

    open_text(&src, options);
    CHECK_FAILS(plug_read_try(&src, NULL,
                              "{\"batch\":0,\"files\":[{\"p\":\"x\",\"s\":1,\"m\":1,\"i\":1},"
                              "{\"p\":\"x\",\"s\":1,\"m\":1,\"i\":1}]}",
                              &err),
                &err, MR_CORRUPT, "twice");
    mr_error_clear(&err);
    CHECK_FAILS(
        plug_read_try(&src, "{\"batch\":4,\"files\":[]}", "{\"batch\":3,\"files\":[]}", &err), &err,
        MR_CORRUPT, "does not follow");
    mr_error_clear(&err);
    CHECK_FAILS(plug_read_try(&src, NULL, "{\"batch\":1,\"files\":[]}", &err), &err, MR_CORRUPT,
                "does not follow");
    mr_free(options);
    plug_source_stop(&src);
}

TEST(a_damaged_offset_is_refused)
{
    static const char *const offsets[] = {
        "", "7", "{}", "{\"batch\":1}", "{\"batch\":-1,\"files\":[]}",
        "{\"batch\":1,\"files\":[{\"p\":\"x\"}]}",
        /* a size that no file has: its pieces do not fit memory */
        "{\"batch\":1,\"files\":[{\"p\":\"x\",\"s\":9000000000000000000,\"m\":1,\"i\":1}]}"};
    struct plug_source src;
    char *options = in_dir(t, "");

    open_text(&src, options);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct mr_plan_limits limits = {false};
        char *end = NULL;

        CHECK(src.connector->ops->plan(src.object, offsets[i], &limits, &end, NULL) != MR_OK);
        CHECK(plug_read_try(&src, NULL, offsets[i], NULL) != MR_OK);
    }
    mr_free(options);
    plug_source_stop(&src);
}
