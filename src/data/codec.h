/*
 * Columns with a codec of the program (<millrace/codec.h>), for those who print and order values.
 * Thread: any.
 */
#ifndef MR_DATA_CODEC_H
#define MR_DATA_CODEC_H

#include <millrace/batch.h>

/* The same but for codecs: the bytes of one can be taken for the other. */
bool mr__type_stored_alike(const struct mr_type *a, const struct mr_type *b);
/* mr_type_print for SQL, which knows no codecs: BLOB. */
size_t mr__type_print_sql(const struct mr_type *type, char *text, size_t size);
/* The name of a registered codec of that spelling (any case of letters matters), or NULL. */
const char *mr__codec_name(const char *name, size_t name_bytes);
/* As the codec orders them; by bytes when it does not, or when bytes are no objects. Of two values
 * that are not null. */
int mr__object_compare(const struct mr_type *type, struct mr_slice a, struct mr_slice b);
/* Text form of an object, like snprintf. False: there is no codec here that prints it. */
bool mr__object_print(const struct mr_type *type, struct mr_slice bytes, char *text, size_t size,
                      size_t *ret_need);

#endif
