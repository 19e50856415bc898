/*
 * Structs of the program as elements of streams and datasets.
 *
 *     struct click { int64_t user; double x, y; };
 *     static const struct mr_codec click_codec = {
 *         .struct_size = sizeof(struct mr_codec),
 *         .name = "click",
 *         .size_bytes = sizeof(struct click),
 *         .print = print_click,
 *     };
 *     mr_codec_register(&click_codec, &err);
 *     clicks = mr_map(lines, MR_FN_AS(parse_click, "value click"));
 *
 * The name is a type in column lists. A column of it holds the encoded bytes: SQL, files and other
 * programs see a BLOB. The name stays with the type: another codec, or plain bytes, is another
 * type, in a graph as in a checkpoint; across the Arrow border it is the extension name.
 *
 * Rows with equal bytes are equal: keys are grouped, joined and kept in state by them. So the same
 * object must always give the same bytes. compare only orders (sort, min, max).
 *
 * Thread: register before the first use of the name; the functions of a codec run on several
 * threads at once.
 */
#ifndef MILLRACE_CODEC_H
#define MILLRACE_CODEC_H

#include <millrace/batch.h>
#include <millrace/fn.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_codec {
    size_t struct_size; /* sizeof(struct mr_codec) */
    const char *name;   /* a word that is no SQL type: letters, digits, '_'; not a digit first */
    size_t size_bytes;  /* of the struct */
    /*
     * Writes at most size bytes and returns how many the object takes; called again with more room
     * when that was not enough. NULL: the struct's own bytes, which then holds no pointers and is
     * zero where it has padding.
     */
    size_t (*encode)(const void *object, char *bytes, size_t size);
    /* False: these bytes are no such object. What it points to may be in bytes, which live as long
     * as the row. NULL (as encode is): the struct's own bytes. */
    bool (*decode)(const char *bytes, size_t size_bytes, void *ret_object);
    int (*compare)(const void *a, const void *b); /* as memcmp; NULL: the order of the bytes */
    /* Like snprintf: for print, save_as_text_files, the console. NULL: the bytes in hex. */
    size_t (*print)(const void *object, char *text, size_t size);
};

/* Once per process and name; codec must live for ever. MR_CONFIG: a bad name, half of encode and
 * decode, or a name that another codec has. The same codec again is fine. */
MR_API enum mr_status mr_codec_register(const struct mr_codec *codec, struct mr_error *err);
/* NULL: none of that name. */
MR_API const struct mr_codec *mr_codec_find(const char *name);

/* The object in a column of its codec's type. False, and the object untouched: null, bytes that
 * decode refuses, or a column of another type. */
MR_API bool mr_row_object(const struct mr_row *row, uint32_t column, void *ret_object);
MR_API bool mr_value_object(struct mr_value value, void *ret_object);
/* The next column of the row; a row of one column is whole then. */
MR_API void mr_emit_object(struct mr_emitter *out, const void *object);
MR_API void mr_batch_builder_object(struct mr_batch_builder *builder, uint32_t column,
                                    const void *object);

#ifdef __cplusplus
}
#endif
#endif
