/*
 * The collection's vectors of a state map with versions: a store's committed version is the parent,
 * the batch in flight the child. The entries of a child that is rolled back are the parent's again.
 *
 * An entry is a value and the time it was put at, as map_with_state keeps them; "by time" is a scan
 * for entries put before a time.
 */
#include "state/internal.h"
#include "support/test.h"

#include <stdlib.h>

struct entry {
    int64_t time;
    int64_t value;
};

static struct mr_store *new_store(void)
{
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);

    CHECK_NOT_NULL(store);
    return store;
}

static void put(struct mr_store *store, int key, int64_t value, int64_t time)
{
    struct entry entry = {time, value};
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(store, &key, sizeof(key), &entry, sizeof(entry), &err), &err);
}

static void drop(struct mr_store *store, int key)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_delete(store, &key, sizeof(key), &err), &err);
}

/* -1: none */
static int64_t get(const struct mr_store *store, int key)
{
    const char *value = NULL;
    struct entry entry;
    size_t size = 0;

    if (!mr_store_get(store, &key, sizeof(key), &value, &size))
        return -1;
    CHECK_EQ_UINT(size, sizeof(entry));
    memcpy(&entry, value, sizeof(entry));
    return entry.value;
}

struct by_time {
    int64_t before;
    char text[256];
};

static bool add_older(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct by_time *found = arg;
    size_t used = strlen(found->text);
    struct entry entry;
    int number;

    CHECK_EQ_UINT(key_bytes, sizeof(number));
    CHECK_EQ_UINT(value_bytes, sizeof(entry));
    memcpy(&number, key, sizeof(number));
    memcpy(&entry, value, sizeof(entry));
    if (entry.time < found->before)
        snprintf(found->text + used, sizeof(found->text) - used, "%s%d", used > 0 ? "," : "",
                 number);
    return true;
}

static void check_by_time(const struct mr_store *store, int64_t before, const char *keys)
{
    struct by_time found = {.before = before};
    struct mr_error err = {0};

    CHECK_OK(mr_store_scan_sorted(store, NULL, 0, add_older, &found, &err), &err);
    CHECK_EQ_STR(found.text, keys);
}

TEST(V124_V125_entries_are_found_by_key_and_by_time)
{
    struct mr_store *store = new_store();

    put(store, 1, 100, 10);
    CHECK_EQ_INT(get(store, 1), 100);
    CHECK_EQ_INT(get(store, 2), -1);
    check_by_time(store, 11, "1");
    check_by_time(store, 10, "");
    check_by_time(store, 9, "");
    put(store, 2, 200, 20);
    CHECK_EQ_INT(get(store, 1), 100);
    CHECK_EQ_INT(get(store, 2), 200);
    check_by_time(store, 21, "1,2");
    check_by_time(store, 11, "1");
    check_by_time(store, 10, "");
    mr__store_free(store);
}

/* {(2,200,2)} */
static struct mr_store *parent_of_two(void)
{
    struct mr_store *store = new_store();

    put(store, 1, 100, 1);
    put(store, 2, 200, 2);
    drop(store, 1);
    mr__store_accept(store);
    return store;
}

static void check_parent(struct mr_store *store)
{
    mr__store_rollback(store);
    CHECK_EQ_UINT(mr_store_count(store), 1);
    CHECK_EQ_INT(get(store, 2), 200);
    check_by_time(store, INT64_MAX, "2");
    check_by_time(store, 2, "");
}

static void put_three_and_four(struct mr_store *store)
{
    put(store, 3, 300, 3);
    put(store, 4, 400, 4);
}

static void put_all_anew(struct mr_store *store)
{
    for (int key = 1; key <= 4; key++)
        put(store, key, 1000 * key, 100 * key);
}

TEST(V127_V128_a_version_has_the_entries_of_the_one_before_and_its_own)
{
    struct mr_store *store = parent_of_two();

    CHECK_EQ_INT(get(store, 1), -1);
    CHECK_EQ_INT(get(store, 2), 200);
    check_by_time(store, 10, "2");
    check_by_time(store, 2, "");
    put_three_and_four(store);
    check_by_time(store, 4, "2,3");
    check_parent(store);
    mr__store_free(store);
}

