/*
 * What the estimators of backpressure know, kept for the next run (BP-6).
 *
 *     <checkpoint>/rates   {"inputs":[{"name":"socket_text_stream-0","time_ms":1700000000000,
 *                          "rate_milli":1250000,"error_milli":-3000}, ...]}
 *
 * Written whole, at most every ten seconds and when a run ends.  It is advice: what cannot be read
 * is left out with a line in the log, and a run without it learns again.  Nothing that is computed
 * depends on it.
 *
 * Thread: load: the starting one.  save: the driver.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/json.h"
#include "base/log.h"

#include <millrace/ext/durable.h>

#include <math.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static const char file_name[] = "rates";

static int64_t to_milli(double value)
{
    double milli = round(value * 1000);

    return fabs(milli) < 1e15 ? (int64_t)milli : 0;
}

void mr__rates_save(struct mr_context *ctx)
{
    struct mr__watch *watch = ctx->watch;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};
    struct mr_error err;

    if (ctx->checkpoint_dir == NULL || !watch->are_rates_new)
        return;
    mr_error_clear(&err);
    mr_json_begin_object(&out, NULL);
    mr_json_begin_array(&out, "inputs");
    for (size_t id = 0; id < watch->input_count; id++) {
        const struct mr__watched_input *input = &watch->inputs[id];

        if (!input->is_controlled || input->source == NULL || !input->pid.any)
            continue;
        mr_json_begin_object(&out, NULL);
        mr_json_add_string(&out, "name", input->source);
        mr_json_add_int(&out, "time_ms", input->pid.time_ms);
        mr_json_add_int(&out, "rate_milli", to_milli(input->pid.rate));
        mr_json_add_int(&out, "error_milli", to_milli(input->pid.error));
        mr_json_end_object(&out);
    }
    mr_json_end_array(&out);
    mr_json_end_object(&out);
    if (text.failed)
        MR_FAIL(&err, MR_NOMEM, "out of memory");
    else
        mr_durable_put(ctx->env, ctx->checkpoint_dir, file_name, text.data, text.size, false, &err);
    if (err.status != MR_OK)
        mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1, "the learnt rates are not kept: %s",
               err.text);
    watch->are_rates_new = false;
    mr_buf_release(&text);
}

static struct mr__watched_input *find_input(struct mr__watch *watch, const char *name)
{
    for (size_t id = 0; name != NULL && id < watch->input_count; id++) {
        if (watch->inputs[id].is_controlled && watch->inputs[id].source != NULL &&
            strcmp(watch->inputs[id].source, name) == 0)
            return &watch->inputs[id];
    }
    return NULL;
}

/* A time from the future would make every measurement look old: it is not used. */
static void take_input(struct mr_context *ctx, const struct mr_json *entry)
{
    struct mr__watched_input *input = find_input(ctx->watch, mr_json_text(entry, "name"));
    int64_t time_ms, rate_milli, error_milli;

    if (input == NULL || !mr_json_int(mr_json_get(entry, "time_ms"), &time_ms) ||
        !mr_json_int(mr_json_get(entry, "rate_milli"), &rate_milli) ||
        !mr_json_int(mr_json_get(entry, "error_milli"), &error_milli) || time_ms < 0 ||
        time_ms > mr_env_wall_us(ctx->env) / 1000 || rate_milli <= 0)
        return;
    input->pid.any = true;
    input->pid.time_ms = time_ms;
    input->pid.rate = (double)rate_milli / 1000;
    input->pid.error = (double)error_milli / 1000;
}

void mr__rates_load(struct mr_context *ctx)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    char *path = NULL, *text = NULL;
    size_t size_bytes = 0;
    struct mr_error err;
    enum mr_status status;

    if (ctx->checkpoint_dir == NULL)
        return;
    mr_error_clear(&err);
    path = mr_asprintf("%s/%s", ctx->checkpoint_dir, file_name);
    if (path == NULL)
        return;
    status = mr_durable_get(ctx->env, path, FILE_BYTES_MAX, &text, &size_bytes, &err);
    if (status == MR_OK)
        status = mr_json_parse(text, size_bytes, &arena, &json, &err);
    if (status == MR_OK) {
        const struct mr_json *inputs = mr_json_get(json, "inputs");

        for (size_t i = 0; inputs != NULL && i < inputs->count; i++)
            take_input(ctx, mr_json_at(inputs, i));
    } else if (status != MR_NOT_FOUND) {
        mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1,
               "the rates of the last run are not used: '%s': %s", path, err.text);
    }
    mr_arena_release(&arena);
    mr_text_free(text);
    mr_free(path);
}
