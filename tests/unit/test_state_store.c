/* One store in memory: against a model, with batches that commit and batches that fail. */
#include "base/alloc.h"
#include "env/sim.h"
#include "env/thread.h"
#include "state/internal.h"
#include "support/test.h"

#include <stdlib.h>

static struct mr_store *new_store(void)
{
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);

    CHECK_NOT_NULL(store);
    return store;
}

static void put(struct mr_store *store, const char *key, const char *value)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(store, key, strlen(key), value, strlen(value), &err), &err);
}

static void check_value(const struct mr_store *store, const char *key, const char *wanted)
{
    const char *value = NULL;
    size_t size = 0;

    if (wanted == NULL) {
        CHECK(!mr_store_get(store, key, strlen(key), &value, &size));
        return;
    }
    CHECK(mr_store_get(store, key, strlen(key), &value, &size));
    CHECK_EQ_UINT(size, strlen(wanted));
    CHECK_EQ_MEM(value, wanted, size);
}

TEST(an_empty_store_is_tiny_and_finds_nothing)
{
    struct mr_store *store = new_store();

    check_value(store, "x", NULL);
    CHECK_EQ_UINT(mr_store_count(store), 0);
    CHECK(mr_store_bytes(store) < 2048);
    mr__store_rollback(store);
    mr__store_accept(store);
    mr__store_free(store);
}

TEST(upsert_makes_zeros_once_and_changes_in_place)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    char *value = NULL;
    bool created = false;

    CHECK_OK(mr_store_upsert(store, "k", 1, 8, &value, &created, &err), &err);
    CHECK(created);
    CHECK_EQ_MEM(value, "\0\0\0\0\0\0\0\0", 8);
    memcpy(value, "12345678", 8);
    CHECK_OK(mr_store_upsert(store, "k", 1, 8, &value, &created, &err), &err);
    CHECK(!created);
    CHECK_EQ_MEM(value, "12345678", 8);
    CHECK_OK(mr_store_delete(store, "k", 1, &err), &err);
    CHECK_OK(mr_store_upsert(store, "k", 1, 8, &value, &created, &err), &err);
    CHECK(created);
    CHECK_EQ_MEM(value, "\0\0\0\0\0\0\0\0", 8);
    mr__store_free(store);
}

/* A key of 1 to 20 bytes, and its value of 0 to 12. */
static size_t make_key(char *key, int number)
{
    size_t size = 1 + (size_t)number % 20;

    memset(key, 'a' + number % 7, size);
    for (size_t i = 0; i < size && number > 0; i++, number /= 16)
        key[i] = (char)('0' + number % 16);
    return size;
}

TEST(a_key_is_found_wherever_its_place_was_told)
{
    enum { FIRST = 300, ALL = 3000 };
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    uint32_t places[FIRST];
    char key[32];

    for (int i = 0; i < ALL; i++) {
        size_t size = make_key(key, i);

        if (i == FIRST) {
            for (int k = 0; k < FIRST; k++) {
                size_t bytes = make_key(key, k);
                places[k] = mr_store_locate(store, mr_store_hash(store, key, bytes));
            }
            size = make_key(key, i);
        }
        CHECK_OK(mr_store_put(store, key, size, "0123456789ab", (size_t)i % 13, &err), &err);
    }
    for (int i = 0; i < FIRST; i += 3) {
        size_t size = make_key(key, i);
        CHECK_OK(mr_store_delete(store, key, size, &err), &err);
    }
    for (int i = 0; i < FIRST; i++) { /* the table has grown, and the places are old */
        size_t size = make_key(key, i);
        uint64_t hash = mr_store_hash(store, key, size);
        uint32_t now = mr_store_locate(store, hash);
        struct mr_store_entry old_entry = {0}, entry = {0}, none = {0};
        const char *value = NULL;
        size_t value_bytes = 0;
        bool there = mr_store_get(store, key, size, &value, &value_bytes);

        CHECK(mr_store_find_at(store, hash, key, size, places[i], &old_entry) == there);
        CHECK(mr_store_find_at(store, hash, key, size, now, &entry) == there);
        CHECK(mr_store_find_at(store, hash, key, size, UINT32_MAX, &none) == there);
        if (!there)
            continue;
        CHECK(entry.value == value && entry.value_bytes == value_bytes && old_entry.value == value);
        CHECK(none.slot == entry.slot && old_entry.slot == entry.slot);
        CHECK_OK(mr_store_put_at(store, &entry, "ba9876543210", (size_t)i % 5, &err), &err);
        CHECK(mr_store_get(store, key, size, &value, &value_bytes));
        CHECK_EQ_UINT(value_bytes, (size_t)i % 5);
        CHECK_EQ_MEM(value, "ba9876543210", value_bytes);
    }
    mr__store_rollback(store);
    CHECK_EQ_UINT(mr_store_count(store), 0);
    mr__store_free(store);
}

