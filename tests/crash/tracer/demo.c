/*
 * killpoint_demo: a small exactly-once program, and broken copies of it, on which the kill harness
 * proves itself.
 *
 *   killpoint_demo DIR [--threads N] [--broken KIND]
 *
 * Called by tests/crash/scenarios/demo.py. Reads DIR/input.txt in batches of lines and writes each
 * line, in upper case, to a part file; ends when all lines are done. Layout:
 *
 *   DIR/ckpt/epoch       number of starts; batch sizes depend on it, so a forgotten plan shows
 *   DIR/ckpt/plan-N      "first end": the lines of batch N          removed after commit-N+1
 *   DIR/ckpt/commit-N    "end": batch N is done                     removed after commit-N+1
 *   DIR/out/part-N-P     output of batch N, partition P; once there it is never written again
 *
 * Order of a batch: plan -> parts (one thread each) -> commit -> remove the older records. Every
 * file is put as temp, write, fsync, rename, fsync of the directory. Restart: remove temps, count
 * the epoch, find the newest commit, run the plan behind it again if there is one.
 *
 * Broken kinds, and what a kill shows:
 *   in-place       parts are written under their final name           lost lines
 *   commit-first   the commit is put before the parts                 lost lines
 *   no-plan        the plan is not put                                lost or double lines
 *   append         parts are appended to one file                     double lines
 *   unjoined       the commit does not wait for the last thread       lost lines
 *   recovery       a restart removes the plan and puts it again       only a second kill shows it
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX 1000
#define LINE_MAX_BYTES 80
#define THREADS_MAX 8
#define PART_MAX (LINES_MAX * LINE_MAX_BYTES)

enum broken { OK, IN_PLACE, COMMIT_FIRST, NO_PLAN, APPEND, UNJOINED, RECOVERY };

static const char *const broken_names[] = {"none",   "in-place", "commit-first", "no-plan",
                                           "append", "unjoined", "recovery"};

struct batch {
    int number;
    int first;
    int end;
};

struct worker {
    pthread_t thread;
    const struct batch *batch;
    int partition;
};

static enum broken broken;
static int thread_count = 1;
static int out_fd; /* the two directories */
static int ckpt_fd;
static char lines[LINES_MAX][LINE_MAX_BYTES];
static int line_count;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("killpoint_demo: ", stderr);
    vfprintf(stderr, format, args);
    fprintf(stderr, ": %s\n", strerror(errno));
    va_end(args);
    exit(74);
}

static void write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = write(fd, bytes, length);

        if (done < 0 && errno != EINTR)
            die("cannot write");
        if (done > 0) {
            bytes += done;
            length -= (size_t)done;
        }
    }
}

static void put_file(int dir_fd, const char *name, const char *bytes, size_t length)
{
    char temp[64];
    int fd;

    snprintf(temp, sizeof(temp), "%s.tmp", name);
    fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die("cannot create '%s'", temp);
    write_all(fd, bytes, length);
    if (fsync(fd) != 0 || close(fd) != 0)
        die("cannot flush '%s'", temp);
    if (renameat(dir_fd, temp, dir_fd, name) != 0 || fsync(dir_fd) != 0)
        die("cannot rename '%s'", temp);
}

/* Reads up to two numbers; returns how many, 0 when the file is not there. */
static int get_numbers(const char *name, int *first, int *second)
{
    char text[64] = "";
    char *end, *last;
    int fd = openat(ckpt_fd, name, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) < 0)
        die("cannot read '%s'", name);
    close(fd);
    *first = (int)strtol(text, &end, 10);
    if (end == text)
        return 0;
    *second = (int)strtol(end, &last, 10);
    return last == end ? 1 : 2;
}

static void put_numbers(const char *name, int first, int second)
{
    char text[64];

    snprintf(text, sizeof(text), "%d %d\n", first, second);
    put_file(ckpt_fd, name, text, strlen(text));
}

