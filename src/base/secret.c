/*
 * Secrets: see <millrace/ext/secret.h>. Made by options.c.
 */
#include <millrace/ext/secret.h>

#include "base/alloc.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { SECRET_BYTES_MAX = MR_LIMIT_SECRET_FILE };

struct mr_secret {
    size_t size_bytes; /* without the NUL */
    char text[];
};

struct mr_secret *mr_secret_new(const char *text, size_t size_bytes)
{
    struct mr_secret *secret = mr_alloc(NULL, sizeof(*secret) + size_bytes + 1);

    if (secret == NULL)
        return NULL;
    secret->size_bytes = size_bytes;
    memcpy(secret->text, text, size_bytes);
    secret->text[size_bytes] = '\0';
    return secret;
}

void mr_secret_free(struct mr_secret *secret)
{
    if (secret != NULL)
        explicit_bzero(secret->text, secret->size_bytes);
    mr_free(secret);
}

const char *mr_secret_reveal(const struct mr_secret *secret)
{
    return secret->text;
}

static enum mr_status read_all(int fd, char *data, size_t capacity, size_t *ret_size)
{
    size_t size = 0;

    while (size < capacity) {
        ssize_t got = read(fd, data + size, capacity - size);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return MR_IO;
        if (got == 0)
            break;
        size += (size_t)got;
    }
    *ret_size = size;
    return MR_OK;
}

/* Into data, which has room for one byte more than a secret may have. */
static enum mr_status read_file(const char *what, const char *path, char *data, size_t *ret_size,
                                struct mr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum mr_status status = fd >= 0 ? read_all(fd, data, SECRET_BYTES_MAX + 1, ret_size) : MR_IO;
    int kept = errno;

    if (fd >= 0)
        close(fd);
    if (status != MR_OK)
        return MR_FAIL(err, MR_CONFIG, "%s: cannot read the secret from file '%s': %s", what, path,
                       strerror(kept));
    if (*ret_size > SECRET_BYTES_MAX)
        return MR_FAIL(err, MR_CONFIG, "%s: the secret in file '%s' is over %d bytes", what, path,
                       (int)SECRET_BYTES_MAX);
    if (memchr(data, '\0', *ret_size) != NULL)
        return MR_FAIL(err, MR_CONFIG, "%s: the secret in file '%s' has a NUL byte", what, path);
    return MR_OK;
}

static enum mr_status keep(const char *what, const char *text, size_t size,
                           struct mr_secret **ret_secret, struct mr_error *err)
{
    struct mr_secret *secret = mr_secret_new(text, size);

    if (secret == NULL)
        return MR_FAIL(err, MR_NOMEM, "%s: cannot keep the secret: out of memory", what);
    *ret_secret = secret;
    return MR_OK;
}

enum mr_status mr_secret_resolve(const char *what, const char *text, struct mr_secret **ret_secret,
                                 struct mr_error *err)
{
    static const char scheme[] = "file:";
    enum mr_status status;
    size_t size = 0;
    char *data;

    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0)
        return keep(what, text, strlen(text), ret_secret, err);
    data = mr_alloc(NULL, SECRET_BYTES_MAX + 1);
    if (data == NULL)
        return MR_FAIL(err, MR_NOMEM, "%s: cannot read the secret: out of memory", what);
    status = read_file(what, text + sizeof(scheme) - 1, data, &size, err);
    if (status == MR_OK)
        status =
            keep(what, data, size > 0 && data[size - 1] == '\n' ? size - 1 : size, ret_secret, err);
    explicit_bzero(data, SECRET_BYTES_MAX + 1);
    mr_free(data);
    return status;
}
