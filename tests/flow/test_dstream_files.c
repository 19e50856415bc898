/*
 * File streams: which files a batch reads, how they become rows, and what survives a failure.
 */
#include "support/dstream.h"

#include "base/log.h"
#include "dstream/file_stream.h"
#include "env/sim.h"

#include <millrace/ext/durable.h>

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#ifdef MR_WITH_ZLIB
#include <zlib.h>
#endif

/* ---- which files ---- */

/* Writes a file whose only line is the number; its mtime is the virtual clock's. */
static void write_number(struct ds *d, const char *dir, int number)
{
    char name[32], text[32];

    snprintf(name, sizeof(name), "%d", number);
    snprintf(text, sizeof(text), "%d\n", number);
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), dir, NULL), NULL);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), dir, name, text, strlen(text), false, NULL),
             NULL);
}

static void advance_ms(struct ds *d, int64_t ms)
{
    mr_sim_advance_ns(ds_sim(d), ms * 1000000);
}

static int64_t now_ms(struct ds *d)
{
    return mr_env_wall_us(mr_sim_env(ds_sim(d))) / 1000;
}

/* After the batch at times[i] (from `zero_ms`) the clock goes on by a second and file numbers[i]
 * appears. */
struct arrivals {
    struct ds *d;
    int64_t zero_ms;
    const int64_t *times;
    const int *numbers;
    size_t count;
};

static enum mr_status let_files_arrive(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                       struct mr_error *err)
{
    struct arrivals *arrivals = arg;

    (void)rdd;
    (void)err;
    for (size_t i = 0; i < arrivals->count; i++) {
        if (batch_time_ms - arrivals->zero_ms != arrivals->times[i])
            continue;
        advance_ms(arrivals->d,
                   arrivals->zero_ms + arrivals->times[i] + 1000 - now_ms(arrivals->d));
        write_number(arrivals->d, "/in", arrivals->numbers[i]);
    }
    return MR_OK;
}

static const int64_t five_times[] = {2000, 4000, 6000, 8000, 10000};
static const int five_numbers[] = {1, 2, 3, 4, 5};

static void run_five(struct ds *d, bool all_files, const char *expected)
{
    struct mr_file_stream files = {.dir = "/in", .all_files = all_files};
    struct arrivals arrivals = {d, 0, five_times, five_numbers, 5};
    struct mr_dstream *lines;

    write_number(d, "/in", 0);
    advance_ms(d, 2000);
    lines = mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &files);
    arrivals.zero_ms = now_ms(d) / 2000 * 2000;
    ds_collect(d, lines);
    mr_foreach_rdd(lines, let_files_arrive, &arrivals);
    ds_must_run(d, 7);
    CHECK_EQ_STR(ds_output(d, false), expected);
    ds_free(d);
}

TEST(V172_only_files_newer_than_the_stream_are_read)
{
    run_five(ds_new(t, "value VARCHAR"), false, " | 1 | 2 | 3 | 4 | 5 | ");
}

TEST(V173_all_files_are_also_those_that_were_there)
{
    run_five(ds_new(t, "value VARCHAR"), true, "0 | 1 | 2 | 3 | 4 | 5 | ");
}

/* After its first batch: renamed.txt appears, and the whole directory is moved to where the glob
 * finds it. */
static enum mr_status move_directory(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                     struct mr_error *err)
{
    struct arrivals *arrivals = arg;
    struct mr_env *env = mr_sim_env(ds_sim(arrivals->d));

    (void)rdd;
    (void)batch_time_ms;
    if (arrivals->count++ > 0)
        return MR_OK;
    CHECK_OK(mr_durable_put(env, "/generated/subdir", "renamed.txt", "renamed\n", 8, false, NULL),
             NULL);
    return mr_env_rename(env, "/generated/subdir", "/streaming/subdir", true, err);
}

