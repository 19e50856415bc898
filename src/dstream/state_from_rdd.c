/*
 * Stateful streams whose initial states are a dataset: mr_update_state_by_key_from, and
 * mr_map_with_state. The dataset is kept until the context goes, and computed in the first batch.
 *
 * Thread: the building one; read on the driver.
 */
#include "dstream/map_with_state.h"

#include <millrace/rdd.h>

static enum mr_status read_rdd(void *source, struct mr_batch **ret_batch, struct mr_error *err)
{
    return mr_rdd_collect(source, ret_batch, err);
}

static void free_rdd(void *source)
{
    mr_rdd_unref(source);
}

static struct mr__initial *initial_of(struct mr_rdd *rdd)
{
    return rdd == NULL ? NULL : mr__initial_new(mr_rdd_ref(rdd), read_rdd, free_rdd);
}

struct mr_dstream *mr_update_state_by_key_from(struct mr_dstream *pairs, const char *name,
                                               struct mr_fn update, struct mr_rdd *initial)
{
    if (initial == NULL)
        return mr_update_state_by_key(pairs, name, update);
    return mr__update_state_by_key_of(pairs, name, update, mr_rdd_schema(initial),
                                      initial_of(initial));
}

struct mr_dstream *mr_map_with_state(struct mr_dstream *pairs, const struct mr_state_spec *spec)
{
    const struct mr_schema *columns = spec->initial != NULL ? mr_rdd_schema(spec->initial) : NULL;

    return mr__map_with_state_of(pairs, spec, columns, initial_of(spec->initial));
}
