/*
 * Any bytes as a JSON document: what is read is written, read again and written to the same bytes;
 * so is a deep copy, and a tree that is built anew member by member. What is refused names a byte.
 */
#include "fuzz/fuzz.h"

#include "base/json.h"
#include "base/number_text.h"

#include <string.h>

static void write_again(struct mr_arena *arena, const struct mr_buf *first, struct mr_buf *second)
{
    struct mr_json *json;
    struct mr_error err;

    if (mr_json_parse(first->data, first->size, arena, &json, &err) != MR_OK)
        fuzz_fail(__FILE__, __LINE__, "what was written can be read");
    else
        mr_json_write(second, json);
    if (!first->failed && !second->failed)
        FUZZ_SAME(first, second);
}

/* The same document by the streaming writer. */
static void stream(struct mr_json_out *out, const char *key, const struct mr_json *json)
{
    char text[MR_NUMBER_TEXT_BYTES];
    int64_t number;

    switch (json->kind) {
    case MR_JSON_NULL:
        mr_json_add_string(out, key, NULL);
        break;
    case MR_JSON_BOOL:
        mr_json_add_bool(out, key, json->boolean);
        break;
    case MR_JSON_NUMBER:
        if (mr_json_int(json, &number) && mr_int_print(number, text) == json->text_bytes &&
            memcmp(text, json->text, json->text_bytes) == 0)
            mr_json_add_int(out, key, number);
        else
            mr_json_add_raw(out, key, json->text);
        break;
    case MR_JSON_STRING:
        mr_json_add_string_n(out, key, json->text, json->text_bytes);
        break;
    default:
        if (json->kind == MR_JSON_OBJECT)
            mr_json_begin_object(out, key);
        else
            mr_json_begin_array(out, key);
        for (const struct mr_json *child = json->first; child != NULL; child = child->next)
            stream(out, child->key, child);
        if (json->kind == MR_JSON_OBJECT)
            mr_json_end_object(out);
        else
            mr_json_end_array(out);
        break;
    }
}

/* Members are found by their keys, children by their places, and a copy is the same document. */
static void check_tree(struct mr_arena *arena, const struct mr_json *json,
                       const struct mr_buf *text)
{
    struct mr_buf copied = MR_BUF_INIT, streamed = MR_BUF_INIT;
    struct mr_json_out out = {&streamed, false};
    struct mr_json *copy = mr_json_copy(arena, json);
    size_t at = 0;

    for (const struct mr_json *child = json->first; child != NULL; child = child->next, at++) {
        if (json->kind == MR_JSON_OBJECT && strlen(child->key) > 0)
            FUZZ_CHECK(mr_json_get(json, child->key) != NULL);
        if (json->kind == MR_JSON_ARRAY)
            FUZZ_CHECK(mr_json_at(json, at) == child);
        if (at > 40)
            break;
    }
    FUZZ_CHECK(mr_json_at(json, json->count) == NULL);
    FUZZ_CHECK(copy != NULL);
    if (copy != NULL) {
        mr_json_write(&copied, copy);
        if (!copied.failed && !text->failed)
            FUZZ_SAME(&copied, text);
    }
    stream(&out, NULL, json);
    if (!streamed.failed && !text->failed && memchr(text->data, '\\', text->size) == NULL)
        FUZZ_SAME(&streamed, text);
    mr_buf_release(&copied);
    mr_buf_release(&streamed);
}

/* A tree made by the functions that build one. */
static void build(struct mr_arena *arena, const uint8_t *data, size_t size)
{
    struct mr_json *object = mr_json_new_object(arena);
    struct mr_json *array = mr_json_new_array(arena);
    struct mr_buf first = MR_BUF_INIT, second = MR_BUF_INIT;
    char key[3] = {0};

    for (size_t i = 0; object != NULL && array != NULL && i + 2 < size && i < 90; i += 3) {
        struct mr_json *item;

        key[0] = (char)('a' + data[i] % 26);
        key[1] = (char)('a' + data[i + 1] % 3);
        switch (data[i + 2] % 4) {
        case 0:
            item = mr_json_new_int(arena, (int64_t)data[i + 2] << (data[i] % 56));
            break;
        case 1:
            item = mr_json_new_bool(arena, (data[i] & 1) != 0);
            break;
        case 2:
            item = mr_json_new_string(arena, key);
            break;
        default:
            item = mr_json_new_null(arena);
            break;
        }
        if (item == NULL)
            return;
        if ((data[i + 2] & 64) != 0)
            mr_json_push(array, item);
        else
            mr_json_put(arena, object, key, item);
    }
    if (object == NULL || array == NULL)
        return;
    mr_json_put(arena, object, "list", array);
    mr_json_write(&first, object);
    write_again(arena, &first, &second);
    mr_buf_release(&first);
    mr_buf_release(&second);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_buf first = MR_BUF_INIT, second = MR_BUF_INIT;
    struct mr_json *json;
    struct mr_error err = {0};

    if (mr_json_parse((const char *)data, size, &arena, &json, &err) == MR_OK) {
        mr_json_write(&first, json);
        if (!first.failed) {
            write_again(&arena, &first, &second);
            check_tree(&arena, json, &first);
        }
    } else {
        FUZZ_REFUSED(&err, MR_BAD_DATA);
        if (err.status == MR_BAD_DATA && strstr(err.text, "at byte") == NULL)
            fuzz_fail(__FILE__, __LINE__, "the error names a byte");
    }
    build(&arena, data, size);
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr_arena_release(&arena);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
