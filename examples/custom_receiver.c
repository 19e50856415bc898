/*
 * Counts words that a receiver of the program's own takes in: custom_receiver HOST PORT
 *
 * The guide's CustomReceiver: on_start starts a thread that connects, reads lines and stores them;
 * when the connection ends or fails, it asks for a restart.
 */
#include <millrace/dstream.h>
#include <millrace/receiver.h>

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *host, *port;
static pthread_t thread;
static int peer; /* its socket */

static int dial(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
    int fd;

    if (getaddrinfo(host, port, &hints, &address) != 0)
        return -1;
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(address);
    return fd;
}

static void *receive(void *receiver)
{
    FILE *lines = fdopen(dup(peer), "r");
    char *line = NULL;
    size_t size = 0;
    ssize_t length;

    while (lines != NULL && (length = getline(&line, &size, lines)) > 0) {
        length -= line[length - 1] == '\n';
        if (mr_receiver_put_str(receiver, line, (size_t)length, NULL) != MR_OK)
            break;
    }
    free(line);
    if (lines != NULL)
        fclose(lines);
    mr_receiver_restart(receiver, "trying to connect again", -1);
    return NULL;
}

static enum mr_status start(struct mr_receiver_handle *receiver, void *arg, struct mr_error *err)
{
    (void)arg;
    peer = dial();
    if (peer < 0 || pthread_create(&thread, NULL, receive, receiver) != 0)
        return MR_FAIL(err, MR_UNAVAILABLE, "cannot connect to '%s'", host);
    return MR_OK;
}

static void stop(struct mr_receiver_handle *receiver, void *arg)
{
    (void)receiver;
    (void)arg;
    shutdown(peer, SHUT_RDWR); /* ends the read */
    pthread_join(thread, NULL);
    close(peer);
}

int main(int argc, char **argv)
{
    struct mr_receiver_spec spec = {"CustomReceiver", "value VARCHAR", start, stop, NULL};

    if (argc != 3) {
        fprintf(stderr, "usage: custom_receiver HOST PORT\n");
        return 64;
    }
    host = argv[1];
    port = argv[2];
    struct mr_context *ctx = mr_context_new("custom-receiver", MR_SECONDS(1));
    struct mr_dstream *words = mr_flat_map(mr_receiver_stream(ctx, &spec), MR_WORDS);

    mr_print(mr_reduce_by_key(mr_map_to_pair(words, MR_COUNT), MR_SUM), 10);
    return mr_context_main(ctx);
}
