/*
 * A query that was edited, compared with its checkpoint: see evolution.h and docs/evolution.md.
 *
 *     manifest of the last commit  --\                        /-- sources: connector, new, removed
 *     stores of the last commit    ---+-- against the graph --+-- operators, by opening each
 *     PLAN of the last batch       --/                        \-- sinks, what nobody claims
 *
 * Operators are compared by opening them: each asks for its stores, and for every one that the
 * checkpoint has the state asks `judge` below, which knows the operator at hand. What it answers
 * happens to the store in memory (state/change.c). When something is not accepted the start fails
 * with the whole list, and nothing was written: so everything is judged first, and a store that
 * nobody accepted is simply emptied in memory.
 *
 * Called by open.c at a start, and offline by mr_evolution_compare with a read-only state that has
 * no entries. Thread: driver.
 */
#include "core/evolution.h"

#include "base/json.h"
#include "core/manifest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SENTENCE_BYTES_MAX = 1000 };

struct item {
    struct mr_evolution_item public;
    struct mr_buf reason;
};

struct mr_evolution {
    struct item *items;
    size_t count, capacity;
    struct mr_buf wants;
};

struct comparison {
    const struct mr__comparing *in;
    struct mr__manifest manifest;
    struct mr_evolution *evolution;
    /* the operator that is being opened */
    struct mr_node *node;
    const struct mr_json *old;
    bool forced;     /* its meaning is another: every store of it is emptied */
    bool had_stores; /* the checkpoint had one of its stores */
    size_t opened;   /* index of its item: items may move */
};

void mr_evolution_free(struct mr_evolution *evolution)
{
    if (evolution == NULL)
        return;
    for (size_t i = 0; i < evolution->count; i++) {
        mr_buf_release(&evolution->items[i].reason);
        mr_free((char *)evolution->items[i].public.name);
    }
    mr_buf_release(&evolution->wants);
    mr_free(evolution->items);
    mr_free(evolution);
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot compare the query with its checkpoint: out of memory");
}

static enum mr_status add_item(struct comparison *c, enum mr_query_part part, const char *name,
                               struct item **ret_item, struct mr_error *err)
{
    struct mr_evolution *evolution = c->evolution;
    struct item *item;