TEST(V175_a_directory_that_is_moved_under_the_glob_brings_its_new_files)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct arrivals arrivals = {.d = d};
    struct mr_env *env = mr_sim_env(ds_sim(d));
    struct mr_dstream *lines;

    CHECK_OK(mr_durable_mkdirs(env, "/streaming", NULL), NULL);
    CHECK_OK(mr_durable_mkdirs(env, "/generated/subdir", NULL), NULL);
    CHECK_OK(mr_durable_put(env, "/generated/subdir", "existing", "existing\n", 9, false, NULL),
             NULL);
    advance_ms(d, 2000);
    lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/streaming/sub*");
    ds_collect(d, lines);
    mr_foreach_rdd(lines, move_directory, &arrivals);
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, false), " | renamed | ");
    ds_free(d);
}

static void put(struct ds *d, const char *dir, const char *name, const void *data, size_t size)
{
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), dir, NULL), NULL);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), dir, name, data, size, false, NULL), NULL);
}

static void put_text(struct ds *d, const char *dir, const char *name, const char *text)
{
    put(d, dir, name, text, strlen(text));
}

TEST(directories_match_a_glob_and_hidden_names_are_left_out)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/streaming/sub*"));
    advance_ms(d, 10);
    write_number(d, "/streaming/subdir", 1);
    write_number(d, "/streaming/subdir/deeper", 2);
    write_number(d, "/streaming/other", 3);
    put_text(d, "/streaming", "sub-file", "not read: the glob is of directories");
    put_text(d, "/streaming/subdir", "_hidden", "4");
    put_text(d, "/streaming/subdir", ".hidden", "5");
    put_text(d, "/streaming/subdir", "a", "six\nseven");
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "1,six,seven | ");
    ds_free(d);
}

static bool is_wanted(const char *path, void *arg)
{
    int *calls = arg;

    (*calls)++;
    return strcmp(path, "/in/a.log") == 0 || strcmp(path, "/in/.hidden") == 0;
}

TEST(a_filter_gets_the_whole_path_and_replaces_the_default)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    int calls = 0;
    struct mr_file_stream files = {.dir = "/in", .filter = is_wanted, .filter_arg = &calls};

    ds_collect(d, mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &files));
    advance_ms(d, 10);
    put_text(d, "/in", "a.log", "a\n");
    put_text(d, "/in", "b.txt", "b\n");
    put_text(d, "/in", ".hidden", "hidden\n");
    put_text(d, "/in", "_never", "never\n");
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "hidden,a");
    CHECK_EQ_INT(calls, 3);
    ds_free(d);
}

TEST(V178_a_file_must_be_newer_than_what_is_remembered)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_file_stream files = {.dir = "/in", .all_files = true};
    int64_t time_ms = (now_ms(d) / 2000 + 1) * 2000 + 100000;

    advance_ms(d, time_ms - 60000 - now_ms(d));
    put_text(d, "/in", "at-threshold", "old\n");
    advance_ms(d, 1);
    put_text(d, "/in", "behind-it", "new\n");
    advance_ms(d, time_ms - 1 - now_ms(d));
    ds_collect(d, mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &files));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "new");
    ds_free(d);
}

TEST(V179_what_is_remembered_is_a_whole_number_of_batches)
{
    static const int64_t intervals[] = {500, 1000, 2000, 7000, 60000, 90000};
    static const int64_t expected[] = {120, 60, 30, 9, 1, 1};

    for (size_t i = 0; i < 6; i++)
        CHECK_EQ_INT(mr__file_batches(60000, intervals[i]), expected[i]);
}

/* The same path is written again before every batch. */
static enum mr_status write_again(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    write_number(arg, "/in", 1);
    return MR_OK;
}

TEST(a_path_that_is_written_again_before_every_batch_is_read_when_it_was_forgotten)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(1), "/cp"), "/in");
    char expected[64] = "";

    mr_context_set(ds_context(d), "file_remember", "5s");
    advance_ms(d, 10);
    write_number(d, "/in", 1);
    ds_collect(d, lines);
    mr_foreach_rdd(lines, write_again, d);
    ds_must_run(d, 15);
    /* Every remember + 2 batches (FILE-7 a). */
    for (int i = 0; i < 15; i++)
        snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%s%s",
                 i > 0 ? " | " : "", i % 7 == 0 ? "1" : "");
    CHECK_EQ_STR(ds_output(d, false), expected);
    ds_free(d);
}

