/*
 * Stores whose operator has changed or gone, and the manifest.
 *
 * Called by mr_state_store (an operator asks for a store that the checkpoint has) and by the kernel
 * when a query is opened. What a change makes of a store happens in memory, before the first batch:
 *
 *     old parts in the checkpoint --load--> entries --convert or empty--> base of the next batch
 *
 * The store is then `relaid`: the next commit writes it as one snapshot, with the new texts in its
 * head, and no delta.  Until that commit the checkpoint has the old parts and nothing else, so a
 * crash leaves what was there; a batch that fails rolls back to the converted base.  Readers never
 * mix the two: a delta must have the texts of the parts before it, and a snapshot without a delta
 * of its batch cannot be gone round (load.c).
 *
 * A store that is dropped stays as an empty one of kind "dropped", which nobody sees; an operator
 * of that name finds nothing.  The manifest is a store of kind "manifest": text to text.
 *
 * Thread: driver.
 */
#include "state/internal.h"

#include "base/hash.h"

#include <string.h>

static const char manifest_name[] = "millrace.manifest";

const char *mr_change_class_text(enum mr_change_class change)
{
    static const char *const texts[] = {"same", "extend", "rebuild", "impossible"};

    return texts[change];
}

void mr_state_set_judge(struct mr_state *state, mr_state_judge_fn judge, void *arg)
{
    state->judge = judge;
    state->judge_arg = arg;
}

bool mr__store_is_hidden(const struct mr_store *store)
{
    return strcmp(store->kind, MR_STORE_KIND_MANIFEST) == 0 ||
           strcmp(store->kind, MR_STORE_KIND_DROPPED) == 0;
}

enum mr_status mr__store_set_texts(struct mr_store *store, const char *kind, const char *key_schema,
                                   const char *value_schema, struct mr_error *err)
{
    char *texts[3] = {mr_strdup(kind), mr_strdup(key_schema), mr_strdup(value_schema)};

    if (texts[0] == NULL || texts[1] == NULL || texts[2] == NULL) {
        for (unsigned i = 0; i < 3; i++)
            mr_free(texts[i]);
        return MR_FAIL(err, MR_NOMEM, "cannot open state '%s': out of memory", store->name);
    }
    mr_free(store->kind);
    mr_free(store->key_schema);
    mr_free(store->value_schema);
    store->kind = texts[0];
    store->key_schema = texts[1];
    store->value_schema = texts[2];
    return MR_OK;
}

static bool is_text_of(const struct mr_store *store, const char *kind, const char *key_schema,
                       const char *value_schema)
{
    return strcmp(store->kind, kind) == 0 && strcmp(store->key_schema, key_schema) == 0 &&
           strcmp(store->value_schema, value_schema) == 0;
}

/* ---- converting ---- */

struct conversion {
    struct mr_store *target;
    const struct mr_store_adaption *adaption;
    struct mr_buf key;
    struct mr_buf value;
};

static enum mr_status convert_entry(const struct mr_item *item, void *arg, struct mr_error *err)
{
    struct conversion *conversion = arg;
    const struct mr_store_adaption *adaption = conversion->adaption;
    const char *there;
    size_t there_bytes;
    uint64_t hash;

    mr_buf_clear(&conversion->key);
    mr_buf_clear(&conversion->value);
    MR_TRY(adaption->convert(adaption->arg, (struct mr_slice){item->key, item->key_bytes},
                             (struct mr_slice){item->value, item->value_bytes}, &conversion->key,
                             &conversion->value, err));
    if (conversion->key.failed || conversion->value.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot convert state '%s': out of memory",
                       conversion->target->name);
    if (conversion->key.size > MR_STORE_KEY_BYTES_MAX ||
        conversion->value.size > MR_STORE_VALUE_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot convert state '%s': an entry became too large",
                       conversion->target->name);
    hash = mr_store_hash(conversion->target, conversion->key.data, conversion->key.size);
    if (mr_store_get_hashed(conversion->target, hash, conversion->key.data, conversion->key.size,
                            &there, &there_bytes))
        return MR_FAIL(err, MR_INTERNAL, "cannot convert state '%s': two keys became one",
                       conversion->target->name);
    return mr__store_load_put(conversion->target, hash, conversion->key.data, conversion->key.size,
                              conversion->value.data, conversion->value.size, err);
}

/* Every entry through convert, into a table of its own that takes the place of the old one. */
static enum mr_status convert_all(struct mr_store *store, const struct mr_store_adaption *adaption,
                                  struct mr_error *err)
{
    struct mr_store *target = mr__store_new(store->name, "", "", "", store->seed);
    struct conversion conversion = {.target = target, .adaption = adaption};
    enum mr_status status;

    if (target == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot convert state '%s': out of memory", store->name);
    status = mr__store_visit_all(store, convert_entry, &conversion, err);
    if (status == MR_OK) {
        mr__store_clear(store);
        for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
            store->shards[i] = target->shards[i];
            target->shards[i] = NULL;
            if (store->shards[i] != NULL)
                store->shards[i]->name = store->name;
        }
    }
    mr__store_free(target);
    mr_buf_release(&conversion.key);
    mr_buf_release(&conversion.value);
    return status;
}

