/* Walks over a store against the same batches of single puts: the same state, the same parts. */
#include "base/alloc.h"
#include "state/internal.h"
#include "support/test.h"

#include <stdlib.h>

struct key {
    uint64_t hash;
    char bytes[24];
    size_t size;
};

struct sides {
    struct mr_store *walked;
    struct mr_store *plain;
};

static void new_sides(struct sides *ret_sides)
{
    ret_sides->walked = mr__store_new("s", "test", "k", "v", 99);
    ret_sides->plain = mr__store_new("s", "test", "k", "v", 99);
    CHECK_NOT_NULL(ret_sides->walked);
    CHECK_NOT_NULL(ret_sides->plain);
}

static void free_sides(struct sides *sides)
{
    mr__store_free(sides->walked);
    mr__store_free(sides->plain);
}

/* 4 to 24 bytes. */
static struct key make_key(const struct mr_store *store, uint32_t number)
{
    struct key key = {.size = sizeof(number) + number % 21};

    memset(key.bytes, 'a' + (int)(number % 7), key.size);
    memcpy(key.bytes, &number, sizeof(number));
    key.hash = mr_store_hash(store, key.bytes, key.size);
    return key;
}

static int compare_keys(const void *a_pointer, const void *b_pointer)
{
    const struct key *a = a_pointer, *b = b_pointer;
    int order = memcmp(a->bytes, b->bytes, MR_MIN(a->size, b->size));

    if (a->hash >> 32 != b->hash >> 32)
        return a->hash < b->hash ? -1 : 1;
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

static struct key *make_keys(const struct mr_store *store, uint32_t from, uint32_t step,
                             size_t count)
{
    struct key *keys = mr_alloc(NULL, count * sizeof(*keys));

    CHECK_NOT_NULL(keys);
    for (size_t i = 0; i < count; i++)
        keys[i] = make_key(store, from + (uint32_t)i * step);
    qsort(keys, count, sizeof(*keys), compare_keys);
    return keys;
}

static const char *value_of(const struct key *key, uint32_t salt, size_t *ret_bytes)
{
    static char value[64];

    *ret_bytes = (key->hash >> 3 ^ salt * 2654435761u) % sizeof(value);
    if (salt % 2 == 0)
        *ret_bytes %= 6;
    for (size_t i = 0; i < *ret_bytes; i++)
        value[i] = (char)(key->hash >> i % 8 * 8 ^ salt);
    return value;
}

static void walk_put(struct mr_store *store, const struct key *key, uint32_t salt)
{
    struct mr_store_entry at;
    struct mr_error err = {0};
    size_t size;
    const char *value = value_of(key, salt, &size);

    if (mr_store_find(store, key->hash, key->bytes, key->size, &at))
        CHECK_OK(mr_store_walk_put(store, &at, value, size, &err), &err);
    else
        CHECK_OK(mr_store_walk_add(store, key->hash, key->bytes, key->size, value, size, &err),
                 &err);
}

static void plain_put(struct mr_store *store, const struct key *key, uint32_t salt)
{
    struct mr_error err = {0};
    size_t size;
    const char *value = value_of(key, salt, &size);

    CHECK_OK(mr_store_put_hashed(store, key->hash, key->bytes, key->size, value, size, &err), &err);
}

static void begin(struct mr_store *store)
{
    struct mr_error err = {0};

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        CHECK_OK(mr_store_walk_begin(store, i, &err), &err);
}

static void put_both(struct sides *sides, const struct key *keys, size_t count, uint32_t salt)
{
    for (size_t i = 0; i < count; i++) {
        walk_put(sides->walked, &keys[i], salt);
        plain_put(sides->plain, &keys[i], salt);
    }
}

static bool any_walk(const struct mr_store *store)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        if (store->shards[i] != NULL && store->shards[i]->is_walk &&
            store->shards[i]->change_count > 0)
            return true;
    return false;
}

static void write_part(const struct mr_store *store, bool is_snapshot, struct mr_buf *out)
{
    static const uint8_t query_id[16] = {1};
    struct mr_part_target target = {.inline_bytes_max = UINT32_MAX};
    struct mr_state_part part = {.is_snapshot = is_snapshot};
    struct mr_jobs jobs = {0};
    struct mr_store_stats stats;
    struct mr_error err = {0};

    CHECK_OK(mr__part_write(store, &part, query_id, &jobs, &target, &stats, &err), &err);
    mr_buf_clear(out);
    mr_buf_add(out, target.bytes.data, target.bytes.size);
    mr__part_target_release(&target);
}