/* ---- a file that is not what its batch was planned with (B23, H20) ---- */

/* Makes the path that many bytes of lines, also when it is there. */
static void set_size(struct ds *d, const char *path, size_t size_bytes)
{
    struct mr_env *env = mr_sim_env(ds_sim(d));
    struct mr_file *file = NULL;
    char *text = malloc(size_bytes);

    CHECK_NOT_NULL(text);
    memset(text, 'x', size_bytes);
    for (size_t at = 9; at < size_bytes; at += 10)
        text[at] = '\n';
    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, NULL),
             NULL);
    CHECK_OK(mr_env_pwrite(env, file, text, size_bytes, 0, NULL), NULL);
    mr_env_close(env, file);
    free(text);
}

static struct mr_dstream *all_of_in(struct ds *d)
{
    const struct mr_file_stream files = {.dir = "/in", .all_files = true};

    return mr_file_stream(ds_begin(d, MR_SECONDS(1), "/cp"), &files);
}

TEST(B23_a_file_that_became_shorter_since_its_batch_was_planned_is_data_loss)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), "/in", NULL), NULL);
    advance_ms(d, 10);
    set_size(d, "/in/1", 100);
    for (int run = 0; run < 2; run++) {
        ds_collect(d, all_of_in(d));
        mr_error_clear(&err);
        if (run == 0)
            ds_fail_at(d, "planned", 0);
        CHECK_STATUS(ds_run(d, 1, &err), run == 0 ? MR_INTERNAL : MR_DATA_LOSS);
        set_size(d, "/in/1", 50);
    }
    CHECK_CONTAINS(err.text, "it has 50 bytes, and had 100");
    ds_free(d);
}

TEST(B23_a_file_that_is_read_as_a_whole_and_grew_since_its_batch_was_planned_is_told)
{
    const struct mr_file_stream files = {
        .dir = "/in", .format = "parquet", .columns = "value BIGINT", .all_files = true};
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), "/in", NULL), NULL);
    advance_ms(d, 10);
    set_size(d, "/in/1", 100);
    for (int run = 0; run < 2; run++) {
        ds_collect(d, mr_file_stream(ds_begin(d, MR_SECONDS(1), "/cp"), &files));
        mr_error_clear(&err);
        if (run == 0)
            ds_fail_at(d, "planned", 0);
        CHECK_STATUS(ds_run(d, 1, &err), run == 0 ? MR_INTERNAL : MR_SOURCE_CHANGED);
        set_size(d, "/in/1", 150);
    }
    CHECK_CONTAINS(err.text, "it has 150 bytes, and had 100");
    ds_free(d);
}

static struct ds *cutting; /* whose file is cut by its first row */

static bool cut_at_first_row(const struct mr_row *row, void *arg)
{
    (void)row, (void)arg;
    if (cutting != NULL)
        set_size(cutting, "/in/1", 100);
    cutting = NULL;
    return true;
}

TEST(B23_a_file_that_becomes_shorter_while_it_is_read_is_data_loss)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), "/in", NULL), NULL);
    advance_ms(d, 10);
    set_size(d, "/in/1", 3 << 20);
    cutting = d;
    ds_collect(d, mr_filter(all_of_in(d), MR_FN(cut_at_first_row)));
    CHECK_STATUS(ds_run(d, 1, &err), MR_DATA_LOSS);
    CHECK_CONTAINS(err.text, "became shorter while it was read");
    ds_free(d);
}

TEST(H20_an_offset_of_a_file_stream_that_is_none_is_refused)
{
    static const char *const texts[] = {
        "{}",
        "{\"start\":1,\"files\":[]}",
        "{\"time\":1,\"files\":[]}",
        "{\"start\":1,\"time\":2}",
        "{\"start\":1,\"time\":2,\"files\":[{\"s\":1}]}",
        "{\"start\":1,\"time\":2,\"files\":[{\"p\":\"x\",\"s\":-1}]}",
        "{\"start\":1,\"time\":2,\"files\":[{\"p\":\"x\",\"s\":\"y\"}]}"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct mr__files files = {0};
        int64_t time_ms = 0;
        struct mr_error err = {0};

        CHECK_FAILS(mr__files_parse(texts[i], &files, &time_ms, &err), &err, MR_CORRUPT,
                    "cannot read the offset");
        mr__files_release(&files);
    }
}