TEST(rollback_gives_back_every_kind_of_change)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};

    put(store, "kept", "1");
    put(store, "changed", "old");
    put(store, "grown", "small");
    put(store, "deleted", "here");
    put(store, "back", "before");
    put(store, "twice", "a");
    mr__store_accept(store);
    put(store, "changed", "new");
    put(store, "grown", "a value that needs a larger entry than the first one had");
    put(store, "twice", "a value that needs a larger entry than the first one had");
    put(store, "twice",
        "and then one that needs a still larger entry, much larger than the one before it was, "
        "twice over");
    CHECK_OK(mr_store_delete(store, "deleted", 7, &err), &err);
    CHECK_OK(mr_store_delete(store, "back", 4, &err), &err);
    put(store, "back", "again, and longer than it was before, so that it has to move");
    put(store, "new", "n");
    put(store, "brief", "b");
    CHECK_OK(mr_store_delete(store, "brief", 5, &err), &err);
    CHECK_EQ_UINT(mr_store_count(store), 6);
    struct mr_store_stats stats;
    mr__store_count_changes(store, &stats);
    CHECK_EQ_UINT(stats.updated, 5);
    CHECK_EQ_UINT(stats.removed, 1);
    mr__store_rollback(store);
    CHECK_EQ_UINT(mr_store_count(store), 6);
    check_value(store, "kept", "1");
    check_value(store, "changed", "old");
    check_value(store, "grown", "small");
    check_value(store, "deleted", "here");
    check_value(store, "back", "before");
    check_value(store, "twice", "a");
    check_value(store, "new", NULL);
    check_value(store, "brief", NULL);
    mr__store_free(store);
}

/* ---------------------------------------------------------------- against a model */

enum { KEYS = 3000, MAX_VALUE = 300 };

struct model {
    uint16_t size[KEYS]; /* 0 = absent, else size + 1 */
    uint8_t byte[KEYS];
};

static size_t model_key(unsigned k, char text[32])
{
    return (size_t)snprintf(text, 32, "%u-key-%u", k % 7, k);
}

static void check_model(const struct mr_store *store, const struct model *model)
{
    uint64_t count = 0;

    for (unsigned k = 0; k < KEYS; k++) {
        char key[32];
        size_t key_bytes = model_key(k, key), size = 0;
        const char *value = NULL;
        bool found = mr_store_get(store, key, key_bytes, &value, &size);

        CHECK_EQ_INT(found, model->size[k] != 0);
        if (!found)
            continue;
        count++;
        CHECK_EQ_UINT(size + 1, model->size[k]);
        for (size_t i = 0; i < size; i++)
            CHECK_EQ_INT((uint8_t)value[i], model->byte[k]);
    }
    CHECK_EQ_UINT(mr_store_count(store), count);
}

static void random_change(struct mr_store *store, struct model *model, uint64_t *seed)
{
    char key[32], value[MAX_VALUE];
    struct mr_error err = {0};
    unsigned k, action;
    size_t key_bytes, size;

    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    k = (unsigned)(*seed >> 33) % KEYS;
    action = (unsigned)(*seed >> 20) % 8;
    size = (size_t)(*seed >> 50) % (action == 7 ? MAX_VALUE : 12);
    key_bytes = model_key(k, key);
    if (action < 2) {
        CHECK_OK(mr_store_delete(store, key, key_bytes, &err), &err);
        model->size[k] = 0;
        return;
    }
    memset(value, (int)(*seed >> 40 & 0xff), sizeof(value));
    CHECK_OK(mr_store_put(store, key, key_bytes, value, size, &err), &err);
    model->size[k] = (uint16_t)(size + 1);
    model->byte[k] = (uint8_t)(*seed >> 40);
}

