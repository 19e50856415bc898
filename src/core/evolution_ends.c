/*
 * Sources and sinks of a query that was edited, beside those of its checkpoint (evolution.h): new,
 * removed, of another connector, with other options.
 *
 * Thread: driver.
 */
#include "core/evolution_parts.h"

#include "base/json.h"

/* Differences of two objects of texts, as "path 'a' -> 'b'". */
static void list_differences(const struct mr_json *old, const struct mr_json *new,
                             struct mr_buf *out)
{
    for (const struct mr_json *one = new != NULL ? new->first : NULL; one != NULL;
         one = one->next) {
        const char *before = mr_json_text(old, one->key);

        if (before == NULL || strcmp(before, one->text) != 0)
            mr_buf_printf(out, "%s%s '%.60s' -> '%.60s'", out->size > 0 ? ", " : "", one->key,
                          before != NULL ? before : "", one->text);
    }
    for (const struct mr_json *one = old != NULL ? old->first : NULL; one != NULL;
         one = one->next) {
        if (mr_json_get(new, one->key) == NULL)
            mr_buf_printf(out, "%s%s '%.60s' -> ''", out->size > 0 ? ", " : "", one->key,
                          one->text);
    }
}

enum mr_status mr__evolution_parse_now(struct mr__comparison *c, const struct mr_node *node,
                                       struct mr_json **ret_now, struct mr_error *err)
{
    struct mr_arena *arena = &c->manifest.arena;
    char *text = mr__manifest_text(node, c->in->state);
    enum mr_status status;

    if (text == NULL)
        return mr__evolution_no_memory(err);
    status = mr_json_parse(text, strlen(text), arena, ret_now, err);
    mr_text_free(text);
    return status;
}

static void tell_options(struct mr__evolution_entry *item, const struct mr_json *old,
                         const struct mr_json *now, const char *consequence)
{
    struct mr_buf list = MR_BUF_INIT;

    list_differences(mr_json_get(old, "options"), mr_json_get(now, "options"), &list);
    if (list.size > 0)
        mr__evolution_say(item, MR_CHANGE_SAME, "other options (%s)%s", list.data, consequence);
    mr_buf_release(&list);
}

/* ---- Sources ---- */

static const struct mr_plan_source *planned_source(const struct mr__comparison *c, const char *name)
{
    for (uint32_t i = 0; i < c->in->plan->source_count; i++) {
        if (strcmp(c->in->plan->sources[i].name, name) == 0)
            return &c->in->plan->sources[i];
    }
    return NULL;
}

static const struct mr_node *find_node(const struct mr__comparison *c, enum mr_node_kind kind,
                                       const char *name)
{
    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        const struct mr_node *node = c->in->graph->nodes[i];

        if (node->kind == kind && strcmp(node->name, name) == 0)
            return node;
    }
    return NULL;
}

static enum mr_status compare_source(struct mr__comparison *c, const struct mr_node *node,
                                     struct mr_error *err)
{
    const struct mr_json *old = mr__manifest_entry(&c->manifest, MR_MANIFEST_SOURCE, node->name);
    const struct mr_json *receiver = mr_json_get(old, "receiver");
    const char *connector = node->source->spec.connector->name;
    const char *before = mr_json_text(old, "connector");
    struct mr_json *now = NULL;
    struct mr__evolution_entry *item = NULL;

    MR_TRY(mr__evolution_add(c, MR_PART_SOURCE, node->name, &item, err));
    if (old == NULL && planned_source(c, node->name) == NULL) {
        item->public.is_new = true;
        mr__evolution_say(item, MR_CHANGE_EXTEND, "new: it is read from its start option on");
        return MR_OK;
    }
    if (old == NULL)
        return MR_OK;
    MR_TRY(mr__evolution_parse_now(c, node, &now, err));
    if (!mr__same_text(before, connector) && receiver != NULL && receiver->boolean &&
        node->source->spec.connector->receiver_open != NULL) {
        mr__evolution_say(
            item, MR_CHANGE_SAME,
            "connector '%s' was '%s': what was received and not yet processed comes first",
            connector, before);
    } else if (!mr__same_text(before, connector)) {
        mr__evolution_say(
            item, MR_CHANGE_IMPOSSIBLE,
            "connector '%s' was '%s', whose offsets mean something else: give the new source a "
            "name of its own, so that it begins at its start option",
            connector, before != NULL ? before : "");
        return MR_OK;
    }
    tell_options(item, old, now, "; its offsets go on");
    if (!mr__same_text(mr_json_text(old, "columns"), mr_json_text(now, "columns")))
        mr__evolution_say(item, MR_CHANGE_SAME, "other columns, from the next batch on");
    return MR_OK;
}

