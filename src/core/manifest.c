/*
 * The manifest: what a graph is, as text that a later version of the query can be compared with. It
 * is kept in the state (mr_state_manifest_set), so it is versioned with the batches.
 *
 *     format          1
 *     source NAME     {"connector", "receiver", "columns", "options": {given, without secrets}}
 *     operator NAME   {"kind", "meaning", "input", "origins", "stores": [names]}   folds with state
 *     sink NAME       {"connector", "format", "mode", "columns", "options"}
 *
 * input is what the rows go through on their way from sources and other folds: the meanings of the
 * map operators, and of the fold itself. origins are those sources and folds alone, a list for each
 * input: rows of others are not what the state was made of. Schemas of keys and values are with the
 * stores themselves (state/part_write.c).
 *
 * Called by open.c and evolution.c. Thread: driver.
 */
#include "core/manifest.h"

#include "base/json.h"
#include "base/mutant.h"

#include <string.h>

enum { INPUT_BYTES_MAX = 8000 };

static void add_options(struct mr_json_out *out, const struct mr_option *table, size_t count,
                        const struct mr_options *options)
{
    mr_json_begin_object(out, "options");
    for (size_t i = 0; i < count && options != NULL; i++) {
        if (table[i].type != MR_OPTION_SECRET && table[i].type != MR_OPTION_PREFIX &&
            table[i].type != MR_OPTION_SECRET_PREFIX && mr_options_has(options, table[i].name))
            mr_json_add_string(out, table[i].name, mr_options_text(options, table[i].name));
    }
    mr_json_end_object(out);
}

static void add_columns(struct mr_json_out *out, const struct mr_schema *schema)
{
    char *text = mr_schema_print(schema);

    mr_json_add_string(out, "columns", text);
    mr_text_free(text);
}

static void describe_source(struct mr_json_out *out, const struct mr_node *node)
{
    const struct mr_source_connector *connector = node->source->spec.connector;

    mr_json_add_string(out, "connector", connector->name);
    mr_json_add_bool(out, "receiver", connector->receiver_open != NULL);
    add_columns(out,
                node->source->spec.declared != NULL ? node->source->spec.declared : node->schema);
    add_options(out, connector->options, connector->option_count, node->source->spec.options);
}

static void describe_sink(struct mr_json_out *out, const struct mr_node *node)
{
    static const char *const modes[] = {"append", "update", "complete"};
    const struct mr_sink_connector *connector = node->sink->spec.connector;

    mr_json_add_string(out, "connector", connector->name);
    mr_json_add_string(out, "format",
                       node->sink->spec.format != NULL ? node->sink->spec.format->name : NULL);
    mr_json_add_string(out, "mode", modes[node->sink->spec.mode]);
    add_columns(out, node->schema);
    add_options(out, connector->options, connector->option_count, node->sink->spec.options);
}

/* What the rows of a node go through, from its sources on. */
static void describe_path(struct mr_buf *out, const struct mr_node *node)
{
    if (out->size > INPUT_BYTES_MAX)
        return;
    if (node->kind == MR_NODE_SOURCE || node->kind == MR_NODE_BAD || node->kind == MR_NODE_FOLD) {
        mr_buf_add_str(out, node->name);
        return;
    }
    if (node->input_count > 1)
        mr_buf_add_char(out, '(');
    for (size_t k = 0; k < node->input_count; k++) {
        if (k > 0)
            mr_buf_add_str(out, ", ");
        describe_path(out, node->inputs[k]);
    }
    if (node->input_count > 1)
        mr_buf_add_char(out, ')');
    if (node->meaning != NULL)
        mr_buf_printf(out, " | %s", node->meaning);
}

void mr__manifest_input(const struct mr_node *node, struct mr_buf *out)
{
    for (size_t k = 0; k < node->input_count; k++) {
        if (k > 0)
            mr_buf_add_str(out, ", ");
        describe_path(out, node->inputs[k]);
    }
    if (node->meaning != NULL)
        mr_buf_printf(out, " | %s", node->meaning);
}

static bool has_text(const char *const *texts, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(texts[i], text) == 0)
            return true;
    }
    return false;
}