TEST(random_batches_agree_with_a_model_through_commits_and_rollbacks)
{
    struct mr_store *store = new_store();
    struct model *model = calloc(1, sizeof(*model)), *before = malloc(sizeof(*before));
    uint64_t seed = test_seed(7);
    unsigned batches = test_quick() ? 40 : 120;

    for (unsigned batch = 0; batch < batches; batch++) {
        unsigned changes = (unsigned)(seed >> 37) % 1500;

        *before = *model;
        for (unsigned i = 0; i < changes; i++)
            random_change(store, model, &seed);
        if (batch % 3 == 2) {
            mr__store_rollback(store);
            *model = *before;
        } else {
            mr__store_accept(store);
        }
        if (batch % 8 == 0)
            check_model(store, model);
    }
    check_model(store, model);
    free(before);
    free(model);
    mr__store_free(store);
}

TEST(memory_does_not_grow_when_the_same_keys_change_for_ever)
{
    struct mr_store *store = new_store();
    struct model *model = calloc(1, sizeof(*model));
    uint64_t seed = 5, after_warm_up = 0;

    for (unsigned batch = 0; batch < 400; batch++) {
        for (unsigned i = 0; i < 200; i++)
            random_change(store, model, &seed);
        mr__store_accept(store);
        if (batch == 200)
            after_warm_up = mr_store_bytes(store);
    }
    CHECK(mr_store_bytes(store) < after_warm_up * 3 / 2);
    free(model);
    mr__store_free(store);
}

TEST(a_value_that_grows_within_one_batch_does_not_leave_its_history)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    char *value = calloc(1, 20000);

    for (size_t size = 1; size <= 20000; size += 7)
        CHECK_OK(mr_store_put(store, "list", 4, value, size, &err), &err);
    CHECK(mr_store_bytes(store) < 250000);
    mr__store_accept(store);
    for (size_t size = 1; size <= 20000; size += 7)
        CHECK_OK(mr_store_put(store, "list", 4, value, size, &err), &err);
    mr__store_rollback(store);
    free(value);
    mr__store_free(store);
}

TEST(large_values_come_and_go)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    size_t size = 3 << 20;
    char *large = calloc(1, size);
    uint64_t before = mr_store_bytes(store);

    for (unsigned round = 0; round < 20; round++) {
        large[size - 1] = (char)round;
        CHECK_OK(mr_store_put(store, "a", 1, large, size - round, &err), &err);
        CHECK_OK(mr_store_put(store, "b", 1, large, size / 2, &err), &err);
        mr__store_accept(store);
        CHECK_OK(mr_store_delete(store, "a", 1, &err), &err);
        if (round % 2 == 0)
            mr__store_accept(store);
        else
            mr__store_rollback(store);
    }
    CHECK_OK(mr_store_delete(store, "a", 1, &err), &err);
    CHECK_OK(mr_store_delete(store, "b", 1, &err), &err);
    mr__store_accept(store);
    CHECK(mr_store_bytes(store) < before + 8192);
    CHECK_STATUS(mr_store_put(store, large, MR_STORE_KEY_BYTES_MAX + 1, "", 0, &err), MR_LIMIT);
    free(large);
    mr__store_free(store);
}

/* ---------------------------------------------------------------- order */

struct order {
    uint32_t fragment;
    char key[32];
    size_t key_bytes;
    uint64_t count;
    bool by_key;
};

static enum mr_status check_order(const struct mr_item *item, void *arg, struct mr_error *err)
{
    struct order *order = arg;

    MR_UNUSED(err);
    if (order->count > 0) {
        CHECK(item->fragment >= order->fragment);
        if (item->fragment == order->fragment)
            CHECK(memcmp(item->key, order->key, MR_MIN(item->key_bytes, order->key_bytes)) > 0);
    }
    order->fragment = item->fragment;
    memcpy(order->key, item->key, item->key_bytes);
    order->key_bytes = item->key_bytes;
    order->count++;
    return MR_OK;
}

static bool check_key_order(const char *key, size_t key_bytes, const char *value,
                            size_t value_bytes, void *arg)
{
    struct order *order = arg;

    MR_UNUSED(value);
    MR_UNUSED(value_bytes);
    if (order->count > 0) {
        int compared = memcmp(order->key, key, MR_MIN(key_bytes, order->key_bytes));
        CHECK(compared < 0 || (compared == 0 && order->key_bytes < key_bytes));
    }
    memcpy(order->key, key, key_bytes);
    order->key_bytes = key_bytes;
    order->count++;
    return order->count < 1000000;
}

