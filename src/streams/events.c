/*
 * Listeners: `started` at once, everything else through a queue and a thread of the session, which
 * is started with the first listener.
 *
 *     query threads --(bounded queue)--> its thread --> listeners, one event at a time
 *
 * Nothing is made while nobody listens. A full queue makes the query wait, except when the event
 * comes from a listener itself, which would wait for its own end.
 *
 * Locks: bell->lock guards queue and list; bell->call_lock is held while listeners are called, so
 * that a removed one is not called any more once the removal returns.
 */
#include "streams/streams.h"

#include "base/json.h"
#include "base/log.h"
#include "base/time_text.h"

#include <string.h>

struct event {
    enum mr__event_kind kind;
    int64_t time_us;
    char id[40];
    char run_id[40];
    char *name;
    char *text; /* the document, or the failure */
    const char *error_class;
    struct event *next;
};

struct entry {
    uint32_t number;
    struct mr_streaming_listener listener;
};

struct mr__bell {
    struct mr_mutex call_lock;
    struct mr_thread *thread;
    struct mr_mutex lock; /* guards what follows */
    struct mr_cond changed;
    struct entry entries[MR__LISTENERS_MAX];
    size_t entry_count;
    uint32_t last_number;
    struct event *first;
    struct event **last;
    size_t count;
    bool closing;
};

static _Thread_local bool inside_listener;

bool mr__bell_rings(void)
{
    return inside_listener;
}

enum mr_status mr__bell_new(struct mr__bell **ret_bell, struct mr_error *err)
{
    struct mr__bell *bell = mr_alloc_zero(NULL, sizeof(*bell));