static enum mr_status refuse(const struct mr_store *store, const char *what, const char *old,
                             const char *new, struct mr_error *err)
{
    return MR_FAIL(
        err, MR_CONFIG,
        "cannot go on with the state of '%s': the checkpoint has the %s '%s', the program "
        "wants '%s'; put the %s back, or use a new checkpoint directory",
        store->name, what, old, new, what);
}

enum mr_status mr__store_adapt(struct mr_state *state, struct mr_store *store, const char *kind,
                               const char *key_schema, const char *value_schema,
                               struct mr_error *err)
{
    struct mr_store_change change = {
        store->name, store->kind, store->key_schema, store->value_schema,
        kind,        key_schema,  value_schema,      0};
    struct mr_store_adaption adaption = {0};
    bool same_texts = is_text_of(store, kind, key_schema, value_schema);
    enum mr_status status;

    if (mr__store_is_hidden(store)) {
        if (strcmp(store->kind, MR_STORE_KIND_DROPPED) != 0)
            return MR_FAIL(err, MR_CONFIG, "cannot name a state '%s': the name is taken",
                           store->name);
        store->relaid = true;
        return mr__store_set_texts(store, kind, key_schema, value_schema, err);
    }
    if (state->judge == NULL) {
        if (strcmp(store->kind, kind) != 0)
            return refuse(store, "kind of operator", store->kind, kind, err);
        if (strcmp(store->key_schema, key_schema) != 0)
            return refuse(store, "key type", store->key_schema, key_schema, err);
        if (strcmp(store->value_schema, value_schema) != 0)
            return refuse(store, "state type", store->value_schema, value_schema, err);
        return MR_OK;
    }
    change.key_count = state->heads_only ? store->told_keys : mr_store_count(store);
    MR_TRY(state->judge(state->judge_arg, &change, &adaption, err));
    status = MR_OK;
    if (adaption.change == MR_CHANGE_REBUILD || adaption.change == MR_CHANGE_IMPOSSIBLE)
        mr__store_clear(store);
    else if (adaption.convert != NULL)
        status = convert_all(store, &adaption, err);
    if (status == MR_OK && (!same_texts || adaption.change != MR_CHANGE_SAME)) {
        store->relaid = true;
        status = mr__store_set_texts(store, kind, key_schema, value_schema, err);
    }
    if (adaption.free != NULL)
        adaption.free(adaption.arg);
    return status;
}

enum mr_status mr_state_drop(struct mr_state *state, const char *name, struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, name);

    MR_ASSERT(store != NULL && !store->claimed);
    mr__store_clear(store);
    store->relaid = true;
    return mr__store_set_texts(store, MR_STORE_KIND_DROPPED, "", "", err);
}

/* ---- the manifest ---- */

struct manifest_visit {
    mr_state_manifest_fn visit;
    void *arg;
    struct mr_buf key;
    struct mr_buf text;
    bool failed;
};

static bool visit_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                        void *arg)
{
    struct manifest_visit *one = arg;

    mr_buf_clear(&one->key);
    mr_buf_clear(&one->text);
    mr_buf_add(&one->key, key, key_bytes);
    mr_buf_add_char(&one->key, '\0');
    mr_buf_add(&one->text, value, value_bytes);
    mr_buf_add_char(&one->text, '\0');
    one->failed = one->key.failed || one->text.failed;
    return !one->failed && one->visit(one->key.data, one->text.data, one->arg);
}

enum mr_status mr_state_manifest_visit(struct mr_state *state, mr_state_manifest_fn visit,
                                       void *arg, struct mr_error *err)
{
    const struct mr_store *store = mr_state_find(state, manifest_name);
    struct manifest_visit one = {.visit = visit, .arg = arg};
    enum mr_status status;

    if (store == NULL || strcmp(store->kind, MR_STORE_KIND_MANIFEST) != 0)
        return MR_OK;
    status = mr_store_scan_sorted(store, NULL, 0, visit_entry, &one, err);
    if (status == MR_OK && one.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot read the manifest: out of memory");
    mr_buf_release(&one.key);
    mr_buf_release(&one.text);
    return status;
}

static bool is_stored(const struct mr_store *store, const struct mr_manifest_entry *entries,
                      size_t count)
{
    if (mr_store_count(store) != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *value;
        size_t value_bytes;

        if (!mr_store_get(store, entries[i].key, strlen(entries[i].key), &value, &value_bytes) ||
            value_bytes != strlen(entries[i].text) ||
            memcmp(value, entries[i].text, value_bytes) != 0)
            return false;
    }
    return true;
}

enum mr_status mr_state_manifest_set(struct mr_state *state,
                                     const struct mr_manifest_entry *entries, size_t count,
                                     struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, manifest_name);

    if (store == NULL)
        MR_TRY(mr__state_add_store(state, manifest_name, MR_STORE_KIND_MANIFEST,
                                   "part of the query", "what it is, as JSON", &store, err));
    else if (is_stored(store, entries, count))
        return MR_OK;
    mr__store_clear(store);
    store->relaid = true;
    for (size_t i = 0; i < count; i++) {
        size_t key_bytes = strlen(entries[i].key);

        MR_TRY(mr__store_load_put(store, mr_store_hash(store, entries[i].key, key_bytes),
                                  entries[i].key, key_bytes, entries[i].text,
                                  strlen(entries[i].text), err));
    }
    return MR_OK;
}
