/*
 * Receivers of programs, on real threads and sockets: what they store arrives whole and in order,
 * they live and die as the rules say (dstream.md 8), and mistakes are told.
 */
#include "support/test.h"

#include "base/log.h"
#include "dstream/receivers.h"

#include <millrace/ext/builder.h>
#include <millrace/listener.h>

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- a program that collects */

enum { TEXT_BYTES = 1 << 16 };

struct program {
    struct mr_context *ctx;
    struct mr_mutex lock; /* guards: */
    struct mr_cond changed;
    char text[TEXT_BYTES]; /* elements with a blank behind each, columns with ':' between */
    size_t size;
    int64_t batches;
};

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void begin(struct program *program, const char *checkpoint)
{
    memset(program, 0, sizeof(*program));
    mr_log_set_sink(quiet, NULL);
    mr_mutex_init(&program->lock);
    mr_cond_init(&program->changed);
    program->ctx = mr_context_new("receiving", 10);
    mr_context_checkpoint(program->ctx, checkpoint);
    mr_context_set(program->ctx, "block_interval", "1ms");
    mr_context_set(program->ctx, "receiver_restart_delay", "1ms");
}

static void add_row(struct program *program, const struct mr_batch *batch, int64_t index)
{
    struct mr_row row = {batch, index};
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));

    for (uint32_t i = 0; i < columns; i++) {
        char *at = program->text + program->size;
        size_t left = TEXT_BYTES - program->size;
        size_t size = mr_row_print(&row, i, at, left);

        CHECK(size + 2 < left);
        at[size] = i + 1 < columns ? ':' : ' ';
        at[size + 1] = '\0';
        program->size += size + 1;
    }
}

static enum mr_status collect(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                              struct mr_error *err)
{
    struct program *program = arg;

    struct mr_batch *rows;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &rows, err));
    mr_mutex_lock(&program->lock);
    for (int64_t k = 0; k < mr_batch_row_count(rows); k++)
        add_row(program, rows, k);
    mr_batch_unref(rows);
    program->batches++;
    mr_cond_broadcast(&program->changed);
    mr_mutex_unlock(&program->lock);
    return MR_OK;
}

static void start(struct program *program)
{
    struct mr_error err = {0};

    CHECK_OK(mr_context_start(program->ctx, &err), &err);
}

/* Returns when what was collected has `size` bytes, or the program has ended. */
static void wait_for_bytes(struct program *program, size_t size)
{
    mr_mutex_lock(&program->lock);
    while (program->size < size)
        mr_cond_wait(&program->changed, &program->lock);
    mr_mutex_unlock(&program->lock);
}

static void wait_for_batches(struct program *program, int64_t more)
{
    mr_mutex_lock(&program->lock);
    for (int64_t wanted = program->batches + more; program->batches < wanted;)
        mr_cond_wait(&program->changed, &program->lock);
    mr_mutex_unlock(&program->lock);
}

static void end(struct program *program, bool graceful)
{
    struct mr_error err = {0};

    mr_context_stop(program->ctx, graceful);
    CHECK_OK(mr_context_await(program->ctx, &err), &err);
    mr_context_free(program->ctx);
    mr_cond_release(&program->changed);
    mr_mutex_release(&program->lock);
}

/* ---------------------------------------------------------------- receivers */

/* What a receiver of the tests does in its thread; the calls that it got. */
struct probe {
    void (*work)(struct mr_receiver_handle *receiver, struct probe *probe);
    int failing_starts;
    atomic_int starts, stops, done;
    atomic_bool stopping;
    struct mr_thread *thread;
    struct mr_receiver_handle *handle;
    struct mr_error err;
    enum mr_status status;
    int64_t stopped_ns, started_ns;
};

static void probe_main(void *arg)
{
    struct probe *probe = arg;

    probe->work(probe->handle, probe);
    atomic_fetch_add(&probe->done, 1);
}

static enum mr_status probe_start(struct mr_receiver_handle *receiver, void *arg,
                                  struct mr_error *err)
{
    struct probe *probe = arg;

