/*
 * Is the log still the one that was planned?
 *
 * Offsets say nothing about which log they belong to. Two things can put another log behind the
 * same numbers, and both are noticed also when the other one has grown past what was read:
 *
 *     deleted, made again       another topic id
 *     cut, when a leader that   records before an offset have a later leader epoch than the leader
 *     had not everything wins   who told that offset: epochs of a log never go back
 *
 * What a batch has to know is in its end offset ("@id", "@epoch"), when it is not what the store
 * has; when the batch is committed it goes into the store:
 *
 *     key "topic-id/<name>"             value "<id, base64>"
 *     key "epoch/<name>/<partition>"    value "<epoch>", -1 = not told
 *
 * So a batch that runs again is compared with the logs of its plan, and the batch behind it with
 * those of the one before. Brokers and librdkafkas that tell neither are fine: then only offsets
 * past the end tell that a log is another one.
 *
 * Thread: driver.
 */
#include "sources/kafka/kafka_source.h"

#include "base/mutant.h"
#include "base/number_text.h"

#include <string.h>

enum { KEY_BYTES_MAX = 320, NAME_BYTES_MAX = 249 /* Kafka's */ };

#define ID_PREFIX "topic-id/"
#define EPOCH_PREFIX "epoch/"

struct key {
    char bytes[KEY_BYTES_MAX];
    size_t size;
};

/* The key of a topic, or of a partition (>= 0); false when the name is longer than Kafka allows. */
static bool make_key(struct key *key, const char *prefix, const char *topic, int64_t partition)
{
    size_t size = strlen(topic);

    if (size > NAME_BYTES_MAX)
        return false;
    key->size = strlen(prefix);
    memcpy(key->bytes, prefix, key->size);
    memcpy(key->bytes + key->size, topic, size);
    key->size += size;
    if (partition >= 0) {
        key->bytes[key->size++] = '/';
        key->size += mr_int_print(partition, key->bytes + key->size);
    }
    return true;
}

static struct mr_slice slice_of(const struct key *key)
{
    return (struct mr_slice){key->bytes, key->size};
}

static bool known_id(struct mr_kv *kv, const char *topic, struct mr_slice *ret_id)
{
    struct key key;

    return kv != NULL && make_key(&key, ID_PREFIX, topic, -1) &&
           mr_kv_get(kv, slice_of(&key), ret_id);
}

static bool is_id(struct mr_slice known, const char *id)
{
    return known.size_bytes == strlen(id) && memcmp(known.data, id, known.size_bytes) == 0;
}

static int64_t known_epoch(struct mr_kv *kv, const struct mr_ksrc_offset *item)
{
    struct key key;
    struct mr_slice value;
    int64_t epoch;

    if (kv != NULL && make_key(&key, EPOCH_PREFIX, item->topic, item->partition) &&
        mr_kv_get(kv, slice_of(&key), &value) && mr_int_parse(value.data, value.size_bytes, &epoch))
        return epoch;
    return KSRC_EPOCH_UNKNOWN;
}

const char *mr_ksrc_history_changed(const struct mr_ksrc_topic_ids *ids, struct mr_kv *kv)
{
    struct mr_slice known;

    for (size_t i = 0; i < ids->count; i++)
        if (known_id(kv, ids->items[i].topic, &known) && !is_id(known, ids->items[i].id) &&
            !MR_MUTANT("kafka-source.ids.changed"))
            return ids->items[i].topic;
    return NULL;
}

enum mr_status mr_ksrc_history_note(const struct mr_ksrc_topic_ids *ids, struct mr_kv *kv,
                                    struct mr_ksrc_offsets *end, struct mr_error *err)
{
    struct mr_slice known;

    for (size_t i = 0; i < end->count; i++) {
        struct mr_ksrc_offset *item = &end->items[i];

        if (kv == NULL || item->epoch == known_epoch(kv, item))
            item->epoch = KSRC_EPOCH_SAME;
    }
    for (size_t i = 0; kv != NULL && i < ids->count; i++)
        if (mr_ksrc_offsets_have_topic(end, ids->items[i].topic) &&
            (!known_id(kv, ids->items[i].topic, &known) || !is_id(known, ids->items[i].id)))
            MR_TRY(mr_ksrc_topic_ids_put(&end->ids, ids->items[i].topic, ids->items[i].id, err));
    return MR_OK;
}

