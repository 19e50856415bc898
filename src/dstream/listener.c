/*
 * Listeners: the queue of events and the thread that delivers them (monitor.h).
 *
 *     CLOSED --open--> OPEN --give_up--> OPEN, discarding --close--> CLOSED
 *                        \-------------------- close -------------------^
 *
 * Every event is copied into an arena of its own when it is posted, so that a callback may take its
 * time.  The lock is never held in a callback.
 *
 * Threads: add, post, give_up: any.  open, close: who starts and ends the context.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"

#include <string.h>

struct event {
    struct event *next;
    enum mr__event_kind kind;
    int64_t time_ms; /* of the start; of the batch of an output */
    struct mr_batch_report batch;
    struct mr_output_info output;
    struct mr_receiver_report receiver;
    struct mr_arena arena; /* what the reports point to */
};

struct mr__bus {
    struct mr_mutex lock; /* guards: */
    struct mr_cond changed;
    struct mr_listener listeners[MR_LISTENERS_MAX];
    size_t listener_count;
    struct event *first;
    struct event **end;
    size_t event_count;
    bool open;
    bool closing;    /* the thread ends when the queue is empty */
    bool discarding; /* a stop does not wait for listeners */
    struct mr_thread *thread;
};

static _Thread_local bool inside_listener;

bool mr__inside_listener(void)
{
    return inside_listener;
}

struct mr__bus *mr__bus_new(void)
{
    struct mr__bus *bus = mr_alloc_zero(NULL, sizeof(*bus));

    if (bus == NULL)
        return NULL;
    mr_mutex_init(&bus->lock);
    mr_cond_init(&bus->changed);
    bus->end = &bus->first;
    return bus;
}

void mr__bus_free(struct mr__bus *bus)
{
    if (bus == NULL)
        return;
    mr__bus_close(bus, true);
    mr_cond_release(&bus->changed);
    mr_mutex_release(&bus->lock);
    mr_free(bus);
}

static void event_free(struct event *event)
{
    mr_arena_release(&event->arena);
    mr_free(event);
}

/* ---- delivering ---- */

static void tell_batch(const struct event *event, const struct mr_listener *listener,
                       void (*callback)(void *arg, const struct mr_batch_report *batch))
{
    if (callback != NULL)
        callback(listener->arg, &event->batch);
}

static void tell_output(const struct event *event, const struct mr_listener *listener,
                        void (*callback)(void *arg, int64_t batch_time_ms,
                                         const struct mr_output_info *output))
{
    if (callback != NULL)
        callback(listener->arg, event->time_ms, &event->output);
}

static void tell_receiver(const struct event *event, const struct mr_listener *listener,
                          void (*callback)(void *arg, const struct mr_receiver_report *receiver))
{
    if (callback != NULL)
        callback(listener->arg, &event->receiver);
}

static void tell(const struct event *event, const struct mr_listener *listener)
{
    switch (event->kind) {
    case MR_EVENT_STREAMING_STARTED:
        if (listener->streaming_started != NULL)
            listener->streaming_started(listener->arg, event->time_ms);
        break;
    case MR_EVENT_BATCH_SUBMITTED:
        tell_batch(event, listener, listener->batch_submitted);
        break;
    case MR_EVENT_BATCH_STARTED:
        tell_batch(event, listener, listener->batch_started);
        break;
    case MR_EVENT_BATCH_COMPLETED:
        tell_batch(event, listener, listener->batch_completed);
        break;
    case MR_EVENT_OUTPUT_STARTED:
        tell_output(event, listener, listener->output_started);
        break;
    case MR_EVENT_OUTPUT_COMPLETED:
        tell_output(event, listener, listener->output_completed);
        break;
    case MR_EVENT_RECEIVER_STARTED:
        tell_receiver(event, listener, listener->receiver_started);
        break;
    case MR_EVENT_RECEIVER_ERROR:
        tell_receiver(event, listener, listener->receiver_error);
        break;
    case MR_EVENT_RECEIVER_STOPPED:
        tell_receiver(event, listener, listener->receiver_stopped);
        break;
    }
}