/* ---- what is in them ---- */

/* The files that come after batch i: bytes 1 .. 5, i added to each. */
static enum mr_status put_bytes(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct arrivals *arrivals = arg;
    char name[16], data[5];
    size_t i = arrivals->count++;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    if (i >= 3)
        return MR_OK;
    snprintf(name, sizeof(name), "file-%zu", i);
    for (size_t k = 0; k < 5; k++)
        data[k] = (char)('1' + k + i);
    advance_ms(arrivals->d, 500);
    put(arrivals->d, "/in", name, data, 5);
    return MR_OK;
}

TEST(V176_records_of_a_fixed_length_are_rows)
{
    struct ds *d = ds_new(t, "value BLOB");
    struct arrivals arrivals = {.d = d};
    struct mr_dstream *records;

    put_text(d, "/in", "existing", "123");
    advance_ms(d, 2000);
    records = mr_binary_records_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in", 1);
    ds_collect(d, mr_map(records, (struct mr_fn){.kind = MR_FN_KIND_SQL,
                                                 .name = "CAST(value AS VARCHAR)",
                                                 .type = "value VARCHAR",
                                                 .file = __FILE__,
                                                 .line = __LINE__}));
    mr_foreach_rdd(records, put_bytes, &arrivals);
    ds_must_run(d, 5);
    CHECK_EQ_STR(ds_output(d, false), " | 1,2,3,4,5 | 2,3,4,5,6 | 3,4,5,6,7 | ");
    ds_free(d);
}

TEST(a_part_of_a_record_at_the_end_is_an_error_of_the_batch)
{
    struct ds *d = ds_new(t, "value BLOB");
    struct mr_error err;

    ds_collect(d, mr_binary_records_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in", 4));
    advance_ms(d, 10);
    put_text(d, "/in", "cut", "0123456789");
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_BAD_DATA, "'/in/cut': its 10 bytes");
    CHECK(strstr(err.text, "the last one has 2") != NULL);
    mr_binary_records_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in", 0);
    CHECK_FAILS(mr_context_error(ds_context(d), &err), &err, MR_CONFIG, "cannot have 0 bytes");
    ds_free(d);
}

TEST(files_of_other_formats_have_the_columns_that_were_given)
{
    struct ds *d = ds_new(t, "id BIGINT, city VARCHAR");
    struct mr_file_stream json = {
        .dir = "/json", .format = "json", .columns = "id BIGINT, city VARCHAR"};
    struct mr_file_stream csv = {
        .dir = "/csv", .format = "csv", .columns = "id BIGINT, city VARCHAR"};
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(2), NULL);
    struct mr_error err;

    ds_collect(d, mr_union(mr_file_stream(ctx, &json), mr_file_stream(ctx, &csv)));
    advance_ms(d, 10);
    put_text(d, "/json", "a", "{\"id\":1,\"city\":\"x\"}\n{\"id\":2}");
    put_text(d, "/csv", "a", "3,\"y\nz\"\n4,w\n");
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "1:x,2:null,3:y\nz,4:w");
    json.columns = NULL;
    CHECK_NULL(mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &json));
    CHECK_FAILS(mr_context_error(ds_context(d), &err), &err, MR_CONFIG, "columns declared");
    ds_free(d);
}

TEST(a_file_stream_without_directory_or_with_an_unknown_format_is_an_error)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_file_stream odd = {.dir = "/in", .format = "xml"};
    struct mr_error err;

    CHECK_NULL(mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), NULL));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "no directory");
    CHECK_NULL(mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &odd));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "no format 'xml'");
    ds_free(d);
}

/* ---- compressed files ---- */