const char *mr_ksrc_history_recreated(const struct mr_ksrc_offsets *end,
                                      const struct mr_ksrc_topic_ids *now, struct mr_kv *kv)
{
    for (size_t i = 0; i < now->count; i++) {
        const char *topic = now->items[i].topic;
        const char *planned = mr_ksrc_topic_ids_find(&end->ids, topic);
        struct mr_slice known;

        if (!mr_ksrc_offsets_have_topic(end, topic))
            continue;
        if (planned != NULL)
            known = (struct mr_slice){planned, strlen(planned)};
        else if (!known_id(kv, topic, &known))
            continue;
        if (!is_id(known, now->items[i].id) && !MR_MUTANT("kafka-source.ids.again"))
            return topic;
    }
    return NULL;
}

bool mr_ksrc_history_has_ids(const struct mr_ksrc_offsets *end, struct mr_kv *kv)
{
    struct mr_slice known;

    for (size_t i = 0; i < end->count; i++)
        if (mr_ksrc_topic_ids_find(&end->ids, end->items[i].topic) != NULL ||
            known_id(kv, end->items[i].topic, &known))
            return true;
    return false;
}

enum mr_status mr_ksrc_history_epochs(const struct mr_ksrc_offsets *start,
                                      const struct mr_ksrc_offsets *end, struct mr_kv *kv,
                                      struct mr_ksrc_offsets *ret_epochs, struct mr_error *err)
{
    struct mr_ksrc_offsets epochs = {0};
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *item = &end->items[i];
        const struct mr_ksrc_offset *before =
            mr_ksrc_offsets_find(start, item->topic, item->partition);
        int64_t known = known_epoch(kv, item);
        int64_t epoch_before = before == NULL                     ? KSRC_EPOCH_UNKNOWN
                               : before->epoch != KSRC_EPOCH_SAME ? before->epoch
                                                                  : known;
        int64_t epoch = item->epoch != KSRC_EPOCH_SAME ? item->epoch : known;

        if (epoch_before == KSRC_EPOCH_UNKNOWN && epoch == KSRC_EPOCH_UNKNOWN)
            continue;
        MR_TRY_GOTO(
            mr_ksrc_offsets_put(&epochs, item->topic, item->partition, epoch_before, -1, err));
        ((struct mr_ksrc_offset *)mr_ksrc_offsets_find(&epochs, item->topic, item->partition))
            ->epoch = epoch;
    }
    *ret_epochs = epochs;
    return MR_OK;
done:
    mr_ksrc_offsets_release(&epochs);
    return status;
}

static enum mr_status remember_id(struct mr_kv *kv, const struct mr_ksrc_topic_id *item,
                                  bool replace, struct mr_error *err)
{
    struct mr_slice known;
    struct key key;
    bool is_known = known_id(kv, item->topic, &known);

    if ((is_known && (!replace || is_id(known, item->id))) ||
        !make_key(&key, ID_PREFIX, item->topic, -1))
        return MR_OK;
    return mr_kv_put(kv, slice_of(&key), (struct mr_slice){item->id, strlen(item->id)}, err);
}

enum mr_status mr_ksrc_history_remember(const struct mr_ksrc_topic_ids *ids,
                                        const struct mr_ksrc_offsets *end, bool replace,
                                        struct mr_kv *kv, struct mr_error *err)
{
    for (size_t i = 0; i < end->ids.count; i++)
        MR_TRY(remember_id(kv, &end->ids.items[i], replace, err));
    /* Batches that an older millrace planned did not note any. */
    for (size_t i = 0; i < ids->count; i++)
        if (mr_ksrc_offsets_have_topic(end, ids->items[i].topic))
            MR_TRY(remember_id(kv, &ids->items[i], false, err));
    for (size_t i = 0; i < end->count; i++) {
        const struct mr_ksrc_offset *item = &end->items[i];
        char text[MR_NUMBER_TEXT_BYTES];
        struct key key;

        /* redundant: without it every plan says its epochs itself, and is only longer */
        if (MR_MUTANT("kafka-source.epochs.remember"))
            break;
        if (item->epoch == KSRC_EPOCH_SAME || item->epoch == known_epoch(kv, item) ||
            !make_key(&key, EPOCH_PREFIX, item->topic, item->partition))
            continue;
        MR_TRY(mr_kv_put(kv, slice_of(&key),
                         (struct mr_slice){text, mr_int_print(item->epoch, text)}, err));
    }
    return MR_OK;
}