/* The next event, or NULL when there will be none. */
static struct event *take(struct mr__bus *bus, size_t *ret_listener_count)
{
    struct event *event;

    mr_mutex_lock(&bus->lock);
    while (bus->first == NULL && !bus->closing)
        mr_cond_wait(&bus->changed, &bus->lock);
    event = bus->first;
    if (event != NULL) {
        bus->first = event->next;
        if (bus->first == NULL)
            bus->end = &bus->first;
        bus->event_count--;
        mr_cond_broadcast(&bus->changed);
    }
    *ret_listener_count = bus->listener_count;
    mr_mutex_unlock(&bus->lock);
    return event;
}

static void deliver(void *arg)
{
    struct mr__bus *bus = arg;
    size_t listener_count;

    for (;;) {
        struct event *event = take(bus, &listener_count);

        if (event == NULL)
            return;
        inside_listener = true;
        /* listeners are only added: the first ones do not change */
        for (size_t i = 0; i < listener_count; i++)
            tell(event, &bus->listeners[i]);
        inside_listener = false;
        event_free(event);
    }
}

/* ---- opening and closing ---- */

/* The caller holds the lock. */
static enum mr_status need_thread(struct mr__bus *bus, struct mr_error *err)
{
    if (!bus->open || bus->thread != NULL || bus->listener_count == 0)
        return MR_OK;
    return mr_thread_start("mr-events", deliver, bus, &bus->thread, err);
}

enum mr_status mr__bus_add(struct mr__bus *bus, const struct mr_listener *listener,
                           struct mr_error *err)
{
    enum mr_status status;

    if (listener == NULL || listener->struct_size <= sizeof(listener->struct_size))
        return MR_FAIL(err, MR_CONFIG,
                       "its struct_size is not set; set it to sizeof(struct mr_listener)");
    mr_mutex_lock(&bus->lock);
    if (bus->listener_count == MR_LISTENERS_MAX) {
        status = MR_FAIL(err, MR_LIMIT, "a context has at most %d listeners", MR_LISTENERS_MAX);
    } else {
        /* of another version: what it does not know stays NULL */
        memcpy(&bus->listeners[bus->listener_count], listener,
               MR_MIN(listener->struct_size, sizeof(*listener)));
        bus->listener_count++;
        status = need_thread(bus, err);
    }
    mr_mutex_unlock(&bus->lock);
    return status;
}

enum mr_status mr__bus_open(struct mr__bus *bus, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&bus->lock);
    bus->open = true;
    status = need_thread(bus, err);
    mr_mutex_unlock(&bus->lock);
    return status;
}

static void discard_events(struct mr__bus *bus)
{
    while (bus->first != NULL) {
        struct event *event = bus->first;

        bus->first = event->next;
        event_free(event);
    }
    bus->end = &bus->first;
    bus->event_count = 0;
}

void mr__bus_give_up(struct mr__bus *bus)
{
    mr_mutex_lock(&bus->lock);
    bus->discarding = true;
    discard_events(bus);
    mr_cond_broadcast(&bus->changed);
    mr_mutex_unlock(&bus->lock);
}

void mr__bus_close(struct mr__bus *bus, bool discard)
{
    struct mr_thread *thread;

    MR_ASSERT(!inside_listener);
    if (discard)
        mr__bus_give_up(bus);
    mr_mutex_lock(&bus->lock);
    bus->open = false;
    bus->closing = true;
    thread = bus->thread;
    bus->thread = NULL;
    mr_cond_broadcast(&bus->changed);
    mr_mutex_unlock(&bus->lock);
    mr_thread_join(thread);
}

bool mr__bus_has_listeners(struct mr__bus *bus)
{
    bool has;

    mr_mutex_lock(&bus->lock);
    has = bus->thread != NULL && !bus->discarding;
    mr_mutex_unlock(&bus->lock);
    return has;
}