    if (evolution->count == evolution->capacity) {
        size_t capacity = MR_MAX(evolution->capacity * 2, (size_t)16);
        struct item *grown = mr_realloc(NULL, evolution->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(err);
        evolution->items = grown;
        evolution->capacity = capacity;
    }
    item = &evolution->items[evolution->count];
    memset(item, 0, sizeof(*item));
    item->public.part = part;
    item->public.name = mr_strdup(name);
    if (item->public.name == NULL)
        return no_memory(err);
    evolution->count++;
    *ret_item = item;
    return MR_OK;
}

/* One more sentence, and the worse of the classes. */
static void MR_PRINTF(3, 4)
    say(struct item *item, enum mr_change_class change, const char *format, ...)
{
    char text[SENTENCE_BYTES_MAX];
    va_list arguments;

    item->public.change = MR_MAX(item->public.change, change);
    if (item->reason.size > 0)
        mr_buf_add_str(&item->reason, "; ");
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    mr_buf_add_str(&item->reason, text);
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* Is there a word in the list for that class, or for that class and name? */
static bool is_accepted(const char *accept, enum mr_change_class change, const char *name)
{
    const char *class_text = mr_change_class_text(change);

    for (const char *at = accept; at != NULL && *at != '\0';) {
        size_t size = strcspn(at, ",");
        const char *colon = memchr(at, ':', size);
        size_t class_size = colon != NULL ? (size_t)(colon - at) : size;

        if (is_word(at, class_size, class_text) &&
            (colon == NULL || is_word(colon + 1, size - class_size - 1, name)))
            return true;
        at += size + (at[size] == ',');
    }
    return false;
}

static bool may_go_on(const struct comparison *c, const struct mr_evolution_item *item)
{
    if (item->change == MR_CHANGE_SAME)
        return true;
    if (item->change == MR_CHANGE_IMPOSSIBLE)
        return false;
    return c->in->on_change == MR_ON_CHANGE_ALLOW ||
           is_accepted(c->in->accept, item->change, item->name);
}

enum mr_status mr_evolution_check_accept(const char *accept, struct mr_error *err)
{
    for (const char *at = accept; at != NULL && *at != '\0';) {
        size_t size = strcspn(at, ",");
        const char *colon = memchr(at, ':', size);
        size_t class_size = colon != NULL ? (size_t)(colon - at) : size;

        if (!is_word(at, class_size, "extend") && !is_word(at, class_size, "rebuild"))
            return MR_FAIL(err, MR_USAGE,
                           "cannot accept '%.*s': say extend, rebuild, or one of them for one "
                           "part of the query: rebuild:out.agg",
                           (int)MR_MIN(size, (size_t)80), at);
        at += size + (at[size] == ',');
    }
    return MR_OK;
}

/* ---- Texts of two versions ---- */

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

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* What is told of a node now, parsed; the arena is the comparison's. */
static enum mr_status parse_now(struct comparison *c, const struct mr_node *node,
                                struct mr_json **ret_now, struct mr_error *err)
{
    struct mr_arena *arena = &c->manifest.arena;
    char *text = mr__manifest_text(node, c->in->state);
    enum mr_status status;

    if (text == NULL)
        return no_memory(err);
    status = mr_json_parse(text, strlen(text), arena, ret_now, err);
    mr_text_free(text);
    return status;
}

static void tell_options(struct item *item, const struct mr_json *old, const struct mr_json *now,
                         const char *consequence)
{
    struct mr_buf list = MR_BUF_INIT;

    list_differences(mr_json_get(old, "options"), mr_json_get(now, "options"), &list);
    if (list.size > 0)
        say(item, MR_CHANGE_SAME, "other options (%s)%s", list.data, consequence);
    mr_buf_release(&list);
}

/* ---- Sources ---- */

static const struct mr_plan_source *planned_source(const struct comparison *c, const char *name)
{
    for (uint32_t i = 0; i < c->in->plan->source_count; i++) {
        if (strcmp(c->in->plan->sources[i].name, name) == 0)
            return &c->in->plan->sources[i];
    }
    return NULL;
}

static const struct mr_node *find_node(const struct comparison *c, enum mr_node_kind kind,
                                       const char *name)
{
    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        const struct mr_node *node = c->in->graph->nodes[i];

        if (node->kind == kind && strcmp(node->name, name) == 0)
            return node;
    }
    return NULL;
}

static enum mr_status compare_source(struct comparison *c, const struct mr_node *node,
                                     struct mr_error *err)
{
    const struct mr_json *old = mr__manifest_entry(&c->manifest, MR_MANIFEST_SOURCE, node->name);
    const struct mr_json *receiver = mr_json_get(old, "receiver");
    const char *connector = node->source->spec.connector->name;
    const char *before = mr_json_text(old, "connector");
    struct mr_json *now = NULL;
    struct item *item = NULL;

    MR_TRY(add_item(c, MR_PART_SOURCE, node->name, &item, err));
    if (old == NULL && planned_source(c, node->name) == NULL) {
        item->public.is_new = true;
        say(item, MR_CHANGE_EXTEND, "new: it is read from its start option on");
        return MR_OK;
    }
    if (old == NULL)
        return MR_OK;
    MR_TRY(parse_now(c, node, &now, err));
    if (!same_text(before, connector) && receiver != NULL && receiver->boolean &&
        node->source->spec.connector->receiver_open != NULL) {
        say(item, MR_CHANGE_SAME,
            "connector '%s' was '%s': what was received and not yet processed comes first",
            connector, before);
    } else if (!same_text(before, connector)) {
        say(item, MR_CHANGE_IMPOSSIBLE,
            "connector '%s' was '%s', whose offsets mean something else: give the new source a "
            "name of its own, so that it begins at its start option",
            connector, before != NULL ? before : "");
        return MR_OK;
    }
    tell_options(item, old, now, "; its offsets go on");
    if (!same_text(mr_json_text(old, "columns"), mr_json_text(now, "columns")))
        say(item, MR_CHANGE_SAME, "other columns, from the next batch on");
    return MR_OK;
}

static enum mr_status removed_source(struct comparison *c, const char *name, struct mr_error *err)
{
    struct item *item = NULL;
    struct mr_store_info info;
    char *store = NULL;