    if (atomic_fetch_add(&probe->starts, 1) < probe->failing_starts)
        return MR_FAIL(err, MR_UNAVAILABLE, "not yet");
    probe->started_ns = mr_env_monotonic_ns(mr_env_posix());
    probe->handle = receiver;
    atomic_store(&probe->stopping, false);
    return mr_thread_start("probe", probe_main, probe, &probe->thread, err);
}

static void probe_stop(struct mr_receiver_handle *receiver, void *arg)
{
    struct probe *probe = arg;

    CHECK(mr_receiver_is_stopped(receiver));
    atomic_store(&probe->stopping, true);
    mr_thread_join(probe->thread);
    probe->thread = NULL;
    probe->stopped_ns = mr_env_monotonic_ns(mr_env_posix());
    atomic_fetch_add(&probe->stops, 1);
}

static struct mr_dstream *probe_stream(struct program *program, struct probe *probe,
                                       const char *columns)
{
    const struct mr_receiver_spec spec = {"Probe", columns, probe_start, probe_stop, probe};

    return mr_receiver_stream(program->ctx, &spec);
}

static void run_probe(struct program *program, struct probe *probe, const char *columns)
{
    mr_foreach_rdd(probe_stream(program, probe, columns), collect, program);
    start(program);
}

static void put_words(struct mr_receiver_handle *receiver, struct probe *probe)
{
    const char *const words[] = {"to", "be", "", "or", "not"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++)
        CHECK_OK(mr_receiver_put_str(receiver, words[i], strlen(words[i]), &probe->err),
                 &probe->err);
}

TEST(single_texts_arrive_in_their_order)
{
    struct program program;
    struct probe probe = {.work = put_words};

    begin(&program, NULL);
    run_probe(&program, &probe, "value VARCHAR");
    wait_for_bytes(&program, strlen("to be  or not "));
    end(&program, true);
    CHECK_EQ_STR(program.text, "to be  or not ");
    CHECK_EQ_INT(atomic_load(&probe.starts), 1);
    CHECK_EQ_INT(atomic_load(&probe.stops), 1);
}

static void put_numbers(struct mr_receiver_handle *receiver, struct probe *probe)
{
    static const int64_t values[] = {1, -2, 127};

    CHECK_STATUS(mr_receiver_put_int(receiver, 128, &probe->err), MR_BAD_DATA);
    for (size_t i = 0; i < MR_ARRAY_SIZE(values); i++)
        CHECK_OK(mr_receiver_put_int(receiver, values[i], &probe->err), &probe->err);
    CHECK_FAILS(mr_receiver_put_str(receiver, "x", 1, &probe->err), &probe->err, MR_CONFIG,
                "mr_receiver_put_rows");
}

TEST(single_integers_must_fit_their_column)
{
    struct program program;
    struct probe probe = {.work = put_numbers};

    begin(&program, NULL);
    run_probe(&program, &probe, "value TINYINT");
    wait_for_bytes(&program, strlen("1 -2 127 "));
    end(&program, true);
    CHECK_EQ_STR(program.text, "1 -2 127 ");
}

#define MIXED "id BIGINT, name VARCHAR, tags VARCHAR[], ok BOOLEAN"

/* Rows of many types from `from` on; every third name is null. */
static struct mr_batch *mixed_rows(int64_t from, int64_t count)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(MIXED, strlen(MIXED), &schema, &err), &err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t i = from; i < from + count; i++) {
        struct mr_column_builder *tags = mr_batch_builder_column(builder, 2);

