/*
 * Group tables; see group_table.h.  Used by the partial aggregate, one table a task.
 *
 * A level is an open-addressing table (linear probing, at most half full, power of two) over dense
 * arrays with one entry a number:
 *
 *     slot      word (8) | prefix (4) | number + 1 (4)                      empty: all zero
 *     word      FIXED    the ordinal of the value
 *               BYTES    up to 7 bytes: the bytes, their count in the top byte: equal words are
 *                        equal values
 *                        longer: a hash with 0xff in the top byte; the bytes are compared in
 *                        `values`
 *     prefix    number in the level before + 1 (1 in level 0); top bit: the value is null
 *
 * Kinds: FIXED BOOL and fixed widths up to 8 bytes BYTES TEXT, BINARY and DECIMAL (its 16 bytes)
 *         ENCODED  LIST and STRUCT: their key bytes as BYTES
 *
 * Room for a whole chunk is made before it is looked up, so the loops never grow anything. The hash
 * is one multiplication to 128 bits folded to 64, keyed with numbers that differ from process to
 * process (hash flooding); numbers depend on the order of rows only.
 */
#include "ops/group_table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "data/row_codec.h"

#include <sys/auxv.h>

__extension__ typedef unsigned __int128 uint128;

enum {
    SLOTS_MIN = 64,
    PREFETCH_SLOTS = 32 * 1024, /* 512 KiB: half a second-level cache */
    PREFETCH_AHEAD = 16,
    KEPT_SLOTS_MAX = 256 * 1024, /* 4 MiB */
    SHORT_BYTES_MAX = 7,
};
static const uint32_t PREFIX_NULL = UINT32_C(1) << 31;
static const uint32_t NUMBERS_MAX = 2 * (uint32_t)MR_LIMIT_GROUPS_PER_TASK;
static const uint64_t LONG_TAG = UINT64_C(0xff) << 56;

enum kind { KIND_FIXED, KIND_BYTES, KIND_ENCODED };

struct slot {
    uint64_t word;
    uint32_t prefix;
    uint32_t number; /* + 1; 0 = empty */
};

struct value_bytes {
    const char *data; /* in the arena */
    size_t size_bytes;
};

struct level {
    uint32_t column;
    enum kind kind;
    struct mr_type type;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t count;    /* numbers given */
    uint32_t capacity; /* of the arrays below, by number */
    uint64_t *words;
    uint32_t *prefixes;
    uint32_t *homes;            /* slot of the number */
    struct value_bytes *values; /* BYTES, ENCODED: of long words */
    struct mr_arena arena;
};

struct mr_group_table {
    struct mr_schema *schema;
    struct level *levels;
    uint32_t level_count;
    uint64_t seed[2];
    struct mr_buf scratch;
    uint32_t encoded_ends[MR_CHUNK_ROWS];
    uint64_t words[MR_CHUNK_ROWS];
};

/* ---- making ---- */

static enum kind kind_of(const struct mr_type *type)
{
    if (type->id == MR_TYPE_LIST || type->id == MR_TYPE_STRUCT)
        return KIND_ENCODED;
    return mr_ordinal_has(type->id) ? KIND_FIXED : KIND_BYTES;
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot grow a group table: out of memory; make batches smaller");
}

enum mr_status mr_group_table_new(const struct mr_schema *schema, const uint32_t *columns,
                                  uint32_t column_count, struct mr_group_table **ret_table,
                                  struct mr_error *err)
{
    struct mr_group_table *table = mr_alloc_zero(NULL, sizeof(*table));
    /* Sixteen bytes that the kernel gives to every process for such uses. */
    const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);

    if (table == NULL)
        return no_memory(err);
    table->schema = mr_schema_ref(schema);
    if (random != NULL)
        memcpy(table->seed, random, sizeof(table->seed));
    table->seed[0] ^= UINT64_C(0x9e3779b97f4a7c15);
    table->seed[1] |= 1;
    table->levels = mr_alloc_zero(NULL, (column_count + 1) * sizeof(*table->levels));
    if (table->levels == NULL) {
        mr_group_table_free(table);
        return no_memory(err);
    }
    table->level_count = column_count;
    for (uint32_t i = 0; i < column_count; i++) {
        struct level *level = &table->levels[i];
        level->column = columns[i];
        level->type = mr_schema_field(schema, columns[i])->type;
        level->kind = kind_of(&level->type);
    }
    *ret_table = table;
    return MR_OK;
}

