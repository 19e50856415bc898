/*
 * Start of a DStream program that needs no SQL engine: a word count over a file, with a checkpoint.
 *
 *     start_dstream start WORDS.txt CHECKPOINT     ends after the first batch; prints the monotonic
 *                                                  clock once it is committed
 *     start_dstream idle  WORDS.txt CHECKPOINT     a batch a second until it is killed (its memory
 *                                                  is looked at)
 *
 * The clock is read when the context has stopped gracefully after its first batch, so the time
 * includes the commit and the stop.
 */
#include <millrace/dstream.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static sem_t first_batch;

static enum mr_status seen(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                           struct mr_error *err)
{
    (void)batch_time_ms;
    (void)arg;
    bool empty;

    MR_TRY(mr_rdd_is_empty(rdd, &empty, err));
    if (!empty)
        sem_post(&first_batch);
    return MR_OK;
}

int main(int argc, char **argv)
{
    struct mr_error err = {0};
    struct timespec now;

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
    mr_foreach_rdd(counts, seen, NULL);
    sem_init(&first_batch, 0, 0);
    if (mr_context_start(ctx, &err) != MR_OK) {
        fprintf(stderr, "start_dstream: %s\n", err.text);
        return 1;
    }
    sem_wait(&first_batch);
    if (!idles)
        mr_context_stop(ctx, true);
    enum mr_status status = mr_context_await(ctx, &err);
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("{\"commit_ns\": %" PRId64 "}\n",
           (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec);
    if (status != MR_OK)
        fprintf(stderr, "start_dstream: %s\n", err.text);
    mr_context_free(ctx);
    return status == MR_OK ? 0 : 1;
}
