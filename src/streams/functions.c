/*
 * Functions of a program in the sessions of the C API (<millrace/function.h>): one list a session,
 * made when it is first asked for; queries that are started afterwards know its functions.
 *
 * Thread: the one that builds.
 */
#include "fn/functions.h"
#include "streams/streams.h"

static enum mr_status add_to(void *arg, struct mr_duck *duck, struct mr_error *err)
{
    return mr_functions_add_to(arg, duck, err);
}

static const struct mr_agg_user *aggregate(void *arg, const char *name)
{
    return mr_functions_aggregate(arg, name);
}

static void free_list(void *arg)
{
    mr_functions_free(arg);
}

struct mr_functions *mr_streams_functions(struct mr_streams *streams)
{
    struct mr_sql_functions entry = {.add = add_to, .aggregate = aggregate};
    struct mr_functions *functions = NULL;

    if (streams == NULL)
        return NULL;
    for (struct mr__function_entry *one = streams->functions; one != NULL; one = one->next) {
        if (one->functions.add == add_to)
            return one->functions.arg;
    }
    if (mr_functions_new(&functions, NULL) != MR_OK)
        return NULL;
    entry.arg = functions;
    if (mr__streams_add_functions(streams, &entry, free_list, NULL) != MR_OK)
        return NULL;
    return functions;
}