/* Sources and folds that the rows of a node come from, each once; false: no more room. */
static bool collect_origins(const struct mr_node *node, const char **names, size_t *count)
{
    if (node->kind == MR_NODE_SOURCE || node->kind == MR_NODE_BAD || node->kind == MR_NODE_FOLD) {
        if (has_text(names, *count, node->name))
            return true;
        if (*count == MR_MANIFEST_ORIGINS_MAX)
            return false;
        names[(*count)++] = node->name;
        return true;
    }
    for (size_t k = 0; k < node->input_count; k++) {
        if (!collect_origins(node->inputs[k], names, count))
            return false;
    }
    return true;
}

bool mr__manifest_origins(const struct mr_node *node, size_t input, const char **names,
                          size_t *ret_count)
{
    *ret_count = 0;
    return collect_origins(node->inputs[input], names, ret_count);
}

static void describe_origins(struct mr_json_out *out, const struct mr_node *node)
{
    const char *names[MR_MANIFEST_ORIGINS_MAX];
    size_t count = 0;

    mr_json_begin_array(out, "origins");
    for (size_t k = 0; k < node->input_count; k++) {
        mr_json_begin_array(out, NULL);
        if (!mr__manifest_origins(node, k, names, &count))
            count = 0; /* too many to tell: an empty list is not compared */
        for (size_t i = 0; i < count; i++)
            mr_json_add_string(out, NULL, names[i]);
        mr_json_end_array(out);
    }
    mr_json_end_array(out);
}

/* Identities of the maps between a fold and the sources and folds before it. */
static void add_identities(const struct mr_node *node, struct mr_buf *out)
{
    for (size_t k = 0; k < node->input_count && out->size < INPUT_BYTES_MAX; k++) {
        if (node->inputs[k]->kind == MR_NODE_MAP)
            add_identities(node->inputs[k], out);
    }
    if (node->identity != NULL)
        mr_buf_printf(out, "%s%s", out->size > 0 ? ", " : "", node->identity);
}

void mr__manifest_identity(const struct mr_node *node, struct mr_buf *out)
{
    add_identities(node, out);
}

static void describe_operator(struct mr_json_out *out, const struct mr_node *node,
                              struct mr_state *state)
{
    struct mr_buf input = MR_BUF_INIT;
    struct mr_buf identity = MR_BUF_INIT;
    struct mr_store_info info;

    mr__manifest_input(node, &input);
    mr__manifest_identity(node, &identity);
    mr_json_add_string(out, "kind", node->fold->kind);
    mr_json_add_string(out, "meaning", identity.data != NULL ? identity.data : "");
    mr_json_add_string(out, "input", input.data);
    describe_origins(out, node);
    mr_json_begin_array(out, "stores");
    for (size_t i = 0; mr_state_info(state, i, &info); i++) {
        if (info.owner == node->name)
            mr_json_add_string(out, NULL, info.name);
    }
    mr_json_end_array(out);
    mr_buf_release(&identity);
    mr_buf_release(&input);
}

/* "operator out.agg", or NULL for a node that the manifest does not tell of. */
static char *key_of(const struct mr_node *node)
{
    if (node->kind == MR_NODE_SOURCE)
        return mr_asprintf(MR_MANIFEST_SOURCE "%s", node->name);
    if (node->kind == MR_NODE_SINK)
        return mr_asprintf(MR_MANIFEST_SINK "%s", node->name);
    return mr_asprintf(MR_MANIFEST_OPERATOR "%s", node->name);
}

char *mr__manifest_text(const struct mr_node *node, struct mr_state *state)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};

    mr_json_begin_object(&out, NULL);
    if (node->kind == MR_NODE_SOURCE)
        describe_source(&out, node);
    else if (node->kind == MR_NODE_SINK)
        describe_sink(&out, node);
    else
        describe_operator(&out, node, state);
    mr_json_end_object(&out);
    return mr_buf_take(&text);
}

bool mr__node_is_told(const struct mr_node *node)
{
    return node->kind == MR_NODE_SOURCE || node->kind == MR_NODE_SINK ||
           (node->kind == MR_NODE_FOLD && node->fold->open != NULL);
}