    for (size_t i = 0; i < c->evolution->count; i++) {
        const struct mr_evolution_item *one = &c->evolution->items[i].public;

        if (one->part == MR_PART_SOURCE && strcmp(one->name, name) == 0)
            return MR_OK;
    }
    MR_TRY(add_item(c, MR_PART_SOURCE, name, &item, err));
    item->public.is_removed = true;
    say(item, MR_CHANGE_EXTEND,
        "removed: its offsets are dropped, and begin anew if it comes back");
    store = mr_asprintf("source.%s", name);
    if (store == NULL)
        return no_memory(err);
    for (size_t i = 0; mr_state_info(c->in->state, i, &info); i++) {
        if (strcmp(info.name, store) == 0)
            say(item, MR_CHANGE_EXTEND, "so is what it remembered (%llu keys)",
                (unsigned long long)info.key_count);
    }
    mr_free(store);
    return MR_OK;
}

static enum mr_status compare_sources(struct comparison *c, struct mr_error *err)
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

/* ---- Operators ---- */

static struct item *opened_item(struct comparison *c)
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

/* The state asks what becomes of a store of the operator that is being opened. */
static enum mr_status judge(void *arg, const struct mr_store_change *change,
                            struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct comparison *c = arg;
    struct item *item = opened_item(c);
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
        say(item, ret_adaption->change, "%s", ret_adaption->reason);
    item->public.change = MR_MAX(item->public.change, ret_adaption->change);
    if (ret_adaption->change == MR_CHANGE_REBUILD)
        say(item, MR_CHANGE_REBUILD,
            "its %llu keys are emptied, and it begins anew with the next "
            "batch",
            (unsigned long long)change->key_count);
    /* What is not accepted fails the start: no work for it. */
    probe = item->public;
    if (!may_go_on(c, &probe)) {
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
static void compare_origins_of(struct comparison *c, const struct mr_json *old,
                               const struct mr_json *now, struct item *item)
{
    struct mr_buf before = MR_BUF_INIT, after = MR_BUF_INIT;
    bool lost = false;

    for (const struct mr_json *one = old->first; one != NULL; one = one->next)
        lost = lost || !has_origin(now, one->text);
    list_names(old, &before);
    list_names(now, &after);
    if (lost)
        say(item, MR_CHANGE_REBUILD,
            "it kept what came from %.200s and would get what comes from %.200s; if only the order "
            "of statements changed, %s",
            before.data != NULL ? before.data : "", after.data != NULL ? after.data : "",
            KEEP_ORDER);
    for (const struct mr_json *one = now->first; one != NULL && !lost; one = one->next) {
        if (!has_origin(old, one->text) &&
            (mr__manifest_entry(&c->manifest, MR_MANIFEST_SOURCE, one->text) != NULL ||
             mr__manifest_entry(&c->manifest, MR_MANIFEST_OPERATOR, one->text) != NULL))
            say(item, MR_CHANGE_EXTEND, "what comes from '%.60s' is counted too, from now on",
                one->text);
    }
    mr_buf_release(&before);
    mr_buf_release(&after);
}

/* Where its rows come from; checkpoints of before do not tell. */
static enum mr_status compare_origins(struct comparison *c, const struct mr_node *node,
                                      struct item *item, struct mr_error *err)
{
    const struct mr_json *old = mr_json_get(c->old, "origins");
    struct mr_json *now = NULL;

    if (old == NULL)
        return MR_OK;
    MR_TRY(parse_now(c, node, &now, err));
    old = old->first;
    now = mr_json_get(now, "origins")->first;
    for (; old != NULL && now != NULL; old = old->next, now = now->next) {
        if (old->first != NULL && now->first != NULL)
            compare_origins_of(c, old, now, item);
    }
    if (old != NULL || now != NULL)
        say(item, MR_CHANGE_REBUILD, "it has another number of inputs");
    return MR_OK;
}

static bool input_is(const struct mr_node *node, const char *text)
{
    struct mr_buf input = MR_BUF_INIT;
    bool same;

    mr__manifest_input(node, &input);
    same = same_text(input.data, text);
    mr_buf_release(&input);
    return same;
}

static const char *old_input(const struct comparison *c, const char *name)
{
    return mr_json_text(mr__manifest_entry(&c->manifest, MR_MANIFEST_OPERATOR, name), "input");
}

/*
 * Two statements over one source differ by what is in front of their state (a WHERE), and have
 * names by their order. When what came before this operator comes now before another one of these
 * names, or the other way round, it is the statements that moved and not a condition that changed.
 */
static void compare_places(struct comparison *c, const struct mr_node *node, struct item *item)
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
        say(item, MR_CHANGE_REBUILD, "it has changed places with '%.60s': %s", other->name,
            KEEP_ORDER);
        return;
    }
}

/* What the manifest says of the operator beyond its stores. */
static enum mr_status compare_meaning(struct comparison *c, const struct mr_node *node,
                                      struct item *item, struct mr_error *err)
{
    const char *kind = mr_json_text(c->old, "kind");
    const char *before = mr_json_text(c->old, "meaning");
    struct mr_buf meaning = MR_BUF_INIT;

