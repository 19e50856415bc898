/*
 * State of functions with state of a key as rows (state/view.h), for `millrace state`.
 */
#ifndef MR_STREAMS_VIEWS_H
#define MR_STREAMS_VIEWS_H

/* Makes their views known; more than once is fine. */
void mr_streams_register_views(void);

#endif
