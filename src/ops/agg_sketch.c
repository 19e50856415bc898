/*
 * Sketches: what approximate aggregates keep instead of all values.
 *
 *     HLL      0 | hash u64 ..., ascending      up to 512 hashes: the count is exact
 *              1 | 4,096 registers of a byte    HyperLogLog; standard error 1.6 %
 *     DIGEST   (mean f64 | weight u64) ...      ascending by mean; up to 256 values as they are,
 *                                               then a t-digest of at most about 200 centroids
 *
 * HyperLogLog counts leading zeros of 64-bit hashes (XXH3, seed 0: part of the on-disk formats) and
 * estimates as O. Ertl does ("New cardinality estimation algorithms for HyperLogLog sketches",
 * 2017), which needs no tables. Its result depends on the set of values alone.
 *
 * The digest merges neighbours while the scale function k1 of T. Dunning allows it: centroids near
 * the ends stay small, so extreme quantiles are close. The same batches give the same bytes; other
 * batch limits may give others within the error. Infinities are never merged with numbers, and NaN
 * is above all.
 *
 * Called by agg_wide.c. Threads: those of the buffers.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

#include <math.h>
#include <stdlib.h>

enum {
    HLL_BITS = 12,
    HLL_REGISTERS = 1 << HLL_BITS,
    HLL_HASHES_MAX = 512,
    HLL_SEAL_HASHES = 2048, /* in a task */
    DIGEST_EXACT_MAX = 256,
    DIGEST_SEAL_MAX = 2048, /* in a task */
    DIGEST_SCALE = 200,
    CENTROID_BYTES = 16,
};

/* ---- HyperLogLog ---- */

static void set_register(uint8_t *registers, uint64_t hash)
{
    uint64_t rest = hash << HLL_BITS;
    uint8_t rank = (uint8_t)(rest == 0 ? 64 - HLL_BITS + 1 : __builtin_clzll(rest) + 1);
    uint8_t *at = &registers[hash >> (64 - HLL_BITS)];

    if (rank > *at)
        *at = rank;
}

static bool is_dense(struct mr_slice bytes)
{
    return bytes.size_bytes == 1 + HLL_REGISTERS && bytes.data[0] == 1;
}

static bool is_sparse(struct mr_slice bytes)
{
    return bytes.size_bytes >= 1 && bytes.data[0] == 0 && bytes.size_bytes % 8 == 1;
}

static int compare_u64(const void *a_pointer, const void *b_pointer)
{
    uint64_t a = mr_load_u64(a_pointer);
    uint64_t b = mr_load_u64(b_pointer);

    return (a > b) - (a < b);
}

enum mr_status mr_hll_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_arena *arena, struct mr_error *err)
{
    size_t count, kept = 0;

    if (bytes->sealed_bytes == bytes->size_bytes || bytes->data[0] == 1)
        return MR_OK;
    count = (bytes->size_bytes - 1) / 8;
    char *hashes = bytes->data + 1;
    qsort(hashes, count, 8, compare_u64);
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = mr_load_u64(hashes + 8 * i);
        if (kept == 0 || mr_load_u64(hashes + 8 * (kept - 1)) != hash)
            mr_store_u64(hashes + 8 * kept++, hash);
    }
    bytes->size_bytes = (uint32_t)(1 + 8 * kept);
    if (kept > HLL_HASHES_MAX) {
        char *registers = mr_arena_alloc(arena, 1 + HLL_REGISTERS);
        if (registers == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot count '%s': out of memory", slot->identity);
        memset(registers, 0, 1 + HLL_REGISTERS);
        registers[0] = 1;
        for (size_t i = 0; i < kept; i++)
            set_register((uint8_t *)registers + 1, mr_load_u64(hashes + 8 * i));
        bytes->data = registers;
        bytes->size_bytes = bytes->capacity_bytes = 1 + HLL_REGISTERS;
    }
    bytes->sealed_bytes = bytes->size_bytes;
    return MR_OK;
}

enum mr_status mr_hll_add(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes, uint64_t hash,
                          struct mr_arena *arena, struct mr_error *err)
{
    if (bytes->size_bytes > 0 && bytes->data[0] == 1) {
        set_register((uint8_t *)bytes->data + 1, hash);
        return MR_OK;
    }
    char *at = mr_wide_room(slot, bytes, 9, arena, err);
    if (at == NULL)
        return MR_NOMEM; /* far from the limit of a group */
    if (bytes->size_bytes == 0) {
        *at++ = 0;
        bytes->size_bytes = 1;
    }
    mr_store_u64(at, hash);
    bytes->size_bytes += 8;
    return bytes->size_bytes >= 8 * HLL_SEAL_HASHES ? mr_hll_seal(slot, bytes, arena, err) : MR_OK;
}