    mr__manifest_identity(node, &meaning);
    if (!same_text(kind, node->fold->kind))
        say(item, MR_CHANGE_REBUILD, "it was '%s' and is '%s'", kind != NULL ? kind : "",
            node->fold->kind);
    else if (before != NULL && before[0] != '\0' &&
             !same_text(before, meaning.data != NULL ? meaning.data : ""))
        say(item, MR_CHANGE_REBUILD, "it was '%.200s' and is '%.200s'", before,
            meaning.data != NULL ? meaning.data : "");
    mr_buf_release(&meaning);
    MR_TRY(compare_origins(c, node, item, err));
    if (item->public.change != MR_CHANGE_REBUILD)
        compare_places(c, node, item);
    c->forced = item->public.change == MR_CHANGE_REBUILD;
    return MR_OK;
}

static void compare_input(struct comparison *c, const struct mr_node *node, struct item *item)
{
    const char *before = mr_json_text(c->old, "input");
    struct mr_buf input = MR_BUF_INIT;

    mr__manifest_input(node, &input);
    if (!same_text(before, input.data) && item->public.change != MR_CHANGE_REBUILD)
        say(item, MR_CHANGE_SAME,
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
static void tell_new_stores(struct comparison *c, const struct mr_node *node, struct item *item)
{
    struct mr_store_info info;

    for (size_t i = 0; mr_state_info(c->in->state, i, &info); i++) {
        if (info.owner == node->name && info.is_new)
            say(item, MR_CHANGE_EXTEND, "new: what it keeps as '%.100s' starts empty", info.name);
    }
}

static enum mr_status open_operator(struct comparison *c, struct mr_node *node,
                                    struct mr_error *err)
{
    struct item *item = NULL;

    MR_TRY(add_item(c, MR_PART_OPERATOR, node->name, &item, err));
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
        say(item, MR_CHANGE_EXTEND, "new: it starts empty, with the next batch");
    }
    return MR_OK;
}

/* Sources that remember keep a store too: its form is the kernel's. */
static enum mr_status open_memory(struct comparison *c, struct mr_node *node, struct mr_error *err)
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

static enum mr_status open_all(struct comparison *c, struct mr_error *err)
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
static const char *owner_of(const struct comparison *c, const char *store)
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

static struct item *find_item(struct comparison *c, enum mr_query_part part, const char *name)
{
    for (size_t i = 0; i < c->evolution->count; i++) {
        const struct mr_evolution_item *one = &c->evolution->items[i].public;

        if (one->part == part && strcmp(one->name, name) == 0)
            return &c->evolution->items[i];
    }
    return NULL;
}

static enum mr_status removed_store(struct comparison *c, const char *store, uint64_t key_count,
                                    struct mr_error *err)
{
    static const char source_prefix[] = "source.";
    const char *owner = owner_of(c, store);
    struct item *item;

    if (strncmp(store, source_prefix, sizeof(source_prefix) - 1) == 0 &&
        find_item(c, MR_PART_SOURCE, store + sizeof(source_prefix) - 1) != NULL)
        return MR_OK; /* told with the source */
    item = find_item(c, MR_PART_OPERATOR, owner);
    if (item == NULL) {
        MR_TRY(add_item(c, MR_PART_OPERATOR, owner, &item, err));
        item->public.is_removed = true;
        say(item, MR_CHANGE_EXTEND,
            "removed: its state (%llu keys) is dropped for good; if it was renamed, give it its "
            "old "
            "name",
            (unsigned long long)key_count);
        return MR_OK;
    }
    say(item, MR_CHANGE_EXTEND, "what it kept as '%s' (%llu keys) is dropped for good", store,
        (unsigned long long)key_count);
    return MR_OK;
}

static enum mr_status compare_unclaimed(struct comparison *c, struct mr_error *err)
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

/* ---- Sinks ---- */

static enum mr_status compare_sink(struct comparison *c, const struct mr_node *node,
                                   struct mr_error *err)
{
    const struct mr_json *old = mr__manifest_entry(&c->manifest, MR_MANIFEST_SINK, node->name);
    static const char *const texts[] = {"connector", "format", "mode"};
    struct mr_json *now = NULL;
    struct item *item = NULL;

    MR_TRY(add_item(c, MR_PART_SINK, node->name, &item, err));
    if (!c->manifest.is_there)
        return MR_OK;
    if (old == NULL) {
        item->public.is_new = true;
        say(item, MR_CHANGE_EXTEND, "new: it gets what comes from the next batch on");
        return MR_OK;
    }
    MR_TRY(parse_now(c, node, &now, err));
    for (size_t i = 0; i < MR_ARRAY_SIZE(texts); i++) {
        const char *before = mr_json_text(old, texts[i]);
        const char *after = mr_json_text(now, texts[i]);

        if (!same_text(before, after))
            say(item, MR_CHANGE_SAME, "%s '%s' was '%s', from the next batch on", texts[i],
                after != NULL ? after : "none", before != NULL ? before : "none");
    }
    if (!same_text(mr_json_text(old, "columns"), mr_json_text(now, "columns")))
        say(item, MR_CHANGE_SAME, "other columns (%.150s), from the next batch on",
            mr_json_text(now, "columns"));
    tell_options(item, old, now, ": what it has already stays where it is");
    return MR_OK;
}

static enum mr_status compare_sinks(struct comparison *c, struct mr_error *err)
{
    static const char prefix[] = MR_MANIFEST_SINK;

    for (uint32_t i = 0; i < c->in->graph->node_count; i++) {
        if (c->in->graph->nodes[i]->kind == MR_NODE_SINK)
            MR_TRY(compare_sink(c, c->in->graph->nodes[i], err));
    }
    for (const struct mr_json *one = c->manifest.entries->first; one != NULL; one = one->next) {
        const char *name = one->key + sizeof(prefix) - 1;
        struct item *item = NULL;

        if (strncmp(one->key, prefix, sizeof(prefix) - 1) != 0 ||
            find_node(c, MR_NODE_SINK, name) != NULL)
            continue;
        MR_TRY(add_item(c, MR_PART_SINK, name, &item, err));
        item->public.is_removed = true;
        say(item, MR_CHANGE_EXTEND, "removed: it gets nothing more; what it has stays");
    }
    return MR_OK;
}

/* ---- All of it ---- */

static enum mr_status compare(struct comparison *c, struct mr_error *err)
{
    MR_TRY(mr__manifest_read(c->in->state, &c->manifest, err));
    MR_TRY(compare_sources(c, err));
    mr_state_set_judge(c->in->state, judge, c);
    MR_TRY(open_all(c, err));
    MR_TRY(compare_unclaimed(c, err));
    MR_TRY(compare_sinks(c, err));
    for (size_t i = 0; i < c->evolution->count; i++) {
        struct item *item = &c->evolution->items[i];

        if (item->reason.failed)
            return no_memory(err);
        item->public.reason = item->reason.data != NULL ? item->reason.data : "";
        item->public.is_accepted = may_go_on(c, &item->public);
        if (item->public.is_accepted || item->public.change == MR_CHANGE_IMPOSSIBLE)
            continue;
        if (!is_accepted(c->evolution->wants.data, item->public.change, ""))
            mr_buf_printf(&c->evolution->wants, "%s%s", c->evolution->wants.size > 0 ? "," : "",
                          mr_change_class_text(item->public.change));
    }
    return c->evolution->wants.failed ? no_memory(err) : MR_OK;
}

static const char *part_text(enum mr_query_part part)
{
    static const char *const texts[] = {"source", "operator", "sink"};

    return texts[part];
}

/* The first things that stand in the way; the whole list is the caller's to print. */
static enum mr_status refuse(const struct comparison *c, struct mr_error *err)
{
    const struct mr_evolution *evolution = c->evolution;
    const struct mr_evolution_item *first = NULL;
    const char *wants = mr_evolution_wants(evolution);
    size_t more = 0;

    for (size_t i = 0; i < evolution->count; i++) {
        const struct mr_evolution_item *one = &evolution->items[i].public;

        if (one->is_accepted)
            continue;
        more += first != NULL;
        if (first == NULL || one->change > first->change)
            first = one;
    }
    MR_ASSERT(first != NULL);
    return MR_FAIL(err, MR_CONFIG,
                   "cannot go on from checkpoint '%.80s': it is of another version of this query: "
                   "%s '%.60s': %s%s; %s%s%s put it back or use a new checkpoint directory",
                   c->in->checkpoint_dir, part_text(first->part), first->name,
                   mr_change_class_text(first->change), more > 0 ? ", and more" : "",
                   wants != NULL ? "run with --accept " : "", wants != NULL ? wants : "",
                   wants != NULL ? " to go on, or" : "");
}

static enum mr_status drop_unclaimed(struct mr_state *state, struct mr_error *err)
{
    const char *name;

    while ((name = mr_state_unclaimed(state, 0)) != NULL)
        MR_TRY(mr_state_drop(state, name, err));
    return MR_OK;
}

static enum mr_status run_comparison(const struct mr__comparing *in,
                                     struct mr_evolution **ret_evolution, struct mr_error *err)
{
    struct comparison c = {.in = in};
    enum mr_status status;

    c.evolution = mr_alloc_zero(NULL, sizeof(*c.evolution));
    if (c.evolution == NULL)
        return no_memory(err);
    status = compare(&c, err);
    mr_state_set_judge(in->state, NULL, NULL);
    for (size_t i = 0; status == MR_OK && i < c.evolution->count; i++) {
        if (!c.evolution->items[i].public.is_accepted)
            status = refuse(&c, err);
    }
    mr__manifest_release(&c.manifest);
    *ret_evolution = c.evolution;
    return status;
}

enum mr_status mr__evolution_open(const struct mr__comparing *comparing,
                                  struct mr_evolution **ret_evolution, struct mr_error *err)
{
    MR_TRY(run_comparison(comparing, ret_evolution, err));
    return drop_unclaimed(comparing->state, err);
}

enum mr_status mr_evolution_compare(struct mr_env *env, struct mr_graph *graph,
                                    const char *checkpoint_dir, const char *accept,
                                    struct mr_evolution **ret_evolution, struct mr_error *err)
{
    const struct mr_state_reader_options heads = {.heads = true};
    struct mr__comparing in = {.env = env,
                               .graph = graph,
                               .on_change = MR_ON_CHANGE_ASK,
                               .accept = accept,
                               .checkpoint_dir = checkpoint_dir};
    struct mr_checkpoint checkpoint = {0};
    struct mr_recovered recovered = {0};
    struct mr_evolution *evolution = NULL;
    struct mr_error refused = {0};
    enum mr_status status;

    *ret_evolution = NULL;
    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    status = mr_batch_log_peek(env, checkpoint.log_dir, 100, &recovered, err);
    if (status == MR_OK && recovered.has_plan)
        status = mr_state_open_reader_at(env, checkpoint_dir, &heads, &in.state, err);
    if (status == MR_OK && recovered.has_plan) {
        in.plan = &recovered.last_plan;
        in.has_commit = recovered.has_commit;
        mr__choose_source_ops(graph);
        status = run_comparison(&in, &evolution, &refused);
        /* What is not accepted is what the caller wants to see. */
        if (status == MR_CONFIG && evolution != NULL && mr_evolution_class(evolution) > 0)
            status = MR_OK;
        else if (status != MR_OK && err != NULL)
            *err = refused;
    }
    mr_state_close(in.state);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
    if (status == MR_OK)
        *ret_evolution = evolution;
    else
        mr_evolution_free(evolution);
    return status == MR_NOT_FOUND && recovered.has_plan ? MR_CORRUPT : status;
}

/* ---- Looking ---- */

bool mr_evolution_item(const struct mr_evolution *evolution, size_t index,
                       struct mr_evolution_item *ret_item)
{
    size_t seen = 0;

    for (int part = MR_PART_SOURCE; part <= MR_PART_SINK; part++) {
        for (size_t i = 0; i < evolution->count; i++) {
            if ((int)evolution->items[i].public.part != part || seen++ != index)
                continue;
            *ret_item = evolution->items[i].public;
            return true;
        }
    }
    return false;
}

enum mr_change_class mr_evolution_class(const struct mr_evolution *evolution)
{
    enum mr_change_class worst = MR_CHANGE_SAME;

    for (size_t i = 0; i < evolution->count; i++)
        worst = MR_MAX(worst, evolution->items[i].public.change);
    return worst;
}

const char *mr_evolution_wants(const struct mr_evolution *evolution)
{
    if (mr_evolution_class(evolution) == MR_CHANGE_IMPOSSIBLE || evolution->wants.size == 0)
        return NULL;
    return evolution->wants.data;
}

void mr_evolution_print(const struct mr_evolution *evolution, bool all, struct mr_buf *out)
{
    struct mr_evolution_item item;

    for (size_t i = 0; mr_evolution_item(evolution, i, &item); i++) {
        if (!all && item.reason[0] == '\0')
            continue;
        mr_buf_printf(out, "  %-8s %-24s %-10s %s\n", part_text(item.part), item.name,
                      mr_change_class_text(item.change), item.reason);
    }
}