TEST(scans_are_in_their_order_and_complete_even_with_equal_fragments)
{
    struct mr_store *store = new_store();
    struct order order = {0};
    struct mr_error err = {0};
    unsigned count = 150000,
             from_there = 0; /* a few pairs of them have the same top 32 bits of the hash */

    for (unsigned i = 0; i < count; i++)
        CHECK_OK(mr_store_put(store, &i, sizeof(i), "v", 1, &err), &err);
    CHECK_OK(mr__store_visit_changes(store, check_order, &order, &err), &err);
    CHECK_EQ_UINT(order.count, count);
    mr__store_accept(store);
    order = (struct order){0};
    CHECK_OK(mr__store_visit_all(store, check_order, &order, &err), &err);
    CHECK_EQ_UINT(order.count, count);
    order = (struct order){0};
    CHECK_OK(mr_store_scan_sorted(store, NULL, 0, check_key_order, &order, &err), &err);
    CHECK_EQ_UINT(order.count, count);
    order = (struct order){0};
    CHECK_OK(mr_store_scan_sorted(store, "\x80", 1, check_key_order, &order, &err), &err);
    for (unsigned i = 0; i < count; i++)
        from_there += (i & 0xff) >= 0x80;
    CHECK_EQ_UINT(order.count, from_there);
    mr__store_free(store);
}

/* ---------------------------------------------------------------- shards */

struct seen {
    struct mr_store *store;
    unsigned shard;
    uint64_t last_hash;
    uint64_t count;
};

static bool check_shard_order(const char *key, size_t key_bytes, const char *value,
                              size_t value_bytes, void *arg)
{
    struct seen *seen = arg;
    uint64_t hash = mr_store_hash(seen->store, key, key_bytes);

    MR_UNUSED(value);
    MR_UNUSED(value_bytes);
    CHECK_EQ_UINT(mr_store_shard(hash), seen->shard);
    CHECK(hash >> 32 >= seen->last_hash >> 32);
    seen->last_hash = hash;
    seen->count++;
    return true;
}

TEST(shards_are_ranges_of_key_groups_and_together_are_the_store)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    uint64_t count = 0;

    for (unsigned i = 0; i < 20000; i++)
        CHECK_OK(mr_store_put(store, &i, sizeof(i), "v", 1, &err), &err);
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        struct seen seen = {store, shard, (uint64_t)shard << 61, 0};

        CHECK(mr_store_scan_shard(store, shard, check_shard_order, &seen));
        CHECK(seen.count > 2000);
        count += seen.count;
    }
    CHECK_EQ_UINT(count, 20000);
    mr__store_free(store);
}

TEST(keys_are_changed_and_deleted_where_a_scan_found_them)
{
    enum { KEYS_HERE = 5000, AT_ONCE = 100 };
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    struct mr_store_entry entries[AT_ONCE];
    const char *value;
    size_t bytes;

    for (unsigned i = 0; i < KEYS_HERE; i++)
        CHECK_OK(mr_store_put(store, &i, sizeof(i), "four", 4, &err), &err);
    mr__store_accept(store);
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        uint32_t cursor = 0;
        size_t count;

        while ((count = mr_store_read_shard(store, shard, &cursor, entries, AT_ONCE)) > 0) {
            for (size_t i = 0; i < count; i++) {
                unsigned key;

                memcpy(&key, entries[i].key, sizeof(key));
                if (key % 3 == 0)
                    CHECK_OK(mr_store_delete_at(store, &entries[i], &err), &err);
                else if (key % 3 == 1)
                    CHECK_OK(
                        mr_store_put_at(store, &entries[i], "much longer than it was", 23, &err),
                        &err);
                else
                    CHECK_OK(mr_store_put_at(store, &entries[i], "more", 4, &err), &err);
            }
        }
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < KEYS_HERE; i++) {
            bool found = mr_store_get(store, &i, sizeof(i), &value, &bytes);

            CHECK_EQ_INT(found, round == 1 || i % 3 != 0);
            if (found)
                CHECK_EQ_UINT(bytes, round == 0 && i % 3 == 1 ? 23 : 4);
            if (found && round == 1)
                CHECK_EQ_MEM(value, "four", 4);
        }
        mr__store_rollback(store);
    }
    CHECK_EQ_UINT(mr_store_count(store), KEYS_HERE);
    mr__store_free(store);
}

static bool add_key(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                    void *arg)
{
    MR_UNUSED(value);
    MR_UNUSED(value_bytes);
    mr_buf_add(arg, key, key_bytes);
    return true;
}

