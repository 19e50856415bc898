/*
 * See canary.h.
 */
#include "sim/canary.h"

#include "base/check.h"
#include "base/mutant.h"
#include "sim/run.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef MILLRACE_MUTANTS

enum { HANG_S = 60 };

struct canary {
    const char *mutant;
    const char *what;
    uint64_t seed; /* that found it: "make sim CANARY=1" prints the first one that does */
};

static const struct canary canaries[] = {
    {"durable.appender-sync.sync", "a log's flush does nothing", 4},
    {"query.turn.sync-plan", "a batch runs before its plan is durable", 1},
    {"query.run-planned.sync-commit", "a batch counts as done before its commit is durable", 2},
    {"file-sink.show-parts.sync-dir", "files are shown without flushing their directory", 38},
    {"durable.staged-seal.sync", "staged files are not flushed", 20},
    {"durable.create-with.sync", "a new segment's first bytes are not flushed", 39},
    {"batch.abort.state", "the state is not rolled back when a batch fails", 2},
    {"batch.commit.remember", "what a source has seen is not kept", 12},
    {"block-log.put.wait", "a block is acknowledged before it is durable", 6},
    {"block-files.write.sync", "received blocks are not flushed", 15},
    {"batch-log.purge.needed", "segments of the log go that are still needed", 14},
    {"state.purge.needed", "files of the state go that are still needed", 14},
    {"watermark.advance.delay", "the watermark forgets its delay", 12},
    {"watermark.next.min", "the watermark follows the fastest source", 44},
    {"kafka-reader.step.before", "what a Kafka reader looks back at is read again", 2},
    {"kafka-source.ids.changed", "a topic that was made again is read on", 72},
    {"file-source.seen.store", "files that were read long ago are forgotten", 12},
};

size_t canary_count(void)
{
    return MR_ARRAY_SIZE(canaries);
}

const char *canary_name(size_t index)
{
    return canaries[index].mutant;
}

const char *canary_what(size_t index)
{
    return canaries[index].what;
}

uint64_t canary_seed(size_t index)
{
    return canaries[index].seed;
}

/* The child: one line "seeds text" when it finds the bug. */
static void look(const char *mutant, uint64_t first, uint64_t seeds_max, int to)
{
    struct run_result result;
    char line[2600];

    mr_mutant_choose(mutant);
    for (uint64_t i = 0; i < seeds_max; i++) {
        alarm(HANG_S);
        MR_ASSERT(write(to, ".", 1) == 1);
        run_seed(first + i, NULL, &result);
        if (result.anomaly[0] != '\0') {
            int size = snprintf(line, sizeof(line), "!%.300s", result.anomaly);

            MR_ASSERT(write(to, line, (size_t)size) == size);
            _exit(0);
        }
    }
    if (mr_mutant_hits() == 0)
        _exit(3);
    _exit(1);
}

uint64_t canary_find(size_t index, uint64_t first, uint64_t seeds_max, char *text, size_t size)
{
    int ends[2];
    pid_t child;
    uint64_t seeds = 0;
    size_t used = 0;
    int status = 0;
    bool said = false;
    char byte;

    fflush(NULL);
    MR_ASSERT(pipe(ends) == 0);
    child = fork();
    MR_ASSERT(child >= 0);
    if (child == 0) {
        close(ends[0]);
        if (freopen("/dev/null", "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
            _exit(2);
        look(canaries[index].mutant, first, seeds_max, ends[1]);
    }
    close(ends[1]);
    while (read(ends[0], &byte, 1) == 1) {
        if (!said && byte == '.')
            seeds++;
        else if (!said && byte == '!')
            said = true;
        else if (said && used + 1 < size)
            text[used++] = byte;
    }
    text[used] = '\0';
    close(ends[0]);
    MR_ASSERT(waitpid(child, &status, 0) == child);
    if (said)
        return seeds;
    snprintf(text, size, "%s",
             WIFEXITED(status) && WEXITSTATUS(status) == 3 ? "no seed came to the place"
                                                           : "every seed gave what it should");
    if (WIFSIGNALED(status) ||
        (WIFEXITED(status) && WEXITSTATUS(status) != 1 && WEXITSTATUS(status) != 3)) {
        snprintf(text, size, "the process ended with %s %d",
                 WIFSIGNALED(status) ? "signal" : "code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        return seeds;
    }
    return 0;
}

#else

size_t canary_count(void)
{
    return 0;
}

const char *canary_name(size_t index)
{
    MR_UNUSED(index);
    return "";
}

const char *canary_what(size_t index)
{
    MR_UNUSED(index);
    return "";
}

uint64_t canary_seed(size_t index)
{
    MR_UNUSED(index);
    return 0;
}

uint64_t canary_find(size_t index, uint64_t first, uint64_t seeds_max, char *text, size_t size)
{
    MR_UNUSED(index);
    MR_UNUSED(first);
    MR_UNUSED(seeds_max);
    MR_UNUSED(text);
    MR_UNUSED(size);
    return 0;
}

#endif
