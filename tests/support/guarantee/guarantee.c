/*
 * The program behind test_guarantees.py: one row of the guide's fault-tolerance table at a time.
 *
 *     guarantee SOURCE CHECKPOINT OUTPUT [key=value ...]
 *
 *   SOURCE      files:DIR  socket:PORT  reliable:PORT  kafka:BROKERS/TOPIC  queue:
 *   CHECKPOINT  a directory, or "-" for none
 *   OUTPUT      directory: text/ is written by save_as_text_files (a batch that runs again
 *               overwrites), raw by a foreach_rdd that appends and flushes what it is given, with
 *               neither id nor memory: it shows each time a row comes out
 *
 *   fail_at=TEXT    the function of the map fails the first time in this process that it sees TEXT
 *   slow=TEXT       the raw output waits, in the batch with TEXT, until OUTPUT/go is there: the
 *                   test can kill between an output and its commit
 *
 * A reliable receiver reads lines, stores each one durably and only then answers "ack LINE".
 */
#include <millrace/kafka.h>
#include <millrace/receiver.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct program {
    const char *source, *output, *fail_at, *slow;
    atomic_bool has_failed;
    bool has_waited;
};

/* ---- the reliable receiver ---- */

struct peer {
    int port;
    int fd;
    pthread_t thread;
};

static bool acknowledge(int fd, const char *line)
{
    char text[300];
    int size = snprintf(text, sizeof(text), "ack %s\n", line);

    return send(fd, text, (size_t)size, MSG_NOSIGNAL) == size;
}

static enum mr_status store_line(struct mr_receiver_handle *receiver, const char *line)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_schema_parse("value VARCHAR", 13, &schema, NULL);

    if (status == MR_OK)
        status = mr_batch_builder_new(schema, &builder, NULL);
    if (status == MR_OK) {
        mr_batch_builder_text(builder, 0, line, strlen(line));
        mr_batch_builder_end_row(builder);
        status = mr_batch_builder_finish(builder, &batch, NULL);
    }
    if (status == MR_OK)
        status = mr_receiver_put_batch(receiver, batch, NULL, NULL);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return status;
}

static struct peer peer;

static void *receive(void *arg)
{
    struct mr_receiver_handle *receiver = arg;
    FILE *lines = fdopen(dup(peer.fd), "r");
    char line[256];

    while (lines != NULL && fgets(line, sizeof(line), lines) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (store_line(receiver, line) != MR_OK || !acknowledge(peer.fd, line))
            break;
    }
    if (lines != NULL)
        fclose(lines);
    mr_receiver_restart(receiver, "the sender went away", 50);
    return NULL;
}

static enum mr_status start_reliable(struct mr_receiver_handle *receiver, void *arg,
                                     struct mr_error *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)peer.port)};

    (void)arg;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(peer.fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        pthread_create(&peer.thread, NULL, receive, receiver) != 0) {
        close(peer.fd);
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to the sender");
    }
    return MR_OK;
}

static void stop_reliable(struct mr_receiver_handle *receiver, void *arg)
{
    (void)receiver;
    (void)arg;
    shutdown(peer.fd, SHUT_RDWR);
    pthread_join(peer.thread, NULL);
    close(peer.fd);
}

/* ---- the pipeline ---- */

static void pass(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct program *program = arg;
    struct mr_slice text = mr_row_text(row, 0);

    if (program->fail_at != NULL && text.size_bytes == strlen(program->fail_at) &&
        memcmp(text.data, program->fail_at, text.size_bytes) == 0 &&
        !atomic_exchange(&program->has_failed, true))
        mr_emit_fail(out, "the task fails at '%s'", program->fail_at);
    else
        mr_emit_str(out, text.data, text.size_bytes);
}

/* Waits for the file `go`, which the test makes. */
static void wait_for_go(const struct program *program)
{
    char path[512];
    struct stat info;

    snprintf(path, sizeof(path), "%s/waiting", program->output);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    snprintf(path, sizeof(path), "%s/go", program->output);
    while (stat(path, &info) != 0)
        poll(NULL, 0, 5);
}

