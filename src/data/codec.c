/*
 * Codecs of the program: a registry, and objects in and out of columns.  See <millrace/codec.h>.
 *
 *     mr_codec_register --> codecs[] <-- found by the name that a column's type has
 *
 * A type keeps the name, not the codec: schemas outlive programs. A column whose codec this process
 * does not know is bytes with a name.
 *
 * Invariants: an entry never changes once count covers it, so finding takes no lock.
 * Thread: any; registering takes a spin lock.
 */
#include "data/codec.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/text.h"
#include "data/builder_internal.h"
#include "data/types_internal.h"

#include <millrace/codec.h>
#include <millrace/ext/builder.h>

#include <stdatomic.h>

enum { CODECS_MAX = MR_LIMIT_CODECS, OBJECT_BYTES_ON_STACK = 512 };

static const struct mr_codec *codecs[CODECS_MAX];
static atomic_size_t codec_count;
static atomic_flag registering = ATOMIC_FLAG_INIT;

/* ---- registry ---- */

static const struct mr_codec *find(const char *name, size_t name_bytes)
{
    size_t count = atomic_load_explicit(&codec_count, memory_order_acquire);

    for (size_t i = 0; i < count; i++) {
        if (strncmp(codecs[i]->name, name, name_bytes) == 0 && codecs[i]->name[name_bytes] == '\0')
            return codecs[i];
    }
    return NULL;
}

const struct mr_codec *mr_codec_find(const char *name)
{
    return find(name, strlen(name));
}

const char *mr__codec_name(const char *name, size_t name_bytes)
{
    const struct mr_codec *codec = find(name, name_bytes);

    return codec != NULL ? codec->name : NULL;
}

static const struct mr_codec *codec_of(const struct mr_type *type)
{
    return type->extension != NULL ? mr_codec_find(type->extension) : NULL;
}

static enum mr_status check(const struct mr_codec *codec, struct mr_error *err)
{
    const char *name = codec->name != NULL ? codec->name : "";

    if (codec->struct_size < sizeof(struct mr_codec))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot register codec '%s': struct_size is %zu; set it to sizeof(struct "
                       "mr_codec)",
                       name, codec->struct_size);
    if (!mr__extension_name_is_good(name))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot register codec '%s': use a name of letters, digits and '_' that is "
                       "no SQL type",
                       name);
    if (codec->size_bytes == 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot register codec '%s': size_bytes is 0; set it to the size of the "
                       "struct",
                       name);
    if ((codec->encode == NULL) != (codec->decode == NULL))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot register codec '%s': it has only one of encode and decode; give "
                       "both or none",
                       name);
    return MR_OK;
}

/* Under the lock. */
static enum mr_status add(const struct mr_codec *codec, struct mr_error *err)
{
    size_t count = atomic_load_explicit(&codec_count, memory_order_relaxed);
    const struct mr_codec *known = mr_codec_find(codec->name);

    if (known == codec)
        return MR_OK;
    if (known != NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot register codec '%s': another one has that name; choose a new one",
                       codec->name);
    if (count == CODECS_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot register codec '%s': there are %d already",
                       codec->name, CODECS_MAX);
    codecs[count] = codec;
    atomic_store_explicit(&codec_count, count + 1, memory_order_release);
    return MR_OK;
}

enum mr_status mr_codec_register(const struct mr_codec *codec, struct mr_error *err)
{
    enum mr_status status;

    MR_TRY(check(codec, err));
    while (atomic_flag_test_and_set_explicit(&registering, memory_order_acquire))
        ;
    status = add(codec, err);
    atomic_flag_clear_explicit(&registering, memory_order_release);
    return status;
}

/* ---- objects ---- */

static bool decode(const struct mr_codec *codec, struct mr_slice bytes, void *ret_object)
{
    if (codec->decode != NULL)
        return codec->decode(bytes.data, bytes.size_bytes, ret_object);
    if (bytes.size_bytes != codec->size_bytes)
        return false;
    memcpy(ret_object, bytes.data, bytes.size_bytes);
    return true;
}

bool mr_value_object(struct mr_value value, void *ret_object)
{
    const struct mr_codec *codec;

    if (mr_value_is_null(value))
        return false;
    codec = codec_of(value.column->type);
    return codec != NULL && decode(codec, mr_column_text(value.column, value.index), ret_object);
}

bool mr_row_object(const struct mr_row *row, uint32_t column, void *ret_object)
{
    return mr_value_object(mr_row_value(row, column), ret_object);
}

/* Room for an object, aligned for any struct; the stack's when it is small. NULL without memory. */
struct scratch {
    _Alignas(max_align_t) char small[OBJECT_BYTES_ON_STACK];
    char *object;
};

static char *scratch_for(struct scratch *scratch, const struct mr_codec *codec)
{
    scratch->object = scratch->small;
    if (codec->size_bytes > sizeof(scratch->small))
        scratch->object = mr_alloc(NULL, codec->size_bytes);
    return scratch->object;
}

static void scratch_release(struct scratch *scratch)
{
    if (scratch->object != scratch->small)
        mr_free(scratch->object);
}

static int compare_bytes(struct mr_slice a, struct mr_slice b)
{
    size_t common = MR_MIN(a.size_bytes, b.size_bytes);
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);

    return order != 0 ? order : (a.size_bytes > common) - (b.size_bytes > common);
}

int mr__object_compare(const struct mr_type *type, struct mr_slice a, struct mr_slice b)
{
    const struct mr_codec *codec = codec_of(type);
    struct scratch left, right;
    int order;

    if (codec == NULL || codec->compare == NULL)
        return compare_bytes(a, b);
    if (scratch_for(&left, codec) != NULL && scratch_for(&right, codec) != NULL) {
        order = decode(codec, a, left.object) && decode(codec, b, right.object)
                    ? codec->compare(left.object, right.object)
                    : compare_bytes(a, b);
        scratch_release(&right);
    } else {
        order = compare_bytes(a, b);
    }
    scratch_release(&left);
    return order;
}

bool mr__object_print(const struct mr_type *type, struct mr_slice bytes, char *text, size_t size,
                      size_t *ret_need)
{
    const struct mr_codec *codec = codec_of(type);
    struct scratch scratch;
    bool known;

    if (codec == NULL || codec->print == NULL || scratch_for(&scratch, codec) == NULL)
        return false;
    known = decode(codec, bytes, scratch.object);
    if (known)
        *ret_need = codec->print(scratch.object, text, size);
    scratch_release(&scratch);
    return known;
}

/* ---- into columns ---- */

/* The bytes of an object behind those of the column. */
static enum mr_status append(struct mr_column_builder *column, const struct mr_codec *codec,
                             const void *object, struct mr_error *err)
{
    size_t need = codec->size_bytes, room = 0;

    if (codec->encode == NULL)
        return mr_column_builder_text(column, object, need, err);
    while (room < need) {
        MR_TRY(mr_column_builder_reserve(column, 1, need, err));
        room = column->bytes_capacity - column->bytes_used;
        need = codec->encode(object, (char *)column->values + column->bytes_used, room);
    }
    mr_column_builder_valid(column);
    column->bytes_used += need;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
    return MR_OK;
}

enum mr_status mr__column_builder_object(struct mr_column_builder *column, const void *object,
                                         struct mr_error *err)
{
    const struct mr_codec *codec = codec_of(column->type);

    if (codec == NULL)
        return MR_FAIL(err, MR_USAGE,
                       "cannot append an object: the column has no codec; declare its type as the "
                       "codec's name");
    return append(column, codec, object, err);
}
