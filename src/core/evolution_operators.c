/*
 * Operators of a query that was edited, compared with its checkpoint by opening them (evolution.h):
 * each asks for its stores, and for every one that the checkpoint has the state asks
 * mr__evolution_judge, which knows the operator at hand. Stores that nobody asked for are removed.
 *
 * Thread: driver.
 */
#include "core/evolution_parts.h"

#include "base/json.h"

#include <stdio.h>

static struct mr__evolution_entry *opened_item(struct mr__comparison *c)
{
    return &c->evolution->items[c->opened];
}

static void rebuild_by_texts(const struct mr_store_change *change, struct mr_store_adaption *ret)
{
    ret->change = MR_CHANGE_REBUILD;
    if (strcmp(change->old_kind, change->kind) != 0)
        snprintf(ret->reason, sizeof(ret->reason), "it was '%.60s' and is '%.60s'",
                 change->old_kind, change->kind);
    else if (strcmp(change->old_key_schema, change->key_schema) != 0)
        snprintf(ret->reason, sizeof(ret->reason), "other keys: '%.150s', it was '%.150s'",
                 change->key_schema, change->old_key_schema);
    else
        snprintf(ret->reason, sizeof(ret->reason), "it keeps '%.150s', it was '%.150s'",
                 change->value_schema, change->old_value_schema);
}

enum mr_status mr__evolution_judge(void *arg, const struct mr_store_change *change,
                                   struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct mr__comparison *c = arg;
    struct mr__evolution_entry *item = opened_item(c);
    const struct mr_fold_ops *fold = c->node->fold;
    bool same_kind = strcmp(change->old_kind, change->kind) == 0;
    bool same = same_kind && strcmp(change->old_key_schema, change->key_schema) == 0 &&
                strcmp(change->old_value_schema, change->value_schema) == 0;
    struct mr_evolution_item probe;

    c->had_stores = true;
    if (c->forced) {
        ret_adaption->change = MR_CHANGE_REBUILD;
    } else if (!same && same_kind && fold != NULL && fold->adapt != NULL) {
        MR_TRY(fold->adapt(c->node->op, change, ret_adaption, err));
    } else if (!same) {
        rebuild_by_texts(change, ret_adaption);
    }
    if (ret_adaption->reason[0] != '\0')
        mr__evolution_say(item, ret_adaption->change, "%s", ret_adaption->reason);
    item->public.change = MR_MAX(item->public.change, ret_adaption->change);
    if (ret_adaption->change == MR_CHANGE_REBUILD)
        mr__evolution_say(item, MR_CHANGE_REBUILD,
                          "its %llu keys are emptied, and it begins anew with the next "
                          "batch",
                          (unsigned long long)change->key_count);
    /* What is not accepted fails the start: no work for it. */
    probe = item->public;
    if (!mr__evolution_may_go_on(c, &probe)) {
        if (ret_adaption->free != NULL)
            ret_adaption->free(ret_adaption->arg);
        *ret_adaption = (struct mr_store_adaption){.change = MR_CHANGE_REBUILD};
    }
    return MR_OK;
}

/* Names of a list of texts: "'a', 'b'". */
static void list_names(const struct mr_json *list, struct mr_buf *out)
{
    for (const struct mr_json *one = list->first; one != NULL; one = one->next)
        mr_buf_printf(out, "%s'%.60s'", one == list->first ? "" : ", ", one->text);
}

static bool has_origin(const struct mr_json *list, const char *name)
{
    for (const struct mr_json *one = list->first; one != NULL; one = one->next) {
        if (mr_json_is(one, name))
            return true;
    }
    return false;
}

/* "out.agg" of "out.agg2": statements over one table get their numbers in the order of the text. */
static size_t stem_bytes(const char *name)
{
    size_t size = strlen(name);

    while (size > 0 && name[size - 1] >= '0' && name[size - 1] <= '9')
        size--;
    return size;
}

static bool same_stem(const char *a, const char *b)
{
    size_t size = stem_bytes(a);

    return size == stem_bytes(b) && strncmp(a, b, size) == 0;
}

static const char KEEP_ORDER[] = "putting the statements back in their old order keeps the state";

/* One input of an operator: rows of what it had, or of something else? A union that has got one
 * more goes on, told where the newcomer is, unless the checkpoint knows that one: nothing else
 * would ask then. */
static void compare_origins_of(struct mr__comparison *c, const struct mr_json *old,
                               const struct mr_json *now, struct mr__evolution_entry *item)
{
    struct mr_buf before = MR_BUF_INIT, after = MR_BUF_INIT;
    bool lost = false;

    for (const struct mr_json *one = old->first; one != NULL; one = one->next)
        lost = lost || !has_origin(now, one->text);
    list_names(old, &before);
    list_names(now, &after);
    if (lost)
        mr__evolution_say(
            item, MR_CHANGE_REBUILD,
            "it kept what came from %.200s and would get what comes from %.200s; if only the order "
            "of statements changed, %s",
            before.data != NULL ? before.data : "", after.data != NULL ? after.data : "",
            KEEP_ORDER);
    for (const struct mr_json *one = now->first; one != NULL && !lost; one = one->next) {
        if (!has_origin(old, one->text) &&
            (mr__manifest_entry(&c->manifest, MR_MANIFEST_SOURCE, one->text) != NULL ||
             mr__manifest_entry(&c->manifest, MR_MANIFEST_OPERATOR, one->text) != NULL))
            mr__evolution_say(item, MR_CHANGE_EXTEND,
                              "what comes from '%.60s' is counted too, from now on", one->text);
    }
    mr_buf_release(&before);
    mr_buf_release(&after);
}

