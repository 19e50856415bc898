/*
 * A secret: bytes that cannot be printed by mistake.
 *
 * Its type is opaque, so no format takes it, and nothing in millrace writes one into a log line, an
 * error, a progress document, a metric or a checkpoint: the one way to its bytes is
 * mr_secret_reveal, which tools/tidy allows in the few places that hand them to a library. It is
 * wiped before its memory is given back (faults.md J4, L12).
 *
 * Thread: any; a secret does not change.
 */
#ifndef MILLRACE_EXT_SECRET_H
#define MILLRACE_EXT_SECRET_H

#include <millrace/error.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_secret;

/* Copies the bytes; the caller wipes its own. NULL without memory. */
MR_API struct mr_secret *mr_secret_new(const char *text, size_t size_bytes);
/*
 * As people write them: "file:PATH" stands for the file's bytes without one newline at the end
 * (links are followed: container platforms mount secrets as links), anything else for itself. what
 * begins error texts: "connector 'kafka': option 'kafka.sasl.password'". MR_CONFIG when the file
 * cannot be read, is over 64 KiB or has a NUL byte. Returns new.
 */
MR_API enum mr_status mr_secret_resolve(const char *what, const char *text,
                                        struct mr_secret **ret_secret, struct mr_error *err);
MR_API void mr_secret_free(struct mr_secret *secret); /* NULL allowed */

/* The bytes, ended by a NUL; borrowed. Never for anything that is shown or kept. */
MR_API const char *mr_secret_reveal(const struct mr_secret *secret);

#ifdef __cplusplus
}
#endif
#endif
