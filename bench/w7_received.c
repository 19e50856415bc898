/*
 * Workload W7: records of 250 bytes that a receiver takes in and acknowledges when they are in the
 * write-ahead log, on the disk of the directory.
 *
 *     w7_received sync    DIR BYTES COUNT              a pwrite of that many bytes, an fdatasync,
 *                                                      one behind the other, into a file that was
 *                                                      written before: the unit
 *     w7_received receive DIR SENDERS RECORDS PER_PUT  a program with a checkpoint and one receiver
 *                                                      of SENDERS threads, each calling
 *                                                      mr_receiver_put_batch with PER_PUT records;
 *                                                      batches of 100 ms sum what they read
 *     w7_received replay  DIR SENDERS RECORDS PER_PUT  the same with no batch until all is
 *                                                      acknowledged; then the context is torn down
 *                                                      and a new one reads the log
 *     w7_received rocksdb DIR SENDERS RECORDS PER_PUT  a synchronous WriteBatch of PER_PUT records
 *                                                      in place of each put
 *
 * Prints JSON: seconds from the first put to the last acknowledgement, quantiles of the time of a
 * put, a sum over all records sent and one over all that were read.
 *
 * RocksDB is looked up when the mode is run; exit code 77 without it.
 *
 * Threads: senders; the driver and workers of the program.
 */
#include "base/hash.h"

#include <millrace/dstream.h>
#include <millrace/rdd.h>
#include <millrace/receiver.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 250, SENDERS_MAX = 256, MISSING = 77 };

static int64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void fail(const char *what, const struct mr_error *err)
{
    fprintf(stderr, "w7_received: %s: %s\n", what, err != NULL ? err->text : strerror(errno));
    exit(1);
}

static int compare_times(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

static void print_times(int64_t *times_ns, size_t count, double seconds, double megabytes)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};

    qsort(times_ns, count, sizeof(*times_ns), compare_times);
    printf("\"seconds\": %.4f, \"mb_per_s\": %.1f, \"puts\": %zu", seconds, megabytes / seconds,
           count);
    for (size_t i = 0; i < 4; i++)
        printf(", \"p%g_us\": %.1f", quantiles[i] * 100,
               (double)times_ns[(size_t)(quantiles[i] * (double)(count - 1))] / 1000);
}

/* ---- the unit ---- */

static void measure_sync(const char *dir, size_t bytes, size_t count)
{
    char path[512];
    size_t file_bytes = (size_t)64 << 20;
    int64_t *times_ns = calloc(count, sizeof(*times_ns));
    char *data = calloc(1, bytes);
    int64_t start_ns;
    int fd;

    snprintf(path, sizeof(path), "%s/sync", dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || times_ns == NULL || data == NULL)
        fail(path, NULL);
    for (size_t at = 0; at + bytes <= file_bytes; at += bytes) {
        if (pwrite(fd, data, bytes, (off_t)at) != (ssize_t)bytes)
            fail(path, NULL);
    }
    fsync(fd);
    memset(data, 1, bytes);
    start_ns = now_ns();
    for (size_t i = 0; i < count; i++) {
        int64_t at_ns = now_ns();

        if (pwrite(fd, data, bytes, (off_t)(i % (file_bytes / bytes) * bytes)) != (ssize_t)bytes ||
            fdatasync(fd) != 0)
            fail(path, NULL);
        times_ns[i] = now_ns() - at_ns;
    }
    printf("{");
    print_times(times_ns, count, (double)(now_ns() - start_ns) / 1e9,
                (double)(bytes * count) / 1e6);
    printf("}\n");
    close(fd);
    free(data);
    free(times_ns);
}

/* ---- senders ---- */

struct run {
    size_t senders, per_put, puts; /* of each sender */
    enum mr_status (*put)(struct run *run, const void *records, struct mr_error *err);
    void *target;
    int64_t *times_ns;
    atomic_size_t next_sender, senders_done;
    _Atomic int64_t start_ns, end_ns;
    _Atomic uint64_t sent_sum, sent_count, read_sum, read_count;
    pthread_t threads[SENDERS_MAX];
};

static void fill_record(char record[RECORD_BYTES], size_t sender, size_t index)
{
    int size = snprintf(record, RECORD_BYTES, "%04zu-%010zu-", sender, index);

    memset(record + size, 'a' + (int)(index % 26), RECORD_BYTES - (size_t)size);
}

