/*
 * See host_list.h. Called by connectors whose peers name further hosts to connect to: what a peer
 * says must not make us a client of whatever it likes.
 *
 * An address that an IPv4 host has in IPv6 (::ffff:10.1.2.3) counts as the IPv4 address.
 *
 * Thread: any.
 */
#include "base/host_list.h"

#include "base/alloc.h"
#include "base/number_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>

enum { ENTRY_BYTES_MAX = 260 };

struct entry {
    char name[ENTRY_BYTES_MAX]; /* "" = a network */
    unsigned char address[16];
    size_t size_bytes; /* 4, 16 */
    unsigned bits;
};

struct mr_host_list {
    struct entry *entries;
    size_t count;
};

void mr_host_list_free(struct mr_host_list *list)
{
    if (list == NULL)
        return;
    mr_free(list->entries);
    mr_free(list);
}

/* "10.1.0.0/16", "fd00::1"; false: a name. */
static bool parse_network(const char *text, struct entry *entry, bool *ret_valid)
{
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char address[ENTRY_BYTES_MAX];
    int64_t bits;

    memcpy(address, text, size);
    address[size] = '\0';
    if (inet_pton(AF_INET, address, entry->address) == 1)
        entry->size_bytes = 4;
    else if (inet_pton(AF_INET6, address, entry->address) == 1)
        entry->size_bytes = 16;
    *ret_valid = entry->size_bytes > 0 || slash == NULL;
    if (entry->size_bytes == 0)
        return slash != NULL;
    bits = (int64_t)entry->size_bytes * 8;
    if (slash != NULL)
        *ret_valid = mr_int_parse(slash + 1, strlen(slash + 1), &bits) && bits >= 0 &&
                     bits <= (int64_t)entry->size_bytes * 8;
    entry->bits = *ret_valid ? (unsigned)bits : 0;
    return true;
}

static bool is_name(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

    if (strncmp(text, "*.", 2) == 0)
        text += 2;
    return text[0] != '\0' && text[0] != '.' && strspn(text, allowed) == strlen(text);
}

static enum mr_status add_entry(struct mr_host_list *list, const char *text, size_t size_bytes,
                                struct mr_error *err)
{
    struct entry entry = {.size_bytes = 0};
    char word[ENTRY_BYTES_MAX] = "";
    struct entry *entries;
    bool is_valid = size_bytes < sizeof(word) && size_bytes > 0;

    if (is_valid) {
        memcpy(word, text, size_bytes);
        if (!parse_network(word, &entry, &is_valid)) {
            memcpy(entry.name, word, size_bytes + 1);
            is_valid = is_name(word);
        }
    }
    if (!is_valid)
        return MR_FAIL(err, MR_CONFIG,
                       "'%.*s' is no host: expected a name, *.name, an address or a network like "
                       "10.1.0.0/16",
                       (int)(size_bytes < 60 ? size_bytes : 60), text);
    entries = mr_realloc(NULL, list->entries, (list->count + 1) * sizeof(*entries));
    if (entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a list of hosts: out of memory");
    list->entries = entries;
    list->entries[list->count++] = entry;
    return MR_OK;
}

enum mr_status mr_host_list_parse(const char *text, struct mr_host_list **ret_list,
                                  struct mr_error *err)
{
    struct mr_host_list *list = mr_alloc_zero(NULL, sizeof(*list));
    enum mr_status status = MR_OK;

    if (list == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a list of hosts: out of memory");
    for (const char *at = text;; at++) {
        size_t size = strcspn(at, ",");
        const char *next = at + size;

        while (size > 0 && (*at == ' ' || *at == '\t')) {
            at++;
            size--;
        }
        while (size > 0 && (at[size - 1] == ' ' || at[size - 1] == '\t'))
            size--;
        MR_TRY_GOTO(add_entry(list, at, size, err));
        at = next;
        if (*at == '\0')
            break;
    }
    *ret_list = list;
    list = NULL;
done:
    mr_host_list_free(list);
    return status;
}

static bool matches(const char *pattern, const char *host, size_t size)
{
    size_t length = strlen(pattern);

    if (strncmp(pattern, "*.", 2) != 0)
        return length == size && strncasecmp(pattern, host, size) == 0;
    pattern++; /* ".name" */
    length--;
    return size > length && strncasecmp(host + size - length, pattern, length) == 0;
}

bool mr_host_list_has_name(const struct mr_host_list *list, const char *host)
{
    size_t size = strlen(host);

    if (size > 0 && host[size - 1] == '.') /* the root's */
        size--;
    for (size_t i = 0; i < list->count; i++) {
        if (list->entries[i].name[0] != '\0' && matches(list->entries[i].name, host, size))
            return true;
    }
    return false;
}

static bool has_prefix(const unsigned char *address, const unsigned char *network, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(address, network, whole) == 0 &&
           (rest == 0 || (address[whole] ^ network[whole]) >> (8 - rest) == 0);
}

bool mr_host_list_has_address(const struct mr_host_list *list, const void *address,
                              size_t size_bytes)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    const unsigned char *bytes = address;

    if (size_bytes == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        bytes += sizeof(mapped);
        size_bytes = 4;
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct entry *entry = &list->entries[i];

        if (entry->name[0] == '\0' && entry->size_bytes == size_bytes &&
            has_prefix(bytes, entry->address, entry->bits))
            return true;
    }
    return false;
}

static bool has_all(const struct mr_host_list *list, const struct addrinfo *addresses)
{
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
        struct sockaddr_in four;
        struct sockaddr_in6 six;

        if (at->ai_family == AF_INET) {
            memcpy(&four, at->ai_addr, sizeof(four));
            if (!mr_host_list_has_address(list, &four.sin_addr, 4))
                return false;
        } else if (at->ai_family == AF_INET6) {
            memcpy(&six, at->ai_addr, sizeof(six));
            if (!mr_host_list_has_address(list, &six.sin6_addr, 16))
                return false;
        } else {
            return false;
        }
    }
    return true;
}

int mr_host_list_resolve(const struct mr_host_list *list, const char *host, const char *service,
                         const struct addrinfo *hints, struct addrinfo **ret_addresses,
                         bool *ret_refused)
{
    bool any_network = false;
    int failed;

    *ret_refused = false;
    for (size_t i = 0; i < list->count; i++)
        any_network = any_network || list->entries[i].name[0] == '\0';
    if (!mr_host_list_has_name(list, host) && !any_network) { /* nobody is asked about it */
        *ret_refused = true;
        errno = EACCES;
        return EAI_SYSTEM;
    }
    failed = getaddrinfo(host, service, hints, ret_addresses);
    if (failed != 0 || mr_host_list_has_name(list, host) || has_all(list, *ret_addresses))
        return failed;
    freeaddrinfo(*ret_addresses);
    *ret_refused = true;
    errno = EACCES;
    return EAI_SYSTEM;
}

void mr_host_list_free_addresses(struct addrinfo *addresses)
{
    freeaddrinfo(addresses);
}