static void level_release(struct level *level)
{
    mr_free(level->slots);
    mr_free(level->words);
    mr_free(level->prefixes);
    mr_free(level->homes);
    mr_free(level->values);
    mr_arena_release(&level->arena);
    level->slots = NULL;
    level->words = NULL;
    level->prefixes = NULL;
    level->homes = NULL;
    level->values = NULL;
    level->slot_count = level->count = level->capacity = 0;
}

void mr_group_table_free(struct mr_group_table *table)
{
    if (table == NULL)
        return;
    for (uint32_t i = 0; table->levels != NULL && i < table->level_count; i++)
        level_release(&table->levels[i]);
    mr_free(table->levels);
    mr_buf_release(&table->scratch);
    mr_schema_unref(table->schema);
    mr_free(table);
}

uint32_t mr_group_table_count(const struct mr_group_table *table)
{
    return table->level_count == 0 ? 1 : table->levels[table->level_count - 1].count;
}

/* ---- room ---- */

static inline uint64_t fold_multiply(uint64_t a, uint64_t b)
{
    uint128 product = (uint128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint32_t home_of(const uint64_t *seed, uint64_t word, uint32_t prefix, uint32_t mask)
{
    uint64_t other = seed[1] + prefix * UINT64_C(0xd6e8feb86659fd92); /* even: the sum stays odd */
    return (uint32_t)fold_multiply(word ^ seed[0], other) & mask;
}

static bool grow_array(void *array_pointer, uint32_t capacity, size_t width)
{
    void *array;

    memcpy(&array, array_pointer, sizeof(array));
    array = mr_realloc(NULL, array, capacity * width);
    if (array == NULL)
        return false;
    memcpy(array_pointer, &array, sizeof(array));
    return true;
}

static enum mr_status grow_numbers(struct level *level, uint32_t wanted, struct mr_error *err)
{
    uint32_t capacity = level->capacity < 32 ? 64 : level->capacity * 2;

    if (capacity < wanted)
        capacity = wanted;
    if (!grow_array(&level->words, capacity, sizeof(*level->words)) ||
        !grow_array(&level->prefixes, capacity, sizeof(*level->prefixes)) ||
        !grow_array(&level->homes, capacity, sizeof(*level->homes)) ||
        (level->kind != KIND_FIXED &&
         !grow_array(&level->values, capacity, sizeof(*level->values))))
        return no_memory(err);
    level->capacity = capacity;
    return MR_OK;
}

static enum mr_status grow_slots(struct mr_group_table *table, struct level *level, uint32_t wanted,
                                 struct mr_error *err)
{
    uint64_t slot_count = SLOTS_MIN;

    while (slot_count < wanted * UINT64_C(2))
        slot_count *= 2;
    struct slot *slots = mr_alloc_zero(NULL, slot_count * sizeof(*slots));
    if (slots == NULL)
        return no_memory(err);
    uint32_t mask = (uint32_t)(slot_count - 1);
    for (uint32_t number = 0; number < level->count; number++) {
        uint32_t at = home_of(table->seed, level->words[number], level->prefixes[number], mask);
        while (slots[at].number != 0)
            at = (at + 1) & mask;
        slots[at] = (struct slot){level->words[number], level->prefixes[number], number + 1};
        level->homes[number] = at;
    }
    mr_free(level->slots);
    level->slots = slots;
    level->slot_count = (uint32_t)slot_count;
    return MR_OK;
}

/* Makes sure that `more` new numbers fit. */
static enum mr_status reserve(struct mr_group_table *table, struct level *level, uint32_t more,
                              struct mr_error *err)
{
    uint32_t wanted = level->count + more;

    if (wanted > NUMBERS_MAX / 2)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot group: more than %u groups in one partition of a "
                       "batch; make batches smaller",
                       NUMBERS_MAX / 2);
    if (wanted > level->capacity)
        MR_TRY(grow_numbers(level, wanted, err));
    if (wanted * UINT64_C(2) > level->slot_count)
        MR_TRY(grow_slots(table, level, wanted, err));
    return MR_OK;
}

/* ---- finding ---- */

/* Gives the next number to a value that is not there; slot is the empty one for it. data: NULL when
 * the word says all. */
static bool add_number(struct level *level, uint32_t at, uint64_t word, uint32_t prefix,
                       const char *data, size_t size_bytes)
{
    uint32_t number = level->count;

    if (level->kind != KIND_FIXED) {
        level->values[number] = (struct value_bytes){NULL, size_bytes};
        if (data != NULL) {
            char *copy = mr_arena_copy(&level->arena, data, size_bytes);
            if (copy == NULL)
                return false;
            level->values[number].data = copy;
        }
    }
    level->words[number] = word;
    level->prefixes[number] = prefix;
    level->homes[number] = at;
    level->slots[at] = (struct slot){word, prefix, number + 1};
    level->count = number + 1;
    return true;
}

/* The number of a value that its word identifies, given or new. */
static inline uint32_t find_word(struct mr_group_table *table, struct level *level, uint64_t word,
                                 uint32_t prefix)
{
    uint32_t mask = level->slot_count - 1;
    uint32_t at = home_of(table->seed, word, prefix, mask);

    for (;; at = (at + 1) & mask) {
        const struct slot *slot = &level->slots[at];
        if (slot->word == word && slot->prefix == prefix)
            return slot->number - 1;
        if (slot->number == 0) {
            add_number(level, at, word, prefix, NULL, 0); /* cannot fail: nothing is copied */
            return level->count - 1;
        }
    }
}

static inline uint64_t load_word(const char *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof(word));
    return word;
}