enum mr_status mr__manifest_write(const struct mr_graph *graph, struct mr_state *state,
                                  struct mr_error *err)
{
    struct mr_manifest_entry *entries =
        mr_alloc_zero(NULL, (graph->node_count + 1u) * sizeof(*entries));
    size_t count = 0;
    enum mr_status status = MR_OK;

    if (entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write the manifest: out of memory");
    for (uint32_t i = 0; i < graph->node_count && status == MR_OK; i++) {
        const struct mr_node *node = graph->nodes[i];

        if (!mr__node_is_told(node))
            continue;
        entries[count].key = key_of(node);
        entries[count].text = mr__manifest_text(node, state);
        if (entries[count].key == NULL || entries[count].text == NULL)
            status = MR_FAIL(err, MR_NOMEM, "cannot write the manifest: out of memory");
        count++;
    }
    entries[count] = (struct mr_manifest_entry){mr_strdup(MR_MANIFEST_FORMAT), mr_strdup("1")};
    if (entries[count].key == NULL || entries[count].text == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot write the manifest: out of memory");
    count++;
    if (status == MR_OK)
        status = mr_state_manifest_set(state, entries, count, err);
    for (size_t i = 0; i < count; i++) {
        mr_free((char *)entries[i].key);
        mr_free((char *)entries[i].text);
    }
    mr_free(entries);
    return status;
}

/* ---- Reading ---- */

struct reading {
    struct mr__manifest *manifest;
    struct mr_error *err;
    enum mr_status status;
};

static bool read_entry(const char *key, const char *text, void *arg)
{
    struct reading *reading = arg;
    struct mr_arena *arena = &reading->manifest->arena;
    struct mr_json *json = NULL;
    const char *copy;

    if (strcmp(key, MR_MANIFEST_FORMAT) == 0) {
        reading->manifest->is_there = true;
        if (strcmp(text, "1") != 0 && !MR_MUTANT("manifest.format.version"))
            reading->status = MR_FAIL(reading->err, MR_VERSION,
                                      "cannot read the manifest of the checkpoint: it has format "
                                      "'%.20s'; run a newer millrace",
                                      text);
        return reading->status == MR_OK;
    }
    copy = mr_arena_copy(arena, key, strlen(key));
    reading->status = mr_json_parse(text, strlen(text), arena, &json, reading->err);
    if (reading->status == MR_BAD_DATA)
        reading->status = reading->err->status = MR_CORRUPT;
    if (reading->status != MR_OK)
        return false;
    if (copy == NULL) {
        reading->status =
            MR_FAIL(reading->err, MR_NOMEM, "cannot read the manifest: out of memory");
        return false;
    }
    mr_json_put(arena, reading->manifest->entries, copy, json);
    return true;
}

enum mr_status mr__manifest_read(struct mr_state *state, struct mr__manifest *manifest,
                                 struct mr_error *err)
{
    struct mr_error own = {0};
    struct reading reading = {.manifest = manifest, .err = &own, .status = MR_OK};
    enum mr_status status;

    manifest->entries = mr_json_new_object(&manifest->arena);
    if (manifest->entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read the manifest: out of memory");
    status = mr_state_manifest_visit(state, read_entry, &reading, err);
    if (status == MR_OK && reading.status != MR_OK) {
        status = reading.status;
        if (err != NULL)
            *err = own;
    }
    return status;
}

const struct mr_json *mr__manifest_entry(const struct mr__manifest *manifest, const char *prefix,
                                         const char *name)
{
    size_t prefix_bytes = strlen(prefix);

    for (const struct mr_json *one = manifest->entries->first; one != NULL; one = one->next) {
        if (strncmp(one->key, prefix, prefix_bytes) == 0 &&
            strcmp(one->key + prefix_bytes, name) == 0)
            return one;
    }
    return NULL;
}

void mr__manifest_release(struct mr__manifest *manifest)
{
    mr_arena_release(&manifest->arena);
    *manifest = (struct mr__manifest){0};
}