/* ---- posting ---- */

static struct event *event_new(struct mr__bus *bus, enum mr__event_kind kind)
{
    struct event *event;

    if (!mr__bus_has_listeners(bus))
        return NULL;
    event = mr_alloc_zero(NULL, sizeof(*event));
    if (event == NULL)
        mr_log(MR_LOG_ERROR, "dstream", NULL, -1, "an event is not delivered: out of memory");
    else
        event->kind = kind;
    return event;
}

/* A text that lives as long as the event; without memory it is empty. */
static const char *keep_text(struct event *event, const char *text)
{
    const char *copy = NULL;

    if (text == NULL)
        return NULL;
    copy = mr_arena_copy(&event->arena, text, strlen(text));
    return copy != NULL ? copy : "";
}

static struct mr_output_info keep_output(struct event *event, const struct mr_output_info *output)
{
    struct mr_output_info copy = *output;

    copy.name = keep_text(event, output->name);
    copy.description = keep_text(event, output->description);
    copy.failure = keep_text(event, output->failure);
    return copy;
}

static void post(struct mr__bus *bus, struct event *event)
{
    mr_mutex_lock(&bus->lock);
    while (bus->open && !bus->discarding && bus->event_count >= MR_BUS_EVENTS_MAX)
        mr_cond_wait(&bus->changed, &bus->lock);
    if (bus->open && !bus->discarding) {
        *bus->end = event;
        bus->end = &event->next;
        bus->event_count++;
        event = NULL;
        mr_cond_broadcast(&bus->changed);
    }
    mr_mutex_unlock(&bus->lock);
    if (event != NULL)
        event_free(event);
}

void mr__bus_post_started(struct mr__bus *bus, int64_t time_ms)
{
    struct event *event = event_new(bus, MR_EVENT_STREAMING_STARTED);

    if (event == NULL)
        return;
    event->time_ms = time_ms;
    post(bus, event);
}

void mr__bus_post_batch(struct mr__bus *bus, enum mr__event_kind kind,
                        const struct mr_batch_report *report)
{
    struct event *event = event_new(bus, kind);
    struct mr_input_info *inputs;
    struct mr_output_info *outputs;

    if (event == NULL)
        return;
    event->batch = *report;
    inputs = mr_arena_alloc(&event->arena, (report->input_count + 1) * sizeof(*inputs));
    outputs = mr_arena_alloc(&event->arena, (report->output_count + 1) * sizeof(*outputs));
    event->batch.input_count = inputs != NULL ? report->input_count : 0;
    event->batch.output_count = outputs != NULL ? report->output_count : 0;
    for (size_t i = 0; inputs != NULL && i < event->batch.input_count; i++) {
        inputs[i] = report->inputs[i];
        inputs[i].stream_name = keep_text(event, inputs[i].stream_name);
        inputs[i].description = keep_text(event, inputs[i].description);
    }
    for (size_t i = 0; outputs != NULL && i < event->batch.output_count; i++)
        outputs[i] = keep_output(event, &report->outputs[i]);
    event->batch.failure = keep_text(event, report->failure);
    event->batch.inputs = inputs;
    event->batch.outputs = outputs;
    post(bus, event);
}

void mr__bus_post_output(struct mr__bus *bus, enum mr__event_kind kind, int64_t batch_time_ms,
                         const struct mr_output_info *output)
{
    struct event *event = event_new(bus, kind);

    if (event == NULL)
        return;
    event->time_ms = batch_time_ms;
    event->output = keep_output(event, output);
    post(bus, event);
}

void mr__bus_post_receiver(struct mr__bus *bus, enum mr__event_kind kind,
                           const struct mr_receiver_report *receiver)
{
    struct event *event = event_new(bus, kind);

    if (event == NULL)
        return;
    event->receiver = *receiver;
    post(bus, event);
}