/* Of at least 8 bytes: 16 at a time, the last ones once more. Most keys are short: a call of the
 * general hash would cost more. */
static inline uint64_t hash_bytes(const uint64_t *seed, const char *data, size_t size_bytes)
{
    uint64_t hash = seed[0] ^ size_bytes * UINT64_C(0x9e3779b97f4a7c15);
    const char *end = data + size_bytes;

    if (size_bytes <= 16)
        return fold_multiply(load_word(data) ^ hash, load_word(end - 8) ^ seed[1]);
    for (; data + 16 < end; data += 16)
        hash = fold_multiply(load_word(data) ^ hash, load_word(data + 8) ^ seed[1]);
    return fold_multiply(load_word(end - 16) ^ hash, load_word(end - 8) ^ seed[1]);
}

/* Both of the same size, at least 8. */
static inline bool equal_bytes(const char *a, const char *b, size_t size_bytes)
{
    size_t last = size_bytes - 8;
    uint64_t different = load_word(a + last) ^ load_word(b + last);

    if (size_bytes > 64)
        return memcmp(a, b, size_bytes) == 0;
    for (size_t at = 0; at < last; at += 8)
        different |= load_word(a + at) ^ load_word(b + at);
    return different == 0;
}

/* The number of bytes whose word is a hash, given or new; UINT32_MAX without memory. */
static uint32_t find_bytes(struct mr_group_table *table, struct level *level, uint64_t word,
                           uint32_t prefix, const char *data, size_t size_bytes)
{
    uint32_t mask = level->slot_count - 1;
    uint32_t at = home_of(table->seed, word, prefix, mask);

    for (;; at = (at + 1) & mask) {
        const struct slot *slot = &level->slots[at];
        if (slot->word == word && slot->prefix == prefix) {
            const struct value_bytes *value = &level->values[slot->number - 1];
            if (value->size_bytes == size_bytes && equal_bytes(value->data, data, size_bytes))
                return slot->number - 1;
        }
        if (slot->number == 0) {
            if (!add_number(level, at, word, prefix, data, size_bytes))
                return UINT32_MAX;
            return level->count - 1;
        }
    }
}

static inline void prefetch(const struct mr_group_table *table, const struct level *level,
                            uint64_t word, uint32_t prefix)
{
    uint32_t at = home_of(table->seed, word, prefix, level->slot_count - 1);

    __builtin_prefetch(&level->slots[at], 1);
}

/* What the loops below know of a chunk; groups holds the prefixes on entry and the numbers on
 * return. */