/* The sender's records: the same ones in every put. */
static struct mr_batch *make_records(struct run *run, size_t sender, uint64_t *ret_sum)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err;

    if (mr_schema_parse("value VARCHAR", 13, &schema, &err) != MR_OK ||
        mr_batch_builder_new(schema, &builder, &err) != MR_OK)
        fail("records", &err);
    *ret_sum = 0;
    for (size_t i = 0; i < run->per_put; i++) {
        char record[RECORD_BYTES];

        fill_record(record, sender, i);
        *ret_sum += mr_checksum(record, sizeof(record));
        mr_batch_builder_text(builder, 0, record, sizeof(record));
        mr_batch_builder_end_row(builder);
    }
    if (mr_batch_builder_finish(builder, &batch, &err) != MR_OK)
        fail("records", &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

static void *send_records(void *arg)
{
    struct run *run = arg;
    size_t sender = atomic_fetch_add(&run->next_sender, 1);
    uint64_t sum;
    struct mr_batch *records = make_records(run, sender, &sum);
    struct mr_error err;
    int64_t none = 0;

    atomic_compare_exchange_strong(&run->start_ns, &none, now_ns());
    for (size_t i = 0; i < run->puts; i++) {
        int64_t at_ns = now_ns();

        if (run->put(run, records, &err) != MR_OK)
            fail("put", &err);
        run->times_ns[sender * run->puts + i] = now_ns() - at_ns;
    }
    atomic_fetch_add(&run->sent_sum, sum * run->puts);
    atomic_fetch_add(&run->sent_count, run->per_put * run->puts);
    atomic_store(&run->end_ns, now_ns());
    atomic_fetch_add(&run->senders_done, 1);
    mr_batch_unref(records);
    return NULL;
}

static void start_senders(struct run *run)
{
    for (size_t i = 0; i < run->senders; i++) {
        if (pthread_create(&run->threads[i], NULL, send_records, run) != 0)
            fail("pthread_create", NULL);
    }
}

static void join_senders(struct run *run)
{
    for (size_t i = 0; i < run->senders; i++)
        pthread_join(run->threads[i], NULL);
}

static void sleep_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* ---- the program ---- */

static enum mr_status put_batch(struct run *run, const void *records, struct mr_error *err)
{
    return mr_receiver_put_batch(run->target, records, NULL, err);
}

static enum mr_status start_receiver(struct mr_receiver_handle *receiver, void *arg,
                                     struct mr_error *err)
{
    struct run *run = arg;

    (void)err;
    run->target = receiver;
    start_senders(run);
    return MR_OK;
}

static void stop_receiver(struct mr_receiver_handle *receiver, void *arg)
{
    (void)receiver;
    join_senders(arg);
}

static enum mr_status start_nothing(struct mr_receiver_handle *receiver, void *arg,
                                    struct mr_error *err)
{
    (void)receiver, (void)arg, (void)err;
    return MR_OK;
}

static enum mr_status sum_rows(struct mr_rows *rows, void *arg, struct mr_error *err)
{
    struct run *run = arg;
    struct mr_row row;
    uint64_t sum = 0, count = 0;

    (void)err;
    while (mr_rows_next(rows, &row)) {
        struct mr_slice text = mr_row_text(&row, 0);

        sum += mr_checksum(text.data, text.size_bytes);
        count++;
    }
    atomic_fetch_add(&run->read_sum, sum);
    atomic_fetch_add(&run->read_count, count);
    return MR_OK;
}

static enum mr_status sum_dataset(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    (void)batch_time_ms;
    return mr_rdd_foreach_partition(rdd, sum_rows, arg, err);
}

static struct mr_context *start_program(struct run *run, const char *dir, int64_t interval_ms,
                                        bool sends)
{
    const struct mr_receiver_spec spec = {"Sender", "value VARCHAR",
                                          sends ? start_receiver : start_nothing,
                                          sends ? stop_receiver : NULL, run};
    struct mr_context *ctx = mr_context_new("w7", interval_ms);
    struct mr_error err;

    mr_context_checkpoint(ctx, dir);
    mr_context_set(ctx, "receiver_queue_bytes", "16GiB");
    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), sum_dataset, run);
    if (mr_context_start(ctx, &err) != MR_OK)
        fail("start", &err);
    return ctx;
}

static void wait_until_sent(struct run *run)
{
    while (atomic_load(&run->senders_done) < run->senders)
        sleep_ms(5);
}

static void end_program(struct mr_context *ctx, bool graceful)
{
    struct mr_error err;

    mr_context_stop(ctx, graceful);
    if (mr_context_await(ctx, &err) != MR_OK)
        fail("the program", &err);
    mr_context_free(ctx);
}

static void run_receive(struct run *run, const char *dir)
{
    struct mr_context *ctx = start_program(run, dir, 100, true);

    wait_until_sent(run);
    end_program(ctx, true);
}

static void run_replay(struct run *run, const char *dir)
{
    struct mr_context *ctx = start_program(run, dir, MR_MINUTES(60), true);

    wait_until_sent(run);
    end_program(ctx, false);
    ctx = start_program(run, dir, 100, false);
    while (atomic_load(&run->read_count) < atomic_load(&run->sent_count))
        sleep_ms(5);
    end_program(ctx, true);
}

