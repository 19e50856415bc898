/*
 * What came out of the SQL programs of the simulation, against the model (sql_model.c): nothing
 * lost, doubled or invented, in order where there is one, counts that only grow.
 *
 * Thread: fibers.
 */
#include "sim/sql_program.h"

#include "base/buf.h"
#include "base/check.h"
#include "core/query.h"

#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct listing {
    char *names[2048];
    size_t count;
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct listing *listing = arg;

    if (kind == MR_KIND_FILE && strncmp(name, "part-", 5) == 0 && listing->count < 2048)
        listing->names[listing->count++] = strdup(name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What `cat` would show, in the order of batches. */
static void read_files(struct program *program, struct output *output)
{
    struct mr_env *env = world_outside(program->world);
    struct listing *listing = calloc(1, sizeof(*listing));
    char dir[60], path[200];

    MR_ASSERT(listing != NULL);
    rows_clear(&output->rows);
    snprintf(dir, sizeof(dir), "/out-%s", output->name);
    (void)mr_env_list(env, dir, add_name, listing, NULL);
    qsort(listing->names, listing->count, sizeof(char *), compare_names);
    for (size_t i = 0; i < listing->count; i++) {
        int64_t batch = strtoll(listing->names[i] + 5, NULL, 10);
        char *data = NULL;
        size_t size;

        snprintf(path, sizeof(path), "%s/%s", dir, listing->names[i]);
        MR_ASSERT(mr_durable_get(env, path, 1 << 22, &data, &size, NULL) == MR_OK);
        for (char *at = data; at < data + size; at = strchr(at, '\n') + 1) {
            struct row row = row_parse(at, batch);

            rows_add(&output->rows, &row);
            if (strchr(at, '\n') == NULL) {
                world_anomaly(program->world, "torn batch", "%s: '%s' does not end with a line",
                              output->name, path);
                break;
            }
        }
        mr_text_free(data);
        free(listing->names[i]);
    }
    free(listing);
}

static const struct rows *rows_of(struct program *program, struct output *output)
{
    if (!output->files)
        return &output->table->rows;
    read_files(program, output);
    return &output->rows;
}

static void copy_rows(struct rows *to, const struct rows *from)
{
    for (size_t i = 0; i < from->count; i++)
        rows_add(to, &from->rows[i]);
}

/* Update mode: a key's counts only grow, once a batch; its last row is the result. */
static void check_updates(struct program *program, const struct rows *have, struct rows *ret_last)
{
    for (size_t i = 0; i < have->count; i++) {
        const struct row *row = &have->rows[i];
        size_t k = 0;

        while (k < ret_last->count && ret_last->rows[k].values[0] != row->values[0])
            k++;
        if (k == ret_last->count) {
            rows_add(ret_last, row);
            continue;
        }
        if (row->batch == ret_last->rows[k].batch)
            world_anomaly(program->world, "duplicate",
                          "update: key %" PRId64 " twice in batch %" PRId64, row->values[0],
                          row->batch);
        if (row->values[1] <= ret_last->rows[k].values[1])
            world_anomaly(program->world, "stale state",
                          "update: key %" PRId64 " has count %" PRId64 " in batch %" PRId64
                          " and %" PRId64 " in batch %" PRId64,
                          row->values[0], ret_last->rows[k].values[1], ret_last->rows[k].batch,
                          row->values[1], row->batch);
        ret_last->rows[k] = *row;
    }
}

/* With one partition rows keep their order. */
static void check_order(struct program *program, const struct output *output,
                        const struct rows *have)
{
    const struct source *source = &program->sources[0];
    size_t at = 0;

    if (source->kind != SOURCE_MEMORY || source->partitions > 1 || output->files)
        return;
    for (size_t i = 0; i < have->count && program->world->anomaly[0] == '\0'; i++) {
        while (at < source->count && source->events[at].id != have->rows[i].values[0])
            at++;
        if (at == source->count)
            world_anomaly(program->world, "reordered", "%s: id %" PRId64 " of batch %" PRId64,
                          output->name, have->rows[i].values[0], have->rows[i].batch);
        at++;
    }
}

/* Late rows are added to the groups that missed them; then nothing is missing. */
static void add_late(struct program *program, struct rows *have)
{
    for (size_t i = 0; i < program->late->rows.count; i++) {
        const struct row *late = &program->late->rows.rows[i];

        for (size_t k = 0; k < program->sources[0].count; k++) {
            const struct event *event = &program->sources[0].events[k];

            if (event->id == late->values[0]) {
                sql_add_to_group(have, sql_floor(event->ts_us, program->window_us), event->k,
                                 event->v, 0);
                break;
            }
        }
    }
}

/* Going on without what was lost is what was asked for: what was exposed need not be there. */
static void forgive_lost(const struct program *program, const struct rows *have, struct rows *want)
{
    const struct source *source = &program->sources[0];
    size_t kept = 0;

    for (size_t i = 0; i < want->count; i++) {
        size_t there = 0, same = 0; /* copies of an event that was sent again, and those kept */
        bool exposed = false;

        for (size_t k = 0; k < have->count; k++)
            there += rows_compare(&have->rows[k], &want->rows[i]) == 0;
        for (size_t k = 0; k < kept; k++)
            same += rows_compare(&want->rows[k], &want->rows[i]) == 0;
        for (size_t k = 0; k < source->count; k++)
            exposed |= source->events[k].exposed && source->events[k].id == want->rows[i].values[0];
        if (there > same || !exposed)
            want->rows[kept++] = want->rows[i];
    }
    want->count = kept;
}

static void check_output(struct program *program, struct output *output, bool whole)
{
    const struct rows *out = rows_of(program, output);
    struct rows want = {0}, have = {0};

    MR_ASSERT(out != NULL);
    sql_model(program, output->shape, &want);
    if (output->shape == SHAPE_UPDATE)
        check_updates(program, out, &have);
    else
        copy_rows(&have, out);
    if (output->shape == SHAPE_STATELESS)
        check_order(program, output, &have);
    if (!output->table || !output->table->replaces) {
        if ((int64_t)out->count < output->high_water)
            world_anomaly(program->world, "lost", "%s: %" PRId64 " rows became %zu", output->name,
                          output->high_water, out->count);
        if (!program->world->failed)
            output->high_water = (int64_t)out->count;
    }
    if (program->has_late)
        add_late(program, &have);
    if (whole && program->read_before_recreation && program->fails_on_loss)
        world_anomaly(program->world, "silent skip",
                      "%s: the topic was made again, and that was not noticed", output->name);
    if (whole && program->cut_what_was_read && program->fails_on_loss)
        world_anomaly(program->world, "silent skip",
                      "%s: read records were cut off, and that was "
                      "not noticed",
                      output->name);
    if (whole && program->exposed && (!program->fails_on_loss || program->truncated))
        forgive_lost(program, &have, &want);
    if (whole)
        rows_check(program->world, output->name, &have, &want);
    rows_release(&want);
    rows_release(&have);
}

void sql_check(struct program *program, bool whole)
{
    for (size_t i = 0; i < program->output_count; i++)
        check_output(program, &program->outputs[i], whole);
}