static void add_all(uint8_t *registers, struct mr_slice bytes)
{
    const char *data = bytes.data + 1;

    if (bytes.data[0] == 0) {
        for (size_t at = 0; at + 8 < bytes.size_bytes; at += 8)
            set_register(registers, mr_load_u64(data + at));
        return;
    }
    for (size_t i = 0; i < HLL_REGISTERS; i++)
        registers[i] = MR_MAX(registers[i], (uint8_t)data[i]);
}

/* Both sparse: the union, ascending. */
static size_t merge_hashes(struct mr_slice a, struct mr_slice b, uint64_t *out)
{
    size_t a_count = a.size_bytes / 8, b_count = b.size_bytes / 8, count = 0;

    for (size_t i = 0, k = 0; i < a_count || k < b_count;) {
        uint64_t left = i < a_count ? mr_load_u64(a.data + 1 + 8 * i) : UINT64_MAX;
        uint64_t right = k < b_count ? mr_load_u64(b.data + 1 + 8 * k) : UINT64_MAX;
        out[count++] = MR_MIN(left, right);
        i += i < a_count && left <= right;
        k += k < b_count && right <= left;
    }
    return count;
}

enum mr_status mr_hll_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err)
{
    uint64_t hashes[2 * HLL_HASHES_MAX];
    uint8_t registers[HLL_REGISTERS] = {0};

    if ((!is_dense(a) && !is_sparse(a)) || (!is_dense(b) && !is_sparse(b)))
        return mr_wide_corrupt(slot, err);
    if (is_sparse(a) && is_sparse(b)) {
        if (a.size_bytes / 8 > HLL_HASHES_MAX || b.size_bytes / 8 > HLL_HASHES_MAX)
            return mr_wide_corrupt(slot, err);
        size_t count = merge_hashes(a, b, hashes);
        if (count <= HLL_HASHES_MAX) {
            mr_buf_add_u8(out, 0);
            mr_buf_add(out, hashes, 8 * count);
            return MR_OK;
        }
    }
    add_all(registers, a);
    add_all(registers, b);
    mr_buf_add_u8(out, 1);
    mr_buf_add(out, registers, HLL_REGISTERS);
    return MR_OK;
}

/* The two series of Ertl's estimator. */
static double sigma(double x)
{
    double y = 1, z = x, before;

    if (x == 1)
        return HUGE_VAL;
    do {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    } while (z != before);
    return z;
}

static double tau(double x)
{
    double y = 1, z = 1 - x, before;

    if (x == 0 || x == 1)
        return 0;
    do {
        x = sqrt(x);
        before = z;
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    } while (z != before);
    return z / 3;
}

int64_t mr_hll_estimate(struct mr_slice bytes)
{
    enum { RANKS = 64 - HLL_BITS + 1 };
    uint32_t counts[RANKS + 1] = {0};
    double registers = HLL_REGISTERS;

    if (is_sparse(bytes))
        return (int64_t)(bytes.size_bytes / 8);
    if (!is_dense(bytes))
        return INT64_MIN;
    for (size_t i = 0; i < HLL_REGISTERS; i++) {
        uint8_t rank = (uint8_t)bytes.data[1 + i];
        if (rank > RANKS)
            return INT64_MIN;
        counts[rank]++;
    }
    double z = registers * tau(1 - counts[RANKS] / registers);
    for (int rank = RANKS - 1; rank >= 1; rank--)
        z = 0.5 * (z + counts[rank]);
    z += registers * sigma(counts[0] / registers);
    return (int64_t)(registers * registers / (2 * log(2) * z) + 0.5);
}

/* ---- t-digest ---- */

struct centroid {
    double mean;
    uint64_t weight;
};
_Static_assert(sizeof(struct centroid) == CENTROID_BYTES, "centroids are stored as they are");

static int compare_centroids(const void *a_pointer, const void *b_pointer)
{
    const struct centroid *a = a_pointer;
    const struct centroid *b = b_pointer;
    int64_t left = mr_ordinal_of_double(a->mean);
    int64_t right = mr_ordinal_of_double(b->mean);

    if (left != right)
        return left < right ? -1 : 1;
    return (a->weight > b->weight) - (a->weight < b->weight);
}

/* Where a centroid that begins at that share of all weight has to end. */
static double share_limit(double share)
{
    double pi = acos(-1);
    double k = DIGEST_SCALE / (2 * pi) * asin(2 * share - 1) + 1;

    if (k >= DIGEST_SCALE / 4.0)
        return 1;
    return (sin(k * (2 * pi) / DIGEST_SCALE) + 1) / 2;
}

