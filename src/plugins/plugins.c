/*
 * The one place that knows which plug-ins exist. The list of connectors is generated from the
 * folders of src/sources and src/sinks that this build has (cmake/folders.cmake writes
 * mr_plugins.inc): the folder `rate` defines `mr_source_rate_connector` or
 * `mr_sink_rate_connector`. Called by the front ends before they look a connector up.
 *
 * Thread: any; the first caller does the work, others wait for it.
 */
#include "plugins/plugins.h"

#include "duck/duck.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <stdatomic.h>

/* Of src/formats: json, csv, text, raw. */
void mr_formats_register(void);

#define MR_SOURCE_PLUGIN(name) extern const struct mr_source_connector mr_source_##name##_connector;
#define MR_SINK_PLUGIN(name) extern const struct mr_sink_connector mr_sink_##name##_connector;
#include "mr_plugins.inc"
#undef MR_SOURCE_PLUGIN
#undef MR_SINK_PLUGIN

enum { REGISTER_NEVER, REGISTER_RUNNING, REGISTER_DONE };

static _Atomic int progress = REGISTER_NEVER;

void mr_plugins_register(void)
{
    int expected = REGISTER_NEVER;

    if (!atomic_compare_exchange_strong(&progress, &expected, REGISTER_RUNNING)) {
        while (atomic_load(&progress) != REGISTER_DONE)
            ; /* a few hundred nanoseconds, once in a process */
        return;
    }
    mr_formats_register();
    mr_duck_register_parquet();
#define MR_SOURCE_PLUGIN(name) mr_source_register(&mr_source_##name##_connector);
#define MR_SINK_PLUGIN(name) mr_sink_register(&mr_sink_##name##_connector);
#include "mr_plugins.inc"
#undef MR_SOURCE_PLUGIN
#undef MR_SINK_PLUGIN
    atomic_store(&progress, REGISTER_DONE);
}
