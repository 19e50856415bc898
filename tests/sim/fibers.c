/*
 * Fibers behind the names of src/env/thread.h; see fibers.h.
 *
 * Called by the product (mr_thread_*, mr_mutex_*, mr_cond_*) and by the simulation (fibers_*).
 *
 *     READY -> runs -> READY | WAITS (for a lock, an event, an end, until a time) -> READY | DONE
 *
 * Locks stay those of pthread: everything is one thread, so a lock that another fiber holds is one
 * that trylock does not get. Before fibers_begin and after fibers_end there is one fiber, and locks
 * are free. Choices depend on the seed and the order in which fibers were made, never on addresses.
 *
 * Thread: the only one.
 */
#include "sim/fibers.h"

#include "base/alloc.h"
#include "base/check.h"
#include "core/doing.h"
#include "env/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { FIBERS_MAX = 256, STACK_BYTES = 1 << 20, STACKS_KEPT = 32 };

enum fiber_state { FIBER_READY, FIBER_WAITS, FIBER_DONE };

struct mr_thread {
    ucontext_t context;
    char name[16];
    void (*main)(void *arg);
    void *arg;
    void *stack;
    enum fiber_state state;
    const void *waits_for; /* lock, event or fiber; NULL = a time only */
    int64_t until_ns;      /* INT64_MAX = for ever */
    bool timed_out;
    bool joined;
    void *fake_stack;
    uint64_t number;
    struct mr_doing *doing; /* while it does not run */
};

static struct {
    struct fibers_config config;
    bool active;
    struct mr_thread first;
    struct mr_thread *all[FIBERS_MAX]; /* in the order in which they were made */
    size_t count;
    struct mr_thread *current;
    struct mr_thread *leaving; /* the one that ran before, while a switch is on its way */
    const void *main_bottom;
    size_t main_size;
    void *stacks[STACKS_KEPT];
    size_t stack_count;
    uint64_t random;
    uint64_t hash;
    uint64_t switches;
    uint64_t made;
    unsigned locks_held;
    bool alone;
    uint64_t starts;
    uint64_t failed_starts;
    uint64_t failing_start; /* 0 = none */
    bool fails_forever;
} now;

static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static uint64_t choose(uint64_t below)
{
    now.random += 0x9e3779b97f4a7c15u;
    return mix(now.random) % below;
}

/* ---------------------------------------------------------------- stacks */

static void *new_stack(void)
{
    char *stack;

    if (now.stack_count > 0)
        return now.stacks[--now.stack_count];
    stack = mmap(NULL, STACK_BYTES + 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    MR_ASSERT(stack != MAP_FAILED);
    MR_ASSERT(mprotect(stack, 4096, PROT_NONE) == 0);
    return stack;
}

static void free_stack(void *stack)
{
    if (now.stack_count < STACKS_KEPT)
        now.stacks[now.stack_count++] = stack;
    else
        munmap(stack, STACK_BYTES + 4096);
}

/* ---------------------------------------------------------------- switching */

/* What a fiber does first after it got the processor. */
static void arrive(struct mr_thread *self)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &size);
    if (now.leaving == &now.first && now.main_bottom == NULL) {
        now.main_bottom = bottom;
        now.main_size = size;
    }
#else
    (void)self;
#endif
}

static void switch_to(struct mr_thread *to)
{
    struct mr_thread *from = now.current;

    if (to == from)
        return;
    if (++now.switches > now.config.switches_max)
        now.config.stuck(now.config.arg, "livelock: too many switches of threads");
    now.hash = mix(now.hash ^ to->number);
    now.leaving = from;
    now.current = to;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(from->state == FIBER_DONE ? NULL : &from->fake_stack,
                                   to == &now.first ? now.main_bottom
                                                    : (const char *)to->stack + 4096,
                                   to == &now.first ? now.main_size : STACK_BYTES);
#endif
    from->doing = mr_doing_swap(NULL); /* the product has it in a thread-local variable */
    MR_ASSERT(swapcontext(&from->context, &to->context) == 0);
    mr_doing_swap(from->doing);
    arrive(from);
}

static void wake_sleepers(int64_t at_ns)
{
    for (size_t i = 0; i < now.count; i++) {
        struct mr_thread *one = now.all[i];

        if (one->state == FIBER_WAITS && one->until_ns <= at_ns) {
            one->state = FIBER_READY;
            one->timed_out = true;
        }
    }
}