        mr_batch_builder_int(builder, 0, i);
        if (i % 3 == 0)
            mr_batch_builder_null(builder, 1);
        else
            mr_batch_builder_text(builder, 1, "name", 4);
        for (int64_t k = 0; k < i % 3; k++)
            CHECK_OK(mr_column_builder_text(&tags->children[0], "t", 1, &err), &err);
        CHECK_OK(mr_column_builder_list_end(tags, &err), &err);
        mr_batch_builder_bool(builder, 3, i % 2 == 0);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

#define MIXED_TEXT "0:null:[]:true 1:name:[t]:false 2:name:[t, t]:true 3:null:[]:false "

static void put_mixed(struct mr_receiver_handle *receiver, struct probe *probe)
{
    struct mr_batch *first = mixed_rows(0, 3), *second = mixed_rows(3, 1);

    CHECK_OK(mr_receiver_put_rows(receiver, first, &probe->err), &probe->err);
    CHECK_OK(mr_receiver_put_rows(receiver, second, &probe->err), &probe->err);
    mr_batch_unref(first);
    mr_batch_unref(second);
}

TEST(rows_of_any_columns_travel_through_the_block_log)
{
    const char *const dirs[] = {NULL, test_path(t, "cp")};

    for (size_t i = 0; i < MR_ARRAY_SIZE(dirs); i++) {
        struct program program;
        struct probe probe = {.work = put_mixed};

        begin(&program, dirs[i]);
        run_probe(&program, &probe, MIXED);
        wait_for_bytes(&program, strlen(MIXED_TEXT));
        end(&program, true);
        CHECK_EQ_STR(program.text, MIXED_TEXT);
    }
}

static void put_wrong_rows(struct mr_receiver_handle *receiver, struct probe *probe)
{
    struct mr_batch *rows = mixed_rows(0, 3);
    char *large = malloc((size_t)MR_ELEMENT_BYTES_MAX + 1);

    memset(large, 'x', (size_t)MR_ELEMENT_BYTES_MAX + 1);
    CHECK_FAILS(mr_receiver_put_rows(receiver, rows, &probe->err), &probe->err, MR_CONFIG,
                "they have 4 columns, the stream has 1");
    CHECK_FAILS(mr_receiver_put_str(receiver, "\xff", 1, &probe->err), &probe->err, MR_BAD_DATA,
                "not UTF-8");
    CHECK_FAILS(mr_receiver_put_str(receiver, large, (size_t)MR_ELEMENT_BYTES_MAX + 1, &probe->err),
                &probe->err, MR_LIMIT,
                "Probe-0: cannot store a received element of 67108865 bytes");
    CHECK_OK(mr_receiver_put_str(receiver, "fine", 4, &probe->err), &probe->err);
    free(large);
    mr_batch_unref(rows);
}

TEST(what_does_not_fit_the_stream_is_refused_and_the_receiver_goes_on)
{
    struct program program;
    struct probe probe = {.work = put_wrong_rows};

    begin(&program, NULL);
    run_probe(&program, &probe, "value VARCHAR");
    wait_for_bytes(&program, strlen("fine "));
    end(&program, true);
    CHECK_EQ_STR(program.text, "fine ");
}

/* ---------------------------------------------------------------- reliable */

static void put_blocks(struct mr_receiver_handle *receiver, struct probe *probe)
{
    for (int64_t i = 0; i < 4; i++) {
        struct mr_batch *rows = mixed_rows(i, 1);

        CHECK_OK(mr_receiver_put_batch(receiver, rows, "offset 7", &probe->err), &probe->err);
        mr_batch_unref(rows);
    }
}

static void idle(struct mr_receiver_handle *receiver, struct probe *probe)
{
    (void)receiver, (void)probe;
}

static void wait_until_done(struct probe *probe)
{
    while (atomic_load(&probe->done) == 0)
        mr_env_sleep_ns(mr_env_posix(), 1000000);
}

TEST(blocks_that_put_batch_returned_for_survive_the_end_of_the_process)
{
    struct program program;
    struct probe putting = {.work = put_blocks}, idling = {.work = idle};

    begin(&program, test_path(t, "cp"));
    mr_context_free(program.ctx);
    program.ctx = mr_context_new("receiving", MR_MINUTES(60)); /* no batch comes in between */
    mr_context_checkpoint(program.ctx, test_path(t, "cp"));
    run_probe(&program, &putting, MIXED);
    wait_until_done(&putting);
    end(&program, false);
    CHECK_EQ_STR(program.text, "");

    begin(&program, test_path(t, "cp"));
    run_probe(&program, &idling, MIXED);
    wait_for_bytes(&program, strlen(MIXED_TEXT));
    end(&program, true);
    CHECK_EQ_STR(program.text, MIXED_TEXT);
}

struct described {
    char text[256];
    atomic_int batches; /* with a description */
};

static void note_description(void *arg, const struct mr_batch_report *batch)
{
    struct described *described = arg;

    if (batch->input_count == 0 || batch->inputs[0].description[0] == '\0')
        return;
    snprintf(described->text, sizeof(described->text), "%s", batch->inputs[0].description);
    atomic_fetch_add(&described->batches, 1);
}

TEST(what_a_receiver_says_about_its_blocks_is_the_description_of_the_batch)
{
    struct described described = {.text = ""};
    const struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = note_description, .arg = &described};
    struct program program;
    struct probe probe = {.work = put_blocks};

