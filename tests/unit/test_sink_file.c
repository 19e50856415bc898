/*
 * The file sink: names, visibility, and every place where a kill may hit it.
 */
#include "support/evidence.h"
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <sys/stat.h>
#include <unistd.h>

static const char *const one_row[] = {"1|a"};

static struct plug_sink_spec spec_of(struct test *t, char **ret_options)
{
    *ret_options = mr_asprintf("path=%s", test_path(t, "out"));
    return (struct plug_sink_spec){.connector = "file",
                                   .columns = "a BIGINT, b VARCHAR",
                                   .format = "json",
                                   .options = *ret_options};
}

static void check_ls(struct test *t, const char *wanted)
{
    char *names = plug_ls(test_path(t, "out"));

    CHECK_EQ_STR(names, wanted);
    mr_text_free(names);
}

static void check_file(struct test *t, const char *name, const char *wanted)
{
    char *text = plug_read_file(test_path(t, name));

    CHECK_NOT_NULL(text);
    CHECK_EQ_STR(text, wanted);
    mr_text_free(text);
}

TEST(a_batch_is_files_named_by_batch_and_partition)
{
    const char *rows[] = {"1|a;2|b", "", "3|c"};
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), -1);
    plug_batch_out(&sink, 7, rows, 3);
    check_ls(t, "part-0000000007-00000.json part-0000000007-00002.json");
    check_file(t, "out/part-0000000007-00000.json",
               "{\"a\":1,\"b\":\"a\"}\n{\"a\":2,\"b\":\"b\"}\n");
    check_file(t, "out/part-0000000007-00002.json", "{\"a\":3,\"b\":\"c\"}\n");
    plug_sink_close(&sink);
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 7);
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_staged_batch_is_invisible_and_an_aborted_one_leaves_nothing)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    CHECK_OK(plug_stage(&sink, 0, one_row, 1, &err), &err);
    check_ls(t, "");
    sink.connector->ops->abort(sink.object);
    check_ls(t, "");
    plug_batch_out(&sink, 0, one_row, 1);
    check_ls(t, "part-0000000000-00000.json");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(an_empty_batch_leaves_no_file)
{
    const char *rows[] = {NULL, ""};
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 0, rows, 2);
    plug_batch_out(&sink, 1, NULL, 0);
    check_ls(t, "");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_batch_that_runs_again_gives_the_same_names_and_bytes)
{
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 0, one_row, 1);
    plug_sink_close(&sink);
    /* Killed between publish and commit: the kernel may ask for the same batch again. */
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 0);
    plug_sink_close(&sink);
    check_ls(t, "part-0000000000-00000.json");
    check_file(t, "out/part-0000000000-00000.json", "{\"a\":1,\"b\":\"a\"}\n");
    mr_free(options);
}

/* The manifest as publish leaves it just before the renames of batch 3, whose first part is there
 * already. */
static void half_published(struct test *t)
{
    CHECK(mkdir(test_path(t, "out"), 0700) == 0);
    CHECK(mkdir(test_path(t, "out/.millrace"), 0700) == 0);
    plug_write_file(test_path(t, "out/.millrace/manifest.json"),
                    "{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",\"published\":2,"
                    "\"publishing\":3,\"files\":["
                    "{\"n\":\"part-0000000003-00000.json\",\"s\":16},{\"n\":\"part-0000000003-"
                    "00001.json\",\"s\":16}],"
                    "\"stale\":[]}\n");
    plug_write_file(test_path(t, "out/part-0000000003-00000.json"), "{\"a\":1,\"b\":\"a\"}\n");
    plug_write_file(test_path(t, "out/.tmp-dead"), "half");
}

