/*
 * A TCP server that sends one file to the first who connects, as fast as it is taken:
 *
 *     send_file FILE
 *
 * Prints its port, serves, and waits until the other side has closed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int serve(int peer, int file, off_t size)
{
    char byte;

    for (off_t at = 0; at < size;) {
        if (sendfile(peer, file, &at, (size_t)(size - at)) <= 0)
            return fail("sendfile");
    }
    shutdown(peer, SHUT_WR);
    while (read(peer, &byte, 1) > 0)
        continue;
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    struct stat info;
    int file = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;

    if (file < 0 || fstat(file, &info) != 0)
        return fail("send_file FILE");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(server, (struct sockaddr *)&address, length) != 0 || listen(server, 1) != 0 ||
        getsockname(server, (struct sockaddr *)&address, &length) != 0)
        return fail("listen");
    printf("%d\n", (int)ntohs(address.sin_port));
    fflush(stdout);
    peer = accept(server, NULL, NULL);
    return peer < 0 ? fail("accept") : serve(peer, file, info.st_size);
}
