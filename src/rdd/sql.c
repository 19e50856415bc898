/*
 * Views: datasets as tables for SQL (features D18).
 *
 * Thread: any; views are guarded by the session's lock.
 */
#include "rdd/rdd.h"

void mr__views_release(struct mr_session *session)
{
    for (size_t i = 0; i < session->view_count; i++) {
        mr_free(session->views[i]->name);
        mr_schema_unref(session->views[i]->schema);
        mr__batches_release(&session->views[i]->rows);
        mr_free(session->views[i]);
    }
    mr_free(session->views);
    session->views = NULL;
    session->view_count = 0;
}
