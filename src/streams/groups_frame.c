/*
 * Frames of functions with state of a key (<millrace/groups.h>): what a program says is copied into
 * the session; groups_plan.c makes operators of it when a query is started.
 *
 * Thread: the one that builds.
 */
#include "streams/groups_plan.h"
#include "streams/streams.h"

#include <string.h>

/* Copies a text into the session; NULL stays NULL. False without memory. */
static bool keep(struct mr_streams *streams, const char **text)
{
    if (*text == NULL)
        return true;
    *text = mr__keep(streams, *text);
    return *text != NULL;
}

static struct mr_frame *refuse(struct mr_frame *frame, const struct mr__place *place,
                               const char *text)
{
    struct mr_error err = {0};

    (void)MR_FAIL(&err, MR_CONFIG, "%s", text);
    return mr__frame_blame(frame, place, &err);
}

/* ---- map groups ---- */

static void free_groups(void *arg)
{
    struct mr_groups_frame *groups = arg;

    mr_batch_unref((struct mr_batch *)(uintptr_t)groups->spec.initial_state);
}

static const char *check_groups(const char *keys, const struct mr_groups_spec *spec, bool is_map)
{
    if (spec == NULL || spec->call == NULL || spec->state == NULL || spec->output == NULL)
        return "a function with state needs call, state and output in its struct mr_groups_spec";
    if (keys == NULL)
        return "name at least one column to group by";
    if (!is_map && spec->mode != MR_MODE_APPEND && spec->mode != MR_MODE_UPDATE)
        return "the mode of flat_map_groups_with_state is append or update";
    return NULL;
}

static struct mr_frame *make_groups(struct mr_frame *frame, const char *keys,
                                    const struct mr_groups_spec *spec, bool is_map,
                                    const struct mr__place *place)
{
    struct mr_groups_frame *groups;
    const char *mistake;

    if (frame == NULL)
        return NULL;
    mistake = check_groups(keys, spec, is_map);
    groups = mr_arena_alloc(&frame->streams->arena, sizeof(*groups));
    if (groups == NULL)
        return NULL;
    *groups = (struct mr_groups_frame){.is_map = is_map};
    if (mistake != NULL)
        return refuse(mr__frame_program(frame, NULL, mr_groups_plan, groups, NULL, place), place,
                      mistake);
    groups->keys = mr__keep(frame->streams, keys);
    groups->spec = *spec;
    if (!keep(frame->streams, &groups->spec.name) || !keep(frame->streams, &groups->spec.state) ||
        !keep(frame->streams, &groups->spec.output) || groups->keys == NULL)
        return NULL;
    if (spec->initial_state != NULL)
        groups->spec.initial_state = mr_batch_ref(spec->initial_state);
    return mr__frame_program(frame, spec->name, mr_groups_plan, groups, free_groups, place);
}

struct mr_frame *mr_frame_map_groups_with_state_at(struct mr_frame *frame, const char *keys,
                                                   const struct mr_groups_spec *spec,
                                                   const char *file, int line)
{
    struct mr__place place = {file, line, "mr_frame_map_groups_with_state"};

    return make_groups(frame, keys, spec, true, &place);
}

struct mr_frame *mr_frame_flat_map_groups_with_state_at(struct mr_frame *frame, const char *keys,
                                                        const struct mr_groups_spec *spec,
                                                        const char *file, int line)
{
    struct mr__place place = {file, line, "mr_frame_flat_map_groups_with_state"};

    return make_groups(frame, keys, spec, false, &place);
}

/* ---- transform ---- */

static void free_transform(void *arg)
{
    struct mr_transform_frame *transform = arg;

    mr_batch_unref((struct mr_batch *)(uintptr_t)transform->spec.initial_state);
}

/* Copies the list of variables, texts too. */
static bool keep_variables(struct mr_streams *streams, struct mr_transform_spec *spec)
{
    struct mr_state_variable *kept;

    kept = mr_arena_alloc(&streams->arena, (spec->variable_count + 1) * sizeof(*kept));
    if (kept == NULL)
        return false;
    for (size_t i = 0; i < spec->variable_count; i++) {
        kept[i] = spec->variables[i];
        if (!keep(streams, &kept[i].name) || !keep(streams, &kept[i].columns) ||
            !keep(streams, &kept[i].key_column))
            return false;
    }
    spec->variables = kept;
    return true;
}

struct mr_frame *mr_frame_transform_with_state_at(struct mr_frame *frame, const char *keys,
                                                  const struct mr_transform_spec *spec,
                                                  const char *file, int line)
{
    struct mr__place place = {file, line, "mr_frame_transform_with_state"};
    struct mr_transform_frame *transform;

    if (frame == NULL)
        return NULL;
    transform = mr_arena_alloc(&frame->streams->arena, sizeof(*transform));
    if (transform == NULL)
        return NULL;
    *transform = (struct mr_transform_frame){.keys = NULL};
    if (keys == NULL || spec == NULL || spec->processor == NULL || spec->output == NULL)
        return refuse(mr__frame_program(frame, NULL, mr_transform_plan, transform, NULL, &place),
                      &place,
                      "transform_with_state needs columns to group by, and processor and output in "
                      "its struct mr_transform_spec");
    transform->keys = mr__keep(frame->streams, keys);
    transform->spec = *spec;
    if (!keep(frame->streams, &transform->spec.name) ||
        !keep(frame->streams, &transform->spec.output) ||
        !keep(frame->streams, &transform->spec.event_time) ||
        !keep_variables(frame->streams, &transform->spec) || transform->keys == NULL)
        return NULL;
    if (spec->initial_state != NULL)
        transform->spec.initial_state = mr_batch_ref(spec->initial_state);
    return mr__frame_program(frame, spec->name, mr_transform_plan, transform, free_transform,
                             &place);
}
