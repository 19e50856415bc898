/*
 * The registries of source and sink connectors: two tables of pointers, filled by
 * mr_plugins_register and by programs that bring connectors of their own, read by the front ends
 * and by the command's `options`.
 *
 * Order is the order of registration. Registering the same connector twice does nothing, so several
 * front ends in one process may each register everything.
 *
 * Thread: registration happens before queries are built, one thread at a time; afterwards
 * read-only.
 */
#include "base/check.h"
#include "base/text.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <string.h>

enum { CONNECTORS_MAX = 64 };

static const struct mr_source_connector *sources[CONNECTORS_MAX];
static size_t source_count;
static const struct mr_sink_connector *sinks[CONNECTORS_MAX];
static size_t sink_count;

static bool same_name(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

void mr_source_register(const struct mr_source_connector *connector)
{
    MR_ASSERT(connector != NULL && connector->name != NULL);
    for (size_t i = 0; i < source_count; i++) {
        if (sources[i] == connector)
            return;
        MR_ASSERT(!same_name(sources[i]->name, connector->name));
    }
    MR_ASSERT(source_count < CONNECTORS_MAX);
    sources[source_count++] = connector;
}

const struct mr_source_connector *mr_source_find(const char *name)
{
    for (size_t i = 0; i < source_count; i++)
        if (same_name(sources[i]->name, name))
            return sources[i];
    return NULL;
}

const struct mr_source_connector *mr_source_at(size_t index)
{
    return index < source_count ? sources[index] : NULL;
}

void mr_sink_register(const struct mr_sink_connector *connector)
{
    MR_ASSERT(connector != NULL && connector->name != NULL);
    for (size_t i = 0; i < sink_count; i++) {
        if (sinks[i] == connector)
            return;
        MR_ASSERT(!same_name(sinks[i]->name, connector->name));
    }
    MR_ASSERT(sink_count < CONNECTORS_MAX);
    sinks[sink_count++] = connector;
}

const struct mr_sink_connector *mr_sink_find(const char *name)
{
    for (size_t i = 0; i < sink_count; i++)
        if (same_name(sinks[i]->name, name))
            return sinks[i];
    return NULL;
}

const struct mr_sink_connector *mr_sink_at(size_t index)
{
    return index < sink_count ? sinks[index] : NULL;
}
