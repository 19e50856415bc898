/*
 * Functions out of a shared library: SET library = './libshout.so', or --library.
 *
 * The library exports millrace_functions (<millrace/function.h>), which is called once a plan and
 * adds to a list of the plan's. Functions that the caller brings are known as well.
 *
 * Called by plan.c before the first instance of DuckDB is opened. Thread: the planner's; the
 * lookups as struct mr_sql_functions says.
 */
#include "sql/library.h"

#include "base/alloc.h"
#include "env/library.h"
#include "fn/functions.h"

#include <string.h>

struct mr_sql_library {
    struct mr_functions *functions;
    const struct mr_sql_functions *others; /* NULL: none */
    struct mr_sql_functions all;
};

static enum mr_status add_all(void *arg, struct mr_duck *duck, struct mr_error *err)
{
    const struct mr_sql_library *library = arg;

    if (library->others != NULL)
        MR_TRY(library->others->add(library->others->arg, duck, err));
    return mr_functions_add_to(library->functions, duck, err);
}

static const struct mr_agg_user *find_aggregate(void *arg, const char *name)
{
    const struct mr_sql_library *library = arg;
    const struct mr_agg_user *found = mr_functions_aggregate(library->functions, name);

    if (found == NULL && library->others != NULL && library->others->aggregate != NULL)
        found = library->others->aggregate(library->others->arg, name);
    return found;
}

void mr_sql__library_free(struct mr_sql_library *library)
{
    if (library == NULL)
        return;
    mr_functions_free(library->functions);
    mr_free(library);
}

enum mr_status mr_sql__library_load(const char *path, const struct mr_sql_functions *others,
                                    struct mr_sql_library **ret_library, struct mr_error *err)
{
    struct mr_sql_library *library = mr_alloc_zero(NULL, sizeof(*library));
    mr_library_fn add = NULL;
    void *address = NULL;
    enum mr_status status;

    if (library == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot load a library: out of memory");
    library->others = others;
    library->all =
        (struct mr_sql_functions){.add = add_all, .arg = library, .aggregate = find_aggregate};
    MR_TRY_GOTO(mr_functions_new(&library->functions, err));
    MR_TRY_GOTO(mr_library_symbol(path, "millrace_functions", &address, err));
    memcpy(&add, &address, sizeof(add)); /* POSIX allows it, C knows no cast */
    status = add(library->functions, err);
    if (status != MR_OK) {
        if (err != NULL)
            mr_error_prefix(err, "library '%s'", path);
        goto done;
    }
    *ret_library = library;
    return MR_OK;
done:
    mr_sql__library_free(library);
    return status;
}

const struct mr_sql_functions *mr_sql__library_functions(const struct mr_sql_library *library)
{
    return &library->all;
}
