/*
 * Each batch into two outputs, each of them exactly once: foreach_batch INPUT_DIR OUTPUT_DIR
 * CHECKPOINT_DIR
 *
 * The function is called at least once for each batch: after a crash the same batch comes again,
 * with the same number and the same rows. Both outputs make use of that:
 *
 *     OUTPUT_DIR/batch-7     a directory for the batch; writing it again replaces it
 *     OUTPUT_DIR/total       "7 1234": the newest batch and the sum so far, replaced in one step; a
 *                            batch that is in it already is left out
 */
#include <millrace/sql.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct outputs {
    const char *dir;
};

/* The newest batch in the total, -1 = none, and the sum. */
static void read_total(const char *path, int64_t *ret_batch, int64_t *ret_sum)
{
    FILE *file = fopen(path, "r");
    char line[64];

    *ret_batch = -1;
    *ret_sum = 0;
    if (file == NULL)
        return;
    if (fgets(line, sizeof(line), file) != NULL) {
        char *batch_end, *sum_end;
        int64_t batch = strtoll(line, &batch_end, 10);
        int64_t sum = strtoll(batch_end, &sum_end, 10);

        if (batch_end != line && sum_end != batch_end) {
            *ret_batch = batch;
            *ret_sum = sum;
        }
    }
    fclose(file);
}

static enum mr_status write_total(const char *path, int64_t batch, int64_t sum,
                                  struct mr_error *err)
{
    char next[1000];
    FILE *file;

    snprintf(next, sizeof(next), "%s.next", path);
    file = fopen(next, "w");
    if (file == NULL)
        return MR_FAIL(err, MR_IO, "cannot write '%s'", next);
    fprintf(file, "%" PRId64 " %" PRId64 "\n", batch, sum);
    if (fclose(file) != 0 || rename(next, path) != 0)
        return MR_FAIL(err, MR_IO, "cannot write '%s'", path);
    return MR_OK;
}

static enum mr_status add_to_total(struct mr_rdd *rows, const char *path, int64_t batch,
                                   struct mr_error *err)
{
    int64_t newest, sum;
    struct mr_batch *one;

    read_total(path, &newest, &sum);
    if (batch <= newest)
        return MR_OK; /* the crash was after this one */
    MR_TRY(mr_rdd_collect(mr_rdd_sql(rows, "SELECT coalesce(sum(v), 0)::BIGINT AS s FROM input"),
                          &one, err));
    sum += mr_row_int(&(struct mr_row){one, 0}, 0);
    mr_batch_unref(one);
    return write_total(path, batch, sum, err);
}

static enum mr_status write_both(struct mr_rdd *rows, uint64_t batch_id, void *arg,
                                 struct mr_error *err)
{
    const struct outputs *outputs = arg;
    char path[900];

    snprintf(path, sizeof(path), "%s/batch-%" PRIu64, outputs->dir, batch_id);
    MR_TRY(mr_rdd_save_as_text_file(rows, path, err));
    snprintf(path, sizeof(path), "%s/total", outputs->dir);
    return add_to_total(rows, path, (int64_t)batch_id, err);
}

int main(int argc, char **argv)
{
    struct outputs outputs;

    if (argc != 4) {
        fprintf(stderr, "usage: foreach_batch INPUT_DIR OUTPUT_DIR CHECKPOINT_DIR\n");
        return 64;
    }
    struct mr_streams *s = mr_streams_new();
    struct mr_stream_reader *in = mr_read_format(mr_read_stream(s), "json");

    outputs.dir = argv[2];
    mr_read_option(mr_read_schema(in, "v BIGINT"), "maxFilesPerTrigger", "1");
    struct mr_stream_writer *out = mr_write_stream(mr_read_load(in, argv[1]));

    mr_write_foreach_batch(out, write_both, &outputs);
    mr_write_option(out, "checkpointLocation", argv[3]);
    mr_write_trigger(out, "available now");
    return mr_streams_main(s, out);
}