static size_t zstd_of(const char *text, char *data, size_t size)
{
    size_t packed = ZSTD_compress(data, size, text, strlen(text), 3);

    CHECK(!ZSTD_isError(packed));
    return packed;
}

static void read_packed(struct ds *d, const char *name, const char *data, size_t size,
                        const char *expected)
{
    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in"));
    advance_ms(d, 10);
    put(d, "/in", name, data, size);
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), expected);
    ds_forget_output(d);
}

TEST(zstd_files_are_unpacked_also_two_after_each_other)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    char data[512];
    size_t size = zstd_of("one\ntwo\nth", data, sizeof(data));

    size += zstd_of("ree\nfour", data + size, sizeof(data) - size);
    read_packed(d, "a.txt.zst", data, size, "one,two,three,four");
    ds_free(d);
}

#ifdef MR_WITH_ZLIB
static size_t gzip_of(const char *text, char *data, size_t size)
{
    z_stream zlib = {0};

    CHECK_EQ_INT(deflateInit2(&zlib, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    zlib.next_in = (Bytef *)(uintptr_t)text;
    zlib.avail_in = (uInt)strlen(text);
    zlib.next_out = (Bytef *)data;
    zlib.avail_out = (uInt)size;
    CHECK_EQ_INT(deflate(&zlib, Z_FINISH), Z_STREAM_END);
    deflateEnd(&zlib);
    return size - zlib.avail_out;
}

TEST(gzip_files_are_unpacked_also_two_after_each_other)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    char data[512];
    size_t size = gzip_of("one\ntwo\nth", data, sizeof(data));

    size += gzip_of("ree\nfour", data + size, sizeof(data) - size);
    read_packed(d, "a.gz", data, size, "one,two,three,four");
    ds_free(d);
}

/* Lines of width bytes, newline included: "0000000......\n". */
static char *numbered_lines(size_t count, size_t width)
{
    char *text = malloc(count * width + 1);

    CHECK_NOT_NULL(text);
    memset(text, '.', count * width);
    for (size_t i = 0; i < count; i++) {
        char number[24];

        snprintf(number, sizeof(number), "%07zu", i);
        memcpy(text + i * width, number, 7);
        text[(i + 1) * width - 1] = '\n';
    }
    return text;
}

/* Pieces of 16 MiB: lines of 1024 bytes begin exactly where one ends, those of 1000 cross it. */
TEST(a_large_file_is_read_in_pieces_each_line_once)
{
    enum { LINES = 34000 };
    const size_t widths[] = {1024, 1000};

    for (size_t i = 0; i < 2; i++) {
        struct ds *d = ds_new(t, "value BIGINT");
        char *text = numbered_lines(LINES, widths[i]);
        struct mr_dstream *lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in");
        struct mr_dstream *numbers = mr_map(lines, MR_SQL("CAST(value[1:7] AS BIGINT)"));

        ds_collect(d, mr_transform(numbers, MR_SQL("SELECT count(*) AS n, sum(value)::BIGINT AS s, "
                                                   "count(DISTINCT value) AS k FROM input")));
        advance_ms(d, 10);
        put(d, "/in", "a", text, LINES * widths[i]);
        ds_must_run(d, 1);
        CHECK_EQ_STR(ds_output(d, false), "34000:577983000:34000");
        free(text);
        ds_free(d);
    }
}

TEST(a_bad_record_in_a_later_piece_has_the_line_of_its_file)
{
    enum { LINES = 17000, WIDTH = 1024, BAD = 16900 };
    struct mr_file_stream files = {.dir = "/in", .format = "json", .columns = "a VARCHAR"};
    struct ds *d = ds_new(t, "value BIGINT");
    char *text = malloc((size_t)LINES * WIDTH + 1);
    struct mr_error err;

    CHECK_NOT_NULL(text);
    for (int i = 0; i < LINES; i++)
        snprintf(text + (size_t)i * WIDTH, WIDTH + 1, "%-*s\n", WIDTH - 1,
                 i == BAD ? "{\"a\": oops}" : "{\"a\": \"b\"}");
    ds_collect(d, mr_count(mr_file_stream(ds_begin(d, MR_SECONDS(2), NULL), &files)));
    advance_ms(d, 10);
    put(d, "/in", "a.json", text, (size_t)LINES * WIDTH);
    mr_error_clear(&err);
    CHECK(ds_run(d, 1, &err) != MR_OK);
    CHECK_CONTAINS(err.text, "a.json' line 16901");
    free(text);
    ds_free(d);
}

TEST(a_gzip_file_of_many_blocks_is_read_whole)
{
    enum { LINES = 200000 };
    struct ds *d = ds_new(t, "value BIGINT");
    char *text = malloc(LINES * 8 + 1), *data = malloc(LINES * 8);
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in");

    for (int i = 0; i < LINES; i++)
        snprintf(text + (size_t)i * 8, 9, "%07d\n", i);
    ds_collect(d, mr_count(lines));
    advance_ms(d, 10);
    put(d, "/in", "a.gz", data, gzip_of(text, data, LINES * 8));
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "200000");
    free(text);
    free(data);
    ds_free(d);
}
#endif