TEST(a_publish_that_was_killed_is_completed_by_the_next_attempt)
{
    const char *rows[] = {"1|a", "2|b"};
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 2);
    CHECK(access(test_path(t, "out/.tmp-dead"), F_OK) != 0);
    plug_batch_out(&sink, 3, rows, 2);
    CHECK_EQ_INT(plug_last_published(&sink), 3);
    check_ls(t, "part-0000000003-00000.json part-0000000003-00001.json");
    check_file(t, "out/part-0000000003-00001.json", "{\"a\":2,\"b\":\"b\"}\n");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(parts_of_a_dead_attempt_that_the_next_one_does_not_make_are_removed)
{
    const char *rows[] = {NULL, "2|b"};
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 3, rows, 2);
    check_ls(t, "part-0000000003-00001.json");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(even_an_empty_second_attempt_removes_what_the_first_left)
{
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 3, NULL, 0);
    check_ls(t, "");
    plug_sink_close(&sink);
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 3);
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_batch_whose_files_are_all_there_counts_as_published)
{
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    plug_write_file(test_path(t, "out/part-0000000003-00001.json"), "{\"a\":2,\"b\":\"b\"}\n");
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 3);
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(A9_B22_a_batch_is_not_published_while_a_file_of_it_is_short_or_a_stale_one_is_there)
{
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    plug_write_file(test_path(t, "out/part-0000000003-00001.json"), "{\"a\":2,");
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 2);
    plug_sink_close(&sink);
    plug_write_file(test_path(t, "out/part-0000000003-00001.json"), "{\"a\":2,\"b\":\"b\"}\n");
    plug_write_file(test_path(t, "out/part-0000000003-00002.json"), "stale");
    plug_write_file(test_path(t, "out/.millrace/manifest.json"),
                    "{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",\"published\":2,"
                    "\"publishing\":3,\"files\":[{\"n\":\"part-0000000003-00001.json\",\"s\":16}],"
                    "\"stale\":[{\"n\":\"part-0000000003-00002.json\",\"s\":0}]}\n");
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 2);
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_manifest_that_names_what_is_not_ours_is_refused_and_nothing_is_removed)
{
    static const char *const rests[] = {
        "\"published\":2,\"publishing\":3,\"files\":[],\"stale\":[{\"n\":\"mine.txt\",\"s\":0}]",
        "\"published\":2,\"publishing\":3,\"files\":[],\"stale\":[{\"n\":\"..\",\"s\":0}]",
        "\"published\":2,\"publishing\":3,\"files\":[{\"n\":\"part-/../x\",\"s\":0}],\"stale\":[]",
        "\"published\":2,\"publishing\":3,\"files\":[{\"n\":\"\",\"s\":0}],\"stale\":[]",
        "\"published\":-2,\"publishing\":-1,\"files\":[],\"stale\":[]",
        "\"published\":2,\"publishing\":-9,\"files\":[],\"stale\":[]",
    };
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_sink_close(&sink);
    plug_write_file(test_path(t, "out/mine.txt"), "mine");
    for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
        char *text =
            mr_asprintf("{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",%s}\n", rests[i]);

        plug_write_file(test_path(t, "out/.millrace/manifest.json"), text);
        CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CORRUPT, "manifest.json");
        plug_sink_close(&sink);
        mr_free(text);
    }
    check_file(t, "out/mine.txt", "mine");
    mr_free(options);
}

TEST(a_directory_of_another_query_is_refused)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 0, one_row, 1);
    plug_sink_close(&sink);
    spec.query_id = "q2";
    CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CONFIG, "belongs to another query");
    plug_sink_close(&sink);
    spec.query_id = "q1";
    spec.name = "second";
    mr_error_clear(&err);
    CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CONFIG, "it is the output of 'out'");
    plug_sink_close(&sink);
    check_ls(t, "part-0000000000-00000.json");
    mr_free(options);
}

