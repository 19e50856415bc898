/*
 * struct mr_kv: a store as plug-ins see it. The two are one object; the cast is here and nowhere
 * else.
 */
#include "state/internal.h"

#include <millrace/ext/source.h>

struct mr_kv *mr_kv_of(struct mr_store *store)
{
    return (struct mr_kv *)(void *)store;
}

static struct mr_store *store_of(struct mr_kv *kv)
{
    return (struct mr_store *)(void *)kv;
}

bool mr_kv_get(struct mr_kv *kv, struct mr_slice key, struct mr_slice *ret_value)
{
    return mr_store_get(store_of(kv), key.data, key.size_bytes, &ret_value->data,
                        &ret_value->size_bytes);
}

enum mr_status mr_kv_put(struct mr_kv *kv, struct mr_slice key, struct mr_slice value,
                         struct mr_error *err)
{
    return mr_store_put(store_of(kv), key.data, key.size_bytes, value.data, value.size_bytes, err);
}

enum mr_status mr_kv_delete(struct mr_kv *kv, struct mr_slice key, struct mr_error *err)
{
    return mr_store_delete(store_of(kv), key.data, key.size_bytes, err);
}

struct kv_visit {
    bool (*visit)(struct mr_slice key, struct mr_slice value, void *arg);
    void *arg;
};

static bool visit_pair(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct kv_visit *visit = arg;
    return visit->visit((struct mr_slice){key, key_bytes}, (struct mr_slice){value, value_bytes},
                        visit->arg);
}

void mr_kv_scan(struct mr_kv *kv,
                bool (*visit)(struct mr_slice key, struct mr_slice value, void *arg), void *arg)
{
    struct kv_visit both = {visit, arg};
    mr_store_scan(store_of(kv), visit_pair, &both);
}