struct chunk {
    const struct mr_column *column;
    int64_t from;
    uint32_t count;
    bool first; /* level 0: all prefixes are 1 */
    bool nulls;
    uint32_t *groups;
};

static inline uint32_t prefix_of(const struct chunk *chunk, uint32_t i)
{
    uint32_t prefix = chunk->first ? 1 : chunk->groups[i] + 1;

    if (chunk->nulls && mr_column_is_null(chunk->column, chunk->from + i))
        prefix |= PREFIX_NULL;
    return prefix;
}

static bool all_equal(const uint64_t *words, uint32_t count)
{
    uint64_t different = 0;

    for (uint32_t i = 1; i < count; i++)
        different |= words[i] ^ words[0];
    return different == 0;
}

/* Words that identify their values: no bytes to compare. `first`, `nulls` and `ahead` are constants
 * in each call. */
static inline __attribute__((always_inline)) void find_words_loop(struct mr_group_table *table,
                                                                  struct level *level,
                                                                  struct chunk chunk, bool ahead)
{
    const uint64_t *words = table->words;

    for (uint32_t i = 0; i < chunk.count; i++) {
        if (ahead && i + PREFETCH_AHEAD < chunk.count)
            prefetch(table, level, words[i + PREFETCH_AHEAD],
                     prefix_of(&chunk, i + PREFETCH_AHEAD));
        uint32_t prefix = prefix_of(&chunk, i);
        chunk.groups[i] = find_word(table, level, words[i], prefix);
    }
}

static void find_words(struct mr_group_table *table, struct level *level, struct chunk chunk)
{
    bool ahead = level->slot_count > PREFETCH_SLOTS;

    if (chunk.nulls) { /* whatever is stored for nulls, they are one value */
        for (uint32_t i = 0; i < chunk.count; i++)
            if (mr_column_is_null(chunk.column, chunk.from + i))
                table->words[i] = 0;
        find_words_loop(table, level, chunk, false);
    } else if (chunk.first && !ahead) {
        chunk.nulls = false;
        chunk.first = true;
        find_words_loop(table, level, chunk, false);
    } else if (chunk.first) {
        chunk.nulls = false;
        chunk.first = true;
        find_words_loop(table, level, chunk, true);
    } else {
        chunk.nulls = false;
        chunk.first = false;
        find_words_loop(table, level, chunk, ahead);
    }
}

static void find_fixed(struct mr_group_table *table, struct level *level, struct chunk chunk)
{
    int64_t *ordinals = (int64_t *)table->words;

    mr_ordinal_load(chunk.column, chunk.from, chunk.count, ordinals);
    /* Window starts: mostly one for the whole chunk. */
    if (chunk.first && !chunk.nulls && all_equal(table->words, chunk.count)) {
        uint32_t number = find_word(table, level, table->words[0], 1);
        for (uint32_t i = 0; i < chunk.count; i++)
            chunk.groups[i] = number;
        return;
    }
    find_words(table, level, chunk);
}

static inline uint64_t short_word(uint64_t bytes, size_t size_bytes)
{
    uint64_t mask = (UINT64_C(1) << (8 * size_bytes)) - 1;

    return (bytes & mask) | (uint64_t)size_bytes << 56;
}

static uint64_t word_of_bytes(const struct mr_group_table *table, const char *data,
                              size_t size_bytes)
{
    uint64_t bytes = 0;

    if (size_bytes > SHORT_BYTES_MAX)
        return hash_bytes(table->seed, data, size_bytes) | LONG_TAG;
    if (size_bytes > 0)
        memcpy(&bytes, data, size_bytes);
    return short_word(bytes, size_bytes);
}

/* Values of a chunk as pointers and sizes, whatever they are in. */
static inline struct mr_slice bytes_of(const struct mr_group_table *table,
                                       const struct level *level, const struct chunk *chunk,
                                       uint32_t i)
{
    if (level->kind == KIND_ENCODED) {
        uint32_t start = i == 0 ? 0 : table->encoded_ends[i - 1];
        return (struct mr_slice){table->scratch.data + start, table->encoded_ends[i] - start};
    }
    if (level->type.id == MR_TYPE_DECIMAL)
        return (struct mr_slice){(const char *)chunk->column->values + (chunk->from + i) * 16, 16};
    return mr_column_text(chunk->column, chunk->from + i);
}