    if (bell == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a session: out of memory");
    mr_mutex_init(&bell->call_lock);
    mr_mutex_init(&bell->lock);
    mr_cond_init(&bell->changed);
    bell->last = &bell->first;
    *ret_bell = bell;
    return MR_OK;
}

static void event_free(struct event *event)
{
    mr_free(event->name);
    mr_free(event->text);
    mr_free(event);
}

/* ---- calling ---- */

static void add_ids(struct mr_json_out *out, const struct event *event)
{
    mr_json_add_string(out, "id", event->id);
    mr_json_add_string(out, "runId", event->run_id);
}

/* structured.md 22.4 */
static void write_json(struct mr_buf *text, const struct event *event)
{
    struct mr_json_out out = {text, false};
    char time[MR_TIME_TEXT_BYTES];

    mr_timestamp_print_ms(event->time_us, time);
    mr_json_begin_object(&out, NULL);
    if (event->kind == MR__EVENT_PROGRESS) {
        mr_json_add_raw(&out, "progress", event->text);
    } else {
        add_ids(&out, event);
        if (event->kind == MR__EVENT_STARTED)
            mr_json_add_string(&out, "name", event->name);
        if (event->kind == MR__EVENT_TERMINATED) {
            mr_json_add_string(&out, "exception", event->text);
            mr_json_add_string(&out, "errorClassOnException", event->error_class);
        } else {
            mr_json_add_string(&out, "timestamp", time);
        }
        if (event->kind == MR__EVENT_STARTED) {
            mr_json_begin_array(&out, "jobTags");
            mr_json_end_array(&out);
        }
    }
    mr_json_end_object(&out);
}

static void call(const struct mr_streaming_listener *listener, enum mr__event_kind kind,
                 const struct mr_streaming_event *event)
{
    void (*const calls[])(void *arg, const struct mr_streaming_event *event) = {
        [MR__EVENT_STARTED] = listener->started,
        [MR__EVENT_PROGRESS] = listener->progress,
        [MR__EVENT_IDLE] = listener->idle,
        [MR__EVENT_TERMINATED] = listener->terminated,
    };

    if (calls[kind] != NULL)
        calls[kind](listener->arg, event);
}

static void deliver(struct mr__bell *bell, const struct event *event)
{
    bool outer = inside_listener;
    struct mr_buf json = MR_BUF_INIT;
    struct mr_streaming_event shown = {.id = event->id,
                                       .run_id = event->run_id,
                                       .name = event->name,
                                       .time_ms = event->time_us / 1000,
                                       .error_class = event->error_class};
    uint32_t done = 0;

    write_json(&json, event);
    shown.json = json.failed ? "" : json.data;
    if (event->kind == MR__EVENT_TERMINATED)
        shown.exception = event->text;
    else
        shown.progress = event->text;
    if (!outer)
        mr_mutex_lock(&bell->call_lock);
    inside_listener = true;
    for (;;) {
        struct mr_streaming_listener listener = {0};
        bool found = false;

        /* by number: a listener may add and remove others */
        mr_mutex_lock(&bell->lock);
        for (size_t i = 0; i < bell->entry_count && !found; i++) {
            if (bell->entries[i].number > done) {
                listener = bell->entries[i].listener;
                done = bell->entries[i].number;
                found = true;
            }
        }
        mr_mutex_unlock(&bell->lock);
        if (!found)
            break;
        call(&listener, event->kind, &shown);
    }
    inside_listener = outer;
    if (!outer)
        mr_mutex_unlock(&bell->call_lock);
    mr_buf_release(&json);
}

static void run(void *arg)
{
    struct mr__bell *bell = arg;

    for (;;) {
        struct event *event;

        mr_mutex_lock(&bell->lock);
        while (bell->first == NULL && !bell->closing)
            mr_cond_wait(&bell->changed, &bell->lock);
        event = bell->first;
        if (event != NULL) {
            bell->first = event->next;
            if (bell->first == NULL)
                bell->last = &bell->first;
            bell->count--;
            mr_cond_broadcast(&bell->changed);
        }
        mr_mutex_unlock(&bell->lock);
        if (event == NULL)
            return;
        deliver(bell, event);
        event_free(event);
    }
}

void mr__bell_free(struct mr__bell *bell)
{
    if (bell == NULL)
        return;
    mr_mutex_lock(&bell->lock);
    bell->closing = true;
    mr_cond_broadcast(&bell->changed);
    mr_mutex_unlock(&bell->lock);
    mr_thread_join(bell->thread);
    MR_ASSERT(bell->first == NULL);
    mr_cond_release(&bell->changed);
    mr_mutex_release(&bell->lock);
    mr_mutex_release(&bell->call_lock);
    mr_free(bell);
}

/* ---- telling ---- */

static struct event *event_new(enum mr__event_kind kind, const struct mr_streaming_query *query,
                               const char *text, const char *error_class)
{
    struct event *event = mr_alloc_zero(NULL, sizeof(*event));

    if (event == NULL)
        return NULL;
    event->kind = kind;
    event->time_us = mr_env_wall_us(query->env);
    memcpy(event->id, query->id, sizeof(event->id));
    memcpy(event->run_id, query->run_id, sizeof(event->run_id));
    event->error_class = error_class;
    event->name = query->name != NULL ? mr_strdup(query->name) : NULL;
    event->text = text != NULL ? mr_strdup(text) : NULL;
    if ((query->name != NULL && event->name == NULL) || (text != NULL && event->text == NULL)) {
        event_free(event);
        return NULL;
    }
    return event;
}

static bool anybody_listens(struct mr__bell *bell)
{
    bool any;

    mr_mutex_lock(&bell->lock);
    any = bell->entry_count > 0;
    mr_mutex_unlock(&bell->lock);
    return any;
}

void mr__bell_tell(struct mr_streams *streams, enum mr__event_kind kind,
                   const struct mr_streaming_query *query, const char *text,
                   const char *error_class)
{
    struct mr__bell *bell = streams->bell;
    struct event *event;

    if (!anybody_listens(bell))
        return;
    event = event_new(kind, query, text, error_class);
    if (event == NULL) {
        mr_log(MR_LOG_ERROR, "streams", query->id, -1, "an event is lost: out of memory");
        return;
    }
    if (kind == MR__EVENT_STARTED) {
        deliver(bell, event);
        event_free(event);
        return;
    }
    mr_mutex_lock(&bell->lock);
    while (bell->count >= MR__EVENTS_MAX && !inside_listener)
        mr_cond_wait(&bell->changed, &bell->lock);
    *bell->last = event;
    bell->last = &event->next;
    bell->count++;
    mr_cond_broadcast(&bell->changed);
    mr_mutex_unlock(&bell->lock);
}

/* ---- the list ---- */

uint32_t mr_streams_add_listener(struct mr_streams *streams,
                                 const struct mr_streaming_listener *listener)
{
    struct mr__bell *bell;
    struct entry entry = {0};

    if (streams == NULL || listener == NULL)
        return 0;
    bell = streams->bell;
    memcpy(&entry.listener, listener, MR_MIN(listener->struct_size, sizeof(*listener)));
    mr_mutex_lock(&bell->lock);
    if (bell->entry_count < MR__LISTENERS_MAX &&
        (bell->thread != NULL ||
         mr_thread_start("mr-listeners", run, bell, &bell->thread, NULL) == MR_OK)) {
        entry.number = ++bell->last_number;
        bell->entries[bell->entry_count++] = entry;
    }
    mr_mutex_unlock(&bell->lock);
    return entry.number;
}

void mr_streams_remove_listener(struct mr_streams *streams, uint32_t number)
{
    struct mr__bell *bell = streams->bell;

    mr_mutex_lock(&bell->lock);
    for (size_t i = 0; i < bell->entry_count; i++) {
        if (bell->entries[i].number != number)
            continue;
        memmove(&bell->entries[i], &bell->entries[i + 1],
                (bell->entry_count - i - 1) * sizeof(bell->entries[i]));
        bell->entry_count--;
        break;
    }
    mr_mutex_unlock(&bell->lock);
    if (inside_listener)
        return;
    mr_mutex_lock(&bell->call_lock); /* a call that runs ends first */
    mr_mutex_unlock(&bell->call_lock);
}
