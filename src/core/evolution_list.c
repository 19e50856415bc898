/*
 * The list that comes of comparing a query with its checkpoint (evolution.h): an item a part of the
 * query, with the worst class and all sentences said of it; then, which items are accepted.
 *
 * Thread: driver.
 */
#include "core/evolution_parts.h"

#include <stdarg.h>
#include <stdio.h>

enum { SENTENCE_BYTES_MAX = 1000 };

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

enum mr_status mr__evolution_no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot compare the query with its checkpoint: out of memory");
}

enum mr_status mr__evolution_add(struct mr__comparison *c, enum mr_query_part part,
                                 const char *name, struct mr__evolution_entry **ret_item,
                                 struct mr_error *err)
{
    struct mr_evolution *evolution = c->evolution;
    struct mr__evolution_entry *item;

    if (evolution->count == evolution->capacity) {
        size_t capacity = MR_MAX(evolution->capacity * 2, (size_t)16);
        struct mr__evolution_entry *grown =
            mr_realloc(NULL, evolution->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return mr__evolution_no_memory(err);
        evolution->items = grown;
        evolution->capacity = capacity;
    }
    item = &evolution->items[evolution->count];
    memset(item, 0, sizeof(*item));
    item->public.part = part;
    item->public.name = mr_strdup(name);
    if (item->public.name == NULL)
        return mr__evolution_no_memory(err);
    evolution->count++;
    *ret_item = item;
    return MR_OK;
}

struct mr__evolution_entry *mr__evolution_find(struct mr__comparison *c, enum mr_query_part part,
                                               const char *name)
{
    for (size_t i = 0; i < c->evolution->count; i++) {
        const struct mr_evolution_item *one = &c->evolution->items[i].public;

        if (one->part == part && strcmp(one->name, name) == 0)
            return &c->evolution->items[i];
    }
    return NULL;
}

void mr__evolution_say(struct mr__evolution_entry *item, enum mr_change_class change,
                       const char *format, ...)
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

bool mr__evolution_may_go_on(const struct mr__comparison *c, const struct mr_evolution_item *item)
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

enum mr_status mr__evolution_settle(struct mr__comparison *c, struct mr_error *err)
{
    for (size_t i = 0; i < c->evolution->count; i++) {
        struct mr__evolution_entry *item = &c->evolution->items[i];

        if (item->reason.failed)
            return mr__evolution_no_memory(err);
        item->public.reason = item->reason.data != NULL ? item->reason.data : "";
        item->public.is_accepted = mr__evolution_may_go_on(c, &item->public);
        if (item->public.is_accepted || item->public.change == MR_CHANGE_IMPOSSIBLE)
            continue;
        if (!is_accepted(c->evolution->wants.data, item->public.change, ""))
            mr_buf_printf(&c->evolution->wants, "%s%s", c->evolution->wants.size > 0 ? "," : "",
                          mr_change_class_text(item->public.change));
    }
    return c->evolution->wants.failed ? mr__evolution_no_memory(err) : MR_OK;
}

static const char *part_text(enum mr_query_part part)
{
    static const char *const texts[] = {"source", "operator", "sink"};

    return texts[part];
}

enum mr_status mr__evolution_refuse(const struct mr__comparison *c, struct mr_error *err)
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