/* One of those that can run; moves the clock when there is none. NULL: nobody ever can. */
static struct mr_thread *next_fiber(void)
{
    for (;;) {
        int64_t at_ns = now.config.now_ns(now.config.arg), earliest_ns = INT64_MAX;
        struct mr_thread *ready[FIBERS_MAX];
        size_t count = 0;

        wake_sleepers(at_ns);
        for (size_t i = 0; i < now.count; i++) {
            if (now.all[i]->state == FIBER_READY)
                ready[count++] = now.all[i];
            else if (now.all[i]->state == FIBER_WAITS && now.all[i]->until_ns < earliest_ns)
                earliest_ns = now.all[i]->until_ns;
        }
        if (count > 0)
            return ready[count == 1 ? 0 : choose(count)];
        if (earliest_ns == INT64_MAX)
            return NULL;
        now.config.advance_ns(now.config.arg, earliest_ns - at_ns);
    }
}

/* The caller cannot go on, or need not. */
static void reschedule(void)
{
    struct mr_thread *to = next_fiber();

    if (to == NULL) {
        char text[2048];
        size_t used = 0;

        for (size_t i = 0; i < now.count && used < sizeof(text) - 64; i++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %s", i > 0 ? ", " : "",
                                     now.all[i]->name,
                                     now.all[i]->state == FIBER_DONE ? "done" : "waits");
        now.config.stuck(now.config.arg, text);
        abort();
    }
    switch_to(to);
}

/* Waits for `what` (NULL: for the time alone). True when the time was over first. */
static bool wait_for(const void *what, int64_t until_ns)
{
    struct mr_thread *self = now.current;

    self->state = FIBER_WAITS;
    self->waits_for = what;
    self->until_ns = until_ns;
    self->timed_out = false;
    reschedule();
    self->waits_for = NULL;
    return self->timed_out;
}

static void wake(const void *what, bool all)
{
    struct mr_thread *waiting[FIBERS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < now.count; i++) {
        if (now.all[i]->state == FIBER_WAITS && now.all[i]->waits_for == what)
            waiting[count++] = now.all[i];
    }
    for (size_t i = 0; all && i < count; i++)
        waiting[i]->state = FIBER_READY;
    if (!all && count > 0)
        waiting[count == 1 ? 0 : choose(count)]->state = FIBER_READY;
}

void fibers_pause(void)
{
    if (!now.active || now.alone || now.count < 2 || now.config.preempt_of_256 == 0 ||
        choose(256) >= now.config.preempt_of_256)
        return;
    reschedule();
}

void fibers_alone_begin(void)
{
    while (now.locks_held > 0)
        reschedule();
    now.alone = true;
}

void fibers_alone_end(void)
{
    now.alone = false;
}

void fibers_sleep_ns(int64_t duration_ns)
{
    int64_t at_ns = now.config.now_ns(now.config.arg);

    MR_ASSERT(now.active);
    if (duration_ns > 0)
        wait_for(NULL, duration_ns > INT64_MAX - at_ns ? INT64_MAX : at_ns + duration_ns);
}

uint64_t fibers_switches(void)
{
    return now.switches;
}

uint64_t fibers_failed_starts(void)
{
    return now.failed_starts;
}

uint64_t fibers_hash(void)
{
    return now.hash;
}

void fibers_begin(const struct fibers_config *config)
{
    MR_ASSERT(!now.active);
    now.config = *config;
    now.active = true;
    memset(&now.first, 0, sizeof(now.first));
    memcpy(now.first.name, "main", 5);
    now.all[0] = &now.first;
    now.count = 1;
    now.current = &now.first;
    now.random = mix(config->seed);
    now.hash = 0;
    now.switches = 0;
    now.made = 0;
}

void fibers_end(void)
{
    MR_ASSERT(now.active && now.current == &now.first && now.count == 1);
    now.active = false;
}

/* ---------------------------------------------------------------- threads */

static void enter(void)
{
    struct mr_thread *self = now.current;

    arrive(self);
    self->main(self->arg);
    self->state = FIBER_DONE;
    wake(self, true);
    reschedule();
    abort(); /* never chosen again */
}

enum mr_status mr_thread_start(const char *name, void (*main)(void *arg), void *arg,
                               struct mr_thread **ret_thread, struct mr_error *err)
{
    struct mr_thread *thread = mr_alloc_zero(NULL, sizeof(*thread));

