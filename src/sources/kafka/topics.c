/*
 * Which topics a Kafka source reads: a list, a pattern, or partitions by number.
 *
 * Thread: driver.
 */
#include "base/limits.h"
#include "sources/kafka/kafka_source.h"

#include "base/json.h"

#include <inttypes.h>
#include <regex.h>
#include <string.h>

enum { TOPICS_MAX = MR_LIMIT_KAFKA_TOPICS };
enum { PATTERN_COPIES_MAX = 10000 };

void mr_ksrc_topics_release(struct mr_ksrc_topics *topics)
{
    for (size_t i = 0; i < topics->name_count; i++)
        mr_free(topics->names[i]);
    mr_free(topics->names);
    if (topics->pattern != NULL)
        regfree(topics->pattern);
    mr_free(topics->pattern);
    mr_ksrc_offsets_release(&topics->assigned);
    memset(topics, 0, sizeof(*topics));
}

static enum mr_status no_memory(const char *name, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot open Kafka source '%s': out of memory", name);
}

/* "a, b" -> names. */
static enum mr_status parse_topic_list(struct mr_ksrc_topics *topics, const char *list,
                                       struct mr_error *err)
{
    size_t count = 1;

    for (const char *at = list; *at != '\0'; at++)
        count += *at == ',';
    if (count > TOPICS_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot open Kafka source '%s': more than %d topics",
                       topics->source, (int)TOPICS_MAX);
    topics->names = mr_alloc_zero(NULL, count * sizeof(*topics->names));
    if (topics->names == NULL)
        return no_memory(topics->source, err);
    while (true) {
        size_t size = strcspn(list, ",");
        const char *from = list + strspn(list, " ");
        const char *to = list + size;

        while (to > from && to[-1] == ' ')
            to--;
        if (to <= from)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open Kafka source '%s': an empty name in option 'topic'",
                           topics->source);
        topics->names[topics->name_count] = mr_strndup(from, (size_t)(to - from));
        if (topics->names[topics->name_count++] == NULL)
            return no_memory(topics->source, err);
        if (list[size] == '\0')
            return MR_OK;
        list += size + 1;
    }
}

/* regcomp copies what is repeated, for every repetition once more, so thirty '+' around each other
 * take all memory there is. At most that many copies of the innermost part: */
static bool is_too_repetitive(const char *pattern)
{
    uint64_t copies = 1;

    for (const char *at = pattern; *at != '\0' && copies <= PATTERN_COPIES_MAX; at++) {
        if (*at == '\\' && at[1] != '\0') {
            at++;
        } else if (*at == '+' || *at == '*' || *at == '?') {
            copies *= 2;
        } else if (*at == '{') {
            uint64_t most = 1, number = 0;

            for (at++; (*at >= '0' && *at <= '9') || *at == ','; at++) {
                number = *at == ',' ? 0 : MR_MIN(number * 10 + (uint64_t)(*at - '0'), UINT32_MAX);
                most = MR_MAX(most, number);
            }
            copies *= most + 1;
            at--;
        }
    }
    return copies > PATTERN_COPIES_MAX;
}

/* The whole name must match: "^(pattern)$". */
static enum mr_status parse_pattern(struct mr_ksrc_topics *topics, const char *pattern,
                                    struct mr_error *err)
{
    char *whole;
    regex_t *compiled;
    enum mr_status status = MR_OK;

    if (is_too_repetitive(pattern))
        return MR_FAIL(
            err, MR_CONFIG,
            "wrong option 'topic_pattern' of source '%s': it repeats too much; use fewer "
            "'*', '+', '?' and '{n}'",
            topics->source);
    whole = mr_asprintf("^(%s)$", pattern);
    compiled = mr_alloc_zero(NULL, sizeof(*compiled));
    if (whole == NULL || compiled == NULL) {
        status = no_memory(topics->source, err);
    } else if (regcomp(compiled, whole, REG_EXTENDED | REG_NOSUB) != 0) {
        status =
            MR_FAIL(err, MR_CONFIG,
                    "wrong option 'topic_pattern' of source '%s': '%s' is not a regular expression",
                    topics->source, pattern);
    } else {
        topics->pattern = compiled;
        compiled = NULL;
    }
    mr_free(whole);
    mr_free(compiled);
    return status;
}

static enum mr_status wrong_assign(const struct mr_ksrc_topics *topics, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "wrong option 'assign' of source '%s': expected JSON like {\"topic\":[0,1]}",
                   topics->source);
}

static enum mr_status assign_topic(struct mr_ksrc_topics *topics, const struct mr_json *topic,
                                   struct mr_error *err)
{
    char *name;

    if (topic->kind != MR_JSON_ARRAY || topic->count == 0)
        return wrong_assign(topics, err);
    name = mr_strdup(topic->key);
    if (name == NULL)
        return no_memory(topics->source, err);
    MR_ASSERT(topics->names != NULL);
    topics->names[topics->name_count++] = name;
    for (const struct mr_json *item = topic->first; item != NULL; item = item->next) {
        int64_t partition;

        if (!mr_json_int(item, &partition) || partition < 0 || partition > INT32_MAX)
            return wrong_assign(topics, err);
        MR_TRY(mr_ksrc_offsets_put(&topics->assigned, name, (int32_t)partition, 0, -1, err));
    }
    return MR_OK;
}

static enum mr_status parse_assign(struct mr_ksrc_topics *topics, const char *text,
                                   struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    enum mr_status status;

    status = mr_json_parse(text, strlen(text), &arena, &json, err);
    if (status == MR_NOMEM)
        goto done;
    if (status != MR_OK || json->kind != MR_JSON_OBJECT || json->count == 0 ||
        json->count > TOPICS_MAX) {
        status = wrong_assign(topics, err);
        goto done;
    }
    status = MR_OK;
    topics->names = mr_alloc_zero(NULL, json->count * sizeof(*topics->names));
    if (topics->names == NULL)
        status = no_memory(topics->source, err);
    for (const struct mr_json *topic = json->first; topic != NULL && status == MR_OK;
         topic = topic->next)
        status = assign_topic(topics, topic, err);
done:
    mr_arena_release(&arena);
    return status;
}

enum mr_status mr_ksrc_topics_parse(struct mr_ksrc_topics *topics, const struct mr_options *options,
                                    struct mr_error *err)
{
    const char *list = mr_options_text(options, "topic");
    const char *pattern = mr_options_text(options, "topic_pattern");
    const char *assign = mr_options_text(options, "assign");

    if ((list != NULL) + (pattern != NULL) + (assign != NULL) != 1)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open Kafka source '%s': give exactly one of 'topic', 'topic_pattern', 'assign'",
            topics->source);
    if (list != NULL)
        return parse_topic_list(topics, list, err);
    return pattern != NULL ? parse_pattern(topics, pattern, err)
                           : parse_assign(topics, assign, err);
}
