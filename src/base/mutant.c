/*
 * The switch behind MR_MUTANT. Nothing of it is in a build without MILLRACE_MUTANTS.
 */
#include "base/mutant.h"

#ifdef MILLRACE_MUTANTS

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *chosen;
static atomic_ulong hits;

__attribute__((constructor)) static void choose_from_environment(void)
{
    chosen = getenv("MILLRACE_MUTANT");
}

bool mr_mutant_on(const char *name)
{
    if (chosen == NULL || strcmp(chosen, name) != 0)
        return false;
    atomic_fetch_add(&hits, 1);
    return true;
}

void mr_mutant_choose(const char *name)
{
    chosen = name;
    atomic_store(&hits, 0);
}

unsigned long mr_mutant_hits(void)
{
    return atomic_load(&hits);
}

#else
/* A translation unit must hold something. */
extern int mr_mutant_is_not_built;
#endif
