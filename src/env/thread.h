/*
 * Threads, locks and events: thin wrappers over pthread so that the rest of the code never includes
 * it. Threads block every signal, so that only the main thread gets them.
 */
#ifndef MR_ENV_THREAD_H
#define MR_ENV_THREAD_H

#include <millrace/error.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mr_thread;
struct mr_mutex {
    pthread_mutex_t handle;
};
struct mr_cond {
    pthread_cond_t handle; /* monotonic clock */
};

enum mr_status mr_thread_start(const char *name, void (*main)(void *arg), void *arg,
                               struct mr_thread **ret_thread, struct mr_error *err);
void mr_thread_join(struct mr_thread *thread); /* NULL allowed; frees */
/*
 * For tests: the nth start from now (1 = next) fails as if the limit of processes were reached, and
 * all later ones too when forever; 0 = off. Also sets the count of starts to 0.
 */
void mr_thread_fail_at(uint64_t nth, bool forever);
uint64_t mr_thread_start_count(void);

void mr_mutex_init(struct mr_mutex *mutex);
void mr_mutex_release(struct mr_mutex *mutex);
void mr_mutex_lock(struct mr_mutex *mutex);
void mr_mutex_unlock(struct mr_mutex *mutex);
void mr_cond_init(struct mr_cond *cond);
void mr_cond_release(struct mr_cond *cond);
void mr_cond_wait(struct mr_cond *cond, struct mr_mutex *mutex);
/* False when timeout_ns passed. */
bool mr_cond_wait_for(struct mr_cond *cond, struct mr_mutex *mutex, int64_t timeout_ns);
void mr_cond_signal(struct mr_cond *cond);
void mr_cond_broadcast(struct mr_cond *cond);

unsigned mr_cpu_count(void); /* cores this process may use */

#endif