TEST(a_compressed_file_that_was_cut_or_damaged_is_refused)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;
    char data[512];
    size_t size = zstd_of("one\ntwo\nthree\n", data, sizeof(data));

    for (int damaged = 0; damaged < 2; damaged++) {
        ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in"));
        advance_ms(d, 10);
        if (damaged)
            memset(data, 'x', 8);
        put(d, "/in", "a.zst", data, damaged ? size : size - 3);
        CHECK_FAILS(ds_run(d, 1, &err), &err, MR_BAD_DATA, "cannot unpack '/in/a.zst'");
    }
    ds_free(d);
}

TEST(compressions_that_are_not_supported_are_refused)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;

    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in"));
    advance_ms(d, 10);
    put_text(d, "/in", "a.bz2", "x");
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "'.bz2' are not supported");
    ds_free(d);
}

/* ---- failures ---- */

TEST(a_missing_directory_is_an_empty_batch)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/nowhere"));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), " | ");
    ds_free(d);
}

/* The sum of the numbers of the last minute; files arrive as the table says. */
static void build_sums(struct ds *d, struct arrivals *arrivals)
{
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), "/cp"), "/in");
    struct mr_dstream *pairs = mr_map_to_pair(lines, MR_SQL("'sum', CAST(value AS BIGINT)"));

    ds_collect(d, mr_reduce_by_key_and_window(pairs, MR_SUM, MR_NO_FN, MR_SECONDS(60),
                                              MR_SECONDS(2), MR_NO_FN));
    mr_foreach_rdd(lines, let_files_arrive, arrivals);
}

TEST(V170_files_that_came_while_the_program_was_down_belong_to_the_batches_of_their_time)
{
    static const int64_t times[] = {2000, 4000, 16000, 18000};
    static const int numbers[] = {2, 3, 8, 9};
    struct ds *d = ds_new(t, "value VARCHAR");
    struct arrivals arrivals = {d, now_ms(d), times, numbers, 4};
    struct mr_error err;

    CHECK_EQ_INT(arrivals.zero_ms % 2000, 0);
    build_sums(d, &arrivals);
    advance_ms(d, 1000);
    write_number(d, "/in", 1);
    ds_fail_at(d, "ran", 2);
    CHECK_FAILS(ds_run(d, 3, &err), &err, MR_INTERNAL, "killed at");
    CHECK_EQ_STR(ds_output(d, false), "sum:1 | sum:3");
    for (int number = 4; number <= 7; number++) {
        advance_ms(d, arrivals.zero_ms + 1000 + 2000 * number - now_ms(d));
        write_number(d, "/in", number);
    }
    build_sums(d, &arrivals); /* at 15000 */
    ds_must_run(d, 8);
    CHECK_EQ_STR(
        ds_output(d, false),
        "sum:1 | sum:3 | sum:6 | sum:6 | sum:10 | sum:15 | sum:21 | sum:28 | sum:36 | sum:45");
    ds_free(d);
}