    begin(&program, NULL);
    mr_context_add_listener(program.ctx, &listener);
    run_probe(&program, &probe, MIXED);
    while (atomic_load(&described.batches) == 0)
        wait_for_batches(&program, 1);
    end(&program, true);
    CHECK_CONTAINS(described.text, "offset 7");
}

TEST(blocks_of_other_columns_are_refused_until_they_are_processed)
{
    struct program program;
    struct probe putting = {.work = put_blocks}, idling = {.work = idle};
    struct mr_error err = {0};

    begin(&program, test_path(t, "cp"));
    mr_context_free(program.ctx);
    program.ctx = mr_context_new("receiving", MR_MINUTES(60)); /* no batch comes in between */
    mr_context_checkpoint(program.ctx, test_path(t, "cp"));
    run_probe(&program, &putting, MIXED);
    wait_until_done(&putting);
    end(&program, false);

    begin(&program, test_path(t, "cp"));
    mr_context_free(program.ctx);
    program.ctx = mr_context_new("receiving", MR_MINUTES(60));
    mr_context_checkpoint(program.ctx, test_path(t, "cp"));
    mr_foreach_rdd(probe_stream(&program, &idling, "id BIGINT, name VARCHAR"), collect, &program);
    CHECK_FAILS(mr_context_start(program.ctx, &err), &err, MR_CONFIG, "process them first");
    mr_context_free(program.ctx);
}

static void put_until_stopped(struct mr_receiver_handle *receiver, struct probe *probe)
{
    do {
        struct mr_batch *rows = mixed_rows(0, 1);

        probe->status = mr_receiver_put_batch(receiver, rows, NULL, &probe->err);
        mr_batch_unref(rows);
    } while (probe->status == MR_OK);
}

TEST(a_receiver_that_only_looks_at_its_puts_leaves_when_the_context_stops)
{
    struct program program;
    struct probe probe = {.work = put_until_stopped};

    begin(&program, NULL);
    mr_context_set(program.ctx, "receiver_queue_bytes", "64KiB");
    run_probe(&program, &probe, MIXED);
    while (atomic_load(&probe.starts) == 0) /* batches may come before the receiver does */
        wait_for_batches(&program, 1);
    mr_context_stop(program.ctx, false);
    CHECK_EQ_INT(probe.status, MR_STOPPED);
    end(&program, false);
}

/* ---------------------------------------------------------------- life */

static void live(struct mr_receiver_handle *receiver, struct probe *probe)
{
    struct mr_batch *rows = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;

    CHECK_EQ_UINT(mr_receiver_stream_id(receiver), 0);
    if (atomic_load(&probe->starts) > 1) {
        mr_receiver_stop(receiver, "enough");
        mr_receiver_restart(receiver, "too late", 0); /* a stop wins */
        return;
    }
    CHECK(!mr_receiver_is_stopped(receiver));
    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, &probe->err), &probe->err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &probe->err), &probe->err);
    for (int64_t i = 2; i < 4; i++) {
        mr_batch_builder_int(builder, 0, i);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &rows, &probe->err), &probe->err);
    CHECK_OK(mr_receiver_put_int(receiver, 1, &probe->err), &probe->err);
    CHECK_OK(mr_receiver_put_batch(receiver, rows, NULL, &probe->err), &probe->err);
    mr_batch_unref(rows);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    mr_receiver_report_error(receiver, "test");
    mr_receiver_restart(receiver, "test", 30);
}

