/*
 * A list of hosts that may be connected to, as a setting has it:
 *
 *     kafka-1.example.com, *.internal.example.com, 10.1.0.0/16, 192.168.7.9, fd00::/8
 *
 * Names are compared without regard to case; "*." stands for one or more labels. Networks are
 * compared with addresses: of hosts that are named by one, and of those whose name is not listed,
 * once it was resolved.
 *
 * Thread: any; a list does not change.
 */
#ifndef MR_BASE_HOST_LIST_H
#define MR_BASE_HOST_LIST_H

#include <millrace/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrinfo;
struct mr_host_list;

/* Freed with mr_host_list_free. MR_CONFIG: an entry is none; the text begins with it. */
enum mr_status mr_host_list_parse(const char *text, struct mr_host_list **ret_list,
                                  struct mr_error *err);
void mr_host_list_free(struct mr_host_list *list);

/* Is the name (or the address, as text) listed? */
bool mr_host_list_has_name(const struct mr_host_list *list, const char *host);
/* Is the address in a listed network? size_bytes: 4 or 16. */
bool mr_host_list_has_address(const struct mr_host_list *list, const void *address,
                              size_t size_bytes);

/*
 * getaddrinfo for hosts that are listed: by their name, or all their addresses. Others: an error of
 * getaddrinfo's that means errno, EACCES, and *ret_refused.
 */
int mr_host_list_resolve(const struct mr_host_list *list, const char *host, const char *service,
                         const struct addrinfo *hints, struct addrinfo **ret_addresses,
                         bool *ret_refused);
void mr_host_list_free_addresses(struct addrinfo *addresses);

#endif