static enum mr_status print_item(const struct mr_item *item, void *arg, struct mr_error *err)
{
    struct mr_buf *out = arg;

    MR_UNUSED(err);
    mr_buf_add_u32(out, item->fragment);
    mr_buf_add_block(out, item->key, item->key_bytes);
    mr_buf_add_block(out, item->value, item->is_delete ? 0 : item->value_bytes);
    mr_buf_add_u8(out, item->is_delete);
    return MR_OK;
}

static void check_same(const struct mr_buf *a, const struct mr_buf *b)
{
    CHECK(!a->failed && !b->failed);
    CHECK_EQ_UINT(a->size, b->size);
    CHECK(a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

static void check_sides(const struct sides *sides)
{
    struct mr_buf a = MR_BUF_INIT, b = MR_BUF_INIT;
    struct mr_store_stats stats[2];
    struct mr_error err = {0};

    for (int is_snapshot = 0; is_snapshot < 2; is_snapshot++) {
        write_part(sides->walked, is_snapshot != 0, &a);
        write_part(sides->plain, is_snapshot != 0, &b);
        check_same(&a, &b);
    }
    mr_buf_clear(&a);
    mr_buf_clear(&b);
    CHECK_OK(mr__store_visit_changes(sides->walked, print_item, &a, &err), &err);
    CHECK_OK(mr__store_visit_changes(sides->plain, print_item, &b, &err), &err);
    check_same(&a, &b);
    mr__store_count_changes(sides->walked, &stats[0]);
    mr__store_count_changes(sides->plain, &stats[1]);
    CHECK_EQ_UINT(stats[0].updated, stats[1].updated);
    CHECK_EQ_UINT(stats[0].removed, stats[1].removed);
    CHECK_EQ_UINT(mr_store_count(sides->walked), mr_store_count(sides->plain));
    mr_buf_release(&a);
    mr_buf_release(&b);
}

static void end_batch(struct sides *sides, bool accept)
{
    check_sides(sides);
    if (accept) {
        mr__store_accept(sides->walked);
        mr__store_accept(sides->plain);
    } else {
        mr__store_rollback(sides->walked);
        mr__store_rollback(sides->plain);
    }
    check_sides(sides);
}

TEST(a_walk_leaves_what_single_puts_leave)
{
    struct sides sides;

    new_sides(&sides);
    for (uint32_t batch = 0; batch < 12; batch++) { /* every third one fails */
        struct key *keys = make_keys(sides.plain, batch * 50, 1 + batch % 4, 700);

        begin(sides.walked);
        put_both(&sides, keys, 700, batch);
        CHECK(any_walk(sides.walked));
        end_batch(&sides, batch % 3 != 2);
        mr_free(keys);
    }
    free_sides(&sides);
}

TEST(a_large_walk_is_written_in_pieces)
{
    enum { KEYS = 150000 };
    struct sides sides;
    struct key *keys;

    new_sides(&sides);
    keys = make_keys(sides.plain, 0, 1, KEYS);
    for (uint32_t batch = 0; batch < 2; batch++) {
        begin(sides.walked);
        put_both(&sides, keys, KEYS, batch * 2);
        end_batch(&sides, true);
    }
    mr_free(keys);
    free_sides(&sides);
}

/* What comes between the puts of a walk, on both sides. */
static void disturb(struct sides *sides, const struct key *key, uint32_t how)
{
    struct mr_store *stores[2] = {sides->walked, sides->plain};

    for (int i = 0; i < 2; i++) {
        struct mr_error err = {0};
        struct mr_store_entry at;
        bool created, there = mr_store_find(stores[i], key->hash, key->bytes, key->size, &at);
        char *value;

        if (how == 0)
            CHECK_OK(mr_store_delete(stores[i], key->bytes, key->size, &err), &err);
        else if (how == 1 && there)
            CHECK_OK(mr_store_delete_at(stores[i], &at, &err), &err);
        else if (how == 2 && there)
            CHECK_OK(mr_store_put_at(stores[i], &at, "0123456789012345678901234567890", 31, &err),
                     &err);
        else if (how == 3)
            CHECK_OK(mr_store_upsert(stores[i], key->bytes, key->size, 9, &value, &created, &err),
                     &err);
        else
            CHECK_OK(mr_store_put(stores[i], key->bytes, key->size, "x", 1, &err), &err);
    }
}

TEST(any_other_change_ends_a_walk)
{
    enum { KEYS = 600 };
    struct sides sides;

    new_sides(&sides);
    for (uint32_t batch = 0; batch < 40; batch++) {
        struct key *keys = make_keys(sides.plain, batch % 3 * 100, 1, KEYS);
        size_t at = 1 + batch * 13 % KEYS;

        begin(sides.walked);
        put_both(&sides, keys, at, batch);
        disturb(&sides, &keys[batch % 2 == 0 ? at - 1 : (at - 1) / 2], batch % 5);
        put_both(&sides, keys + at, KEYS - at, batch);
        end_batch(&sides, batch % 4 != 1);
        mr_free(keys);
    }
    free_sides(&sides);
}

TEST(a_walk_that_goes_back_or_stays_makes_ordinary_changes)
{
    enum { KEYS = 300 };
    struct sides sides;
    struct key *keys;

    new_sides(&sides);
    keys = make_keys(sides.plain, 0, 1, KEYS);
    begin(sides.walked);
    put_both(&sides, keys, KEYS, 1);
    end_batch(&sides, true);
    begin(sides.walked);
    put_both(&sides, keys, KEYS, 2);
    put_both(&sides, keys, KEYS, 3);
    CHECK(!any_walk(sides.walked));
    end_batch(&sides, true);
    begin(sides.walked);
    for (size_t i = KEYS; i-- > 0;)
        put_both(&sides, &keys[i], 1, 4);
    end_batch(&sides, false);
    begin(sides.walked);
    for (size_t i = 0; i < KEYS; i++) {
        put_both(&sides, &keys[i], 1, 5);
        put_both(&sides, &keys[i], 1, 6);
    }
    end_batch(&sides, true);
    mr_free(keys);
    free_sides(&sides);
}

TEST(a_shard_with_changes_begins_no_walk)
{
    enum { KEYS = 300 };
    struct sides sides;
    struct key *keys;

    new_sides(&sides);
    keys = make_keys(sides.plain, 0, 1, KEYS);
    for (size_t i = 0; i < KEYS; i += 3) {
        plain_put(sides.walked, &keys[i], 8);
        plain_put(sides.plain, &keys[i], 8);
    }
    begin(sides.walked);
    put_both(&sides, keys, KEYS, 9);
    CHECK(!any_walk(sides.walked));
    end_batch(&sides, true);
    mr_free(keys);
    free_sides(&sides);
}

TEST(keys_and_values_over_their_limits_are_refused)
{
    static char much[MR_STORE_KEY_BYTES_MAX + 1];
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);
    struct mr_error err = {0};

    CHECK_NOT_NULL(store);
    begin(store);
    CHECK_STATUS(mr_store_walk_add(store, mr_store_hash(store, much, sizeof(much)), much,
                                   sizeof(much), "v", 1, &err),
                 MR_LIMIT);
    CHECK(!any_walk(store));
    mr__store_rollback(store);
    CHECK_EQ_UINT(mr_store_count(store), 0);
    mr__store_free(store);
}

/* Bytes of logs that the store holds between batches. */
static size_t held_bytes(const struct mr_store *store)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        bytes += store->shards[i]->change_capacity * sizeof(struct mr_change) +
                 store->shards[i]->undo_capacity;
    return bytes;
}

TEST(the_memory_of_a_large_walk_goes_with_the_next_small_batch)
{
    enum { KEYS = 150000 };
    struct sides sides;
    struct key *keys;
    size_t held;

    new_sides(&sides);
    keys = make_keys(sides.plain, 0, 1, KEYS);
    begin(sides.walked);
    for (size_t i = 0; i < KEYS; i++)
        walk_put(sides.walked, &keys[i], 3);
    mr__store_accept(sides.walked);
    held = held_bytes(sides.walked);
    CHECK(held > KEYS * sizeof(struct mr_change)); /* another one will need it */
    begin(sides.walked);
    for (size_t i = 0; i < KEYS; i += 100)
        walk_put(sides.walked, &keys[i], 4);
    mr__store_accept(sides.walked);
    CHECK(held_bytes(sides.walked) < held / 50);
    mr_free(keys);
    free_sides(&sides);
}
