/*
 * Start of a DStream program that needs no SQL engine: a word count over a file, with a checkpoint.
 *
 *     start_dstream start WORDS.txt CHECKPOINT     ends after the first batch; prints the monotonic
 *                                                  clock once it is committed
 *     start_dstream idle  WORDS.txt CHECKPOINT     a batch a second until it is killed (its memory
 *                                                  is looked at)
 *
 * The clock is read when a listener is told that the first batch with rows is committed.
 */
#include <millrace/dstream.h>
#include <millrace/listener.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static sem_t first_batch;
static struct timespec committed;

static enum mr_status ignore(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)arg;
    (void)err;
    return MR_OK;
}

/* Told when a batch is committed. */
static void completed(void *arg, const struct mr_batch_report *batch)
{
    static bool told;

    (void)arg;
    if (batch->record_count == 0 || told)
        return;
    told = true;
    clock_gettime(CLOCK_MONOTONIC, &committed);
    sem_post(&first_batch);
}

int main(int argc, char **argv)
{
    struct mr_listener listener = {.struct_size = sizeof(listener), .batch_completed = completed};
    struct mr_error err = {0};

    if (argc != 4 || (strcmp(argv[1], "start") != 0 && strcmp(argv[1], "idle") != 0)) {
        fprintf(stderr, "usage: start_dstream start|idle WORDS.txt CHECKPOINT\n");
        return 64;
    }
    const char *const options[] = {"path", argv[2], "format", "text", NULL};
    bool idles = strcmp(argv[1], "idle") == 0;
    struct mr_context *ctx = mr_context_new("start", idles ? MR_SECONDS(1) : MR_MILLISECONDS(1));
    mr_context_checkpoint(ctx, argv[3]);
    struct mr_dstream *lines = mr_connector_stream(ctx, "file", NULL, options);
    struct mr_dstream *counts = mr_count_by_value(mr_flat_map(lines, MR_WORDS));
    mr_foreach_rdd(counts, ignore, NULL);
    mr_context_add_listener(ctx, &listener);
    sem_init(&first_batch, 0, 0);
    if (mr_context_start(ctx, &err) != MR_OK) {
        fprintf(stderr, "start_dstream: %s\n", err.text);
        return 1;
    }
    sem_wait(&first_batch);
    if (!idles)
        mr_context_stop(ctx, true);
    enum mr_status status = mr_context_await(ctx, &err);
    printf("{\"commit_ns\": %" PRId64 "}\n",
           (int64_t)committed.tv_sec * INT64_C(1000000000) + committed.tv_nsec);
    if (status != MR_OK)
        fprintf(stderr, "start_dstream: %s\n", err.text);
    mr_context_free(ctx);
    return status == MR_OK ? 0 : 1;
}