/* ---- RocksDB ---- */

struct rocks {
    void *db, *options, *sync;
    void *(*batch_create)(void);
    void (*batch_put)(void *batch, const char *key, size_t key_bytes, const char *value,
                      size_t value_bytes);
    void (*batch_clear)(void *batch);
    void (*write)(void *db, void *options, void *batch, char **err);
    atomic_uint_fast64_t next_key;
};

static void find(void *library, const char *name, void *ret_function)
{
    void *symbol = dlsym(library, name);

    if (symbol == NULL)
        exit(MISSING);
    memcpy(ret_function, &symbol, sizeof(symbol));
}

static void open_rocks(struct rocks *rocks, const char *dir)
{
    static const char *const names[] = {"librocksdb.so", "librocksdb.so.7.8", "librocksdb.so.8",
                                        "librocksdb.so.9"};
    void *(*create)(void);
    void *(*open_db)(void *options, const char *name, char **err);
    void (*set)(void *options, unsigned char value);
    void *library = NULL;
    char *err = NULL;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && library == NULL; i++)
        library = dlopen(names[i], RTLD_NOW);
    if (library == NULL)
        exit(MISSING);
    find(library, "rocksdb_options_create", &create);
    rocks->options = create();
    find(library, "rocksdb_options_set_create_if_missing", &set);
    set(rocks->options, 1);
    find(library, "rocksdb_writeoptions_create", &create);
    rocks->sync = create();
    find(library, "rocksdb_writeoptions_set_sync", &set);
    set(rocks->sync, 1);
    find(library, "rocksdb_writebatch_create", &rocks->batch_create);
    find(library, "rocksdb_writebatch_put", &rocks->batch_put);
    find(library, "rocksdb_writebatch_clear", &rocks->batch_clear);
    find(library, "rocksdb_write", &rocks->write);
    find(library, "rocksdb_open", &open_db);
    rocks->db = open_db(rocks->options, dir, &err);
    if (err != NULL) {
        fprintf(stderr, "w7_received: rocksdb: %s\n", err);
        exit(1);
    }
}

static enum mr_status put_rocks(struct run *run, const void *records, struct mr_error *err)
{
    static _Thread_local void *batch;
    struct rocks *rocks = run->target;
    char *text = NULL;

    if (batch == NULL)
        batch = rocks->batch_create();
    rocks->batch_clear(batch);
    for (int64_t i = 0; i < mr_batch_row_count(records); i++) {
        struct mr_slice value = mr_column_text(mr_batch_column(records, 0), i);
        uint64_t key = __builtin_bswap64(atomic_fetch_add(&rocks->next_key, 1));

        rocks->batch_put(batch, (const char *)&key, sizeof(key), value.data, value.size_bytes);
    }
    rocks->write(rocks->db, rocks->sync, batch, &text);
    return text == NULL ? MR_OK : MR_FAIL(err, MR_IO, "%s", text);
}

static void run_rocks(struct run *run, const char *dir)
{
    static struct rocks rocks;

    open_rocks(&rocks, dir);
    run->target = &rocks;
    run->put = put_rocks;
    start_senders(run);
    join_senders(run);
}

int main(int argc, char **argv)
{
    static struct run run = {.put = put_batch};
    size_t count;
    double seconds;

    if (argc == 5 && strcmp(argv[1], "sync") == 0) {
        measure_sync(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
        return 0;
    }
    if (argc != 6 || strtoull(argv[3], NULL, 10) > SENDERS_MAX) {
        fprintf(stderr, "usage: w7_received sync|receive|replay|rocksdb DIR ...\n");
        return 64;
    }
    run.senders = strtoull(argv[3], NULL, 10);
    run.per_put = strtoull(argv[5], NULL, 10);
    run.puts = strtoull(argv[4], NULL, 10) / run.senders / run.per_put;
    count = run.puts * run.senders;
    run.times_ns = calloc(count, sizeof(*run.times_ns));
    if (run.times_ns == NULL || count == 0)
        fail("too few records", NULL);
    if (strcmp(argv[1], "receive") == 0)
        run_receive(&run, argv[2]);
    else if (strcmp(argv[1], "replay") == 0)
        run_replay(&run, argv[2]);
    else
        run_rocks(&run, argv[2]);
    seconds = (double)(run.end_ns - run.start_ns) / 1e9;
    printf("{\"records_per_s\": %.0f, \"sent\": %" PRIu64 ", \"sent_sum\": \"%016" PRIx64
           "\", \"read\": %" PRIu64 ", \"read_sum\": \"%016" PRIx64 "\", ",
           (double)run.sent_count / seconds, run.sent_count, run.sent_sum, run.read_count,
           run.read_sum);
    print_times(run.times_ns, count, seconds, (double)run.sent_count * RECORD_BYTES / 1e6);
    printf("}\n");
    return 0;
}