static enum mr_status removed_source(struct mr__comparison *c, const char *name,
                                     struct mr_error *err)
{
    struct mr__evolution_entry *item = NULL;
    struct mr_store_info info;
    char *store = NULL;

    for (size_t i = 0; i < c->evolution->count; i++) {
        const struct mr_evolution_item *one = &c->evolution->items[i].public;

        if (one->part == MR_PART_SOURCE && strcmp(one->name, name) == 0)
            return MR_OK;
    }
    MR_TRY(mr__evolution_add(c, MR_PART_SOURCE, name, &item, err));
    item->public.is_removed = true;
    mr__evolution_say(item, MR_CHANGE_EXTEND,
                      "removed: its offsets are dropped, and begin anew if it comes back");
    store = mr_asprintf("source.%s", name);
    if (store == NULL)
        return mr__evolution_no_memory(err);
    for (size_t i = 0; mr_state_info(c->in->state, i, &info); i++) {
        if (strcmp(info.name, store) == 0)
            mr__evolution_say(item, MR_CHANGE_EXTEND, "so is what it remembered (%llu keys)",
                              (unsigned long long)info.key_count);
    }
    mr_free(store);
    return MR_OK;
}

enum mr_status mr__evolution_sources(struct mr__comparison *c, struct mr_error *err)
{
    static const char prefix[] = MR_MANIFEST_SOURCE;

    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        if (c->in->graph->nodes[i]->kind == MR_NODE_SOURCE)
            MR_TRY(compare_source(c, c->in->graph->nodes[i], err));
    }
    for (uint32_t i = 0; i < c->in->plan->source_count; i++)
        MR_TRY(removed_source(c, c->in->plan->sources[i].name, err));
    for (const struct mr_json *one = c->manifest.entries->first; one != NULL; one = one->next) {
        if (strncmp(one->key, prefix, sizeof(prefix) - 1) == 0)
            MR_TRY(removed_source(c, one->key + sizeof(prefix) - 1, err));
    }
    return MR_OK;
}

/* ---- Sinks ---- */

static enum mr_status compare_sink(struct mr__comparison *c, const struct mr_node *node,
                                   struct mr_error *err)
{
    const struct mr_json *old = mr__manifest_entry(&c->manifest, MR_MANIFEST_SINK, node->name);
    static const char *const texts[] = {"connector", "format", "mode"};
    struct mr_json *now = NULL;
    struct mr__evolution_entry *item = NULL;

    MR_TRY(mr__evolution_add(c, MR_PART_SINK, node->name, &item, err));
    if (!c->manifest.is_there)
        return MR_OK;
    if (old == NULL) {
        item->public.is_new = true;
        mr__evolution_say(item, MR_CHANGE_EXTEND, "new: it gets what comes from the next batch on");
        return MR_OK;
    }
    MR_TRY(mr__evolution_parse_now(c, node, &now, err));
    for (size_t i = 0; i < MR_ARRAY_SIZE(texts); i++) {
        const char *before = mr_json_text(old, texts[i]);
        const char *after = mr_json_text(now, texts[i]);

        if (!mr__same_text(before, after))
            mr__evolution_say(item, MR_CHANGE_SAME, "%s '%s' was '%s', from the next batch on",
                              texts[i], after != NULL ? after : "none",
                              before != NULL ? before : "none");
    }
    if (!mr__same_text(mr_json_text(old, "columns"), mr_json_text(now, "columns")))
        mr__evolution_say(item, MR_CHANGE_SAME, "other columns (%.150s), from the next batch on",
                          mr_json_text(now, "columns"));
    tell_options(item, old, now, ": what it has already stays where it is");
    return MR_OK;
}

enum mr_status mr__evolution_sinks(struct mr__comparison *c, struct mr_error *err)
{
    static const char prefix[] = MR_MANIFEST_SINK;

    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        if (c->in->graph->nodes[i]->kind == MR_NODE_SINK)
            MR_TRY(compare_sink(c, c->in->graph->nodes[i], err));
    }
    for (const struct mr_json *one = c->manifest.entries->first; one != NULL; one = one->next) {
        const char *name = one->key + sizeof(prefix) - 1;
        struct mr__evolution_entry *item = NULL;

        if (strncmp(one->key, prefix, sizeof(prefix) - 1) != 0 ||
            find_node(c, MR_NODE_SINK, name) != NULL)
            continue;
        MR_TRY(mr__evolution_add(c, MR_PART_SINK, name, &item, err));
        item->public.is_removed = true;
        mr__evolution_say(item, MR_CHANGE_EXTEND,
                          "removed: it gets nothing more; what it has stays");
    }
    return MR_OK;
}