static int count_of(const char *text, const char *part)
{
    int count = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

TEST(V188_V190_a_receiver_is_restarted_after_its_delay_and_stays_stopped_when_it_stops)
{
    struct program program;
    struct probe probe = {.work = live};

    begin(&program, NULL);
    run_probe(&program, &probe, "value BIGINT");
    wait_for_bytes(&program, strlen("1 2 3 "));
    while (atomic_load(&probe.stops) < 2)
        wait_for_batches(&program, 1);
    wait_for_batches(&program, 3);
    CHECK(mr_receiver_is_stopped(probe.handle));
    CHECK(!mr_receiver_is_started(probe.handle));
    end(&program, true);
    CHECK_EQ_INT(atomic_load(&probe.starts), 2);
    CHECK_EQ_INT(atomic_load(&probe.stops), 2);
    CHECK_EQ_INT(count_of(program.text, " "), 3);
}

TEST(V188_the_delay_between_stop_and_start_is_kept)
{
    struct program program;
    struct probe probe = {.work = live};
    int64_t first_stop_ns;

    begin(&program, NULL);
    run_probe(&program, &probe, "value BIGINT");
    while (atomic_load(&probe.stops) < 1)
        wait_for_batches(&program, 1);
    first_stop_ns = probe.stopped_ns;
    while (atomic_load(&probe.starts) < 2)
        wait_for_batches(&program, 1);
    while (atomic_load(&probe.stops) < 2)
        wait_for_batches(&program, 1);
    CHECK(probe.started_ns - first_stop_ns >= 30000000);
    end(&program, true);
}

TEST(a_receiver_that_dies_in_a_loop_is_started_again_and_again)
{
    struct program program;
    struct probe probe = {.work = put_words, .failing_starts = 5};

    begin(&program, NULL);
    run_probe(&program, &probe, "value VARCHAR");
    wait_for_bytes(&program, strlen("to be  or not "));
    end(&program, true);
    CHECK_EQ_INT(atomic_load(&probe.starts), 6);
    CHECK_EQ_INT(atomic_load(&probe.stops), 1);
}

static void check_id(struct mr_receiver_handle *receiver, struct probe *probe)
{
    CHECK_OK(mr_receiver_put_int(receiver, mr_receiver_stream_id(receiver), &probe->err),
             &probe->err);
}

TEST(several_receivers_are_numbered_in_the_order_of_their_streams)
{
    struct program program;
    struct probe probes[2] = {{.work = check_id}, {.work = check_id}};
    struct mr_dstream *streams[2];

    begin(&program, NULL);
    for (size_t i = 0; i < 2; i++)
        streams[i] = probe_stream(&program, &probes[i], "value BIGINT");
    mr_foreach_rdd(mr_union(streams[0], streams[1]), collect, &program);
    start(&program);
    wait_for_bytes(&program, strlen("0 1 "));
    end(&program, true);
    CHECK_EQ_INT(count_of(program.text, "0 "), 1);
    CHECK_EQ_INT(count_of(program.text, "1 "), 1);
}

TEST(a_receiver_that_cannot_be_built_is_a_mistake_with_its_place)
{
    const struct mr_receiver_spec no_start = {.name = "x", .columns = "value BIGINT"};
    struct probe probe = {.work = idle};
    const struct mr_receiver_spec no_columns = {"x", NULL, probe_start, probe_stop, &probe};
    const struct mr_receiver_spec bad_columns = {"x", "value NOPE", probe_start, NULL, &probe};
    const struct mr_receiver_spec *const specs[] = {&no_start, &no_columns, &bad_columns};
    const char *const texts[] = {"on_start", "columns declared", "NOPE"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(specs); i++) {
        struct program program;
        struct mr_error err = {0};

        begin(&program, NULL);
        CHECK_NULL(mr_receiver_stream(program.ctx, specs[i]));
        CHECK_FAILS(mr_context_error(program.ctx, &err), &err, MR_CONFIG, texts[i]);
        CHECK_CONTAINS(err.text, "receiver_stream");
        mr_context_free(program.ctx);
    }
}

/* ---------------------------------------------------------------- sockets */

struct server {
    int fd;
    int port;
};

static struct server listen_here(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    struct server server = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    CHECK(server.fd >= 0);
    CHECK(bind(server.fd, (struct sockaddr *)&address, size) == 0);
    CHECK(listen(server.fd, 4) == 0);
    CHECK(getsockname(server.fd, (struct sockaddr *)&address, &size) == 0);
    server.port = ntohs(address.sin_port);
    return server;
}

/* Sends that to the next client, and closes. */
static void serve(const struct server *server, const char *data, size_t size)
{
    int fd = accept(server->fd, NULL, NULL);

    CHECK(fd >= 0);
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);

        CHECK(sent > 0);
        data += sent;
        size -= (size_t)sent;
    }
    close(fd);
}