    MR_ASSERT(now.active);
    if (thread == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start the thread '%s': out of memory", name);
    now.starts++;
    if (now.starts == now.failing_start ||
        (now.fails_forever && now.failing_start != 0 && now.starts > now.failing_start)) {
        mr_free(thread);
        now.failed_starts++;
        errno = EAGAIN;
        return MR_FAIL(err, MR_LIMIT, "cannot start the thread '%s'", name);
    }
    MR_ASSERT(now.count < FIBERS_MAX);
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->main = main;
    thread->arg = arg;
    thread->number = ++now.made;
    thread->stack = new_stack();
    MR_ASSERT(getcontext(&thread->context) == 0);
    thread->context.uc_stack.ss_sp = (char *)thread->stack + 4096;
    thread->context.uc_stack.ss_size = STACK_BYTES;
    thread->context.uc_link = NULL;
    makecontext(&thread->context, enter, 0);
    now.all[now.count++] = thread;
    *ret_thread = thread;
    fibers_pause();
    return MR_OK;
}

void mr_thread_fail_at(uint64_t nth, bool forever)
{
    now.starts = now.failed_starts = 0;
    now.failing_start = nth;
    now.fails_forever = forever;
}

uint64_t mr_thread_start_count(void)
{
    return now.starts;
}

void mr_thread_join(struct mr_thread *thread)
{
    if (thread == NULL)
        return;
    while (thread->state != FIBER_DONE)
        wait_for(thread, INT64_MAX);
    for (size_t i = 0; i < now.count; i++) {
        if (now.all[i] == thread) {
            memmove(&now.all[i], &now.all[i + 1], (now.count - i - 1) * sizeof(now.all[0]));
            now.count--;
            break;
        }
    }
    free_stack(thread->stack);
    mr_free(thread);
}

/* ---------------------------------------------------------------- locks */

void mr_mutex_init(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_init(&mutex->handle, NULL) == 0);
}

void mr_mutex_release(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_destroy(&mutex->handle) == 0);
}

void mr_mutex_lock(struct mr_mutex *mutex)
{
    fibers_pause();
    while (pthread_mutex_trylock(&mutex->handle) != 0) {
        MR_ASSERT(now.active && !now.alone);
        wait_for(mutex, INT64_MAX);
    }
    now.locks_held++;
}

void mr_mutex_unlock(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_unlock(&mutex->handle) == 0);
    now.locks_held--;
    if (now.active && now.count > 1) {
        wake(mutex, true);
        fibers_pause();
    }
}

/* ---------------------------------------------------------------- events */

void mr_cond_init(struct mr_cond *cond)
{
    memset(cond, 0, sizeof(*cond)); /* its address is all that matters */
}

void mr_cond_release(struct mr_cond *cond)
{
    (void)cond;
}

/* Waiting for an event gives the lock back; between the two nobody else runs. */
static bool wait_on(struct mr_cond *cond, struct mr_mutex *mutex, int64_t until_ns)
{
    bool timed_out;

    MR_ASSERT(now.active);
    MR_ASSERT(pthread_mutex_unlock(&mutex->handle) == 0);
    now.locks_held--;
    wake(mutex, true);
    timed_out = wait_for(cond, until_ns);
    while (pthread_mutex_trylock(&mutex->handle) != 0)
        wait_for(mutex, INT64_MAX);
    now.locks_held++;
    return timed_out;
}

void mr_cond_wait(struct mr_cond *cond, struct mr_mutex *mutex)
{
    (void)wait_on(cond, mutex, INT64_MAX);
}

bool mr_cond_wait_for(struct mr_cond *cond, struct mr_mutex *mutex, int64_t timeout_ns)
{
    int64_t at_ns = now.config.now_ns(now.config.arg);

    timeout_ns = MR_MAX(timeout_ns, (int64_t)0);
    return !wait_on(cond, mutex, timeout_ns > INT64_MAX - at_ns ? INT64_MAX : at_ns + timeout_ns);
}

void mr_cond_signal(struct mr_cond *cond)
{
    if (now.active)
        wake(cond, false);
}

void mr_cond_broadcast(struct mr_cond *cond)
{
    if (now.active)
        wake(cond, true);
}

unsigned mr_cpu_count(void)
{
    return now.config.cpu_count > 0 ? now.config.cpu_count : 1;
}