static enum mr_status append_raw(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                 struct mr_error *err)
{
    struct program *program = arg;
    char path[512];
    struct mr_batch *batch;
    bool is_slow = false;
    FILE *file;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &batch, err));
    snprintf(path, sizeof(path), "%s/raw", program->output);
    file = fopen(path, "ae");
    for (struct mr_row row = {batch, 0}; file != NULL && row.index < mr_batch_row_count(batch);
         row.index++) {
        struct mr_slice text = mr_row_text(&row, 0);

        fprintf(file, "%.*s\n", (int)text.size_bytes, text.data);
        is_slow = is_slow || (program->slow != NULL && text.size_bytes == strlen(program->slow) &&
                              memcmp(text.data, program->slow, text.size_bytes) == 0);
    }
    mr_batch_unref(batch);
    if (file == NULL || fclose(file) != 0)
        return MR_FAIL(err, MR_IO, "cannot append to '%s'", path);
    if (is_slow && !program->has_waited) {
        program->has_waited = true;
        wait_for_go(program);
    }
    return MR_OK;
}

static struct mr_dstream *kafka_values(struct mr_context *ctx, const char *where)
{
    static char brokers[200];
    const char *slash = strchr(where, '/');
    struct mr_kafka_direct spec = {.topics = slash + 1, .reset = MR_KAFKA_EARLIEST};

    snprintf(brokers, sizeof(brokers), "%.*s", (int)(slash - where), where);
    spec.brokers = brokers;
    return mr_map(mr_kafka_direct_stream(ctx, &spec), MR_SQL("value"));
}

static struct mr_dstream *input(struct mr_context *ctx, const char *source)
{
    static const struct mr_receiver_spec reliable = {"Reliable", "value VARCHAR", start_reliable,
                                                     stop_reliable, NULL};
    const char *where = strchr(source, ':') + 1;

    peer.port = (int)strtol(where, NULL, 10);
    switch (source[0]) {
    case 'f':
        return mr_text_file_stream(ctx, where);
    case 's':
        return mr_socket_text_stream(ctx, "127.0.0.1", peer.port);
    case 'r':
        return mr_receiver_stream(ctx, &reliable);
    case 'k':
        return kafka_values(ctx, where);
    default:
        return mr_queue_stream(ctx, mr_queue_new("value VARCHAR"), true);
    }
}

static struct mr_context *build(void *arg)
{
    static char prefix[512];
    struct program *program = arg;
    struct mr_context *ctx = mr_context_new("guarantee", MR_MILLISECONDS(100));
    struct mr_fn fn = MR_FN_FULL(pass, NULL, program);
    struct mr_dstream *lines = mr_map(input(ctx, program->source), fn);

    mr_context_set(ctx, "block_interval", "20ms");
    mr_context_set(ctx, "receiver_restart_delay", "50ms");
    snprintf(prefix, sizeof(prefix), "%s/text", program->output);
    mr_save_as_text_files(lines, prefix, NULL);
    mr_foreach_rdd(lines, append_raw, program);
    return ctx;
}

int main(int argc, char **argv)
{
    struct program program = {0};

    if (argc < 4) {
        fprintf(stderr, "usage: guarantee SOURCE CHECKPOINT OUTPUT [fail_at=TEXT] [slow=TEXT]\n");
        return 64;
    }
    program.source = argv[1];
    program.output = argv[3];
    for (int i = 4; i < argc; i++) {
        if (strncmp(argv[i], "fail_at=", 8) == 0)
            program.fail_at = argv[i] + 8;
        else if (strncmp(argv[i], "slow=", 5) == 0)
            program.slow = argv[i] + 5;
    }
    if (strcmp(argv[2], "-") == 0)
        return mr_context_main(build(&program));
    return mr_context_main(mr_context_get_or_create(argv[2], build, &program));
}
