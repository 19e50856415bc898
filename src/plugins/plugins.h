/*
 * All connectors and formats that are part of this build.
 */
#ifndef MR_PLUGINS_PLUGINS_H
#define MR_PLUGINS_PLUGINS_H

/*
 * Registers every format (json, csv, text, raw, parquet) and every folder of src/sources and
 * src/sinks that was built. May be called any number of times, from any thread; returns when
 * everything is registered.
 */
void mr_plugins_register(void);

#endif