TEST(a_planned_file_that_was_removed_is_data_loss)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;

    for (int run = 0; run < 2; run++) {
        ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), "/cp"), "/in"));
        if (run == 0) {
            advance_ms(d, 10);
            write_number(d, "/in", 1);
            ds_fail_at(d, "ran", 0);
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_INTERNAL, "killed at");
            CHECK_OK(mr_env_unlink(mr_sim_env(ds_sim(d)), "/in/1", NULL), NULL);
        } else {
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_DATA_LOSS, "/in/1");
        }
    }
    ds_free(d);
}

/* File n has n times "a"; one appears after each batch, and two while the program is down. */
struct drip {
    struct ds *d;
    int next;
    uint64_t last_batch;
};

static void drip_one(struct drip *drip)
{
    char name[32], text[128] = "";

    if (drip->next > 30)
        return;
    snprintf(name, sizeof(name), "%d", drip->next);
    for (int i = 0; i < drip->next; i++)
        strcat(text, "a\n");
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(drip->d)), "/in", NULL), NULL);
    CHECK_OK(
        mr_durable_put(mr_sim_env(ds_sim(drip->d)), "/in", name, text, strlen(text), false, NULL),
        NULL);
    drip->next++;
}

static enum mr_status drip_after_batch(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                       struct mr_error *err)
{
    struct drip *drip = arg;

    (void)batch_time_ms;
    (void)err;
    drip->last_batch = mr_rdd_batch_id(rdd);
    drip_one(drip);
    return MR_OK;
}

static void build_drip(struct drip *drip)
{
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(drip->d, MR_SECONDS(1), "/cp"), "/in");

    ds_collect(drip->d, mr_update_state_by_key(mr_map_to_pair(lines, MR_COUNT), "sums", MR_SUM));
    mr_foreach_rdd(lines, drip_after_batch, drip);
}

TEST(V171_sums_survive_repeated_failures)
{
    static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};
    struct drip drip = {ds_new(t, "value VARCHAR"), 1, 0};
    struct mr_error err;
    const char *output;
    int64_t sum = 0;

    for (unsigned failure = 0; drip.next <= 30; failure++) {
        build_drip(&drip);
        ds_fail_at(drip.d, points[failure % 5], drip.last_batch + 3);
        CHECK_FAILS(ds_run(drip.d, 100, &err), &err, MR_INTERNAL, "killed at");
        for (int i = 0; i < 2; i++) {
            advance_ms(drip.d, 1300);
            drip_one(&drip);
        }
    }
    build_drip(&drip);
    ds_must_run(drip.d, 8);
    /* Every output is a sum 1 + 2 + ... + n, growing; the last one is that of all files. */
    output = ds_output(drip.d, false);
    for (const char *at = output; (at = strstr(at, "a:")) != NULL; at++) {
        int64_t value = strtoll(at + 2, NULL, 10), n = 0;

        while (n * (n + 1) / 2 < value)
            n++;
        CHECK_EQ_INT(n * (n + 1) / 2, value);
        CHECK(value >= sum);
        sum = value;
    }
    CHECK_EQ_INT(sum, 465);
    ds_free(drip.d);
}

/* ---- faults of memory and disk ---- */

static void ignore_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)size_bytes;
}

/* One batch: files of /in, compressed and not, into text and object files; any call may fail. */
static enum mr_status copy_once(struct mr_sim *sim, struct mr_error *err)
{
    struct mr_file_stream files = {.dir = "/in", .all_files = true};
    struct mr_context *ctx = mr_context_new("faults", 1000);
    struct mr_dstream *lines;
    enum mr_status status;

