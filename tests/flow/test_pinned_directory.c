/*
 * Programs that change their directory while their queries run: relative paths stay where they were
 * when the session or context was made (J9).
 */
#include "support/streams.h"

#include "base/buf.h"

#include <millrace/dstream.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *make_directory(struct test *t, const char *name)
{
    const char *path = test_path(t, name);

    CHECK_EQ_INT(mkdir(path, 0700), 0);
    return path;
}

static void write_file(struct test *t, const char *name, const char *text)
{
    const char *hidden = test_path(t, "new-file");
    FILE *file = fopen(hidden, "w");

    CHECK_NOT_NULL(file);
    CHECK(fputs(text, file) >= 0);
    CHECK_EQ_INT(fclose(file), 0);
    CHECK_EQ_INT(rename(hidden, test_path(t, name)), 0);
}

static unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    CHECK_NOT_NULL(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static struct mr_streaming_query *start(struct mr_streams *streams, const char *format)
{
    struct mr_stream_reader *reader = mr_read_stream(streams);
    struct mr_stream_writer *writer;
    struct mr_frame *rows;

    mr_read_format(reader, "json");
    mr_read_schema(reader, "v BIGINT");
    rows = mr_read_load(reader, "in");
    writer = mr_write_stream(rows);
    mr_write_format(writer, format);
    mr_write_option(writer, "path", "out");
    mr_write_option(writer, "checkpoint", "cp");
    return st_start(writer);
}

static void run_and_move(struct test *t, const char *format)
{
    const char *home = make_directory(t, "home"), *away = make_directory(t, "away");
    struct st *s;
    struct mr_streaming_query *query;
    char before[4096];

    CHECK_NOT_NULL(getcwd(before, sizeof(before)));
    make_directory(t, "home/in");
    CHECK_EQ_INT(chdir(home), 0);
    s = st_new(t);
    query = start(st_session(s), format);
    write_file(t, "home/in/1.json", "{\"v\":1}\n");
    st_drain(query);
    CHECK_EQ_INT(chdir(away), 0);
    write_file(t, "home/in/2.json", "{\"v\":2}\n");
    st_drain(query);
    st_stop(query);
    CHECK_EQ_UINT(count_entries(test_path(t, "home/out")), 2);
    CHECK_EQ_UINT(count_entries(away), 0);
    query = start(st_session(s), format); /* another one of the same session */
    write_file(t, "home/in/3.json", "{\"v\":3}\n");
    st_drain(query);
    st_stop(query);
    CHECK_EQ_UINT(count_entries(test_path(t, "home/out")), 3);
    CHECK_EQ_UINT(count_entries(away), 0);
    st_free(s);
    CHECK_EQ_INT(chdir(before), 0);
}

TEST(J9_a_program_that_changes_its_directory_keeps_its_checkpoint_and_output)
{
    run_and_move(t, "json");
}

TEST(J9_parquet_files_too_stay_where_they_were)
{
    run_and_move(t, "parquet");
}

TEST(J9_a_context_keeps_the_directory_in_which_it_was_made)
{
    const char *home = make_directory(t, "home"), *away = make_directory(t, "away");
    struct mr_context *ctx;
    struct mr_error err = {0};
    char before[4096];

    CHECK_NOT_NULL(getcwd(before, sizeof(before)));
    make_directory(t, "home/in");
    CHECK_EQ_INT(chdir(home), 0);
    ctx = mr_context_new("moves", MR_MILLISECONDS(10));
    mr_context_checkpoint(ctx, "cp");
    mr_context_set(ctx, "batches_max", "2");
    mr_save_as_text_files(mr_text_file_stream(ctx, "in"), "out/rows", "txt");
    CHECK_EQ_INT(chdir(away), 0);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    CHECK_EQ_UINT(count_entries(away), 0);
    CHECK(count_entries(test_path(t, "home/cp")) > 0);
    CHECK_EQ_UINT(count_entries(test_path(t, "home/out")), 2);
    CHECK_EQ_INT(chdir(before), 0);
}
