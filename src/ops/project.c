/*
 * project: some columns of the input under new names.  Nothing is copied.
 *
 * Called by the front ends (mr_op_project), then by tasks. Threads: any, the operator is read-only.
 */
#include "ops/ops.h"

#include "base/alloc.h"

#include <string.h>

struct project {
    struct mr_schema *schema;
    uint32_t *columns;
};

static enum mr_status project_apply(void *op, void *task, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    struct project *project = op;
    struct mr_batch *selected = NULL;

    (void)task;
    (void)info;
    MR_TRY(mr_batch_select(batch, project->schema, project->columns, &selected, err));
    enum mr_status status = mr_output_emit(out, selected, err);
    mr_batch_unref(selected);
    return status;
}

static void project_free(void *op)
{
    struct project *project = op;

    if (project == NULL)
        return;
    mr_schema_unref(project->schema);
    mr_free(project->columns);
    mr_free(project);
}

static const struct mr_map_ops project_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "project",
    .apply = project_apply,
    .free = project_free,
};

static enum mr_status project_schema(const struct mr_schema *input, const uint32_t *columns,
                                     const char *const *names, uint32_t count,
                                     struct mr_schema **ret_schema, struct mr_error *err)
{
    struct mr_field *fields = mr_alloc_zero(NULL, (count + 1) * sizeof(*fields));
    enum mr_status status = MR_OK;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a projection: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        if (columns[i] >= mr_schema_field_count(input)) {
            status = MR_FAIL(err, MR_CONFIG, "cannot project column %u: the input has %u",
                             columns[i], mr_schema_field_count(input));
            goto done;
        }
        fields[i].name = names[i];
        fields[i].type = mr_schema_field(input, columns[i])->type;
    }
    status = mr_schema_new(fields, count, ret_schema, err);
done:
    mr_free(fields);
    return status;
}

enum mr_status mr_op_project(const struct mr_schema *input, const uint32_t *columns,
                             const char *const *names, uint32_t count, struct mr_map_op *ret_op,
                             struct mr_error *err)
{
    struct project *project = mr_alloc_zero(NULL, sizeof(*project));
    enum mr_status status;

    if (project == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a projection: out of memory");
    MR_TRY_GOTO(project_schema(input, columns, names, count, &project->schema, err));
    project->columns = mr_alloc(NULL, count * sizeof(*columns));
    if (project->columns == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make a projection: out of memory");
        goto done;
    }
    if (count > 0)
        memcpy(project->columns, columns, count * sizeof(*columns));
    *ret_op = (struct mr_map_op){&project_ops, project, mr_schema_ref(project->schema)};
    project = NULL;
done:
    project_free(project);
    return status;
}