TEST(V181_lines_of_a_socket_are_one_dataset_after_the_other)
{
    struct server server = listen_here();
    struct program program;

    begin(&program, NULL);
    mr_foreach_rdd(mr_socket_text_stream(program.ctx, "127.0.0.1", server.port), collect, &program);
    start(&program);
    serve(&server, "1\n2\r\n3\r4\n5", 10); /* \n, \r\n, \r; the last line has no end */
    wait_for_bytes(&program, strlen("1 2 3 4 5 "));
    end(&program, true);
    CHECK_EQ_STR(program.text, "1 2 3 4 5 ");
    close(server.fd);
}

TEST(V182_a_socket_without_data_gives_empty_datasets)
{
    struct server server = listen_here();
    struct program program;

    begin(&program, NULL);
    mr_foreach_rdd(mr_socket_text_stream(program.ctx, "127.0.0.1", server.port), collect, &program);
    start(&program);
    wait_for_batches(&program, 3);
    end(&program, true);
    CHECK_EQ_STR(program.text, "");
    close(server.fd);
}

/* Records "name=value;"; what follows the last one at the end is one too. */
static enum mr_status cut_pairs(const char *data, size_t size_bytes, bool is_end,
                                size_t *ret_used_bytes, struct mr_emitter *out, void *arg,
                                struct mr_error *err)
{
    const char *stop = memchr(data, ';', size_bytes);
    const char *equals;

    (void)arg;
    if (stop == NULL && !is_end)
        return MR_OK;
    *ret_used_bytes = stop != NULL ? (size_t)(stop - data) + 1 : size_bytes;
    equals = memchr(data, '=', *ret_used_bytes);
    if (equals == NULL)
        return MR_FAIL(err, MR_BAD_DATA, "no '=' in a record");
    mr_emit_pair_str_int(out, data, (size_t)(equals - data), strtoll(equals + 1, NULL, 10));
    return MR_OK;
}

TEST(a_function_cuts_the_bytes_of_a_socket_into_records)
{
    struct server server = listen_here();
    struct program program;

    begin(&program, test_path(t, "cp"));
    mr_foreach_rdd(mr_socket_stream(program.ctx, "127.0.0.1", server.port,
                                    "key VARCHAR, value BIGINT", cut_pairs, NULL),
                   collect, &program);
    start(&program);
    serve(&server, "a=1;bb=22;c=3", 13);
    wait_for_bytes(&program, strlen("a:1 bb:22 c:3 "));
    serve(&server, "bad;", 4); /* its connection ends, and another is made */
    serve(&server, "d=4;", 4);
    wait_for_bytes(&program, strlen("a:1 bb:22 c:3 d:4 "));
    end(&program, true);
    CHECK_EQ_STR(program.text, "a:1 bb:22 c:3 d:4 ");
    close(server.fd);
}

TEST(frames_of_a_raw_socket_are_blocks_and_damaged_ones_are_refused)
{
    struct server server = listen_here();
    struct mr_batch *first = mixed_rows(0, 2), *second = mixed_rows(2, 2);
    size_t first_size = 0, second_size = 0;
    char *first_frame = mr_raw_frame(first, &first_size);
    char *second_frame = mr_raw_frame(second, &second_size);
    char *both = malloc(first_size + second_size);
    struct program program;

    CHECK_NOT_NULL(first_frame);
    CHECK_NOT_NULL(second_frame);
    CHECK_EQ_INT(first_frame[3], (int)first_size - 4);
    begin(&program, NULL);
    mr_foreach_rdd(mr_raw_socket_stream(program.ctx, "127.0.0.1", server.port, MIXED), collect,
                   &program);
    start(&program);
    serve(&server, "\0\0\0\3abc", 7);
    serve(&server, first_frame, first_size - 1); /* not whole */
    memcpy(both, first_frame, first_size);
    memcpy(both + first_size, second_frame, second_size);
    serve(&server, both, first_size + second_size);
    wait_for_bytes(&program, strlen(MIXED_TEXT));
    end(&program, true);
    CHECK_EQ_STR(program.text, MIXED_TEXT);
    free(both);
    mr_text_free(first_frame);
    mr_text_free(second_frame);
    mr_batch_unref(first);
    mr_batch_unref(second);
    close(server.fd);
}