/* Where its rows come from; checkpoints of before do not tell. */
static enum mr_status compare_origins(struct mr__comparison *c, const struct mr_node *node,
                                      struct mr__evolution_entry *item, struct mr_error *err)
{
    const struct mr_json *old = mr_json_get(c->old, "origins");
    struct mr_json *now = NULL;

    if (old == NULL)
        return MR_OK;
    MR_TRY(mr__evolution_parse_now(c, node, &now, err));
    old = old->first;
    now = mr_json_get(now, "origins")->first;
    for (; old != NULL && now != NULL; old = old->next, now = now->next) {
        if (old->first != NULL && now->first != NULL)
            compare_origins_of(c, old, now, item);
    }
    if (old != NULL || now != NULL)
        mr__evolution_say(item, MR_CHANGE_REBUILD, "it has another number of inputs");
    return MR_OK;
}

static bool input_is(const struct mr_node *node, const char *text)
{
    struct mr_buf input = MR_BUF_INIT;
    bool same;

    mr__manifest_input(node, &input);
    same = mr__same_text(input.data, text);
    mr_buf_release(&input);
    return same;
}

static const char *old_input(const struct mr__comparison *c, const char *name)
{
    return mr_json_text(mr__manifest_entry(&c->manifest, MR_MANIFEST_OPERATOR, name), "input");
}

/*
 * Two statements over one source differ by what is in front of their state (a WHERE), and have
 * names by their order. When what came before this operator comes now before another one of these
 * names, or the other way round, it is the statements that moved and not a condition that changed.
 */
static void compare_places(struct mr__comparison *c, const struct mr_node *node,
                           struct mr__evolution_entry *item)
{
    const char *before = mr_json_text(c->old, "input");

    if (before == NULL || input_is(node, before))
        return;
    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        const struct mr_node *other = c->in->graph->nodes[i];
        const char *other_before = old_input(c, other->name);

        if (other == node || other->kind != MR_NODE_FOLD || other->fold->open == NULL ||
            !same_stem(other->name, node->name) ||
            (other_before != NULL && input_is(other, other_before)))
            continue;
        if (!input_is(other, before) && (other_before == NULL || !input_is(node, other_before)))
            continue;
        mr__evolution_say(item, MR_CHANGE_REBUILD, "it has changed places with '%.60s': %s",
                          other->name, KEEP_ORDER);
        return;
    }
}

/* What the manifest says of the operator beyond its stores. */
static enum mr_status compare_meaning(struct mr__comparison *c, const struct mr_node *node,
                                      struct mr__evolution_entry *item, struct mr_error *err)
{
    const char *kind = mr_json_text(c->old, "kind");
    const char *before = mr_json_text(c->old, "meaning");
    struct mr_buf meaning = MR_BUF_INIT;

    mr__manifest_identity(node, &meaning);
    if (!mr__same_text(kind, node->fold->kind))
        mr__evolution_say(item, MR_CHANGE_REBUILD, "it was '%s' and is '%s'",
                          kind != NULL ? kind : "", node->fold->kind);
    else if (before != NULL && before[0] != '\0' &&
             !mr__same_text(before, meaning.data != NULL ? meaning.data : ""))
        mr__evolution_say(item, MR_CHANGE_REBUILD, "it was '%.200s' and is '%.200s'", before,
                          meaning.data != NULL ? meaning.data : "");
    mr_buf_release(&meaning);
    MR_TRY(compare_origins(c, node, item, err));
    if (item->public.change != MR_CHANGE_REBUILD)
        compare_places(c, node, item);
    c->forced = item->public.change == MR_CHANGE_REBUILD;
    return MR_OK;
}

static void compare_input(struct mr__comparison *c, const struct mr_node *node,
                          struct mr__evolution_entry *item)
{
    const char *before = mr_json_text(c->old, "input");
    struct mr_buf input = MR_BUF_INIT;

    mr__manifest_input(node, &input);
    if (!mr__same_text(before, input.data) && item->public.change != MR_CHANGE_REBUILD)
        mr__evolution_say(
            item, MR_CHANGE_SAME,
            "what its rows go through changed, from '%.160s' to '%.160s': what it has counted "
            "already "
            "stays%s",
            before != NULL ? before : "", input.data != NULL ? input.data : "",
            node->input_count > 1
                ? ", and so do pairs that it has sent; rows that have left it are gone"
                : "");
    mr_buf_release(&input);
}