TEST(V130_entries_put_anew_hide_those_of_the_version_before)
{
    struct mr_store *store = parent_of_two();

    put_three_and_four(store);
    put_all_anew(store);
    for (int key = 1; key <= 4; key++)
        CHECK_EQ_INT(get(store, key), 1000 * key);
    check_by_time(store, INT64_MAX, "1,2,3,4");
    check_by_time(store, 200, "1");
    check_parent(store);
    mr__store_free(store);
}

TEST(V131_a_removed_entry_stays_removed_in_the_next_version)
{
    struct mr_store *store = parent_of_two();

    put_three_and_four(store);
    put_all_anew(store);
    drop(store, 2);
    mr__store_accept(store);
    CHECK_EQ_INT(get(store, 1), 1000);
    CHECK_EQ_INT(get(store, 2), -1);
    CHECK_EQ_INT(get(store, 3), 3000);
    put(store, 2, 20000, 200);
    CHECK_EQ_INT(get(store, 2), 20000);
    mr__store_rollback(store);
    CHECK_EQ_INT(get(store, 2), -1);
    mr__store_free(store);
}

/* ---- every sequence ---- */

enum { SETS = 3, OPS = 3, MAP_KEYS = 1 << (SETS * OPS) };

struct reference {
    int64_t value[MAP_KEYS]; /* -1: none */
    int64_t time[MAP_KEYS];
};

struct check {
    const struct reference *reference;
    int64_t before;
    uint64_t found;
};

static bool check_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                        void *arg)
{
    struct check *check = arg;
    struct entry entry;
    int number;

    CHECK_EQ_UINT(key_bytes, sizeof(number));
    CHECK_EQ_UINT(value_bytes, sizeof(entry));
    memcpy(&number, key, sizeof(number));
    memcpy(&entry, value, sizeof(entry));
    CHECK_EQ_INT(entry.value, check->reference->value[number]);
    CHECK_EQ_INT(entry.time, check->reference->time[number]);
    check->found += entry.time < check->before;
    return true;
}

static void check_map(const struct mr_store *store, const struct reference *reference)
{
    uint64_t count = 0;

    for (int key = 0; key < MAP_KEYS; key++) {
        CHECK_EQ_INT(get(store, key), reference->value[key]);
        count += reference->value[key] >= 0;
    }
    CHECK_EQ_UINT(mr_store_count(store), count);
    for (int64_t before = 0; before <= SETS * OPS + 1; before++) {
        struct check check = {reference, before, 0};
        uint64_t wanted = 0;

        for (int key = 0; key < MAP_KEYS; key++)
            wanted += reference->value[key] >= 0 && reference->time[key] < before;
        mr_store_scan(store, check_entry, &check);
        CHECK_EQ_UINT(check.found, wanted);
    }
}

/* Key k is put or removed by operation i as bit i of k says. */
static void apply(struct mr_store *store, struct reference *reference, int operation)
{
    for (int key = 0; key < MAP_KEYS; key++) {
        if ((key >> operation & 1) != 0) {
            reference->value[key] = key * 100 + operation;
            reference->time[key] = operation + 1;
            put(store, key, reference->value[key], reference->time[key]);
        } else {
            reference->value[key] = -1;
            drop(store, key);
        }
    }
}

TEST(V133_every_sequence_of_puts_and_removals_agrees_with_a_reference)
{
    struct reference *reference = malloc(sizeof(*reference)), *before = malloc(sizeof(*before));
    struct mr_store *store = new_store();

    CHECK(reference != NULL && before != NULL);
    for (int key = 0; key < MAP_KEYS; key++)
        reference->value[key] = -1;
    for (int set = 0; set < SETS; set++) {
        *before = *reference;
        /* Twice: the first time is undone, and the version before must be as it was. */
        for (int attempt = 0; attempt < 2; attempt++) {
            for (int op = 0; op < OPS; op++) {
                apply(store, reference, set * OPS + op);
                check_map(store, reference);
            }
            if (attempt == 1)
                break;
            mr__store_rollback(store);
            *reference = *before;
            check_map(store, reference);
        }
        mr__store_accept(store);
        check_map(store, reference);
    }
    free(reference);
    free(before);
    mr__store_free(store);
}