/* Sorts, and merges neighbours when there are too many; returns how many are left. */
static size_t compress(struct centroid *centroids, size_t count)
{
    double total = 0, before = 0;
    size_t kept = 0;

    qsort(centroids, count, sizeof(*centroids), compare_centroids);
    if (count <= DIGEST_EXACT_MAX)
        return count;
    for (size_t i = 0; i < count; i++)
        total += (double)centroids[i].weight;
    double limit = share_limit(0);
    for (size_t i = 1; i < count; i++) {
        struct centroid *at = &centroids[kept];
        double weight = (double)at->weight + (double)centroids[i].weight;
        bool finite = isfinite(at->mean) && isfinite(centroids[i].mean);
        if (finite && (before + weight) / total <= limit) {
            at->mean += (centroids[i].mean - at->mean) * ((double)centroids[i].weight / weight);
            at->weight += centroids[i].weight;
            continue;
        }
        before += (double)at->weight;
        limit = share_limit(before / total);
        centroids[++kept] = centroids[i];
    }
    return kept + 1;
}

enum mr_status mr_digest_seal(struct mr_agg_bytes *bytes, struct mr_arena *arena,
                              struct mr_error *err)
{
    (void)arena;
    (void)err;
    if (bytes->sealed_bytes != bytes->size_bytes) { /* arena memory is aligned */
        size_t count =
            compress((struct centroid *)(void *)bytes->data, bytes->size_bytes / CENTROID_BYTES);
        bytes->size_bytes = (uint32_t)(count * CENTROID_BYTES);
    }
    bytes->sealed_bytes = bytes->size_bytes;
    return MR_OK;
}

enum mr_status mr_digest_add(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                             double value, struct mr_arena *arena, struct mr_error *err)
{
    struct centroid centroid = {value, 1};
    char *at = mr_wide_room(slot, bytes, CENTROID_BYTES, arena, err);

    if (at == NULL)
        return MR_NOMEM;
    memcpy(at, &centroid, CENTROID_BYTES);
    bytes->size_bytes += CENTROID_BYTES;
    return bytes->size_bytes >= DIGEST_SEAL_MAX * CENTROID_BYTES ? mr_digest_seal(bytes, arena, err)
                                                                 : MR_OK;
}

enum mr_status mr_digest_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                               struct mr_buf *out, struct mr_error *err)
{
    size_t size_bytes = a.size_bytes + b.size_bytes;

    if (a.size_bytes % CENTROID_BYTES != 0 || b.size_bytes % CENTROID_BYTES != 0)
        return mr_wide_corrupt(slot, err);
    struct centroid *centroids = mr_alloc(NULL, size_bytes);
    if (centroids == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot merge quantiles: out of memory");
    memcpy(centroids, a.data, a.size_bytes);
    memcpy((char *)centroids + a.size_bytes, b.data, b.size_bytes);
    size_t count = compress(centroids, size_bytes / CENTROID_BYTES);
    mr_buf_add(out, centroids, count * CENTROID_BYTES);
    mr_free(centroids);
    return MR_OK;
}

static struct centroid load_centroid(struct mr_slice bytes, size_t index)
{
    struct centroid centroid;

    memcpy(&centroid, bytes.data + index * CENTROID_BYTES, CENTROID_BYTES);
    return centroid;
}

/*
 * The value at rank fraction * (n - 1), as quantile_cont numbers them; a centroid stands at the
 * middle of its ranks, and between two centroids the line between them is taken.
 */
double mr_digest_quantile(struct mr_slice bytes, double fraction)
{
    size_t count = bytes.size_bytes / CENTROID_BYTES;
    struct centroid last = load_centroid(bytes, 0);
    double total = 0, before, middle;

    for (size_t i = 0; i < count; i++)
        total += (double)load_centroid(bytes, i).weight;
    double rank = fraction * (total - 1);
    middle = ((double)last.weight - 1) / 2;
    before = (double)last.weight;
    if (rank <= middle)
        return last.mean;
    for (size_t i = 1; i < count; i++) {
        struct centroid next = load_centroid(bytes, i);
        double next_middle = before + ((double)next.weight - 1) / 2;
        if (rank <= next_middle) {
            double share = (rank - middle) / (next_middle - middle);
            if (!isfinite(last.mean) || !isfinite(next.mean))
                return share < 0.5 ? last.mean : next.mean;
            return last.mean + (next.mean - last.mean) * share;
        }
        before += (double)next.weight;
        middle = next_middle;
        last = next;
    }
    return last.mean;
}