static void write_direct(const char *name, int flags, const char *bytes, size_t length)
{
    int fd = openat(out_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

    if (fd < 0)
        die("cannot create '%s'", name);
    write_all(fd, bytes, length);
    if (fsync(fd) != 0 || close(fd) != 0)
        die("cannot flush '%s'", name);
}

/* Thread: worker. Writes the lines of one partition of a batch, once. */
static void *write_part(void *arg)
{
    const struct worker *worker = arg;
    const struct batch *batch = worker->batch;
    char name[32];
    char *text = calloc(1, PART_MAX);
    size_t length = 0;
    bool there; /* the sink knows (batch, partition): a repeat does nothing */

    if (text == NULL)
        die("cannot allocate");
    if (broken == UNJOINED && worker->partition == thread_count - 1)
        usleep(2000);
    snprintf(name, sizeof(name), "part-%d-%d", batch->number, worker->partition);
    for (int i = batch->first; i < batch->end; i++) {
        if (i % thread_count != worker->partition)
            continue;
        for (const char *c = lines[i]; *c != '\0'; c++)
            text[length++] = (char)toupper((unsigned char)*c);
    }
    there = faccessat(out_fd, name, F_OK, 0) == 0;
    if (broken == APPEND)
        write_direct("part-all", O_APPEND, text, length);
    else if (!there && broken == IN_PLACE)
        write_direct(name, O_TRUNC, text, length);
    else if (!there)
        put_file(out_fd, name, text, length);
    free(text);
    return NULL;
}

static void remove_record(const char *kind, int number)
{
    char name[32];

    snprintf(name, sizeof(name), "%s-%d", kind, number);
    if (unlinkat(ckpt_fd, name, 0) != 0 && errno != ENOENT)
        die("cannot remove '%s'", name);
}

static void run_batch(const struct batch *batch)
{
    struct worker workers[THREADS_MAX];
    char commit[32];
    int waited = broken == UNJOINED ? thread_count - 1 : thread_count;

    snprintf(commit, sizeof(commit), "commit-%d", batch->number);
    if (broken == COMMIT_FIRST)
        put_numbers(commit, batch->end, 0);
    for (int i = 0; i < thread_count; i++) {
        workers[i].batch = batch;
        workers[i].partition = i;
        if (pthread_create(&workers[i].thread, NULL, write_part, &workers[i]) != 0)
            die("cannot start a thread");
    }
    for (int i = 0; i < waited; i++)
        pthread_join(workers[i].thread, NULL);
    if (broken != COMMIT_FIRST)
        put_numbers(commit, batch->end, 0);
    for (int i = waited; i < thread_count; i++)
        pthread_join(workers[i].thread, NULL);
    remove_record("commit", batch->number - 1);
    remove_record("plan", batch->number - 1);
}

/* Leaves the range of the batch in `batch`: the one on record, or a new one put on record. */
static void plan_batch(struct batch *batch, int epoch, bool first_after_start)
{
    char plan[32];
    int size = 3 + epoch % 3;

    snprintf(plan, sizeof(plan), "plan-%d", batch->number);
    if (get_numbers(plan, &batch->first, &batch->end) == 2) {
        if (broken == RECOVERY && first_after_start) {
            remove_record("plan", batch->number);
            put_numbers(plan, batch->first, batch->end);
        }
        return;
    }
    batch->end = batch->first + size < line_count ? batch->first + size : line_count;
    if (broken != NO_PLAN)
        put_numbers(plan, batch->first, batch->end);
}

/* Removes temps and returns the number of the newest commit, -1 when there is none. */
static int sweep(int dir_fd)
{
    DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;
    int newest = -1;

    if (dir == NULL)
        die("cannot list a directory");
    while ((entry = readdir(dir)) != NULL) {
        int number = -1;

        if (strstr(entry->d_name, ".tmp") != NULL)
            (void)unlinkat(dir_fd, entry->d_name, 0);
        else if (strncmp(entry->d_name, "commit-", 7) == 0)
            number = (int)strtol(entry->d_name + 7, NULL, 10);
        if (number > newest)
            newest = number;
    }
    closedir(dir);
    return newest;
}

static int open_dir(const char *root, const char *name)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        die("cannot make '%s'", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        die("cannot open '%s'", path);
    return fd;
}

static void read_input(const char *root)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/input.txt", root);
    file = fopen(path, "re");
    if (file == NULL)
        die("cannot open '%s'", path);
    while (line_count < LINES_MAX && fgets(lines[line_count], LINE_MAX_BYTES, file) != NULL)
        line_count++;
    fclose(file);
}

static void run_all(void)
{
    struct batch batch = {0};
    char name[32];
    int epoch = 0;
    int ignored = 0;
    bool first = true;

    sweep(out_fd);
    batch.number = sweep(ckpt_fd);
    (void)get_numbers("epoch", &epoch, &ignored);
    put_numbers("epoch", ++epoch, 0);
    snprintf(name, sizeof(name), "commit-%d", batch.number);
    if (batch.number >= 0 && get_numbers(name, &batch.first, &ignored) < 1)
        die("cannot read '%s'", name);
    while (batch.first < line_count) {
        batch.number++;
        plan_batch(&batch, epoch, first);
        run_batch(&batch);
        batch.first = batch.end;
        first = false;
    }
}

int main(int argc, char **argv)
{
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            thread_count = (int)strtol(argv[i + 1], NULL, 10);
        for (int kind = 0; strcmp(argv[i], "--broken") == 0 && kind <= RECOVERY; kind++) {
            if (strcmp(argv[i + 1], broken_names[kind]) == 0)
                broken = (enum broken)kind;
        }
    }
    if (argc < 2 || thread_count < 1 || thread_count > THREADS_MAX) {
        fprintf(stderr, "usage: killpoint_demo DIR [--threads N] [--broken KIND]\n");
        return 64;
    }
    read_input(argv[1]);
    out_fd = open_dir(argv[1], "out");
    ckpt_fd = open_dir(argv[1], "ckpt");
    run_all();
    return 0;
}