    if (ctx == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr__context_use(ctx, mr_sim_env(sim));
    mr_context_checkpoint(ctx, "/cp");
    mr__context_config(ctx)->workers = 1;
    mr__context_config(ctx)->batches_max = 1;
    mr_context_set(ctx, "retries", "0");
    lines = mr_file_stream(ctx, &files);
    mr_save_as_text_files(lines, "/out/text", NULL);
    mr_save_as_object_files(lines, "/out/object", NULL);
    status = mr__context_run_here(ctx, err);
    mr_context_free(ctx);
    return status;
}

struct found {
    struct mr_env *env;
    const char *dir;
    char text[512];
};

static bool add_text_part(const char *name, enum mr_file_kind kind, void *arg)
{
    struct found *found = arg;
    char path[300], *data = NULL;
    size_t size = 0, used = strlen(found->text);

    (void)kind;
    if (strncmp(name, "part-", 5) != 0)
        return true;
    snprintf(path, sizeof(path), "%.100s/%.100s", found->dir, name);
    CHECK_OK(mr_durable_get(found->env, path, 400, &data, &size, NULL), NULL);
    snprintf(found->text + used, sizeof(found->text) - used, "%s", data);
    mr_text_free(data);
    return true;
}

static bool add_text_dir(const char *name, enum mr_file_kind kind, void *arg)
{
    struct found *found = arg, below = {.env = found->env};
    char dir[200];

    if (kind != MR_KIND_DIRECTORY || strncmp(name, "text-", 5) != 0)
        return true;
    snprintf(dir, sizeof(dir), "/out/%.100s", name);
    below.dir = dir;
    CHECK_OK(mr_env_list(found->env, dir, add_text_part, &below, NULL), NULL);
    strcat(found->text, below.text);
    return true;
}

static struct mr_sim *disk_with_files(void)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    char data[128];
    size_t size = zstd_of("one\ntwo\n", data, sizeof(data));

    CHECK_OK(mr_durable_mkdirs(env, "/in", NULL), NULL);
    CHECK_OK(mr_durable_mkdirs(env, "/out", NULL), NULL);
    CHECK_OK(mr_durable_put(env, "/in", "a.zst", data, size, false, NULL), NULL);
    CHECK_OK(mr_durable_put(env, "/in", "b", "three\n", 6, false, NULL), NULL);
    return sim;
}

/* After a fault, runs that have none copy every line once. */
static void check_copied(struct mr_sim *sim)
{
    struct found found = {.env = mr_sim_env(sim)};
    struct mr_error err;

    for (int run = 0; run < 2; run++)
        CHECK_OK(copy_once(sim, &err), &err);
    CHECK_OK(mr_env_list(found.env, "/out", add_text_dir, &found, NULL), NULL);
    CHECK(strcmp(found.text, "one\ntwo\nthree\n") == 0 ||
          strcmp(found.text, "three\none\ntwo\n") == 0);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
}

TEST(files_are_copied_once_whatever_allocation_fails)
{
    int failures = 0;

    mr_log_set_sink(ignore_line, NULL);
    for (uint64_t nth = 1;; nth += nth < 40 ? 1 : 9) {
        struct mr_sim *sim = disk_with_files();
        uint64_t before = mr_alloc_count();
        struct mr_error err;
        enum mr_status status;

        mr_alloc_fail_at(nth, false);
        status = copy_once(sim, &err);
        mr_alloc_fail_at(0, false);
        failures += status != MR_OK;
        CHECK(status == MR_OK || status == MR_NOMEM);
        if (mr_alloc_count() - before < nth) {
            mr_sim_free(sim);
            break;
        }
        check_copied(sim);
        mr_sim_free(sim);
    }
    mr_log_set_sink(NULL, NULL);
    CHECK(failures > 20);
}

TEST(files_are_copied_once_whatever_call_of_the_disk_fails)
{
    int failures = 0;

    mr_log_set_sink(ignore_line, NULL);
    for (uint64_t nth = 1;; nth++) {
        struct mr_sim *sim = disk_with_files();
        uint64_t before = mr_sim_call_count(sim);
        struct mr_error err;
        enum mr_status status;

        mr_sim_fail_at(sim, nth, EIO, false);
        status = copy_once(sim, &err);
        mr_sim_fail_at(sim, 0, 0, false);
        failures += status != MR_OK;
        if (mr_sim_call_count(sim) - before < nth) {
            mr_sim_free(sim);
            break;
        }
        check_copied(sim);
        mr_sim_free(sim);
    }
    mr_log_set_sink(NULL, NULL);
    CHECK(failures > 20);
}
