/*
 * The initial dataset of a stateful stream: pairs (key, state) that count while there is no state
 * yet (UPD-5, MWS-7). Computed in the first batch with a dataset, on the driver; a program that
 * goes on from a checkpoint does not compute it.
 */
#include "dstream/update.h"

#include "data/row_codec.h"

enum { PREFIX_BYTES = 8 };

struct mr__initial *mr__initial_new(void *source, mr__initial_read_fn read,
                                    void (*free_source)(void *source))
{
    struct mr__initial *initial = mr_alloc_zero(NULL, sizeof(*initial));

    if (initial == NULL)
        free_source(source);
    else
        *initial = (struct mr__initial){source, read, free_source};
    return initial;
}

static enum mr_status read_batch(void *source, struct mr_batch **ret_batch, struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch = mr_batch_ref(source);
    return MR_OK;
}

static void free_batch(void *source)
{
    mr_batch_unref(source);
}

struct mr__initial *mr__initial_of_batch(const struct mr_batch *batch)
{
    return mr__initial_new(mr_batch_ref(batch), read_batch, free_batch);
}

void mr__initial_free(struct mr__initial *initial)
{
    if (initial == NULL)
        return;
    initial->free_source(initial->source);
    mr_free(initial);
}

static void print_type(const struct mr_type *type, char *text, size_t size)
{
    (void)mr_type_print(type, text, size);
}

enum mr_status mr__initial_check(const struct mr_schema *found, const struct mr_type *key,
                                 const struct mr_type *state, struct mr_error *err)
{
    char key_text[80], state_text[80];

    if (found != NULL && mr_schema_field_count(found) == 2 &&
        mr_type_equal(mr__column_type(found, 0), key) &&
        mr_type_equal(mr__column_type(found, 1), state))
        return MR_OK;
    print_type(key, key_text, sizeof(key_text));
    print_type(state, state_text, sizeof(state_text));
    return MR_FAIL(err, MR_CONFIG,
                   "cannot begin with this dataset; its columns must be the key and the state: "
                   "\"key %s, value %s\"",
                   key_text, state_text);
}

enum mr_status mr__initial_put(struct mr_store *store, const char *name,
                               const struct mr_batch *rows, const char *prefix,
                               struct mr_error *err)
{
    const struct mr_column *key = mr_batch_column(rows, 0), *state = mr_batch_column(rows, 1);
    struct mr_buf key_bytes = MR_BUF_INIT, value = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < mr_batch_row_count(rows) && status == MR_OK; row++) {
        const char *old;
        size_t old_bytes;

        if (mr_column_is_null(state, row))
            continue;
        mr_buf_clear(&key_bytes);
        mr_buf_clear(&value);
        mr_key_encode(&key_bytes, key, row);
        if (prefix != NULL)
            mr_buf_add(&value, prefix, PREFIX_BYTES);
        mr__value_put(&value, state, row);
        if (key_bytes.failed || value.failed) {
            status = MR_FAIL(err, MR_NOMEM, "cannot begin state '%s': out of memory", name);
            continue;
        }
        if (mr_store_get(store, key_bytes.data, key_bytes.size, &old, &old_bytes))
            continue;
        status = mr__state_check_size(name, rows, row, value.size, 0, err);
        if (status == MR_OK)
            status =
                mr_store_put(store, key_bytes.data, key_bytes.size, value.data, value.size, err);
    }
    mr_buf_release(&key_bytes);
    mr_buf_release(&value);
    return status;
}