TEST(a_directory_without_output_may_be_taken_over)
{
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_sink_close(&sink);
    spec.query_id = "q2";
    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 0, one_row, 1);
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_query_without_a_checkpoint_wants_an_empty_directory)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    CHECK(mkdir(test_path(t, "out"), 0700) == 0);
    plug_write_file(test_path(t, "out/readme"), "x");
    spec.ephemeral = true;
    CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CONFIG, "not empty");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_foreign_file_of_our_name_is_not_overwritten)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    plug_sink_open(&sink, &spec);
    plug_write_file(test_path(t, "out/part-0000000000-00000.json"), "mine\n");
    CHECK_FAILS(plug_stage(&sink, 0, one_row, 1, &err), &err, MR_CANNOT_CREATE,
                "part-0000000000-00000.json");
    sink.connector->ops->abort(sink.object);
    check_file(t, "out/part-0000000000-00000.json", "mine\n");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(part_files_without_a_manifest_are_refused)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    CHECK(mkdir(test_path(t, "out"), 0700) == 0);
    plug_write_file(test_path(t, "out/part-0000000000-00000.json"), "mine\n");
    CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CONFIG, "no manifest");
    plug_sink_close(&sink);
    mr_free(options);
}

TEST(a_damaged_manifest_is_refused)
{
    static const char *const texts[] = {
        "",
        "x",
        "{}",
        "{\"version\":1}",
        "{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",\"published\":2}",
        "{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",\"published\":2,\"publishing\":3,"
        "\"files\":5,\"stale\":[]}",
        "{\"version\":1,\"query\":\"q1\",\"sink\":\"out\",\"published\":2,\"publishing\":3,"
        "\"files\":[{\"n\":\"../x\","
        "\"s\":1}],\"stale\":[]}"};
    struct plug_sink sink;
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    half_published(t);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        plug_write_file(test_path(t, "out/.millrace/manifest.json"), texts[i]);
        CHECK_STATUS(plug_sink_try(&sink, &spec, NULL), MR_CORRUPT);
        plug_sink_close(&sink);
    }
    plug_write_file(test_path(t, "out/.millrace/manifest.json"), "{\"version\":9}");
    CHECK_STATUS(plug_sink_try(&sink, &spec, NULL), MR_VERSION);
    plug_sink_close(&sink);
    mr_free(options);
}

/* Is the directory refused, with the manifest's name, when its manifest has these bytes? */
static void check_refused(struct test *t, const struct plug_sink_spec *spec, const char *text,
                          size_t size)
{
    struct mr_error err = {0};
    struct plug_sink sink;
    FILE *file = fopen(test_path(t, "out/.millrace/manifest.json"), "w");

    CHECK(file != NULL && fwrite(text, 1, size, file) == size && fclose(file) == 0);
    enum mr_status status = plug_sink_try(&sink, spec, &err);

    plug_sink_close(&sink);
    if (status != MR_CORRUPT && status != MR_VERSION)
        FAIL("taken as good: %.*s", (int)size, text);
    CHECK_CONTAINS(err.text, "out");
}

TEST(B2_B3_B4_B22_every_cut_and_every_flipped_bit_of_a_manifest_is_noticed)
{
    const char *const rows[] = {"1|a", "2|b"};
    struct plug_sink sink;
    char *options, *text;
    struct plug_sink_spec spec = spec_of(t, &options);
    size_t size;

    plug_sink_open(&sink, &spec);
    plug_batch_out(&sink, 0, rows, 2);
    plug_batch_out(&sink, 1, rows, 2);
    plug_sink_close(&sink);
    text = plug_read_file(test_path(t, "out/.millrace/manifest.json"));
    size = strlen(text);
    for (size_t end = 0; end < size; end++)
        check_refused(t, &spec, text, end);
    for (size_t bit = 0; bit < size * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        check_refused(t, &spec, text, size);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
    }
    plug_write_file(test_path(t, "out/.millrace/manifest.json"), text);
    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), 1);
    plug_sink_close(&sink);
    evidence_add("damage", "files", 1);
    evidence_add("damage", "cuts", size);
    evidence_add("damage", "flips", size * 8);
    mr_text_free(text);
    mr_free(options);
}

TEST(complete_mode_is_refused_with_what_to_use)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options;
    struct plug_sink_spec spec = spec_of(t, &options);

    spec.mode = MR_MODE_COMPLETE;
    CHECK_FAILS(plug_sink_try(&sink, &spec, &err), &err, MR_CONFIG, "append or update");
    plug_sink_close(&sink);
    mr_free(options);
}
