/*
 * Any bytes as the entries of a state part, in frames that are right: an error or a store, and a
 * store that was loaded is written again and loads to the same content.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "env/sim.h"
#include "state/internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t query_id[16] = {1, 2, 3};
static char name[] = "s";

static enum mr_status no_dir(void *arg, struct mr_error *err)
{
    MR_UNUSED(arg);
    return MR_FAIL(err, MR_INTERNAL, "a small part needs no directory");
}

static void write_part(const struct mr_store *store, struct mr_state_part *part, struct mr_buf *out)
{
    struct mr_part_target target = {.inline_bytes_max = UINT64_MAX, .make_dir = no_dir};

    MR_ASSERT(mr__part_write(store, part, query_id, &target, NULL) == MR_OK && part->in_log);
    *out = target.bytes;
    part->data = out->data;
}

static enum mr_status load_part(struct mr_env *env, const struct mr_state_part *part,
                                struct mr_store *store)
{
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    enum mr_status status;

    MR_TRY_GOTO(mr__part_open(env, part, "input", &reader, NULL));
    MR_TRY_GOTO(mr__part_head(reader, query_id, &names, NULL));
    status = mr__part_apply(reader, store, true, NULL);
done:
    mr__part_close(reader);
    return status;
}

/* The head of an empty part, one GROUP record with the input, and a foot that claims what the
 * input begins with. */
static void frame_input(const struct mr_store *store, struct mr_state_part *part,
                        const uint8_t *data, size_t size, struct mr_buf *out)
{
    struct mr_buf empty = MR_BUF_INIT, foot = MR_BUF_INIT;
    struct mr_record head;
    size_t head_bytes = 0;
    uint64_t chain;

    write_part(store, part, &empty);
    MR_ASSERT(mr_record_read(empty.data, empty.size, 0, &head, &head_bytes) == MR_RECORD_OK);
    mr_buf_add(out, empty.data, head_bytes);
    mr_record_append(out, MR_RECORD_GROUP, 1, head.sum, data + 2, size - 2, &chain);
    mr_buf_add_u64(&foot, data[0]);
    mr_buf_add_u32(&foot, 1);
    mr_buf_add_u64(&foot, data[1]);
    mr_record_append(out, MR_RECORD_FILE_FOOT, 1, chain, foot.data, foot.size, &part->sum);
    part->data = out->data;
    part->size_bytes = out->size;
    part->key_count = data[1];
    mr_buf_release(&empty);
    mr_buf_release(&foot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_store *store = mr__store_new(name, "k", "a", "b", 7);
    struct mr_store *again = mr__store_new(name, "k", "a", "b", 7);
    struct mr_state_part part = {.store = name, .is_snapshot = true, .in_log = true};
    struct mr_buf bytes = MR_BUF_INIT, first = MR_BUF_INIT, second = MR_BUF_INIT;

    if (size > 2) {
        frame_input(store, &part, data, size, &bytes);
        if (load_part(mr_sim_env(sim), &part, store) == MR_OK) {
            write_part(store, &part, &first);
            MR_ASSERT(load_part(mr_sim_env(sim), &part, again) == MR_OK);
            write_part(again, &part, &second);
            MR_ASSERT(first.size == second.size &&
                      memcmp(first.data, second.data, first.size) == 0);
        }
    }
    mr_buf_release(&bytes);
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr__store_free(store);
    mr__store_free(again);
    mr_sim_free(sim);
    return 0;
}