/* Stores that an operator of the checkpoint did not have: a variable that a function got. */
static void tell_new_stores(struct mr__comparison *c, const struct mr_node *node,
                            struct mr__evolution_entry *item)
{
    struct mr_store_info info;

    for (size_t i = 0; mr_state_info(c->in->state, i, &info); i++) {
        if (info.owner == node->name && info.is_new)
            mr__evolution_say(item, MR_CHANGE_EXTEND, "new: what it keeps as '%.100s' starts empty",
                              info.name);
    }
}

static enum mr_status open_operator(struct mr__comparison *c, struct mr_node *node,
                                    struct mr_error *err)
{
    struct mr__evolution_entry *item = NULL;

    MR_TRY(mr__evolution_add(c, MR_PART_OPERATOR, node->name, &item, err));
    c->opened = c->evolution->count - 1;
    c->node = node;
    c->old = mr__manifest_entry(&c->manifest, MR_MANIFEST_OPERATOR, node->name);
    c->forced = c->had_stores = false;
    if (c->old != NULL)
        MR_TRY(compare_meaning(c, node, item, err));
    mr_state_set_owner(c->in->state, node->name);
    MR_TRY(node->fold->open(node->op, c->in->state, err));
    item = opened_item(c);
    if (c->old != NULL)
        compare_input(c, node, item);
    if (c->had_stores)
        tell_new_stores(c, node, item);
    if (c->old == NULL && !c->had_stores && c->in->has_commit) {
        item->public.is_new = true;
        mr__evolution_say(item, MR_CHANGE_EXTEND, "new: it starts empty, with the next batch");
    }
    return MR_OK;
}

/* Sources that remember keep a store too: its form is the kernel's. */
static enum mr_status open_memory(struct mr__comparison *c, struct mr_node *node,
                                  struct mr_error *err)
{
    c->node = node;
    c->forced = false;
    for (size_t i = 0; i < c->evolution->count; i++) {
        if (c->evolution->items[i].public.part == MR_PART_SOURCE &&
            strcmp(c->evolution->items[i].public.name, node->name) == 0)
            c->opened = i;
    }
    mr_state_set_owner(c->in->state, NULL);
    return mr__source_store_open(node, c->in->state, err);
}

enum mr_status mr__evolution_operators(struct mr__comparison *c, struct mr_error *err)
{
    struct mr_graph *graph = c->in->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];

        if (node->kind == MR_NODE_FOLD && node->fold->open != NULL)
            MR_TRY(open_operator(c, node, err));
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_SOURCE)
            MR_TRY(open_memory(c, graph->nodes[i], err));
    }
    mr_state_set_owner(c->in->state, NULL);
    return MR_OK;
}

/* ---- Stores that nobody asked for ---- */

/* The operator that had a store, by the manifest; else the store's name. */
static const char *owner_of(const struct mr__comparison *c, const char *store)
{
    static const char prefix[] = MR_MANIFEST_OPERATOR;

    for (const struct mr_json *one = c->manifest.entries->first; one != NULL; one = one->next) {
        const struct mr_json *stores = mr_json_get(one, "stores");

        if (strncmp(one->key, prefix, sizeof(prefix) - 1) != 0 || stores == NULL)
            continue;
        for (const struct mr_json *name = stores->first; name != NULL; name = name->next) {
            if (mr_json_is(name, store))
                return one->key + sizeof(prefix) - 1;
        }
    }
    return store;
}

static enum mr_status removed_store(struct mr__comparison *c, const char *store, uint64_t key_count,
                                    struct mr_error *err)
{
    static const char source_prefix[] = "source.";
    const char *owner = owner_of(c, store);
    struct mr__evolution_entry *item;

    if (strncmp(store, source_prefix, sizeof(source_prefix) - 1) == 0 &&
        mr__evolution_find(c, MR_PART_SOURCE, store + sizeof(source_prefix) - 1) != NULL)
        return MR_OK; /* told with the source */
    item = mr__evolution_find(c, MR_PART_OPERATOR, owner);
    if (item == NULL) {
        MR_TRY(mr__evolution_add(c, MR_PART_OPERATOR, owner, &item, err));
        item->public.is_removed = true;
        mr__evolution_say(
            item, MR_CHANGE_EXTEND,
            "removed: its state (%llu keys) is dropped for good; if it was renamed, give it its "
            "old "
            "name",
            (unsigned long long)key_count);
        return MR_OK;
    }
    mr__evolution_say(item, MR_CHANGE_EXTEND,
                      "what it kept as '%s' (%llu keys) is dropped for good", store,
                      (unsigned long long)key_count);
    return MR_OK;
}

enum mr_status mr__evolution_unclaimed(struct mr__comparison *c, struct mr_error *err)
{
    const char *name;

    for (size_t i = 0; (name = mr_state_unclaimed(c->in->state, i)) != NULL; i++) {
        struct mr_store_info info;
        uint64_t key_count = 0;

        for (size_t k = 0; mr_state_info(c->in->state, k, &info); k++) {
            if (strcmp(info.name, name) == 0)
                key_count = info.key_count;
        }
        MR_TRY(removed_store(c, name, key_count, err));
    }
    return MR_OK;
}
