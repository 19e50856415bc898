/* A pool with another clock, for tests. */
#ifndef MR_ENV_POOL_H
#define MR_ENV_POOL_H

#include <millrace/ext/env.h>
#include <millrace/pool.h>

enum mr_status mr__pool_new_on(struct mr_env *env, const struct mr_pool_options *options,
                               struct mr_pool **ret_pool, struct mr_error *err);

#endif