TEST(a_socket_stream_without_a_function_or_a_place_is_a_mistake)
{
    struct mr_error err = {0};
    struct program program;

    begin(&program, NULL);
    CHECK_NULL(mr_socket_stream(program.ctx, "localhost", 9999, "value BIGINT", NULL, NULL));
    CHECK_FAILS(mr_context_error(program.ctx, &err), &err, MR_CONFIG, "needs a function");
    mr_context_free(program.ctx);
    begin(&program, NULL);
    CHECK_NULL(mr_raw_socket_stream(program.ctx, "localhost", 0, "value BIGINT"));
    CHECK_FAILS(mr_context_error(program.ctx, &err), &err, MR_CONFIG, "port 0");
    mr_context_free(program.ctx);
}

/* ---------------------------------------------------------------- storage */

enum { STORED_ROWS = 3000 };

/* Rows 0, 1, 2 ... in blocks of a hundred. */
static void put_many(struct mr_receiver_handle *receiver, struct probe *probe)
{
    for (int64_t i = 0; i < STORED_ROWS; i += 100) {
        struct mr_batch *rows = mixed_rows(i, 100);

        CHECK_OK(mr_receiver_put_batch(receiver, rows, NULL, &probe->err), &probe->err);
        mr_batch_unref(rows);
    }
}

/* Row ids only, so that the text stays small. */
static enum mr_status collect_ids(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    struct program *program = arg;
    struct mr_batch *batch = NULL;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &batch, err));
    mr_mutex_lock(&program->lock);
    for (int64_t k = 0; k < mr_batch_row_count(batch); k++)
        CHECK_EQ_INT(mr_column_int(mr_batch_column(batch, 0), k), (int64_t)program->size++);
    mr_cond_broadcast(&program->changed);
    mr_mutex_unlock(&program->lock);
    mr_batch_unref(batch);
    return MR_OK;
}

TEST(V218_blocks_beyond_the_memory_go_to_files_and_all_arrive)
{
    const enum mr_storage_level levels[] = {MR_STORAGE_MEMORY_AND_DISK, MR_STORAGE_DISK_ONLY_2,
                                            MR_STORAGE_MEMORY_ONLY};

    for (size_t i = 0; i < MR_ARRAY_SIZE(levels); i++) {
        struct program program;
        struct probe probe = {.work = put_many};
        struct mr_dstream *stream;

        begin(&program, NULL);
        mr_context_set(program.ctx, "spill_dir", test_path(t, "spill"));
        mr_context_set(program.ctx, "received_memory", "64KiB");
        stream = probe_stream(&program, &probe, MIXED);
        mr_dstream_persist(stream, levels[i]);
        mr_foreach_rdd(stream, collect_ids, &program);
        start(&program);
        wait_for_bytes(&program, STORED_ROWS);
        end(&program, true);
    }
}

enum { TEXTS = 100, TEXTS_OF_A_BLOCK = 10 };

