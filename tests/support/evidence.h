/*
 * Figures for docs/evidence.md, from a test program.
 *
 *     evidence_add("simulation", "runs", seeds);
 *     evidence_text("simulation", "seeds", "1-2000");
 *
 * Where MILLRACE_EVIDENCE names a directory (make evidence), each call appends a line
 * "suite TAB figure TAB value" to DIRECTORY/suite.tsv; otherwise nothing happens. tools/evidence
 * adds the numbers up per suite and figure (several programs and several calls may feed one figure;
 * a figure whose name ends in "_max" keeps the largest) and joins the distinct texts. Thread: any.
 */
#ifndef MR_TESTS_SUPPORT_EVIDENCE_H
#define MR_TESTS_SUPPORT_EVIDENCE_H

#include <stdint.h>

/* suite and figure: lower case, digits, '-' and '_'. */
void evidence_add(const char *suite, const char *figure, uint64_t value);
void evidence_text(const char *suite, const char *figure, const char *text);

#endif