/*
 * Words of a TEXT or BINARY chunk. One eight-byte load each where that stays inside the column;
 * true when all are short.
 */
static bool load_text_words(struct mr_group_table *table, const struct chunk *chunk)
{
    const char *values = chunk->column->values;
    const int32_t *offsets = chunk->column->offsets + chunk->from;
    int64_t safe_end = (int64_t)chunk->column->offsets[chunk->column->length] - 8;
    bool any_long = false;

    for (uint32_t i = 0; i < chunk->count; i++) {
        int32_t start = offsets[i];
        uint32_t size_bytes = (uint32_t)(offsets[i + 1] - start);
        if (size_bytes <= SHORT_BYTES_MAX && start <= safe_end) {
            uint64_t bytes;
            memcpy(&bytes, values + start, 8);
            table->words[i] = short_word(bytes, size_bytes);
        } else {
            table->words[i] = word_of_bytes(table, values + start, size_bytes);
            any_long |= size_bytes > SHORT_BYTES_MAX;
        }
    }
    return !any_long;
}

static enum mr_status encode_chunk(struct mr_group_table *table, const struct chunk *chunk,
                                   struct mr_error *err)
{
    mr_buf_clear(&table->scratch);
    for (uint32_t i = 0; i < chunk->count; i++) {
        mr_key_encode(&table->scratch, chunk->column, chunk->from + i);
        if (table->scratch.size > UINT32_MAX / 2)
            return MR_FAIL(err, MR_LIMIT, "cannot group by keys of 2 GiB; make batches smaller");
        table->encoded_ends[i] = (uint32_t)table->scratch.size;
    }
    return table->scratch.failed ? no_memory(err) : MR_OK;
}

/* Values of any size: one at a time. */
static enum mr_status find_slices(struct mr_group_table *table, struct level *level,
                                  struct chunk chunk, struct mr_error *err)
{
    bool ahead = level->slot_count > PREFETCH_SLOTS;

    for (uint32_t i = 0; i < chunk.count; i++) {
        if (ahead && i + PREFETCH_AHEAD < chunk.count)
            prefetch(table, level, table->words[i + PREFETCH_AHEAD],
                     prefix_of(&chunk, i + PREFETCH_AHEAD));
        uint32_t prefix = prefix_of(&chunk, i);
        uint64_t word = table->words[i];

        if ((prefix & PREFIX_NULL) != 0) {
            chunk.groups[i] = find_word(table, level, 0, prefix);
        } else if (word < LONG_TAG) {
            chunk.groups[i] = find_word(table, level, word, prefix);
        } else {
            struct mr_slice bytes = bytes_of(table, level, &chunk, i);
            chunk.groups[i] = find_bytes(table, level, word, prefix, bytes.data, bytes.size_bytes);
            if (chunk.groups[i] == UINT32_MAX)
                return no_memory(err);
        }
    }
    return MR_OK;
}

static enum mr_status find_level(struct mr_group_table *table, struct level *level,
                                 struct chunk chunk, struct mr_error *err)
{
    MR_TRY(reserve(table, level, chunk.count, err));
    if (level->kind == KIND_FIXED) {
        find_fixed(table, level, chunk);
        return MR_OK;
    }
    if (level->kind == KIND_BYTES && level->type.id != MR_TYPE_DECIMAL) {
        if (load_text_words(table, &chunk)) {
            find_words(table, level, chunk);
            return MR_OK;
        }
    } else {
        if (level->kind == KIND_ENCODED)
            MR_TRY(encode_chunk(table, &chunk, err));
        for (uint32_t i = 0; i < chunk.count; i++) {
            if (chunk.nulls && mr_column_is_null(chunk.column, chunk.from + i))
                continue;
            struct mr_slice bytes = bytes_of(table, level, &chunk, i);
            table->words[i] = word_of_bytes(table, bytes.data, bytes.size_bytes);
        }
    }
    return find_slices(table, level, chunk, err);
}