/* A batch that runs again must give the same output, whatever its first attempt left behind. */
TEST(the_order_of_a_scan_depends_on_the_keys_alone)
{
    struct mr_buf orders[2] = {MR_BUF_INIT, MR_BUF_INIT};
    unsigned count = 150000; /* a few pairs of them have the same top 32 bits of the hash */
    struct mr_error err = {0};

    for (unsigned run = 0; run < 2; run++) {
        struct mr_store *store = new_store();

        for (unsigned i = 0; i < count; i++) {
            unsigned key = run == 0 ? i : count - 1 - i;
            CHECK_OK(mr_store_put(store, &key, sizeof(key), "v", 1, &err), &err);
        }
        for (unsigned i = count; run == 1 && i < 2 * count; i++)
            CHECK_OK(mr_store_put(store, &i, sizeof(i), "gone", 4, &err), &err);
        for (unsigned i = count; run == 1 && i < 2 * count; i++)
            CHECK_OK(mr_store_delete(store, &i, sizeof(i), &err), &err);
        mr_store_scan(store, add_key, &orders[run]);
        mr__store_free(store);
    }
    CHECK_EQ_UINT(orders[0].size, count * sizeof(unsigned));
    CHECK_EQ_UINT(orders[1].size, orders[0].size);
    CHECK_EQ_MEM(orders[0].data, orders[1].data, orders[0].size);
    mr_buf_release(&orders[0]);
    mr_buf_release(&orders[1]);
}

struct shard_writer {
    struct mr_store *store;
    unsigned shard;
    bool failed;
};

static void write_shard(void *arg)
{
    struct shard_writer *writer = arg;
    struct mr_error err = {0};

    for (unsigned i = 0; i < 40000; i++) {
        if (mr_store_shard(mr_store_hash(writer->store, &i, sizeof(i))) != writer->shard)
            continue;
        writer->failed |= mr_store_put(writer->store, &i, sizeof(i), &i, sizeof(i), &err) != MR_OK;
        if (i % 5 == 0)
            writer->failed |= mr_store_delete(writer->store, &i, sizeof(i), &err) != MR_OK;
    }
}

TEST(shards_are_changed_by_different_threads_at_once)
{
    struct mr_store *store = new_store();
    struct shard_writer writers[MR_STORE_SHARDS];
    struct mr_thread *threads[MR_STORE_SHARDS];
    struct mr_error err = {0};

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        writers[i] = (struct shard_writer){store, i, false};
        CHECK_OK(mr_thread_start("shard", write_shard, &writers[i], &threads[i], &err), &err);
    }
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        mr_thread_join(threads[i]);
        CHECK(!writers[i].failed);
    }
    CHECK_EQ_UINT(mr_store_count(store), 32000);
    mr__store_accept(store);
    CHECK_EQ_UINT(mr_store_count(store), 32000);
    mr__store_free(store);
}

TEST(many_small_keys_take_less_than_fifty_bytes_each)
{
    struct mr_store *store = new_store();
    struct mr_error err = {0};
    uint64_t key;

    for (key = 0; key < 100000; key++)
        CHECK_OK(mr_store_put(store, &key, sizeof(key), &key, sizeof(key), &err), &err);
    mr__store_accept(store);
    CHECK(mr_store_bytes(store) / 100000 < 50);
    mr__store_free(store);
}

TEST(size_classes_hold_what_they_say)
{
    unsigned last = 0;

    for (size_t bytes = 1; bytes < 300000; bytes += bytes < 2000 ? 1 : 97) {
        unsigned class = mr__slab_class(bytes);

        CHECK(mr__slab_class_bytes(class) >= bytes);
        CHECK(class == 0 || mr__slab_class_bytes(class - 1) < bytes);
        CHECK(class >= last && class < MR_SLAB_CLASSES);
        last = class;
    }
    CHECK(mr__slab_class((size_t)MR_STORE_VALUE_BYTES_MAX + MR_STORE_KEY_BYTES_MAX + 8) <
          MR_SLAB_CLASSES);
}

TEST(every_failing_allocation_leaves_the_store_as_it_was)
{
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct mr_store *store = new_store();
        struct mr_error err = {0};
        bool failed = false;
        char key[8] = "k0";

        put(store, "k0", "before");
        mr__store_accept(store);
        mr_alloc_fail_at(nth, false);
        for (unsigned i = 0; i < 300; i++) {
            char value[100] = {0};

            snprintf(key, sizeof(key), "k%u", i);
            failed |=
                mr_store_put(store, key, strlen(key), value, i % sizeof(value), &err) != MR_OK;
        }
        mr_alloc_fail_at(0, false);
        mr__store_rollback(store);
        CHECK_EQ_UINT(mr_store_count(store), 1);
        check_value(store, "k0", "before");
        mr__store_free(store);
        if (!failed)
            return;
    }
}