/* Ten blocks of ten texts, each in another way. */
static void put_in_three_ways(struct mr_receiver_handle *receiver, struct probe *probe)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;

    CHECK_OK(mr_schema_parse("value VARCHAR", 13, &schema, &probe->err), &probe->err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &probe->err), &probe->err);
    for (int block = 0; block < TEXTS / TEXTS_OF_A_BLOCK; block++) {
        struct mr_batch *rows = NULL;

        for (int i = 0; i < TEXTS_OF_A_BLOCK; i++) {
            char text[16];
            int size = snprintf(text, sizeof(text), "text-%02d", TEXTS_OF_A_BLOCK * block + i);

            if (block % 3 == 0)
                CHECK_OK(mr_receiver_put_str(receiver, text, (size_t)size, &probe->err),
                         &probe->err);
            mr_batch_builder_text(builder, 0, text, (size_t)size);
            mr_batch_builder_end_row(builder);
        }
        CHECK_OK(mr_batch_builder_finish(builder, &rows, &probe->err), &probe->err);
        if (block % 3 == 1)
            CHECK_OK(mr_receiver_put_rows(receiver, rows, &probe->err), &probe->err);
        if (block % 3 == 2)
            CHECK_OK(mr_receiver_put_batch(receiver, rows, NULL, &probe->err), &probe->err);
        mr_batch_unref(rows);
    }
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(V215_V217_what_is_read_is_what_was_stored_and_every_row_is_counted)
{
    const char *const dirs[] = {NULL, test_path(t, "cp")};

    for (size_t i = 0; i < MR_ARRAY_SIZE(dirs); i++) {
        struct program program;
        struct probe probe = {.work = put_in_three_ways};
        struct mr_receiver_report report = {.record_count = 0};

        begin(&program, dirs[i]);
        run_probe(&program, &probe, "value VARCHAR");
        wait_for_bytes(&program, TEXTS * strlen("text-00 "));
        for (int k = 0; k < TEXTS; k++) {
            char text[16];

            snprintf(text, sizeof(text), "text-%02d ", k);
            CHECK_CONTAINS(program.text, text);
        }
        CHECK(mr_context_receiver(program.ctx, 0, &report));
        CHECK_EQ_UINT(report.record_count, TEXTS);
        end(&program, true);
        CHECK_EQ_UINT(strlen(program.text), TEXTS * strlen("text-00 "));
    }
}

TEST(two_copies_need_a_second_directory)
{
    struct program program;
    struct probe probe = {.work = idle};
    struct mr_dstream *stream;
    struct mr_error err = {0};

    begin(&program, test_path(t, "cp"));
    stream = probe_stream(&program, &probe, MIXED);
    mr_dstream_persist(stream, MR_STORAGE_MEMORY_AND_DISK_SER_2);
    mr_foreach_rdd(stream, collect_ids, &program);
    CHECK_FAILS(mr_context_start(program.ctx, &err), &err, MR_CONFIG, "set received_copy");
    mr_context_free(program.ctx);
}

/* Removes every file below dir, as somebody who cleans up would. */
static bool remove_below(const char *name, enum mr_file_kind kind, void *arg)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (kind == MR_KIND_DIRECTORY)
        (void)mr_env_list(mr_env_posix(), path, remove_below, path, NULL);
    else
        (void)mr_env_unlink(mr_env_posix(), path, NULL);
    return true;
}

struct vandal {
    struct probe probe;
    char dir[256];
};

static void put_while_files_go(struct mr_receiver_handle *receiver, struct probe *probe)
{
    struct vandal *vandal = (struct vandal *)probe;

    for (int64_t i = 0; i < STORED_ROWS; i += 100) {
        struct mr_batch *rows = mixed_rows(i, 100);

        CHECK_OK(mr_receiver_put_batch(receiver, rows, NULL, &probe->err), &probe->err);
        mr_batch_unref(rows);
        if (i % 700 == 0)
            (void)mr_env_list(mr_env_posix(), vandal->dir, remove_below, vandal->dir, NULL);
    }
}

TEST(one_of_two_stores_is_deleted_under_load_and_nothing_is_lost)
{
    const char *const dirs[] = {"copy", "cp-1/received"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(dirs); i++) {
        struct program program;
        struct vandal vandal = {.probe = {.work = put_while_files_go}};
        char checkpoint[16];

        snprintf(checkpoint, sizeof(checkpoint), "cp-%zu", i);
        snprintf(vandal.dir, sizeof(vandal.dir), "%s", test_path(t, dirs[i]));
        begin(&program, test_path(t, checkpoint));
        mr_context_set(program.ctx, "received_copy", test_path(t, "copy"));
        mr_context_set(program.ctx, "received_memory", "64KiB");
        mr_foreach_rdd(probe_stream(&program, &vandal.probe, MIXED), collect_ids, &program);
        start(&program);
        wait_for_bytes(&program, STORED_ROWS);
        end(&program, true);
    }
}