enum mr_status mr_group_table_find(struct mr_group_table *table, const struct mr_batch *batch,
                                   int64_t from, uint32_t count, uint32_t *ret_groups,
                                   struct mr_error *err)
{
    MR_ASSERT(count <= MR_CHUNK_ROWS);
    if (table->level_count == 0)
        memset(ret_groups, 0, count * sizeof(*ret_groups));
    for (uint32_t i = 0; i < table->level_count && count > 0; i++) {
        const struct mr_column *column = mr_batch_column(batch, table->levels[i].column);
        struct chunk chunk = {
            .column = column,
            .from = from,
            .count = count,
            .first = i == 0,
            .nulls = mr_column_has_nulls(column),
            .groups = ret_groups,
        };
        MR_TRY(find_level(table, &table->levels[i], chunk, err));
    }
    return MR_OK;
}

/* ---- key bytes ---- */

/* Writes a FIXED value in the form its column has. */
static void store_fixed(const struct mr_type *type, uint64_t word, uint8_t out[8])
{
    if (type->id == MR_TYPE_UINT64)
        word = mr_ordinal_to_uint((int64_t)word);
    if (type->id == MR_TYPE_FLOAT || type->id == MR_TYPE_DOUBLE) {
        double value = mr_ordinal_to_double((int64_t)word);
        float narrow = (float)value;
        if (type->id == MR_TYPE_FLOAT)
            memcpy(out, &narrow, sizeof(narrow));
        else
            memcpy(out, &value, sizeof(value));
        return;
    }
    memcpy(out, &word,
           sizeof(word)); /* little-endian machines only: narrow types take the low bytes */
}

static void encode_level(const struct level *level, uint32_t number, struct mr_buf *out)
{
    static const uint8_t no_bits[1] = {0};
    bool is_null = (level->prefixes[number] & PREFIX_NULL) != 0;
    uint64_t word = level->words[number];
    uint8_t fixed[8] = {0};
    int32_t offsets[2] = {0, 0};
    struct mr_column one = {
        .type = &level->type,
        .length = 1,
        .null_count = is_null,
        .validity = is_null ? no_bits : NULL,
        .values = fixed,
        .offsets = offsets,
    };

    if (level->kind == KIND_FIXED) {
        store_fixed(&level->type, word, fixed);
    } else if (!is_null && word < LONG_TAG) {
        memcpy(fixed, &word, SHORT_BYTES_MAX);
        offsets[1] = (int32_t)(word >> 56);
    } else if (!is_null) {
        one.values = level->values[number].data;
        offsets[1] = (int32_t)level->values[number].size_bytes;
    }
    if (level->kind == KIND_ENCODED && !is_null)
        mr_buf_add(out, one.values, (size_t)offsets[1]);
    else
        mr_key_encode(out, &one, 0);
}

void mr_group_table_encode_key(const struct mr_group_table *table, uint32_t group,
                               struct mr_buf *out)
{
    enum { CHAIN_MAX = 64 };
    uint32_t chain[CHAIN_MAX];
    uint32_t count = table->level_count;

    if (count == 1) {
        encode_level(&table->levels[0], group, out);
        return;
    }
    /* More columns than the chain holds: walk it again for every stretch. */
    for (uint32_t done = 0; done < count;) {
        uint32_t end = MR_MIN(count, done + CHAIN_MAX);
        uint32_t number = group;
        for (uint32_t i = count; i-- > done;) {
            if (i < end)
                chain[i - done] = number;
            number = (table->levels[i].prefixes[number] & ~PREFIX_NULL) - 1;
        }
        for (uint32_t i = done; i < end; i++)
            encode_level(&table->levels[i], chain[i - done], out);
        done = end;
    }
}

/* ---- clearing ---- */

static void clear_level(struct level *level)
{
    if (level->slot_count > KEPT_SLOTS_MAX && level->count < level->slot_count / 16) {
        level_release(level);
        return;
    }
    if (level->count > level->slot_count / 8) {
        memset(level->slots, 0, level->slot_count * sizeof(*level->slots));
    } else {
        for (uint32_t number = 0; number < level->count; number++)
            level->slots[level->homes[number]] = (struct slot){0};
    }
    level->count = 0;
    mr_arena_clear(&level->arena);
}

void mr_group_table_clear(struct mr_group_table *table)
{
    for (uint32_t i = 0; i < table->level_count; i++)
        clear_level(&table->levels[i]);
}
