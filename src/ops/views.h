/*
 * State of native operators as rows (state/view.h).
 */
#ifndef MR_OPS_VIEWS_H
#define MR_OPS_VIEWS_H

/* Makes their views known; more than once is fine. */
void mr_ops_register_views(void);

#endif
